//! The order in which the store learns of changes.
//!
//! One task owns the store. Changes arrive through a queue in the order in which they were made, and
//! whatever has gathered while a transaction was written goes into the next one. Whoever must know
//! that a change is on disk waits for its transaction; an attachment does not, because the keeper
//! holds what it would take to find the endpoint again.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::api::{ApiError, ErrorCode};
use crate::store::{Change, Store};

/// Entries that may wait. A daemon that is this far behind its disk slows its clients down.
const QUEUE: usize = 1024;

type Done = oneshot::Sender<Result<(), String>>;

/// The queue to the store.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    queue: mpsc::Sender<(Vec<Change>, Option<Done>)>,
}

impl Journal {
    /// Starts the task that writes.
    pub(super) fn start(store: Arc<dyn Store>) -> Journal {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, entries));
        Journal { queue }
    }

    /// Writes changes sooner or later.
    pub(super) async fn note(&self, changes: Vec<Change>) {
        // Fails only if the writer is gone, which is said when somebody waits for it.
        let _ = self.queue.send((changes, None)).await;
    }

    /// Writes changes and waits until they are on disk.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<(), ApiError> {
        let failed = |problem: String| ApiError::new(ErrorCode::StoreFailed, problem);
        let (done, written) = oneshot::channel();
        let sent = self.queue.send((changes, Some(done))).await;
        sent.map_err(|_| failed("the store is closed".to_owned()))?;
        let written = written.await;
        written
            .map_err(|_| failed("the store is closed".to_owned()))?
            .map_err(failed)
    }
}

async fn write(store: Arc<dyn Store>, mut entries: mpsc::Receiver<(Vec<Change>, Option<Done>)>) {
    let mut gathered = Vec::new();
    while entries.recv_many(&mut gathered, QUEUE).await > 0 {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        for (more, done) in gathered.drain(..) {
            changes.extend(more);
            waiting.extend(done);
        }
        let store = store.clone();
        let written = tokio::task::spawn_blocking(move || store.commit(&changes)).await;
        let result = match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = &result {
            tracing::error!(%problem, "the store could not be written");
        }
        for done in waiting {
            // Whoever waited may have given up.
            let _ = done.send(result.clone());
        }
    }
}
