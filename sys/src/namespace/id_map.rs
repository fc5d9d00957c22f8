//! Which users and groups a user namespace knows, and under which numbers.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

/// The most ranges of one map (`UID_GID_MAP_MAX_EXTENTS`, Linux 4.15).
const MAX_RANGES: usize = 340;

/// A map of users or of groups: ranges that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<IdRange>);

/// `count` numbers from `inside` on, which stand for those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first number in the user namespace.
    pub inside: u32,
    /// The first number in its parent.
    pub outside: u32,
    /// How many numbers.
    pub count: u32,
}

/// Why a map cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdMapError {
    /// Not three numbers a line.
    #[error("{line:?} is not a line of a user or group map")]
    Malformed {
        /// The line.
        line: String,
    },
    /// The kernel refused the map.
    #[error("the {map} map {ranges} was refused")]
    Refused {
        /// Which map.
        map: &'static str,
        /// What it says.
        ranges: String,
    },
    /// The map was set before; it can be set only once.
    #[error("the {map} map was already set")]
    AlreadySet {
        /// Which map.
        map: &'static str,
    },
    /// The process does not exist.
    #[error("no process {pid}")]
    NoProcess {
        /// The process asked for.
        pid: u32,
    },
    /// Anything else that the kernel answered.
    #[error("writing the {map} map: {source}")]
    Io {
        /// Which map.
        map: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Maps {
    /// The given ranges. What the kernel thinks of them is seen when they are written.
    #[must_use]
    pub fn new(ranges: Vec<IdRange>) -> Self {
        Self(ranges)
    }

    /// One user or group: all that an ordinary user may map without a set-uid helper, and only its
    /// own.
    #[must_use]
    pub fn single(inside: u32, outside: u32) -> Self {
        Self(vec![IdRange {
            inside,
            outside,
            count: 1,
        }])
    }

    /// The users that process `pid` knows.
    pub fn users_of(pid: u32) -> Result<Self, IdMapError> {
        read(pid, "uid_map", "user")
    }

    /// The groups that process `pid` knows.
    pub fn groups_of(pid: u32) -> Result<Self, IdMapError> {
        read(pid, "gid_map", "group")
    }

    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// The number in the parent namespace for `inside`, if that is mapped.
    #[must_use]
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let distance = inside.checked_sub(range.inside)?;
            if distance < range.count {
                range.outside.checked_add(distance)
            } else {
                None
            }
        })
    }
}

/// One line a range, as the kernel reads and writes them.
impl fmt::Display for Maps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for IdRange {
            inside,
            outside,
            count,
        } in &self.0
        {
            write!(formatter, "{separator}{inside} {outside} {count}")?;
            separator = "\n";
        }
        Ok(())
    }
}

impl FromStr for Maps {
    type Err = IdMapError;

    fn from_str(text: &str) -> Result<Self, IdMapError> {
        text.lines()
            .map(|line| {
                let mut numbers = line.split_ascii_whitespace().map(str::parse);
                match (
                    numbers.next(),
                    numbers.next(),
                    numbers.next(),
                    numbers.next(),
                ) {
                    (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count)), None) => Ok(IdRange {
                        inside,
                        outside,
                        count,
                    }),
                    _ => Err(IdMapError::Malformed {
                        line: line.to_owned(),
                    }),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Sets the maps of the user namespace of process `pid`: possible once, from its parent namespace
/// or from inside.
///
/// `setgroups` is denied first. The kernel demands that of a writer without privileges: otherwise a
/// user could drop a group that some file's permissions exclude (CVE-2014-8989).
pub fn write_id_maps(pid: u32, uid_map: &Maps, gid_map: &Maps) -> Result<(), IdMapError> {
    write(pid, "uid_map", "user", uid_map)?;
    fs::write(format!("/proc/{pid}/setgroups"), "deny")
        .map_err(|source| refused(source, pid, "gid_map", "group", gid_map))?;
    write(pid, "gid_map", "group", gid_map)
}

fn write(pid: u32, file: &str, map: &'static str, ranges: &Maps) -> Result<(), IdMapError> {
    if ranges.0.len() > MAX_RANGES {
        return Err(IdMapError::Refused {
            map,
            ranges: format!("of {} ranges", ranges.0.len()),
        });
    }
    // In one write, as the kernel demands.
    fs::write(format!("/proc/{pid}/{file}"), ranges.to_string())
        .map_err(|source| refused(source, pid, file, map, ranges))
}

fn refused(
    source: io::Error,
    pid: u32,
    file: &str,
    map: &'static str,
    ranges: &Maps,
) -> IdMapError {
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => IdMapError::NoProcess { pid },
        Some(libc::EINVAL) => IdMapError::Refused {
            map,
            ranges: ranges.to_string(),
        },
        // The kernel answers EPERM to a second write as to a forbidden one.
        Some(libc::EPERM) => match read(pid, file, map) {
            Ok(present) if !present.0.is_empty() => IdMapError::AlreadySet { map },
            _ => IdMapError::Refused {
                map,
                ranges: ranges.to_string(),
            },
        },
        _ => IdMapError::Io { map, source },
    }
}

fn read(pid: u32, file: &str, map: &'static str) -> Result<Maps, IdMapError> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => IdMapError::NoProcess { pid },
            _ => IdMapError::Io { map, source },
        })?
        .parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_table_is_read_back_as_it_is_written() {
        let maps: Maps = "         0       1000          1\n         1     100000      65536\n"
            .parse()
            .unwrap();
        assert_eq!(maps.to_string(), "0 1000 1\n1 100000 65536");
        assert_eq!(maps.to_string().parse::<Maps>().unwrap(), maps);
    }

    #[test]
    fn numbers_are_translated_within_their_range_only() {
        let maps: Maps = "0 1000 1\n1 100000 65536".parse().unwrap();
        assert_eq!(maps.outside(0), Some(1000));
        assert_eq!(maps.outside(1), Some(100_000));
        assert_eq!(maps.outside(65_536), Some(165_535));
        assert_eq!(maps.outside(65_537), None);
        assert_eq!(Maps::default().outside(0), None);
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in ["0 0", "0 0 1 2", "a 0 1", "0 0 -1", "0 0 4294967296"] {
            let error = line.parse::<Maps>().unwrap_err();
            assert!(matches!(error, IdMapError::Malformed { .. }), "{line}");
        }
    }

    #[test]
    fn the_own_maps_can_be_read() {
        assert!(
            !Maps::users_of(std::process::id())
                .unwrap()
                .ranges()
                .is_empty()
        );
        assert!(matches!(
            Maps::groups_of(4_194_305),
            Err(IdMapError::NoProcess { pid: 4_194_305 })
        ));
    }
}
