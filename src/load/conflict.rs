//! Rows that another row of the target is in the way of: what a policy decides about them, and the error of those that
//! it does not settle.

use std::cmp::Ordering;

use super::{Cause, Problem, SAMPLES};
use crate::error::{Code, Error};
use crate::plan::{Plan, TablePlan};
use crate::policy::{OnConflict, Policy as _};
use chronicle_archive::{show_count, show_text};

/// What settles a conflict.
pub const CONFLICT_HINT: &str = "--on-conflict skip keeps the target's rows, update takes the archive's, newer those \
                                 that were changed last; `chronicle-dump diff` shows them";

/// What is decided about a row that is not as the target has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing settles it: the import stops.
    Refuse,
    /// The target's row stays.
    Keep,
    /// The archive's row replaces it.
    Update,
}

impl Decision {
    /// The decision of a policy; `newer` is how the time of last change in the archive compares with that
    /// in the target, if both have one.
    pub fn of(policy: OnConflict, newer: impl FnOnce() -> Option<Ordering>) -> Decision {
        match policy {
            OnConflict::Fail => Decision::Refuse,
            OnConflict::Skip => Decision::Keep,
            OnConflict::Update => Decision::Update,
            OnConflict::Newer => match newer() {
                Some(Ordering::Greater) => Decision::Update,
                Some(Ordering::Less) => Decision::Keep,
                // two rows with one time: whichever came first would win
                Some(Ordering::Equal) | None => Decision::Refuse,
            },
        }
    }
}

/// Rows of one stream that nothing settles, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The stream.
    pub stream: String,
    /// What is in the way.
    pub cause: Cause,
    /// How many rows.
    pub rows: u64,
    /// The keys of the first ones.
    pub samples: Vec<String>,
}

/// The conflicts of a load so far.
#[derive(Debug, Clone, Default)]
pub struct ConflictList(Vec<Conflict>);

impl ConflictList {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any row of a stream is in conflict.
    pub fn has(&self, stream: &str) -> bool {
        self.0.iter().any(|c| c.stream == stream)
    }

    /// Adds rows with one cause.
    pub fn add(&mut self, conflict: Conflict) {
        let same =
            |c: &&mut Conflict| c.stream == conflict.stream && c.cause.is_like(&conflict.cause);
        match self.0.iter_mut().find(same) {
            None => self.0.push(conflict),
            Some(known) => {
                known.rows += conflict.rows;
                known.samples.extend(conflict.samples);
                known.samples.truncate(SAMPLES);
            }
        }
    }

    /// Adds one row.
    pub fn note(&mut self, stream: &str, cause: Cause, key: &str) {
        let samples = vec![key.to_owned()];
        self.add(Conflict { stream: stream.to_owned(), cause, rows: 1, samples });
    }

    /// All of them.
    pub fn all(&self) -> Vec<Conflict> {
        self.0.clone()
    }
}

impl Conflict {
    /// What a check says of it.
    pub fn problem(&self) -> Problem {
        Problem {
            rows: self.rows,
            keys: self.samples.clone(),
            remedy: Some(self.cause.hint().to_owned()),
            options: self.cause.options(),
            ..Problem::new(Code::Conflict, &self.stream, self.cause.reason())
        }
    }

    fn line(&self, plan: &Plan) -> String {
        let first = self.samples.first().map_or("", String::as_str);
        let rows = show_count(self.rows, "rows");
        let undecided = match self.cause {
            Cause::Differs { .. } => plan.tables().find_map(|(_, t)| undecided(t, &self.stream)),
            _ => None,
        };
        format!(
            "{}: {rows}: {} (first: key {}){}",
            self.stream,
            self.cause.reason(),
            show_text(first),
            undecided.unwrap_or_default()
        )
    }
}

/// Why `newer` decides nothing about rows of a stream.
fn undecided(table: &TablePlan, stream: &str) -> Option<String> {
    if table.stream != stream || table.on_conflict != OnConflict::Newer {
        return None;
    }
    Some(match table.changed {
        None => "; neither row says when it was changed last, so newer decides nothing".into(),
        Some(column) => format!(
            "; their \"{}\" is the same or no time, so newer decides nothing",
            show_text(&table.columns[column].name)
        ),
    })
}

/// The error of conflicts that nothing settles, if there are any.
pub fn unsettled(conflicts: &[Conflict], plan: &Plan) -> Option<Error> {
    let first = conflicts.first()?;
    let lines: Vec<String> = conflicts.iter().map(|c| c.line(plan)).collect();
    let error = match &lines[..] {
        [only] => Error::new(Code::Conflict, format!("{only}; nothing was changed")),
        _ => {
            let rows = show_count(conflicts.iter().map(|c| c.rows).sum(), "rows");
            let what =
                format!("{rows} of the archive conflict with the target; nothing was changed:");
            Error::new(Code::Conflict, what).with_details(lines)
        }
    };
    Some(error.hint(match newer_hint(conflicts, plan) {
        Some(hint) => hint,
        None => first.cause.hint().to_owned(),
    }))
}

/// What to type where `newer` has decided nothing: all streams concerned, and what was chosen for the others.
fn newer_hint(conflicts: &[Conflict], plan: &Plan) -> Option<String> {
    let is_open = |t: &TablePlan| {
        conflicts
            .iter()
            .any(|c| matches!(c.cause, Cause::Differs { .. }) && undecided(t, &c.stream).is_some())
    };
    if !plan.tables().any(|(_, t)| is_open(t)) {
        return None;
    }
    let choose = |policy: OnConflict| {
        let mut choices = vec![OnConflict::Newer.word().to_owned()];
        for (_, table) in plan.tables() {
            let chosen = if is_open(table) { policy } else { table.on_conflict };
            if chosen != OnConflict::Newer {
                choices.push(format!("{}={}", table.stream, chosen.word()));
            }
        }
        choices.join(",")
    };
    let (skip, update) = (choose(OnConflict::Skip), choose(OnConflict::Update));
    Some(format!(
        "--on-conflict {skip} keeps the target's rows, {update} takes the archive's; \
         `chronicle-dump diff` shows them"
    ))
}

/// The error of a table whose key does not tell its rows apart; `several` is a key that several of them have, if one
/// is known.
pub fn key_not_unique(table: &str, columns: &[&str], several: Option<&str>) -> Error {
    let (columns, are) = match columns {
        [only] => (format!("\"{only}\""), "is"),
        _ => (format!("({})", columns.join(", ")), "are together"),
    };
    let found = several
        .map_or_else(String::new, |key| format!(" (several rows have the key {})", show_text(key)));
    Error::new(
        Code::Plan,
        format!(
            "{table}: {columns} {are} not a unique key in this database{found}, so existing rows could \
             not be recognised; nothing was changed"
        ),
    )
    .hint("import with --clear or into a new database with --create, or make the key unique: CREATE UNIQUE INDEX")
}

/// The error of rows that would go while rows of a table that the archive does not have refer to them.
pub fn still_referred(child: &str, parent: &str, rows: u64, keys: &[&str]) -> Error {
    Error::new(
        Code::Orphan,
        format!(
            "{}: rows of {}, which the archive does not have, refer to {} that would be gone: {}; \
             nothing was changed",
            show_text(parent),
            show_text(child),
            show_count(rows, "rows"),
            keys.join("; ")
        ),
    )
    .hint(format!("delete or change the rows of {} first", show_text(child)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{accounts_and_notes, numbered_streams, planned};
    use crate::policy::{PerStream, PlanOptions};

    #[test]
    fn newer_decides_by_the_times_and_by_nothing_else() {
        let decide = |order| Decision::of(OnConflict::Newer, || order);
        assert_eq!(decide(Some(Ordering::Greater)), Decision::Update);
        assert_eq!(decide(Some(Ordering::Less)), Decision::Keep);
        assert_eq!(decide(Some(Ordering::Equal)), Decision::Refuse);
        assert_eq!(decide(None), Decision::Refuse);
        let never = || -> Option<Ordering> { panic!("no time is asked for") };
        assert_eq!(Decision::of(OnConflict::Skip, never), Decision::Keep);
    }

    #[test]
    fn the_hint_of_newer_names_all_streams_at_once() {
        let words = ["newer", "members=skip"].map(str::to_owned);
        let conflicts = PerStream::parse("--on-conflict", &words).unwrap();
        let options = PlanOptions { conflicts, ..PlanOptions::default() };
        let plan = planned(&numbered_streams(), &accounts_and_notes(), options);
        let mut list = ConflictList::default();
        for stream in ["notes", "accounts"] {
            list.note(stream, Cause::Differs { column: "text".into() }, "1");
        }
        let error = unsettled(&list.all(), &plan).unwrap();
        let hint = error.next_step().unwrap();
        for policy in ["skip", "update"] {
            let expected = format!("newer,accounts={policy},members=skip,notes={policy}");
            assert!(hint.contains(&expected), "{hint}");
        }
    }

    #[test]
    fn rows_with_one_cause_are_one_conflict() {
        let mut list = ConflictList::default();
        let differs = |column: &str| Cause::Differs { column: column.into() };
        for key in 0..9 {
            list.note("notes", differs("text"), &key.to_string());
        }
        list.note("notes", differs("size"), "10");
        let all = list.all();
        assert_eq!((all.len(), all[0].rows, all[0].samples.len()), (2, 9, SAMPLES));
        assert_eq!(all[0].problem().rows, 9);
    }
}
