//! TAP interfaces.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use heddle_sys::namespace::{Namespace, NamespaceKind};
use heddle_sys::netlink::{LinkChange, Netlink, VethOptions};
use heddle_sys::tap::{
    self, MAX_QUEUES, Tap, TapError, TapInfo, TapOptions, VNET_HEADER_LENGTH, negotiate,
};
use heddle_sys::watch::wait_readable;

use crate::harness::{cases, eventually};
use crate::lab::{
    Relay, Sandbox, Seen, configure, ipv4, ipv6, make_tap, need_tap, ping, prove_traffic,
    relay_taps, udp_exchange, veth_pair,
};

cases![
    pings_and_super_frames_pass_between_two_namespaces,
    every_offload_of_this_kernel_is_negotiated,
    a_udp_super_frame_reaches_the_reader_whole,
    a_flow_comes_on_the_queue_it_was_written_to,
    a_tap_pins_the_namespace_it_was_opened_in,
    a_tap_moved_in_from_outside_does_not_pin_its_namespace,
    a_tap_moved_and_renamed_by_others_keeps_passing_frames,
    a_persistent_tap_takes_a_successor_with_another_number_of_queues,
    attaching_makes_nothing_and_takes_nothing_over,
    a_taken_name_is_told_whatever_has_it,
    the_number_of_queues_has_the_kernels_limit,
    a_tap_of_somebody_else_is_seen_for_what_it_is,
    only_the_first_to_attach_decides_about_the_header,
    the_multi_queue_flag_must_match,
    an_interface_that_is_down_takes_no_frames,
    a_queue_can_be_removed_from_in_front_of_a_tap,
];

/// TCP bytes of one stream: enough for slow start to reach super-frames.
const STREAM: u64 = 8 << 20;

fn pings_and_super_frames_pass_between_two_namespaces() {
    let (first, second) = (Sandbox::rootless(), Sandbox::new());
    let ends = [(&first, 1), (&second, 2)].map(|(sandbox, host)| {
        let queue = sandbox.tap("eth0", 1).remove(0);
        configure(&mut sandbox.netlink(), "eth0", host);
        queue
    });
    let relay = Relay::start(|stop| relay_taps(ends[0].as_fd(), ends[1].as_fd(), stop));
    prove_traffic(&first, &second, STREAM);
    let Seen { longest, kinds } = relay.stop();
    // VIRTIO_NET_HDR_GSO_NONE, _TCPV4 and _TCPV6.
    for kind in [0, 1, 4] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert!(longest > 30_000, "{longest}");
}

fn every_offload_of_this_kernel_is_negotiated() {
    need_tap();
    let tap = make_tap("t0", 1).unwrap();
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let expected = if version >= (6, 2) {
        "csum tso4 tso6 uso4 uso6"
    } else {
        "csum tso4 tso6"
    };
    assert_eq!(tap.offloads.to_string(), expected, "on {release}");
    // The same again for a descriptor from somebody else.
    assert_eq!(negotiate(tap.queues[0].as_fd()).unwrap(), tap.offloads);
}

fn a_udp_super_frame_reaches_the_reader_whole() {
    need_tap();
    let tap = make_tap("t0", 1).unwrap();
    configure(&mut Netlink::open().unwrap(), "t0", 1);
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link("t0").unwrap().index;
    for (address, kind_before_6_2) in [(ipv4(2), 0), (ipv6(2), 0)] {
        netlink
            .add_neighbour(index, address, [2, 0, 0, 0, 0, 2])
            .unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(
            if address.is_ipv4() { ipv4(1) } else { ipv6(1) },
            0,
        ))
        .unwrap();
        let segment = 1000;
        set_segment_size(&socket, segment);
        socket
            .send_to(&[7; 5000], SocketAddr::new(address, 9))
            .unwrap();
        // Other frames, of the interface's own, may come first.
        let frame = next_frame(tap.queues[0].as_fd(), |frame| frame.ends_with(&[7; 1000]));
        if tap.offloads.uso4 {
            // VIRTIO_NET_HDR_GSO_UDP_L4.
            assert_eq!(frame[1], 5);
            assert_eq!(u16::from_ne_bytes([frame[4], frame[5]]), 1000);
            assert!(frame.len() > 5000);
        } else {
            assert_eq!(frame[1], kind_before_6_2);
        }
    }
}

/// `UDP_SEGMENT` of `linux/udp.h`.
fn set_segment_size(socket: &UdpSocket, size: libc::c_int) {
    // SAFETY: pointer and length describe `size`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            103,
            (&raw const size).cast(),
            libc::socklen_t::try_from(size_of_val(&size)).unwrap(),
        )
    };
    assert_eq!(result, 0);
}

fn next_frame(fd: BorrowedFd<'_>, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        assert!(
            wait_readable(fd, Some(Duration::from_secs(10))).unwrap(),
            "no such frame came"
        );
        let length = tap::read(fd, &mut buffer).unwrap();
        if wanted(&buffer[..length]) {
            return buffer[..length].to_vec();
        }
    }
}

fn a_flow_comes_on_the_queue_it_was_written_to() {
    need_tap();
    let tap = make_tap("t0", 4).unwrap();
    let mut netlink = Netlink::open().unwrap();
    configure(&mut netlink, "t0", 1);
    let index = netlink.link("t0").unwrap().index;
    netlink
        .add_neighbour(index, ipv4(2), [2, 0, 0, 0, 0, 2])
        .unwrap();
    let socket = UdpSocket::bind(SocketAddr::new(ipv4(1), 0)).unwrap();
    let target = SocketAddr::new(ipv4(2), 9);
    for wanted in [3, 0, 2, 1] {
        socket.send_to(b"the flow of this test", target).unwrap();
        let (mut frame, _) = find_frame(&tap.queues, b"the flow of this test");
        turn_around(&mut frame);
        tap::write(tap.queues[wanted].as_fd(), &frame).unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"the flow of this test");
        socket.send_to(b"and again", target).unwrap();
        let (_, queue) = find_frame(&tap.queues, b"and again");
        assert_eq!(queue, wanted);
    }
}

/// The frame that ends in `payload` and the number of the queue it came on.
fn find_frame(queues: &[OwnedFd], payload: &[u8]) -> (Vec<u8>, usize) {
    let mut found = None;
    eventually("the frame came on some queue", || {
        for (number, queue) in queues.iter().enumerate() {
            let mut buffer = [0; 2048];
            while let Ok(length) = tap::read(queue.as_fd(), &mut buffer) {
                if buffer[..length].ends_with(payload) {
                    found = Some((buffer[..length].to_vec(), number));
                }
            }
        }
        found.is_some()
    });
    found.unwrap()
}

/// Makes an IPv4 UDP frame its own answer. All sums stay as they are, a partial one included.
fn turn_around(frame: &mut [u8]) {
    let ethernet = VNET_HEADER_LENGTH;
    let (ip, udp) = (ethernet + 14, ethernet + 34);
    for (place, length) in [(ethernet, 6), (ip + 12, 4), (udp, 2)] {
        let (first, second) = frame[place..].split_at_mut(length);
        first.swap_with_slice(&mut second[..length]);
    }
}

fn a_tap_pins_the_namespace_it_was_opened_in() {
    let sandbox = Sandbox::new();
    let queue = sandbox.tap("eth0", 1).remove(0);
    // Of a pair across the border our end goes away with the namespace, and so tells when.
    let mut netlink = Netlink::open().unwrap();
    let witness = VethOptions {
        peer_netns: Some(sandbox.network.as_fd()),
        ..veth_pair()
    };
    netlink.create_veth(&witness).unwrap();
    configure(&mut sandbox.netlink(), "eth0", 1);
    drop(sandbox.kill());
    // The interface still sends what the kernel makes by itself, for example; and takes frames.
    assert_eq!(Tap::inspect(queue.as_fd()).unwrap().name, "eth0");
    tap::write(queue.as_fd(), &[0; 64]).unwrap();
    assert!(netlink.link("near").is_ok());
    drop(queue);
    eventually("the namespace ended", || netlink.link("near").is_err());
}

fn a_tap_moved_in_from_outside_does_not_pin_its_namespace() {
    need_tap();
    let tap = make_tap("t0", 1).unwrap();
    let sandbox = Sandbox::new();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link("t0").unwrap().index;
    let away = LinkChange {
        netns: Some(sandbox.network.as_fd()),
        ..LinkChange::default()
    };
    netlink.set_link(index, &away).unwrap();
    assert!(netlink.link("t0").unwrap_err().is_absent());
    drop(sandbox.kill());
    let queue = tap.queues[0].as_fd();
    assert!(wait_readable(queue, Some(Duration::from_secs(20))).unwrap());
    let error = tap::read(queue, &mut [0; 64]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    assert!(matches!(Tap::inspect(queue), Err(TapError::NotAttached)));
}

fn a_tap_moved_and_renamed_by_others_keeps_passing_frames() {
    need_tap();
    let tap = make_tap("t0", 1).unwrap();
    let sandbox = Sandbox::new();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link("t0").unwrap().index;
    let change = LinkChange {
        netns: Some(sandbox.network.as_fd()),
        name: Some("renamed"),
        mac: Some([2, 0, 0, 0, 9, 1]),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).unwrap();
    let mut inside = sandbox.netlink();
    configure(&mut inside, "renamed", 1);
    assert_eq!(
        inside.link("renamed").unwrap().mac,
        Some([2, 0, 0, 0, 9, 1])
    );
    assert_eq!(Tap::inspect(tap.queues[0].as_fd()).unwrap().name, "renamed");

    let other = make_tap("t1", 1).unwrap();
    configure(&mut netlink, "t1", 2);
    let relay =
        Relay::start(|stop| relay_taps(tap.queues[0].as_fd(), other.queues[0].as_fd(), stop));
    ping(ipv4(1));
    ping(ipv6(1));
    relay.stop();
}

fn a_persistent_tap_takes_a_successor_with_another_number_of_queues() {
    need_tap();
    let options = TapOptions {
        name: "t0",
        queues: 2,
        persist: true,
    };
    drop(tap::create(&options).unwrap());
    assert!(matches!(
        tap::create(&options),
        Err(TapError::NameTaken { .. })
    ));
    for queues in [1, 4] {
        let tap = tap::attach(&TapOptions { queues, ..options }).unwrap();
        assert_eq!(tap.queues.len(), usize::from(queues));
        assert!(Tap::inspect(tap.queues[0].as_fd()).unwrap().persistent);
    }
    let last = tap::attach(&options).unwrap();
    tap::set_persistent(last.queues[0].as_fd(), false).unwrap();
    drop(last);
    assert!(Netlink::open().unwrap().link("t0").unwrap_err().is_absent());
}

fn attaching_makes_nothing_and_takes_nothing_over() {
    need_tap();
    let options = TapOptions {
        name: "t0",
        queues: 1,
        persist: true,
    };
    assert!(matches!(
        tap::attach(&options),
        Err(TapError::Absent { .. })
    ));
    let mut netlink = Netlink::open().unwrap();
    assert!(netlink.link("t0").unwrap_err().is_absent());

    let held = make_tap("t0", 1).unwrap();
    assert!(matches!(
        tap::attach(&options),
        Err(TapError::Absent { .. })
    ));
    // Every frame still comes to its holder.
    configure(&mut netlink, "t0", 1);
    let index = netlink.link("t0").unwrap().index;
    netlink
        .add_neighbour(index, ipv4(2), [2, 0, 0, 0, 0, 2])
        .unwrap();
    for port in 1..=32 {
        let socket = UdpSocket::bind(SocketAddr::new(ipv4(1), 0)).unwrap();
        socket
            .send_to(b"still here", SocketAddr::new(ipv4(2), port))
            .unwrap();
        next_frame(held.queues[0].as_fd(), |frame| {
            frame.ends_with(b"still here")
        });
    }
}

fn a_taken_name_is_told_whatever_has_it() {
    need_tap();
    let _held = make_tap("t0", 1).unwrap();
    Netlink::open().unwrap().create_veth(&veth_pair()).unwrap();
    for name in ["t0", "near", "lo"] {
        match make_tap(name, 1) {
            Err(TapError::NameTaken { name: told }) => assert_eq!(told, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(
        make_tap("a/b", 1),
        Err(TapError::NameInvalid { .. })
    ));
    let not_a_tap = TapOptions {
        name: "near",
        queues: 1,
        persist: true,
    };
    assert!(matches!(
        tap::attach(&not_a_tap),
        Err(TapError::Mismatch { .. })
    ));
}

fn the_number_of_queues_has_the_kernels_limit() {
    need_tap();
    assert!(matches!(
        make_tap("t0", 0),
        Err(TapError::TooManyQueues { asked: 0 })
    ));
    assert!(matches!(
        make_tap("t0", MAX_QUEUES + 1),
        Err(TapError::TooManyQueues { .. })
    ));
    let all = make_tap("t0", MAX_QUEUES).unwrap();
    assert_eq!(all.queues.len(), usize::from(MAX_QUEUES));
    let error = raw_attach("t0", IFF_OURS).unwrap_err();
    assert_eq!(error, rustix::io::Errno::TOOBIG);
}

// Flags of `linux/if_tun.h`.
const IFF_TAP_NO_PI: u16 = 0x1002;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_OURS: u16 = IFF_TAP_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;

/// Attaches with any flags, as other programs do.
fn raw_attach(name: &str, flags: u16) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let fd = rustix::fs::open(
        "/dev/net/tun",
        OFlags::RDWR | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    const TUNSETIFF: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` of 40 bytes.
    unsafe {
        rustix::ioctl::ioctl(
            &fd,
            rustix::ioctl::Updater::<TUNSETIFF, _>::new(&mut request),
        )
    }?;
    Ok(fd)
}

fn a_tap_of_somebody_else_is_seen_for_what_it_is() {
    need_tap();
    let plain = raw_attach("plain", IFF_TAP_NO_PI).unwrap();
    let expected = TapInfo {
        name: "plain".to_owned(),
        vnet_header: false,
        vnet_header_length: VNET_HEADER_LENGTH,
        multi_queue: false,
        persistent: false,
        packet_information: false,
    };
    assert_eq!(Tap::inspect(plain.as_fd()).unwrap(), expected);
    let ours = make_tap("ours", 1).unwrap();
    let expected = TapInfo {
        name: "ours".to_owned(),
        vnet_header: true,
        multi_queue: true,
        ..expected
    };
    assert_eq!(Tap::inspect(ours.queues[0].as_fd()).unwrap(), expected);
    // IFF_TUN instead of IFF_TAP.
    let tun = raw_attach("tun", 0x1001).unwrap();
    assert!(matches!(Tap::inspect(tun.as_fd()), Err(TapError::NotTap)));
}

fn only_the_first_to_attach_decides_about_the_header() {
    need_tap();
    let without = IFF_TAP_NO_PI | IFF_MULTI_QUEUE;
    let options = TapOptions {
        name: "t0",
        queues: 1,
        persist: true,
    };
    let ours = tap::create(&options).unwrap();
    let other = raw_attach("t0", without).unwrap();
    for fd in [ours.queues[0].as_fd(), other.as_fd()] {
        assert!(Tap::inspect(fd).unwrap().vnet_header);
    }
    drop((ours, other));
    let other = raw_attach("t0", without).unwrap();
    assert!(!Tap::inspect(other.as_fd()).unwrap().vnet_header);
    // And a successor of ours that came second gets none either, which it must notice.
    let second = tap::attach(&options);
    assert!(
        matches!(second, Err(TapError::Mismatch { .. })),
        "{second:?}"
    );
    drop(other);
    let ours = tap::attach(&options).unwrap();
    assert!(Tap::inspect(ours.queues[0].as_fd()).unwrap().vnet_header);
}

fn the_multi_queue_flag_must_match() {
    need_tap();
    let _single = raw_attach("single", IFF_TAP_NO_PI | IFF_VNET_HDR).unwrap();
    assert_eq!(
        raw_attach("single", IFF_OURS).unwrap_err(),
        rustix::io::Errno::INVAL
    );
    let _multi = make_tap("multi", 1).unwrap();
    let without = IFF_TAP_NO_PI | IFF_VNET_HDR;
    assert_eq!(
        raw_attach("multi", without).unwrap_err(),
        rustix::io::Errno::INVAL
    );
    let options = TapOptions {
        name: "single",
        queues: 1,
        persist: true,
    };
    assert!(matches!(
        tap::attach(&options),
        Err(TapError::Mismatch { .. })
    ));
}

fn an_interface_that_is_down_takes_no_frames() {
    need_tap();
    let tap = make_tap("t0", 1).unwrap();
    let queue = tap.queues[0].as_fd();
    let error = tap::write(queue, &[0; 64]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    configure(&mut Netlink::open().unwrap(), "t0", 1);
    assert_eq!(tap::write(queue, &[0; 64]).unwrap(), 64);
    // The header promises a checksum behind the frame's end.
    let mut lying = [0_u8; 64];
    lying[0] = 1;
    lying[6..8].copy_from_slice(&9000_u16.to_ne_bytes());
    let error = tap::write(queue, &lying).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

fn a_queue_can_be_removed_from_in_front_of_a_tap() {
    need_tap();
    let tap = make_tap("t0", 2).unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link("t0").unwrap().index;
    netlink.remove_queueing(index).unwrap();
    configure(&mut netlink, "t0", 1);
    netlink
        .add_neighbour(index, ipv4(2), [2, 0, 0, 0, 0, 2])
        .unwrap();
    let socket = UdpSocket::bind(SocketAddr::new(ipv4(1), 5000)).unwrap();
    let target = SocketAddr::new(ipv4(2), 9);
    let relay = Relay::start(|stop| {
        let mut seen = Seen::default();
        let (mut frame, queue) = find_frame(&tap.queues, b"question");
        turn_around(&mut frame);
        tap::write(tap.queues[queue].as_fd(), &frame).unwrap();
        assert!(wait_readable(stop.as_fd(), None).unwrap());
        seen.longest = frame.len();
        seen
    });
    udp_exchange(&socket, target);
    assert!(relay.stop().longest > 0);
    // The namespace of a TAP is the one where it was opened.
    let own = Namespace::current(NamespaceKind::Network).unwrap();
    let of_tap = Namespace::of_socket(tap.queues[0].as_fd()).unwrap();
    assert_eq!(of_tap.identity().unwrap(), own.identity().unwrap());
}
