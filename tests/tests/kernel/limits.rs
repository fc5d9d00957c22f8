//! What the machine does not allow.

use std::fs;

use heddle_tests::host::{Container, Host, On, Scenario, eventually};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::traffic::{attach, ping};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "limits::too_few_descriptors_are_refused_up_front",
        on: On::EveryKind,
        play: too_few_descriptors_are_refused_up_front,
    },
    Scenario {
        name: "limits::without_a_tun_device_veth_is_used",
        on: On::AnyKind,
        play: without_a_tun_device_veth_is_used,
    },
];

fn too_few_descriptors_are_refused_up_front(host: &mut Host) {
    const LIMIT: u64 = 64;
    let kind = host.kind.name();
    host.heddle.start_as(&["--endpoint", kind], || {
        let limit = Rlimit {
            current: Some(LIMIT),
            maximum: Some(LIMIT),
        };
        Ok(setrlimit(Resource::Nofile, limit)?)
    });
    host.heddle.run(&["network", "create", "lan"]);
    let mut inside: Vec<Container> = Vec::new();
    let mut addresses = Vec::new();
    let refusal = loop {
        let next = host.container();
        let pid = next.pid.to_string();
        let name = format!("c{}", inside.len());
        let attach_it = ["attach", &pid, "--network", "lan", "--name", &name];
        let before = host.heddle.holdings();
        if host.heddle.attempt(&attach_it).status.success() {
            inside.push(next);
            addresses = crate::traffic::addresses(&crate::traffic::endpoint(host, "lan", &name));
            assert!(inside.len() < 32, "there is no limit");
            continue;
        }
        let refusal = host.heddle.refused(&attach_it);
        let after = host.heddle.holdings();
        assert_eq!(
            (after.endpoints, after.networks),
            (before.endpoints, before.networks)
        );
        assert!(next.is_alone());
        break refusal;
    };
    assert!(refusal.message.contains("file descriptors"), "{refusal:?}");
    assert!(refusal.message.contains("64"), "{refusal:?}");
    assert!(refusal.hint.is_some(), "{refusal:?}");
    // Those that are there do not suffer.
    assert!(inside.len() >= 2, "only {}", inside.len());
    for &to in &addresses {
        ping(&inside[0], to);
    }
    // One goes, one comes.
    host.heddle.run(&["detach", "c0"]);
    let next = host.container();
    attach(host, &next, "lan", "next");
}

fn without_a_tun_device_veth_is_used(host: &mut Host) {
    if !fs::exists("/dev/net").unwrap_or(false) {
        return check_without_tun(host);
    }
    mount("none", "/dev/net", "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
    check_without_tun(host);
}

fn check_without_tun(host: &mut Host) {
    host.heddle.start_as(&[], || Ok(()));
    let status = host.heddle.show(&["status"]);
    assert_eq!(status["default_endpoint"], "veth", "{status:#}");
    let fault = status["tun_fault"].as_str().expect("there is no device");
    assert!(fault.contains("/dev/net/tun"), "{fault}");
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    let before = host.heddle.settled_holdings();
    let pid = alice.pid.to_string();
    let wanted = ["attach", &pid, "--network", "lan", "--endpoint", "tap"];
    let refusal = host.heddle.refused(&wanted);
    assert!(refusal.message.contains("/dev/net/tun"), "{refusal:?}");
    assert!(refusal.hint.is_some(), "{refusal:?}");
    eventually("nothing is half done", || {
        host.heddle.holdings().keep_nothing_since(&before)
    });
    attach(host, &alice, "lan", "alice");
    for to in attach(host, &bob, "lan", "bob") {
        ping(&alice, to);
    }
}
