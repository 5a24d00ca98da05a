//! Import: from an archive into a target, visible only after everything agreed.

use std::fs::File;
use std::sync::Arc;

use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::load::rejects::Rejects;
use crate::load::{ImportStats, Problem, Problems, Purpose, Refused, Rows, Target};
use crate::plan::{Plan, plan};
use crate::policy::{OnUnrepresentable, PlanOptions};
use crate::progress::Progress;
use crate::sidecar::SidecarEntry;
use crate::transform::worker::{End, LoadBatch, TransformWorker};
use crate::transform::{Change, Rejected, Transformer, key_of};
use chronicle_archive::Batch;
use chronicle_archive::{Sealed, Written};

/// What the user decides about an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Values that the target cannot hold, times without a zone.
    pub plan: PlanOptions,
    /// To load, or to find everything that would keep the rows from being loaded.
    pub purpose: Purpose,
    /// Do everything but commit.
    pub dry_run: bool,
    /// The digest that the archive must have: 64 hexadecimal digits.
    pub expect: Option<String>,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// Whether it was committed.
    pub committed: bool,
    /// The plan it followed.
    pub plan: Arc<Plan>,
    /// What was done.
    pub outcome: ImportStats,
    /// The values that are not in the target as they are in the archive.
    pub changes: Vec<Change>,
    /// What would stop an import, found by a check.
    pub problems: Vec<Problem>,
    /// Rows that were left out, per stream and reason.
    pub rejected: Vec<Problem>,
    /// The archive of the rows that were left out, if there are any.
    pub rejects: Option<(File, Written)>,
    /// What is known of the archive.
    pub sealed: Sealed,
}

/// Loads an archive into a target. Nothing is visible there before the manifest agreed, every
/// reference was checked, what was loaded was read back, and the transaction was committed; on any
/// error the target is as before. Rows that are left out go into `rejects`.
///
/// # Errors
/// A damaged or cut archive, a row or value that the target refuses, or a stop.
pub async fn import(
    archive_input: ArchiveInput,
    mut target: Box<dyn Target>,
    options: ImportOptions,
    rejects: Option<File>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Imported> {
    let loaded = load(archive_input, target.as_mut(), &options, rejects, progress, cancel).await;
    let mut imported = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            target.abort().await;
            return Err(error);
        }
    };
    if options.dry_run || options.purpose == Purpose::Check {
        target.abort().await;
    } else {
        // from here on a stop comes too late: a commit is not interrupted
        target.commit().await?;
        imported.committed = true;
    }
    Ok(imported)
}

async fn load(
    mut archive_input: ArchiveInput,
    target: &mut dyn Target,
    options: &ImportOptions,
    rejects: Option<File>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Imported> {
    let origin = &archive_input.header.source;
    let plan = Arc::new(plan(origin, &archive_input.streams, target.catalog(), options.plan)?);
    let rejects = rejects
        .map(|file| Rejects::start(file, &archive_input.header, &archive_input.streams))
        .transpose()?;
    let mut shaper = Transformer::new(Arc::clone(&plan), options.purpose)?;
    let mut loading = Loading {
        rejects,
        rejected: Problems::default(),
        rejected_rows: vec![0; plan.streams.len()],
        problems: Problems::default(),
        redundant_rows: vec![0; plan.streams.len()],
        also_in_sidecar: vec![0; plan.streams.len()],
        checks: options.purpose == Purpose::Check,
        plan,
    };
    // the first rows before the transaction: a slow sender keeps nobody waiting for our locks
    let mut first = Batch::default();
    let empty = cancel.or(archive_input.next(&mut first)).await?;
    cancel.or(target.begin(Arc::clone(&loading.plan))).await?;
    cancel.or(load_existing_keys(&mut shaper, target)).await?;
    let End { shaper, sealed } = match empty {
        Some(sealed) => End { shaper, sealed },
        None => {
            let mut shaping = TransformWorker::start(
                archive_input,
                first,
                shaper,
                &loading.plan,
                options.purpose,
            )?;
            while let Some(mut slice) = cancel.or(async { Ok(shaping.next().await) }).await? {
                cancel.or(loading.slice(target, &mut slice)).await?;
                progress.add_rows(slice.rows);
                shaping.done(slice);
            }
            shaping.end()?
        }
    };
    if let Some(expected) = options.expect.as_ref().filter(|e| **e != sealed.digest) {
        return Err(Error::new(
            Code::DigestMismatch,
            format!(
                "the archive is whole, but it is sha256:{}, not the expected sha256:{expected}; \
                 nothing was changed",
                sealed.digest
            ),
        ));
    }
    let outcome = cancel.or(target.finalize()).await?;
    loading.finish(&shaper, outcome, sealed)
}

/// Tells a shaper the ids that the rows of a target have.
///
/// # Errors
/// If the target or the temporary file cannot be read.
pub async fn load_existing_keys(shaper: &mut Transformer, target: &mut dyn Target) -> Result<()> {
    for (of, ids) in shaper.numbered() {
        let mut last = None;
        loop {
            let known = target.existing_keys(&ids, last).await?;
            for (original, id) in &known {
                shaper.know(&of, original.as_deref(), *id, ids.refers.is_some())?;
            }
            let Some((_, id)) = known.last() else { break };
            last = Some(*id);
        }
    }
    for (of, table, origin) in shaper.spelled() {
        for (original, id) in target.existing_uuid_spellings(table, origin.as_deref()).await? {
            shaper.register_spelling(&of, &original, id)?;
        }
    }
    Ok(())
}

/// What is kept while rows are loaded.
struct Loading {
    plan: Arc<Plan>,
    rejects: Option<Rejects>,
    rejected: Problems,
    /// Per stream: a row with several reasons is one.
    rejected_rows: Vec<u64>,
    problems: Problems,
    /// Of every stream, the second copies that were left out because they say nothing new.
    redundant_rows: Vec<u64>,
    /// Of every stream, the rows that were loaded and kept unmapped, too.
    also_in_sidecar: Vec<u64>,
    checks: bool,
}

impl Loading {
    async fn slice(&mut self, target: &mut dyn Target, slice: &mut LoadBatch) -> Result<()> {
        let LoadBatch { batch, shaped, .. } = &*slice;
        let rows = Rows {
            stream: batch.stream(),
            source: batch,
            shaped: &shaped.rows,
            from: &shaped.from,
            sidecar: &shaped.sidecar,
        };
        let refused = target.write_rows(&rows).await?;
        let (number, again) = (batch.stream(), &shaped.again);
        if let (Some(stream), false) = (self.plan.duplicates(number), again.is_empty()) {
            let none = Batch::default();
            let again = Rows { stream, source: batch, shaped: &none, from: &[], sidecar: again };
            target.write_rows(&again).await?;
        }
        self.redundant_rows[number] += shaped.redundant_rows;
        let is_loaded = |kept: &&SidecarEntry| shaped.from.binary_search(&kept.row).is_ok();
        self.also_in_sidecar[number] += shaped.again.iter().filter(is_loaded).count() as u64;
        self.set_aside(slice, refused)
    }

    /// Decides about the rows that are not loaded: those that no value was found for, and those
    /// that the target refused by a rule of its own.
    fn set_aside(&mut self, slice: &mut LoadBatch, refused: Vec<Refused>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let LoadBatch { batch, shaped, refused: unloaded, .. } = slice;
        let stream = &plan.streams[batch.stream()];
        let rejects = plan.options.on_unrepresentable == OnUnrepresentable::Reject;
        for Refused { row, error } in refused {
            let row = shaped.from.get(row).copied().unwrap_or(0);
            let key = key_of(stream, batch, row);
            match (rejects, self.checks) {
                (true, _) => {}
                (false, true) => self.problems.add(stream, None, &error, &key),
                (false, false) => return Err(error),
            }
            unloaded.push(row);
            let reason = error.full();
            shaped.rejected.push(Rejected { row, key, column: None, reason });
        }
        if !rejects || shaped.rejected.is_empty() {
            return Ok(());
        }
        shaped.rejected.sort_by_key(|r| r.row);
        for why in shaped.rejected.chunk_by(|a, b| a.row == b.row) {
            let [first, ..] = why else { continue };
            if let Some(rejects) = &mut self.rejects {
                rejects.write(batch, first.row, &why.iter().collect::<Vec<_>>())?;
            }
            self.rejected_rows[batch.stream()] += 1;
            let error = Error::new(Code::Rejected, "");
            for r in why {
                self.rejected.note(stream, r.column.clone(), &error, &r.reason, &r.key);
            }
        }
        Ok(())
    }

    /// Counts second copies with the stream that they came in.
    fn count_again(&self, outcome: &mut ImportStats) {
        for (loaded, redundant_rows) in outcome.loaded.iter_mut().zip(&self.redundant_rows) {
            loaded.skipped_rows += redundant_rows;
        }
        for (n, stream) in self.plan.streams.iter().enumerate().rev() {
            if let Some(of) = stream.duplicate_of {
                let (again, twice) = (outcome.loaded.remove(n), self.also_in_sidecar[of]);
                // what is loaded, too, counts there
                let new = again.inserted_rows.min(twice);
                outcome.loaded[of].inserted_rows += again.inserted_rows - new;
                outcome.loaded[of].skipped_rows += again.skipped_rows.saturating_sub(twice - new);
            }
        }
    }

    fn finish(
        self,
        shaper: &Transformer,
        mut outcome: ImportStats,
        sealed: Sealed,
    ) -> Result<Imported> {
        for (loaded, rows) in outcome.loaded.iter_mut().zip(&self.rejected_rows) {
            loaded.rejected_rows = *rows;
        }
        self.count_again(&mut outcome);
        outcome.notices.extend(shaper.shifted());
        outcome.notices.extend(shaper.clock().filter(|_| self.checks));
        let mut problems = shaper.problems();
        problems.extend(self.problems.all());
        problems.append(&mut outcome.problems);
        // as an import would meet them
        problems.sort_by_key(|p| {
            let stream = self.plan.streams.iter().position(|s| s.stream == p.stream);
            let stage = [Code::Target, Code::Value, Code::Conflict, Code::Orphan];
            let stage = stage.iter().position(|code| code.word() == p.code);
            // foreign keys that no layout knows of are asked when all rows are there
            let late = p.code == Code::Orphan.word() && p.column.is_none();
            (stage != Some(0), late, stream, stage)
        });
        let rejects = match self.rejects {
            Some(rejects) if rejects.rows() > 0 => Some(rejects.finish()?),
            _ => None,
        };
        Ok(Imported {
            committed: false,
            changes: shaper.changes(),
            plan: self.plan,
            outcome,
            problems,
            rejected: self.rejected.all(),
            rejects,
            sealed,
        })
    }
}
