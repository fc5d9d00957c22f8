//! What connections must survive, and be able to do (RFC 5382, RFC 5961, RFC 7857, RFC 9293).

use heddle_wire::TcpFlags;
use heddle_wire::builder::TcpHeader;

use super::super::connection::{Connection, FIN_ACK, RST_ACK, SYN_ACK};
use super::super::scene::Scene;
use super::super::verdict::{Outcome, fail, pass, require};

const NO_CONNECTION: &str = "no connection can be opened";

/// Somebody who knows addresses and ports, but not the numbers, sends a RST.
pub(super) fn blind_reset(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail(NO_CONNECTION);
    };
    let forged = TcpHeader {
        sequence: connection.next[1].wrapping_add(0x4000_0000),
        ..connection.header_back(TcpFlags::RST)
    };
    if connection.send_back(scene, &forged, b"")?.is_some() {
        return fail("a RST outside the window passes");
    }
    require(connection.is_alive(scene)?, "the connection ends")
}

/// The same with a number that lies in the window, but is not the next one: the host must question it
/// (RFC 5961 §3), and the translator must not take it for the end.
pub(super) fn inexact_reset(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail(NO_CONNECTION);
    };
    let forged = TcpHeader {
        sequence: connection.next[1].wrapping_add(1_000),
        ..connection.header_back(TcpFlags::RST)
    };
    connection.send_back(scene, &forged, b"")?;
    require(connection.is_alive(scene)?, "the connection ends")
}

/// A segment that is far outside the window.
pub(super) fn blind_data(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail(NO_CONNECTION);
    };
    let forged = TcpHeader {
        sequence: connection.next[1].wrapping_add(0x4000_0000),
        ..connection.header_back(TcpFlags::ACK)
    };
    if connection.send_back(scene, &forged, b"injected")?.is_some() {
        return fail("data outside the window passes");
    }
    require(connection.is_alive(scene)?, "the connection ends")
}

/// Both ends open at once (RFC 9293 §3.5, figure 8).
pub(super) fn simultaneous_open(scene: &mut Scene<'_>) -> Outcome {
    let mut connection = Connection::new(scene);
    let first = connection.next;
    let crossed =
        connection.out(scene, TcpFlags::SYN, b"")? && connection.back(scene, TcpFlags::SYN, b"")?;
    if !crossed {
        return fail("the SYN of the other end does not arrive");
    }
    let behind = connection.next;
    let host = TcpHeader {
        sequence: first[0],
        ..connection.header_out(SYN_ACK)
    };
    let server = TcpHeader {
        sequence: first[1],
        ..connection.header_back(SYN_ACK)
    };
    let answered = connection.send_out(scene, &host, b"")?
        && connection.send_back(scene, &server, b"")?.is_some();
    if !answered {
        return fail("the answers are lost");
    }
    connection.next = behind;
    require(
        connection.is_alive(scene)?,
        "the connection carries nothing",
    )
}

/// One end has said all it had to say, the other one has not.
pub(super) fn half_close(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail(NO_CONNECTION);
    };
    let passed = connection.out(scene, FIN_ACK, b"that was all")?
        && connection.back(scene, TcpFlags::ACK, b"")?
        && connection.back(scene, TcpFlags::ACK, b"not here")?
        && connection.out(scene, TcpFlags::ACK, b"")?
        && connection.back(scene, FIN_ACK, b"but now")?
        && connection.out(scene, TcpFlags::ACK, b"")?;
    require(passed, "something behind the first FIN is lost")
}

/// A host uses the port of a connection that is over for a new one to the same server.
pub(super) fn reuse_after_close(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail(NO_CONNECTION);
    };
    if !connection.close(scene)? {
        return fail("a connection cannot be closed");
    }
    connection.next = connection.next.map(|next| next.wrapping_add(0x0100_0000));
    require(
        connection.handshake(scene)? && connection.is_alive(scene)?,
        "the new one does not open",
    )
}

/// The same after a RST.
pub(super) fn reuse_after_reset(scene: &mut Scene<'_>) -> Outcome {
    let Some(mut connection) = Connection::open(scene)? else {
        return fail(NO_CONNECTION);
    };
    if !connection.out(scene, RST_ACK, b"")? {
        return fail("a RST does not go out");
    }
    connection.next = connection.next.map(|next| next.wrapping_add(0x0100_0000));
    require(
        connection.handshake(scene)? && connection.is_alive(scene)?,
        "the new one does not open",
    )
}

/// A server that does not listen says so (RFC 9293 §3.5.2), and the host may try again at once.
pub(super) fn refusal(scene: &mut Scene<'_>) -> Outcome {
    let mut connection = Connection::new(scene);
    for _ in 0..2 {
        if !connection.out(scene, TcpFlags::SYN, b"")? {
            return fail("a SYN does not go out");
        }
        let refusal = TcpHeader {
            sequence: 0,
            ..connection.header_back(RST_ACK)
        };
        if connection.send_back(scene, &refusal, b"")?.is_none() {
            return fail("the refusal is lost");
        }
    }
    pass()
}
