//! `heddle demo`: a tour that checks itself.
//!
//! Everything happens in namespaces of its own, with a daemon of its own, as root or as an ordinary
//! user; nothing is left behind. Each step says what it shows and why, and fails loudly if it does not
//! hold. It needs no other program: what runs in the containers is this one ([`agent`]).

mod agent;
mod report;
mod stage;
mod steps;
mod traffic;

use clap::Args;

use crate::api::{ApiError, EndpointKind};
use report::Report;
use stage::Stage;

/// A self-contained tour that checks itself.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Join the containers by TAP interfaces or veth pairs, instead of what works
    #[arg(long, value_name = "tap|veth")]
    endpoint: Option<EndpointKind>,

    /// Worker threads of the dataplane
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: u16,
}

/// Runs the tour; the exit status says whether everything held.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, ApiError> {
    let mut report = Report::new();
    let mut stage = Stage::set_up(arguments.endpoint, arguments.workers)?;
    let ended = steps::walk(&mut stage, &mut report);
    if let Err(error) = &ended {
        report.check("the tour goes on", Err(error.to_string()));
    }
    stage.take_down();
    Ok(report.finish())
}
