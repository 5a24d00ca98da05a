//! What a target's tables are: their columns, keys, CHECKs and numbers; and columns that are added.

use rusqlite::Connection;

use super::SqliteTarget;
use crate::catalog::Backend;
use crate::catalog::{
    Affinity, Catalog, CatalogColumn, CatalogTable, CheckConstraint, ColumnType, Reference,
    named_checks,
};
use crate::error::{Code, Error, Result};
use crate::history::noted;
use crate::layout::LayoutStream;
use crate::load::{EXISTING_KEYS_PER_CALL, ExistingKey, KeysOf};
use crate::notice::{Notice, NoticeKind};
use crate::numbers::TableNumbers;
use crate::plan::{Plan, TablePlan};
use crate::sidecar::{SIDECAR, original_id};
use crate::sqlite::catalog::{SqliteCatalog, affinity};
use crate::sqlite::{failed, history, key_text, literal, quoted};
use chronicle_archive::show_text;

impl SqliteTarget {
    /// Gives the table the columns that the plan adds.
    pub(super) fn add_columns(&mut self, stream: &TablePlan) -> rusqlite::Result<()> {
        for column in &stream.added {
            // also a group before may have added it
            let known = &self.catalog.tables[stream.table].columns;
            if known.iter().any(|known| known.physical == column.physical) {
                continue;
            }
            let ty = match column.ty {
                ColumnType::Sqlite(Affinity::Integer) => "INTEGER",
                ColumnType::Sqlite(Affinity::Numeric) => "NUMERIC",
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
            self.note_column(&stream.table_name, &column.physical, ty);
        }
        Ok(())
    }

    /// The integers that a table has as ids, with the ids that they replaced.
    pub(super) fn existing_keys_now(
        &self,
        ids: &KeysOf,
        after: Option<i64>,
    ) -> Result<Vec<ExistingKey>> {
        let read = |e| failed(Code::Target, "cannot read the ids of its rows", e);
        let table = &self.catalog.tables[ids.table];
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let id = match (ids.refers, &table.key[..]) {
            (Some(refers), _) => physical(refers),
            (None, [key]) => physical(*key),
            // a part of a key is no id
            (None, _) => return Ok(Vec::new()),
        };
        let stored = self.connection.table_exists(None, SIDECAR).map_err(read)?;
        let origin = table.origin.filter(|_| ids.refers.is_none());
        let origin =
            origin.map_or_else(|| "NULL".into(), |o| format!("CAST(t.{} AS TEXT)", physical(o)));
        let entry = match stored {
            true => format!(
                "(SELECT entry FROM {SIDECAR} AS r WHERE r.table_name = {} AND r.key = {})",
                literal(&table.name),
                key_text(&self.keys[ids.table].key("t"))
            ),
            false => "NULL".into(),
        };
        let filter = match (ids.refers, ids.kept_as.first()) {
            (Some(_), Some(name)) => {
                format!("AND instr({entry}, {}) > 0", literal(&format!("\"{name}\"")))
            }
            _ => String::new(),
        };
        let sql = format!(
            "SELECT {origin}, {entry}, t.{id} FROM {} AS t WHERE typeof(t.{id}) = 'integer' \
             {} {filter} GROUP BY t.{id} ORDER BY t.{id} LIMIT {EXISTING_KEYS_PER_CALL}",
            quoted(&table.name),
            after.map_or_else(String::new, |after| format!("AND t.{id} > {after}")),
        );
        let rows = || -> rusqlite::Result<Vec<ExistingKey>> {
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                let (origin, entry): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
                let original = entry.and_then(|entry| original_id(&entry, &ids.kept_as));
                Ok((origin.or(original), row.get(2)?))
            })?;
            rows.collect()
        };
        rows().map_err(|e| failed(Code::Target, format!("cannot read {}", table.name), e))
    }

    /// Whose the integer ids of the tables are, and how far they reach.
    pub(super) fn table_numbers_now(&self) -> Result<Vec<Option<TableNumbers>>> {
        let mut history = None;
        let mut of_table = |table: &CatalogTable| -> Result<Option<TableNumbers>> {
            let Some(key) = table.integer_key() else { return Ok(None) };
            let id = quoted(&table.columns[key].physical);
            let sql = format!(
                "SELECT max({id}) FROM {} WHERE typeof({id}) = 'integer'",
                quoted(&table.name)
            );
            let greatest = self.connection.query_row(&sql, [], |row| row.get(0));
            let greatest = greatest
                .map_err(|e| failed(Code::Target, format!("cannot read {}", table.name), e))?;
            if history.is_none() {
                history = Some(history::read(&self.connection)?);
            }
            let numbers = noted(history.as_deref().unwrap_or_default(), &table.name);
            Ok(Some(TableNumbers { numbers, greatest }))
        };
        self.catalog.tables.iter().map(&mut of_table).collect()
    }

    /// The triggers that an import will not fire.
    pub(super) fn triggers(&self, plan: &Plan) -> rusqlite::Result<Vec<Notice>> {
        let mut notices = Vec::new();
        for stream in &plan.streams {
            let sql = "SELECT group_concat(name, ', ') FROM sqlite_schema \
                        WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE";
            let names: Option<String> =
                self.connection.query_row(sql, [stream.table_name()], |row| row.get(0))?;
            notices.extend(names.map(|names| {
                let (table, names) = (stream.table_name(), show_text(&names));
                let text = format!("{table}: these triggers will not fire: {names}");
                Notice::new(NoticeKind::Triggers, text)
            }));
        }
        Ok(notices)
    }
}

pub(super) fn describe(connection: &Connection, found: &SqliteCatalog) -> Result<Catalog> {
    let mut tables: Vec<CatalogTable> = Vec::new();
    for stream in &found.layout.streams {
        tables.push(describe_table(connection, found, stream)?);
    }
    let place = |table: usize, physical: &String| {
        let columns = &tables[table].columns;
        let found = columns.iter().position(|c| c.physical.eq_ignore_ascii_case(physical));
        found.ok_or_else(|| lacks(&tables[table].name, physical))
    };
    let mut references = Vec::new();
    for (child, stream) in found.layout.streams.iter().enumerate() {
        let mut of_table = Vec::new();
        for declared in found.references(stream) {
            let (from, to) = (declared.columns.iter(), declared.parent_columns.iter());
            of_table.push(Reference {
                columns: from.map(|name| place(child, name)).collect::<Result<_>>()?,
                table: declared.parent,
                parent_columns: to
                    .map(|name| place(declared.parent, name))
                    .collect::<Result<_>>()?,
                // at rest SQLite enforces nothing
                enforced: false,
            });
        }
        references.push(of_table);
    }
    for (table, references) in tables.iter_mut().zip(references) {
        table.references = references;
    }
    let layout = found.layout.title.clone();
    let layout_name = found.layout.name.clone();
    Ok(Catalog { layout_name, ..Catalog::new(Backend::Sqlite, layout, tables) })
}

/// The table of a stream, without what it refers to.
fn describe_table(
    connection: &Connection,
    found: &SqliteCatalog,
    stream: &LayoutStream,
) -> Result<CatalogTable> {
    let no_table = || Error::new(Code::Layout, format!("there is no table {}", stream.table));
    let table = found.table(stream).ok_or_else(no_table)?;
    let mut columns: Vec<CatalogColumn> = (table.stored())
        .map(|c| {
            let ty = ColumnType::Sqlite(affinity(&c.declared));
            let strict = table.strict && !c.declared.is_empty();
            let column = stream.catalog_column(&c.name, ty, c.not_null, c.has_default);
            CatalogColumn { strict, ..column }
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
    let needed = |name: &String| find(name).ok_or_else(|| lacks(&table.name, name));
    let computed = table.columns.iter().filter(|c| c.generated).map(|c| c.name.clone());
    Ok(CatalogTable {
        computed: computed.collect(),
        name: table.name.clone(),
        stream: stream.name.clone(),
        role: stream.role.clone(),
        time: stream.time().and_then(|n| columns.iter().position(|c| c.name == n)),
        changed: columns.iter().position(|c| c.name == stream.changed()),
        stored: columns.iter().position(|c| c.name == stream.stored()),
        numbers: None,
        adoptable: stream.is_adoptable(),
        key: stream.key.iter().map(needed).collect::<Result<_>>()?,
        references: Vec::new(),
        origin: stream.origin.as_ref().and_then(find),
        batch: stream.batch.as_ref().and_then(find),
        fold: stream.fold.as_ref().and_then(find),
        columns,
    })
}

fn lacks(table: &str, column: &str) -> Error {
    Error::new(Code::Layout, format!("{table}: it has no column \"{}\"", show_text(column)))
}

/// The CHECKs of a table that we can foresee, as its own text says them.
pub(super) fn checks(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<(String, CheckConstraint)>> {
    let sql = create_table(connection, table)?;
    Ok(sql.map_or_else(Vec::new, |sql| CheckConstraint::in_create_table(&sql)))
}

/// The CHECKs of a table that have a name, each with the words in its condition.
pub(super) fn named_checks_of(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    Ok(create_table(connection, table)?.map_or_else(Vec::new, |sql| named_checks(&sql)))
}

/// The text that made a table.
fn create_table(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?";
    connection.query_row(sql, [table], |row| row.get(0))
}
