//! Finishing in software what the virtio-net header left to do, for an endpoint that does not take
//! the header: completing a checksum, cutting a super-frame into packets.

use crate::checksum;
use crate::ip::Ip;
use crate::rewrite::field;
use crate::summary::Summary;
use crate::tcp::{self, Tcp, TcpFlags};
use crate::transport::Transport;
use crate::vnet::{VnetError, VnetHeader};
use crate::{Family, ipv4, ipv6, udp};

/// Why a super-frame was not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The frame is not a super-frame: [`complete_checksum`] finishes it.
    #[error("the frame is not a super-frame")]
    NotGso,
    /// The virtio-net header does not fit the frame.
    #[error(transparent)]
    Header(#[from] VnetError),
    /// The scratch buffer is shorter than the longest segment.
    #[error("the scratch buffer is too short for a segment of {needed} bytes")]
    Scratch {
        /// Bytes of the longest segment's frame.
        needed: usize,
    },
}

/// Replaces a partial checksum by the full one; does nothing for a frame without one.
///
/// Sums up to the end of the frame (virtio 1.2 §5.1.6.2). A place outside the frame, which
/// [`VnetHeader::check`] refuses, leaves the frame as it is.
pub fn complete_checksum(frame: &mut [u8], header: &VnetHeader) {
    if !header.needs_checksum() {
        return;
    }
    let Some(covered) = frame.get_mut(usize::from(header.checksum_start)..) else {
        return;
    };
    // The field holds the pseudo-header's sum and so is summed where it stands.
    let checksum = !checksum::sum(covered);
    let is_udp = header.checksum_offset == udp::CHECKSUM;
    if let Some(place) = field(covered, header.checksum_offset.into()) {
        // RFC 768: zero says "none" and is sent as all ones.
        *place = if checksum == 0 && is_udp {
            [0xff; 2]
        } else {
            checksum.to_be_bytes()
        };
    }
}

/// Cuts a super-frame into the packets that it stands for, each with complete checksums, and hands
/// them to `emit` one after the other as they are built in `scratch`. Returns how many.
///
/// `header` is checked against the frame once more, so that nothing is cut on its word alone. A
/// super-frame whose payload fits into one segment becomes one packet.
///
/// # Errors
///
/// Before the first packet or not at all.
pub fn segment(
    frame: &[u8],
    summary: &Summary,
    header: &VnetHeader,
    scratch: &mut [u8],
    emit: &mut dyn FnMut(&[u8]),
) -> Result<usize, SegmentError> {
    if header.gso().is_none() {
        return Err(SegmentError::NotGso);
    }
    header.check(frame.len(), summary)?;
    let ip = summary.ip().ok_or(VnetError::GsoProtocol)?;
    let transport_len = match &ip.transport {
        Transport::Tcp(tcp) => usize::from(tcp.header_len),
        _ => udp::HEADER_LEN,
    };
    let headers_len = ip.transport_offset as usize + transport_len;
    let size = usize::from(header.gso_size);
    let (headers, payload) = frame
        .split_at_checked(headers_len)
        .ok_or(VnetError::GsoProtocol)?;
    let needed = headers_len + size.min(payload.len());
    let scratch = scratch
        .get_mut(..needed)
        .ok_or(SegmentError::Scratch { needed })?;
    scratch[..headers_len].copy_from_slice(headers);

    // A super-frame without payload is one packet as well.
    let count = payload.len().div_ceil(size).max(1);
    for index in 0..count {
        let offset = index * size;
        let data = &payload[offset..payload.len().min(offset + size)];
        let packet = &mut scratch[..headers_len + data.len()];
        packet[headers_len..].copy_from_slice(data);
        let piece = Piece {
            index,
            offset,
            is_last: index + 1 == count,
        };
        piece.write_ip(packet, headers, ip);
        piece.write_transport(packet, ip);
        emit(packet);
    }
    Ok(count)
}

/// One of the packets that a super-frame is cut into.
#[derive(Clone, Copy)]
struct Piece {
    index: usize,
    /// Bytes of payload that went before.
    offset: usize,
    is_last: bool,
}

impl Piece {
    /// Makes the IP header in `packet` fit its length. Each packet of one IPv4 super-frame has an
    /// identification of its own, counted up from the original's: they are different datagrams.
    fn write_ip(self, packet: &mut [u8], original: &[u8], ip: &Ip) {
        let start = usize::from(ip.header_offset);
        let Some(datagram) = packet.get_mut(start..) else {
            return;
        };
        let len = datagram.len();
        match ip.family() {
            Family::V4 => {
                let Some(header) = datagram.get_mut(..ip.header_len()) else {
                    return;
                };
                put_u16(header, ipv4::TOTAL_LENGTH, saturate(len));
                let id = original
                    .get(start + ipv4::IDENTIFICATION..)
                    .and_then(|rest| rest.first_chunk())
                    .map_or(0, |bytes| u16::from_be_bytes(*bytes));
                put_u16(
                    header,
                    ipv4::IDENTIFICATION,
                    id.wrapping_add(saturate(self.index)),
                );
                put_u16(header, ipv4::CHECKSUM, 0);
                put_u16(header, ipv4::CHECKSUM, !checksum::sum(header));
            }
            Family::V6 => {
                let payload_len = len.saturating_sub(ipv6::HEADER_LEN);
                put_u16(datagram, ipv6::PAYLOAD_LENGTH, saturate(payload_len));
            }
        }
    }

    /// Makes the transport header in `packet` fit its place among the others and completes its
    /// checksum.
    fn write_transport(self, packet: &mut [u8], ip: &Ip) {
        let Some(segment) = packet.get_mut(ip.transport_offset as usize..) else {
            return;
        };
        let place = match &ip.transport {
            Transport::Tcp(header) => {
                self.write_tcp(segment, header);
                tcp::CHECKSUM
            }
            _ => {
                put_u16(segment, udp::LENGTH, saturate(segment.len()));
                udp::CHECKSUM
            }
        };
        put_u16(segment, place.into(), 0);
        let len = u32::from(saturate(segment.len()));
        let mut sum = checksum::pseudo_header(ip.source, ip.destination, ip.protocol, len);
        sum.add(segment);
        let checksum = match sum.finish() {
            // RFC 768: zero says "none" and is sent as all ones.
            0 if place == udp::CHECKSUM => 0xffff,
            checksum => checksum,
        };
        put_u16(segment, place.into(), checksum);
    }

    /// The sequence number moves on; FIN and PSH are about the end of the data and CWR about its
    /// beginning (RFC 3168 §6.1.2), so they stand only there.
    fn write_tcp(self, segment: &mut [u8], header: &Tcp) {
        let sequence = header
            .sequence
            .wrapping_add(u32::from(saturate(self.offset)));
        if let Some(place) = field(segment, tcp::SEQUENCE) {
            *place = sequence.to_be_bytes();
        }
        let mut flags = header.flags;
        if !self.is_last {
            flags = flags.without(TcpFlags::FIN | TcpFlags::PSH);
        }
        if self.index != 0 {
            flags = flags.without(TcpFlags::CWR);
        }
        if let Some(place) = segment.get_mut(tcp::FLAGS) {
            *place = flags.0;
        }
    }
}

/// Writes a number in network order; nothing if it does not fit, which a checked frame excludes.
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = field(bytes, at) {
        *place = value.to_be_bytes();
    }
}

/// A length inside one datagram, which 16 bits hold.
pub(crate) fn saturate(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
