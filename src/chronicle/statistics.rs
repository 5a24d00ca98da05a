//! What the rows of an archive say of the use of Chronicle, from one reading in memory with a limit.

use std::io::Read;

use super::days::Days;
use super::frequent::Frequent;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::layout::known_stream;
use crate::progress::Progress;
use crate::verify::{Verified, verify_with};
use chronicle_archive::json::{Scanner, member, read_string};
use chronicle_archive::time::{Instant, ZoneRule, read_text_floor};
use chronicle_archive::write::writer::time_column;
use chronicle_archive::{Batch, Limits, Stream, Value, show};

/// The name of a tool: a column, or a member of the payload.
const TOOL: &str = "tool_name";
/// The columns with payloads.
const PAYLOADS: [&str; 2] = ["data", "metadata"];

/// What was counted. What no stream of the archive has is `None`.
#[derive(Debug, Default)]
pub struct Statistics {
    /// The rows of every stream by day, in the order of the archive.
    pub streams: Vec<StreamDays>,
    /// The projects of sessions.
    pub projects: Option<Frequent>,
    /// The tools of events.
    pub tools: Option<Frequent>,
    /// The types of events.
    pub event_types: Option<Frequent>,
    /// The sessions, and those of them that have no end.
    pub open_sessions: Option<OpenSessions>,
    columns: Vec<Columns>,
    scanner: Scanner,
}

/// The rows of a stream by day.
#[derive(Debug)]
pub struct StreamDays {
    /// The stream.
    pub stream: String,
    /// The column with the time of a row, if there is one.
    pub column: Option<String>,
    /// The rows; days are those of UTC, and those of the local time where a row has no zone.
    pub days: Days,
}

/// Sessions with and without an end.
#[derive(Debug, Default, Clone, Copy)]
pub struct OpenSessions {
    /// All sessions.
    pub sessions: u64,
    /// Those without an end.
    pub open: u64,
}

/// The columns of a stream that are looked at.
#[derive(Debug, Default)]
struct Columns {
    time: Option<usize>,
    project: Option<usize>,
    end: Option<usize>,
    event_type: Option<usize>,
    tool: Option<usize>,
    /// The payload that names the tool, if no column does.
    payload: Option<usize>,
}

impl Columns {
    fn of(stream: &Stream) -> Columns {
        let known = known_stream(&stream.name);
        let time = known.and_then(|known| known.time()).and_then(|name| stream.column(name));
        let time = time.or_else(|| time_column(stream));
        match known.map(|known| known.role.0.as_str()) {
            Some("sessions") => Columns {
                time,
                project: stream.column("project_path"),
                end: stream.column("end_time"),
                ..Columns::default()
            },
            Some("events") => {
                let tool = stream.column(TOOL);
                let payload = PAYLOADS.iter().find_map(|name| stream.column(name));
                Columns {
                    time,
                    event_type: stream.column("event_type"),
                    tool,
                    payload: payload.filter(|_| tool.is_none()),
                    ..Columns::default()
                }
            }
            _ => Columns { time, ..Columns::default() },
        }
    }
}

/// Reads an archive to its end, checks everything as [`crate::verify::verify`] does, and counts.
///
/// # Errors
/// The first thing that is wrong, or a stop.
pub fn count(
    input: impl Read + Send + 'static,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Verified, Statistics)> {
    let start = |streams: &[Stream], unknown: &[bool]| Statistics::of(streams, unknown);
    verify_with(input, Limits::default(), false, progress, cancel, start, Statistics::add)
}

impl Statistics {
    /// Nothing is counted yet. Of a stream with an `unknown` kind, rows cannot be read.
    fn of(streams: &[Stream], unknown: &[bool]) -> Statistics {
        let mut statistics = Statistics::default();
        for (n, stream) in streams.iter().enumerate() {
            let columns = match unknown.get(n) {
                Some(true) => Columns::default(),
                _ => Columns::of(stream),
            };
            let counted = |column: Option<usize>, counts: &mut Option<Frequent>| {
                if column.is_some() && counts.is_none() {
                    *counts = Some(Frequent::default());
                }
            };
            counted(columns.project, &mut statistics.projects);
            counted(columns.event_type, &mut statistics.event_types);
            counted(columns.tool.or(columns.payload), &mut statistics.tools);
            if columns.end.is_some() {
                statistics.open_sessions.get_or_insert_default();
            }
            let column = columns.time.map(|time| stream.columns[time].name.clone());
            let (stream, days) = (stream.name.clone(), Days::default());
            statistics.streams.push(StreamDays { stream, column, days });
            statistics.columns.push(columns);
        }
        statistics
    }

    /// Counts the rows of a batch.
    fn add(&mut self, batch: &Batch) {
        let (Some(columns), Some(stream)) =
            (self.columns.get(batch.stream()), self.streams.get_mut(batch.stream()))
        else {
            return;
        };
        for row in 0..batch.rows() {
            if let Some(time) = columns.time {
                stream.days.add(instant(batch.value(row, time)));
            }
            add_value(&mut self.projects, columns.project.map(|column| batch.value(row, column)));
            let event_type = columns.event_type.map(|column| batch.value(row, column));
            add_value(&mut self.event_types, event_type);
            add_value(&mut self.tools, columns.tool.map(|column| batch.value(row, column)));
            if let (Some(payload), Some(tools)) = (columns.payload, &mut self.tools) {
                match tool(&mut self.scanner, batch.value(row, payload)) {
                    Some(tool) => tools.add(&tool),
                    None => tools.add_none(),
                }
            }
            if let (Some(end), Some(counted)) = (columns.end, &mut self.open_sessions) {
                let is_open = matches!(batch.value(row, end), Value::Null | Value::Text(b""));
                counted.sessions += 1;
                counted.open += u64::from(is_open);
            }
        }
    }
}

/// Counts a value of a column, if there is such a column.
fn add_value(counts: &mut Option<Frequent>, value: Option<Value<'_>>) {
    let (Some(counts), Some(value)) = (counts, value) else { return };
    match value {
        Value::Null => counts.add_none(),
        Value::Text(text) => counts.add(text),
        other => counts.add(show(other).as_bytes()),
    }
}

/// The instant of a time, or of a text that is one; without a zone as if it were UTC, so that its day is
/// the one that was written.
pub(super) fn instant(value: Value<'_>) -> Option<Instant> {
    match value {
        Value::Time(instant) => Some(instant),
        Value::Text(text) => {
            let midnight = || [text, b"T00:00"].concat();
            let read = read_text_floor(text, ZoneRule::Utc);
            read.or_else(|_| read_text_floor(&midnight(), ZoneRule::Utc)).ok()
        }
        _ => None,
    }
}

/// The tool that a payload names.
fn tool(scanner: &mut Scanner, payload: Value<'_>) -> Option<Vec<u8>> {
    let Value::Text(text) = payload else { return None };
    let place = member(scanner, text, TOOL)?;
    let value = text.get(place.value)?;
    let mut name = Vec::new();
    match read_string(value, &mut name) {
        Some(_) => Some(name),
        None => (value != b"null").then(|| value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_tool() {
        for (payload, expected) in [
            (r#"{"tool_name": "Bash", "x": {"tool_name": "no"}}"#, Some("Bash")),
            (r#"{"tool_name": "\u0042ash"}"#, Some("Bash")),
            (r#"{"tool_name": 12}"#, Some("12")),
            (r#"{"tool_name": null}"#, None),
            (r#"{"tool": "Bash"}"#, None),
            ("Bash", None),
            ("", None),
        ] {
            let found = tool(&mut Scanner::default(), Value::Text(payload.as_bytes()));
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{payload}");
        }
    }

    #[test]
    fn the_day_of_a_local_time_is_the_one_that_was_written() {
        for (text, same) in [
            ("2025-08-19T23:30:00", "2025-08-19T23:30:00Z"),
            ("2025-08-19 23:30:00-07:00", "2025-08-20T06:30:00Z"),
            ("2025-08-19", "2025-08-19T00:00:00Z"),
        ] {
            let expected = read_text_floor(same.as_bytes(), ZoneRule::Refuse).ok();
            assert_eq!(instant(Value::Text(text.as_bytes())), expected, "{text}");
        }
        assert_eq!(instant(Value::Text(b"now")), None);
        assert_eq!(instant(Value::Int(1_755_613_530)), None);
    }
}
