//! The language between daemon and clients: HTTP and JSON on a unix socket, described by OpenAPI.
//!
//! One file a noun. These types are plain data, separate from what daemon and dataplane keep, so that
//! both may change. Requests refuse fields they do not know: a misspelt option must not be an
//! option that was silently ignored.

mod endpoint;
mod error;
mod name;
mod network;
mod port_spec;
mod rule;
mod status;
mod tables;
pub mod text;

pub use endpoint::{
    AttachRequest, CallerSandbox, Endpoint, EndpointKind, EndpointState, Plan, PlanRoute,
    SandboxSpec, StartRequest, WhichAttachment,
};
pub use error::{ApiError, ErrorCode, ErrorDetail};
pub use name::{Name, NameError};
pub use network::{
    CreateNetwork, Driver, Filtering, Network, RouteSpec, Uplink, UplinkError, UplinkSpec,
};
pub(crate) use network::{ageing_seconds, storm_control};
pub use port_spec::{PortProtocol, PortSpec, PortSpecError, PublishRequest, PublishedPort};
pub use rule::{
    AddressList, AddressRange, IcmpKind, LoggedPacket, Match, Place, PortList, ProtocolName, Rate,
    RejectWith, Rule, RuleDirection, RuleFamily, RuleLog, RulePosition, StateList, StateName,
    Verdict,
};
pub use status::{EndpointLimits, ShutdownRequest, Status, StatusEndpoint};
pub use tables::{
    DropCount, Flow, FlowTuple, Neighbour, PortStatistics, Route, Station, Statistics,
};

/// Version of the API, the first part of every path.
pub const API_VERSION: &str = "v1";

/// Version of this program; client and daemon must be of the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Header of every answer, with the daemon's version.
pub const VERSION_HEADER: &str = "heddle-version";
