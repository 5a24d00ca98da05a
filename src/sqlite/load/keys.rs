//! How the rows of a target's table are distinguished: by their rowid, by their key, by other unique columns.

use rusqlite::Connection;

use crate::catalog::CatalogTable;
use crate::error::{Code, Error, Result};
use crate::load::key_not_unique;
use crate::plan::TablePlan;
use crate::sqlite::catalog::{SqliteTable, UniqueKey};
use crate::sqlite::{failed, quoted};

/// What distinguishes the rows of one table.
pub(super) struct Keys {
    /// What addresses any row, key or none: the rowid, else the primary key.
    place: UniqueKey,
    /// Whether that is the rowid.
    pub(super) has_rowid: bool,
    /// The key's columns, as SQL, each with the collation by which SQLite keeps it unique.
    key: Vec<(String, Option<String>)>,
    /// Whether SQLite keeps the key unique.
    is_unique: bool,
    /// Whatever SQLite keeps unique.
    pub(super) unique: Vec<UniqueKey>,
    /// The CHECK constraints that have a name, with the words in their conditions.
    pub(super) named_checks: Vec<(String, Vec<String>)>,
}

impl Keys {
    /// Looks at a table.
    ///
    /// # Errors
    /// If nothing addresses its rows.
    pub(super) fn of(
        table: &SqliteTable,
        described: &CatalogTable,
        named_checks: Vec<(String, Vec<String>)>,
    ) -> Result<Keys> {
        let place = table.address().ok_or_else(|| {
            let what = format!("{}: its columns hide every name of the rowid", table.name);
            Error::new(Code::Layout, what).hint(
                "rename one of the columns rowid, _rowid_ and oid, or import into another file",
            )
        })?;
        let names: Vec<&str> =
            described.key.iter().map(|k| described.columns[*k].physical.as_str()).collect();
        let own = table.unique.iter().find(|unique| unique.is_of(&names));
        let collation = |name: &str| own.and_then(|unique| unique.collation(name));
        Ok(Keys {
            place,
            has_rowid: table.rowid().is_some(),
            key: names.iter().map(|n| (quoted(n), collation(n).map(str::to_owned))).collect(),
            // where some of its columns are unique, so is the whole
            is_unique: table.unique.iter().any(|unique| {
                let part = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
                unique.columns.iter().all(|(name, _)| part(name))
            }),
            unique: table.unique.clone(),
            named_checks,
        })
    }

    /// SQL for the key of the rows `of`, column by column; nothing before a column without `of`.
    pub(super) fn key(&self, of: &str) -> Vec<String> {
        let dot = if of.is_empty() { "" } else { "." };
        self.key.iter().map(|(name, _)| format!("{of}{dot}{name}")).collect()
    }

    /// SQL that is true of the row with a key that is bound to `?1`, `?2`, …, as the key's own index
    /// compares.
    pub(super) fn key_is_bound(&self) -> String {
        let same = |(n, (name, collation)): (usize, &(String, Option<String>))| {
            format!("{name} = ?{}{}", n + 1, collate(collation.as_deref()))
        };
        self.key.iter().enumerate().map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// SQL that is true of the row with a key whose columns are given as SQL, one after the other.
    pub(super) fn has_key(&self, values: &str) -> String {
        let names: Vec<&str> = self.key.iter().map(|(name, _)| name.as_str()).collect();
        format!("({}) = ({values})", names.join(", "))
    }

    /// SQL for the place of the rows `of`, in columns `p0`, `p1`, ….
    pub(super) fn places(&self, of: &str) -> String {
        let column =
            |(n, (name, _)): (usize, &(String, String))| format!("{of}.{} AS p{n}", quoted(name));
        self.place.columns.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
    }

    /// SQL for the columns of the place in the table itself.
    pub(super) fn place_columns(&self) -> String {
        let columns: Vec<String> =
            self.place.columns.iter().map(|(name, _)| quoted(name)).collect();
        columns.join(", ")
    }

    /// SQL that is true of the row at a place whose columns are bound one after the other.
    pub(super) fn is_at_bound(&self) -> String {
        let same = |(name, collation): &(String, String)| {
            format!("{} = ?{}", quoted(name), self.collated(collation))
        };
        self.place.columns.iter().map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// How many columns a place has.
    pub(super) fn place_width(&self) -> usize {
        self.place.columns.len()
    }

    /// SQL that is true where a row `of` is at the place that a row `at` names.
    pub(super) fn is_at(&self, of: &str, at: &str) -> String {
        let same = |(n, (name, collation)): (usize, &(String, String))| {
            format!("{of}.{} = {at}.p{n}{}", quoted(name), self.collated(collation))
        };
        self.place.columns.iter().enumerate().map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// SQL that is true of a row `of` whose place is in a table of places.
    pub(super) fn is_among(&self, of: &str, table: &str) -> String {
        let columns: Vec<String> = (self.place.columns.iter())
            .map(|(name, collation)| format!("{of}.{}{}", quoted(name), self.collated(collation)))
            .collect();
        let places: Vec<String> = (0..columns.len()).map(|n| format!("p{n}")).collect();
        format!("({}) IN (SELECT {} FROM {table})", columns.join(", "), places.join(", "))
    }

    fn collated(&self, collation: &str) -> String {
        collate(Some(collation).filter(|_| !self.has_rowid))
    }

    /// Refuses a table with rows whose key SQLite does not keep unique: existing rows
    /// could not be recognised and would be duplicated.
    ///
    /// # Errors
    /// Such a table, or one that cannot be read.
    pub(super) fn require_unique(
        &self,
        connection: &Connection,
        stream: &TablePlan,
        table: &CatalogTable,
    ) -> Result<()> {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&table.name));
        let any = || connection.query_row(&any, [], |row| row.get::<_, bool>(0));
        let read = |e| failed(Code::Target, format!("cannot read {}", table.name), e);
        if self.is_unique || !any().map_err(read)? {
            return Ok(());
        }
        let names: Vec<&str> =
            table.key.iter().map(|k| table.columns[*k].physical.as_str()).collect();
        Err(key_not_unique(&stream.table_name, &names, None))
    }
}

/// SQL for a comparison by a collation, if one is named.
pub(super) fn collate(collation: Option<&str>) -> String {
    collation.map_or_else(String::new, |name| format!(" COLLATE {}", quoted(name)))
}
