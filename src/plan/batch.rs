//! The column for the id of the batch that brings a row: which one it is, if the table has one that takes such an id.

use super::fit::text_column;
use super::join::Joiner;
use super::{ColumnPlan, ColumnSource, TablePlan};
use crate::catalog::CatalogTable;

impl Joiner<'_> {
    /// Writes the column of a table for the id of the batch, which the archive lacks.
    pub(super) fn add_batch_column(
        &self,
        plan: &mut TablePlan,
        table: &CatalogTable,
        target: usize,
    ) {
        let text = text_column(&table.columns[target].name);
        let planned = self.planned(&plan.source, table, target, ColumnSource::Batch, &text);
        plan.columns.push(ColumnPlan { ids: None, ..planned });
    }

    /// Finds the column for the id of the batch among those that are written. What the archive lacks there is no gap:
    /// the target fills it.
    pub(super) fn batch_column(&self, plan: &mut TablePlan, table: &CatalogTable) {
        plan.batch =
            plan.columns.iter().position(|c| Some(c.target) == table.batch_column() && !c.key);
        if let Some(column) = plan.batch {
            plan.columns[column].not_null = false;
            plan.columns[column].default = None;
        }
    }
}
