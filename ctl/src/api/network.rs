//! Networks: what is asked for, and what there is.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::name::Name;
use super::text;

/// How the endpoints of a network are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A learning bridge with a gateway on it.
    #[default]
    Bridge,
    /// Routed like ipvlan's L3 mode: no ARP, no broadcast.
    L3,
}

/// Whom a mapping made by an outgoing flow lets in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Anybody.
    Endpoint,
    /// Addresses that the inside has spoken to.
    #[default]
    Address,
    /// Addresses and ports that the inside has spoken to.
    AddressPort,
}

/// A way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UplinkSpec {
    /// None: an internal network.
    #[default]
    None,
    /// A TAP leg in another network namespace.
    Netns(PathBuf),
    /// A leg on an interface of the daemon's network namespace.
    Packet(String),
}

/// Why a text names no way out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an uplink: use none, netns:PATH or packet:INTERFACE")]
pub struct UplinkError(String);

impl FromStr for UplinkSpec {
    type Err = UplinkError;

    fn from_str(text: &str) -> Result<UplinkSpec, UplinkError> {
        match text.split_once(':') {
            None if text == "none" => Ok(UplinkSpec::None),
            Some(("netns", path)) if path.starts_with('/') => Ok(UplinkSpec::Netns(path.into())),
            Some(("packet", interface)) if heddle_sys::tap::is_interface_name(interface) => {
                Ok(UplinkSpec::Packet(interface.to_owned()))
            }
            _ => Err(UplinkError(text.to_owned())),
        }
    }
}

impl fmt::Display for UplinkSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UplinkSpec::None => formatter.write_str("none"),
            UplinkSpec::Netns(path) => write!(formatter, "netns:{}", path.display()),
            UplinkSpec::Packet(interface) => write!(formatter, "packet:{interface}"),
        }
    }
}

/// The way out of a network and how it looks from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// `none`, `netns:PATH` or `packet:INTERFACE`.
    #[serde(default, with = "text")]
    #[schema(value_type = String, example = "netns:/run/netns/internet")]
    pub kind: UplinkSpec,
    /// The leg's own addresses, with the prefix of the link they are on.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.2/24"]))]
    pub addresses: Vec<IpNet>,
    /// Next hops, one a family.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.1"]))]
    pub gateways: Vec<IpAddr>,
    /// Whom mappings of outgoing flows let in.
    #[serde(default)]
    pub filtering: Filtering,
}

/// A route to addresses behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Where it leads.
    #[schema(value_type = String, example = "10.200.0.0/16")]
    pub destination: IpNet,
    /// The endpoint's address.
    #[schema(value_type = String, example = "10.64.0.5")]
    pub via: IpAddr,
}

/// A network to be made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// Its name.
    pub name: Name,
    /// How its endpoints are joined.
    #[serde(default)]
    pub driver: Driver,
    /// Its subnets; automatic ones where none of a family is given.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["10.64.1.0/24"]))]
    pub subnets: Vec<IpNet>,
    /// Its gateways, instead of the first address of their subnets.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub gateways: Vec<IpAddr>,
    /// No IPv4 subnet is chosen automatically.
    #[serde(default)]
    pub no_ipv4: bool,
    /// No IPv6 subnet is chosen automatically.
    #[serde(default)]
    pub no_ipv6: bool,
    /// No way out, whatever the default is.
    #[serde(default)]
    pub internal: bool,
    /// The way out.
    #[serde(default)]
    pub uplink: Option<Uplink>,
    /// The descriptors of the way out, passed under this token, where the daemon may not open it.
    #[serde(default)]
    pub uplink_token: Option<String>,
    /// Longest IP packet, in octets.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Networks that packets are routed to and from.
    #[serde(default)]
    pub route_to: Vec<Name>,
    /// Routes to addresses behind endpoints.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// Endpoints use only the addresses they were given. On unless switched off.
    #[serde(default = "yes")]
    pub port_security: bool,
    /// Frames a second that each endpoint may flood (broadcast, multicast, unknown stations); 0 for as
    /// many as it likes.
    #[serde(default = "storm_control")]
    #[schema(default = 10_000)]
    pub storm_control: u32,
    /// How long a silent station is remembered, in seconds: 10 to 1000000.
    #[serde(default = "ageing_seconds")]
    #[schema(default = 300)]
    pub ageing_seconds: u32,
}

fn yes() -> bool {
    true
}

/// Frames a second that an endpoint may flood if nobody says otherwise.
pub(crate) fn storm_control() -> u32 {
    let usual = heddle_switch::StormControl::default();
    usual.rate().map_or(0, std::num::NonZeroU32::get)
}

/// How long a silent station is remembered if nobody says otherwise.
pub(crate) fn ageing_seconds() -> u32 {
    u32::try_from(heddle_switch::fdb::AGEING_TIME.as_secs()).unwrap_or(u32::MAX)
}

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// How its endpoints are joined.
    pub driver: Driver,
    /// Its subnets.
    #[schema(value_type = Vec<String>)]
    pub subnets: Vec<IpNet>,
    /// Its gateways.
    #[schema(value_type = Vec<String>)]
    pub gateways: Vec<IpAddr>,
    /// The gateway's MAC address.
    pub gateway_mac: String,
    /// Longest IP packet, in octets.
    pub mtu: u16,
    /// The way out.
    pub uplink: Uplink,
    /// Whether the way out works; why not, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_fault: Option<String>,
    /// Networks that packets are routed to and from.
    pub route_to: Vec<Name>,
    /// Routes to addresses behind endpoints.
    pub routes: Vec<RouteSpec>,
    /// Endpoints use only the addresses they were given.
    pub port_security: bool,
    /// Frames a second that each endpoint may flood; 0 for as many as it likes.
    #[serde(default)]
    pub storm_control: u32,
    /// How long a silent station is remembered, in seconds.
    #[serde(default)]
    pub ageing_seconds: u32,
    /// Names of the sandboxes in it.
    pub sandboxes: Vec<Name>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_reads_as_it_is_written() {
        for text in ["none", "netns:/run/netns/a", "packet:eth0"] {
            let uplink: UplinkSpec = text.parse().unwrap();
            assert_eq!(uplink.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_uplink_is_refused() {
        for bad in [
            "",
            "netns:",
            "netns:relative",
            "packet:",
            "packet:a/b",
            "sockets:x",
            "tap",
        ] {
            assert_eq!(
                bad.parse::<UplinkSpec>(),
                Err(UplinkError(bad.to_owned())),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let error = serde_json::from_str::<CreateNetwork>(r#"{"name":"a","subnet":["x"]}"#)
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.to_string().contains("unknown field `subnet`"),
            "{error}"
        );
    }
}
