//! What each step of attaching a container costs: `cargo bench -p heddle-sys --bench attach`.
//!
//! Every step is taken [`ROUNDS`] times, each in a new container; shown are the median and the worst
//! in microseconds. What the kernel does later, when something is closed, is not waited for.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

#[path = "../tests/kernel/harness.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "shared with the tests"
)]
mod harness;
#[path = "../tests/kernel/lab.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod lab;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use heddle_sys::clock::monotonic;
use heddle_sys::ethtool;
use heddle_sys::namespace::{Namespace, NamespaceKind, unshare};
use heddle_sys::netlink::{LinkChange, Netlink, Route, VethOptions};
use heddle_sys::packet::{PacketSocket, RingOptions, open_unbound};
use heddle_sys::process::{self, Fork};
use heddle_sys::sysctl;
use heddle_sys::tap::{self, TapOptions};

use harness::isolate;
use lab::{
    PORT, Relay, Sandbox, VethPort, configure, ipv4, ipv6, ping, relay_packets, relay_taps,
    veth_pair,
};

const ROUNDS: usize = 50;

fn main() {
    isolate();
    println!("{:<52} {:>8} {:>8}  µs", "step", "median", "worst");
    processes();
    tap_steps();
    veth_steps();
    first_answers();
}

/// Median and worst of what `step` reports for each round.
fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{name:<52} {:>8} {:>8}",
        median.as_micros(),
        worst.as_micros()
    );
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = monotonic();
    let result = work();
    (result, monotonic() - begin)
}

/// Runs `steps` in a new container in each round; it returns the time that each of `names` took.
fn rounds<const N: usize>(
    names: [&str; N],
    sandbox: impl Fn() -> Sandbox,
    steps: impl Fn(&Sandbox) -> [Duration; N],
) {
    let mut times = [(); N].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        let sandbox = sandbox();
        let report = sandbox.spawn(|| {
            steps(&sandbox)
                .iter()
                .flat_map(|time| u64::try_from(time.as_nanos()).unwrap().to_be_bytes())
                .collect()
        });
        for (times, bytes) in times.iter_mut().zip(report.join().chunks_exact(8)) {
            times.push(Duration::from_nanos(u64::from_be_bytes(
                bytes.try_into().unwrap(),
            )));
        }
    }
    for (name, times) in names.into_iter().zip(times) {
        show(name, times);
    }
}

fn processes() {
    let sandbox = Sandbox::rootless();
    let round_trip = |work: &dyn Fn()| {
        (0..ROUNDS)
            .map(|_| {
                let fork = || match process::fork().unwrap() {
                    Fork::Child => {
                        work();
                        process::exit(0)
                    }
                    Fork::Parent { child } => process::wait(child).unwrap(),
                };
                timed(fork).1
            })
            .collect()
    };
    show("fork and wait", round_trip(&|| {}));
    show(
        "fork, enter user and network namespace, wait",
        round_trip(&|| sandbox.network.enter_with_owner().unwrap()),
    );
    let opening = (0..ROUNDS)
        .map(|_| timed(|| Namespace::open_pid(sandbox.pid(), NamespaceKind::Network).unwrap()).1);
    show("open a process's namespace", opening.collect());
}

fn tap_steps() {
    if let Err(error) = lab::make_tap("probe", 1) {
        println!("(no TAP: {error})");
        return;
    }
    for (queues, discipline) in [(1, "default"), (2, "default"), (1, "none"), (2, "none")] {
        let names = [
            format!("TAP of {queues} queues: create"),
            "  open netlink".to_owned(),
            "  find link by name".to_owned(),
            format!("  queueing discipline: {discipline}"),
            "  set MAC, MTU, queue length, up".to_owned(),
        ];
        rounds(
            names.each_ref().map(String::as_str),
            Sandbox::rootless,
            |_| {
                let options = TapOptions {
                    name: "eth0",
                    queues,
                    persist: false,
                };
                let (tap, create) = timed(|| tap::create(&options).unwrap());
                let (mut netlink, open) = timed(|| Netlink::open().unwrap());
                let (link, find) = timed(|| netlink.link("eth0").unwrap());
                let ((), unqueue) = timed(|| {
                    if discipline == "none" {
                        netlink.remove_queueing(link.index).unwrap();
                    }
                });
                let ((), up) = timed(|| set_up(&mut netlink, link.index));
                std::mem::forget(tap);
                [create, open, find, unqueue, up]
            },
        );
    }
    rounds(
        [
            "add an IPv4 address",
            "add an IPv6 address",
            "add an IPv4 default route",
            "add an IPv6 default route",
            "write a setting",
        ],
        Sandbox::rootless,
        |_| {
            let tap = lab::make_tap("eth0", 1).unwrap();
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link("eth0").unwrap().index;
            set_up(&mut netlink, index);
            let (_, ip4) = timed(|| netlink.add_address(index, ipv4(2), 24, true).unwrap());
            let (_, ip6) = timed(|| netlink.add_address(index, ipv6(2), 64, true).unwrap());
            let mut route = |any: &str, gateway| {
                let any: IpAddr = any.parse().unwrap();
                let route = Route {
                    gateway: Some(gateway),
                    interface: Some(index),
                    ..Route::to(any, 0)
                };
                timed(|| netlink.add_route(&route).unwrap()).1
            };
            let (route4, route6) = (
                route("0.0.0.0", ipv4(1)),
                route("::", "fe80::1".parse().unwrap()),
            );
            let (_, setting) = timed(|| sysctl::write("net/ipv6/conf/eth0/accept_ra", "0"));
            std::mem::forget(tap);
            [ip4, ip6, route4, route6, setting]
        },
    );
    let closing = |queues| {
        let close = |_| {
            let tap = lab::make_tap("t0", queues).unwrap();
            timed(|| drop(tap)).1
        };
        (0..ROUNDS).map(close).collect()
    };
    show("close the last descriptor of a TAP", closing(1));
}

fn set_up(netlink: &mut Netlink, index: u32) {
    let change = LinkChange {
        up: Some(true),
        mtu: Some(1500),
        mac: Some([2, 0, 0, 0, 0, 2]),
        tx_queue_len: Some(tap::TX_QUEUE_LENGTH),
        ipv6_link_local: Some(false),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).unwrap();
}

fn veth_steps() {
    rounds(
        [
            "veth: make the holding namespace",
            "  create the pair across both",
            "  open the packet socket",
            "  build and map its ring",
            "  bind it",
            "  fit the container's end",
        ],
        Sandbox::rootless,
        |sandbox| {
            let mut inside = Netlink::open().unwrap();
            let (_, hold) = timed(|| unshare(&[NamespaceKind::Network]).unwrap());
            let options = VethOptions {
                name: PORT,
                peer_name: "eth0",
                peer_netns: Some(sandbox.network.as_fd()),
                up: true,
                ..veth_pair()
            };
            let mut netlink = Netlink::open().unwrap();
            let (_, create) = timed(|| netlink.create_veth(&options).unwrap());
            let (fd, open) = timed(|| open_unbound().unwrap());
            let ring = || PacketSocket::from_fd(fd, &RingOptions::default()).unwrap();
            let (mut socket, ring) = timed(ring);
            let (_, bind) = timed(|| socket.bind(PORT).unwrap());
            let fit = || ethtool::fit_for_packet_socket(inside.as_fd(), "eth0").unwrap();
            let (_, fit) = timed(fit);
            let index = inside.link("eth0").unwrap().index;
            set_up(&mut inside, index);
            std::mem::forget(socket);
            [hold, create, open, ring, bind, fit]
        },
    );
    let closing = (0..ROUNDS).map(|_| {
        let sandbox = Sandbox::rootless();
        let socket = sandbox.veth_port("eth0");
        timed(|| drop(socket)).1
    });
    show("close a packet socket with its ring", closing.collect());
}

/// From setting an interface up until the other side of a relay has answered.
fn first_answers() {
    let names = [
        "set up and addressed",
        "first answered ping, IPv4",
        "then first answered ping, IPv6",
    ];
    let measure = |sandbox: &Sandbox, when_up: &mut dyn FnMut()| {
        let report = sandbox.spawn(|| {
            let mut netlink = Netlink::open().unwrap();
            let begin = monotonic();
            configure(&mut netlink, "eth0", 2);
            when_up();
            let configured = monotonic();
            ping(ipv4(1));
            let first = monotonic();
            ping(ipv6(1));
            [configured - begin, first - configured, monotonic() - first]
                .iter()
                .flat_map(|time| u64::try_from(time.as_nanos()).unwrap().to_be_bytes())
                .collect()
        });
        report
            .join()
            .chunks_exact(8)
            .map(|bytes| Duration::from_nanos(u64::from_be_bytes(bytes.try_into().unwrap())))
            .collect::<Vec<_>>()
    };
    let show_all = |kind: &str, all: Vec<Vec<Duration>>| {
        for (number, name) in names.iter().enumerate() {
            show(
                &format!("{kind}: {name}"),
                all.iter().map(|times| times[number]).collect(),
            );
        }
    };
    let other = Sandbox::new();
    if lab::make_tap("probe", 1).is_ok() {
        let gateway = other.tap("eth0", 1).remove(0);
        configure(&mut other.netlink(), "eth0", 1);
        let all = (0..ROUNDS).map(|_| {
            let sandbox = Sandbox::rootless();
            let queue: OwnedFd = sandbox.tap("eth0", 1).remove(0);
            let relay = Relay::start(|stop| relay_taps(queue.as_fd(), gateway.as_fd(), stop));
            let times = measure(&sandbox, &mut || {});
            relay.stop();
            times
        });
        show_all("TAP", all.collect());
    }
    let all = (0..ROUNDS).map(|_| {
        let (sandbox, other) = (Sandbox::rootless(), Sandbox::new());
        let mut port = sandbox.veth_port("eth0");
        let mut gateway = other.veth_port("eth0");
        configure(&mut other.netlink(), "eth0", 1);
        gateway.wait_running();
        let VethPort { socket, netlink } = &mut port;
        let index = socket.interface().unwrap().unwrap();
        let relay = Relay::start(|stop| relay_packets(socket, &mut gateway.socket, stop));
        let times = measure(&sandbox, &mut || {
            netlink.wait_running(index, Duration::from_secs(1)).unwrap();
        });
        relay.stop();
        times
    });
    show_all("veth", all.collect());
}
