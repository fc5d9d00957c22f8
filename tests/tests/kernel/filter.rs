//! Filter rules as people write them, in front of real programs.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use heddle_sys::process::{Signal, pidfd_open, pidfd_send_signal};
use heddle_tests::host::{Container, Host, On, Scenario, eventually, program};
use serde_json::{Value, json};

use crate::internet::{self, FAMILIES, Family};
use crate::traffic::{attach, attach_with, ping, try_ping};
use crate::web::{curl, serve};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "filter::the_recipes_of_docker_user_hold",
        on: On::EveryKind,
        play: the_recipes_of_docker_user_hold,
    },
    Scenario {
        name: "filter::a_rejected_client_is_told_at_once",
        on: On::AnyKind,
        play: a_rejected_client_is_told_at_once,
    },
    Scenario {
        name: "filter::networks_and_neighbours_are_kept_apart_one_way",
        on: On::EveryKind,
        play: networks_and_neighbours_are_kept_apart_one_way,
    },
    Scenario {
        name: "filter::rules_come_back_after_a_restart",
        on: On::AnyKind,
        play: rules_come_back_after_a_restart,
    },
    Scenario {
        name: "filter::mistakes_in_rules_are_explained_and_change_nothing",
        on: On::AnyKind,
        play: mistakes_in_rules_are_explained_and_change_nothing,
    },
];

/// One rule's words, split at blanks.
fn rule(host: &Host, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let said = host.heddle.run(&[&["rule"], &words[..]].concat());
    said.trim().to_owned()
}

/// Whether the published web server answers a client that uses this source address.
fn is_served(internet: &Container, family: Family, source: IpAddr) -> bool {
    let source = source.to_string();
    let options = ["--connect-timeout", "1", "--interface", &source];
    curl(internet, family.published(8080), 0, &options)
        .status
        .success()
}

/// Whether one echo request is answered.
fn is_answered(from: &Container, to: IpAddr) -> bool {
    try_ping(from, to, &["-c", "1", "-W", "1"]).status.success()
}

fn the_recipes_of_docker_user_hold(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let bob = host.container();
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let _server = serve(&bob, 80);
    let _outside = serve(&internet, 81);
    let [v4, v6] = FAMILIES;
    let serves = |family: Family, friend: bool, stranger: bool| {
        assert_eq!(is_served(&internet, family, family.far()), friend);
        assert_eq!(is_served(&internet, family, family.router()), stranger);
    };
    for family in FAMILIES {
        serves(family, true, true);
    }
    // iptables -I DOCKER-USER -i ext_if ! -s 198.51.100.1 -j DROP
    let drop = rule(host, "insert -i uplink ! -s 198.51.100.1 -j DROP");
    serves(v4, true, false);
    // Whoever has another address is not that host, in any family.
    serves(v6, false, false);
    host.heddle.run(&["rule", "delete", &drop]);
    rule(
        host,
        "insert -i uplink ! -s 198.51.100.1,2001:db8:99::1 -j DROP",
    );
    for family in FAMILIES {
        serves(family, true, false);
        // Now answers are dropped as well.
        let at = SocketAddr::new(family.router(), 81);
        let ended = curl(&bob, at, 0, &["--connect-timeout", "1"]);
        assert!(!ended.status.success(), "{ended:?}");
        assert!(!is_answered(&bob, family.router()));
    }
    // iptables -I DOCKER-USER -m state --state RELATED,ESTABLISHED -j ACCEPT
    rule(
        host,
        "insert -m state --state RELATED,ESTABLISHED -j ACCEPT",
    );
    for family in FAMILIES {
        serves(family, true, false);
        let _ = curl(&bob, SocketAddr::new(family.router(), 81), 0, &[]).success();
        ping(&bob, family.router());
    }
    // One more client, between the two.
    for family in FAMILIES {
        let client = family.router();
        rule(
            host,
            &format!("insert 2 -i uplink -s {client} -p tcp --dport 80 -j ACCEPT"),
        );
        serves(family, true, true);
    }
    let rules = host.heddle.show(&["rule", "ls"]);
    let rules = rules.as_array().expect("a list");
    let verdicts: Vec<&Value> = rules.iter().map(|rule| &rule["verdict"]).collect();
    assert_eq!(verdicts, ["accept", "accept", "accept", "drop"]);
    for rule in rules {
        assert!(rule["packets"].as_u64() > Some(0), "{rule:#}");
    }
    let text = host.heddle.run(&["rule", "ls"]);
    assert!(
        text.contains("-i uplink:any ! -s 198.51.100.1,2001:db8:99::1 -j DROP"),
        "{text}"
    );
    let drops = host.heddle.show(&["drops"]);
    let reasons: Vec<&Value> = { drops.as_array().expect("a list") }
        .iter()
        .map(|drop| &drop["reason"])
        .collect();
    assert!(reasons.contains(&&json!("filter-dropped")), "{reasons:?}");
    // As they were said, all at once.
    let listing = host.heddle.run(&["rule", "ls", "--json"]);
    std::fs::write("/run/tmp/rules", listing).expect("the host has room");
    host.heddle.run(&["rule", "apply", "-f", "/run/tmp/rules"]);
    let again = host.heddle.show(&["rule", "ls"]);
    for (rule, again) in rules.iter().zip(again.as_array().expect("a list")) {
        assert_eq!(rule["id"], again["id"]);
        assert!(again["packets"].as_u64() >= rule["packets"].as_u64());
    }
}

fn a_rejected_client_is_told_at_once(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let bob = host.container();
    attach_with(
        host,
        &bob,
        "shop",
        "bob",
        &["-p", "8080:80", "-p", "9090:90"],
    );
    let _server = serve(&bob, 80);
    rule(
        host,
        "add -p tcp --dport 80 -j REJECT --reject-with tcp-reset",
    );
    rule(
        host,
        "add -p tcp -m conntrack --ctorigdstport 9090 --ctdir ORIGINAL -j REJECT",
    );
    rule(
        host,
        "add -i bob -p tcp --dport 443 -j REJECT --reject-with icmp-admin-prohibited",
    );
    for family in FAMILIES {
        for (from, to, port) in [
            (&internet, family.outside(), "8080"),
            (&internet, family.outside(), "9090"),
            (&bob, family.far(), "443"),
        ] {
            let mut nc = program("nc");
            nc.args(["-z", "-v", "-w", "15", &to.to_string(), port]);
            let begun = now();
            let ended = from.execute(nc);
            assert!(!ended.status.success(), "{ended:?}");
            let took = now() - begun;
            assert!(
                took < std::time::Duration::from_secs(10),
                "{took:?}: {ended:?}"
            );
            let told = ["refused", "unreachable", "No route", "denied", "prohibited"];
            assert!(
                told.iter().any(|told| ended.stderr.contains(told)),
                "{ended:?}"
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "real programs take real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn networks_and_neighbours_are_kept_apart_one_way(host: &mut Host) {
    host.heddle.start(&[]);
    host.heddle.run(&["network", "create", "left"]);
    host.heddle
        .run(&["network", "create", "right", "--route-to", "left"]);
    let (alice, bob, carol) = (host.container(), host.container(), host.container());
    let alices = attach(host, &alice, "left", "alice");
    let bobs = attach(host, &bob, "right", "bob");
    let carols = attach(host, &carol, "left", "carol");
    rule(host, "add -n left -i right --state new -j DROP");
    for (alices, bobs) in alices.iter().zip(&bobs) {
        ping(&alice, *bobs);
        assert!(!is_answered(&bob, *alices));
    }
    // On one bridge, only where a rule says so.
    rule(host, "add -j DROP");
    for (alices, carols) in alices.iter().zip(&carols) {
        ping(&alice, *carols);
        ping(&carol, *alices);
    }
    rule(host, "add -n left --inside -i carol --state new -j DROP");
    for (alices, carols) in alices.iter().zip(&carols) {
        ping(&alice, *carols);
        assert!(!is_answered(&carol, *alices));
    }
    // A sandbox that comes back is the same to the rule.
    host.heddle.run(&["detach", "carol"]);
    carol.wait_alone();
    let carols = attach(host, &carol, "left", "carol");
    for (alices, carols) in alices.iter().zip(&carols) {
        ping(&alice, *carols);
        assert!(!is_answered(&carol, *alices));
    }
}

fn rules_come_back_after_a_restart(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let bob = host.container();
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let _server = serve(&bob, 80);
    rule(host, "add -i bob -j COUNT --comment bob");
    rule(host, "add -n shop -i uplink -j DROP");
    let before = [
        host.heddle.show(&["rule", "ls"]),
        host.heddle.show(&["rule", "ls", "-n", "shop"]),
    ];
    let pid = host.heddle.show(&["status"])["pid"]
        .as_u64()
        .expect("a process");
    let process = pidfd_open(u32::try_from(pid).expect("a pid")).expect("it lives");
    pidfd_send_signal(process.as_fd(), Signal::KILL).expect("it is ours");
    eventually("another daemon is there", || {
        host.heddle.attempt(&["status"]).status.success()
            && host.heddle.show(&["status"])["restarts"] == 1
    });
    let after = [
        host.heddle.show(&["rule", "ls"]),
        host.heddle.show(&["rule", "ls", "-n", "shop"]),
    ];
    for (before, after) in before.iter().zip(&after) {
        for (before, after) in [(&before[0], &after[0])] {
            for field in ["id", "verdict", "in_interface", "comment"] {
                assert_eq!(before[field], after[field], "{field}");
            }
        }
    }
    for family in FAMILIES {
        assert!(!is_served(&internet, family, family.far()));
    }
    // A rule does not keep a network from going, and goes with it.
    host.heddle.run(&["rule", "delete", "1"]);
    host.heddle.run(&["detach", "bob"]);
    host.heddle.run(&["network", "rm", "shop"]);
    internet::create(host, "shop", &internet, &[]);
    let rules = host.heddle.show(&["rule", "ls", "-n", "shop"]);
    assert_eq!(rules, json!([]));
}

/// Rules that are refused: the words, what the complaint says, and what the hint says.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("add -i nobody -j DROP", "nobody", "there is: bob, netns:"),
    (
        "add -i twin -j DROP",
        "several things are called twin",
        "network:twin, endpoint:twin",
    ),
    ("add -i network:nobody -j DROP", "nobody", "shop"),
    ("add -i endpoint:shop/alice -j DROP", "alice", "bob"),
    ("add -i packet:eth7 -j DROP", "packet:eth7", "netns:"),
    ("add -n nowhere -j DROP", "nowhere", "shop"),
    (
        "add --dport 80 -j DROP",
        "only TCP and UDP have ports",
        "-p tcp",
    ),
    ("add -p tcp --syn -j DROP", "--syn", "--state new"),
    (
        "add -m mac --mac-source x -j DROP",
        "--mac-source",
        "-i NAME",
    ),
    ("add -j REJECT --reject-with tcp-reset", "TCP", "-p tcp"),
    ("insert 7 -j DROP", "no position 7", "1 to 2"),
    ("insert 0 -j DROP", "no position 0", "1 to 2"),
    ("delete 99", "no rule 99", "heddle rule ls"),
    (
        "delete 1 -n shop",
        "no rule 1 in network shop",
        "--network shop",
    ),
    ("apply -f /nonexistent", "/nonexistent", "rule ls --json"),
];

fn mistakes_in_rules_are_explained_and_change_nothing(host: &mut Host) {
    host.heddle.start(&[]);
    let _internet = internet::connect(host, &[]);
    let (bob, twin) = (host.container(), host.container());
    attach(host, &bob, "shop", "bob");
    host.heddle.run(&["network", "create", "twin"]);
    attach(host, &twin, "twin", "twin");
    rule(host, "add -i bob -j COUNT");
    let before = host.heddle.show(&["rule", "ls"]);
    for (words, complaint, hint) in MISTAKES {
        let words: Vec<&str> = words.split(' ').collect();
        let refusal = host.heddle.refused(&[&["rule"], &words[..]].concat());
        assert!(
            refusal.message.contains(complaint),
            "{words:?}: {refusal:?}"
        );
        let said = refusal.hint.as_deref().unwrap_or_default();
        assert!(said.contains(hint), "{words:?}: {refusal:?}");
    }
    // Told by the parser of the command line.
    for (words, complaint) in [
        ("add -j MASQUERADE", "uplink"),
        ("add -j DOCKER", "RETURN"),
        ("add -s example.org -j DROP", "names are not looked up"),
        ("add -i eth+ -j DROP", "is a pattern"),
        ("add", "--jump"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let refusal = host.heddle.refused(&[&["rule"], &words[..]].concat());
        assert!(
            refusal.message.contains(complaint),
            "{words:?}: {refusal:?}"
        );
    }
    requests(host);
    let after = host.heddle.show(&["rule", "ls"]);
    assert_eq!(before[0]["id"], after[0]["id"]);
    assert_eq!(after.as_array().map(Vec::len), Some(1));
    // The network that a rule names stays.
    rule(host, "add -i network:twin -j COUNT");
    host.heddle.run(&["detach", "twin"]);
    let refusal = host.heddle.refused(&["network", "rm", "twin"]);
    assert!(refusal.message.contains("filter rule"), "{refusal:?}");
}

/// Requests that are wrong as a whole, and so change nothing, not even by what is right in them.
fn requests(host: &Host) {
    let accept = r#"{"verdict":"accept"}"#;
    let many = vec![accept; 1025].join(",");
    std::fs::write("/run/tmp/many", format!("[{many}]")).expect("the host has room");
    for (method, path, body, status, code, word) in [
        ("PUT", "/v1/rules", "", 400, "invalid-request", "sequence"),
        ("PUT", "/v1/rules", "{}", 400, "invalid-request", "sequence"),
        (
            "PUT",
            "/v1/rules",
            r#"[{"verdict":"drop","sourc":"x"}]"#,
            400,
            "invalid-request",
            "sourc",
        ),
        (
            "PUT",
            "/v1/rules",
            r#"[{"verdict":"accept"},{"verdict":"drop","in_interface":"nobody"}]"#,
            400,
            "invalid-rule",
            "rule 2: there is no network, sandbox or uplink called nobody",
        ),
        (
            "PUT",
            "/v1/rules",
            "@/run/tmp/many",
            400,
            "invalid-rule",
            "1025 rules",
        ),
        (
            "PUT",
            "/v1/networks/nowhere/rules",
            "[]",
            404,
            "unknown-network",
            "nowhere",
        ),
        ("POST", "/v1/rules", "", 400, "invalid-request", "verdict"),
        (
            "POST",
            "/v1/rules?position=9",
            accept,
            400,
            "invalid-rule",
            "position 9",
        ),
        (
            "POST",
            "/v1/rules?positon=1",
            accept,
            400,
            "invalid-request",
            "positon",
        ),
        ("DELETE", "/v1/rules/99", "", 404, "unknown-rule", "99"),
        (
            "DELETE",
            "/v1/rules/first",
            "",
            400,
            "invalid-request",
            "first",
        ),
        ("PATCH", "/v1/rules", "[]", 404, "unknown-path", "PATCH"),
    ] {
        let (seen, answer) = host.heddle.ask(method, path, body);
        let error = &answer["error"];
        let seen = (seen, error["code"].as_str());
        assert_eq!(
            seen,
            (status, Some(code)),
            "{method} {path} {body}: {answer}"
        );
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{method} {path} {body}: {message}");
    }
}
