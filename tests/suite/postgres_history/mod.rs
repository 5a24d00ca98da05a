//! The history that a Postgres database keeps: its rows, who may see them, and what becomes of batches that die or meet.

mod at_once;
mod lost_commit;
mod rights;
mod sequences;
mod undone;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::support::cluster::{Cluster, Database, OWNER, SUPA};
use super::support::files::fixture;
use super::support::migrate::Scratch;
use super::support::program::{Output, Program, Running};

/// The user's own table, as Chronicle's migration tutorial creates it.
const MIRROR: &str = "CREATE TABLE migration_history (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), \
    migration_type text NOT NULL, source_backend text NOT NULL, target_backend text NOT NULL, \
    batch_id text NOT NULL, records_migrated integer, status text CHECK (status IN ('started', 'completed', \
    'failed', 'rolled_back')), error_message text, started_at timestamptz DEFAULT now(), completed_at timestamptz)";
/// Drops what fires by itself, which only the owner of a table can silence.
const NO_TRIGGERS: &str = "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname, tgrelid::regclass AS r FROM pg_trigger \
    WHERE NOT tgisinternal LOOP EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.r); END LOOP; END $$";
/// The batches in their order, as our own table has them.
const BATCHES: &str = "SELECT migration_type, source_backend, status, records_migrated, error_message \
    FROM chronicle_dump.migration_history ORDER BY batch_id";

/// An empty database of the server's layout.
fn empty(owner: &str, test_name: &str) -> Database {
    let database = Cluster::get().database_of(owner, test_name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database
}

fn id(number: u32) -> String {
    format!("0000000a-0000-4000-8000-{number:012}")
}

/// A session with some events, as SQL of a hooks file.
fn session(number: u32, events: std::ops::Range<u32>) -> String {
    let mut sql = format!(
        "INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) VALUES \
         ('{}', 'cs-{number}', '2025-08-19T10:00:00Z', '/p', '2025-08-19 10:00:00', '2025-08-19 10:00:00');",
        id(number)
    );
    for event in events {
        sql.push_str(&format!(
            "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at) \
             VALUES ('{}', '{}', 'stop', '2025-08-19T10:00:00Z', '{{\"a\": {event}}}', 'Bash', {event}, \
             '2025-08-19 10:00:00');",
            id(event),
            id(number)
        ));
    }
    sql
}

/// An archive of a hooks file.
fn archive(scratch: &Scratch, sql: &str) -> PathBuf {
    let count = std::fs::read_dir(scratch.path("")).expect("the folder").count();
    let file = scratch.sqlite(&format!("{count}.db"), &["sqlite-hooks.sql"], sql);
    scratch.export(&file)
}

fn importing(archive: &Path, url: &str, options: &[&str]) -> Program {
    let words = ["import", archive.to_str().unwrap(), "--to", url];
    Program::new(words.into_iter().chain(options.iter().copied()))
}

#[track_caller]
fn import(archive: &Path, url: &str, options: &[&str]) -> Output {
    importing(archive, url, options).run()
}

/// An import that has all rows and waits for the end of its archive, and what is missing of that.
fn unfinished(archive: &Path, database: &Database) -> (Running, std::process::ChildStdin, Vec<u8>) {
    use std::io::Write;
    let bytes = std::fs::read(archive).unwrap();
    let cut = bytes.len() - 40;
    let program = Program::new(["import", "-", "--to", &database.url()]);
    let mut running = program.stdin_by_hand().spawn();
    let mut stdin = running.take_stdin();
    stdin.write_all(&bytes[..cut]).unwrap();
    let started = "SELECT count(*) > 1 FROM pg_tables WHERE schemaname = 'chronicle_dump'";
    while database.psql(started) != "t" || !database.psql(BATCHES).contains("started") {
        assert!(running.is_running());
        std::thread::sleep(Duration::from_millis(20));
    }
    (running, stdin, bytes[cut..].to_vec())
}

#[test]
fn every_import_is_in_the_history_also_one_that_failed() {
    let (database, scratch) = (empty(OWNER, "history_rows"), Scratch::new("history_rows"));
    let good = archive(&scratch, &session(1, 10..13));
    let bad = archive(&scratch, &session(1, 10..13).replace("'Bash', 12", "'Other', 12"));
    import(&good, &database.url(), &[]).success();
    import(&bad, &database.url(), &[]).fails_with(11);
    import(&good, &database.url(), &["--no-undo"]).success();
    import(&good, &database.url(), &["--dry-run"]).success();
    let found = database.psql(BATCHES);
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], "import|sqlite|completed|4|");
    assert!(lines[1].starts_with("import|sqlite|failed|0|events: "), "{found}");
    assert_eq!(lines[2..], ["import|sqlite|completed|0|"]);
    let receipts = "SELECT count(DISTINCT batch_id) FROM chronicle_dump.receipts";
    assert_eq!(database.psql(receipts), "1");
    let shown = Program::new(["history", &database.url()]).run().success();
    assert!(
        shown.text().contains("completed") && shown.text().contains("failed"),
        "{}",
        shown.text()
    );
}

#[test]
fn nobody_else_may_see_the_history() {
    let (database, scratch) = (empty(OWNER, "history_closed"), Scratch::new("history_closed"));
    import(&archive(&scratch, &session(1, 10..11)), &database.url(), &[]).success();
    let open = "SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a \
        WHERE c.relnamespace = 'chronicle_dump'::regnamespace AND a.grantee <> c.relowner";
    assert_eq!(database.psql(open), "0");
    let unguarded = "SELECT count(*) FROM pg_class WHERE relnamespace = 'chronicle_dump'::regnamespace \
        AND relkind = 'r' AND NOT relrowsecurity";
    assert_eq!(database.psql(unguarded), "0");
    let schema = "SELECT count(*) FROM pg_namespace n, aclexplode(n.nspacl) a \
        WHERE n.nspname = 'chronicle_dump' AND a.grantee <> n.nspowner";
    assert_eq!(database.psql(schema), "0");
}

#[test]
fn the_history_is_beside_the_data_without_a_right_to_a_schema() {
    let (database, scratch) = (empty(OWNER, "history_beside"), Scratch::new("history_beside"));
    let name = database.name();
    database.psql(&format!("REVOKE CREATE ON DATABASE \"{name}\" FROM PUBLIC, {OWNER}"));
    let good = archive(&scratch, &session(1, 10..13));
    import(&good, &database.url(), &[]).success();
    let status = "SELECT status FROM chronicle_dump_migration_history";
    assert_eq!(database.psql(status), "completed");
    Program::new(["export", &database.url()]).run().success().stderr_lacks("is not exported");
    Program::new(["rollback", "last", "--from", &database.url()]).run().success();
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "0");
}

#[test]
fn the_table_of_the_user_has_the_batches_too() {
    let (database, scratch) = (empty(OWNER, "history_mirror"), Scratch::new("history_mirror"));
    database.psql(MIRROR);
    let good = archive(&scratch, &session(1, 10..13));
    let bad = archive(&scratch, &session(1, 10..13).replace("'Bash', 12", "'Other', 12"));
    import(&good, &database.url(), &[]).success().stderr_lacks("which refuses it");
    import(&bad, &database.url(), &[]).fails_with(11);
    Program::new(["rollback", "last", "--from", &database.url()]).run().success();
    let rows = "SELECT migration_type, source_backend, status, records_migrated, completed_at IS NULL, \
        batch_id = (SELECT h.batch_id::text FROM chronicle_dump.migration_history h \
                     WHERE h.batch_id::text = m.batch_id) FROM migration_history m ORDER BY batch_id";
    let expected = "import|sqlite|rolled_back|4|f|t\nimport|sqlite|failed|0|f|t\n\
                    rollback|postgres|completed|4|f|t";
    assert_eq!(database.psql(rows), expected);
}

#[test]
fn a_table_of_the_user_that_refuses_a_batch_stops_nothing() {
    let (database, scratch) = (empty(OWNER, "history_refused"), Scratch::new("history_refused"));
    database.psql(&format!("{MIRROR}; ALTER TABLE migration_history ADD CHECK (status = 'never')"));
    let good = archive(&scratch, &session(1, 10..13));
    import(&good, &database.url(), &[]).success().stderr_has("which refuses it");
    assert_eq!(database.psql("SELECT count(*) FROM migration_history"), "0");
    assert_eq!(database.psql(BATCHES), "import|sqlite|completed|4|");
}
