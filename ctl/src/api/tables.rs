//! What is in the tables of the dataplane.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::Name;

/// A flow.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// Protocol.
    pub protocol: String,
    /// State: that of TCP, or whether there was an answer.
    pub state: String,
    /// Sandbox or uplink where it began.
    pub from: String,
    /// Sandbox or uplink where it goes.
    pub to: String,
    /// Its packets as they arrive.
    pub original: FlowTuple,
    /// Its answers as they arrive.
    pub reply: FlowTuple,
    /// Seconds until it is forgotten if it stays silent.
    pub expires_seconds: u64,
}

/// One direction of a flow.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FlowTuple {
    /// Source address.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// Source port, or identifier of an ICMP query.
    pub source_port: u16,
    /// Destination address.
    #[schema(value_type = String)]
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
    /// Frames.
    pub frames: u64,
    /// Octets of IP.
    pub bytes: u64,
}

/// A station of the forwarding database.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Station {
    /// The network.
    pub network: Name,
    /// MAC address.
    pub mac: String,
    /// Sandbox it is behind.
    pub sandbox: String,
    /// Given by configuration, not learned.
    pub fixed: bool,
    /// Seconds since it was heard, for learned ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
}

/// A neighbour.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Neighbour {
    /// Network or uplink whose link it is on.
    pub link: String,
    /// Address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// MAC address, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `permanent`, `incomplete`, `reachable`, `stale` or `probe`.
    pub state: String,
}

/// A route.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// Network whose packets take it.
    pub network: Name,
    /// Where it leads: a prefix, or `default`.
    pub destination: String,
    /// How.
    pub via: String,
}

/// What one port has sent and received.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PortStatistics {
    /// Sandbox or uplink.
    pub port: String,
    /// Its network; none for uplinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// Frames from it.
    pub received_frames: u64,
    /// Octets from it.
    pub received_bytes: u64,
    /// Frames to it.
    pub sent_frames: u64,
    /// Octets to it.
    pub sent_bytes: u64,
    /// Frames from it that were dropped.
    pub dropped_frames: u64,
    /// Sessions that are charged to it.
    #[serde(default)]
    pub sessions: u32,
    /// Connections among them whose handshake is not complete.
    #[serde(default)]
    pub half_open: u32,
    /// Dynamic mappings, and so outside ports, that it holds.
    #[serde(default)]
    pub mappings: u32,
    /// Sessions of it that had to make room for others of it.
    #[serde(default)]
    pub evicted_sessions: u64,
}

/// What all ports have sent and received.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// By port.
    pub ports: Vec<PortStatistics>,
}

/// Frames of one port that ended the same way.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DropCount {
    /// Sandbox or uplink they came from.
    pub port: String,
    /// Its network; none for uplinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// Short name of the reason.
    pub reason: String,
    /// The reason as a sentence.
    pub explanation: String,
    /// How many.
    pub frames: u64,
}
