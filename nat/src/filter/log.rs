//! What logged rules tell the control plane: a bounded queue that never makes a worker wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heddle_mem::Instant;

use super::meter::{Bucket, Limit};
use super::{Question, RuleId};

/// Packets that wait to be read.
const QUEUE: usize = 1024;

/// How many packets are told of, all rules and workers together, whatever the rules say: enough for a person
/// to read, and little enough that a flood costs nothing.
const RATE: Limit = Limit {
    interval: Duration::from_millis(10),
    burst: 200,
};

/// A packet that a rule logged.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// The rule.
    pub rule: RuleId,
    /// The packet.
    pub question: Question,
    /// When.
    pub at: Instant,
}

/// The queue.
#[derive(Debug)]
pub struct Log {
    sender: SyncSender<Logged>,
    receiver: Mutex<Receiver<Logged>>,
    bucket: Bucket,
    lost: AtomicU64,
}

impl Default for Log {
    fn default() -> Log {
        let (sender, receiver) = sync_channel(QUEUE);
        Log {
            sender,
            receiver: Mutex::new(receiver),
            bucket: Bucket::default(),
            lost: AtomicU64::new(0),
        }
    }
}

impl Log {
    /// Tells of a packet, or counts it as lost where there are too many.
    #[cold]
    pub(super) fn tell(&self, logged: Logged) {
        let told = self.bucket.take(RATE, logged.at, true) && self.sender.try_send(logged).is_ok();
        if !told {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What has been told since the last call, oldest first.
    pub fn drain(&self) -> Vec<Logged> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.try_iter().collect()
    }

    /// Packets that should have been told of, and of which there were too many.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
