//! What the kernel answers when it does not do what it was asked.

use std::io;

use netlink_packet_core::{DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NetlinkBuffer, NlasIterator};
use rustix::io::Errno;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused.
    #[error("{action}: {}{}", describe(*errno), details.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was being done, and to what.
        action: String,
        /// The kernel's error number.
        errno: i32,
        /// The kernel's own words, where it has some.
        details: Option<String>,
    },
    /// The kernel's answer makes no sense.
    #[error("{action}: unexpected answer from the kernel: {details}")]
    Malformed {
        /// What was being done.
        action: String,
        /// What is wrong with it.
        details: &'static str,
    },
    /// A name that cannot be an interface's, found before the kernel was asked.
    #[error("{name:?} cannot be an interface name")]
    NameInvalid {
        /// The name.
        name: String,
    },
    /// The descriptor is of another kind.
    #[error("the descriptor is not an rtnetlink socket")]
    NotNetlink,
    /// The socket itself failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetlinkError {
    pub(super) fn io(action: &'static str, source: Errno) -> Self {
        Self::Io {
            action,
            source: source.into(),
        }
    }

    /// The kernel's error number, if it refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the thing to be made exists already.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        matches!(self.errno(), Some(libc::EEXIST))
    }

    /// Whether the thing to be found, changed or removed does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENODEV | libc::ESRCH | libc::ENOENT | libc::EADDRNOTAVAIL | libc::ENXIO)
        )
    }

    /// Whether a capability in the namespace's owner is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES))
    }
}

/// The error number in words, without the number that `io::Error` adds for programmers.
fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rsplit_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// A failed exchange, before it is said what it was about.
#[derive(Debug)]
pub(super) enum Failure {
    Refused {
        errno: i32,
        details: Option<String>,
    },
    Malformed(&'static str),
    /// A table changed while it was read.
    Interrupted,
    Socket(Errno),
}

impl Failure {
    /// The failure that a message of type error or done tells, if it tells one.
    pub(super) fn of(message: &NetlinkBuffer<&[u8]>) -> Option<Self> {
        /// Bytes of `struct nlmsghdr`.
        const HEADER: usize = 16;
        let payload = message.payload();
        let Some((code, rest)) = payload.split_first_chunk::<4>() else {
            // An end without a code is a good one.
            return None;
        };
        let code = i32::from_ne_bytes(*code);
        if code == 0 {
            return None;
        }
        let errno = code.wrapping_neg();
        if message.flags() & NLM_F_ACK_TLVS == 0 {
            return Some(Self::Refused {
                errno,
                details: None,
            });
        }
        // An error repeats the request's header and, unless capped, the request; then come the
        // attributes. The end of a dump has its attributes at once.
        let skip = if message.message_type() == netlink_packet_core::NLMSG_DONE {
            0
        } else if message.flags() & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            NetlinkBuffer::new_checked(rest)
                .ok()
                .and_then(|request| usize::try_from(request.length()).ok())
                .unwrap_or(rest.len())
                .next_multiple_of(4)
        };
        Some(Self::Refused {
            errno,
            details: details(rest.get(skip..).unwrap_or_default()),
        })
    }

    /// The error to show, for what was being done.
    pub(super) fn during(self, action: impl Into<String>) -> NetlinkError {
        let action = action.into();
        match self {
            Self::Refused { errno, details } => NetlinkError::Refused {
                action,
                errno,
                details,
            },
            Self::Malformed(details) => NetlinkError::Malformed { action, details },
            Self::Interrupted => NetlinkError::Malformed {
                action,
                details: "the table changed each time it was read",
            },
            Self::Socket(errno) => NetlinkError::Refused {
                action,
                errno: errno.raw_os_error(),
                details: Some("netlink socket".to_owned()),
            },
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(_: DecodeError) -> Self {
        Self::Malformed("an attribute of the wrong length")
    }
}

/// `NLMSGERR_ATTR_MSG`: the reason in words.
fn details(attributes: &[u8]) -> Option<String> {
    const MESSAGE: u16 = 1;
    NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == MESSAGE)
        .map(|attribute| {
            let text = attribute.value();
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            String::from_utf8_lossy(text).into_owned()
        })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLMSG_ERROR;

    use super::*;

    /// An answer of the given type and flags.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(payload);
        bytes
    }

    fn failure(bytes: &[u8]) -> Option<Failure> {
        Failure::of(&NetlinkBuffer::new_checked(bytes).unwrap())
    }

    fn words() -> Vec<u8> {
        let mut attribute = 8_u16.to_ne_bytes().to_vec();
        attribute.extend(1_u16.to_ne_bytes());
        attribute.extend(b"why\0");
        attribute
    }

    #[test]
    fn code_zero_is_an_acknowledgement() {
        assert!(failure(&message(NLMSG_ERROR, NLM_F_CAPPED, &[0; 20])).is_none());
        assert!(failure(&message(netlink_packet_core::NLMSG_DONE, 0, &[])).is_none());
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_capped_and_a_full_request() {
        let code = (-17_i32).to_ne_bytes();
        let capped = [&code[..], &message(24, 0, &[])[..], &words()[..]].concat();
        let full = [
            &code[..],
            &message(24, 0, &[7; 10])[..],
            &[0; 2],
            &words()[..],
        ]
        .concat();
        for (flags, payload) in [(NLM_F_CAPPED, capped), (0, full)] {
            let found = failure(&message(NLMSG_ERROR, flags | NLM_F_ACK_TLVS, &payload)).unwrap();
            let error = found.during("adding a route");
            assert_eq!(error.to_string(), "adding a route: File exists (why)");
            assert!(error.is_already_there());
        }
    }

    #[test]
    fn a_dump_that_ends_in_an_error_says_so() {
        let payload = [&(-1_i32).to_ne_bytes()[..], &words()[..]].concat();
        let bytes = message(netlink_packet_core::NLMSG_DONE, NLM_F_ACK_TLVS, &payload);
        let error = failure(&bytes).unwrap().during("listing");
        assert_eq!(error.to_string(), "listing: Operation not permitted (why)");
        assert!(error.is_forbidden());
    }

    #[test]
    fn cut_answers_do_not_panic() {
        let code = (-17_i32).to_ne_bytes();
        let full = [
            &code[..],
            &message(24, 0, &[7; 10])[..],
            &[0; 2],
            &words()[..],
        ]
        .concat();
        for length in 0..full.len() {
            let _ = failure(&message(NLMSG_ERROR, NLM_F_ACK_TLVS, &full[..length]));
        }
    }
}
