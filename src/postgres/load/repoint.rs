//! References to rows that the target has under another key than an archive: they are pointed to these rows, also those
//! that earlier archives of the batch have brought before anybody knew.

use std::sync::Arc;

use super::PgTarget;
use super::conflict::{UPDATED, decisions, dotted, numbered};
use super::keys::{Alias, same_as_type};
use super::loading::PgLoading;
use super::merge::Merge;
use crate::catalog::{ColumnType, Reference};
use crate::error::Result;
use crate::load::{BatchEnd, OrphansOf};
use crate::plan::{Plan, ReferencePlan};
use crate::postgres::quoted;
use crate::source::Orphans;

const WHAT: &str = "cannot point rows to existing ones";

/// Rows that an archive of the batch has loaded although they refer to nothing.
pub(super) struct LooseRows {
    /// Which archive of the batch it was.
    archive: usize,
    /// Their table, and which of its references it is.
    table: String,
    reference: usize,
    /// The temporary table of their keys.
    name: String,
    /// What the archive's report says of them.
    orphans: Orphans,
}

/// Staged rows that are loaded although they refer to nothing.
pub(super) struct KeptOrphans {
    /// The load, and which reference of its table it is.
    pub(super) load: usize,
    pub(super) reference: usize,
    pub(super) orphans: Orphans,
}

impl PgTarget {
    /// What no other table has for a name, and this one keeps from archive to archive.
    fn oid(&self, table: usize) -> u32 {
        let name = &self.catalog.tables[table].name;
        self.found.tables.iter().find(|t| t.name == *name).map_or(0, |t| t.oid)
    }

    /// Where the two keys of rows are noted that a table has under another key than the archives of the batch.
    pub(super) fn known_as(&self, table: usize) -> String {
        format!("pg_temp.chronicle_dump_known_as_{}", self.oid(table))
    }

    /// Whether there are such rows.
    pub(super) fn has_other_keys(&self, table: usize) -> bool {
        !self.known.is_empty() && self.known.contains(&self.oid(table))
    }

    /// Says that there are such rows.
    pub(super) fn found_other_keys(&mut self, table: usize) {
        self.known.insert(self.oid(table));
    }

    /// Forgets the keys of tables whose rows get numbers from us: the next archive may get the same ones for other rows.
    pub(super) async fn forget_given_numbers(&mut self, plan: &Plan) -> Result<()> {
        for table in (0..self.catalog.tables.len()).filter(|table| plan.gives_numbers(*table)) {
            if self.known.remove(&self.oid(table)) {
                self.run(WHAT, &format!("DROP TABLE {}", self.known_as(table))).await?;
            }
        }
        Ok(())
    }

    /// Has the keys that were noted be those of an earlier archive from now on.
    pub(super) async fn age_other_keys(&self) -> Result<()> {
        for oid in &self.known {
            let sql = format!(
                "UPDATE pg_temp.chronicle_dump_known_as_{oid} SET earlier = true WHERE earlier IS NULL"
            );
            self.run(WHAT, &sql).await?;
        }
        Ok(())
    }
}

impl PgLoading {
    /// Has staged rows refer to existing rows by the keys that the target has for them.
    pub(super) async fn rename_references(&mut self, plan: &Plan, load: usize) -> Result<u64> {
        let merges = self.merges(plan, &[load])?;
        let mut renamed = 0;
        for merge in &merges {
            for reference in &merge.stream.references {
                let parent = &self.db.catalog.tables[reference.table];
                let is_known = self.db.has_other_keys(reference.table);
                if is_known && reference.parent_columns == parent.key {
                    renamed += merge.rename_references(reference).await?;
                }
            }
        }
        Ok(renamed)
    }

    /// Forgets what earlier archives have called rows by keys that this one has for rows of its own.
    pub(super) async fn forget_earlier_keys(&self, plan: &Plan, loads: &[usize]) -> Result<()> {
        for merge in self.merges(plan, loads)? {
            if self.db.has_other_keys(merge.stream.table) {
                merge.forget_earlier_keys().await?;
            }
        }
        Ok(())
    }

    /// Notes the orphans among the rows that are about to be merged: a later archive may tell what they refer to.
    pub(super) async fn note_loose(&mut self, plan: &Plan) -> Result<()> {
        for kept in std::mem::take(&mut self.kept_orphans) {
            let mut from = String::new();
            for merge in self.merges(plan, &[kept.load])? {
                let stored = merge.key.same(Alias::Stored("o"), Alias::Staged("c"));
                from = format!(
                    "{} c WHERE (NOT EXISTS (SELECT 1 FROM {} o WHERE {stored}) \
                      OR EXISTS (SELECT 1 FROM {} d WHERE d.staged = c.ctid AND d.decision = '{UPDATED}')) AND",
                    merge.staging,
                    merge.full(),
                    decisions(merge.number)
                );
            }
            self.note_loose_rows(kept, true, (&from, Alias::Staged("c"))).await?;
        }
        Ok(())
    }

    /// The same of rows that went straight into their table.
    pub(super) async fn note_loose_direct(&mut self, kept: KeptOrphans) -> Result<()> {
        let stream = PgLoading::table_plan(&self.plan, self.done[kept.load].stream)?;
        let from = format!("{} c WHERE", self.db.found.full_name(&stream.table_name));
        self.note_loose_rows(kept, false, (&from, Alias::Stored("c"))).await
    }

    async fn note_loose_rows(
        &mut self,
        kept: KeptOrphans,
        staged: bool,
        (from, rows): (&str, Alias<'_>),
    ) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let stream = PgLoading::table_plan(&plan, self.done[kept.load].stream)?;
        let reference = &self.db.catalog.tables[stream.table].references[kept.reference];
        let key = self.db.key(stream);
        let is_orphan = self.orphan_condition(stream, staged, reference);
        // rows without a key are not found again
        let Some(is_orphan) = is_orphan.filter(|_| !key.names().is_empty()) else {
            return Ok(());
        };
        let values = key.values(rows).into_iter().zip(numbered("k", key.names().len()));
        let values: Vec<String> =
            values.map(|(value, name)| format!("{value} AS {name}")).collect();
        let name = format!("chronicle_dump_loose_{}", self.db.loose.len());
        let sql = format!(
            "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {} FROM {from} {is_orphan}",
            values.join(", ")
        );
        self.db.run("cannot note rows that refer to nothing", &sql).await?;
        self.db.loose.push(LooseRows {
            archive: self.db.archives,
            table: stream.table_name.clone(),
            reference: kept.reference,
            name: format!("pg_temp.{name}"),
            orphans: kept.orphans,
        });
        Ok(())
    }

    /// The table of such rows, the reference by which they refer to nothing, and SQL for these rows `c`, from FROM on.
    fn loose_rows(&self, loose: &LooseRows) -> Option<(usize, &Reference, String)> {
        let tables = &self.db.catalog.tables;
        let table = tables.iter().position(|table| table.name == loose.table)?;
        let reference = tables[table].references.get(loose.reference)?;
        let key = self.db.stored_key(table);
        let is_it = key.equal(
            &dotted("l", &numbered("k", key.names().len())),
            &key.values(Alias::Stored("c")),
        );
        let is_loose = format!("EXISTS (SELECT 1 FROM {} l WHERE {is_it})", loose.name);
        Some((table, reference, is_loose))
    }

    /// Has rows of earlier archives that refer to nothing refer to the rows which this archive has under the keys that
    /// they name.
    pub(super) async fn repoint_loose(&self, plan: &Plan) -> Result<()> {
        for loose in &self.db.loose {
            let Some((table, reference, is_loose)) = self.loose_rows(loose) else { continue };
            let parent = reference.table;
            let by_key = reference.parent_columns == self.db.catalog.tables[parent].key;
            if !by_key || !self.db.has_other_keys(parent) || plan.gives_numbers(parent) {
                continue;
            }
            let (described, parent) =
                (&self.db.catalog.tables[table], &self.db.catalog.tables[parent]);
            let columns: Vec<&str> =
                reference.columns.iter().map(|c| described.columns[*c].physical.as_str()).collect();
            let width = columns.len();
            let set: Vec<String> = (columns.iter().zip(numbered("n", width)))
                .map(|(column, n)| format!("{} = d.{n}", quoted(column)))
                .collect();
            let pairs = columns.iter().zip(numbered("o", width)).zip(&reference.parent_columns);
            let same: Vec<String> = pairs
                .map(|((column, o), to)| {
                    let (old, own) = (format!("d.{o}"), format!("c.{}", quoted(column)));
                    match &parent.columns[*to].ty {
                        ColumnType::Cast(ty) => same_as_type(&old, &own, ty),
                        _ => format!("{old} = {own}"),
                    }
                })
                .collect();
            let update = format!(
                "UPDATE {} c SET {} FROM {} d WHERE {} AND {is_loose}",
                self.db.found.full_name(&described.name),
                set.join(", "),
                self.db.known_as(reference.table),
                same.join(" AND ")
            );
            let note = self.db.note(&described.name).filter(|note| note.moves(&columns));
            let sql = match note {
                None => update,
                Some(note) => format!(
                    "WITH new ({}) AS ({update} RETURNING {}) {}",
                    note.names().join(", "),
                    note.ids("c").join(", "),
                    note.inserted("new")
                ),
            };
            self.db.run(WHAT, &sql).await?;
        }
        Ok(())
    }

    /// What has turned out once all archives of the batch have come.
    pub(super) async fn end_now(&self) -> Result<BatchEnd> {
        let (orphans, disputes) = (self.orphans_left().await?, self.disputes_left().await?);
        Ok(BatchEnd { orphans, disputes })
    }

    /// What archives have loaded that still refers to nothing.
    async fn orphans_left(&self) -> Result<Vec<OrphansOf>> {
        let mut left = Vec::new();
        for loose in &self.db.loose {
            let Some((table, reference, is_loose)) = self.loose_rows(loose) else { continue };
            let described = &self.db.catalog.tables[table];
            let columns: Vec<String> =
                reference.columns.iter().map(|n| quoted(&described.columns[*n].physical)).collect();
            let is_orphan = self.refers_to_nothing(table, reference, &dotted("c", &columns));
            let from = format!(
                "{} c WHERE {is_orphan} AND {is_loose}",
                self.db.found.full_name(&described.name)
            );
            let key = self.db.stored_key(table).text("c");
            let (rows, samples) = self.count_orphans(&key, &columns, &from).await?;
            let orphans = Orphans { rows, samples, ..loose.orphans.clone() };
            left.push(OrphansOf { archive: loose.archive, orphans });
        }
        Ok(left)
    }
}

impl Merge<'_> {
    /// SQL that makes the table of the two keys of rows that the target has under another key, if there is none.
    pub(super) fn create_known_as(&self) -> String {
        let names = self.key.names();
        let (old, new) = (numbered("o", names.len()), numbered("n", names.len()));
        let pairs: Vec<String> = (names.iter().zip(old.iter().zip(&new)))
            .flat_map(|(name, (o, n))| [format!("t.{name} AS {o}"), format!("t.{name} AS {n}")])
            .collect();
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DROP AS \
             SELECT {}, NULL::boolean AS earlier FROM {} t WITH NO DATA",
            self.known_as().trim_start_matches("pg_temp."),
            pairs.join(", "),
            self.full()
        )
    }

    /// Where the keys of its own rows are noted.
    pub(super) fn known_as(&self) -> String {
        self.db().known_as(self.stream.table)
    }

    /// A column of the noted keys as it is staged.
    pub(super) fn as_staged(&self, column: usize, noted: &str) -> String {
        match self.stream.columns[column].ty {
            ColumnType::Cast(_) => format!("d.{noted}::text"),
            _ => format!("d.{noted}"),
        }
    }

    async fn forget_earlier_keys(&self) -> Result<()> {
        let old = dotted("d", &numbered("o", self.key.names().len()));
        let sql = format!(
            "DELETE FROM {} d USING {} s WHERE d.earlier AND {}",
            self.known_as(),
            self.staging,
            self.key.equal(&old, &self.key.values(Alias::Staged("s")))
        );
        self.db().run(WHAT, &sql).await
    }

    /// Has staged rows refer to existing rows by the keys that the target has for them.
    async fn rename_references(&self, reference: &ReferencePlan) -> Result<u64> {
        let place = self.db().known_as(reference.table);
        let width = reference.columns.len();
        let (old, new) = (numbered("o", width), numbered("n", width));
        let set: Vec<String> = (reference.columns.iter().zip(&new))
            .map(|(column, n)| format!("{} = {}", self.name(*column), self.as_staged(*column, n)))
            .collect();
        let same: Vec<String> = (reference.columns.iter().zip(&old))
            .map(|(column, o)| match &self.stream.columns[*column].ty {
                ColumnType::Cast(ty) => {
                    same_as_type(&format!("d.{o}"), &format!("s.{}", self.name(*column)), ty)
                }
                _ => format!("d.{o} = s.{}", self.name(*column)),
            })
            .collect();
        let sql = format!(
            "UPDATE {} s SET {} FROM {place} d WHERE {}",
            self.staging,
            set.join(", "),
            same.join(" AND ")
        );
        self.execute(WHAT, &sql).await
    }
}
