//! An import in groups: killed anywhere, another run goes on, no row comes twice or not at all, at most one group is done
//! again, and what is half done can be undone.

use std::fs::File;
use std::time::Duration;

use chronicle_archive::{ArchiveReader, ArchiveWriter, Batch, Limits, WriterOptions};

use super::*;

both! {
    groups_bring_what_one_transaction_brings
    a_killed_import_goes_on_behind_its_last_group
    an_import_killed_at_any_time_ends_as_if_it_was_not
    a_half_import_is_undone_like_a_whole_one
    another_run_needs_the_archive_and_the_options
    resume_begins_where_there_is_nothing_to_go_on_with
    a_conflict_of_a_half_import_names_the_ways_out
    a_cut_archive_of_a_half_import_is_fetched_again
    an_error_says_what_is_in_the_target
    rows_known_under_another_key_keep_what_refers_to_them
    rows_are_cleared_once
    what_others_edit_meanwhile_is_said
    an_import_that_others_go_on_with_stops
    a_new_database_is_made_with_the_first_group
}

const RESUMABLE: [&str; 2] = ["--resumable", "--commit-every=1"];
const RESUME: [&str; 2] = ["--resume", "--commit-every=1"];
pub(super) const EVENTS: u32 = 240;

/// Three sessions and many events whose data are large enough for some chunks.
pub(super) fn rows() -> String {
    let sessions: String = (1..=3).map(|n| session(n, &format!("cs-{n}"))).collect();
    format!(
        "{sessions}
         WITH RECURSIVE n (i) AS (SELECT 101 UNION ALL SELECT i + 1 FROM n WHERE i < 100 + {EVENTS})
         INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at)
         SELECT printf('0000000a-0000-4000-8000-%012d', i),
                printf('0000000a-0000-4000-8000-%012d', 1 + i % 3), 'stop',
                printf('2025-08-19T10:%02d:%02dZ', i / 60, i % 60),
                json_object('n', i, 'text', hex(zeroblob(500)) || i), 'Bash', i, '2025-08-19 10:00:00'
           FROM n;"
    )
}

/// The same archive in chunks of 64 KiB.
pub(super) fn in_small_chunks(archive: &Path) -> PathBuf {
    let small = archive.with_extension("small");
    let file = File::open(archive).expect("the archive");
    let mut reader = ArchiveReader::open(file, Limits::default()).expect("an archive");
    let mut header = reader.header().clone();
    header.chunk_target = 64 << 10;
    let out = File::create(&small).expect("a file");
    let streams = reader.streams().to_vec();
    let mut writer =
        ArchiveWriter::create(out, &header, streams, WriterOptions::default()).expect("a writer");
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch).expect("rows") {
        writer.write(&batch).expect("rows are written");
    }
    writer.finish().expect("a manifest");
    small
}

pub(super) fn archive(store: &Store) -> PathBuf {
    in_small_chunks(&store.archive(&rows()))
}

/// How often a run reaches each point, and the run.
pub(super) fn traced(store: &Store, archive: &Path, options: &[&str]) -> (Vec<String>, Output) {
    let trace = store.folder.path().join("trace");
    let _ = fs::remove_file(&trace);
    let traced = importing(archive, &store.url(), options);
    let output = traced.env("CHRONICLE_DUMP_FAULT_TRACE", trace.to_str().expect("a path")).run();
    let points = fs::read_to_string(&trace).expect("a trace");
    (points.lines().map(str::to_owned).collect(), output)
}

pub(super) fn count(points: &[String], name: &str) -> usize {
    points.iter().filter(|point| *point == name).count()
}

#[track_caller]
pub(super) fn killed_at(store: &Store, archive: &Path, options: &[&str], fault: &str) {
    let output = importing(archive, &store.url(), options).env("CHRONICLE_DUMP_FAULT", fault).run();
    assert_ne!(output.code, Some(0), "it was not killed: {fault}");
}

/// An empty database with its archive, and what an import in one transaction makes of it.
fn whole(backend: Backend, name: &str) -> (Store, PathBuf, Vec<String>) {
    whole_of(backend.make(name))
}

pub(super) fn whole_of(store: Store) -> (Store, PathBuf, Vec<String>) {
    let archive = archive(&store);
    let before = store.everything();
    store.import(&archive, &[]).success();
    let after = store.everything();
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
    (store, archive, after)
}

pub(super) fn batch(store: &Store) -> Value {
    let mut imports = store.history().into_iter().filter(|b| b["migration_type"] == "import");
    imports.next_back().expect("a batch")
}

/// Rolls back all imports that stand: one that was killed behind its last commit is followed by another one.
pub(super) fn undo_all(store: &Store) {
    let stands =
        |batch: &&Value| batch["migration_type"] == "import" && batch["status"] == "completed";
    for batch in store.history().iter().rev().filter(stands) {
        store.rollback(batch["batch_id"].as_str().expect("an id"), &[]).success();
    }
}

fn groups_bring_what_one_transaction_brings(backend: Backend) {
    let (store, archive, after) = whole(backend, "groups_whole");
    let before = store.everything();
    let (points, output) = traced(&store, &archive, &RESUMABLE);
    output.success();
    assert!(count(&points, "groups: between two") >= 4, "{points:?}");
    assert_same_rows(&after, &store.everything());
    let done = batch(&store);
    assert_eq!(done["status"], "completed");
    assert_eq!(done["records_migrated"], json!(3 + EVENTS));
    assert!(done.get("resume").is_none(), "{done}");
    let url = store.url();
    Program::new(["history", &url, "--verify"]).run().success();
    // a second run has nothing to do
    let again = store.import(&archive, &[&RESUMABLE[..], &["--json"]].concat()).success();
    assert_eq!(json_of(&again)["streams"][1]["skipped_rows"], json!(EVENTS));
    assert_eq!(batch(&store)["records_migrated"], json!(0));
    let id = done["batch_id"].as_str().expect("an id");
    store.rollback(id, &[]).success();
    assert_same_rows(&before, &store.everything());
    // and the rollback of the groups is undone as one
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
}

fn a_killed_import_goes_on_behind_its_last_group(backend: Backend) {
    let (store, archive, after) = whole(backend, "groups_killed");
    let (points, output) = traced(&store, &archive, &RESUMABLE);
    output.success();
    store.rollback("last", &[]).success();
    let (groups, writes) =
        (count(&points, "groups: between two"), count(&points, "load: after rows"));
    let each = if backend == Backend::Sqlite { 1 } else { 2 };
    for time in (1..=groups).step_by(each) {
        killed_at(&store, &archive, &RESUMABLE, &format!("groups: between two=abort@{time}"));
        let half = batch(&store);
        assert_eq!(half["resume"]["chunks"], json!(time), "{half}");
        let (points, output) = traced(&store, &archive, &RESUME);
        output.success();
        // the sessions are looked at again, and nothing else
        assert_eq!(count(&points, "load: after rows"), writes - time + 1, "group {time}");
        assert_same_rows(&after, &store.everything());
        assert_eq!(batch(&store)["records_migrated"], json!(3 + EVENTS));
        store.rollback("last", &[]).success();
    }
    for point in ["load: after rows", "commit: before", "commit: after", "history: after the end"] {
        let time = groups / 2 + 1;
        killed_at(&store, &archive, &RESUMABLE, &format!("{point}=abort@{time}"));
        let (points, output) = traced(&store, &archive, &RESUME);
        output.success();
        let again = count(&points, "load: after rows");
        assert!(again <= writes - (time - 1) + 2, "{point}: {again} of {writes}");
        assert_same_rows(&after, &store.everything());
        store.rollback("last", &[]).success();
    }
}

fn an_import_killed_at_any_time_ends_as_if_it_was_not(backend: Backend) {
    let (store, archive, after) = whole(backend, "groups_random");
    let before = store.everything();
    let (mut wait, mut kills) = (Duration::from_millis(30), 0);
    loop {
        let mut running = importing(&archive, &store.url(), &RESUME).spawn();
        std::thread::sleep(wait);
        if !running.is_running() {
            running.wait().success();
            break;
        }
        running.kill();
        kills += 1;
        wait += Duration::from_millis(23);
    }
    assert!(kills > 0, "it was killed at least once");
    assert_same_rows(&after, &store.everything());
    undo_all(&store);
    assert_same_rows(&before, &store.everything());
}

fn a_half_import_is_undone_like_a_whole_one(backend: Backend) {
    let store = backend.make("groups_undone");
    let archive = archive(&store);
    // one row is there and is changed, the others are new
    let old = store.archive(
        &(session(1, "cs-1") + &event_at(102, 1, "notification", "2025-08-19T10:00:00Z", "7")),
    );
    store.import(&old, &[]).success();
    let before = store.everything();
    let options = [&RESUMABLE[..], &["--on-conflict=update"]].concat();
    for time in [1, 3] {
        killed_at(&store, &archive, &options, &format!("groups: between two=abort@{time}"));
        assert_ne!(store.everything(), before);
        let half = batch(&store)["batch_id"].as_str().expect("an id").to_owned();
        let rehearsed = store.rollback(&half, &["--dry-run"]).success();
        rehearsed.stdout_has("would roll back");
        store.rollback(&half, &[]).success();
        assert_same_rows(&before, &store.everything());
        // what was undone is half again, and goes on
        store.rollback(&store.newest(), &[]).success();
        assert_ne!(store.everything(), before);
        store.import(&archive, &[&RESUME[..], &["--on-conflict=update"]].concat()).success();
        assert_eq!(batch(&store)["status"], "completed");
        store.rollback(&half, &[]).success();
        assert_same_rows(&before, &store.everything());
    }
}

fn another_run_needs_the_archive_and_the_options(backend: Backend) {
    let store = backend.make("groups_refused");
    let archive = archive(&store);
    let other = in_small_chunks(&store.archive(&good()));
    killed_at(&store, &archive, &RESUMABLE, "groups: between two=abort@2");
    let before = store.everything();
    store.import(&other, &RESUME).fails_with(2).stderr_has("has begun with archive");
    let changed = [&RESUME[..], &["--on-conflict=update"]].concat();
    let half = batch(&store)["batch_id"].as_str().expect("an id").to_owned();
    let refused = store.import(&archive, &changed).fails_with(2);
    refused.stderr_has("the options are not those").stderr_has(&format!("rollback {half} --from"));
    // the same id, but other bytes
    let bytes = fs::read(&archive).expect("the archive");
    let forged = archive.with_extension("forged");
    let rows = rows().replace("2025-08-19 10:00:00", "2025-08-19 10:00:01");
    forge(&in_small_chunks(&store.archive(&rows)), &archive, &forged);
    assert_ne!(fs::read(&forged).expect("a file"), bytes);
    store
        .import(&forged, &RESUME)
        .fails_with(5)
        .stderr_has("not the rows that the batch began with")
        .stderr_has(&format!("to begin with another one, chronicle-dump rollback {half} --from"))
        .stderr_lacks("goes on");
    assert_same_rows(&before, &store.everything());
    for other in [&["--dry-run"][..], &["--no-undo"], &["--rejects=x.zst"]] {
        store.import(&archive, &[&RESUMABLE[..], other].concat()).fails_with(2);
    }
    store.import(&archive, &["--commit-every=3"]).fails_with(2).stderr_has("--resumable");
    let to = store.url();
    let archives = archive.to_str().expect("a path");
    Program::new(["import", archives, archives, "--to", &to, "--resumable"]).run().fails_with(2);
    store.import(&archive, &RESUME).success();
}

/// One command, run until it succeeds, whenever the runs before were killed.
fn resume_begins_where_there_is_nothing_to_go_on_with(backend: Backend) {
    let note = "note: --resume found nothing of this archive that an import had begun with";
    let options = [&RESUME[..], &["--create"]].concat();
    let store = backend.nothing("groups_begun");
    let archive = archive(&store);
    // nothing is committed; then a group; then everything, but nobody was told
    killed_at(&store, &archive, &options, "load: after rows=abort@1");
    killed_at(&store, &archive, &options, "groups: between two=abort@1");
    assert_eq!(batch(&store)["resume"]["chunks"], json!(1));
    let (points, output) = traced(&store, &archive, &options);
    output.success().stderr_lacks("this one begins");
    let after = store.everything();
    store.rollback("last", &[]).success();
    // what was rolled back begins again, also with other options
    let options = [&options[..], &["--on-conflict=update"]].concat();
    let last = format!("commit: after=abort@{}", count(&points, "commit: after") + 1);
    killed_at(&store, &archive, &options, &last);
    assert_eq!(batch(&store)["status"], "completed");
    let done = store.import(&archive, &options).success().stderr_has(note);
    done.stderr_has("this one begins");
    assert_eq!(batch(&store)["records_migrated"], json!(0));
    assert_same_rows(&after, &store.everything());
    // without --create a database has to be there
    let store = backend.nothing("groups_begun_missing");
    assert_ne!(store.import(&archive, &RESUME).stderr_has("--create").code, Some(0));
}

fn a_conflict_of_a_half_import_names_the_ways_out(backend: Backend) {
    let store = backend.make("groups_conflict");
    let archive = archive(&store);
    let events = backend.events();
    let last = id(100 + EVENTS);
    let other = event_at(100 + EVENTS, 1, "stop", "2025-08-19T10:00:00Z", "7");
    store.import(&store.archive(&(session(1, "cs-1") + &other)), &[]).success();
    let stopped = store.import(&archive, &RESUMABLE).fails_with(11);
    let half = batch(&store)["batch_id"].as_str().expect("an id").to_owned();
    let ways = |stopped: Output| {
        let back = format!("to begin with others, chronicle-dump rollback {half} --from DB");
        let stopped = stopped.stderr_has("--on-conflict skip").stderr_has(&back);
        let stopped = stopped.stderr_has("edit the rows in the target first");
        stopped.stderr_lacks("the same command").stderr_lacks("nothing was changed");
    };
    ways(stopped);
    ways(store.import(&archive, &RESUME).fails_with(11));
    // the one way
    store.rollback(&half, &[]).success();
    store.import(&archive, &[&RESUME[..], &["--on-conflict=skip"]].concat()).success();
    let duration = format!("SELECT duration_ms FROM {events} WHERE id = '{last}'");
    assert_eq!(store.one(&duration), "7");
    store.rollback("last", &[]).success();
    // and the other
    store.import(&archive, &RESUME).fails_with(11);
    store.run(&format!("DELETE FROM {events} WHERE id = '{last}'"));
    store.import(&archive, &RESUME).success();
    assert_eq!(store.one(&duration), (100 + EVENTS).to_string());
}

fn a_cut_archive_of_a_half_import_is_fetched_again(backend: Backend) {
    let store = backend.make("groups_cut");
    let archive = archive(&store);
    let bytes = fs::read(&archive).expect("the archive");
    let half_of = |options: &[&str]| {
        fs::write(&archive, &bytes[..bytes.len() * 3 / 4]).expect("a cut file");
        let cut = store.import(&archive, options).fails_with(4);
        let id = batch(&store)["batch_id"].as_str().expect("an id").to_owned();
        let cut = cut.stderr_has("hint: fetch the same archive again, then the same command with");
        cut.stderr_has(&format!("rollback {id} --from DB")).stderr_lacks("or export it");
    };
    half_of(&RESUMABLE);
    half_of(&RESUME);
    // not even its head has come
    fs::write(&archive, &bytes[..20]).expect("a cut file");
    let cut = store.import(&archive, &RESUME).fails_with(4);
    cut.stderr_has("fetch the same archive again").stderr_lacks("or export it");
    fs::write(&archive, &bytes).expect("the whole file");
    store.import(&archive, &RESUME).success();
}

/// An archive with the rows of one and the id of another one.
fn forge(rows: &Path, id: &Path, to: &Path) {
    let open = |path: &Path| {
        ArchiveReader::open(File::open(path).expect("a file"), Limits::default())
            .expect("an archive")
    };
    let mut reader = open(rows);
    let header = open(id).header().clone();
    let (out, streams) = (File::create(to).expect("a file"), reader.streams().to_vec());
    let mut writer =
        ArchiveWriter::create(out, &header, streams, WriterOptions::default()).expect("a writer");
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch).expect("rows") {
        writer.write(&batch).expect("rows are written");
    }
    writer.finish().expect("a manifest");
}

fn an_error_says_what_is_in_the_target(backend: Backend) {
    let store = backend.make("groups_error");
    let bad = rows() + "UPDATE events SET duration_ms = -1 WHERE duration_ms = 300;";
    let archive = in_small_chunks(&store.archive(&bad));
    let before = store.everything();
    let failed = store.import(&archive, &RESUMABLE);
    assert_ne!(failed.code, Some(0));
    let id = batch(&store)["batch_id"].as_str().expect("an id").to_owned();
    failed
        .stderr_has("change what refuses the value in the target first")
        .stderr_has(&id)
        .stderr_lacks("nothing was changed");
    assert_eq!(batch(&store)["status"], "failed");
    let url = store.url();
    Program::new(["history", &url]).run().success().stdout_has("--resume goes on");
    store.rollback(&id, &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn rows_known_under_another_key_keep_what_refers_to_them(backend: Backend) {
    let store = backend.make("groups_renamed");
    let archive = archive(&store);
    let known = session_of("0000000b-0000-4000-8000-000000000001", "cs-1");
    store.import(&store.archive(&known), &[]).success();
    let before = store.everything();
    let options = ["--on-conflict=skip"];
    store.import(&archive, &options).success();
    let after = store.everything();
    store.rollback("last", &[]).success();
    let done = store.import(&archive, &[&RESUMABLE[..], &options].concat()).success();
    done.stderr_has("loaded in one transaction");
    assert_same_rows(&after, &store.everything());
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn rows_are_cleared_once(backend: Backend) {
    let store = backend.make("groups_cleared");
    let archive = archive(&store);
    store.import(&store.archive(&(session(9, "cs-9") + &event(59, 9, "stop", "1"))), &[]).success();
    let before = store.everything();
    let clear = |options: [&'static str; 2]| [&options[..], &["--clear"]].concat();
    killed_at(&store, &archive, &clear(RESUMABLE), "groups: between two=abort@3");
    store.import(&archive, &clear(RESUME)).success();
    let (sessions, events) = (backend.sessions(), backend.events());
    assert_eq!(store.one(&format!("SELECT count(*) FROM {sessions}")), "3");
    assert_eq!(store.one(&format!("SELECT count(*) FROM {events}")), EVENTS.to_string());
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn what_others_edit_meanwhile_is_said(backend: Backend) {
    let store = backend.make("groups_edited");
    let archive = archive(&store);
    killed_at(&store, &archive, &RESUMABLE, "groups: between two=abort@3");
    let (sessions, events) = (backend.sessions(), backend.events());
    store.run(&format!("UPDATE {events} SET duration_ms = 7 WHERE id = '{}'", id(101)));
    store.run(&format!("UPDATE {sessions} SET project_path = '/x' WHERE id = '{}'", id(2)));
    store.run(&format!("DELETE FROM {events} WHERE id = '{}'", id(102)));
    let done = store.import(&archive, &RESUME).success();
    done.stderr_has("3 rows edited or deleted by others since they were loaded");
    assert_eq!(
        store.one(&format!("SELECT count(*) FROM {sessions} WHERE project_path = '/x'")),
        "1"
    );
    assert_eq!(store.one(&format!("SELECT count(*) FROM {events}")), (EVENTS - 1).to_string());
}

fn an_import_that_others_go_on_with_stops(backend: Backend) {
    let (store, archive, after) = whole(backend, "groups_two");
    let pause = store.folder.path().join("pause");
    let fault = format!("groups: between two=pause:{}@2", pause.to_str().expect("a path"));
    let mut first =
        importing(&archive, &store.url(), &RESUMABLE).env("CHRONICLE_DUMP_FAULT", fault).spawn();
    while !pause.exists() {
        assert!(first.is_running(), "it pauses");
        std::thread::sleep(Duration::from_millis(2));
    }
    match backend {
        // between two groups nobody has the file
        Backend::Sqlite => {
            store.import(&archive, &RESUME).success();
            fs::remove_file(&pause).expect("the pause ends");
            let stopped = first.wait();
            assert_ne!(stopped.code, Some(0));
            stopped.stderr_has("another process went on with");
        }
        Backend::Postgres => {
            let waits = [&RESUME[..], &["--wait=1"]].concat();
            store.import(&archive, &waits).fails_with(8).stderr_has("another batch writes");
            store.rollback("last", &["--wait=1"]).fails_with(8);
            fs::remove_file(&pause).expect("the pause ends");
            first.wait().success();
        }
    }
    assert_same_rows(&after, &store.everything());
    assert_eq!(batch(&store)["status"], "completed");
}

fn a_new_database_is_made_with_the_first_group(backend: Backend) {
    let store = backend.nothing("groups_new");
    let archive = archive(&store);
    let create = |options: [&'static str; 2]| [&options[..], &["--create"]].concat();
    killed_at(&store, &archive, &create(RESUMABLE), "load: after rows=abort@1");
    killed_at(&store, &archive, &create(RESUMABLE), "groups: between two=abort@2");
    store.import(&archive, &create(RESUME)).success();
    let events = backend.events();
    assert_eq!(store.one(&format!("SELECT count(*) FROM {events}")), EVENTS.to_string());
    assert_eq!(batch(&store)["records_migrated"], json!(3 + EVENTS));
}

#[test]
fn rows_without_a_key_stay_together() {
    let store = Backend::Sqlite.make("groups_keyless");
    let null = "UPDATE events SET id = NULL, data = '{}', timestamp = '2025-08-19T10:00:00Z', duration_ms = 1
                 WHERE duration_ms > 200;";
    let archive = in_small_chunks(&store.archive(&(rows() + null)));
    let before = store.everything();
    store.import(&archive, &RESUMABLE).success();
    let nulls = "SELECT count(*) FROM events WHERE id IS NULL";
    assert_eq!(store.one(nulls), "140");
    assert_eq!(store.one("SELECT count(*) FROM events"), EVENTS.to_string());
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
}
