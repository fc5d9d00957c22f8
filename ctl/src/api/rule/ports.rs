//! Sets of ports.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A set of ports: first and last of each range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<(u16, u16)>);

/// Why a text is no set of ports.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no port; write PORT or FIRST-LAST (or FIRST:LAST), several with commas, as numbers"
)]
pub struct PortListError(String);

impl FromStr for PortList {
    type Err = PortListError;

    fn from_str(text: &str) -> Result<PortList, PortListError> {
        let ranges = text.split(',').map(|part| {
            let part = part.trim();
            range(part).ok_or_else(|| PortListError(part.to_owned()))
        });
        ranges.collect::<Result<_, _>>().map(PortList)
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once([':', '-']) {
        None => (text, text),
        // As iptables has it, one end may be left out.
        Some((first, last)) if !(first.is_empty() && last.is_empty()) => (
            if first.is_empty() { "0" } else { first },
            if last.is_empty() { "65535" } else { last },
        ),
        Some(_) => return None,
    };
    let number = |text: &str| {
        let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let range: (u16, u16) = (number(first.trim())?, number(last.trim())?);
    (range.0 <= range.1).then_some(range)
}

impl fmt::Display for PortList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.iter().map(|&(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        });
        super::spelling::join(formatter, &ranges.collect::<Vec<_>>())
    }
}
