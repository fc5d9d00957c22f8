//! What the table says of its memory is what the process takes.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use std::fs;
use std::net::IpAddr;

use heddle_mem::Instant;
use heddle_nat::{Destination, Limits, Nat, Opening, Packet, Published, Side, Source, Tuple, Zone};
use heddle_wire::{Address, Protocol};

const SESSIONS: u32 = 100_000;
const OUTSIDE: Zone = Zone(1);

/// Octets of the process that are in memory.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

fn address(octets: [u8; 4]) -> Address {
    Address::from(IpAddr::from(octets))
}

/// Has sessions opened, so many through each mapping, each to another peer.
fn open(nat: &Nat, per_mapping: u32) {
    let published = Published::default();
    for number in 0..SESSIONS {
        let [_, _, high, low] = (number % per_mapping).to_be_bytes();
        let tuple = Tuple {
            source: address([10, 0, 0, 2]),
            destination: address([198, 51, high, low]),
            source_port: 1_024 + u16::try_from(number / per_mapping).unwrap(),
            destination_port: 443,
            protocol: Protocol::UDP,
            zone: Zone::INSIDE,
        };
        let opening = Opening {
            tuple,
            sides: [Side(1), Side(2)],
            destination: Destination::AsIs,
            source: Source::Masquerade(OUTSIDE, address([192, 0, 2, 1])),
            reply_zone: OUTSIDE,
            packet: Packet {
                len: 46,
                segment: None,
            },
            published: &published,
            random: 1,
        };
        nat.open(&opening, Instant::ZERO).unwrap();
    }
}

#[test]
fn what_the_table_says_of_its_memory_is_what_the_process_takes() {
    let nats = [2, 20, 1_000].map(|per_mapping| {
        let before = resident();
        let nat = Nat::new(Limits::undivided(SESSIONS), [7; 64], Instant::ZERO);
        open(&nat, per_mapping);
        let taken = resident() - before;
        let said = nat.memory();
        // Places for numbers that may be given back are counted and not yet touched; pages are whole.
        let tolerance = said / 20 + (1 << 18);
        assert!(
            taken.abs_diff(said) < tolerance,
            "{per_mapping} a mapping: {taken} octets taken, {said} said"
        );
        nat
    });
    // Twenty through a mapping, as where one address serves a million sessions: everything included.
    let each = nats[1].memory() / usize::try_from(SESSIONS).unwrap();
    assert!(each <= 232, "{each} octets a session");
}
