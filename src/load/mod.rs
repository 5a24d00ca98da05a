//! The far end of the line: what every database that is imported into offers.

pub mod bench_skip;
mod conflict;
mod dry_run;
mod numbers;
mod preflight;
mod problems;
mod rejected;
pub mod rejects;
pub mod row_sketch;
mod stats;
mod verdict;

pub use conflict::{
    CONFLICT_HINT, Conflict, ConflictList, Decision, key_not_unique, still_referred, unsettled,
};
pub use dry_run::DryRun;
pub use numbers::{BatchNumbers, note_numbers, numbered, require_same_numbers};
pub use preflight::Preflight;
pub use problems::{KEYS, OnProblem, Problem, Problems, REJECT, SAMPLES};
pub use rejected::{Cause, Rejected};
pub use stats::{BatchEnd, ConflictOf, ImportStats, OrphansOf, StreamStats, add_changes, without};
pub use verdict::Verdict;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use uuid::Uuid;

use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::history::BatchRecord;
use crate::layout::Layout;
use crate::notice::Notice;
use crate::numbers::TableNumbers;
use crate::plan::Plan;
use crate::policy::Compression;
use crate::progress::Progress;
use crate::sidecar::SidecarEntry;
use chronicle_archive::{Batch, Value};

/// What to type where a file is yet to be created.
pub const CREATE_FILE: &str = "--create creates a new database in the layout of Chronicle's hooks";
/// What to type where the tables are.
pub const CREATE_TABLES: &str = "--create creates Chronicle's tables";

/// How a target is opened.
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// The layout whose tables are created first.
    pub create: Option<Layout>,
    /// The layout that the tables must have; without it they are recognised.
    pub layout: Option<Layout>,
    /// How Postgres compresses the large values of the rows; LZ4 without it, where the server has it.
    pub compression: Option<Compression>,
    /// How long it waits for another batch that holds the target.
    pub wait: Option<Duration>,
    /// Whether others may also read empty tables during the load; else their indexes may be built afterwards.
    pub readers_go_on: bool,
    /// Whether the batch is committed in groups, and somebody holds the target for all of them.
    pub in_groups: bool,
    /// Whether other connections of the same import load into the same tables at the same time.
    pub side_by_side: bool,
}

/// Rows on their way into one table.
pub struct Rows<'a> {
    /// The number of the stream in the plan.
    pub stream: usize,
    /// The rows as the archive has them.
    pub source: &'a Batch,
    /// The rows in the columns of the plan and the types of the target.
    pub rows: &'a Batch,
    /// The row of the source that each comes from.
    pub from: &'a [usize],
    /// What the target cannot hold of these rows, by their numbers.
    pub sidecar: &'a [SidecarEntry],
    /// Rows that no table takes, each stored whole: all of a stream without a table, or duplicates.
    pub whole_rows: &'a [SidecarEntry],
    /// Rows that are loaded and also stored whole, by their numbers: they count as loaded.
    pub also_whole: &'a [SidecarEntry],
}

/// An integer that a row has as its id, and what the id was where the row came from.
pub type ExistingKey = (Option<String>, i64);

/// Which integers of a table a target is asked for.
#[derive(Debug, Clone)]
pub struct KeysOf {
    /// The table.
    pub table: usize,
    /// The column with which it refers to rows of another table; without it, the ids of its own rows.
    pub refers: Option<usize>,
    /// The names under which the sidecar may store former ids.
    pub kept_as: Vec<String>,
}

/// How many ids a target returns at once: memory does not grow with its rows.
pub const EXISTING_KEYS_PER_CALL: usize = 8192;

/// Where a row of the archive is, for messages.
pub struct RowPlace<'a> {
    /// Its stream.
    pub stream: &'a str,
    /// The table that it goes into.
    pub table: &'a str,
    /// Its number in the archive, counted from 1.
    pub number: u64,
    /// Its key.
    pub key: &'a str,
}

impl std::fmt::Display for RowPlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: row {} (key {})", self.table, self.number, self.key)
    }
}

/// The ids that a target's rows have.
pub trait ExistingKeys: Send {
    /// The next ids behind `after` that a table has now, in their order, with those that they were where
    /// their rows came from; at most [`EXISTING_KEYS_PER_CALL`], and none when there are no more. Of ids
    /// that refer to other rows only those with a former one in the sidecar.
    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>>;

    /// Of each table, in the order of the catalog, whose its integer ids are and how far they reach; None of those whose
    /// key is something else.
    fn table_numbers(&mut self) -> BoxFuture<'_, Result<Vec<Option<TableNumbers>>>>;

    /// The UUIDs that rows of a table have as ids, with the ids that these rows had where they came
    /// from, of those that are UUIDs, too. A database without UUIDs has none.
    fn existing_uuid_spellings<'a>(
        &'a mut self,
        _table: usize,
        _origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// The rows of a target that a restore is about.
pub trait PartKeys: Send {
    /// The key of a stream's row that comes next behind another one, as [bytes](crate::value_bytes); None if there are no
    /// more.
    ///
    /// # Errors
    /// If the temporary disk cannot be read.
    fn next(&self, stream: &str, after: Option<&[u8]>) -> Result<Option<Vec<u8>>>;
}

/// Refuses to restore a part of which some rows have no table.
///
/// # Errors
/// If the plan has such rows.
pub fn no_part_without_a_table(plan: &Plan) -> Result<()> {
    let unmapped = plan.streams.iter().find_map(|stream| stream.unmapped());
    match unmapped {
        None => Ok(()),
        Some(of) => Err(Error::new(
            Code::Plan,
            format!("{}: rows without a table of their own cannot be restored in part", of.stream),
        )
        .hint("restore everything, or import the part: --on-conflict update")),
    }
}

/// A database that rows can be loaded into, as it was found.
pub trait Target: Send {
    /// What is known of the database.
    fn catalog(&self) -> &Catalog;

    /// The ids that its rows have.
    fn keys(&mut self) -> &mut dyn ExistingKeys;

    /// What happens to what would stop an import.
    fn on_problem(&self) -> OnProblem {
        OnProblem::Stop
    }

    /// Holds the target for all groups of one import, where there is a way to do that: until what is given here is dropped,
    /// no other batch begins. What is then opened is opened as `in_groups`.
    fn hold(&mut self) -> BoxFuture<'_, Result<Option<Box<dyn Send + Sync>>>> {
        Box::pin(async { Ok(None) })
    }

    /// Begins a batch, before the first transaction: it is in the history as started, and stays there whatever happens.
    /// With `receipts`, what the batch changes is noted, so that it can be undone; without them it may be that the target
    /// can have no history. Gives whether it has.
    fn open_batch<'a>(
        &'a mut self,
        _batch: &'a BatchRecord,
        _receipts: bool,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { Ok(true) })
    }

    /// Restores these rows alone: all others stay, whatever the archive has.
    fn restrict(&mut self, _part: Box<dyn PartKeys>) {}

    /// The same target, which from now on only finds what would stop an import, if it distinguishes the two.
    fn rehearsal(self: Box<Self>) -> Box<dyn Target>;

    /// Starts the transaction for a plan. If it fails or is stopped, nothing of it is left.
    fn begin(
        self: Box<Self>,
        plan: Arc<Plan>,
        cancel: Cancel,
    ) -> BoxFuture<'static, Result<Box<dyn Loading>>>;

    /// Lets go of the database, which is as it was.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// Lets go of the database because of an error, which the history gets if the batch has begun; the error.
    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error>;
}

/// A transaction that takes rows. Dropping it uncommitted leaves the database as it was.
pub trait Loading: Send {
    /// The ids that the rows of the database have.
    fn keys(&mut self) -> &mut dyn ExistingKeys;

    /// Takes the report of a row that stops an import.
    ///
    /// # Errors
    /// The error of the row, unless problems are collected.
    fn report(&mut self, row: &RowPlace<'_>, cause: &Cause) -> Result<()> {
        Err(cause.error(&row.to_string()))
    }

    /// Whether a commit makes the rows visible.
    fn keeps_rows(&self) -> bool {
        true
    }

    /// The columns of a stream, among those that are written, whose values only the database can read.
    fn judged_columns(&self, _stream: usize) -> Vec<usize> {
        Vec::new()
    }

    /// What the database makes of values of such columns; nothing of those that it holds as they are.
    fn judge<'a>(
        &'a mut self,
        _stream: usize,
        values: &'a [(usize, Value<'a>)],
    ) -> BoxFuture<'a, Result<Vec<Option<Verdict>>>> {
        Box::pin(async { Ok(vec![None; values.len()]) })
    }

    /// Loads rows. A row that exists already with the same content is skipped, one with other
    /// content is an error. Rows that break a constraint of the target are left out and returned.
    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>>;

    /// Ends the stream whose rows came last, and says whether rows of some tables are there under another key than in the
    /// archive: what refers to them must come in the same transaction, which alone knows that.
    fn has_other_keys<'a>(&'a mut self, tables: &'a [usize]) -> BoxFuture<'a, Result<bool>>;

    /// Whether other connections of the same import may load into these tables at the same time.
    fn shares_tables(&self) -> bool {
        false
    }

    /// The batch as the history has it, which nobody else changes until the commit.
    fn lock_batch(&mut self) -> BoxFuture<'_, Result<BatchRecord>> {
        Box::pin(async { Err(Error::new(Code::Internal, "a batch that cannot be locked")) })
    }

    /// Ends the loading: decides what had to wait for all rows, checks every reference, reads back
    /// what was loaded, and returns what was done. Nothing is visible to others yet.
    fn finalize<'a>(&'a mut self, progress: &'a Progress) -> BoxFuture<'a, Result<ImportStats>>;

    /// What has turned out now that the rows of all archives have come.
    fn end_batch(&mut self) -> BoxFuture<'_, Result<BatchEnd>>;

    /// Keeps what was loaded, still unseen by others, and takes the rows of another archive.
    fn go_on(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Target>>>;

    /// Ends the batch: writes its receipts, reads them back, and completes it in the history; all of it is part of the
    /// transaction. Gives what people should know of it.
    fn seal<'a>(
        &'a mut self,
        _batch: &'a mut BatchRecord,
    ) -> BoxFuture<'a, Result<Option<Notice>>> {
        Box::pin(async { Ok(None) })
    }

    /// Makes everything visible at once.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Takes everything back.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// Takes everything back because of an error; the error, with what is left behind all the same.
    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error>;
}
