use heddle_mem::{KeyedHash, Links};
use proptest::prelude::*;

use super::{Origin, Owner, QUEUES, Shelf, queue_of};
use crate::session::Class;

const CLASSES: [Class; 4] = [
    Class::Closing,
    Class::Unreplied,
    Class::HalfOpen,
    Class::Open,
];

fn shelf(origin: Origin, class: Class, queue: usize) -> Shelf {
    Shelf {
        origin,
        class,
        queue,
    }
}

#[test]
fn the_hosts_of_a_network_share_a_list_and_networks_are_spread() {
    let hash = KeyedHash::new([3; 64]);
    let queue = |text: &str| queue_of(&hash, text.parse().unwrap());
    assert_eq!(queue("203.0.113.1"), queue("203.0.113.254"));
    assert_eq!(queue("2001:db8:7:1::1"), queue("2001:db8:7:ffff::9"));
    let networks = (0..=255).map(|number| queue(&format!("198.51.{number}.1")));
    let mut lists: Vec<usize> = networks.collect();
    lists.sort_unstable();
    lists.dedup();
    // Of 64 lists 256 networks leave one or two empty.
    assert!(lists.len() > QUEUES * 3 / 4, "{}", lists.len());
}

#[test]
fn an_open_session_is_never_given_up() {
    for origin in [Origin::Inside, Origin::Outside] {
        let (mut owner, mut links) = (Owner::default(), Links::new());
        owner.add(&mut links, 1, shelf(Origin::Inside, Class::Open, 0));
        owner.add(&mut links, 2, shelf(Origin::Outside, Class::Open, 0));
        assert_eq!(owner.least_missed(origin), None);
        assert_eq!(owner.port_holders(&links).count(), 0);
    }
}

#[test]
fn the_longest_list_gives() {
    let (mut owner, mut links) = (Owner::default(), Links::new());
    for (slot, queue) in [(0, 5), (1, 9), (2, 9), (3, 5), (4, 9)] {
        let shelf = shelf(Origin::Outside, Class::HalfOpen, queue);
        owner.add(&mut links, slot, shelf);
    }
    assert_eq!(owner.oldest_half_open(Origin::Outside), Some(1));
    owner.remove(&mut links, 1, shelf(Origin::Outside, Class::HalfOpen, 9));
    owner.remove(&mut links, 4, shelf(Origin::Outside, Class::HalfOpen, 9));
    assert_eq!(owner.oldest_half_open(Origin::Outside), Some(0));
}

/// A session that stands somewhere, or one that leaves.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(bool, usize, usize),
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (any::<bool>(), 0..4_usize, 0..4_usize)
            .prop_map(|(inside, class, queue)| Step::Add(inside, class, queue)),
        1 => any::<usize>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn whom_an_owner_gives_up_is_never_one_that_matters_more(steps in steps()) {
        let (mut owner, mut links) = (Owner::default(), Links::new());
        let mut model: Vec<(u32, Shelf)> = Vec::new();
        for (slot, step) in (0..).zip(steps) {
            match step {
                Step::Add(inside, class, queue) => {
                    let origin = if inside { Origin::Inside } else { Origin::Outside };
                    let class = CLASSES[class];
                    let is_knocking = (origin, class) == (Origin::Outside, Class::HalfOpen);
                    let shelf = shelf(origin, class, if is_knocking { queue } else { 0 });
                    owner.add(&mut links, slot, shelf);
                    model.push((slot, shelf));
                }
                Step::Remove(place) if !model.is_empty() => {
                    let (slot, shelf) = model.remove(place % model.len());
                    owner.remove(&mut links, slot, shelf);
                }
                Step::Remove(_) => {}
            }
            let count = |origin, class: Option<Class>| {
                let of = model.iter().filter(|(_, shelf)| {
                    shelf.origin == origin && class.is_none_or(|class| class == shelf.class)
                });
                u32::try_from(of.count()).unwrap()
            };
            for origin in [Origin::Inside, Origin::Outside] {
                prop_assert_eq!(owner.sessions_from(origin), count(origin, None));
                prop_assert_eq!(owner.half_open_from(origin), count(origin, Some(Class::HalfOpen)));
                let victim = owner.least_missed(origin);
                let found = victim.and_then(|slot| model.iter().find(|(other, _)| *other == slot));
                prop_assert_eq!(victim.is_some(), found.is_some());
                let may_go = model.iter().any(|(_, shelf)| {
                    shelf.class != Class::Open
                        && (origin == Origin::Inside || shelf.origin == Origin::Outside)
                });
                prop_assert_eq!(victim.is_some(), may_go);
                if let Some((slot, shelf)) = found {
                    prop_assert!(shelf.class != Class::Open);
                    prop_assert!(origin == Origin::Inside || shelf.origin == Origin::Outside);
                    let older = model.iter().take_while(|(other, _)| other != slot);
                    prop_assert_eq!(older.filter(|(_, other)| other == shelf).count(), 0);
                }
            }
        }
    }
}
