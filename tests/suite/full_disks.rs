//! Disks that are full, wherever something is written: the right code, the place, and no promise that is not true.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::cluster::Cluster;
use crate::support::everything::everything_in_file;
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::generate::hooks_database;
use crate::support::program::Program;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronicle-dump");

/// The exit code, stdout and stderr of a program whose files may have at most this many blocks of 512 bytes; the signal
/// of a larger one is ignored, so that writing fails.
pub(crate) fn with_small_files(blocks: u32, folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &limit, "sh", PROGRAM]).args(args).current_dir(folder);
    command.env("TMPDIR", folder.join("tmp")).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn folder_with_temporary(name: &str) -> tempfile::TempDir {
    let folder = workdir(name);
    fs::create_dir(folder.path().join("tmp")).unwrap();
    folder
}

#[test]
fn an_undone_import_leaves_the_file_alone_as_it_was() {
    let folder = folder_with_temporary("full-target");
    let path = |name: &str| folder.path().join(name);
    // more than SQLite keeps in memory before it writes into the file
    hooks_database(&path("big.db"), 40, 40_000, 7).unwrap();
    let export = Program::new(["export", "-o"]).arg(path("big.zst")).arg(path("big.db")).run();
    export.success();
    fs::remove_file(path("big.db")).unwrap();
    for mode in ["delete", "truncate", "persist", "wal"] {
        let target: PathBuf = path("target.db");
        let _ = fs::remove_file(&target);
        sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &target, mode);
        let before = everything_in_file(&target);
        let import = ["import", "big.zst", "--to", "target.db", "--orphans", "keep"];
        let (code, said) = with_small_files(40_000, folder.path(), &import);
        assert_eq!(code, Some(8), "{mode}: {said}");
        assert!(
            everything_in_file(&target) == before,
            "{mode}: the file alone is as it was: {said}"
        );
        let journal = fs::read(path("target.db-journal")).unwrap_or_default();
        assert!(journal.iter().take(8).all(|byte| *byte == 0), "{mode}: nothing is left to undo");
        assert!(!said.contains("keep both"), "{mode}: {said}");
        assert!(said.matches("nothing was changed").count() <= 1, "{mode}: {said}");
    }
}

#[test]
fn no_room_for_the_copy_of_a_source_is_told_with_its_size() {
    let folder = folder_with_temporary("full-temporary");
    hooks_database(&folder.path().join("big.db"), 40, 4_000, 7).unwrap();
    let mebibytes = folder.path().join("big.db").metadata().unwrap().len().div_ceil(1 << 20);
    for args in
        [&["export", "big.db"][..], &["check", "--from", "big.db"], &["diff", "big.db", "big.db"]]
    {
        let mut command = Command::new("sh");
        let limit = "trap '' XFSZ; ulimit -f 4000; exec \"$@\"";
        command.args(["-c", limit, "sh", PROGRAM]).args(args).current_dir(folder.path());
        command.env("TMPDIR", folder.path().join("tmp")).stdout(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(13), "{args:?}: {said}");
        for words in ["no room", "tmp", "TMPDIR=FOLDER"] {
            assert!(said.contains(words), "{args:?}: {said}");
        }
        let size = [format!("{mebibytes} MiB"), format!("{} KiB", mebibytes << 10)];
        assert!(size.iter().any(|size| said.contains(size)) || said.contains(" KiB"), "{said}");
        let left: Vec<_> = fs::read_dir(folder.path().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{args:?}: {left:?}");
    }
}

/// Runs the program with a full device as its stdout.
fn into_full(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(full);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn nothing_into_a_full_stdout_exits_with_0() {
    let folder = workdir("full-stdout");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &folder.path().join("s.db"), "delete");
    Program::new(["export", "s.db", "-o", "a.zst"]).current_dir(folder.path()).run().success();
    for args in [
        &["--help"][..],
        &["--version"],
        &["export", "--help"],
        &["schema"],
        &["schema", "hooks"],
        &["man"],
        &["man", "--json"],
        &["man", "--install", "manual"],
        &["completions", "bash"],
        &["completions", "zsh", "--json"],
        &["export", "s.db"],
        &["export", "s.db", "-o", "/dev/stdout"],
        &["export", "s.db", "-o", "b.zst", "--json"],
        &["cat", "a.zst"],
        &["verify", "a.zst"],
        &["inspect", "a.zst"],
        &["inspect", "a.zst", "--json"],
        &["inspect", "a.zst", "--stats"],
        &["check", "a.zst"],
        &["diff", "a.zst", "s.db"],
        &["import", "a.zst", "--to", "new.db", "--create"],
    ] {
        let (code, said) = into_full(folder.path(), args);
        assert_eq!(code, Some(13), "{args:?}: {said}");
        assert!(said.contains("stdout: the disk is full"), "{args:?}: {said}");
        assert!(
            !said.contains("no file was left") && !said.contains("nothing was"),
            "{args:?}: {said}"
        );
    }
    // what was committed is committed, and that is said
    let (_, said) = into_full(folder.path(), &["import", "a.zst", "--to", "two.db", "--create"]);
    assert!(said.contains("the rows are imported, but the result could not be printed"), "{said}");
    assert!(folder.path().join("two.db").exists());
}

#[test]
fn a_full_output_is_told_by_its_option_and_path() {
    let folder = folder_with_temporary("full-output");
    hooks_database(&folder.path().join("big.db"), 40, 6_000, 7).unwrap();
    let small = |args: &[&str]| with_small_files(100, folder.path(), args);
    sqlite_from(&["sqlite-hooks.sql"], &folder.path().join("wal.db"), "wal");
    let (code, said) = small(&["export", "wal.db", "-o", "/dev/full"]);
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("/dev/full: the disk is full") && said.contains("-o"), "{said}");
    assert!(said.contains("the part that was written is not an archive"), "{said}");
    // rows that are left out go to an archive of their own
    let database = Cluster::get().database("full_rejects");
    database.apply_file(fixture("postgres-upstream.sql"));
    let archive = folder.path().join("a.zst");
    let sample = fixture("sample-hooks.db");
    Program::new(["export", "-o"]).arg(&archive).arg(&sample).run().success();
    let url = database.url();
    let import = ["import", "a.zst", "--to", &url, "--assume-tz", "UTC", "--trust-zone"];
    let rejects = ["--on-unrepresentable", "reject", "--rejects", "/dev/full", "--orphans", "skip"];
    let run = Program::new([&import[..], &rejects].concat()).current_dir(folder.path()).run();
    let run = run.fails_with(13).stderr_has("--rejects: /dev/full: the disk is full");
    run.stderr_has("nothing was imported");
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "0");
}

#[test]
fn a_full_server_is_told_with_what_is_left_there() {
    let folder = workdir("full-server");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("big.db"), 40, 2_000, 7).unwrap();
    Program::new(["export", "-o"]).arg(path("big.zst")).arg(path("big.db")).run().success();
    let database = Cluster::get().database("full_server");
    database.apply_file(fixture("postgres-upstream.sql"));
    // a server that has no room behind the thousandth event
    database.psql(
        "CREATE SEQUENCE events_so_far; \
         CREATE FUNCTION has_room() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
           IF nextval('public.events_so_far') > 1000 THEN \
             RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; \
           END IF; RETURN true; END $$; \
         ALTER TABLE chronicle_events ADD CHECK (has_room()); \
         ALTER TABLE chronicle_events SET (autovacuum_enabled = off); \
         ALTER TABLE chronicle_sessions SET (autovacuum_enabled = off)",
    );
    let import = Program::new([
        "import",
        "--trust-zone",
        "--assume-tz=UTC",
        "--on-unrepresentable=adapt",
        "--to",
    ]);
    let run = import.arg(database.url()).arg(path("big.zst")).run().fails_with(8);
    let run = run.stderr_has("No space left on device").stderr_has("nothing was changed");
    let run =
        run.stderr_has("VACUUM \"public\".\"chronicle_sessions\", \"public\".\"chronicle_events\"");
    let (_, behind) = run.stderr.split_once("still takes up about ").expect("how much is left");
    let told: u64 = behind.split(' ').next().unwrap().parse().unwrap();
    let size = "SELECT pg_total_relation_size('chronicle_events') >> 20";
    let left: u64 = database.psql(size).parse().unwrap();
    assert!(told >= left && told <= left + 2, "{told} MiB told, {left} MiB left");
    assert!(left > 0, "a test of nothing");
    // a server process may outlive its client by a moment, and its rows with it
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND pid <> pg_backend_pid()";
    while database.psql(others) != "0" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    database.psql("VACUUM chronicle_events");
    assert_eq!(database.psql(size), "0", "what the hint says gives the room back");
}
