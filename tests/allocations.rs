//! What a row costs the allocator on its way through the archive and the transformer: nothing, once
//! the buffers have grown.
//!
//! A test binary of its own, because the allocator that counts is that of the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unsafe_code, reason = "an allocator that counts can be made in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use chronicle_dump::catalog::{
    Affinity, Backend, Catalog, CatalogColumn, CatalogTable, ColumnType, Role,
};
use chronicle_dump::load::OnProblem;
use chronicle_dump::plan::Plan;
use chronicle_dump::policy::PlanOptions;
use chronicle_dump::transform::{TargetRows, Transformer};

use chronicle_archive::codec::{Decoder, Encoder};
use chronicle_archive::time::Instant;
use chronicle_archive::{Batch, Column, Kind, Origin, Stream, TimeText, Value};

thread_local! {
    /// The allocations of this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: usize = 500;

fn stream() -> Stream {
    let kinds = [
        Kind::Int,
        Kind::Text,
        Kind::Json,
        Kind::Real,
        Kind::Bool,
        Kind::Time,
        Kind::Uuid,
        Kind::Text,
    ];
    let column = |(n, kind): (usize, Kind)| Column {
        name: format!("column_{n}"),
        physical: format!("column_{n}"),
        kind,
        nullable: n > 0,
        time_text: TimeText::None,
    };
    let columns = kinds.into_iter().enumerate().map(column).collect();
    Stream { name: "rows".into(), table: "rows".into(), columns, key: vec![0], order: vec![0] }
}

/// Rows as databases hold them: texts with and without something to escape, JSON, numbers, times.
fn rows() -> Batch {
    let mut batch = Batch::default();
    batch.start(0, 8, 1);
    let text = "two lines,\nand \"quoted\" words in them ".repeat(20);
    let json =
        format!("{{\"tool\":\"Bash\",\"input\":{{\"command\":\"{}\"}}}}", "ls -l; ".repeat(90));
    for n in 0..ROWS {
        batch.push(Value::Int(n as i64));
        batch.push(Value::Text(text.as_bytes()));
        batch.push(Value::Text(json.as_bytes()));
        batch.push(Value::Real(n as f64 / 7.0));
        batch.push(Value::Bool(n % 2 == 0));
        batch.push(Value::Time(Instant(n as i64 * 1_000_003)));
        batch.push(Value::Uuid([n as u8; 16]));
        batch.push(if n % 3 == 0 { Value::Null } else { Value::Text(b"plain") });
    }
    batch
}

/// The allocations of `work` when it is done for the second time.
fn steady(mut work: impl FnMut()) -> u64 {
    work();
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn a_row_is_encoded_without_an_allocation() {
    let (mut encoder, rows, mut lines) = (Encoder::new(&stream()), rows(), Vec::new());
    let allocations = steady(|| {
        lines.clear();
        (0..ROWS).for_each(|row| encoder.write(&rows, row, "", &mut lines));
    });
    assert!(lines.len() > ROWS * 1000, "the rows are as large as real ones");
    assert_eq!(allocations, 0, "of {ROWS} rows");
}

#[test]
fn a_row_is_decoded_without_an_allocation() {
    let (mut encoder, rows, mut lines) = (Encoder::new(&stream()), rows(), Vec::new());
    (0..ROWS).for_each(|row| encoder.write(&rows, row, "", &mut lines));
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &lines).collect();
    let (mut decoder, mut batch, mut chunk) = (Decoder::new(&stream()), Batch::default(), lines);
    let allocations = steady(|| {
        batch.start(0, 8, 1);
        batch.adopt(std::mem::take(&mut chunk));
        let mut start = 0;
        for end in &ends {
            decoder.read(&mut batch, start, *end).unwrap();
            start = end + 1;
        }
        assert_eq!(batch.rows(), ROWS);
        chunk = batch.adopt(Vec::new());
    });
    assert_eq!(allocations, 0, "of {ROWS} rows");
}

/// A plan for rows that go from one SQLite file into another one.
fn plan() -> Plan {
    let columns = ["id", "account_id", "text", "payload"]
        .map(|name| CatalogColumn::of_type(name, ColumnType::Sqlite(Affinity::Text)));
    let table = CatalogTable {
        computed: Vec::new(),
        name: "notes".into(),
        stream: "notes".into(),
        role: Role(Role::SIDE.into()),
        columns: columns.into(),
        key: vec![0, 1],
        references: vec![],
        origin: None,
        batch: None,
        fold: None,
        time: None,
        changed: None,
        stored: None,
        numbers: None,
        adoptable: false,
    };
    let catalog = Catalog::new(Backend::Sqlite, "test".into(), vec![table]);
    let column = |name: &str| Column {
        name: name.into(),
        physical: name.into(),
        kind: Kind::Text,
        nullable: true,
        time_text: TimeText::None,
    };
    let stream = Stream {
        name: "notes".into(),
        table: "notes".into(),
        columns: ["id", "account_id", "text", "payload"].map(column).into(),
        key: vec![0, 1],
        order: vec![],
    };
    let origin = Origin { backend: "sqlite".into(), ..Origin::default() };
    chronicle_dump::plan::plan(&origin, &[stream], &catalog, PlanOptions::default()).unwrap()
}

#[test]
fn a_row_is_transformed_without_an_allocation() {
    let mut transformer = Transformer::new(Arc::new(plan()), OnProblem::Stop).unwrap();
    let (mut batch, mut rows) = (Batch::default(), TargetRows::default());
    batch.start(0, 4, 1);
    for n in 0..ROWS {
        batch.push(Value::Text(format!("note {n}").as_bytes()));
        batch.push(Value::Text(b"account"));
        batch.push(Value::Text(b"plain text with nothing to convert"));
        batch.push(if n % 2 == 0 { Value::Null } else { Value::Text(b"{\"a\":1}") });
    }
    let allocations = steady(|| {
        assert_eq!(transformer.transform(&batch, 0, &mut rows).unwrap(), ROWS);
    });
    assert_eq!(rows.rows.rows(), ROWS);
    assert_eq!(allocations, 0, "of {ROWS} rows");
}

#[test]
fn the_allocator_counts() {
    assert_eq!(steady(|| drop(std::hint::black_box(vec![1_u8; 100]))), 1);
}
