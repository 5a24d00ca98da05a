//! Rows that another row is in the way of: which one it is, by its key or by another unique value, what the policy
//! decides, and the update.

use std::cmp::Ordering;

use rusqlite::types::Value as SqlValue;
use rusqlite::{ErrorCode, params_from_iter};

use super::SqliteTarget;
use super::keys::collate;
use super::loading::{Done, Progress, Written};
use super::repoint::KnownAs;
use super::row::{Bound, IncomingRow};
use crate::error::{Code, Result};
use crate::load::{Cause, Decision};
use crate::policy::OnConflict;
use crate::sidecar::is_same;
use crate::sqlite::catalog::UniqueKey;
use crate::sqlite::{UNIQUE, extended_code, failed, from_sqlite, key_text, quoted};
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Batch, Value, show};

/// An existing row that is the same one as a row of the archive.
pub(super) struct Met {
    /// Where it is.
    pub(super) place: Vec<SqlValue>,
    /// Its key, a row of one batch, and the text that names it, if it is another one than in the archive.
    pub(super) known_as: Option<(Batch, String)>,
    /// The unique columns that both have the same values in, if these are not the key.
    unique: Vec<String>,
    /// What is not the same.
    pub(super) differs: Option<Cause>,
    /// How the time of last change in the archive compares with its own.
    newer: Option<Ordering>,
    /// The id of a batch of its own history that it has; NULL if it has none.
    own_batch: SqlValue,
}

/// A row of a batch, some of whose columns have other values.
pub(super) fn one_row(
    width: usize,
    batch: &Batch,
    row: usize,
    instead: &[(&[usize], &Batch)],
) -> Batch {
    let mut one = Batch::default();
    one.start(0, width, 1);
    for n in 0..width {
        let other = instead.iter().find_map(|(columns, values)| {
            let at = columns.iter().position(|column| *column == n)?;
            Some(values.value(0, at))
        });
        one.push(other.unwrap_or_else(|| batch.value(row, n)));
    }
    one
}

/// Some columns of a row that was read, as a batch of one row.
pub(super) fn read_row(
    row: &rusqlite::Row<'_>,
    from: usize,
    width: usize,
) -> rusqlite::Result<Batch> {
    let mut one = Batch::default();
    one.start(0, width, 1);
    for n in from..from + width {
        one.push(from_sqlite(row.get_ref(n)?));
    }
    Ok(one)
}

impl Progress {
    /// Decides about a row that another one is in the way of; what was done with it, and the text of the
    /// key that the target has for it, if that is another one.
    pub(super) fn settle(
        &mut self,
        db: &SqliteTarget,
        incoming: &IncomingRow<'_>,
        known: &mut Vec<KnownAs>,
    ) -> Result<Written> {
        let met = match incoming.meet()? {
            Ok(met) => met,
            Err(cause) => return Ok((self.refuse(incoming, cause), None)),
        };
        self.note_met(incoming.connection, &met.place)?;
        let other_key = match &met.known_as {
            None => None,
            // two rows of one archive are not the same one
            Some((_, text)) if self.has_loaded(incoming, &met.place)? => {
                let columns = met.unique.clone();
                let taken = Cause::Taken { columns, by: Some(text.clone()) };
                return Ok((self.refuse(incoming, taken), None));
            }
            Some((key, text)) => {
                self.loaded.matched_rows += 1;
                incoming.note_known_as(db, known, key)?;
                Some(text.clone())
            }
        };
        let Some(cause) = met.differs.clone() else {
            self.loaded.skipped_rows += 1;
            return Ok((Done::Present, other_key));
        };
        let shared = incoming.stream.shares_with.is_some();
        let done = match Decision::of(incoming.stream.on_conflict, || met.newer) {
            Decision::Refuse if self.dispute(db, incoming, &met)? => {
                self.loaded.skipped_rows += 1;
                Done::Present
            }
            Decision::Refuse => self.refuse(incoming, cause),
            Decision::Keep => {
                self.loaded.conflicting_rows += 1;
                Done::Kept
            }
            // what was loaded is read back as it was loaded
            Decision::Update if shared || self.has_loaded(incoming, &met.place)? => {
                self.refuse(incoming, Cause::Twice)
            }
            Decision::Update => self.update(incoming, &met)?,
        };
        Ok((done, other_key))
    }

    pub(super) fn refuse(&mut self, incoming: &IncomingRow<'_>, cause: Cause) -> Done {
        self.conflicts.note(&incoming.stream.stream, cause, &incoming.key());
        Done::Kept
    }

    /// Whether the row at a place was loaded or updated before by this import.
    fn has_loaded(&mut self, incoming: &IncomingRow<'_>, place: &[SqlValue]) -> Result<bool> {
        // a table that holds nothing else has no list of places
        let Some(places) = &self.places else { return Ok(true) };
        let width = incoming.keys.place_width();
        let columns: Vec<String> = (0..width).map(|n| format!("p{n}")).collect();
        let name = places.trim_start_matches("temp.");
        let is_it: Vec<String> = columns.iter().map(|c| format!("{c} = ?")).collect();
        let look = || {
            if !self.places_are_indexed {
                let columns = columns.join(", ");
                let sql = format!("CREATE INDEX temp.{name}_index ON {name} ({columns})");
                incoming.connection.execute_batch(&sql)?;
            }
            let sql =
                format!("SELECT EXISTS (SELECT 1 FROM {places} WHERE {})", is_it.join(" AND "));
            let mut found = incoming.connection.prepare_cached(&sql)?;
            found.query_row(params_from_iter(place), |row| row.get(0))
        };
        let found = look().map_err(|e| failed(Code::Target, "cannot look for loaded rows", e))?;
        self.places_are_indexed = true;
        Ok(found)
    }

    /// Gives the existing row the values of the archive.
    pub(super) fn update(&mut self, incoming: &IncomingRow<'_>, met: &Met) -> Result<Done> {
        let place = match incoming.update(met)? {
            Ok(place) => place,
            Err(cause) if cause.is_conflict() => return Ok(self.refuse(incoming, cause)),
            Err(cause) => return Ok(Done::Refused(cause)),
        };
        self.loaded.updated_rows += 1;
        self.sketch.add(&incoming.updated(met), 0);
        self.note_seen(incoming.connection, &place)?;
        incoming.note_loaded(self.note_place.as_deref(), &place)?;
        incoming.check_references(&mut self.references, &place)?;
        Ok(Done::Updated)
    }
}

impl IncomingRow<'_> {
    /// The existing row that is the same one: by its key, or under another key by a unique value. An error
    /// is why none of those in the way is.
    fn meet(&self) -> Result<std::result::Result<Met, Cause>> {
        if let Some(met) = self.met_by_key()? {
            return Ok(Ok(met));
        }
        let mut found: Option<Met> = None;
        for unique in &self.keys.unique {
            let columns = unique.columns.iter().map(|(name, _)| self.position(name));
            let Some(columns) = columns.collect::<Option<Vec<usize>>>() else { continue };
            let Some(met) = self.find(&self.same_unique(unique, &columns), &columns)? else {
                continue;
            };
            let unique: Vec<String> = unique.columns.iter().map(|(name, _)| name.clone()).collect();
            match &found {
                // two rows are in the way: it cannot be both
                Some(other) if other.place != met.place => {
                    let by = met.known_as.map(|(_, text)| text);
                    return Ok(Err(Cause::Taken { columns: unique, by }));
                }
                _ => found = Some(Met { unique, ..met }),
            }
        }
        Ok(found.ok_or(Cause::Taken { columns: Vec::new(), by: None }))
    }

    /// The existing row with the same key.
    pub(super) fn met_by_key(&self) -> Result<Option<Met>> {
        let met = self.find(&self.keys.key_is_bound(), &self.stream.key)?;
        Ok(met.map(|met| Met { known_as: None, ..met }))
    }

    /// SQL that is true of the row with the same values in unique columns, which are given as those of the plan.
    pub(super) fn same_unique(&self, unique: &UniqueKey, columns: &[usize]) -> String {
        let same = |(n, (_, collation)): (usize, &(String, String))| {
            let column = self.physical(columns[n]);
            format!("{column} = ?{}{}", n + 1, collate(Some(collation)))
        };
        unique.columns.iter().enumerate().map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// The existing row that a condition on some bound columns of this one is true of.
    pub(super) fn find(&self, condition: &str, bound: &[usize]) -> Result<Option<Met>> {
        let (width, places) = (self.stream.columns.len(), self.keys.place_width());
        let key = self.keys.key("");
        let columns: Vec<String> = (0..width).map(|n| self.content(n)).collect();
        let sql = format!(
            "SELECT {}, {}, {}, {}, {} FROM {} AS t WHERE {condition}",
            columns.join(", "),
            self.keys.place_columns(),
            key.join(", "),
            key_text(&key),
            self.own_batch(),
            quoted(&self.table.name)
        );
        let values = bound.iter().map(|n| Bound(self.value(*n)));
        let read = || -> rusqlite::Result<Option<Met>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let place = (width..width + places).map(|n| row.get(n));
            let place: Vec<SqlValue> = place.collect::<rusqlite::Result<_>>()?;
            let own = read_row(row, width + places, key.len())?;
            let text: Option<String> = row.get(width + places + key.len())?;
            let stored = |n: usize| row.get_ref(n).map(from_sqlite);
            let by_key = bound == self.stream.key;
            Ok(Some(Met {
                differs: self.differs(!by_key, stored)?,
                newer: self.newer(stored)?,
                place,
                unique: Vec::new(),
                own_batch: row.get(width + places + key.len() + 1)?,
                known_as: Some((own, text.unwrap_or_default())),
            }))
        };
        read().map_err(|e| self.failed(e))
    }

    /// The first column in which the existing row is not the same, to the byte.
    fn differs<'a>(
        &self,
        other_key: bool,
        stored: impl Fn(usize) -> rusqlite::Result<Value<'a>>,
    ) -> rusqlite::Result<Option<Cause>> {
        for n in 0..self.stream.columns.len() {
            let is_key = self.stream.key.contains(&n);
            let value = stored(n)?;
            if (other_key && is_key) || is_same(value, self.value(n)) {
                continue;
            }
            let column = self.stream.columns[n].name.clone();
            return Ok(Some(match is_key {
                true => {
                    let (in_target, in_archive) = (show(value), show(self.value(n)));
                    Cause::SpelledDifferently { column, in_target, in_archive }
                }
                false => Cause::Differs { column },
            }));
        }
        Ok(None)
    }

    /// How the time of last change compares with that of the existing row, if both have one.
    fn newer<'a>(
        &self,
        stored: impl Fn(usize) -> rusqlite::Result<Value<'a>>,
    ) -> rusqlite::Result<Option<Ordering>> {
        let Some(column) = self.stream.changed else { return Ok(None) };
        if self.stream.on_conflict != OnConflict::Newer {
            return Ok(None);
        }
        let (own, other) = (time_of(self.value(column)), time_of(stored(column)?));
        Ok(own.zip(other).map(|(own, other)| own.cmp(&other)))
    }

    /// Gives the existing row the values of this one, but not its key where it has another one; gives its
    /// place, or why that cannot be.
    fn update(&self, met: &Met) -> Result<std::result::Result<Vec<SqlValue>, Cause>> {
        let renames = met.known_as.is_some();
        let keeps = self.kept_batch(&met.own_batch).map(|(column, _)| column);
        let written: Vec<usize> = (0..self.stream.columns.len())
            .filter(|n| (!renames || !self.stream.key.contains(n)) && Some(*n) != keeps)
            .collect();
        let set: Vec<String> =
            written.iter().map(|n| format!("{} = ?", self.physical(*n))).collect();
        let sql = format!(
            "UPDATE {} SET {} WHERE {} RETURNING {}",
            quoted(&self.table.name),
            set.join(", "),
            self.keys.is_at_bound(),
            self.keys.place_columns()
        );
        let updated = (self.connection.prepare_cached(&sql)).and_then(|mut update| {
            for (n, column) in written.iter().enumerate() {
                update.raw_bind_parameter(n + 1, Bound(self.value(*column)))?;
            }
            for (n, value) in met.place.iter().enumerate() {
                update.raw_bind_parameter(written.len() + n + 1, value)?;
            }
            let mut rows = update.raw_query();
            let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let place = (0..met.place.len()).map(|n| row.get(n)).collect::<rusqlite::Result<_>>();
            place.and_then(|place| rows.next().map(|_| place))
        });
        match updated {
            Ok(place) => Ok(Ok(place)),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let (words, columns) = (e.to_string(), self.columns_of(&e));
                Ok(Err(match UNIQUE.contains(&extended_code(&e)) {
                    true => Cause::Taken { columns, by: None },
                    false => Cause::Database { words, columns },
                }))
            }
            Err(e) => Err(self.failed(e)),
        }
    }

    fn note_known_as(
        &self,
        db: &SqliteTarget,
        known: &mut Vec<KnownAs>,
        key: &Batch,
    ) -> Result<()> {
        let old = self.stream.key.iter().map(|n| self.value(*n));
        (db.known_as(known, self.stream.table))
            .and_then(|known| known.note(self.connection, old, key))
            .map_err(|e| failed(Code::Target, "cannot note the key of an existing row", e))
    }

    /// The row as it is in place of an existing one: with the key and the batch that this one keeps.
    fn updated(&self, met: &Met) -> Batch {
        let (mut instead, mut own) = (Vec::new(), Batch::default());
        if let Some((key, _)) = &met.known_as {
            instead.push((self.stream.key.as_slice(), key));
        }
        let kept = self.kept_batch(&met.own_batch);
        let column = kept.map_or(0, |(column, _)| column);
        if let Some((_, id)) = kept {
            own.start(0, 1, 1);
            own.push(Value::Text(id.as_bytes()));
            instead.push((std::slice::from_ref(&column), &own));
        }
        one_row(self.stream.columns.len(), self.batch, self.at, &instead)
    }
}

/// The instant of a time of last change. Texts without a zone are compared as they are: both are of one column.
fn time_of(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Text(text) => read_text(text, ZoneRule::Utc).ok().map(|instant| instant.0),
        Value::Int(number) => Some(number),
        _ => None,
    }
}
