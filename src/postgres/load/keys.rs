//! The key of a table's rows as SQL: of any number of columns, which the database compares itself.

use super::PgTarget;
use crate::catalog::{CatalogColumn, CatalogTable, ColumnType};
use crate::plan::TablePlan;
use crate::postgres::{key_text, quoted};

/// Rows as a query names them. Staged rows have texts where COPY cannot send the type itself.
#[derive(Clone, Copy)]
pub(super) enum Alias<'a> {
    Stored(&'a str),
    Staged(&'a str),
}

/// A column of a key.
struct KeyColumn {
    /// Its name as SQL writes it.
    name: String,
    /// The type that its staged texts are cast into.
    cast: Option<String>,
    nullable: bool,
}

/// The key of a table.
pub(super) struct Key {
    columns: Vec<KeyColumn>,
    names: Vec<String>,
}

impl PgTarget {
    /// The key of the table that a stream goes into.
    pub(super) fn key(&self, stream: &TablePlan) -> Key {
        let table = &self.catalog.tables[stream.table];
        Key::of(table, |column| self.cast_of(stream, &column.physical).map(str::to_owned))
    }

    /// The key of a table, for rows that are in it.
    pub(super) fn stored_key(&self, table: usize) -> Key {
        Key::of(&self.catalog.tables[table], |column| match &column.ty {
            ColumnType::Cast(ty) => Some(ty.clone()),
            _ => None,
        })
    }
}

/// SQL that is true if two values are equal as a type says. Arrays are compared by the equality of their
/// elements' type, which may be of an extension, and be found in no schema that we look into.
pub(super) fn same_as_type(one: &str, other: &str, ty: &str) -> String {
    format!("ARRAY[{one}::{ty}] = ARRAY[{other}::{ty}]")
}

/// The names of a table's key as SQL writes them.
pub(super) fn key_names(table: &CatalogTable) -> Vec<String> {
    table.key.iter().map(|n| quoted(&table.columns[*n].physical)).collect()
}

impl Key {
    /// The key of a table; `cast` says as which type staged texts of a column are compared.
    fn of(table: &CatalogTable, cast: impl Fn(&CatalogColumn) -> Option<String>) -> Key {
        let column = |n: &usize| {
            let column = &table.columns[*n];
            let (name, cast) = (quoted(&column.physical), cast(column));
            KeyColumn { name, cast, nullable: !column.not_null }
        };
        Key { columns: table.key.iter().map(column).collect(), names: key_names(table) }
    }

    /// SQL for the text that names a row.
    pub(super) fn text(&self, alias: &str) -> String {
        key_text(&self.names, alias)
    }

    /// SQL for the columns, by which rows with the same key are grouped.
    pub(super) fn grouped(&self, rows: Alias<'_>) -> String {
        self.values(rows).join(", ")
    }

    /// The names of its columns, as SQL writes them.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// SQL for its columns, with their own types.
    pub(super) fn values(&self, rows: Alias<'_>) -> Vec<String> {
        self.columns.iter().map(|c| c.value(rows)).collect()
    }

    /// SQL that is true if two rows have the same key, as the type and collation of each column say.
    pub(super) fn same(&self, one: Alias<'_>, other: Alias<'_>) -> String {
        self.equal(&self.values(one), &self.values(other))
    }

    /// The same of two lists of values, with the types of its columns.
    pub(super) fn equal(&self, one: &[String], other: &[String]) -> String {
        let same = |((column, one), other): ((&KeyColumn, &String), &String)| {
            match &column.cast {
                Some(ty) => same_as_type(one, other, ty),
                // arrays with NULL are equal, and can be hashed, unlike IS NOT DISTINCT FROM
                None if column.nullable => format!("ARRAY[{one}] = ARRAY[{other}]"),
                None => format!("{one} = {other}"),
            }
        };
        match self.columns.is_empty() {
            true => "false".into(),
            false => {
                let pairs = self.columns.iter().zip(one).zip(other).map(same);
                pairs.collect::<Vec<_>>().join(" AND ")
            }
        }
    }
}

impl KeyColumn {
    fn value(&self, rows: Alias<'_>) -> String {
        match (rows, &self.cast) {
            (Alias::Staged(alias), Some(ty)) => format!("{alias}.{}::{ty}", self.name),
            (Alias::Stored(alias) | Alias::Staged(alias), _) => format!("{alias}.{}", self.name),
        }
    }
}
