//! What is kept beside the rows, on its way into our own two tables.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, pin_mut};
use tokio_postgres::Statement;

use super::copy::MESSAGE;
use super::{Loading, PgTarget};
use crate::catalog::ColumnType;
use crate::error::{Code, Result};
use crate::load::{Purpose, Refused, Rows};
use crate::plan::{Plan, StreamPlan, TablePlan};
use crate::policy::OnUnrepresentable;
use crate::postgres::{copy_codec, literal, quoted};
use crate::sidecar::{COLUMNS, DEFAULT, SIDECAR, SidecarEntry, kept_otherwise};
use chronicle_archive::{Batch, TimeText, Value};

impl PgTarget {
    /// Makes our own tables where they are missing, notes the columns that are original_columns, and
    /// prepares to stage what is kept beside the rows.
    pub(super) async fn remember(&self, plan: &Plan) -> Result<Statement> {
        let what = "cannot make the tables for what is kept beside the rows";
        let (sidecar, columns) = (self.found.full_name(SIDECAR), self.found.full_name(COLUMNS));
        let mut sql = format!(
            "CREATE TABLE IF NOT EXISTS {sidecar} (table_name text NOT NULL, key text NOT NULL, \
                 sidecar text NOT NULL, PRIMARY KEY (table_name, key)); \
             CREATE TABLE IF NOT EXISTS {columns} (table_name text NOT NULL, name text NOT NULL, \
                 place integer NOT NULL, kind text NOT NULL, instant boolean NOT NULL, \
                 utc boolean NOT NULL, PRIMARY KEY (table_name, name)); \
             CREATE TEMPORARY TABLE chronicle_dump_stage_residue (table_name text, key text, \
                 sidecar text, counted boolean) ON COMMIT DROP; \
             CREATE TEMPORARY TABLE chronicle_dump_stage_filled (table_name text, key text, \
                 filled text) ON COMMIT DROP;"
        );
        // what is kept is as private as the rows: nobody but the owner reads it through an interface
        let roles = "SELECT quote_ident(rolname) FROM pg_catalog.pg_roles \
                      WHERE rolname IN ('anon', 'authenticated')";
        let roles = self.connection.rows(Code::Target, what, roles).await?;
        let mut others: Vec<String> = roles.into_iter().flatten().flatten().collect();
        others.push("PUBLIC".into());
        for table in [&sidecar, &columns] {
            sql.push_str(&format!(
                "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; REVOKE ALL ON {table} FROM {};",
                others.join(", ")
            ));
        }
        for (table, place, column) in plan.original_columns() {
            sql.push_str(&format!(
                "INSERT INTO {columns} VALUES ({}, {}, {place}, '{}', {}, {}) \
                 ON CONFLICT DO NOTHING;",
                literal(table),
                literal(&column.name),
                column.kind.word(),
                column.time_text.is_time(),
                column.time_text == TimeText::Utc
            ));
        }
        self.run(what, &sql).await?;
        let copy = format!("COPY {STAGED_RESIDUE} FROM STDIN (FORMAT binary)");
        let prepared = self.connection.client.prepare(&copy).await;
        prepared.map_err(|e| self.connection.failed(Code::Target, what, e))
    }

    /// Stages what is kept beside rows, and rows that are stored whole.
    pub(super) async fn send_residue(
        &mut self,
        stream: &StreamPlan,
        rows: &Rows<'_>,
        refused: &[Refused],
    ) -> Result<()> {
        let none = rows.sidecar.is_empty() && rows.whole_rows.is_empty();
        if (none && rows.also_whole.is_empty()) || self.purpose == Purpose::Check {
            return Ok(());
        }
        if let Some(Loading { sidecar: None, plan, .. }) = &self.loading {
            // only now: who keeps nothing gets no tables of ours
            let copy = self.remember(plan).await?;
            if let Some(loading) = &mut self.loading {
                loading.sidecar = Some(copy);
            }
        }
        let copy = self.loading.as_ref().and_then(|l| l.sidecar.as_ref());
        let Some(copy) = copy else { return Ok(()) };
        let cannot = |e| self.connection.failed(Code::Target, "cannot keep the originals", e);
        let sink = self.connection.client.copy_in::<_, Bytes>(copy).await.map_err(cannot)?;
        pin_mut!(sink);
        let text = ColumnType::Text(None);
        let types = [text.clone(), text.clone(), text, ColumnType::Bool];
        let mut row = Batch::default();
        let mut buffer = BytesMut::new();
        copy_codec::start(&mut buffer);
        let loaded = |entry: &&SidecarEntry| !refused.iter().any(|r| r.row == entry.row);
        let whole = stream.unmapped().map_or("", |unmapped| &unmapped.table_name);
        let entries = (rows.sidecar.iter().filter(loaded))
            .map(|entry| (stream.table_name(), entry, true))
            .chain(rows.whole_rows.iter().map(|entry| (whole, entry, true)))
            .chain(rows.also_whole.iter().filter(loaded).map(|entry| (whole, entry, false)));
        for (table, entry, counted) in entries {
            row.start(0, 4, 1);
            for text in [table, &entry.key, &entry.text] {
                row.push(Value::Text(text.as_bytes()));
            }
            row.push(Value::Bool(counted));
            copy_codec::put_row(&mut buffer, &types, &row, 0, None)?;
            if buffer.len() >= MESSAGE {
                sink.send(buffer.split().freeze()).await.map_err(cannot)?;
            }
        }
        copy_codec::end(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(cannot)?;
        sink.finish().await.map_err(cannot)?;
        Ok(())
    }

    /// SQL for the key of a row `t` that is new in its table and for what the table's defaults have
    /// put into it, in the form of what is kept beside rows; None if nothing of it is kept.
    pub(super) fn filled(&self, stream: &TablePlan) -> Option<String> {
        let loading = self.loading.as_ref().filter(|l| l.sidecar.is_some())?;
        let table = &self.catalog.tables[stream.table];
        let values: Vec<String> = (table.columns.iter())
            .filter(|c| c.has_default && stream.defaulted.contains(&c.name))
            .map(|c| format!("({}, t.{}::text)", literal(&c.name), quoted(&c.physical)))
            .collect();
        let key = &table.columns[*table.key.first()?].physical;
        let preserves = loading.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        (preserves && !values.is_empty()).then(|| {
            format!(
                "{}, t.{}::text, (SELECT json_object_agg(name, json_build_object('{DEFAULT}', value))::text \
                   FROM (VALUES {}) AS d (name, value) WHERE value IS NOT NULL)",
                literal(&stream.table_name),
                quoted(key),
                values.join(", ")
            )
        })
    }

    /// Notes what defaults have put into the rows of a table that was empty before.
    pub(super) async fn note_filled(&self, stream: &TablePlan) -> Result<()> {
        let Some(filled) = self.filled(stream) else { return Ok(()) };
        let full = self.found.full_name(&stream.table_name);
        let sql = format!("INSERT INTO {STAGED_FILLED} SELECT {filled} FROM {full} t");
        self.run("cannot note what defaults have put into the rows", &sql).await
    }

    /// Whether anything is kept beside the rows of this schema.
    pub(super) async fn keeps_residue(&self, what: &str) -> Result<bool> {
        let own = self.found.full_name(SIDECAR);
        let there = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", literal(&own));
        Ok(!self.connection.rows(Code::Target, what, &there).await?.is_empty())
    }

    /// Removes what was kept beside rows that are no longer there.
    pub(super) async fn forget(&self, table: &str) -> Result<()> {
        let sidecar = self.found.full_name(SIDECAR);
        if !self.keeps_residue("cannot read what is kept beside the rows").await? {
            return Ok(());
        }
        let sql = format!("DELETE FROM {sidecar} WHERE table_name = {}", literal(table));
        self.run("cannot forget the originals of rows that are gone", &sql).await
    }

    /// Brings what is kept beside the rows into its table. Rows that have no table and are there
    /// already stay as they are, as in a table.
    pub(super) async fn keep_residue(&mut self) -> Result<()> {
        if self.loading.as_ref().is_none_or(|l| l.sidecar.is_none()) {
            return Ok(());
        }
        self.count_new_whole_rows().await?;
        let sidecar = self.found.full_name(SIDECAR);
        let sql = format!(
            "SELECT s.table_name, s.key, n.key FROM {STAGED_RESIDUE} s \
               JOIN {sidecar} r ON r.table_name = s.table_name AND r.key = s.key \
              CROSS JOIN LATERAL jsonb_each(s.sidecar::jsonb) n \
               JOIN LATERAL jsonb_each(r.sidecar::jsonb) o ON o.key = n.key \
              WHERE o.value <> n.value LIMIT 1"
        );
        let other = self.connection.rows(Code::Target, "cannot keep the originals", &sql).await?;
        if let Some([Some(table), Some(key), Some(column)]) = other.first().map(|row| &row[..]) {
            return Err(kept_otherwise(table, key, column));
        }
        let sql = format!(
            "INSERT INTO {sidecar} AS r \
             SELECT table_name, key, coalesce((k.sidecar::jsonb || f.filled::jsonb)::text, \
                                              k.sidecar, f.filled) \
               FROM (SELECT DISTINCT ON (table_name, key) table_name, key, sidecar \
                       FROM {STAGED_RESIDUE}) k \
               FULL JOIN (SELECT * FROM {STAGED_FILLED} WHERE filled IS NOT NULL) f \
              USING (table_name, key) \
             ON CONFLICT (table_name, key) \
             DO UPDATE SET sidecar = (r.sidecar::jsonb || excluded.sidecar::jsonb)::text \
              WHERE NOT r.sidecar::jsonb @> excluded.sidecar::jsonb"
        );
        self.run("cannot keep the originals", &sql).await
    }

    /// Counts which of the rows that were stored whole, and not loaded, are new.
    async fn count_new_whole_rows(&mut self) -> Result<()> {
        let sidecar = self.found.full_name(SIDECAR);
        let Some(loading) = &mut self.loading else { return Ok(()) };
        let plan = Arc::clone(&loading.plan);
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(unmapped) = stream.unmapped() else { continue };
            let sql = format!(
                "SELECT count(DISTINCT s.key) FROM {STAGED_RESIDUE} s \
                  WHERE s.table_name = {} AND s.counted \
                    AND NOT EXISTS (SELECT 1 FROM {sidecar} r \
                                     WHERE r.table_name = s.table_name AND r.key = s.key)",
                literal(&unmapped.table_name)
            );
            let rows =
                self.connection.rows(Code::Target, "cannot keep the originals", &sql).await?;
            let new = rows.into_iter().flatten().flatten().next().and_then(|n| n.parse().ok());
            let all = std::mem::take(&mut loading.whole_rows[number]);
            let new = new.unwrap_or(all);
            loading.loaded[number].inserted_rows += new;
            loading.loaded[number].skipped_rows += all.saturating_sub(new);
        }
        Ok(())
    }

    /// Counts the rows that were stored whole and for which nobody asked whether they are new.
    pub(super) fn count_whole_rows(&mut self) {
        let Some(loading) = &mut self.loading else { return };
        for (loaded, rows) in loading.loaded.iter_mut().zip(&mut loading.whole_rows) {
            loaded.inserted_rows += std::mem::take(rows);
        }
    }
}

/// Where it is noted what defaults have put into new rows.
pub(super) const STAGED_FILLED: &str = "pg_temp.chronicle_dump_stage_filled";
/// Where what is kept beside the rows is staged.
pub(super) const STAGED_RESIDUE: &str = "pg_temp.chronicle_dump_stage_residue";
