//! Packet sockets and their rings.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use heddle_sys::capability;
use heddle_sys::ethtool;
use heddle_sys::fdpass;
use heddle_sys::netlink::{LinkChange, Netlink, VethOptions};
use heddle_sys::packet::{
    Frames, Layout, MAX_FILTER_ADDRESSES, PacketError, PacketFault, PacketSocket, RingOptions,
    open_unbound,
};
use heddle_sys::sysctl::{self, Outcome};
use heddle_sys::watch::wait_readable;

use crate::harness::{Job, cases, eventually};
use crate::lab::{
    PORT, Relay, Sandbox, Seen, VethPort, configure, prove_traffic, relay_packets, veth_pair,
};

cases![
    pings_and_super_frames_pass_between_two_rootless_containers,
    the_same_with_slots_for_super_frames,
    the_container_sees_nothing_of_the_switchs_end,
    everything_vanishes_when_the_socket_is_closed,
    the_end_of_the_container_is_a_fault,
    an_interface_set_down_is_a_fault_that_passes,
    frames_of_a_burst_are_held_together_and_come_in_order_round_and_round,
    frames_not_taken_wait_for_the_next_burst,
    short_and_long_frames_keep_their_order,
    long_frames_without_room_are_counted,
    a_full_ring_drops_and_counts,
    a_vlan_tag_is_put_back_where_it_was,
    a_super_frame_arrives_as_it_was_sent,
    frames_that_cannot_be_sent_are_refused_whole,
    own_frames_do_not_come_back,
    the_sending_half_sends_while_a_burst_is_held,
    other_stations_frames_stay_out,
    a_successor_takes_over_once_the_first_is_gone,
    a_socket_can_be_bound_before_it_is_passed,
    interfaces_without_ethernet_and_missing_ones_are_told,
    without_the_capability_there_is_no_socket,
    what_the_header_cannot_say_is_switched_off,
];

const STREAM: u64 = 8 << 20;

fn pings_and_super_frames_pass_between_two_rootless_containers() {
    traffic_between_containers(Layout::Short);
}

fn the_same_with_slots_for_super_frames() {
    traffic_between_containers(Layout::Long);
}

fn traffic_between_containers(layout: Layout) {
    let options = RingOptions {
        layout: Some(layout),
        ..RingOptions::default()
    };
    let (first, second) = (Sandbox::rootless(), Sandbox::rootless());
    let [mut near, mut far] = [(&first, 1), (&second, 2)].map(|(sandbox, host)| {
        let mut port = sandbox.veth_port_with("eth0", &options);
        assert_eq!(port.socket.layout(), layout);
        configure(&mut sandbox.netlink(), "eth0", host);
        port.wait_running();
        port.socket
    });
    let relay = Relay::start(|stop| relay_packets(&mut near, &mut far, stop));
    prove_traffic(&first, &second, STREAM);
    let Seen { longest, kinds } = relay.stop();
    // VIRTIO_NET_HDR_GSO_NONE, _TCPV4 and _TCPV6.
    for kind in [0, 1, 4] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert!(longest > 30_000, "{longest}");
}

fn the_container_sees_nothing_of_the_switchs_end() {
    let sandbox = Sandbox::rootless();
    let _port = sandbox.veth_port("eth0");
    let links = sandbox.netlink().links().unwrap();
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lo", "eth0"]);
    assert!(Netlink::open().unwrap().link(PORT).is_err());
}

fn everything_vanishes_when_the_socket_is_closed() {
    let sandbox = Sandbox::rootless();
    let port = sandbox.veth_port("eth0");
    let mut netlink = sandbox.netlink();
    assert!(netlink.link("eth0").is_ok());
    drop(port.netlink);
    assert!(netlink.link("eth0").is_ok());
    drop(port.socket);
    eventually("the interface went away", || netlink.link("eth0").is_err());
}

fn the_end_of_the_container_is_a_fault() {
    let sandbox = Sandbox::rootless();
    let VethPort { mut socket, .. } = sandbox.veth_port("eth0");
    configure(&mut sandbox.netlink(), "eth0", 1);
    drop_frames(&mut socket);
    assert_eq!(socket.take_fault().unwrap(), None);
    assert!(socket.interface().unwrap().is_some());
    drop(sandbox.kill());
    eventually("the fault was told", || {
        wait_readable(socket.as_fd(), Some(Duration::from_secs(1))).unwrap();
        drop_frames(&mut socket);
        socket.take_fault().unwrap() == Some(PacketFault::Gone)
    });
    assert_eq!(socket.interface().unwrap(), None);
    assert_eq!(
        socket.send(&frame(1, 0)).unwrap_err().raw_os_error(),
        Some(libc::ENXIO)
    );
    // Whoever takes such a socket over is told, too.
    let copy = socket.as_fd().try_clone_to_owned().unwrap();
    let refusal = PacketSocket::from_fd(copy, &RingOptions::default()).unwrap_err();
    assert!(matches!(refusal, PacketError::InterfaceGone), "{refusal}");
}

fn drop_frames(socket: &mut PacketSocket) {
    for _ in &mut socket.frames() {}
}

/// A pair here, on which nobody but the case sends anything, and a socket on each end.
struct Pair {
    netlink: Netlink,
    near: PacketSocket,
    far: PacketSocket,
}

impl Pair {
    fn new(layout: Layout) -> Self {
        Self::with(&RingOptions {
            layout: Some(layout),
            ..RingOptions::default()
        })
    }

    fn with(options: &RingOptions<'_>) -> Self {
        let mut netlink = Netlink::open().unwrap();
        netlink
            .create_veth(&VethOptions {
                mtu: Some(9000),
                ..veth_pair()
            })
            .unwrap();
        for name in ["near", "far"] {
            let key = format!("net/ipv6/conf/{name}/disable_ipv6");
            assert_eq!(sysctl::write(&key, "1").unwrap(), Outcome::Set);
            set(&mut netlink, name, true);
        }
        let near = PacketSocket::open("near", options).unwrap();
        let far = PacketSocket::open("far", &RingOptions::default()).unwrap();
        let index = far.interface().unwrap().unwrap();
        assert!(
            netlink
                .wait_running(index, Duration::from_secs(10))
                .unwrap()
        );
        Self { netlink, near, far }
    }

    /// Makes room for another pair.
    fn remove(mut self) {
        let index = self.near.interface().unwrap().unwrap();
        self.netlink.delete_link(index).unwrap();
    }
}

/// Runs a case on a pair with each layout of the ring.
fn with_each_layout(case: impl Fn(&mut Pair)) {
    for layout in [Layout::Short, Layout::Long] {
        let mut pair = Pair::new(layout);
        assert_eq!(pair.near.layout(), layout);
        case(&mut pair);
        pair.remove();
    }
}

fn set(netlink: &mut Netlink, name: &str, up: bool) {
    let index = netlink.link(name).unwrap().index;
    let change = LinkChange {
        up: Some(up),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).unwrap();
}

/// Bytes of virtio-net header and Ethernet header.
const HEADERS: usize = 10 + 14;

/// A broadcast frame with a number in it: an empty virtio-net header, then the local experimental
/// protocol (IEEE 802 §9.2.4).
fn frame(number: u32, extra: usize) -> Vec<u8> {
    let mut frame = vec![0; 10];
    frame.extend([0xff; 6]);
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(frame.len() + 42 + extra, 0x55);
    frame
}

fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[HEADERS..HEADERS + 4].try_into().unwrap())
}

/// The next frame, waited for.
fn receive(socket: &mut PacketSocket) -> Vec<u8> {
    loop {
        if let Some(frame) = socket.frames().iter_mut().next() {
            return frame.to_vec();
        }
        assert!(wait_readable(socket.as_fd(), Some(Duration::from_secs(10))).unwrap());
    }
}

fn an_interface_set_down_is_a_fault_that_passes() {
    let Pair {
        mut netlink,
        mut near,
        far,
    } = Pair::new(Layout::Short);
    set(&mut netlink, "near", false);
    assert!(wait_readable(near.as_fd(), Some(Duration::from_secs(10))).unwrap());
    assert_eq!(near.take_fault().unwrap(), Some(PacketFault::Down));
    // Told once, or else the socket would stay ready.
    assert_eq!(near.take_fault().unwrap(), None);
    assert!(!wait_readable(near.as_fd(), Some(Duration::ZERO)).unwrap());
    let error = near.send(&frame(1, 0)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
    set(&mut netlink, "near", true);
    let index = far.interface().unwrap().unwrap();
    assert!(
        netlink
            .wait_running(index, Duration::from_secs(10))
            .unwrap()
    );
    far.send(&frame(2, 0)).unwrap();
    assert_eq!(number_of(&receive(&mut near)), 2);
}

fn frames_of_a_burst_are_held_together_and_come_in_order_round_and_round() {
    with_each_layout(|Pair { near, far, .. }| {
        let mut next = 0;
        // Bursts that do not divide the ring, over several rounds.
        let large = near.slots() - 5;
        for burst in [7, large, 1, 30, 16, large, near.slots(), large, 5] {
            let numbers = next..next + burst;
            for number in numbers.clone() {
                far.send(&frame(number, 0)).unwrap();
            }
            let mut frames = near.frames();
            let mut held = take(&mut frames, usize::try_from(burst).unwrap());
            for (frame, number) in held.iter_mut().zip(numbers.clone()) {
                assert_eq!(number_of(frame), number);
                frame.fill(u8::try_from(number % 251).unwrap());
            }
            for (frame, number) in held.iter().zip(numbers) {
                assert!(frame.iter().all(|byte| u32::from(*byte) == number % 251));
            }
            next += burst;
        }
        assert_eq!(near.dropped(), 0);
    });
}

/// The next `count` frames, waited for and held all at once.
fn take<'burst>(frames: &'burst mut Frames<'_>, count: usize) -> Vec<&'burst mut [u8]> {
    let mut held = Vec::new();
    // The walk goes on where it stopped, also after it has ended once.
    let mut walk = frames.iter_mut();
    eventually("enough frames arrived", || {
        held.extend(walk.by_ref().take(count - held.len()));
        held.len() == count
    });
    held
}

fn numbers(frames: &mut Frames<'_>, count: usize) -> Vec<u32> {
    take(frames, count)
        .into_iter()
        .map(|frame| number_of(frame))
        .collect()
}

fn frames_not_taken_wait_for_the_next_burst() {
    with_each_layout(|Pair { near, far, .. }| {
        for number in 0..10 {
            far.send(&frame(number, 0)).unwrap();
        }
        let mut frames = near.frames();
        assert_eq!(numbers(&mut frames, 3), [0, 1, 2]);
        assert_eq!(numbers(&mut frames, 2), [3, 4]);
        assert_eq!(frames.taken(), 5);
        drop(frames);
        // A burst in which nothing is taken gives nothing back.
        drop(near.frames());
        assert_eq!(numbers(&mut near.frames(), 5), [5, 6, 7, 8, 9]);
    });
}

fn short_and_long_frames_keep_their_order() {
    with_each_layout(|Pair { near, far, .. }| {
        // Around the length of a short slot, and far beyond.
        let extra = [0, 1800, 1850, 1900, 1950, 2000, 8000, 10, 4000];
        let sent: Vec<Vec<u8>> = (0..60)
            .zip(extra.into_iter().cycle())
            .map(|(number, extra)| frame(number, extra))
            .collect();
        for frame in &sent {
            far.send(frame).unwrap();
        }
        let mut received: Vec<Vec<u8>> = Vec::new();
        let mut bursts = 0;
        while received.len() < sent.len() {
            assert!(wait_readable(near.as_fd(), Some(Duration::from_secs(10))).unwrap());
            let before = received.len();
            let mut frames = near.frames();
            // Held together, whether they are in the ring or in buffers.
            let held: Vec<&mut [u8]> = frames.iter_mut().collect();
            received.extend(held.iter().map(|frame| frame.to_vec()));
            // A burst is empty only if nothing has arrived.
            assert!(received.len() > before);
            bursts += 1;
        }
        assert!(
            received == sent,
            "frames came in another order, or other frames"
        );
        // Short slots: more long frames than one burst has buffers.
        assert!(near.layout() == Layout::Long || bursts > 1);
        assert_eq!(near.dropped(), 0);
    });
}

fn long_frames_without_room_are_counted() {
    let mut pair = Pair::new(Layout::Short);
    let Pair { near, far, .. } = &mut pair;
    let sent = 900;
    for _ in 0..sent {
        far.send(&tcp_frame(None, 60_000, 1448)).unwrap();
    }
    let mut received = 0;
    eventually("every frame was received or counted", || {
        received += near.frames().iter_mut().count();
        u64::try_from(received).unwrap() + near.dropped() == sent
    });
    // There is room for some, but not for all.
    assert!(received >= 4, "{received}");
    assert!(near.dropped() > 0);
}

fn a_full_ring_drops_and_counts() {
    with_each_layout(|Pair { near, far, .. }| {
        let slots = near.slots();
        for number in 0..slots + 10 {
            far.send(&frame(number, 0)).unwrap();
        }
        eventually("the surplus was dropped", || near.dropped() == 10);
        let all: Vec<u32> = (0..slots).collect();
        let mut frames = near.frames();
        assert_eq!(numbers(&mut frames, usize::try_from(slots).unwrap()), all);
        // Every slot is taken: the walk must not begin anew with slots that are held.
        assert!(frames.iter_mut().next().is_none());
        drop(frames);
        far.send(&frame(1000, 0)).unwrap();
        assert_eq!(number_of(&receive(near)), 1000);
        // The count stays although the kernel forgets it with each look.
        assert_eq!(near.dropped(), 10);
    });
}

/// A TCP/IPv4 frame with a partial checksum: header, addresses, perhaps a tag, 40 bytes of IP and TCP.
fn tcp_frame(tag: Option<[u8; 4]>, payload: usize, segment: u16) -> Vec<u8> {
    let shift = tag.map_or(0, |tag| u16::try_from(tag.len()).unwrap());
    // NEEDS_CSUM; TCPv4 if there is more than one segment.
    let mut frame = vec![1, u8::from(segment != 0)];
    let header_length = if segment == 0 { 0 } else { 54 + shift };
    for field in [header_length, segment, 34 + shift, 16] {
        frame.extend(field.to_ne_bytes());
    }
    frame.extend([0xff; 6]);
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(tag.into_iter().flatten());
    frame.extend([0x08, 0x00]);
    let total = u16::try_from(40 + payload).unwrap().to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    // Ports, numbers, data offset 5, ACK, window; the checksum field is the kernel's to fill.
    frame.extend([
        0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    frame.extend((0..payload).map(|place| u8::try_from(place % 251).unwrap()));
    frame
}

fn a_vlan_tag_is_put_back_where_it_was() {
    let tags = [
        // IEEE 802.1Q and 802.1ad, with priority and drop eligibility.
        [0x81, 0x00, 0x00, 0x05],
        [0x81, 0x00, 0xff, 0xfe],
        [0x88, 0xa8, 0x61, 0x23],
        // A priority tag, without a VLAN.
        [0x81, 0x00, 0xe0, 0x00],
    ];
    with_each_layout(|Pair { near, far, .. }| {
        for tag in tags {
            let sent = tcp_frame(Some(tag), 100, 0);
            far.send(&sent).unwrap();
            assert_eq!(receive(near), sent, "{tag:x?}");
            let sent = tcp_frame(Some(tag), 20_000, 1448);
            far.send(&sent).unwrap();
            let received = receive(near);
            assert!(received[10..] == sent[10..], "{tag:x?}");
            assert_headers_agree(&received, &sent);
        }
        let untagged = tcp_frame(None, 100, 0);
        far.send(&untagged).unwrap();
        assert_eq!(receive(near), untagged);
    });
}

/// Both virtio-net headers say the same. The header length is a hint, and the kernel's may be longer.
fn assert_headers_agree(received: &[u8], sent: &[u8]) {
    assert_eq!(received[..2], sent[..2]);
    assert_eq!(received[4..10], sent[4..10]);
    let hint = |frame: &[u8]| u16::from_ne_bytes([frame[2], frame[3]]);
    assert!(
        hint(received) >= hint(sent),
        "{} < {}",
        hint(received),
        hint(sent)
    );
}

fn a_super_frame_arrives_as_it_was_sent() {
    with_each_layout(|Pair { near, far, .. }| {
        // The last is the longest frame that a device of the usual gso_max_size, 65,536, is given.
        for payload in [3000, 20_000, 65_535 - 54] {
            let sent = tcp_frame(None, payload, 1448);
            assert_eq!(far.send(&sent).unwrap(), sent.len());
            let received = receive(near);
            assert!(
                received[10..] == sent[10..],
                "{payload} bytes arrived otherwise"
            );
            assert_headers_agree(&received, &sent);
        }
        assert_eq!(near.dropped(), 0);
    });
}

fn frames_that_cannot_be_sent_are_refused_whole() {
    let Pair { far, .. } = Pair::new(Layout::Short);
    let error = far.send(&frame(1, 9000)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    // A checksum behind the frame's end.
    let mut lying = frame(1, 0);
    lying[0] = 1;
    lying[6..8].copy_from_slice(&9000_u16.to_ne_bytes());
    assert_eq!(
        far.send(&lying).unwrap_err().kind(),
        std::io::ErrorKind::InvalidInput
    );
    // No room for the virtio-net header.
    assert!(far.send(&[0; 9]).is_err());
}

fn own_frames_do_not_come_back() {
    let Pair { mut near, far, .. } = Pair::new(Layout::Short);
    near.send(&frame(1, 0)).unwrap();
    far.send(&frame(2, 0)).unwrap();
    assert_eq!(number_of(&receive(&mut near)), 2);
}

fn the_sending_half_sends_while_a_burst_is_held() {
    let Pair {
        mut near, mut far, ..
    } = Pair::new(Layout::Short);
    let sender = near.sender().unwrap();
    far.send(&frame(1, 0)).unwrap();
    let mut frames = near.frames();
    for frame in take(&mut frames, 1) {
        assert_eq!(sender.send(frame).unwrap(), frame.len());
    }
    drop(frames);
    assert_eq!(number_of(&receive(&mut far)), 1);
    // It is the same socket: what it sends does not come back here either.
    far.send(&frame(2, 0)).unwrap();
    assert_eq!(number_of(&receive(&mut near)), 2);
    // And it goes on without the other half, until it is dropped, too.
    drop(near);
    sender.send(&frame(3, 0)).unwrap();
    assert_eq!(number_of(&receive(&mut far)), 3);
}

fn other_stations_frames_stay_out() {
    const OURS: [u8; 6] = [2, 0, 0, 0, 0xaa, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0xbb, 1];
    let options = RingOptions {
        promiscuous: true,
        addresses: Some(&[OURS]),
        ..RingOptions::default()
    };
    let Pair { mut near, far, .. } = Pair::with(&options);
    let to = |address: [u8; 6], number| {
        let mut frame = frame(number, 0);
        frame[10..16].copy_from_slice(&address);
        far.send(&frame).unwrap();
    };
    to(THEIRS, 1);
    to(OURS, 2);
    to(THEIRS, 3);
    to([0xff; 6], 4);
    assert_eq!(numbers(&mut near.frames(), 2), [2, 4]);
    near.set_addresses(&[THEIRS]).unwrap();
    to(OURS, 5);
    to(THEIRS, 6);
    assert_eq!(numbers(&mut near.frames(), 1), [6]);
    // A successor that asks for no filter gets none.
    let copy = near.as_fd().try_clone_to_owned().unwrap();
    drop(near);
    let mut near = PacketSocket::from_fd(copy, &RingOptions::default()).unwrap();
    to(OURS, 7);
    assert_eq!(number_of(&receive(&mut near)), 7);
    let many = vec![OURS; MAX_FILTER_ADDRESSES + 1];
    let refusal = near.set_addresses(&many).unwrap_err();
    assert!(
        matches!(refusal, PacketError::TooManyAddresses { .. }),
        "{refusal}"
    );
}

fn a_successor_takes_over_once_the_first_is_gone() {
    let Pair {
        mut netlink,
        near,
        far,
    } = Pair::new(Layout::Short);
    drop(near);
    let kept = open_unbound().unwrap();
    let index = netlink.link("near").unwrap().index;
    let options = RingOptions::default();
    let (tell, told) = fdpass::socketpair_seqpacket().unwrap();
    let first = Job::spawn(|| {
        let mut socket = PacketSocket::from_fd(copy_of(&kept), &options).unwrap();
        socket.bind(index).unwrap();
        fdpass::send(tell.as_fd(), b"ready", &[]).unwrap();
        receive(&mut socket);
        fdpass::send(tell.as_fd(), b"received", &[]).unwrap();
        // Frames keep coming while this one does nothing, until it is killed.
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    });
    fdpass::receive(told.as_fd(), &mut [0; 8], 0).unwrap();
    far.send(&frame(1, 0)).unwrap();
    fdpass::receive(told.as_fd(), &mut [0; 8], 0).unwrap();

    let refusal = PacketSocket::from_fd(copy_of(&kept), &options).unwrap_err();
    assert!(matches!(refusal, PacketError::InUse), "{refusal}");
    for number in 2..100 {
        far.send(&frame(number, 0)).unwrap();
    }
    drop(first);
    // Another size, too; and bound already, by the first one.
    let options = RingOptions {
        blocks: 3,
        layout: Some(Layout::Long),
        ..options
    };
    let mut second = PacketSocket::from_fd(copy_of(&kept), &options).unwrap();
    assert_eq!(second.interface().unwrap(), Some(index));
    assert_eq!(second.dropped(), 0);
    far.send(&frame(100, 0)).unwrap();
    assert_eq!(number_of(&receive(&mut second)), 100);
    drop(second);
    let mut third = PacketSocket::from_fd(copy_of(&kept), &options).unwrap();
    far.send(&frame(101, 0)).unwrap();
    assert_eq!(number_of(&receive(&mut third)), 101);
}

fn copy_of(fd: &OwnedFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

fn a_socket_can_be_bound_before_it_is_passed() {
    let sandbox = Sandbox::new();
    let mut inside = sandbox.netlink();
    inside.create_veth(&veth_pair()).unwrap();
    for name in ["near", "far"] {
        set(&mut inside, name, true);
    }
    let fds = sandbox.bring_out(|| {
        let bound = PacketSocket::open("near", &RingOptions::default()).unwrap();
        // The ring goes away with this process, the binding stays with the descriptor.
        vec![copy_of_socket(&bound), open_unbound().unwrap()]
    });
    let [near, far]: [OwnedFd; 2] = fds.try_into().unwrap();
    let mut near = PacketSocket::from_fd(near, &RingOptions::default()).unwrap();
    let mut far = PacketSocket::from_fd(far, &RingOptions::default()).unwrap();
    assert_eq!(far.interface().unwrap(), None);
    // Looked up where the socket is, not here.
    far.bind("far").unwrap();
    far.send(&frame(7, 0)).unwrap();
    loop {
        let received = receive(&mut near);
        if received[22..24] == [0x88, 0xb5] {
            assert_eq!(number_of(&received), 7);
            break;
        }
    }
}

fn copy_of_socket(socket: &PacketSocket) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

fn interfaces_without_ethernet_and_missing_ones_are_told() {
    let options = RingOptions::default();
    let refusal = PacketSocket::open("lo", &options).unwrap_err();
    assert_eq!(refusal.to_string(), "lo is not an Ethernet interface");
    let missing = [
        PacketSocket::open("none", &options),
        PacketSocket::open(4711, &options),
    ];
    for refusal in missing.map(Result::unwrap_err) {
        assert!(
            matches!(refusal, PacketError::NoInterface { .. }),
            "{refusal}"
        );
    }
    // Zero would be every interface.
    assert!(PacketSocket::open(0, &options).is_err());
}

fn without_the_capability_there_is_no_socket() {
    capability::drop_all().unwrap();
    let refusal = open_unbound().unwrap_err();
    assert!(matches!(refusal, PacketError::NotPermitted), "{refusal}");
    assert!(refusal.hint().is_some());
}

fn what_the_header_cannot_say_is_switched_off() {
    let sandbox = Sandbox::rootless();
    let _port = sandbox.veth_port("eth0");
    let netlink = sandbox.netlink();
    let active = |name: &str| {
        ethtool::features(netlink.as_fd(), "eth0")
            .unwrap()
            .iter()
            .any(|feature| feature.name == name && feature.active)
    };
    let beyond = [
        "tx-checksum-sctp",
        "tx-udp_tnl-segmentation",
        "tx-gre-segmentation",
    ];
    for feature in beyond {
        assert!(active(feature), "{feature}");
    }
    ethtool::fit_for_packet_socket(netlink.as_fd(), "eth0").unwrap();
    for feature in beyond {
        assert!(!active(feature), "{feature}");
    }
    for feature in [
        "tx-checksum-ip-generic",
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
    ] {
        assert!(active(feature), "{feature}");
    }
}
