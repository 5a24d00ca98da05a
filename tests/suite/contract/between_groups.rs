//! What others do between two groups of an import: their changes stay, and what is done stays undoable.

use super::groups::{EVENTS, archive, batch, killed_at, whole_of};
use super::*;

both! {
    a_table_that_was_changed_stops_the_next_group
    a_row_that_was_deleted_comes_back_once
}

const RESUMABLE: [&str; 2] = ["--resumable", "--commit-every=1"];
const RESUME: [&str; 2] = ["--resume", "--commit-every=1"];

fn a_table_that_was_changed_stops_the_next_group(backend: Backend) {
    let (store, archive, after) = whole_of(backend.make("between_changed"));
    let before = store.everything();
    killed_at(&store, &archive, &RESUMABLE, "groups: between two=abort@3");
    let half = store.everything();
    let events = backend.events();
    for (change, back) in [
        (
            format!("ALTER TABLE {events} ADD COLUMN foo text"),
            format!("ALTER TABLE {events} DROP COLUMN foo"),
        ),
        (
            format!("ALTER TABLE {events} RENAME COLUMN tool_name TO tool"),
            format!("ALTER TABLE {events} RENAME COLUMN tool TO tool_name"),
        ),
    ] {
        store.run(&change);
        let stopped = store.import(&archive, &RESUME);
        assert_ne!(stopped.code, Some(0), "{change}");
        stopped.stderr_lacks("the rows are imported");
        assert_eq!(batch(&store)["status"], "failed", "{change}");
        store.run(&back);
        assert_same_rows(&half, &store.everything());
    }
    store.import(&archive, &RESUME).success();
    assert_same_rows(&after, &store.everything());
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_row_that_was_deleted_comes_back_once(backend: Backend) {
    let (store, archive, after) = whole_of(backend.make("between_deleted"));
    let before = store.everything();
    killed_at(&store, &archive, &RESUMABLE, "groups: between two=abort@3");
    let (sessions, events) = (backend.sessions(), backend.events());
    store.run(&format!("DELETE FROM {events} WHERE session_id = '{}'", id(2)));
    store.run(&format!("DELETE FROM {sessions} WHERE id = '{}'", id(2)));
    // the session has to come again for the events behind
    store.import(&archive, &RESUME).success();
    assert_eq!(store.one(&format!("SELECT count(*) FROM {sessions}")), "3");
    let left = store.everything();
    assert_ne!(left, after, "the deleted events stay deleted");
    let undone = store.rollback("last", &["--force"]).success();
    undone.stdout_has(&format!("3 {sessions} removed"));
    assert_same_rows(&before, &store.everything());
    store.rollback(&store.newest(), &["--force"]).success();
    assert_same_rows(&left, &store.everything());
}

#[test]
fn imports_in_groups_take_turns_on_a_server() {
    let store = server_of(SUPA, "between_turns");
    let archive = archive(&store);
    let jobs = ["--jobs=2", "--commit-every=1", "--wait=60"];
    for _ in 0..3 {
        let running: Vec<_> =
            (0..3).map(|_| importing(&archive, &store.url(), &jobs).spawn()).collect();
        for run in running {
            run.wait().success();
        }
        assert_eq!(store.one("SELECT count(*) FROM chronicle_events"), EVENTS.to_string());
        let imports: Vec<Value> =
            store.history().into_iter().filter(|b| b["migration_type"] == "import").collect();
        let brought: Vec<u64> =
            imports.iter().rev().take(3).filter_map(|b| b["records_migrated"].as_u64()).collect();
        assert_eq!(brought.iter().sum::<u64>(), u64::from(3 + EVENTS), "{brought:?}");
        for batch in imports.iter().rev().take(3).filter(|b| b["records_migrated"] != 0) {
            store.rollback(batch["batch_id"].as_str().expect("an id"), &[]).success();
        }
    }
}

#[test]
fn entries_are_looked_up_by_their_keys() {
    let store = server_of(SUPA, "between_entries");
    let note =
        "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'n' || duration_ms;";
    let archive = super::groups::in_small_chunks(&store.archive(&(super::groups::rows() + note)));
    let preserve = "--on-missing-column=preserve";
    let options = [&RESUMABLE[..], &[preserve]].concat();
    killed_at(&store, &archive, &options, "groups: between two=abort@2");
    // as after many rows of which the server's statistics know nothing yet
    store.run("ALTER TABLE chronicle_dump.sidecar SET (autovacuum_enabled = off)");
    store.run(
        "INSERT INTO chronicle_dump.sidecar SELECT 'public', 'chronicle_events', 'other ' || n, '{}' \
         FROM generate_series(1, 20000) n",
    );
    let read = || {
        store.run("SELECT pg_stat_force_next_flush()");
        let sql = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'chronicle_dump.sidecar'::regclass";
        store.one(sql).parse::<u64>().expect("a number")
    };
    let before = read();
    store.import(&archive, &[&RESUME[..], &[preserve]].concat()).success();
    let looked = read() - before;
    // each group, the rows of the batch read back, and some whole reads of the table; never all for each row
    assert!(looked < 40 * 20_000, "{looked} entries were read");
}
