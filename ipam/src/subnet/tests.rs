//! The rules of both families as tables.

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn subnet(text: &str) -> Subnet {
    Subnet::new(net(text).into()).unwrap()
}

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange {
        first: address(first),
        last: address(last),
    }
}

fn reserved(list: &[(&str, &str)]) -> BTreeMap<IpAddr, String> {
    list.iter()
        .map(|(text, purpose)| (address(text), (*purpose).to_owned()))
        .collect()
}

fn refusal(config: SubnetConfig) -> String {
    Subnet::new(config).unwrap_err().to_string()
}

/// The automatic addresses of a small subnet, asked one by one.
fn automatic(subnet: &Subnet) -> Vec<IpAddr> {
    let (first, last) = bounds(&subnet.network());
    let set = subnet.automatic();
    let members: Vec<u128> = (first..=last)
        .filter(|number| set.contains(*number))
        .collect();
    assert_eq!(set.count(), members.len() as u128);
    for number in first..=last {
        let address = subnet.family().address(number);
        assert_eq!(
            subnet.is_automatic(address),
            set.contains(number),
            "{address}"
        );
    }
    members
        .into_iter()
        .map(|number| subnet.family().address(number))
        .collect()
}

#[test]
fn the_gateway_is_the_first_host_address_unless_named() {
    for (text, expected) in [
        ("10.64.0.0/24", "10.64.0.1"),
        ("10.64.0.4/30", "10.64.0.5"),
        ("10.64.0.4/31", "10.64.0.4"),
        ("10.0.0.0/8", "10.0.0.1"),
        ("fd00::/64", "fd00::1"),
        ("fd00::a00/120", "fd00::a01"),
    ] {
        assert_eq!(subnet(text).gateway(), Some(address(expected)), "{text}");
    }
    for (text, gateway) in [
        ("10.64.0.0/24", "10.64.0.254"),
        ("10.64.0.4/31", "10.64.0.5"),
        ("fd00::/64", "fd00::ffff:ffff:ffff:ffff"),
        ("fd00::/120", "fd00::ff"),
    ] {
        let gateway = GatewayChoice::At(address(gateway));
        let subnet = Subnet::new(SubnetConfig {
            gateway,
            ..net(text).into()
        })
        .unwrap();
        assert_eq!(GatewayChoice::At(subnet.gateway().unwrap()), gateway);
    }
}

#[test]
fn gateways_that_are_no_hosts_address_are_refused_with_one_that_is() {
    for (text, gateway, message) in [
        (
            "10.64.0.0/24",
            "10.64.0.0",
            "gateway 10.64.0.0 is the network address of subnet 10.64.0.0/24; \
             its first address is 10.64.0.1",
        ),
        (
            "10.64.0.0/24",
            "10.64.0.255",
            "gateway 10.64.0.255 is the broadcast address of subnet 10.64.0.0/24; \
             its first address is 10.64.0.1",
        ),
        (
            "10.64.0.0/24",
            "10.64.1.1",
            "gateway 10.64.1.1 is outside of subnet 10.64.0.0/24; its first address is 10.64.0.1",
        ),
        (
            "10.64.0.0/31",
            "10.64.0.2",
            "gateway 10.64.0.2 is outside of subnet 10.64.0.0/31; its first address is 10.64.0.0",
        ),
        (
            "fd00::/64",
            "fd00::",
            "gateway fd00:: is the subnet-router anycast address of subnet fd00::/64; \
             its first address is fd00::1",
        ),
        (
            "fd00::/64",
            "fe80::1",
            "gateway fe80::1 is outside of subnet fd00::/64; its first address is fd00::1",
        ),
        (
            "fd00::/64",
            "10.64.0.1",
            "gateway 10.64.0.1 is outside of subnet fd00::/64; its first address is fd00::1",
        ),
    ] {
        let gateway = GatewayChoice::At(address(gateway));
        assert_eq!(
            refusal(SubnetConfig {
                gateway,
                ..net(text).into()
            }),
            message
        );
    }
}

#[test]
fn subnets_that_cannot_work_are_refused_with_what_would_be_right() {
    for (text, message) in [
        (
            "10.64.0.9/24",
            "subnet 10.64.0.9/24 has host bits set; the network is 10.64.0.0/24",
        ),
        (
            "fd00::1/64",
            "subnet fd00::1/64 has host bits set; the network is fd00::/64",
        ),
        (
            "10.64.0.1/32",
            "subnet 10.64.0.1/32 is too small: /31 is the longest prefix possible here",
        ),
        (
            "fd00::/121",
            "subnet fd00::/121 is too small: /120 is the longest prefix possible here",
        ),
        (
            "fd00::/128",
            "subnet fd00::/128 is too small: /120 is the longest prefix possible here",
        ),
        (
            "127.0.0.0/24",
            "subnet 127.0.0.0/24 contains loopback addresses (127.0.0.0/8)",
        ),
        (
            "169.254.7.0/24",
            "subnet 169.254.7.0/24 contains link-local addresses (169.254.0.0/16)",
        ),
        (
            "224.0.0.0/24",
            "subnet 224.0.0.0/24 contains multicast addresses (224.0.0.0/4)",
        ),
        (
            "250.0.0.0/24",
            "subnet 250.0.0.0/24 contains reserved addresses (240.0.0.0/4)",
        ),
        (
            "0.0.0.0/0",
            "subnet 0.0.0.0/0 contains \"this network\" addresses (0.0.0.0/8)",
        ),
        (
            "fe80::/64",
            "subnet fe80::/64 contains link-local addresses (fe80::/10)",
        ),
        (
            "ff02::/64",
            "subnet ff02::/64 contains multicast addresses (ff00::/8)",
        ),
        (
            "::/64",
            "subnet ::/64 contains loopback addresses (::1/128)",
        ),
        (
            "::ffff:0:0/96",
            "subnet ::ffff:0.0.0.0/96 contains reserved addresses (::/8)",
        ),
    ] {
        assert_eq!(refusal(net(text).into()), message);
    }
}

#[test]
fn without_a_gateway_every_host_address_is_for_endpoints() {
    for (text, expected) in [
        ("10.64.0.9/32", &["10.64.0.9"][..]),
        ("10.64.0.8/31", &["10.64.0.8", "10.64.0.9"]),
        ("10.64.0.8/30", &["10.64.0.9", "10.64.0.10"]),
    ] {
        let config = SubnetConfig {
            gateway: GatewayChoice::None,
            ..net(text).into()
        };
        let subnet = Subnet::new(config).unwrap();
        assert_eq!(subnet.gateway(), None);
        let expected: Vec<IpAddr> = expected.iter().map(|text| address(text)).collect();
        assert_eq!(automatic(&subnet), expected);
    }
    // IPv6 has addresses enough for the rule to stay simple.
    let config = SubnetConfig {
        gateway: GatewayChoice::None,
        ..net("fd00::/121").into()
    };
    assert!(matches!(
        Subnet::new(config),
        Err(SubnetError::TooSmall { longest: 120, .. })
    ));
}

#[test]
fn every_address_of_a_subnet_has_one_role() {
    let v4 = Subnet::new(SubnetConfig {
        reserved: reserved(&[("10.64.0.9", "printer")]),
        ..net("10.64.0.0/24").into()
    })
    .unwrap();
    let v6 = Subnet::new(SubnetConfig {
        reserved: reserved(&[("fd00::9", "printer")]),
        ..net("fd00::/64").into()
    })
    .unwrap();
    for (subnet, text, role) in [
        (&v4, "10.64.0.0", Some(Role::Network)),
        (&v4, "10.64.0.1", Some(Role::Gateway)),
        (&v4, "10.64.0.2", Some(Role::Endpoint)),
        (&v4, "10.64.0.9", Some(Role::Reserved("printer".into()))),
        (&v4, "10.64.0.255", Some(Role::Broadcast)),
        (&v4, "10.64.1.0", None),
        (&v4, "::ffff:10.64.0.2", None),
        (&v6, "fd00::", Some(Role::RouterAnycast)),
        (&v6, "fd00::1", Some(Role::Gateway)),
        (&v6, "fd00::2", Some(Role::Endpoint)),
        (&v6, "fd00::9", Some(Role::Reserved("printer".into()))),
        (&v6, "fd00::fdff:ffff:ffff:ffff", Some(Role::Endpoint)),
        (&v6, "fd00::ffff:ffff:ffff:ffff", Some(Role::Endpoint)),
        (&v6, "fd00:0:0:1::", None),
        (&v6, "10.64.0.2", None),
    ] {
        assert_eq!(subnet.role(address(text)), role, "{text}");
    }
    let small = subnet("10.64.0.4/31");
    assert_eq!(small.role(address("10.64.0.4")), Some(Role::Gateway));
    assert_eq!(small.role(address("10.64.0.5")), Some(Role::Endpoint));
}

#[test]
fn the_automatic_choice_leaves_out_what_is_no_endpoints() {
    assert_eq!(automatic(&subnet("10.64.0.4/31")), [address("10.64.0.5")]);
    assert_eq!(automatic(&subnet("10.64.0.4/30")), [address("10.64.0.6")]);
    let v4 = automatic(&subnet("10.64.0.0/24"));
    assert_eq!(
        (v4.len(), v4[0], v4[252]),
        (253, address("10.64.0.2"), address("10.64.0.254"))
    );
    // RFC 2526 §2: the highest 128 of a /120 are anycast, and ::0 is the routers'.
    let v6 = automatic(&subnet("fd00::/120"));
    assert_eq!(
        (v6.len(), v6[0], v6[125]),
        (126, address("fd00::2"), address("fd00::7f"))
    );
    // In a /64 they have the form of an EUI-64 with the universal bit clear.
    let v6 = subnet("fd00::/64");
    for (text, expected) in [
        ("fd00::fdff:ffff:ffff:ff7f", true),
        ("fd00::fdff:ffff:ffff:ff80", false),
        ("fd00::fdff:ffff:ffff:ffff", false),
        ("fd00::fe00:0:0:0", true),
        ("fd00::ffff:ffff:ffff:ffff", true),
    ] {
        assert_eq!(v6.is_automatic(address(text)), expected, "{text}");
        assert_eq!(
            v6.automatic().contains(number(address(text))),
            expected,
            "{text}"
        );
    }
    assert_eq!(v6.automatic().count(), (1 << 64) - 2 - 128);
}

#[test]
fn a_range_confines_the_choice_and_reserved_addresses_are_spared() {
    let v4 = Subnet::new(SubnetConfig {
        // As Docker has it, a range may be written as a network and then spans its ends too.
        range: Some(net("10.64.0.248/29").into()),
        reserved: reserved(&[("10.64.0.250", "router"), ("10.64.0.7", "elsewhere")]),
        ..net("10.64.0.0/24").into()
    })
    .unwrap();
    let expected = ["248", "249", "251", "252", "253", "254"];
    let expected = expected.map(|last| address(&format!("10.64.0.{last}")));
    assert_eq!(automatic(&v4), expected);
    let v6 = Subnet::new(SubnetConfig {
        range: Some(range("fd00::", "fd00::4")),
        reserved: reserved(&[("fd00::3", "router")]),
        ..net("fd00::/112").into()
    })
    .unwrap();
    assert_eq!(automatic(&v6), [address("fd00::2"), address("fd00::4")]);
}

#[test]
fn ranges_and_reserved_addresses_that_make_no_sense_are_refused() {
    let v4 = || SubnetConfig::from(net("10.64.0.0/24"));
    let v6 = || SubnetConfig::from(net("fd00::/64"));
    for (config, message) in [
        (
            SubnetConfig {
                range: Some(range("10.64.0.9", "10.64.0.2")),
                ..v4()
            },
            "range 10.64.0.9-10.64.0.2 is not a range of addresses in subnet 10.64.0.0/24",
        ),
        (
            SubnetConfig {
                range: Some(range("10.64.0.9", "10.64.1.2")),
                ..v4()
            },
            "range 10.64.0.9-10.64.1.2 is not a range of addresses in subnet 10.64.0.0/24",
        ),
        (
            SubnetConfig {
                range: Some(range("10.64.0.9", "fd00::9")),
                ..v4()
            },
            "range 10.64.0.9-fd00::9 is not a range of addresses in subnet 10.64.0.0/24",
        ),
        (
            SubnetConfig {
                range: Some(range("10.64.0.0", "10.64.0.1")),
                ..v4()
            },
            "subnet 10.64.0.0/24 has no address left to give to an endpoint \
             in the range 10.64.0.0-10.64.0.1",
        ),
        (
            SubnetConfig {
                range: Some(range(
                    "fd00::fdff:ffff:ffff:ff80",
                    "fd00::fdff:ffff:ffff:ffff",
                )),
                ..v6()
            },
            "subnet fd00::/64 has no address left to give to an endpoint \
             in the range fd00::fdff:ffff:ffff:ff80-fd00::fdff:ffff:ffff:ffff",
        ),
        (
            SubnetConfig {
                reserved: reserved(&[("10.64.0.6", "router")]),
                ..net("10.64.0.4/30").into()
            },
            "subnet 10.64.0.4/30 has no address left to give to an endpoint",
        ),
        (
            SubnetConfig {
                reserved: reserved(&[("10.65.0.6", "router")]),
                ..v4()
            },
            "reserved address 10.65.0.6 (router) is outside of subnet 10.64.0.0/24",
        ),
        (
            SubnetConfig {
                reserved: reserved(&[("fd00::1", "router")]),
                ..v6()
            },
            "address fd00::1 of subnet fd00::/64 cannot be both the gateway and router",
        ),
    ] {
        assert_eq!(refusal(config), message);
    }
}

#[test]
fn a_subnet_is_stored_as_settled_and_checked_when_read() {
    let text = r#"{"subnet":"10.64.0.0/24","range":{"first":"10.64.0.8","last":"10.64.0.9"},
        "reserved":{"10.64.0.7":"router"}}"#;
    let subnet: Subnet = serde_json::from_str(text).unwrap();
    let stored = serde_json::to_value(&subnet).unwrap();
    assert_eq!(stored["gateway"], serde_json::json!({"at": "10.64.0.1"}));
    assert_eq!(serde_json::from_value::<Subnet>(stored).unwrap(), subnet);
    for (text, message) in [
        (
            r#"{"subnet":"10.64.0.1/24"}"#,
            "the network is 10.64.0.0/24",
        ),
        (
            r#"{"subnet":"10.64.0.0/24","gateway":{"at":"10.64.0.0"}}"#,
            "is the network address",
        ),
        (
            r#"{"subnet":"10.64.0.0/24","gateway":"last"}"#,
            "unknown variant `last`",
        ),
        (
            r#"{"subnet":"10.64.0.0/24","gatewy":"first"}"#,
            "unknown field `gatewy`",
        ),
        (r#"{"gateway":"first"}"#, "missing field `subnet`"),
    ] {
        let error = serde_json::from_str::<Subnet>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}
