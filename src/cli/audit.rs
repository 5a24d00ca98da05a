//! `verify --against`: whether an archive's rows are in a database as an import loads them.

use serde_json::json;

use super::args::VerifyArgs;
use super::diff::ShownDifferences;
use super::report::Report;
use crate::archive_input::ArchiveInput;
use crate::audit::{AsLoaded, AsStored, share_tables};
use crate::cancel::Cancel;
use crate::diff::{CompareOptions, Compared, ComparedStream, compare};
use crate::error::{Code, Error, Result};
use crate::layout::{self, Layout};
use crate::load::{Target, TargetOptions};
use crate::location::Location;
use crate::notice::Notice;
use crate::progress::Progress;
use crate::source::SourceOptions;
use crate::verify::Verified;
use chronicle_archive::Limits;
use chronicle_archive::{show_count, show_number, show_text};

/// The result.
pub(super) struct Against {
    database: String,
    compared: Compared,
    left_out: Vec<u64>,
    notices: Vec<Notice>,
    shown: ShownDifferences,
}

/// Reads an archive and a database to their ends and compares them.
pub(super) async fn against(
    args: &VerifyArgs,
    location: &Location,
    name: String,
    input: Box<dyn std::io::Read + Send>,
    progress: &Progress,
    report: &Report,
    cancel: &Cancel,
) -> Result<(Verified, Against)> {
    let (limits, digests) = (Limits::default(), args.row_digests);
    let archive_input =
        ArchiveInput::open_with(name, input, limits, digests, progress, cancel).await?;
    let mut loaded = plan(args, location, archive_input, cancel).await?;
    let reading = SourceOptions {
        sorted: true,
        as_stored: true,
        layout: layout_of(args, location)?,
        ..SourceOptions::default()
    };
    if loaded.needs_parents() {
        loaded.read_parents(location.open_source(reading.clone(), cancel).await?, cancel).await?;
    }
    let source = location.open_source(reading, cancel).await?;
    let notices = source.notices().to_vec();
    let mut stored = AsStored::new(source, loaded.plan());
    let mut shown = ShownDifferences::at_most(args.limit);
    let options = CompareOptions { more_in_b: true, ..CompareOptions::default() };
    let report_difference = &mut |difference| shown.add(difference, report);
    let mut compared =
        compare(&mut loaded, &mut stored, &options, report_difference, progress, cancel).await?;
    share_tables(&mut compared, loaded.plan());
    let (archive, sealed) = loaded.archive();
    let sealed = sealed.cloned().ok_or_else(|| Error::new(Code::Internal, "no end was seen"))?;
    let verified = Verified {
        header: archive.header.clone(),
        streams: archive.streams.clone(),
        sealed,
        row_digests: archive.row_digests.clone(),
        undecoded: Vec::new(),
    };
    let (database, left_out) = (location.to_string(), loaded.left_out().to_vec());
    Ok((verified, Against { database, compared, left_out, notices, shown }))
}

/// The layout that `--layout` names.
fn layout_of(args: &VerifyArgs, location: &Location) -> Result<Option<Layout>> {
    args.layout.as_deref().map(|text| layout::pick(text, location.backend())).transpose()
}

/// Plans what an import would do; the target is let go of before anything is compared.
async fn plan(
    args: &VerifyArgs,
    location: &Location,
    archive_input: ArchiveInput,
    cancel: &Cancel,
) -> Result<AsLoaded> {
    let layout = layout_of(args, location)?;
    let opening = TargetOptions { layout, ..TargetOptions::default() };
    let opened = location.open_preflight(&opening, 0, cancel).await;
    let mut target = opened.map_err(|e| match e.code() {
        Code::NotFound => e.hint("--against takes an existing database"),
        _ => e,
    })?;
    let options = args.plan.options()?;
    let loaded = AsLoaded::new(archive_input, &mut target, options, cancel).await;
    Box::new(target).abort().await;
    loaded
}

impl Against {
    /// Prints the result; returns the exit code.
    pub(super) fn say(&self, report: &Report) -> Result<u8> {
        self.notices.iter().for_each(|notice| report.notice(notice));
        for stream in &self.compared.streams {
            let left_out = self.shown.left_out(&stream.stream);
            if left_out > 0 && self.shown.limit > 0 {
                report.result(&format!(
                    "… {}: {} (--limit N shows N)",
                    stream.stream,
                    show_count(left_out, "more differences")
                ))?;
            }
        }
        for (n, stream) in self.compared.streams.iter().enumerate() {
            report.result(&self.line(n, stream))?;
        }
        let matches = self.compared.b_holds_a();
        let verdict = if matches { "every row matches" } else { "rows are missing or changed" };
        report.result(&format!("{}: {verdict}", self.database))?;
        Ok(self.exit())
    }

    /// The exit code.
    pub(super) fn exit(&self) -> u8 {
        if self.compared.b_holds_a() { 0 } else { Code::Different.exit() }
    }

    fn left_out(&self, number: usize) -> u64 {
        self.left_out.get(number).copied().unwrap_or(0)
    }

    /// The result of a stream, in one line.
    fn line(&self, number: usize, stream: &ComparedStream) -> String {
        let verb = if stream.equal_rows == 1 { "matches" } else { "match" };
        let mut parts = vec![format!("{} {verb}", show_count(stream.equal_rows, "rows"))];
        if stream.changed_rows > 0 {
            let columns: Vec<String> = (stream.changed_columns.iter())
                .map(|(name, rows)| format!("{} in {}", show_number(*rows), show_text(name)))
                .collect();
            let changed = show_count(stream.changed_rows, "changed");
            parts.push(format!("{changed} ({})", columns.join(", ")));
        }
        for (rows, what) in [
            (stream.only_a_rows, "missing"),
            (stream.only_b_rows, "only in the database"),
            (self.left_out(number), "left out by an import"),
        ] {
            if rows > 0 {
                parts.push(show_count(rows, what));
            }
        }
        format!("{}: {}", stream.stream, parts.join(", "))
    }

    /// The same as JSON.
    pub(super) fn json(&mut self) -> serde_json::Value {
        let mut streams = Vec::new();
        for (n, s) in self.compared.streams.iter().enumerate() {
            let changed: serde_json::Map<_, _> =
                s.changed_columns.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect();
            streams.push(json!({
                "stream": s.stream,
                "equal_rows": s.equal_rows,
                "changed_rows": s.changed_rows,
                "missing_rows": s.only_a_rows,
                "extra_rows": s.only_b_rows,
                "left_out_rows": self.left_out(n),
                "changed_columns": changed,
                "differences": self.shown.json.remove(&s.stream).unwrap_or_default(),
            }));
        }
        json!({
            "database": self.database,
            "matches": self.compared.b_holds_a(),
            "streams": streams,
            "notices": self.notices,
        })
    }
}
