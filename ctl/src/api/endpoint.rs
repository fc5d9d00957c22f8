//! Endpoints: the plug of a sandbox in a network.

use std::net::IpAddr;
use std::path::PathBuf;

use heddle_wire::MacAddr;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::Name;
use super::port_spec::{PortSpec, PublishedPort};
use super::text;

/// What joins a sandbox to the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// A TAP interface in the sandbox.
    Tap,
    /// A veth pair with a packet socket on the switch's end: where `/dev/net/tun` cannot be used.
    Veth,
}

impl std::fmt::Display for EndpointKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            EndpointKind::Tap => "tap",
            EndpointKind::Veth => "veth",
        })
    }
}

impl std::str::FromStr for EndpointKind {
    type Err = String;

    fn from_str(text: &str) -> Result<EndpointKind, String> {
        match text {
            "tap" => Ok(EndpointKind::Tap),
            "veth" => Ok(EndpointKind::Veth),
            _ => Err(format!("{text:?} is not an endpoint kind: use tap or veth")),
        }
    }
}

/// Which sandbox, and who makes the interface in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SandboxSpec {
    /// The network namespace of this process; the daemon enters it. The endpoint ends with the
    /// process.
    Pid(u32),
    /// The network namespace at this path; the daemon enters it. The endpoint ends with the path.
    #[schema(value_type = String)]
    Path(PathBuf),
    /// The caller enters the namespace, makes the interface as the answer says, passes the
    /// descriptors and starts the endpoint.
    Caller(CallerSandbox),
    /// The descriptors passed under this token; the caller sets the interface up. The endpoint
    /// ends with the connection they were passed on.
    Token(String),
}

/// What the caller will attach by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CallerSandbox {
    /// This process.
    Pid(u32),
    /// This path.
    #[schema(value_type = String)]
    Path(PathBuf),
}

/// An endpoint to be made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// Which sandbox.
    pub sandbox: SandboxSpec,
    /// What to call the sandbox.
    #[serde(default)]
    pub name: Option<Name>,
    /// What to call it if it has no name: this and the lowest free number.
    #[serde(default)]
    pub name_like: Option<Name>,
    /// Addresses to be given; automatic ones for families not named.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// MAC address to be given.
    #[serde(default, with = "text::optional")]
    #[schema(value_type = Option<String>)]
    pub mac: Option<MacAddr>,
    /// Name of the interface in the sandbox; the lowest free of `eth0`, `eth1` and so on if absent.
    #[serde(default)]
    pub interface: Option<String>,
    /// Ports to be published.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["8080:80/tcp"]))]
    pub publish: Vec<PortSpec>,
    /// What joins the sandbox to the switch; what works if absent.
    #[serde(default)]
    pub kind: Option<EndpointKind>,
}

/// Starts an endpoint whose interface the caller has made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// Under which the descriptors were passed.
    pub token: String,
    /// Which attachment, as its reservation said; whichever has the name if absent.
    #[serde(default)]
    pub attachment: Option<u64>,
}

/// Which of the attachments that have had a name, one after the other.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct WhichAttachment {
    /// Its number; whichever has the name now if absent.
    #[serde(default)]
    pub attachment: Option<u64>,
}

/// How an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Addresses are reserved, the caller makes the interface.
    Pending,
    /// Frames flow.
    Up,
}

/// How the interface in a sandbox is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the interface.
    pub interface: String,
    /// What to make.
    pub kind: EndpointKind,
    /// Queues of a TAP: one a worker.
    pub queues: u16,
    /// MAC address.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub mac: MacAddr,
    /// Longest IP packet, in octets.
    pub mtu: u16,
    /// Addresses with the prefix of their subnet.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// Routes.
    pub routes: Vec<PlanRoute>,
    /// The interface neither sends nor answers ARP and neighbour discovery.
    pub no_arp: bool,
}

/// A route of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRoute {
    /// Where it leads.
    #[schema(value_type = String)]
    pub destination: IpNet,
    /// Next hop; none for what is on the link.
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// The network.
    pub network: Name,
    /// The sandbox.
    pub sandbox: Name,
    /// Tells it from earlier and later ones of the same name.
    pub attachment: u64,
    /// How it stands.
    pub state: EndpointState,
    /// How its interface is, or is to be, made.
    pub plan: Plan,
    /// What it ends with: a process, a path, or a client's connection.
    pub attached_by: String,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
}
