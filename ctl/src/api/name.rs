//! Names of networks and sandboxes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Octets of the longest name: a DNS label (RFC 1035 §2.3.4).
const LONGEST: usize = 63;

/// A name: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`. Two names that differ in case only are the same, and
/// no name can be taken for a path.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a name: use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit"
)]
pub struct NameError(String);

impl Name {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as names are compared.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let mut letters = text.chars();
        let starts_well = letters
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric());
        let goes_on =
            letters.all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter));
        if starts_well && goes_on && text.len() <= LONGEST {
            Ok(Name(text.to_owned()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Name, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers_are_names() {
        for good in ["a", "web", "Web-1", "0", "a.b_c-d", &"x".repeat(63)] {
            assert_eq!(
                good.parse::<Name>().map(|name| name.to_string()),
                Ok(good.to_owned())
            );
        }
    }

    #[test]
    fn paths_options_and_the_like_are_not() {
        for bad in [
            "",
            "-x",
            ".",
            "..",
            "a/b",
            "../x",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(64),
        ] {
            assert_eq!(bad.parse::<Name>(), Err(NameError(bad.to_owned())));
        }
    }

    #[test]
    fn case_makes_no_difference() {
        let (a, b): (Name, Name) = ("Web".parse().unwrap(), "wEB".parse().unwrap());
        assert_eq!(a, b);
        assert_eq!(a.cmp(&b), std::cmp::Ordering::Equal);
        assert_eq!(a.as_str(), "Web");
    }
}
