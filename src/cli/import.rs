//! `import`: an archive, a target, and the result.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::ImportArgs;
use super::backup;
use super::locate;
use super::output::Destination;
use super::policy_args::{LoadArgs, TargetArgs};
use super::report::Report;
use super::summary;
use crate::archive_part::{Input, open_part};
use crate::cancel::Cancel;
use crate::catalog::Backend;
use crate::error::{Code, Error, Result};
use crate::history::BatchKind;
use crate::import::{ImportOptions, Imported, Part, import};
use crate::layout::{self};
use crate::load::{DryRun, Problem, StreamStats, Target, TargetOptions};
use crate::location::{Environment, Location};
use crate::notice::{Notice, NoticeKind};
use crate::plan::{Fate, Plan};
use crate::policy::{OnOrphans, OnUnrepresentable, OwnRows, PlanOptions};

use crate::progress::Progress;
use crate::source::Orphans;
use chronicle_archive::Index;
use chronicle_archive::read::reader::{parse_digest, shown_digest};
use chronicle_archive::{show_count, show_number, show_path, singular};

pub(super) async fn run(
    args: &ImportArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let mut options = options(args)?;
    let archives = archives(args)?;
    let selection = args.selection.selection(args.plan.values.assume_tz.as_deref())?;
    let location = locate(&args.to, args.password_file.as_deref(), environment, report)?;
    let mut rejected = Vec::new();
    for path in &archives {
        rejected.push(match rejects(args, *path)? {
            Some(destination) => Some(destination.open(cancel).await?.split()),
            None => None,
        });
    }
    // a dry run keeps no reader out
    let opening = TargetOptions {
        readers_go_on: args.dry_run,
        wait: args.batch.wait.map(|seconds| Duration::from_secs(seconds.into())),
        ..opening(&args.target, &args.load, &location)?
    };
    let progress = Progress::default();
    let (mut parts, mut rejects) = (Vec::new(), Vec::new());
    for (path, rejected) in archives.iter().zip(rejected) {
        let (input, name) = (open(*path, &progress)?, path.map_or("stdin".into(), archive_name));
        let (file, place) = match rejected {
            Some((file, place, reported)) => (Some(file), Some((place, reported))),
            None => (None, None),
        };
        rejects.push(place);
        let open = open_part(name.clone(), input, &selection, &progress, cancel);
        parts.push(Part { name, open: Box::pin(open), rejects: file });
    }
    let backup = backup_of(args, &opening, &location, cancel).await?;
    options.batch = Some(args.batch.options(BatchKind::Import, backup));
    let watch = report.watch(&progress);
    let loaded = async {
        // a target is not opened for what is no archive
        if let Some(first) = parts.first_mut() {
            let name = first.name.clone();
            let opened = std::mem::replace(&mut first.open, Box::pin(std::future::pending()));
            let opened = Part::opened(name, opened.await?);
            *first = Part { rejects: first.rejects.take(), ..opened };
        }
        let target = location.open_target(&opening, cancel).await?;
        let target: Box<dyn Target> =
            if args.dry_run { Box::new(DryRun::new(target)) } else { target };
        import(parts, target, options, &progress, cancel).await
    }
    .await;
    drop(watch);
    // an import writes no other output
    let about = |e| match rejects.iter().flatten().next() {
        Some((_, reported)) => reported.about(e),
        None => e,
    };
    let mut imported = loaded.map_err(about)?;
    for (imported, rejects) in imported.iter_mut().zip(rejects) {
        if let (Some((file, _)), Some((place, reported))) = (imported.rejects.take(), rejects) {
            place.finish(file).map_err(|e| reported.about_committed(e))?;
        }
    }
    let committed = imported.iter().all(|imported| imported.committed);
    let said = say(&archives, &imported, &location, args, started, report);
    report.said(said, committed.then_some("the rows are imported"))?;
    let complete = imported.iter().all(|imported| imported.rejected.is_empty());
    Ok(if complete { 0 } else { Code::Rejected.exit() })
}

/// Makes the backups that are asked for.
async fn backup_of(
    args: &ImportArgs,
    opening: &TargetOptions,
    location: &Location,
    cancel: &Cancel,
) -> Result<Option<String>> {
    match (args.dry_run, &opening.create) {
        // what is not there yet needs no backup
        (true, _) | (_, Some(_)) => Ok(None),
        (false, None) => backup::take(&args.batch, location, cancel).await,
    }
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
    let apart = |path: &Path| path.to_string_lossy().contains("{source}");
    if archives.len() > 1 && args.rejects.as_deref().is_some_and(|path| !apart(path)) {
        return Err(Error::new(Code::Usage, "--rejects needs a name for each of several archives")
            .hint("put {source} into it: --rejects 'rejects-{source}.ndjson.zst'"));
    }
    Ok(archives)
}

/// The layouts that `--create` and `--layout` name.
pub(super) fn opening(
    args: &TargetArgs,
    load: &LoadArgs,
    location: &Location,
) -> Result<TargetOptions> {
    let backend = location.backend();
    let layout = args.layout.as_deref().map(|text| layout::pick(text, backend)).transpose()?;
    let create = match (&args.create, &layout) {
        (None, _) => None,
        (Some(None), Some(layout)) => Some(layout.clone()),
        (Some(name), None) => Some(layout::created(name.as_deref(), backend)?),
        (Some(Some(_)), Some(_)) => {
            return Err(Error::new(Code::Usage, "--create=LAYOUT and --layout both name a layout")
                .hint("use one of them; --create --layout FILE creates the tables of the file"));
        }
    };
    let compression = load.toast_compression;
    if compression.is_some() && backend == Backend::Sqlite {
        return Err(Error::new(Code::Usage, "--toast-compression works with Postgres only")
            .hint("omit it: SQLite does not compress rows"));
    }
    Ok(TargetOptions { create, layout, compression, ..TargetOptions::default() })
}

fn options(args: &ImportArgs) -> Result<ImportOptions> {
    Ok(ImportOptions {
        plan: PlanOptions {
            rejects: args.rejects.is_some(),
            own_rows: if args.clear { OwnRows::Cleared } else { OwnRows::Stay },
            ..args.plan.options()?
        },
        expect: args.expect.as_deref().map(expected_digest).transpose()?,
        batch: None,
    })
}

/// Where rows go that are left out; nowhere in a dry run, which only counts them.
fn rejects(args: &ImportArgs, archive: Option<&Path>) -> Result<Option<Destination>> {
    let policy = args.plan.options()?.on_unrepresentable;
    match (&args.rejects, policy) {
        (
            Some(path),
            OnUnrepresentable::Reject | OnUnrepresentable::Preserve | OnUnrepresentable::Adapt,
        ) => {
            // it may hold the rows that an earlier import left out, or be the archive that is read
            let stem = archive.and_then(|path| path.file_stem());
            let source = stem.map_or("stdin".into(), |stem| stem.to_string_lossy());
            let found = Destination::find(Some(path), "--rejects", false, &source)?;
            Ok((!args.dry_run).then_some(found))
        }
        (None, OnUnrepresentable::Reject) => {
            Err(Error::new(Code::Usage, "--on-unrepresentable reject needs --rejects FILE")
                .hint("add --rejects FILE; the rows that are left out go there, as an archive"))
        }
        (Some(_), OnUnrepresentable::Fail) => Err(Error::new(
            Code::Usage,
            "--rejects has no effect with --strict or --on-unrepresentable fail",
        )
        .hint("omit --rejects, or add --on-unrepresentable reject")),
        (None, _) => Ok(None),
    }
}

/// The digest behind `--expect`.
pub(super) fn expected_digest(text: &str) -> Result<String> {
    parse_digest(text).ok_or_else(|| {
        Error::new(Code::Usage, "--expect: not a digest")
            .hint("give sha256: and 64 hexadecimal digits, as `chronicle-dump verify` prints them")
    })
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

fn say(
    archives: &[Option<&Path>],
    imported: &[Imported],
    location: &Location,
    args: &ImportArgs,
    started: Instant,
    report: &Report,
) -> Result<()> {
    let mut lines = Vec::new();
    for imported in imported {
        if args.dry_run {
            plan_lines(&imported.plan).iter().for_each(|line| report.notice(line));
        }
        lines.extend(about_archive(imported, args.plan.references.orphans, report));
    }
    let batch = imported.last().and_then(|imported| imported.batch);
    lines.extend(batch_note(batch, location));
    summary::print(lines, report);
    for (path, imported) in archives.iter().zip(imported) {
        if let Some(warning) = index_warning(imported.sealed.index) {
            let several = archives.len() > 1;
            report.notice(&match path.filter(|_| several) {
                Some(path) => warning.at(archive_name(path)),
                None => warning,
            });
        }
    }
    let streams = total(imported);
    let only = Some(imported).filter(|all| all.len() == 1).and_then(|all| all.first());
    let committed = imported.iter().all(|imported| imported.committed);
    if report.is_json() {
        return report.result_json(&json!({
            "command": "import",
            "target": location.to_string(),
            "committed": committed,
            "batch_id": batch,
            "archive_id": only.map(|imported| &imported.archive_id),
            "digest": only.map(|imported| shown_digest(&imported.sealed.digest)),
            "archives": archives.iter().zip(imported).map(|(path, imported)| json!({
                "archive": path.map_or("-".into(), |path| path.display().to_string()),
                "archive_id": imported.archive_id,
                "digest": shown_digest(&imported.sealed.digest),
                "streams": imported.stats.streams,
            })).collect::<Vec<_>>(),
            "streams": streams,
            "changes": imported.iter().flat_map(|i| &i.changes).collect::<Vec<_>>(),
            "rejected": imported.iter().flat_map(|i| &i.rejected).collect::<Vec<_>>(),
            "orphans": imported.iter().flat_map(|i| &i.stats.orphans).collect::<Vec<_>>(),
            "notices": imported.iter().flat_map(notices).collect::<Vec<_>>(),
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    let streams: Vec<String> = streams.iter().map(loaded_text).collect();
    let (verb, after) = if committed {
        ("imported", "")
    } else {
        ("would import", "; nothing was changed (dry run)")
    };
    let from = match imported {
        [only] => shown_digest(&only.sealed.digest),
        several => show_count(several.len() as u64, "archives"),
    };
    report.result(&format!("{verb} {} into {location} from {from}{after}", streams.join(", ")))
}

/// What there is to say about one archive, before the result.
pub(super) fn about_archive(
    imported: &Imported,
    orphans_policy: Option<OnOrphans>,
    report: &Report,
) -> Vec<Notice> {
    let rejected = imported.rejected.iter();
    let mut lines: Vec<Notice> =
        rejected.map(|rejected| rejected_line(rejected, imported.committed)).collect();
    lines.extend(imported.stats.orphans.iter().map(|orphans| {
        let fate = orphans_fate(orphans_policy, imported, orphans);
        Notice::new(NoticeKind::Orphans, format!("{}; {fate}", orphans.sentence()))
    }));
    lines.extend(summary::changes(&imported.changes, report.is_verbose()));
    lines.extend(notices(imported));
    lines
}

/// How a batch is undone.
pub(super) fn batch_note(batch: Option<uuid::Uuid>, location: &Location) -> Option<Notice> {
    let text = |id| {
        let database = location.to_type();
        format!("this is batch {id}: `chronicle-dump rollback {id} --from {database}` undoes it")
    };
    batch.map(|id| Notice::new(NoticeKind::Batch, text(id)))
}

/// What was done to each stream by all archives together.
fn total(imported: &[Imported]) -> Vec<StreamStats> {
    let mut total: Vec<StreamStats> = Vec::new();
    for stats in imported.iter().flat_map(|imported| &imported.stats.streams) {
        match total.iter_mut().find(|known| known.stream == stats.stream) {
            None => total.push(stats.clone()),
            Some(known) => known.add(stats),
        }
    }
    total
}

/// What was done to a stream, in words.
fn loaded_text(loaded: &StreamStats) -> String {
    let mut more = Vec::new();
    if loaded.deleted_rows > 0 {
        more.push(format!("{} deleted first", show_number(loaded.deleted_rows)));
    }
    if loaded.updated_rows > 0 {
        more.push(format!("{} updated", show_number(loaded.updated_rows)));
    }
    if loaded.skipped_rows > 0 {
        more.push(format!("{} existed already", show_number(loaded.skipped_rows)));
    }
    if loaded.content_matched_rows > 0 {
        more.push(format!("{} met by content", show_number(loaded.content_matched_rows)));
    }
    if loaded.conflicting_rows > 0 {
        more.push(format!("{} differ and were kept", show_number(loaded.conflicting_rows)));
    }
    if loaded.matched_rows > 0 {
        more.push(format!("{} found under another key", show_number(loaded.matched_rows)));
    }
    if loaded.skipped_orphans > 0 {
        more.push(format!("{} left out", show_count(loaded.skipped_orphans, "orphans")));
    }
    if loaded.rejected_rows > 0 {
        more.push(format!("{} rejected", show_number(loaded.rejected_rows)));
    }
    if loaded.adopted_rows > 0 {
        more.push(format!("{} created for orphans", show_count(loaded.adopted_rows, "sessions")));
    }
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    format!("{}{more}", show_count(loaded.inserted_rows, &loaded.stream))
}

fn orphans_fate(policy: Option<OnOrphans>, imported: &Imported, orphans: &Orphans) -> &'static str {
    let loaded = imported.stats.streams.iter().find(|l| l.stream == orphans.stream);
    // sessions are created, rows of other tables are not
    let adopts = loaded.is_some_and(|l| l.adopted_rows > 0);
    let policy = policy.filter(|o| adopts || !matches!(o, OnOrphans::Adopt));
    match (policy, imported.committed) {
        (Some(OnOrphans::Skip), true) => "left out",
        (Some(OnOrphans::Skip), false) => "would be left out",
        (Some(OnOrphans::Adopt), true) => "loaded, with sessions created for them",
        (Some(OnOrphans::Adopt), false) => "would be loaded, with sessions created for them",
        (_, true) => "loaded anyway",
        (_, false) => "would be loaded anyway",
    }
}

/// The warning about rows that were left out for one reason.
pub(super) fn rejected_line(rejected: &Problem, committed: bool) -> Notice {
    let fate = if committed { "left out" } else { "would be left out" };
    let text = match &rejected.follows {
        Some(parent) => consequence(rejected, parent, fate),
        None => format!(
            "{}: {} {fate}: {} (first: key {})",
            place(rejected),
            show_count(rejected.rows, "rows"),
            rejected.reason,
            rejected.keys.first().map_or("", String::as_str)
        ),
    };
    Notice::new(NoticeKind::RowsLeftOut, text)
}

/// The stream and the column of a problem.
pub(super) fn place(problem: &Problem) -> String {
    let column = problem.column.as_ref().filter(|column| *column != summary::ROW);
    let column = column.map_or_else(String::new, |column| format!(".{column}"));
    format!("{}{column}", problem.stream)
}

/// What becomes of rows whose parents are not loaded.
pub(super) fn consequence(problem: &Problem, parent: &str, fate: &str) -> String {
    let (rows, parent) = (show_count(problem.rows, &problem.stream), singular(parent));
    let their = if problem.rows == 1 { "its" } else { "their" };
    let was = if fate.starts_with("would be") { "would be" } else { "was" };
    format!("{rows} {fate} because {their} {parent} {was}")
}

/// The plan, a line for every column that is not copied unchanged.
pub(super) fn plan_lines(plan: &Plan) -> Vec<Notice> {
    let lines = plan.streams.iter().flat_map(|stream| {
        let (name, table) = (stream.name(), stream.table_name());
        let head = format!("plan: {name} ({}) -> {table}", stream.source().table);
        let lines = stream.lines().into_iter().map(|line| format!("plan:   {line}"));
        std::iter::once(head).chain(lines)
    });
    lines.map(|line| Notice::new(NoticeKind::Plan, line)).collect()
}

/// What the plan left out, and the notices of the target.
pub(super) fn notices(imported: &Imported) -> Vec<Notice> {
    let mut notices = imported.stats.notices.clone();
    let verb = if imported.committed { "were" } else { "would be" };
    for (_, stream) in imported.plan.tables() {
        let derived: Vec<&str> = (stream.unplaced.iter())
            .filter(|m| m.fate == Fate::Derived)
            .map(|m| m.name.as_str())
            .collect();
        if !derived.is_empty() {
            let (columns, table) = (derived.join(", "), &stream.table_name);
            let text = format!("{}: not in {table}: {columns}; can be recomputed", stream.stream);
            notices.push(Notice::new(NoticeKind::Recomputed, text));
        }
        if !stream.added.is_empty() {
            let added: Vec<&str> = stream.added.iter().map(|a| a.physical.as_str()).collect();
            let (columns, table) = (added.join(", "), &stream.table_name);
            let text = format!("{}: new columns in {table}: {columns}", stream.stream);
            notices.push(Notice::new(NoticeKind::ColumnsAdded, text));
        }
        if !stream.defaulted.is_empty() {
            let columns = stream.defaulted.join(", ");
            let text = format!(
                "{}: not in the archive: {columns}; the target's defaults {verb} used",
                stream.stream
            );
            notices.push(Notice::new(NoticeKind::Defaults, text));
        }
    }
    notices
}

/// The warning about a seek table that is missing or damaged.
pub(super) fn index_warning(index: Index) -> Option<Notice> {
    let state = match index {
        Index::Good | Index::None => return None,
        Index::Missing => "missing",
        Index::Damaged => "damaged",
    };
    let text = format!("the archive is complete, but its seek table is {state}");
    Some(Notice::new(NoticeKind::SeekTable, text))
}
