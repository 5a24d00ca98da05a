//! What an import does, and above all what it refuses: one contract for both kinds of database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::cluster::{ADMIN, Cluster, Database, OWNER, PASSWORD, SUPA};
use super::support::files::{
    assert_same_rows, fixture, postgres_dump, sqlite_dump, sqlite_from, workdir,
};
use super::support::migrate::ask;
use super::support::program::{Output, Program};

/// Which kind of database a law is tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Sqlite,
    Postgres,
}

/// A database of the layout that `--create` makes there, and the folder of its test.
struct Store {
    folder: TempDir,
    place: Place,
}

enum Place {
    File(PathBuf),
    Server(Database),
}

impl Backend {
    /// An empty database.
    #[track_caller]
    fn make(self, test_name: &str) -> Store {
        let store = self.nothing(test_name);
        match &store.place {
            Place::File(path) => sqlite_from(&["sqlite-hooks.sql"], path, "delete"),
            Place::Server(database) => database.apply_file(fixture("postgres-upstream.sql")),
        }
        store
    }

    /// A database that `--create` has yet to make.
    fn nothing(self, test_name: &str) -> Store {
        let folder = workdir(test_name);
        let place = match self {
            Backend::Sqlite => Place::File(folder.path().join("target.db")),
            Backend::Postgres => Place::Server(Cluster::get().database(test_name)),
        };
        Store { folder, place }
    }

    fn sessions(self) -> &'static str {
        match self {
            Backend::Sqlite => "sessions",
            Backend::Postgres => "chronicle_sessions",
        }
    }

    fn events(self) -> &'static str {
        match self {
            Backend::Sqlite => "events",
            Backend::Postgres => "chronicle_events",
        }
    }
}

impl Store {
    fn url(&self) -> String {
        match &self.place {
            Place::File(path) => path.to_str().expect("a path in UTF-8").to_owned(),
            Place::Server(database) => database.url(),
        }
    }

    #[track_caller]
    fn dump(&self) -> Vec<String> {
        match &self.place {
            Place::File(path) => sqlite_dump(path),
            Place::Server(database) => postgres_dump(database),
        }
    }

    #[track_caller]
    fn run(&self, sql: &str) {
        match &self.place {
            Place::File(path) => fill(path, sql),
            Place::Server(database) => drop(database.psql(sql)),
        }
    }

    /// The server's database.
    #[track_caller]
    fn server(&self) -> &Database {
        match &self.place {
            Place::Server(database) => database,
            Place::File(path) => panic!("{} is on no server", path.display()),
        }
    }

    /// An archive of a hooks file with these rows.
    #[track_caller]
    fn archive(&self, sql: &str) -> PathBuf {
        archive_of(self.folder.path(), &["sqlite-hooks.sql"], sql)
    }

    #[track_caller]
    fn import(&self, archive: &Path, options: &[&str]) -> Output {
        import(archive, &self.url(), options)
    }

    /// Panics unless there is nothing: no file and no unfinished one, or no table.
    #[track_caller]
    fn is_nothing(&self) {
        match &self.place {
            Place::File(_) => {
                let names: Vec<String> = fs::read_dir(self.folder.path())
                    .expect("the folder")
                    .map(|entry| {
                        entry.expect("an entry").file_name().to_string_lossy().into_owned()
                    })
                    .filter(|name| name.starts_with("target"))
                    .collect();
                assert_eq!(names, Vec::<String>::new());
            }
            Place::Server(database) => {
                let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
                assert_eq!(database.psql(tables), "0");
            }
        }
    }
}

/// Each law as two tests, one for each kind of database.
macro_rules! both {
    ($($law:ident)*) => {
        mod sqlite {
            $(#[test]
            fn $law() {
                super::$law(super::Backend::Sqlite);
            })*
        }
        mod postgres {
            $(#[test]
            fn $law() {
                super::$law(super::Backend::Postgres);
            })*
        }
    };
}

both! {
    importing_twice_is_importing_once
    a_row_that_is_there_with_other_content_is_refused
    a_claude_session_id_of_another_session_is_refused
    two_rows_of_the_archive_with_one_claude_session_id_are_refused
    a_refused_value_in_the_last_event_leaves_nothing
    a_refused_value_leaves_nothing_of_a_created_database
    a_dry_run_says_the_same_counts_and_changes_nothing
    a_dry_run_creates_nothing
    another_digest_than_the_expected_one_changes_nothing
    a_cut_archive_changes_nothing
}

/// Runs SQL in a file; it may break a CHECK, as other programs' rows do.
#[track_caller]
fn fill(path: &Path, sql: &str) {
    let run = || {
        let database = Connection::open(path)?;
        database
            .execute_batch("PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on;")?;
        database.execute_batch(sql)
    };
    run().unwrap_or_else(|error: rusqlite::Error| panic!("{}: {error}\n{sql}", path.display()));
}

/// An archive of a new SQLite file with these tables and rows.
#[track_caller]
fn archive_of(folder: &Path, fixtures: &[&str], sql: &str) -> PathBuf {
    let made =
        tempfile::Builder::new().prefix("source-").tempdir_in(folder).expect("a folder").keep();
    let path = made.join("source.db");
    sqlite_from(fixtures, &path, "delete");
    fill(&path, sql);
    let archive = made.join("archive.ndjson.zst");
    let export: [&std::ffi::OsStr; 4] =
        ["export".as_ref(), path.as_os_str(), "-o".as_ref(), archive.as_os_str()];
    Program::new(export).run().success();
    archive
}

fn importing(archive: &Path, to: &str, options: &[&str]) -> Program {
    let start: [&std::ffi::OsStr; 4] =
        ["import".as_ref(), archive.as_os_str(), "--to".as_ref(), to.as_ref()];
    options.iter().fold(Program::new(start), |program, option| program.arg(*option))
}

#[track_caller]
fn import(archive: &Path, to: &str, options: &[&str]) -> Output {
    importing(archive, to, options).run()
}

/// The JSON of a run's stdout.
#[track_caller]
fn json_of(output: &Output) -> Value {
    serde_json::from_str(output.text()).expect("one JSON object")
}

/// A UUID that ends with a number.
fn id(number: u32) -> String {
    format!("0000000a-0000-4000-8000-{number:012}")
}

fn session(number: u32, claude: &str) -> String {
    session_of(&id(number), claude)
}

fn session_of(id: &str, claude: &str) -> String {
    format!(
        "INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) \
         VALUES ('{id}', '{claude}', '2025-08-19T10:00:00Z', '/home/kim/greenhouse', '2025-08-19 10:00:00', \
         '2025-08-19 10:00:00');"
    )
}

/// An event; its number orders it, too.
fn event(number: u32, session: u32, event_type: &str, duration: &str) -> String {
    event_at(number, session, event_type, &format!("2025-08-19T10:00:{number:02}Z"), duration)
}

fn event_at(number: u32, session: u32, event_type: &str, time: &str, duration: &str) -> String {
    format!(
        "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at) \
         VALUES ('{}', '{}', '{event_type}', '{time}', '{{\"a\": {number}}}', 'Bash', {duration}, \
         '2025-08-19 10:00:00');",
        id(number),
        id(session)
    )
}

/// Two sessions and three events that every target takes.
fn good() -> String {
    session(1, "cs-1")
        + &session(2, "cs-2")
        + &event(11, 1, "pre_tool_use", "NULL")
        + &event(12, 1, "post_tool_use", "12")
        + &event(13, 2, "stop", "NULL")
}

fn importing_twice_is_importing_once(backend: Backend) {
    let store = backend.make("importing_twice");
    let archive = store.archive(&good());
    let first = store.import(&archive, &["--json"]).success();
    let loaded = |inserted: [u32; 2], skipped: [u32; 2]| {
        json!([
            {"stream": "sessions", "inserted_rows": inserted[0], "skipped_rows": skipped[0],
             "orphans_skipped": 0, "rejected_rows": 0, "adopted_rows": 0},
            {"stream": "events", "inserted_rows": inserted[1], "skipped_rows": skipped[1],
             "orphans_skipped": 0, "rejected_rows": 0, "adopted_rows": 0},
        ])
    };
    assert_eq!(json_of(&first)["streams"], loaded([2, 3], [0, 0]));
    let before = store.dump();
    assert_eq!(before.len(), 5);

    let second = store.import(&archive, &["--json"]).success();
    assert_eq!(json_of(&second)["streams"], loaded([0, 0], [2, 3]));
    assert_same_rows(&before, &store.dump());

    let more = store.archive(&(good() + &event(14, 2, "notification", "NULL")));
    let third = store.import(&more, &["--json"]).success();
    assert_eq!(json_of(&third)["streams"], loaded([0, 1], [2, 3]));
    assert_eq!(store.dump().len(), 6);
}

fn a_row_that_is_there_with_other_content_is_refused(backend: Backend) {
    let store = backend.make("other_content");
    store.import(&store.archive(&good()), &[]).success();
    store.run(&format!("UPDATE {} SET duration_ms = 99 WHERE id = '{}'", backend.events(), id(12)));
    let before = store.dump();
    // a new row comes first: it must not stay either
    let archive = store.archive(&(good() + &event(10, 1, "notification", "NULL")));
    store
        .import(&archive, &[])
        .fails_with(11)
        .stderr_has(&format!("{}: row", backend.events()))
        .stderr_has(&id(12))
        .stderr_has("another value in \"duration_ms\"")
        .stderr_has("hint: ");
    assert_same_rows(&before, &store.dump());

    // NULL is content, too
    store.run(&format!(
        "UPDATE {} SET duration_ms = NULL WHERE id = '{}'",
        backend.events(),
        id(12)
    ));
    store.import(&archive, &[]).fails_with(11).stderr_has("another value in \"duration_ms\"");
}

fn a_claude_session_id_of_another_session_is_refused(backend: Backend) {
    let store = backend.make("claude_session_id");
    store.import(&store.archive(&good()), &[]).success();
    let before = store.dump();
    let other = session(8, "cs-8") + &session(9, "cs-1") + &event(10, 9, "stop", "NULL");
    store
        .import(&store.archive(&other), &[])
        .fails_with(11)
        .stderr_has(backend.sessions())
        .stderr_has("claude_session_id")
        .stderr_has(&id(9))
        .stderr_has(&id(1))
        .stderr_has("hint: ");
    assert_same_rows(&before, &store.dump());
}

fn two_rows_of_the_archive_with_one_claude_session_id_are_refused(backend: Backend) {
    let store = backend.make("doubled_claude_session_id");
    // as a source without the constraint has them
    let sql = "DROP TABLE sessions; \
               CREATE TABLE sessions (id TEXT PRIMARY KEY, claude_session_id TEXT, start_time TIMESTAMP, \
               project_path TEXT, created_at TIMESTAMP, updated_at TIMESTAMP);"
        .to_owned()
        + &session(1, "cs-1")
        + &session(2, "cs-1");
    store
        .import(&store.archive(&sql), &[])
        .fails_with(11)
        .stderr_has(backend.sessions())
        .stderr_has("claude_session_id")
        .stderr_has(&id(2))
        .stderr_has("hint: ");
    assert_eq!(store.dump(), Vec::<String>::new());
}

fn bad_last_event() -> String {
    good() + &event(14, 2, "notification", "-1")
}

fn a_refused_value_in_the_last_event_leaves_nothing(backend: Backend) {
    let store = backend.make("refused_value");
    let archive = store.archive(&bad_last_event());
    let refused = |store: &Store| {
        store
            .import(&archive, &[])
            .fails_with(10)
            .stderr_has(backend.events())
            .stderr_has(&id(14))
            .stderr_has("hint: ");
    };
    refused(&store);
    assert_eq!(store.dump(), Vec::<String>::new());

    // and where rows are there already
    store.import(&store.archive(&good()), &[]).success();
    let before = store.dump();
    refused(&store);
    assert_same_rows(&before, &store.dump());
}

fn a_refused_value_leaves_nothing_of_a_created_database(backend: Backend) {
    let store = backend.nothing("refused_value_created");
    store.import(&store.archive(&bad_last_event()), &["--create"]).fails_with(10);
    store.is_nothing();
    store.import(&store.archive(&good()), &["--create"]).success();
    assert_eq!(store.dump().len(), 5);
}

fn a_dry_run_says_the_same_counts_and_changes_nothing(backend: Backend) {
    let store = backend.make("dry_run");
    store.import(&store.archive(&(session(1, "cs-1"))), &[]).success();
    let before = store.dump();
    let archive = store.archive(&good());
    let dry = json_of(&store.import(&archive, &["--json", "--dry-run"]).success());
    assert_same_rows(&before, &store.dump());
    let real = json_of(&store.import(&archive, &["--json"]).success());
    assert_eq!(dry["committed"], json!(false));
    assert_eq!(real["committed"], json!(true));
    for what in ["streams", "adapted", "orphans", "notices", "digest", "archive_id"] {
        assert_eq!(dry[what], real[what], "{what}");
    }
    assert_eq!(store.dump().len(), 5);
}

fn a_dry_run_creates_nothing(backend: Backend) {
    let store = backend.nothing("dry_run_creates");
    store
        .import(&store.archive(&good()), &["--create", "--dry-run"])
        .success()
        .stdout_has("a dry run, nothing was changed");
    store.is_nothing();
}

fn another_digest_than_the_expected_one_changes_nothing(backend: Backend) {
    let store = backend.make("expected");
    let archive = store.archive(&good());
    let expected = format!("sha256:{}", "0".repeat(64));
    store.import(&archive, &["--expect", &expected]).fails_with(5).stderr_has(&expected);
    assert_eq!(store.dump(), Vec::<String>::new());
    let dry = json_of(&store.import(&archive, &["--json", "--dry-run"]).success());
    let digest = dry["digest"].as_str().expect("a digest");
    store.import(&archive, &["--expect", digest]).success();
    assert_eq!(store.dump().len(), 5);
}

fn a_cut_archive_changes_nothing(backend: Backend) {
    let store = backend.make("cut");
    let archive = store.archive(&good());
    cut(&archive);
    store.import(&archive, &[]).fails_with(4);
    assert_eq!(store.dump(), Vec::<String>::new());
}

/// Cuts an archive in its last frame.
fn cut(archive: &Path) {
    let bytes = fs::read(archive).expect("the archive");
    fs::write(archive, &bytes[..bytes.len() - 120]).expect("the cut archive");
}

#[test]
fn sqlite_keeps_orphans_and_counts_them_unless_told_otherwise() {
    let store = Backend::Sqlite.make("sqlite_orphans");
    let archive = store.archive(&(good() + &event(14, 7, "stop", "NULL")));
    store
        .import(&archive, &["--orphans", "fail"])
        .fails_with(12)
        .stderr_has(&id(14))
        .stderr_has(&id(7))
        .stderr_has("hint: --orphans=keep");
    assert_eq!(store.dump(), Vec::<String>::new());
    let kept = store.import(&archive, &["--json"]).success().stderr_has(&id(14));
    assert_eq!(
        json_of(&kept)["orphans"],
        json!([{"stream": "events", "column": "session_id", "rows": 1, "first": [[id(14), id(7)]]}])
    );
    assert_eq!(store.dump().len(), 6);
}

#[test]
fn postgres_refuses_orphans_that_it_does_not_allow_and_says_so() {
    for owner in [OWNER, SUPA] {
        let store = server_of(owner, "postgres_orphans");
        let archive = store.archive(&(good() + &event(14, 7, "stop", "NULL")));
        for options in [&[][..], &["--orphans", "keep"], &["--orphans", "fail"]] {
            store
                .import(&archive, options)
                .fails_with(12)
                .stderr_has(&id(14))
                .stderr_has(&id(7))
                .stderr_has("hint: the target enforces this reference");
            assert_eq!(store.dump(), Vec::<String>::new());
        }
    }
}

/// Chronicle's own layout on the server, owned by this role.
#[track_caller]
fn server_of(owner: &str, test_name: &str) -> Store {
    let database = Cluster::get().database_of(owner, test_name);
    database.apply_file(fixture("postgres-upstream.sql"));
    Store { folder: workdir(test_name), place: Place::Server(database) }
}

/// Panics unless an import of these rows into Postgres is refused with exit code 10 and all of these words.
#[track_caller]
fn postgres_refuses(sql: &str, options: &[&str], wanted: &[&str]) {
    let store = Backend::Postgres.make("refuses");
    let mut output = store.import(&store.archive(sql), options).fails_with(10);
    for words in wanted {
        output = output.stderr_has(words);
    }
    assert_eq!(store.dump(), Vec::<String>::new());
}

#[test]
fn an_event_type_that_upstream_does_not_know_is_refused_with_its_key() {
    let sql = good() + &event(14, 2, "prompt", "NULL");
    postgres_refuses(&sql, &[], &["chronicle_events", &id(14), "event_type"]);
}

#[test]
fn an_integer_too_large_for_the_column_is_refused_with_its_key() {
    let sql = good() + &event(14, 2, "stop", "2147483648");
    let wanted = ["chronicle_events", &id(14), "\"duration_ms\"", "2147483648 is too large"];
    postgres_refuses(&sql, &[], &wanted);
}

#[test]
fn an_id_that_is_no_uuid_becomes_one_and_comes_back_from_an_export() {
    let store = Backend::Postgres.make("no_uuid");
    let event =
        event(14, 2, "stop", "NULL").replace(&id(14), "event-3").replace(&id(2), "session-3");
    let sql = good() + &session_of("session-3", "cs-3") + &event;
    store
        .import(&store.archive(&sql), &[])
        .success()
        .stderr_has("\"id\": the id is no UUID")
        .stderr_has("the first in the row with key session-3");
    let joined = "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s \
                  ON s.id = e.session_id WHERE s.claude_session_id = 'cs-3'";
    assert_eq!(store.server().psql(joined), "1", "the event follows its session");
    let back = Backend::Sqlite.make("no_uuid_back");
    let archive = store.folder.path().join("back.zst");
    Program::new(["export", &store.url(), "-o", archive.to_str().unwrap()]).run().success();
    back.import(&archive, &[]).success();
    let Place::File(path) = &back.place else { panic!("a file") };
    let sql = "SELECT e.id || ' of ' || s.id FROM events e JOIN sessions s ON s.id = e.session_id \
               WHERE s.claude_session_id = 'cs-3'";
    let ids: String = Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(ids, "event-3 of session-3");
}

#[test]
fn a_local_time_is_refused_until_its_zone_is_named() {
    let sql = good() + &event_at(14, 2, "stop", "2025-09-08T09:58:05.887332", "NULL");
    postgres_refuses(&sql, &[], &[&id(14), "\"timestamp\"", "--assume-tz ZONE"]);

    for (zone, instant) in [
        ("America/Los_Angeles", "2025-09-08 16:58:05.887332+00"),
        ("Europe/Berlin", "2025-09-08 07:58:05.887332+00"),
        ("+02:00", "2025-09-08 07:58:05.887332+00"),
    ] {
        let store = Backend::Postgres.make("assumed_zone");
        store.import(&store.archive(&sql), &["--assume-tz", zone]).success();
        assert_eq!(time_of(&store, 14), instant, "{zone}");
    }
}

fn time_of(store: &Store, event: u32) -> String {
    store.server().psql(&format!(
        "SET TimeZone = 'UTC'; SELECT timestamp FROM chronicle_events WHERE id = '{}'",
        id(event)
    ))
}

#[test]
fn the_zone_of_an_archive_is_used_only_when_asked_for() {
    let sql = good() + &event_at(14, 2, "stop", "2025-09-08T09:58:05.887332", "NULL");
    let store = Backend::Postgres.make("zone_of_the_archive");
    let archive = store.archive(&sql);
    let inspected =
        Program::new(["inspect".as_ref(), archive.as_os_str()]).arg("--json").run().success();
    // a machine in a container may have none
    if let Some(zone) = zone_in(&json_of(&inspected)) {
        let hint = format!("the archive was made on a machine in {zone}: --assume-tz archive");
        store.import(&archive, &[]).fails_with(10).stderr_has(&hint);
        store.import(&archive, &["--assume-tz", "archive"]).success();
        let named = Backend::Postgres.make("zone_by_name");
        named.import(&archive, &["--assume-tz", &zone]).success();
        assert_eq!(time_of(&store, 14), time_of(&named, 14));
    }

    // a reproducible archive says nothing of the machine
    let source = archive.with_file_name("source.db");
    Program::new(["export".as_ref(), source.as_os_str(), "-o".as_ref(), archive.as_os_str()])
        .arg("--reproducible")
        .run()
        .success();
    store
        .import(&archive, &["--assume-tz", "archive"])
        .fails_with(9)
        .stderr_has("does not say in which time zone")
        .stderr_has("hint: ");
}

/// The first `time_zone` of an object, at any depth.
fn zone_in(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let own = object.get("time_zone").and_then(Value::as_str).map(str::to_owned);
    own.or_else(|| object.values().find_map(zone_in))
}

#[test]
fn a_local_time_that_the_clocks_skipped_is_refused() {
    let sql = good() + &event_at(14, 2, "stop", "2025-03-09T02:30:00", "NULL");
    let wanted = [&id(14), "\"timestamp\""];
    postgres_refuses(&sql, &["--assume-tz", "America/Los_Angeles"], &wanted);
}

#[test]
fn a_column_that_has_no_place_is_refused_by_its_first_value_with_all_others_named() {
    let database = Cluster::get().database("no_place");
    database.apply_file(fixture("postgres-seed.sql"));
    let store = Store { folder: workdir("no_place"), place: Place::Server(database) };
    let archive = store.archive(&good());
    store
        .import(&archive, &[])
        .fails_with(9)
        .stderr_has(&format!("row 1 (key {})", id(1)))
        .stderr_has("column \"claude_session_id\": the target has no column for it")
        .stderr_has("none for sessions.metadata, events.tool_name, events.duration_ms either")
        .stderr_has("hint: --on-missing-column=fold")
        .stderr_lacks("updated_at");
    assert_eq!(store.dump(), Vec::<String>::new());
}

#[test]
fn a_column_without_a_place_and_without_a_value_loses_nothing() {
    let store = Backend::Sqlite.make("no_value");
    store.run("ALTER TABLE sessions ADD COLUMN note TEXT");
    store.run(&good());
    let archive = store.folder.path().join("noted.zst");
    Program::new(["export", &store.url(), "-o", archive.to_str().unwrap()]).run().success();
    let plain = Backend::Sqlite.make("no_value_plain");
    plain.import(&archive, &[]).success();
    let without = |line: &String| line.replace(" note=null", "");
    assert_same_rows(&plain.dump(), &store.dump().iter().map(without).collect::<Vec<_>>());
}

#[test]
fn a_derived_column_without_a_place_is_left_out_with_a_notice() {
    let store = Backend::Postgres.make("derived");
    let output = store
        .import(&store.archive(&good()), &["--json"])
        .success()
        .stderr_has("sessions: chronicle_sessions has no column for updated_at");
    assert!(json_of(&output)["notices"].to_string().contains("updated_at"));
}

/// Every trigger of the tables with its state, the server's own included.
const TRIGGERS: &str = "SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger \
    WHERE tgrelid IN ('chronicle_sessions'::regclass, 'chronicle_events'::regclass) ORDER BY 1, 2";

#[test]
fn triggers_do_not_fire_and_stay_as_they_were() {
    for owner in [OWNER, SUPA] {
        let store = server_of(owner, "triggers");
        let database = store.server();
        database.psql(
            "CREATE TABLE fired (name text); \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN INSERT INTO public.fired VALUES (TG_NAME); RETURN NULL; END $$; \
             CREATE TRIGGER \"an Origin\" AFTER INSERT ON chronicle_events FOR EACH ROW EXECUTE FUNCTION note(); \
             CREATE TRIGGER \"an Always\" AFTER INSERT ON chronicle_events FOR EACH ROW EXECUTE FUNCTION note(); \
             CREATE TRIGGER \"a Replica\" AFTER INSERT ON chronicle_events FOR EACH STATEMENT EXECUTE FUNCTION note(); \
             CREATE TRIGGER \"a Disabled\" AFTER INSERT ON chronicle_sessions FOR EACH ROW EXECUTE FUNCTION note(); \
             ALTER TABLE chronicle_events ENABLE ALWAYS TRIGGER \"an Always\"; \
             ALTER TABLE chronicle_events ENABLE REPLICA TRIGGER \"a Replica\"; \
             ALTER TABLE chronicle_sessions DISABLE TRIGGER \"a Disabled\";",
        );
        let before = database.psql(TRIGGERS);
        for state in ["an Always|A", "a Replica|R", "a Disabled|D", "an Origin|O"] {
            assert!(before.contains(state), "{before}");
        }
        // Chronicle's own triggers would end session 2 and refuse an event of the future
        let sql = good() + &event_at(14, 2, "stop", "2999-01-01T00:00:00Z", "NULL");
        let archive = store.archive(&sql);
        store.import(&archive, &[]).success().stderr_has("triggers of the target did not fire");
        // once straight into empty tables, once by way of a staging table
        let more = store.archive(&(sql.clone() + &event(15, 1, "stop", "NULL")));
        store.import(&more, &[]).success();
        let refused = store.archive(&(sql + &event(16, 1, "prompt", "NULL")));
        store.import(&refused, &[]).fails_with(10);
        assert_eq!(database.psql("SELECT count(*) FROM fired"), "0", "{owner}");
        let ended = "SELECT count(*) FROM chronicle_sessions WHERE end_time IS NOT NULL";
        assert_eq!(database.psql(ended), "0", "{owner}");
        assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "5", "{owner}");
        assert_eq!(database.psql(TRIGGERS), before, "{owner}");
    }
}

#[test]
fn a_sequence_is_behind_the_largest_loaded_number_and_never_goes_back() {
    let numbered = "ALTER TABLE events ADD COLUMN n INTEGER;".to_owned()
        + &good()
        + "UPDATE events SET n = CASE duration_ms WHEN 12 THEN 40 ELSE rowid END;";
    for kind in [
        "bigserial",
        "integer GENERATED ALWAYS AS IDENTITY",
        "bigint GENERATED BY DEFAULT AS IDENTITY",
    ] {
        let store = Backend::Postgres.make("sequence");
        let database = store.server();
        database.psql(&format!("ALTER TABLE chronicle_events ADD COLUMN n {kind} UNIQUE"));
        let next = |number: u32| {
            database.psql(&format!(
                "INSERT INTO chronicle_events (id, session_id, event_type, timestamp) \
                 VALUES ('{}', '{}', 'notification', now()) RETURNING n",
                id(number),
                id(1)
            ))
        };
        let archive = store.archive(&numbered);
        store.import(&archive, &[]).success();
        assert_eq!(next(51), "41", "{kind}");
        database.psql("SELECT setval(pg_get_serial_sequence('public.chronicle_events', 'n'), 100)");
        store.import(&archive, &[]).success();
        assert_eq!(next(52), "101", "{kind}");
        // an archive without such numbers: the server gives them
        let without = store.archive(&(session(1, "cs-1") + &event(20, 1, "stop", "NULL")));
        store.import(&without, &[]).success();
        assert_eq!(next(53), "103", "{kind}");
    }
}

#[test]
fn large_values_are_compressed_as_asked_for() {
    let text = "again and again ".repeat(1000);
    let large = good() + &format!("UPDATE events SET data = json_object('a', '{text}');");
    for (method, rows) in [("lz4", true), ("pglz", false)] {
        let store = Backend::Postgres.make(method);
        let archive = store.archive(&large);
        if rows {
            // through a staging table, too: there is a row in the target already
            let other = store.archive(&session(99, "other"));
            store.import(&other, &[]).success();
        }
        store.import(&archive, &["--toast-compression", method]).success();
        let sql = "SELECT DISTINCT pg_column_compression(metadata) FROM chronicle_events";
        assert_eq!(store.server().psql(sql), method);
    }
    let file = Backend::Sqlite.make("no_toast");
    let archive = file.archive(&large);
    file.import(&archive, &["--toast-compression=lz4"])
        .fails_with(2)
        .stderr_has("--toast-compression is for Postgres alone");
}

#[test]
fn a_foreign_key_that_no_layout_knows_is_kept() {
    let with_project = |project: &str| {
        "ALTER TABLE events ADD COLUMN project TEXT;".to_owned()
            + &good()
            + &format!("UPDATE events SET project = '{project}' WHERE duration_ms = 12;")
    };
    for owner in [OWNER, SUPA] {
        let store = server_of(owner, "unknown_key");
        let database = store.server();
        database.psql(
            "CREATE TABLE projects (name text PRIMARY KEY); INSERT INTO projects VALUES ('tea'); \
             ALTER TABLE chronicle_events ADD COLUMN project text \
             CONSTRAINT of_a_project REFERENCES projects (name);",
        );
        let bad = store.archive(&with_project("coffee"));
        store.import(&bad, &[]).fails_with(12).stderr_has("of_a_project");
        assert_eq!(store.dump(), Vec::<String>::new());
        store.import(&store.archive(&with_project("tea")), &[]).success();
        assert_eq!(store.dump().len(), 5);
    }
}

#[test]
fn hooks_and_server_in_one_file_go_into_the_same_tables() {
    let store = Backend::Postgres.make("hooks_and_server");
    let server = good()
        .replace("INTO sessions", "INTO chronicle_sessions")
        .replace("INTO events", "INTO chronicle_events")
        .replace("timestamp, data,", "timestamp, metadata,")
        .replace("0000000a-", "0000000b-")
        .replace("'cs-", "'server-");
    let fixtures = ["sqlite-hooks.sql", "sqlite-server.sql"];
    let archive = archive_of(store.folder.path(), &fixtures, &(good() + &server));
    let first = json_of(&store.import(&archive, &["--json"]).success());
    let inserted = |report: &Value, what: &str| -> Vec<u64> {
        let streams = report["streams"].as_array().expect("streams");
        streams.iter().map(|stream| stream[what].as_u64().expect("a count")).collect()
    };
    assert_eq!(inserted(&first, "inserted_rows"), [2, 3, 2, 3]);
    let before = store.dump();
    assert_eq!(before.len(), 10);
    let second = json_of(&store.import(&archive, &["--json"]).success());
    assert_eq!(inserted(&second, "skipped_rows"), [2, 3, 2, 3]);
    assert_same_rows(&before, &store.dump());

    // one session in both tables under two ids
    let same =
        archive_of(store.folder.path(), &fixtures, &(good() + &server.replace("'server-", "'cs-")));
    let other = Backend::Postgres.make("hooks_and_server_collide");
    other.import(&same, &[]).fails_with(11).stderr_has("claude_session_id");
    assert_eq!(other.dump(), Vec::<String>::new());
}

#[test]
fn two_streams_of_one_table_add_their_columns_once() {
    let folder = workdir("added_once");
    let sql = "INSERT INTO sessions (id, claude_session_id, start_time, metadata) VALUES \
          ('5e551011-0000-4000-8000-000000000001', 'a', '2025-08-19T14:26:21Z', '{}'); \
        INSERT INTO chronicle_sessions (id, claude_session_id, start_time, metadata, event_count) VALUES \
          ('5e551011-0000-4000-8000-000000000002', 'b', '2025-08-19T14:26:21Z', '{}', 7);";
    let archive = archive_of(folder.path(), &["sqlite-hooks.sql", "sqlite-server.sql"], sql);
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let store = backend.make("added_once");
        let options = ["--on-missing-column=add"];
        let words = ["check", archive.to_str().unwrap(), "--to", &store.url(), options[0]];
        Program::new(words).run().success();
        for _ in 0..2 {
            store.import(&archive, &options).success();
        }
        let table = backend.sessions();
        let counts = format!("SELECT sum(event_count), count(*), count(updated_at) FROM {table}");
        let found = match &store.place {
            Place::File(path) => ask(path.to_str().unwrap(), &counts),
            Place::Server(database) => database.psql(&counts),
        };
        assert_eq!(found, "7|2|2");
    }
}

#[test]
fn of_two_schemas_one_is_named() {
    let database = Cluster::get().database("two_schemas");
    let layout = fs::read_to_string(fixture("postgres-upstream.sql")).expect("the layout");
    for schema in ["first", "other"] {
        database.psql(&format!("CREATE SCHEMA {schema}; SET search_path = {schema}; {layout}"));
    }
    let store = Store { folder: workdir("two_schemas"), place: Place::Server(database) };
    let database = store.server();
    let archive = store.archive(&good());
    let both = "several schemas hold Chronicle's tables: first, other";
    store.import(&archive, &[]).fails_with(9).stderr_has(both).stderr_has("?schema=NAME");
    Program::new(["export", &store.url()]).run().fails_with(9).stderr_has(both);
    let named = format!("{}?schema=other", store.url());
    import(&archive, &named, &[]).success();
    assert_eq!(database.psql("SELECT count(*) FROM other.chronicle_events"), "3");
    assert_eq!(database.psql("SELECT count(*) FROM first.chronicle_events"), "0");
    Program::new(["export", &named]).run().success().stderr_has("3 events");
}

#[test]
fn rows_that_row_level_security_hides_stop_an_export() {
    let store = Backend::Postgres.make("row_level_security");
    store.import(&store.archive(&good()), &[]).success();
    let database = store.server();
    let reader = format!("reader_{}", database.name());
    let reader = &reader[..reader.len().min(63)];
    database.psql_as(
        ADMIN,
        &format!(
            "CREATE ROLE \"{reader}\" LOGIN PASSWORD '{PASSWORD}'; \
             GRANT SELECT ON chronicle_sessions, chronicle_events TO \"{reader}\""
        ),
    );
    let fails = || {
        Program::new(["export", &database.url_as(reader)])
            .run()
            .fails_with(8)
            .stderr_has("row-level security")
            .stderr_has("BYPASSRLS")
    };
    fails();
    for table in ["chronicle_sessions", "chronicle_events"] {
        database.psql(&format!("DROP POLICY \"Allow all operations on {table}\" ON {table}"));
    }
    fails();
    database.psql_as(ADMIN, &format!("ALTER ROLE \"{reader}\" BYPASSRLS"));
    Program::new(["export", &database.url_as(reader)]).run().success().stderr_has("3 events");
    database.psql_as(ADMIN, &format!("DROP OWNED BY \"{reader}\"; DROP ROLE \"{reader}\""));
}

#[test]
fn a_read_only_database_refuses_an_import_and_says_why() {
    let store = Backend::Postgres.make("read_only");
    let database = store.server();
    let archive = store.archive(&good());
    let name = database.name();
    database.psql_as(
        ADMIN,
        &format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on"),
    );
    store.import(&archive, &[]).fails_with(8).stderr_has("read-only").stderr_has("hint: ");
    Program::new(["export", &store.url()]).run().success();
}

#[test]
fn who_may_not_log_in_is_told_so() {
    let store = Backend::Postgres.make("login");
    let archive = store.archive(&good());
    let database = store.server();
    let (port, name) = (database.port(), database.name());
    let wrong = format!("postgres://{OWNER}:wrong@127.0.0.1:{port}/{name}");
    import(&archive, &wrong, &[]).fails_with(7).stderr_has("password").stderr_lacks(":wrong@");
    let nowhere = Cluster::get().url(OWNER, "no_such_database");
    import(&archive, &nowhere, &[])
        .fails_with(7)
        .stderr_has("no_such_database")
        .stderr_has("hint: check the name behind the last slash");
}

#[test]
fn an_import_leaves_nothing_on_the_server_but_rows() {
    let store = Backend::Postgres.make("leaves_nothing");
    let database = store.server();
    let good_archive = store.archive(&good());
    store.import(&good_archive, &[]).success();
    store.import(&good_archive, &[]).success();
    store.import(&good_archive, &["--dry-run"]).success();
    store.import(&store.archive(&bad_last_event()), &[]).fails_with(10);
    let ours = format!("(SELECT oid FROM pg_database WHERE datname = '{}')", database.name());
    // a session that was left ends a moment after its program
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datid = {ours} AND pid <> pg_backend_pid() \
         AND application_name = 'chronicle-dump'"
    );
    let gone = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        database.psql_as(ADMIN, &sessions) == "0"
    });
    assert!(gone, "a session is left");
    for left in [
        "SELECT count(*) FROM pg_class WHERE relpersistence = 't' OR relname LIKE 'chronicle_dump%'".to_owned(),
        "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()".to_owned(),
        format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {ours}"),
    ] {
        assert_eq!(database.psql_as(ADMIN, &left), "0", "{left}");
    }
    assert_eq!(store.dump().len(), 5);
}

#[test]
fn an_import_waits_for_another_and_goes_on_where_only_rows_and_other_tables_are_new() {
    let store = Backend::Postgres.make("waits_for_another");
    let archive = store.archive(&good());
    let database = store.server();
    // some servers are told to show every transaction one moment only
    let role = "ALTER DATABASE :d SET default_transaction_isolation = 'repeatable read'";
    database.psql(&role.replace(":d", &format!("\"{}\"", database.name())));
    import(&archive, &store.url(), &["--assume-tz=UTC"]).success();
    database.psql(
        "ALTER TABLE chronicle_events DISABLE TRIGGER USER; \
         CREATE TABLE kept AS SELECT * FROM chronicle_events; DELETE FROM chronicle_events",
    );
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            database.psql(
                "BEGIN; LOCK TABLE chronicle_events IN SHARE ROW EXCLUSIVE MODE; \
                 CREATE TABLE chronicle_dump_other (id int); \
                 INSERT INTO chronicle_events SELECT * FROM kept; \
                 SELECT pg_sleep(4); COMMIT",
            )
        });
        let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' \
                      AND relation = 'chronicle_events'::regclass";
        while database.psql(locked) == "0" {}
        import(&archive, &store.url(), &["--assume-tz=UTC"])
            .success()
            .stdout_has("0 events (")
            .stdout_has("were there already");
        other.join().expect("the other import");
    });
}

#[test]
fn triggers_of_a_sqlite_file_do_not_fire() {
    let folder = workdir("sqlite_triggers");
    let made = |name: &str| {
        let path = folder.path().join(name);
        sqlite_from(&["sqlite-server.sql"], &path, "wal");
        path
    };
    let (source, target) = (made("source.db"), made("target.db"));
    let rows = good()
        .replace("INTO sessions", "INTO chronicle_sessions")
        .replace("INTO events", "INTO chronicle_events")
        .replace("timestamp, data,", "timestamp, metadata,");
    fill(
        &source,
        &(rows
            + "DROP TRIGGER trigger_sessions_updated_at; \
               UPDATE chronicle_sessions SET event_count = 70, updated_at = '2001-01-01 00:00:00'; \
               UPDATE chronicle_events SET metadata = '{\"session_termination\": true}';"),
    );
    let archive = folder.path().join("archive.ndjson.zst");
    Program::new(["export".as_ref(), source.as_os_str(), "-o".as_ref(), archive.as_os_str()])
        .run()
        .success();
    import(&archive, target.to_str().expect("a path in UTF-8"), &[]).success();
    assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&target));
    let triggers: u32 = Connection::open(&target)
        .and_then(|database| {
            let count = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
            database.query_row(count, [], |row| row.get(0))
        })
        .expect("the triggers");
    assert_eq!(triggers, 3);
}

#[test]
fn autoincrement_goes_on_behind_the_largest_loaded_number() {
    let store = Backend::Sqlite.make("autoincrement");
    let numbered = "DROP TABLE events; CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, \
        session_id TEXT, event_type TEXT, timestamp TEXT, data TEXT);";
    let add = |id: u32| {
        format!(
            "INSERT INTO events VALUES ({id}, '{}', 'stop', '2025-08-19T10:00:00Z', '{{}}');",
            self::id(1)
        )
    };
    store.run(numbered);
    let archive = store.archive(&(numbered.to_owned() + &session(1, "cs-1") + &add(5) + &add(9)));
    let next = || {
        let Place::File(path) = &store.place else { panic!("a file") };
        let database = Connection::open(path).expect("the target");
        let sql = "INSERT INTO events (session_id) VALUES (NULL) RETURNING id";
        database.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("the next number")
    };
    store.import(&archive, &[]).success();
    assert_eq!(next(), 10);
    store.run("DELETE FROM events WHERE id = 10");
    store.import(&archive, &[]).success();
    assert_eq!(next(), 11);
}

#[test]
fn a_new_file_replaces_none_and_is_for_its_owner_alone() {
    let store = Backend::Sqlite.nothing("new_file");
    let archive = store.archive(&good());
    store.import(&archive, &["--create"]).success();
    let Place::File(path) = &store.place else { panic!("a file") };
    let mode = fs::metadata(path).expect("the new file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(path).expect("the new file");
    store
        .import(&archive, &["--create"])
        .fails_with(2)
        .stderr_has("exists already")
        .stderr_has("hint: leave --create out");
    assert!(before == fs::read(path).expect("the file"), "the file was changed");
}

#[test]
fn tables_that_are_there_are_not_created_again() {
    let store = Backend::Postgres.make("tables_there");
    store
        .import(&store.archive(&good()), &["--create"])
        .fails_with(2)
        .stderr_has("the schema public has Chronicle's tables already");
    assert_eq!(store.dump(), Vec::<String>::new());
}
