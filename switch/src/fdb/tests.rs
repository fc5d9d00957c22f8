use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;

const NET: NetworkId = NetworkId(7);
const START: Instant = Instant::from_micros(1_000_000_000);

fn mac(number: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, number])
}

fn fdb(port: u32, network: u32, guaranteed: u32) -> Fdb {
    let limits = Limits {
        port,
        network,
        guaranteed,
    };
    Fdb::new(limits, [7; 64], START)
}

impl Fdb {
    fn heard(&self, network: NetworkId, mac: MacAddr, port: u16, now: Instant) -> Learned {
        let hash = self.hash(network, mac);
        self.learn(network, mac, hash, PortId(port), now)
    }

    fn port_of(&self, network: NetworkId, mac: MacAddr) -> Option<u16> {
        let station = self.find(network, mac, self.hash(network, mac))?;
        Some(station.port.0)
    }

    /// Ages as a worker does, whenever it is due.
    fn pass(&self, end: Instant) {
        while let Some(deadline) = self.next_deadline().filter(|&at| at <= end) {
            self.expire(deadline, 100);
            assert!(
                self.next_deadline() != Some(deadline),
                "a deadline that stays"
            );
        }
    }

    /// What the writer counts, against the entries themselves.
    fn assert_consistent(&self) {
        let writer = self.lock();
        let mut ports: HashMap<PortId, u32> = HashMap::new();
        let mut networks: HashMap<NetworkId, u32> = HashMap::new();
        let mut used = 0;
        for slot in 0..writer.extent {
            let entry = self.entries.get(slot).unwrap();
            let key = entry.key.load(Ordering::Relaxed);
            if key == 0 {
                continue;
            }
            used += 1;
            let (station, _) = unpack(entry.value.load(Ordering::Relaxed));
            if !station.fixed {
                *ports.entry(station.port).or_default() += 1;
                *networks.entry(network_of(key)).or_default() += 1;
            }
        }
        let counted: HashMap<PortId, u32> = writer
            .ports
            .iter()
            .filter(|(_, heard)| heard.count != 0)
            .map(|(&port, heard)| (port, heard.count))
            .collect();
        assert_eq!(counted, ports);
        assert_eq!(writer.networks, networks);
        assert_eq!(writer.index.len(), used);
        let free = writer.free.len();
        assert_eq!(free + used, usize::try_from(writer.extent).unwrap());
    }
}

#[test]
fn a_station_is_where_it_was_heard_last() {
    let fdb = fdb(10, 10, 10);
    assert_eq!(fdb.port_of(NET, mac(1)), None);
    assert_eq!(fdb.heard(NET, mac(1), 3, START), Learned::New);
    assert_eq!(fdb.heard(NET, mac(1), 3, START), Learned::Known);
    assert_eq!(fdb.port_of(NET, mac(1)), Some(3));
    assert_eq!(fdb.heard(NET, mac(1), 4, START), Learned::Moved);
    assert_eq!(fdb.port_of(NET, mac(1)), Some(4));
    // One address in two networks is two stations.
    assert_eq!(fdb.heard(NetworkId(8), mac(1), 5, START), Learned::New);
    assert_eq!(fdb.port_of(NET, mac(1)), Some(4));
    fdb.assert_consistent();
}

#[test]
fn the_first_and_the_last_network_and_address_are_told_apart() {
    let fdb = fdb(10, 10, 10);
    let all = MacAddr::new([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let stations = [
        (NetworkId(0), mac(0)),
        (NetworkId(0), all),
        (NetworkId(u16::MAX - 1), mac(0)),
        (NetworkId(u16::MAX - 1), all),
    ];
    for (port, (network, mac)) in (0..).zip(stations) {
        assert_eq!(fdb.heard(network, mac, port, START), Learned::New);
    }
    for (port, (network, mac)) in (0..).zip(stations) {
        assert_eq!(fdb.port_of(network, mac), Some(port));
    }
    let mut listed: Vec<_> = fdb.list(START).into_iter().collect();
    listed.sort_by_key(|listed| listed.station.port);
    let listed: Vec<_> = listed.iter().map(|it| (it.network, it.mac)).collect();
    assert_eq!(listed, stations);
}

#[test]
fn a_fixed_station_is_never_learned_elsewhere() {
    let fdb = fdb(10, 10, 10);
    fdb.heard(NET, mac(1), 3, START);
    fdb.fix(NET, mac(1), PortId(5), START);
    assert_eq!(fdb.port_of(NET, mac(1)), Some(5));
    assert_eq!(fdb.heard(NET, mac(1), 3, START), Learned::Fixed);
    assert_eq!(fdb.heard(NET, mac(1), 5, START), Learned::Known);
    // It is nobody's to forget but its port's.
    fdb.expire(START + AGEING_TIME * 10, 100);
    assert_eq!(fdb.port_of(NET, mac(1)), Some(5));
    fdb.flush_port(PortId(3));
    assert_eq!(fdb.port_of(NET, mac(1)), Some(5));
    fdb.flush_port(PortId(5));
    assert_eq!(fdb.port_of(NET, mac(1)), None);
    fdb.assert_consistent();
}

#[test]
fn a_silent_station_is_forgotten_after_five_minutes() {
    let fdb = fdb(10, 10, 10);
    fdb.heard(NET, mac(1), 3, START);
    fdb.heard(NET, mac(2), 3, START);
    // Heard once more, so noted.
    fdb.heard(NET, mac(2), 3, START + REFRESH * 2);
    fdb.pass(START + (AGEING_TIME - GRANULARITY));
    assert_eq!(fdb.port_of(NET, mac(1)), Some(3));
    fdb.pass(START + AGEING_TIME + GRANULARITY);
    assert_eq!(fdb.port_of(NET, mac(1)), None);
    assert_eq!(fdb.port_of(NET, mac(2)), Some(3));
    fdb.pass(START + AGEING_TIME + GRANULARITY * 3);
    assert_eq!(fdb.port_of(NET, mac(2)), None);
    assert_eq!(fdb.next_deadline(), None);
    fdb.assert_consistent();
}

#[test]
fn ageing_does_no_more_at_once_than_it_may() {
    let fdb = fdb(100, 100, 100);
    for number in 0..100 {
        fdb.heard(NET, mac(number), 3, START);
    }
    let later = START + AGEING_TIME * 2;
    let mut turns = 0;
    while fdb.expire(later, 10) {
        turns += 1;
        assert!(turns <= 20, "it does not end");
    }
    assert!(turns >= 9, "{turns}");
    assert_eq!(fdb.list(later), []);
    fdb.assert_consistent();
}

#[test]
fn a_station_that_moves_counts_at_one_port_only() {
    let fdb = fdb(2, 100, 1);
    for number in [1, 2] {
        fdb.heard(NET, mac(number), 3, START);
    }
    fdb.heard(NET, mac(1), 4, START);
    // So port 3 has room for one more.
    fdb.heard(NET, mac(3), 3, START);
    for (number, port) in [(1, 4), (2, 3), (3, 3)] {
        assert_eq!(fdb.port_of(NET, mac(number)), Some(port));
    }
    // And gives up its oldest for the next.
    fdb.heard(NET, mac(4), 3, START);
    assert_eq!(fdb.port_of(NET, mac(2)), None);
    fdb.assert_consistent();
}

/// What happens to a forwarding database.
#[derive(Clone, Debug)]
enum Event {
    Heard(u16, u8, u16),
    Fixed(u16, u8, u16),
    Flushed(u16),
    Later(u16),
}

fn any_event() -> impl Strategy<Value = Event> {
    (0_u8..20, 0_u16..3, 0_u8..12, 0_u16..4, 0_u16..400).prop_map(
        |(kind, network, mac, port, seconds)| match kind {
            0..14 => Event::Heard(network, mac, port),
            14..16 => Event::Fixed(network, mac, port),
            16..18 => Event::Flushed(port),
            _ => Event::Later(seconds),
        },
    )
}

#[test]
fn a_station_that_is_remembered_does_not_age_while_it_talks() {
    let fdb = fdb(4, 6, 2);
    let mut cache = Cache::new();
    let mut now = START;
    for _ in 0..1_000 {
        let learned = fdb.learn_again(&mut cache, NET, mac(1), PortId(1), now);
        assert_ne!(learned, Learned::Moved);
        now = now + Duration::from_millis(700);
        fdb.pass(now);
        let found = fdb.find_again(&mut cache, NET, mac(1));
        assert_eq!(found.map(|station| station.port), Some(PortId(1)));
    }
    now = now + 2 * AGEING_TIME;
    fdb.pass(now);
    assert_eq!(fdb.find_again(&mut cache, NET, mac(1)), None);
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold_and_the_counts_are_right(
        events in proptest::collection::vec(any_event(), 0..200),
        secret: u8,
    ) {
        let limits = Limits { port: 4, network: 6, guaranteed: 2 };
        let fdb = Fdb::new(limits, [secret; 64], START);
        let mut now = START;
        let mut fixed: HashMap<(u16, u8), u16> = HashMap::new();
        for event in events {
            match event {
                Event::Heard(network, number, port) => {
                    let learned = fdb.heard(NetworkId(network), mac(number), port, now);
                    let owner = fixed.get(&(network, number)).copied();
                    prop_assert_eq!(learned == Learned::Fixed, owner.is_some_and(|it| it != port));
                    let found = fdb.port_of(NetworkId(network), mac(number));
                    prop_assert_eq!(found, Some(owner.unwrap_or(port)));
                }
                Event::Fixed(network, number, port) => {
                    fdb.fix(NetworkId(network), mac(number), PortId(port), now);
                    fixed.insert((network, number), port);
                }
                Event::Flushed(port) => {
                    fdb.flush_port(PortId(port));
                    fixed.retain(|_, owner| *owner != port);
                    let listed = fdb.list(now);
                    prop_assert!(listed.iter().all(|it| it.station.port != PortId(port)));
                }
                Event::Later(seconds) => {
                    now = now + Duration::from_secs(seconds.into());
                    while fdb.expire(now, 3) {}
                }
            }
            fdb.assert_consistent();
            let writer = fdb.lock();
            prop_assert!(writer.ports.values().all(|heard| heard.count <= limits.port));
            // Beyond its bound a network holds guarantees only: two for each of four ports.
            prop_assert!(writer.networks.values().all(|&count| count <= 6 + 4 * 2));
        }
    }

    #[test]
    fn workers_that_remember_see_and_teach_the_same(
        events in proptest::collection::vec((any_event(), any::<bool>()), 0..200),
        secret: u8,
    ) {
        let limits = Limits { port: 4, network: 6, guaranteed: 2 };
        let [fdb, twin] = [(); 2].map(|()| Fdb::new(limits, [secret; 64], START));
        let mut caches = [Cache::new(), Cache::new()];
        let mut now = START;
        for (event, which) in events {
            let cache = &mut caches[usize::from(which)];
            match event {
                Event::Heard(network, number, port) => {
                    let (network, mac) = (NetworkId(network), mac(number));
                    let learned = fdb.learn_again(cache, network, mac, PortId(port), now);
                    prop_assert_eq!(learned, twin.heard(network, mac, port, now));
                }
                Event::Fixed(network, number, port) => {
                    for fdb in [&fdb, &twin] {
                        fdb.fix(NetworkId(network), mac(number), PortId(port), now);
                    }
                }
                Event::Flushed(port) => {
                    for fdb in [&fdb, &twin] {
                        fdb.flush_port(PortId(port));
                    }
                }
                Event::Later(seconds) => {
                    now = now + Duration::from_secs(seconds.into());
                    for fdb in [&fdb, &twin] {
                        while fdb.expire(now, 3) {}
                    }
                }
            }
            for (network, number) in (0..3).flat_map(|network| (0..16).map(move |it| (network, it))) {
                let (network, mac) = (NetworkId(network), mac(number));
                let found = twin.find(network, mac, twin.hash(network, mac));
                for cache in &mut caches {
                    prop_assert_eq!(fdb.find_again(cache, network, mac), found);
                }
            }
            let order = |fdb: &Fdb| {
                let mut list = fdb.list(now);
                list.sort_by_key(|it| (it.network, it.mac));
                list
            };
            prop_assert_eq!(order(&fdb), order(&twin));
        }
    }

    #[test]
    fn a_value_says_what_was_packed(port: u16, fixed: bool, millis: u32, hash in any::<u64>()) {
        let station = Station { port: PortId(port), fixed };
        let value = pack(station, Stamp::from_bits(millis), hash);
        prop_assert_eq!(value & TAG, hash & TAG);
        let (unpacked, seen) = unpack(value);
        prop_assert_eq!((unpacked, seen.to_bits()), (station, millis));
    }
}

#[test]
fn a_network_may_have_an_ageing_time_of_its_own() {
    let fdb = fdb(16, 16, 4);
    fdb.set_ageing(NET, Duration::from_secs(10));
    fdb.set_ageing(NetworkId(8), Duration::from_secs(1_000_000));
    // What is out of range is taken into it.
    fdb.set_ageing(NetworkId(9), Duration::ZERO);
    let elsewhere = NetworkId(10);
    for network in [NET, NetworkId(8), NetworkId(9), elsewhere] {
        fdb.heard(network, mac(1), 1, START);
    }
    let known = |at: u64| {
        fdb.pass(START + Duration::from_secs(at));
        let networks = [NET, NetworkId(8), NetworkId(9), elsewhere];
        networks.map(|network| fdb.port_of(network, mac(1)).is_some())
    };
    assert_eq!(known(8), [true; 4]);
    assert_eq!(known(12), [false, true, false, true]);
    assert_eq!(known(302), [false, true, false, false]);
    assert_eq!(known(999_990), [false, true, false, false]);
    assert_eq!(known(1_000_003), [false; 4]);
    fdb.assert_consistent();
}

#[test]
fn a_port_that_is_down_has_only_the_stations_it_was_given() {
    let fdb = fdb(16, 16, 4);
    fdb.fix(NET, mac(1), PortId(1), START);
    for number in 2..6 {
        fdb.heard(NET, mac(number), 1, START);
    }
    fdb.heard(NET, mac(9), 2, START);
    fdb.flush_learned(PortId(1));
    assert_eq!(fdb.list(START).len(), 2);
    assert_eq!(fdb.port_of(NET, mac(1)), Some(1));
    assert_eq!(fdb.port_of(NET, mac(9)), Some(2));
    fdb.flush_port(PortId(1));
    assert_eq!(fdb.list(START).len(), 1);
    fdb.assert_consistent();
}

#[test]
fn what_is_full_takes_no_more_memory_than_was_said() {
    let fdb = Fdb::new(Limits::default(), [7; 64], START);
    let (networks, ports) = (2, 8);
    for number in 0..100_000_u64 {
        let port = u16::try_from(number % 8).unwrap();
        let mac = MacAddr::from_u64(0x0200_0000_0000 + number);
        fdb.heard(NetworkId(port % 2), mac, port, START);
    }
    let bound = fdb.memory_bound(networks, ports);
    assert!(fdb.memory() <= bound, "{} > {bound}", fdb.memory());
    assert!(bound < 4 * fdb.memory(), "{bound} {}", fdb.memory());
}
