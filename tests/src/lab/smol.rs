//! A host with the TCP/IP stack of smoltcp: ARP, ND, ICMP, UDP and TCP by somebody else.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use heddle_switch::endpoint::MemoryPeer;
use heddle_wire::{Family, MacAddr, VnetHeader};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint};

use super::{Impairment, Lab, Name, VNET_LEN};

/// Octets that a socket holds in each direction.
const SOCKET_BUFFER: usize = 64 << 10;

/// A host on a link of the lab.
pub struct SmolHost {
    interface: Interface,
    sockets: SocketSet<'static>,
    link: Link,
}

impl std::fmt::Debug for SmolHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SmolHost").finish_non_exhaustive()
    }
}

/// The host's end of the link.
struct Link {
    peer: MemoryPeer,
    received: VecDeque<Vec<u8>>,
    inbound: Impairment,
    outbound: Impairment,
    mtu: usize,
}

impl Lab {
    /// Puts a host of smoltcp on the link of a planned host, with the planned addresses and gateway.
    ///
    /// # Panics
    ///
    /// If there is no such host, or its link carries super-frames, which smoltcp does not know.
    pub fn smol(&mut self, name: Name) -> SmolHost {
        let network = self.plan().network_of(name);
        let addresses: Vec<(IpAddr, u8)> = self
            .plan()
            .addresses(name)
            .iter()
            .map(|address| match address.family() {
                Family::V4 => (address.to_ip(), 24),
                Family::V6 => (address.to_ip(), 64),
            })
            .collect();
        let gateways = self.plan().gateways(network);
        let mac = self.mac(name);
        self.smol_with(name, mac, &addresses, &gateways)
    }

    /// Puts a host of smoltcp on a link, with these addresses and gateways.
    ///
    /// # Panics
    ///
    /// If there is no such port.
    pub fn smol_with(
        &mut self,
        name: Name,
        mac: MacAddr,
        addresses: &[(IpAddr, u8)],
        gateways: &[IpAddr],
    ) -> SmolHost {
        let mtu = usize::from(self.plan().port(name).mtu);
        let mut link = Link {
            peer: self.take(name),
            received: VecDeque::new(),
            inbound: Impairment::new(0),
            outbound: Impairment::new(0),
            mtu,
        };
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac.0));
        let mut config = Config::new(hardware);
        config.random_seed = mac.to_u64();
        let mut interface = Interface::new(config, &mut link, smol_time(self));
        interface.update_ip_addrs(|list| {
            for &(address, prefix) in addresses {
                let cidr = IpCidr::new(address.into(), prefix);
                list.push(cidr).expect("a host has few addresses");
            }
        });
        for gateway in gateways {
            let routes = interface.routes_mut();
            match gateway {
                IpAddr::V4(gateway) => routes.add_default_ipv4_route(*gateway),
                IpAddr::V6(gateway) => routes.add_default_ipv6_route(*gateway),
            }
            .expect("a host has two default routes");
        }
        SmolHost {
            interface,
            sockets: SocketSet::new(Vec::new()),
            link,
        }
    }

    /// Lets hosts talk until `done` says so, at most for `limit`; how long it took. The switch's
    /// counters are not compared meanwhile, see [`Lab::observe`].
    ///
    /// # Panics
    ///
    /// If it is not done in time.
    pub fn talk(
        &mut self,
        limit: Duration,
        hosts: &mut [&mut SmolHost],
        mut done: impl FnMut(&mut [&mut SmolHost]) -> bool,
    ) -> Duration {
        let start = self.now();
        while !done(hosts) {
            let passed = self.now() - start;
            assert!(passed < limit, "not done after {passed:?}");
            let time = smol_time(self);
            for host in &mut *hosts {
                host.poll(time);
            }
            self.turn();
            self.pass(Duration::from_millis(1));
        }
        self.now() - start
    }
}

fn smol_time(lab: &Lab) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(lab.now().as_micros()).unwrap_or(i64::MAX))
}

impl SmolHost {
    /// Makes the link bad, in both directions.
    pub fn impair(&mut self, impairment: impl Fn(u64) -> Impairment) {
        self.link.inbound = impairment(1);
        self.link.outbound = impairment(2);
    }

    fn poll(&mut self, now: SmolInstant) {
        self.link.take();
        while self.interface.poll(now, &mut self.link, &mut self.sockets)
            != smoltcp::iface::PollResult::None
        {
            self.link.take();
        }
    }

    /// A TCP socket that waits for a connection.
    ///
    /// # Panics
    ///
    /// If the port is 0.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.listen(port).expect("port 0 is not for listening");
        self.sockets.add(socket)
    }

    /// A TCP socket that connects.
    ///
    /// # Panics
    ///
    /// If smoltcp has no route.
    pub fn connect(&mut self, to: (IpAddr, u16), from: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        let to = IpEndpoint::new(to.0.into(), to.1);
        socket
            .connect(self.interface.context(), to, from)
            .expect("the host has a default route");
        self.sockets.add(socket)
    }

    /// A TCP socket.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A UDP socket on a port.
    ///
    /// # Panics
    ///
    /// If the port is 0.
    pub fn udp_bind(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; SOCKET_BUFFER]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).expect("port 0 is not for binding");
        self.sockets.add(socket)
    }

    /// A UDP socket.
    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// An ICMP socket for echoes with an identifier.
    ///
    /// # Panics
    ///
    /// Never: an identifier can always be bound.
    pub fn icmp_bind(&mut self, id: u16) -> SocketHandle {
        let buffer = || {
            icmp::PacketBuffer::new(
                vec![icmp::PacketMetadata::EMPTY; 16],
                vec![0; SOCKET_BUFFER],
            )
        };
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket
            .bind(icmp::Endpoint::Ident(id))
            .expect("an identifier can be bound");
        self.sockets.add(socket)
    }

    /// An ICMP socket.
    pub fn icmp(&mut self, handle: SocketHandle) -> &mut icmp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; SOCKET_BUFFER]);
    tcp::Socket::new(buffer(), buffer())
}

impl Link {
    /// Takes frames from the switch.
    fn take(&mut self) {
        while let Some(bytes) = self.peer.receive() {
            let (header, frame) = VnetHeader::split(&bytes).expect("the switch sends a header");
            assert_eq!(header, VnetHeader::NONE, "smoltcp's link has no offloads");
            let received = &mut self.received;
            self.inbound
                .pass(frame.to_vec(), |frame| received.push_back(frame));
        }
    }
}

impl Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received, Sender<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sender(self)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sender<'_>> {
        Some(Sender(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

/// A frame on its way into the stack.
struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        process(&self.0)
    }
}

/// The way out of the stack.
struct Sender<'a>(&'a mut Link);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut bytes = vec![0; VNET_LEN + len];
        let result = write(&mut bytes[VNET_LEN..]);
        let peer = &self.0.peer;
        self.0.outbound.pass(bytes, |bytes| {
            // A full queue loses the frame, as it does on any link.
            let _ = peer.send(&bytes);
        });
        result
    }
}
