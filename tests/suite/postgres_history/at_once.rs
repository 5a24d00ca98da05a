//! Batches that meet, and one that is killed.

use std::io::Write;

use super::*;

#[test]
fn the_next_import_closes_one_that_was_killed() {
    let (database, scratch) = (empty(OWNER, "history_killed"), Scratch::new("history_killed"));
    database.psql(MIRROR);
    let good = archive(&scratch, &session(1, 10..13));
    let (running, stdin, _) = unfinished(&good, &database);
    running.kill();
    drop(stdin);
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "0");
    import(&good, &database.url(), &[]).success();
    let words = "the process ended unexpectedly; nothing was changed";
    let expected = format!("import|sqlite|failed|0|{words}\nimport|sqlite|completed|4|");
    assert_eq!(database.psql(BATCHES), expected);
    let mirror = "SELECT status FROM migration_history ORDER BY batch_id";
    assert_eq!(database.psql(mirror), "failed\ncompleted");
}

#[test]
fn of_two_imports_one_waits_for_the_other() {
    let (database, scratch) = (empty(OWNER, "history_waits"), Scratch::new("history_waits"));
    let (first, second) =
        (archive(&scratch, &session(1, 10..13)), archive(&scratch, &session(2, 20..23)));
    let (running, mut stdin, rest) = unfinished(&first, &database);
    let batch = database.psql("SELECT batch_id FROM chronicle_dump.migration_history");
    import(&second, &database.url(), &["--wait", "1"])
        .fails_with(8)
        .stderr_has("another batch writes to this database: import")
        .stderr_has(&batch)
        .stderr_has(&format!("process {}@", running.id()))
        .stderr_has("connected as chronicle (chronicle-dump) from 127.0.0.1")
        .stderr_has("--wait SECONDS");
    let waiting = importing(&second, &database.url(), &["--wait", "60"]).spawn();
    std::thread::sleep(Duration::from_secs(1));
    stdin.write_all(&rest).unwrap();
    drop(stdin);
    running.wait().success();
    waiting.wait().success();
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "6");
    assert_eq!(database.psql(BATCHES), ["import|sqlite|completed|4|"; 2].join("\n"));
}

#[test]
fn an_interrupted_import_says_so_in_the_history() {
    let (database, scratch) =
        (empty(OWNER, "history_interrupted"), Scratch::new("history_interrupted"));
    let (running, stdin, _) = unfinished(&archive(&scratch, &session(1, 10..13)), &database);
    running.signal("INT");
    running.wait().fails_with(130);
    drop(stdin);
    assert_eq!(database.psql(BATCHES), "import|sqlite|failed|0|interrupted; nothing was changed");
}

/// Interrupts a command as soon as it waits for the batch that holds the lock of a database.
#[track_caller]
fn interrupt_the_one_that_waits(database: &Database, program: Program) -> Output {
    let mut waiting = program.spawn();
    let asks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE '%pg_try_advisory_xact_lock%' AND pid <> pg_backend_pid()";
    let held =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted";
    assert_ne!(database.psql(held), "0", "somebody holds the lock");
    while database.psql(asks) == "0" {
        assert!(waiting.is_running());
        std::thread::sleep(Duration::from_millis(20));
    }
    waiting.signal("INT");
    waiting.wait()
}

#[test]
fn a_batch_that_waits_for_another_one_is_interrupted() {
    let (database, scratch) = (empty(OWNER, "history_stop"), Scratch::new("history_stop"));
    let second = archive(&scratch, &session(2, 20..23));
    import(&second, &database.url(), &[]).success();
    let before = database.psql(BATCHES);
    let (running, stdin, _) = unfinished(&archive(&scratch, &session(1, 10..13)), &database);
    let url = database.url();
    let rollback = Program::new(["rollback", "last", "--from", &url, "--wait", "30"]);
    for program in [importing(&second, &url, &["--wait", "30"]), rollback] {
        // without being interrupted it ends with another code, when it has waited long enough
        interrupt_the_one_that_waits(&database, program)
            .fails_with(130)
            .stderr_has("interrupted; nothing was changed");
    }
    running.kill();
    drop(stdin);
    let found = database.psql(BATCHES);
    assert_eq!(
        found,
        format!("{before}\nimport|sqlite|started|0|"),
        "those that waited are no batches"
    );
}
