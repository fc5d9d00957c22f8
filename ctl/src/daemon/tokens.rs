//! Descriptors that clients have passed, until a request names them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::foreign;
use super::quota::{Place, Quota};
use crate::api::{ApiError, ErrorCode};
use crate::plumb::Parcel;

/// Parcels of one user that wait at most: each may be hundreds of descriptors.
const LIMIT: usize = 16;

/// How long a client waits until another one's parcel of the same user is named: less than its own
/// patience.
const PLACE_TIME: Duration = Duration::from_secs(20);

/// Ends with the connection it stands for.
pub(super) type Connection = watch::Receiver<()>;

/// A parcel that was named.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) parcel: Parcel,
    pub(super) connection: Connection,
    /// Process that passed it.
    pub(super) pid: u32,
}

/// A parcel that waits.
#[derive(Debug)]
struct Waiting {
    passed: Passed,
    uid: u32,
    place: Place,
}

/// The parcels that wait. Whoever keeps one forgets it in time.
#[derive(Debug)]
pub(super) struct Tokens {
    waiting: Mutex<BTreeMap<String, Waiting>>,
    quota: Quota,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens {
            waiting: Mutex::default(),
            quota: Quota::new(LIMIT),
        }
    }
}

impl Tokens {
    /// Waits for a place for a parcel of this user.
    pub(super) async fn place(&self, uid: u32) -> Result<Place, ApiError> {
        let place = tokio::time::timeout(PLACE_TIME, self.quota.place(uid)).await;
        place.ok().flatten().ok_or_else(|| {
            let message = "too many passed descriptors wait for a request that names them";
            ApiError::new(ErrorCode::DescriptorLimit, message)
        })
    }

    /// Keeps a parcel under a token.
    pub(super) fn keep(&self, token: String, passed: Passed, uid: u32, place: Place) {
        let waiting = Waiting { passed, uid, place };
        self.lock().insert(token, waiting);
    }

    /// Takes the parcel that a client of the same user has passed.
    pub(super) fn take(&self, token: &str, uid: u32) -> Result<Passed, ApiError> {
        let mut waiting = self.lock();
        let theirs = waiting.get(token).is_some_and(|waiting| waiting.uid == uid);
        let taken = theirs.then(|| waiting.remove(token)).flatten();
        taken.map(|waiting| waiting.passed).ok_or_else(|| {
            let message = "no descriptors were passed under this token";
            ApiError::new(ErrorCode::InvalidDescriptor, message)
                .hint("keep the connection open on which they are passed")
        })
    }

    /// Closes a parcel if it waits still; returns whether it did.
    pub(super) fn forget(&self, token: &str) -> bool {
        let forgotten = self.lock().remove(token);
        let waited = forgotten.is_some();
        if let Some(Waiting { passed, place, .. }) = forgotten {
            foreign::close(passed.parcel, place);
        }
        waited
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 unpredictable bits as text.
pub(super) fn unguessable() -> Result<String, ApiError> {
    let bits: [u8; 16] = super::random()?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use heddle_sys::tap::Offloads;

    use super::*;
    use crate::api::EndpointKind;

    #[test]
    fn a_parcel_is_its_users_and_closed_once_it_is_forgotten() {
        let tokens = Tokens::default();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        keep(&tokens, "a", writer, 1);
        assert!(tokens.take("a", 2).is_err());
        assert!(tokens.forget("a"));
        assert!(!tokens.forget("a"));
        assert!(tokens.take("a", 1).is_err());
        // The pipe ends when its last writer is closed.
        let mut rest = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut rest).unwrap();
    }

    #[test]
    fn a_parcel_that_is_named_makes_room_for_another() {
        let tokens = Tokens::default();
        for number in 0..2 * LIMIT {
            let (reader, _writer) = rustix::pipe::pipe().unwrap();
            let token = number.to_string();
            keep(&tokens, &token, reader, 1);
            let _passed = tokens.take(&token, 1).unwrap();
        }
    }

    fn keep(tokens: &Tokens, token: &str, descriptor: OwnedFd, uid: u32) {
        let parcel = Parcel {
            kind: EndpointKind::Tap,
            links: vec![descriptor],
            interface: None,
            offloads: Offloads::default(),
            process: None,
        };
        let (_, connection) = watch::channel(());
        let place = tokens.quota.try_place(uid).unwrap();
        let passed = Passed {
            parcel,
            connection,
            pid: 1,
        };
        tokens.keep(token.to_owned(), passed, uid, place);
    }
}
