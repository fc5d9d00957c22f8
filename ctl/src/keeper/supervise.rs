//! The keeper's loop.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use heddle_sys::fdpass;
use heddle_sys::process::{self, Fork, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::message::{self, Held, Reply, Request};
use crate::api::{ApiError, ErrorCode};
use crate::plumb::{self, Job};

/// How long plumbing may take: a namespace behind a dead network file system must not keep a child
/// for ever.
const JOB_TIME: Duration = Duration::from_secs(15);

/// A daemon that ends sooner than this after its start is failing, not crashing.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// Short lives in a row after which the keeper gives up.
const SHORT_LIVES: u32 = 10;

/// Pause after the second short life in a row; doubled for each further one. The first restart is
/// immediate.
const PAUSE: Duration = Duration::from_millis(100);

/// What a daemon starts with.
#[derive(Debug)]
pub struct Inherited {
    /// Where API clients connect.
    pub api: UnixListener,
    /// Where descriptors are passed.
    pub descriptors: UnixListener,
    /// The conversation with the keeper.
    pub keeper: OwnedFd,
    /// The keeper's process.
    pub keeper_pid: u32,
    /// How many daemons there were before.
    pub restarts: u32,
}

/// The daemon proper: runs in a process of its own and returns its exit status.
pub type DaemonMain<'a> = &'a dyn Fn(Inherited) -> u8;

/// Keeps a daemon running until it says goodbye; returns its exit status.
///
/// # Errors
///
/// The system gives no process, socket or signal.
pub fn run(
    api: &UnixListener,
    descriptors: &UnixListener,
    daemon: DaemonMain<'_>,
) -> io::Result<u8> {
    let (signals, from_handler) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, from_handler.try_clone()?)?;
    }
    signals.set_nonblocking(true)?;
    let mut keeper = Keeper {
        held: BTreeMap::new(),
        signals,
        restarts: 0,
        short_lives: 0,
    };
    loop {
        match keeper.live(api, descriptors, daemon)? {
            Next::End(status) => return Ok(status),
            Next::Restart(pause) => {
                keeper.pause(pause)?;
                keeper.restarts += 1;
            }
        }
    }
}

/// What follows a daemon's end.
enum Next {
    End(u8),
    Restart(Duration),
}

/// State that outlives daemons.
struct Keeper {
    held: BTreeMap<String, Held>,
    /// Readable when a signal has come.
    signals: UnixStream,
    restarts: u32,
    short_lives: u32,
}

/// One daemon's life.
struct Life {
    socket: OwnedFd,
    process: OwnedFd,
    pid: u32,
    started: Instant,
    ready: bool,
    goodbye: bool,
    jobs: Vec<RunningJob>,
}

struct RunningJob {
    pid: u32,
    number: u64,
    deadline: Instant,
}

impl Keeper {
    /// Forks a daemon and serves it until it ends.
    fn live(
        &mut self,
        api: &UnixListener,
        descriptors: &UnixListener,
        daemon: DaemonMain<'_>,
    ) -> io::Result<Next> {
        let (socket, theirs) = fdpass::socketpair_seqpacket()?;
        let keeper_pid = std::process::id();
        let pid = match process::fork()? {
            Fork::Parent { child } => child,
            Fork::Child => {
                // What this process holds for the daemon must not be held by the daemon unknowingly.
                self.held.clear();
                drop(socket);
                let status = inherit(api, descriptors, theirs, keeper_pid, self.restarts)
                    .map_or(START_FAILED, daemon);
                process::exit(status)
            }
        };
        drop(theirs);
        let mut life = Life {
            socket,
            process: process::pidfd_open(pid)?,
            pid,
            started: now(),
            ready: false,
            goodbye: false,
            jobs: Vec::new(),
        };
        // A daemon that ends at once reads nothing of this; its end is seen below.
        let _ = self.hand_over(&life);
        while !process::has_ended(life.process.as_fd())? {
            self.wait(&life)?;
            self.pass_signal_on(&life);
            while self.serve(&mut life) {}
            reap(&mut life)?;
        }
        while self.serve(&mut life) {}
        Ok(self.decide(&life, &process::wait(life.pid)?))
    }

    /// Gives a new daemon everything its predecessor left.
    fn hand_over(&self, life: &Life) -> io::Result<()> {
        for held in self.held.values() {
            let descriptors: Vec<_> = held.descriptors.iter().map(AsFd::as_fd).collect();
            message::send(
                life.socket.as_fd(),
                &Reply::Held(held.note.clone()),
                &descriptors,
            )?;
        }
        message::send(life.socket.as_fd(), &Reply::HeldAll, &[])
    }

    /// Sleeps until the daemon says something or ends, a signal comes, or a job's time is over.
    fn wait(&self, life: &Life) -> io::Result<()> {
        let deadline = life.jobs.iter().map(|job| job.deadline).min();
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(now()));
        // A child's end is no readiness; looking five times a second is soon enough.
        let timeout = timeout.map(|timeout| timeout.min(Duration::from_millis(200)));
        wait_for(
            &[
                life.socket.as_fd(),
                life.process.as_fd(),
                self.signals.as_fd(),
            ],
            timeout,
        )
    }

    fn pass_signal_on(&self, life: &Life) {
        let mut byte = [0; 16];
        let came = matches!(io::Read::read(&mut &self.signals, &mut byte), Ok(1..));
        if came {
            // It may have ended meanwhile.
            let _ = process::pidfd_send_signal(life.process.as_fd(), Signal::TERM);
        }
    }

    /// Serves one request of the daemon if there is one; whether there was.
    fn serve(&mut self, life: &mut Life) -> bool {
        if wait_ready(life.socket.as_fd()) != Ok(true) {
            return false;
        }
        match message::receive(life.socket.as_fd()) {
            Ok(Some((request, descriptors))) => {
                self.act(life, request, descriptors);
                true
            }
            // Its end, or nonsense, which only a broken daemon sends: its end will come.
            Ok(None) | Err(_) => false,
        }
    }

    fn act(&mut self, life: &mut Life, request: Request, descriptors: Vec<OwnedFd>) {
        match request {
            Request::Run { number, job } => match start_job(life, number, &job) {
                Ok(running) => life.jobs.push(running),
                Err(error) => fail_job(life.socket.as_fd(), number, &error.to_string()),
            },
            Request::Hold(note) => {
                self.held
                    .insert(note.key.clone(), Held { note, descriptors });
            }
            Request::Release(key) => {
                self.held.remove(&key);
            }
            Request::Ready => life.ready = true,
            Request::Goodbye => life.goodbye = true,
        }
    }

    fn decide(&mut self, life: &Life, ended: &std::process::ExitStatus) -> Next {
        let status = ended
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(CRASHED);
        let never_ran = self.restarts == 0 && !life.ready;
        if life.goodbye || never_ran {
            return Next::End(status);
        }
        if life.ready && now() - life.started >= SHORT_LIFE {
            self.short_lives = 0;
        } else {
            self.short_lives += 1;
        }
        tracing::error!(
            pid = life.pid,
            %ended,
            restarts = self.restarts + 1,
            "the daemon ended unexpectedly; restarting it"
        );
        if self.short_lives > SHORT_LIVES {
            tracing::error!("it keeps ending; giving up");
            return Next::End(status.max(CRASHED));
        }
        let pause = match self.short_lives {
            0 | 1 => Duration::ZERO,
            lives => PAUSE * 2_u32.saturating_pow(lives - 2),
        };
        Next::Restart(pause)
    }

    /// Waits between two lives; a signal ends the wait and the keeper.
    fn pause(&self, pause: Duration) -> io::Result<()> {
        let deadline = now() + pause;
        while now() < deadline {
            wait_for(&[self.signals.as_fd()], Some(deadline - now()))?;
            let mut byte = [0; 16];
            if matches!(io::Read::read(&mut &self.signals, &mut byte), Ok(1..)) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        Ok(())
    }
}

/// Exit status of a daemon that could not start.
pub(crate) const START_FAILED: u8 = 1;

/// Exit status that stands for an end by a signal.
const CRASHED: u8 = 70;

fn inherit(
    api: &UnixListener,
    descriptors: &UnixListener,
    keeper: OwnedFd,
    keeper_pid: u32,
    restarts: u32,
) -> io::Result<Inherited> {
    Ok(Inherited {
        api: api.try_clone()?,
        descriptors: descriptors.try_clone()?,
        keeper,
        keeper_pid,
        restarts,
    })
}

/// Forks a child that does a job and answers for itself.
fn start_job(life: &Life, number: u64, job: &Job) -> io::Result<RunningJob> {
    match process::fork()? {
        Fork::Parent { child } => Ok(RunningJob {
            pid: child,
            number,
            deadline: now() + JOB_TIME,
        }),
        Fork::Child => {
            let result = job.run();
            let sent = plumb::encode(&result).and_then(|(_, descriptors)| {
                let outcome = result
                    .as_ref()
                    .map(plumb::Parcel::manifest)
                    .map_err(Clone::clone);
                message::send(
                    life.socket.as_fd(),
                    &Reply::Done { number, outcome },
                    &descriptors,
                )
            });
            process::exit(u8::from(sent.is_err()))
        }
    }
}

/// Takes the children that have ended, and ends those whose time is over.
fn reap(life: &mut Life) -> io::Result<()> {
    let late = |job: &&RunningJob| job.deadline <= now();
    for job in life.jobs.iter().filter(late) {
        if let Ok(process) = process::pidfd_open(job.pid) {
            let _ = process::pidfd_send_signal(process.as_fd(), Signal::KILL);
        }
    }
    let mut index = 0;
    while index < life.jobs.len() {
        let process = process::pidfd_open(life.jobs[index].pid)?;
        if process::has_ended(process.as_fd())? {
            let job = life.jobs.swap_remove(index);
            let ended = process::wait(job.pid)?;
            if !ended.success() {
                let problem = format!("the process that does it ended early ({ended})");
                fail_job(life.socket.as_fd(), job.number, &problem);
            }
        } else {
            index += 1;
        }
    }
    Ok(())
}

fn fail_job(socket: BorrowedFd<'_>, number: u64, problem: &str) {
    let error = ApiError::new(
        ErrorCode::PlumbingFailed,
        format!("making the interface: {problem}"),
    );
    // If the daemon is gone, nobody waits for this.
    let _ = message::send(
        socket,
        &Reply::Done {
            number,
            outcome: Err(error),
        },
        &[],
    );
}

fn wait_for(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn wait_ready(fd: BorrowedFd<'_>) -> Result<bool, rustix::io::Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )? > 0)
}

#[expect(clippy::disallowed_methods, reason = "the keeper measures real time")]
fn now() -> Instant {
    Instant::now()
}
