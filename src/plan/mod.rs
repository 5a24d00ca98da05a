//! The plan of an import: which column of the archive goes where and how, decided from plain
//! values before any row is read.

mod batch;
mod columns;
mod content;
mod explain;
mod fit;
mod join;
mod numbers;
#[cfg(test)]
pub(crate) mod testing;
mod unplaced;

use uuid::Uuid;

use crate::catalog::{CatalogColumn, Role};
use crate::numbers::Numbering;
use crate::policy::{OnConflict, OnUnrepresentable, PlanOptions};
use chronicle_archive::{Batch, Column, Stream, Value, show};

pub use columns::{ColumnPlan, ColumnSource, IdRule, Ids, ReferencePlan};
pub use content::ContentColumn;
pub use join::{plan, table_for};
pub use unplaced::{Fate, Unmapped, UnplacedColumn, derived};

/// Where everything goes. The loading code obeys it and decides nothing of its own.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The streams, in the order of the archive.
    pub streams: Vec<StreamPlan>,
    /// What the user decided about values.
    pub options: PlanOptions,
    /// The name of the database that the archive's ids are of.
    pub instance: Uuid,
    /// Whose the archive's integer ids are, by the target's streams.
    pub numbers: Numbering,
    /// Whose those of the target are, if it is known which database it is.
    pub home: Option<Numbering>,
    /// Whether the archive comes from a database of the target\'s kind and layout.
    pub same_layout: bool,
    /// The zone that the archive hints at, for messages.
    pub zone_hint: Option<String>,
}

/// Where a stream goes.
#[derive(Debug, Clone)]
pub enum StreamPlan {
    /// Into a table of the target.
    Table(Box<TablePlan>),
    /// The target has no table for it.
    Unmapped(UnmappedPlan),
}

/// How the rows of a stream go into a table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// The stream's name.
    pub stream: String,
    /// What its rows are.
    pub role: Role,
    /// The position of the target's table.
    pub table: usize,
    /// The name of the target's table.
    pub table_name: String,
    /// What the archive holds, as it says itself.
    pub source: Stream,
    /// The columns that are written.
    pub columns: Vec<ColumnPlan>,
    /// The key among them.
    pub key: Vec<usize>,
    /// The references among them.
    pub references: Vec<ReferencePlan>,
    /// The columns of the archive that the target lacks.
    pub unplaced: Vec<UnplacedColumn>,
    /// The columns that the table gets, those of earlier streams that go into it first.
    pub added: Vec<CatalogColumn>,
    /// Columns of the target that the archive lacks: the database fills them.
    pub defaulted: Vec<String>,
    /// The JSON column that carries what has no column, among those that are written.
    pub fold: Option<usize>,
    /// The column of the archive with the id that a row had in a database like the target.
    pub former_id: Option<usize>,
    /// The columns as an export of the target restores them, with their places in the archive.
    pub original_columns: Vec<(usize, Column)>,
    /// The name under which the id that a row has in the archive is stored in the sidecar, if the
    /// target has no column for it.
    pub origin: Option<String>,
    /// The column for the id of the batch that brings a row, among those that are written: where it is NULL, the target
    /// fills it in rows that are new.
    pub batch: Option<usize>,
    /// Whether rows may have anything in the sidecar.
    pub has_sidecar: bool,
    /// The position of the first stream that goes into the same table, if it is another one.
    pub shares_with: Option<usize>,
    /// If it is: what happens to rows with a key that the first stream has brought already.
    pub duplicates: Option<UnmappedPlan>,
    /// What happens to rows that the target has already with other content.
    pub on_conflict: OnConflict,
    /// The column that says when a row was changed last, among those that are written.
    pub changed: Option<usize>,
    /// What makes a row the same as one of the target under another key; empty if nothing does.
    pub content: Vec<ContentColumn>,
    /// The column of the archive with the UUID of its row among those of all databases, if its ids are numbers.
    pub named_by: Option<usize>,
}

/// What happens to rows that no table takes.
#[derive(Debug, Clone)]
pub struct UnmappedPlan {
    /// The stream's name.
    pub stream: String,
    /// The name that the sidecar table has for these rows, where others have their table's.
    pub table_name: String,
    /// What the archive holds, as it says itself.
    pub source: Stream,
    /// What happens to them.
    pub policy: Unmapped,
    /// What happens to rows that are stored already with other content.
    pub on_conflict: OnConflict,
}

impl TablePlan {
    /// The names of the columns whose values an export of the target restores although it lacks them.
    pub fn lacking(&self) -> Vec<String> {
        let stored = |fate: Fate| matches!(fate, Fate::Folded | Fate::Preserved | Fate::Sidecar);
        let columns = self.unplaced.iter().filter(|column| stored(column.fate));
        columns.map(|column| column.name.clone()).collect()
    }
}

impl UnmappedPlan {
    /// The columns as an export of the target restores them: all, or none if the rows are not stored.
    pub fn original_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        let stored = self.policy == Unmapped::Sidecar;
        self.source.columns.iter().enumerate().filter(move |_| stored)
    }
}

impl StreamPlan {
    /// The stream's name.
    pub fn name(&self) -> &str {
        match self {
            StreamPlan::Table(plan) => &plan.stream,
            StreamPlan::Unmapped(plan) => &plan.stream,
        }
    }

    /// What the archive holds, as it says itself.
    pub fn source(&self) -> &Stream {
        match self {
            StreamPlan::Table(plan) => &plan.source,
            StreamPlan::Unmapped(plan) => &plan.source,
        }
    }

    /// The name of the target's table, or what the sidecar table calls a stream without one.
    pub fn table_name(&self) -> &str {
        match self {
            StreamPlan::Table(plan) => &plan.table_name,
            StreamPlan::Unmapped(plan) => &plan.table_name,
        }
    }

    /// How its rows go into a table, if there is one for them.
    pub fn table(&self) -> Option<&TablePlan> {
        match self {
            StreamPlan::Table(plan) => Some(plan),
            StreamPlan::Unmapped(_) => None,
        }
    }

    /// What happens to those of its rows that no table takes: all without a table, else duplicates.
    pub fn unmapped(&self) -> Option<&UnmappedPlan> {
        match self {
            StreamPlan::Table(plan) => plan.duplicates.as_ref(),
            StreamPlan::Unmapped(plan) => Some(plan),
        }
    }
}

impl Plan {
    /// The streams that go into a table, with their positions.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &TablePlan)> {
        self.streams.iter().enumerate().filter_map(|(n, s)| Some((n, s.table()?)))
    }

    /// The columns as an export of the target restores them: under which table name, at which place,
    /// and which column.
    pub fn original_columns(&self) -> impl Iterator<Item = (&str, usize, &Column)> {
        let of_tables = self.tables().flat_map(|(_, plan)| {
            plan.original_columns.iter().map(|(place, c)| (plan.table_name.as_str(), *place, c))
        });
        let of_others = self.streams.iter().filter_map(StreamPlan::unmapped).flat_map(|plan| {
            plan.original_columns().map(|(place, c)| (plan.table_name.as_str(), place, c))
        });
        of_tables.chain(of_others)
    }

    /// Whether an export of the target needs to know the columns of the archive, even if nothing is
    /// stored for any row.
    pub fn keeps_columns(&self) -> bool {
        let preserves = self.options.on_unrepresentable == OnUnrepresentable::Preserve;
        // a database of the same layout whose columns are of the same kinds reads back what was written
        let mut columns = self.tables().flat_map(|(_, table)| &table.columns);
        let reads_back = self.same_layout && columns.all(fit::reads_back);
        (preserves && !reads_back) || self.needs_sidecar()
    }

    /// Whether values are stored in the sidecar table for which the target has no column.
    pub fn needs_sidecar(&self) -> bool {
        let folds = |(_, plan): (usize, &TablePlan)| {
            let stored = |fate: Fate| matches!(fate, Fate::Folded | Fate::Preserved);
            plan.unplaced.iter().any(|column| stored(column.fate))
        };
        let stores = |plan: &UnmappedPlan| plan.policy == Unmapped::Sidecar;
        self.tables().any(folds) || self.streams.iter().filter_map(StreamPlan::unmapped).any(stores)
    }

    /// Whether rows may refer by an id to rows of a table.
    pub fn is_referenced(&self, table: usize) -> bool {
        let refers = |c: &ColumnPlan| c.ids.as_ref().is_some_and(|i| !i.own && i.table == table);
        self.tables().flat_map(|(_, plan)| &plan.columns).any(refers)
    }
}

/// The key of a row of the archive, for messages.
pub fn key_of(source: &Stream, batch: &Batch, row: usize) -> String {
    let parts = source.key.iter().map(|k| show(batch.value(row, *k)));
    parts.collect::<Vec<_>>().join(", ")
}

/// Whether a row of the archive has no key, or only part of one.
pub fn lacks_key(source: &Stream, batch: &Batch, row: usize) -> bool {
    source.key.iter().any(|k| batch.value(row, *k) == Value::Null)
}
