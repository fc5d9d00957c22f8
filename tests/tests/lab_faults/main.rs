//! One endpoint, or somebody outside, does the worst it can. Each test asks the same: do the flows of the others
//! go on, can they begin new ones, is the memory bounded, and is all of it over by itself?

mod floods;
mod forgeries;
mod tables;

use std::time::Duration;

use heddle_nat::{Holdings, Side as Owner};
use heddle_switch::{Cause, DropReason};
use heddle_tests::lab::{Connection, Lab, Name, Side, go_online};
use heddle_wire::builder::TcpHeader;
use heddle_wire::{Family, TcpFlags, VnetHeader};

/// Frames that are sent before the switch looks: fewer than a link holds.
const BATCH: usize = 2_000;

/// Sends many frames from one port and throws away whatever arrives anywhere.
fn flood(lab: &mut Lab, from: Name, frames: impl IntoIterator<Item = Vec<u8>>) {
    let mut frames = frames.into_iter().peekable();
    while frames.peek().is_some() {
        for frame in frames.by_ref().take(BATCH) {
            let bytes = [&VnetHeader::NONE.emit(), &frame[..]].concat();
            let sent = lab.peer(from).send(&bytes);
            sent.expect("a batch is shorter than the queue");
        }
        pass(lab, Duration::ZERO);
    }
    lab.accept();
}

/// Lets time pass and throws away whatever arrives anywhere.
fn wait(lab: &mut Lab, span: Duration) {
    pass(lab, span);
    lab.accept();
}

fn pass(lab: &mut Lab, span: Duration) {
    lab.pass(span);
    let ports: Vec<Name> = lab.plan().ports().collect();
    for port in ports {
        lab.drain(port);
    }
}

/// How many frames of a port ended for this reason.
fn dropped(lab: &Lab, port: Name, cause: Cause) -> u64 {
    let drops = lab.plan().port(port).statistics().drops;
    let found = drops
        .into_iter()
        .find(|&(reason, _)| reason == DropReason::from(cause));
    found.map_or(0, |(_, frames)| frames)
}

/// How many frames of a port ended, for whatever reason.
fn all_dropped(lab: &Lab, port: Name) -> u64 {
    let drops = lab.plan().port(port).statistics().drops;
    drops.into_iter().map(|(_, frames)| frames).sum()
}

/// How many frames went to all other ports.
fn sent_to_others(lab: &Lab, port: Name) -> u64 {
    let others = lab.plan().ports().filter(|&other| other != port);
    others
        .map(|other| lab.plan().port(other).statistics().sent_frames)
        .sum()
}

fn held_by(lab: &Lab, port: Name) -> Holdings {
    let owner = Owner(lab.plan().port(port).id.0);
    lab.switch().nat().holdings_of(owner)
}

fn syn(source_port: u16, destination_port: u16) -> TcpHeader {
    TcpHeader {
        source_port,
        destination_port,
        sequence: 77,
        flags: TcpFlags::SYN,
        ..TcpHeader::default()
    }
}

/// Somebody outside, each in a network of its own.
fn stranger(side: &Side, number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    match side.family {
        Family::V4 => format!("20.{high}.{low}.9"),
        Family::V6 => format!("2001:db9:{number:x}::9"),
    }
}

/// What a host has that is not to be harmed: a connection in use. And what it must be able to do.
struct Bystander {
    host: Name,
    connection: Connection,
    /// The last of its ports that was used.
    port: u16,
}

impl Bystander {
    /// A host that has opened a connection, from this port.
    fn new(lab: &mut Lab, side: &Side, host: Name, port: u16) -> Bystander {
        let mut connection = Connection::new(lab, side, host, [port; 2], (side.server, 80));
        connection.open(lab);
        Bystander {
            host,
            connection,
            port,
        }
    }

    /// Its connection is as alive as before.
    fn goes_on(&mut self, lab: &mut Lab) {
        let connection = &mut self.connection;
        connection.out(lab, TcpFlags::ACK, b"still here").moves(1);
        connection.back(lab, TcpFlags::ACK, b"so am I").moves(1);
    }

    /// That, and it opens and closes another one, asks something and is answered.
    fn is_unharmed(&mut self, lab: &mut Lab, side: &Side) {
        self.goes_on(lab);
        self.port += 1;
        let (host, port) = (self.host, self.port);
        let server = (side.other_server, 443);
        let mut another = Connection::new(lab, side, host, [port; 2], server);
        another.open(lab);
        another.close(lab);
        let [sent, left] = side.outward(lab, host, side.server);
        lab.send(host, &sent.udp(port, 53, b"who"))
            .arrives("wan", &left.udp(port, 53, b"who"))
            .opens(1)
            .mappings(1);
        let [sent, arrived] = side.inward(lab, side.server, host);
        lab.send("wan", &sent.udp(53, port, b"me"))
            .arrives(host, &arrived.udp(53, port, b"me"))
            .moves(1);
    }
}

/// No table takes more than was said.
fn assert_bounded(lab: &Lab) {
    let nat = lab.switch().nat();
    let ports = lab.plan().ports().count();
    let (memory, bound) = (nat.memory(), nat.memory_bound(ports));
    assert!(memory <= bound, "sessions: {memory} > {bound}");
    let fdb = lab.switch().fdb();
    let networks = lab.switch().with_config(|config| config.networks().count());
    let (memory, bound) = (fdb.memory(), fdb.memory_bound(networks, ports));
    assert!(memory <= bound, "stations: {memory} > {bound}");
}

/// Some time later nothing is left of it, and its victim and the one who did it begin as on the first day.
fn recovers(lab: &mut Lab, side: &Side, after: Duration) {
    wait(lab, after);
    assert_eq!(lab.switch().held_frames(), 0);
    lab.end_sessions();
    assert_eq!(lab.switch().nat().mapping_count(), 0);
    // The next hop has been forgotten meanwhile.
    go_online(lab, "a", "wan");
    for (host, port) in [("a", 6_000), ("d", 7_000)] {
        Bystander::new(lab, side, host, port).is_unharmed(lab, side);
    }
}
