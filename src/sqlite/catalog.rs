//! What a SQLite database holds: its tables, their columns, and the layout they are recognised as.

use rusqlite::Connection;

use super::{failed, quoted};
use crate::catalog::Affinity;
use crate::catalog::Backend;
use crate::error::{Code, Result};
use crate::layout::{Layout, LayoutStream, Table, fit};
use chronicle_archive::Kind;

/// A column as SQLite declares it.
#[derive(Debug, Clone)]
pub struct SqliteColumn {
    /// Its name.
    pub name: String,
    /// Its declared type, perhaps empty.
    pub declared: String,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether it has a default.
    pub has_default: bool,
    /// Whether SQLite computes it: it can be neither exported as data nor written.
    pub generated: bool,
}

/// A table.
#[derive(Debug, Clone)]
pub struct SqliteTable {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<SqliteColumn>,
    /// Whether rows have a rowid.
    pub has_rowid: bool,
}

impl SqliteTable {
    /// The columns that hold data of their own.
    pub fn stored(&self) -> impl Iterator<Item = &SqliteColumn> {
        self.columns.iter().filter(|c| !c.generated)
    }
}

/// The tables of a database and the layout they are recognised as.
pub struct SqliteCatalog {
    /// The layout.
    pub layout: Layout,
    /// All tables of the database but SQLite's own and ours.
    pub tables: Vec<SqliteTable>,
}

impl SqliteCatalog {
    /// Looks at a database whose layout is recognised, or is `forced`.
    ///
    /// # Errors
    /// If its tables are of no known layout, or not of the forced one.
    pub fn read(connection: &Connection, forced: Option<&Layout>) -> Result<SqliteCatalog> {
        let found = read_tables(connection)
            .map_err(|e| failed(Code::Source, "cannot read the tables", e))?;
        let named: Vec<Table> = (found.iter())
            .map(|(view, t)| Table {
                name: t.name.clone(),
                columns: t.columns.iter().map(|c| c.name.clone()).collect(),
                view: *view,
            })
            .collect();
        let layout = fit(Backend::Sqlite, &named, forced)?;
        let real = |(view, table): (bool, SqliteTable)| (!view).then_some(table);
        let tables = found.into_iter().filter_map(real).collect();
        Ok(SqliteCatalog { layout, tables })
    }

    /// The table of a stream of the layout; recognition has made sure that it is there.
    pub fn table(&self, stream: &LayoutStream) -> Option<&SqliteTable> {
        self.tables.iter().find(|t| t.name.eq_ignore_ascii_case(&stream.table))
    }

    /// The tables that belong to no stream.
    pub fn others(&self) -> impl Iterator<Item = &SqliteTable> {
        self.tables.iter().filter(|table| {
            !self.layout.streams.iter().any(|s| s.table.eq_ignore_ascii_case(&table.name))
        })
    }
}

/// Tables and views that are neither SQLite's own nor ours; true for a view.
fn read_tables(connection: &Connection) -> rusqlite::Result<Vec<(bool, SqliteTable)>> {
    let mut statement = connection.prepare(
        "SELECT name, wr, type = 'view' FROM pragma_table_list \
         WHERE schema = 'main' AND type IN ('table', 'view') \
           AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let mut tables = Vec::new();
    for row in statement.query_map([], columns)? {
        let (name, without_rowid, view): (String, bool, bool) = row?;
        if Table::is_ours(&name) {
            continue;
        }
        let columns = match read_columns(connection, &name) {
            // a view whose tables are gone has no columns, and is nobody's concern
            Err(_) if view => Vec::new(),
            columns => columns?,
        };
        tables.push((view, SqliteTable { name, columns, has_rowid: !without_rowid }));
    }
    Ok(tables)
}

fn read_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<SqliteColumn>> {
    let mut statement = connection.prepare(&format!("PRAGMA table_xinfo({})", quoted(table)))?;
    let columns = statement.query_map([], |row| {
        Ok(SqliteColumn {
            name: row.get("name")?,
            declared: row.get::<_, Option<String>>("type")?.unwrap_or_default(),
            not_null: row.get("notnull")?,
            has_default: row.get_ref("dflt_value")? != rusqlite::types::ValueRef::Null,
            // 1 is hidden in a virtual table, 2 and 3 are generated columns
            generated: row.get::<_, i64>("hidden")? != 0,
        })
    })?;
    columns.collect()
}

/// What a declared type does to values (<https://www.sqlite.org/datatype3.html>, 3.1).
pub fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |word: &str| declared.contains(word);
    if has("INT") {
        Affinity::Numeric
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || declared.is_empty() {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// What a column of a declared type mostly holds; single values may be anything.
pub fn kind(declared: &str) -> Kind {
    let upper = declared.to_ascii_uppercase();
    let has = |word: &str| upper.contains(word);
    if has("JSON") {
        return Kind::Json;
    }
    if has("BOOL") {
        return Kind::Int;
    }
    // SQLite has no times: these columns hold text
    if has("DATE") || has("TIME") {
        return Kind::Text;
    }
    match affinity(declared) {
        Affinity::Numeric if has("INT") => Kind::Int,
        Affinity::Numeric | Affinity::Real => Kind::Real,
        Affinity::Blob if has("BLOB") => Kind::Bytes,
        Affinity::Blob | Affinity::Text => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_the_affinity_and_kind_that_sqlite_documents() {
        for (declared, expected, holds) in [
            ("TEXT", Affinity::Text, Kind::Text),
            ("TIMESTAMP", Affinity::Numeric, Kind::Text),
            ("INTEGER", Affinity::Numeric, Kind::Int),
            ("BOOLEAN", Affinity::Numeric, Kind::Int),
            ("REAL", Affinity::Real, Kind::Real),
            ("BLOB", Affinity::Blob, Kind::Bytes),
            ("", Affinity::Blob, Kind::Text),
            ("JSON", Affinity::Numeric, Kind::Json),
            ("DECIMAL(10,2)", Affinity::Numeric, Kind::Real),
            ("VARCHAR(10)", Affinity::Text, Kind::Text),
            ("FLOATING POINT", Affinity::Numeric, Kind::Int),
        ] {
            assert_eq!((affinity(declared), kind(declared)), (expected, holds), "{declared}");
        }
    }
}
