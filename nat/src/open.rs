//! The first packet of a flow: who it is for, what it becomes, and whether there is room.
//!
//! Nothing is remembered of a first packet until the caller has made every check there is; then
//! [`Nat::open`] does all of it under one lock: makes or finds the mapping, makes the session, files
//! it. If any part is refused, the parts before it are taken back.

use heddle_mem::Instant;
use heddle_wire::{Address, Rewrite};

use crate::mapping::{Filtering, Found, Grounds, NoMapping, Wanted, inside_key};
use crate::owner::Origin;
use crate::published::Published;
use crate::session::{Held, Packet, Session, Side};
use crate::table::{Nat, Refusal, Tables};
use crate::tuple::{Direction, Tuple, Zone};

/// Own sessions that are looked at in search of a port to take over.
const CANDIDATES: usize = 32;

/// How the destination of a first packet is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Not at all.
    AsIs,
    /// To an endpoint that published the port.
    Published(Address, u16),
    /// To the endpoint whose dynamic mapping it is, in the zone of the outside address.
    Mapped(Zone),
}

/// How the source of a first packet is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Not at all.
    AsIs,
    /// To an outside address of the leg with this zone.
    Masquerade(Zone, Address),
}

/// A first packet that has passed every check.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Its tuple on arrival.
    pub tuple: Tuple,
    /// Where it came from and where it goes.
    pub sides: [Side; 2],
    /// How its destination is translated.
    pub destination: Destination,
    /// How its source is translated. Where both ends have mappings (hairpinning), in the same zone.
    pub source: Source,
    /// Zone in which answers arrive.
    pub reply_zone: Zone,
    /// Its moving parts.
    pub packet: Packet,
    /// What is published under the configuration the packet is processed with.
    pub published: &'a Published,
    /// 64 unpredictable bits.
    pub random: u64,
}

/// An endpoint that a packet to a dynamic mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// Its side.
    pub side: Side,
}

/// How a new session is translated.
#[derive(Clone, Copy, Debug)]
struct Translation {
    reply: Tuple,
    source: Option<Found>,
    destination: Option<Found>,
}

impl Nat {
    /// Whom a packet from outside to a dynamic mapping is for.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsolicited`] if there is no such mapping, [`Refusal::Filtered`] if it does not
    /// let the sender in.
    pub fn inbound(
        &self,
        tuple: &Tuple,
        zone: Zone,
        filtering: Filtering,
    ) -> Result<Inbound, Refusal> {
        let tables = self.lock();
        let found = self
            .mapped(&tables, tuple, zone)
            .ok_or(Refusal::Unsolicited)?;
        let permitted = match filtering {
            Filtering::Endpoint => true,
            Filtering::Address => {
                let mappings = &tables.files.mappings;
                mappings.permits(&self.hash, &self.sessions, &found, tuple.source)
            }
            // The peer's port would have to have a session, and then this packet belongs to it.
            Filtering::AddressPort => false,
        };
        if !permitted {
            return Err(Refusal::Filtered);
        }
        Ok(Inbound {
            address: found.inside,
            port: found.inside_port,
            side: found.owner,
        })
    }

    fn mapped(&self, tables: &Tables, tuple: &Tuple, zone: Zone) -> Option<Found> {
        let Tuple {
            protocol,
            destination,
            destination_port,
            ..
        } = *tuple;
        tables
            .files
            .mappings
            .by_outside(zone, protocol, destination, destination_port)
    }

    /// Opens a session for a first packet and says what the packet must read. The caller has made
    /// every other check: what is opened here is sent.
    ///
    /// # Errors
    ///
    /// Any [`Refusal`]; nothing has changed then, except that the owner may have lost sessions that
    /// were over or unanswered.
    pub fn open(&self, opening: &Opening<'_>, now: Instant) -> Result<Rewrite, Refusal> {
        let hash = self.hash(&opening.tuple);
        let mut tables = self.lock();
        let index = &tables.files.index;
        if let Some(hit) = index.find(hash, |value| self.accept(value, &opening.tuple)) {
            // Another worker was faster.
            drop(tables);
            if hit.ingress() != opening.sides[0] {
                return Err(Refusal::Unsolicited);
            }
            return self.commit(hit, &opening.packet, now);
        }
        if !opening.may_begin() {
            return Err(Refusal::NotSyn);
        }
        if !opening.tuple.can_begin() {
            return Err(Refusal::Unsolicited);
        }
        self.make_session(&mut tables, opening, hash, now)
    }

    fn make_session(
        &self,
        tables: &mut Tables,
        opening: &Opening<'_>,
        hash: u64,
        now: Instant,
    ) -> Result<Rewrite, Refusal> {
        self.make_room(tables, opening, now)?;
        let translation = self.translate(tables, opening, now)?;
        let made = self.enter(tables, opening, &translation, hash, now);
        if made.is_err() {
            self.abandon(tables, translation.source.as_ref());
        }
        made
    }

    /// Makes the session itself.
    fn enter(
        &self,
        tables: &mut Tables,
        opening: &Opening<'_>,
        translation: &Translation,
        hash: u64,
        now: Instant,
    ) -> Result<Rewrite, Refusal> {
        let Translation {
            reply,
            source,
            destination,
        } = translation;
        let reply_hash = self.hash(reply);
        let index = &tables.files.index;
        let is_taken = index
            .find(reply_hash, |value| self.accept(value, reply).map(drop))
            .is_some();
        if is_taken {
            return Err(Refusal::Conflict);
        }
        let held = match (source, destination) {
            (None, None) => Held::Nothing,
            (Some(source), None) => Held::Source(source.id),
            (None, Some(destination)) => Held::Destination(destination.id),
            (Some(source), Some(_)) => Held::Both(source.id),
        };
        let mut session = Session::new(&opening.tuple, reply, opening.sides, held);
        session.begin(&opening.packet, now);
        let slot = (self.sessions.insert(&session)).ok_or(Refusal::SessionsExhausted)?;
        self.file(tables, slot, &session, [hash, reply_hash], now);
        let mappings = &mut tables.files.mappings;
        for mapping in [source, destination].into_iter().flatten() {
            mappings.hold(mapping.id);
        }
        if let Some(source) = source {
            let peer = opening.tuple.destination;
            mappings.grant(&self.hash, &self.sessions, source.id, peer, slot);
        }
        Ok(session.rewrite(Direction::Original))
    }

    /// The tuple of the answers, and the mappings it goes through.
    fn translate(
        &self,
        tables: &mut Tables,
        opening: &Opening<'_>,
        now: Instant,
    ) -> Result<Translation, Refusal> {
        let mut translation = Translation {
            reply: opening.tuple.inverse(opening.reply_zone),
            source: None,
            destination: None,
        };
        // The source first: it may cost another session, and so another mapping, its life.
        self.translate_source(tables, opening, &mut translation, now)?;
        let result = self.translate_destination(tables, opening, &mut translation);
        if result.is_err() {
            self.abandon(tables, translation.source.as_ref());
        }
        result.map(|()| translation)
    }

    fn translate_source(
        &self,
        tables: &mut Tables,
        opening: &Opening<'_>,
        translation: &mut Translation,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Source::Masquerade(zone, outside) = opening.source else {
            return Ok(());
        };
        let wanted = Wanted {
            protocol: opening.tuple.protocol,
            inside: opening.tuple.source,
            inside_port: opening.tuple.source_port,
            zone,
            outside,
            owner: opening.sides[0],
        };
        let published =
            opening
                .published
                .outside_of(zone, wanted.protocol, wanted.inside, wanted.inside_port);
        let reply = &mut translation.reply;
        (reply.destination, reply.destination_port) = match published {
            Some(published) => published,
            None => {
                let found = self.map(tables, &wanted, opening, now)?;
                translation.source = Some(found);
                (found.outside, found.outside_port)
            }
        };
        Ok(())
    }

    fn translate_destination(
        &self,
        tables: &Tables,
        opening: &Opening<'_>,
        translation: &mut Translation,
    ) -> Result<(), Refusal> {
        let reply = &mut translation.reply;
        match opening.destination {
            Destination::AsIs => {}
            Destination::Published(address, port) => {
                (reply.source, reply.source_port) = (address, port);
            }
            Destination::Mapped(zone) => {
                // Since the caller asked, the mapping may have ended, and another one begun.
                let found = self
                    .mapped(tables, &opening.tuple, zone)
                    .filter(|found| found.owner == opening.sides[1])
                    .filter(|_| translation.source.is_none_or(|source| source.zone == zone))
                    .ok_or(Refusal::Unsolicited)?;
                (reply.source, reply.source_port) = (found.inside, found.inside_port);
                translation.destination = Some(found);
            }
        }
        Ok(())
    }

    /// Ends the mapping that was made for a session that is not made.
    fn abandon(&self, tables: &mut Tables, source: Option<&Found>) {
        if let Some(source) = source {
            tables.files.mappings.abandon(&self.hash, source.id);
        }
    }

    /// The mapping of an inside address and port, made if need be.
    fn map(
        &self,
        tables: &mut Tables,
        wanted: &Wanted,
        opening: &Opening<'_>,
        now: Instant,
    ) -> Result<Found, Refusal> {
        let mappings = &mut tables.files.mappings;
        let key = inside_key(&self.hash, wanted);
        if let Some(found) = mappings.by_inside(key, wanted) {
            return Ok(found);
        }
        let held = mappings.held_by(wanted.owner);
        let made = if held < self.limits.mappings_per_owner {
            let grounds = Grounds {
                published: opening.published,
                random: opening.random,
                is_modest: held < self.limits.guaranteed_per_owner,
            };
            mappings.create(key, wanted, &grounds, now)
        } else {
            Err(NoMapping::PortsExhausted)
        };
        let made = match made {
            Err(NoMapping::PortsExhausted) => self.take_over(tables, (key, wanted), opening, now),
            made => made,
        };
        made.map_err(|none| match none {
            NoMapping::PortsExhausted => Refusal::PortsExhausted,
            NoMapping::TableFull => Refusal::SessionsExhausted,
        })
    }

    /// A mapping at the port of another one of the same owner, whose only session is missed least.
    /// The port does not rest in between: late packets reach the endpoint that they were for.
    fn take_over(
        &self,
        tables: &mut Tables,
        (key, wanted): (u64, &Wanted),
        opening: &Opening<'_>,
        now: Instant,
    ) -> Result<Found, NoMapping> {
        let files = &tables.files;
        let port_of = |slot: u32| {
            let session = self.sessions.lock(slot);
            let (held, is_behind) = (session.held(), session.class() != session.filed_under());
            drop(session);
            // Another worker has just brought it to life, and waits to file it anew.
            if is_behind {
                return None;
            }
            let (Held::Source(id) | Held::Destination(id)) = held else {
                return None;
            };
            let (mapping, sessions) = files.mappings.get(id);
            let serves = files
                .mappings
                .would_serve(&mapping, wanted, opening.published);
            (sessions == 1 && serves).then_some((slot, mapping.outside_port))
        };
        let (slot, port) = files
            .port_holders(wanted.owner)
            .take(CANDIDATES)
            .find_map(port_of)
            .ok_or(NoMapping::PortsExhausted)?;
        self.evict(tables, slot, now);
        tables.files.mappings.take_over(key, wanted, port)
    }
}

impl Opening<'_> {
    /// Who is charged: the inside, and where both are, whoever begins.
    pub(crate) fn owner(&self) -> Side {
        self.sides[usize::from(self.origin() == Origin::Outside)]
    }

    /// Who begins.
    pub(crate) fn origin(&self) -> Origin {
        if self.tuple.zone.is_inside() {
            Origin::Inside
        } else {
            Origin::Outside
        }
    }

    /// Whether a segment opens its connection. What is never translated may be taken up in the middle:
    /// it went on before anybody tracked it, and no port or address depends on how it began.
    fn may_begin(&self) -> bool {
        let within = self.tuple.zone == Zone::WITHIN;
        self.packet
            .segment
            .as_ref()
            .is_none_or(|segment| segment.is_opening() || within && segment.is_in_the_middle())
    }
}

#[cfg(test)]
mod tests;
