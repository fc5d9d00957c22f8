//! The longest single operation on the table of sessions, in instructions:
//!
//! ```text
//! cargo run --release -p heddle-benches --bin longest [SESSIONS]
//! ```
//!
//! A table grows from nothing to so many sessions (four million), is looked at meanwhile, churns when it is
//! full, gives ports from a pool that is nearly full, is flushed in part, and expires. Which operations
//! take longest, the clock says: three times over, and what was slow all three times is so by itself.
//! How long they take, callgrind says: the same once more, where it counts exactly those operations.
//!
//! Exits with failure if one takes more than the design's bar.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, io};

use heddle_benches::flows::{FIRST_FREE_PEER_PORT, Flows, START};
use heddle_mem::Instant;
use heddle_nat::Tuple;
use heddle_sys::clock::monotonic;
use heddle_wire::{Address, Family};

/// Instructions that an operation may take.
const BAR: u64 = 50_000;

/// Sessions, unless another number is asked for.
const SESSIONS: u32 = 4_000_000;

/// How often the clock is asked.
const ROUNDS: usize = 3;

/// Operations of each kind that are counted.
const SLOWEST: usize = 8;

/// Between two new sessions.
const STEP: Duration = Duration::from_micros(20);

/// Sessions that the flush ends under one hold of the mutex.
const FLUSHED: u16 = 16;

/// Timers that are looked after under one hold of the mutex.
const EXPIRED: usize = 16;

/// What is done to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Open,
    Answer,
    Lookup,
    Replace,
    Allocate,
    Flush,
    Expire,
}

/// Who watches.
trait Watch {
    fn see(&mut self, kind: Kind, operation: &mut dyn FnMut());
}

/// Asks the clock.
#[derive(Default)]
struct Clock {
    kinds: Vec<Kind>,
    least: Vec<Duration>,
    next: usize,
}

impl Watch for Clock {
    fn see(&mut self, kind: Kind, operation: &mut dyn FnMut()) {
        let begin = monotonic();
        operation();
        let time = monotonic() - begin;
        match self.least.get_mut(self.next) {
            Some(least) => *least = time.min(*least),
            None => {
                self.least.push(time);
                self.kinds.push(kind);
            }
        }
        self.next += 1;
    }
}

impl Clock {
    /// The slowest operations of each kind, by their number.
    fn slowest(&self) -> Vec<(usize, Kind, Duration)> {
        let mut by_kind: BTreeMap<Kind, Vec<(Duration, usize)>> = BTreeMap::new();
        for (number, (&kind, &time)) in self.kinds.iter().zip(&self.least).enumerate() {
            by_kind.entry(kind).or_default().push((time, number));
        }
        let mut slowest = Vec::new();
        for (kind, mut operations) in by_kind {
            operations.sort_unstable_by(|one, other| other.cmp(one));
            operations.truncate(SLOWEST);
            slowest.extend(
                operations
                    .into_iter()
                    .map(|(time, number)| (number, kind, time)),
            );
        }
        slowest.sort_unstable();
        slowest
    }
}

/// Has callgrind count the operations with these numbers, in rising order.
struct Counter {
    numbers: Vec<usize>,
    next: usize,
}

impl Watch for Counter {
    fn see(&mut self, _: Kind, operation: &mut dyn FnMut()) {
        if self.numbers.last() == Some(&self.next) {
            self.numbers.pop();
            counted(operation);
        } else {
            operation();
        }
        self.next += 1;
    }
}

/// Callgrind collects in here and nowhere else.
#[inline(never)]
fn counted(operation: &mut dyn FnMut()) {
    operation();
    black_box(());
}

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let sessions = |text: &String| text.parse().map_err(io::Error::other);
    match arguments.as_slice() {
        [] => table(SESSIONS),
        [count] => table(sessions(count)?),
        [count, numbers] => {
            let list = fs::read_to_string(numbers)?;
            let mut numbers: Vec<usize> =
                list.lines().filter_map(|line| line.parse().ok()).collect();
            numbers.sort_unstable_by(|one, other| other.cmp(one));
            let mut counter = Counter { numbers, next: 0 };
            live(sessions(count)?, &mut counter);
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("usage: longest [SESSIONS [NUMBERS]]");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn table(sessions: u32) -> io::Result<ExitCode> {
    let mut clock = Clock::default();
    for _ in 0..ROUNDS {
        clock.next = 0;
        live(sessions, &mut clock);
    }
    let slowest = clock.slowest();
    let counts = count(sessions, &slowest)?;
    let mut longest: BTreeMap<Kind, (u64, Duration)> = BTreeMap::new();
    for (&(_, kind, time), count) in slowest.iter().zip(counts) {
        let (most, longest) = longest.entry(kind).or_default();
        (*most, *longest) = (count.max(*most), time.max(*longest));
    }
    println!("| operation | instructions at most | bar | least time of the slowest |");
    println!("|---|---:|---:|---:|");
    let mut result = ExitCode::SUCCESS;
    for (kind, (count, time)) in longest {
        println!("| {kind:?} | {count} | {BAR} | {time:?} |");
        if count > BAR {
            result = ExitCode::FAILURE;
        }
    }
    Ok(result)
}

/// The instructions of operations, which are in rising order.
fn count(sessions: u32, operations: &[(usize, Kind, Duration)]) -> io::Result<Vec<u64>> {
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("numbers");
    let numbers: Vec<String> = (operations.iter())
        .map(|(number, ..)| number.to_string())
        .collect();
    fs::write(&list, numbers.join("\n"))?;
    let parts = folder.path().join("part");
    let status = Command::new("valgrind")
        .args(["-q", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", parts.display()))
        .arg("--toggle-collect=longest::counted")
        .arg("--dump-after=longest::counted")
        .arg(env::current_exe()?)
        .arg(sessions.to_string())
        .arg(&list)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(
            "valgrind with callgrind is needed to count",
        ));
    }
    (1..=operations.len())
        .map(|part| {
            let part = fs::read_to_string(format!("{}.{part}", parts.display()))?;
            let totals = part.lines().find_map(|line| line.strip_prefix("totals: "));
            let totals = totals.and_then(|totals| totals.trim().parse().ok());
            totals.ok_or_else(|| io::Error::other("a part without totals"))
        })
        .collect()
}

/// All of it, the same every time.
fn live(sessions: u32, watch: &mut impl Watch) {
    let flows = Flows::new(Family::V4, sessions, 0);
    let now = grow(&flows, watch);
    let now = churn(&flows, now, watch);
    expire(&flows, now, watch);
    assert_eq!(flows.nat.session_count(), 0);
    use_up_ports(watch);
    flush(watch);
}

/// From nothing to full. Every fourth is answered, and older ones are looked up.
fn grow(flows: &Flows, watch: &mut impl Watch) -> Instant {
    let mut now = START;
    for number in 0..flows.count() {
        now = now + STEP;
        let tuple = flows.tuple(number);
        watch.see(Kind::Open, &mut || {
            flows.open(tuple, now);
        });
        if number % 4 == 0 {
            let reply = flows.reply(&tuple);
            watch.see(Kind::Answer, &mut || {
                flows.pass(&reply, now);
            });
        }
        let older = flows.tuple(number / 2);
        watch.see(Kind::Lookup, &mut || {
            black_box(flows.nat.lookup(&older).is_some());
        });
    }
    now
}

/// The table is full: each new session takes the place of another one of its owner.
fn churn(flows: &Flows, mut now: Instant, watch: &mut impl Watch) -> Instant {
    for number in 0..flows.count() / 4 {
        now = now + STEP;
        let tuple = Tuple {
            destination_port: FIRST_FREE_PEER_PORT,
            ..flows.tuple(number)
        };
        let opening = flows.opening(tuple);
        watch.see(Kind::Replace, &mut || {
            black_box(flows.nat.open(&opening, now).is_ok());
        });
    }
    assert_eq!(flows.nat.session_count(), flows.count());
    now
}

/// Time passes, and everything ends.
fn expire(flows: &Flows, mut now: Instant, watch: &mut impl Watch) {
    while flows.nat.session_count() > 0 {
        now = now + Duration::from_secs(1);
        let mut more = true;
        while more {
            watch.see(Kind::Expire, &mut || more = flows.nat.expire(now, EXPIRED));
        }
    }
}

/// One endpoint takes port after port until none is free, and after that one of its own for another.
/// Every sixtieth is published and never free.
fn use_up_ports(watch: &mut impl Watch) {
    let mut flows = Flows::new(Family::V4, 1 << 17, 0);
    flows.publish((1_024..=u16::MAX).step_by(60));
    let [one, other] = ["10.200.0.1", "10.200.0.2"].map(|text| text.parse::<Address>());
    for source in [one, other].into_iter().flatten() {
        for source_port in 1_024..=u16::MAX {
            let tuple = Tuple {
                source,
                source_port,
                ..flows.tuple(0)
            };
            let opening = flows.opening(tuple);
            watch.see(Kind::Allocate, &mut || {
                black_box(flows.nat.open(&opening, START).is_ok());
            });
        }
    }
}

/// A few sessions, each with a mapping of its own, end together.
fn flush(watch: &mut impl Watch) {
    let flows = Flows::new(Family::V4, 1 << 16, 0);
    for number in 0..FLUSHED {
        let tuple = flows.tuple(0);
        flows.open(
            Tuple {
                source_port: tuple.source_port + number,
                ..tuple
            },
            START,
        );
    }
    watch.see(Kind::Flush, &mut || {
        black_box(flows.nat.flush(START, |_| true));
    });
}
