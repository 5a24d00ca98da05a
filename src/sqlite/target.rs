//! A SQLite file as a target: one transaction in an existing file, or a new file that gets its
//! name only when it is whole.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use rusqlite::types::ToSqlOutput;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, ToSql, ffi};

use super::catalog::{SqliteCatalog, affinity};
use super::new_file::NewFile;
use super::snapshot::{Head, connect, harden, resolve, scratch};
use super::{extended_code, failed, from_sqlite, key_text, literal, quoted, to_sqlite};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::layout::{Backend, Layout};
use crate::plan::{Plan, StreamPlan};
use crate::readback::{Readback, differing, not_as_loaded};
use crate::record::{Batch, Value, show, show_path, show_text};
use crate::residue::{COLUMNS, RESIDUE, Residue, joined, kept_otherwise, original_id};
use crate::shape::key_of;
use crate::skip::{Step, skips};
use crate::source::{ORPHANS_NAMED, Orphans};
use crate::target::{
    Affinity, Catalog, Check, KnownId, Loaded, OnOrphans, Outcome, Problems, Purpose, Reference,
    Refused, Rows, Target, TargetColumn, TargetOptions, TargetTable, TargetType,
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
    rowids: Vec<bool>,
    purpose: Purpose,
    loading: Option<Loading>,
    shown: String,
    /// Found by a check: why the file cannot be written.
    barrier: Option<String>,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    streams: Vec<Progress>,
    parents: HashSet<(usize, Vec<u8>)>,
    problems: Problems,
    /// Whether our own tables are there.
    residue: bool,
}

/// What is kept of one stream.
struct Progress {
    loaded: Loaded,
    last_rowid: Option<i64>,
    /// The sums of the rows that were inserted.
    sums: Readback,
    /// Whether nothing but this stream's rows stands in its table.
    alone: bool,
}

/// A value that binds itself.
struct Bound<'a>(Value<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(to_sqlite(self.0))
    }
}

impl SqliteTarget {
    /// Opens an existing file; for a check, a private copy of it.
    ///
    /// # Errors
    /// If there is none, it cannot be written, or its tables are of no known layout.
    pub fn open(path: &Path, options: &TargetOptions, cancel: &Cancel) -> Result<SqliteTarget> {
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
        let cannot = |e| failed(Code::Connect, "cannot open the database", e);
        let mut connection = match options.purpose {
            Purpose::Load => connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(cannot)?,
            Purpose::Check => scratch(&path, cancel)?,
        };
        prepare(&mut connection, cancel).map_err(cannot)?;
        let layout = options.layout.as_ref();
        let mut target = SqliteTarget::over(connection, None, layout, shown, options)?;
        if options.purpose == Purpose::Check {
            target.barrier = barrier(&path);
        }
        Ok(target)
    }

    /// Makes a new file in a layout, under a name of its own until it is whole; for a check, in no
    /// file at all.
    ///
    /// # Errors
    /// If the file exists, or its directory cannot be written.
    pub fn create(
        path: &Path,
        layout: &Layout,
        options: &TargetOptions,
        cancel: &Cancel,
    ) -> Result<SqliteTarget> {
        let ddl = layout.required_ddl()?;
        let file = match options.purpose {
            Purpose::Load => Some(NewFile::reserve(path)?),
            Purpose::Check => NewFile::would_be(path).map(|()| None)?,
        };
        let made = match &file {
            Some(file) => connect(&file.partial, OpenFlags::SQLITE_OPEN_READ_WRITE),
            // SQLite's name for a temporary database of one's own
            None => Connection::open(""),
        };
        let connection = made
            .and_then(|mut c| {
                // nobody else knows the file: if we fail it is removed, so it needs no journal
                c.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
                c.execute_batch(ddl)?;
                prepare(&mut c, cancel)?;
                Ok(c)
            })
            .map_err(|e| failed(Code::Target, "cannot create the database", e))?;
        SqliteTarget::over(connection, file, Some(layout), show_path(path.display()), options)
    }

    fn over(
        connection: Connection,
        created: Option<NewFile>,
        forced: Option<&Layout>,
        shown: String,
        options: &TargetOptions,
    ) -> Result<SqliteTarget> {
        let found = SqliteCatalog::read(&connection, forced)?;
        let catalog = describe(&connection, &found)?;
        let (mut unique, mut rowids) = (Vec::new(), Vec::new());
        for table in &catalog.tables {
            let read = |e| failed(Code::Target, "cannot read the tables", e);
            unique.push(unique_columns(&connection, &table.name).map_err(read)?);
            rowids.push(found.tables.iter().any(|t| t.name == table.name && t.has_rowid));
        }
        let purpose = options.purpose;
        Ok(SqliteTarget {
            connection,
            created,
            catalog,
            unique,
            rowids,
            purpose,
            loading: None,
            shown,
            barrier: None,
        })
    }

    fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        let begun = self.connection.execute_batch(
            "BEGIN IMMEDIATE; \
             CREATE TEMP TABLE orphan (stream, reference, key, value, shown, place); \
             CREATE TEMP TABLE loaded (stream INTEGER, place);",
        );
        begun.map_err(|e| failed(Code::Target, "cannot start to write", e))?;
        let cannot = |e| failed(Code::Target, "cannot start to write", e);
        let mut streams = Vec::new();
        for (number, stream) in plan.streams.iter().enumerate() {
            if stream.apart.is_some() {
                streams.push(Progress {
                    loaded: Loaded { stream: stream.stream.clone(), ..Loaded::default() },
                    last_rowid: None,
                    sums: Readback::new(Vec::new(), Vec::new()),
                    alone: true,
                });
                continue;
            }
            self.require_key(stream)?;
            self.add_columns(stream).map_err(cannot)?;
            let sql = format!("SELECT max(rowid), count(*) FROM {}", quoted(&stream.table_name));
            // a table WITHOUT ROWID has no rows without a key, the only use of the first number
            let any = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&stream.table_name));
            let last_rowid = self.connection.query_row(&sql, [], |r| r.get(0)).unwrap_or(None);
            let any: bool = self.connection.query_row(&any, [], |r| r.get(0)).map_err(cannot)?;
            let shared = (plan.streams.iter().enumerate())
                .any(|(n, s)| n != number && s.apart.is_none() && s.table == stream.table);
            streams.push(Progress {
                loaded: Loaded { stream: stream.stream.clone(), ..Loaded::default() },
                last_rowid,
                sums: Readback::new(
                    stream.columns.iter().map(|c| c.ty.clone()).collect(),
                    stream.key.clone(),
                ),
                // sessions that are made for orphans stand there, too
                alone: !any && !shared && plan.options.orphans != Some(OnOrphans::Adopt),
            });
        }
        let residue = self.purpose == Purpose::Load && plan.keeps_columns();
        if residue {
            remember(&self.connection, &plan).map_err(cannot)?;
        }
        let (parents, mut problems) = (HashSet::new(), Problems::default());
        if let (Some(reason), Some(stream)) = (&self.barrier, plan.streams.first()) {
            problems.barrier(
                &stream.stream,
                reason,
                "make it writable, or import into another file",
            );
        }
        self.loading = Some(Loading { plan, streams, parents, problems, residue });
        Ok(())
    }

    /// Gives the table the columns that the plan adds.
    fn add_columns(&mut self, stream: &StreamPlan) -> rusqlite::Result<()> {
        for column in &stream.added {
            let ty = match column.ty {
                TargetType::Sqlite(Affinity::Numeric) => "INTEGER",
                TargetType::Sqlite(Affinity::Real) => "REAL",
                TargetType::Sqlite(Affinity::Blob) => "BLOB",
                _ => "TEXT",
            };
            self.connection.execute_batch(&format!(
                "ALTER TABLE {} ADD COLUMN {} {ty}",
                quoted(&stream.table_name),
                quoted(&column.physical)
            ))?;
            self.catalog.tables[stream.table].columns.push(column.clone());
        }
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

    /// The integers that rows of a table have as ids, beside those they had before.
    fn known_ids_now(&self, table: usize, name: Option<&str>) -> Result<Vec<KnownId>> {
        let table = &self.catalog.tables[table];
        let Some(key) = table.key.first() else { return Ok(Vec::new()) };
        let key = quoted(&table.columns[*key].physical);
        let kept = self.connection.table_exists(None, RESIDUE).unwrap_or(false);
        let origin = table.origin.map_or_else(
            || "NULL".into(),
            |origin| format!("CAST(t.{} AS TEXT)", quoted(&table.columns[origin].physical)),
        );
        let residue = match kept {
            true => format!(
                "(SELECT residue FROM {RESIDUE} AS r WHERE r.table_name = {} AND r.key = {})",
                literal(&table.name),
                key_text(&format!("t.{key}"))
            ),
            false => "NULL".into(),
        };
        let sql = format!(
            "SELECT {origin}, {residue}, t.{key} FROM {} AS t WHERE typeof(t.{key}) = 'integer'",
            quoted(&table.name)
        );
        let read = || -> rusqlite::Result<Vec<KnownId>> {
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                let (origin, residue): (Option<String>, Option<String>) =
                    (row.get(0)?, row.get(1)?);
                let original =
                    residue.as_deref().zip(name).and_then(|(kept, name)| original_id(kept, name));
                Ok((origin.or(original), row.get(2)?))
            })?;
            rows.collect()
        };
        read().map_err(|e| failed(Code::Target, format!("cannot read {}", table.name), e))
    }

    fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Refused>> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let plan = Arc::clone(&loading.plan);
        let stream = plan.streams.get(rows.stream).ok_or_else(not_begun)?;
        if stream.apart.is_some() {
            return self.write_apart(rows).map(|()| Vec::new());
        }
        let table = &self.catalog.tables[stream.table];
        let progress = &mut loading.streams[rows.stream];
        let sql = insert_sql(stream, table);
        let mut insert = (self.connection.prepare_cached(&sql))
            .map_err(|e| failed(Code::Target, format!("cannot write {}", table.name), e))?;
        let (mut refused, mut again) = (Vec::new(), Vec::new());
        for row in 0..rows.shaped.rows() {
            let place = Place { connection: &self.connection, stream, table, rows, row };
            let doubled = match place.key_is_null() {
                true => place.was_there_before(progress.last_rowid)?,
                false => false,
            };
            let inserted = match doubled {
                true => Ok(false),
                false => place.insert(&mut insert),
            };
            match inserted {
                Ok(true) => {
                    progress.loaded.inserted_rows += 1;
                    progress.sums.add(rows.shaped, row);
                    // before anything else is inserted, be it into a table of our own
                    let found_again = place.found_again(self.rowids[stream.table]);
                    place.note_loaded(progress.alone, &found_again)?;
                    place.check_references(&self.catalog, &mut loading.parents, &found_again)?;
                }
                Ok(false) => {
                    let compared = match doubled {
                        true => Ok(()),
                        false => place.compare(&self.unique[stream.table]),
                    };
                    match compared {
                        Err(e) if self.purpose == Purpose::Check && e.code() == Code::Conflict => {
                            loading.problems.add(stream, None, &e, &place.key());
                        }
                        compared => {
                            compared?;
                            progress.loaded.skipped_rows += 1;
                            again.push(row);
                        }
                    }
                }
                Err(error) if error.code() == Code::Value => refused.push(Refused { row, error }),
                Err(error) => return Err(error),
            }
        }
        if self.purpose == Purpose::Load && !rows.residue.is_empty() {
            let cannot = |e| failed(Code::Target, "cannot write what is kept beside the rows", e);
            if !loading.residue {
                // only now: who keeps nothing gets no tables of ours
                remember(&self.connection, &plan).map_err(cannot)?;
                loading.residue = true;
            }
            let lost = |row: usize| refused.iter().any(|r| r.row == row);
            let kept = rows.residue.iter().filter(|r| !lost(r.row) && !again.contains(&r.row));
            keep(&self.connection, &table.name, kept).map_err(cannot)?;
            for kept in rows.residue.iter().filter(|r| again.contains(&r.row)) {
                keep_again(&self.connection, &table.name, kept)?;
            }
        }
        Ok(refused)
    }

    /// Keeps rows that have no table; those that are there already stay as they are, as in a table.
    fn write_apart(&mut self, rows: &Rows<'_>) -> Result<()> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let loaded = &mut loading.streams[rows.stream].loaded;
        let all = rows.residue.len() as u64;
        if self.purpose == Purpose::Check || rows.residue.is_empty() {
            loaded.inserted_rows += all;
            return Ok(());
        }
        let (name, mut new) = (&loading.plan.streams[rows.stream].table_name, 0);
        for kept in rows.residue {
            new += u64::from(keep_again(&self.connection, name, kept)?);
        }
        loaded.inserted_rows += new;
        loaded.skipped_rows += all.saturating_sub(new);
        Ok(())
    }

    fn settle_now(&mut self) -> Result<Outcome> {
        let mut loading = self.loading.take().ok_or_else(not_begun)?;
        let orphans = loading.plan.options.orphans;
        let plan = Arc::clone(&loading.plan);
        let cannot = |e| failed(Code::Target, "cannot check the references", e);
        let (mut found, mut adopting) = (Vec::new(), Vec::new());
        for (number, stream) in plan.streams.iter().enumerate().filter(|(_, s)| s.apart.is_none()) {
            let table = &self.catalog.tables[stream.table];
            for (n, reference) in table.references.iter().enumerate() {
                let parent = &self.catalog.tables[reference.table];
                let left = orphans_left(&self.connection, stream, n, table, reference, parent);
                let Some(left) = left.map_err(cannot)? else { continue };
                match orphans {
                    Some(OnOrphans::Fail) if self.purpose == Purpose::Load => {
                        return Err(left.refused(false));
                    }
                    Some(OnOrphans::Fail) => {
                        loading.problems.orphans(&left);
                    }
                    Some(OnOrphans::Skip) => {
                        let skipped = self.skip(number, stream, &mut loading, n)?;
                        loading.streams[number].loaded.orphans_skipped += skipped;
                    }
                    Some(OnOrphans::Adopt) => {
                        adopting.push((number, n, reference));
                    }
                    // at rest SQLite enforces nothing, and Chronicle's own files hold orphans: keep
                    // them unless told otherwise
                    Some(OnOrphans::Keep) | None => {}
                }
                found.push(left);
            }
        }
        // what is made for them was never loaded, so it comes after the reading back
        self.read_back(&mut loading)?;
        for (number, n, reference) in adopting {
            let adopted = self.adopt(&plan.streams[number], n, reference)?;
            loading.streams[number].loaded.adopted_rows += adopted;
        }
        Ok(Outcome {
            loaded: loading.streams.iter().map(|s| s.loaded.clone()).collect(),
            orphans: found,
            problems: loading.problems.all(),
            notices: self.triggers(&plan).map_err(cannot)?,
        })
    }

    /// For a check, the triggers that an import will not fire.
    fn triggers(&self, plan: &Plan) -> rusqlite::Result<Vec<String>> {
        let mut said = Vec::new();
        for stream in plan.streams.iter().filter(|_| self.purpose == Purpose::Check) {
            let sql = "SELECT group_concat(name, ', ') FROM sqlite_schema \
                        WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE";
            let names: Option<String> =
                self.connection.query_row(sql, [&stream.table_name], |row| row.get(0))?;
            said.extend(names.map(|names| {
                format!(
                    "{}: these triggers will not fire: {}",
                    stream.table_name,
                    show_text(&names)
                )
            }));
        }
        Ok(said)
    }

    /// Takes the rows out again that refer to nothing.
    fn skip(
        &self,
        number: usize,
        stream: &StreamPlan,
        loading: &mut Loading,
        reference: usize,
    ) -> Result<u64> {
        let cannot = |e| failed(Code::Target, "cannot leave out rows without a session", e);
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[table.references[reference].table];
        let column = self.place_column(stream);
        let places = format!(
            "SELECT place FROM temp.orphan AS o WHERE stream = {} AND reference = {reference} \
             AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE p.{} = o.value)",
            literal(&stream.stream),
            quoted(&parent.name),
            parent.key.first().map_or_else(String::new, |k| quoted(&parent.columns[*k].physical)),
        );
        let sums = &mut loading.streams[number].sums;
        let condition = format!("{column} IN ({places})");
        self.each_row(stream, &condition, |batch| sums.take(batch, 0)).map_err(cannot)?;
        let name = quoted(&table.name);
        if loading.residue {
            let key = table
                .key
                .first()
                .map_or_else(String::new, |k| key_text(&quoted(&table.columns[*k].physical)));
            let sql = format!(
                "DELETE FROM {RESIDUE} WHERE table_name = {} AND key IN \
                 (SELECT {key} FROM {name} WHERE {condition})",
                literal(&table.name)
            );
            self.connection.execute(&sql, []).map_err(cannot)?;
        }
        let sql = format!("DELETE FROM {name} WHERE {condition}");
        let rows = self.connection.execute(&sql, []).map_err(cannot)? as u64;
        loading.streams[number].loaded.inserted_rows -= rows;
        Ok(rows)
    }

    /// Makes the sessions that rows refer to.
    fn adopt(&self, stream: &StreamPlan, number: usize, reference: &Reference) -> Result<u64> {
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let physical = |t: &TargetTable, name: &str| {
            t.columns.iter().find(|c| c.name == name).map(|c| quoted(&c.physical))
        };
        let Some(key) = parent.key.first().map(|k| &parent.columns[*k]) else { return Ok(0) };
        let column = self.place_column(stream);
        let at = physical(table, "timestamp").unwrap_or_else(|| "NULL".into());
        let mut columns = vec![(quoted(&key.physical), "o.value".to_owned())];
        for column in &parent.columns {
            let value = match column.name.as_str() {
                "start_time" => format!("min(t.{at})"),
                _ if column.name == key.name || !column.not_null || column.has_default => continue,
                _ if column.made_from.as_deref() == Some(&key.name) => {
                    "CAST(o.value AS TEXT)".into()
                }
                _ => column.otherwise.as_deref().map_or_else(|| "''".into(), literal),
            };
            columns.push((quoted(&column.physical), value));
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let sql = format!(
            "INSERT INTO {parent} ({}) SELECT {} FROM temp.orphan AS o JOIN {} AS t ON t.{column} = o.place \
              WHERE o.stream = {} AND o.reference = {number} \
                AND NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE p.{} = o.value) GROUP BY o.value",
            names.join(", "),
            values.join(", "),
            quoted(&table.name),
            literal(&stream.stream),
            quoted(&key.physical),
            parent = quoted(&parent.name),
        );
        self.connection
            .execute(&sql, [])
            .map(|rows| rows as u64)
            .map_err(|e| failed(Code::Target, "cannot make the sessions that rows refer to", e))
    }

    /// What finds a row of a table again: its rowid, or its key where it has none.
    fn place_column(&self, stream: &StreamPlan) -> String {
        let table = &self.catalog.tables[stream.table];
        match (self.rowids[stream.table], table.key.first()) {
            (false, Some(key)) => quoted(&table.columns[*key].physical),
            _ => "rowid".into(),
        }
    }

    /// Hands over the written columns of the rows that meet a condition.
    fn each_row(
        &self,
        stream: &StreamPlan,
        condition: &str,
        mut each: impl FnMut(&Batch),
    ) -> rusqlite::Result<()> {
        let table = &self.catalog.tables[stream.table];
        let columns: Vec<String> =
            stream.columns.iter().map(|c| quoted(&table.columns[c.target].physical)).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE {condition}", columns.join(", "), quoted(&table.name));
        let mut statement = self.connection.prepare(&sql)?;
        let (mut rows, mut batch) = (statement.query([])?, Batch::default());
        while let Some(row) = rows.next()? {
            batch.start(0, columns.len(), 1);
            for n in 0..columns.len() {
                batch.push(from_sqlite(row.get_ref(n)?));
            }
            each(&batch);
        }
        Ok(())
    }

    /// Compares what stands in the tables with what was loaded.
    fn read_back(&self, loading: &mut Loading) -> Result<()> {
        if skips(Step::Readback) {
            return Ok(());
        }
        let plan = Arc::clone(&loading.plan);
        let cannot = |e| failed(Code::Target, "cannot read back what was loaded", e);
        for (number, stream) in plan.streams.iter().enumerate().filter(|(_, s)| s.apart.is_none()) {
            let progress = &mut loading.streams[number];
            let condition = match progress.alone {
                true => "true".to_owned(),
                false => format!(
                    "{} IN (SELECT place FROM temp.loaded WHERE stream = {number})",
                    self.place_column(stream)
                ),
            };
            let mut found = progress.sums.another();
            self.each_row(stream, &condition, |batch| found.add(batch, 0)).map_err(cannot)?;
            if !found.differs(&progress.sums) {
                continue;
            }
            let mut first = None;
            self.each_row(stream, &condition, |batch| {
                if first.is_none() {
                    first = differing(stream, &mut found, &progress.sums, batch, 0);
                }
            })
            .map_err(cannot)?;
            return Err(not_as_loaded(stream, first, progress.sums.rows(), found.rows()));
        }
        Ok(())
    }

    fn commit_now(self) -> Result<()> {
        let commit = |c: &Connection| {
            c.execute_batch("DROP TABLE temp.orphan; DROP TABLE temp.loaded; COMMIT")
        };
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

    fn known_ids<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<KnownId>>> {
        Box::pin(async move { self.known_ids_now(table, origin) })
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Refused>>> {
        Box::pin(async move { self.write(rows) })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move { self.settle_now() })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.commit_now() })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        // closing the connection rolls back, dropping the new file removes it
        Box::pin(async move { drop(self) })
    }
}

/// Why a file could not be written, if that can be seen without writing.
fn barrier(path: &Path) -> Option<String> {
    let shown = show_path(path.display());
    if std::fs::OpenOptions::new().write(true).open(path).is_err() {
        return Some(format!("{shown} cannot be written"));
    }
    let directory = path.parent()?;
    let closed = directory.metadata().is_ok_and(|data| data.permissions().readonly());
    closed.then(|| format!("{}: no journal can be made there", show_path(directory.display())))
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

fn describe(connection: &Connection, found: &SqliteCatalog) -> Result<Catalog> {
    let streams = &found.layout.streams;
    let mut tables: Vec<TargetTable> = Vec::new();
    for stream in streams {
        let Some(table) = found.table(stream) else { continue };
        let mut columns: Vec<TargetColumn> = (table.stored())
            .map(|c| {
                let ty = TargetType::Sqlite(affinity(&c.declared));
                TargetColumn::new(stream, &c.name, ty, c.not_null, c.has_default)
            })
            .collect();
        let checks = checks(connection, &table.name)
            .map_err(|e| failed(Code::Target, "cannot read the tables", e))?;
        for (physical, check) in checks {
            let column = columns.iter_mut().find(|c| c.physical.eq_ignore_ascii_case(&physical));
            if let Some(column) = column {
                column.check = Some(check);
            }
        }
        let find = |name: &String| columns.iter().position(|c| c.name == *name);
        let references = (stream.references.iter())
            .filter_map(|(column, parent)| {
                let parent = streams.iter().find(|s| s.name == *parent)?;
                let table = found.table(parent).and_then(|_| {
                    streams
                        .iter()
                        .filter(|s| found.table(s).is_some())
                        .position(|s| s.name == parent.name)
                })?;
                Some(Reference { column: find(column)?, table, enforced: false })
            })
            .collect();
        let key = stream.key.iter().filter_map(find).collect();
        tables.push(TargetTable {
            name: table.name.clone(),
            stream: stream.name.clone(),
            role: stream.role,
            key,
            references,
            origin: stream.origin.as_ref().and_then(find),
            fold: stream.fold.as_ref().and_then(find),
            columns,
        });
    }
    Ok(Catalog { backend: Backend::Sqlite, layout: found.layout.title.clone(), tables })
}

/// The CHECKs of a table that we can foresee, as its own text says them.
fn checks(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, Check)>> {
    let sql: Option<String> = connection.query_row(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?",
        [table],
        |row| row.get(0),
    )?;
    let sql = sql.unwrap_or_default();
    let conditions = sql.match_indices("CHECK").filter_map(|(at, word)| {
        let rest = sql[at + word.len()..].trim_start();
        let mut depth = 0_i32;
        let end = rest.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        })?;
        Check::parse(rest.get(..=end)?)
    });
    Ok(conditions.collect())
}

/// Makes our own tables where they are missing, and notes the columns that are remembered.
fn remember(connection: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {RESIDUE} (table_name TEXT NOT NULL, key TEXT NOT NULL, \
             residue TEXT NOT NULL, PRIMARY KEY (table_name, key)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {COLUMNS} (table_name TEXT NOT NULL, name TEXT NOT NULL, \
             place INTEGER NOT NULL, kind TEXT NOT NULL, instant INTEGER NOT NULL, \
             utc INTEGER NOT NULL, PRIMARY KEY (table_name, name)) WITHOUT ROWID;"
    ))?;
    let sql = format!("INSERT OR IGNORE INTO {COLUMNS} VALUES (?, ?, ?, ?, ?, ?)");
    let mut insert = connection.prepare(&sql)?;
    for stream in &plan.streams {
        for (place, column) in &stream.remembered {
            let place = i64::try_from(*place).unwrap_or(i64::MAX);
            let (table, kind) = (&stream.table_name, column.kind.word());
            insert.execute((table, &column.name, place, kind, column.instant, column.utc))?;
        }
    }
    Ok(())
}

/// Joins what is kept beside a row that is there already with what comes with it again; true if
/// nothing was kept before.
fn keep_again(connection: &Connection, table: &str, kept: &Residue) -> Result<bool> {
    let cannot = |e| failed(Code::Target, "cannot write what is kept beside the rows", e);
    let sql = format!("SELECT residue FROM {RESIDUE} WHERE table_name = ? AND key = ?");
    let there: Option<String> = (connection.prepare_cached(&sql))
        .and_then(|mut found| found.query_row((table, &kept.key), |row| row.get(0)).optional())
        .map_err(cannot)?;
    let is_new = there.is_none();
    let text = match there {
        None => Some(kept.text.clone()),
        Some(there) => joined(&there, &kept.text)
            .map_err(|column| kept_otherwise(table, &kept.key, &column))?,
    };
    if let Some(text) = text {
        let kept = Residue { text, ..kept.clone() };
        keep(connection, table, std::iter::once(&kept)).map_err(cannot)?;
    }
    Ok(is_new)
}

/// Writes what is kept beside rows.
fn keep<'a>(
    connection: &Connection,
    table: &str,
    residue: impl Iterator<Item = &'a Residue>,
) -> rusqlite::Result<()> {
    let sql = format!("INSERT OR REPLACE INTO {RESIDUE} VALUES (?, ?, ?)");
    let mut insert = connection.prepare_cached(&sql)?;
    for kept in residue {
        insert.execute((table, &kept.key, &kept.text))?;
    }
    Ok(())
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
        "INSERT INTO {} ({}) VALUES ({}){}",
        quoted(&table.name),
        columns.join(", "),
        vec!["?"; columns.len()].join(", "),
        if skips(Step::Conflicts) { "" } else { " ON CONFLICT DO NOTHING" }
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
    rows: &'a Rows<'a>,
    row: usize,
}

impl Place<'_> {
    fn physical(&self, column: usize) -> String {
        let target = self.stream.columns[column].target;
        quoted(&self.table.columns[target].physical)
    }

    fn value(&self, column: usize) -> Value<'_> {
        self.rows.shaped.value(self.row, column)
    }

    /// The key of the row in the archive.
    fn key(&self) -> String {
        key_of(self.stream, self.rows.source, self.rows.from[self.row])
    }

    /// The row's place in the archive and its key, for messages.
    fn place(&self) -> String {
        let number = self.rows.source.first_row() + self.rows.from[self.row] as u64;
        format!("{}: row {number} (key {})", self.table.name, self.key())
    }

    fn key_is_null(&self) -> bool {
        self.stream.key.iter().any(|k| self.value(*k) == Value::Null)
    }

    /// Notes which row was inserted last, if rows of others stand in the table too.
    fn note_loaded(&self, alone: bool, found_again: &rusqlite::types::Value) -> Result<()> {
        if alone {
            return Ok(());
        }
        let stream = i64::try_from(self.rows.stream).unwrap_or(0);
        let note = (self.connection).prepare_cached("INSERT INTO temp.loaded VALUES (?, ?)");
        note.and_then(|mut note| note.execute((stream, found_again)))
            .map(|_| ())
            .map_err(|e| self.failed(e))
    }

    /// What finds the row that was inserted last again.
    fn found_again(&self, has_rowid: bool) -> rusqlite::types::Value {
        match (has_rowid, self.stream.key.first()) {
            (false, Some(key)) => match to_sqlite(self.value(*key)) {
                ToSqlOutput::Borrowed(value) => {
                    value.try_into().unwrap_or(rusqlite::types::Value::Null)
                }
                _ => rusqlite::types::Value::Null,
            },
            _ => rusqlite::types::Value::Integer(self.connection.last_insert_rowid()),
        }
    }

    fn failed(&self, cause: rusqlite::Error) -> Error {
        let place = self.place();
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
    fn insert(&self, insert: &mut CachedStatement<'_>) -> Result<bool> {
        for column in 0..self.stream.columns.len() {
            insert
                .raw_bind_parameter(column + 1, Bound(self.value(column)))
                .map_err(|e| self.failed(e))?;
        }
        insert.raw_execute().map(|changed| changed > 0).map_err(|e| self.failed(e))
    }

    /// Whether a row without a key was in the target, equal in every column, before this import.
    fn was_there_before(&self, last_rowid: Option<i64>) -> Result<bool> {
        let Some(last_rowid) = last_rowid else { return Ok(false) };
        let same: Vec<String> = (0..self.stream.columns.len())
            .map(|n| format!("{} IS ?{}", self.physical(n), n + 1))
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {} AND rowid <= {last_rowid})",
            quoted(&self.table.name),
            same.join(" AND ")
        );
        let values = (0..self.stream.columns.len()).map(|n| Bound(self.value(n)));
        (self.connection.prepare_cached(&sql))
            .and_then(|mut found| found.query_row(rusqlite::params_from_iter(values), |r| r.get(0)))
            .map_err(|e| self.failed(e))
    }

    /// Compares the row with the one that is in its way: equal in every column, or an error.
    fn compare(&self, unique: &[Vec<String>]) -> Result<()> {
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
        let mut found = statement.query([Bound(self.value(*key))]).map_err(|e| self.failed(e))?;
        let Some(there) = found.next().map_err(|e| self.failed(e))? else {
            return Err(self.taken(unique));
        };
        for n in 0..columns.len() {
            let stored = from_sqlite(there.get_ref(n).map_err(|e| self.failed(e))?);
            if !same(stored, self.value(n)) {
                return Err(self.conflict(&format!(
                    "the target has this row already, with another value in \"{}\"",
                    self.stream.columns[n].name
                )));
            }
        }
        Ok(())
    }

    /// The error of a row whose key is free but another unique value of which is taken.
    fn taken(&self, unique: &[Vec<String>]) -> Error {
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
            let values = given.iter().map(|n| Bound(self.value(*n)));
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
        Error::new(Code::Conflict, format!("{}: {what}", self.place()))
            .hint("import into an empty database, or remove that row from the target first")
    }

    /// Notes every reference of the row whose parent is not there yet.
    fn check_references(
        &self,
        catalog: &Catalog,
        parents: &mut HashSet<(usize, Vec<u8>)>,
        found_again: &rusqlite::types::Value,
    ) -> Result<()> {
        if skips(Step::References) {
            return Ok(());
        }
        for (n, reference) in self.table.references.iter().enumerate() {
            let column = self.stream.columns.iter().position(|c| c.target == reference.column);
            let Some(column) = column else { continue };
            let value = self.value(column);
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
            let key = self.key();
            (self.connection)
                .prepare_cached("INSERT INTO temp.orphan VALUES (?, ?, ?, ?, ?, ?)")
                .and_then(|mut note| {
                    let reference = i64::try_from(n).unwrap_or(0);
                    note.execute(rusqlite::params![
                        self.stream.stream,
                        reference,
                        key,
                        Bound(value),
                        show(value),
                        found_again
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
