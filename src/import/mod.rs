//! Import: from an archive into a target, visible only after everything agreed.

mod cuts;
pub mod group;
pub mod groups;
mod side_by_side;
mod writing;

use std::fs::File;
use std::sync::Arc;

use futures::future::BoxFuture;
use uuid::Uuid;

use self::writing::Import;
use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchKind, BatchRecord, LoadedArchive};
use crate::load::rejects::Rejects;
use crate::load::{
    BatchEnd, BatchNumbers, ConflictList, ConflictOf, ImportStats, Loading, OnProblem, Problem,
    Problems, Target, note_numbers, numbered, require_same_numbers, unsettled,
};
use crate::notice::Notice;
use crate::plan::{Plan, plan};
use crate::policy::PlanOptions;
use crate::progress::{Phase, Progress};
use crate::transform::worker::{End, TransformWorker};
use crate::transform::{Change, Settler, Transformer, load_existing_keys};
use chronicle_archive::{Batch, Sealed, Written};

/// What the user decides about an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Values that the target cannot hold, times without a zone.
    pub plan: PlanOptions,
    /// The digest that the archive must have: 64 hexadecimal digits.
    pub expect: Option<String>,
    /// The batch that the target's history gets; none if nothing is to be recorded.
    pub batch: Option<BatchOptions>,
}

/// How a batch is recorded.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// What it is.
    pub kind: BatchKind,
    /// Whether it can be undone.
    pub receipts: bool,
    /// What holds the tables as they were before.
    pub backup: Option<String>,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// Whether it was committed.
    pub committed: bool,
    /// The batch that it is part of, if it is recorded.
    pub batch: Option<Uuid>,
    /// The plan it followed.
    pub plan: Arc<Plan>,
    /// What was done.
    pub stats: ImportStats,
    /// The values that differ between the archive and the target.
    pub changes: Vec<Change>,
    /// What would stop an import, found by a check.
    pub problems: Vec<Problem>,
    /// What would stop it, unless an archive that is yet to come settles it.
    pub disputes: Vec<Problem>,
    /// Rows that were left out, per stream and reason.
    pub rejected: Vec<Problem>,
    /// The archive of the rows that were left out, if there are any.
    pub rejects: Option<(File, Written)>,
    /// The id of the archive.
    pub archive_id: String,
    /// What is known of the archive.
    pub sealed: Sealed,
}

impl Imported {
    fn loaded_archive(&self) -> LoadedArchive {
        LoadedArchive { archive_id: self.archive_id.clone(), digest: self.sealed.digest.clone() }
    }
}

/// An archive on its way into a target.
pub struct Part<'a> {
    /// What errors call it, if there are others.
    pub name: String,
    /// Opens it, when its turn comes.
    pub open: BoxFuture<'a, Result<ArchiveInput>>,
    /// Where rows go that are left out.
    pub rejects: Option<File>,
}

impl Part<'_> {
    /// An archive that is open.
    pub fn opened(name: String, archive_input: ArchiveInput) -> Part<'static> {
        let open = Box::pin(async { Ok(archive_input) });
        Part { name, open, rejects: None }
    }
}

/// Loads archives into a target, one after the other, in one transaction. Nothing is visible there
/// before every manifest agreed, every reference was checked, what was loaded was read back, and the
/// transaction was committed; on any error the target is as before.
///
/// # Errors
/// A damaged or cut archive, a row or value that the target refuses, or a stop.
pub async fn import(
    parts: Vec<Part<'_>>,
    mut target: Box<dyn Target>,
    options: ImportOptions,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Vec<Imported>> {
    let (mut done, mut names, count) = (Vec::<Imported>::new(), Vec::new(), parts.len());
    let start = |o: &BatchOptions| BatchRecord::start(o.kind, target.catalog().backend.word());
    let mut batch = options.batch.as_ref().map(start);
    let mut numbers = BatchNumbers::new();
    for (n, part) in parts.into_iter().enumerate() {
        let name = part.name.clone();
        names.push(part.name.clone());
        let about = |e: Error| if count > 1 { e.about(&name) } else { e };
        let (prepared, mut loading) =
            begin(part, target, &options, (&mut batch, &numbers), n == 0, cancel)
                .await
                .map_err(about)?;
        let on_problem = prepared.import.on_problem;
        let place = (n, n + 1 == count);
        let loaded =
            load(prepared, loading.as_mut(), &options, (&mut numbers, place), progress, cancel);
        let turned_out = match loaded.await {
            Ok((imported, turned_out)) => {
                done.push(imported);
                turned_out
            }
            Err(error) => return Err(about(loading.fail(error).await)),
        };
        if n + 1 == count {
            if let Err(error) = end(&mut done, &names, on_problem, turned_out) {
                return Err(loading.fail(error).await);
            }
            let committed = loading.keeps_rows();
            if let Some(batch) = &mut batch {
                batch.details.numbers = std::mem::take(&mut numbers);
                batch.details.archives = done.iter().map(Imported::loaded_archive).collect();
                // a stop is still in time
                match cancel.or(loading.seal(batch)).await {
                    Ok(notice) => note(&mut done, notice),
                    Err(error) => return Err(loading.fail(error).await),
                }
            }
            if committed {
                progress.enter(Phase::Committing);
            }
            // from here on a stop comes too late: a commit is not interrupted
            loading.commit().await?;
            let recorded = batch.as_ref().filter(|_| committed).map(|batch| batch.batch_id);
            for imported in &mut done {
                (imported.committed, imported.batch) = (committed, recorded);
            }
            break;
        }
        target = loading.go_on().await?;
    }
    Ok(done)
}

/// Looks what has turned out at the end of the batch: has what was said of orphans be right, and stops an import with rows
/// that are not what the target has after all.
fn end(
    done: &mut [Imported],
    names: &[String],
    on_problem: OnProblem,
    BatchEnd { orphans, disputes }: BatchEnd,
) -> Result<()> {
    // what one archive has said of itself is right
    let several = done.len() > 1;
    for left in orphans.iter().filter(|_| several) {
        if let Some(imported) = done.get_mut(left.archive) {
            imported.stats.correct_orphans(&left.orphans);
        }
    }
    for dispute in disputes {
        let of = done.get(dispute.archive).filter(|_| on_problem == OnProblem::Stop);
        if let Some(error) =
            of.and_then(|of| unsettled(std::slice::from_ref(&dispute.conflict), &of.plan))
        {
            return Err(match (several, names.get(dispute.archive)) {
                (true, Some(name)) => error.about(name),
                _ => error,
            });
        }
        if let Some(last) = done.last_mut() {
            last.disputes.push(dispute.conflict.problem());
        }
    }
    Ok(())
}

/// Adds the rows of the last archive, which no other one can settle any more, to those that nothing settles.
fn add_disputes(stats: &mut ImportStats, number: usize, turned_out: &mut BatchEnd) {
    let (own, others): (Vec<ConflictOf>, Vec<ConflictOf>) =
        turned_out.disputes.drain(..).partition(|dispute| dispute.archive == number);
    turned_out.disputes = others;
    let mut all = ConflictList::default();
    let own = own.into_iter().map(|dispute| dispute.conflict);
    stats.conflicts.drain(..).chain(own).for_each(|conflict| all.add(conflict));
    stats.conflicts = all.all();
}

/// Adds a notice of the whole batch, unless its start had one of the kind.
fn note(done: &mut [Imported], notice: Option<Notice>) {
    let is_new = |notice: &Notice| {
        !done.iter().any(|d| d.stats.notices.iter().any(|known| known.kind == notice.kind))
    };
    if let Some(notice) = notice.filter(is_new)
        && let Some(last) = done.last_mut()
    {
        last.stats.notices.push(notice);
    }
}

/// Opens and plans the import of an archive, and starts the transaction or goes on in it. If it fails, the
/// target is as before.
async fn begin(
    part: Part<'_>,
    mut target: Box<dyn Target>,
    options: &ImportOptions,
    (batch, numbers): (&mut Option<BatchRecord>, &BatchNumbers),
    first: bool,
    cancel: &Cancel,
) -> Result<(Prepared, Box<dyn Loading>)> {
    let prepared = async {
        let archive_input = part.open.await?;
        let origin = archive_input.header.source.backend.clone();
        let catalog = numbered(target.as_mut(), numbers).await?;
        let prepared =
            prepare(archive_input, target.as_ref(), &catalog, options, part.rejects, cancel)
                .await?;
        if let (Some(record), Some(how), true) = (batch.as_mut(), &options.batch, first) {
            record.source_backend = Some(origin);
            if how.backup.is_some() {
                record.details.backup.clone_from(&how.backup);
            }
            if !target.open_batch(record, how.receipts).await? {
                // no history has it
                *batch = None;
            }
        }
        Ok(prepared)
    };
    match prepared.await {
        Ok(prepared) => {
            let plan = Arc::clone(&prepared.import.plan);
            let loading = target.begin(plan, cancel.clone()).await?;
            Ok((prepared, loading))
        }
        Err(error) => Err(target.fail(error).await),
    }
}

/// An import whose first rows have come.
struct Prepared {
    archive_input: ArchiveInput,
    /// The first rows.
    batch: Batch,
    /// The end of an archive without rows.
    empty: Option<Sealed>,
    transformer: Transformer,
    import: Import,
}

/// Plans an import and waits for the first rows: a slow sender keeps nobody waiting for our locks.
async fn prepare(
    mut archive_input: ArchiveInput,
    target: &dyn Target,
    catalog: &Catalog,
    options: &ImportOptions,
    rejects: Option<File>,
    cancel: &Cancel,
) -> Result<Prepared> {
    archive_input.amend(&options.plan.amendments, catalog)?;
    let origin = &archive_input.header.source;
    let plan = Arc::new(plan(origin, &archive_input.streams, catalog, options.plan.clone())?);
    let rejects = rejects
        .map(|file| Rejects::start(file, &archive_input.header, &archive_input.streams))
        .transpose()?;
    let on_problem = target.on_problem();
    let transformer = Transformer::new(Arc::clone(&plan), on_problem)?;
    let import = Import {
        rejects,
        rejected: Problems::default(),
        rejected_rows: vec![0; plan.streams.len()],
        redundant_rows: vec![0; plan.streams.len()],
        archive_id: archive_input.header.archive_id.clone(),
        notices: archive_input.notices(),
        settler: Settler::new(Arc::clone(&plan), on_problem),
        on_problem,
        plan,
    };
    let mut batch = Batch::default();
    let empty = cancel.or(archive_input.next(&mut batch)).await?;
    Ok(Prepared { archive_input, batch, empty, transformer, import })
}

/// Loads all rows; nothing of them is visible yet. The place is the archive's number, and whether it is the last one: then
/// it is also given what has turned out at the end of the batch.
async fn load(
    prepared: Prepared,
    loading: &mut dyn Loading,
    options: &ImportOptions,
    (numbers, place): (&mut BatchNumbers, (usize, bool)),
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Imported, BatchEnd)> {
    let Prepared { archive_input, batch, empty, mut transformer, mut import } = prepared;
    require_same_numbers(&import.plan, loading, numbers).await?;
    cancel.or(load_existing_keys(transformer.keys(), loading.keys())).await?;
    let End { transformer, sealed, left_out } = match empty {
        Some(sealed) => End { transformer, sealed, left_out: archive_input.left_out() },
        None => {
            let (plan, on_problem) = (&import.plan, import.on_problem);
            let mut worker =
                TransformWorker::start(archive_input, batch, transformer, plan, on_problem)?;
            while let Some(mut batch) = cancel.or(async { Ok(worker.next().await) }).await? {
                fault::point("load: before rows")?;
                let rejected = cancel.or(import.write(loading, &mut batch)).await?;
                fault::point("load: after rows")?;
                progress.add_rows(batch.rows);
                worker.done(batch, rejected);
            }
            worker.end()?
        }
    };
    import.notices.extend(left_out);
    if let Some(expected) = options.expect.as_ref().filter(|e| **e != sealed.digest) {
        return Err(Error::new(
            Code::DigestMismatch,
            format!(
                "the archive is complete, but its digest is sha256:{}, not the expected \
                 sha256:{expected}; nothing was changed",
                sealed.digest
            ),
        )
        .hint("check that the digest is of this archive"));
    }
    progress.enter(Phase::Verifying);
    let mut stats = cancel.or(loading.finalize(progress)).await?;
    let (number, is_last) = place;
    let mut turned_out = match is_last {
        true => loading.end_batch().await?,
        false => BatchEnd::default(),
    };
    if import.on_problem == OnProblem::Stop {
        add_disputes(&mut stats, number, &mut turned_out);
    }
    note_numbers(&import.plan, loading, numbers).await?;
    Ok((import.finish(&transformer, stats, sealed)?, turned_out))
}
