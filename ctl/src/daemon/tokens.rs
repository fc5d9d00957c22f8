//! Descriptors that clients have passed, until a request names them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::{ApiError, ErrorCode};
use crate::plumb::Parcel;

/// How long descriptors wait for a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Parcels that wait at most, over all clients: each may be hundreds of descriptors.
const LIMIT: usize = 16;

/// Ends with the connection it stands for.
pub(super) type Connection = watch::Receiver<()>;

/// A parcel that waits.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) parcel: Parcel,
    pub(super) connection: Connection,
    /// Process that passed it.
    pub(super) pid: u32,
    uid: u32,
    deadline: Instant,
}

/// The parcels that wait.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    waiting: Mutex<BTreeMap<String, Passed>>,
}

impl Tokens {
    /// Keeps a parcel; returns what names it.
    pub(super) fn keep(
        &self,
        parcel: Parcel,
        connection: Connection,
        pid: u32,
        uid: u32,
    ) -> Result<String, ApiError> {
        let mut waiting = self.lock();
        let now = now();
        waiting
            .retain(|_, passed| passed.deadline > now && passed.connection.has_changed().is_ok());
        if waiting.len() >= LIMIT {
            let message = "too many passed descriptors wait for a request that names them";
            return Err(ApiError::new(ErrorCode::DescriptorLimit, message));
        }
        let token = unguessable()?;
        let deadline = now + PATIENCE;
        waiting.insert(
            token.clone(),
            Passed {
                parcel,
                connection,
                pid,
                uid,
                deadline,
            },
        );
        Ok(token)
    }

    /// Takes the parcel that a client of the same user has passed.
    pub(super) fn take(&self, token: &str, uid: u32) -> Result<Passed, ApiError> {
        let mut waiting = self.lock();
        let theirs = waiting.get(token).is_some_and(|passed| passed.uid == uid);
        let passed = theirs.then(|| waiting.remove(token)).flatten();
        passed
            .filter(|passed| passed.connection.has_changed().is_ok())
            .ok_or_else(|| {
                let message = "no descriptors were passed under this token";
                ApiError::new(ErrorCode::InvalidDescriptor, message)
                    .hint("keep the connection open on which they are passed")
            })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Passed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 unpredictable bits as text.
fn unguessable() -> Result<String, ApiError> {
    let bits: [u8; 16] = super::random()?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[expect(clippy::disallowed_methods, reason = "clients wait in real time")]
fn now() -> Instant {
    Instant::now()
}
