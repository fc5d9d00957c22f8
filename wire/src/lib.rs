//! Bytes to meaning, and back: what a frame says, and how to make it say something else.
//!
//! The crate reads and writes byte slices and does nothing else. It has no state, asks no clock,
//! does no I/O and never panics on what it reads; everything here may be called on bytes that an
//! attacker chose. A frame is a whole Ethernet frame of up to 64 KiB and its headers; the
//! virtio-net header that came with it is apart.
//!
//! # In the order in which a frame meets it
//!
//! 1. **Parse.** [`Summary::read`] reads a frame once, from the [`MacAddr`]esses to the
//!    [`Transport`] header, and keeps what later stages ask for as plain numbers: [`Network`] is
//!    [`Arp`], an [`Ip`] datagram of either family, or why it is [`Malformed`]. An [`Address`] is
//!    IPv4 or IPv6 in one word. What is left out is looked at by those who need it:
//!    [`ipv4_header_is_valid`] by routers, [`transport_checksum_is_valid`] by relays,
//!    [`TcpOptions`] by trackers of connections.
//! 2. **Check the offloads.** [`VnetHeader::check`] holds the virtio-net header, which the frame's
//!    sender wrote, to the parsed frame. [`VnetHeader::largest_segment_len`] is what a super-frame
//!    means to an MTU.
//! 3. **Route.** [`decrement_hop_limit`], [`clamp_mss`], [`ethernet::set_macs`]; a ping to the
//!    router itself becomes its answer by [`echo_reply`].
//! 4. **Translate.** [`rewrite()`] changes addresses and ports in place and updates every
//!    checksum, [`rewrite_hop`] takes a hop as well. [`embedded()`] and [`rewrite_embedded`] do the same to the datagram that an ICMP
//!    error quotes.
//! 5. **Send.** A frame leaves as it came where the endpoint takes the virtio-net header. Where it
//!    does not, [`complete_checksum`] and [`segment()`] do in software what the header left to do;
//!    [`fragment_ipv4`] cuts what a link is too small for, [`fragment_ipv6`] what is our own. What came
//!    in fragments is taken apart as [`Part`]s and put together under [`write_whole_header`].
//!
//! Below all of it lies [`checksum`]; [`builder`] makes frames for tests.
//!
//! # What holds throughout
//!
//! - **A summary belongs to its frame.** Functions that take an [`Ip`] take the frame from which it
//!   was parsed. Rewriting leaves places as they are, so the summary goes on being right about
//!   them; its values are those that were parsed.
//! - **Corrupt stays corrupt.** A checksum is verified where that is asked for, computed where a
//!   frame left it open, and otherwise only updated by the difference.
//! - **Both families, one shape.** What differs between IPv4 and IPv6 ends here.

#![forbid(unsafe_code)]

mod address;
mod arp;
pub mod builder;
pub mod checksum;
mod echo;
mod embedded;
pub mod ethernet;
mod fragment;
pub mod icmp;
mod ip;
mod ipv4;
mod ipv6;
mod mac;
mod malformed;
mod part;
mod protocol;
mod rewrite;
mod segment;
mod summary;
mod tcp;
#[cfg(test)]
mod testing;
mod transport;
mod udp;
mod vnet;

pub use address::{Address, Family};
pub use arp::{ARP_LEN, Arp};
pub use echo::{DEFAULT_HOP_LIMIT, echo_reply};
pub use embedded::{Embedded, embedded, rewrite_embedded};
pub use ethernet::EtherType;
pub use fragment::{FragmentError, fragment_ipv4, fragment_ipv6};
pub use icmp::Icmp;
pub use ip::{Fragment, Ip, IpOptions};
pub use ipv4::ipv4_header_is_valid;
pub use ipv6::{EXTENSION_HEADERS_LEN_MAX, EXTENSION_HEADERS_MAX};
pub use mac::{MacAddr, MacAddrError};
pub use malformed::Malformed;
pub use part::{Change, PART_HEADER_LEN_MAX, Part, Whole, rewrite_part_header, write_whole_header};
pub use protocol::Protocol;
pub use rewrite::{
    Rewrite, allow_fragments, clamp_mss, decrement_hop_limit, rewrite, rewrite_hop,
    set_identification,
};
pub use segment::{SegmentError, complete_checksum, segment};
pub use summary::{Network, Summary};
pub use tcp::{Tcp, TcpFlags, TcpOption, TcpOptions};
pub use transport::{Transport, transport_checksum_is_valid};
pub use udp::Udp;
pub use vnet::{Gso, MAX_UDP_SEGMENTS, MIN_TCP_GSO_SIZE, VNET_HEADER_LEN, VnetError, VnetHeader};
