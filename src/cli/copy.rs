//! `copy`: exports that flow into an import, and one result.

use std::sync::atomic::Ordering;
use std::time::Instant;

use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::copy_args::CopyArgs;
use super::copy_config::Asked;
use super::export::{self, rows_object, rows_text};
use super::load::{Incoming, Load};
use super::loaded::Loaded;
use super::output::{Destination, Output, Place, Reported};
use super::report::Report;
use super::selection_args::require_absolute;
use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::copy::{Exports, Fed, Tee};
use crate::error::{Code, Error, Result};
use crate::export::ExportOptions;
use crate::layout::{self, Layout};
use crate::location::{Environment, Location};
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use crate::source::{Source, SourceOptions};
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{Limits, show_count};

pub(super) async fn run(
    args: &CopyArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let Asked { args, sources, target: location, notices } =
        Asked::read(args, environment, report)?;
    notices.iter().for_each(|notice| report.notice(notice));
    let (args, into) = (&args, &args.into);
    refuse_itself(&sources, &location, "--to", cancel).await?;
    let names: Vec<String> = sources.iter().map(Location::name).collect();
    let tees = tees(args, &names, &location, report)?;
    let load = Load::prepare(into, &location, &names, args.expect.as_deref())?;
    let opened = open(args, &sources, report, cancel).await?;
    let about: Vec<Vec<Notice>> = opened.iter().map(|source| source.notices().to_vec()).collect();
    let progress = Progress::default();
    let expected = opened.iter().map(|source| source.expected_rows()).sum();
    progress.expected_rows.store(expected, Ordering::Relaxed);
    let exports = Exports::default();
    let (mut incoming, mut places) = (Vec::new(), Vec::new());
    for ((location, source), tee) in sources.iter().zip(opened).zip(tees) {
        let (tee, place) = match tee {
            Some(destination) => split(destination.open(cancel).await?),
            None => (None, None),
        };
        places.push(place);
        let options = export::options(&args.writer, &args.header);
        let fed = Feeding { name: location.to_string(), source, tee, options };
        incoming.push(fed.incoming(&exports, &progress, cancel));
    }
    let loaded = load.run(incoming, &progress, report, cancel).await;
    // whatever became of the import, no source stays open
    let fed = exports.end(loaded.is_ok()).await;
    let mut imported = loaded?;
    for source in sources.iter().filter(|_| !into.dry_run) {
        let lacks = location.lacks(source, cancel).await.unwrap_or_else(|e| vec![unknown(&e)]);
        if let Some(last) = imported.last_mut() {
            last.stats.add_notices(lacks);
        }
    }
    let mut copied = Vec::new();
    for (((location, fed), place), notices) in sources.iter().zip(fed).zip(places).zip(about) {
        copied.push(Copied::keep(location, fed, place, notices)?);
    }
    let archives: Vec<String> = sources.iter().map(Location::to_string).collect();
    let loaded =
        Loaded { archives: &archives, imported: &imported, location: &location, into, started };
    loaded.finish(say(&loaded, &copied, &notices, report), "the rows are copied", report)
}

/// What is said where it is not known what the target lacks: the rows are there all the same.
fn unknown(error: &Error) -> Notice {
    let text =
        format!("it is not known whether the target lacks policies or grants: {}", error.full());
    Notice::new(NoticeKind::TargetLacks, text)
}

/// Refuses to copy a database into itself; `to` is the option that names the target.
pub(super) async fn refuse_itself(
    sources: &[Location],
    target: &Location,
    to: &str,
    cancel: &Cancel,
) -> Result<()> {
    for source in sources {
        if cancel.or(async { Ok(source.is_same(target).await) }).await? {
            let what = if source.to_string() == target.to_string() {
                format!("--from and {to} are the same database: {source}")
            } else {
                format!("--from and {to} are the same database: {source} is {target}")
            };
            return Err(
                Error::new(Code::Usage, what).hint(format!("name another database behind {to}"))
            );
        }
    }
    Ok(())
}

/// Where the archives are kept; nowhere in a dry run, which writes nothing.
fn tees(
    args: &CopyArgs,
    names: &[String],
    target: &Location,
    report: &Report,
) -> Result<Vec<Option<Destination>>> {
    let Some(path) = &args.tee else { return Ok(names.iter().map(|_| None).collect()) };
    let found = Destination::find_each(path, "--tee", args.force, names)?;
    if let Location::Sqlite(file) = target
        && found.iter().any(|tee| tee.is_at(file))
    {
        return Err(Error::new(Code::Usage, format!("--tee: {target} is the target of the copy"))
            .hint("name another file: --tee 'NAME-{date}-{time}.ndjson.zst'"));
    }
    if found.iter().any(Destination::is_stdout) && !args.into.dry_run {
        report.stdout_is_taken();
    }
    Ok(found.into_iter().map(|found| (!args.into.dry_run).then_some(found)).collect())
}

/// Opens every source, before anything is done to the target.
async fn open(
    args: &CopyArgs,
    sources: &[Location],
    report: &Report,
    cancel: &Cancel,
) -> Result<Vec<Box<dyn Source>>> {
    let selection = args.selection.selection(args.into.plan.values.assume_tz.as_deref())?;
    if args.header.reproducible {
        require_absolute(&selection, "is not reproducible")?;
    }
    let mut opened = Vec::new();
    for (location, layout) in sources.iter().zip(layouts(args.from_layout.as_deref(), sources)?) {
        let reading = SourceOptions {
            sorted: !args.writer.unsorted,
            reproducible: args.header.reproducible,
            as_stored: false,
            layout,
            stored_keys: false,
            selections: vec![selection.clone()],
        };
        let source = location.open_source(reading, cancel).await?;
        source.notices().iter().for_each(|notice| report.notice(notice));
        opened.push(source);
    }
    Ok(opened)
}

/// The layouts that --from-layout gives the sources: each one of the layout's kind has it.
fn layouts(text: Option<&str>, sources: &[Location]) -> Result<Vec<Option<Layout>>> {
    let Some(text) = text else { return Ok(sources.iter().map(|_| None).collect()) };
    let picked = sources.iter().map(|source| layout::pick(text, source.backend()));
    let (found, refused): (Vec<_>, Vec<_>) = picked.partition(Result::is_ok);
    match (found.is_empty(), refused.into_iter().next()) {
        (true, Some(Err(error))) => Err(error),
        _ => Ok(sources.iter().map(|s| layout::pick(text, s.backend()).ok()).collect()),
    }
}

/// The file that keeps an archive, and what is left to do with it when everything is loaded.
fn split(output: Output) -> (Option<Tee>, Option<(Place, Reported)>) {
    let (file, place, reported) = output.split();
    let named = reported.clone();
    let tee = Tee { file, about: Box::new(move |error| named.about(error)) };
    (Some(tee), Some((place, reported)))
}

/// A source on its way into the import.
struct Feeding {
    name: String,
    source: Box<dyn Source>,
    tee: Option<Tee>,
    options: ExportOptions,
}

impl Feeding {
    /// Its archive, which is exported while it is read.
    fn incoming<'a>(
        self,
        exports: &'a Exports,
        progress: &'a Progress,
        cancel: &'a Cancel,
    ) -> Incoming<'a> {
        let Feeding { name, source, tee, options } = self;
        let shown = name.clone();
        let open = async move {
            let input = Box::new(exports.start(source, tee, options, cancel)?);
            ArchiveInput::open(name, input, Limits::default(), progress, cancel).await
        };
        Incoming { name: shown, open: Box::pin(open) }
    }
}

/// A source that was copied.
struct Copied<'a> {
    location: &'a Location,
    fed: Fed,
    /// The file that has its archive.
    tee: Option<String>,
    notices: Vec<Notice>,
}

impl<'a> Copied<'a> {
    /// Gives the archive that was kept its name.
    fn keep(
        location: &'a Location,
        mut fed: Fed,
        place: Option<(Place, Reported)>,
        notices: Vec<Notice>,
    ) -> Result<Copied<'a>> {
        let tee = match (place, fed.tee.take()) {
            (Some((place, reported)), Some(file)) => {
                place.finish(file).map_err(|e| reported.about_committed(e))?;
                Some(reported.shown().to_owned())
            }
            _ => None,
        };
        Ok(Copied { location, fed, tee, notices })
    }

    fn object(&self) -> Value {
        let exported = &self.fed.exported;
        let notices = [&self.notices[..], &exported.left_out].concat();
        json!({
            "source": self.location.to_string(),
            "archive_id": exported.archive_id,
            "digest": shown_digest(&exported.written.digest),
            "rows": rows_object(&exported.written.manifest.rows),
            "bytes": exported.written.manifest.bytes,
            "compressed_bytes": exported.written.compressed_bytes,
            "tee": self.tee,
            "filters": exported.filters,
            "orphans": exported.orphans,
            "notices": notices,
        })
    }

    fn sentence(&self) -> String {
        let written = &self.fed.exported.written;
        let kept = self.tee.as_ref().map_or_else(String::new, |tee| {
            format!(", kept in {tee} ({})", HumanBytes(written.compressed_bytes))
        });
        let rows = rows_text(&written.manifest.rows);
        format!("read {}: {rows}, {}{kept}", self.location, shown_digest(&written.digest))
    }
}

/// Prints what was copied.
fn say(
    loaded: &Loaded<'_>,
    copied: &[Copied<'_>],
    notices: &[Notice],
    report: &Report,
) -> Result<()> {
    loaded.notes(report);
    if report.is_json() {
        let mut object = loaded.object("copy");
        object["sources"] = copied.iter().map(Copied::object).collect();
        if let Value::Array(of_target) = &mut object["notices"] {
            of_target.extend(notices.iter().map(|notice| json!(notice)));
        }
        report.result_json(&object)?;
    }
    for copied in copied {
        copied.fed.exported.left_out.iter().for_each(|notice| report.notice(notice));
        report.result(&copied.sentence())?;
    }
    let from = match copied {
        [only] => only.location.to_string(),
        several => show_count(several.len() as u64, "databases"),
    };
    report.result(&loaded.sentence(["copied", "would copy"], &from))
}
