//! Values that the target cannot hold: whether the row is left out, the import stops, or a check
//! notes a problem, and in which words.

use std::collections::BTreeMap;

use super::archive_row::ArchiveRow;
use super::changes::Subject;
use super::convert::Refusal;
use super::vocabulary;
use crate::error::{Code, Error, Result};
use crate::load::rejects::RejectReason;
use crate::load::{KEYS, OnProblem, Problem, REJECT};
use crate::plan::{Fate, Plan, StreamPlan};
use chronicle_archive::singular;

/// The option that makes a value, a row or all of them loadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Times without a zone: to name it.
    AssumeZone,
    /// Old words of a vocabulary: to map them.
    MapVocabulary,
    /// A column that the target lacks.
    MissingColumn,
    /// A table that the target lacks.
    MissingTable,
    /// A value with a nearest one that the target holds.
    Adapt,
    /// A value without.
    Reject,
}

impl Remedy {
    /// The option with the value that loses nothing, as two words to type.
    fn options(self, zone: &str) -> Vec<String> {
        let [option, value] = match self {
            Remedy::AssumeZone => ["--assume-tz", zone],
            Remedy::MapVocabulary => ["--map-event-types", "upstream"],
            Remedy::MissingColumn | Remedy::MissingTable => ["--on-missing-column", "preserve"],
            Remedy::Adapt => ["--on-unrepresentable", "preserve"],
            Remedy::Reject => REJECT,
        };
        vec![option.to_owned(), value.to_owned()]
    }

    /// The options to choose from.
    fn flags(self) -> &'static str {
        match self {
            Remedy::AssumeZone => "--assume-tz ZONE",
            Remedy::MapVocabulary => vocabulary::FLAG,
            Remedy::MissingColumn => "--on-missing-column preserve, add or drop",
            Remedy::MissingTable => "--on-missing-column preserve or drop",
            Remedy::Adapt => "--on-unrepresentable preserve, adapt or reject",
            Remedy::Reject => "--rejects FILE",
        }
    }
}

/// A part of the current row that the target cannot hold.
struct Refused {
    subject: Subject,
    refusal: Refusal,
    remedy: Option<Remedy>,
    /// The stream of the row that it refers to, if that is not loaded.
    follows: Option<String>,
}

impl Refused {
    /// Whether the target lacks the column or the table: that is so for all rows, not for this one.
    fn lacks_place(&self, plan: &StreamPlan) -> bool {
        match (self.subject, plan.table()) {
            (_, None) => true,
            (Subject::Unplaced(n), Some(table)) => {
                table.unplaced.get(n).is_some_and(|c| c.fate == Fate::Refused)
            }
            (Subject::Column(_) | Subject::Row, Some(_)) => false,
        }
    }
}

/// Rows that share one reason.
struct Found {
    code: Code,
    rows: u64,
    keys: Vec<String>,
    remedy: Option<Remedy>,
    follows: Option<String>,
}

/// What was refused so far.
pub(super) struct Refusals {
    on_problem: OnProblem,
    current: Vec<Refused>,
    problems: BTreeMap<(usize, Option<String>, String), Found>,
}

impl Refusals {
    /// Nothing so far.
    pub(super) fn new(on_problem: OnProblem) -> Refusals {
        Refusals { on_problem, current: Vec::new(), problems: BTreeMap::new() }
    }

    /// Whether problems are collected, not one of them stops the import.
    pub(super) fn collects(&self) -> bool {
        self.on_problem == OnProblem::Collect
    }

    /// Forgets what the current row was refused for.
    pub(super) fn clear_row(&mut self) {
        self.current.clear();
    }

    /// Notes a part of the current row that is refused.
    pub(super) fn note(&mut self, subject: Subject, refusal: Refusal, remedy: Option<Remedy>) {
        self.current.push(Refused { subject, refusal, remedy, follows: None });
    }

    /// Notes that the current row refers to a row that is not loaded.
    pub(super) fn note_missing_parent(&mut self, subject: Subject, parent: String) {
        let reason = format!("its {} was left out", singular(&parent));
        let refusal = Refusal { reason, detail: None, zone: false };
        self.current.push(Refused { subject, refusal, remedy: None, follows: Some(parent) });
    }

    /// The same, for a reason that no value alone has.
    pub(super) fn note_reason(
        &mut self,
        subject: Subject,
        reason: impl Into<String>,
        remedy: Option<Remedy>,
    ) {
        let refusal = Refusal { reason: reason.into(), detail: None, zone: false };
        self.note(subject, refusal, remedy);
    }

    /// Whether anything of the current row is refused.
    pub(super) fn any(&self) -> bool {
        !self.current.is_empty()
    }

    /// Decides about the current row, which is refused: the reasons why it is left out.
    ///
    /// # Errors
    /// If the import stops here.
    pub(super) fn settle(
        &mut self,
        plan: &Plan,
        row: ArchiveRow<'_>,
        rejected: &mut Vec<RejectReason>,
    ) -> Result<()> {
        let planned = &plan.streams[row.stream()];
        let rejects = plan.options.rejects_rows();
        let stops = |r: &Refused| r.refusal.zone || r.lacks_place(planned) || !rejects;
        if !self.collects()
            && let Some(refused) = self.current.iter().find(|r| stops(r))
        {
            return Err(match refused.lacks_place(planned) {
                true => no_column(plan, row, refused),
                false => no_value(plan, row, refused),
            });
        }
        let key = row.key();
        for refused in std::mem::take(&mut self.current) {
            let column = Some(refused.subject.name(planned).to_owned());
            if self.collects() && stops(&refused) {
                let code = if refused.lacks_place(planned) { Code::Plan } else { Code::Value };
                self.problem(row, column.clone(), code, &refused);
            }
            let Refused { refusal, follows, .. } = refused;
            let (row, key, reason) = (row.row, key.clone(), refusal.reason);
            rejected.push(RejectReason { row, key, column, reason, follows });
        }
        Ok(())
    }

    /// Decides about a duplicate that adds something to the first row.
    ///
    /// # Errors
    /// If the import stops here.
    pub(super) fn duplicate(
        &mut self,
        table: &str,
        row: ArchiveRow<'_>,
        column: &str,
        why: &str,
    ) -> Result<()> {
        let reason = format!("{why}: it has another value here");
        if self.collects() {
            let refused = Refused {
                subject: Subject::Row,
                refusal: Refusal { reason, detail: None, zone: false },
                remedy: Some(Remedy::MissingColumn),
                follows: None,
            };
            self.problem(row, Some(column.to_owned()), Code::Conflict, &refused);
            return Ok(());
        }
        let message = format!("{}, column \"{column}\": {reason}", row.place(table));
        Err(Error::new(Code::Conflict, message).hint(
            "--on-missing-column preserve stores duplicates in the sidecar table, so that an export \
             of the target restores them; drop loses and counts them",
        ))
    }

    fn problem(
        &mut self,
        row: ArchiveRow<'_>,
        column: Option<String>,
        code: Code,
        refused: &Refused,
    ) {
        let place = (row.stream(), column, refused.refusal.reason.clone());
        let (remedy, follows) = (refused.remedy, refused.follows.clone());
        let fresh = Found { code, rows: 0, keys: Vec::new(), remedy, follows };
        let found = self.problems.entry(place).or_insert(fresh);
        found.rows += 1;
        if found.keys.len() < KEYS {
            found.keys.push(row.key());
        }
    }

    /// Whether the current row has a local time and no zone was named.
    pub(super) fn lacks_zone(&self) -> bool {
        self.current.iter().any(|refused| refused.refusal.zone)
    }

    /// The problems so far; `zone` is one that the rows' own times speak for.
    pub(super) fn problems(&self, plan: &Plan, zone: Option<&str>) -> Vec<Problem> {
        let zone = zone.unwrap_or("ZONE");
        let remedy = |remedy: &Remedy| match remedy {
            Remedy::AssumeZone => format!("--assume-tz {zone}"),
            _ => remedy.flags().to_owned(),
        };
        (self.problems.iter())
            .map(|((stream, column, reason), found)| Problem {
                code: found.code.word(),
                stream: plan.streams[*stream].name().to_owned(),
                column: column.clone(),
                reason: reason.clone(),
                rows: found.rows,
                keys: found.keys.clone(),
                remedy: found.remedy.as_ref().map(remedy),
                options: found.remedy.map_or_else(Vec::new, |remedy| remedy.options(zone)),
                follows: found.follows.clone(),
            })
            .collect()
    }
}

/// The error of a row of a stream that the target has no table for.
pub(super) fn no_table(stream: &str) -> Error {
    let message = format!("{stream}: the target has no table for its rows");
    Error::new(Code::Plan, message).hint(
        "--on-missing-column preserve stores them in the sidecar table, so that an export of the \
         target restores them; drop loses and counts them",
    )
}

/// The error of a value that the target has no column for.
fn no_column(plan: &Plan, row: ArchiveRow<'_>, refused: &Refused) -> Error {
    let planned = &plan.streams[row.stream()];
    let column = refused.subject.name(planned);
    let mut others = Vec::new();
    for (n, table) in plan.tables() {
        let refused = table.unplaced.iter().filter(|c| c.fate == Fate::Refused);
        let other = refused.filter(|c| n != row.stream() || c.name != column);
        others.extend(other.map(|c| format!("{}.{}", table.stream, c.name)));
    }
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; it has none for {} either", others.join(", ")),
    };
    let place = row.place(planned.table_name());
    Error::new(
        Code::Plan,
        format!("{place}, column \"{column}\": {}{others}", refused.refusal.reason),
    )
    .hint(
        "--on-missing-column preserve stores the values in the sidecar table, so that an export of \
         the target restores them; add gives the target the columns; drop loses and counts the values",
    )
}

/// The error of a value that a column of the target cannot hold.
fn no_value(plan: &Plan, row: ArchiveRow<'_>, refused: &Refused) -> Error {
    let planned = &plan.streams[row.stream()];
    let column = match (refused.subject, planned.table()) {
        (Subject::Column(n), Some(table)) => table.columns.get(n),
        _ => None,
    };
    let ty = column.map_or_else(String::new, |c| c.ty.name());
    let detail = refused.refusal.detail.as_ref();
    let message = format!(
        "{}, column \"{}\" ({ty} in the target): {}{}",
        row.place(planned.table_name()),
        refused.subject.name(planned),
        refused.refusal.reason,
        detail.map_or_else(String::new, |detail| format!(": {detail}"))
    );
    Error::new(Code::Value, message).hint(hint(refused.remedy))
}

/// What to type next.
fn hint(remedy: Option<Remedy>) -> String {
    match remedy {
        Some(Remedy::AssumeZone) => "name the time zone of these times: --assume-tz ZONE".into(),
        Some(Remedy::MapVocabulary) => vocabulary::HINT.into(),
        Some(Remedy::Adapt) => "--on-unrepresentable preserve loads the nearest value and \
             stores the original in the sidecar table, adapt only counts it, reject leaves the row \
             out and writes it to --rejects FILE"
            .into(),
        _ => "no value that the column can store is near this one: --rejects FILE leaves the row \
              out and writes it into FILE"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{accounts_and_notes, numbered_streams, planned};
    use crate::policy::{OnUnrepresentable, PlanOptions};
    use chronicle_archive::{Batch, Value};

    /// The result of a row of the notes whose text was refused.
    fn settle(
        on_problem: OnProblem,
        policy: OnUnrepresentable,
    ) -> (Result<Vec<RejectReason>>, Vec<Problem>) {
        let options = PlanOptions { on_unrepresentable: policy, ..PlanOptions::default() };
        let streams = numbered_streams();
        let plan = planned(&streams, &accounts_and_notes(), options);
        let mut batch = Batch::default();
        batch.start(2, 4, 10);
        batch.push(Value::Int(7));
        (0..3).for_each(|_| batch.push(Value::Null));
        let row = ArchiveRow { source: &streams[2], batch: &batch, row: 0 };
        let mut refusals = Refusals::new(on_problem);
        refusals.note_reason(Subject::Column(2), "it is too long", Some(Remedy::Adapt));
        let mut rejected = Vec::new();
        let settled = refusals.settle(&plan, row, &mut rejected);
        assert!(settled.is_err() || !refusals.any());
        (settled.map(|()| rejected), refusals.problems(&plan, None))
    }

    #[test]
    fn a_refused_value_stops_the_import_with_its_place() {
        let (settled, _) = settle(OnProblem::Stop, OnUnrepresentable::Fail);
        let error = settled.unwrap_err();
        assert_eq!(error.code(), Code::Value);
        let expected =
            "the_notes: row 10 (key 7), column \"text\" (text in the target): it is too long";
        assert_eq!(error.full(), expected);
        assert!(error.next_step().unwrap().contains("preserve loads"), "{error}");
    }

    #[test]
    fn a_rejected_row_has_a_reason_and_is_not_a_problem() {
        let (settled, problems) = settle(OnProblem::Collect, OnUnrepresentable::Reject);
        let reasons = settled.unwrap();
        assert_eq!(reasons[0].column.as_deref(), Some("text"));
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn a_check_collects_what_would_stop_the_import() {
        let (settled, problems) = settle(OnProblem::Collect, OnUnrepresentable::Fail);
        assert_eq!(settled.unwrap().len(), 1);
        assert_eq!((problems[0].rows, problems[0].keys.as_slice()), (1, &["7".to_owned()][..]));
        assert!(problems[0].remedy.as_deref().unwrap().starts_with("--on-unrepresentable"));
    }
}
