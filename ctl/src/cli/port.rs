//! `heddle port`

use clap::{Args, Subcommand};

use super::listings::{Format, list};
use super::table::say;
use crate::api::{ApiError, Name, PortSpec, PublishRequest, PublishedPort};
use crate::client::Client;

/// `heddle port`
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Publish a port of a sandbox
    Publish(Which),
    /// Withdraw a published port; flows that came through it go on
    Unpublish(Which),
    /// List published ports
    Ls(Format),
}

/// A port of a sandbox.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The sandbox
    name: Name,

    #[arg(help = "The port, as in docker: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp]")]
    spec: PortSpec,

    /// In which network, if the sandbox is in several
    #[arg(long, short, value_name = "NETWORK")]
    network: Option<Name>,
}

impl Which {
    fn request(&self) -> PublishRequest {
        PublishRequest {
            spec: self.spec.clone(),
            network: self.network.clone(),
        }
    }
}

pub(super) fn run(client: &Client, arguments: Arguments) -> Result<(), ApiError> {
    match arguments {
        Arguments::Publish(which) => {
            let path = format!("/v1/sandboxes/{}/ports", which.name);
            let port: PublishedPort = client.post(&path, &which.request())?;
            say(&format!("{}\n", outside(&port)));
            Ok(())
        }
        Arguments::Unpublish(which) => {
            let path = format!("/v1/sandboxes/{}/ports/withdraw", which.name);
            let _: serde_json::Value = client.post(&path, &which.request())?;
            Ok(())
        }
        Arguments::Ls(format) => {
            let heading = ["SANDBOX", "NETWORK", "OUTSIDE", "INSIDE", "PROTO"];
            list(
                client,
                "/v1/ports",
                format,
                heading,
                |port: &PublishedPort| {
                    [
                        port.sandbox.to_string(),
                        port.network.to_string(),
                        outside(port),
                        range(port.port, port.count),
                        port.protocol.to_string(),
                    ]
                },
            )
        }
    }
}

/// Where a port can be reached.
pub(super) fn outside(port: &PublishedPort) -> String {
    let ports = range(port.host_port, port.count);
    let at: Vec<String> = port
        .host_addresses
        .iter()
        .map(|address| match address {
            std::net::IpAddr::V4(address) => format!("{address}:{ports}"),
            std::net::IpAddr::V6(address) => format!("[{address}]:{ports}"),
        })
        .collect();
    at.join(" ")
}

fn range(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        _ => format!("{first}-{}", u32::from(first) + u32::from(count) - 1),
    }
}
