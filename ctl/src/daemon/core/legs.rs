//! Legs: opened when the first network goes out that way, closed after the last.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use heddle_ipam::NetworkIdentity;
use heddle_switch::endpoint::Endpoint as Link;
use heddle_switch::leg::PortLeg;
use heddle_switch::{LegId, Port, PortId, Role};
use heddle_wire::{Address, MacAddr};
use ipnet::IpNet;

use super::{Core, Leg, lowest_free};
use crate::api::{
    ApiError, CallerSandbox, EndpointKind, ErrorCode, Filtering, Name, Plan, Uplink, UplinkSpec,
};
use crate::plumb::Job;

/// Legs at most: a session has one octet for the zone its packets arrive in, and zero is inside.
const LAST_LEG: u16 = 253;

/// What makes two networks go out by the same leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct LegKey {
    pub(in crate::daemon) kind: UplinkSpec,
    addresses: BTreeSet<IpNet>,
}

/// The same text after every restart.
impl fmt::Display for LegKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind)?;
        self.addresses
            .iter()
            .try_for_each(|address| write!(formatter, "/{address}"))
    }
}

impl LegKey {
    fn of(uplink: &Uplink) -> LegKey {
        LegKey {
            kind: uplink.kind.clone(),
            addresses: uplink.addresses.iter().copied().collect(),
        }
    }
}

/// A leg that is to be opened for a network.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct OpenLeg {
    pub(in crate::daemon) id: LegId,
    pub(in crate::daemon) number: PortId,
    pub(in crate::daemon) key: LegKey,
    pub(in crate::daemon) mac: MacAddr,
    uplink: Uplink,
    mtu: u16,
}

/// How a leg is opened, from nothing but the request: the command line must come to the same answer
/// if it opens the leg in the daemon's stead.
pub(crate) fn leg_job(
    network: &Name,
    uplink: &Uplink,
    mtu: u16,
    queues: u16,
    kind: EndpointKind,
) -> Option<Job> {
    match &uplink.kind {
        UplinkSpec::None => None,
        UplinkSpec::Packet(interface) => Some(Job::Packet {
            interface: interface.clone(),
        }),
        UplinkSpec::Netns(path) => Some(Job::Interface {
            sandbox: CallerSandbox::Path(path.clone()),
            plan: Plan {
                interface: leg_interface(network),
                kind,
                queues,
                mac: far_mac(uplink),
                mtu,
                addresses: far_addresses(uplink),
                routes: Vec::new(),
                no_arp: false,
            },
        }),
    }
}

/// Name of the interface at a leg's far end.
fn leg_interface(network: &Name) -> String {
    let name: String = network.as_str().chars().take(12).collect();
    format!("hd-{name}")
}

/// The next hops are the far end's own addresses: it is the router of its namespace.
fn far_addresses(uplink: &Uplink) -> Vec<IpNet> {
    uplink
        .gateways
        .iter()
        .filter_map(|gateway| {
            let link = uplink.addresses.iter().find(|own| own.contains(gateway))?;
            IpNet::new(*gateway, link.prefix_len()).ok()
        })
        .collect()
}

/// The MAC address of the far end of a leg, the same after every restart. The address it stands for
/// tells it from other far ends on one segment.
fn far_mac(uplink: &Uplink) -> MacAddr {
    let id = format!("far/{}", LegKey::of(uplink));
    NetworkIdentity {
        name: String::new(),
        id,
        key: [0; 16],
    }
    .gateway_mac()
}

impl Core {
    /// The leg that an uplink goes by, if it is open.
    pub(in crate::daemon) fn leg_of(&self, uplink: &Uplink) -> Option<LegId> {
        let key = LegKey::of(uplink);
        self.legs
            .iter()
            .find(|(_, leg)| leg.key == key)
            .map(|(&id, _)| id)
    }

    /// An uplink of this kind that a network has already.
    pub(super) fn uplink_of_kind(&self, kind: &UplinkSpec) -> Option<Uplink> {
        let uplinks = self.networks.values().map(|network| &network.record.uplink);
        uplinks
            .into_iter()
            .find(|uplink| uplink.kind == *kind)
            .cloned()
    }

    /// The uplink of a network that goes out by the same leg as `uplink` would.
    pub(super) fn uplink_like(&self, uplink: &Uplink) -> Option<Uplink> {
        let key = LegKey::of(uplink);
        let uplinks = self.networks.values().map(|network| &network.record.uplink);
        uplinks
            .into_iter()
            .find(|other| LegKey::of(other) == key)
            .cloned()
    }

    /// Whether a network has a way out.
    pub(in crate::daemon) fn has_uplink(&self, network: &Name) -> bool {
        self.network(network)
            .is_ok_and(|network| network.record.uplink.kind != UplinkSpec::None)
    }

    /// Whether any network goes out by a leg.
    pub(super) fn uses_leg(&self, id: LegId) -> bool {
        self.networks
            .values()
            .any(|network| network.leg == Some(id))
    }

    /// Settles the numbers of a leg to be opened for `network`.
    pub(in crate::daemon) fn plan_leg(
        &mut self,
        uplink: &Uplink,
        mtu: u16,
    ) -> Result<OpenLeg, ApiError> {
        self.require_descriptors()?;
        let legs = self.legs.keys().chain(self.planned_legs.keys());
        let id = lowest_free(&legs.map(|id| id.0).collect(), LAST_LEG)
            .map(LegId)
            .ok_or_else(|| ApiError::new(ErrorCode::TooMany, "there are too many uplinks"))?;
        let number = self.free_port_number()?;
        self.planned_legs.insert(id, number);
        Ok(OpenLeg {
            id,
            number,
            key: LegKey::of(uplink),
            mac: NetworkIdentity {
                name: String::new(),
                id: format!("near/{}", LegKey::of(uplink)),
                key: self.installation.key,
            }
            .gateway_mac(),
            uplink: uplink.clone(),
            mtu,
        })
    }

    /// Gives up a leg that could not be opened.
    pub(in crate::daemon) fn abandon_leg(&mut self, id: LegId) {
        self.planned_legs.remove(&id);
    }

    /// Takes up a leg whose link is open.
    pub(in crate::daemon) fn add_leg(&mut self, open: OpenLeg, link: Link) -> Result<(), ApiError> {
        let OpenLeg {
            id,
            number,
            key,
            mac,
            uplink,
            mtu,
        } = open;
        let config = Arc::new(PortLeg {
            id,
            port: number,
            mac,
            addresses: uplink.addresses.clone(),
            gateways: uplink.gateways.iter().copied().map(Address::from).collect(),
            filtering: match uplink.filtering {
                Filtering::Endpoint => heddle_nat::Filtering::Endpoint,
                Filtering::Address => heddle_nat::Filtering::Address,
                Filtering::AddressPort => heddle_nat::Filtering::AddressPort,
            },
        });
        let workers = self.switch.workers();
        let name = uplink.kind.to_string();
        let port = Arc::new(Port::new(number, name, Role::Leg(id), mtu, link, workers));
        self.legs.insert(
            id,
            Leg {
                key,
                number,
                port: Some(port),
                config,
            },
        );
        self.planned_legs.remove(&id);
        if let Err(error) = self.publish() {
            self.legs.remove(&id);
            self.publish_former();
            return Err(error);
        }
        Ok(())
    }

    /// Takes a leg that nobody uses out of the configuration; its port is to be dropped by the caller, where
    /// closing may take its time.
    pub(in crate::daemon) fn remove_leg(&mut self, id: LegId) -> Option<Arc<Port>> {
        if self.uses_leg(id) {
            return None;
        }
        let removed = self.legs.remove(&id)?;
        // The configuration without it is as sound as the one with it was.
        let _ = self.publish();
        removed.port
    }

    /// Legs whose interface is gone.
    pub(in crate::daemon) fn gone_legs(&self) -> Vec<LegId> {
        let is_gone = |leg: &Leg| leg.port.as_ref().is_some_and(|port| port.is_gone());
        self.legs
            .iter()
            .filter(|(_, leg)| is_gone(leg))
            .map(|(&id, _)| id)
            .collect()
    }

    /// The way out of all networks that use a leg does not work any more.
    pub(in crate::daemon) fn leg_failed(&mut self, id: LegId) -> Option<Arc<Port>> {
        for network in self
            .networks
            .values_mut()
            .filter(|network| network.leg == Some(id))
        {
            network.leg = None;
            network.leg_fault = Some("its interface is gone".to_owned());
        }
        self.remove_leg(id)
    }
}
