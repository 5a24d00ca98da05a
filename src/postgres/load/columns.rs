//! The columns of a stream's table: which are written, and which are staged as texts.

use super::PgTarget;
use crate::catalog::ColumnType;
use crate::plan::TablePlan;

impl PgTarget {
    /// The type that a column's staged texts are cast into, if they are.
    pub(super) fn cast_of<'a>(&self, stream: &'a TablePlan, physical: &str) -> Option<&'a str> {
        let table = &self.catalog.tables[stream.table];
        let column =
            stream.columns.iter().find(|c| table.columns[c.target].physical == physical)?;
        match &column.ty {
            ColumnType::Cast(ty) => Some(ty),
            _ => None,
        }
    }

    /// Whether all these columns of the table are written.
    pub(super) fn writes(&self, stream: &TablePlan, columns: &[String]) -> bool {
        let table = &self.catalog.tables[stream.table];
        let is_it = |name: &String| {
            stream.columns.iter().any(|c| table.columns[c.target].physical == *name)
        };
        columns.iter().all(is_it)
    }
}
