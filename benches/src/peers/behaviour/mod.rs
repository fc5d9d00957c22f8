//! The row "NAT behaviour": what a translator does, by packets that are sent to it and what comes of
//! them. In the words of RFC 4787, looked at from outside as RFC 5780 does, and from inside as well.
//!
//! [`scene`] says how one can be sure that nothing came, [`probe`] holds what is looked at.

mod connection;
mod heard;
mod medium;
mod places;
mod probe;
mod scene;
mod section;
mod verdict;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wrong;

use heddle_wire::Family;
use serde::Serialize;

use crate::peer::Peer;
use crate::problem::Problem;
use crate::stage::Stage;

pub(crate) use medium::{Arrangement, Flow, Translator};
pub(crate) use places::{OUTSIDE_MTU, PUBLISHED, Station};
pub(crate) use section::markdown;

use medium::{Medium, Wires};
use probe::Probe;
use scene::Scene;
use verdict::Verdict;

/// What the row is called on the command line.
pub(crate) const NAME: &str = "behaviour";

/// What it is.
pub(crate) const WHAT: &str = "NAT behaviour";

/// What one probe found of one peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    probe: &'static str,
    shows: &'static str,
    asked_by: &'static str,
    pub(crate) peer: &'static str,
    family: &'static str,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Finding {
    /// Whether the peer fails.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_))
    }
}

/// Looks at a peer in both families; nothing if it is no translator.
pub(crate) fn look(stage: &Stage, peer: &dyn Peer, slow: bool) -> Result<Vec<Finding>, Problem> {
    let Some(arrangement) = peer.arrange(stage)? else {
        return Ok(Vec::new());
    };
    let mut wires = Wires::new(arrangement)?;
    let slow = if slow { probe::SLOW } else { &[] };
    let probes: Vec<&Probe> = probe::all().chain(slow).collect();
    look_at(&mut wires, peer.name(), &probes)
}

fn look_at(
    medium: &mut dyn Medium,
    peer: &'static str,
    probes: &[&'static Probe],
) -> Result<Vec<Finding>, Problem> {
    let mut findings = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut scene = Scene::new(medium, family)?;
        for probe in probes {
            // What the one before has done to the peer is none of this one's business.
            let fresh = scene.freshen();
            let verdict = match fresh.and_then(|()| (probe.look)(&mut scene)) {
                Ok(verdict) => verdict,
                Err(problem) => Verdict::Fail(problem.to_string()),
            };
            findings.push(Finding {
                probe: probe.name,
                shows: probe.shows,
                asked_by: probe.asked_by,
                peer,
                family: family_name(family),
                verdict,
            });
        }
    }
    Ok(findings)
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
