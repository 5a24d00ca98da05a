//! What would stop an import, collected by a check.

use super::{Cause, RowPlace};
use crate::error::{Code, Error};
use crate::source::Orphans;

/// Something that would stop an import, found by a check.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The word of the error it would be.
    pub code: &'static str,
    /// The stream.
    pub stream: String,
    /// The column, if it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// How many rows.
    pub rows: u64,
    /// The keys of the first ones.
    pub samples: Vec<String>,
    /// The option that solves it.
    pub remedy: Option<String>,
}

/// How many keys a problem names; all rows are counted.
pub const SAMPLES: usize = 5;

/// What happens to what would stop an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnProblem {
    /// The first one stops it.
    Stop,
    /// All are collected.
    Collect,
}

/// The problems that a target has found.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes that a row would stop an import.
    pub fn rejected(&mut self, row: &RowPlace<'_>, cause: &Cause) {
        let error = cause.error(row.table);
        let column = cause.column().map(str::to_owned);
        self.note(row.stream, column, &error, &cause.reason(), row.key);
    }

    /// Notes that a row would stop an import for a reason of `error`'s kind.
    pub fn note(
        &mut self,
        stream: &str,
        column: Option<String>,
        error: &Error,
        reason: &str,
        key: &str,
    ) {
        let code = error.code().word();
        let same = |p: &&mut Problem| {
            p.stream == stream && p.code == code && p.column == column && p.reason == reason
        };
        if let Some(problem) = self.0.iter_mut().find(same) {
            problem.rows += 1;
            if problem.samples.len() < SAMPLES {
                problem.samples.push(key.to_owned());
            }
            return;
        }
        self.0.push(Problem {
            code,
            stream: stream.to_owned(),
            column,
            reason: reason.to_owned(),
            rows: 1,
            samples: vec![key.to_owned()],
            remedy: error.next_step().map(str::to_owned),
        });
    }

    /// Notes what keeps rows from going into a table at all.
    pub fn blocker(&mut self, stream: &str, reason: impl Into<String>, remedy: &str) {
        self.0.push(Problem {
            code: Code::Target.word(),
            stream: stream.to_owned(),
            column: None,
            reason: reason.into(),
            rows: 0,
            samples: Vec::new(),
            remedy: Some(remedy.to_owned()),
        });
    }

    /// Notes an error of the server about rows that it does not count.
    pub fn refused(&mut self, stream: &str, error: &Error) {
        self.0.push(Problem {
            code: error.code().word(),
            stream: stream.to_owned(),
            column: None,
            reason: error.full(),
            rows: 0,
            samples: Vec::new(),
            remedy: error.next_step().map(str::to_owned),
        });
    }

    /// Whether any row of a stream would be refused.
    pub fn has(&self, stream: &str) -> bool {
        let blocker = Code::Target.word();
        self.0.iter().any(|p| p.stream == stream && p.code != blocker)
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Notes rows that refer to nothing.
    pub fn orphans(&mut self, orphans: &Orphans) {
        self.0.push(Problem {
            code: Code::Orphan.word(),
            stream: orphans.stream.clone(),
            column: Some(orphans.column.clone()),
            reason: "it refers to a row that is neither in the archive nor in the target".into(),
            rows: orphans.rows,
            samples: orphans.samples.iter().map(|(key, _)| key.clone()).collect(),
            remedy: Some("--orphans=skip, =adopt, or =keep where the target allows it".into()),
        });
    }

    /// All of them.
    pub fn all(&self) -> Vec<Problem> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_one_reason_are_one_problem() {
        let mut problems = Problems::default();
        let cause =
            Cause::Check { name: "short".into(), condition: "(n < 9)".into(), columns: vec![] };
        for number in 0..7_u64 {
            let key = &number.to_string();
            let row = RowPlace { stream: "notes", table: "the_notes", number, key };
            problems.rejected(&row, &cause);
        }
        let all = problems.all();
        assert_eq!((all.len(), all[0].rows, all[0].samples.len()), (1, 7, SAMPLES));
        assert_eq!(all[0].reason, cause.reason());
        assert_eq!(all[0].remedy.as_deref(), Some(cause.hint()));
    }

    #[test]
    fn a_blocker_is_not_a_problem_of_a_row() {
        let mut problems = Problems::default();
        problems.blocker("notes", "it is read-only", "make it writable");
        assert!(!problems.has("notes"));
        problems.refused("notes", &Error::new(Code::Value, "no"));
        assert!(problems.has("notes"));
    }
}
