//! `copy`: what an export and an import do through a pipe, in one process, and nothing where either of them fails.

mod config;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Database, OWNER, PASSWORD};
use crate::support::everything::everything_in_file;
use crate::support::files::{assert_same_rows, fixture, postgres_dump, sqlite_dump};
use crate::support::generate::hooks_database;
use crate::support::migrate::{Scratch, ask, event, fill, id, json_of, postgres, session, words};
use crate::support::program::{Output, Program, Running, mode, pipe, wait_until};

const EMPTY: [&str; 1] = ["sqlite-hooks.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";
/// What a copy needs to take every row of a generated database.
const TAKING: [&str; 4] = ["--trust-zone", "--assume-tz=UTC", "--on-unrepresentable=adapt", "-v"];

/// Two sessions and three events.
fn rows() -> String {
    session(1)
        + &session(2)
        + &event(11, 1, "pre_tool_use")
        + &event(12, 1, "stop")
        + &event(13, 2, "stop")
}

/// Runs a copy.
#[track_caller]
fn copy(from: &[&str], to: &str, options: &[&str]) -> Output {
    copying(from, to, options).run()
}

fn copying(from: &[&str], to: &str, options: &[&str]) -> Program {
    let sources = from.iter().flat_map(|source| ["--from", source]);
    Program::new(["copy"].into_iter().chain(sources).chain(["--to", to]).chain(options.to_vec()))
}

/// A database of 6,000 events, which need several chunks.
fn big(scratch: &Scratch) -> String {
    let path = scratch.path("big.db");
    hooks_database(&path, 40, 6_000, 7).unwrap();
    words(&path).to_owned()
}

/// The names in a scratch that do not end like a database.
fn others(scratch: &Scratch) -> Vec<String> {
    let entries = fs::read_dir(scratch.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.contains(".db"));
    names.sort();
    names
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

// ---- the same as an export and an import ------------------------------------------------------

/// A database of either kind, empty or yet to be created.
enum Store {
    File(PathBuf),
    Server(Database),
}

impl Store {
    fn new(scratch: &Scratch, name: &str, is_file: bool) -> Store {
        match is_file {
            true => {
                scratch.sqlite(name, &EMPTY, "");
                Store::File(scratch.path(name))
            }
            false => Store::Server(postgres(UPSTREAM, "copy_store", "SELECT 1")),
        }
    }

    fn url(&self) -> String {
        match self {
            Store::File(path) => words(path).to_owned(),
            Store::Server(database) => database.url(),
        }
    }

    fn dump(&self) -> Vec<String> {
        match self {
            Store::File(path) => sqlite_dump(path),
            Store::Server(database) => postgres_dump(database),
        }
    }
}

#[test]
fn a_copy_leaves_what_a_pipe_leaves() {
    for (from_file, to_file) in [(true, true), (true, false), (false, true), (false, false)] {
        let scratch = Scratch::new("copy_like_a_pipe");
        let source = Store::new(&scratch, "source.db", from_file);
        copy(&[&big(&scratch)], &source.url(), &TAKING).success();
        assert!(source.dump().len() > 6_000);
        let [piped, copied] = ["piped.db", "copied.db"].map(|n| Store::new(&scratch, n, to_file));
        let import = Program::new(["import", "--to", &piped.url()].iter().chain(&TAKING));
        let (export, import) = pipe(Program::new(["export", &source.url()]), import);
        export.success();
        import.success();
        let done = copy(&[&source.url()], &copied.url(), &TAKING).success();
        assert_same_rows(&piped.dump(), &copied.dump());
        done.stdout_has("copied 40 sessions, 6,000 events into ")
            .stdout_has(" 6,000 events, sha256:");
    }
}

#[test]
fn the_result_is_that_of_an_import_with_its_sources() {
    let scratch = Scratch::new("copy_json");
    let source = scratch.sqlite("source.db", &EMPTY, &(rows() + &event(14, 9, "stop")));
    let [one, two] = ["one.db", "two.db"].map(|name| scratch.sqlite(name, &EMPTY, ""));
    let imported =
        Program::new(["import", words(&scratch.export(&source)), "--to", &one, "--json"]);
    let imported = json_of(&imported.run().success());
    let mut copied = json_of(&copy(&[&source], &two, &["--json"]).success());
    let sources = copied.as_object_mut().unwrap().remove("sources").expect("the sources");
    assert_eq!(sources[0]["source"], json!(source));
    assert_eq!(sources[0]["rows"], json!({"sessions": 2, "events": 4}));
    assert_eq!(sources[0]["digest"], copied["digest"]);
    assert_eq!(sources[0]["archive_id"], copied["archive_id"]);
    assert_eq!(sources[0]["orphans"][0]["rows"], json!(1));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&imported), keys(&copied));
    for key in ["committed", "streams", "changes", "orphans", "notices"] {
        assert_eq!(imported[key], copied[key], "{key}");
    }
    assert_eq!(copied["command"], json!("copy"));
    let history = json_of(&Program::new(["history", &two, "--json"]).run().success());
    let batch = &history["batches"][0];
    assert_eq!(batch["source_backend"], json!("sqlite"));
    assert_eq!(batch["archives"][0]["archive_id"], copied["archive_id"]);
    Program::new(["rollback", "last", "--from", &two]).run().success();
    assert!(sqlite_dump(&scratch.path("two.db")).is_empty());
}

#[test]
fn several_sources_are_merged_as_their_archives_are() {
    let scratch = Scratch::new("copy_several");
    let first = scratch.sqlite("first.db", &EMPTY, &rows());
    let edit = format!("UPDATE events SET duration_ms = 9 WHERE id = '{}';", id(12));
    let second = scratch.sqlite("second.db", &EMPTY, &(rows() + &edit + &event(15, 2, "stop")));
    let archives = [&first, &second].map(|file| scratch.export(file));
    let [one, two, three] =
        ["one.db", "two.db", "three.db"].map(|name| scratch.sqlite(name, &EMPTY, ""));
    let both = [words(&archives[0]), words(&archives[1])];
    let skip = ["--on-conflict", "skip"];
    Program::new([&["import", both[0], both[1], "--to", &one], &skip[..]].concat()).run().success();
    let done = copy(&[&first, &second], &two, &skip).success();
    done.stdout_has("from 2 databases").stdout_has(&format!("read {second}: "));
    assert_same_rows(&sqlite_dump(Path::new(&one)), &sqlite_dump(Path::new(&two)));
    let history = json_of(&Program::new(["history", &two, "--json"]).run().success());
    assert_eq!(history["batches"].as_array().map(Vec::len), Some(1));
    // the second one takes the first one back
    copy(&[&first, &second], &three, &[]).fails_with(11).stderr_has("second.db");
    assert!(sqlite_dump(Path::new(&three)).is_empty());
}

#[test]
fn without_a_source_chronicles_own_file_is_copied() {
    let scratch = Scratch::new("copy_own");
    let source = scratch.sqlite("own.db", &EMPTY, &rows());
    let to = scratch.path("new.db");
    let program = copying(&[], words(&to), &["--create"]).env("CLAUDE_HOOKS_DB_PATH", &source);
    program.run().success().stderr_has(&format!("using {source}"));
    assert_same_rows(&sqlite_dump(Path::new(&source)), &sqlite_dump(&to));
}

#[test]
fn options_of_an_export_reach_the_source() {
    let scratch = Scratch::new("copy_options");
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    let to = |name: &str| words(&scratch.path(name)).to_owned();
    copy(&[&source], &to("a.db"), &["--create", "--from-layout", "server"]).fails_with(9);
    copy(&[&source], &to("a.db"), &["--create", "--from-layout", "hooks"]).success();
    // a layout of one kind leaves sources of the other kind alone
    let server = postgres(UPSTREAM, "copy_options", "SELECT 1");
    let both = [source.as_str(), &server.url()];
    copy(&both, &to("b.db"), &["--create", "--from-layout", "hooks"]).success();
    let tee = scratch.path("kept.zst");
    let label = ["--create", "--label", "a name", "--row-digests", "--tee", words(&tee)];
    copy(&[&source], &to("c.db"), &label).success();
    let inspected = json_of(&Program::new(["inspect", words(&tee), "--json"]).run().success());
    assert_eq!(inspected["source"]["label"], json!("a name"));
    let exported = Program::new(["export", &source, "--reproducible", "--json", "-o"])
        .arg(scratch.path("e.zst"))
        .run();
    let digest = json_of(&exported.success())["digest"].as_str().unwrap().to_owned();
    let expect = ["--create", "--reproducible", "--expect", &digest];
    copy(&[&source], &to("d.db"), &expect).success();
    fill(&source, &event(16, 1, "stop"));
    copy(&[&source], &to("e.db"), &expect).fails_with(5);
    assert!(!scratch.path("e.db").exists());
}

#[test]
fn each_end_may_have_a_password_of_its_own() {
    let scratch = Scratch::new("copy_passwords");
    let (from, to) = (
        postgres(UPSTREAM, "copy_password", "SELECT 1"),
        postgres(UPSTREAM, "copy_password", "SELECT 1"),
    );
    let bare = |database: &Database| {
        let url = database.url();
        let (start, place) = url.split_once('@').unwrap();
        format!("{}@{place}", start.rsplit_once(':').unwrap().0)
    };
    let files = ["right", "wrong"].map(|name| scratch.path(name));
    fs::write(&files[0], PASSWORD).unwrap();
    fs::write(&files[1], "wrong").unwrap();
    files.iter().for_each(|file| mode(file, 0o600));
    let [right, wrong] = [words(&files[0]), words(&files[1])];
    let (from, to) = (bare(&from), bare(&to));
    copy(&[&from], &to, &["--password-file", right]).success();
    let source_only = ["--from-password-file", wrong, "--password-file", right];
    copy(&[&from], &to, &source_only).fails_with(7);
    copy(&[&from], &to, &["--from-password-file", right, "--password-file", wrong]).fails_with(7);
}

// ---- the archive that is kept -----------------------------------------------------------------

#[test]
fn the_kept_archive_is_that_of_an_export() {
    let scratch = Scratch::new("copy_tee");
    let source = big(&scratch);
    let [exported, kept] = ["exported.zst", "kept.zst"].map(|name| scratch.path(name));
    let export = Program::new(["export", "--reproducible", &source, "-o", words(&exported)]);
    export.run().success();
    let to = scratch.path("new.db");
    let tee = ["--create", "--reproducible", "--tee", words(&kept)];
    let done = copy(&[&source], words(&to), &tee).success();
    done.stdout_has(&format!("kept in {} (", words(&kept)));
    assert!(fs::read(&exported).unwrap() == fs::read(&kept).unwrap(), "other bytes");
    let mode = fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Program::new(["verify", words(&kept), "--against", words(&to)]).run().success();
    copy(&[&source], words(&to), &tee).fails_with(2);
    copy(&[&source], words(&to), &tee[1..]).fails_with(2).stderr_has("exists already");
    copy(&[&source], words(&to), &[&tee[1..], &["--force"]].concat()).success();
}

#[test]
fn each_source_has_a_kept_archive_of_its_own() {
    let scratch = Scratch::new("copy_tees");
    let first = scratch.sqlite("first.db", &EMPTY, &rows());
    let second = scratch.sqlite("second.db", &EMPTY, &session(5));
    let [folder, to] = ["other", "new.db"].map(|name| scratch.path(name));
    fs::create_dir(&folder).unwrap();
    let alike = words(&folder.join("first.db")).to_owned();
    fs::copy(&first, &alike).unwrap();
    let kept = scratch.path("kept-{source}.zst");
    let options = ["--create", "--tee", words(&kept)];
    let one = ["--create", "--tee", "one.zst"];
    copy(&[&first, &second], words(&to), &one).fails_with(2).stderr_has("{source}");
    copy(&[&first, &alike], words(&to), &options).fails_with(2).stderr_has("two archives");
    assert!(!to.exists() && others(&scratch) == ["other"]);
    let done =
        json_of(&copy(&[&first, &second], words(&to), &[&options[..], &["--json"]].concat()));
    for (n, name) in ["kept-first.zst", "kept-second.zst"].iter().enumerate() {
        let verified = Program::new(["verify", words(&scratch.path(name)), "--json"]).run();
        let source = &done["sources"][n];
        assert_eq!(json_of(&verified.success())["digest"], source["digest"]);
        assert_eq!(source["tee"], json!(words(&scratch.path(name))));
    }
}

#[test]
fn rejects_of_two_archives_need_two_names() {
    let scratch = Scratch::new("copy_rejects");
    let bad = session(1) + &event(11, 1, "odd") + &event(12, 1, "stop");
    let source = scratch.sqlite("source.db", &EMPTY, &bad);
    let server = postgres(UPSTREAM, "copy_rejects", "SELECT 1");
    let rejects = scratch.path("r-{source}.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    copy(&[&source], &server.url(), &options).fails_with(14).stderr_has("left out");
    assert_eq!(others(&scratch), ["r-source.zst"]);
    Program::new(["verify", words(&scratch.path("r-source.zst"))]).run().success();
    let [a, b] = ["a", "b"].map(|name| scratch.path(name));
    for folder in [&a, &b] {
        fs::create_dir(folder).unwrap();
        let archive = folder.join("same.zst");
        Program::new(["export", &source, "-o", words(&archive)]).run().success();
    }
    let (a, b) = (a.join("same.zst"), b.join("same.zst"));
    let import = ["import", words(&a), words(&b), "--to", &server.url(), options[0], options[1]];
    Program::new(import).arg(options[2]).run().fails_with(2).stderr_has("two archives");
}

#[test]
fn the_kept_archive_may_go_through_a_pipe() {
    let scratch = Scratch::new("copy_tee_stdout");
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    let to = scratch.path("new.db");
    let done = copy(&[&source], words(&to), &["--create", "--tee", "-"]).success();
    let done = done.stderr_has("copied 2 sessions, 3 events");
    let verified = Program::new(["verify", "-", "--json"]).stdin(done.stdout.clone()).run();
    assert_eq!(json_of(&verified.success())["rows"], json!({"sessions": 2, "events": 3}));
}

#[test]
fn a_dry_run_of_a_copy_writes_nothing() {
    let scratch = Scratch::new("copy_dry");
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    let to = scratch.sqlite("to.db", &EMPTY, "");
    let before = everything_in_file(Path::new(&to));
    let kept = scratch.path("kept.zst");
    let dry = ["--dry-run", "--tee", words(&kept)];
    let done = copy(&[&source], &to, &dry).success();
    done.stdout_has("would copy 2 sessions, 3 events").stdout_has("nothing was changed (dry run)");
    assert_eq!(everything_in_file(Path::new(&to)), before);
    assert_eq!(others(&scratch), Vec::<String>::new());
}

#[test]
fn the_kept_archive_never_takes_the_place_of_the_target() {
    let scratch = Scratch::new("copy_tee_target");
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    let (to, other) = (scratch.path("new.db"), scratch.path("./new.db"));
    for force in [&[][..], &["--force"]] {
        let options = [&["--create", "--tee", words(&other)], force].concat();
        copy(&[&source], words(&to), &options).fails_with(2).stderr_has("the target of the copy");
        assert!(!to.exists());
    }
}

// ---- failures of either end -------------------------------------------------------------------

#[test]
fn a_source_that_is_damaged_in_the_middle_changes_nothing() {
    for server in [false, true] {
        let scratch = Scratch::new("copy_damaged");
        let source = big(&scratch);
        let mut bytes = fs::read(&source).unwrap();
        let page = bytes.len() / 4 * 3 / 4096 * 4096;
        bytes[page..page + (1 << 20)].fill(0x5a);
        fs::write(&source, bytes).unwrap();
        let store = Store::new(&scratch, "to.db", !server);
        let kept = scratch.path("kept.zst");
        let done =
            copy(&[&source], &store.url(), &[&TAKING[..], &["--tee", words(&kept)]].concat());
        done.fails_with(8).stderr_has("big.db: cannot read events").stderr_has("is damaged");
        assert!(store.dump().is_empty());
        assert_eq!(others(&scratch), Vec::<String>::new());
    }
}

/// A copy from a server whose archive also goes into a pipe, and stops when that is full.
fn held_up(scratch: &Scratch, source: &Database, to: &str) -> (Running, fs::File) {
    let kept = scratch.path("kept");
    fifo(&kept);
    let running = copying(&[&source.url()], to, &["--tee", words(&kept)]).spawn();
    let mut reader = fs::File::open(&kept).unwrap();
    reader.read_exact(&mut [0; 100]).unwrap();
    (running, reader)
}

/// A database on a server with more rows than pipes hold.
fn big_server(scratch: &Scratch) -> Database {
    let server = postgres(UPSTREAM, "copy_big", "SELECT 1");
    copy(&[&big(scratch)], &server.url(), &TAKING).success();
    server
}

#[test]
fn a_source_that_is_cut_off_never_looks_complete() {
    let scratch = Scratch::new("copy_cut");
    let source = big_server(&scratch);
    let to = scratch.sqlite("to.db", &EMPTY, "");
    let before = sqlite_dump(Path::new(&to));
    let (running, mut reader) = held_up(&scratch, &source, &to);
    source.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    let done = running.wait().fails_with(8);
    done.stderr_has("cannot read chronicle_events").stderr_lacks("manifest").stderr_lacks("pipe");
    assert_eq!(sqlite_dump(Path::new(&to)), before);
    // without its beginning nothing is an archive: what is left must have no end either
    let digests = |bytes: &[u8]| memchr::memmem::find(bytes, b"\x5e\x2a\x4d\x18").is_some();
    assert!(!digests(&rest), "a seek table is behind what is not complete");
}

#[test]
fn a_target_that_refuses_is_what_is_told() {
    let scratch = Scratch::new("copy_conflict");
    let source = big(&scratch);
    let to = scratch.sqlite("to.db", &EMPTY, "");
    copy(&[&source], &to, &[]).success();
    fill(&to, "UPDATE events SET tool_name = 'other' WHERE id = (SELECT max(id) FROM events)");
    let before = sqlite_dump(Path::new(&to));
    let kept = scratch.path("kept.zst");
    let done = copy(&[&source], &to, &["--tee", words(&kept)]);
    done.fails_with(11).stderr_has("\"tool_name\"").stderr_lacks("pipe");
    assert_same_rows(&before, &sqlite_dump(Path::new(&to)));
    let gone = scratch.path("gone.db");
    copy(&[&source], words(&gone), &["--tee", words(&kept)]).fails_with(7).stderr_has("gone.db");
    assert_eq!(others(&scratch), Vec::<String>::new());
}

#[test]
fn a_kept_archive_that_cannot_be_written_stops_the_copy() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let scratch = Scratch::new("copy_full");
    let source = big(&scratch);
    let to = scratch.sqlite("to.db", &EMPTY, "");
    let done = copy(&[&source], &to, &["--tee", "/dev/full"]).fails_with(13);
    done.stderr_has("--tee: /dev/full: the disk is full").stderr_has("nothing was imported");
    assert!(sqlite_dump(Path::new(&to)).is_empty());
}

#[test]
fn a_signal_stops_both_ends_of_a_copy() {
    for signal in ["INT", "TERM"] {
        let scratch = Scratch::new("copy_signal");
        let source = big_server(&scratch);
        let to = scratch.sqlite("to.db", &EMPTY, "");
        let before = everything_in_file(Path::new(&to));
        // held up by the pipe that keeps the archive
        let (running, reader) = held_up(&scratch, &source, &to);
        running.signal(signal);
        running.wait().fails_with(130).stderr_has("nothing was changed");
        drop(reader);
        fs::remove_file(scratch.path("kept")).unwrap();
        assert_eq!(everything_in_file(Path::new(&to)), before);
        // held up by a lock in the target
        let kept = scratch.path("kept.zst");
        let target = postgres(UPSTREAM, "copy_locked", "SELECT 1");
        let lock = locked(&target);
        let options = [&TAKING[..], &["--tee", words(&kept)]].concat();
        let running = copying(&[words(&scratch.path("big.db"))], &target.url(), &options).spawn();
        wait_until("the archive has begun", || others(&scratch).len() == 1);
        running.signal(signal);
        running.wait().fails_with(130).stderr_has("nothing was changed");
        drop(lock);
        assert!(postgres_dump(&target).is_empty());
        assert_eq!(others(&scratch), Vec::<String>::new());
    }
}

/// A session that lets nobody read the events; it goes on until it is ended with the value.
struct Locked<'a>(&'a Database, Option<std::thread::JoinHandle<()>>);

fn locked(database: &Database) -> Locked<'_> {
    let url = database.url();
    let beside = database.beside(database.name());
    let hold = std::thread::spawn(move || {
        let beside = std::mem::ManuallyDrop::new(beside);
        let sql = "LOCK TABLE chronicle_events IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)";
        let _ = beside.try_psql_as(OWNER, sql);
    });
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                AND relation = 'chronicle_events'::regclass";
    wait_until(&format!("the events of {url} are locked"), || database.psql(held) != "0");
    Locked(database, Some(hold))
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
        );
        if let Some(hold) = self.1.take() {
            let _ = hold.join();
        }
    }
}

// ---- a database and itself --------------------------------------------------------------------

#[test]
fn a_database_is_not_copied_into_itself() {
    let scratch = Scratch::new("copy_itself");
    let file = scratch.sqlite("a.db", &EMPTY, &rows());
    let [link, hard] = ["link.db", "hard.db"].map(|name| scratch.path(name));
    symlink(&file, &link).unwrap();
    fs::hard_link(&file, &hard).unwrap();
    let same = "are the same database";
    for other in [&file, words(&link), words(&hard), &format!("sqlite:{file}")] {
        copy(&[&file], other, &["--clear"]).fails_with(2).stderr_has(same);
        copy(&[other], &file, &[]).fails_with(2).stderr_has(same);
    }
    let server = postgres(UPSTREAM, "copy_itself", "SELECT 1");
    let spelled = server.url().replace("127.0.0.1", "localhost");
    assert_ne!(spelled, server.url());
    for other in [server.url(), spelled, server.admin_url()] {
        copy(&[&file, &server.url()], &other, &["--clear"]).fails_with(2).stderr_has(same);
    }
    assert_eq!(sqlite_dump(Path::new(&file)).len(), 5);
    assert_eq!(
        ask(&file, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'chronicle_dump%'"),
        "0"
    );
    // another database of the server is another database
    let other = Cluster::get().database("copy_not_itself");
    other.apply_file(fixture(UPSTREAM));
    copy(&[&server.url()], &other.url(), &[]).success();
}
