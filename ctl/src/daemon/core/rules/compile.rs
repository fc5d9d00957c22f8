//! Rules in the dataplane's terms.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_nat::Direction;
use heddle_nat::filter::{
    self, Interfaces, Limit, Matches, Negatable, Protocols, Ranges, Rejection, RuleId, Scope,
    State, States,
};
use heddle_wire::{Address, Family, Protocol};

use super::KeptRule;
use crate::api::{
    AddressList, IcmpKind, Match, Place, PortList, ProtocolName, RejectWith, Rule, RuleDirection,
    RuleFamily, StateList, StateName, Verdict,
};
use crate::daemon::core::Core;

/// Matches at once, if only a rate is said (as in iptables).
const DEFAULT_BURST: u32 = 5;

impl Core {
    /// A rule with its names resolved.
    pub(super) fn resolve(&self, kept: &KeptRule) -> filter::Rule {
        let rule = &kept.rule;
        let place = |place: &Option<Match<Place>>| -> Option<Negatable<Interfaces>> {
            place
                .as_ref()
                .map(|place| convert(place, |place| self.interfaces(place)))
        };
        let addresses =
            |list: &Option<Match<AddressList>>| list.as_ref().map(|list| convert(list, addresses));
        let ports = |list: &Option<Match<PortList>>| {
            list.as_ref()
                .map(|list| convert(list, |list| Ranges::new(list.0.iter().copied())))
        };
        let protocol = |name: &ProtocolName| Protocols(vec![Protocol(name.0)]);
        filter::Rule {
            id: RuleId(kept.number),
            matches: Matches {
                scope: if rule.inside {
                    Scope::Inside
                } else {
                    Scope::Routed
                },
                family: rule.family.map(family),
                source: addresses(&rule.source),
                destination: addresses(&rule.destination),
                original_destination: addresses(&rule.original_destination),
                original_port: ports(&rule.original_port),
                protocol: rule.protocol.as_ref().map(|name| convert(name, protocol)),
                source_port: ports(&rule.source_port),
                destination_port: ports(&rule.destination_port),
                icmp: rule
                    .icmp_type
                    .as_ref()
                    .map(|kind| convert(kind, |kind| icmp(rule, *kind))),
                states: rule.state.as_ref().map(|list| convert(list, states)),
                direction: rule.direction.map(|direction| match direction {
                    RuleDirection::Original => Direction::Original,
                    RuleDirection::Reply => Direction::Reply,
                }),
                ingress: place(&rule.in_interface),
                egress: place(&rule.out_interface),
            },
            limit: rule.limit.map(|rate| Limit {
                interval: rate.interval(),
                burst: rule.limit_burst.unwrap_or(DEFAULT_BURST),
            }),
            verdict: verdict(rule),
            meter: kept.meter.clone(),
        }
    }
}

fn convert<A, B>(from: &Match<A>, to: impl FnOnce(&A) -> B) -> Negatable<B> {
    Negatable {
        negated: from.negated,
        set: to(&from.set),
    }
}

fn addresses(list: &AddressList) -> Ranges<u128> {
    let bits = |address: IpAddr| Address::from(address).bits();
    Ranges::new(list.0.iter().map(|range| {
        let (first, last) = range.ends();
        match (first, last) {
            // Both ends of a prefix that holds all IPv4-mapped addresses are IPv6; that no packet has
            // such an address is the parser's promise.
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
            _ => (bits(first), bits(last)),
        }
    }))
}

/// Type and code as one number; the rule has been checked to say whose.
fn icmp(rule: &Rule, kind: IcmpKind) -> Ranges<u16> {
    let family = rule
        .protocol
        .as_ref()
        .and_then(|protocol| protocol.set.icmp_family());
    let number = family.and_then(|family| kind.number(family));
    Ranges::new(number.map(|(kind, code)| {
        let at = |code| u16::from_be_bytes([kind, code]);
        (at(code.unwrap_or(0)), at(code.unwrap_or(u8::MAX)))
    }))
}

fn states(list: &StateList) -> States {
    let states = list.0.iter().map(|state| match state {
        StateName::New => State::New,
        StateName::Established => State::Established,
        StateName::Related => State::Related,
        StateName::Invalid => State::Invalid,
    });
    States::new(&states.collect::<Vec<_>>())
}

fn family(family: RuleFamily) -> Family {
    match family {
        RuleFamily::Ipv4 => Family::V4,
        RuleFamily::Ipv6 => Family::V6,
    }
}

fn verdict(rule: &Rule) -> filter::Verdict {
    match rule.verdict {
        Verdict::Accept => filter::Verdict::Accept,
        Verdict::Drop => filter::Verdict::Drop,
        Verdict::Reject => filter::Verdict::Reject(match rule.reject_with.unwrap_or_default() {
            RejectWith::PortUnreachable => Rejection::PortUnreachable,
            RejectWith::AdminProhibited => Rejection::Prohibited,
            RejectWith::TcpReset => Rejection::Reset,
        }),
        Verdict::Return => filter::Verdict::Return,
        Verdict::Count => filter::Verdict::Count,
        Verdict::Log => filter::Verdict::Log {
            sample: rule.sample.unwrap_or(1),
        },
    }
}

/// Whether two chains do the same and count in the same place.
pub(super) fn are_same(one: &[filter::Rule], other: &[filter::Rule]) -> bool {
    let same = |(one, other): (&filter::Rule, &filter::Rule)| {
        one.id == other.id
            && one.matches == other.matches
            && one.limit == other.limit
            && one.verdict == other.verdict
            && Arc::ptr_eq(&one.meter, &other.meter)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}
