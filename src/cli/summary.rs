//! What an import did to values, columns and rows, in few enough lines for one screen; all of them with `-v`.

use std::collections::BTreeMap;

use super::report::Report;
use crate::notice::{Notice, NoticeKind, Weight};
use crate::transform::{Change, ChangeKind};
use chronicle_archive::show_count;

/// The lines of a report, its result not counted.
const LINES: usize = 11;
/// Those of them for changes.
const CHANGE_LINES: usize = 6;
/// What stands for the whole row in place of a column.
pub(super) const ROW: &str = "*";

/// Prints as many lines as one screen takes, the first ones first.
pub(super) fn print(mut lines: Vec<Notice>, report: &Report) {
    lines.retain(|line| report.is_verbose() || line.kind.weight() != Weight::Detail);
    let shown = match report.is_verbose() || lines.len() <= LINES {
        true => &lines[..],
        false => &lines[..LINES - 1],
    };
    shown.iter().for_each(|line| report.notice(line));
    let hidden = lines.len() - shown.len();
    if hidden > 0 {
        let text = format!("{hidden} more notes; -v shows all");
        report.notice(&Notice::new(NoticeKind::More, text));
    }
}

/// The lines for changes: one for each reason; if these are too many one for each column, or for each stream.
pub(super) fn changes(changes: &[Change], verbose: bool) -> Vec<Notice> {
    let by_reason: Vec<Notice> = changes.iter().filter_map(|c| of_group(c.kind, &[c])).collect();
    if verbose || by_reason.len() <= CHANGE_LINES {
        return by_reason;
    }
    let by_column = grouped(changes, |c| Some(&c.column));
    if by_column.len() <= CHANGE_LINES {
        return by_column;
    }
    grouped(changes, |c| (c.column == ROW).then_some(&c.column))
}

/// One line for all changes of a stream that are of one kind and in the same part.
fn grouped<'a>(
    changes: &'a [Change],
    part: impl Fn(&'a Change) -> Option<&'a String>,
) -> Vec<Notice> {
    let mut groups: BTreeMap<_, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        groups.entry((&change.stream, change.kind, part(change))).or_default().push(change);
    }
    groups.into_iter().filter_map(|((_, what, _), group)| of_group(what, &group)).collect()
}

/// The line for changes of one kind in one stream.
fn of_group(what: ChangeKind, group: &[&Change]) -> Option<Notice> {
    let first = group.first()?;
    let mut columns: Vec<&str> = group.iter().map(|c| c.column.as_str()).collect();
    columns.dedup();
    let count: u64 = group.iter().map(|c| c.values).sum();
    let stream = &first.stream;
    let count = show_count(count, if first.column == ROW { "rows" } else { "values" });
    let place = match columns.as_slice() {
        [ROW] => stream.clone(),
        [column] => format!("{stream}.{column}"),
        several => format!("{stream}, {} columns", several.len()),
    };
    let why = match group {
        [only] => format!("{} (first: key {})", only.reason, only.first_key),
        several => format!("{} reasons; -v lists them", several.len()),
    };
    let kind = kind(what);
    let done = kind.words().trim_matches([' ', ':']);
    Some(Notice::new(kind, format!("{place}: {count} {done}: {why}")))
}

/// The kind of the notice for changes of a kind.
fn kind(what: ChangeKind) -> NoticeKind {
    match what {
        ChangeKind::Adapted => NoticeKind::Adapted,
        ChangeKind::Preserved => NoticeKind::Preserved,
        ChangeKind::Mapped => NoticeKind::Mapped,
        ChangeKind::Remapped => NoticeKind::Remapped,
        ChangeKind::Defaulted => NoticeKind::Filled,
        ChangeKind::Respelled => NoticeKind::Respelled,
        ChangeKind::Stored => NoticeKind::Stored,
        ChangeKind::Folded => NoticeKind::Folded,
        ChangeKind::Dropped => NoticeKind::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(column: &str, kind: ChangeKind, reason: &str) -> Change {
        Change {
            stream: "events".into(),
            column: column.into(),
            kind,
            reason: reason.into(),
            values: 2,
            first_key: "7".into(),
        }
    }

    #[test]
    fn a_few_changes_have_a_line_each() {
        let few = [change("data", ChangeKind::Preserved, "it is not JSON")];
        let expected = "events.data: 2 values changed to the nearest value, originals in the sidecar \
                        table: it is not JSON (first: key 7)";
        assert_eq!(changes(&few, false), [Notice::new(NoticeKind::Preserved, expected)]);
    }

    #[test]
    fn many_reasons_become_one_line_for_each_column() {
        let many: Vec<Change> =
            (0..9).map(|n| change("data", ChangeKind::Adapted, &format!("reason {n}"))).collect();
        let lines = changes(&many, false);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].kind.weight(), Weight::Warning);
        assert_eq!(
            lines[0].text,
            "events.data: 18 values changed to the nearest value: 9 reasons; -v lists them"
        );
        assert_eq!(changes(&many, true).len(), 9);
    }

    #[test]
    fn many_columns_become_one_line_for_each_stream() {
        let many: Vec<Change> =
            (0..9).map(|n| change(&format!("c{n}"), ChangeKind::Stored, "no column")).collect();
        let lines = changes(&many, false);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].text.starts_with("events, 9 columns: 18 values stored"));
    }
}
