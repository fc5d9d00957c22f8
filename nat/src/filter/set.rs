//! All chains of a configuration, and in which order they are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_mem::Instant;

use super::Rejection;
use super::chain::{Asking, Chain};
use super::interface::NetworkNumber;
use super::log::Log;
use super::question::{Area, Question};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// It may pass, as far as rules are concerned.
    Accept,
    /// It ends in silence.
    Drop,
    /// It ends, and its sender is told.
    Reject(Rejection),
}

/// The rules of a configuration.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    everybody: Option<Arc<Chain>>,
    /// By number of the network.
    networks: Vec<Option<Arc<Chain>>>,
    log: Arc<Log>,
    asks_for_invalid: bool,
}

impl RuleSet {
    /// Everybody's chain and those of networks; chains without rules may be left out.
    #[must_use]
    pub fn new(
        everybody: Option<Arc<Chain>>,
        networks: BTreeMap<NetworkNumber, Arc<Chain>>,
        log: Arc<Log>,
    ) -> RuleSet {
        let has_rules = |chain: &Arc<Chain>| !chain.rules().is_empty();
        let everybody = everybody.filter(has_rules);
        let mut by_number = Vec::new();
        for (network, chain) in networks.into_iter().filter(|(_, chain)| has_rules(chain)) {
            let place = usize::from(network.0);
            by_number.resize(place + 1, None);
            by_number[place] = Some(chain);
        }
        let chains = everybody.iter().chain(by_number.iter().flatten());
        RuleSet {
            asks_for_invalid: { chains }.any(|chain| chain.asks_for_invalid()),
            everybody,
            networks: by_number,
            log,
        }
    }

    /// Whether there is no rule at all.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.everybody.is_none() && self.networks.is_empty()
    }

    /// The networks that have a chain.
    pub fn networks(&self) -> impl Iterator<Item = NetworkNumber> {
        let chains = self.networks.iter().zip(0..);
        chains.filter_map(|(chain, number)| chain.is_some().then_some(NetworkNumber(number)))
    }

    /// Whether rules can say anything about packets between these networks; a way out is none.
    #[inline]
    #[must_use]
    pub fn is_about(&self, area: Area, networks: [Option<NetworkNumber>; 2]) -> bool {
        let everybody = self.everybody.iter();
        let chains = networks
            .into_iter()
            .filter_map(|network| self.chain_of(network));
        everybody.chain(chains).any(|chain| chain.is_about(area))
    }

    /// Whether a rule tells invalid packets from others: finding out which are costs something.
    #[inline]
    #[must_use]
    pub fn asks_for_invalid(&self) -> bool {
        self.asks_for_invalid
    }

    #[inline]
    fn chain_of(&self, network: Option<NetworkNumber>) -> Option<&Arc<Chain>> {
        self.networks.get(usize::from(network?.0))?.as_ref()
    }

    /// What becomes of a packet: counted, tokens taken, and told of.
    #[must_use]
    pub fn judge(&self, question: &Question, worker: usize, now: Instant) -> Judgement {
        self.ask(question, worker, now, true)
    }

    /// What would become of a packet that may yet have to wait.
    #[must_use]
    pub fn foresee(&self, question: &Question, worker: usize, now: Instant) -> Judgement {
        self.ask(question, worker, now, false)
    }

    fn ask(&self, question: &Question, worker: usize, now: Instant, counts: bool) -> Judgement {
        let asking = Asking {
            question,
            worker,
            now,
            log: &self.log,
            counts,
        };
        let [from, to] = [question.ingress.network, question.egress.network];
        let judged = self
            .everybody
            .as_ref()
            .and_then(|chain| chain.judge(&asking));
        if judged.is_some() || self.networks.is_empty() {
            return judged.unwrap_or(Judgement::Accept);
        }
        let ask = |chain: &Arc<Chain>| chain.judge(&asking);
        self.chain_of(from)
            .and_then(ask)
            .or_else(|| self.chain_of(to.filter(|_| to != from)).and_then(ask))
            .unwrap_or(Judgement::Accept)
    }
}
