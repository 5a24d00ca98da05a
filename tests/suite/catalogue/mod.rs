//! The catalogue of hostile values goes through every pair of layouts that can meet: each value is kept, or changed
//! or refused with its name. `docs/values.md` is the table of the results.
//!
//! `UPDATE_DOCS=1 tests/run catalogue::` rewrites the table.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chronicle_dump::catalog::Backend;
use serde::Deserialize;

use self::table::{document, same_as_document};
use crate::support::oracle::{
    Became, Before, Column, Fates, Line, Rejected, STREAMS, Store, export, given_back, import,
    lines, mark, rejects, without,
};

/// The layouts whose values go out: of those with columns of the same types one.
const FROM: [&str; 13] = [
    "hooks",
    "server",
    "hooks-metadata",
    "uv-scripts",
    "uv-scripts-stop",
    "uv-manager",
    "tutorial-sqlite",
    "upstream",
    "tutorial-postgres",
    "first-postgres",
    "setup-script",
    "supabase-guide",
    "dashboard-guide",
];
/// The layouts that they go into.
const TO: [&str; 14] = [
    "hooks",
    "server",
    "hooks-strict",
    "hooks-strict-six",
    "hooks-metadata",
    "uv-scripts",
    "tutorial-sqlite",
    "installer-stub",
    "upstream",
    "tutorial-postgres",
    "first-postgres",
    "setup-script",
    "supabase-guide",
    "dashboard-guide",
];

#[derive(Deserialize)]
pub(super) struct Catalogue {
    pub(super) area: Vec<Area>,
}

#[derive(Deserialize)]
pub(super) struct Area {
    name: String,
    column: String,
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(super) struct Case {
    name: String,
    sql: Option<String>,
    sqlite: Option<String>,
    postgres: Option<String>,
    #[serde(skip)]
    pub(super) number: usize,
}

impl Case {
    /// The SQL of the value in a kind of database, as the catalogue writes it.
    pub(super) fn literal(&self, backend: Backend) -> Option<&str> {
        let own = match backend {
            Backend::Sqlite => &self.sqlite,
            Backend::Postgres => &self.postgres,
        };
        own.as_deref().or(self.sql.as_deref())
    }
}

impl Area {
    pub(super) fn place(&self) -> (&'static str, &str) {
        let (stream, column) = self.column.split_once('.').unwrap();
        (STREAMS.into_iter().find(|s| *s == stream).unwrap(), column)
    }
}

pub(super) fn catalogue() -> Catalogue {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/catalogue.toml");
    let mut catalogue: Catalogue = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = catalogue.area.iter_mut().flat_map(|area| &mut area.cases);
    // number 0 is the session that every event has
    cases.enumerate().for_each(|(n, case)| case.number = n + 1);
    catalogue
}

/// Writes out `[REPEAT:N:X]`: N times X, and as many brackets that close if X is one that opens.
fn written_out(sql: &str) -> String {
    let Some((before, rest)) = sql.split_once("[REPEAT:") else { return sql.to_owned() };
    let (count, rest) = rest.split_once(':').unwrap();
    let (what, after) = rest.split_at(1);
    let count = count.parse().unwrap();
    let closing = if what == "[" { "]".repeat(count) } else { String::new() };
    format!("{before}{}{closing}{}", what.repeat(count), after.strip_prefix(']').unwrap())
}

fn id(columns: &[Column], prefix: &str, n: usize) -> String {
    match columns.iter().any(|c| c.name == "id" && c.ty == "INTEGER") {
        true => n.to_string(),
        false => format!("'{prefix}-0000-4000-8000-{n:012x}'"),
    }
}

/// How the events of a database refer to a session by its number, in SQL.
pub(super) fn session_id(store: &Store, n: usize) -> String {
    id(&store.columns("events"), "5e551011", n)
}

/// The statement that puts a row with a value into a database.
pub(super) fn row(
    store: &Store,
    stream: &'static str,
    n: usize,
    odd: Option<(&str, &str)>,
) -> Option<String> {
    let prefix = if stream == "sessions" { "5e551011" } else { "e0e27000" };
    let text = |text: &str| format!("'{text}'");
    let columns = store.columns(stream);
    let usual = |name: &str| match (stream, name) {
        (_, "id") => Some(id(&columns, prefix, n)),
        ("sessions", "start_time") | ("events", "timestamp") | (_, "created_at") => {
            Some(text(&mark(n)))
        }
        ("sessions", "claude_session_id") => Some(text(&format!("claude {n}"))),
        ("sessions", "project_path") => Some(text("/home/robin")),
        ("events", "session_id") => Some(session_id(store, 0)),
        ("events", "event_type") => Some(text("session_start")),
        ("events", "data") => Some(text("{}")),
        _ => None,
    };
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for column in columns.iter() {
        let odd = odd.filter(|(name, _)| *name == column.name);
        let value = odd.map(|(_, sql)| written_out(sql)).or_else(|| usual(&column.name));
        if let Some(value) = value {
            names.push(format!("\"{}\"", column.physical));
            values.push(value);
        }
    }
    if odd.is_some_and(|(name, _)| !columns.iter().any(|c| c.name == name)) {
        return None;
    }
    let table = &store.stream(stream).table;
    Some(format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", ")))
}

/// A database with every case that its layout holds, and its archive.
struct Source {
    store: Store,
    before: Before,
    archive: PathBuf,
    lines: Vec<Line>,
}

impl Source {
    fn new(layout: &str, catalogue: &Catalogue) -> Source {
        let store = Store::made(layout);
        let mut rows = vec![row(&store, "sessions", 0, None)];
        for wanted in STREAMS {
            for area in &catalogue.area {
                let (stream, column) = area.place();
                for case in area.cases.iter().filter(|_| stream == wanted) {
                    if let Some(sql) = case.literal(store.backend()) {
                        rows.push(row(&store, stream, case.number, Some((column, sql))));
                    }
                }
            }
        }
        store.try_each(&rows.into_iter().flatten().collect::<Vec<_>>());
        let before = Before::of(&store);
        let archive = store.beside("all.archive");
        export(&store, &archive);
        let lines = lines(&archive);
        Source { store, before, archive, lines }
    }

    /// The places in the archive of rows.
    fn places(&self, rows: &BTreeSet<(String, usize)>) -> BTreeSet<(String, usize)> {
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut places = BTreeSet::new();
        for line in &self.lines {
            let place = counts.entry(&line.stream).or_default();
            if line.number().is_some_and(|n| rows.contains(&(line.stream.clone(), n))) {
                places.insert((line.stream.clone(), *place));
            }
            *place += 1;
        }
        places
    }
}

/// Values that no policy but `reject` loads, by the column of the target that they would go into.
type Hopeless = Mutex<BTreeMap<String, BTreeSet<(String, usize)>>>;

/// The results of the cases in one pair of layouts: by number, in words.
type Outcomes = BTreeMap<usize, String>;

/// One source meets one target.
struct Meeting<'a> {
    from: &'a Source,
    to: &'a Store,
    catalogue: &'a Catalogue,
    hopeless: &'a Hopeless,
}

impl Meeting<'_> {
    fn options(&self) -> Vec<&'static str> {
        let orphans = match self.to.backend() {
            Backend::Sqlite => "--orphans=keep",
            Backend::Postgres => "--orphans=skip",
        };
        vec![
            "--assume-tz=+02:00",
            "--strict",
            "--on-missing-column=preserve",
            "--map-event-types=upstream",
            orphans,
        ]
    }

    fn create(&self) -> String {
        format!("--create={}", self.to.choice.name)
    }

    fn name(&self) -> String {
        format!("{} to {}", self.from.store.choice.name, self.to.choice.name)
    }

    /// The column of the target that a value would go into, as far as it decides.
    fn slot(&self, stream: &str, column: &str) -> String {
        let columns = self.to.columns(stream);
        let c = columns.iter().find(|c| c.name == column).unwrap();
        let own = column == "event_type" || column == "status";
        let own = if own { self.to.choice.name.as_str() } else { "" };
        format!("{stream}.{column} {} {} {own}", c.ty, c.not_null)
    }

    fn run(&self) -> Outcomes {
        let (rejected, mut outcomes) = self.rejecting();
        let mut archive = self.from.archive.clone();
        let mut absent = self.known_hopeless(&rejected);
        let mut preserved = Fates::new();
        for policy in ["adapt", "preserve"] {
            loop {
                if !absent.is_empty() {
                    archive = self.to.beside("some.archive");
                    without(&self.from.archive, &archive, &self.from.places(&absent));
                }
                match self.loading(&archive, policy, &rejected, &absent) {
                    Ok(fates) => {
                        preserved = fates;
                        break;
                    }
                    Err(refused) => {
                        assert!(absent.insert(refused.clone()), "{}: {refused:?}", self.name());
                    }
                }
            }
        }
        for (stream, n) in &absent {
            let why = rejected.get(&(stream.clone(), *n));
            assert!(why.is_some(), "{}: {stream} {n} is refused by adapt alone", self.name());
            if let Some(outcome) = outcomes.get_mut(n) {
                *outcome = outcome.replace("nearest", "refused");
            }
        }
        for ((_, n, _), _) in preserved.iter().filter(|(_, fate)| **fate == Became::Emptied) {
            if let Some(outcome) = outcomes.get_mut(n) {
                *outcome = outcome.replace("nearest", "NULL");
            }
        }
        outcomes
    }

    /// The import that leaves rows out: it reports the reason of each.
    fn rejecting(&self) -> (Rejected, Outcomes) {
        self.to.clear();
        let set_aside = self.to.beside("rejects");
        drop(fs::remove_file(&set_aside));
        let words = ["--on-unrepresentable=reject", "--rejects", set_aside.to_str().unwrap()];
        let create = self.create();
        let options = [self.options(), words.to_vec(), vec![&create]].concat();
        let (run, report) = import(&self.from.archive, self.to, &options);
        assert!(matches!(run.code, Some(0 | 14)), "{}: {}", self.name(), run.stderr);
        let rejected = rejects(&set_aside);
        let fates = self.from.before.judge(self.to, &report, &rejected, &BTreeSet::new());
        let fates = fates.unwrap_or_else(|e| panic!("{}, rejecting:\n{e}", self.name()));
        let mut outcomes = Outcomes::new();
        for area in &self.catalogue.area {
            let (stream, column) = area.place();
            for case in &area.cases {
                let Some(fate) = fates.get(&(stream, case.number, column.to_owned())) else {
                    continue;
                };
                outcomes.insert(case.number, in_words(fate, column));
            }
        }
        (rejected, outcomes)
    }

    fn known_hopeless(&self, rejected: &Rejected) -> BTreeSet<(String, usize)> {
        let known = self.hopeless.lock().unwrap();
        let mut found = BTreeSet::new();
        for (place, why) in rejected {
            for (column, _) in why.iter().filter(|(column, _)| !column.is_empty()) {
                let slot = self.slot(&place.0, column);
                if known.get(&slot).is_some_and(|rows| rows.contains(place)) {
                    found.insert(place.clone());
                }
            }
        }
        found
    }

    /// The import that loads the nearest value; the result of every value, or the row that it refused.
    fn loading(
        &self,
        archive: &Path,
        policy: &str,
        rejected: &Rejected,
        absent: &BTreeSet<(String, usize)>,
    ) -> Result<Fates, (String, usize)> {
        self.to.clear();
        let words = format!("--on-unrepresentable={policy}");
        let create = self.create();
        let options = [self.options(), vec![&words, &create]].concat();
        let (run, report) = import(archive, self.to, &options);
        let name = format!("{}, {policy}", self.name());
        if run.code == Some(10) {
            let message = report["error"]["message"].as_str().unwrap();
            return Err(self.refused(archive, message));
        }
        assert_eq!(run.code, Some(0), "{name}: {}", run.stderr);
        let fates = self.from.before.judge(self.to, &report, &Rejected::new(), absent);
        let fates = fates.unwrap_or_else(|e| panic!("{name}:\n{e}"));
        let mut expected = BTreeMap::<(String, String, String), u64>::new();
        // a reference that cannot be stored, to a row that cannot be stored either, has one of the two reasons
        let mut follows = BTreeMap::<(String, String), u64>::new();
        for (place, why) in rejected {
            for (column, _) in why.iter().filter(|(_, r)| r.ends_with("was left out")) {
                *follows.entry((place.0.clone(), column.clone())).or_default() += 1;
            }
        }
        for (place, why) in rejected.iter().filter(|(place, _)| !absent.contains(*place)) {
            for (column, reason) in
                why.iter().filter(|(c, r)| !c.is_empty() && !r.ends_with("was left out"))
            {
                let place = (place.0.clone(), column.clone(), reason.clone());
                *expected.entry(place).or_default() += 1;
            }
        }
        let mut counted: BTreeMap<(String, String, String), u64> = (report["changes"].as_array())
            .unwrap()
            .iter()
            .filter(|c| c["kind"] == "adapted" || c["kind"] == "preserved")
            .map(|c| {
                let text = |key: &str| c[key].as_str().unwrap().to_owned();
                ((text("stream"), text("column"), text("reason")), c["values"].as_u64().unwrap())
            })
            .collect();
        counted.retain(|(stream, column, reason), values| {
            let known = expected.contains_key(&(stream.clone(), column.clone(), reason.clone()));
            known || follows.get(&(stream.clone(), column.clone())).is_none_or(|n| *values > *n)
        });
        assert_eq!(counted, expected, "{name}: what is counted is what reject leaves out");
        if policy == "preserve" {
            let again = self.to.beside("again.archive");
            export(self.to, &again);
            let wrong = given_back(&lines(archive), &lines(&again));
            assert!(wrong.is_empty(), "{name}: not given back:\n{}", wrong.join("\n"));
        }
        Ok(fates)
    }

    /// The row that an error names.
    fn refused(&self, archive: &Path, message: &str) -> (String, usize) {
        let (table, rest) = message.split_once(": row ").unwrap_or_else(|| panic!("{message}"));
        let place: usize = rest.split(' ').next().unwrap().parse().unwrap();
        let column = rest
            .split("column \"")
            .nth(1)
            .unwrap_or_else(|| panic!("{}: {message}", self.name()))
            .split('"')
            .next()
            .unwrap();
        let stream = STREAMS.into_iter().find(|s| self.to.stream(s).table == table).unwrap();
        let all = lines(archive);
        let line = all.iter().filter(|l| l.stream == stream).nth(place - 1).unwrap();
        let refused = (stream.to_owned(), line.number().unwrap());
        let slot = self.slot(stream, column);
        self.hopeless.lock().unwrap().entry(slot).or_default().insert(refused.clone());
        refused
    }
}

fn in_words(fate: &Became, column: &str) -> String {
    match fate {
        Became::Kept => "kept".into(),
        Became::Converted => "converted".into(),
        Became::Follows => "follows".into(),
        Became::Folded => "stored".into(),
        Became::Orphan => "orphan".into(),
        Became::Changed if column == "event_type" => "mapped".into(),
        Became::Changed if column == "session_id" => "orphan".into(),
        Became::Changed | Became::Emptied => "remapped".into(),
        Became::Rejected(reason) if reason.ends_with(" was left out") => "left out".into(),
        Became::Rejected(reason) if reason.contains(" is not allowed by ") => {
            "nearest: not allowed by the target's CHECK".into()
        }
        Became::Rejected(reason) => {
            format!("nearest: {}", reason.replace(|c: char| c == '|' || c.is_control(), " "))
        }
    }
}

#[test]
fn every_odd_value_is_accounted_for_in_every_pair_of_layouts() {
    let catalogue = catalogue();
    let sources: Vec<Source> = std::thread::scope(|scope| {
        let made = FROM.map(|layout| scope.spawn(|| Source::new(layout, &catalogue)));
        made.map(|source| source.join().unwrap()).into()
    });
    let pairs: Vec<(usize, &str)> =
        TO.into_iter().flat_map(|to| (0..FROM.len()).map(move |from| (from, to))).collect();
    let (next, hopeless) = (AtomicUsize::new(0), Hopeless::default());
    let outcomes = Mutex::new(Vec::new());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut stores = BTreeMap::<&str, Store>::new();
                while let Some((from, to)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let from = &sources[*from];
                    let to = &*stores.entry(to).or_insert_with(|| Store::empty(to));
                    let meeting = Meeting { from, to, catalogue: &catalogue, hopeless: &hopeless };
                    let run = std::panic::AssertUnwindSafe(|| meeting.run());
                    match std::panic::catch_unwind(run) {
                        Ok(found) => {
                            let way = (from.store.backend().word(), to.backend().word());
                            outcomes.lock().unwrap().push((way, found));
                        }
                        Err(_) => wrong.lock().unwrap().push(meeting.name()),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} pairs: {}", wrong.len(), wrong.join(", "));
    let outcomes = outcomes.into_inner().unwrap();
    let words = outcomes.iter().flat_map(|(_, found)| found.values());
    let emptied: BTreeSet<&str> = words.filter_map(|word| word.strip_prefix("NULL: ")).collect();
    let nothing_near: BTreeSet<&str> = NOTHING_NEAR.into_iter().collect();
    assert_eq!(emptied, nothing_near, "the reasons for which NULL is loaded");
    same_as_document(&document(&catalogue, &outcomes));
}

/// Why NULL is loaded: nothing near such a value is of the column's type.
const NOTHING_NEAR: [&str; 5] = [
    "a blob is not an integer",
    "not a date and time",
    "an integer is not an instant",
    "a blob is not an instant",
    "a text is not an integer",
];

#[test]
fn the_catalogue_has_at_least_150_cases_and_no_name_twice() {
    let catalogue = catalogue();
    let names: Vec<&str> =
        catalogue.area.iter().flat_map(|a| a.cases.iter().map(|c| c.name.as_str())).collect();
    assert!(names.len() >= 150, "{}", names.len());
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len());
}
