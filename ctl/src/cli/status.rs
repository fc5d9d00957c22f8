//! `heddle status`

use super::listings::{Format, print_json};
use super::table::{print, say};
use crate::api::{ApiError, Status};
use crate::client::Client;

pub(super) fn run(client: &Client, format: &Format) -> Result<(), ApiError> {
    let status: Status = client.get("/v1/status")?;
    if format.json {
        return print_json(&status);
    }
    let keeper = match status.keeper {
        Some(pid) => format!("process {pid}"),
        None => "gone; a crash of the daemon would end it".to_owned(),
    };
    let fault = match &status.tun_fault {
        Some(fault) => format!(" ({fault})"),
        None => String::new(),
    };
    let store_fault = match &status.store_fault {
        Some(fault) => format!(" (not up to date: {fault})"),
        None => String::new(),
    };
    let limits = status.endpoint_limits;
    say(&format!(
        "heddle {}, process {}, up {} s, {} workers, {} restarts\n\
         keeper: {keeper}\n\
         store: {}{store_fault}\n\
         default endpoint: {}{fault}\n\
         networks: {}, endpoints: {}\n\
         sessions: {} of {}, mappings: {}\n\
         descriptors: {} of {}, memory: {:.1} MiB\n\
         memory bound: {:.1} MiB for all tables, {:.1} MiB for the flows of one endpoint \
         ({} sessions, {} half-open, {} outside ports)\n",
        status.version,
        status.pid,
        status.uptime_seconds,
        status.workers,
        status.restarts,
        status.store,
        status.default_endpoint,
        status.networks,
        status.endpoints.len(),
        status.sessions,
        status.sessions_limit,
        status.mappings,
        status.descriptors,
        status.descriptors_limit,
        mebibytes(status.memory),
        mebibytes(status.memory_bound),
        mebibytes(limits.memory_bound),
        limits.sessions,
        limits.half_open,
        limits.mappings,
    ));
    if !status.endpoints.is_empty() {
        say("\n");
        let rows: Vec<_> = status
            .endpoints
            .iter()
            .map(|endpoint| {
                [
                    endpoint.sandbox.to_string(),
                    endpoint.network.to_string(),
                    endpoint.description.clone(),
                ]
            })
            .collect();
        print(["SANDBOX", "NETWORK", "ENDPOINT"], &rows);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn mebibytes(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}
