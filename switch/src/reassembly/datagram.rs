//! What is known of a datagram in fragments, and of each of these.

use heddle_mem::Instant;
use heddle_wire::{Address, Part, Protocol};

use super::Fragment;
use super::arena::NONE;
use super::assembly::ETHERNET_LEN;
use crate::drop::Cause;
use crate::port::PortId;

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) id: u32,
    pub(super) protocol: Protocol,
    pub(super) port: PortId,
}

impl Key {
    pub(super) fn words(&self) -> [u64; 5] {
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
pub(super) struct Datagram {
    pub(super) key: Key,
    pub(super) hash: u64,
    pub(super) deadline: Instant,
    /// The first and last fragment that came, by the first block of each.
    pub(super) ends: (u32, u32),
    pub(super) fragments: u32,
    pub(super) blocks: u32,
    pub(super) headers: usize,
    /// Octets of data that are there.
    pub(super) received: u32,
    /// Octets of data in all, once the last fragment is there.
    pub(super) total: Option<u32>,
    /// The fragment that begins the data.
    pub(super) beginning: Option<u32>,
    /// Ethernet header of that fragment.
    pub(super) ethernet: [u8; ETHERNET_LEN],
    pub(super) hop_limit: u8,
    pub(super) dont_fragment: bool,
    /// Why what is yet to come is dropped.
    pub(super) refused: Option<Cause>,
}

/// What is known of a fragment beside its octets, which are header and data behind each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    /// The fragment that came next.
    pub(super) next: u32,
    pub(super) offset: u32,
    pub(super) data_len: u32,
    pub(super) header_len: u16,
    pub(super) more: bool,
}

impl Record {
    pub(super) fn end(&self) -> u32 {
        self.offset + self.data_len
    }
}

impl Record {
    /// `None` for one that cannot be put between others: whose data is not whole units though more
    /// follows (an authentication header in front of it can make it so), or that has none.
    pub(super) fn of(part: &Part<'_>) -> Option<Record> {
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
    pub(super) fn take_note(&mut self, record: &Record, fragment: &Fragment<'_>, block: u32) {
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
