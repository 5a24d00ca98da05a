//! What a database looks like, whatever its kind, as plain values: tables, columns, keys, references.

mod backend;
mod constraints;
mod types;

pub use backend::Backend;
pub use constraints::{CheckConstraint, named_checks};
pub use types::{Affinity, ColumnType};

use chronicle_archive::TimeText;
use uuid::Uuid;

use crate::numbers::TableNumbers;

/// What the rows of a table are, as a layout says: tables with the same role hold rows of the same kind,
/// whatever they are called.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Role(pub String);

impl Role {
    /// The role of a table that meets only a stream of its own name.
    pub const SIDE: &'static str = "side";

    /// Whether a stream of another name may go into a table with this role.
    pub fn is_shared(&self) -> bool {
        self.0 != Role::SIDE
    }
}

/// The characters of a batch's id.
const BATCH_ID: u32 = 36;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogColumn {
    /// The logical name.
    pub name: String,
    /// The name in the database.
    pub physical: String,
    /// What it can hold.
    pub ty: ColumnType,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether it refuses every value of another class than its own, as those of a STRICT table do.
    pub strict: bool,
    /// Whether the database fills it when nothing is given.
    pub has_default: bool,
    /// A CHECK constraint on its values.
    pub check: Option<CheckConstraint>,
    /// Whether its values are words of a vocabulary that differs between versions of an application.
    pub vocabulary: bool,
    /// Whether a layout says that its texts are JSON.
    pub json: bool,
    /// Whether a layout says that its texts are times.
    pub time_text: TimeText,
    /// Whether a layout says that it can be recomputed.
    pub derived: bool,
    /// The logical column whose text is the default where the archive has nothing.
    pub default_from: Option<String>,
    /// The text that is the default where the archive has nothing.
    pub default: Option<String>,
}

impl CatalogColumn {
    /// A column of a type with no constraint and no default.
    pub fn of_type(name: &str, ty: ColumnType) -> CatalogColumn {
        CatalogColumn {
            name: name.to_owned(),
            physical: name.to_owned(),
            ty,
            not_null: false,
            strict: false,
            has_default: false,
            check: None,
            vocabulary: false,
            json: false,
            time_text: TimeText::None,
            derived: false,
            default_from: None,
            default: None,
        }
    }
}

/// A reference from columns of a table to columns of another, or of the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The referring columns, as indices.
    pub columns: Vec<usize>,
    /// The table referred to, as an index.
    pub table: usize,
    /// The columns referred to, as indices of that table, in the order of `columns`: its key, or
    /// columns that are unique.
    pub parent_columns: Vec<usize>,
    /// Whether the database itself enforces it.
    pub enforced: bool,
}

/// A table.
#[derive(Debug, Clone)]
pub struct CatalogTable {
    /// The table's name, for messages.
    pub name: String,
    /// The logical stream it holds.
    pub stream: String,
    /// What its rows are.
    pub role: Role,
    /// Its columns.
    pub columns: Vec<CatalogColumn>,
    /// The names in the database of the columns that it computes itself.
    pub computed: Vec<String>,
    /// The key, as indices of columns.
    pub key: Vec<usize>,
    /// Its references.
    pub references: Vec<Reference>,
    /// The column that keeps the id which a row had in the database it came from.
    pub origin: Option<usize>,
    /// The column for the id of the batch that has brought a row.
    pub batch: Option<usize>,
    /// The JSON column that can carry what the table has no column for.
    pub fold: Option<usize>,
    /// The column that says when a row began.
    pub time: Option<usize>,
    /// The column that says when a row was changed last.
    pub changed: Option<usize>,
    /// The column that says when a row was stored.
    pub stored: Option<usize>,
    /// Whether a row can be created for rows that refer to one that does not exist.
    pub adoptable: bool,
    /// If its ids are integers: those that it has, when that was asked.
    pub numbers: Option<TableNumbers>,
}

impl CatalogTable {
    /// The column that alone is the key, if it holds integers.
    pub fn integer_key(&self) -> Option<usize> {
        let [key] = self.key[..] else { return None };
        self.columns[key].ty.is_integer().then_some(key)
    }

    /// The column for the id of the batch that has brought a row, if it takes such an id.
    pub fn batch_column(&self) -> Option<usize> {
        let takes = |column: &CatalogColumn| match &column.ty {
            ColumnType::Uuid | ColumnType::Text(None) => true,
            ColumnType::Text(Some(most)) => *most >= BATCH_ID,
            ColumnType::Sqlite(affinity) => matches!(affinity, Affinity::Text | Affinity::Blob),
            _ => false,
        };
        self.batch.filter(|n| takes(&self.columns[*n]) && self.columns[*n].check.is_none())
    }
}

/// All tables that streams can go into or come from.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The kind of database.
    pub backend: Backend,
    /// The layout's name for people.
    pub layout: String,
    /// The layout's name in archives; empty if it is not known.
    pub layout_name: String,
    /// Its tables, parents first.
    pub tables: Vec<CatalogTable>,
    /// A UUID that identifies it, where one can be derived: the `instance` of its archives.
    pub instance: Option<Uuid>,
}

impl Catalog {
    /// A catalog of tables; a reference without parent columns refers to the key of its parent.
    pub fn new(backend: Backend, layout: String, mut tables: Vec<CatalogTable>) -> Catalog {
        let keys: Vec<Vec<usize>> = tables.iter().map(|t| t.key.clone()).collect();
        for table in &mut tables {
            for reference in &mut table.references {
                if reference.parent_columns.is_empty() {
                    reference.parent_columns.clone_from(&keys[reference.table]);
                }
            }
            table.references.retain(|r| r.columns.len() == r.parent_columns.len());
        }
        Catalog { backend, layout, layout_name: String::new(), tables, instance: None }
    }

    /// The table whose keys the values of a column are: its own if the column alone is the key, else the
    /// one that the column refers to, through any number of references.
    pub fn identity_of(&self, table: usize, column: usize) -> Option<usize> {
        let (mut place, mut seen) = ((table, column), Vec::new());
        while !seen.contains(&place) {
            seen.push(place);
            let table = self.tables.get(place.0)?;
            if table.key == [place.1] {
                return Some(place.0);
            }
            // a reference of this column alone says more than one of several columns
            let alone = table.references.iter().find(|r| r.columns == [place.1]);
            let reference =
                alone.or_else(|| table.references.iter().find(|r| r.columns.contains(&place.1)))?;
            let at = reference.columns.iter().position(|c| *c == place.1)?;
            place = (reference.table, *reference.parent_columns.get(at)?);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(
        name: &str,
        columns: usize,
        key: &[usize],
        references: Vec<Reference>,
    ) -> CatalogTable {
        let column = |n: usize| CatalogColumn::of_type(&format!("c{n}"), ColumnType::Text(None));
        CatalogTable {
            computed: Vec::new(),
            name: name.into(),
            stream: name.into(),
            role: Role(Role::SIDE.into()),
            columns: (0..columns).map(column).collect(),
            key: key.to_vec(),
            references,
            origin: None,
            batch: None,
            fold: None,
            time: None,
            changed: None,
            stored: None,
            adoptable: false,
            numbers: None,
        }
    }

    fn to(columns: &[usize], table: usize, parent_columns: &[usize]) -> Reference {
        Reference {
            columns: columns.to_vec(),
            table,
            parent_columns: parent_columns.to_vec(),
            enforced: true,
        }
    }

    #[test]
    fn a_column_of_a_wide_key_has_the_identity_of_what_it_refers_to() {
        let catalog = Catalog {
            backend: Backend::Sqlite,
            layout: "test".into(),
            layout_name: "test".into(),
            instance: None,
            tables: vec![
                table("account", 2, &[0], vec![]),
                table("member", 3, &[0, 1], vec![to(&[0], 0, &[0])]),
                table("note", 4, &[0], vec![to(&[1, 2], 1, &[0, 1]), to(&[3], 0, &[1])]),
                table("loop", 2, &[0, 1], vec![to(&[0, 1], 3, &[1, 0])]),
            ],
        };
        assert_eq!(catalog.identity_of(0, 0), Some(0), "a key of its own");
        assert_eq!(catalog.identity_of(1, 0), Some(0), "a part of a key that refers to a key");
        assert_eq!(catalog.identity_of(1, 1), None, "a part of a key that refers to nothing");
        assert_eq!(catalog.identity_of(2, 1), Some(0), "a reference to such a part");
        assert_eq!(catalog.identity_of(2, 3), None, "a reference to a unique column is not an id");
        assert_eq!(catalog.identity_of(3, 0), None, "a cycle ends");
    }
}
