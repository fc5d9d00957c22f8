//! No way out: the leg of internal networks.

use super::Leg;
use crate::drop::Cause;
use crate::frame::Frame;
use crate::port::Port;
use crate::walk::{Answer, Refused, Walk};

/// Refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLeg;

impl Leg for NoLeg {
    fn outward(&self, _: &mut Walk<'_>, _: &Port, _: &mut Frame<'_>) -> Result<(), Refused> {
        Err(Refused::with(Cause::NoRoute, Answer::NetworkUnreachable))
    }
}
