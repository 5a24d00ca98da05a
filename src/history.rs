//! The history of a database: every import, restore and rollback is a batch with an id, a status, and what it did.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};
use crate::numbers::Numbers;
use chronicle_archive::NumberRange;

/// What a batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchKind {
    /// Archives were loaded.
    Import,
    /// Tables were made what an archive holds.
    Restore,
    /// Another batch was undone.
    Rollback,
}

impl BatchKind {
    /// The word in the column `migration_type`.
    pub fn word(self) -> &'static str {
        match self {
            BatchKind::Import => "import",
            BatchKind::Restore => "restore",
            BatchKind::Rollback => "rollback",
        }
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<BatchKind> {
        [BatchKind::Import, BatchKind::Restore, BatchKind::Rollback]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// How far a batch has come. The words are those of the table that Chronicle's migration tutorial creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// It runs, or its process has ended without a word.
    Started,
    /// What it did is in the database.
    Completed,
    /// It changed nothing.
    Failed,
    /// It was completed, and then undone.
    RolledBack,
}

impl BatchStatus {
    /// The word in the column `status`.
    pub fn word(self) -> &'static str {
        match self {
            BatchStatus::Started => "started",
            BatchStatus::Completed => "completed",
            BatchStatus::Failed => "failed",
            BatchStatus::RolledBack => "rolled_back",
        }
    }

    /// The status with this word.
    pub fn from_word(word: &str) -> Option<BatchStatus> {
        use BatchStatus::{Completed, Failed, RolledBack, Started};
        [Started, Completed, Failed, RolledBack].into_iter().find(|status| status.word() == word)
    }
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchRecord {
    /// Its id, a UUID of version 7: later ones are greater.
    pub batch_id: Uuid,
    /// What it was.
    #[serde(rename = "migration_type")]
    pub kind: BatchKind,
    /// The kind of database that the rows came from, if one is known.
    pub source_backend: Option<String>,
    /// The kind of this database.
    pub target_backend: String,
    /// The rows that it inserted, changed or deleted.
    pub records_migrated: u64,
    /// How far it has come.
    pub status: BatchStatus,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// When it ended.
    pub completed_at: Option<String>,
    /// What the seed's columns have no place for.
    #[serde(flatten)]
    pub details: Details,
}

/// What is known of a batch beyond the columns of Chronicle's `migration_history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Who runs it, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The archives that were loaded, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<LoadedArchive>,
    /// What was done to each table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableChanges>,
    /// Its receipts, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<ReceiptsDigest>,
    /// The batch that it undid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Uuid>,
    /// The batch that undid it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<Uuid>,
    /// The archive or file that holds the tables as they were before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// By table, whose its integer ids are since then, if that has changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, Numbers>,
}

/// The process of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
}

/// An archive that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedArchive {
    /// Its id.
    pub archive_id: String,
    /// Its digest: 64 hexadecimal digits.
    pub digest: String,
}

/// What was done to the rows of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChanges {
    /// The table.
    pub table: String,
    /// The rows that are new.
    pub inserted: u64,
    /// The rows that have other values.
    pub updated: u64,
    /// The rows that are gone.
    pub deleted: u64,
}

/// What the receipts of a batch are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsDigest {
    /// Their digest: 64 hexadecimal digits.
    pub digest: String,
    /// Their size in bytes, all together.
    pub bytes: u64,
    /// The rows that a rollback has deleted, as the last part of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedDigest>,
    /// Whether they were removed to save room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
}

/// What an archive of deleted rows is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedDigest {
    /// Its digest: 64 hexadecimal digits.
    pub digest: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl BatchRecord {
    /// A batch that begins now.
    pub fn start(kind: BatchKind, target_backend: &str) -> BatchRecord {
        let process = Process { pid: std::process::id(), host: host() };
        BatchRecord {
            batch_id: Uuid::now_v7(),
            kind,
            source_backend: None,
            target_backend: target_backend.to_owned(),
            records_migrated: 0,
            status: BatchStatus::Started,
            error_message: None,
            started_at: now(),
            completed_at: None,
            details: Details { process: Some(process), ..Details::default() },
        }
    }

    /// Completes it: it is in the database with the commit.
    pub fn complete(&mut self) {
        self.status = BatchStatus::Completed;
        self.completed_at = Some(now());
        self.details.process = None;
        let rows = |t: &TableChanges| t.inserted + t.updated + t.deleted;
        self.records_migrated = self.details.tables.iter().map(rows).sum();
    }

    /// Ends it without a change of the database.
    pub fn fail(&mut self, why: &str) {
        self.status = BatchStatus::Failed;
        self.completed_at = Some(now());
        self.error_message = Some(why.to_owned());
        self.details.process = None;
    }

    /// Whether it can be undone: it is completed, and it is known what it did.
    ///
    /// # Errors
    /// Why not.
    pub fn require_undoable(&self) -> Result<()> {
        let id = self.batch_id;
        let refused = |what: String| Err(Error::new(Code::Usage, what));
        match (self.status, &self.details.receipts) {
            (BatchStatus::RolledBack, _) => {
                let by = self.details.undone_by.map_or_else(String::new, |by| format!(" by {by}"));
                let hint = "to bring its rows back, roll that batch back; nothing was changed";
                Err(Error::new(Code::Usage, format!("{id} is rolled back already{by}")).hint(hint))
            }
            (BatchStatus::Failed, _) => refused(format!("{id} failed: it changed nothing")),
            (BatchStatus::Started, _) => refused(format!(
                "{id} has not ended, or its process was killed: it changed nothing"
            )),
            (BatchStatus::Completed, None) => Err(Error::new(
                Code::Usage,
                format!("{id} has no receipts: it was run with --no-undo"),
            )
            .hint("restore a backup instead: chronicle-dump restore ARCHIVE --to DB")),
            (BatchStatus::Completed, Some(receipts)) if receipts.pruned => Err(Error::new(
                Code::Usage,
                format!("the receipts of {id} were removed by history --prune"),
            )
            .hint("restore a backup instead: chronicle-dump restore ARCHIVE --to DB")),
            (BatchStatus::Completed, Some(_)) => Ok(()),
        }
    }
}

impl fmt::Display for BatchRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.kind.word(), self.batch_id, self.started_at)
    }
}

/// The batch that a name means: an id, the start of one, or `last`, the newest completed one that is no rollback.
///
/// # Errors
/// If there is none, or several begin like that.
pub fn find<'a>(history: &'a [BatchRecord], name: &str) -> Result<&'a BatchRecord> {
    let hint = "chronicle-dump history DB lists the batches";
    if name == "last" {
        let newest = history
            .iter()
            .filter(|b| b.status == BatchStatus::Completed && b.kind != BatchKind::Rollback);
        return newest.max_by_key(|b| b.batch_id).ok_or_else(|| {
            Error::new(Code::NotFound, "there is no completed batch to undo").hint(hint)
        });
    }
    let wanted = name.to_ascii_lowercase();
    let found: Vec<&BatchRecord> = (history.iter())
        .filter(|b| !wanted.is_empty() && b.batch_id.to_string().starts_with(&wanted))
        .collect();
    match found[..] {
        [only] => Ok(only),
        [] => {
            let what = format!("there is no batch {}", chronicle_archive::show_text(name));
            Err(Error::new(Code::NotFound, what).hint(hint))
        }
        _ => {
            let what = format!("{} batches begin with {wanted}", found.len());
            Err(Error::new(Code::Usage, what).hint("give more of the id"))
        }
    }
}

/// Whose the ids of a table are, as the newest batch says that stands and knows it.
pub fn noted(history: &[BatchRecord], table: &str) -> Numbers {
    let stands = history.iter().filter(|b| b.status == BatchStatus::Completed);
    let newest =
        stands.filter(|b| b.details.numbers.contains_key(table)).max_by_key(|b| b.batch_id);
    newest.and_then(|b| b.details.numbers.get(table)).cloned().unwrap_or_default()
}

/// The same for streams, as an archive states it: `tables` are the streams with their tables.
pub fn stated<'a>(
    history: &[BatchRecord],
    tables: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, Vec<NumberRange>> {
    let ranges =
        |(stream, table): (&str, &str)| (stream.to_owned(), noted(history, table).to_state());
    tables.map(ranges).filter(|(_, ranges)| !ranges.is_empty()).collect()
}

/// The table that Chronicle's migration tutorial creates, which is the user's.
pub const MIRROR: &str = "migration_history";

/// The columns without which such a table says nothing of a batch.
const NEEDED: [&str; 3] = ["batch_id", "migration_type", "status"];

/// Those of these columns that such a table lacks.
pub fn missing_of_mirror(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    NEEDED.into_iter().filter(|name| !has(name)).collect()
}

/// What people should know about such a table that does not take a batch, which our own table has.
pub fn not_mirrored(why: &str, own: &str) -> Notice {
    let text = format!(
        "the batch is not recorded in {MIRROR}, which {why}; it is recorded in {own}, and chronicle-dump history shows it"
    );
    Notice::new(NoticeKind::NotMirrored, text)
}

/// This moment, RFC 3339 in UTC.
pub fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// The name of this machine, if it has one.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn batch(kind: BatchKind, status: BatchStatus) -> BatchRecord {
        BatchRecord { status, ..BatchRecord::start(kind, "sqlite") }
    }

    #[test]
    fn the_last_batch_is_no_rollback_and_not_rolled_back() {
        let history = [
            batch(BatchKind::Import, BatchStatus::Completed),
            batch(BatchKind::Restore, BatchStatus::Completed),
            batch(BatchKind::Import, BatchStatus::RolledBack),
            batch(BatchKind::Rollback, BatchStatus::Completed),
            batch(BatchKind::Import, BatchStatus::Failed),
        ];
        assert_eq!(find(&history, "last").unwrap().batch_id, history[1].batch_id);
        let id = history[3].batch_id.to_string();
        assert_eq!(find(&history, &id).unwrap().batch_id, history[3].batch_id);
        assert_eq!(find(&history, "").unwrap_err().code(), Code::NotFound);
        assert!(find(&history, &id[..2]).unwrap_err().full().contains("begin with"));
    }

    #[test]
    fn the_words_are_read_as_they_are_written() {
        for kind in [BatchKind::Import, BatchKind::Restore, BatchKind::Rollback] {
            assert_eq!(BatchKind::from_word(kind.word()), Some(kind));
        }
        for status in ["started", "completed", "failed", "rolled_back"] {
            assert_eq!(BatchStatus::from_word(status).map(BatchStatus::word), Some(status));
        }
    }
}
