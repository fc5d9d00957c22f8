//! Listings: what is in the dataplane's tables.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::{print, say};
use crate::api::{self, ApiError, ErrorCode};
use crate::client::Client;

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `heddle flow`
#[derive(Debug, Subcommand)]
pub(super) enum Flow {
    /// List flows
    Ls(Format),
}

/// `heddle fdb`
#[derive(Debug, Subcommand)]
pub(super) enum Fdb {
    /// List stations
    Ls(Format),
}

/// `heddle neighbour`
#[derive(Debug, Subcommand)]
pub(super) enum Neighbour {
    /// List neighbours
    Ls(Format),
}

/// `heddle route`
#[derive(Debug, Subcommand)]
pub(super) enum Route {
    /// List routes
    Ls(Format),
}

/// Prints a value as JSON.
pub(super) fn print_json<T: Serialize>(value: &T) -> Result<(), ApiError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    say(&format!("{text}\n"));
    Ok(())
}

/// Gets a listing and prints it.
pub(super) fn list<T: Serialize + DeserializeOwned, const N: usize>(
    client: &Client,
    path: &str,
    format: Format,
    heading: [&str; N],
    row: impl Fn(&T) -> [String; N],
) -> Result<(), ApiError> {
    let items: Vec<T> = client.get(path)?;
    if format.json {
        return print_json(&items);
    }
    let rows: Vec<[String; N]> = items.iter().map(row).collect();
    print(heading, &rows);
    Ok(())
}

pub(super) fn flows(client: &Client, Flow::Ls(format): &Flow) -> Result<(), ApiError> {
    let heading = [
        "PROTO", "STATE", "FROM", "TO", "ORIGINAL", "REPLY", "FRAMES", "BYTES", "EXPIRES",
    ];
    list(client, "/v1/flows", *format, heading, |flow: &api::Flow| {
        let tuple = |tuple: &api::FlowTuple| {
            format!(
                "{} > {}",
                socket(tuple.source, tuple.source_port),
                socket(tuple.destination, tuple.destination_port)
            )
        };
        [
            flow.protocol.clone(),
            flow.state.clone(),
            flow.from.clone(),
            flow.to.clone(),
            tuple(&flow.original),
            tuple(&flow.reply),
            format!("{}/{}", flow.original.frames, flow.reply.frames),
            format!("{}/{}", flow.original.bytes, flow.reply.bytes),
            format!("{}s", flow.expires_seconds),
        ]
    })
}

fn socket(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

pub(super) fn stations(client: &Client, Fdb::Ls(format): &Fdb) -> Result<(), ApiError> {
    let heading = ["NETWORK", "MAC", "SANDBOX", "KIND", "AGE"];
    list(
        client,
        "/v1/fdb",
        *format,
        heading,
        |station: &api::Station| {
            [
                station.network.to_string(),
                station.mac.clone(),
                station.sandbox.clone(),
                if station.fixed { "fixed" } else { "learned" }.to_owned(),
                station
                    .age_seconds
                    .map_or_else(|| "-".to_owned(), |age| format!("{age}s")),
            ]
        },
    )
}

pub(super) fn neighbours(
    client: &Client,
    Neighbour::Ls(format): &Neighbour,
) -> Result<(), ApiError> {
    let heading = ["LINK", "ADDRESS", "MAC", "STATE"];
    list(
        client,
        "/v1/neighbours",
        *format,
        heading,
        |neighbour: &api::Neighbour| {
            [
                neighbour.link.clone(),
                neighbour.address.to_string(),
                neighbour.mac.clone().unwrap_or_else(|| "-".to_owned()),
                neighbour.state.clone(),
            ]
        },
    )
}

pub(super) fn routes(client: &Client, Route::Ls(format): &Route) -> Result<(), ApiError> {
    list(
        client,
        "/v1/routes",
        *format,
        ["NETWORK", "DESTINATION", "VIA"],
        |route: &api::Route| {
            [
                route.network.to_string(),
                route.destination.clone(),
                route.via.clone(),
            ]
        },
    )
}

pub(super) fn statistics(client: &Client, format: &Format) -> Result<(), ApiError> {
    let statistics: api::Statistics = client.get("/v1/stats")?;
    if format.json {
        return print_json(&statistics);
    }
    let heading = [
        "PORT", "NETWORK", "RECEIVED", "BYTES", "SENT", "BYTES", "DROPPED", "SESSIONS", "EVICTED",
    ];
    let rows: Vec<_> = statistics
        .ports
        .iter()
        .map(|port| {
            [
                port.port.clone(),
                network_or_dash(port.network.as_ref()),
                port.received_frames.to_string(),
                port.received_bytes.to_string(),
                port.sent_frames.to_string(),
                port.sent_bytes.to_string(),
                port.dropped_frames.to_string(),
                port.sessions.to_string(),
                port.evicted_sessions.to_string(),
            ]
        })
        .collect();
    print(heading, &rows);
    Ok(())
}

fn network_or_dash(network: Option<&api::Name>) -> String {
    network.map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub(super) fn drops(client: &Client, format: &Format) -> Result<(), ApiError> {
    let heading = ["PORT", "NETWORK", "FRAMES", "REASON", "EXPLANATION"];
    list(
        client,
        "/v1/drops",
        *format,
        heading,
        |drop: &api::DropCount| {
            [
                drop.port.clone(),
                network_or_dash(drop.network.as_ref()),
                drop.frames.to_string(),
                drop.reason.clone(),
                drop.explanation.clone(),
            ]
        },
    )
}
