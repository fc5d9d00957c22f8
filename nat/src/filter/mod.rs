//! The filter engine: ordered rules, compiled, asked for every packet that they are about.
//!
//! In the order a packet meets them:
//!
//! 1. [`Question`] — the packet as rules see it: after the translation of its destination and before that
//!    of its source, which are the addresses that both ends have inside.
//! 2. [`RuleSet`] — everybody's chain, then that of the network it comes from, then that of the network it
//!    goes to. The first final verdict stands; nobody's verdict is to accept.
//! 3. [`Chain`] — finds the first rule that matches, at a cost that does not depend on how many there are.
//! 4. [`Meter`] — what a rule has counted, and the tokens of its [`Limit`]: the only parts that move.
//! 5. [`Log`] — what logged rules tell the control plane.
//!
//! A rule set is part of the configuration, immutable and replaced whole. Meters are shared between the
//! sets before and after, so a rule that stays goes on counting. Time is an argument, and so is the number
//! of the worker that asks.

mod axis;
mod chain;
mod interface;
mod log;
mod matches;
mod meter;
mod question;
mod ranges;
mod rows;
mod set;

pub use chain::{Chain, ChainError, MAX_PIECES, MAX_RULES};
pub use interface::{Interface, Interfaces, NetworkNumber};
pub use log::{Log, Logged};
pub use matches::{IcmpKinds, Matches, Negatable, Protocols, Scope, States};
pub use meter::{Limit, Meter};
pub use question::{Area, Packets, Question, State};
pub use ranges::Ranges;
pub use set::{Judgement, RuleSet};

use std::sync::Arc;

/// Number of a rule, by which the control plane knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Nothing listens there (ICMP 3/3, ICMPv6 1/4).
    PortUnreachable,
    /// Not permitted (ICMP 3/13, ICMPv6 1/1).
    Prohibited,
    /// TCP RST; anything but TCP gets [`Rejection::PortUnreachable`].
    Reset,
}

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Lets it pass; no other rule is asked.
    Accept,
    /// Ends it in silence.
    Drop,
    /// Ends it and tells the sender.
    Reject(Rejection),
    /// Leaves this chain; the next one is asked.
    Return,
    /// Counts it; the next rule is asked.
    Count,
    /// Counts it and tells the control plane of one in so many; the next rule is asked.
    Log {
        /// One in how many, by each worker; zero is taken for one.
        sample: u32,
    },
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number.
    pub id: RuleId,
    /// What it is about.
    pub matches: Matches,
    /// How often it may match.
    pub limit: Option<Limit>,
    /// What it does.
    pub verdict: Verdict,
    /// What it has counted.
    pub meter: Arc<Meter>,
}

#[cfg(test)]
mod tests;
