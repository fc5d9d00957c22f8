//! A frame on its way through the switch.

use heddle_mem::Buffer;
use heddle_wire::{
    Ip, Malformed, Summary, Transport, VNET_HEADER_LEN, VnetError, VnetHeader, complete_checksum,
    ethernet, set_identification,
};

use crate::drop::DropReason;
use crate::endpoint::FRAME_SPACE;
use crate::port::PortId;
use crate::reassembly::{Assembly, FRAGMENTS_MAX, HEADERS_LEN_MAX, Parts};

/// A frame in the memory of its burst, parsed once. It is gone when the burst is.
#[derive(Debug)]
pub struct Frame<'b> {
    /// Virtio-net header and Ethernet frame.
    bytes: &'b mut [u8],
    /// The virtio-net header, checked against the frame.
    pub(crate) header: VnetHeader,
    /// What the frame says. Rewriting does not change it: it tells how the frame *arrived*.
    pub(crate) summary: &'b Summary,
    /// The fragments that it came in, and leaves in, if it came in fragments.
    parts: Option<&'b mut Parts>,
}

impl<'b> Frame<'b> {
    /// Parses virtio-net header and frame and checks that they fit each other. `summary` is where what
    /// the frame says is kept.
    #[inline(always)]
    pub(crate) fn parse(
        bytes: &'b mut [u8],
        summary: &'b mut Summary,
    ) -> Result<Frame<'b>, DropReason> {
        let Some((mut header, frame)) = VnetHeader::split(bytes) else {
            return Err(Malformed::FrameTooShort.into());
        };
        summary.read(frame)?;
        if let Err(error) = header.check(frame.len(), summary) {
            complete_foreign(bytes, &header, summary, error)?;
            header = VnetHeader::NONE;
        }
        Ok(Frame {
            bytes,
            header,
            summary,
            parts: None,
        })
    }

    /// A datagram that came in fragments.
    pub(crate) fn assembled(
        assembly: &'b mut Assembly,
        summary: &'b mut Summary,
    ) -> Result<Frame<'b>, DropReason> {
        let (bytes, parts) = assembly.split();
        let mut frame = Frame::parse(bytes, summary)?;
        frame.parts = Some(parts);
        Ok(frame)
    }

    /// Completes the transport checksum if that was left to somebody further on. Not for super-frames,
    /// which have one checksum for each packet they stand for.
    pub(crate) fn complete_checksum(&mut self) {
        if self.header.needs_checksum() && self.header.gso().is_none() {
            finish_checksum(self.bytes, &self.header);
            self.header = VnetHeader::NONE;
        }
    }

    /// Whether the frame has one tag, of VLAN 0: it says a priority and nothing else (IEEE 802.1Q
    /// §6.9.1).
    pub(crate) fn is_priority_tagged(&self) -> bool {
        self.summary.tags == 1 && self.summary.vlan_id() == Some(0)
    }

    /// The frame without its only tag, which it is to all but bridges if that says only a priority.
    /// `summary` is where what it says then is kept. Nothing if that cannot be read.
    #[cold]
    pub(crate) fn without_tag<'s>(&'s mut self, summary: &'s mut Summary) -> Option<Frame<'s>> {
        const ADDRESSES: usize = 2 * 6;
        let tag = ethernet::TAG_LEN;
        self.bytes.copy_within(
            VNET_HEADER_LEN..VNET_HEADER_LEN + ADDRESSES,
            VNET_HEADER_LEN + tag,
        );
        let header = self.header.without_octets(tag);
        let bytes = &mut self.bytes[tag..];
        bytes[..VNET_HEADER_LEN].copy_from_slice(&header.emit());
        summary.read(&bytes[VNET_HEADER_LEN..]).ok()?;
        Some(Frame {
            bytes,
            header,
            summary,
            parts: self.parts.as_deref_mut(),
        })
    }

    /// The Ethernet frame.
    pub(crate) fn ethernet(&self) -> &[u8] {
        &self.bytes[VNET_HEADER_LEN..]
    }

    /// The Ethernet frame, to be rewritten.
    pub(crate) fn ethernet_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[VNET_HEADER_LEN..]
    }

    /// What is sent: virtio-net header and Ethernet frame.
    pub(crate) fn as_sent(&self) -> &[u8] {
        self.bytes
    }

    /// The IP summary, where there is one.
    #[inline]
    pub(crate) fn ip(&self) -> Option<&'b Ip> {
        self.summary.ip()
    }

    /// The fragments that the frame came in; nothing if it came whole.
    #[inline]
    pub(crate) fn parts(&self) -> Option<&Parts> {
        self.parts.as_deref()
    }

    /// How many frames it was when it came in.
    pub(crate) fn count(&self) -> usize {
        self.parts().map_or(1, Parts::count)
    }

    /// Octets of the longest packet that it is on a link without offloads: what an MTU is compared with.
    #[inline]
    pub(crate) fn largest_packet_len(&self) -> usize {
        match self.parts() {
            None => self.header.largest_segment_len(self.summary),
            Some(parts) => parts.largest(),
        }
    }

    /// How many packets it is on a link without offloads.
    pub(crate) fn packets(&self) -> u32 {
        let payload = match self.ip().map(|ip| &ip.transport) {
            Some(Transport::Tcp(tcp)) => tcp.payload_len,
            Some(Transport::Udp(udp)) => udp.payload_len,
            _ => 0,
        };
        match self.header.gso() {
            None => 1,
            Some(_) => payload
                .div_ceil(u32::from(self.header.gso_size).max(1))
                .max(1),
        }
    }

    /// Gives the datagram another identification; the packets of a super-frame count up from it.
    pub(crate) fn renumber(&mut self, ip: &Ip, id: u32) {
        let [.., high, low] = id.to_be_bytes();
        match &mut self.parts {
            Some(parts) => parts.renumber(id),
            None => set_identification(self.ethernet_mut(), ip, u16::from_be_bytes([high, low])),
        }
    }

    /// Copies the frame as it arrived, in its fragments if it came in some. Whether there was room.
    pub(crate) fn copy_into(&self, buffer: &mut Buffer) -> bool {
        let Some(parts) = self.parts() else {
            return buffer.copy_from(self.as_sent());
        };
        let (mut scratch, mut fits) = (Vec::new(), buffer.copy_from(&[]));
        parts.as_they_came(self.ethernet(), &mut scratch, |fragment| {
            let len = u32::try_from(fragment.len() + VNET_HEADER_LEN).unwrap_or(u32::MAX);
            fits &= buffer.extend_from(&len.to_be_bytes())
                && buffer.extend_from(&VnetHeader::NONE.emit())
                && buffer.extend_from(fragment);
        });
        fits
    }

    /// Whether the transport checksum is yet to be completed.
    #[inline]
    pub(crate) fn has_partial_checksum(&self) -> bool {
        self.header.needs_checksum()
    }
}

/// A partial checksum that is not that of the transport header: Linux leaves the one inside a tunnel
/// (VXLAN in a container) to the device. It is completed here, because nobody further on could keep it
/// right. Where it stands is the sender's choice, so the frame is parsed once more.
#[cold]
fn complete_foreign(
    bytes: &mut [u8],
    header: &VnetHeader,
    summary: &mut Summary,
    error: VnetError,
) -> Result<(), DropReason> {
    let is_foreign = matches!(error, VnetError::ChecksumAbsent | VnetError::ChecksumPlace)
        && header.gso_type == VnetHeader::NONE.gso_type
        && header.checksum_is_carried(bytes.len() - VNET_HEADER_LEN, summary);
    if !is_foreign {
        return Err(error.into());
    }
    finish_checksum(bytes, header);
    summary.read(&bytes[VNET_HEADER_LEN..])?;
    Ok(())
}

/// Does what the header asks for, and then asks for nothing.
fn finish_checksum(bytes: &mut [u8], header: &VnetHeader) {
    let (space, frame) = bytes.split_at_mut(VNET_HEADER_LEN);
    complete_checksum(frame, header);
    space.copy_from_slice(&VnetHeader::NONE.emit());
}

/// A copy of a frame that outlives its burst, as it arrived: it waits for something, and then walks
/// again from the start.
#[derive(Debug)]
pub(crate) struct HeldFrame {
    pub(crate) ingress: PortId,
    bytes: Buffer,
    /// How many fragments it is; nothing if it is whole.
    fragments: Option<usize>,
}

impl HeldFrame {
    /// Octets that any frame needs, in whatever fragments it came.
    pub(crate) const SPACE: usize = FRAME_SPACE
        + HEADERS_LEN_MAX
        + FRAGMENTS_MAX * (size_of::<u32>() + VNET_HEADER_LEN + ethernet::HEADER_LEN);

    /// A copy in `buffer`; `None` if that is too small.
    pub(crate) fn new(ingress: PortId, frame: &Frame<'_>, mut buffer: Buffer) -> Option<HeldFrame> {
        let fragments = frame.parts().map(Parts::count);
        frame.copy_into(&mut buffer).then_some(HeldFrame {
            ingress,
            bytes: buffer,
            fragments,
        })
    }

    /// An empty one.
    #[cfg(test)]
    pub(crate) fn empty(ingress: PortId, bytes: Buffer) -> HeldFrame {
        HeldFrame {
            ingress,
            bytes,
            fragments: None,
        }
    }

    /// How many frames it was when it came in.
    pub(crate) fn count(&self) -> usize {
        self.fragments.unwrap_or(1)
    }

    /// Shows each of these, virtio-net header first.
    pub(crate) fn for_each(&mut self, mut show: impl FnMut(&mut [u8])) {
        if self.fragments.is_none() {
            return show(&mut self.bytes);
        }
        let mut rest = &mut self.bytes[..];
        while let Some((len, behind)) = rest.split_first_chunk_mut() {
            let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
            let Some((frame, next)) = behind.split_at_mut_checked(len) else {
                return;
            };
            show(frame);
            rest = next;
        }
    }
}
