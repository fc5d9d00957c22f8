//! Waiting for the end of what an endpoint was attached by.
//!
//! A process ends when its pidfd becomes readable ([`process::pidfd_open`](crate::process)); this
//! file adds the removal of a path. The descriptor is readable when something happened in the
//! path's directory; [`PathWatch::is_removed`] then tells whether it was this.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::{Errno, retry_on_intr};

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC_MAGIC: rustix::fs::FsWord = 0x9fa0;

/// A watch on the removal of one path.
#[derive(Debug)]
pub struct PathWatch {
    inotify: OwnedFd,
    path: PathBuf,
    name: OsString,
    removed: bool,
}

/// Why a path cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The path is not there, or has no directory.
    #[error("{} does not exist", path.display())]
    Absent {
        /// The path asked for.
        path: PathBuf,
    },
    /// The `proc` file system tells nobody about the end of processes.
    #[error("{} is below /proc, where an end cannot be noticed", path.display())]
    InProc {
        /// The path asked for.
        path: PathBuf,
    },
    /// The user's limit of watches is reached.
    #[error("the limit of watched files is reached (fs.inotify.max_user_instances)")]
    TooMany,
    /// Anything else that the kernel answered.
    #[error("watching {}: {source}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PathWatch {
    /// Watches `path`, which must exist. Its *name* in its directory is watched, not the file: a
    /// namespace that `ip netns` keeps is a mount over an empty file, and what ends it is the file's
    /// removal, while the namespace itself may live on.
    ///
    /// Whoever opened `path` before looks afterwards whether it still leads there; from then on
    /// nothing is missed.
    pub fn new(path: &Path) -> Result<Self, WatchError> {
        let absent = || WatchError::Absent {
            path: path.to_owned(),
        };
        let failed = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR => absent(),
            Errno::MFILE | Errno::NOSPC => WatchError::TooMany,
            source => WatchError::Io {
                path: path.to_owned(),
                source: source.into(),
            },
        };
        let name = path.file_name().ok_or_else(absent)?.to_owned();
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let status = rustix::fs::statfs(directory).map_err(failed)?;
        if status.f_type == PROC_MAGIC {
            return Err(WatchError::InProc {
                path: path.to_owned(),
            });
        }
        let inotify =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
        let flags = WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, directory, flags).map_err(failed)?;
        // After the watch was set, so that a removal in between is not missed.
        rustix::fs::lstat(path).map_err(failed)?;
        Ok(Self {
            inotify,
            path: path.to_owned(),
            name,
            removed: false,
        })
    }

    /// The path that is watched.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path was removed or renamed, or its directory was. Takes all that has happened
    /// until now and does not wait.
    pub fn is_removed(&mut self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(self.removed),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let whole_directory = ReadFlags::DELETE_SELF
                | ReadFlags::MOVE_SELF
                | ReadFlags::UNMOUNT
                | ReadFlags::IGNORED;
            let this_name = event
                .file_name()
                .is_some_and(|name| OsStr::from_bytes(name.to_bytes()) == self.name);
            if this_name || event.events().intersects(whole_directory) {
                self.removed = true;
            } else if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                // Events were lost; the path itself tells.
                self.removed |=
                    rustix::fs::lstat(&self.path).is_err_and(|error| error == Errno::NOENT);
            }
        }
    }
}

impl AsFd for PathWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Waits until `fd` is readable, or has an error to tell; `false` when `timeout` passed without.
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut fds, timeout.as_ref()))? != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory of this test's own, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("heddle-sys-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, "").unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_removal_of_the_path_is_noticed_and_that_of_a_neighbour_is_not() {
        let directory = Directory::new("removal");
        let (path, neighbour) = (directory.file("a"), directory.file("b"));
        let mut watch = PathWatch::new(&path).unwrap();
        fs::remove_file(neighbour).unwrap();
        assert!(!watch.is_removed().unwrap());
        fs::write(&path, "content").unwrap();
        assert!(!watch.is_removed().unwrap());
        fs::remove_file(&path).unwrap();
        assert!(watch.is_removed().unwrap());
        // And stays so, even if somebody puts another one there.
        fs::write(&path, "").unwrap();
        assert!(watch.is_removed().unwrap());
    }

    #[test]
    fn renaming_the_path_or_its_directory_counts_as_removal() {
        let directory = Directory::new("rename");
        let path = directory.file("a");
        let mut watch = PathWatch::new(&path).unwrap();
        fs::rename(&path, directory.0.join("c")).unwrap();
        assert!(watch.is_removed().unwrap());

        let below = directory.0.join("below");
        fs::create_dir(&below).unwrap();
        let path = below.join("a");
        fs::write(&path, "").unwrap();
        let mut watch = PathWatch::new(&path).unwrap();
        fs::rename(&below, directory.0.join("elsewhere")).unwrap();
        assert!(watch.is_removed().unwrap());
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let absent = Path::new("/nonexistent/namespace");
        assert!(matches!(
            PathWatch::new(absent),
            Err(WatchError::Absent { .. })
        ));
        let in_proc = Path::new("/proc/self/ns/net");
        assert!(matches!(
            PathWatch::new(in_proc),
            Err(WatchError::InProc { .. })
        ));
        assert!(matches!(
            PathWatch::new(Path::new("/")),
            Err(WatchError::Absent { .. })
        ));
    }

    #[test]
    fn the_descriptor_is_readable_exactly_when_something_happened() {
        let directory = Directory::new("readable");
        let path = directory.file("a");
        let watch = PathWatch::new(&path).unwrap();
        let none = Some(Duration::ZERO);
        assert!(!wait_readable(watch.as_fd(), none).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(wait_readable(watch.as_fd(), None).unwrap());
    }
}
