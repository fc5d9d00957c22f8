//! The IPv6 header (RFC 8200 §3) and its extension headers (§4).

use crate::ip::{Fragment, FragmentField, Ip, IpOptions};
use crate::transport::Transport;
use crate::{Address, Family, Malformed, Protocol};

/// Extension headers that a datagram may have. RFC 8883 allows for such limits and gives them ICMPv6
/// errors; honest packets have one or two.
pub const EXTENSION_HEADERS_MAX: usize = 8;

/// Bytes of extension headers that a datagram may have, likewise. Room for one segment routing
/// header with a dozen hops; what is longer hides something.
pub const EXTENSION_HEADERS_LEN_MAX: usize = 256;

/// The fixed header.
pub(crate) const HEADER_LEN: usize = 40;

/// Where the payload length stands in the header.
pub(crate) const PAYLOAD_LENGTH: usize = 4;

/// Where the kind of the next header stands in the header.
pub(crate) const NEXT_HEADER: usize = 6;

/// Where the hop limit stands in the header.
pub(crate) const HOP_LIMIT: usize = 7;

/// Where the source stands in the header.
pub(crate) const SOURCE: usize = 8;

/// Where the destination stands in the header.
pub(crate) const DESTINATION: usize = 24;

/// A fragment header's length, which its second byte does not say.
pub(crate) const FRAGMENT_HEADER_LEN: usize = 8;

/// A fragment header's bit "more fragments".
const MORE_FRAGMENTS: u16 = 0x0001;

/// A fragment header's offset, in bytes once the three lower bits are masked.
const OFFSET_MASK: u16 = 0xfff8;

/// Option kind: one byte of padding.
const OPTION_PAD1: u8 = 0;

/// Option kind: jumbo payload, RFC 2675 §2.
const OPTION_JUMBO: u8 = 0xc2;

/// Reads the datagram at `offset` of `frame`.
pub(crate) fn parse(frame: &[u8], offset: u16) -> Result<Ip, Malformed> {
    let packet = frame
        .get(usize::from(offset)..)
        .ok_or(Malformed::Ipv6Truncated)?;
    let (header, payload) = packet
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(Malformed::Ipv6Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Malformed::Ipv6Version);
    }
    let (source, destination) = addresses(header);
    if source.is_ipv4() || destination.is_ipv4() {
        return Err(Malformed::Ipv6MappedAddress);
    }
    let payload_len = payload_len(header);
    let payload = payload
        .get(..usize::from(payload_len))
        .ok_or(Malformed::Ipv6PayloadLength)?;
    let first = Protocol(header[NEXT_HEADER]);
    // RFC 2675 §3: zero beside a hop-by-hop header, which then holds the length.
    if payload_len == 0 && first == Protocol::HOP_BY_HOP {
        return Err(Malformed::Ipv6Jumbogram);
    }
    let chain = Chain::walk(first, payload)?;
    let segment = payload
        .get(usize::from(chain.len)..)
        .ok_or(Malformed::ExtensionTruncated)?;
    let segment_len = u32::from(payload_len) - u32::from(chain.len);
    let Chain {
        protocol, options, ..
    } = chain;
    let fragment = match chain.fragment {
        None => Fragment::Whole,
        Some(field) => field.check(u32::from(chain.unfragmented_len), segment_len, protocol)?,
    };
    let transport = match fragment {
        Fragment::Whole => Transport::parse(Family::V6, protocol, segment, segment_len, true)?,
        Fragment::First { .. } => {
            Transport::parse_first_fragment(Family::V6, protocol, segment, segment_len)?
        }
        Fragment::Later { .. } => Transport::Absent,
    };
    Ok(Ip {
        options,
        fragment,
        ..plain(header, offset, chain.len, protocol, transport)
    })
}

/// [`parse`] for the usual datagram: no extension headers, so that `protocol` is what the caller
/// has seen in the header and the compiler leaves out the others. `None` if it is not the usual
/// one or is malformed.
#[inline(always)]
pub(crate) fn parse_usual(frame: &[u8], offset: u16, protocol: Protocol) -> Option<Ip> {
    let packet = frame.get(usize::from(offset)..)?;
    let (header, payload) = packet.split_first_chunk::<HEADER_LEN>()?;
    let (source, destination) = addresses(header);
    // Cheaper than asking for mapped addresses, of which it is true as well: among unicast
    // addresses only `::`, `::1` and those that embed IPv4 addresses are that small.
    let is_small = source.bits() >> 64 == 0 || destination.bits() >> 64 == 0;
    if header[0] >> 4 != 6 || is_small {
        return None;
    }
    let payload_len = payload_len(header);
    let segment = payload.get(..usize::from(payload_len))?;
    let segment_len = u32::from(payload_len);
    let transport = Transport::parse(Family::V6, protocol, segment, segment_len, true).ok()?;
    Some(plain(header, offset, 0, protocol, transport))
}

/// The datagram with this header and `extensions_len` bytes of extension headers, whole.
#[inline(always)]
fn plain(
    header: &[u8; HEADER_LEN],
    offset: u16,
    extensions_len: u16,
    protocol: Protocol,
    transport: Transport,
) -> Ip {
    let (source, destination) = addresses(header);
    let payload_offset = u32::from(offset) + 40;
    Ip {
        source,
        destination,
        protocol,
        hop_limit: header[HOP_LIMIT],
        traffic_class: (header[0] << 4) | (header[1] >> 4),
        header_offset: offset,
        transport_offset: payload_offset + u32::from(extensions_len),
        end: payload_offset + u32::from(payload_len(header)),
        fragment: Fragment::Whole,
        dont_fragment: true,
        options: IpOptions::NONE,
        transport,
    }
}

#[inline(always)]
fn payload_len(header: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes([header[PAYLOAD_LENGTH], header[PAYLOAD_LENGTH + 1]])
}

/// Source and destination of a header.
#[inline(always)]
pub(crate) fn addresses(header: &[u8; HEADER_LEN]) -> (Address, Address) {
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source.copy_from_slice(&header[8..24]);
    destination.copy_from_slice(&header[24..40]);
    let value = |bytes| Address::from_bits(u128::from_be_bytes(bytes));
    (value(source), value(destination))
}

/// The extension headers of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// What comes behind them.
    pub(crate) protocol: Protocol,
    /// Their bytes.
    pub(crate) len: u16,
    /// The bytes before the fragment header: those that re-assembly keeps.
    unfragmented_len: u16,
    pub(crate) fragment: Option<FragmentField>,
    pub(crate) options: IpOptions,
}

impl Chain {
    /// Walks from the header of kind `first` at the start of `payload` to the upper layer, or to
    /// the end of a later fragment's fragment header.
    ///
    /// The authentication header is walked through although its datagram cannot be translated:
    /// whoever guards against router advertisements must see what stands behind (RFC 7113 §3).
    pub(crate) fn walk(first: Protocol, payload: &[u8]) -> Result<Self, Malformed> {
        let mut chain = Self {
            protocol: first,
            len: 0,
            unfragmented_len: 0,
            fragment: None,
            options: IpOptions::NONE,
        };
        for _ in 0..EXTENSION_HEADERS_MAX {
            if !chain.step(payload)? {
                return Ok(chain);
            }
            if usize::from(chain.len) > EXTENSION_HEADERS_LEN_MAX {
                return Err(Malformed::ExtensionsTooLong);
            }
        }
        if chain.is_at_extension() {
            Err(Malformed::ExtensionsTooMany)
        } else {
            Ok(chain)
        }
    }

    /// Whether one more extension header follows.
    fn is_at_extension(&self) -> bool {
        let is_later = self.fragment.is_some_and(|field| field.offset != 0);
        !is_later
            && matches!(
                self.protocol,
                Protocol::HOP_BY_HOP
                    | Protocol::ROUTING
                    | Protocol::FRAGMENT
                    | Protocol::AUTHENTICATION
                    | Protocol::DESTINATION_OPTIONS
            )
    }

    /// Takes in one extension header; false if there is none.
    fn step(&mut self, payload: &[u8]) -> Result<bool, Malformed> {
        if !self.is_at_extension() {
            return Ok(false);
        }
        let rest = payload.get(usize::from(self.len)..).unwrap_or_default();
        // The shortest extension header is the unit in which all but one are counted.
        let start = rest.first_chunk::<8>().ok_or_else(|| self.truncated())?;
        let len = match self.protocol {
            Protocol::FRAGMENT => FRAGMENT_HEADER_LEN,
            // In words of four bytes, less two (RFC 4302 §2.2); three words are its fixed part.
            Protocol::AUTHENTICATION if start[1] == 0 => return Err(self.truncated()),
            Protocol::AUTHENTICATION => (usize::from(start[1]) + 2) * 4,
            _ => (usize::from(start[1]) + 1) * 8,
        };
        let header = rest.get(..len).ok_or_else(|| self.truncated())?;
        match self.protocol {
            Protocol::HOP_BY_HOP => {
                if self.len != 0 {
                    return Err(Malformed::ExtensionOrder);
                }
                check_options(header)?;
                self.note(IpOptions::HOP_BY_HOP);
            }
            Protocol::DESTINATION_OPTIONS => {
                check_options(header)?;
                self.note(IpOptions::DESTINATION);
            }
            Protocol::ROUTING if start[2] == 0 => self.note(IpOptions::ROUTING_TYPE_0),
            Protocol::ROUTING => self.note(IpOptions::ROUTING),
            Protocol::AUTHENTICATION => self.note(IpOptions::AUTHENTICATION),
            _ => self.note_fragment(start)?,
        }
        self.protocol = Protocol(start[0]);
        // At most EXTENSION_HEADERS_LEN_MAX from before plus one header of 2,048 bytes.
        self.len = self
            .len
            .saturating_add(u16::try_from(len).unwrap_or(u16::MAX));
        Ok(true)
    }

    fn note(&mut self, option: IpOptions) {
        self.options = self.options | option;
    }

    fn note_fragment(&mut self, header: &[u8; FRAGMENT_HEADER_LEN]) -> Result<(), Malformed> {
        if self.fragment.is_some() {
            return Err(Malformed::ExtensionOrder);
        }
        let field = u16::from_be_bytes([header[2], header[3]]);
        self.note(IpOptions::FRAGMENT_HEADER);
        self.unfragmented_len = self.len;
        self.fragment = Some(FragmentField {
            id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            offset: field & OFFSET_MASK,
            more: field & MORE_FRAGMENTS != 0,
        });
        Ok(())
    }

    fn truncated(&self) -> Malformed {
        if self.fragment.is_some_and(FragmentField::is_first) {
            Malformed::FirstFragmentIncomplete
        } else {
            Malformed::ExtensionTruncated
        }
    }
}

/// Walks the options of a hop-by-hop or destination options header (RFC 8200 §4.2).
fn check_options(header: &[u8]) -> Result<(), Malformed> {
    let mut rest = header.get(2..).unwrap_or_default();
    loop {
        rest = match *rest {
            [] => return Ok(()),
            [OPTION_PAD1, ref rest @ ..] => rest,
            [OPTION_JUMBO, ..] => return Err(Malformed::Ipv6Jumbogram),
            [_, length, ref rest @ ..] => rest
                .get(usize::from(length)..)
                .ok_or(Malformed::ExtensionOptions)?,
            [_] => return Err(Malformed::ExtensionOptions),
        };
    }
}
