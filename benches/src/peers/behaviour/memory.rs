//! heddle in memory, with a clock that nobody has to wait for.

use std::collections::VecDeque;
use std::time::Duration;

use heddle_nat::Direction;
use heddle_tests::lab::Lab;
use heddle_wire::{Address, Family, MacAddr, Protocol, VnetHeader};

use super::medium::{Flow, Medium};
use super::places::{OUTSIDE_MTU, PUBLISHED, Station, gateway, outside};
use crate::ground::INSIDE;
use crate::problem::Problem;

/// How far time jumps where nothing happens.
const JUMP: Duration = Duration::from_secs(1);

/// The next hop's Ethernet address.
const NEXT_HOP: MacAddr = MacAddr::new([0x02, 0x99, 0, 0, 0, 1]);

const NAMES: [&str; 4] = ["a", "b", "c", "wan"];

/// The switch of a lab.
pub(super) struct InMemory {
    lab: Lab,
    waiting: VecDeque<(Station, Vec<u8>)>,
}

impl InMemory {
    pub(super) fn new() -> InMemory {
        let text = |address: Address| address.to_ip().to_string();
        let lab = Lab::new(|plan| {
            let network = plan.network("lab");
            for subnet in INSIDE {
                network.subnet(subnet);
            }
            network.uplink("wan");
            for (name, station) in NAMES.into_iter().zip(Station::INSIDE) {
                let host = plan.host(name, "lab");
                for address in station.addresses() {
                    host.address(&address.to_string());
                }
            }
            let leg = plan.leg("wan").mtu(OUTSIDE_MTU);
            for (family, prefix) in [(Family::V4, 24), (Family::V6, 64)] {
                leg.address(&format!("{}/{prefix}", text(outside(family))));
                leg.gateway(&text(Station::Outside.address(family)));
            }
            for family in [Family::V4, Family::V6] {
                let (from, to) = (text(outside(family)), text(Station::A.address(family)));
                plan.publish("wan", Protocol::UDP, (&from, PUBLISHED), (&to, PUBLISHED));
            }
        });
        let gateways = lab.plan().gateways("lab");
        assert!(
            gateways.contains(&gateway(Family::V4).to_ip()),
            "{gateways:?}"
        );
        InMemory {
            lab,
            waiting: VecDeque::new(),
        }
    }

    fn collect(&mut self) {
        for (station, name) in Station::ALL.into_iter().zip(NAMES) {
            let frames = self.lab.drain(name).into_iter();
            self.waiting.extend(frames.map(|frame| (station, frame)));
        }
    }
}

impl Medium for InMemory {
    fn send(&mut self, from: Station, frame: &[u8]) -> Result<(), Problem> {
        let bytes = [&VnetHeader::NONE.emit(), frame].concat();
        let peer = self.lab.peer(NAMES[from.index()]);
        peer.send(&bytes).map_err(|_| "a link is full")?;
        self.lab.pass(Duration::ZERO);
        self.collect();
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<(Station, Vec<u8>)>, Problem> {
        if self.waiting.is_empty() {
            self.lab.pass(patience.min(JUMP));
            self.collect();
        }
        Ok(self.waiting.pop_front())
    }

    fn mac(&self, station: Station) -> MacAddr {
        match station {
            Station::Outside => NEXT_HOP,
            host => self.lab.mac(NAMES[host.index()]),
        }
    }

    fn remembers(&mut self, flow: &Flow) -> Result<Option<Duration>, Problem> {
        let (mut found, now) = (None, self.lab.now());
        self.lab.switch().nat().for_each(|session| {
            let original = session.tuple(Direction::Original);
            let is_it = (original.protocol, original.source, original.source_port)
                == (flow.protocol, flow.source, flow.port);
            if is_it {
                found = Some(session.deadline(now) - now);
            }
        });
        Ok(found)
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.lab.now().as_micros())
    }
}
