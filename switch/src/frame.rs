//! A frame on its way through the switch.

use heddle_mem::Buffer;
use heddle_wire::{
    Ip, Malformed, Network, Summary, VNET_HEADER_LEN, VnetError, VnetHeader, complete_checksum,
};

use crate::drop::DropReason;
use crate::port::PortId;

/// A frame in the memory of its burst, parsed once. It is gone when the burst is.
#[derive(Debug)]
pub struct Frame<'b> {
    /// Virtio-net header and Ethernet frame.
    bytes: &'b mut [u8],
    /// The virtio-net header, checked against the frame.
    pub(crate) header: VnetHeader,
    /// What the frame says. Rewriting does not change it: it tells how the frame *arrived*.
    pub(crate) summary: Summary,
}

impl<'b> Frame<'b> {
    /// Parses virtio-net header and frame and checks that they fit each other.
    #[inline]
    pub(crate) fn parse(bytes: &'b mut [u8]) -> Result<Frame<'b>, DropReason> {
        let Some((header, frame)) = VnetHeader::split(bytes) else {
            return Err(Malformed::FrameTooShort.into());
        };
        let summary = Summary::parse(frame)?;
        match header.check(frame.len(), &summary) {
            Ok(()) => Ok(Frame {
                bytes,
                header,
                summary,
            }),
            Err(VnetError::ChecksumAbsent | VnetError::ChecksumPlace)
                if header.gso_type == VnetHeader::NONE.gso_type
                    && header.checksum_is_carried(frame.len(), &summary) =>
            {
                Frame::parse_completed(bytes, &header)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A partial checksum that is not that of the transport header: Linux leaves the one inside a
    /// tunnel (VXLAN in a container) to the device. It is completed here, because nobody further on
    /// could keep it right. Where it stands is the sender's choice, so the frame is parsed only
    /// then.
    #[cold]
    fn parse_completed(bytes: &'b mut [u8], header: &VnetHeader) -> Result<Frame<'b>, DropReason> {
        finish_checksum(bytes, header);
        let summary = Summary::parse(&bytes[VNET_HEADER_LEN..])?;
        Ok(Frame {
            bytes,
            header: VnetHeader::NONE,
            summary,
        })
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

    /// Makes a frame that has only a priority tag an untagged one, which it is to all but bridges.
    #[inline]
    pub(crate) fn remove_priority_tag(&mut self) {
        if self.summary.tags != 0 && self.is_priority_tagged() {
            self.remove_tag();
        }
    }

    #[cold]
    fn remove_tag(&mut self) {
        const ADDRESSES: usize = 2 * 6;
        let tag = heddle_wire::ethernet::TAG_LEN;
        let bytes = std::mem::take(&mut self.bytes);
        bytes.copy_within(
            VNET_HEADER_LEN..VNET_HEADER_LEN + ADDRESSES,
            VNET_HEADER_LEN + tag,
        );
        self.bytes = &mut bytes[tag..];
        self.header = self.header.without_octets(tag);
        self.bytes[..VNET_HEADER_LEN].copy_from_slice(&self.header.emit());
        // What the parser has understood once it understands again.
        if let Ok(summary) = Summary::parse(&self.bytes[VNET_HEADER_LEN..]) {
            self.summary = summary;
        }
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
    pub(crate) fn ip(&self) -> Option<&Ip> {
        match &self.summary.network {
            Network::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// Whether the transport checksum is yet to be completed.
    #[inline]
    pub(crate) fn has_partial_checksum(&self) -> bool {
        self.header.needs_checksum()
    }
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
    pub(crate) bytes: Buffer,
}
