//! The kernel: veth pairs on a bridge, and nftables for translation.

use std::io::Write as _;
use std::process::{Command, Stdio};

use heddle_sys::clock::monotonic;
use heddle_sys::sysctl;
use heddle_wire::Family;

use super::Peer;
use crate::ground::{
    CLIENT, GATEWAY, Ground, OUTSIDE, OUTSIDE_SERVER, SERVER, Topology, of, router, setup,
};
use crate::job;
use crate::problem::Problem;
use crate::sandbox::{INTERFACE, Sandbox, Setup, set_up, veth, wait_running};
use crate::stage::Stage;
use crate::traffic;

/// Translates the source of whatever leaves through `wan`.
const MASQUERADE: &str = "table inet translation {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname \"wan\" masquerade
    }
}
";

pub(super) struct Kernel;

impl Peer for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn program(&self) -> Option<&'static str> {
        Some("ip")
    }

    fn lay(&self, _: &Stage, topology: Topology) -> Result<Option<Ground>, Problem> {
        let (client, server, yard) = (Sandbox::new()?, Sandbox::new()?, Sandbox::new()?);
        make_bridge(&yard)?;
        plug(&yard, "p1", &client)?;
        let target = match topology {
            Topology::Bridge => {
                client.configure(INTERFACE, &setup(CLIENT))?;
                plug(&yard, "p2", &server)?;
                server.configure(INTERFACE, &setup(SERVER))?;
                SERVER
            }
            Topology::Nat => {
                yard.configure("br0", &router(GATEWAY))?;
                client.configure(
                    INTERFACE,
                    &Setup {
                        gateways: GATEWAY.to_vec(),
                        ..setup(CLIENT)
                    },
                )?;
                let wan = veth("wan", INTERFACE, Some(server.network()));
                yard.netlink()?.create_veth(&wan)?;
                server.configure(INTERFACE, &setup(OUTSIDE_SERVER))?;
                yard.configure("wan", &router(OUTSIDE))?;
                translate(&yard)?;
                OUTSIDE_SERVER
            }
        };
        wait_running(&mut yard.netlink()?, "p1")?;
        Ground {
            switch: Vec::new(),
            client,
            server,
            target,
            _joint: Box::new(yard),
        }
        .prove()
        .map(Some)
    }

    fn attach(&self, _: &Stage, family: Family) -> Result<Option<f64>, Problem> {
        let (client, yard) = (Sandbox::new()?, Sandbox::new()?);
        make_bridge(&yard)?;
        yard.configure("br0", &router(GATEWAY))?;
        let begin = monotonic();
        plug(&yard, "p1", &client)?;
        client.configure(INTERFACE, &setup(CLIENT))?;
        client.run(|| traffic::ping(of(GATEWAY, family)))?;
        Ok(Some((monotonic() - begin).as_secs_f64()))
    }
}

fn make_bridge(yard: &Sandbox) -> Result<(), Problem> {
    yard.run(|| {
        let mut command = Command::new("ip");
        command.args(["link", "add", "br0", "type", "bridge"]);
        job::run(command)?;
        Ok(())
    })?;
    set_up(&mut yard.netlink()?, "br0")?;
    Ok(())
}

/// A veth pair from the bridge into a container.
fn plug(yard: &Sandbox, port: &str, sandbox: &Sandbox) -> Result<(), Problem> {
    let mut netlink = yard.netlink()?;
    netlink.create_veth(&veth(port, INTERFACE, Some(sandbox.network())))?;
    yard.run(|| {
        let mut command = Command::new("ip");
        command.args(["link", "set", port, "master", "br0"]);
        job::run(command)?;
        Ok(())
    })?;
    set_up(&mut netlink, port)?;
    Ok(())
}

fn translate(yard: &Sandbox) -> Result<(), Problem> {
    yard.run(|| {
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            if sysctl::write(key, "1")? != sysctl::Outcome::Set {
                return Err(format!("{key} cannot be set").into());
            }
        }
        let nft = super::find("nft").ok_or("nft is not installed")?;
        let mut child = Command::new(nft)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().ok_or("nft has an input")?;
        input.write_all(MASQUERADE.as_bytes())?;
        drop(input);
        if child.wait()?.success() {
            Ok(())
        } else {
            Err("nft refused the rules".into())
        }
    })
}
