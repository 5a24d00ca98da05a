//! Rows with a key that another stream has brought into the same table before: left out where they
//! add nothing, else lost, stored whole in the sidecar, or refused.

use std::collections::BTreeMap;

use super::archive_row::ArchiveRow;
use crate::error::Result;
use crate::identity::show_id;
use crate::layout::known_stream;
use crate::plan::{Plan, TablePlan, Unmapped, derived};
use crate::sidecar::Fingerprint;
use crate::spill::Spill;
use chronicle_archive::{Kind, Stream, Value};

/// How long a fingerprint is.
const FINGERPRINT: usize = 16;

/// What a row is that another stream has brought before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicate {
    /// It adds nothing.
    Redundant,
    /// It adds a value to the first row in this column of the archive, and that is refused.
    Differs(usize),
    /// The plan says what happens to it.
    Unmapped,
}

/// How the rows of a stream meet those of another one in the same table.
enum Sharing {
    /// They do not.
    None,
    /// They come first; with whether later ones are compared with them.
    First { compared: bool },
    /// They come later: what is compared where duplicates are refused.
    Later(Option<Vec<ComparedColumn>>),
}

/// A column of a duplicate in which the first row may differ.
struct ComparedColumn {
    column: usize,
    /// The column of the first stream.
    first: Option<usize>,
    /// The column of the same row whose text says the same.
    default_from: Option<usize>,
}

/// The rows of tables that several streams go into.
pub(super) struct DuplicateRows {
    /// By table and key, the fingerprints of the values of the rows that came first.
    spill: Spill,
    streams: Vec<Sharing>,
    /// Of every stream, its table and the columns of the archive that hold the table's key.
    keys: Vec<Option<(u32, Vec<usize>)>>,
    fingerprint: Fingerprint,
    name: Vec<u8>,
}

impl DuplicateRows {
    /// No rows.
    ///
    /// # Errors
    /// As all here: if the temporary file cannot be used.
    pub(super) fn new(plan: &Plan) -> Result<DuplicateRows> {
        let key = |table: &TablePlan| {
            let columns: Option<Vec<usize>> =
                table.key.iter().map(|n| table.columns[*n].archive_column()).collect();
            Some((u32::try_from(table.table).ok()?, columns.filter(|c| !c.is_empty())?))
        };
        // the first of the streams that come later into the table of each
        let mut later = BTreeMap::new();
        for (_, table) in plan.tables() {
            if let Some(first) = table.shares_with {
                later.entry(first).or_insert(table);
            }
        }
        Ok(DuplicateRows {
            spill: Spill::new()?,
            streams: (0..plan.streams.len()).map(|n| sharing(plan, n, &later)).collect(),
            keys: plan.streams.iter().map(|s| s.table().and_then(key)).collect(),
            fingerprint: Fingerprint::default(),
            name: Vec::new(),
        })
    }

    /// What a row is, if another stream has brought its key into the same table.
    pub(super) fn find(&mut self, row: ArchiveRow<'_>) -> Result<Option<Duplicate>> {
        let Sharing::Later(compared) = &self.streams[row.stream()] else { return Ok(None) };
        let Some((table, columns)) = &self.keys[row.stream()] else { return Ok(None) };
        if !row.write_name(columns, &mut self.name) {
            return Ok(None);
        }
        let Some(first) = self.spill.get(*table, &self.name)? else { return Ok(None) };
        let Some(compared) = compared else { return Ok(Some(Duplicate::Unmapped)) };
        let more = compared.iter().find(|c| c.adds_value(row, &first, &mut self.fingerprint));
        Ok(Some(more.map_or(Duplicate::Redundant, |more| Duplicate::Differs(more.column))))
    }

    /// Whether a row is of a later stream of its table and has a key.
    pub(super) fn is_of_later_stream(&self, row: ArchiveRow<'_>) -> bool {
        let later = matches!(self.streams[row.stream()], Sharing::Later(_));
        let key = self.keys[row.stream()].as_ref().filter(|_| later);
        key.is_some_and(|(_, columns)| columns.iter().all(|n| row.value(*n) != Value::Null))
    }

    /// Notes a row that is loaded, if a later stream may bring its key again.
    pub(super) fn note_loaded(&mut self, row: ArchiveRow<'_>) -> Result<()> {
        let Sharing::First { compared } = self.streams[row.stream()] else { return Ok(()) };
        let Some((table, columns)) = &self.keys[row.stream()] else { return Ok(()) };
        if !row.write_name(columns, &mut self.name) {
            return Ok(());
        }
        let mut values = String::new();
        for value in row.values().filter(|_| compared) {
            values.push_str(&self.fingerprint.of(Kind::Text, value));
        }
        self.spill.put(*table, &self.name, values.as_bytes()).map(|_| ())
    }

    /// Notes that a row is not loaded after all.
    pub(super) fn forget(&mut self, row: ArchiveRow<'_>) -> Result<()> {
        let Sharing::First { .. } = self.streams[row.stream()] else { return Ok(()) };
        let Some((table, columns)) = &self.keys[row.stream()] else { return Ok(()) };
        if row.write_name(columns, &mut self.name) {
            self.spill.remove(*table, &self.name)?;
        }
        Ok(())
    }
}

impl ComparedColumn {
    /// Whether a duplicate has a value in this column that the first row, of which the fingerprints
    /// are, does not.
    fn adds_value(&self, row: ArchiveRow<'_>, first: &[u8], fingerprint: &mut Fingerprint) -> bool {
        let value = row.value(self.column);
        let filler = |from: usize| show_id(row.value(from)) == show_id(value);
        if matches!(value, Value::Null | Value::Text(b"" | b"{}"))
            || self.default_from.is_some_and(filler)
        {
            return false;
        }
        let stored = self.first.and_then(|n| first.get(n * FINGERPRINT..(n + 1) * FINGERPRINT));
        stored != Some(fingerprint.of(Kind::Text, value).as_bytes())
    }
}

fn sharing(plan: &Plan, stream: usize, later: &BTreeMap<usize, &TablePlan>) -> Sharing {
    let Some(table) = plan.streams[stream].table() else { return Sharing::None };
    if let (Some(duplicates), Some(first)) = (&table.duplicates, table.shares_with) {
        let refused = duplicates.policy == Unmapped::Fail;
        let first = plan.streams[first].source();
        return Sharing::Later(refused.then(|| compared(&table.source, first)));
    }
    match later.get(&stream).and_then(|other| other.duplicates.as_ref()) {
        Some(duplicates) => Sharing::First { compared: duplicates.policy == Unmapped::Fail },
        None => Sharing::None,
    }
}

/// The columns in which duplicates can hold what the first rows do not.
fn compared(later: &Stream, first: &Stream) -> Vec<ComparedColumn> {
    let known = known_stream(&later.name);
    let default_from = |name: &str| {
        let described = known?.columns.iter().find(|c| c.name == name)?;
        later.column(described.default_from.as_deref()?)
    };
    (later.columns.iter().enumerate())
        .filter(|(_, column)| !derived(later, column))
        .map(|(column, named)| ComparedColumn {
            column,
            first: first.column(&named.name),
            default_from: default_from(&named.name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, ColumnType};
    use crate::plan::testing::{catalog, planned, required, stream, table, to};
    use crate::policy::{OnMissingColumn, PlanOptions};
    use chronicle_archive::Batch;

    /// Two streams of one role, whose key has two columns in the one table that takes both.
    fn streams() -> [Stream; 2] {
        let columns = [("id", Kind::Text), ("place", Kind::Text), ("note", Kind::Text)];
        ["sessions", "server_sessions"]
            .map(|name| Stream { key: vec![0, 1], ..stream(name, &columns) })
    }

    fn target() -> Catalog {
        let text = || ColumnType::Text(None);
        let columns = vec![required("id", text()), required("place", text()), to("note", text())];
        let mut table = table("sessions", "sessions", columns);
        table.key = vec![0, 1];
        catalog(vec![table])
    }

    fn rows(stream: usize, values: &[[&str; 3]]) -> Batch {
        let mut batch = Batch::default();
        batch.start(stream, 3, 1);
        values.iter().flatten().for_each(|text| batch.push(Value::Text(text.as_bytes())));
        batch
    }

    fn found(policy: OnMissingColumn, later: [&str; 3]) -> Option<Duplicate> {
        let options = PlanOptions { on_missing_column: policy, ..PlanOptions::default() };
        let (streams, first) = (streams(), rows(0, &[["a", "b", "one"], ["a", "c", "two"]]));
        let plan = planned(&streams, &target(), options);
        let mut duplicates = DuplicateRows::new(&plan).unwrap();
        for row in 0..first.rows() {
            let row = ArchiveRow { source: &streams[0], batch: &first, row };
            assert_eq!(duplicates.find(row).unwrap(), None, "it comes first");
            duplicates.note_loaded(row).unwrap();
        }
        let taken_back = ArchiveRow { source: &streams[0], batch: &first, row: 1 };
        duplicates.forget(taken_back).unwrap();
        let later = rows(1, &[later]);
        duplicates.find(ArchiveRow { source: &streams[1], batch: &later, row: 0 }).unwrap()
    }

    #[test]
    fn a_duplicate_is_recognised_by_its_whole_key() {
        let fail = OnMissingColumn::Fail;
        assert_eq!(found(fail, ["a", "x", "one"]), None);
        assert_eq!(found(fail, ["ab", "", "one"]), None);
        assert_eq!(found(fail, ["a", "c", "two"]), None, "the first one was not loaded");
        assert_eq!(found(fail, ["a", "b", "one"]), Some(Duplicate::Redundant));
    }

    #[test]
    fn a_duplicate_that_adds_a_value_is_reported_with_its_column() {
        assert_eq!(found(OnMissingColumn::Fail, ["a", "b", "other"]), Some(Duplicate::Differs(2)));
        assert_eq!(found(OnMissingColumn::Fail, ["a", "b", ""]), Some(Duplicate::Redundant));
        assert_eq!(found(OnMissingColumn::Drop, ["a", "b", "other"]), Some(Duplicate::Unmapped));
    }
}
