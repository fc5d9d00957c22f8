//! heddle itself: this program under its other name, as a daemon and as its command line.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use heddle_sys::clock::monotonic;
use heddle_wire::Family;
use serde_json::Value;

use super::{CROWD, EndpointKind, Peer, resident};
use crate::behaviour::{Arrangement, Flow, OUTSIDE_MTU, PUBLISHED, Station, Translator};
use crate::clock::wait_until;
use crate::ground::{
    CLIENT, GATEWAY, Ground, INSIDE, Joint, OUTSIDE, OUTSIDE_SERVER, PREFIX, SERVER, Topology,
    inside, of,
};
use crate::job::{self, Job};
use crate::problem::Problem;
use crate::sandbox::{Sandbox, wait_until_swept};
use crate::stage::Stage;
use crate::traffic;

/// How long a daemon stays that was not told to end, in seconds.
const ORPHAN_SECONDS: &str = "5";

/// How long a daemon may take to end.
const END_TIME: Duration = Duration::from_secs(3);

/// Addresses of a network that nobody is in.
const NARROW: [&str; 2] = ["10.8.0.0/24", "fd08::/64"];

pub(super) struct Heddle;

impl Peer for Heddle {
    fn name(&self) -> &'static str {
        "heddle"
    }

    fn lay(&self, stage: &Stage, topology: Topology) -> Result<Option<Ground>, Problem> {
        let (client, server) = (Sandbox::new()?, Sandbox::new()?);
        let daemon = Daemon::start(stage)?;
        let target = match topology {
            Topology::Bridge => {
                daemon.network(&["--internal"])?;
                daemon.attach(&server, "server", SERVER)?;
                SERVER
            }
            Topology::Nat => {
                let arguments = uplink(&server);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                daemon.network(&arguments)?;
                OUTSIDE_SERVER
            }
        };
        daemon.attach(&client, "client", CLIENT)?;
        Ground {
            switch: daemon.processes()?[..1].to_vec(),
            client,
            server,
            target,
            joint: Box::new(daemon),
        }
        .prove()
        .map(Some)
    }

    fn arrange(&self, stage: &Stage) -> Result<Option<Arrangement>, Problem> {
        let insiders = [Sandbox::new()?, Sandbox::new()?, Sandbox::new()?];
        let outside = Sandbox::new()?;
        let daemon = Daemon::start(stage)?;
        let arguments = uplink(&outside);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // The link outside is as wide as the first network that goes out by it.
        let [v4, v6] = NARROW;
        let first = [
            "network", "create", "narrow", "--subnet", v4, "--subnet", v6,
        ];
        let mtu = format!("mtu={OUTSIDE_MTU}");
        daemon.call(&[&first[..], &arguments, &["-o", &mtu]].concat())?;
        daemon.network(&arguments)?;
        let names = ["a", "b", "c"];
        for ((sandbox, name), station) in insiders.iter().zip(names).zip(Station::INSIDE) {
            daemon.attach(sandbox, name, station.addresses())?;
        }
        let publication = format!("{PUBLISHED}:{PUBLISHED}/udp");
        daemon.call(&["port", "publish", names[0], &publication])?;
        Ok(Some(Arrangement {
            joint: Box::new(daemon),
            insiders,
            outside,
        }))
    }

    fn attach(&self, stage: &Stage, family: Family) -> Result<Option<f64>, Problem> {
        let daemon = Daemon::start(stage)?;
        daemon.network(&["--internal"])?;
        let client = Sandbox::new()?;
        wait_until_swept()?;
        let begin = monotonic();
        daemon.attach(&client, "client", CLIENT)?;
        client.run(|| traffic::ping(of(GATEWAY, family)))?;
        Ok(Some((monotonic() - begin).as_secs_f64()))
    }

    fn memory(&self, stage: &Stage) -> Result<Option<f64>, Problem> {
        let daemon = Daemon::start(stage)?;
        daemon.network(&["--internal"])?;
        let mut crowd = Vec::new();
        for host in 0..CROWD {
            let sandbox = Sandbox::new()?;
            daemon.attach(&sandbox, &format!("c{host}"), inside(host + 2))?;
            crowd.push(sandbox);
        }
        crowd[0].run(|| traffic::ping(SERVER[0]))?;
        resident(&daemon.processes()?[..1]).map(Some)
    }
}

/// A daemon with a directory of its own.
#[derive(Debug)]
struct Daemon {
    directory: tempfile::TempDir,
    process: Job<()>,
    /// The process that carries frames: the keeper makes another one if it ends.
    carrier: u32,
}

impl Daemon {
    fn start(stage: &Stage) -> Result<Daemon, Problem> {
        let directory = stage.directory()?;
        let mut command = heddle(directory.path());
        let kind = match stage.endpoint {
            EndpointKind::Tap => "tap",
            EndpointKind::Veth => "veth",
        };
        command
            .args(["daemon", "--idle-exit", ORPHAN_SECONDS, "--endpoint", kind])
            .arg("--store")
            .arg(directory.path().join("store.redb"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log"))?);
        if let Some(workers) = stage.workers {
            command.args(["--workers", &workers.to_string()]);
        }
        let process = Job::execute(command, || Ok(()))?;
        let mut daemon = Daemon {
            directory,
            process,
            carrier: 0,
        };
        wait_until("the daemon answers", || {
            if daemon.process.has_ended() {
                let said = std::fs::read_to_string(daemon.directory.path().join("log"))?;
                return Err(format!("the daemon: {}", said.trim()).into());
            }
            Ok(std::os::unix::net::UnixStream::connect(daemon.socket()).is_ok())
        })?;
        daemon.carrier = daemon.processes()?[0];
        Ok(daemon)
    }

    fn socket(&self) -> std::path::PathBuf {
        socket(self.directory.path())
    }

    fn call(&self, arguments: &[&str]) -> Result<String, Problem> {
        let mut command = heddle(self.directory.path());
        command.args(arguments);
        job::run(command)
    }

    fn network(&self, arguments: &[&str]) -> Result<(), Problem> {
        let [v4, v6] = INSIDE;
        let create = ["network", "create", "lab", "--subnet", v4, "--subnet", v6];
        self.call(&[&create[..], arguments].concat())?;
        Ok(())
    }

    fn attach(
        &self,
        sandbox: &Sandbox,
        name: &str,
        addresses: [std::net::IpAddr; 2],
    ) -> Result<(), Problem> {
        let [v4, v6] = addresses.map(|address| address.to_string());
        let pid = sandbox.pid().to_string();
        self.call(&[
            "attach",
            &pid,
            "--network",
            "lab",
            "--name",
            name,
            "--ip",
            &v4,
            "--ip",
            &v6,
        ])?;
        Ok(())
    }

    /// The process that carries frames, and its keeper if there is one.
    fn processes(&self) -> Result<Vec<u32>, Problem> {
        let status: Value = serde_json::from_str(&self.call(&["status", "--json"])?)?;
        let pid = |key: &str| status[key].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let daemon = pid("pid").ok_or("the status names no process")?;
        Ok([daemon].into_iter().chain(pid("keeper")).collect())
    }
}

impl Joint for Daemon {
    /// Whether it had to be started again, what it has dropped, and its log.
    fn account(&self) -> Option<String> {
        let carrier = match self.processes() {
            Ok(processes) if processes[0] == self.carrier => String::new(),
            Ok(processes) => format!("it came back as process {}\n", processes[0]),
            Err(problem) => format!("{problem}\n"),
        };
        let drops = self.call(&["drops"]).unwrap_or_default();
        let log = std::fs::read_to_string(self.directory.path().join("log"));
        Some(carrier + &drops + &log.unwrap_or_default())
    }
}

impl Translator for Daemon {
    fn remembers(&self, flow: &Flow) -> Result<Option<Duration>, Problem> {
        let said = self.call(&["flow", "ls", "--json"])?;
        let flows: Vec<Value> = serde_json::from_str(&said)?;
        let protocol = flow.protocol.to_string().to_lowercase();
        let source = flow.source.to_ip().to_string();
        let is_it = |said: &&Value| {
            let original = &said["original"];
            said["protocol"] == *protocol
                && original["source"] == *source
                && original["source_port"] == flow.port
        };
        let found = flows.iter().find(is_it).ok_or("it knows no such flow")?;
        let seconds = found["expires_seconds"].as_u64();
        Ok(seconds.map(Duration::from_secs))
    }
}

impl Drop for Daemon {
    /// The process that was started is the keeper: killed, it would leave the daemon alone.
    fn drop(&mut self) {
        if self.call(&["down", "--purge"]).is_ok() {
            self.process.wait(END_TIME);
        }
    }
}

/// A way out into the namespace of the next hop.
fn uplink(outside: &Sandbox) -> Vec<String> {
    let kind = format!("netns:/proc/{}/ns/net", outside.pid());
    let mut arguments = vec!["--uplink".to_owned(), kind];
    for family in 0..2 {
        let (own, next, prefix) = (OUTSIDE[family], OUTSIDE_SERVER[family], PREFIX[family]);
        arguments.extend(["-o".to_owned(), format!("uplink_address={own}/{prefix}")]);
        arguments.extend(["-o".to_owned(), format!("uplink_gateway={next}")]);
    }
    arguments
}

/// This program as heddle.
fn heddle(directory: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("heddle")
        .arg("--socket")
        .arg(socket(directory));
    command
}

fn socket(directory: &Path) -> std::path::PathBuf {
    directory.join("heddle.sock")
}
