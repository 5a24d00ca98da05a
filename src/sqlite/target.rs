//! A SQLite file as a target: one transaction in an existing file, or a new file that gets its
//! name only when it is whole.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use rusqlite::types::ToSqlOutput;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, ToSql, ffi};

use super::catalog::{SqliteCatalog, affinity};
use super::new_file::NewFile;
use super::snapshot::{Head, connect, harden, resolve};
use super::{extended_code, failed, from_sqlite, quoted, to_sqlite};
use crate::cancel::Cancel;
use crate::convert::{Converter, key_of};
use crate::error::{Code, Error, Result};
use crate::layout::{Backend, Layout};
use crate::plan::{Plan, StreamPlan};
use crate::record::{Batch, Value, show, show_path};
use crate::source::{ORPHANS_NAMED, Orphans};
use crate::target::{
    Catalog, Loaded, OnOrphans, Outcome, Reference, Target, TargetColumn, TargetTable, TargetType,
};

/// SQLite's page cache in KiB: enough that the indexes of some hundred thousand rows stay in it.
const CACHE_KIB: i64 = 64 << 10;
/// The parents remembered as there, so that most references need no look-up.
const PARENTS: usize = 8192;

/// A SQLite file that rows are loaded into.
pub struct SqliteTarget {
    connection: Connection,
    created: Option<NewFile>,
    catalog: Catalog,
    unique: Vec<Vec<Vec<String>>>,
    loading: Option<Loading>,
    shown: String,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    loaded: Vec<Loaded>,
    converter: Converter,
    row: Batch,
    parents: HashSet<(usize, Vec<u8>)>,
    last_rowid: Vec<Option<i64>>,
}

/// A value that binds itself.
struct Bound<'a>(Value<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(to_sqlite(self.0))
    }
}

impl SqliteTarget {
    /// Opens an existing file.
    ///
    /// # Errors
    /// If there is none, it cannot be written, or its tables are of no known layout.
    pub fn open(path: &Path, cancel: &Cancel) -> Result<SqliteTarget> {
        if !path.exists() {
            return Err(Error::new(
                Code::NotFound,
                format!("{}: no such file", show_path(path.display())),
            )
            .hint("--create makes a new database in the layout of Chronicle's hooks"));
        }
        let shown = show_path(path.display());
        let path = resolve(path)?;
        if Head::read(&path)?.empty {
            return Err(Error::new(Code::Layout, "the file is empty, not a Chronicle database")
                .hint("remove it and say --create"));
        }
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|mut c| prepare(&mut c, cancel).map(|()| c))
            .map_err(|e| failed(Code::Connect, "cannot open the database", e))?;
        SqliteTarget::over(connection, None, shown)
    }

    /// Makes a new file in a layout, under a name of its own until it is whole.
    ///
    /// # Errors
    /// If the file exists, or its directory cannot be written.
    pub fn create(path: &Path, layout: &Layout, cancel: &Cancel) -> Result<SqliteTarget> {
        let file = NewFile::reserve(path)?;
        let ddl = layout.ddl().ok_or_else(|| {
            Error::new(Code::Usage, format!("--create cannot make the layout {}", layout.name))
        })?;
        let connection = connect(&file.partial, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|mut c| {
                // nobody else knows the file: if we fail it is removed, so it needs no journal
                c.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
                c.execute_batch(ddl)?;
                prepare(&mut c, cancel)?;
                Ok(c)
            })
            .map_err(|e| failed(Code::Target, "cannot create the database", e))?;
        SqliteTarget::over(connection, Some(file), show_path(path.display()))
    }

    fn over(
        connection: Connection,
        created: Option<NewFile>,
        shown: String,
    ) -> Result<SqliteTarget> {
        let found = SqliteCatalog::read(&connection)?;
        let catalog = describe(&found);
        let mut unique = Vec::new();
        for table in &catalog.tables {
            let read = |e| failed(Code::Target, "cannot read the tables", e);
            unique.push(unique_columns(&connection, &table.name).map_err(read)?);
        }
        Ok(SqliteTarget { connection, created, catalog, unique, loading: None, shown })
    }

    fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        let begun = self.connection.execute_batch(
            "BEGIN IMMEDIATE; CREATE TEMP TABLE orphan (stream, reference, key, value, shown);",
        );
        begun.map_err(|e| failed(Code::Target, "cannot start to write", e))?;
        let mut last_rowid = Vec::new();
        for stream in &plan.streams {
            self.require_key(stream)?;
            let sql = format!("SELECT max(rowid) FROM {}", quoted(&stream.table_name));
            // a table WITHOUT ROWID has no rows without a key, the only use of this number
            last_rowid.push(self.connection.query_row(&sql, [], |r| r.get(0)).unwrap_or(None));
        }
        let loaded = (plan.streams.iter())
            .map(|s| Loaded { stream: s.stream.clone(), ..Loaded::default() })
            .collect();
        self.loading = Some(Loading {
            plan,
            loaded,
            converter: Converter::default(),
            row: Batch::default(),
            parents: HashSet::new(),
            last_rowid,
        });
        Ok(())
    }

    /// Refuses a table with rows whose key SQLite does not keep unique: rows that are there already
    /// could not be recognised and would be doubled.
    fn require_key(&self, stream: &StreamPlan) -> Result<()> {
        let table = &self.catalog.tables[stream.table];
        let key = table.key.first().map_or("", |k| &table.columns[*k].physical);
        let indexed = self.unique[stream.table].iter().any(|columns| columns == &[key]);
        let sql = format!(
            "SELECT (SELECT group_concat(name) FROM pragma_table_info(?1) WHERE pk > 0) IS ?2 \
                 OR NOT EXISTS (SELECT 1 FROM {})",
            quoted(&table.name)
        );
        let fine = || self.connection.query_row(&sql, [&table.name[..], key], |row| row.get(0));
        let read = |e| failed(Code::Target, format!("cannot read {}", table.name), e);
        if indexed || fine().map_err(read)? {
            return Ok(());
        }
        Err(Error::new(
            Code::Plan,
            format!(
                "{}: \"{key}\" is not a unique key in this database, so rows that are there \
                 already could not be recognised; nothing was changed",
                table.name
            ),
        )
        .hint("import into a new file with --create, or make the key unique: CREATE UNIQUE INDEX"))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let plan = Arc::clone(&loading.plan);
        let number = batch.stream();
        let stream = plan.streams.get(number).ok_or_else(not_begun)?;
        let table = &self.catalog.tables[stream.table];
        let sql = insert_sql(stream, table);
        let mut insert = (self.connection.prepare_cached(&sql))
            .map_err(|e| failed(Code::Target, format!("cannot write {}", table.name), e))?;
        for row in 0..batch.rows() {
            loading.row.start(number, stream.columns.len(), 0);
            loading.converter.row(&plan, stream, batch, row, &mut loading.row)?;
            let place = Place { connection: &self.connection, stream, table, batch, row };
            let again = match place.key_is_null() {
                true => place.was_there_before(&loading.row, loading.last_rowid[number])?,
                false => false,
            };
            if again || !place.insert(&mut insert, &loading.row)? {
                if !again {
                    place.compare(&loading.row, &self.unique[stream.table])?;
                }
                loading.loaded[number].skipped_rows += 1;
                continue;
            }
            loading.converter.count(stream, batch, row);
            loading.loaded[number].inserted_rows += 1;
            place.check_references(&loading.row, &self.catalog, &mut loading.parents)?;
        }
        Ok(())
    }

    fn settle_now(&mut self, orphans: Option<OnOrphans>) -> Result<Outcome> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let mut found = Vec::new();
        for stream in &loading.plan.streams {
            let table = &self.catalog.tables[stream.table];
            for (n, reference) in table.references.iter().enumerate() {
                let parent = &self.catalog.tables[reference.table];
                let left = orphans_left(&self.connection, stream, n, table, reference, parent)
                    .map_err(|e| failed(Code::Target, "cannot check the references", e))?;
                found.extend(left);
            }
        }
        // at rest SQLite enforces nothing, and Chronicle's own files hold orphans: keep them
        // unless told otherwise
        if let (Some(OnOrphans::Fail), Some(first)) = (orphans, found.first()) {
            return Err(first.refused(false));
        }
        Ok(Outcome {
            loaded: loading.loaded.clone(),
            adapted: loading.converter.adapted(),
            orphans: found,
            notices: Vec::new(),
        })
    }

    fn commit_now(self) -> Result<()> {
        let commit = |c: &Connection| c.execute_batch("DROP TABLE temp.orphan; COMMIT");
        commit(&self.connection).map_err(|e| {
            failed(Code::Target, format!("{}: cannot commit, nothing was changed", self.shown), e)
        })?;
        match self.created {
            None => Ok(()),
            Some(file) => {
                self.connection
                    .close()
                    .map_err(|(_, e)| failed(Code::Target, "cannot close the new file", e))?;
                file.publish()
            }
        }
    }
}

impl Target for SqliteTarget {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.begin_now(plan) })
    }

    fn write_batch<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.write(batch) })
    }

    fn settle(&mut self, orphans: Option<OnOrphans>) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move { self.settle_now(orphans) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.commit_now() })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        // closing the connection rolls back, dropping the new file removes it
        Box::pin(async move { drop(self) })
    }
}

/// Prepares a connection for loading: nothing of the schema acts by itself.
fn prepare(connection: &mut Connection, cancel: &Cancel) -> rusqlite::Result<()> {
    harden(connection)?;
    // on by default in the bundled library; references are checked by us, for every row loaded
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let stop = cancel.clone();
    connection.progress_handler(10_000, Some(move || stop.is_set()))
}

fn describe(found: &SqliteCatalog) -> Catalog {
    let streams = &found.layout.streams;
    let mut tables: Vec<TargetTable> = Vec::new();
    for stream in streams {
        let Some(table) = found.table(stream) else { continue };
        let columns: Vec<TargetColumn> = (table.stored())
            .map(|c| TargetColumn {
                name: stream.logical(&c.name),
                physical: c.name.clone(),
                ty: TargetType::Sqlite(affinity(&c.declared)),
                not_null: c.not_null,
                has_default: c.has_default,
            })
            .collect();
        let find = |name: &String| columns.iter().position(|c| c.name == *name);
        let references = (stream.references.iter())
            .filter_map(|(column, parent)| {
                let table = streams.iter().position(|s| s.name == *parent)?;
                Some(Reference { column: find(column)?, table, enforced: false })
            })
            .collect();
        let key = stream.key.iter().filter_map(find).collect();
        tables.push(TargetTable {
            name: table.name.clone(),
            stream: stream.name.clone(),
            role: stream.role,
            columns,
            key,
            references,
        });
    }
    Catalog { backend: Backend::Sqlite, layout: found.layout.title.clone(), tables }
}

/// The columns of every unique index of a table.
fn unique_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut statement = connection.prepare(
        "SELECT i.name, c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c \
         WHERE i.\"unique\" AND c.name IS NOT NULL ORDER BY i.seq, c.seqno",
    )?;
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (index, column): (String, String) = (row.get(0)?, row.get(1)?);
        match found.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => found.push((index, vec![column])),
        }
    }
    Ok(found.into_iter().map(|(_, columns)| columns).collect())
}

fn insert_sql(stream: &StreamPlan, table: &TargetTable) -> String {
    let columns: Vec<String> =
        stream.columns.iter().map(|c| quoted(&table.columns[c.target].physical)).collect();
    // never OR REPLACE: it deletes the row that is in the way, and with it its children
    format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
        quoted(&table.name),
        columns.join(", "),
        vec!["?"; columns.len()].join(", ")
    )
}

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}

/// One row on its way into its table.
struct Place<'a> {
    connection: &'a Connection,
    stream: &'a StreamPlan,
    table: &'a TargetTable,
    batch: &'a Batch,
    row: usize,
}

impl Place<'_> {
    fn physical(&self, column: usize) -> String {
        let target = self.stream.columns[column].target;
        quoted(&self.table.columns[target].physical)
    }

    fn key_is_null(&self) -> bool {
        let source = |k: &usize| self.stream.columns[*k].source;
        self.stream.key.iter().any(|k| self.batch.value(self.row, source(k)) == Value::Null)
    }

    fn failed(&self, cause: rusqlite::Error) -> Error {
        let key = key_of(self.stream, self.batch, self.row);
        let row = self.batch.first_row() + self.row as u64;
        let place = format!("{}: row {row} (key {key})", self.table.name);
        if cause.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
            return Error::new(Code::Value, format!("{place}: the target refuses it"))
                .because(cause)
                .hint("mend the value in the source and export again");
        }
        if extended_code(&cause) == ffi::SQLITE_MISMATCH {
            return Error::new(Code::Value, format!("{place}: the key is no integer"));
        }
        failed(Code::Target, format!("{place}: cannot be written"), cause)
    }

    /// Inserts the row; false if one of its unique values is taken.
    fn insert(&self, insert: &mut CachedStatement<'_>, row: &Batch) -> Result<bool> {
        for column in 0..self.stream.columns.len() {
            insert
                .raw_bind_parameter(column + 1, Bound(row.value(0, column)))
                .map_err(|e| self.failed(e))?;
        }
        insert.raw_execute().map(|changed| changed > 0).map_err(|e| self.failed(e))
    }

    /// Whether a row without a key was in the target, equal in every column, before this import.
    fn was_there_before(&self, row: &Batch, last_rowid: Option<i64>) -> Result<bool> {
        let Some(last_rowid) = last_rowid else { return Ok(false) };
        let same: Vec<String> = (0..self.stream.columns.len())
            .map(|n| format!("{} IS ?{}", self.physical(n), n + 1))
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {} AND rowid <= {last_rowid})",
            quoted(&self.table.name),
            same.join(" AND ")
        );
        let values = (0..self.stream.columns.len()).map(|n| Bound(row.value(0, n)));
        (self.connection.prepare_cached(&sql))
            .and_then(|mut found| found.query_row(rusqlite::params_from_iter(values), |r| r.get(0)))
            .map_err(|e| self.failed(e))
    }

    /// Compares the row with the one that is in its way: equal in every column, or an error.
    fn compare(&self, row: &Batch, unique: &[Vec<String>]) -> Result<()> {
        let Some(key) = self.stream.key.first() else { return Ok(()) };
        let columns: Vec<String> =
            (0..self.stream.columns.len()).map(|n| self.physical(n)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {} = ?",
            columns.join(", "),
            quoted(&self.table.name),
            self.physical(*key)
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(|e| self.failed(e))?;
        let mut found = statement.query([Bound(row.value(0, *key))]).map_err(|e| self.failed(e))?;
        let Some(there) = found.next().map_err(|e| self.failed(e))? else {
            return Err(self.taken(row, unique));
        };
        for n in 0..columns.len() {
            let stored = from_sqlite(there.get_ref(n).map_err(|e| self.failed(e))?);
            if !same(stored, row.value(0, n)) {
                return Err(self.conflict(&format!(
                    "the target has this row already, with another value in \"{}\"",
                    self.stream.columns[n].name
                )));
            }
        }
        Ok(())
    }

    /// The error of a row whose key is free but another unique value of which is taken.
    fn taken(&self, row: &Batch, unique: &[Vec<String>]) -> Error {
        let Some(key) = self.stream.key.first() else { return self.conflict("it is there") };
        for columns in unique {
            let given: Option<Vec<usize>> = columns.iter().map(|c| self.position(c)).collect();
            let Some(given) = given else { continue };
            let same: Vec<String> =
                given.iter().map(|n| format!("{} = ?", self.physical(*n))).collect();
            let sql = format!(
                "SELECT {} FROM {} WHERE {}",
                self.physical(*key),
                quoted(&self.table.name),
                same.join(" AND ")
            );
            let values = given.iter().map(|n| Bound(row.value(0, *n)));
            let other =
                self.connection.query_row(&sql, rusqlite::params_from_iter(values), |found| {
                    Ok(show(from_sqlite(found.get_ref(0)?)))
                });
            if let Ok(other) = other {
                return self.conflict(&format!(
                    "its {} belongs to the row with key {other} already",
                    columns.join(", ")
                ));
            }
        }
        self.conflict("one of its unique values is taken by another row")
    }

    fn position(&self, physical: &str) -> Option<usize> {
        let target = self.table.columns.iter().position(|c| c.physical == physical)?;
        self.stream.columns.iter().position(|c| c.target == target)
    }

    fn conflict(&self, what: &str) -> Error {
        let key = key_of(self.stream, self.batch, self.row);
        let row = self.batch.first_row() + self.row as u64;
        Error::new(Code::Conflict, format!("{}: row {row} (key {key}): {what}", self.table.name))
            .hint("import into an empty database, or remove that row from the target first")
    }

    /// Notes every reference of the row whose parent is not there yet.
    fn check_references(
        &self,
        row: &Batch,
        catalog: &Catalog,
        parents: &mut HashSet<(usize, Vec<u8>)>,
    ) -> Result<()> {
        for (n, reference) in self.table.references.iter().enumerate() {
            let column = self.stream.columns.iter().position(|c| c.target == reference.column);
            let Some(column) = column else { continue };
            let value = row.value(0, column);
            let remembered = match value {
                Value::Null => continue,
                Value::Text(bytes) => Some((reference.table, bytes.to_vec())),
                _ => None,
            };
            if remembered.as_ref().is_some_and(|r| parents.contains(r)) {
                continue;
            }
            let parent = &catalog.tables[reference.table];
            if parent_exists(self.connection, parent, value).map_err(|e| self.failed(e))? {
                if parents.len() >= PARENTS {
                    parents.clear();
                }
                parents.extend(remembered);
                continue;
            }
            let key = key_of(self.stream, self.batch, self.row);
            (self.connection)
                .prepare_cached("INSERT INTO temp.orphan VALUES (?, ?, ?, ?, ?)")
                .and_then(|mut note| {
                    let reference = i64::try_from(n).unwrap_or(0);
                    note.execute(rusqlite::params![
                        self.stream.stream,
                        reference,
                        key,
                        Bound(value),
                        show(value)
                    ])
                })
                .map_err(|e| self.failed(e))?;
        }
        Ok(())
    }
}

/// Whether two values are the same in class and bytes; of reals also in sign and NaN.
fn same(a: Value<'_>, b: Value<'_>) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

fn parent_exists(
    connection: &Connection,
    parent: &TargetTable,
    value: Value<'_>,
) -> rusqlite::Result<bool> {
    let key = parent.key.first().map_or("", |k| &parent.columns[*k].physical);
    let sql =
        format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} = ?)", quoted(&parent.name), quoted(key));
    connection.prepare_cached(&sql)?.query_row([Bound(value)], |row| row.get(0))
}

/// The references noted during the load whose parents have not come since.
fn orphans_left(
    connection: &Connection,
    stream: &StreamPlan,
    number: usize,
    table: &TargetTable,
    reference: &Reference,
    parent: &TargetTable,
) -> rusqlite::Result<Option<Orphans>> {
    let key = parent.key.first().map_or("", |k| &parent.columns[*k].physical);
    let from = format!(
        "FROM temp.orphan AS o WHERE stream = ?1 AND reference = ?2 AND NOT EXISTS \
         (SELECT 1 FROM {} AS p WHERE p.{} = o.value)",
        quoted(&parent.name),
        quoted(key)
    );
    let number = i64::try_from(number).unwrap_or(0);
    let which = rusqlite::params![stream.stream, number];
    let rows: i64 =
        connection.query_row(&format!("SELECT count(*) {from}"), which, |r| r.get(0))?;
    if rows == 0 {
        return Ok(None);
    }
    let mut statement =
        connection.prepare(&format!("SELECT key, shown {from} LIMIT {ORPHANS_NAMED}"))?;
    let first = statement.query_map(which, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Some(Orphans {
        stream: stream.stream.clone(),
        column: table.columns[reference.column].name.clone(),
        rows: rows.unsigned_abs(),
        first: first.collect::<rusqlite::Result<_>>()?,
    }))
}
