//! A copy every night: it brings the target up to date, and writes nothing where nothing has changed.

use serde_json::json;

use crate::support::cluster::Database;
use crate::support::files::postgres_dump;
use crate::support::migrate::{Scratch, event, fill, id, json_of, postgres, session};
use crate::support::program::{Output, Program};

/// Where each version of each row is.
fn places(database: &Database) -> String {
    database.psql(
        "SELECT ctid, xmin FROM chronicle_sessions UNION ALL SELECT ctid, xmin FROM chronicle_events",
    )
}

/// What a copy did to sessions and to events: rows inserted, updated and left as they were.
fn counts(run: &Output) -> Vec<[u64; 3]> {
    let result = json_of(run);
    let streams = result["streams"].as_array().unwrap();
    let of = |stream: &serde_json::Value| {
        ["inserted_rows", "updated_rows", "skipped_rows"].map(|key| stream[key].as_u64().unwrap())
    };
    streams.iter().map(of).collect()
}

#[test]
fn a_nightly_copy_brings_the_target_up_to_date() {
    let scratch = Scratch::new("nightly_sync");
    let rows = session(1) + &session(2) + &event(11, 1, "prompt") + &event(12, 2, "stop");
    let source = scratch.sqlite("source.db", &["sqlite-hooks.sql"], &rows);
    let target = postgres("postgres-upstream.sql", "nightly_sync", "SELECT 1");
    let url = target.url();
    let night = || {
        let ends = ["copy", "--from", &source, "--to", &url, "--on-conflict=update"];
        let zone = ["--assume-tz=UTC", "--trust-zone", "--json"];
        Program::new(ends.iter().chain(&zone)).run().success()
    };
    assert_eq!(counts(&night()), [[2, 0, 0], [2, 0, 0]]);

    // a session ends, another one begins, and both have events
    let ended = format!(
        "UPDATE sessions SET end_time = '2025-08-19T11:00:00Z', updated_at = '2025-08-19 11:00:00' \
         WHERE id = '{}';",
        id(1)
    );
    fill(&source, &(ended + &session(3) + &event(13, 1, "stop") + &event(14, 3, "prompt")));
    assert_eq!(counts(&night()), [[1, 1, 1], [2, 0, 2]]);
    let end = format!(
        "SELECT end_time AT TIME ZONE 'UTC' FROM chronicle_sessions WHERE id = '{}'",
        id(1)
    );
    assert_eq!(target.psql(&end).trim(), "2025-08-19 11:00:00");
    let whose =
        "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(target.psql(whose).trim(), "4");
    Program::new(["diff", &source, &url, "--assume-tz=UTC"]).run().success();

    let (before, at) = (postgres_dump(&target), places(&target));
    assert_eq!(at.lines().count(), 7, "{at}");
    assert_eq!(counts(&night()), [[0, 0, 3], [0, 0, 4]]);
    assert_eq!(places(&target), at, "no row was written again");
    assert_eq!(postgres_dump(&target), before);
    let history = json_of(&Program::new(["history", "--json", &url]).run().success());
    let moved: Vec<_> = (history["batches"].as_array().unwrap().iter())
        .map(|batch| batch["records_migrated"].clone())
        .collect();
    assert!(moved.contains(&json!(0)) && moved.len() == 3, "{history}");
}
