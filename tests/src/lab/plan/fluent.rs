//! Networks, hosts and legs, said fluently.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use heddle_nat::Filtering;
use heddle_switch::leg::PortLeg;
use heddle_switch::{Driver, GATEWAY_LINK_LOCAL, NetworkId, PortId, StaticRoute, StormControl};
use heddle_wire::MacAddr;

use super::{HostPlan, LegPlan, NetworkPlan, address, net};
use crate::lab::Name;

impl NetworkPlan {
    /// With a subnet, whose first address the gateway has; for IPv6 the link-local one as well.
    pub fn subnet(&mut self, subnet: &str) -> &mut NetworkPlan {
        let subnet = net(subnet);
        let first = subnet.hosts().find(|&host| host != subnet.network());
        let gateway = first.unwrap_or(subnet.network());
        self.gateways.push(gateway.into());
        if matches!(gateway, IpAddr::V6(_)) && !self.gateways.contains(&GATEWAY_LINK_LOCAL) {
            self.gateways.push(GATEWAY_LINK_LOCAL);
        }
        self.subnets.push(subnet);
        self
    }

    /// With packets to another network allowed.
    pub fn reaches(&mut self, other: Name) -> &mut NetworkPlan {
        self.reaches.push(other);
        self
    }

    /// With a route to addresses behind an endpoint.
    pub fn route(&mut self, destination: &str, via: &str) -> &mut NetworkPlan {
        self.routes.push(StaticRoute {
            destination: net(destination),
            via: address(via),
        });
        self
    }

    /// With a way out.
    pub fn uplink(&mut self, leg: Name) -> &mut NetworkPlan {
        self.uplink = Some(leg);
        self
    }

    /// With no way out any more.
    pub fn without_uplink(&mut self) -> &mut NetworkPlan {
        self.uplink = None;
        self
    }

    /// Routed instead of bridged.
    pub fn l3(&mut self) -> &mut NetworkPlan {
        self.driver = Driver::L3;
        self
    }

    /// With so many flooded frames a second from each port, and no more.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn storm_control(&mut self, frames: u32) -> &mut NetworkPlan {
        let rate = NonZeroU32::new(frames).expect("a test says a rate");
        self.storm_control = StormControl::frames(rate);
        self
    }

    /// With stations remembered for this long.
    pub fn ageing(&mut self, time: Duration) -> &mut NetworkPlan {
        self.ageing = time;
        self
    }

    /// With another number than the next one.
    pub fn number(&mut self, id: u16) -> &mut NetworkPlan {
        self.id = NetworkId(id);
        self
    }

    /// With another gateway MAC address.
    pub fn gateway_mac(&mut self, mac: MacAddr) -> &mut NetworkPlan {
        self.gateway_mac = mac;
        self
    }
}

impl HostPlan {
    /// With one more address.
    pub fn address(&mut self, text: &str) -> &mut HostPlan {
        self.addresses.push(address(text));
        self
    }

    /// With this MAC address.
    pub fn mac(&mut self, mac: MacAddr) -> &mut HostPlan {
        self.macs = vec![mac];
        self
    }

    /// With one more MAC address.
    pub fn other_mac(&mut self, mac: MacAddr) -> &mut HostPlan {
        self.macs.push(mac);
        self
    }

    /// Without port security.
    pub fn insecure(&mut self) -> &mut HostPlan {
        self.secure = false;
        self
    }

    /// With this MTU.
    pub fn mtu(&mut self, mtu: u16) -> &mut HostPlan {
        self.mtu = mtu;
        self
    }

    /// On a link that carries no virtio-net header.
    pub fn plain(&mut self) -> &mut HostPlan {
        self.offloads = false;
        self
    }

    /// On a link that holds so many frames in each direction.
    pub fn queue(&mut self, frames: usize) -> &mut HostPlan {
        self.queue = frames;
        self
    }

    /// With a link that only this worker reads, as it is with a packet socket. Else all do.
    pub fn read_by(&mut self, worker: usize) -> &mut HostPlan {
        self.reader = Some(worker);
        self
    }

    /// With this port number, perhaps that of a former host.
    pub fn number(&mut self, id: u16) -> &mut HostPlan {
        self.id = PortId(id);
        self
    }
}

impl LegPlan {
    /// With one more address and the prefix of its link.
    pub fn address(&mut self, prefix: &str) -> &mut LegPlan {
        self.addresses.push(net(prefix));
        self
    }

    /// With a next hop for everything beyond the link.
    pub fn gateway(&mut self, text: &str) -> &mut LegPlan {
        self.gateways.push(address(text));
        self
    }

    /// With this filtering.
    pub fn filtering(&mut self, filtering: Filtering) -> &mut LegPlan {
        self.filtering = filtering;
        self
    }

    /// With this MTU.
    pub fn mtu(&mut self, mtu: u16) -> &mut LegPlan {
        self.mtu = mtu;
        self
    }

    /// On a link that carries no virtio-net header.
    pub fn plain(&mut self) -> &mut LegPlan {
        self.offloads = false;
        self
    }

    /// On a link that holds so many frames in each direction.
    pub fn queue(&mut self, frames: usize) -> &mut LegPlan {
        self.queue = frames;
        self
    }

    /// With a link that only this worker reads, as it is with a packet socket. Else all do.
    pub fn read_by(&mut self, worker: usize) -> &mut LegPlan {
        self.reader = Some(worker);
        self
    }

    pub(super) fn build(&self) -> PortLeg {
        PortLeg {
            id: self.id,
            port: self.port,
            mac: self.mac,
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
            filtering: self.filtering,
        }
    }
}
