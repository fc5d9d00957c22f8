//! Axes: from one property of a packet to the rules that it satisfies.
//!
//! A rule's ranges cut an axis into intervals within which every number satisfies the same rules. Finding
//! the interval is a binary search; what an attacker sends cannot make it longer, only the operator's own
//! rules can, and they only by a logarithm (CVE-2019-25076: no cost that grows with masks).

use std::collections::BTreeMap;

use heddle_wire::{Address, Protocol};

use super::interface::{Interface, Interfaces, NetworkNumber};
use super::matches::{Negatable, Protocols};
use super::ranges::{Key, Ranges};
use super::rows::{Bits, Row, RowId, Rows, RowsBuilder};
use crate::session::Side;

/// What each rule asks of a property; `None` where it does not.
pub(super) type Asked<'r, T> = Vec<Option<&'r Negatable<T>>>;

fn is_asked<T>(asked: &Asked<'_, T>) -> bool {
    asked.iter().any(Option::is_some)
}

/// The rules that ask nothing.
fn indifferent<T>(asked: &Asked<'_, T>) -> Bits {
    let mut bits = Bits::new(asked.len());
    for (rule, asks) in asked.iter().enumerate() {
        bits.set(rule, asks.is_none());
    }
    bits
}

/// What a rule asks of numbers, as the ranges that lie on an axis.
type Cut<K> = Option<Negatable<Vec<(K, K)>>>;

fn cut<K>(negated: bool, set: impl Iterator<Item = (K, K)>) -> Negatable<Vec<(K, K)>> {
    let set = set.collect();
    Negatable { negated, set }
}

/// Intervals of numbers.
#[derive(Debug)]
struct Intervals<K> {
    /// The first number of each interval; the first one of all is the lowest number.
    starts: Vec<K>,
    rows: Vec<RowId>,
}

impl<K: Key> Intervals<K> {
    /// `sets` are the ranges of each rule, in the numbers of this axis.
    fn new(sets: &[Cut<K>], rows: &mut RowsBuilder) -> Intervals<K> {
        let mut edges: Vec<(K, usize, bool)> = Vec::new();
        // What is negated is the other way round everywhere, and what is not asked for is true.
        let mut inverted = Bits::new(sets.len());
        for (rule, set) in sets.iter().enumerate() {
            let Some(Negatable { negated, set }) = set else {
                inverted.set(rule, true);
                continue;
            };
            inverted.set(rule, *negated);
            for &(first, last) in set {
                edges.push((first, rule, true));
                edges.extend(last.next().map(|behind| (behind, rule, false)));
            }
        }
        // Where one range of a rule ends and another begins they do not touch, so the order of edges at
        // one number does not matter.
        edges.sort_unstable();
        let mut inside = Bits::new(sets.len());
        let mut intervals = Intervals {
            starts: vec![K::FIRST],
            rows: Vec::new(),
        };
        for (at, rule, enters) in edges {
            if intervals.starts.last() != Some(&at) {
                intervals.rows.push(rows.row(&inside.differing(&inverted)));
                intervals.starts.push(at);
            }
            inside.set(rule, enters);
        }
        intervals.rows.push(rows.row(&inside.differing(&inverted)));
        intervals
    }

    #[inline]
    fn find(&self, key: K) -> RowId {
        let behind = self.starts.partition_point(|&start| start <= key);
        self.rows[behind - 1]
    }
}

/// Addresses of both families. Each has numbers of its own length: most packets and rules are IPv4, and
/// comparing its addresses is half the work.
#[derive(Debug)]
pub(super) struct AddressAxis {
    rows: Rows,
    v4: Intervals<u32>,
    v6: Intervals<u128>,
    absent: RowId,
}

/// The first and last IPv4 address as a number of both families.
const V4: (u128, u128) = (
    Address::from_ipv4_bits(0).bits(),
    Address::from_ipv4_bits(u32::MAX).bits(),
);

impl AddressAxis {
    /// `None` if no rule asks for it.
    pub(super) fn new(asked: &Asked<'_, Ranges<u128>>) -> Option<AddressAxis> {
        if !is_asked(asked) {
            return None;
        }
        let mut rows = RowsBuilder::new();
        let low = |bits: u128| Address::from_bits(bits).ipv4_bits().unwrap_or_default();
        let v4: Vec<_> = asked
            .iter()
            .map(|asks| {
                asks.map(|Negatable { negated, set }| {
                    let within = set
                        .iter()
                        .filter(|&(first, last)| first <= V4.1 && last >= V4.0);
                    let cut =
                        within.map(|(first, last)| (low(first.max(V4.0)), low(last.min(V4.1))));
                    self::cut(*negated, cut)
                })
            })
            .collect();
        let v6: Vec<_> = asked
            .iter()
            .map(|asks| asks.map(|asks| cut(asks.negated, asks.set.iter())))
            .collect();
        Some(AddressAxis {
            v4: Intervals::new(&v4, &mut rows),
            v6: Intervals::new(&v6, &mut rows),
            absent: rows.row(&indifferent(asked)),
            rows: rows.finish(),
        })
    }

    #[inline]
    pub(super) fn row(&self, address: Option<Address>) -> &Row {
        self.rows.get(match address {
            None => self.absent,
            Some(address) => match address.ipv4_bits() {
                Some(bits) => self.v4.find(bits),
                None => self.v6.find(address.bits()),
            },
        })
    }

    pub(super) fn memory(&self) -> usize {
        self.rows.memory() + self.v4.starts.len() * 8 + self.v6.starts.len() * 20
    }
}

/// Ports, or types and codes.
#[derive(Debug)]
pub(super) struct NumberAxis {
    rows: Rows,
    intervals: Intervals<u16>,
    absent: RowId,
}

impl NumberAxis {
    /// `None` if no rule asks for it.
    pub(super) fn new(asked: &Asked<'_, Ranges<u16>>) -> Option<NumberAxis> {
        if !is_asked(asked) {
            return None;
        }
        let mut rows = RowsBuilder::new();
        let sets: Vec<_> = asked
            .iter()
            .map(|asks| asks.map(|asks| cut(asks.negated, asks.set.iter())))
            .collect();
        Some(NumberAxis {
            intervals: Intervals::new(&sets, &mut rows),
            absent: rows.row(&indifferent(asked)),
            rows: rows.finish(),
        })
    }

    #[inline]
    pub(super) fn row(&self, number: Option<u16>) -> &Row {
        self.rows.get(match number {
            None => self.absent,
            Some(number) => self.intervals.find(number),
        })
    }

    pub(super) fn memory(&self) -> usize {
        self.rows.memory() + self.intervals.starts.len() * 6
    }
}

/// Protocols: few enough for a table.
#[derive(Debug)]
pub(super) struct ProtocolAxis {
    rows: Rows,
    by_number: Vec<RowId>,
}

impl ProtocolAxis {
    /// `None` if no rule asks for it.
    pub(super) fn new(asked: &Asked<'_, Protocols>) -> Option<ProtocolAxis> {
        if !is_asked(asked) {
            return None;
        }
        let mut rows = RowsBuilder::new();
        let by_number = (0..=u8::MAX).map(|number| {
            let mut bits = Bits::new(asked.len());
            for (rule, asks) in asked.iter().enumerate() {
                let is_true = asks.is_none_or(|Negatable { negated, set }| {
                    set.0.contains(&Protocol(number)) != *negated
                });
                bits.set(rule, is_true);
            }
            rows.row(&bits)
        });
        Some(ProtocolAxis {
            by_number: by_number.collect(),
            rows: rows.finish(),
        })
    }

    #[inline]
    pub(super) fn row(&self, protocol: Protocol) -> &Row {
        self.rows.get(self.by_number[usize::from(protocol.0)])
    }

    pub(super) fn memory(&self) -> usize {
        self.rows.memory() + self.by_number.len() * 4
    }
}

/// Places: ports that a rule names, then networks that one names, then all others.
#[derive(Debug)]
pub(super) struct InterfaceAxis {
    rows: Rows,
    ports: Vec<(Side, RowId)>,
    networks: Vec<(NetworkNumber, RowId)>,
    other: RowId,
}

impl InterfaceAxis {
    /// `None` if no rule asks for it.
    pub(super) fn new(asked: &Asked<'_, Interfaces>) -> Option<InterfaceAxis> {
        if !is_asked(asked) {
            return None;
        }
        let mut rows = RowsBuilder::new();
        let mut row = |is_in: &dyn Fn(&Interfaces) -> bool| {
            let mut bits = Bits::new(asked.len());
            for (rule, asks) in asked.iter().enumerate() {
                let is_true = asks.is_none_or(|Negatable { negated, set }| is_in(set) != *negated);
                bits.set(rule, is_true);
            }
            rows.row(&bits)
        };
        let sets = || asked.iter().flatten().map(|asks| &asks.set);
        let named: BTreeMap<Side, Interface> = sets()
            .flat_map(|set| &set.ports)
            .map(|&port| (port.side, port))
            .collect();
        let mut networks: Vec<NetworkNumber> =
            sets().flat_map(|set| &set.networks).copied().collect();
        networks.sort_unstable();
        networks.dedup();
        let ports = named
            .values()
            .map(|&port| (port.side, row(&|set| set.contains(port))))
            .collect();
        let networks = networks
            .into_iter()
            .map(|network| (network, row(&|set| set.networks.contains(&network))))
            .collect();
        let other = row(&|_| false);
        Some(InterfaceAxis {
            rows: rows.finish(),
            ports,
            networks,
            other,
        })
    }

    #[inline]
    pub(super) fn row(&self, interface: Interface) -> &Row {
        self.rows.get(self.find(interface))
    }

    #[inline]
    fn find(&self, Interface { side, network }: Interface) -> RowId {
        if let Ok(at) = self.ports.binary_search_by_key(&side, |&(side, _)| side) {
            return self.ports[at].1;
        }
        let networks = &self.networks;
        network
            .and_then(|network| networks.binary_search_by_key(&network, |&(it, _)| it).ok())
            .map_or(self.other, |at| networks[at].1)
    }

    pub(super) fn memory(&self) -> usize {
        self.rows.memory() + (self.ports.len() + self.networks.len()) * 8
    }
}
