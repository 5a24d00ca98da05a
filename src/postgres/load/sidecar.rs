//! The entries of the sidecar table: what the tables cannot hold of their rows, on its way into our own two tables.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::pin_mut;

use super::PgTarget;
use super::conflict::REPLACED;
use super::copy::{MESSAGE, send_parts};
use super::loading::{Mode, PgLoading};
use super::receipts::keys_of;
use crate::catalog::ColumnType;
use crate::error::{Code, Result};
use crate::load::{Cause, Conflict, Rejected, Rows, SAMPLES, without};
use crate::notice::{Notice, NoticeKind};
use crate::plan::{Plan, StreamPlan, TablePlan};
use crate::policy::{OnConflict, OnUnrepresentable};
use crate::postgres::own_tables::{Denied, OwnTables};
use crate::postgres::source::time_text;
use crate::postgres::{copy_codec, literal, quoted};
use crate::sidecar::{DEFAULT, SidecarEntry, in_ascii};
use chronicle_archive::Value;

/// Where defaults that the table has put into new rows are staged.
pub(super) const STAGED_DEFAULTS: &str = "pg_temp.chronicle_dump_stage_defaults";
/// Where entries are staged.
pub(super) const STAGED_ENTRIES: &str = "pg_temp.chronicle_dump_stage_entries";

/// Where entries of the sidecar table go.
pub(super) struct SidecarCopy {
    /// Our own tables.
    pub(super) tables: OwnTables,
}

impl PgTarget {
    /// Our own tables, if there are any that this role may use.
    pub(super) async fn own_tables(&self) -> Result<Option<OwnTables>> {
        let found = OwnTables::find(&self.connection, Code::Target, &self.found.schema).await?;
        Ok(found.filter(|tables| tables.readable))
    }

    /// Creates our own tables where they are missing, notes the columns that the archive has, and
    /// prepares to stage entries.
    pub(super) async fn start_sidecar(&self, plan: &Plan) -> Result<SidecarCopy> {
        self.try_start_sidecar(plan).await?.map_err(|denied| {
            denied.error(
                "cannot create the sidecar table",
                ", or --on-unrepresentable adapt and --on-missing-column drop store nothing there",
            )
        })
    }

    /// The same; where this role may not have the tables, nothing is prepared as long as no row needs them.
    pub(super) async fn start_sidecar_if_allowed(
        &mut self,
        plan: &Plan,
    ) -> Result<Option<SidecarCopy>> {
        match self.try_start_sidecar(plan).await? {
            Ok(sidecar) => Ok(Some(sidecar)),
            Err(_) if plan.needs_sidecar() => self.start_sidecar(plan).await.map(Some),
            Err(Denied { why, grant }) => {
                let text = format!("the columns of the archive are not recorded: {why} ({grant})");
                self.notices.push(Notice::new(NoticeKind::NotRecorded, text));
                Ok(None)
            }
        }
    }

    async fn try_start_sidecar(
        &self,
        plan: &Plan,
    ) -> Result<std::result::Result<SidecarCopy, Denied>> {
        let what = "cannot prepare the sidecar table";
        let tables = match OwnTables::create(&self.connection, &self.found.schema).await? {
            Ok(tables) => tables,
            Err(denied) => return Ok(Err(denied)),
        };
        let mut sql = String::from(
            "CREATE TEMPORARY TABLE chronicle_dump_stage_entries (table_name text, key text, \
                 entry text, counted boolean) ON COMMIT DROP; \
             CREATE TEMPORARY TABLE chronicle_dump_stage_defaults (table_name text, key text, \
                 entry text) ON COMMIT DROP;",
        );
        let rows: Vec<String> = (plan.original_columns())
            .map(|(table, place, column)| {
                format!(
                    "({}, {}, {}, {place}, '{}', '{}')",
                    tables.schema_name(),
                    literal(table),
                    literal(&column.name),
                    column.kind.word(),
                    time_text(column.time_text)
                )
            })
            .collect();
        if !rows.is_empty() {
            let original = plan.original_columns();
            let keys = keys_of(original.map(|(table, _, column)| (table, column.name.as_str())));
            self.note_new_entries(&tables, 1, &keys).await?;
            sql.push_str(&format!(
                "INSERT INTO {} VALUES {} ON CONFLICT DO NOTHING;",
                tables.columns,
                rows.join(", ")
            ));
        }
        self.run(what, &sql).await?;
        Ok(Ok(SidecarCopy { tables }))
    }

    /// Deletes the entries of our own tables for tables without rows: those rows are gone, perhaps with the
    /// whole table.
    pub(super) async fn forget_gone_rows(&self, plan: &Plan) -> Result<()> {
        // an import of several connections has done that before
        if self.side_by_side {
            return Ok(());
        }
        let Some(own) = self.own_tables().await? else { return Ok(()) };
        for (_, stream) in plan.tables() {
            let table = &self.catalog.tables[stream.table].name;
            if !self.is_empty(table).await? {
                continue;
            }
            let gone = own.belongs("r", table);
            for of in [0, 1] {
                self.note_entries(&own, of, &own.belongs("t", table)).await?;
            }
            let sql = format!(
                "DELETE FROM {} r WHERE {gone}; DELETE FROM {} r WHERE {gone}",
                own.sidecar, own.columns
            );
            self.run("cannot delete the entries of rows that are gone", &sql).await?;
        }
        Ok(())
    }
}

impl PgLoading {
    /// Stages the entries of rows, and rows that are stored whole.
    pub(super) async fn stage_entries(
        &mut self,
        stream: &StreamPlan,
        rows: &Rows<'_>,
        refused: &[Rejected],
    ) -> Result<()> {
        let none = rows.sidecar.is_empty() && rows.whole_rows.is_empty();
        if (none && rows.also_whole.is_empty()) || self.rehearses() {
            return Ok(());
        }
        if let Mode::Load { sidecar: none @ None, .. } = &mut self.mode {
            // only now: without entries there are no tables of ours
            *none = Some(self.db.start_sidecar(&self.plan).await?);
        }
        if self.sidecar().is_none() {
            return Ok(());
        }
        let copy = format!("COPY {STAGED_ENTRIES} FROM STDIN (FORMAT binary)");
        let cannot = |e| self.db.connection.failed(Code::Target, "cannot stage entries", e);
        let sink =
            self.db.connection.client.copy_in::<_, Bytes>(copy.as_str()).await.map_err(cannot)?;
        pin_mut!(sink);
        let (text, boolean) = (ColumnType::Text(None), ColumnType::Bool);
        let mut buffer = BytesMut::new();
        copy_codec::start(&mut buffer);
        let loaded = |entry: &&SidecarEntry| !refused.iter().any(|r| r.row == entry.row);
        let whole = stream.unmapped().map_or("", |unmapped| &unmapped.table_name);
        let entries = (rows.sidecar.iter().filter(loaded))
            .map(|entry| (stream.table_name(), entry, true))
            .chain(rows.whole_rows.iter().map(|entry| (whole, entry, true)))
            .chain(rows.also_whole.iter().filter(loaded).map(|entry| (whole, entry, false)));
        for (table, entry, counted) in entries {
            let ascii = self.db.narrow_encoding.then(|| in_ascii(&entry.text));
            let texts = [table, &entry.key, ascii.as_ref().unwrap_or(&entry.text)];
            let [table, key, entry] = texts.map(|value| (&text, Value::Text(value.as_bytes())));
            let row = [table, key, entry, (&boolean, Value::Bool(counted))];
            copy_codec::put_values(&mut buffer, row.into_iter())?;
            if buffer.len() >= MESSAGE {
                send_parts(&mut sink, buffer.split().freeze()).await.map_err(cannot)?;
            }
        }
        copy_codec::end(&mut buffer);
        send_parts(&mut sink, buffer.freeze()).await.map_err(cannot)?;
        sink.finish().await.map_err(cannot)?;
        Ok(())
    }

    /// SQL for the key of a row `t` that is new in its table and for what the table's defaults have
    /// put into it, in the form of an entry; `None` if nothing of it is noted.
    pub(super) fn defaults(&self, stream: &TablePlan) -> Option<String> {
        self.sidecar()?;
        let table = &self.db.catalog.tables[stream.table];
        let values: Vec<String> = (table.columns.iter())
            .filter(|c| c.has_default && stream.defaulted.contains(&c.name))
            .map(|c| format!("({}, t.{}::text)", literal(&c.name), quoted(&c.physical)))
            .collect();
        let preserves = self.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        (preserves && !values.is_empty()).then(|| {
            format!(
                "{}, {}, (SELECT json_object_agg(name, json_build_object('{DEFAULT}', value))::text \
                   FROM (VALUES {}) AS d (name, value) WHERE value IS NOT NULL)",
                literal(&stream.table_name),
                self.db.key(stream).text("t"),
                values.join(", ")
            )
        })
    }

    /// Notes what defaults have put into the rows of a table that was empty before.
    pub(super) async fn note_defaults(&self, stream: &TablePlan) -> Result<()> {
        let Some(defaults) = self.defaults(stream) else { return Ok(()) };
        let full = self.db.found.full_name(&stream.table_name);
        let sql = format!("INSERT INTO {STAGED_DEFAULTS} SELECT {defaults} FROM {full} t");
        self.db.run("cannot note what defaults have put into the rows", &sql).await
    }

    /// Brings staged entries into the sidecar table, in place of those of rows that have new values. Rows
    /// without a table that exist already stay unchanged, as in a table, unless the policy replaces them.
    pub(super) async fn store_entries(&mut self) -> Result<()> {
        const WHAT: &str = "cannot store the entries of rows";
        self.forget_replaced().await?;
        let Some(SidecarCopy { tables, .. }) = self.sidecar() else { return Ok(()) };
        let own = tables.clone();
        self.count_new_whole_rows(&own).await?;
        self.refuse_other_originals(&own).await?;
        let names =
            |names: Vec<&str>| names.into_iter().map(literal).collect::<Vec<_>>().join(", ");
        let keys = format!(
            "SELECT table_name, key FROM {STAGED_ENTRIES} UNION ALL \
             SELECT table_name, key FROM {STAGED_DEFAULTS} WHERE entry IS NOT NULL"
        );
        self.db.note_new_entries(&own, 0, &keys).await?;
        let kept = self.tables_with(OnConflict::Skip);
        let joined = match kept.is_empty() {
            true => "(r.entry::jsonb || excluded.entry::jsonb)::text".to_owned(),
            false => format!(
                "CASE WHEN r.table_name IN ({}) THEN (excluded.entry::jsonb || r.entry::jsonb)::text \
                 ELSE (r.entry::jsonb || excluded.entry::jsonb)::text END",
                names(kept)
            ),
        };
        let sql = format!(
            "INSERT INTO {} AS r \
             SELECT {}, table_name, key, \
                    coalesce((e.entry::jsonb || d.entry::jsonb)::text, e.entry, d.entry) \
               FROM (SELECT DISTINCT ON (table_name, key) table_name, key, entry \
                       FROM {STAGED_ENTRIES}) e \
               FULL JOIN (SELECT * FROM {STAGED_DEFAULTS} WHERE entry IS NOT NULL) d \
              USING (table_name, key) \
             ON CONFLICT (schema_name, table_name, key) DO UPDATE SET entry = {joined} \
              WHERE NOT r.entry::jsonb @> excluded.entry::jsonb",
            own.sidecar,
            own.schema_name()
        );
        self.db.run(WHAT, &sql).await
    }

    /// Deletes the entries of rows that have new values: those belong to the old ones.
    async fn forget_replaced(&self) -> Result<()> {
        if self.loaded.iter().all(|loaded| loaded.updated_rows == 0) {
            return Ok(());
        }
        let Some(own) = self.db.own_tables().await? else { return Ok(()) };
        let replaced = format!(
            "{} AND (t.table_name, t.key) IN (SELECT table_name, key FROM {REPLACED})",
            own.of_schema("t")
        );
        self.db.note_entries(&own, 0, &replaced).await?;
        let sql = format!(
            "DELETE FROM {} r USING {REPLACED} p WHERE {} AND r.table_name = p.table_name \
             AND r.key = p.key",
            own.sidecar,
            own.of_schema("r")
        );
        self.db.run("cannot delete the entries of old values", &sql).await
    }

    /// The names under which the sidecar table has the streams with one choice about conflicts.
    fn tables_with(&self, choice: OnConflict) -> Vec<&str> {
        let mut names = Vec::new();
        for stream in &self.plan.streams {
            if let Some(table) = stream.table().filter(|t| t.on_conflict == choice) {
                names.push(table.table_name.as_str());
            }
            if let Some(whole) = stream.unmapped().filter(|u| u.on_conflict == choice) {
                names.push(whole.table_name.as_str());
            }
        }
        names
    }

    /// Finds the entries in which an original differs from the stored one, where nothing settles it.
    async fn refuse_other_originals(&mut self, own: &OwnTables) -> Result<()> {
        let mut names = self.tables_with(OnConflict::Fail);
        names.extend(self.tables_with(OnConflict::Newer));
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = names.into_iter().map(literal).collect();
        let sql = format!(
            "SELECT s.table_name, n.key, count(*), to_json((array_agg(s.key ORDER BY s.key))[1:{SAMPLES}]) \
               FROM {STAGED_ENTRIES} s \
              CROSS JOIN LATERAL (SELECT r.entry FROM {} r WHERE {} AND r.table_name = s.table_name \
                                     AND r.key = s.key AND r.entry <> s.entry OFFSET 0) r \
              CROSS JOIN LATERAL jsonb_each(s.entry::jsonb) n \
               JOIN LATERAL jsonb_each(r.entry::jsonb) o ON o.key = n.key \
              WHERE o.value <> n.value AND s.table_name IN ({}) GROUP BY 1, 2 ORDER BY 1, 2",
            own.sidecar,
            own.of_schema("r"),
            names.join(", ")
        );
        let read = self.db.connection.read(Code::Target, "cannot compare entries", &sql, |row| {
            Ok((row.text()?, row.text()?, row.parsed::<u64>()?, row.texts()?))
        });
        for (table, column, rows, samples) in read.await? {
            let is_it = |s: &&StreamPlan| {
                let whole = s.unmapped().is_some_and(|whole| whole.table_name == table);
                whole || s.table_name() == table
            };
            let stream = self.plan.streams.iter().find(is_it).map_or("", StreamPlan::name);
            let (stream, cause) = (stream.to_owned(), Cause::OriginalDiffers { column });
            self.conflicts.add(Conflict { stream, cause, rows, samples });
        }
        Ok(())
    }

    /// Counts which of the rows that were stored whole, and not loaded, are new.
    async fn count_new_whole_rows(&mut self, own: &OwnTables) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(unmapped) = stream.unmapped() else { continue };
            if self.whole_rows[number] == 0 {
                continue;
            }
            let sql = format!(
                "SELECT count(DISTINCT s.key) FROM {STAGED_ENTRIES} s \
                  WHERE s.table_name = {} AND s.counted \
                    AND NOT EXISTS (SELECT 1 FROM {} r WHERE {} AND r.key = s.key)",
                literal(&unmapped.table_name),
                own.sidecar,
                own.belongs("r", &unmapped.table_name)
            );
            let what = "cannot count the entries that are new";
            let read = self.db.connection.read(Code::Target, what, &sql, |row| row.parsed::<u64>());
            for new in read.await? {
                let all = std::mem::take(&mut self.whole_rows[number]);
                self.loaded[number].inserted_rows += new;
                self.loaded[number].skipped_rows += without(all, new)?;
            }
        }
        Ok(())
    }

    /// Counts the rows that were stored whole and for which nobody asked whether they are new.
    pub(super) fn count_whole_rows(&mut self) {
        for (loaded, rows) in self.loaded.iter_mut().zip(&mut self.whole_rows) {
            loaded.inserted_rows += std::mem::take(rows);
        }
    }
}
