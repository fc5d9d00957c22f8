//! Any bytes as the body of each request and answer of the API, and as each text that it reads.
//!
//! What is accepted says the same when it is written and read again; what is refused is refused with
//! a sentence. So a client and a daemon that pass a value on cannot come to disagree about it.

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use heddle::api::{
    AddressList, ApiError, AttachRequest, CreateNetwork, DropCount, Endpoint, EndpointKind, Flow,
    IcmpKind, Match, Name, Neighbour, Network, Place, Plan, PortList, PortSpec, ProtocolName,
    PublishRequest, PublishedPort, Rate, Route, Rule, RuleLog, ShutdownRequest, StartRequest,
    StateList, Station, Statistics, Status, UplinkSpec,
};
use heddle_wire::{Address, MacAddr};
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Letters of the longest name.
const LONGEST_NAME: usize = 63;

/// Which of the readers took the bytes, by name.
pub type Accepted = Vec<&'static str>;

/// Reads the bytes as everything that the API reads.
///
/// # Panics
///
/// If something that was accepted does not survive being written and read again, or breaks the
/// promises of its type.
pub fn api(data: &[u8]) -> Accepted {
    let mut accepted = bodies(data);
    if let Ok(text) = std::str::from_utf8(data) {
        accepted.extend(texts(text));
    }
    accepted
}

fn bodies(data: &[u8]) -> Accepted {
    let requests = [
        ("create-network", body::<CreateNetwork>(data)),
        ("attach", body::<AttachRequest>(data)),
        ("start", body::<StartRequest>(data)),
        ("publish", body::<PublishRequest>(data)),
        ("shutdown", body::<ShutdownRequest>(data)),
        ("rule", body::<Rule>(data)),
        ("rules", body::<Vec<Rule>>(data)),
    ];
    let answers = [
        ("error", body::<ApiError>(data)),
        ("network", body::<Network>(data)),
        ("endpoint", body::<Endpoint>(data)),
        ("plan", body::<Plan>(data)),
        ("port", body::<PublishedPort>(data)),
        ("status", body::<Status>(data)),
        ("flow", body::<Flow>(data)),
        ("station", body::<Station>(data)),
        ("neighbour", body::<Neighbour>(data)),
        ("route", body::<Route>(data)),
        ("statistics", body::<Statistics>(data)),
        ("drop", body::<DropCount>(data)),
        ("rule-log", body::<RuleLog>(data)),
    ];
    let all = requests.into_iter().chain(answers);
    all.filter_map(|(name, taken)| taken.then_some(name))
        .collect()
}

/// Whether the bytes are a `T`.
fn body<T: Serialize + DeserializeOwned + Debug>(data: &[u8]) -> bool {
    let read = match serde_json::from_slice::<T>(data) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error without a sentence");
            return false;
        }
    };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written)
        .unwrap_or_else(|error| panic!("{read:?} is written as what is refused: {error}"));
    // Not by `==`: names that differ in case are equal, but must not change.
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
    true
}

fn texts(given: &str) -> Accepted {
    let name = text::<Name>(given, |name| {
        let letters = name.as_str();
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        assert!((1..=LONGEST_NAME).contains(&letters.len()), "{letters:?}");
        assert!(letters.chars().all(is_letter), "{letters:?}");
        assert!(!letters.starts_with(['.', '-', '_']), "{letters:?}");
        assert_eq!(letters, given);
    });
    let port = text::<PortSpec>(given, |spec| {
        let ends_within = |first: u16| u32::from(first) + u32::from(spec.count) <= 1 << 16;
        assert!(
            spec.port != 0 && spec.count != 0 && ends_within(spec.port),
            "{spec:?}"
        );
        assert!(
            spec.host_port
                .is_none_or(|first| first != 0 && ends_within(first)),
            "{spec:?}"
        );
    });
    let uplink = text::<UplinkSpec>(given, |spec| match spec {
        UplinkSpec::None => {}
        UplinkSpec::Netns(path) => assert!(path.is_absolute(), "{path:?}"),
        UplinkSpec::Packet(name) => {
            assert!(
                (1..=15).contains(&name.len()) && !name.contains('/'),
                "{name:?}"
            );
        }
    });
    let all = [
        ("name", name),
        ("port-spec", port),
        ("uplink", uplink),
        ("kind", text::<EndpointKind>(given, |_| {})),
        ("prefix", text::<IpNet>(given, |_| {})),
        ("ip-address", text::<IpAddr>(given, |_| {})),
        ("address", text::<Address>(given, |_| {})),
        ("mac", text::<MacAddr>(given, |_| {})),
        ("addresses", text::<Match<AddressList>>(given, |_| {})),
        ("ports", text::<Match<PortList>>(given, |_| {})),
        ("protocol", text::<Match<ProtocolName>>(given, |_| {})),
        ("icmp-type", text::<Match<IcmpKind>>(given, |_| {})),
        ("states", text::<Match<StateList>>(given, |_| {})),
        ("place", text::<Match<Place>>(given, |_| {})),
        ("rate", text::<Rate>(given, |_| {})),
    ];
    all.into_iter()
        .filter_map(|(name, taken)| taken.then_some(name))
        .collect()
}

/// Whether the text is a `T`, of which `promise` asserts what every `T` promises.
fn text<T>(given: &str, promise: impl Fn(&T)) -> bool
where
    T: FromStr<Err: Display> + Display + Debug,
{
    let read: T = match given.parse() {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error without a sentence");
            return false;
        }
    };
    promise(&read);
    let written = read.to_string();
    let Ok(again) = written.parse::<T>() else {
        panic!("{given:?} is written as {written:?}, which is refused");
    };
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
    assert_eq!(written, again.to_string());
    true
}
