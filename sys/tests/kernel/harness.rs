//! A test harness for cases that need a single-threaded process.
//!
//! The kernel lets only a single-threaded process enter a user namespace, and the standard harness
//! gives each test a thread. So this program executes itself once for each case, with the case's
//! name in the environment; that process has one thread, makes its own namespaces and runs the case.
//! A panic is a failure; [`skip`] is reported as such, and is a failure with `HEDDLE_FORBID_SKIP=1`.

use std::collections::VecDeque;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use heddle_sys::namespace::{Maps, NamespaceError, NamespaceKind, unshare, write_id_maps};
use heddle_sys::process::{self, Signal};
use heddle_sys::{netlink, watch};

/// Names the case that this process is to run.
const CASE_VARIABLE: &str = "HEDDLE_KERNEL_CASE";

/// Makes a skipped case a failed one.
const FORBID_SKIP_VARIABLE: &str = "HEDDLE_FORBID_SKIP";

/// How long a case may take, on a machine that is busy with others.
const CASE_DEADLINE: Duration = Duration::from_secs(120);

/// Exit status of a skipped case, as autotools have it.
const SKIPPED: u8 = 77;

/// A test case: its name and what to run.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// The cases of a module, under their functions' names.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::harness::Case] = &[
            $($crate::harness::Case {
                name: concat!(module_path!(), "::", stringify!($case)),
                run: $case,
            }),*
        ];
    };
}
pub(crate) use cases;

/// Ends this case as one that cannot run here.
pub(crate) fn skip(reason: &str) -> ! {
    eprintln!("SKIP: {reason}");
    std::process::exit(SKIPPED.into());
}

/// Runs this program: all cases, or the one that the environment names.
pub(crate) fn main(cases: &[&[Case]]) -> ExitCode {
    let cases: Vec<Case> = cases.concat();
    if let Ok(name) = std::env::var(CASE_VARIABLE) {
        let case = cases
            .iter()
            .find(|case| case.name == name)
            .expect("the case exists");
        isolate();
        (case.run)();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse(std::env::args().skip(1));
    let (chosen, others): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .partition(|case| arguments.choose(case.name));
    if arguments.list {
        for case in chosen {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let results = run_all(chosen, &arguments);
    let count = |wanted| results.iter().filter(|result| **result == wanted).count();
    let failed = count(Verdict::Failed);
    println!(
        "\ntest result: {}. {} passed; {failed} failed; {} skipped; {} filtered out\n",
        if failed == 0 { "ok" } else { "FAILED" },
        count(Verdict::Passed),
        count(Verdict::Skipped),
        others.len(),
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the standard harness understands and somebody might pass.
struct Arguments {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    capture: bool,
    only_ignored: bool,
    threads: usize,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self {
            filters: Vec::new(),
            skips: Vec::new(),
            exact: false,
            list: false,
            capture: true,
            only_ignored: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => parsed.exact = true,
                "--list" => parsed.list = true,
                "--nocapture" | "--no-capture" => parsed.capture = false,
                // No case is marked as ignored.
                "--ignored" => parsed.only_ignored = true,
                "--skip" => parsed.skips.extend(arguments.next()),
                "--test-threads" => parsed.threads = number(arguments.next().as_deref()),
                "--format" | "--color" => drop(arguments.next()),
                other => match other.split_once('=') {
                    Some(("--test-threads", value)) => parsed.threads = number(Some(value)),
                    Some(("--skip", value)) => parsed.skips.push(value.to_owned()),
                    _ if other.starts_with('-') => {}
                    _ => parsed.filters.push(argument),
                },
            }
        }
        parsed
    }

    fn choose(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        !self.only_ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

fn number(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok())
        .expect("--test-threads takes a number")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

fn run_all(cases: Vec<Case>, arguments: &Arguments) -> Vec<Verdict> {
    let workers = arguments.threads.clamp(1, cases.len().max(1));
    let waiting = Mutex::new(VecDeque::from(cases));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no worker panics").pop_front();
                    let Some(case) = next else { break };
                    let (verdict, output) = run_one(case, arguments.capture);
                    // One write, so that reports do not mix.
                    let report = report(case, verdict, &output);
                    std::io::stdout()
                        .write_all(report.as_bytes())
                        .expect("stdout is open");
                    results.lock().expect("no worker panics").push(verdict);
                }
            });
        }
    });
    results.into_inner().expect("no worker panics")
}

fn run_one(case: Case, capture: bool) -> (Verdict, String) {
    let output =
        rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC).expect("a memory file");
    let mut output = std::fs::File::from(output);
    let program = std::env::current_exe().expect("the own path");
    let mut command = Command::new(program);
    command.env(CASE_VARIABLE, case.name).stdin(Stdio::null());
    if capture {
        command.stdout(output.try_clone().expect("a descriptor"));
        command.stderr(output.try_clone().expect("a descriptor"));
    }
    let mut child = command.spawn().expect("this program can be executed");
    let pidfd = process::pidfd_open(child.id()).expect("the child was not waited for");
    let in_time =
        watch::wait_readable(pidfd.as_fd(), Some(CASE_DEADLINE)).expect("a pidfd can be polled");
    if !in_time {
        process::pidfd_send_signal(pidfd.as_fd(), Signal::KILL).expect("it is our child");
    }
    let status = child.wait().expect("it is our child");
    let mut text = String::new();
    output.rewind().expect("a memory file has a beginning");
    let _ = output.read_to_string(&mut text);
    if !in_time {
        text.push_str("the deadline passed\n");
    }
    let verdict = match status.code() {
        Some(0) => Verdict::Passed,
        Some(code) if code == i32::from(SKIPPED) && !skips_are_forbidden() => Verdict::Skipped,
        _ => Verdict::Failed,
    };
    (verdict, text)
}

fn report(case: Case, verdict: Verdict, output: &str) -> String {
    let name = case.name;
    match verdict {
        Verdict::Passed => format!("test {name} ... ok\n"),
        // Visible without anybody asking for it.
        Verdict::Skipped => {
            let reason = output
                .lines()
                .find(|line| line.starts_with("SKIP: "))
                .unwrap_or("SKIP");
            eprintln!("{reason} ({name})");
            format!("test {name} ... {reason}\n")
        }
        Verdict::Failed => format!("test {name} ... FAILED\n{output}\n"),
    }
}

fn skips_are_forbidden() -> bool {
    std::env::var(FORBID_SKIP_VARIABLE).is_ok_and(|value| value == "1")
}

/// Moves this process into namespaces of its own, in which it is root.
pub(crate) fn isolate() {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    match unshare(&[
        NamespaceKind::User,
        NamespaceKind::Network,
        NamespaceKind::Mount,
    ]) {
        Ok(()) => {}
        Err(error @ (NamespaceError::MakeRefused { .. } | NamespaceError::TooMany)) => {
            skip(&error.to_string())
        }
        Err(error) => panic!("{error}"),
    }
    write_id_maps(
        std::process::id(),
        &Maps::single(0, uid.as_raw()),
        &Maps::single(0, gid.as_raw()),
    )
    .expect("one's own user can be mapped");
    set_loopback_up();
}

/// A new network namespace has its loopback interface down.
pub(crate) fn set_loopback_up() {
    let mut netlink = netlink::Netlink::open().expect("a netlink socket");
    let loopback = netlink.link("lo").expect("every namespace has one").index;
    let up = netlink::LinkChange {
        up: Some(true),
        ..Default::default()
    };
    netlink.set_link(loopback, &up).expect("it is ours");
}

/// A process forked from this one, killed when this value is dropped.
pub(crate) struct Job {
    pidfd: OwnedFd,
    pub(crate) pid: u32,
    output: std::fs::File,
    waited_for: bool,
}

impl Job {
    /// Runs `work` in a forked process. What it returns is [`join`](Self::join)'s.
    pub(crate) fn spawn(work: impl FnOnce() -> Vec<u8>) -> Self {
        let (output, writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let parent = std::process::id();
        match process::fork().expect("this process has one thread") {
            process::Fork::Child => {
                drop(output);
                process::set_parent_death_signal(Signal::KILL, parent).expect("the parent lives");
                // The panic's message goes to the inherited stderr.
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                let status = match result {
                    Ok(bytes) => u8::from(std::fs::File::from(writer).write_all(&bytes).is_err()),
                    Err(_) => 101,
                };
                process::exit(status)
            }
            process::Fork::Parent { child } => Self {
                pidfd: process::pidfd_open(child).expect("the child was not waited for"),
                pid: child,
                output: output.into(),
                waited_for: false,
            },
        }
    }

    /// Waits for the end of the work, which must be a good one, and returns its result.
    pub(crate) fn join(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.output
            .read_to_end(&mut bytes)
            .expect("a pipe can be read");
        let status = process::wait_pidfd(self.pidfd.as_fd()).expect("it is our child");
        self.waited_for = true;
        assert!(status.success(), "a forked process failed: {status}");
        bytes
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.waited_for {
            let _ = process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
            let _ = process::wait_pidfd(self.pidfd.as_fd());
        }
    }
}

/// Waits until `condition` holds, looking again every few milliseconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(20);
    let begin = heddle_sys::clock::monotonic();
    while !condition() {
        assert!(
            heddle_sys::clock::monotonic() - begin < DEADLINE,
            "never happened: {what}"
        );
        let pause = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 2_000_000,
        };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}
