//! The part of the rows that a user asks for: what was typed, what a header keeps of it, and what values must be.

mod bound;
mod condition;

use std::collections::BTreeMap;

pub use bound::{Bound, Clock, Span};
pub use condition::{Condition, Narrowing, Test, all_accept};

use crate::error::{Code, Error, Result};
use chronicle_archive::Header;
use chronicle_archive::show_text;
use chronicle_archive::time::{ZoneRule, parse_zone};

/// What was asked for. Several values of one option mean any of them; several options mean all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Patterns of the sessions' projects.
    pub projects: Vec<String>,
    /// Sessions, by either of their ids.
    pub sessions: Vec<String>,
    /// Users of sessions, or of events where sessions have none.
    pub users: Vec<String>,
    /// Teams, likewise.
    pub teams: Vec<String>,
    /// Types of events.
    pub event_types: Vec<String>,
    /// The first moment wanted.
    pub since: Option<Bound>,
    /// The first moment not wanted any more.
    pub until: Option<Bound>,
    /// Values of columns.
    pub columns: Vec<ColumnValue>,
    /// The zone of times without one, in a row or in a bound where the other has one.
    pub zone: Option<String>,
}

/// A value that a column of a stream must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ColumnValue {
    /// The stream.
    pub stream: String,
    /// The logical name of the column.
    pub column: String,
    /// The value, as `cat` prints it; a text may lack its quotes.
    pub value: String,
}

impl ColumnValue {
    /// Reads `STREAM.COLUMN=VALUE`.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<ColumnValue> {
        let parts = text.split_once('=').and_then(|(name, value)| {
            let (stream, column) = name.split_once('.')?;
            let named = !stream.is_empty() && !column.is_empty();
            named.then(|| ColumnValue {
                stream: stream.to_owned(),
                column: column.to_owned(),
                value: value.to_owned(),
            })
        });
        parts.ok_or_else(|| {
            Error::new(Code::Usage, format!("--where {}: not a condition", show_text(text)))
                .hint("give STREAM.COLUMN=VALUE, such as --where events.tool_name=Bash")
        })
    }
}

impl std::fmt::Display for ColumnValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}={}", self.stream, self.column, self.value)
    }
}

// the names of the filters in a header, which are those of the options
const PROJECT: &str = "project";
const SESSION: &str = "session";
const USER: &str = "user";
const TEAM: &str = "team";
const EVENT_TYPE: &str = "event-type";
const SINCE: &str = "since";
const UNTIL: &str = "until";
const WHERE: &str = "where";
const ZONE: &str = "assume-tz";

impl Selection {
    /// Whether everything is wanted.
    pub fn is_everything(&self) -> bool {
        *self == Selection { zone: self.zone.clone(), ..Selection::default() }
    }

    /// The selection as a header keeps it. Several values are a JSON array.
    pub fn filters(&self) -> BTreeMap<String, String> {
        let time = |bound: &Option<Bound>| bound.iter().map(|b| b.text.clone()).collect();
        let columns = self.columns.iter().map(ColumnValue::to_string).collect();
        let zone = self.zone.iter().filter(|_| self.has_times()).cloned().collect();
        let all: [(&str, Vec<String>); 9] = [
            (PROJECT, self.projects.clone()),
            (SESSION, self.sessions.clone()),
            (USER, self.users.clone()),
            (TEAM, self.teams.clone()),
            (EVENT_TYPE, self.event_types.clone()),
            (SINCE, time(&self.since)),
            (UNTIL, time(&self.until)),
            (WHERE, columns),
            (ZONE, zone),
        ];
        let given = all.into_iter().filter(|(_, values)| !values.is_empty());
        given.map(|(name, values)| (name.to_owned(), joined(values))).collect()
    }

    /// Whether the archive with this header has these rows and no others. To select them once more could leave some out:
    /// how long a session lasts may be told by events that are not among them.
    pub fn is_all_of(&self, header: &Header) -> bool {
        let named = || self.with_zone_of(header.source.time_zone.as_deref()).filters();
        self.is_everything() || header.filters.as_ref().is_some_and(|filters| *filters == named())
    }

    /// The selection that a header keeps.
    ///
    /// # Errors
    /// If it has a filter that this program does not know.
    pub fn of_filters(filters: &BTreeMap<String, String>) -> Result<Selection> {
        let mut selection = Selection::default();
        for (name, text) in filters {
            let values = split(text);
            let bound = || values.first().map(|value| Bound::absolute(value)).transpose();
            match name.as_str() {
                PROJECT => selection.projects = values,
                SESSION => selection.sessions = values,
                USER => selection.users = values,
                TEAM => selection.teams = values,
                EVENT_TYPE => selection.event_types = values,
                SINCE => selection.since = bound()?,
                UNTIL => selection.until = bound()?,
                WHERE => {
                    let parsed = values.iter().map(|value| ColumnValue::parse(value));
                    selection.columns = parsed.collect::<Result<_>>()?;
                }
                ZONE => selection.zone = values.into_iter().next(),
                _ => {
                    let what = format!("the filter \"{}\" is not known", show_text(name));
                    return Err(Error::new(Code::ArchiveUnsupported, what)
                        .hint("install a newer chronicle-dump"));
                }
            }
        }
        Ok(selection)
    }

    /// The selection as one would type it.
    pub fn typed(&self) -> String {
        filters_typed(&self.filters())
    }

    /// Whether sessions may depend on their events, which come behind them.
    pub fn may_need_two_passes(&self) -> bool {
        // users and teams may be known of events alone
        let of_events = [&self.event_types, &self.users, &self.teams];
        self.has_times() || !self.columns.is_empty() || of_events.iter().any(|all| !all.is_empty())
    }

    /// The same selection, whose zone is named where it is that of the machine where the rows were written.
    #[must_use]
    pub fn with_zone_of(&self, time_zone: Option<&str>) -> Selection {
        let of_archive =
            self.zone.as_deref().is_some_and(|zone| zone.eq_ignore_ascii_case("archive"));
        let zone = if of_archive { time_zone.map(str::to_owned) } else { self.zone.clone() };
        Selection { zone, ..self.clone() }
    }

    /// The zone of times without one; `time_zone` is that of the machine where the rows were written.
    ///
    /// # Errors
    /// If it is none.
    pub fn zone_rule(&self, time_zone: Option<&str>) -> Result<ZoneRule> {
        let Some(name) = self.zone.as_deref() else { return Ok(ZoneRule::Utc) };
        let of_archive = name.eq_ignore_ascii_case("archive");
        let name = if of_archive { time_zone.unwrap_or("UTC") } else { name };
        parse_zone(name).ok_or_else(|| {
            let what = format!("--assume-tz: \"{}\" is not a time zone", show_text(name));
            Error::new(Code::Usage, what).hint("give a zone such as Europe/Berlin, UTC or +02:00")
        })
    }

    /// The times that are wanted.
    pub fn span(&self) -> Span {
        Span { since: self.since.clone(), until: self.until.clone() }
    }

    fn has_times(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }
}

/// Filters of a header, as one would type them.
pub fn filters_typed(filters: &BTreeMap<String, String>) -> String {
    let options = filters.iter().flat_map(|(name, text)| {
        split(text).into_iter().map(move |value| format!("--{name} {}", show_text(&value)))
    });
    options.collect::<Vec<_>>().join(" ")
}

/// Values of one filter as one text.
fn joined(values: Vec<String>) -> String {
    match &values[..] {
        [one] if !one.starts_with('[') => one.clone(),
        _ => serde_json::Value::from(values).to_string(),
    }
}

/// The values of [`joined`].
fn split(text: &str) -> Vec<String> {
    let several = text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten();
    several.unwrap_or_else(|| vec![text.to_owned()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(".{0,6}|\\[[\"a, ]{0,4}\\]?", 0..3)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_header_gives_back_what_was_asked_for(
            (projects, sessions, users) in (words(), words(), words()),
            values in words(),
            day in 1..29,
        ) {
            let columns = values.into_iter().map(|value| ColumnValue {
                stream: "events".into(),
                column: "tool_name".into(),
                value,
            });
            let selection = Selection {
                projects,
                sessions,
                users,
                columns: columns.collect(),
                since: Some(Bound::absolute(&format!("2025-08-{day:02}")).unwrap()),
                zone: Some("Europe/Berlin".into()),
                ..Selection::default()
            };
            prop_assert_eq!(Selection::of_filters(&selection.filters()).unwrap(), selection);
        }
    }

    #[test]
    fn a_condition_names_stream_column_and_value() {
        let read = ColumnValue::parse("events.tool_name=a=b.c").unwrap();
        assert_eq!((&*read.stream, &*read.column, &*read.value), ("events", "tool_name", "a=b.c"));
        for wrong in ["events.tool_name", "tool_name=Bash", ".x=1", "events.=1", ""] {
            assert!(ColumnValue::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_of_a_later_version_is_refused() {
        let filters = [("shape".to_owned(), "round".to_owned())].into();
        let error = Selection::of_filters(&filters).unwrap_err();
        assert_eq!(error.full(), "the filter \"shape\" is not known");
    }
}
