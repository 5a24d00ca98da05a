//! `check`: everything that would stop or change an import, found without writing anything.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::HumanBytes;
use serde_json::json;

use super::args::CheckArgs;
use super::export::{rows_object, rows_text};
use super::import::{archive_name, open_archive};
use super::load::opening;
use super::loaded::{consequence, notices, place, plan_lines, rejected_line};
use super::locate;
use super::report::{Report, Start};
use super::status;
use super::suggestion::{Settling, import_command, unsettled};
use super::summary;
use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::chronicle::status::Status;
use crate::copy::Exports;
use crate::error::{Code, Error, Result};
use crate::export::ExportOptions;
use crate::import::{ImportOptions, Imported, Part, import};
use crate::layout;
use crate::load::{KEYS, Problem, SAMPLES, TargetOptions};
use crate::location::{Environment, Location};
use crate::notice::{Notice, NoticeKind};
use crate::policy::PlanOptions;
use crate::profile::{NonportableValues, Profile, profile};
use crate::progress::Progress;
use crate::source::{Orphans, SourceOptions};
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{Batch, Limits, Sealed, WriterOptions};
use chronicle_archive::{show_count, show_text};

/// How often a check is repeated with the options that settle what it has found.
const PASSES: usize = 4;

/// What is checked.
enum What {
    /// Archives in the order in which they would be loaded; only one may be stdin or a pipe.
    Archives(Vec<PathBuf>),
    Database(Box<Location>),
}

pub(super) async fn run(
    args: &CheckArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let what = what(args, environment, report)?;
    let asks = !args.plan.is_default() || args.target.create.is_some();
    if args.to.is_none() && (asks || args.load.toast_compression.is_some()) {
        return Err(Error::new(Code::Usage, "import options need --to")
            .hint("name the target: --to TARGET"));
    }
    let target = (args.to.as_deref()).map(|to| locate(to, environment, report)).transpose()?;
    let progress = Progress::default();
    let asked = Asked { args, what: &what, target: target.as_ref() };
    let watch = report.watch(&progress);
    let checked = asked.check(args.plan.options()?, &progress, Some(report), cancel).await;
    let checked = match checked {
        Ok(checked) => Ok(Checked { hint: asked.hint(&checked, cancel).await?, ..checked }),
        Err(error) => Err(error),
    };
    drop(watch);
    checked?.say(&asked, started, report)
}

/// What was asked for.
struct Asked<'a> {
    args: &'a CheckArgs,
    what: &'a What,
    target: Option<&'a Location>,
}

impl Asked<'_> {
    /// The database that would be exported.
    fn source(&self) -> Option<&Location> {
        match self.what {
            What::Database(location) => Some(location),
            What::Archives(_) => None,
        }
    }

    /// Finds what would stop an import with these options. What is to know about the source is printed at
    /// once, if anything is.
    async fn check(
        &self,
        options: PlanOptions,
        progress: &Progress,
        report: Option<&Report>,
        cancel: &Cancel,
    ) -> Result<Checked> {
        let location = match self.what {
            What::Archives(paths) => {
                return self.check_archives(&options, paths, progress, cancel).await;
            }
            What::Database(location) => location,
        };
        // without a target, --layout can only mean the source
        let only = self.args.target.layout.as_deref().filter(|_| self.target.is_none());
        let layout = self.args.from_layout.as_deref().or(only);
        let layout = layout.map(|text| layout::pick(text, location.backend())).transpose()?;
        let reading = SourceOptions { sorted: true, layout, ..SourceOptions::default() };
        let source = location.open_source(reading, cancel).await?;
        let notices = source.notices().to_vec();
        if let Some(report) = report {
            notices.iter().for_each(|notice| report.notice(notice));
        }
        let options_of_export = ExportOptions {
            writer: WriterOptions { threads: 1, ..WriterOptions::default() },
            ..ExportOptions::default()
        };
        let exports = Exports::default();
        let input = exports.start(source, None, options_of_export, cancel)?;
        let archive = (location.to_string(), Box::new(input) as Box<dyn Read + Send>);
        let checked = self.read(options, (&[], 0), archive, progress, cancel).await;
        let exported = exports.end(checked.is_ok()).await;
        let orphans = exported.into_iter().flat_map(|fed| fed.exported.orphans).collect();
        Ok(Checked { source: Some((notices, orphans)), ..checked? })
    }

    /// Checks archives one after the other, each as it would be imported behind those before it. Behind one with problems
    /// nothing can be said of the next ones.
    async fn check_archives(
        &self,
        options: &PlanOptions,
        paths: &[PathBuf],
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Checked> {
        let mut all: Option<Checked> = None;
        for (n, path) in paths.iter().enumerate() {
            let about = |e: Error| if paths.len() > 1 { e.about(archive_name(path)) } else { e };
            let input = open_archive(Some(path), progress)?;
            let archive = (archive_name(path), input);
            let left = paths.len() - n - 1;
            let others = (&paths[..n], left);
            let read = self.read(options.clone(), others, archive, progress, cancel).await;
            let checked = read.map_err(about)?;
            let stops = !checked.problems().is_empty();
            let known = match all {
                None => checked,
                Some(known) => known.and(checked),
            };
            all = Some(match stops && left > 0 {
                true => known.without(left, &archive_name(path)),
                false => known,
            });
            if stops {
                break;
            }
        }
        all.ok_or_else(|| Error::new(Code::Internal, "nothing was checked"))
    }

    /// Reads an archive as an import would, behind others; so many more are left.
    async fn read(
        &self,
        options: PlanOptions,
        (earlier, left): (&[PathBuf], usize),
        (name, input): (String, Box<dyn Read + Send>),
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Checked> {
        let mut archive_input =
            ArchiveInput::open(name.clone(), input, Limits::default(), progress, cancel).await?;
        let Some(location) = self.target else {
            let server = archive_input.header.source.server.clone();
            let status = self.source().and_then(|_| Status::of(&archive_input.streams, server));
            let mut status = status;
            let also = &mut |batch: &Batch| status.iter_mut().for_each(|s| s.add(batch));
            let profile = profile(&mut archive_input, also, progress, cancel).await?;
            let sealed = profile.sealed.clone();
            let part = CheckedPart { name, sealed, profile: Some(profile), status, imported: None };
            return Ok(Checked::new(part));
        };
        let options = ImportOptions { plan: options, ..ImportOptions::default() };
        // nobody is kept out
        let opening = TargetOptions {
            readers_go_on: true,
            ..opening(&self.args.target, &self.args.load, location)?
        };
        let target = Box::new(location.open_preflight(&opening, earlier.len(), cancel).await?);
        let again = Progress::default();
        let mut parts = Vec::new();
        for path in earlier {
            let (name, input) = (archive_name(path), open_archive(Some(path), &again)?);
            let open = ArchiveInput::open(name.clone(), input, Limits::default(), &again, cancel);
            parts.push(Part { name, open: Box::pin(open), rejects: None });
        }
        parts.push(Part::opened(name.clone(), archive_input));
        let mut imported = import(parts, target, options, progress, cancel).await?.pop();
        if let Some(last) = imported.as_mut().filter(|_| left == 0) {
            last.problems.append(&mut last.disputes);
        }
        let sealed = imported.as_ref().map(|imported| imported.sealed.clone());
        let sealed = sealed.ok_or_else(|| Error::new(Code::Internal, "nothing was checked"))?;
        Ok(Checked::new(CheckedPart { name, sealed, profile: None, status: None, imported }))
    }

    /// Whether the archive can be read once more.
    fn can_repeat(&self) -> bool {
        match self.what {
            What::Archives(paths) => paths.iter().all(|path| is_file(path)),
            What::Database(_) => true,
        }
    }

    /// The import that would succeed, as a command; None if nothing stops the one that was asked for. Rows
    /// that are refused are not checked any further, so the command is checked in its turn.
    async fn hint(&self, checked: &Checked, cancel: &Cancel) -> Result<Option<String>> {
        let Some(target) = self.target.filter(|_| !checked.problems().is_empty()) else {
            return Ok(None);
        };
        let mut problems = checked.problems().to_vec();
        let mut options = Settling::default();
        for pass in 0..PASSES {
            if let Some(hint) = unsettled(&problems, &options) {
                return Ok(Some(hint));
            }
            let more = options.add(&self.args.plan, &problems);
            if !more || pass + 1 == PASSES || !self.can_repeat() || options.is_incomplete() {
                break;
            }
            let options = options.apply(self.args.plan.options()?)?;
            let next = self.check(options, &Progress::default(), None, cancel).await?;
            problems = next.problems().to_vec();
            if problems.is_empty() {
                break;
            }
        }
        Ok(Some(import_command(self.args, self.source(), target, &options)))
    }
}

/// An archive by its first bytes, else a database; several are archives.
fn what(args: &CheckArgs, environment: &Environment<'_>, report: &Report) -> Result<What> {
    let first = args.what.first();
    let name = args.from.as_deref().or(first.map(String::as_str)).unwrap_or("-");
    if args.what.len() > 1 {
        require_archives(args)?;
    }
    if args.from.is_none() && (name == "-" || is_archive(Path::new(name)) || args.what.len() > 1) {
        if args.from_layout.is_some() {
            return Err(Error::new(Code::Usage, "--from-layout is for a database, not an archive")
                .hint("omit it; --layout FILE is for the target"));
        }
        return Ok(What::Archives(args.what.iter().map(PathBuf::from).collect()));
    }
    let location = locate(name, environment, report)?;
    Ok(What::Database(Box::new(location)))
}

/// Refuses several that are not all archives, or that cannot be read as often as a check needs.
fn require_archives(args: &CheckArgs) -> Result<()> {
    let usage = |what: String, hint: &str| Err(Error::new(Code::Usage, what).hint(hint));
    for name in &args.what {
        let path = Path::new(name);
        if name != "-" && path.exists() && !is_archive(path) {
            let what = format!(
                "{}: several can be checked together only if all are archives",
                show_text(name)
            );
            return usage(what, "export it first, or check it alone");
        }
        // each is read again for those behind it
        if args.to.is_some() && (name == "-" || (path.exists() && !is_file(path))) {
            let what = format!("{}: of several archives each must be a file", show_text(name));
            return usage(what, "a check reads them more than once: write it to a file first");
        }
    }
    match args.what.iter().filter(|name| *name == "-").count() {
        0 | 1 => Ok(()),
        _ => usage(
            "stdin is named twice".into(),
            "one pipe brings one archive: name the others as files",
        ),
    }
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file())
}

/// Whether a file starts like an archive. Anything but a plain file counts as an archive, since it
/// cannot be a database.
fn is_archive(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(data) if !data.is_file() => return !data.is_dir(),
        Err(_) => return false,
        Ok(_) => {}
    }
    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && (start == [0x28, 0xB5, 0x2F, 0xFD] || start[0] == b'{')
}

/// What a check has found.
struct Checked {
    /// Of each archive, in their order.
    parts: Vec<CheckedPart>,
    /// The notices and orphans of a source that is a database.
    source: Option<(Vec<Notice>, Vec<Orphans>)>,
    /// What was left out.
    left_out: Option<Notice>,
    /// What to type next.
    hint: Option<String>,
}

/// What a check has found of one archive.
struct CheckedPart {
    name: String,
    sealed: Sealed,
    profile: Option<Profile>,
    /// How the Chronicle of a database stands.
    status: Option<Status>,
    imported: Option<Imported>,
}

impl Checked {
    fn new(part: CheckedPart) -> Checked {
        Checked { parts: vec![part], source: None, left_out: None, hint: None }
    }

    /// The same with what was found of a later archive.
    fn and(mut self, later: Checked) -> Checked {
        self.parts.extend(later.parts);
        self
    }

    /// The same without archives behind one that has problems.
    fn without(self, archives: usize, name: &str) -> Checked {
        let text = format!(
            "not checked: {} behind {name}, until its problems are settled",
            show_count(archives as u64, "archives")
        );
        Checked { left_out: Some(Notice::new(NoticeKind::NotChecked, text)), ..self }
    }

    fn imported(&self) -> impl Iterator<Item = &Imported> {
        self.parts.iter().filter_map(|part| part.imported.as_ref())
    }

    /// The problems: only the last archive that was checked can have any.
    fn problems(&self) -> &[Problem] {
        self.imported().last().map_or(&[], |imported| &imported.problems)
    }

    /// The rows of every stream in all archives.
    fn rows(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = Vec::new();
        for (stream, rows) in self.parts.iter().flat_map(|part| &part.sealed.manifest.rows) {
            match all.iter_mut().find(|(known, _)| known == stream) {
                None => all.push((stream.clone(), *rows)),
                Some((_, known)) => *known += rows,
            }
        }
        all
    }

    fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.sealed.file_bytes).sum()
    }

    /// Prints everything; the exit code is that of the first thing that would stop an import.
    fn say(&self, asked: &Asked<'_>, started: Instant, report: &Report) -> Result<u8> {
        let (mut all, source_orphans) = self.source.clone().unwrap_or_default();
        // an import finds them again
        for orphans in source_orphans.iter().filter(|_| self.imported().next().is_none()) {
            report.notice(&Notice::new(NoticeKind::Orphans, orphans.sentence()));
        }
        for imported in self.imported() {
            let import_notices = self.import_notices(imported);
            if report.is_verbose() {
                plan_lines(&imported.plan).iter().for_each(|line| report.notice(line));
            }
            let orphans = imported.stats.orphans.iter();
            let mut lines: Vec<Notice> =
                orphans.map(|o| Notice::new(NoticeKind::Orphans, o.sentence())).collect();
            lines.extend(summary::changes(&imported.changes, report.is_verbose()));
            lines.extend(import_notices.iter().cloned());
            summary::print(lines, report);
            all.extend(import_notices);
        }
        if let Some(left_out) = &self.left_out {
            report.notice(left_out);
            all.push(left_out.clone());
        }
        for found in self.nonportable() {
            let text = format!(
                "{}.{}: {} of class {} that plain JSON cannot express (first: key {})",
                found.stream,
                found.column,
                show_count(found.values, "values"),
                found.class,
                found.first_key
            );
            report.notice(&Notice::new(NoticeKind::Nonportable, text));
        }
        let rejected = || self.imported().flat_map(|imported| &imported.rejected);
        rejected().for_each(|r| report.notice(&rejected_line(r, false)));
        let done = if rejected().next().is_none() { 0 } else { Code::Rejected.exit() };
        let exit = self.problems().first().map_or(done, exit_of);
        if report.is_json() {
            report.result_json(&self.json(asked, &all, &source_orphans, started))?;
        }
        self.say_problems(report)?;
        self.say_result(asked, report)?;
        Ok(exit)
    }

    fn nonportable(&self) -> impl Iterator<Item = &NonportableValues> {
        self.parts.iter().flat_map(|part| &part.profile).flat_map(|profile| &profile.nonportable)
    }

    /// The notices of an import; what was not checked is one of them.
    fn import_notices(&self, imported: &Imported) -> Vec<Notice> {
        let is_unchecked = |notice: &Notice| notice.kind == NoticeKind::NotChecked;
        let (unchecked, mut others): (Vec<Notice>, Vec<Notice>) =
            notices(imported).into_iter().partition(is_unchecked);
        let words = NoticeKind::NotChecked.words();
        let mut unchecked: Vec<&str> =
            unchecked.iter().map(|n| n.text.strip_prefix(words).unwrap_or(&n.text)).collect();
        let is_value = |p: &Problem| p.rows > 0 && p.code == Code::Value.word();
        if imported.problems.iter().any(is_value) {
            unchecked.push("whether the rows below conflict with rows of the target");
        }
        if !unchecked.is_empty() {
            let text = format!("{words}{}", unchecked.join("; "));
            others.push(Notice::new(NoticeKind::NotChecked, text));
        }
        others
    }

    /// Prints every problem with its remedy, and behind the causes what follows from them.
    fn say_problems(&self, report: &Report) -> Result<()> {
        let problems = self.problems();
        let causes = || problems.iter().enumerate().filter(|(_, p)| p.follows.is_none());
        let mut said = Vec::new();
        for (n, problem) in causes() {
            report.finding(Start::Error, &problem_line(problem, report.is_verbose()))?;
            if let Some(remedy) = &problem.remedy {
                report.finding(Start::Fix, remedy)?;
            }
            if causes().all(|(other, p)| other <= n || p.stream != problem.stream) {
                self.say_consequences(&problem.stream, &mut said, report)?;
            }
        }
        let others = problems.iter().filter_map(|p| p.follows.as_deref());
        others.into_iter().try_for_each(|parent| self.say_consequences(parent, &mut said, report))
    }

    /// Prints which rows are not loaded because rows of a stream are not.
    fn say_consequences<'a>(
        &'a self,
        parent: &'a str,
        said: &mut Vec<&'a str>,
        report: &Report,
    ) -> Result<()> {
        if said.contains(&parent) {
            return Ok(());
        }
        said.push(parent);
        for problem in self.problems().iter().filter(|p| p.follows.as_deref() == Some(parent)) {
            report.finding(Start::Note, &consequence(problem, parent, "skipped"))?;
            self.say_consequences(&problem.stream, said, report)?;
        }
        Ok(())
    }

    /// Prints the result, and what to type next.
    fn say_result(&self, asked: &Asked<'_>, report: &Report) -> Result<()> {
        let rows = rows_text(&self.rows());
        let size = HumanBytes(self.file_bytes());
        let count = self.problems().iter().filter(|p| p.follows.is_none()).count();
        let problems = show_count(count as u64, "problems");
        let verdict = match (asked.target, count) {
            (None, _) => "OK".to_owned(),
            (Some(target), 0) => format!("an import into {target} would succeed"),
            (Some(target), 1) => format!("{problems} stops an import into {target}"),
            (Some(target), _) => format!("{problems} stop an import into {target}"),
        };
        let form = match self.parts.len() {
            1 => "an archive".to_owned(),
            several => show_count(several as u64, "archives"),
        };
        report.result(&format!("{verdict}: {rows} (about {size} as {form})"))?;
        let orphans = self.source.as_ref().map_or(&[][..], |(_, orphans)| orphans);
        for (status, location) in
            self.parts.iter().flat_map(|part| &part.status).zip(asked.source())
        {
            let lines = status::lines(status, &location.to_string(), orphans);
            lines.iter().try_for_each(|line| report.result(line))?;
        }
        match &self.hint {
            None => Ok(()),
            Some(hint) => report.finding(Start::Hint, hint),
        }
    }

    fn json(
        &self,
        asked: &Asked<'_>,
        notices: &[Notice],
        source_orphans: &[Orphans],
        started: Instant,
    ) -> serde_json::Value {
        // null without a target
        let of_import = |all: Vec<serde_json::Value>| asked.target.is_some().then_some(all);
        let stream = |s: &crate::plan::StreamPlan| json!({"stream": s.name(), "table": s.table_name(), "columns": s.lines()});
        let plan = self.imported().flat_map(|imported| &imported.plan.streams).map(stream);
        let orphans: Vec<&Orphans> = match asked.target {
            Some(_) => self.imported().flat_map(|imported| &imported.stats.orphans).collect(),
            None => source_orphans.iter().collect(),
        };
        let archives: Vec<serde_json::Value> = (self.parts.iter())
            .filter(|_| self.source.is_none())
            .map(|part| json!({"archive": part.name, "digest": shown_digest(&part.sealed.digest)}))
            .collect();
        json!({
            "command": "check",
            "target": asked.target.map(ToString::to_string),
            "clean": self.problems().is_empty(),
            "hint": self.hint,
            "archives": archives,
            "rows": rows_object(&self.rows()),
            "bytes": self.parts.iter().map(|part| part.sealed.manifest.bytes).sum::<u64>(),
            "compressed_bytes": self.file_bytes(),
            "plan": of_import(plan.collect()),
            "problems": self.problems(),
            "rejected": of_import(self.imported().flat_map(|i| &i.rejected).map(|r| json!(r)).collect()),
            "changes": of_import(self.imported().flat_map(|i| &i.changes).map(|c| json!(c)).collect()),
            "orphans": orphans,
            "status": self.parts.iter().find_map(|part| part.status.as_ref()),
            "nonportable": asked.target.is_none().then(|| self.nonportable().collect::<Vec<_>>()),
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        })
    }
}

/// A problem in one line: the number of rows, what is wrong with them, and the first keys; with `-v` more of them.
fn problem_line(problem: &Problem, verbose: bool) -> String {
    let (place, reason) = (place(problem), &problem.reason);
    if problem.rows == 0 {
        return format!("{place}: {reason}");
    }
    let rows = show_count(problem.rows, "rows");
    let shown = if verbose { KEYS } else { SAMPLES };
    let keys: Vec<&str> = problem.keys.iter().take(shown).map(String::as_str).collect();
    let more = if problem.rows > keys.len() as u64 { ", …" } else { "" };
    let key = if problem.rows == 1 { "key" } else { "keys" };
    format!("{place}: {rows}: {reason} ({key} {}{more})", keys.join(", "))
}

/// The exit code of the error that a problem would be.
fn exit_of(problem: &Problem) -> u8 {
    let code = Code::ALL.into_iter().find(|code| code.word() == problem.code);
    code.unwrap_or(Code::Internal).exit()
}
