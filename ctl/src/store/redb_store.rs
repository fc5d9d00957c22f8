//! Documents in an embedded database: one file, one process.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Change, Store, StoreError};

/// The one table: document name to document.
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");

/// Documents in a `redb` file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    database: Database,
}

impl RedbStore {
    /// Opens the file, or makes it and its directory, for this user only.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`]: no permission, no database, in use by another process.
    pub fn open(path: &Path) -> Result<RedbStore, StoreError> {
        let failed = |problem: &dyn Display| StoreError::Open {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        if let Some(directory) = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| failed(&error))?;
        }
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed(&error))?;
        let database = redb::Builder::new()
            .create_file(file)
            .map_err(|error| failed(&error))?;
        let store = RedbStore {
            path: path.to_owned(),
            database,
        };
        // The table must exist before it can be read.
        store.commit(&[]).map_err(|error| failed(&error))?;
        Ok(store)
    }

    fn try_load(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let table = self.database.begin_read()?.open_table(DOCUMENTS)?;
        table
            .iter()?
            .map(|entry| {
                let (name, document) = entry?;
                Ok((name.value().to_owned(), document.value().to_vec()))
            })
            .collect()
    }

    fn try_commit(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(DOCUMENTS)?;
            for change in changes {
                match change {
                    Change::Put(name, document) => {
                        table.insert(name.as_str(), document.as_slice())?;
                    }
                    Change::Delete(name) => {
                        table.remove(name.as_str())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Store for RedbStore {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.try_load().map_err(|error| StoreError::Load {
            path: self.path.clone(),
            problem: error.to_string(),
        })
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.try_commit(changes)
            .map_err(|error| StoreError::Commit {
                path: self.path.clone(),
                problem: error.to_string(),
            })
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, document: &[u8]) -> Change {
        Change::Put(name.to_owned(), document.to_vec())
    }

    #[test]
    fn documents_come_back_after_the_file_was_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/store.redb");
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), []);
        store
            .commit(&[put("b", b"2"), put("a", b"1"), put("c", b"3")])
            .unwrap();
        store
            .commit(&[Change::Delete("b".to_owned()), put("c", b"4")])
            .unwrap();
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        let expected = [
            ("a".to_owned(), b"1".to_vec()),
            ("c".to_owned(), b"4".to_vec()),
        ];
        assert_eq!(store.load().unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        fs::write(&path, b"something precious of another program").unwrap();
        let error = RedbStore::open(&path).unwrap_err().to_string();
        assert!(error.contains("cannot be opened"), "{error}");
        assert_eq!(
            fs::read(&path).unwrap(),
            b"something precious of another program"
        );
    }

    #[test]
    fn one_process_at_a_time_has_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let _first = RedbStore::open(&path).unwrap();
        assert!(RedbStore::open(&path).is_err());
    }

    #[test]
    fn the_file_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let _store = RedbStore::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
