//! The far end of the line: what every database that is imported into offers.

pub mod bench_skip;
pub mod rejects;
pub mod row_sketch;

use std::sync::Arc;

use futures::future::BoxFuture;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::plan::Plan;
use crate::policy::Compression;
use crate::sidecar::SidecarEntry;
use crate::source::Orphans;
use chronicle_archive::Batch;

/// How a target is opened.
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// The layout to make there first.
    pub create: Option<Layout>,
    /// The layout that the tables must have; without it they are recognised.
    pub layout: Option<Layout>,
    /// What for.
    pub purpose: Purpose,
    /// How Postgres compresses the large values of the rows; as its settings say without it.
    pub compression: Option<Compression>,
    /// Whether others may read empty tables, too, while rows come; else their indexes may be made later.
    pub readers_go_on: bool,
}

/// What an import is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To load: the first thing that is wrong stops it.
    #[default]
    Load,
    /// To find everything that would be wrong; nothing is locked and nothing stays.
    Check,
}

/// What was done to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StreamStats {
    /// The stream.
    pub stream: String,
    /// Rows that were not there before.
    pub inserted_rows: u64,
    /// Rows that were there already with the same content.
    pub skipped_rows: u64,
    /// Rows that were left out because they refer to nothing.
    pub orphans_skipped: u64,
    /// Rows that were left out because of their values.
    pub rejected_rows: u64,
    /// Sessions that were made for rows which refer to nothing.
    pub adopted_rows: u64,
}

/// What was done to all streams, before or after it was committed.
#[derive(Debug, Clone, Default)]
pub struct ImportStats {
    /// Per stream, in the order of the plan.
    pub loaded: Vec<StreamStats>,
    /// The rows that refer to rows which are not there.
    pub orphans: Vec<Orphans>,
    /// What would stop an import, found by a check.
    pub problems: Vec<Problem>,
    /// What people should know, for example how triggers were kept from firing.
    pub notices: Vec<String>,
}

/// Something that would stop an import, found by a check.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The word of the error it would be.
    pub code: &'static str,
    /// The stream.
    pub stream: String,
    /// The column, if it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// How many rows.
    pub rows: u64,
    /// The keys of the first ones.
    pub first: Vec<String>,
    /// What settles it.
    pub remedy: Option<String>,
}

/// How many keys a problem names; all rows are counted.
pub const SAMPLES: usize = 5;

/// What happens to what would stop an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnProblem {
    /// The first one stops it.
    Stop,
    /// All are collected.
    Collect,
}

/// The problems that a target has found.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes that a row would stop an import with `error`.
    pub fn add(&mut self, stream: &str, column: Option<String>, error: &Error, key: &str) {
        let told = error.full();
        // what is said of one row is its own; the reason behind it is shared
        let reason = told.split_once("): ").map_or(told.as_str(), |(_, reason)| reason);
        self.note(stream, column, error, reason, key);
    }

    /// Notes that a row would stop an import for a reason of `error`'s kind.
    pub fn note(
        &mut self,
        stream: &str,
        column: Option<String>,
        error: &Error,
        reason: &str,
        key: &str,
    ) {
        let code = error.code().word();
        let same = |p: &&mut Problem| {
            p.stream == stream && p.code == code && p.column == column && p.reason == reason
        };
        if let Some(problem) = self.0.iter_mut().find(same) {
            problem.rows += 1;
            if problem.first.len() < SAMPLES {
                problem.first.push(key.to_owned());
            }
            return;
        }
        self.0.push(Problem {
            code,
            stream: stream.to_owned(),
            column,
            reason: reason.to_owned(),
            rows: 1,
            first: vec![key.to_owned()],
            remedy: error.next_step().map(str::to_owned),
        });
    }

    /// Notes what keeps rows from going into a table at all.
    pub fn blocker(&mut self, stream: &str, reason: impl Into<String>, remedy: &str) {
        self.0.push(Problem {
            code: crate::error::Code::Target.word(),
            stream: stream.to_owned(),
            column: None,
            reason: reason.into(),
            rows: 0,
            first: Vec::new(),
            remedy: Some(remedy.to_owned()),
        });
    }

    /// Notes what the server says of rows that it does not count.
    pub fn refused(&mut self, stream: &str, error: &Error) {
        self.0.push(Problem {
            code: error.code().word(),
            stream: stream.to_owned(),
            column: None,
            reason: error.full(),
            rows: 0,
            first: Vec::new(),
            remedy: error.next_step().map(str::to_owned),
        });
    }

    /// Whether any row of a stream would be refused.
    pub fn has(&self, stream: &str) -> bool {
        let blocker = crate::error::Code::Target.word();
        self.0.iter().any(|p| p.stream == stream && p.code != blocker)
    }

    /// Notes a problem as it is.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Notes rows that refer to nothing.
    pub fn orphans(&mut self, orphans: &Orphans) {
        self.0.push(Problem {
            code: crate::error::Code::Orphan.word(),
            stream: orphans.stream.clone(),
            column: Some(orphans.column.clone()),
            reason: "it refers to what is neither in the archive nor in the target".into(),
            rows: orphans.rows,
            first: orphans.first.iter().map(|(key, _)| key.clone()).collect(),
            remedy: Some("--orphans=skip, =adopt, or =keep where the target allows it".into()),
        });
    }

    /// All of them.
    pub fn all(&self) -> Vec<Problem> {
        self.0.clone()
    }
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
    /// The names under which former ids may be kept beside the rows.
    pub kept_as: Vec<String>,
}

/// How many ids a target tells at once: memory does not grow with its rows.
pub const EXISTING_KEYS_PER_CALL: usize = 8192;

/// A row that the target refuses by a rule of its own.
#[derive(Debug)]
pub struct Refused {
    /// Its number among the rows.
    pub row: usize,
    /// Why.
    pub error: Error,
}

/// A database that takes rows in one transaction. Dropping it uncommitted leaves the database as
/// it was.
pub trait Target: Send {
    /// What is known of the database.
    fn catalog(&self) -> &Catalog;

    /// Starts the transaction for a plan.
    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>>;

    /// The next ids behind `after` that stand in a table now, in their order, beside those that they
    /// were where their rows came from; at most [`EXISTING_KEYS_PER_CALL`], and none when there are no more.
    /// Of ids that refer to other rows only those beside which a former one is kept.
    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>>;

    /// The UUIDs that rows of a table have as ids, beside the ids that these rows had where they came
    /// from, of those that are UUIDs, too. A database without UUIDs has none.
    fn existing_uuid_spellings<'a>(
        &'a mut self,
        _table: usize,
        _origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Loads rows. A row that is there already with the same content is skipped, one with other
    /// content is an error. Rows that break a rule of the target are left out and told.
    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Refused>>>;

    /// Ends the loading: settles what had to wait for all rows, checks every reference, reads back
    /// what was loaded, and tells what was done. Nothing is visible to others yet.
    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>>;

    /// Makes everything visible at once.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Takes everything back.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;
}
