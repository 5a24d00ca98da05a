//! TransformWorker ahead: a thread of its own makes rows of the target, slice by slice, while the target
//! takes those before.

use std::sync::Arc;
use std::sync::mpsc as back;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::archive_input::ArchiveInput;
use crate::error::{Code, Error, Result};
use crate::load::Purpose;
use crate::plan::Plan;
use crate::policy::OnUnrepresentable;
use crate::transform::{TargetRows, Transformer};
use chronicle_archive::Batch;
use chronicle_archive::Sealed;

/// Rows of one stream on their way into the target.
pub struct LoadBatch {
    /// The rows of the archive that they come from.
    pub batch: Arc<Batch>,
    /// The rows as the target takes them.
    pub shaped: TargetRows,
    /// How many rows of the archive they were.
    pub rows: usize,
    /// The rows of the archive's batch that the target has refused.
    pub refused: Vec<usize>,
}

/// What comes back of a slice: room for the next one, and the rows that the target has refused.
struct Spare {
    shaped: TargetRows,
    refused: Option<(Arc<Batch>, Vec<usize>)>,
}

/// The thread that shapes.
pub struct TransformWorker {
    slices: mpsc::Receiver<LoadBatch>,
    used: back::Sender<Spare>,
    batches: back::Sender<Batch>,
    thread: Option<JoinHandle<Result<Option<End>>>>,
}

/// What is left when there are no more rows.
pub struct End {
    /// The shaper, with everything that it has counted.
    pub shaper: Transformer,
    /// What is known of the archive.
    pub sealed: Sealed,
}

/// How many slices are on their way at the same time: one with the target, one being shaped. Where
/// a row that the target refuses decides about those behind it, only one.
fn slices(plan: &Plan, purpose: Purpose) -> usize {
    match (purpose, plan.options.on_unrepresentable) {
        (Purpose::Check, _) | (_, OnUnrepresentable::Reject) => 1,
        _ => 2,
    }
}

impl TransformWorker {
    /// Starts to shape what comes in, with the rows of `first` at its head.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(
        archive_input: ArchiveInput,
        first: Batch,
        shaper: Transformer,
        plan: &Plan,
        purpose: Purpose,
    ) -> Result<TransformWorker> {
        let (used, from_us) = back::channel();
        let (to_us, slices_out) = mpsc::channel(1);
        let count = slices(plan, purpose);
        for _ in 0..count {
            // the other end is at hand
            let _ = used.send(Spare { shaped: TargetRows::default(), refused: None });
        }
        let batches = archive_input.used();
        let thread = std::thread::Builder::new()
            .name("shape".into())
            .spawn(move || shape(archive_input, first, shaper, &to_us, &from_us))
            .map_err(|e| Error::new(Code::Internal, "cannot start a thread").because(e))?;
        Ok(TransformWorker { slices: slices_out, used, batches, thread: Some(thread) })
    }

    /// The next rows, or nothing when there are no more.
    pub async fn next(&mut self) -> Option<LoadBatch> {
        self.slices.recv().await
    }

    /// Gives a slice back, to be filled anew.
    pub fn done(&self, slice: LoadBatch) {
        let LoadBatch { batch, shaped, refused, .. } = slice;
        let refused = match refused.is_empty() {
            true => {
                // at once: the next batch may wait for this one
                give_back(&self.batches, batch);
                None
            }
            false => Some((batch, refused)),
        };
        // the thread may have ended: it needs no more
        let _ = self.used.send(Spare { shaped, refused });
    }

    /// What is left at the end.
    ///
    /// # Errors
    /// What ended the rows before their end: a damaged or cut archive, or a value that the target
    /// cannot hold.
    pub fn end(&mut self) -> Result<End> {
        let failed = || Error::new(Code::Internal, "the shaping thread has failed");
        let thread = self.thread.take().ok_or_else(failed)?;
        thread.join().map_err(|_| failed())??.ok_or_else(failed)
    }
}

/// The shaping thread; None if nobody wants more.
fn shape(
    mut archive_input: ArchiveInput,
    first: Batch,
    mut shaper: Transformer,
    slices: &mpsc::Sender<LoadBatch>,
    used: &back::Receiver<Spare>,
) -> Result<Option<End>> {
    let (mut next, batches) = (first, archive_input.used());
    loop {
        let (batch, mut at) = (Arc::new(next), 0);
        while at < batch.rows() {
            let Ok(Spare { mut shaped, refused }) = used.recv() else { return Ok(None) };
            if let Some((of, rows)) = refused {
                shaper.unload(&of, &rows)?;
                give_back(&batches, of);
            }
            let from = at;
            at = shaper.shape(&batch, from, &mut shaped)?;
            let batch = Arc::clone(&batch);
            let slice = LoadBatch { batch, shaped, rows: at - from, refused: Vec::new() };
            if slices.blocking_send(slice).is_err() {
                return Ok(None);
            }
        }
        give_back(&batches, batch);
        match archive_input.next_blocking()? {
            Ok(batch) => next = batch,
            Err(sealed) => return Ok(Some(End { shaper, sealed })),
        }
    }
}

/// Gives a batch back, to be filled anew, once nobody refers to it any more.
fn give_back(batches: &back::Sender<Batch>, batch: Arc<Batch>) {
    if let Some(batch) = Arc::into_inner(batch) {
        // the reading thread may have ended: it needs no more
        let _ = batches.send(batch);
    }
}
