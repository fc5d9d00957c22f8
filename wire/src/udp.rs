//! UDP (RFC 768): what the summary keeps of a header.

use crate::Malformed;

/// Ports, length, checksum.
pub(crate) const HEADER_LEN: usize = 8;

/// Where the length stands in the header.
pub(crate) const LENGTH: usize = 4;

/// Where the checksum stands in the header.
pub(crate) const CHECKSUM: u16 = 6;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Bytes of data in this frame. In a first fragment this is less than the header announces;
    /// in a whole datagram with bytes behind the UDP length it leaves those out.
    pub payload_len: u32,
}

impl Udp {
    /// Reads the header at the start of `segment`. A `whole` datagram must hold what its header
    /// announces, a first fragment need not.
    #[inline(always)]
    pub(crate) fn parse(segment: &[u8], segment_len: u32, whole: bool) -> Result<Self, Malformed> {
        let Some(header) = segment.first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::TransportTruncated);
        };
        // Zero is the length of an IPv6 jumbogram (RFC 2675 §4), which is not carried here.
        let length = u32::from(u16::from_be_bytes([header[4], header[5]]));
        if length < 8 || (whole && length > segment_len) {
            return Err(Malformed::UdpLength);
        }
        Ok(Self {
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            payload_len: length.min(segment_len) - 8,
        })
    }
}
