//! The daemon's state and the operations on it.
//!
//! Every operation is: check the whole request against what there is, change the state, publish a
//! new configuration to the dataplane, note what the store must learn. A check that fails has changed
//! nothing. Nothing here waits: what takes time (plumbing, the store) is the service's business
//! ([`super::service`]).

mod build;
mod endpoints;
mod legs;
mod networks;
mod ports;
mod rules;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use heddle_ipam::{Leases, Pools, Subnet};
use heddle_mem::Instant;
use heddle_switch::{Config, LegId, Port, PortId, Switch};
use ipnet::IpNet;

pub(super) use endpoints::{Attachment, Ended, Reservation};
pub(crate) use legs::leg_job;
pub(super) use legs::{LegKey, OpenLeg};
pub(super) use rules::{ChangedRules, RuleChange};

use super::records::{EndpointRecord, Installation, NetworkRecord, network_key, put};
use crate::api::{ApiError, EndpointKind, ErrorCode, Name};
use crate::store::Change;

/// Longest IP packet of a network that does not say otherwise.
const DEFAULT_MTU: u16 = 1500;

/// Descriptors that a port needs besides one a worker: a packet socket's sender, what tells of its
/// end, and what is open for a moment while it is made.
const DESCRIPTORS_PER_PORT: u64 = 5;

/// What the command line has settled.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// What endpoints are made of if nobody says otherwise.
    pub(super) default_kind: EndpointKind,
    /// Why not of TAPs, if so.
    pub(super) tun_fault: Option<String>,
}

/// The state.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) switch: Arc<Switch>,
    installation: Installation,
    pools: Pools,
    /// By folded name.
    networks: BTreeMap<String, Network>,
    legs: BTreeMap<LegId, Leg>,
    /// Numbers of a leg that is being opened.
    planned_legs: BTreeMap<LegId, PortId>,
    /// Attachments so far.
    attachments: u64,
    rules: rules::Rules,
}

/// A network.
#[derive(Debug)]
struct Network {
    record: NetworkRecord,
    leg: Option<LegId>,
    /// Why the way out does not work.
    leg_fault: Option<String>,
    /// By folded name of the sandbox.
    endpoints: BTreeMap<String, Endpoint>,
}

/// An endpoint.
#[derive(Debug)]
struct Endpoint {
    record: EndpointRecord,
    attachment: Attachment,
    number: PortId,
    /// Somebody is opening its link.
    starting: bool,
    /// The port, once frames flow.
    port: Option<Arc<Port>>,
}

/// A leg with a port, shared by the networks that go out the same way.
#[derive(Debug)]
struct Leg {
    key: LegKey,
    number: PortId,
    port: Option<Arc<Port>>,
    config: Arc<heddle_switch::leg::PortLeg>,
}

impl Core {
    pub(super) fn new(settings: Settings, switch: Arc<Switch>, installation: Installation) -> Core {
        let pools = Pools::for_containers(&installation.key);
        Core {
            settings,
            switch,
            installation,
            pools,
            networks: BTreeMap::new(),
            legs: BTreeMap::new(),
            planned_legs: BTreeMap::new(),
            attachments: 0,
            rules: rules::Rules::default(),
        }
    }

    fn network(&self, name: &Name) -> Result<&Network, ApiError> {
        self.networks
            .get(&name.folded())
            .ok_or_else(|| self.unknown_network(name))
    }

    fn network_mut(&mut self, name: &Name) -> Result<&mut Network, ApiError> {
        if !self.networks.contains_key(&name.folded()) {
            return Err(self.unknown_network(name));
        }
        self.networks
            .get_mut(&name.folded())
            .ok_or_else(|| internal("a network vanished"))
    }

    fn unknown_network(&self, name: &Name) -> ApiError {
        let error = ApiError::new(
            ErrorCode::UnknownNetwork,
            format!("there is no network {name}"),
        );
        let known: Vec<&str> = self
            .networks
            .values()
            .map(|network| network.record.name.as_str())
            .collect();
        if known.is_empty() {
            error.hint(format!("create it with: heddle network create {name}"))
        } else {
            error.hint(format!("there is: {}", known.join(", ")))
        }
    }

    /// The lowest port number that nobody has.
    fn free_port_number(&self) -> Result<PortId, ApiError> {
        let endpoints = self
            .networks
            .values()
            .flat_map(|network| network.endpoints.values());
        let taken: BTreeSet<u16> = endpoints
            .map(|endpoint| endpoint.number.0)
            .chain(self.legs.values().map(|leg| leg.number.0))
            .chain(self.planned_legs.values().map(|number| number.0))
            .collect();
        lowest_free(&taken, u16::MAX)
            .map(PortId)
            .ok_or_else(|| ApiError::new(ErrorCode::TooMany, "the switch has no port left"))
    }

    /// Refuses a port for which there are not enough file descriptors, before anything is made.
    fn require_descriptors(&self) -> Result<(), ApiError> {
        let (limit, _) = heddle_sys::limits::fd_limit();
        let open = open_descriptors();
        let workers = u64::try_from(self.switch.workers()).unwrap_or(u64::MAX);
        let need = workers.saturating_add(DESCRIPTORS_PER_PORT);
        if open.saturating_add(need) <= limit {
            return Ok(());
        }
        let message = format!(
            "a port needs {need} file descriptors; {open} of the {limit} that the daemon may have \
             are open"
        );
        Err(ApiError::new(ErrorCode::DescriptorLimit, message).hint(
            "raise the limit (ulimit -Hn, or LimitNOFILE= in the unit) and restart the daemon",
        ))
    }

    /// Makes the state the one that frames are processed under.
    fn publish(&self) -> Result<(), ApiError> {
        self.put(Switch::publish)
    }

    /// The same where nothing was withdrawn since it was last done, only added.
    fn extend(&self) -> Result<(), ApiError> {
        self.put(Switch::extend)
    }

    fn put(
        &self,
        put: impl FnOnce(&Switch, Config, Instant) -> std::io::Result<()>,
    ) -> Result<(), ApiError> {
        let config = self.build()?;
        match put(&self.switch, config, now()) {
            // In force all the same, and every new frame sees it.
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                tracing::error!(%error, "a change of the configuration took too long");
                Ok(())
            }
            published => published
                .map_err(|error| internal(&format!("publishing the configuration: {error}"))),
        }
    }

    /// Publishes the state as it was before a change that failed.
    fn publish_former(&self) {
        if let Err(error) = self.publish() {
            tracing::error!(%error, "a failed change could not be taken back");
        }
    }

    /// The document of a network.
    fn network_change(&self, name: &Name) -> Vec<Change> {
        self.networks
            .get(&name.folded())
            .map(|network| put(network_key(name), &network.record))
            .into_iter()
            .collect()
    }
}

impl Network {
    fn leases(&self) -> &Leases {
        &self.record.leases
    }

    fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.leases().subnets().map(Subnet::network)
    }

    fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.leases().subnets().filter_map(Subnet::gateway)
    }
}

/// The lowest number up to `last` that is not taken.
fn lowest_free(taken: &BTreeSet<u16>, last: u16) -> Option<u16> {
    (0..=last).find(|number| !taken.contains(number))
}

/// File descriptors this process has open.
pub(super) fn open_descriptors() -> u64 {
    // Since Linux 6.2 the directory's size is their number; to list thousands takes milliseconds.
    let known = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if known != 0 {
        return known;
    }
    let count = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // One of them is the directory's own.
    u64::try_from(count).unwrap_or(u64::MAX).saturating_sub(1)
}

/// A fault of ours, told as such.
pub(super) fn internal(problem: &str) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("internal error: {problem}"))
}

/// The dataplane's time.
pub(super) fn now() -> Instant {
    Instant::from_micros(heddle_sys::clock::nanoseconds() / 1000)
}

/// The wall clock, which leases are dated by.
#[expect(
    clippy::disallowed_methods,
    reason = "leases outlive the daemon, and the machine's uptime"
)]
fn today() -> SystemTime {
    SystemTime::now()
}
