//! A thread that transforms rows, batch by batch, while the target loads those before.

use std::sync::Arc;
use std::sync::mpsc as back;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::archive_input::{ArchiveInput, ChunkPlace};
use crate::error::{Code, Error, Result};
use crate::load::OnProblem;
use crate::notice::Notice;
use crate::plan::Plan;
use crate::transform::{TargetRows, Transformer};
use chronicle_archive::Batch;
use chronicle_archive::Sealed;

/// Rows of one stream on their way into the target.
pub struct LoadBatch {
    /// The rows of the archive that they come from.
    pub batch: Arc<Batch>,
    /// The rows as the target takes them.
    pub target: TargetRows,
    /// How many rows of the archive they were.
    pub rows: usize,
    /// The chunk of the archive that they are of.
    pub chunk: ChunkPlace,
}

/// Rows of the archive that the target has rejected.
struct RejectedRows {
    batch: Arc<Batch>,
    rows: Vec<usize>,
}

/// Where rows go back to that are loaded.
#[derive(Clone)]
pub struct Returns {
    spare: back::Sender<TargetRows>,
    rejected: back::Sender<RejectedRows>,
    batches: back::Sender<Batch>,
}

/// The thread that transforms.
pub struct TransformWorker {
    load_batches: mpsc::Receiver<LoadBatch>,
    returns: Returns,
    thread: Option<JoinHandle<Result<Option<End>>>>,
}

/// What is left when there are no more rows.
pub struct End {
    /// The transformer, with everything that it has counted.
    pub transformer: Transformer,
    /// What is known of the archive.
    pub sealed: Sealed,
    /// What people should know of rows that were not wanted.
    pub left_out: Vec<Notice>,
}

/// How many load batches are on their way at the same time: one with the target, one being filled.
/// Where a row that the target rejects decides about those behind it, only one.
fn load_batches(plan: &Plan, on_problem: OnProblem) -> usize {
    match (on_problem, plan.options.rejects_rows()) {
        (OnProblem::Collect, _) | (_, true) => 1,
        _ => 2,
    }
}

/// The thread's ends of the channels.
struct Ends {
    load_batches: mpsc::Sender<LoadBatch>,
    spare: back::Receiver<TargetRows>,
    rejected: back::Receiver<RejectedRows>,
}

impl TransformWorker {
    /// Starts to transform what comes in, with the rows of `first` at its head.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(
        archive_input: ArchiveInput,
        first: Batch,
        transformer: Transformer,
        plan: &Plan,
        on_problem: OnProblem,
    ) -> Result<TransformWorker> {
        let (spare, spare_out) = back::channel();
        let (rejected, rejected_out) = back::channel();
        let (to_us, load_batches_out) = mpsc::channel(1);
        for _ in 0..load_batches(plan, on_problem) {
            // the receiver is in this function
            let _ = spare.send(TargetRows::default());
        }
        let batches = archive_input.used();
        let ends = Ends { load_batches: to_us, spare: spare_out, rejected: rejected_out };
        let thread = std::thread::Builder::new()
            .name("transform".into())
            .spawn(move || run(archive_input, first, transformer, &ends))
            .map_err(|e| Error::new(Code::Internal, "cannot start a thread").because(e))?;
        Ok(TransformWorker {
            load_batches: load_batches_out,
            returns: Returns { spare, rejected, batches },
            thread: Some(thread),
        })
    }

    /// The next rows, or nothing when there are no more.
    pub async fn next(&mut self) -> Option<LoadBatch> {
        self.load_batches.recv().await
    }

    /// Reports rows that are done, as [`Returns::done`].
    pub fn done(&self, load_batch: LoadBatch, rejected: Vec<usize>) {
        self.returns.done(load_batch, rejected);
    }

    /// Where rows go back to, for several who load them.
    pub fn returns(&self) -> Returns {
        self.returns.clone()
    }

    /// Lets so many more rows be on their way at the same time.
    pub fn circulate(&self, more: usize) {
        for _ in 0..more {
            // the threads may have ended: they need no more
            let _ = self.returns.spare.send(TargetRows::default());
            let _ = self.returns.batches.send(Batch::default());
        }
    }

    /// What is left at the end.
    ///
    /// # Errors
    /// What ended the rows before their end: a damaged or cut archive, or a value that the target
    /// cannot hold.
    pub fn end(&mut self) -> Result<End> {
        let failed = || Error::new(Code::Internal, "the transforming thread has failed");
        let thread = self.thread.take().ok_or_else(failed)?;
        thread.join().map_err(|_| failed())??.ok_or_else(failed)
    }
}

impl Returns {
    /// Reports which rows of the archive's batch the target has rejected, so that what refers to them
    /// was left out, and gives the buffers back.
    pub fn done(&self, load_batch: LoadBatch, rejected: Vec<usize>) {
        let LoadBatch { batch, mut target, .. } = load_batch;
        target.rows.release_large();
        // the thread may have ended: it needs no more
        if rejected.is_empty() {
            // at once: the next batch may wait for this one
            give_back(&self.batches, batch);
        } else {
            let _ = self.rejected.send(RejectedRows { batch, rows: rejected });
        }
        let _ = self.spare.send(target);
    }
}

/// The transforming thread; None if nobody wants more.
fn run(
    mut archive_input: ArchiveInput,
    first: Batch,
    mut transformer: Transformer,
    ends: &Ends,
) -> Result<Option<End>> {
    let (mut next, batches) = (first, archive_input.used());
    loop {
        let (batch, mut at) = (Arc::new(next), 0);
        let chunk = archive_input.place().clone();
        while at < batch.rows() {
            let Ok(mut target) = ends.spare.recv() else { return Ok(None) };
            // what was rejected of a load batch is reported before its buffer comes back
            for RejectedRows { batch: of, rows } in ends.rejected.try_iter() {
                transformer.unload(&of, &rows)?;
                give_back(&batches, of);
            }
            let from = at;
            at = transformer.transform(&batch, from, &mut target)?;
            let batch = Arc::clone(&batch);
            let load_batch = LoadBatch { batch, target, rows: at - from, chunk: chunk.clone() };
            if ends.load_batches.blocking_send(load_batch).is_err() {
                return Ok(None);
            }
        }
        give_back(&batches, batch);
        match archive_input.next_blocking()? {
            Ok(batch) => next = batch,
            Err(sealed) => {
                let left_out = archive_input.left_out();
                return Ok(Some(End { transformer, sealed, left_out }));
            }
        }
    }
}

/// Gives a batch back for other rows, once nothing refers to it any more.
fn give_back(batches: &back::Sender<Batch>, batch: Arc<Batch>) {
    if let Some(mut batch) = Arc::into_inner(batch) {
        batch.release_large();
        // the reading thread may have ended: it needs no more
        let _ = batches.send(batch);
    }
}
