//! The plan that most tests use: three networks and a way out, in both families.
//!
//! ```text
//! blue   a b c    and green reach each other
//! green  d
//! red    e        is alone
//!          \ | /
//!           wan --- next hop --- server
//! ```

use heddle_switch::{NeighbourState, link_local};
use heddle_wire::builder::Link;
use heddle_wire::{Address, Arp, Family, MacAddr};

use super::{Lab, Name, Plan};

/// The next hop on the link of the leg `wan`.
pub const NEXT_HOP_MAC: MacAddr = MacAddr::new([0x02, 0x99, 0, 0, 0, 1]);

/// The addresses of the campus in one family.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// IPv4 or IPv6.
    pub family: Family,
    /// In blue.
    pub a: &'static str,
    /// In blue.
    pub b: &'static str,
    /// In blue.
    pub c: &'static str,
    /// In green.
    pub d: &'static str,
    /// In red.
    pub e: &'static str,
    /// Blue's gateway.
    pub gateway: &'static str,
    /// Green's gateway.
    pub green_gateway: &'static str,
    /// Red's gateway.
    pub red_gateway: &'static str,
    /// In blue, given to nobody.
    pub nobody: &'static str,
    /// The leg's.
    pub leg: &'static str,
    /// The next hop on the leg's link.
    pub next_hop: &'static str,
    /// Another host on the leg's link.
    pub on_link: &'static str,
    /// Far away.
    pub server: &'static str,
    /// Far away as well.
    pub other_server: &'static str,
}

/// The campus in both families.
pub const SIDES: [Side; 2] = [
    Side {
        family: Family::V4,
        a: "10.1.0.2",
        b: "10.1.0.3",
        c: "10.1.0.4",
        d: "10.2.0.2",
        e: "10.3.0.2",
        gateway: "10.1.0.1",
        green_gateway: "10.2.0.1",
        red_gateway: "10.3.0.1",
        nobody: "10.1.0.99",
        leg: "192.0.2.2",
        next_hop: "192.0.2.1",
        on_link: "192.0.2.77",
        server: "198.51.100.7",
        other_server: "203.0.113.9",
    },
    Side {
        family: Family::V6,
        a: "fd00:1::2",
        b: "fd00:1::3",
        c: "fd00:1::4",
        d: "fd00:2::2",
        e: "fd00:3::2",
        gateway: "fd00:1::1",
        green_gateway: "fd00:2::1",
        red_gateway: "fd00:3::1",
        nobody: "fd00:1::99",
        leg: "2001:db8:2::2",
        next_hop: "2001:db8:2::1",
        on_link: "2001:db8:2::77",
        server: "2001:db8:99::7",
        other_server: "2001:db8:98::9",
    },
];

/// The campus.
#[must_use]
pub fn campus() -> Lab {
    Lab::new(plan)
}

/// The campus, its next hop known in both families.
#[must_use]
pub fn campus_online() -> Lab {
    campus_online_with(|_| {})
}

/// The campus with changes, its next hop known in both families.
#[must_use]
pub fn campus_online_with(change: impl FnOnce(&mut Plan)) -> Lab {
    let mut lab = Lab::new(|it| {
        plan(it);
        change(it);
    });
    go_online(&mut lab, "a", "wan");
    lab
}

fn plan(plan: &mut Plan) {
    plan.network("blue")
        .subnet("10.1.0.0/24")
        .subnet("fd00:1::/64")
        .reaches("green")
        .uplink("wan");
    plan.network("green")
        .subnet("10.2.0.0/24")
        .subnet("fd00:2::/64")
        .reaches("blue")
        .uplink("wan");
    plan.network("red")
        .subnet("10.3.0.0/24")
        .subnet("fd00:3::/64")
        .uplink("wan");
    let hosts = |side: &Side| {
        [
            ("a", side.a),
            ("b", side.b),
            ("c", side.c),
            ("d", side.d),
            ("e", side.e),
        ]
    };
    let [v4, v6] = [hosts(&SIDES[0]), hosts(&SIDES[1])];
    for ((name, v4), (_, v6)) in v4.into_iter().zip(v6) {
        let network = match name {
            "d" => "green",
            "e" => "red",
            _ => "blue",
        };
        plan.host(name, network).address(v4).address(v6);
    }
    plan.leg("wan")
        .address("192.0.2.2/24")
        .address("2001:db8:2::2/64")
        .gateway(SIDES[0].next_hop)
        .gateway(SIDES[1].next_hop);
}

/// Has a host send something out, lets the next hop be asked for and answer, and forgets the session.
pub fn go_online(lab: &mut Lab, host: Name, wan: Name) {
    for side in &SIDES {
        let source = address_of(lab, host, side.family);
        // Ports that no test uses: they rest afterwards.
        let out = lab
            .to_gateway(host)
            .ip(source, side.server.parse::<Address>().expect("is one"));
        let frame = out.udp(9, 9, b"");
        let question = side.question(lab.mac(wan), side.leg, side.next_hop);
        lab.send(host, &frame)
            .holds(1)
            .neighbour(wan, side.next_hop, None, NeighbourState::Incomplete)
            .arrives(wan, &question);
        let translated = Link::new(lab.mac(wan), NEXT_HOP_MAC).ip(side.leg, side.server);
        lab.send(
            wan,
            &side.answer(NEXT_HOP_MAC, lab.mac(wan), side.next_hop, side.leg),
        )
        .holds(-1)
        .neighbour(
            wan,
            side.next_hop,
            Some(NEXT_HOP_MAC),
            NeighbourState::Reachable,
        )
        .arrives(wan, &translated.hop_limit(63).udp(9, 9, b""))
        .opens(1)
        .mappings(1);
    }
    lab.end_sessions();
}

fn address_of(lab: &Lab, host: Name, family: Family) -> Address {
    let addresses = lab.plan().addresses(host).iter().copied();
    addresses
        .into_iter()
        .find(|address| address.family() == family)
        .expect("a host of the campus has both families")
}

impl Side {
    /// The question that a leg with MAC address `mac` and address `own` asks for `wanted`.
    #[must_use]
    pub fn question(&self, mac: MacAddr, own: &str, wanted: &str) -> Vec<u8> {
        let wanted: Address = wanted.parse().expect("a test names addresses");
        match self.family {
            Family::V4 => Link::new(mac, MacAddr::BROADCAST).arp(&arp(
                Arp::REQUEST,
                (mac, own),
                (MacAddr::ZERO, &wanted.to_string()),
            )),
            Family::V6 => {
                let [.., x, y, z] = wanted.bits().to_be_bytes();
                let group = Address::from_bits(
                    0xff02_u128 << 112 | 0x1_ff00_0000 | wanted.bits() & 0xff_ffff,
                );
                let group_mac = MacAddr::new([0x33, 0x33, 0xff, x, y, z]);
                Link::new(mac, group_mac).neighbour_solicitation(link_local(mac), group, wanted)
            }
        }
    }

    /// The same question to the one that had the address.
    #[must_use]
    pub fn probe(&self, mac: MacAddr, own: &str, had: MacAddr, wanted: &str) -> Vec<u8> {
        let link = Link::new(mac, had);
        match self.family {
            Family::V4 => link.arp(&arp(Arp::REQUEST, (mac, own), (MacAddr::ZERO, wanted))),
            Family::V6 => {
                let wanted: Address = wanted.parse().expect("a test names addresses");
                link.neighbour_solicitation(link_local(mac), wanted, wanted)
            }
        }
    }

    /// What the station `mac` with the address `own` answers to the one with MAC address `asker` and
    /// the address `to`; over IPv6 the answer goes to its link-local one.
    #[must_use]
    pub fn answer(&self, mac: MacAddr, asker: MacAddr, own: &str, to: &str) -> Vec<u8> {
        let link = Link::new(mac, asker);
        match self.family {
            Family::V4 => link.arp(&arp(Arp::REPLY, (mac, own), (asker, to))),
            Family::V6 => {
                let own: Address = own.parse().expect("a test names addresses");
                link.neighbour_advertisement(own, link_local(asker), own, 0x6000_0000)
            }
        }
    }

    /// An ICMP error.
    #[must_use]
    pub fn told(&self, link: &Link, from: &str, to: &str, told: Told, about: &[u8]) -> Vec<u8> {
        let (kind, code, word) = told.message(self.family);
        link.ip(from, to).id(0).icmp_error(kind, code, word, about)
    }

    /// The kinds of an echo request and its reply.
    #[must_use]
    pub fn echo(&self) -> (u8, u8) {
        match self.family {
            Family::V4 => (8, 0),
            Family::V6 => (128, 129),
        }
    }
}

/// An ARP message: operation, sender, target.
fn arp(operation: u16, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Arp {
    let address = |text: &str| text.parse().expect("ARP is about IPv4");
    Arp {
        operation,
        sender_mac: sender.0,
        sender: address(sender.1),
        target_mac: target.0,
        target: address(target.1),
    }
}

/// ICMP errors in the terms of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The hop limit was used up.
    TimeExceeded,
    /// The other fragments did not come in time.
    ReassemblyTimeExceeded,
    /// No route.
    NetworkUnreachable,
    /// Nobody there.
    HostUnreachable,
    /// Not permitted.
    Prohibited,
    /// Nothing listens.
    PortUnreachable,
    /// Unknown protocol; for IPv6 at this offset.
    ProtocolUnreachable(u32),
    /// Longer than this MTU.
    TooBig(u32),
}

impl Told {
    /// Kind, code and the word behind the checksum (RFC 792, RFC 1191, RFC 1812 §5.2.7.1; RFC 4443 §3).
    #[must_use]
    pub fn message(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Told::TimeExceeded, Family::V4) => (11, 0, 0),
            (Told::TimeExceeded, Family::V6) => (3, 0, 0),
            (Told::ReassemblyTimeExceeded, Family::V4) => (11, 1, 0),
            (Told::ReassemblyTimeExceeded, Family::V6) => (3, 1, 0),
            (Told::NetworkUnreachable, Family::V4) => (3, 0, 0),
            (Told::NetworkUnreachable, Family::V6) => (1, 0, 0),
            (Told::HostUnreachable, Family::V4) => (3, 1, 0),
            (Told::HostUnreachable, Family::V6) => (1, 3, 0),
            (Told::Prohibited, Family::V4) => (3, 13, 0),
            (Told::Prohibited, Family::V6) => (1, 1, 0),
            (Told::PortUnreachable, Family::V4) => (3, 3, 0),
            (Told::PortUnreachable, Family::V6) => (1, 4, 0),
            (Told::ProtocolUnreachable(_), Family::V4) => (3, 2, 0),
            (Told::ProtocolUnreachable(pointer), Family::V6) => (4, 1, pointer),
            (Told::TooBig(mtu), Family::V4) => (3, 4, mtu),
            (Told::TooBig(mtu), Family::V6) => (2, 0, mtu),
        }
    }
}
