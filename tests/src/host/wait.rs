//! Waiting for what happens in real time.

use std::time::Duration;

use rustix::event::{Timespec, poll};

/// How long a thing may take that takes milliseconds on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// Waits until `condition` holds.
///
/// # Panics
///
/// It does not within [`PATIENCE`].
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, condition);
}

/// Waits until `condition` holds, for what takes longer than others.
///
/// # Panics
///
/// It does not within `patience`.
pub fn eventually_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = now() + patience;
    while !condition() {
        assert!(now() < deadline, "never happened: {what}");
        // Nothing to wait for but time: a signal ends it early, which is as good.
        let _ = poll(&mut [], Some(&LOOK));
    }
}

/// The time since some point in the past.
#[must_use]
pub fn now() -> Duration {
    heddle_sys::clock::monotonic()
}
