//! External ports of one outside address and protocol: which are in use, which rest, which is next.
//!
//! # Theory of operation
//!
//! A port is *free*, *used* by exactly one mapping (never shared, RFC 4787 §4.2.1 REQ-3), or *resting*: for
//! [`REST`] after its mapping ended it is not given to anybody else, so that late packets of the old
//! flow cannot reach a stranger (RFC 6888 §3 REQ-8). Only the one who had it may have it back before.
//!
//! A free port of the same number is preferred. On contention the port is picked at random (RFC 6056
//! §3.3.1; RFC 7857 §9): a few random probes, then the next free port behind a random one. The first
//! kind finds a port at once in a pool that is half full and is unpredictable; the second bounds the
//! work in a pool that is nearly full to one pass over a bitmap of 1,024 words.
//!
//! When nothing is free, TCP may cut the rest of the port that has rested longest: we track the
//! connection's state, so its end was seen (RFC 6888 §3 REQ-8 exception A). UDP and ICMP may not.
//!
//! System ports map to system ports and others to others (RFC 4787 §4.2.1 REQ-3a); parity is not kept (RFC
//! 7857 §8). Each of the two classes has its own queue of resting ports, so that the one that has
//! rested longest is always at hand.
//!
//! **The last ports are for those who have few.** Of the user ports and of the identifiers of queries one in
//! [`RESERVE`] is not given to who has many already, so that a few who take all they may leave some to
//! everybody else; resting ports count, because who lets its flows time out has used them up just as well.
//!
//! **Work is bounded.** No call does more than one pass over the bitmap, and none passes more than
//! [a few](PASSED) published ports. Ports whose rest is over wake
//! [a few](WAKES) at a time, when a port of their class is asked for: a pool that thousands left at
//! once must not make one packet wait for all of them two minutes later.

use std::ops::RangeInclusive;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_wire::Protocol;

/// How long a returned port rests (RFC 6888 §3 REQ-8).
pub const REST: Duration = Duration::from_secs(120);

/// First port that is not a system port (RFC 6335 §6).
const FIRST_USER_PORT: u16 = 1024;

/// Random probes before the bitmap is searched. In a pool that is 90 % full, 16 probes fail once in
/// five times; more of them would cost about what the search does.
const PROBES: usize = 16;

/// Ports that wake when one is asked for. An allocation takes one at most, so any number above that
/// keeps up.
const WAKES: usize = 8;

/// One port in so many is only for those who have few.
const RESERVE: u32 = 8;

/// Published ports, or ranges of them, that are passed in search of a free one. Each costs a look among all that
/// is published, so there is an end to it: where more of them lie between a random port and the next free
/// one, this search has been in vain, and the next one begins elsewhere.
const PASSED: usize = 16;

/// Ports of one [`Chunk`] of records.
const CHUNK: usize = 256;

/// Chunks of all ports.
const CHUNKS: usize = WORDS * 64 / CHUNK;

/// Words of the bitmap.
const WORDS: usize = 1024;

/// The ports of one (zone, address, protocol).
#[derive(Debug)]
pub(crate) struct PortPool {
    protocol: Protocol,
    /// A bit for each port that is used or rests.
    taken: Box<[u64; WORDS]>,
    /// Records of ports that are or have been taken, made when first needed.
    chunks: Vec<Option<Box<Chunk>>>,
    /// Resting ports of each class.
    queues: [Queue; 2],
    used: u32,
    /// Ports of each class that are used or rest.
    taken_of: [u32; 2],
}

type Chunk = [Rest; CHUNK];

/// What is kept of a port that is used or rests.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    since: Instant,
    /// The mapping that uses it; of a resting one, the fingerprint of who had it.
    owner: u32,
    next: Option<u16>,
    previous: Option<u16>,
    resting: bool,
}

/// Resting ports, the longest resting first, linked through their records.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    first: Option<u16>,
    last: Option<u16>,
}

/// Who asks for a port, and for which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) preferred: u16,
    /// Fingerprint of who asks.
    pub(crate) owner: u32,
    /// 64 unpredictable bits.
    pub(crate) random: u64,
    /// Whether who asks has few ports, and so may have one of the last.
    pub(crate) is_modest: bool,
}

/// No port can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl PortPool {
    pub(crate) fn new(protocol: Protocol) -> PortPool {
        PortPool {
            protocol,
            taken: Box::new([0; WORDS]),
            chunks: (0..=usize::from(u16::MAX) / CHUNK).map(|_| None).collect(),
            queues: [Queue::default(); 2],
            used: 0,
            taken_of: [0; 2],
        }
    }

    /// Ports that mappings hold now.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Takes a port, the preferred one where possible. `reserved` names ports that are published or
    /// listened on and must never be given out (port shadowing, CVE-2021-3773): for such a port it
    /// answers with the last one of its range.
    pub(crate) fn allocate(
        &mut self,
        wish: &Wish,
        reserved: impl Fn(u16) -> Option<u16>,
        now: Instant,
    ) -> Result<u16, Exhausted> {
        let Wish {
            preferred,
            owner,
            random,
            is_modest,
        } = *wish;
        let class = self.class(preferred);
        for _ in 0..WAKES {
            if self.wake_one(class, now).is_none() {
                break;
            }
        }
        let may_take_more =
            is_modest || self.taken_of[class.queue] < class.size() - class.reserve();
        if class.contains(preferred) && reserved(preferred).is_none() {
            if may_take_more && !self.is_taken(preferred) {
                return Ok(self.take(preferred));
            }
            let rests = self.rest(preferred).filter(|rest| rest.resting);
            if rests.is_some_and(|rest| rest.owner == owner || rest.is_over(now)) {
                self.end_rest(preferred);
                return Ok(self.take(preferred));
            }
        }
        let free = || {
            self.probe(class, random, &reserved)
                .or_else(|| self.search(class, random, &reserved))
        };
        let port = if may_take_more { free() } else { None };
        let port = port
            .or_else(|| self.cut_rest(class, &reserved, now))
            .ok_or(Exhausted)?;
        Ok(self.take(port))
    }

    /// Notes which mapping uses a port that was just taken.
    pub(crate) fn assign(&mut self, port: u16, mapping: u32) {
        self.rest_mut(port).owner = mapping;
    }

    /// The mapping that uses a port.
    pub(crate) fn mapping_at(&self, port: u16) -> Option<u32> {
        let rest = self.rest(port).filter(|rest| !rest.resting)?;
        self.is_taken(port).then_some(rest.owner)
    }

    /// Takes a port that rests, whoever had it. The caller has ended the mapping that had it in
    /// favour of another one of the same endpoint.
    pub(crate) fn take_over(&mut self, port: u16) -> Result<u16, Exhausted> {
        if !self.rest(port).is_some_and(|rest| rest.resting) {
            return Err(Exhausted);
        }
        self.end_rest(port);
        Ok(self.take(port))
    }

    /// Gives a used port back; it rests from `now`.
    pub(crate) fn release(&mut self, port: u16, owner: u32, now: Instant) {
        debug_assert!(self.is_used(port), "port {port} comes back but is not used");
        self.used = self.used.saturating_sub(1);
        let queue = self.class(port).queue;
        let previous = self.queues[queue].last.replace(port);
        *self.rest_mut(port) = Rest {
            since: now,
            owner,
            next: None,
            previous,
            resting: true,
        };
        match previous {
            Some(previous) => self.rest_mut(previous).next = Some(port),
            None => self.queues[queue].first = Some(port),
        }
    }

    /// Gives back a port that no packet has left from. There is nothing to rest from.
    pub(crate) fn put_back(&mut self, port: u16) {
        debug_assert!(self.is_used(port), "port {port} comes back but is not used");
        self.used = self.used.saturating_sub(1);
        self.vacate(port);
    }

    /// Whether two ports stand in for each other.
    pub(crate) fn are_alike(&self, one: u16, other: u16) -> bool {
        self.class(one).queue == self.class(other).queue
    }

    /// Octets that a pool takes at most.
    pub(crate) const MOST_MEMORY: usize = size_of::<PortPool>()
        + size_of::<[u64; WORDS]>()
        + CHUNKS * (size_of::<Option<Box<Chunk>>>() + size_of::<Chunk>());

    /// Octets of memory in use.
    pub(crate) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        size_of::<PortPool>()
            + size_of::<[u64; WORDS]>()
            + self.chunks.len() * size_of::<Option<Box<Chunk>>>()
            + chunks * size_of::<Chunk>()
    }

    /// Frees the port that has rested longest if its rest is over.
    fn wake_one(&mut self, class: Class, now: Instant) -> Option<u16> {
        let port = self.queues[class.queue].first?;
        let is_over = self.rest(port).is_none_or(|rest| rest.is_over(now));
        is_over.then(|| {
            self.end_rest(port);
            port
        })
    }

    fn probe(
        &self,
        class: Class,
        random: u64,
        reserved: impl Fn(u16) -> Option<u16>,
    ) -> Option<u16> {
        let mut state = random;
        (0..PROBES)
            .map(|_| class.pick(split_mix(&mut state)))
            .find(|&port| !self.is_taken(port) && reserved(port).is_none())
    }

    /// The next free port behind a random one, around the class once.
    fn search(
        &self,
        class: Class,
        random: u64,
        reserved: impl Fn(u16) -> Option<u16>,
    ) -> Option<u16> {
        let start = class.pick(random);
        let mut passed = 0;
        self.first_free(start..=class.last, &mut passed, &reserved)
            .or_else(|| self.first_free(class.first..=start, &mut passed, &reserved))
    }

    /// The first port of a range that is neither taken nor reserved. Reserved ranges are passed in
    /// one step.
    fn first_free(
        &self,
        range: RangeInclusive<u16>,
        passed: &mut usize,
        reserved: impl Fn(u16) -> Option<u16>,
    ) -> Option<u16> {
        let (mut start, last) = (*range.start(), *range.end());
        while *passed < PASSED {
            let port = self.first_vacant(start, last)?;
            let Some(end) = reserved(port) else {
                return Some(port);
            };
            *passed += 1;
            start = end.max(port).checked_add(1).filter(|&next| next <= last)?;
        }
        None
    }

    /// The first port from `start` to `last` whose bit is not set.
    fn first_vacant(&self, start: u16, last: u16) -> Option<u16> {
        let mut mask = u64::MAX << (start % 64);
        for word in start / 64..=last / 64 {
            let vacant = !self.taken[usize::from(word)] & mask;
            mask = u64::MAX;
            if vacant != 0 {
                let bit = u16::try_from(vacant.trailing_zeros()).unwrap_or(0);
                return Some(word * 64 + bit).filter(|&port| port <= last);
            }
        }
        None
    }

    /// The port that has rested longest: for UDP and ICMP only if its rest is over.
    ///
    /// A port that was published while it rested stops resting here, so that it is passed once.
    fn cut_rest(
        &mut self,
        class: Class,
        reserved: impl Fn(u16) -> Option<u16>,
        now: Instant,
    ) -> Option<u16> {
        for _ in 0..PASSED {
            let port = if self.protocol == Protocol::TCP {
                let port = self.queues[class.queue].first?;
                self.end_rest(port);
                port
            } else {
                self.wake_one(class, now)?
            };
            if reserved(port).is_none() {
                return Some(port);
            }
        }
        None
    }

    fn class(&self, port: u16) -> Class {
        if !matches!(self.protocol, Protocol::TCP | Protocol::UDP) {
            // Identifiers of ICMP queries have no classes, and zero is one of them.
            Class {
                queue: 0,
                first: 0,
                last: u16::MAX,
            }
        } else if port < FIRST_USER_PORT {
            Class {
                queue: 0,
                first: 1,
                last: FIRST_USER_PORT - 1,
            }
        } else {
            Class {
                queue: 1,
                first: FIRST_USER_PORT,
                last: u16::MAX,
            }
        }
    }

    /// Takes a resting port out of its queue and makes it free.
    fn end_rest(&mut self, port: u16) {
        let queue = self.class(port).queue;
        let Rest { next, previous, .. } = std::mem::take(self.rest_mut(port));
        match previous {
            Some(previous) => self.rest_mut(previous).next = next,
            None => self.queues[queue].first = next,
        }
        match next {
            Some(next) => self.rest_mut(next).previous = previous,
            None => self.queues[queue].last = previous,
        }
        self.vacate(port);
    }

    fn take(&mut self, port: u16) -> u16 {
        self.taken[usize::from(port / 64)] |= 1 << (port % 64);
        self.used += 1;
        self.taken_of[self.class(port).queue] += 1;
        port
    }

    fn vacate(&mut self, port: u16) {
        self.taken[usize::from(port / 64)] &= !(1 << (port % 64));
        let taken = &mut self.taken_of[self.class(port).queue];
        *taken = taken.saturating_sub(1);
    }

    fn is_taken(&self, port: u16) -> bool {
        self.taken[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }

    fn is_used(&self, port: u16) -> bool {
        self.is_taken(port) && !self.rest(port).is_some_and(|rest| rest.resting)
    }

    fn rest(&self, port: u16) -> Option<&Rest> {
        let port = usize::from(port);
        self.chunks[port / CHUNK]
            .as_ref()
            .map(|chunk| &chunk[port % CHUNK])
    }

    fn rest_mut(&mut self, port: u16) -> &mut Rest {
        let port = usize::from(port);
        let chunk =
            self.chunks[port / CHUNK].get_or_insert_with(|| Box::new([Rest::default(); CHUNK]));
        &mut chunk[port % CHUNK]
    }
}

impl Rest {
    fn is_over(&self, now: Instant) -> bool {
        now - self.since >= REST
    }
}

/// A range of ports that stand in for each other.
#[derive(Clone, Copy, Debug)]
struct Class {
    /// Where they rest.
    queue: usize,
    first: u16,
    last: u16,
}

impl Class {
    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn size(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    /// How many are only for those who have few. Of the system ports none: hardly anybody uses them.
    fn reserve(self) -> u32 {
        if self.last < FIRST_USER_PORT {
            0
        } else {
            self.size() / RESERVE
        }
    }

    /// A port of the class, uniform to within 2^-48.
    fn pick(self, random: u64) -> u16 {
        let size = u64::from(self.last - self.first) + 1;
        let offset = (u128::from(random) * u128::from(size)) >> 64;
        self.first + u16::try_from(offset).unwrap_or(0)
    }
}

/// Stretches one random number over several probes (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", 2014). Unpredictability comes from the argument.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
