//! What is planned for one column, and for the references of a row.

use crate::catalog::{CheckConstraint, ColumnType};
use crate::policy::EventTypes;
use chronicle_archive::Kind;
use chronicle_archive::time::ZoneRule;

/// Where the value of a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// A column of the archive, by its position.
    Column(usize),
    /// The text of a column of the archive that has another name.
    TextOf(usize),
    /// Always the same text.
    Text(String),
    /// Nothing: the target fills it in rows that are new.
    Batch,
}

/// How ids of one kind become ids of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdRule {
    /// They stay; a text keeps its spelling.
    Keep,
    /// A UUID: the same one if the id is one, else one derived from the id and where it comes from.
    Uuid,
    /// An integer: the one it had before if that is free, else the next one.
    Integer,
    /// An integer of another database: the one that its row has here, else the next one.
    Number,
}

/// Which rows the ids in a column identify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The stream of these rows.
    pub of: String,
    /// The target's table of that stream.
    pub table: usize,
    /// How the ids are mapped.
    pub rule: IdRule,
    /// Whether the column alone is the key of the rows that are loaded, not a reference to others.
    pub own: bool,
}

/// A reference from columns that are written to columns of the same or another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePlan {
    /// The referring columns, among those that are written.
    pub columns: Vec<usize>,
    /// The target's table referred to.
    pub table: usize,
    /// The stream of that table.
    pub of: String,
    /// The columns referred to, as columns of that table.
    pub parent_columns: Vec<usize>,
}

/// Where a column goes.
#[derive(Debug, Clone)]
pub struct ColumnPlan {
    /// Where its value comes from.
    pub source: ColumnSource,
    /// Its position in the target's table.
    pub target: usize,
    /// Its logical name.
    pub name: String,
    /// What the archive holds.
    pub kind: Kind,
    /// What the target can hold.
    pub ty: ColumnType,
    /// How texts without a zone are read.
    pub zone_rule: ZoneRule,
    /// Whether the target refuses NULL.
    pub not_null: bool,
    /// Whether the target refuses values of another class than the column's own.
    pub strict: bool,
    /// Whether it is part of the key.
    pub key: bool,
    /// The target's CHECK constraint on its values.
    pub check: Option<CheckConstraint>,
    /// What is loaded in place of NULL where the target refuses it.
    pub default: Option<ColumnSource>,
    /// If it holds ids.
    pub ids: Option<Ids>,
    /// If it holds words of a vocabulary that changed between versions: how they are mapped.
    pub vocabulary: Option<EventTypes>,
}

impl IdRule {
    /// Whether the ids become other integers.
    pub fn gives_integers(self) -> bool {
        matches!(self, IdRule::Integer | IdRule::Number)
    }
}

impl ColumnPlan {
    /// Whether it is filled from a column of the archive of the same meaning.
    pub fn is_from_archive(&self) -> bool {
        matches!(self.source, ColumnSource::Column(_))
    }

    /// The column of the archive that it is filled from, if it is one of the same meaning.
    pub fn archive_column(&self) -> Option<usize> {
        match self.source {
            ColumnSource::Column(n) => Some(n),
            ColumnSource::TextOf(_) | ColumnSource::Text(_) | ColumnSource::Batch => None,
        }
    }
}
