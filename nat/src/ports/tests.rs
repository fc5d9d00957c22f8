use std::collections::BTreeSet;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_wire::Protocol;

use super::{Exhausted, FIRST_USER_PORT, PortPool, REST, Wish};

const START: Instant = Instant::from_micros(1_000_000_000);

fn wish(preferred: u16, owner: u32, random: u64) -> Wish {
    Wish {
        preferred,
        owner,
        random,
        is_modest: true,
    }
}

fn nothing_reserved(_: u16) -> Option<u16> {
    None
}

/// Takes every system port.
fn fill(pool: &mut PortPool) -> BTreeSet<u16> {
    (1..FIRST_USER_PORT)
        .map(|port| {
            let random = u64::from(port) << 48;
            pool.allocate(&wish(7, 1, random), nothing_reserved, START)
                .unwrap()
        })
        .collect()
}

#[test]
fn a_pool_gives_every_port_of_a_class_once() {
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let mut pool = PortPool::new(protocol);
        let all = fill(&mut pool);
        assert_eq!(all, (1..FIRST_USER_PORT).collect());
        assert_eq!(pool.used(), 1_023);
        let one_more = pool.allocate(&wish(7, 1, 5), nothing_reserved, START);
        assert_eq!(one_more, Err(Exhausted));
        // RFC 4787 §4.2.1 REQ-3a: user ports are another class.
        let user = pool.allocate(&wish(7_000, 1, 5), nothing_reserved, START);
        assert_eq!(user, Ok(7_000));
    }
}

#[test]
fn identifiers_of_queries_have_one_class_and_zero_is_one_of_them() {
    for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
        let mut pool = PortPool::new(protocol);
        let zero = pool.allocate(&wish(0, 1, 5), nothing_reserved, START);
        assert_eq!(zero, Ok(0));
        let others: BTreeSet<u16> = (1..=u16::MAX)
            .map(|id| {
                let wish = wish(id, 1, 5);
                pool.allocate(&wish, nothing_reserved, START).unwrap()
            })
            .collect();
        assert_eq!(others.len(), 65_535);
        let one_more = pool.allocate(&wish(0, 1, 5), nothing_reserved, START);
        assert_eq!(one_more, Err(Exhausted));
    }
}

#[test]
fn a_preferred_port_that_is_taken_is_replaced_by_one_that_random_chooses() {
    let mut pool = PortPool::new(Protocol::UDP);
    let mut give = |random| {
        pool.allocate(&wish(5_000, 1, random), nothing_reserved, START)
            .unwrap()
    };
    assert_eq!(give(1), 5_000);
    let given: Vec<u16> = (0..100).map(|turn| give(turn << 40)).collect();
    assert!(given.iter().all(|&port| port >= FIRST_USER_PORT));
    let in_order = given.windows(2).filter(|pair| pair[1] == pair[0] + 1);
    assert!(in_order.count() < 5, "{given:?}");
}

#[test]
fn a_reserved_port_is_never_given() {
    // All of the class but one.
    let reserved = |port: u16| match port {
        1..=499 => Some(499),
        501..=1_023 => Some(1_023),
        _ => None,
    };
    for protocol in [Protocol::TCP, Protocol::UDP] {
        for preferred in [1, 499, 500, 501, 1_023] {
            let mut pool = PortPool::new(protocol);
            let wish = wish(preferred, 1, 99);
            assert_eq!(pool.allocate(&wish, reserved, START), Ok(500));
            assert_eq!(pool.allocate(&wish, reserved, START), Err(Exhausted));
        }
    }
}

#[test]
fn a_port_rests_for_everybody_but_its_last_owner() {
    for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMPV6] {
        let mut pool = PortPool::new(protocol);
        let mut ask = |owner, time| {
            let given = pool.allocate(&wish(5_000, owner, 3), nothing_reserved, START + time);
            let port = given.unwrap();
            pool.release(port, owner, START + time);
            port
        };
        assert_eq!(ask(1, Duration::ZERO), 5_000);
        assert_ne!(ask(2, REST.saturating_sub(Duration::from_secs(1))), 5_000);
        assert_eq!(ask(1, REST.saturating_sub(Duration::from_secs(1))), 5_000);
        assert_eq!(ask(2, 2 * REST), 5_000);
        assert_eq!(pool.used(), 0);
    }
}

#[test]
fn only_tcp_cuts_a_rest_and_the_longest_one_first() {
    // RFC 6888 §3 REQ-8, exception A.
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let mut pool = PortPool::new(protocol);
        fill(&mut pool);
        for (order, port) in [300, 100, 200].into_iter().enumerate() {
            let time = Duration::from_secs(u64::try_from(order).unwrap());
            pool.release(port, 1, START + time);
        }
        let soon = START + Duration::from_secs(10);
        let mut ask = |now| pool.allocate(&wish(7, 2, 3), nothing_reserved, now);
        if protocol == Protocol::TCP {
            assert_eq!(
                [ask(soon), ask(soon), ask(soon)],
                [Ok(300), Ok(100), Ok(200)]
            );
        } else {
            assert_eq!(ask(soon), Err(Exhausted));
            assert_eq!(ask(START + REST), Ok(300));
        }
        assert_eq!(ask(soon), Err(Exhausted));
    }
}

#[test]
fn a_port_that_nothing_left_from_does_not_rest() {
    let mut pool = PortPool::new(Protocol::UDP);
    let mut ask = |owner| pool.allocate(&wish(5_000, owner, 3), nothing_reserved, START);
    assert_eq!(ask(1), Ok(5_000));
    pool.put_back(5_000);
    assert_eq!(pool.used(), 0);
    assert_eq!(pool.take_over(5_000), Err(Exhausted), "it does not rest");
    let mut ask = |owner| pool.allocate(&wish(5_000, owner, 3), nothing_reserved, START);
    assert_eq!(ask(2), Ok(5_000));
    pool.release(5_000, 2, START);
    assert_eq!(pool.take_over(5_000), Ok(5_000));
    assert_eq!(pool.used(), 1);
}

#[test]
fn the_last_ports_are_for_those_who_have_few() {
    let mut pool = PortPool::new(Protocol::UDP);
    let much = |random| Wish {
        is_modest: false,
        ..wish(5_000, 1, random)
    };
    let mut given = 0_u64;
    while pool
        .allocate(&much(given << 40), nothing_reserved, START)
        .is_ok()
    {
        given += 1;
    }
    let user_ports = u64::from(u16::MAX - FIRST_USER_PORT) + 1;
    assert_eq!(given, user_ports - user_ports / 8);
    let other = wish(5_000, 2, 7);
    let port = pool.allocate(&other, nothing_reserved, START).unwrap();
    // What rests has been used up as well, but whoever had a port may have it back.
    pool.release(5_000, 1, START);
    let again = pool.allocate(&much(1), nothing_reserved, START);
    assert_eq!(again, Ok(5_000));
    pool.release(port, 2, START);
    let one_more = pool.allocate(&much(2), nothing_reserved, START);
    assert_eq!(one_more, Err(Exhausted));
}
