//! How often: `N/second`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// So many in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// The highest rate: more often than this, a limit limits nothing.
const HIGHEST: u32 = 1_000_000;

/// Why a text is no rate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no rate; write N/second, N/minute, N/hour or N/day, with N from 1 to 1000000")]
pub struct RateError(String);

impl Rate {
    /// The time between two.
    #[must_use]
    pub fn interval(self) -> Duration {
        let unit = match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
        };
        Duration::from_secs(unit) / self.count
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let bad = || RateError(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(bad)?;
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=HIGHEST).contains(count));
        let names = [
            ("second", Unit::Second),
            ("minute", Unit::Minute),
            ("hour", Unit::Hour),
            ("day", Unit::Day),
        ];
        let folded = unit.to_ascii_lowercase();
        // As in iptables: s, sec, second.
        let unit = names
            .iter()
            .find(|(name, _)| !folded.is_empty() && name.starts_with(&*folded));
        Ok(Rate {
            count: count.ok_or_else(bad)?,
            unit: unit.ok_or_else(bad)?.1,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
        };
        write!(formatter, "{}/{unit}", self.count)
    }
}
