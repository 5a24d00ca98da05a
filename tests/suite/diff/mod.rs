//! `diff` finds every difference and nothing else, whatever the two are and however they are sorted.

mod model;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use chronicle_dump::cancel::Cancel;
use chronicle_dump::diff::{ChangedColumn, DifferenceKind};
use chronicle_dump::error::Code;
use chronicle_dump::policy::AssumeZone;
use chronicle_dump::progress::Progress;
use chronicle_dump::{CompareOptions, Compared, Difference, Result, Side, compare};
use futures::future::BoxFuture;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::support::cluster::{Cluster, Database};
use super::support::files::{fixture, sqlite_from, workdir};
use super::support::generate::{hooks_database, hostile_hooks_database};
use super::support::program::{Output, Program, pipe};

/// A folder with a database of the hooks and an equal one.
struct Scratch {
    folder: TempDir,
}

impl Scratch {
    fn new(test_name: &str) -> Scratch {
        let scratch = Scratch { folder: workdir(test_name) };
        hooks_database(&scratch.path("a.db"), 5, 60, 11).unwrap();
        fs::copy(scratch.path("a.db"), scratch.path("b.db")).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the second database.
    fn change(&self, sql: &str) {
        let database = Connection::open(self.path("b.db")).unwrap();
        database.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}")).unwrap();
    }

    /// Exports a database of the scratch into an archive of this name.
    fn export(&self, from: &str, name: &str, options: &[&str]) {
        let export = Program::new(["export", from, "-o", name].iter().chain(options));
        export.current_dir(self.folder.path()).run().success();
    }

    fn diff(&self, args: &[&str]) -> Output {
        let program = Program::new(["diff"].iter().chain(args));
        program.current_dir(self.folder.path()).run()
    }

    /// The ids of the first events by time.
    fn events(&self, count: usize) -> Vec<String> {
        let database = Connection::open(self.path("a.db")).unwrap();
        let mut ids = database.prepare("SELECT id FROM events ORDER BY timestamp, id").unwrap();
        ids.query_map([], |row| row.get(0)).unwrap().take(count).map(|id| id.unwrap()).collect()
    }
}

fn postgres(name: &str) -> Database {
    let database = Cluster::get().database(name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database
}

fn json(output: &Output) -> Json {
    serde_json::from_str(output.text()).unwrap_or_else(|e| panic!("{e}: {}", output.text()))
}

// ---- what is equal ----------------------------------------------------------------------------

#[test]
fn a_database_equals_its_archives_in_any_order() {
    let scratch = Scratch::new("diff-equal");
    // any order on the disk
    scratch.change(
        "CREATE TABLE other AS SELECT * FROM events ORDER BY substr(id, 7); DELETE FROM events; \
         INSERT INTO events SELECT * FROM other; DROP TABLE other",
    );
    scratch.export("a.db", "sorted.zst", &[]);
    scratch.export("b.db", "unsorted.zst", &["--unsorted"]);
    let sides = ["a.db", "b.db", "sqlite:a.db", "sorted.zst", "unsorted.zst"];
    for a in sides {
        for b in sides {
            scratch.diff(&[a, b]).success().stdout_has("events: 60 equal\nequal: A is ");
        }
    }
    let export = Program::new(["export"]).arg(scratch.path("a.db"));
    let to = Program::new(["diff", "-"]).arg(scratch.path("unsorted.zst"));
    let (from, to) = pipe(export, to);
    from.success();
    to.success().stdout_has("A is stdin");
    let bare = zstd::decode_all(&*fs::read(scratch.path("sorted.zst")).unwrap()).unwrap();
    fs::write(scratch.path("bare.ndjson"), bare).unwrap();
    scratch.diff(&["bare.ndjson", "a.db"]).success();
}

// ---- against a comparison that holds everything in memory --------------------------------------

/// A value of a generated row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Text(&'static str),
    Uuid([u8; 16]),
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Cell::Null => Value::Null,
            Cell::Bool(v) => Value::Bool(*v),
            Cell::Int(v) => Value::Int(*v),
            Cell::Uuid(v) => Value::Uuid(*v),
            Cell::Text(text) => Value::Text(text.as_bytes()),
        }
    }
}

type Row = Vec<Cell>;

/// A side in memory: rows in batches of some size, sorted or only said to be.
struct Rows {
    streams: Vec<Stream>,
    batches: Vec<(usize, Vec<Row>)>,
    zone: Option<&'static str>,
}

impl Rows {
    fn new(streams: Vec<Stream>, rows: &[Vec<Row>], size: usize) -> Rows {
        let mut batches: Vec<(usize, Vec<Row>)> = (rows.iter().enumerate())
            .flat_map(|(n, rows)| rows.chunks(size).map(move |rows| (n, rows.to_vec())))
            .collect();
        batches.reverse();
        Rows { streams, batches, zone: None }
    }
}

impl Side for Rows {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn time_zone(&self) -> Option<&str> {
        self.zone
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let Some((stream, rows)) = self.batches.pop() else { return Ok(false) };
            batch.start(stream, self.streams[stream].columns.len(), 1);
            rows.iter().flatten().for_each(|cell| batch.push(cell.value()));
            Ok(true)
        })
    }
}

fn stream(name: &str, key: &[usize], order: &[usize]) -> Stream {
    let columns = ["id", "part", "content"].map(|name| Column {
        name: name.into(),
        physical: name.into(),
        kind: Kind::Text,
        nullable: true,
        time_text: TimeText::None,
    });
    let (key, order) = (key.to_vec(), order.to_vec());
    Stream { name: name.into(), table: name.into(), columns: columns.into(), key, order }
}

fn compare_rows(a: Rows, b: Rows, options: &CompareOptions) -> (Compared, Vec<Difference>) {
    try_to_compare(a, b, options).unwrap()
}

fn try_to_compare(
    mut a: Rows,
    mut b: Rows,
    options: &CompareOptions,
) -> Result<(Compared, Vec<Difference>)> {
    let mut differences = Vec::new();
    let mut tell = |difference| {
        differences.push(difference);
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (progress, cancel) = (Progress::default(), Cancel::default());
    let compared =
        runtime.block_on(compare(&mut a, &mut b, options, &mut tell, &progress, &cancel))?;
    Ok((compared, differences))
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::Null),
        (0..4_i64).prop_map(Cell::Int),
        prop_oneof![Just("a"), Just("b\n"), Just("")].prop_map(Cell::Text),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(proptest::collection::vec(cell(), 3), 0..25)
}

/// A second side that is like the first one, but for some rows, and in another order.
fn sides() -> impl Strategy<Value = [Vec<Row>; 2]> {
    (rows(), rows(), proptest::collection::vec(any::<bool>(), 25)).prop_flat_map(
        |(a, other, kept)| {
            let mut b: Vec<Row> =
                a.iter().zip(kept).filter(|(_, k)| *k).map(|(r, _)| r.clone()).collect();
            b.extend(other.into_iter().take(6));
            (Just(a), Just(b).prop_shuffle()).prop_map(|(a, b)| [a, b])
        },
    )
}
