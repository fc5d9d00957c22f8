//! The switch: ports, bridge, router, the ways out, and the loop that drives them.
//!
//! In walking order:
//!
//! 1. [`endpoint`] — what frames come from and go to: TAP, packet socket, memory.
//! 2. [`Worker`] — waits, takes a burst from each port that has frames, and walks each frame:
//!    `walk` is the life of a frame from top to bottom: port security, bridge ([`fdb`]), router,
//!    gateway, translation, egress.
//! 3. [`leg`] — ways out: what the router hands a packet to that no inside network is the destination of.
//! 4. [`DropReason`] — every way a frame can end without being sent.
//! 5. [`Config`] — the immutable snapshot all this happens under, published by the [`Switch`].

#![forbid(unsafe_code)]

mod config;
mod counter;
mod drop;
pub mod endpoint;
pub mod fdb;
mod frame;
mod grace;
pub mod leg;
mod limiter;
mod neighbour;
mod port;
mod switch;
mod walk;
mod worker;

pub use config::{
    Config, ConfigError, ConfigParts, Driver, GATEWAY_LINK_LOCAL, Network, StaticRoute,
};
pub use counter::Counter;
pub use drop::{Cause, DropReason};
pub use frame::Frame;
pub use neighbour::{Link, ListedNeighbour, NeighbourState, Neighbours};
pub use port::{Identity, LegId, NetworkId, Port, PortId, PortStatistics, Role, link_local};
pub use switch::{Event, Options, Switch};
pub use walk::{Answer, Refused, Walk};
pub use worker::Worker;
