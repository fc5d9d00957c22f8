//! Open vSwitch with its datapath in user space, with a database of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{CROWD, Peer, find, resident};
use crate::clock::wait_until;
use crate::ground::{CLIENT, Ground, Joint, SERVER, Topology, inside, setup};
use crate::job::{self, Job};
use crate::problem::Problem;
use crate::sandbox::{INTERFACE, Sandbox, set_up, veth, wait_running};
use crate::stage::Stage;
use crate::traffic;

const PROGRAM: &str = "ovs-vswitchd";

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

pub(super) struct Ovs;

impl Peer for Ovs {
    fn name(&self) -> &'static str {
        "ovs"
    }

    fn program(&self) -> Option<&'static str> {
        Some(PROGRAM)
    }

    fn lay(&self, stage: &Stage, topology: Topology) -> Result<Option<Ground>, Problem> {
        if topology != Topology::Bridge {
            return Ok(None);
        }
        let (client, server) = (Sandbox::new()?, Sandbox::new()?);
        let switch = Switch::start(stage, &[(&client, CLIENT), (&server, SERVER)])?;
        Ground {
            switch: vec![switch.switch.pid],
            client,
            server,
            target: SERVER,
            joint: Box::new(switch),
        }
        .prove()
        .map(Some)
    }

    fn memory(&self, stage: &Stage) -> Result<Option<f64>, Problem> {
        let sandboxes: Vec<Sandbox> = (0..CROWD)
            .map(|_| Sandbox::new())
            .collect::<Result<_, _>>()?;
        let crowd: Vec<_> = (2..)
            .zip(&sandboxes)
            .map(|(host, it)| (it, inside(host)))
            .collect();
        let switch = Switch::start(stage, &crowd)?;
        sandboxes[0].run(|| traffic::ping(SERVER[0]))?;
        resident(&[switch.switch.pid]).map(Some)
    }
}

#[derive(Debug)]
struct Switch {
    switch: Job<()>,
    _database: Job<()>,
    _yard: Sandbox,
    _directory: tempfile::TempDir,
}

impl Joint for Switch {}

impl Switch {
    fn start(
        stage: &Stage,
        crowd: &[(&Sandbox, [std::net::IpAddr; 2])],
    ) -> Result<Switch, Problem> {
        let directory = stage.directory()?;
        let yard = Sandbox::new()?;
        let path = directory.path();
        let file = |name: &str| path.join(name).to_string_lossy().into_owned();
        let socket = file("db.sock");
        job::run(tool(
            path,
            "ovsdb-tool",
            &["create", &file("conf.db"), SCHEMA],
        )?)?;
        let database = Job::execute(
            tool(
                path,
                "ovsdb-server",
                &[
                    &file("conf.db"),
                    &format!("--remote=punix:{socket}"),
                    &format!("--unixctl={}", file("database.ctl")),
                ],
            )?,
            || yard.enter(),
        )?;
        wait_until("ovsdb-server listens", || Ok(Path::new(&socket).exists()))?;
        let remote = format!("unix:{socket}");
        let set = |arguments: &[&str]| -> Result<(), Problem> {
            let database = format!("--db={remote}");
            let arguments = [&[database.as_str(), "--timeout=10"], arguments].concat();
            job::run(tool(path, "ovs-vsctl", &arguments)?)?;
            Ok(())
        };
        set(&["--no-wait", "init"])?;
        let switch = Job::execute(
            tool(
                path,
                PROGRAM,
                &[
                    &remote,
                    "--disable-system",
                    &format!("--unixctl={}", file("switch.ctl")),
                ],
            )?,
            || yard.enter(),
        )?;
        set(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=netdev",
        ])?;
        for (place, (sandbox, addresses)) in crowd.iter().enumerate() {
            let port = format!("p{place}");
            let mut netlink = yard.netlink()?;
            netlink.create_veth(&veth(&port, INTERFACE, Some(sandbox.network())))?;
            set_up(&mut netlink, &port)?;
            // It reads whole frames with finished checksums.
            sandbox.disable_offloads(INTERFACE)?;
            sandbox.configure(INTERFACE, &setup(*addresses))?;
            wait_running(&mut netlink, &port)?;
            set(&["add-port", "br0", &port])?;
        }
        Ok(Switch {
            switch,
            _database: database,
            _yard: yard,
            _directory: directory,
        })
    }
}

/// One of its programs, which keeps to a directory.
fn tool(directory: &Path, program: &str, arguments: &[&str]) -> Result<Command, Problem> {
    let path = find(program).ok_or_else(|| format!("{program} is not installed"))?;
    let mut command = Command::new(path);
    command.args(arguments);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, directory);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Ok(command)
}
