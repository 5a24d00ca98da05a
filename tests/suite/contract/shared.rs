//! What batches share: the descriptions of columns that rows of several need, and the one lock of their database.

use std::process::{Command, Stdio};
use std::thread;

use super::*;

both! {
    descriptions_of_columns_stay_while_rows_need_them
    descriptions_of_columns_stay_with_rows_that_stay
    of_rollbacks_at_once_one_undoes_a_batch
    what_is_done_is_said_where_the_result_cannot_be
}

/// An archive of one session and one event whose column `note` no target has.
fn noted(store: &Store, number: u32) -> PathBuf {
    let note =
        format!("ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'n{number}';");
    let name = format!("cs-{number}");
    store.archive(&(session(number, &name) + &event(10 + number, number, "stop", "1") + &note))
}

/// The events that an export of the database has.
fn exported(store: &Store) -> String {
    let archive = store.folder.path().join("exported.zst");
    let path = archive.to_str().expect("a path in UTF-8");
    let _ = fs::remove_file(&archive);
    Program::new(["export", &store.url(), "-o", path]).run().success();
    let cat = Program::new(["cat", path, "--stream", "events"]).run().success();
    String::from_utf8(cat.stdout).expect("text")
}

fn descriptions_of_columns_stay_while_rows_need_them(backend: Backend) {
    let store = backend.make("shared_columns");
    for number in [5, 6] {
        store.import(&noted(&store, number), &["--on-missing-column=preserve"]).success();
    }
    let first = store.history()[0]["batch_id"].as_str().expect("an id").to_owned();
    store.rollback(&first, &[]).success();
    let events = exported(&store);
    assert!(events.contains("\"n6\"") && !events.contains("\"n5\""), "{events}");
}

fn descriptions_of_columns_stay_with_rows_that_stay(backend: Backend) {
    let store = backend.make("shared_columns_rest");
    let archive = store.archive(
        &(session(5, "cs-5")
            + &event(15, 5, "stop", "1")
            + &event(16, 5, "stop", "2")
            + "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'n';"),
    );
    store.import(&archive, &["--on-missing-column=preserve"]).success();
    let events = backend.events();
    store.run(&format!("UPDATE {events} SET duration_ms = 7 WHERE id = '{}'", id(15)));
    store.rollback("last", &["--force"]).success();
    assert!(exported(&store).contains("\"note\":\"n\""));
}

fn of_rollbacks_at_once_one_undoes_a_batch(backend: Backend) {
    let store = backend.make("shared_rollbacks");
    store.import(&store.archive(&good()), &[]).success();
    let (url, batch) = (store.url(), store.newest());
    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let one = || {
            let rollback = ["rollback", &batch, "--from", &url, "--force", "--wait", "60"];
            Program::new(rollback).run().code
        };
        let all: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().expect("a thread")).collect()
    });
    let done = codes.iter().filter(|code| **code == Some(0)).count();
    assert_eq!(done, 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 2))), "{codes:?}");
    let history = store.history();
    let completed =
        history.iter().filter(|b| b["migration_type"] == "rollback" && b["status"] == "completed");
    assert_eq!(completed.count(), 1, "{history:?}");
}

fn what_is_done_is_said_where_the_result_cannot_be(backend: Backend) {
    let store = backend.make("shared_stdout");
    let (archive, url) = (store.archive(&good()), store.url());
    let archive = archive.to_str().expect("a path in UTF-8");
    let into_full = |args: &[&str], words: &str| {
        let full = fs::File::options().write(true).open("/dev/full").expect("a full device");
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronicle-dump"));
        command.args(args).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
        let output = command.output().expect("the program");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(13), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    let printed = "but the result could not be printed";
    into_full(
        &["import", archive, "--to", &url, "--strict"],
        &format!("the rows are imported, {printed}"),
    );
    into_full(
        &["rollback", "last", "--from", &url],
        &format!("the batch is rolled back, {printed}"),
    );
    into_full(
        &["restore", archive, "--to", &url, "--strict"],
        &format!("the database is restored, {printed}"),
    );
    into_full(
        &["history", &url, "--prune", "--keep", "0"],
        &format!("the receipts are removed, {printed}"),
    );
}
