//! The upper layer of a datagram, as far as the summary looks into it.

use crate::icmp::Icmp;
use crate::ip::{Fragment, Ip};
use crate::tcp::Tcp;
use crate::udp::{self, Udp};
use crate::{Family, Malformed, Protocol, checksum};

/// The upper layer's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP over IPv4 or ICMPv6 over IPv6; each over the other family is [`Transport::Other`].
    Icmp(Icmp),
    /// A protocol that is not looked into.
    Other,
    /// There is none: a later fragment, or IPv6 "no next header".
    Absent,
}

impl Transport {
    /// Reads the header at the start of `segment`, whose length is given once more as a number of
    /// the width that the summary uses. A segment that is not `whole` is a first fragment.
    #[inline(always)]
    pub(crate) fn parse(
        family: Family,
        protocol: Protocol,
        segment: &[u8],
        segment_len: u32,
        whole: bool,
    ) -> Result<Self, Malformed> {
        let icmp = match family {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        };
        Ok(if protocol == Protocol::TCP {
            Self::Tcp(Tcp::parse(segment, segment_len)?)
        } else if protocol == Protocol::UDP {
            Self::Udp(Udp::parse(segment, segment_len, whole)?)
        } else if protocol == icmp {
            Self::Icmp(Icmp::parse(segment)?)
        } else if protocol == Protocol::NO_NEXT_HEADER && family == Family::V6 {
            Self::Absent
        } else {
            Self::Other
        })
    }

    /// [`Transport::parse`] for a first fragment, which must hold the whole header.
    pub(crate) fn parse_first_fragment(
        family: Family,
        protocol: Protocol,
        segment: &[u8],
        segment_len: u32,
    ) -> Result<Self, Malformed> {
        Self::parse(family, protocol, segment, segment_len, false).map_err(|cause| match cause {
            Malformed::TransportTruncated => Malformed::FirstFragmentIncomplete,
            // A header that ends in the next fragment, not one that is impossible.
            Malformed::TcpHeaderLength if segment.get(12).is_some_and(|byte| *byte >= 0x50) => {
                Malformed::FirstFragmentIncomplete
            }
            other => other,
        })
    }
}

/// Whether the transport checksum of the datagram is right: what is asked before its payload is
/// sent on under a new checksum, which would launder corruption. A partial checksum (virtio-net's
/// NEEDS_CSUM) is not one that could be asked about.
///
/// UDP over IPv4 without a checksum has nothing to verify; without one over IPv6 it is wrong
/// (RFC 8200 §8.1). A protocol that is not looked into has nothing that could be verified here. A
/// fragment holds only a part of what its checksum covers, so it is never shown to be valid: the
/// re-assembled datagram can be.
#[must_use]
pub fn transport_checksum_is_valid(frame: &[u8], ip: &Ip) -> bool {
    let Some(segment) = ip.payload(frame) else {
        return false;
    };
    if ip.fragment != Fragment::Whole {
        return false;
    }
    let covered = match &ip.transport {
        Transport::Tcp(_) => segment,
        Transport::Udp(header) => {
            let len = header.payload_len as usize + udp::HEADER_LEN;
            let Some(datagram) = segment.get(..len) else {
                return false;
            };
            if datagram.get(udp::CHECKSUM.into()..udp::HEADER_LEN) == Some(&[0, 0]) {
                return ip.family() == Family::V4;
            }
            datagram
        }
        Transport::Icmp(_) if ip.family() == Family::V4 => {
            return checksum::sum(segment) == checksum::ALL_ONES;
        }
        Transport::Icmp(_) => segment,
        Transport::Other | Transport::Absent => return true,
    };
    // A datagram is shorter than 128 KiB; a number that does not fit would be another frame's.
    let Ok(len) = u32::try_from(covered.len()) else {
        return false;
    };
    let mut sum = checksum::pseudo_header(ip.source, ip.destination, ip.protocol, len);
    sum.add(covered);
    sum.sum() == checksum::ALL_ONES
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::transport_checksum_is_valid;
    use crate::testing::flow::{any_message, smoltcp_accepts, two_flows};
    use crate::testing::{any_datagram_frame, ip, link};
    use crate::{Family, Fragment, Protocol, ipv4_header_is_valid};

    proptest! {
        #[test]
        fn a_checksum_is_valid_where_smoltcp_says_so(
            (flow, _) in two_flows(),
            message in any_message(),
            payload in vec(any::<u8>(), 1..60),
            place: u16,
            flip: u8,
        ) {
            let mut frame = flow.frame(message, &payload);
            let place = frame.len() - 1 - usize::from(place) % payload.len();
            frame[place] ^= flip;
            let ip = ip(&frame);
            prop_assert_eq!(transport_checksum_is_valid(&frame, &ip), smoltcp_accepts(&frame));
            prop_assert_eq!(transport_checksum_is_valid(&frame, &ip), flip == 0);
        }

        #[test]
        fn built_frames_are_valid_and_a_flipped_header_bit_is_found(
            mut frame in any_datagram_frame(),
            // Not the header length, which would have other bytes summed.
            bit in 4_usize..160,
        ) {
            let ip = ip(&frame);
            if ip.fragment == Fragment::Whole {
                prop_assert!(transport_checksum_is_valid(&frame, &ip));
            }
            if ip.family() == Family::V4 {
                prop_assert!(ipv4_header_is_valid(&frame, ip.header_offset));
                frame[usize::from(ip.header_offset) + bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!ipv4_header_is_valid(&frame, ip.header_offset));
            }
        }
    }

    #[test]
    fn a_header_that_is_not_there_is_not_valid() {
        let frame = link()
            .ip("10.0.0.1", "10.0.0.2")
            .options(&[1; 40])
            .udp(1, 2, b"");
        assert!(ipv4_header_is_valid(&frame, 14));
        for len in 0..14 + 60 {
            assert!(!ipv4_header_is_valid(&frame[..len], 14), "{len}");
        }
        assert!(!ipv4_header_is_valid(&frame, u16::MAX));
        // All ones sums up to all ones, but is no header: fifteen words do not fit.
        assert!(!ipv4_header_is_valid(&[0xff; 40], 0));
        // Neither is a header of no words.
        assert!(!ipv4_header_is_valid(&[0x40; 60], 0));
        // Nor one of a single word, even if that adds up.
        let word = [0x41, 0, 0xbe, 0xff].repeat(15);
        assert!(!ipv4_header_is_valid(&word, 0));
    }

    #[test]
    fn bytes_behind_the_udp_length_are_not_covered() {
        let segment = {
            let packet = link().ip("10.0.0.1", "10.0.0.2");
            let mut segment = packet.udp_segment(1, 2, b"payload");
            segment.extend(b"behind");
            packet.frame(Protocol::UDP, &segment)
        };
        assert!(transport_checksum_is_valid(&segment, &ip(&segment)));
    }

    #[test]
    fn a_fragment_is_never_shown_to_be_valid() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let packet = link().ip(source, destination);
            let segment = packet.udp_segment(1, 2, &[0; 24]);
            let frame = packet.fragment(1, 0, true).frame(Protocol::UDP, &segment);
            assert!(!transport_checksum_is_valid(&frame, &ip(&frame)));
        }
    }

    #[test]
    fn a_protocol_that_is_not_looked_into_has_nothing_to_verify() {
        let frame = link()
            .ip("10.0.0.1", "10.0.0.2")
            .frame(Protocol::SCTP, &[1; 20]);
        assert!(transport_checksum_is_valid(&frame, &ip(&frame)));
        assert!(!transport_checksum_is_valid(&frame[..30], &ip(&frame)));
    }
}
