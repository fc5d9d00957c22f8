//! The way out and the way in, through a leg in another namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use heddle_tests::host::{Container, Host, On, Scenario, eventually, program};

use crate::internet::{self, FAMILIES};
use crate::traffic::{attach, attach_with, iperf, ping, try_ping};
use crate::web::{Answer, LONG, curl, download, serve, upload};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "nat::a_server_outside_sees_the_outside_address",
        on: On::EveryKind,
        play: a_server_outside_sees_the_outside_address,
    },
    Scenario {
        name: "nat::a_published_port_shows_the_client_as_it_is",
        on: On::EveryKind,
        play: a_published_port_shows_the_client_as_it_is,
    },
    Scenario {
        name: "nat::port_ranges_and_single_addresses_are_published",
        on: On::AnyKind,
        play: port_ranges_and_single_addresses_are_published,
    },
    Scenario {
        name: "nat::a_name_server_is_published_over_udp_and_tcp",
        on: On::EveryKind,
        play: a_name_server_is_published_over_udp_and_tcp,
    },
    Scenario {
        name: "nat::neighbours_meet_at_the_outside_address",
        on: On::EveryKind,
        play: neighbours_meet_at_the_outside_address,
    },
    Scenario {
        name: "nat::a_refusal_outside_is_a_refusal_inside",
        on: On::AnyKind,
        play: a_refusal_outside_is_a_refusal_inside,
    },
    Scenario {
        name: "nat::a_narrow_link_outside_is_found_by_senders",
        on: On::EveryKind,
        play: a_narrow_link_outside_is_found_by_senders,
    },
    Scenario {
        name: "nat::routers_outside_are_heard_inside",
        on: On::AnyKind,
        play: routers_outside_are_heard_inside,
    },
    Scenario {
        name: "nat::a_port_that_a_flow_happens_to_use_is_published_all_the_same",
        on: On::AnyKind,
        play: a_port_that_a_flow_happens_to_use_is_published_all_the_same,
    },
    Scenario {
        name: "nat::a_port_moves_from_one_sandbox_to_another",
        on: On::EveryKind,
        play: a_port_moves_from_one_sandbox_to_another,
    },
    Scenario {
        name: "nat::iperf3_goes_out_and_comes_in",
        on: On::EveryKind,
        play: iperf3_goes_out_and_comes_in,
    },
    Scenario {
        name: "nat::traceroute_shows_every_router",
        on: On::AnyKind,
        play: traceroute_shows_every_router,
    },
];

fn a_server_outside_sees_the_outside_address(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let alice = host.container();
    attach(host, &alice, "shop", "alice");
    let _server = serve(&internet, 80);
    for family in FAMILIES {
        ping(&alice, family.far());
        let at = SocketAddr::new(family.far(), 80);
        let seen = download(&alice, at);
        assert_eq!((seen.peer, seen.padding), (family.outside(), LONG));
        let seen = upload(&alice, at);
        assert_eq!((seen.peer, seen.received), (family.outside(), LONG));
    }
    let flows = host.heddle.show(&["flow", "ls"]);
    let flows = flows.as_array().expect("a list");
    assert!(flows.len() >= FAMILIES.len() * 3, "{flows:#?}");
}

fn a_published_port_shows_the_client_as_it_is(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let bob = host.container();
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let _server = serve(&bob, 80);
    for family in FAMILIES {
        let seen = download(&internet, family.published(8080));
        assert_eq!((seen.peer, seen.padding), (family.router(), LONG));
        let seen = upload(&internet, family.published(8080));
        assert_eq!((seen.peer, seen.received), (family.router(), LONG));
        // What is not published is not there.
        let ended = curl(
            &internet,
            family.published(80),
            0,
            &["--connect-timeout", "1"],
        );
        assert!(!ended.status.success(), "{ended:?}");
    }
    host.heddle.run(&["port", "unpublish", "bob", "8080:80"]);
    for family in FAMILIES {
        let ended = curl(
            &internet,
            family.published(8080),
            0,
            &["--connect-timeout", "1"],
        );
        assert!(!ended.status.success(), "{ended:?}");
    }
}

fn port_ranges_and_single_addresses_are_published(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let bob = host.container();
    attach(host, &bob, "shop", "bob");
    host.heddle
        .run(&["port", "publish", "bob", "7000-7002:80-82"]);
    let servers = [80, 81, 82].map(|port| serve(&bob, port));
    for family in FAMILIES {
        for port in 7000..=7002 {
            let Answer { peer, .. } = download(&internet, family.published(port));
            assert_eq!(peer, family.router());
        }
    }
    host.heddle
        .run(&["port", "unpublish", "bob", "7000-7002:80-82"]);
    for (chosen, other) in [(FAMILIES[0], FAMILIES[1]), (FAMILIES[1], FAMILIES[0])] {
        // IPv6 addresses in brackets, as in docker.
        let spec = match chosen.outside() {
            std::net::IpAddr::V4(address) => format!("{address}:7100:80"),
            std::net::IpAddr::V6(address) => format!("[{address}]:7100:80"),
        };
        host.heddle.run(&["port", "publish", "bob", &spec]);
        download(&internet, chosen.published(7100));
        let ended = curl(
            &internet,
            other.published(7100),
            0,
            &["--connect-timeout", "1"],
        );
        assert!(!ended.status.success(), "{ended:?}");
        host.heddle.run(&["port", "unpublish", "bob", &spec]);
    }
    drop(servers);
}

fn a_name_server_is_published_over_udp_and_tcp(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (bob, alice) = (host.container(), host.container());
    let publish = ["-p", "5300:53/udp", "-p", "5300:53/tcp"];
    let bobs = attach_with(host, &bob, "shop", "bob", &publish);
    attach(host, &alice, "shop", "alice");
    let mut server = program("dnsmasq");
    server
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ])
        .args(["--host-record=name.test,192.0.2.7,2001:db8::7"])
        .args(["--pid-file=", "--port=53"]);
    let server = bob.start(server);
    eventually("dnsmasq is ready", || {
        assert!(!server.has_ended(), "{}", server.stderr());
        server.stderr().contains("started")
    });
    let ask = |from: &Container, at: SocketAddr, option: &str| {
        let mut dig = program("dig");
        dig.arg(format!("@{}", at.ip()))
            .args([
                "-p",
                &at.port().to_string(),
                "+short",
                "+tries=3",
                "+time=5",
                option,
            ])
            .args(["name.test", "A", "name.test", "AAAA"]);
        let said = from.execute(dig).success();
        assert_eq!(said, "192.0.2.7\n2001:db8::7\n", "at {at}, {option}");
    };
    for option in ["+notcp", "+tcp"] {
        for family in FAMILIES {
            ask(&internet, family.published(5300), option);
            ask(&alice, family.published(5300), option);
        }
        for &address in &bobs {
            ask(&alice, SocketAddr::new(address, 53), option);
        }
    }
}

fn neighbours_meet_at_the_outside_address(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let _server = serve(&bob, 80);
    for family in FAMILIES {
        // RFC 4787 REQ-9: the source is the outside address, even of bob himself.
        for from in [&alice, &bob] {
            let seen = download(from, family.published(8080));
            assert_eq!((seen.peer, seen.padding), (family.outside(), LONG));
        }
    }
}

fn a_refusal_outside_is_a_refusal_inside(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    let alice = host.container();
    attach(host, &alice, "shop", "alice");
    for family in FAMILIES {
        // Nobody listens: a reset, which curl calls a failure to connect (7), not a timeout (28).
        let ended = curl(&alice, SocketAddr::new(family.far(), 81), 0, &[]);
        assert_eq!(ended.status.code(), Some(7), "{ended:?}");
        // Over UDP it is an ICMP error, which dig hears of at once.
        let mut dig = program("dig");
        dig.arg(format!("@{}", family.far())).args([
            "-p",
            "5301",
            "+tries=1",
            "+time=15",
            "name.test",
        ]);
        let ended = alice.execute(dig);
        assert!(ended.stdout.contains("refused"), "{ended:?}");
    }
}

/// The longest packet on the narrow link.
const NARROW: u32 = 1300;

/// Where hosts behind it are, IPv4 and IPv6.
const BEHIND: [&str; 2] = ["192.0.2.2", "2001:db8:7::2"];

/// alice — heddle — internet — (a narrow link) — behind it.
struct NarrowLink {
    _internet: Container,
    alice: Container,
    behind: Container,
}

impl NarrowLink {
    fn new(host: &mut Host) -> NarrowLink {
        const ENDS: [[&str; 2]; 2] = [
            ["192.0.2.1/30", "192.0.2.2/30"],
            ["2001:db8:7::1/64", "2001:db8:7::2/64"],
        ];
        host.heddle.start(&[]);
        let internet = internet::connect(host, &[]);
        let (alice, behind) = (host.container(), host.container());
        attach(host, &alice, "shop", "alice");
        let pid = behind.pid;
        ip(
            &internet,
            &format!("link add narrow mtu {NARROW} type veth peer name wide netns {pid}"),
        );
        ip(&internet, "link set narrow up");
        ip(&behind, &format!("link set wide up mtu {NARROW}"));
        internet.run(|| {
            for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{file}"), "1").expect("it is its own root");
            }
        });
        for [near, far] in ENDS {
            internet.add_addresses("narrow", &[near.parse().expect("a network")]);
            behind.add_addresses("wide", &[far.parse().expect("a network")]);
            // It believes the way back to be as wide as usual, so that its peers send what is too long.
            let near = near.split('/').next().expect("an address");
            ip(
                &behind,
                &format!("route add default via {near} dev wide advmss 1440"),
            );
        }
        NarrowLink {
            _internet: internet,
            alice,
            behind,
        }
    }
}

/// Runs `ip`; what it says.
fn ip(container: &Container, words: &str) -> String {
    let mut ip = program("ip");
    ip.args(words.split(' '));
    container.execute(ip).success()
}

fn a_narrow_link_outside_is_found_by_senders(host: &mut Host) {
    let NarrowLink { alice, behind, .. } = &NarrowLink::new(host);
    let _server = serve(behind, 80);
    for (family, address) in FAMILIES.into_iter().zip(BEHIND) {
        let at = SocketAddr::new(address.parse().expect("an address"), 80);
        let seen = upload(alice, at);
        assert_eq!((seen.peer, seen.received), (family.outside(), LONG));
        assert_eq!(download(alice, at).padding, LONG);
        let ended = try_ping(
            alice,
            at.ip(),
            &["-c", "1", "-M", "do", "-s", "1400", "-W", "5"],
        );
        assert!(!ended.status.success(), "{ended:?}");
        let said = ended.stdout + &ended.stderr;
        assert!(said.contains("1300"), "{said}");
    }
}

fn routers_outside_are_heard_inside(host: &mut Host) {
    let NarrowLink { alice, .. } = &NarrowLink::new(host);
    let gateways = gateways(host);
    for (family, address) in FAMILIES.into_iter().zip(BEHIND) {
        // Where a datagram met a link too narrow for it: whoever sent it knows by the next one.
        let at = SocketAddr::new(address.parse().expect("an address"), 9);
        let route = format!("route get {address}");
        assert!(!ip(alice, &route).contains("mtu"));
        // An error is heard by whoever still has the socket.
        let _sender = alice.serve(|ready| {
            let any: SocketAddr = match at {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).expect("a free port");
            socket.send_to(&[7; 1400], at).expect("there is a route");
            ready();
            loop {
                let _ = socket.recv(&mut [0]);
            }
        });
        let known = format!("mtu {NARROW}");
        eventually("the sender knows the MTU", || {
            ip(alice, &route).contains(&known)
        });
        // Where its hops were used up.
        for method in ["--icmp", "--udp"] {
            let hops = [family.router(), at.ip()];
            trace(alice, at.ip(), method, &gateways, &hops);
        }
    }
}

/// The gateways of the network `shop`.
fn gateways(host: &Host) -> Vec<String> {
    let shown = host.heddle.show(&["network", "inspect", "shop"]);
    let gateways = shown["network"]["gateways"].as_array().expect("a list");
    gateways
        .iter()
        .map(|gateway| gateway.as_str().expect("a text").to_owned())
        .collect()
}

fn traceroute_shows_every_router(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    let alice = host.container();
    attach(host, &alice, "shop", "alice");
    let gateways = gateways(host);
    for family in FAMILIES {
        for method in ["--icmp", "--udp"] {
            let far = family.far();
            trace(&alice, far, method, &gateways, &[far]);
        }
    }
}

/// Whom `traceroute` meets: first a gateway, then those.
fn trace(from: &Container, to: IpAddr, method: &str, gateways: &[String], then: &[IpAddr]) {
    let mut traceroute = program("traceroute");
    traceroute
        .args(["-n", "-q", "1", "-w", "5", "-m", "5", method])
        .arg(to.to_string());
    let said = from.execute(traceroute).success();
    let hops: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(hops.len(), 1 + then.len(), "{method}: {said}");
    let of_ours = gateways
        .iter()
        .any(|gateway| hops[0].contains(&format!(" {gateway} ")));
    assert!(of_ours, "{method}: {said} {gateways:?}");
    for (hop, expected) in hops[1..].iter().zip(then) {
        assert!(hop.contains(&format!(" {expected} ")), "{method}: {said}");
    }
}

/// The same outside port, first one's and then the other's: nothing of the first one's is left.
fn a_port_moves_from_one_sandbox_to_another(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach_with(host, &alice, "shop", "alice", &["-p", "8080:80"]);
    attach(host, &bob, "shop", "bob");
    let _alices = serve(&alice, 80);
    let _bobs = serve(&bob, 81);
    for family in FAMILIES {
        download(&internet, family.published(8080));
    }
    let refusal = host.heddle.refused(&["port", "publish", "bob", "8080:81"]);
    assert!(refusal.message.contains("alice"), "{refusal:?}");
    host.heddle.run(&["port", "unpublish", "alice", "8080:80"]);
    host.heddle.run(&["port", "publish", "bob", "8080:81"]);
    for family in FAMILIES {
        let seen = download(&internet, family.published(8080));
        assert_eq!((seen.peer, seen.padding), (family.router(), LONG));
    }
    // Whoever leaves leaves the port free.
    host.heddle.run(&["detach", "bob"]);
    host.heddle.run(&["port", "publish", "alice", "8080:80"]);
    for family in FAMILIES {
        download(&internet, family.published(8080));
    }
    let ports = host.heddle.show(&["port", "ls"]);
    assert_eq!(ports[0]["sandbox"], "alice", "{ports:#}");
    assert_eq!(ports.as_array().map(Vec::len), Some(1), "{ports:#}");
}

fn iperf3_goes_out_and_comes_in(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    let publish = ["-p", "5201:5201/tcp", "-p", "5201:5201/udp"];
    let bobs = attach_with(host, &bob, "shop", "bob", &publish);
    for (family, inside) in FAMILIES.into_iter().zip(bobs) {
        let cases = [
            (&internet, family.far(), &alice, family.far()),
            (&bob, inside, &internet, family.outside()),
        ];
        for (server, at, client, to) in cases {
            // There and back.
            let tcp = iperf((server, at), (client, to), &["--bidir", "--time", "1"]);
            for sum in ["sum_received", "sum_received_bidir_reverse"] {
                let bytes = tcp["end"][sum]["bytes"].as_u64();
                assert!(bytes > Some(1 << 20), "{to}: {sum}: {tcp:#}");
            }
            let udp = iperf(
                (server, at),
                (client, to),
                &["--udp", "--bitrate", "20M", "--time", "1"],
            );
            let sum = &udp["end"]["sum"];
            let (sent, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
            assert!(sent > Some(100) && lost < sent, "{to}: {udp:#}");
        }
    }
}

/// Whoever asks for a published port must reach the one that published it, and nobody whose flow has taken
/// the same number before (port shadowing, CVE-2021-3773).
fn a_port_that_a_flow_happens_to_use_is_published_all_the_same(host: &mut Host) {
    const PORTS: [u16; 2] = [7001, 7002];
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    let (alice, bob, carol) = (host.container(), host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    attach(host, &carol, "shop", "carol");
    alice.run(|| {
        for family in FAMILIES {
            for port in PORTS {
                let own: std::net::IpAddr = match family.far() {
                    std::net::IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                    std::net::IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = std::net::UdpSocket::bind((own, port)).expect("it is free");
                let sent = socket.send_to(b"question", (family.far(), 9));
                sent.expect("there is a way out");
            }
        }
    });
    let using = |port: u16| {
        let flows = host.heddle.show(&["flow", "ls"]);
        let flows = flows.as_array().expect("a list").clone();
        let uses = |flow: &serde_json::Value| flow["reply"]["destination_port"] == port;
        flows.iter().filter(|flow| uses(flow)).count()
    };
    eventually("the flows are there", || PORTS.map(using) == [2, 2]);
    attach_with(host, &bob, "shop", "bob", &["-p", "7001:80/udp"]);
    assert_eq!(PORTS.map(using), [0, 2]);
    host.heddle
        .run(&["port", "publish", "carol", "7002:80/udp"]);
    assert_eq!(PORTS.map(using), [0, 0]);
}
