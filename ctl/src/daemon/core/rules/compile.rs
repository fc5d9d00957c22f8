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

/// The first and the last IPv4 address, among the addresses of both families.
const IPV4: (u128, u128) = (
    Address::from_ipv4_bits(0).bits(),
    Address::from_ipv4_bits(u32::MAX).bits(),
);

fn addresses(list: &AddressList) -> Ranges<u128> {
    Ranges::new(list.0.iter().flat_map(|range| match range.ends() {
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            // IPv4 has its place among the IPv6 addresses, and is none: ::/0 is about IPv6 alone.
            let (first, last) = (first.to_bits(), last.to_bits());
            [(first, last.min(IPV4.0 - 1)), (first.max(IPV4.1 + 1), last)]
        }
        (first, last) => {
            let [first, last] = [first, last].map(|address| Address::from(address).bits());
            // The second one ends before it begins, which is no range.
            [(first, last), (1, 0)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(list: &str, address: &str) -> bool {
        let address: Address = address.parse().unwrap();
        addresses(&list.parse().unwrap()).contains(address.bits())
    }

    #[test]
    fn a_prefix_of_one_family_says_nothing_of_the_other() {
        for (list, inside, outside) in [
            ("::/0", ["::", "ffff::"], ["0.0.0.0", "255.255.255.255"]),
            (
                "0.0.0.0/0",
                ["0.0.0.0", "255.255.255.255"],
                ["::", "ffff::"],
            ),
            ("::-ffff::", ["::1", "fd00::1"], ["10.0.0.1", "ffff::1"]),
            (
                "10.0.0.0/8,fd00::/8",
                ["10.255.255.255", "fdff::"],
                ["11.0.0.0", "fe00::"],
            ),
            (
                "10.0.0.1-10.0.0.9",
                ["10.0.0.1", "10.0.0.9"],
                ["10.0.0.0", "10.0.0.10"],
            ),
            (
                "::ffff:10.0.0.1",
                ["10.0.0.1", "10.0.0.1"],
                ["10.0.0.2", "::1"],
            ),
        ] {
            for address in inside {
                assert!(is_in(list, address), "{address} in {list}");
            }
            for address in outside {
                assert!(!is_in(list, address), "{address} in {list}");
            }
        }
    }

    #[test]
    fn an_icmp_name_is_what_it_is_in_its_family() {
        for (protocol, kind, codes) in [
            ("icmp", "echo-request", (0x0800, 0x08ff)),
            ("icmpv6", "echo-request", (0x8000, 0x80ff)),
            ("icmp", "port-unreachable", (0x0303, 0x0303)),
            ("icmpv6", "port-unreachable", (0x0104, 0x0104)),
            ("icmpv6", "135/0", (0x8700, 0x8700)),
        ] {
            let rule = Rule {
                protocol: Some(protocol.parse().unwrap()),
                ..Rule::new(Verdict::Drop)
            };
            let numbers = icmp(&rule, kind.parse().unwrap());
            assert_eq!(
                numbers.iter().collect::<Vec<_>>(),
                [codes],
                "{protocol} {kind}"
            );
        }
    }

    #[test]
    fn verdicts_carry_what_was_said_with_them() {
        let rule = |verdict, reject_with, sample| Rule {
            reject_with,
            sample,
            ..Rule::new(verdict)
        };
        let port = filter::Verdict::Reject(Rejection::PortUnreachable);
        let reset = filter::Verdict::Reject(Rejection::Reset);
        let log = |sample| filter::Verdict::Log { sample };
        for (rule, expected) in [
            (rule(Verdict::Reject, None, None), port),
            (
                rule(Verdict::Reject, Some(RejectWith::TcpReset), None),
                reset,
            ),
            (rule(Verdict::Log, None, None), log(1)),
            (rule(Verdict::Log, None, Some(50)), log(50)),
            (rule(Verdict::Return, None, None), filter::Verdict::Return),
        ] {
            assert_eq!(verdict(&rule), expected);
        }
    }
}
