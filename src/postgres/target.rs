//! A Postgres database as a target: one transaction, rows by binary COPY, straight into an empty
//! table or by way of a staging table where rows are there already.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{SinkExt, pin_mut};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::catalog::{ForeignKey, PgCatalog, PgTable, Trigger, triggers};
use super::connection::{Connection, failed};
use super::conninfo::ConnInfo;
use super::merge::Merge;
use super::{binary, literal, quoted};
use crate::convert::{Converter, key_of};
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::plan::{Plan, StreamPlan};
use crate::record::{Batch, Value, show_text};
use crate::source::{ENFORCED, ORPHANS_NAMED, Orphans};
use crate::target::{
    Catalog, Loaded, OnOrphans, Outcome, Reference, Target, TargetTable, TargetType,
};

/// The bytes of one message of a COPY.
const MESSAGE: usize = 256 << 10;

/// A Postgres database that rows are loaded into.
pub struct PgTarget {
    pub(super) connection: Connection,
    pub(super) info: ConnInfo,
    pub(super) found: PgCatalog,
    catalog: Catalog,
    notices: Vec<String>,
    disabled: Vec<Trigger>,
    loading: Option<Loading>,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    loaded: Vec<Loaded>,
    converter: Converter,
    current: Option<Load>,
    done: Vec<Load>,
}

/// The loading of one stream.
struct Load {
    stream: usize,
    /// The staging table, or none if rows go straight into the table.
    staging: Option<String>,
    copy: Statement,
    types: Vec<TargetType>,
    rows: u64,
}

impl Load {
    /// The table that the rows of this stream stand in.
    fn place(&self, found: &PgCatalog, table: &str) -> String {
        self.staging.clone().unwrap_or_else(|| found.full_name(table))
    }
}

impl PgTarget {
    /// Connects and looks at the tables; with `create` makes them first, in the same transaction.
    ///
    /// # Errors
    /// If the server cannot be reached, or its tables are of no known layout.
    pub async fn open(info: &ConnInfo, create: Option<&Layout>) -> Result<PgTarget> {
        let connection = Connection::open(info).await?;
        let begin = format!("BEGIN; {}", connection.settings());
        connection.run(Code::Target, "cannot start to write", &begin).await?;
        let mut notices = info.notices();
        if let Some(layout) = create {
            create_tables(&connection, info, layout).await?;
            notices.extend(who_may_read(&connection).await?);
        }
        let found = PgCatalog::read(&connection, info.schema.as_deref()).await.map_err(|e| {
            if create.is_some() || e.code() != Code::Layout {
                return e;
            }
            let known = e.next_step().unwrap_or_default().to_owned();
            e.hint(format!("--create makes Chronicle's tables there; {known}"))
        })?;
        Ok(PgTarget {
            connection,
            info: info.clone(),
            catalog: found.describe(),
            found,
            notices,
            disabled: Vec::new(),
            loading: None,
        })
    }

    async fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        let names: Vec<String> =
            self.catalog.tables.iter().map(|t| self.found.full_name(&t.name)).collect();
        // others may go on reading; who writes waits until we are done
        let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "));
        self.run("cannot lock Chronicle's tables", &lock).await?;
        let now = PgCatalog::read(&self.connection, Some(&self.found.schema)).await?;
        let shape = |catalog: &PgCatalog| -> Vec<_> {
            let columns = |t: &PgTable| (t.oid, t.columns.clone());
            catalog.tables.iter().map(columns).collect()
        };
        if shape(&now) != shape(&self.found) {
            return Err(Error::new(Code::Target, "the tables were changed while we looked")
                .hint("nothing was changed by us; try again"));
        }
        self.silence_triggers().await?;
        let loaded = (plan.streams.iter())
            .map(|s| Loaded { stream: s.stream.clone(), ..Loaded::default() })
            .collect();
        self.loading = Some(Loading {
            plan,
            loaded,
            converter: Converter::default(),
            current: None,
            done: Vec::new(),
        });
        Ok(())
    }

    /// Keeps Chronicle's own triggers from changing what is loaded.
    async fn silence_triggers(&mut self) -> Result<()> {
        let names = self.catalog.tables.iter().map(|t| &t.name);
        let tables: Vec<&PgTable> =
            names.filter_map(|name| self.found.tables.iter().find(|t| t.name == *name)).collect();
        let found = triggers(&self.connection, &tables).await?;
        let as_replica = self.try_run("SET LOCAL session_replication_role = replica").await?;
        // a replica's session still fires those that were made for it
        let firing: Vec<Trigger> =
            found.iter().filter(|t| !as_replica || t.fires != 'O').cloned().collect();
        for trigger in &firing {
            let sql = format!(
                "ALTER TABLE {} DISABLE TRIGGER {}",
                self.found.full_name(&trigger.table),
                quoted(&trigger.name)
            );
            let what = format!(
                "the trigger {} of {} would change what is loaded and cannot be switched off",
                show_text(&trigger.name),
                trigger.table
            );
            self.run(&what, &sql).await?;
        }
        if !found.is_empty() {
            self.notices.push(format!(
                "{} triggers of the target did not fire: rows are loaded as they are in the archive",
                found.len()
            ));
        }
        self.disabled = firing;
        Ok(())
    }

    /// Gives every trigger its state back, inside the same transaction.
    async fn restore_triggers(&mut self) -> Result<()> {
        for trigger in std::mem::take(&mut self.disabled) {
            let how = match trigger.fires {
                'A' => "ENABLE ALWAYS",
                'R' => "ENABLE REPLICA",
                _ => "ENABLE",
            };
            let sql = format!(
                "ALTER TABLE {} {how} TRIGGER {}",
                self.found.full_name(&trigger.table),
                quoted(&trigger.name)
            );
            self.run("cannot switch a trigger on again", &sql).await?;
        }
        Ok(())
    }

    pub(super) async fn run(&self, what: &str, sql: &str) -> Result<()> {
        self.connection.run(Code::Target, what, sql).await
    }

    /// Runs a statement that may be refused; the transaction lives on. True if it went well.
    async fn try_run(&self, sql: &str) -> Result<bool> {
        self.run("cannot set a savepoint", "SAVEPOINT attempt").await?;
        if self.connection.client.batch_execute(sql).await.is_ok() {
            self.run("cannot release a savepoint", "RELEASE SAVEPOINT attempt").await?;
            return Ok(true);
        }
        self.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT attempt").await?;
        Ok(false)
    }

    async fn write(&mut self, batch: &Batch) -> Result<()> {
        let number = batch.stream();
        let plan = self.loading.as_ref().map(|l| Arc::clone(&l.plan)).ok_or_else(not_begun)?;
        let stream = plan.streams.get(number).ok_or_else(not_begun)?;
        let current = self.loading.as_ref().and_then(|l| l.current.as_ref());
        if current.is_none_or(|load| load.stream != number) {
            self.finish_stream().await?;
            let load = self.start_stream(number, stream).await?;
            if let Some(loading) = &mut self.loading {
                loading.current = Some(load);
            }
        }
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let Some(load) = &mut loading.current else { return Err(not_begun()) };
        let sink = self
            .connection
            .client
            .copy_in::<_, Bytes>(&load.copy)
            .await
            .map_err(|e| refused(&self.info, stream, batch, &e))?;
        pin_mut!(sink);
        let mut buffer = BytesMut::with_capacity(MESSAGE + (64 << 10));
        let mut row_buffer = Batch::default();
        binary::start(&mut buffer);
        for row in 0..batch.rows() {
            row_buffer.start(number, stream.columns.len(), 0);
            loading.converter.row(&plan, stream, batch, row, &mut row_buffer)?;
            loading.converter.count(stream, batch, row);
            binary::put_row(&mut buffer, &load.types, &row_buffer)?;
            if buffer.len() >= MESSAGE {
                let message = buffer.split().freeze();
                sink.send(message).await.map_err(|e| refused(&self.info, stream, batch, &e))?;
            }
        }
        binary::end(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(|e| refused(&self.info, stream, batch, &e))?;
        load.rows += sink.finish().await.map_err(|e| refused(&self.info, stream, batch, &e))?;
        Ok(())
    }

    /// Decides how the rows of a stream go in: straight, if the table is empty.
    async fn start_stream(&self, number: usize, stream: &StreamPlan) -> Result<Load> {
        let table = &self.catalog.tables[stream.table];
        let full = self.found.full_name(&table.name);
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let columns: Vec<String> = stream.columns.iter().map(|c| physical(c.target)).collect();
        let types: Vec<TargetType> = stream.columns.iter().map(|c| c.ty.clone()).collect();
        let casts = types.iter().any(|ty| matches!(ty, TargetType::Cast(_)));
        let any = format!("SELECT EXISTS (SELECT 1 FROM {full})");
        let what = format!("cannot read {}", table.name);
        let rows = self.connection.rows(Code::Target, &what, &any).await?;
        let empty = rows.first().and_then(|r| r.first()).is_some_and(|v| v.as_deref() == Some("f"));
        let staging = if empty && !casts {
            None
        } else {
            let name = format!("pg_temp.chronicle_dump_stage_{number}");
            let as_staged: Vec<String> = (columns.iter().zip(&types))
                .map(|(name, ty)| match ty {
                    TargetType::Cast(_) => format!("{name}::text AS {name}"),
                    _ => name.clone(),
                })
                .collect();
            let sql = format!(
                "CREATE TEMPORARY TABLE chronicle_dump_stage_{number} ON COMMIT DROP AS \
                 SELECT {} FROM {full} WITH NO DATA",
                as_staged.join(", ")
            );
            self.run("cannot create a staging table", &sql).await?;
            Some(name)
        };
        let sql = format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            staging.as_deref().unwrap_or(&full),
            columns.join(", ")
        );
        let copy = self.connection.client.prepare(&sql).await.map_err(|e| {
            self.connection.failed(Code::Target, format!("cannot write {}", table.name), e)
        })?;
        Ok(Load { stream: number, staging, copy, types, rows: 0 })
    }

    /// Ends the loading of a stream: what was staged goes into its table.
    async fn finish_stream(&mut self) -> Result<()> {
        let Some(loading) = &mut self.loading else { return Ok(()) };
        let Some(load) = loading.current.take() else { return Ok(()) };
        let plan = Arc::clone(&loading.plan);
        let stream = &plan.streams[load.stream];
        let table = &self.catalog.tables[stream.table];
        let inserted = match &load.staging {
            None => load.rows,
            Some(staging) => {
                let merge = Merge { target: self, stream, table, staging };
                merge.run().await?
            }
        };
        let Some(loading) = &mut self.loading else { return Ok(()) };
        loading.loaded[load.stream].inserted_rows += inserted;
        loading.loaded[load.stream].skipped_rows += load.rows - inserted;
        loading.done.push(load);
        Ok(())
    }

    async fn settle_now(&mut self, orphans: Option<OnOrphans>) -> Result<Outcome> {
        self.finish_stream().await?;
        self.check_foreign_keys().await?;
        let mut found = Vec::new();
        {
            let loading = self.loading.as_ref().ok_or_else(not_begun)?;
            for load in &loading.done {
                let stream = &loading.plan.streams[load.stream];
                let table = &self.catalog.tables[stream.table];
                let place = load.place(&self.found, &table.name);
                for reference in &table.references {
                    let Some(left) = self.orphans_in(&place, stream, reference).await? else {
                        continue;
                    };
                    if reference.enforced || orphans == Some(OnOrphans::Fail) {
                        return Err(left.refused(reference.enforced));
                    }
                    found.push(left);
                }
            }
        }
        self.restore_triggers().await?;
        let loading = self.loading.as_ref().ok_or_else(not_begun)?;
        Ok(Outcome {
            loaded: loading.loaded.clone(),
            adapted: loading.converter.adapted(),
            orphans: found,
            notices: self.notices.clone(),
        })
    }

    /// Checks the foreign keys that no layout knows of: while triggers are silenced the server may
    /// not check them itself.
    async fn check_foreign_keys(&self) -> Result<()> {
        let Some(loading) = &self.loading else { return Ok(()) };
        for load in &loading.done {
            let stream = &loading.plan.streams[load.stream];
            let table = &self.catalog.tables[stream.table];
            let known = |column: &str| {
                table.references.iter().any(|r| table.columns[r.column].physical == column)
            };
            let loaded = |column: &String| {
                stream.columns.iter().any(|c| table.columns[c.target].physical == *column)
            };
            for key in self.found.foreign_keys.iter().filter(|k| k.table == table.name) {
                let ours = key.columns.len() == 1 && known(&key.columns[0]);
                if !ours && key.columns.iter().all(loaded) {
                    self.check_foreign_key(key, &load.place(&self.found, &table.name)).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn check_foreign_key(&self, key: &ForeignKey, place: &str) -> Result<()> {
        let given: Vec<String> =
            key.columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect();
        let same: Vec<String> = (key.columns.iter().zip(&key.keys))
            .map(|(own, other)| format!("p.{} = c.{}", quoted(other), quoted(own)))
            .collect();
        let sql = format!(
            "SELECT count(*) FROM {place} c WHERE {} AND NOT EXISTS \
             (SELECT 1 FROM {} p WHERE {}) HAVING count(*) > 0",
            given.join(" AND "),
            key.parent,
            same.join(" AND ")
        );
        let rows = self.connection.rows(Code::Target, "cannot check the references", &sql).await?;
        match rows.first().and_then(|r| r.first().cloned().flatten()) {
            None => Ok(()),
            Some(count) => Err(Error::new(
                Code::Orphan,
                format!(
                    "{}: {count} rows violate the foreign key {}: {} is not in {}",
                    key.table,
                    show_text(&key.name),
                    key.columns.join(", "),
                    key.parent
                ),
            )
            .hint("load what they refer to first, or remove them from the source")),
        }
    }

    /// The rows of a place, the table itself or a staging table, that refer to no row.
    pub(super) async fn orphans_in(
        &self,
        place: &str,
        stream: &StreamPlan,
        reference: &Reference,
    ) -> Result<Option<Orphans>> {
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let name = |t: &TargetTable, n: usize| quoted(&t.columns[n].physical);
        let (Some(key), Some(own)) = (parent.key.first(), table.key.first()) else {
            return Ok(None);
        };
        if !stream.columns.iter().any(|c| c.target == reference.column) {
            return Ok(None);
        }
        let refers = name(table, reference.column);
        let sql = format!(
            "SELECT c.{}::text, c.{refers}::text, count(*) OVER () FROM {} c \
              WHERE c.{refers} IS NOT NULL AND NOT EXISTS \
                    (SELECT 1 FROM {} p WHERE p.{} = c.{refers}) LIMIT {ORPHANS_NAMED}",
            name(table, *own),
            place,
            self.found.full_name(&parent.name),
            name(parent, *key),
        );
        let rows = self.connection.rows(Code::Target, "cannot check the references", &sql).await?;
        let text = |row: &[Option<String>], n: usize| row.get(n).cloned().flatten();
        let Some(count) = rows.first().and_then(|row| text(row, 2)) else { return Ok(None) };
        Ok(Some(Orphans {
            stream: stream.stream.clone(),
            column: table.columns[reference.column].name.clone(),
            rows: count.parse().unwrap_or(0),
            first: (rows.iter())
                .map(|r| (text(r, 0).unwrap_or_default(), text(r, 1).unwrap_or_default()))
                .collect(),
        }))
    }

    /// Moves the sequences of loaded columns behind the largest value, never back.
    async fn advance_sequences(&self) -> Result<()> {
        for table in &self.catalog.tables {
            let full = self.found.full_name(&table.name);
            for column in &table.columns {
                let sql = format!(
                    "SELECT pg_catalog.setval(s.seq, m.most) \
                       FROM (SELECT pg_catalog.pg_get_serial_sequence({}, {})::regclass AS seq) s, \
                            (SELECT max({}) AS most FROM {full}) m \
                      WHERE s.seq IS NOT NULL AND m.most > coalesce( \
                            pg_catalog.pg_sequence_last_value(s.seq), 0)",
                    literal(&full),
                    literal(&column.physical),
                    quoted(&column.physical),
                );
                if matches!(column.ty, TargetType::Int(_)) {
                    self.run("cannot advance a sequence", &sql).await?;
                }
            }
        }
        Ok(())
    }
}

impl Target for PgTarget {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.begin_now(plan))
    }

    fn write_batch<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.write(batch))
    }

    fn settle(&mut self, orphans: Option<OnOrphans>) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(self.settle_now(orphans))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            // sequences do not roll back, so they move only when nothing can fail any more
            self.advance_sequences().await?;
            self.connection.client.batch_execute("COMMIT").await.map_err(|e| {
                let error = self.connection.failed(Code::Target, "the commit failed", e);
                error.hint(
                    "if the connection was lost in this moment, the rows may be there: import \
                     again, rows that are there already are skipped",
                )
            })?;
            Ok(())
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.connection.abort().await })
    }
}

async fn create_tables(connection: &Connection, info: &ConnInfo, layout: &Layout) -> Result<()> {
    let ddl = layout.ddl().ok_or_else(|| {
        Error::new(Code::Usage, format!("--create cannot make the layout {}", layout.name))
    })?;
    let schema = info.schema.as_deref().unwrap_or("public");
    let exists =
        format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(schema));
    if connection.rows(Code::Target, "cannot read the schemas", &exists).await?.is_empty() {
        return Err(Error::new(
            Code::NotFound,
            format!("--create: there is no schema {}", show_text(schema)),
        )
        .hint("create it first: CREATE SCHEMA, as the owner of the database"));
    }
    if PgCatalog::read(connection, Some(schema)).await.is_ok() {
        return Err(Error::new(
            Code::Usage,
            format!("--create: the schema {schema} has Chronicle's tables already"),
        )
        .hint("leave --create out to import into them"));
    }
    let sql = format!(
        "SET LOCAL search_path = {}, pg_catalog; {ddl}; SET LOCAL search_path = pg_catalog",
        quoted(schema)
    );
    connection.run(Code::Target, "cannot create Chronicle's tables", &sql).await
}

/// On Supabase, a word on who else may use the new tables.
async fn who_may_read(connection: &Connection) -> Result<Option<String>> {
    let sql = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'anon'";
    let rows = connection.rows(Code::Target, "cannot read the roles", sql).await?;
    Ok((!rows.is_empty()).then(|| {
        "the new tables are as open as Chronicle's own schema makes them: who has the project's \
         anon key can read and write them"
            .into()
    }))
}

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}

/// An error of a COPY, with the row that the server points at.
fn refused(
    info: &ConnInfo,
    stream: &StreamPlan,
    batch: &Batch,
    e: &tokio_postgres::Error,
) -> Error {
    let server = e.as_db_error();
    let place = match server.map(|s| s.code()) {
        // checked after the last row: the server names the value, not the line
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            server.and_then(|s| s.detail()).and_then(|d| line_with(d, stream, batch))
        }
        _ => server.and_then(|s| s.where_()).and_then(line_of),
    };
    let what = match place {
        Some((line, column)) if (1..=batch.rows()).contains(&line) => {
            let row = line - 1;
            let column = column.map_or_else(String::new, |c| format!(", column {c}"));
            format!(
                "{}: row {} (key {}){column}",
                stream.table_name,
                batch.first_row() + row as u64,
                key_of(stream, batch, row)
            )
        }
        _ => format!("{}: cannot be written", stream.table_name),
    };
    let code = match server.map(|s| s.code()) {
        Some(&SqlState::UNIQUE_VIOLATION) => Code::Conflict,
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => Code::Orphan,
        Some(state) if state.code().starts_with("22") || state.code().starts_with("23") => {
            Code::Value
        }
        _ => Code::Target,
    };
    let error = failed(info, code, what, e);
    match code {
        Code::Conflict => error.hint("two rows of the archive cannot both be there"),
        _ => with_hint(code, error),
    }
}

/// The way on from a row that the server refused.
pub(super) fn with_hint(code: Code, error: Error) -> Error {
    match code {
        Code::Value if error.next_step().is_none() => {
            error.hint("mend the value in the source and export again; nothing was changed")
        }
        Code::Orphan => error.hint(ENFORCED),
        _ => error,
    }
}

/// The line and column of the first row with the value that a detail quotes: `Key (column)=(value)
/// …`. Words are translated on some servers, the parentheses are not.
fn line_with(detail: &str, stream: &StreamPlan, batch: &Batch) -> Option<(usize, Option<String>)> {
    let (before, after) = detail.split_once(")=(")?;
    let (name, wanted) = (before.split_once('(')?.1, after.split_once(')')?.0);
    let column = stream.columns.iter().find(|c| c.name == name)?;
    let is_it = |row: &usize| match batch.value(*row, column.source) {
        // a UUID may be spelled otherwise in the archive
        Value::Text(text) => text.eq_ignore_ascii_case(wanted.as_bytes()),
        other => crate::record::show(other) == wanted,
    };
    let row = (0..batch.rows()).find(is_it)?;
    Some((row + 1, Some(show_text(name))))
}

/// The line and column in a COPY's context: `COPY t, line 7, column c: …`. Words are translated
/// on some servers, the numbers stand in the same places.
fn line_of(context: &str) -> Option<(usize, Option<String>)> {
    let mut parts = context.split(", ").skip(1);
    let digits: String = parts.next()?.chars().filter(char::is_ascii_digit).take(12).collect();
    let column = parts.next().and_then(|p| p.split([':', ' ']).nth(1)).map(show_text);
    Some((digits.parse().ok()?, column.filter(|c| !c.is_empty())))
}
