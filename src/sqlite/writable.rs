//! Whether SQLite may write a file: the file itself, and a journal beside it.

use std::path::Path;

use rustix::fs::{Access, access};

use super::snapshot::with_suffix;
use crate::error::{Code, Error, Result};
use chronicle_archive::show_path;

/// What a user may not write, and why it matters.
pub(super) struct Blocker {
    /// Why the file cannot be written.
    pub(super) reason: String,
    /// What helps against it.
    pub(super) remedy: String,
}

/// Why a file could not be written, if that can be seen without writing.
pub(super) fn blocker(file: &Path) -> Option<Blocker> {
    let is_closed = |path: &Path| access(path, Access::WRITE_OK).is_err();
    let shown = show_path(file.display());
    let (closed, reason) = match file.parent() {
        _ if is_closed(file) => (file, format!("{shown} cannot be written")),
        // SQLite goes on with a journal that is there
        Some(folder) if is_closed(folder) && !with_suffix(file, "-wal").exists() => {
            (folder, format!("{shown} cannot be written: no journal can be created in its folder"))
        }
        _ => return None,
    };
    let closed = show_path(closed.display());
    let remedy = format!("let this user write it: chmod u+w {closed}; or run this as its owner");
    Some(Blocker { reason, remedy })
}

/// Refuses a file that could not be written, before anything is.
pub(super) fn require_writable(file: &Path) -> Result<()> {
    let refused = |b: Blocker| {
        Err(Error::new(Code::Target, format!("{}; nothing was changed", b.reason)).hint(b.remedy))
    };
    blocker(file).map_or(Ok(()), refused)
}
