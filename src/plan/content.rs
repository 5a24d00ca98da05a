//! What the content of a row is: the columns by which it is the same as a row under another key.

use super::TablePlan;
use super::join::Joiner;
use super::unplaced::derived;
use crate::catalog::CatalogTable;
use crate::policy::Match;
use chronicle_archive::TimeText;
use chronicle_archive::time::ZoneRule;

/// A column that is part of the content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContentColumn {
    /// Its position among the columns that are written.
    pub column: usize,
    /// Whether its texts are JSON, which is compared by what it means.
    pub json: bool,
    /// If its texts are times, which are compared as instants: how those without a zone are read.
    pub zone_rule: Option<ZoneRule>,
}

impl Joiner<'_> {
    /// The columns that the archive and the table both have, but for the key and what tells nothing of the row itself:
    /// what can be recomputed, when it was stored and changed, where it came from and with which batch. None if rows
    /// are the same by their keys alone.
    pub(super) fn content(&self, plan: &TablePlan, table: &CatalogTable) -> Vec<ContentColumn> {
        if self.options.matches.of(&plan.stream) == Match::Key {
            return Vec::new();
        }
        let mut content = Vec::new();
        for (n, column) in plan.columns.iter().enumerate() {
            let Some(source) = column.archive_column() else { continue };
            // a column that the import adds is in the archive alone
            let Some(own) = table.columns.get(column.target) else { continue };
            let beside = [table.origin, table.batch, table.changed, table.stored];
            let is_derived = own.derived || derived(&plan.source, &plan.source.columns[source]);
            if plan.key.contains(&n) || beside.contains(&Some(column.target)) || is_derived {
                continue;
            }
            let zone_rule = match own.time_text {
                TimeText::None => None,
                TimeText::Utc => Some(ZoneRule::Utc),
                TimeText::Local => Some(self.zone_rule),
            };
            content.push(ContentColumn { column: n, json: own.json, zone_rule });
        }
        content
    }
}
