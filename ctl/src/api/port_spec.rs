//! Published ports: `[HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp]`, as in `docker run -p`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::name::Name;

/// Protocols that have ports here.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            PortProtocol::Tcp => "tcp",
            PortProtocol::Udp => "udp",
        })
    }
}

/// A port, or a range of ports, to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortSpec {
    /// Outside address; all of the uplink if absent.
    pub host_ip: Option<IpAddr>,
    /// First outside port; any free one if absent.
    pub host_port: Option<u16>,
    /// First inside port.
    pub port: u16,
    /// How many ports.
    pub count: u16,
    /// Protocol.
    pub protocol: PortProtocol,
}

/// Why a text is no port specification.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{spec:?} is not a port: {problem}; use [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp]")]
pub struct PortSpecError {
    spec: String,
    problem: &'static str,
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(spec: &str) -> Result<PortSpec, PortSpecError> {
        parse(spec).map_err(|problem| PortSpecError {
            spec: spec.to_owned(),
            problem,
        })
    }
}

fn parse(spec: &str) -> Result<PortSpec, &'static str> {
    let (ports, protocol) = match spec.split_once('/') {
        None => (spec, PortProtocol::Tcp),
        Some((ports, "tcp")) => (ports, PortProtocol::Tcp),
        Some((ports, "udp")) => (ports, PortProtocol::Udp),
        Some(_) => return Err("the protocol is neither tcp nor udp"),
    };
    let (before, inside) = match ports.rsplit_once(':') {
        Some((before, inside)) => (Some(before), inside),
        None => (None, ports),
    };
    let (port, count) = range(inside)?;
    let (host_ip, host) = match before {
        None => (None, None),
        Some(before) => split_host(before)?,
    };
    let host_port = match host {
        None | Some("") => None,
        Some(host) => {
            let (host_port, host_count) = host_range(host)?;
            if host_count != count {
                return Err("the two ranges differ in length");
            }
            host_port
        }
    };
    Ok(PortSpec {
        host_ip,
        host_port,
        port,
        count,
        protocol,
    })
}

/// What stands before the inside port: an address, a port, or both.
fn split_host(text: &str) -> Result<(Option<IpAddr>, Option<&str>), &'static str> {
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        match rest.strip_prefix(':') {
            Some(port) => (Some(address), Some(port)),
            None if rest.is_empty() => (Some(address), None),
            None => return Err("there is something between bracket and colon"),
        }
    } else if let Some((address, port)) = text.rsplit_once(':') {
        if address.contains(':') {
            return Err("an IPv6 address goes in brackets");
        }
        (Some(address), Some(port))
    } else if text.contains('.') {
        (Some(text), None)
    } else {
        (None, Some(text))
    };
    let address = address
        .map(|address| {
            address
                .parse()
                .map_err(|_| "the host address is not an IP address")
        })
        .transpose()?;
    Ok((address, port))
}

/// A port or a range of ports, as first port and length.
fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let number = |text: &str| -> Result<u16, &'static str> {
        if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err("a port is a number");
        }
        text.parse().map_err(|_| "a port is at most 65535")
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first == 0 {
        return Err("port 0 does not exist inside");
    }
    if last < first {
        return Err("the range ends before it begins");
    }
    Ok((
        first,
        (last - first)
            .checked_add(1)
            .ok_or("a range has at most 65535 ports")?,
    ))
}

/// The same outside, where port 0 stands for any free one.
fn host_range(text: &str) -> Result<(Option<u16>, u16), &'static str> {
    if text == "0" {
        return Ok((None, 1));
    }
    let (first, count) = range(text)?;
    Ok((Some(first), count))
}

impl fmt::Display for PortSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(address)) => write!(formatter, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(formatter, "{address}:")?,
            None => {}
        }
        match self.host_port {
            Some(first) => write!(formatter, "{}:", Range(first, self.count))?,
            None if self.host_ip.is_some() => formatter.write_str(":")?,
            None => {}
        }
        write!(
            formatter,
            "{}/{}",
            Range(self.port, self.count),
            self.protocol
        )
    }
}

/// Writes `first` or `first-last`.
struct Range(u16, u16);

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range(first, count) = *self;
        match count {
            0 | 1 => write!(formatter, "{first}"),
            _ => write!(
                formatter,
                "{first}-{}",
                u32::from(first) + u32::from(count) - 1
            ),
        }
    }
}

impl TryFrom<String> for PortSpec {
    type Error = PortSpecError;

    fn try_from(text: String) -> Result<PortSpec, PortSpecError> {
        text.parse()
    }
}

impl From<PortSpec> for String {
    fn from(spec: PortSpec) -> String {
        spec.to_string()
    }
}

/// A port to be published on an endpoint that exists.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The port.
    #[schema(value_type = String, example = "8080:80/tcp")]
    pub spec: PortSpec,
    /// In which network, if the sandbox is in several.
    #[serde(default)]
    pub network: Option<Name>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedPort {
    /// The sandbox.
    pub sandbox: Name,
    /// The network.
    pub network: Name,
    /// Outside addresses.
    #[schema(value_type = Vec<String>)]
    pub host_addresses: Vec<IpAddr>,
    /// First outside port.
    pub host_port: u16,
    /// First inside port.
    pub port: u16,
    /// How many ports.
    pub count: u16,
    /// Protocol.
    pub protocol: PortProtocol,
    /// The port as it was asked for, with the outside port filled in.
    #[schema(value_type = String)]
    pub spec: PortSpec,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(
        host_ip: Option<&str>,
        host_port: Option<u16>,
        port: u16,
        count: u16,
        protocol: PortProtocol,
    ) -> PortSpec {
        let host_ip = host_ip.map(|text| text.parse().unwrap());
        PortSpec {
            host_ip,
            host_port,
            port,
            count,
            protocol,
        }
    }

    #[test]
    fn what_docker_takes_is_taken() {
        use PortProtocol::{Tcp, Udp};
        let table = [
            ("80", spec(None, None, 80, 1, Tcp)),
            ("80/udp", spec(None, None, 80, 1, Udp)),
            ("8080:80", spec(None, Some(8080), 80, 1, Tcp)),
            ("0:80", spec(None, None, 80, 1, Tcp)),
            (
                "198.51.100.1:8080:80",
                spec(Some("198.51.100.1"), Some(8080), 80, 1, Tcp),
            ),
            (
                "198.51.100.1::80",
                spec(Some("198.51.100.1"), None, 80, 1, Tcp),
            ),
            (
                "[2001:db8::1]:53:53/udp",
                spec(Some("2001:db8::1"), Some(53), 53, 1, Udp),
            ),
            (
                "[2001:db8::1]::53",
                spec(Some("2001:db8::1"), None, 53, 1, Tcp),
            ),
            ("8000-8009:9000-9009", spec(None, Some(8000), 9000, 10, Tcp)),
            ("9000-9009", spec(None, None, 9000, 10, Tcp)),
            ("1-65535:1-65535", spec(None, Some(1), 1, 65535, Tcp)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused_with_its_problem() {
        let table = [
            ("", "a port is a number"),
            ("http", "a port is a number"),
            ("-80", "a port is a number"),
            ("+80", "a port is a number"),
            ("65536", "a port is at most 65535"),
            ("8080:0", "port 0 does not exist inside"),
            ("80-70", "the range ends before it begins"),
            ("80-81:80", "the two ranges differ in length"),
            ("80:80/sctp", "the protocol is neither tcp nor udp"),
            ("1.2.3:80:80", "the host address is not an IP address"),
            ("2001:db8::1:80:80", "an IPv6 address goes in brackets"),
            ("[2001:db8::1:80:80", "the bracket is not closed"),
        ];
        for (text, problem) in table {
            assert_eq!(
                text.parse::<PortSpec>().unwrap_err().problem,
                problem,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_port_reads_as_it_is_written(
            address in proptest::option::of(any::<IpAddr>()),
            host_port in proptest::option::of(1_u16..=40000),
            port in 1_u16..=40000,
            count in 1_u16..=20000,
            udp: bool,
        ) {
            let protocol = if udp { PortProtocol::Udp } else { PortProtocol::Tcp };
            let spec = PortSpec { host_ip: address, host_port, port, count, protocol };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = text.parse::<PortSpec>();
        }
    }
}
