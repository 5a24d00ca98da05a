//! A database of random rows in a random layout goes into another random layout under random policies: what both hold
//! is the same, and the report explains the rest.
//!
//! `MODEL_CASES=500 tests/run model::` tries more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chronicle_archive::Kind;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value as Json;

use crate::support::oracle::{
    Became, Before, Cell, Digest, EAST, Fates, Line, Rejected, Row, STREAMS, Store, digests,
    export, given_back, import, instant, lines, rejects, without,
};
use crate::support::program::Program;

use super::catalogue::{Case, catalogue, row, session_id};

const LAYOUTS: [&str; 12] = [
    "hooks",
    "server",
    "hooks-strict",
    "hooks-metadata",
    "uv-scripts",
    "models",
    "tutorial-sqlite",
    "upstream",
    "tutorial-postgres",
    "first-postgres",
    "setup-script",
    "supabase-guide",
];

#[derive(Debug, Clone, Default)]
struct Model {
    from: &'static str,
    to: &'static str,
    /// Which cases of the catalogue are in the rows.
    odd: Vec<usize>,
    /// How many rows are as Chronicle writes them.
    usual: usize,
    /// How many events refer to a missing session.
    lost: usize,
    /// How many sessions and events of others the target holds.
    others: usize,
    /// Whether the target has a part of the rows already.
    again: bool,
    policy: &'static str,
    missing: &'static str,
    event_types: &'static str,
    orphans: &'static str,
    zone: bool,
}

fn models(cases: usize) -> impl Strategy<Value = Model> {
    let layout = || prop::sample::select(&LAYOUTS[..]);
    let odd = prop::collection::vec(1..=cases, 0..12);
    let policy = prop::sample::select(vec!["fail", "adapt", "preserve", "reject"]);
    let missing = prop::sample::select(vec!["fail", "preserve", "fold", "drop", "add"]);
    let types = prop::sample::select(vec!["keep", "upstream", "tutorial"]);
    let orphans = prop::sample::select(vec!["fail", "keep", "skip", "adopt"]);
    let options = (policy, missing, types, orphans, prop::bool::weighted(0.9));
    let rows = (odd, 1..6_usize, 0..3_usize, 0..3_usize, prop::bool::weighted(0.3));
    (layout(), layout(), rows, options).prop_map(|(from, to, rows, options)| {
        let (odd, usual, lost, others, again) = rows;
        let (policy, missing, event_types, orphans, zone) = options;
        let rows = Model { from, to, odd, usual, lost, others, again, ..Model::default() };
        Model { policy, missing, event_types, orphans, zone, ..rows }
    })
}

/// A database with the rows of a model.
fn filled(model: &Model) -> Store {
    let store = Store::made(model.from);
    let catalogue = catalogue();
    let mut rows = vec![row(&store, "sessions", 0, None)];
    for stream in ["sessions", "events"] {
        for area in &catalogue.area {
            let (of, column) = area.place();
            let chosen = |case: &&Case| of == stream && model.odd.contains(&case.number);
            for case in area.cases.iter().filter(chosen) {
                if let Some(sql) = case.literal(store.backend()) {
                    rows.push(row(&store, of, case.number, Some((column, sql))));
                }
            }
        }
        rows.extend((0..model.usual).map(|n| row(&store, stream, 1000 + n, None)));
    }
    rows.extend((0..model.lost).map(|n| event_of(&store, 2000 + n, 3000 + n)));
    store.try_each(&rows.into_iter().flatten().collect::<Vec<_>>());
    store
}

/// An event of a session, both by their numbers.
fn event_of(store: &Store, n: usize, session: usize) -> Option<String> {
    row(store, "events", n, Some(("session_id", &session_id(store, session))))
}

/// A database with rows of others, which no import touches.
fn occupied(model: &Model) -> Store {
    let store = Store::made(model.to);
    let numbers = || 5000..5000 + model.others;
    let sessions = numbers().map(|n| row(&store, "sessions", n, None));
    let rows = sessions.chain(numbers().map(|n| event_of(&store, n, n)));
    store.try_each(&rows.flatten().collect::<Vec<_>>());
    store
}

/// All rows of a database, in an order of their own.
fn held(store: &Store) -> BTreeMap<&'static str, Vec<Row>> {
    store.forget();
    let sorted = |stream| {
        let mut rows = store.rows(stream);
        rows.sort_by_cached_key(|row| format!("{row:?}"));
        rows
    };
    STREAMS.into_iter().map(|stream| (stream, sorted(stream))).collect()
}

/// Imports every second event and all sessions; whether it succeeds is no matter. Returns the orphans that it reports.
fn import_a_part(archive: &Path, to: &Store, options: &[&str]) -> Vec<Json> {
    let part = to.beside("part.archive");
    let events = lines(archive).iter().filter(|line| line.stream == "events").count();
    let leave = (0..events).step_by(2).map(|n| ("events".to_owned(), n)).collect();
    without(archive, &part, &leave);
    let (_, report) = import(&part, to, options);
    report["orphans"].as_array().cloned().unwrap_or_default()
}

/// One trip; an error says what was lost without a word.
fn travel(model: &Model) -> Result<(), String> {
    let from = filled(model);
    let before = Before::of(&from);
    let archive = from.beside("a.archive");
    export(&from, &archive);
    let to = occupied(model);
    let mut options: Vec<String> = vec![
        format!("--on-unrepresentable={}", model.policy),
        format!("--on-missing-column={}", model.missing),
        format!("--map-event-types={}", model.event_types),
        format!("--orphans={}", model.orphans),
    ];
    if model.zone {
        options.push("--assume-tz=+02:00".into());
    }
    let set_aside = to.beside("rejects");
    let keep_rejects = format!("--rejects={}", set_aside.to_str().unwrap());
    let asked: Vec<&str> = options.iter().map(String::as_str).collect();
    let rejecting = (model.policy == "reject").then_some(keep_rejects.as_str());
    let words: Vec<&str> = asked.iter().copied().chain(rejecting).collect();
    let mut told = Vec::new();
    if model.again {
        told = import_a_part(&archive, &to, &words);
        let _ = fs::remove_file(&set_aside);
    }
    let had = held(&to);
    let (run, mut report) = import(&archive, &to, &words);
    if !matches!(run.code, Some(0 | 14)) {
        return unchanged(model, &to, &had, &archive, &report, &asked);
    }
    let rejected = if rejecting.is_some() { rejects(&set_aside) } else { Rejected::new() };
    let has = held(&to);
    // existing orphans were reported by the import that loaded them
    report["orphans"].as_array_mut().unwrap().append(&mut told);
    let fates = before.judge(&to, &report, &rejected, &BTreeSet::new())?;
    counted(&lines(&archive), &had, &has, &report)?;
    let again = to.beside("b.archive");
    export(&to, &again);
    kept_values_digest_equally(&before, &fates, &archive, &again)?;
    if model.policy == "preserve" && matches!(model.missing, "preserve" | "fold") {
        let wrong = given_back(&lines(&archive), &lines(&again));
        if !wrong.is_empty() {
            return Err(format!("not given back:\n{}", wrong.join("\n")));
        }
    }
    let _ = fs::remove_file(set_aside);
    Ok(())
}

/// All rows of before exist, and as many new ones as the report says; it accounts for every row.
fn counted(
    sent: &[Line],
    had: &BTreeMap<&'static str, Vec<Row>>,
    has: &BTreeMap<&'static str, Vec<Row>>,
    report: &Json,
) -> Result<(), String> {
    let new: i64 = STREAMS.iter().map(|s| has[s].len() as i64 - had[s].len() as i64).sum();
    let said = |of: &Json, keys: &[&str]| -> i64 {
        keys.iter().map(|key| of[key].as_i64().unwrap()).sum()
    };
    let streams = report["streams"].as_array().unwrap();
    let told: i64 = streams.iter().map(|s| said(s, &["inserted_rows", "adopted_rows"])).sum();
    if new != told {
        return Err(format!("{new} new rows, {told} in the report"));
    }
    for (stream, of) in STREAMS.into_iter().zip(streams) {
        let keys = ["inserted_rows", "skipped_rows", "skipped_orphans", "rejected_rows"];
        let rows = sent.iter().filter(|line| line.stream == stream).count() as i64;
        if said(of, &keys) != rows {
            return Err(format!("{stream}: {rows} rows, the report tells of {of}"));
        }
        // an import may have added columns
        let there = |row: &Row| {
            has[stream].iter().any(|now| row.iter().all(|(name, cell)| now.get(name) == Some(cell)))
        };
        if let Some(gone) = had[stream].iter().find(|row| !there(row)) {
            return Err(format!("{stream}: not as it was: {gone:?}"));
        }
    }
    Ok(())
}

/// Every value that was kept has in both archives the same row digest `lrd1`, and so has one that was only spelled
/// otherwise. What was changed is in the report.
fn kept_values_digest_equally(
    before: &Before,
    fates: &Fates,
    archive: &Path,
    again: &Path,
) -> Result<(), String> {
    let (first, second) = (digests(archive), digests(again));
    let mut wrong = Vec::new();
    for (place, fate) in fates {
        let (stream, n, column) = place;
        let key = ((*stream).to_owned(), *n, column.clone());
        let (Some(a), Some(b)) = (first.get(&key), second.get(&key)) else { continue };
        let cell = &before.rows[stream][n][column];
        let same = match fate {
            Became::Kept => a.kind == b.kind || spells_the_same(a, b, cell),
            Became::Converted => spells_the_same(a, b, cell),
            _ => false,
        };
        if same && a.hex != b.hex {
            wrong.push(format!("{stream} {n} {column}: {fate:?}, but another digest: {cell:?}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Whether `lrd1` sees no difference between a value and its other spelling in a column of another kind: it reads
/// times without a zone as UTC, which the policies read differently.
fn spells_the_same(from: &Digest, to: &Digest, cell: &Cell) -> bool {
    let at = |east| cell.text().and_then(|text| instant(text, east));
    match (from.kind, to.kind) {
        (Kind::Json | Kind::Jsonb, Kind::Json | Kind::Jsonb) => true,
        (Kind::Text, Kind::Time) => from.instant && at(0) == at(EAST),
        (Kind::Time, Kind::Text) => to.instant,
        _ => false,
    }
}

/// After an import that failed: the target is as it was, and a check finds what stopped it.
fn unchanged(
    model: &Model,
    to: &Store,
    had: &BTreeMap<&'static str, Vec<Row>>,
    archive: &Path,
    report: &Json,
    options: &[&str],
) -> Result<(), String> {
    let code = report["error"]["code"].as_str().unwrap_or("none").to_owned();
    let expected = ["value.refused", "plan.refused", "row.orphan", "row.conflict"];
    if !expected.contains(&code.as_str()) {
        return Err(format!("{model:?} failed: {report}"));
    }
    if held(to) != *had {
        return Err("the target is not as it was before an import that failed".into());
    }
    let url = to.url();
    let words =
        ["check", "--trust-zone", archive.to_str().unwrap(), "--to", &url, "--json", "--quiet"];
    let check = Program::new(words.iter().chain(options).copied()).run();
    if check.code == Some(0) || !check.text().contains(&code) {
        return Err(format!("check does not find {code}: {} {}", check.text(), check.stderr));
    }
    Ok(())
}

#[test]
fn random_moves_keep_or_report_every_value() {
    let cases = std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(32);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let count = catalogue().area.iter().map(|a| a.cases.len()).sum();
    let result = TestRunner::new(config).run(&models(count), |model| {
        travel(&model).map_err(|why| TestCaseError::fail(format!("{model:?}:\n{why}")))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
