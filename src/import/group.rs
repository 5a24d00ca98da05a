//! One group of an import: how its target is opened, and its transaction from the first rows to the last check.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::add_disputes;
use super::writing::Import;
use crate::archive_input::ChunkPlace;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::fault;
use crate::history::{BatchRecord, DoneChunk};
use crate::load::{ImportStats, Loading, OnProblem, Target, unsettled};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::transform::worker::{LoadBatch, TransformWorker};

/// How the target is opened for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// As it was asked for: its tables may have to be created.
    First,
    /// As it is.
    Next,
    /// As it is, for one of several connections that load at the same time.
    SideBySide,
}

/// Opens the target for the next group.
pub type OpenTarget<'a> =
    Box<dyn Fn(Opening) -> BoxFuture<'a, Result<Box<dyn Target>>> + Send + Sync + 'a>;

/// The next rows that the worker brings.
pub(super) async fn next(
    worker: &mut TransformWorker,
    cancel: &Cancel,
) -> Result<Option<LoadBatch>> {
    cancel.or(async { Ok(worker.next().await) }).await
}

/// Loads rows; gives those of the archive's batch that the target has rejected.
pub(super) async fn write(
    import: &mut Import,
    loading: &mut dyn Loading,
    rows: &mut LoadBatch,
    cancel: &Cancel,
) -> Result<Vec<usize>> {
    fault::point("load: before rows")?;
    let rejected = cancel.or(import.write(loading, rows)).await?;
    fault::point("load: after rows")?;
    Ok(rejected)
}

/// Opens the target and starts the transaction of a group.
pub(super) async fn begin_group(
    open: &OpenTarget<'_>,
    opening: Opening,
    (batch, plan): (&BatchRecord, &Arc<Plan>),
    cancel: &Cancel,
) -> Result<Box<dyn Loading>> {
    fault::point("groups: between two")?;
    let mut target = cancel.or(open(opening)).await?;
    match target.open_batch(batch, true).await {
        Ok(_) => target.begin(Arc::clone(plan), cancel.clone()).await,
        Err(error) => Err(target.fail(error).await),
    }
}

/// Ends the loading of a group: everything of it is checked and read back.
pub(super) async fn end_group(
    import: &Import,
    loading: &mut dyn Loading,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<ImportStats> {
    let mut stats = cancel.or(loading.finalize(progress)).await?;
    let mut turned_out = loading.end_batch().await?;
    if import.on_problem == OnProblem::Stop {
        add_disputes(&mut stats, 0, &mut turned_out);
        if let Some(error) = unsettled(&stats.conflicts, &import.plan) {
            return Err(error);
        }
    }
    Ok(stats)
}

/// A chunk as the history has it.
pub(super) fn done_chunk(place: &ChunkPlace) -> DoneChunk {
    DoneChunk { number: place.number, checkpoint: place.checkpoint.clone() }
}
