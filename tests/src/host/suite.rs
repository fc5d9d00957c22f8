//! The suite: a scenario is a process, started by a test of its own.

use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use heddle_sys::process::{self, Signal};
use heddle_sys::watch::wait_readable;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::container::{self, Container, Job};
use super::heddle::Heddle;
use super::stage::{self, Kind, Way, play};

/// Names the scenario, with its variant, that this process is to play.
const SCENARIO: &str = "HEDDLE_SCENARIO";

/// Makes a skipped scenario a failed one.
const FORBID_SKIP: &str = "HEDDLE_FORBID_SKIP";

/// How long a scenario may take on a machine that is busy with others.
const DEADLINE: Duration = Duration::from_secs(240);

/// Exit status of a skipped scenario, as autotools have it.
const SKIPPED: u8 = 77;

/// What begins the line that says why.
const SKIP: &str = "SKIP: ";

/// A scenario: its name, what it is played on, and how it goes.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A sentence.
    pub name: &'static str,
    /// The variants.
    pub on: On,
    /// How it goes.
    pub play: fn(&mut Host),
}

/// On what a scenario is played; always both as root and as an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// With each kind of endpoint.
    EveryKind,
    /// With endpoints of any kind: those that need the least of the machine.
    AnyKind,
}

/// A variant of a scenario.
#[derive(Clone, Copy)]
struct Variant {
    scenario: Scenario,
    way: Way,
    kind: Kind,
}

impl Variant {
    fn name(self) -> String {
        let (way, kind) = (self.way.name(), self.kind.name());
        format!("{}::{way}::{kind}", self.scenario.name)
    }
}

/// What a scenario has: the host that it is on.
#[derive(Debug)]
pub struct Host {
    /// Who the daemon is.
    pub way: Way,
    /// What joins containers to the switch.
    pub kind: Kind,
    /// The command and its daemon.
    pub heddle: Heddle,
}

impl Host {
    /// A container: of this host's root, or of its ordinary user.
    #[must_use]
    pub fn container(&self) -> Container {
        match self.way {
            Way::Root => Container::new(),
            Way::User => Container::rootless(),
        }
    }

    /// Does `work` on the host, in a process of its own, until it is told to end. `work` is given what
    /// to call when whoever waits may go on; this returns then.
    ///
    /// # Panics
    ///
    /// `work` ends before that.
    #[must_use]
    pub fn serve(&self, work: impl FnOnce(&dyn Fn())) -> Job {
        container::serve(work)
    }
}

/// Ends this scenario as one that cannot be played here.
pub fn skip(reason: &str) -> ! {
    eprintln!("{SKIP}{reason}");
    process::exit(SKIPPED)
}

/// Runs this program: heddle if that is its name, a scenario if the environment names one, else all
/// that the arguments choose.
#[must_use]
pub fn main(scenarios: &[&[Scenario]]) -> ExitCode {
    if is_heddle() {
        return ExitCode::from(heddle::cli::main());
    }
    let variants: Vec<Variant> = scenarios
        .iter()
        .copied()
        .flatten()
        .flat_map(|&scenario| variants(scenario))
        .collect();
    if let Ok(name) = std::env::var(SCENARIO) {
        let variant = variants
            .into_iter()
            .find(|variant| variant.name() == name)
            .expect("the scenario exists");
        return ExitCode::from(play(variant.way, || perform(variant)));
    }
    let mut arguments = Arguments::from_args();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores);
    let trials = variants
        .into_iter()
        .map(|variant| Trial::ignorable_test(variant.name(), move || run(variant)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn is_heddle() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name)
        .file_name()
        .is_some_and(|name| name == "heddle")
}

fn variants(scenario: Scenario) -> Vec<Variant> {
    let ways = if rustix::process::geteuid().is_root() {
        [Way::Root, Way::User].as_slice()
    } else {
        &[Way::User]
    };
    let kinds = match scenario.on {
        On::EveryKind => [Kind::Tap, Kind::Veth].as_slice(),
        On::AnyKind => &[Kind::Veth],
    };
    let of_way = |&way: &Way| {
        kinds.iter().map(move |&kind| Variant {
            scenario,
            way,
            kind,
        })
    };
    ways.iter().flat_map(of_way).collect()
}

/// Plays the scenario, on its host.
fn perform(variant: Variant) {
    if variant.kind == Kind::Tap
        && let Err(error) = stage::tun()
    {
        skip(&error.to_string());
    }
    let mut host = Host {
        way: variant.way,
        kind: variant.kind,
        heddle: Heddle::new(variant.kind),
    };
    (variant.scenario.play)(&mut host);
}

/// Plays the scenario in a process of its own and tells how that went.
fn run(variant: Variant) -> Result<Completion, Failed> {
    let mut output = tempfile();
    let mut command = Command::new("/proc/self/exe");
    command
        .env(SCENARIO, variant.name())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    let mut child = command.spawn()?;
    let pidfd = process::pidfd_open(child.id())?;
    let in_time = wait_readable(pidfd.as_fd(), Some(DEADLINE))?;
    if !in_time {
        process::pidfd_send_signal(pidfd.as_fd(), Signal::KILL)?;
    }
    let status = child.wait()?;
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;
    if !in_time {
        return Err(format!("the deadline passed\n{text}").into());
    }
    let skipped = status.code() == Some(SKIPPED.into());
    if skipped && std::env::var(FORBID_SKIP).is_ok_and(|value| value == "1") {
        return Err(format!("skips are forbidden\n{text}").into());
    }
    if skipped {
        let reason = text.lines().find_map(|line| line.strip_prefix(SKIP));
        let reason = format!("skipped: {}", reason.unwrap_or("it does not say why"));
        return Ok(Completion::ignored_with(reason));
    }
    if status.success() {
        // Measurements, for whoever wants to see them.
        for line in text.lines().filter(|line| line.starts_with("MEASURED")) {
            println!("{line} ({})", variant.name());
        }
        return Ok(Completion::Completed);
    }
    Err(format!("{status}\n{text}").into())
}

fn tempfile() -> std::fs::File {
    rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)
        .expect("a memory file")
        .into()
}
