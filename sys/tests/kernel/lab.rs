//! Containers, traffic and relays for the cases.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use heddle_sys::fdpass;
use heddle_sys::namespace::{Maps, Namespace, NamespaceKind, unshare, write_id_maps};
use heddle_sys::netlink::{LinkChange, Netlink, VethOptions};
use heddle_sys::packet::{PacketSocket, RingOptions, open_unbound};
use heddle_sys::tap::{self, Tap, TapError, TapOptions};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::harness::{Job, set_loopback_up, skip};

/// How long a single answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process in namespaces of its own, which does nothing: what a container is to the switch.
pub(crate) struct Sandbox {
    job: Job,
    pub(crate) network: Namespace,
}

impl Sandbox {
    /// A container in this process's user namespace.
    pub(crate) fn new() -> Self {
        Self::with(&[NamespaceKind::Network])
    }

    /// A container with a user namespace of its own, as rootless engines make them.
    pub(crate) fn rootless() -> Self {
        Self::with(&[NamespaceKind::User, NamespaceKind::Network])
    }

    fn with(kinds: &[NamespaceKind]) -> Self {
        let (near, far) = fdpass::socketpair_seqpacket().unwrap();
        let own_users = kinds.contains(&NamespaceKind::User);
        let job = Job::spawn(|| {
            unshare(kinds).unwrap();
            if own_users {
                let pid = std::process::id();
                write_id_maps(pid, &Maps::single(0, 0), &Maps::single(0, 0)).unwrap();
            }
            set_loopback_up();
            fdpass::send(far.as_fd(), b"ready", &[]).unwrap();
            // Nothing comes any more: this ends when it is killed.
            loop {
                let _ = poll(&mut [], None);
            }
        });
        // So that a child that fails is an end and not a silence.
        drop(far);
        let received = fdpass::receive(near.as_fd(), &mut [0; 8], 0).unwrap();
        assert_eq!(received.len, 5, "the container did not start");
        let network = Namespace::open_pid(job.pid, NamespaceKind::Network).unwrap();
        Self { job, network }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.job.pid
    }

    /// Ends the container's only process; the namespace stays as long as something pins it.
    pub(crate) fn kill(self) -> Namespace {
        self.network
    }

    /// Runs `work` inside, in the background.
    pub(crate) fn spawn(&self, work: impl FnOnce() -> Vec<u8>) -> Job {
        Job::spawn(|| {
            self.network.enter_with_owner().unwrap();
            work()
        })
    }

    /// Runs `work` inside and waits for it.
    pub(crate) fn run(&self, work: impl FnOnce()) {
        self.spawn(|| {
            work();
            Vec::new()
        })
        .join();
    }

    /// Runs `open` inside and brings out the descriptors that it returns.
    pub(crate) fn bring_out(&self, open: impl FnOnce() -> Vec<OwnedFd>) -> Vec<OwnedFd> {
        let (near, far) = fdpass::socketpair_seqpacket().unwrap();
        let work = self.spawn(|| {
            let fds = open();
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            fdpass::send_all_fds(far.as_fd(), &borrowed).unwrap();
            Vec::new()
        });
        work.join();
        fdpass::receive_all_fds(near.as_fd(), 512).unwrap()
    }

    /// A netlink socket that acts inside.
    pub(crate) fn netlink(&self) -> Netlink {
        let mut fds = self.bring_out(|| vec![Netlink::open().unwrap().into()]);
        Netlink::from_fd(fds.remove(0)).unwrap()
    }

    /// A TAP inside, its queues outside.
    pub(crate) fn tap(&self, name: &str, queues: u16) -> Vec<OwnedFd> {
        need_tap();
        self.bring_out(|| {
            tap::create(&TapOptions {
                name,
                queues,
                persist: false,
            })
            .unwrap()
            .queues
        })
    }
}

/// The name of the switch's end of a veth pair, in a namespace where it is alone.
pub(crate) const PORT: &str = "port";

impl Sandbox {
    /// A veth interface inside whose other end is out of the container's sight: in a namespace that
    /// nobody is in and that only the sockets of the port keep alive.
    pub(crate) fn veth_port(&self, name: &str) -> VethPort {
        self.veth_port_with(name, &RingOptions::default())
    }

    pub(crate) fn veth_port_with(&self, name: &str, options: &RingOptions<'_>) -> VethPort {
        let fds = self.bring_out(|| {
            unshare(&[NamespaceKind::Network]).unwrap();
            let options = VethOptions {
                name: PORT,
                peer_name: name,
                peer_netns: Some(self.network.as_fd()),
                up: true,
                ..veth_pair()
            };
            let mut netlink = Netlink::open().unwrap();
            netlink.create_veth(&options).unwrap();
            vec![open_unbound().unwrap(), netlink.into()]
        });
        let [socket, netlink]: [OwnedFd; 2] = fds.try_into().unwrap();
        let mut socket = PacketSocket::from_fd(socket, options).unwrap();
        socket.bind(PORT).unwrap();
        VethPort {
            socket,
            netlink: Netlink::from_fd(netlink).unwrap(),
        }
    }
}

/// The switch's end of a veth pair.
pub(crate) struct VethPort {
    pub(crate) socket: PacketSocket,
    /// Acts in the namespace where that end is.
    pub(crate) netlink: Netlink,
}

impl VethPort {
    /// Waits until this end can send. The other one is up.
    pub(crate) fn wait_running(&mut self) {
        let index = self.socket.interface().unwrap().unwrap();
        assert!(self.netlink.wait_running(index, PATIENCE).unwrap());
    }
}

/// A pair called near and far, both here and down.
pub(crate) fn veth_pair<'a>() -> VethOptions<'a> {
    VethOptions {
        name: "near",
        peer_name: "far",
        peer_netns: None,
        mac: None,
        peer_mac: None,
        mtu: None,
        tx_queue_len: None,
        up: false,
    }
}

/// Ends the case where TAPs cannot be made.
pub(crate) fn need_tap() {
    match make_tap("probe", 1) {
        Ok(_) => {}
        Err(error @ (TapError::DeviceMissing | TapError::DeviceForbidden | TapError::NoDriver)) => {
            skip(&error.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn make_tap(name: &str, queues: u16) -> Result<Tap, TapError> {
    tap::create(&TapOptions {
        name,
        queues,
        persist: false,
    })
}

/// Gives interface `name` its addresses in both families, without looking for duplicates, and sets
/// it up. The Ethernet address goes with them: a host that came back with another one would not be
/// believed for a second.
pub(crate) fn configure(netlink: &mut Netlink, name: &str, host: u8) {
    let index = netlink.link(name).unwrap().index;
    let change = LinkChange {
        up: Some(true),
        mac: Some([2, 0, 0, 0, 9, host]),
        ipv6_link_local: Some(false),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).unwrap();
    for (ip, prefix_len) in [(ipv4(host), 24), (ipv6(host), 64)] {
        netlink.add_address(index, ip, prefix_len, true).unwrap();
        assert!(netlink.wait_local(ip, PATIENCE).unwrap());
    }
}

pub(crate) fn ipv4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, 8, host).into()
}

pub(crate) fn ipv6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd09, 8, 0, 0, 0, 0, 0, host.into()).into()
}

/// Sends one echo request (RFC 792, RFC 4443 §4) and waits for the reply. Lost ones are repeated:
/// the first may be before the other end is ready.
pub(crate) fn ping(target: IpAddr) {
    let (family, protocol, request, reply) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )
    .unwrap();
    let timeout = Some(Duration::from_millis(200));
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, timeout)
        .unwrap();
    // Identifier and sequence number 0x1234, 1; over IPv6 the kernel fills the checksum in.
    let mut message = vec![request, 0, 0, 0, 0x12, 0x34, 0, 1];
    if target.is_ipv4() {
        let sum = !(0x0800_u16 + 0x1234 + 1);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let deadline = heddle_sys::clock::monotonic() + PATIENCE;
    while heddle_sys::clock::monotonic() < deadline {
        let destination = SocketAddr::new(target, 0);
        rustix::net::sendto(&socket, &message, SendFlags::empty(), &destination).unwrap();
        let mut buffer = [0; 128];
        while let Ok((length, _)) =
            rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())
        {
            // IPv4 hands over the IP header, too.
            let start = if target.is_ipv4() {
                usize::from(buffer[0] & 15) * 4
            } else {
                0
            };
            let message = &buffer[start..length];
            if message[0] == reply && message[4..6] == [0x12, 0x34] {
                return;
            }
        }
    }
    panic!("{target} does not answer");
}

/// Accepts one connection, counts its bytes, checks them, and answers with the count.
pub(crate) fn tcp_sink(listener: &TcpListener) -> u64 {
    let (mut connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0_u64;
    loop {
        let length = connection.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        for byte in &buffer[..length] {
            assert_eq!(*byte, pattern(count), "at byte {count}");
            count += 1;
        }
    }
    connection.write_all(&count.to_be_bytes()).unwrap();
    count
}

/// Sends `length` bytes to a [`tcp_sink`] and waits for its answer.
pub(crate) fn tcp_send(target: SocketAddr, length: u64) {
    let mut connection = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut sent = 0;
    while sent < length {
        let end = length.min(sent + (1 << 16));
        let chunk: Vec<u8> = (sent..end).map(pattern).collect();
        connection.write_all(&chunk).unwrap();
        sent = end;
    }
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = [0; 8];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(u64::from_be_bytes(answer), length);
}

/// Byte number `place` of a stream: no period that a misplaced segment could hide behind.
fn pattern(place: u64) -> u8 {
    place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// A ping and a TCP transfer each way, over both families, between two containers that something
/// connects. The first has host number 1, the second 2.
pub(crate) fn prove_traffic(first: &Sandbox, second: &Sandbox, stream_length: u64) {
    for (from, to, target) in [(first, second, 2), (second, first, 1)] {
        from.run(|| {
            ping(ipv4(target));
            ping(ipv6(target));
        });
        for address in [ipv4(target), ipv6(target)] {
            let listener = to.bring_out(|| {
                vec![
                    TcpListener::bind(SocketAddr::new(address, 7000))
                        .unwrap()
                        .into(),
                ]
            });
            let listener = TcpListener::from(listener.into_iter().next().unwrap());
            let sink = Job::spawn(|| tcp_sink(&listener).to_be_bytes().to_vec());
            from.run(|| tcp_send(SocketAddr::new(address, 7000), stream_length));
            assert_eq!(sink.join(), stream_length.to_be_bytes());
        }
    }
}

/// Exchanges a datagram with an echoing socket.
pub(crate) fn udp_exchange(socket: &UdpSocket, target: SocketAddr) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"question", target).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"question"[..], target));
}

/// What a relay saw: largest frame and the kinds of super-frames (`VIRTIO_NET_HDR_GSO_*`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) longest: usize,
    pub(crate) kinds: Vec<u8>,
}

impl Seen {
    fn note(&mut self, frame: &[u8]) {
        self.longest = self.longest.max(frame.len());
        if !self.kinds.contains(&frame[1]) {
            self.kinds.push(frame[1]);
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = u64::try_from(self.longest).unwrap().to_be_bytes().to_vec();
        bytes.extend(&self.kinds);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (longest, kinds) = bytes.split_at(8);
        let longest = u64::from_be_bytes(longest.try_into().unwrap());
        Self {
            longest: longest.try_into().unwrap(),
            kinds: kinds.to_vec(),
        }
    }
}

/// Carries frames between TAPs until `stop` is closed at the other end.
pub(crate) fn relay_taps(first: BorrowedFd<'_>, second: BorrowedFd<'_>, stop: &OwnedFd) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = vec![0; 1 << 17];
    while wait_for_frames(&[first, second], stop) {
        for (from, to) in [(first, second), (second, first)] {
            loop {
                match tap::read(from, &mut buffer) {
                    Ok(length) => {
                        seen.note(&buffer[..length]);
                        // An interface that is still down takes nothing.
                        let _ = tap::write(to, &buffer[..length]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    seen
}

/// Carries frames between packet sockets until `stop` is closed at the other end.
pub(crate) fn relay_packets(
    first: &mut PacketSocket,
    second: &mut PacketSocket,
    stop: &OwnedFd,
) -> Seen {
    fn carry(from: &mut PacketSocket, to: &PacketSocket, seen: &mut Seen) {
        for frame in &mut from.frames() {
            seen.note(frame);
            let _ = to.send(frame);
        }
    }
    let mut seen = Seen::default();
    while wait_for_frames(&[first.as_fd(), second.as_fd()], stop) {
        carry(first, second, &mut seen);
        carry(second, first, &mut seen);
    }
    seen
}

fn wait_for_frames(fds: &[BorrowedFd<'_>], stop: &OwnedFd) -> bool {
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .chain([PollFd::new(stop, PollFlags::IN)])
        .collect();
    poll(&mut fds, None).unwrap();
    fds.last().unwrap().revents().is_empty()
}

/// A relay in a process of its own, until it is asked what it saw.
pub(crate) struct Relay {
    job: Job,
    stop: OwnedFd,
}

impl Relay {
    pub(crate) fn start(work: impl FnOnce(&OwnedFd) -> Seen) -> Self {
        let (end, writer) = rustix::pipe::pipe().unwrap();
        let mut writer = Some(writer);
        let job = Job::spawn(|| {
            // Only the parent's copy keeps the relay going.
            writer = None;
            work(&end).to_bytes()
        });
        Self {
            job,
            stop: writer.expect("the parent's is untouched"),
        }
    }

    #[allow(dead_code, reason = "asked for by a measurement")]
    pub(crate) fn pid(&self) -> u32 {
        self.job.pid
    }

    pub(crate) fn stop(self) -> Seen {
        drop(self.stop);
        Seen::from_bytes(&self.job.join())
    }
}
