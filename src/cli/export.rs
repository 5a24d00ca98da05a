//! `export`: a source, an output, and the result.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use tempfile::TempPath;

use super::args::ExportArgs;
use super::report::Report;
use crate::cancel::Cancel;
use crate::chronicle::discover::discover;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, Exported, export};
use crate::layout;
use crate::location::{Environment, Location};
use crate::progress::Progress;
use crate::source::SourceOptions;
use chronicle_archive::WriterOptions;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{show_count, show_path};

pub(super) async fn run(
    args: &ExportArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let output = Output::open(args.output.as_deref(), "-o")?;
    let location = source(args, environment, report)?;
    let layout = args.layout.as_deref().map(|l| layout::pick(l, location.backend())).transpose()?;
    let reading = SourceOptions {
        sorted: !args.unsorted,
        reproducible: args.reproducible,
        as_stored: false,
        layout,
    };
    let source = location.open_source(reading, cancel).await?;
    let notices = source.notices().to_vec();
    notices.iter().for_each(|n| report.notice(n));
    let progress = Progress::default();
    let watch = report.watch(&progress);
    let (file, place) = output.split();
    let exported = export(source, file, options(args), &progress, cancel).await;
    drop(watch);
    // the archive's writer does not know where its bytes go
    let (file, exported) = exported.map_err(|e| at_output(e, args.output.as_deref()))?;
    place.finish(file)?;
    say(&exported, &location, &notices, started, report)?;
    Ok(0)
}

/// Names the output in an error of writing it; an export that is stopped leaves no file behind.
fn at_output(error: Error, path: Option<&Path>) -> Error {
    match path {
        Some(_) if error.code() == Code::Cancelled => {
            Error::new(Code::Cancelled, "interrupted; no file was written")
        }
        Some(path) if error.code() == Code::Output => error.about(path.display()),
        _ => error,
    }
}

fn source(args: &ExportArgs, env: &Environment<'_>, report: &Report) -> Result<Location> {
    if let Some(text) = &args.source {
        return Location::parse(text, args.password_file.as_deref(), env);
    }
    let found = discover(env)?;
    report.notice(&format!("using {} ({})", show_path(found.path.display()), found.why));
    Ok(Location::Sqlite(found.path))
}

fn options(args: &ExportArgs) -> ExportOptions {
    let mut writer = WriterOptions {
        level: args.level,
        row_digests: args.row_digests,
        ..WriterOptions::default()
    };
    if let Some(threads) = args.threads {
        writer.threads = threads.into();
    }
    ExportOptions {
        writer,
        reproducible: args.reproducible,
        label: args.label.clone(),
        ..ExportOptions::default()
    }
}

fn say(
    exported: &Exported,
    location: &Location,
    notices: &[String],
    started: Instant,
    report: &Report,
) -> Result<()> {
    let manifest = &exported.written.manifest;
    for orphans in &exported.orphans {
        report.notice(&format!("{}; exported anyway", orphans.sentence()));
    }
    if report.is_json() {
        return report.result_json(&json!({
            "command": "export",
            "source": location.to_string(),
            "archive_id": exported.archive_id,
            "digest": shown_digest(&exported.written.digest),
            "rows": rows_object(&manifest.rows),
            "bytes": manifest.bytes,
            "compressed_bytes": exported.written.compressed_bytes,
            "orphans": exported.orphans,
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    report.result(&format!(
        "{} in {}, {}",
        rows_text(&manifest.rows),
        show_count(exported.written.compressed_bytes, "bytes"),
        shown_digest(&exported.written.digest)
    ))
}

/// Rows per stream as JSON.
pub(super) fn rows_object(rows: &[(String, u64)]) -> serde_json::Value {
    rows.iter()
        .map(|(name, rows)| (name.clone(), json!(rows)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Rows per stream in words.
pub(super) fn rows_text(rows: &[(String, u64)]) -> String {
    rows.iter().map(|(name, rows)| show_count(*rows, name)).collect::<Vec<_>>().join(", ")
}

/// Where an archive goes.
pub(super) struct Output {
    file: File,
    place: Place,
}

/// What is left to do when the archive is complete.
pub(super) enum Place {
    /// Nothing: stdout, a pipe, a device.
    Stream,
    /// Give the file its name.
    File { partial: TempPath, path: PathBuf },
}

impl Output {
    /// Opens what an option names; without a name, stdout.
    pub(super) fn open(path: Option<&Path>, option: &str) -> Result<Output> {
        match path {
            Some(path) if path != Path::new("-") => Output::file(path, option),
            _ => Output::stdout(),
        }
    }

    fn stdout() -> Result<Output> {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err(Error::new(Code::Usage, "an archive is not written to a terminal")
                .hint("say where it goes: chronicle-dump export > backup.ndjson.zst, or -o FILE"));
        }
        let file = stdout.as_fd().try_clone_to_owned().map(File::from);
        let file = file.map_err(|e| Error::writing("stdout", e))?;
        Ok(Output { file, place: Place::Stream })
    }

    fn file(path: &Path, option: &str) -> Result<Output> {
        let cannot = |e| Error::writing(path.display(), e);
        if let Ok(there) = std::fs::metadata(path)
            && !there.is_file()
        {
            if there.is_dir() {
                return Err(Error::new(
                    Code::Usage,
                    format!("{option}: {} is a directory", show_path(path.display())),
                ));
            }
            // a pipe or a device has no name to be given
            let file = File::options().write(true).open(path).map_err(cannot)?;
            return Ok(Output { file, place: Place::Stream });
        }
        refuse_database(path, option)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // only its user may read it: it holds prompts, code and what commands printed
        let partial = tempfile::Builder::new()
            .prefix(".chronicle-dump-")
            .suffix(".partial")
            .tempfile_in(directory)
            .map_err(cannot)?;
        let (file, partial) = partial.into_parts();
        Ok(Output { file, place: Place::File { partial, path: path.to_owned() } })
    }

    /// Takes the two apart.
    pub(super) fn split(self) -> (File, Place) {
        (self.file, self.place)
    }
}

/// Refuses to replace a database, or a file that SQLite keeps next to it: the option is mistyped
/// then, and what would be lost may be the only copy.
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
                "{option}: {} is a SQLite database and is not replaced",
                show_path(path.display())
            ),
        )
        .hint(format!("name another file for the archive, for example {option} rows.ndjson.zst")));
    }
    Ok(())
}

impl Place {
    /// Makes the archive durable and gives it its name.
    pub(super) fn finish(self, file: File) -> Result<()> {
        let Place::File { partial, path } = self else { return Ok(()) };
        let cannot = |e| Error::writing(path.display(), e);
        file.sync_all().map_err(cannot)?;
        partial.persist(&path).map_err(|e| cannot(e.error))?;
        // the name is durable only with its directory; some file systems cannot sync one
        if let Some(directory) = path.parent().filter(|p| *p != Path::new("")) {
            let _ = File::open(directory).and_then(|d| d.sync_all());
        }
        Ok(())
    }
}
