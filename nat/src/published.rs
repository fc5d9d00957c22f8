//! Published ports: static mappings from an outside (address, port range) to an inside one.
//!
//! They are configuration, not state: an immutable value in the snapshot that a frame is processed
//! under, so a frame sees all of a change or none. A range is one record whatever its size.
//!
//! Both directions matter. From outside, a packet to the published address and port is sent to the
//! inside one. From inside, a packet *from* the published inside port leaves from the published
//! outside port: the mapping is endpoint independent (RFC 4787 §4.1 REQ-1), so that a server which
//! speaks first is known by the same address it is reached at.

use heddle_wire::{Address, Protocol};
use thiserror::Error;

use crate::tuple::Zone;

/// One static mapping of a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Leg the outside address belongs to.
    pub zone: Zone,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Address of the leg.
    pub outside: Address,
    /// First published port.
    pub outside_port: u16,
    /// Address of the endpoint.
    pub inside: Address,
    /// Port of the endpoint that the first published port leads to.
    pub inside_port: u16,
    /// How many ports, counted from the two first ones.
    pub count: u16,
}

impl Publication {
    /// Last published port.
    #[must_use]
    pub fn last_outside_port(&self) -> u16 {
        self.outside_port
            .saturating_add(self.count.saturating_sub(1))
    }

    fn last_inside_port(&self) -> u16 {
        self.inside_port
            .saturating_add(self.count.saturating_sub(1))
    }

    fn covers_outside(&self, port: u16) -> bool {
        (self.outside_port..=self.last_outside_port()).contains(&port)
    }

    fn covers_inside(&self, port: u16) -> bool {
        (self.inside_port..=self.last_inside_port()).contains(&port)
    }
}

/// All published ports of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Sorted by zone, protocol, outside address, port; ranges do not overlap.
    by_outside: Vec<Publication>,
    /// Sorted by zone, protocol, inside address, port; ranges may overlap (one inside port may be
    /// published twice), so a lookup walks back from where its port would stand.
    by_inside: Vec<Publication>,
    /// Largest `count`, which bounds that walk.
    widest: u16,
}

/// Why a set of publications is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// A range without ports, with port 0, or beyond port 65535.
    #[error(
        "{} ports from {} on, published from {} on: ports are 1 to 65535",
        .0.count,
        .0.inside_port,
        .0.outside_port
    )]
    BadRange(Publication),
    /// Two publications want the same outside port.
    #[error("port {} of {} is published twice", .1.outside_port, .1.outside)]
    Overlap(Publication, Publication),
}

type OutsideKey = (Zone, u8, Address, u16);

fn outside_key(publication: &Publication) -> OutsideKey {
    let Publication {
        zone,
        protocol,
        outside,
        outside_port,
        ..
    } = *publication;
    (zone, protocol.0, outside, outside_port)
}

fn inside_key(publication: &Publication) -> OutsideKey {
    let Publication {
        zone,
        protocol,
        inside,
        inside_port,
        ..
    } = *publication;
    (zone, protocol.0, inside, inside_port)
}

impl Published {
    /// Checks the whole set.
    ///
    /// # Errors
    ///
    /// A range that leaves 1..=65535 on either side, or two that share an outside port.
    pub fn new(publications: Vec<Publication>) -> Result<Published, PublishError> {
        for publication in &publications {
            let fits = |first: u16| {
                first != 0 && u32::from(first) + u32::from(publication.count) <= 1 << 16
            };
            let both = fits(publication.outside_port) && fits(publication.inside_port);
            if publication.count == 0 || !both {
                return Err(PublishError::BadRange(*publication));
            }
        }
        let mut by_outside = publications;
        by_outside.sort_by_key(outside_key);
        for pair in by_outside.windows(2) {
            let same = (pair[0].zone, pair[0].protocol, pair[0].outside)
                == (pair[1].zone, pair[1].protocol, pair[1].outside);
            if same && pair[0].covers_outside(pair[1].outside_port) {
                return Err(PublishError::Overlap(pair[0], pair[1]));
            }
        }
        let mut by_inside = by_outside.clone();
        by_inside.sort_by_key(inside_key);
        let widest = by_inside
            .iter()
            .map(|publication| publication.count)
            .max()
            .unwrap_or(0);
        Ok(Published {
            by_outside,
            by_inside,
            widest,
        })
    }

    /// Whether nothing is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_outside.is_empty()
    }

    /// Every publication, by outside address and port.
    pub fn iter(&self) -> impl Iterator<Item = &Publication> {
        self.by_outside.iter()
    }

    /// Inside address and port behind a published one, of the same family: a packet cannot be
    /// translated from one family to the other, only a proxy can do that.
    #[must_use]
    pub fn inside_of(
        &self,
        zone: Zone,
        protocol: Protocol,
        outside: Address,
        port: u16,
    ) -> Option<(Address, u16)> {
        let found = self.covering(zone, protocol, outside, port)?;
        (found.inside.family() == outside.family()).then(|| {
            (
                found.inside,
                found.inside_port + (port - found.outside_port),
            )
        })
    }

    /// Whether a port of an outside address is published.
    #[must_use]
    pub fn covers(&self, zone: Zone, protocol: Protocol, outside: Address, port: u16) -> bool {
        self.covering(zone, protocol, outside, port).is_some()
    }

    /// The publication that a port of an outside address belongs to.
    pub(crate) fn covering(
        &self,
        zone: Zone,
        protocol: Protocol,
        outside: Address,
        port: u16,
    ) -> Option<&Publication> {
        let key = (zone, protocol.0, outside, port);
        let behind = self
            .by_outside
            .partition_point(|item| outside_key(item) <= key);
        let found = self.by_outside[..behind].last()?;
        let same = found.zone == zone && found.protocol == protocol && found.outside == outside;
        (same && found.covers_outside(port)).then_some(found)
    }

    /// Outside address and port an inside one is published at in `zone`, of the same family; the
    /// lowest where there are several.
    #[must_use]
    pub fn outside_of(
        &self,
        zone: Zone,
        protocol: Protocol,
        inside: Address,
        port: u16,
    ) -> Option<(Address, u16)> {
        let key = (zone, protocol.0, inside, port);
        let behind = self
            .by_inside
            .partition_point(|item| inside_key(item) <= key);
        self.by_inside[..behind]
            .iter()
            .rev()
            .take_while(|item| {
                item.zone == zone
                    && item.protocol == protocol
                    && item.inside == inside
                    && port - item.inside_port < self.widest
            })
            .filter(|item| item.covers_inside(port) && item.outside.family() == inside.family())
            .map(|item| (item.outside, item.outside_port + (port - item.inside_port)))
            .min()
    }
}

#[cfg(test)]
mod tests;
