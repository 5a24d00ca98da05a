//! A SQLite database as a source: a thread that reads its snapshot and hands batches over.

use std::path::Path;
use std::sync::mpsc as recycle;
use std::thread::JoinHandle;

use futures::future::BoxFuture;
use rusqlite::Connection;
use rusqlite::types::Type;
use tokio::sync::mpsc;

use uuid::Uuid;

use super::catalog::{DeclaredReference, SqliteCatalog, SqliteTable, kind};
use super::history::{self, is_own};
use super::narrow::Tests;
use super::new_file::NewFile;
use super::query::{Output, Query};
use super::snapshot::{self, Snapshot};
use super::{failed, key_text, literal, quoted, row_text, shown_key};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::history::stated;
use crate::identity::instance_of;
use crate::layout::{Layout, LayoutStream};
use crate::notice::{Notice, NoticeKind};
use crate::numbers::has_integer_key;
use crate::sidecar::{
    COLUMNS, DEFAULT, OriginalColumn, Recipe, Restorer, SIDECAR, UNMAPPED_PREFIX, UnmappedStream,
    WHOLE_ROW, default_columns, unmapped, with_sidecar,
};
use crate::source::{ORPHANS_NAMED, Orphans, Reading, Source, SourceOptions};
use chronicle_archive::Origin;
use chronicle_archive::show_count;
use chronicle_archive::{Batch, Column, Kind, Stream, show_text};

/// The batches that wait between the reading thread and the rest.
const BATCHES_AHEAD: usize = 2;

/// A SQLite database that is being read.
pub struct SqliteSource {
    origin: Origin,
    streams: Vec<Stream>,
    notices: Vec<Notice>,
    expected_rows: u64,
    /// What reads, while it does not.
    idle: Option<Box<Reader>>,
    running: Option<Running>,
    has_ended: bool,
    orphans: Vec<Orphans>,
}

/// What reads the tables.
struct Reader {
    connection: Connection,
    catalog: SqliteCatalog,
    streams: Vec<Stream>,
    queries: Vec<Query>,
}

/// A thread that reads.
struct Running {
    batches: mpsc::Receiver<Batch>,
    used: recycle::Sender<Batch>,
    reader: JoinHandle<(Result<Vec<Orphans>>, Box<Reader>)>,
}

impl SqliteSource {
    /// Opens a snapshot of a file and starts to read it: its rows as stored, and how those of
    /// each stream are restored.
    ///
    /// # Errors
    /// If the file cannot be opened or its tables are of no known layout.
    pub fn open(
        path: &Path,
        options: &SourceOptions,
        cancel: &Cancel,
    ) -> Result<(SqliteSource, Vec<Option<Recipe>>)> {
        let Snapshot { connection, notice } = snapshot::open(path, cancel)?;
        let catalog = SqliteCatalog::read(&connection, options.layout.as_ref())?;
        let mut notices: Vec<Notice> = notice.into_iter().collect();
        let read = |e| failed(Code::Source, "cannot read the database", e);
        notices.extend(left_out(&connection, &catalog).map_err(read)?);
        let mut tables = Vec::new();
        let mut expected_rows = 0;
        for described in &catalog.layout.streams {
            let Some(table) = catalog.table(described) else { continue };
            let stream = describe(&connection, described, table, options.sorted)?;
            expected_rows += count(&connection, &table.name).map_err(read)?;
            tables.push(match options.as_stored {
                true => stored(&connection, described, stream, table).map_err(read)?,
                false => restorable(&connection, described, stream, table).map_err(read)?,
            });
        }
        tables.extend(unmapped_streams(&connection, &catalog.layout).map_err(read)?);
        let (mut streams, mut queries, mut recipes) = (Vec::new(), Vec::new(), Vec::new());
        for TableReading { stream, query, recipe } in tables {
            streams.push(stream);
            queries.push(query);
            recipes.push(recipe);
        }
        let mut origin = origin(path, &catalog.layout, options.reproducible);
        if !options.reproducible && streams.iter().any(has_integer_key) {
            let numbered = streams.iter().filter(|stream| has_integer_key(stream));
            let tables = numbered.map(|stream| (stream.name.as_str(), stream.table.as_str()));
            // rows go out also where a later version has written a history that this one cannot read
            origin.numbers = stated(&history::read(&connection).unwrap_or_default(), tables);
        }
        let reader = Reader { connection, catalog, streams: streams.clone(), queries };
        let source = SqliteSource {
            origin,
            streams,
            notices,
            expected_rows,
            idle: Some(Box::new(reader)),
            running: None,
            has_ended: false,
            orphans: Vec::new(),
        };
        Ok((source, recipes))
    }

    /// Starts the thread: everything is read, or what is asked for.
    fn start(&mut self, readings: Option<Vec<Reading>>) -> Result<()> {
        self.stop()?;
        let Some(reader) = self.idle.take() else { return Ok(()) };
        let (to_us, batches) = mpsc::channel(BATCHES_AHEAD);
        let (used, to_reader) = recycle::channel();
        let output = Output { to_us, used: to_reader };
        let reader = std::thread::Builder::new()
            .name("sqlite".into())
            .spawn(move || {
                let read = match &readings {
                    None => reader.read_all(&output),
                    Some(readings) => reader.read_some(readings, &output).map(|()| Vec::new()),
                };
                (read, reader)
            })
            .map_err(|e| Error::new(Code::Internal, "cannot start a thread").because(e))?;
        self.running = Some(Running { batches, used, reader });
        Ok(())
    }

    /// Waits for the thread, which has ended or is about to.
    fn stop(&mut self) -> Result<()> {
        let Some(Running { batches, used, reader }) = self.running.take() else { return Ok(()) };
        drop((batches, used));
        let failed = |_| Error::new(Code::Internal, "the reading thread has failed");
        let (read, reader) = reader.join().map_err(failed)?;
        self.idle = Some(reader);
        self.orphans = read?;
        Ok(())
    }
}

impl Reader {
    /// Reads all tables; gives the orphans in them, unless nobody wants the rest.
    fn read_all(&self, output: &Output) -> Result<Vec<Orphans>> {
        for (n, query) in self.queries.iter().enumerate() {
            if !query.run(&self.connection, n, output)? {
                return Ok(Vec::new());
            }
        }
        orphans(&self.connection, &self.catalog, &self.streams, &self.queries)
    }

    /// Reads what is asked for.
    fn read_some(&self, readings: &[Reading], output: &Output) -> Result<()> {
        let mut tests = Tests::default();
        let conditions: Vec<String> = (readings.iter().enumerate())
            .map(|(n, reading)| {
                let narrowing = reading.narrowing.as_ref();
                narrowing.map_or_else(String::new, |by| tests.condition(by, n, &self.streams))
            })
            .collect();
        tests
            .install(&self.connection)
            .map_err(|e| failed(Code::Internal, "cannot select rows", e))?;
        let tables = self.queries.iter().zip(readings).zip(conditions).enumerate();
        for (n, ((query, reading), condition)) in tables.filter(|(_, ((_, r), _))| !r.skip) {
            if !query.narrowed(reading, &condition).run(&self.connection, n, output)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Source for SqliteSource {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    fn expected_rows(&self) -> u64 {
        self.expected_rows
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if self.running.is_none() && !self.has_ended {
                self.start(None)?;
            }
            let Some(running) = &mut self.running else { return Ok(false) };
            match running.batches.recv().await {
                Some(next) => {
                    let _ = running.used.send(std::mem::replace(batch, next));
                    Ok(true)
                }
                // the thread has let go of the channel: everything was read, or it failed
                None => {
                    self.has_ended = true;
                    self.stop().map(|()| false)
                }
            }
        })
    }

    fn begin(&mut self, readings: Vec<Reading>) -> BoxFuture<'_, Result<()>> {
        self.has_ended = false;
        let started = self.start(Some(readings));
        Box::pin(async { started })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>> {
        Box::pin(async move {
            self.stop()?;
            Ok(std::mem::take(&mut self.orphans))
        })
    }
}

/// The archive's stream for a table, with what its key can promise.
fn describe(
    connection: &Connection,
    described: &LayoutStream,
    table: &SqliteTable,
    sorted: bool,
) -> Result<Stream> {
    let columns =
        table.stored().map(|c| described.archive_column(&c.name, kind(&c.declared))).collect();
    let mut stream = described.archive_stream(columns, sorted)?;
    for key in stream.key.clone() {
        let column = &stream.columns[key];
        // SQLite lets most keys be NULL and many be of any class: a record shows null for what is not
        // of the column's kind, but for a text key, which shows any value
        let name = quoted(&column.physical);
        let odd = match column.kind {
            Kind::Text => format!("{name} IS NULL"),
            Kind::Int => format!("typeof({name}) <> 'integer'"),
            Kind::Bytes => format!("typeof({name}) <> 'blob'"),
            Kind::Real => format!("typeof({name}) <> 'real' OR abs({name}) = 9e999"),
            _ => "true".into(),
        };
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {odd})", quoted(&table.name));
        stream.columns[key].nullable = connection
            .query_row(&sql, [], |row| row.get(0))
            .map_err(|e| failed(Code::Source, format!("cannot read {}", table.name), e))?;
    }
    Ok(stream)
}

fn origin(path: &Path, layout: &Layout, reproducible: bool) -> Origin {
    let machine = |text: Option<String>| text.filter(|_| !reproducible);
    Origin {
        backend: layout.backend.word().into(),
        layout: Some(layout.name.clone()),
        instance: machine(instance(path).map(|name| name.to_string())),
        server: machine(Some(format!("SQLite {}", rusqlite::version()))),
        time_zone: machine(time_zone()),
        ..Origin::default()
    }
}

/// The name of a file among all: of its machine, where the machine has an id, and its place there, where it is or
/// will be.
pub(super) fn instance(path: &Path) -> Option<Uuid> {
    let ids = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let machine = ids.iter().find_map(|id| std::fs::read_to_string(id).ok()).unwrap_or_default();
    let path = snapshot::resolve(path).ok().or_else(|| NewFile::place(path))?;
    let parts = [b"sqlite", machine.trim().as_bytes(), path.as_os_str().as_encoded_bytes()];
    Some(instance_of(&parts))
}

/// The zone whose wall time Chronicle's hooks write: `TZ` goes before the machine's own.
fn time_zone() -> Option<String> {
    let named = std::env::var("TZ").ok().map(|tz| tz.trim_start_matches(':').to_owned());
    named
        .filter(|tz| chronicle_archive::time::parse_zone(tz).is_some())
        .or_else(|| iana_time_zone::get_timezone().ok())
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM {}", quoted(table));
    connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// What is in the file and not in the archive, in words.
fn left_out(connection: &Connection, catalog: &SqliteCatalog) -> rusqlite::Result<Vec<Notice>> {
    let mut notices = Vec::new();
    for table in catalog.others() {
        let rows = count(connection, &table.name)?;
        let (name, rows) = (show_text(&table.name), show_count(rows, "rows"));
        let text = format!("table {name} is not exported ({rows})");
        notices.push(Notice::new(NoticeKind::TableNotExported, text));
    }
    for stream in &catalog.layout.streams {
        for column in catalog.table(stream).into_iter().flat_map(|t| &t.columns) {
            if column.generated {
                let (table, column) = (&stream.table, show_text(&column.name));
                let text = format!("{table}.{column} is not exported; SQLite computes it");
                notices.push(Notice::new(NoticeKind::ComputedColumn, text));
            }
        }
    }
    Ok(notices)
}

/// How a stream is read.
struct TableReading {
    /// The stream as stored.
    stream: Stream,
    query: Query,
    /// How its rows are restored, if anything is stored of them.
    recipe: Option<Recipe>,
}

/// The reading of a table with the entries of its rows.
fn stored(
    connection: &Connection,
    described: &LayoutStream,
    stream: Stream,
    table: &SqliteTable,
) -> rusqlite::Result<TableReading> {
    let (rows, entry) = match connection.table_exists(None, SIDECAR)? {
        true => (with_entries(&stream, None), "r.entry"),
        false => (all_rows(table), "NULL"),
    };
    let batch = batch_column(connection, described, &stream)?;
    let query = Query::new(&stream, table, rows, batch.as_ref(), Some(entry));
    Ok(TableReading { stream: with_sidecar(stream), query, recipe: None })
}

/// The column that holds ids of batches, with SQL that is true for those of the file's own history; none without either.
fn batch_column(
    connection: &Connection,
    described: &LayoutStream,
    stream: &Stream,
) -> rusqlite::Result<Option<(String, String)>> {
    let column = described.batch.as_ref().and_then(|name| stream.column(name));
    let Some(column) = column.map(|n| &stream.columns[n]) else { return Ok(None) };
    let own = is_own(connection, &format!("t.{}", quoted(&column.physical)))?;
    Ok(own.map(|own| (column.name.clone(), own)))
}

/// All rows `t` of a table, as SQL that ends in a condition.
fn all_rows(table: &SqliteTable) -> String {
    format!("{} AS t WHERE true", quoted(&table.name))
}

/// The streams that had no table when they were loaded: their rows are in our own.
fn unmapped_streams(
    connection: &Connection,
    layout: &Layout,
) -> rusqlite::Result<Vec<TableReading>> {
    if !connection.table_exists(None, SIDECAR)? || !connection.table_exists(None, COLUMNS)? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DISTINCT table_name FROM {COLUMNS} WHERE table_name LIKE '{UNMAPPED_PREFIX}%' ORDER BY 1"
    );
    let mut statement = connection.prepare(&sql)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for name in names {
        let name = name?;
        let original_columns = original_columns(connection, &name)?;
        let Some(UnmappedStream { stored, recipe }) = unmapped(&name, &original_columns) else {
            continue;
        };
        if layout.streams.iter().any(|s| s.name == stored.name) {
            continue;
        }
        let query = Query {
            table: stored.table.clone(),
            rows: format!("{SIDECAR} WHERE table_name = {}", literal(&name)),
            columns: vec!["entry".into()],
            order: vec!["key".into()],
            leader: None,
        };
        found.push(TableReading { stream: stored, query, recipe: Some(recipe) });
    }
    Ok(found)
}

/// The columns that the rows of a table had where they came from.
fn original_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<OriginalColumn>> {
    let sql = format!(
        "SELECT table_name, name, place, kind, time_text FROM {COLUMNS} \
         WHERE table_name = ? ORDER BY place"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([table], original_column)?;
    rows.collect()
}

fn original_column(row: &rusqlite::Row<'_>) -> rusqlite::Result<OriginalColumn> {
    let name: String = row.get("name")?;
    let unknown = |at: &str, word: &str| {
        let column = row.as_ref().column_index(at).unwrap_or_default();
        let what = format!("column {}: unknown {at} \"{}\"", show_text(&name), show_text(word));
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
    };
    let (kind, word): (String, String) = (row.get("kind")?, row.get("time_text")?);
    let time_text = super::read_time_text(&word).ok_or_else(|| unknown("time_text", &word))?;
    Ok(OriginalColumn {
        table: row.get("table_name")?,
        place: usize::from(row.get::<_, u16>("place")?),
        column: Column {
            physical: name.clone(),
            kind: Kind::from_word(&kind).ok_or_else(|| unknown("kind", &kind))?,
            name,
            nullable: true,
            time_text,
        },
    })
}

/// The reading of a table whose rows are restored, if the sidecar table says anything of them.
fn restorable(
    connection: &Connection,
    described: &LayoutStream,
    stream: Stream,
    table: &SqliteTable,
) -> rusqlite::Result<TableReading> {
    let batch = batch_column(connection, described, &stream)?;
    let plain = |stream: Stream| {
        let query = Query::new(&stream, table, all_rows(table), batch.as_ref(), None);
        Ok(TableReading { stream, query, recipe: None })
    };
    if !connection.table_exists(None, SIDECAR)? || !connection.table_exists(None, COLUMNS)? {
        return plain(stream);
    }
    let name = literal(&stream.table);
    let original_columns = original_columns(connection, &stream.table)?;
    let any = format!("SELECT EXISTS (SELECT 1 FROM {SIDECAR} WHERE table_name = {name})");
    if original_columns.is_empty() && !connection.query_row(&any, [], |row| row.get(0))? {
        return plain(stream);
    }
    let only = not_created_by_import(connection, &stream)?;
    let rows = with_entries(&stream, only.as_deref());
    let mut fillers = Vec::new();
    let has_default = |name: &str| table.columns.iter().any(|c| c.name == name && c.has_default);
    for column in default_columns(described, &stream, &original_columns, has_default) {
        let name = quoted(&column.physical);
        let default = literal(&format!("$.{}.{DEFAULT}", quoted(&column.name)));
        let default = format!("json_extract(r.entry, {default})");
        let sql = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM {rows} AND {default} IS NOT CAST(t.{name} AS TEXT)) \
                AND EXISTS (SELECT 1 FROM {rows} AND {default} IS NOT NULL)",
        );
        if connection.query_row(&sql, [], |row| row.get(0))? {
            fillers.push(column.name.clone());
        }
    }
    let (original, restorer) =
        Restorer::new(&stream, &original_columns, described.fold.as_deref(), &fillers);
    let query = Query::new(&stream, table, rows, batch.as_ref(), Some("r.entry"));
    let recipe = Some(Recipe { original, restorer });
    Ok(TableReading { stream: with_sidecar(stream), query, recipe })
}

/// SQL that is true for all rows except those that an import created and nobody has edited since; None if there are
/// none.
fn not_created_by_import(
    connection: &Connection,
    stream: &Stream,
) -> rusqlite::Result<Option<String>> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {SIDECAR} WHERE table_name = {} \
         AND entry LIKE '{{\"{WHOLE_ROW}\"%')",
        literal(&stream.table)
    );
    let any: bool = connection.query_row(&sql, [], |row| row.get(0))?;
    let row = row_text("t.", stream.columns.iter().map(|c| &c.physical));
    let default = format!("json_extract(r.entry, '$.\"{WHOLE_ROW}\".{DEFAULT}')");
    Ok(any.then(|| format!("{default} IS NOT {row}")))
}

/// The rows `t` of a table for which a condition is true, with their entries `r`, as SQL that ends in a condition.
fn with_entries(stream: &Stream, only: Option<&str>) -> String {
    let key: Vec<String> = (stream.key.iter())
        .map(|k| format!("t.{}", quoted(&stream.columns[*k].physical)))
        .collect();
    format!(
        "{} AS t LEFT JOIN {SIDECAR} AS r ON r.table_name = {} AND r.key = {} WHERE {}",
        quoted(&stream.table),
        literal(&stream.table),
        key_text(&key),
        only.unwrap_or("true")
    )
}

/// Counts the rows whose parent is missing; they are exported anyway.
fn orphans(
    connection: &Connection,
    catalog: &SqliteCatalog,
    streams: &[Stream],
    queries: &[Query],
) -> Result<Vec<Orphans>> {
    let mut found = Vec::new();
    for described in &catalog.layout.streams {
        let Some(child) = streams.iter().find(|s| s.name == described.name) else { continue };
        for reference in catalog.references(described) {
            let parent = &catalog.layout.streams[reference.parent];
            let rows = streams.iter().zip(queries).find(|(s, _)| s.name == parent.name);
            let Some((_, query)) = rows else { continue };
            let counted = orphans_of(connection, described, child, &reference, &query.rows)
                .map_err(|e| failed(Code::Source, format!("cannot check {}", child.table), e))?;
            found.extend(counted);
        }
    }
    Ok(found)
}

/// The rows of a stream that refer by one reference to none of `parents`.
fn orphans_of(
    connection: &Connection,
    described: &LayoutStream,
    child: &Stream,
    reference: &DeclaredReference,
    parents: &str,
) -> rusqlite::Result<Option<Orphans>> {
    let refers: Vec<String> =
        reference.columns.iter().map(|name| format!("child.{}", quoted(name))).collect();
    let any: Vec<String> = refers.iter().map(|name| format!("{name} IS NOT NULL")).collect();
    // the child's side without collation and affinity, as SQLite compares foreign keys
    let same: Vec<String> = (refers.iter().zip(&reference.parent_columns))
        .map(|(from, to)| format!("t.{} = +{from}", quoted(to)))
        .collect();
    let from = format!(
        "FROM {} AS child WHERE {} AND NOT EXISTS (SELECT 1 FROM {parents} AND {})",
        quoted(&child.table),
        any.join(" AND "),
        same.join(" AND "),
    );
    let rows: i64 = connection.query_row(&format!("SELECT count(*) {from}"), [], |r| r.get(0))?;
    if rows == 0 {
        return Ok(None);
    }
    let key: Vec<String> = (child.key.iter())
        .map(|k| format!("child.{}", quoted(&child.columns[*k].physical)))
        .collect();
    let sql =
        format!("SELECT {}, {} {from} LIMIT {ORPHANS_NAMED}", shown_key(&key), shown_key(&refers));
    let mut statement = connection.prepare(&sql)?;
    let samples = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let names: Vec<String> = reference.columns.iter().map(|c| described.logical(c)).collect();
    Ok(Some(Orphans {
        stream: child.name.clone(),
        column: names.join(", "),
        rows: rows.unsigned_abs(),
        samples: samples.collect::<rusqlite::Result<_>>()?,
    }))
}
