//! TCP (RFC 9293 §3.1): what the summary keeps of a header, and its options.

use std::fmt;
use std::ops::BitOr;

use crate::Malformed;

/// The header without options.
pub(crate) const HEADER_LEN: usize = 20;

/// Where the sequence number stands in the header.
pub(crate) const SEQUENCE: usize = 4;

/// Where the flags stand in the header.
pub(crate) const FLAGS: usize = 13;

/// Where the checksum stands in the header.
pub(crate) const CHECKSUM: u16 = 16;

/// The eight flags of a header.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Hand the data to the application.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// Congestion was experienced, RFC 3168 §6.1.
    pub const ECE: Self = Self(0x40);
    /// The congestion window was reduced, RFC 3168 §6.1.
    pub const CWR: Self = Self(0x80);

    /// Whether all of `flags` are set.
    #[must_use]
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[must_use]
    #[inline]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// These flags and those of `flags`.
    #[must_use]
    #[inline]
    pub const fn union(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These flags without those of `flags`.
    #[must_use]
    #[inline]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(TcpFlags, &str); 8] = [
            (TcpFlags::SYN, "SYN"),
            (TcpFlags::FIN, "FIN"),
            (TcpFlags::RST, "RST"),
            (TcpFlags::PSH, "PSH"),
            (TcpFlags::ACK, "ACK"),
            (TcpFlags::URG, "URG"),
            (TcpFlags::ECE, "ECE"),
            (TcpFlags::CWR, "CWR"),
        ];
        let mut separator = "";
        for (flag, name) in NAMES {
            if self.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TCP header that is wholly there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first byte, or of the SYN.
    pub sequence: u32,
    /// The next byte that the sender expects; valid with [`TcpFlags::ACK`].
    pub acknowledgement: u32,
    /// The flags.
    pub flags: TcpFlags,
    /// The window as it stands in the header, unscaled.
    pub window: u16,
    /// Bytes of header, options included: 20 to 60.
    pub header_len: u8,
    /// Bytes of data in this frame.
    pub payload_len: u32,
}

impl Tcp {
    /// Reads the header at the start of `segment`, whose length is given once more as a number
    /// of the width that the summary uses.
    #[inline(always)]
    pub(crate) fn parse(segment: &[u8], segment_len: u32) -> Result<Self, Malformed> {
        let Some(header) = segment.first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::TransportTruncated);
        };
        // The data offset counts words of four bytes in the upper half of the byte.
        let header_len = (header[12] >> 4) * 4;
        if usize::from(header_len) < HEADER_LEN || u32::from(header_len) > segment_len {
            return Err(Malformed::TcpHeaderLength);
        }
        Ok(Self {
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            flags: TcpFlags(header[FLAGS]),
            window: u16::from_be_bytes([header[14], header[15]]),
            header_len,
            payload_len: segment_len - u32::from(header_len),
        })
    }
}

/// One option of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// The option's number.
    pub kind: u8,
    /// Where [`TcpOption::data`] starts, counted from the first option.
    pub offset: usize,
    /// What follows kind and length.
    pub data: &'a [u8],
}

impl TcpOption<'_> {
    /// Maximum segment size, RFC 9293 §3.7.1.
    pub const MAXIMUM_SEGMENT_SIZE: u8 = 2;
    /// Window scale, RFC 7323 §2.
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgement permitted, RFC 2018 §2.
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgement, RFC 2018 §3.
    pub const SACK: u8 = 5;
    /// Timestamps, RFC 7323 §3.
    pub const TIMESTAMPS: u8 = 8;
}

/// The options of a TCP header, one after the other, padding left out.
///
/// Ends at the end-of-options mark, at the end of the header and at the first option whose length
/// is below two or reaches beyond the header: what follows such an option has no meaning.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> TcpOptions<'a> {
    /// The options in `bytes`, which start behind the 20 fixed bytes of the header.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        loop {
            match *self.bytes.get(self.offset..)? {
                [] | [END, ..] => break,
                [NO_OPERATION, ..] => self.offset += 1,
                [kind, length @ 2..=u8::MAX, ref rest @ ..] => {
                    let Some(data) = rest.get(..usize::from(length) - 2) else {
                        break;
                    };
                    let offset = self.offset + 2;
                    self.offset += usize::from(length);
                    return Some(TcpOption { kind, offset, data });
                }
                [_, ..] => break,
            }
        }
        // A second call must not find the rest either.
        self.bytes = &[];
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{TcpFlags, TcpOptions};

    #[test]
    fn flags_print_by_name() {
        assert_eq!((TcpFlags::ACK | TcpFlags::SYN).to_string(), "SYN|ACK");
        assert_eq!(TcpFlags::default().to_string(), "none");
        assert!((TcpFlags::SYN | TcpFlags::ACK).contains(TcpFlags::SYN));
        assert!(!TcpFlags::SYN.contains(TcpFlags::SYN | TcpFlags::ACK));
        assert!(TcpFlags::SYN.intersects(TcpFlags::SYN | TcpFlags::ACK));
        assert_eq!(TcpFlags(0xff).without(TcpFlags::CWR), TcpFlags(0x7f));
    }

    /// An option's kind, place and data.
    type Found<'a> = (u8, usize, &'a [u8]);

    #[test]
    fn options_are_found_with_their_place_and_broken_ones_end_the_walk() {
        let table: [(&[u8], &[Found<'_>]); 10] = [
            (&[], &[]),
            (&[2, 4, 5, 0xb4], &[(2, 2, &[5, 0xb4])]),
            (&[1, 3, 3, 7, 4, 2], &[(3, 3, &[7]), (4, 6, &[])]),
            (&[0, 2, 4, 5, 0xb4], &[]),
            (&[4, 2, 0, 3, 3, 7], &[(4, 2, &[])]),
            (&[2, 0, 3, 3, 7, 0], &[]),
            (&[2, 1, 3, 3, 7, 0], &[]),
            (&[2, 5, 5, 0xb4], &[]),
            (&[1, 1, 1, 2], &[]),
            (&[4, 2, 8, 255, 1, 1], &[(4, 2, &[])]),
        ];
        for (bytes, expected) in table {
            let found: Vec<Found<'_>> = TcpOptions::new(bytes)
                .map(|option| (option.kind, option.offset, option.data))
                .collect();
            assert_eq!(found, expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_finished_walk_stays_finished() {
        let mut options = TcpOptions::new(&[2, 9, 4, 2]);
        assert!(options.next().is_none());
        assert!(options.next().is_none());
    }
}
