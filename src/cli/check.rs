//! `check`: everything that would stop or change an import, found without writing anything.

use std::io::{PipeWriter, Read};
use std::path::Path;
use std::time::Instant;

use indicatif::HumanBytes;
use serde_json::json;

use super::args::CheckArgs;
use super::export::{rows_object, rows_text};
use super::import::{archive_name, notices, open_archive, opening, plan_lines};
use super::locate;
use super::report::Report;
use super::summary::{self, Line};
use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, export};
use crate::import::{ImportOptions, Imported, Part, import};
use crate::layout;
use crate::load::Problem;
use crate::location::{Environment, Location};
use crate::profile::{Profile, profile};
use crate::progress::Progress;
use crate::source::{Orphans, Source, SourceOptions};
use chronicle_archive::show_count;
use chronicle_archive::{Limits, Sealed, WriterOptions};

/// What is looked at.
enum What {
    Archive(std::path::PathBuf),
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
            .hint("name the database that would be imported into: --to TARGET"));
    }
    let target = (args.to.as_deref())
        .map(|to| locate(to, args.password_file.as_deref(), environment, report))
        .transpose()?;
    let progress = Progress::default();
    let watch = report.watch(&progress);
    let checked = check(args, &what, target.as_ref(), &progress, report, cancel).await;
    drop(watch);
    checked?.say(target.as_ref(), started, report)
}

/// An archive by its first bytes, else a database.
fn what(args: &CheckArgs, environment: &Environment<'_>, report: &Report) -> Result<What> {
    let name = args.from.as_deref().or(args.what.as_deref()).unwrap_or("-");
    if args.from.is_none() && (name == "-" || is_archive(Path::new(name))) {
        if args.from_layout.is_some() {
            return Err(Error::new(Code::Usage, "--from-layout is for a database, not an archive")
                .hint("--layout FILE is for the target"));
        }
        return Ok(What::Archive(name.into()));
    }
    let location = locate(name, args.password_file.as_deref(), environment, report)?;
    Ok(What::Database(Box::new(location)))
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
    sealed: Sealed,
    /// The notices and orphans of a source that is a database.
    source: Option<(Vec<String>, Vec<Orphans>)>,
    profile: Option<Profile>,
    imported: Option<Imported>,
}

async fn check(
    args: &CheckArgs,
    what: &What,
    target: Option<&Location>,
    progress: &Progress,
    report: &Report,
    cancel: &Cancel,
) -> Result<Checked> {
    match what {
        What::Archive(path) => {
            let input = open_archive(Some(path), progress)?;
            let name = archive_name(path);
            read(args, name, input, target, progress, cancel).await
        }
        What::Database(location) => {
            // without a target, --layout can only mean the source
            let only = args.target.layout.as_deref().filter(|_| target.is_none());
            let layout = args.from_layout.as_deref().or(only);
            let layout = layout.map(|text| layout::pick(text, location.backend())).transpose()?;
            let reading = SourceOptions { sorted: true, layout, ..SourceOptions::default() };
            let source = location.open_source(reading, cancel).await?;
            let source_notices = source.notices().to_vec();
            source_notices.iter().for_each(|notice| report.notice(notice));
            let (out, input) = std::io::pipe()
                .map(|(input, out)| (out, input))
                .map_err(|e| Error::new(Code::Internal, "cannot create a pipe").because(e))?;
            let exported = write(source, out, cancel);
            let name = location.to_string();
            let read = read(args, name, Box::new(input), target, progress, cancel);
            let (exported, checked) = tokio::join!(exported, read);
            // if the reader has stopped, the writer has failed for that
            let mut checked = match (checked, exported) {
                (Err(e), Ok(_)) => return Err(e),
                (Err(e), Err(first)) if first.code() == Code::BrokenPipe => return Err(e),
                (_, Err(first)) => return Err(first),
                (Ok(checked), Ok(orphans)) => {
                    Checked { source: Some((source_notices, orphans)), ..checked }
                }
            };
            checked.sealed.index = chronicle_archive::Index::Good;
            Ok(checked)
        }
    }
}

/// Exports a source into a pipe, as an export would.
async fn write(source: Box<dyn Source>, out: PipeWriter, cancel: &Cancel) -> Result<Vec<Orphans>> {
    let options = ExportOptions {
        writer: WriterOptions { threads: 1, ..WriterOptions::default() },
        ..ExportOptions::default()
    };
    let (_, exported) = export(source, out, options, &Progress::default(), cancel).await?;
    Ok(exported.orphans)
}

/// Reads an archive as an import would.
async fn read(
    args: &CheckArgs,
    name: String,
    input: Box<dyn Read + Send>,
    target: Option<&Location>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Checked> {
    let mut archive_input =
        ArchiveInput::open(name, input, Limits::default(), progress, cancel).await?;
    let Some(location) = target else {
        let profile = profile(&mut archive_input, progress, cancel).await?;
        let sealed = profile.sealed.clone();
        return Ok(Checked { sealed, source: None, profile: Some(profile), imported: None });
    };
    let options = ImportOptions { plan: args.plan.options()?, ..ImportOptions::default() };
    let opening = opening(&args.target, &args.load, location)?;
    let target = Box::new(location.open_preflight(&opening, cancel).await?);
    let parts = vec![Part::opened(String::new(), archive_input)];
    let imported = import(parts, target, options, progress, cancel).await?.pop();
    let sealed = imported.as_ref().map(|imported| imported.sealed.clone());
    let sealed = sealed.ok_or_else(|| Error::new(Code::Internal, "nothing was checked"))?;
    Ok(Checked { sealed, source: None, profile: None, imported })
}

impl Checked {
    fn problems(&self) -> &[Problem] {
        self.imported.as_ref().map_or(&[], |imported| &imported.problems)
    }

    /// Says everything; the exit code is that of the first thing that would stop an import.
    fn say(&self, target: Option<&Location>, started: Instant, report: &Report) -> Result<u8> {
        let (source_notices, source_orphans) = self.source.clone().unwrap_or_default();
        for orphans in &source_orphans {
            report.notice(&orphans.sentence());
        }
        let mut all = source_notices;
        if let Some(imported) = &self.imported {
            let import_notices = notices(imported);
            plan_lines(&imported.plan).iter().for_each(|line| report.notice(line));
            let orphans = imported.stats.orphans.iter().map(|o| Line::Note(o.sentence()));
            let changes = summary::changes(&imported.changes, report.is_verbose());
            let notes = import_notices.iter().cloned().map(Line::Note);
            let lines: Vec<Line> = orphans.chain(changes).chain(notes).collect();
            summary::print(&lines, report);
            all.extend(import_notices);
        }
        for found in self.profile.iter().flat_map(|profile| &profile.nonportable) {
            report.notice(&format!(
                "{}: column \"{}\": {} of class {} that plain JSON cannot express, the first in the \
                 row with key {}",
                found.stream,
                found.column,
                show_count(found.values, "values"),
                found.class,
                found.first_key
            ));
        }
        let rejected = self.imported.as_ref().map_or(&[][..], |imported| &imported.rejected);
        for left_out in rejected {
            report.notice(&format!(
                "{}: {} would be left out: {}",
                left_out.stream,
                show_count(left_out.rows, "rows"),
                left_out.reason
            ));
        }
        let done = if rejected.is_empty() { 0 } else { Code::Rejected.exit() };
        let exit = self.problems().first().map_or(done, exit_of);
        if report.is_json() {
            report.result_json(&self.json(target, &all, &source_orphans, started))?;
        } else {
            self.say_problems(report)?;
            let rows = rows_text(&self.sealed.manifest.rows);
            let size = HumanBytes(self.sealed.file_bytes);
            let verdict = match (target, self.problems().len()) {
                (None, _) => "OK".to_owned(),
                (Some(target), 0) => format!("an import into {target} would succeed"),
                (Some(target), 1) => format!("1 problem stops an import into {target}"),
                (Some(target), n) => format!("{n} problems stop an import into {target}"),
            };
            report.result(&format!("{verdict}: {rows} (about {size} as an archive)"))?;
        }
        Ok(exit)
    }

    fn say_problems(&self, report: &Report) -> Result<()> {
        for problem in self.problems() {
            let column = problem.column.as_ref();
            let rows = match problem.rows {
                0 => String::new(),
                rows => format!(
                    " ({}: {}{})",
                    show_count(rows, "rows"),
                    problem.samples.join(", "),
                    if rows > problem.samples.len() as u64 { ", …" } else { "" }
                ),
            };
            report.finding(&format!(
                "{}{}: {}{rows}",
                problem.stream,
                column.map_or_else(String::new, |c| format!(": column \"{c}\"")),
                problem.reason,
            ))?;
            if let Some(remedy) = &problem.remedy {
                report.finding(&format!("  fix: {remedy}"))?;
            }
        }
        Ok(())
    }

    fn json(
        &self,
        target: Option<&Location>,
        notices: &[String],
        source_orphans: &[Orphans],
        started: Instant,
    ) -> serde_json::Value {
        let imported = self.imported.as_ref();
        let plan: Option<Vec<_>> = imported.map(|imported| {
            let stream = |s: &crate::plan::StreamPlan| {
                json!({"stream": s.name(), "table": s.table_name(), "columns": s.lines()})
            };
            imported.plan.streams.iter().map(stream).collect()
        });
        json!({
            "command": "check",
            "target": target.map(ToString::to_string),
            "clean": self.problems().is_empty(),
            "rows": rows_object(&self.sealed.manifest.rows),
            "bytes": self.sealed.manifest.bytes,
            "compressed_bytes": self.sealed.file_bytes,
            "plan": plan,
            "problems": self.problems(),
            "rejected": imported.map(|i| &i.rejected),
            "changes": imported.map(|i| &i.changes),
            "orphans": imported.map_or(source_orphans, |i| &i.stats.orphans),
            "nonportable": self.profile.as_ref().map(|profile| &profile.nonportable),
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        })
    }
}

/// The exit code of the error that a problem would be.
fn exit_of(problem: &Problem) -> u8 {
    let code = Code::ALL.into_iter().find(|code| code.word() == problem.code);
    code.unwrap_or(Code::Internal).exit()
}
