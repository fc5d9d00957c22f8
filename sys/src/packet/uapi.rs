//! The parts of `linux/if_packet.h` and `linux/filter.h` that the packet socket uses; the `libc`
//! crate does not have them for every C library.

use libc::{c_int, c_uint, c_ushort};

use crate::sockopt::OptionValue;

// Options of level SOL_PACKET.
pub(super) const PACKET_ADD_MEMBERSHIP: c_int = 1;
pub(super) const PACKET_RX_RING: c_int = 5;
pub(super) const PACKET_STATISTICS: c_int = 6;
pub(super) const PACKET_COPY_THRESH: c_int = 7;
pub(super) const PACKET_AUXDATA: c_int = 8;
pub(super) const PACKET_VERSION: c_int = 10;
pub(super) const PACKET_RESERVE: c_int = 12;
pub(super) const PACKET_VNET_HDR: c_int = 15;
/// Linux 4.20.
pub(super) const PACKET_IGNORE_OUTGOING: c_int = 23;

/// `enum tpacket_versions`.
pub(super) const TPACKET_V2: c_int = 1;

/// Kind of a [`Membership`]: everything that the interface hears.
pub(super) const PACKET_MR_PROMISC: c_ushort = 1;

// Values of `tp_status`.
pub(super) const TP_STATUS_KERNEL: u32 = 0;
pub(super) const TP_STATUS_USER: u32 = 1 << 0;
/// The whole frame is in the socket's queue.
pub(super) const TP_STATUS_COPY: u32 = 1 << 1;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;

/// IEEE 802.1Q: the tag's protocol where the kernel does not tell it.
const VLAN_PROTOCOL: u16 = 0x8100;

/// `struct tpacket2_hdr`: the beginning of every slot.
#[repr(C)]
pub(super) struct SlotHeader {
    pub(super) status: u32,
    /// Bytes of the frame on the wire.
    pub(super) length: u32,
    /// Bytes of the frame in the slot.
    pub(super) captured: u32,
    /// Where the frame begins, counted from the slot's beginning.
    pub(super) link_layer: u16,
    pub(super) network_layer: u16,
    pub(super) seconds: u32,
    pub(super) nanoseconds: u32,
    pub(super) vlan_tag: u16,
    pub(super) vlan_protocol: u16,
    pub(super) padding: [u8; 4],
}

/// `TPACKET2_HDRLEN`: the header, aligned to `TPACKET_ALIGNMENT` (16), and a `struct sockaddr_ll`.
pub(super) const SLOT_HEADER_LENGTH: usize =
    size_of::<SlotHeader>().next_multiple_of(16) + size_of::<libc::sockaddr_ll>();

const _: () = assert!(SLOT_HEADER_LENGTH == 52);

/// A VLAN tag that the kernel took out of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VlanTag {
    pub(super) protocol: u16,
    /// Priority, drop eligibility and VLAN.
    pub(super) tag: u16,
}

impl VlanTag {
    /// The tag that a status speaks of, if it does.
    pub(super) fn of(status: u32, tag: u16, protocol: u16) -> Option<Self> {
        let known = status & TP_STATUS_VLAN_TPID_VALID != 0;
        let protocol = if known { protocol } else { VLAN_PROTOCOL };
        (status & TP_STATUS_VLAN_VALID != 0).then_some(Self { protocol, tag })
    }
}

/// `struct tpacket_auxdata`, as far as it is wanted: what comes with a frame from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuxiliaryData {
    status: u32,
    vlan_tag: u16,
    vlan_protocol: u16,
}

impl AuxiliaryData {
    /// From its 20 bytes: status, two lengths, two offsets, tag and protocol.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (status, _) = bytes.split_first_chunk()?;
        let (vlan_tag, rest) = bytes.get(16..)?.split_first_chunk()?;
        let (vlan_protocol, _) = rest.split_first_chunk()?;
        Some(Self {
            status: u32::from_ne_bytes(*status),
            vlan_tag: u16::from_ne_bytes(*vlan_tag),
            vlan_protocol: u16::from_ne_bytes(*vlan_protocol),
        })
    }

    pub(super) fn vlan_tag(self) -> Option<VlanTag> {
        VlanTag::of(self.status, self.vlan_tag, self.vlan_protocol)
    }
}

/// `struct tpacket_req`: the shape of a ring.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RingRequest {
    pub(super) block_size: c_uint,
    pub(super) block_count: c_uint,
    pub(super) slot_size: c_uint,
    pub(super) slot_count: c_uint,
}

// SAFETY: four integers.
unsafe impl OptionValue for RingRequest {}

/// `struct tpacket_stats`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Statistics {
    pub(super) packets: c_uint,
    pub(super) drops: c_uint,
}

// SAFETY: two integers.
unsafe impl OptionValue for Statistics {}

/// `struct packet_mreq`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Membership {
    pub(super) interface: c_int,
    pub(super) kind: c_ushort,
    pub(super) address_length: c_ushort,
    pub(super) address: [u8; 8],
}

// SAFETY: integers only, without padding.
unsafe impl OptionValue for Membership {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auxiliary_data_tells_the_tag() {
        let mut bytes = [0_u8; 20];
        bytes[16..18].copy_from_slice(&0x0123_u16.to_ne_bytes());
        bytes[18..20].copy_from_slice(&0x88a8_u16.to_ne_bytes());
        let tag = |status: u32, bytes: &mut [u8; 20]| {
            bytes[..4].copy_from_slice(&status.to_ne_bytes());
            AuxiliaryData::parse(bytes).unwrap().vlan_tag()
        };
        assert_eq!(tag(TP_STATUS_USER, &mut bytes), None);
        let expected = VlanTag {
            protocol: 0x8100,
            tag: 0x0123,
        };
        assert_eq!(tag(TP_STATUS_VLAN_VALID, &mut bytes), Some(expected));
        let expected = VlanTag {
            protocol: 0x88a8,
            tag: 0x0123,
        };
        let both = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
        assert_eq!(tag(both, &mut bytes), Some(expected));
        assert_eq!(AuxiliaryData::parse(&bytes[..19]), None);
    }
}
