//! Every error code, provoked by commands.

use chronicle_dump::error::Code;
use rusqlite::Connection;

use super::{Stage, same_as_file};
use crate::archive::{decompress, frames};
use crate::support::cluster::SUPA;
use crate::support::files::{fixture, sqlite_from};
use crate::support::migrate::fill;

const SAMPLE: [&str; 2] = ["sqlite-hooks.sql", "sample-hooks.sql"];
const EMPTY: [&str; 1] = ["sqlite-hooks.sql"];

/// Results with an exit code of their own, which are no errors.
const RESULTS: [Code; 3] = [Code::IndexDamaged, Code::Rejected, Code::Different];

/// Codes that no command line provokes, and why.
const UNPROVOKED: [(Code, &str); 2] = [
    (Code::Internal, "a bug of this program"),
    (Code::BrokenPipe, "nothing is printed, since nobody reads it"),
];

/// Commands, the code that they end with, and in braces what they need.
const CASES: &[(Code, &str)] = &[
    (Code::Usage, "frobnicate"),
    (Code::Usage, "export s.db --forced"),
    (Code::Usage, "export s.db --level 99"),
    (Code::Usage, "import a.zst"),
    (Code::Usage, "import a.zst --to t.db --orphans none"),
    (Code::Usage, "export mysql://localhost/x"),
    (Code::Usage, "export s.db -o a.zst"),
    (Code::Usage, "export s.db -o {dat}.zst"),
    (Code::Usage, "export s.db -o s.db --force"),
    (Code::Usage, "export s.db -o $FOLDER"),
    (Code::Usage, "export s.db -o ''"),
    (Code::Usage, "import '' --to t.db"),
    (Code::Usage, "import a.zst --to ''"),
    (Code::Usage, "import a.zst --to t.db --create"),
    (Code::Usage, "import a.zst --to t.db --create=hooks --layout hooks"),
    (Code::Usage, "import a.zst --to t.db --toast-compression lz4"),
    (Code::Usage, "import a.zst --to t.db --on-unrepresentable reject"),
    (Code::Usage, "import a.zst --to t.db --strict --rejects r.zst"),
    (Code::Usage, "import a.zst --to t.db --assume-tz Nowhere"),
    (Code::Usage, "import a.zst --to $DATABASE --create"),
    (Code::Usage, "verify a.zst --expect md5:1"),
    (Code::Usage, "verify a.zst a.zst --expect $ZEROS"),
    (Code::Usage, "verify a.zst --orphans skip"),
    (Code::Usage, "check a.zst --orphans skip"),
    (Code::Usage, "check a.zst --from-layout hooks"),
    (Code::Usage, "diff - -"),
    (Code::Usage, "diff a.zst a.zst --layout hooks"),
    (Code::Usage, "diff a.zst s.db --ignore nothing"),
    (Code::Usage, "diff a.zst s.db --ignore id"),
    (Code::Usage, "cat a.zst --stream nothing"),
    (Code::Usage, "cat a.zst --since yesterday"),
    (Code::Usage, "schema nothing"),
    (Code::Usage, "import a.zst --to $DATABASE --backup-db copy.db"),
    (Code::Usage, "import a.zst --to t.db --backup a.zst"),
    (Code::Usage, "restore a.zst --to t.db --on-conflict skip"),
    (Code::Usage, "restore $DATABASE --to t.db"),
    (Code::Usage, "history t.db --prune"),
    (Code::Usage, "history t.db --prune --older-than 3x"),
    (Code::Usage, "copy --from t.db --to t.db"),
    (Code::Usage, "copy --from s.db --to t.db --tee a.zst"),
    (Code::Usage, "copy --from s.db --from other.db --to t.db --tee kept.zst"),
    (Code::Usage, "copy --from s.db --from s.db --to t.db --tee kept-{source}.zst"),
    (Code::Usage, "copy --from s.db"),
    (Code::Usage, "copy --config unknown.json"),
    (Code::Usage, "copy --config selecting.json"),
    (Code::Usage, "copy --config owned.json"),
    (Code::Usage, "copy --config project.json"),
    (Code::Usage, "copy --config project.json --to-db-url postgresql://u@db.bbbb.supabase.co/d"),
    (Code::Usage, "copy --config project.json --to-db-url text"),
    (Code::Usage, "copy --config text --to t.db"),
    (Code::Usage, "export s.db --keep-daily 7"),
    (Code::Usage, "export s.db -o kept.zst --keep-daily 7"),
    (Code::Usage, "export s.db -o kept-{date}.zst --keep-weekly 4 --reproducible"),
    (Code::Usage, "export s.db -o kept-{date}.zst --keep-monthly 1 --since 7d"),
    (Code::Usage, "service print cron --from s.db"),
    (Code::Usage, "service print cron --from s.db --archive-to kept.zst"),
    (Code::Usage, "service print cron --from s.db --archive-to kept-{date}.zst --at 25:00"),
    (Code::Usage, "service print systemd --from s.db --sync-to $DATABASE"),
    (Code::NotAnArchive, "verify text"),
    (Code::NotAnArchive, "verify nothing.zst"),
    (Code::NotAnArchive, "verify s.db"),
    (Code::NotAnArchive, "verify rows.ndjson"),
    (Code::NotAnArchive, "diff text s.db"),
    (Code::ArchiveDamaged, "verify flipped.zst"),
    (Code::ArchiveDamaged, "import flipped.zst --to new.db --create"),
    (Code::ArchiveDamaged, "verify twice.zst"),
    (Code::ArchiveTruncated, "verify cut.zst"),
    (Code::ArchiveTruncated, "import cut.zst --to new.db --create"),
    (Code::ArchiveUnsupported, "verify version.ndjson"),
    (Code::DigestMismatch, "verify a.zst --expect $ZEROS"),
    (Code::DigestMismatch, "import a.zst --to new.db --create --expect $ZEROS"),
    (Code::IndexDamaged, "verify tableless.zst"),
    (Code::NotFound, "export"),
    (Code::NotFound, "export gone.db"),
    (Code::NotFound, "export text"),
    (Code::NotFound, "export a.zst"),
    (Code::NotFound, "history gone.db"),
    (Code::NotFound, "rollback last --from t.db"),
    (Code::NotFound, "rollback 0000 --from t.db"),
    (Code::NotFound, "verify gone.zst"),
    (Code::NotFound, "verify $FOLDER"),
    (Code::NotFound, "import a.zst --to gone.db"),
    (Code::NotFound, "verify a.zst --against gone.db"),
    (Code::NotFound, "export $DATABASE --password-file gone"),
    (Code::NotFound, "service print cron --from s.db --archive-to gone/kept-{date}.zst"),
    (Code::NotFound, "service print cron --from s.db --sync-to t.db --password-file gone"),
    (Code::Connect, "export postgresql://u@127.0.0.1:1/d"),
    (Code::Connect, "export $SERVER/nothing"),
    (Code::Source, "export damaged.db"),
    (Code::Source, "copy --from damaged.db --to t.db"),
    (Code::Target, "import a.zst --to $UNPRIVILEGED --assume-tz UTC"),
    (Code::Layout, "export foreign.db"),
    (Code::Layout, "export strange.db"),
    (Code::Layout, "import a.zst --to foreign.db"),
    (Code::Layout, "export s.db --layout server"),
    (Code::Plan, "import more.zst --to t.db --on-missing-column fail"),
    (Code::Plan, "import more.zst --to t.db --strict"),
    (Code::Plan, "import a.zst --to narrow.db"),
    (Code::Value, "import a.zst --to $DATABASE"),
    (Code::Value, "import clock.zst --to $DATABASE --assume-tz Asia/Tokyo"),
    (Code::Value, "import a.zst --to $DATABASE --assume-tz UTC --trust-zone --strict"),
    (Code::Value, "check a.zst --to $DATABASE"),
    (Code::Value, "check clock.zst --to $DATABASE --strict -v"),
    (Code::Conflict, "import a.zst --to other.db"),
    (Code::Conflict, "check a.zst --to other.db"),
    (Code::Conflict, "copy --from s.db --to other.db"),
    (Code::Conflict, "check s.db --to other.db --orphans fail"),
    (Code::Orphan, "import a.zst --to t.db --orphans fail"),
    (Code::Orphan, "check a.zst --to t.db --orphans fail"),
    (
        Code::Readback,
        "import a.zst --to $RULED --assume-tz UTC --trust-zone --orphans skip --no-undo",
    ),
    (
        Code::Rejected,
        "import a.zst --to $DATABASE --assume-tz UTC --trust-zone --orphans skip \
                      --on-unrepresentable reject --rejects r.zst",
    ),
    (Code::Output, "export s.db -o no/such/folder"),
    (Code::Output, "export s.db -o /dev/full"),
    (Code::Output, "copy --from s.db --to t.db --tee /dev/full"),
    (Code::Different, "diff a.zst t.db --limit 1"),
    (Code::Different, "verify a.zst --against t.db --limit 1"),
];

/// Rows whose two clocks say that they were written seven hours west of Greenwich.
const CLOCK: &str = "
INSERT INTO sessions (id, claude_session_id, start_time, created_at) VALUES
    ('0000000a-0000-4000-8000-000000000001', 'cs-1', '2025-08-19T10:00:00', '2025-08-19 17:00:00');
INSERT INTO events (id, session_id, event_type, timestamp, created_at) VALUES
    ('0000000a-0000-4000-8000-000000000011', '0000000a-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:01', '2025-08-19 17:00:01'),
    ('0000000a-0000-4000-8000-000000000012', '0000000a-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:02', '2025-08-19 17:00:02'),
    ('0000000a-0000-4000-8000-000000000013', '0000000a-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:03', '2025-08-19 17:00:03');";

/// The files and databases that the commands name.
fn stage() -> Stage {
    let stage = Stage::new("messages_errors");
    for (name, fixtures) in [
        ("s.db", &SAMPLE[..]),
        ("t.db", &EMPTY),
        ("more.db", &SAMPLE),
        ("other.db", &EMPTY),
        ("clock.db", &EMPTY),
    ] {
        sqlite_from(fixtures, &stage.path(name), "wal");
    }
    let sql = |name: &str, sql: &str| fill(stage.path(name).to_str().unwrap(), sql);
    sql("more.db", "ALTER TABLE sessions ADD COLUMN mood TEXT; UPDATE sessions SET mood = 'good'");
    sql("other.db", "INSERT INTO sessions (id) SELECT '938dada7-68a6-4cd9-bdd1-97b3482aa4e4'");
    sql("foreign.db", "CREATE TABLE albums (id); CREATE TABLE artists (id)");
    sql("strange.db", "CREATE TABLE sessions (id, mood); CREATE TABLE events (id, session)");
    sql("clock.db", CLOCK);
    stage.prepare("export clock.db -o clock.zst").success();
    stage.prepare("export s.db -o a.zst").success();
    stage.prepare("export more.db -o more.zst").success();
    let archive = stage.read("a.zst");
    let mut flipped = archive.clone();
    flipped[archive.len() / 2] ^= 1;
    stage.write("flipped.zst", &flipped);
    stage.write("cut.zst", &archive[..archive.len() / 2]);
    stage.write("twice.zst", &[&archive[..], &archive].concat());
    stage.write("tableless.zst", &archive[..frames(&archive).last().unwrap().end]);
    let lines = String::from_utf8(decompress(&archive)).unwrap();
    stage.write("version.ndjson", lines.replacen("\"version\":1", "\"version\":99", 1).as_bytes());
    stage.write("text", b"Dear diary,\n");
    stage.write("rows.ndjson", b"{\"a\":1}\n{\"a\":2}\n");
    stage.write("nothing.zst", b"");
    let file = r#"{"source": {"type": "sqlite", "database_path": "s.db"}, "#;
    for (name, rest) in [
        ("unknown.json", r#""migration": {"batchsize": 1}}"#),
        ("selecting.json", r#""filters": {"user_id": "ada"}}"#),
        ("owned.json", r#""user_info": {"user_id": "ada", "team_id": "core"}}"#),
        (
            "project.json",
            r#""target": {"type": "supabase", "supabase_url": "https://aaaa.supabase.co",
                          "supabase_service_role_key": "eyJhbGciOi"}}"#,
        ),
    ] {
        stage.write(name, format!("{file}{rest}").as_bytes());
    }
    let mut damaged = stage.read("s.db");
    let page = damaged.len() / 2 / 4096 * 4096;
    damaged[page..].fill(0x5a);
    stage.write("damaged.db", &damaged);
    let made = std::process::Command::new("mkfifo").arg(stage.path("pipe")).status();
    assert!(made.unwrap().success(), "mkfifo");
    stage
}

/// The databases on the server.
fn servers(stage: &mut Stage) {
    let narrow = Connection::open(stage.path("narrow.db")).unwrap();
    let ddl = std::fs::read_to_string(fixture("sqlite-hooks.sql")).unwrap();
    narrow
        .execute_batch(
            &ddl.replace("id TEXT PRIMARY KEY", "id TEXT PRIMARY KEY, mood TEXT NOT NULL"),
        )
        .unwrap();
    stage.database(
        "RULED",
        "INSERT INTO chronicle_sessions (claude_session_id, start_time) VALUES ('x', now()); \
         CREATE RULE loud AS ON INSERT TO chronicle_sessions DO INSTEAD NOTHING",
    );
    let rights = format!(
        "GRANT USAGE ON SCHEMA public TO {SUPA}; \
         GRANT SELECT ON chronicle_sessions, chronicle_events TO {SUPA}; \
         ALTER TABLE chronicle_sessions DISABLE ROW LEVEL SECURITY; \
         ALTER TABLE chronicle_events DISABLE ROW LEVEL SECURITY"
    );
    let database = stage.database("DATABASE", &rights);
    let (unprivileged, url) = (database.url_as(SUPA), database.url());
    stage.name_url("UNPRIVILEGED", &unprivileged);
    stage.name_url("SERVER", url.rsplit_once('/').unwrap().0);
    stage.name("ZEROS", &format!("sha256:{}", "0".repeat(64)));
}

#[test]
fn every_error_code_has_its_captured_words() {
    let mut stage = stage();
    servers(&mut stage);
    let (mut open, mut wrong) = (Code::ALL.to_vec(), Vec::new());
    for (code, command) in CASES {
        let output = stage.capture(code.word(), command);
        if output.code != Some(i32::from(code.exit())) {
            wrong.push(format!("{}: {output:?}", code.word()));
        }
        if !RESULTS.contains(code) {
            let last = output.stderr.lines().rfind(|line| !line.starts_with("hint: "));
            let is_error = |line: &str| line.starts_with("error: ") || line.starts_with("note: ");
            let stopped = command.starts_with("check ") || last.is_some_and(is_error);
            assert!(stopped, "{command}: {output:?}");
        }
        open.retain(|other| other != code);
    }
    // a stop needs a hand
    for (heading, command) in
        [("cancelled", "import --to new.db --create"), ("cancelled", "export s.db -o pipe")]
    {
        let output = stage.interrupted(command).fails_with(i32::from(Code::Cancelled.exit()));
        stage.note(heading, command, &output);
    }
    open.retain(|code| *code != Code::Cancelled);
    open.retain(|code| UNPROVOKED.iter().all(|(other, _)| other != code));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(open, [], "commands that end with these codes are missing");
    for (code, why) in UNPROVOKED {
        stage.captured.push_str(&format!("[{}]\n({why})\n\n", code.word()));
    }
    same_as_file("errors.txt", &stage.captured);
}
