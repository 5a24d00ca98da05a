//! The program in pipes and against the world: whatever ends it early, nothing half done is left.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::OnceLock;
use std::time::Duration;

use rusqlite::Connection;

use super::archive::{decompress, frames};
use super::support::cluster::{Cluster, Database};
use super::support::everything::everything_in_file;
use super::support::files::{
    assert_same_rows, fixture, postgres_dump, sqlite_dump, sqlite_from, workdir,
};
use super::support::generate::{Random, hooks_database};
use super::support::program::{Output, Program, Running, pipe, wait_until};

/// A database of 6,000 events and its archive; half of that is more than one chunk of rows.
fn big() -> &'static (Vec<u8>, Vec<u8>) {
    static BIG: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    BIG.get_or_init(|| {
        let folder = workdir("big");
        let path = folder.path().join("big.db");
        hooks_database(&path, 40, 6_000, 7).unwrap();
        let archive = export(&path).run().success().stdout;
        (fs::read(&path).unwrap(), archive)
    })
}

fn big_file(folder: &Path) -> PathBuf {
    let path = folder.join("big.db");
    fs::write(&path, &big().0).unwrap();
    path
}

fn export(source: impl AsRef<std::ffi::OsStr>) -> Program {
    Program::new(["export"]).arg(source.as_ref())
}

fn import(target: impl AsRef<std::ffi::OsStr>) -> Program {
    Program::new([
        "import",
        "--strict",
        "--trust-zone",
        "--assume-tz",
        "UTC",
        "--on-unrepresentable",
        "adapt",
        "--to",
    ])
    .arg(target.as_ref())
}

fn empty_target(folder: &Path, journal_mode: &str) -> PathBuf {
    let path = folder.join("target.db");
    sqlite_from(&["sqlite-hooks.sql"], &path, journal_mode);
    path
}

fn postgres(name: &str) -> Database {
    let database = Cluster::get().database(name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database
}

/// A session with an event, so that the tables are not empty.
fn add_a_row(database: &Database) {
    database.psql(
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES \
         ('00000000-0000-4000-8000-000000000001', 'there', '2025-01-01Z'); \
         INSERT INTO chronicle_events (session_id, event_type, timestamp) VALUES \
         ('00000000-0000-4000-8000-000000000001', 'notification', '2025-01-01Z')",
    );
}

/// Starts an import and gives it the first half of the big archive.
fn half_fed(import: Program) -> (Running, ChildStdin) {
    let mut running = import.stdin_by_hand().spawn();
    let mut stdin = running.take_stdin();
    stdin.write_all(&big().1[..big().1.len() / 2]).unwrap();
    (running, stdin)
}

fn is_locked(path: &Path) -> bool {
    let database = Connection::open(path).unwrap();
    database.busy_timeout(Duration::ZERO).unwrap();
    database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
}

fn others(database: &Database, of: &str) -> bool {
    database.psql(&format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND {of}"
    )) != "0"
}

fn is_loading(database: &Database) -> bool {
    others(database, "state LIKE 'idle in transaction%' AND query LIKE 'COPY%'")
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn pipe_file_and_redirection_carry_the_same_rows() {
    let folder = workdir("sqlite-to-sqlite");
    let source = big_file(folder.path());
    let (first, second, third) = (
        folder.path().join("pipe.db"),
        folder.path().join("file.db"),
        folder.path().join("redirected.db"),
    );
    let (from, to) = pipe(export(&source), import(&first).arg("--create"));
    from.success();
    to.success();
    let archive = folder.path().join("a.zst");
    export(&source).arg("-o").arg(&archive).run().success();
    import(&second).arg("--create").arg(&archive).run().success();
    import(&third).arg("--create").stdin_file(&archive).run().success();
    for target in [first, second, third] {
        assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&target));
    }
}

#[test]
fn a_pipe_carries_all_rows_between_servers_and_back() {
    let folder = workdir("through-postgres");
    let source = big_file(folder.path());
    let (one, two) = (postgres("pipe_one"), postgres("pipe_two"));
    let back = folder.path().join("back.db");
    for (from, to) in [
        pipe(export(&source), import(one.url())),
        pipe(export(one.url()), import(two.url())),
        pipe(export(two.url()), import(&back).arg("--create")),
    ] {
        from.success();
        to.success();
    }
    assert_same_rows(&postgres_dump(&one), &postgres_dump(&two));
    assert_eq!(sqlite_dump(&source).len(), postgres_dump(&one).len());
    assert_eq!(sqlite_dump(&source).len(), sqlite_dump(&back).len());
}

#[test]
fn a_killed_import_leaves_a_sqlite_file_unchanged() {
    for mode in ["delete", "wal"] {
        let folder = workdir("killed-import");
        let target = folder.path().join("target.db");
        sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &target, mode);
        let before = sqlite_dump(&target);
        let (running, _stdin) = half_fed(import(&target));
        wait_until("it has begun to write", || is_locked(&target));
        running.kill();
        assert_same_rows(&before, &sqlite_dump(&target));
        import(&target).stdin(big().1.clone()).run().success();
        assert!(sqlite_dump(&target).len() > before.len() + 6_000);
    }
}

#[test]
fn a_killed_import_leaves_postgres_unchanged() {
    for rows in [false, true] {
        let target = postgres("killed_import");
        if rows {
            add_a_row(&target);
        }
        let before = postgres_dump(&target);
        let (running, _stdin) = half_fed(import(target.url()));
        wait_until("it has copied a chunk", || is_loading(&target));
        running.kill();
        wait_until("the server has noticed", || !others(&target, "true"));
        assert_same_rows(&before, &postgres_dump(&target));
    }
}

#[test]
fn a_killed_create_leaves_no_file_and_can_be_repeated() {
    let folder = workdir("killed-create");
    let target = folder.path().join("new.db");
    let partial = folder.path().join("new.db.chronicle-dump-partial");
    let (running, _stdin) = half_fed(import(&target).arg("--create"));
    wait_until("it has begun", || partial.exists());
    running.kill();
    assert!(!target.exists());
    import(&target).arg("--create").stdin(big().1.clone()).run().success();
    assert_eq!(names(folder.path()), ["new.db"]);
}

#[test]
fn an_import_refuses_the_pipe_of_a_killed_export() {
    let folder = workdir("killed-export");
    let temporary = workdir("killed-export-temporary");
    let source = big_file(folder.path());
    let existing = empty_target(folder.path(), "delete");
    let before = everything_in_file(&existing);
    let database = postgres("killed_export");
    for to in [
        import(&existing),
        import(folder.path().join("new.db")).arg("--create"),
        import(database.url()),
    ] {
        let mut from = export(&source).env("TMPDIR", temporary.path()).stdout_by_hand().spawn();
        let mut to = to.env("TMPDIR", temporary.path()).stdin_by_hand().spawn();
        let (mut out, mut into) = (from.take_stdout(), to.take_stdin());
        let mut half = vec![0; big().1.len() / 2];
        out.read_exact(&mut half).unwrap();
        into.write_all(&half).unwrap();
        from.kill();
        std::io::copy(&mut out, &mut into).unwrap();
        drop(into);
        to.wait().fails_with(4);
    }
    assert_eq!(everything_in_file(&existing), before);
    assert!(postgres_dump(&database).is_empty());
    assert_eq!(names(folder.path()), ["big.db", "target.db"]);
    assert!(names(temporary.path()).is_empty(), "{:?}", names(temporary.path()));
}

#[test]
fn a_signal_stops_a_waiting_import_and_changes_nothing() {
    for signal in ["INT", "TERM"] {
        let folder = workdir("stopped-import");
        let target = empty_target(folder.path(), "delete");
        let before = everything_in_file(&target);
        let (running, _stdin) = half_fed(import(&target));
        wait_until("it has begun to write", || is_locked(&target));
        running.signal(signal);
        running.wait().fails_with(130).stderr_has("nothing was changed");
        assert_eq!(everything_in_file(&target), before);
        assert_eq!(names(folder.path()), ["target.db"]);

        let database = postgres("stopped_import");
        let (running, _stdin) = half_fed(import(database.url()));
        wait_until("it has copied a chunk", || is_loading(&database));
        running.signal(signal);
        running.wait().fails_with(130);
        assert!(postgres_dump(&database).is_empty());
    }
}

#[test]
fn a_signal_stops_an_export_that_nobody_reads() {
    let folder = workdir("stopped-export");
    let source = big_file(folder.path());
    for signal in ["INT", "TERM"] {
        let mut running =
            export(&source).patience(Duration::from_secs(15)).stdout_by_hand().spawn();
        let mut stdout = running.take_stdout();
        stdout.read_exact(&mut [0; 100]).unwrap();
        running.signal(signal);
        running.wait().fails_with(130);
        drop(stdout);
    }
}

#[test]
fn an_output_file_gets_its_name_only_when_complete() {
    let folder = workdir("stopped-file");
    let source = big_file(folder.path());
    let out = workdir("stopped-file-out");
    let archive = out.path().join("a.zst");
    fs::write(&archive, "the old one").unwrap();
    // a writer that holds the source makes the export wait, its output already open
    let writer = Connection::open(&source).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for signal in ["INT", "TERM", "KILL"] {
        let running = export(&source).arg("--force").arg("-o").arg(&archive).spawn();
        wait_until("its output is open", || names(out.path()).len() == 2);
        if signal == "KILL" {
            running.kill();
        } else {
            running.signal(signal);
            running.wait().fails_with(130);
            assert_eq!(names(out.path()), ["a.zst"]);
        }
        assert_eq!(fs::read(&archive).unwrap(), b"the old one");
    }
    writer.execute_batch("ROLLBACK").unwrap();
    export(&source).arg("--force").arg("-o").arg(&archive).run().success();
    let mode = fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its user may read it");
    Program::new(["verify"]).arg(&archive).run().success();
}

/// Cuts and flips of an archive: what they are called and their bytes.
fn damages() -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let folder = workdir("damages");
    let source = folder.path().join("sample.db");
    fs::copy(fixture("sample-hooks.db"), &source).unwrap();
    let sample = Connection::open(&source).unwrap();
    sample
        .execute_batch("DELETE FROM events WHERE session_id NOT IN (SELECT id FROM sessions)")
        .unwrap();
    drop(sample);
    let archive = export(&source).run().success().stdout;
    let text = decompress(&archive);
    let mut random = Random::new(11);
    let mut all = Vec::new();
    for _ in 0..60 {
        let (at, bit) = (random.below(archive.len() as u64) as usize, random.below(8));
        let mut bytes = archive.clone();
        bytes[at] ^= 1 << bit;
        all.push((format!("byte {at} flipped"), bytes));
    }
    let somewhere = (0..40).map(|_| random.below(archive.len() as u64) as usize);
    let borders = frames(&archive).into_iter().map(|frame| frame.end);
    for cut in borders.chain(somewhere).chain([0]) {
        all.push((format!("cut at {cut}"), archive[..cut].to_vec()));
    }
    for cut in (1..text.len()).filter(|at| text[at - 1] == b'\n') {
        all.push((format!("text cut at {cut}"), text[..cut].to_vec()));
    }
    (archive, all)
}

/// True if it was refused as it should be; false if all rows were there: only the seek table was hit and it said so,
/// or one of the few bits that carry nothing.
#[track_caller]
fn is_refused(what: &str, output: &Output) -> bool {
    let said = &output.stderr;
    match output.code {
        Some(3 | 4) => true,
        Some(0) => {
            let warned = said.contains("seek table") || what.ends_with("flipped");
            assert!(warned, "{what}: no warning\n{said}");
            false
        }
        code => panic!("{what}: exit code {code:?}\n{said}"),
    }
}

#[test]
fn a_cut_or_damaged_archive_changes_no_sqlite_file() {
    let (archive, damages) = damages();
    let threads = 4;
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (archive, damages) = (&archive, &damages);
            scope.spawn(move || {
                let folder = workdir("damaged-into-sqlite");
                let target = empty_target(folder.path(), "delete");
                let (before, all) = (fs::read(&target).unwrap(), everything_in_file(&target));
                import(&target).stdin(archive.clone()).run().success();
                let whole = sqlite_dump(&target);
                fs::write(&target, &before).unwrap();
                for (what, bytes) in damages.iter().skip(first).step_by(threads) {
                    let output = import(&target).stdin(bytes.clone()).run();
                    if is_refused(what, &output) {
                        assert!(everything_in_file(&target) == all, "{what}: changed");
                    } else {
                        assert_same_rows(&whole, &sqlite_dump(&target));
                        fs::write(&target, &before).unwrap();
                    }
                    assert_eq!(names(folder.path()), ["target.db"], "{what}");
                }
            });
        }
    });
}

#[test]
fn a_cut_or_damaged_archive_changes_no_postgres_database() {
    let (archive, damages) = damages();
    let target = postgres("damaged");
    import(target.url()).stdin(archive).run().success();
    let whole = postgres_dump(&target);
    target.psql("DELETE FROM chronicle_events; DELETE FROM chronicle_sessions");
    let chosen = damages[..15].iter().chain(&damages[60..75]).chain(&damages[damages.len() - 15..]);
    for (what, bytes) in chosen {
        let output = import(target.url()).stdin(bytes.clone()).run();
        if is_refused(what, &output) {
            assert!(postgres_dump(&target).is_empty(), "{what}: rows");
        } else {
            assert_same_rows(&whole, &postgres_dump(&target));
            target.psql("DELETE FROM chronicle_events; DELETE FROM chronicle_sessions");
        }
    }
}

#[test]
fn nothing_is_printed_for_a_reader_that_leaves_early() {
    let folder = workdir("head");
    let source = big_file(folder.path());
    let mut running = export(&source).arg("-q").stdout_by_hand().spawn();
    let mut stdout = running.take_stdout();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    assert_eq!(running.wait().fails_with(141).stderr, "");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let source = fixture("sample-hooks.db");
    let folder = workdir("no-output");
    let missing = folder.path().join("missing/a.zst");
    export(&source).arg("-o").arg(&missing).run().fails_with(13).stderr_has("missing/a.zst");
    if Path::new("/dev/full").exists() {
        export(&source)
            .arg("-o")
            .arg("/dev/full")
            .run()
            .fails_with(13)
            .stderr_has("/dev/full")
            .stderr_has("the disk is full");
    }
}

#[test]
fn an_export_writes_into_a_named_pipe() {
    let folder = workdir("fifo");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let running = export(fixture("sample-hooks.db")).arg("-o").arg(&fifo).spawn();
    let target = folder.path().join("new.db");
    import(&target).arg("--create").arg(&fifo).run().success();
    running.wait().success();
    assert_same_rows(&sqlite_dump(&fixture("sample-hooks.db")), &sqlite_dump(&target));
}

#[test]
fn a_stdin_without_an_archive_is_refused() {
    let folder = workdir("no-stdin");
    let target = folder.path().join("new.db");
    import(&target).arg("--create").run().fails_with(3);
    let output = import(&target).arg("--create").stdin_file(folder.path()).run();
    assert_ne!(output.code, Some(0));
    output.stderr_has("stdin");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn of_two_imports_that_create_one_file_one_wins() {
    let folder = workdir("two-creates");
    let target = folder.path().join("new.db");
    let (running, mut stdin) = half_fed(import(&target).arg("--create"));
    wait_until("the first has begun", || !names(folder.path()).is_empty());
    import(&target)
        .arg("--create")
        .stdin(big().1.clone())
        .run()
        .fails_with(8)
        .stderr_has("another import is creating");
    stdin.write_all(&big().1[big().1.len() / 2..]).unwrap();
    drop(stdin);
    running.wait().success();
    assert_eq!(names(folder.path()), ["new.db"]);
    assert!(sqlite_dump(&target).len() > 6_000);
}

#[test]
fn a_disk_that_is_full_leaves_a_sqlite_file_as_it_was() {
    let folder = workdir("full");
    let archive = folder.path().join("a.zst");
    fs::write(&archive, &big().1).unwrap();
    let target = empty_target(folder.path(), "delete");
    let before = sqlite_dump(&target);
    // no file may grow beyond 1,000 blocks; the signal of that is ignored, so that writing fails
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_chronicle-dump"))
        .args(["import", "--strict", "--trust-zone", "--assume-tz", "UTC", "--to"])
        .arg(&target)
        .arg(&archive)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("target.db") || said.contains("events"), "{said}");
    assert_same_rows(&before, &sqlite_dump(&target));
}
