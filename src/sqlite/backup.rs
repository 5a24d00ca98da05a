//! A copy of a SQLite file at one moment, under a name that it gets only when it is whole.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::failed;
use super::new_file::NewFile;
use super::snapshot::{self, connect};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use chronicle_archive::show_path;

/// The pages that are copied before a stop is looked for.
const PAGES: i32 = 4096;

/// Copies a file by SQLite's backup interface, and has SQLite check the copy.
///
/// # Errors
/// If the file cannot be read, the copy exists already, or it cannot be written or is not sound.
pub fn copy(from: &Path, to: &Path, cancel: &Cancel) -> Result<()> {
    let cannot = |e| failed(Code::Output, "cannot copy the database", e);
    if to.symlink_metadata().is_ok() {
        let shown = show_path(to.display());
        return Err(Error::new(Code::Usage, format!("{shown} exists already"))
            .hint("name a file that is not there yet"));
    }
    let source = snapshot::open(from, cancel)?.connection;
    let file = NewFile::reserve(to)?;
    let mut copy = connect(&file.partial, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(cannot)?;
    step_through(&source, &mut copy, cancel)?;
    let check: String =
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(cannot)?;
    if check != "ok" {
        return Err(Error::new(Code::Output, format!("the copy is not sound: {check}")));
    }
    copy.close().map_err(|(_, e)| cannot(e))?;
    file.publish()
}

fn step_through(source: &Connection, copy: &mut Connection, cancel: &Cancel) -> Result<()> {
    let cannot = |e| failed(Code::Output, "cannot copy the database", e);
    let backup = Backup::new(source, copy).map_err(cannot)?;
    while backup.step(PAGES).map_err(cannot)? != StepResult::Done {
        cancel.check()?;
    }
    Ok(())
}
