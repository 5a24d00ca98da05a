//! Rollback: a batch is taken back, all of it or nothing, and its rows are what they were before it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchKind, BatchRecord, BatchStatus, ReceiptsDigest, find};
use crate::undo::{
    HistoryDatabase, Met, ReceiptsFiles, ReceiptsReader, Shape, Standing, Undoing, take_back,
    verified,
};
use chronicle_archive::show_count;

/// What the user decides about a rollback.
#[derive(Debug, Clone, Default)]
pub struct RollbackOptions {
    /// The batch: its id, the start of it, or `last`.
    pub batch: String,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether rows stay that were edited or are referred to, and the rest is undone.
    pub force: bool,
}

/// What was undone.
#[derive(Debug)]
pub struct RolledBack {
    /// The batch that was undone.
    pub undone: BatchRecord,
    /// The rollback itself, if it was committed.
    pub rollback: Option<BatchRecord>,
    /// What was taken back, and what was not.
    pub standing: Standing,
    /// Later batches that build on it.
    pub later: Vec<LaterBatch>,
    /// What would stop it, if it is only looked at.
    pub stopped: Option<Error>,
}

/// A later batch that builds on one which is undone.
#[derive(Debug, Clone)]
pub struct LaterBatch {
    /// The batch.
    pub record: BatchRecord,
    /// What it has to do with the other one.
    pub met: Met,
}

impl LaterBatch {
    /// What it has done, in words.
    pub fn sentence(&self) -> String {
        let done = match self.met {
            Met::Rows => "has changed rows of this one since, or refers to them",
            Met::Columns => "has loaded rows with the columns of this one since",
            Met::ItsColumns => "has used the same tables with other columns since",
            Met::Tables | Met::Nothing => "has changed the same tables since",
        };
        format!("a later batch {done}: {}", self.record)
    }
}

/// Undoes a batch.
///
/// # Errors
/// No such batch, one that cannot be undone, damaged receipts, tables that were changed, or rows that were edited or
/// referred to since and are not to stay. The database is as before then.
pub async fn rollback(
    mut database: Box<dyn HistoryDatabase>,
    backend: &str,
    options: &RollbackOptions,
    cancel: &Cancel,
) -> Result<RolledBack> {
    let history = database.history().await?;
    let undone = find(&history, &options.batch)?.clone();
    undone.require_undoable()?;
    let files = verified_receipts(database.as_mut(), &undone).await?;
    let mut receipts = ReceiptsReader::open(files)?.of_changed(&undone.details.tables);
    let mut record = BatchRecord::start(BatchKind::Rollback, backend);
    if receipts.shape.added_columns.iter().any(|column| !column.dropped) {
        let others = other_imports(&history, &undone, &record);
        let mut shapes = Vec::new();
        for batch in others {
            let opened = receipts_of(database.as_mut(), batch).await;
            shapes.extend(opened.map(|receipts| receipts.shape));
        }
        receipts.shape.without_columns_of(&shapes);
    }
    let shape = receipts.shape.clone();
    let mut later = Vec::new();
    for batch in candidates(&history, &undone, &shape) {
        let receipts = receipts_of(database.as_mut(), &batch).await;
        later.push((batch, receipts));
    }
    // the rows come from the receipts in the database itself
    record.source_backend = Some(backend.to_owned());
    record.details.undoes = Some(undone.batch_id);
    let started = (!options.dry_run).then_some(&record);
    let mut undoing = database.begin(started, &shape).await?;
    let back = async {
        let now = still_undoable(undoing.as_mut(), &history, &undone, &shape).await?;
        let found = undo(undoing.as_mut(), receipts, &undone, &now, options, later).await?;
        Ok((found, now))
    };
    let done = match cancel.or(back).await {
        Ok((found, _)) if options.dry_run => {
            undoing.abort(None).await;
            let Found { standing, later, stopped, .. } = found;
            return Ok(RolledBack { undone, rollback: None, standing, later, stopped });
        }
        Ok((found, now)) => {
            let others = undone_now(&now, &undone, &record);
            let objects = found.objects.clone();
            let sealed = cancel.or(undoing.seal(&mut record, &others, objects)).await;
            sealed.map(|()| found)
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(Found { standing, later, stopped, .. }) => {
            undoing.commit().await?;
            Ok(RolledBack { undone, rollback: Some(record), standing, later, stopped })
        }
        Err(error) => {
            let internal = || Error::new(Code::Internal, "the rollback failed");
            Err(undoing.abort(Some(error)).await.unwrap_or_else(internal))
        }
    }
}

/// The receipts of another batch, if it has any that can be read.
async fn receipts_of(
    database: &mut dyn HistoryDatabase,
    batch: &BatchRecord,
) -> Option<ReceiptsReader> {
    let said = batch.details.receipts.as_ref().filter(|receipts| !receipts.pruned)?;
    let stored = database.receipts(batch.batch_id).await;
    let opened = stored.and_then(|stored| parts(stored, said)).and_then(ReceiptsReader::open);
    opened.ok().map(|receipts| receipts.of_changed(&batch.details.tables))
}

/// The imports and restores that are in the database also when a batch is undone.
fn other_imports<'a>(
    history: &'a [BatchRecord],
    undone: &BatchRecord,
    rollback: &BatchRecord,
) -> Vec<&'a BatchRecord> {
    let changed = undone_now(history, undone, rollback);
    let stays = |batch: &&BatchRecord| {
        batch.kind != BatchKind::Rollback
            && batch.stands()
            && changed.iter().all(|other| other.batch_id != batch.batch_id)
    };
    history.iter().filter(stays).collect()
}

/// The batches as they stand under the lock: somebody may have undone this one while it was waited for.
async fn still_undoable(
    undoing: &mut dyn Undoing,
    before: &[BatchRecord],
    undone: &BatchRecord,
    shape: &Shape,
) -> Result<Vec<BatchRecord>> {
    let mut now = undoing.history().await?;
    if now.is_empty() {
        // a rehearsal, which has no lock
        now = before.to_vec();
    }
    let same = now.iter().find(|batch| batch.batch_id == undone.batch_id);
    same.map_or(Ok(()), BatchRecord::require_undoable)?;
    let is_known = |batch: &&BatchRecord| {
        before.iter().any(|b| b.batch_id == batch.batch_id && b.status == batch.status)
    };
    let ended = |batch: &&BatchRecord| {
        matches!(batch.status, BatchStatus::Completed | BatchStatus::RolledBack)
    };
    match now.iter().filter(ended).find(|batch| !is_known(batch)) {
        // whose rows may have a column that this one drops
        Some(other) if !shape.added_columns.is_empty() => {
            let what = format!("another batch has ended meanwhile: {other}; nothing was changed");
            Err(Error::new(Code::Conflict, what).hint("run the rollback again"))
        }
        _ => Ok(now),
    }
}

/// The tables into which later imports and restores have brought rows, which are in the database.
fn written_later(history: &[BatchRecord], undone: &BatchRecord) -> Vec<String> {
    let later = history.iter().filter(|batch| {
        batch.batch_id > undone.batch_id && batch.stands() && batch.kind != BatchKind::Rollback
    });
    let tables = later.flat_map(|batch| &batch.details.tables);
    tables.filter(|table| table.inserted > 0).map(|table| table.table.clone()).collect()
}

/// What has become of other batches: the one that is undone is gone; the one that it had undone itself is in the database
/// again, what that one had undone is gone again, and so on.
fn undone_now(
    history: &[BatchRecord],
    undone: &BatchRecord,
    rollback: &BatchRecord,
) -> Vec<BatchRecord> {
    let (mut all, mut next, mut by) = (Vec::new(), Some(undone), Some(rollback.batch_id));
    while let Some(batch) = next {
        let mut now = batch.clone();
        now.details.undone_by = by;
        now.status = match (by, &batch.details.resume) {
            (Some(_), _) => BatchStatus::RolledBack,
            (None, Some(_)) => BatchStatus::Failed,
            (None, None) => BatchStatus::Completed,
        };
        // the next one is gone if this one is not
        by = by.is_none().then_some(batch.batch_id);
        next = history.iter().find(|b| Some(b.batch_id) == batch.details.undoes);
        all.push(now);
    }
    all
}

/// What was found of a batch, and taken back unless it is only looked at.
struct Found {
    standing: Standing,
    later: Vec<LaterBatch>,
    /// What stops the rollback, if it is only looked at.
    stopped: Option<Error>,
    /// What was done beside the rows.
    objects: Shape,
}

/// Finds what can be taken back and, unless it is only looked at, takes it back.
async fn undo(
    undoing: &mut dyn Undoing,
    receipts: ReceiptsReader,
    undone: &BatchRecord,
    history: &[BatchRecord],
    options: &RollbackOptions,
    candidates: Vec<(BatchRecord, Option<ReceiptsReader>)>,
) -> Result<Found> {
    let mut shape = receipts.shape.clone();
    let needed = met_by_columns(&shape, &candidates)?;
    let mut sql = undoing.sql();
    fault::point("rollback: before rows are found")?;
    let described = written_later(history, undone);
    let (back, mut standing) = take_back(sql.as_mut(), receipts, &described).await?;
    fault::point("rollback: after rows are found")?;
    let mut later = Vec::new();
    for (record, receipts) in candidates {
        let met = match receipts {
            Some(receipts) if shape.columns_met_by(&receipts.shape) != Met::Nothing => Met::Columns,
            Some(receipts) => back.met_by(sql.as_mut(), receipts).await?,
            None => Met::Tables,
        };
        if met != Met::Nothing {
            later.push(LaterBatch { record, met });
        }
    }
    if standing.kept() > 0 && options.force {
        standing = back.keep_descriptions_of_rest(sql.as_mut(), standing).await?;
    }
    standing.columns = back.columns(sql.as_mut(), &needed).await?;
    let stopped = if options.force { None } else { stopped_by(&standing, &later) };
    match stopped {
        stopped if options.dry_run => {
            return Ok(Found { standing, later, stopped, objects: Shape::default() });
        }
        Some(error) => return Err(error),
        None => {}
    }
    shape.added_columns.retain(|column| column.dropped || standing.drops(column));
    back.apply(sql.as_mut()).await?;
    drop(sql);
    fault::point("rollback: before objects are undone")?;
    let objects = undoing.undo_objects(&shape).await?;
    fault::point("rollback: after objects are undone")?;
    Ok(Found { standing, later, stopped: None, objects })
}

/// The receipts of a batch, read from the first to the last byte.
///
/// # Errors
/// If they are not what the history says.
pub async fn verified_receipts(
    database: &mut dyn HistoryDatabase,
    batch: &BatchRecord,
) -> Result<ReceiptsFiles> {
    let damaged = |e: Option<Error>| {
        let what = format!("the receipts of {} are damaged", batch.batch_id);
        let what = match e {
            Some(e) => format!("{what}: {}", e.full()),
            None => format!("{what}: their digest is not that of the history"),
        };
        Error::new(Code::ArchiveDamaged, format!("{what}; nothing was changed"))
            .hint("restore a backup instead: chronicle-dump restore ARCHIVE --to DB")
    };
    let stored = database.receipts(batch.batch_id).await?;
    let Some(said) = &batch.details.receipts else { return Err(damaged(None)) };
    let mut files = parts(stored, said)?;
    let digests = said.earlier.iter().map(|part| &part.digest).chain([&said.digest]);
    let deleted = said.deleted.iter().map(|part| &part.digest);
    let all = files.receipts.iter_mut().zip(digests).chain(files.deleted.iter_mut().zip(deleted));
    for (file, said) in all {
        let digest = verified(file).map_err(|e| damaged(Some(e)))?;
        if digest != *said {
            return Err(damaged(None));
        }
    }
    Ok(files)
}

/// Receipts as they are stored, one part behind the other, as files of their own.
fn parts(mut stored: File, said: &ReceiptsDigest) -> Result<ReceiptsFiles> {
    let (mut receipts, mut left) = (Vec::new(), said.bytes);
    for part in &said.earlier {
        receipts.push(part_of(&mut stored, part.bytes)?);
        left = left.saturating_sub(part.bytes);
    }
    let deleted = said.deleted.as_ref().map_or(0, |deleted| deleted.bytes);
    // to the end, and not so many bytes: what is too much is damage
    receipts.push(match &said.deleted {
        Some(_) => part_of(&mut stored, left.saturating_sub(deleted))?,
        None => part_of(&mut stored, u64::MAX)?,
    });
    let deleted = said.deleted.as_ref().map(|_| part_of(&mut stored, u64::MAX)).transpose()?;
    Ok(ReceiptsFiles { receipts, deleted })
}

/// The next bytes of a file, as a file of their own.
fn part_of(stored: &mut File, bytes: u64) -> Result<File> {
    let mut part = tempfile::tempfile().map_err(unreadable)?;
    std::io::copy(&mut stored.take(bytes), &mut part).map_err(unreadable)?;
    part.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    Ok(part)
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(Code::Output, "the receipts cannot be read").because(e)
}

/// The later batches, not undone, that may have changed the tables of a batch or such as refer to them. A rollback of one
/// of them is none: together the two have changed nothing.
fn candidates(history: &[BatchRecord], undone: &BatchRecord, shape: &Shape) -> Vec<BatchRecord> {
    let may_concern = |batch: &BatchRecord| {
        // its receipts tell
        batch.details.receipts.as_ref().is_some_and(|receipts| !receipts.pruned)
            || batch.details.tables.iter().any(|t| shape.concerns(&t.table))
    };
    let is_candidate = |batch: &&BatchRecord| {
        batch.batch_id > undone.batch_id
            && batch.stands()
            && batch.details.undoes.is_none_or(|other| other < undone.batch_id)
            && may_concern(batch)
    };
    history.iter().filter(is_candidate).cloned().collect()
}

/// The shapes of later batches whose rows have columns that this one has added.
///
/// # Errors
/// If one of them has to be undone before, whatever is forced: the tables are not as this batch left them, or would not be
/// as that one did.
fn met_by_columns(
    shape: &Shape,
    candidates: &[(BatchRecord, Option<ReceiptsReader>)],
) -> Result<Vec<Shape>> {
    let mut needed = Vec::new();
    for (record, receipts) in candidates.iter().rev() {
        let Some(receipts) = receipts else { continue };
        let met = shape.columns_met_by(&receipts.shape);
        if met == Met::ItsColumns {
            let later = LaterBatch { record: record.clone(), met };
            let what = "the batch and a later one need other columns; nothing was changed";
            let hint = format!("{}; roll that one back first", later.sentence());
            return Err(Error::new(Code::Conflict, what).hint(hint));
        }
        if met == Met::Columns {
            needed.push(receipts.shape.clone());
        }
    }
    Ok(needed)
}

/// What stops a rollback that is not forced.
fn stopped_by(standing: &Standing, later: &[LaterBatch]) -> Option<Error> {
    if standing.kept() > 0 {
        return Some(refused(standing, later));
    }
    let column = standing.columns.iter().find(|column| column.stops())?;
    let what = format!(
        "{}: the column {}, which the batch has added, is used since; nothing was changed",
        column.table, column.column
    );
    let code = if column.is_needed { Code::Conflict } else { Code::Plan };
    let error = Error::new(code, what).with_details(standing.lines());
    let needs = later.iter().rev().find(|batch| batch.met == Met::Columns);
    Some(error.hint(match needs.filter(|_| column.is_needed) {
        Some(batch) => {
            format!("{}; roll that one back first, or undo the rest with --force", batch.sentence())
        }
        None => format!(
            "drop {} first, or --force undoes the rest and leaves the column",
            column.uses.join(", ")
        ),
    }))
}

/// The error of rows that are not as the batch left them.
fn refused(standing: &Standing, later: &[LaterBatch]) -> Error {
    let (kept, taken) = (standing.kept(), standing.taken());
    let mut what = Vec::new();
    if kept > taken {
        let rows = show_count(kept - taken, "rows");
        let were = if kept - taken == 1 { "was" } else { "were" };
        what.push(format!("{rows} of the batch {were} edited or referred to since"));
    }
    if taken > 0 {
        let rows = show_count(taken, "rows");
        what.push(format!("{rows} cannot come back, since other rows have their unique values"));
    }
    let what = format!("{}; nothing was changed", what.join(", and "));
    let error = Error::new(Code::Conflict, what).with_details(standing.lines());
    match later.last() {
        Some(batch) => error.hint(format!(
            "{}; roll that one back first, or undo the rest with --force",
            batch.sentence()
        )),
        None if taken == kept => error.hint(
            "give the other rows other values, or --force undoes the rest and leaves these rows as they are",
        ),
        None => error.hint("--force undoes the rest and leaves these rows as they are"),
    }
}
