//! Routes of the main table.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlasIterator, ParseableParametrized};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage,
    RouteNextHop, RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::address::family_of;
use super::{Failure, Netlink, NetlinkError};

/// Bytes of `struct rtmsg`.
const HEADER_LENGTH: usize = 12;

// Attributes of `linux/rtnetlink.h` that are wanted.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;

/// A route: to be made, to be removed, or as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first address of the destination; with `prefix_len` 0 the default route of its family.
    pub destination: IpAddr,
    /// How many leading bits are the destination's.
    pub prefix_len: u8,
    /// The next router. An IPv6 router for an IPv4 destination is allowed.
    pub gateway: Option<IpAddr>,
    /// The number of the interface.
    pub interface: Option<u32>,
    /// Whether the gateway is reachable through the interface although no subnet says so.
    pub onlink: bool,
    /// The lower, the better. `None` for the kernel's default: 0 for IPv4, 1024 for IPv6.
    pub metric: Option<u32>,
    /// The address to send from.
    pub source: Option<IpAddr>,
    /// What becomes of the packets.
    pub kind: RouteKind,
}

/// What a route does with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends them on.
    #[default]
    Unicast,
    /// Drops them without a word.
    Blackhole,
    /// Answers that the destination is unreachable.
    Unreachable,
    /// Answers that it is forbidden.
    Prohibit,
    /// Anything else, by the kernel's number (`RTN_*`).
    Other(u8),
}

impl Route {
    /// A route to a destination through an interface, to be completed.
    #[must_use]
    pub fn to(destination: IpAddr, prefix_len: u8) -> Self {
        Self {
            destination,
            prefix_len,
            gateway: None,
            interface: None,
            onlink: false,
            metric: None,
            source: None,
            kind: RouteKind::Unicast,
        }
    }

    fn message(&self) -> RouteMessage {
        let Self {
            destination,
            prefix_len,
            gateway,
            interface,
            onlink,
            metric,
            source,
            kind,
        } = *self;
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(destination);
        message.header.destination_prefix_length = prefix_len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = kind.into();
        // IPv6 has no scopes of this kind and takes any.
        message.header.scope =
            if gateway.is_none() && kind == RouteKind::Unicast && destination.is_ipv4() {
                RouteScope::Link
            } else {
                RouteScope::Universe
            };
        message.header.flags.set(RouteFlags::Onlink, onlink);
        let gateway = gateway.map(|gateway| match (destination, gateway) {
            (IpAddr::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            (_, gateway) => RouteAttribute::Gateway(gateway.into()),
        });
        message.attributes.extend(
            [
                (prefix_len > 0).then(|| RouteAttribute::Destination(destination.into())),
                gateway,
                interface.map(RouteAttribute::Oif),
                metric.map(RouteAttribute::Priority),
                source.map(|source| RouteAttribute::PrefSource(source.into())),
            ]
            .into_iter()
            .flatten(),
        );
        message
    }
}

/// As `ip route` shows it, without the interface's name.
impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => formatter.write_str("blackhole ")?,
            RouteKind::Unreachable => formatter.write_str("unreachable ")?,
            RouteKind::Prohibit => formatter.write_str("prohibit ")?,
            RouteKind::Other(number) => write!(formatter, "type {number} ")?,
        }
        if self.prefix_len == 0 {
            let family = if self.destination.is_ipv4() {
                "IPv4"
            } else {
                "IPv6"
            };
            write!(formatter, "default ({family})")?;
        } else {
            write!(formatter, "{}/{}", self.destination, self.prefix_len)?;
        }
        if let Some(gateway) = self.gateway {
            write!(formatter, " via {gateway}")?;
        }
        Ok(())
    }
}

impl From<RouteKind> for RouteType {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Unicast => Self::Unicast,
            RouteKind::Blackhole => Self::BlackHole,
            RouteKind::Unreachable => Self::Unreachable,
            RouteKind::Prohibit => Self::Prohibit,
            RouteKind::Other(number) => Self::from(number),
        }
    }
}

impl From<RouteType> for RouteKind {
    fn from(kind: RouteType) -> Self {
        match kind {
            RouteType::Unicast => Self::Unicast,
            RouteType::BlackHole => Self::Blackhole,
            RouteType::Unreachable => Self::Unreachable,
            RouteType::Prohibit => Self::Prohibit,
            other => Self::Other(other.into()),
        }
    }
}

impl Netlink {
    /// Adds a route to the main table. One to the same destination with the same metric must not
    /// exist.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route.message());
        let result = self.execute(message, NLM_F_CREATE | NLM_F_EXCL);
        result.map_err(|failure| {
            let on = self.on_interface(route);
            failure.during(format!("adding the route {route}{on}"))
        })
    }

    /// Removes a route from the main table: the first one that has everything that is given here.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let mut message = route.message();
        // Whoever made it, and with whichever scope.
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        let result = self.execute(RouteNetlinkMessage::DelRoute(message), 0);
        result.map_err(|failure| {
            let on = self.on_interface(route);
            failure.during(format!("removing the route {route}{on}"))
        })
    }

    /// The routes of the main table, IPv4 first. One with several next hops comes once for each.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            match self.dump(&RouteNetlinkMessage::GetRoute(message), decode) {
                Ok(found) => routes.extend(found),
                // A kernel without IPv6 has no routes of it.
                Err(Failure::Refused {
                    errno: libc::EOPNOTSUPP | libc::EAFNOSUPPORT,
                    ..
                }) => {}
                Err(failure) => return Err(failure.during("listing routes")),
            }
        }
        Ok(routes)
    }

    fn on_interface(&mut self, route: &Route) -> String {
        route
            .interface
            .map(|index| format!(" on {}", self.name_of(index)))
            .unwrap_or_default()
    }
}

fn decode(kind: u16, payload: &[u8], routes: &mut Vec<Route>) -> Result<(), Failure> {
    if kind != libc::RTM_NEWROUTE {
        return Ok(());
    }
    let header = RouteHeader::parse(payload)?;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(()),
    };
    let mut route = Route::to(any, header.destination_prefix_length);
    route.kind = header.kind.into();
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    let mut table = u32::from(header.table);
    let mut hops: Vec<RouteNextHop> = Vec::new();
    const WANTED: [u16; 8] = [
        RTA_DST,
        RTA_OIF,
        RTA_GATEWAY,
        RTA_PRIORITY,
        RTA_PREFSRC,
        RTA_MULTIPATH,
        RTA_TABLE,
        RTA_VIA,
    ];
    for attribute in NlasIterator::new(&payload[HEADER_LENGTH..]) {
        let attribute = attribute?;
        if !WANTED.contains(&attribute.kind()) {
            continue;
        }
        let parameters = (header.address_family, header.kind, RouteLwEnCapType::None);
        match RouteAttribute::parse_with_param(&attribute, parameters)? {
            RouteAttribute::Destination(address) => {
                route.destination = ip_of(&address).unwrap_or(any);
            }
            RouteAttribute::Table(number) => table = number,
            RouteAttribute::MultiPath(found) => hops = found,
            other => apply(&mut route, &other),
        }
    }
    // A kernel that does not know strict checking sends every table.
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.flags.contains(RouteFlags::Cloned) {
        return Ok(());
    }
    if hops.is_empty() {
        routes.push(route);
        return Ok(());
    }
    for hop in hops {
        let mut route = route.clone();
        route.interface = Some(hop.interface_index);
        route.onlink = hop.flags.contains(RouteNextHopFlags::Onlink);
        for attribute in &hop.attributes {
            apply(&mut route, attribute);
        }
        routes.push(route);
    }
    Ok(())
}

/// Takes over an attribute that a route and a next hop may have.
fn apply(route: &mut Route, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Oif(index) => route.interface = Some(*index),
        RouteAttribute::Gateway(address) => route.gateway = ip_of(address),
        RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet(address)) => route.gateway = Some((*address).into()),
        RouteAttribute::Priority(metric) => route.metric = Some(*metric),
        RouteAttribute::PrefSource(address) => route.source = ip_of(address),
        _ => {}
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_shown_as_the_user_knows_them() {
        let mut route = Route::to("10.0.0.0".parse().unwrap(), 8);
        assert_eq!(route.to_string(), "10.0.0.0/8");
        route.kind = RouteKind::Blackhole;
        assert_eq!(route.to_string(), "blackhole 10.0.0.0/8");
        let mut route = Route::to("::".parse().unwrap(), 0);
        route.gateway = Some("fe80::1".parse().unwrap());
        assert_eq!(route.to_string(), "default (IPv6) via fe80::1");
    }

    #[test]
    fn kinds_survive_the_way_to_the_kernel_and_back() {
        for kind in [
            RouteKind::Unicast,
            RouteKind::Blackhole,
            RouteKind::Unreachable,
            RouteKind::Prohibit,
            RouteKind::Other(2),
            RouteKind::Other(200),
        ] {
            assert_eq!(RouteKind::from(RouteType::from(kind)), kind);
        }
    }

    #[test]
    fn the_main_table_can_be_listed() {
        // What is in it depends on the host; local routes would mean the wrong table.
        let routes = Netlink::open().unwrap().routes().unwrap();
        assert!(
            routes.iter().all(|route| route.kind != RouteKind::Other(2)),
            "{routes:?}"
        );
    }
}
