//! Filter rules: checked, kept, and given to the dataplane.
//!
//! A chain is everybody's or a network's, and changes as a whole: what a request would make of it is checked,
//! compiled and published, or nothing happens. Names are looked up when a rule is made, and must lead
//! somewhere then. Later a sandbox may go and come back; its rules match nothing meanwhile. A rule that
//! stays keeps its number and what it has counted.

mod compile;
mod log;
mod places;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_nat::filter::{self, ChainError, Meter, NetworkNumber, RuleSet};

use self::log::Told;
use super::{Core, internal};
use crate::api::{ApiError, ErrorCode, Name, Rule, Verdict};
use crate::daemon::records::{RulesRecord, put, rules_key};
use crate::store::Change;

/// All chains.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// By folded name of the network; everybody's has none.
    chains: BTreeMap<Option<String>, Chain>,
    /// The last number that was given to a rule.
    last: u32,
    told: Told,
}

/// A chain.
#[derive(Debug, Default)]
struct Chain {
    rules: Vec<KeptRule>,
    /// As the dataplane has it. Compiling a thousand rules takes a while, and most changes of the
    /// configuration change none of them.
    compiled: RefCell<Option<Arc<filter::Chain>>>,
}

/// A rule with its number and what it has counted.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct KeptRule {
    number: u32,
    /// Without number and counters.
    rule: Rule,
    meter: Arc<Meter>,
}

impl KeptRule {
    fn show(&self) -> Rule {
        let (packets, octets) = self.meter.counted();
        Rule {
            id: Some(self.number),
            packets: Some(packets),
            octets: Some(octets),
            ..self.rule.clone()
        }
    }

    /// As the store keeps it.
    fn record(&self) -> Rule {
        Rule {
            id: Some(self.number),
            ..self.rule.clone()
        }
    }
}

/// What is to become of a chain.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum RuleChange {
    /// These rules instead of those that there are.
    Replace(Vec<Rule>),
    /// One more, before the one that is at this position now, counted from 1, or behind all.
    Add(Box<Rule>, Option<usize>),
    /// One less.
    Delete(u32),
}

/// A chain that was changed.
#[derive(Debug)]
pub(in crate::daemon) struct ChangedRules {
    /// What the store must learn.
    pub(in crate::daemon) changes: Vec<Change>,
    /// The chain as it was, should the store refuse.
    pub(in crate::daemon) former: Vec<KeptRule>,
    /// All rules as they are now, or the one that was added.
    pub(in crate::daemon) rules: Vec<Rule>,
}

fn key(network: Option<&Name>) -> Option<String> {
    network.map(Name::folded)
}

impl Core {
    /// The rules of a network, or of everybody.
    pub(in crate::daemon) fn show_rules(
        &self,
        network: Option<&Name>,
    ) -> Result<Vec<Rule>, ApiError> {
        Ok(self.kept(network)?.iter().map(KeptRule::show).collect())
    }

    fn kept(&self, network: Option<&Name>) -> Result<&[KeptRule], ApiError> {
        if let Some(network) = network {
            self.network(network)?;
        }
        let chain = self.rules.chains.get(&key(network));
        Ok(chain.map_or(&[], |chain| &chain.rules))
    }

    /// Whether any rule writes to the log.
    pub(in crate::daemon) fn has_logged_rules(&self) -> bool {
        let chains = self.rules.chains.values();
        { chains }
            .flat_map(|chain| &chain.rules)
            .any(|kept| kept.rule.verdict == Verdict::Log)
    }

    /// Changes a chain.
    pub(in crate::daemon) fn change_rules(
        &mut self,
        network: Option<&Name>,
        change: RuleChange,
    ) -> Result<ChangedRules, ApiError> {
        let former = self.kept(network)?.to_vec();
        let mut last = self.rules.last;
        let mut rules = former.clone();
        let mut added = None;
        match change {
            RuleChange::Replace(wanted) => rules = self.plan_rules(&former, wanted, &mut last)?,
            RuleChange::Add(rule, position) => {
                let place = position.unwrap_or(rules.len() + 1);
                if place == 0 || place > rules.len() + 1 {
                    let message = format!(
                        "there is no position {place} in a chain of {} rules",
                        rules.len()
                    );
                    let hint = format!("positions are 1 to {}", rules.len() + 1);
                    return Err(ApiError::new(ErrorCode::InvalidRule, message).hint(hint));
                }
                let rule = self
                    .plan_rule(&rule)
                    .map_err(|error| no_rule(None, error))?;
                last = next(last)?;
                rules.insert(place - 1, self.keep(last, rule));
                added = Some(place - 1);
            }
            RuleChange::Delete(number) => {
                let place = rules.iter().position(|kept| kept.number == number);
                rules.remove(place.ok_or_else(|| unknown_rule(network, number))?);
            }
        }
        self.put_rules(network, rules)?;
        self.rules.last = last;
        let rules = self.show_rules(network)?;
        let rules = match added {
            Some(place) => rules.into_iter().skip(place).take(1).collect(),
            None => rules,
        };
        Ok(ChangedRules {
            changes: self.rule_changes(network),
            former,
            rules,
        })
    }

    /// Takes a change back.
    pub(in crate::daemon) fn put_back_rules(
        &mut self,
        network: Option<&Name>,
        former: Vec<KeptRule>,
    ) {
        if let Err(error) = self.put_rules(network, former) {
            tracing::error!(%error, "a failed change of the rules could not be taken back");
        }
    }

    /// Takes up rules from the store.
    pub(in crate::daemon) fn restore_rules(&mut self, record: RulesRecord) -> Result<(), ApiError> {
        let RulesRecord { network, rules } = record;
        if let Some(network) = &network {
            self.network(network)?;
        }
        let mut kept = Vec::with_capacity(rules.len());
        for rule in rules {
            let number = match rule.id {
                Some(number) => number,
                None => next(self.rules.last)?,
            };
            self.rules.last = self.rules.last.max(number);
            kept.push(self.keep(number, rule.bare()));
        }
        self.put_rules(network.as_ref(), kept)
    }

    /// Forgets the chain of a network that was removed.
    pub(super) fn forget_rules(&mut self, network: &Name) -> Option<Change> {
        let removed = self.rules.chains.remove(&key(Some(network)));
        removed.map(|_| Change::Delete(rules_key(Some(network))))
    }

    /// What is said to whoever wants to remove a network that a rule of another chain names.
    pub(super) fn require_unnamed(&self, network: &Name) -> Result<(), ApiError> {
        let own = key(Some(network));
        let others = self.rules.chains.iter().filter(|(chain, _)| **chain != own);
        for (_, chain) in others {
            let names = |kept: &&KeptRule| places::names_network(&kept.rule, network);
            if let Some(kept) = chain.rules.iter().find(names) {
                let message = format!("network {network} is named by filter rule {}", kept.number);
                return Err(
                    ApiError::new(ErrorCode::NetworkInUse, message).hint(format!(
                        "delete it first: heddle rule delete {}",
                        kept.number
                    )),
                );
            }
        }
        Ok(())
    }

    /// The rules for the dataplane.
    pub(super) fn build_rules(&self) -> Result<RuleSet, ApiError> {
        let mut everybody = None;
        let mut networks = BTreeMap::new();
        for (network, chain) in &self.rules.chains {
            let compiled = self.compiled(chain);
            let compiled = compiled.map_err(|error| internal(&error.to_string()))?;
            match network {
                None => everybody = Some(compiled),
                Some(network) => {
                    let found = self.networks.get(network);
                    let found = found.ok_or_else(|| internal("rules of a network that is gone"))?;
                    networks.insert(NetworkNumber(found.record.number), compiled);
                }
            }
        }
        Ok(RuleSet::new(everybody, networks, self.rules.told.log()))
    }

    /// Makes rules the ones of a chain, or changes nothing.
    fn put_rules(&mut self, network: Option<&Name>, rules: Vec<KeptRule>) -> Result<(), ApiError> {
        let chain = Chain {
            rules,
            compiled: RefCell::default(),
        };
        self.compiled(&chain)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRule, error.to_string()))?;
        let former = self.rules.chains.insert(key(network), chain);
        let published = self.publish();
        if published.is_err() {
            match former {
                Some(former) => drop(self.rules.chains.insert(key(network), former)),
                None => drop(self.rules.chains.remove(&key(network))),
            }
            self.publish_former();
        }
        published
    }

    /// A chain as the dataplane wants it: the one that it has, if nothing has changed.
    fn compiled(&self, chain: &Chain) -> Result<Arc<filter::Chain>, ChainError> {
        let rules: Vec<filter::Rule> = chain.rules.iter().map(|kept| self.resolve(kept)).collect();
        let mut compiled = chain.compiled.borrow_mut();
        if let Some(known) = &*compiled
            && compile::are_same(known.rules(), &rules)
        {
            return Ok(known.clone());
        }
        let new = Arc::new(filter::Chain::new(rules)?);
        *compiled = Some(new.clone());
        Ok(new)
    }

    /// Checks the rules of a request. Those that there are already keep number and counters; whether
    /// they name something that is gone meanwhile is not asked again.
    fn plan_rules(
        &self,
        former: &[KeptRule],
        wanted: Vec<Rule>,
        last: &mut u32,
    ) -> Result<Vec<KeptRule>, ApiError> {
        let mut free: Vec<Option<&KeptRule>> = former.iter().map(Some).collect();
        let mut claim = |id: Option<u32>, rule: &Rule| {
            let same = |kept: &Option<&KeptRule>| kept.is_some_and(|kept| kept.rule == *rule);
            let named = |kept: &Option<&KeptRule>| {
                same(kept) && kept.is_some_and(|kept| Some(kept.number) == id)
            };
            let place = free
                .iter()
                .position(named)
                .or_else(|| free.iter().position(same));
            place.and_then(|place| free[place].take()).cloned()
        };
        let mut rules = Vec::with_capacity(wanted.len());
        for (place, wanted) in wanted.into_iter().enumerate() {
            let rule = wanted.bare();
            let kept = match claim(wanted.id, &rule) {
                Some(kept) => kept,
                None => {
                    let planned = self.plan_rule(&rule);
                    let planned = planned.map_err(|error| no_rule(Some(place + 1), error))?;
                    match claim(wanted.id, &planned) {
                        Some(kept) => kept,
                        None => {
                            *last = next(*last)?;
                            self.keep(*last, planned)
                        }
                    }
                }
            };
            rules.push(kept);
        }
        Ok(rules)
    }

    /// Checks a rule and settles what its names mean.
    fn plan_rule(&self, rule: &Rule) -> Result<Rule, ApiError> {
        rule.check()
            .map_err(|(problem, hint)| ApiError::new(ErrorCode::InvalidRule, problem).hint(hint))?;
        let mut rule = rule.bare();
        let places = [&mut rule.in_interface, &mut rule.out_interface];
        for place in places.into_iter().flatten() {
            place.set = self.settle_place(&place.set)?;
        }
        Ok(rule)
    }

    fn keep(&self, number: u32, rule: Rule) -> KeptRule {
        KeptRule {
            number,
            rule,
            meter: Arc::new(Meter::new(self.switch.workers())),
        }
    }

    fn rule_changes(&self, network: Option<&Name>) -> Vec<Change> {
        let rules = self.rules.chains.get(&key(network));
        let rules = rules.map_or(&[][..], |chain| &chain.rules);
        let record = RulesRecord {
            network: network.cloned(),
            rules: rules.iter().map(KeptRule::record).collect(),
        };
        vec![put(rules_key(network), &record)]
    }
}

fn next(last: u32) -> Result<u32, ApiError> {
    let next = last.checked_add(1);
    next.ok_or_else(|| ApiError::new(ErrorCode::TooMany, "there are no numbers for rules left"))
}

/// An error about one of several rules says which.
fn no_rule(position: Option<usize>, mut error: ApiError) -> ApiError {
    if let Some(position) = position {
        error.error.message = format!("rule {position}: {}", error.error.message);
    }
    error
}

fn unknown_rule(network: Option<&Name>, number: u32) -> ApiError {
    let (whose, list) = match network {
        Some(network) => (
            format!("network {network}"),
            format!("heddle rule ls --network {network}"),
        ),
        None => ("everybody's chain".to_owned(), "heddle rule ls".to_owned()),
    };
    let message = format!("there is no rule {number} in {whose}");
    ApiError::new(ErrorCode::UnknownRule, message).hint(format!("see which there are: {list}"))
}
