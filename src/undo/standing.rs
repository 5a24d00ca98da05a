//! What can be taken back of a batch, and what stands in the way.

use serde::Serialize;

use super::{AddedColumn, ColumnStanding};
use chronicle_archive::show_count;

/// Why a row of a batch is not as the batch left it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many rows.
    pub rows: u64,
    /// The keys of some of them.
    pub samples: Vec<String>,
}

/// The rows that cannot come back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// These rows.
    #[serde(flatten)]
    pub group: Group,
    /// The unique columns whose former values other rows have.
    pub columns: Vec<String>,
}

/// What can be taken back of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableStanding {
    /// The table.
    pub table: String,
    /// What its rows are, in words, if it is our own.
    #[serde(skip)]
    pub own: Option<&'static str>,
    /// The rows that the batch has inserted, and that go.
    pub inserted: u64,
    /// The rows that it has changed, and that get their former values.
    pub updated: u64,
    /// The rows that it has deleted, and that come back.
    pub deleted: u64,
    /// The rows that were edited, deleted or created again since.
    pub edited: Group,
    /// The rows that others refer to which the batch did not load.
    pub referred: Group,
    /// The rows that cannot come back: other rows have their unique values, or what they refer to does not come back.
    pub taken: Taken,
}

/// What can be taken back of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// By table.
    pub tables: Vec<TableStanding>,
    /// The columns that it has added.
    pub columns: Vec<ColumnStanding>,
}

impl TableStanding {
    /// The rows of this table that stay as they are.
    pub fn kept(&self) -> u64 {
        self.edited.rows + self.referred.rows + self.taken.group.rows
    }
}

impl Standing {
    /// The rows that stay as they are: they were edited, are referred to, or cannot come back.
    pub fn kept(&self) -> u64 {
        self.tables.iter().map(TableStanding::kept).sum()
    }

    /// Whether a column that the batch has added goes.
    pub fn drops(&self, column: &AddedColumn) -> bool {
        let is_it = |c: &&ColumnStanding| c.table == column.table && c.column == column.column;
        self.columns.iter().find(is_it).is_some_and(|c| c.dropped)
    }

    /// Whether anything stays that the batch has changed.
    pub fn leaves_any(&self) -> bool {
        self.kept() > 0 || self.columns.iter().any(|column| !column.dropped)
    }

    /// The rows that cannot come back.
    pub fn taken(&self) -> u64 {
        self.tables.iter().map(|t| t.taken.group.rows).sum()
    }

    /// The rows that are taken back.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.inserted + t.updated + t.deleted).sum()
    }

    /// What stands in the way and what does not, a line for each table and group, and for each column.
    pub fn lines(&self) -> Vec<String> {
        let keys = |group: &Group| match group.samples.len() {
            0 => String::new(),
            n if n as u64 == group.rows => format!(": {}", group.samples.join("; ")),
            _ => format!(": {}; …", group.samples.join("; ")),
        };
        let mut lines = Vec::new();
        for table in &self.tables {
            let name = &table.table;
            for (rows, what) in [
                (table.inserted, "inserted by the batch"),
                (table.updated, "changed by the batch"),
                (table.deleted, "deleted by the batch"),
            ] {
                if rows > 0 {
                    lines.push(format!(
                        "{name}: {} {what}, untouched since",
                        show_count(rows, "rows")
                    ));
                }
            }
            if table.edited.rows > 0 {
                let rows = show_count(table.edited.rows, "rows");
                lines.push(format!(
                    "{name}: {rows} edited, deleted or created since{}",
                    keys(&table.edited)
                ));
            }
            if table.referred.rows > 0 {
                let rows = show_count(table.referred.rows, "rows");
                lines.push(format!(
                    "{name}: {rows} referred to by other rows since{}",
                    keys(&table.referred)
                ));
            }
            if table.taken.group.rows > 0 {
                let rows = show_count(table.taken.group.rows, "rows");
                let why = match &table.taken.columns[..] {
                    [] => "what they refer to does not come back".to_owned(),
                    columns => format!("other rows have their {} now", columns.join(", ")),
                };
                let keys = keys(&table.taken.group);
                lines.push(format!("{name}: {rows} cannot come back, since {why}{keys}"));
            }
        }
        lines.extend(self.columns.iter().map(ColumnStanding::line));
        lines
    }
}
