//! How the daemon is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::endpoint::EndpointKind;
use super::name::Name;

/// How the daemon is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The process that restarts it and enters namespaces for it, if there is one.
    pub keeper: Option<u32>,
    /// How often it was restarted after a crash.
    pub restarts: u32,
    /// Seconds since it was started.
    pub uptime_seconds: u64,
    /// Worker threads.
    pub workers: u16,
    /// Where its state is kept.
    pub store: String,
    /// Why what has changed is not written there, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_fault: Option<String>,
    /// What endpoints are made of by default.
    pub default_endpoint: EndpointKind,
    /// Why TAP interfaces cannot be made, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tun_fault: Option<String>,
    /// Networks.
    pub networks: usize,
    /// Endpoints.
    pub endpoints: Vec<StatusEndpoint>,
    /// Sessions in the table, and how many there may be.
    pub sessions: u32,
    /// How many sessions there may be.
    pub sessions_limit: u32,
    /// Dynamic mappings.
    pub mappings: u32,
    /// File descriptors in use, and how many there may be.
    pub descriptors: u64,
    /// How many file descriptors there may be.
    pub descriptors_limit: u64,
    /// Resident memory, in octets.
    pub memory: u64,
    /// What one endpoint may hold.
    #[serde(default)]
    pub endpoint_limits: EndpointLimits,
    /// Octets that frames, whatever they are, can make the tables take: sessions, mappings, stations,
    /// neighbours, frames that wait.
    #[serde(default)]
    pub memory_bound: u64,
}

/// What one endpoint may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointLimits {
    /// Sessions.
    pub sessions: u32,
    /// Connections whose handshake is not complete, begun inside and outside, each.
    pub half_open: u32,
    /// Dynamic mappings, and so outside ports.
    pub mappings: u32,
    /// Octets of memory that these take at most.
    pub memory_bound: u64,
}

/// What an endpoint is made of.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusEndpoint {
    /// The network.
    pub network: Name,
    /// The sandbox.
    pub sandbox: Name,
    /// Kind, queues and offloads.
    pub description: String,
}

/// Stops the daemon.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// Forget networks, endpoints and leases as well.
    #[serde(default)]
    pub purge: bool,
}
