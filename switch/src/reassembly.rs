//! Fragments of datagrams that somebody must see whole: for translation, and for our own addresses.
//!
//! # Theory of operation
//!
//! Only the first fragment says whose flow a datagram belongs to, and only all of them say whether it
//! is one at all: fragments that overlap can make one datagram for us and another one for its
//! receiver (RFC 1858, RFC 5722). So they wait here until none is missing. Then the whole datagram
//! walks on as one frame, and leaves in the fragments that it came in ([`Assembly`]). This is virtual
//! reassembly: what leaves is what came, in its order, with other addresses.
//!
//! **What comes together**: fragments from one port with one source, destination and identification;
//! of IPv4 also with one protocol (RFC 791 §3.2, RFC 8200 §4.5). Two ports never share a datagram, so
//! nobody can spoil his neighbour's.
//!
//! | a fragment | what happens |
//! |---|---|
//! | fits a hole | waits, or makes the datagram whole |
//! | is there already, octet for octet | is dropped alone: networks repeat packets (RFC 8200 §4.5) |
//! | overlaps another, or contradicts the end | the whole datagram is refused, and what is yet to come of it (RFC 5722 §4) |
//! | is one too many | the same |
//!
//! A datagram that is not whole after [`TIMEOUT`] is given up. One that was refused is remembered for as
//! long, without any memory for fragments.
//!
//! **Memory** is an arena of fixed size, and each port has a [`Share`] of it (RFC 4787 §11 REQ-14 a).
//! Whoever needs more than his share gives up his own oldest datagram for it. If all is in use, the
//! port that uses most of its share gives up its oldest. All this is done in so many steps as
//! one port may hold datagrams, and never by looking at all of them.
//!
//! One mutex guards it all, for the time that a fragment takes to be copied: fragments are rare, and
//! two workers may well bring those of one datagram.

mod arena;
mod assembly;
mod datagram;
mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heddle_mem::{Instant, KeyedHash};
use heddle_wire::{Ip, Part};

pub(crate) use self::assembly::{Assembly, Parts};
use self::datagram::Key;
use self::table::{Evicted, Table};
use crate::drop::{Cause, DropReason};
use crate::port::PortId;

/// How long a datagram may take to come together (Linux: `ipfrag_time`; RFC 8200 §4.5 allows twice as
/// long).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Fragments of one datagram: the longest one over links with the smallest MTU that hosts take for
/// granted, 576, is 119 of them. More are an attack on whoever puts them together (CVE-2018-5391).
pub(crate) const FRAGMENTS_MAX: usize = 128;

/// Octets of all headers of one datagram's fragments.
pub(crate) const HEADERS_LEN_MAX: usize = 8 << 10;

/// Stands for "no deadline".
const NEVER: u64 = u64::MAX;

/// How much may wait of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    datagrams: u32,
    blocks: u32,
}

impl Share {
    /// Of an endpoint: 64 datagrams and 1 MiB.
    pub(crate) const MEMBER: Share = Share {
        datagrams: 64,
        blocks: 512,
    };

    /// Of a leg, behind which is everybody: 1024 datagrams and 8 MiB.
    pub(crate) const LEG: Share = Share {
        datagrams: 1024,
        blocks: 4096,
    };
}

/// A fragment that came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'f> {
    pub(crate) port: PortId,
    pub(crate) share: Share,
    /// The Ethernet frame it came in.
    pub(crate) frame: &'f [u8],
    pub(crate) ip: &'f Ip,
    pub(crate) part: Part<'f>,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits for others.
    Waits,
    /// It was the last one: the datagram is in the assembly.
    Whole,
    /// It is dropped, and so many that waited for it with it.
    Refused(DropReason, usize),
}

impl Outcome {
    fn alone(cause: Cause) -> Outcome {
        Outcome::Refused(cause.into(), 0)
    }
}

/// A datagram that did not come together in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) port: PortId,
    /// Fragments that waited.
    pub(crate) fragments: usize,
    /// Whether the first one was among them: then it is in the assembly, as if it were all.
    pub(crate) has_first: bool,
}

/// All fragments that wait.
#[derive(Debug)]
pub(crate) struct Reassembly {
    hash: KeyedHash,
    table: Mutex<Table>,
    next_deadline: AtomicU64,
}

impl Reassembly {
    /// Octets of memory that all this takes at most.
    pub(crate) const MEMORY_BOUND: usize = Table::MEMORY_BOUND;

    /// `secret` keys the hash and must be unpredictable.
    pub(crate) fn new(secret: [u8; 64]) -> Reassembly {
        Reassembly {
            hash: KeyedHash::new(secret),
            table: Mutex::new(Table::new()),
            next_deadline: AtomicU64::new(NEVER),
        }
    }

    /// Takes in a fragment. If the datagram is whole then, it is put `into` the assembly and nothing of
    /// it stays here.
    pub(crate) fn add(
        &self,
        fragment: &Fragment<'_>,
        into: &mut Assembly,
        now: Instant,
        evicted: Evicted<'_>,
    ) -> Outcome {
        let Fragment { port, ip, part, .. } = *fragment;
        let key = Key {
            source: ip.source,
            destination: ip.destination,
            id: part.id,
            protocol: part.protocol,
            port,
        };
        let hash = self.hash.hash(&key.words());
        let mut table = self.lock();
        let known = table.find(&key, hash);
        let slot = match known {
            Some(slot) => slot,
            None => match table.open(key, hash, fragment.share, now, evicted) {
                Some(slot) => slot,
                None => return Outcome::alone(Cause::FragmentQuota),
            },
        };
        let outcome = table.extend(slot, fragment, into, evicted);
        self.publish_deadline(&table);
        outcome
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let micros = self.next_deadline.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Instant::from_micros(micros))
    }

    /// Gives up the oldest datagram if its time is over. Its first fragment, if that is there, is put
    /// `into` the assembly.
    pub(crate) fn expire(&self, now: Instant, into: &mut Assembly) -> Option<Expired> {
        let mut table = self.lock();
        let slot = table.ages.front()?;
        let datagram = table.datagram(slot)?;
        if datagram.deadline > now {
            return None;
        }
        let has_first = table.gather_first(&datagram, into).is_some();
        let fragments = table.remove(slot);
        self.publish_deadline(&table);
        Some(Expired {
            port: datagram.key.port,
            fragments,
            has_first,
        })
    }

    /// Forgets what came from a port: nobody is left to be told.
    pub(crate) fn forget_port(&self, port: PortId) {
        let mut table = self.lock();
        while let Some(slot) = table.oldest_of(port) {
            table.remove(slot);
        }
        self.publish_deadline(&table);
    }

    /// How many fragments wait.
    pub(crate) fn fragments(&self) -> usize {
        self.lock().fragments
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_deadline(&self, table: &Table) {
        let oldest = table.ages.front().and_then(|slot| table.datagram(slot));
        let next = oldest.map_or(NEVER, |datagram| datagram.deadline.as_micros());
        self.next_deadline.store(next, Ordering::Relaxed);
    }
}
