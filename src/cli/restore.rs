//! `restore`: an archive or a SQLite file, a database, and what had to be changed for it to hold the same.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::{DiffArgs, RestoreArgs};
use super::backup;
use super::diff::{self, Place};
use super::import::{archive_name, open as open_input};
use super::load::opening;
use super::loaded::{about_archive, batch_note};
use super::locate;
use super::report::Report;
use super::summary;
use crate::archive_input::ArchiveInput;
use crate::archive_part::{Input, open_part};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, export};
use crate::history::BatchKind;
use crate::import::{ImportOptions, Imported, Part, import};
use crate::load::{StreamStats, TargetOptions};
use crate::location::{Environment, Location};
use crate::part::SelectedKeys;
use crate::policy::{Conflicts, OnOrphans, OwnRows, PlanOptions};
use crate::progress::Progress;
use crate::selection::Selection;
use crate::source::SourceOptions;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::show_number;

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
    let location = locate(&args.to, environment, report)?;
    let from = Place::find(&args.archive, environment, report)?;
    let mut options = ImportOptions { plan: plan(args)?, expect: None, batch: None };
    let wait = args.batch.wait.map(|seconds| Duration::from_secs(seconds.into()));
    let opening = TargetOptions { wait, ..opening(&args.target, &args.load, &location)? };
    let progress = Progress::default();
    let asked = args.selection.selection(args.plan.values.assume_tz.as_deref())?;
    let archive_input = open(&from, (args, &asked), &progress, cancel).await?;
    let part = part(&archive_input, asked)?;
    let orphans = args.plan.references.orphans;
    if !part.is_empty() && !matches!(orphans, None | Some(OnOrphans::Keep)) {
        return Err(Error::new(Code::Usage, "--orphans works with a restore of everything only")
            .hint("leave it out: rows of a part that refer to missing rows stay as they are"));
    }
    let backup = backup::take(&args.batch, &location, report, cancel).await?;
    options.batch = Some(args.batch.options(BatchKind::Restore, backup));
    let watch = report.watch(&progress);
    let restored = async {
        let mut target = location.open_target(&opening, cancel).await?;
        if !part.is_empty() && opening.create.is_none() {
            target.restrict(Box::new(keys(&location, &opening, part, cancel).await?));
        }
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
        login: args.login.clone(),
        selection: args.selection.clone(),
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
    (args, asked): (&RestoreArgs, &Selection),
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveInput> {
    if let Place::Database(Location::Postgres(_)) = from {
        return Err(Error::new(
            Code::Usage,
            format!("{}: not an archive or a SQLite file", args.archive),
        )
        .hint("export it first, and restore the archive"));
    }
    let (name, input) = match from {
        Place::Stdin => ("stdin".into(), open_input(None, progress)?),
        Place::Archive(path) => (archive_name(path), open_input(Some(path), progress)?),
        Place::Database(location) => {
            (location.to_string(), Input::File(exported(location, asked, cancel).await?))
        }
    };
    open_part(name, input, asked, progress, cancel).await
}

/// A SQLite file as an archive in a nameless temporary file.
async fn exported(location: &Location, asked: &Selection, cancel: &Cancel) -> Result<File> {
    let cannot = |e| Error::new(Code::Output, "cannot write a temporary archive").because(e);
    let selections = vec![asked.clone()];
    let options = SourceOptions { sorted: true, selections, ..SourceOptions::default() };
    let source = location.open_source(options, cancel).await?;
    let file = tempfile::tempfile().map_err(cannot)?;
    let progress = Progress::default();
    let (mut file, _) = export(source, file, ExportOptions::default(), &progress, cancel).await?;
    file.seek(SeekFrom::Start(0)).map_err(cannot)?;
    Ok(file)
}

/// What the restore is about, if not about everything: the part that the archive is, and what is asked for of it.
fn part(archive_input: &ArchiveInput, asked: Selection) -> Result<Vec<Selection>> {
    let filters = archive_input.header.filters.as_ref();
    let part = filters.map(Selection::of_filters).transpose().map_err(|error| {
        let what = "the archive is a part of its database: a restore would delete the rest";
        let hint = "import it instead: --on-conflict update makes its rows what they were";
        Error::new(Code::Plan, what).because(error).hint(hint)
    })?;
    let is_all = asked.is_all_of(&archive_input.header);
    Ok(part.into_iter().chain((!is_all).then_some(asked)).collect())
}

/// The keys of the target's rows that the restore is about.
async fn keys(
    location: &Location,
    opening: &TargetOptions,
    selections: Vec<Selection>,
    cancel: &Cancel,
) -> Result<SelectedKeys> {
    let layout = opening.layout.clone();
    let options =
        SourceOptions { stored_keys: true, layout, selections, ..SourceOptions::default() };
    SelectedKeys::read(location.open_source(options, cancel).await?, cancel).await
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
