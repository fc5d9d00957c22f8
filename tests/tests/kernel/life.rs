//! How the daemon lives, and how it dies.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use heddle_sys::process::{Signal, pidfd_open, pidfd_send_signal};
use heddle_sys::watch::wait_readable;
use heddle_tests::host::{Container, Holdings, Host, On, PATIENCE, Scenario, Way, eventually, now};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

use crate::attach::mount_namespace;
use crate::internet::{self, FAMILIES};
use crate::traffic::{attach, attach_with, ping};
use crate::web::{LONG, download, serve};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "life::a_user_s_daemon_has_no_capability",
        on: On::AnyKind,
        play: a_user_s_daemon_has_no_capability,
    },
    Scenario {
        name: "life::a_killed_daemon_is_back_with_everything",
        on: On::EveryKind,
        play: a_killed_daemon_is_back_with_everything,
    },
    Scenario {
        name: "life::a_daemon_without_its_keeper_goes_on",
        on: On::EveryKind,
        play: a_daemon_without_its_keeper_goes_on,
    },
    Scenario {
        name: "life::a_daemon_killed_with_its_keeper_is_started_again",
        on: On::EveryKind,
        play: a_daemon_killed_with_its_keeper_is_started_again,
    },
    Scenario {
        name: "life::what_a_path_attached_is_restored_and_watched",
        on: On::EveryKind,
        play: what_a_path_attached_is_restored_and_watched,
    },
    Scenario {
        name: "life::down_keeps_networks_and_purge_forgets_them",
        on: On::EveryKind,
        play: down_keeps_networks_and_purge_forgets_them,
    },
    Scenario {
        name: "life::a_command_starts_a_daemon_that_leaves_when_idle",
        on: On::AnyKind,
        play: a_command_starts_a_daemon_that_leaves_when_idle,
    },
    Scenario {
        name: "life::bad_clients_hold_up_themselves",
        on: On::AnyKind,
        play: bad_clients_hold_up_themselves,
    },
    Scenario {
        name: "life::fifty_attachments_leak_nothing",
        on: On::EveryKind,
        play: fifty_attachments_leak_nothing,
    },
    Scenario {
        name: "life::ten_endpoints_fit_into_memory",
        on: On::EveryKind,
        play: ten_endpoints_fit_into_memory,
    },
];

fn kill(host: &Host, who: &str) {
    let status = host.heddle.show(&["status"]);
    let pid = status[who].as_u64().expect("a process");
    let pid = u32::try_from(pid).expect("a process number");
    let process = pidfd_open(pid).expect("it lives");
    pidfd_send_signal(process.as_fd(), Signal::KILL).expect("it is ours");
    let ended = wait_readable(process.as_fd(), Some(PATIENCE)).expect("a pidfd can be polled");
    assert!(ended, "it does not die");
}

/// Two containers, one of which is published, and an internet.
struct Shop {
    internet: Container,
    alice: Container,
    bob: Container,
    bobs: Vec<IpAddr>,
}

impl Shop {
    fn open(host: &Host) -> Self {
        let internet = internet::connect(host, &[]);
        let (alice, bob) = (host.container(), host.container());
        attach(host, &alice, "shop", "alice");
        let bobs = attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
        Self {
            internet,
            alice,
            bob,
            bobs,
        }
    }

    /// Inside, out, and in.
    fn check_traffic(&self) {
        let _server = serve(&self.bob, 80);
        for (&to, family) in self.bobs.iter().zip(FAMILIES) {
            ping(&self.alice, to);
            ping(&self.alice, family.far());
            let seen = download(&self.internet, family.published(8080));
            assert_eq!((seen.peer, seen.padding), (family.router(), LONG));
        }
    }
}

/// What must be as before, whatever became of the daemon.
fn lasting(holdings: Holdings) -> (Value, Value, Value) {
    (holdings.networks, holdings.ports, holdings.endpoints)
}

fn a_user_s_daemon_has_no_capability(host: &mut Host) {
    host.heddle.start(&[]);
    let status = host.heddle.show(&["status"]);
    for who in ["pid", "keeper"] {
        let pid = status[who].as_u64().expect("a process");
        let shown = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let field = |name: &str| {
            let line = shown.lines().find_map(|line| line.strip_prefix(name));
            line.expect("every kernel shows it").trim().to_owned()
        };
        let root = field("Uid:").starts_with("0\t");
        let capable = [field("CapEff:"), field("CapPrm:"), field("CapAmb:")]
            .iter()
            .any(|set| !set.trim_start_matches('0').is_empty());
        let is_user = host.way == Way::User;
        assert_eq!((root, capable), (!is_user, !is_user), "{who}: {shown}");
    }
}

fn a_killed_daemon_is_back_with_everything(host: &mut Host) {
    host.heddle.start(&[]);
    let shop = Shop::open(host);
    shop.check_traffic();
    let before = lasting(host.heddle.holdings());
    let of_before = host.heddle.show(&["status"]);
    for restart in 1..=2 {
        let killed = now();
        kill(host, "pid");
        eventually("the daemon is back", || {
            let ended = host.heddle.attempt(&["status", "--json"]);
            let status: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
            status["restarts"] == restart
        });
        let took = now() - killed;
        println!("MEASURED back after {took:?}");
        let status = host.heddle.show(&["status"]);
        assert_ne!(status["pid"], of_before["pid"]);
        assert_eq!(status["keeper"], of_before["keeper"]);
        assert_eq!(lasting(host.heddle.holdings()), before);
        shop.check_traffic();
    }
    // What came back goes like everything else.
    host.heddle.run(&["detach", "alice"]);
    shop.alice.wait_alone();
    shop.bob.end();
    eventually("the end of a process still detaches", || {
        host.heddle.holdings().endpoints == serde_json::json!([])
    });
}

fn a_daemon_without_its_keeper_goes_on(host: &mut Host) {
    host.heddle.start(&[]);
    let shop = Shop::open(host);
    let before = lasting(host.heddle.holdings());
    kill(host, "keeper");
    let ended = host.heddle.daemon_end();
    assert!(!ended.status.success(), "{ended:?}");
    eventually("the daemon notices", || {
        host.heddle.show(&["status"])["keeper"].is_null()
    });
    assert_eq!(lasting(host.heddle.holdings()), before);
    shop.check_traffic();
    // The command makes interfaces by itself.
    let carol = host.container();
    for to in attach(host, &carol, "shop", "carol") {
        ping(&shop.alice, to);
    }
    let refusal = host.heddle.refused(&["daemon"]);
    assert!(refusal.message.contains("runs already"), "{refusal:?}");
    // The end still comes to where it must.
    host.heddle.run(&["down"]);
    for container in [&shop.alice, &shop.bob, &carol] {
        container.wait_alone();
    }
    eventually("the daemon has ended", || {
        !host.heddle.attempt(&["status"]).status.success()
    });
    host.heddle.start(&[]);
    let networks = host.heddle.show(&["network", "ls"]);
    assert_eq!(networks[0]["name"], "shop", "{networks:#}");
}

fn a_daemon_killed_with_its_keeper_is_started_again(host: &mut Host) {
    host.heddle.start(&[]);
    let shop = Shop::open(host);
    shop.check_traffic();
    let before = lasting(host.heddle.holdings());
    kill(host, "keeper");
    let _ = host.heddle.daemon_end();
    kill(host, "pid");
    for container in [&shop.alice, &shop.bob] {
        container.wait_alone();
    }
    host.heddle.start(&[]);
    assert_eq!(lasting(host.heddle.holdings()), before);
    shop.check_traffic();
}

/// By the keeper's hands after a crash, and from the store alone when the keeper is gone as well.
fn what_a_path_attached_is_restored_and_watched(host: &mut Host) {
    let path = Path::new("/run/netns/blue");
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (blue, red) = (host.container(), host.container());
    mount_namespace(&blue, path);
    let attach_it = [
        "attach",
        "/run/netns/blue",
        "--network",
        "lan",
        "--name",
        "blue",
    ];
    host.heddle.run(&attach_it);
    let reds = attach(host, &red, "lan", "red");
    let before = lasting(host.heddle.holdings());
    kill(host, "pid");
    eventually("the daemon is back", || {
        host.heddle.attempt(&["status"]).status.success()
    });
    assert_eq!(lasting(host.heddle.holdings()), before);
    for &to in &reds {
        ping(&blue, to);
    }
    kill(host, "keeper");
    let _ = host.heddle.daemon_end();
    kill(host, "pid");
    host.heddle.start(&[]);
    assert_eq!(lasting(host.heddle.holdings()), before);
    for &to in &reds {
        ping(&blue, to);
    }
    unmount(path, UnmountFlags::DETACH).expect("it is ours");
    std::fs::remove_file(path).expect("it is ours");
    blue.wait_alone();
}

fn down_keeps_networks_and_purge_forgets_them(host: &mut Host) {
    host.heddle.start(&[]);
    let shop = Shop::open(host);
    let before = host.heddle.show(&["network", "ls"]);
    host.heddle.run(&["down"]);
    let ended = host.heddle.daemon_end();
    assert!(ended.status.success(), "{ended:?}");
    let refusal = host.heddle.refused(&["network", "ls"]);
    assert!(refusal.message.contains("no daemon"), "{refusal:?}");
    assert!(refusal.hint.is_some(), "{refusal:?}");
    for container in [&shop.alice, &shop.bob] {
        container.wait_alone();
    }
    assert!(!host.heddle.socket().exists());
    host.heddle.start(&[]);
    let networks = host.heddle.show(&["network", "ls"]);
    assert_eq!(networks[0]["subnets"], before[0]["subnets"]);
    host.heddle.run(&["down", "--purge"]);
    let ended = host.heddle.daemon_end();
    assert!(ended.status.success(), "{ended:?}");
    host.heddle.start(&[]);
    assert_eq!(host.heddle.show(&["network", "ls"]), serde_json::json!([]));
}

fn a_command_starts_a_daemon_that_leaves_when_idle(host: &mut Host) {
    // Nothing runs yet: the command starts one.
    host.heddle.run(&["network", "create", "lan"]);
    let status = host.heddle.show(&["status"]);
    assert_eq!(status["networks"], 1);
    host.heddle.run(&["down"]);
    eventually("it has ended", || {
        !host.heddle.attempt(&["status"]).status.success()
    });
    host.heddle.start(&["--idle-exit", "1"]);
    let alice = host.container();
    attach(host, &alice, "lan", "alice");
    let begun = now();
    eventually("two seconds have passed", || {
        now() - begun > std::time::Duration::from_secs(2)
    });
    assert!(!host.heddle.daemon().has_ended());
    host.heddle.run(&["detach", "alice"]);
    let ended = host.heddle.daemon_end();
    assert!(ended.status.success(), "{ended:?}");
}

fn bad_clients_hold_up_themselves(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "lan", "alice");
    let bobs = attach(host, &bob, "lan", "bob");
    let passing = host.heddle.socket().with_extension("sock.fd");
    assert!(passing.exists(), "{}", passing.display());
    let words: [&[u8]; 5] = [
        b"",
        b"GET /v1/sta",
        b"\0\xff\xfe nonsense\r\n\r\n",
        b"POST /v1/networks HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{",
        b"GET /v1/status HTTP/1.1\r\nHost: h\r\n",
    ];
    let mut clients = Vec::new();
    for round in 0..100 {
        for socket in [host.heddle.socket(), &passing] {
            let mut client = UnixStream::connect(socket).expect("the daemon accepts");
            // A client that talked nonsense may be refused while it still talks.
            let _ = client.write_all(words[round % words.len()]);
            clients.push(client);
        }
    }
    let carol = host.container();
    in_time("a ping", || bobs.iter().for_each(|&to| ping(&alice, to)));
    in_time("a creation", || {
        host.heddle.run(&["network", "create", "more"]);
    });
    in_time("an attachment", || {
        attach(host, &carol, "more", "carol");
    });
    check_refusals(host);
    drop(clients);
    eventually("their descriptors are closed", || {
        host.heddle.holdings().descriptors < 100
    });
}

/// Sooner than any client's time is over.
fn in_time(what: &str, work: impl FnOnce()) {
    let begun = now();
    work();
    let took = now() - begun;
    assert!(took < std::time::Duration::from_secs(8), "{what}: {took:?}");
}

/// Requests that are whole and wrong.
fn check_refusals(host: &Host) {
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    for (method, path, body, status, code) in [
        ("POST", "/v1/networks", "nonsense", 400, "invalid-request"),
        (
            "POST",
            "/v1/networks",
            "{\"nmae\":\"x\"}",
            400,
            "invalid-request",
        ),
        ("POST", "/v1/networks", "[[[[[[[[", 400, "invalid-request"),
        ("GET", "/v2/networks", "", 404, "unknown-path"),
        ("PUT", "/v1/networks", "{}", 404, "unknown-path"),
        ("GET", "/v1/networks/..%2f..", "", 400, "invalid-name"),
        ("DELETE", "/v1/sandboxes/nobody", "", 404, "unknown-sandbox"),
    ] {
        let answer = host.heddle.ask(method, path, body);
        let seen = (answer.0, answer.1["error"]["code"].as_str());
        assert_eq!(seen, (status, Some(code)), "{method} {path} {body}");
    }
    std::fs::write("/run/tmp/long", long).expect("the host has room");
    let answer = host.heddle.ask("POST", "/v1/networks", "@/run/tmp/long");
    assert_eq!(
        (answer.0, answer.1["error"]["code"].as_str()),
        (413, Some("too-large"))
    );
}

fn fifty_attachments_leak_nothing(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let (alice, bob) = (host.container(), host.container());
    let bobs = attach(host, &bob, "lan", "bob");
    let round = |times: u32| {
        let pid = alice.pid.to_string();
        for _ in 0..times {
            host.heddle
                .run(&["attach", &pid, "--network", "lan", "--name", "alice"]);
            host.heddle.run(&["detach", "alice"]);
        }
        alice.wait_alone();
    };
    // What is made only once is made before the count.
    round(3);
    let before = host.heddle.settled_holdings();
    round(50);
    eventually("everything is as before", || {
        host.heddle.holdings().keep_nothing_since(&before)
    });
    attach(host, &alice, "lan", "alice");
    for to in bobs {
        ping(&alice, to);
    }
}

fn ten_endpoints_fit_into_memory(host: &mut Host) {
    /// Ten times what is aimed at.
    const LIMIT: u64 = 200 << 20;
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "lan"]);
    let containers: Vec<Container> = (0..10).map(|_| host.container()).collect();
    let mut addresses = Vec::new();
    for (number, container) in containers.iter().enumerate() {
        addresses = attach(host, container, "lan", &format!("c{number}"));
    }
    for &to in &addresses {
        ping(&containers[0], to);
    }
    let memory = host.heddle.show(&["status"])["memory"].as_u64();
    let memory = memory.expect("a number");
    println!("MEASURED {} KiB resident with ten endpoints", memory >> 10);
    assert!(memory < LIMIT, "{memory}");
}
