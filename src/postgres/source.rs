//! A Postgres database as a source: one read-only snapshot, its tables by binary COPY.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio_postgres::CopyOutStream;

use uuid::Uuid;

use super::catalog::{PgCatalog, PgColumn, PgTable, others};
use super::connection::{Connection, SNAPSHOT};
use super::conninfo::ConnInfo;
use super::copy_codec::{Field, RowReader};
use super::history::{HistoryTables, readable_history};
use super::originals::{OWN, original_columns, own_tables, restorable, with_entries};
use super::own_tables::OwnTables;
use super::{key_text, narrow, quoted};
use crate::error::{Code, Error, Result};
use crate::history::stated;
use crate::identity::instance_of;
use crate::layout::LayoutStream;
use crate::notice::{Notice, NoticeKind};
use crate::numbers::has_integer_key;
use crate::sidecar::{Recipe, UNMAPPED_PREFIX, UnmappedStream, unmapped, with_sidecar};
use crate::source::{ORPHANS_NAMED, Orphans, Reading, Source, SourceOptions};
use chronicle_archive::{Batch, Kind, NumberRange, Origin, Stream, TimeText};

/// A batch is handed over when it holds this many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A Postgres database that is being read.
pub struct PgSource {
    connection: Connection,
    catalog: PgCatalog,
    origin: Origin,
    streams: Vec<Stream>,
    tables: Vec<TableCopy>,
    notices: Vec<Notice>,
    expected_rows: u64,
    running: Option<Running>,
    next: usize,
    /// What is asked for, if not everything is.
    readings: Option<Vec<Reading>>,
}

/// What is read with the rows of a table.
#[derive(Clone, Copy)]
enum Entries<'a> {
    /// The table does not exist.
    None,
    /// Entries as a column of their own, NULL if there are no tables of ours; rows that fail a condition are
    /// left out.
    Column(Option<&'a OwnTables>, Option<&'a str>),
}

/// How a table is read.
struct TableCopy {
    name: String,
    /// Its rows `t`, as SQL that ends in a condition.
    rows: String,
    /// The columns that are read, as SQL.
    columns: Vec<String>,
    /// What orders them, as SQL; nothing if they come in any order.
    order: Vec<String>,
    fields: Vec<Field>,
}

/// The COPY of a table.
struct Running {
    table: usize,
    stream: Pin<Box<CopyOutStream>>,
    reader: RowReader,
    rows: u64,
}

impl PgSource {
    /// Connects and starts the snapshot: rows as stored, and how those of each stream are restored.
    ///
    /// # Errors
    /// If the server cannot be reached, or its tables are of no known layout.
    pub async fn open(
        info: &ConnInfo,
        options: &SourceOptions,
    ) -> Result<(PgSource, Vec<Option<Recipe>>)> {
        let connection = Connection::open(info).await?;
        connection.begin(Code::Source, "cannot start a snapshot", SNAPSHOT).await?;
        let catalog =
            PgCatalog::read(&connection, info.schema.as_deref(), options.layout.as_ref()).await?;
        let mut notices = connection.notices();
        notices.extend(others(&catalog));
        let (mut streams, mut tables, mut recipes) = (Vec::new(), Vec::new(), Vec::new());
        let mut expected_rows = 0;
        for described in &catalog.layout.streams {
            let Some(table) = catalog.table(described) else { continue };
            notices.extend(computed(table));
            let stream = describe(described, table, options.sorted)?;
            expected_rows += table.rows;
            let own = own_tables(&connection, &catalog, &mut notices).await?;
            let found = match &own {
                Some(own) if !options.as_stored => {
                    restorable(&connection, &catalog, own, described, &stream).await?
                }
                _ => None,
            };
            let only = found.as_ref().and_then(|(_, only)| only.as_deref());
            let entries = match (own.as_ref(), options.as_stored || found.is_some()) {
                (own, true) => Entries::Column(own, only),
                (_, false) => Entries::None,
            };
            let batches = batches(&connection, &catalog, described).await?;
            tables.push(TableCopy::new(&catalog, table, &stream, entries, batches));
            streams.push(match entries {
                Entries::Column(..) => with_sidecar(stream),
                Entries::None => stream,
            });
            recipes.push(found.map(|(recipe, _)| recipe));
        }
        for (UnmappedStream { stored, recipe }, copy) in
            unmapped_streams(&connection, &catalog, &mut notices).await?
        {
            tables.push(copy);
            streams.push(stored);
            recipes.push(Some(recipe));
        }
        let version = connection.version;
        let instance = match options.reproducible {
            true => None,
            false => Some(instance(&connection, &catalog.schema).await?.to_string()),
        };
        let origin = Origin {
            backend: catalog.layout.backend.word().into(),
            layout: Some(catalog.layout.name.clone()),
            schema: Some(catalog.schema.clone()).filter(|_| !options.reproducible),
            server: (!options.reproducible)
                .then(|| format!("PostgreSQL {}.{}", version / 10_000, version % 10_000)),
            instance,
            numbers: numbers(&connection, &catalog.schema, &streams, options.reproducible).await?,
            ..Origin::default()
        };
        let source = PgSource {
            connection,
            catalog,
            origin,
            streams,
            tables,
            notices,
            expected_rows,
            running: None,
            next: 0,
            readings: None,
        };
        Ok((source, recipes))
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        let skips = |n: usize, all: &[Reading]| all.get(n).is_some_and(|reading| reading.skip);
        while self.running.is_some() || self.next < self.tables.len() {
            if self.running.is_none() && self.readings.as_ref().is_some_and(|r| skips(self.next, r))
            {
                self.next += 1;
                continue;
            }
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.start_next().await?,
            };
            let table = &self.tables[running.table];
            batch.start(running.table, table.fields.len(), running.rows + 1);
            while !running.reader.ended() && batch.size() < BATCH_BYTES {
                match running.stream.next().await {
                    Some(Ok(bytes)) => running.reader.feed(bytes),
                    Some(Err(e)) => {
                        let what = format!("cannot read {}", table.name);
                        return Err(self.connection.failed(Code::Source, what, e));
                    }
                    None => break,
                }
                running.reader.read(&table.fields, batch)?;
            }
            running.rows += batch.rows() as u64;
            if !running.reader.ended() && batch.rows() > 0 {
                self.running = Some(running);
                return Ok(true);
            }
            if !running.reader.ended() {
                return Err(Error::new(
                    Code::Source,
                    format!("{}: the server stopped in the middle", table.name),
                ));
            }
            finish(&self.connection, &table.name, running.stream).await?;
            if batch.rows() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn start_next(&mut self) -> Result<Running> {
        let table = self.next;
        self.next += 1;
        let reading = self.readings.as_ref().and_then(|all| all.get(table));
        let narrowing = reading.and_then(|reading| reading.narrowing.as_ref());
        let full_name = |stream: &Stream| self.catalog.full_name(&stream.table);
        let condition = narrowing.map_or_else(String::new, |narrowing| {
            narrow::condition(narrowing, table, &self.streams, full_name)
        });
        let copy = &self.tables[table];
        let sql = copy.sql(reading, &condition);
        let stream = self.connection.client.copy_out(sql.as_str()).await.map_err(|e| {
            self.connection.failed(Code::Source, format!("cannot read {}", copy.name), e)
        })?;
        Ok(Running { table, stream: Box::pin(stream), reader: RowReader::default(), rows: 0 })
    }
}

/// What people may want to know of the columns of a table that the server computes.
pub(super) fn computed(table: &PgTable) -> impl Iterator<Item = Notice> {
    table.computed.iter().map(|column| {
        let text = format!("{}.{column} is not exported; the server computes it", table.name);
        Notice::new(NoticeKind::ComputedColumn, text)
    })
}

/// Whose the integer ids of streams are, as an archive states it.
async fn numbers(
    connection: &Connection,
    schema: &str,
    streams: &[Stream],
    reproducible: bool,
) -> Result<BTreeMap<String, Vec<NumberRange>>> {
    let numbered = || streams.iter().filter(|stream| has_integer_key(stream));
    if reproducible || numbered().next().is_none() {
        return Ok(BTreeMap::new());
    }
    let history = readable_history(connection, schema).await?;
    Ok(stated(&history, numbered().map(|stream| (stream.name.as_str(), stream.table.as_str()))))
}

/// The name of a schema among all: of its cluster, where this role may ask for it, its database and
/// its own name.
pub(super) async fn instance(connection: &Connection, schema: &str) -> Result<Uuid> {
    let ask = async |sql: &str| -> Result<Option<String>> {
        let what = "cannot read the database's name";
        let rows = connection.read(Code::Source, what, sql, |row| row.text()).await?;
        Ok(rows.into_iter().next())
    };
    let may =
        "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";
    let cluster = match ask(may).await?.as_deref() {
        Some("t") => {
            ask("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").await?
        }
        _ => None,
    };
    let database = ask("SELECT pg_catalog.current_database()::text").await?;
    let [cluster, database] = [cluster, database].map(Option::unwrap_or_default);
    let parts = [b"postgres", cluster.as_bytes(), database.as_bytes(), schema.as_bytes()];
    Ok(instance_of(&parts))
}

/// Waits for the server's word that the COPY went well.
async fn finish(
    connection: &Connection,
    table: &str,
    mut stream: Pin<Box<CopyOutStream>>,
) -> Result<()> {
    while let Some(rest) = stream.next().await {
        rest.map_err(|e| connection.failed(Code::Source, format!("cannot read {table}"), e))?;
    }
    Ok(())
}

impl TableCopy {
    fn new(
        catalog: &PgCatalog,
        table: &PgTable,
        stream: &Stream,
        entries: Entries<'_>,
        batches: Option<(String, HistoryTables)>,
    ) -> TableCopy {
        let mut columns: Vec<String> = table.columns.iter().map(select).collect();
        for (column, stored) in columns.iter_mut().zip(&stream.columns) {
            if let Some((_, history)) = batches.as_ref().filter(|(name, _)| *name == stored.name) {
                *column =
                    format!("CASE WHEN {} THEN NULL ELSE {column} END", history.is_own(column));
            }
        }
        let mut fields: Vec<Field> = table.columns.iter().map(field).collect();
        let mut from = format!("{} t WHERE true", catalog.full_name(&table.name));
        match entries {
            Entries::None => {}
            Entries::Column(None, _) => {
                columns.push("NULL::text".into());
                fields.push(Field::Text);
            }
            Entries::Column(Some(own), only) => {
                columns.push("r.entry".into());
                fields.push(Field::Text);
                from = with_entries(catalog, own, stream, only);
            }
        }
        let order = (stream.order.iter()).filter_map(|n| table.columns.get(*n)).map(|c| {
            // byte order, whatever the database's own collation is
            let collate = if c.kind() == Kind::Text { " COLLATE \"C\"" } else { "" };
            format!("t.{}{collate}", quoted(&c.name))
        });
        let order = order.collect();
        TableCopy { name: table.name.clone(), rows: from, columns, order, fields }
    }

    /// The COPY of what is asked for; `condition` is SQL that is true for the rows that are wanted, behind AND.
    fn sql(&self, reading: Option<&Reading>, condition: &str) -> String {
        let wanted = reading.and_then(|reading| reading.columns.as_ref());
        let is_wanted = |n: usize| wanted.is_none_or(|all| all.get(n) == Some(&true));
        // the value of any other column is nobody's business
        let column = |(n, column): (usize, &String)| match is_wanted(n) {
            true => column.clone(),
            false => "NULL".to_owned(),
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        let is_ordered = reading.is_none_or(|reading| reading.is_ordered);
        let order = match self.order.is_empty() || !is_ordered {
            true => String::new(),
            false => format!(" ORDER BY {}", self.order.join(", ")),
        };
        let (columns, rows) = (columns.join(", "), &self.rows);
        format!("COPY (SELECT {columns} FROM {rows}{condition}{order}) TO STDOUT (FORMAT binary)")
    }
}

/// The column of a stream that holds ids of batches, and the history whose own are no data.
async fn batches(
    connection: &Connection,
    catalog: &PgCatalog,
    described: &LayoutStream,
) -> Result<Option<(String, HistoryTables)>> {
    let Some(column) = described.batch.clone() else { return Ok(None) };
    let found = HistoryTables::readable(connection, Code::Source, &catalog.schema).await?;
    Ok(found.map(|history| (column, history)))
}

/// Whether the texts of a column are times, as our own table has it.
pub(super) fn time_text(time_text: TimeText) -> &'static str {
    match time_text {
        TimeText::None => "none",
        TimeText::Local => "local",
        TimeText::Utc => "utc",
    }
}

/// The streams that had no table when they were loaded: their rows are in the sidecar table.
async fn unmapped_streams(
    connection: &Connection,
    catalog: &PgCatalog,
    notices: &mut Vec<Notice>,
) -> Result<Vec<(UnmappedStream, TableCopy)>> {
    let Some(own) = own_tables(connection, catalog, notices).await? else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT DISTINCT table_name FROM {} r \
          WHERE {} AND starts_with(table_name, '{UNMAPPED_PREFIX}') ORDER BY 1",
        own.columns,
        own.of_schema("r")
    );
    let mut found = Vec::new();
    for name in connection.read(Code::Source, OWN, &sql, |row| row.text()).await? {
        let original_columns = original_columns(connection, &own, &name).await?;
        let Some(unmapped) = unmapped(&name, &original_columns) else { continue };
        if catalog.layout.streams.iter().any(|s| s.name == unmapped.stored.name) {
            continue;
        }
        let copy = TableCopy {
            name: unmapped.stored.table.clone(),
            rows: format!("{} r WHERE {}", own.sidecar, own.belongs("r", &name)),
            columns: vec!["r.entry".into()],
            order: vec!["r.key COLLATE \"C\"".into()],
            fields: vec![Field::Text],
        };
        found.push((unmapped, copy));
    }
    Ok(found)
}

/// Types whose binary form we do not read cross as the server's own text.
fn select(column: &PgColumn) -> String {
    match field(column) {
        Field::Text if column.kind() != Kind::Text && column.kind() != Kind::Json => {
            format!("t.{}::text", quoted(&column.name))
        }
        _ => format!("t.{}", quoted(&column.name)),
    }
}

fn field(column: &PgColumn) -> Field {
    match column.kind() {
        Kind::Int => Field::Int,
        Kind::Real => Field::Float,
        Kind::Bool => Field::Bool,
        Kind::Time => Field::Time,
        Kind::Uuid => Field::Uuid,
        Kind::Bytes => Field::Bytes,
        Kind::Jsonb => Field::Jsonb,
        Kind::Numeric | Kind::Text | Kind::Date | Kind::Json | Kind::Other => Field::Text,
    }
}

/// The stream of a table's rows.
pub(super) fn describe(described: &LayoutStream, table: &PgTable, sorted: bool) -> Result<Stream> {
    let columns = table.columns.iter().map(|c| described.archive_column(&c.name, c.kind()));
    let mut stream = described.archive_stream(columns.collect(), sorted)?;
    for key in stream.key.clone() {
        let column = &mut stream.columns[key];
        // these three have a portable form for every value, so a key of them is never null
        let whole = matches!(column.kind, Kind::Uuid | Kind::Int | Kind::Text);
        column.nullable = !(whole && table.columns[key].not_null);
    }
    Ok(stream)
}

impl Source for PgSource {
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
        Box::pin(self.fill(batch))
    }

    fn begin(&mut self, readings: Vec<Reading>) -> BoxFuture<'_, Result<()>> {
        (self.running, self.next, self.readings) = (None, 0, Some(readings));
        Box::pin(async { Ok(()) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>> {
        Box::pin(async move {
            let mut orphans = Vec::new();
            // of some rows whoever has selected them knows
            let streams =
                if self.readings.is_none() { &self.catalog.layout.streams[..] } else { &[] };
            for stream in streams {
                for (column, parent) in &stream.references {
                    orphans.extend(self.orphans_of(stream, column, parent).await?);
                }
            }
            self.connection.run(Code::Source, "cannot end the snapshot", "COMMIT").await?;
            Ok(orphans)
        })
    }
}

impl PgSource {
    async fn orphans_of(
        &self,
        child: &LayoutStream,
        column: &str,
        parent: &str,
    ) -> Result<Option<Orphans>> {
        let physical = |stream: &str, name: &str| {
            let stream = self.streams.iter().find(|s| s.name == stream)?;
            let column = stream.columns.get(stream.column(name)?)?;
            Some((self.catalog.full_name(&stream.table), quoted(&column.physical)))
        };
        let described = self.catalog.layout.streams.iter().find(|s| s.name == parent);
        // a reference of one column says no key of several
        let parent_key = described.and_then(|p| match &p.key[..] {
            [key] => Some(key),
            _ => None,
        });
        let to = self.streams.iter().position(|s| s.name == parent).map(|n| &self.tables[n].rows);
        let Some((((from, refers), (_, key)), to)) = (physical(&child.name, column))
            .zip(parent_key.and_then(|k| physical(parent, k)))
            .zip(to)
        else {
            return Ok(None);
        };
        let own = self.streams.iter().find(|s| s.name == child.name);
        let own = own.map_or_else(Vec::new, |s| {
            s.key.iter().map(|k| quoted(&s.columns[*k].physical)).collect()
        });
        let sql = format!(
            "SELECT {}, c.{refers}::text, count(*) OVER () FROM {from} c \
              WHERE c.{refers} IS NOT NULL AND NOT EXISTS \
                    (SELECT 1 FROM {to} AND t.{key} = c.{refers}) LIMIT {ORPHANS_NAMED}",
            key_text(&own, "c")
        );
        let what = format!("cannot check {}", child.table);
        let read = self.connection.read(Code::Source, &what, &sql, |row| {
            let key = row.optional()?.unwrap_or_else(|| "NULL".into());
            Ok(((key, row.text()?), row.parsed::<u64>()?))
        });
        let (samples, counts): (Vec<_>, Vec<u64>) = read.await?.into_iter().unzip();
        let Some(rows) = counts.first().copied() else { return Ok(None) };
        Ok(Some(Orphans { stream: child.name.clone(), column: column.to_owned(), rows, samples }))
    }
}
