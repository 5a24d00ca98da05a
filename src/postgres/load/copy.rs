//! Rows on their way by binary COPY: straight into an empty table, or into a staging table; and which row the server
//! refused.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, pin_mut};
use tokio_postgres::CopyInSink;
use tokio_postgres::error::SqlState;

use super::PgTarget;
use super::conflict::{KEPT, decisions};
use super::loading::{PgLoading, no_table};
use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::row_sketch::RowSketch;
use crate::load::{Rejected, Rows};
use crate::plan::{Plan, TablePlan, key_of};
use crate::policy::OnOrphans;
use crate::postgres::catalog::PgCatalog;
use crate::postgres::connection::Connection;
use crate::postgres::{copy_codec, quoted};
use crate::source::ENFORCED;
use chronicle_archive::{Value, show_text};

impl PgLoading {
    /// Sends rows by one COPY, but for those that are refused.
    pub(super) async fn send(
        &mut self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        left_out: &[Rejected],
    ) -> Result<()> {
        let sent: Vec<usize> = (0..rows.rows.rows())
            .filter(|row| left_out.binary_search_by_key(row, |r| r.row).is_err())
            .collect();
        let id = self.db.batch_id();
        let Some(load) = &mut self.current else { return Err(no_table()) };
        // staged rows are filled on their way into the table
        let fill = stream.batch.filter(|_| load.staging.is_none());
        let refused = |e| refused(&self.db.connection, stream, rows, &sent, &e);
        let sink = self
            .db
            .connection
            .client
            .copy_in::<_, Bytes>(load.copy.as_str())
            .await
            .map_err(refused)?;
        pin_mut!(sink);
        let mut buffer = BytesMut::with_capacity(MESSAGE + (64 << 10));
        copy_codec::start(&mut buffer);
        for row in &sent {
            let value = |n: usize| match (fill, rows.rows.value(*row, n)) {
                (Some(column), Value::Null) if column == n => id.value(&load.types[n]),
                (_, value) => value,
            };
            let values = load.types.iter().enumerate().map(|(n, ty)| (ty, value(n)));
            copy_codec::put_values(&mut buffer, values)?;
            load.sums.add(rows.rows, *row);
            if buffer.len() >= MESSAGE {
                send_parts(&mut sink, buffer.split().freeze()).await.map_err(refused)?;
            }
        }
        copy_codec::end(&mut buffer);
        send_parts(&mut sink, buffer.freeze()).await.map_err(refused)?;
        load.rows += sink.finish().await.map_err(refused)?;
        Ok(())
    }

    /// Decides how the rows of a stream go in: straight, if the table is empty and nothing has to be
    /// asked or taken back.
    pub(super) async fn start_stream(
        &self,
        plan: &Plan,
        number: usize,
        stream: &TablePlan,
    ) -> Result<StreamLoad> {
        let table = &self.db.catalog.tables[stream.table];
        let full = self.db.found.full_name(&table.name);
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let columns: Vec<String> = stream.columns.iter().map(|c| physical(c.target)).collect();
        let types: Vec<ColumnType> = stream.columns.iter().map(|c| c.ty.clone()).collect();
        let casts = types.iter().any(|ty| matches!(ty, ColumnType::Cast(_)));
        let empty = !self.db.side_by_side && self.db.is_empty(&table.name).await?;
        let (waits, must_wait) = self.waits(plan, number)?;
        let checks = self.rehearses();
        let takes_back = !table.references.is_empty()
            && matches!(plan.options.orphans, Some(OnOrphans::Skip | OnOrphans::Adopt));
        let direct = empty || skips(Step::Conflicts);
        let direct = direct && !casts && !checks && !takes_back && !must_wait;
        // what it refers to may have another key in the target
        let direct = direct && self.conflicts.is_empty() && !self.may_be_renamed(stream).await?;
        let staging = match direct {
            true => None,
            false => Some(self.db.stage(number, stream).await?),
        };
        let copy = format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            staging.as_deref().unwrap_or(&full),
            columns.join(", ")
        );
        // what it refuses is said before any row: nothing is kept of it, also not on the server
        drop(self.db.connection.client.prepare(&copy).await.map_err(|e| {
            self.db.connection.failed(Code::Target, format!("cannot write {}", table.name), e)
        })?);
        let sums = RowSketch::new(types.clone(), stream.key.clone());
        Ok(StreamLoad {
            stream: number,
            staging,
            waits,
            merged: false,
            copy,
            types,
            rows: 0,
            kept: 0,
            updates: 0,
            sums,
        })
    }

    /// Whether rows of a stream may refer to existing rows that have another key in the archive.
    async fn may_be_renamed(&self, stream: &TablePlan) -> Result<bool> {
        for reference in &stream.references {
            let mut loads = self.done.iter();
            let goes_into = |load: &StreamLoad| {
                let into = self.plan.streams.get(load.stream).and_then(|s| s.table());
                into.is_some_and(|into| into.table == reference.table)
            };
            let is_known =
                loads.any(|load| goes_into(load) && (load.merged || load.staging.is_none()));
            let parent = &self.db.catalog.tables[reference.table].name;
            let may = match is_known {
                true => self.db.has_other_keys(reference.table),
                false => reference.table != stream.table && !self.db.is_empty(parent).await?,
            };
            if may {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether rows of a stream may refer to rows that are not yet in their table when its own end: to
    /// others of their table, to those of a later stream, or to those that wait themselves. And whether
    /// the server would refuse them until then.
    fn waits(&self, plan: &Plan, number: usize) -> Result<(bool, bool)> {
        let table = PgLoading::table_plan(plan, number)?.table;
        let done = &self.done;
        let goes_into =
            |n: usize, table: usize| plan.streams[n].table().is_some_and(|s| s.table == table);
        let waiting = |table: usize| {
            let mut into = done.iter().filter(|load| goes_into(load.stream, table));
            into.any(|load| load.waits && load.staging.is_some())
        };
        let late = |parent: usize| {
            let mut later = number + 1..plan.streams.len();
            parent == table || waiting(parent) || later.any(|n| goes_into(n, parent))
        };
        let references = &self.db.catalog.tables[table].references;
        // what the archive lacks goes before rows come that may have its unique values
        let replaces = self.replaces_rows();
        let waits = replaces || waiting(table) || references.iter().any(|r| late(r.table));
        let enforced = references.iter().any(|r| r.enforced && late(r.table));
        Ok((waits, enforced && !self.db.silenced.as_replica))
    }
}

impl PgTarget {
    /// Makes the staging table of a stream.
    pub(super) async fn stage(&self, number: usize, stream: &TablePlan) -> Result<String> {
        let table = &self.catalog.tables[stream.table];
        let added = |name: &str| stream.added.iter().any(|a| a.physical == name);
        let staged: Vec<String> = (stream.columns.iter())
            .map(|c| {
                let physical = &table.columns[c.target].physical;
                let name = quoted(physical);
                match &c.ty {
                    ColumnType::Cast(_) => format!("{name}::text AS {name}"),
                    ty if added(physical) => format!("NULL::{} AS {name}", type_name(ty)),
                    _ => name,
                }
            })
            .collect();
        let sql = format!(
            "CREATE TEMPORARY TABLE chronicle_dump_stage_{number} ON COMMIT DROP AS \
             SELECT {} FROM {} WITH NO DATA",
            staged.join(", "),
            self.found.full_name(&table.name)
        );
        self.run("cannot create a staging table", &sql).await?;
        Ok(format!("pg_temp.chronicle_dump_stage_{number}"))
    }
}

/// Sends bytes in messages of the usual size: a large row would need a buffer of its own on its way.
pub(super) async fn send_parts(
    sink: &mut Pin<&mut CopyInSink<Bytes>>,
    mut bytes: Bytes,
) -> std::result::Result<(), tokio_postgres::Error> {
    while bytes.len() > MESSAGE {
        sink.send(bytes.split_to(MESSAGE)).await?;
    }
    sink.send(bytes).await
}

/// The bytes of one message of a COPY.
pub(super) const MESSAGE: usize = 256 << 10;

/// The loading of one stream.
pub(super) struct StreamLoad {
    pub(super) stream: usize,
    /// The staging table, or none if rows go straight into the table.
    pub(super) staging: Option<String>,
    /// Whether its rows may refer to rows that come later, so that what is staged waits for them.
    pub(super) waits: bool,
    /// Whether what was staged is in its table.
    pub(super) merged: bool,
    /// The COPY that takes its rows.
    pub(super) copy: String,
    pub(super) types: Vec<ColumnType>,
    pub(super) rows: u64,
    /// Those of the rows that are not loaded, since the target's own stay.
    pub(super) kept: u64,
    /// Those that existing rows get the values of.
    pub(super) updates: u64,
    /// The sums of the rows that were sent and not taken back.
    pub(super) sums: RowSketch,
}

impl StreamLoad {
    /// The table that holds the rows of this stream.
    pub(super) fn place(&self, found: &PgCatalog, table: &str) -> String {
        self.staging.clone().unwrap_or_else(|| found.full_name(table))
    }

    /// SQL that leaves out the staged rows which are not loaded, since the target's own stay.
    pub(super) fn but_kept(&self, alias: &str) -> String {
        if self.kept == 0 {
            return String::new();
        }
        format!(
            " WHERE NOT EXISTS (SELECT 1 FROM {} d WHERE d.staged = {alias}.ctid \
             AND d.decision = '{KEPT}')",
            decisions(self.stream)
        )
    }
}

/// An error of a COPY, with the row that the server points at.
pub(super) fn refused(
    connection: &Connection,
    stream: &TablePlan,
    rows: &Rows<'_>,
    sent: &[usize],
    e: &tokio_postgres::Error,
) -> Error {
    let server = e.as_db_error();
    let place = match server.map(|s| s.code()) {
        // checked after the last row: the server names the value, not the line
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            server.and_then(|s| s.detail()).and_then(|d| line_with(d, stream, rows, sent))
        }
        _ => server.and_then(|s| s.where_()).and_then(line_of),
    };
    let what = match place {
        Some((line, column)) if (1..=sent.len()).contains(&line) => {
            let column = column.map_or_else(String::new, |c| format!(", column {c}"));
            format!("{}{column}", place_of(stream, rows, sent[line - 1]))
        }
        _ => format!("{}: cannot be written", stream.table_name),
    };
    let code = match server.map(|s| s.code()) {
        Some(&SqlState::UNIQUE_VIOLATION) => Code::Conflict,
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => Code::Orphan,
        Some(state) if is_about_a_value(state) => Code::Value,
        _ => Code::Target,
    };
    let error = connection.said(code, what, e);
    match code {
        Code::Conflict => error.hint("two rows of the archive conflict with each other"),
        _ => with_hint(code, error),
    }
}

/// Whether the server refuses a value: its form, a rule, or its size, as of an index.
pub(super) fn is_about_a_value(state: &SqlState) -> bool {
    ["22", "23", "54"].iter().any(|class| state.code().starts_with(class))
}

/// The way on from a row that the server refused.
pub(super) fn with_hint(code: Code, error: Error) -> Error {
    match code {
        Code::Value if error.next_step().is_none() => {
            error.hint("correct the value in the source and export again; nothing was changed")
        }
        Code::Orphan => error.hint(ENFORCED),
        _ => error,
    }
}

/// The line and columns of the first row with the values that a detail quotes: `Key (column)=(value)
/// …`. Words are translated on some servers, the parentheses are not.
pub(super) fn line_with(
    detail: &str,
    stream: &TablePlan,
    rows: &Rows<'_>,
    sent: &[usize],
) -> Option<(usize, Option<String>)> {
    let (before, after) = detail.split_once(")=(")?;
    let (names, wanted) = (before.split_once('(')?.1, after.split_once(')')?.0);
    let column = |name: &str| stream.columns.iter().position(|c| c.name == name);
    let columns: Vec<usize> = names.split(", ").map(column).collect::<Option<_>>()?;
    let is_it = |row: &usize| {
        let values = columns.iter().map(|c| chronicle_archive::show(rows.rows.value(*row, *c)));
        values.collect::<Vec<_>>().join(", ") == wanted
    };
    let line = sent.iter().position(is_it)?;
    Some((line + 1, Some(show_text(names))))
}

/// A row's place in the archive and its key, for messages.
pub(super) fn place_of(stream: &TablePlan, rows: &Rows<'_>, row: usize) -> String {
    let from = rows.from.get(row).copied().unwrap_or(0);
    format!(
        "{}: row {} (key {})",
        stream.table_name,
        rows.source.first_row() + from as u64,
        key_of(&stream.source, rows.source, from)
    )
}

/// A type that we give a column, as SQL.
pub(super) fn type_name(ty: &ColumnType) -> &'static str {
    match ty {
        ColumnType::Int(_) => "bigint",
        ColumnType::Float(_) => "double precision",
        ColumnType::Bool => "boolean",
        ColumnType::Timestamptz => "timestamptz",
        ColumnType::Uuid => "uuid",
        ColumnType::Bytea => "bytea",
        ColumnType::Json => "json",
        ColumnType::Jsonb => "jsonb",
        ColumnType::Text(_) | ColumnType::Cast(_) | ColumnType::Sqlite(_) => "text",
    }
}

/// The line and column in a COPY's context: `COPY t, line 7, column c: …`. Words are translated
/// on some servers, the numbers are in the same places.
pub(super) fn line_of(context: &str) -> Option<(usize, Option<String>)> {
    let mut parts = context.split(", ").skip(1);
    let digits: String = parts.next()?.chars().filter(char::is_ascii_digit).take(12).collect();
    let column = parts.next().and_then(|p| p.split([':', ' ']).nth(1)).map(show_text);
    Some((digits.parse().ok()?, column.filter(|c| !c.is_empty())))
}
