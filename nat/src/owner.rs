//! What one owner holds, and what it would miss least.
//!
//! # Theory of operation
//!
//! An owner's sessions stand in lists, oldest first, by who began them and by [`Class`]. Whoever needs room
//! takes the front of one of the owner's own lists, in a fixed number of steps: nothing is searched.
//!
//! **Strangers have less to say than the owner.** A published port is open to everybody, so what is begun
//! from outside never costs a session that was begun inside: a newcomer from outside replaces one from
//! outside, or is refused. A newcomer from inside may replace either, those from outside first. An open
//! session is never given up.
//!
//! **A flood of SYNs** makes connections that no one means to finish. They have a bound of their own for
//! each direction ([`Limits::half_open_per_owner`](crate::Limits)), far below that of sessions, and at the
//! bound the oldest goes: an honest handshake is over after one round trip, so it is the one that is least
//! likely to be the oldest. From inside that is all there is to do, because whoever floods only loses its
//! own.
//!
//! **From outside** the honest share the bound with the flood, and the oldest of all might be theirs: at a
//! hundred thousand SYNs a second a bound of 16,384 turns over in 164 ms. So half-open connections
//! from outside stand in [`QUEUES`] lists by the network that they come from, and the oldest of the *longest*
//! list goes (stochastic fairness queueing; McKenney, 1990). A flood from one network so replaces itself: one
//! honest network in 64 shares its list, and it is another one after the next start, because the hash is
//! keyed. A flood with forged sources from everywhere makes all lists equally long; then it is the
//! oldest of all, give or take a few, that goes; no translator without SYN cookies can better that.

use heddle_mem::{KeyedHash, Links, List};
use heddle_wire::{Address, Family};

use crate::session::{Class, Session};
use crate::tuple::{Direction, high, low};

/// Lists of half-open connections from outside.
const QUEUES: usize = 64;

/// Bits of an address that tell hosts of one network apart: it holds a /24 of IPv4, which is the longest
/// prefix that is routed, or a /48 of IPv6, which is what a site has (RFC 6177 §2).
const HOST_BITS_V4: u32 = 8;
const HOST_BITS_V6: u32 = 80;

/// Who began a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An endpoint.
    Inside,
    /// Somebody beyond a leg.
    Outside,
}

/// What one owner holds.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    inside: Begun,
    outside: Begun,
    /// Half-open connections from outside. Made when there is the first.
    knocking: Option<Box<Knocking>>,
    /// Sessions that were given up before their time.
    evicted: u64,
}

/// The sessions that one of the two has begun.
#[derive(Debug, Default)]
struct Begun {
    sessions: u32,
    half_open: u32,
    closing: List,
    unreplied: List,
    /// Those from inside only; see [`Knocking`].
    half_open_list: List,
    open: List,
}

/// Half-open connections from outside, by the network they come from.
#[derive(Debug)]
struct Knocking {
    lists: [List; QUEUES],
    lengths: [u32; QUEUES],
}

impl Default for Knocking {
    fn default() -> Knocking {
        Knocking {
            lists: [List::EMPTY; QUEUES],
            lengths: [0; QUEUES],
        }
    }
}

/// In which of its owner's lists a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shelf {
    origin: Origin,
    class: Class,
    queue: usize,
}

impl Shelf {
    /// The one for a session of this class.
    pub(crate) fn of(hash: &KeyedHash, session: &Session, class: Class) -> Shelf {
        let origin = session.origin();
        let queue = if (origin, class) == (Origin::Outside, Class::HalfOpen) {
            queue_of(hash, session.tuple(Direction::Original).source)
        } else {
            0
        };
        Shelf {
            origin,
            class,
            queue,
        }
    }
}

/// The list for connections from an address.
fn queue_of(hash: &KeyedHash, source: Address) -> usize {
    let host_bits = match source.family() {
        Family::V4 => HOST_BITS_V4,
        Family::V6 => HOST_BITS_V6,
    };
    let network = source.bits() >> host_bits;
    let hash = hash.hash(&[high(network), low(network)]);
    let [.., last] = hash.to_be_bytes();
    usize::from(last) % QUEUES
}

impl Owner {
    /// Sessions in all.
    pub(crate) fn sessions(&self) -> u32 {
        self.inside.sessions + self.outside.sessions
    }

    /// Sessions that one of the two has begun.
    pub(crate) fn sessions_from(&self, origin: Origin) -> u32 {
        self.begun(origin).sessions
    }

    /// Half-open connections that one of the two has begun.
    pub(crate) fn half_open_from(&self, origin: Origin) -> u32 {
        self.begun(origin).half_open
    }

    /// Sessions that were given up before their time.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Counts one that is given up before its time.
    pub(crate) fn count_eviction(&mut self) {
        self.evicted += 1;
    }

    /// Adds a session to its list.
    pub(crate) fn add(&mut self, links: &mut Links, slot: u32, shelf: Shelf) {
        let begun = self.begun_mut(shelf.origin);
        begun.sessions += 1;
        if shelf.class == Class::HalfOpen {
            begun.half_open += 1;
        }
        links.push_back(self.list(shelf), slot);
        if let Some(length) = self.length(shelf) {
            *length += 1;
        }
    }

    /// Takes a session out of its list.
    pub(crate) fn remove(&mut self, links: &mut Links, slot: u32, shelf: Shelf) {
        let begun = self.begun_mut(shelf.origin);
        begun.sessions = begun.sessions.saturating_sub(1);
        if shelf.class == Class::HalfOpen {
            begun.half_open = begun.half_open.saturating_sub(1);
        }
        links.remove(self.list(shelf), slot);
        if let Some(length) = self.length(shelf) {
            *length = length.saturating_sub(1);
        }
    }

    /// The session to be given up for a newcomer that `origin` begins.
    pub(crate) fn least_missed(&self, origin: Origin) -> Option<u32> {
        let Owner {
            inside, outside, ..
        } = self;
        let from_outside = || {
            let fronts = [&outside.closing, &outside.unreplied].map(List::front);
            let idle = fronts.into_iter().flatten().next();
            idle.or_else(|| self.oldest_half_open(Origin::Outside))
        };
        match origin {
            Origin::Outside => from_outside(),
            Origin::Inside => (inside.closing.front())
                .or_else(from_outside)
                .or_else(|| inside.unreplied.front())
                .or_else(|| self.oldest_half_open(Origin::Inside)),
        }
    }

    /// The half-open connection to be given up for another one of the same origin.
    pub(crate) fn oldest_half_open(&self, origin: Origin) -> Option<u32> {
        match origin {
            Origin::Inside => self.inside.half_open_list.front(),
            Origin::Outside => {
                let Knocking { lists, lengths } = self.knocking.as_deref()?;
                let longest = (0..QUEUES).max_by_key(|&queue| lengths[queue])?;
                lists[longest].front()
            }
        }
    }

    /// Sessions that may hold a port which is worth more to a newcomer from inside: those that are
    /// missed least first.
    pub(crate) fn port_holders(&self, links: &Links) -> impl Iterator<Item = u32> {
        let Owner {
            inside, outside, ..
        } = self;
        [
            &inside.closing,
            &outside.closing,
            &outside.unreplied,
            &inside.unreplied,
            &inside.half_open_list,
        ]
        .into_iter()
        .flat_map(|list| links.iter(list))
    }

    /// Octets of memory that an owner takes at most besides its own.
    pub(crate) const MOST_MEMORY: usize = size_of::<Knocking>();

    /// Octets of memory besides the owner's own.
    pub(crate) fn memory(&self) -> usize {
        self.knocking.as_ref().map_or(0, |_| size_of::<Knocking>())
    }

    fn begun(&self, origin: Origin) -> &Begun {
        match origin {
            Origin::Inside => &self.inside,
            Origin::Outside => &self.outside,
        }
    }

    fn begun_mut(&mut self, origin: Origin) -> &mut Begun {
        match origin {
            Origin::Inside => &mut self.inside,
            Origin::Outside => &mut self.outside,
        }
    }

    fn list(&mut self, shelf: Shelf) -> &mut List {
        if (shelf.origin, shelf.class) == (Origin::Outside, Class::HalfOpen) {
            let knocking = self.knocking.get_or_insert_default();
            return &mut knocking.lists[shelf.queue];
        }
        let begun = self.begun_mut(shelf.origin);
        match shelf.class {
            Class::Closing => &mut begun.closing,
            Class::Unreplied => &mut begun.unreplied,
            Class::HalfOpen => &mut begun.half_open_list,
            Class::Open => &mut begun.open,
        }
    }

    /// The length of a list, where it is counted.
    fn length(&mut self, shelf: Shelf) -> Option<&mut u32> {
        let is_counted = (shelf.origin, shelf.class) == (Origin::Outside, Class::HalfOpen);
        let knocking = self.knocking.as_deref_mut().filter(|_| is_counted)?;
        Some(&mut knocking.lengths[shelf.queue])
    }
}

#[cfg(test)]
mod tests;
