//! Where packets come in and go out, by name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::api::{Name, UplinkSpec};

/// A place by name. A bare name is looked up once, when the rule is made; what it was then, it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name, of what is not said.
    Bare(String),
    /// All endpoints of a network.
    Network(Name),
    /// A sandbox, in one network or in all.
    Endpoint(Option<Name>, Name),
    /// A way out, or every one.
    Uplink(Option<UplinkSpec>),
}

/// Why a text is no place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{text:?} {problem}; name a network, a sandbox or an uplink (network:N, endpoint:[N/]SANDBOX, \
     uplink[:packet:IFACE|:netns:PATH])"
)]
pub struct PlaceError {
    text: String,
    problem: String,
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Place, PlaceError> {
        let bad = |problem: String| PlaceError {
            text: text.to_owned(),
            problem,
        };
        let name = |text: &str| {
            text.parse::<Name>()
                .map_err(|error| bad(format!("is no place: {error}")))
        };
        if text.is_empty() {
            return Err(bad("is no place".to_owned()));
        }
        if text.ends_with('+') {
            let problem = "is a pattern, and a rule names one place";
            return Err(bad(problem.to_owned()));
        }
        match text.split_once(':') {
            Some(("network", network)) => name(network).map(Place::Network),
            Some(("endpoint", endpoint)) => match endpoint.split_once('/') {
                None => name(endpoint).map(|sandbox| Place::Endpoint(None, sandbox)),
                Some((network, sandbox)) => {
                    Ok(Place::Endpoint(Some(name(network)?), name(sandbox)?))
                }
            },
            Some(("uplink", "any")) => Ok(Place::Uplink(None)),
            Some(("uplink", kind)) => uplink(kind).map(Some).map(Place::Uplink).map_err(bad),
            Some(("netns" | "packet", _)) => uplink(text).map(Some).map(Place::Uplink).map_err(bad),
            _ => Ok(Place::Bare(text.to_owned())),
        }
    }
}

fn uplink(text: &str) -> Result<UplinkSpec, String> {
    match text.parse() {
        Ok(UplinkSpec::None) => Err("is no way out".to_owned()),
        Ok(kind) => Ok(kind),
        Err(error) => Err(format!("is no place: {error}")),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Bare(name) => formatter.write_str(name),
            Place::Network(network) => write!(formatter, "network:{network}"),
            Place::Endpoint(None, sandbox) => write!(formatter, "endpoint:{sandbox}"),
            Place::Endpoint(Some(network), sandbox) => {
                write!(formatter, "endpoint:{network}/{sandbox}")
            }
            Place::Uplink(None) => formatter.write_str("uplink:any"),
            Place::Uplink(Some(kind)) => write!(formatter, "uplink:{kind}"),
        }
    }
}
