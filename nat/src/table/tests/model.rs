//! Random operations against a model of two maps: sessions by their tuple, mappings by their inside.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use heddle_mem::Instant;
use heddle_wire::{Address, Protocol};
use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};

use crate::mapping::Filtering;
use crate::ports::REST;
use crate::session::{DNS_TIMEOUT, ICMP_TIMEOUT, Side, UDP_TIMEOUT};
use crate::table::Refusal;
use crate::tcp::OPENING_TIMEOUT;
use crate::tuple::{Direction, Tuple, Zone};
use crate::world::{Endpoint, OUTSIDE, ROOMY, World, tuple};

type Order = (Address, Address, u64);

/// What may happen. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An endpoint sends to a peer: protocol, endpoint, its port, peer, its port.
    Leave([usize; 5]),
    /// A peer sends to a mapped port: peer, its port, mapping.
    Arrive([usize; 3], Filtering),
    /// Seconds.
    Pass(u64),
    Flush(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let filtering = prop_oneof![
        Just(Filtering::Endpoint),
        Just(Filtering::Address),
        Just(Filtering::AddressPort)
    ];
    prop_oneof![
        6 => prop::array::uniform5(0..60_usize).prop_map(Step::Leave),
        6 => (prop::array::uniform3(0..60_usize), filtering)
            .prop_map(|(numbers, filtering)| Step::Arrive(numbers, filtering)),
        3 => (1..100_u64).prop_map(|half| Step::Pass(2 * half)),
        1 => (0..20_usize).prop_map(Step::Flush),
    ]
}

/// What the model knows of a session, beside its original tuple.
#[derive(Clone, Copy, Debug)]
struct Entry {
    reply: Tuple,
    deadline: Instant,
    mapping: Key,
    peer: Address,
    /// Whether the inside has spoken in it.
    permits: bool,
}

/// A mapping: protocol number, inside address and port.
type Key = (u8, Endpoint);

/// The table under test and what it should hold.
struct Model {
    world: World,
    sessions: BTreeMap<Order, (Tuple, Entry)>,
    mappings: BTreeMap<Key, u16>,
    /// Ports that rest: who had them, and until when.
    resting: BTreeMap<(u8, u16), (Endpoint, Instant)>,
}

impl Model {
    fn new(world: World) -> Model {
        Model {
            world,
            sessions: BTreeMap::new(),
            mappings: BTreeMap::new(),
            resting: BTreeMap::new(),
        }
    }

    /// The session of a tuple, by its original one, and whether the tuple is that.
    fn find(&mut self, wanted: &Tuple) -> Option<(bool, &mut Entry)> {
        self.sessions.values_mut().find_map(|(original, entry)| {
            let is_original = original == wanted;
            (is_original || entry.reply == *wanted).then_some((is_original, entry))
        })
    }

    fn timeout(&self, original: &Tuple) -> Duration {
        if original.protocol == Protocol::TCP {
            OPENING_TIMEOUT
        } else if original.protocol == self.world.echo.0 {
            ICMP_TIMEOUT
        } else if original.destination_port == 53 {
            DNS_TIMEOUT
        } else {
            UDP_TIMEOUT
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Leave(numbers) => self.leave(numbers),
            Step::Arrive(numbers, filtering) => self.arrive(numbers, filtering),
            Step::Pass(seconds) => self.pass(seconds),
            Step::Flush(number) => {
                // Now and then, or little would live for long.
                let owner = Side(u16::try_from(number).unwrap());
                let world = &self.world;
                let flushed = world
                    .nat
                    .flush(world.now, |session| session.owner() == owner);
                let before = self.sessions.len();
                let inside = world.inside;
                self.end(|entry| usize::from(entry.mapping.1.0 == inside[1]) + 1 == number);
                assert_eq!(
                    usize::try_from(flushed).unwrap(),
                    before - self.sessions.len()
                );
            }
        }
    }

    fn leave(&mut self, [protocol, inside, port, peer, peer_port]: [usize; 5]) {
        let (echo, request) = self.world.echo;
        let protocol = [Protocol::TCP, Protocol::UDP, echo][protocol % 3];
        let peer_port = if protocol == echo {
            request
        } else {
            [53, 443][peer_port % 2]
        };
        let from = (
            self.world.inside[inside % 2],
            [5_000, 5_001, 53, 0x1234][port % 4],
        );
        let to = (self.world.peers[peer % 3], peer_port);
        let original = tuple(protocol, from, to, Zone::INSIDE);
        let rewrite = self.world.leave(protocol, from, to).unwrap();
        let now = self.world.now;
        assert_eq!((rewrite.destination, rewrite.destination_port), to);

        let key = (protocol.0, from);
        let (port, outside) = (rewrite.source_port, self.world.outside);
        assert_eq!(rewrite.source, outside);
        if let Some(&known) = self.mappings.get(&key) {
            assert_eq!(port, known, "endpoint independent");
        } else {
            let rested = self.resting.get(&(protocol.0, port));
            let may = rested.is_none_or(|&(owner, until)| owner == from || until <= now);
            assert!(may, "port {port} still rests");
            assert!(
                self.mappings
                    .iter()
                    .all(|(key, &used)| key.0 != protocol.0 || used != port)
            );
            self.mappings.insert(key, port);
        }
        // A session that the other side began goes on under the terms of its own first packet.
        let known = self.find(&original).map(|(is_original, entry)| {
            entry.permits = true;
            (is_original, entry.reply)
        });
        let begun_as = match known {
            Some((false, _)) => tuple(protocol, to, (outside, port), OUTSIDE),
            _ => original,
        };
        let deadline = now + self.timeout(&begun_as);
        if let Some((_, entry)) = self.find(&original) {
            entry.deadline = deadline;
        } else {
            let entry = Entry {
                reply: tuple(protocol, to, (outside, port), OUTSIDE),
                deadline,
                mapping: key,
                peer: to.0,
                permits: true,
            };
            self.sessions.insert(order(&original), (original, entry));
        }
    }

    /// UDP and echoes only: a SYN from outside has a life of its own.
    fn arrive(&mut self, [peer, peer_port, mapping]: [usize; 3], filtering: Filtering) {
        let (echo, request) = self.world.echo;
        let candidates = self
            .mappings
            .iter()
            .filter(|(key, _)| key.0 != Protocol::TCP.0);
        let candidates: Vec<(Key, u16)> = candidates.map(|(&key, &port)| (key, port)).collect();
        let Some(&(key, port)) = candidates.get(mapping % candidates.len().max(1)) else {
            return;
        };
        let protocol = Protocol(key.0);
        let peer_port = if protocol == echo {
            request
        } else {
            [53, 443][peer_port % 2]
        };
        let from = (self.world.peers[peer % 3], peer_port);
        let got = self.world.arrive(protocol, from, port, filtering);

        let arriving = tuple(protocol, from, (self.world.outside, port), OUTSIDE);
        let is_known = self.find(&arriving).is_some();
        let is_permitted = match filtering {
            Filtering::Endpoint => true,
            Filtering::AddressPort => false,
            Filtering::Address => self
                .sessions
                .values()
                .any(|(_, entry)| entry.mapping == key && entry.peer == from.0 && entry.permits),
        };
        if !is_known && !is_permitted {
            assert_eq!(got, Err(Refusal::Filtered));
        } else if !is_known && protocol == echo {
            assert_eq!(got, Err(Refusal::Unsolicited));
        } else {
            let read = got.unwrap();
            assert_eq!((read.source, read.source_port), from);
            assert_eq!((read.destination, read.destination_port), key.1);
        }
        if got.is_ok() && !is_known {
            let entry = Entry {
                reply: tuple(protocol, key.1, from, Zone::INSIDE),
                deadline: self.world.now + self.timeout(&arriving),
                mapping: key,
                peer: from.0,
                permits: false,
            };
            self.sessions.insert(order(&arriving), (arriving, entry));
        }
    }

    /// Never ends at a deadline: there, a quarter of a second decides.
    fn pass(&mut self, seconds: u64) {
        self.world.pass(seconds);
        while self
            .sessions
            .values()
            .any(|(_, entry)| entry.deadline == self.world.now)
        {
            self.world.pass(1);
        }
        let now = self.world.now;
        self.end(|entry| entry.deadline < now);
    }

    fn end(&mut self, is_over: impl Fn(&Entry) -> bool) {
        self.sessions.retain(|_, (_, entry)| !is_over(entry));
        let held: BTreeSet<Key> = self
            .sessions
            .values()
            .map(|(_, entry)| entry.mapping)
            .collect();
        let until = self.world.now + REST;
        let resting = &mut self.resting;
        self.mappings.retain(|key, &mut port| {
            if !held.contains(key) {
                resting.insert((key.0, port), (key.1, until));
            }
            held.contains(key)
        });
    }

    fn check(&self) {
        let nat = &self.world.nat;
        let mut tuples = HashSet::new();
        nat.for_each(|session| {
            for direction in Direction::BOTH {
                let tuple = session.tuple(direction);
                assert!(tuples.insert(tuple), "two sessions have {tuple:?}");
            }
        });
        let expected = self.sessions.values();
        let expected = expected.flat_map(|(original, entry)| [*original, entry.reply]);
        assert_eq!(tuples, expected.collect());
        for (original, entry) in self.sessions.values() {
            for (tuple, direction) in [original, &entry.reply].into_iter().zip(Direction::BOTH) {
                let hit = nat.lookup(tuple).unwrap();
                assert_eq!(hit.direction(), direction);
            }
        }
        assert_eq!(
            usize::try_from(nat.session_count()).unwrap(),
            self.sessions.len()
        );
        assert_eq!(
            usize::try_from(nat.mapping_count()).unwrap(),
            self.mappings.len()
        );
        for protocol in [Protocol::TCP, Protocol::UDP, self.world.echo.0] {
            let used = self
                .mappings
                .keys()
                .filter(|key| key.0 == protocol.0)
                .count();
            let in_use = nat.ports_in_use(OUTSIDE, self.world.outside, protocol);
            assert_eq!(usize::try_from(in_use).unwrap(), used);
        }
        for address in self.world.inside {
            let of_owner = self.sessions.values();
            let of_owner = of_owner.filter(|(_, entry)| entry.mapping.1.0 == address);
            let counted = nat.sessions_of(self.world.owner(address));
            assert_eq!(usize::try_from(counted).unwrap(), of_owner.count());
        }
    }
}

proptest! {
    #[test]
    fn the_table_holds_what_the_model_holds(
        steps in prop::collection::vec(any_step(), 1..150),
    ) {
        for world in World::both(ROOMY) {
            let mut model = Model::new(world);
            for &step in &steps {
                model.step(step);
                model.check();
            }
            model.world.end();
        }
    }
}

/// A tuple as something that has an order.
fn order(tuple: &Tuple) -> Order {
    let ports = u64::from(tuple.source_port) << 16 | u64::from(tuple.destination_port);
    let rest = u64::from(tuple.zone.0) << 8 | u64::from(tuple.protocol.0);
    (tuple.source, tuple.destination, ports << 24 | rest)
}
