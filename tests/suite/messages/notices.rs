//! Every kind of notice, provoked by commands.

use std::process::{Command, Stdio};

use chronicle_dump::notice::{NoticeKind, Weight};

use super::{Stage, same_as_file};
use crate::archive::frames;
use crate::support::cluster::{ADMIN, Cluster, PASSWORD};
use crate::support::files::{fixture, sqlite_from};
use crate::support::migrate::{fill, json_of};
use crate::support::program::{mode, program_for_anybody, wait_until};

use NoticeKind as Kind;

/// Commands and the kinds of the notices that they print, in order.
const CASES: &[(&[Kind], &str)] = &[
    (&[Kind::TemporaryCopy, Kind::ComputedColumn], "export delete.db -o copy.zst -v"),
    (&[Kind::TableNotExported, Kind::Orphans], "export s.db -o a.zst --force"),
    (&[Kind::VisiblePassword, Kind::UnencodedPassword], "export $RAW -o raw.zst"),
    (&[Kind::PasswordChosen], "export $URL --password-file password -o chosen.zst"),
    (&[Kind::Ignored, Kind::ReadAs], "export $URL?pgbouncer=true&sslmode=no-verify -o pooler.zst"),
    (&[Kind::Unwrapped], "export DATABASE_URL=$URL -o unwrapped.zst"),
    (&[Kind::SeekTable], "verify tableless.zst"),
    (&[Kind::SeekTable], "import tableless.zst --to t1.db --create"),
    (&[Kind::Plan], "import a.zst --to t2.db --create --dry-run"),
    (&[Kind::Defaults], "import a.zst --to $DEFAULTS --assume-tz UTC --trust-zone --orphans skip"),
    (&[Kind::Stored], "import more.zst --to t3.db --create"),
    (&[Kind::Folded], "import more.zst --to t4.db --create --on-missing-column fold"),
    (&[Kind::Lost], "import more.zst --to t5.db --create --on-missing-column drop"),
    (&[Kind::ColumnsAdded], "import more.zst --to t6.db --create --on-missing-column add"),
    (
        &[Kind::Preserved, Kind::Recomputed, Kind::Remapped, Kind::Triggers, Kind::ShiftedTimes],
        "import odd.zst --to $URL --assume-tz America/Los_Angeles --orphans skip --on-missing-column fail -v",
    ),
    (
        &[Kind::Adapted, Kind::Mapped],
        "import odd.zst --to $SECOND --assume-tz UTC --trust-zone --orphans adopt \
      --on-unrepresentable adapt --map-event-types upstream",
    ),
    (
        &[Kind::RowsLeftOut],
        "import odd.zst --to $THIRD --assume-tz UTC --trust-zone --orphans skip \
      --on-unrepresentable reject --rejects rejects.zst",
    ),
    (&[Kind::Filled], "import bare.zst --to $FOURTH --assume-tz UTC"),
    (
        &[Kind::Respelled],
        "import spelled.zst --to $SPELLED --assume-tz UTC --trust-zone --orphans skip",
    ),
    (
        &[Kind::More],
        "import many.zst --to $FIFTH --assume-tz UTC --trust-zone --orphans skip \
      --on-unrepresentable reject --rejects many-rejects.zst",
    ),
    (&[Kind::RowSecurity, Kind::NotChecked, Kind::Room], "check odd.zst --to $URL -v"),
    (&[Kind::TargetLacks], "copy --from $URL --to $LACKS"),
    (&[Kind::Unencrypted], "history $AWAY&sslmode=disable"),
    (&[Kind::Unverified], "history $AWAY"),
    (
        &[Kind::Compression, Kind::OpenTables, Kind::Batch],
        "import bare.zst --to $OPEN --create --assume-tz UTC -v",
    ),
    (&[Kind::Remapped, Kind::Renumbered], "import numbered.zst --to bare.db"),
    (&[Kind::Saved], "import a.zst --to s.db --backup saved.zst"),
    (&[Kind::NotMirrored], "import bare.zst --to $MIRROR --assume-tz UTC"),
    (
        &[Kind::NotRecorded],
        "import a.zst --to $WRITER --assume-tz UTC --trust-zone --orphans skip --no-undo \
      --on-unrepresentable adapt --on-missing-column drop",
    ),
    (&[Kind::Standing], "rollback last --from t6.db --dry-run"),
    (&[Kind::OtherZone], "import travel.zst --to $TRAVEL --assume-tz America/Los_Angeles"),
    (&[Kind::Nonportable], "check odd.zst"),
    (&[Kind::LeftAlone], "export bare.db -o kept-{date}-{time}.zst --keep-daily 1"),
    (&[Kind::Amended], "import a.zst --to t10.db --create --map-path /=/mnt --set git_branch=main"),
    (&[Kind::UnreadableTimes], "cat late.zst --since 2025-01-01"),
    (
        &[Kind::AssumedZone, Kind::OrphansLeftOut],
        "export odd.db -o part.zst --project * --since 2025-01-01T00:00:00Z",
    ),
    (&[Kind::PartOfDatabase], "import part.zst --to t9.db --create"),
    (&[Kind::StreamLeftOut], "export $TEAM -o team.zst --project *"),
    (&[Kind::PartOnly], "cat a.zst --stream sessions"),
    (&[Kind::OneSidedColumns], "diff a.zst more.db --summary"),
    (&[Kind::OneSidedStream], "diff a.zst uv.zst --summary"),
    (&[Kind::LocalTimes], "diff odd.zst $URL --summary"),
    (&[Kind::HiddenOriginals], "export $READER -o reader.zst"),
    (&[Kind::OneConnection], "import bare.zst --to $JOBS --assume-tz UTC --jobs 2"),
    (
        &[Kind::OneTransaction],
        "import travel.zst --to odd.db --on-conflict skip --resumable --commit-every 1",
    ),
];

/// The files that the commands name.
fn files(stage: &Stage) {
    let sample = &["sqlite-hooks.sql", "sample-hooks.sql"][..];
    let make = |name: &str, fixtures: &[&str], mode: &str, sql: &str| {
        sqlite_from(fixtures, &stage.path(name), mode);
        fill(stage.path(name).to_str().unwrap(), sql);
    };
    make("s.db", sample, "wal", "CREATE TABLE notes (id)");
    let computed = "ALTER TABLE sessions ADD COLUMN twice TEXT AS (id || id)";
    make("delete.db", sample, "delete", computed);
    let mood = "ALTER TABLE sessions ADD COLUMN mood TEXT; UPDATE sessions SET mood = 'good';";
    make("more.db", sample, "wal", mood);
    make("odd.db", &["sqlite-hooks.sql"], "wal", ODD);
    let spelled = format!("{ODD} UPDATE events SET tool_name = '1 day', data = '{{}}'");
    make("spelled.db", &["sqlite-hooks.sql"], "wal", &spelled);
    make(
        "late.db",
        &["sqlite-hooks.sql"],
        "wal",
        "INSERT INTO events (id, session_id, event_type, timestamp) VALUES ('e', 's', 'stop', 'soon')",
    );
    let many: String = (0..12)
        .map(|n| format!("INSERT INTO events (id, session_id, event_type, timestamp) VALUES ('0000000a-0000-4000-8000-0000000000{n}', 's-1', 'type {n}', '2025-08-19T10:00:01Z');", n = n + 20))
        .collect();
    make("many.db", &["sqlite-hooks.sql"], "wal", &format!("{ODD}{many}"));
    make("travel.db", &["sqlite-hooks.sql"], "wal", TRAVEL);
    let ddl = stage.prepare("schema uv-manager").success().text().to_owned();
    make("uv.db", &[], "wal", &ddl);
    let ddl = stage.prepare("schema tutorial-sqlite").success().text().to_owned();
    make("bare.db", &[], "wal", &format!("{ddl}{BARE}"));
    make("numbered.db", &[], "wal", &format!("{ddl}{BARE}"));
    // only an archive that names its database says whose its numbers are
    stage.prepare("export numbered.db -o numbered.zst").success();
    for name in ["s", "more", "odd", "spelled", "bare", "late", "many", "uv", "travel"] {
        let archive = if name == "s" { "a" } else { name };
        let command = format!("export {name}.db -o {archive}.zst --reproducible");
        // derived ids depend on the place of a database, which an archive then does not name
        stage.prepare(&command).success();
    }
    let archive = stage.read("a.zst");
    stage.write("tableless.zst", &archive[..frames(&archive).last().unwrap().end]);
    stage.write("kept-2025-08-19-02-30-00.zst", b"no archive");
    stage.write("password", PASSWORD.as_bytes());
    let password = std::fs::metadata(stage.path("password")).unwrap();
    let mut mode = password.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    std::fs::set_permissions(stage.path("password"), mode).unwrap();
}

/// Rows of a hooks file with values that Postgres cannot store, and an id that is no UUID.
const ODD: &str = "
INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) VALUES
    ('s-1', 'cs-1', '2025-08-19T10:00:00', '/p', '2025-08-19 17:00:00', '2025-08-19 17:00:00');
INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at) VALUES
    ('0000000a-0000-4000-8000-000000000011', 's-1', 'stop', '2025-08-19T10:00:01', '{\"a\": \"\\u0000\"}', 'Read', 7, '2025-08-20 00:00:01'),
    ('0000000a-0000-4000-8000-000000000012', 's-1', 'prompt', '2025-08-19T10:00:02', '{}', CAST(x'ff41' AS TEXT), 7, '2025-08-20 00:00:02'),
    ('0000000a-0000-4000-8000-000000000013', 'nowhere', 'stop', '2025-08-19T10:00:03', '{}', 'Read', 7, '2025-08-20 00:00:03');";

/// Events of a machine that went from Los Angeles to Berlin.
const TRAVEL: &str = "
INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) VALUES
    ('0000000a-0000-4000-8000-000000000001', 'cs-1', '2025-08-19T05:00:00', '/p', '2025-08-19 12:00:00', '2025-08-19 12:00:00');
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9)
INSERT INTO events (id, session_id, event_type, timestamp, data, created_at)
SELECT '0000000a-0000-4000-8000-00000000001' || i, '0000000a-0000-4000-8000-000000000001', 'stop',
       CASE WHEN i < 6 THEN '2025-08-19T05:00:0' ELSE '2025-08-19T14:00:0' END || i, '{}', '2025-08-19 12:00:0' || i
  FROM n;";

/// A session without what the server requires.
const BARE: &str = "
INSERT INTO chronicle_sessions (id, project_path, start_time) VALUES (1, '/p', '2025-08-19T10:00:00Z');";

/// The databases that the commands name.
fn servers(stage: &mut Stage) {
    for name in ["SECOND", "THIRD", "FOURTH", "FIFTH", "TRAVEL", "JOBS", "LACKS"] {
        stage.database(name, "SELECT 1");
    }
    stage.database(
        "SPELLED",
        "DROP VIEW IF EXISTS chronicle_active_sessions, chronicle_recent_events; \
         ALTER TABLE chronicle_events ALTER tool_name TYPE interval USING NULL",
    );
    stage.database(
        "DEFAULTS",
        "ALTER TABLE chronicle_events ADD COLUMN mood text NOT NULL DEFAULT 'x'",
    );
    stage.database(
        "MIRROR",
        "CREATE TABLE migration_history (batch_id text, status text CHECK (status = 'never'))",
    );
    stage.empty_database("OPEN");
    let away = stage.database("HERE", "SELECT 1").url();
    let away = away.replace("@127.0.0.1:", "@pg.example:") + "?hostaddr=127.0.0.1";
    stage.name_url("AWAY", &away);
    // as a result names it
    stage.name_url("AWAY", away.split('?').next().unwrap());
    stage.database(
        "HEARD",
        "CREATE PUBLICATION dashboards FOR TABLE chronicle_events, chronicle_sessions",
    );
    let team = stage.empty_database("TEAM");
    team.apply_file(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/ddl/postgres-team.sql"));
    let bare = stage.database(
        "WRITABLE",
        "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname, tgrelid::regclass AS r FROM pg_trigger \
         WHERE NOT tgisinternal LOOP EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.r); END LOOP; END $$",
    );
    bare.psql_as(
        ADMIN,
        &format!(
            "CREATE ROLE messages_writer LOGIN BYPASSRLS PASSWORD '{PASSWORD}'; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
             GRANT ALL ON chronicle_sessions, chronicle_events TO messages_writer"
        ),
    );
    let writer = bare.url_as("messages_writer");
    stage.name_url("WRITER", &writer);
    let first = stage.database("URL", "SELECT 1");
    // roles belong to the whole server
    first.apply_file_as(ADMIN, fixture("postgres-supabase-extras.sql"));
    let role = |name: &str, password: &str| {
        first.psql_as(
            ADMIN,
            &format!(
                "CREATE ROLE {name} LOGIN BYPASSRLS PASSWORD '{password}'; \
                 GRANT SELECT ON chronicle_sessions, chronicle_events TO {name}"
            ),
        );
    };
    role("messages_reader", PASSWORD);
    role("messages_raw", "a@b/c");
    let (url, reader) = (first.url(), first.url_as("messages_reader"));
    stage.name_url("READER", &reader);
    let place = url.rsplit_once('@').unwrap().1;
    stage.name("RAW", &format!("postgresql://messages_raw:a@b/c@{place}"));
    stage.name("RAW", &format!("postgresql://messages_raw@{place}"));
}

/// Removes the roles, which belong to the whole server.
fn forget_roles(stage: &Stage) {
    let first = stage.databases.last().unwrap();
    for name in ["messages_reader", "messages_raw"] {
        first.psql_as(ADMIN, &format!("DROP OWNED BY {name}; DROP ROLE {name}"));
    }
    for database in &stage.databases {
        database.psql_as(ADMIN, "DROP OWNED BY messages_writer");
    }
    first.psql_as(ADMIN, "DROP ROLE messages_writer");
}

fn start(kind: Kind) -> &'static str {
    match kind.weight() {
        Weight::Warning => "warning: ",
        Weight::Note | Weight::Detail => "note: ",
    }
}

/// An export into a folder whose files its user may not list.
fn unlisted(stage: &mut Stage) {
    let program = program_for_anybody(&stage.path(""));
    let (file, folder) = (stage.path("plain.db"), stage.path("closed"));
    sqlite_from(&["sqlite-hooks.sql"], &file, "delete");
    mode(&file, 0o644);
    std::fs::create_dir(&folder).unwrap();
    mode(&folder, 0o333);
    let command = "export plain.db -o closed/k-{date}-{time}.zst --keep-daily 1";
    let output = stage.program(command).by_anybody(program).run();
    mode(&folder, 0o755);
    stage.note("NotRemoved", command, &output);
    output.success().stderr_has(start(Kind::NotRemoved)).stderr_has(Kind::NotRemoved.words());
}

/// An import into tables whose rows go to somebody who listens.
fn heard(stage: &mut Stage) {
    let heard = stage.databases.iter().find(|d| d.name().ends_with("heard")).unwrap();
    let listen = |args: &[&str]| {
        let mut listener = Command::new(Cluster::get().program("pg_recvlogical"));
        listener.args(["--slot=dashboard", "--dbname", &heard.admin_url()]).args(args);
        listener.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pg_recvlogical")
    };
    assert!(listen(&["--create-slot", "--plugin=pgoutput"]).wait().unwrap().success());
    let mut listener = listen(&[
        "--start",
        "--file=-",
        "--option=proto_version=1",
        "--option=publication_names=dashboards",
    ]);
    let active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'dashboard'";
    wait_until("somebody listens", || heard.psql(active) == "t");
    let command = "import bare.zst --to $HEARD --assume-tz UTC";
    let output = stage.program(command).run();
    listener.kill().unwrap();
    listener.wait().unwrap();
    wait_until("nobody listens any more", || heard.psql(active) == "f");
    heard.psql_as(ADMIN, "SELECT pg_drop_replication_slot('dashboard')");
    stage.note("Listeners", command, &output);
    output.success().stderr_has(start(Kind::Listeners)).stderr_has(Kind::Listeners.words());
}

/// An export after nights of which one was spoilt.
fn damaged(stage: &mut Stage) {
    let bytes = stage.read("named.zst");
    let rows = frames(&bytes)[1].clone();
    let mut spoilt = bytes.clone();
    spoilt[rows.start + (rows.end - rows.start) / 2] ^= 1;
    stage.write("night-2025-08-19-02-30-00.zst", &bytes);
    stage.write("night-2025-08-20-02-30-00.zst", &spoilt);
    let command = "export bare.db -o night-{date}-{time}.zst --keep-daily 1";
    let output = stage.capture("DamagedArchive", command);
    output.success().stderr_has(Kind::DamagedArchive.words());
}

/// An import that goes on after others have changed its rows.
fn edited(stage: &mut Stage) {
    let file = stage.path("half.db");
    sqlite_from(&["sqlite-hooks.sql"], &file, "wal");
    let fault = ("CHRONICLE_DUMP_FAULT", "groups: between two=abort@1");
    let begun = "import travel.zst --to half.db --resumable --commit-every 1";
    stage.program(begun).env(fault.0, fault.1).run();
    fill(file.to_str().unwrap(), "UPDATE sessions SET git_branch = 'main'");
    let command = "import travel.zst --to half.db --resume --commit-every 1";
    let output = stage.program(command).run();
    stage.note("EditedMeanwhile", command, &output);
    let again = "import a.zst --to begun.db --create --resume";
    stage.capture("Begun", again).success().stderr_has(Kind::Begun.words());
    output
        .success()
        .stderr_has(start(Kind::EditedMeanwhile))
        .stderr_has(Kind::EditedMeanwhile.words());
}

#[test]
fn every_kind_of_notice_has_its_captured_words() {
    let mut stage = Stage::new("messages_notices");
    files(&stage);
    servers(&mut stage);
    stage.prepare("export bare.db -o named.zst").success();
    let named = json_of(&stage.prepare("inspect --json named.zst").success());
    stage.name("INSTANCE", named["source"]["instance"].as_str().unwrap());
    let (mut open, mut wrong) = (Kind::ALL.to_vec(), Vec::new());
    for (kinds, command) in CASES {
        let heading: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
        let output = stage.capture(&heading.join(", "), command);
        for kind in *kinds {
            let is_it = |l: &str| l.starts_with(start(*kind)) && l.contains(kind.words());
            if !output.stderr.lines().any(is_it) {
                wrong.push(format!("{kind:?}: {command} {}", output.stderr));
            }
        }
        open.retain(|kind| !kinds.contains(kind));
    }
    // nobody named this one
    let place = stage.path(".chronicle/chronicle.db");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(stage.path("odd.db"), place).unwrap();
    let home = stage.path("").display().to_string();
    stage.set("HOME", &home);
    stage.capture("Found", "export -o found.zst").stderr_has("note: using ");
    stage.unset();
    unlisted(&mut stage);
    damaged(&mut stage);
    edited(&mut stage);
    heard(&mut stage);
    let output = stage.unread("import a.zst --to t8.db --create");
    stage.note("Unreported", "import a.zst --to t8.db --create | true", &output);
    output.success().stderr_has(Kind::Unreported.words());
    let others = [
        Kind::Found,
        Kind::NotRemoved,
        Kind::DamagedArchive,
        Kind::Unreported,
        Kind::EditedMeanwhile,
        Kind::Listeners,
        Kind::Begun,
    ];
    open.retain(|kind| !others.contains(kind));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(open, [], "commands that print these kinds are missing");
    forget_roles(&stage);
    same_as_file("notices.txt", &stage.captured);
}

#[test]
fn details_are_printed_only_with_v() {
    let stage = Stage::new("messages_details");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &stage.path("s.db"), "delete");
    let words = Kind::TemporaryCopy.words();
    stage.prepare("export s.db -o a.zst").success().stderr_lacks(words);
    stage.prepare("export s.db -o b.zst -v").success().stderr_has(words);
    stage.prepare("export s.db -o c.zst --json").success().stdout_has(words);
}
