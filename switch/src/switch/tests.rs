use super::{Event, Options, Switch, io};
use crate::config::Config;
use heddle_mem::Instant;

fn switch() -> Switch {
    let options = Options {
        workers: 1,
        sessions: heddle_nat::Limits::default(),
        stations: crate::fdb::Limits::default(),
        seed: Some(1),
        now: Instant::ZERO,
        on_event: Box::new(|_: Event| {}),
    };
    Switch::new(options).unwrap().0
}

#[test]
fn who_only_adds_does_not_wait_for_a_worker_that_is_busy() {
    let switch = switch();
    // A worker in the middle of a burst.
    let progress = &switch.shared.seats[0].progress;
    progress.wake();
    progress.at(0);
    switch.extend(Config::default(), Instant::ZERO).unwrap();
    switch.extend(Config::default(), Instant::ZERO).unwrap();
    assert_eq!(switch.shared.snapshot.load().generation, 2);
    // Whoever withdraws something does, and is told that it took too long.
    let late = switch.publish(Config::default(), Instant::ZERO);
    assert_eq!(
        late.map_err(|error| error.kind()),
        Err(io::ErrorKind::TimedOut)
    );
    progress.sleep();
    switch.publish(Config::default(), Instant::ZERO).unwrap();
}
