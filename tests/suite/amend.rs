//! Values that are changed on their way: constants for columns, other paths, filters of jq.

use crate::support::migrate::{Scratch, ask, fill, postgres, records, words};
use crate::support::program::{Output, Program};

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";

/// Two sessions and two events; one value of each kind that plain JSON cannot express.
const ROWS: &str = "
    INSERT INTO sessions (id, claude_session_id, project_path, git_branch, start_time) VALUES
        ('00000000-0000-0000-0000-000000000001', 'one', '/home/ada/app', 'main', '2025-08-18T10:00:00Z'),
        ('00000000-0000-0000-0000-000000000002', 'two', '/home/adam/lib', NULL, '2025-08-18T10:00:00Z');
    INSERT INTO events (id, session_id, event_type, timestamp, tool_name, duration_ms, data) VALUES
        ('00000000-0000-0000-0000-000000000011', '00000000-0000-0000-0000-000000000001', 'stop', '2025-08-18T10:30:00Z', 'Bash', 7,
         '{\"b\":  1.50, \"a\": 12345678901234567890}'),
        ('00000000-0000-0000-0000-000000000012', '00000000-0000-0000-0000-000000000002', 'stop', '2025-08-19T10:30:00Z', NULL, NULL,
         'no json');";

fn import(archive: &str, to: &str, options: &[&str]) -> Output {
    Program::new(["import", archive, "--to", to].iter().chain(options).copied()).run()
}

/// The archive of the rows, and an empty target with more columns.
fn stage(scratch: &Scratch) -> (String, String) {
    let source = scratch.sqlite("source.db", HOOKS, ROWS);
    let archive = scratch.export(&source);
    let columns = "ALTER TABLE sessions ADD COLUMN user_id TEXT; ALTER TABLE events ADD COLUMN user_id TEXT; \
                   ALTER TABLE sessions ADD COLUMN team_id TEXT DEFAULT 'personal'";
    let target = scratch.sqlite("target.db", HOOKS, columns);
    (words(&archive).to_owned(), target)
}

#[test]
fn a_constant_is_for_rows_without_a_value() {
    let scratch = Scratch::new("amend_set");
    let (archive, target) = stage(&scratch);
    let options = [
        "--set=user_id=ada",
        "--set=team_id=core",
        "--set=sessions.git_branch=trunk",
        "--set=events.duration_ms:=9",
    ];
    import(&archive, &target, &options)
        .success()
        .stderr_has("sessions.user_id changed by --set to \"ada\" in 2 rows")
        .stderr_has("sessions.git_branch changed by --set to \"trunk\" in 1 row")
        .stderr_has("events.duration_ms changed by --set to \"9\" in 2 rows");
    let sessions = "SELECT group_concat(git_branch || user_id || team_id) FROM (SELECT * FROM sessions ORDER BY id)";
    assert_eq!(ask(&target, sessions), "mainadacore,trunkadacore");
    let events = "SELECT group_concat(duration_ms || typeof(duration_ms) || user_id) FROM events";
    assert_eq!(ask(&target, events), "9integerada,9integerada");
    // the values are those of the rows now: for whoever imports again, compares or exports
    import(&archive, &target, &options).success().stdout_has("0 sessions (2 existed already)");
    let against = ["verify", &archive, "--against", &target];
    Program::new(against.iter().chain(&options).copied()).run().success();
    assert_eq!(records(&scratch.export(&target), "sessions")[1]["git_branch"], "trunk");
    Program::new(["rollback", "last", "--from", &target]).run().success();
}

#[test]
fn a_constant_is_of_the_column_s_type() {
    let scratch = Scratch::new("amend_typed");
    let source = scratch.sqlite("source.db", HOOKS, ROWS);
    let archive = scratch.export(&source);
    let archive = words(&archive);
    let columns = "ALTER TABLE chronicle_sessions ADD COLUMN rank integer, ADD COLUMN seen timestamptz, \
                   ADD COLUMN owner uuid, ADD COLUMN extra jsonb, ADD COLUMN fine boolean, ADD COLUMN share numeric; \
                   ALTER TABLE chronicle_events DISABLE TRIGGER USER";
    let server = postgres(UPSTREAM, "amend_typed", columns);
    let all = [
        "--set=rank=3",
        "--set=seen=2025-08-19T12:00:00+02:00",
        "--set=owner=A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "--set=extra={\"a\": [1]}",
        "--set=fine=true",
        "--set=share=0.25",
    ];
    for (option, said, example) in [
        ("--set=rank=x", "\"x\" is not a whole number", "250"),
        ("--set=sessions.rank:=1.5", "\"1.5\" is not a whole number", "250"),
        ("--set=seen=today", "\"today\" is not a time with its zone", "2025-08-19T12:00:00Z"),
        ("--set=extra={", "\"{\" is not JSON", "{\"a\": 1}"),
        ("--set=fine=maybe", "\"maybe\" is not true or false", "true"),
        ("--set=owner=kim", "\"kim\" is not a UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ] {
        let option = option.strip_prefix("--set=").unwrap();
        let name = option.split([':', '=']).next().unwrap();
        let assigns = if option.contains(":=") { ":=" } else { "=" };
        let refused = import(archive, &server.url(), &["--set", option]).fails_with(2);
        let refused = refused.stderr_has(&format!("error: --set {name}: {said}"));
        let quotes = if example.contains('{') { "'" } else { "" };
        let typed = format!("such as --set {name}{assigns}{quotes}{example}{quotes}");
        refused.stderr_has(&typed);
        // what is named can be typed
        let given = format!("{name}{assigns}{example}");
        import(archive, &server.url(), &["--set", &given, "--dry-run"]).success();
    }
    for (option, said) in [
        ("--set=colour=red", "--set colour: no table of the target has this column"),
        ("--set=users.rank=1", "--set users.rank: no table of the target has this column"),
        ("--set=session_id=1", "--set session_id: it says which row a row is or belongs to"),
        ("--set=rank", "--set rank: not a value for a column"),
        ("--map-path=/home", "--map-path /home: not two paths"),
    ] {
        import(archive, &server.url(), &[option]).fails_with(2).stderr_has(said);
    }
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions").trim(), "0");
    import(archive, &server.url(), &all).success();
    let row = "SELECT DISTINCT rank, seen AT TIME ZONE 'UTC', owner, extra, fine, share FROM chronicle_sessions";
    assert_eq!(
        server.psql(row).trim(),
        "3|2025-08-19 10:00:00|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\": [1]}|t|0.25"
    );
}

#[test]
fn paths_of_another_machine_begin_otherwise() {
    let scratch = Scratch::new("amend_paths");
    let (archive, target) = stage(&scratch);
    import(&archive, &target, &["--map-path=/home/ada=/Users/ada", "--map-path=/=/mnt"])
        .success()
        .stderr_has("sessions.project_path changed by --map-path in 2 rows");
    let paths = "SELECT group_concat(project_path) FROM (SELECT * FROM sessions ORDER BY id)";
    assert_eq!(ask(&target, paths), "/Users/ada/app,/mnt/home/adam/lib");
}

#[test]
fn a_filter_changes_what_it_names_and_no_byte_more() {
    let scratch = Scratch::new("amend_jq");
    let (archive, target) = stage(&scratch);
    let filters = [
        "--jq",
        "sessions",
        ".git_branch //= \"none\" | .project_path |= ltrimstr(\"/home\")",
        "--jq",
        "events",
        "if .tool_name == \"Bash\" then .tool_name = \"Shell\" | .duration_ms += 0.0 | .created_at = null else . end",
    ];
    import(&archive, &target, &filters)
        .success()
        .stderr_has("2 sessions changed by --jq")
        .stderr_has("1 event changed by --jq");
    let sessions =
        "SELECT group_concat(git_branch || project_path) FROM (SELECT * FROM sessions ORDER BY id)";
    assert_eq!(ask(&target, sessions), "main/ada/app,none/adam/lib");
    let events = "SELECT group_concat(coalesce(tool_name, '-') || data, ';') FROM (SELECT * FROM events ORDER BY id)";
    let expected = "Shell{\"b\":  1.50, \"a\": 12345678901234567890};-no json";
    assert_eq!(ask(&target, events), expected);
    import(
        &archive,
        &target,
        &["--dry-run", "--on-conflict=skip", "--jq", "events", "del(.tool_name)"],
    )
    .stderr_has("1 event changed by --jq");
    // what gives nothing leaves the row out
    fill(&target, "DELETE FROM events");
    import(&archive, &target, &["--on-conflict=skip", "--jq", "events", "select(.tool_name)"])
        .success()
        .stderr_has("0 events changed by --jq, 1 event left out");
    assert_eq!(ask(&target, "SELECT count(*) FROM events"), "1");
}

#[test]
fn a_filter_that_fails_names_its_row() {
    let scratch = Scratch::new("amend_jq_fails");
    let (archive, target) = stage(&scratch);
    for (filter, code, said) in [
        (
            ".tool_name + 1",
            10,
            "--jq events: row 00000000-0000-0000-0000-000000000011: the filter fails",
        ),
        ("., .", 10, "the filter makes several rows of it"),
        ("5", 10, "the filter does not make an object of it"),
        (".colour = 1", 10, "the stream has no column colour"),
        (
            ".duration_ms = \"seven\"",
            10,
            "what the column cannot hold: column duration_ms: found a string",
        ),
        (
            ".duration_ms = [",
            2,
            "--jq events .duration_ms = [: not a filter of jq: expected closing bracket at its end",
        ),
        ("nothing", 2, "the filter nothing is not defined"),
    ] {
        let run = import(&archive, &target, &["--jq", "events", filter]);
        run.fails_with(code).stderr_has(said);
    }
    let none = import(&archive, &target, &["--jq", "none", "."]);
    none.fails_with(2).stderr_has("--jq none: the archive has no such stream");
    let twice = import(&archive, &target, &["--jq", "events", ".", "--jq", "events", "."]);
    twice.fails_with(2).stderr_has("this stream has a filter already");
    assert_eq!(ask(&target, "SELECT count(*) FROM sessions"), "0");
}
