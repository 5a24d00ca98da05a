//! `import`: an archive, a target, and what came of it.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::json;

use super::args::ImportArgs;
use super::export::Output;
use super::policy_args::TargetArgs;
use super::report::Report;
use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::catalog::Backend;
use crate::error::{Code, Error, Result};
use crate::import::{ImportOptions, Imported, import};
use crate::layout::{self};
use crate::load::{DryRun, StreamStats, Target, TargetOptions};
use crate::location::{Environment, Location};
use crate::plan::{Fate, Plan};
use crate::policy::{OnOrphans, OnUnrepresentable};

use crate::progress::Progress;
use crate::source::Orphans;
use crate::transform::{Change, ChangeKind};
use chronicle_archive::read::reader::{parse_digest, shown_digest};
use chronicle_archive::show_path;
use chronicle_archive::{Index, Limits};

pub(super) async fn run(
    args: &ImportArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let options = options(args)?;
    let location = Location::parse(&args.to, args.password_file.as_deref(), environment)?;
    let rejects = rejects(args)?;
    // who only tries keeps no reader out
    let opening =
        TargetOptions { readers_go_on: args.dry_run, ..opening(&args.target, &location)? };
    let progress = Progress::default();
    let input = open_archive(args.archive.as_deref(), &progress)?;
    let watch = report.watch(&progress);
    let (rejected_rows, rejects) = rejects.map(Output::split).unzip();
    let loaded = async {
        let name = args.archive.as_deref().map_or("stdin".into(), |p| show_path(p.display()));
        let archive_input =
            ArchiveInput::open(name, input, Limits::default(), &progress, cancel).await?;
        let archive_id = archive_input.header.archive_id.clone();
        let target = location.open_target(&opening, cancel).await?;
        let target: Box<dyn Target> =
            if args.dry_run { Box::new(DryRun::new(target)) } else { target };
        let imported =
            import(archive_input, target, options, rejected_rows, &progress, cancel).await?;
        Ok::<_, Error>((archive_id, imported))
    }
    .await;
    drop(watch);
    let (archive_id, mut imported) = loaded?;
    let rejected = imported.rejects.take();
    if let (Some((file, _)), Some(place)) = (rejected, rejects) {
        place.finish(file)?;
    }
    // whoever read our result may have gone; what is committed stays committed
    if let Err(error) = say(&archive_id, &imported, &location, args, started, report) {
        report.warning(&format!("the result could not be printed: {}", error.full()));
    }
    Ok(if imported.rejected.is_empty() { 0 } else { Code::Rejected.exit() })
}

/// The layouts that `--create` and `--layout` name.
pub(super) fn opening(args: &TargetArgs, location: &Location) -> Result<TargetOptions> {
    let backend = location.backend();
    let layout = args.layout.as_deref().map(|text| layout::pick(text, backend)).transpose()?;
    let create = match (&args.create, &layout) {
        (None, _) => None,
        (Some(None), Some(layout)) => Some(layout.clone()),
        (Some(name), None) => Some(layout::created(name.as_deref(), backend)?),
        (Some(Some(_)), Some(_)) => {
            return Err(Error::new(Code::Usage, "--create=LAYOUT and --layout are two layouts")
                .hint(
                    "leave out one of them; --create --layout FILE makes the layout of the file",
                ));
        }
    };
    let compression = args.toast_compression;
    if compression.is_some() && backend == Backend::Sqlite {
        return Err(Error::new(Code::Usage, "--toast-compression is for Postgres alone")
            .hint("leave it out: SQLite does not compress rows"));
    }
    Ok(TargetOptions { create, layout, compression, readers_go_on: false })
}

fn options(args: &ImportArgs) -> Result<ImportOptions> {
    Ok(ImportOptions {
        plan: args.plan.options()?,
        expect: args.expect.as_deref().map(expected_digest).transpose()?,
    })
}

/// The file for rows that are left out; none in a dry run, which only counts them.
fn rejects(args: &ImportArgs) -> Result<Option<Output>> {
    let rejecting = args.plan.on_unrepresentable == OnUnrepresentable::Reject;
    match (&args.rejects, rejecting) {
        (Some(path), true) => {
            refuse_existing(path)?;
            (!args.dry_run).then(|| Output::open(Some(path), "--rejects")).transpose()
        }
        (None, true) => Err(Error::new(
            Code::Usage,
            "--on-unrepresentable=reject leaves rows out: say where they go",
        )
        .hint("--rejects FILE, an archive that can be looked at, mended and imported")),
        (Some(_), false) => Err(Error::new(
            Code::Usage,
            "--rejects is for --on-unrepresentable=reject: nothing else leaves rows out",
        )),
        (None, false) => Ok(None),
    }
}

/// Refuses to replace a file: it may hold the rows that an import before left out, or be the very
/// archive that is read.
fn refuse_existing(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let shown = show_path(path.display());
    Err(Error::new(Code::Usage, format!("--rejects: {shown} is there, it is not replaced"))
        .hint("name another file for the rows that are left out"))
}

/// The digest behind `--expect`.
pub(super) fn expected_digest(text: &str) -> Result<String> {
    parse_digest(text).ok_or_else(|| {
        Error::new(Code::Usage, "--expect: this is no digest")
            .hint("give sha256: and 64 hexadecimal digits, as export and verify print them")
    })
}

/// Opens an archive's file or stdin.
pub(super) fn open_archive(
    path: Option<&Path>,
    progress: &Progress,
) -> Result<Box<dyn Read + Send>> {
    Ok(match open(path, progress)? {
        Input::File(file) => Box::new(file),
        Input::Pipe(pipe) => pipe,
    })
}

/// An archive that was opened, once: a pipe has only one way through it.
pub(super) enum Input {
    /// A file, in which one can go back and forth.
    File(File),
    /// Anything else.
    Pipe(Box<dyn Read + Send>),
}

/// The same, but tells files apart.
pub(super) fn open(path: Option<&Path>, progress: &Progress) -> Result<Input> {
    let Some(path) = path.filter(|p| *p != Path::new("-")) else {
        if std::io::stdin().is_terminal() {
            return Err(Error::new(Code::Usage, "no archive: stdin is a terminal").hint(
                "name the file, or pipe an export into it: chronicle-dump export … | \
                 chronicle-dump import --to …",
            ));
        }
        return Ok(Input::Pipe(Box::new(std::io::stdin())));
    };
    let shown = show_path(path.display());
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Code::NotFound, format!("{shown}: no such file"))
        }
        _ => Error::new(Code::NotFound, format!("{shown}: cannot be opened")).because(e),
    })?;
    match file.metadata() {
        Ok(data) if data.is_dir() => {
            Err(Error::new(Code::NotFound, format!("{shown} is a directory")))
        }
        Ok(data) if data.is_file() => {
            progress.expected_bytes.store(data.len(), Ordering::Relaxed);
            Ok(Input::File(file))
        }
        _ => Ok(Input::Pipe(Box::new(file))),
    }
}

fn say(
    archive_id: &str,
    imported: &Imported,
    location: &Location,
    args: &ImportArgs,
    started: Instant,
    report: &Report,
) -> Result<()> {
    let outcome = &imported.outcome;
    let notices = notices(imported);
    if args.dry_run {
        for line in plan_lines(&imported.plan) {
            report.notice(&line);
        }
    }
    notices.iter().for_each(|n| report.notice(n));
    for orphans in &outcome.orphans {
        report.notice(&format!(
            "{} ({})",
            orphans.sentence(),
            orphans_fate(args, imported, orphans)
        ));
    }
    imported.changes.iter().for_each(|change| say_change(change, report));
    for rejected in &imported.rejected {
        report.warning(&format!(
            "{}{}: {} (rows left out: {}, the first with key {})",
            rejected.stream,
            rejected.column.as_ref().map_or_else(String::new, |c| format!(": column \"{c}\"")),
            rejected.reason,
            rejected.rows,
            rejected.first.first().map_or("", String::as_str)
        ));
    }
    if let Some(warning) = index_warning(imported.sealed.index) {
        report.warning(warning);
    }
    if report.is_json() {
        return report.result_json(&json!({
            "command": "import",
            "target": location.to_string(),
            "committed": imported.committed,
            "archive_id": archive_id,
            "digest": shown_digest(&imported.sealed.digest),
            "streams": outcome.loaded,
            "changes": imported.changes,
            "rejected": imported.rejected,
            "orphans": outcome.orphans,
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    let streams: Vec<String> = outcome.loaded.iter().map(loaded_text).collect();
    let (verb, after) = if imported.committed {
        ("imported", "")
    } else {
        ("would import", "; a dry run, nothing was changed")
    };
    report.result(&format!(
        "{verb} {} into {location} from {}{after}",
        streams.join(", "),
        shown_digest(&imported.sealed.digest)
    ))
}

/// What was done to a stream, in words.
fn loaded_text(loaded: &StreamStats) -> String {
    let mut more = Vec::new();
    if loaded.skipped_rows > 0 {
        more.push(format!("{} more were there already", loaded.skipped_rows));
    }
    if loaded.orphans_skipped > 0 {
        more.push(format!("{} without a session left out", loaded.orphans_skipped));
    }
    if loaded.rejected_rows > 0 {
        more.push(format!("{} rejected", loaded.rejected_rows));
    }
    if loaded.adopted_rows > 0 {
        more.push(format!("{} sessions made for them", loaded.adopted_rows));
    }
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    format!("{} {}{more}", loaded.inserted_rows, loaded.stream)
}

fn orphans_fate(args: &ImportArgs, imported: &Imported, orphans: &Orphans) -> &'static str {
    let loaded = imported.outcome.loaded.iter().find(|l| l.stream == orphans.stream);
    // sessions are made, rows of other tables are not
    let adopts = loaded.is_some_and(|l| l.adopted_rows > 0);
    let asked = args.plan.orphans.filter(|o| adopts || !matches!(o, OnOrphans::Adopt));
    match (asked, imported.committed) {
        (Some(OnOrphans::Skip), true) => "left out",
        (Some(OnOrphans::Skip), false) => "would be left out",
        (Some(OnOrphans::Adopt), true) => "loaded, with sessions made for them",
        (Some(OnOrphans::Adopt), false) => "would be loaded, with sessions made for them",
        (_, true) => "loaded all the same",
        (_, false) => "would be loaded all the same",
    }
}

/// Says what was done to values: a loss or a change as a warning, what is kept as a notice.
pub(super) fn say_change(change: &Change, report: &Report) {
    let done = match change.what {
        ChangeKind::Adapted => "adapted",
        ChangeKind::Preserved => "adapted, the originals are kept beside them",
        ChangeKind::Respelled => "spelled in the target's own way",
        ChangeKind::Mapped => "mapped",
        ChangeKind::Remapped => "remapped",
        ChangeKind::Defaulted => "made",
        ChangeKind::Folded => "kept with their rows",
        ChangeKind::Dropped => "lost",
    };
    let text = format!(
        "{}: column \"{}\": {} (values {done}: {}, the first in the row with key {})",
        change.stream, change.column, change.reason, change.values, change.first
    );
    match change.what {
        ChangeKind::Adapted | ChangeKind::Dropped => report.warning(&text),
        _ => report.notice(&text),
    }
}

/// The plan, a line for every column that is not taken as it is.
pub(super) fn plan_lines(plan: &Plan) -> Vec<String> {
    plan.streams
        .iter()
        .flat_map(|stream| {
            let (name, table) = (stream.name(), stream.table_name());
            let head = format!("plan: {name} ({}) -> {table}", stream.source().table);
            std::iter::once(head)
                .chain(stream.lines().into_iter().map(|line| format!("plan:   {line}")))
        })
        .collect()
}

/// What the plan left out, and what the target said.
pub(super) fn notices(imported: &Imported) -> Vec<String> {
    let mut notices = imported.outcome.notices.clone();
    for (_, stream) in imported.plan.tables() {
        let derived: Vec<&str> = (stream.unplaced.iter())
            .filter(|m| m.fate == Fate::Derived)
            .map(|m| m.name.as_str())
            .collect();
        if !derived.is_empty() {
            notices.push(format!(
                "{}: {} has no column for {}, which can be recomputed from the rest: left out",
                stream.stream,
                stream.table_name,
                derived.join(", ")
            ));
        }
        if !stream.added.is_empty() {
            let added: Vec<&str> = stream.added.iter().map(|a| a.physical.as_str()).collect();
            notices.push(format!(
                "{}: {} gets the columns {}",
                stream.stream,
                stream.table_name,
                added.join(", ")
            ));
        }
        if !stream.defaulted.is_empty() {
            notices.push(format!(
                "{}: the archive lacks {}: the target's defaults apply",
                stream.stream,
                stream.defaulted.join(", ")
            ));
        }
    }
    notices
}

/// What is to be said of a seek table that is not as it should be.
pub(super) fn index_warning(index: Index) -> Option<&'static str> {
    match index {
        Index::Good | Index::None => None,
        Index::Missing => Some("the archive is whole, but its seek table is missing"),
        Index::Damaged => Some("the archive is whole, but its seek table is damaged"),
    }
}
