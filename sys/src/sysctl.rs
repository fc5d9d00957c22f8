//! Settings of the current network namespace below `/proc/sys/net`.
//!
//! The kernel shows each process the settings of the network namespace that it is in when it opens
//! the file, whichever `proc` is mounted. Container engines often mount the tree read-only, and a
//! kernel without IPv6 lacks half of it; neither should keep an interface from working, so that both
//! are answers here and not errors.

use std::fs;
use std::io;

/// What came of writing a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The setting has the value now.
    Set,
    /// This kernel, or this namespace, has no such setting.
    Absent,
    /// The setting may not be written: read-only mount, or no capability in this namespace.
    Forbidden,
}

/// Writes a setting, for example `net/ipv6/conf/eth0/accept_ra`. With slashes, since an interface's
/// name may contain dots.
///
/// A value that the kernel refuses is an error (`InvalidInput`), and so is a key outside of `net`.
pub fn write(key: &str, value: &str) -> io::Result<Outcome> {
    match fs::write(path(key)?, value) {
        Ok(()) => Ok(Outcome::Set),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(Outcome::Absent),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Ok(Outcome::Forbidden)
            }
            _ => Err(error),
        },
    }
}

/// Reads a setting. `None` if there is no such setting or it may not be read.
pub fn read(key: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(path(key)?) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        },
    }
}

/// The file of a setting. Names of interfaces are part of the key and come from users, hence no way
/// up and out.
fn path(key: &str) -> io::Result<String> {
    let mut parts = key.split('/');
    if parts.next() == Some("net") && parts.all(|part| !matches!(part, "" | "." | "..")) {
        Ok(format!("/proc/sys/{key}"))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{key:?} is not a network setting"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lead_elsewhere_are_refused() {
        for key in [
            "kernel/hostname",
            "net/../kernel/hostname",
            "net//ipv4",
            "",
            "/net/ipv4",
        ] {
            assert_eq!(
                read(key).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{key:?}"
            );
            assert_eq!(
                write(key, "x").unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{key:?}"
            );
        }
    }

    #[test]
    fn a_setting_can_be_read_and_an_unknown_one_is_absent() {
        assert!(matches!(
            read("net/ipv4/ip_forward").unwrap().as_deref(),
            Some("0" | "1")
        ));
        assert_eq!(read("net/ipv4/no_such_setting").unwrap(), None);
        assert_eq!(
            write("net/ipv4/no_such_setting", "1").unwrap(),
            Outcome::Absent
        );
    }
}
