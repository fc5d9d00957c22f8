//! ICMP errors about translated packets (RFC 5508 §4, RFC 5382 §7.3 REQ-9, RFC 4787 §9 REQ-12).
//!
//! An error names the packet it is about by quoting it. Whoever sent that packet must be able to
//! recognise it, so the quote is turned back into what was sent, and the error goes to the sender.
//! An error never moves a session: it neither prolongs nor ends it.

use heddle_wire::{Address, Embedded, Rewrite};

use crate::session::Side;
use crate::table::{Nat, Refusal};
use crate::tuple::{Direction, Zone, quoted};

/// Where an ICMP error goes and what it must read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranslatedError {
    /// What the quoted packet must read.
    pub quote: Rewrite,
    /// Source of the error itself.
    pub source: Address,
    /// Who gets it.
    pub destination: Address,
    /// Where it leaves.
    pub egress: Side,
    /// Where the first packet of the session was sent to.
    pub original: (Address, u16),
}

impl Nat {
    /// What an ICMP error that arrived in `zone` must read.
    ///
    /// The quoted packet is one that *left* into that zone, so its tuple is the inverse of a tuple
    /// that arrives from there.
    ///
    /// # Errors
    ///
    /// [`Refusal::ErrorUnmatched`] if the quoted packet was not sent through here, or is not in
    /// flight (RFC 5927 §4.1).
    pub fn translate_error(
        &self,
        source: Address,
        embedded: &Embedded,
        zone: Zone,
    ) -> Result<TranslatedError, Refusal> {
        let quoted = quoted(embedded, zone).ok_or(Refusal::ErrorUnmatched)?;
        let hit = self
            .lookup(&quoted.inverse(zone))
            .ok_or(Refusal::ErrorUnmatched)?;
        let sent = hit.direction().inverse();
        let plausible = embedded
            .sequence
            .is_none_or(|sequence| hit.session().is_in_flight(sent, sequence));
        if !plausible {
            return Err(Refusal::ErrorUnmatched);
        }
        let asked = hit.session().tuple(sent);
        let original = hit.session().tuple(Direction::Original);
        // Whoever gets the error knows this side by the address it spoke to. An error from inside
        // must not show another one (RFC 5508 §4.2 REQ-5); routers outside keep their own.
        let translated = asked.destination != hit.session().tuple(hit.direction()).source;
        let shown = if translated && zone == Zone::INSIDE {
            asked.destination
        } else {
            source
        };
        Ok(TranslatedError {
            quote: Rewrite {
                source: asked.source,
                source_port: asked.source_port,
                destination: asked.destination,
                destination_port: asked.destination_port,
            },
            source: shown,
            destination: asked.source,
            egress: hit.egress(),
            original: (original.destination, original.destination_port),
        })
    }
}

#[cfg(test)]
mod tests;
