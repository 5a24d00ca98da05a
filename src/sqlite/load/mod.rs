//! A SQLite file as a target: one transaction in an existing file, or a new file that gets its
//! name only when it is whole.

mod keys;
mod references;
mod row;
mod schema;
mod sidecar;
mod verify;

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use rusqlite::{Connection, OpenFlags};

use self::keys::Keys;
use self::references::ReferenceCheck;
use self::row::{IncomingRow, Inserted, insert_sql};
use self::schema::{blocker, describe};
use self::sidecar::{forget_gone_rows, note_columns, store};
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
    ExistingKey, ImportStats, KeysOf, Problems, Purpose, Rejected, Rows, StreamStats, Target,
    TargetOptions,
};
use crate::plan::{Plan, TablePlan};
use crate::policy::OnOrphans;
use crate::policy::OnUnrepresentable;
use chronicle_archive::show_path;

/// SQLite's page cache in KiB: enough that the indexes of some hundred thousand rows stay in it.
const CACHE_KIB: i64 = 40 << 10;
/// The prepared statements that are kept: those of a table with several references and unique values.
const STATEMENTS: usize = 64;

/// A SQLite file that rows are loaded into.
pub struct SqliteTarget {
    connection: Connection,
    created: Option<NewFile>,
    catalog: Catalog,
    /// Of every table of the catalog, what tells its rows apart.
    keys: Vec<Keys>,
    purpose: Purpose,
    loading: Option<Loading>,
    shown: String,
    /// Found by a check: why the file cannot be written.
    blocker: Option<String>,
}

/// What is known between batches.
struct Loading {
    plan: Arc<Plan>,
    streams: Vec<Progress>,
    problems: Problems,
    /// Whether our own tables are there.
    sidecar: bool,
}

/// What is known of one stream.
struct Progress {
    /// The table of its rows, if they have one.
    table: usize,
    loaded: StreamStats,
    /// The highest rowid before this import.
    last_rowid: Option<i64>,
    /// The sums of the rows that were inserted.
    sketch: RowSketch,
    /// The temporary table of the places of these rows; none if the table holds no others.
    places: Option<String>,
    /// SQL that notes a place there.
    note_place: Option<String>,
    /// The references of its rows.
    references: Vec<ReferenceCheck>,
}

impl Progress {
    /// The progress of a stream that has no table.
    fn unmapped(stream: &str) -> Progress {
        Progress {
            table: 0,
            loaded: StreamStats { stream: stream.to_owned(), ..StreamStats::default() },
            last_rowid: None,
            sketch: RowSketch::new(Vec::new(), Vec::new()),
            places: None,
            note_place: None,
            references: Vec::new(),
        }
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
        let mut keys = Vec::new();
        for described in &catalog.tables {
            let table = found.tables.iter().find(|t| t.name == described.name);
            let table =
                table.ok_or_else(|| Error::new(Code::Internal, "a table without columns"))?;
            keys.push(Keys::of(table, described)?);
        }
        let purpose = options.purpose;
        Ok(SqliteTarget {
            connection,
            created,
            catalog,
            keys,
            purpose,
            loading: None,
            shown,
            blocker: None,
        })
    }

    fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        let cannot = |e| failed(Code::Target, "cannot start to write", e);
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(cannot)?;
        let mut streams = Vec::new();
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(stream) = stream.table() else {
                streams.push(Progress::unmapped(stream.name()));
                continue;
            };
            let table = &self.catalog.tables[stream.table];
            self.keys[stream.table].require_unique(&self.connection, stream, table)?;
            self.add_columns(stream).map_err(cannot)?;
            streams.push(self.begin_stream(&plan, number, stream).map_err(cannot)?);
        }
        let sidecar = self.purpose == Purpose::Load && plan.keeps_columns();
        if sidecar {
            note_columns(&self.connection, &plan).map_err(cannot)?;
        }
        let mut problems = Problems::default();
        if let (Some(reason), Some(stream)) = (&self.blocker, plan.streams.first()) {
            problems.blocker(
                stream.name(),
                reason,
                "make it writable, or import into another file",
            );
        }
        self.loading = Some(Loading { plan, streams, problems, sidecar });
        Ok(())
    }

    /// Prepares the loading of a stream that has a table.
    fn begin_stream(
        &self,
        plan: &Plan,
        number: usize,
        stream: &TablePlan,
    ) -> rusqlite::Result<Progress> {
        let (name, keys) = (quoted(&stream.table_name), &self.keys[stream.table]);
        let ask = |sql: &str| self.connection.query_row(sql, [], |row| row.get(0));
        let last_rowid = match keys.has_rowid {
            true => ask(&format!("SELECT max({}) FROM {name}", keys.place_columns()))?,
            false => None,
        };
        let any = ask(&format!("SELECT EXISTS (SELECT 1 FROM {name})"))? == Some(1);
        if !any {
            forget_gone_rows(&self.connection, &stream.table_name)?;
        }
        let shared = plan.tables().any(|(n, s)| n != number && s.table == stream.table);
        // rows that are made for orphans come into the table, too
        let alone = !any && !shared && plan.options.orphans != Some(OnOrphans::Adopt);
        let places = (!alone).then(|| format!("temp.loaded_{number}"));
        if let Some(places) = &places {
            let columns = keys.places("t");
            self.connection.execute_batch(&format!(
                "CREATE TEMP TABLE {} AS SELECT {columns} FROM {name} AS t WHERE false",
                places.trim_start_matches("temp.")
            ))?;
        }
        let values = vec!["?"; keys.place_width()].join(", ");
        Ok(Progress {
            table: stream.table,
            loaded: StreamStats { stream: stream.stream.clone(), ..StreamStats::default() },
            last_rowid,
            sketch: RowSketch::new(
                stream.columns.iter().map(|c| c.ty.clone()).collect(),
                stream.key.clone(),
            ),
            note_place: places.as_ref().map(|t| format!("INSERT INTO {t} VALUES ({values})")),
            places,
            references: ReferenceCheck::all(number, stream, &self.catalog, keys),
        })
    }

    fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
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

    fn write_table(&mut self, stream: &TablePlan, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let (table, keys) = (&self.catalog.tables[stream.table], &self.keys[stream.table]);
        let progress = &mut loading.streams[rows.stream];
        let mut insert = (self.connection.prepare_cached(&insert_sql(stream, table, keys)))
            .map_err(|e| failed(Code::Target, format!("cannot write {}", table.name), e))?;
        let (mut rejected, mut present) = (Vec::new(), Vec::new());
        for row in 0..rows.rows.rows() {
            let incoming =
                IncomingRow { connection: &self.connection, stream, table, keys, rows, row };
            let known = incoming.key_is_null() && incoming.was_there_before(progress.last_rowid)?;
            let inserted = match known {
                true => Inserted::UniqueValueTaken,
                false => incoming.insert(&mut insert)?,
            };
            let cause = match inserted {
                Inserted::At(place) => {
                    progress.loaded.inserted_rows += 1;
                    progress.sketch.add(rows.rows, row);
                    incoming.note_loaded(progress.note_place.as_deref(), &place)?;
                    incoming.check_references(&mut progress.references, &place)?;
                    continue;
                }
                Inserted::Rejected(cause) => Some(cause),
                Inserted::UniqueValueTaken if known => None,
                Inserted::UniqueValueTaken => incoming.compare()?,
            };
            match cause {
                Some(cause) => rejected.push(Rejected { row, cause }),
                None => {
                    progress.loaded.skipped_rows += 1;
                    present.push(row);
                }
            }
        }
        drop(insert);
        self.store_sidecar(&stream.table_name, rows, &rejected, &present)?;
        Ok(rejected)
    }

    fn finalize_now(&mut self) -> Result<ImportStats> {
        let mut loading = self.loading.take().ok_or_else(not_begun)?;
        let (orphans, adopting) = self.settle_references(&mut loading)?;
        // what is made for them was never loaded, so it comes after the reading back
        self.verify_load(&loading)?;
        let plan = Arc::clone(&loading.plan);
        let preserves = plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let cannot = |e| failed(Code::Target, "cannot check the references", e);
        for (stream, check) in adopting {
            let (parent, adopted) = self.adopt(&loading, stream, check)?;
            loading.streams[stream].loaded.adopted_rows += adopted.len() as u64;
            if loading.sidecar && preserves {
                store(&self.connection, parent, adopted.iter()).map_err(cannot)?;
            }
        }
        Ok(ImportStats {
            loaded: loading.streams.iter().map(|s| s.loaded.clone()).collect(),
            orphans,
            problems: loading.problems.all(),
            notices: self.triggers(&plan).map_err(cannot)?,
        })
    }

    fn commit_now(self) -> Result<()> {
        self.connection.execute_batch("COMMIT").map_err(|e| {
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
        Box::pin(async move { self.existing_keys_now(ids, after) })
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        Box::pin(async move { self.write(rows) })
    }

    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>> {
        Box::pin(async move { self.finalize_now() })
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
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let stop = cancel.clone();
    connection.progress_handler(10_000, Some(move || stop.is_set()))
}

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}
