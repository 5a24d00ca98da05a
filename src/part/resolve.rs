//! From what was asked for to what it means for the streams at hand: conditions for each, and how they follow each other.

use super::selector::Selector;
use crate::error::{Code, Error, Result};
use crate::layout::{EVENTS, LayoutStream, SESSIONS, known_stream};
use crate::notice::{Notice, NoticeKind};
use crate::selection::{Clock, ColumnValue, Condition, Selection, Span, Test};
use chronicle_archive::time::ZoneRule;
use chronicle_archive::{Stream, show_text};

/// How a row of one stream is selected.
#[derive(Debug, Default)]
pub(super) struct Rule {
    /// What its own values must be.
    pub(super) conditions: Vec<Condition>,
    /// The column of its key, if that is a single one.
    pub(super) key: Option<usize>,
    /// The rows that it refers to.
    pub(super) parents: Vec<Parent>,
    /// How long a session lasts, and what else selects it.
    pub(super) lifetime: Option<Lifetime>,
    /// Whether its rows follow those that they refer to, and nothing else.
    pub(super) follows: bool,
    /// Whether any of its rows may be left out.
    pub(super) is_limited: bool,
    /// Whether rows of other streams refer to it.
    pub(super) is_parent: bool,
    /// Whether no row is wanted, since nothing says which.
    pub(super) is_left_out: bool,
}

/// A reference to another stream.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) stream: usize,
    pub(super) column: usize,
    /// Its name, for messages.
    pub(super) name: String,
}

/// What selects a row that others belong to, beside its own values.
#[derive(Debug)]
pub(super) struct Lifetime {
    pub(super) span: Span,
    /// Its first and its last moment, with how they are read.
    pub(super) start: (usize, Clock),
    pub(super) end: Option<(usize, Clock)>,
    /// Whether it is selected by the rows that belong to it alone.
    pub(super) only_used: bool,
}

impl Lifetime {
    pub(super) fn is_limited(&self) -> bool {
        self.only_used || self.span.is_limited()
    }
}

/// What a first pass needs of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// No row.
    Nothing,
    /// These columns of every row.
    Columns(Vec<bool>),
}

/// What a selection means for these streams; `time_zone` is that of the machine where the rows were written.
///
/// # Errors
/// If it asks for a stream or a column that is not there, or a pattern or a zone is none.
pub fn resolve(
    selection: &Selection,
    streams: &[Stream],
    time_zone: Option<&str>,
) -> Result<Selector> {
    let zone = selection.zone_rule(time_zone)?;
    let described: Vec<Option<&LayoutStream>> =
        streams.iter().map(|stream| known_stream(&stream.name)).collect();
    let mut resolver = Resolver {
        selection,
        streams,
        described,
        zone,
        rules: streams.iter().map(|_| Rule::default()).collect(),
        notices: Vec::new(),
    };
    resolver.refer();
    resolver.of_sessions()?;
    resolver.of_events()?;
    selection.columns.iter().try_for_each(|value| resolver.of_column(value))?;
    resolver.follow();
    let Resolver { rules, notices, .. } = resolver;
    Ok(Selector::new(streams.to_vec(), rules, zone, notices))
}

struct Resolver<'a> {
    selection: &'a Selection,
    streams: &'a [Stream],
    described: Vec<Option<&'a LayoutStream>>,
    zone: ZoneRule,
    rules: Vec<Rule>,
    notices: Vec<Notice>,
}

impl Resolver<'_> {
    /// The streams of a role.
    fn of_role(&self, role: &str) -> Vec<usize> {
        let is = |n: &usize| self.described[*n].is_some_and(|stream| stream.role.0 == role);
        (0..self.streams.len()).filter(is).collect()
    }

    /// Notes which stream refers to which.
    fn refer(&mut self) {
        for n in 0..self.streams.len() {
            let key = match &self.streams[n].key[..] {
                [key] => Some(*key),
                _ => None,
            };
            self.rules[n].key = key;
            let references = self.described[n].into_iter().flat_map(|stream| &stream.references);
            for (name, parent) in references {
                let found = self.streams.iter().position(|stream| stream.name == *parent);
                let (Some(stream), Some(column)) = (found, self.streams[n].column(name)) else {
                    continue;
                };
                self.rules[n].parents.push(Parent { stream, column, name: name.clone() });
                self.rules[stream].is_parent = true;
            }
        }
    }

    /// A column that an option needs.
    fn column(&self, stream: usize, name: &str, option: &str) -> Result<usize> {
        let stream = &self.streams[stream];
        stream.column(name).ok_or_else(|| {
            let what = format!("{option}: {} has no column {}", stream.name, show_text(name));
            let columns: Vec<&str> = stream.columns.iter().map(|c| c.name.as_str()).collect();
            Error::new(Code::Usage, what).hint(format!("its columns: {}", columns.join(", ")))
        })
    }

    /// Adds the condition that a column has one of several values.
    fn add(&mut self, stream: usize, column: usize, values: &[String]) {
        let kind = self.streams[stream].columns[column].kind;
        let tests = values.iter().map(|value| Test::Is(value.clone()));
        self.rules[stream].conditions.push(Condition::any(column, kind, tests));
    }

    /// The options about sessions.
    fn of_sessions(&mut self) -> Result<()> {
        let Selection { projects, sessions, users, teams, .. } = self.selection;
        let all = self.of_role(SESSIONS);
        let asked = [
            ("--project", projects),
            ("--session", sessions),
            ("--user", users),
            ("--team", teams),
        ];
        let used = asked.iter().find(|(_, values)| !values.is_empty());
        if let (Some((option, _)), true) = (used, all.is_empty()) {
            return Err(no_stream(option, SESSIONS, self.streams));
        }
        for n in all {
            if !projects.is_empty() {
                let column = self.column(n, "project_path", "--project")?;
                let kind = self.streams[n].columns[column].kind;
                let tests = projects.iter().map(|pattern| Test::like("--project", pattern));
                let tests = tests.collect::<Result<Vec<_>>>()?;
                self.rules[n].conditions.push(Condition::any(column, kind, tests));
            }
            if !sessions.is_empty() {
                let condition = self.by_either_id(n);
                self.rules[n].conditions.push(condition);
            }
            self.by_owner(n, "user_id", "--user", users)?;
            self.by_owner(n, "team_id", "--team", teams)?;
        }
        Ok(())
    }

    /// The condition that either id of a session is one of those asked for.
    fn by_either_id(&self, n: usize) -> Condition {
        let stream = &self.streams[n];
        let columns = stream.key.iter().copied().chain(stream.column("claude_session_id"));
        let mut any = Vec::new();
        for column in columns {
            let kind = stream.columns[column].kind;
            let tests = self.selection.sessions.iter().map(|id| Test::Is(id.clone()));
            any.extend(Condition::any(column, kind, tests).any);
        }
        Condition { any }
    }

    /// Whose rows are wanted: that of sessions, or of their events where sessions do not say it.
    fn by_owner(&mut self, n: usize, name: &str, option: &str, values: &[String]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let mut events = self.of_role(EVENTS);
        events.retain(|e| self.rules[*e].parents.iter().any(|p| p.stream == n));
        let of_events: Vec<(usize, usize)> =
            events.iter().filter_map(|e| Some((*e, self.streams[*e].column(name)?))).collect();
        match (self.streams[n].column(name), &of_events[..]) {
            (None, [_, ..]) => {
                of_events.iter().for_each(|(e, column)| self.add(*e, *column, values))
            }
            _ => {
                let column = self.column(n, name, option)?;
                self.add(n, column, values);
            }
        }
        Ok(())
    }

    /// The options about events, and the times of both.
    fn of_events(&mut self) -> Result<()> {
        let Selection { event_types, .. } = self.selection;
        let span = self.selection.span();
        let all = self.of_role(EVENTS);
        if !event_types.is_empty() && all.is_empty() {
            return Err(no_stream("--event-type", EVENTS, self.streams));
        }
        for n in all {
            if !event_types.is_empty() {
                let column = self.column(n, "event_type", "--event-type")?;
                self.add(n, column, event_types);
            }
            if span.is_limited() {
                let (column, clock) = self.time(n, "timestamp")?;
                let kind = self.streams[n].columns[column].kind;
                let test = Test::Within(span.clone(), clock);
                self.rules[n].conditions.push(Condition::any(column, kind, [test]));
            }
        }
        for n in self.of_role(SESSIONS) {
            let is_limited = span.is_limited();
            let start = if is_limited { Some(self.time(n, "start_time")?) } else { None };
            let end = self.streams[n].column("end_time").map(|_| self.time(n, "end_time"));
            let clock = Clock { zone: self.zone, texts_are_utc: false };
            self.rules[n].lifetime = Some(Lifetime {
                span: span.clone(),
                start: start.unwrap_or((0, clock)),
                end: end.filter(|_| is_limited).transpose()?,
                only_used: false,
            });
        }
        let has_times = self.streams.iter().zip(&self.described).any(|(_, d)| {
            d.is_some_and(|stream| [SESSIONS, EVENTS].contains(&stream.role.0.as_str()))
        });
        if span.is_limited() && !has_times {
            return Err(no_stream("--since and --until", SESSIONS, self.streams));
        }
        Ok(())
    }

    /// A time column with its clock; says in which zone it is read if that is an assumption.
    fn time(&mut self, n: usize, name: &str) -> Result<(usize, Clock)> {
        let at = self.column(n, name, "--since and --until")?;
        let column = &self.streams[n].columns[at];
        let zone = match self.selection.zone.as_deref() {
            Some(zone) => format!("{} (--assume-tz)", show_text(zone)),
            None => "UTC; --assume-tz ZONE names another zone".to_owned(),
        };
        let assumption = self.selection.span().assumption(&self.streams[n].name, column, &zone);
        if let Some(text) = assumption {
            let notice = Notice::new(NoticeKind::AssumedZone, text);
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
        Ok((at, Clock::of(column, self.zone)))
    }

    /// A condition on a column; several for one column mean any of them.
    fn of_column(&mut self, value: &ColumnValue) -> Result<()> {
        let name = show_text(&value.stream);
        let option = format!("--where {name}.{}", show_text(&value.column));
        let Some(n) = self.streams.iter().position(|stream| stream.name == value.stream) else {
            return Err(no_stream(&option, &name, self.streams));
        };
        let column = self.column(n, &value.column, &option)?;
        let same =
            |other: &&ColumnValue| (&other.stream, &other.column) == (&value.stream, &value.column);
        let all: Vec<&ColumnValue> = self.selection.columns.iter().filter(same).collect();
        if all.first().is_some_and(|first| std::ptr::eq(*first, value)) {
            let kind = self.streams[n].columns[column].kind;
            let tests = all.iter().flat_map(|value| Test::printed(kind, &value.value));
            self.rules[n].conditions.push(Condition::any(column, kind, tests));
        }
        Ok(())
    }

    /// Decides of each stream whether it follows others, and what it is limited by.
    fn follow(&mut self) {
        let (sessions, events) = (self.of_role(SESSIONS), self.of_role(EVENTS));
        let span = self.selection.span();
        for n in 0..self.streams.len() {
            // what is asked of events but for their time
            let own = |rule: &Rule| rule.conditions.len() > usize::from(span.is_limited());
            let is_asked = |e: &&usize| {
                let rule = &self.rules[**e];
                rule.parents.iter().any(|p| p.stream == n) && own(rule)
            };
            let only_used = events.iter().any(|e| is_asked(&e));
            if let Some(lifetime) = &mut self.rules[n].lifetime {
                lifetime.only_used = only_used;
            }
            let limits = |p: &Parent| {
                let parent = &self.rules[p.stream];
                if events.contains(&n) { !parent.conditions.is_empty() } else { parent.is_limited }
            };
            let by_parent = self.rules[n].parents.iter().any(limits);
            let rule = &self.rules[n];
            let by_lifetime = rule.lifetime.as_ref().is_some_and(Lifetime::is_limited);
            let is_limited = !rule.conditions.is_empty() || by_parent || by_lifetime;
            let follows = !sessions.contains(&n) && !events.contains(&n);
            let is_left_out = follows && rule.conditions.is_empty() && rule.parents.is_empty();
            let rule = &mut self.rules[n];
            (rule.is_limited, rule.follows, rule.is_left_out) =
                (is_limited || is_left_out, follows, is_left_out);
            if is_left_out {
                let name = show_text(&self.streams[n].name);
                let text = format!(
                    "{name} is left out: its rows belong to no session; --where {name}.COLUMN=VALUE selects some"
                );
                self.notices.push(Notice::new(NoticeKind::StreamLeftOut, text));
            }
        }
    }
}

/// The error of an option for a stream that is not there.
fn no_stream(option: &str, wanted: &str, streams: &[Stream]) -> Error {
    let names: Vec<String> = streams.iter().map(|stream| show_text(&stream.name)).collect();
    Error::new(Code::Usage, format!("{option}: there is no stream {wanted}"))
        .hint(format!("the streams: {}", names.join(", ")))
}
