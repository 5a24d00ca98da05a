//! Taking back what an import wrote into a file, also where SQLite leaves that to whoever opens the
//! file next.

use std::path::Path;

use rusqlite::OpenFlags;

use super::SqliteTarget;
use crate::error::Error;
use crate::sqlite::snapshot::{connect, with_suffix};
use crate::temporary::sqlite_folder;
use chronicle_archive::show_path;

impl SqliteTarget {
    /// Rolls back because of an error; the error, with what is left behind all the same.
    pub(super) fn undo(self, error: Error) -> Error {
        let SqliteTarget { connection, file, created, batch, begun, .. } = self;
        // this rolls back, and removes a new file
        drop(connection);
        drop(created);
        let Some(file) = file else { return error };
        let shown = show_path(file.display());
        // after an error of writing, SQLite lets the next reader undo what is in the file already: who
        // copies the file alone would have half of the rows
        if begun && !roll_back(&file) {
            return error.hint(format!(
                "{shown} is unchanged only together with {shown}-journal: keep both, free space, and \
                 open the file once: sqlite3 FILE 'PRAGMA quick_check'"
            ));
        }
        SqliteTarget::note_failure(batch, &file, &error);
        match error.is_full() {
            true => error.hint(format!(
                "{shown} is unchanged; free space beside it, and in {} for temporary tables (TMPDIR)",
                show_path(sqlite_folder().display())
            )),
            false => error,
        }
    }
}

/// Has SQLite undo what a journal says; whether there is nothing to undo now.
fn roll_back(file: &Path) -> bool {
    let journal = with_suffix(file, "-journal");
    if !journal.exists() {
        return true;
    }
    let read = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    });
    // a journal that is kept says nothing if it starts with zeros
    let magic = || std::fs::read(&journal).is_ok_and(|bytes| bytes.iter().take(8).any(|b| *b != 0));
    read.is_ok() && !magic()
}
