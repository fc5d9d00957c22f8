//! Time, and the processors' time.

use std::time::Duration;

use heddle_sys::clock::monotonic;
use rustix::event::{Timespec, poll};

use crate::problem::Problem;

/// The kernel's unit of processor time in `/proc`, the same on every Linux (proc(5), `USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Waits.
pub(crate) fn pause(time: Duration) {
    let time = Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    let _ = poll(&mut [], Some(&time));
}

/// Waits until something holds, looking again every few milliseconds.
pub(crate) fn wait_until(
    what: &str,
    mut holds: impl FnMut() -> Result<bool, Problem>,
) -> Result<(), Problem> {
    let begin = monotonic();
    while !holds()? {
        if monotonic() - begin > crate::job::PATIENCE {
            return Err(format!("never happened: {what}").into());
        }
        pause(Duration::from_millis(2));
    }
    Ok(())
}

/// Processor seconds used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// By everybody on the machine.
    machine: f64,
    /// By the switch.
    switch: Option<f64>,
}

impl Used {
    /// As of now; `switch` are its processes.
    pub(crate) fn now(switch: &[u32]) -> Result<Used, Problem> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = first
            .split_ascii_whitespace()
            .skip(1)
            .map(|column| column.parse().unwrap_or(0.0))
            .collect();
        // user nice system idle iowait irq softirq: all but idle and iowait.
        let busy: f64 = ticks
            .iter()
            .take(7)
            .enumerate()
            .filter(|&(column, _)| column != 3 && column != 4)
            .map(|(_, ticks)| ticks)
            .sum();
        let of_switch: Option<f64> = switch.iter().map(|&pid| process(pid)).sum();
        Ok(Used {
            machine: busy / TICKS_PER_SECOND,
            switch: of_switch.filter(|_| !switch.is_empty()),
        })
    }

    /// What was used since, by everybody and by the switch.
    pub(crate) fn since(&self, before: &Used) -> (f64, Option<f64>) {
        let switch = self.switch.zip(before.switch).map(|(now, then)| now - then);
        (self.machine - before.machine, switch)
    }
}

/// Columns 14 and 15 of `/proc/PID/stat`; the second one, the name, may contain anything.
fn process(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    let mut columns = behind.split_ascii_whitespace().skip(11);
    let user: f64 = columns.next()?.parse().ok()?;
    let system: f64 = columns.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}
