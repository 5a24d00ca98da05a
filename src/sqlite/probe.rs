//! A quick look at a SQLite file: whether it is Chronicle's and whether it holds anything.

use std::path::Path;

use rusqlite::OpenFlags;

use super::catalog::SqliteCatalog;
use super::quoted;
use super::snapshot::{Head, connect};

/// The rows of Chronicle's tables in a file, or None if it is none of Chronicle's; inside, None
/// if they cannot be counted now, for example while the file is locked.
pub fn rows(path: &Path) -> Option<Option<u64>> {
    // a text or an archive by that name is no database, not one that cannot be counted
    Head::read(path).ok()?;
    // a path is used unchanged: no name has a special meaning once it is absolute
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let _ = connection.busy_timeout(std::time::Duration::from_millis(200));
    let catalog = match SqliteCatalog::read(&connection, None) {
        Ok(catalog) => catalog,
        Err(e) if e.code() == crate::error::Code::Layout => return None,
        Err(_) => return Some(None),
    };
    let count = |table: &str| -> Option<u64> {
        let sql = format!("SELECT count(*) FROM {}", quoted(table));
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).ok().map(i64::unsigned_abs)
    };
    Some(catalog.layout.streams.iter().map(|s| count(&s.table)).sum())
}
