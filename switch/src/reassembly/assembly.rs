//! A datagram that has become whole, and the fragments it came in.
//!
//! It walks on as one frame, so that every check sees all of it. It leaves in the fragments that it
//! came in: their own headers, with the addresses that the whole one has by then, and the parts of its
//! data that were theirs.

use arrayvec::ArrayVec;
use heddle_wire::{
    Change, VNET_HEADER_LEN, VnetHeader, Whole, ethernet, rewrite_part_header, write_whole_header,
};

use super::{FRAGMENTS_MAX, HEADERS_LEN_MAX};
use crate::endpoint::FRAME_SPACE;

/// What is routed has no tags.
pub(super) const ETHERNET_LEN: usize = ethernet::HEADER_LEN;

/// Where a worker puts a datagram together.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Virtio-net header, Ethernet header, IP header, data.
    bytes: Box<[u8]>,
    len: usize,
    parts: Parts,
}

/// The fragments of a datagram, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    places: ArrayVec<Place, FRAGMENTS_MAX>,
    headers: ArrayVec<u8, HEADERS_LEN_MAX>,
    /// Where the data of the datagram starts, from the start of its Ethernet frame.
    data_start: usize,
    /// Octets of the longest fragment's packet.
    largest: usize,
    /// The identification that they get, if it is another one.
    id: Option<u32>,
}

/// Where a fragment's header and data are.
#[derive(Clone, Copy, Debug)]
struct Place {
    header: (usize, usize),
    data: (usize, usize),
}

impl Assembly {
    pub(crate) fn new() -> Assembly {
        Assembly {
            bytes: vec![0; FRAME_SPACE].into_boxed_slice(),
            len: 0,
            parts: Parts::default(),
        }
    }

    /// Begins with the headers: those of the `first` fragment, made to be the whole datagram's. `None`
    /// if there can be no such datagram.
    pub(super) fn begin(
        &mut self,
        ethernet: &[u8; ETHERNET_LEN],
        first: &[u8],
        whole: &Whole,
    ) -> Option<()> {
        self.parts.places.clear();
        self.parts.headers.clear();
        (self.parts.largest, self.parts.id) = (0, None);
        let (vnet, frame) = self.bytes.split_first_chunk_mut::<VNET_HEADER_LEN>()?;
        let (link, packet) = frame.split_first_chunk_mut::<ETHERNET_LEN>()?;
        *vnet = VnetHeader::NONE.emit();
        *link = *ethernet;
        let header_len = write_whole_header(first, whole, packet)?;
        self.parts.data_start = ETHERNET_LEN + header_len;
        self.len = VNET_HEADER_LEN + self.parts.data_start + whole.data_len;
        (self.len <= self.bytes.len()).then_some(())
    }

    /// Adds a fragment: `fill` writes its header and its data, which starts at `offset`. Nothing happens
    /// if there is no room for it, which whoever holds fragments has seen to.
    pub(super) fn add(
        &mut self,
        header_len: usize,
        offset: usize,
        data_len: usize,
        fill: impl FnOnce(&mut [u8], &mut [u8]),
    ) {
        let Parts {
            places,
            headers,
            data_start,
            largest,
            ..
        } = &mut self.parts;
        let start = VNET_HEADER_LEN + *data_start + offset;
        let data = self.bytes.get_mut(start..start + data_len);
        let header = headers.len();
        let (Some(data), false) = (data, places.is_full()) else {
            return;
        };
        if headers.remaining_capacity() < header_len {
            return;
        }
        headers.extend(std::iter::repeat_n(0, header_len));
        fill(&mut headers[header..], data);
        places.push(Place {
            header: (header, header_len),
            data: (offset, data_len),
        });
        *largest = (*largest).max(header_len + data_len);
    }

    /// The whole frame, virtio-net header first, and its fragments.
    pub(crate) fn split(&mut self) -> (&mut [u8], &mut Parts) {
        let len = self.len.min(self.bytes.len());
        (&mut self.bytes[..len], &mut self.parts)
    }
}

impl Parts {
    /// How many fragments there are.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Octets of the longest fragment's packet: what an MTU is compared with.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// Gives them another identification.
    pub(crate) fn renumber(&mut self, id: u32) {
        self.id = Some(id);
    }

    /// Shows each fragment as it came, Ethernet header first; `frame` is the whole datagram's.
    pub(crate) fn as_they_came(
        &self,
        frame: &[u8],
        scratch: &mut Vec<u8>,
        mut show: impl FnMut(&[u8]),
    ) {
        for place in &self.places {
            scratch.clear();
            self.build(place, frame, None, scratch);
            show(scratch);
        }
    }

    /// Builds fragment number `number` as it leaves, virtio-net header first: what was done to the whole
    /// datagram in `frame`, one hop included, is done to it. Whether there is one.
    pub(crate) fn as_it_leaves(&self, number: usize, frame: &[u8], scratch: &mut Vec<u8>) -> bool {
        let Some(place) = self.places.get(number) else {
            return false;
        };
        let now = frame.get(ETHERNET_LEN..self.data_start).unwrap_or_default();
        let change = Change {
            now,
            hops: 1,
            id: self.id,
        };
        scratch.clear();
        scratch.extend_from_slice(&VnetHeader::NONE.emit());
        self.build(place, frame, Some(&change), scratch);
        true
    }

    fn build(
        &self,
        place: &Place,
        frame: &[u8],
        change: Option<&Change<'_>>,
        scratch: &mut Vec<u8>,
    ) {
        let (start, len) = place.header;
        let header = self.headers.get(start..start + len).unwrap_or_default();
        let (offset, len) = place.data;
        let start = self.data_start + offset;
        let data = frame.get(start..start + len).unwrap_or_default();
        scratch.extend_from_slice(frame.get(..ETHERNET_LEN).unwrap_or_default());
        let start = scratch.len();
        scratch.extend_from_slice(header);
        if let (Some(change), Some(header)) = (change, scratch.get_mut(start..)) {
            rewrite_part_header(header, change);
        }
        scratch.extend_from_slice(data);
    }
}
