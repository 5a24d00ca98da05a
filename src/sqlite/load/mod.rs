//! A SQLite file as a target: one transaction in an existing file, or a new file that gets its
//! name only when it is whole.

mod batch;
mod conflict;
mod content;
mod dispute;
mod keys;
mod loading;
mod make_way;
mod own_rows;
mod part;
mod receipts;
mod references;
mod repoint;
mod row;
mod schema;
mod sidecar;
mod undo;
mod verify;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use rusqlite::{Connection, OpenFlags};

use self::content::MetRows;
use self::dispute::Disputed;
use self::keys::Keys;
use self::loading::{Progress, SqliteLoading};
use self::make_way::Moved;
use self::own_rows::{Outside, Seen};
use self::references::ReferenceCheck;
use self::repoint::{KnownAs, LooseRows};
use self::schema::{describe, named_checks_of};
use self::sidecar::{forget_gone_rows, note_columns};
use super::catalog::SqliteCatalog;
use super::history::WriteLock;
use super::new_file::NewFile;
use super::noting::Noting;
use super::snapshot::{Head, connect, harden, resolve, scratch};
use super::source::instance;
use super::writable::{Blocker, blocker};
use super::{CACHE_KIB, failed, quoted};
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchRecord, TableChanges};
use crate::layout::Layout;
use crate::load::row_sketch::RowSketch;
use crate::load::{
    CREATE_FILE, ConflictList, ExistingKey, ExistingKeys, KeysOf, Loading, PartKeys, Problems,
    StreamStats, Target, TargetOptions,
};
use crate::numbers::TableNumbers;
use crate::plan::{Plan, TablePlan};
use crate::policy::{OnOrphans, OwnRows};
use chronicle_archive::show_path;

/// The prepared statements that are kept: those of a table with several references and unique values.
const STATEMENTS: usize = 64;

/// A SQLite file that rows are loaded into.
pub struct SqliteTarget {
    connection: Connection,
    /// The existing file that is written.
    file: Option<PathBuf>,
    created: Option<NewFile>,
    catalog: Catalog,
    /// Of every table of the catalog, what distinguishes its rows.
    keys: Vec<Keys>,
    shown: String,
    /// How long another writer is waited for.
    write_lock: WriteLock,
    /// Whether its transaction has begun: it holds the rows of other archives.
    begun: bool,
    /// The batch that is recorded.
    batch: Option<Recorded>,
    /// What earlier archives of the batch have done.
    written: Vec<TableChanges>,
    /// The tables whose own rows do not stay.
    cleared: BTreeSet<usize>,
    /// The streams without a table whose stored rows do not stay.
    cleared_names: BTreeSet<String>,
    /// What refers to them from tables that no archive fills.
    outside: Vec<Outside>,
    /// How many archives the batch has loaded.
    archives: usize,
    /// The rows that it has found under another key than these archives.
    known_as: Vec<KnownAs>,
    /// The rows that they have brought and that refer to nothing.
    loose: Vec<LooseRows>,
    /// The rows of these archives of which only a later one tells whether they are there.
    disputed: Vec<Disputed>,
    /// Of a private copy that a check writes to.
    rehearsal: Option<Rehearsal>,
    /// The rows that a restore is about, if not all.
    part: Option<Box<dyn PartKeys>>,
}

/// A batch that is recorded.
struct Recorded {
    record: BatchRecord,
    /// Whether it gets receipts.
    receipts: bool,
    /// What it changes, from the start of its transaction on.
    noting: Option<Noting>,
}

/// What is known of the file that a private copy is in place of.
struct Rehearsal {
    /// Why it could not be written.
    blocker: Option<Blocker>,
}

impl SqliteTarget {
    /// Opens an existing file.
    ///
    /// # Errors
    /// If there is none, it cannot be written, or its tables are of no known layout.
    pub fn open(path: &Path, options: &TargetOptions, cancel: &Cancel) -> Result<SqliteTarget> {
        let file = existing(path)?;
        let connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(cannot_open)?;
        let target = SqliteTarget::over_existing(connection, path, &file, options, cancel)?;
        let write_lock = WriteLock::new(options.wait, cancel);
        Ok(SqliteTarget { file: Some(file), write_lock, ..target })
    }

    /// Opens a private copy of an existing file, for a check.
    ///
    /// # Errors
    /// As [`open`](SqliteTarget::open), but a file that cannot be written is a problem of the check, not an error.
    pub fn open_copy(
        path: &Path,
        options: &TargetOptions,
        cancel: &Cancel,
    ) -> Result<SqliteTarget> {
        let file = existing(path)?;
        let copy = scratch(&file, cancel)?;
        let target = SqliteTarget::over_existing(copy, path, &file, options, cancel)?;
        Ok(SqliteTarget { rehearsal: Some(Rehearsal { blocker: blocker(&file) }), ..target })
    }

    /// Makes a new file in a layout, under a name of its own until it is whole.
    ///
    /// # Errors
    /// If the file exists, or its directory cannot be written.
    pub fn create(path: &Path, layout: &Layout, cancel: &Cancel) -> Result<SqliteTarget> {
        let file = NewFile::reserve(path)?;
        let connection = connect(&file.partial, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let target = SqliteTarget::over_new(connection, path, layout, cancel)?;
        Ok(SqliteTarget { created: Some(file), ..target })
    }

    /// Makes the tables of a layout in no file at all, for a check.
    ///
    /// # Errors
    /// If the file exists, or its directory cannot be written.
    pub fn would_create(path: &Path, layout: &Layout, cancel: &Cancel) -> Result<SqliteTarget> {
        NewFile::would_be(path)?;
        // SQLite's name for a temporary database of one's own
        let target = SqliteTarget::over_new(Connection::open(""), path, layout, cancel)?;
        Ok(SqliteTarget { rehearsal: Some(Rehearsal { blocker: None }), ..target })
    }

    fn over_existing(
        mut connection: Connection,
        path: &Path,
        file: &Path,
        options: &TargetOptions,
        cancel: &Cancel,
    ) -> Result<SqliteTarget> {
        prepare(&mut connection, cancel).map_err(cannot_open)?;
        let wait = options.wait.map_or(Ok(()), |wait| connection.busy_timeout(wait));
        wait.map_err(cannot_open)?;
        let mut target = SqliteTarget::over(connection, options.layout.as_ref(), path)?;
        target.catalog.instance = instance(file);
        Ok(target)
    }

    fn over_new(
        opened: rusqlite::Result<Connection>,
        path: &Path,
        layout: &Layout,
        cancel: &Cancel,
    ) -> Result<SqliteTarget> {
        let ddl = layout.required_ddl()?;
        let created = opened.and_then(|mut c| {
            // nobody else knows the file: if we fail it is removed, so it needs no journal
            c.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
            c.execute_batch(ddl)?;
            prepare(&mut c, cancel)?;
            Ok(c)
        });
        let connection =
            created.map_err(|e| failed(Code::Target, "cannot create the database", e))?;
        let mut target = SqliteTarget::over(connection, Some(layout), path)?;
        target.catalog.instance = instance(path);
        Ok(target)
    }

    fn over(connection: Connection, forced: Option<&Layout>, path: &Path) -> Result<SqliteTarget> {
        let found = SqliteCatalog::read(&connection, forced)?;
        let catalog = describe(&connection, &found)?;
        let mut keys = Vec::new();
        for described in &catalog.tables {
            let table = found.tables.iter().find(|t| t.name == described.name);
            let table =
                table.ok_or_else(|| Error::new(Code::Internal, "a table without columns"))?;
            let named_checks = named_checks_of(&connection, &table.name)
                .map_err(|e| failed(Code::Target, "cannot read the tables", e))?;
            keys.push(Keys::of(table, described, named_checks)?);
        }
        Ok(SqliteTarget {
            connection,
            file: None,
            created: None,
            catalog,
            keys,
            shown: show_path(path.display()),
            write_lock: WriteLock::default(),
            begun: false,
            batch: None,
            written: Vec::new(),
            cleared: BTreeSet::new(),
            cleared_names: BTreeSet::new(),
            outside: Vec::new(),
            archives: 0,
            known_as: Vec::new(),
            loose: Vec::new(),
            disputed: Vec::new(),
            rehearsal: None,
            part: None,
        })
    }

    /// Starts the transaction, and prepares the tables for rows.
    fn begin_now(mut self, plan: Arc<Plan>) -> Result<SqliteLoading> {
        let forgotten = self.forget_given_numbers(&plan);
        let forgotten = forgotten.map_err(|e| failed(Code::Target, "cannot start to write", e));
        let streams = match forgotten.and_then(|()| self.prepare_streams(&plan)) {
            Ok(streams) => streams,
            Err(error) => return Err(self.undo(error)),
        };
        let known_as = std::mem::take(&mut self.known_as);
        let sidecar = plan.keeps_columns();
        let problems = self.rehearsal.as_ref().map(|rehearsal| {
            let mut problems = Problems::default();
            if let (Some(blocker), Some(stream)) = (&rehearsal.blocker, plan.streams.first()) {
                problems.blocker(stream.name(), &blocker.reason, &blocker.remedy);
            }
            problems
        });
        Ok(SqliteLoading { db: self, plan, streams, problems, sidecar, known_as, current: None })
    }

    /// Prepares the tables of a plan for rows, in the transaction, which is started with the first archive.
    fn prepare_streams(&mut self, plan: &Plan) -> Result<Vec<Progress>> {
        let cannot = |e| failed(Code::Target, "cannot start to write", e);
        if !self.begun {
            self.write_lock.begin(&self.connection)?;
            self.begun = true;
            self.start_noting()?;
        }
        fault::point("load: before rows are cleared")?;
        self.require_tables(plan)?;
        let gone = self.prepare_own_rows(plan)?;
        fault::point("load: after rows are cleared")?;
        let mut streams = Vec::new();
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(stream) = stream.table() else {
                streams.push(Progress::unmapped(number, stream.name()));
                continue;
            };
            let table = &self.catalog.tables[stream.table];
            self.keys[stream.table].require_unique(&self.connection, stream, table)?;
            fault::point("load: before columns are added")?;
            self.add_columns(stream).map_err(cannot)?;
            fault::point("load: after columns are added")?;
            let progress = self.begin_stream(plan, number, stream).map_err(cannot)?;
            if let Some(seen) = &progress.seen {
                self.see_others(stream, seen)?;
            }
            streams.push(progress);
        }
        for (number, rows) in gone {
            streams[number].loaded.deleted_rows = rows;
        }
        if plan.options.own_rows == OwnRows::Replaced && self.has_sidecar().map_err(cannot)? {
            for (number, stream) in plan.streams.iter().enumerate() {
                if stream.unmapped().is_some() {
                    let seen = Seen::of_entries(&self.connection, number).map_err(cannot)?;
                    streams[number].seen_whole = Some(seen);
                }
            }
        }
        if plan.keeps_columns() {
            note_columns(&self.connection, plan).map_err(cannot)?;
        }
        Ok(streams)
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
        // rows that are created for orphans go into the table, too
        let alone = !any && !shared && plan.options.orphans != Some(OnOrphans::Adopt);
        let places = (!alone).then(|| format!("temp.loaded_{number}"));
        if let Some(places) = &places {
            let columns = keys.places("t");
            self.connection.execute_batch(&format!(
                "CREATE TEMP TABLE {} AS SELECT {columns} FROM {name} AS t WHERE false",
                places.trim_start_matches("temp.")
            ))?;
        }
        let replaces = plan.options.own_rows == OwnRows::Replaced && any;
        let seen = replaces
            .then(|| {
                let places = keys.places("t");
                Seen::create(&self.connection, stream.table, &stream.table_name, &places)
            })
            .transpose()?;
        let matches = !stream.content.is_empty() && !stream.key.is_empty() && any;
        let met = matches
            .then(|| MetRows::create(&self.connection, stream.table, &stream.table_name, keys))
            .transpose()?;
        let values = vec!["?"; keys.place_width()].join(", ");
        Ok(Progress {
            seen,
            seen_whole: None,
            met,
            table: stream.table,
            loaded: StreamStats { stream: stream.stream.clone(), ..StreamStats::default() },
            last_rowid,
            sketch: RowSketch::new(
                stream.columns.iter().map(|c| c.ty.clone()).collect(),
                stream.key.clone(),
            ),
            note_place: places.as_ref().map(|t| format!("INSERT INTO {t} VALUES ({values})")),
            places,
            places_are_indexed: false,
            moved: Moved::of(number),
            conflicts: ConflictList::default(),
            disputed: Vec::new(),
            references: ReferenceCheck::all(number, stream, &self.catalog, keys),
            batch: self.batch_column(stream)?,
        })
    }
}

impl ExistingKeys for SqliteTarget {
    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        Box::pin(async move { self.existing_keys_now(ids, after) })
    }

    fn table_numbers(&mut self) -> BoxFuture<'_, Result<Vec<Option<TableNumbers>>>> {
        let numbers = self.table_numbers_now();
        Box::pin(async { numbers })
    }
}

impl Target for SqliteTarget {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn open_batch<'a>(
        &'a mut self,
        batch: &'a BatchRecord,
        receipts: bool,
    ) -> BoxFuture<'a, Result<bool>> {
        let opened = self.open_batch_now(batch, receipts);
        Box::pin(async { opened })
    }

    fn restrict(&mut self, part: Box<dyn PartKeys>) {
        self.part = Some(part);
    }

    fn rehearsal(self: Box<Self>) -> Box<dyn Target> {
        self
    }

    fn begin(
        self: Box<Self>,
        plan: Arc<Plan>,
        _: Cancel,
    ) -> BoxFuture<'static, Result<Box<dyn Loading>>> {
        Box::pin(async move { Ok(Box::new(self.begin_now(plan)?) as Box<dyn Loading>) })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        // dropping a new file removes it
        Box::pin(async move { drop(self) })
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        Box::pin(async move { self.undo(error) })
    }
}

/// The existing file that a path leads to.
fn existing(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        let shown = show_path(path.display());
        return Err(Error::new(Code::NotFound, format!("{shown}: no such file")).hint(CREATE_FILE));
    }
    let file = resolve(path)?;
    if Head::read(&file)?.empty {
        return Err(Error::new(Code::Layout, "the file is empty, not a Chronicle database")
            .hint("delete it and use --create"));
    }
    Ok(file)
}

fn cannot_open(e: rusqlite::Error) -> Error {
    failed(Code::Connect, "cannot open the database", e)
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
