//! Another stack at the other end: smoltcp, on a TAP of the host that the crate `tun-tap` opens.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use heddle_tests::host::{Container, Host, On, Scenario, Way, now, set_interface_up};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use tun_tap::{Iface, Mode};

use crate::internet::{FAMILIES, Family, creation};
use crate::traffic::attach_with;
use crate::web::{LONG, download, serve};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "smol::a_stack_on_a_tap_is_reached_and_reaches",
    on: On::EveryKind,
    play: a_stack_on_a_tap_is_reached_and_reaches,
}];

/// The TAP.
const TAP: &str = "smol0";

/// The longest IP packet on it.
const MTU: usize = 1500;

/// The stack's address.
const MAC: [u8; 6] = [0x02, 0x53, 0x4d, 0x4f, 0x4c, 0x01];

/// The echo service (RFC 862).
const ECHO: u16 = 7;

fn a_stack_on_a_tap_is_reached_and_reaches(host: &mut Host) {
    let tap = match Iface::without_packet_info(TAP, Mode::Tap) {
        Ok(tap) => tap,
        Err(error) => heddle_tests::host::skip(&format!("a TAP on the host: {error}")),
    };
    set_interface_up(TAP);
    host.heddle.start(&[]);
    let create = creation("shop", &format!("packet:{TAP}"));
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    match host.way {
        Way::Root => host.heddle.run(&create),
        Way::User => host.heddle.run_with_raw_sockets(&create),
    };
    let (alice, bob) = (host.container(), host.container());
    attach_with(host, &alice, "shop", "alice", &[]);
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    for family in FAMILIES {
        let _stack = host.serve(|ready| {
            with_stack(&tap, family, |mut stack| {
                ready();
                stack.serve();
            });
        });
        let seen = download(&alice, SocketAddr::new(family.router(), 80));
        assert_eq!((seen.peer, seen.padding), (family.outside(), LONG));
        check_echo(&alice, SocketAddr::new(family.router(), ECHO));
    }
    let _server = serve(&bob, 80);
    for family in FAMILIES {
        let _client = host.serve(|ready| {
            with_stack(&tap, family, |mut stack| {
                stack.fetch(family.published(8080), family.router());
                ready();
            });
        });
    }
}

/// Sends datagrams that come back.
fn check_echo(from: &Container, to: SocketAddr) {
    from.run(|| {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((any, 0)).expect("a free port");
        let patience = Some(heddle_tests::host::PATIENCE);
        socket.set_read_timeout(patience).expect("it is not zero");
        for length in [0, 1, 100, 1400] {
            let sent = vec![0x5a; length];
            socket.send_to(&sent, to).expect("there is a route");
            let mut received = [0; 2000];
            let (count, peer) = socket.recv_from(&mut received).expect("an answer");
            assert_eq!((&received[..count], peer), (&sent[..], to));
        }
    });
}

/// Does `work` with a stack. A thread waits for frames, for whoever opened the TAP cannot make it not
/// wait; it ends with the process.
fn with_stack(tap: &Iface, family: Family, work: impl FnOnce(Stack<'_>)) {
    let (sender, received) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut space = vec![0; MTU + 100];
            while let Ok(length) = tap.recv(&mut space) {
                if sender.send(space[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let link = Link {
            tap,
            received,
            next: None,
        };
        work(Stack::new(link, family));
    });
}

/// A host of smoltcp.
struct Stack<'a> {
    link: Link<'a>,
    interface: Interface,
    sockets: SocketSet<'static>,
}

/// A connection being served: what is still to be sent.
struct Conversation {
    handle: SocketHandle,
    heard: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Stack<'a> {
    fn new(mut link: Link<'a>, family: Family) -> Self {
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        let mut interface = Interface::new(config, &mut link, time());
        interface.update_ip_addrs(|list| {
            let address = IpCidr::new(family.router().into(), family.net().prefix_len());
            // Neighbours that it answers are on the link, too (RFC 4291 §2.5.6).
            let link_local = IpCidr::new(IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64);
            let own = [address, link_local];
            let count = if family.router().is_ipv4() { 1 } else { 2 };
            list.extend(own.into_iter().take(count));
        });
        Self {
            link,
            interface,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    /// Lets everything happen that can, and a little time pass.
    fn turn(&mut self) {
        self.interface
            .poll(time(), &mut self.link, &mut self.sockets);
        let moment = Duration::from_millis(1);
        self.link.next = self.link.received.recv_timeout(moment).ok();
    }

    /// Serves the web and echo until the process ends.
    fn serve(&mut self) {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 1 << 14]);
        let mut echo = udp::Socket::new(buffer(), buffer());
        echo.bind(ECHO).expect("it is not 0");
        let echo = self.sockets.add(echo);
        let mut web = Vec::new();
        for _ in 0..4 {
            let mut socket = tcp_socket();
            socket.listen(80).expect("it is not 0");
            web.push(Conversation {
                handle: self.sockets.add(socket),
                heard: Vec::new(),
                answer: Vec::new(),
            });
        }
        loop {
            self.turn();
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(echo);
            while let Ok((bytes, from)) = socket.recv() {
                let bytes = bytes.to_vec();
                socket
                    .send_slice(&bytes, from.endpoint)
                    .expect("there is room");
            }
            for conversation in &mut web {
                conversation.go_on(self.sockets.get_mut(conversation.handle));
            }
        }
    }

    /// Asks a web server for a long body, and checks it.
    fn fetch(&mut self, at: SocketAddr, own: IpAddr) {
        let mut socket = tcp_socket();
        let to = IpEndpoint::new(at.ip().into(), at.port());
        socket
            .connect(self.interface.context(), to, 40_000)
            .expect("it is on the link");
        let handle = self.sockets.add(socket);
        let mut asked = false;
        let mut heard = Vec::new();
        loop {
            self.turn();
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
            if socket.can_send() && !asked {
                let request = format!("GET /{LONG} HTTP/1.1\r\n\r\n");
                socket.send_slice(request.as_bytes()).expect("it is open");
                asked = true;
            }
            while socket.can_recv() {
                let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
                heard.extend(taken.expect("it is open"));
            }
            if asked && !socket.may_recv() {
                break;
            }
        }
        let heard = String::from_utf8(heard).expect("it is text");
        let (_, body) = heard.split_once("\r\n\r\n").expect("a head and a body");
        let wanted = format!("{own} 0 ");
        let length = u64::try_from(body.len() - wanted.len()).expect("it is small");
        assert!(body.starts_with(&wanted), "{}", &body[..40]);
        assert_eq!(length, LONG);
    }
}

impl Conversation {
    fn go_on(&mut self, socket: &mut tcp::Socket<'_>) {
        if !socket.is_open() {
            *self = Self {
                handle: self.handle,
                heard: Vec::new(),
                answer: Vec::new(),
            };
            socket.listen(80).expect("it is not 0");
            return;
        }
        while socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.heard.extend(taken.unwrap_or_default());
        }
        if self.heard.ends_with(b"\r\n\r\n") {
            self.heard.clear();
            let peer = socket.remote_endpoint().expect("it is connected").addr;
            let padding = usize::try_from(LONG).expect("it is small");
            let body = format!("{peer} 0 {}", "x".repeat(padding));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            self.answer = (head + &body).into_bytes();
        }
        if !self.answer.is_empty() && socket.can_send() {
            let sent = socket.send_slice(&self.answer).unwrap_or_default();
            self.answer.drain(..sent);
            if self.answer.is_empty() {
                socket.close();
            }
        } else if self.answer.is_empty() && socket.state() == tcp::State::CloseWait {
            socket.close();
        }
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 16]);
    tcp::Socket::new(buffer(), buffer())
}

fn time() -> Instant {
    Instant::from_micros(i64::try_from(now().as_micros()).expect("the machine is not that old"))
}

/// The TAP, as smoltcp wants a device.
struct Link<'a> {
    tap: &'a Iface,
    received: mpsc::Receiver<Vec<u8>>,
    /// A frame that was waited for.
    next: Option<Vec<u8>>,
}

impl Device for Link<'_> {
    type RxToken<'a>
        = Received
    where
        Self: 'a;
    type TxToken<'a>
        = Sender<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        let frame = self.next.take().or_else(|| self.received.try_recv().ok())?;
        Some((Received(frame), Sender(self.tap)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(self.tap))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        process(&self.0)
    }
}

struct Sender<'a>(&'a Iface);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        // A full queue loses it, as links do.
        let _ = self.0.send(&frame);
        result
    }
}
