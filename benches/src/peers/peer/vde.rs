//! VDE: a switch process with a TAP for each container.

use std::process::{Command, Stdio};

use super::{CROWD, Peer, resident};
use crate::clock::wait_until;
use crate::ground::{CLIENT, Ground, Joint, SERVER, Topology, inside, setup};
use crate::job::Job;
use crate::problem::Problem;
use crate::sandbox::{INTERFACE, Sandbox};
use crate::stage::Stage;
use crate::traffic;

const PROGRAM: &str = "vde_switch";

pub(super) struct Vde;

impl Peer for Vde {
    fn name(&self) -> &'static str {
        "vde"
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
            switch: vec![switch.process.pid],
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
        resident(&[switch.process.pid]).map(Some)
    }
}

#[derive(Debug)]
struct Switch {
    process: Job<()>,
    /// The other end of its console: it ends with that.
    _console: std::io::PipeWriter,
    _directory: tempfile::TempDir,
}

impl Joint for Switch {}

impl Switch {
    /// Makes its TAPs in a namespace of its own, from where they are moved into the containers; they
    /// keep passing frames.
    fn start(
        stage: &Stage,
        crowd: &[(&Sandbox, [std::net::IpAddr; 2])],
    ) -> Result<Switch, Problem> {
        let directory = stage.directory()?;
        let yard = Sandbox::new()?;
        let mut command = Command::new(PROGRAM);
        command.arg("--sock").arg(directory.path().join("ctl"));
        // Without a file of settings, whatever the machine has.
        command.arg("--rcfile").arg("/dev/null");
        let names: Vec<String> = (0..crowd.len()).map(|place| format!("t{place}")).collect();
        for name in &names {
            command.args(["--tap", name]);
        }
        let (input, console) = std::io::pipe()?;
        command
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Job::execute(command, || yard.enter())?;
        let mut netlink = yard.netlink()?;
        for (name, (sandbox, addresses)) in names.iter().zip(crowd) {
            wait_until("vde_switch makes its TAPs", || {
                Ok(netlink.link(name).is_ok())
            })?;
            let link = netlink.link(name)?;
            netlink.set_link(
                link.index,
                &heddle_sys::netlink::LinkChange {
                    netns: Some(sandbox.network()),
                    name: Some(INTERFACE),
                    ..Default::default()
                },
            )?;
            sandbox.configure(INTERFACE, &setup(*addresses))?;
        }
        Ok(Switch {
            process,
            _console: console,
            _directory: directory,
        })
    }
}
