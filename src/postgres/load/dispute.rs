//! Rows that differ only in what they refer to, where one of the two refers to nothing: they are the same if a later archive
//! of the batch tells that both mean one row, which is seen at its end.

use std::sync::Arc;

use super::conflict::{KEPT, decisions, dotted, numbered};
use super::keys::{Alias, same_as_type};
use super::loading::PgLoading;
use super::merge::{Merge, STAGED, STORED};
use crate::catalog::{ColumnType, Reference};
use crate::error::{Code, Result};
use crate::load::{Cause, Conflict, ConflictOf, SAMPLES};
use crate::plan::{ReferencePlan, TablePlan};
use crate::postgres::quoted;

/// The rows of which a later archive may tell that they are there.
pub(super) const DISPUTED: &str = "disputed";

const WHAT: &str = "cannot compare with existing rows";

/// Such rows of one stream, which differ in one reference.
pub(super) struct Disputed {
    /// Which archive of the batch has them.
    archive: usize,
    stream: String,
    /// Their table, and which of its references it is.
    table: String,
    reference: usize,
    /// The temporary table of their keys and of what they refer to in the archive.
    name: String,
}

impl PgLoading {
    /// Notes the staged rows of a load that are disputed; the stored ones stay as they are.
    pub(super) async fn note_disputed(&mut self, stream: &TablePlan, load: usize) -> Result<()> {
        let references = self.db.catalog.tables[stream.table].references.clone();
        let plan = Arc::clone(&self.plan);
        for (number, reference) in references.iter().enumerate() {
            let name = format!("chronicle_dump_disputed_{}", self.db.disputed.len());
            let mut noted = false;
            for merge in self.merges(&plan, &[load])? {
                let Some(of) = merge.disputable().find(|of| merge.is_of(of, reference)) else {
                    continue;
                };
                merge.note_disputed(&name, of).await?;
                noted = true;
            }
            if noted {
                self.db.disputed.push(Disputed {
                    archive: self.db.archives,
                    stream: stream.stream.clone(),
                    table: stream.table_name.clone(),
                    reference: number,
                    name: format!("pg_temp.{name}"),
                });
            }
        }
        let place = decisions(self.done[load].stream);
        let sql = format!("UPDATE {place} SET decision = '{KEPT}' WHERE decision = '{DISPUTED}'");
        self.db.run(WHAT, &sql).await
    }

    /// The rows of which it has not turned out that they are the same as the existing ones.
    pub(super) async fn disputes_left(&self) -> Result<Vec<ConflictOf>> {
        let mut left = Vec::new();
        for disputed in &self.db.disputed {
            let tables = &self.db.catalog.tables;
            let Some(table) = tables.iter().position(|table| table.name == disputed.table) else {
                continue;
            };
            let reference = &tables[table].references[disputed.reference];
            let key = self.db.stored_key(table);
            let is_it = key.equal(
                &dotted("o", &numbered("k", key.names().len())),
                &key.values(Alias::Stored("t")),
            );
            let sql = format!(
                "SELECT {}, count(*) OVER () FROM {} o JOIN {} t ON {is_it} \
                  WHERE NOT coalesce({}, false) ORDER BY 1 LIMIT {SAMPLES}",
                key.text("t"),
                disputed.name,
                self.db.found.full_name(&disputed.table),
                self.means_the_same(table, reference)
            );
            let read = self.db.connection.read(Code::Target, WHAT, &sql, |row| {
                Ok((row.optional()?.unwrap_or_else(|| "NULL".into()), row.parsed::<u64>()?))
            });
            let (samples, counts): (Vec<String>, Vec<u64>) = read.await?.into_iter().unzip();
            let Some(rows) = counts.first().copied() else { continue };
            let column = tables[table].columns[reference.columns[0]].name.clone();
            let (stream, cause) = (disputed.stream.clone(), Cause::Differs { column });
            let conflict = Conflict { stream, cause, rows, samples };
            left.push(ConflictOf { archive: disputed.archive, conflict });
        }
        Ok(left)
    }

    /// SQL that is true if a row `t` refers to the row that is meant by what is noted in `o`.
    fn means_the_same(&self, table: usize, reference: &Reference) -> String {
        let (child, parent) =
            (&self.db.catalog.tables[table], &self.db.catalog.tables[reference.table]);
        let equal = |n: usize, one: &str, other: &str| match &parent.columns
            [reference.parent_columns[n]]
            .ty
        {
            ColumnType::Cast(ty) => same_as_type(one, other, ty),
            _ => format!("{one} = {other}"),
        };
        let refers =
            |n: usize| format!("t.{}", quoted(&child.columns[reference.columns[n]].physical));
        let all = |same: &dyn Fn(usize) -> String| {
            (0..reference.columns.len()).map(same).collect::<Vec<_>>().join(" AND ")
        };
        let mut same = format!("({})", all(&|n| equal(n, &refers(n), &format!("o.o{n}"))));
        if self.db.has_other_keys(reference.table) {
            let known = self.db.known_as(reference.table);
            let old = all(&|n| equal(n, &format!("d.o{n}"), &format!("o.o{n}")));
            let new = all(&|n| equal(n, &format!("d.n{n}"), &refers(n)));
            same.push_str(&format!(" OR EXISTS (SELECT 1 FROM {known} d WHERE {old} AND {new})"));
        }
        format!("({same})")
    }
}

impl Merge<'_> {
    /// The references by key among the written columns that are no part of the row's own key.
    fn disputable(&self) -> impl Iterator<Item = &ReferencePlan> {
        let by_key = |r: &&ReferencePlan| {
            r.parent_columns == self.db().catalog.tables[r.table].key
                && !r.columns.iter().any(|n| self.stream.key.contains(n))
        };
        self.stream.references.iter().filter(by_key)
    }

    /// Whether it is this reference of the table.
    fn is_of(&self, planned: &ReferencePlan, reference: &Reference) -> bool {
        let columns = planned.columns.iter().map(|n| &self.stream.columns[*n].target);
        planned.table == reference.table && columns.eq(&reference.columns)
    }

    /// SQL that is true if a stored and a staged row, which differ, do so only in references by each of which one of the
    /// two refers to nothing; `None` if there are no such references.
    pub(super) fn is_disputed(&self) -> Option<String> {
        let references: Vec<(&ReferencePlan, &Reference)> = (self.disputable())
            .filter_map(|of| Some((of, self.table.references.iter().find(|r| self.is_of(of, r))?)))
            .collect();
        if references.is_empty() {
            return None;
        }
        let refers = |n: &usize| references.iter().any(|(of, _)| of.columns.contains(n));
        let others = (0..self.stream.columns.len())
            .filter(|n| !self.stream.key.contains(n) && !refers(n))
            .map(|n| format!("NOT ({})", self.differs(n, &self.stream.columns[n].ty)));
        let open = references.iter().map(|(of, reference)| {
            let (stored, staged) = (self.referring(of, STORED), self.referring(of, STAGED));
            let is_orphan = |values: &[String]| {
                self.loading.refers_to_nothing(self.stream.table, reference, values)
            };
            let given: Vec<String> =
                stored.iter().chain(&staged).map(|value| format!("{value} IS NOT NULL")).collect();
            format!(
                "(NOT ({}) OR ({} AND (({}) OR ({}))))",
                self.refers_differently(of),
                given.join(" AND "),
                is_orphan(&stored),
                is_orphan(&staged)
            )
        });
        Some(others.chain(open).collect::<Vec<_>>().join(" AND "))
    }

    /// SQL that is true if a stored and a staged row refer differently.
    fn refers_differently(&self, reference: &ReferencePlan) -> String {
        let differ = |n: &usize| self.differs(*n, &self.stream.columns[*n].ty);
        reference.columns.iter().map(differ).collect::<Vec<_>>().join(" OR ")
    }

    /// SQL for the values by which rows refer, with the types of their table.
    fn referring(&self, reference: &ReferencePlan, rows: Alias<'_>) -> Vec<String> {
        let value = |n: &usize| match (rows, &self.stream.columns[*n].ty) {
            (Alias::Staged(alias), ColumnType::Cast(ty)) => {
                format!("{alias}.{}::{ty}", self.name(*n))
            }
            (Alias::Stored(alias) | Alias::Staged(alias), _) => {
                format!("{alias}.{}", self.name(*n))
            }
        };
        reference.columns.iter().map(value).collect()
    }

    async fn note_disputed(&self, name: &str, reference: &ReferencePlan) -> Result<()> {
        let width = (self.key.names().len(), reference.columns.len());
        let keys = self.key.values(STAGED).into_iter().zip(numbered("k", width.0));
        let claimed = self.referring(reference, STAGED).into_iter().zip(numbered("o", width.1));
        let columns: Vec<String> =
            keys.chain(claimed).map(|(value, name)| format!("{value} AS {name}")).collect();
        let sql = format!(
            "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS \
             SELECT {} FROM {} s JOIN {} d ON d.staged = s.ctid AND d.decision = '{DISPUTED}' \
               JOIN {} t ON {} WHERE {}",
            columns.join(", "),
            self.staging,
            decisions(self.number),
            self.full(),
            self.key.same(STORED, STAGED),
            self.refers_differently(reference)
        );
        self.db().run(WHAT, &sql).await
    }
}
