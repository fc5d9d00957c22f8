//! What a network answers, case by case; `model` does the same with sequences of requests.

use crate::block::REMEMBERED_RESTS;
use crate::subnet::{GatewayChoice, SubnetConfig};

use super::*;

pub(crate) mod model;

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

/// So many seconds after some moment.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

pub(crate) fn network(configs: Vec<SubnetConfig>) -> Leases {
    let identity = NetworkIdentity {
        name: "lab".into(),
        id: "n1".into(),
        key: [7; 16],
    };
    Leases::new(
        identity,
        Subnets::try_from(configs).unwrap(),
        DEFAULT_QUARANTINE,
    )
}

pub(crate) fn subnets(texts: &[&str]) -> Leases {
    network(texts.iter().map(|text| net(text).into()).collect())
}

fn named(texts: &[&str]) -> Request {
    Request {
        addresses: texts.iter().map(|text| address(text)).collect(),
        ..Request::default()
    }
}

fn with_mac(text: &str) -> Request {
    Request {
        mac: Some(mac(text)),
        ..Request::default()
    }
}

/// The addresses of a lease as text.
fn texts(lease: &Lease) -> Vec<String> {
    lease.addresses.iter().map(IpNet::to_string).collect()
}

/// The outcome of a request at time 0 as text: the addresses, or the refusal.
fn answer(leases: &mut Leases, holder: &str, request: &Request) -> String {
    let before = leases.clone();
    match leases.allocate(holder, request, at(0)) {
        Ok(lease) => texts(&lease).join(" "),
        Err(error) => {
            assert_eq!(
                *leases, before,
                "a refused request changed something: {error}"
            );
            error.to_string()
        }
    }
}

/// The only address that `holder` gets now, unasked.
fn next(leases: &mut Leases, holder: &str, now: SystemTime) -> Result<String, LeaseError> {
    leases
        .allocate(holder, &Request::default(), now)
        .map(|lease| {
            assert_eq!(lease.addresses.len(), 1);
            lease.addresses[0].addr().to_string()
        })
}

#[test]
fn an_endpoint_gets_one_address_of_every_family_in_sequence() {
    let mut leases = subnets(&["10.64.0.0/24", "fd00::/64"]);
    for (holder, expected, mac) in [
        ("a", "10.64.0.2/24 fd00::2/64", "72:68:0a:40:00:02"),
        ("b", "10.64.0.3/24 fd00::3/64", "72:68:0a:40:00:03"),
        ("c", "10.64.0.4/24 fd00::4/64", "72:68:0a:40:00:04"),
    ] {
        let proposed = leases.propose(holder, &Request::default(), at(0)).unwrap();
        assert_eq!(answer(&mut leases, holder, &Request::default()), expected);
        assert_eq!(leases.lease(holder), Some(&proposed));
        assert_eq!(proposed.mac.to_string(), mac);
        for host in proposed.hosts() {
            assert_eq!(leases.holder_of(host), Some(&proposed));
        }
        assert_eq!(leases.holder_of_mac(proposed.mac), Some(&proposed));
    }
    let holders: Vec<&str> = leases.iter().map(|lease| lease.holder.as_str()).collect();
    assert_eq!(holders, ["a", "b", "c"]);
    assert_eq!(leases.holder_of(address("10.64.0.5")), None);
    assert_eq!(leases.holder_of(address("10.64.0.1")), None);
}

#[test]
fn what_is_asked_for_is_given_and_the_rest_is_chosen() {
    let configs = ["10.64.0.0/24", "10.65.0.0/24", "fd00::/64", "fd01::/64"];
    let request = Request::default;
    for (request, expected) in [
        (named(&["10.64.0.77"]), "10.64.0.77/24 fd00::2/64"),
        (named(&["fd01::77"]), "fd01::77/64 10.64.0.2/24"),
        (
            named(&["fd01::77", "10.65.0.9"]),
            "fd01::77/64 10.65.0.9/24",
        ),
        (
            named(&["10.65.0.9", "10.64.0.9", "10.65.0.8"]),
            "10.65.0.9/24 10.64.0.9/24 10.65.0.8/24 fd00::2/64",
        ),
        (
            Request {
                families: Some(Families::V6),
                ..request()
            },
            "fd00::2/64",
        ),
        (
            Request {
                families: Some(Families::V4),
                ..request()
            },
            "10.64.0.2/24",
        ),
        (
            Request {
                families: Some(Families::V4),
                ..named(&["fd00::9"])
            },
            "fd00::9/64 10.64.0.2/24",
        ),
        (
            Request {
                families: Some(Families::NONE),
                ..named(&["fd00::9"])
            },
            "fd00::9/64",
        ),
        (
            Request {
                subnets: vec![net("10.65.0.0/24")],
                ..request()
            },
            "10.65.0.2/24 fd00::2/64",
        ),
        (
            // One for each time a subnet is listed, and none of those asked for by name again.
            Request {
                subnets: vec![net("fd01::/64"), net("fd01::/64"), net("10.64.0.0/24")],
                ..named(&["fd01::2"])
            },
            "fd01::2/64 fd01::3/64 fd01::4/64 10.64.0.2/24",
        ),
        // Reserved for anycast, and given to those who insist.
        (
            named(&["fd00::fdff:ffff:ffff:ffff"]),
            "fd00::fdff:ffff:ffff:ffff/64 10.64.0.2/24",
        ),
    ] {
        assert_eq!(
            answer(&mut subnets(&configs), "a", &request),
            expected,
            "{request:?}"
        );
    }
}

/// A network in which `web` holds the fifth addresses.
fn held_by_web() -> Leases {
    let mut config = SubnetConfig::from(net("10.64.0.0/24"));
    config
        .reserved
        .insert(address("10.64.0.9"), "router of the lab".into());
    let mut leases = network(vec![config, net("fd00::/64").into()]);
    answer(&mut leases, "web", &named(&["10.64.0.5", "fd00::5"]));
    leases
}

#[test]
fn addresses_that_cannot_be_had_are_refused_with_holder_or_role_and_one_that_can() {
    let mut leases = held_by_web();
    let [v4, v6] = [
        "of 10.64.0.0/24 in network lab",
        "of fd00::/64 in network lab",
    ];
    for (wanted, message) in [
        (
            &["10.64.0.5"][..],
            "10.64.0.5 is held by web in network lab; 10.64.0.2 is free".into(),
        ),
        (
            &["fd00::5"],
            "fd00::5 is held by web in network lab; fd00::2 is free".into(),
        ),
        (
            &["10.64.0.1"],
            format!("10.64.0.1 is the gateway {v4}; 10.64.0.2 is free"),
        ),
        (
            &["fd00::1"],
            format!("fd00::1 is the gateway {v6}; fd00::2 is free"),
        ),
        (
            &["10.64.0.0"],
            format!("10.64.0.0 is the network address {v4}; 10.64.0.2 is free"),
        ),
        (
            &["10.64.0.255"],
            format!("10.64.0.255 is the broadcast address {v4}; 10.64.0.2 is free"),
        ),
        (
            &["fd00::"],
            format!("fd00:: is the subnet-router anycast address {v6}; fd00::2 is free"),
        ),
        (
            &["10.64.0.2", "10.64.0.9"],
            format!("10.64.0.9 is reserved (router of the lab) {v4}; 10.64.0.3 is free"),
        ),
        (
            &["10.64.1.5"],
            "10.64.1.5 is in no subnet of network lab; it has 10.64.0.0/24, fd00::/64".into(),
        ),
        (
            &["::ffff:10.64.0.7"],
            "::ffff:10.64.0.7 is in no subnet of network lab; it has 10.64.0.0/24, fd00::/64"
                .into(),
        ),
        (
            &["fd00::7", "fd00::7"],
            "fd00::7 is asked for twice in one request".into(),
        ),
        // The first address could be had, so the refusal must leave no trace of it.
        (
            &["10.64.0.6", "fd00::5"],
            "fd00::5 is held by web in network lab; fd00::2 is free".into(),
        ),
    ] {
        assert_eq!(answer(&mut leases, "db", &named(wanted)), message);
    }
}

#[test]
fn requests_that_fit_neither_network_nor_holder_are_refused() {
    let mut leases = held_by_web();
    for (holder, request, message) in [
        (
            "db",
            Request {
                subnets: vec![net("10.65.0.0/24")],
                ..Request::default()
            },
            "network lab has no subnet 10.65.0.0/24; it has 10.64.0.0/24, fd00::/64",
        ),
        (
            "db",
            Request {
                families: Some(Families::NONE),
                ..Request::default()
            },
            "the request of db names no address and no family to have one from",
        ),
        (
            "web",
            Request::default(),
            "web holds 10.64.0.5/24, fd00::5/64 in network lab already",
        ),
        (
            "",
            Request::default(),
            "an endpoint of network lab needs a name to hold addresses under",
        ),
    ] {
        assert_eq!(answer(&mut leases, holder, &request), message);
    }
    for (subnet, families, message) in [
        (
            "10.64.0.0/24",
            Families::V6,
            "network lab has no IPv6 subnet; it has 10.64.0.0/24",
        ),
        (
            "fd00::/64",
            Families::BOTH,
            "network lab has no IPv4 subnet; it has fd00::/64",
        ),
    ] {
        let request = Request {
            families: Some(families),
            ..Request::default()
        };
        assert_eq!(answer(&mut subnets(&[subnet]), "a", &request), message);
    }
    let missing = leases.release("db", at(0)).unwrap_err();
    assert_eq!(missing.to_string(), "db holds no address in network lab");
}

#[test]
fn exhaustion_is_told_in_numbers() {
    let mut leases = subnets(&["10.64.0.0/30", "10.65.0.0/29", "fd00::/64"]);
    for holder in ["a", "b", "c", "d", "e", "f"] {
        leases.allocate(holder, &Request::default(), at(0)).unwrap();
    }
    leases.release("a", at(3)).unwrap();
    leases.release("c", at(4)).unwrap();
    leases.release("d", at(4)).unwrap();
    let half_past = at(5) + Duration::from_millis(500);
    let error = leases
        .allocate("g", &Request::default(), half_past)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "network lab has no IPv4 address to give (\
         10.64.0.0/30: 0 of 1 held, 0 free, 1 resting after release (the first for 8 s); \
         10.65.0.0/29: 3 of 5 held, 0 free, 2 resting after release (the first for 9 s))"
    );
    let usage = leases.usage(half_past);
    let counts: Vec<(u128, u128, u128, u128)> = usage
        .iter()
        .map(|usage| (usage.total, usage.held, usage.resting, usage.free))
        .collect();
    let v6 = (1 << 64) - 2 - 128;
    assert_eq!(counts, [(1, 0, 1, 0), (5, 3, 2, 0), (v6, 3, 3, v6 - 6)]);
}

#[test]
fn released_addresses_come_back_last_in_the_order_of_release_and_after_their_quarantine() {
    for subnet in ["10.64.0.0/29", "fd00::/112"] {
        let mut config = SubnetConfig::from(net(subnet));
        let host = |last: u8| match net(subnet) {
            IpNet::V4(_) => format!("10.64.0.{last}"),
            IpNet::V6(_) => format!("fd00::{last}"),
        };
        let range = crate::AddressRange {
            first: address(&host(2)),
            last: address(&host(6)),
        };
        config.range = Some(range);
        let mut leases = network(vec![config]);
        for (holder, last) in [("a", 2), ("b", 3), ("c", 4)] {
            assert_eq!(next(&mut leases, holder, at(0)).unwrap(), host(last));
        }
        leases.release("b", at(1)).unwrap();
        leases.release("a", at(2)).unwrap();
        // Never used goes before used.
        assert_eq!(next(&mut leases, "d", at(100)).unwrap(), host(5));
        assert_eq!(next(&mut leases, "e", at(100)).unwrap(), host(6));
        // First released, first back.
        assert_eq!(next(&mut leases, "f", at(100)).unwrap(), host(3));
        leases.release("c", at(101)).unwrap();
        assert_eq!(next(&mut leases, "g", at(101)).unwrap(), host(2));
        // What is left is in quarantine until ten seconds after its release...
        assert!(matches!(
            next(&mut leases, "h", at(110)),
            Err(LeaseError::Exhausted { .. })
        ));
        assert_eq!(next(&mut leases, "h", at(111)).unwrap(), host(4));
        // ...but not for the endpoint that released it.
        leases.release("h", at(200)).unwrap();
        assert!(matches!(
            next(&mut leases, "i", at(200)),
            Err(LeaseError::Exhausted { .. })
        ));
        assert_eq!(next(&mut leases, "h", at(200)).unwrap(), host(4));
    }
}

#[test]
fn of_several_subnets_the_longest_resting_address_comes_back_first() {
    let mut leases = subnets(&["10.64.0.0/30", "10.65.0.0/30", "10.66.0.0/30"]);
    for (holder, expected) in [("a", "10.64.0.2"), ("b", "10.65.0.2"), ("c", "10.66.0.2")] {
        assert_eq!(next(&mut leases, holder, at(0)).unwrap(), expected);
    }
    for (holder, now) in [("b", 1), ("c", 2), ("a", 3)] {
        leases.release(holder, at(now)).unwrap();
    }
    for (holder, expected) in [("d", "10.65.0.2"), ("e", "10.66.0.2"), ("f", "10.64.0.2")] {
        assert_eq!(next(&mut leases, holder, at(50)).unwrap(), expected);
    }
}

#[test]
fn a_resting_address_asked_for_by_name_is_given_at_once() {
    for text in ["10.64.0.7", "fd00::7"] {
        let mut leases = subnets(&["10.64.0.0/24", "fd00::/64"]);
        leases.allocate("old", &named(&[text]), at(0)).unwrap();
        leases.release("old", at(1)).unwrap();
        let lease = leases.allocate("new", &named(&[text]), at(1)).unwrap();
        assert_eq!(lease.addresses[0].addr(), address(text));
        assert!(leases.resting().all(|rest| rest.address != address(text)));
    }
}

#[test]
fn the_choice_goes_on_behind_the_last_one_and_passes_over_what_is_taken() {
    let mut leases = subnets(&["10.64.0.0/28"]);
    for text in ["10.64.0.3", "10.64.0.4"] {
        leases.allocate(text, &named(&[text]), at(0)).unwrap();
    }
    assert_eq!(next(&mut leases, "a", at(0)).unwrap(), "10.64.0.2");
    assert_eq!(next(&mut leases, "b", at(0)).unwrap(), "10.64.0.5");
    // An address asked for by name does not move the choice.
    leases
        .allocate("10.64.0.9", &named(&["10.64.0.9"]), at(0))
        .unwrap();
    assert_eq!(next(&mut leases, "c", at(0)).unwrap(), "10.64.0.6");
}

#[test]
fn subnets_of_one_or_two_hosts_work() {
    let mut leases = subnets(&["10.64.0.4/31"]);
    assert_eq!(
        answer(&mut leases, "a", &Request::default()),
        "10.64.0.5/31"
    );
    let full = answer(&mut leases, "b", &Request::default());
    assert_eq!(
        full,
        "network lab has no IPv4 address to give (10.64.0.4/31: 1 of 1 held, 0 free)"
    );
    let bare = |text| SubnetConfig {
        gateway: GatewayChoice::None,
        ..net(text).into()
    };
    let mut leases = network(vec![bare("10.64.0.9/32"), bare("10.64.0.4/31")]);
    for expected in ["10.64.0.9/32", "10.64.0.4/31", "10.64.0.5/31"] {
        assert_eq!(answer(&mut leases, expected, &Request::default()), expected);
    }
}

#[test]
fn mac_addresses_asked_for_are_checked() {
    let mut leases = subnets(&["10.64.0.0/24"]);
    let gateway = leases.gateway_mac();
    let lease = leases
        .allocate("web", &with_mac("52:54:00:00:00:01"), at(0))
        .unwrap();
    assert_eq!(lease.mac, mac("52:54:00:00:00:01"));
    for (text, message) in [
        (
            "52:54:00:00:00:01",
            "52:54:00:00:00:01 is held by web in network lab",
        ),
        (
            "00:00:00:00:00:00",
            "00:00:00:00:00:00 is no MAC address of an endpoint; it is all zero",
        ),
        (
            "01:00:5e:00:00:01",
            "01:00:5e:00:00:01 is a multicast or broadcast address; \
             the first octet of an endpoint's is even",
        ),
        (
            &gateway.to_string(),
            &format!("{gateway} is the gateway's address in network lab"),
        ),
    ] {
        assert_eq!(answer(&mut leases, "db", &with_mac(text)), message);
    }
    leases.release("web", at(1)).unwrap();
    assert_eq!(leases.holder_of_mac(mac("52:54:00:00:00:01")), None);
    leases
        .allocate("db", &with_mac("52:54:00:00:00:01"), at(1))
        .unwrap();
}

#[test]
fn mac_addresses_that_follow_from_addresses_give_way_to_those_asked_for() {
    for (subnet, families) in [("10.64.0.0/24", Families::V4), ("fd00::/64", Families::V6)] {
        let free = subnets(&[subnet])
            .propose("a", &Request::default(), at(0))
            .unwrap();
        let outcome = || {
            let mut leases = subnets(&[subnet]);
            let squat = |mac: MacAddr, last: u8| Request {
                addresses: vec![match families {
                    Families::V4 => address(&format!("10.64.0.{last}")),
                    _ => address(&format!("fd00::{last}")),
                }],
                mac: Some(mac),
                ..Request::default()
            };
            leases
                .allocate("squatter", &squat(free.mac, 100), at(0))
                .unwrap();
            let second = leases.propose("a", &Request::default(), at(0)).unwrap();
            leases
                .allocate("another", &squat(second.mac, 101), at(0))
                .unwrap();
            let third = leases.allocate("a", &Request::default(), at(0)).unwrap();
            assert_eq!(third.addresses, free.addresses);
            [free.mac, second.mac, third.mac]
        };
        let [first, second, third] = outcome();
        assert!(first != second && second != third && first != third);
        assert_eq!(outcome(), [first, second, third]);
    }
}

#[test]
fn a_huge_subnet_forgets_old_releases_without_reusing_their_addresses() {
    let mut leases = subnets(&["fd00::/64"]);
    let mut last = leases.subnets().next().and_then(Subnet::gateway).unwrap();
    for round in 0..2500 {
        let lease = leases
            .allocate("short", &Request::default(), at(round))
            .unwrap();
        assert!(lease.addresses[0].addr() > last);
        last = lease.addresses[0].addr();
        leases.release("short", at(round)).unwrap();
        assert!(leases.resting().count() <= REMEMBERED_RESTS);
    }
    assert_eq!(leases.resting().count(), REMEMBERED_RESTS);
    // Those in quarantine are kept whatever their number.
    let mut leases = subnets(&["fd00::/64"]);
    for _ in 0..2500 {
        leases
            .allocate("short", &Request::default(), at(0))
            .unwrap();
        leases.release("short", at(0)).unwrap();
    }
    assert_eq!(leases.resting().count(), 2500);
}

#[test]
fn forgotten_addresses_are_found_again_after_the_end_of_the_subnet() {
    let mut leases = subnets(&["10.64.0.0/20"]);
    let total = leases.usage(at(0))[0].total;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..4093 {
        seen.insert(next(&mut leases, "short", at(round)).unwrap());
        leases.release("short", at(round)).unwrap();
    }
    assert_eq!(seen.len() as u128, total);
    assert_eq!(next(&mut leases, "short", at(5000)).unwrap(), "10.64.0.2");
    assert_eq!(next(&mut leases, "other", at(5000)).unwrap(), "10.64.0.3");
}
