//! The counts of before, which the next ones are held against.

use std::collections::BTreeMap;
use std::{fs, io};

/// Where they are kept: beside the program that counts, in the repository.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

/// Hundredths that a frame may have become dearer before it counts: what moves by less moves with the
/// compiler's mood.
const TOLERANCE: u64 = 10;

/// Instructions a frame, by the name of its kind.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Reads what was recorded.
///
/// # Errors
///
/// The file is not there or holds something else.
pub(crate) fn read() -> io::Result<Counts> {
    Ok(serde_json::from_str(&fs::read_to_string(FILE)?)?)
}

/// Records counts.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn write(counts: &Counts) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(counts)?;
    text.push('\n');
    fs::write(FILE, text)
}

/// How a count stands to its budget and to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the budget.
    Met,
    /// Over the budget, as it was before.
    Over,
    /// Over the budget, and was not before.
    NowOver,
    /// More than the tolerance above the one before.
    Dearer,
    /// Never counted before.
    New,
}

impl Verdict {
    /// Judges a count.
    #[must_use]
    pub(crate) fn of(count: u64, before: Option<u64>, budget: u64) -> Verdict {
        let Some(before) = before else {
            return Verdict::New;
        };
        if count > budget && before <= budget {
            Verdict::NowOver
        } else if count * 100 > before * (100 + TOLERANCE) {
            Verdict::Dearer
        } else if count > budget {
            Verdict::Over
        } else {
            Verdict::Met
        }
    }

    /// Whether this must not go into the repository as it is.
    #[must_use]
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Verdict::NowOver | Verdict::Dearer | Verdict::New)
    }

    /// In a word or two.
    #[must_use]
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Verdict::Met => "ok",
            Verdict::Over => "over, as before",
            Verdict::NowOver => "**over**",
            Verdict::Dearer => "**dearer**",
            Verdict::New => "**not recorded**",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn a_count_is_held_against_budget_and_past() {
        let of = |count, before| Verdict::of(count, before, 300);
        assert_eq!(of(300, Some(300)), Verdict::Met);
        assert_eq!(of(110, Some(100)), Verdict::Met);
        assert_eq!(of(111, Some(100)), Verdict::Dearer);
        assert_eq!(of(301, Some(300)), Verdict::NowOver);
        assert_eq!(of(320, Some(310)), Verdict::Over);
        assert_eq!(of(342, Some(310)), Verdict::Dearer);
        assert_eq!(of(1, None), Verdict::New);
    }

    #[test]
    fn what_is_worse_than_before_fails() {
        let failures = [Verdict::NowOver, Verdict::Dearer, Verdict::New];
        for verdict in [Verdict::Met, Verdict::Over].into_iter().chain(failures) {
            assert_eq!(
                verdict.is_failure(),
                failures.contains(&verdict),
                "{verdict:?}"
            );
        }
    }
}
