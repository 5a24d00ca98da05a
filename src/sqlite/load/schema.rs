//! What a target's tables are: their columns, keys, CHECKs and numbers; and columns that are added.

use std::path::Path;

use rusqlite::Connection;

use super::SqliteTarget;
use crate::catalog::Backend;
use crate::catalog::{
    Affinity, Catalog, CatalogColumn, CatalogTable, CheckConstraint, ColumnType, Reference,
};
use crate::error::{Code, Error, Result};
use crate::load::{EXISTING_KEYS_PER_CALL, ExistingKey, KeysOf, Purpose};
use crate::plan::{Plan, TablePlan};
use crate::sidecar::{SIDECAR, original_id};
use crate::sqlite::catalog::{SqliteCatalog, affinity};
use crate::sqlite::{failed, key_text, literal, quoted};
use chronicle_archive::{show_path, show_text};

impl SqliteTarget {
    /// Gives the table the columns that the plan adds.
    pub(super) fn add_columns(&mut self, stream: &TablePlan) -> rusqlite::Result<()> {
        for column in &stream.added {
            if self.catalog.tables[stream.table].columns.contains(column) {
                continue;
            }
            let ty = match column.ty {
                ColumnType::Sqlite(Affinity::Numeric) => "INTEGER",
                ColumnType::Sqlite(Affinity::Real) => "REAL",
                ColumnType::Sqlite(Affinity::Blob) => "BLOB",
                _ => "TEXT",
            };
            self.connection.execute_batch(&format!(
                "ALTER TABLE {} ADD COLUMN {} {ty}",
                quoted(&stream.table_name),
                quoted(&column.physical)
            ))?;
            self.catalog.tables[stream.table].columns.push(column.clone());
        }
        Ok(())
    }

    /// Refuses a table with rows whose key SQLite does not keep unique: rows that are there already
    /// could not be recognised and would be doubled.
    pub(super) fn require_key(&self, stream: &TablePlan) -> Result<()> {
        let table = &self.catalog.tables[stream.table];
        let key = table.key.first().map_or("", |k| &table.columns[*k].physical);
        let indexed = self.unique[stream.table].iter().any(|columns| columns == &[key]);
        let sql = format!(
            "SELECT (SELECT group_concat(name) FROM pragma_table_info(?1) WHERE pk > 0) IS ?2 \
                 OR NOT EXISTS (SELECT 1 FROM {})",
            quoted(&table.name)
        );
        let fine = || self.connection.query_row(&sql, [&table.name[..], key], |row| row.get(0));
        let read = |e| failed(Code::Target, format!("cannot read {}", table.name), e);
        if indexed || fine().map_err(read)? {
            return Ok(());
        }
        Err(Error::new(
            Code::Plan,
            format!(
                "{}: \"{key}\" is not a unique key in this database, so rows that are there \
                 already could not be recognised; nothing was changed",
                table.name
            ),
        )
        .hint("import into a new file with --create, or make the key unique: CREATE UNIQUE INDEX"))
    }

    /// The integers that stand in a table as ids, beside those they were before.
    pub(super) fn known_ids_now(
        &self,
        ids: &KeysOf,
        after: Option<i64>,
    ) -> Result<Vec<ExistingKey>> {
        let table = &self.catalog.tables[ids.table];
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let Some(key) = table.key.first().copied() else { return Ok(Vec::new()) };
        let id = physical(ids.refers.unwrap_or(key));
        let kept = self.connection.table_exists(None, SIDECAR).unwrap_or(false);
        let origin = table.origin.filter(|_| ids.refers.is_none());
        let origin =
            origin.map_or_else(|| "NULL".into(), |o| format!("CAST(t.{} AS TEXT)", physical(o)));
        let sidecar = match kept {
            true => format!(
                "(SELECT sidecar FROM {SIDECAR} AS r WHERE r.table_name = {} AND r.key = {})",
                literal(&table.name),
                key_text(&format!("t.{}", physical(key)))
            ),
            false => "NULL".into(),
        };
        let wanted = match (ids.refers, ids.kept_as.first()) {
            (Some(_), Some(name)) => {
                format!("AND instr({sidecar}, {}) > 0", literal(&format!("\"{name}\"")))
            }
            _ => String::new(),
        };
        let sql = format!(
            "SELECT {origin}, {sidecar}, t.{id} FROM {} AS t WHERE typeof(t.{id}) = 'integer' \
             {} {wanted} GROUP BY t.{id} ORDER BY t.{id} LIMIT {EXISTING_KEYS_PER_CALL}",
            quoted(&table.name),
            after.map_or_else(String::new, |after| format!("AND t.{id} > {after}")),
        );
        let read = || -> rusqlite::Result<Vec<ExistingKey>> {
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                let (origin, sidecar): (Option<String>, Option<String>) =
                    (row.get(0)?, row.get(1)?);
                let original = sidecar.and_then(|kept| original_id(&kept, &ids.kept_as));
                Ok((origin.or(original), row.get(2)?))
            })?;
            rows.collect()
        };
        read().map_err(|e| failed(Code::Target, format!("cannot read {}", table.name), e))
    }

    /// For a check, the triggers that an import will not fire.
    pub(super) fn triggers(&self, plan: &Plan) -> rusqlite::Result<Vec<String>> {
        let mut said = Vec::new();
        for stream in plan.streams.iter().filter(|_| self.purpose == Purpose::Check) {
            let sql = "SELECT group_concat(name, ', ') FROM sqlite_schema \
                        WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE";
            let names: Option<String> =
                self.connection.query_row(sql, [stream.table_name()], |row| row.get(0))?;
            said.extend(names.map(|names| {
                format!(
                    "{}: these triggers will not fire: {}",
                    stream.table_name(),
                    show_text(&names)
                )
            }));
        }
        Ok(said)
    }
}

/// Why a file could not be written, if that can be seen without writing.
pub(super) fn blocker(path: &Path) -> Option<String> {
    let shown = show_path(path.display());
    if std::fs::OpenOptions::new().write(true).open(path).is_err() {
        return Some(format!("{shown} cannot be written"));
    }
    let directory = path.parent()?;
    let closed = directory.metadata().is_ok_and(|data| data.permissions().readonly());
    closed.then(|| format!("{}: no journal can be made there", show_path(directory.display())))
}

pub(super) fn describe(connection: &Connection, found: &SqliteCatalog) -> Result<Catalog> {
    let streams = &found.layout.streams;
    let mut tables: Vec<CatalogTable> = Vec::new();
    for stream in streams {
        let Some(table) = found.table(stream) else { continue };
        let mut columns: Vec<CatalogColumn> = (table.stored())
            .map(|c| {
                let ty = ColumnType::Sqlite(affinity(&c.declared));
                stream.catalog_column(&c.name, ty, c.not_null, c.has_default)
            })
            .collect();
        let checks = checks(connection, &table.name)
            .map_err(|e| failed(Code::Target, "cannot read the tables", e))?;
        for (physical, check) in checks {
            let column = columns.iter_mut().find(|c| c.physical.eq_ignore_ascii_case(&physical));
            if let Some(column) = column {
                column.check = Some(check);
            }
        }
        let find = |name: &String| columns.iter().position(|c| c.name == *name);
        let references = (stream.references.iter())
            .filter_map(|(column, parent)| {
                let parent = streams.iter().find(|s| s.name == *parent)?;
                let table = found.table(parent).and_then(|_| {
                    streams
                        .iter()
                        .filter(|s| found.table(s).is_some())
                        .position(|s| s.name == parent.name)
                })?;
                Some(Reference {
                    columns: vec![find(column)?],
                    table,
                    parent_columns: Vec::new(),
                    enforced: false,
                })
            })
            .collect();
        let key = stream.key.iter().filter_map(find).collect();
        tables.push(CatalogTable {
            name: table.name.clone(),
            stream: stream.name.clone(),
            role: stream.role.clone(),
            time: stream.time().and_then(|n| columns.iter().position(|c| c.name == n)),
            adoptable: stream.is_adoptable(),
            key,
            references,
            origin: stream.origin.as_ref().and_then(find),
            fold: stream.fold.as_ref().and_then(find),
            columns,
        });
    }
    let layout = found.layout.title.clone();
    Ok(Catalog::new(Backend::Sqlite, layout, tables))
}

/// The CHECKs of a table that we can foresee, as its own text says them.
pub(super) fn checks(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<(String, CheckConstraint)>> {
    let sql: Option<String> = connection.query_row(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?",
        [table],
        |row| row.get(0),
    )?;
    let sql = sql.unwrap_or_default();
    let conditions = sql.match_indices("CHECK").filter_map(|(at, word)| {
        let rest = sql[at + word.len()..].trim_start();
        let mut depth = 0_i32;
        let end = rest.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        })?;
        CheckConstraint::parse(rest.get(..=end)?)
    });
    Ok(conditions.collect())
}

/// The columns of every unique index of a table.
pub(super) fn unique_columns(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut statement = connection.prepare(
        "SELECT i.name, c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c \
         WHERE i.\"unique\" AND c.name IS NOT NULL ORDER BY i.seq, c.seqno",
    )?;
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (index, column): (String, String) = (row.get(0)?, row.get(1)?);
        match found.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => found.push((index, vec![column])),
        }
    }
    Ok(found.into_iter().map(|(_, columns)| columns).collect())
}
