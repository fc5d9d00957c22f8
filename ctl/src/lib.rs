//! heddle: a userspace virtual switch and NAT router; this room is its control plane and its one binary.
//!
//! Three processes, in the order in which a command meets them:
//!
//! 1. **The command** ([`cli`], [`client`]). It enters namespaces itself, in a forked child
//!    ([`plumb`]), makes the interface, addresses and routes there, and passes the descriptors on. So
//!    nobody needs privileges that the user has not got.
//! 2. **The daemon** ([`daemon`]) serves the API ([`api`]: JSON over a unix socket), keeps what must
//!    outlive it in a [`store`], and runs the workers of the dataplane. `daemon::core` is what exists:
//!    networks, endpoints, legs, published ports; each change is validated whole, recorded, built
//!    into a new snapshot and published.
//! 3. **The keeper** ([`keeper`]), the daemon's parent, forked before any thread. It enters namespaces
//!    for API callers, restarts a daemon that has crashed, and hands it what it held.
//!
//! `demo` is a tour through all of them that checks itself.

#![forbid(unsafe_code)]
pub mod api;
pub mod cli;
pub mod client;
pub mod daemon;
mod demo;
pub mod keeper;
pub mod plumb;
pub mod store;
