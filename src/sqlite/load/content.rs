//! Rows that a table has under another key with the same content: found when all rows of a stream have come, taken out
//! again, and what refers to them is pointed to the row that was there.
//!
//! SQLite compares neither JSON by what it means nor texts as instants. So the content of each row is hashed here, from
//! its canonical form, and the hashes are joined in a temporary table, which SQLite keeps on the disk.

use std::sync::Arc;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, Row, params_from_iter};
use sha2::{Digest as _, Sha256};

use super::SqliteTarget;
use super::keys::Keys;
use super::loading::{Progress, SqliteLoading};
use super::references::ReferenceCheck;
use super::repoint::numbered;
use super::sidecar::{forget_entry, store, stored_entry};
use crate::error::{Code, Error, Result};
use crate::plan::{ContentColumn, TablePlan};
use crate::sidecar::{SIDECAR, SidecarEntry, added};
use crate::sqlite::{failed, from_sqlite, key_text, literal, quoted};
use chronicle_archive::canonical::Canonical;
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Kind, Value};

/// The bytes of a buffer beyond which it is not kept for other rows.
const LARGE: usize = 8 << 20;

/// The rows of a table that rows of an archive were found to be.
pub(super) struct MetRows {
    /// The temporary table of their places: one for all streams that go into the table.
    name: String,
}

fn cannot(e: rusqlite::Error) -> Error {
    failed(Code::Target, "cannot compare the content of rows", e)
}

impl MetRows {
    /// Makes the table, as `places` of the rows say.
    pub(super) fn create(
        connection: &Connection,
        table: usize,
        name: &str,
        keys: &Keys,
    ) -> rusqlite::Result<MetRows> {
        let columns: Vec<String> = (0..keys.place_width()).map(|n| format!("p{n}")).collect();
        connection.execute_batch(&format!(
            "CREATE TEMP TABLE IF NOT EXISTS met_{table} AS SELECT {} FROM {} AS t WHERE false; \
             CREATE INDEX IF NOT EXISTS temp.met_{table}_index ON met_{table} ({})",
            keys.places("t"),
            quoted(name),
            columns.join(", ")
        ))?;
        Ok(MetRows { name: format!("temp.met_{table}") })
    }
}

impl Progress {
    /// Notes that a row of the archive is the one at a place.
    pub(super) fn note_met(&self, connection: &Connection, place: &[SqlValue]) -> Result<()> {
        let Some(met) = &self.met else { return Ok(()) };
        let sql =
            format!("INSERT INTO {} VALUES ({})", met.name, vec!["?"; place.len()].join(", "));
        (connection.prepare_cached(&sql))
            .and_then(|mut note| note.execute(params_from_iter(place)))
            .map(|_| ())
            .map_err(cannot)
    }
}

/// Hashes the content of rows.
#[derive(Default)]
struct Hasher {
    canonical: Canonical,
    form: Vec<u8>,
}

impl Hasher {
    fn of(&mut self, columns: &[ContentColumn], row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
        let mut hash = Sha256::new();
        for (n, column) in columns.iter().enumerate() {
            self.form.clear();
            self.write(column, from_sqlite(row.get_ref(n)?));
            hash.update((self.form.len() as u64).to_le_bytes());
            hash.update(&self.form);
        }
        if self.form.capacity() > LARGE {
            *self = Hasher::default();
        }
        Ok(hash.finalize().to_vec())
    }

    fn write(&mut self, column: &ContentColumn, value: Value<'_>) {
        let kind = if column.json { Kind::Json } else { Kind::Text };
        let mut zone_rule = column.zone_rule;
        if let (Some(ZoneRule::Refuse), Value::Text(text)) = (zone_rule, value)
            && read_text(text, ZoneRule::Refuse).is_err()
        {
            // in a zone that nobody knows it is the same time only as another one in that zone
            self.form.extend_from_slice(b"!local ");
            zone_rule = Some(ZoneRule::Utc);
        }
        let (instant, zone_rule) = (zone_rule.is_some(), zone_rule.unwrap_or(ZoneRule::Refuse));
        self.canonical.write(kind, instant, zone_rule, value, &mut self.form);
    }
}

impl SqliteLoading {
    /// Takes the rows of a stream out again that its table has under another key with the same content, once all of the
    /// stream have come.
    pub(super) fn match_contents(&mut self, number: usize) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let Some(stream) = plan.streams.get(number).and_then(|s| s.table()) else { return Ok(()) };
        let refers_to_itself = stream.references.iter().any(|r| r.table == stream.table);
        // of rows that refer to others of their table, some are the same only once those are
        while self.match_once(number, stream)? > 0 && refers_to_itself {}
        Ok(())
    }

    /// Does it once; gives the number of the rows that were taken out.
    fn match_once(&mut self, number: usize, stream: &TablePlan) -> Result<u64> {
        let progress = &self.streams[number];
        if progress.met.is_none() || progress.loaded.inserted_rows == 0 {
            return Ok(0);
        }
        let rows = self.find_pairs(number, stream).map_err(cannot)?;
        if rows > 0 {
            self.note_aliases(stream)?;
            self.join_entries(stream)?;
            self.take_out(number, stream).map_err(cannot)?;
            self.repoint_loaded(stream).map_err(cannot)?;
            let loaded = &mut self.streams[number].loaded;
            loaded.inserted_rows -= rows;
            loaded.skipped_rows += rows;
            loaded.content_matched_rows += rows;
        }
        self.db.connection.execute_batch("DROP TABLE temp.pairs").map_err(cannot)?;
        Ok(rows)
    }

    /// Pairs rows that are new with those that were there and that no other row of the archive is: of equal ones as
    /// many as there are on both sides.
    fn find_pairs(&self, number: usize, stream: &TablePlan) -> rusqlite::Result<u64> {
        let (db, keys) = (&self.db, &self.db.keys[stream.table]);
        let (width, key) = (keys.place_width(), stream.key.len());
        let (places, names) = (numbered("p", width), numbered("k", key));
        db.connection.execute_batch(&format!(
            "CREATE TEMP TABLE contents (new, content, {places}, {names}); \
             CREATE INDEX temp.contents_index ON contents (content, new)"
        ))?;
        let name = quoted(&stream.table_name);
        let own = self.streams[number].places.iter();
        let met = self.streams[number].met.iter().map(|met| &met.name);
        let met: Vec<String> = met.map(|met| format!("NOT {}", keys.is_among("t", met))).collect();
        for places in own {
            let from = format!(
                "{places} AS o CROSS JOIN {name} AS t ON {} WHERE {}",
                keys.is_at("t", "o"),
                met.join(" AND ")
            );
            db.hash_contents(stream, &from, true)?;
        }
        // what the archive has brought by any stream was not there
        let same = self.streams.iter().filter(|s| s.table == stream.table);
        let brought = same.filter_map(|s| s.places.as_ref());
        let others = brought.map(|places| format!("NOT {}", keys.is_among("t", places)));
        let conditions: Vec<String> = met.iter().cloned().chain(others).collect();
        db.hash_contents(
            stream,
            &format!("{name} AS t WHERE {}", conditions.join(" AND ")),
            false,
        )?;
        let all = |alias: &str, from: &str, to: &str, width: usize| -> Vec<String> {
            (0..width).map(|n| format!("{alias}.{from}{n} AS {to}{n}")).collect()
        };
        let columns = [
            all("a", "p", "p", width),
            all("b", "p", "q", width),
            all("a", "k", "o", key),
            all("b", "k", "n", key),
        ];
        db.connection.execute_batch(&format!(
            "CREATE TEMP TABLE pairs AS \
             WITH ranked AS (SELECT *, row_number() OVER (PARTITION BY content, new ORDER BY {places}) AS rank \
                               FROM temp.contents) \
             SELECT {} FROM ranked AS a JOIN ranked AS b ON b.content = a.content AND b.rank = a.rank \
              WHERE a.new AND NOT b.new; \
             DROP TABLE temp.contents",
            columns.concat().join(", ")
        ))?;
        let count: i64 =
            db.connection.query_row("SELECT count(*) FROM temp.pairs", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Notes the keys of the paired rows, so that what refers to the new one is pointed to the other.
    fn note_aliases(&mut self, stream: &TablePlan) -> Result<()> {
        let (table, width) = (stream.table, stream.key.len());
        self.db.known_as(&mut self.known_as, table).map_err(cannot)?;
        let sql = format!(
            "INSERT OR REPLACE INTO temp.known_as_{table} SELECT {}, {} FROM temp.pairs",
            numbered("o", width),
            numbered("n", width)
        );
        self.db.connection.execute_batch(&sql).map_err(cannot)
    }

    /// Gives the rows that were there what is stored of the new ones in columns that the table lacks, and forgets the
    /// rest: how a value is spelled is decided by the row that has it.
    fn join_entries(&self, stream: &TablePlan) -> Result<()> {
        let connection = &self.db.connection;
        if !self.db.has_sidecar().map_err(cannot)? {
            return Ok(());
        }
        let name = &stream.table_name;
        let lacking = stream.lacking();
        let [old, new] = ["o", "n"].map(|prefix| {
            let columns: Vec<String> =
                (0..stream.key.len()).map(|n| format!("{prefix}{n}")).collect();
            key_text(&columns)
        });
        let sql = format!(
            "SELECT {old}, {new} FROM temp.pairs WHERE EXISTS (SELECT 1 FROM {SIDECAR} AS r \
              WHERE r.table_name = {} AND r.key = {old})",
            literal(name)
        );
        let mut statement = connection.prepare(&sql).map_err(cannot)?;
        let mut rows = statement.query([]).map_err(cannot)?;
        while let Some(row) = rows.next().map_err(cannot)? {
            let keys = row.get(0).and_then(|old| Ok((old, row.get(1)?)));
            let (old, key): (String, String) = keys.map_err(cannot)?;
            let arriving = stored_entry(connection, name, &old).map_err(cannot)?;
            let stored = stored_entry(connection, name, &key).map_err(cannot)?;
            forget_entry(connection, name, &old).map_err(cannot)?;
            let joined = arriving.and_then(|text| added(stored.as_deref(), &text, &lacking));
            if let Some(text) = joined {
                let entry = SidecarEntry { row: 0, key, text };
                store(connection, name, std::iter::once(&entry)).map_err(cannot)?;
            }
        }
        Ok(())
    }

    /// Takes the new rows of the pairs out, and whatever was noted about them.
    fn take_out(&mut self, number: usize, stream: &TablePlan) -> rusqlite::Result<()> {
        let (db, progress) = (&self.db, &mut self.streams[number]);
        let (name, keys) = (quoted(&stream.table_name), &db.keys[stream.table]);
        let rows = format!("temp.pairs AS o CROSS JOIN {name} AS t ON {}", keys.is_at("t", "o"));
        let sketch = &mut progress.sketch;
        db.each_row(stream, &rows, |batch| sketch.take(batch, 0))?;
        let mut sql =
            format!("DELETE FROM {name} AS t WHERE {};", keys.is_among("t", "temp.pairs"));
        let width = keys.place_width();
        let places = numbered("p", width);
        let pending = progress.references.iter().filter_map(|check| check.pending_rows());
        for noted in progress.places.iter().cloned().chain(pending) {
            sql.push_str(&format!(
                "DELETE FROM {noted} WHERE ({places}) IN (SELECT {places} FROM temp.pairs);"
            ));
        }
        if let Some(met) = &progress.met {
            sql.push_str(&format!(
                "INSERT INTO {} SELECT {} FROM temp.pairs;",
                met.name,
                numbered("q", width)
            ));
        }
        db.connection.execute_batch(&sql)
    }

    /// Points the rows that the archive has brought so far to those that were there.
    fn repoint_loaded(&mut self, parent: &TablePlan) -> rusqlite::Result<()> {
        let plan = Arc::clone(&self.plan);
        for (number, stream) in plan.tables() {
            let progress = &mut self.streams[number];
            progress.references.iter_mut().for_each(ReferenceCheck::forget_found);
            let loaded = &progress.loaded;
            if loaded.inserted_rows + loaded.updated_rows == 0 {
                continue;
            }
            let child = quoted(&stream.table_name);
            let rows = match &progress.places {
                None => format!("{child} AS t"),
                Some(places) => {
                    let keys = &self.db.keys[stream.table];
                    format!("{places} AS o CROSS JOIN {child} AS t ON {}", keys.is_at("t", "o"))
                }
            };
            for reference in self.db.catalog.tables[stream.table].references.clone() {
                let by_key = reference.parent_columns == self.db.catalog.tables[parent.table].key;
                if reference.table == parent.table && by_key {
                    let rows = (rows.as_str(), "true");
                    self.repoint_rows(number, stream, &reference, rows, "temp.pairs")?;
                }
            }
        }
        Ok(())
    }
}

impl SqliteTarget {
    /// Hashes the content of rows `t`, which are given as SQL behind FROM that ends in a condition; of those that were
    /// there only if a new one has the same.
    fn hash_contents(&self, stream: &TablePlan, from: &str, new: bool) -> rusqlite::Result<()> {
        let (table, keys) = (&self.catalog.tables[stream.table], &self.keys[stream.table]);
        let physical = |n: usize| quoted(&table.columns[stream.columns[n].target].physical);
        let content = stream.content.iter().map(|c| format!("t.{}", physical(c.column)));
        let content: Vec<String> = content.collect();
        let key = keys.key("t");
        let has_key: Vec<String> = key.iter().map(|k| format!("{k} IS NOT NULL")).collect();
        let sql = format!(
            "SELECT {}, {}, {} FROM {from} AND {}",
            content.join(", "),
            keys.places("t"),
            key.join(", "),
            has_key.join(" AND ")
        );
        let width = keys.place_width() + key.len();
        let values = vec!["?"; width + 1].join(", ");
        let is_new = u8::from(new);
        let mut insert = format!("INSERT INTO temp.contents SELECT {is_new}, {values}");
        if !new {
            insert
                .push_str(" WHERE EXISTS (SELECT 1 FROM temp.contents WHERE content = ?1 AND new)");
        }
        let (mut select, mut insert) =
            (self.connection.prepare(&sql)?, self.connection.prepare(&insert)?);
        let (mut rows, mut hasher) = (select.query([])?, Hasher::default());
        while let Some(row) = rows.next()? {
            let hash = SqlValue::Blob(hasher.of(&stream.content, row)?);
            let others = (content.len()..content.len() + width).map(|n| row.get::<_, SqlValue>(n));
            let values: Vec<SqlValue> =
                std::iter::once(Ok(hash)).chain(others).collect::<rusqlite::Result<_>>()?;
            insert.execute(params_from_iter(values))?;
        }
        Ok(())
    }
}
