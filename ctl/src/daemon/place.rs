//! The place where a daemon serves: its sockets, and the lock that says whose they are.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::options::Sockets;
use crate::api::{ApiError, ErrorCode};

/// How long a daemon may take to end.
const END_TIME: Duration = Duration::from_secs(10);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// Takes the lock that only one daemon can have, in a directory into which this user alone writes. A
/// `group` gets as far as the sockets.
pub(super) fn lock(sockets: &Sockets, group: Option<u32>) -> Result<OwnedFd, ApiError> {
    let path = sockets.lock();
    let failed = |problem: String| {
        let message = format!("the socket {}: {problem}", sockets.api.display());
        ApiError::new(ErrorCode::NoDaemon, message)
            .hint("choose another place with --socket or $HEDDLE_SOCKET")
    };
    let is_new = prepare_directory(sockets).map_err(failed)?;
    if let (Some(group), Some(directory)) = (group, directory_of(sockets)) {
        if is_new {
            let opened = admit_group(directory, group, 0o710);
            opened.map_err(|error| failed(format!("opening it to group {group}: {error}")))?;
        } else if !lets_through(directory, group) {
            tracing::warn!(
                directory = %directory.display(),
                group,
                "the directory was there before, and its permissions keep the group out"
            );
        }
    }
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(error.to_string()))?;
    // One that has the lock and does not answer is about to end, or to serve.
    let serves = || UnixStream::connect(&sockets.api).is_ok();
    match lock_unless(&file, serves) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => {
            let message = format!("a daemon runs already at {}", sockets.api.display());
            Err(ApiError::new(ErrorCode::DaemonRuns, message)
                .hint("see it with: heddle status, or end it with: heddle down"))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Waits until the daemon that served here has ended, and its keeper; false if they take too long.
#[must_use]
pub fn wait_until_free(sockets: &Sockets) -> bool {
    match fs::File::open(sockets.lock()) {
        Ok(file) => lock_unless(&file, || false).is_ok(),
        Err(_) => true,
    }
}

/// Takes the lock. Waits for whoever has it, for a while, unless `hopeless`.
fn lock_unless(file: &fs::File, hopeless: impl Fn() -> bool) -> Result<(), Errno> {
    let deadline = now() + END_TIME;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if now() < deadline && !hopeless() => pause(),
            result => return result,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "processes end in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "no descriptor tells that a lock is free, only that it can be taken"
)]
fn pause() {
    std::thread::sleep(LOOK);
}

/// The directory of the sockets, unless it is the current one.
fn directory_of(sockets: &Sockets) -> Option<&Path> {
    let directory = sockets.api.parent()?;
    (!directory.as_os_str().is_empty()).then_some(directory)
}

/// Makes the directory of the sockets, or sees that nobody else may write into it; returns whether it
/// was made.
pub(crate) fn prepare_directory(sockets: &Sockets) -> Result<bool, String> {
    let Some(directory) = directory_of(sockets) else {
        return Ok(false);
    };
    let is_new = !directory.exists();
    if is_new {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(directory)
            .map_err(|error| error.to_string())?;
    }
    require_private(directory)?;
    Ok(is_new)
}

/// Gives a file of ours to a group, and then the group the rights in `mode`.
fn admit_group(path: &Path, group: u32, mode: u32) -> io::Result<()> {
    std::os::unix::fs::chown(path, None, Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Whether members of a group may pass through a directory.
fn lets_through(directory: &Path, group: u32) -> bool {
    fs::metadata(directory).is_ok_and(|found| {
        let needed = if found.gid() == group { 0o010 } else { 0o001 };
        found.mode() & needed != 0
    })
}

/// A directory that others may write into would let them put their own socket in our place.
fn require_private(directory: &Path) -> Result<(), String> {
    let found = fs::metadata(directory).map_err(|error| error.to_string())?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(format!("{} belongs to another user", directory.display()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("{} may be written by others", directory.display()));
    }
    Ok(())
}

/// Binds a socket for this user and the group, if there is one, in the place of one that a killed
/// daemon left.
pub(super) fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, ApiError> {
    let failed = |error: io::Error| {
        let message = format!("the socket {}: {error}", path.display());
        ApiError::new(ErrorCode::NoDaemon, message)
    };
    if UnixStream::connect(path).is_ok() {
        let message = format!("somebody else serves at {}", path.display());
        return Err(ApiError::new(ErrorCode::DaemonRuns, message));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    if let Some(group) = group {
        admit_group(path, group, 0o660).map_err(failed)?;
    }
    Ok(listener)
}

/// Removes the sockets.
pub(super) fn unbind(sockets: &Sockets) {
    for socket in [&sockets.api, &sockets.descriptors()] {
        // Somebody may have tidied up before us.
        let _ = fs::remove_file(socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_group_everything_is_this_users_alone() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets_in(&directory.path().join("new"));
        let _lock = lock(&sockets, None).unwrap();
        let _listener = bind(&sockets.api, None).unwrap();
        assert_eq!(mode(&directory.path().join("new")), 0o700);
        assert_eq!(mode(&sockets.api), 0o600);
    }

    #[test]
    fn a_group_gets_to_the_sockets_and_no_further() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets_in(&directory.path().join("new"));
        // A group that every user may give files to.
        let group = rustix::process::getegid().as_raw();
        let _lock = lock(&sockets, Some(group)).unwrap();
        let _listener = bind(&sockets.api, Some(group)).unwrap();
        let made = directory.path().join("new");
        assert_eq!(mode(&made), 0o710);
        assert!(lets_through(&made, group));
        assert!(!lets_through(&made, group + 1));
        assert_eq!(mode(&sockets.api), 0o660);
        assert_eq!(mode(&sockets.lock()), 0o600);
        assert_eq!(fs::metadata(&sockets.api).unwrap().gid(), group);
    }

    #[test]
    fn a_directory_that_was_there_keeps_its_permissions_and_one_others_write_into_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets_in(directory.path());
        let group = Some(rustix::process::getegid().as_raw());
        let before = mode(directory.path());
        drop(lock(&sockets, group).unwrap());
        assert_eq!(mode(directory.path()), before);
        for open in [0o720, 0o702] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(open)).unwrap();
            for group in [None, group] {
                let error = lock(&sockets, group).unwrap_err().to_string();
                assert!(error.contains("may be written by others"), "{error}");
            }
        }
    }

    fn sockets_in(directory: &Path) -> Sockets {
        Sockets {
            api: directory.join("h.sock"),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }
}
