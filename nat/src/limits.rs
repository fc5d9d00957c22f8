//! How much state is kept, and for whom.

use heddle_mem::{Index, Instant, Slab};

use crate::files::Files;
use crate::open::Opening;
use crate::owner::{Origin, Owner};
use crate::session::{Session, Side};
use crate::table::{Nat, Refusal, Tables};

/// Of what one owner, or all of them, may have, one part in so many is kept back from those who ask for
/// more than the others: from strangers for the owner itself, from who has much for who has little.
const KEPT_BACK: u32 = 8;

/// How much state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all. The last eighth is for owners with fewer than `guaranteed_per_owner`.
    pub sessions: u32,
    /// Sessions charged to one owner. Of these, seven in eight may have been begun from outside.
    pub sessions_per_owner: u32,
    /// Connections charged to one owner whose handshake is not complete, in each direction.
    pub half_open_per_owner: u32,
    /// Mappings, and so outside ports, of one owner (RFC 6888 §3 REQ-4).
    pub mappings_per_owner: u32,
    /// Sessions, and mappings, that an owner gets even of a table, or ports, that others have nearly
    /// used up.
    pub guaranteed_per_owner: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        // The numbers of a large Linux host (nf_conntrack_max 262144 by default, often raised). Half-open:
        // four times its backlog (somaxconn 4096), because here it is for all servers of an endpoint.
        // Mappings: half of the ports of one address and protocol, so that nobody alone can leave the
        // others without, and more than the 28,232 that a Linux host uses by default.
        Limits {
            sessions: 1 << 20,
            sessions_per_owner: 1 << 16,
            half_open_per_owner: 1 << 14,
            mappings_per_owner: 1 << 15,
            guaranteed_per_owner: 1 << 8,
        }
    }
}

impl Limits {
    /// A table that whoever comes first may use up alone.
    #[must_use]
    pub const fn undivided(sessions: u32) -> Limits {
        Limits {
            sessions,
            sessions_per_owner: sessions,
            half_open_per_owner: sessions,
            mappings_per_owner: sessions,
            guaranteed_per_owner: sessions,
        }
    }
}

/// What one owner holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sessions, whoever began them.
    pub sessions: u32,
    /// Those that were begun from outside.
    pub from_outside: u32,
    /// Connections whose handshake is not complete, begun inside and outside.
    pub half_open: [u32; 2],
    /// Dynamic mappings.
    pub mappings: u32,
    /// Sessions that were given up before their time, since the owner came.
    pub evicted: u64,
}

impl Nat {
    /// What one owner holds.
    #[must_use]
    pub fn holdings_of(&self, owner: Side) -> Holdings {
        let tables = self.lock();
        let mappings = tables.files.mappings.held_by(owner);
        let Some(owner) = tables.files.owner(owner) else {
            return Holdings {
                mappings,
                ..Holdings::default()
            };
        };
        Holdings {
            sessions: owner.sessions(),
            from_outside: owner.sessions_from(Origin::Outside),
            half_open: [Origin::Inside, Origin::Outside].map(|origin| owner.half_open_from(origin)),
            mappings,
            evicted: owner.evicted(),
        }
    }

    /// Forgets what was counted of an owner that is gone, with all its sessions.
    pub fn forget_owner(&self, owner: Side) {
        let mut tables = self.lock();
        let owner = tables.files.owner_mut(owner);
        if owner.sessions() == 0 {
            *owner = Owner::default();
        }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Octets of memory that sessions and mappings can take, whatever happens, with so many owners and
    /// the outside addresses that have been used.
    #[must_use]
    pub fn memory_bound(&self, owners: usize) -> usize {
        let sessions = usize::try_from(self.limits.sessions).unwrap_or(usize::MAX);
        let session_index = Index::memory_bound(2 * sessions);
        Slab::<Session>::memory_bound(self.limits.sessions)
            .saturating_add(session_index)
            .saturating_add(self.lock().files.memory_bound(sessions, owners))
    }

    /// Octets of memory that the sessions and mappings of one owner can take.
    #[must_use]
    pub fn memory_bound_per_owner(&self) -> usize {
        let Limits {
            sessions_per_owner,
            mappings_per_owner,
            ..
        } = self.limits;
        let [sessions, mappings] = [
            sessions_per_owner,
            mappings_per_owner.min(sessions_per_owner),
        ]
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        sessions
            .saturating_mul(Files::octets_per_session())
            .saturating_add(mappings.saturating_mul(Files::octets_per_mapping()))
    }

    /// Makes sure that the owner may have one more session, at the cost of its own.
    pub(crate) fn make_room(
        &self,
        tables: &mut Tables,
        opening: &Opening<'_>,
        now: Instant,
    ) -> Result<(), Refusal> {
        while let Some(victim) = self.victim(tables, opening)? {
            // Once for each other worker at most.
            if !self.catch_up(tables, victim, now) {
                self.evict(tables, victim, now);
                break;
            }
        }
        Ok(())
    }

    /// The session that has to go for a new one, if one has to.
    fn victim(&self, tables: &Tables, opening: &Opening<'_>) -> Result<Option<u32>, Refusal> {
        let (side, origin) = (opening.owner(), opening.origin());
        let limits = &self.limits;
        let nobody = Owner::default();
        let owner = tables.files.owner(side).unwrap_or(&nobody);
        let sessions = owner.sessions();
        let of_strangers = limits.sessions_per_owner - limits.sessions_per_owner / KEPT_BACK;
        let for_many = limits.sessions - limits.sessions / KEPT_BACK;
        let in_all = self.sessions.len();
        let (refusal, victim) = if opening.packet.segment.is_some()
            && owner.half_open_from(origin) >= limits.half_open_per_owner
        {
            (Refusal::OwnerQuota, owner.oldest_half_open(origin))
        } else if sessions >= limits.sessions_per_owner
            || origin == Origin::Outside && owner.sessions_from(origin) >= of_strangers
        {
            (Refusal::OwnerQuota, owner.least_missed(origin))
        } else if in_all >= limits.sessions
            || in_all >= for_many && sessions >= limits.guaranteed_per_owner
        {
            (Refusal::SessionsExhausted, owner.least_missed(origin))
        } else {
            return Ok(None);
        };
        victim.map(Some).ok_or(refusal)
    }

    /// Keeps the bound of half-open connections where one has become so that was something else.
    pub(crate) fn bound_half_open(
        &self,
        tables: &mut Tables,
        session: &Session,
        slot: u32,
        now: Instant,
    ) {
        let origin = session.origin();
        let owner = tables.files.owner_mut(session.owner());
        if owner.half_open_from(origin) <= self.limits.half_open_per_owner {
            return;
        }
        if let Some(oldest) = owner
            .oldest_half_open(origin)
            .filter(|&oldest| oldest != slot)
            .filter(|&oldest| !self.catch_up(tables, oldest, now))
        {
            self.evict(tables, oldest, now);
        }
    }

    /// Ends a session before its time, for another one of the same owner.
    pub(crate) fn evict(&self, tables: &mut Tables, slot: u32, now: Instant) {
        let owner = self.sessions.lock(slot).owner();
        tables.files.owner_mut(owner).count_eviction();
        self.remove(tables, slot, now);
    }
}

#[cfg(test)]
mod tests;
