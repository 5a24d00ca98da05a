//! How a Chronicle stands: its sessions and events, the latest of them, and what is still open.

use super::statistics::instant;
use crate::layout::{EVENTS, SESSIONS, known_stream};
use chronicle_archive::time::Instant;
use chronicle_archive::{Batch, Stream, Value, show};

/// How many of the latest sessions are listed.
const LATEST: usize = 5;

/// What was counted in one reading.
#[derive(Debug, Default, serde::Serialize)]
pub struct Status {
    /// The server or library, and its version.
    pub server: Option<String>,
    /// All sessions.
    pub sessions: u64,
    /// Those without an end.
    pub open_sessions: u64,
    /// All events.
    pub events: u64,
    /// The time of the last event, as it is stored.
    pub last_event: Option<String>,
    /// The sessions that have begun last, the last one first.
    pub latest_sessions: Vec<LatestSession>,
    #[serde(skip)]
    last: Option<Instant>,
    #[serde(skip)]
    columns: Vec<StatusColumns>,
}

/// One of the latest sessions, with texts as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LatestSession {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: Option<String>,
    /// When it has begun.
    pub start: String,
    /// When it has ended, if it has.
    pub end: Option<String>,
    #[serde(skip)]
    at: Instant,
}

/// The columns of a stream that are looked at.
#[derive(Debug, Default)]
struct StatusColumns {
    is_session: bool,
    is_event: bool,
    id: Option<usize>,
    time: Option<usize>,
    end: Option<usize>,
    project: Option<usize>,
}

impl StatusColumns {
    fn of(stream: &Stream) -> StatusColumns {
        let known = known_stream(&stream.name);
        let role = known.map_or("", |known| known.role.0.as_str());
        StatusColumns {
            is_session: role == SESSIONS,
            is_event: role == EVENTS,
            id: stream.key.first().copied(),
            time: known.and_then(|known| known.time()).and_then(|name| stream.column(name)),
            end: stream.column("end_time"),
            project: stream.column("project_path"),
        }
    }
}

impl Status {
    /// Nothing is counted yet; None if there are no sessions among the streams.
    pub fn of(streams: &[Stream], server: Option<String>) -> Option<Status> {
        let columns: Vec<StatusColumns> = streams.iter().map(StatusColumns::of).collect();
        let any = columns.iter().any(|columns| columns.is_session);
        any.then(|| Status { server, columns, ..Status::default() })
    }

    /// Counts the rows of a batch.
    pub fn add(&mut self, batch: &Batch) {
        let columns = std::mem::take(&mut self.columns);
        if let Some(of) = columns.get(batch.stream()) {
            for row in 0..batch.rows() {
                if of.is_session {
                    self.add_session(of, batch, row);
                } else if of.is_event {
                    self.add_event(of, batch, row);
                }
            }
        }
        self.columns = columns;
    }

    fn add_session(&mut self, of: &StatusColumns, batch: &Batch, row: usize) {
        let value = |column: Option<usize>| column.map_or(Value::Null, |n| batch.value(row, n));
        let text = |column: Option<usize>| match value(column) {
            Value::Null | Value::Text(b"") => None,
            other => Some(plain(other)),
        };
        self.sessions += 1;
        self.open_sessions += u64::from(text(of.end).is_none());
        let Some(at) = instant(value(of.time)) else { return };
        let place = self.latest_sessions.partition_point(|other| other.at >= at);
        if place < LATEST {
            let session = LatestSession {
                id: plain(value(of.id)),
                project: text(of.project),
                start: plain(value(of.time)),
                end: text(of.end),
                at,
            };
            self.latest_sessions.insert(place, session);
            self.latest_sessions.truncate(LATEST);
        }
    }

    fn add_event(&mut self, of: &StatusColumns, batch: &Batch, row: usize) {
        self.events += 1;
        let time = of.time.map_or(Value::Null, |n| batch.value(row, n));
        if let Some(at) = instant(time)
            && self.last.is_none_or(|last| at >= last)
        {
            (self.last, self.last_event) = (Some(at), Some(plain(time)));
        }
    }
}

/// A value without quotes.
fn plain(value: Value<'_>) -> String {
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => show(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronicle_archive::{Column, Kind};

    #[test]
    fn the_latest_sessions_come_in_their_order() {
        let texts = ["id", "start_time", "end_time", "project_path"];
        let columns = texts.map(|name| Column::new(name, Kind::Text)).to_vec();
        let mut status = Status::of(&[Stream::new("sessions", columns)], None).unwrap();
        let mut batch = Batch::default();
        batch.start(0, 4, 1);
        for (n, day) in [3, 9, 1, 7, 5, 8, 2].into_iter().enumerate() {
            batch.push(Value::Text(format!("s{n}").as_bytes()));
            batch.push(Value::Text(format!("2025-08-0{day}T10:00:00").as_bytes()));
            batch.push(if n % 2 == 0 { Value::Null } else { Value::Text(b"2025-08-09") });
            batch.push(Value::Text(b"/p"));
        }
        (0..4).for_each(|_| batch.push(Value::Null));
        status.add(&batch);
        let ids: Vec<&str> = status.latest_sessions.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids, ["s1", "s5", "s3", "s4", "s0"]);
        assert_eq!((status.sessions, status.open_sessions, status.events), (8, 5, 0));
    }
}
