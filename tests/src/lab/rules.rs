//! Filter rules, said fluently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_nat::filter::{
    Chain, Interface, Interfaces, Limit, Log, Matches, Meter, Negatable, NetworkNumber, Protocols,
    Ranges, Rule, RuleId, RuleSet, Scope, State, States, Verdict,
};
use heddle_nat::{Direction, Side};
use heddle_wire::{Address, Family, Protocol};
use ipnet::IpNet;

use super::{Name, Plan};

/// A rule that says where in the names of a plan.
#[derive(Clone, Debug)]
pub struct RulePlan {
    number: u32,
    matches: Matches,
    ingress: Option<Negatable<Name>>,
    egress: Option<Negatable<Name>>,
    limit: Option<Limit>,
    verdict: Verdict,
}

/// The rules of a plan.
#[derive(Debug, Default)]
pub(super) struct RulesPlan {
    everybody: Vec<RulePlan>,
    networks: BTreeMap<Name, Vec<RulePlan>>,
    /// What rules have counted, by number: a rule that stays goes on.
    meters: BTreeMap<u32, Arc<Meter>>,
    log: Arc<Log>,
}

/// A rule that matches everything that is routed. The number tells it from others; whoever says the same
/// number again means the same rule, with what it has counted.
#[must_use]
pub fn rule(number: u32, verdict: Verdict) -> RulePlan {
    RulePlan {
        number,
        matches: Matches::default(),
        ingress: None,
        egress: None,
        limit: None,
        verdict,
    }
}

/// Addresses and prefixes as a set.
///
/// # Panics
///
/// If a text is neither.
#[must_use]
pub fn addresses(texts: &[&str]) -> Ranges<u128> {
    Ranges::new(texts.iter().map(|text| match text.parse::<IpNet>() {
        Ok(net) => {
            let [first, last] = [net.network(), net.broadcast()].map(|it| Address::from(it).bits());
            (first, last)
        }
        Err(_) => {
            let address: Address = text.parse().expect("a test names addresses");
            (address.bits(), address.bits())
        }
    }))
}

impl RulePlan {
    /// From these addresses.
    #[must_use]
    pub fn from(mut self, addresses: &[&str]) -> RulePlan {
        self.matches.source = Some(Negatable::of(self::addresses(addresses)));
        self
    }

    /// From any but these addresses.
    #[must_use]
    pub fn not_from(mut self, addresses: &[&str]) -> RulePlan {
        self.matches.source = Some(Negatable::not(self::addresses(addresses)));
        self
    }

    /// To these addresses.
    #[must_use]
    pub fn to(mut self, addresses: &[&str]) -> RulePlan {
        self.matches.destination = Some(Negatable::of(self::addresses(addresses)));
        self
    }

    /// In at a host, network or leg.
    #[must_use]
    pub fn into(mut self, name: Name) -> RulePlan {
        self.ingress = Some(Negatable::of(name));
        self
    }

    /// Not in there.
    #[must_use]
    pub fn not_into(mut self, name: Name) -> RulePlan {
        self.ingress = Some(Negatable::not(name));
        self
    }

    /// Out at a host, network or leg.
    #[must_use]
    pub fn out_of(mut self, name: Name) -> RulePlan {
        self.egress = Some(Negatable::of(name));
        self
    }

    /// Not out there.
    #[must_use]
    pub fn not_out_of(mut self, name: Name) -> RulePlan {
        self.egress = Some(Negatable::not(name));
        self
    }

    /// Of a protocol.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> RulePlan {
        self.matches.protocol = Some(Negatable::of(Protocols(vec![protocol])));
        self
    }

    /// To these ports.
    #[must_use]
    pub fn port(mut self, first: u16, last: u16) -> RulePlan {
        self.matches.destination_port = Some(Negatable::of(Ranges::new([(first, last)])));
        self
    }

    /// From these ports.
    #[must_use]
    pub fn source_port(mut self, first: u16, last: u16) -> RulePlan {
        self.matches.source_port = Some(Negatable::of(Ranges::new([(first, last)])));
        self
    }

    /// First sent to this address and port.
    #[must_use]
    pub fn original(mut self, address: &str, port: u16) -> RulePlan {
        self.matches.original_destination = Some(Negatable::of(addresses(&[address])));
        self.matches.original_port = Some(Negatable::of(Ranges::new([(port, port)])));
        self
    }

    /// ICMP of this type, whatever the code.
    #[must_use]
    pub fn icmp(mut self, kind: u8) -> RulePlan {
        let [first, last] = [0, u8::MAX].map(|code| u16::from_be_bytes([kind, code]));
        self.matches.icmp = Some(Negatable::of(Ranges::new([(first, last)])));
        self
    }

    /// In one of these states.
    #[must_use]
    pub fn states(mut self, states: &[State]) -> RulePlan {
        self.matches.states = Some(Negatable::of(States::new(states)));
        self
    }

    /// In another state.
    #[must_use]
    pub fn not_states(mut self, states: &[State]) -> RulePlan {
        self.matches.states = Some(Negatable::not(States::new(states)));
        self
    }

    /// On this way of its session.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> RulePlan {
        self.matches.direction = Some(direction);
        self
    }

    /// Of one family.
    #[must_use]
    pub fn family(mut self, family: Family) -> RulePlan {
        self.matches.family = Some(family);
        self
    }

    /// What stays inside a network.
    #[must_use]
    pub fn inside(mut self) -> RulePlan {
        self.matches.scope = Scope::Inside;
        self
    }

    /// So often at most.
    #[must_use]
    pub fn limited(mut self, interval: Duration, burst: u32) -> RulePlan {
        self.limit = Some(Limit { interval, burst });
        self
    }
}

impl Plan {
    /// The rules of everybody's chain.
    pub fn rules(&mut self, rules: &[RulePlan]) {
        self.rules.everybody = rules.to_vec();
    }

    /// The rules of a network's chain.
    pub fn network_rules(&mut self, network: Name, rules: &[RulePlan]) {
        self.rules.networks.insert(network, rules.to_vec());
    }

    /// What the rules have told.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.rules.log
    }

    /// Packets and octets that a rule has counted; none if it is new.
    #[must_use]
    pub fn counted(&self, number: u32) -> (u64, u64) {
        let meter = self.rules.meters.get(&number);
        meter.map_or((0, 0), |meter| meter.counted())
    }

    /// Packets that each rule has counted.
    pub(super) fn all_counted(&self) -> BTreeMap<u32, u64> {
        let meters = self.rules.meters.iter();
        meters
            .map(|(&number, meter)| (number, meter.counted().0))
            .collect()
    }

    pub(super) fn build_rules(&mut self) -> RuleSet {
        let workers = self.workers;
        let RulesPlan {
            everybody,
            networks,
            meters,
            ..
        } = &mut self.rules;
        let all: Vec<&RulePlan> = everybody
            .iter()
            .chain(networks.values().flatten())
            .collect();
        meters.retain(|number, _| all.iter().any(|rule| rule.number == *number));
        for rule in all {
            let meter = meters.entry(rule.number);
            meter.or_insert_with(|| Arc::new(Meter::new(workers)));
        }
        let chains = self.rules.networks.iter();
        let chains = chains.map(|(&network, rules)| {
            let number = NetworkNumber(self.network_id(network).0);
            (number, self.build_chain(rules))
        });
        let everybody = self.build_chain(&self.rules.everybody);
        RuleSet::new(Some(everybody), chains.collect(), self.rules.log.clone())
    }

    fn build_chain(&self, rules: &[RulePlan]) -> Arc<Chain> {
        let rules = rules.iter().map(|rule| Rule {
            id: RuleId(rule.number),
            matches: Matches {
                ingress: rule.ingress.as_ref().map(|name| self.interfaces(name)),
                egress: rule.egress.as_ref().map(|name| self.interfaces(name)),
                ..rule.matches.clone()
            },
            limit: rule.limit,
            verdict: rule.verdict,
            meter: self.rules.meters[&rule.number].clone(),
        });
        Arc::new(Chain::new(rules.collect()).expect("a test's rules fit"))
    }

    fn interfaces(&self, name: &Negatable<Name>) -> Negatable<Interfaces> {
        let mut set = Interfaces::default();
        if self.has_network(name.set) {
            set.networks
                .push(NetworkNumber(self.network_id(name.set).0));
        } else {
            let port = self.port(name.set);
            set.ports.push(Interface {
                side: Side(port.id.0),
                network: port.network().map(|network| NetworkNumber(network.0)),
            });
        }
        Negatable {
            negated: name.negated,
            set,
        }
    }
}
