//! A new database file: built under a name of its own, which becomes the real one when it is whole.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};
use crate::temporary::Registered;
use chronicle_archive::show_path;

/// What an unfinished new file is called.
const PARTIAL: &str = ".chronicle-dump-partial";
/// More links than any system follows.
const MOST_LINKS: usize = 40;

/// A new file that has its own name only when it is whole.
pub(super) struct NewFile {
    path: PathBuf,
    /// Where it is built.
    pub(super) partial: PathBuf,
    /// Holds a lock, so that two imports do not write one file.
    _lock: File,
    _registered: Registered,
}

impl NewFile {
    /// Takes the place where the file is built; what a killed import left there is emptied.
    ///
    /// # Errors
    /// If the file exists, another import is creating it, or its directory cannot be written.
    pub(super) fn reserve(path: &Path) -> Result<NewFile> {
        must_be_free(path)?;
        let absolute = behind_links(path)
            .map_err(|e| Error::new(Code::NotFound, "not a usable path").because(e))?;
        let mut partial = absolute.clone().into_os_string();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        let cannot = |e: std::io::Error| {
            Error::new(Code::Target, format!("{}: cannot be created", show_path(path.display())))
                .because(e)
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        {
            use std::os::unix::fs::OpenOptionsExt;
            // prompts and command output are nobody else's business
            options.mode(0o600);
        }
        let lock = options.open(&partial).map_err(cannot)?;
        lock.try_lock().map_err(|_| {
            Error::new(
                Code::Target,
                format!("another import is creating {} right now", show_path(path.display())),
            )
        })?;
        // between our open and our lock another import may have given this file its name, or removed
        // it: what we hold is then a finished database, which must not be emptied
        if !is_at(&lock, &partial) {
            return Err(Error::new(
                Code::Target,
                format!("another import of {} has just ended", path.display()),
            )
            .hint("check whether the file exists now; if not, try again"));
        }
        // what a killed import left behind
        lock.set_len(0).map_err(cannot)?;
        let registered = Registered::new(&partial);
        Ok(NewFile { path: absolute, partial, _lock: lock, _registered: registered })
    }

    /// Where a file of this name would be.
    pub(super) fn place(path: &Path) -> Option<PathBuf> {
        let absolute = behind_links(path).ok()?;
        Some(fs::canonicalize(absolute.parent()?).ok()?.join(absolute.file_name()?))
    }

    /// Finds what would keep the place from being taken, as far as that is seen without taking it.
    ///
    /// # Errors
    /// If the file exists, or its directory is missing or cannot be written.
    pub(super) fn would_be(path: &Path) -> Result<()> {
        must_be_free(path)?;
        let place = behind_links(path)
            .map_err(|e| Error::new(Code::NotFound, "not a usable path").because(e))?;
        let directory = place.parent().unwrap_or(Path::new("/"));
        let closed = match directory.metadata() {
            Ok(data) => !data.is_dir() || data.permissions().readonly(),
            Err(_) => true,
        };
        match closed {
            false => Ok(()),
            true => Err(Error::new(
                Code::Target,
                format!("{}: cannot be created", show_path(path.display())),
            )),
        }
    }

    /// Gives the file its name, without ever replacing another one.
    pub(super) fn publish(self) -> Result<()> {
        let cannot = |e: std::io::Error| Error::writing(self.path.display(), e);
        File::open(&self.partial).and_then(|f| f.sync_all()).map_err(cannot)?;
        match fs::hard_link(&self.partial, &self.path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new(
                    Code::Target,
                    format!(
                        "{} was created by another process meanwhile",
                        show_path(self.path.display())
                    ),
                ));
            }
            // a file system without links: the name was free a moment ago
            Err(_) => fs::rename(&self.partial, &self.path).map_err(cannot)?,
        }
        if let Some(directory) = self.path.parent() {
            // the name itself is durable only with its directory
            let _ = File::open(directory).and_then(|d| d.sync_all());
        }
        Ok(())
    }
}

/// The absolute place that a path leads to, through links to files that are not there yet.
fn behind_links(path: &Path) -> std::io::Result<PathBuf> {
    let mut place = std::path::absolute(path)?;
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&place) else { return Ok(place) };
        place = place.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(std::io::Error::other("too many links"))
}

fn must_be_free(path: &Path) -> Result<()> {
    match path.exists() {
        false => Ok(()),
        true => Err(Error::new(
            Code::Usage,
            format!("--create: {} exists already", show_path(path.display())),
        )
        .hint("name a new file, or omit --create to import into an existing Chronicle database")),
    }
}

/// Whether `path` is still a name of the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |data: fs::Metadata| (data.dev(), data.ino());
    let (open, named) = (file.metadata().map(id), fs::symlink_metadata(path).map(id));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial);
    }
}
