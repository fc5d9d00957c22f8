//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use crate::{MacAddr, Malformed};

/// Bytes of a message about IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;

/// Hardware Ethernet, protocol IPv4, address lengths six and four.
const FORMAT: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// [`Arp::REQUEST`], [`Arp::REPLY`] or something else that is not ARP proper.
    pub operation: u16,
    /// Whose binding the message tells.
    pub sender_mac: MacAddr,
    /// Whose binding the message tells; `0.0.0.0` in a probe (RFC 5227 §1.1).
    pub sender: Ipv4Addr,
    /// Whose binding is asked for; usually zero in a request.
    pub target_mac: MacAddr,
    /// Whose binding is asked for.
    pub target: Ipv4Addr,
}

impl Arp {
    /// "Who has the target address?"
    pub const REQUEST: u16 = 1;

    /// "The sender has the sender address."
    pub const REPLY: u16 = 2;

    /// Reads the message at `offset` of `frame`.
    pub(crate) fn parse(frame: &[u8], offset: u16) -> Result<Self, Malformed> {
        let message = frame
            .get(usize::from(offset)..)
            .and_then(|rest| rest.first_chunk::<ARP_LEN>())
            .ok_or(Malformed::ArpTruncated)?;
        let [a, b, c, d, e, f, g, h, addresses @ ..] = *message;
        if [a, b, c, d, e, f] != FORMAT {
            return Err(Malformed::ArpFormat);
        }
        let [m0, m1, m2, m3, m4, m5, a0, a1, a2, a3, target @ ..] = addresses;
        let [t0, t1, t2, t3, t4, t5, b0, b1, b2, b3] = target;
        Ok(Self {
            operation: u16::from_be_bytes([g, h]),
            sender_mac: MacAddr([m0, m1, m2, m3, m4, m5]),
            sender: Ipv4Addr::new(a0, a1, a2, a3),
            target_mac: MacAddr([t0, t1, t2, t3, t4, t5]),
            target: Ipv4Addr::new(b0, b1, b2, b3),
        })
    }

    /// Writes the message.
    #[must_use]
    pub fn emit(&self) -> [u8; ARP_LEN] {
        let mut message = [0; ARP_LEN];
        message[..6].copy_from_slice(&FORMAT);
        message[6..8].copy_from_slice(&self.operation.to_be_bytes());
        message[8..14].copy_from_slice(&self.sender_mac.0);
        message[14..18].copy_from_slice(&self.sender.octets());
        message[18..24].copy_from_slice(&self.target_mac.0);
        message[24..].copy_from_slice(&self.target.octets());
        message
    }
}
