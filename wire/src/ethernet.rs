//! Ethernet II framing and VLAN tags (IEEE 802.3 §3, IEEE 802.1Q §9).

use std::fmt;

use crate::{MacAddr, Malformed};

/// Destination, source and EtherType; tags come behind.
pub const HEADER_LEN: usize = 14;

/// What one VLAN tag inserts between source and EtherType.
pub const TAG_LEN: usize = 4;

/// VLAN tags that are parsed through: a service tag and a customer tag (IEEE 802.1ad).
pub const TAGS_MAX: u8 = 2;

/// Where the destination address stands.
pub const DESTINATION: std::ops::Range<usize> = 0..6;

/// Where the source address stands.
pub const SOURCE: std::ops::Range<usize> = 6..12;

/// Where the EtherType, or the first tag's, stands.
pub const ETHER_TYPE: std::ops::Range<usize> = 12..14;

/// The twelve bits of a tag's control information that number the VLAN.
pub const VLAN_ID_MASK: u16 = 0x0fff;

/// What a frame carries; below 0x0600 the field is an IEEE 802.3 length instead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4, RFC 894.
    pub const IPV4: Self = Self(0x0800);
    /// Address resolution, RFC 826.
    pub const ARP: Self = Self(0x0806);
    /// A customer VLAN tag, IEEE 802.1Q.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6, RFC 2464.
    pub const IPV6: Self = Self(0x86dd);
    /// A service VLAN tag, IEEE 802.1ad.
    pub const QINQ: Self = Self(0x88a8);

    /// Whether a VLAN tag follows.
    #[must_use]
    #[inline]
    pub const fn is_tag(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ)
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4 => f.write_str("IPv4"),
            Self::ARP => f.write_str("ARP"),
            Self::VLAN => f.write_str("802.1Q"),
            Self::IPV6 => f.write_str("IPv6"),
            Self::QINQ => f.write_str("802.1ad"),
            Self(other) => write!(f, "{other:#06x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes both addresses of a frame: the last step before a routed frame leaves.
///
/// A slice too short for an Ethernet header stays as it is.
#[inline]
pub fn set_macs(frame: &mut [u8], destination: MacAddr, source: MacAddr) {
    if let Some(header) = frame.first_chunk_mut::<HEADER_LEN>() {
        header[DESTINATION].copy_from_slice(&destination.0);
        header[SOURCE].copy_from_slice(&source.0);
    }
}

/// What stands behind the tags of a tagged frame.
pub(crate) struct Tagged {
    pub(crate) ether_type: EtherType,
    pub(crate) tags: u8,
    /// Control information of the outermost tag: priority, drop eligibility, VLAN.
    pub(crate) vlan: u16,
    pub(crate) network_offset: u16,
}

/// Reads the tags of a frame whose EtherType announces one. Cold, so that untagged frames do not
/// carry its registers along.
#[cold]
pub(crate) fn parse_tags(frame: &[u8], first: EtherType) -> Result<Tagged, Malformed> {
    let mut tagged = Tagged {
        ether_type: first,
        tags: 0,
        vlan: 0,
        network_offset: 14,
    };
    while tagged.ether_type.is_tag() {
        if tagged.tags == TAGS_MAX {
            return Err(Malformed::TooManyTags);
        }
        let tag = frame
            .get(usize::from(tagged.network_offset)..)
            .and_then(|rest| rest.first_chunk::<TAG_LEN>())
            .ok_or(Malformed::FrameTooShort)?;
        if tagged.tags == 0 {
            tagged.vlan = u16::from_be_bytes([tag[0], tag[1]]);
        }
        tagged.ether_type = EtherType(u16::from_be_bytes([tag[2], tag[3]]));
        tagged.tags += 1;
        tagged.network_offset += 4;
    }
    Ok(tagged)
}

#[cfg(test)]
mod tests {
    use super::{EtherType, set_macs};
    use crate::MacAddr;

    #[test]
    fn addresses_are_written_and_nothing_else() {
        let mut frame = [7; 16];
        set_macs(&mut frame, MacAddr([1; 6]), MacAddr([2; 6]));
        assert_eq!(frame, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 7, 7, 7, 7]);
        let mut runt = [7; 13];
        set_macs(&mut runt, MacAddr([1; 6]), MacAddr([2; 6]));
        assert_eq!(runt, [7; 13]);
    }

    #[test]
    fn ether_types_print_by_name_or_number() {
        assert_eq!(EtherType::IPV6.to_string(), "IPv6");
        assert_eq!(format!("{:?}", EtherType(0x88cc)), "0x88cc");
    }
}
