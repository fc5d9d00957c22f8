use super::*;
use crate::endpoint::{Endpoint, memory_pair};
use crate::leg::NoLeg;
use crate::port::Identity;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last])
}

/// The network `id` with these subnets and ports.
fn network(id: u16, subnets: &[&str], ports: &[u16]) -> Network {
    let subnets: Vec<IpNet> = subnets.iter().map(|subnet| net(subnet)).collect();
    let first = |subnet: &IpNet| subnet.hosts().find(|&host| host != subnet.network());
    Network {
        id: NetworkId(id),
        name: format!("n{id}"),
        driver: Driver::Bridge,
        mtu: 1500,
        gateway_mac: mac(0xee),
        gateways: subnets.iter().filter_map(first).map(Into::into).collect(),
        subnets,
        routes: Vec::new(),
        reaches: Vec::new(),
        uplink: Arc::new(NoLeg),
        ports: ports.iter().copied().map(PortId).collect(),
        storm_control: crate::StormControl::default(),
        ageing: crate::fdb::AGEING_TIME,
    }
}

fn port(id: u16, role: Role) -> Arc<Port> {
    let end = Endpoint::Memory(memory_pair(1, true).0);
    Arc::new(Port::new(PortId(id), format!("p{id}"), role, 1500, end, 1))
}

fn member(id: u16, of: u16, mac: MacAddr, addresses: &[&str]) -> Arc<Port> {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    let role = Role::Member {
        network: NetworkId(of),
        identity: Identity::new(vec![mac], addresses, true),
    };
    port(id, role)
}

fn leg(id: u16, port: u16, addresses: &[&str]) -> Arc<PortLeg> {
    Arc::new(PortLeg {
        id: LegId(id),
        port: PortId(port),
        mac: mac(0xdd),
        addresses: addresses.iter().map(|text| net(text)).collect(),
        gateways: Vec::new(),
        filtering: heddle_nat::Filtering::default(),
    })
}

/// Two networks with two endpoints each, and a leg.
fn parts() -> ConfigParts {
    ConfigParts {
        ports: vec![
            member(0, 0, mac(1), &["10.1.0.2", "fd00:1::2"]),
            member(1, 0, mac(2), &["10.1.0.3", "fd00:1::3"]),
            member(7, 3, mac(1), &["10.2.0.2", "fd00:2::2"]),
            member(8, 3, mac(2), &["10.2.0.3", "fd00:2::3"]),
            port(9, Role::Leg(LegId(2))),
        ],
        networks: vec![
            Arc::new(network(0, &["10.1.0.0/24", "fd00:1::/64"], &[0, 1])),
            Arc::new(network(3, &["10.2.0.0/24", "fd00:2::/64"], &[7, 8])),
        ],
        legs: vec![leg(2, 9, &["192.0.2.2/24", "2001:db8::2/64"])],
        published: Published::default(),
        rules: RuleSet::default(),
    }
}

/// What is said against the parts with a change.
fn refusal(change: impl FnOnce(&mut ConfigParts)) -> ConfigError {
    let mut parts = parts();
    change(&mut parts);
    Config::new(parts).unwrap_err()
}

#[test]
fn everything_is_found_by_its_number_and_hosts_by_their_addresses() {
    let config = Config::new(parts()).unwrap();
    assert_eq!(config.ports().count(), 5);
    assert_eq!(config.port(PortId(7)).unwrap().name, "p7");
    assert!(config.port(PortId(2)).is_none());
    assert!(config.port(PortId(u16::MAX)).is_none());
    assert_eq!(config.network(NetworkId(3)).unwrap().name, "n3");
    assert!(config.network(NetworkId(1)).is_none());
    assert_eq!(config.leg(LegId(2)).unwrap().port, PortId(9));
    for (text, host) in [
        ("10.1.0.3", Some(1)),
        ("fd00:2::2", Some(7)),
        ("10.1.0.1", None),
        ("10.1.0.9", None),
    ] {
        assert_eq!(config.host(address(text)), host.map(PortId), "{text}");
    }
    // Two endpoints of two networks may well have one link-local address.
    let link_local = crate::port::link_local(mac(1));
    assert_eq!(config.host(link_local), None);
}

#[test]
fn an_address_is_in_the_subnet_that_contains_it_and_in_no_other() {
    let config = Config::new(parts()).unwrap();
    for (text, network) in [
        ("10.1.0.0", Some(0)),
        ("10.1.0.255", Some(0)),
        ("10.1.1.0", None),
        ("10.0.255.255", None),
        ("10.2.0.77", Some(3)),
        ("0.0.0.0", None),
        ("255.255.255.255", None),
        ("fd00:1::", Some(0)),
        ("fd00:1::ffff:ffff:ffff:ffff", Some(0)),
        ("fd00:1:0:1::", None),
        ("fd00:2::1", Some(3)),
        ("::", None),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
    ] {
        let found = config.subnet_of(address(text)).map(|(_, id)| id);
        assert_eq!(found, network.map(NetworkId), "{text}");
    }
}

#[test]
fn numbers_are_given_once() {
    let twice = refusal(|parts| parts.ports.push(member(1, 0, mac(9), &[])));
    assert_eq!(twice, ConfigError::Twice("port", 1));
    let twice = refusal(|parts| parts.networks.push(Arc::new(network(3, &[], &[]))));
    assert_eq!(twice, ConfigError::Twice("network", 3));
    let twice = refusal(|parts| parts.legs.push(leg(2, 9, &[])));
    assert_eq!(twice, ConfigError::Twice("leg", 2));
}

#[test]
fn what_is_referred_to_is_there() {
    let missing = refusal(|parts| parts.ports.push(member(2, 1, mac(9), &[])));
    assert_eq!(missing, ConfigError::Missing("network", 1));
    let missing = refusal(|parts| parts.ports.push(port(2, Role::Leg(LegId(5)))));
    assert_eq!(missing, ConfigError::Missing("leg", 5));
    let missing = refusal(|parts| {
        parts.networks[0] = Arc::new(network(0, &[], &[0, 1, 44]));
    });
    assert_eq!(missing, ConfigError::Missing("port", 44));
    let missing = refusal(|parts| parts.legs.push(leg(3, 45, &[])));
    assert_eq!(missing, ConfigError::Missing("port", 45));
}

#[test]
fn ports_and_networks_agree_who_belongs_where() {
    // A flooded frame would reach another network, a second time, or not at all.
    for ports in [&[0, 1, 7][..], &[0, 1, 1], &[0], &[0, 1, 9]] {
        let strange = refusal(|parts| {
            let subnets = ["10.1.0.0/24", "fd00:1::/64"];
            parts.networks[0] = Arc::new(network(0, &subnets, ports));
        });
        let ConfigError::Membership(port) = strange else {
            panic!("{strange}");
        };
        assert!([7, 1, 9].contains(&port), "{port}");
    }
    let strange = refusal(|parts| parts.legs[0] = leg(2, 0, &[]));
    assert_eq!(strange, ConfigError::Membership(0));
}

#[test]
fn a_leg_has_a_zone() {
    let number = LegId::LAST.0 + 1;
    let high = refusal(|parts| {
        parts.ports.push(port(10, Role::Leg(LegId(number))));
        parts.legs.push(leg(number, 10, &[]));
    });
    assert_eq!(high, ConfigError::Number("leg", number));
    let mut last = parts();
    last.ports.push(port(10, Role::Leg(LegId::LAST)));
    last.legs.push(leg(LegId::LAST.0, 10, &[]));
    assert!(Config::new(last).is_ok());
}

#[test]
fn an_address_belongs_to_one_host_or_gateway() {
    for (network, taken) in [(0, "10.1.0.2"), (3, "fd00:1::2"), (0, "10.2.0.1")] {
        let twice = refusal(|parts| {
            parts.ports.retain(|port| port.id != PortId(8));
            let ports: &[u16] = if network == 3 { &[7, 11] } else { &[7] };
            let first: &[u16] = if network == 0 { &[0, 1, 11] } else { &[0, 1] };
            parts.networks = vec![
                Arc::new(super::tests::network(
                    0,
                    &["10.1.0.0/24", "fd00:1::/64"],
                    first,
                )),
                Arc::new(super::tests::network(
                    3,
                    &["10.2.0.0/24", "fd00:2::/64"],
                    ports,
                )),
            ];
            parts.ports.push(member(11, network, mac(9), &[taken]));
        });
        assert_eq!(twice, ConfigError::AddressTwice(address(taken)));
    }
}

#[test]
fn on_a_bridge_a_mac_address_is_one_station_and_the_gateway_is_one() {
    for taken in [mac(1), mac(0xee)] {
        let twice = refusal(|parts| parts.ports[1] = member(1, 0, taken, &[]));
        assert_eq!(twice, ConfigError::MacTwice(taken));
    }
    // Nobody looks for anybody by MAC address in an l3 network.
    let mut routed = parts();
    routed.ports[1] = member(1, 0, mac(1), &[]);
    routed.networks[0] = Arc::new(Network {
        driver: Driver::L3,
        ..network(0, &["10.1.0.0/24", "fd00:1::/64"], &[0, 1])
    });
    assert!(Config::new(routed).is_ok());
}

#[test]
fn subnets_do_not_overlap_and_no_leg_is_inside_one() {
    for (first, second) in [
        ("10.1.0.0/24", "10.1.0.0/24"),
        ("10.1.0.0/24", "10.1.0.128/25"),
        ("10.0.0.0/8", "10.1.0.0/24"),
        ("fd00::/16", "fd00:1::/64"),
    ] {
        for (one, other) in [(first, second), (second, first)] {
            let overlap = refusal(|parts| {
                parts.ports.truncate(0);
                parts.legs.clear();
                parts.networks = vec![
                    Arc::new(Network {
                        gateways: Vec::new(),
                        ..network(0, &[one], &[])
                    }),
                    Arc::new(Network {
                        gateways: Vec::new(),
                        ..network(1, &[other], &[])
                    }),
                ];
            });
            assert!(matches!(overlap, ConfigError::Overlap(..)), "{overlap}");
        }
    }
    for inside in ["10.1.0.77/24", "fd00:2::77/64"] {
        let overlap = refusal(|parts| parts.legs[0] = leg(2, 9, &[inside]));
        assert!(matches!(overlap, ConfigError::Overlap(..)), "{overlap}");
    }
}

#[test]
fn the_longest_route_leads() {
    let mut network = network(0, &["10.1.0.0/24"], &[]);
    for (destination, via) in [
        ("10.9.0.0/16", "10.1.0.2"),
        ("10.9.7.0/24", "10.1.0.3"),
        ("0.0.0.0/0", "10.1.0.4"),
        ("fd09::/32", "fd00:1::2"),
    ] {
        network.routes.push(StaticRoute {
            destination: net(destination),
            via: address(via),
        });
    }
    for (to, via) in [
        ("10.9.7.7", Some("10.1.0.3")),
        ("10.9.8.7", Some("10.1.0.2")),
        ("192.0.2.1", Some("10.1.0.4")),
        ("fd09::7", Some("fd00:1::2")),
        ("fd0a::7", None),
    ] {
        let found = network.route_to(address(to)).map(|route| route.via);
        assert_eq!(found, via.map(address), "{to}");
    }
}

#[test]
fn a_host_sees_the_gateway_of_its_own_subnet() {
    let network = network(0, &["10.1.0.0/24", "10.5.0.0/24", "fd00:1::/64"], &[]);
    for (host, gateway) in [
        ("10.1.0.7", Some(address("10.1.0.1"))),
        ("10.5.0.7", Some(address("10.5.0.1"))),
        ("fd00:1::7", Some(GATEWAY_LINK_LOCAL)),
        ("10.6.0.7", None),
        ("fd00:6::7", None),
    ] {
        assert_eq!(network.gateway_towards(address(host)), gateway, "{host}");
    }
    assert!(network.carries(Family::V4) && network.carries(Family::V6));
}

#[test]
fn without_a_port_its_number_and_addresses_lead_nowhere_and_the_rest_stays() {
    let config = Config::new(parts()).unwrap();
    let removed = config.port(PortId(1)).unwrap().clone();
    let without = config.without(&[removed]);
    assert!(without.port(PortId(1)).is_none());
    assert_eq!(without.host(address("10.1.0.3")), None);
    assert_eq!(without.host(address("fd00:1::3")), None);
    assert_eq!(without.host(address("10.1.0.2")), Some(PortId(0)));
    assert_eq!(without.ports().count(), 4);
    assert_eq!(without.networks().count(), 2);
    assert_eq!(without.legs().count(), 1);
}
