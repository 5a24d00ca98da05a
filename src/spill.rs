//! The spill: maps from bytes to bytes in key order that may be larger than memory.
//!
//! It is a nameless temporary SQLite database: it stays in a bounded cache as long as it fits
//! in memory, and what does not fit goes to a file without a name, which the system removes with
//! the process, however that ends. It is the one part of this room that the rest of the program
//! uses, as `crate::spill`, and so it shows nothing of SQLite.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Code, Error, Result};
use crate::sqlite::failed;
use crate::temporary;

/// Its settings: nothing in it outlives the process, so nothing is kept for a rollback or forced
/// to the disk. The cache is 1 MiB. The values are stored apart from the keys, so that a key is
/// found without stepping over large values.
const MAKE: &str = "
    PRAGMA temp_store = FILE;
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -1024;
    CREATE TABLE entries (space INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL);
    CREATE UNIQUE INDEX entries_by_key ON entries (space, key);
    BEGIN;";

/// Several maps from keys to values; a map is a `space`, named by a number.
pub struct Spill {
    database: Connection,
}

impl Spill {
    /// An empty spill. Its file, if it ever needs one, is where `TMPDIR` says.
    ///
    /// # Errors
    /// If SQLite cannot create it.
    pub fn new() -> Result<Spill> {
        // SQLite's name for a temporary database of one's own
        let database = Connection::open("").map_err(unusable)?;
        database.execute_batch(MAKE).map_err(unusable)?;
        Ok(Spill { database })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As all here: if the temporary file cannot be read or written, mostly a full disk.
    pub fn get(&self, space: u32, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.database
            .prepare_cached("SELECT value FROM entries WHERE space = ?1 AND key = ?2")
            .and_then(|mut get| get.query_row(params![space, key], |row| row.get(0)).optional())
            .map_err(unusable)
    }

    /// Puts a value at a key; returns the one that stood there.
    ///
    /// # Errors
    /// As [`Spill::get`].
    pub fn put(&mut self, space: u32, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
        let old = self.get(space, key)?;
        self.database
            .prepare_cached(
                "INSERT INTO entries (space, key, value) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (space, key) DO UPDATE SET value = excluded.value",
            )
            .and_then(|mut put| put.execute(params![space, key, value]))
            .map_err(unusable)?;
        Ok(old)
    }

    /// Takes a key out; returns its value.
    ///
    /// # Errors
    /// As [`Spill::get`].
    pub fn remove(&mut self, space: u32, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let old = self.get(space, key)?;
        if old.is_some() {
            self.database
                .prepare_cached("DELETE FROM entries WHERE space = ?1 AND key = ?2")
                .and_then(|mut remove| remove.execute(params![space, key]))
                .map_err(unusable)?;
        }
        Ok(old)
    }

    /// The first key of a space in the order of bytes, with its value: the first one behind
    /// `after`, or of all. The map may change between two calls.
    ///
    /// # Errors
    /// As [`Spill::get`].
    pub fn next(&self, space: u32, after: Option<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let sql = match after {
            Some(_) => {
                "SELECT key, value FROM entries WHERE space = ?1 AND key > ?2 ORDER BY key LIMIT 1"
            }
            None => {
                "SELECT key, value FROM entries WHERE space = ?1 AND key >= ?2 ORDER BY key LIMIT 1"
            }
        };
        let from = after.unwrap_or_default();
        self.database
            .prepare_cached(sql)
            .and_then(|mut next| {
                next.query_row(params![space, from], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(unusable)
    }
}

fn unusable(cause: rusqlite::Error) -> Error {
    if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return temporary::no_room(&temporary::sqlite_folder(), None);
    }
    failed(Code::Output, "the temporary file cannot be used", cause)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u32, Vec<u8>, Vec<u8>),
        Get(u32, Vec<u8>),
        Remove(u32, Vec<u8>),
        Next(u32, Option<Vec<u8>>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || proptest::collection::vec(0_u8..3, 0..3);
        let space = || prop_oneof![Just(0), Just(7), Just(u32::MAX)];
        let value = proptest::collection::vec(any::<u8>(), 0..20);
        prop_oneof![
            (space(), key(), value).prop_map(|(s, k, v)| Step::Put(s, k, v)),
            (space(), key()).prop_map(|(s, k)| Step::Get(s, k)),
            (space(), key()).prop_map(|(s, k)| Step::Remove(s, k)),
            (space(), proptest::option::of(key())).prop_map(|(s, k)| Step::Next(s, k)),
        ]
    }

    proptest! {
        #[test]
        fn a_spool_behaves_as_maps_in_memory_do(steps in proptest::collection::vec(step(), 0..60)) {
            let mut spill = Spill::new().unwrap();
            let mut model: BTreeMap<(u32, Vec<u8>), Vec<u8>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(s, k, v) => {
                        let old = spill.put(s, &k, &v).unwrap();
                        prop_assert_eq!(old, model.insert((s, k), v));
                    }
                    Step::Get(s, k) => {
                        prop_assert_eq!(spill.get(s, &k).unwrap(), model.get(&(s, k)).cloned());
                    }
                    Step::Remove(s, k) => {
                        prop_assert_eq!(spill.remove(s, &k).unwrap(), model.remove(&(s, k)));
                    }
                    Step::Next(s, after) => {
                        let next = model.iter().find(|((space, key), _)| {
                            *space == s && after.as_ref().is_none_or(|after| key > after)
                        });
                        let next = next.map(|((_, key), value)| (key.clone(), value.clone()));
                        prop_assert_eq!(spill.next(s, after.as_deref()).unwrap(), next);
                    }
                }
            }
        }
    }

    #[test]
    fn a_spool_holds_far_more_than_its_cache_and_large_values() {
        let mut spill = Spill::new().unwrap();
        let large = vec![7; 1 << 20];
        for n in 0..48_u32 {
            assert_eq!(spill.put(1, &n.to_be_bytes(), &large).unwrap(), None);
        }
        let mut after = None;
        for n in 0..48_u32 {
            let (key, value) = spill.next(1, after.as_deref()).unwrap().unwrap();
            assert!(key == n.to_be_bytes() && value == large, "{n}");
            after = Some(key);
        }
        assert_eq!(spill.next(1, after.as_deref()).unwrap(), None);
    }
}
