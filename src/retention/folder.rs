//! The archives in a folder that belong together, and the removal of those that no longer stay.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::Retention;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use crate::verify::{inspect, verify};
use chronicle_archive::{Header, Limits};

/// What was done in a folder.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The archives that are gone, in the order of their names.
    pub removed: Vec<PathBuf>,
    /// Those that are still there, the newest one among them.
    pub kept: Vec<PathBuf>,
    /// Files with such a name that are no archives of the same source and selection: nothing was done to them.
    pub others: Vec<PathBuf>,
    /// Those of `kept` that were created after the newest one, if their headers are right.
    pub ahead: Vec<PathBuf>,
    /// Archives that stay since they are damaged, and what is wrong with them. They are none of `kept`.
    pub damaged: Vec<(PathBuf, Error)>,
    /// Those of `kept` that no rule keeps, and why they are still there.
    pub failed: Vec<(PathBuf, io::Error)>,
    /// A folder that could not be listed, so that nothing was removed.
    pub unlisted: Option<(PathBuf, io::Error)>,
}

/// What is to be done in a folder.
#[derive(Debug)]
pub struct Survey {
    going: Vec<Dated>,
    /// What else will be found.
    staying: Sweep,
}

/// An archive of the source.
#[derive(Debug)]
struct Dated {
    path: PathBuf,
    created: DateTime<Utc>,
    file: FileId,
}

/// A file, whatever it is called: its device and its number there.
type FileId = (u64, u64);

/// Finds the archives that no longer stay in the folder of the newest one, of which `header` is the first line: only whole
/// archives of the same source and selection whose names fit, in whose place whole ones stay, and never the newest one
/// itself, which is known to be whole. Whatever decides about one of them is read from its first to its last byte.
///
/// # Errors
/// A stop.
pub fn survey(
    retention: Retention,
    newest: &Path,
    header: &Header,
    fits: impl Fn(&str) -> bool,
    cancel: &Cancel,
) -> Result<Survey> {
    let mut staying = Sweep::default();
    let (written, found) = match listed(newest, fits) {
        Ok(listed) => listed,
        Err(error) => {
            staying.kept.push(newest.to_owned());
            staying.unlisted = Some((newest.parent().unwrap_or(newest).to_owned(), error));
            return Ok(Survey { going: Vec::new(), staying });
        }
    };
    let now = created(header);
    let mut archives = Vec::new();
    for path in found {
        match look(&path, header) {
            // with a clock that was wrong once, it would take the place of those that are right
            Some(archive) if archive.file != written && Some(archive.created) > now => {
                staying.ahead.push(archive.path.clone());
                staying.kept.push(archive.path);
            }
            Some(archive) => archives.push(archive),
            None => staying.others.push(path),
        }
    }
    let times: Vec<_> = archives.iter().map(|archive| archive.created).collect();
    let goes = retention.going(&times, |n| {
        let archive = &archives[n];
        let damage = if archive.file == written { None } else { damage(archive, cancel)? };
        let is_whole = damage.is_none();
        staying.damaged.extend(damage.map(|error| (archive.path.clone(), error)));
        Ok::<_, Error>(is_whole)
    })?;
    let mut going = Vec::new();
    for (n, archive) in archives.into_iter().enumerate() {
        match archive.file != written && goes.contains(&n) {
            true => going.push(archive),
            false if staying.damaged.iter().any(|(path, _)| *path == archive.path) => {}
            false => staying.kept.push(archive.path),
        }
    }
    staying.kept.sort();
    Ok(Survey { going, staying })
}

impl Survey {
    /// Removes what no longer stays.
    pub fn sweep(self) -> Sweep {
        let mut done = self.staying;
        for archive in self.going {
            match remove(&archive) {
                Ok(()) => done.removed.push(archive.path),
                Err(error) => {
                    done.kept.push(archive.path.clone());
                    done.failed.push((archive.path, error));
                }
            }
        }
        done
    }
}

/// The newest archive, and the files beside it whose names fit.
fn listed(newest: &Path, fits: impl Fn(&str) -> bool) -> io::Result<(FileId, Vec<PathBuf>)> {
    Ok((id(&newest.symlink_metadata()?), candidates(newest, fits)?))
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
    let created = created(&header).filter(|_| is_alike)?;
    Some(Dated { path: path.to_owned(), created, file: id(&data) })
}

/// When an archive was created.
fn created(header: &Header) -> Option<DateTime<Utc>> {
    let created = DateTime::parse_from_rfc3339(header.created_at.as_deref()?);
    Some(created.ok()?.to_utc())
}

/// What is wrong with an archive, read from its first to its last byte.
///
/// # Errors
/// A stop.
fn damage(archive: &Dated, cancel: &Cancel) -> Result<Option<Error>> {
    let unreadable = |e| Error::new(Code::Output, "it cannot be read").because(e);
    let read = File::open(&archive.path).map_err(unreadable).and_then(|file| {
        match file.metadata().map_err(unreadable)? {
            data if id(&data) == archive.file => {
                verify(file, Limits::default(), false, &Progress::default(), cancel).map(|_| ())
            }
            _ => Err(Error::new(Code::Output, REPLACED)),
        }
    });
    match read {
        Ok(()) => Ok(None),
        Err(error) if error.code() == Code::Cancelled => Err(error),
        Err(error) => Ok(Some(error)),
    }
}

/// A file that is not the one that was looked at.
const REPLACED: &str = "it was replaced in the meantime";

/// Removes the archive that was looked at; what has its name by now stays.
fn remove(archive: &Dated) -> io::Result<()> {
    let now = match archive.path.symlink_metadata() {
        // another export has removed it
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        now => now?,
    };
    if id(&now) != archive.file {
        return Err(io::Error::other(REPLACED));
    }
    std::fs::remove_file(&archive.path)
}

fn id(data: &Metadata) -> FileId {
    (data.dev(), data.ino())
}
