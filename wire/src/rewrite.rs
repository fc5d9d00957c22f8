//! Changes to a datagram in place: what a NAT and a router do to every packet.
//!
//! Checksums are never computed here, only updated (RFC 1624): the old words are taken from the
//! frame, their difference to the new ones is gathered in one number, and that number is added to
//! each checksum that covers them. So a packet that came corrupted leaves corrupted (RFC 3022
//! §4.1), the cost does not depend on the length, and a summary that was made before an earlier
//! rewrite still serves a later one: it is only asked for places, never for values.
//!
//! With a partial checksum (virtio-net's NEEDS_CSUM) the transport's field holds the sum of the
//! pseudo-header instead of a complement. Addresses stand in the pseudo-header, ports do not: a new
//! address is added with the opposite sign, a new port leaves the field alone.
//!
//! Every function expects the frame from which its `ip` was parsed. With another one it may change
//! the wrong bytes or none; it does not panic.

use crate::checksum::Delta;
use crate::icmp::Icmp;
use crate::ip::Ip;
use crate::tcp::{self, TcpFlags, TcpOption, TcpOptions};
use crate::transport::Transport;
use crate::{Address, Family, icmp, ipv4, ipv6, udp};

/// How a datagram shall read.
///
/// A port is that of TCP or UDP, or the identifier of an ICMP query: a request has it in
/// `source_port`, a reply in `destination_port`, and the other one means nothing. Addresses are
/// of the datagram's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The sender.
    pub source: Address,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver.
    pub destination: Address,
    /// The receiver's port.
    pub destination_port: u16,
}

/// Rewrites addresses and ports of a datagram and keeps every checksum as right as it was.
///
/// A later fragment has no ports; of an ICMP error and of a protocol that is not looked into only
/// the addresses change. The caller knows where that is not enough: for a protocol whose checksum
/// covers the addresses ([`Transport::Other`]: UDP-Lite, DCCP), behind an authentication header,
/// and behind a routing header that is not used up, whose pseudo-header has another destination.
#[inline]
pub fn rewrite(frame: &mut [u8], ip: &Ip, partial_checksum: bool, to: &Rewrite) {
    let addresses = rewrite_addresses(frame, ip.header_offset.into(), to.source, to.destination);
    rewrite_transport(frame, ip, partial_checksum, addresses, to);
}

/// [`rewrite`] and [`decrement_hop_limit`] in one go: what a router does that translates.
#[inline]
pub fn rewrite_hop(frame: &mut [u8], ip: &Ip, partial_checksum: bool, to: &Rewrite) {
    let (offset, source, destination) = (ip.header_offset.into(), to.source, to.destination);
    let addresses = rewrite_header(frame, offset, source, destination, 1);
    rewrite_transport(frame, ip, partial_checksum, addresses, to);
}

#[inline(always)]
fn rewrite_transport(
    frame: &mut [u8],
    ip: &Ip,
    partial_checksum: bool,
    addresses: Delta,
    to: &Rewrite,
) {
    let Some(segment) = frame.get_mut(ip.transport_offset as usize..) else {
        return;
    };
    // Each arm names its layout and its header's length as constants, so that the compiler folds
    // the decisions and range checks below into it.
    match &ip.transport {
        Transport::Tcp(_) => {
            if let Some(header) = segment.first_chunk_mut::<{ tcp::HEADER_LEN }>() {
                rewrite_segment(header, Layout::Tcp, partial_checksum, addresses, to);
            }
        }
        Transport::Udp(_) => {
            if let Some(header) = segment.first_chunk_mut::<{ udp::HEADER_LEN }>() {
                rewrite_segment(header, Layout::Udp, partial_checksum, addresses, to);
            }
        }
        Transport::Icmp(message) => {
            if let Some(header) = segment.first_chunk_mut::<{ icmp::HEADER_LEN }>() {
                let layout = Layout::icmp(ip.family(), message);
                rewrite_segment(header, layout, partial_checksum, addresses, to);
            }
        }
        Transport::Other | Transport::Absent => {}
    }
}

/// Takes one from the hop limit. The caller has seen that more than one is left.
#[inline]
pub fn decrement_hop_limit(frame: &mut [u8], ip: &Ip) {
    let Some(header) = frame.get_mut(usize::from(ip.header_offset)..) else {
        return;
    };
    let Some(header) = header.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
        return;
    };
    if header[0] >> 4 == 4 {
        let mut delta = Delta::NONE;
        take_hops(header, 1, &mut delta);
        if let Some(checksum) = field(header, ipv4::CHECKSUM) {
            delta.apply(checksum);
        }
    } else {
        header[ipv6::HOP_LIMIT] = header[ipv6::HOP_LIMIT].saturating_sub(1);
    }
}

/// Gives a whole IPv4 datagram another identification. IPv6 has it only in fragments, where this does
/// nothing.
pub fn set_identification(frame: &mut [u8], ip: &Ip, id: u16) {
    change_ipv4(frame, ip, |header, delta| {
        replace16(header, ipv4::IDENTIFICATION, id, delta);
    });
}

/// Makes an IPv4 datagram of one's own one that may be cut, with an identification that is unique.
pub fn allow_fragments(frame: &mut [u8], ip: &Ip, id: u16) {
    change_ipv4(frame, ip, |header, delta| {
        replace16(header, ipv4::IDENTIFICATION, id, delta);
        let flags = u16::from_be_bytes([header[ipv4::FRAGMENT], header[ipv4::FRAGMENT + 1]]);
        replace16(header, ipv4::FRAGMENT, flags & !ipv4::DONT_FRAGMENT, delta);
    });
}

/// Changes the fixed IPv4 header, if it is one, and updates its checksum.
fn change_ipv4(
    frame: &mut [u8],
    ip: &Ip,
    change: impl FnOnce(&mut [u8; ipv4::HEADER_LEN], &mut Delta),
) {
    let header = frame.get_mut(usize::from(ip.header_offset)..);
    let Some(header) = header.and_then(|packet| packet.first_chunk_mut()) else {
        return;
    };
    if header[0] >> 4 != 4 {
        return;
    }
    let mut delta = Delta::NONE;
    change(header, &mut delta);
    if let Some(checksum) = field(header, ipv4::CHECKSUM) {
        delta.apply(checksum);
    }
}

/// Lowers the maximum segment size that a SYN announces to `mss`; whether there was a larger one.
///
/// A SYN without the option announces the default, which no link is too small for, and gets none.
pub fn clamp_mss(frame: &mut [u8], ip: &Ip, partial_checksum: bool, mss: u16) -> bool {
    let Transport::Tcp(header) = &ip.transport else {
        return false;
    };
    if !header.flags.contains(TcpFlags::SYN) {
        return false;
    }
    let header_len = usize::from(header.header_len);
    let header = ip
        .payload_mut(frame)
        .and_then(|segment| segment.get_mut(..header_len));
    let Some((fixed, options)) = header.and_then(|h| h.split_at_mut_checked(tcp::HEADER_LEN))
    else {
        return false;
    };
    let place = TcpOptions::new(options)
        .find(|option| option.kind == TcpOption::MAXIMUM_SEGMENT_SIZE && option.data.len() == 2)
        .map(|option| option.offset);
    let Some(place) = place else { return false };
    let Some(value) = field(options, place) else {
        return false;
    };
    let (old, new) = (*value, mss.to_be_bytes());
    if u16::from_be_bytes(old) <= mss {
        return false;
    }
    *value = new;
    if let (false, Some(checksum)) = (partial_checksum, field(fixed, tcp::CHECKSUM.into())) {
        let mut delta = Delta::NONE;
        if place.is_multiple_of(2) {
            delta.replace16(old, new);
        } else {
            // Padding put the value across two words: it counts with its bytes swapped.
            delta.replace16([old[1], old[0]], [new[1], new[0]]);
        }
        delta.apply(checksum);
    }
    true
}

/// What of a transport header depends on addresses and ports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    Tcp,
    Udp,
    Icmp {
        identifier: Option<Identifier>,
        covers_addresses: bool,
    },
}

/// Which port of a [`Rewrite`] an ICMP query's identifier is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identifier {
    SourcePort,
    DestinationPort,
}

impl Layout {
    pub(crate) fn icmp(family: Family, message: &Icmp) -> Self {
        let identifier = if message.is_request(family) {
            Some(Identifier::SourcePort)
        } else if message.is_reply(family) {
            Some(Identifier::DestinationPort)
        } else {
            None
        };
        Self::Icmp {
            identifier,
            covers_addresses: family == Family::V6,
        }
    }
}

/// Writes the ports into a transport header and updates its checksum for them and for the
/// `addresses`. Returns what changed in the segment, checksum included, for a checksum around it.
///
/// A field beyond the end of `segment` is left out: a datagram quoted in an ICMP error may be cut.
#[inline(always)]
pub(crate) fn rewrite_segment(
    segment: &mut [u8],
    layout: Layout,
    partial_checksum: bool,
    addresses: Delta,
    to: &Rewrite,
) -> Delta {
    let mut ports = Delta::NONE;
    let (checksum, covers_addresses) = match layout {
        Layout::Tcp | Layout::Udp => {
            replace16(segment, 0, to.source_port, &mut ports);
            replace16(segment, 2, to.destination_port, &mut ports);
            let is_tcp = matches!(layout, Layout::Tcp);
            (if is_tcp { tcp::CHECKSUM } else { udp::CHECKSUM }, true)
        }
        Layout::Icmp {
            identifier,
            covers_addresses,
        } => {
            match identifier {
                Some(Identifier::SourcePort) => {
                    replace16(segment, icmp::IDENTIFIER, to.source_port, &mut ports);
                }
                Some(Identifier::DestinationPort) => {
                    replace16(segment, icmp::IDENTIFIER, to.destination_port, &mut ports);
                }
                None => {}
            }
            (icmp::CHECKSUM, covers_addresses)
        }
    };
    let Some(checksum) = field(segment, checksum.into()) else {
        return ports;
    };
    let old = *checksum;
    let addresses = if covers_addresses {
        addresses
    } else {
        Delta::NONE
    };
    if partial_checksum {
        addresses.apply_to_sum(checksum);
    } else if !matches!(layout, Layout::Udp) {
        addresses.joined(ports).apply(checksum);
    } else if old != [0, 0] {
        addresses.joined(ports).apply(checksum);
        // RFC 768: a checksum that happens to be zero is sent as all ones.
        if *checksum == [0, 0] {
            *checksum = [0xff, 0xff];
        }
    }
    // Else RFC 3022 §4.1: a checksum that was not used stays unused. IPv6 knows no such thing;
    // there the zero is as wrong behind the NAT as it was before.
    let mut changed = ports;
    changed.replace16(old, *checksum);
    changed
}

/// Writes both addresses into the IP header at `offset` and updates the IPv4 header checksum.
/// Returns the difference that the addresses make, for the checksums above.
#[inline(always)]
pub(crate) fn rewrite_addresses(
    frame: &mut [u8],
    offset: usize,
    source: Address,
    destination: Address,
) -> Delta {
    rewrite_header(frame, offset, source, destination, 0)
}

/// [`rewrite_addresses`], and takes `hops` from the hop limit.
#[inline(always)]
fn rewrite_header(
    frame: &mut [u8],
    offset: usize,
    source: Address,
    destination: Address,
    hops: u8,
) -> Delta {
    let mut delta = Delta::NONE;
    let Some(header) = frame.get_mut(offset..) else {
        return delta;
    };
    let Some(first) = header.first() else {
        return delta;
    };
    if first >> 4 == 4 {
        let Some(header) = header.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
            return delta;
        };
        for (place, address) in [(ipv4::SOURCE, source), (ipv4::DESTINATION, destination)] {
            if let Some(place) = field(header, place) {
                let new = address.low_bits().to_be_bytes();
                delta.replace32(*place, new);
                *place = new;
            }
        }
        let mut of_header = delta;
        take_hops(header, hops, &mut of_header);
        if let Some(checksum) = field(header, ipv4::CHECKSUM) {
            of_header.apply(checksum);
        }
    } else {
        let Some(header) = header.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
            return delta;
        };
        header[ipv6::HOP_LIMIT] = header[ipv6::HOP_LIMIT].saturating_sub(hops);
        for (place, address) in [(ipv6::SOURCE, source), (ipv6::DESTINATION, destination)] {
            if let Some(place) = field(header, place) {
                let new = address.bits().to_be_bytes();
                delta.replace128(*place, new);
                *place = new;
            }
        }
    }
    delta
}

/// Takes `hops` from an IPv4 header's time to live and notes the difference.
#[inline(always)]
fn take_hops(header: &mut [u8; ipv4::HEADER_LEN], hops: u8, delta: &mut Delta) {
    if let Some(place) = field(header, ipv4::TIME_TO_LIVE) {
        let [left, protocol] = *place;
        let new = [left.saturating_sub(hops), protocol];
        delta.replace16(*place, new);
        *place = new;
    }
}

/// Writes a word and notes the difference.
#[inline(always)]
fn replace16(bytes: &mut [u8], at: usize, value: u16, delta: &mut Delta) {
    if let Some(place) = field(bytes, at) {
        let new = value.to_be_bytes();
        delta.replace16(*place, new);
        *place = new;
    }
}

/// The `N` bytes at `at`. On an array the compiler knows the answer.
#[inline(always)]
pub(crate) fn field<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

#[cfg(test)]
mod tests;
