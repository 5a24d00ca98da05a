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
    /// How far it has come, if it is committed in groups and the last one is not in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ResumePoint>,
    /// The tables that its groups have written, until the last one is in the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<GroupTable>,
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

/// How far an import has come that is committed in groups of chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The id of the archive.
    pub archive_id: String,
    /// The chunks of the archive that are done.
    pub chunks: u64,
    /// The digest of the last checkpoint of these chunks: 64 hexadecimal digits.
    pub checkpoint: String,
    /// The rows in all chunks that are done.
    pub rows: u64,
    /// Chunks behind these that are done, too, where several connections load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<DoneChunk>,
    /// The streams that are done and that others refer to: their rows are looked at again, and what others have changed
    /// in them since stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// What stands for the options of the import: another run must have the same.
    pub options: String,
}

/// A table that groups have written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupTable {
    /// Its name, with its schema if it has one.
    pub table: String,
    /// What stands for its columns and its key.
    pub shape: String,
}

/// A chunk of an archive whose rows are in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneChunk {
    /// Its number, counted from 1.
    pub number: u64,
    /// The digest of its checkpoint.
    pub checkpoint: String,
}

impl ResumePoint {
    /// Whether a chunk is done.
    pub fn has(&self, chunk: u64) -> bool {
        chunk <= self.chunks || self.ahead.iter().any(|done| done.number == chunk)
    }

    /// Adds chunks with so many rows.
    pub fn add(&mut self, chunks: impl IntoIterator<Item = DoneChunk>, rows: u64) {
        self.rows += rows;
        self.ahead.extend(chunks);
        self.ahead.sort_by_key(|done| done.number);
        let next =
            |ahead: &[DoneChunk], chunks| ahead.first().is_some_and(|d| d.number == chunks + 1);
        while next(&self.ahead, self.chunks) {
            let DoneChunk { number, checkpoint } = self.ahead.remove(0);
            (self.chunks, self.checkpoint) = (number, checkpoint);
        }
    }
}

/// The process of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
}

impl Process {
    /// This one.
    fn this() -> Process {
        Process { pid: std::process::id(), host: host() }
    }
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
    /// Their digest, or that of their last part: 64 hexadecimal digits.
    pub digest: String,
    /// Their size in bytes, all together.
    pub bytes: u64,
    /// The parts before, of a batch that was committed in groups: an archive for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<PartDigest>,
    /// The rows that a rollback has deleted, as the last part of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<PartDigest>,
    /// Whether they were removed to save room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
}

/// What an archive is that is one part of the receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartDigest {
    /// Its digest: 64 hexadecimal digits.
    pub digest: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl TableChanges {
    /// Adds what else was done to the rows of the table.
    pub fn add(&mut self, other: &TableChanges) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
    }
}

impl ReceiptsDigest {
    /// Receipts in one part.
    pub fn new(digest: String, bytes: u64) -> ReceiptsDigest {
        ReceiptsDigest { digest, bytes, earlier: Vec::new(), deleted: None, pruned: false }
    }

    /// The receipts with another part behind them.
    #[must_use]
    pub fn followed_by(self, next: ReceiptsDigest) -> ReceiptsDigest {
        let before: u64 = self.earlier.iter().map(|part| part.bytes).sum();
        let last = PartDigest { bytes: self.bytes - before, digest: self.digest };
        let bytes = self.bytes + next.bytes;
        let earlier = self.earlier.into_iter().chain([last]).chain(next.earlier).collect();
        ReceiptsDigest { bytes, earlier, ..next }
    }
}

impl BatchRecord {
    /// A batch that begins now.
    pub fn start(kind: BatchKind, target_backend: &str) -> BatchRecord {
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
            details: Details { process: Some(Process::this()), ..Details::default() },
        }
    }

    /// Seals what it did: it is in the database with the commit, which completes the batch unless other groups follow.
    pub fn seal(&mut self, tables: Vec<TableChanges>, receipts: Option<ReceiptsDigest>) {
        for table in tables {
            match self.details.tables.iter_mut().find(|known| known.table == table.table) {
                Some(known) => known.add(&table),
                None => self.details.tables.push(table),
            }
        }
        self.details.receipts = match (self.details.receipts.take(), receipts) {
            (Some(earlier), Some(next)) => Some(earlier.followed_by(next)),
            (earlier, next) => next.or(earlier),
        };
        let rows = |t: &TableChanges| t.inserted + t.updated + t.deleted;
        self.records_migrated = self.details.tables.iter().map(rows).sum();
        if self.details.resume.is_none() {
            self.status = BatchStatus::Completed;
            self.completed_at = Some(now());
            self.details.process = None;
        }
    }

    /// Notes the shapes of the tables that a group has written, if there are others: one rollback undoes all of them.
    ///
    /// # Errors
    /// If a table is not as a group before has left it.
    pub fn note_shapes(
        &mut self,
        shapes: impl IntoIterator<Item = (String, String)>,
    ) -> Result<()> {
        let follows = self.details.resume.is_some();
        if !follows && self.details.shapes.is_empty() {
            return Ok(());
        }
        for (table, shape) in shapes {
            let known = self.details.shapes.iter().find(|known| known.table == table);
            if known.is_some_and(|known| known.shape != shape) {
                let what = format!(
                    "{table}: the columns or the key were changed since the groups before; this group is not loaded"
                );
                return Err(Error::new(Code::Plan, what)
                    .hint("undo that change, and go on with --resume; or roll back what is done"));
            }
            if known.is_none() {
                self.details.shapes.push(GroupTable { table, shape });
            }
        }
        if !follows {
            self.details.shapes.clear();
        }
        Ok(())
    }

    /// Goes on with it in this process.
    pub fn go_on(&mut self) {
        self.status = BatchStatus::Started;
        (self.completed_at, self.error_message) = (None, None);
        self.details.process = Some(Process::this());
    }

    /// Ends it; nothing is in the database but the groups that were committed before.
    pub fn fail(&mut self, why: &str) {
        self.status = BatchStatus::Failed;
        self.completed_at = Some(now());
        self.error_message = Some(match self.details.resume {
            Some(_) => why.replace(UNCHANGED, ""),
            None => why.to_owned(),
        });
        self.details.process = None;
    }

    /// Ends it because its process was killed.
    pub fn end_unexpectedly(&mut self) {
        self.fail(&format!("the process ended unexpectedly{UNCHANGED}"));
    }

    /// Whether what it did, or some of it, is in the database.
    pub fn stands(&self) -> bool {
        match self.status {
            BatchStatus::Completed => true,
            BatchStatus::Started | BatchStatus::Failed => self.is_half(),
            BatchStatus::RolledBack => false,
        }
    }

    /// Whether it is committed in groups, asked before one of them is sealed.
    pub fn is_in_groups(&self) -> bool {
        self.details.resume.is_some() || self.details.receipts.is_some()
    }

    /// Whether it has committed some groups and not the last one.
    pub fn is_half(&self) -> bool {
        self.details.resume.is_some() && self.status != BatchStatus::Completed
    }

    /// Requires that the history still has it as it is here, which is committed in groups.
    ///
    /// # Errors
    /// If somebody else went on with it, or rolled it back.
    pub fn require_same_half(&self, stored: Option<&BatchRecord>) -> Result<()> {
        let same = stored.filter(|stored| stored.status != BatchStatus::RolledBack);
        if same.is_some_and(|stored| stored.details.resume == self.details.resume) {
            return Ok(());
        }
        Err(self.taken_over())
    }

    /// The error of a batch that somebody else went on with.
    pub fn taken_over(&self) -> Error {
        let what = format!("another process went on with {} or rolled it back", self.batch_id);
        Error::new(Code::Target, what)
            .hint("chronicle-dump history DB shows what became of the batch")
    }

    /// Whether it is committed in groups and has all chunks that it has there.
    pub fn has_come_as_far_as(&self, other: &BatchRecord) -> bool {
        let (Some(own), Some(other)) = (&self.details.resume, &other.details.resume) else {
            return false;
        };
        own.has(other.chunks) && other.ahead.iter().all(|done| own.has(done.number))
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
            (BatchStatus::Failed, _) if !self.is_half() => {
                refused(format!("{id} failed: it changed nothing"))
            }
            (BatchStatus::Started, _) if !self.is_half() => refused(format!(
                "{id} has not ended, or its process was killed: it changed nothing"
            )),
            (_, None) => Err(Error::new(
                Code::Usage,
                format!("{id} has no receipts: it was run with --no-undo"),
            )
            .hint("restore a backup instead: chronicle-dump restore ARCHIVE --to DB")),
            (_, Some(receipts)) if receipts.pruned => Err(Error::new(
                Code::Usage,
                format!("the receipts of {id} were removed by history --prune"),
            )
            .hint("restore a backup instead: chronicle-dump restore ARCHIVE --to DB")),
            (_, Some(_)) => Ok(()),
        }
    }
}

impl fmt::Display for BatchRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.kind.word(), self.batch_id, self.started_at)
    }
}

/// The batch that a name means: an id, the start of one, or `last`, the newest one that is no rollback and of which anything
/// is in the database.
///
/// # Errors
/// If there is none, or several begin like that.
pub fn find<'a>(history: &'a [BatchRecord], name: &str) -> Result<&'a BatchRecord> {
    let hint = "chronicle-dump history DB lists the batches";
    if name == "last" {
        let newest = history.iter().filter(|b| b.stands() && b.kind != BatchKind::Rollback);
        return newest
            .max_by_key(|b| b.batch_id)
            .ok_or_else(|| Error::new(Code::NotFound, "there is no batch to undo").hint(hint));
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
    let stands = history.iter().filter(|b| b.stands());
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

/// How messages end where nothing was changed, which is not true of a batch that has committed some groups.
const UNCHANGED: &str = "; nothing was changed";

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
    fn chunks_that_close_a_gap_move_the_resume_point() {
        let chunk = |number: u64| DoneChunk { number, checkpoint: format!("c{number}") };
        let mut point = ResumePoint {
            archive_id: String::new(),
            chunks: 1,
            checkpoint: "c1".into(),
            rows: 10,
            ahead: Vec::new(),
            parents: Vec::new(),
            options: String::new(),
        };
        point.add([chunk(4), chunk(3)], 5);
        assert_eq!((point.chunks, point.ahead.len(), point.rows), (1, 2, 15));
        assert!(point.has(1) && !point.has(2) && point.has(4) && !point.has(5));
        point.add([chunk(2)], 5);
        assert_eq!((point.chunks, point.checkpoint.as_str(), point.ahead.len()), (4, "c4", 0));
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
