//! The originals of one row: what the target cannot hold and the sidecar stores, in the row's own
//! JSON or in the sidecar.

use std::collections::BTreeMap;

use crate::catalog::ColumnType;
use crate::plan::{ColumnPlan, TablePlan};
use crate::sidecar::{Fingerprint, RESERVED_KEY, SidecarValues};
use chronicle_archive::json::{Scanner, member};
use chronicle_archive::{Batch, Kind, Stream, Value};

/// What is stored of the current row beyond its columns.
#[derive(Default)]
pub(super) struct Originals {
    /// Whether the originals of changed values are stored.
    preserves: bool,
    sidecar: SidecarValues,
    folded: SidecarValues,
    fingerprint: Fingerprint,
}

/// The kind by which a column of the target is compared with what was loaded.
pub(super) fn kind_of(column: &ColumnPlan) -> Kind {
    if column.ty == ColumnType::Jsonb { Kind::Jsonb } else { Kind::Text }
}

impl Originals {
    /// Nothing; `preserves` says whether the originals of changed values are stored.
    pub(super) fn new(preserves: bool) -> Originals {
        Originals { preserves, ..Originals::default() }
    }

    /// Whether the originals of changed values are stored.
    pub(super) fn preserves(&self) -> bool {
        self.preserves
    }

    /// Forgets the current row.
    pub(super) fn clear_row(&mut self) {
        self.sidecar.clear();
        self.folded.clear();
    }

    /// Stores the original of a value, if originals are stored.
    pub(super) fn original(
        &mut self,
        plan: &TablePlan,
        column: &ColumnPlan,
        value: Value<'_>,
        loaded: Value<'_>,
    ) {
        if self.preserves && plan.has_sidecar {
            let fingerprint = self.fingerprint.of(kind_of(column), loaded);
            self.sidecar.original(&column.name, value, fingerprint);
        }
    }

    /// Stores the value of a column that the table lacks in the sidecar.
    pub(super) fn missing(&mut self, column: &str, value: Value<'_>) {
        self.sidecar.missing(column, value);
    }

    /// Stores the value of a column that the table lacks in the row's JSON, if it has room.
    pub(super) fn fold(&mut self, column: &str, value: Value<'_>) {
        self.folded.missing(column, value);
    }

    /// Notes that a column has a value only because the target requires one.
    pub(super) fn defaulted(&mut self, column: &str, value: &str) {
        self.sidecar.defaulted(column, value);
    }

    /// Puts what has no column under the reserved key of the row's JSON, else into the sidecar, and
    /// notes a payload that had such a key already, so that an export does not take it for ours.
    pub(super) fn finish_payload(
        &mut self,
        plan: &TablePlan,
        scanner: &mut Scanner,
        rows: &mut Batch,
        row: usize,
    ) {
        if !self.folded.is_empty() {
            let carried = plan.fold.and_then(|fold| match rows.value(row, fold) {
                Value::Text(text) => Some((fold, self.folded.fold_into(scanner, text)?)),
                _ => None,
            });
            match carried {
                Some((fold, text)) => {
                    rows.replace(row * plan.columns.len() + fold, Value::Text(&text));
                }
                None => self.sidecar.append(&mut self.folded),
            }
        }
        self.keep_reserved_key(plan, scanner, rows, row);
    }

    fn keep_reserved_key(
        &mut self,
        plan: &TablePlan,
        scanner: &mut Scanner,
        rows: &Batch,
        row: usize,
    ) {
        let Some(fold) = plan.fold.filter(|_| plan.has_sidecar) else { return };
        let column = &plan.columns[fold];
        let value = rows.value(row, fold);
        let Value::Text(text) = value else { return };
        let has = |scanner: &mut Scanner| {
            memchr::memmem::find(text, RESERVED_KEY.as_bytes()).is_some()
                && member(scanner, text, RESERVED_KEY).is_some()
        };
        if self.folded.is_empty() && !self.sidecar.has(&column.name) && has(scanner) {
            let fingerprint = self.fingerprint.of(kind_of(column), value);
            self.sidecar.original(&column.name, value, fingerprint);
        }
    }

    /// Notes that the row is stored whole, too, and what its columns hold.
    pub(super) fn also_whole(&mut self, plan: &TablePlan, rows: &Batch, row: usize) {
        let mut columns = BTreeMap::new();
        for (n, column) in plan.columns.iter().enumerate() {
            let fingerprint = self.fingerprint.of(kind_of(column), rows.value(row, n));
            columns.insert(column.name.clone(), fingerprint);
        }
        self.sidecar.also_whole(columns);
    }

    /// Takes the sidecar of the current row as text; None if there is nothing.
    pub(super) fn sidecar(&mut self) -> Option<String> {
        let sidecar = std::mem::take(&mut self.sidecar);
        (!sidecar.is_empty()).then(|| sidecar.text())
    }
}

/// A row that is stored whole, as the text of its sidecar.
pub(super) fn whole_row<'a>(source: &Stream, values: impl Iterator<Item = Value<'a>>) -> String {
    let mut whole = SidecarValues::default();
    for (column, value) in source.columns.iter().zip(values).filter(|(_, v)| *v != Value::Null) {
        whole.missing(&column.name, value);
    }
    whole.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::testing::{accounts_and_notes, numbered_streams, planned};
    use crate::policy::{OnUnrepresentable, PlanOptions};

    fn plan() -> Plan {
        let options = PlanOptions {
            on_unrepresentable: OnUnrepresentable::Preserve,
            ..PlanOptions::default()
        };
        planned(&numbered_streams(), &accounts_and_notes(), options)
    }

    /// A row of the accounts with a payload.
    fn account(payload: &str) -> Batch {
        let mut rows = Batch::default();
        rows.start(0, 2, 1);
        rows.push(Value::Uuid([7; 16]));
        rows.push(Value::Text(payload.as_bytes()));
        rows
    }

    fn finish(originals: &mut Originals, payload: &str) -> (String, Option<String>) {
        let (plan, mut rows) = (plan(), account(payload));
        let table = plan.streams[0].table().unwrap();
        originals.finish_payload(table, &mut Scanner::default(), &mut rows, 0);
        let Value::Text(text) = rows.value(0, 1) else { panic!("no payload") };
        (String::from_utf8(text.to_vec()).unwrap(), originals.sidecar())
    }

    #[test]
    fn a_value_without_a_column_goes_into_the_payload() {
        let mut originals = Originals::new(true);
        originals.fold("tool", Value::Text(b"x"));
        let (payload, sidecar) = finish(&mut originals, "{}");
        assert_eq!(payload, r#"{"chronicle_dump":{"tool":{"text":"x"}}}"#);
        assert_eq!(sidecar, None);
    }

    #[test]
    fn a_value_without_room_in_the_payload_goes_into_the_sidecar() {
        let mut originals = Originals::new(true);
        originals.fold("tool", Value::Text(b"x"));
        let (payload, sidecar) = finish(&mut originals, "[]");
        assert_eq!(
            (payload.as_str(), sidecar.as_deref()),
            ("[]", Some(r#"{"tool":{"text":"x"}}"#))
        );
    }

    #[test]
    fn a_payload_that_has_the_reserved_key_is_noted() {
        let mut originals = Originals::new(true);
        let payload = r#"{"chronicle_dump":1}"#;
        let (same, sidecar) = finish(&mut originals, payload);
        assert_eq!(same, payload);
        assert!(sidecar.unwrap().contains(r#""info":{"#), "its original");
    }

    #[test]
    fn originals_are_stored_only_where_the_user_says_so() {
        for preserves in [false, true] {
            let (plan, mut originals) = (plan(), Originals::new(preserves));
            let table = plan.streams[2].table().unwrap();
            originals.original(table, &table.columns[2], Value::Text(b"a\0"), Value::Text(b"a"));
            assert_eq!(originals.sidecar().is_some(), preserves);
        }
    }
}
