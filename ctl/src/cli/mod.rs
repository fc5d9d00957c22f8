//! The command line: one file a command.

mod attach;
mod complaint;
mod daemon;
mod listings;
mod network;
mod port;
mod rule;
mod run;
mod status;
mod table;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::api::ApiError;
use crate::client::Client;
use crate::daemon::Sockets;

pub(crate) use attach::attach_by_caller;
pub(crate) use table::say;

/// A userspace virtual switch and NAT router: networks for containers, VMs and test labs without
/// root, iptables or kernel bridges.
#[derive(Debug, Parser)]
#[command(
    name = "heddle",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Arguments {
    /// Where the daemon's socket is [default: $HEDDLE_SOCKET, else
    /// $XDG_RUNTIME_DIR/heddle/heddle.sock, else /run/heddle/heddle.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A self-contained tour that checks itself
    Demo(crate::demo::Arguments),
    /// Run a command in a sandbox of its own on a network
    Run(run::Arguments),
    /// Attach a network namespace to a network
    Attach(attach::Arguments),
    /// Take a sandbox out of all its networks
    Detach(attach::DetachArguments),
    /// Create, show and remove networks
    #[command(subcommand)]
    Network(network::Arguments),
    /// Publish ports on the uplink's addresses
    #[command(subcommand)]
    Port(port::Arguments),
    /// Filter rules: which packets may pass
    #[command(subcommand)]
    Rule(rule::Arguments),
    /// The flow table
    #[command(subcommand)]
    Flow(listings::Flow),
    /// The forwarding database
    #[command(subcommand)]
    Fdb(listings::Fdb),
    /// Neighbours: who has which MAC address
    #[command(subcommand)]
    Neighbour(listings::Neighbour),
    /// Where packets of each network go
    #[command(subcommand)]
    Route(listings::Route),
    /// What every port has sent and received
    Stats(listings::Format),
    /// Frames that ended without being sent, and why
    Drops(listings::Format),
    /// How the daemon is
    Status(listings::Format),
    /// Run the daemon in the foreground
    Daemon(daemon::Arguments),
    /// Stop the daemon
    Down(daemon::DownArguments),
}

/// Reads the command line and does what it says; returns the exit status.
#[must_use]
pub fn main() -> u8 {
    if let Err(error) = put_in_order() {
        eprintln!("heddle: {error}");
        return 1;
    }
    let spelled = rule::spelled(std::env::args_os());
    let executed = spelled.and_then(|spelled| execute(Arguments::parse_from(spelled)));
    match executed {
        Ok(status) => status,
        Err(error) => complaint::print(&error),
    }
}

/// What a careless parent may have left behind (design: signals ignored, descriptors open).
fn put_in_order() -> std::io::Result<()> {
    heddle_sys::process::restore_signal_defaults()?;
    heddle_sys::process::ignore_broken_pipes()?;
    heddle_sys::process::close_from(3, &[])
}

fn execute(arguments: Arguments) -> Result<u8, ApiError> {
    let socket = arguments.socket.unwrap_or_else(Sockets::default_path);
    let client = || Client::new(socket.clone());
    let done = |result: Result<(), ApiError>| result.map(|()| 0);
    match arguments.command {
        Command::Demo(arguments) => crate::demo::run(&arguments),
        Command::Run(arguments) => run::run(&client()?, arguments),
        Command::Attach(arguments) => done(attach::attach(&client()?, arguments)),
        Command::Detach(arguments) => done(attach::detach(&client()?, &arguments)),
        Command::Network(arguments) => done(network::run(&client()?, arguments)),
        Command::Port(arguments) => done(port::run(&client()?, arguments)),
        Command::Rule(arguments) => done(rule::run(&client()?, arguments)),
        Command::Flow(arguments) => done(listings::flows(&client()?, &arguments)),
        Command::Fdb(arguments) => done(listings::stations(&client()?, &arguments)),
        Command::Neighbour(arguments) => done(listings::neighbours(&client()?, &arguments)),
        Command::Route(arguments) => done(listings::routes(&client()?, &arguments)),
        Command::Stats(format) => done(listings::statistics(&client()?, &format)),
        Command::Drops(format) => done(listings::drops(&client()?, &format)),
        Command::Status(format) => done(status::run(&client()?, &format)),
        Command::Daemon(arguments) => daemon::run(socket, arguments),
        Command::Down(arguments) => done(daemon::down(&client()?, &arguments)),
    }
}
