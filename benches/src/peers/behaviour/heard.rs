//! A frame that has arrived.

use heddle_wire::{
    Address, Embedded, Icmp, Ip, Summary, Tcp, Transport, VnetHeader, embedded,
    ipv4_header_is_valid, transport_checksum_is_valid,
};

/// A frame that has arrived, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) summary: Summary,
    pub(crate) frame: Vec<u8>,
    /// Whether its checksums are right, as far as it has any.
    is_sound: bool,
}

impl Heard {
    /// Reads a frame behind its virtio-net header; `None` for what is no frame.
    pub(super) fn of(bytes: &[u8]) -> Option<Heard> {
        let (header, frame) = VnetHeader::split(bytes)?;
        let summary = Summary::parse(frame).ok()?;
        let is_sound = match summary.ip() {
            None => true,
            Some(ip) => {
                let vouched = header.needs_checksum()
                    || header.data_valid()
                    || ip.fragment.is_part()
                    || matches!(ip.transport, Transport::Other | Transport::Absent);
                (!ip.source.is_ipv4() || ipv4_header_is_valid(frame, ip.header_offset))
                    && (vouched || transport_checksum_is_valid(frame, ip))
            }
        };
        Some(Heard {
            summary,
            frame: frame.to_vec(),
            is_sound,
        })
    }

    /// The datagram, if a host would take it.
    pub(super) fn ip(&self) -> Option<&Ip> {
        self.summary.ip().filter(|_| self.is_sound)
    }

    /// The datagram, damaged or not.
    pub(super) fn any_ip(&self) -> Option<&Ip> {
        self.summary.ip()
    }

    pub(super) fn tcp(&self) -> Option<Tcp> {
        match self.ip()?.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    pub(super) fn icmp(&self) -> Option<Icmp> {
        match self.ip()?.transport {
            Transport::Icmp(icmp) => Some(icmp),
            _ => None,
        }
    }

    /// What an ICMP error quotes, if the quote is one that its reader can use: the header's checksum
    /// is right, too.
    pub(super) fn quote(&self) -> Option<Embedded> {
        let quote = embedded(&self.frame, self.ip()?).ok()?;
        let start = u16::try_from(quote.header_offset).ok()?;
        let is_sound = !quote.source.is_ipv4() || ipv4_header_is_valid(&self.frame, start);
        is_sound.then_some(quote)
    }

    /// Source and destination port of UDP or TCP, or twice the identifier of an ICMP query.
    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        match self.ip()?.transport {
            Transport::Udp(udp) => Some((udp.source_port, udp.destination_port)),
            Transport::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
            Transport::Icmp(icmp) => {
                let identifier = icmp.word.to_be_bytes();
                let identifier = u16::from_be_bytes([identifier[0], identifier[1]]);
                Some((identifier, identifier))
            }
            Transport::Other | Transport::Absent => None,
        }
    }

    /// Whether it is a datagram, damaged or not, between these addresses.
    pub(super) fn is_between(&self, source: Address, destination: Address) -> bool {
        self.any_ip()
            .is_some_and(|ip| (ip.source, ip.destination) == (source, destination))
    }
}
