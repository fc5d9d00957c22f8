//! The stage: namespaces, a daemon, four containers.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heddle_sys::namespace::{self, Maps, NamespaceKind};
use heddle_sys::netlink::{LinkChange, Netlink};
use heddle_sys::process::{self, Signal};
use heddle_sys::watch::wait_readable;

use super::agent::Agent;
use crate::api::{ApiError, EndpointKind, ErrorCode, ShutdownRequest};
use crate::client::Client;

/// How long the daemon may take to start, and to end.
const START_TIME: Duration = Duration::from_secs(10);

/// How long a daemon whose tour was killed stays, in seconds.
const ORPHAN_SECONDS: &str = "5";

/// Everything that the tour uses.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) endpoint: Option<EndpointKind>,
    pub(super) alice: Agent,
    pub(super) bob: Agent,
    pub(super) carol: Agent,
    pub(super) internet: Agent,
    daemon: Child,
    directory: PathBuf,
}

impl Stage {
    /// Moves this process into namespaces of its own and sets everything up.
    pub(super) fn set_up(endpoint: Option<EndpointKind>, workers: u16) -> Result<Stage, ApiError> {
        let directory = make_directory().map_err(|error| failed("a directory", &error))?;
        enter_own_namespaces()?;
        let client = Client::new(directory.join("heddle.sock"))?;
        let daemon = start_daemon(&client, &directory, endpoint, workers)?;
        Ok(Stage {
            client,
            endpoint,
            alice: Agent::start()?,
            bob: Agent::start()?,
            carol: Agent::start()?,
            internet: Agent::start()?,
            daemon,
            directory,
        })
    }

    /// Ends everything. Whatever does not end by itself ends with its namespaces.
    pub(super) fn take_down(self) {
        let Stage {
            client,
            alice,
            bob,
            carol,
            internet,
            mut daemon,
            directory,
            ..
        } = self;
        let asked: Result<serde_json::Value, ApiError> =
            client.post("/v1/shutdown", &ShutdownRequest { purge: true });
        if let Ok(process) = process::pidfd_open(daemon.id()) {
            let ended = wait_readable(process.as_fd(), Some(START_TIME)).unwrap_or(false);
            if asked.is_err() || !ended {
                let _ = process::pidfd_send_signal(process.as_fd(), Signal::KILL);
            }
        }
        let _ = daemon.wait();
        for agent in [alice, bob, carol, internet] {
            agent.end();
        }
        let _ = fs::remove_dir_all(directory);
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::PlumbingFailed,
        format!("setting up the demo: {what}: {error}"),
    )
}

fn make_directory() -> io::Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("heddle-demo-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

/// The "host" of the tour: a network namespace, and for an ordinary user a user namespace that owns it.
fn enter_own_namespaces() -> Result<(), ApiError> {
    let user = rustix::process::geteuid();
    let group = rustix::process::getegid().as_raw();
    let entered = if user.is_root() {
        namespace::unshare(&[NamespaceKind::Network])
    } else {
        namespace::unshare(&[NamespaceKind::User, NamespaceKind::Network])
    };
    entered.map_err(|error| {
        let hint = error
            .hint()
            .unwrap_or("the demo needs network namespaces of its own");
        failed("namespaces", &error).hint(hint)
    })?;
    if !user.is_root() {
        let own = std::process::id();
        namespace::write_id_maps(
            own,
            &Maps::single(0, user.as_raw()),
            &Maps::single(0, group),
        )
        .map_err(|error| failed("the user namespace", &error))?;
    }
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    Netlink::open()
        .and_then(|mut netlink| {
            let loopback = netlink.link("lo")?.index;
            netlink.set_link(loopback, &up)
        })
        .map_err(|error| failed("the loopback interface", &error))
}

fn start_daemon(
    client: &Client,
    directory: &std::path::Path,
    endpoint: Option<EndpointKind>,
    workers: u16,
) -> Result<Child, ApiError> {
    let log = fs::File::create(directory.join("log")).map_err(|error| failed("a log", &error))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("heddle")
        .arg("--socket")
        .arg(&client.sockets().api)
        .args([
            "daemon",
            "--idle-exit",
            ORPHAN_SECONDS,
            "--workers",
            &workers.to_string(),
        ])
        .arg("--store")
        .arg(directory.join("store.redb"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if let Some(endpoint) = endpoint {
        command.args(["--endpoint", &endpoint.to_string()]);
    }
    let daemon = command
        .spawn()
        .map_err(|error| failed("the daemon", &error))?;
    let process = process::pidfd_open(daemon.id()).map_err(|error| failed("the daemon", &error))?;
    let deadline = now() + START_TIME;
    while !client.is_answered() {
        let look = Some(Duration::from_millis(5));
        let ended = wait_readable(process.as_fd(), look).unwrap_or(true);
        if ended || now() > deadline {
            let said = fs::read_to_string(directory.join("log")).unwrap_or_default();
            return Err(failed("the daemon", &said.trim()));
        }
    }
    Ok(daemon)
}

#[expect(clippy::disallowed_methods, reason = "the daemon starts in real time")]
fn now() -> Instant {
    Instant::now()
}
