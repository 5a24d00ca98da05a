//! What an import has done: per stream, and in all.

use super::{Conflict, Problem};
use crate::error::{Code, Error, Result};
use crate::history::TableChanges;
use crate::notice::Notice;
use crate::source::Orphans;

/// What was done to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StreamStats {
    /// The stream.
    pub stream: String,
    /// Rows that are new in the target.
    pub inserted_rows: u64,
    /// Rows that existed already with other content, and have that of the archive now.
    pub updated_rows: u64,
    /// Rows that the target had and the archive lacks, and that are gone.
    pub deleted_rows: u64,
    /// Rows that existed already with the same content.
    pub skipped_rows: u64,
    /// Rows that existed already with other content, which they keep.
    pub conflicting_rows: u64,
    /// Rows that existed already under another key, which they keep.
    pub matched_rows: u64,
    /// Those of the skipped rows that existed under another key with the same content.
    pub content_matched_rows: u64,
    /// Rows that were left out because they refer to nothing.
    pub skipped_orphans: u64,
    /// Rows that were left out because of their values.
    pub rejected_rows: u64,
    /// Rows that were created for rows which refer to nothing.
    pub adopted_rows: u64,
}

impl StreamStats {
    /// Adds what another archive or group has done to the same stream.
    pub fn add(&mut self, other: &StreamStats) {
        self.inserted_rows += other.inserted_rows;
        self.updated_rows += other.updated_rows;
        self.deleted_rows += other.deleted_rows;
        self.skipped_rows += other.skipped_rows;
        self.conflicting_rows += other.conflicting_rows;
        self.matched_rows += other.matched_rows;
        self.content_matched_rows += other.content_matched_rows;
        self.skipped_orphans += other.skipped_orphans;
        self.rejected_rows += other.rejected_rows;
        self.adopted_rows += other.adopted_rows;
    }
}

/// Adds what was done to streams, each with the table that it goes into, to what was done to tables.
pub fn add_changes<'a>(
    all: &mut Vec<TableChanges>,
    streams: impl Iterator<Item = (&'a str, &'a StreamStats)>,
) {
    for (table, stats) in streams {
        let (inserted, updated) = (stats.inserted_rows + stats.adopted_rows, stats.updated_rows);
        let deleted = stats.deleted_rows;
        if inserted + updated + deleted == 0 {
            continue;
        }
        match all.iter_mut().find(|known| known.table == table) {
            None => all.push(TableChanges { table: table.to_owned(), inserted, updated, deleted }),
            Some(known) => {
                known.inserted += inserted;
                known.updated += updated;
                known.deleted += deleted;
            }
        }
    }
}

/// What is left of a count of rows without some of them.
///
/// # Errors
/// If there are fewer: then something was counted twice, and no number of this load is to be believed.
pub fn without(count: u64, rows: u64) -> Result<u64> {
    count.checked_sub(rows).ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("{rows} rows were taken out of {count}; nothing was changed"),
        )
    })
}

/// What was done to all streams, before or after it was committed.
#[derive(Debug, Clone, Default)]
pub struct ImportStats {
    /// Per stream, in the order of the plan.
    pub streams: Vec<StreamStats>,
    /// The rows that refer to missing rows.
    pub orphans: Vec<Orphans>,
    /// The rows that another row of the target is in the way of, and nothing settles it.
    pub conflicts: Vec<Conflict>,
    /// What would stop an import, found by a check.
    pub problems: Vec<Problem>,
    /// What people should know, for example how triggers were kept from firing.
    pub notices: Vec<Notice>,
}

/// What has turned out once all archives of a batch have come.
#[derive(Debug, Clone, Default)]
pub struct BatchEnd {
    /// What the orphans of archives are now that others have come, which may have brought what they lacked.
    pub orphans: Vec<OrphansOf>,
    /// The rows that are not what the target has, where an archive could still have told that they are.
    pub disputes: Vec<ConflictOf>,
}

/// A conflict, and which archive of the batch has the rows.
#[derive(Debug, Clone)]
pub struct ConflictOf {
    /// Which archive it is.
    pub archive: usize,
    /// The rows.
    pub conflict: Conflict,
}

/// What an archive of a batch has loaded that refers to nothing, also now that others have come.
#[derive(Debug, Clone)]
pub struct OrphansOf {
    /// Which archive of the batch it was.
    pub archive: usize,
    /// The rows; there may be none any more.
    pub orphans: Orphans,
}

impl ImportStats {
    /// Adds what another group of the same archive has done.
    pub fn add(&mut self, other: ImportStats) {
        match self.streams.is_empty() {
            true => self.streams = other.streams,
            false => {
                let pairs = self.streams.iter_mut().zip(&other.streams);
                pairs.for_each(|(stream, other)| stream.add(other));
            }
        }
        for orphans in other.orphans {
            let is_it = |o: &&mut Orphans| o.stream == orphans.stream && o.column == orphans.column;
            match self.orphans.iter_mut().find(is_it) {
                Some(known) => known.rows += orphans.rows,
                None => self.orphans.push(orphans),
            }
        }
        self.conflicts.extend(other.conflicts);
        self.problems.extend(other.problems);
        self.add_notices(other.notices);
    }

    /// Adds what people should know, unless it is said already.
    pub fn add_notices(&mut self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
    }

    /// Corrects what was said of orphans when their archive ended.
    pub fn correct_orphans(&mut self, left: &Orphans) {
        let is_it = |o: &Orphans| o.stream == left.stream && o.column == left.column;
        if let Some(said) = self.orphans.iter_mut().find(|o| is_it(o)) {
            said.clone_from(left);
        }
        self.orphans.retain(|orphans| orphans.rows > 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_count_goes_below_zero() {
        assert_eq!(without(3, 3).unwrap(), 0);
        assert_eq!(without(1, 2).unwrap_err().code(), Code::Internal);
    }
}
