//! What is compared: one file a peer.

mod heddle;
mod kernel;
mod ovs;
mod pasta;
mod relay;
mod vde;

use std::path::PathBuf;

use heddle::Heddle;
use kernel::Kernel;
use ovs::Ovs;
use pasta::Pasta;
use relay::Relay;
use vde::Vde;

use heddle_wire::Family;

use crate::behaviour::Arrangement;
use crate::ground::{Ground, Topology};
use crate::problem::Problem;
use crate::stage::Stage;

/// The peers' endpoints, where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EndpointKind {
    /// TAP interfaces.
    Tap,
    /// Veth pairs with packet sockets.
    Veth,
}

/// TAP interfaces, where this user may make them.
pub(crate) fn usual_endpoint() -> EndpointKind {
    match heddle_sys::tap::usable() {
        Ok(()) => EndpointKind::Tap,
        Err(_) => EndpointKind::Veth,
    }
}

/// Something that joins containers. What a peer cannot do is `None`.
pub(crate) trait Peer {
    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// The program that has to be there.
    fn program(&self) -> Option<&'static str> {
        None
    }

    /// Joins two containers.
    fn lay(&self, stage: &Stage, topology: Topology) -> Result<Option<Ground>, Problem> {
        let _ = (stage, topology);
        Ok(None)
    }

    /// Puts itself between hosts and an outside, as a translator.
    fn arrange(&self, stage: &Stage) -> Result<Option<Arrangement>, Problem> {
        let _ = stage;
        Ok(None)
    }

    /// Seconds from the wish to join a container until the gateway, or whoever is there, has answered
    /// its first echo request.
    fn attach(&self, stage: &Stage, family: Family) -> Result<Option<f64>, Problem> {
        let _ = (stage, family);
        Ok(None)
    }

    /// Octets that its processes hold while they join ten containers.
    fn memory(&self, stage: &Stage) -> Result<Option<f64>, Problem> {
        let _ = stage;
        Ok(None)
    }
}

/// Containers that [`Peer::memory`] is about.
pub(crate) const CROWD: u8 = 10;

/// All peers, present or not.
pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(Kernel),
        Box::new(Relay),
        Box::new(Heddle),
        Box::new(Vde),
        Box::new(Ovs),
        Box::new(Pasta),
    ]
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The resident memory of processes, in octets.
fn resident(processes: &[u32]) -> Result<f64, Problem> {
    let mut octets = 0;
    for &process in processes {
        octets += heddle_sys::memory::resident(process)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let octets = octets as f64;
    Ok(octets)
}
