//! Rows that refer to rows which are not there: found, left out, or given the session that they lack.

use rusqlite::Connection;

use super::row::Bound;
use super::{Loading, SqliteTarget};
use crate::catalog::{CatalogTable, Reference};
use crate::error::{Code, Result};
use crate::identity::show_id;
use crate::plan::TablePlan;
use crate::sidecar::{SIDECAR, SidecarEntry, SidecarValues, WHOLE_ROW};
use crate::source::{ORPHANS_NAMED, Orphans};
use crate::sqlite::{failed, from_sqlite, key_text, literal, quoted, row_text};
use chronicle_archive::Value;

impl SqliteTarget {
    /// Takes the rows out again that refer to nothing.
    pub(super) fn skip(
        &self,
        number: usize,
        stream: &TablePlan,
        loading: &mut Loading,
        reference: usize,
    ) -> Result<u64> {
        let cannot = |e| failed(Code::Target, "cannot leave out rows without a session", e);
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[table.references[reference].table];
        let column = self.place_column(stream);
        let places = format!(
            "SELECT place FROM temp.orphan AS o WHERE stream = {} AND reference = {reference} \
             AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE p.{} = o.value)",
            literal(&stream.stream),
            quoted(&parent.name),
            parent.key.first().map_or_else(String::new, |k| quoted(&parent.columns[*k].physical)),
        );
        let sums = &mut loading.streams[number].sums;
        let condition = format!("{column} IN ({places})");
        self.each_row(stream, &condition, |batch| sums.take(batch, 0)).map_err(cannot)?;
        let name = quoted(&table.name);
        if loading.sidecar {
            let key = table
                .key
                .first()
                .map_or_else(String::new, |k| key_text(&quoted(&table.columns[*k].physical)));
            let sql = format!(
                "DELETE FROM {SIDECAR} WHERE table_name = {} AND key IN \
                 (SELECT {key} FROM {name} WHERE {condition})",
                literal(&table.name)
            );
            self.connection.execute(&sql, []).map_err(cannot)?;
        }
        let sql = format!("DELETE FROM {name} WHERE {condition}");
        let rows = self.connection.execute(&sql, []).map_err(cannot)? as u64;
        loading.streams[number].loaded.inserted_rows -= rows;
        Ok(rows)
    }

    /// Makes the sessions that rows refer to; returns what is to be kept beside each.
    pub(super) fn adopt(
        &self,
        stream: &TablePlan,
        number: usize,
        reference: &Reference,
    ) -> Result<Vec<SidecarEntry>> {
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let physical = |t: &CatalogTable, name: &str| {
            t.columns.iter().find(|c| c.name == name).map(|c| quoted(&c.physical))
        };
        let Some(key) = parent.key.first().map(|k| &parent.columns[*k]) else {
            return Ok(Vec::new());
        };
        let column = self.place_column(stream);
        let at = physical(table, "timestamp").unwrap_or_else(|| "NULL".into());
        let mut columns = vec![(quoted(&key.physical), "o.value".to_owned())];
        for column in &parent.columns {
            let value = match column.name.as_str() {
                "start_time" => format!("min(t.{at})"),
                _ if column.name == key.name || !column.not_null || column.has_default => continue,
                _ if column.default_from.as_deref() == Some(&key.name) => {
                    "CAST(o.value AS TEXT)".into()
                }
                _ => column.default.as_deref().map_or_else(|| "''".into(), literal),
            };
            columns.push((quoted(&column.physical), value));
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let sql = format!(
            "INSERT INTO {parent} ({}) SELECT {} FROM temp.orphan AS o JOIN {} AS t ON t.{column} = o.place \
              WHERE o.stream = {} AND o.reference = {number} \
                AND NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE p.{} = o.value) GROUP BY o.value \
             RETURNING {}, {}",
            names.join(", "),
            values.join(", "),
            quoted(&table.name),
            literal(&stream.stream),
            quoted(&key.physical),
            quoted(&key.physical),
            row_text("", parent.columns.iter().map(|c| &c.physical)),
            parent = quoted(&parent.name),
        );
        let made = |row: &rusqlite::Row<'_>| {
            let (key, mut kept) = (show_id(from_sqlite(row.get_ref(0)?)), SidecarValues::default());
            kept.defaulted(WHOLE_ROW, &row.get::<_, String>(1)?);
            Ok(SidecarEntry { row: 0, key, text: kept.text() })
        };
        (self.connection.prepare(&sql))
            .and_then(|mut insert| insert.query_map([], made)?.collect())
            .map_err(|e| failed(Code::Target, "cannot make the sessions that rows refer to", e))
    }

    /// What finds a row of a table again: its rowid, or its key where it has none.
    pub(super) fn place_column(&self, stream: &TablePlan) -> String {
        let table = &self.catalog.tables[stream.table];
        match (self.rowids[stream.table], table.key.first()) {
            (false, Some(key)) => quoted(&table.columns[*key].physical),
            _ => "rowid".into(),
        }
    }
}

pub(super) fn parent_exists(
    connection: &Connection,
    parent: &CatalogTable,
    value: Value<'_>,
) -> rusqlite::Result<bool> {
    let key = parent.key.first().map_or("", |k| &parent.columns[*k].physical);
    let sql =
        format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} = ?)", quoted(&parent.name), quoted(key));
    connection.prepare_cached(&sql)?.query_row([Bound(value)], |row| row.get(0))
}

/// The references noted during the load whose parents have not come since.
pub(super) fn orphans_left(
    connection: &Connection,
    stream: &TablePlan,
    number: usize,
    table: &CatalogTable,
    reference: &Reference,
    parent: &CatalogTable,
) -> rusqlite::Result<Option<Orphans>> {
    let key = parent.key.first().map_or("", |k| &parent.columns[*k].physical);
    let from = format!(
        "FROM temp.orphan AS o WHERE stream = ?1 AND reference = ?2 AND NOT EXISTS \
         (SELECT 1 FROM {} AS p WHERE p.{} = o.value)",
        quoted(&parent.name),
        quoted(key)
    );
    let number = i64::try_from(number).unwrap_or(0);
    let which = rusqlite::params![stream.stream, number];
    let rows: i64 =
        connection.query_row(&format!("SELECT count(*) {from}"), which, |r| r.get(0))?;
    if rows == 0 {
        return Ok(None);
    }
    let mut statement =
        connection.prepare(&format!("SELECT key, shown {from} LIMIT {ORPHANS_NAMED}"))?;
    let first = statement.query_map(which, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Some(Orphans {
        stream: stream.stream.clone(),
        column: table.columns[reference.columns[0]].name.clone(),
        rows: rows.unsigned_abs(),
        first: first.collect::<rusqlite::Result<_>>()?,
    }))
}
