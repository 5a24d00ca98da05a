//! Rows that refer to rows which are not there: found, left out, or given the session that they lack.

use std::sync::Arc;

use super::copy::Load;
use super::sidecar::STAGED_RESIDUE;
use super::{Loading, PgTarget, not_begun};
use crate::catalog::Reference;
use crate::error::{Code, Error, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::{Problems, Purpose};
use crate::plan::TablePlan;
use crate::policy::OnOrphans;
use crate::policy::OnUnrepresentable;
use crate::postgres::catalog::ForeignKey;
use crate::postgres::{literal, quoted, row_text};
use crate::sidecar::{DEFAULT, SIDECAR, WHOLE_ROW};
use crate::source::{ORPHANS_NAMED, Orphans};
use chronicle_archive::show_text;

impl PgTarget {
    /// Decides about staged rows that refer to nothing.
    pub(super) async fn settle_orphans(
        &mut self,
        stream: &TablePlan,
        load: &mut Load,
        staging: &str,
    ) -> Result<()> {
        let wanted = self.loading.as_ref().and_then(|l| l.plan.options.orphans);
        for reference in self.catalog.tables[stream.table].references.clone() {
            let Some(left) = self.orphans_in(staging, stream, &reference).await? else { continue };
            let refused = reference.enforced || wanted == Some(OnOrphans::Fail);
            match wanted {
                Some(OnOrphans::Skip) => {
                    let rows = self.skip(stream, &reference, load, staging).await?;
                    let Some(loading) = &mut self.loading else { return Ok(()) };
                    loading.loaded[load.stream].orphans_skipped += rows;
                }
                Some(OnOrphans::Adopt) if self.adopts(&reference) => {
                    let rows = self.adopt(stream, &reference, staging).await?;
                    let Some(loading) = &mut self.loading else { return Ok(()) };
                    loading.loaded[load.stream].adopted_rows += rows;
                }
                _ if refused && self.purpose == Purpose::Load => {
                    return Err(left.refused(reference.enforced));
                }
                _ if refused => {
                    let Some(loading) = &mut self.loading else { return Ok(()) };
                    loading.problems.orphans(&left);
                    continue;
                }
                _ => {}
            }
            let Some(loading) = &mut self.loading else { return Ok(()) };
            loading.orphans.push(left);
        }
        Ok(())
    }

    /// Whether rows can be made for this reference: sessions can, the rest would be empty.
    fn adopts(&self, reference: &Reference) -> bool {
        self.catalog.tables[reference.table].adoptable
    }

    /// Takes staged rows out again that refer to nothing.
    pub(super) async fn skip(
        &self,
        stream: &TablePlan,
        reference: &Reference,
        load: &mut Load,
        staging: &str,
    ) -> Result<u64> {
        let Some((_, condition)) = self.orphan_condition(stream, reference) else { return Ok(0) };
        let sums = &mut load.sums;
        let from = format!("{staging} c WHERE {condition}");
        self.each_row(stream, &load.types, &from, |batch, row| sums.take(batch, row)).await?;
        let key = self.key_text(stream, "c");
        let mut sql = String::new();
        if self.loading.as_ref().is_some_and(|l| l.sidecar.is_some()) {
            sql = format!(
                "DELETE FROM {STAGED_RESIDUE} r USING {staging} c \
                  WHERE r.table_name = {} AND r.key = {key} AND {condition};",
                literal(&stream.table_name)
            );
        }
        if !sql.is_empty() {
            self.run("cannot leave out rows without a session", &sql).await?;
        }
        let sql = format!("DELETE FROM {staging} c WHERE {condition}");
        let rows = self.connection.client.execute_typed(&sql, &[]).await.map_err(|e| {
            self.connection.failed(Code::Target, "cannot leave out rows without a session", e)
        })?;
        load.rows -= rows;
        Ok(rows)
    }

    /// Makes the sessions that staged rows refer to.
    pub(super) async fn adopt(
        &self,
        stream: &TablePlan,
        reference: &Reference,
        staging: &str,
    ) -> Result<u64> {
        let Some((refers, condition)) = self.orphan_condition(stream, reference) else {
            return Ok(0);
        };
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let Some(key) = parent.key.first().map(|k| &parent.columns[*k]) else { return Ok(0) };
        let at = stream.columns.iter().find(|c| c.name == "timestamp");
        let at = at.map_or_else(
            || "NULL".into(),
            |c| format!("min(c.{})", quoted(&table.columns[c.target].physical)),
        );
        let mut columns = vec![(quoted(&key.physical), format!("c.{refers}"))];
        for column in &parent.columns {
            let value = match column.name.as_str() {
                "start_time" => at.clone(),
                _ if column.name == key.name || !column.not_null || column.has_default => continue,
                _ if column.default_from.as_deref() == Some(&key.name) => {
                    format!("c.{refers}::text")
                }
                _ => column.default.as_deref().map_or_else(|| "''".into(), literal),
            };
            columns.push((quoted(&column.physical), value));
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let mut sql = format!(
            "INSERT INTO {} AS p ({}) SELECT {} FROM {staging} c WHERE {condition} GROUP BY c.{refers}",
            self.found.full_name(&parent.name),
            names.join(", "),
            values.join(", ")
        );
        let keeps = |l: &Loading| {
            let preserves = l.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
            preserves && l.sidecar.is_some()
        };
        if self.loading.as_ref().is_some_and(keeps) {
            // what was kept of a row that had this key is of a row that is gone
            sql = format!(
                "WITH made AS ({sql} RETURNING p.*) INSERT INTO {} SELECT {}, m.{}::text, \
                        jsonb_build_object('{WHOLE_ROW}', jsonb_build_object('{DEFAULT}', {}))::text \
                   FROM made m ON CONFLICT (table_name, key) DO UPDATE SET sidecar = excluded.sidecar",
                self.found.full_name(SIDECAR),
                literal(&parent.name),
                quoted(&key.physical),
                row_text("m")
            );
        }
        self.connection.client.execute_typed(&sql, &[]).await.map_err(|e| {
            self.connection.failed(Code::Target, "cannot make the sessions that rows refer to", e)
        })
    }

    /// Checks the references of rows that went straight into their tables.
    pub(super) async fn check_direct(&mut self) -> Result<()> {
        let loading = self.loading.as_ref().ok_or_else(not_begun)?;
        let (plan, mut found) = (Arc::clone(&loading.plan), Vec::new());
        for load in loading.done.iter().filter(|l| l.staging.is_none()) {
            let Some(stream) = plan.streams[load.stream].table() else { continue };
            let table = &self.catalog.tables[stream.table];
            for reference in &table.references {
                let place = self.found.full_name(&table.name);
                let Some(left) = self.orphans_in(&place, stream, reference).await? else {
                    continue;
                };
                if reference.enforced || plan.options.orphans == Some(OnOrphans::Fail) {
                    return Err(left.refused(reference.enforced));
                }
                found.push(left);
            }
        }
        if let Some(loading) = &mut self.loading {
            loading.orphans.append(&mut found);
        }
        Ok(())
    }

    /// Checks the foreign keys that no layout knows of: while triggers are silenced the server may
    /// not check them itself.
    pub(super) async fn check_foreign_keys(&mut self) -> Result<()> {
        let Some(loading) = &self.loading else { return Ok(()) };
        let mut problems = Problems::default();
        for load in &loading.done {
            let Some(stream) = loading.plan.streams[load.stream].table() else { continue };
            let table = &self.catalog.tables[stream.table];
            let known = |column: &str| {
                table.references.iter().any(|r| table.columns[r.columns[0]].physical == column)
            };
            let loaded = |column: &String| {
                stream.columns.iter().any(|c| table.columns[c.target].physical == *column)
            };
            for key in self.found.foreign_keys.iter().filter(|k| k.table == table.name) {
                let ours = key.columns.len() == 1 && known(&key.columns[0]);
                if ours || !key.columns.iter().all(loaded) {
                    continue;
                }
                let place = load.place(&self.found, &table.name);
                match (self.check_foreign_key(stream, key, &place).await, self.purpose) {
                    (Err(e), Purpose::Check) if e.code() == Code::Orphan => {
                        problems.refused(&stream.stream, &e);
                    }
                    (checked, _) => checked?,
                }
            }
        }
        if let Some(loading) = &mut self.loading {
            problems.all().into_iter().for_each(|p| loading.problems.push(p));
        }
        Ok(())
    }

    /// The tables that a foreign key refers to: for a check also what would go into them.
    pub(super) fn parents(&self, key: &ForeignKey) -> Vec<String> {
        let mut places = vec![key.parent.clone()];
        let parent = self.found.tables.iter().find(|t| t.oid == key.parent_oid);
        let Some(loading) = self.loading.as_ref().filter(|_| self.purpose == Purpose::Check) else {
            return places;
        };
        for load in &loading.done {
            let Some(stream) = loading.plan.streams[load.stream].table() else { continue };
            let written = |name: &String| {
                let columns = &self.catalog.tables[stream.table].columns;
                stream.columns.iter().any(|c| columns[c.target].physical == *name)
            };
            if parent.is_some_and(|t| t.name == stream.table_name) && key.keys.iter().all(written) {
                places.extend(load.staging.clone());
            }
        }
        places
    }

    pub(super) async fn check_foreign_key(
        &self,
        stream: &TablePlan,
        key: &ForeignKey,
        place: &str,
    ) -> Result<()> {
        let given: Vec<String> =
            key.columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect();
        // of what is staged as text both sides are compared as texts
        let same = |(own, other): (&String, &String)| match self.cast_of(stream, own) {
            Some(ty) => format!("p.{}::text = (c.{}::{ty})::text", quoted(other), quoted(own)),
            None => format!("p.{} = c.{}", quoted(other), quoted(own)),
        };
        let same: Vec<String> = key.columns.iter().zip(&key.keys).map(same).collect();
        let same = same.join(" AND ");
        let nowhere: Vec<String> = (self.parents(key).iter())
            .map(|p| format!("NOT EXISTS (SELECT 1 FROM {p} p WHERE {same})"))
            .collect();
        let sql = format!(
            "SELECT count(*) FROM {place} c WHERE {} AND {} HAVING count(*) > 0",
            given.join(" AND "),
            nowhere.join(" AND ")
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

    /// The referring column, and SQL that is true for rows `c` which refer to no row: neither to one
    /// of the table, nor for a check to one that would be there.
    pub(super) fn orphan_condition(
        &self,
        stream: &TablePlan,
        reference: &Reference,
    ) -> Option<(String, String)> {
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let key = parent.key.first().map(|k| quoted(&parent.columns[*k].physical))?;
        if !stream.columns.iter().any(|c| c.target == reference.columns[0]) {
            return None;
        }
        let refers = quoted(&table.columns[reference.columns[0]].physical);
        let mut places = vec![self.found.full_name(&parent.name)];
        let loading = self.loading.as_ref()?;
        for load in loading.done.iter().filter(|_| self.purpose == Purpose::Check) {
            let Some(of) = loading.plan.streams[load.stream].table() else { continue };
            places.extend(load.staging.clone().filter(|_| of.table == reference.table));
        }
        let nowhere: Vec<String> = (places.iter())
            .map(|p| format!("NOT EXISTS (SELECT 1 FROM {p} p WHERE p.{key} = c.{refers})"))
            .collect();
        let condition = format!("c.{refers} IS NOT NULL AND {}", nowhere.join(" AND "));
        Some((refers, condition))
    }

    /// The rows of a place, the table itself or a staging table, that refer to no row.
    pub(super) async fn orphans_in(
        &self,
        place: &str,
        stream: &TablePlan,
        reference: &Reference,
    ) -> Result<Option<Orphans>> {
        let Some((refers, condition)) = self.orphan_condition(stream, reference) else {
            return Ok(None);
        };
        if skips(Step::References) {
            return Ok(None);
        }
        let table = &self.catalog.tables[stream.table];
        let sql = format!(
            "SELECT {}, c.{refers}::text, count(*) OVER () FROM {place} c WHERE {condition} \
             LIMIT {ORPHANS_NAMED}",
            self.key_text(stream, "c"),
        );
        let rows = self.connection.rows(Code::Target, "cannot check the references", &sql).await?;
        let text = |row: &[Option<String>], n: usize| row.get(n).cloned().flatten();
        let Some(count) = rows.first().and_then(|row| text(row, 2)) else { return Ok(None) };
        Ok(Some(Orphans {
            stream: stream.stream.clone(),
            column: table.columns[reference.columns[0]].name.clone(),
            rows: count.parse().unwrap_or(0),
            first: (rows.iter())
                .map(|r| (text(r, 0).unwrap_or_default(), text(r, 1).unwrap_or_default()))
                .collect(),
        }))
    }
}
