//! The law of selections: random rows and random filters give the same part wherever it is taken from, and it is what plain
//! SQL finds.
//!
//! `SELECTION_CASES=2000 tests/run selection::law` tries more of them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value as Json;

use crate::support::cluster::Database;
use crate::support::migrate::{Scratch, ask, fill, id, postgres, words};
use crate::support::program::{Output, Program};

use super::{HOOKS, UPSTREAM};

const PROJECTS: [&str; 4] = ["/home/ada/app", "/home/ada/lib", "/home/bob/a_p", "/srv/x%"];
const PATTERNS: [&str; 6] = ["/home/ada/*", "*/a?p", "/home/[bx]ob/*", "/srv/x%", "*", "/none"];
const TYPES: [&str; 3] = ["stop", "error", "pre_tool_use"];
const PEOPLE: [&str; 2] = ["ada", "bob"];

/// A moment: a number of hours since the tenth of August.
type Hour = u32;

type Tool = Option<&'static str>;

/// One of them is spelled as no value is printed.
const TOOLS: [&str; 3] = ["Bash", "Read", "null"];

#[derive(Debug, Clone)]
struct Session {
    project: Option<&'static str>,
    user: Option<&'static str>,
    start: Option<Hour>,
    end: Option<Hour>,
}

#[derive(Debug, Clone)]
struct Event {
    session: usize,
    event_type: &'static str,
    tool: Tool,
    at: Hour,
}

#[derive(Debug, Clone, Default)]
struct Filter {
    projects: Vec<&'static str>,
    sessions: Vec<usize>,
    user: Option<&'static str>,
    types: Vec<&'static str>,
    /// A value, or that there is none.
    tool: Option<Tool>,
    since: Option<(Hour, bool)>,
    until: Option<(Hour, bool)>,
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(
    all: &'static [T],
) -> impl Strategy<Value = Vec<T>> {
    let some = prop::sample::subsequence(all, 1..=all.len().min(2));
    prop::option::weighted(0.3, some).prop_map(Option::unwrap_or_default)
}

fn sessions() -> impl Strategy<Value = Vec<Session>> {
    let one = (
        prop::option::weighted(0.8, prop::sample::select(&PROJECTS[..])),
        prop::option::weighted(0.7, prop::sample::select(&PEOPLE[..])),
        0..240_u32,
        prop::option::of(0..240_u32),
    );
    let one = one.prop_map(|(project, user, start, end)| Session {
        project,
        user,
        start: Some(start),
        end,
    });
    prop::collection::vec(one, 1..7)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (
        0..8_usize,
        prop::sample::select(&TYPES[..]),
        prop::option::of(prop::sample::select(&TOOLS[..])),
        0..240_u32,
    );
    let one =
        one.prop_map(|(session, event_type, tool, at)| Event { session, event_type, tool, at });
    prop::collection::vec(one, 0..20)
}

fn filters() -> impl Strategy<Value = Filter> {
    let bound = || prop::option::weighted(0.4, (0..240_u32, any::<bool>()));
    let sessions = prop::option::weighted(0.2, prop::collection::vec(0..8_usize, 1..3));
    let user = prop::option::weighted(0.2, prop::sample::select(&PEOPLE[..]));
    let tool = prop::option::of(prop::sample::select(&TOOLS[..]));
    let tool = prop::option::weighted(0.3, tool);
    let all = (some_of(&PATTERNS), sessions, user, some_of(&TYPES), tool, bound(), bound());
    all.prop_map(|(projects, sessions, user, types, tool, since, until)| {
        let sessions = sessions.unwrap_or_default();
        let in_order = |until: &(Hour, bool)| since.is_none_or(|(since, _)| since < until.0);
        let until = until.filter(in_order);
        Filter { projects, sessions, user, types, tool, since, until }
    })
}

fn time(hour: Hour) -> String {
    format!("2025-08-{:02}T{:02}:00:00", 10 + hour / 24, hour % 24)
}

/// A value as SQL.
fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".into(), |value| format!("'{value}'"))
}

fn hour(value: Option<Hour>) -> String {
    text(value.map(|hour| time(hour) + "Z").as_deref())
}

fn event_id(n: usize) -> String {
    id(100 + n as u32)
}

fn session_id(n: usize) -> String {
    id(n as u32)
}

/// The rows as SQL. What has a zone on the server has none in a file.
fn inserts(sessions: &[Session], events: &[Event], tables: [&str; 2], zoned: bool) -> String {
    let mut sql = String::new();
    let zone = |text: String| if zoned { text } else { text.replace("Z'", "'") };
    for (n, s) in sessions.iter().enumerate() {
        sql += &format!(
            "INSERT INTO {} (id, claude_session_id, project_path, user_id, start_time, end_time) \
             VALUES ('{}', 'claude-{n}', {}, {}, {}, {});\n",
            tables[0],
            session_id(n),
            text(s.project),
            text(s.user),
            zone(hour(s.start)),
            zone(hour(s.end))
        );
    }
    for (n, e) in events.iter().enumerate() {
        sql += &format!(
            "INSERT INTO {} (id, session_id, event_type, tool_name, timestamp) \
             VALUES ('{}', '{}', '{}', {}, {});\n",
            tables[1],
            event_id(n),
            session_id(e.session),
            e.event_type,
            text(e.tool),
            zone(hour(Some(e.at)))
        );
    }
    sql
}

impl Filter {
    fn options(&self) -> Vec<String> {
        let bound = |(hour, zoned): (Hour, bool)| time(hour) + if zoned { "Z" } else { "" };
        let by_id =
            |n: &usize| if n.is_multiple_of(2) { session_id(*n) } else { format!("claude-{n}") };
        let mut all: Vec<String> = Vec::new();
        all.extend(self.projects.iter().map(|pattern| format!("--project={pattern}")));
        all.extend(self.sessions.iter().map(|n| format!("--session={}", by_id(n))));
        all.extend(self.user.map(|user| format!("--user={user}")));
        all.extend(self.types.iter().map(|event_type| format!("--event-type={event_type}")));
        let printed = |tool: Tool| match tool {
            Some("null") => "\"null\"".to_owned(),
            Some("Read") => "\"Read\"".to_owned(),
            tool => tool.unwrap_or("null").to_owned(),
        };
        all.extend(self.tool.map(|tool| format!("--where=events.tool_name={}", printed(tool))));
        all.extend(self.since.map(|at| format!("--since={}", bound(at))));
        all.extend(self.until.map(|at| format!("--until={}", bound(at))));
        all
    }

    /// What a session's own values must be, as SQL.
    fn of_session(&self, is_sqlite: bool) -> Vec<String> {
        let like = |pattern: &&str| match is_sqlite {
            true => format!("s.project_path GLOB '{pattern}'"),
            false => {
                let regex = pattern.replace('.', "\\.").replace('*', ".*").replace('?', ".");
                format!("s.project_path ~ '^{regex}$'")
            }
        };
        let mut all = Vec::new();
        let any = |parts: Vec<String>| format!("({})", parts.join(" OR "));
        if !self.projects.is_empty() {
            all.push(any(self.projects.iter().map(like).collect()));
        }
        if !self.sessions.is_empty() {
            let one = |n: &usize| format!("s.claude_session_id = 'claude-{n}'");
            all.push(any(self.sessions.iter().map(one).collect()));
        }
        all.extend(self.user.map(|user| format!("s.user_id = '{user}'")));
        all
    }

    /// What an event's own values must be but for its time, and its time.
    fn of_event(&self, at: impl Fn(Hour) -> String) -> [Vec<String>; 2] {
        let mut own = Vec::new();
        if !self.types.is_empty() {
            let one = |event_type: &&str| format!("e.event_type = '{event_type}'");
            own.push(format!("({})", self.types.iter().map(one).collect::<Vec<_>>().join(" OR ")));
        }
        own.extend(self.tool.map(|tool| match tool {
            Some(tool) => format!("e.tool_name = '{tool}'"),
            None => "e.tool_name IS NULL".to_owned(),
        }));
        let mut times = Vec::new();
        times.extend(self.since.map(|(hour, _)| format!("e.timestamp >= {}", at(hour))));
        times.extend(self.until.map(|(hour, _)| format!("e.timestamp < {}", at(hour))));
        [own, times]
    }

    /// Queries for the ids of the sessions and the events that are meant.
    fn queries(&self, [sessions, events]: [&str; 2], is_sqlite: bool) -> [String; 2] {
        let at = |hour: Hour| match is_sqlite {
            true => format!("'{}'", time(hour)),
            false => format!("timestamptz '{}Z'", time(hour)),
        };
        let all = |parts: &[String]| match parts {
            [] => "true".to_owned(),
            parts => parts.join(" AND "),
        };
        let of_session = self.of_session(is_sqlite);
        let [own, times] = self.of_event(at);
        let mut of_event = [own.clone(), times.clone()].concat();
        if !of_session.is_empty() {
            let passes = all(&of_session);
            of_event.push(format!(
                "EXISTS (SELECT 1 FROM {sessions} s WHERE s.id = e.session_id AND {passes})"
            ));
        }
        let of_event = all(&of_event);
        let used =
            format!("EXISTS (SELECT 1 FROM {events} e WHERE e.session_id = s.id AND {of_event})");
        let mut overlaps = Vec::new();
        overlaps.extend(self.until.map(|(hour, _)| format!("s.start_time < {}", at(hour))));
        overlaps.extend(self.since.map(|(hour, _)| {
            let last =
                format!("(SELECT max(l.timestamp) FROM {events} l WHERE l.session_id = s.id)");
            let since = at(hour);
            format!("(s.start_time >= {since} OR coalesce(s.end_time, {last}) >= {since})")
        }));
        let chosen = match (own.is_empty(), times.is_empty()) {
            (false, _) => used,
            (true, true) => "true".into(),
            (true, false) => format!("({used} OR ({}))", all(&overlaps)),
        };
        [
            format!("SELECT s.id FROM {sessions} s WHERE {} AND {chosen}", all(&of_session)),
            format!("SELECT e.id FROM {events} e WHERE {of_event}"),
        ]
    }
}

/// The ids of the sessions and the events that are printed.
fn ids(printed: &str) -> [BTreeSet<String>; 2] {
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    for line in printed.lines() {
        let row: Json = serde_json::from_str(line).unwrap();
        let stream = usize::from(row["stream"] == "events");
        let id = row["record"]["id"].as_str().unwrap().to_owned();
        assert!(found[stream].insert(id), "a row comes twice: {line}");
    }
    found
}

fn run(args: &[&str], options: &[String]) -> Output {
    let options = options.iter().map(String::as_str);
    Program::new(args.iter().copied().chain(options)).run().success()
}

/// A backend with the rows, and how a query is asked of it.
enum Engine<'a> {
    File(&'a str),
    Server(&'a Database),
}

impl Engine<'_> {
    fn tables(&self) -> [&'static str; 2] {
        match self {
            Engine::File(_) => ["sessions", "events"],
            Engine::Server(_) => ["chronicle_sessions", "chronicle_events"],
        }
    }

    fn ids(&self, query: &str) -> BTreeSet<String> {
        let found = match self {
            Engine::File(path) => {
                ask(path, &format!("SELECT group_concat(id, ' ') FROM ({query})"))
            }
            Engine::Server(server) => {
                server.psql(&format!("SELECT string_agg(id::text, ' ') FROM ({query}) q"))
            }
        };
        found.split_whitespace().filter(|id| *id != "NULL").map(str::to_owned).collect()
    }

    fn url(&self) -> String {
        match self {
            Engine::File(path) => (*path).to_owned(),
            Engine::Server(server) => server.url(),
        }
    }
}

/// Everything that gives a part gives the one that SQL finds.
fn holds(scratch: &Scratch, engine: &Engine<'_>, filter: &Filter) {
    let is_sqlite = matches!(engine, Engine::File(_));
    let expected = filter.queries(engine.tables(), is_sqlite).map(|query| engine.ids(&query));
    let (url, options) = (engine.url(), filter.options());
    let whole = scratch.export(&url);
    let part = run(&["export", &url], &options).save(&scratch.path("part"));
    assert_eq!(ids(run(&["cat", words(&part)], &[]).text()), expected, "export {options:?}");
    assert_eq!(ids(run(&["cat", words(&whole)], &options).text()), expected, "cat {options:?}");
    let piped = Program::new(["cat", "-"].into_iter().chain(options.iter().map(String::as_str)));
    let piped = piped.stdin_file(&whole).run().success();
    assert_eq!(ids(piped.text()), expected, "cat - {options:?}");
    for (stream, expected) in ["sessions", "events"].into_iter().zip(&expected) {
        let one = run(&["cat", words(&whole), "--stream", stream], &options);
        let found: BTreeSet<String> = (one.text().lines())
            .map(|line| {
                serde_json::from_str::<Json>(line).unwrap()["id"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(found, *expected, "cat --stream {stream} {options:?}");
    }
    run(&["diff", words(&part), &url], &options);
    let target = scratch.path("target.db");
    let _ = std::fs::remove_file(&target);
    let to = ["--to", words(&target), "--create", "--orphans=keep", "--assume-tz=UTC"];
    run(&[&["import", words(&whole)], &to[..]].concat(), &options);
    let loaded = Engine::File(words(&target));
    let loaded = loaded.tables().map(|table| loaded.ids(&format!("SELECT id FROM {table}")));
    assert_eq!(loaded, expected, "import {options:?}");
}

fn cases(default: u32) -> Config {
    let asked = std::env::var("SELECTION_CASES").ok().and_then(|cases| cases.parse().ok());
    Config { cases: asked.unwrap_or(default), failure_persistence: None, ..Config::default() }
}

const COLUMNS: &str = "ALTER TABLE sessions ADD COLUMN user_id TEXT;";

#[test]
fn a_part_of_a_file_is_what_sql_finds() {
    let scratch = Scratch::new("selection_file");
    let file = scratch.sqlite("source.db", HOOKS, COLUMNS);
    let mut runner = TestRunner::new(cases(48));
    let law = |(sessions, events, filter): (Vec<Session>, Vec<Event>, Filter)| {
        let rows = inserts(&sessions, &events, ["sessions", "events"], false);
        fill(&file, &format!("DELETE FROM events; DELETE FROM sessions; {rows}"));
        holds(&scratch, &Engine::File(&file), &filter);
        Ok(())
    };
    runner.run(&(sessions(), events(), filters()), law).unwrap();
}

#[test]
fn a_part_of_a_server_is_what_sql_finds() {
    let scratch = Scratch::new("selection_server");
    let setup = "ALTER TABLE chronicle_sessions ADD COLUMN user_id text; \
                 ALTER TABLE chronicle_events DISABLE TRIGGER USER, \
                     DROP CONSTRAINT chronicle_events_session_id_fkey;";
    let server = postgres(UPSTREAM, "selection_server", setup);
    let mut runner = TestRunner::new(cases(32));
    let law = |(sessions, events, filter): (Vec<Session>, Vec<Event>, Filter)| {
        let rows = inserts(&sessions, &events, ["chronicle_sessions", "chronicle_events"], true);
        server
            .psql(&format!("DELETE FROM chronicle_events; DELETE FROM chronicle_sessions; {rows}"));
        holds(&scratch, &Engine::Server(&server), &filter);
        Ok(())
    };
    runner.run(&(sessions(), events(), filters()), law).unwrap();
}
