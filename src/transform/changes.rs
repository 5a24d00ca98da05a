//! What was done to values: counted by column, kind and reason, with the first row of each.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::plan::{Plan, StreamPlan};
use crate::policy::OnUnrepresentable;

/// What was done to values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The nearest value was loaded.
    Adapted,
    /// The nearest value was loaded and the original stored.
    Preserved,
    /// The same value was loaded in the target's own spelling.
    Respelled,
    /// An old word of a vocabulary became the one of today.
    Mapped,
    /// An id became another one.
    Remapped,
    /// A value that the archive lacks and the target requires was filled in.
    Defaulted,
    /// A value or row without a place was stored in the sidecar table.
    Stored,
    /// A value without a column was stored in its row's JSON.
    Folded,
    /// A value without a column was lost.
    Dropped,
}

impl ChangeKind {
    /// What is done to values that the target cannot hold, if they are changed.
    pub(super) fn of_nearest(policy: OnUnrepresentable) -> Option<ChangeKind> {
        match policy {
            OnUnrepresentable::Adapt => Some(ChangeKind::Adapted),
            OnUnrepresentable::Preserve => Some(ChangeKind::Preserved),
            OnUnrepresentable::Fail | OnUnrepresentable::Reject => None,
        }
    }
}

/// Values that differ between the archive and the target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The stream.
    pub stream: String,
    /// The column.
    pub column: String,
    /// What was done.
    pub kind: ChangeKind,
    /// Why.
    pub reason: String,
    /// How many values.
    pub values: u64,
    /// The key of the first row.
    pub first_key: String,
}

/// A part of a row, by its place in the plan of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A column that is written.
    Column(usize),
    /// A column that the target lacks.
    Unplaced(usize),
    /// The row as a whole.
    Row,
}

impl Subject {
    /// The name of the column; a star for the whole row.
    pub(super) fn name(self, plan: &StreamPlan) -> &str {
        let found = plan.table().and_then(|table| match self {
            Subject::Column(n) => table.columns.get(n).map(|c| c.name.as_str()),
            Subject::Unplaced(n) => table.unplaced.get(n).map(|c| c.name.as_str()),
            Subject::Row => None,
        });
        found.unwrap_or("*")
    }
}

/// What is counted as one: stream, part of the row, kind and reason.
type Entry = (usize, Subject, ChangeKind, Cow<'static, str>);

/// The changes so far. Those of the current row count only when it is loaded.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    current: Vec<(Subject, ChangeKind, Cow<'static, str>)>,
    counts: BTreeMap<Entry, (u64, String)>,
}

impl ChangeLog {
    /// Forgets the changes of the current row.
    pub(super) fn clear_row(&mut self) {
        self.current.clear();
    }

    /// Notes a change of the current row.
    pub(super) fn note(
        &mut self,
        subject: Subject,
        kind: ChangeKind,
        reason: impl Into<Cow<'static, str>>,
    ) {
        self.current.push((subject, kind, reason.into()));
    }

    /// Counts the changes of the current row, which has this key.
    pub(super) fn count_row(&mut self, stream: usize, key: impl Fn() -> String) {
        for (subject, kind, reason) in self.current.drain(..) {
            let entry = self.counts.entry((stream, subject, kind, reason));
            entry.or_insert_with(|| (0, key())).0 += 1;
        }
    }

    /// Adds the changes of other rows.
    pub(super) fn absorb(&mut self, other: ChangeLog) {
        for (entry, (values, first)) in other.counts {
            self.counts.entry(entry).or_insert((0, first)).0 += values;
        }
    }

    /// All changes, in the order of streams, columns, kinds and reasons.
    pub(super) fn all(&self, plan: &Plan) -> Vec<Change> {
        let mut changes: Vec<(usize, Change)> = (self.counts.iter())
            .map(|((stream, subject, kind, reason), (values, first))| {
                let planned = &plan.streams[*stream];
                let change = Change {
                    stream: planned.name().to_owned(),
                    column: subject.name(planned).to_owned(),
                    kind: *kind,
                    reason: reason.to_string(),
                    values: *values,
                    first_key: first.clone(),
                };
                (*stream, change)
            })
            .collect();
        changes.sort_by(|(n, a), (m, b)| {
            (n, &a.column, a.kind, &a.reason).cmp(&(m, &b.column, b.kind, &b.reason))
        });
        changes.into_iter().map(|(_, change)| change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{accounts_and_notes, numbered_streams, planned};
    use crate::policy::PlanOptions;

    #[test]
    fn changes_are_counted_with_the_first_row_of_each() {
        let plan = planned(&numbered_streams(), &accounts_and_notes(), PlanOptions::default());
        let mut log = ChangeLog::default();
        for key in ["1", "2"] {
            log.note(Subject::Column(2), ChangeKind::Adapted, "too long");
            log.note(Subject::Column(0), ChangeKind::Remapped, format!("like {}", "others"));
            log.count_row(2, || key.to_owned());
        }
        let shown: Vec<_> = (log.all(&plan).into_iter())
            .map(|c| (c.stream, c.column, c.kind, c.reason, c.values, c.first_key))
            .collect();
        let expected = |column: &str, kind, reason: &str| {
            ("notes".to_owned(), column.to_owned(), kind, reason.to_owned(), 2, "1".to_owned())
        };
        assert_eq!(
            shown,
            [
                expected("id", ChangeKind::Remapped, "like others"),
                expected("text", ChangeKind::Adapted, "too long"),
            ]
        );
    }

    #[test]
    fn a_row_that_is_not_loaded_counts_nothing() {
        let plan = planned(&numbered_streams(), &accounts_and_notes(), PlanOptions::default());
        let mut log = ChangeLog::default();
        log.note(Subject::Row, ChangeKind::Dropped, "no room");
        log.clear_row();
        log.count_row(0, String::new);
        assert!(log.all(&plan).is_empty());
    }
}
