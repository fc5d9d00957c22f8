//! Rule sets of different lengths, and packets for them whose end is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_mem::Instant;
use heddle_nat::filter::{
    Area, Chain, Interface, Judgement, Matches, Meter, Negatable, NetworkNumber, Packets,
    Protocols, Question, Ranges, Rejection, Rule, RuleId, RuleSet, Scope, State, States, Verdict,
};
use heddle_nat::{Direction, Side};
use heddle_wire::Family::{self, V4};
use heddle_wire::{Address, Protocol};

const NOW: Instant = Instant::from_micros(1_000_000_000);

/// Packets that are asked about in one round.
pub const PACKETS: usize = 1024;

/// What the rules are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Each rule is about one prefix of sources and one port: an allow list.
    List,
    /// Each rule is about everything that a rule may be about.
    Full,
    /// Every other rule is about all sources and one port, the others about one prefix of sources and all
    /// ports. So on each axis a packet satisfies half of the rules, spread over all of them, and on both one:
    /// what summaries are worst at.
    Interleaved,
}

impl Mix {
    /// All mixes, by name.
    pub const ALL: [(&'static str, Mix); 3] = [
        ("list", Mix::List),
        ("full", Mix::Full),
        ("interleaved", Mix::Interleaved),
    ];
}

/// A chain, and packets for it.
#[derive(Debug)]
pub struct Filter {
    set: RuleSet,
    packets: Vec<(Question, Judgement)>,
}

impl Filter {
    /// A chain of so many rules. Each packet matches one rule, spread over all of them, or none.
    ///
    /// # Panics
    ///
    /// If there are more rules than a chain holds.
    #[must_use]
    pub fn new(mix: Mix, family: Family, rules: u16) -> Filter {
        let chain = (0..rules).map(|number| Rule {
            id: RuleId(number.into()),
            matches: matches(mix, family, number),
            limit: None,
            verdict: verdict(number).0,
            meter: Arc::new(Meter::new(1)),
        });
        let chain = Chain::new(chain.collect()).expect("they fit into a chain");
        let packets = (0..PACKETS).map(|packet| {
            // One in eight is about no rule.
            let misses = packet % 8 == 7;
            // In no order: a step that has no factor in common with the number of rules.
            let number = u16::try_from(packet * 389 % usize::from(rules)).unwrap_or(0);
            let number = if misses { number & !1 } else { number };
            let end = if misses {
                Judgement::Accept
            } else {
                verdict(number).1
            };
            (question(family, number, misses), end)
        });
        Filter {
            set: RuleSet::new(Some(Arc::new(chain)), BTreeMap::new(), Arc::default()),
            packets: packets.collect(),
        }
    }

    /// Asks about every packet.
    ///
    /// # Panics
    ///
    /// If an answer is wrong.
    pub fn run(&self) {
        for (question, end) in &self.packets {
            assert_eq!(self.set.judge(question, 0, NOW), *end);
        }
    }
}

fn verdict(number: u16) -> (Verdict, Judgement) {
    match number % 3 {
        0 => (Verdict::Drop, Judgement::Drop),
        1 => (
            Verdict::Reject(Rejection::Prohibited),
            Judgement::Reject(Rejection::Prohibited),
        ),
        _ => (Verdict::Accept, Judgement::Accept),
    }
}

/// The source or destination that belongs to a rule.
fn address(family: Family, half: u8, number: u16) -> Address {
    let [high, low] = number.to_be_bytes();
    match family {
        V4 => Address::from(std::net::IpAddr::from([half, high, low, 1])),
        Family::V6 => {
            let net = 0xfd00 + u16::from(half);
            Address::from(std::net::IpAddr::from([net, number, 0, 0, 0, 0, 0, 1]))
        }
    }
}

fn single(address: Address) -> Option<Negatable<Ranges<u128>>> {
    let bits = address.bits();
    Some(Negatable::of(Ranges::new([(bits, bits)])))
}

/// A prefix of 256 addresses.
fn prefix(address: Address) -> Option<Negatable<Ranges<u128>>> {
    let first = address.bits() & !0xff;
    Some(Negatable::of(Ranges::new([(first, first | 0xff)])))
}

fn port(number: u16) -> u16 {
    1_000 + number * 7
}

fn matches(mix: Mix, family: Family, number: u16) -> Matches {
    let single_port = Some(Negatable::of(Ranges::new([(port(number), port(number))])));
    let list = Matches {
        source: prefix(address(family, 10, number)),
        protocol: Some(Negatable::of(Protocols(vec![Protocol::TCP]))),
        destination_port: single_port.clone(),
        ..Matches::default()
    };
    match mix {
        Mix::List => list,
        Mix::Full => Matches {
            family: Some(family),
            destination: single(address(family, 20, number)),
            source_port: Some(Negatable::of(Ranges::new([(
                port(number) + 1,
                port(number) + 3,
            )]))),
            original_destination: single(address(family, 30, number)),
            original_port: Some(Negatable::of(Ranges::new([(80, 80)]))),
            states: Some(Negatable::not(States::new(&[State::Invalid]))),
            ingress: Some(Negatable::not(heddle_nat::filter::Interfaces {
                ports: Vec::new(),
                networks: vec![NetworkNumber(1_000 + number)],
            })),
            scope: Scope::Routed,
            ..list
        },
        Mix::Interleaved if number.is_multiple_of(2) => Matches {
            source: Some(Negatable::of(Ranges::new([(0, u128::MAX)]))),
            destination_port: single_port,
            ..Matches::default()
        },
        Mix::Interleaved => Matches {
            source: prefix(address(family, 10, number)),
            destination_port: Some(Negatable::of(Ranges::new([(0, u16::MAX)]))),
            ..Matches::default()
        },
    }
}

fn question(family: Family, number: u16, misses: bool) -> Question {
    let place = |side, network: Option<u16>| Interface {
        side: Side(side),
        network: network.map(NetworkNumber),
    };
    // A destination and a port that no rule asks for.
    let (to, destination_port) = if misses {
        (address(family, 21, number), port(number) + 1)
    } else {
        (address(family, 20, number), port(number))
    };
    Question {
        source: address(family, 10, number),
        destination: to,
        protocol: Protocol::TCP,
        packet: Packets::Ports(port(number) + 2, destination_port),
        original: Some((address(family, 30, number), 80)),
        state: State::New,
        direction: Direction::Original,
        area: Area::Routed,
        ingress: place(1, Some(1)),
        egress: place(2, None),
        len: 100,
    }
}
