//! Where an archive goes: stdout, a file that gets its name only when it is complete, or anything
//! that is written through.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::aside;
use super::name_pattern::NamePattern;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::temporary::Registered;
use chronicle_archive::show_path;

/// More links than any system follows.
const MOST_LINKS: usize = 40;

/// Where an archive is to go; nothing is opened yet.
pub(super) struct Destination {
    option: &'static str,
    /// What was typed, its names filled in.
    shown: String,
    /// The last part of what was typed.
    pattern: Option<NamePattern>,
    force: bool,
    way: Way,
}

enum Way {
    Stdout,
    /// A file at this place, behind all links.
    File(PathBuf),
    /// What is no plain file, or an open descriptor of this process.
    Through(PathBuf),
}

impl Destination {
    /// Finds out where a path leads: `None` and `-` are stdout. `{date}`, `{time}` (both in UTC) and
    /// `{source}` in its last part are filled in.
    ///
    /// # Errors
    /// A folder, a database, a file that exists and is not to be replaced, or an unknown name.
    pub(super) fn find(
        path: Option<&Path>,
        option: &'static str,
        force: bool,
        source: &str,
    ) -> Result<Destination> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            let shown = "stdout".into();
            return Ok(Destination { option, shown, pattern: None, force, way: Way::Stdout });
        };
        if path.as_os_str().is_empty() {
            return Err(Error::new(
                Code::Usage,
                format!("{option}: the name of the file is empty"),
            )
            .hint("a variable in quotes may not be set"));
        }
        let pattern = NamePattern::of(path, option, source)?;
        let path = match &pattern {
            Some(pattern) => path.with_file_name(pattern.filled(chrono::Utc::now())),
            None => path.to_owned(),
        };
        let shown = show_path(path.display());
        let refuse = |what: &str| Err(Error::new(Code::Usage, format!("{option}: {shown} {what}")));
        if is_stdout(&path) {
            return Ok(Destination { option, shown, pattern, force, way: Way::Stdout });
        }
        let (place, is_descriptor) =
            behind_links(&path).map_err(|e| Error::writing(path.display(), e))?;
        let there = std::fs::metadata(&path).ok();
        match there.map(|data| data.file_type()) {
            Some(kind) if kind.is_dir() => return refuse("is a directory"),
            Some(kind) if is_descriptor || !kind.is_file() => {
                let way = Way::Through(path);
                return Ok(Destination { option, shown, pattern, force, way });
            }
            Some(_) => refuse_database(&path, option)?,
            None => {}
        }
        if place.symlink_metadata().is_ok() && !force {
            return Err(exists(option, &shown));
        }
        Ok(Destination { option, shown, pattern, force, way: Way::File(place) })
    }

    /// Finds out where a path leads for each of several sources, which must be places of their own.
    ///
    /// # Errors
    /// As [`find`](Destination::find), or two sources with one place.
    pub(super) fn find_each(
        path: &Path,
        option: &'static str,
        force: bool,
        sources: &[String],
    ) -> Result<Vec<Destination>> {
        let refuse = |what: String, hint: String| Err(Error::new(Code::Usage, what).hint(hint));
        if sources.len() > 1 && !path.to_string_lossy().contains("{source}") {
            return refuse(
                format!("{option} needs a name for each of several archives"),
                format!("put {{source}} into it: {option} 'NAME-{{source}}.ndjson.zst'"),
            );
        }
        let find = |source: &String| Destination::find(Some(path), option, force, source);
        let found = sources.iter().map(find).collect::<Result<Vec<_>>>()?;
        let is_taken = |n: usize| found[..n].iter().any(|other| other.shown == found[n].shown);
        if let Some(n) = (0..found.len()).find(|n| is_taken(*n)) {
            return refuse(
                format!("{option}: {} would be the name of two archives", found[n].shown),
                "their sources are called alike: rename one of them, or load it by itself".into(),
            );
        }
        Ok(found)
    }

    /// Whether it is the place of this file, which need not exist yet.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let place =
            |path: &Path| Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
        matches!(&self.way, Way::File(ours) if place(ours).is_some_and(|ours| place(path) == Some(ours)))
    }

    /// Whether the archive goes to stdout, by whatever name.
    pub(super) fn is_stdout(&self) -> bool {
        matches!(self.way, Way::Stdout)
    }

    /// What the name of the file was typed as, if it is a plain one.
    pub(super) fn pattern(&self) -> Option<&NamePattern> {
        self.pattern.as_ref().filter(|_| matches!(self.way, Way::File(_)))
    }

    /// Opens it; waits for the reader of a pipe, unless a stop is asked for.
    ///
    /// # Errors
    /// A terminal, or what cannot be written.
    pub(super) async fn open(self, cancel: &Cancel) -> Result<Output> {
        let cannot = |e| Error::writing(&self.shown, e);
        let (file, place) = match &self.way {
            Way::Stdout => {
                let stdout = std::io::stdout();
                let file = stdout.as_fd().try_clone_to_owned().map(File::from);
                (file.map_err(cannot)?, Place::Stream)
            }
            Way::Through(path) => {
                // behind what a descriptor has written already
                let (path, shown) = (path.clone(), self.shown.clone());
                let plain = path.metadata().is_ok_and(|data| data.is_file());
                let open = move || {
                    let file = File::options().write(true).append(plain).open(&path);
                    file.map_err(|e| Error::writing(shown, e))
                };
                (aside(cancel, open).await?, Place::Stream)
            }
            Way::File(path) => {
                let (file, partial) = new_partial(path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => self.without("does not exist"),
                    std::io::ErrorKind::PermissionDenied => self.without("cannot be written"),
                    _ => cannot(e),
                })?;
                let registered = Registered::new(&partial);
                let (path, force) = (path.clone(), self.force);
                let option = self.option;
                (file, Place::File { partial, path, force, option, _registered: registered })
            }
        };
        if file.is_terminal() {
            return Err(Error::new(Code::Usage, "an archive is not written to a terminal")
                .hint("write it to a file: chronicle-dump export -o backup.ndjson.zst"));
        }
        Ok(Output { file, place, shown: self.shown, option: self.option })
    }
}

impl Destination {
    /// The error of a directory in which no file can be made.
    fn without(&self, why: &str) -> Error {
        Error::new(Code::Output, format!("{}: its directory {why}", self.shown))
    }
}

/// The file in which an archive is built, beside the place that it goes to.
fn new_partial(path: &Path) -> std::io::Result<(File, TempPath)> {
    // only its user may read it: it holds prompts, code and what commands printed
    let partial = tempfile::Builder::new()
        .prefix(".chronicle-dump-")
        .suffix(".partial")
        .tempfile_in(folder_of(path))?;
    Ok(partial.into_parts())
}

fn exists(option: &str, shown: &str) -> Error {
    let dated = format!("{option} 'NAME-{{date}}-{{time}}.ndjson.zst' names a new file each time");
    let hint = match option {
        "-o" => format!("--force replaces it, {dated}"),
        _ => dated,
    };
    Error::new(Code::Usage, format!("{option}: {shown} exists already")).hint(hint)
}

/// Whether a path leads to what our own stdout is.
fn is_stdout(path: &Path) -> bool {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let (Ok(ours), Ok(there)) = (stdout.and_then(|file| file.metadata()), path.metadata()) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The place behind all links of a path, which need not exist, and whether one of them is an open
/// descriptor of a process.
fn behind_links(path: &Path) -> std::io::Result<(PathBuf, bool)> {
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = folder_of(&at).canonicalize();
        if folder.as_deref().is_ok_and(has_descriptors) {
            return Ok((at, true));
        }
        match std::fs::read_link(&at) {
            Ok(target) => at = folder_of(&at).join(target),
            Err(_) => return Ok((at, false)),
        }
    }
    Err(std::io::Error::other("too many links"))
}

/// Whether a folder lists the open files of a process: `/proc/self/fd`, `/dev/fd`.
fn has_descriptors(folder: &Path) -> bool {
    let in_proc = folder.starts_with("/proc") && folder.ends_with("fd");
    in_proc || folder == Path::new("/dev/fd")
}

/// Refuses to replace a database, or what SQLite keeps beside it: the option is mistyped then, and
/// what would be lost may be the only copy.
fn refuse_database(path: &Path, option: &str) -> Result<()> {
    // https://www.sqlite.org/fileformat.html: the database, the two byte orders of a write-ahead
    // log, the rollback journal
    const STARTS: [&[u8]; 4] = [
        b"SQLite format 3\0",
        &[0x37, 0x7f, 0x06, 0x82],
        &[0x37, 0x7f, 0x06, 0x83],
        &[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7],
    ];
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    if read.is_ok() && STARTS.iter().any(|s| start.starts_with(s)) {
        return Err(Error::new(
            Code::Usage,
            format!(
                "{option}: {} is a SQLite database; it is not replaced",
                show_path(path.display())
            ),
        )
        .hint(format!("name another file: {option} backup.ndjson.zst")));
    }
    Ok(())
}

/// An open destination.
pub(super) struct Output {
    file: File,
    place: Place,
    shown: String,
    option: &'static str,
}

/// What is left to do when the archive is complete.
pub(super) enum Place {
    /// Nothing: stdout, a pipe, a device.
    Stream,
    /// Give the file its name.
    File {
        /// Removes the file unless it gets its name.
        partial: TempPath,
        path: PathBuf,
        force: bool,
        option: &'static str,
        _registered: Registered,
    },
}

/// How an error of writing is reported: its place, and what is left there.
#[derive(Clone)]
pub(super) struct Reported {
    shown: String,
    option: &'static str,
    leaves_file: bool,
}

impl Output {
    /// Takes it apart.
    pub(super) fn split(self) -> (File, Place, Reported) {
        let leaves_file = matches!(self.place, Place::Stream);
        let reported = Reported { shown: self.shown, option: self.option, leaves_file };
        (self.file, self.place, reported)
    }
}

impl Reported {
    /// The output, as messages name it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Names the output in an error of writing it, and says what is left of it.
    pub(super) fn about(&self, error: Error) -> Error {
        let place = match self.option {
            "-o" => self.shown.clone(),
            option => format!("{option}: {}", self.shown),
        };
        let full = error.is_full();
        // the writer of the archive does not know where its bytes go
        let error = match error.renamed("the archive", &place) {
            Ok(error) => error,
            Err(other) => return other,
        };
        let left = match self.leaves_file {
            true => "the part that was written is not an archive",
            false => "no file was written",
        };
        error.hint(match (full, self.option) {
            (true, "-o") => format!("free space, or write elsewhere with -o FILE; {left}"),
            (true, option) => {
                format!("free space, or write elsewhere with {option} FILE; nothing was imported")
            }
            (false, _) => left.to_owned(),
        })
    }

    /// Says that rows are committed although the file with the others has no name.
    pub(super) fn about_committed(&self, error: Error) -> Error {
        error.at(format_args!("the rows are imported, but {} was not written", self.option))
    }
}

impl Place {
    /// Makes the archive durable and gives it its name: the place of the file, if it is a plain one.
    pub(super) fn finish(self, file: File) -> Result<Option<PathBuf>> {
        let Place::File { partial, path, force, option, .. } = self else { return Ok(None) };
        let shown = show_path(path.display());
        let cannot = |e| Error::writing(&shown, e);
        file.sync_all().map_err(cannot)?;
        let named = match force {
            true => partial.persist(&path),
            false => partial.persist_noclobber(&path),
        };
        named.map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(option, &shown),
            _ => cannot(e.error),
        })?;
        // the name is durable only with its directory; some file systems cannot say so
        let _ = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
        Ok(Some(path))
    }
}
