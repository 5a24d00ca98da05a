//! Rows that a file has in the tables of an archive, where they do not stay: deleted before rows come, or, of those that
//! the archive lacks, when all have come.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::SqliteTarget;
use super::loading::{Done, Progress, SqliteLoading, Written};
use super::references::{adopts, refers};
use super::row::{Bound, IncomingRow, Inserted};
use crate::error::{Code, Error, Result};
use crate::load::{Cause, SAMPLES, still_referred};
use crate::plan::{Plan, TablePlan};
use crate::policy::{OnOrphans, OwnRows};
use crate::sidecar::{DEFAULT, SIDECAR, WHOLE_ROW};
use crate::sqlite::catalog::read_every_table;
use crate::sqlite::{failed, key_text, literal, quoted, row_text, shown_key};

/// A reference from a table that no archive fills to rows that may go.
pub(super) struct Outside {
    /// The table that refers.
    child: String,
    /// The table referred to, and its columns.
    parent: String,
    to: Vec<String>,
    /// The temporary table of the values that refer to a row now.
    values: String,
}

fn cannot(e: rusqlite::Error) -> Error {
    failed(Code::Target, "cannot delete the rows that the target has", e)
}

impl SqliteTarget {
    /// Prepares the tables of a plan whose own rows do not stay: notes what refers to them from elsewhere, and
    /// deletes them if they are to go first. Gives how many went, by stream.
    pub(super) fn prepare_own_rows(&mut self, plan: &Plan) -> Result<Vec<(usize, u64)>> {
        if plan.options.own_rows == OwnRows::Stay {
            return Ok(Vec::new());
        }
        self.note_outside(plan)?;
        let mut gone = Vec::new();
        for (number, stream) in plan.tables() {
            let again = !self.cleared.insert(stream.table);
            if again || plan.options.own_rows != OwnRows::Cleared {
                continue;
            }
            let sql = format!("DELETE FROM {}", quoted(&stream.table_name));
            let rows = self.connection.execute(&sql, []).map_err(cannot)?;
            gone.push((number, rows as u64));
        }
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(unmapped) = stream.unmapped() else { continue };
            let again = !self.cleared_names.insert(unmapped.table_name.clone());
            if again || plan.options.own_rows != OwnRows::Cleared {
                continue;
            }
            if self.has_sidecar().map_err(cannot)? {
                let sql = format!("DELETE FROM {SIDECAR} WHERE table_name = ?");
                let rows = self.connection.execute(&sql, [&unmapped.table_name]).map_err(cannot)?;
                gone.push((number, rows as u64));
            }
        }
        Ok(gone)
    }

    /// Notes the values by which tables outside of the plan refer to rows of its tables.
    fn note_outside(&mut self, plan: &Plan) -> Result<()> {
        let all = read_every_table(&self.connection).map_err(cannot)?;
        let fills = |name: &str| plan.tables().any(|(_, s)| s.table_name == name);
        for (_, stream) in plan.tables() {
            let Some(parent) = all.iter().find(|t| t.name == stream.table_name) else { continue };
            for child in all.iter().filter(|child| !fills(&child.name)) {
                for (columns, to) in child.references_to(parent) {
                    let values = format!("temp.outside_{}", self.outside.len());
                    let refers: Vec<String> = (columns.iter().zip(&to))
                        .map(|(from, to)| format!("p.{} = +c.{}", quoted(to), quoted(from)))
                        .collect();
                    let named: Vec<String> = (to.iter().enumerate())
                        .map(|(n, to)| format!("p.{} AS v{n}", quoted(to)))
                        .collect();
                    let sql = format!(
                        "CREATE TEMP TABLE {} AS SELECT DISTINCT {} FROM main.{} AS c JOIN main.{} AS p ON {}",
                        values.trim_start_matches("temp."),
                        named.join(", "),
                        quoted(&child.name),
                        quoted(&parent.name),
                        refers.join(" AND ")
                    );
                    self.connection.execute_batch(&sql).map_err(cannot)?;
                    let (child, parent) = (child.name.clone(), parent.name.clone());
                    self.outside.push(Outside { child, parent, to, values });
                }
            }
        }
        Ok(())
    }

    /// Refuses that rows are gone which tables outside of the archive refer to.
    pub(super) fn check_outside(&self) -> Result<()> {
        for outside in &self.outside {
            let same: Vec<String> = (outside.to.iter().enumerate())
                .map(|(n, to)| format!("p.{} = v.v{n}", quoted(to)))
                .collect();
            let values: Vec<String> = (0..outside.to.len()).map(|n| format!("v.v{n}")).collect();
            let sql = format!(
                "SELECT {}, count(*) OVER () FROM {} AS v \
                  WHERE NOT EXISTS (SELECT 1 FROM main.{} AS p WHERE {}) LIMIT {SAMPLES}",
                shown_key(&values),
                outside.values,
                quoted(&outside.parent),
                same.join(" AND ")
            );
            let mut found = self.connection.prepare(&sql).map_err(cannot)?;
            let found = found.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
            let found: rusqlite::Result<Vec<(String, i64)>> = found.and_then(Iterator::collect);
            let found = found.map_err(cannot)?;
            if let Some((_, rows)) = found.first() {
                let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
                return Err(still_referred(
                    &outside.child,
                    &outside.parent,
                    rows.unsigned_abs(),
                    &keys,
                ));
            }
        }
        Ok(())
    }
}

/// The rows of a table that an archive has, by their places.
pub(super) struct Seen {
    /// The temporary table.
    name: String,
}

impl Seen {
    /// Makes the table for all streams that go into a table, as `places` of its rows say.
    pub(super) fn create(
        connection: &Connection,
        table: usize,
        table_name: &str,
        places: &str,
    ) -> rusqlite::Result<Seen> {
        let name = format!("temp.seen_{table}");
        connection.execute_batch(&format!(
            "CREATE TEMP TABLE IF NOT EXISTS seen_{table} AS SELECT {places} FROM {} AS t WHERE false",
            quoted(table_name)
        ))?;
        let width: i64 = connection.query_row(
            "SELECT count(*) FROM pragma_table_info(?1, 'temp')",
            [name.trim_start_matches("temp.")],
            |row| row.get(0),
        )?;
        let columns: Vec<String> = (0..width).map(|n| format!("p{n}")).collect();
        let index = format!(
            "CREATE INDEX IF NOT EXISTS temp.seen_{table}_index ON seen_{table} ({})",
            columns.join(", ")
        );
        connection.execute_batch(&index)?;
        Ok(Seen { name })
    }

    /// Makes the table for the rows of a stream that are stored whole, by their keys.
    pub(super) fn of_entries(connection: &Connection, number: usize) -> rusqlite::Result<Seen> {
        connection.execute_batch(&format!("CREATE TEMP TABLE seen_entries_{number} (p0)"))?;
        Ok(Seen { name: format!("temp.seen_entries_{number}") })
    }

    fn note(&self, connection: &Connection, place: &[SqlValue]) -> rusqlite::Result<()> {
        let values = vec!["?"; place.len()].join(", ");
        let sql = format!("INSERT INTO {} VALUES ({values})", self.name);
        connection.prepare_cached(&sql)?.execute(params_from_iter(place)).map(|_| ())
    }

    /// Notes the places of rows that SQL names.
    pub(super) fn note_all(
        &self,
        connection: &Connection,
        places: &str,
        rows: &str,
    ) -> rusqlite::Result<()> {
        let sql = format!("INSERT INTO {} SELECT {places} FROM {rows}", self.name);
        connection.execute(&sql, []).map(|_| ())
    }

    pub(super) fn has(&self, connection: &Connection, place: &[SqlValue]) -> Result<bool> {
        let same: Vec<String> = (0..place.len()).map(|n| format!("p{n} = ?")).collect();
        let sql =
            format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {})", self.name, same.join(" AND "));
        (connection.prepare_cached(&sql))
            .and_then(|mut found| found.query_row(params_from_iter(place), |row| row.get(0)))
            .map_err(cannot)
    }
}

impl Progress {
    /// Notes that the archive has a row that is stored whole.
    pub(super) fn note_entry(&self, connection: &Connection, key: &str) -> Result<()> {
        match &self.seen_whole {
            Some(seen) => seen.note(connection, &[SqlValue::Text(key.to_owned())]).map_err(cannot),
            None => Ok(()),
        }
    }

    /// Notes that the archive has the row at a place.
    pub(super) fn note_seen(&self, connection: &Connection, place: &[SqlValue]) -> Result<()> {
        match &self.seen {
            Some(seen) => seen.note(connection, place).map_err(cannot),
            None => Ok(()),
        }
    }

    /// Finds an equal row without a key that the archive has not had yet, and notes that it has it now.
    pub(super) fn see_equal(&self, incoming: &IncomingRow<'_>) -> Result<bool> {
        let Some(seen) = &self.seen else { return Ok(false) };
        let found = incoming.equal_but_seen(&seen.name).map_err(cannot)?;
        match found {
            Some(place) => seen.note(incoming.connection, &place).map_err(cannot).map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes the target hold a row that others are in the way of: the row with its key gets its values, and the others give
    /// theirs up, unless they are the archive's.
    pub(super) fn replace(
        &mut self,
        incoming: &IncomingRow<'_>,
        insert: &mut rusqlite::CachedStatement<'_>,
    ) -> Result<Written> {
        let Some(met) = incoming.met_by_key()? else {
            let insert = || {
                Ok(match incoming.insert(insert)? {
                    Inserted::At(place) => Ok(place),
                    Inserted::Rejected(cause) => Err(cause),
                    Inserted::UniqueValueTaken => {
                        Err(Cause::Taken { columns: Vec::new(), by: None })
                    }
                })
            };
            let done = match self.make_way(incoming, None, insert)? {
                Ok(place) => {
                    self.has_inserted(incoming, &place)?;
                    Done::Inserted
                }
                Err(cause) if cause.is_conflict() => self.refuse(incoming, cause),
                Err(cause) => Done::Refused(cause),
            };
            return Ok((done, None));
        };
        if met.differs.is_none() {
            self.loaded.skipped_rows += 1;
            self.note_seen(incoming.connection, &met.place)?;
            return Ok((Done::Present, None));
        }
        let twice = match &self.seen {
            Some(seen) => seen.has(incoming.connection, &met.place)?,
            None => true,
        };
        let done = match twice {
            true => self.refuse(incoming, Cause::Twice),
            false => self.update(incoming, &met)?,
        };
        Ok((done, None))
    }
}

impl IncomingRow<'_> {
    pub(super) fn delete_at(&self, place: &[SqlValue]) -> rusqlite::Result<()> {
        let sql =
            format!("DELETE FROM {} WHERE {}", quoted(&self.table.name), self.keys.is_at_bound());
        self.connection.prepare_cached(&sql)?.execute(params_from_iter(place)).map(|_| ())
    }

    /// The place of a row that is equal in every column and not in a table of places.
    fn equal_but_seen(&self, seen: &str) -> rusqlite::Result<Option<Vec<SqlValue>>> {
        let same: Vec<String> = (0..self.stream.columns.len())
            .map(|n| {
                let (column, value) = (self.content(n), n + 1);
                format!(
                    "{column} IS ?{value} COLLATE BINARY AND typeof({column}) = typeof(?{value})"
                )
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM {} AS t WHERE {} AND NOT {}",
            self.keys.places("t"),
            quoted(&self.table.name),
            same.join(" AND "),
            self.keys.is_among("t", seen)
        );
        let values = (0..self.stream.columns.len()).map(|n| Bound(self.value(n)));
        let width = self.keys.place_width();
        let mut found = self.connection.prepare_cached(&sql)?;
        found
            .query_row(params_from_iter(values), |row| (0..width).map(|n| row.get(n)).collect())
            .optional()
    }
}

impl SqliteLoading {
    /// Deletes the rows that the archive lacks, and the entries of our own tables for rows that are gone.
    pub(super) fn delete_others(&mut self) -> Result<()> {
        if self.plan.options.own_rows == OwnRows::Replaced {
            let plan = self.plan.clone();
            // all streams of a table have come
            for (number, stream) in plan.tables().filter(|(_, s)| s.shares_with.is_none()) {
                let rows = self.delete_unseen(number, stream).map_err(cannot)?;
                self.streams[number].loaded.deleted_rows += rows;
            }
            for (number, stream) in plan.streams.iter().enumerate() {
                let seen = &self.streams[number].seen_whole;
                let (Some(unmapped), Some(seen)) = (stream.unmapped(), seen) else { continue };
                let sql = format!(
                    "DELETE FROM {SIDECAR} WHERE table_name = ? AND key NOT IN (SELECT p0 FROM {})",
                    seen.name
                );
                let rows = self.db.connection.execute(&sql, [&unmapped.table_name]);
                self.streams[number].loaded.deleted_rows += rows.map_err(cannot)? as u64;
            }
            self.forget_other_entries(&plan).map_err(cannot)?;
        }
        self.db.check_outside()
    }

    fn delete_unseen(&self, number: usize, stream: &TablePlan) -> rusqlite::Result<u64> {
        let Some(seen) = &self.streams[number].seen else { return Ok(0) };
        let keys = &self.db.keys[stream.table];
        let needed = self.needed(stream)?.map_or_else(String::new, |needed| {
            // a row that has given up its values is none any more
            let moved = self.streams.iter().filter(|s| s.table == stream.table && s.moved.any);
            let stays = moved.map(|s| format!(" AND NOT {}", keys.is_among("p", &s.moved.name)));
            format!(" AND NOT ({needed}{})", stays.collect::<String>())
        });
        let sql = format!(
            "DELETE FROM {} AS p WHERE NOT {}{needed}",
            quoted(&stream.table_name),
            keys.is_among("p", &seen.name),
        );
        self.db.connection.execute(&sql, []).map(|rows| rows as u64)
    }

    /// SQL that is true of the rows `p` of a stream's table which stay although the archive lacks them, since its rows
    /// refer to them: those that an import has created for such rows, as an export leaves them out; all, if rows are
    /// created for orphans.
    fn needed(&self, stream: &TablePlan) -> rusqlite::Result<Option<String>> {
        let parent = &self.db.catalog.tables[stream.table];
        let created = match self.plan.options.orphans {
            Some(OnOrphans::Adopt) => String::new(),
            None | Some(OnOrphans::Keep) if self.db.has_sidecar()? => format!(
                " AND EXISTS (SELECT 1 FROM {SIDECAR} AS e WHERE e.table_name = {} AND e.key = {} \
                 AND json_extract(e.entry, '$.\"{WHOLE_ROW}\".{DEFAULT}') IS {})",
                literal(&parent.name),
                key_text(&self.db.keys[stream.table].key("p")),
                row_text("p.", parent.columns.iter().map(|c| &c.physical))
            ),
            _ => return Ok(None),
        };
        let mut refers_to = Vec::new();
        for (number, child) in self.plan.tables() {
            let table = &self.db.catalog.tables[child.table];
            let seen = self.streams[number].seen.as_ref();
            let seen = seen.map_or_else(String::new, |seen| {
                format!(" AND {}", self.db.keys[child.table].is_among("t", &seen.name))
            });
            let to_it = table.references.iter().filter(|r| r.table == stream.table);
            refers_to.extend(to_it.filter(|r| adopts(parent, r)).map(|reference| {
                let same = refers(table, parent, reference);
                format!("EXISTS (SELECT 1 FROM {} AS t WHERE {same}{seen})", quoted(&table.name))
            }));
        }
        Ok((!refers_to.is_empty()).then(|| format!("({}){created}", refers_to.join(" OR "))))
    }

    /// Deletes the entries of rows that are gone.
    fn forget_other_entries(&self, plan: &Plan) -> rusqlite::Result<()> {
        if !self.sidecar && !self.db.has_sidecar()? {
            return Ok(());
        }
        for (_, stream) in plan.tables() {
            let keys = &self.db.keys[stream.table];
            let sql = format!(
                "DELETE FROM {SIDECAR} WHERE table_name = {} AND key NOT IN \
                 (SELECT key FROM (SELECT {} AS key FROM {} AS t) WHERE key IS NOT NULL)",
                literal(&stream.table_name),
                key_text(&keys.key("t")),
                quoted(&stream.table_name),
            );
            self.db.connection.execute(&sql, [])?;
        }
        Ok(())
    }
}
