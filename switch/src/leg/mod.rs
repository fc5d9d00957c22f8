//! Legs: ways out.
//!
//! A leg takes a packet that no inside network is the destination of, and brings answers back. To
//! the router all legs look alike; what they do with a packet differs as much as a wire differs from
//! a socket.

mod none;
mod port;

use std::fmt;

pub use none::NoLeg;
pub use port::{Hop, PortLeg};

use crate::frame::Frame;
use crate::port::Port;
use crate::walk::{Refused, Walk};

/// A way out, as a worker knows it.
pub trait Leg: fmt::Debug + Send + Sync {
    /// Takes a packet that leaves the inside. It has passed every check that does not depend on
    /// where it goes.
    ///
    /// # Errors
    ///
    /// [`Refused`], which says what the sender is told.
    fn outward(
        &self,
        walk: &mut Walk<'_>,
        ingress: &Port,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused>;
}
