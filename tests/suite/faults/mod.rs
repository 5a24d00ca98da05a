//! Faults at every named point of an import, a restore and a rollback: the database is then as before or as after, never
//! between, the history says which, and the next import works.
//!
//! `FAULT_SEED=7` pairs other kinds of faults with the points; `FAULT_ALL=1` takes all points everywhere, of which a usual
//! run takes a part on a server and in WAL mode.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chronicle_dump::fault::POINTS;
use serde_json::Value;

use crate::support::cluster::{Cluster, Database, OWNER};
use crate::support::everything::{everything_in_file, everything_on_server};
use crate::support::files::{assert_same_rows, fixture, sqlite_from};
use crate::support::migrate::{Scratch, event, json_of, session, words};
use crate::support::program::{Output, Program};

/// What can happen at a point.
const KINDS: [&str; 4] = ["error", "full", "abort", "lost"];
/// What is tried: an import that adds a column, one that clears, a restore, and a rollback.
const COMMANDS: [&str; 4] = ["import", "clear", "restore", "rollback"];

enum Place {
    File(PathBuf),
    Server(Database),
}

/// A database with rows, and the archives that are brought to it.
struct Store {
    scratch: Scratch,
    place: Place,
    first: PathBuf,
    second: PathBuf,
    third: PathBuf,
}

impl Store {
    /// `mode` is a journal mode of SQLite, or `server`.
    fn new(mode: &str) -> Store {
        let scratch = Scratch::new("faults");
        let archive = |name: &str, sql: &str| {
            scratch.export(&scratch.sqlite(name, &["sqlite-hooks.sql"], sql))
        };
        let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'x'";
        let first = archive("1.db", &(session(1) + &session(2) + &event(11, 1, "stop")));
        let edit = session(1) + &event(11, 1, "notification") + &event(12, 1, "stop");
        let second = archive("2.db", &(edit + note));
        let third = archive("3.db", &(session(3) + &event(13, 3, "stop")));
        let place = match mode {
            "server" => {
                let database = Cluster::get().database_of(OWNER, "faults");
                database.apply_file(fixture("postgres-upstream.sql"));
                Place::Server(database)
            }
            mode => {
                let path = scratch.path("target.db");
                sqlite_from(&["sqlite-hooks.sql"], &path, mode);
                Place::File(path)
            }
        };
        let store = Store { scratch, place, first, second, third };
        store.program("first").run().success();
        store
    }

    fn url(&self) -> String {
        match &self.place {
            Place::File(path) => words(path).to_owned(),
            Place::Server(database) => database.url(),
        }
    }

    fn everything(&self) -> Vec<String> {
        let lines = match &self.place {
            Place::File(path) => everything_in_file(path),
            Place::Server(database) => everything_on_server(database),
        };
        let own = |line: &String| line.contains(" chronicle_dump") && !line.contains(": ");
        lines.into_iter().filter(|line| !own(line)).collect()
    }

    fn program(&self, command: &str) -> Program {
        let url = self.url();
        let [first, second, third] = [&self.first, &self.second, &self.third].map(|p| words(p));
        let import = |archives: &[&str], options: &[&str]| {
            let to = ["--to", &url, "--on-conflict=update", "--wait=20"];
            Program::new([&["import"], archives, &to, options].concat())
        };
        match command {
            "first" => import(&[first], &[]),
            "import" => import(&[second, third], &["--on-missing-column=add"]),
            "clear" => import(&[third], &["--clear"]),
            "restore" => Program::new(["restore", third, "--to", &url, "--wait=20"]),
            "rollback" => Program::new(["rollback", "last", "--from", &url, "--wait=20"]),
            other => panic!("no command {other}"),
        }
    }

    fn history(&self) -> Vec<Value> {
        let output = Program::new(["history", &self.url(), "--json"]).run().success();
        json_of(&output)["batches"].as_array().expect("batches").clone()
    }

    /// Ends every session of the server but the test's own.
    fn cut(&self) {
        if let Place::Server(database) = &self.place {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            database.psql(sql);
        }
    }

    /// Runs a command with a fault at a point.
    fn with_fault(&self, command: &str, point: &str, time: u32, kind: &str) -> Output {
        let pause = self.scratch.path("pause");
        let kind = match kind {
            "lost" => format!("pause:{}", words(&pause)),
            kind => kind.to_owned(),
        };
        let program = self.program(command);
        let fault = format!("{point}={kind}@{time}");
        let mut running = program.env("CHRONICLE_DUMP_FAULT", fault).spawn();
        if kind.starts_with("pause") {
            let began = Instant::now();
            while !pause.exists() && running.is_running() {
                assert!(began.elapsed() < Duration::from_secs(60), "{point} is not reached");
                std::thread::sleep(Duration::from_millis(1));
            }
            self.cut();
            let _ = std::fs::remove_file(&pause);
        }
        running.wait()
    }
}

/// The points that a command reaches, each with how often.
fn points(store: &Store, command: &str) -> BTreeMap<String, u32> {
    let trace = store.scratch.path("trace");
    let _ = std::fs::remove_file(&trace);
    store.program(command).env("CHRONICLE_DUMP_FAULT_TRACE", words(&trace)).run().success();
    let mut found = BTreeMap::new();
    for line in std::fs::read_to_string(&trace).expect("a trace").lines() {
        *found.entry(line.to_owned()).or_default() += 1;
    }
    found
}

/// Lets a command fail at every point that it reaches, and gives the points.
fn fails_everywhere(mode: &str, command: &str, seed: usize, every: usize) -> BTreeSet<String> {
    let store = Store::new(mode);
    if command == "rollback" {
        store.program("clear").run().success();
    }
    let before = store.everything();
    let reached = points(&store, command);
    let after = store.everything();
    undo(&store, &newest(&store, command));
    assert_same_rows(&before, &store.everything());
    let kinds = if mode == "server" { &KINDS[..] } else { &KINDS[..3] };
    let all = std::env::var_os("FAULT_ALL").is_some();
    let every = if all { 1 } else { every };
    for (n, (point, times)) in
        reached.iter().enumerate().filter(|(n, _)| (n + seed).is_multiple_of(every))
    {
        let (kind, time) = (kinds[(n + seed) % kinds.len()], 1 + (seed as u32 % times));
        let shown = format!("{mode}, {command}, {point}, {kind}, time {time}, FAULT_SEED={seed}");
        let done = store.with_fault(command, point, time, kind);
        let now = store.everything();
        let committed = now == after && now != before;
        assert!(committed || now == before, "between before and after: {shown}\n{}", done.stderr);
        assert!(
            done.code != Some(0) || committed || kind == "lost",
            "it said it was done: {shown}"
        );
        assert!(!committed || point.starts_with("commit"), "committed early: {shown}");
        let done_by = committed.then(|| newest(&store, command));
        // the next batch closes what was killed, works, and can be undone
        store.program("first").run().success();
        let status: Vec<String> = (store.history().iter())
            .map(|b| b["status"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert!(!status.iter().any(|s| s == "started"), "{shown}: {status:?}");
        store.program("rollback").run().success();
        assert_same_rows(&now, &store.everything());
        if let Some(batch) = done_by {
            undo(&store, &batch);
        }
        assert_same_rows(&before, &store.everything());
    }
    reached.into_keys().collect()
}

/// The newest batch of a command.
fn newest(store: &Store, command: &str) -> String {
    let rollback = command == "rollback";
    let history = store.history();
    let batch = history.iter().rfind(|batch| {
        batch["status"] == "completed" && (batch["migration_type"] == "rollback") == rollback
    });
    batch.expect("a batch")["batch_id"].as_str().expect("an id").to_owned()
}

/// Undoes a batch.
fn undo(store: &Store, batch: &str) {
    Program::new(["rollback", batch, "--from", &store.url()]).run().success();
}

fn every_point_of(mode: &str, every: usize) {
    let seed = std::env::var("FAULT_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut reached = BTreeSet::new();
    for (n, command) in COMMANDS.into_iter().enumerate() {
        reached.extend(fails_everywhere(mode, command, seed + n, every));
    }
    // an import in groups is another law: what it has committed stays
    let here = POINTS.into_iter().filter(|point| !point.starts_with("groups"));
    let missing: Vec<&str> = here.filter(|point| !reached.contains(*point)).collect();
    assert!(missing.is_empty(), "{mode}: never reached: {missing:?}");
}

#[test]
fn faults_leave_a_file_with_a_journal_as_before_or_after() {
    every_point_of("delete", 1);
}

#[test]
fn faults_leave_a_file_in_wal_mode_as_before_or_after() {
    every_point_of("wal", 3);
}

#[test]
fn faults_leave_a_server_as_before_or_after() {
    every_point_of("server", 4);
}
