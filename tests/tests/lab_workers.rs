//! Several workers on one switch: flows that cross, configurations that change, ports that flood.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_switch::endpoint::{MemoryPeer, TransmitError};
use heddle_switch::{Cause, Event, Options, PortStatistics, Switch, Worker};
use heddle_tests::lab::{
    Connection, Lab, Name, Plan, SIDES, SYN_ACK, Side, campus_online_with, fragments,
    identification,
};
use heddle_wire::builder::{Link, Packet};
use heddle_wire::{EtherType, MacAddr, Protocol, Summary, TcpFlags, VNET_HEADER_LEN, VnetHeader};

/// How long a test with threads waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time of labs that were taken apart.
const NOW: Instant = Instant::from_micros(7_200_000_000);

/// The campus with two workers.
fn pair() -> Lab {
    campus_online_with(|plan| plan.workers(2))
}

#[test]
fn a_connection_whose_two_directions_two_workers_process_is_one() {
    for side in &SIDES {
        let mut lab = pair();
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        lab.work_with(0);
        connection
            .out(&mut lab, TcpFlags::SYN, b"")
            .opens(1)
            .mappings(1);
        lab.work_with(1);
        connection.back(&mut lab, SYN_ACK, b"").moves(1);
        lab.work_with(0);
        connection.out(&mut lab, TcpFlags::ACK, b"GET /").moves(1);
        lab.work_with(1);
        connection.back(&mut lab, TcpFlags::ACK, b"200").moves(1);
        // One direction may change hands at any segment.
        for segment in 0..20 {
            lab.work_with(segment % 2);
            connection.out(&mut lab, TcpFlags::ACK, b"more").moves(1);
            lab.work_with((segment / 3) % 2);
            connection.back(&mut lab, TcpFlags::ACK, b"more").moves(1);
        }
        lab.work_with(1);
        connection.close(&mut lab);
    }
}

#[test]
fn a_flow_that_one_worker_opens_the_other_knows() {
    for side in &SIDES {
        let mut lab = pair();
        for port in 4000..4020 {
            let [sent, left] = side.outward(&lab, "a", side.server);
            lab.work_with(usize::from(port % 2));
            lab.send("a", &sent.udp(port, 53, b"q"))
                .arrives("wan", &left.udp(port, 53, b"q"))
                .opens(1)
                .mappings(1);
            // Half of the flows cross.
            lab.work_with(usize::from(port / 2 % 2));
            let [sent, arrived] = side.inward(&lab, side.server, "a");
            lab.send("wan", &sent.udp(53, port, b"a"))
                .arrives("a", &arrived.udp(53, port, b"a"))
                .moves(1);
        }
    }
}

#[test]
fn an_endpoint_that_is_detached_takes_everything_along() {
    for side in &SIDES {
        let mut lab = pair();
        for (worker, host) in [(0, "a"), (1, "a"), (0, "b")] {
            lab.work_with(worker);
            let port = 4000 + u16::try_from(worker).unwrap();
            let [sent, left] = side.outward(&lab, host, side.server);
            let outside = if host == "a" { port } else { 5000 };
            lab.send(host, &sent.udp(outside, 53, b"q"))
                .arrives("wan", &left.udp(outside, 53, b"q"))
                .opens(1)
                .mappings(1);
        }
        let a = lab.mac("a");
        lab.reconfigure(|plan| plan.remove("a"))
            .forgets("blue", a)
            .ends(2)
            .mappings(-2);
        // The answers find nobody, the neighbour's do.
        let back = lab.to_wan().ip(side.server, side.leg);
        lab.send("wan", &back.udp(53, 4000, b"late"))
            .drops("wan", Cause::Unsolicited);
        let [sent, arrived] = side.inward(&lab, side.server, "b");
        lab.send("wan", &sent.udp(53, 5000, b"a"))
            .arrives("b", &arrived.udp(53, 5000, b"a"))
            .moves(1);
    }
}

#[test]
fn a_leg_that_is_removed_takes_its_sessions_and_neighbours_along() {
    for side in &SIDES {
        let mut lab = pair();
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.udp(4000, 53, b"q"))
            .arrives("wan", &left.udp(4000, 53, b"q"))
            .opens(1)
            .mappings(1);
        let step = lab.reconfigure(|plan| {
            for network in ["blue", "green", "red"] {
                plan.network(network).without_uplink();
            }
            plan.remove("wan");
        });
        let step = step.ends(1).mappings(-1);
        drop(SIDES.iter().fold(step, |step, side| {
            step.forgets_neighbour("wan", side.next_hop)
        }));
    }
}

/// A lab taken apart, its workers on threads that look at their ports again and again.
struct Running {
    switch: Switch,
    plan: Plan,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Running {
    fn start(lab: Lab) -> Running {
        let (switch, workers, plan) = lab.into_parts();
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |mut worker: Worker| {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    worker.turn(NOW);
                    thread::yield_now();
                }
            })
        };
        let threads = workers.into_iter().map(spin).collect();
        Running {
            switch,
            plan,
            stop,
            threads,
        }
    }

    fn publish(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        let config = self.plan.config();
        self.switch.publish(config, NOW).unwrap();
    }

    fn statistics(&self, port: Name) -> PortStatistics {
        self.plan.port(port).statistics()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a worker has died");
        }
    }
}

/// Does something again and again until it says that it is done.
#[expect(
    clippy::disallowed_methods,
    reason = "threads take real time, and a test that hangs says nothing"
)]
fn until(mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        thread::yield_now();
    }
}

/// Sends a frame when there is room for it.
fn send(peer: &MemoryPeer, frame: &[u8]) {
    let bytes = [&VnetHeader::NONE.emit(), frame].concat();
    until(|| peer.send(&bytes) != Err(TransmitError::Full));
}

/// A datagram that carries its flow and its number.
fn numbered(packet: &Packet, ports: (u16, u16), number: u32) -> Vec<u8> {
    packet.udp(ports.0, ports.1, &number.to_be_bytes())
}

/// Source port and number of a datagram that arrived.
fn number_of(bytes: &[u8]) -> (u16, u32) {
    let frame = &bytes[VNET_HEADER_LEN..];
    let summary = Summary::parse(frame).unwrap();
    let segment = summary.ip().unwrap().payload(frame).unwrap();
    let port = u16::from_be_bytes([segment[0], segment[1]]);
    let number = segment[8..12].try_into().unwrap();
    (port, u32::from_be_bytes(number))
}

/// Takes datagrams until `count` have come; each flow's in the order in which they were sent.
fn take_in_order(peer: &MemoryPeer, count: usize) {
    let mut expected: BTreeMap<u16, u32> = BTreeMap::new();
    let mut taken = 0;
    until(|| {
        while let Some(bytes) = peer.receive() {
            let (flow, number) = number_of(&bytes);
            let next = expected.entry(flow).or_default();
            assert_eq!(number, *next, "of flow {flow}");
            *next += 1;
            taken += 1;
        }
        taken >= count
    });
    assert_eq!(taken, count);
}

#[test]
fn frames_of_one_flow_from_one_queue_stay_in_order() {
    // Four times as many fit into the link of whoever gets them, however late that one looks.
    const FRAMES: u32 = 1000;
    for side in &SIDES {
        let lab = campus_online_with(|plan| {
            plan.workers(2);
            for (worker, name) in [(0, "a"), (1, "b")] {
                plan.host(name, "blue")
                    .address(SIDES[0].host(name))
                    .address(SIDES[1].host(name))
                    .read_by(worker);
            }
        });
        let links = ["a", "b"].map(|host| (lab.link(host, "c"), lab.to_gateway(host)));
        let running = Running::start(lab);
        let plan = &running.plan;
        thread::scope(|scope| {
            // Over the bridge to c and through the translation to the outside, from both at once.
            for (number, host) in ["a", "b"].into_iter().enumerate() {
                let (peer, (bridge, out)) = (plan.peer(host), &links[number]);
                let own = side.host(host);
                let port = 4000 + 2 * u16::try_from(number).unwrap();
                scope.spawn(move || {
                    let inside = bridge.ip(own, side.c);
                    let outside = out.ip(own, side.server);
                    for number in 0..FRAMES {
                        for flow in [port, port + 1] {
                            send(peer, &numbered(&inside, (flow, 7), number));
                            send(peer, &numbered(&outside, (flow, 7), number));
                        }
                    }
                });
            }
            let count = usize::try_from(4 * FRAMES).unwrap();
            scope.spawn(move || take_in_order(plan.peer("c"), count));
            scope.spawn(move || take_in_order(plan.peer("wan"), count));
        });
        for host in ["a", "b"] {
            // What found the link full was sent again.
            let mut drops = running.statistics(host).drops;
            drops.retain(|&(reason, _)| reason != Cause::ReceiveRingFull.into());
            assert_eq!(drops, []);
        }
        assert_eq!(running.switch.nat().session_count(), 4);
    }
}

#[test]
fn configurations_change_while_frames_flow_and_none_is_lost() {
    const FRAMES: u32 = 2000;
    for side in &SIDES {
        let lab = campus_online_with(|plan| {
            plan.workers(2);
            plan.host("a", "blue")
                .address(SIDES[0].a)
                .address(SIDES[1].a)
                .read_by(0);
        });
        let bridge = lab.link("a", "b").ip(side.a, side.b);
        let guest = MacAddr::new([0x02, 0x77, 0, 0, 0, 1]);
        let to_guest = Link::new(lab.mac("e"), guest).frame(EtherType(0x88b5), b"hello");
        let mut running = Running::start(lab);
        let [a, b] = ["a", "b"].map(|host| running.plan.peer(host).clone());
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..FRAMES {
                    send(&a, &numbered(&bridge, (4000, 7), number));
                }
            });
            let taker = scope.spawn(move || take_in_order(&b, usize::try_from(FRAMES).unwrap()));
            let mut rounds = 0;
            while !taker.is_finished() || rounds < 50 {
                come_and_go(&mut running, guest, &to_guest);
                rounds += 1;
            }
        });
        assert_eq!(running.statistics("b").sent_frames, u64::from(FRAMES));
    }
}

/// A guest comes to `e`, is spoken to, and goes: once that is published, no worker knows it any more.
fn come_and_go(running: &mut Running, mac: MacAddr, to_guest: &[u8]) {
    running.publish(|plan| {
        plan.host("guest", "red").mac(mac).number(900);
    });
    let guest = running.plan.peer("guest").clone();
    let port = Arc::downgrade(running.plan.port("guest"));
    for _ in 0..4 {
        send(running.plan.peer("e"), to_guest);
    }
    running.publish(|plan| plan.remove("guest"));
    // Nobody holds the port, not even for the rest of a burst.
    assert!(
        port.upgrade().is_none(),
        "a worker uses a port that is gone"
    );
    let stations = running.switch.fdb().list(NOW);
    assert!(stations.iter().all(|listed| listed.mac != mac));
    while guest.receive().is_some() {}
    send(running.plan.peer("e"), to_guest);
    thread::yield_now();
    assert_eq!(guest.receive(), None);
}

#[test]
fn after_a_port_is_withdrawn_no_worker_opens_a_session_to_it() {
    for side in &SIDES {
        let lab = campus_online_with(|plan| plan.workers(2));
        let question = lab.to_wan().ip(side.server, side.leg);
        let mut running = Running::start(lab);
        let wan = running.plan.peer("wan").clone();
        for round in 0..200 {
            running.publish(|plan| {
                let (outside, inside) = ((side.leg, 8053), (side.a, 53));
                plan.publish("wan", Protocol::UDP, outside, inside);
            });
            for client in 0..8 {
                send(&wan, &question.udp(10_000 + round * 8 + client, 8053, b"q"));
            }
            running.publish(Plan::unpublish);
            let ends = |_: &heddle_nat::Session| true;
            running.switch.flush_sessions(NOW, ends);
            assert_eq!(running.switch.nat().session_count(), 0, "round {round}");
            // Whatever the workers still take from the queue, they take it as nobody's.
            until(|| running.statistics("wan").received_frames >= 8 * u64::from(round + 1) + 2);
            assert_eq!(running.switch.nat().session_count(), 0, "round {round}");
            while running.plan.peer("a").receive().is_some() {}
        }
    }
}

#[test]
fn publishing_waits_for_a_worker_in_the_middle_of_its_work_whatever_has_changed() {
    let (_, _, mut plan) = campus_online_with(|plan| plan.workers(2)).into_parts();
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let options = Options {
        workers: 2,
        sessions: heddle_nat::Limits::default(),
        stations: heddle_switch::fdb::Limits::default(),
        seed: Some(1),
        now: NOW,
        on_event: Box::new(move |_| {
            entered.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }),
    };
    let (switch, mut workers) = Switch::new(options).unwrap();
    switch.publish(plan.config(), NOW).unwrap();
    plan.peer("a").hang_up();
    // No port comes or goes.
    let (outside, inside) = ((SIDES[0].leg, 8053), (SIDES[0].a, 53));
    plan.publish("wan", Protocol::UDP, outside, inside);
    let next = plan.config();
    thread::scope(|scope| {
        // Gone with this closure, however it ends: then the worker goes on.
        let release = release;
        scope.spawn(|| workers[0].turn(NOW));
        // The worker is telling of the host that hung up, under the configuration before.
        has_entered.recv().unwrap();
        let publisher = scope.spawn(|| switch.publish(next, NOW));
        until(|| switch.with_config(|config| !config.published().is_empty()));
        // Each may take a moment where others have work; it would end for a worker that is stuck.
        for _ in 0..100 {
            thread::yield_now();
        }
        assert!(!publisher.is_finished(), "a worker uses what was before");
        release.send(()).unwrap();
        publisher.join().unwrap().unwrap();
    });
}

#[test]
fn two_workers_that_open_one_flow_at_once_open_one() {
    for side in &SIDES {
        let lab = campus_online_with(|plan| plan.workers(2));
        let out = lab.to_gateway("a").ip(side.a, side.server);
        let running = Running::start(lab);
        let a = running.plan.peer("a");
        // Both read a's link, so the two frames of a flow may be taken by both at once.
        for port in 10_000..11_000 {
            for _ in 0..2 {
                send(a, &out.udp(port, 53, b"q"));
            }
        }
        let wan = running.plan.peer("wan");
        let mut left: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        until(|| {
            while let Some(bytes) = wan.receive() {
                *left.entry(bytes).or_default() += 1;
            }
            left.values().sum::<usize>() >= 2000
        });
        assert_eq!(left.len(), 1000);
        assert!(left.values().all(|&frames| frames == 2));
        assert_eq!(running.switch.nat().session_count(), 1000);
        assert_eq!(running.switch.nat().mapping_count(), 1000);
        assert_eq!(running.statistics("a").drops, []);
    }
}

#[test]
fn two_workers_that_bring_the_fragments_of_one_datagram_at_once_make_it_whole() {
    const DATAGRAMS: u16 = 500;
    for side in &SIDES {
        let lab = campus_online_with(|plan| plan.workers(2));
        let out = lab.to_gateway("a").ip(side.a, side.server);
        let running = Running::start(lab);
        let a = running.plan.peer("a");
        for id in 0..DATAGRAMS {
            let segment = out.udp_segment(10_000 + id, 7000, &[7; 3000]);
            for fragment in fragments(&out, Protocol::UDP, &segment, id.into(), 1400) {
                send(a, &fragment);
            }
        }
        let wan = running.plan.peer("wan");
        let mut left: BTreeMap<u32, usize> = BTreeMap::new();
        until(|| {
            while let Some(bytes) = wan.receive() {
                *left
                    .entry(identification(&bytes[VNET_HEADER_LEN..]))
                    .or_default() += 1;
            }
            left.values().sum::<usize>() >= usize::from(DATAGRAMS) * 3
        });
        assert_eq!(left.len(), usize::from(DATAGRAMS));
        assert!(left.values().all(|&fragments| fragments == 3));
        assert_eq!(running.switch.held_frames(), 0);
        assert_eq!(running.statistics("a").drops, []);
    }
}

/// One network with x, y, z and others.
fn crowd(others: &[Name]) -> Lab {
    Lab::new(|plan| {
        let network = plan.network("n");
        network.subnet("10.1.0.0/24").subnet("fd00:1::/64");
        for (host, like) in [("x", "a"), ("y", "b"), ("z", "c")] {
            let addresses = SIDES.each_ref().map(|side| side.host(like));
            let host = plan.host(host, "n");
            host.address(addresses[0]).address(addresses[1]);
        }
        for host in others {
            plan.host(host, "n");
        }
    })
}

/// One worker; `x` floods `z`, `y` has something to say to it as well.
fn flooded(side: &Side, flood: impl Fn(&Lab) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let lab = crowd(&[]);
    let flood = flood(&lab);
    let word = lab.link("y", "z").ip(side.b, side.c).udp(1, 2, b"a word");
    let (_switch, mut workers, plan) = lab.into_parts();
    for frame in flood {
        let bytes = [&VnetHeader::NONE.emit(), &frame[..]].concat();
        plan.peer("x").send(&bytes).unwrap();
    }
    let bytes = [&VnetHeader::NONE.emit(), &word[..]].concat();
    plan.peer("y").send(&bytes).unwrap();
    workers[0].turn(NOW);
    std::iter::from_fn(|| plan.peer("z").receive()).collect()
}

/// How many frames came before the word.
fn before_the_word(frames: &[Vec<u8>]) -> usize {
    let is_word = |bytes: &Vec<u8>| bytes.ends_with(b"a word");
    frames.iter().position(is_word).unwrap()
}

#[test]
fn a_port_that_floods_gets_a_burst_and_then_the_others_get_theirs() {
    for side in &SIDES {
        let frames = flooded(side, |lab| {
            vec![lab.link("x", "z").ip(side.a, side.c).udp(1, 2, b""); 4000]
        });
        assert_eq!(frames.len(), 4001);
        assert_eq!(before_the_word(&frames), 64);
        // Long frames make a shorter burst: 256 KiB of them, and the one that goes beyond.
        let frames = flooded(side, |lab| {
            vec![
                lab.link("x", "z")
                    .ip(side.a, side.c)
                    .udp(1, 2, &[0; 60_000]);
                100
            ]
        });
        assert_eq!(frames.len(), 101);
        assert_eq!(before_the_word(&frames), 5);
    }
}

#[test]
fn a_port_pays_for_what_its_broadcasts_cost() {
    for side in &SIDES {
        let lab = crowd(&["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8"]);
        let shout = lab.to_all("x").ip(side.a, side.c).udp(1, 2, b"shout");
        let words = lab.link("y", "z").ip(side.b, side.c).udp(1, 2, b"a word");
        let (_switch, mut workers, plan) = lab.into_parts();
        for (host, frame) in [("x", &shout), ("y", &words)] {
            let bytes = [&VnetHeader::NONE.emit(), &frame[..]].concat();
            for _ in 0..1000 {
                plan.peer(host).send(&bytes).unwrap();
            }
        }
        workers[0].turn(NOW);
        let heard: Vec<Vec<u8>> = std::iter::from_fn(|| plan.peer("z").receive()).collect();
        assert_eq!(heard.len(), 2000);
        // Each burst of shouts costs ten bursts: by the time y has said half of its words, x has had
        // its first turn and no other.
        let is_word = |bytes: &&Vec<u8>| bytes.ends_with(b"a word");
        let words = heard[..64 + 512].iter().filter(is_word).count();
        assert_eq!(words, 512);
    }
}

#[test]
fn a_host_that_hangs_up_is_told_of_and_what_it_sent_before_is_delivered() {
    for side in &SIDES {
        let mut lab = pair();
        let frame = lab.link("a", "b").ip(side.a, side.b).udp(1, 2, b"last");
        lab.work_with(1);
        let gone = Event::EndpointGone(lab.plan().port("a").id);
        let bytes = [&VnetHeader::NONE.emit(), &frame[..]].concat();
        lab.peer("a").send(&bytes).unwrap();
        lab.peer("a").hang_up();
        // Each worker has its own poller and says so.
        lab.settle()
            .receives("a", 1, &frame)
            .arrives("b", &frame)
            .event(gone)
            .event(gone);
    }
}
