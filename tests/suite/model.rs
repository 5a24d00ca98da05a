//! A database of random rows in a random layout goes into another random layout under random policies: what both hold
//! is the same, and the report explains the rest.
//!
//! `MODEL_CASES=500 tests/run model::` tries more of them.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value as Json;

use crate::support::program::Program;
use crate::support::witness::{
    Before, Rejected, Store, export, given_back, import, lines, rejects,
};

use super::catalogue::{Case, catalogue, row};

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

#[derive(Debug, Clone)]
struct Model {
    from: &'static str,
    to: &'static str,
    /// Which cases of the catalogue stand in the rows.
    odd: Vec<usize>,
    /// How many rows are as Chronicle writes them.
    usual: usize,
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
    let missing = prop::sample::select(vec!["fail", "fold", "drop", "add"]);
    let types = prop::sample::select(vec!["keep", "upstream"]);
    let orphans = prop::sample::select(vec!["fail", "keep", "skip"]);
    let options = (policy, missing, types, orphans, prop::bool::weighted(0.9));
    (layout(), layout(), odd, 1..6_usize, options).prop_map(|(from, to, odd, usual, options)| {
        let (policy, missing, event_types, orphans, zone) = options;
        Model { from, to, odd, usual, policy, missing, event_types, orphans, zone }
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
    store.try_each(&rows.into_iter().flatten().collect::<Vec<_>>());
    store
}

/// One trip; an error says what was lost without a word.
fn travel(model: &Model) -> Result<(), String> {
    let from = filled(model);
    let before = Before::of(&from);
    let archive = from.beside("a.archive");
    export(&from, &archive);
    let to = Store::made(model.to);
    let set_aside = to.beside("rejects");
    let mut options: Vec<String> = vec![
        format!("--on-unrepresentable={}", model.policy),
        format!("--on-missing-column={}", model.missing),
        format!("--event-types={}", model.event_types),
        format!("--orphans={}", model.orphans),
    ];
    if model.zone {
        options.push("--assume-tz=+02:00".into());
    }
    let checked: Vec<String> = options.clone();
    if model.policy == "reject" {
        options.push(format!("--rejects={}", set_aside.to_str().unwrap()));
    }
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let (run, report) = import(&archive, &to, &words);
    if !matches!(run.code, Some(0 | 14)) {
        return unchanged(model, &to, &archive, &report, &checked);
    }
    let rejected = if model.policy == "reject" { rejects(&set_aside) } else { Rejected::new() };
    to.forget();
    before.judge(&to, &report, &rejected, &BTreeSet::new())?;
    if model.policy == "preserve" && model.missing == "fold" {
        let again = to.beside("b.archive");
        export(&to, &again);
        let wrong = given_back(&lines(&archive), &lines(&again));
        if !wrong.is_empty() {
            return Err(format!("not given back:\n{}", wrong.join("\n")));
        }
    }
    let _ = fs::remove_file(set_aside);
    Ok(())
}

/// After an import that failed: the target is as it was, and a check finds what stopped it.
fn unchanged(
    model: &Model,
    to: &Store,
    archive: &std::path::Path,
    report: &Json,
    options: &[String],
) -> Result<(), String> {
    let code = report["error"]["code"].as_str().unwrap_or("none").to_owned();
    let expected = ["value.refused", "plan.refused", "row.orphan", "row.conflict"];
    if !expected.contains(&code.as_str()) {
        return Err(format!("{model:?} failed: {report}"));
    }
    to.forget();
    for stream in ["sessions", "events"] {
        if !to.rows(stream).is_empty() {
            return Err(format!("{stream}: rows are left of an import that failed"));
        }
    }
    let url = to.url();
    let words = ["check", archive.to_str().unwrap(), "--to", &url, "--json", "--quiet"];
    let check = Program::new(words.into_iter().chain(options.iter().map(String::as_str))).run();
    if check.code == Some(0) || !check.text().contains(&code) {
        return Err(format!("check does not find {code}: {} {}", check.text(), check.stderr));
    }
    Ok(())
}

#[test]
fn what_both_layouts_hold_is_the_same_and_the_report_explains_the_rest() {
    let cases = std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(32);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let count = catalogue().area.iter().map(|a| a.cases.len()).sum();
    let result = TestRunner::new(config).run(&models(count), |model| {
        travel(&model).map_err(|why| TestCaseError::fail(format!("{model:?}:\n{why}")))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
