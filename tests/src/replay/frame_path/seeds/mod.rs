//! Inputs that were made by hand, each under the name of what it shows: every reason for a drop has
//! one, and so has every way of a TCP connection. They are the beginning of the corpus.

mod filter;
mod fragments;
mod malformed;
mod policy;
mod state;

use heddle_wire::builder::{Link, Packet};
use heddle_wire::{Address, Family, MacAddr, VnetHeader};

use super::action::Action;
use super::place;

/// A name and what happens.
type Seed = (String, Vec<Action>);

/// Ports by name.
const A: u8 = 0;
const B: u8 = 1;
const C: u8 = 2;
const D: u8 = 3;
const E: u8 = 4;
const F: u8 = 5;
const G: u8 = 6;
const WAN: u8 = 7;

/// All of them, as inputs of [`frame_path`](super::frame_path).
#[must_use]
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let all = [
        malformed::seeds(),
        policy::seeds(),
        filter::seeds(),
        state::seeds(),
        fragments::seeds(),
    ];
    all.into_iter()
        .flatten()
        .map(|(name, actions)| (name, Action::bytes(&actions)))
        .collect()
}

fn seed(name: &str, actions: Vec<Action>) -> Seed {
    (name.to_owned(), actions)
}

/// A finished frame comes in.
fn raw(port: u8, frame: &[u8]) -> Action {
    raw_with(port, &VnetHeader::NONE, frame)
}

fn raw_with(port: u8, header: &VnetHeader, frame: &[u8]) -> Action {
    Action::Raw(port, [&header.emit(), frame].concat())
}

/// From whoever is at a port to its gateway, or to the leg.
fn link(port: u8) -> Link {
    let port = usize::from(port);
    Link::new(place::own_mac(port), place::peer_mac(port))
}

/// From whoever is at a port to another station.
fn link_to(port: u8, to: MacAddr) -> Link {
    Link::new(place::own_mac(usize::from(port)), to)
}

fn own(port: u8, family: Family) -> Address {
    place::sender_place(0, usize::from(port), family)
}

/// A packet from whoever is at a port.
fn from(port: u8, to: &str) -> Packet {
    let to = place::address(to);
    link(port).ip(own(port, to.family()), to)
}

/// Servers outside, and one's address inside.
const SERVERS: [&str; 2] = ["198.51.100.7", "2001:db8:99::7"];
