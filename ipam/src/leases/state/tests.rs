//! Stored leases: what is written comes back, and what contradicts itself does not.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde_json::{Value, json};

use crate::leases::tests::model::{check_invariants, run, sequence};
use crate::leases::tests::{address, at, net, subnets};
use crate::{GatewayChoice, Request};

use super::*;

fn occupied() -> Leases {
    let mut leases = subnets(&["10.64.0.0/24", "fd00::/64"]);
    for holder in ["a", "b", "c"] {
        leases.allocate(holder, &Request::default(), at(0)).unwrap();
    }
    leases.release("b", at(1)).unwrap();
    leases
}

fn refusal(change: impl FnOnce(&mut LeasesState)) -> String {
    let mut state = occupied().state();
    change(&mut state);
    Leases::try_from(state).unwrap_err().to_string()
}

#[test]
fn leases_are_stored_as_plain_data() {
    let mut leases = subnets(&["10.64.0.0/24"]);
    leases.allocate("web", &Request::default(), at(0)).unwrap();
    leases.allocate("db", &Request::default(), at(0)).unwrap();
    leases.release("db", at(5)).unwrap();
    let stored = serde_json::to_value(&leases).unwrap();
    assert_eq!(
        stored,
        json!({
            "network": {"name": "lab", "id": "n1", "key": [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]},
            "subnets": [{
                "subnet": "10.64.0.0/24", "gateway": {"at": "10.64.0.1"}, "range": null, "reserved": {},
            }],
            "quarantine": {"secs": 10, "nanos": 0},
            "leases": [{"holder": "web", "addresses": ["10.64.0.2/24"], "mac": "72:68:0a:40:00:02"}],
            "resting": [{
                "address": "10.64.0.3", "holder": "db",
                "released": {"secs_since_epoch": 1_000_005, "nanos_since_epoch": 0},
            }],
            "last_given": ["10.64.0.3"],
        })
    );
    assert_eq!(serde_json::from_value::<Leases>(stored).unwrap(), leases);
}

#[test]
fn the_sequence_of_addresses_goes_on_after_a_restart() {
    let text = serde_json::to_string(&occupied()).unwrap();
    let mut leases: Leases = serde_json::from_str(&text).unwrap();
    let lease = leases.allocate("d", &Request::default(), at(2)).unwrap();
    assert_eq!(lease.addresses, [net("10.64.0.5/24"), net("fd00::5/64")]);
}

#[test]
fn contradictions_are_refused_and_named() {
    let refusals = [
        (
            refusal(|state| state.leases[1].addresses[0] = net("10.64.0.2/24")),
            "stored lease of c: 10.64.0.2 is held by a in network lab; 10.64.0.3 is free",
        ),
        (
            refusal(|state| state.leases[1].addresses[1] = net("fd00::1/64")),
            "stored lease of c: fd00::1 is the gateway of fd00::/64 in network lab; fd00::3 is free",
        ),
        (
            refusal(|state| state.leases[1].addresses.push(net("fd00::4/64"))),
            "stored lease of c: fd00::4 is asked for twice in one request",
        ),
        (
            refusal(|state| state.leases[0].addresses[0] = net("10.65.0.2/24")),
            "stored lease of a: 10.65.0.2 is in no subnet of network lab; \
             it has 10.64.0.0/24, fd00::/64",
        ),
        (
            refusal(|state| state.leases[0].addresses[0] = net("10.64.0.2/16")),
            "stored lease of a in network lab has 10.64.0.2/16 from subnet 10.64.0.0/24",
        ),
        (
            refusal(|state| state.leases[0].addresses.clear()),
            "stored lease of a in network lab has no address",
        ),
        (
            refusal(|state| state.leases[1].holder = "a".into()),
            "stored lease of a: a holds 10.64.0.2/24, fd00::2/64 in network lab already",
        ),
        (
            refusal(|state| state.leases[1].mac = state.leases[0].mac),
            "stored lease of c: 72:68:0a:40:00:02 is held by a in network lab",
        ),
        (
            refusal(|state| state.leases[0].mac.0[0] |= 1),
            "stored lease of a: 73:68:0a:40:00:02 is a multicast or broadcast address; \
             the first octet of an endpoint's is even",
        ),
        (
            refusal(|state| state.subnets[1] = net("10.64.0.128/25").into()),
            "stored subnets of network lab: \
             subnets 10.64.0.0/24 and 10.64.0.128/25 of the same network overlap",
        ),
        (
            refusal(|state| state.subnets[0].gateway = GatewayChoice::At(address("10.64.0.2"))),
            "stored lease of a: 10.64.0.2 is the gateway of 10.64.0.0/24 in network lab; \
             10.64.0.1 is free",
        ),
        (
            refusal(|state| state.resting[0].address = address("10.64.0.2")),
            "stored address 10.64.0.2 of network lab cannot rest: \
             it is held, resting already, or never chosen automatically",
        ),
        (
            refusal(|state| state.resting.push(state.resting[1].clone())),
            "stored address fd00::3 of network lab cannot rest: \
             it is held, resting already, or never chosen automatically",
        ),
        (
            refusal(|state| state.resting[1].address = address("fe80::3")),
            "stored address fe80::3 of network lab cannot rest: \
             it is held, resting already, or never chosen automatically",
        ),
        (
            refusal(|state| state.last_given[0] = address("fd00::9")),
            "stored address fd00::4 of network lab cannot be the last choice: \
             another one is, or it is never chosen automatically",
        ),
        (
            refusal(|state| state.last_given[0] = address("10.64.0.255")),
            "stored address 10.64.0.255 of network lab cannot be the last choice: \
             another one is, or it is never chosen automatically",
        ),
    ];
    for (refusal, expected) in refusals {
        assert_eq!(refusal, expected);
    }
}

/// Damage to one value of a stored document.
#[derive(Clone, Debug)]
enum Damage {
    Remove,
    Double,
    Replace(Value),
    /// By the value at another place.
    CopyFrom(usize),
}

fn damage() -> impl Strategy<Value = (usize, Damage)> {
    let strange = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[0-9a-f:./]{0,12}".prop_map(Value::from),
        Just(json!("10.64.0.3")),
        Just(json!("fd00::/64")),
        Just(json!("10.64.0.0/0")),
        Just(json!("fd00::11/64")),
        Just(json!("none")),
        Just(json!([])),
        Just(json!({})),
    ];
    let damage = prop_oneof![
        1 => Just(Damage::Remove),
        1 => Just(Damage::Double),
        2 => strange.prop_map(Damage::Replace),
        3 => any::<usize>().prop_map(Damage::CopyFrom),
    ];
    (any::<usize>(), damage)
}

/// The paths to all values below the top.
fn paths(value: &Value, path: &str, into: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.replace('/', "~1"), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => return,
    };
    for (key, child) in children {
        let path = format!("{path}/{key}");
        paths(child, &path, into);
        into.push(path);
    }
}

fn inflict(document: &mut Value, place: usize, damage: Damage) {
    let mut all = Vec::new();
    paths(document, "", &mut all);
    let path = &all[place % all.len()];
    let (parent, key) = path.rsplit_once('/').unwrap();
    let value = match damage {
        Damage::Replace(value) => value,
        Damage::CopyFrom(other) => document.pointer(&all[other % all.len()]).unwrap().clone(),
        Damage::Remove | Damage::Double => {
            match document.pointer_mut(parent).unwrap() {
                Value::Array(list) if matches!(damage, Damage::Double) => {
                    list.push(list[key.parse::<usize>().unwrap()].clone());
                }
                Value::Array(list) => {
                    list.remove(key.parse::<usize>().unwrap());
                }
                Value::Object(map) if matches!(damage, Damage::Remove) => {
                    map.remove(&key.replace("~1", "/"));
                }
                _ => {}
            }
            return;
        }
    };
    *document.pointer_mut(path).unwrap() = value;
}

proptest! {
    #[test]
    fn what_is_written_comes_back(operations in sequence()) {
        let (leases, _) = run(&operations);
        let text = serde_json::to_string(&leases).unwrap();
        assert_eq!(serde_json::from_str::<Leases>(&text).unwrap(), leases);
        assert_eq!(Leases::try_from(leases.state()), Ok(leases));
    }

    #[test]
    fn the_order_of_leases_in_store_does_not_matter(operations in sequence(), turn: usize) {
        let (leases, _) = run(&operations);
        let mut state = leases.state();
        let count = state.leases.len();
        state.leases.rotate_left(turn.checked_rem(count).unwrap_or(0));
        state.last_given.reverse();
        assert_eq!(Leases::try_from(state), Ok(leases));
    }

    #[test]
    fn a_damaged_store_is_an_error_or_still_consistent(
        operations in sequence(),
        damages in proptest::collection::vec(damage(), 1..4),
    ) {
        let (leases, now) = run(&operations);
        let mut document = serde_json::to_value(&leases).unwrap();
        for (place, damage) in damages {
            inflict(&mut document, place, damage);
        }
        if let Ok(mut leases) = serde_json::from_value::<Leases>(document) {
            check_invariants(&leases);
            leases.allocate("another", &Request::default(), now).ok();
            assert_eq!(leases.usage(now).len(), leases.subnets().count());
            check_invariants(&leases);
        }
    }
}
