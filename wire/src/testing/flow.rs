//! Packets as smoltcp writes and reads them: the independent way to the bytes that a rewrite
//! should arrive at, and the independent judge of a checksum.

use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr,
    Icmpv4TimeExceeded, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
    UdpPacket, UdpRepr,
};

use super::{DESTINATION_MAC, SOURCE_MAC, any_address, any_family};
use crate::{Address, Rewrite};

/// What a packet's addresses and ports are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

/// What the flow's packet is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    Tcp {
        sequence: u32,
        acknowledgement: u32,
        window: u16,
        is_syn: bool,
    },
    Udp,
    EchoRequest {
        sequence: u16,
    },
    EchoReply {
        sequence: u16,
    },
}

pub(crate) fn any_message() -> BoxedStrategy<Message> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u16>(), any::<bool>()).prop_map(
            |(sequence, acknowledgement, window, is_syn)| Message::Tcp {
                sequence,
                acknowledgement,
                window,
                is_syn
            }
        ),
        Just(Message::Udp),
        any::<u16>().prop_map(|sequence| Message::EchoRequest { sequence }),
        any::<u16>().prop_map(|sequence| Message::EchoReply { sequence }),
    ]
    .boxed()
}

/// Two flows of one family, neither with the port that smoltcp refuses.
pub(crate) fn two_flows() -> BoxedStrategy<(Flow, Flow)> {
    any_family()
        .prop_flat_map(|family| {
            let flow = || {
                (any_address(family), any_address(family), 1_u16.., 1_u16..).prop_map(
                    |(source, destination, source_port, destination_port)| Flow {
                        source,
                        destination,
                        source_port,
                        destination_port,
                    },
                )
            };
            (flow(), flow())
        })
        .boxed()
}

impl Flow {
    pub(crate) fn rewrite(&self) -> Rewrite {
        Rewrite {
            source: self.source,
            source_port: self.source_port,
            destination: self.destination,
            destination_port: self.destination_port,
        }
    }

    fn addresses(&self) -> (IpAddress, IpAddress) {
        (self.source.to_ip().into(), self.destination.to_ip().into())
    }

    /// The whole frame.
    pub(crate) fn frame(&self, message: Message, payload: &[u8]) -> Vec<u8> {
        let (protocol, segment) = self.segment(message, payload);
        self.datagram_frame(protocol, &segment)
    }

    /// An ICMP error with the addresses of this flow about `inner`'s packet, of which
    /// `quoted_len` bytes behind the IP header are quoted.
    pub(crate) fn error_frame(
        &self,
        inner: &Self,
        message: Message,
        payload: &[u8],
        quoted_len: usize,
    ) -> Vec<u8> {
        let (protocol, segment) = inner.segment(message, payload);
        let data = &segment[..segment.len().min(quoted_len)];
        let checksums = ChecksumCapabilities::default();
        match (self.addresses(), inner.addresses()) {
            ((IpAddress::Ipv4(_), _), (IpAddress::Ipv4(src_addr), IpAddress::Ipv4(dst_addr))) => {
                let payload_len = segment.len();
                let header = Ipv4Repr {
                    src_addr,
                    dst_addr,
                    next_header: protocol,
                    payload_len,
                    hop_limit: 1,
                };
                let reason = Icmpv4TimeExceeded::TtlExpired;
                let repr = Icmpv4Repr::TimeExceeded {
                    reason,
                    header,
                    data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
                self.datagram_frame(IpProtocol::Icmp, &bytes)
            }
            (
                (IpAddress::Ipv6(outer_source), IpAddress::Ipv6(outer_destination)),
                (IpAddress::Ipv6(src_addr), IpAddress::Ipv6(dst_addr)),
            ) => {
                let payload_len = segment.len();
                let header = Ipv6Repr {
                    src_addr,
                    dst_addr,
                    next_header: protocol,
                    payload_len,
                    hop_limit: 1,
                };
                let repr = Icmpv6Repr::PktTooBig {
                    mtu: 1280,
                    header,
                    data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                let mut packet = Icmpv6Packet::new_unchecked(&mut bytes);
                repr.emit(&outer_source, &outer_destination, &mut packet, &checksums);
                self.datagram_frame(IpProtocol::Icmpv6, &bytes)
            }
            _ => panic!("an error has the family of what it is about"),
        }
    }

    fn segment(&self, message: Message, payload: &[u8]) -> (IpProtocol, Vec<u8>) {
        match message {
            Message::Tcp { .. } => (IpProtocol::Tcp, self.tcp(message, payload)),
            Message::Udp => {
                let (source, destination) = self.addresses();
                let repr = UdpRepr {
                    src_port: self.source_port,
                    dst_port: self.destination_port,
                };
                let mut bytes = vec![0; repr.header_len() + payload.len()];
                repr.emit(
                    &mut UdpPacket::new_unchecked(&mut bytes),
                    &source,
                    &destination,
                    payload.len(),
                    |place| place.copy_from_slice(payload),
                    &ChecksumCapabilities::default(),
                );
                (IpProtocol::Udp, bytes)
            }
            Message::EchoRequest { sequence } => {
                self.echo(true, self.source_port, sequence, payload)
            }
            Message::EchoReply { sequence } => {
                self.echo(false, self.destination_port, sequence, payload)
            }
        }
    }

    fn tcp(&self, message: Message, payload: &[u8]) -> Vec<u8> {
        let Message::Tcp {
            sequence,
            acknowledgement,
            window,
            is_syn,
        } = message
        else {
            panic!("not TCP");
        };
        let (source, destination) = self.addresses();
        let number = |value: u32| TcpSeqNumber(value.cast_signed());
        let repr = TcpRepr {
            src_port: self.source_port,
            dst_port: self.destination_port,
            control: if is_syn {
                TcpControl::Syn
            } else {
                TcpControl::Psh
            },
            seq_number: number(sequence),
            ack_number: Some(number(acknowledgement)),
            window_len: window,
            window_scale: is_syn.then_some(7),
            max_seg_size: is_syn.then_some(1460),
            sack_permitted: is_syn,
            sack_ranges: [None; 3],
            timestamp: (!is_syn).then(|| TcpTimestampRepr::new(sequence, window.into())),
            payload,
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(
            &mut TcpPacket::new_unchecked(&mut bytes),
            &source,
            &destination,
            &ChecksumCapabilities::default(),
        );
        bytes
    }

    fn echo(
        &self,
        is_request: bool,
        ident: u16,
        seq_no: u16,
        data: &[u8],
    ) -> (IpProtocol, Vec<u8>) {
        let checksums = ChecksumCapabilities::default();
        match self.addresses() {
            (IpAddress::Ipv4(_), _) => {
                let repr = if is_request {
                    Icmpv4Repr::EchoRequest {
                        ident,
                        seq_no,
                        data,
                    }
                } else {
                    Icmpv4Repr::EchoReply {
                        ident,
                        seq_no,
                        data,
                    }
                };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
                (IpProtocol::Icmp, bytes)
            }
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                let repr = if is_request {
                    Icmpv6Repr::EchoRequest {
                        ident,
                        seq_no,
                        data,
                    }
                } else {
                    Icmpv6Repr::EchoReply {
                        ident,
                        seq_no,
                        data,
                    }
                };
                let mut bytes = vec![0; repr.buffer_len()];
                let mut packet = Icmpv6Packet::new_unchecked(&mut bytes);
                repr.emit(&source, &destination, &mut packet, &checksums);
                (IpProtocol::Icmpv6, bytes)
            }
            _ => panic!("one datagram has one family"),
        }
    }

    fn datagram_frame(&self, next_header: IpProtocol, segment: &[u8]) -> Vec<u8> {
        let payload_len = segment.len();
        let (ethertype, header) = match self.addresses() {
            (IpAddress::Ipv4(src_addr), IpAddress::Ipv4(dst_addr)) => {
                let repr = Ipv4Repr {
                    src_addr,
                    dst_addr,
                    next_header,
                    payload_len,
                    hop_limit: 64,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                let checksums = ChecksumCapabilities::default();
                // The total length is that of the datagram, not of this buffer.
                repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &checksums);
                (EthernetProtocol::Ipv4, bytes)
            }
            (IpAddress::Ipv6(src_addr), IpAddress::Ipv6(dst_addr)) => {
                let repr = Ipv6Repr {
                    src_addr,
                    dst_addr,
                    next_header,
                    payload_len,
                    hop_limit: 64,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
                (EthernetProtocol::Ipv6, bytes)
            }
            _ => panic!("one datagram has one family"),
        };
        let repr = EthernetRepr {
            src_addr: EthernetAddress(SOURCE_MAC.0),
            dst_addr: EthernetAddress(DESTINATION_MAC.0),
            ethertype,
        };
        let mut frame = vec![0; EthernetFrame::<&[u8]>::header_len()];
        repr.emit(&mut EthernetFrame::new_unchecked(&mut frame));
        frame.extend(header);
        frame.extend(segment);
        frame
    }
}

/// Whether smoltcp finds every checksum of a whole TCP, UDP or ICMP datagram without options and
/// extension headers right.
pub(crate) fn smoltcp_accepts(frame: &[u8]) -> bool {
    let frame = EthernetFrame::new_checked(frame).unwrap();
    let checksums = ChecksumCapabilities::default();
    let (protocol, source, destination, segment) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            let Ok(repr) = Ipv4Repr::parse(&packet, &checksums) else {
                return false;
            };
            let (source, destination) = (repr.src_addr.into(), repr.dst_addr.into());
            (
                repr.next_header,
                source,
                destination,
                packet.payload().to_vec(),
            )
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            let Ok(repr) = Ipv6Repr::parse(&packet) else {
                return false;
            };
            let (source, destination): (IpAddress, IpAddress) =
                (repr.src_addr.into(), repr.dst_addr.into());
            (
                repr.next_header,
                source,
                destination,
                packet.payload().to_vec(),
            )
        }
        other => panic!("not IP: {other}"),
    };
    match protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(&segment).unwrap();
            packet.verify_checksum(&source, &destination)
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(&segment).unwrap();
            packet.checksum() != 0 && packet.verify_checksum(&source, &destination)
        }
        IpProtocol::Icmp => Icmpv4Packet::new_checked(&segment)
            .unwrap()
            .verify_checksum(),
        IpProtocol::Icmpv6 => {
            let (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) = (source, destination)
            else {
                return false;
            };
            let packet = Icmpv6Packet::new_checked(&segment).unwrap();
            packet.verify_checksum(&source, &destination)
        }
        other => panic!("no checksum in {other}"),
    }
}
