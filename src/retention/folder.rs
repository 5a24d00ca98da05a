//! The archives in a folder that belong together, and the removal of those that no longer stay.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::Retention;
use crate::verify::inspect;
use chronicle_archive::{Header, Limits};

/// What was done in a folder.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The archives that are gone, in the order of their names.
    pub removed: Vec<PathBuf>,
    /// Those that are still there, the newest one among them.
    pub kept: Vec<PathBuf>,
    /// Files with such a name that are no whole archives of the same source and selection: nothing was done to them.
    pub others: Vec<PathBuf>,
    /// Those of `kept` that no rule keeps, and why they are still there.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// An archive of the source.
struct Dated {
    path: PathBuf,
    created: DateTime<Utc>,
    file: FileId,
}

/// A file, whatever it is called: its device and its number there.
type FileId = (u64, u64);

/// Removes the archives that no longer stay from the folder of the newest one, of which `header` is the first line: only
/// whole archives of the same source and selection whose names fit, and never the newest one itself.
///
/// # Errors
/// If the folder cannot be listed.
pub fn sweep(
    retention: Retention,
    newest: &Path,
    header: &Header,
    fits: impl Fn(&str) -> bool,
) -> io::Result<Sweep> {
    let mut done = Sweep::default();
    let mut archives = Vec::new();
    for path in candidates(newest, fits)? {
        match look(&path, header) {
            Some(archive) => archives.push(archive),
            None => done.others.push(path),
        }
    }
    let written = id(&newest.symlink_metadata()?);
    let created: Vec<_> = archives.iter().map(|archive| archive.created).collect();
    for (archive, stays) in archives.into_iter().zip(retention.staying(&created)) {
        // with a clock that was wrong once, another one may look newer
        if stays || archive.file == written {
            done.kept.push(archive.path);
            continue;
        }
        match remove(&archive) {
            Ok(()) => done.removed.push(archive.path),
            Err(error) => {
                done.kept.push(archive.path.clone());
                done.failed.push((archive.path, error));
            }
        }
    }
    Ok(done)
}

/// The files beside the newest archive whose names fit, in the order of their names.
fn candidates(newest: &Path, fits: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let folder = newest.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(&fits) {
            found.push(newest.with_file_name(name));
        }
    }
    found.sort();
    Ok(found)
}

/// What a file is, if it is a whole archive of the same source and selection as another one.
fn look(path: &Path, like: &Header) -> Option<Dated> {
    // what a link leads to is not ours, and whoever opens a pipe waits
    let before = path.symlink_metadata().ok().filter(Metadata::is_file)?;
    let mut file = File::open(path).ok()?;
    let data = file.metadata().ok().filter(|data| id(data) == id(&before))?;
    let header = inspect(&mut file, Limits::default()).ok()??.header;
    let is_alike = header.source.instance.is_some()
        && header.source.instance == like.source.instance
        && header.filters == like.filters;
    let created = header.created_at.filter(|_| is_alike)?;
    let created = DateTime::parse_from_rfc3339(&created).ok()?.to_utc();
    Some(Dated { path: path.to_owned(), created, file: id(&data) })
}

/// Removes the archive that was looked at; what has its name by now stays.
fn remove(archive: &Dated) -> io::Result<()> {
    let now = match archive.path.symlink_metadata() {
        // another export has removed it
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        now => now?,
    };
    if id(&now) != archive.file {
        return Err(io::Error::other("it was replaced in the meantime"));
    }
    std::fs::remove_file(&archive.path)
}

fn id(data: &Metadata) -> FileId {
    (data.dev(), data.ino())
}
