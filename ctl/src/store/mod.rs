//! What outlives the daemon: networks, endpoints, published ports, leases.
//!
//! A store is a set of named documents that changes by whole transactions. What the documents mean
//! is the daemon's business ([`crate::daemon`]); that either all changes of an operation are there
//! after a crash or none is the store's.

mod redb_store;

use std::path::PathBuf;

use thiserror::Error;

pub use redb_store::RedbStore;

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a document, over the one of that name if there is one.
    Put(String, Vec<u8>),
    /// Removes a document, if it is there.
    Delete(String),
}

impl Change {
    /// The document it is of.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Change::Put(name, _) | Change::Delete(name) => name,
        }
    }
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("the store {path} cannot be opened: {problem}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A transaction failed.
    #[error("writing to the store {path}: {problem}")]
    Commit {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It cannot be read.
    #[error("reading the store {path}: {problem}")]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// A transactional set of named documents.
pub trait Store: Send + Sync {
    /// All documents.
    ///
    /// # Errors
    ///
    /// [`StoreError::Load`]
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Applies all changes, or none. They survive a crash of the machine once this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Commit`]
    fn commit(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Where the documents are, for people.
    fn location(&self) -> String;
}
