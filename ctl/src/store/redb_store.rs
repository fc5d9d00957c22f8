//! Documents in an embedded database: one file, one process.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Change, Store, StoreError};

/// The one table: document name to document.
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");

type Attempt<T> = Result<T, redb::Error>;

/// Documents in a `redb` file.
///
/// After an error of the disk, a full one for instance, the database does nothing any more until it is
/// opened again. So it is closed after every error, and opened by whoever needs it next.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    /// The file, whatever becomes of its name.
    file: fs::File,
    /// None after an error.
    database: Mutex<Option<Database>>,
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
        let store = RedbStore {
            path: path.to_owned(),
            file,
            database: Mutex::new(None),
        };
        // The table must exist before it can be read.
        let made = store.with(|database| RedbStore::try_commit(database, &[]));
        made.map_err(|error| failed(&error))?;
        Ok(store)
    }

    /// Does something with the database.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Attempt<T>) -> Attempt<T> {
        let mut place = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match place.take() {
            Some(database) => database,
            None => redb::Builder::new().create_file(self.file.try_clone()?)?,
        };
        let result = work(&database);
        if result.is_ok() {
            *place = Some(database);
        }
        result
    }

    fn try_load(database: &Database) -> Attempt<Vec<(String, Vec<u8>)>> {
        let table = database.begin_read()?.open_table(DOCUMENTS)?;
        table
            .iter()?
            .map(|entry| {
                let (name, document) = entry?;
                Ok((name.value().to_owned(), document.value().to_vec()))
            })
            .collect()
    }

    fn try_commit(database: &Database, changes: &[Change]) -> Attempt<()> {
        let transaction = database.begin_write()?;
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
        self.with(RedbStore::try_load)
            .map_err(|error| StoreError::Load {
                path: self.path.clone(),
                problem: error.to_string(),
            })
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.with(|database| RedbStore::try_commit(database, changes))
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

    /// A disk that is full after so many writes.
    #[derive(Debug)]
    struct Full {
        memory: redb::backends::InMemoryBackend,
        left: Mutex<u32>,
    }

    impl redb::StorageBackend for Full {
        fn len(&self) -> std::io::Result<u64> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> std::io::Result<()> {
            self.memory.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            let mut left = self.left.lock().unwrap();
            *left = left.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
            self.memory.write(offset, data)
        }
    }

    #[test]
    fn a_store_whose_disk_was_full_goes_on_once_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = RedbStore::open(&path).unwrap();
        store.commit(&[put("a", b"1")]).unwrap();
        let full = Full {
            memory: redb::backends::InMemoryBackend::new(),
            left: Mutex::new(100),
        };
        let database = redb::Builder::new().create_with_backend(full).unwrap();
        *store.database.lock().unwrap() = Some(database);
        while store.commit(&[put("lost", b"1")]).is_ok() {}
        store.commit(&[put("b", b"2")]).unwrap();
        let expected = [
            ("a".to_owned(), b"1".to_vec()),
            ("b".to_owned(), b"2".to_vec()),
        ];
        assert_eq!(store.load().unwrap(), expected);
        assert!(RedbStore::open(&path).is_err());
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
