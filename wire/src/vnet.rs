//! The header that offloads travel in (virtio 1.2 §5.1.6, `struct virtio_net_hdr`).
//!
//! A TAP or packet socket that speaks it hands over frames that are not finished: a checksum of
//! which only the pseudo-header is summed, a TCP segment or UDP datagram of up to 64 KiB that
//! someone later cuts into packets. The header says what is left to do. Whoever sent the frame
//! wrote the header too, so it is checked against the parsed frame before anything relies on it:
//! else one party could make another's kernel sum or cut where there is no checksum and no payload.

use crate::ip::Ip;
use crate::summary::{Network, Summary};
use crate::transport::Transport;
use crate::{Family, icmp, tcp, udp};

/// Bytes of the header: ten without the field `num_buffers`.
pub const VNET_HEADER_LEN: usize = 10;

/// The smallest `gso_size` that is accepted for TCP.
///
/// 536 is the segment that any host takes (RFC 9293 §3.7.1), and 40 is the most that options can
/// take from it: a sender whose peer announced 536 and who uses options cuts at 536 - 40.
pub const MIN_TCP_GSO_SIZE: u16 = 496;

/// The most datagrams that one UDP super-frame may become: what Linux sends at most
/// (`UDP_MAX_SEGMENTS`).
pub const MAX_UDP_SEGMENTS: u32 = 128;

/// Flag: the checksum at `checksum_start + checksum_offset` is partial.
const NEEDS_CHECKSUM: u8 = 0x01;

/// Flag: the checksum was verified below, or the frame never left its machine.
const DATA_VALID: u8 = 0x02;

/// Type: not a super-frame.
const GSO_NONE: u8 = 0;

/// Type: TCP over IPv4.
const GSO_TCP_V4: u8 = 1;

/// Type: TCP over IPv6.
const GSO_TCP_V6: u8 = 4;

/// Type: UDP to be cut into datagrams. (Type 3, datagrams to be cut into IP fragments, is not
/// accepted: Linux no longer makes them.)
const GSO_UDP_L4: u8 = 5;

/// Bit beside a TCP type: the super-frame has CWR set.
const GSO_ECN: u8 = 0x80;

/// The virtio-net header, its numbers in the order of the machine, which is little-endian where
/// this runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VnetHeader {
    /// What is known of the checksum.
    pub flags: u8,
    /// Whether and how the frame is to be cut.
    pub gso_type: u8,
    /// How long the sender thinks the headers are. A hint, never trusted.
    pub header_len: u16,
    /// Bytes of payload for each packet that a super-frame is cut into.
    pub gso_size: u16,
    /// Where summing begins, from the start of the frame.
    pub checksum_start: u16,
    /// Where the checksum stands, from `checksum_start`.
    pub checksum_offset: u16,
}

/// What a super-frame is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gso {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either family.
    Udp,
}

/// Why a virtio-net header does not fit its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum VnetError {
    /// A flag other than NEEDS_CSUM and DATA_VALID.
    #[error("the virtio-net header has an unknown flag")]
    UnknownFlags,
    /// A kind of super-frame that was never offered, or the ECN bit beside one that is not TCP.
    #[error("the virtio-net header has an unknown GSO type")]
    UnknownGso,
    /// A partial checksum where there is no transport header to hold it.
    #[error("the virtio-net header asks for a checksum that the frame does not have")]
    ChecksumAbsent,
    /// A partial checksum somewhere else than in the transport header.
    #[error("the virtio-net header places the checksum outside the transport header")]
    ChecksumPlace,
    /// A super-frame whose checksum is not partial.
    #[error("the virtio-net header has GSO without a partial checksum")]
    GsoWithoutChecksum,
    /// A super-frame of another protocol or family than the type says.
    #[error("the virtio-net header's GSO type does not fit the frame's protocol")]
    GsoProtocol,
    /// A super-frame that has already been fragmented.
    #[error("the virtio-net header has GSO on a fragment")]
    GsoFragment,
    /// Segments smaller than [`MIN_TCP_GSO_SIZE`] for TCP, or of no bytes for UDP.
    #[error("the virtio-net header's segment size is too small")]
    GsoSize,
    /// More datagrams than [`MAX_UDP_SEGMENTS`].
    #[error("the virtio-net header would cut the frame into too many datagrams")]
    TooManySegments,
    /// Bytes behind the payload of a super-frame: whoever cuts it would send them as payload.
    #[error("the super-frame has bytes behind its payload")]
    GsoTrailer,
}

impl VnetError {
    /// All of them, in the order of [`VnetError::index`].
    pub const ALL: [Self; 10] = [
        Self::UnknownFlags,
        Self::UnknownGso,
        Self::ChecksumAbsent,
        Self::ChecksumPlace,
        Self::GsoWithoutChecksum,
        Self::GsoProtocol,
        Self::GsoFragment,
        Self::GsoSize,
        Self::TooManySegments,
        Self::GsoTrailer,
    ];

    /// The place in [`VnetError::ALL`]: an index for counters.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl VnetHeader {
    /// The same for a frame that has so many octets less in front of its transport header.
    #[must_use]
    pub fn without_octets(self, octets: usize) -> Self {
        let octets = u16::try_from(octets).unwrap_or(u16::MAX);
        Self {
            header_len: self.header_len.saturating_sub(octets),
            checksum_start: self.checksum_start.saturating_sub(octets),
            ..self
        }
    }

    /// A finished frame: nothing is left to do, nothing is known of the checksum.
    pub const NONE: Self = Self {
        flags: 0,
        gso_type: GSO_NONE,
        header_len: 0,
        gso_size: 0,
        checksum_start: 0,
        checksum_offset: 0,
    };

    /// Reads a header.
    #[must_use]
    #[inline]
    pub const fn parse(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let [flags, gso_type, a, b, c, d, e, f, g, h] = *bytes;
        Self {
            flags,
            gso_type,
            header_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            checksum_start: u16::from_le_bytes([e, f]),
            checksum_offset: u16::from_le_bytes([g, h]),
        }
    }

    /// Reads the header in front of a frame; returns it and the frame. `None` if there is not even a
    /// header.
    #[must_use]
    #[inline]
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, frame) = bytes.split_first_chunk()?;
        Some((Self::parse(header), frame))
    }

    /// Writes the header.
    #[must_use]
    #[inline]
    pub const fn emit(&self) -> [u8; VNET_HEADER_LEN] {
        let [a, b] = self.header_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.checksum_start.to_le_bytes();
        let [g, h] = self.checksum_offset.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }

    /// The header for a frame with a partial checksum in the transport header of `ip`, cut at
    /// `gso` if given; `None` if that header has no checksum that can be partial.
    #[must_use]
    pub fn partial(ip: &Ip, gso: Option<(Gso, u16)>) -> Option<Self> {
        let (transport_len, checksum_offset) = checksum_place(ip)?;
        let transport_offset = u16::try_from(ip.transport_offset).ok()?;
        let (gso_type, gso_size) = match gso {
            None => (GSO_NONE, 0),
            Some((Gso::TcpV4, size)) => (GSO_TCP_V4, size),
            Some((Gso::TcpV6, size)) => (GSO_TCP_V6, size),
            Some((Gso::Udp, size)) => (GSO_UDP_L4, size),
        };
        Some(Self {
            flags: NEEDS_CHECKSUM,
            gso_type,
            header_len: transport_offset.saturating_add(transport_len),
            gso_size,
            checksum_start: transport_offset,
            checksum_offset,
        })
    }

    /// Whether the checksum is partial: its field holds the sum of the pseudo-header.
    #[must_use]
    #[inline]
    pub const fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }

    /// Whether a partial checksum lies in what a frame of `frame_len` bytes carries, wherever there. No
    /// protocol has one in the link layer, and completing it there would change who the frame is for.
    #[must_use]
    pub fn checksum_is_carried(&self, frame_len: usize, summary: &Summary) -> bool {
        let place = usize::from(self.checksum_start) + usize::from(self.checksum_offset);
        self.needs_checksum()
            && self.checksum_start >= summary.network_offset
            && place + 2 <= frame_len
    }

    /// Whether the checksum was verified already.
    #[must_use]
    #[inline]
    pub const fn data_valid(&self) -> bool {
        self.flags & DATA_VALID != 0
    }

    /// What the super-frame is made of; `None` for a frame that is not to be cut.
    #[must_use]
    #[inline]
    pub const fn gso(&self) -> Option<Gso> {
        match self.gso_type & !GSO_ECN {
            GSO_TCP_V4 => Some(Gso::TcpV4),
            GSO_TCP_V6 => Some(Gso::TcpV6),
            GSO_UDP_L4 => Some(Gso::Udp),
            _ => None,
        }
    }

    /// Checks the header against the frame of `frame_len` bytes that it came with.
    ///
    /// # Errors
    ///
    /// The first promise of the header that the frame does not keep.
    #[inline(always)]
    pub fn check(&self, frame_len: usize, summary: &Summary) -> Result<(), VnetError> {
        if self.flags | self.gso_type == 0 {
            return Ok(());
        }
        self.check_promises(frame_len, summary)
    }

    fn check_promises(&self, frame_len: usize, summary: &Summary) -> Result<(), VnetError> {
        if self.flags & !(NEEDS_CHECKSUM | DATA_VALID) != 0 {
            return Err(VnetError::UnknownFlags);
        }
        if self.needs_checksum() {
            let Network::Ip(ip) = &summary.network else {
                return Err(VnetError::ChecksumAbsent);
            };
            if ip.fragment.is_part() {
                return Err(VnetError::ChecksumAbsent);
            }
            let Some((_, checksum_offset)) = checksum_place(ip) else {
                return Err(VnetError::ChecksumAbsent);
            };
            if u32::from(self.checksum_start) != ip.transport_offset
                || self.checksum_offset != checksum_offset
            {
                return Err(VnetError::ChecksumPlace);
            }
        }
        if self.gso_type == GSO_NONE {
            Ok(())
        } else {
            self.check_gso(frame_len, summary)
        }
    }

    fn check_gso(&self, frame_len: usize, summary: &Summary) -> Result<(), VnetError> {
        let gso = self.gso().ok_or(VnetError::UnknownGso)?;
        if gso == Gso::Udp && self.gso_type & GSO_ECN != 0 {
            return Err(VnetError::UnknownGso);
        }
        let ip = summary.ip().ok_or(VnetError::GsoProtocol)?;
        if ip.fragment.is_part() {
            return Err(VnetError::GsoFragment);
        }
        let end = match (gso, ip.family(), &ip.transport) {
            (Gso::TcpV4, Family::V4, Transport::Tcp(_))
            | (Gso::TcpV6, Family::V6, Transport::Tcp(_)) => {
                if self.gso_size < MIN_TCP_GSO_SIZE {
                    return Err(VnetError::GsoSize);
                }
                ip.end
            }
            (Gso::Udp, _, Transport::Udp(udp)) => {
                if self.gso_size == 0 {
                    return Err(VnetError::GsoSize);
                }
                if udp.payload_len.div_ceil(u32::from(self.gso_size)) > MAX_UDP_SEGMENTS {
                    return Err(VnetError::TooManySegments);
                }
                ip.transport_offset + 8 + udp.payload_len
            }
            _ => return Err(VnetError::GsoProtocol),
        };
        if !self.needs_checksum() {
            return Err(VnetError::GsoWithoutChecksum);
        }
        if end as usize != frame_len {
            return Err(VnetError::GsoTrailer);
        }
        Ok(())
    }

    /// The longest IP datagram that the frame becomes on a link without offloads: what an MTU is
    /// compared with. 0 for a frame without a datagram.
    #[must_use]
    #[inline]
    pub fn largest_segment_len(&self, summary: &Summary) -> usize {
        let Network::Ip(ip) = &summary.network else {
            return 0;
        };
        let transport_len = match (self.gso(), &ip.transport) {
            (None, _) => return ip.total_len(),
            (Some(_), Transport::Tcp(tcp)) => usize::from(tcp.header_len),
            (Some(_), _) => udp::HEADER_LEN,
        };
        let cut = ip.header_len() + transport_len + usize::from(self.gso_size);
        cut.min(ip.total_len())
    }
}

/// The length of the transport header, and where in it the checksum stands that may be partial.
/// IPv4's ICMP is not here: it has no pseudo-header, and no sender leaves its checksum to others.
#[inline(always)]
fn checksum_place(ip: &Ip) -> Option<(u16, u16)> {
    let (len, offset) = match &ip.transport {
        Transport::Tcp(tcp) => (u16::from(tcp.header_len), tcp::CHECKSUM),
        Transport::Udp(_) => (8, udp::CHECKSUM),
        Transport::Icmp(_) if ip.family() == Family::V6 => (8, icmp::CHECKSUM),
        Transport::Icmp(_) | Transport::Other | Transport::Absent => return None,
    };
    Some((len, offset))
}

#[cfg(test)]
mod tests;
