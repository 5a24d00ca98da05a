//! Rows of an archive to rows of a target: every value in the target's type, every id mapped, and
//! everything that was changed, stored elsewhere or refused counted by column and reason.

mod archive_row;
mod changes;
mod clock_skew;
pub mod convert;
mod duplicates;
mod existing_keys;
pub mod key_map;
mod keys;
mod likely_time;
mod nearest;
mod originals;
mod refusals;
mod row;
mod settle;
mod unloaded;
pub mod vocabulary;
pub mod worker;

use std::sync::Arc;

use self::archive_row::ArchiveRow;
use self::changes::{ChangeLog, Subject};
use self::duplicates::{Duplicate, DuplicateRows};
use self::originals::{Originals, whole_row};
use self::refusals::{Refusals, Remedy, no_table};
use self::unloaded::{UnloadedRows, rows_of};
use crate::error::{Code, Error, Result};
use crate::identity::key_text;
use crate::load::rejects::RejectReason;
use crate::load::{OnProblem, Problem};
use crate::plan::{Plan, StreamPlan, TablePlan, Unmapped, UnmappedPlan};
use crate::policy::OnUnrepresentable;
use crate::sidecar::SidecarEntry;
use chronicle_archive::Batch;
use chronicle_archive::json::Scanner;

pub use changes::{Change, ChangeKind};
pub use clock_skew::{ClockSkew, ZoneEvidence};
pub use existing_keys::load_existing_keys;
pub use keys::KeyMapper;
pub use settle::{Settler, Verdicts};

/// The bytes of converted rows that are enough for a load batch: little memory, and few statements.
const BATCH_BYTES: usize = 1 << 20;
/// Why a row without a table has no place.
const NO_TABLE: &str = "the target has no table for it";

/// Rows in the form of the target.
#[derive(Debug, Default)]
pub struct TargetRows {
    /// The rows.
    pub rows: Batch,
    /// The row of the archive's batch that each comes from.
    pub from: Vec<usize>,
    /// What the target cannot hold of them, by their numbers.
    pub sidecar: Vec<SidecarEntry>,
    /// Why rows are left out.
    pub rejected: Vec<RejectReason>,
    /// Rows that no table takes and that are stored whole, by their numbers in the archive's batch.
    pub whole_rows: Vec<SidecarEntry>,
    /// Rows that are stored whole although they are loaded, by their numbers among the loaded ones.
    pub also_whole: Vec<SidecarEntry>,
    /// How many duplicates were left out because they add nothing.
    pub redundant_rows: u64,
}

impl TargetRows {
    /// Empties them for rows of a batch, with this many columns.
    fn start(&mut self, batch: &Batch, width: usize) {
        self.rows.start(batch.stream(), width, batch.first_row());
        self.from.clear();
        self.sidecar.clear();
        self.rejected.clear();
        self.whole_rows.clear();
        self.also_whole.clear();
        self.redundant_rows = 0;
    }

    /// Takes rows of this width out, given by their numbers in order, with what is stored beside them.
    pub fn remove(&mut self, rows: &[usize], width: usize) {
        if rows.is_empty() {
            return;
        }
        let is_out = |row: usize| rows.binary_search(&row).is_ok();
        let mut left = Batch::default();
        left.start(self.rows.stream(), width, self.rows.first_row());
        for row in (0..self.rows.rows()).filter(|row| !is_out(*row)) {
            (0..width).for_each(|column| left.push(self.rows.value(row, column)));
        }
        self.rows = left;
        let mut number = 0..;
        self.from.retain(|_| !number.next().is_some_and(is_out));
        for entries in [&mut self.sidecar, &mut self.also_whole] {
            entries.retain(|entry| !is_out(entry.row));
            for entry in entries {
                entry.row -= rows.partition_point(|out| *out < entry.row);
            }
        }
    }
}

/// Makes rows of a target out of rows of an archive.
pub struct Transformer {
    plan: Arc<Plan>,
    keys: KeyMapper,
    duplicates: DuplicateRows,
    unloaded: UnloadedRows,
    originals: Originals,
    changes: ChangeLog,
    refusals: Refusals,
    clock: ClockSkew,
    scanner: Scanner,
    scratch: Vec<u8>,
    /// The text of the id that the current row has in the target, once it is known.
    own_id: Vec<u8>,
    has_own_id: bool,
}

impl Transformer {
    /// A transformer for a plan; `on_problem` says whether the first problem is an error or all are
    /// collected.
    ///
    /// # Errors
    /// If there is no temporary file for what grows with the rows.
    pub fn new(plan: Arc<Plan>, on_problem: OnProblem) -> Result<Transformer> {
        let preserves = plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        Ok(Transformer {
            keys: KeyMapper::new(Arc::clone(&plan))?,
            duplicates: DuplicateRows::new(&plan)?,
            unloaded: UnloadedRows::new(&plan)?,
            originals: Originals::new(preserves),
            changes: ChangeLog::default(),
            refusals: Refusals::new(on_problem),
            clock: ClockSkew::default(),
            scanner: Scanner::default(),
            scratch: Vec::new(),
            own_id: Vec::new(),
            has_own_id: false,
            plan,
        })
    }

    /// The mapping of ids, to register those that a target has.
    pub fn keys(&mut self) -> &mut KeyMapper {
        &mut self.keys
    }

    /// Makes the rows of the target for those of a batch from row number `from` on, until they are
    /// enough for a load batch; returns the number of the row that comes next.
    ///
    /// # Errors
    /// The first value that the target cannot hold, with table, key, column and reason, unless the
    /// user says that rows are left out for it, or problems are collected.
    pub fn transform(&mut self, batch: &Batch, from: usize, out: &mut TargetRows) -> Result<usize> {
        let plan = Arc::clone(&self.plan);
        let Some(stream) = plan.streams.get(batch.stream()) else {
            return Err(Error::new(Code::Internal, "rows of a stream without a plan"));
        };
        match stream {
            StreamPlan::Unmapped(unmapped)
                if unmapped.policy == Unmapped::Fail && !self.refusals.collects() =>
            {
                return Err(no_table(&unmapped.stream));
            }
            _ => out.start(batch, stream.table().map_or(0, |table| table.columns.len())),
        }
        let mut sidecar_bytes = 0;
        for row in from..batch.rows() {
            if out.rows.size() + sidecar_bytes >= BATCH_BYTES {
                return Ok(row);
            }
            let stored = (out.sidecar.len(), out.whole_rows.len());
            let row = ArchiveRow { source: stream.source(), batch, row };
            match stream {
                StreamPlan::Table(table) => self.table_row(table, row, out)?,
                StreamPlan::Unmapped(unmapped) => self.unmapped_row(unmapped, row, out)?,
            }
            let sidecar = out.sidecar[stored.0..].iter().chain(&out.whole_rows[stored.1..]);
            sidecar_bytes += sidecar.map(|entry| entry.text.len()).sum::<usize>();
        }
        Ok(batch.rows())
    }

    fn clear_row(&mut self) {
        self.changes.clear_row();
        self.originals.clear_row();
        self.refusals.clear_row();
    }

    /// A row that goes into a table, unless it is a duplicate or is refused.
    fn table_row(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        out: &mut TargetRows,
    ) -> Result<()> {
        self.clear_row();
        if let Some(duplicate) = self.duplicates.find(row)? {
            return self.duplicate(plan, row, duplicate, out);
        }
        let number = out.rows.rows();
        let also_whole = out.also_whole.len();
        self.convert_row(plan, row, &mut out.rows)?;
        if !self.refusals.any() {
            self.finish_row(plan, row, number, out);
        }
        if self.refusals.any() {
            out.rows.truncate(number);
            out.also_whole.truncate(also_whole);
            return self.refuse(row, out);
        }
        out.from.push(row.row);
        self.changes.count_row(row.stream(), || row.key());
        self.duplicates.note_loaded(row)?;
        if self.duplicates.is_of_later_stream(row) {
            // the first copy may not have been loaded: what refers to it finds this one
            self.unloaded.forget(row)?;
        }
        Ok(())
    }

    /// A row of a stream without a table.
    fn unmapped_row(
        &mut self,
        plan: &UnmappedPlan,
        row: ArchiveRow<'_>,
        out: &mut TargetRows,
    ) -> Result<()> {
        self.clear_row();
        self.without_table(plan, row, NO_TABLE, out)?;
        if self.refusals.any() {
            return self.refuse(row, out);
        }
        self.changes.count_row(row.stream(), || row.key());
        Ok(())
    }

    /// The plan of a row that no table takes.
    fn without_table(
        &mut self,
        plan: &UnmappedPlan,
        row: ArchiveRow<'_>,
        reason: impl Into<std::borrow::Cow<'static, str>>,
        out: &mut TargetRows,
    ) -> Result<()> {
        match plan.policy {
            Unmapped::Fail => {
                let remedy = Some(Remedy::MissingTable);
                self.refusals.note_reason(Subject::Row, reason.into(), remedy);
            }
            Unmapped::Drop => self.changes.note(Subject::Row, ChangeKind::Dropped, reason),
            Unmapped::Sidecar => {
                self.changes.note(Subject::Row, ChangeKind::Stored, reason);
                let key = match row.lacks_key() {
                    true => self.keys.nameless(row)?.to_string(),
                    false => stored_key(row),
                };
                let text = whole_row(row.source, row.values());
                out.whole_rows.push(SidecarEntry { row: row.row, key, text });
            }
        }
        Ok(())
    }

    /// A row whose key another stream has brought into the same table.
    fn duplicate(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        duplicate: Duplicate,
        out: &mut TargetRows,
    ) -> Result<()> {
        let (Some(unmapped), Some(first)) = (&plan.duplicates, plan.shares_with) else {
            return Ok(());
        };
        let first = self.plan.streams[first].name();
        let why = format!("{first} has a row with this id, and the target has one table for both");
        match duplicate {
            Duplicate::Redundant => out.redundant_rows += 1,
            Duplicate::Differs(column) => {
                let column = &plan.source.columns[column].name;
                self.refusals.duplicate(&plan.table_name, row, column, &why)?;
            }
            Duplicate::Unmapped => self.without_table(unmapped, row, why, out)?,
        }
        self.changes.count_row(row.stream(), || row.key());
        Ok(())
    }

    /// Stores a row whole, too, that only the later of two streams of one table brings: so it goes
    /// back into a table of its own, where there is one.
    fn also_store_whole(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        number: usize,
        out: &mut TargetRows,
    ) {
        let stores = plan.duplicates.as_ref().is_some_and(|d| d.policy == Unmapped::Sidecar);
        if !stores || !self.duplicates.is_of_later_stream(row) {
            return;
        }
        let text = whole_row(row.source, row.values());
        out.also_whole.push(SidecarEntry { row: number, key: stored_key(row), text });
        self.originals.also_whole(plan, &out.rows, number);
    }

    /// Leaves out the current row, or stops.
    fn refuse(&mut self, row: ArchiveRow<'_>, out: &mut TargetRows) -> Result<()> {
        let lacks_zone = self.refusals.lacks_zone();
        self.refusals.settle(&self.plan, row, &mut out.rejected).map_err(|e| match lacks_zone {
            true => e.hint(self.zone_hint(row)),
            false => e,
        })?;
        self.not_loaded(row)
    }

    /// What to type where a time zone is missing: the rows of the batch are looked at, too.
    fn zone_hint(&mut self, row: ArchiveRow<'_>) -> String {
        let plan = Arc::clone(&self.plan);
        if let Some(table) = plan.streams[row.stream()].table() {
            for next in row.row + 1..row.batch.rows() {
                self.clock.look(table, ArchiveRow { row: next, ..row });
            }
        }
        self.clock.hint(plan.zone_hint.as_deref())
    }

    fn not_loaded(&mut self, row: ArchiveRow<'_>) -> Result<()> {
        self.duplicates.forget(row)?;
        self.unloaded.note(row)
    }

    /// Notes that rows are not loaded, so that what refers to them is not either.
    ///
    /// # Errors
    /// If the temporary file cannot be used.
    pub fn unload(&mut self, batch: &Batch, rows: &[usize]) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let table = plan.streams.get(batch.stream()).and_then(StreamPlan::table);
        let Some(table) = table else { return Ok(()) };
        rows_of(table, batch, rows).try_for_each(|row| self.not_loaded(row))
    }

    /// What was changed so far.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.all(&self.plan)
    }

    /// What a check has found so far.
    pub fn problems(&self) -> Vec<Problem> {
        let zone = self.clock.evidence(self.plan.zone_hint.as_deref()).map(|e| e.zone);
        self.refusals.problems(&self.plan, zone.as_deref())
    }

    /// What the times of rows say about the clock that wrote them.
    pub fn clock(&self) -> &ClockSkew {
        &self.clock
    }
}

/// The key of a row as the sidecar table has it: a text that every database can hold.
fn stored_key(row: ArchiveRow<'_>) -> String {
    let key = key_text(row.source.key.iter().map(|k| row.value(*k)));
    // no text of Postgres holds a NUL
    match key.starts_with('\u{1}') || key.contains('\0') {
        true => format!("\u{1}{}", chronicle_archive::hex(key.as_bytes())),
        false => key,
    }
}
