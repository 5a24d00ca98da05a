//! `diff`: two archives or databases, and what is different.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::args::DiffArgs;
use super::import::open;
use super::locate;
use super::report::Report;
use crate::archive_part::open_part;
use crate::cancel::Cancel;
use crate::diff::{
    CompareOptions, Compared, ComparedStream, Difference, DifferenceKind, Side, compare,
};
use crate::error::{Code, Error, Result};
use crate::layout::{self, Layout};
use crate::location::{Environment, Location};
use crate::notice::{Notice, NoticeKind};
use crate::policy::AssumeZone;
use crate::progress::Progress;
use crate::selection::Selection;
use crate::source::SourceOptions;
use chronicle_archive::{show_count, show_number, show_path, show_text};

/// Compares the two; `command` is what was typed, as the result has it.
pub(super) async fn run(
    args: &DiffArgs,
    command: &str,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let options = CompareOptions {
        assume_zone: args
            .assume_tz
            .as_deref()
            .map(AssumeZone::parse)
            .transpose()?
            .unwrap_or_default(),
        ignore: args.ignore.clone(),
        more_in_b: false,
    };
    let selection = args.selection.selection(args.assume_tz.as_deref())?;
    if args.a == "-" && args.b == "-" {
        return Err(Error::new(Code::Usage, "only one of the two can be stdin")
            .hint("name the other one as a file or a database"));
    }
    let [a, b] = [&args.a, &args.b].map(|text| Place::find(text, environment, report));
    let (a, b) = (a?, b?);
    let [layout_a, layout_b] = layouts(args.layout.as_deref(), [&a, &b])?;
    let progress = Progress::default();
    let mut shown = ShownDifferences::at_most(if args.summary { 0 } else { args.limit });
    let mut watch = Some(report.watch(&progress));
    let compared = async {
        let asked = (&selection, None);
        let (mut side_b, notices_b) = b.open(layout_b, asked, &progress, cancel).await?;
        // a restore of a part is about that part of the target
        let part = side_b.filters().filter(|_| command == "restore");
        let part = part.map(Selection::of_filters).transpose()?;
        let asked = (&selection, part.as_ref());
        let (mut side_a, notices_a) = a.open(layout_a, asked, &progress, cancel).await?;
        shown.notices = [notices_a, notices_b].concat();
        let report_difference = &mut |difference: Difference| {
            // progress is not drawn between printed lines
            drop(watch.take());
            shown.add(difference, report)
        };
        let sides = (side_a.as_mut(), side_b.as_mut());
        let compared =
            compare(sides.0, sides.1, &options, report_difference, &progress, cancel).await?;
        for (side, place) in [(&side_a, &a), (&side_b, &b)] {
            shown.notices.extend(side.left_out().into_iter().map(|notice| notice.at(place)));
        }
        Ok::<Compared, Error>(compared)
    }
    .await;
    drop(watch);
    let compared = compared?;
    say(&compared, command, [&a, &b], shown, (started, report))?;
    Ok(if compared.is_equal() { 0 } else { Code::Different.exit() })
}

/// The layouts that `--layout` gives the two: each database of the layout's kind has it.
fn layouts(text: Option<&str>, places: [&Place; 2]) -> Result<[Option<Layout>; 2]> {
    let Some(text) = text else { return Ok([None, None]) };
    let pick = |place: &Place| match place {
        Place::Database(location) => layout::pick(text, location.backend()).map(Some),
        Place::Stdin | Place::Archive(_) => Ok(None),
    };
    match places.map(pick) {
        [Ok(None), Ok(None)] => {
            Err(Error::new(Code::Usage, "--layout is for databases, and both are archives"))
        }
        [Ok(Some(layout)), b] => Ok([Some(layout), b.unwrap_or_default()]),
        [a, Ok(Some(layout))] => Ok([a.unwrap_or_default(), Some(layout)]),
        [Err(e), _] | [_, Err(e)] => Err(e),
    }
}

/// Where one of the two is.
pub(super) enum Place {
    Stdin,
    Archive(PathBuf),
    Database(Location),
}

impl Place {
    /// A file is what it holds, whatever it is called; a pipe can only be an archive.
    pub(super) fn find(
        text: &str,
        environment: &Environment<'_>,
        report: &Report,
    ) -> Result<Place> {
        if text == "-" {
            return Ok(Place::Stdin);
        }
        let location = locate(text, environment, report)?;
        match &location {
            Location::Sqlite(path) if !text.starts_with("sqlite:") => match Content::of(path) {
                Content::Archive => Ok(Place::Archive(path.clone())),
                Content::Database => Ok(Place::Database(location)),
                Content::Other => Err(Error::new(
                    Code::NotAnArchive,
                    format!("{location}: neither an archive nor a SQLite database"),
                )
                .hint("give an archive, a .db file or a postgresql:// URL")),
            },
            _ => Ok(Place::Database(location)),
        }
    }

    /// Opens it, or what is asked for of it, of a database only what is in a part; also gives what people should know about
    /// it.
    async fn open(
        &self,
        layout: Option<Layout>,
        (asked, part): (&Selection, Option<&Selection>),
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<(Box<dyn Side>, Vec<Notice>)> {
        let path = match self {
            Place::Database(location) => {
                // sorted, so that equal rows of the two arrive together
                let selections = part.into_iter().chain([asked]).cloned().collect();
                let options =
                    SourceOptions { sorted: true, layout, selections, ..SourceOptions::default() };
                let source = location.open_source(options, cancel).await?;
                let notices = source.notices().iter().map(|n| n.clone().at(location)).collect();
                return Ok((Box::new(source), notices));
            }
            Place::Stdin => None,
            Place::Archive(path) => Some(path.as_path()),
        };
        // of two sides, neither's bytes say how far the whole has come
        let input = open(path, &Progress::default())?;
        let own = Progress { rows: progress.rows.clone(), ..Progress::default() };
        let archive = open_part(self.to_string(), input, asked, &own, cancel).await?;
        let notices = archive.notices().into_iter().map(|n| n.at(self)).collect();
        Ok((Box::new(archive), notices))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Stdin => f.write_str("stdin"),
            Place::Archive(path) => f.write_str(&show_path(path.display())),
            Place::Database(location) => write!(f, "{location}"),
        }
    }
}

/// What a file holds, by its first bytes.
enum Content {
    Archive,
    Database,
    Other,
}

impl Content {
    fn of(path: &Path) -> Content {
        match std::fs::metadata(path) {
            Ok(data) if data.is_file() => {}
            // a pipe gives its bytes only once, and no database comes through one
            Ok(data) if !data.is_dir() => return Content::Archive,
            // opening it reports what is wrong
            _ => return Content::Database,
        }
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
        match &*start {
            b"SQLite format 3\0" => Content::Database,
            // a frame of zstd, a skippable one, a bare line
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] | [b'{', ..] => {
                Content::Archive
            }
            _ if read.is_err() => Content::Database,
            _ => Content::Other,
        }
    }
}

/// The differences that were found, of which the first are shown.
#[derive(Default)]
pub(super) struct ShownDifferences {
    /// The most of each stream.
    pub(super) limit: u64,
    /// Notices about the two sides.
    notices: Vec<Notice>,
    /// How many there were of each stream, shown or not.
    seen: BTreeMap<String, u64>,
    /// Those of the JSON result.
    pub(super) json: BTreeMap<String, Vec<serde_json::Value>>,
}

impl ShownDifferences {
    /// No differences yet, and at most `limit` shown of each stream.
    pub(super) fn at_most(limit: u64) -> ShownDifferences {
        ShownDifferences { limit, ..ShownDifferences::default() }
    }

    pub(super) fn add(&mut self, difference: Difference, report: &Report) -> Result<()> {
        let seen = self.seen.entry(difference.stream.clone()).or_default();
        *seen += 1;
        if *seen > self.limit {
            return Ok(());
        }
        report.result(&line(&difference))?;
        if report.is_json() {
            let (stream, object) = (difference.stream.clone(), as_json(difference));
            self.json.entry(stream).or_default().push(object);
        }
        Ok(())
    }

    /// How many of a stream were not shown.
    pub(super) fn left_out(&self, stream: &str) -> u64 {
        self.seen.get(stream).map_or(0, |seen| seen.saturating_sub(self.limit))
    }
}

/// A difference as one line.
fn line(difference: &Difference) -> String {
    let Difference { stream, key, kind } = difference;
    match kind {
        DifferenceKind::OnlyA => format!("- {stream} {key}"),
        DifferenceKind::OnlyB => format!("+ {stream} {key}"),
        DifferenceKind::Changed(columns) => {
            let columns: Vec<String> = columns
                .iter()
                .map(|c| format!("{}: {} -> {}", show_text(&c.column), c.a, c.b))
                .collect();
            format!("~ {stream} {key}: {}", columns.join("; "))
        }
    }
}

fn as_json(difference: Difference) -> serde_json::Value {
    let (kind, columns) = match difference.kind {
        DifferenceKind::OnlyA => ("only_a", Vec::new()),
        DifferenceKind::OnlyB => ("only_b", Vec::new()),
        DifferenceKind::Changed(columns) => ("changed", columns),
    };
    json!({ "kind": kind, "key": difference.key, "columns": columns })
}

fn say(
    compared: &Compared,
    command: &str,
    [a, b]: [&Place; 2],
    mut shown: ShownDifferences,
    (started, report): (Instant, &Report),
) -> Result<()> {
    let notices = [std::mem::take(&mut shown.notices), notices(compared)].concat();
    notices.iter().for_each(|n| report.notice(n));
    if report.is_json() {
        let streams: Vec<serde_json::Value> = (compared.streams.iter())
            .map(|s| stream_json(s, shown.json.remove(&s.stream).unwrap_or_default()))
            .collect();
        report.result_json(&json!({
            "command": command,
            "a": a.to_string(),
            "b": b.to_string(),
            "equal": compared.is_equal(),
            "streams": streams,
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        }))?;
    }
    for stream in &compared.streams {
        let left_out = shown.left_out(&stream.stream);
        if left_out > 0 && shown.limit > 0 {
            report.result(&format!(
                "… {}: {} (--limit N shows N)",
                stream.stream,
                show_count(left_out, "more differences")
            ))?;
        }
    }
    for stream in &compared.streams {
        report.result(&summary(stream))?;
    }
    let verdict = if compared.is_equal() { "equal" } else { "different" };
    report.result(&format!("{verdict}: A is {a}, B is {b}"))
}

/// The result of a stream, in one line.
fn summary(stream: &ComparedStream) -> String {
    let mut parts = vec![show_count(stream.equal_rows, "equal")];
    if stream.changed_rows > 0 {
        let columns: Vec<String> = stream
            .changed_columns
            .iter()
            .map(|(name, rows)| format!("{} in {}", show_number(*rows), show_text(name)))
            .collect();
        let changed = show_count(stream.changed_rows, "changed");
        parts.push(format!("{changed} ({})", columns.join(", ")));
    }
    for (rows, side) in [(stream.only_a_rows, "A"), (stream.only_b_rows, "B")] {
        if rows > 0 {
            parts.push(show_count(rows, &format!("only in {side}")));
        }
    }
    format!("{}: {}", stream.stream, parts.join(", "))
}

fn stream_json(stream: &ComparedStream, differences: Vec<serde_json::Value>) -> serde_json::Value {
    let changed: serde_json::Map<_, _> =
        stream.changed_columns.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect();
    json!({
        "stream": stream.stream,
        "equal_rows": stream.equal_rows,
        "changed_rows": stream.changed_rows,
        "only_a_rows": stream.only_a_rows,
        "only_b_rows": stream.only_b_rows,
        "changed_columns": changed,
        "only_a_columns": stream.only_a_columns,
        "only_b_columns": stream.only_b_columns,
        "differences": differences,
    })
}

/// What was not compared, and the option that helps.
fn notices(compared: &Compared) -> Vec<Notice> {
    let mut notices = Vec::new();
    for s in &compared.streams {
        match s.present {
            [true, false] => notices.push(no_stream("B", &s.stream)),
            [false, true] => notices.push(no_stream("A", &s.stream)),
            _ => {}
        }
        for (side, columns) in [("A", &s.only_a_columns), ("B", &s.only_b_columns)] {
            if !columns.is_empty() {
                let text =
                    format!("{}: not compared, only in {side}: {}", s.stream, names(columns));
                notices.push(Notice::new(NoticeKind::OneSidedColumns, text));
            }
        }
        if !s.zoneless_columns.is_empty() {
            let (stream, columns) = (&s.stream, names(&s.zoneless_columns));
            let text = format!(
                "{stream}: local times without a zone in {columns}; name it, e.g. --assume-tz \
                 Europe/Berlin"
            );
            notices.push(Notice::new(NoticeKind::LocalTimes, text));
        }
    }
    notices
}

fn no_stream(side: &str, stream: &str) -> Notice {
    Notice::new(NoticeKind::OneSidedStream, format!("{stream}: {side} has no such stream"))
}

fn names(columns: &[String]) -> String {
    columns.iter().map(|name| show_text(name)).collect::<Vec<_>>().join(", ")
}
