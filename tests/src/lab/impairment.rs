//! What happens to frames on a bad link.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A link that loses, repeats and reorders frames; the same ones for the same seed.
#[derive(Debug)]
pub struct Impairment {
    random: StdRng,
    loss: f64,
    duplication: f64,
    reordering: f64,
    /// Frames that let others pass.
    late: VecDeque<Vec<u8>>,
}

impl Impairment {
    /// A link without faults.
    #[must_use]
    pub fn new(seed: u64) -> Impairment {
        Impairment {
            random: StdRng::seed_from_u64(seed),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            late: VecDeque::new(),
        }
    }

    /// Loses this part of the frames.
    #[must_use]
    pub fn loss(mut self, part: f64) -> Impairment {
        self.loss = part;
        self
    }

    /// Repeats this part of the frames.
    #[must_use]
    pub fn duplication(mut self, part: f64) -> Impairment {
        self.duplication = part;
        self
    }

    /// Lets this part of the frames be overtaken by the next one.
    #[must_use]
    pub fn reordering(mut self, part: f64) -> Impairment {
        self.reordering = part;
        self
    }

    /// Sends a frame over the link; gives those that come out of it to `deliver`.
    pub fn pass(&mut self, frame: Vec<u8>, mut deliver: impl FnMut(Vec<u8>)) {
        if self.random.random_bool(self.loss) {
            return;
        }
        if self.random.random_bool(self.duplication) {
            deliver(frame.clone());
        }
        if self.random.random_bool(self.reordering) {
            self.late.push_back(frame);
            return;
        }
        deliver(frame);
        while let Some(late) = self.late.pop_front() {
            deliver(late);
        }
    }
}
