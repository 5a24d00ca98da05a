//! What becomes of values that only the target's database can read: loaded in its own spelling, the nearest one in their
//! place, or their row left out.

use std::sync::Arc;

use super::TargetRows;
use super::archive_row::ArchiveRow;
use super::changes::{Change, ChangeKind, ChangeLog, Subject};
use super::convert::Refusal;
use super::nearest::{Nearest, for_server};
use super::originals::kind_of;
use super::refusals::{Refusals, Remedy};
use crate::catalog::ColumnType;
use crate::error::Result;
use crate::identity::key_text;
use crate::load::{Cause, OnProblem, Problem, Rejected, Verdict};
use crate::plan::{ColumnPlan, Plan, TablePlan};
use crate::sidecar::{Fingerprint, SidecarEntry, SidecarValues, comes_back};
use chronicle_archive::time::Instant;
use chronicle_archive::{Batch, Value, show};

/// Why a value becomes a smaller one.
const LESS: &str = "the column's type would round or shorten it";
/// Why a value is not loaded.
const REFUSED: &str = "not a value of the column's type";
/// Why nothing can be stored beside a row.
pub(super) const NO_ID: &str = "the row has no id, so its original cannot be stored";

/// The bytes of a text that fit into any index, beside those of other columns.
const INDEXED: usize = 1_500;

/// What the database has said of one value, and of what may stand for it.
struct Judged {
    row: usize,
    column: usize,
    verdict: Verdict,
    instead: Vec<(Nearest, Option<Verdict>)>,
}

/// What the database has said of the values of one load batch, but for those that it holds as they are.
pub struct Verdicts(Vec<Judged>);

impl Verdicts {
    /// The verdicts on values, each with its row and column, in the order of rows.
    pub fn new(
        plan: &TablePlan,
        rows: &Batch,
        cells: &[(usize, usize)],
        said: Vec<Option<Verdict>>,
    ) -> Verdicts {
        let judged = |((row, column), verdict): (&(usize, usize), Option<Verdict>)| {
            let verdict = verdict?;
            let found = match verdict {
                Verdict::Refused(_) => {
                    for_server(&plan.columns[*column], rows.value(*row, *column))
                }
                Verdict::Same(_) | Verdict::Less(_) => Vec::new(),
            };
            let instead = found.into_iter().map(|value| (value, None)).collect();
            Some(Judged { row: *row, column: *column, verdict, instead })
        };
        Verdicts(cells.iter().zip(said).filter_map(judged).collect())
    }

    /// What may stand for the values that are refused, each with its column, to be judged in its turn.
    pub fn instead(&self) -> Vec<(usize, Value<'_>)> {
        let all = self.0.iter().flat_map(|j| j.instead.iter().map(|(value, _)| (j.column, value)));
        all.map(|(column, value)| (column, value.borrow())).collect()
    }

    /// What the database says of these, in the same order.
    pub fn judge_instead(&mut self, said: Vec<Option<Verdict>>) {
        let all = self.0.iter_mut().flat_map(|judged| &mut judged.instead);
        all.zip(said).for_each(|((_, judged), verdict)| *judged = verdict);
    }
}

/// A value that is loaded in the place of another one.
struct Replacement {
    column: usize,
    value: Nearest,
    /// Whether it is the same value in another spelling.
    same: bool,
}

/// Decides about values that the database has judged.
pub struct Settler {
    plan: Arc<Plan>,
    refusals: Refusals,
    changes: ChangeLog,
    fingerprint: Fingerprint,
}

impl Settler {
    /// A settler for a plan; `on_problem` says whether the first problem is an error or all are collected.
    pub fn new(plan: Arc<Plan>, on_problem: OnProblem) -> Settler {
        let refusals = Refusals::new(on_problem);
        let (changes, fingerprint) = (ChangeLog::default(), Fingerprint::default());
        Settler { plan, refusals, changes, fingerprint }
    }

    /// Obeys the verdicts on rows that come from a batch of the archive: values are replaced, and rows that
    /// cannot be loaded are taken out. Gives the numbers of these in the archive's batch.
    ///
    /// # Errors
    /// The first row that cannot be loaded, unless such rows are left out or collected.
    pub fn settle(
        &mut self,
        batch: &Batch,
        out: &mut TargetRows,
        said: Verdicts,
    ) -> Result<Vec<usize>> {
        let plan = Arc::clone(&self.plan);
        let Some(table) = plan.streams[batch.stream()].table() else { return Ok(Vec::new()) };
        let (mut left_out, mut unloaded) = (Vec::new(), Vec::new());
        for judged in said.0.chunk_by(|a, b| a.row == b.row) {
            let [first, ..] = judged else { continue };
            self.refusals.clear_row();
            self.changes.clear_row();
            let row = ArchiveRow { source: &table.source, batch, row: out.from[first.row] };
            let found = judged.iter().filter_map(|j| self.decide(table, row, j));
            let found: Vec<Replacement> = found.collect();
            if !self.refusals.any() {
                self.replace(table, row, first.row, found, out);
            }
            if self.refusals.any() {
                self.refusals.settle(&plan, row, &mut out.rejected)?;
                left_out.push(first.row);
                unloaded.push(row.row);
                continue;
            }
            self.changes.count_row(row.stream(), || row.key());
        }
        out.remove(&left_out, table.columns.len());
        Ok(unloaded)
    }

    /// What is loaded in the place of a value; nothing if its row is refused.
    fn decide(
        &mut self,
        table: &TablePlan,
        row: ArchiveRow<'_>,
        judged: &Judged,
    ) -> Option<Replacement> {
        let (n, column) = (judged.column, &table.columns[judged.column]);
        // a key that is rounded or shortened may be that of another row
        let exact = column.key || column.ids.is_some();
        let null = (!column.not_null && !column.key).then_some(Nearest::Null);
        let (nearest, reason, detail) = match &judged.verdict {
            Verdict::Same(text) => {
                let value = in_type(column, text)?;
                return Some(Replacement { column: n, value, same: true });
            }
            Verdict::Less(text) => {
                let value = column.archive_column().map_or(Value::Null, |n| row.value(n));
                let detail =
                    format!("{} would become {}", show(value), show(Value::Text(text.as_bytes())));
                (in_type(column, text).filter(|_| !exact).or(null), LESS, detail)
            }
            Verdict::Refused(words) => {
                let found = judged.instead.iter().find_map(|(value, verdict)| match verdict {
                    None => Some(value.clone()),
                    Some(Verdict::Same(text) | Verdict::Less(text)) => in_type(column, text),
                    Some(Verdict::Refused(_)) => None,
                });
                (found.filter(|_| !exact).or(null), REFUSED, words.clone())
            }
        };
        match (nearest, ChangeKind::of_nearest(self.plan.options.on_unrepresentable)) {
            (Some(value), Some(kind)) => {
                self.changes.note(Subject::Column(n), kind, reason);
                Some(Replacement { column: n, value, same: false })
            }
            (nearest, _) => {
                let remedy = if nearest.is_some() { Remedy::Adapt } else { Remedy::Reject };
                let refusal = Refusal { reason: reason.into(), detail: Some(detail), zone: false };
                self.refusals.note(Subject::Column(n), refusal, Some(remedy));
                None
            }
        }
    }

    /// Replaces values of a row, and stores the originals where they are stored.
    fn replace(
        &mut self,
        table: &TablePlan,
        row: ArchiveRow<'_>,
        number: usize,
        found: Vec<Replacement>,
        out: &mut TargetRows,
    ) {
        let width = table.columns.len();
        let entry = out.sidecar.iter().position(|entry| entry.row == number);
        let mut stored = entry
            .map_or_else(SidecarValues::default, |n| SidecarValues::read(&out.sidecar[n].text));
        for Replacement { column: n, value, same } in found {
            let column = &table.columns[n];
            out.rows.replace(number * width + n, value.borrow());
            let loaded = self.fingerprint.of(kind_of(column), value.borrow());
            stored.loaded_as(&column.name, &loaded);
            let Some(was) = column.archive_column().map(|n| row.value(n)) else { continue };
            if same && (stored.has(&column.name) || comes_back(column.kind, was, value.borrow())) {
                continue;
            }
            if same {
                let reason = "the target spells this value in its own way";
                self.changes.note(Subject::Column(n), ChangeKind::Respelled, reason);
            }
            if self.plan.options.on_unrepresentable.preserves() && table.has_sidecar {
                stored.original(&column.name, was, loaded);
            }
        }
        if stored.is_empty() {
            return;
        }
        let mut key = table.key.iter().map(|k| out.rows.value(number, *k));
        if let Some(n) = key.clone().position(|value| value == Value::Null) {
            let column = Subject::Column(table.key[n]);
            self.refusals.note_reason(column, NO_ID, Some(Remedy::Reject));
            return;
        }
        let entry_of_row =
            SidecarEntry { row: number, key: key_text(&mut key), text: stored.text() };
        match entry {
            Some(n) => out.sidecar[n] = entry_of_row,
            None => out.sidecar.push(entry_of_row),
        }
    }

    /// Rows that the database has refused, each with another value in one of the columns that are the
    /// cause: the one that comes next at this attempt. None if there is nothing more to try.
    pub fn other_values(
        &mut self,
        batch: &Batch,
        out: &TargetRows,
        refused: &[Rejected],
        attempt: usize,
    ) -> Option<OtherValues> {
        ChangeKind::of_nearest(self.plan.options.on_unrepresentable)?;
        let plan = Arc::clone(&self.plan);
        let table = plan.streams[batch.stream()].table()?;
        let width = table.columns.len();
        let mut other = OtherValues { rows: TargetRows::default(), of: Vec::new() };
        other.rows.rows.start(batch.stream(), width, out.rows.first_row());
        for (place, Rejected { row, cause }) in refused.iter().enumerate() {
            let mut tries = alternatives(table, out, *row, cause);
            if attempt >= tries.len() {
                continue;
            }
            let (column, value) = tries.swap_remove(attempt);
            let number = other.rows.from.len();
            (0..width).for_each(|n| other.rows.rows.push(out.rows.value(*row, n)));
            other.rows.from.push(out.from[*row]);
            let of_row = |entries: &[SidecarEntry]| -> Vec<SidecarEntry> {
                let own = entries.iter().filter(|entry| entry.row == *row);
                own.map(|entry| SidecarEntry { row: number, ..entry.clone() }).collect()
            };
            other.rows.sidecar.extend(of_row(&out.sidecar));
            other.rows.also_whole.extend(of_row(&out.also_whole));
            let row = ArchiveRow { source: &table.source, batch, row: out.from[*row] };
            let found = vec![Replacement { column, value, same: false }];
            self.replace(table, row, number, found, &mut other.rows);
            other.of.push((place, column));
        }
        (!other.of.is_empty()).then_some(other)
    }

    /// Counts the rows that were taken with other values, and leaves those that were not.
    pub fn accept(
        &mut self,
        batch: &Batch,
        out: &TargetRows,
        refused: &mut Vec<Rejected>,
        other: &OtherValues,
        again: &[Rejected],
    ) {
        let plan = Arc::clone(&self.plan);
        let (Some(kind), Some(table)) = (
            ChangeKind::of_nearest(self.plan.options.on_unrepresentable),
            plan.streams[batch.stream()].table(),
        ) else {
            return;
        };
        let mut taken = Vec::new();
        for (number, (place, column)) in other.of.iter().enumerate() {
            if again.iter().any(|r| r.row == number) {
                continue;
            }
            let Rejected { row, cause } = &refused[*place];
            let row = ArchiveRow { source: &table.source, batch, row: out.from[*row] };
            self.changes.clear_row();
            self.changes.note(Subject::Column(*column), kind, cause.reason());
            self.changes.count_row(row.stream(), || row.key());
            taken.push(*place);
        }
        let mut place = 0..;
        refused.retain(|_| !place.next().is_some_and(|n| taken.contains(&n)));
    }

    /// Counts what another one has changed in other rows.
    pub fn absorb(&mut self, other: Settler) {
        self.changes.absorb(other.changes);
    }

    /// What was changed so far.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.all(&self.plan)
    }

    /// What a check has found so far.
    pub fn problems(&self) -> Vec<Problem> {
        self.refusals.problems(&self.plan, None)
    }
}

/// Rows with other values.
pub struct OtherValues {
    /// These rows.
    pub rows: TargetRows,
    /// Of each, its place among those that were refused, and the column that has another value.
    of: Vec<(usize, usize)>,
}

/// The values that may stand in a row that a rule of the target refuses: a shorter text, then nothing, in one
/// column after the other.
fn alternatives(
    table: &TablePlan,
    out: &TargetRows,
    row: usize,
    cause: &Cause,
) -> Vec<(usize, Nearest)> {
    // a key or a reference would be that of another row
    let is_free = |n: &usize| {
        let column = &table.columns[*n];
        !column.key && cause.columns().contains(&column.name)
    };
    let free: Vec<usize> = (0..table.columns.len()).filter(is_free).collect();
    let mut found = Vec::new();
    if matches!(cause, Cause::TooLong { .. }) {
        let longest = free.iter().copied().filter(|n| table.columns[*n].ids.is_none());
        let longest = longest.filter_map(|n| match out.rows.value(row, n) {
            Value::Text(text) => Some((text.len(), n, text)),
            _ => None,
        });
        if let Some((_, n, text)) = longest.max() {
            let text = String::from_utf8_lossy(text);
            let end = (0..=INDEXED.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            found.push((n, Nearest::Text(text[..end.unwrap_or(0)].as_bytes().to_vec())));
        }
    }
    let nullable = free.into_iter().filter(|n| !table.columns[*n].not_null);
    let nullable = nullable.filter(|n| out.rows.value(row, *n) != Value::Null);
    found.extend(nullable.map(|n| (n, Nearest::Null)));
    found
}

/// A value of a column in the database's own spelling; None if that is of no use.
fn in_type(column: &ColumnPlan, text: &str) -> Option<Nearest> {
    Some(match column.ty {
        ColumnType::Timestamptz => Nearest::Time(Instant::read_postgres(text.as_bytes())?),
        ColumnType::Int(_) => Nearest::Int(text.parse().ok()?),
        ColumnType::Float(_) => Nearest::Real(text.parse().ok()?),
        ColumnType::Uuid => Nearest::Uuid(uuid::Uuid::parse_str(text).ok()?.into_bytes()),
        ColumnType::Bool => Nearest::Bool(matches!(text, "t" | "true")),
        ColumnType::Text(_) | ColumnType::Json | ColumnType::Jsonb | ColumnType::Cast(_) => {
            Nearest::Text(text.as_bytes().to_vec())
        }
        ColumnType::Bytea | ColumnType::Sqlite(_) => return None,
    })
}
