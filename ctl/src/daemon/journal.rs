//! The order in which the store learns of changes.
//!
//! One task owns the store. Changes arrive through a queue in the order in which they were made, and
//! whatever has gathered while a transaction was written goes into the next one. Whoever must know
//! that a change is on disk waits for its transaction; an attachment does not, because the keeper
//! holds what it would take to find the endpoint again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{ApiError, ErrorCode};
use crate::store::{Change, Store};

/// Entries that may wait. A daemon that is this far behind its disk slows its clients down.
const QUEUE: usize = 1024;

/// Between two attempts to write what could not be written.
const RETRY: Duration = Duration::from_secs(2);

type Done = oneshot::Sender<Result<(), String>>;

/// Changes, and who waits for them.
type Entry = (Vec<Change>, Option<Done>);

/// The queue to the store.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    queue: mpsc::Sender<Entry>,
    fault: watch::Receiver<Option<String>>,
}

impl Journal {
    /// Starts the task that writes.
    pub(super) fn start(store: Arc<dyn Store>) -> Journal {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (told, fault) = watch::channel(None);
        let writer = Writer {
            store,
            owed: BTreeMap::new(),
            fault: told,
        };
        tokio::spawn(writer.run(entries));
        Journal { queue, fault }
    }

    /// Why the last attempt to write failed, if it did.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// Writes changes sooner or later; if the store cannot be written, once it can.
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

/// What the task that writes owns.
struct Writer {
    store: Arc<dyn Store>,
    /// Noted changes that could not be written, the last for each document: they are tried again with
    /// whatever comes next, and before it.
    owed: BTreeMap<String, Change>,
    fault: watch::Sender<Option<String>>,
}

impl Writer {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let mut gathered = Vec::new();
        loop {
            let more = entries.recv_many(&mut gathered, QUEUE);
            if self.owed.is_empty() {
                if more.await == 0 {
                    return;
                }
            } else if tokio::time::timeout(RETRY, more).await == Ok(0) {
                return;
            }
            self.write(gathered.drain(..)).await;
        }
    }

    /// Writes what is owed and what has gathered, as one transaction.
    async fn write(&mut self, gathered: impl Iterator<Item = Entry>) {
        let mut changes: Vec<Change> = self.owed.values().cloned().collect();
        let mut noted = Vec::new();
        let mut waiting = Vec::new();
        for (more, done) in gathered {
            changes.extend_from_slice(&more);
            match done {
                // Whoever waits is told, and takes back what depends on it.
                Some(done) => waiting.push(done),
                None => noted.extend(more),
            }
        }
        let store = self.store.clone();
        let written = tokio::task::spawn_blocking(move || store.commit(&changes)).await;
        let result = match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match &result {
            Ok(()) => self.owed.clear(),
            Err(problem) => {
                tracing::error!(%problem, "the store could not be written");
                let named = noted
                    .into_iter()
                    .map(|change| (change.name().to_owned(), change));
                self.owed.extend(named);
            }
        }
        self.fault.send_replace(result.clone().err());
        for done in waiting {
            // Whoever waited may have given up.
            let _ = done.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::store::StoreError;

    /// A store that fails as often as it was told to.
    #[derive(Debug, Default)]
    struct Failing {
        failures: Mutex<u32>,
        documents: Mutex<BTreeMap<String, Vec<u8>>>,
    }

    impl Store for Failing {
        fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
            Ok(self.documents.lock().unwrap().clone().into_iter().collect())
        }

        fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(StoreError::Commit {
                    path: "nowhere".into(),
                    problem: "no space".to_owned(),
                });
            }
            let mut documents = self.documents.lock().unwrap();
            for change in changes.iter().cloned() {
                match change {
                    Change::Put(name, document) => documents.insert(name, document),
                    Change::Delete(name) => documents.remove(&name),
                };
            }
            Ok(())
        }

        fn location(&self) -> String {
            "nowhere".to_owned()
        }
    }

    #[tokio::test]
    async fn what_was_noted_while_the_store_failed_is_written_before_what_comes_after() {
        let store = failing(2);
        let journal = Journal::start(store.clone());
        journal.note(vec![put("a", b"1"), put("b", b"1")]).await;
        refuse(&journal).await;
        journal
            .note(vec![put("a", b"2"), delete("b"), put("c", b"1")])
            .await;
        refuse(&journal).await;
        journal.commit(vec![put("c", b"2")]).await.unwrap();
        let expected = [("a", b"2"), ("c", b"2")];
        let expected = expected.map(|(name, document)| (name.to_owned(), document.to_vec()));
        assert_eq!(store.load().unwrap(), expected);
        assert_eq!(journal.fault(), None);
    }

    #[tokio::test]
    async fn what_is_owed_is_tried_again_without_anybody_asking() {
        let store = failing(1);
        let journal = Journal::start(store.clone());
        let mut fault = journal.fault.clone();
        journal.note(vec![put("a", b"1")]).await;
        fault.wait_for(Option::is_some).await.unwrap();
        fault.wait_for(Option::is_none).await.unwrap();
        assert_eq!(store.load().unwrap(), [("a".to_owned(), b"1".to_vec())]);
    }

    /// Whoever is told of a failure takes back what depends on it, and it must not come after all.
    async fn refuse(journal: &Journal) {
        let error = journal.commit(vec![put("never", b"1")]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreFailed);
        assert!(journal.fault().unwrap().contains("no space"));
    }

    fn failing(failures: u32) -> Arc<Failing> {
        Arc::new(Failing {
            failures: Mutex::new(failures),
            documents: Mutex::default(),
        })
    }

    fn put(name: &str, document: &[u8]) -> Change {
        Change::Put(name.to_owned(), document.to_vec())
    }

    fn delete(name: &str) -> Change {
        Change::Delete(name.to_owned())
    }
}
