//! Cutting an IPv4 datagram into fragments (RFC 791 §3.2), for a link whose MTU is too small for
//! it. IPv6 routers do not do this (RFC 8200 §4.5); only for datagrams of one's own there is `v6`.

mod v6;

pub use v6::fragment_ipv6;

use crate::Family;
use crate::checksum;
use crate::ip::{FRAGMENT_UNIT, Ip};
use crate::ipv4::{self, DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET_MASK, Options};
use crate::segment::{put_u16, saturate};
use crate::summary::Summary;

/// The longest IPv4 header: fifteen words.
const HEADER_LEN_MAX: usize = 60;

/// The bit of an option's kind that has it copied into every fragment (RFC 791 §3.1).
const OPTION_COPIED: u8 = 0x80;

/// Data comes in units of this many bytes in every fragment but the last.
const UNIT: usize = FRAGMENT_UNIT as usize;

/// Why a datagram was not fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// The frame does not carry IPv4.
    #[error("only IPv4 datagrams are fragmented on their way")]
    NotIpv4,
    /// The frame does not carry a whole IPv6 datagram.
    #[error("only whole IPv6 datagrams are fragmented by their sender")]
    NotIpv6,
    /// The sender forbade it: the answer is ICMP 3/4 (RFC 1191 §4).
    #[error("the datagram's sender forbade fragmenting it")]
    DontFragment,
    /// Not even the header and eight bytes fit.
    #[error("an MTU of {mtu} bytes is too small for any fragment of the datagram")]
    MtuTooSmall {
        /// The MTU asked for.
        mtu: usize,
    },
    /// The scratch buffer is shorter than the longest fragment.
    #[error("the scratch buffer is too short for a fragment of {needed} bytes")]
    Scratch {
        /// Bytes of the longest fragment's frame.
        needed: usize,
    },
}

/// Cuts the datagram in `frame` into fragments of at most `mtu` bytes each and hands their frames
/// to `emit` one after the other as they are built in `scratch`. Returns how many.
///
/// A datagram that fits leaves as it is, but without trailer. A fragment is cut further. The
/// transport checksum must be complete, and the identification unique (RFC 6864 §4.3): both are
/// the sender's, and stay as they are.
///
/// # Errors
///
/// Before the first fragment or not at all.
pub fn fragment_ipv4(
    frame: &[u8],
    summary: &Summary,
    mtu: usize,
    scratch: &mut [u8],
    emit: &mut dyn FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    let ip = summary
        .ip()
        .filter(|ip| ip.family() == Family::V4)
        .ok_or(FragmentError::NotIpv4)?;
    let frame = frame.get(..ip.end as usize).ok_or(FragmentError::NotIpv4)?;
    if ip.total_len() <= mtu {
        emit(frame);
        return Ok(1);
    }
    if ip.dont_fragment {
        return Err(FragmentError::DontFragment);
    }
    let cut = Cut::new(frame, ip).ok_or(FragmentError::NotIpv4)?;
    if mtu < cut.first_header.len() + UNIT {
        return Err(FragmentError::MtuTooSmall { mtu });
    }
    let needed = cut.link_header.len() + mtu;
    let scratch = scratch
        .get_mut(..needed)
        .ok_or(FragmentError::Scratch { needed })?;
    Ok(cut.emit_all(mtu, scratch, emit))
}

/// A datagram taken apart.
struct Cut<'f> {
    /// Addresses, tags and EtherType of the frame.
    link_header: &'f [u8],
    /// The header with all options.
    first_header: &'f [u8],
    /// The header with the options that go into every fragment.
    later_header: LaterHeader,
    data: &'f [u8],
    /// Where the data stands in the original datagram, in units of eight bytes.
    base: u16,
    /// Whether the datagram is itself a fragment with others behind.
    more_follow: bool,
    /// The reserved flag, kept as it came.
    reserved: u16,
}

/// A header built on the stack.
struct LaterHeader {
    bytes: [u8; HEADER_LEN_MAX],
    len: usize,
}

impl<'f> Cut<'f> {
    fn new(frame: &'f [u8], ip: &Ip) -> Option<Self> {
        let (link_header, datagram) = frame.split_at_checked(ip.header_offset.into())?;
        let (first_header, data) = datagram.split_at_checked(ip.header_len())?;
        let fixed = first_header.first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let flags = u16::from_be_bytes([fixed[ipv4::FRAGMENT], fixed[ipv4::FRAGMENT + 1]]);
        Some(Self {
            link_header,
            first_header,
            later_header: LaterHeader::new(first_header)?,
            data,
            base: flags & OFFSET_MASK,
            more_follow: flags & MORE_FRAGMENTS != 0,
            reserved: flags & !(OFFSET_MASK | MORE_FRAGMENTS | DONT_FRAGMENT),
        })
    }

    fn emit_all(&self, mtu: usize, scratch: &mut [u8], emit: &mut dyn FnMut(&[u8])) -> usize {
        let mut offset = 0;
        let mut count = 0;
        while offset < self.data.len() {
            let header = if offset == 0 {
                self.first_header
            } else {
                self.later_header.as_slice()
            };
            let rest = &self.data[offset..];
            // Only the last fragment may end inside a unit.
            let room = (mtu - header.len()) / UNIT * UNIT;
            let data = if rest.len() <= mtu - header.len() {
                rest
            } else {
                &rest[..room]
            };
            let is_last = data.len() == rest.len();
            emit(self.build(header, data, offset, is_last, scratch));
            offset += data.len();
            count += 1;
        }
        count
    }

    fn build<'s>(
        &self,
        header: &[u8],
        data: &[u8],
        offset: usize,
        is_last: bool,
        scratch: &'s mut [u8],
    ) -> &'s [u8] {
        let header_end = self.link_header.len() + header.len();
        let end = header_end + data.len();
        scratch[..self.link_header.len()].copy_from_slice(self.link_header);
        scratch[header_end..end].copy_from_slice(data);
        let packet_header = &mut scratch[self.link_header.len()..header_end];
        packet_header.copy_from_slice(header);
        let more = if is_last && !self.more_follow {
            0
        } else {
            MORE_FRAGMENTS
        };
        // The units of one datagram fit the field's thirteen bits.
        let place = self.base + saturate(offset / UNIT);
        put_u16(
            packet_header,
            ipv4::TOTAL_LENGTH,
            saturate(header.len() + data.len()),
        );
        put_u16(packet_header, ipv4::FRAGMENT, self.reserved | more | place);
        put_u16(packet_header, ipv4::CHECKSUM, 0);
        put_u16(packet_header, ipv4::CHECKSUM, !checksum::sum(packet_header));
        &scratch[..end]
    }
}

impl LaterHeader {
    /// The fixed header and the options that are copied, padded to whole words.
    fn new(first: &[u8]) -> Option<Self> {
        let (fixed, options) = first.split_at_checked(ipv4::HEADER_LEN)?;
        let mut header = Self {
            bytes: [ipv4::OPTION_END; HEADER_LEN_MAX],
            len: 0,
        };
        header.push(fixed)?;
        for option in Options::new(options) {
            let option = option.ok()?;
            if option.first().is_some_and(|kind| kind & OPTION_COPIED != 0) {
                header.push(option)?;
            }
        }
        header.len = header.len.next_multiple_of(4);
        let words = u8::try_from(header.len / 4).ok()?;
        header.bytes[0] = 0x40 | words;
        Some(header)
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes
            .get_mut(self.len..self.len + bytes.len())?
            .copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests;
