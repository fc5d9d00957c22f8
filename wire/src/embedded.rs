//! The datagram that an ICMP error quotes (RFC 792, RFC 4443 §3), read and rewritten.
//!
//! An error is about a packet that went the other way, as it looked where the error arose. A NAT
//! finds the session by the quoted addresses and ports, and must make the quote read as the packet
//! looked to the one who sent it (RFC 5508 §4.2 REQ-4, REQ-5).
//!
//! The quote may be cut after eight bytes of transport header, so nothing beyond is relied on. Its
//! IPv4 header checksum must be right, its transport checksum is not looked at, and what follows
//! the quote (RFC 4884 extensions) is ignored (RFC 5508 §4.1 REQ-3).

use crate::checksum::{self, Delta};
use crate::icmp::{self, Icmp};
use crate::ip::Ip;
use crate::ipv6::Chain;
use crate::rewrite::{Layout, Rewrite, field, rewrite_addresses, rewrite_segment};
use crate::transport::Transport;
use crate::{Address, Family, Malformed, Protocol, ipv4, ipv6};

/// The bytes of a transport header that an error quotes at least (RFC 792).
const TRANSPORT_LEN_MIN: usize = 8;

/// A datagram quoted in an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Sender of the quoted datagram.
    pub source: Address,
    /// Its receiver.
    pub destination: Address,
    /// Its upper layer.
    pub protocol: Protocol,
    /// TCP's or UDP's source port, the identifier of an ICMP request, else 0.
    pub source_port: u16,
    /// TCP's or UDP's destination port, the identifier of an ICMP reply, else 0.
    pub destination_port: u16,
    /// TCP's sequence number: a blind attacker does not know it (RFC 5927 §4.1).
    pub sequence: Option<u32>,
    /// The kind of a quoted ICMP message.
    pub icmp_kind: Option<u8>,
    /// Whether it is a later fragment and so has no ports.
    pub fragment_later: bool,
    /// Where the quoted IP header starts, from the start of the frame.
    pub header_offset: usize,
    /// Where the quoted upper layer starts, from the start of the frame.
    pub transport_offset: usize,
    /// Where the quote ends, from the start of the frame.
    pub end: usize,
}

/// Reads the datagram that the ICMP error `ip` in `frame` quotes.
///
/// # Errors
///
/// [`Malformed::EmbeddedAbsent`] if `ip` is not an ICMP error of a known kind; another variant of
/// that name if the quote is not a datagram of the same family or is cut too early.
pub fn embedded(frame: &[u8], ip: &Ip) -> Result<Embedded, Malformed> {
    let family = ip.family();
    match &ip.transport {
        Transport::Icmp(message) if quotes(message, family) => {}
        _ => return Err(Malformed::EmbeddedAbsent),
    }
    let message = ip.payload(frame).ok_or(Malformed::EmbeddedTruncated)?;
    let quote = message
        .get(icmp::HEADER_LEN..)
        .ok_or(Malformed::EmbeddedTruncated)?;
    let header = match family {
        Family::V4 => Header::parse_ipv4(quote)?,
        Family::V6 => Header::parse_ipv6(quote)?,
    };
    let header_offset = ip.transport_offset as usize + icmp::HEADER_LEN;
    let mut found = Embedded {
        source: header.source,
        destination: header.destination,
        protocol: header.protocol,
        source_port: 0,
        destination_port: 0,
        sequence: None,
        icmp_kind: None,
        fragment_later: header.is_later_fragment,
        header_offset,
        transport_offset: header_offset + header.len,
        end: header_offset + header.end,
    };
    if !header.is_later_fragment {
        found.read_transport(quote.get(header.len..header.end), family)?;
    }
    Ok(found)
}

/// Translates an ICMP error: its quote shall read as `inner` says, the error itself as sent from
/// `outer_source` to `outer_destination`.
///
/// Everything that covers a changed word is updated: the quoted IPv4 header checksum, the quoted
/// transport checksum as far as it is quoted, the checksum of the error, its IPv4 header's. The
/// rest of the message stays as it is. A partial checksum must have been completed before.
///
/// # Errors
///
/// Those of [`embedded`]; the frame is unchanged then.
pub fn rewrite_embedded(
    frame: &mut [u8],
    ip: &Ip,
    inner: &Rewrite,
    outer_source: Address,
    outer_destination: Address,
) -> Result<(), Malformed> {
    let family = ip.family();
    let quote = embedded(frame, ip)?;
    let (addresses, mut changed) = rewrite_quoted_header(frame, &quote, family, inner);
    if let Some(layout) = quote.layout(family)
        && let Some(segment) = frame.get_mut(quote.transport_offset..quote.end)
    {
        changed = changed.joined(rewrite_segment(segment, layout, false, addresses, inner));
    }
    let outer = rewrite_addresses(
        frame,
        ip.header_offset.into(),
        outer_source,
        outer_destination,
    );
    // ICMPv6 covers the addresses of its datagram, ICMP does not.
    if family == Family::V6 {
        changed = changed.joined(outer);
    }
    if let Some(checksum) = ip
        .payload_mut(frame)
        .and_then(|m| field(m, icmp::CHECKSUM.into()))
    {
        changed.apply(checksum);
    }
    Ok(())
}

/// Writes the addresses of the quoted header. Returns the difference that they make and the one
/// that the whole header makes.
fn rewrite_quoted_header(
    frame: &mut [u8],
    quote: &Embedded,
    family: Family,
    inner: &Rewrite,
) -> (Delta, Delta) {
    let at = quote.header_offset + ipv4::CHECKSUM;
    let before = field::<2>(frame, at).copied();
    let addresses = rewrite_addresses(frame, quote.header_offset, inner.source, inner.destination);
    let mut changed = addresses;
    if let (Family::V4, Some(before), Some(after)) = (family, before, field::<2>(frame, at)) {
        changed.replace16(before, *after);
    }
    (addresses, changed)
}

impl Embedded {
    /// Takes over ports, sequence number and message kind from the start of the quoted `segment`.
    fn read_transport(&mut self, segment: Option<&[u8]>, family: Family) -> Result<(), Malformed> {
        if !matches!(self.protocol, Protocol::TCP | Protocol::UDP) && !self.is_icmp(family) {
            return Ok(());
        }
        let start = segment
            .and_then(|segment| segment.first_chunk::<TRANSPORT_LEN_MIN>())
            .ok_or(Malformed::EmbeddedTruncated)?;
        let [a, b, c, d, e, f, g, h] = *start;
        if self.is_icmp(family) {
            let word = u32::from_be_bytes([e, f, g, h]);
            let message = Icmp {
                kind: a,
                code: b,
                word,
            };
            self.icmp_kind = Some(message.kind);
            if message.is_request(family) {
                self.source_port = message.id();
            } else if message.is_reply(family) {
                self.destination_port = message.id();
            }
            return Ok(());
        }
        self.source_port = u16::from_be_bytes([a, b]);
        self.destination_port = u16::from_be_bytes([c, d]);
        if self.protocol == Protocol::TCP {
            self.sequence = Some(u32::from_be_bytes([e, f, g, h]));
        }
        Ok(())
    }

    fn is_icmp(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.protocol == Protocol::ICMP,
            Family::V6 => self.protocol == Protocol::ICMPV6,
        }
    }

    /// What there is to rewrite behind the quoted IP header.
    fn layout(&self, family: Family) -> Option<Layout> {
        match (self.protocol, self.icmp_kind) {
            _ if self.fragment_later => None,
            (Protocol::TCP, _) => Some(Layout::Tcp),
            (Protocol::UDP, _) => Some(Layout::Udp),
            (_, Some(kind)) => {
                let message = Icmp {
                    kind,
                    code: 0,
                    word: 0,
                };
                Some(Layout::icmp(family, &message))
            }
            _ => None,
        }
    }
}

/// Whether the message is an error whose format is known to put the quote behind its eight bytes.
fn quotes(message: &Icmp, family: Family) -> bool {
    match family {
        Family::V4 => message.is_error(family),
        Family::V6 => matches!(
            message.kind,
            icmp::v6::DESTINATION_UNREACHABLE
                | icmp::v6::PACKET_TOO_BIG
                | icmp::v6::TIME_EXCEEDED
                | icmp::v6::PARAMETER_PROBLEM
        ),
    }
}

/// A quoted IP header; places count from its start.
struct Header {
    source: Address,
    destination: Address,
    protocol: Protocol,
    is_later_fragment: bool,
    /// Bytes of header, options and extension headers included.
    len: usize,
    /// Where the quoted datagram ends: by its own count or where the quote was cut.
    end: usize,
}

impl Header {
    fn parse_ipv4(quote: &[u8]) -> Result<Self, Malformed> {
        let fixed = quote
            .first_chunk::<{ ipv4::HEADER_LEN }>()
            .ok_or(Malformed::EmbeddedTruncated)?;
        let len = usize::from(fixed[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if fixed[0] >> 4 != 4 || len < ipv4::HEADER_LEN || total_len < len {
            return Err(Malformed::EmbeddedHeader);
        }
        let header = quote.get(..len).ok_or(Malformed::EmbeddedTruncated)?;
        if checksum::sum(header) != checksum::ALL_ONES {
            return Err(Malformed::EmbeddedChecksum);
        }
        let (source, destination) = ipv4::addresses(fixed);
        let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
        Ok(Self {
            source,
            destination,
            protocol: Protocol(fixed[9]),
            is_later_fragment: flags & ipv4::OFFSET_MASK != 0,
            len,
            end: total_len.min(quote.len()),
        })
    }

    fn parse_ipv6(quote: &[u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = quote
            .split_first_chunk::<{ ipv6::HEADER_LEN }>()
            .ok_or(Malformed::EmbeddedTruncated)?;
        let (source, destination) = ipv6::addresses(fixed);
        if fixed[0] >> 4 != 6 || source.is_ipv4() || destination.is_ipv4() {
            return Err(Malformed::EmbeddedHeader);
        }
        let payload_len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let rest = rest.get(..payload_len).unwrap_or(rest);
        let chain = Chain::walk(Protocol(fixed[6]), rest).map_err(|cause| match cause {
            Malformed::ExtensionTruncated | Malformed::FirstFragmentIncomplete => {
                Malformed::EmbeddedTruncated
            }
            _ => Malformed::EmbeddedHeader,
        })?;
        Ok(Self {
            source,
            destination,
            protocol: chain.protocol,
            is_later_fragment: chain.fragment.is_some_and(|field| field.offset != 0),
            len: ipv6::HEADER_LEN + usize::from(chain.len),
            end: ipv6::HEADER_LEN + rest.len(),
        })
    }
}

#[cfg(test)]
mod tests;
