//! A SQLite file as a target: one transaction in an existing file, or a new file that gets its
//! name only when it is whole.

mod references;
mod row;
mod schema;
mod sidecar;
mod verify;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use rusqlite::{Connection, OpenFlags};

use self::references::orphans_left;
use self::row::{Place, insert_sql};
use self::schema::{blocker, describe, unique_columns};
use self::sidecar::{keep, keep_again, remember};
use super::catalog::SqliteCatalog;
use super::new_file::NewFile;
use super::snapshot::{Head, connect, harden, resolve, scratch};
use super::source::instance;
use super::{failed, quoted};
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::load::row_sketch::RowSketch;
use crate::load::{
    ExistingKey, ImportStats, KeysOf, Problems, Purpose, Refused, Rows, StreamStats, Target,
    TargetOptions,
};
use crate::plan::{Plan, TablePlan};
use crate::policy::OnOrphans;
use crate::policy::OnUnrepresentable;
use chronicle_archive::show_path;

/// SQLite's page cache in KiB: enough that the indexes of some hundred thousand rows stay in it.
const CACHE_KIB: i64 = 40 << 10;

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
    blocker: Option<String>,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    streams: Vec<Progress>,
    parents: HashSet<(usize, Vec<u8>)>,
    problems: Problems,
    /// Whether our own tables are there.
    sidecar: bool,
}

/// What is kept of one stream.
struct Progress {
    loaded: StreamStats,
    last_rowid: Option<i64>,
    /// The sums of the rows that were inserted.
    sums: RowSketch,
    /// Whether nothing but this stream's rows stands in its table.
    alone: bool,
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
            target.blocker = blocker(&path);
        }
        target.catalog.instance = instance(&path);
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
            blocker: None,
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
            let Some(stream) = stream.table() else {
                let stream = stream.name().to_owned();
                streams.push(Progress {
                    loaded: StreamStats { stream, ..StreamStats::default() },
                    last_rowid: None,
                    sums: RowSketch::new(Vec::new(), Vec::new()),
                    alone: true,
                });
                continue;
            };
            self.require_key(stream)?;
            self.add_columns(stream).map_err(cannot)?;
            let sql = format!("SELECT max(rowid), count(*) FROM {}", quoted(&stream.table_name));
            // a table WITHOUT ROWID has no rows without a key, the only use of the first number
            let any = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&stream.table_name));
            let last_rowid = self.connection.query_row(&sql, [], |r| r.get(0)).unwrap_or(None);
            let any: bool = self.connection.query_row(&any, [], |r| r.get(0)).map_err(cannot)?;
            let shared = plan.tables().any(|(n, s)| n != number && s.table == stream.table);
            streams.push(Progress {
                loaded: StreamStats { stream: stream.stream.clone(), ..StreamStats::default() },
                last_rowid,
                sums: RowSketch::new(
                    stream.columns.iter().map(|c| c.ty.clone()).collect(),
                    stream.key.clone(),
                ),
                // sessions that are made for orphans stand there, too
                alone: !any && !shared && plan.options.orphans != Some(OnOrphans::Adopt),
            });
        }
        let sidecar = self.purpose == Purpose::Load && plan.keeps_columns();
        if sidecar {
            remember(&self.connection, &plan).map_err(cannot)?;
        }
        let (parents, mut problems) = (HashSet::new(), Problems::default());
        if let (Some(reason), Some(stream)) = (&self.blocker, plan.streams.first()) {
            problems.blocker(
                stream.name(),
                reason,
                "make it writable, or import into another file",
            );
        }
        self.loading = Some(Loading { plan, streams, parents, problems, sidecar });
        Ok(())
    }

    fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Refused>> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let plan = Arc::clone(&loading.plan);
        let planned = plan.streams.get(rows.stream).ok_or_else(not_begun)?;
        let refused = match planned.table() {
            Some(stream) => self.write_table(stream, rows)?,
            None => Vec::new(),
        };
        if let Some(unmapped) = planned.unmapped() {
            self.write_whole(unmapped, rows, &refused)?;
        }
        Ok(refused)
    }

    fn write_table(&mut self, stream: &TablePlan, rows: &Rows<'_>) -> Result<Vec<Refused>> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let plan = Arc::clone(&loading.plan);
        let table = &self.catalog.tables[stream.table];
        let progress = &mut loading.streams[rows.stream];
        let sql = insert_sql(stream, table);
        let mut insert = (self.connection.prepare_cached(&sql))
            .map_err(|e| failed(Code::Target, format!("cannot write {}", table.name), e))?;
        let (mut refused, mut again) = (Vec::new(), Vec::new());
        for row in 0..rows.rows.rows() {
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
                    progress.sums.add(rows.rows, row);
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
                            loading.problems.add(&stream.stream, None, &e, &place.key());
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
        if self.purpose == Purpose::Load && !rows.sidecar.is_empty() {
            let cannot = |e| failed(Code::Target, "cannot write what is kept beside the rows", e);
            if !loading.sidecar {
                // only now: who keeps nothing gets no tables of ours
                remember(&self.connection, &plan).map_err(cannot)?;
                loading.sidecar = true;
            }
            let lost = |row: usize| refused.iter().any(|r| r.row == row);
            let kept = rows.sidecar.iter().filter(|r| !lost(r.row) && !again.contains(&r.row));
            keep(&self.connection, &table.name, kept).map_err(cannot)?;
            for kept in rows.sidecar.iter().filter(|r| again.contains(&r.row)) {
                keep_again(&self.connection, &table.name, kept)?;
            }
        }
        Ok(refused)
    }

    fn settle_now(&mut self) -> Result<ImportStats> {
        let mut loading = self.loading.take().ok_or_else(not_begun)?;
        let orphans = loading.plan.options.orphans;
        let plan = Arc::clone(&loading.plan);
        let cannot = |e| failed(Code::Target, "cannot check the references", e);
        let (mut found, mut adopting) = (Vec::new(), Vec::new());
        for (number, stream) in plan.tables() {
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
                    // other rows than sessions would be empty
                    Some(OnOrphans::Adopt) if parent.adoptable => {
                        adopting.push((number, n, reference));
                    }
                    // at rest SQLite enforces nothing, and Chronicle's own files hold orphans: keep
                    // them unless told otherwise
                    Some(OnOrphans::Keep | OnOrphans::Adopt) | None => {}
                }
                found.push(left);
            }
        }
        // what is made for them was never loaded, so it comes after the reading back
        self.read_back(&mut loading)?;
        let preserves = plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        for (number, n, reference) in adopting {
            let Some(stream) = plan.streams[number].table() else { continue };
            let adopted = self.adopt(stream, n, reference)?;
            loading.streams[number].loaded.adopted_rows += adopted.len() as u64;
            if loading.sidecar && preserves {
                let parent = &self.catalog.tables[reference.table].name;
                keep(&self.connection, parent, adopted.iter()).map_err(cannot)?;
            }
        }
        Ok(ImportStats {
            loaded: loading.streams.iter().map(|s| s.loaded.clone()).collect(),
            orphans: found,
            problems: loading.problems.all(),
            notices: self.triggers(&plan).map_err(cannot)?,
        })
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

    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        Box::pin(async move { self.known_ids_now(ids, after) })
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Refused>>> {
        Box::pin(async move { self.write(rows) })
    }

    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>> {
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

/// Prepares a connection for loading: nothing of the schema acts by itself.
fn prepare(connection: &mut Connection, cancel: &Cancel) -> rusqlite::Result<()> {
    harden(connection)?;
    // on by default in the bundled library; references are checked by us, for every row loaded
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let stop = cancel.clone();
    connection.progress_handler(10_000, Some(move || stop.is_set()))
}

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}
