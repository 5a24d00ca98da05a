//! References to rows that the target has under another key than an archive: they are pointed to these rows, also those
//! that earlier archives of the batch have brought before anybody knew.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::SqliteTarget;
use super::conflict::{one_row, read_row};
use super::loading::SqliteLoading;
use super::references::refers;
use super::row::Bound;
use crate::catalog::Reference;
use crate::error::{Code, Result};
use crate::load::{BatchEnd, OrphansOf};
use crate::plan::{Plan, TablePlan};
use crate::source::Orphans;
use crate::sqlite::{failed, quoted};
use chronicle_archive::{Batch, Value};

/// The rows of one table that the target has under another key than the archives of the batch.
pub(super) struct KnownAs {
    table: usize,
    width: usize,
    /// SQL that is true unless the table has a row with the bound key: then that row is meant, which has come since.
    is_free: String,
}

impl KnownAs {
    /// The table of the rows.
    pub(super) fn table(&self) -> usize {
        self.table
    }
}

/// Rows that an archive of the batch has loaded although they refer to nothing.
pub(super) struct LooseRows {
    /// Which archive of the batch it was.
    archive: usize,
    /// Their table, and which of its references it is.
    table: usize,
    reference: usize,
    /// The temporary table of their keys in the archive and their places.
    name: String,
    /// What the archive's report says of them.
    orphans: Orphans,
}

impl KnownAs {
    /// Whether it is of this table.
    pub(super) fn is_of(&self, table: usize) -> bool {
        self.table == table
    }

    /// The temporary table of the two keys of each row.
    pub(super) fn name(&self) -> String {
        format!("temp.known_as_{}", self.table)
    }

    pub(super) fn note<'a>(
        &self,
        connection: &Connection,
        old: impl Iterator<Item = Value<'a>>,
        new: &'a Batch,
    ) -> rusqlite::Result<()> {
        let values = vec!["?"; self.width * 2].join(", ");
        let sql = format!("INSERT OR REPLACE INTO {} VALUES ({values})", self.name());
        let all = old.chain((0..self.width).map(|n| new.value(0, n))).map(Bound);
        connection.prepare_cached(&sql)?.execute(params_from_iter(all)).map(|_| ())
    }

    fn find<'a>(
        &self,
        connection: &Connection,
        old: impl Iterator<Item = Value<'a>>,
    ) -> rusqlite::Result<Option<Batch>> {
        let same: Vec<String> = (0..self.width).map(|n| format!("o{n} = ?{}", n + 1)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {} AND {}",
            numbered("n", self.width),
            self.name(),
            same.join(" AND "),
            self.is_free
        );
        let mut found = connection.prepare_cached(&sql)?;
        let read = |row: &rusqlite::Row<'_>| read_row(row, 0, self.width);
        found.query_row(params_from_iter(old.map(Bound)), read).optional()
    }
}

/// A row whose references name existing rows by the keys that the target has for them; `None` if they do already.
pub(super) fn renamed_references<'a>(
    connection: &Connection,
    stream: &TablePlan,
    key_of: impl Fn(usize) -> &'a [usize],
    known: &[KnownAs],
    batch: &Batch,
    row: usize,
) -> rusqlite::Result<Option<Batch>> {
    if known.is_empty() {
        return Ok(None);
    }
    let mut renamed: Vec<(&[usize], Batch)> = Vec::new();
    for reference in &stream.references {
        let Some(known) = known.iter().find(|k| k.table == reference.table) else { continue };
        if reference.parent_columns != key_of(reference.table) {
            continue;
        }
        let old = reference.columns.iter().map(|n| batch.value(row, *n));
        let new = known.find(connection, old)?;
        renamed.extend(new.map(|new| (reference.columns.as_slice(), new)));
    }
    let instead: Vec<(&[usize], &Batch)> = renamed.iter().map(|(c, new)| (*c, new)).collect();
    Ok((!instead.is_empty()).then(|| one_row(stream.columns.len(), batch, row, &instead)))
}

impl SqliteTarget {
    /// Where the two keys are noted of rows that a table has under another key.
    pub(super) fn known_as<'k>(
        &self,
        known: &'k mut Vec<KnownAs>,
        table: usize,
    ) -> rusqlite::Result<&'k KnownAs> {
        let at = match known.iter().position(|known| known.is_of(table)) {
            Some(at) => at,
            None => {
                let keys = &self.keys[table];
                let width = keys.key("").len();
                let (old, new) = (numbered("o", width), numbered("n", width));
                self.connection.execute_batch(&format!(
                    "CREATE TEMP TABLE known_as_{table} ({old}, {new}, UNIQUE ({old}))"
                ))?;
                let is_free = format!(
                    "NOT EXISTS (SELECT 1 FROM {} WHERE {})",
                    quoted(&self.catalog.tables[table].name),
                    keys.key_is_bound()
                );
                known.push(KnownAs { table, width, is_free });
                known.len() - 1
            }
        };
        Ok(&known[at])
    }

    /// Forgets the keys of tables whose rows get numbers from us: the next archive may get the same ones for other rows.
    pub(super) fn forget_given_numbers(&mut self, plan: &Plan) -> rusqlite::Result<()> {
        let (gone, stay) = std::mem::take(&mut self.known_as)
            .into_iter()
            .partition(|k| plan.gives_numbers(k.table));
        self.known_as = stay;
        let gone: Vec<KnownAs> = gone;
        gone.iter().try_for_each(|known| {
            self.connection.execute_batch(&format!("DROP TABLE {}", known.name()))
        })
    }

    /// Marks the rows `t`, which are given as SQL behind FROM, that refer by the old one of two keys, in the temporary
    /// table `repointed`; gives the SQL that has them refer by the new one.
    fn mark_repointed(
        &self,
        table: usize,
        reference: &Reference,
        (rows, condition): (&str, &str),
        known: &str,
    ) -> rusqlite::Result<String> {
        let (described, keys) = (&self.catalog.tables[table], &self.keys[table]);
        let columns: Vec<String> =
            reference.columns.iter().map(|c| quoted(&described.columns[*c].physical)).collect();
        let same: Vec<String> =
            columns.iter().enumerate().map(|(n, c)| format!("t.{c} = k.o{n}")).collect();
        let (same, new) = (same.join(" AND "), numbered("n", columns.len()));
        self.connection.execute_batch(&format!(
            "CREATE TEMP TABLE repointed AS \
             SELECT {} FROM {rows} JOIN {known} AS k ON {same} WHERE {condition}",
            keys.places("t")
        ))?;
        Ok(format!(
            "UPDATE {} AS t SET ({}) = (SELECT {new} FROM {known} AS k WHERE {same}) WHERE {}",
            quoted(&described.name),
            columns.join(", "),
            keys.is_among("t", "temp.repointed")
        ))
    }

    /// SQL that is true of rows `t` of a table that refer to nothing.
    fn is_orphan(&self, table: usize, reference: &Reference) -> String {
        let (child, parent) = (&self.catalog.tables[table], &self.catalog.tables[reference.table]);
        let refers = refers(child, parent, reference);
        format!("NOT EXISTS (SELECT 1 FROM {} AS p WHERE {refers})", quoted(&parent.name))
    }
}

impl SqliteLoading {
    /// Does what can be done once all rows of a stream have come: what refers to them comes now.
    pub(super) fn end_stream(&mut self, number: usize) -> Result<()> {
        self.match_contents(number)?;
        let Some(stream) = self.plan.streams.get(number).and_then(|s| s.table()) else {
            return Ok(());
        };
        self.repoint_loose(stream.table)
            .map_err(|e| failed(Code::Target, "cannot point rows to existing ones", e))
    }

    /// Has rows that came before the row they refer to refer to the existing row which that one was found
    /// to be.
    pub(super) fn repoint(&mut self) -> rusqlite::Result<()> {
        let plan = Arc::clone(&self.plan);
        for (number, stream) in plan.tables() {
            for check in 0..self.streams[number].references.len() {
                let reference = self.reference(number, check).clone();
                let noted = self.streams[number].references[check].pending_rows();
                let known = self.known_by(&reference);
                if let (Some(noted), Some(known)) = (noted, known) {
                    let child = &self.db.catalog.tables[stream.table].name;
                    let is_at = self.db.keys[stream.table].is_at("t", "o");
                    let rows = format!("{noted} AS o CROSS JOIN {} AS t ON {is_at}", quoted(child));
                    let condition = self.db.is_orphan(stream.table, &reference);
                    self.repoint_rows(number, stream, &reference, (&rows, &condition), &known)?;
                }
            }
        }
        Ok(())
    }

    /// Where the keys are noted by which a reference may have to be renamed, if any are.
    fn known_by(&self, reference: &Reference) -> Option<String> {
        let by_key = reference.parent_columns == self.db.catalog.tables[reference.table].key;
        let known = self.known_as.iter().find(|known| known.is_of(reference.table));
        known.filter(|_| by_key).map(KnownAs::name)
    }

    /// Has rows `t`, which are given as SQL behind FROM and a condition, refer by the new one of two keys instead of the
    /// old one.
    pub(super) fn repoint_rows(
        &mut self,
        number: usize,
        stream: &TablePlan,
        reference: &Reference,
        rows: (&str, &str),
        known: &str,
    ) -> rusqlite::Result<()> {
        let update = self.db.mark_repointed(stream.table, reference, rows, known)?;
        let (connection, is_at) = (&self.db.connection, self.db.keys[stream.table].is_at("t", "o"));
        let child = quoted(&stream.table_name);
        let rows = format!("temp.repointed AS o CROSS JOIN {child} AS t ON {is_at}");
        let sketch = &mut self.streams[number].sketch;
        self.db.each_row(stream, &rows, |batch| sketch.take(batch, 0))?;
        connection.execute_batch(&update)?;
        self.db.each_row(stream, &rows, |batch| sketch.add(batch, 0))?;
        connection.execute_batch("DROP TABLE temp.repointed")
    }

    /// Has rows of earlier archives that refer to nothing refer to the rows of a table which this archive has under the
    /// keys that they name.
    fn repoint_loose(&self, parent: usize) -> rusqlite::Result<()> {
        if self.db.loose.is_empty() || self.plan.gives_numbers(parent) {
            return Ok(());
        }
        for loose in &self.db.loose {
            let table = loose.table;
            let reference = &self.db.catalog.tables[table].references[loose.reference];
            let Some(known) = self.known_by(reference).filter(|_| reference.table == parent) else {
                continue;
            };
            let keys = &self.db.keys[table];
            let rows = format!(
                "{} AS o CROSS JOIN {} AS t ON {}",
                loose.name,
                quoted(&self.db.catalog.tables[table].name),
                keys.is_at("t", "o")
            );
            let mut condition = self.db.is_orphan(table, reference);
            // what this archive has given them is read back as it is
            let updated = |s: &&super::Progress| s.table == table && s.loaded.updated_rows > 0;
            for places in self.streams.iter().filter(updated).filter_map(|s| s.places.as_ref()) {
                condition.push_str(&format!(" AND NOT {}", keys.is_among("t", places)));
            }
            let update = self.db.mark_repointed(table, reference, (&rows, &condition), &known)?;
            self.db.connection.execute_batch(&(update + "; DROP TABLE temp.repointed"))?;
        }
        Ok(())
    }

    /// Keeps in mind the rows of this archive that refer to nothing: a later one may tell what they refer to.
    pub(super) fn note_loose(&mut self) -> rusqlite::Result<()> {
        for left in self.left_now()? {
            let (stream, check) = (left.stream, left.check);
            let loose = LooseRows {
                archive: self.db.archives,
                table: self.streams[stream].table,
                reference: self.streams[stream].references[check].number(),
                name: format!("temp.loose_{}", self.db.loose.len()),
                orphans: left.orphans,
            };
            self.db.connection.execute_batch(&format!(
                "CREATE TEMP TABLE {} AS SELECT o.* {}",
                loose.name.trim_start_matches("temp."),
                self.pending_rows(stream, check)
            ))?;
            self.db.loose.push(loose);
        }
        Ok(())
    }

    /// What has turned out once all archives of the batch have come.
    pub(super) fn end_now(&self) -> rusqlite::Result<BatchEnd> {
        Ok(BatchEnd { orphans: self.orphans_left()?, disputes: self.disputes_left()? })
    }

    /// What earlier archives have loaded that still refers to nothing.
    fn orphans_left(&self) -> rusqlite::Result<Vec<OrphansOf>> {
        let left = |loose: &LooseRows| {
            let table = &self.db.catalog.tables[loose.table];
            let reference = &table.references[loose.reference];
            let columns = reference.columns.iter().map(|c| table.columns[*c].physical.as_str());
            let from = format!(
                "FROM {} AS o CROSS JOIN {} AS t ON {} WHERE {}",
                loose.name,
                quoted(&table.name),
                self.db.keys[loose.table].is_at("t", "o"),
                self.db.is_orphan(loose.table, reference)
            );
            let (rows, samples) = self.db.count_orphans(columns, &from)?;
            let orphans = Orphans { rows, samples, ..loose.orphans.clone() };
            Ok(OrphansOf { archive: loose.archive, orphans })
        };
        self.db.loose.iter().map(left).collect()
    }
}

/// Names of columns, a prefix and a number, as a list.
pub(super) fn numbered(prefix: &str, width: usize) -> String {
    (0..width).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(", ")
}
