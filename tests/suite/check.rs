//! `check`: what it finds is what an import meets, and it changes nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::support::cluster::{ADMIN, Cluster, SUPA};
use super::support::files::{fixture, sqlite_from, workdir};
use super::support::generate::hostile_hooks_database;
use super::support::migrate::Scratch;
use super::support::program::{Output, Program, pipe};

fn run(args: &[&str]) -> Output {
    Program::new(args.iter().copied()).run()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A hooks file with these rows.
fn file(folder: &Path, name: &str, sql: &str) -> PathBuf {
    let path = folder.join(name);
    sqlite_from(&["sqlite-hooks.sql"], &path, "delete");
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch("PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on;")
        .unwrap();
    database.execute_batch(sql).unwrap();
    path
}

fn archive(database: &Path) -> PathBuf {
    let archive = database.with_extension("ndjson.zst");
    run(&["export", text(database), "-o", text(&archive)]).success();
    archive
}

/// The result of a check as JSON, with its exit code.
fn check(args: &[&str]) -> (Value, i32) {
    let output = run(&[&["check", "--strict", "--trust-zone", "--json", "--quiet"], args].concat());
    let result = serde_json::from_str(output.text()).expect("one JSON object");
    (result, output.code.expect("an exit code"))
}

const GOOD: &str = "
INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at)
VALUES ('0000000a-0000-4000-8000-000000000001', 'cs-1', '2025-08-19T10:00:00Z', '/p', '2025-08-19 10:00:00', '2025-08-19 10:00:00');
INSERT INTO events (id, session_id, event_type, timestamp, data, created_at)
VALUES ('0000000a-0000-4000-8000-000000000011', '0000000a-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:01Z', '{\"a\": 1}', '2025-08-19 10:00:00');";

#[test]
fn an_archive_a_database_and_a_pipe_are_checked_alike() {
    let folder = workdir("check_forms");
    let source = file(folder.path(), "source.db", GOOD);
    let archive = archive(&source);
    let target = Cluster::get().database("check_forms");
    target.apply_file(fixture("postgres-upstream.sql"));
    let to = target.url();
    for args in [&["--from", text(&source), "--to", &to][..], &[text(&archive), "--to", &to]] {
        let (said, code) = check(args);
        assert_eq!((code, &said["clean"]), (0, &json!(true)), "{said}");
        assert_eq!(said["rows"], json!({"sessions": 1, "events": 1}));
        assert!(said["compressed_bytes"].as_u64().unwrap() > 0, "{said}");
    }
    let (exported, checked) =
        pipe(Program::new(["export", text(&source)]), Program::new(["check", "-", "--to", &to]));
    exported.success();
    checked.success().stdout_has("would succeed: 1 session, 1 event");
    run(&["check", text(&source)]).success().stdout_has("OK: 1 session, 1 event");
    run(&["import", "--strict", "--trust-zone", text(&archive), "--to", &to]).success();
}

/// What an import said of the first thing that stopped it is among the problems of a check.
fn assert_predicted(imported: &Output, problems: &Value, code: &str) {
    let found = problems.as_array().unwrap().iter().any(|problem| {
        let says = |value: &Value| imported.stderr.contains(value.as_str().unwrap());
        let first = problem["samples"].as_array().unwrap();
        let named = first.is_empty() || first.iter().any(says);
        // of conflicts and orphans the import says more, in the words of the server
        let value = code == "value.refused";
        problem["code"] == code && (!value || (named && says(&problem["reason"])))
    });
    assert!(found, "{}\n{problems:#}", imported.stderr);
}

/// The options that settle what was found.
fn settling(problems: &Value, rejects: &Path) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    for problem in problems.as_array().unwrap() {
        // a row that goes with the one that it refers to is settled with it
        let Some(settle) = problem["remedy"].as_str() else { continue };
        let wanted = match settle {
            s if s.starts_with("--assume-tz") => "--assume-tz=UTC".to_owned(),
            s if s.starts_with("--on-unrepresentable") || s.starts_with("--rejects") => {
                "--on-unrepresentable=reject".to_owned()
            }
            s if s.starts_with("--on-missing-column") => "--on-missing-column=preserve".to_owned(),
            s if s.starts_with("--map-event-types") => "--map-event-types=upstream".to_owned(),
            s if s.starts_with("--orphans") => "--orphans=skip".to_owned(),
            s => s.to_owned(),
        };
        if !options.contains(&wanted) {
            options.push(wanted);
        }
    }
    if options.iter().any(|o| o.ends_with("=reject")) {
        options.push(format!("--rejects={}", text(rejects)));
    }
    options
}

/// Checks, imports, and settles what was found until nothing is left.
fn is_predicted(archive: &Path, to: &str, start: &[&str]) {
    let rejects = archive.with_extension("rejects");
    let mut options: Vec<String> = start.iter().map(|o| (*o).to_owned()).collect();
    for _ in 0..5 {
        // an import replaces no file
        drop(std::fs::remove_file(&rejects));
        let all: Vec<&str> = options.iter().map(String::as_str).collect();
        let planned: Vec<&str> =
            all.iter().copied().filter(|o| !o.starts_with("--rejects")).collect();
        let (said, code) = check(&[&[text(archive), "--to", to], &planned[..]].concat());
        let imported =
            run(&[&["import", "--strict", "--trust-zone", text(archive), "--to", to], &all[..]]
                .concat());
        if matches!(code, 0 | 14) {
            assert_eq!(imported.code, Some(code), "{}", imported.stderr);
            return;
        }
        let problems = &said["problems"];
        assert_eq!(imported.code, Some(code), "{}\n{problems:#}", imported.stderr);
        assert_predicted(&imported, problems, problems[0]["code"].as_str().unwrap());
        if problems.as_array().unwrap().iter().any(|p| p["code"] == "row.conflict") {
            // of two rows that cannot both be there no option chooses one
            return;
        }
        let more = settling(problems, &rejects);
        assert!(more.iter().any(|o| !options.contains(o)), "nothing new settles {problems:#}");
        let flag = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
        options.retain(|o| more.iter().all(|m| flag(m) != flag(o)));
        options.extend(more);
    }
    panic!("it is never settled");
}

#[test]
fn a_check_predicts_every_refusal_and_what_settles_it() {
    let folder = workdir("check_predicts");
    for seed in 11..14 {
        let path = folder.path().join(format!("hostile-{seed}.db"));
        hostile_hooks_database(&path, 200, seed).unwrap();
        let archive = archive(&path);
        let target = Cluster::get().database(&format!("check_predicts_{seed}"));
        target.apply_file(fixture("postgres-upstream.sql"));
        // whether a text is too long for an index only the index knows
        target.psql("DROP INDEX idx_chronicle_events_tool_name");
        is_predicted(&archive, &target.url(), &["--on-missing-column=fold"]);
        let target = file(folder.path(), &format!("target-{seed}.db"), "");
        is_predicted(&archive, text(&target), &["--orphans=fail"]);
    }
}

#[test]
fn all_problems_are_counted_with_their_first_keys() {
    let folder = workdir("check_counts");
    let bad = format!(
        "{GOOD} INSERT INTO events (id, session_id, event_type, timestamp, data) \
         SELECT printf('bad-%02d', value), 'nowhere', 'unheard_of', '2025-08-19T10:00:00Z', '{{}}' \
         FROM generate_series(1, 7);"
    );
    let bad = bad.replace("FROM generate_series(1, 7)", "FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 7) SELECT value FROM n)");
    let archive = archive(&file(folder.path(), "source.db", &bad));
    let target = Cluster::get().database("check_counts");
    target.apply_file(fixture("postgres-upstream.sql"));
    let (said, code) = check(&[text(&archive), "--to", &target.url()]);
    assert_eq!(code, 10);
    let problem = &said["problems"][0];
    assert_eq!([&problem["stream"], &problem["column"]], ["events", "event_type"], "{said}");
    assert_eq!([&problem["rows"], &json!(problem["samples"].as_array().unwrap().len())], [7, 5]);
    assert_eq!(problem["samples"][0], "bad-01");
    let url = target.url();
    run(&[
        "check",
        "--strict",
        "--trust-zone",
        text(&archive),
        "--to",
        &url,
        "--on-unrepresentable=adapt",
    ])
    .fails_with(12)
    .stdout_has("fix: --orphans ");
}

#[test]
fn a_session_that_differs_is_found_under_any_id() {
    let folder = workdir("check_doubled");
    let archive = archive(&file(folder.path(), "source.db", GOOD));
    let there = GOOD
        .replace("-000000000001'", "-000000000002'")
        .replace("-000000000011'", "-000000000012'");
    let sqlite = file(folder.path(), "target.db", &there);
    let postgres = Cluster::get().database("check_doubled");
    postgres.apply_file(fixture("postgres-upstream.sql"));
    let url = postgres.url();
    run(&["import", "--strict", "--trust-zone", text(&self::archive(&sqlite)), "--to", &url])
        .success();
    let other = GOOD.replace("'/p'", "'/q'");
    assert_ne!(other, GOOD);
    let other = self::archive(&file(folder.path(), "other.db", &other));
    for to in [text(&sqlite), &url] {
        let (said, code) = check(&[text(&other), "--to", to]);
        assert_eq!(code, 11, "{said}");
        let reason = said["problems"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("\"project_path\""), "{said}");
        run(&["import", "--strict", "--trust-zone", text(&other), "--to", to]).fails_with(11);
        // the same session, but for its id, is the one that is there
        let (said, code) = check(&[text(&archive), "--to", to]);
        assert_eq!(code, 0, "{said}");
        run(&["import", "--strict", "--trust-zone", text(&archive), "--to", to])
            .success()
            .stdout_has("1 found under another key");
    }
}

#[test]
fn a_check_writes_nothing_into_a_sqlite_file_or_its_folder() {
    let folder = workdir("check_still");
    let archive = archive(&file(folder.path(), "source.db", GOOD));
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    for mode in ["delete", "wal"] {
        let target = place.join(format!("{mode}.db"));
        sqlite_from(&["sqlite-hooks.sql"], &target, mode);
    }
    let seen = || -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
        let mut seen: Vec<_> = (fs::read_dir(&place).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let changed = path.metadata().unwrap().modified().unwrap();
                (path.clone(), fs::read(&path).unwrap(), changed)
            })
            .collect();
        seen.sort();
        seen
    };
    let before = seen();
    let (delete, wal) = (place.join("delete.db"), place.join("wal.db"));
    run(&["check", "--strict", "--trust-zone", text(&archive), "--to", text(&delete)]).success();
    run(&[
        "check",
        "--strict",
        "--trust-zone",
        text(&archive),
        "--to",
        text(&place.join("new.db")),
        "--create",
    ])
    .success();
    assert!(before == seen());
    run(&["check", "--strict", "--trust-zone", text(&archive), "--to", text(&wal)]).success();
    // reading a WAL creates its index; the rows are as before
    assert_eq!(fs::read(&wal).unwrap(), before[1].1);
}

#[test]
fn others_can_write_into_the_target_during_a_check() {
    let folder = workdir("check_unlocked");
    let archive = fs::read(archive(&file(folder.path(), "source.db", GOOD))).unwrap();
    let sqlite = file(folder.path(), "target.db", "");
    let postgres = Cluster::get().database("check_unlocked");
    postgres.apply_file(fixture("postgres-upstream.sql"));
    let (head, tail) = archive.split_at(archive.len() - 60);
    for to in [text(&sqlite).to_owned(), postgres.url()] {
        let mut running = Program::new(["check", "-", "--to", &to]).stdin_by_hand().spawn();
        let mut stdin = running.take_stdin();
        stdin.write_all(head).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(running.is_running());
        if to.starts_with("postgres") {
            postgres.psql("SET lock_timeout = '1s'; INSERT INTO chronicle_sessions (claude_session_id, start_time, project_path) VALUES ('w', now(), '/w')");
        } else {
            let writer = Connection::open(&sqlite).unwrap();
            writer.execute_batch("INSERT INTO sessions (id, claude_session_id, start_time) VALUES ('w', 'w', 'w')").unwrap();
        }
        stdin.write_all(tail).unwrap();
        drop(stdin);
        running.wait().success();
    }
}

#[test]
fn check_names_missing_rights_triggers_and_policies() {
    let folder = workdir("check_rights");
    let archive = archive(&file(folder.path(), "source.db", GOOD));
    let target = Cluster::get().database("check_rights");
    target.apply_file(fixture("postgres-upstream.sql"));
    target.psql(&format!(
        "GRANT USAGE ON SCHEMA public TO {SUPA}; GRANT SELECT ON chronicle_sessions, chronicle_events TO {SUPA}; \
         ALTER TABLE chronicle_sessions DISABLE ROW LEVEL SECURITY; ALTER TABLE chronicle_events DISABLE ROW LEVEL SECURITY;"
    ));
    let url = target.url_as(SUPA);
    let (said, code) = check(&[text(&archive), "--to", &url]);
    assert_eq!(code, 8, "{said}");
    let reason = said["problems"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("no right to INSERT in chronicle_sessions"), "{said}");
    run(&["import", "--strict", "--trust-zone", text(&archive), "--to", &url]).fails_with(8);
    target.psql_as(ADMIN, "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
        CREATE TRIGGER noisy BEFORE INSERT ON chronicle_events FOR EACH ROW EXECUTE FUNCTION noop(); \
        ALTER TABLE chronicle_events ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON chronicle_events USING (true);");
    let (said, code) = check(&[text(&archive), "--to", &target.url()]);
    assert_eq!(code, 0, "{said}");
    let notices = said["notices"].to_string();
    assert!(notices.contains("noisy") && notices.contains("row level security"), "{said}");
    let sqlite = file(
        folder.path(),
        "t.db",
        "CREATE TRIGGER loud AFTER INSERT ON events BEGIN SELECT 1; END;",
    );
    let (said, _) = check(&[text(&archive), "--to", text(&sqlite)]);
    assert!(said["notices"].to_string().contains("loud"), "{said}");
}

/// The types of columns that a view shows do not change.
const NO_VIEWS: &str = "DROP VIEW IF EXISTS chronicle_active_sessions, chronicle_recent_events";

/// A check and an import of the same archive end alike; gives what the check said.
fn ends_alike(archive: &Path, to: &str, options: &[&str], code: i32) -> Value {
    let (said, checked) = check(&[&[text(archive), "--to", to], options].concat());
    assert_eq!(checked, code, "{options:?}\n{said:#}");
    let imported = run(&[
        &["import", "--strict", "--trust-zone", text(archive), "--to", to],
        options,
    ]
    .concat());
    assert_eq!(imported.code, Some(code), "{options:?}\n{}\n{said:#}", imported.stderr);
    said
}

#[test]
fn what_only_the_server_can_refuse_is_found_by_a_check() {
    let folder = workdir("check_server");
    let two = format!(
        "{GOOD} INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms) \
         VALUES ('0000000a-0000-4000-8000-000000000012', '0000000a-0000-4000-8000-000000000001', \
                 'stop', '2025-08-19T10:00:02Z', '{{}}', 'Read', 7), \
                ('0000000a-0000-4000-8000-000000000013', '0000000a-0000-4000-8000-000000000001', \
                 'stop', '2025-08-19T10:00:03Z', '{{}}', 'read', 7);"
    );
    let archive = archive(&file(folder.path(), "source.db", &two));
    let tool = "ALTER TABLE chronicle_events ALTER tool_name TYPE";
    let duration = "ALTER TABLE chronicle_events ALTER duration_ms TYPE";
    for (n, (change, code)) in [
        ("CREATE UNIQUE INDEX u ON chronicle_events (lower(tool_name))", 11),
        ("CREATE UNIQUE INDEX u ON chronicle_events (duration_ms) WHERE tool_name IS NOT NULL", 11),
        ("CREATE UNIQUE INDEX u ON chronicle_events (lower(tool_name), (duration_ms > 8), id)", 0),
        ("ALTER TABLE chronicle_events ADD EXCLUDE USING btree (duration_ms WITH =)", 10),
        ("CREATE TABLE tools (name text PRIMARY KEY); ALTER TABLE chronicle_events \
          ADD CONSTRAINT tool FOREIGN KEY (tool_name) REFERENCES tools", 12),
        ("CREATE TABLE tools (name text PRIMARY KEY); INSERT INTO tools VALUES ('Read'), ('read'); \
          ALTER TABLE chronicle_events ADD FOREIGN KEY (tool_name) REFERENCES tools", 0),
        (&format!("CREATE TYPE tool AS ENUM ('read', 'Write'); {tool} tool USING NULL"), 10),
        (&format!("CREATE TYPE tool AS ENUM ('read', 'Read'); {tool} tool USING NULL"), 0),
        (&format!("{tool} date USING NULL"), 10),
        (&format!("{tool} timestamp USING NULL"), 10),
        (&format!("{tool} text[] USING NULL"), 10),
        (&format!("{tool} char(6)"), 0),
        (&format!("{tool} char(2)"), 10),
        (&format!("{duration} numeric(2,2)"), 10),
        (&format!("{duration} numeric(6,2)"), 0),
        (&format!("{duration} numeric"), 0),
        (&format!("{duration} numeric; ALTER TABLE chronicle_events ADD CHECK (duration_ms < 7)"), 10),
        ("ALTER TABLE chronicle_events ADD counted bigserial, ADD CHECK (counted > 0)", 0),
        ("ALTER TABLE chronicle_events ADD origin text DEFAULT 'none', \
          ADD CHECK (origin <> 'none' OR tool_name <> 'Read')", 10),
    ]
    .into_iter()
    .enumerate()
    {
        let target = Cluster::get().database(&format!("check_server_{n}"));
        target.apply_file(fixture("postgres-upstream.sql"));
        target.psql(NO_VIEWS);
        target.psql(change);
        let said = ends_alike(&archive, &target.url(), &[], code);
        assert_eq!(said["clean"], json!(code == 0), "{change}\n{said:#}");
        if code == 0 && change.contains("bigserial") {
            // the check took nothing from the sequence: the import was the first
            assert_eq!(target.psql("SELECT max(counted) FROM chronicle_events"), "3");
        }
    }
}

#[test]
fn a_check_over_a_cast_column_rejects_the_rows_it_forbids() {
    let folder = workdir("check_cast_rule");
    let bad = format!("{GOOD} UPDATE events SET duration_ms = -3;");
    let archive = archive(&file(folder.path(), "source.db", &bad));
    let target = Cluster::get().database("check_cast_rule");
    target.apply_file(fixture("postgres-upstream.sql"));
    target.psql(NO_VIEWS);
    target.psql("ALTER TABLE chronicle_events ALTER duration_ms TYPE numeric");
    let to = target.url();
    let said = ends_alike(&archive, &to, &[], 10);
    assert_eq!(said["problems"][0]["rows"], 1, "{said:#}");
    let reject = "--on-unrepresentable=reject";
    let (said, code) = check(&[text(&archive), "--to", &to, reject]);
    assert_eq!(code, 14, "{said:#}");
    let rejects = format!("--rejects={}", text(&folder.path().join("rejects")));
    run(&["import", "--strict", "--trust-zone", text(&archive), "--to", &to, reject, &rejects])
        .fails_with(14);
}

#[test]
fn a_side_table_that_the_target_lacks_ends_a_check_as_an_import() {
    let folder = workdir("check_side");
    let path = folder.path().join("uv.db");
    let made = run(&["schema", "uv-manager"]).success();
    let database = Connection::open(&path).unwrap();
    database.execute_batch(made.text()).unwrap();
    database
        .execute_batch(
            "INSERT INTO sessions (id, claude_session_id, start_time, project_path) VALUES ('s', 'cs', '2025-08-19T10:00:00Z', '/p');
             INSERT INTO tool_events (id, session_id, tool_name) VALUES ('t', 's', 'Read');",
        )
        .unwrap();
    drop(database);
    let archive = archive(&path);
    for (n, how) in ["fail", "fold", "drop"].into_iter().enumerate() {
        let how = format!("--on-missing-column={how}");
        let target = Cluster::get().database(&format!("check_side_{n}"));
        target.apply_file(fixture("postgres-upstream.sql"));
        let hooks = file(folder.path(), &format!("hooks-{n}.db"), "");
        for to in [text(&hooks), &target.url()] {
            ends_alike(&archive, to, &[&how, "--assume-tz=UTC"], if n == 0 { 9 } else { 0 });
        }
    }
}

#[test]
fn what_an_import_does_is_asked_only_of_a_target() {
    let scratch = Scratch::new("check_without_target");
    let source = scratch.sqlite("source.db", &["sqlite-hooks.sql"], "");
    Program::new(["check", &source, "--orphans=skip"])
        .run()
        .fails_with(2)
        .stderr_has("--to TARGET");
    // the only database there is the one whose layout is meant
    Program::new(["check", &source, "--layout", "hooks"]).run().success();
    Program::new(["check", &source, "--layout", "server"]).run().fails_with(9);
}

/// Runs a command line of the shell in which the program is found.
fn shell(folder: &Path, password: &str, line: &str) -> std::process::Output {
    let program = Path::new(env!("CARGO_BIN_EXE_chronicle-dump")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let line = line.replace("PGPASSWORD=... ", "");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).current_dir(folder).env("PATH", path).env("HOME", folder);
    shell.env("PGPASSWORD", password).output().unwrap()
}

#[test]
fn the_hint_of_a_check_is_an_import_that_succeeds() {
    let folder = workdir("check_hint");
    let sample = folder.path().join("it's a sample.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &sample, "wal");
    archive(&sample);
    let bad = format!("{GOOD} UPDATE events SET timestamp = 'soon'");
    archive(&file(folder.path(), "bad.db", &bad));
    archive(&file(folder.path(), "changed.db", &GOOD.replace("'/p'", "'/q'")));
    let good = archive(&file(folder.path(), "good.db", GOOD));
    let fresh = |n: usize| {
        let target = Cluster::get().database(&format!("check_hint_{n}"));
        target.apply_file(fixture("postgres-upstream.sql"));
        target
    };
    let remove_rejects = || {
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_rejects = |path: &PathBuf| text(path).contains("rejects-");
        files.filter(is_rejects).for_each(|path| fs::remove_file(path).unwrap());
    };
    for (n, (args, options)) in [
        // the orphan is found only when the zone is known
        (
            &["it's a sample.ndjson.zst"][..],
            &["--assume-tz America/Los_Angeles", "--orphans adopt"][..],
        ),
        (&["--from", "it's a sample.db"], &["--assume-tz America/Los_Angeles", "--orphans adopt"]),
        (&["changed.ndjson.zst"], &["--on-conflict skip"]),
        (&["bad.ndjson.zst"], &["--rejects 'rejects-{date}-{time}.ndjson.zst'"]),
        (&["bad.ndjson.zst", "--strict"], &["--rejects", "--on-unrepresentable reject"]),
    ]
    .into_iter()
    .enumerate()
    {
        let target = fresh(n);
        let url = target.url();
        if args[0] == "changed.ndjson.zst" {
            run(&["import", text(&good), "--to", &url]).success();
        }
        let command = [&["check", "--to", &url][..], args].concat();
        let checked = Program::new(command).current_dir(folder.path()).run();
        let said = checked.text().to_owned();
        let hint = said.lines().last().unwrap().strip_prefix("hint: ").expect(&said);
        for option in options {
            assert!(hint.contains(option), "{option}: {said}");
        }
        assert!(!hint.contains(crate::support::cluster::PASSWORD), "{hint}");
        remove_rejects();
        let run = shell(folder.path(), crate::support::cluster::PASSWORD, hint);
        let code = run.status.code();
        assert!(matches!(code, Some(0 | 14)), "{hint}: {run:?}");
        assert_ne!(target.psql("SELECT count(*) FROM chronicle_sessions"), "0", "{hint}");
    }
    // what a choice settles, and what no option does: two sessions of one archive with one unique value
    let target = file(folder.path(), "target.db", &GOOD.replace("'cs-1'", "'cs-2'"));
    let check = |name: &str| {
        let checked = Program::new(["check", name, "--to", text(&target)]);
        checked.current_dir(folder.path()).run().fails_with(11)
    };
    check("good.ndjson.zst").stdout_has("--on-conflict skip");
    let twice = "CREATE TABLE copy AS SELECT * FROM sessions; DROP TABLE sessions; \
                 ALTER TABLE copy RENAME TO sessions; \
                 INSERT INTO sessions SELECT replace(id, '-000000000001', '-000000000009'), \
                     'cs-3', start_time, end_time, project_path, git_branch, metadata, created_at, updated_at \
                   FROM sessions; UPDATE sessions SET claude_session_id = 'cs-3';";
    archive(&file(folder.path(), "twice.db", &format!("{GOOD} {twice}")));
    let target = file(folder.path(), "other.db", "");
    let checked = Program::new(["check", "twice.ndjson.zst", "--to", text(&target)]);
    let checked = checked.current_dir(folder.path()).run().fails_with(11);
    checked.stdout_has("hint: no option settles this problem");
}

#[test]
fn rows_that_follow_from_a_cause_are_one_line() {
    let folder = workdir("check_folds");
    let sample = folder.path().join("sample.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &sample, "wal");
    let archive = archive(&sample);
    let target = Cluster::get().database("check_folds");
    target.apply_file(fixture("postgres-upstream.sql"));
    let url = target.url();
    let command = ["check", text(&archive), "--to", &url];
    let checked = run(&command).fails_with(10);
    let said = checked.stdout_has("note: 119 events skipped because their session was");
    assert_eq!(said.text().matches("skipped").count(), 1, "{said:?}");
    assert_eq!(said.text().matches("16754678-1d5b-433a-b59e-9e670b47ae26").count(), 1, "{said:?}");
    let json = run(&[&command[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(json.text()).unwrap();
    let follows =
        json["problems"].as_array().unwrap().iter().filter(|p| p["follows"] == "sessions");
    assert_eq!(follows.count(), 1, "{json:#}");
    // all keys with -v
    let keys = |more: &[&str]| {
        let said = run(&[&command[..], more].concat());
        let line = said.text().lines().find(|l| l.contains("events.timestamp")).unwrap().to_owned();
        line.matches(", ").count()
    };
    assert!(keys(&[]) < 8 && keys(&["-v"]) >= 100, "{} {}", keys(&[]), keys(&["-v"]));
}
