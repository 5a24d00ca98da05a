//! What would stop an import, collected by a check.

use super::{Cause, RowPlace};
use crate::error::{Code, Error};
use crate::policy::{OnOrphans, Policy};
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
    /// The keys of the first ones; a result as JSON has the first [`SAMPLES`] of them.
    #[serde(rename = "samples", serialize_with = "samples")]
    pub keys: Vec<String>,
    /// The options to choose from, or what else solves it.
    pub remedy: Option<String>,
    /// The option that solves it and loses nothing, with its value; none if no option does.
    pub options: Vec<String>,
    /// The stream of other rows, if these ones are left out only because those are.
    pub follows: Option<String>,
}

/// How many keys a problem names; all rows are counted.
pub const SAMPLES: usize = 5;
/// How many keys it knows.
pub const KEYS: usize = 100;
/// The option that leaves out rows which the target cannot store.
pub const REJECT: [&str; 2] = ["--rejects", "rejects-{date}-{time}.ndjson.zst"];

impl Problem {
    /// A problem of no column and no rows.
    pub fn new(code: Code, stream: &str, reason: impl Into<String>) -> Problem {
        Problem {
            code: code.word(),
            stream: stream.to_owned(),
            column: None,
            reason: reason.into(),
            rows: 0,
            keys: Vec::new(),
            remedy: None,
            options: Vec::new(),
            follows: None,
        }
    }
}

fn samples<S: serde::Serializer>(keys: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().take(SAMPLES))
}

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
        let fresh = Problem {
            column: cause.column().map(str::to_owned),
            remedy: Some(cause.hint().to_owned()),
            options: cause.options(),
            ..Problem::new(cause.code(), row.stream, cause.reason())
        };
        self.note(fresh, row.key);
    }

    /// Notes a row with a problem: it is counted with others that have the same one.
    pub fn note(&mut self, fresh: Problem, key: &str) {
        let same = |p: &Problem| {
            (&p.stream, p.code, &p.column, &p.reason)
                == (&fresh.stream, fresh.code, &fresh.column, &fresh.reason)
        };
        let known = self.0.iter().position(same);
        let place = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(fresh);
        }
        if let Some(problem) = self.0.get_mut(place) {
            problem.rows += 1;
            if problem.keys.len() < KEYS {
                problem.keys.push(key.to_owned());
            }
        }
    }

    /// Notes what keeps rows from going into a table at all.
    pub fn blocker(&mut self, stream: &str, reason: impl Into<String>, remedy: &str) {
        let remedy = Some(remedy.to_owned());
        self.0.push(Problem { remedy, ..Problem::new(Code::Target, stream, reason) });
    }

    /// Notes an error of the server about rows that it does not count.
    pub fn refused(&mut self, stream: &str, error: &Error) {
        let remedy = error.next_step().map(str::to_owned);
        self.0.push(Problem { remedy, ..Problem::new(error.code(), stream, error.full()) });
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

    /// Notes rows that refer to nothing, and the policy that solves it with the least loss.
    pub fn orphans(&mut self, orphans: &Orphans, policy: OnOrphans) {
        let remedy = match policy {
            OnOrphans::Keep => "--orphans keep, skip or adopt",
            OnOrphans::Adopt => "--orphans skip or adopt",
            OnOrphans::Skip | OnOrphans::Fail => "--orphans skip",
        };
        let reason = "it refers to a row that is neither in the archive nor in the target";
        self.0.push(Problem {
            column: Some(orphans.column.clone()),
            rows: orphans.rows,
            keys: orphans.samples.iter().map(|(key, _)| key.clone()).collect(),
            remedy: Some(remedy.into()),
            options: vec!["--orphans".into(), policy.word().into()],
            ..Problem::new(Code::Orphan, &orphans.stream, reason)
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
        assert_eq!((all.len(), all[0].rows, all[0].keys.len()), (1, 7, 7));
        let json = serde_json::to_value(&all[0]).unwrap();
        assert_eq!(json["samples"].as_array().unwrap().len(), SAMPLES);
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
