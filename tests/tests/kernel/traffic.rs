//! What scenarios send, and how they see that it has arrived.

use std::net::IpAddr;

use heddle_tests::host::{Container, Ended, Host, eventually, program};
use ipnet::IpNet;
use serde_json::Value;

/// Sends echo requests, one after the other is answered or given up, until one is answered.
pub(crate) fn ping(from: &Container, to: IpAddr) {
    let ended = try_ping(from, to, &["-c", "3", "-i", "0.1", "-W", "5"]);
    let what = format!("{to}: {ended:#?}");
    assert!(ended.stdout.contains("3 received"), "{what}");
}

/// `ping` with options of one's own.
pub(crate) fn try_ping(from: &Container, to: IpAddr, options: &[&str]) -> Ended {
    let mut ping = program("ping");
    ping.args(["-n"]).args(options).arg(to.to_string());
    from.execute(ping)
}

/// A network's endpoint as its listing shows it.
pub(crate) fn endpoint(host: &Host, network: &str, sandbox: &str) -> Value {
    let shown = host.heddle.show(&["network", "inspect", network]);
    let endpoints = shown["endpoints"].as_array().expect("a list");
    endpoints
        .iter()
        .find(|endpoint| endpoint["sandbox"] == sandbox)
        .unwrap_or_else(|| panic!("{sandbox} is not in {network}: {shown:#}"))
        .clone()
}

/// The addresses that an endpoint was given: IPv4, then IPv6.
pub(crate) fn addresses(endpoint: &Value) -> Vec<IpAddr> {
    let texts = endpoint["plan"]["addresses"].as_array().expect("a list");
    let mut addresses: Vec<IpAddr> = texts
        .iter()
        .map(|text| {
            let net: IpNet = text.as_str().expect("a text").parse().expect("an address");
            net.addr()
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Attaches a container by its process; the addresses that it got.
pub(crate) fn attach(host: &Host, container: &Container, network: &str, name: &str) -> Vec<IpAddr> {
    attach_with(host, container, network, name, &[])
}

/// The same with options.
pub(crate) fn attach_with(
    host: &Host,
    container: &Container,
    network: &str,
    name: &str,
    options: &[&str],
) -> Vec<IpAddr> {
    let pid = container.pid.to_string();
    let attach = ["attach", &pid, "--network", network, "--name", name];
    host.heddle.run(&[&attach, options].concat());
    addresses(&endpoint(host, network, name))
}

/// What `iperf3` measures between a server at an address and a client that calls it `to`.
pub(crate) fn iperf(
    (server, at): (&Container, IpAddr),
    (client, to): (&Container, IpAddr),
    options: &[&str],
) -> Value {
    let mut listen = program("iperf3");
    // Over UDP it would answer from whatever address its kernel likes best.
    listen.args(["--server", "--one-off", "--forceflush", "--bind"]);
    listen.arg(at.to_string());
    let listening = server.start(listen);
    eventually("iperf3 listens", || {
        assert!(!listening.has_ended(), "{}", listening.stderr());
        listening.stdout().contains("Server listening")
    });
    let mut call = program("iperf3");
    call.args(["--json", "--connect-timeout", "10000", "--client"])
        .arg(to.to_string())
        .args(options);
    let said = client.execute(call).success();
    // The next one needs its port.
    let _ = listening.end();
    serde_json::from_str(&said).expect("iperf3 was asked for JSON")
}
