//! What users get wrong: a clear word, a hint, and nothing half done.

use std::process::Command;

use heddle_tests::host::{Container, Host, On, Running, Scenario, eventually};

use crate::internet;
use crate::traffic::{attach, attach_with};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "input::mistakes_are_explained_and_change_nothing",
        on: On::EveryKind,
        play: mistakes_are_explained_and_change_nothing,
    },
    Scenario {
        name: "input::wrong_uses_of_the_command_are_told_apart",
        on: On::AnyKind,
        play: wrong_uses_of_the_command_are_told_apart,
    },
    Scenario {
        name: "input::somebody_else_s_namespace_is_refused",
        on: On::EveryKind,
        play: somebody_else_s_namespace_is_refused,
    },
];

/// A command line, what its complaint says, and what its hint says.
type Mistake = (&'static str, &'static str, Option<&'static str>);

/// Mistakes on a host with a network `shop`, which has an uplink, a network `lan`, which has none,
/// and a sandbox in each. `PID` stands for a container that is in none.
const MISTAKES: &[Mistake] = &[
    ("attach PID --network nowhere", "nowhere", Some("lan, shop")),
    (
        "attach PID --network lan --name alice",
        "alice",
        Some("--name"),
    ),
    (
        "attach PID --network lan --name ALICE",
        "ALICE",
        Some("--name"),
    ),
    ("attach PID --network lan --ip 10.99.0.9", "10.99.0.9", None),
    ("attach PID --network lan --ip fd99::9", "fd99::9", None),
    ("attach PID --network lan --ip 10.20.0.0", "10.20.0.0", None),
    (
        "attach PID --network lan --ip 10.20.0.255",
        "10.20.0.255",
        None,
    ),
    ("attach PID --network lan --ip 10.20.0.1", "10.20.0.1", None),
    ("attach PID --network lan --ip 10.20.0.7", "alice", None),
    (
        "attach PID --network lan --ip 10.20.0.8 --ip 10.20.0.7",
        "10.20.0.7",
        None,
    ),
    ("attach PID --network lan --ip fd20::7", "alice", None),
    (
        "attach PID --network lan --mac 01:00:00:00:00:01",
        "01:00:00:00:00:01",
        None,
    ),
    (
        "attach PID --network lan --ifname far/too/odd",
        "far/too/odd",
        None,
    ),
    (
        "attach PID --network lan --ifname sixteen-letters1",
        "sixteen-letters1",
        None,
    ),
    ("attach PID --network lan --ifname lo", "lo", None),
    (
        "attach PID --network lan -p 8080:80",
        "no uplink",
        Some("--uplink"),
    ),
    (
        "attach PID --network shop --name carol -p 8080:80",
        "bob",
        Some("choose"),
    ),
    (
        "attach PID --network shop --name carol -p 9000:80 -p 9000:81",
        "9000",
        None,
    ),
    (
        "attach PID --network shop --name carol -p 192.0.2.1:9000:80",
        "192.0.2.1",
        Some("203.0.113.2"),
    ),
    ("attach /run/nothing --network lan", "/run/nothing", None),
    ("attach /run/tmp --network lan", "/run/tmp", None),
    (
        "attach /proc/self/ns/uts --network lan",
        "/proc/self/ns/uts",
        None,
    ),
    ("attach 4194000 --network lan", "4194000", None),
    ("network create lan", "lan", None),
    ("network create LAN", "LAN", None),
    ("network create new --subnet 10.20.0.0/16", "lan", None),
    ("network create new --subnet 10.20.0.128/25", "lan", None),
    ("network create new --subnet fd20::/80", "lan", None),
    (
        "network create new --subnet 10.21.0.0/24 --subnet 10.21.0.0/25",
        "10.21.0.0",
        None,
    ),
    ("network create new --subnet 10.21.0.5/24", "10.21.0", None),
    (
        "network create new --subnet 127.0.0.0/8",
        "127.0.0.0/8",
        None,
    ),
    (
        "network create new --subnet 224.0.0.0/24",
        "224.0.0.0/24",
        None,
    ),
    (
        "network create new --subnet 10.21.0.0/32",
        "10.21.0.0/32",
        None,
    ),
    (
        "network create new --subnet 10.21.0.0/24 --gateway 10.22.0.1",
        "10.22.0.1",
        Some("--subnet"),
    ),
    ("network create new --mtu 20", "20", None),
    (
        "network create new --mtu 1000 --subnet fd21::/64",
        "IPv6",
        Some("MTU"),
    ),
    ("network create new --route-to nowhere", "nowhere", None),
    (
        "network create new --internal --uplink packet:lo",
        "internal",
        Some("--internal"),
    ),
    (
        "network create new --uplink packet:none0",
        "address",
        Some("uplink_address"),
    ),
    (
        "network create new --uplink packet:none0 -o uplink_address=192.0.2.2/24",
        "none0",
        None,
    ),
    (
        "network create new --uplink netns:/run/nothing -o uplink_address=192.0.2.2/24",
        "/run/nothing",
        None,
    ),
    (
        "network create new --uplink packet:none0 -o uplink_address=192.0.2.2/24 -o uplink_gateway=198.51.100.1",
        "198.51.100.1",
        None,
    ),
    (
        "network create new -o colour=red",
        "colour",
        Some("uplink_address"),
    ),
    (
        "network create new -o port_security=perhaps",
        "port_security",
        None,
    ),
    (
        "network create new -o storm_control=0",
        "storm_control",
        None,
    ),
    ("network create new -o ageing=9", "10 to 1000000 s", None),
    (
        "network create new -o ageing=1000001",
        "10 to 1000000 s",
        None,
    ),
    ("network rm lan", "alice", Some("detach")),
    ("network rm nowhere", "nowhere", None),
    ("network inspect nowhere", "nowhere", Some("lan, shop")),
    ("detach nobody", "nobody", Some("status")),
    ("detach bob --network lan", "bob", None),
    ("port publish nobody 8081:80", "nobody", None),
    ("port publish alice 8081:80", "no uplink", Some("--uplink")),
    (
        "port publish bob 8080:81",
        "bob",
        Some("unpublish bob 8080:80/tcp"),
    ),
    (
        "port publish bob 8000-8100:8000-8100",
        "8080",
        Some("unpublish bob 8080:80/tcp"),
    ),
    ("port unpublish bob 8081:80", "8081", Some("8080")),
    ("daemon", "runs already", Some("down")),
];

fn mistakes_are_explained_and_change_nothing(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    let lan = ["--subnet", "10.20.0.0/24", "--subnet", "fd20::/64"];
    host.heddle
        .run(&[&["network", "create", "lan"], &lan[..]].concat());
    let [alice, bob, carol] = [(); 3].map(|()| host.container());
    let addresses = ["--ip", "10.20.0.7", "--ip", "fd20::7"];
    attach_with(host, &alice, "lan", "alice", &addresses);
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let before = host.heddle.settled_holdings();
    let pid = carol.pid.to_string();
    let mut faults = Vec::new();
    for &(line, complaint, hint) in MISTAKES {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| if word == "PID" { &pid } else { word })
            .collect();
        let ended = host.heddle.attempt(&words);
        let is_hinted = hint.is_none_or(|words| {
            let hints = ended
                .stderr
                .lines()
                .filter(|line| line.starts_with("hint: "));
            hints.clone().any(|line| line.contains(words))
        });
        if ended.status.code() != Some(1) || !ended.stderr.contains(complaint) || !is_hinted {
            faults.push(format!(
                "{line}: {}\n{}{}",
                ended.status, ended.stdout, ended.stderr
            ));
        }
        if !carol.is_alone() {
            faults.push(format!("{line}: something is left in the container"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    eventually("nothing is half done", || {
        host.heddle.holdings().keep_nothing_since(&before)
    });
    attach(host, &carol, "lan", "carol");
}

/// What the command refuses by itself, with the status that `clap` has for it.
fn wrong_uses_of_the_command_are_told_apart(host: &mut Host) {
    for (line, complaint) in [
        ("attach 1", "--network"),
        ("attach 1 --network -x", "-x"),
        ("network create ../up", "../up"),
        ("network create .hidden", ".hidden"),
        ("network create new --subnet 10.21.0.0", "10.21.0.0"),
        ("network create new --subnet 10.21.0.0/33", "10.21.0.0/33"),
        ("network create new --driver magic", "bridge and l3"),
        ("network create new --uplink magic:x", "magic"),
        ("network create new --mtu 65536", "65536"),
        ("network create new --route 10.0.0.0/8", "10.0.0.0/8"),
        ("port publish bob 80:0", "80:0"),
        ("port publish bob 80-90:80", "80-90:80"),
        ("port publish bob 80:80/icmp", "80:80/icmp"),
        ("port publish bob 65530-65540:1-11", "65530-65540"),
        ("daemon --workers 0", "0"),
        ("daemon --workers 65", "65"),
        ("daemon --endpoint bridge", "tap or veth"),
        ("daemon --sessions 3", "3"),
        ("frobnicate", "frobnicate"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = host.heddle.attempt(&words);
        assert_eq!(ended.status.code(), Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains(complaint), "{line}: {}", ended.stderr);
    }
    // None of them has started a daemon.
    assert!(!host.heddle.socket().exists());
    for (line, complaint) in [
        ("status", "no daemon"),
        ("--socket /run/tmp/none status", "/run/tmp/none"),
        ("daemon --store /proc/none/store", "/proc/none/store"),
        ("--socket /proc/none/socket daemon", "/proc/none/socket"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let refusal = host.heddle.refused(&words);
        assert_eq!(refusal.status, 1, "{line}: {refusal:?}");
        assert!(refusal.message.contains(complaint), "{line}: {refusal:?}");
    }
}

fn somebody_else_s_namespace_is_refused(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let before = host.heddle.settled_holdings();
    // A process of the host is in the daemon's own namespace.
    let mut idle = Command::new("/bin/sleep");
    idle.arg("600");
    let idle = Running::start(idle, || Ok(()));
    let pid = idle.pid.to_string();
    for target in [pid.as_str(), "/proc/self/ns/net"] {
        let refusal = host.heddle.refused(&["attach", target, "--network", "lan"]);
        assert!(refusal.message.contains("own"), "{target}: {refusal:?}");
    }
    // The daemon enters for those who ask it over HTTP, and sees it likewise.
    let request = format!("{{\"sandbox\":{{\"pid\":{}}}}}", idle.pid);
    let answer = host
        .heddle
        .ask("POST", "/v1/networks/lan/endpoints", &request);
    assert_eq!(answer.1["error"]["code"], "own-namespace", "{}", answer.1);
    if host.way == heddle_tests::host::Way::User {
        // A namespace of the host's root: its user has no right to it.
        let roots = Container::new();
        let pid = roots.pid.to_string();
        let refusal = host.heddle.refused(&["attach", &pid, "--network", "lan"]);
        assert!(refusal.hint.is_some(), "{refusal:?}");
        assert!(roots.is_alone());
    }
    eventually("nothing is half done", || {
        host.heddle.holdings().keep_nothing_since(&before)
    });
}
