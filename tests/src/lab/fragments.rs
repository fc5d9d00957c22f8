//! Datagrams in fragments, as they are sent and as they arrive.

use heddle_wire::builder::Packet;
use heddle_wire::{Fragment, Part, Protocol, Summary, set_identification};

/// The fragments of a datagram with this content, each but the last with `room` octets of it.
///
/// # Panics
///
/// If fragments cannot have that much.
#[must_use]
pub fn fragments(
    packet: &Packet,
    protocol: Protocol,
    content: &[u8],
    id: u32,
    room: usize,
) -> Vec<Vec<u8>> {
    let count = content.len().div_ceil(room);
    let pieces = content.chunks(room).enumerate();
    pieces
        .map(|(index, piece)| {
            let offset = u16::try_from(index * room).expect("a datagram is not longer");
            let packet = packet.clone().fragment(id, offset, index + 1 < count);
            packet.frame(protocol, piece)
        })
        .collect()
}

/// The identification in a frame's IP header, or in its fragment header; 0 for a whole IPv6 datagram.
///
/// # Panics
///
/// If the frame holds no datagram.
#[must_use]
pub fn identification(frame: &[u8]) -> u32 {
    let summary = Summary::parse(frame).expect("a frame");
    let ip = summary.ip().expect("a datagram");
    match ip.fragment {
        Fragment::First { id } | Fragment::Later { id, .. } => id,
        Fragment::Whole if ip.source.is_ipv4() => {
            let at = usize::from(ip.header_offset) + 4;
            u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]))
        }
        Fragment::Whole => 0,
    }
}

/// The same frame with another identification.
///
/// # Panics
///
/// If the frame holds no datagram.
pub(super) fn renumbered(frame: &[u8], id: u32) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let summary = Summary::parse(&frame).expect("a frame");
    let ip = *summary.ip().expect("a datagram");
    if ip.source.is_ipv4() {
        let id = u16::try_from(id).expect("IPv4 has 16 bits");
        set_identification(&mut frame, &ip, id);
    } else if let Some(part) = Part::of(&frame, &ip) {
        let end = usize::from(ip.header_offset) + part.header.len();
        frame[end - 4..end].copy_from_slice(&id.to_be_bytes());
    }
    frame
}
