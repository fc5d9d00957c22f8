//! A match and its opposite.

use std::fmt;
use std::str::FromStr;

/// What is asked for; with a `!` in front, everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<T> {
    /// Everything else.
    pub negated: bool,
    /// What is named.
    pub set: T,
}

impl<T: FromStr> FromStr for Match<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Match<T>, T::Err> {
        let stripped = text.trim().strip_prefix('!');
        Ok(Match {
            negated: stripped.is_some(),
            set: stripped.unwrap_or(text).trim().parse()?,
        })
    }
}

impl<T: fmt::Display> fmt::Display for Match<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negated { "!" } else { "" };
        write!(formatter, "{sign}{}", self.set)
    }
}
