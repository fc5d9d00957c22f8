//! Interfaces, addresses, routes, neighbours and settings.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use heddle_sys::capability;
use heddle_sys::netlink::{
    Address, Link, LinkChange, Netlink, NetlinkError, Route, RouteKind, VethOptions,
};
use heddle_sys::sysctl::{self, Outcome};

use crate::harness::{Job, cases};
use crate::lab::{Sandbox, veth_pair};

cases![
    a_pair_is_made_as_ordered_and_removed_whole,
    everything_about_an_interface_is_changed_in_one_call,
    an_interface_is_moved_and_given_a_name_there,
    names_and_numbers_that_do_not_exist_are_told,
    addresses_come_and_go,
    an_address_is_usable_at_once_without_the_search_for_duplicates,
    what_arrives_for_an_address_is_taken_once_it_is_local,
    an_end_that_is_alone_is_not_waited_for_in_vain,
    routes_of_both_families_come_and_go,
    a_gateway_outside_of_every_subnet_needs_the_word,
    a_route_with_several_next_hops_is_listed_by_each,
    the_kernels_own_words_are_in_the_error,
    a_static_neighbour_is_never_asked_for,
    a_passed_socket_configures_a_container_from_outside,
    a_socket_of_a_foreign_container_is_of_no_use,
    settings_are_those_of_the_own_namespace,
];

const PATIENCE: Duration = Duration::from_secs(10);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pair that is up, and a socket for it.
fn pair_up() -> (Link, Link, Netlink) {
    let mut netlink = Netlink::open().unwrap();
    netlink
        .create_veth(&VethOptions {
            up: true,
            ..veth_pair()
        })
        .unwrap();
    let far = netlink.link("far").unwrap();
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(far.index, &up).unwrap();
    (
        netlink.link("near").unwrap(),
        netlink.link("far").unwrap(),
        netlink,
    )
}

fn a_pair_is_made_as_ordered_and_removed_whole() {
    let sandbox = Sandbox::new();
    let (mut netlink, mut inside) = (Netlink::open().unwrap(), sandbox.netlink());
    let options = VethOptions {
        name: "port7",
        peer_name: "eth0",
        peer_netns: Some(sandbox.network.as_fd()),
        mac: Some([2, 0, 0, 0, 0, 7]),
        peer_mac: Some([2, 0, 0, 0, 0, 8]),
        mtu: Some(1400),
        tx_queue_len: Some(123),
        up: true,
    };
    netlink.create_veth(&options).unwrap();
    let far = inside.link("eth0").unwrap();
    assert!(!far.up);
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    inside.set_link(far.index, &up).unwrap();
    let near = netlink.link("port7").unwrap();
    let far = inside.link("eth0").unwrap();
    let expected = Link {
        index: near.index,
        name: "port7".to_owned(),
        mac: options.mac,
        mtu: 1400,
        up: true,
        running: true,
        loopback: false,
        noarp: false,
        tx_queue_len: 123,
        kind: Some("veth".to_owned()),
        lower: Some(far.index),
    };
    assert_eq!(near, expected);
    let expected = Link {
        index: far.index,
        name: "eth0".to_owned(),
        mac: options.peer_mac,
        lower: Some(near.index),
        ..expected
    };
    assert_eq!(far, expected);
    let refusal = netlink.create_veth(&options).unwrap_err();
    assert!(refusal.is_already_there(), "{refusal:?}");
    assert_eq!(
        refusal.to_string(),
        "making the veth pair port7 and eth0: File exists"
    );
    netlink.delete_link(near.index).unwrap();
    assert!(netlink.link("port7").unwrap_err().is_absent());
    assert!(inside.link("eth0").unwrap_err().is_absent());
}

fn everything_about_an_interface_is_changed_in_one_call() {
    let mut netlink = Netlink::open().unwrap();
    netlink.create_veth(&veth_pair()).unwrap();
    let before = netlink.link("near").unwrap();
    let change = LinkChange {
        up: Some(true),
        mtu: Some(9000),
        mac: Some([2, 0, 0, 0, 0, 9]),
        name: Some("renamed"),
        netns: None,
        tx_queue_len: Some(77),
        noarp: Some(true),
        ipv6_link_local: Some(false),
    };
    netlink.set_link(before.index, &change).unwrap();
    let after = netlink.link("renamed").unwrap();
    let expected = Link {
        name: "renamed".to_owned(),
        mac: Some([2, 0, 0, 0, 0, 9]),
        mtu: 9000,
        up: true,
        running: false,
        noarp: true,
        tx_queue_len: 77,
        ..before
    };
    assert_eq!(after, expected);
    assert!(netlink.link("near").is_err());
    // Nothing asked for, nothing changed.
    netlink
        .set_link(after.index, &LinkChange::default())
        .unwrap();
    assert_eq!(netlink.link("renamed").unwrap(), after);
    let down = LinkChange {
        up: Some(false),
        noarp: Some(false),
        ..LinkChange::default()
    };
    netlink.set_link(after.index, &down).unwrap();
    let link = netlink.link("renamed").unwrap();
    assert!(!link.up && !link.noarp);
}

fn an_interface_is_moved_and_given_a_name_there() {
    let sandbox = Sandbox::rootless();
    let mut netlink = Netlink::open().unwrap();
    netlink.create_veth(&veth_pair()).unwrap();
    let index = netlink.link("far").unwrap().index;
    let change = LinkChange {
        netns: Some(sandbox.network.as_fd()),
        name: Some("eth0"),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).unwrap();
    assert!(netlink.link("far").unwrap_err().is_absent());
    assert!(sandbox.netlink().link("eth0").is_ok());
}

fn names_and_numbers_that_do_not_exist_are_told() {
    let mut netlink = Netlink::open().unwrap();
    let refusal = netlink.delete_link(4711).unwrap_err();
    assert!(refusal.is_absent());
    assert_eq!(
        refusal.to_string(),
        "removing interface 4711: No such device"
    );
    let refusal = netlink
        .add_address(4711, address("10.0.0.1"), 24, true)
        .unwrap_err();
    assert!(
        refusal
            .to_string()
            .starts_with("adding 10.0.0.1/24 to interface 4711: ")
    );
    let invalid = VethOptions {
        name: "not a name",
        ..veth_pair()
    };
    let refusal = netlink.create_veth(&invalid).unwrap_err();
    assert!(
        matches!(refusal, NetlinkError::NameInvalid { .. }),
        "{refusal}"
    );
}

fn addresses_come_and_go() {
    let (near, _, mut netlink) = pair_up();
    for (ip, prefix_len) in [
        ("10.0.0.2", 24),
        ("10.1.0.1", 32),
        ("fd00::2", 64),
        ("fd01::1", 128),
    ] {
        let ip = address(ip);
        netlink
            .add_address(near.index, ip, prefix_len, true)
            .unwrap();
        let expected = Address {
            interface: near.index,
            ip,
            prefix_len,
            tentative: false,
            duplicate: false,
            link_local: false,
        };
        assert!(netlink.addresses().unwrap().contains(&expected), "{ip}");
        // Usable without further ado.
        UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap();
        let refusal = netlink
            .add_address(near.index, ip, prefix_len, true)
            .unwrap_err();
        assert!(refusal.is_already_there());
        assert!(
            refusal
                .to_string()
                .starts_with(&format!("adding {ip}/{prefix_len} to near: "))
        );
        netlink.delete_address(near.index, ip, prefix_len).unwrap();
        assert!(!netlink.addresses().unwrap().contains(&expected), "{ip}");
        assert!(
            netlink
                .delete_address(near.index, ip, prefix_len)
                .unwrap_err()
                .is_absent()
        );
    }
}

fn an_address_is_usable_at_once_without_the_search_for_duplicates() {
    let (near, _, mut netlink) = pair_up();
    let tentative = |netlink: &mut Netlink, ip: IpAddr| {
        let addresses = netlink.addresses().unwrap();
        addresses
            .iter()
            .find(|address| address.ip == ip)
            .unwrap()
            .tentative
    };
    let (slow, fast) = (address("fd00::1"), address("fd00::2"));
    netlink.add_address(near.index, slow, 64, false).unwrap();
    netlink.add_address(near.index, fast, 64, true).unwrap();
    assert!(tentative(&mut netlink, slow));
    assert!(!tentative(&mut netlink, fast));
    UdpSocket::bind(SocketAddr::new(slow, 0)).unwrap_err();
    UdpSocket::bind(SocketAddr::new(fast, 0)).unwrap();
    // The kernel's own link-local address is of the slow kind, and can be declined.
    let link_local = |netlink: &mut Netlink, interface: u32| {
        let addresses = netlink.addresses().unwrap();
        addresses
            .iter()
            .any(|address| address.interface == interface && address.link_local)
    };
    assert!(link_local(&mut netlink, near.index));
    netlink
        .create_veth(&VethOptions {
            name: "n2",
            peer_name: "f2",
            ..veth_pair()
        })
        .unwrap();
    let ends = ["n2", "f2"].map(|name| netlink.link(name).unwrap().index);
    for index in ends {
        let change = LinkChange {
            up: Some(true),
            ipv6_link_local: Some(false),
            ..LinkChange::default()
        };
        netlink.set_link(index, &change).unwrap();
    }
    for index in ends {
        assert!(netlink.wait_running(index, PATIENCE).unwrap());
        assert!(!link_local(&mut netlink, index));
    }
}

fn what_arrives_for_an_address_is_taken_once_it_is_local() {
    let (near, _, mut netlink) = pair_up();
    for ip in ["10.0.0.2", "fd00::2"] {
        let ip = address(ip);
        // Without a way there at all, and then with one that leads out.
        assert!(!netlink.wait_local(ip, Duration::ZERO).unwrap());
        let prefix_len = if ip.is_ipv4() { 31 } else { 127 };
        netlink
            .add_route(&Route {
                interface: Some(near.index),
                ..Route::to(ip, prefix_len)
            })
            .unwrap();
        assert!(!netlink.wait_local(ip, Duration::from_millis(1)).unwrap());
        netlink
            .add_address(near.index, ip, prefix_len + 1, true)
            .unwrap();
        assert!(netlink.wait_local(ip, PATIENCE).unwrap());
    }
}

fn an_end_that_is_alone_is_not_waited_for_in_vain() {
    let mut netlink = Netlink::open().unwrap();
    netlink
        .create_veth(&VethOptions {
            up: true,
            ..veth_pair()
        })
        .unwrap();
    let index = netlink.link("near").unwrap().index;
    assert!(
        !netlink
            .wait_running(index, Duration::from_millis(1))
            .unwrap()
    );
}

fn routes_of_both_families_come_and_go() {
    let (near, _, mut netlink) = pair_up();
    netlink
        .add_address(near.index, address("10.0.0.2"), 24, true)
        .unwrap();
    netlink
        .add_address(near.index, address("fd00::2"), 64, true)
        .unwrap();
    let via = |destination: &str, prefix_len, gateway: Option<&str>| Route {
        gateway: gateway.map(address),
        interface: Some(near.index),
        ..Route::to(address(destination), prefix_len)
    };
    let mut routes = vec![
        via("0.0.0.0", 0, Some("10.0.0.1")),
        via("::", 0, Some("fd00::1")),
        via("192.0.2.0", 24, Some("10.0.0.9")),
        via("198.51.100.7", 32, None),
        via("2001:db8::", 32, Some("fe80::1")),
        via("2001:db8:1::", 48, None),
    ];
    routes.push(Route {
        metric: Some(50),
        ..routes[0].clone()
    });
    routes.push(Route {
        source: Some(address("10.0.0.2")),
        ..via("203.0.113.0", 24, None)
    });
    routes.push(Route {
        kind: RouteKind::Blackhole,
        ..Route::to(address("10.66.0.0"), 16)
    });
    routes.push(Route {
        kind: RouteKind::Unreachable,
        ..Route::to(address("10.67.0.0"), 16)
    });
    for route in routes {
        netlink.add_route(&route).unwrap();
        let listed = netlink.routes().unwrap();
        // IPv6 routes have a metric even if none was given.
        let metric = route.metric.or(route.destination.is_ipv6().then_some(1024));
        let expected = Route {
            metric,
            ..route.clone()
        };
        assert!(
            listed.contains(&expected),
            "{expected:?} is not in {listed:?}"
        );
        assert!(
            netlink.add_route(&route).unwrap_err().is_already_there(),
            "{route}"
        );
        netlink.delete_route(&route).unwrap();
        assert!(!netlink.routes().unwrap().contains(&expected), "{route}");
        let refusal = netlink.delete_route(&route).unwrap_err();
        assert!(refusal.is_absent(), "{refusal:?}");
    }
    // The subnets themselves are in the list, the kernel's local and broadcast routes are not.
    let listed = netlink.routes().unwrap();
    assert!(
        listed
            .iter()
            .any(|route| route.to_string() == "10.0.0.0/24")
    );
    assert!(listed.iter().any(|route| route.to_string() == "fd00::/64"));
    assert!(
        !listed
            .iter()
            .any(|route| route.to_string().contains("10.0.0.2/32"))
    );
}

fn a_gateway_outside_of_every_subnet_needs_the_word() {
    let (near, _, mut netlink) = pair_up();
    netlink
        .add_address(near.index, address("10.0.0.2"), 32, true)
        .unwrap();
    for gateway in ["10.0.0.1", "fe80::1"] {
        let route = Route {
            gateway: Some(address(gateway)),
            interface: Some(near.index),
            onlink: true,
            ..Route::to(address("0.0.0.0"), 0)
        };
        if gateway == "10.0.0.1" {
            let refusal = netlink
                .add_route(&Route {
                    onlink: false,
                    ..route.clone()
                })
                .unwrap_err();
            let text = refusal.to_string();
            assert!(
                text.starts_with("adding the route default (IPv4) via 10.0.0.1 on near: Network"),
                "{text}"
            );
        }
        netlink.add_route(&route).unwrap();
        assert!(
            netlink.routes().unwrap().contains(&route),
            "{:?}",
            netlink.routes()
        );
        netlink.delete_route(&route).unwrap();
    }
}

fn a_route_with_several_next_hops_is_listed_by_each() {
    let (near, _, mut netlink) = pair_up();
    netlink
        .add_address(near.index, address("10.0.0.2"), 24, true)
        .unwrap();
    let hop = |gateway: &'static str| ["nexthop", "via", gateway, "dev", "near"];
    let arguments = [
        &["route", "add", "192.0.2.0/24"],
        &hop("10.0.0.7")[..],
        &hop("10.0.0.8"),
    ];
    match std::process::Command::new("ip")
        .args(arguments.concat())
        .status()
    {
        Ok(status) => assert!(status.success()),
        Err(error) => crate::harness::skip(&format!("ip: {error}")),
    }
    let listed = netlink.routes().unwrap();
    let mut gateways: Vec<_> = listed
        .iter()
        .filter(|route| route.destination == address("192.0.2.0"))
        .map(|route| (route.gateway.unwrap().to_string(), route.interface))
        .collect();
    gateways.sort();
    let interface = Some(near.index);
    assert_eq!(
        gateways,
        [
            ("10.0.0.7".to_owned(), interface),
            ("10.0.0.8".to_owned(), interface)
        ]
    );
}

fn the_kernels_own_words_are_in_the_error() {
    let (near, _, mut netlink) = pair_up();
    let route = Route {
        gateway: Some(address("10.0.0.1")),
        interface: Some(near.index),
        ..Route::to(address("192.0.2.0"), 24)
    };
    let refusal = netlink.add_route(&route).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "adding the route 192.0.2.0/24 via 10.0.0.1 on near: Network is unreachable (Nexthop has \
         invalid gateway)"
    );
}

fn a_static_neighbour_is_never_asked_for() {
    let (near, _, mut netlink) = pair_up();
    netlink
        .add_address(near.index, address("10.0.0.2"), 24, true)
        .unwrap();
    netlink
        .add_address(near.index, address("fd00::2"), 64, true)
        .unwrap();
    for ip in ["10.0.0.1", "fd00::1"] {
        let ip = address(ip);
        netlink
            .add_neighbour(near.index, ip, [2, 0, 0, 0, 0, 1])
            .unwrap();
        netlink
            .add_neighbour(near.index, ip, [2, 0, 0, 0, 0, 2])
            .unwrap();
        let options = heddle_sys::packet::RingOptions::default();
        let mut far = heddle_sys::packet::PacketSocket::open("far", &options).unwrap();
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let target = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
            ip => ip,
        };
        socket
            .send_to(b"a datagram to a static neighbour", (target, 9))
            .unwrap();
        crate::harness::eventually("the datagram left with the last address", || {
            far.frames().iter_mut().any(|frame| {
                frame.ends_with(b"a datagram to a static neighbour")
                    && frame[10..16] == [2, 0, 0, 0, 0, 2]
            })
        });
        netlink.delete_neighbour(near.index, ip).unwrap();
        assert!(
            netlink
                .delete_neighbour(near.index, ip)
                .unwrap_err()
                .is_absent()
        );
    }
}

fn a_passed_socket_configures_a_container_from_outside() {
    let sandbox = Sandbox::rootless();
    let mut inside = sandbox.netlink();
    inside.create_veth(&veth_pair()).unwrap();
    let index = inside.link("near").unwrap().index;
    inside
        .add_address(index, address("10.0.0.2"), 24, true)
        .unwrap();
    assert!(Netlink::open().unwrap().link("near").is_err());
    // The sender's capabilities count, here over the container's owner.
    Job::spawn(|| {
        capability::drop_all().unwrap();
        inside
            .delete_address(index, address("10.0.0.2"), 24)
            .unwrap();
        Vec::new()
    })
    .join();
}

fn a_socket_of_a_foreign_container_is_of_no_use() {
    let mut netlink = Netlink::open().unwrap();
    netlink.create_veth(&veth_pair()).unwrap();
    let index = netlink.link("near").unwrap().index;
    Job::spawn(|| {
        // In a container one has all capabilities, but none over what is outside.
        heddle_sys::namespace::unshare(&[heddle_sys::namespace::NamespaceKind::User]).unwrap();
        let refusal = netlink.delete_link(index).unwrap_err();
        assert!(refusal.is_forbidden(), "{refusal:?}");
        assert_eq!(
            refusal.to_string(),
            "removing near: Operation not permitted"
        );
        Vec::new()
    })
    .join();
    assert!(netlink.link("near").is_ok());
}

fn settings_are_those_of_the_own_namespace() {
    let sandbox = Sandbox::new();
    sandbox
        .netlink()
        .create_veth(&VethOptions {
            name: "with.dot",
            ..veth_pair()
        })
        .unwrap();
    let key = "net/ipv6/conf/with.dot/accept_ra";
    assert_eq!(sysctl::read(key).unwrap(), None);
    assert_eq!(sysctl::write(key, "0").unwrap(), Outcome::Absent);
    sandbox.run(|| {
        assert_eq!(sysctl::read(key).unwrap().as_deref(), Some("1"));
        assert_eq!(sysctl::write(key, "0").unwrap(), Outcome::Set);
        assert_eq!(sysctl::read(key).unwrap().as_deref(), Some("0"));
        let error = sysctl::write(key, "nonsense").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
    Job::spawn(|| {
        heddle_sys::namespace::unshare(&[heddle_sys::namespace::NamespaceKind::User]).unwrap();
        let forbidden = sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(forbidden, Outcome::Forbidden);
        Vec::new()
    })
    .join();
}
