//! What a SQLite database holds: its tables, their columns and keys, and the layout they are recognised as.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::{failed, quoted};
use crate::catalog::Affinity;
use crate::catalog::Backend;
use crate::error::{Code, Result};
use crate::layout::{Layout, LayoutStream, Table, fit};
use chronicle_archive::Kind;

/// The names under which SQLite gives the number of a row, unless a column has the name.
const ROWID: [&str; 3] = ["rowid", "_rowid_", "oid"];

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
    /// Its place in the primary key, from 1; 0 if it is not part of it.
    primary: i64,
}

impl SqliteColumn {
    fn is_any(&self) -> bool {
        self.declared.eq_ignore_ascii_case("any")
    }
}

/// Columns that SQLite keeps unique together: a primary key or a unique index over all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// Its columns with the collations by which their texts are compared.
    pub columns: Vec<(String, String)>,
}

impl UniqueKey {
    /// Whether these are its columns, in any order.
    pub fn is_of(&self, columns: &[&str]) -> bool {
        self.columns.len() == columns.len() && columns.iter().all(|c| self.collation(c).is_some())
    }

    /// The collation by which texts of a column are compared, if it is one of its own.
    pub fn collation(&self, column: &str) -> Option<&str> {
        let own = self.columns.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
        own.map(|(_, collation)| collation.as_str())
    }
}

/// A foreign key as a table declares it.
#[derive(Debug, Clone)]
struct ForeignKey {
    /// The table it refers to, which need not be there.
    parent: String,
    /// The referring columns, each with the column it refers to: none if that is the primary key.
    columns: Vec<(String, Option<String>)>,
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
    /// Whether its primary key is the rowid.
    has_alias: bool,
    /// Whether it is a STRICT table.
    pub strict: bool,
    /// What it keeps unique.
    pub unique: Vec<UniqueKey>,
    foreign_keys: Vec<ForeignKey>,
}

impl SqliteTable {
    /// The columns that hold data of their own.
    pub fn stored(&self) -> impl Iterator<Item = &SqliteColumn> {
        self.columns.iter().filter(|c| !c.generated)
    }

    /// The name by which the number of a row is asked for: none in a table without rowids, or where
    /// columns have all three names.
    pub fn rowid(&self) -> Option<&'static str> {
        let free = |name: &&str| !self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        ROWID.into_iter().find(|name| self.has_rowid && free(name))
    }

    /// The column that is another name of the rowid.
    pub fn rowid_alias(&self) -> Option<&str> {
        let [key] = self.primary_key()[..] else { return None };
        (self.has_rowid && self.has_alias).then_some(key)
    }

    /// The foreign keys to a table: their columns, and those of the table in the same order.
    pub fn references_to(&self, parent: &SqliteTable) -> Vec<(Vec<String>, Vec<String>)> {
        let primary = parent.primary_key();
        let to = self.foreign_keys.iter().filter(|f| f.parent.eq_ignore_ascii_case(&parent.name));
        let resolved = to.filter_map(|foreign| {
            let implied = primary.len() == foreign.columns.len();
            let pair = |(n, (from, to)): (usize, &(String, Option<String>))| {
                let to = match to {
                    Some(to) => to.as_str(),
                    None => primary.get(n).filter(|_| implied)?,
                };
                Some((stored_name(self, from)?, stored_name(parent, to)?))
            };
            let pairs = foreign.columns.iter().enumerate().map(pair);
            pairs.collect::<Option<Vec<_>>>().map(|pairs| pairs.into_iter().unzip())
        });
        resolved.collect()
    }

    /// The columns of the primary key, in its order.
    pub fn primary_key(&self) -> Vec<&str> {
        let mut key: Vec<&SqliteColumn> = self.columns.iter().filter(|c| c.primary > 0).collect();
        key.sort_by_key(|c| c.primary);
        key.into_iter().map(|c| c.name.as_str()).collect()
    }

    /// By what a row is addressed: the rowid, else what keeps its rows apart.
    pub fn address(&self) -> Option<UniqueKey> {
        if let Some(rowid) = self.rowid() {
            return Some(UniqueKey { columns: vec![(rowid.to_owned(), "BINARY".to_owned())] });
        }
        let primary = self.primary_key();
        let primary = self.unique.iter().find(|unique| unique.is_of(&primary));
        // with a rowid that cannot be named, a key that is NULL addresses nothing
        primary.filter(|_| !self.has_rowid).cloned()
    }
}

/// A reference that a layout or a foreign key declares, by the names of the columns.
#[derive(Debug, Clone)]
pub struct DeclaredReference {
    /// The referring columns.
    pub columns: Vec<String>,
    /// The stream referred to, as an index of the layout's.
    pub parent: usize,
    /// The columns referred to, in the same order.
    pub parent_columns: Vec<String>,
}

impl DeclaredReference {
    /// Whether both refer from the same columns to the same ones.
    fn same(&self, other: &DeclaredReference) -> bool {
        let pairs = |r: &DeclaredReference| -> Vec<(String, String)> {
            let lower = |name: &String| name.to_ascii_lowercase();
            let both = r.columns.iter().zip(&r.parent_columns);
            let mut pairs: Vec<_> = both.map(|(a, b)| (lower(a), lower(b))).collect();
            pairs.sort();
            pairs
        };
        self.parent == other.parent && pairs(self) == pairs(other)
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

    /// The table of a stream of the layout; recognition has made sure that it exists.
    pub fn table(&self, stream: &LayoutStream) -> Option<&SqliteTable> {
        self.named(&stream.table)
    }

    fn named(&self, name: &str) -> Option<&SqliteTable> {
        self.tables.iter().find(|t| t.name.eq_ignore_ascii_case(name))
    }

    /// The tables that belong to no stream.
    pub fn others(&self) -> impl Iterator<Item = &SqliteTable> {
        self.tables.iter().filter(|table| {
            !self.layout.streams.iter().any(|s| s.table.eq_ignore_ascii_case(&table.name))
        })
    }

    /// The references of a stream to streams: those that the layout names, and the foreign keys of its
    /// table. A foreign key that SQLite itself could not look up is none.
    pub fn references(&self, stream: &LayoutStream) -> Vec<DeclaredReference> {
        let Some(table) = self.table(stream) else { return Vec::new() };
        let streams = &self.layout.streams;
        let by_layout = stream.references.iter().filter_map(|(column, parent)| {
            let parent = streams.iter().position(|s| s.name == *parent)?;
            let [key] = &streams[parent].key[..] else { return None };
            Some(DeclaredReference {
                columns: vec![physical(stream, table, column)?],
                parent,
                parent_columns: vec![physical(
                    &streams[parent],
                    self.table(&streams[parent])?,
                    key,
                )?],
            })
        });
        let mut found: Vec<DeclaredReference> = by_layout.collect();
        for foreign in table.foreign_keys.iter().filter_map(|foreign| self.resolve(table, foreign))
        {
            if !found.iter().any(|known| known.same(&foreign)) {
                found.push(foreign);
            }
        }
        found
    }

    /// A foreign key to the table of a stream; none if it refers to another table, or to columns that
    /// are not unique.
    fn resolve(&self, table: &SqliteTable, foreign: &ForeignKey) -> Option<DeclaredReference> {
        let same = |s: &LayoutStream| s.table.eq_ignore_ascii_case(&foreign.parent);
        let parent = self.layout.streams.iter().position(same)?;
        let referred = self.named(&foreign.parent)?;
        let primary = referred.primary_key();
        let implied = primary.len() == foreign.columns.len();
        let (mut columns, mut parent_columns) = (Vec::new(), Vec::new());
        for (n, (from, to)) in foreign.columns.iter().enumerate() {
            let to = match to {
                Some(to) => to.as_str(),
                None => primary.get(n).filter(|_| implied)?,
            };
            columns.push(stored_name(table, from)?);
            parent_columns.push(stored_name(referred, to)?);
        }
        let to: Vec<&str> = parent_columns.iter().map(String::as_str).collect();
        let unique = referred.unique.iter().any(|unique| unique.is_of(&to));
        unique.then_some(DeclaredReference { columns, parent, parent_columns })
    }
}

/// The name of a column that holds data, as its table spells it.
fn stored_name(table: &SqliteTable, name: &str) -> Option<String> {
    table.stored().find(|c| c.name.eq_ignore_ascii_case(name)).map(|c| c.name.clone())
}

/// The name in the database of a logical column.
fn physical(stream: &LayoutStream, table: &SqliteTable, logical: &str) -> Option<String> {
    table.stored().find(|c| stream.logical(&c.name) == logical).map(|c| c.name.clone())
}

/// Tables that are not SQLite's own, with ours.
pub fn read_every_table(connection: &Connection) -> rusqlite::Result<Vec<SqliteTable>> {
    let all = read_all(connection, |_| true)?.into_iter();
    Ok(all.filter_map(|(view, table)| (!view).then_some(table)).collect())
}

/// Tables and views that are neither SQLite's own nor ours; true for a view.
fn read_tables(connection: &Connection) -> rusqlite::Result<Vec<(bool, SqliteTable)>> {
    read_all(connection, |name| !Table::is_ours(name))
}

/// The tables and views with some names.
fn read_all(
    connection: &Connection,
    wanted: impl Fn(&str) -> bool,
) -> rusqlite::Result<Vec<(bool, SqliteTable)>> {
    let mut statement = connection.prepare(
        "SELECT name, wr, strict, type = 'view' AS view FROM pragma_table_list \
         WHERE schema = 'main' AND type IN ('table', 'view') \
           AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let columns = |row: &Row<'_>| {
        Ok((row.get("name")?, row.get("wr")?, row.get("strict")?, row.get::<_, bool>("view")?))
    };
    let mut tables = Vec::new();
    for row in statement.query_map([], columns)? {
        let (name, without_rowid, strict, view): (String, bool, bool, bool) = row?;
        if !wanted(&name) {
            continue;
        }
        let mut columns = match read_columns(connection, &name) {
            // a view whose tables are gone has no columns, and is nobody's concern
            Err(_) if view => Vec::new(),
            columns => columns?,
        };
        for column in columns.iter_mut().filter(|c| strict && c.is_any()) {
            // only outside of STRICT tables ANY is one more name for NUMERIC
            column.declared.clear();
        }
        let mut table = SqliteTable {
            name,
            columns,
            has_rowid: !without_rowid,
            has_alias: false,
            strict,
            unique: Vec::new(),
            foreign_keys: Vec::new(),
        };
        if !view {
            (table.unique, table.has_alias) = read_unique(connection, &table)?;
            table.foreign_keys = read_foreign_keys(connection, &table.name)?;
        }
        tables.push((view, table));
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
            has_default: row.get_ref("dflt_value")? != ValueRef::Null,
            // 1 is hidden in a virtual table, 2 and 3 are generated columns
            generated: row.get::<_, i64>("hidden")? != 0,
            primary: row.get("pk")?,
        })
    })?;
    columns.collect()
}

/// What a table keeps unique, and whether its primary key has no index since it is the rowid. An index over some of the
/// rows, or over expressions, keeps no key.
fn read_unique(
    connection: &Connection,
    table: &SqliteTable,
) -> rusqlite::Result<(Vec<UniqueKey>, bool)> {
    let mut statement = connection.prepare(
        "SELECT i.name AS \"index\", i.origin, c.name, c.coll \
         FROM pragma_index_list(?1) AS i, pragma_index_xinfo(i.name) AS c \
         WHERE i.\"unique\" AND NOT i.partial AND c.key ORDER BY i.seq, c.seqno",
    )?;
    let (mut found, mut primary) = (Vec::<(String, Vec<Option<(String, String)>>)>::new(), false);
    let mut rows = statement.query([&table.name])?;
    while let Some(row) = rows.next()? {
        let index: String = row.get("index")?;
        primary |= row.get::<_, String>("origin")? == "pk";
        let collation: String = row.get("coll")?;
        let column = row.get::<_, Option<String>>("name")?.map(|name| (name, collation));
        match found.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => found.push((index, vec![column])),
        }
    }
    // an expression has no name
    let named = |(_, columns): (String, Vec<Option<_>>)| columns.into_iter().collect();
    let mut unique: Vec<UniqueKey> =
        found.into_iter().filter_map(named).map(|columns| UniqueKey { columns }).collect();
    let rowid_alias = table.primary_key();
    let is_alias = !primary && !rowid_alias.is_empty();
    if is_alias {
        let column = |name: &str| (name.to_owned(), "BINARY".to_owned());
        unique.insert(0, UniqueKey { columns: rowid_alias.into_iter().map(column).collect() });
    }
    Ok((unique, is_alias))
}

fn read_foreign_keys(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
    let mut statement = connection.prepare(
        "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
    )?;
    let mut found: Vec<(i64, ForeignKey)> = Vec::new();
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let id = row.get("id")?;
        let column = (row.get("from")?, row.get("to")?);
        match found.last_mut() {
            Some((last, foreign)) if *last == id => foreign.columns.push(column),
            _ => {
                let parent = row.get("table")?;
                found.push((id, ForeignKey { parent, columns: vec![column] }));
            }
        }
    }
    Ok(found.into_iter().map(|(_, foreign)| foreign).collect())
}

/// What a declared type does to values (<https://www.sqlite.org/datatype3.html>, 3.1).
pub fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |word: &str| declared.contains(word);
    if has("INT") {
        Affinity::Integer
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
        Affinity::Integer => Kind::Int,
        Affinity::Numeric | Affinity::Real => Kind::Real,
        Affinity::Blob if has("BLOB") => Kind::Bytes,
        Affinity::Blob | Affinity::Text => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_the_affinity_sqlite_documents() {
        for (declared, expected, holds) in [
            ("TEXT", Affinity::Text, Kind::Text),
            ("TIMESTAMP", Affinity::Numeric, Kind::Text),
            ("INTEGER", Affinity::Integer, Kind::Int),
            ("BOOLEAN", Affinity::Numeric, Kind::Int),
            ("REAL", Affinity::Real, Kind::Real),
            ("BLOB", Affinity::Blob, Kind::Bytes),
            ("", Affinity::Blob, Kind::Text),
            ("JSON", Affinity::Numeric, Kind::Json),
            ("DECIMAL(10,2)", Affinity::Numeric, Kind::Real),
            ("VARCHAR(10)", Affinity::Text, Kind::Text),
            ("FLOATING POINT", Affinity::Integer, Kind::Int),
        ] {
            assert_eq!((affinity(declared), kind(declared)), (expected, holds), "{declared}");
        }
    }
}
