//! The far end of the line: what every database that is imported into offers.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::convert::Adapted;
use crate::error::Result;
use crate::layout::{Backend, Role};
use crate::plan::Plan;
use crate::record::Batch;
use crate::source::Orphans;

/// What SQLite does with a value that is stored in a column (its "type affinity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Numbers become text.
    Text,
    /// Text that looks like a number becomes one, reals without a fraction become integers.
    Numeric,
    /// Text that looks like a number becomes one, integers become reals.
    Real,
    /// Everything stays what it is.
    Blob,
}

/// What a target's column can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetType {
    /// A column of SQLite.
    Sqlite(Affinity),
    /// `uuid`.
    Uuid,
    /// `text` and its kin, with the most characters if limited.
    Text(Option<u32>),
    /// An integer of 2, 4 or 8 bytes.
    Int(u8),
    /// A float of 4 or 8 bytes.
    Float(u8),
    /// `boolean`.
    Bool,
    /// `timestamptz`.
    Timestamptz,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `bytea`.
    Bytea,
    /// Any other type of Postgres by its name: loaded as text and cast there.
    Cast(String),
}

impl TargetType {
    /// The type as people know it.
    pub fn name(&self) -> String {
        match self {
            TargetType::Sqlite(Affinity::Text) => "SQLite text".into(),
            TargetType::Sqlite(Affinity::Numeric) => "SQLite numeric".into(),
            TargetType::Sqlite(Affinity::Real) => "SQLite real".into(),
            TargetType::Sqlite(Affinity::Blob) => "SQLite".into(),
            TargetType::Uuid => "uuid".into(),
            TargetType::Text(None) => "text".into(),
            TargetType::Text(Some(n)) => format!("varchar({n})"),
            TargetType::Int(bytes) => format!("int{bytes}"),
            TargetType::Float(bytes) => format!("float{bytes}"),
            TargetType::Bool => "boolean".into(),
            TargetType::Timestamptz => "timestamptz".into(),
            TargetType::Json => "json".into(),
            TargetType::Jsonb => "jsonb".into(),
            TargetType::Bytea => "bytea".into(),
            TargetType::Cast(name) => name.clone(),
        }
    }
}

/// A column of the target.
#[derive(Debug, Clone)]
pub struct TargetColumn {
    /// The logical name.
    pub name: String,
    /// The name in the database.
    pub physical: String,
    /// What it can hold.
    pub ty: TargetType,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether the database fills it when nothing is given.
    pub has_default: bool,
}

/// A reference from a column of a table to the key of another.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The referring column, as an index.
    pub column: usize,
    /// The table referred to, as an index.
    pub table: usize,
    /// Whether the database itself enforces it.
    pub enforced: bool,
}

/// A table of the target.
#[derive(Debug, Clone)]
pub struct TargetTable {
    /// The table's name, for messages.
    pub name: String,
    /// The logical stream it holds.
    pub stream: String,
    /// What its rows are.
    pub role: Role,
    /// Its columns.
    pub columns: Vec<TargetColumn>,
    /// The key, as indices of columns.
    pub key: Vec<usize>,
    /// Its references.
    pub references: Vec<Reference>,
}

/// What is known of a target before anything is planned.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The kind of database.
    pub backend: Backend,
    /// The layout's name for people.
    pub layout: String,
    /// Its tables, parents first.
    pub tables: Vec<TargetTable>,
}

/// What becomes of rows that refer to rows which are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOrphans {
    /// They stop the import.
    Fail,
    /// They are loaded and counted.
    Keep,
}

/// What was done to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Loaded {
    /// The stream.
    pub stream: String,
    /// Rows that were not there before.
    pub inserted_rows: u64,
    /// Rows that were there already with the same content.
    pub skipped_rows: u64,
}

/// What was done to all streams, before or after it was committed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Per stream, in the order of the plan.
    pub loaded: Vec<Loaded>,
    /// The values that were changed because the target cannot hold them.
    pub adapted: Vec<Adapted>,
    /// The rows that refer to rows which are not there.
    pub orphans: Vec<Orphans>,
    /// What people should know, for example how triggers were kept from firing.
    pub notices: Vec<String>,
}

/// A database that takes rows in one transaction. Dropping it uncommitted leaves the database as
/// it was.
pub trait Target: Send {
    /// What is known of the database.
    fn catalog(&self) -> &Catalog;

    /// Starts the transaction for a plan.
    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>>;

    /// Loads the rows of a batch. A row that is there already with the same content is skipped,
    /// one with other content is an error.
    fn write_batch<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<()>>;

    /// Ends the loading: settles what had to wait for all rows, checks every reference, and
    /// tells what was done. Nothing is visible to others yet.
    fn settle(&mut self, orphans: Option<OnOrphans>) -> BoxFuture<'_, Result<Outcome>>;

    /// Makes everything visible at once.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Takes everything back.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;
}
