//! What a batch has touched, as the receipts describe it: enough to find and restore every row without a layout.

use serde::{Deserialize, Serialize};

/// Everything but rows that a batch has changed, and the tables of those rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The tables whose rows it has changed, parents first.
    pub tables: Vec<ShapeTable>,
    /// The columns that it has added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_columns: Vec<AddedColumn>,
    /// The sequences that it has moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<Sequence>,
}

/// A table as it was when the batch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeTable {
    /// Its schema, in Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// The columns that hold data, in their order; in SQLite the rowid is one, if it has a name of its own.
    pub columns: Vec<ShapeColumn>,
    /// The columns by which a row is found, as indices; none if rows are found by their content.
    pub key: Vec<usize>,
    /// The references of other tables, and its own, to its rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referred: Vec<ShapeReference>,
    /// The columns whose text names a row in the sidecar table, if all entries for rows of this table are new, as its rows
    /// are: then they go with the rows, and are not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entry_key: Vec<String>,
    /// Whether it is a table of our own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeColumn {
    /// Its name.
    pub name: String,
    /// Its type as the database declares it; empty for the rowid of SQLite.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether it is the rowid of SQLite, which no column shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rowid: bool,
}

/// A reference to rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeReference {
    /// The schema of the table that refers, in Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The table that refers.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The columns referred to, in the same order.
    pub to: Vec<String>,
}

/// A column that a batch has added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedColumn {
    /// The schema of its table, in Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Its type, as it was added.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether the batch has dropped it, as a rollback does, and not added it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

/// A sequence, or SQLite's number of an AUTOINCREMENT table, before and after a batch; `None` if it had given no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its name as SQL writes it; in SQLite that of its table.
    pub name: String,
    /// The number given last before.
    pub before: Option<i64>,
    /// The number given last after.
    pub after: Option<i64>,
}

impl ShapeTable {
    /// SQL for what tells whether a row was edited, of all its columns as SQL: the row number of SQLite is content only of
    /// rows without a key, which nothing else tells apart.
    pub fn content(&self, columns: &[String]) -> Vec<String> {
        let unknown: Vec<String> =
            self.key.iter().map(|k| format!("{} IS NULL", columns[*k])).collect();
        let content = |(n, column): (usize, &String)| match self.columns[n].rowid {
            true if !unknown.is_empty() => {
                format!("CASE WHEN {} THEN {column} END", unknown.join(" OR "))
            }
            _ => column.clone(),
        };
        columns.iter().enumerate().map(content).collect()
    }

    /// What the rows of a table of our own are, in words.
    pub fn own_rows(&self) -> Option<&'static str> {
        match () {
            () if self.is_sidecar() => Some("sidecar entries"),
            () if self.describes_columns() => Some("column descriptions"),
            () => None,
        }
    }

    /// Whether it is our own table that says what the columns of archives were.
    pub fn describes_columns(&self) -> bool {
        let has = |name: &str| self.columns.iter().any(|c| c.name == name);
        self.own && ["table_name", "kind", "time_text"].into_iter().all(has)
    }

    /// Whether it is the table of entries, which name the table and the key of a row.
    pub fn is_sidecar(&self) -> bool {
        self.own
            && ["table_name", "key", "entry"]
                .iter()
                .all(|n| self.columns.iter().any(|c| c.name == *n))
    }
}

impl Shape {
    /// What stands for the columns and the key of each of its tables.
    pub fn fingerprints(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.tables.iter().map(|table| {
            let name = match &table.schema {
                Some(schema) => format!("{schema}.{}", table.name),
                None => table.name.clone(),
            };
            let shape = format!("{:?} {:?}", table.columns, table.key);
            (name, chronicle_archive::hex::sha256(shape.as_bytes())[..16].to_owned())
        })
    }

    /// The table of entries, if the batch has touched it.
    pub fn sidecar(&self) -> Option<&ShapeTable> {
        self.tables.iter().find(|table| table.is_sidecar())
    }

    /// The table with a name.
    pub fn table(&self, schema: Option<&str>, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.schema.as_deref() == schema && t.name == name)
    }
}
