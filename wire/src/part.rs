//! Fragments taken apart and put together (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! A fragment is an IP header of its own and a part of the datagram's data. Whoever has all parts makes
//! the header of the whole datagram with [`write_whole_header`]; whoever has changed the whole datagram
//! since gives the fragments that it came in their new headers with [`rewrite_part_header`]. Nothing
//! here knows which fragments belong together.

use crate::checksum;
use crate::ip::Ip;
use crate::ipv4::{self, DONT_FRAGMENT};
use crate::ipv6;
use crate::rewrite::field;
use crate::segment::put_u16;
use crate::{Family, Fragment, Protocol};

/// The longest header of a fragment: that of IPv6 with all extension headers that a datagram may have.
pub const PART_HEADER_LEN_MAX: usize = ipv6::HEADER_LEN + crate::EXTENSION_HEADERS_LEN_MAX;

/// A fragment, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'f> {
    /// What the fragments of one datagram have in common, beside addresses and, for IPv4, the protocol.
    pub id: u32,
    /// The protocol that tells datagrams of one identification apart: for IPv6 none, since only the
    /// first fragment's counts (RFC 8200 §4.5).
    pub protocol: Protocol,
    /// Bytes of data in front of these.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
    /// Its IP header: options, or extension headers up to and including the fragment header.
    pub header: &'f [u8],
    /// Its data.
    pub data: &'f [u8],
}

impl<'f> Part<'f> {
    /// The fragment in `frame`; `None` for a whole datagram, or if `frame` is not the frame from which
    /// `ip` was parsed.
    #[must_use]
    pub fn of(frame: &'f [u8], ip: &Ip) -> Option<Part<'f>> {
        let (id, offset, more) = match ip.fragment {
            Fragment::Whole => return None,
            Fragment::First { id } => (id, 0, true),
            Fragment::Later { id, offset, last } => (id, offset, !last),
        };
        let packet = frame.get(usize::from(ip.header_offset)..ip.end as usize)?;
        let (protocol, header_len) = match ip.family() {
            Family::V4 => (ip.protocol, ip.header_len()),
            Family::V6 => (
                Protocol(0),
                fragment_header(packet)? + ipv6::FRAGMENT_HEADER_LEN,
            ),
        };
        let (header, data) = packet.split_at_checked(header_len)?;
        Some(Part {
            id,
            protocol,
            offset,
            more,
            header,
            data,
        })
    }
}

/// What the header of a whole datagram says beside what its first fragment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Bytes of data.
    pub data_len: usize,
    /// Hops left.
    pub hop_limit: u8,
    /// Whether any of the fragments must not be cut; means nothing for IPv6.
    pub dont_fragment: bool,
}

/// Writes the header that a datagram has once it is whole to the start of `space`, and returns how long
/// it is: that of the `first` fragment without what made it one.
///
/// `None` if that is no fragment's header, if the datagram would be longer than one can be, or if
/// `space` is too short.
#[must_use]
pub fn write_whole_header(first: &[u8], whole: &Whole, space: &mut [u8]) -> Option<usize> {
    if first.first()? >> 4 == 4 {
        let len = first.len();
        let header = space.get_mut(..len)?;
        header.copy_from_slice(first);
        let total = u16::try_from(len + whole.data_len).ok()?;
        put_u16(header, ipv4::TOTAL_LENGTH, total);
        let flags = if whole.dont_fragment {
            DONT_FRAGMENT
        } else {
            0
        };
        put_u16(header, ipv4::FRAGMENT, flags);
        *header.get_mut(ipv4::TIME_TO_LIVE)? = whole.hop_limit;
        finish_ipv4(header);
        return Some(len);
    }
    let place = fragment_header(first)?;
    let next = *first.get(place)?;
    let header = space.get_mut(..place)?;
    header.copy_from_slice(first.get(..place)?);
    // The header in front of the fragment header names what came behind it (RFC 8200 §4.5).
    *header.get_mut(next_header_before(first, place)?)? = next;
    let payload = place.checked_sub(ipv6::HEADER_LEN)? + whole.data_len;
    put_u16(header, ipv6::PAYLOAD_LENGTH, u16::try_from(payload).ok()?);
    *header.get_mut(ipv6::HOP_LIMIT)? = whole.hop_limit;
    Some(place)
}

/// What has become of a datagram's header since its fragments came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'h> {
    /// The header of the whole datagram as it is now: its addresses go into the fragment.
    pub now: &'h [u8],
    /// Hops that were taken.
    pub hops: u8,
    /// The identification, if it is another one.
    pub id: Option<u32>,
}

/// Has the header of a fragment say what the whole datagram's says by now.
///
/// A header that is none is left as it is.
pub fn rewrite_part_header(header: &mut [u8], change: &Change<'_>) {
    let Change { now, hops, id } = *change;
    if header.first().is_some_and(|first| first >> 4 == 4) {
        copy(header, now, ipv4::SOURCE, 8);
        take_hops(header, ipv4::TIME_TO_LIVE, hops);
        if let Some(id) = id {
            let [.., high, low] = id.to_be_bytes();
            put_u16(
                header,
                ipv4::IDENTIFICATION,
                u16::from_be_bytes([high, low]),
            );
        }
        finish_ipv4(header);
        return;
    }
    copy(header, now, ipv6::SOURCE, 32);
    take_hops(header, ipv6::HOP_LIMIT, hops);
    // It is the last one.
    let place = header.len().checked_sub(ipv6::FRAGMENT_HEADER_LEN / 2);
    if let (Some(id), Some(place)) = (id, place)
        && let Some(field) = field(header, place)
    {
        *field = id.to_be_bytes();
    }
}

fn copy(header: &mut [u8], now: &[u8], at: usize, len: usize) {
    if let (Some(place), Some(new)) = (header.get_mut(at..at + len), now.get(at..at + len)) {
        place.copy_from_slice(new);
    }
}

fn take_hops(header: &mut [u8], at: usize, hops: u8) {
    if let Some(place) = header.get_mut(at) {
        *place = place.saturating_sub(hops);
    }
}

/// Computes the checksum of an IPv4 header anew: it was right, or its packet had not come this far.
fn finish_ipv4(header: &mut [u8]) {
    put_u16(header, ipv4::CHECKSUM, 0);
    put_u16(header, ipv4::CHECKSUM, !checksum::sum(header));
}

/// Where the fragment header of an IPv6 packet stands.
fn fragment_header(packet: &[u8]) -> Option<usize> {
    walk(packet)
        .find(|&(kind, _, _)| kind == Protocol::FRAGMENT)
        .map(|(_, place, _)| place)
}

/// Where the kind of the extension header at `place` is named.
fn next_header_before(packet: &[u8], place: usize) -> Option<usize> {
    walk(packet)
        .find(|&(_, start, _)| start == place)
        .map(|(_, _, named)| named)
}

/// The extension headers of an IPv6 packet up to its fragment header: the kind of each, where it
/// stands, and where its kind is named. The parser has walked the same headers and found them whole
/// and few.
fn walk(packet: &[u8]) -> impl Iterator<Item = (Protocol, usize, usize)> {
    let mut next = Some((ipv6::HEADER_LEN, ipv6::NEXT_HEADER));
    std::iter::from_fn(move || {
        let (place, named) = next?;
        let kind = Protocol(*packet.get(named)?);
        let units = usize::from(*packet.get(place + 1)?);
        next = match kind {
            Protocol::HOP_BY_HOP | Protocol::ROUTING | Protocol::DESTINATION_OPTIONS => {
                Some((place + (units + 1) * 8, place))
            }
            Protocol::AUTHENTICATION => Some((place + (units + 2) * 4, place)),
            _ => None,
        };
        Some((kind, place, named))
    })
}

#[cfg(test)]
mod tests;
