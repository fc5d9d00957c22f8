//! A thousand endpoints on one switch.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use heddle_tests::host::{
    Container, Host, Kind, On, PATIENCE, Scenario, Way, eventually, eventually_within, now,
};
use serde_json::{Value, json};

use crate::traffic::{addresses, endpoint, ping};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "many::the_last_endpoint_is_attached_as_fast_as_the_first",
    on: On::EveryKind,
    play: the_last_endpoint_is_attached_as_fast_as_the_first,
}];

/// How fast an attachment has to be, with any number of endpoints.
const PROMISE: Duration = Duration::from_millis(10);

/// A machine that does other things as well may take so many times that.
const LENIENCE: u32 = 10;

/// Attachments of which the median is looked at.
const SAMPLE: usize = 50;

/// A veth endpoint takes 2 MiB for its ring, and two ways through one code need not both be long.
fn count(host: &Host) -> usize {
    match (host.way, host.kind) {
        (Way::Root, Kind::Tap) => 1_000,
        _ => 2 * SAMPLE,
    }
}

/// Asks the daemon without a program in between, which would take longer than the answer.
fn ask(host: &Host, method: &str, path: &str, body: &Value) -> (Duration, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: heddle\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let begun = now();
    let mut stream = UnixStream::connect(host.heddle.socket()).expect("the daemon listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let took = now() - begun;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.starts_with("HTTP/1.1 2"), "{path}: {answer}");
    (took, serde_json::from_str(body).unwrap_or_default())
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Processor time that processes have used, with their children that have ended.
fn used(processes: &[u64]) -> Duration {
    /// A tick of `/proc`, always (`USER_HZ`).
    const TICK: Duration = Duration::from_millis(10);
    let of = |pid: &u64| -> u32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let (_, fields) = stat.rsplit_once(')').expect("its name is in parentheses");
        let fields = fields.split_whitespace().skip(11).take(4);
        fields
            .map(|ticks| ticks.parse::<u32>().expect("a number"))
            .sum()
    };
    TICK * processes.iter().map(of).sum()
}

fn the_last_endpoint_is_attached_as_fast_as_the_first(host: &mut Host) {
    let count = count(host);
    host.heddle.start(&[]);
    let subnets = ["--subnet", "10.77.0.0/16", "--subnet", "fd77::/64"];
    host.heddle
        .run(&[&["network", "create", "lan"], &subnets[..]].concat());
    let containers: Vec<Container> = (0..count).map(|_| host.container()).collect();
    let before = host.heddle.settled_holdings();
    let status = host.heddle.show(&["status"]);
    let number = |status: &Value, key: &str| status[key].as_u64().expect("a number");
    let empty = number(&status, "memory");
    let processes = ["pid", "keeper"].map(|key| number(&status, key));
    let mut work = vec![used(&processes)];
    let attached: Vec<Duration> = containers
        .iter()
        .enumerate()
        .map(|(index, container)| {
            let name = format!("c{index}");
            let body = json!({"sandbox": {"pid": container.pid}, "name": name});
            let (took, _) = ask(host, "POST", "/v1/networks/lan/endpoints", &body);
            if (index + 1) % SAMPLE == 0 {
                work.push(used(&processes));
            }
            took
        })
        .collect();
    let first = median(&attached[..SAMPLE]);
    let last = median(&attached[count - SAMPLE..]);
    let status = host.heddle.show(&["status"]);
    let each = (number(&status, "memory") - empty) / u64::try_from(count).expect("a number");
    // Each interface speaks up when it comes, for multicast groups and such; then there is silence.
    eventually("nothing happens any more", || {
        let (before, begun) = (used(&processes), now());
        eventually("half a second passes", || {
            now() > begun + Duration::from_millis(500)
        });
        used(&processes) - before <= Duration::from_millis(10)
    });
    let names = ["c0".to_owned(), format!("c{}", count - 1)];
    let far = addresses(&endpoint(host, "lan", &names[1]));
    for to in far {
        ping(&containers[0], to);
    }
    let sample = u32::try_from(SAMPLE).expect("a small number");
    let works = [1, work.len() - 1].map(|end| (work[end] - work[end - 1]) / sample);
    let detached: Vec<Duration> = (0..count)
        .rev()
        .map(|index| {
            let path = format!("/v1/networks/lan/endpoints/c{index}");
            ask(host, "DELETE", &path, &Value::Null).0
        })
        .collect();
    println!(
        "MEASURED {count} endpoints: attach {:.1} ms at first, {:.1} ms at last; of that work \
         {:.1} ms and {:.1} ms; detach {:.1} ms at first, {:.1} ms at last; {each} octets each",
        millis(first),
        millis(last),
        millis(works[0]),
        millis(works[1]),
        millis(median(&detached[..SAMPLE])),
        millis(median(&detached[count - SAMPLE..])),
    );
    // Other programs take what time they like, but not what is counted here.
    let [_, last] = works;
    assert!(
        last < PROMISE * LENIENCE,
        "{last:?} of work to attach the last"
    );
    // The kernel removes interfaces one after the other, each when nobody can be looking at it any more.
    eventually_within(PATIENCE * 5, "everything is as before", || {
        host.heddle.holdings().keep_nothing_since(&before)
    });
    for container in [&containers[0], &containers[count - 1]] {
        container.wait_alone();
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
