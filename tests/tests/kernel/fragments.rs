//! Datagrams longer than a packet, in fragments that other people's kernels make and put together.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use heddle_tests::host::{Container, Host, Job, On, Scenario};

use crate::internet::{self, FAMILIES};
use crate::traffic::{attach, attach_with, try_ping};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "fragments::long_datagrams_go_out_and_come_back",
        on: On::EveryKind,
        play: long_datagrams_go_out_and_come_back,
    },
    Scenario {
        name: "fragments::long_datagrams_reach_a_published_port",
        on: On::EveryKind,
        play: long_datagrams_reach_a_published_port,
    },
    Scenario {
        name: "fragments::a_narrower_way_out_cuts_what_may_be_cut",
        on: On::EveryKind,
        play: a_narrower_way_out_cuts_what_may_be_cut,
    },
    Scenario {
        name: "fragments::the_gateway_answers_long_pings",
        on: On::EveryKind,
        play: the_gateway_answers_long_pings,
    },
    Scenario {
        name: "fragments::two_senders_behind_one_address_do_not_disturb_each_other",
        on: On::AnyKind,
        play: two_senders_behind_one_address_do_not_disturb_each_other,
    },
];

/// Octets of a datagram: seven fragments on a link of 1500.
const LONG: usize = 9000;

/// Says back what it hears at each of these addresses; whatever address its kernel likes best would not
/// be that it was spoken to.
fn echo(container: &Container, at: &[SocketAddr]) -> Job {
    container.serve(|ready| {
        let bind = |at| UdpSocket::bind(at).expect("a free port");
        let sockets: Vec<UdpSocket> = at.iter().map(bind).collect();
        ready();
        std::thread::scope(|threads| {
            for socket in &sockets {
                threads.spawn(|| {
                    let mut data = vec![0; 1 << 16];
                    while let Ok((len, peer)) = socket.recv_from(&mut data) {
                        // Whoever asked may be gone.
                        let _ = socket.send_to(&data[..len], peer);
                    }
                });
            }
        });
    })
}

/// An echo far away, in both families.
fn far_echo(internet: &Container) -> Job {
    echo(
        internet,
        &FAMILIES.map(|family| SocketAddr::new(family.far(), 7000)),
    )
}

/// Data that shows where it belongs.
fn data(len: usize, seed: u8) -> Vec<u8> {
    let octet = |at: usize| u8::try_from(at / 7 % 251).expect("it is small");
    (0..len).map(|at| octet(at).wrapping_add(seed)).collect()
}

/// Sends datagrams and waits for each to be said back. A fragment may be lost, as any packet may: what
/// is not answered is sent again.
fn ask(from: &Container, at: SocketAddr, lens: &[usize]) {
    from.run(|| {
        let any: IpAddr = if at.is_ipv4() {
            [0; 4].into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).expect("a free port");
        socket.connect(at).expect("there is a way");
        let patience = Some(Duration::from_secs(2));
        socket.set_read_timeout(patience).expect("it is positive");
        for &len in lens {
            let sent = data(len, 3);
            exchange(&socket, &sent)
                .unwrap_or_else(|error| panic!("{len} octets to {at}: {error}"));
        }
    });
}

fn exchange(socket: &UdpSocket, sent: &[u8]) -> io::Result<()> {
    let mut got = vec![0; 1 << 16];
    let mut result = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..5 {
        socket.send(sent)?;
        match socket.recv(&mut got) {
            Ok(len) => {
                assert!(got[..len] == *sent, "{len} octets, and not those sent");
                return Ok(());
            }
            Err(error) => result = Err(error),
        }
    }
    result
}

/// A ping that does not fit a packet.
fn long_ping(from: &Container, to: IpAddr, size: &str) {
    let options = ["-c", "3", "-i", "0.1", "-W", "5", "-s", size];
    let ended = try_ping(from, to, &options);
    let what = format!("{to}: {ended:#?}");
    assert!(ended.stdout.contains("3 received"), "{what}");
}

/// How many frames an endpoint has lost to fragments that did not come together.
fn losses(host: &Host, reason: &str) -> u64 {
    let drops = host.heddle.show(&["drops"]);
    let drops = drops.as_array().expect("a list");
    let counted = drops.iter().filter(|drop| drop["reason"] == reason);
    counted.filter_map(|drop| drop["frames"].as_u64()).sum()
}

fn long_datagrams_go_out_and_come_back(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let alice = host.container();
    attach(host, &alice, "shop", "alice");
    let _echo = far_echo(&internet);
    for family in FAMILIES {
        long_ping(&alice, family.far(), "8000");
        long_ping(&alice, family.far(), "65000");
        let at = SocketAddr::new(family.far(), 7000);
        ask(&alice, at, &[LONG, 1472, 1473, 1453, 2000, 65_000, 1]);
    }
    assert_eq!(losses(host, "fragment-overlap"), 0);
}

fn long_datagrams_reach_a_published_port(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    let bobs = attach_with(host, &bob, "shop", "bob", &["-p", "7100:7000/udp"]);
    attach(host, &alice, "shop", "alice");
    let bobs: Vec<SocketAddr> = bobs.iter().map(|&at| SocketAddr::new(at, 7000)).collect();
    let _echo = echo(&bob, &bobs);
    for family in FAMILIES {
        ask(&internet, family.published(7100), &[LONG, 30_000]);
        // From a neighbour, by the outside address.
        ask(&alice, family.published(7100), &[LONG]);
        // The address itself answers.
        long_ping(&internet, family.outside(), "8000");
    }
}

fn a_narrower_way_out_cuts_what_may_be_cut(host: &mut Host) {
    host.heddle.start(&[]);
    // The first network of an uplink says how wide it is.
    let internet = internet::connect(host, &["--mtu", "1280"]);
    internet::create(host, "wide", &internet, &["--mtu", "1500"]);
    let alice = host.container();
    attach(host, &alice, "wide", "alice");
    let _echo = far_echo(&internet);
    for family in FAMILIES {
        let one = ["-c", "1", "-M", "do", "-s", "1400", "-W", "5"];
        let ended = try_ping(&alice, family.far(), &one);
        assert!(
            ended.stdout.contains("1280") || ended.stderr.contains("1280"),
            "{ended:#?}"
        );
        let at = SocketAddr::new(family.far(), 7000);
        // Over IPv6 the sender is told, and makes its fragments shorter.
        ask(&alice, at, &[LONG]);
        long_ping(&alice, family.far(), "8000");
    }
}

fn the_gateway_answers_long_pings(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let alice = host.container();
    attach(host, &alice, "lan", "alice");
    let shown = host.heddle.show(&["network", "inspect", "lan"]);
    let gateways = shown["network"]["gateways"].as_array().expect("a list");
    for gateway in gateways {
        let gateway: IpAddr = gateway
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("an address");
        if matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local()) {
            continue;
        }
        long_ping(&alice, gateway, "8000");
        long_ping(&alice, gateway, "65000");
    }
}

/// Both send long datagrams to one server at once; each gets its own back.
fn two_senders_behind_one_address_do_not_disturb_each_other(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    attach(host, &bob, "shop", "bob");
    let _echo = far_echo(&internet);
    for family in FAMILIES {
        let at = SocketAddr::new(family.far(), 7000);
        let background = bob.serve(|ready| {
            let any: IpAddr = if at.is_ipv4() {
                [0; 4].into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0)).expect("a free port");
            socket.connect(at).expect("there is a way");
            ready();
            let (sent, mut got) = (data(LONG, 100), vec![0; 1 << 16]);
            loop {
                let _ = socket.send(&sent);
                if let Ok(len) = socket.recv(&mut got) {
                    assert!(got[..len] == *sent, "somebody else's");
                }
            }
        });
        ask(&alice, at, &[LONG; 200]);
        drop(background);
    }
}
