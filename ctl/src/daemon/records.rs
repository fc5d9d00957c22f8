//! What the daemon remembers: the documents of the store, as plain data.

use std::fmt;
use std::path::PathBuf;

use heddle_ipam::Leases;
use serde::{Deserialize, Serialize};

use crate::api::{
    Driver, Name, Plan, PortSpec, RouteSpec, Rule, Uplink, ageing_seconds, storm_control,
};
use crate::store::Change;

/// What every installation has once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Installation {
    /// What MAC addresses and the IPv6 prefix follow from.
    pub(super) key: [u8; 16],
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkRecord {
    /// Its number in the dataplane.
    pub(super) number: u16,
    /// Its name.
    pub(super) name: Name,
    /// How its endpoints are joined.
    pub(super) driver: Driver,
    /// Longest IP packet.
    pub(super) mtu: u16,
    /// The way out.
    pub(super) uplink: Uplink,
    /// Networks that packets are routed to and from.
    pub(super) route_to: Vec<Name>,
    /// Routes to addresses behind endpoints.
    pub(super) routes: Vec<RouteSpec>,
    /// Whether endpoints use only the addresses they were given.
    pub(super) port_security: bool,
    /// Frames a second that each endpoint may flood; 0 for as many as it likes.
    #[serde(default = "storm_control")]
    pub(super) storm_control: u32,
    /// How long a silent station is remembered.
    #[serde(default = "ageing_seconds")]
    pub(super) ageing_seconds: u32,
    /// Subnets and who holds what.
    pub(super) leases: Leases,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointRecord {
    /// The network.
    pub(super) network: Name,
    /// The sandbox.
    pub(super) sandbox: Name,
    /// How its interface is made.
    pub(super) plan: Plan,
    /// What it ends with.
    pub(super) attached_by: AttachedBy,
    /// Its published ports, each with its outside port.
    pub(super) ports: Vec<PortSpec>,
}

/// A chain of filter rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RulesRecord {
    /// The network; nobody's in particular if absent.
    pub(super) network: Option<Name>,
    /// The rules in order, with their numbers.
    pub(super) rules: Vec<Rule>,
}

/// What an endpoint ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum AttachedBy {
    /// This process, told from a later one of the same number by when it started.
    Process {
        /// Its number.
        pid: u32,
        /// When it started, in clock ticks since boot.
        started: u64,
    },
    /// This path.
    Path(PathBuf),
    /// The connection of this process.
    Connection {
        /// Its number.
        pid: u32,
    },
}

impl fmt::Display for AttachedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachedBy::Process { pid, .. } => write!(formatter, "process {pid}"),
            AttachedBy::Path(path) => write!(formatter, "{}", path.display()),
            AttachedBy::Connection { pid } => write!(formatter, "the connection of process {pid}"),
        }
    }
}

/// Name of the installation's document.
pub(super) const INSTALLATION: &str = "installation";

const NETWORK: &str = "network/";
const ENDPOINT: &str = "endpoint/";
const RULES: &str = "rules";

/// Name of a network's document.
pub(super) fn network_key(network: &Name) -> String {
    format!("{NETWORK}{}", network.folded())
}

/// Name of an endpoint's document, and of what the keeper holds for it.
pub(super) fn endpoint_key(network: &Name, sandbox: &Name) -> String {
    format!("{ENDPOINT}{}/{}", network.folded(), sandbox.folded())
}

/// Name of the document of a network's filter rules, or of everybody's.
pub(super) fn rules_key(network: Option<&Name>) -> String {
    match network {
        Some(network) => format!("{RULES}/{}", network.folded()),
        None => RULES.to_owned(),
    }
}

/// Name of what the keeper holds for a leg.
pub(super) fn leg_key(number: u16) -> String {
    format!("leg/{number}")
}

/// Everything in a store.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) installation: Option<Installation>,
    pub(super) networks: Vec<NetworkRecord>,
    pub(super) endpoints: Vec<EndpointRecord>,
    pub(super) rules: Vec<RulesRecord>,
}

impl Records {
    /// Reads the documents of a store.
    ///
    /// # Errors
    ///
    /// A document that is none of ours, or of another version.
    pub(super) fn read(documents: &[(String, Vec<u8>)]) -> Result<Records, String> {
        let mut records = Records::default();
        for (name, document) in documents {
            let bad = |error: serde_json::Error| format!("document {name}: {error}");
            if name == INSTALLATION {
                records.installation = Some(serde_json::from_slice(document).map_err(bad)?);
            } else if name.starts_with(NETWORK) {
                records
                    .networks
                    .push(serde_json::from_slice(document).map_err(bad)?);
            } else if name.starts_with(ENDPOINT) {
                records
                    .endpoints
                    .push(serde_json::from_slice(document).map_err(bad)?);
            } else if name == RULES || name.starts_with(&format!("{RULES}/")) {
                records
                    .rules
                    .push(serde_json::from_slice(document).map_err(bad)?);
            } else {
                return Err(format!("document {name} is unknown to this version"));
            }
        }
        Ok(records)
    }
}

/// Writes a document.
pub(super) fn put<T: Serialize>(name: String, record: &T) -> Change {
    // Plain data with string keys always has a JSON form.
    Change::Put(name, serde_json::to_vec(record).unwrap_or_default())
}
