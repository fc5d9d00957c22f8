//! The bridge in memory, on one core: 1,024 stations behind 16 ports, in random order, through the real
//! worker and its links in memory.
//!
//! The links copy and allocate; `relay` is the same load through the links alone, so the difference is
//! the switch. The clock runs only while frames are taken and sent, not while they are made and checked.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heddle_mem::Instant;
use heddle_switch::endpoint::{Arena, Endpoint, MemoryPeer, memory_pair};
use heddle_switch::{Switch, Worker};
use heddle_sys::clock::monotonic;
use heddle_tests::lab::{Lab, Name, Plan};
use heddle_wire::builder::Link;
use heddle_wire::{MacAddr, VNET_HEADER_LEN, VnetHeader};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The ports' names.
const PORTS: [Name; 16] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
];

/// Stations behind each port.
const STATIONS: u8 = 64;

/// Frames from each port before the switch looks.
const BURST: usize = 64;

/// Whether the ports are held to the addresses they were given, or their stations are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    On,
    Off,
}

/// A bridge with its ports' other ends.
struct Yard {
    _switch: Switch,
    worker: Worker,
    peers: Vec<MemoryPeer>,
    now: Instant,
    random: StdRng,
}

fn mac(port: usize, station: u8) -> MacAddr {
    MacAddr([2, 0xaa, 0, 0, u8::try_from(port).unwrap(), station])
}

fn build(plan: &mut Plan, security: Security) {
    plan.network("yard")
        .subnet("10.1.0.0/24")
        .subnet("fd00:1::/64");
    for (place, name) in PORTS.into_iter().enumerate() {
        let host = plan.host(name, "yard");
        let last = place + 2;
        host.address(&format!("10.1.0.{last}"));
        host.address(&format!("fd00:1::{last:x}"));
        host.mac(mac(place, 0));
        for station in 1..STATIONS {
            host.other_mac(mac(place, station));
        }
        if security == Security::Off {
            host.insecure();
        }
    }
}

impl Yard {
    fn new(security: Security) -> Yard {
        let lab = Lab::new(|plan| build(plan, security));
        let peers = PORTS.map(|port| lab.peer(port).clone()).to_vec();
        let now = lab.now();
        let (switch, mut workers, _) = lab.into_parts();
        let mut yard = Yard {
            _switch: switch,
            worker: workers.remove(0),
            peers,
            now,
            random: StdRng::seed_from_u64(1),
        };
        yard.introduce();
        yard
    }

    /// Lets every station be heard once, so that none has to be looked for.
    fn introduce(&mut self) {
        for port in 0..PORTS.len() {
            for station in 0..STATIONS {
                let bytes = frame((port, station), (port, station));
                self.peers[port].send(&bytes).unwrap();
            }
        }
        self.worker.turn(self.now);
        for peer in &self.peers {
            while peer.receive().is_some() {}
        }
    }

    fn station(&mut self) -> u8 {
        u8::try_from(self.random.next_u32() % u32::from(STATIONS)).unwrap()
    }

    /// Frames from every port to stations behind others; what each port must receive, in the order of
    /// the senders.
    fn load(&mut self) -> Vec<Vec<Vec<u8>>> {
        let mut expected = vec![Vec::new(); PORTS.len()];
        for from in 0..PORTS.len() {
            for _ in 0..BURST {
                let distance = 1 + usize::try_from(self.random.next_u32()).unwrap() % 15;
                let to = (from + distance) % PORTS.len();
                let (source, destination) = (self.station(), self.station());
                let bytes = frame((from, source), (to, destination));
                self.peers[from].send(&bytes).unwrap();
                expected[to].push(bytes);
            }
        }
        expected
    }

    /// Carries a load; the time it takes.
    fn carry(&mut self) -> Duration {
        let expected = self.load();
        let begin = monotonic();
        self.worker.turn(self.now);
        let time = monotonic() - begin;
        for (peer, expected) in self.peers.iter().zip(expected) {
            let received: Vec<Vec<u8>> = std::iter::from_fn(|| peer.receive()).collect();
            assert!(received == expected, "other frames came than were sent");
        }
        time
    }
}

fn frame(from: (usize, u8), to: (usize, u8)) -> Vec<u8> {
    let link = Link::new(mac(from.0, from.1), mac(to.0, to.1));
    let [source, destination] = [from.0, to.0].map(|port| format!("10.1.0.{}", port + 2));
    let bytes = link
        .ip(source.as_str(), destination.as_str())
        .udp(9, 9, &[7; 18]);
    [&VnetHeader::NONE.emit(), bytes.as_slice()].concat()
}

/// The same number of frames of the same size, through links alone.
fn relay(arena: &mut Arena, links: &[(Endpoint, MemoryPeer)]) -> Duration {
    let bytes = frame((0, 0), (1, 0));
    for (_, peer) in links {
        for _ in 0..BURST {
            peer.send(&bytes).unwrap();
        }
    }
    let begin = monotonic();
    for (place, (from, _)) in links.iter().enumerate() {
        let (to, _) = &links[(place + 1) % links.len()];
        from.receive(0, arena, &mut |burst| {
            for frame in burst.drain(..) {
                to.transmit(0, frame).unwrap();
            }
        });
    }
    let time = monotonic() - begin;
    for (_, peer) in links {
        for _ in 0..BURST {
            assert_eq!(peer.receive().map(|frame| frame.len()), Some(bytes.len()));
        }
        assert!(peer.receive().is_none());
    }
    time
}

fn bridge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bridge");
    group.throughput(Throughput::Elements(
        (PORTS.len() * BURST).try_into().unwrap(),
    ));
    for (name, security) in [("secured", Security::On), ("learned", Security::Off)] {
        let mut yard = Yard::new(security);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| yard.carry()).sum());
        });
    }
    let links: Vec<_> = PORTS
        .iter()
        .map(|_| {
            let (end, peer) = memory_pair(BURST, true);
            (Endpoint::Memory(end), peer)
        })
        .collect();
    let mut arena = Arena::new();
    group.bench_function("relay", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| relay(&mut arena, &links)).sum());
    });
    group.finish();
    assert_eq!(frame((0, 0), (1, 0)).len(), VNET_HEADER_LEN + 60);
}

criterion_group!(benches, bridge);
criterion_main!(benches);
