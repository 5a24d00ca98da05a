//! A Postgres database as a source: one read-only snapshot, its tables by binary COPY.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio_postgres::CopyOutStream;

use uuid::Uuid;

use super::catalog::{PgCatalog, PgColumn, PgTable, others};
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::copy_codec::{Field, RowReader};
use super::history::{HistoryTables, readable_history};
use super::own_tables::OwnTables;
use super::{key_text, literal, quoted, row_text};
use crate::error::{Code, Error, Result};
use crate::history::stated;
use crate::identity::instance_of;
use crate::layout::LayoutStream;
use crate::notice::{Notice, NoticeKind};
use crate::numbers::has_integer_key;
use crate::sidecar::{
    DEFAULT, OriginalColumn, Recipe, Restorer, UNMAPPED_PREFIX, UnmappedStream, WHOLE_ROW,
    default_columns, unmapped, with_sidecar,
};
use crate::source::{ORPHANS_NAMED, Orphans, Source, SourceOptions};
use chronicle_archive::{Batch, Kind, NumberRange, Origin, Stream, TimeText, show_text};

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
    sql: String,
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
        let settings = connection.settings();
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}");
        connection.run(Code::Source, "cannot start a snapshot", &begin).await?;
        let catalog =
            PgCatalog::read(&connection, info.schema.as_deref(), options.layout.as_ref()).await?;
        let mut notices = info.notices();
        notices.extend(others(&catalog));
        let (mut streams, mut tables, mut recipes) = (Vec::new(), Vec::new(), Vec::new());
        let mut expected_rows = 0;
        for described in &catalog.layout.streams {
            let Some(table) = catalog.table(described) else { continue };
            for column in &table.computed {
                let text =
                    format!("{}.{column} is not exported; the server computes it", table.name);
                notices.push(Notice::new(NoticeKind::ComputedColumn, text));
            }
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
        };
        Ok((source, recipes))
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        while self.running.is_some() || self.next < self.tables.len() {
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
        let TableCopy { name, sql, .. } = &self.tables[table];
        let stream =
            self.connection.client.copy_out(sql.as_str()).await.map_err(|e| {
                self.connection.failed(Code::Source, format!("cannot read {name}"), e)
            })?;
        Ok(Running { table, stream: Box::pin(stream), reader: RowReader::default(), rows: 0 })
    }
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
        let mut sql = format!("SELECT {} FROM {from}", columns.join(", "));
        if !stream.order.is_empty() {
            let order: Vec<String> = (stream.order.iter())
                .filter_map(|n| table.columns.get(*n))
                .map(|c| {
                    // byte order, whatever the database's own collation is
                    let collate = if c.kind() == Kind::Text { " COLLATE \"C\"" } else { "" };
                    format!("t.{}{collate}", quoted(&c.name))
                })
                .collect();
            sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
        }
        TableCopy {
            name: table.name.clone(),
            rows: from,
            sql: format!("COPY ({sql}) TO STDOUT (FORMAT binary)"),
            fields,
        }
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

/// How the rows of a table are restored, if anything is stored of them; with SQL that is true for those that came from
/// elsewhere, if not all did.
async fn restorable(
    connection: &Connection,
    catalog: &PgCatalog,
    own: &OwnTables,
    described: &LayoutStream,
    stream: &Stream,
) -> Result<Option<(Recipe, Option<String>)>> {
    let ask = async |sql: &str| -> Result<bool> {
        let answer = connection.read(Code::Source, OWN, sql, |row| row.boolean()).await?;
        Ok(answer == [true])
    };
    let (sidecar, belongs) = (&own.sidecar, own.belongs("r", &stream.table));
    let original_columns = original_columns(connection, own, &stream.table).await?;
    let any = format!("SELECT EXISTS (SELECT 1 FROM {sidecar} r WHERE {belongs})");
    if original_columns.is_empty() && !ask(&any).await? {
        return Ok(None);
    }
    // an import may have created rows, which are left out as long as nobody has edited them
    let whole = format!(
        "SELECT EXISTS (SELECT 1 FROM {sidecar} r WHERE {belongs} \
         AND starts_with(r.entry, '{{\"{WHOLE_ROW}\"'))"
    );
    let default = format!("r.entry::json #>> ARRAY['{WHOLE_ROW}', '{DEFAULT}']");
    let only = ask(&whole).await?.then(|| format!("{default} IS DISTINCT FROM {}", row_text("t")));
    let rows = with_entries(catalog, own, stream, only.as_deref());
    let mut fillers = Vec::new();
    let table = catalog.table(described);
    let has_default = |name: &str| {
        table.is_some_and(|t| t.columns.iter().any(|c| c.name == name && c.has_default))
    };
    for column in default_columns(described, stream, &original_columns, has_default) {
        let default = format!("r.entry::json #>> ARRAY[{}, '{DEFAULT}']", literal(&column.name));
        let sql = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM {rows} AND {default} IS DISTINCT FROM t.{}::text) \
                AND EXISTS (SELECT 1 FROM {rows} AND {default} IS NOT NULL)",
            quoted(&column.physical)
        );
        if ask(&sql).await? {
            fillers.push(column.name.clone());
        }
    }
    let (original, restorer) =
        Restorer::new(stream, &original_columns, described.fold.as_deref(), &fillers);
    Ok(Some((Recipe { original, restorer }, only)))
}

/// What we were about to read when it failed.
const OWN: &str = "cannot read the sidecar table";

/// Our own tables, if there are any and this role may read them.
async fn own_tables(
    connection: &Connection,
    catalog: &PgCatalog,
    notices: &mut Vec<Notice>,
) -> Result<Option<OwnTables>> {
    let found = OwnTables::find(connection, Code::Source, &catalog.schema).await?;
    let Some(found) = found else { return Ok(None) };
    if found.readable {
        return Ok(Some(found));
    }
    let notice = Notice::new(
        NoticeKind::HiddenOriginals,
        "this role may not read the sidecar table; originals stored there are not restored",
    );
    if !notices.contains(&notice) {
        notices.push(notice);
    }
    Ok(None)
}

/// Whether the texts of a column are times, as our own table has it.
pub(super) fn time_text(time_text: TimeText) -> &'static str {
    match time_text {
        TimeText::None => "none",
        TimeText::Local => "local",
        TimeText::Utc => "utc",
    }
}

/// The columns that the rows of a table had where they came from.
async fn original_columns(
    connection: &Connection,
    own: &OwnTables,
    table: &str,
) -> Result<Vec<OriginalColumn>> {
    let sql = format!(
        "SELECT table_name, name, place::text, kind, (time_text <> 'none')::text, \
                (time_text = 'utc')::text FROM {} r WHERE {} ORDER BY place",
        own.columns,
        own.belongs("r", table)
    );
    let rows = connection.rows(Code::Source, OWN, &sql).await?;
    let read = |row: &Vec<Option<String>>| {
        OriginalColumn::read(row).ok_or_else(|| {
            let what = format!("{}: a row for {} cannot be read", own.columns, show_text(table));
            Error::new(Code::Source, what)
                .hint("a later version of this program may have written it")
        })
    };
    rows.iter().map(read).collect()
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
        let sql = format!(
            "COPY (SELECT r.entry FROM {} r WHERE {} ORDER BY r.key COLLATE \"C\") \
             TO STDOUT (FORMAT binary)",
            own.sidecar,
            own.belongs("r", &name)
        );
        let (name, fields) = (unmapped.stored.table.clone(), vec![Field::Text]);
        found.push((unmapped, TableCopy { name, rows: String::new(), sql, fields }));
    }
    Ok(found)
}

/// The rows `t` of a table for which a condition is true, with their entries `r`, as SQL that ends in a
/// condition.
fn with_entries(
    catalog: &PgCatalog,
    own: &OwnTables,
    stream: &Stream,
    only: Option<&str>,
) -> String {
    let key: Vec<String> =
        stream.key.iter().map(|k| quoted(&stream.columns[*k].physical)).collect();
    format!(
        "{} t LEFT JOIN {} r ON {} AND r.key = {} WHERE {}",
        catalog.full_name(&stream.table),
        own.sidecar,
        own.belongs("r", &stream.table),
        key_text(&key, "t"),
        only.unwrap_or("true")
    )
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

fn describe(described: &LayoutStream, table: &PgTable, sorted: bool) -> Result<Stream> {
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

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>> {
        Box::pin(async move {
            let mut found = Vec::new();
            for stream in &self.catalog.layout.streams {
                for (column, parent) in &stream.references {
                    found.extend(self.orphans_of(stream, column, parent).await?);
                }
            }
            self.connection.run(Code::Source, "cannot end the snapshot", "COMMIT").await?;
            Ok(found)
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
