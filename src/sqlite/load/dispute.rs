//! Rows that differ only in what they refer to, where one of the two refers to nothing: they are the same if a later archive
//! of the batch tells that both mean one row, which is seen at its end.

use rusqlite::types::Value as SqlValue;
use rusqlite::{OptionalExtension, params_from_iter};

use super::SqliteTarget;
use super::conflict::Met;
use super::loading::{Progress, SqliteLoading};
use super::repoint::{KnownAs, numbered};
use super::row::{Bound, IncomingRow};
use crate::catalog::Reference;
use crate::error::Result;
use crate::load::{Cause, Conflict, ConflictOf, SAMPLES};
use crate::plan::ReferencePlan;
use crate::sidecar::is_same;
use crate::sqlite::{from_sqlite, quoted};
use chronicle_archive::Value;

/// Such rows of one stream, which differ in one reference.
pub(super) struct Disputed {
    /// Which archive of the batch has them.
    archive: usize,
    stream: String,
    /// Their table, and which of its references it is.
    table: usize,
    reference: usize,
    /// The temporary table of their keys in the archive, their places, and what they refer to in the archive.
    name: String,
}

impl Progress {
    /// Whether a row may still turn out to be the same as the existing one that it differs from; if so, that is noted.
    pub(super) fn dispute(
        &mut self,
        db: &SqliteTarget,
        incoming: &IncomingRow<'_>,
        met: &Met,
    ) -> Result<bool> {
        let disputed = incoming.disputed(db, met).map_err(|e| incoming.failed(e))?;
        for reference in &disputed {
            self.note_disputed(db, incoming, met, reference).map_err(|e| incoming.failed(e))?;
        }
        Ok(!disputed.is_empty())
    }

    fn note_disputed(
        &mut self,
        db: &SqliteTarget,
        incoming: &IncomingRow<'_>,
        met: &Met,
        reference: &ReferencePlan,
    ) -> rusqlite::Result<()> {
        let (table, stream) = (incoming.stream.table, incoming.stream);
        let columns: Vec<usize> =
            reference.columns.iter().map(|n| stream.columns[*n].target).collect();
        let references = &db.catalog.tables[table].references;
        let is_it = |r: &Reference| r.table == reference.table && r.columns == columns;
        let Some(number) = references.iter().position(is_it) else { return Ok(()) };
        let name = format!("temp.disputed_{}_{table}_{number}", db.archives);
        if !self.disputed.iter().any(|disputed| disputed.name == name) {
            let claimed = reference.columns.iter().zip(0..);
            let claimed = claimed.map(|(n, at)| format!(", t.{} AS o{at}", incoming.physical(*n)));
            db.connection.execute_batch(&format!(
                "CREATE TEMP TABLE IF NOT EXISTS {} AS SELECT '' AS key, {}{} FROM {} AS t WHERE false",
                name.trim_start_matches("temp."),
                incoming.keys.places("t"),
                claimed.collect::<String>(),
                quoted(&incoming.table.name)
            ))?;
            let (archive, stream) = (db.archives, stream.stream.clone());
            let name = name.clone();
            self.disputed.push(Disputed { archive, stream, table, reference: number, name });
        }
        let key = SqlValue::Text(incoming.key());
        let width = 1 + met.place.len() + reference.columns.len();
        let sql = format!("INSERT INTO {name} VALUES ({})", vec!["?"; width].join(", "));
        let mut note = db.connection.prepare_cached(&sql)?;
        for (n, value) in std::iter::once(&key).chain(&met.place).enumerate() {
            note.raw_bind_parameter(n + 1, value)?;
        }
        for (n, column) in reference.columns.iter().enumerate() {
            note.raw_bind_parameter(2 + met.place.len() + n, Bound(incoming.value(*column)))?;
        }
        note.raw_execute().map(|_| ())
    }
}

impl IncomingRow<'_> {
    /// The references in which the row differs from an existing one, if it differs in nothing else, and one of the two
    /// refers to nothing by each of them.
    fn disputed(&self, db: &SqliteTarget, met: &Met) -> rusqlite::Result<Vec<&ReferencePlan>> {
        let by_key = |r: &&ReferencePlan| r.parent_columns == db.catalog.tables[r.table].key;
        let references: Vec<&ReferencePlan> =
            self.stream.references.iter().filter(by_key).collect();
        if references.is_empty() {
            return Ok(Vec::new());
        }
        let width = self.stream.columns.len();
        let columns: Vec<String> = (0..width).map(|n| self.content(n)).collect();
        let sql = format!(
            "SELECT {} FROM {} AS t WHERE {}",
            columns.join(", "),
            quoted(&self.table.name),
            self.keys.is_at_bound()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&met.place))?;
        let Some(row) = rows.next()? else { return Ok(Vec::new()) };
        let mut differing = Vec::new();
        for n in 0..width {
            let is_other_key = met.known_as.is_some() && self.stream.key.contains(&n);
            if !is_other_key && !is_same(from_sqlite(row.get_ref(n)?), self.value(n)) {
                differing.push(n);
            }
        }
        let differs = |r: &&ReferencePlan| r.columns.iter().any(|n| differing.contains(n));
        let disputed: Vec<&ReferencePlan> = references.into_iter().filter(differs).collect();
        if !differing.iter().all(|n| disputed.iter().any(|r| r.columns.contains(n))) {
            return Ok(Vec::new());
        }
        for reference in &disputed {
            let stored = reference.columns.iter().map(|n| row.get_ref(*n).map(from_sqlite));
            let stored: Vec<Value<'_>> = stored.collect::<rusqlite::Result<_>>()?;
            let own: Vec<Value<'_>> = reference.columns.iter().map(|n| self.value(*n)).collect();
            let is_null = |values: &[Value<'_>]| values.contains(&Value::Null);
            let refer_to_rows = || -> rusqlite::Result<bool> {
                Ok(db.has_row(reference.table, &stored)? && db.has_row(reference.table, &own)?)
            };
            if is_null(&stored) || is_null(&own) || refer_to_rows()? {
                return Ok(Vec::new());
            }
        }
        Ok(disputed)
    }
}

impl SqliteTarget {
    /// Whether a table has a row with a key.
    fn has_row(&self, table: usize, key: &[Value<'_>]) -> rusqlite::Result<bool> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE {}",
            quoted(&self.catalog.tables[table].name),
            self.keys[table].key_is_bound()
        );
        let mut found = self.connection.prepare_cached(&sql)?;
        let values = key.iter().map(|value| Bound(*value));
        Ok(found.query_row(params_from_iter(values), |_| Ok(())).optional()?.is_some())
    }
}

impl SqliteLoading {
    /// The rows of which it has not turned out that they are the same as the existing ones.
    pub(super) fn disputes_left(&self) -> rusqlite::Result<Vec<ConflictOf>> {
        let mut left = Vec::new();
        let of_this = self.streams.iter().flat_map(|progress| &progress.disputed);
        for disputed in self.db.disputed.iter().chain(of_this) {
            let samples = self.dispute_left(disputed)?;
            let Some((_, rows)) = samples.first() else { continue };
            let table = &self.db.catalog.tables[disputed.table];
            let column = table.references[disputed.reference].columns[0];
            let conflict = Conflict {
                stream: disputed.stream.clone(),
                cause: Cause::Differs { column: table.columns[column].name.clone() },
                rows: rows.unsigned_abs(),
                samples: samples.into_iter().map(|(key, _)| key).collect(),
            };
            left.push(ConflictOf { archive: disputed.archive, conflict });
        }
        Ok(left)
    }

    /// The keys of the first ones, each with how many there are.
    fn dispute_left(&self, disputed: &Disputed) -> rusqlite::Result<Vec<(String, i64)>> {
        let (table, keys) =
            (&self.db.catalog.tables[disputed.table], &self.db.keys[disputed.table]);
        let reference = &table.references[disputed.reference];
        let refers =
            |n: usize| format!("t.{}", quoted(&table.columns[reference.columns[n]].physical));
        let width = reference.columns.len();
        let all =
            |same: &dyn Fn(usize) -> String| (0..width).map(same).collect::<Vec<_>>().join(" AND ");
        let mut same = all(&|n| format!("{} = o.o{n}", refers(n)));
        if let Some(known) = self.known_as.iter().find(|known| known.is_of(reference.table)) {
            same.push_str(&format!(
                " OR EXISTS (SELECT 1 FROM {} AS k WHERE {} AND NOT EXISTS (SELECT 1 FROM {} WHERE {}))",
                KnownAs::name(known),
                all(&|n| format!("k.o{n} = o.o{n} AND k.n{n} = {}", refers(n))),
                quoted(&self.db.catalog.tables[reference.table].name),
                self.db.keys[reference.table].has_key(&numbered("k.o", width))
            ));
        }
        let sql = format!(
            "SELECT o.key, count(*) OVER () FROM {} AS o CROSS JOIN {} AS t ON {} \
              WHERE NOT ({same}) LIMIT {SAMPLES}",
            disputed.name,
            quoted(&table.name),
            keys.is_at("t", "o")
        );
        let mut statement = self.db.connection.prepare(&sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.collect()
    }
}
