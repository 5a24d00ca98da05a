//! `import`: archives, a target, and the result.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::args::ImportArgs;
use super::groups;
use super::load::{Incoming, Load};
use super::loaded::Loaded;
use super::locate;
use super::report::Report;
use crate::archive_part::Input;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::location::Environment;
use crate::progress::Progress;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{show_count, show_path};

pub(super) async fn run(
    args: &ImportArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let into = &args.into;
    let paths = archives(args)?;
    let in_groups = args.groups.are_asked_for(args)?;
    let selection = args.selection.selection(into.plan.values.assume_tz.as_deref())?;
    let location = locate(&args.to, environment, report)?;
    let names: Vec<String> = paths.iter().map(|path| stem(*path)).collect();
    let load = Load::prepare(into, &location, &names, args.expect.as_deref())?;
    let progress = Progress::default();
    let read = |path: &Option<&Path>| Incoming::read(*path, &selection, &progress, cancel);
    let incoming = paths.iter().map(read).collect::<Result<Vec<_>>>()?;
    let imported = match in_groups {
        true => groups::run(load, incoming, &args.groups, (&progress, report, cancel)).await?,
        false => load.run(incoming, &progress, report, cancel).await?,
    };
    let shown = |path: &Option<&Path>| path.map_or("-".into(), |path| path.display().to_string());
    let archives: Vec<String> = paths.iter().map(shown).collect();
    let loaded =
        Loaded { archives: &archives, imported: &imported, location: &location, into, started };
    loaded.finish(say(&loaded, report), "the rows are imported", report)
}

/// The archives in their order, stdin as `None`.
fn archives(args: &ImportArgs) -> Result<Vec<Option<&Path>>> {
    let mut archives: Vec<Option<&Path>> = args
        .archives
        .iter()
        .map(|path| Some(path.as_path()).filter(|p| *p != Path::new("-")))
        .collect();
    if archives.is_empty() {
        archives.push(None);
    }
    if archives.iter().filter(|path| path.is_none()).count() > 1 {
        return Err(Error::new(Code::Usage, "stdin is named twice")
            .hint("one pipe brings one archive: name the others as files"));
    }
    if args.expect.is_some() && archives.len() > 1 {
        return Err(Error::new(Code::Usage, "--expect works with one archive only")
            .hint("verify the archives first: chronicle-dump verify --expect"));
    }
    Ok(archives)
}

/// What an archive is called in the name of a file.
fn stem(path: Option<&Path>) -> String {
    let stem = path.and_then(|path| path.file_stem());
    stem.map_or("stdin".into(), |stem| stem.to_string_lossy().into_owned())
}

/// Prints what was imported.
fn say(loaded: &Loaded<'_>, report: &Report) -> Result<()> {
    loaded.notes(report);
    if report.is_json() {
        report.result_json(&loaded.object("import"))?;
    }
    let from = match loaded.imported {
        [only] => shown_digest(&only.sealed.digest),
        several => show_count(several.len() as u64, "archives"),
    };
    report.result(&loaded.sentence(["imported", "would import"], &from))
}

/// The name of an archive in messages.
pub(super) fn archive_name(path: &Path) -> String {
    match path == Path::new("-") {
        true => "stdin".into(),
        false => show_path(path.display()),
    }
}

/// Opens an archive's file or stdin.
pub(super) fn open_archive(
    path: Option<&Path>,
    progress: &Progress,
) -> Result<Box<dyn Read + Send>> {
    open(path, progress).map(Input::into_read)
}

/// The same, but distinguishes files from pipes.
pub(super) fn open(path: Option<&Path>, progress: &Progress) -> Result<Input> {
    let Some(path) = path.filter(|p| *p != Path::new("-")) else {
        if std::io::stdin().is_terminal() {
            return Err(Error::new(Code::Usage, "no archive: stdin is a terminal").hint(
                "name the file, or pipe an export into it: chronicle-dump export | \
                 chronicle-dump import --to TARGET",
            ));
        }
        return Ok(Input::Pipe(Box::new(std::io::stdin())));
    };
    if path.as_os_str().is_empty() {
        return Err(Error::new(Code::Usage, "the name of the archive is empty")
            .hint("a variable in quotes may not be set"));
    }
    let shown = show_path(path.display());
    match std::fs::metadata(path) {
        Ok(data) if data.is_dir() => {
            return Err(Error::new(Code::NotFound, format!("{shown} is a directory")));
        }
        // opening a pipe waits for its writer: its reader waits, and sees a stop
        Ok(data) if !data.is_file() => return Ok(Input::Pipe(Box::new(Pipe::Named(path.into())))),
        _ => {}
    }
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Code::NotFound, format!("{shown}: no such file"))
        }
        _ => Error::new(Code::NotFound, format!("{shown}: cannot be opened")).because(e),
    })?;
    if let Ok(data) = file.metadata() {
        progress.expected_bytes.fetch_add(data.len(), Ordering::Relaxed);
    }
    Ok(Input::File(file))
}

/// What is opened only when it is read.
enum Pipe {
    Named(PathBuf),
    Open(File),
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Pipe::Named(path) = self {
            *self = Pipe::Open(File::open(path)?);
        }
        match self {
            Pipe::Open(file) => file.read(buffer),
            Pipe::Named(_) => Ok(0),
        }
    }
}
