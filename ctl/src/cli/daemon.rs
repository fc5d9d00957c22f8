//! `heddle daemon` and `heddle down`

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use heddle_nat::Limits;

use crate::api::{ApiError, EndpointKind, ErrorCode, ShutdownRequest};
use crate::client::Client;
use crate::daemon::{Options, Sockets};

/// How to run the daemon.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Worker threads of the dataplane, at least 1 [default: one for two cores, up to
    /// 4]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u16>::new().range(1..=64))]
    workers: Option<u16>,

    /// Where networks, endpoints and published ports are kept [default:
    /// $XDG_STATE_HOME/heddle/heddle.redb, else ~/.local/state/heddle/heddle.redb, for root
    /// /var/lib/heddle/heddle.redb]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    /// Join sandboxes by TAP interfaces or veth pairs, instead of what works
    #[arg(long, value_name = "tap|veth")]
    endpoint: Option<EndpointKind>,

    /// Group whose members may attach by passed descriptors
    #[arg(long, value_name = "GID")]
    allow_group: Option<u32>,

    /// How many sessions may be tracked
    #[arg(long, value_name = "N", default_value_t = Limits::default().sessions,
        value_parser = RangedU64ValueParser::<u32>::new().range(1024..=1 << 26))]
    sessions: u32,

    /// How many of them one endpoint may have
    #[arg(long, value_name = "N", default_value_t = Limits::default().sessions_per_owner,
        value_parser = RangedU64ValueParser::<u32>::new().range(16..=1 << 26))]
    endpoint_sessions: u32,

    /// How many TCP connections of one endpoint may be half-open, in each direction
    #[arg(long, value_name = "N", default_value_t = Limits::default().half_open_per_owner,
        value_parser = RangedU64ValueParser::<u32>::new().range(16..=1 << 26))]
    endpoint_half_open: u32,

    /// How many outside ports one endpoint may use
    #[arg(long, value_name = "N", default_value_t = Limits::default().mappings_per_owner,
        value_parser = RangedU64ValueParser::<u32>::new().range(16..=1 << 26))]
    endpoint_mappings: u32,

    /// End so many seconds after the last endpoint
    #[arg(long, value_name = "SECONDS")]
    idle_exit: Option<u64>,

    /// Leave the terminal
    #[arg(long, hide = true)]
    background: bool,
}

/// How to stop the daemon.
#[derive(Debug, Args)]
pub(super) struct DownArguments {
    /// Forget networks, endpoints and leases as well
    #[arg(long)]
    purge: bool,
}

pub(super) fn run(socket: PathBuf, arguments: Arguments) -> Result<u8, ApiError> {
    if arguments.background {
        // Already the leader of a session, which is as good.
        let _ = rustix::process::setsid();
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HEDDLE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    let api = std::path::absolute(&socket).map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            format!("{}: {error}", socket.display()),
        )
    })?;
    crate::daemon::run(&Options {
        sockets: Sockets { api },
        store: arguments.store.unwrap_or_else(Options::default_store),
        workers: arguments.workers,
        endpoint: arguments.endpoint,
        allow_group: arguments.allow_group,
        sessions: arguments.sessions,
        endpoint_sessions: arguments.endpoint_sessions,
        endpoint_half_open: arguments.endpoint_half_open,
        endpoint_mappings: arguments.endpoint_mappings,
        idle_exit: arguments.idle_exit.map(Duration::from_secs),
    })
}

pub(super) fn down(client: &Client, arguments: &DownArguments) -> Result<(), ApiError> {
    let request = ShutdownRequest {
        purge: arguments.purge,
    };
    let _: serde_json::Value = client.post("/v1/shutdown", &request)?;
    if crate::daemon::wait_until_free(client.sockets()) {
        return Ok(());
    }
    let message = "the daemon was told to end, and has not yet";
    Err(ApiError::new(ErrorCode::Timeout, message).hint("see what it does with: heddle status"))
}
