//! One row on its way into its table, column by column.

use super::archive_row::ArchiveRow;
use super::changes::{ChangeKind, Subject};
use super::convert::{Refusal, convert};
use super::key_map::MappedKey;
use super::keys::Mapping;
use super::nearest::{Nearest, adapt};
use super::refusals::Remedy;
use super::settle::NO_ID;
use super::vocabulary;
use super::{TargetRows, Transformer};
use crate::catalog::{Affinity, CheckConstraint, ColumnType};
use crate::error::Result;
use crate::identity::{as_uuid, id_text, key_text};
use crate::plan::{ColumnPlan, ColumnSource, Fate, IdRule, Ids, TablePlan};
use crate::policy::EventTypes;
use crate::sidecar::{NAMELESS, SidecarEntry, comes_back, is_same, kept_reference};
use chronicle_archive::json::member;
use chronicle_archive::{Batch, Kind, Value, show};

/// Why an id that is a UUID does not stay one.
const CLASH: &str = "another row has this UUID already, in another spelling";
/// Why a value has no place.
const NO_COLUMN: &str = "the target has no column for it";

/// The value that is loaded in place of another one.
enum Instead<'a> {
    Value(Value<'a>),
    Nearest(Nearest),
}

impl Instead<'_> {
    fn value(&self) -> Value<'_> {
        match self {
            Instead::Value(value) => *value,
            Instead::Nearest(nearest) => nearest.borrow(),
        }
    }
}

impl Transformer {
    /// Converts a row of a table, appends it to `out`, and collects its changes and refusals.
    pub(super) fn convert_row(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        out: &mut Batch,
    ) -> Result<()> {
        for missing in self.unloaded.missing_parents(row)? {
            self.refusals.note_missing_parent(Subject::Column(missing.column), missing.of);
        }
        self.has_own_id = false;
        let first = out.cells();
        for n in 0..plan.columns.len() {
            self.column(plan, n, row, out)?;
            // one value per column, whatever was refused, so that the row can be taken back whole
            if out.cells() == first + n {
                out.push(Value::Null);
            }
        }
        self.unplaced_columns(plan, row);
        self.clock.look(plan, row);
        Ok(())
    }

    /// Decides about the values of columns that the target lacks.
    fn unplaced_columns(&mut self, plan: &TablePlan, row: ArchiveRow<'_>) {
        for (n, column) in plan.unplaced.iter().enumerate() {
            let (value, subject) = (row.value(column.source), Subject::Unplaced(n));
            if value == Value::Null {
                continue;
            }
            match column.fate {
                Fate::Derived => {}
                Fate::Refused => {
                    let remedy = Some(Remedy::MissingColumn);
                    self.refusals.note_reason(subject, NO_COLUMN, remedy);
                }
                Fate::Sidecar => self.originals.missing(&column.name, value),
                Fate::Preserved => {
                    self.originals.missing(&column.name, value);
                    self.changes.note(subject, ChangeKind::Stored, NO_COLUMN);
                }
                Fate::Dropped => self.changes.note(subject, ChangeKind::Dropped, NO_COLUMN),
                Fate::Folded => {
                    self.originals.fold(&column.name, value);
                    self.changes.note(subject, ChangeKind::Folded, NO_COLUMN);
                }
            }
        }
    }

    fn column(
        &mut self,
        plan: &TablePlan,
        n: usize,
        row: ArchiveRow<'_>,
        out: &mut Batch,
    ) -> Result<()> {
        let column = &plan.columns[n];
        if column.source == ColumnSource::Batch {
            out.push(Value::Null);
            return Ok(());
        }
        let (mut text, mut other) = (Vec::new(), Vec::new());
        let value = match (row.take(&column.source, &mut text), &column.default) {
            (Value::Null, Some(default)) if !column.not_null => row.take(default, &mut other),
            (value, _) => value,
        };
        if !column.is_from_archive() {
            self.fill(plan, n, row, value, out);
            return Ok(());
        }
        if let Some(ids) = &column.ids
            && self.id(plan, n, row, ids, value, out)?
        {
            return Ok(());
        }
        if let Some(types) = column.vocabulary
            && let Some(mapped) = self.vocabulary(row, types, value)
            // a target of an older time may know the old word alone
            && allows(column, mapped)
        {
            let today = Value::Text(mapped.as_bytes());
            let reason = match types {
                EventTypes::Tutorial => format!("{} is {mapped} in the tutorial", show(value)),
                EventTypes::Keep | EventTypes::Upstream => {
                    format!("{} is {mapped} today", show(value))
                }
            };
            self.changes.note(Subject::Column(n), ChangeKind::Mapped, reason);
            self.originals.original(plan, column, value, today);
            self.push(plan, n, row, today, false, out);
            return Ok(());
        }
        self.push(plan, n, row, value, true, out);
        Ok(())
    }

    /// Maps an id; true if that decided about the column.
    fn id(
        &mut self,
        plan: &TablePlan,
        n: usize,
        row: ArchiveRow<'_>,
        ids: &Ids,
        value: Value<'_>,
        out: &mut Batch,
    ) -> Result<bool> {
        let column = &plan.columns[n];
        let mapping = self.keys.map(plan, row, ids, value)?;
        if let Some(derived) = mapping.nameless {
            // or the row would come again with every import
            self.originals.missing(NAMELESS, Value::Text(derived.to_string().as_bytes()));
        }
        if ids.own && mapping.clashes && self.adapts().is_none() {
            self.refusals.note_reason(Subject::Column(n), CLASH, Some(Remedy::Adapt));
            return Ok(true);
        }
        if ids.own {
            let id = mapping.key.as_ref().map_or(value, MappedKey::value);
            self.note_own_id(id);
            self.keep_former(plan, row, id);
            let generated = value == Value::Null && mapping.key.is_some();
            if generated || (row.is_keyless() && !takes_no_id(column)) {
                self.originals.original(plan, column, Value::Null, id);
            }
        }
        let Some(key) = &mapping.key else { return Ok(false) };
        self.note_mapping(plan, n, ids, value, key, &mapping);
        self.push(plan, n, row, key.value(), false, out);
        Ok(true)
    }

    /// Notes the id that the row has in the target: a column that takes its text comes later.
    fn note_own_id(&mut self, id: Value<'_>) {
        self.own_id.clear();
        self.has_own_id = true;
        self.own_id.extend_from_slice(id_text(id).as_bytes());
    }

    /// Counts an id that became another one and stores the first one.
    fn note_mapping(
        &mut self,
        plan: &TablePlan,
        n: usize,
        ids: &Ids,
        value: Value<'_>,
        key: &MappedKey,
        mapping: &Mapping,
    ) {
        let (column, subject) = (&plan.columns[n], Subject::Column(n));
        if mapping.spelled_differently {
            let reason = "the row that it refers to spells this UUID differently: the reference \
                 comes back in that spelling";
            self.changes.note(subject, ChangeKind::Remapped, reason);
        }
        if mapping.same {
            return;
        }
        match self.adapts() {
            Some(kind) if ids.own && mapping.clashes => {
                self.changes.note(
                    subject,
                    kind,
                    format!("{CLASH}; a UUID derived from it is loaded"),
                );
            }
            _ if ids.own && !mapping.respelled && key.value() != value => {
                let reason = match key {
                    MappedKey::Uuid(_) => "the id is not a UUID; a UUID derived from it is loaded",
                    MappedKey::Integer(_) if mapping.named.is_some() => {
                        "the number is that of another database's row; one of this database is loaded"
                    }
                    MappedKey::Integer(_) => "the id is not an integer; a number is loaded",
                    MappedKey::Text(_) | MappedKey::Blob(_) => "the row gets back its original id",
                };
                self.changes.note(subject, ChangeKind::Remapped, reason);
            }
            _ => {}
        }
        if mapping.unresolved {
            // no row came under this id, so none will restore it in what refers to it
            self.originals.original(plan, column, value, key.value());
        }
        let named = mapping.named.map(|named| named.to_string());
        let stored = named.as_ref().map_or(value, |named| Value::Text(named.as_bytes()));
        if mapping.dangling {
            // or the number would be given to another row one day
            self.originals.missing(&kept_reference(&column.name), stored);
            let reason = "no row has this id; a number is loaded";
            self.changes.note(subject, ChangeKind::Remapped, reason);
        }
        let keeps = ids.own && (self.originals.preserves() || !mapping.respelled);
        if let Some(name) = plan.origin.as_ref().filter(|_| keeps) {
            self.originals.missing(name, stored);
        }
    }

    /// Stores the id that a row had before, if it does not get it back.
    fn keep_former(&mut self, plan: &TablePlan, row: ArchiveRow<'_>, id: Value<'_>) {
        let Some(column) = plan.former_id else { return };
        let former = row.value(column);
        let same_uuid = as_uuid(former).is_some() && as_uuid(former) == as_uuid(id);
        let same = same_uuid && !self.originals.preserves();
        if former != Value::Null && !same && id_text(former) != id_text(id) {
            self.originals.missing(&plan.source.columns[column].name, former);
        }
    }

    /// A value that the archive lacks: one that the target requires, or the id that it keeps.
    fn fill(
        &mut self,
        plan: &TablePlan,
        n: usize,
        row: ArchiveRow<'_>,
        value: Value<'_>,
        out: &mut Batch,
    ) {
        let column = &plan.columns[n];
        let mut scratch = std::mem::take(&mut self.scratch);
        // the text of the id that the row has in the target: that of the archive is its own only there
        let own = column.not_null && self.has_own_id && row.is_key(&column.source);
        let value = if own { Value::Text(&self.own_id) } else { value };
        match convert(&mut self.scanner, column, row.zone_rule(column), value, &mut scratch) {
            Ok(held) => {
                let held = held.borrow(&scratch);
                if column.not_null && plan.has_sidecar {
                    if let Value::Text(text) = held {
                        self.originals.defaulted(&column.name, &String::from_utf8_lossy(text));
                    }
                    let reason = "the archive lacks it and the target requires it";
                    self.changes.note(Subject::Column(n), ChangeKind::Defaulted, reason);
                }
                out.push(held);
            }
            Err(refusal) => self.refusals.note(Subject::Column(n), refusal, None),
        }
        self.scratch = scratch;
    }

    /// Pushes a value in the target's type, or the nearest one, or notes why there is none.
    fn push(
        &mut self,
        plan: &TablePlan,
        n: usize,
        row: ArchiveRow<'_>,
        value: Value<'_>,
        original: bool,
        out: &mut Batch,
    ) {
        let column = &plan.columns[n];
        let mut scratch = std::mem::take(&mut self.scratch);
        match convert(&mut self.scanner, column, row.zone_rule(column), value, &mut scratch) {
            Ok(held) => {
                let held = held.borrow(&scratch);
                out.push(held);
                if original && changes_form(column, value, held) {
                    self.originals.original(plan, column, value, held);
                }
            }
            Err(refusal) => self.unheld(plan, n, row, value, refusal, out),
        }
        self.scratch = scratch;
    }

    /// Decides about a value that the target cannot hold.
    fn unheld(
        &mut self,
        plan: &TablePlan,
        n: usize,
        row: ArchiveRow<'_>,
        value: Value<'_>,
        refusal: Refusal,
        out: &mut Batch,
    ) {
        let column = &plan.columns[n];
        let mut text = Vec::new();
        let instead = self.instead(row, column, value, &refusal, &mut text);
        match (instead, self.adapts()) {
            (Some(instead), Some(kind)) => {
                self.changes.note(Subject::Column(n), kind, refusal.reason);
                self.originals.original(plan, column, value, instead.value());
                out.push(instead.value());
            }
            (instead, _) => {
                let remedy = self.remedy(row, column, &refusal, instead.is_some(), value);
                self.refusals.note(Subject::Column(n), refusal, Some(remedy));
            }
        }
    }

    /// The nearest value that the target holds.
    fn instead<'a>(
        &mut self,
        row: ArchiveRow<'a>,
        column: &'a ColumnPlan,
        value: Value<'_>,
        refusal: &Refusal,
        text: &'a mut Vec<u8>,
    ) -> Option<Instead<'a>> {
        if refusal.zone {
            return None;
        }
        if value == Value::Null {
            let default = row.take(column.default.as_ref()?, text);
            return (default != Value::Null).then_some(Instead::Value(default));
        }
        if let (Some(_), Some(CheckConstraint::OneOf(allowed)), Value::Text(name)) =
            (column.vocabulary, &column.check, value)
        {
            let hook = self.hook(row, name);
            let name = String::from_utf8_lossy(name);
            let nearest = vocabulary::nearest(&name, hook.as_deref(), allowed)?;
            return Some(Instead::Value(Value::Text(nearest.as_bytes())));
        }
        adapt(&mut self.scanner, column, row.zone_rule(column), value).map(Instead::Nearest)
    }

    /// What would remedy a refusal.
    fn remedy(
        &mut self,
        row: ArchiveRow<'_>,
        column: &ColumnPlan,
        refusal: &Refusal,
        has_nearest: bool,
        value: Value<'_>,
    ) -> Remedy {
        if refusal.zone {
            return Remedy::AssumeZone;
        }
        if let (Some(EventTypes::Keep), Some(CheckConstraint::OneOf(allowed))) =
            (column.vocabulary, &column.check)
            && let Some(today) = self.vocabulary(row, EventTypes::Upstream, value)
            && allowed.iter().any(|a| a == today)
        {
            return Remedy::MapVocabulary;
        }
        if has_nearest { Remedy::Adapt } else { Remedy::Reject }
    }

    /// The word of today for an old one, if it is asked for and there is one.
    fn vocabulary(
        &mut self,
        row: ArchiveRow<'_>,
        types: EventTypes,
        value: Value<'_>,
    ) -> Option<&'static str> {
        let Value::Text(text) = value else { return None };
        match types {
            EventTypes::Keep => None,
            EventTypes::Upstream => {
                let hook = self.hook(row, text);
                vocabulary::upstream(std::str::from_utf8(text).ok()?, hook.as_deref())
            }
            EventTypes::Tutorial => vocabulary::tutorial(std::str::from_utf8(text).ok()?),
        }
    }

    /// The hook that a row came from, where its word asks for it.
    fn hook(&mut self, row: ArchiveRow<'_>, word: &[u8]) -> Option<String> {
        if !vocabulary::asks_for_hook(word) {
            return None;
        }
        if let Some(hook) = row.text(vocabulary::HOOK) {
            return Some(String::from_utf8_lossy(hook).into_owned());
        }
        vocabulary::PAYLOADS.into_iter().find_map(|name| {
            let payload = row.text(name)?;
            let place = member(&mut self.scanner, payload, vocabulary::HOOK)?;
            serde_json::from_slice(&payload[place.value]).ok()
        })
    }

    /// Ends a row that was appended as number `number`: its sidecar, and the key of a row without one.
    pub(super) fn finish_row(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        number: usize,
        out: &mut TargetRows,
    ) {
        self.originals.finish_payload(plan, &mut self.scanner, &mut out.rows, number);
        self.also_store_whole(plan, row, number, out);
        let Some(text) = self.originals.sidecar() else {
            // the sidecar finds a row by its key: only where it holds nothing, the key goes
            if let ([key], true) = (&plan.key[..], row.is_keyless())
                && takes_no_id(&plan.columns[*key])
            {
                out.rows.replace(number * plan.columns.len() + key, Value::Null);
            }
            return;
        };
        let mut key = plan.key.iter().map(|k| out.rows.value(number, *k));
        if let Some(n) = key.clone().position(|value| value == Value::Null) {
            let column = Subject::Column(plan.key[n]);
            self.refusals.note_reason(column, NO_ID, Some(Remedy::Reject));
            return;
        }
        let key = key_text(&mut key);
        out.sidecar.push(SidecarEntry { row: number, key, text });
    }

    /// What is done to values that the target cannot hold, if they are changed.
    fn adapts(&self) -> Option<ChangeKind> {
        ChangeKind::of_nearest(self.plan.options.on_unrepresentable)
    }
}

/// Whether a column of the target's own ids also takes a row without one, as a text key of SQLite.
fn takes_no_id(column: &ColumnPlan) -> bool {
    let keeps = column.ids.as_ref().is_some_and(|ids| ids.own && ids.rule == IdRule::Keep);
    keeps && !column.not_null && matches!(column.ty, ColumnType::Sqlite(Affinity::Text))
}

/// Whether the CHECK constraint of a column allows a text.
fn allows(column: &ColumnPlan, text: &str) -> bool {
    match &column.check {
        Some(CheckConstraint::OneOf(allowed)) => allowed.iter().any(|a| a == text),
        _ => true,
    }
}

/// Whether a value that the column holds is another one, or spelled differently, when it is read back.
fn changes_form(column: &ColumnPlan, value: Value<'_>, held: Value<'_>) -> bool {
    match (&column.ty, value) {
        (ColumnType::Timestamptz, Value::Text(_)) => true,
        (ColumnType::Uuid, Value::Text(text)) => {
            as_uuid(value).is_none_or(|uuid| uuid.to_string().as_bytes() != text)
        }
        // an empty object or list has no room for a difference
        (ColumnType::Jsonb, Value::Text(text)) => {
            column.kind != Kind::Jsonb && !matches!(text, b"{}" | b"[]")
        }
        // only the server knows how it spells a value
        (ColumnType::Cast(_), Value::Text(_)) => false,
        _ => !is_same(held, value) && !comes_back(column.kind, value, held),
    }
}
