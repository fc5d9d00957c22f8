//! Cutting an IPv6 datagram of one's own into fragments (RFC 8200 §4.5).

use super::{FragmentError, UNIT};
use crate::ip::Ip;
use crate::ipv6::{self, FRAGMENT_HEADER_LEN};
use crate::segment::{put_u16, saturate};
use crate::summary::Summary;
use crate::{Family, Protocol};

/// Cuts the datagram in `frame` into fragments of at most `mtu` bytes each, all with the identification
/// `id`, and hands their frames to `emit` one after the other as they are built in `scratch`. Returns
/// how many.
///
/// For the sender of the datagram alone: routers do not cut IPv6. A datagram that fits leaves as it is,
/// but without trailer; one that is itself a fragment is refused. The transport checksum must be
/// complete.
///
/// # Errors
///
/// Before the first fragment or not at all.
pub fn fragment_ipv6(
    frame: &[u8],
    summary: &Summary,
    mtu: usize,
    id: u32,
    scratch: &mut [u8],
    emit: &mut dyn FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    let ip = summary
        .ip()
        .filter(|ip| ip.family() == Family::V6 && !ip.fragment.is_part())
        .ok_or(FragmentError::NotIpv6)?;
    let frame = frame.get(..ip.end as usize).ok_or(FragmentError::NotIpv6)?;
    if ip.total_len() <= mtu {
        emit(frame);
        return Ok(1);
    }
    let cut = Cut::new(frame, ip).ok_or(FragmentError::NotIpv6)?;
    let headers = cut.headers.len() - usize::from(ip.header_offset) + FRAGMENT_HEADER_LEN;
    let room = mtu.saturating_sub(headers) / UNIT * UNIT;
    if room == 0 {
        return Err(FragmentError::MtuTooSmall { mtu });
    }
    let needed = usize::from(ip.header_offset) + mtu;
    let scratch = scratch
        .get_mut(..needed)
        .ok_or(FragmentError::Scratch { needed })?;
    Ok(cut.emit_all(room, mtu - headers, id, scratch, emit))
}

/// A datagram taken apart.
struct Cut<'f> {
    /// The Ethernet header, and what of the IP headers stands in every fragment.
    headers: &'f [u8],
    /// Where the IP header starts.
    header_offset: usize,
    /// Where the kind of the first header behind those is named.
    named: usize,
    data: &'f [u8],
}

impl<'f> Cut<'f> {
    /// Every fragment repeats the headers that routers on the way look at: up to the routing header, or
    /// the hop-by-hop options.
    fn new(frame: &'f [u8], ip: &Ip) -> Option<Self> {
        let header_offset = usize::from(ip.header_offset);
        let mut named = header_offset + ipv6::NEXT_HEADER;
        let mut place = header_offset + ipv6::HEADER_LEN;
        let (mut repeated, mut last_named) = (place, named);
        loop {
            let kind = Protocol(*frame.get(named)?);
            if !matches!(
                kind,
                Protocol::HOP_BY_HOP | Protocol::ROUTING | Protocol::DESTINATION_OPTIONS
            ) {
                break;
            }
            let units = usize::from(*frame.get(place + 1)?);
            named = place;
            place += (units + 1) * 8;
            if kind != Protocol::DESTINATION_OPTIONS {
                (repeated, last_named) = (place, named);
            }
        }
        let (headers, data) = frame.split_at_checked(repeated)?;
        Some(Self {
            headers,
            header_offset,
            named: last_named,
            data,
        })
    }

    /// `room` is what all fragments but the last one hold at most, which may have `last_room`.
    fn emit_all(
        &self,
        room: usize,
        last_room: usize,
        id: u32,
        scratch: &mut [u8],
        emit: &mut dyn FnMut(&[u8]),
    ) -> usize {
        let mut offset = 0;
        let mut count = 0;
        while offset < self.data.len() {
            let rest = &self.data[offset..];
            let is_last = rest.len() <= last_room;
            let data = if is_last { rest } else { &rest[..room] };
            emit(self.build(data, offset, is_last, id, scratch));
            offset += data.len();
            count += 1;
        }
        count
    }

    fn build<'s>(
        &self,
        data: &[u8],
        offset: usize,
        is_last: bool,
        id: u32,
        scratch: &'s mut [u8],
    ) -> &'s [u8] {
        let place = self.headers.len();
        let end = place + FRAGMENT_HEADER_LEN + data.len();
        scratch[..place].copy_from_slice(self.headers);
        scratch[self.named] = Protocol::FRAGMENT.0;
        // Offsets are multiples of eight, so the lower bits are free for the flag.
        let field = saturate(offset) | u16::from(!is_last);
        scratch[place] = self.headers[self.named];
        scratch[place + 1] = 0;
        put_u16(scratch, place + 2, field);
        scratch[place + 4..place + FRAGMENT_HEADER_LEN].copy_from_slice(&id.to_be_bytes());
        scratch[place + FRAGMENT_HEADER_LEN..end].copy_from_slice(data);
        let payload = end - self.header_offset - ipv6::HEADER_LEN;
        put_u16(
            scratch,
            self.header_offset + ipv6::PAYLOAD_LENGTH,
            saturate(payload),
        );
        &scratch[..end]
    }
}
