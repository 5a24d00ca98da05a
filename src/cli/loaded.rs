//! What was loaded, in words and as JSON: the results of an import and of a copy, and what other commands say in the same
//! words.

use std::time::Instant;

use serde_json::json;

use super::report::Report;
use super::summary;
use super::transfer_args::IntoArgs;
use crate::error::{Code, Result};
use crate::import::Imported;
use crate::load::{Problem, StreamStats};
use crate::location::Location;
use crate::notice::{Notice, NoticeKind};
use crate::plan::{Fate, Plan};
use crate::policy::OnOrphans;
use crate::source::Orphans;
use chronicle_archive::Index;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{show_count, show_number, show_path, singular};

/// Archives that were loaded.
pub(super) struct Loaded<'a> {
    /// What the results call them.
    pub(super) archives: &'a [String],
    /// What was done with each.
    pub(super) imported: &'a [Imported],
    /// The target.
    pub(super) location: &'a Location,
    /// What was asked for.
    pub(super) into: &'a IntoArgs,
    /// When the command began.
    pub(super) started: Instant,
}

impl Loaded<'_> {
    fn is_committed(&self) -> bool {
        self.imported.iter().all(|imported| imported.committed)
    }

    fn batch(&self) -> Option<uuid::Uuid> {
        self.imported.last().and_then(|imported| imported.batch)
    }

    /// Prints everything that there is to say before the result.
    pub(super) fn notes(&self, report: &Report) {
        report.batch(self.batch());
        let mut lines = Vec::new();
        for imported in self.imported {
            if self.into.dry_run {
                plan_lines(&imported.plan).iter().for_each(|line| report.notice(line));
            }
            lines.extend(about_archive(imported, self.into.plan.references.orphans, report));
        }
        lines.extend(batch_note(self.batch(), self.location));
        summary::print(lines, report);
        for (name, imported) in self.archives.iter().zip(self.imported) {
            if let Some(warning) = index_warning(imported.sealed.index) {
                let is_named = self.archives.len() > 1 && name != "-";
                report.notice(&if is_named { warning.at(show_path(name)) } else { warning });
            }
        }
    }

    /// The result of a command as JSON.
    pub(super) fn object(&self, command: &str) -> serde_json::Value {
        let imported = self.imported;
        let only = Some(imported).filter(|all| all.len() == 1).and_then(|all| all.first());
        json!({
            "command": command,
            "target": self.location.to_string(),
            "committed": self.is_committed(),
            "batch_id": self.batch(),
            "archive_id": only.map(|imported| &imported.archive_id),
            "digest": only.map(|imported| shown_digest(&imported.sealed.digest)),
            "archives": self.archives.iter().zip(imported).map(|(name, imported)| json!({
                "archive": name,
                "archive_id": imported.archive_id,
                "digest": shown_digest(&imported.sealed.digest),
                "streams": imported.stats.streams,
            })).collect::<Vec<_>>(),
            "streams": total(imported),
            "changes": imported.iter().flat_map(|i| &i.changes).collect::<Vec<_>>(),
            "rejected": imported.iter().flat_map(|i| &i.rejected).collect::<Vec<_>>(),
            "orphans": imported.iter().flat_map(|i| &i.stats.orphans).collect::<Vec<_>>(),
            "notices": imported.iter().flat_map(notices).collect::<Vec<_>>(),
            "seconds": self.started.elapsed().as_secs_f64(),
        })
    }

    /// The result in one sentence: what was done, or would be, and with what.
    pub(super) fn sentence(&self, [done, would]: [&str; 2], from: &str) -> String {
        let streams: Vec<String> = total(self.imported).iter().map(loaded_text).collect();
        let (verb, after) = match self.is_committed() {
            true => (done, ""),
            false => (would, "; nothing was changed (dry run)"),
        };
        format!("{verb} {} into {} from {from}{after}", streams.join(", "), self.location)
    }

    /// The exit code, once the result was printed or could not be.
    pub(super) fn finish(&self, said: Result<()>, done: &str, report: &Report) -> Result<u8> {
        report.said(said, self.is_committed().then_some(done))?;
        let is_complete = self.imported.iter().all(|imported| imported.rejected.is_empty());
        Ok(if is_complete { 0 } else { Code::Rejected.exit() })
    }
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
    let parts = [
        (loaded.deleted_rows, "", "deleted first"),
        (loaded.updated_rows, "", "updated"),
        (loaded.skipped_rows, "", "existed already"),
        (loaded.content_matched_rows, "", "met by content"),
        (loaded.conflicting_rows, "", "differ and were kept"),
        (loaded.matched_rows, "", "found under another key"),
        (loaded.skipped_orphans, "orphans", "left out"),
        (loaded.rejected_rows, "", "rejected"),
        (loaded.adopted_rows, "sessions", "created for orphans"),
    ];
    let number = |rows: u64, of: &str| match of {
        "" => show_number(rows),
        plural => show_count(rows, plural),
    };
    let parts = parts.into_iter().filter(|(rows, ..)| *rows > 0);
    let more: Vec<String> =
        parts.map(|(rows, of, what)| format!("{} {what}", number(rows, of))).collect();
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
