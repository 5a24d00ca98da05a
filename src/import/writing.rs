//! Rows of an archive on their way into a target: the database is asked about what only it can read, what it refuses is
//! loaded otherwise or set aside, and what was done is counted.

use std::sync::Arc;

use super::Imported;
use crate::error::{Code, Result};
use crate::load::rejects::{RejectReason, Rejects};
use crate::load::{
    Conflict, ImportStats, Loading, OnProblem, Problem, Problems, Rejected, RowPlace, Rows,
    unsettled,
};
use crate::notice::Notice;
use crate::plan::{Plan, key_of};
use crate::transform::worker::LoadBatch;
use crate::transform::{Change, Settler, TargetRows, Transformer, Verdicts};
use chronicle_archive::{Batch, Sealed, Value};

/// Rows as a target takes them, which come from a batch of the archive.
fn rows_of<'a>(batch: &'a Batch, target: &'a TargetRows) -> Rows<'a> {
    Rows {
        stream: batch.stream(),
        source: batch,
        rows: &target.rows,
        from: &target.from,
        sidecar: &target.sidecar,
        whole_rows: &target.whole_rows,
        also_whole: &target.also_whole,
    }
}

/// The state of an import while rows are loaded.
pub(super) struct Import {
    pub(super) plan: Arc<Plan>,
    pub(super) rejects: Option<Rejects>,
    pub(super) rejected: Problems,
    /// Per stream: a row with several reasons is one.
    pub(super) rejected_rows: Vec<u64>,
    /// Of every stream, the duplicates that were left out because they add nothing.
    pub(super) redundant_rows: Vec<u64>,
    pub(super) archive_id: String,
    /// What people should know of the part that is imported.
    pub(super) notices: Vec<Notice>,
    /// Decides about values that only the target's database can read.
    pub(super) settler: Settler,
    pub(super) on_problem: OnProblem,
}

impl Import {
    /// The state of a connection that loads other rows of the same archive.
    pub(super) fn another(&self) -> Import {
        Import {
            plan: Arc::clone(&self.plan),
            rejects: None,
            rejected: Problems::default(),
            rejected_rows: vec![0; self.rejected_rows.len()],
            redundant_rows: vec![0; self.redundant_rows.len()],
            archive_id: self.archive_id.clone(),
            notices: Vec::new(),
            settler: Settler::new(Arc::clone(&self.plan), self.on_problem),
            on_problem: self.on_problem,
        }
    }

    /// Counts what another connection has done.
    pub(super) fn absorb(&mut self, other: Import) {
        let add = |all: &mut [u64], more: Vec<u64>| {
            all.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        };
        add(&mut self.rejected_rows, other.rejected_rows);
        add(&mut self.redundant_rows, other.redundant_rows);
        self.settler.absorb(other.settler);
    }

    /// Loads a batch; gives the rows of the archive's batch that the target has rejected.
    pub(super) async fn write(
        &mut self,
        loading: &mut dyn Loading,
        load_batch: &mut LoadBatch,
    ) -> Result<Vec<usize>> {
        let mut unloaded = self.judge(loading, load_batch).await?;
        let LoadBatch { batch, target, .. } = &*load_batch;
        let refused = loading.write_rows(&rows_of(batch, target)).await?;
        let refused = self.adapt(loading, load_batch, refused).await?;
        let batch = &load_batch.batch;
        self.redundant_rows[batch.stream()] += load_batch.target.redundant_rows;
        unloaded.extend(self.set_aside(loading, load_batch, refused)?);
        Ok(unloaded)
    }

    /// Loads rows that the database has refused with other values in the columns that are the cause, if
    /// values may be changed; gives those that it still refuses.
    async fn adapt(
        &mut self,
        loading: &mut dyn Loading,
        load_batch: &LoadBatch,
        mut refused: Vec<Rejected>,
    ) -> Result<Vec<Rejected>> {
        let LoadBatch { batch, target, .. } = load_batch;
        let mut attempt = 0;
        while let Some(other) = self.settler.other_values(batch, target, &refused, attempt) {
            let again = loading.write_rows(&rows_of(batch, &other.rows)).await?;
            self.settler.accept(batch, target, &mut refused, &other, &again);
            attempt += 1;
        }
        Ok(refused)
    }

    /// Asks the database about values that only it can read, and decides about them; gives the rows of
    /// the archive's batch that are not loaded.
    async fn judge(
        &mut self,
        loading: &mut dyn Loading,
        load_batch: &mut LoadBatch,
    ) -> Result<Vec<usize>> {
        let plan = Arc::clone(&self.plan);
        let LoadBatch { batch, target, .. } = load_batch;
        let (stream, rows) = (batch.stream(), &target.rows);
        let columns = loading.judged_columns(stream);
        let Some(table) = plan.streams[stream].table().filter(|_| !columns.is_empty()) else {
            return Ok(Vec::new());
        };
        let cells = (0..rows.rows()).flat_map(|row| columns.iter().map(move |n| (row, *n)));
        let cells: Vec<(usize, usize)> =
            cells.filter(|(row, n)| rows.value(*row, *n) != Value::Null).collect();
        let values: Vec<(usize, Value<'_>)> =
            cells.iter().map(|(row, n)| (*n, rows.value(*row, *n))).collect();
        let said = loading.judge(stream, &values).await?;
        let mut verdicts = Verdicts::new(table, rows, &cells, said);
        let instead = verdicts.instead();
        if !instead.is_empty() {
            let said = loading.judge(stream, &instead).await?;
            drop(instead);
            verdicts.judge_instead(said);
        }
        self.settler.settle(batch, target, verdicts)
    }

    /// Decides about the rows that are not loaded: those that no value was found for, and those
    /// that the target refused by a rule of its own.
    fn set_aside(
        &mut self,
        loading: &mut dyn Loading,
        load_batch: &mut LoadBatch,
        refused: Vec<Rejected>,
    ) -> Result<Vec<usize>> {
        let plan = Arc::clone(&self.plan);
        let LoadBatch { batch, target, .. } = load_batch;
        let stream = &plan.streams[batch.stream()];
        let rejects = plan.options.rejects_rows();
        let mut unloaded = Vec::new();
        for Rejected { row, cause } in refused {
            let row = target.from.get(row).copied().unwrap_or(0);
            let key = key_of(stream.source(), batch, row);
            if !rejects {
                let number = batch.first_row() + row as u64;
                let table = stream.table_name();
                loading.report(
                    &RowPlace { stream: stream.name(), table, number, key: &key },
                    &cause,
                )?;
            }
            unloaded.push(row);
            let reason = cause.reason();
            let column = cause.column().map(str::to_owned);
            target.rejected.push(RejectReason { row, key, column, reason, follows: None });
        }
        if !rejects || target.rejected.is_empty() {
            return Ok(unloaded);
        }
        target.rejected.sort_by_key(|r| r.row);
        for why in target.rejected.chunk_by(|a, b| a.row == b.row) {
            let [first, ..] = why else { continue };
            if let Some(rejects) = &mut self.rejects {
                rejects.write(batch, first.row, &why.iter().collect::<Vec<_>>())?;
            }
            self.rejected_rows[batch.stream()] += 1;
            for r in why {
                let problem = Problem {
                    column: r.column.clone(),
                    follows: r.follows.clone(),
                    ..Problem::new(Code::Rejected, stream.name(), &r.reason)
                };
                self.rejected.note(problem, &r.key);
            }
        }
        Ok(unloaded)
    }

    /// What was done to values, before the database was asked about them and after.
    fn changes(&self, transformer: &Transformer) -> Vec<Change> {
        let mut all = transformer.changes();
        all.extend(self.settler.changes());
        // it sorts stably: what was done first stays first
        all.sort_by_key(|c| self.plan.streams.iter().position(|s| s.name() == c.stream));
        all
    }

    pub(super) fn finish(
        self,
        transformer: &Transformer,
        mut stats: ImportStats,
        sealed: Sealed,
    ) -> Result<Imported> {
        for (loaded, rows) in stats.streams.iter_mut().zip(&self.rejected_rows) {
            loaded.rejected_rows = *rows;
        }
        for (loaded, rows) in stats.streams.iter_mut().zip(&self.redundant_rows) {
            loaded.skipped_rows += rows;
        }
        stats.notices.extend(self.notices.iter().cloned());
        stats.notices.extend(self.plan.renumbered());
        stats.notices.extend(transformer.clock().shifted());
        let otherwise = transformer.clock().otherwise();
        stats.notices.extend(otherwise.filter(|_| !self.plan.options.trust_zone));
        let mut problems = transformer.problems();
        if let Some(evidence) =
            transformer.clock().contradiction().filter(|_| !self.plan.options.trust_zone)
        {
            let error = evidence.error();
            match self.on_problem {
                OnProblem::Stop => return Err(error),
                OnProblem::Collect => {
                    let stream = self.plan.streams.first().map_or("", |s| s.name());
                    problems.push(Problem {
                        remedy: error.next_step().map(str::to_owned),
                        options: vec!["--assume-tz".into(), evidence.zone.clone()],
                        ..Problem::new(error.code(), stream, error.full())
                    });
                }
            }
        }
        // in a wrong zone every row would differ
        if self.on_problem == OnProblem::Stop
            && let Some(error) = unsettled(&stats.conflicts, &self.plan)
        {
            return Err(error);
        }
        problems.extend(stats.conflicts.iter().map(Conflict::problem));
        problems.extend(self.settler.problems());
        problems.append(&mut stats.problems);
        // as an import would meet them
        problems.sort_by_key(|p| {
            let stream = self.plan.streams.iter().position(|s| s.name() == p.stream);
            let stage = [Code::Target, Code::Value, Code::Conflict, Code::Orphan];
            let stage = stage.iter().position(|code| code.word() == p.code);
            // foreign keys that no layout knows are checked when all rows are loaded
            let late = p.code == Code::Orphan.word() && p.column.is_none();
            (stage != Some(0), late, stream, stage)
        });
        let changes = self.changes(transformer);
        let rejects = match self.rejects {
            Some(rejects) if rejects.rows() > 0 => Some(rejects.finish()?),
            _ => None,
        };
        Ok(Imported {
            committed: false,
            batch: None,
            changes,
            plan: self.plan,
            stats,
            problems,
            disputes: Vec::new(),
            rejected: self.rejected.all(),
            rejects,
            archive_id: self.archive_id,
            sealed,
        })
    }
}
