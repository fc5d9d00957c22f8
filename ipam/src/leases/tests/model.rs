//! Leases against a model that keeps every address of a few small subnets in a table and looks for
//! the right one by trying them all.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use crate::AddressRange;
use crate::subnet::SubnetConfig;

use super::{
    DEFAULT_QUARANTINE, Duration, Families, Family, IpAddr, IpNet, Leases, MacAddr, Request,
    SystemTime, address, at, net, network,
};

const HOLDERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Subnet, and the addresses of it that are chosen automatically.
const SUBNETS: [(&str, &[&str]); 4] = [
    (
        "10.64.0.0/29",
        &[
            "10.64.0.2",
            "10.64.0.3",
            "10.64.0.4",
            "10.64.0.5",
            "10.64.0.6",
        ],
    ),
    (
        "fd00::/64",
        &["fd00::10", "fd00::11", "fd00::12", "fd00::13"],
    ),
    ("10.65.0.0/30", &["10.65.0.2"]),
    ("fd01::/120", &["fd01::7e", "fd01::7f"]),
];

/// Addresses that may be asked for but are not chosen.
const BY_NAME_ONLY: [&str; 3] = ["fd00::2", "fd00::99", "fd01::ff"];

/// Addresses that nobody can have.
const FORBIDDEN: [&str; 10] = [
    "10.64.0.0",
    "10.64.0.1",
    "10.64.0.7",
    "10.65.0.3",
    "10.66.0.1",
    "fd00::",
    "fd00::1",
    "fd01::1",
    "fd02::2",
    "::ffff:10.64.0.2",
];

const MACS: [&str; 4] = [
    "52:54:00:00:00:01",
    "72:68:0a:40:00:03",
    "00:00:00:00:00:00",
    "33:33:00:00:00:01",
];

fn leases() -> Leases {
    let range = |first, last| AddressRange {
        first: address(first),
        last: address(last),
    };
    let ranges = [
        None,
        Some(range("fd00::10", "fd00::13")),
        None,
        Some(range("fd01::7e", "fd01::ff")),
    ];
    let configs = SUBNETS.iter().zip(ranges);
    network(
        configs
            .map(|((text, _), range)| SubnetConfig {
                range,
                ..net(text).into()
            })
            .collect(),
    )
}

/// Eight holders fit, and little more.
fn leases_of_two_families() -> Leases {
    let range = AddressRange {
        first: address("fd00::2"),
        last: address("fd00::a"),
    };
    let v6 = SubnetConfig {
        range: Some(range),
        ..net("fd00::/64").into()
    };
    network(vec![net("10.64.0.0/28").into(), v6])
}

#[derive(Clone, Debug)]
enum Action {
    Allocate(&'static str, Request),
    Release(&'static str),
    /// The clock moves, mostly forward.
    Wait(i64),
}

fn request() -> impl Strategy<Value = Request> {
    let chosen = SUBNETS.iter().flat_map(|(_, hosts)| hosts.iter().copied());
    let possible: Vec<&str> = chosen.chain(BY_NAME_ONLY).collect();
    let host = prop_oneof![12 => select(possible), 1 => select(FORBIDDEN.to_vec())];
    let subnet = prop_oneof![
        12 => select(SUBNETS.map(|(text, _)| text).to_vec()),
        1 => Just("10.66.0.0/24"),
    ];
    let few = |max: usize| prop_oneof![3 => Just(0), 1 => 0..=max];
    let hosts = few(3).prop_flat_map(move |n| proptest::collection::vec(host.clone(), n));
    let subnets = few(3).prop_flat_map(move |n| proptest::collection::vec(subnet.clone(), n));
    let families = proptest::option::weighted(
        0.4,
        (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Families { v4, v6 }),
    );
    let mac = proptest::option::weighted(0.15, select(MACS.to_vec()));
    (hosts, subnets, families, mac).prop_map(|(hosts, subnets, families, mac)| Request {
        addresses: hosts.into_iter().map(address).collect(),
        subnets: subnets.into_iter().map(net).collect(),
        families,
        mac: mac.map(|text| text.parse().unwrap()),
    })
}

pub(crate) fn sequence() -> impl Strategy<Value = Vec<Operation>> {
    let holder = || select(HOLDERS.to_vec());
    let action = prop_oneof![
        5 => (holder(), request()).prop_map(|(holder, request)| Action::Allocate(holder, request)),
        4 => holder().prop_map(Action::Release),
        1 => (-12i64..30).prop_map(Action::Wait),
    ];
    proptest::collection::vec(action.prop_map(Operation), 1..80)
}

/// An action that other test modules can run without knowing what it is.
#[derive(Clone, Debug)]
pub(crate) struct Operation(Action);

/// Leases after a sequence of operations, and the time then.
pub(crate) fn run(operations: &[Operation]) -> (Leases, SystemTime) {
    let (mut leases, mut now) = (leases(), at(0));
    for Operation(action) in operations {
        match action {
            Action::Allocate(holder, request) => {
                // Refusals are part of the sequence.
                leases.allocate(holder, request, now).ok();
            }
            Action::Release(holder) => {
                leases.release(holder, now).ok();
            }
            Action::Wait(seconds) => now = moved(now, *seconds),
        }
    }
    (leases, now)
}

fn moved(now: SystemTime, seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        now - distance
    } else {
        now + distance
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Fresh,
    Held(String),
    /// The number of the release, its time, and who released.
    Resting(usize, SystemTime, String),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// By subnet, every address that is chosen automatically.
    tables: Vec<Vec<(IpAddr, Place)>>,
    /// By subnet, where in its table the last choice was.
    last: Vec<Option<usize>>,
    /// Holders of addresses that are never chosen.
    by_name: BTreeMap<IpAddr, String>,
    macs: BTreeMap<MacAddr, String>,
    releases: usize,
}

impl Model {
    fn new() -> Self {
        let table = |(_, hosts): (&str, &[&str])| {
            hosts
                .iter()
                .map(|text| (address(text), Place::Fresh))
                .collect()
        };
        Self {
            tables: SUBNETS.map(table).into(),
            last: vec![None; SUBNETS.len()],
            ..Self::default()
        }
    }

    fn place(&mut self, wanted: IpAddr) -> Option<&mut Place> {
        let mut all = self.tables.iter_mut().flatten();
        all.find(|(address, _)| *address == wanted)
            .map(|(_, place)| place)
    }

    fn holds(&self, holder: &str) -> bool {
        let held = |place: &Place| matches!(place, Place::Held(by) if by == holder);
        self.tables.iter().flatten().any(|(_, place)| held(place))
            || self.by_name.values().any(|by| by == holder)
    }

    /// The addresses a request gets, or `None`; on a copy, so that failures need no undoing.
    fn allocate(
        &mut self,
        holder: &str,
        request: &Request,
        now: SystemTime,
    ) -> Option<Vec<IpAddr>> {
        let mut copy = self.clone();
        let addresses = copy.try_allocate(holder, request, now)?;
        *self = copy;
        Some(addresses)
    }

    fn try_allocate(
        &mut self,
        holder: &str,
        request: &Request,
        now: SystemTime,
    ) -> Option<Vec<IpAddr>> {
        if self.holds(holder) {
            return None;
        }
        let mut got = Vec::new();
        for wanted in &request.addresses {
            match self.place(*wanted) {
                Some(Place::Held(_)) => return None,
                Some(place) => *place = Place::Held(holder.to_owned()),
                None => {
                    let possible = BY_NAME_ONLY.iter().any(|text| address(text) == *wanted);
                    if !possible || self.by_name.insert(*wanted, holder.to_owned()).is_some() {
                        return None;
                    }
                }
            }
            got.push(*wanted);
        }
        for subnet in &request.subnets {
            let index = SUBNETS.iter().position(|(text, _)| net(text) == *subnet)?;
            got.push(self.choose(&[index], holder, now)?);
        }
        for family in request.families.unwrap_or(Families::BOTH).iter() {
            if got.iter().all(|address| Family::from(*address) != family) {
                let of_family = |index: &usize| Family::from(net(SUBNETS[*index].0)) == family;
                let subnets: Vec<usize> = (0..SUBNETS.len()).filter(of_family).collect();
                got.push(self.choose(&subnets, holder, now)?);
            }
        }
        let mac_fits =
            |mac: MacAddr| mac.0 != [0; 6] && mac.0[0] & 1 == 0 && !self.macs.contains_key(&mac);
        (!got.is_empty() && request.mac.is_none_or(mac_fits)).then_some(got)
    }

    fn choose(&mut self, subnets: &[usize], holder: &str, now: SystemTime) -> Option<IpAddr> {
        let (subnet, index) = self
            .fresh(subnets)
            .or_else(|| self.rested(subnets, now))
            .or_else(|| self.own(subnets, holder))?;
        self.last[subnet] = Some(index);
        let (address, place) = &mut self.tables[subnet][index];
        *place = Place::Held(holder.to_owned());
        Some(*address)
    }

    fn fresh(&self, subnets: &[usize]) -> Option<(usize, usize)> {
        subnets.iter().find_map(|subnet| {
            let table = &self.tables[*subnet];
            let start = self.last[*subnet].map_or(0, |last| last + 1);
            let turn = (0..table.len()).map(|step| (start + step) % table.len());
            let mut fresh = turn.filter(|index| table[*index].1 == Place::Fresh);
            fresh.next().map(|index| (*subnet, index))
        })
    }

    /// The resting addresses of a subnet in the order of release.
    fn resting(&self, subnet: usize) -> Vec<(usize, SystemTime, &str, usize)> {
        let mut resting: Vec<_> = self.tables[subnet]
            .iter()
            .enumerate()
            .filter_map(|(index, (_, place))| match place {
                Place::Resting(order, since, by) => Some((*order, *since, by.as_str(), index)),
                Place::Fresh | Place::Held(_) => None,
            })
            .collect();
        resting.sort();
        resting
    }

    fn rested(&self, subnets: &[usize], now: SystemTime) -> Option<(usize, usize)> {
        let mut best: Option<(SystemTime, usize, usize)> = None;
        for subnet in subnets {
            let Some((_, since, _, index)) = self.resting(*subnet).first().copied() else {
                continue;
            };
            let apart = now
                .duration_since(since)
                .unwrap_or_else(|back| back.duration());
            if apart >= DEFAULT_QUARANTINE && best.is_none_or(|(other, _, _)| since < other) {
                best = Some((since, *subnet, index));
            }
        }
        best.map(|(_, subnet, index)| (subnet, index))
    }

    fn own(&self, subnets: &[usize], holder: &str) -> Option<(usize, usize)> {
        subnets.iter().find_map(|subnet| {
            let resting = self.resting(*subnet);
            let own = resting.iter().find(|(_, _, by, _)| *by == holder);
            own.map(|(_, _, _, index)| (*subnet, *index))
        })
    }

    fn release(&mut self, holder: &str, order: &[IpAddr], now: SystemTime) {
        self.macs.retain(|_, by| by != holder);
        self.by_name.retain(|_, by| by != holder);
        for address in order {
            self.releases += 1;
            let rest = Place::Resting(self.releases, now, holder.to_owned());
            if let Some(place) = self.place(*address) {
                *place = rest;
            }
        }
    }
}

/// What must be true of leases whatever happened to them.
pub(crate) fn check_invariants(leases: &Leases) {
    let mut addresses: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let mut macs: BTreeMap<MacAddr, &str> = BTreeMap::new();
    for lease in leases.iter() {
        assert!(!lease.holder.is_empty() && !lease.addresses.is_empty());
        for address in &lease.addresses {
            let host = address.addr();
            assert_eq!(
                addresses.insert(host, &lease.holder),
                None,
                "{host} has two holders"
            );
            assert_eq!(leases.holder_of(host), Some(lease));
            let subnet = leases
                .subnets()
                .find(|s| s.network() == address.trunc())
                .unwrap();
            assert_ne!(Some(host), subnet.gateway());
            assert!(!subnet.reserved().contains_key(&host));
            assert_ne!(host, address.network());
            assert!(address.addr().is_ipv6() || host != address.broadcast());
        }
        assert_eq!(
            macs.insert(lease.mac, &lease.holder),
            None,
            "{} has two holders",
            lease.mac
        );
        assert_eq!(leases.holder_of_mac(lease.mac), Some(lease));
        assert_ne!(lease.mac, leases.gateway_mac());
        assert_eq!(lease.mac.0[0] & 1, 0);
    }
    let mut resting: Vec<IpAddr> = leases.resting().map(|rest| rest.address).collect();
    assert!(
        resting
            .iter()
            .all(|address| !addresses.contains_key(address))
    );
    resting.sort();
    let count = resting.len();
    resting.dedup();
    assert_eq!(resting.len(), count);
    for usage in leases.usage(at(0)) {
        assert_eq!(usage.held + usage.resting + usage.free, usage.total);
    }
}

fn apply(leases: &mut Leases, model: &mut Model, action: &Action, now: &mut SystemTime) {
    let before = leases.clone();
    match action {
        Action::Wait(seconds) => *now = moved(*now, *seconds),
        Action::Release(holder) => match leases.release(holder, *now) {
            Ok(lease) => {
                let order: Vec<IpAddr> = lease.addresses.iter().map(IpNet::addr).collect();
                assert!(model.holds(holder));
                model.release(holder, &order, *now);
            }
            Err(_) => {
                assert!(!model.holds(holder));
                assert_eq!(*leases, before);
            }
        },
        Action::Allocate(holder, request) => {
            let expected = model.allocate(holder, request, *now);
            let proposed = leases.propose(holder, request, *now);
            assert_eq!(*leases, before, "a proposal changed something");
            let outcome = leases.allocate(holder, request, *now);
            assert_eq!(proposed, outcome);
            match outcome {
                Ok(lease) => {
                    let got: Vec<IpAddr> = lease.hosts().collect();
                    assert_eq!(Some(got), expected);
                    assert!(request.mac.is_none_or(|mac| mac == lease.mac));
                    model.macs.insert(lease.mac, lease.holder.clone());
                }
                Err(error) => {
                    assert_eq!(expected, None, "{error}");
                    assert_eq!(
                        *leases, before,
                        "a refused request changed something: {error}"
                    );
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_answer_is_that_of_a_search_through_all_addresses(operations in sequence()) {
        let (mut leases, mut model, mut now) = (leases(), Model::new(), at(0));
        for Operation(action) in &operations {
            apply(&mut leases, &mut model, action, &mut now);
            check_invariants(&leases);
        }
    }

    #[test]
    fn an_address_is_not_reused_while_another_one_was_released_earlier(
        holders in proptest::collection::vec(select(HOLDERS.to_vec()), 1..200),
    ) {
        // Each holder in turn comes or goes; all quarantines are over by the next step.
        let mut leases = leases_of_two_families();
        let mut released: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (step, holder) in holders.into_iter().enumerate() {
            let now = at(60 * u64::try_from(step).unwrap());
            if let Ok(lease) = leases.release(holder, now) {
                released.extend(lease.hosts().map(|host| (host, step)));
                continue;
            }
            let free = leases.usage(now);
            for host in leases.allocate(holder, &Request::default(), now).unwrap().hosts() {
                let Some(when) = released.remove(&host) else { continue };
                let usage = free.iter().find(|usage| usage.subnet.contains(&host)).unwrap();
                assert_eq!(usage.free, 0, "{host} came back while others were unused");
                let same = |other: &IpAddr| usage.subnet.contains(other);
                let earlier = released.iter().find(|(other, at)| same(other) && **at < when);
                assert_eq!(earlier, None, "{host} came back first");
            }
        }
    }
}
