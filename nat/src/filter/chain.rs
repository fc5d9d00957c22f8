//! A chain: rules in order, and the first that matches found without looking at each.
//!
//! Each property that some rule asks for is an [axis](super::axis): it leads to the set of rules that are
//! satisfied there. The rules that match are those in all of these sets, and the first is the lowest bit
//! (the bit vectors of Lakshman and Stiliadis, 1998, with summaries in front). Properties that nobody asks for
//! cost nothing.

use heddle_mem::Instant;
use heddle_wire::Family;
use thiserror::Error;

use super::axis::{AddressAxis, Asked, InterfaceAxis, NumberAxis, ProtocolAxis};
use super::log::{Log, Logged};
use super::matches::{Negatable, Scope};
use super::question::{Area, Packets, Question, State};
use super::rows::{Bits, Row, RowId, Rows, RowsBuilder, WORD, WORDS};
use super::set::Judgement;
use super::{Rule, Verdict};
use crate::tuple::Direction;

/// Rules of one chain, bounded so that its memory is.
pub const MAX_RULES: usize = WORD * WORDS;

/// Ranges and names in all rules of one chain, bounded so that it takes a few megabytes if every rule differs
/// from every other in everything.
pub const MAX_PIECES: usize = 8192;

/// Axes at most.
const AXES: usize = 10;

/// Why rules are no chain.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChainError {
    /// More than [`MAX_RULES`].
    #[error("{0} rules; a chain has up to {MAX_RULES}")]
    TooManyRules(usize),
    /// More than [`MAX_PIECES`].
    #[error("{0} addresses, ports and names in all rules; a chain has up to {MAX_PIECES}")]
    TooManyPieces(usize),
}

/// A compiled chain.
#[derive(Debug)]
pub struct Chain {
    rules: Vec<Rule>,
    standing: StandingAxis,
    source: Option<AddressAxis>,
    destination: Option<AddressAxis>,
    original_destination: Option<AddressAxis>,
    original_port: Option<NumberAxis>,
    protocol: Option<ProtocolAxis>,
    source_port: Option<NumberAxis>,
    destination_port: Option<NumberAxis>,
    icmp: Option<NumberAxis>,
    ingress: Option<InterfaceAxis>,
    egress: Option<InterfaceAxis>,
    /// Whether some rule is about traffic between networks, and about traffic inside one.
    scopes: [bool; 2],
    asks_for_invalid: bool,
}

/// What is being done with a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) question: &'a Question,
    pub(super) worker: usize,
    pub(super) now: Instant,
    pub(super) log: &'a Log,
    /// Whether counters and tokens move.
    pub(super) counts: bool,
}

impl Chain {
    /// Compiles rules.
    ///
    /// # Errors
    ///
    /// [`ChainError`]
    pub fn new(rules: Vec<Rule>) -> Result<Chain, ChainError> {
        if rules.len() > MAX_RULES {
            return Err(ChainError::TooManyRules(rules.len()));
        }
        let pieces = rules.iter().map(|rule| rule.matches.pieces()).sum();
        if pieces > MAX_PIECES {
            return Err(ChainError::TooManyPieces(pieces));
        }
        let asks_for = |scope| rules.iter().any(|rule| rule.matches.scope == scope);
        let invalid = |rule: &Rule| {
            let states = rule.matches.states.as_ref();
            states.is_some_and(|asks| asks.set.contains(State::Invalid) != asks.negated)
        };
        Ok(Chain {
            standing: StandingAxis::new(&rules),
            source: AddressAxis::new(&asked(&rules, |rule| rule.matches.source.as_ref())),
            destination: AddressAxis::new(&asked(&rules, |rule| rule.matches.destination.as_ref())),
            original_destination: AddressAxis::new(&asked(&rules, |rule| {
                rule.matches.original_destination.as_ref()
            })),
            original_port: NumberAxis::new(&asked(&rules, |rule| {
                rule.matches.original_port.as_ref()
            })),
            protocol: ProtocolAxis::new(&asked(&rules, |rule| rule.matches.protocol.as_ref())),
            source_port: NumberAxis::new(&asked(&rules, |rule| rule.matches.source_port.as_ref())),
            destination_port: NumberAxis::new(&asked(&rules, |rule| {
                rule.matches.destination_port.as_ref()
            })),
            icmp: NumberAxis::new(&asked(&rules, |rule| rule.matches.icmp.as_ref())),
            ingress: InterfaceAxis::new(&asked(&rules, |rule| rule.matches.ingress.as_ref())),
            egress: InterfaceAxis::new(&asked(&rules, |rule| rule.matches.egress.as_ref())),
            scopes: [asks_for(Scope::Routed), asks_for(Scope::Inside)],
            asks_for_invalid: rules.iter().any(invalid),
            rules,
        })
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether some rule can match packets whose way lies there.
    #[inline]
    #[must_use]
    pub fn is_about(&self, area: Area) -> bool {
        let [routed, inside] = self.scopes;
        match area {
            Area::Routed => routed,
            Area::Inside => inside,
            Area::Hairpin => routed || inside,
        }
    }

    /// Whether a rule tells invalid packets from others.
    pub(super) fn asks_for_invalid(&self) -> bool {
        self.asks_for_invalid
    }

    /// Octets of memory besides the rules.
    #[must_use]
    pub fn memory(&self) -> usize {
        let addresses = [&self.source, &self.destination, &self.original_destination];
        let numbers = [
            &self.original_port,
            &self.source_port,
            &self.destination_port,
            &self.icmp,
        ];
        let interfaces = [&self.ingress, &self.egress];
        self.standing.rows.memory()
            + (self.protocol.as_ref()).map_or(0, ProtocolAxis::memory)
            + addresses
                .into_iter()
                .flatten()
                .map(AddressAxis::memory)
                .sum::<usize>()
            + numbers
                .into_iter()
                .flatten()
                .map(NumberAxis::memory)
                .sum::<usize>()
            + interfaces
                .into_iter()
                .flatten()
                .map(InterfaceAxis::memory)
                .sum::<usize>()
    }

    /// What the first rule with a final verdict says; `None` if none does, or one says to return.
    pub(super) fn judge(&self, asking: &Asking<'_>) -> Option<Judgement> {
        let mut found = Found::new(self.standing.row(asking.question));
        self.find(asking.question, &mut found);
        let summary = found.summary;
        if summary & summary.wrapping_sub(1) == 0 {
            if summary == 0 {
                return None;
            }
            let word = summary.trailing_zeros() as usize;
            return self
                .apply_all(word, found.word(word), asking)
                .unwrap_or(None);
        }
        // Where the summaries have not told enough, all words at once cost less than each by itself.
        let words = found.words();
        for (word, &rules) in words.iter().enumerate() {
            if rules != 0
                && let Some(end) = self.apply_all(word, rules, asking)
            {
                return end;
            }
        }
        None
    }

    /// Does what the rules of a word say, in order. `None` if the next word is to be looked at.
    #[inline]
    fn apply_all(
        &self,
        word: usize,
        mut rules: u64,
        asking: &Asking<'_>,
    ) -> Option<Option<Judgement>> {
        while rules != 0 {
            let rule = &self.rules[word * WORD + rules.trailing_zeros() as usize];
            if let Some(end) = apply(rule, asking) {
                return Some(end);
            }
            rules &= rules - 1;
        }
        None
    }

    /// Puts together the sets of rules that the properties of a packet satisfy.
    #[inline]
    fn find<'c>(&'c self, question: &Question, found: &mut Found<'c>) {
        if let Some(axis) = &self.source {
            found.add(axis.row(Some(question.source)));
        }
        if let Some(axis) = &self.destination {
            found.add(axis.row(Some(question.destination)));
        }
        if let Some(axis) = &self.protocol {
            found.add(axis.row(question.protocol));
        }
        let (source_port, destination_port, icmp) = match question.packet {
            Packets::Ports(source, destination) => (Some(source), Some(destination), None),
            Packets::Icmp(kind, code) => (None, None, Some(u16::from_be_bytes([kind, code]))),
            Packets::Nothing => (None, None, None),
        };
        if let Some(axis) = &self.destination_port {
            found.add(axis.row(destination_port));
        }
        if let Some(axis) = &self.source_port {
            found.add(axis.row(source_port));
        }
        if let Some(axis) = &self.icmp {
            found.add(axis.row(icmp));
        }
        if let Some(axis) = &self.ingress {
            found.add(axis.row(question.ingress));
        }
        if let Some(axis) = &self.egress {
            found.add(axis.row(question.egress));
        }
        if let Some(axis) = &self.original_destination {
            found.add(axis.row(question.original.map(|(address, _)| address)));
        }
        if let Some(axis) = &self.original_port {
            found.add(axis.row(question.original.map(|(_, port)| port)));
        }
    }
}

/// What each rule asks of one property.
fn asked<'r, T>(
    rules: &'r [Rule],
    of: impl Fn(&'r Rule) -> Option<&'r Negatable<T>>,
) -> Asked<'r, T> {
    rules.iter().map(of).collect()
}

/// Does what a rule that matches says. `None` if the next rule is to be asked; else the end of the chain.
#[inline]
fn apply(rule: &Rule, asking: &Asking<'_>) -> Option<Option<Judgement>> {
    let Asking {
        question,
        worker,
        now,
        log,
        counts,
    } = *asking;
    let permitted = |limit| rule.meter.permits(limit, now, counts);
    if !rule.limit.is_none_or(permitted) {
        return None;
    }
    if counts {
        rule.meter.count(worker, question.len);
    }
    match rule.verdict {
        Verdict::Accept => Some(Some(Judgement::Accept)),
        Verdict::Drop => Some(Some(Judgement::Drop)),
        Verdict::Reject(how) => Some(Some(Judgement::Reject(how))),
        Verdict::Return => Some(None),
        Verdict::Count => None,
        Verdict::Log { sample } => {
            if counts && rule.meter.is_sampled(worker, sample) {
                log.tell(Logged {
                    rule: rule.id,
                    question: *question,
                    at: now,
                });
            }
            None
        }
    }
}

/// The rows of a packet.
struct Found<'c> {
    rows: [&'c Row; AXES + 1],
    len: usize,
    /// The words in which a rule may be that is in all rows.
    summary: u64,
}

impl<'c> Found<'c> {
    #[inline]
    fn new(row: &'c Row) -> Found<'c> {
        Found {
            rows: [row; AXES + 1],
            len: 1,
            summary: row[0],
        }
    }

    #[inline]
    fn add(&mut self, row: &'c Row) {
        self.rows[self.len] = row;
        self.len += 1;
        self.summary &= row[0];
    }

    /// The rules of a word that are in all rows.
    #[inline]
    fn word(&self, word: usize) -> u64 {
        let rows = self.rows[..self.len].iter();
        rows.fold(u64::MAX, |rules, row| rules & row[word % WORDS + 1])
    }

    /// The same for all words.
    #[inline]
    fn words(&self) -> [u64; WORDS] {
        let mut words = [u64::MAX; WORDS];
        for [_, row @ ..] in &self.rows[..self.len] {
            for (rules, word) in words.iter_mut().zip(row) {
                *rules &= word;
            }
        }
        words
    }
}

/// What has few values, together: state, direction, area and family.
#[derive(Debug)]
struct StandingAxis {
    rows: Rows,
    by_standing: [RowId; STANDINGS],
}

const STANDINGS: usize = State::ALL.len() * Direction::BOTH.len() * Area::ALL.len() * 2;

fn standing(state: State, direction: Direction, area: Area, is_v4: bool) -> usize {
    let place = state.index() * Direction::BOTH.len() + direction.index();
    (place * Area::ALL.len() + area.index()) * 2 + usize::from(is_v4)
}

impl StandingAxis {
    fn new(rules: &[Rule]) -> StandingAxis {
        let mut rows = RowsBuilder::new();
        let mut by_standing = [rows.row(&Bits::new(rules.len())); STANDINGS];
        for state in State::ALL {
            for direction in Direction::BOTH {
                for area in Area::ALL {
                    for is_v4 in [false, true] {
                        let mut bits = Bits::new(rules.len());
                        for (number, rule) in rules.iter().enumerate() {
                            let family = if is_v4 { Family::V4 } else { Family::V6 };
                            let asks = &rule.matches;
                            let is_true = area.is_of(asks.scope)
                                && asks.family.is_none_or(|asked| asked == family)
                                && asks.direction.is_none_or(|asked| asked == direction)
                                && asks
                                    .states
                                    .as_ref()
                                    .is_none_or(|Negatable { negated, set }| {
                                        set.contains(state) != *negated
                                    });
                            bits.set(number, is_true);
                        }
                        by_standing[standing(state, direction, area, is_v4)] = rows.row(&bits);
                    }
                }
            }
        }
        StandingAxis {
            rows: rows.finish(),
            by_standing,
        }
    }

    #[inline]
    fn row(&self, question: &Question) -> &Row {
        let is_v4 = question.source.is_ipv4();
        let standing = standing(question.state, question.direction, question.area, is_v4);
        self.rows.get(self.by_standing[standing])
    }
}
