//! How containers come and go.

use std::fs;
use std::path::Path;

use heddle_tests::host::{Container, Host, On, Scenario, eventually};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::Value;

use crate::traffic::{attach, attach_with, ping};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "attach::a_path_is_attached_and_its_removal_detaches",
        on: On::EveryKind,
        play: a_path_is_attached_and_its_removal_detaches,
    },
    Scenario {
        name: "attach::the_end_of_a_process_detaches_it",
        on: On::EveryKind,
        play: the_end_of_a_process_detaches_it,
    },
    Scenario {
        name: "attach::a_user_namespace_of_the_same_user_is_entered",
        on: On::EveryKind,
        play: a_user_namespace_of_the_same_user_is_entered,
    },
    Scenario {
        name: "attach::detaching_leaves_nothing_and_frees_the_address",
        on: On::EveryKind,
        play: detaching_leaves_nothing_and_frees_the_address,
    },
    Scenario {
        name: "attach::one_container_is_in_two_networks",
        on: On::EveryKind,
        play: one_container_is_in_two_networks,
    },
    Scenario {
        name: "attach::a_command_runs_in_a_sandbox_of_its_own",
        on: On::EveryKind,
        play: a_command_runs_in_a_sandbox_of_its_own,
    },
    Scenario {
        name: "attach::options_are_taken_at_their_word",
        on: On::EveryKind,
        play: options_are_taken_at_their_word,
    },
    Scenario {
        name: "attach::the_daemon_attaches_for_clients_of_its_interface",
        on: On::EveryKind,
        play: the_daemon_attaches_for_clients_of_its_interface,
    },
];

/// Mounts a container's network namespace at a path, as `ip netns` does.
pub(crate) fn mount_namespace(container: &Container, path: &Path) {
    let directory = path.parent().expect("it is in a directory");
    fs::create_dir_all(directory).expect("the host has room");
    fs::write(path, "").expect("the host has room");
    mount_bind(format!("/proc/{}/ns/net", container.pid), path).expect("it is ours");
}

fn sandboxes(host: &Host, network: &str) -> Vec<String> {
    let shown = host.heddle.show(&["network", "inspect", network]);
    let endpoints = shown["endpoints"].as_array().expect("a list");
    let name = |endpoint: &Value| endpoint["sandbox"].as_str().expect("a name").to_owned();
    endpoints.iter().map(name).collect()
}

fn a_path_is_attached_and_its_removal_detaches(host: &mut Host) {
    let path = Path::new("/run/netns/blue");
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (blue, red) = (host.container(), host.container());
    mount_namespace(&blue, path);
    host.heddle
        .run(&["attach", "/run/netns/blue", "--network", "lan"]);
    let reds = attach(host, &red, "lan", "red");
    // Named after the last part of its path.
    assert_eq!(sandboxes(host, "lan"), ["blue1", "red"]);
    for to in reds {
        ping(&blue, to);
    }
    unmount(path, UnmountFlags::DETACH).expect("it is ours");
    fs::remove_file(path).expect("it is ours");
    eventually("the removal of the path detaches", || {
        sandboxes(host, "lan") == ["red"]
    });
    blue.wait_alone();
}

fn the_end_of_a_process_detaches_it(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    let alices = attach(host, &alice, "lan", "alice");
    let bobs = attach(host, &bob, "lan", "bob");
    // The namespace outlives the process: its end alone must be enough.
    let path = Path::new("/run/netns/alice");
    mount_namespace(&alice, path);
    let leftover = host.container();
    alice.end();
    eventually("the end of the process detaches", || {
        sandboxes(host, "lan") == ["bob"]
    });
    // Its name is free, and so is its address.
    let asked: Vec<String> = alices.iter().map(ToString::to_string).collect();
    let again = attach_with(
        host,
        &leftover,
        "lan",
        "alice",
        &["--ip", &asked[0], "--ip", &asked[1]],
    );
    assert_eq!(again, alices);
    for to in bobs {
        ping(&leftover, to);
    }
}

fn a_user_namespace_of_the_same_user_is_entered(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (Container::rootless(), Container::rootless());
    attach(host, &alice, "lan", "alice");
    for to in attach(host, &bob, "lan", "bob") {
        ping(&alice, to);
    }
}

fn detaching_leaves_nothing_and_frees_the_address(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &bob, "lan", "bob");
    let before = host.heddle.holdings();
    let alices = attach(host, &alice, "lan", "alice");
    ping(&bob, alices[0]);
    host.heddle.run(&["detach", "alice"]);
    alice.wait_alone();
    eventually("everything is as before", || {
        let now = host.heddle.holdings();
        (&now.networks, &now.endpoints, now.descriptors)
            == (&before.networks, &before.endpoints, before.descriptors)
    });
    let asked: Vec<String> = alices.iter().map(ToString::to_string).collect();
    let carol = host.container();
    let carols = attach_with(
        host,
        &carol,
        "lan",
        "carol",
        &["--ip", &asked[0], "--ip", &asked[1]],
    );
    assert_eq!(carols, alices);
    for to in carols {
        // bob still has alice's MAC address in mind; the new one must get through to him.
        ping(&bob, to);
    }
}

fn one_container_is_in_two_networks(host: &mut Host) {
    host.heddle.start(&[]);
    let router = host.container();
    let mut peers = Vec::new();
    for network in ["left", "right"] {
        host.heddle.run(&["network", "create", network]);
        attach(host, &router, network, "router");
        let peer = host.container();
        let name = format!("{network}-peer");
        let addresses = attach(host, &peer, network, &name);
        peers.push((peer, addresses));
    }
    for (_, addresses) in &peers {
        for &to in addresses {
            ping(&router, to);
        }
    }
    host.heddle.run(&["detach", "router", "--network", "left"]);
    assert_eq!(sandboxes(host, "left"), ["left-peer"]);
    for &to in &peers[1].1 {
        ping(&router, to);
    }
    host.heddle.run(&["detach", "router"]);
    router.wait_alone();
}

fn a_command_runs_in_a_sandbox_of_its_own(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let bob = host.container();
    let bobs = attach(host, &bob, "lan", "bob");
    for to in bobs {
        let to = to.to_string();
        let ended = host.heddle.attempt(&[
            "run",
            "--network",
            "lan",
            "--",
            "ping",
            "-n",
            "-c",
            "1",
            "-W",
            "5",
            &to,
        ]);
        assert!(ended.success().contains("1 received"));
    }
    // Exit statuses are the command's own, as shells have them.
    for (command, status) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["no-such-program"], 127),
        (&["/dev/null"], 126),
    ] {
        let ended = host
            .heddle
            .attempt(&[&["run", "--network", "lan", "--"], command].concat());
        assert_eq!(ended.status.code(), Some(status), "{command:?}: {ended:?}");
    }
    eventually("only bob is left", || sandboxes(host, "lan") == ["bob"]);
    let name = host
        .heddle
        .run(&["run", "--network", "lan", "--detach", "--", "sleep", "600"]);
    assert_eq!(name, "sleep1\n");
    assert_eq!(sandboxes(host, "lan"), ["bob", "sleep1"]);
    host.heddle.run(&["detach", "sleep1"]);
}

fn options_are_taken_at_their_word(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&[
        "network",
        "create",
        "lan",
        "--subnet",
        "10.20.0.0/24",
        "--subnet",
        "fd20::/64",
        "--gateway",
        "10.20.0.254",
        "--mtu",
        "1400",
    ]);
    let (alice, bob) = (host.container(), host.container());
    let mac = "02:00:00:00:20:01";
    let addresses = attach_with(
        host,
        &alice,
        "lan",
        "alice",
        &[
            "--ip",
            "10.20.0.7",
            "--ip",
            "fd20::7",
            "--mac",
            mac,
            "--ifname",
            "lan0",
        ],
    );
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.20.0.7", "fd20::7"]);
    attach(host, &bob, "lan", "bob");
    let mut ip = heddle_tests::host::program("ip");
    ip.args(["-o", "address", "show", "dev", "lan0"]);
    let shown = alice.execute(ip).success();
    assert!(
        shown.contains("10.20.0.7/24") && shown.contains("fd20::7/64"),
        "{shown}"
    );
    let mut ip = heddle_tests::host::program("ip");
    ip.args(["-o", "link", "show", "dev", "lan0"]);
    let shown = alice.execute(ip).success();
    assert!(shown.contains(mac) && shown.contains("mtu 1400"), "{shown}");
    let mut ip = heddle_tests::host::program("ip");
    ip.args(["route", "show", "default"]);
    let shown = alice.execute(ip).success();
    assert!(shown.contains("via 10.20.0.254 dev lan0"), "{shown}");
    for to in addresses {
        ping(&bob, to);
    }
}

/// Over HTTP, the keeper enters the namespace, and not the client.
fn the_daemon_attaches_for_clients_of_its_interface(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    let bobs = attach(host, &bob, "lan", "bob");
    let request = format!(
        "{{\"sandbox\":{{\"pid\":{}}},\"name\":\"alice\"}}",
        alice.pid
    );
    let answer = host
        .heddle
        .ask("POST", "/v1/networks/lan/endpoints", &request);
    assert_eq!(
        (answer.0, answer.1["sandbox"].as_str()),
        (200, Some("alice"))
    );
    for to in bobs {
        ping(&alice, to);
    }
    let answer = host.heddle.ask("DELETE", "/v1/sandboxes/alice", "");
    assert_eq!(answer.0, 200, "{}", answer.1);
    alice.wait_alone();
    let answer = host.heddle.ask("GET", "/v1/networks/wan", "");
    assert_eq!(answer.0, 404);
    assert_eq!(answer.1["error"]["code"], "unknown-network", "{}", answer.1);
}
