//! How long a worker looks for frames before it sleeps.
//!
//! # Theory of operation
//!
//! To sleep and be woken takes a worker tens of microseconds where a processor that has nothing to do
//! is given back to a hypervisor, and both ends of a conversation wait meanwhile. What follows a
//! frame (an answer, an acknowledgement, the next request) often comes sooner than that. So a worker
//! goes on looking for a while, and gives way to everybody else who can run between two looks: whoever
//! is about to send the frame may need the processor to do so.
//!
//! How long is learnt from what happened before, as hypervisors do for halted processors (Linux:
//! `Documentation/virt/kvm/halt-polling.rst`): if frames came soon after the worker had gone to sleep,
//! it looks longer the next time; if none came for long, it does not look at all. A worker without
//! traffic sleeps, and costs nothing.

use std::time::Duration;

/// The longest look. Frames that come further apart than this find the worker asleep.
const LONGEST: Duration = Duration::from_micros(100);

/// The first look after none.
const FIRST: Duration = Duration::from_micros(10);

/// How long the next look may take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    span: Duration,
}

impl Patience {
    /// How long to look now; zero for not at all.
    pub(crate) fn span(self) -> Duration {
        self.span
    }

    /// Learns that a frame came, or something else to do, so long after the look began, and that the
    /// worker had been asleep by then.
    pub(crate) fn was_woken(&mut self, after: Duration) {
        self.span = if after > LONGEST {
            Duration::ZERO
        } else {
            (self.span * 2).clamp(FIRST, LONGEST)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken(patience: &mut Patience, micros: u64) -> u128 {
        patience.was_woken(Duration::from_micros(micros));
        patience.span().as_micros()
    }

    #[test]
    fn whoever_is_woken_soon_looks_longer_the_next_time() {
        let mut patience = Patience::default();
        assert_eq!(patience.span(), Duration::ZERO);
        let spans = [30, 30, 30, 30, 30, 100].map(|after| woken(&mut patience, after));
        assert_eq!(spans, [10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn whoever_is_left_alone_sleeps_at_once() {
        let mut patience = Patience::default();
        woken(&mut patience, 30);
        assert_eq!(woken(&mut patience, 101), 0);
        assert_eq!(woken(&mut patience, 5_000), 0);
    }
}
