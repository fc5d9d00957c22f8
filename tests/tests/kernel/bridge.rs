//! Containers on one bridge.

use std::net::IpAddr;

use heddle_tests::host::{Host, On, Scenario, program};

use crate::traffic::{attach, iperf, ping, try_ping};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bridge::containers_ping_each_other",
        on: On::EveryKind,
        play: containers_ping_each_other,
    },
    Scenario {
        name: "bridge::iperf3_streams_tcp_and_udp",
        on: On::EveryKind,
        play: iperf3_streams_tcp_and_udp,
    },
    Scenario {
        name: "bridge::a_jumbo_network_carries_jumbo_frames",
        on: On::EveryKind,
        play: a_jumbo_network_carries_jumbo_frames,
    },
    Scenario {
        name: "bridge::stolen_addresses_get_nowhere",
        on: On::EveryKind,
        play: stolen_addresses_get_nowhere,
    },
    Scenario {
        name: "bridge::multicast_reaches_everybody_on_the_network_only",
        on: On::AnyKind,
        play: multicast_reaches_everybody_on_the_network_only,
    },
];

fn containers_ping_each_other(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    let alices = attach(host, &alice, "lan", "alice");
    let bobs = attach(host, &bob, "lan", "bob");
    assert_eq!(alices.len(), 2, "{alices:?}");
    for (from, targets) in [(&alice, &bobs), (&bob, &alices)] {
        for &to in targets {
            ping(from, to);
            // Longer than a frame: in fragments, which the bridge carries like everything else.
            let long = try_ping(from, to, &["-c", "2", "-i", "0.1", "-W", "5", "-s", "4000"]);
            assert!(long.status.success(), "{long:?}");
        }
    }
}

fn iperf3_streams_tcp_and_udp(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "lan", "alice");
    let bobs = attach(host, &bob, "lan", "bob");
    for to in bobs {
        let tcp = iperf((&bob, to), (&alice, to), &["--time", "1"]);
        let received = tcp["end"]["sum_received"]["bytes"].as_u64();
        assert!(received > Some(1 << 20), "{to}: {tcp:#}");
        let udp = iperf(
            (&bob, to),
            (&alice, to),
            &["--udp", "--bitrate", "20M", "--time", "1"],
        );
        let sum = &udp["end"]["sum"];
        let (sent, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
        assert!(sent > Some(100) && lost < sent, "{to}: {udp:#}");
    }
}

fn a_jumbo_network_carries_jumbo_frames(host: &mut Host) {
    const MTU: usize = 9000;
    host.heddle.start(&[]);
    host.heddle
        .run(&["network", "create", "wide", "--mtu", &MTU.to_string()]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "wide", "alice");
    for to in attach(host, &bob, "wide", "bob") {
        // Less the headers of IP and ICMP.
        let longest = MTU - if to.is_ipv4() { 28 } else { 48 };
        let ping = |octets: usize| {
            let size = octets.to_string();
            try_ping(
                &alice,
                to,
                &["-c", "2", "-i", "0.1", "-W", "5", "-M", "do", "-s", &size],
            )
        };
        assert!(ping(longest).status.success(), "{:?}", ping(longest));
        assert!(!ping(longest + 1).status.success());
        let tcp = iperf((&bob, to), (&alice, to), &["--bytes", "20M"]);
        let received = tcp["end"]["sum_received"]["bytes"].as_u64();
        // The count ends when the sender's does.
        assert!(received >= Some(10 << 20), "{to}: {tcp:#}");
    }
}

/// The counted frames of a sandbox that ended for a reason.
fn drops(host: &Host, sandbox: &str, reason: &str) -> u64 {
    let drops = host.heddle.show(&["drops"]);
    drops
        .as_array()
        .expect("a list")
        .iter()
        .filter(|drop| drop["port"] == sandbox && drop["reason"] == reason)
        .filter_map(|drop| drop["frames"].as_u64())
        .sum()
}

/// Mallory has whole control of her container.
fn stolen_addresses_get_nowhere(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let [alice, bob, mallory] = [(); 3].map(|()| host.container());
    let alices = attach(host, &alice, "lan", "alice");
    let bobs = attach(host, &bob, "lan", "bob");
    let own = attach(host, &mallory, "lan", "mallory");
    let ip = |words: &str| {
        let mut ip = program("ip");
        ip.args(words.split(' '));
        let _ = mallory.execute(ip).success();
    };
    let from = |source: IpAddr, to: IpAddr| {
        let source = source.to_string();
        try_ping(
            &mallory,
            to,
            &["-c", "2", "-i", "0.1", "-W", "1", "-I", &source],
        )
    };
    for ((&stolen, &to), own) in alices.iter().zip(&bobs).zip(own) {
        assert!(from(own, to).status.success());
        let whole = if stolen.is_ipv4() { 32 } else { 128 };
        ip(&format!("address add {stolen}/{whole} dev eth0 nodad"));
        let before = drops(host, "mallory", "address-spoofed");
        // Mallory knows bob's MAC address from before: these are no questions for it.
        assert!(!from(stolen, to).status.success());
        assert!(
            drops(host, "mallory", "address-spoofed") > before,
            "{stolen}"
        );
        // Who asks for alice gets alice.
        ping(&bob, stolen);
        ip(&format!("address delete {stolen}/{whole} dev eth0"));
    }
    ip("link set eth0 address 02:66:66:66:66:66");
    for &to in &bobs {
        assert!(
            !try_ping(&mallory, to, &["-c", "1", "-W", "1"])
                .status
                .success()
        );
    }
    assert!(drops(host, "mallory", "source-mac-spoofed") > 0);
    for &to in &bobs {
        ping(&alice, to);
    }
}

fn multicast_reaches_everybody_on_the_network_only(host: &mut Host) {
    host.heddle.start(&[]);
    for network in ["lan", "apart"] {
        host.heddle.run(&["network", "create", network]);
    }
    let [alice, bob, carol, dave] = [(); 4].map(|()| host.container());
    attach(host, &alice, "lan", "alice");
    attach(host, &bob, "lan", "bob");
    attach(host, &carol, "lan", "carol");
    attach(host, &dave, "apart", "dave");
    for container in [&bob, &carol, &dave] {
        container.run(|| {
            let file = "/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts";
            std::fs::write(file, "0").expect("it is its own root");
        });
    }
    // All hosts on the link: RFC 1112 §4, RFC 4291 §2.7.1.
    for (group, count) in [("224.0.0.1", 2), ("ff02::1%eth0", 2)] {
        let mut ping = program("ping");
        ping.args(["-n", "-i", "1", "-w", "2", "-I", "eth0", group]);
        let ended = alice.execute(ping);
        let said = ended.stdout.clone();
        let others = said
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| line.split("bytes from ").nth(1)?.split(": ").next())
            .collect::<std::collections::BTreeSet<_>>();
        assert!(others.len() >= count, "{group}: {ended:?}");
        assert!(others.len() <= count + 2, "{group}: {said}");
    }
}
