//! `export`: a source, an output, and the result.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::HumanBytes;
use serde_json::json;

use super::args::ExportArgs;
use super::dump_args::open_dump;
use super::keep::{Keeping, Tidied};
use super::locate;
use super::output::Destination;
use super::report::Report;
use super::selection_args::require_absolute;
use super::transfer_args::{HeaderArgs, WriterArgs};
use crate::cancel::Cancel;
use crate::catalog::Backend;
use crate::chronicle::discover::discover;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, Exported, export};
use crate::layout;
use crate::location::{DumpFile, Environment, Location};
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use crate::selection::filters_typed;
use crate::source::{Source, SourceOptions};
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
    let written = write(args, environment, report, cancel).await.map_err(|e| about(args, e))?;
    let tidied = match (&written.keeping, &written.file) {
        (Some(keeping), Some(file)) => {
            let digest = &written.exported.written.digest;
            Some(keeping.tidy(file, digest, cancel).await?)
        }
        _ => None,
    };
    let NewArchive { exported, from, output, notices, .. } = &written;
    say(exported, from, output, notices, tidied.as_ref(), started, report)?;
    Ok(0)
}

/// Where the rows come from.
enum From {
    Database(Location),
    Dump(DumpFile),
}

impl From {
    /// What it is called, for the name of a file.
    fn name(&self) -> String {
        match self {
            From::Database(location) => location.name(),
            From::Dump(dump) => dump.name(),
        }
    }

    fn backend(&self) -> Backend {
        match self {
            From::Database(location) => location.backend(),
            From::Dump(_) => Backend::Postgres,
        }
    }

    async fn open(&self, options: SourceOptions, cancel: &Cancel) -> Result<Box<dyn Source>> {
        match self {
            From::Database(location) => location.open_source(options, cancel).await,
            From::Dump(dump) => dump.open_source(open_dump(dump)?, options, cancel).await,
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Database(location) => location.fmt(f),
            From::Dump(dump) => dump.fmt(f),
        }
    }
}

/// An archive that is complete.
struct NewArchive {
    exported: Exported,
    from: From,
    /// Where it is, as messages name it.
    output: String,
    /// The plain file that has it.
    file: Option<PathBuf>,
    keeping: Option<Keeping>,
    notices: Vec<Notice>,
}

async fn write(
    args: &ExportArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<NewArchive> {
    let selection = args.selection.selection(args.assume_tz.as_deref())?;
    if args.header.reproducible {
        require_absolute(&selection, "is not reproducible")?;
    }
    let from = source(args, environment, report)?;
    let output = args.output.as_deref();
    let destination = Destination::find(output, "-o", args.force, &from.name())?;
    let keeping = args.keep.keeping(destination.pattern(), args.header.reproducible)?;
    if keeping.is_some() {
        require_absolute(&selection, "selects other rows each time: no older archive is like it")?;
    }
    if destination.is_stdout() {
        report.stdout_is_taken();
    }
    let output = destination.open(cancel).await?;
    let layout = args.layout.as_deref().map(|l| layout::pick(l, from.backend())).transpose()?;
    let reading = SourceOptions {
        sorted: !args.writer.unsorted,
        reproducible: args.header.reproducible,
        as_stored: false,
        layout,
        stored_keys: false,
        selections: vec![selection],
    };
    let source = from.open(reading, cancel).await?;
    let notices = source.notices().to_vec();
    notices.iter().for_each(|n| report.notice(n));
    let progress = Progress::default();
    let watch = report.watch(&progress);
    let (file, place, reported) = output.split();
    let exported =
        export(source, file, options(&args.writer, &args.header), &progress, cancel).await;
    drop(watch);
    // the archive's writer does not know where its bytes go
    let (file, exported) = exported.map_err(|e| reported.about(e))?;
    let file = place.finish(file).map_err(|e| reported.about(e))?;
    let output = reported.shown().to_owned();
    Ok(NewArchive { exported, from, output, file, keeping, notices })
}

/// The error of an export, which changes nothing, but writes.
fn about(args: &ExportArgs, error: Error) -> Error {
    let left = match args.output {
        Some(_) => "interrupted; no file was written",
        None => "interrupted; the part that was written is not an archive",
    };
    if error.code() == Code::Cancelled { Error::new(Code::Cancelled, left) } else { error }
}

fn source(args: &ExportArgs, env: &Environment<'_>, report: &Report) -> Result<From> {
    match (args.dump.file(), &args.source) {
        (Some(dump), _) => Ok(From::Dump(dump)),
        (None, Some(text)) => locate(text, env, report).map(From::Database),
        (None, None) => found(env, report).map(From::Database),
    }
}

/// Chronicle's own file.
pub(super) fn found(env: &Environment<'_>, report: &Report) -> Result<Location> {
    let found = discover(env)?;
    let text = format!("using {} ({})", show_path(found.path.display()), found.why);
    report.notice(&Notice::new(NoticeKind::Found, text));
    Ok(Location::Sqlite(found.path))
}

/// How an archive is written.
pub(super) fn options(writer: &WriterArgs, header: &HeaderArgs) -> ExportOptions {
    let mut options = WriterOptions {
        level: writer.level,
        row_digests: header.row_digests,
        ..WriterOptions::default()
    };
    if let Some(threads) = writer.threads {
        options.threads = threads.into();
    }
    ExportOptions {
        writer: options,
        reproducible: header.reproducible,
        label: header.label.clone(),
        ..ExportOptions::default()
    }
}

fn say(
    exported: &Exported,
    from: &From,
    output: &str,
    notices: &[Notice],
    tidied: Option<&Tidied>,
    started: Instant,
    report: &Report,
) -> Result<()> {
    let manifest = &exported.written.manifest;
    for orphans in &exported.orphans {
        let text = format!("{}; exported anyway", orphans.sentence());
        report.notice(&Notice::new(NoticeKind::Orphans, text));
    }
    let of_older = tidied.map(Tidied::notices).unwrap_or_default();
    exported.left_out.iter().chain(&of_older).for_each(|notice| report.notice(notice));
    let notices = [notices, &exported.left_out, &of_older].concat();
    if report.is_json() {
        report.result_json(&json!({
            "command": "export",
            "source": from.to_string(),
            "archive_id": exported.archive_id,
            "digest": shown_digest(&exported.written.digest),
            "rows": rows_object(&manifest.rows),
            "bytes": manifest.bytes,
            "compressed_bytes": exported.written.compressed_bytes,
            "filters": exported.filters,
            "orphans": exported.orphans,
            "removed": tidied.map(Tidied::removed),
            "kept": tidied.map(Tidied::kept),
            "damaged": tidied.map(Tidied::damaged),
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        }))?;
    }
    let part = exported.filters.as_ref().map(|filters| format!(" ({})", filters_typed(filters)));
    report.result(&format!(
        "exported {}{} to {output}: {}, {}",
        rows_text(&manifest.rows),
        part.unwrap_or_default(),
        HumanBytes(exported.written.compressed_bytes),
        shown_digest(&exported.written.digest)
    ))?;
    tidied.map_or(Ok(()), |tidied| tidied.say(report))
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
