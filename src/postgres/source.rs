//! A Postgres database as a source: one read-only snapshot, its tables by binary COPY.

use std::pin::Pin;

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio_postgres::CopyOutStream;

use uuid::Uuid;

use super::catalog::{PgCatalog, PgColumn, PgTable, others};
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::copy_codec::{Field, RowReader};
use super::{literal, quoted, row_text};
use crate::error::{Code, Result};
use crate::identity::instance_of;
use crate::layout::LayoutStream;
use crate::sidecar::{
    COLUMNS, DEFAULT, OriginalColumn, Restorer, SIDECAR, UNMAPPED_PREFIX, WHOLE_ROW,
    default_columns, unmapped, with_sidecar,
};
use crate::source::{ORPHANS_NAMED, Orphans, Source, SourceOptions};
use chronicle_archive::Origin;
use chronicle_archive::{Batch, Kind, Stream};

/// A batch is handed over when it holds this many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A Postgres database that is being read.
pub struct PgSource {
    connection: Connection,
    catalog: PgCatalog,
    origin: Origin,
    streams: Vec<Stream>,
    tables: Vec<TableCopy>,
    notices: Vec<String>,
    expected_rows: u64,
    running: Option<Running>,
    next: usize,
    /// Rows as the server sends them, before what was kept beside them is given back.
    raw: Batch,
}

/// What is read beside the rows of a table.
#[derive(Clone, Copy, PartialEq)]
enum Beside<'a> {
    /// Nothing is there.
    Nothing,
    /// What is given back to the rows, of which those go that fail a condition.
    GivenBack(Option<&'a str>),
    /// What stands there, as a column of its own; NULL if it was never made.
    Column { kept: bool },
}

/// How a table is read.
struct TableCopy {
    name: String,
    /// Its rows `t`, as SQL that ends in a condition.
    rows: String,
    sql: String,
    fields: Vec<Field>,
    restorer: Option<Restorer>,
}

/// The COPY of a table.
struct Running {
    table: usize,
    stream: Pin<Box<CopyOutStream>>,
    reader: RowReader,
    rows: u64,
}

impl PgSource {
    /// Connects and starts the snapshot.
    ///
    /// # Errors
    /// If the server cannot be reached, or its tables are of no known layout.
    pub async fn open(info: &ConnInfo, options: &SourceOptions) -> Result<PgSource> {
        let connection = Connection::open(info).await?;
        let settings = connection.settings();
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}");
        connection.run(Code::Source, "cannot start a snapshot", &begin).await?;
        let catalog =
            PgCatalog::read(&connection, info.schema.as_deref(), options.layout.as_ref()).await?;
        let mut notices = info.notices();
        notices.extend(others(&catalog));
        let (mut streams, mut tables, mut expected_rows) = (Vec::new(), Vec::new(), 0);
        for described in &catalog.layout.streams {
            let Some(table) = catalog.table(described) else { continue };
            for column in &table.computed {
                notices.push(format!(
                    "column {}.{column} is not exported: the server computes it",
                    table.name
                ));
            }
            let stream = describe(described, table, options.sorted)?;
            expected_rows += table.rows;
            if options.as_they_stand {
                let kept = may_read_own(&connection, &catalog, &mut notices).await?;
                tables.push(TableCopy::new(&catalog, table, &stream, Beside::Column { kept }));
                streams.push(with_sidecar(stream));
                continue;
            }
            let kept = kept_beside(&connection, &catalog, described, &stream, &mut notices).await?;
            let beside = kept.as_ref().map(|kept| Beside::GivenBack(kept.only.as_deref()));
            let beside = beside.unwrap_or(Beside::Nothing);
            let mut copy = TableCopy::new(&catalog, table, &stream, beside);
            let stream = match kept {
                None => stream,
                Some(GivenBack { was, restorer, .. }) => {
                    copy.restorer = Some(restorer);
                    was
                }
            };
            tables.push(copy);
            streams.push(stream);
        }
        for (stream, copy) in apart_streams(&connection, &catalog, &mut notices).await? {
            tables.push(copy);
            streams.push(stream);
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
            ..Origin::default()
        };
        Ok(PgSource {
            connection,
            catalog,
            origin,
            streams,
            tables,
            notices,
            expected_rows,
            running: None,
            next: 0,
            raw: Batch::default(),
        })
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        while self.running.is_some() || self.next < self.tables.len() {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.start_next().await?,
            };
            let table = &mut self.tables[running.table];
            let out = match table.restorer {
                Some(_) => &mut self.raw,
                None => &mut *batch,
            };
            out.start(running.table, table.fields.len(), running.rows + 1);
            while !running.reader.ended() && out.size() < BATCH_BYTES {
                match running.stream.next().await {
                    Some(Ok(bytes)) => running.reader.feed(&bytes),
                    Some(Err(e)) => {
                        let what = format!("cannot read {}", table.name);
                        return Err(self.connection.failed(Code::Source, what, e));
                    }
                    None => break,
                }
                running.reader.read(&table.fields, out)?;
            }
            if let Some(restorer) = &mut table.restorer {
                batch.start(running.table, restorer.width(), running.rows + 1);
                (0..self.raw.rows()).for_each(|row| restorer.restore(&self.raw, row, batch));
            }
            running.rows += batch.rows() as u64;
            if !running.reader.ended() && batch.rows() > 0 {
                self.running = Some(running);
                return Ok(true);
            }
            if !running.reader.ended() {
                return Err(crate::error::Error::new(
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

/// The name of a schema among all: of its cluster, where this role may ask for it, its database and
/// its own name.
pub(super) async fn instance(connection: &Connection, schema: &str) -> Result<Uuid> {
    let ask = async |sql: &str| -> Result<Option<String>> {
        let rows = connection.rows(Code::Source, "cannot read the database's name", sql).await?;
        Ok(rows.into_iter().flatten().flatten().next())
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
    fn new(catalog: &PgCatalog, table: &PgTable, stream: &Stream, kept: Beside<'_>) -> TableCopy {
        let mut columns: Vec<String> = table.columns.iter().map(select).collect();
        let mut fields: Vec<Field> = table.columns.iter().map(field).collect();
        let mut from = format!("{} t WHERE true", catalog.full_name(&table.name));
        match kept {
            Beside::Nothing => {}
            Beside::Column { kept: false } => {
                columns.push("NULL::text".into());
                fields.push(Field::Text);
            }
            Beside::GivenBack(_) | Beside::Column { kept: true } => {
                let only = if let Beside::GivenBack(only) = kept { only } else { None };
                columns.push("r.sidecar".into());
                fields.push(Field::Text);
                from = beside(catalog, stream, only);
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
            restorer: None,
        }
    }
}

/// What was kept beside the rows of a table when they were loaded.
struct GivenBack {
    /// The stream as it was where they came from.
    was: Stream,
    /// Who makes its rows.
    restorer: Restorer,
    /// SQL that is true for the rows that came from there, if not all did.
    only: Option<String>,
}

/// What was kept beside the rows of a table, if anything was.
async fn kept_beside(
    connection: &Connection,
    catalog: &PgCatalog,
    described: &LayoutStream,
    stream: &Stream,
    notices: &mut Vec<String>,
) -> Result<Option<GivenBack>> {
    if !may_read_own(connection, catalog, notices).await? {
        return Ok(None);
    }
    let ask = async |sql: &str| connection.rows(Code::Source, OWN, sql).await;
    let sidecar = catalog.full_name(SIDECAR);
    let table = literal(&stream.table);
    let original_columns = original_columns(connection, catalog, &stream.table).await?;
    let any = format!("SELECT EXISTS (SELECT 1 FROM {sidecar} WHERE table_name = {table})");
    if original_columns.is_empty() && !yes(&ask(&any).await?) {
        return Ok(None);
    }
    // an import may have made rows, which go as long as nobody has edited them
    let whole = format!(
        "SELECT EXISTS (SELECT 1 FROM {sidecar} WHERE table_name = {table} \
         AND starts_with(sidecar, '{{\"{WHOLE_ROW}\"'))"
    );
    let made = format!("r.sidecar::json #>> ARRAY['{WHOLE_ROW}', '{DEFAULT}']");
    let only =
        yes(&ask(&whole).await?).then(|| format!("{made} IS DISTINCT FROM {}", row_text("t")));
    let rows = beside(catalog, stream, only.as_deref());
    let mut unmade = Vec::new();
    let own = catalog.table(described);
    let has_default =
        |name: &str| own.is_some_and(|t| t.columns.iter().any(|c| c.name == name && c.has_default));
    for column in default_columns(described, stream, &original_columns, has_default) {
        let made = format!("r.sidecar::json #>> ARRAY[{}, '{DEFAULT}']", literal(&column.name));
        let sql = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM {rows} AND {made} IS DISTINCT FROM t.{}::text) \
                AND EXISTS (SELECT 1 FROM {rows} AND {made} IS NOT NULL)",
            quoted(&column.physical)
        );
        if yes(&ask(&sql).await?) {
            unmade.push(column.name.clone());
        }
    }
    let (was, restorer) =
        Restorer::new(stream, &original_columns, described.fold.as_deref(), &unmade);
    Ok(Some(GivenBack { was, restorer, only }))
}

/// What we were about to read when it failed.
const OWN: &str = "cannot read what is kept beside the rows";

/// Whether the answer to a question is yes.
fn yes(rows: &[Vec<Option<String>>]) -> bool {
    rows.first().and_then(|r| r.first()).is_some_and(|v| v.as_deref() == Some("t"))
}

/// Whether our own tables are there and this role may read them.
async fn may_read_own(
    connection: &Connection,
    catalog: &PgCatalog,
    notices: &mut Vec<String>,
) -> Result<bool> {
    let names = [SIDECAR, COLUMNS].map(|name| literal(&catalog.full_name(name)));
    let there = names.clone().map(|name| format!("to_regclass({name}) IS NOT NULL"));
    let sql = format!("SELECT {}", there.join(" AND "));
    if !yes(&connection.rows(Code::Source, OWN, &sql).await?) {
        return Ok(false);
    }
    let may = names.map(|name| {
        format!(
            "has_table_privilege({name}, 'SELECT') AND NOT row_security_active({name}::regclass)"
        )
    });
    let sql = format!("SELECT {}", may.join(" AND "));
    if yes(&connection.rows(Code::Source, OWN, &sql).await?) {
        return Ok(true);
    }
    let told = "this role may not read what was kept beside the rows when they were loaded: they \
                are exported as they stand";
    if !notices.iter().any(|n| n == told) {
        notices.push(told.into());
    }
    Ok(false)
}

/// What is original_columns of the columns of a table.
async fn original_columns(
    connection: &Connection,
    catalog: &PgCatalog,
    table: &str,
) -> Result<Vec<OriginalColumn>> {
    let sql = format!(
        "SELECT table_name, name, place::text, kind, instant::text, utc::text FROM {} \
          WHERE table_name = {} ORDER BY place",
        catalog.full_name(COLUMNS),
        literal(table)
    );
    let rows = connection.rows(Code::Source, OWN, &sql).await?;
    Ok(rows.iter().filter_map(|row| OriginalColumn::read(row)).collect())
}

/// The streams that had no table when they were loaded: their rows stand in our own.
async fn apart_streams(
    connection: &Connection,
    catalog: &PgCatalog,
    notices: &mut Vec<String>,
) -> Result<Vec<(Stream, TableCopy)>> {
    if !may_read_own(connection, catalog, notices).await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DISTINCT table_name FROM {} WHERE starts_with(table_name, '{UNMAPPED_PREFIX}') ORDER BY 1",
        catalog.full_name(COLUMNS)
    );
    let mut found = Vec::new();
    for name in connection.rows(Code::Source, OWN, &sql).await?.into_iter().flatten().flatten() {
        let original_columns = original_columns(connection, catalog, &name).await?;
        let Some((stream, restorer)) = unmapped(&name, &original_columns) else { continue };
        if catalog.layout.streams.iter().any(|s| s.name == stream.name) {
            continue;
        }
        let sql = format!(
            "COPY (SELECT sidecar FROM {} WHERE table_name = {} ORDER BY key COLLATE \"C\") \
             TO STDOUT (FORMAT binary)",
            catalog.full_name(SIDECAR),
            literal(&name)
        );
        let (name, fields) = (stream.table.clone(), vec![Field::Text]);
        let (rows, restorer) = (String::new(), Some(restorer));
        found.push((stream, TableCopy { name, rows, sql, fields, restorer }));
    }
    Ok(found)
}

/// The rows `t` of a table for which a condition is true, with what is kept beside them, `r`, as SQL
/// that ends in a condition.
fn beside(catalog: &PgCatalog, stream: &Stream, only: Option<&str>) -> String {
    let key = stream.key.first().map_or("", |k| &stream.columns[*k].physical);
    format!(
        "{} t LEFT JOIN {} r ON r.table_name = {} AND r.key = t.{}::text \
         WHERE {}",
        catalog.full_name(&stream.table),
        catalog.full_name(SIDECAR),
        literal(&stream.table),
        quoted(key),
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

    fn notices(&self) -> &[String] {
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
        let parent_key = described.and_then(|p| p.key.first());
        let to = self.streams.iter().position(|s| s.name == parent).map(|n| &self.tables[n].rows);
        let Some((((from, refers), (_, key)), to)) = (physical(&child.name, column))
            .zip(parent_key.and_then(|k| physical(parent, k)))
            .zip(to)
        else {
            return Ok(None);
        };
        let own = child.key.first().and_then(|k| physical(&child.name, k));
        let own = own.map_or_else(|| "NULL".into(), |(_, name)| format!("c.{name}"));
        let sql = format!(
            "SELECT {own}::text, c.{refers}::text, count(*) OVER () FROM {from} c \
              WHERE c.{refers} IS NOT NULL AND NOT EXISTS \
                    (SELECT 1 FROM {to} AND t.{key} = c.{refers}) LIMIT {ORPHANS_NAMED}"
        );
        let what = format!("cannot check {}", child.table);
        let rows = self.connection.rows(Code::Source, &what, &sql).await?;
        let text = |row: &[Option<String>], n: usize| row.get(n).cloned().flatten();
        let Some(count) = rows.first().and_then(|row| text(row, 2)) else { return Ok(None) };
        Ok(Some(Orphans {
            stream: child.name.clone(),
            column: column.to_owned(),
            rows: count.parse().unwrap_or(0),
            first: (rows.iter())
                .map(|r| (text(r, 0).unwrap_or_default(), text(r, 1).unwrap_or_default()))
                .collect(),
        }))
    }
}
