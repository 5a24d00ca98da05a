//! What happens to columns and rows of an archive that the target has no place for.

use super::TablePlan;
use super::fit::same_name;
use super::join::Joiner;
use crate::catalog::CatalogTable;
use crate::layout::{ORIGINS, all, known_streams};
use crate::policy::OnMissingColumn;
use chronicle_archive::{Column, Stream};

/// What happens to a column of the archive that the target lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is left out: it can be recomputed.
    Derived,
    /// The first value in it stops the import; where there is none, nothing is lost.
    Refused,
    /// Its values are lost, and counted.
    Dropped,
    /// Its values are stored under the reserved key of the JSON column, or in the sidecar.
    Folded,
    /// Its values are stored in the sidecar, and counted.
    Preserved,
    /// Its values are ids that rows had before: they are always stored in the sidecar.
    Sidecar,
}

/// A column of the archive that the target lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnplacedColumn {
    /// Its position in the archive's records.
    pub source: usize,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub fate: Fate,
}

/// What happens to rows that the target has no table for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped {
    /// The first one stops the import; a stream without rows needs no table.
    Fail,
    /// They are lost, and counted.
    Drop,
    /// They are stored whole in the sidecar table, and an export of the target restores them.
    Sidecar,
}

impl Unmapped {
    /// What the user's choice for missing columns means for whole rows.
    pub(super) fn of(policy: OnMissingColumn) -> Unmapped {
        match policy {
            OnMissingColumn::Fail => Unmapped::Fail,
            OnMissingColumn::Drop => Unmapped::Drop,
            OnMissingColumn::Preserve | OnMissingColumn::Fold | OnMissingColumn::Add => {
                Unmapped::Sidecar
            }
        }
    }
}

/// Whether any layout says that a column can be recomputed.
pub fn derived(stream: &Stream, column: &Column) -> bool {
    known_streams().any(|s| s.name == stream.name && s.is_derived(&column.name))
}

/// Whether a column keeps ids that rows had in a database before.
pub(super) fn keeps_origin(name: &str) -> bool {
    ORIGINS.contains(&name) || known_streams().any(|s| s.origin.as_deref() == Some(name))
}

/// The columns that keep ids in layouts, other than those of the tutorial.
pub(super) fn origins_of_layouts() -> impl Iterator<Item = &'static str> {
    let names = known_streams().filter_map(|s| s.origin.as_deref());
    names.filter(|name| !ORIGINS.contains(name))
}

impl Joiner<'_> {
    /// Decides about a column that the target lacks.
    pub(super) fn unplaced(&self, plan: &mut TablePlan, table: &CatalogTable, source: usize) {
        if plan.former_id == Some(source) {
            // it is used up: the row gets back the id that it had
            return;
        }
        let column = plan.source.columns[source].clone();
        let fate = match self.options.on_missing_column {
            _ if keeps_origin(&column.name) => Fate::Sidecar,
            OnMissingColumn::Preserve => Fate::Preserved,
            OnMissingColumn::Fold => Fate::Folded,
            OnMissingColumn::Drop => Fate::Dropped,
            OnMissingColumn::Add if self.forbids(table, &column) => Fate::Preserved,
            OnMissingColumn::Add => return self.add_column(plan, table, source, &column),
            OnMissingColumn::Fail if derived(&plan.source, &column) => Fate::Derived,
            OnMissingColumn::Fail => Fate::Refused,
        };
        plan.unplaced.push(UnplacedColumn { source, name: column.name, fate });
    }

    /// Whether a table cannot get this column: it has one of that name that means something else, or
    /// it would be of another layout, or of none.
    fn forbids(&self, table: &CatalogTable, column: &Column) -> bool {
        let names = table.columns.iter().map(|c| &c.physical).chain(&table.computed);
        if names.into_iter().any(|name| same_name(name, &column.name)) {
            return true;
        }
        let layouts = all(self.catalog.backend).unwrap_or_default();
        (layouts.iter().filter(|l| l.title == self.catalog.layout))
            .flat_map(|l| &l.streams)
            .filter(|s| s.table == table.name)
            .any(|s| s.forbids.iter().any(|name| same_name(name, &column.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::catalog::{Catalog, ColumnType};
    use crate::policy::PlanOptions;
    use chronicle_archive::Kind;

    fn target() -> Catalog {
        let columns = vec![required("id", ColumnType::Uuid), to("metadata", ColumnType::Jsonb)];
        catalog(vec![table("sessions", "sessions", columns)])
    }

    fn options(on_missing_column: OnMissingColumn) -> PlanOptions {
        PlanOptions { on_missing_column, ..PlanOptions::strict() }
    }

    #[test]
    fn a_column_that_the_target_lacks_goes_where_the_user_says() {
        let columns = [("id", Kind::Text), ("note", Kind::Text), ("updated_at", Kind::Text)];
        let streams = [stream("sessions", &columns)];
        let fates = |policy| {
            let plan = planned(&streams, &target(), options(policy));
            let table = plan.streams[0].table().unwrap();
            let fates: Vec<Fate> = table.unplaced.iter().map(|m| m.fate).collect();
            (fates, table.added.len(), table.original_columns.len(), plan.keeps_columns())
        };
        assert_eq!(
            fates(OnMissingColumn::Fail),
            (vec![Fate::Refused, Fate::Derived], 0, 1, false),
            "ids that become UUIDs are stored in any case"
        );
        assert_eq!(fates(OnMissingColumn::Drop), (vec![Fate::Dropped; 2], 0, 1, false));
        assert_eq!(fates(OnMissingColumn::Fold), (vec![Fate::Folded; 2], 0, 3, true));
        assert_eq!(fates(OnMissingColumn::Preserve), (vec![Fate::Preserved; 2], 0, 3, true));
        assert_eq!(fates(OnMissingColumn::Add), (vec![], 2, 1, false));
    }

    #[test]
    fn a_stream_without_a_table_goes_where_the_user_says() {
        let side = stream("tool_events", &[("id", Kind::Text), ("tool_name", Kind::Text)]);
        let policy = |policy| {
            let plan = planned(std::slice::from_ref(&side), &target(), options(policy));
            let unmapped = plan.streams[0].unmapped().unwrap();
            (unmapped.policy, unmapped.original_columns().count(), plan.keeps_columns())
        };
        assert_eq!(policy(OnMissingColumn::Fail), (Unmapped::Fail, 0, false));
        assert_eq!(policy(OnMissingColumn::Drop), (Unmapped::Drop, 0, false));
        assert_eq!(policy(OnMissingColumn::Fold), (Unmapped::Sidecar, 2, true));
    }
}
