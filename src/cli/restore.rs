//! `restore`: an archive or a SQLite file, a database, and what had to be changed for it to hold the same.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::{DiffArgs, RestoreArgs};
use super::backup;
use super::diff::{self, Place};
use super::import::{archive_name, open_archive};
use super::load::opening;
use super::loaded::{about_archive, batch_note};
use super::locate;
use super::report::Report;
use super::selection_args::SelectionArgs;
use super::summary;
use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, export};
use crate::history::BatchKind;
use crate::import::{ImportOptions, Imported, Part, import};
use crate::load::{StreamStats, TargetOptions};
use crate::location::{Environment, Location};
use crate::policy::{Conflicts, OwnRows, PlanOptions};
use crate::progress::Progress;
use crate::source::SourceOptions;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{Limits, show_number};

pub(super) async fn run(
    args: &RestoreArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    if args.dry_run {
        return dry_run(args, environment, report, cancel).await;
    }
    let started = Instant::now();
    let location = locate(&args.to, args.password_file.as_deref(), environment, report)?;
    let from = Place::find(&args.archive, args.password_file.as_deref(), environment, report)?;
    let mut options = ImportOptions { plan: plan(args)?, expect: None, batch: None };
    let wait = args.batch.wait.map(|seconds| Duration::from_secs(seconds.into()));
    let opening = TargetOptions { wait, ..opening(&args.target, &args.load, &location)? };
    let progress = Progress::default();
    let archive_input = open(&from, args, &progress, cancel).await?;
    require_whole(&archive_input)?;
    let backup = backup::take(&args.batch, &location, report, cancel).await?;
    options.batch = Some(args.batch.options(BatchKind::Restore, backup));
    let watch = report.watch(&progress);
    let restored = async {
        let target = location.open_target(&opening, cancel).await?;
        let parts = vec![Part::opened(args.archive.clone(), archive_input)];
        import(parts, target, options, &progress, cancel).await
    }
    .await;
    drop(watch);
    let restored = restored?;
    let said = restored.iter().try_for_each(|restored| say(restored, &location, started, report));
    report.said(said, Some("the database is restored"))?;
    Ok(0)
}

/// Shows what would change, as a comparison of the database with the archive.
async fn dry_run(
    args: &RestoreArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let compared = DiffArgs {
        a: args.to.clone(),
        b: args.archive.clone(),
        layout: args.target.layout.clone(),
        password_file: args.password_file.clone(),
        selection: SelectionArgs::default(),
        ignore: Vec::new(),
        assume_tz: args.plan.values.assume_tz.clone(),
        summary: false,
        limit: 100,
    };
    match diff::run(&compared, "restore", environment, report, cancel).await {
        // a difference is what was asked for
        Ok(code) if code == Code::Different.exit() => Ok(0),
        result => result,
    }
}

/// How rows are restored: they are what the archive says, whatever the target says.
fn plan(args: &RestoreArgs) -> Result<PlanOptions> {
    let conflicts = Conflicts::parse("--on-conflict", &["update".to_owned()])?;
    let options = args.plan.values.options(&args.plan.references)?;
    Ok(PlanOptions { conflicts, own_rows: OwnRows::Replaced, ..options })
}

/// Opens the archive; a database is exported first.
async fn open(
    from: &Place,
    args: &RestoreArgs,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveInput> {
    let (name, input): (String, Box<dyn std::io::Read + Send>) = match from {
        Place::Stdin => ("stdin".into(), open_archive(None, progress)?),
        Place::Archive(path) => (archive_name(path), open_archive(Some(path), progress)?),
        Place::Database(location) => {
            (location.to_string(), Box::new(exported(location, cancel).await?))
        }
    };
    if let Place::Database(Location::Postgres(_)) = from {
        return Err(Error::new(
            Code::Usage,
            format!("{}: not an archive or a SQLite file", args.archive),
        )
        .hint("export it first, and restore the archive"));
    }
    ArchiveInput::open(name, input, Limits::default(), progress, cancel).await
}

/// A SQLite file as an archive in a nameless temporary file.
async fn exported(location: &Location, cancel: &Cancel) -> Result<File> {
    let cannot = |e| Error::new(Code::Output, "cannot write a temporary archive").because(e);
    let options = SourceOptions { sorted: true, ..SourceOptions::default() };
    let source = location.open_source(options, cancel).await?;
    let file = tempfile::tempfile().map_err(cannot)?;
    let progress = Progress::default();
    let (mut file, _) = export(source, file, ExportOptions::default(), &progress, cancel).await?;
    file.seek(SeekFrom::Start(0)).map_err(cannot)?;
    Ok(file)
}

/// Refuses an archive that is not all of its database: what it lacks would be deleted.
fn require_whole(archive_input: &ArchiveInput) -> Result<()> {
    match &archive_input.header.filters {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Code::Plan,
            "the archive is a part of its database: a restore would delete the rest",
        )
        .hint("import it instead: --on-conflict update makes its rows what they were")),
    }
}

fn say(restored: &Imported, location: &Location, started: Instant, report: &Report) -> Result<()> {
    let mut lines = about_archive(restored, None, report);
    lines.extend(batch_note(restored.batch, location));
    report.batch(restored.batch);
    match report.is_json() {
        true => lines.iter().for_each(|line| report.notice(line)),
        false => summary::print(lines, report),
    }
    if report.is_json() {
        report.result_json(&json!({
            "command": "restore",
            "target": location.to_string(),
            "committed": restored.committed,
            "batch_id": restored.batch,
            "archive_id": restored.archive_id,
            "digest": shown_digest(&restored.sealed.digest),
            "streams": restored.stats.streams,
            "changes": restored.changes,
            "orphans": restored.stats.orphans,
            "notices": restored.stats.notices,
            "seconds": started.elapsed().as_secs_f64(),
        }))?;
    }
    let streams: Vec<String> = restored.stats.streams.iter().map(restored_text).collect();
    report.result(&format!(
        "restored {location} from {}: {}",
        shown_digest(&restored.sealed.digest),
        streams.join("; ")
    ))
}

/// What was done to a stream, in words.
fn restored_text(stats: &StreamStats) -> String {
    let parts: Vec<String> = [
        (stats.inserted_rows, "inserted"),
        (stats.updated_rows, "updated"),
        (stats.deleted_rows, "deleted"),
        (stats.skipped_rows, "unchanged"),
    ]
    .into_iter()
    .filter(|(rows, _)| *rows > 0)
    .map(|(rows, what)| format!("{} {what}", show_number(rows)))
    .collect();
    let parts = if parts.is_empty() { "no rows".to_owned() } else { parts.join(", ") };
    format!("{} {parts}", stats.stream)
}
