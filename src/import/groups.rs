//! An import that is committed in groups of chunks: each group is a transaction of its own, which also says in the history
//! from where another run goes on.

use std::sync::Arc;

use uuid::Uuid;

use super::cuts::{Cuts, lacks_keys};
use super::group::{OpenTarget, Opening, begin_group, done_chunk, end_group, next, write};
use super::side_by_side::{Loaded, Share};
use super::writing::Import;
use super::{ImportOptions, Imported, Part, Prepared, begin};
use crate::archive_input::ChunkPlace;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::history::{BatchKind, BatchRecord, ResumePoint};
use crate::load::{BatchNumbers, ImportStats, Loading, Target, note_numbers, require_same_numbers};
use crate::notice::{Notice, NoticeKind};
use crate::plan::Plan;
use crate::policy::{OnConflict, OwnRows, PlanOptions};
use crate::progress::{Phase, Progress};
use crate::transform::load_existing_keys;
use crate::transform::worker::{End, LoadBatch, TransformWorker};
use chronicle_archive::show_count;

/// How an import is committed in groups.
pub struct Groups<'a> {
    /// Opens the target for the next group.
    pub open: OpenTarget<'a>,
    /// How many chunks of the archive are a group.
    pub chunks: u64,
    /// How many connections load at the same time, where that is possible.
    pub jobs: usize,
    /// The history of the target, if this run goes on with an import that is in it.
    pub history: Option<Vec<BatchRecord>>,
}

/// The imports that have committed some groups and not the last one, the newest last.
fn halves(history: &[BatchRecord]) -> Vec<&BatchRecord> {
    let mut halves: Vec<_> = history.iter().filter(|b| b.is_half() && b.stands()).collect();
    halves.sort_by_key(|batch| batch.batch_id);
    halves
}

/// The batch that a run goes on with: the newest import of an archive that has committed some groups and not the last one.
/// None if there is nothing to go on with, so that the import begins.
fn resumable(history: &[BatchRecord], archive_id: &str) -> Result<Option<BatchRecord>> {
    let halves = halves(history);
    let archive_of = |batch: &BatchRecord| Some(batch.details.resume.as_ref()?.archive_id.clone());
    let is_it = |batch: &&&BatchRecord| archive_of(batch).as_deref() == Some(archive_id);
    if let Some(batch) = halves.iter().rev().find(is_it) {
        return Ok(Some(BatchRecord::clone(batch)));
    }
    let other = halves.last().and_then(|batch| Some((batch.batch_id, archive_of(batch)?)));
    let Some((batch, begun)) = other else { return Ok(None) };
    let what =
        format!("this is archive {archive_id}, and the import has begun with archive {begun}");
    let hint = format!(
        "give that archive; to begin with this one, chronicle-dump rollback {batch} --from DB takes back what is done"
    );
    Err(Error::new(Code::Usage, what).hint(hint))
}

/// Whether the tables are there, since an import of the archive has committed something.
fn was_loaded(history: &[BatchRecord], archive_id: &str) -> bool {
    history.iter().any(|batch| {
        let half = batch.details.resume.as_ref().map(|point| &point.archive_id);
        let whole = batch.details.archives.iter().map(|archive| &archive.archive_id);
        whole.chain(half).any(|id| id == archive_id)
    })
}

/// An error of a run, with what earlier ones have left in the target.
fn with_half(error: Error, half: Option<&BatchRecord>) -> Error {
    match half.and_then(|batch| Some((batch.batch_id, batch.details.resume.as_ref()?))) {
        Some((id, point)) => error.leaving_half(&show_count(point.rows, "rows"), id),
        None => error,
    }
}

/// Loads an archive in groups of chunks. After an error, and after a kill, what the groups before have brought is in the
/// target, and the history says how far the batch has come.
///
/// # Errors
/// As [`import`](super::import()), or if the batch that is gone on with has begun with other rows or options.
pub async fn import_in_groups<'a>(
    part: Part<'a>,
    groups: Groups<'a>,
    mut options: ImportOptions,
    progress: &'a Progress,
    cancel: &'a Cancel,
) -> Result<Imported> {
    let history = groups.history.as_deref().unwrap_or_default();
    // of what is no archive it is not known which one it should be
    let begun = halves(history).pop();
    let mut archive_input = part.open.await.map_err(|e| with_half(e, begun))?;
    let asked = fingerprint(&options.plan);
    let archive_id = archive_input.header.archive_id.clone();
    let resumed = resumable(history, &archive_id)?;
    let point = resumed.as_ref().and_then(|batch| batch.details.resume.clone());
    if let (Some(point), Some(batch)) = (&point, &resumed) {
        require_same(point, &asked, batch.batch_id)?;
        if point.chunks > 0 {
            let (number, checkpoint) = (point.chunks, point.checkpoint.clone());
            archive_input.require(ChunkPlace { number, checkpoint });
        }
        // what was cleared is cleared
        options.plan.own_rows = OwnRows::Stay;
        for parent in &point.parents {
            options.plan.conflicts = options.plan.conflicts.with(parent, OnConflict::Skip);
        }
    }
    let are_there = resumed.is_some() || was_loaded(history, &archive_id);
    let opening = if are_there { Opening::Next } else { Opening::First };
    let opened = open_and_hold(&groups, opening).await;
    let (target, held) = opened.map_err(|e| with_half(e, resumed.as_ref()))?;
    let part = Part { rejects: part.rejects, ..Part::opened(part.name, archive_input) };
    let word = target.catalog().backend.word();
    let begins = groups.history.is_some() && resumed.is_none();
    let mut batch = resumed.clone().unwrap_or_else(|| BatchRecord::start(BatchKind::Import, word));
    if resumed.is_some() {
        batch.go_on();
    }
    let numbers = batch.details.numbers.clone();
    let mut record = Some(batch);
    let (prepared, loading) = begin(part, target, &options, (&mut record, &numbers), true, cancel)
        .await
        .map_err(|e| with_half(e, resumed.as_ref()))?;
    let Some(batch) = record else {
        let error = Error::new(Code::Internal, "a batch without a history");
        return Err(loading.fail(error).await);
    };
    let plan = Arc::clone(&prepared.import.plan);
    let done = point.clone().unwrap_or_else(|| ResumePoint {
        archive_id,
        chunks: 0,
        checkpoint: String::new(),
        rows: 0,
        ahead: Vec::new(),
        parents: Vec::new(),
        options: asked,
    });
    let mut total = ImportStats::default();
    total.add_notices(begins.then(begun_anew));
    let run = Run {
        groups,
        cuts: Cuts::of(&plan),
        later: later_plan(&plan),
        committed: point.as_ref().map(|point| point.rows),
        before: done.clone(),
        batch,
        numbers,
        total,
        done,
        begun: 0,
        last: None,
        pinned: None,
        undivided: false,
        was_shared: false,
        progress,
        cancel,
        _held: held,
    };
    run.load(prepared, loading).await
}

/// What people should know who have asked to go on where there is nothing to go on with.
fn begun_anew() -> Notice {
    let text =
        "--resume found nothing of this archive that an import had begun with: this one begins";
    Notice::new(NoticeKind::Begun, text)
}

/// A target, and what keeps other batches away from it until the last group.
type HeldTarget = (Box<dyn Target>, Option<Box<dyn Send + Sync>>);

/// Opens the target and holds it for all groups.
async fn open_and_hold(groups: &Groups<'_>, opening: Opening) -> Result<HeldTarget> {
    let mut target = (groups.open)(opening).await?;
    match target.hold().await {
        Ok(held) => Ok((target, held)),
        Err(error) => Err(target.fail(error).await),
    }
}

/// Refuses to go on with other options.
fn require_same(point: &ResumePoint, options: &str, batch: Uuid) -> Result<()> {
    if point.options == options {
        return Ok(());
    }
    let what = "the options are not those with which the import has begun";
    Err(Error::new(Code::Usage, what).hint(format!(
        "give the same options, with --resume in the place of --resumable; to begin with these, \
         chronicle-dump rollback {batch} --from DB takes back what is done"
    )))
}

/// What stands for the options of a plan.
fn fingerprint(options: &PlanOptions) -> String {
    chronicle_archive::hex::sha256(format!("{options:?}").as_bytes())
}

/// The plan of later groups: what is cleared first is cleared once.
fn later_plan(plan: &Arc<Plan>) -> Arc<Plan> {
    match plan.options.own_rows {
        OwnRows::Stay => Arc::clone(plan),
        _ => {
            let options = PlanOptions { own_rows: OwnRows::Stay, ..plan.options.clone() };
            Arc::new(Plan { options, ..Plan::clone(plan) })
        }
    }
}

/// An import that is committed in groups, while it runs.
struct Run<'a> {
    groups: Groups<'a>,
    cuts: Cuts,
    /// The plan of the groups behind the first one.
    later: Arc<Plan>,
    batch: BatchRecord,
    numbers: BatchNumbers,
    /// What the groups have done.
    total: ImportStats,
    /// How far the rows go that are loaded.
    done: ResumePoint,
    /// The rows that are in the target for good, with any.
    committed: Option<u64>,
    /// The chunks that earlier runs have loaded.
    before: ResumePoint,
    /// The chunks of which this group has rows.
    begun: u64,
    /// The stream and the chunk of the last rows.
    last: Option<(usize, ChunkPlace)>,
    /// A stream that has rows without a key, which only their content tells apart.
    pinned: Option<usize>,
    /// Whether no group ends any more before the archive does.
    undivided: bool,
    /// Whether several connections have loaded.
    was_shared: bool,
    progress: &'a Progress,
    cancel: &'a Cancel,
    /// What keeps other batches away until the end.
    _held: Option<Box<dyn Send + Sync>>,
}

impl Run<'_> {
    async fn load(mut self, prepared: Prepared, mut loading: Box<dyn Loading>) -> Result<Imported> {
        let Prepared { archive_input, batch, empty, mut transformer, mut import } = prepared;
        let keys = async {
            require_same_numbers(&import.plan, loading.as_mut(), &self.numbers).await?;
            self.cancel.or(load_existing_keys(transformer.keys(), loading.keys())).await
        };
        if let Err(error) = keys.await {
            return Err(self.fail(loading, error).await);
        }
        let ended = match empty {
            Some(sealed) => Ok(End { transformer, sealed, left_out: archive_input.left_out() }),
            None => {
                let (plan, on_problem) = (&import.plan, import.on_problem);
                match TransformWorker::start(archive_input, batch, transformer, plan, on_problem) {
                    Ok(mut worker) => {
                        loading = self.load_rows(&mut import, loading, &mut worker).await?;
                        worker.end()
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match ended {
            Ok(end) => self.end(import, loading, end).await,
            Err(error) => Err(self.fail(loading, error).await),
        }
    }

    /// Loads the rows that the worker brings, group by group; gives the transaction of the last one.
    async fn load_rows(
        &mut self,
        import: &mut Import,
        mut loading: Box<dyn Loading>,
        worker: &mut TransformWorker,
    ) -> Result<Box<dyn Loading>> {
        loop {
            let mut rows = match next(worker, self.cancel).await {
                Ok(Some(rows)) => rows,
                Ok(None) => return Ok(loading),
                Err(error) => return Err(self.fail(loading, error).await),
            };
            let together = self.goes_side_by_side(loading.as_ref(), &rows);
            if together || self.ends_before(import, &rows) {
                loading = match self.end_before(import, loading).await? {
                    Some(loading) => loading,
                    None if together => {
                        self.load_side_by_side(import, worker, rows).await?;
                        return self.begin(Opening::Next).await.map_err(|e| self.stopped(e));
                    }
                    None => self.begin(Opening::Next).await.map_err(|e| self.stopped(e))?,
                };
            }
            let rejected = match self.is_there(&rows) {
                true => Ok(Vec::new()),
                false => write(import, loading.as_mut(), &mut rows, self.cancel).await,
            };
            match rejected {
                Ok(rejected) => {
                    self.progress.add_rows(rows.rows);
                    self.note(&rows);
                    worker.done(rows, rejected);
                }
                Err(error) => return Err(self.fail(loading, error).await),
            }
        }
    }

    /// Whether these rows and all that follow are loaded by several connections.
    fn goes_side_by_side(&self, loading: &dyn Loading, rows: &LoadBatch) -> bool {
        let is_new = self.last.as_ref().is_none_or(|(_, place)| *place != rows.chunk);
        let asked = self.groups.jobs > 1 && is_new && !self.undivided && self.pinned.is_none();
        asked && self.cuts.are_apart_from(rows.batch.stream()) && loading.shares_tables()
    }

    /// Loads these rows and all that follow by several connections, each of which commits its own groups.
    async fn load_side_by_side(
        &mut self,
        import: &mut Import,
        worker: &mut TransformWorker,
        first: LoadBatch,
    ) -> Result<()> {
        let share = Share {
            open: &self.groups.open,
            batch: &self.batch,
            plan: &self.later,
            chunks: self.groups.chunks,
            progress: self.progress,
            cancel: self.cancel,
        };
        let done = share.load(import, worker, first, (self.groups.jobs, &self.before)).await;
        self.was_shared = true;
        // what they have committed is in the history alone
        let Loaded { batch, stats, failed } = done;
        self.total.add(stats);
        if let Some(batch) = batch {
            self.committed = batch.details.resume.as_ref().map(|resume| resume.rows);
            self.batch = batch;
        }
        let Some(error) = failed else { return Ok(()) };
        // the history gets the error, if the target can still be reached
        let (open, with) = (&self.groups.open, (&self.batch, &self.later));
        let error = match begin_group(open, Opening::Next, with, &Cancel::default()).await {
            Ok(loading) => loading.fail(error).await,
            Err(_) => error,
        };
        Err(self.stopped(error))
    }

    /// Whether rows are in the target for good. Those that others refer to are loaded again, so that it is known which of
    /// them the target has under another key.
    fn is_there(&self, rows: &LoadBatch) -> bool {
        self.before.has(rows.chunk.number) && !self.cuts.is_parent[rows.batch.stream()]
    }

    /// Whether the group should end before these rows, and may.
    fn ends_before(&mut self, import: &Import, rows: &LoadBatch) -> bool {
        let next = rows.batch.stream();
        if self.pinned.is_some_and(|pinned| pinned != next) {
            self.pinned = None;
        }
        let ends = match &self.last {
            Some((last, place)) if *place != rows.chunk => {
                self.begun >= self.groups.chunks
                    && !self.undivided
                    && self.pinned.is_none()
                    && self.cuts.between(*last, next)
            }
            _ => false,
        };
        if import.plan.streams[next].table().is_some_and(|table| lacks_keys(table, rows)) {
            self.pinned = Some(next);
        }
        ends
    }

    /// Notes that rows are done.
    fn note(&mut self, rows: &LoadBatch) {
        let is_new = self.last.as_ref().is_none_or(|(_, place)| *place != rows.chunk);
        if is_new {
            self.last = Some((rows.batch.stream(), rows.chunk.clone()));
        }
        if self.before.has(rows.chunk.number) {
            return;
        }
        self.begun += u64::from(is_new);
        let chunk = is_new.then(|| done_chunk(&rows.chunk));
        self.done.add(chunk, rows.rows as u64);
    }

    /// Commits the group, unless what follows needs to know of its rows what only its transaction does, under which other
    /// keys the target has them: then this goes on.
    async fn end_before(
        &mut self,
        import: &Import,
        mut loading: Box<dyn Loading>,
    ) -> Result<Option<Box<dyn Loading>>> {
        match self.cancel.or(loading.has_other_keys(&self.cuts.parents)).await {
            Ok(false) => {}
            Ok(true) => {
                self.undivided = true;
                let text = "what follows is loaded in one transaction: rows that it refers to are in the target \
                            under another key";
                self.total.add_notices([Notice::new(NoticeKind::OneTransaction, text)]);
                return Ok(Some(loading));
            }
            Err(error) => return Err(self.fail(loading, error).await),
        }
        let last = self.last.as_ref().map_or(0, |(stream, _)| stream + 1);
        let parents = import.plan.streams[..last].iter().zip(&self.cuts.is_parent);
        let parents = parents.filter(|(_, is_parent)| **is_parent);
        self.done.parents = parents.map(|(stream, _)| stream.name().to_owned()).collect();
        self.batch.details.resume = Some(self.done.clone());
        let sealed = async {
            let (stats, numbers) = (
                end_group(import, loading.as_mut(), self.cancel, self.progress),
                &mut self.numbers,
            );
            let stats = stats.await?;
            note_numbers(&import.plan, loading.as_mut(), numbers).await?;
            self.total.add(stats);
            self.seal(loading.as_mut()).await
        };
        if let Err(error) = sealed.await {
            return Err(self.fail(loading, error).await);
        }
        self.progress.enter(Phase::Committing);
        if let Err(error) = loading.commit().await {
            return Err(self.stopped(error));
        }
        self.progress.enter(Phase::Loading);
        (self.committed, self.begun) = (Some(self.done.rows), 0);
        Ok(None)
    }

    /// Opens the target again and starts the transaction of the next group.
    async fn begin(&self, opening: Opening) -> Result<Box<dyn Loading>> {
        let (open, plan) = (&self.groups.open, &self.later);
        begin_group(open, opening, (&self.batch, plan), self.cancel).await
    }

    /// Writes into the transaction what the history says of the batch then.
    async fn seal(&mut self, loading: &mut dyn Loading) -> Result<()> {
        self.batch.details.numbers = self.numbers.clone();
        // a stop is still in time
        let notice = self.cancel.or(loading.seal(&mut self.batch)).await?;
        self.total.add_notices(notice);
        Ok(())
    }

    /// Ends the last group, and with it the batch.
    async fn end(
        mut self,
        import: Import,
        mut loading: Box<dyn Loading>,
        end: End,
    ) -> Result<Imported> {
        self.progress.enter(Phase::Verifying);
        if self.groups.jobs > 1 && !self.was_shared && !self.undivided {
            self.total.add_notices([one_connection(loading.shares_tables())]);
        }
        let sealed = async {
            let stats = end_group(&import, loading.as_mut(), self.cancel, self.progress).await?;
            note_numbers(&import.plan, loading.as_mut(), &mut self.numbers).await?;
            self.total.add(stats);
            let mut imported = self.imported(import, end)?;
            self.batch.details.resume = None;
            self.batch.details.archives = vec![imported.loaded_archive()];
            self.seal(loading.as_mut()).await?;
            imported.stats.add_notices(std::mem::take(&mut self.total.notices));
            Ok(imported)
        };
        let mut imported = match sealed.await {
            Ok(imported) => imported,
            Err(error) => return Err(self.fail(loading, error).await),
        };
        self.progress.enter(Phase::Committing);
        if let Err(error) = loading.commit().await {
            return Err(self.stopped(error));
        }
        (imported.committed, imported.batch) = (true, Some(self.batch.batch_id));
        Ok(imported)
    }

    fn imported(&mut self, mut import: Import, end: End) -> Result<Imported> {
        let End { transformer, sealed, left_out } = end;
        import.notices.extend(left_out);
        import.finish(&transformer, std::mem::take(&mut self.total), sealed)
    }

    /// Takes the group back because of an error.
    async fn fail(&self, loading: Box<dyn Loading>, error: Error) -> Error {
        let error = loading.fail(error).await;
        self.stopped(error)
    }

    /// An error, with what is in the target all the same.
    fn stopped(&self, error: Error) -> Error {
        match self.committed {
            None => error,
            Some(rows) => error.leaving_half(&show_count(rows, "rows"), self.batch.batch_id),
        }
    }
}

/// What people should know who have asked for several connections in vain.
fn one_connection(shares_tables: bool) -> Notice {
    let why = match shares_tables {
        true => "its rows refer to each other",
        false => {
            "only an ALTER TABLE keeps the triggers of the tables from firing, and others wait for that"
        }
    };
    let text = format!("everything was loaded by one connection: {why}");
    Notice::new(NoticeKind::OneConnection, text)
}
