//! Where archives go and where databases come from: files, links, pipes, devices, and the signals that end it early.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::support::cluster::Cluster;
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::generate::hooks_database;
use crate::support::program::{Output, Program, Running};

const SAMPLE: [&str; 2] = ["sqlite-hooks.sql", "sample-hooks.sql"];
const PROGRAM: &str = env!("CARGO_BIN_EXE_chronicle-dump");
/// A program that waits for a pipe waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with the sample as `s.db` and its archive as `a.zst`.
fn scratch(name: &str) -> tempfile::TempDir {
    let folder = workdir(name);
    sqlite_from(&SAMPLE, &folder.path().join("s.db"), "delete");
    run(folder.path(), &["export", "s.db", "-o", "a.zst"]).success();
    folder
}

#[track_caller]
fn run(folder: &Path, args: &[&str]) -> Output {
    Program::new(args.iter().copied()).current_dir(folder).patience(PATIENCE).run()
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_archive(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

// ---- the output ---------------------------------------------------------------------------------

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let folder = scratch("force");
    let out = folder.path().join("out.zst");
    for content in [&b"somebody's work"[..], b""] {
        fs::write(&out, content).unwrap();
        let refused = run(folder.path(), &["export", "s.db", "-o", "out.zst"]).fails_with(2);
        refused.stderr_has("out.zst exists already").stderr_has("--force");
        assert_eq!(fs::read(&out).unwrap(), content);
    }
    run(folder.path(), &["export", "s.db", "-o", "out.zst", "--force"]).success();
    assert!(is_archive(&out));
    assert_eq!(names(folder.path()), ["a.zst", "out.zst", "s.db"]);
    // a database is more than a file
    run(folder.path(), &["export", "s.db", "-o", "s.db", "--force"]).fails_with(2);
    run(folder.path(), &["verify", "out.zst"]).success();
}

#[test]
fn an_archive_goes_behind_all_links() {
    let folder = scratch("links");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("deep")).unwrap();
    symlink("deep/one", path("two")).unwrap();
    symlink("../real.zst", path("deep/one")).unwrap();
    run(folder.path(), &["export", "s.db", "-o", "two"]).success();
    assert!(
        is_archive(&path("real.zst")) && path("real.zst").symlink_metadata().unwrap().is_file()
    );
    run(folder.path(), &["export", "s.db", "-o", "two"]).fails_with(2);
    fs::write(path("real.zst"), "old").unwrap();
    run(folder.path(), &["export", "s.db", "-o", "two", "--force"]).success();
    for link in ["two", "deep/one"] {
        assert!(path(link).is_symlink() && is_archive(&path(link)), "{link}");
    }
    assert_eq!(names(&path("deep")), ["one"], "nothing is left beside a link");
    symlink("circle", path("circle")).unwrap();
    run(folder.path(), &["export", "s.db", "-o", "circle"]).fails_with(13);
    // a new database goes behind a link, too
    symlink("new.db", path("link.db")).unwrap();
    run(folder.path(), &["import", "a.zst", "--to", "link.db", "--create"]).success();
    assert!(path("link.db").is_symlink() && path("new.db").is_file());
}

#[test]
fn a_name_of_our_own_stdout_is_written_through() {
    let folder = scratch("stdout-names");
    let path = |name: &str| folder.path().join(name);
    symlink("/proc/self/fd/1", path("link")).unwrap();
    symlink("link", path("link-to-link")).unwrap();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "link-to-link"] {
        // a file as stdout, which holds something already
        fs::write(path("got"), "before\n").unwrap();
        let stdout = File::options().append(true).open(path("got")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["export", "s.db", "--json", "-q", "-o", name]).current_dir(folder.path());
        let output = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{name}: {said}");
        let got = fs::read(path("got")).unwrap();
        let archive = got.strip_prefix(b"before\n").expect("what was there stays");
        fs::write(path("archive"), archive).unwrap();
        run(folder.path(), &["verify", "archive"]).success();
        let told: Json = serde_json::from_str(&said).unwrap();
        assert_eq!(told["command"], "export", "stdout carries an archive, so JSON is on stderr");
        // a pipe as stdout
        let piped = run(folder.path(), &["export", "s.db", "-o", name]).success();
        assert!(piped.stdout.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "{name}");
    }
    assert!(path("link").is_symlink() && path("link-to-link").is_symlink());
}

#[test]
fn what_is_no_plain_file_is_written_through() {
    let folder = scratch("through");
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut bytes = Vec::new();
            File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    });
    let said = run(folder.path(), &["export", "s.db", "-o", "pipe", "--json"]).success();
    assert_eq!(serde_json::from_str::<Json>(said.text()).unwrap()["command"], "export");
    fs::write(folder.path().join("got.zst"), reader.join().unwrap()).unwrap();
    run(folder.path(), &["verify", "got.zst"]).success();
    assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo(), "the pipe is still one");
    run(folder.path(), &["export", "s.db", "-o", "/dev/null"]).success();
    assert!(Path::new("/dev/null").metadata().unwrap().file_type().is_char_device());
    run(folder.path(), &["export", "s.db", "-o", "."]).fails_with(2);
}

#[test]
fn names_in_braces_are_filled_in_for_every_source() {
    let folder = scratch("braces");
    let before = chrono::Utc::now().format("%Y-%m-%d").to_string();
    run(folder.path(), &["export", "s.db", "-o", "{source}_{date}.zst"]).success();
    let after = chrono::Utc::now().format("%Y-%m-%d").to_string();
    let named = |day: &str| folder.path().join(format!("s_{day}.zst"));
    assert!(named(&before).exists() || named(&after).exists(), "{:?}", names(folder.path()));
    let database = Cluster::get().database("braces");
    database.apply_file(fixture("postgres-upstream.sql"));
    let url = database.url();
    run(folder.path(), &["export", &url, "-o", "{source}.zst"]).success();
    assert!(folder.path().join(format!("{}.zst", database.name())).exists());
    run(folder.path(), &["export", "s.db", "-o", "at{time}.zst"]).success();
    let time = names(folder.path()).into_iter().find(|name| name.starts_with("at")).unwrap();
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let time = time.strip_prefix("at").unwrap().strip_suffix(".zst").unwrap();
    assert_eq!(time.split('-').filter(|part| digits(part)).count(), 3, "{time}");
    let refused = run(folder.path(), &["export", "s.db", "-o", "{today}.zst"]).fails_with(2);
    refused.stderr_has("{today} is unknown").stderr_has("{date}, {time} (both in UTC) or {source}");
}

// ---- what is no file ----------------------------------------------------------------------------

#[test]
fn a_pipe_or_a_device_is_no_database() {
    let folder = scratch("no-database");
    make_pipe(&folder.path().join("pipe"));
    for (name, what) in [("pipe", "a pipe"), ("/dev/null", "a device"), (".", "a directory")] {
        let sqlite = format!("sqlite:{name}");
        for args in [
            &["export", name][..],
            &["check", "--from", name],
            &["check", "a.zst", "--to", name],
            &["import", "a.zst", "--to", name],
            &["verify", "a.zst", "--against", name],
            &["diff", &sqlite, "a.zst"],
        ] {
            let started = Instant::now();
            let refused = run(folder.path(), args).fails_with(7);
            refused.stderr_has(&format!("this is {what}, not a database file"));
            assert!(started.elapsed() < PATIENCE / 2, "{args:?} has waited");
        }
        let create = ["import", "a.zst", "--to", name, "--create"];
        run(folder.path(), &create).fails_with(2).stderr_has("exists already");
    }
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process has its signals in hand.
fn catches_signals(running: &Running) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    // SIGTERM is 15
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask >> 14 & 1 == 1)
}

#[test]
fn opening_a_pipe_is_ended_by_one_signal() {
    let folder = scratch("waiting");
    make_pipe(&folder.path().join("pipe"));
    for args in [
        &["verify", "pipe"][..],
        &["inspect", "pipe"],
        &["cat", "pipe"],
        &["check", "pipe"],
        &["diff", "pipe", "a.zst"],
        &["import", "pipe", "--to", "new.db", "--create"],
        &["export", "s.db", "-o", "pipe"],
    ] {
        let program = Program::new(args.iter().copied()).current_dir(folder.path());
        let running = program.patience(PATIENCE).spawn();
        wait_until("it listens to signals", || catches_signals(&running));
        std::thread::sleep(Duration::from_millis(100));
        running.signal("TERM");
        running.wait().fails_with(130);
    }
    assert_eq!(names(folder.path()), ["a.zst", "pipe", "s.db"]);
}

// ---- signals ------------------------------------------------------------------------------------

/// The program with all signals as they are by default, whoever runs the tests.
fn with_default_signals(args: &[&str], folder: &Path) -> std::process::Child {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", PROGRAM]).args(args).current_dir(folder);
    command.env("TMPDIR", folder.join("tmp")).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_hangup_ends_it_as_any_signal_and_leaves_nothing() {
    let folder = workdir("hangup");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("big.db"), 40, 20_000, 7).unwrap();
    run(folder.path(), &["export", "big.db", "-o", "big.zst"]).success();
    fs::create_dir(path("tmp")).unwrap();
    let before = names(folder.path());
    for signal in ["HUP", "INT", "TERM"] {
        for args in [
            &["export", "big.db", "-o", "out.zst", "--level", "19", "-q"][..],
            &["import", "big.zst", "--to", "new.db", "--create", "-q"],
        ] {
            let mut child = with_default_signals(args, folder.path());
            // it has begun when there is something to leave behind
            wait_until("it has begun", || names(folder.path()) != before);
            let kill = [format!("-{signal}"), child.id().to_string()];
            assert!(Command::new("kill").args(kill).status().unwrap().success());
            assert_eq!(child.wait().unwrap().code(), Some(130), "{signal} {args:?}");
            assert_eq!(names(folder.path()), before, "{signal} {args:?}");
            assert!(names(&path("tmp")).is_empty(), "{signal} {args:?}");
        }
    }
}

#[test]
fn a_hangup_that_nohup_ignores_ends_nothing() {
    let folder = scratch("nohup");
    make_pipe(&folder.path().join("pipe"));
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", PROGRAM, "verify", "pipe", "-q"]);
    let mut child = command.current_dir(folder.path()).spawn().unwrap();
    let mut sender = File::options().write(true).open(folder.path().join("pipe")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let hangup = ["-HUP".to_owned(), child.id().to_string()];
    assert!(Command::new("kill").args(hangup).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    std::io::copy(&mut File::open(folder.path().join("a.zst")).unwrap(), &mut sender).unwrap();
    drop(sender);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

// ---- the copy of a source -----------------------------------------------------------------------

#[test]
fn a_file_in_wal_mode_needs_no_copy() {
    let folder = workdir("no-copy");
    let path = |name: &str| folder.path().join(name);
    sqlite_from(&SAMPLE, &path("wal.db"), "wal");
    sqlite_from(&SAMPLE, &path("delete.db"), "delete");
    let export = |name: &str| {
        let gone: PathBuf = path("gone");
        Program::new(["export"]).arg(path(name)).env("TMPDIR", gone).run()
    };
    export("wal.db").success();
    let refused = export("delete.db").fails_with(13);
    refused.stderr_has(path("gone").to_str().unwrap()).stderr_has("TMPDIR=FOLDER");
    assert_eq!(path("delete.db").metadata().unwrap().permissions().mode() & 0o7000, 0);
}

// ---- names that are empty, names that are found ----------------------------------------------------

#[test]
fn an_empty_name_is_refused_wherever_one_is_typed() {
    let folder = scratch("empty-names");
    for args in [
        &["export", ""][..],
        &["export", " "],
        &["export", "s.db", "-o", ""],
        &["import", "", "--to", "s.db"],
        &["import", "a.zst", "--to", ""],
        &["check", ""],
        &["check", "--from", ""],
        &["check", "a.zst", "--to", ""],
        &["verify", ""],
        &["verify", "a.zst", "--against", ""],
        &["inspect", ""],
        &["cat", ""],
        &["diff", "", "a.zst"],
        &["diff", "a.zst", ""],
    ] {
        let refused = run(folder.path(), args).fails_with(2);
        // an option's value is missed before it is read
        let said = ["a variable in quotes may not be set", "a value is required"];
        assert!(said.iter().any(|words| refused.stderr.contains(words)), "{args:?}: {refused:?}");
    }
}

// ---- quiet and JSON -----------------------------------------------------------------------------

/// Commands with their exit codes, of which some have much to say.
const ALL: [(&[&str], i32); 10] = [
    (&["export", "s.db", "-o", "out{time}.zst"], 0),
    (&["import", "a.zst", "--to", "n.db", "--create"], 0),
    (&["import", "a.zst", "--to", "s.db", "--dry-run"], 0),
    (&["check", "a.zst"], 0),
    (&["check", "s.db", "--to", "n.db"], 0),
    (&["verify", "a.zst", "--row-digests"], 0),
    (&["verify", "a.zst", "--against", "other.db"], 15),
    (&["inspect", "a.zst"], 0),
    (&["diff", "a.zst", "s.db"], 0),
    (&["diff", "a.zst", "other.db"], 15),
];

/// The same folder with a database that is another one.
fn with_another(name: &str) -> tempfile::TempDir {
    let folder = scratch(name);
    sqlite_from(&["sqlite-hooks.sql"], &folder.path().join("other.db"), "delete");
    folder
}

#[test]
fn quiet_prints_nothing_but_errors() {
    let folder = with_another("quiet");
    for (args, code) in ALL {
        let output = run(folder.path(), &[args, &["-q"]].concat()).fails_with(code);
        assert_eq!((output.text(), output.stderr.as_str()), ("", ""), "{args:?}");
    }
    for args in [&["verify", "gone"][..], &["export", "gone"], &["import", "gone", "--to", "s.db"]]
    {
        let output = run(folder.path(), &[args, &["-q"]].concat()).fails_with(7);
        assert_eq!((output.text(), output.stderr.lines().count()), ("", 1), "{args:?}");
    }
}

#[test]
fn json_is_on_stdout_unless_that_carries_an_archive() {
    let folder = with_another("json-places");
    for (args, code) in ALL {
        let args = [args, &["--json", "-q"]].concat();
        let args: Vec<&str> = args.iter().map(|a| if *a == "n.db" { "m.db" } else { *a }).collect();
        let output = run(folder.path(), &args).fails_with(code);
        let told: Json =
            serde_json::from_str(output.text()).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        assert_eq!((&told["command"], output.stderr.as_str()), (&args[0].into(), ""), "{args:?}");
    }
    for args in [&["export", "s.db"][..], &["export", "s.db", "-o", "-"], &["cat", "a.zst"]] {
        let output = run(folder.path(), &[args, &["--json", "-q"]].concat()).success();
        let told: Json = serde_json::from_str(&output.stderr).unwrap();
        assert_eq!(told["command"], args[0]);
    }
}

#[test]
fn every_error_is_json_where_its_result_would_be() {
    let folder = scratch("json-errors");
    for (args, code, word, on_stdout) in [
        (&["verify", "gone"][..], 7, "location.not_found", true),
        (&["export", "gone", "-o", "x"], 7, "location.not_found", true),
        (&["export", "gone"], 7, "location.not_found", false),
        (&["cat", "gone"], 7, "location.not_found", false),
        (&["import", "a.zst"], 2, "usage", true),
        (&["verify", "--frobnicate"], 2, "usage", true),
        (&["export", "s.db", "--level", "99"], 2, "usage", false),
        (&["export", "s.db", "-o", "x", "--level", "99"], 2, "usage", true),
        (&["frobnicate"], 2, "usage", true),
        (&["export", "s.db", "-o", "a.zst"], 2, "usage", true),
    ] {
        let output = run(folder.path(), &[args, &["--json"]].concat()).fails_with(code);
        let line = if on_stdout { output.text() } else { output.stderr.as_str() };
        let line = line.lines().next().unwrap_or_default();
        let told: Json =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{args:?}: {e}: {line}"));
        let error = &told["error"];
        assert_eq!((&error["code"], &error["exit"]), (&word.into(), &code.into()), "{args:?}");
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 5), "{args:?}: {told}");
        assert!(!output.stderr.is_empty(), "and in words: {args:?}");
        assert!(on_stdout || output.text().is_empty(), "{args:?}");
    }
}
