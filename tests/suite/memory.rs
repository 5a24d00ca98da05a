//! How much memory is needed does not depend on how much there is to move.

use super::support::cluster::Cluster;
use super::support::files::workdir;
use super::support::generate::hooks_database;
use super::support::program::Program;

/// The most that an export or a verification may hold at any moment, with two threads at work.
const MOST: u64 = 56 << 20;
/// The most that an import may hold, in addition to the 40 MiB of SQLite's page cache.
const IMPORT: u64 = 72 << 20;

#[test]
fn export_and_verify_hold_a_few_chunks_and_not_the_database() {
    let folder = workdir("memory");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("a.db"), 50, 40_000, 4).unwrap();
    let rows = 80 << 20;
    assert!(std::fs::metadata(path("a.db")).unwrap().len() > rows, "the database is too small");
    let export = Program::new(["export", "--threads", "2", "-o"]).arg(path("a.zst"));
    let export = export.arg(path("a.db")).run().success();
    let verify = Program::new(["verify"]).arg(path("a.zst")).run().success();
    let piped = Program::new(["verify", "-"]).stdin_file(path("a.zst")).run().success();
    let counted = Program::new(["inspect", "--stats"]).arg(path("a.zst")).run().success();
    for (what, run) in [
        ("export", export),
        ("verify", verify),
        ("verify of a pipe", piped),
        ("inspect --stats", counted),
    ] {
        // where the system does not report it, there is nothing to compare
        let peak = run.peak_memory.unwrap_or_default();
        assert!(peak < MOST, "{what}: {} MiB", peak >> 20);
    }
}

#[test]
fn an_import_holds_a_few_chunks_and_not_the_archive() {
    let folder = workdir("memory_import");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("a.db"), 50, 60_000, 4).unwrap();
    let rows = 120 << 20;
    assert!(std::fs::metadata(path("a.db")).unwrap().len() > rows, "the database is too small");
    Program::new(["export", "-o"]).arg(path("a.zst")).arg(path("a.db")).run().success();
    let server = Cluster::get().database("memory_import");
    let file = path("b.db").to_str().unwrap().to_owned();
    for (to, most) in [(file, IMPORT + (40 << 20)), (server.url(), IMPORT)] {
        let import = Program::new(["import", "--strict", "--trust-zone"])
            .arg(path("a.zst"))
            .arg("--to")
            .arg(&to);
        let run = import.arg("--create").arg("--assume-tz=UTC").run().success();
        let peak = run.peak_memory.unwrap_or_default();
        assert!(peak < most, "{to}: {} MiB", peak >> 20);
    }
}

#[test]
fn a_copy_holds_what_both_its_ends_hold() {
    let folder = workdir("memory_copy");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("a.db"), 50, 60_000, 4).unwrap();
    let rows = 120 << 20;
    assert!(std::fs::metadata(path("a.db")).unwrap().len() > rows, "the database is too small");
    let server = Cluster::get().database("memory_copy");
    let file = path("b.db").to_str().unwrap().to_owned();
    for (to, most) in [(file, IMPORT + (40 << 20)), (server.url(), IMPORT)] {
        let copy = Program::new(["copy", "--trust-zone", "--threads", "2", "--from"]);
        let copy = copy.arg(path("a.db")).arg("--to").arg(&to);
        let run = copy.arg("--create").arg("--assume-tz=UTC").run().success();
        let peak = run.peak_memory.unwrap_or_default();
        assert!(peak < MOST + most, "{to}: {} MiB", peak >> 20);
    }
}
