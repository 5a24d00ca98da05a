//! The columns that a batch has added or dropped: in which order batches go because of them, and which of them a rollback
//! drops.

use serde::Serialize;

use super::sql::count;
use super::take_back::TakeBack;
use super::{AddedColumn, Met, Shape, ShapeTable, UndoSql, quoted};
use crate::error::Result;

const WHAT: &str = "cannot look for values of a column";

/// What becomes of a column that the batch has added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnStanding {
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Whether the rollback drops it.
    pub dropped: bool,
    /// Whether rows that the rollback leaves as they are have values in it, which keep it.
    pub has_values: bool,
    /// Whether the rows of a later batch have it, which stops the rollback.
    pub is_needed: bool,
    /// What was made on it since, such as an index, which stops the rollback.
    pub uses: Vec<String>,
}

impl ColumnStanding {
    /// Whether the rollback stops because of it.
    pub fn stops(&self) -> bool {
        self.is_needed || !self.has_values && !self.uses.is_empty()
    }

    /// What becomes of it, in words.
    pub(super) fn line(&self) -> String {
        let name = format!("{}: the column {}, added by the batch,", self.table, self.column);
        if self.dropped {
            return format!("{name} holds nothing else since");
        }
        let mut why = Vec::new();
        if self.has_values {
            why.push("rows that are not undone have had values in it since".to_owned());
        }
        if self.is_needed {
            why.push("rows of a later batch have had it since".to_owned());
        }
        if !self.uses.is_empty() {
            why.push(format!("this was made on it since: {}", self.uses.join(", ")));
        }
        format!("{name} stays: {}", why.join("; "))
    }
}

impl Shape {
    /// Whether a batch has changed rows of a table, or such as rows of that table refer to.
    pub fn concerns(&self, table: &str) -> bool {
        let is_it = |t: &ShapeTable| t.name == table || t.referred.iter().any(|r| r.table == table);
        self.tables.iter().any(is_it)
    }

    /// Whether a table of it has a column; `None` if it has not changed the table.
    fn has(&self, column: &AddedColumn) -> Option<bool> {
        let table = self.table(column.schema.as_deref(), &column.table)?;
        Some(self.tables[table].columns.iter().any(|c| c.name == column.column))
    }

    /// Whether a later batch has to be undone before this one, because of the columns of a table of both.
    pub fn columns_met_by(&self, later: &Shape) -> Met {
        // what it has added is not in this shape, nor is there what it has dropped
        let changes = |one: &Shape, other: &Shape, dropped: bool| {
            let columns = one.added_columns.iter().filter(|c| c.dropped == dropped);
            columns.filter_map(|c| other.has(c)).any(|has| has == dropped)
        };
        match () {
            () if changes(later, self, false) || changes(later, self, true) => Met::ItsColumns,
            // what comes back is not in the later shape
            () if self.added_columns.iter().any(|c| c.dropped && later.has(c) == Some(false)) => {
                Met::ItsColumns
            }
            () if self.added_columns.iter().any(|c| !c.dropped && later.has(c) == Some(true)) => {
                Met::Columns
            }
            () => Met::Nothing,
        }
    }

    /// Leaves out columns that another batch has added, too.
    pub fn without_columns_of(&mut self, others: &[Shape]) {
        let is_same = |one: &AddedColumn, other: &AddedColumn| {
            !one.dropped
                && !other.dropped
                && (&one.schema, &one.table, &one.column)
                    == (&other.schema, &other.table, &other.column)
        };
        let is_theirs =
            |c: &AddedColumn| others.iter().flat_map(|s| &s.added_columns).any(|o| is_same(c, o));
        self.added_columns.retain(|column| !is_theirs(column));
    }
}

impl TakeBack {
    /// What becomes of the columns that the batch has added; `needed` are shapes of later batches whose rows have them.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn columns(
        &self,
        database: &mut dyn UndoSql,
        needed: &[Shape],
    ) -> Result<Vec<ColumnStanding>> {
        let mut all = Vec::new();
        for column in self.shape.added_columns.iter().filter(|c| !c.dropped) {
            let schema = column.schema.as_deref();
            if !self.is_there(database, column).await? {
                continue;
            }
            let full = database.full(schema, &column.table);
            let stays = match self.shape.table(schema, &column.table) {
                Some(n) => self.stays(database, n),
                None => "1 = 1".to_owned(),
            };
            let name = quoted(&column.column);
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 AS n FROM {full} t WHERE t.{name} IS NOT NULL AND {stays} LIMIT 1) v"
            );
            let has_values = count(database, WHAT, &sql).await? > 0;
            let is_needed = needed.iter().any(|s| s.has(column) == Some(true));
            let uses = database.uses(column).await?;
            all.push(ColumnStanding {
                table: column.table.clone(),
                column: column.column.clone(),
                dropped: !has_values && !is_needed && uses.is_empty(),
                has_values,
                is_needed,
                uses,
            });
        }
        Ok(all)
    }

    /// Whether nobody has dropped a column since.
    async fn is_there(&self, database: &mut dyn UndoSql, column: &AddedColumn) -> Result<bool> {
        let table = ShapeTable {
            schema: column.schema.clone(),
            name: column.table.clone(),
            columns: Vec::new(),
            key: Vec::new(),
            referred: Vec::new(),
            entry_key: Vec::new(),
            own: false,
        };
        let now = database.columns(&table).await?.unwrap_or_default();
        Ok(now.iter().any(|(name, _)| *name == column.column))
    }
}
