//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the eight bytes that all messages have, and the message
//! kinds that a switch and router must know.

use crate::{Family, Malformed};

/// Kind, code, checksum, and four bytes that depend on the kind.
pub(crate) const HEADER_LEN: usize = 8;

/// Where the kind stands in the header, the code behind it.
pub(crate) const KIND: usize = 0;

/// Where the checksum stands in the header.
pub(crate) const CHECKSUM: u16 = 2;

/// Where a query's identifier stands in the header.
pub(crate) const IDENTIFIER: usize = 4;

/// Message kinds of IPv4's ICMP.
pub mod v4 {
    /// RFC 792.
    pub const ECHO_REPLY: u8 = 0;
    /// RFC 792; code 4 is "fragmentation needed", RFC 1191.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// RFC 792, no longer sent (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// RFC 792.
    pub const REDIRECT: u8 = 5;
    /// RFC 792.
    pub const ECHO_REQUEST: u8 = 8;
    /// RFC 792.
    pub const TIME_EXCEEDED: u8 = 11;
    /// RFC 792.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// RFC 792.
    pub const TIMESTAMP_REQUEST: u8 = 13;
    /// RFC 792.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// RFC 792, deprecated by RFC 6918.
    pub const INFORMATION_REQUEST: u8 = 15;
    /// RFC 792, deprecated by RFC 6918.
    pub const INFORMATION_REPLY: u8 = 16;
    /// RFC 950, deprecated by RFC 6918.
    pub const ADDRESS_MASK_REQUEST: u8 = 17;
    /// RFC 950, deprecated by RFC 6918.
    pub const ADDRESS_MASK_REPLY: u8 = 18;
}

/// Message kinds of ICMPv6.
pub mod v6 {
    /// RFC 4443 §3.1.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// RFC 4443 §3.2.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// RFC 4443 §3.3.
    pub const TIME_EXCEEDED: u8 = 3;
    /// RFC 4443 §3.4.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// RFC 4443 §4.1.
    pub const ECHO_REQUEST: u8 = 128;
    /// RFC 4443 §4.2.
    pub const ECHO_REPLY: u8 = 129;
    /// RFC 4861 §4.1.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// RFC 4861 §4.2.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// RFC 4861 §4.3.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// RFC 4861 §4.4.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// RFC 4861 §4.5.
    pub const REDIRECT: u8 = 137;
}

/// The start of an ICMP or ICMPv6 message; [`Ip::protocol`](crate::Ip::protocol) says which, and
/// the methods take the family because the kinds are numbered per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The message kind ("type" in the RFCs).
    pub kind: u8,
    /// The kind's code.
    pub code: u8,
    /// Bytes 4 to 8: identifier and sequence number, or MTU, pointer, gateway.
    pub word: u32,
}

impl Icmp {
    #[inline(always)]
    pub(crate) fn parse(segment: &[u8]) -> Result<Self, Malformed> {
        let Some(header) = segment.first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::TransportTruncated);
        };
        Ok(Self {
            kind: header[0],
            code: header[1],
            word: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        })
    }

    /// A query's identifier.
    #[must_use]
    #[inline]
    pub const fn id(self) -> u16 {
        let [high, low, ..] = self.word.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// A query's sequence number.
    #[must_use]
    #[inline]
    pub const fn sequence(self) -> u16 {
        let [.., high, low] = self.word.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Whether the message reports an error and quotes the datagram that caused it: RFC 1122
    /// §3.2.2 for IPv4; the kinds below 128 for IPv6 (RFC 4443 §2.1), including those that are
    /// not yet known.
    #[must_use]
    #[inline]
    pub const fn is_error(self, family: Family) -> bool {
        match family {
            Family::V4 => matches!(
                self.kind,
                v4::DESTINATION_UNREACHABLE
                    | v4::SOURCE_QUENCH
                    | v4::REDIRECT
                    | v4::TIME_EXCEEDED
                    | v4::PARAMETER_PROBLEM
            ),
            Family::V6 => self.kind < 128,
        }
    }

    /// Whether the message belongs to a pair of request and reply that an identifier ties
    /// together: what a NAT translates like a port (RFC 5508 §3.1).
    #[must_use]
    #[inline]
    pub const fn is_query(self, family: Family) -> bool {
        self.is_request(family) || self.is_reply(family)
    }

    /// Whether the message is the request of such a pair: its identifier plays the source port.
    #[must_use]
    #[inline]
    pub const fn is_request(self, family: Family) -> bool {
        match family {
            Family::V4 => matches!(
                self.kind,
                v4::ECHO_REQUEST
                    | v4::TIMESTAMP_REQUEST
                    | v4::INFORMATION_REQUEST
                    | v4::ADDRESS_MASK_REQUEST
            ),
            Family::V6 => self.kind == v6::ECHO_REQUEST,
        }
    }

    /// Whether the message is the reply of such a pair: its identifier plays the destination port.
    #[must_use]
    #[inline]
    pub const fn is_reply(self, family: Family) -> bool {
        match family {
            Family::V4 => matches!(
                self.kind,
                v4::ECHO_REPLY
                    | v4::TIMESTAMP_REPLY
                    | v4::INFORMATION_REPLY
                    | v4::ADDRESS_MASK_REPLY
            ),
            Family::V6 => self.kind == v6::ECHO_REPLY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Icmp;
    use crate::Family;

    #[test]
    fn every_kind_is_request_reply_error_or_none_of_them() {
        for (family, requests, replies, errors) in [
            (
                Family::V4,
                &[8, 13, 15, 17][..],
                &[0, 14, 16, 18][..],
                &[3, 4, 5, 11, 12][..],
            ),
            (Family::V6, &[128], &[129], &(0..128).collect::<Vec<u8>>()),
        ] {
            for kind in 0..=255 {
                let icmp = Icmp {
                    kind,
                    code: 0,
                    word: 0x1234_5678,
                };
                assert_eq!(
                    icmp.is_request(family),
                    requests.contains(&kind),
                    "{family:?} {kind}"
                );
                assert_eq!(
                    icmp.is_reply(family),
                    replies.contains(&kind),
                    "{family:?} {kind}"
                );
                assert_eq!(
                    icmp.is_error(family),
                    errors.contains(&kind),
                    "{family:?} {kind}"
                );
                assert_eq!(
                    icmp.is_query(family),
                    icmp.is_request(family) | icmp.is_reply(family)
                );
                assert_eq!((icmp.id(), icmp.sequence()), (0x1234, 0x5678));
            }
        }
    }
}
