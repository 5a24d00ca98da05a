//! The batch that a user means by an id, the start of one, or `last`.

use super::{BatchKind, BatchRecord};
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};
use chronicle_archive::{show_count, show_text};

/// The batch that a name means.
#[derive(Debug)]
pub struct NamedBatch<'a> {
    /// The batch.
    pub batch: &'a BatchRecord,
    /// That newer ones were passed over.
    pub passed_over: Option<Notice>,
}

/// The batch that a name means: an id, the start of one, or `last`, the newest one that is not a rollback and of which
/// anything is in the database.
///
/// # Errors
/// If there is none, or several begin like that.
pub fn find<'a>(history: &'a [BatchRecord], name: &str) -> Result<NamedBatch<'a>> {
    if name == "last" {
        return last(history);
    }
    let wanted = name.to_ascii_lowercase();
    let found: Vec<&BatchRecord> = (history.iter())
        .filter(|b| !wanted.is_empty() && b.batch_id.to_string().starts_with(&wanted))
        .collect();
    match found[..] {
        [batch] => Ok(NamedBatch { batch, passed_over: None }),
        [] => {
            let what = format!("there is no batch {}", show_text(name));
            Err(Error::new(Code::NotFound, what).hint(LIST))
        }
        _ => {
            let what = format!("{} batches begin with {wanted}", found.len());
            Err(Error::new(Code::Usage, what).hint("give more of the id"))
        }
    }
}

const LIST: &str = "chronicle-dump history DB lists the batches";

fn last(history: &[BatchRecord]) -> Result<NamedBatch<'_>> {
    let standing = history.iter().filter(|b| b.stands() && b.kind != BatchKind::Rollback);
    let mut newest_first: Vec<&BatchRecord> = standing.collect();
    newest_first.sort_by_key(|batch| std::cmp::Reverse(batch.batch_id));
    let place = newest_first.iter().position(|batch| batch.changed_anything());
    let Some(place) = place else {
        let what = match newest_first.len() {
            0 => "there is no batch to undo".to_owned(),
            1 => "there is no batch to undo: the only one has changed nothing".to_owned(),
            n => format!("there is no batch to undo: none of {n} has changed anything"),
        };
        return Err(Error::new(Code::NotFound, what).hint(LIST));
    };
    let passed_over = (place > 0).then(|| {
        let batches = show_count(place as u64, "newer batches");
        let text = format!("{batches} changed nothing and {} passed over", were(place));
        Notice::new(NoticeKind::PassedOver, text)
    });
    Ok(NamedBatch { batch: newest_first[place], passed_over })
}

fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::history::{BatchChanges, BatchStatus, TableChanges};

    fn batch(kind: BatchKind, status: BatchStatus) -> BatchRecord {
        let mut batch = BatchRecord::start(kind, "sqlite");
        let rows = TableChanges { table: "t".into(), inserted: 1, ..TableChanges::default() };
        batch.seal(vec![rows].into(), None);
        BatchRecord { status, ..batch }
    }

    fn unchanged() -> BatchRecord {
        let mut batch = BatchRecord::start(BatchKind::Import, "sqlite");
        batch.seal(BatchChanges::default(), None);
        batch
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
        let last = find(&history, "last").unwrap();
        assert_eq!(last.batch.batch_id, history[1].batch_id);
        assert_eq!(last.passed_over, None);
        let id = history[3].batch_id.to_string();
        assert_eq!(find(&history, &id).unwrap().batch.batch_id, history[3].batch_id);
        assert_eq!(find(&history, "").unwrap_err().code(), Code::NotFound);
        assert!(find(&history, &id[..2]).unwrap_err().full().contains("begin with"));
    }

    #[test]
    fn the_last_batch_has_changed_something() {
        let changes = [
            BatchChanges { sidecar_entries: 1, ..BatchChanges::default() },
            BatchChanges { columns: 1, ..BatchChanges::default() },
        ];
        for changes in changes {
            let mut history = vec![batch(BatchKind::Import, BatchStatus::Completed), unchanged()];
            history[1].seal(changes, None);
            assert_eq!(find(&history, "last").unwrap().batch.batch_id, history[1].batch_id);
        }
        let mut history = vec![unchanged(), batch(BatchKind::Import, BatchStatus::Completed)];
        for (count, said) in [(1, "1 newer batch changed nothing and was"), (2, "2 newer batches")]
        {
            history.push(unchanged());
            let last = find(&history, "last").unwrap();
            assert_eq!(last.batch.batch_id, history[1].batch_id);
            assert!(last.passed_over.unwrap().text.starts_with(said), "{count}");
        }
        let error = find(&history[2..], "last").unwrap_err();
        assert!(error.full().contains("none of 2 has changed anything"), "{}", error.full());
        assert_eq!(error.code(), Code::NotFound);
    }
}
