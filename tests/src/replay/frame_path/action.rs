//! What happens to the switch, as bytes: a list of small records that a fuzzer may cut, join and change
//! anywhere and get another list.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Actions of one input; the rest is not looked at.
const ACTIONS: usize = 64;

/// Octets of the longest raw frame, virtio-net header included.
const RAW: usize = 4096;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bytes come in at a port, virtio-net header first.
    Raw(u8, Vec<u8>),
    /// A packet comes in at a port.
    Packet(Packet),
    /// ARP or neighbour discovery comes in at a port.
    Speak(Speak),
    /// The host at a port answers the last frame that it got.
    Reply(Reply),
    /// The host at a port says what became of the last packet that it got.
    Complain(Complain),
    /// Time passes.
    Wait(u8),
    /// Something happens to a port's link.
    Link(u8, LinkEvent),
    /// The configuration changes: which part, and to what.
    Configure(u8, u8),
    /// Which worker looks first (bit 0); whether frames pile up until the next such action (bit 1).
    Worker(u8),
}

/// What can happen to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Its other end goes away.
    HangUp,
    /// Its other end refuses frames from now on.
    Refuse,
    /// Its other end takes frames again.
    Take,
    /// Its other end reads no frames from now on.
    Stall,
    /// Its other end reads frames again.
    Read,
}

const LINK_EVENTS: [LinkEvent; 5] = [
    LinkEvent::HangUp,
    LinkEvent::Refuse,
    LinkEvent::Take,
    LinkEvent::Stall,
    LinkEvent::Read,
];

/// A packet by choices; each number is taken modulo the number of choices. Zeros are an ordinary
/// TCP segment from the host at the port.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Packet {
    /// Where it comes in.
    pub port: u8,
    /// Sender's MAC address.
    pub source_mac: u8,
    /// Receiver's MAC address.
    pub destination_mac: u8,
    /// VLAN tags.
    pub tags: u8,
    /// Sender's place.
    pub source: u8,
    /// Receiver's place; [`Packet::V6`] says in which family.
    pub destination: u8,
    /// Hop limit.
    pub hops: u8,
    /// Fragmentation and options.
    pub shape: u8,
    /// TCP, UDP, and so on.
    pub protocol: u8,
    /// Sender's port.
    pub source_port: u8,
    /// Receiver's port.
    pub destination_port: u8,
    /// Flags of TCP; type of ICMP.
    pub flags: u8,
    /// Sequence number, in units of 256.
    pub sequence: u8,
    /// Acknowledgement number, in units of 256.
    pub acknowledgement: u8,
    /// Octets of payload, in units of 8.
    pub len: u8,
    /// What is left to be done to it.
    pub offload: u8,
    /// Which octet is broken.
    pub broken_at: u8,
    /// How; zero for not at all.
    pub broken_by: u8,
    /// How many more, each from the next port.
    pub more: u8,
}

impl Packet {
    /// In `destination`: IPv6.
    pub const V6: u8 = 0x80;
}

/// ARP or neighbour discovery by choices.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Speak {
    /// Where it comes in.
    pub port: u8,
    /// Receiver's MAC address.
    pub destination_mac: u8,
    /// What is said.
    pub kind: u8,
    /// Whose MAC address is said.
    pub mac: u8,
    /// Whose place speaks.
    pub sender: u8,
    /// Whose place is spoken of.
    pub target: u8,
}

/// An answer by choices. Zeros are the answer that is expected.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Reply {
    /// Whose.
    pub port: u8,
    /// Flags of TCP; zero for those that are expected.
    pub flags: u8,
    /// Octets of payload, in units of 8.
    pub len: u8,
    /// How far off the sequence number is, in units of 4096, signed.
    pub off: u8,
    /// Another sender's port than the one that was spoken to, if not zero.
    pub other_port: u8,
    /// To every frame that lies there instead of the last one, if not zero.
    pub all: u8,
}

/// An ICMP error by choices.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Complain {
    /// Whose.
    pub port: u8,
    /// Sender's place.
    pub sender: u8,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Which octet of the quote is broken.
    pub broken_at: u8,
    /// How; zero for not at all.
    pub broken_by: u8,
}

impl Action {
    /// The actions that bytes stand for. What is cut off at the end is no action.
    #[must_use]
    pub fn list(mut data: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = Action::read(&mut data)
            && actions.len() < ACTIONS
        {
            actions.push(action);
        }
        actions
    }

    fn read(data: &mut &[u8]) -> Option<Action> {
        Some(match byte(data)? % 9 {
            0 => {
                let port = byte(data)?;
                let len = u16::from_be_bytes([byte(data)?, byte(data)?]);
                let len = usize::from(len).min(RAW).min(data.len());
                let (bytes, rest) = data.split_at(len);
                *data = rest;
                Action::Raw(port, bytes.to_vec())
            }
            1 => Action::Packet(record(data)?),
            2 => Action::Speak(record(data)?),
            3 => Action::Reply(record(data)?),
            4 => Action::Complain(record(data)?),
            5 => Action::Wait(byte(data)?),
            6 => {
                let (port, event) = (byte(data)?, byte(data)?);
                let event = LINK_EVENTS[usize::from(event) % LINK_EVENTS.len()];
                Action::Link(port, event)
            }
            7 => Action::Configure(byte(data)?, byte(data)?),
            _ => Action::Worker(byte(data)?),
        })
    }

    /// The bytes that stand for some actions.
    ///
    /// # Panics
    ///
    /// If a raw frame is longer than one may be.
    #[must_use]
    pub fn bytes(actions: &[Action]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for action in actions {
            action.write(&mut bytes);
        }
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Action::Raw(port, frame) => {
                assert!(frame.len() <= RAW, "a raw frame of {} octets", frame.len());
                let len = u16::try_from(frame.len()).unwrap_or(0).to_be_bytes();
                bytes.extend([0, *port, len[0], len[1]]);
                bytes.extend(frame);
            }
            Action::Packet(packet) => {
                bytes.push(1);
                bytes.extend(packet.as_bytes());
            }
            Action::Speak(speak) => {
                bytes.push(2);
                bytes.extend(speak.as_bytes());
            }
            Action::Reply(reply) => {
                bytes.push(3);
                bytes.extend(reply.as_bytes());
            }
            Action::Complain(complain) => {
                bytes.push(4);
                bytes.extend(complain.as_bytes());
            }
            Action::Wait(span) => bytes.extend([5, *span]),
            Action::Link(port, event) => {
                let event = LINK_EVENTS.iter().position(|listed| listed == event);
                let event = event.and_then(|place| u8::try_from(place).ok());
                bytes.extend([6, *port, event.unwrap_or(0)]);
            }
            Action::Configure(part, value) => bytes.extend([7, *part, *value]),
            Action::Worker(value) => bytes.extend([8, *value]),
        }
    }
}

fn byte(data: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = data.split_first()?;
    *data = rest;
    Some(first)
}

fn record<T: FromBytes>(data: &mut &[u8]) -> Option<T> {
    let (record, rest) = T::read_from_prefix(data).ok()?;
    *data = rest;
    Some(record)
}
