//! Which rows were not loaded, so that rows which refer to them are not loaded either.

use super::archive_row::ArchiveRow;
use crate::error::Result;
use crate::plan::{Plan, TablePlan};
use crate::spill::Spill;
use chronicle_archive::Batch;

/// The rows that were not loaded and that others may refer to, by the columns that references use.
pub(super) struct UnloadedRows {
    /// One space per referenced set of columns.
    spill: Spill,
    /// Whether there is any: where all rows were loaded, nothing is looked up.
    any: bool,
    /// Of every stream, how others refer to its rows.
    referenced: Vec<Vec<Columns>>,
    /// Of every stream, how its rows refer to others.
    referring: Vec<Vec<Referring>>,
    name: Vec<u8>,
}

/// Columns of the archive that hold the values of a referenced set.
struct Columns {
    space: u32,
    columns: Vec<usize>,
}

struct Referring {
    to: Columns,
    /// The stream referred to.
    of: String,
    /// The first referring column, among those that are written.
    first: usize,
}

/// A reference to a row that was not loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MissingParent {
    /// The referring column, among those that are written.
    pub(super) column: usize,
    /// The stream of the row that is not loaded.
    pub(super) of: String,
}

impl UnloadedRows {
    /// No rows.
    ///
    /// # Errors
    /// As all here: if the temporary file cannot be used.
    pub(super) fn new(plan: &Plan) -> Result<UnloadedRows> {
        let mut sets: Vec<(usize, &[usize])> = Vec::new();
        for reference in plan.tables().flat_map(|(_, table)| &table.references) {
            let set = (reference.table, reference.parent_columns.as_slice());
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        let none = || (Vec::new(), Vec::new());
        let of = |table: &TablePlan| (referenced(table, &sets), referring(table, &sets));
        let (referenced, referring) =
            plan.streams.iter().map(|s| s.table().map_or_else(none, of)).unzip();
        Ok(UnloadedRows {
            spill: Spill::new()?,
            any: false,
            referenced,
            referring,
            name: Vec::new(),
        })
    }

    /// Notes that a row is not loaded.
    pub(super) fn note(&mut self, row: ArchiveRow<'_>) -> Result<()> {
        for set in &self.referenced[row.stream()] {
            if row.write_name(&set.columns, &mut self.name) {
                self.any = true;
                self.spill.put(set.space, &self.name, &[])?;
            }
        }
        Ok(())
    }

    /// Notes that a row is loaded: another one with its key may have been noted.
    pub(super) fn forget(&mut self, row: ArchiveRow<'_>) -> Result<()> {
        for set in self.referenced[row.stream()].iter().filter(|_| self.any) {
            if row.write_name(&set.columns, &mut self.name) {
                self.spill.remove(set.space, &self.name)?;
            }
        }
        Ok(())
    }

    /// The references of a row to rows that were not loaded, one of each column.
    pub(super) fn missing_parents(&mut self, row: ArchiveRow<'_>) -> Result<Vec<MissingParent>> {
        let mut missing: Vec<MissingParent> = Vec::new();
        for Referring { to, of, first } in self.referring[row.stream()].iter().filter(|_| self.any)
        {
            let known = missing.iter().any(|m| m.column == *first);
            let found = !known
                && row.write_name(&to.columns, &mut self.name)
                && self.spill.get(to.space, &self.name)?.is_some();
            if found {
                missing.push(MissingParent { column: *first, of: of.clone() });
            }
        }
        Ok(missing)
    }
}

fn space(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// How others may refer to rows of a table, as far as the archive has the columns.
fn referenced(table: &TablePlan, sets: &[(usize, &[usize])]) -> Vec<Columns> {
    let source =
        |target: &usize| table.columns.iter().find(|c| c.target == *target)?.archive_column();
    let columns = |(n, (of, targets)): (usize, &(usize, &[usize]))| {
        let columns: Option<Vec<usize>> = targets.iter().map(source).collect();
        Some(Columns { space: space(n), columns: columns.filter(|_| *of == table.table)? })
    };
    sets.iter().enumerate().filter_map(columns).collect()
}

/// How rows of a table refer to others, as far as the archive has the columns.
fn referring(table: &TablePlan, sets: &[(usize, &[usize])]) -> Vec<Referring> {
    let planned = |reference: &crate::plan::ReferencePlan| {
        let set = (reference.table, reference.parent_columns.as_slice());
        let position = sets.iter().position(|s| *s == set)?;
        let columns: Option<Vec<usize>> =
            reference.columns.iter().map(|n| table.columns[*n].archive_column()).collect();
        let to = Columns { space: space(position), columns: columns? };
        Some(Referring { to, of: reference.of.clone(), first: *reference.columns.first()? })
    };
    table.references.iter().filter_map(planned).collect()
}

/// The rows of a batch that are not loaded, as [`UnloadedRows`] takes them.
pub(super) fn rows_of<'a>(
    table: &'a TablePlan,
    batch: &'a Batch,
    rows: &'a [usize],
) -> impl Iterator<Item = ArchiveRow<'a>> {
    rows.iter().map(move |row| ArchiveRow { source: &table.source, batch, row: *row })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{accounts_and_notes, numbered_streams, planned};
    use crate::policy::PlanOptions;
    use chronicle_archive::Value;

    /// A batch of one row.
    fn row(stream: usize, values: &[Value<'_>]) -> Batch {
        let mut batch = Batch::default();
        batch.start(stream, values.len(), 1);
        values.iter().for_each(|value| batch.push(*value));
        batch
    }

    #[test]
    fn a_row_whose_parent_is_not_loaded_names_it() {
        let streams = numbered_streams();
        let plan = planned(&streams, &accounts_and_notes(), PlanOptions::default());
        let mut unloaded = UnloadedRows::new(&plan).unwrap();
        let at = |batch: &Batch, rows: &mut UnloadedRows| {
            let row = ArchiveRow { source: &streams[batch.stream()], batch, row: 0 };
            rows.missing_parents(row).unwrap().pop()
        };
        let note = row(2, &[Value::Int(1), Value::Int(7), Value::Null, Value::Int(3)]);
        assert_eq!(at(&note, &mut unloaded), None);
        let member = row(1, &[Value::Int(7), Value::Int(3), Value::Null]);
        unloaded.note(ArchiveRow { source: &streams[1], batch: &member, row: 0 }).unwrap();
        let missing = at(&note, &mut unloaded).unwrap();
        assert_eq!(missing.of, "members");
        assert_eq!(missing.column, 1);
        let other = row(2, &[Value::Int(1), Value::Int(7), Value::Null, Value::Int(4)]);
        assert_eq!(at(&other, &mut unloaded), None, "another member of this account");
        unloaded.forget(ArchiveRow { source: &streams[1], batch: &member, row: 0 }).unwrap();
        assert_eq!(at(&note, &mut unloaded), None);
        let account = row(0, &[Value::Int(7), Value::Null]);
        unloaded.note(ArchiveRow { source: &streams[0], batch: &account, row: 0 }).unwrap();
        let missing = at(&note, &mut unloaded).unwrap();
        assert_eq!(missing.of, "accounts");
    }
}
