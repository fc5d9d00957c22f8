//! `heddle attach` and `heddle detach`

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use heddle_wire::MacAddr;

use super::table::say;
use crate::api::{
    ApiError, AttachRequest, CallerSandbox, Endpoint, EndpointKind, Name, PortSpec, SandboxSpec,
    StartRequest,
};
use crate::client::{Client, Passing, ensure_daemon};
use crate::plumb::{self, Job};

/// What to attach to a network, and how.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A process, or the path of a network namespace
    #[arg(value_name = "PID|NETNS-PATH")]
    sandbox: Target,

    #[command(flatten)]
    pub(super) endpoint: EndpointArguments,
}

/// What `attach` and `run` have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct EndpointArguments {
    /// The network
    #[arg(long, short, value_name = "NETWORK")]
    pub(super) network: Name,

    /// What to call the sandbox
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<Name>,

    /// Address to give it, instead of the next free one; may be repeated
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,

    /// MAC address to give it
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddr>,

    /// Name of the interface inside
    #[arg(long, value_name = "NAME")]
    ifname: Option<String>,

    #[arg(
        long,
        short,
        value_name = "SPEC",
        help = "Publish a port, as in docker: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp]"
    )]
    publish: Vec<PortSpec>,

    /// Join it by a TAP interface or a veth pair, instead of what works
    #[arg(long, value_name = "tap|veth")]
    endpoint: Option<EndpointKind>,
}

/// What can be attached.
#[derive(Clone, Debug)]
struct Target(CallerSandbox);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if let Ok(pid) = text.parse() {
            return Ok(Target(CallerSandbox::Pid(pid)));
        }
        if text.is_empty() {
            return Err("neither a process nor a path".to_owned());
        }
        // The daemon watches the path, from its own directory.
        let path = std::path::absolute(text).map_err(|error| error.to_string())?;
        Ok(Target(CallerSandbox::Path(path)))
    }
}

/// Takes a sandbox out of all its networks.
#[derive(Debug, Args)]
pub(super) struct DetachArguments {
    /// The sandbox
    name: Name,

    /// Only out of this network
    #[arg(long, short, value_name = "NETWORK")]
    network: Option<Name>,
}

pub(super) fn attach(client: &Client, arguments: Arguments) -> Result<(), ApiError> {
    let Arguments {
        sandbox: Target(sandbox),
        endpoint,
    } = arguments;
    ensure_daemon(client)?;
    let name_like = name_like(&sandbox);
    let endpoint = attach_sandbox(client, sandbox, &endpoint, name_like)?;
    let addresses: Vec<String> = endpoint
        .plan
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    say(&format!(
        "{} {} {} {}\n",
        endpoint.sandbox,
        endpoint.plan.interface,
        endpoint.plan.mac,
        addresses.join(" ")
    ));
    for port in &endpoint.ports {
        say(&format!(
            "{} published as {}\n",
            port.spec,
            super::port::outside(port)
        ));
    }
    Ok(())
}

/// Attaches a sandbox as the arguments say.
pub(super) fn attach_sandbox(
    client: &Client,
    sandbox: CallerSandbox,
    arguments: &EndpointArguments,
    name_like: Option<Name>,
) -> Result<Endpoint, ApiError> {
    let request = AttachRequest {
        sandbox: SandboxSpec::Caller(sandbox),
        name: arguments.name.clone(),
        name_like,
        addresses: arguments.addresses.clone(),
        mac: arguments.mac,
        interface: arguments.ifname.clone(),
        publish: arguments.publish.clone(),
        kind: arguments.endpoint,
    };
    attach_by_caller(client, &arguments.network, &request)
}

/// Reserves an endpoint, makes its interface, passes it, and starts it; takes all of it back if any
/// part fails.
pub(crate) fn attach_by_caller(
    client: &Client,
    network: &Name,
    request: &AttachRequest,
) -> Result<Endpoint, ApiError> {
    let SandboxSpec::Caller(sandbox) = request.sandbox.clone() else {
        return client.post(&format!("/v1/networks/{network}/endpoints"), request);
    };
    let request = AttachRequest {
        kind: request.kind.or_else(kind_that_works),
        ..request.clone()
    };
    let endpoints = format!("/v1/networks/{network}/endpoints");
    let pending: Endpoint = client.post(&endpoints, &request)?;
    let path = format!("{endpoints}/{}", pending.sandbox);
    let job = Job::Interface {
        sandbox,
        plan: pending.plan.clone(),
    };
    let started = plumb::run_in_child(&job).and_then(|parcel| {
        let passing = Passing::pass(client.sockets(), &parcel)?;
        // From here on the daemon has them.
        drop(parcel);
        client.post(
            &format!("{path}/start"),
            &StartRequest {
                token: passing.token().to_owned(),
                attachment: Some(pending.attachment),
            },
        )
    });
    if started.is_err() {
        // The reservation would end by itself a little later.
        let _ = client.delete(&format!("{path}?attachment={}", pending.attachment));
    }
    started
}

/// A veth pair where this command may not make TAPs; the daemon's choice otherwise.
fn kind_that_works() -> Option<EndpointKind> {
    heddle_sys::tap::usable()
        .is_err()
        .then_some(EndpointKind::Veth)
}

/// What a sandbox is called by default: after its program, or the last part of its path.
fn name_like(sandbox: &CallerSandbox) -> Option<Name> {
    let text = match sandbox {
        CallerSandbox::Pid(pid) => std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?,
        CallerSandbox::Path(path) => PathBuf::from(path).file_name()?.to_str()?.to_owned(),
    };
    to_name(text.trim())
}

/// The name that is most like a text.
pub(super) fn to_name(text: &str) -> Option<Name> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let text: String = text
        .chars()
        .filter(|&letter| allowed(letter))
        .skip_while(|letter| !letter.is_ascii_alphanumeric())
        .collect();
    text.parse().ok()
}

pub(super) fn detach(client: &Client, arguments: &DetachArguments) -> Result<(), ApiError> {
    match &arguments.network {
        Some(network) => client.delete(&format!(
            "/v1/networks/{network}/endpoints/{}",
            arguments.name
        )),
        None => client.delete(&format!("/v1/sandboxes/{}", arguments.name)),
    }
}
