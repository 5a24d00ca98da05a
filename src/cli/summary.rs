//! What an import did to values, columns and rows, in few enough lines for one screen; all of them with `-v`.

use std::collections::BTreeMap;

use super::report::Report;
use crate::transform::{Change, ChangeKind};
use chronicle_archive::show_count;

/// The lines of a report, its result not counted.
const LINES: usize = 11;
/// Those of them for changes.
const CHANGE_LINES: usize = 6;
/// What stands for the whole row in place of a column.
const ROW: &str = "*";

/// A line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Something was lost or changed for good.
    Warning(String),
    /// Something to know.
    Note(String),
}

/// Prints as many lines as one screen takes, the first ones first.
pub(super) fn print(lines: &[Line], report: &Report) {
    let shown = match report.is_verbose() || lines.len() <= LINES {
        true => lines,
        false => &lines[..LINES - 1],
    };
    for line in shown {
        match line {
            Line::Warning(text) => report.warning(text),
            Line::Note(text) => report.notice(text),
        }
    }
    let hidden = lines.len() - shown.len();
    if hidden > 0 {
        report.notice(&format!("{hidden} more notes: -v shows all"));
    }
}

/// The lines for changes: one for each reason; if these are too many one for each column, or for each stream.
pub(super) fn changes(changes: &[Change], verbose: bool) -> Vec<Line> {
    let by_reason: Vec<Line> = changes.iter().map(|c| of_group(c.kind, &[c])).collect();
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
) -> Vec<Line> {
    let mut groups: BTreeMap<_, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        groups.entry((&change.stream, change.kind, part(change))).or_default().push(change);
    }
    groups.into_iter().map(|((_, what, _), group)| of_group(what, &group)).collect()
}

/// The line for changes of one kind in one stream.
fn of_group(what: ChangeKind, group: &[&Change]) -> Line {
    let Some(first) = group.first() else { return Line::Note(String::new()) };
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
        several => format!("{} reasons, -v lists them", several.len()),
    };
    let text = format!("{place}: {count} {}: {why}", done(what));
    match what {
        ChangeKind::Adapted | ChangeKind::Dropped => Line::Warning(text),
        _ => Line::Note(text),
    }
}

/// What was done to values, in words.
fn done(what: ChangeKind) -> &'static str {
    match what {
        ChangeKind::Adapted => "changed to the nearest value",
        ChangeKind::Preserved => "changed to the nearest value, originals in the sidecar table",
        ChangeKind::Mapped => "mapped",
        ChangeKind::Remapped => "remapped",
        ChangeKind::Defaulted => "filled in",
        ChangeKind::Respelled => "written in the spelling of the target",
        ChangeKind::Stored => "stored in the sidecar table",
        ChangeKind::Folded => "stored in the row's JSON",
        ChangeKind::Dropped => "lost",
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

    fn text(line: &Line) -> &str {
        match line {
            Line::Warning(text) | Line::Note(text) => text,
        }
    }

    #[test]
    fn a_few_changes_are_told_one_by_one() {
        let few = [change("data", ChangeKind::Preserved, "it is not JSON")];
        let expected = "events.data: 2 values changed to the nearest value, originals in the sidecar \
                        table: it is not JSON (first: key 7)";
        assert_eq!(changes(&few, false), [Line::Note(expected.into())]);
    }

    #[test]
    fn many_reasons_become_one_line_for_each_column() {
        let many: Vec<Change> =
            (0..9).map(|n| change("data", ChangeKind::Adapted, &format!("reason {n}"))).collect();
        let lines = changes(&many, false);
        assert_eq!(lines.len(), 1);
        assert!(matches!(lines[0], Line::Warning(_)));
        assert_eq!(
            text(&lines[0]),
            "events.data: 18 values changed to the nearest value: 9 reasons, -v lists them"
        );
        assert_eq!(changes(&many, true).len(), 9);
    }

    #[test]
    fn many_columns_become_one_line_for_each_stream() {
        let many: Vec<Change> =
            (0..9).map(|n| change(&format!("c{n}"), ChangeKind::Stored, "no column")).collect();
        let lines = changes(&many, false);
        assert_eq!(lines.len(), 1);
        assert!(text(&lines[0]).starts_with("events, 9 columns: 18 values stored"));
    }
}
