//! The steps of the tour.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::agent::{Agent, Outcome, Task};
use super::report::{Report, expect};
use super::stage::Stage;
use super::traffic::{Echo, STREAM, Transfer};
use crate::api::{
    ApiError, AttachRequest, CallerSandbox, CreateNetwork, Driver, DropCount, Endpoint, Name,
    Network, PublishRequest, PublishedPort, SandboxSpec, Status, Uplink, UplinkSpec,
};
use crate::cli::attach_by_caller;

/// The tour's outside: its own router, and a host behind that router. Documentation addresses
/// (RFC 5737, RFC 3849).
const OUTSIDE_V4: &str = "203.0.113.2/24";
const OUTSIDE_V6: &str = "2001:db8:1::2/64";
const ROUTER_V4: &str = "203.0.113.1";
const ROUTER_V6: &str = "2001:db8:1::1";
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1));

/// The containers once they are attached.
struct Cast {
    alice: Endpoint,
    bob: Endpoint,
    carol: Endpoint,
    shop: Network,
}

/// Walks all steps. An error means that the tour cannot go on; a check that fails is only noted.
pub(super) fn walk(stage: &mut Stage, report: &mut Report) -> Result<(), ApiError> {
    let cast = attach(stage, report)?;
    bridge(stage, report, &cast);
    gateway(stage, report, &cast);
    source_translation(stage, report);
    destination_translation(stage, report)?;
    hairpin(stage, report);
    isolation(stage, report, &cast);
    spoofing(stage, report, &cast)?;
    detach(stage, report)
}

fn name(text: &str) -> Result<Name, ApiError> {
    text.parse().map_err(|error: crate::api::NameError| {
        ApiError::new(crate::api::ErrorCode::InvalidName, error.to_string())
    })
}

fn attach(stage: &Stage, report: &mut Report) -> Result<Cast, ApiError> {
    report.step(
        "Two networks, three containers, one internet",
        "Alice and Bob share the network 'shop', which has a way out; Carol is alone in 'vault', which \
         has none.",
    );
    let client = &stage.client;
    let uplink = format!("netns:/proc/{}/ns/net", stage.internet.pid);
    report.command(&format!(
        "network create shop --uplink {uplink} -o uplink_address={OUTSIDE_V4} \
         -o uplink_gateway={ROUTER_V4} ..."
    ));
    let shop: Network = client.post("/v1/networks", &shop_request(&uplink)?)?;
    report.command("network create vault --internal");
    let _: Network = client.post("/v1/networks", &vault_request()?)?;
    let far = stage
        .internet
        .run(&Task::AddAddresses(vec![FAR_V4, FAR_V6]));
    report.check(
        "the internet has a host far away",
        far.map(|_| format!("{FAR_V4}, {FAR_V6}")),
    );
    let attach = |agent: &Agent, network: &str, who: &str| -> Result<Endpoint, ApiError> {
        let request = AttachRequest {
            sandbox: SandboxSpec::Caller(CallerSandbox::Pid(agent.pid)),
            name: Some(name(who)?),
            name_like: None,
            addresses: Vec::new(),
            mac: None,
            interface: None,
            publish: Vec::new(),
            kind: stage.endpoint,
        };
        attach_by_caller(client, &name(network)?, &request)
    };
    let mut endpoints = Vec::new();
    for (agent, network, who) in [
        (&stage.alice, "shop", "alice"),
        (&stage.bob, "shop", "bob"),
        (&stage.carol, "vault", "carol"),
    ] {
        report.command(&format!(
            "attach {} --network {network} --name {who}",
            agent.pid
        ));
        let started = now();
        let endpoint = attach(agent, network, who)?;
        let addresses: Vec<String> = endpoint
            .plan
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        let seen = format!(
            "{} in {:.1} ms",
            addresses.join(", "),
            millis(started.elapsed())
        );
        report.check(&format!("{who} is attached"), Ok(seen));
        endpoints.push(endpoint);
    }
    let status: Status = client.get("/v1/status")?;
    let kinds: Vec<String> = status
        .endpoints
        .into_iter()
        .take(1)
        .map(|endpoint| endpoint.description)
        .collect();
    report.check("what joins them", Ok(kinds.join(", ")));
    match <[Endpoint; 3]>::try_from(endpoints) {
        Ok([alice, bob, carol]) => Ok(Cast {
            alice,
            bob,
            carol,
            shop,
        }),
        Err(_) => Err(ApiError::new(
            crate::api::ErrorCode::Internal,
            "a container is missing",
        )),
    }
}

fn shop_request(uplink: &str) -> Result<CreateNetwork, ApiError> {
    let bad = |problem: String| ApiError::new(crate::api::ErrorCode::Internal, problem);
    let kind: UplinkSpec = uplink
        .parse()
        .map_err(|error: crate::api::UplinkError| bad(error.to_string()))?;
    let mut way_out = Uplink {
        kind,
        ..Uplink::default()
    };
    for address in [OUTSIDE_V4, OUTSIDE_V6] {
        way_out.addresses.push(
            address
                .parse()
                .map_err(|error: ipnet::AddrParseError| bad(error.to_string()))?,
        );
    }
    for router in [ROUTER_V4, ROUTER_V6] {
        way_out.gateways.push(
            router
                .parse()
                .map_err(|error: std::net::AddrParseError| bad(error.to_string()))?,
        );
    }
    Ok(CreateNetwork {
        uplink: Some(way_out),
        ..vault_request_named("shop", false)?
    })
}

fn vault_request() -> Result<CreateNetwork, ApiError> {
    vault_request_named("vault", true)
}

fn vault_request_named(text: &str, internal: bool) -> Result<CreateNetwork, ApiError> {
    Ok(CreateNetwork {
        name: name(text)?,
        driver: Driver::Bridge,
        subnets: Vec::new(),
        gateways: Vec::new(),
        no_ipv4: false,
        no_ipv6: false,
        internal,
        uplink: None,
        uplink_token: None,
        mtu: None,
        route_to: Vec::new(),
        routes: Vec::new(),
        port_security: true,
        storm_control: crate::api::storm_control(),
        ageing_seconds: crate::api::ageing_seconds(),
    })
}

fn bridge(stage: &Stage, report: &mut Report, cast: &Cast) {
    report.step(
        "A bridge",
        "Frames between Alice and Bob are switched by MAC address; their kernels do the rest.",
    );
    for to in addresses(&cast.bob) {
        ping(report, "alice reaches bob", &stage.alice, to);
    }
    for to in addresses(&cast.bob) {
        let at = SocketAddr::new(to, 7000);
        let outcome = transfer(&stage.bob, at, &stage.alice, at).map(|_| streamed());
        report.check(
            &format!("TCP both ways between alice and bob over {}", family(to)),
            outcome,
        );
    }
}

fn gateway(stage: &Stage, report: &mut Report, cast: &Cast) {
    report.step(
        "A gateway",
        "Each network has one; it answers ARP, neighbour discovery and echo, and routes the rest.",
    );
    for &to in &cast.shop.gateways {
        ping(report, "alice reaches the gateway", &stage.alice, to);
    }
}

fn source_translation(stage: &Stage, report: &mut Report) {
    report.step(
        "The way out: SNAT",
        "Nobody outside knows Alice's address, so what she sends carries heddle's, and answers find \
         their way back.",
    );
    for (to, outside) in far_and_outside() {
        ping(report, "alice reaches the internet", &stage.alice, to);
        let at = SocketAddr::new(to, 80);
        let outcome = transfer(&stage.internet, at, &stage.alice, at).and_then(|seen| {
            expect(
                seen.peer == outside,
                format!("{}, and the server sees {}", streamed(), seen.peer),
            )
        });
        report.check(&format!("TCP from alice to a server at {to}"), outcome);
    }
}

fn destination_translation(stage: &Stage, report: &mut Report) -> Result<(), ApiError> {
    report.step(
        "The way in: DNAT",
        "A published port of the outside address leads to Bob, who sees the client's own address.",
    );
    report.command("port publish bob 8080:80");
    let spec = "8080:80"
        .parse()
        .map_err(|error: crate::api::PortSpecError| {
            ApiError::new(crate::api::ErrorCode::InvalidPort, error.to_string())
        })?;
    let request = PublishRequest {
        spec,
        network: None,
    };
    let port: PublishedPort = stage.client.post("/v1/sandboxes/bob/ports", &request)?;
    let at: Vec<String> = port
        .host_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    report.check(
        "bob's port 80 is published",
        Ok(format!("port 8080 of {}", at.join(", "))),
    );
    for (client, outside) in routers_and_outside() {
        let inside = SocketAddr::new(unspecified(outside), 80);
        let from = SocketAddr::new(outside, 8080);
        let outcome = transfer(&stage.bob, inside, &stage.internet, from).and_then(|seen| {
            expect(
                seen.peer == client,
                format!("{}, and bob sees {}", streamed(), seen.peer),
            )
        });
        report.check(&format!("TCP from the internet to {from}"), outcome);
    }
    Ok(())
}

fn hairpin(stage: &Stage, report: &mut Report) {
    report.step(
        "Hairpin",
        "Alice uses Bob's public address like everybody else, and Bob sees her public address (RFC \
         4787 REQ-9).",
    );
    for (_, outside) in routers_and_outside() {
        let inside = SocketAddr::new(unspecified(outside), 80);
        let from = SocketAddr::new(outside, 8080);
        let outcome = transfer(&stage.bob, inside, &stage.alice, from).and_then(|seen| {
            expect(
                seen.peer == outside,
                format!("{}, and bob sees {}", streamed(), seen.peer),
            )
        });
        report.check(&format!("TCP from alice to {from}"), outcome);
    }
}

fn isolation(stage: &Stage, report: &mut Report, cast: &Cast) {
    report.step(
        "Isolation",
        "Networks are not routed to each other unless that was asked for, and an internal network has \
         no way out; senders are told.",
    );
    for to in addresses(&cast.alice) {
        refused(
            report,
            "carol cannot reach alice",
            &stage.carol,
            to,
            Echo::Prohibited,
        );
    }
    for to in addresses(&cast.carol) {
        refused(
            report,
            "alice cannot reach carol",
            &stage.alice,
            to,
            Echo::Prohibited,
        );
    }
    for (to, _) in far_and_outside() {
        refused(
            report,
            "carol cannot reach the internet",
            &stage.carol,
            to,
            Echo::Unreachable,
        );
    }
}

fn spoofing(stage: &Stage, report: &mut Report, cast: &Cast) -> Result<(), ApiError> {
    report.step(
        "Port security",
        "An endpoint speaks only for itself: frames with somebody else's MAC or IP address end at its \
         port, each counted with its reason.",
    );
    let (alice, bob) = (&cast.alice.plan, &cast.bob.plan);
    for (to, stolen) in addresses(&cast.bob).into_iter().zip(addresses(&cast.carol)) {
        let lie = Task::Spoof {
            mac: alice.mac,
            to_mac: bob.mac,
            source: stolen,
            to,
        };
        refused_frame(
            stage,
            report,
            "alice cannot use carol's address",
            &lie,
            "address-spoofed",
        )?;
    }
    let own = addresses(&cast.alice);
    for (to, source) in addresses(&cast.bob).into_iter().zip(own) {
        let lie = Task::Spoof {
            mac: bob.mac,
            to_mac: bob.mac,
            source,
            to,
        };
        let what = "alice cannot use bob's MAC address";
        refused_frame(stage, report, what, &lie, "source-mac-spoofed")?;
    }
    report.command("drops");
    let drops: Vec<DropCount> = stage.client.get("/v1/drops")?;
    for drop in drops
        .iter()
        .filter(|drop| drop.port == "alice" || drop.port == "carol")
    {
        let seen = format!("{} of {}: {}", drop.frames, drop.port, drop.explanation);
        report.check("counted", Ok(seen));
    }
    Ok(())
}

fn detach(stage: &Stage, report: &mut Report) -> Result<(), ApiError> {
    report.step(
        "Leaving",
        "After a detach nothing is left in the container, and no frame of it in the switch.",
    );
    report.command("detach alice");
    stage.client.delete("/v1/sandboxes/alice")?;
    let deadline = now() + Duration::from_secs(5);
    let alone = loop {
        match stage.alice.run(&Task::IsAlone) {
            Ok(Outcome::Is(false)) if now() < deadline => {}
            Ok(Outcome::Is(alone)) => break expect(alone, "only the loopback interface is left"),
            Ok(other) => break Err(format!("{other:?}")),
            Err(problem) => break Err(problem),
        }
    };
    report.check("alice's interface is gone", alone);
    let endpoints: Vec<Endpoint> = stage.client.get("/v1/networks/shop/endpoints")?;
    let left: Vec<String> = endpoints
        .iter()
        .map(|endpoint| endpoint.sandbox.to_string())
        .collect();
    report.check(
        "who is left in shop",
        expect(left == ["bob"], left.join(", ")),
    );
    Ok(())
}

/// Sends a frame that must end at its port, and looks at the counter for it.
fn refused_frame(
    stage: &Stage,
    report: &mut Report,
    what: &str,
    lie: &Task,
    reason: &str,
) -> Result<(), ApiError> {
    let count = || -> Result<u64, ApiError> {
        let drops: Vec<DropCount> = stage.client.get("/v1/drops")?;
        Ok(drops
            .iter()
            .filter(|drop| drop.port == "alice" && drop.reason == reason)
            .map(|drop| drop.frames)
            .sum())
    };
    let before = count()?;
    let sent = stage.alice.run(lie);
    let deadline = now() + Duration::from_secs(5);
    let mut after = count()?;
    while after == before && now() < deadline {
        after = count()?;
    }
    let outcome = sent.and_then(|_| expect(after == before + 1, format!("dropped, {reason}")));
    report.check(what, outcome);
    Ok(())
}

fn ping(report: &mut Report, what: &str, from: &Agent, to: IpAddr) {
    let outcome = match from.run(&Task::Ping(to)) {
        Ok(Outcome::Echo(Echo::Answered(micros))) => Ok(format!("{to} in {micros} us")),
        Ok(Outcome::Echo(other)) => Err(format!("{to}: {other:?}")),
        Ok(other) => Err(format!("{other:?}")),
        Err(problem) => Err(problem),
    };
    report.check(what, outcome);
}

fn refused(report: &mut Report, what: &str, from: &Agent, to: IpAddr, expected: Echo) {
    let outcome = match from.run(&Task::Ping(to)) {
        Ok(Outcome::Echo(echo)) => expect(echo == expected, format!("{to}: {echo:?}")),
        Ok(other) => Err(format!("{other:?}")),
        Err(problem) => Err(problem),
    };
    report.check(what, outcome);
}

/// A connection on which both sides send and check what they receive; what the server saw.
fn transfer(
    server: &Agent,
    at: SocketAddr,
    client: &Agent,
    from: SocketAddr,
) -> Result<Transfer, String> {
    server.begin(&Task::Serve(at))?;
    match server.answer()? {
        Outcome::Ready => {}
        other => return Err(format!("{other:?}")),
    }
    let fetched = client.run(&Task::Fetch(from));
    let served = server.answer();
    match (fetched?, served?) {
        (Outcome::Transfer(fetched), Outcome::Transfer(served)) => {
            let whole = fetched.sent == served.received && served.sent == fetched.received;
            if whole {
                Ok(served)
            } else {
                Err("what was received is not what was sent".to_owned())
            }
        }
        other => Err(format!("{other:?}")),
    }
}

fn streamed() -> String {
    format!("{} MiB each way, hashes agree", STREAM >> 20)
}

fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint
        .plan
        .addresses
        .iter()
        .map(ipnet::IpNet::addr)
        .collect()
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

fn host(text: &str) -> IpAddr {
    let address = text.split('/').next().unwrap_or(text);
    address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn far_and_outside() -> [(IpAddr, IpAddr); 2] {
    [(FAR_V4, host(OUTSIDE_V4)), (FAR_V6, host(OUTSIDE_V6))]
}

fn routers_and_outside() -> [(IpAddr, IpAddr); 2] {
    [
        (host(ROUTER_V4), host(OUTSIDE_V4)),
        (host(ROUTER_V6), host(OUTSIDE_V6)),
    ]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::disallowed_methods, reason = "the user waits in real time")]
fn now() -> Instant {
    Instant::now()
}
