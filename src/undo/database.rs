//! A database as `history` and `rollback` see it: its batches, their receipts, and the transaction that undoes one.

use std::fs::File;

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Shape, UndoSql};
use crate::error::{Error, Result};
use crate::history::BatchRecord;
use crate::notice::Notice;

/// A database whose history is open.
pub trait HistoryDatabase: Send {
    /// What the user should know about the way to it.
    fn notices(&self) -> Vec<Notice>;

    /// Its batches, the oldest first; none if nothing of ours is in it.
    fn history(&mut self) -> BoxFuture<'_, Result<Vec<BatchRecord>>>;

    /// The receipts of a batch, put together in a nameless temporary file. They are not verified.
    fn receipts(&mut self, batch: Uuid) -> BoxFuture<'_, Result<File>>;

    /// Removes the receipts of batches, which says so in the history.
    fn prune<'a>(&'a mut self, batches: &'a [BatchRecord]) -> BoxFuture<'a, Result<()>>;

    /// Starts the transaction of a rollback: it stands in the history as started, nobody else writes the tables of the
    /// shape, and nothing in them acts by itself. Without a record it is a rehearsal, which leaves nothing behind.
    fn begin<'a>(
        self: Box<Self>,
        rollback: Option<&'a BatchRecord>,
        shape: &'a Shape,
    ) -> BoxFuture<'a, Result<Box<dyn Undoing>>>;
}

/// The transaction of a rollback. Dropping it uncommitted leaves the database as it was.
pub trait Undoing: Send {
    /// The batches as they stand now that nobody else can write one; none of a rehearsal.
    fn history(&mut self) -> BoxFuture<'_, Result<Vec<BatchRecord>>>;

    /// What runs its statements.
    fn sql(&mut self) -> Box<dyn UndoSql + '_>;

    /// Undoes what is no row: sequences get the number back that they gave last, if nobody has taken one since, and
    /// columns that the batch has added go, those of the shape; of a rollback, they come back. Gives what was done, as
    /// the shape of this rollback has it.
    fn undo_objects<'a>(&'a mut self, shape: &'a Shape) -> BoxFuture<'a, Result<Shape>>;

    /// Writes the receipts of the rollback, reads them back, completes it in the history, and writes there what has become
    /// of other batches.
    fn seal<'a>(
        &'a mut self,
        rollback: &'a mut BatchRecord,
        others: &'a [BatchRecord],
        shape: Shape,
    ) -> BoxFuture<'a, Result<()>>;

    /// Makes everything visible at once.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Takes everything back; with an error, the history says that the rollback failed.
    fn abort(self: Box<Self>, error: Option<Error>) -> BoxFuture<'static, Option<Error>>;
}
