//! How much memory is needed does not depend on how much there is to move.

use super::support::files::workdir;
use super::support::generate::hooks_database;
use super::support::program::Program;

/// The most that an export or a verification may hold at any moment, with two threads at work.
const MOST: u64 = 56 << 20;

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
    for (what, run) in [("export", export), ("verify", verify), ("verify of a pipe", piped)] {
        // where the system does not tell, there is nothing to compare
        let peak = run.peak_memory.unwrap_or_default();
        assert!(peak < MOST, "{what}: {} MiB", peak >> 20);
    }
}
