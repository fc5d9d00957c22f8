//! Between networks: the gateway, isolation, routes, networks without a bridge.

use std::net::{IpAddr, SocketAddr};

use heddle_tests::host::{Container, Host, On, Scenario, program};

use crate::internet::{self, FAMILIES};
use crate::traffic::{attach, attach_with, ping, try_ping};
use crate::web::{LONG, download, serve};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "router::the_gateway_answers_echo",
        on: On::EveryKind,
        play: the_gateway_answers_echo,
    },
    Scenario {
        name: "router::networks_are_not_routed_to_each_other",
        on: On::AnyKind,
        play: networks_are_not_routed_to_each_other,
    },
    Scenario {
        name: "router::an_internal_network_has_no_way_out",
        on: On::AnyKind,
        play: an_internal_network_has_no_way_out,
    },
    Scenario {
        name: "router::networks_are_routed_where_that_is_asked_for",
        on: On::EveryKind,
        play: networks_are_routed_where_that_is_asked_for,
    },
    Scenario {
        name: "router::a_route_leads_to_what_is_behind_an_endpoint",
        on: On::AnyKind,
        play: a_route_leads_to_what_is_behind_an_endpoint,
    },
    Scenario {
        name: "router::an_l3_network_routes_between_its_endpoints",
        on: On::EveryKind,
        play: an_l3_network_routes_between_its_endpoints,
    },
];

/// What `ping` calls ICMP 3/13 and ICMPv6 1/1.
const PROHIBITED: &[&str] = &["Packet filtered", "Administratively prohibited"];

/// What it calls ICMP 3/0 and 3/1, ICMPv6 1/0 and 1/3.
const UNREACHABLE: &[&str] = &[
    "Net Unreachable",
    "Host Unreachable",
    "No route",
    "unreachable",
];

/// The gateways of a network: IPv4, then IPv6.
fn gateways(host: &Host, network: &str) -> Vec<IpAddr> {
    let shown = host.heddle.show(&["network", "inspect", network]);
    let texts = shown["network"]["gateways"].as_array().expect("a list");
    let parse = |text: &serde_json::Value| text.as_str()?.parse().ok();
    let mut gateways: Vec<IpAddr> = texts.iter().filter_map(parse).collect();
    gateways.sort_by_key(IpAddr::is_ipv6);
    gateways
}

/// Nobody answers, and the sender is told what the matter is.
fn refused(from: &Container, to: IpAddr, told: &[&str]) {
    let ended = try_ping(from, to, &["-c", "1", "-W", "5"]);
    assert!(!ended.status.success(), "{to}: {ended:?}");
    let said = ended.stdout + &ended.stderr;
    let is_told = told.iter().any(|words| said.contains(words));
    assert!(is_told, "{to}: {said}");
}

fn the_gateway_answers_echo(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let alice = host.container();
    attach(host, &alice, "lan", "alice");
    let gateways = gateways(host, "lan");
    assert_eq!(
        gateways.iter().filter(|gateway| gateway.is_ipv4()).count(),
        1
    );
    assert!(gateways.iter().any(IpAddr::is_ipv6));
    for to in gateways {
        if let IpAddr::V6(address) = to
            && address.is_unicast_link_local()
        {
            let ended = try_ping(&alice, to, &["-c", "1", "-W", "5", "-I", "eth0"]);
            assert!(ended.status.success(), "{ended:?}");
        } else {
            ping(&alice, to);
        }
    }
}

fn networks_are_not_routed_to_each_other(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    host.heddle.run(&["network", "create", "other"]);
    let (alice, carol) = (host.container(), host.container());
    let alices = attach(host, &alice, "shop", "alice");
    let carols = attach(host, &carol, "other", "carol");
    for to in carols {
        refused(&alice, to, PROHIBITED);
    }
    for to in alices {
        refused(&carol, to, PROHIBITED);
    }
}

fn an_internal_network_has_no_way_out(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    host.heddle
        .run(&["network", "create", "vault", "--internal"]);
    let carol = host.container();
    attach(host, &carol, "vault", "carol");
    for family in FAMILIES {
        for to in [family.far(), family.router(), family.outside()] {
            let ended = try_ping(&carol, to, &["-c", "1", "-W", "2"]);
            assert!(!ended.status.success(), "{to}: {ended:?}");
        }
        refused(&carol, family.far(), UNREACHABLE);
    }
    let refusal = host
        .heddle
        .refused(&["port", "publish", "carol", "8080:80"]);
    assert!(refusal.message.contains("no uplink"), "{refusal:?}");
}

fn networks_are_routed_where_that_is_asked_for(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "left"]);
    host.heddle
        .run(&["network", "create", "right", "--route-to", "left"]);
    host.heddle.run(&["network", "create", "apart"]);
    let [alice, bob, carol] = [(); 3].map(|()| host.container());
    let alices = attach(host, &alice, "left", "alice");
    let bobs = attach(host, &bob, "right", "bob");
    attach(host, &carol, "apart", "carol");
    let _server = serve(&bob, 80);
    for (&to, &source) in bobs.iter().zip(&alices) {
        ping(&alice, to);
        ping(&bob, source);
        let seen = download(&alice, SocketAddr::new(to, 80));
        // Routed and not translated.
        assert_eq!((seen.peer, seen.padding), (source, LONG));
        refused(&carol, to, PROHIBITED);
        refused(&carol, source, PROHIBITED);
    }
}

/// alice — left — heddle — right — router — what is behind it.
fn a_route_leads_to_what_is_behind_an_endpoint(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&[
        "network",
        "create",
        "lan",
        "--subnet",
        "10.30.0.0/24",
        "--subnet",
        "fd30::/64",
        "--route",
        "192.0.2.0/24=10.30.0.9",
        "--route",
        "2001:db8:2::/64=fd30::9",
    ]);
    let (alice, router) = (host.container(), host.container());
    attach(host, &alice, "lan", "alice");
    attach_with(
        host,
        &router,
        "lan",
        "router",
        &["--ip", "10.30.0.9", "--ip", "fd30::9"],
    );
    let behind = ["192.0.2.7", "2001:db8:2::7"].map(|text| text.parse().expect("an address"));
    router.add_hosts(&behind);
    for to in behind {
        let ended = try_ping(&alice, to, &["-c", "3", "-i", "0.1", "-W", "5"]);
        assert!(ended.stdout.contains(" 0% packet loss"), "{ended:#?}");
    }
}

fn an_l3_network_routes_between_its_endpoints(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &["--driver", "l3"]);
    let (alice, bob) = (host.container(), host.container());
    let alices = attach(host, &alice, "shop", "alice");
    let bobs = attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let mut ip = program("ip");
    ip.args(["-o", "link", "show", "dev", "eth0"]);
    assert!(alice.execute(ip).success().contains("NOARP"));
    let _server = serve(&bob, 80);
    let _far = serve(&internet, 81);
    for ((&to, &source), family) in bobs.iter().zip(&alices).zip(FAMILIES) {
        ping(&alice, to);
        let seen = download(&alice, SocketAddr::new(to, 80));
        assert_eq!((seen.peer, seen.padding), (source, LONG));
        let seen = download(&alice, SocketAddr::new(family.far(), 81));
        assert_eq!((seen.peer, seen.padding), (family.outside(), LONG));
        let seen = download(&internet, family.published(8080));
        assert_eq!((seen.peer, seen.padding), (family.router(), LONG));
    }
    // Nothing there has a neighbour to be asked for.
    let mut ip = program("ip");
    ip.args(["neighbour", "show", "nud", "reachable"]);
    assert_eq!(alice.execute(ip).success(), "");
}
