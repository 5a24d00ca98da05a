//! What the program says and where: results, messages, hints, exit codes, and the database it picks by itself.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::archive::{frames, read};
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::generate::hooks_database;
use crate::support::program::{Output, Program, pipe};

const SAMPLE: [&str; 2] = ["sqlite-hooks.sql", "sample-hooks.sql"];
const EMPTY: [&str; 1] = ["sqlite-hooks.sql"];
/// What colours a terminal, rings its bell and renames its window; the first two as one character too.
const CONTROL: &str = "\u{1b}[31m\u{7}\u{1b}]0;title\u{9b}31m\r";

// ---- what the tests work on -------------------------------------------------------------------

/// A folder with the sample as a database and as an archive.
struct Scratch {
    folder: TempDir,
    database: PathBuf,
    archive: PathBuf,
}

impl Scratch {
    fn new(test_name: &str) -> Scratch {
        let folder = workdir(test_name);
        let database = folder.path().join("sample.db");
        let archive = folder.path().join("sample.ndjson.zst");
        sqlite_from(&SAMPLE, &database, "delete");
        run(["export", path(&database), "-o", path(&archive)]).success();
        Scratch { folder, database, archive }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.archive).unwrap()
    }

    /// The archive with one bit of its data turned.
    fn flipped(&self) -> PathBuf {
        let mut bytes = self.bytes();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.file("flipped.ndjson.zst", &bytes)
    }

    /// The archive without its last bytes.
    fn cut(&self) -> PathBuf {
        let bytes = self.bytes();
        self.file("cut.ndjson.zst", &bytes[..bytes.len() / 2])
    }

    /// The archive without its seek table.
    fn without_table(&self) -> PathBuf {
        let bytes = self.bytes();
        let end = frames(&bytes).last().unwrap().end;
        self.file("tableless.ndjson.zst", &bytes[..end])
    }

    /// A database made by SQL on top of the hooks' tables.
    fn hooks_and(&self, name: &str, sql: &str) -> PathBuf {
        let path = self.path(name);
        sqlite_from(&EMPTY, &path, "delete");
        let database = Connection::open(&path).unwrap();
        database.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}")).unwrap();
        path
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn run<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Output {
    Program::new(args).run()
}

#[track_caller]
fn json(text: &str) -> Json {
    assert_eq!(text.lines().count(), 1, "one object on one line: {text}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

// ---- stdout and stderr ------------------------------------------------------------------------

#[test]
fn inspect_says_that_a_seek_table_is_damaged() {
    let folder = workdir("inspect_seek_table");
    let database = folder.path().join("a.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &database, "delete");
    let archive = folder.path().join("a.zst");
    Program::new(["export"]).arg(&database).arg("-o").arg(&archive).run().success();
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() - 10]).unwrap();
    for more in [&[][..], &["--json"], &["--stats"]] {
        let run = Program::new(["inspect"]).arg(&archive);
        more.iter()
            .fold(run, |run, word| run.arg(word))
            .run()
            .fails_with(6)
            .stderr_has("seek table");
    }
}

#[test]
fn nothing_but_the_archive_is_on_stdout() {
    let scratch = Scratch::new("stdout");
    for more in [&[][..], &["--json"], &["-q"], &["-o", "-"], &["--row-digests"]] {
        let output = Program::new(["export", path(&scratch.database)]);
        let output = more.iter().fold(output, |program, word| program.arg(*word)).run().success();
        let found = read(output.stdout.as_slice()).unwrap();
        assert_eq!(found.rows.iter().map(Vec::len).sum::<usize>(), 128, "{more:?}");
    }
    let output =
        run(["export", path(&scratch.database), "-o", path(&scratch.path("b.zst"))]).success();
    output.stdout_has("exported 8 sessions, 120 events to ").stderr_lacks("exported 8");
}

#[test]
fn quiet_says_nothing() {
    let scratch = Scratch::new("quiet");
    let (database, archive) = (path(&scratch.database), path(&scratch.archive));
    let target = scratch.path("new.db");
    for args in [
        &["export", database][..],
        &["import", archive, "--to", path(&target), "--create"],
        &["verify", archive],
        &["inspect", archive],
    ] {
        let output = Program::new(args.iter().copied()).arg("--quiet").run().success();
        assert_eq!(output.stderr, "", "{args:?}");
    }
    // errors are printed nevertheless
    let output = run(["export", path(&scratch.path("gone.db")), "-q"]).fails_with(7);
    output.stderr_has("gone.db: no such file");
}

/// Runs the program with a terminal as stdin and stdout; gives its exit code and what the terminal showed.
pub(crate) fn in_a_terminal(args: &[&str]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_chronicle-dump");
    let works = |name: &str, args: &[&str]| {
        let run =
            Command::new(name).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let mut command;
    if works("python3", &["-c", "import pty, os; os.waitstatus_to_exitcode"]) {
        const SPAWN: &str =
            "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        command = Command::new("python3");
        command.args(["-c", SPAWN, program]).args(args);
    } else if works("script", &["--version"]) {
        let quote = |word: &&str| format!("'{word}'");
        let words: Vec<String> = std::iter::once(&program).chain(args).map(quote).collect();
        command = Command::new("script");
        command.args(["-qec", &words.join(" "), "/dev/null"]);
    } else {
        panic!("this test needs a terminal: install python3 (3.9 or later) or util-linux's script");
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_terminal_neither_gets_nor_gives_an_archive() {
    let scratch = Scratch::new("terminal");
    let (code, said) = in_a_terminal(&["export", path(&scratch.database)]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("an archive is not written to a terminal") && said.contains("hint: "));
    assert!(!said.contains("(\u{b5}/"), "no archive was written: {said:?}");
    for args in
        [&["import", "--to", path(&scratch.database)][..], &["verify", "-"], &["inspect", "-"]]
    {
        let (code, said) = in_a_terminal(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains("stdin is a terminal") && said.contains("hint: "), "{said}");
    }
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let scratch = Scratch::new("control");
    let raw = |output: &Output, stdout: bool| {
        let stdout = if stdout { output.text() } else { "" };
        let odd = |c: char| c.is_control() && c != '\n';
        assert!(!output.stderr.contains(odd), "{:?}", output.stderr);
        assert!(!stdout.contains(odd), "{stdout:?}");
    };
    let name = |rest: &str| format!("{CONTROL}\nforged{rest}").replace('/', "_");
    let odd = |rest: &str| scratch.path(&name(rest));
    let database = scratch.hooks_and(
        &name(".db"),
        &format!("CREATE TABLE \"{CONTROL}\" (id); INSERT INTO events (id, session_id, event_type, timestamp) \
                  VALUES ('{CONTROL}', '{CONTROL}', 'stop', 't')"),
    );
    let archive = odd(".zst");
    let exported =
        run(["export", path(&database), "-o", path(&archive), "--label", CONTROL]).success();
    raw(&exported.stderr_has("is not exported"), true);
    let foreign = odd("-foreign.db");
    let sql = format!("CREATE TABLE \"sessions{CONTROL}\" (id, \"{CONTROL}\")");
    Connection::open(&foreign).unwrap().execute_batch(&sql).unwrap();
    let bare = scratch.hooks_and(&name("-bare.db"), "");
    let text = odd("-text.db");
    fs::write(&text, "text").unwrap();
    let (archive, new, gone) = (path(&archive), odd("-new.db"), odd("-gone"));
    for (args, code) in [
        (&["inspect", archive][..], 0),
        (&["verify", archive, "--row-digests"], 0),
        (&["import", archive, "--to", path(&new), "--create"], 0),
        (&["import", archive, "--to", path(&new), "--create"], 2),
        (&["import", archive, "--to", path(&bare), "--orphans", "fail"], 12),
        (&["import", archive, "--to", path(&gone)], 7),
        (&["import", path(&gone), "--to", path(&new)], 7),
        (&["import", path(&text), "--to", path(&new)], 3),
        (&["verify", path(&gone), path(&text)], 7),
        (&["inspect", path(&gone)], 7),
        (&["export", path(&gone)], 7),
        (&["export", path(&text)], 7),
        (&["export", path(&foreign)], 9),
        (&["export", path(&database), "-o", path(&gone.join("x"))], 13),
        (&["export", path(&database), "-o", path(scratch.folder.path()), "--label", CONTROL], 2),
    ] {
        let output = Program::new(args.iter().copied()).run();
        raw(&output, true);
        assert!(!output.stderr.lines().any(|line| line.starts_with("forged")), "{output:?}");
        output.fails_with(code);
        // as JSON everything is escaped by JSON
        let output = Program::new(args.iter().copied()).arg("--json").run();
        raw(&output, true);
    }
}

// ---- JSON -------------------------------------------------------------------------------------

#[test]
fn every_result_is_one_json_object_if_wanted() {
    let scratch = Scratch::new("json");
    let (database, archive) = (path(&scratch.database), path(&scratch.archive));
    let exported = json(&run(["export", database, "--json", "--quiet"]).success().stderr);
    assert_eq!(exported["command"], "export");
    assert_eq!(exported["rows"], serde_json::json!({"sessions": 8, "events": 120}));
    assert_eq!(exported["orphans"][0]["rows"], 1);
    let target = scratch.path("new.db");
    let args = ["import", archive, "--to", path(&target), "--create", "--json"];
    let imported = json(run(args).success().text());
    assert_eq!((&imported["command"], &imported["committed"]), (&"import".into(), &true.into()));
    assert_eq!(imported["streams"][1]["inserted_rows"], 120);
    let verified = json(run(["verify", archive, "--json", "--row-digests"]).success().text());
    assert_eq!((&verified["command"], &verified["seek_table"]), (&"verify".into(), &"good".into()));
    assert!(verified["row_digests"]["events"].as_str().unwrap().starts_with("lrd1:"));
    let inspected = json(run(["inspect", archive, "--json"]).success().text());
    assert_eq!((&inspected["command"], &inspected["verified"]), (&"inspect".into(), &false.into()));
    assert_eq!(inspected["streams"][1]["rows"], 120);
    let digest = verified["digest"].as_str().unwrap();
    assert!(digest.starts_with("sha256:") && imported["digest"] == digest);
    assert_eq!(inspected["digest"], digest);
}

#[test]
fn an_error_is_a_json_object_too() {
    let scratch = Scratch::new("json-errors");
    let gone = scratch.path("gone");
    for command in ["export", "verify", "inspect"] {
        let output = run([command, path(&gone), "--json"]).fails_with(7);
        // where the result would be: of export on stderr, before the words for people
        let report =
            if command == "export" { output.stderr.lines().next().unwrap() } else { output.text() };
        let report = json(report);
        assert_eq!(report["command"], command);
        assert_eq!(report["error"]["code"], "location.not_found");
        assert_eq!(report["error"]["exit"], 7);
        assert!(report["error"]["message"].as_str().unwrap().contains(path(&gone)));
    }
    let to = ["import", path(&scratch.archive), "--to", path(&gone), "--json"];
    let report = json(run(to).fails_with(7).text());
    assert_eq!(report["error"]["code"], "location.not_found");
    assert!(report["error"]["hint"].as_str().unwrap().contains("--create"));
}

// ---- exit codes and messages ------------------------------------------------------------------

#[test]
fn every_failure_has_its_exit_code_and_a_hint() {
    let scratch = Scratch::new("codes");
    let (database, archive) = (path(&scratch.database), path(&scratch.archive));
    let (gone, flipped, cut) = (scratch.path("gone"), scratch.flipped(), scratch.cut());
    let (text, tableless) = (scratch.file("text", b"Dear diary,\n"), scratch.without_table());
    let foreign = scratch.path("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE albums (id)").unwrap();
    let sessions = "INSERT INTO sessions (id) SELECT '938dada7-68a6-4cd9-bdd1-97b3482aa4e4'";
    let other = scratch.hooks_and("other.db", sessions);
    let strange = scratch.path("strange.db");
    sqlite_from(&EMPTY, &strange, "delete");
    let zeros = format!("sha256:{}", "0".repeat(64));
    let new = scratch.path("new.db");
    let (gone, new, other) = (path(&gone), path(&new), path(&other));
    for (args, code, hint) in [
        (&["export", "mysql://localhost/x"][..], 2, true),
        (&["verify", archive, "--expect", "md5:1"], 2, true),
        (&["verify", archive, archive, "--expect", &zeros], 2, true),
        (&["verify", path(&text)], 3, false),
        (&["verify", path(&flipped)], 3, false),
        (&["import", path(&flipped), "--to", new, "--create"], 3, false),
        (&["verify", path(&cut)], 4, false),
        (&["import", path(&cut), "--to", new, "--create"], 4, false),
        (&["verify", archive, "--expect", &zeros], 5, true),
        (&["import", archive, "--to", new, "--create", "--expect", &zeros], 5, false),
        (&["verify", path(&tableless)], 6, false),
        (&["export", gone], 7, false),
        (&["import", archive, "--to", gone], 7, true),
        (&["import", archive, "--to", database, "--create"], 2, true),
        (&["export", path(&text)], 7, true),
        (&["export", path(&foreign)], 9, true),
        (&["import", archive, "--to", path(&foreign)], 9, true),
        (&["import", archive, "--to", other], 11, true),
        (&["import", archive, "--to", path(&strange), "--orphans", "fail"], 12, true),
        (&["export", database, "-o", path(&scratch.path("no/such/folder"))], 13, false),
    ] {
        let output = Program::new(args.iter().copied()).run().fails_with(code);
        let begins = |start: &str| output.stderr.lines().any(|line| line.starts_with(start));
        assert!(begins("error: ") || begins("warning: "), "{args:?}: {output:?}");
        assert!(begins("hint: ") || !hint, "{args:?} gives no hint: {}", output.stderr);
        let known = ["error: ", "warning: ", "note: ", "hint: "];
        let is_known = |line: &str| known.iter().any(|start| line.starts_with(start));
        assert!(output.stderr.lines().all(is_known), "{}", output.stderr);
    }
    assert!(!Path::new(new).exists(), "no failed import leaves a file");
    // what clap refuses is a usage error too
    for args in
        [&[][..], &["frobnicate"], &["export", "--level", "99"], &["verify"], &["import", archive]]
    {
        run(args.iter().copied()).fails_with(2);
    }
}

#[test]
fn a_value_that_the_target_cannot_hold_is_exit_code_10() {
    let scratch = Scratch::new("value");
    let database = crate::support::cluster::Cluster::get().database("value refused");
    database.apply_file(crate::support::files::fixture("postgres-upstream.sql"));
    // the sample holds a payload with \u0000, which jsonb refuses
    let args = [
        "import",
        "--strict",
        path(&scratch.archive),
        "--to",
        &database.url(),
        "--assume-tz",
        "UTC",
    ];
    let output = run(args).fails_with(10).stderr_has("error: ");
    output.stderr_has("hint: ");
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_sessions"), "0");
}

// ---- verify and inspect -----------------------------------------------------------------------

#[test]
fn verify_reads_every_archive_and_reports_the_broken_one() {
    let scratch = Scratch::new("three");
    let second = scratch.file("second.ndjson.zst", &scratch.bytes());
    for (broken, code) in [(scratch.flipped(), 3), (scratch.cut(), 4), (scratch.without_table(), 6)]
    {
        let args = ["verify", path(&scratch.archive), path(&broken), path(&second)];
        let output = run(args).fails_with(code);
        let output = output.stderr_has(path(&broken));
        let output =
            output.stdout_has(&format!("{}: OK, 8 sessions, 120 events", path(&scratch.archive)));
        output.stdout_has(&format!("{}: OK", path(&second)));
    }
    // damage counts more than a missing seek table, in either order
    let (table, cut) = (scratch.without_table(), scratch.cut());
    run(["verify", path(&table), path(&cut)]).fails_with(4);
    run(["verify", path(&cut), path(&table)]).fails_with(4);
}

#[test]
fn verify_and_inspect_read_a_pipe() {
    let scratch = Scratch::new("pipe");
    let source = || Program::new(["export", path(&scratch.database)]);
    let (_, output) = pipe(source(), Program::new(["verify", "-"]));
    output.success().stdout_has("OK, 8 sessions, 120 events, sha256:");
    let (_, output) = pipe(source(), Program::new(["inspect", "-"]));
    output.success().stdout_has("120 events").stdout_has("every check passed");
    Program::new(["verify", "-"]).stdin(scratch.bytes()).run().success();
    Program::new(["verify", "-"]).stdin_file(&scratch.archive).run().success();
    Program::new(["verify", "-"]).stdin(fs::read(scratch.cut()).unwrap()).run().fails_with(4);
    Program::new(["inspect", "-"]).stdin(fs::read(scratch.flipped()).unwrap()).run().fails_with(3);
}

#[test]
fn inspect_reads_only_the_ends_and_says_so() {
    let scratch = Scratch::new("ends");
    let (database, archive) = (scratch.path("large.db"), scratch.path("large.ndjson.zst"));
    hooks_database(&database, 50, 6_000, 3).unwrap();
    run(["export", path(&database), "-o", path(&archive)]).success();
    let mut bytes = fs::read(&archive).unwrap();
    assert!(bytes.len() > 2_000_000, "{} bytes", bytes.len());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::File::create(&archive).unwrap().write_all(&bytes).unwrap();
    let output = run(["inspect", path(&archive)]).success().stdout_has("6,000 events");
    output.stdout_has("only head and manifest were read").stdout_has("chronicle-dump verify");
    let told = json(run(["inspect", path(&archive), "--json"]).success().text());
    assert_eq!(told["verified"], false);
    run(["verify", path(&archive)]).fails_with(3).stderr_has(path(&archive));
    Program::new(["inspect", "-"]).stdin_file(&archive).run().fails_with(3);
}

// ---- the database that nobody named -----------------------------------------------------------

#[test]
fn an_archive_never_replaces_a_database() {
    let folder = workdir("replace-database");
    let database = folder.path().join("x.db");
    std::fs::copy(fixture("sample-hooks.db"), &database).unwrap();
    let before = std::fs::read(&database).unwrap();
    let args = ["export".into(), database.clone().into_os_string(), "-o".into()];
    let run = Program::new(args).arg(&database).run();
    run.fails_with(2).stderr_has("it is not replaced");
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

#[test]
fn rows_are_not_doubled_in_a_table_without_a_key() {
    let folder = workdir("no-key");
    let database = folder.path().join("x.db");
    let sql = format!(
        "ATTACH '{}' AS o; CREATE TABLE sessions AS SELECT * FROM o.sessions; \
         CREATE TABLE events AS SELECT * FROM o.events;",
        fixture("sample-hooks.db").display()
    );
    rusqlite::Connection::open(&database).unwrap().execute_batch(&sql).unwrap();
    let archive = folder.path().join("x.ndjson.zst");
    Program::new(["export"]).arg(&database).arg("-o").arg(&archive).run().success();
    let run = Program::new(["import"]).arg(&archive).arg("--to").arg(&database).run();
    run.fails_with(9).stderr_has("is not a unique key");
}

#[test]
fn a_key_may_be_spelled_in_any_case() {
    let folder = workdir("upper-key");
    let database = folder.path().join("x.db");
    let ddl = std::fs::read_to_string(fixture("sqlite-hooks.sql")).unwrap();
    let ddl = ddl.replace("    id TEXT PRIMARY KEY", "    ID TEXT PRIMARY KEY");
    rusqlite::Connection::open(&database).unwrap().execute_batch(&ddl).unwrap();
    let run = Program::new(["export", "--quiet"]).arg(&database).run();
    run.success();
}

// ---- what only a bench may do -----------------------------------------------------------------

#[cfg(not(feature = "bench"))]
#[test]
fn the_shipped_program_skips_no_check() {
    let scratch = Scratch::new("no-check-is-left-out");
    let new = scratch.path("new.db");
    for steps in ["readback", "readback,conflicts,references", "anything"] {
        let import =
            Program::new(["import", path(&scratch.archive), "--to", path(&new), "--create"]);
        let import = import.env("CHRONICLE_DUMP_BENCH_SKIPS", steps).run();
        import
            .fails_with(2)
            .stderr_has("CHRONICLE_DUMP_BENCH_SKIPS is set, but this program leaves no check out")
            .stderr_has("unset CHRONICLE_DUMP_BENCH_SKIPS");
        assert!(!new.exists(), "{steps}: something was imported");
    }
}

#[cfg(not(feature = "bench"))]
#[test]
fn the_shipped_program_takes_every_step() {
    use chronicle_dump::load::bench_skip::{Step, skips};
    const NONE: bool =
        !skips(Step::Readback) && !skips(Step::Conflicts) && !skips(Step::References);
    const { assert!(NONE, "constant: no run of the program can change it") }
}

#[cfg(feature = "bench")]
#[test]
fn a_program_for_a_bench_refuses_steps_that_it_does_not_know() {
    let scratch = Scratch::new("unknown-step");
    let verify = Program::new(["verify", path(&scratch.archive)]);
    let verify = verify.env("CHRONICLE_DUMP_BENCH_SKIPS", "readback,all").run();
    verify.fails_with(2).stderr_has("names a step that cannot be left out");
}
