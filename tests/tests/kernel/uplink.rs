//! The way out through an interface of the host.

use std::net::SocketAddr;

use heddle_tests::host::{Cable, Container, Host, On, Scenario, Way, eventually, program};

use ipnet::IpNet;

use crate::internet::{FAMILIES, creation};
use crate::traffic::{attach_with, ping};
use crate::web::{LONG, download, serve, upload};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "uplink::the_outside_sees_one_mac_address",
        on: On::EveryKind,
        play: the_outside_sees_one_mac_address,
    },
    Scenario {
        name: "uplink::an_interface_that_may_not_be_used_is_refused",
        on: On::AnyKind,
        play: an_interface_that_may_not_be_used_is_refused,
    },
];

const CABLE: Cable = Cable {
    host_end: "up0",
    far_end: "eth0",
};

/// A router at the other end of a cable of the host.
fn lay_cable(host: &Host) -> Container {
    let router = host.container();
    CABLE.lay(&router, 1500);
    for family in FAMILIES {
        let own = IpNet::new(family.router(), family.net().prefix_len());
        router.add_addresses("eth0", &[own.expect("it was the length of another one")]);
    }
    router.add_hosts(&FAMILIES.map(|family| family.far()));
    router
}

/// What an ordinary user's daemon may not open, a user with the right to passes to it.
fn the_outside_sees_one_mac_address(host: &mut Host) {
    host.heddle.start(&[]);
    let router = lay_cable(host);
    let create = creation("shop", "packet:up0");
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    match host.way {
        Way::Root => host.heddle.run(&create),
        Way::User => host.heddle.run_with_raw_sockets(&create),
    };
    let (alice, bob) = (host.container(), host.container());
    attach_with(host, &alice, "shop", "alice", &[]);
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let mut tcpdump = program("tcpdump");
    tcpdump.args([
        "-i",
        "eth0",
        "-n",
        "-e",
        "-l",
        "--immediate-mode",
        "--direction=in",
        "-Z",
        "root",
    ]);
    tcpdump.args(["-s", "64"]);
    let tcpdump = router.start(tcpdump);
    eventually("tcpdump listens", || {
        tcpdump.stderr().contains("listening on")
    });
    let _inside = serve(&bob, 80);
    let _outside = serve(&router, 80);
    for family in FAMILIES {
        for from in [&alice, &bob] {
            ping(from, family.far());
        }
        let at = SocketAddr::new(family.far(), 80);
        assert_eq!(download(&alice, at).peer, family.outside());
        assert_eq!(upload(&alice, at).received, LONG);
        let seen = download(&router, family.published(8080));
        assert_eq!((seen.peer, seen.padding), (family.router(), LONG));
        ping(&router, family.outside());
    }
    let mut ip = program("ip");
    ip.args(["-o", "link", "show", "dev", "eth0"]);
    let own = router.execute(ip).success();
    // The host's own end speaks, too: its kernel looks for routers and groups over IPv6.
    let hosts = host_mac();
    let mut seen: Vec<String> = tcpdump.stdout().lines().filter_map(source).collect();
    assert!(seen.len() > 100, "{}", tcpdump.stdout());
    seen.sort_unstable();
    seen.dedup();
    seen.retain(|mac| *mac != hosts);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(!own.contains(&seen[0]), "{own}");
}

/// The Ethernet source of a line of `tcpdump -e`.
fn source(line: &str) -> Option<String> {
    line.split(' ').nth(1).map(str::to_owned)
}

fn host_mac() -> String {
    let mut netlink = heddle_sys::netlink::Netlink::open().expect("a netlink socket");
    let link = netlink.link(CABLE.host_end).expect("it is here");
    let octets = link.mac.expect("it is an Ethernet interface");
    heddle_wire::MacAddr::new(octets).to_string()
}

fn an_interface_that_may_not_be_used_is_refused(host: &mut Host) {
    host.heddle.start(&[]);
    let _router = lay_cable(host);
    let before = host.heddle.settled_holdings();
    let create = [
        "network",
        "create",
        "shop",
        "-o",
        "uplink_address=203.0.113.2/24",
        "--uplink",
    ];
    let refusal = host
        .heddle
        .refused(&[&create[..], &["packet:none0"]].concat());
    assert!(refusal.message.contains("none0"), "{refusal:?}");
    let own = [
        "network",
        "create",
        "shop",
        "-o",
        "uplink_address=127.0.0.1/8",
    ];
    let refusal = host
        .heddle
        .refused(&[&own[..], &["--uplink", "packet:up0"]].concat());
    assert!(
        refusal
            .message
            .contains("127.0.0.1 is an address of this host"),
        "{refusal:?}"
    );
    if host.way == Way::User {
        let refusal = host
            .heddle
            .refused(&[&create[..], &["packet:up0"]].concat());
        assert!(refusal.hint.is_some(), "{refusal:?}");
    }
    eventually("nothing is half done", || {
        host.heddle.holdings().keep_nothing_since(&before)
    });
}
