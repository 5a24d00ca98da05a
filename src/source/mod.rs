//! The near end of the line: what every database that is exported offers.

mod restored;

pub use restored::Restored;

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::notice::Notice;
use crate::selection::{Narrowing, Selection};
use chronicle_archive::Origin;
use chronicle_archive::show_count;
use chronicle_archive::{Batch, Stream};

/// How a source is read.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Whether rows come in the order of the layout, so that the same data give the same bytes.
    pub sorted: bool,
    /// Whether what differs between two machines with the same data is left out of the header.
    pub reproducible: bool,
    /// The layout that the tables must have; without it they are recognised.
    pub layout: Option<Layout>,
    /// Whether rows come as their tables store them: originals are not put back, and every row has its
    /// entry of the sidecar as one more text column, the last one, named like
    /// [its table](crate::sidecar::SIDECAR).
    pub as_stored: bool,
    /// Whether every row has its key once more as its table stores it, in columns behind the others: it may be another one
    /// than that of the row which is given back.
    pub stored_keys: bool,
    /// The rows that are wanted, if not all are: those of every selection.
    pub selections: Vec<Selection>,
}

/// Rows that refer to missing rows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Orphans {
    /// The stream of the rows.
    pub stream: String,
    /// The referring column.
    pub column: String,
    /// How many rows.
    pub rows: u64,
    /// The first few: the row's key and what it refers to.
    pub samples: Vec<(String, String)>,
}

impl Orphans {
    /// What is wrong, with the first few rows.
    pub fn sentence(&self) -> String {
        let samples: Vec<String> =
            self.samples.iter().map(|(key, parent)| format!("{key} -> {parent}")).collect();
        let more = if self.rows > samples.len() as u64 { ", …" } else { "" };
        let (rows, one) = (show_count(self.rows, &self.stream), self.rows == 1);
        let lack = match (self.column.strip_suffix("_id"), one) {
            (Some(parent), true) => format!("has no {parent}"),
            (Some(parent), false) => format!("have no {parent}"),
            (None, true) => format!("refers to a missing row by \"{}\"", self.column),
            (None, false) => format!("refer to missing rows by \"{}\"", self.column),
        };
        let orphans = if one { "orphan" } else { "orphans" };
        format!("{rows} {lack} ({orphans}: {}{more})", samples.join(", "))
    }

    /// The error of orphans that stop an import. `enforced` says that the target's own constraints do.
    pub fn refused(&self, enforced: bool) -> Error {
        let error = Error::new(
            Code::Orphan,
            format!("{}, neither in the archive nor in the target", self.sentence()),
        );
        if enforced {
            error.hint(ENFORCED)
        } else {
            error.hint(
                "--orphans keep loads them, --orphans skip leaves them out, --orphans adopt creates \
                 the sessions that they refer to",
            )
        }
    }
}

/// What to do about orphans whose rows the target does not take.
pub const NOT_ADOPTED: &str = "--orphans keep loads the rows unchanged where the database lets it, --orphans skip leaves them out";

/// What to do about a reference that the target enforces.
pub const ENFORCED: &str = "--orphans skip leaves them out, --orphans adopt creates the sessions \
     that they refer to; keep is not possible, since the target enforces this reference";

/// How many orphans are named; all are counted.
pub const ORPHANS_NAMED: usize = 5;

/// What is read of one stream.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Whether nothing of it is wanted.
    pub skip: bool,
    /// The columns that anybody looks at, if not all; the values of the others may be left out.
    pub columns: Option<Vec<bool>>,
    /// Rows that may be left out.
    pub narrowing: Option<Narrowing>,
    /// Whether the order of its rows matters.
    pub is_ordered: bool,
}

/// A database that is read as one consistent moment.
pub trait Source: Send {
    /// Where the rows come from.
    fn origin(&self) -> &Origin;

    /// The streams, parents first.
    fn streams(&self) -> &[Stream];

    /// What people should know: tables that are left out, how the file had to be opened.
    fn notices(&self) -> &[Notice];

    /// The rows to come, for progress only.
    fn expected_rows(&self) -> u64;

    /// Fills `batch` with the next rows; false when there are no more.
    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>>;

    /// The selection that the rows are, as a header keeps it; None if they are all rows.
    fn filters(&self) -> Option<BTreeMap<String, String>> {
        None
    }

    /// Begins at the first row, perhaps again; of each stream only what is asked for is read. Orphans are not looked for
    /// then.
    fn begin(&mut self, readings: Vec<Reading>) -> BoxFuture<'_, Result<()>>;

    /// What people should know of rows that were not handed over, now that there are no more.
    fn left_out(&self) -> Vec<Notice> {
        Vec::new()
    }

    /// Ends the snapshot and returns the orphans in it.
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>>;
}
