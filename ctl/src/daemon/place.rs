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

/// Takes the lock that only one daemon can have, in a directory of this user alone.
pub(super) fn lock(sockets: &Sockets) -> Result<OwnedFd, ApiError> {
    let path = sockets.lock();
    let failed = |problem: String| {
        let message = format!("the socket {}: {problem}", sockets.api.display());
        ApiError::new(ErrorCode::NoDaemon, message)
            .hint("choose another place with --socket or $HEDDLE_SOCKET")
    };
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        if !directory.exists() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder
                .create(directory)
                .map_err(|error| failed(error.to_string()))?;
        }
        require_private(directory).map_err(failed)?;
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

/// Binds a socket for this user alone, in the place of one that a killed daemon left.
pub(super) fn bind(path: &Path) -> Result<UnixListener, ApiError> {
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
    Ok(listener)
}

/// Removes the sockets.
pub(super) fn unbind(sockets: &Sockets) {
    for socket in [&sockets.api, &sockets.descriptors()] {
        // Somebody may have tidied up before us.
        let _ = fs::remove_file(socket);
    }
}
