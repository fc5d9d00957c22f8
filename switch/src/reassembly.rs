//! Fragments of datagrams that somebody must see whole: for translation, and for our own addresses.
//!
//! # Theory of operation
//!
//! Only the first fragment says whose flow a datagram belongs to, and only all of them say whether it
//! is one at all: fragments that overlap can make one datagram for us and another one for its
//! receiver (RFC 1858, RFC 5722). So they wait here until none is missing. Then the whole datagram
//! walks on as one frame, and leaves in the fragments that it came in ([`Assembly`]). This is virtual
//! reassembly: what leaves is what came, in its order, with other addresses.
//!
//! **What comes together**: fragments from one port with one source, destination and identification;
//! of IPv4 also with one protocol (RFC 791 §3.2, RFC 8200 §4.5). Two ports never share a datagram, so
//! nobody can spoil his neighbour's.
//!
//! | a fragment | what happens |
//! |---|---|
//! | fits a hole | waits, or makes the datagram whole |
//! | is there already, octet for octet | is dropped alone: networks repeat packets (RFC 8200 §4.5) |
//! | overlaps another, or contradicts the end | the whole datagram is refused, and what is yet to come of it (RFC 5722 §4) |
//! | is one too many | the same |
//!
//! A datagram that is not whole after [`TIMEOUT`] is given up. One that was refused is remembered for as
//! long, without any memory for fragments.
//!
//! **Memory** is an arena of fixed size, and each port has a [`Share`] of it (RFC 4787 §11 REQ-14 a).
//! Whoever needs more than his share gives up his own oldest datagram for it. If all is in use, the
//! port that uses most of its share gives up its oldest. All this is done in so many steps as
//! one port may hold datagrams, and never by looking at all of them.
//!
//! One mutex guards it all, for the time that a fragment takes to be copied: fragments are rare, and
//! two workers may well bring those of one datagram.

mod arena;
mod assembly;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heddle_mem::{Index, IndexWriter, Instant, KeyedHash, Links, List};
use heddle_wire::{Address, Ip, Malformed, PART_HEADER_LEN_MAX, Part, Protocol, Whole};

use self::arena::{Arena, NONE};
use self::assembly::ETHERNET_LEN;
pub(crate) use self::assembly::{Assembly, Parts};
use crate::drop::{Cause, DropReason};
use crate::port::PortId;

/// How long a datagram may take to come together (Linux: `ipfrag_time`; RFC 8200 §4.5 allows twice as
/// long).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Fragments of one datagram: the longest one over links with the smallest MTU that hosts take for
/// granted, 576, is 119 of them. More are an attack on whoever puts them together (CVE-2018-5391).
pub(crate) const FRAGMENTS_MAX: usize = 128;

/// Octets of all headers of one datagram's fragments.
pub(crate) const HEADERS_LEN_MAX: usize = 8 << 10;

/// Datagrams in all.
const DATAGRAMS: u32 = 4096;

/// Blocks of memory in all: 16 MiB.
const BLOCKS: u32 = 8192;

/// Buckets of the index: it never grows.
const BUCKETS: u32 = 1 << 10;

/// Stands for "no deadline".
const NEVER: u64 = u64::MAX;

/// How much may wait of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    datagrams: u32,
    blocks: u32,
}

impl Share {
    /// Of an endpoint: 64 datagrams and 1 MiB.
    pub(crate) const MEMBER: Share = Share {
        datagrams: 64,
        blocks: 512,
    };

    /// Of a leg, behind which is everybody: 1024 datagrams and 8 MiB.
    pub(crate) const LEG: Share = Share {
        datagrams: 1024,
        blocks: 4096,
    };
}

/// A fragment that came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'f> {
    pub(crate) port: PortId,
    pub(crate) share: Share,
    /// The Ethernet frame it came in.
    pub(crate) frame: &'f [u8],
    pub(crate) ip: &'f Ip,
    pub(crate) part: Part<'f>,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits for others.
    Waits,
    /// It was the last one: the datagram is in the assembly.
    Whole,
    /// It is dropped, and so many that waited for it with it.
    Refused(DropReason, usize),
}

impl Outcome {
    fn alone(cause: Cause) -> Outcome {
        Outcome::Refused(cause.into(), 0)
    }
}

/// A datagram that did not come together in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) port: PortId,
    /// Fragments that waited.
    pub(crate) fragments: usize,
    /// Whether the first one was among them: then it is in the assembly, as if it were all.
    pub(crate) has_first: bool,
}

/// All fragments that wait.
#[derive(Debug)]
pub(crate) struct Reassembly {
    hash: KeyedHash,
    table: Mutex<Table>,
    next_deadline: AtomicU64,
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: Address,
    destination: Address,
    id: u32,
    protocol: Protocol,
    port: PortId,
}

impl Key {
    fn words(&self) -> [u64; 5] {
        let halves = |address: Address| {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.bits().to_be_bytes();
            [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]].map(u64::from_be_bytes)
        };
        let ([a, b], [c, d]) = (halves(self.source), halves(self.destination));
        let rest =
            u64::from(self.id) << 32 | u64::from(self.protocol.0) << 16 | u64::from(self.port.0);
        [a, b, c, d, rest]
    }
}

/// A datagram, or what is remembered of one that was refused.
#[derive(Clone, Copy, Debug)]
struct Datagram {
    key: Key,
    hash: u64,
    deadline: Instant,
    /// The first and last fragment that came, by the first block of each.
    ends: (u32, u32),
    fragments: u32,
    blocks: u32,
    headers: usize,
    /// Octets of data that are there.
    received: u32,
    /// Octets of data in all, once the last fragment is there.
    total: Option<u32>,
    /// The fragment that begins the data.
    beginning: Option<u32>,
    /// Ethernet header of that fragment.
    ethernet: [u8; ETHERNET_LEN],
    hop_limit: u8,
    dont_fragment: bool,
    /// Why what is yet to come is dropped.
    refused: Option<Cause>,
}

/// What is known of a fragment beside its octets, which are header and data behind each other.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// The fragment that came next.
    next: u32,
    offset: u32,
    data_len: u32,
    header_len: u16,
    more: bool,
}

impl Record {
    fn end(&self) -> u32 {
        self.offset + self.data_len
    }
}

/// What one port uses.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Its datagrams, the oldest first.
    list: List,
    datagrams: u32,
    blocks: u32,
    share: Share,
}

impl Usage {
    const NONE: Usage = Usage {
        list: List::EMPTY,
        datagrams: 0,
        blocks: 0,
        share: Share::MEMBER,
    };
}

#[derive(Debug)]
struct Table {
    index: IndexWriter,
    datagrams: Vec<Option<Datagram>>,
    /// Places of datagrams that are free.
    free: Vec<u32>,
    /// All datagrams, the oldest first.
    ages: List,
    age_links: Links,
    /// By the number of the port.
    usages: Vec<Usage>,
    usage_links: Links,
    arena: Arena,
    /// By the number of a fragment's first block.
    records: Vec<Record>,
    fragments: usize,
}

/// Told of datagrams that had to go for others: of which port, and how many fragments.
type Evicted<'e> = &'e mut dyn FnMut(PortId, usize);

impl Reassembly {
    /// Octets of memory that all this takes at most.
    pub(crate) const MEMORY_BOUND: usize = BLOCKS as usize
        * (arena::BLOCK + size_of::<u32>() + size_of::<Record>())
        + DATAGRAMS as usize * size_of::<Option<Datagram>>()
        + size_of::<Usage>() * (u16::MAX as usize + 1);

    /// `secret` keys the hash and must be unpredictable.
    pub(crate) fn new(secret: [u8; 64]) -> Reassembly {
        Reassembly {
            hash: KeyedHash::new(secret),
            table: Mutex::new(Table {
                index: Index::new(BUCKETS).1,
                datagrams: vec![None; DATAGRAMS as usize],
                free: (0..DATAGRAMS).rev().collect(),
                ages: List::EMPTY,
                age_links: Links::new(),
                usages: Vec::new(),
                usage_links: Links::new(),
                arena: Arena::new(BLOCKS),
                records: vec![Record::default(); BLOCKS as usize],
                fragments: 0,
            }),
            next_deadline: AtomicU64::new(NEVER),
        }
    }

    /// Takes in a fragment. If the datagram is whole then, it is put `into` the assembly and nothing of
    /// it stays here.
    pub(crate) fn add(
        &self,
        fragment: &Fragment<'_>,
        into: &mut Assembly,
        now: Instant,
        evicted: Evicted<'_>,
    ) -> Outcome {
        let Fragment { port, ip, part, .. } = *fragment;
        let key = Key {
            source: ip.source,
            destination: ip.destination,
            id: part.id,
            protocol: part.protocol,
            port,
        };
        let hash = self.hash.hash(&key.words());
        let mut table = self.lock();
        let known = table.find(&key, hash);
        let slot = match known {
            Some(slot) => slot,
            None => match table.open(key, hash, fragment.share, now, evicted) {
                Some(slot) => slot,
                None => return Outcome::alone(Cause::FragmentQuota),
            },
        };
        let outcome = table.extend(slot, fragment, into, evicted);
        self.publish_deadline(&table);
        outcome
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let micros = self.next_deadline.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Instant::from_micros(micros))
    }

    /// Gives up the oldest datagram if its time is over. Its first fragment, if that is there, is put
    /// `into` the assembly.
    pub(crate) fn expire(&self, now: Instant, into: &mut Assembly) -> Option<Expired> {
        let mut table = self.lock();
        let slot = table.ages.front()?;
        let datagram = table.datagram(slot)?;
        if datagram.deadline > now {
            return None;
        }
        let has_first = table.gather_first(&datagram, into).is_some();
        let fragments = table.remove(slot);
        self.publish_deadline(&table);
        Some(Expired {
            port: datagram.key.port,
            fragments,
            has_first,
        })
    }

    /// Forgets what came from a port: nobody is left to be told.
    pub(crate) fn forget_port(&self, port: PortId) {
        let mut table = self.lock();
        while let Some(slot) = table.oldest_of(port) {
            table.remove(slot);
        }
        self.publish_deadline(&table);
    }

    /// How many fragments wait.
    pub(crate) fn fragments(&self) -> usize {
        self.lock().fragments
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_deadline(&self, table: &Table) {
        let oldest = table.ages.front().and_then(|slot| table.datagram(slot));
        let next = oldest.map_or(NEVER, |datagram| datagram.deadline.as_micros());
        self.next_deadline.store(next, Ordering::Relaxed);
    }
}

impl Table {
    fn find(&self, key: &Key, hash: u64) -> Option<u32> {
        self.index.find(hash, |slot| {
            let datagram = self.datagrams.get(slot as usize)?.as_ref()?;
            (datagram.key == *key).then_some(slot)
        })
    }

    fn datagram(&self, slot: u32) -> Option<Datagram> {
        *self.datagrams.get(slot as usize)?
    }

    fn usage(&mut self, port: PortId) -> &mut Usage {
        let index = port.index();
        if self.usages.len() <= index {
            self.usages.resize(index + 1, Usage::NONE);
        }
        &mut self.usages[index]
    }

    fn oldest_of(&self, port: PortId) -> Option<u32> {
        self.usages.get(port.index())?.list.front()
    }

    /// A place for a datagram of which nothing has come.
    fn open(
        &mut self,
        key: Key,
        hash: u64,
        share: Share,
        now: Instant,
        evicted: Evicted<'_>,
    ) -> Option<u32> {
        self.usage(key.port).share = share;
        while self.usage(key.port).datagrams >= share.datagrams {
            self.evict(key.port, evicted)?;
        }
        if self.free.is_empty() {
            let port = self.heaviest(|usage| (usage.datagrams, usage.share.datagrams))?;
            self.evict(port, evicted)?;
        }
        let slot = self.free.pop()?;
        self.datagrams[slot as usize] = Some(Datagram {
            key,
            hash,
            deadline: now + TIMEOUT,
            ends: (NONE, NONE),
            fragments: 0,
            blocks: 0,
            headers: 0,
            received: 0,
            total: None,
            beginning: None,
            ethernet: [0; ETHERNET_LEN],
            hop_limit: u8::MAX,
            dont_fragment: false,
            refused: None,
        });
        self.index.insert(hash, slot);
        self.age_links.push_back(&mut self.ages, slot);
        let mut list = self.usage(key.port).list;
        self.usage_links.push_back(&mut list, slot);
        let usage = self.usage(key.port);
        usage.list = list;
        usage.datagrams += 1;
        Some(slot)
    }

    /// Adds a fragment to the datagram at `slot`.
    fn extend(
        &mut self,
        slot: u32,
        fragment: &Fragment<'_>,
        into: &mut Assembly,
        evicted: Evicted<'_>,
    ) -> Outcome {
        let Some(mut datagram) = self.datagram(slot) else {
            return Outcome::alone(Cause::FragmentQuota);
        };
        if let Some(cause) = datagram.refused {
            return Outcome::alone(cause);
        }
        let part = &fragment.part;
        let Some(record) = Record::of(part) else {
            return self.refuse(slot, Cause::FragmentOverlap);
        };
        match self.fit(&datagram, &record, part) {
            Fit::Hole => {}
            Fit::Duplicate => return Outcome::alone(Cause::FragmentDuplicate),
            Fit::Conflict => return self.refuse(slot, Cause::FragmentOverlap),
        }
        let headers = datagram.headers + part.header.len();
        if datagram.fragments as usize == FRAGMENTS_MAX || headers > HEADERS_LEN_MAX {
            return self.refuse(slot, Cause::FragmentsTooMany);
        }
        let need = Arena::blocks_for(part.header.len() + part.data.len());
        if !self.make_room(slot, need, evicted) {
            let others = self.remove(slot);
            return Outcome::Refused(Cause::FragmentQuota.into(), others);
        }
        let Some(block) = self.arena.store(part.header, part.data) else {
            return Outcome::alone(Cause::FragmentQuota);
        };
        datagram.take_note(&record, fragment, block);
        datagram.headers = headers;
        datagram.blocks += need;
        if datagram.fragments > 1 {
            self.records[datagram.ends.1 as usize].next = block;
        }
        datagram.ends.1 = block;
        self.records[block as usize] = record;
        self.datagrams[slot as usize] = Some(datagram);
        self.usage(datagram.key.port).blocks += need;
        self.fragments += 1;
        if datagram.total != Some(datagram.received) {
            return Outcome::Waits;
        }
        let gathered = self.gather(&datagram, into);
        let fragments = self.remove(slot);
        match gathered {
            Some(()) => Outcome::Whole,
            // Together they are longer than each by itself promised.
            None => Outcome::Refused(Malformed::FragmentTooLong.into(), fragments - 1),
        }
    }

    /// How a fragment fits those that are there.
    fn fit(&self, datagram: &Datagram, new: &Record, part: &Part<'_>) -> Fit {
        let fits_end = |record: &Record, total: u32| {
            if record.more {
                record.end() < total
            } else {
                record.end() == total
            }
        };
        if datagram.total.is_some_and(|total| !fits_end(new, total)) {
            return Fit::Conflict;
        }
        for (block, there) in self.fragments_of(datagram) {
            let same =
                (there.offset, there.data_len, there.more) == (new.offset, new.data_len, new.more);
            if same {
                let data = usize::from(there.header_len);
                return if self.arena.holds(block, data, part.data) {
                    Fit::Duplicate
                } else {
                    Fit::Conflict
                };
            }
            let overlaps = new.offset < there.end() && there.offset < new.end();
            let ends_before = !new.more && !fits_end(&there, new.end());
            if overlaps || ends_before {
                return Fit::Conflict;
            }
        }
        Fit::Hole
    }

    /// The fragments of a datagram in the order in which they came.
    fn fragments_of(&self, datagram: &Datagram) -> impl Iterator<Item = (u32, Record)> {
        let mut next = datagram.ends.0;
        (0..datagram.fragments).map_while(move |_| {
            let block = next;
            let record = *self.records.get(block as usize)?;
            next = record.next;
            Some((block, record))
        })
    }

    /// Sees to it that the datagram at `slot` can have so many more blocks; whether it can.
    fn make_room(&mut self, slot: u32, need: u32, evicted: Evicted<'_>) -> bool {
        let Some(Datagram { key, .. }) = self.datagram(slot) else {
            return false;
        };
        loop {
            let usage = *self.usage(key.port);
            let port = if usage.blocks + need > usage.share.blocks {
                Some(key.port)
            } else if self.arena.available() < need {
                self.heaviest(|usage| (usage.blocks, usage.share.blocks))
            } else {
                return true;
            };
            // The oldest of all that the port has may be this one itself.
            let Some(port) = port.filter(|&port| self.oldest_of(port) != Some(slot)) else {
                return false;
            };
            if self.evict(port, evicted).is_none() {
                return false;
            }
        }
    }

    /// The port that uses most of what it may.
    fn heaviest(&self, uses: impl Fn(&Usage) -> (u32, u32)) -> Option<PortId> {
        let weight = |usage: &Usage| {
            let (used, share) = uses(usage);
            (u64::from(used) << 16) / u64::from(share.max(1))
        };
        let ports = self.usages.iter().enumerate();
        let used = ports.filter(|(_, usage)| usage.datagrams != 0);
        let (index, _) = used.max_by_key(|(_, usage)| weight(usage))?;
        u16::try_from(index).ok().map(PortId)
    }

    /// Has the oldest datagram of a port go.
    fn evict(&mut self, port: PortId, evicted: Evicted<'_>) -> Option<()> {
        let slot = self.oldest_of(port)?;
        let fragments = self.remove(slot);
        evicted(port, fragments);
        Some(())
    }

    /// Drops what there is of a datagram, and remembers to drop the rest.
    fn refuse(&mut self, slot: u32, cause: Cause) -> Outcome {
        let fragments = self.empty(slot);
        if let Some(datagram) = &mut self.datagrams[slot as usize] {
            datagram.refused = Some(cause);
        }
        Outcome::Refused(cause.into(), fragments)
    }

    /// Gives back the memory of a datagram's fragments; how many there were.
    fn empty(&mut self, slot: u32) -> usize {
        let Some(datagram) = self.datagram(slot) else {
            return 0;
        };
        let mut next = datagram.ends.0;
        for _ in 0..datagram.fragments {
            let block = next;
            next = self.records[block as usize].next;
            self.arena.free(block);
        }
        self.usage(datagram.key.port).blocks -= datagram.blocks;
        let fragments = datagram.fragments as usize;
        self.fragments -= fragments;
        self.datagrams[slot as usize] = Some(Datagram {
            fragments: 0,
            blocks: 0,
            headers: 0,
            ends: (NONE, NONE),
            beginning: None,
            ..datagram
        });
        fragments
    }

    /// Forgets a datagram; how many fragments there were.
    fn remove(&mut self, slot: u32) -> usize {
        let fragments = self.empty(slot);
        let Some(datagram) = self.datagrams[slot as usize].take() else {
            return 0;
        };
        self.index.remove(datagram.hash, slot);
        self.age_links.remove(&mut self.ages, slot);
        let port = datagram.key.port;
        let mut list = self.usage(port).list;
        self.usage_links.remove(&mut list, slot);
        let usage = self.usage(port);
        usage.list = list;
        usage.datagrams -= 1;
        self.free.push(slot);
        fragments
    }

    /// Puts a datagram whose fragments are all there together.
    fn gather(&self, datagram: &Datagram, into: &mut Assembly) -> Option<()> {
        self.begin(datagram, into, datagram.received)?;
        for (block, record) in self.fragments_of(datagram) {
            self.put(block, &record, into);
        }
        Some(())
    }

    /// Puts the first fragment of a datagram where the whole one would stand.
    fn gather_first(&self, datagram: &Datagram, into: &mut Assembly) -> Option<()> {
        let first = datagram.beginning?;
        let record = self.records[first as usize];
        self.begin(datagram, into, record.data_len)?;
        self.put(first, &record, into);
        Some(())
    }

    fn begin(&self, datagram: &Datagram, into: &mut Assembly, data_len: u32) -> Option<()> {
        let first = datagram.beginning?;
        let mut header = [0; PART_HEADER_LEN_MAX];
        let header_len = usize::from(self.records[first as usize].header_len);
        let header = header.get_mut(..header_len)?;
        self.arena.copy(first, 0, header);
        let whole = Whole {
            data_len: data_len as usize,
            hop_limit: datagram.hop_limit,
            dont_fragment: datagram.dont_fragment,
        };
        into.begin(&datagram.ethernet, header, &whole)
    }

    fn put(&self, block: u32, record: &Record, into: &mut Assembly) {
        let header_len = usize::from(record.header_len);
        let (offset, data_len) = (record.offset as usize, record.data_len as usize);
        into.add(header_len, offset, data_len, |header, data| {
            self.arena.copy(block, 0, header);
            self.arena.copy(block, header_len, data);
        });
    }
}

/// How a fragment fits those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Hole,
    Duplicate,
    Conflict,
}

impl Record {
    /// `None` for one that cannot be put between others: whose data is not whole units though more
    /// follows (an authentication header in front of it can make it so), or that has none.
    fn of(part: &Part<'_>) -> Option<Record> {
        let data_len = u32::try_from(part.data.len()).ok()?;
        let whole_units = data_len.is_multiple_of(8) || !part.more;
        (data_len != 0 && whole_units).then_some(Record {
            next: NONE,
            offset: part.offset.into(),
            data_len,
            header_len: u16::try_from(part.header.len()).ok()?,
            more: part.more,
        })
    }
}

impl Datagram {
    /// One more fragment is there.
    fn take_note(&mut self, record: &Record, fragment: &Fragment<'_>, block: u32) {
        let Fragment { frame, ip, .. } = fragment;
        self.fragments += 1;
        self.received += record.data_len;
        // The fewest that any has left, so that none goes farther than it may.
        self.hop_limit = self.hop_limit.min(ip.hop_limit);
        self.dont_fragment |= ip.dont_fragment;
        if self.fragments == 1 {
            self.ends.0 = block;
        }
        if !record.more {
            self.total = Some(record.end());
        }
        if record.offset == 0 {
            self.beginning = Some(block);
            if let Some(ethernet) = frame.first_chunk() {
                self.ethernet = *ethernet;
            }
        }
    }
}
