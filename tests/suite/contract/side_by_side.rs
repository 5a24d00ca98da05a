//! An import by several connections: it brings what one brings, is killed and goes on like one, and is undone like one.

use std::time::Duration;

use super::groups::{
    EVENTS, archive, batch, count, in_small_chunks, killed_at, rows, traced, undo_all, whole_of,
};
use super::*;

const JOBS: [&str; 2] = ["--jobs=4", "--commit-every=1"];
const RESUME: [&str; 3] = ["--resume", "--jobs=4", "--commit-every=1"];

#[test]
fn several_connections_bring_what_one_brings() {
    let (store, archive, after) = whole_of(server_of(SUPA, "jobs_whole"));
    let before = store.everything();
    for options in [&JOBS[..], &["--jobs=3", "--commit-every=2"], &["--jobs=2"]] {
        let (points, output) = traced(&store, &archive, options);
        let done = output.success();
        // the sessions, then a group of each connection and the end
        assert!(count(&points, "groups: between two") >= 3, "{points:?}");
        let done = done.stderr_lacks("loaded by one connection");
        done.stdout_has(&format!("imported 3 sessions, {EVENTS} events"));
        assert_same_rows(&after, &store.everything());
        let record = batch(&store);
        assert_eq!(
            (&record["status"], &record["records_migrated"]),
            (&json!("completed"), &json!(3 + EVENTS))
        );
        Program::new(["history", &store.url(), "--verify"]).run().success();
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &store.everything());
    }
}

#[test]
fn several_connections_store_originals() {
    let store = server_of(SUPA, "jobs_originals");
    let note =
        "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'n' || duration_ms;";
    let archive = in_small_chunks(&store.archive(&(rows() + note)));
    let preserve = "--on-missing-column=preserve";
    store.import(&archive, &[preserve]).success();
    let after = store.everything();
    store.rollback("last", &[]).success();
    let before = store.everything();
    assert!(after.len() > before.len() + 2 * EVENTS as usize, "each event has an original");
    for options in [&JOBS[..], &["--jobs=2"]] {
        store.import(&archive, &[options, &[preserve]].concat()).success();
        assert_same_rows(&after, &store.everything());
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &store.everything());
    }
}

#[test]
fn several_connections_that_are_killed_go_on() {
    let (store, archive, after) = whole_of(server_of(SUPA, "jobs_killed"));
    let (points, output) = traced(&store, &archive, &JOBS);
    output.success();
    store.rollback("last", &[]).success();
    let writes = count(&points, "load: after rows");
    for (point, times) in [
        ("groups: between two", 2..=8),
        ("load: after rows", 2..=5),
        ("history: before the end", 2..=4),
        ("commit: before", 2..=3),
        ("commit: after", 2..=4),
    ] {
        for time in times {
            killed_at(&store, &archive, &JOBS, &format!("{point}=abort@{time}"));
            let done = batch(&store)["resume"]["rows"].as_u64().unwrap_or(0);
            let (points, output) = traced(&store, &archive, &RESUME);
            output.success();
            let again = count(&points, "load: after rows");
            assert!(
                again <= writes && (done == 3 || again < writes),
                "{point} {time}: {again} of {writes}, {done}"
            );
            assert_same_rows(&after, &store.everything());
            assert_eq!(batch(&store)["records_migrated"], json!(3 + EVENTS), "{point} {time}");
            store.rollback("last", &[]).success();
        }
    }
}

#[test]
fn several_connections_are_killed_at_any_time() {
    let (store, archive, after) = whole_of(server_of(SUPA, "jobs_random"));
    let before = store.everything();
    let (mut wait, mut kills) = (Duration::from_millis(150), 0);
    loop {
        let mut running = importing(&archive, &store.url(), &RESUME).spawn();
        std::thread::sleep(wait);
        if !running.is_running() {
            running.wait().success();
            break;
        }
        running.kill();
        kills += 1;
        wait += Duration::from_millis(37);
    }
    assert!(kills > 0, "they were killed at least once");
    assert_same_rows(&after, &store.everything());
    undo_all(&store);
    assert_same_rows(&before, &store.everything());
}

#[test]
fn a_row_that_one_connection_cannot_load_stops_all() {
    let store = server_of(SUPA, "jobs_error");
    let before = store.everything();
    let bad = rows() + "UPDATE events SET duration_ms = -1 WHERE duration_ms = 300;";
    let archive = in_small_chunks(&store.archive(&bad));
    let failed = store.import(&archive, &JOBS);
    assert_ne!(failed.code, Some(0));
    failed
        .stderr_has("change what refuses the value in the target first")
        .stderr_lacks("nothing was changed");
    let half = batch(&store);
    assert_eq!(half["status"], "failed", "{half}");
    let id = half["batch_id"].as_str().expect("an id");
    store.rollback(id, &[]).success();
    assert_same_rows(&before, &store.everything());
}

#[test]
fn connections_that_would_wait_for_each_other_are_one() {
    // this role owns the tables, but may not keep their triggers from firing without an ALTER TABLE
    let store = server_of(OWNER, "jobs_triggers");
    let archive = archive(&store);
    let before = store.everything();
    store.run(
        "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER noop BEFORE INSERT ON chronicle_events FOR EACH ROW EXECUTE FUNCTION noop()",
    );
    let done = store.import(&archive, &JOBS).success();
    done.stderr_has("everything was loaded by one connection: only an ALTER TABLE");
    assert_eq!(store.one("SELECT count(*) FROM chronicle_events"), EVENTS.to_string());
    store.rollback("last", &[]).success();
    store.run("DROP FUNCTION noop() CASCADE");
    assert_same_rows(&before, &store.everything());
}

#[test]
fn a_file_has_one_writer() {
    let store = Backend::Sqlite.make("jobs_sqlite");
    let archive = archive(&store);
    store.import(&archive, &["--jobs=2"]).fails_with(2).stderr_has("a SQLite file has one writer");
    store.import(&archive, &["--jobs=1", "--commit-every=1"]).success();
}
