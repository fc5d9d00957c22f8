//! The keeper: what must outlive the daemon, and what the daemon must not be able to do itself.
//!
//! # Theory of operation
//!
//! `heddle daemon` is two processes. The *keeper* is the first: it binds the sockets, then forks the
//! *daemon* proper and waits. It has one thread and hardly any state, so there is little in it that
//! could fail, and it may fork at any time, which the daemon with its threads may not.
//!
//! It does three things for the daemon, over a socket pair on which each message is whole:
//!
//! - **Plumbing** ([`Request::Run`]): a forked child enters a namespace and answers by itself.
//! - **Holding** ([`Request::Hold`]): duplicates of the descriptors of every endpoint and leg, and a
//!   note of what they are. A TAP lives as long as anybody holds it.
//! - **Restarting**: when the daemon ends without having said goodbye, a new one is forked at once, and
//!   gets everything that was held before it does anything else.
//!
//! If the keeper itself dies, the daemon goes on: frames flow, commands work, only these three things
//! are missing, and `heddle status` says so.

mod jobs;
mod message;
mod signals;
mod supervise;

pub use message::{Held, Note, Reply, Request};
pub(crate) use message::{receive, send};
pub(crate) use supervise::START_FAILED;
pub use supervise::{DaemonMain, Inherited, run};
