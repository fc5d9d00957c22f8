//! What a probe finds.

use serde::Serialize;

use crate::problem::Problem;

/// Whether a translator behaves as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It does.
    Pass(String),
    /// It does not: this was seen instead.
    Fail(String),
    /// The question does not arise, or cannot be answered.
    NotApplicable(String),
}

/// What a probe comes to.
pub(crate) type Outcome = Result<Verdict, Problem>;

/// As it should be.
pub(super) fn pass() -> Outcome {
    Ok(Verdict::Pass(String::new()))
}

/// As it should be, and how exactly.
pub(super) fn pass_as(detail: impl Into<String>) -> Outcome {
    Ok(Verdict::Pass(detail.into()))
}

/// Not as it should be.
pub(super) fn fail(seen: impl Into<String>) -> Outcome {
    Ok(Verdict::Fail(seen.into()))
}

/// Passes if it holds.
pub(super) fn require(holds: bool, otherwise: &str) -> Outcome {
    if holds { pass() } else { fail(otherwise) }
}

impl Verdict {
    /// One word for a table.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Verdict::Pass(_) => "pass",
            Verdict::Fail(_) => "FAIL",
            Verdict::NotApplicable(_) => "n.a.",
        }
    }

    /// The rest, which may be nothing.
    pub(super) fn detail(&self) -> &str {
        match self {
            Verdict::Pass(detail) | Verdict::Fail(detail) | Verdict::NotApplicable(detail) => {
                detail
            }
        }
    }
}
