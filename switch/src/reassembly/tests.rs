use std::collections::BTreeMap;

use heddle_wire::builder::{Link, Packet};
use heddle_wire::{MacAddr, Malformed, Summary, VNET_HEADER_LEN};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

use super::table::{BLOCKS, DATAGRAMS, Usage};
use super::{
    Assembly, Cause, Duration, Fragment, Instant, Outcome, Part, PortId, Reassembly, Share, TIMEOUT,
};
use crate::drop::DropReason;
use crate::frame::Frame;

const SIDES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];

/// GRE: of no interest to the parser.
const PROTOCOL: heddle_wire::Protocol = heddle_wire::Protocol(47);

fn packet(side: (&str, &str)) -> Packet {
    let [source, destination] = [1, 2].map(|last| MacAddr::new([2, 0, 0, 0, 0, last]));
    Link::new(source, destination).ip(side.0, side.1)
}

/// The table, and what its callers see.
struct Bench {
    table: Reassembly,
    assembly: Assembly,
    now: Instant,
    /// Fragments that went for others, by port.
    evicted: BTreeMap<u16, usize>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            table: Reassembly::new([7; 64]),
            assembly: Assembly::new(),
            now: Instant::from_micros(1_000_000),
            evicted: BTreeMap::new(),
        }
    }

    fn add(&mut self, port: u16, frame: &[u8]) -> Outcome {
        self.add_with(port, Share::MEMBER, frame)
    }

    fn add_with(&mut self, port: u16, share: Share, frame: &[u8]) -> Outcome {
        let summary = Summary::parse(frame).unwrap();
        let ip = summary.ip().expect("a datagram");
        let fragment = Fragment {
            port: PortId(port),
            share,
            frame,
            ip,
            part: Part::of(frame, ip).expect("a fragment"),
        };
        let evicted = &mut self.evicted;
        let mut evict = |port: PortId, fragments| *evicted.entry(port.0).or_default() += fragments;
        self.table
            .add(&fragment, &mut self.assembly, self.now, &mut evict)
    }

    /// The datagram that came together, without virtio-net header.
    fn whole(&mut self) -> Vec<u8> {
        self.assembly.split().0[VNET_HEADER_LEN..].to_vec()
    }

    /// Lets everything expire; what waited.
    fn expire(&mut self) -> usize {
        self.now = self.now + TIMEOUT;
        let mut fragments = 0;
        while let Some(expired) = self.table.expire(self.now, &mut self.assembly) {
            fragments += expired.fragments;
        }
        self.is_empty();
        fragments
    }

    /// Every slot and block is back.
    fn is_empty(&self) {
        let table = self.table.lock();
        assert_eq!(table.fragments, 0);
        assert_eq!(table.arena.available(), BLOCKS);
        assert_eq!(table.free.len(), table.datagrams.len());
        assert!(
            table.datagrams.len() <= DATAGRAMS as usize && table.records.len() <= BLOCKS as usize
        );
        assert!(table.index.is_empty() && table.ages.is_empty());
        let idle = |usage: &Usage| usage.list.is_empty() && usage.datagrams + usage.blocks == 0;
        assert!(table.usages.iter().all(idle));
        drop(table);
        assert_eq!(self.table.next_deadline(), None);
    }

    /// Blocks and datagrams of a port.
    fn usage(&self, port: u16) -> (u32, u32) {
        let table = self.table.lock();
        let usage = table.usages[usize::from(port)];
        (usage.datagrams, usage.blocks)
    }
}

/// A fragment of `len` octets at `offset` of a datagram whose data is `fill`ed in a pattern.
fn fragment(side: (&str, &str), id: u32, offset: u16, len: usize, more: bool, fill: u8) -> Vec<u8> {
    let data: Vec<u8> = (0..len)
        .map(|at| pattern(usize::from(offset) + at, fill))
        .collect();
    packet(side)
        .fragment(id, offset, more)
        .frame(PROTOCOL, &data)
}

fn pattern(at: usize, fill: u8) -> u8 {
    u8::try_from(at / 8 % 251).unwrap().wrapping_add(fill)
}

/// What RFC 5722 and RFC 8200 §4.5 ask for, octet by octet.
#[derive(Default)]
struct Oracle {
    octets: BTreeMap<usize, u8>,
    pieces: Vec<(usize, Vec<u8>, bool)>,
    is_refused: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Waits,
    Whole(Vec<u8>),
    Duplicate,
    Refused(usize),
}

impl Oracle {
    fn add(&mut self, offset: usize, data: &[u8], more: bool) -> Verdict {
        if self.is_refused {
            return Verdict::Refused(0);
        }
        let piece = (offset, data.to_vec(), more);
        if self.pieces.contains(&piece) {
            return Verdict::Duplicate;
        }
        let overlaps = (offset..offset + data.len()).any(|at| self.octets.contains_key(&at));
        let mut all = self.pieces.clone();
        all.push(piece);
        let ends: Vec<usize> = all
            .iter()
            .filter(|piece| !piece.2)
            .map(|piece| piece.0 + piece.1.len())
            .collect();
        // Nothing ends behind the last one, and what others follow ends before it.
        let beyond = ends.iter().any(|end| {
            all.iter().any(|(offset, data, more)| {
                let behind = offset + data.len();
                behind > *end || *more && behind == *end
            })
        });
        if overlaps || beyond || ends.windows(2).any(|pair| pair[0] != pair[1]) {
            self.is_refused = true;
            return Verdict::Refused(self.pieces.len());
        }
        self.octets.extend(
            data.iter()
                .enumerate()
                .map(|(at, octet)| (offset + at, *octet)),
        );
        self.pieces = all;
        match ends.first() {
            Some(end) if self.octets.len() == *end => {
                let whole = std::mem::take(self);
                Verdict::Whole(whole.octets.into_values().collect())
            }
            _ => Verdict::Waits,
        }
    }
}

/// Fragments of a datagram: cut somewhere, some twice, some wrong, in any order.
fn any_fragments() -> impl Strategy<Value = Vec<(u16, usize, bool, u8)>> {
    let cuts = vec(1_u16..400, 1..12);
    let wrong = prop_oneof![
        3 => Just(None),
        1 => (0_u16..2000, 1_usize..300, any::<bool>()).prop_map(Some),
    ];
    (
        cuts,
        1_usize..900,
        vec(0_usize..12, 0..4),
        wrong,
        any::<u8>(),
    )
        .prop_map(|(cuts, tail, twice, wrong, other)| {
            let mut offset = 0;
            let mut pieces = Vec::new();
            for units in cuts {
                pieces.push((offset, usize::from(units) * 8, true, 0));
                offset += units * 8;
            }
            pieces.push((offset, tail, false, 0));
            for again in twice {
                let mut piece = pieces[again % pieces.len()];
                // Now and then with other data.
                piece.3 = u8::from(other == 3);
                pieces.push(piece);
            }
            if let Some((units, len, more)) = wrong {
                let len = if more { len * 8 } else { len };
                pieces.push((units * 8, len, more, 0));
            }
            pieces
        })
        .prop_shuffle()
}

proptest! {
    #[test]
    fn fragments_in_any_order_come_together_as_octet_by_octet(
        side in select(SIDES.to_vec()),
        pieces in any_fragments(),
    ) {
        let mut bench = Bench::new();
        let mut oracle = Oracle::default();
        for (offset, len, more, fill) in pieces {
            let frame = fragment(side, 7, offset, len, more, fill);
            let data: Vec<u8> =
                (0..len).map(|at| pattern(usize::from(offset) + at, fill)).collect();
            let expected = oracle.add(offset.into(), &data, more);
            let overlap = DropReason::from(Cause::FragmentOverlap);
            let found = match bench.add(3, &frame) {
                Outcome::Waits => Verdict::Waits,
                Outcome::Whole => {
                    let whole = bench.whole();
                    let summary = Summary::parse(&whole).unwrap();
                    let ip = summary.ip().unwrap();
                    prop_assert!(!ip.fragment.is_part());
                    let expected = packet(side).may_fragment().id(7);
                    let data = ip.payload(&whole).unwrap();
                    prop_assert_eq!(&whole, &expected.frame(PROTOCOL, data));
                    Verdict::Whole(data.to_vec())
                }
                Outcome::Refused(reason, 0) if reason == Cause::FragmentDuplicate.into() => {
                    Verdict::Duplicate
                }
                Outcome::Refused(reason, others) => {
                    prop_assert_eq!(reason, overlap);
                    Verdict::Refused(others)
                }
            };
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(bench.expire(), oracle.pieces.len() * usize::from(!oracle.is_refused));
        prop_assert!(bench.evicted.is_empty());
    }

    #[test]
    fn what_leaves_is_what_came_in_its_order(
        side in select(SIDES.to_vec()),
        cuts in vec(1_u16..100, 1..8),
        tail in 1_usize..300,
        rotate in 0_usize..9,
    ) {
        let mut offset = 0;
        let mut frames = Vec::new();
        for units in cuts {
            frames.push(fragment(side, 7, offset, usize::from(units) * 8, true, 0));
            offset += units * 8;
        }
        frames.push(fragment(side, 7, offset, tail, false, 0));
        let count = frames.len();
        frames.rotate_left(rotate % count);
        let mut bench = Bench::new();
        let (last, others) = frames.split_last().unwrap();
        for frame in others {
            prop_assert_eq!(bench.add(0, frame), Outcome::Waits);
        }
        prop_assert_eq!(bench.add(0, last), Outcome::Whole);
        bench.is_empty();
        let mut summary = heddle_wire::Summary::EMPTY;
        let frame = Frame::assembled(&mut bench.assembly, &mut summary).unwrap();
        prop_assert_eq!(frame.count(), count);
        let mut came = Vec::new();
        let parts = frame.parts().unwrap();
        parts.as_they_came(frame.ethernet(), &mut Vec::new(), |frame| came.push(frame.to_vec()));
        prop_assert_eq!(&came, &frames);
        let longest = frames.iter().map(|frame| frame.len() - 14).max();
        prop_assert_eq!(Some(frame.largest_packet_len()), longest);
    }

    #[test]
    fn many_ports_at_once_never_cost_more_than_there_is_and_leave_nothing(
        actions in vec((0_u16..6, 0_u32..80, 0_u16..40, 1_usize..3000, any::<bool>()), 1..400),
    ) {
        let mut bench = Bench::new();
        let mut ended = 0_usize;
        for (came, (port, id, place, len, more)) in actions.into_iter().enumerate() {
            let len = if more { len.next_multiple_of(8) } else { len };
            let frame = fragment(SIDES[0], id, place * 200 + 8, len, more, 0);
            match bench.add(port, &frame) {
                Outcome::Waits => {}
                Outcome::Whole => prop_assert!(false, "nothing begins"),
                Outcome::Refused(_, others) => ended += others + 1,
            }
            let (datagrams, blocks) = bench.usage(port);
            prop_assert!(datagrams <= Share::MEMBER.datagrams && blocks <= Share::MEMBER.blocks);
            let evicted: usize = bench.evicted.values().sum();
            prop_assert_eq!(came + 1, ended + evicted + bench.table.fragments());
        }
        bench.table.forget_port(PortId(0));
        bench.expire();
    }
}

#[test]
fn the_key_is_all_of_port_addresses_identification_and_in_ipv4_the_protocol() {
    let side = SIDES[0];
    let mut bench = Bench::new();
    let first = |side, id| fragment(side, id, 0, 8, true, 0);
    let rest = |side, id| fragment(side, id, 8, 8, false, 0);
    assert_eq!(bench.add(0, &first(side, 1)), Outcome::Waits);
    assert_eq!(bench.add(1, &rest(side, 1)), Outcome::Waits);
    assert_eq!(bench.add(0, &rest(side, 2)), Outcome::Waits);
    assert_eq!(bench.add(0, &rest((side.1, side.0), 1)), Outcome::Waits);
    assert_eq!(bench.add(0, &rest((side.0, "10.0.0.3"), 1)), Outcome::Waits);
    let other = packet(side)
        .fragment(1, 8, false)
        .frame(heddle_wire::Protocol(132), &[0; 8]);
    assert_eq!(bench.add(0, &other), Outcome::Waits);
    assert_eq!(bench.add(0, &rest(side, 1)), Outcome::Whole);
    assert_eq!(bench.expire(), 5);
    // Of IPv6 only the first fragment's counts.
    let side = SIDES[1];
    assert_eq!(bench.add(0, &first(side, 1)), Outcome::Waits);
    let other = packet(side)
        .fragment(1, 8, false)
        .frame(heddle_wire::Protocol::DESTINATION_OPTIONS, &[0; 8]);
    assert_eq!(bench.add(0, &other), Outcome::Whole);
    bench.is_empty();
}

#[test]
fn what_is_to_come_of_a_refused_datagram_is_dropped_until_its_time_is_over() {
    for side in SIDES {
        let mut bench = Bench::new();
        let overlap = Cause::FragmentOverlap.into();
        assert_eq!(
            bench.add(0, &fragment(side, 1, 0, 16, true, 0)),
            Outcome::Waits
        );
        let over = fragment(side, 1, 8, 16, true, 0);
        assert_eq!(bench.add(0, &over), Outcome::Refused(overlap, 1));
        assert_eq!(bench.usage(0), (1, 0));
        for (offset, more) in [(0, true), (8, false), (16, false), (64, true)] {
            let frame = fragment(side, 1, offset, 8, more, 0);
            assert_eq!(bench.add(0, &frame), Outcome::Refused(overlap, 0));
        }
        bench.now = bench.now + (TIMEOUT - Duration::from_micros(1));
        assert_eq!(bench.table.expire(bench.now, &mut bench.assembly), None);
        assert_eq!(bench.expire(), 0);
        assert_eq!(
            bench.add(0, &fragment(side, 1, 8, 8, false, 0)),
            Outcome::Waits
        );
        assert_eq!(
            bench.add(0, &fragment(side, 1, 0, 8, true, 0)),
            Outcome::Whole
        );
    }
}

#[test]
fn a_datagram_is_given_up_after_its_time_and_its_first_fragment_shown() {
    let mut bench = Bench::new();
    let first = fragment(SIDES[1], 1, 0, 3000, true, 0);
    bench.add(4, &first);
    bench.now = bench.now + Duration::from_secs(1);
    bench.add(4, &fragment(SIDES[1], 2, 8, 8, true, 0));
    let due = bench.table.next_deadline().expect("something waits");
    assert_eq!(due, bench.now + (TIMEOUT - Duration::from_secs(1)));
    bench.now = due;
    let expired = bench
        .table
        .expire(due, &mut bench.assembly)
        .expect("is due");
    assert_eq!(
        (expired.port, expired.fragments, expired.has_first),
        (PortId(4), 1, true)
    );
    let whole = bench.whole();
    let mut shown = Vec::new();
    let (_, parts) = bench.assembly.split();
    parts.as_they_came(&whole, &mut Vec::new(), |frame| shown.push(frame.to_vec()));
    assert_eq!(shown, [first]);
    assert_eq!(bench.table.expire(due, &mut bench.assembly), None);
    bench.now = bench.table.next_deadline().expect("the other one waits");
    let expired = bench
        .table
        .expire(bench.now, &mut bench.assembly)
        .expect("is due");
    assert!(!expired.has_first);
    bench.is_empty();
}

#[test]
fn whoever_has_too_many_datagrams_gives_up_his_own_oldest() {
    let mut bench = Bench::new();
    bench.add(1, &fragment(SIDES[0], 0, 0, 8, true, 0));
    for id in 0..5000 {
        let frame = fragment(SIDES[0], id, 0, 1400, true, 0);
        assert_eq!(bench.add(0, &frame), Outcome::Waits);
    }
    assert_eq!(bench.evicted, BTreeMap::from([(0, 5000 - 64)]));
    assert_eq!((bench.usage(0), bench.usage(1)), ((64, 64), (1, 1)));
    // The newest is the one that can still be completed, and so can the neighbour's.
    assert_eq!(
        bench.add(0, &fragment(SIDES[0], 4999, 1400, 8, false, 0)),
        Outcome::Whole
    );
    assert_eq!(
        bench.add(1, &fragment(SIDES[0], 0, 8, 8, false, 0)),
        Outcome::Whole
    );
    bench.table.forget_port(PortId(0));
    bench.is_empty();
}

#[test]
fn whoever_has_too_many_octets_gives_up_his_own_oldest() {
    let mut bench = Bench::new();
    // Of 32 blocks each: sixteen of them are the share.
    for id in 0..20 {
        assert_eq!(
            bench.add(0, &fragment(SIDES[0], id, 8, 65_000, true, 0)),
            Outcome::Waits
        );
    }
    assert_eq!(bench.evicted, BTreeMap::from([(0, 4)]));
    assert_eq!(bench.usage(0), (16, 512));
    // The oldest that is there is the one to which more is added: it goes with what is added.
    let outcome = bench.add(0, &fragment(SIDES[0], 4, 65_008, 8, false, 0));
    assert_eq!(outcome, Outcome::Refused(Cause::FragmentQuota.into(), 1));
    bench.expire();
}

#[test]
fn if_all_memory_is_in_use_it_is_taken_from_whom_uses_most_of_his_share() {
    let mut bench = Bench::new();
    let large = |id| fragment(SIDES[0], id, 8, 65_000, true, 0);
    // Sixteen ports fill it to the brim, each with its share.
    for port in 0..16 {
        for id in 0..16 {
            assert_eq!(bench.add(port, &large(id)), Outcome::Waits);
        }
    }
    assert_eq!(bench.table.lock().arena.available(), 0);
    // One that has nothing gets what it asks for, from one that has most.
    assert_eq!(
        bench.add(99, &fragment(SIDES[0], 1, 0, 8, true, 0)),
        Outcome::Waits
    );
    assert_eq!(bench.evicted.values().sum::<usize>(), 1);
    assert_eq!(
        bench.add(99, &fragment(SIDES[0], 1, 8, 8, false, 0)),
        Outcome::Whole
    );
    // A leg that uses less of its larger share is not the one that goes.
    let before = bench.evicted.clone();
    for id in 0..32 {
        assert_eq!(bench.add_with(50, Share::LEG, &large(id)), Outcome::Waits);
    }
    assert!(!bench.evicted.contains_key(&50));
    assert!(bench.evicted.values().sum::<usize>() > before.values().sum());
    bench.expire();
}

#[test]
fn datagrams_of_all_ports_together_are_bounded_as_well() {
    let mut bench = Bench::new();
    for port in 0..70 {
        for id in 0..64 {
            let frame = fragment(SIDES[1], id, 8, 8, true, 0);
            assert_eq!(bench.add(port, &frame), Outcome::Waits);
        }
    }
    let evicted: usize = bench.evicted.values().sum();
    assert_eq!(evicted, 70 * 64 - 4096);
    // Nobody lost more than a few.
    assert!(bench.evicted.values().all(|&fragments| fragments <= 8));
    assert_eq!(bench.expire(), 4096);
}

#[test]
fn a_datagram_in_too_many_fragments_is_refused() {
    for side in SIDES {
        let mut bench = Bench::new();
        for place in 0..128 {
            let frame = fragment(side, 1, place * 8, 8, true, 0);
            assert_eq!(bench.add(0, &frame), Outcome::Waits);
        }
        let reason = Cause::FragmentsTooMany.into();
        let last = fragment(side, 1, 1024, 8, false, 0);
        assert_eq!(bench.add(0, &last), Outcome::Refused(reason, 128));
        assert_eq!(bench.add(0, &last), Outcome::Refused(reason, 0));
        bench.expire();
    }
}

#[test]
fn a_datagram_with_too_many_octets_of_headers_is_refused() {
    let mut bench = Bench::new();
    // Padding of 239 octets in a destination options header of 240.
    let mut padding = vec![29, 1, 235];
    padding.extend([0; 235]);
    padding.push(0);
    let mut refused = None;
    for place in 0..60 {
        let frame = packet(SIDES[1])
            .extension(heddle_wire::Protocol::DESTINATION_OPTIONS, &padding)
            .fragment(1, place * 8, true)
            .frame(PROTOCOL, &[0; 8]);
        match bench.add(0, &frame) {
            Outcome::Waits => {}
            outcome => {
                refused = Some(outcome);
                break;
            }
        }
    }
    let others = super::HEADERS_LEN_MAX / (40 + 240 + 8);
    assert_eq!(
        refused,
        Some(Outcome::Refused(Cause::FragmentsTooMany.into(), others))
    );
    bench.expire();
}

#[test]
fn what_is_longer_together_than_a_datagram_can_be_is_refused() {
    // The first has options, so that the last one's end is beyond what the header can say.
    let mut bench = Bench::new();
    for (offset, len) in [(8, 32_000), (32_008, 33_507)] {
        let more = offset == 8;
        assert_eq!(
            bench.add(0, &fragment(SIDES[0], 1, offset, len, more, 0)),
            Outcome::Waits
        );
    }
    let first = packet(SIDES[0])
        .options(&[1; 40])
        .fragment(1, 0, true)
        .frame(PROTOCOL, &[0; 8]);
    let reason = Malformed::FragmentTooLong.into();
    assert_eq!(bench.add(0, &first), Outcome::Refused(reason, 2));
    bench.is_empty();
}

#[test]
fn the_whole_has_the_fewest_hops_and_the_strictest_flag() {
    let mut bench = Bench::new();
    let piece = |offset, more| packet(SIDES[0]).fragment(9, offset, more);
    let frames = [
        piece(0, true).hop_limit(9).frame(PROTOCOL, &[1; 8]),
        piece(8, true).hop_limit(3).frame(PROTOCOL, &[1; 8]),
        piece(16, false)
            .hop_limit(7)
            .dont_fragment()
            .frame(PROTOCOL, &[1; 8]),
    ];
    let outcomes = frames.map(|frame| bench.add(0, &frame));
    assert_eq!(outcomes[2], Outcome::Whole);
    let expected = packet(SIDES[0]).id(9).hop_limit(3).dont_fragment();
    assert_eq!(bench.whole(), expected.frame(PROTOCOL, &[1; 24]));
}

#[test]
fn a_first_fragment_whose_data_is_not_whole_units_is_refused() {
    // Behind an authentication header of 12 octets the parser counts from elsewhere.
    let mut bench = Bench::new();
    let data = [&[47, 1, 0, 0][..], &[0; 8], &[0; 16]].concat();
    let first = packet(SIDES[1])
        .fragment(1, 0, true)
        .frame(heddle_wire::Protocol::AUTHENTICATION, &data);
    let reason = Cause::FragmentOverlap.into();
    assert_eq!(bench.add(0, &first), Outcome::Refused(reason, 0));
    bench.expire();
}
