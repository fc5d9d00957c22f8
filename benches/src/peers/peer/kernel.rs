//! The kernel: veth pairs on a bridge, and nftables for translation.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use heddle_sys::clock::monotonic;
use heddle_sys::netlink::VethOptions;
use heddle_sys::sysctl;
use heddle_wire::Family;

use super::Peer;
use crate::behaviour::{Arrangement, Flow, OUTSIDE_MTU, PUBLISHED, Station, Translator};
use crate::ground::{
    CLIENT, GATEWAY, Ground, OUTSIDE, OUTSIDE_SERVER, SERVER, Topology, of, router, setup,
};
use crate::job;
use crate::problem::Problem;
use crate::sandbox::{INTERFACE, Sandbox, Setup, set_up, veth, wait_running, wait_until_swept};
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

/// The same as a router has it that lets nobody in: what belongs to a connection passes, and what a
/// host inside begins; the outside may knock at the published port and ask for echoes.
fn router_rules() -> String {
    let [v4, v6] = Station::A.addresses();
    format!(
        "table inet router {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname \"wan\" meta nfproto ipv4 udp dport {PUBLISHED} dnat ip to {v4}
        iifname \"wan\" meta nfproto ipv6 udp dport {PUBLISHED} dnat ip6 to {v6}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname \"wan\" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname \"br0\" accept
        ct status dnat accept
    }}
    chain input {{
        type filter hook input priority filter;
        iifname \"wan\" ct state established,related accept
        iifname \"wan\" meta l4proto {{ icmp, ipv6-icmp }} accept
        iifname \"wan\" drop
    }}
}}
"
    )
}

/// Where the kernel lists what it tracks, with the seconds that are left (nf_conntrack).
const TRACKED: &str = "/proc/thread-self/net/nf_conntrack";

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
                translate(&yard, MASQUERADE)?;
                OUTSIDE_SERVER
            }
        };
        wait_running(&mut yard.netlink()?, "p1")?;
        Ground {
            switch: Vec::new(),
            client,
            server,
            target,
            joint: Box::new(yard),
        }
        .prove()
        .map(Some)
    }

    fn arrange(&self, _: &Stage) -> Result<Option<Arrangement>, Problem> {
        if super::find("nft").is_none() {
            return Err("nft is not installed".into());
        }
        let insiders = [Sandbox::new()?, Sandbox::new()?, Sandbox::new()?];
        let (outside, yard) = (Sandbox::new()?, Sandbox::new()?);
        make_bridge(&yard)?;
        let ports = ["p1", "p2", "p3"];
        for (sandbox, port) in insiders.iter().zip(ports) {
            plug(&yard, port, sandbox)?;
            set_up(&mut sandbox.netlink()?, INTERFACE)?;
        }
        yard.configure("br0", &router(GATEWAY))?;
        yard.netlink()?.create_veth(&VethOptions {
            mtu: Some(OUTSIDE_MTU.into()),
            ..veth("wan", INTERFACE, Some(outside.network()))
        })?;
        set_up(&mut outside.netlink()?, INTERFACE)?;
        yard.configure(
            "wan",
            &Setup {
                gateways: OUTSIDE_SERVER.to_vec(),
                ..router(OUTSIDE)
            },
        )?;
        translate(&yard, &router_rules())?;
        for port in ports.into_iter().chain(["wan"]) {
            wait_running(&mut yard.netlink()?, port)?;
        }
        Ok(Some(Arrangement {
            joint: Box::new(yard),
            insiders,
            outside,
        }))
    }

    fn attach(&self, _: &Stage, family: Family) -> Result<Option<f64>, Problem> {
        let (client, yard) = (Sandbox::new()?, Sandbox::new()?);
        make_bridge(&yard)?;
        yard.configure("br0", &router(GATEWAY))?;
        wait_until_swept()?;
        let begin = monotonic();
        plug(&yard, "p1", &client)?;
        client.configure(INTERFACE, &setup(CLIENT))?;
        client.run(|| traffic::ping(of(GATEWAY, family)))?;
        Ok(Some((monotonic() - begin).as_secs_f64()))
    }
}

impl Translator for Sandbox {
    fn remembers(&self, flow: &Flow) -> Result<Option<Duration>, Problem> {
        let Some(tracked) = self.run(|| Ok(std::fs::read_to_string(TRACKED).ok()))? else {
            return Ok(None);
        };
        let found = tracked.lines().find_map(|line| seconds_of(line, flow));
        found
            .map(Some)
            .ok_or_else(|| "it tracks no such flow".into())
    }
}

/// What is left of a flow if a line is about it: layer 3 by name and number, layer 4 by name and
/// number, seconds, the state of TCP, and then twice a tuple, of which the first is the original one.
fn seconds_of(line: &str, flow: &Flow) -> Option<Duration> {
    let mut columns = line.split_ascii_whitespace().skip(3);
    let protocol: u8 = columns.next()?.parse().ok()?;
    let seconds: u64 = columns.next()?.parse().ok()?;
    let value = |key: &str| {
        let mut columns = line.split_ascii_whitespace();
        columns.find_map(|column| column.strip_prefix(key))
    };
    let source: IpAddr = value("src=")?.parse().ok()?;
    let port: u16 = value("sport=").or_else(|| value("id="))?.parse().ok()?;
    let is_it = protocol == flow.protocol.0 && source == flow.source.to_ip() && port == flow.port;
    is_it.then(|| Duration::from_secs(seconds))
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

fn translate(yard: &Sandbox, rules: &str) -> Result<(), Problem> {
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
        input.write_all(rules.as_bytes())?;
        drop(input);
        if child.wait()?.success() {
            Ok(())
        } else {
            Err("nft refused the rules".into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_wire::Protocol;

    #[test]
    fn what_is_left_of_a_flow_stands_in_its_line() {
        let udp = "ipv4     2 udp      17 29 src=10.7.0.2 dst=198.51.100.7 sport=10000 dport=3478 \
                   [UNREPLIED] src=198.51.100.7 dst=203.0.113.2 sport=3478 dport=10000 mark=0 use=2";
        let icmp = "ipv6     10 icmpv6   58 28 src=fd07:0000:0000:0000:0000:0000:0000:0002 \
                    dst=2001:0db8:0099:0000:0000:0000:0000:0007 type=128 code=0 id=7 src=::1 dst=::2 \
                    type=129 code=0 id=8 mark=0 use=2";
        let flow = |protocol, source: &str, port| Flow {
            protocol,
            source: source.parse().unwrap(),
            port,
        };
        let known = flow(Protocol::UDP, "10.7.0.2", 10_000);
        assert_eq!(seconds_of(udp, &known), Some(Duration::from_secs(29)));
        let query = flow(Protocol::ICMPV6, "fd07::2", 7);
        assert_eq!(seconds_of(icmp, &query), Some(Duration::from_secs(28)));
        for other in [
            flow(Protocol::TCP, "10.7.0.2", 10_000),
            flow(Protocol::UDP, "10.7.0.3", 10_000),
            flow(Protocol::UDP, "198.51.100.7", 3_478),
            query,
        ] {
            assert_eq!(seconds_of(udp, &other), None);
        }
    }
}
