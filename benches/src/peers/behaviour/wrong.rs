//! A translator that does everything wrong, in one of two ways: what the probes must find out.

use std::collections::VecDeque;
use std::time::Duration;

use heddle_nat::{Tuple, Zone};
use heddle_wire::builder::{Link, TcpHeader};
use heddle_wire::{
    Address, Arp, Family, Ip, MacAddr, Network, Rewrite, TcpFlags, Transport, VnetHeader, ethernet,
    icmp, rewrite,
};

use super::heard::Heard;
use super::medium::{Flow, Medium};
use super::places::{OUTSIDE_MTU, Station, gateway, outside};
use super::scene::{echo_kinds, neighbour};
use crate::problem::Problem;

/// Its Ethernet address on both sides.
const ROUTER: MacAddr = MacAddr::new([0x02, 0xbb, 0, 0, 0, 1]);

/// How long it remembers anything.
const MEMORY: Duration = Duration::from_secs(10);

/// The first port that the stingy one gives away.
const FIRST_PORT: u16 = 30_000;

/// In which way it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    /// Everybody keeps his port, whoever else has it; everybody is let in; everything is forwarded.
    Careless,
    /// Each flow gets the next port; only its other end is let in; whatever is unusual ends it.
    Stingy,
}

/// A flow of a host inside.
#[derive(Clone, Copy, Debug)]
struct Entry {
    station: Station,
    original: Tuple,
    seen: u16,
    last: Duration,
}

/// The translator. Inside it is a hub.
pub(super) struct Wrong {
    temper: Temper,
    entries: Vec<Entry>,
    next_port: u16,
    waiting: VecDeque<(Station, Vec<u8>)>,
    now: Duration,
}

impl Wrong {
    pub(super) fn new(temper: Temper) -> Wrong {
        Wrong {
            temper,
            entries: Vec::new(),
            next_port: FIRST_PORT,
            waiting: VecDeque::new(),
            now: Duration::from_secs(1_000),
        }
    }

    fn emit(&mut self, to: Station, frame: &[u8]) {
        let bytes = [&VnetHeader::NONE.emit(), frame].concat();
        self.waiting.push_back((to, bytes));
    }

    /// Sends a packet on, with other addresses and ports.
    fn forward(&mut self, heard: &Heard, to: Station, reads: &Rewrite) {
        let Some(ip) = heard.any_ip() else { return };
        if ip.total_len() > usize::from(OUTSIDE_MTU) {
            return;
        }
        let mut frame = heard.frame.clone();
        rewrite(&mut frame, ip, false, reads);
        ethernet::set_macs(&mut frame, self.mac(to), ROUTER);
        self.emit(to, &frame);
    }

    /// Answers for itself: addresses and echoes. Whether that was it.
    fn answer(&mut self, from: Station, heard: &Heard, own: [Address; 2]) -> bool {
        let back = Link::new(ROUTER, heard.summary.source);
        let frame = match &heard.summary.network {
            Network::Arp(arp) if own.contains(&arp.target.into()) => back.arp(&Arp {
                operation: Arp::REPLY,
                sender_mac: ROUTER,
                sender: arp.target,
                target_mac: arp.sender_mac,
                target: arp.sender,
            }),
            Network::Ip(ip) => {
                let asked = neighbour(heard, icmp::v6::NEIGHBOUR_SOLICITATION);
                let (request, reply) = echo_kinds(ip.family());
                match (asked.filter(|asked| own.contains(asked)), &ip.transport) {
                    (Some(asked), _) => {
                        back.neighbour_advertisement(asked, ip.source, asked, 0x6000_0000)
                    }
                    (None, Transport::Icmp(message))
                        if message.kind == request && own.contains(&ip.destination) =>
                    {
                        let data = ip.payload(&heard.frame).unwrap_or_default();
                        let packet = back.ip(ip.destination, ip.source);
                        packet.icmp(reply, 0, message.word, &data[8..])
                    }
                    _ => return false,
                }
            }
            _ => return false,
        };
        self.emit(from, &frame);
        true
    }

    fn take_from_inside(&mut self, from: Station, heard: &Heard) {
        if self.answer(from, heard, [Family::V4, Family::V6].map(gateway)) {
            return;
        }
        if heard.summary.destination != ROUTER {
            for other in Station::INSIDE.into_iter().filter(|other| *other != from) {
                self.emit(other, &heard.frame);
            }
            return;
        }
        let Some(&ip) = heard.any_ip() else { return };
        let source = outside(ip.family());
        let as_it_is = |destination| Rewrite {
            source,
            source_port: 0,
            destination,
            destination_port: 0,
        };
        match Tuple::of(&ip, Zone::INSIDE) {
            _ if ip.destination == source => {}
            _ if ip.fragment.is_part() => {
                if self.temper == Temper::Careless {
                    self.forward_part(heard, &ip);
                }
            }
            None => self.forward(heard, Station::Outside, &as_it_is(ip.destination)),
            Some(tuple) => {
                let seen = self.entry(from, tuple);
                let reads = Rewrite {
                    source,
                    source_port: seen,
                    destination: ip.destination,
                    destination_port: tuple.destination_port,
                };
                self.forward(heard, Station::Outside, &reads);
                self.forget_closed(&ip, seen);
            }
        }
    }

    /// A part of a datagram, whose ports are left as they are, where there are some.
    fn forward_part(&mut self, heard: &Heard, ip: &Ip) {
        let ports = heard.ports().unwrap_or_default();
        let reads = Rewrite {
            source: outside(ip.family()),
            source_port: ports.0,
            destination: ip.destination,
            destination_port: ports.1,
        };
        self.forward(heard, Station::Outside, &reads);
    }

    /// The outside port of a flow from inside.
    fn entry(&mut self, station: Station, original: Tuple) -> u16 {
        let now = self.now;
        self.entries.retain(|entry| now - entry.last < MEMORY);
        let known = self
            .entries
            .iter_mut()
            .find(|entry| entry.original == original);
        if let Some(entry) = known {
            entry.last = now;
            return entry.seen;
        }
        let seen = match self.temper {
            Temper::Careless => original.source_port,
            Temper::Stingy => {
                self.next_port += 1;
                self.next_port
            }
        };
        self.entries.push(Entry {
            station,
            original,
            seen,
            last: now,
        });
        seen
    }

    /// The stingy one takes the first FIN for the end, and both take any RST for it.
    fn forget_closed(&mut self, ip: &Ip, seen: u16) {
        let Transport::Tcp(tcp) = ip.transport else {
            return;
        };
        let fin = tcp.flags.contains(TcpFlags::FIN) && self.temper == Temper::Stingy;
        if fin || tcp.flags.contains(TcpFlags::RST) {
            self.entries.retain(|entry| entry.seen != seen);
        }
    }

    fn take_from_outside(&mut self, heard: &Heard) {
        if self.answer(
            Station::Outside,
            heard,
            [Family::V4, Family::V6].map(outside),
        ) {
            return;
        }
        let Some(&ip) = heard.any_ip() else { return };
        let own = outside(ip.family());
        if ip.destination != own {
            self.let_straight_in(heard, &ip);
            return;
        }
        let Some(tuple) = Tuple::of(&ip, Zone::INSIDE) else {
            self.error(heard, &ip);
            return;
        };
        let now = self.now;
        let is_it = |entry: &&Entry| {
            let is_peer = (entry.original.destination, entry.original.destination_port)
                == (tuple.source, tuple.source_port);
            entry.seen == tuple.destination_port
                && entry.original.protocol == tuple.protocol
                && now - entry.last < MEMORY
                && (self.temper == Temper::Careless || is_peer)
        };
        let opens = matches!(ip.transport, Transport::Tcp(tcp) if tcp.flags == TcpFlags::SYN);
        let found = self.entries.iter().rev().find(is_it).copied();
        match found {
            Some(_) if opens && self.temper == Temper::Stingy => {}
            Some(entry) => {
                let reads = Rewrite {
                    source: ip.source,
                    source_port: tuple.source_port,
                    destination: entry.original.source,
                    destination_port: entry.original.source_port,
                };
                self.forward(heard, entry.station, &reads);
                self.forget_closed(&ip, entry.seen);
            }
            None if opens => self.refuse(heard, &ip),
            None => {}
        }
    }

    /// Inside addresses are nobody's secret to the careless one.
    fn let_straight_in(&mut self, heard: &Heard, ip: &Ip) {
        let hosts = Station::INSIDE.into_iter();
        let host = hosts
            .into_iter()
            .find(|host| host.address(ip.family()) == ip.destination);
        if let (Some(host), Temper::Careless) = (host, self.temper) {
            self.emit(host, &heard.frame);
        }
    }

    /// The stingy one ends what an error is about; the careless one hands it to host A as it is.
    fn error(&mut self, heard: &Heard, ip: &Ip) {
        match (self.temper, heard.quote()) {
            (Temper::Stingy, Some(quote)) => {
                self.entries.retain(|entry| entry.seen != quote.source_port);
            }
            (Temper::Stingy, None) => {}
            (Temper::Careless, _) => {
                let reads = Rewrite {
                    source: ip.source,
                    source_port: 0,
                    destination: Station::A.address(ip.family()),
                    destination_port: 0,
                };
                self.forward(heard, Station::A, &reads);
            }
        }
    }

    fn refuse(&mut self, heard: &Heard, ip: &Ip) {
        let Some(tcp) = heard.tcp() else { return };
        let header = TcpHeader {
            source_port: tcp.destination_port,
            destination_port: tcp.source_port,
            acknowledgement: tcp.sequence.wrapping_add(1),
            flags: TcpFlags::RST.union(TcpFlags::ACK),
            ..TcpHeader::default()
        };
        let back = Link::new(ROUTER, heard.summary.source);
        let frame = back.ip(ip.destination, ip.source).tcp(&header, b"");
        self.emit(Station::Outside, &frame);
    }
}

impl Medium for Wrong {
    fn send(&mut self, from: Station, frame: &[u8]) -> Result<(), Problem> {
        let bytes = [&VnetHeader::NONE.emit(), frame].concat();
        let heard = Heard::of(&bytes).ok_or("a probe sends frames")?;
        match from {
            Station::Outside => self.take_from_outside(&heard),
            host => self.take_from_inside(host, &heard),
        }
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<(Station, Vec<u8>)>, Problem> {
        if self.waiting.is_empty() {
            self.now += patience;
        }
        Ok(self.waiting.pop_front())
    }

    fn mac(&self, station: Station) -> MacAddr {
        let last = u8::try_from(station.index()).unwrap_or(0);
        MacAddr::new([0x02, 0xaa, 0, 0, 0, last])
    }

    fn remembers(&mut self, _: &Flow) -> Result<Option<Duration>, Problem> {
        Ok(Some(MEMORY - Duration::from_secs(3)))
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    fn now(&self) -> Duration {
        self.now
    }
}

/// A translator that carries nothing at all.
pub(super) struct Dead(Duration);

impl Dead {
    pub(super) fn new() -> Dead {
        Dead(Duration::from_secs(1_000))
    }
}

impl Medium for Dead {
    fn send(&mut self, _: Station, _: &[u8]) -> Result<(), Problem> {
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<(Station, Vec<u8>)>, Problem> {
        self.0 += patience;
        Ok(None)
    }

    fn mac(&self, _: Station) -> MacAddr {
        ROUTER
    }

    fn remembers(&mut self, _: &Flow) -> Result<Option<Duration>, Problem> {
        Ok(None)
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    fn now(&self) -> Duration {
        self.0
    }
}
