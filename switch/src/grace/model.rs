//! `RUSTFLAGS="--cfg loom" cargo test -p heddle-switch --release --lib model`

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Grace, Progress, published};

/// The configuration is a bare number without any ordering of its own, which is less than the real
/// cell promises. The cell stands for everything that only generation 0 names: a worker touches it while
/// it works with that generation, the publisher destroys it after the grace period.
struct World {
    generation: AtomicU64,
    old: UnsafeCell<bool>,
    workers: Vec<Progress>,
    grace: Grace,
}

impl World {
    fn new(workers: usize) -> Arc<World> {
        Arc::new(World {
            generation: AtomicU64::new(0),
            old: UnsafeCell::new(true),
            workers: (0..workers).map(|_| Progress::asleep()).collect(),
            grace: Grace::new(),
        })
    }

    fn turn(&self, worker: usize) {
        let progress = &self.workers[worker];
        progress.wake();
        let generation = self.generation.load(Ordering::Relaxed);
        progress.at(generation);
        self.grace.moved();
        if generation == 0 {
            self.look();
        }
        progress.sleep();
        self.grace.moved();
    }

    fn publish(&self) {
        self.generation.store(1, Ordering::Relaxed);
        published();
        let patience = std::time::Duration::MAX;
        assert!(self.grace.wait(patience, 1, self.workers.iter()));
        self.destroy();
    }

    /// Loom reports a look that overlaps or follows the destruction without order.
    fn look(&self) {
        assert!(self.old.with(|old| read(old)), "used after its end");
    }

    fn destroy(&self) {
        self.old.with_mut(|old| write(old));
    }
}

/// The crate forbids unsafe code, and a model needs none: loom's cell checks the access itself when it
/// hands out the pointer, so what is read is of no interest.
fn read(_: *const bool) -> bool {
    true
}

fn write(_: *mut bool) {}

#[test]
fn nothing_is_destroyed_under_a_worker_that_uses_it() {
    loom::model(|| {
        let world = World::new(1);
        let worker = {
            let world = world.clone();
            thread::spawn(move || {
                world.turn(0);
                world.turn(0);
            })
        };
        world.publish();
        worker.join().unwrap();
    });
}

#[test]
fn two_workers_are_both_waited_for_and_no_wake_up_is_lost() {
    loom::model(|| {
        let world = World::new(2);
        let workers = [0, 1].map(|index| {
            let world = world.clone();
            thread::spawn(move || world.turn(index))
        });
        world.publish();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}
