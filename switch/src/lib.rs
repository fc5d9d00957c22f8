//! The switch: ports, bridge, router, the ways out, and the loop that drives them.
//!
//! # The life of a frame
//!
//! 1. **A worker wakes** ([`Worker`]): readiness puts a port on the line of those that may have frames.
//!    Each gets a burst in its turn, 64 frames or 256 KiB, and pays with turns for what its broadcasts
//!    cost; so a port that floods waits for itself.
//! 2. **The endpoint** ([`endpoint`]: a TAP, a packet socket, memory) hands over the burst: every frame a
//!    virtio-net header and bytes, in memory that may be written and is gone afterwards.
//! 3. **It is parsed once** ([`Frame`]). What the header promises must be true of the frame; everything
//!    later looks at the summary.
//! 4. **`walk`** takes it from there, one file a stage, and says in its first lines which way:
//!    - `security`: does the endpoint speak for itself only?
//!    - `bridge`: learn, then to a station of its network ([`fdb`]), to everybody, or to the gateway.
//!    - `gateway`: our own answers to ARP, neighbour discovery and echo.
//!    - `router`: to an endpoint of a network that this one reaches, by a static route, or out.
//!    - `outside`: what a leg lets in; it is one station and answers for nobody else.
//!    - `reassemble`: what comes in fragments and must be seen whole waits until it is.
//!    - `translate`: to the session it belongs to, or to a new one. A new one is made when every check
//!      is done, and taken back if the frame cannot be sent then: what is dropped leaves nothing.
//!    - `egress`: next hop (`neighbours` asks for it while the frame waits), MTU, layer 2.
//! 5. **It ends once**: sent, answered, waiting, or dropped for one [`DropReason`], which is counted at
//!    the port it came from. `answer` tells the sender what it must know, rationed by the limiter.
//!
//! # Around it
//!
//! - [`leg`] — ways out: what the router hands a packet to that no inside network is the destination of.
//! - [`Config`] — the immutable snapshot that all this happens under. [`Switch::publish`] replaces it
//!   whole, and returns when no worker uses the one before and nothing is left of removed ports.
//! - [`Neighbours`], [`fdb`] and the sessions (`heddle_nat`) are the tables that all workers share.
//!   Frames take no lock but that of their own session while nothing new happens.
//! - Time and randomness are arguments; [`Worker::run`] alone is given a clock.

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
mod patience;
mod port;
mod prefix;
mod reassembly;
mod storm;
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
pub use storm::StormControl;
pub use switch::{Event, Options, Switch};
pub use walk::{Answer, Refused, Walk};
pub use worker::Worker;
