//! All datagrams whose fragments wait, under the mutex.

use heddle_mem::{Index, IndexWriter, Instant, Links, List};
use heddle_wire::{Malformed, PART_HEADER_LEN_MAX, Part, Whole};

use super::arena::{Arena, BLOCK, NONE};
use super::assembly::{Assembly, ETHERNET_LEN};
use super::datagram::{Datagram, Key, Record};
use super::{FRAGMENTS_MAX, Fragment, HEADERS_LEN_MAX, Outcome, Share, TIMEOUT};
use crate::drop::Cause;
use crate::port::PortId;

/// Datagrams in all.
pub(super) const DATAGRAMS: u32 = 4096;

/// Blocks of memory in all: 16 MiB.
pub(super) const BLOCKS: u32 = 8192;

/// Buckets of the index: it never grows.
const BUCKETS: u32 = 1 << 10;

/// What one port uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Its datagrams, the oldest first.
    pub(super) list: List,
    pub(super) datagrams: u32,
    pub(super) blocks: u32,
    pub(super) share: Share,
}

impl Usage {
    pub(super) const NONE: Usage = Usage {
        list: List::EMPTY,
        datagrams: 0,
        blocks: 0,
        share: Share::MEMBER,
    };
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) index: IndexWriter,
    /// As many as there ever were at once.
    pub(super) datagrams: Vec<Option<Datagram>>,
    /// Places among these that are free.
    pub(super) free: Vec<u32>,
    /// All datagrams, the oldest first.
    pub(super) ages: List,
    pub(super) age_links: Links,
    /// By the number of the port.
    pub(super) usages: Vec<Usage>,
    pub(super) usage_links: Links,
    pub(super) arena: Arena,
    /// By the number of a fragment's first block.
    pub(super) records: Vec<Record>,
    pub(super) fragments: usize,
}

/// Told of datagrams that had to go for others: of which port, and how many fragments.
pub(super) type Evicted<'e> = &'e mut dyn FnMut(PortId, usize);

impl Table {
    /// Octets of memory that all this takes at most.
    pub(super) const MEMORY_BOUND: usize = BLOCKS as usize
        * (BLOCK + size_of::<u32>() + size_of::<Record>())
        + DATAGRAMS as usize * size_of::<Option<Datagram>>()
        + size_of::<Usage>() * (u16::MAX as usize + 1);

    pub(super) fn new() -> Table {
        Table {
            index: Index::new(BUCKETS).1,
            datagrams: Vec::with_capacity(DATAGRAMS as usize),
            free: Vec::with_capacity(DATAGRAMS as usize),
            ages: List::EMPTY,
            age_links: Links::new(),
            usages: Vec::new(),
            usage_links: Links::new(),
            arena: Arena::new(BLOCKS),
            records: Vec::with_capacity(BLOCKS as usize),
            fragments: 0,
        }
    }

    pub(super) fn find(&self, key: &Key, hash: u64) -> Option<u32> {
        self.index.find(hash, |slot| {
            let datagram = self.datagrams.get(slot as usize)?.as_ref()?;
            (datagram.key == *key).then_some(slot)
        })
    }

    pub(super) fn datagram(&self, slot: u32) -> Option<Datagram> {
        *self.datagrams.get(slot as usize)?
    }

    pub(super) fn usage(&mut self, port: PortId) -> &mut Usage {
        let index = port.index();
        if self.usages.len() <= index {
            self.usages.resize(index + 1, Usage::NONE);
        }
        &mut self.usages[index]
    }

    pub(super) fn oldest_of(&self, port: PortId) -> Option<u32> {
        self.usages.get(port.index())?.list.front()
    }

    /// A place for a datagram of which nothing has come.
    pub(super) fn open(
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
        let slot = match self.place() {
            Some(slot) => slot,
            None => {
                let port = self.heaviest(|usage| (usage.datagrams, usage.share.datagrams))?;
                self.evict(port, evicted)?;
                self.place()?
            }
        };
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

    /// A place that is free.
    pub(super) fn place(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = u32::try_from(self.datagrams.len()).ok()?;
            (slot < DATAGRAMS).then(|| {
                self.datagrams.push(None);
                slot
            })
        })
    }

    /// Adds a fragment to the datagram at `slot`.
    pub(super) fn extend(
        &mut self,
        slot: u32,
        fragment: &Fragment<'_>,
        into: &mut Assembly,
        evicted: Evicted<'_>,
    ) -> Outcome {
        let Some(datagram) = self.datagram(slot) else {
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
        let datagram = self.keep(slot, datagram, record, fragment, block);
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

    /// Files a fragment whose octets are stored from `block` on; the datagram as it is then.
    pub(super) fn keep(
        &mut self,
        slot: u32,
        mut datagram: Datagram,
        record: Record,
        fragment: &Fragment<'_>,
        block: u32,
    ) -> Datagram {
        // Within what was reserved at the start.
        if self.records.len() < self.arena.extent() {
            self.records.resize(self.arena.extent(), Record::default());
        }
        let part = &fragment.part;
        let blocks = Arena::blocks_for(part.header.len() + part.data.len());
        datagram.take_note(&record, fragment, block);
        datagram.headers += part.header.len();
        datagram.blocks += blocks;
        if datagram.fragments > 1 {
            self.records[datagram.ends.1 as usize].next = block;
        }
        datagram.ends.1 = block;
        self.records[block as usize] = record;
        self.datagrams[slot as usize] = Some(datagram);
        self.usage(datagram.key.port).blocks += blocks;
        self.fragments += 1;
        datagram
    }

    /// How a fragment fits those that are there.
    pub(super) fn fit(&self, datagram: &Datagram, new: &Record, part: &Part<'_>) -> Fit {
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
    pub(super) fn fragments_of(&self, datagram: &Datagram) -> impl Iterator<Item = (u32, Record)> {
        let mut next = datagram.ends.0;
        (0..datagram.fragments).map_while(move |_| {
            let block = next;
            let record = *self.records.get(block as usize)?;
            next = record.next;
            Some((block, record))
        })
    }

    /// Sees to it that the datagram at `slot` can have so many more blocks; whether it can.
    pub(super) fn make_room(&mut self, slot: u32, need: u32, evicted: Evicted<'_>) -> bool {
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
    pub(super) fn heaviest(&self, uses: impl Fn(&Usage) -> (u32, u32)) -> Option<PortId> {
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
    pub(super) fn evict(&mut self, port: PortId, evicted: Evicted<'_>) -> Option<()> {
        let slot = self.oldest_of(port)?;
        let fragments = self.remove(slot);
        evicted(port, fragments);
        Some(())
    }

    /// Drops what there is of a datagram, and remembers to drop the rest.
    pub(super) fn refuse(&mut self, slot: u32, cause: Cause) -> Outcome {
        let fragments = self.empty(slot);
        if let Some(datagram) = &mut self.datagrams[slot as usize] {
            datagram.refused = Some(cause);
        }
        Outcome::Refused(cause.into(), fragments)
    }

    /// Gives back the memory of a datagram's fragments; how many there were.
    pub(super) fn empty(&mut self, slot: u32) -> usize {
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
    pub(super) fn remove(&mut self, slot: u32) -> usize {
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
    pub(super) fn gather(&self, datagram: &Datagram, into: &mut Assembly) -> Option<()> {
        self.begin(datagram, into, datagram.received)?;
        for (block, record) in self.fragments_of(datagram) {
            self.put(block, &record, into);
        }
        Some(())
    }

    /// Puts the first fragment of a datagram where the whole one would stand.
    pub(super) fn gather_first(&self, datagram: &Datagram, into: &mut Assembly) -> Option<()> {
        let first = datagram.beginning?;
        let record = self.records[first as usize];
        self.begin(datagram, into, record.data_len)?;
        self.put(first, &record, into);
        Some(())
    }

    pub(super) fn begin(
        &self,
        datagram: &Datagram,
        into: &mut Assembly,
        data_len: u32,
    ) -> Option<()> {
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

    pub(super) fn put(&self, block: u32, record: &Record, into: &mut Assembly) {
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
pub(super) enum Fit {
    Hole,
    Duplicate,
    Conflict,
}
