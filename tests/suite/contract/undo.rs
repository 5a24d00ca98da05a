//! Every import can be undone exactly: the database is afterwards what it was before, judged by an independent dump.

use super::*;
use crate::support::everything::{everything_in_file, everything_on_server};

both! {
    an_import_of_new_rows_is_undone
    updated_rows_get_their_former_values
    cleared_rows_come_back
    several_archives_are_undone_as_one
    a_session_under_another_id_is_undone
    added_columns_go_again
    stored_originals_are_undone
    created_sessions_are_undone
    a_rollback_is_undone_by_its_id
    batches_are_undone_in_any_order_that_touches_other_rows
    rows_edited_since_stop_a_rollback
    rows_referred_to_since_stop_a_rollback
    rows_that_referred_to_nothing_before_do_not_stop_it
    an_edit_of_any_kind_stops_a_rollback
    force_undoes_the_rest
    a_forced_rollback_is_undone
    a_batch_is_undone_once
    a_dry_run_undoes_nothing
    without_receipts_there_is_no_undo
    pruned_receipts_are_no_receipts
    a_flipped_bit_in_a_receipt_stops_the_rollback
    a_changed_table_stops_the_rollback
    triggers_do_not_fire
    an_import_that_fails_leaves_the_rows_and_says_so
    a_dry_run_of_an_import_leaves_no_batch
    the_failure_of_a_later_archive_is_in_the_history
}

impl Store {
    /// All that the database holds but our own bookkeeping.
    #[track_caller]
    pub(super) fn everything(&self) -> Vec<String> {
        match &self.place {
            Place::File(path) => everything_in_file(path),
            Place::Server(database) => everything_on_server(database),
        }
    }

    #[track_caller]
    pub(super) fn rollback(&self, batch: &str, options: &[&str]) -> Output {
        let url = self.url();
        let start = ["rollback", batch, "--from", &url];
        Program::new(start.iter().chain(options).copied()).run()
    }

    /// The batches of the history.
    #[track_caller]
    pub(super) fn history(&self) -> Vec<Value> {
        let output = Program::new(["history", &self.url(), "--json"]).run().success();
        json_of(&output)["batches"].as_array().expect("batches").clone()
    }

    /// The id of the newest batch.
    #[track_caller]
    pub(super) fn newest(&self) -> String {
        let history = self.history();
        history.last().expect("a batch")["batch_id"].as_str().expect("an id").to_owned()
    }

    /// The name of our table of receipts.
    fn receipts(&self) -> &'static str {
        match self.place {
            Place::File(_) => "chronicle_dump_receipts",
            Place::Server(_) => "chronicle_dump.receipts",
        }
    }

    fn backend(&self) -> Backend {
        match self.place {
            Place::File(_) => Backend::Sqlite,
            Place::Server(_) => Backend::Postgres,
        }
    }
}

/// Runs an import, undoes it, and compares.
#[track_caller]
pub(super) fn undone(store: &Store, archive: &Path, options: &[&str]) -> Value {
    let before = store.everything();
    store.import(archive, options).success();
    let after = store.everything();
    assert_ne!(before, after, "the import does something");
    let done = json_of(&store.rollback("last", &["--json"]).success());
    assert_same_rows(&before, &store.everything());
    // and that is undone, too
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
    done
}

/// A database with the good rows, edited.
fn filled(backend: Backend, test_name: &str) -> Store {
    let store = backend.make(test_name);
    store.import(&store.archive(&good()), &["--no-undo"]).success();
    let events = backend.events();
    store.run(&format!("UPDATE {events} SET duration_ms = 99 WHERE id = '{}'", id(12)));
    store
}

fn more(store: &Store) -> PathBuf {
    store.archive(
        &(good() + &session(3, "cs-3") + &event(21, 3, "stop", "7") + &event(22, 1, "stop", "8")),
    )
}

fn an_import_of_new_rows_is_undone(backend: Backend) {
    let store = backend.make("undo_new");
    let done = undone(&store, &store.archive(&good()), &[]);
    assert_eq!(done["committed"], true);
    let counts: Vec<&Value> =
        done["tables"].as_array().expect("tables").iter().map(|t| &t["inserted"]).take(2).collect();
    assert_eq!(counts, [&json!(2), &json!(3)]);
}

fn updated_rows_get_their_former_values(backend: Backend) {
    let store = filled(backend, "undo_updated");
    undone(&store, &more(&store), &["--on-conflict=update"]);
}

fn cleared_rows_come_back(backend: Backend) {
    let store = filled(backend, "undo_cleared");
    let other =
        store.archive(&(session(8, "cs-8") + &event(31, 8, "stop", "1") + &session(1, "cs-1")));
    undone(&store, &other, &["--clear"]);
}

fn several_archives_are_undone_as_one(backend: Backend) {
    let store = filled(backend, "undo_several");
    let before = store.everything();
    let edit = format!("UPDATE events SET duration_ms = 5 WHERE id = '{}';", id(21));
    let second = store.archive(&(session(3, "cs-3") + &event(21, 3, "stop", "7") + &edit));
    let (first, url) = (more(&store), store.url());
    let [first, second] = [&first, &second].map(|path| path.to_str().expect("a path in UTF-8"));
    let import = ["import", first, second, "--to", &url, "--strict", "--on-conflict=update"];
    Program::new(import).run().success();
    assert_eq!(
        store.one(&format!("SELECT duration_ms FROM {} WHERE id = '{}'", backend.events(), id(21))),
        "5"
    );
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_session_under_another_id_is_undone(backend: Backend) {
    let store = filled(backend, "undo_renamed");
    let other = store.archive(&(session(9, "cs-1") + &event(10, 9, "stop", "NULL")));
    undone(&store, &other, &["--on-conflict=update"]);
}

/// The good rows and more, some of them with a value in a column that the target lacks.
fn with_notes(store: &Store) -> PathBuf {
    let note = format!(
        "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'x' WHERE id IN ('{}', '{}');",
        id(12),
        id(21)
    );
    store.archive(&(good() + &session(3, "cs-3") + &event(21, 3, "stop", "7") + &note))
}

fn added_columns_go_again(backend: Backend) {
    let store = filled(backend, "undo_columns");
    let options = ["--on-missing-column=add", "--on-conflict=update"];
    undone(&store, &with_notes(&store), &options);
}

fn stored_originals_are_undone(backend: Backend) {
    let store = filled(backend, "undo_originals");
    // our own tables are there before, so that they are compared
    let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'y';";
    let first = store.archive(&(session(5, "cs-5") + &event(15, 5, "stop", "1") + note));
    store.import(&first, &["--on-missing-column=preserve"]).success();
    let options = ["--on-missing-column=preserve", "--on-conflict=update"];
    undone(&store, &with_notes(&store), &options);
}

fn created_sessions_are_undone(backend: Backend) {
    let store = filled(backend, "undo_adopted");
    undone(&store, &store.archive(&event(41, 7, "stop", "1")), &["--orphans=adopt"]);
}

fn a_rollback_is_undone_by_its_id(backend: Backend) {
    let store = filled(backend, "undo_undo");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let after = store.everything();
    let first = store.newest();
    store.rollback("last", &[]).success();
    store.rollback("last", &[]).fails_with(2).stderr_has("--no-undo");
    let rollback = store.newest();
    store.rollback(&rollback, &[]).success();
    assert_same_rows(&after, &store.everything());
    // the import is there again, and is what the last batch is
    let status: Vec<String> =
        store.history().iter().map(|b| b["status"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(status, ["completed", "completed", "rolled_back", "completed"]);
    // and so on: what a batch is goes with what undoes it
    store.rollback(&store.newest(), &[]).success();
    let status: Vec<String> =
        store.history().iter().map(|b| b["status"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(status, ["completed", "rolled_back", "completed", "rolled_back", "completed"]);
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
    let again = json_of(&store.rollback("last", &["--json"]).success());
    assert_eq!(again["undone"], json!(first));
}

fn batches_are_undone_in_any_order_that_touches_other_rows(backend: Backend) {
    let store = filled(backend, "undo_order");
    let mut ids = Vec::new();
    let before = store.everything();
    for number in [51, 52, 53] {
        let rows = session(number, &format!("cs-{number}")) + &event(number, number, "stop", "1");
        store.import(&store.archive(&rows), &[]).success();
        ids.push(store.newest());
    }
    for batch in [&ids[1], &ids[2], &ids[0]] {
        store.rollback(batch, &[]).success();
    }
    assert_same_rows(&before, &store.everything());
}

fn rows_edited_since_stop_a_rollback(backend: Backend) {
    let store = filled(backend, "undo_edited");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let events = backend.events();
    store.run(&format!("UPDATE {events} SET duration_ms = 1000 WHERE id = '{}'", id(21)));
    store.run(&format!("DELETE FROM {events} WHERE id = '{}'", id(22)));
    let before = store.everything();
    store
        .rollback("last", &[])
        .fails_with(11)
        .stderr_has("3 rows of the batch were edited")
        .stderr_has(&format!("{events}: 2 rows edited, deleted or created since"))
        .stderr_has(&id(21))
        .stderr_has(&id(22))
        .stderr_has("nothing was changed")
        .stderr_has("--force");
    assert_same_rows(&before, &store.everything());
    let dry = json_of(&store.rollback("last", &["--dry-run", "--json"]).fails_with(11));
    assert_eq!(
        (&dry["stopped"]["code"], &dry["committed"]),
        (&json!("row.conflict"), &json!(false))
    );
    let table = &dry["tables"].as_array().expect("tables")[1];
    assert_eq!((&table["edited"]["rows"], &table["updated"]), (&json!(2), &json!(1)));
}

fn rows_referred_to_since_stop_a_rollback(backend: Backend) {
    let store = filled(backend, "undo_referred");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let other = store.archive(&(session(3, "cs-3") + &event(41, 3, "stop", "1")));
    store.import(&other, &[]).success();
    let later = store.newest();
    let first = store.history()[1]["batch_id"].as_str().expect("an id").to_owned();
    let before = store.everything();
    store
        .rollback(&first, &[])
        .fails_with(11)
        .stderr_has(&format!(
            "{}: 1 row referred to by other rows since: {}",
            backend.sessions(),
            id(3)
        ))
        .stderr_has(&later);
    assert_same_rows(&before, &store.everything());
    store.rollback(&later, &[]).success();
    store.rollback(&first, &[]).success();
}

fn rows_that_referred_to_nothing_before_do_not_stop_it(backend: Backend) {
    if backend == Backend::Postgres {
        // the server lets no row refer to nothing
        return;
    }
    let store = filled(backend, "undo_orphans");
    store.run(&event(71, 6, "stop", "1"));
    undone(&store, &store.archive(&session(6, "cs-6")), &[]);
}

fn force_undoes_the_rest(backend: Backend) {
    let store = filled(backend, "undo_force");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let events = backend.events();
    store.run(&format!("UPDATE {events} SET duration_ms = 1000 WHERE id = '{}'", id(21)));
    store.rollback("last", &["--force"]).success().stdout_has("2 rows left unchanged");
    let left = |number: u32| {
        store.one(&format!("SELECT count(*) FROM {events} WHERE id = '{}'", id(number)))
    };
    assert_eq!(
        [left(21), left(22), left(12)],
        ["1", "0", "1"],
        "the edited row and its session stay"
    );
    let session = format!("SELECT count(*) FROM {} WHERE id = '{}'", backend.sessions(), id(3));
    assert_eq!(store.one(&session), "1");
    let duration = format!("SELECT duration_ms FROM {events} WHERE id = '{}'", id(12));
    assert_eq!(store.one(&duration), "99");
}

fn an_edit_of_any_kind_stops_a_rollback(backend: Backend) {
    let store = backend.make("undo_edits");
    store.import(&store.archive(&good()), &[]).success();
    let events = backend.events();
    let swap = "timestamp = created_at, created_at = timestamp";
    let edits = [
        (swap, swap),
        ("tool_name = event_type", "tool_name = 'Bash'"),
        ("tool_name = ''", "tool_name = 'Bash'"),
        ("tool_name = NULL", "tool_name = 'Bash'"),
        ("tool_name = NULL, duration_ms = 12", "tool_name = 'Bash', duration_ms = NULL"),
        ("duration_ms = 0", "duration_ms = NULL"),
    ];
    for (edit, back) in edits {
        let set = |what: &str| format!("UPDATE {events} SET {what} WHERE id = '{}'", id(13));
        store.run(&set(edit));
        let stopped = store.rollback("last", &["--dry-run"]).fails_with(11);
        stopped
            .stderr_has(&format!("{events}: 1 row edited, deleted or created since: {}", id(13)));
        store.run(&set(back));
        store.rollback("last", &["--dry-run"]).success();
    }
}

/// The rows that stay are not among those that it gives back when it is undone itself.
fn a_forced_rollback_is_undone(backend: Backend) {
    let store = backend.make("undo_forced");
    store.import(&store.archive(&good()), &[]).success();
    let events = backend.events();
    store.run(&format!("UPDATE {events} SET duration_ms = 1000 WHERE id = '{}'", id(13)));
    let before = store.everything();
    store.rollback("last", &["--force"]).success().stdout_has("2 rows left unchanged");
    assert_eq!(store.one(&format!("SELECT count(*) FROM {events}")), "1");
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_batch_is_undone_once(backend: Backend) {
    let store = filled(backend, "undo_once");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let batch = store.newest();
    store.rollback(&batch, &[]).success();
    store.rollback(&batch, &[]).fails_with(2).stderr_has("is rolled back already by ");
    store.rollback("0000", &[]).fails_with(7).stderr_has("there is no batch 0000");
}

fn a_dry_run_undoes_nothing(backend: Backend) {
    let store = filled(backend, "undo_dry");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let (before, batches) = (store.everything(), store.history().len());
    store.rollback("last", &["--dry-run"]).success().stdout_has("nothing was changed (dry run)");
    assert_same_rows(&before, &store.everything());
    assert_eq!(store.history().len(), batches);
}

fn without_receipts_there_is_no_undo(backend: Backend) {
    let store = filled(backend, "undo_none");
    let receipts = format!("SELECT count(*) FROM {}", store.receipts());
    assert_eq!(store.one(&receipts), "0");
    store.rollback("last", &[]).fails_with(2).stderr_has("--no-undo").stderr_has("restore");
}

fn pruned_receipts_are_no_receipts(backend: Backend) {
    let store = filled(backend, "undo_pruned");
    for number in [51, 52, 53] {
        let rows = session(number, &format!("cs-{number}"));
        store.import(&store.archive(&rows), &[]).success();
    }
    let url = store.url();
    let history = |options: &[&str]| {
        Program::new(["history", url.as_str()].iter().chain(options).copied()).run()
    };
    history(&["--prune"]).fails_with(2).stderr_has("--keep N");
    history(&["--prune", "--older-than", "1h"]).success().stdout_has("0 batches");
    history(&["--prune", "--keep", "1"]).success().stdout_has("2 batches");
    history(&["--verify"]).success().stdout_has("are whole");
    let ids: Vec<String> =
        store.history().iter().map(|b| b["batch_id"].as_str().unwrap_or("").to_owned()).collect();
    store.rollback(&ids[2], &[]).fails_with(2).stderr_has("were removed by history --prune");
    store.rollback(&ids[3], &[]).success();
}

fn a_flipped_bit_in_a_receipt_stops_the_rollback(backend: Backend) {
    let store = filled(backend, "undo_flipped");
    store.import(&more(&store), &["--on-conflict=update"]).success();
    let (receipts, before) = (store.receipts(), store.everything());
    let length = store.one(&format!("SELECT length(piece) FROM {receipts}"));
    let length: usize = length.parse().expect("a number");
    for place in [0, length / 3, length / 2, length - 1] {
        let flip = |store: &Store| {
            match store.backend() {
            Backend::Sqlite => {
                let piece = store.one(&format!("SELECT hex(piece) FROM {receipts}"));
                let byte = u8::from_str_radix(&piece[2 * place..2 * place + 2], 16).expect("hex") ^ 4;
                let flipped = format!("{}{byte:02X}{}", &piece[..2 * place], &piece[2 * place + 2..]);
                store.run(&format!("UPDATE {receipts} SET piece = x'{flipped}'"));
            }
            Backend::Postgres => store.run(&format!(
                "UPDATE {receipts} SET piece = set_byte(piece, {place}, get_byte(piece, {place}) # 4)"
            )),
        }
        };
        flip(&store);
        store
            .rollback("last", &[])
            .fails_with(3)
            .stderr_has("damaged")
            .stderr_has("nothing was changed");
        let verify = Program::new(["history", &store.url(), "--verify"]).run();
        verify.fails_with(3).stderr_has("damaged");
        assert_same_rows(&before, &store.everything());
        flip(&store);
    }
    store.rollback("last", &[]).success();
}

fn a_changed_table_stops_the_rollback(backend: Backend) {
    let events = backend.events();
    for (change, said) in [
        (format!("ALTER TABLE {events} DROP COLUMN duration_ms"), "duration_ms was dropped"),
        (format!("ALTER TABLE {events} ADD COLUMN extra TEXT"), "extra was added"),
    ] {
        let store = filled(backend, "undo_changed");
        store.import(&more(&store), &["--on-conflict=update"]).success();
        if said.contains("dropped") {
            // other things refer to the column
            store.run(&format!("ALTER TABLE {events} RENAME COLUMN duration_ms TO lasted"));
        } else {
            store.run(&change);
        }
        let before = store.everything();
        store
            .rollback("last", &[])
            .fails_with(9)
            .stderr_has(said)
            .stderr_has("nothing was changed");
        assert_same_rows(&before, &store.everything());
    }
}

fn triggers_do_not_fire(backend: Backend) {
    let store = filled(backend, "undo_triggers");
    let (sessions, events) = (backend.sessions(), backend.events());
    match backend {
        Backend::Sqlite => store.run(&format!(
            "CREATE TABLE said (what TEXT); CREATE TRIGGER a AFTER DELETE ON {events} BEGIN INSERT INTO said VALUES ('x'); END; \
             CREATE TRIGGER b AFTER INSERT ON {sessions} BEGIN INSERT INTO said VALUES ('y'); END; \
             CREATE TRIGGER c AFTER UPDATE ON {events} BEGIN INSERT INTO said VALUES ('z'); END;"
        )),
        Backend::Postgres => store.run(&format!(
            "CREATE TABLE said (what text); CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN INSERT INTO said VALUES (TG_OP); RETURN coalesce(NEW, OLD); END$$; \
             CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON {events} FOR EACH ROW EXECUTE FUNCTION say(); \
             CREATE TRIGGER b AFTER INSERT OR DELETE ON {sessions} FOR EACH ROW EXECUTE FUNCTION say(); "
        )),
    }
    undone(&store, &more(&store), &["--on-conflict=update"]);
    undone(&store, &more(&store), &["--clear"]);
    store.import(&more(&store), &["--clear"]).success();
    assert_eq!(store.one("SELECT count(*) FROM said"), "0");
}

fn an_import_that_fails_leaves_the_rows_and_says_so(backend: Backend) {
    let store = filled(backend, "undo_failed");
    let before = store.everything();
    store.import(&store.archive(&bad_last_event()), &[]).fails_with(10);
    assert_same_rows(&before, &store.everything());
    let history = store.history();
    let failed = history.last().expect("a batch");
    assert_eq!((&failed["status"], &failed["records_migrated"]), (&json!("failed"), &json!(0)));
    assert!(failed["error_message"].as_str().expect("a text").contains(&id(14)), "{failed}");
    let batch = failed["batch_id"].as_str().expect("an id");
    store.rollback(batch, &[]).fails_with(2).stderr_has("it changed nothing");
}

fn a_dry_run_of_an_import_leaves_no_batch(backend: Backend) {
    let store = backend.make("undo_dry_import");
    store.import(&store.archive(&good()), &["--dry-run"]).success();
    assert_eq!(store.history(), Vec::<Value>::new());
}

fn the_failure_of_a_later_archive_is_in_the_history(backend: Backend) {
    let store = filled(backend, "undo_later_archive");
    let (before, first) = (store.everything(), more(&store));
    let bytes = fs::read(&first).expect("the archive");
    let cut = store.folder.path().join("cut.ndjson.zst");
    let url = store.url();
    // a file that is no archive, and those that end too early
    for length in [0, 40, bytes.len() / 2] {
        fs::write(&cut, &bytes[..length]).expect("a file");
        let [first, cut] = [&first, &cut].map(|path| path.to_str().expect("a path in UTF-8"));
        let import = ["import", first, cut, "--to", &url, "--strict", "--on-conflict=update"];
        Program::new(import).run().stderr_has("cut.ndjson.zst");
        assert_same_rows(&before, &store.everything());
        let history = store.history();
        let last = history.last().expect("a batch");
        assert_eq!(last["status"], "failed", "{length}: {last}");
        let why = last["error_message"].as_str().expect("a text");
        assert!(!why.contains("unexpectedly") && !why.contains("taken back"), "{length}: {why}");
    }
}
