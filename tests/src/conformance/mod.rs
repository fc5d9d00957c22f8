//! What heddle promises, which test shows each promise, and the page that says so.
//!
//! [`REQUIREMENTS`] is the one list: a sentence of ours for each requirement of an RFC or a standard that
//! concerns a NAT, a router or a bridge, and the tests that show it. Three things are made of it:
//!
//! 1. `cargo test` ([`check`]) holds the list against the sources: every named test exists, every
//!    promise has one, in the families that it is about, and `docs/conformance.md` is its page.
//! 2. `cargo run -p heddle-tests --bin conformance` runs the tests ([`run`]) and writes the page.
//! 3. The same with `--check` fails if the page would change, which it does if a test fails.
//!
//! Tests are named by where they are: `lab_nat_udp::…` and `kernel::nat::…` below `tests/tests`,
//! `nat::ports::tests::…` in a room's own source.

mod bridge;
mod check;
mod icmp;
mod page;
mod router;
pub mod run;
mod sources;
mod tcp;
mod udp;

pub use check::faults;
pub use page::{PAGE, render};
pub use run::{Outcome, Outcomes};
pub use sources::{Families, Sources, Test};

/// A requirement, and how heddle stands to it.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    /// A short name of its own, for people to refer to.
    pub id: &'static str,
    /// Where it is from: the document, the section, its number there.
    pub source: &'static str,
    /// What is promised, in our words.
    pub promise: &'static str,
    /// The families that it is about.
    pub families: Families,
    /// Whether the promise is kept.
    pub standing: Standing,
    /// The tests that show it; of a departure, those that show what happens instead.
    pub tests: &'static [&'static str],
}

/// Whether a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As the document wants it.
    Kept,
    /// Not, or otherwise, for a reason and by a decision in `docs/adr`.
    Departs {
        /// In a sentence.
        reason: &'static str,
        /// The name of the decision's file.
        decision: &'static str,
    },
}

/// Requirements about one thing.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    /// What they are about.
    pub title: &'static str,
    /// In the order of the documents.
    pub requirements: &'static [Requirement],
}

/// All requirements.
pub const REQUIREMENTS: [Chapter; 5] = [
    udp::CHAPTER,
    tcp::CHAPTER,
    icmp::CHAPTER,
    router::CHAPTER,
    bridge::CHAPTER,
];

/// All requirements, one after the other.
pub fn requirements() -> impl Iterator<Item = &'static Requirement> {
    REQUIREMENTS.iter().flat_map(|chapter| chapter.requirements)
}

impl Requirement {
    /// A requirement about both families, which is kept; if nothing else is said.
    const fn new(
        id: &'static str,
        source: &'static str,
        promise: &'static str,
        tests: &'static [&'static str],
    ) -> Requirement {
        Requirement {
            id,
            source,
            promise,
            families: Families::BOTH,
            standing: Standing::Kept,
            tests,
        }
    }

    /// The same about one family, or none.
    const fn of(self, families: Families) -> Requirement {
        Requirement { families, ..self }
    }

    /// The same where heddle does otherwise.
    const fn departs(self, reason: &'static str, decision: &'static str) -> Requirement {
        let standing = Standing::Departs { reason, decision };
        Requirement { standing, ..self }
    }
}
