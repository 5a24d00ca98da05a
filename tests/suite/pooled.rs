//! Commands through a pooler that gives a session back after every transaction: they work, and leave nothing behind that
//! the next one would meet.

use std::path::PathBuf;

use crate::support::cluster::{Cluster, Database, SUPA};
use crate::support::everything::everything_on_server;
use crate::support::files::{assert_same_rows, fixture};
use crate::support::migrate::{Scratch, event, session, words};
use crate::support::pooler::Pooler;
use crate::support::program::Program;

/// A database behind a pooler, and an archive.
struct Stage {
    pooler: Pooler,
    database: Database,
    archive: PathBuf,
    scratch: Scratch,
}

impl Stage {
    fn new(name: &str) -> Stage {
        let scratch = Scratch::new(name);
        let rows = session(1) + &session(2) + &event(11, 1, "stop") + &event(12, 2, "stop");
        let archive = scratch.export(&scratch.sqlite("a.db", &["sqlite-hooks.sql"], &rows));
        let database = Cluster::get().database_of(SUPA, name);
        database.apply_file(fixture("postgres-upstream.sql"));
        let pooler = Pooler::by_transaction(&database, SUPA);
        let stage = Stage { pooler, database, archive, scratch };
        // our own tables stay
        stage.import().run().success();
        Program::new(["rollback", "last", "--from", &stage.pooler.url()]).run().success();
        stage
    }

    fn import(&self) -> Program {
        let url = self.pooler.url();
        Program::new(["import", words(&self.archive), "--to", &url, "--on-conflict=update"])
    }

    fn is_clean(&self, after: &str) {
        assert_eq!(self.pooler.left_behind(), Vec::<String>::new(), "{after}");
    }

    /// Runs every command once; each leaves nothing behind.
    fn run_all(&self) {
        let (url, out) = (self.pooler.url(), self.scratch.path("out.zst"));
        let (archive, out) = (words(&self.archive), words(&out));
        let before = everything_on_server(&self.database);
        self.import().run().success();
        self.is_clean("import");
        let after = everything_on_server(&self.database);
        for args in [
            &["export", &url, "-o", out, "--force"][..],
            &["check", archive, "--to", &url],
            &["check", &url],
            &["diff", archive, &url],
            &["verify", archive, "--against", &url],
            &["history", &url, "--verify"],
            &["restore", archive, "--to", &url],
            &["import", archive, "--to", &url, "--resumable", "--commit-every=1"],
            &["import", archive, "--to", &url, "--jobs=2"],
            &["rollback", "last", "--from", &url, "--dry-run"],
        ] {
            Program::new(args.iter().copied()).run().success();
            self.is_clean(args[0]);
        }
        assert_same_rows(&after, &everything_on_server(&self.database));
        // the imports and the restore, the newest first
        for _ in 0..4 {
            Program::new(["rollback", "last", "--from", &url]).run().success();
            self.is_clean("rollback");
        }
        assert_same_rows(&before, &everything_on_server(&self.database));
    }
}

#[test]
fn commands_leave_nothing_in_the_sessions_of_a_pooler() {
    let stage = Stage::new("pooled_clean");
    stage.is_clean("the beginning");
    stage.run_all();
    // and a second time, in the same sessions
    stage.run_all();
}

#[test]
fn a_failed_or_killed_import_leaves_nothing_in_a_pooler() {
    let stage = Stage::new("pooled_killed");
    let before = everything_on_server(&stage.database);
    for point in ["load: after rows", "receipts: before they are read back", "commit: before"] {
        for kind in ["error", "abort"] {
            let fault = format!("{point}={kind}");
            let output = stage.import().env("CHRONICLE_DUMP_FAULT", &fault).run();
            assert_ne!(output.code, Some(0), "{fault}");
            stage.is_clean(&fault);
        }
    }
    stage.import().run().success();
    Program::new(["rollback", "last", "--from", &stage.pooler.url()]).run().success();
    assert_same_rows(&before, &everything_on_server(&stage.database));
}

#[test]
fn statements_that_others_left_are_in_nobodys_way() {
    let stage = Stage::new("pooled_left");
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["mine"]).collect();
    let url = stage.pooler.url();
    let (archive, out) = (words(&stage.archive).to_owned(), stage.scratch.path("left.zst"));
    stage.import().run().success();
    for args in [
        &["export", &url, "-o", words(&out), "--force"][..],
        &["check", &archive, "--to", &url],
        &["diff", &archive, &url],
        &["restore", &archive, "--to", &url],
        &["history", &url],
        &["rollback", "last", "--from", &url],
    ] {
        stage.pooler.leave_statements(&names);
        Program::new(args.iter().copied()).run().success();
        stage.pooler.clear(&names);
    }
}
