//! Several connections that load the same archive at the same time, each in groups of its own. They share one batch: each
//! group adds its chunks to what the history says, under a lock.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::mpsc;

use super::cuts::lacks_keys;
use super::group::{OpenTarget, Opening, begin_group, done_chunk, end_group, next, write};
use super::writing::Import;
use crate::archive_input::ChunkPlace;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::error::Result;
use crate::history::{BatchRecord, DoneChunk, ResumePoint};
use crate::load::{ImportStats, Loading};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::transform::worker::{LoadBatch, Returns, TransformWorker};

/// What all of them have.
pub(super) struct Share<'r, 'a> {
    pub(super) open: &'r OpenTarget<'a>,
    /// The batch as it was when they began.
    pub(super) batch: &'r BatchRecord,
    pub(super) plan: &'r Arc<Plan>,
    /// The chunks of a group.
    pub(super) chunks: u64,
    pub(super) progress: &'r Progress,
    pub(super) cancel: &'r Cancel,
}

/// What they have done.
pub(super) struct Loaded {
    /// The batch as the last of them has left it in the history, if any has committed a group.
    pub(super) batch: Option<BatchRecord>,
    pub(super) stats: ImportStats,
    /// What has stopped one of them.
    pub(super) failed: Option<Error>,
}

impl Share<'_, '_> {
    /// Loads the rows that the worker brings by so many connections, but for the chunks that are done, and counts what was
    /// done as the import's.
    pub(super) async fn load(
        &self,
        import: &mut Import,
        worker: &mut TransformWorker,
        first: LoadBatch,
        (jobs, done): (usize, &ResumePoint),
    ) -> Loaded {
        let (mut senders, mut running) = (Vec::new(), Vec::new());
        for _ in 0..jobs {
            let (to, rows) = mpsc::channel(1);
            senders.push(to);
            let job = Job {
                share: self,
                import: import.another(),
                loading: None,
                chunks: Vec::new(),
                rows: 0,
                stats: ImportStats::default(),
                batch: None,
                pinned: false,
            };
            running.push(job.run(rows, worker.returns()));
        }
        worker.circulate(jobs);
        let dealt = self.deal(worker, first, senders, done);
        let (dealt, ended) = futures::join!(dealt, join_all(running));
        let mut loaded = Loaded { batch: None, stats: ImportStats::default(), failed: dealt.err() };
        let rows = |batch: &BatchRecord| batch.details.resume.as_ref().map_or(0, |r| r.rows);
        for Ended { import: own, stats, batch, failed } in ended {
            import.absorb(own);
            loaded.stats.add(stats);
            loaded.failed = loaded.failed.or(failed);
            // the one that has come furthest was the last
            loaded.batch = [loaded.batch, batch].into_iter().flatten().max_by_key(rows);
        }
        loaded
    }

    /// Gives each chunk to one of them in turn. Rows without a key, which only their content tells apart, stay together.
    async fn deal(
        &self,
        worker: &mut TransformWorker,
        first: LoadBatch,
        jobs: Vec<mpsc::Sender<LoadBatch>>,
        done: &ResumePoint,
    ) -> Result<()> {
        let (mut rows, mut turn, mut chunk) = (Some(first), 0, None);
        while let Some(batch) = rows.take() {
            if done.has(batch.chunk.number) {
                worker.done(batch, Vec::new());
            } else {
                if chunk.as_ref().is_some_and(|chunk| *chunk != batch.chunk.number) {
                    turn = (turn + 1) % jobs.len();
                }
                chunk = Some(batch.chunk.number);
                let planned = self.plan.streams[batch.batch.stream()].table();
                let keyless = planned.is_some_and(|table| lacks_keys(table, &batch));
                let to = if keyless { 0 } else { turn };
                if jobs[to].send(batch).await.is_err() {
                    // it has an error of its own
                    return Ok(());
                }
            }
            rows = next(worker, self.cancel).await?;
        }
        Ok(())
    }
}

/// One connection.
struct Job<'r, 'a> {
    share: &'r Share<'r, 'a>,
    import: Import,
    /// Its transaction, while it has one.
    loading: Option<Box<dyn Loading>>,
    /// The chunks of its group.
    chunks: Vec<DoneChunk>,
    /// The rows of its group.
    rows: u64,
    stats: ImportStats,
    batch: Option<BatchRecord>,
    /// Whether it has rows without a key, so that its group does not end before the archive does.
    pinned: bool,
}

/// What one connection has done.
struct Ended {
    import: Import,
    stats: ImportStats,
    batch: Option<BatchRecord>,
    failed: Option<Error>,
}

impl Job<'_, '_> {
    async fn run(mut self, mut rows: mpsc::Receiver<LoadBatch>, returns: Returns) -> Ended {
        let done = self.load(&mut rows, &returns).await;
        let failed = match (done, self.loading.take()) {
            (Ok(()), _) => None,
            (Err(error), Some(loading)) => Some(loading.fail(error).await),
            (Err(error), None) => Some(error),
        };
        let Job { import, stats, batch, .. } = self;
        Ended { import, stats, batch, failed }
    }

    async fn load(
        &mut self,
        rows: &mut mpsc::Receiver<LoadBatch>,
        returns: &Returns,
    ) -> Result<()> {
        while let Some(mut batch) = rows.recv().await {
            if self.ends_before(&batch.chunk) {
                self.commit().await?;
            }
            let mut loading = match self.loading.take() {
                Some(loading) => loading,
                None => {
                    let (share, with) = (self.share, (self.share.batch, self.share.plan));
                    begin_group(share.open, Opening::SideBySide, with, share.cancel).await?
                }
            };
            let written =
                write(&mut self.import, loading.as_mut(), &mut batch, self.share.cancel).await;
            self.loading = Some(loading);
            let rejected = written?;
            self.note(&batch);
            returns.done(batch, rejected);
        }
        self.commit().await
    }

    fn ends_before(&self, chunk: &ChunkPlace) -> bool {
        let is_new = self.chunks.last().is_some_and(|last| last.number != chunk.number);
        is_new && !self.pinned && self.chunks.len() as u64 >= self.share.chunks
    }

    fn note(&mut self, batch: &LoadBatch) {
        if self.chunks.last().is_none_or(|last| last.number != batch.chunk.number) {
            self.chunks.push(done_chunk(&batch.chunk));
        }
        self.rows += batch.rows as u64;
        self.share.progress.add_rows(batch.rows);
        let planned = self.share.plan.streams[batch.batch.stream()].table();
        self.pinned |= planned.is_some_and(|table| lacks_keys(table, batch));
    }

    /// Commits the group, if there is one.
    async fn commit(&mut self) -> Result<()> {
        let Some(mut loading) = self.loading.take() else { return Ok(()) };
        let sealed = self.seal(loading.as_mut()).await;
        match sealed {
            Ok((batch, stats)) => {
                loading.commit().await?;
                self.stats.add(stats);
                self.batch = Some(batch);
                Ok(())
            }
            Err(error) => {
                self.loading = Some(loading);
                Err(error)
            }
        }
    }

    /// Checks the group and adds it to the batch.
    async fn seal(&mut self, loading: &mut dyn Loading) -> Result<(BatchRecord, ImportStats)> {
        let Share { cancel, progress, .. } = self.share;
        let mut stats = end_group(&self.import, loading, cancel, progress).await?;
        let mut batch = cancel.or(loading.lock_batch()).await?;
        if let Some(resume) = &mut batch.details.resume {
            resume.add(self.chunks.drain(..), std::mem::take(&mut self.rows));
        }
        stats.add_notices(cancel.or(loading.seal(&mut batch)).await?);
        Ok((batch, stats))
    }
}
