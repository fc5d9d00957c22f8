//! What a worker remembers of its last lookups.
//!
//! A lookup in the table costs a keyed hash, a bucket and an entry, some 130 instructions. Stations that
//! talk do so more than once, so each worker keeps what it found under the station's own number, and a
//! version: that of the table when it looked. Whatever changes the table (a station that is learned, moves,
//! ages or is taken out) counts the version up, and everything remembered before is void. A network with
//! many new stations thus falls back to the table, and is as fast as that.
//!
//! The place is no secret hash of the station: two that share one push each other out, which is all that
//! somebody who chooses addresses can do here.

use heddle_mem::Instant;

use super::{Fdb, Learned, REFRESH, Station, key_of, unpack};
use crate::port::{NetworkId, PortId};
use heddle_wire::MacAddr;

/// Stations remembered, as a power of two: 24 octets each, so that all of them stay in the second-level
/// cache beside a burst of small frames.
const PLACES: u32 = 12;

/// Odd, and the high bits of a product with it depend on all bits of a key: 2⁶⁴ divided by the golden ratio
/// (Knuth, volume 3, §6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One worker's memory of the forwarding database.
#[derive(Debug)]
pub(crate) struct Cache {
    remembered: Box<[Remembered; 1 << PLACES]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    /// Zero for none.
    key: u64,
    /// As it stands in the table's entry.
    value: u64,
    /// Of the table when it stood there.
    version: u64,
}

impl Cache {
    /// Remembers nothing.
    pub(crate) fn new() -> Cache {
        Cache {
            remembered: Box::new([Remembered::default(); 1 << PLACES]),
        }
    }

    #[inline(always)]
    fn place(&mut self, key: u64) -> &mut Remembered {
        // Shifted to where the array ends, which the compiler sees.
        let place = key.wrapping_mul(GOLDEN) >> (u64::BITS - PLACES);
        &mut self.remembered[usize::try_from(place).unwrap_or(0) % (1 << PLACES)]
    }
}

impl Fdb {
    /// [`Fdb::find`], of a worker that remembers.
    #[inline(always)]
    pub(crate) fn find_again(
        &self,
        cache: &mut Cache,
        network: NetworkId,
        mac: MacAddr,
    ) -> Option<Station> {
        let key = key_of(network, mac);
        let remembered = cache.place(key);
        if remembered.key == key && remembered.version == self.version() {
            return Some(unpack(remembered.value).0);
        }
        self.remember(remembered, key).map(|value| unpack(value).0)
    }

    /// [`Fdb::learn`], of a worker that remembers.
    #[inline]
    pub(crate) fn learn_again(
        &self,
        cache: &mut Cache,
        network: NetworkId,
        mac: MacAddr,
        port: PortId,
        now: Instant,
    ) -> Learned {
        let key = key_of(network, mac);
        let remembered = cache.place(key);
        if remembered.key == key && remembered.version == self.version() {
            let (station, seen) = unpack(remembered.value);
            let is_fresh = station.fixed || seen.elapsed(now) < REFRESH;
            if station.port == port && is_fresh {
                return Learned::Known;
            }
        }
        let learned = self.learn(network, mac, self.hash(network, mac), port, now);
        self.remember(remembered, key);
        learned
    }

    /// Looks a station up and remembers it; its value.
    #[inline(never)]
    fn remember(&self, remembered: &mut Remembered, key: u64) -> Option<u64> {
        // Before the look: what changes in between voids what is remembered.
        let version = self.version();
        let (_, value) = self.look(key, self.hash.hash(&[key]))?;
        *remembered = Remembered {
            key,
            value,
            version,
        };
        Some(value)
    }
}
