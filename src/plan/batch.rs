//! The column for the id of the batch that brings a row: which one it is, if the table has one that takes such an id.

use super::TablePlan;
use super::join::Joiner;
use crate::catalog::{Affinity, CatalogTable, ColumnType};

/// The characters of a batch's id.
const LENGTH: u32 = 36;

/// Whether a column of a table takes the id of a batch.
pub(super) fn takes_batch(table: &CatalogTable, column: usize) -> bool {
    let takes = match &table.columns[column].ty {
        ColumnType::Uuid | ColumnType::Text(None) => true,
        ColumnType::Text(Some(most)) => *most >= LENGTH,
        ColumnType::Sqlite(affinity) => matches!(affinity, Affinity::Text | Affinity::Blob),
        _ => false,
    };
    table.batch == Some(column) && takes && table.columns[column].check.is_none()
}

impl Joiner<'_> {
    /// Finds the column for the id of the batch among those that are written. What the archive lacks there is no gap:
    /// the target fills it.
    pub(super) fn batch_column(&self, plan: &mut TablePlan, table: &CatalogTable) {
        plan.batch = plan.columns.iter().position(|c| takes_batch(table, c.target) && !c.key);
        if let Some(column) = plan.batch {
            plan.columns[column].not_null = false;
            plan.columns[column].default = None;
        }
    }
}
