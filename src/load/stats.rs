//! What an import has done: per stream, and in all.

use super::Problem;
use crate::notice::Notice;
use crate::source::Orphans;

/// What was done to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StreamStats {
    /// The stream.
    pub stream: String,
    /// Rows that are new in the target.
    pub inserted_rows: u64,
    /// Rows that existed already with the same content.
    pub skipped_rows: u64,
    /// Rows that were left out because they refer to nothing.
    pub skipped_orphans: u64,
    /// Rows that were left out because of their values.
    pub rejected_rows: u64,
    /// Rows that were created for rows which refer to nothing.
    pub adopted_rows: u64,
}

/// What was done to all streams, before or after it was committed.
#[derive(Debug, Clone, Default)]
pub struct ImportStats {
    /// Per stream, in the order of the plan.
    pub streams: Vec<StreamStats>,
    /// The rows that refer to missing rows.
    pub orphans: Vec<Orphans>,
    /// What would stop an import, found by a check.
    pub problems: Vec<Problem>,
    /// What people should know, for example how triggers were kept from firing.
    pub notices: Vec<Notice>,
}
