//! Address translation: functions over tables, without a clock, a socket or a packet buffer.
//!
//! In the order a packet meets them:
//!
//! 1. [`Tuple`] — what identifies a flow, and the [`Zone`] it is valid in.
//! 2. [`Nat::lookup`] — the [`Session`] it belongs to, as a locked [`Hit`]. The caller decides whether
//!    the packet may go, then [`Nat::commit`] advances the session ([`tcp`] for connections) and says
//!    what the packet must read.
//! 3. If there is none: [`Published`] and [`Nat::inbound`] say whom a packet from outside is for;
//!    [`Nat::open`] makes the session, and the mapping it needs, when every check is done.
//! 4. [`Nat::translate_error`] — ICMP errors about packets that were sent through here.
//!    [`Identifications`] — the numbers of datagrams that are or may be fragmented.
//! 5. [`Nat::expire`] — the end of sessions, whenever [`Nat::next_deadline`] has come.
//! 6. [`filter`] — rules about packets, asked between the two translations.
//!
//! Two kinds of object, as in RFC 6146: a *mapping* is an inside (address, port) known outside as
//! another one, a *session* is one flow through it. Time and randomness are arguments.
//!
//! Below the surface: `session` is the record of a flow, `table` finds and ends it, `files` knows it
//! by tuple and by owner, and `owner` what it would miss least. `mapping` knows which outside port belongs to whom, `permission` whom it has
//! spoken to, and `ports` which ports are free or rest. Nobody but [`Nat`] uses these.

#![forbid(unsafe_code)]

mod error;
mod files;
pub mod filter;
mod identification;
mod limits;
mod mapping;
mod open;
mod owner;
mod permission;
mod ports;
mod published;
mod session;
mod table;
pub mod tcp;
mod tuple;
#[cfg(test)]
mod world;

pub use error::TranslatedError;
pub use identification::Identifications;
pub use limits::{Holdings, Limits};
pub use mapping::Filtering;
pub use open::{Destination, Inbound, Opening, Source};
pub use owner::Origin;
pub use ports::REST;
pub use published::{Publication, PublishError, Published};
pub use session::{
    Class, DNS_TIMEOUT, ICMP_TIMEOUT, Packet, Session, SessionState, Side, UDP_TIMEOUT,
};
pub use table::{Hit, Nat, Refusal};
pub use tuple::{Direction, Tuple, Zone, quoted};
