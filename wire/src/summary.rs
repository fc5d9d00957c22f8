//! One look at a frame, kept as numbers.
//!
//! A frame is parsed once, when it comes in. What every later stage needs is copied into a
//! [`Summary`], so that no stage opens the frame again to learn what another has learnt, and none
//! can come to another conclusion. The summary vouches for its offsets: they lie inside the frame
//! it was made from, and the headers it names are wholly there.
//!
//! The parser takes the frame as untrusted: it never panics, reads no byte twice for two
//! decisions, and does work bounded by the constants of this crate whatever the frame's length.

use crate::arp::Arp;
use crate::ethernet::{self, EtherType};
use crate::ip::Ip;
use crate::{MacAddr, Malformed, Protocol, ipv4, ipv6};

/// The shortest untagged frame with an IPv4 header.
const USUAL_LEN_MIN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

/// Where an untagged IPv4 header names its protocol.
const IPV4_PROTOCOL: usize = ethernet::HEADER_LEN + ipv4::PROTOCOL;

/// Where an untagged IPv6 header names its first next header.
const IPV6_NEXT_HEADER: usize = ethernet::HEADER_LEN + ipv6::NEXT_HEADER;

/// What a frame is, down to its transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The station the frame is for.
    pub destination: MacAddr,
    /// The station the frame is from.
    pub source: MacAddr,
    /// What the frame carries, behind its VLAN tags.
    pub ether_type: EtherType,
    /// VLAN tags seen, at most [`ethernet::TAGS_MAX`].
    pub tags: u8,
    /// Control information of the outermost tag (priority, drop eligibility, VLAN); 0 if none.
    pub vlan: u16,
    /// Where the frame's content starts, behind addresses, tags and EtherType.
    pub network_offset: u16,
    /// The frame's content.
    pub network: Network,
}

/// A frame's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Address resolution.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
    /// The EtherType says ARP, IPv4 or IPv6, the content does not bear it out.
    Malformed(Malformed),
    /// Something that is not looked into.
    Other,
}

impl Summary {
    /// Of no frame: what [`Summary::read`] begins with.
    pub const EMPTY: Self = Self {
        destination: MacAddr::ZERO,
        source: MacAddr::ZERO,
        ether_type: EtherType(0),
        tags: 0,
        vlan: 0,
        network_offset: 0,
        network: Network::Other,
    };

    /// Reads a whole Ethernet frame (without a virtio-net header before it).
    ///
    /// # Errors
    ///
    /// Only for a frame without a layer 2: one that ends inside its Ethernet header or tags, or
    /// has more tags than [`ethernet::TAGS_MAX`]. Everything wrong above is
    /// [`Network::Malformed`].
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let mut summary = Self::EMPTY;
        summary.read(frame)?;
        Ok(summary)
    }

    /// [`Summary::parse`] into a place that is there already: a summary is twice as long as the headers it
    /// is made from, and so not handed from function to function by those who have many frames.
    ///
    /// # Errors
    ///
    /// As above; of no use then is what `self` holds.
    #[inline(always)]
    pub fn read(&mut self, frame: &[u8]) -> Result<(), Malformed> {
        let Some(start) = frame.first_chunk::<USUAL_LEN_MIN>() else {
            return self.read_any(frame);
        };
        let ether_type = EtherType(u16::from_be_bytes([start[12], start[13]]));
        if ether_type == EtherType::IPV4 {
            match Protocol(start[IPV4_PROTOCOL]) {
                Protocol::TCP => return self.read_tcp_ipv4(frame),
                Protocol::UDP => return self.read_udp_ipv4(frame),
                _ => {}
            }
        } else if ether_type == EtherType::IPV6 {
            match Protocol(start[IPV6_NEXT_HEADER]) {
                Protocol::TCP => return self.read_tcp_ipv6(frame),
                Protocol::UDP => return self.read_udp_ipv6(frame),
                _ => {}
            }
        }
        self.read_any(frame)
    }

    #[inline(never)]
    fn read_any(&mut self, frame: &[u8]) -> Result<(), Malformed> {
        *self = Self::parse_any(frame)?;
        Ok(())
    }

    /// [`Summary::parse`] for every frame, in the order of its layers.
    fn parse_any(frame: &[u8]) -> Result<Self, Malformed> {
        let mut summary = Self::parse_untagged(frame).ok_or(Malformed::FrameTooShort)?;
        if summary.ether_type.is_tag() {
            let tagged = ethernet::parse_tags(frame, summary.ether_type)?;
            summary.ether_type = tagged.ether_type;
            summary.tags = tagged.tags;
            summary.vlan = tagged.vlan;
            summary.network_offset = tagged.network_offset;
        }
        let offset = summary.network_offset;
        let network = match summary.ether_type {
            EtherType::IPV4 => ipv4::parse(frame, offset).map(Network::Ip),
            EtherType::IPV6 => ipv6::parse(frame, offset).map(Network::Ip),
            EtherType::ARP => Arp::parse(frame, offset).map(Network::Arp),
            _ => Ok(Network::Other),
        };
        summary.network = network.unwrap_or_else(Network::Malformed);
        Ok(summary)
    }

    /// Layer 2 of an untagged frame.
    #[inline(always)]
    fn parse_untagged(frame: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *frame.first_chunk()?;
        Some(Self {
            destination: MacAddr([a, b, c, d, e, f]),
            source: MacAddr([g, h, i, j, k, l]),
            ether_type: EtherType(u16::from_be_bytes([m, n])),
            tags: 0,
            vlan: 0,
            network_offset: 14,
            network: Network::Other,
        })
    }

    // The usual frames. Each is a function of its own, because one function for all gathers every
    // field in a register or a stack slot before it writes any, which doubles the instructions.
    // Whatever is unusual or wrong about a frame is left to parse_any, which starts over; a property
    // test holds the two to the same result.

    #[inline(never)]
    fn read_tcp_ipv4(&mut self, frame: &[u8]) -> Result<(), Malformed> {
        let ip = ipv4::parse_usual(frame, 14, Protocol::TCP);
        self.read_usual(frame, EtherType::IPV4, ip)
    }

    #[inline(never)]
    fn read_udp_ipv4(&mut self, frame: &[u8]) -> Result<(), Malformed> {
        let ip = ipv4::parse_usual(frame, 14, Protocol::UDP);
        self.read_usual(frame, EtherType::IPV4, ip)
    }

    #[inline(never)]
    fn read_tcp_ipv6(&mut self, frame: &[u8]) -> Result<(), Malformed> {
        let ip = ipv6::parse_usual(frame, 14, Protocol::TCP);
        self.read_usual(frame, EtherType::IPV6, ip)
    }

    #[inline(never)]
    fn read_udp_ipv6(&mut self, frame: &[u8]) -> Result<(), Malformed> {
        let ip = ipv6::parse_usual(frame, 14, Protocol::UDP);
        self.read_usual(frame, EtherType::IPV6, ip)
    }

    #[inline(always)]
    fn read_usual(
        &mut self,
        frame: &[u8],
        ether_type: EtherType,
        ip: Option<Ip>,
    ) -> Result<(), Malformed> {
        match (ip, Self::parse_untagged(frame)) {
            (Some(ip), Some(untagged)) => {
                *self = Self {
                    ether_type,
                    network: Network::Ip(ip),
                    ..untagged
                };
                Ok(())
            }
            _ => self.read_any(frame),
        }
    }

    /// The datagram, if the frame carries one.
    #[must_use]
    #[inline]
    pub const fn ip(&self) -> Option<&Ip> {
        match &self.network {
            Network::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// The number of the VLAN in the outermost tag; `None` without a tag.
    #[must_use]
    #[inline]
    pub const fn vlan_id(&self) -> Option<u16> {
        if self.tags == 0 {
            None
        } else {
            Some(self.vlan & ethernet::VLAN_ID_MASK)
        }
    }
}

#[cfg(test)]
mod tests;
