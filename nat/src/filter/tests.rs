//! The compiled chain against a slow one that looks at every rule, and the parts by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_wire::{Address, Family, Protocol};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

use super::*;
use crate::session::Side;
use crate::tuple::Direction;

const NOW: Instant = Instant::from_micros(1_000_000_000);

/// Whether a rule's matches are true of a packet, said as plainly as can be.
fn is_true(matches: &Matches, question: &Question) -> bool {
    let Matches {
        scope,
        family,
        source,
        destination,
        original_destination,
        original_port,
        protocol,
        source_port,
        destination_port,
        icmp,
        states,
        direction,
        ingress,
        egress,
    } = matches;
    fn asks<T, V>(asked: &Option<Negatable<T>>, value: Option<V>, has: fn(&T, V) -> bool) -> bool {
        match (asked, value) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(Negatable { negated, set }), Some(value)) => has(set, value) != *negated,
        }
    }
    let address = |asked, address: Option<Address>| {
        asks(
            asked,
            address.map(Address::bits),
            |set: &Ranges<u128>, it| set.iter().any(|(first, last)| first <= it && it <= last),
        )
    };
    let number = |asked, number| {
        asks(asked, number, |set: &Ranges<u16>, it| {
            set.iter().any(|(first, last)| first <= it && it <= last)
        })
    };
    let (ports, kind) = match question.packet {
        Packets::Ports(source, destination) => (Some((source, destination)), None),
        Packets::Icmp(kind, code) => (None, Some(u16::from(kind) << 8 | u16::from(code))),
        Packets::Nothing => (None, None),
    };
    let place = |asked, place| {
        asks(asked, Some(place), |set: &Interfaces, place: Interface| {
            set.ports.iter().any(|port| port.side == place.side)
                || set
                    .networks
                    .iter()
                    .any(|&network| place.network == Some(network))
        })
    };
    question.area.is_of(*scope)
        && family.is_none_or(|family| question.source.family() == family)
        && address(source, Some(question.source))
        && address(destination, Some(question.destination))
        && address(
            original_destination,
            question.original.map(|(address, _)| address),
        )
        && number(original_port, question.original.map(|(_, port)| port))
        && asks(protocol, Some(question.protocol), |set, it| {
            set.0.contains(&it)
        })
        && number(source_port, ports.map(|(source, _)| source))
        && number(destination_port, ports.map(|(_, destination)| destination))
        && number(icmp, kind)
        && asks(states, Some(question.state), |set, it| set.contains(it))
        && direction.is_none_or(|direction| question.direction == direction)
        && place(ingress, question.ingress)
        && place(egress, question.egress)
}

/// The slow chain: what it says, and which rules it has counted.
fn look_at_each(rules: &[Rule], question: &Question) -> (Option<Judgement>, Vec<u32>) {
    let mut counted = Vec::new();
    for rule in rules {
        if !is_true(&rule.matches, question) {
            continue;
        }
        counted.push(rule.id.0);
        let end = match rule.verdict {
            Verdict::Accept => Some(Judgement::Accept),
            Verdict::Drop => Some(Judgement::Drop),
            Verdict::Reject(how) => Some(Judgement::Reject(how)),
            Verdict::Return => None,
            Verdict::Count | Verdict::Log { .. } => continue,
        };
        return (end, counted);
    }
    (None, counted)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// Addresses that are near each other, and near the ends of both families.
fn an_address() -> impl Strategy<Value = Address> {
    let near =
        |base: u128| (0_u128..9).prop_map(move |offset| base.wrapping_add(offset).wrapping_sub(4));
    prop_oneof![
        4 => near(address("10.0.0.4").bits()),
        3 => near(address("fd00::4").bits()),
        1 => near(address("0.0.0.0").bits()),
        1 => near(address("255.255.255.255").bits()),
        1 => near(0),
    ]
    .prop_map(Address::from_bits)
}

fn addresses() -> impl Strategy<Value = Ranges<u128>> {
    let range = (an_address(), an_address()).prop_map(|(a, b)| (a.bits(), b.bits()));
    let prefix = (an_address(), 0_u32..16).prop_map(|(address, bits)| {
        let mask = (1_u128 << bits) - 1;
        (address.bits() & !mask, address.bits() | mask)
    });
    vec(prop_oneof![range, prefix], 0..4).prop_map(Ranges::new)
}

fn a_number() -> impl Strategy<Value = u16> {
    prop_oneof![
        0_u16..6,
        65_530_u16..=65_535,
        Just(8 << 8),
        Just(3 << 8 | 3)
    ]
}

fn numbers() -> impl Strategy<Value = Ranges<u16>> {
    vec((a_number(), a_number()), 0..4).prop_map(Ranges::new)
}

fn asked<T: Clone + std::fmt::Debug + 'static>(
    set: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<Negatable<T>>> {
    let negatable = (any::<bool>(), set).prop_map(|(negated, set)| Negatable { negated, set });
    // Most rules ask for little.
    prop_oneof![3 => Just(None), 1 => negatable.prop_map(Some)]
}

const PROTOCOLS: [Protocol; 5] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::ICMP,
    Protocol::ICMPV6,
    Protocol(0),
];

fn an_interface() -> impl Strategy<Value = Interface> {
    // A port is in one network, or is a way out.
    (0_u16..6).prop_map(|port| Interface {
        side: Side(port),
        network: (port < 4).then_some(NetworkNumber(port / 2)),
    })
}

fn interfaces() -> impl Strategy<Value = Interfaces> {
    let networks = vec((0_u16..3).prop_map(NetworkNumber), 0..3);
    (vec(an_interface(), 0..3), networks)
        .prop_map(|(ports, networks)| Interfaces { ports, networks })
}

fn matches() -> impl Strategy<Value = Matches> {
    let states = vec(select(&State::ALL[..]), 0..3).prop_map(|states| States::new(&states));
    let protocols = vec(select(&PROTOCOLS[..]), 0..3).prop_map(Protocols);
    let addresses = || asked(addresses());
    let numbers = || asked(numbers());
    let interfaces = || asked(interfaces());
    let who = (
        addresses(),
        addresses(),
        addresses(),
        interfaces(),
        interfaces(),
    );
    let what = (asked(protocols), numbers(), numbers(), numbers(), numbers());
    let how = (
        select(&[Scope::Routed, Scope::Routed, Scope::Inside][..]),
        select(&[None, None, Some(Family::V4), Some(Family::V6)][..]),
        select(
            &[
                None,
                None,
                Some(Direction::Original),
                Some(Direction::Reply),
            ][..],
        ),
        asked(states),
    );
    (who, what, how).prop_map(|(who, what, how)| Matches {
        scope: how.0,
        family: how.1,
        source: who.0,
        destination: who.1,
        original_destination: who.2,
        original_port: what.4,
        protocol: what.0,
        source_port: what.1,
        destination_port: what.2,
        icmp: what.3,
        states: how.3,
        direction: how.2,
        ingress: who.3,
        egress: who.4,
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    select(
        &[
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Reject(Rejection::Reset),
            Verdict::Return,
            Verdict::Count,
            Verdict::Count,
            Verdict::Log { sample: 3 },
        ][..],
    )
}

fn rule(id: u32, matches: Matches, verdict: Verdict) -> Rule {
    Rule {
        id: RuleId(id),
        matches,
        limit: None,
        verdict,
        meter: Arc::new(Meter::new(2)),
    }
}

fn rules(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Rule>> {
    vec((matches(), verdict()), len).prop_map(|rules| {
        let rules = rules.into_iter().zip(0..);
        rules
            .map(|((matches, verdict), id)| rule(id, matches, verdict))
            .collect()
    })
}

fn a_question() -> impl Strategy<Value = Question> {
    let packet = prop_oneof![
        (a_number(), a_number())
            .prop_map(|(source, destination)| Packets::Ports(source, destination)),
        select(&[Packets::Icmp(8, 0), Packets::Icmp(3, 3), Packets::Nothing][..]),
    ];
    let who = (an_address(), an_address(), of((an_address(), a_number())));
    let how = (
        select(&State::ALL[..]),
        select(&Direction::BOTH[..]),
        select(&[Area::Routed, Area::Inside, Area::Hairpin][..]),
    );
    let places = (an_interface(), an_interface());
    (who, select(&PROTOCOLS[..]), packet, how, places).prop_map(
        |(who, protocol, packet, how, places)| Question {
            source: who.0,
            destination: who.1,
            protocol,
            packet,
            original: who.2,
            state: how.0,
            direction: how.1,
            area: how.2,
            ingress: places.0,
            egress: places.1,
            len: 100,
        },
    )
}

fn alone(rules: &[Rule]) -> RuleSet {
    let chain = Chain::new(rules.to_vec()).unwrap();
    RuleSet::new(Some(Arc::new(chain)), BTreeMap::new(), Arc::default())
}

proptest! {
    #[test]
    fn a_compiled_chain_says_and_counts_what_looking_at_each_rule_does(
        rules in prop_oneof![4 => rules(0..12), 1 => rules(60..200)],
        questions in vec(a_question(), 1..24),
    ) {
        let set = alone(&rules);
        let mut counted = vec![0; rules.len()];
        for question in &questions {
            let (end, counts) = look_at_each(&rules, question);
            let end = end.unwrap_or(Judgement::Accept);
            prop_assert_eq!(set.foresee(question, 1, NOW), end);
            prop_assert_eq!(set.judge(question, 1, NOW), end);
            counts.into_iter().for_each(|id| counted[id as usize] += 1);
        }
        let found: Vec<u64> = rules.iter().map(|rule| rule.meter.counted().0).collect();
        prop_assert_eq!(found, counted);
    }

    #[test]
    fn chains_are_asked_one_after_the_other(
        everybody in rules(0..6), one in rules(0..6), other in rules(0..6),
        questions in vec(a_question(), 1..12),
    ) {
        let compile = |rules: &[Rule]| Arc::new(Chain::new(rules.to_vec()).unwrap());
        let networks = BTreeMap::from([
            (NetworkNumber(0), compile(&one)),
            (NetworkNumber(1), compile(&other)),
        ]);
        let set = RuleSet::new(Some(compile(&everybody)), networks, Arc::default());
        for question in &questions {
            let [from, to] = [question.ingress.network, question.egress.network];
            let mut chains = vec![&everybody];
            for network in [from, to.filter(|_| to != from)].into_iter().flatten() {
                chains.extend([&one, &other].get(usize::from(network.0)));
            }
            let end = chains.iter().find_map(|rules| look_at_each(rules, question).0);
            prop_assert_eq!(set.judge(question, 0, NOW), end.unwrap_or(Judgement::Accept));
        }
    }

    #[test]
    fn ranges_are_the_union_of_what_they_were_made_of(
        ranges in vec((0_u16..40, 0_u16..40), 0..8), number in 0_u16..42,
    ) {
        let set = Ranges::new(ranges.clone());
        let is_in = ranges.iter().any(|&(first, last)| first <= number && number <= last);
        prop_assert_eq!(set.contains(number), is_in);
        let ranges: Vec<_> = set.iter().collect();
        prop_assert_eq!(ranges.windows(2).filter(|it| it[0].1 + 1 >= it[1].0).count(), 0);
    }

    #[test]
    fn no_more_tokens_are_taken_than_the_rate_and_the_burst_allow(
        interval in 1_u64..5_000, burst in 1_u32..6, steps in vec(0_u64..9_000, 1..80),
    ) {
        let limit = Limit { interval: Duration::from_micros(interval), burst };
        let meter = Meter::new(1);
        let (mut now, mut tokens, mut fraction) = (0, u64::from(burst), 0);
        for step in steps {
            now += step;
            // The slow bucket: whole tokens, and time on the way to the next one.
            fraction += step;
            tokens += fraction / interval;
            fraction %= interval;
            if tokens >= u64::from(burst) {
                (tokens, fraction) = (u64::from(burst), 0);
            }
            let at = Instant::from_micros(1_000_000 + now);
            prop_assert_eq!(meter.permits(limit, at, false), tokens > 0);
            prop_assert_eq!(meter.permits(limit, at, true), tokens > 0);
            tokens = tokens.saturating_sub(1);
        }
    }
}

fn question(from: &str, to: &str) -> Question {
    let place = |port, network: Option<u16>| Interface {
        side: Side(port),
        network: network.map(NetworkNumber),
    };
    Question {
        source: address(from),
        destination: address(to),
        protocol: Protocol::UDP,
        packet: Packets::Ports(1000, 53),
        original: None,
        state: State::New,
        direction: Direction::Original,
        area: Area::Routed,
        ingress: place(9, None),
        egress: place(1, Some(0)),
        len: 60,
    }
}

fn single(text: &str) -> Ranges<u128> {
    let bits = address(text).bits();
    Ranges::new([(bits, bits)])
}

#[test]
fn what_is_not_an_ipv4_address_is_not_that_one_in_ipv6_either() {
    let matches = Matches {
        source: Some(Negatable::not(single("192.0.2.2"))),
        ..Matches::default()
    };
    let set = alone(&[rule(1, matches, Verdict::Drop)]);
    for (from, to, end) in [
        ("192.0.2.2", "10.0.0.2", Judgement::Accept),
        ("192.0.2.3", "10.0.0.2", Judgement::Drop),
        ("2001:db8::2", "fd00::2", Judgement::Drop),
    ] {
        assert_eq!(set.judge(&question(from, to), 0, NOW), end, "{from}");
    }
}

#[test]
fn a_rule_counts_packets_and_octets_by_worker_and_in_all() {
    let rule = rule(1, Matches::default(), Verdict::Count);
    let set = alone(std::slice::from_ref(&rule));
    for worker in [0, 1, 1] {
        let end = set.judge(&question("10.0.0.1", "10.0.0.2"), worker, NOW);
        assert_eq!(end, Judgement::Accept);
    }
    assert_eq!(rule.meter.counted(), (3, 180));
}

#[test]
fn what_is_foreseen_takes_no_token_and_counts_nothing() {
    let mut rule = rule(1, Matches::default(), Verdict::Accept);
    rule.limit = Some(Limit {
        interval: Duration::from_secs(1),
        burst: 1,
    });
    let last = self::rule(2, Matches::default(), Verdict::Drop);
    let set = alone(&[rule.clone(), last]);
    let question = question("10.0.0.1", "10.0.0.2");
    assert_eq!(set.foresee(&question, 0, NOW), Judgement::Accept);
    assert_eq!(rule.meter.counted(), (0, 0));
    assert_eq!(set.judge(&question, 0, NOW), Judgement::Accept);
    assert_eq!(set.foresee(&question, 0, NOW), Judgement::Drop);
    assert_eq!(set.judge(&question, 0, NOW), Judgement::Drop);
    let later = NOW + Duration::from_secs(1);
    assert_eq!(set.judge(&question, 0, later), Judgement::Accept);
}

#[test]
fn one_in_so_many_is_told_of_and_a_flood_is_counted_as_lost() {
    let log = Arc::<Log>::default();
    let sampled = rule(7, Matches::default(), Verdict::Log { sample: 10 });
    let chain = Arc::new(Chain::new(vec![sampled]).unwrap());
    let set = RuleSet::new(Some(chain), BTreeMap::new(), log.clone());
    let question = question("10.0.0.1", "10.0.0.2");
    for _ in 0..25 {
        assert_eq!(set.judge(&question, 0, NOW), Judgement::Accept);
    }
    let told = log.drain();
    assert_eq!(told.len(), 3);
    assert!(
        told.iter()
            .all(|told| told.rule == RuleId(7) && told.at == NOW)
    );
    for _ in 0..10_000 {
        let _ = set.judge(&question, 0, NOW);
    }
    let told = u64::try_from(log.drain().len()).unwrap();
    assert!((1..=200).contains(&told), "{told}");
    assert_eq!(told + log.lost(), 1_000);
}

#[test]
fn what_does_not_fit_is_no_chain() {
    let rule = rule(1, Matches::default(), Verdict::Accept);
    assert!(Chain::new(vec![rule.clone(); MAX_RULES]).is_ok());
    let refused = Chain::new(vec![rule.clone(); MAX_RULES + 1]).map(drop);
    assert_eq!(refused, Err(ChainError::TooManyRules(MAX_RULES + 1)));
    let every_other = Ranges::new((0..8_193_u16).map(|port| (port * 2, port * 2)));
    let many = Matches {
        destination_port: Some(Negatable::of(every_other)),
        ..Matches::default()
    };
    let refused = Chain::new(vec![Rule {
        matches: many,
        ..rule
    }])
    .map(drop);
    assert_eq!(refused, Err(ChainError::TooManyPieces(8_193)));
}

#[test]
fn the_largest_chain_stays_within_some_megabytes() {
    let rules = (0..1_024_u32).map(|number| {
        let bits = address("10.0.0.0").bits() + u128::from(number) * 2;
        let port = u16::try_from(number * 2).unwrap();
        let matches = Matches {
            source: Some(Negatable::of(Ranges::new([(bits, bits)]))),
            destination: Some(Negatable::of(Ranges::new([(bits, bits)]))),
            source_port: Some(Negatable::of(Ranges::new([(port, port)]))),
            destination_port: Some(Negatable::of(Ranges::new([(port, port)]))),
            ..Matches::default()
        };
        rule(number, matches, Verdict::Accept)
    });
    let chain = Chain::new(rules.collect()).unwrap();
    assert!(chain.memory() < 4 << 20, "{} octets", chain.memory());
}

#[test]
fn a_set_without_rules_is_about_nothing() {
    let empty = Arc::new(Chain::new(Vec::new()).unwrap());
    let networks = BTreeMap::from([(NetworkNumber(3), empty.clone())]);
    let set = RuleSet::new(Some(empty), networks, Arc::default());
    assert!(set.is_empty());
    let inside = Matches {
        scope: Scope::Inside,
        ..Matches::default()
    };
    let chain = Arc::new(Chain::new(vec![rule(1, inside, Verdict::Drop)]).unwrap());
    let networks = BTreeMap::from([(NetworkNumber(3), chain)]);
    let set = RuleSet::new(None, networks, Arc::default());
    let [here, there] = [3, 4].map(|number| Some(NetworkNumber(number)));
    assert!(!set.is_empty());
    assert!(set.is_about(Area::Inside, [here, here]));
    assert!(!set.is_about(Area::Inside, [there, there]));
    assert!(!set.is_about(Area::Routed, [here, there]));
    assert!(set.is_about(Area::Hairpin, [here, here]));
    assert_eq!(set.networks().collect::<Vec<_>>(), [NetworkNumber(3)]);
}
