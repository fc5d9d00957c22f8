//! How long silence may last (RFC 4787 §4.3, RFC 5382 §5, RFC 7857 §2, RFC 5508 §3.2).
//!
//! Nobody waits for hours, or even for minutes: a flow is brought into the state in question, and the
//! translator is asked for how long it would remember it from now on. What it says can be held against
//! its deeds in one case, the shortest, by whoever has two minutes.

use std::time::Duration;

use heddle_wire::{Protocol, TcpFlags};

use super::super::connection::{Connection, FIN_ACK};
use super::super::heard::Heard;
use super::super::places::{Station, other_server, server};
use super::super::scene::{Scene, echo_kinds};
use super::super::verdict::{Outcome, Verdict, fail, pass_as, require};
use super::mapping::seen_from;

const MINUTE: Duration = Duration::from_secs(60);

/// What the asking itself may take, on a machine that has other things to do.
const ASKING: Duration = Duration::from_secs(5);

/// Long enough to tell one whole second from another.
const MOMENT: Duration = Duration::from_secs(2);

const PORT: u16 = 3_478;

/// Whether the translator says that it would remember a flow of host A for so long.
fn remembered(scene: &mut Scene<'_>, protocol: Protocol, port: u16, least: Duration) -> Outcome {
    match scene.remembers(protocol, port)? {
        None => Ok(Verdict::NotApplicable("it does not tell".to_owned())),
        Some(time) if time + ASKING >= least => pass_as(format!("says {} s", time.as_secs())),
        Some(time) => fail(format!(
            "says {} s, and {} s are asked for",
            time.as_secs(),
            least.as_secs()
        )),
    }
}

/// One datagram went out and nobody answered.
pub(super) fn udp(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let to = (server(scene.family), PORT);
    if seen_from(scene, Station::A, port, Protocol::UDP, to)?.is_none() {
        return fail("there is no mapping");
    }
    remembered(scene, Protocol::UDP, port, 2 * MINUTE)
}

/// The same by the clock.
pub(super) fn udp_slowly(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let far = server(scene.family);
    let Some(seen) = seen_from(scene, Station::A, port, Protocol::UDP, (far, PORT))? else {
        return fail("there is no mapping");
    };
    scene.pass(2 * MINUTE - MOMENT)?;
    scene.freshen()?;
    let heard = scene.send_in(far, Station::A, |packet| packet.udp(PORT, seen, b"late"))?;
    require(
        heard.as_ref().and_then(Heard::ports) == Some((PORT, port)),
        "an answer after two minutes is lost",
    )
}

/// An answer that filtering has refused is no sign of life (RFC 7857 §7).
pub(super) fn udp_refused(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let to = (server(scene.family), PORT);
    let Some(seen) = seen_from(scene, Station::A, port, Protocol::UDP, to)? else {
        return fail("there is no mapping");
    };
    let Some(before) = scene.remembers(Protocol::UDP, port)? else {
        return Ok(Verdict::NotApplicable("it does not tell".to_owned()));
    };
    scene.pass(MOMENT)?;
    let stranger = other_server(scene.family);
    let came = scene.send_in(stranger, Station::A, |packet| {
        packet.udp(PORT, seen, b"knock")
    })?;
    let after = scene.remembers(Protocol::UDP, port)?;
    if came.is_some() {
        return fail("nothing is refused");
    }
    require(
        after.is_some_and(|after| after < before),
        "a refused packet prolongs the mapping",
    )
}

pub(super) fn icmp(scene: &mut Scene<'_>) -> Outcome {
    let identifier = scene.port();
    let (request, _) = echo_kinds(scene.family);
    let word = u32::from(identifier) << 16 | 1;
    let far = server(scene.family);
    let heard = scene.send_out(Station::A, far, |packet| {
        packet.icmp(request, 0, word, b"echo")
    })?;
    if heard.is_none() {
        return fail("no request goes out");
    }
    let protocol = if far.is_ipv4() {
        Protocol::ICMP
    } else {
        Protocol::ICMPV6
    };
    remembered(scene, protocol, identifier, MINUTE)
}

pub(super) fn tcp_opening(scene: &mut Scene<'_>) -> Outcome {
    let mut connection = Connection::new(scene);
    if !connection.out(scene, TcpFlags::SYN, b"")? {
        return fail("a SYN does not go out");
    }
    remembered(scene, Protocol::TCP, connection.port, 4 * MINUTE)
}

pub(super) fn tcp_open(scene: &mut Scene<'_>) -> Outcome {
    let Some(connection) = Connection::open(scene)? else {
        return fail("no connection can be opened");
    };
    remembered(scene, Protocol::TCP, connection.port, 124 * MINUTE)
}

pub(super) fn tcp_half_closed(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail("no connection can be opened");
    };
    let passed = connection.out(scene, FIN_ACK, b"")?
        && connection.back(scene, TcpFlags::ACK, b"")?
        && connection.back(scene, TcpFlags::ACK, b"there is more to say")?;
    if !passed {
        return fail("a half-closed connection carries nothing");
    }
    remembered(scene, Protocol::TCP, connection.port, 4 * MINUTE)
}

/// The host ends the connection by an exact RST; late segments still find their mapping.
pub(super) fn tcp_reset(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail("no connection can be opened");
    };
    if !connection.out(scene, TcpFlags::RST, b"")? {
        return fail("a RST does not go out");
    }
    remembered(scene, Protocol::TCP, connection.port, 4 * MINUTE)
}
