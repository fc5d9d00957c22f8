//! The daemon: the dataplane's threads, and the control plane that clients talk to.
//!
//! In the order in which it comes to life ([`run`]): it takes its [`place`]; the keeper forks it ([`crate::keeper`]); it reads
//! the store, takes up what a predecessor left ([`restore`]), starts the workers, and accepts clients
//! ([`listen`]) on two sockets: requests ([`http`]) and descriptors ([`descriptors`]). Requests become
//! operations ([`service`]) on the state ([`core`]).

mod connection;
mod core;
mod descriptors;
mod foreign;
mod http;
mod journal;
mod keeper_link;
mod links;
mod listen;
mod options;
mod place;
mod quota;
mod records;
mod restore;
mod rules;
mod service;
mod start;
mod status;
mod tokens;
mod uplinks;
mod watches;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use core::leg_job;
pub(crate) use descriptors::Token;
pub use options::{Options, Sockets};
pub(crate) use place::prepare_directory;
pub use place::wait_until_free;
pub use start::run;

use crate::api::ApiError;

/// How long a caller may take between reserving an endpoint and starting it.
const PENDING_TIME: Duration = Duration::from_secs(30);

/// Waits for a time to pass.
#[expect(
    clippy::disallowed_methods,
    reason = "what is awaited is the time itself"
)]
async fn after(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Readiness of a descriptor.
#[expect(
    deprecated,
    reason = "deprecated for types that may close their descriptor early; an OwnedFd does not, and \
              the replacement is unsafe, which this room is not allowed"
)]
fn readiness(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// Unpredictable octets.
fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut octets = [0; N];
    let mut filled = 0;
    while filled < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut octets[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(core::internal(&format!("no randomness: {error}"))),
        }
    }
    Ok(octets)
}
