//! Errors about what was translated (RFC 5508 §4, RFC 5927), and what they must not do.

use heddle_wire::builder::TcpHeader;
use heddle_wire::{Embedded, Family, TcpFlags, icmp};

use super::super::connection::Connection;
use super::super::heard::Heard;
use super::super::places::{Station, outside, router, server};
use super::super::scene::Scene;
use super::super::verdict::{Outcome, fail, require};
use crate::problem::Problem;

const PORT: u16 = 33_434;

/// Type and code of "port unreachable".
pub(super) fn port_unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (icmp::v4::DESTINATION_UNREACHABLE, 3),
        Family::V6 => (icmp::v6::DESTINATION_UNREACHABLE, 4),
    }
}

/// Type and code of "time exceeded in transit".
fn time_exceeded(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (icmp::v4::TIME_EXCEEDED, 0),
        Family::V6 => (icmp::v6::TIME_EXCEEDED, 0),
    }
}

/// A datagram of host A as it left, and the port it was sent from.
fn sent(scene: &mut Scene<'_>) -> Result<Option<(Heard, u16)>, Problem> {
    let port = scene.port();
    let far = server(scene.family);
    let heard = scene.send_out(Station::A, far, |packet| packet.udp(port, PORT, b"trace"))?;
    Ok(heard.map(|heard| (heard, port)))
}

/// Whether a message is this error about a datagram of host A.
fn is_about(scene: &Scene<'_>, heard: &Heard, kind: (u8, u8), port: u16) -> bool {
    let host = Station::A.address(scene.family);
    let far = server(scene.family);
    let names = |quote: Embedded| {
        (quote.source, quote.source_port) == (host, port)
            && (quote.destination, quote.destination_port) == (far, PORT)
    };
    heard
        .icmp()
        .is_some_and(|message| (message.kind, message.code) == kind)
        && heard.quote().is_some_and(names)
}

/// A router on the way says that the hop limit was used up: host A must learn which one, and about
/// what.
pub(super) fn inward(scene: &mut Scene<'_>) -> Outcome {
    let Some((left, port)) = sent(scene)? else {
        return fail("nothing goes out");
    };
    let kind = time_exceeded(scene.family);
    let from = router(scene.family);
    let heard = scene.send_in(from, Station::A, |packet| {
        packet.icmp_error(kind.0, kind.1, 0, &left.frame)
    })?;
    let Some(heard) = heard else {
        return fail("the error is lost");
    };
    require(
        is_about(scene, &heard, kind, port),
        "the error quotes a packet that the host did not send",
    )
}

/// Host A refuses an answer: the server must see the refusal come from the address it spoke to.
pub(super) fn outward(scene: &mut Scene<'_>) -> Outcome {
    let Some((left, _)) = sent(scene)? else {
        return fail("nothing goes out");
    };
    let (far, own) = (server(scene.family), outside(scene.family));
    let seen = left.ports().map_or(0, |(seen, _)| seen);
    let Some(answer) =
        scene.send_in(far, Station::A, |packet| packet.udp(PORT, seen, b"answer"))?
    else {
        return fail("the answer is lost");
    };
    let kind = port_unreachable(scene.family);
    let heard = scene.send_out(Station::A, far, |packet| {
        packet.icmp_error(kind.0, kind.1, 0, &answer.frame)
    })?;
    let names = |quote: Embedded| {
        (quote.source, quote.source_port) == (far, PORT)
            && (quote.destination, quote.destination_port) == (own, seen)
    };
    let is_right = heard.is_some_and(|heard| {
        heard
            .icmp()
            .is_some_and(|message| (message.kind, message.code) == kind)
            && heard.quote().is_some_and(names)
    });
    require(
        is_right,
        "the error is lost, or quotes a packet that the server did not send",
    )
}

/// An error about a datagram that nobody has sent.
pub(super) fn unmatched(scene: &mut Scene<'_>) -> Outcome {
    let Some((_, port)) = sent(scene)? else {
        return fail("nothing goes out");
    };
    let (far, own) = (server(scene.family), outside(scene.family));
    let never = scene
        .to_router(Station::A)
        .ip(own, far)
        .udp(scene.port(), PORT, b"never");
    let kind = port_unreachable(scene.family);
    let path = (Station::Outside, Station::A);
    let frames = [scene.inward(far).icmp_error(kind.0, kind.1, 0, &never)];
    let came = scene.hear(path, &frames, |heard| heard.quote())?;
    if came.is_some() {
        return fail("an error about a packet that was never sent arrives");
    }
    // An error that is about something arrives all the same.
    let Some((left, _)) = sent(scene)? else {
        return fail(format!("nothing goes out after {port}"));
    };
    let heard = scene.send_in(far, Station::A, |packet| {
        packet.icmp_error(kind.0, kind.1, 0, &left.frame)
    })?;
    require(heard.is_some(), "no error arrives at all")
}

/// An error whose own checksum is wrong.
pub(super) fn damaged(scene: &mut Scene<'_>) -> Outcome {
    let Some((left, _)) = sent(scene)? else {
        return fail("nothing goes out");
    };
    let far = server(scene.family);
    let kind = port_unreachable(scene.family);
    let whole = scene.inward(far).icmp_error(kind.0, kind.1, 0, &left.frame);
    let mut broken = whole.clone();
    if let Some(last) = broken.last_mut() {
        *last ^= 0x55;
    }
    let path = (Station::Outside, Station::A);
    let own = Station::A.address(scene.family);
    // A damaged message that arrives is one that no host would take: it is looked at all the same.
    let came = scene.hear(path, &[broken], |heard| {
        heard.is_between(far, own).then_some(())
    })?;
    if came.is_some() {
        return fail("a damaged error is passed on");
    }
    let came = scene.hear(path, &[whole], |heard| {
        heard.is_between(far, own).then_some(())
    })?;
    require(came.is_some(), "no error arrives at all")
}

/// An error about a segment that is not in flight: whoever sends it does not see the connection.
pub(super) fn blind(scene: &mut Scene<'_>) -> Outcome {
    let Some(connection) = Connection::open(scene)? else {
        return fail("no connection can be opened");
    };
    let own = outside(scene.family);
    let kind = port_unreachable(scene.family);
    let mut about = |ahead: u32| {
        let header = TcpHeader {
            source_port: connection.outside_port,
            sequence: connection.next[0].wrapping_add(ahead),
            ..connection.header_out(TcpFlags::ACK)
        };
        let quoted = scene
            .to_router(Station::A)
            .ip(own, connection.server)
            .tcp(&header, b"");
        scene.send_in(connection.server, Station::A, |packet| {
            packet.icmp_error(kind.0, kind.1, 0, &quoted)
        })
    };
    if about(0x4000_0000)?.is_some() {
        return fail("an error about a segment outside the window passes");
    }
    require(
        about(0)?.is_some(),
        "no error about a connection arrives at all",
    )
}

/// A flow outlives the errors about it (RFC 4787 §9 REQ-12).
pub(super) fn survives_udp(scene: &mut Scene<'_>) -> Outcome {
    let Some((left, port)) = sent(scene)? else {
        return fail("nothing goes out");
    };
    let far = server(scene.family);
    let kind = port_unreachable(scene.family);
    scene.send_in(far, Station::A, |packet| {
        packet.icmp_error(kind.0, kind.1, 0, &left.frame)
    })?;
    let seen = left.ports().map_or(0, |(seen, _)| seen);
    let heard = scene.send_in(far, Station::A, |packet| {
        packet.udp(PORT, seen, b"still here")
    })?;
    require(
        heard.as_ref().and_then(Heard::ports) == Some((PORT, port)),
        "an error ends the mapping",
    )
}

/// The same for a connection (RFC 5382 §7.3 REQ-10).
pub(super) fn survives_tcp(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail("no connection can be opened");
    };
    let kind = port_unreachable(scene.family);
    let header = TcpHeader {
        source_port: connection.outside_port,
        ..connection.header_out(TcpFlags::ACK)
    };
    let own = outside(scene.family);
    let quoted = scene
        .to_router(Station::A)
        .ip(own, connection.server)
        .tcp(&header, b"");
    scene.send_in(connection.server, Station::A, |packet| {
        packet.icmp_error(kind.0, kind.1, 0, &quoted)
    })?;
    require(connection.is_alive(scene)?, "an error ends the connection")
}
