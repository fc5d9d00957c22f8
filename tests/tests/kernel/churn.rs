//! Everything changes while frames flow.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use heddle_sys::process::{Signal, pidfd_open, pidfd_send_signal};
use heddle_tests::host::{Container, Host, On, Running, Scenario, eventually, program};
use serde_json::Value;

use crate::internet::{self, FAMILIES};
use crate::traffic::{attach, attach_with, endpoint, ping};
use crate::web::{SLOW, begin_slow_download, serve};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "churn::many_are_attached_at_once",
        on: On::EveryKind,
        play: many_are_attached_at_once,
    },
    Scenario {
        name: "churn::streams_go_on_while_others_come_and_go",
        on: On::EveryKind,
        play: streams_go_on_while_others_come_and_go,
    },
    Scenario {
        name: "churn::a_stream_survives_a_killed_daemon",
        on: On::EveryKind,
        play: a_stream_survives_a_killed_daemon,
    },
    Scenario {
        name: "churn::an_interface_deleted_inside_is_an_endpoint_gone",
        on: On::EveryKind,
        play: an_interface_deleted_inside_is_an_endpoint_gone,
    },
    Scenario {
        name: "churn::an_interface_is_renamed_and_goes_on",
        on: On::EveryKind,
        play: an_interface_is_renamed_and_goes_on,
    },
    Scenario {
        name: "churn::a_leg_whose_interface_is_gone_is_a_fault",
        on: On::EveryKind,
        play: a_leg_whose_interface_is_gone_is_a_fault,
    },
    Scenario {
        name: "churn::a_detached_flow_leaves_with_its_endpoint",
        on: On::EveryKind,
        play: a_detached_flow_leaves_with_its_endpoint,
    },
];

fn ip(container: &Container, words: &str) {
    let mut ip = program("ip");
    ip.args(words.split(' '));
    let _ = container.execute(ip).success();
}

fn many_are_attached_at_once(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let containers: Vec<Container> = (0..16).map(|_| host.container()).collect();
    let before = host.heddle.holdings();
    let attaching: Vec<Running> = containers
        .iter()
        .map(|container| {
            let pid = container.pid.to_string();
            host.heddle.begin(&["attach", &pid, "--network", "lan"])
        })
        .collect();
    // Named after what runs, and the lowest free number.
    let said: Vec<String> = attaching
        .into_iter()
        .map(|one| one.end().success())
        .collect();
    let first = |line: &String| line.split(' ').next().map(str::to_owned);
    let mut names: Vec<String> = said.iter().filter_map(first).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), containers.len(), "{said:?}");
    let addresses = host.heddle.show(&["network", "inspect", "lan"]);
    let mut addresses: Vec<String> = addresses["endpoints"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|endpoint| endpoint["plan"]["addresses"].as_array())
        .flatten()
        .map(Value::to_string)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), containers.len() * 2);
    let detaching: Vec<Running> = names
        .iter()
        .map(|name| host.heddle.begin(&["detach", name]))
        .collect();
    for one in detaching {
        let _ = one.end().success();
    }
    for container in &containers {
        container.wait_alone();
    }
    eventually("everything is as before", || {
        host.heddle.holdings() == before
    });
}

fn streams_go_on_while_others_come_and_go(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let [alice, bob, carol] = [(); 3].map(|()| host.container());
    attach(host, &alice, "shop", "alice");
    let bobs = attach(host, &bob, "shop", "bob");
    let _far = serve(&internet, 80);
    let _near = serve(&bob, 80);
    let targets = FAMILIES.map(|family| family.far());
    let streams: Vec<Running> = targets
        .into_iter()
        .chain(bobs)
        .map(|to| begin_slow_download(&alice, SocketAddr::new(to, 80)))
        .collect();
    for round in 0..5 {
        let network = format!("n{round}");
        host.heddle.run(&["network", "create", &network]);
        attach(host, &carol, &network, "carol");
        attach(host, &carol, "shop", "carol");
        host.heddle.run(&["port", "publish", "bob", "9000:90"]);
        host.heddle.run(&["detach", "carol"]);
        host.heddle.run(&["port", "unpublish", "bob", "9000:90"]);
        host.heddle.run(&["network", "rm", &network]);
    }
    finish(streams);
}

/// Every stream must come to its end, whole, and not before now.
fn finish(streams: Vec<Running>) {
    let ended = streams.iter().filter(|stream| stream.has_ended()).count();
    for stream in streams {
        let said = stream.end().success();
        let padding = said.rsplit(' ').next().map(str::len);
        assert_eq!(padding, usize::try_from(SLOW).ok());
    }
    assert_eq!(ended, 0, "they were not slow enough to see what happened");
}

/// Inside a network there is no state but who is where.
fn a_stream_survives_a_killed_daemon(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "lan", "alice");
    let bobs = attach(host, &bob, "lan", "bob");
    let _server = serve(&bob, 80);
    let streams: Vec<Running> = bobs
        .into_iter()
        .map(|to| begin_slow_download(&alice, SocketAddr::new(to, 80)))
        .collect();
    for restart in 1..=3 {
        let status = host.heddle.show(&["status"]);
        let pid = status["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok());
        let process = pidfd_open(pid.expect("a process number")).expect("it lives");
        pidfd_send_signal(process.as_fd(), Signal::KILL).expect("it is ours");
        eventually("the daemon is back", || {
            let ended = host.heddle.attempt(&["status", "--json"]);
            let status: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
            status["restarts"] == restart
        });
    }
    finish(streams);
}

fn an_interface_deleted_inside_is_an_endpoint_gone(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &bob, "lan", "bob");
    let before = host.heddle.holdings();
    attach(host, &alice, "lan", "alice");
    ip(&alice, "link delete eth0");
    eventually("the endpoint is gone", || host.heddle.holdings() == before);
    for to in attach(host, &alice, "lan", "alice") {
        ping(&bob, to);
    }
}

fn an_interface_is_renamed_and_goes_on(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &bob, "lan", "bob");
    let alices = attach(host, &alice, "lan", "alice");
    // A renamed interface keeps its routes; one that is set down loses what IPv6 has, and whoever
    // does so gives it back.
    ip(&alice, "link set eth0 name lan0");
    for &to in &alices {
        ping(&bob, to);
    }
    ip(&alice, "link set lan0 down");
    ip(&alice, "link set lan0 up");
    ping(&bob, alices[0]);
    host.heddle.run(&["detach", "alice"]);
    alice.wait_alone();
}

fn a_leg_whose_interface_is_gone_is_a_fault(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    let bobs = attach(host, &bob, "shop", "bob");
    for family in FAMILIES {
        ping(&alice, family.far());
    }
    ip(&internet, "link delete hd-shop");
    eventually("the fault is shown", || {
        let shown = host.heddle.show(&["network", "inspect", "shop"]);
        shown["network"]["uplink_fault"].is_string()
    });
    // Inside, life goes on.
    for to in bobs {
        ping(&alice, to);
    }
    let carol = host.container();
    attach(host, &carol, "shop", "carol");
    host.heddle.run(&["detach", "carol"]);
}

fn a_detached_flow_leaves_with_its_endpoint(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &bob, "shop", "bob");
    let before = host.heddle.holdings();
    attach_with(host, &alice, "shop", "alice", &["-p", "8080:80"]);
    let _far = serve(&internet, 80);
    let streams: Vec<Running> = FAMILIES
        .iter()
        .map(|family| begin_slow_download(&alice, SocketAddr::new(family.far(), 80)))
        .collect();
    eventually("the flows are there", || {
        host.heddle.holdings().sessions >= before.sessions + 2
    });
    assert_eq!(
        endpoint(host, "shop", "alice")["ports"][0]["host_port"],
        8080
    );
    host.heddle.run(&["detach", "alice"]);
    drop(streams);
    eventually("everything is as before", || {
        host.heddle.holdings() == before
    });
    let left = fs::read_dir("/run/tmp").expect("it is ours").count();
    assert!(left <= 1, "{left}");
}
