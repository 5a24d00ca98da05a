//! An export is one moment while others write.

use super::*;

/// Calls `insert` with 1, 2, 3, … until it is stopped.
fn keep_inserting(stop: &AtomicBool, pause: Duration, mut insert: impl FnMut(u64)) -> Written {
    let mut written = Written::default();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        insert(written.inserts + 1);
        written.longest = written.longest.max(started.elapsed());
        written.inserts += 1;
        std::thread::sleep(pause);
    }
    written
}

/// Exports while a writer inserts before, during and after; stdout is read slowly.
fn export_beside(
    source: &str,
    insert: impl FnMut(u64) + Send,
    pause: Duration,
) -> (Vec<u8>, Written) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| keep_inserting(&stop, pause, insert));
        std::thread::sleep(Duration::from_millis(100));
        let mut running = export([source]).stdout_by_hand().spawn();
        let mut stdout = running.take_stdout();
        let (mut archive, mut piece) = (Vec::new(), vec![0; 48 << 10]);
        loop {
            let size = stdout.read(&mut piece).unwrap();
            if size == 0 {
                break;
            }
            archive.extend_from_slice(&piece[..size]);
            std::thread::sleep(Duration::from_millis(10));
        }
        running.wait().success();
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        (archive, writer.join().unwrap())
    })
}

/// The counter in the archive equals the events in the archive, and the writer wrote before and after that moment.
#[track_caller]
fn assert_one_moment(archive: &[u8], written: &Written, sessions: &str, events: &str) {
    let (counter, has) = counted(archive, sessions, events);
    assert_eq!(counter, has, "the counter and the events that it counts");
    assert!(
        (1..written.inserts).contains(&counter),
        "{counter} of {} inserts: the moment lies amid the writing",
        written.inserts
    );
}

fn moment_of_sqlite(journal_mode: &str) {
    let folder = workdir(&format!("moment-{journal_mode}"));
    let path = folder.path().join("chronicle.db");
    hooks_database(&path, 40, 16_000, 5).unwrap();
    let database = Connection::open(&path).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    let set: String = database
        .pragma_update_and_check(None, "journal_mode", journal_mode, |row| row.get(0))
        .unwrap();
    assert_eq!(set, journal_mode);
    let counted = format!(
        "INSERT INTO sessions (id, claude_session_id, start_time, metadata) \
         VALUES ('{COUNTED}', 'counted', '2025-09-08T09:58:05', '{{\"count\": 0}}')"
    );
    database.execute_batch(&counted).unwrap();
    let insert = move |number: u64| {
        let sql = format!(
            "BEGIN IMMEDIATE;\
             INSERT INTO events (id, session_id, event_type, timestamp) VALUES \
             ('counted-{number}', '{COUNTED}', 'notification', '2025-09-08T09:58:05');\
             UPDATE sessions SET metadata = '{{\"count\": {number}}}' WHERE id = '{COUNTED}';\
             COMMIT"
        );
        database.execute_batch(&sql).unwrap();
    };
    let source = path.to_str().unwrap();
    let (archive, written) = export_beside(source, insert, Duration::from_millis(2));
    println!("{journal_mode}: {} inserts, the longest took {:?}", written.inserts, written.longest);
    assert_one_moment(&archive, &written, "sessions", "events");
    assert!(written.longest < HELD_UP, "an insert took {:?}", written.longest);
}

#[test]
fn an_export_in_delete_mode_is_consistent_during_writes() {
    moment_of_sqlite("delete");
}

#[test]
fn an_export_in_wal_mode_is_consistent_during_writes() {
    moment_of_sqlite("wal");
}

#[test]
fn an_export_of_postgres_is_consistent_during_writes() {
    let database = Cluster::get().database("moment of postgres");
    database.apply_file(crate::support::files::fixture("postgres-upstream.sql"));
    database.psql(&format!(
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, metadata) \
         VALUES ('{COUNTED}', 'counted', now(), '{{\"count\": 0}}'), \
                (gen_random_uuid(), 'many', now(), '{{}}');\
         INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata) \
         SELECT (SELECT id FROM chronicle_sessions WHERE claude_session_id = 'many'), 'notification', now(), \
                jsonb_build_object('text', (SELECT string_agg(md5(n::text || m::text), '') \
                                            FROM generate_series(1, 20) AS m)) \
         FROM generate_series(1, 12000) AS n"
    ));
    let insert = |number: u64| {
        database.psql(&format!(
            "INSERT INTO chronicle_events (session_id, event_type, timestamp) \
             VALUES ('{COUNTED}', 'notification', now());\
             UPDATE chronicle_sessions SET metadata = '{{\"count\": {number}}}' WHERE id = '{COUNTED}'"
        ));
    };
    let (archive, written) = export_beside(&database.url(), insert, Duration::from_millis(2));
    println!("postgres: {} inserts, the longest took {:?}", written.inserts, written.longest);
    assert_one_moment(&archive, &written, "sessions", "events");
}

#[test]
fn rows_that_are_only_in_the_wal_are_in_the_archive() {
    let folder = workdir("pending-wal");
    let path = folder.path().join("open.db");
    let open = pending_wal(&path);
    assert_eq!(rows_of(&export([&path]).run().success()), sample_and(7));

    // as a crash leaves it: nobody has it open, and the -shm may be gone
    let crashed = folder.path().join("crashed.db");
    for end in ["", "-wal"] {
        fs::copy(beside(&path, end), beside(&crashed, end)).unwrap();
    }
    drop(open);
    let before = (fs::read(&crashed).unwrap(), fs::read(beside(&crashed, "-wal")).unwrap());
    assert_eq!(rows_of(&export([&crashed]).run().success()), sample_and(7));
    let after = (fs::read(&crashed).unwrap(), fs::read(beside(&crashed, "-wal")).unwrap());
    assert!(before == after, "the database or its -wal was changed");
}

#[test]
fn rows_of_an_unfinished_transaction_are_not_exported() {
    let folder = workdir("hot-journal");
    let (open, crashed) = (folder.path().join("open"), folder.path().join("crashed"));
    fs::create_dir(&open).unwrap();
    fs::create_dir(&crashed).unwrap();
    let (path, copy) = (open.join("chronicle.db"), crashed.join("chronicle.db"));
    sqlite_from(&SAMPLE, &path, "delete");
    let whole = fs::read(&path).unwrap();
    {
        // a cache this small spills pages of the transaction into the file; then the writer dies
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch(
                "PRAGMA cache_size = 2; BEGIN IMMEDIATE; DELETE FROM events WHERE rowid < 50",
            )
            .unwrap();
        add_events(&database, "unfinished", 500, &"z".repeat(2000));
        for end in ["", "-journal"] {
            fs::copy(beside(&path, end), beside(&copy, end)).unwrap();
        }
        database.execute_batch("ROLLBACK").unwrap();
    }
    let spilled = fs::read(&copy).unwrap();
    assert!(spilled.len() > whole.len() + 500_000, "pages were spilled");
    let before = contents(&crashed);
    let output = export([&copy]).arg("-v").run().success();
    assert_eq!(rows_of(&output), sample_and(0));
    let output = output.stderr_has("temporary copy");
    let archive = read(output.stdout.as_slice()).unwrap();
    assert!(column(&archive, "events", "data").iter().all(|(id, _)| !id.starts_with("unfinished")));
    assert_untouched(&crashed, &before);
}
