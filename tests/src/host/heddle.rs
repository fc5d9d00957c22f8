//! The command `heddle` on a host, and its daemon.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};
use serde_json::Value;

use super::program::{Ended, Running, program};
use super::stage::Kind;
use super::wait::eventually;

/// Where the command finds programs: not in directories that its user may not even enter.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the daemon listens.
const SOCKET: &str = "/run/heddle/heddle.sock";

/// The command and its daemon.
#[derive(Debug)]
pub struct Heddle {
    kind: Kind,
    daemon: Option<Running>,
}

/// A command that was refused.
#[derive(Debug)]
pub struct Refusal {
    /// What it complained of, without the hint.
    pub message: String,
    /// What it advised.
    pub hint: Option<String>,
    /// Its exit status.
    pub status: i32,
}

impl Heddle {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, daemon: None }
    }

    /// The command with these arguments, to be run by whoever the daemon is.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("heddle")
            .args(arguments)
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", "/run/home")
            .env("XDG_RUNTIME_DIR", "/run")
            .env("XDG_STATE_HOME", "/run/state");
        command
    }

    /// The socket that the daemon listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        Path::new(SOCKET)
    }

    /// Starts the daemon, with the kind of endpoints that the scenario is about, and waits until it
    /// answers.
    pub fn start(&mut self, options: &[&str]) {
        let kind = ["--endpoint", self.kind.name()];
        self.start_as(&[&kind, options].concat(), || Ok(()));
    }

    /// Starts the daemon in a process that first does `prepare`, with whatever endpoints it chooses.
    pub fn start_as(&mut self, options: &[&str], prepare: impl FnOnce() -> io::Result<()>) {
        let arguments = [&["daemon", "--workers", "2"], options].concat();
        let daemon = Running::start(self.command(&arguments), prepare);
        eventually("the daemon answers", || {
            assert!(!daemon.has_ended(), "{}", daemon.stderr());
            self.attempt(&["status"]).status.success()
        });
        self.daemon = Some(daemon);
    }

    /// The process that [`start`](Self::start) has started.
    #[must_use]
    pub fn daemon(&self) -> &Running {
        self.daemon.as_ref().expect("the scenario has started one")
    }

    /// Waits for the end of the daemon.
    #[must_use]
    pub fn daemon_end(&mut self) -> Ended {
        self.daemon
            .take()
            .expect("the scenario has started one")
            .end()
    }

    /// Starts the command.
    #[must_use]
    pub fn begin(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), || Ok(()))
    }

    /// Runs the command to its end, whatever that is.
    #[must_use]
    pub fn attempt(&self, arguments: &[&str]) -> Ended {
        self.begin(arguments).end()
    }

    /// Runs the command, which must succeed, and returns what it says.
    pub fn run(&self, arguments: &[&str]) -> String {
        let ended = self.attempt(arguments);
        let Ended {
            status,
            stdout,
            stderr,
        } = ended;
        assert!(
            status.success(),
            "heddle {}: {status}\n{stderr}{stdout}",
            arguments.join(" ")
        );
        stdout
    }

    /// Runs the command as somebody who has the right to raw sockets of the host, besides whatever
    /// the daemon has; returns what it says.
    pub fn run_with_raw_sockets(&self, arguments: &[&str]) -> String {
        let prepare = || {
            let mut sets = capabilities(None)?;
            sets.inheritable |= CapabilitySet::NET_RAW;
            set_capabilities(None, sets)?;
            configure_capability_in_ambient_set(CapabilitySet::NET_RAW, true)?;
            Ok(())
        };
        Running::start(self.command(arguments), prepare)
            .end()
            .success()
    }

    /// Runs a command that lists something, as JSON.
    #[must_use]
    pub fn show(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).expect("the command was asked for JSON")
    }

    /// Runs a command that must be refused.
    #[must_use]
    pub fn refused(&self, arguments: &[&str]) -> Refusal {
        let ended = self.attempt(arguments);
        let what = arguments.join(" ");
        assert!(!ended.status.success(), "heddle {what}: {ended:#?}");
        let mut message = Vec::new();
        let mut hint = None;
        for line in ended.stderr.lines() {
            match line.strip_prefix("hint: ") {
                Some(text) => hint = Some(text.to_owned()),
                None => message.push(line),
            }
        }
        Refusal {
            message: message.join("\n"),
            hint,
            status: ended.status.code().expect("it ended by itself"),
        }
    }

    /// Asks the daemon itself, with `curl`: the HTTP status and the body, which is JSON.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut curl = program("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--unix-socket",
            SOCKET,
        ])
        .args([
            "--write-out",
            "\n%{http_code}",
            "--request",
            method,
            "--data",
            body,
        ])
        .arg(format!("http://heddle{path}"));
        let said = Running::start(curl, || Ok(())).end().success();
        let (body, status) = said
            .rsplit_once('\n')
            .expect("the status is a line of its own");
        (
            status.parse().expect("a number"),
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")),
        )
    }

    /// The same once nothing changes any more: what is on its way to be closed must not be counted as
    /// what there was before.
    ///
    /// # Panics
    ///
    /// It never settles.
    #[must_use]
    pub fn settled_holdings(&self) -> Holdings {
        /// Looks in a row that see the same; one takes three commands.
        const LOOKS: u32 = 10;
        let (mut settled, mut looks) = (self.holdings(), 0);
        eventually("nothing changes any more", || {
            let now = self.holdings();
            looks = if now == settled { looks + 1 } else { 0 };
            settled = now;
            looks == LOOKS
        });
        settled
    }

    /// Everything that somebody has made, as listings show it, and what that takes.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let status = self.show(&["status"]);
        let number = |key: &str| status[key].as_u64().unwrap_or_default();
        Holdings {
            networks: self.show(&["network", "ls"]),
            ports: self.show(&["port", "ls"]),
            endpoints: status["endpoints"].clone(),
            sessions: number("sessions"),
            mappings: number("mappings"),
            descriptors: descriptors(number("pid")),
            threads: threads(number("pid")),
            keeper_descriptors: descriptors(number("keeper")),
        }
    }
}

/// What a daemon has and shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Holdings {
    /// Its networks.
    pub networks: Value,
    /// Its published ports.
    pub ports: Value,
    /// Its endpoints.
    pub endpoints: Value,
    /// How many sessions there are.
    pub sessions: u64,
    /// How many dynamic mappings there are.
    pub mappings: u64,
    /// How many descriptors it has open.
    pub descriptors: usize,
    /// How many threads that do not end by themselves.
    pub threads: usize,
    /// How many descriptors its keeper has open.
    pub keeper_descriptors: usize,
}

impl Holdings {
    /// Whether nothing was kept since `before`. What was about to be closed then may be gone now.
    #[must_use]
    pub fn keep_nothing_since(&self, before: &Holdings) -> bool {
        let Holdings {
            descriptors,
            threads,
            keeper_descriptors,
            ..
        } = *self;
        let counted = Holdings {
            descriptors: before.descriptors,
            threads: before.threads,
            keeper_descriptors: before.keeper_descriptors,
            ..self.clone()
        };
        counted == *before
            && descriptors <= before.descriptors
            && threads <= before.threads
            && keeper_descriptors <= before.keeper_descriptors
    }
}

fn descriptors(pid: u64) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The runtime's helpers, which have its name, end when they have had nothing to do for a while.
fn threads(pid: u64) -> usize {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| !name.starts_with("tokio"))
        .count()
}

impl Drop for Heddle {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(daemon) = &self.daemon
        {
            let said = daemon.stderr();
            let from = said.len().saturating_sub(4000);
            eprintln!("the daemon said: {}", said.get(from..).unwrap_or(&said));
        }
    }
}
