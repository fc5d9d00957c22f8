//! Session states by name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// How a packet stands to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// It begins one, or nobody has answered yet.
    New,
    /// Both sides have spoken.
    Established,
    /// An ICMP error about a packet of one.
    Related,
    /// It belongs to none and can begin none.
    Invalid,
}

/// A set of states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateList(pub Vec<StateName>);

/// Why a text is no set of states.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StateListError {
    /// What conntrack has besides.
    #[error("{0:?} is no state here; what rules see is new, established, related or invalid{1}")]
    Elsewhere(String, &'static str),
    /// Anything else.
    #[error("{0:?} is no state; use new, established, related and invalid, several with commas")]
    Unknown(String),
}

impl FromStr for StateList {
    type Err = StateListError;

    fn from_str(text: &str) -> Result<StateList, StateListError> {
        let states = text.split(',').map(|part| {
            let part = part.trim();
            match part.to_ascii_lowercase().as_str() {
                "new" => Ok(StateName::New),
                "established" => Ok(StateName::Established),
                "related" => Ok(StateName::Related),
                "invalid" => Ok(StateName::Invalid),
                "untracked" => Err((part, " (what is not tracked is new)")),
                "dnat" => Err((part, " (for published ports ask for --ctorigdstport)")),
                "snat" => Err((part, " (for what leaves ask for -o uplink)")),
                _ => Err((part, "")),
            }
            .map_err(|(part, hint)| match hint {
                "" => StateListError::Unknown(part.to_owned()),
                hint => StateListError::Elsewhere(part.to_owned(), hint),
            })
        });
        states.collect::<Result<_, _>>().map(StateList)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            StateName::New => "new",
            StateName::Established => "established",
            StateName::Related => "related",
            StateName::Invalid => "invalid",
        })
    }
}

impl fmt::Display for StateList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::spelling::join(formatter, &self.0)
    }
}
