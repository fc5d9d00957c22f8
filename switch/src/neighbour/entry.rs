//! One neighbour: what is known of it, and when that is looked at again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heddle_mem::Instant;
use heddle_wire::MacAddr;

use super::NeighbourState;
use crate::frame::HeldFrame;
use crate::port::PortId;

/// How long an answer is believed without a doubt (RFC 4861 §10, REACHABLE_TIME).
pub(super) const REACHABLE_TIME: Duration = Duration::from_secs(30);

/// Time between questions (RFC 4861 §10, RETRANS_TIMER).
pub(super) const RETRANSMIT: Duration = Duration::from_secs(1);

/// Questions without an answer before a neighbour is given up (RFC 4861 §10).
pub(super) const PROBES: u8 = 3;

/// How long an unused entry is kept (Linux keeps one for `gc_stale_time`, 60 s).
pub(super) const UNUSED_TIME: Duration = Duration::from_secs(60);

/// How long a MAC address stands against another one (Linux: `locktime`, 1 s). Each change costs a
/// copy of the snapshot, and who claims to be the neighbour is a stranger's choice.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// What a neighbour said of itself, in the terms of RFC 4861 §7.2.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Its MAC address. An answer to a question that was sent to the neighbour alone may leave it
    /// out, and Linux does.
    pub(crate) mac: Option<MacAddr>,
    /// Whether it answers a question. ARP does not tell, so a reply counts as answer while we ask.
    pub(crate) solicited: bool,
    /// Whether another MAC address shall replace the one that is known.
    pub(crate) overrides: bool,
}

/// What frames look at.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) mac: MacAddr,
    /// Set by a frame that is sent while the entry is stale: it wants to know.
    pub(super) wanted: AtomicBool,
    pub(super) stale: AtomicBool,
}

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) known: Option<Arc<Known>>,
    /// Questions asked since the last answer.
    asked: u8,
    /// When the entry is looked at next.
    pub(super) deadline: Instant,
    /// When a stale entry is forgotten.
    forget: Instant,
    /// When the MAC address was learned.
    learned: Instant,
    /// Frames that wait, in the order of arrival.
    pub(super) waiting: VecDeque<HeldFrame>,
}

/// What to do with an entry whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Ask,
    Remove,
}

impl Neighbour {
    /// One that is being asked for the first time, by the caller.
    pub(super) fn incomplete(now: Instant) -> Neighbour {
        Neighbour {
            known: None,
            asked: 1,
            deadline: now + RETRANSMIT,
            forget: now,
            learned: now,
            waiting: VecDeque::new(),
        }
    }

    /// Takes note of what the neighbour said. Returns what frames shall look at from now on, if
    /// that is another MAC address than before.
    pub(super) fn hear(&mut self, heard: Heard, now: Instant) -> Option<Arc<Known>> {
        let solicited = heard.solicited && self.asked != 0;
        let Some(known) = self.known.clone() else {
            // Without a MAC address there is still nothing to send to.
            return heard.mac.map(|mac| self.learn(mac, solicited, now));
        };
        match heard.mac {
            Some(mac) if mac != known.mac => {
                if !heard.overrides {
                    self.doubt(now);
                    return None;
                }
                if now - self.learned < LOCK_TIME {
                    return None;
                }
                Some(self.learn(mac, solicited, now))
            }
            _ => {
                if solicited {
                    known.stale.store(false, Ordering::Relaxed);
                    self.believe(now);
                }
                None
            }
        }
    }

    /// A new MAC address. What was not asked for proves nothing: it is used, but stale at once
    /// (RFC 4861 §7.2.3, §7.2.5).
    fn learn(&mut self, mac: MacAddr, solicited: bool, now: Instant) -> Arc<Known> {
        let known = Arc::new(Known {
            mac,
            wanted: AtomicBool::new(false),
            stale: AtomicBool::new(!solicited),
        });
        self.known = Some(known.clone());
        self.learned = now;
        self.believe(now);
        if !solicited {
            self.deadline = now + RETRANSMIT;
        }
        known
    }

    fn believe(&mut self, now: Instant) {
        self.asked = 0;
        self.deadline = now + REACHABLE_TIME;
        self.forget = now + REACHABLE_TIME + UNUSED_TIME;
    }

    /// Somebody contradicts: reachable becomes stale, everything else stays (RFC 4861 §7.2.5).
    fn doubt(&mut self, now: Instant) {
        if let Some(known) = &self.known
            && self.asked == 0
            && !known.stale.swap(true, Ordering::Relaxed)
        {
            known.wanted.store(false, Ordering::Relaxed);
            self.deadline = now + RETRANSMIT;
        }
    }

    /// Moves on when the deadline has come.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let Some(known) = &self.known else {
            return self.ask_again(now);
        };
        if self.asked != 0 {
            return self.ask_again(now);
        }
        if !known.stale.swap(true, Ordering::Relaxed) {
            // From now on frames say whether they need it. One look a second is soon enough.
            known.wanted.store(false, Ordering::Relaxed);
            self.deadline = now + RETRANSMIT;
            return Step::Nothing;
        }
        if known.wanted.load(Ordering::Relaxed) {
            return self.ask_again(now);
        }
        if self.forget <= now {
            return Step::Remove;
        }
        self.deadline = now + RETRANSMIT;
        Step::Nothing
    }

    fn ask_again(&mut self, now: Instant) -> Step {
        if self.asked >= PROBES {
            return Step::Remove;
        }
        self.asked += 1;
        self.deadline = now + RETRANSMIT;
        Step::Ask
    }

    /// How much the entry would be missed: the later the time, the more. Nothing for one that is in
    /// use or being asked for.
    pub(super) fn dispensable_since(&self) -> Option<Instant> {
        let known = self.known.as_ref()?;
        let idle = self.asked == 0
            && known.stale.load(Ordering::Relaxed)
            && !known.wanted.load(Ordering::Relaxed);
        idle.then_some(self.forget)
    }

    /// Frames of a port that wait here.
    pub(super) fn waiting_of(&self, port: PortId) -> usize {
        let own = |frame: &&HeldFrame| frame.ingress == port;
        self.waiting.iter().filter(own).count()
    }

    /// How the entry stands.
    pub(super) fn state(&self) -> NeighbourState {
        match &self.known {
            None => NeighbourState::Incomplete,
            Some(_) if self.asked != 0 => NeighbourState::Probe,
            Some(known) if known.stale.load(Ordering::Relaxed) => NeighbourState::Stale,
            Some(_) => NeighbourState::Reachable,
        }
    }
}
