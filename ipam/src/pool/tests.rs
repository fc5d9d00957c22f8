//! Tables for validation, and the choice of a subnet against a search that tries them one by one.

use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn pools(list: &[(&str, u8)]) -> Pools {
    Pools::new(
        list.iter()
            .map(|(base, size)| Pool {
                base: net(base),
                size: *size,
            })
            .collect(),
    )
    .unwrap()
}

#[test]
fn pools_that_make_no_sense_are_refused_with_what_would_be_right() {
    let refuse = |list: &[(&str, u8)]| {
        Pools::new(
            list.iter()
                .map(|(base, size)| Pool {
                    base: net(base),
                    size: *size,
                })
                .collect(),
        )
        .unwrap_err()
        .to_string()
    };
    for (list, message) in [
        (
            &[("10.64.1.0/12", 24)][..],
            "pool 10.64.1.0/12 has host bits set; the network is 10.64.0.0/12",
        ),
        (
            &[("fd00::1/48", 64)],
            "pool fd00::1/48 has host bits set; the network is fd00::/48",
        ),
        (
            &[("169.254.0.0/16", 24)],
            "pool 169.254.0.0/16 contains link-local addresses (169.254.0.0/16)",
        ),
        (
            &[("fe80::/48", 64)],
            "pool fe80::/48 contains link-local addresses (fe80::/10)",
        ),
        (
            &[("0.0.0.0/0", 24)],
            "pool 0.0.0.0/0 contains \"this network\" addresses (0.0.0.0/8)",
        ),
        (
            &[("10.64.0.0/12", 8)],
            "pool 10.64.0.0/12 cannot be carved into /8: from /12 to /31 is possible",
        ),
        (
            &[("10.64.0.0/12", 32)],
            "pool 10.64.0.0/12 cannot be carved into /32: from /12 to /31 is possible",
        ),
        (
            &[("fd00::/48", 121)],
            "pool fd00::/48 cannot be carved into /121: from /48 to /120 is possible",
        ),
        (
            &[
                ("10.64.0.0/16", 24),
                ("fd00::/48", 64),
                ("10.64.128.0/17", 26),
            ],
            "pools 10.64.0.0/16 and 10.64.128.0/17 overlap",
        ),
    ] {
        assert_eq!(refuse(list), message);
    }
}

#[test]
fn the_first_subnet_that_meets_neither_network_nor_route_is_carved() {
    let pools = pools(&[
        ("10.64.0.0/30", 31),
        ("10.65.0.0/16", 24),
        ("fd12:3456:789a::/48", 64),
    ]);
    for (family, taken, avoid, expected) in [
        (Family::V4, &[][..], &[][..], "10.64.0.0/31"),
        (Family::V4, &["10.64.0.0/31"], &[], "10.64.0.2/31"),
        // A network of one address blocks the subnet around it, a larger one all inside it.
        (
            Family::V4,
            &["10.64.0.1/32"],
            &["10.64.0.3/32"],
            "10.65.0.0/24",
        ),
        (
            Family::V4,
            &["10.64.0.0/24"],
            &["10.65.0.0/18"],
            "10.65.64.0/24",
        ),
        // A gap between blocked subnets is filled.
        (
            Family::V4,
            &["10.64.0.0/30", "10.65.0.0/24", "10.65.2.0/24"],
            &[],
            "10.65.1.0/24",
        ),
        // Routes with host bits set count as their network; those of the other family not at all.
        (
            Family::V4,
            &["fd12::/16"],
            &["10.64.0.1/30", "fd12::/16"],
            "10.65.0.0/24",
        ),
        (Family::V6, &["10.0.0.0/8"], &[], "fd12:3456:789a::/64"),
        (
            Family::V6,
            &["fd12:3456:789a::/64"],
            &["fd12:3456:789a:1::1/128"],
            "fd12:3456:789a:2::/64",
        ),
    ] {
        assert_eq!(
            pools.carve(family, &nets(taken), &nets(avoid)),
            Ok(net(expected)),
            "{taken:?} {avoid:?}"
        );
    }
}

#[test]
fn default_routes_and_the_pieces_vpn_clients_make_of_one_are_no_obstacle() {
    let pools = Pools::for_containers(b"seed");
    let routes = nets(&[
        "0.0.0.0/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "8.0.0.0/7",
        "::/0",
        "8000::/1",
        "fc00::/7",
    ]);
    assert_eq!(
        pools.carve(Family::V4, &[], &routes),
        Ok(net("10.64.0.0/24"))
    );
    let v6 = pools.carve(Family::V6, &[], &routes).unwrap();
    assert!(pools.as_slice()[3].base.contains(&v6));
}

#[test]
fn a_vpn_that_routes_a_private_block_moves_networks_to_the_next_pool() {
    let pools = Pools::for_containers(b"seed");
    for (routes, expected) in [
        (&["10.0.0.0/8"][..], "172.16.128.0/24"),
        (&["10.0.0.0/8", "172.16.0.0/12"], "192.168.192.0/24"),
    ] {
        assert_eq!(
            pools.carve(Family::V4, &[], &nets(routes)),
            Ok(net(expected))
        );
    }
}

#[test]
fn exhaustion_tells_what_stands_in_the_way() {
    let pools = pools(&[("10.64.0.0/22", 24), ("10.80.0.0/23", 24)]);
    let taken = nets(&[
        "10.64.0.0/24",
        "10.64.0.128/25",
        "10.80.1.0/30",
        "fd00::/64",
    ]);
    let error = pools.carve(Family::V4, &taken, &nets(&["10.64.0.0/16", "10.80.0.9/20"]));
    assert_eq!(
        error,
        Err(PoolError::Exhausted {
            family: Family::V4,
            total: 6,
            by_networks: 2,
            by_routes: 4,
            widest_route: Some(net("10.64.0.0/16")),
        })
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "all 6 IPv4 subnets of the pools are taken: 2 by networks, 4 by routes of the host \
         (the widest is 10.64.0.0/16)"
    );
    let full = pools
        .carve(Family::V4, &nets(&["10.0.0.0/8"]), &[])
        .unwrap_err();
    assert_eq!(
        full.to_string(),
        "all 6 IPv4 subnets of the pools are taken: 6 by networks, 0 by routes of the host"
    );
    assert_eq!(
        pools.carve(Family::V6, &[], &[]).unwrap_err().to_string(),
        "no IPv6 pool is configured to take a subnet from"
    );
}

#[test]
fn default_pools_are_valid_and_their_first_ones_clear_of_what_other_engines_pick() {
    let pools = Pools::for_containers(b"seed");
    assert_eq!(Pools::new(pools.as_slice().to_vec()), Ok(pools.clone()));
    // Docker: 172.17/16 to 172.31/16 and 192.168/16; Podman: 10.88/16 and everything above;
    // Kubernetes distributions: 10.42, 10.43, 10.96, 10.244; libslirp and QEMU: 10.0.2/24.
    let others = [
        "172.17.0.0/16",
        "172.18.0.0/15",
        "172.20.0.0/14",
        "172.24.0.0/13",
        "192.168.0.0/16",
        "10.88.0.0/13",
        "10.96.0.0/11",
        "10.128.0.0/9",
        "10.42.0.0/15",
        "10.0.0.0/14",
    ];
    for pool in &pools.as_slice()[..2] {
        for other in &others {
            assert!(!overlap(&pool.base, &net(other)), "{} {other}", pool.base);
        }
    }
    assert_eq!(pools.as_slice()[0].subnets(), 4096);
}

#[test]
fn the_unique_local_prefix_follows_from_the_seed_alone() {
    let pool = Pool::unique_local(b"a seed");
    assert_eq!(pool, Pool::unique_local(b"a seed"));
    assert_ne!(pool, Pool::unique_local(b"another seed"));
    // Computed with: printf 'heddle unique local prefix\0a seed' | sha256sum
    assert_eq!(pool.base, net("fd06:8d53:942b::/48"));
    assert_eq!((pool.size, pool.subnets()), (64, 65_536));
    assert!(net("fd00::/8").contains(&pool.base));
}

#[test]
fn pools_read_back_are_checked_again() {
    let pools = Pools::for_containers(b"seed");
    let text = serde_json::to_string(&pools).unwrap();
    assert_eq!(serde_json::from_str::<Pools>(&text).unwrap(), pools);
    for (text, message) in [
        (
            r#"[{"base":"10.64.0.0/12","size":33}]"#,
            "cannot be carved into /33",
        ),
        (
            r#"[{"base":"10.64.0.0/12","size":24,"extra":1}]"#,
            "unknown field `extra`",
        ),
        (r#"[{"base":"10.64.0.0/40","size":24}]"#, "invalid"),
    ] {
        let error = serde_json::from_str::<Pools>(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// Networks in and around 10.64.0.0/24 and fd00::/120, so that most of them matter.
fn nearby(family: Family) -> impl Strategy<Value = Vec<IpNet>> {
    let one = (
        any::<u8>(),
        20u8..=32,
        prop_oneof![1 => Just(true), 9 => Just(false)],
    )
        .prop_map(move |(low, prefix, default)| match family {
            Family::V4 if default => net("0.0.0.0/0"),
            Family::V6 if default => net("::/0"),
            Family::V4 => IpNet::new([10, 64, 0, low].into(), prefix).unwrap(),
            Family::V6 => {
                let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(low));
                IpNet::new(address.into(), prefix + 96).unwrap()
            }
        });
    proptest::collection::vec(one, 0..12)
}

fn check_against_search(family: Family, pools: &Pools, taken: &[IpNet], avoid: &[IpNet]) {
    let mut free = Vec::new();
    let mut total = 0;
    for pool in pools.as_slice() {
        for subnet in pool.base.subnets(pool.size).unwrap() {
            total += 1;
            let blocked = |net: &IpNet| net.contains(&subnet) || subnet.contains(net);
            let routed = avoid
                .iter()
                .any(|route| route.prefix_len() > 0 && blocked(route));
            if !routed && !taken.iter().any(blocked) {
                free.push(subnet);
            }
        }
    }
    match pools.carve(family, taken, avoid) {
        Ok(subnet) => assert_eq!(Some(&subnet), free.first()),
        Err(PoolError::Exhausted {
            total: counted,
            by_networks,
            by_routes,
            ..
        }) => {
            assert!(free.is_empty());
            assert_eq!((counted, by_networks + by_routes), (total, total));
        }
        Err(other) => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn carving_finds_what_a_search_finds_in_ipv4(
        taken in nearby(Family::V4), avoid in nearby(Family::V4),
    ) {
        let pools = pools(&[("10.64.0.64/26", 29), ("10.64.0.0/26", 30)]);
        check_against_search(Family::V4, &pools, &taken, &avoid);
    }

    #[test]
    fn carving_finds_what_a_search_finds_in_ipv6(
        taken in nearby(Family::V6), avoid in nearby(Family::V6),
    ) {
        let pools = pools(&[("fd00::/112", 117), ("fd00:0:0:1::/112", 118)]);
        check_against_search(Family::V6, &pools, &taken, &avoid);
    }

    #[test]
    fn every_seed_gives_a_valid_pool(seed: Vec<u8>) {
        let pool = Pool::unique_local(&seed);
        prop_assert_eq!(Pools::new(vec![pool]).map(|p| p.as_slice().to_vec()), Ok(vec![pool]));
    }
}
