//! The children that do jobs: named by their numbers, which are theirs until they are waited for, and
//! which cost no descriptor.

use std::time::{Duration, Instant};

use heddle_sys::process;

use crate::api::{ApiError, ErrorCode};

/// How long plumbing may take: a namespace behind a dead network file system must not keep a child
/// for ever.
const JOB_TIME: Duration = Duration::from_secs(15);

/// All children that have not been waited for. They outlive daemons.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    running: Vec<RunningJob>,
    /// Killed, and answered for if anybody waits. What hangs in the kernel ends later, or never.
    ending: Vec<u32>,
}

#[derive(Debug)]
struct RunningJob {
    pid: u32,
    number: u64,
    deadline: Instant,
}

/// What must be said in the name of a child that cannot.
#[derive(Debug)]
pub(super) struct Failure {
    /// Number of the request.
    pub(super) number: u64,
    /// Why there is no interface.
    pub(super) error: ApiError,
}

impl Failure {
    /// A job that came to nothing.
    pub(super) fn new(number: u64, problem: &str) -> Failure {
        let message = format!("making the interface: {problem}");
        Failure {
            number,
            error: ApiError::new(ErrorCode::PlumbingFailed, message),
        }
    }
}

impl Jobs {
    /// Whether there is no child.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.ending.is_empty()
    }

    /// A child was started for a request.
    pub(super) fn add(&mut self, pid: u32, number: u64, now: Instant) {
        self.running.push(RunningJob {
            pid,
            number,
            deadline: now + JOB_TIME,
        });
    }

    /// Takes the children that have ended, and kills those whose time is over.
    pub(super) fn reap(&mut self, now: Instant) -> Vec<Failure> {
        self.ending.retain(|&pid| is_running(pid));
        let mut failures = Vec::new();
        let ending = &mut self.ending;
        self.running.retain(|job| match process::try_wait(job.pid) {
            Ok(Some(ended)) => {
                if !ended.success() {
                    let problem = format!("the process that does it ended early ({ended})");
                    failures.push(Failure::new(job.number, &problem));
                }
                false
            }
            Ok(None) if now < job.deadline => true,
            Ok(None) => {
                kill(job.pid, ending);
                let message = "entering the namespace and making the interface took too long";
                failures.push(Failure {
                    number: job.number,
                    error: ApiError::new(ErrorCode::Timeout, message),
                });
                false
            }
            Err(error) => {
                failures.push(Failure::new(job.number, &error.to_string()));
                false
            }
        });
        failures
    }

    /// Kills all of them: nobody waits for their answers any more.
    pub(super) fn abandon(&mut self) {
        for job in self.running.drain(..) {
            kill(job.pid, &mut self.ending);
        }
    }
}

fn kill(pid: u32, ending: &mut Vec<u32>) {
    // Fails only if there is no such child.
    if process::kill_child(pid).is_ok() {
        ending.push(pid);
    }
}

/// Takes its status if it has ended.
fn is_running(pid: u32) -> bool {
    matches!(process::try_wait(pid), Ok(None))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::process::{Child, Command, Stdio};

    use heddle_sys::watch::wait_readable;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a start to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn child(program: &str) -> Child {
        Command::new("sh")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn wait_for_end(child: &Child) {
        let process = process::pidfd_open(child.id()).unwrap();
        assert!(wait_readable(process.as_fd(), Some(Duration::from_secs(10))).unwrap());
    }

    #[test]
    fn a_child_that_ends_early_is_answered_for_and_one_that_succeeds_is_not() {
        let (good, bad) = (child("exit 0"), child("exit 1"));
        let (mut jobs, now) = (Jobs::default(), start());
        jobs.add(good.id(), 1, now);
        jobs.add(bad.id(), 2, now);
        wait_for_end(&good);
        wait_for_end(&bad);
        let failures = jobs.reap(now);
        let numbers: Vec<u64> = failures.iter().map(|failure| failure.number).collect();
        assert_eq!(numbers, [2]);
        assert!(jobs.is_empty());
    }

    #[test]
    fn a_child_whose_time_is_over_is_killed_answered_for_once_and_taken() {
        let mut slow = child("read line");
        let (mut jobs, now) = (Jobs::default(), start());
        jobs.add(slow.id(), 7, now);
        assert!(jobs.reap(now).is_empty());
        let failures = jobs.reap(now + JOB_TIME);
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].number, 7);
        assert_eq!(failures[0].error.error.code, ErrorCode::Timeout);
        assert!(!jobs.is_empty(), "it has not been waited for");
        wait_for_end(&slow);
        assert!(jobs.reap(now + JOB_TIME).is_empty());
        assert!(jobs.is_empty());
        assert!(slow.wait().is_err(), "a zombie is left");
    }

    #[test]
    fn abandoned_children_are_killed_and_taken_without_an_answer() {
        let mut orphan = child("read line");
        let (mut jobs, now) = (Jobs::default(), start());
        jobs.add(orphan.id(), 3, now);
        jobs.abandon();
        wait_for_end(&orphan);
        assert!(jobs.reap(now).is_empty());
        assert!(jobs.is_empty());
        assert!(orphan.wait().is_err(), "a zombie is left");
    }
}
