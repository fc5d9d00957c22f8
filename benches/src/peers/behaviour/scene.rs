//! The stations as one program plays them: what a probe sends, and what comes of it.
//!
//! # Theory of operation
//!
//! **Nothing came** is proven by what is sent afterwards: behind the frames in question goes a *marker*
//! from the same station, one that any translator lets pass to where the probe listens. When it has
//! arrived and what was sent before has not, that is not going to come. So nobody waits for luck, and a
//! peer that carries nothing any more is no peer that filters well.
//!
//! Stations answer whoever asks for their Ethernet addresses (RFC 826, RFC 4861 §7.2) and say nothing
//! else of their own accord.

use std::collections::VecDeque;
use std::time::Duration;

use heddle_wire::builder::{Link, Packet};
use heddle_wire::{Address, Arp, EtherType, Family, MacAddr, Network, Protocol, Transport, icmp};

use super::heard::Heard;
use super::medium::{Flow, Medium};
use super::places::{Station, gateway, marker_server, outside};
use crate::job::PATIENCE;
use crate::problem::Problem;

/// The first port that a probe uses; above all published ones, below the dynamic ones of Linux.
const FIRST_PORT: u16 = 10_000;

/// The hosts' ports for markers, which even a translator that confuses hosts can tell apart, and the
/// port of their server.
const MARKER_PORTS: [u16; 3] = [9_991, 9_992, 9_993];
const MARKER_SERVER_PORT: u16 = 9;

/// What markers begin with.
const MARK: &[u8; 8] = b"marker::";

/// How long a question for an Ethernet address may go unanswered before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The stations in front of one translator, in one family.
pub(crate) struct Scene<'a> {
    pub(super) family: Family,
    medium: &'a mut dyn Medium,
    inbox: [VecDeque<Heard>; 4],
    /// Whom the hosts inside and the outside give their packets to.
    routers: [MacAddr; 2],
    next_port: u16,
    next_marker: u64,
    /// Where the hosts' markers come from, as the outside sees it.
    marker_ports: [u16; 3],
}

impl<'a> Scene<'a> {
    /// Finds the translator on both sides, and proves that it lets packets out and answers in.
    pub(crate) fn new(medium: &'a mut dyn Medium, family: Family) -> Result<Scene<'a>, Problem> {
        let mut scene = Scene {
            family,
            medium,
            inbox: Default::default(),
            routers: [MacAddr::BROADCAST; 2],
            next_port: FIRST_PORT,
            next_marker: 0,
            marker_ports: [0; 3],
        };
        scene.routers = [
            scene.ask(Station::A, gateway(family))?,
            scene.ask(Station::Outside, outside(family))?,
        ];
        scene.freshen()?;
        Ok(scene)
    }

    /// Has every host send a marker out: their mappings live, and the translator does.
    pub(super) fn freshen(&mut self) -> Result<(), Problem> {
        for station in Station::INSIDE {
            let place = station.index();
            let token = self.send_marker(station, Station::Outside)?;
            let heard = self.await_marker(Station::Outside, token)?;
            self.marker_ports[place] = heard.ports().ok_or("a marker is damaged")?.0;
        }
        Ok(())
    }

    /// A port that no probe has used.
    pub(super) fn port(&mut self) -> u16 {
        self.ports(1)
    }

    /// The first of some.
    pub(super) fn ports(&mut self, count: u16) -> u16 {
        let first = self.next_port;
        self.next_port += count;
        first
    }

    /// Lets time pass, still answering questions.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), Problem> {
        let end = self.medium.now() + time;
        loop {
            let now = self.medium.now();
            if now >= end {
                return Ok(());
            }
            self.take(end - now)?;
        }
    }

    /// For how long the translator would remember a flow of host A.
    pub(super) fn remembers(
        &mut self,
        protocol: Protocol,
        port: u16,
    ) -> Result<Option<Duration>, Problem> {
        let source = Station::A.address(self.family);
        self.medium.remembers(&Flow {
            protocol,
            source,
            port,
        })
    }

    pub(super) fn mac(&self, station: Station) -> MacAddr {
        self.medium.mac(station)
    }

    /// From one station straight to another one's Ethernet address.
    pub(super) fn direct(&self, from: Station, to: Station) -> Link {
        Link::new(self.mac(from), self.mac(to))
    }

    /// From a station to the translator.
    pub(super) fn to_router(&self, from: Station) -> Link {
        let router = self.routers[usize::from(from == Station::Outside)];
        Link::new(self.mac(from), router)
    }

    /// A packet from a host inside to somebody outside.
    pub(super) fn outward(&self, from: Station, to: Address) -> Packet {
        self.to_router(from).ip(from.address(self.family), to)
    }

    /// A packet from somebody outside to the translator's outside address.
    pub(super) fn inward(&self, from: Address) -> Packet {
        let to = outside(self.family);
        self.to_router(Station::Outside).ip(from, to)
    }

    /// Sends a packet from a host to somebody outside; as it is heard there.
    pub(super) fn send_out(
        &mut self,
        from: Station,
        to: Address,
        make: impl Fn(&Packet) -> Vec<u8>,
    ) -> Result<Option<Heard>, Problem> {
        let frame = make(&self.outward(from, to));
        let own = outside(self.family);
        self.hear((from, Station::Outside), &[frame], |heard| {
            (heard.ip().is_some() && heard.is_between(own, to)).then(|| heard.clone())
        })
    }

    /// Sends a packet from somebody outside to the outside address; as a host hears it.
    pub(super) fn send_in(
        &mut self,
        from: Address,
        to: Station,
        make: impl Fn(&Packet) -> Vec<u8>,
    ) -> Result<Option<Heard>, Problem> {
        let frame = make(&self.inward(from));
        let own = to.address(self.family);
        self.hear((Station::Outside, to), &[frame], |heard| {
            (heard.ip().is_some() && heard.is_between(from, own)).then(|| heard.clone())
        })
    }

    /// Sends frames from one station and listens at another until `is_it` has found what it looks for,
    /// or that cannot come any more.
    pub(super) fn hear<T>(
        &mut self,
        (from, at): (Station, Station),
        frames: &[Vec<u8>],
        mut is_it: impl FnMut(&Heard) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.clear()?;
        for frame in frames {
            self.medium.send(from, frame)?;
        }
        let token = self.send_marker(from, at)?;
        let begin = self.medium.now();
        let mut marked = None;
        loop {
            while let Some(heard) = self.inbox[at.index()].pop_front() {
                if heard.frame.ends_with(&token) {
                    marked = Some(self.medium.now());
                } else if let Some(found) = is_it(&heard) {
                    return Ok(Some(found));
                }
            }
            let end = marked.map_or(begin + PATIENCE, |then| then + self.medium.settle());
            let now = self.medium.now();
            if now >= end && marked.is_some() {
                return Ok(None);
            }
            if now >= end {
                return Err(format!("nothing comes from {from:?} to {at:?} any more").into());
            }
            self.take(end - now)?;
        }
    }

    /// What has been heard lately at a station, without sending anything.
    pub(super) fn heard_at(&mut self, at: Station) -> Result<Vec<Heard>, Problem> {
        while self.take(Duration::ZERO)? {}
        Ok(self.inbox[at.index()].drain(..).collect())
    }

    /// Forgets what has been heard.
    pub(super) fn clear(&mut self) -> Result<(), Problem> {
        while self.take(Duration::ZERO)? {}
        for inbox in &mut self.inbox {
            inbox.clear();
        }
        Ok(())
    }

    /// Sends a frame and listens to nothing.
    pub(super) fn send(&mut self, from: Station, frame: &[u8]) -> Result<(), Problem> {
        self.medium.send(from, frame)
    }

    /// Takes a frame that has arrived; whether there was one in time.
    fn take(&mut self, patience: Duration) -> Result<bool, Problem> {
        let Some((station, bytes)) = self.medium.receive(patience)? else {
            return Ok(false);
        };
        if let Some(heard) = Heard::of(&bytes) {
            if let Some(answer) = self.answer(station, &heard) {
                self.medium.send(station, &answer)?;
            }
            self.inbox[station.index()].push_back(heard);
        }
        Ok(true)
    }

    /// Who asks for the Ethernet address of a station is told it, in both families whichever is on.
    fn answer(&self, station: Station, heard: &Heard) -> Option<Vec<u8>> {
        let mac = self.mac(station);
        let link = Link::new(mac, heard.summary.source);
        let is_own = |address: Address| {
            [Family::V4, Family::V6]
                .map(|family| station.address(family))
                .contains(&address)
        };
        match &heard.summary.network {
            Network::Arp(arp) if arp.operation == Arp::REQUEST && is_own(arp.target.into()) => {
                Some(link.arp(&Arp {
                    operation: Arp::REPLY,
                    sender_mac: mac,
                    sender: arp.target,
                    target_mac: arp.sender_mac,
                    target: arp.sender,
                }))
            }
            Network::Ip(ip) => {
                let target = asked_for(heard).filter(|&target| is_own(target))?;
                let solicited = 0x6000_0000;
                (!ip.source.is_unspecified())
                    .then(|| link.neighbour_advertisement(target, ip.source, target, solicited))
            }
            _ => None,
        }
    }

    /// Asks for an Ethernet address until it is told.
    fn ask(&mut self, from: Station, target: Address) -> Result<MacAddr, Problem> {
        let own = from.address(self.family);
        let question = question(self.mac(from), own, target);
        let begin = self.medium.now();
        let mut asked = None;
        loop {
            let now = self.medium.now();
            if now - begin > PATIENCE {
                return Err(format!("nobody has {target}").into());
            }
            if asked.is_none_or(|then| now - then >= ASK_AGAIN) {
                self.medium.send(from, &question)?;
                asked = Some(now);
            }
            self.take(ASK_AGAIN)?;
            while let Some(heard) = self.inbox[from.index()].pop_front() {
                if told(&heard, target) {
                    return Ok(heard.summary.source);
                }
            }
        }
    }

    /// Sends a marker that any translator lets pass; what it ends with.
    fn send_marker(&mut self, from: Station, at: Station) -> Result<[u8; 16], Problem> {
        self.next_marker += 1;
        let mut token = [0; 16];
        token[..8].copy_from_slice(MARK);
        token[8..].copy_from_slice(&self.next_marker.to_be_bytes());
        let family = self.family;
        let far = marker_server(family);
        let frame = match (from, at) {
            (Station::Outside, Station::Outside) => {
                let next_hop = Station::Outside.address(family);
                echo(&self.inward(next_hop), family, &token)
            }
            (Station::Outside, host) => {
                let port = self.marker_ports[host.index()];
                self.inward(far).udp(MARKER_SERVER_PORT, port, &token)
            }
            (host, Station::Outside) => {
                let packet = self.outward(host, far);
                packet.udp(MARKER_PORTS[host.index()], MARKER_SERVER_PORT, &token)
            }
            (host, other) if host == other => {
                echo(&self.outward(host, gateway(family)), family, &token)
            }
            (host, other) => {
                let packet =
                    (self.direct(host, other)).ip(host.address(family), other.address(family));
                packet.udp(MARKER_PORTS[host.index()], MARKER_SERVER_PORT, &token)
            }
        };
        self.medium.send(from, &frame)?;
        Ok(token)
    }

    fn await_marker(&mut self, at: Station, token: [u8; 16]) -> Result<Heard, Problem> {
        let begin = self.medium.now();
        loop {
            while let Some(heard) = self.inbox[at.index()].pop_front() {
                if heard.frame.ends_with(&token) {
                    return Ok(heard);
                }
            }
            let now = self.medium.now();
            if now - begin > PATIENCE {
                return Err(format!("nothing comes to {at:?}").into());
            }
            self.take(PATIENCE)?;
        }
    }
}

/// A request for an echo (RFC 792, RFC 4443 §4.1).
fn echo(packet: &Packet, family: Family, payload: &[u8]) -> Vec<u8> {
    packet.icmp(echo_kinds(family).0, 0, 1, payload)
}

/// Kinds of request and reply.
pub(super) fn echo_kinds(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (icmp::v4::ECHO_REQUEST, icmp::v4::ECHO_REPLY),
        Family::V6 => (icmp::v6::ECHO_REQUEST, icmp::v6::ECHO_REPLY),
    }
}

/// The question for an Ethernet address (RFC 826, RFC 4861 §7.2.2).
fn question(mac: MacAddr, own: Address, target: Address) -> Vec<u8> {
    match (own.to_ip(), target.to_ip()) {
        (std::net::IpAddr::V4(sender), std::net::IpAddr::V4(target)) => {
            Link::new(mac, MacAddr::BROADCAST).arp(&Arp {
                operation: Arp::REQUEST,
                sender_mac: mac,
                sender,
                target_mac: MacAddr([0; 6]),
                target,
            })
        }
        _ => {
            // The solicited-node group, RFC 4291 §2.7.1, and its Ethernet address, RFC 2464 §7.
            let low = target.bits() & 0x00ff_ffff;
            let group = Address::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low);
            let [.., a, b, c] = low.to_be_bytes();
            let link = Link::new(mac, MacAddr([0x33, 0x33, 0xff, a, b, c]));
            link.neighbour_solicitation(own, group, target)
        }
    }
}

/// Whether a frame tells the Ethernet address of `target`.
fn told(heard: &Heard, target: Address) -> bool {
    match &heard.summary.network {
        Network::Arp(arp) => arp.operation == Arp::REPLY && Address::from(arp.sender) == target,
        Network::Ip(_) => neighbour(heard, icmp::v6::NEIGHBOUR_ADVERTISEMENT) == Some(target),
        _ => false,
    }
}

/// Whose Ethernet address a neighbour solicitation asks for.
fn asked_for(heard: &Heard) -> Option<Address> {
    neighbour(heard, icmp::v6::NEIGHBOUR_SOLICITATION)
}

/// Whom a message of neighbour discovery is about (RFC 4861 §4.3, §4.4).
pub(super) fn neighbour(heard: &Heard, kind: u8) -> Option<Address> {
    let ip = heard.ip()?;
    let is_it = heard.summary.ether_type == EtherType::IPV6
        && matches!(ip.transport, Transport::Icmp(message) if message.kind == kind);
    let target = ip.payload(&heard.frame)?.get(8..)?.first_chunk::<16>()?;
    is_it.then(|| Address::from_bits(u128::from_be_bytes(*target)))
}
