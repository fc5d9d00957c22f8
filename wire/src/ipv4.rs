//! The IPv4 header (RFC 791 §3.1) and the checks that a router owes (RFC 1812 §5.2.2).

use crate::checksum;
use crate::ip::{Fragment, FragmentField, Ip, IpOptions};
use crate::transport::Transport;
use crate::{Address, Family, Malformed, Protocol};

/// The header without options.
pub(crate) const HEADER_LEN: usize = 20;

/// Where the total length stands in the header.
pub(crate) const TOTAL_LENGTH: usize = 2;

/// Where the identification stands in the header.
pub(crate) const IDENTIFICATION: usize = 4;

/// Where flags and fragment offset stand in the header.
pub(crate) const FRAGMENT: usize = 6;

/// Where the time to live stands in the header.
pub(crate) const TIME_TO_LIVE: usize = 8;

/// Where the protocol stands in the header.
pub(crate) const PROTOCOL: usize = 9;

/// Where the header checksum stands in the header.
pub(crate) const CHECKSUM: usize = 10;

/// Where the source stands in the header.
pub(crate) const SOURCE: usize = 12;

/// Where the destination stands in the header.
pub(crate) const DESTINATION: usize = 16;

/// Version 4 and five words of header: no options.
const PLAIN: u8 = 0x45;

/// Flag "don't fragment".
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;

/// Flag "more fragments".
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;

/// The fragment offset, in units of eight bytes.
pub(crate) const OFFSET_MASK: u16 = 0x1fff;

/// Option kind: end of the list.
pub(crate) const OPTION_END: u8 = 0;

/// Option kind: one byte of padding.
pub(crate) const OPTION_NO_OPERATION: u8 = 1;

/// Option kind: loose source and record route.
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;

/// Option kind: strict source and record route.
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// Reads the datagram at `offset` of `frame`.
///
/// The header checksum is not looked at: a bridge has no business with it, a router asks
/// [`ipv4_header_is_valid`].
pub(crate) fn parse(frame: &[u8], offset: u16) -> Result<Ip, Malformed> {
    let packet = frame
        .get(usize::from(offset)..)
        .ok_or(Malformed::Ipv4Truncated)?;
    let header = packet
        .first_chunk::<HEADER_LEN>()
        .ok_or(Malformed::Ipv4Truncated)?;
    let (header_len, options) = if header[0] == PLAIN {
        (20, IpOptions::NONE)
    } else {
        parse_options(packet)?
    };
    let total_len = total_len(header);
    // One range check covers both: not shorter than the header, not longer than the frame.
    let segment = packet
        .get(usize::from(header_len)..usize::from(total_len))
        .ok_or(Malformed::Ipv4TotalLength)?;
    let segment_len = u32::from(total_len) - u32::from(header_len);
    let protocol = Protocol(header[PROTOCOL]);
    let fragment = fragment_field(header).check(u32::from(header_len), segment_len, protocol)?;
    let transport = match fragment {
        Fragment::Whole => Transport::parse(Family::V4, protocol, segment, segment_len, true)?,
        Fragment::First { .. } => {
            Transport::parse_first_fragment(Family::V4, protocol, segment, segment_len)?
        }
        Fragment::Later { .. } => Transport::Absent,
    };
    Ok(Ip {
        options,
        fragment,
        ..plain(header, offset, header_len, protocol, transport)
    })
}

/// [`parse`] for the usual datagram: no options, not a fragment, and of a `protocol` that the
/// caller has seen, so that the compiler leaves out the others. `None` if it is not the usual one
/// or is malformed.
#[inline(always)]
pub(crate) fn parse_usual(frame: &[u8], offset: u16, protocol: Protocol) -> Option<Ip> {
    let packet = frame.get(usize::from(offset)..)?;
    let header = packet.first_chunk::<HEADER_LEN>()?;
    let is_fragment = flags(header) & (MORE_FRAGMENTS | OFFSET_MASK) != 0;
    if header[0] != PLAIN || is_fragment {
        return None;
    }
    let total_len = total_len(header);
    let segment = packet.get(HEADER_LEN..usize::from(total_len))?;
    let segment_len = u32::from(total_len) - 20;
    let transport = Transport::parse(Family::V4, protocol, segment, segment_len, true).ok()?;
    Some(plain(header, offset, 20, protocol, transport))
}

/// The datagram with this header, without options and whole.
#[inline(always)]
fn plain(
    header: &[u8; HEADER_LEN],
    offset: u16,
    header_len: u16,
    protocol: Protocol,
    transport: Transport,
) -> Ip {
    let (source, destination) = addresses(header);
    Ip {
        source,
        destination,
        protocol,
        hop_limit: header[TIME_TO_LIVE],
        traffic_class: header[1],
        header_offset: offset,
        transport_offset: u32::from(offset) + u32::from(header_len),
        end: u32::from(offset) + u32::from(total_len(header)),
        fragment: Fragment::Whole,
        dont_fragment: flags(header) & DONT_FRAGMENT != 0,
        options: IpOptions::NONE,
        transport,
    }
}

#[inline(always)]
fn total_len(header: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes([header[TOTAL_LENGTH], header[TOTAL_LENGTH + 1]])
}

/// Flags and fragment offset.
#[inline(always)]
fn flags(header: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes([header[FRAGMENT], header[FRAGMENT + 1]])
}

fn fragment_field(header: &[u8; HEADER_LEN]) -> FragmentField {
    let id = u16::from_be_bytes([header[IDENTIFICATION], header[IDENTIFICATION + 1]]);
    FragmentField {
        id: u32::from(id),
        offset: (flags(header) & OFFSET_MASK) * 8,
        more: flags(header) & MORE_FRAGMENTS != 0,
    }
}

/// Source and destination of a header.
#[inline(always)]
pub(crate) fn addresses(header: &[u8; HEADER_LEN]) -> (Address, Address) {
    let [.., a, b, c, d, e, f, g, h] = *header;
    let value = |bytes| Address::from_ipv4_bits(u32::from_be_bytes(bytes));
    (value([a, b, c, d]), value([e, f, g, h]))
}

/// Length and options of a header that is not [`PLAIN`].
fn parse_options(packet: &[u8]) -> Result<(u16, IpOptions), Malformed> {
    let first = *packet.first().ok_or(Malformed::Ipv4Truncated)?;
    if first >> 4 != 4 {
        return Err(Malformed::Ipv4Version);
    }
    let header_len = u16::from(first & 0x0f) * 4;
    let range = HEADER_LEN..usize::from(header_len);
    if range.end < range.start {
        return Err(Malformed::Ipv4HeaderLength);
    }
    let mut found = IpOptions::IPV4;
    let options = packet.get(range).ok_or(Malformed::Ipv4Truncated)?;
    for option in Options::new(options) {
        if matches!(
            option?,
            [OPTION_LOOSE_SOURCE_ROUTE | OPTION_STRICT_SOURCE_ROUTE, ..]
        ) {
            found = found | IpOptions::SOURCE_ROUTE;
        }
    }
    Ok((header_len, found))
}

/// The options of a header, each with its kind and length, padding left out.
pub(crate) struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    pub(crate) const fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.rest {
                [] | [OPTION_END, ..] => return None,
                [OPTION_NO_OPERATION, ref rest @ ..] => self.rest = rest,
                [_, length @ 2..=u8::MAX, ..] if usize::from(length) <= self.rest.len() => {
                    let (option, rest) = self.rest.split_at(usize::from(length));
                    self.rest = rest;
                    return Some(Ok(option));
                }
                _ => {
                    self.rest = &[];
                    return Some(Err(Malformed::Ipv4Options));
                }
            }
        }
    }
}

/// Whether the IPv4 header at `network_offset` has a correct checksum: the check of RFC 1812
/// §5.2.2 that [`Summary::parse`](crate::Summary::parse) leaves to those who route.
#[must_use]
#[inline]
pub fn ipv4_header_is_valid(frame: &[u8], network_offset: u16) -> bool {
    let Some(packet) = frame.get(usize::from(network_offset)..) else {
        return false;
    };
    match packet.first_chunk::<HEADER_LEN>() {
        Some(header) if header[0] == PLAIN => checksum::is_all_ones(header),
        Some(header) => {
            let header_len = usize::from(header[0] & 0x0f) * 4;
            packet.get(..header_len).is_some_and(|header| {
                header.len() >= HEADER_LEN && checksum::sum(header) == checksum::ALL_ONES
            })
        }
        None => false,
    }
}
