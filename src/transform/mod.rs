//! Rows of an archive to rows of a target: every value in the target's type, every id mapped, and
//! everything that was changed, kept or refused counted by name.

pub mod convert;
pub mod event_type;
pub mod key_map;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::catalog::{Affinity, CheckConstraint, ColumnType};
use crate::error::{Code, Error, Result};
use crate::identity::{as_integer, as_uuid, show_id, uuid_for};
use crate::layout::known_stream;
use crate::load::{KeysOf, Problem, Purpose};
use crate::plan::{
    ColumnPlan, ColumnSource, Fate, IdRule, Ids, Plan, StreamPlan, Unmapped, derived,
};
use crate::policy::{EventTypes, OnUnrepresentable};
use crate::sidecar::{
    Fingerprint, NAMELESS as NAMELESS_ID, RESERVED_KEY, SidecarEntry, SidecarValues, kept_reference,
};
use crate::spill::Spill;
use crate::transform::convert::{Nearest, Refusal, adapt, convert};
use crate::transform::key_map::{KeyMap, MappedKey};
use chronicle_archive::json::{Scanner, member};
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Batch, Kind, TimeText, Value, show};

/// The bytes of shaped rows that are enough for a slice: little memory, and few statements.
const SLICE: usize = 1 << 20;
/// How many rows are named for one reason; all are counted.
const NAMED: usize = 5;

/// What was done to values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The nearest value was loaded.
    Adapted,
    /// The nearest value was loaded and the original kept.
    Preserved,
    /// An old type of event became one of today.
    Mapped,
    /// An id became another one.
    Remapped,
    /// A value that the archive lacks and the target requires was made.
    Defaulted,
    /// A value without a column was kept with its row.
    Folded,
    /// A value without a column was lost.
    Dropped,
}

/// Values that are not in the target as they are in the archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The stream.
    pub stream: String,
    /// The column.
    pub column: String,
    /// What was done.
    pub what: What,
    /// Why.
    pub reason: String,
    /// How many values.
    pub values: u64,
    /// The key of the first row.
    pub first: String,
}

/// A row that is not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number in the batch.
    pub row: usize,
    /// Its key.
    pub key: String,
    /// The column, if it is one.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
}

/// Rows in the form of the target.
#[derive(Debug, Default)]
pub struct TargetRows {
    /// The rows.
    pub rows: Batch,
    /// The row of the archive's batch that each comes from.
    pub from: Vec<usize>,
    /// What is kept beside them.
    pub sidecar: Vec<SidecarEntry>,
    /// The rows that are not among them.
    pub rejected: Vec<Rejected>,
    /// The rows whose id another stream has brought into the same table, as a whole, by their
    /// numbers in the archive's batch.
    pub again: Vec<SidecarEntry>,
    /// How many such rows were left out because they say nothing new.
    pub redundant_rows: u64,
}

/// Makes rows of a target out of rows of an archive.
pub struct Transformer {
    plan: Arc<Plan>,
    purpose: Purpose,
    scanner: Scanner,
    scratch: Vec<u8>,
    fingerprint: Fingerprint,
    /// The ids of every stream whose ids do not all follow from themselves.
    ids: BTreeMap<String, KeyMap>,
    /// What grows with the rows, in the spaces below.
    spill: Spill,
    /// Whether any row was not loaded: where all were, nothing is looked up.
    any_unloaded: bool,
    /// Whether any row spells its UUID in a way of its own.
    any_respelled: bool,
    /// Of every stream, how its rows meet those of another one in the same table.
    sharing: Vec<Sharing>,
    changes: BTreeMap<(usize, String, What, String), (u64, String)>,
    problems: BTreeMap<(usize, Option<String>, String), Found>,
    /// Of every stream, whether other rows may refer to its rows.
    referenced: Vec<bool>,
    clocks: Clocks,
    row: Row,
}

/// Where it stands how many rows without an id had the same content, by the UUID of that.
const NAMELESS: u32 = 0;
/// Where the ids stand of rows that were not loaded and that others may refer to.
const UNLOADED: u32 = 1;
/// The sessions that came under another id.
const RENAMED: u32 = 2;

/// Where the rows stand whose table another stream goes into, too: by their names, the fingerprints
/// of their values.
const FIRST: u32 = 3;
/// The ids that refer to no row, where ids are numbers.
const DANGLING: u32 = 4;
/// The UUIDs that rows spell in a way of their own, with that spelling.
const RESPELLED: u32 = 5;
/// How long a fingerprint is.
const FINGERPRINT: usize = 16;

/// How the rows of a stream meet those of another one in the same table.
enum Sharing {
    /// They do not.
    Alone,
    /// They come first; with whether their values are original_columns.
    First(bool),
    /// They come later: the plan for second copies, and what is compared where those are refused.
    Second(usize, Vec<Compared>),
}

impl Sharing {
    fn of(plan: &Plan, stream: usize) -> Sharing {
        let second =
            |n: usize| plan.duplicates(n).filter(|_| plan.first_into_table(n) == Some(stream));
        match (plan.duplicates(stream), (0..plan.streams.len()).find_map(second)) {
            (Some(again), _) => Sharing::Second(again, compared(plan, stream, again)),
            (None, Some(again)) => {
                Sharing::First(plan.streams[again].unmapped == Some(Unmapped::Fail))
            }
            (None, None) => Sharing::Alone,
        }
    }
}

/// A column of a second copy that the first one may not have as it is.
struct Compared {
    column: usize,
    /// The column of the first one.
    first: Option<usize>,
    /// The column of the second one whose text says the same.
    default_from: Option<usize>,
}

/// The columns in which second copies can hold what the first ones do not.
fn compared(plan: &Plan, stream: usize, again: usize) -> Vec<Compared> {
    let second = &plan.streams[stream].source;
    let first = plan.first_into_table(stream).map(|n| &plan.streams[n].source);
    let known = known_stream(&second.name);
    let default_from = |name: &str| {
        let said = known.as_ref()?.columns.iter().find(|c| c.name == name)?;
        second.column(said.default_from.as_deref()?)
    };
    if plan.streams[again].unmapped != Some(Unmapped::Fail) {
        return Vec::new();
    }
    (second.columns.iter().enumerate())
        .filter(|(_, column)| !derived(second, column))
        .map(|(column, named)| Compared {
            column,
            first: first.and_then(|first| first.column(&named.name)),
            default_from: default_from(&named.name),
        })
        .collect()
}

/// Why an id that is a UUID does not stay one.
const CLASH: &str = "another row has this UUID already, in another spelling";

/// Rows that share one reason.
struct Found {
    code: Code,
    rows: u64,
    first: Vec<String>,
    remedy: Option<String>,
}

/// What is collected of one row.
#[derive(Default)]
struct Row {
    /// Whether it had no key where it first came from.
    keyless: bool,
    /// Its id in the target.
    own: Option<String>,
    /// Whether the UUID that its id spells is another row's.
    clashes: bool,
    /// Its key in our own table, if it has no other.
    key: Option<String>,
    beside: SidecarValues,
    folded: SidecarValues,
    changed: Vec<(String, What, String)>,
    refused: Vec<(String, Refusal, Option<String>)>,
}

impl Row {
    fn clear(&mut self) {
        self.own = None;
        self.clashes = false;
        self.key = None;
        self.beside.clear();
        self.folded.clear();
        self.changed.clear();
        self.refused.clear();
    }
}

impl Transformer {
    /// A shaper for a plan.
    ///
    /// # Errors
    /// If there is no temporary file for what grows with the rows.
    pub fn new(plan: Arc<Plan>, purpose: Purpose) -> Result<Transformer> {
        let mut ids = BTreeMap::new();
        for of in (plan.streams.iter()).flat_map(|s| &s.columns).filter_map(|c| c.ids.as_ref()) {
            if !ids.contains_key(&of.of) {
                ids.insert(of.of.clone(), KeyMap::new()?);
            }
        }
        let referenced = plan.streams.iter().map(|s| plan.is_referenced(&s.stream)).collect();
        let sharing = (0..plan.streams.len()).map(|n| Sharing::of(&plan, n)).collect();
        Ok(Transformer {
            plan,
            sharing,
            purpose,
            scanner: Scanner::default(),
            scratch: Vec::new(),
            fingerprint: Fingerprint::default(),
            ids,
            spill: Spill::new()?,
            any_unloaded: false,
            any_respelled: false,
            changes: BTreeMap::new(),
            problems: BTreeMap::new(),
            referenced,
            clocks: Clocks::default(),
            row: Row::default(),
        })
    }

    /// The streams whose ids are mapped by a rule, with their tables, so that the ids in use can be
    /// known first. With each, the name under which the ids that rows had before are kept beside them.
    fn mapped(&self, rule: IdRule) -> Vec<(String, usize, Option<String>)> {
        let mut found: Vec<(String, usize, Option<String>)> = Vec::new();
        let streams = &self.plan.streams;
        for column in streams.iter().flat_map(|s| &s.columns) {
            if let Some(ids) = column.ids.as_ref().filter(|i| i.rule == rule)
                && !found.iter().any(|(of, ..)| *of == ids.of)
            {
                let own = streams.iter().find(|s| s.unmapped.is_none() && s.table == ids.table);
                let origin = own.and_then(|s| s.origin.clone());
                found.push((ids.of.clone(), ids.table, origin));
            }
        }
        found
    }

    /// The streams whose ids become UUIDs, with their tables and the name under which the ids that
    /// rows had before are kept beside them.
    pub fn spelled(&self) -> Vec<(String, usize, Option<String>)> {
        self.mapped(IdRule::Uuid)
    }

    /// The streams whose ids become numbers, with where those in use stand: as ids of rows, and in
    /// columns that refer to rows which may not be there.
    pub fn numbered(&self) -> Vec<(String, KeysOf)> {
        let mut found = Vec::new();
        for (of, table, origin) in self.mapped(IdRule::Integer) {
            let kept_as = [NAMELESS_ID.to_owned()].into_iter().chain(origin).collect();
            found.push((of.clone(), KeysOf { table, refers: None, kept_as }));
            for stream in self.plan.streams.iter().filter(|s| s.unmapped.is_none()) {
                let refers =
                    |c: &&ColumnPlan| c.ids.as_ref().is_some_and(|ids| !ids.own && ids.of == of);
                found.extend(stream.columns.iter().filter(refers).map(|column| {
                    let kept_as = vec![kept_reference(&column.name)];
                    let refers = Some(column.target);
                    (of.clone(), KeysOf { table: stream.table, refers, kept_as })
                }));
            }
        }
        found
    }

    /// Notes an integer that is in use, what it was where its row came from, and whether it only
    /// refers to a row.
    ///
    /// # Errors
    /// If the temporary file cannot be used.
    pub fn know(&mut self, of: &str, original: Option<&str>, id: i64, refers: bool) -> Result<()> {
        if let Some(original) = original.filter(|_| refers) {
            self.spill.put(DANGLING, &named(of, Value::Text(original.as_bytes())), &[])?;
        }
        self.ids.get_mut(of).map_or(Ok(()), |map| map.know(original, id))
    }

    /// Notes that a row has a UUID, and what its id was where it came from: if that spells this UUID,
    /// or would have, had not another row had it.
    ///
    /// # Errors
    /// If the temporary file cannot be used.
    pub fn register_spelling(&mut self, of: &str, original: &str, id: Uuid) -> Result<()> {
        let value = Value::Text(original.as_bytes());
        let (Some(map), Some(spelled)) = (self.ids.get_mut(of), as_uuid(value)) else {
            return Ok(());
        };
        if spelled == id {
            return map.take(original, id).map(|_| ());
        }
        match uuid_for(self.plan.instance, of, value) == id {
            true => map.restore(original, &MappedKey::Uuid(id)),
            false => Ok(()),
        }
    }

    /// Makes the rows of the target for those of a batch from row number `from` on, until they are
    /// enough for a slice; returns the number of the row that comes next.
    ///
    /// # Errors
    /// The first value that the target cannot hold, with table, key, column and reason, unless the
    /// plan or the purpose says that rows are left out for it.
    pub fn shape(&mut self, batch: &Batch, from: usize, out: &mut TargetRows) -> Result<usize> {
        let plan = Arc::clone(&self.plan);
        let Some(stream) = plan.streams.get(batch.stream()) else {
            return Err(Error::new(Code::Internal, "rows of a stream without a plan"));
        };
        if let (Some(Unmapped::Fail), false) = (stream.unmapped, self.purpose == Purpose::Check) {
            return Err(no_table(stream));
        }
        out.rows.start(batch.stream(), stream.columns.len(), batch.first_row());
        out.from.clear();
        out.sidecar.clear();
        out.rejected.clear();
        out.again.clear();
        out.redundant_rows = 0;
        let mut beside = 0;
        for row in from..batch.rows() {
            if out.rows.size() + beside >= SLICE {
                return Ok(row);
            }
            let kept = out.sidecar.len();
            self.row.clear();
            self.row.keyless = batch.keyless(row);
            let (at, shaped) = (At { stream, batch, row }, out.rows.rows());
            if self.came_before(at, out)? {
                self.count_changes(at);
                continue;
            }
            self.one(at, &mut out.rows)?;
            if self.row.refused.is_empty() {
                self.keep(at, shaped, out);
                beside += out.sidecar.get(kept).map_or(0, |kept| kept.text.len());
            }
            if self.row.refused.is_empty() {
                out.from.push(row);
                self.count_changes(at);
                self.note_first(at)?;
                continue;
            }
            out.rows.truncate(shaped);
            self.refuse(at, out)?;
        }
        Ok(batch.rows())
    }

    fn count_changes(&mut self, at: At<'_>) {
        for (column, what, reason) in self.row.changed.drain(..) {
            let place = (at.batch.stream(), column, what, reason);
            let fresh = || (0, key_of(at.stream, at.batch, at.row));
            self.changes.entry(place).or_insert_with(fresh).0 += 1;
        }
    }

    /// Notes a row that is loaded, if another stream may bring its id again.
    fn note_first(&mut self, at: At<'_>) -> Result<()> {
        let compares = match self.sharing[at.batch.stream()] {
            Sharing::First(compares) => compares,
            Sharing::Second(..) if self.any_unloaded => {
                // the first copy was not loaded, this one is: what refers to it finds it
                let name = own_name(at.stream, at.batch, at.row);
                return name.map_or(Ok(()), |n| self.spill.remove(UNLOADED, &n).map(|_| ()));
            }
            _ => return Ok(()),
        };
        let Some(name) = own_name(at.stream, at.batch, at.row) else { return Ok(()) };
        let mut values = String::new();
        for n in (0..at.stream.source.columns.len()).filter(|_| compares) {
            values.push_str(&self.fingerprint.of(Kind::Text, at.batch.value(at.row, n)));
        }
        self.spill.put(FIRST, &name, values.as_bytes()).map(|_| ())
    }

    /// Whether another stream has brought a row with this id into the same table. Then this one is
    /// left out, lost or kept unmapped, or an error.
    fn came_before(&mut self, at: At<'_>, out: &mut TargetRows) -> Result<bool> {
        let plan = Arc::clone(&self.plan);
        let Sharing::Second(again, _) = self.sharing[at.batch.stream()] else { return Ok(false) };
        let Some(name) = own_name(at.stream, at.batch, at.row) else { return Ok(false) };
        let Some(first) = self.spill.get(FIRST, &name)? else { return Ok(false) };
        let second = At { stream: &plan.streams[again], ..at };
        match second.stream.unmapped {
            Some(unmapped @ (Unmapped::Sidecar | Unmapped::Drop)) => {
                self.unmapped(second, unmapped, &self.comes_twice(at))?;
                if let Some(key) = self.row.key.take() {
                    out.again.push(SidecarEntry { row: at.row, key, text: self.row.beside.text() });
                }
            }
            Some(Unmapped::Fail) | None => match self.lost_of(at, &first) {
                None => out.redundant_rows += 1,
                Some(column) => self.refuse_again(at, column)?,
            },
        }
        Ok(true)
    }

    /// Keeps a row unmapped, too, that only the later of two streams of one table brings: so it goes back
    /// into a table of its own, where there is one.
    fn also_keep_in_sidecar(&mut self, at: At<'_>, shaped: usize, out: &mut TargetRows) {
        let Sharing::Second(again, _) = self.sharing[at.batch.stream()] else { return };
        let plan = Arc::clone(&self.plan);
        let second = At { stream: &plan.streams[again], ..at };
        let has_key = own_name(at.stream, at.batch, at.row).is_some();
        if second.stream.unmapped != Some(Unmapped::Sidecar) || !has_key {
            return;
        }
        let mut whole = SidecarValues::default();
        for missing in &second.stream.missing {
            let value = at.batch.value(at.row, missing.source);
            if value != Value::Null {
                whole.missing(&missing.name, value);
            }
        }
        out.again.push(SidecarEntry { row: at.row, key: plain_key(second), text: whole.text() });
        let mut columns = BTreeMap::new();
        for (n, column) in at.stream.columns.iter().enumerate() {
            let kind = if column.ty == ColumnType::Jsonb { Kind::Jsonb } else { Kind::Text };
            let print = self.fingerprint.of(kind, out.rows.value(shaped, n));
            columns.insert(column.name.clone(), print);
        }
        self.row.beside.also_in_sidecar(columns);
    }

    /// Why a row is a second copy.
    fn comes_twice(&self, at: At<'_>) -> String {
        let first = self.plan.first_into_table(at.batch.stream());
        let first = first.map_or("", |n| &self.plan.streams[n].stream);
        format!("{first} has a row with this id, and the target has one table for both")
    }

    /// The first column in which a second copy says what the first one, of which the fingerprints
    /// are, does not.
    fn lost_of(&mut self, at: At<'_>, first: &[u8]) -> Option<usize> {
        let Sharing::Second(_, compared) = &self.sharing[at.batch.stream()] else { return None };
        let value = |n: usize| at.batch.value(at.row, n);
        let said = |n: usize| matches!(value(n), Value::Null | Value::Text(b"" | b"{}"));
        for Compared { column, first: place, default_from } in compared {
            let made =
                default_from.is_some_and(|from| show_id(value(from)) == show_id(value(*column)));
            if said(*column) || made {
                continue;
            }
            let there = place.and_then(|n| first.get(n * FINGERPRINT..(n + 1) * FINGERPRINT));
            let own = self.fingerprint.of(Kind::Text, value(*column));
            if there != Some(own.as_bytes()) {
                return Some(*column);
            }
        }
        None
    }

    /// Refuses a second copy that says more than the first one, in a column of the archive.
    fn refuse_again(&mut self, at: At<'_>, column: usize) -> Result<()> {
        let column = &at.stream.source.columns[column].name;
        let reason = format!("{}: it says something else here", self.comes_twice(at));
        if self.purpose == Purpose::Check {
            let remedy = Some("--on-missing-column=fold, =add or =drop".into());
            let key = key_of(at.stream, at.batch, at.row);
            let (stream, column) = (at.batch.stream(), Some(column.clone()));
            self.problem(stream, column, &reason, Code::Conflict, &key, remedy);
            return Ok(());
        }
        let told = format!("{}, column \"{column}\": {reason}", at.place());
        Err(Error::new(Code::Conflict, told).hint(
            "--on-missing-column=fold keeps second copies in a table of our own, so that an export \
             of the target gives them back; =drop loses and counts them",
        ))
    }

    fn one(&mut self, at: At<'_>, out: &mut Batch) -> Result<()> {
        if let Some(unmapped) = at.stream.unmapped {
            return self.unmapped(at, unmapped, "the target has no table for it");
        }
        let first = out.cells();
        for (n, column) in at.stream.columns.iter().enumerate() {
            self.column(at, column, out)?;
            // one value per column, whatever was refused, so that the row can be taken back whole
            if out.cells() == first + n {
                out.push(Value::Null);
            }
        }
        for missing in &at.stream.missing {
            let value = at.batch.value(at.row, missing.source);
            let what = match missing.fate {
                _ if value == Value::Null => continue,
                Fate::Derived => continue,
                Fate::Refused => {
                    let reason = "the target has no column for it".to_owned();
                    let remedy = Some("--on-missing-column=fold, =add or =drop".into());
                    let refusal = Refusal { reason, zone: false };
                    self.row.refused.push((missing.name.clone(), refusal, remedy));
                    continue;
                }
                Fate::Kept => {
                    self.row.beside.missing(&missing.name, value);
                    continue;
                }
                Fate::Dropped => What::Dropped,
                Fate::Folded => {
                    self.row.folded.missing(&missing.name, value);
                    What::Folded
                }
            };
            let reason = "the target has no column for it";
            self.row.changed.push((missing.name.clone(), what, reason.into()));
        }
        if Clocks::has_clocks(&at.stream.role) {
            self.clocks.look(at);
        }
        Ok(())
    }

    /// A row that the target has no table for.
    fn unmapped(&mut self, at: At<'_>, unmapped: Unmapped, reason: &str) -> Result<()> {
        let (all, reason) = ("*".to_owned(), reason.to_owned());
        match unmapped {
            Unmapped::Fail => {
                let remedy = Some("--on-missing-column=fold or =drop".into());
                self.row.refused.push((all, Refusal { reason, zone: false }, remedy));
            }
            Unmapped::Drop => self.row.changed.push((all, What::Dropped, reason)),
            Unmapped::Sidecar => {
                self.row.changed.push((all, What::Folded, reason));
                for missing in &at.stream.missing {
                    let value = at.batch.value(at.row, missing.source);
                    if value != Value::Null {
                        self.row.beside.missing(&missing.name, value);
                    }
                }
                let null =
                    at.stream.source.key.iter().any(|k| at.batch.value(at.row, *k) == Value::Null);
                self.row.key = Some(match null {
                    true => self.nameless(at)?.to_string(),
                    false => plain_key(at),
                });
            }
        }
        Ok(())
    }

    fn column(&mut self, at: At<'_>, column: &ColumnPlan, out: &mut Batch) -> Result<()> {
        let (mut text, mut other) = (Vec::new(), Vec::new());
        let value = match (at.taken(&column.taken, &mut text), &column.default) {
            (Value::Null, Some(otherwise)) if !column.not_null => at.taken(otherwise, &mut other),
            (value, _) => value,
        };
        if !matches!(column.taken, ColumnSource::Column(_)) {
            self.make(at, column, value, out);
            return Ok(());
        }
        if let Some(ids) = &column.ids {
            let refers = !ids.own && value != Value::Null;
            if refers
                && self.any_unloaded
                && self.spill.get(UNLOADED, &named(&ids.of, value))?.is_some()
            {
                let reason = format!("{} {} is not loaded either", ids.of, show(value));
                let refusal = Refusal { reason, zone: false };
                self.row.refused.push((column.name.clone(), refusal, None));
                return Ok(());
            }
            let given = self.id(at, ids, value)?;
            if ids.own && self.row.clashes && self.adapts().is_none() {
                let refusal = Refusal { reason: CLASH.into(), zone: false };
                let remedy = Some("--on-unrepresentable=adapt, =preserve or =reject".into());
                self.row.refused.push((column.name.clone(), refusal, remedy));
                return Ok(());
            }
            if ids.own {
                let id = given.as_ref().map_or(value, MappedKey::value);
                self.row.own = Some(show_id(id));
                self.keep_former(at, id);
                let made = value == Value::Null && given.is_some();
                if made || (self.row.keyless && !takes_no_id(column)) {
                    self.keep_original(at, column, Value::Null, id);
                }
            }
            if let Some(given) = given {
                self.note_id(at, column, ids, value, &given)?;
                self.convert(at, column, given.value(), false, out);
                return Ok(());
            }
        }
        if let Some(types) = column.event_type
            && let Some(mapped) = self.event_type(at, types, value)
            // a target of an older time may know the old type alone
            && allows(column, mapped)
        {
            let today = Value::Text(mapped.as_bytes());
            self.change(column, What::Mapped, format!("{} is {mapped} today", show(value)));
            self.keep_original(at, column, value, today);
            self.convert(at, column, today, false, out);
            return Ok(());
        }
        self.convert(at, column, value, true, out);
        Ok(())
    }

    fn change(&mut self, column: &ColumnPlan, what: What, reason: String) {
        self.row.changed.push((column.name.clone(), what, reason));
    }

    /// A value that the archive lacks: one that the target requires, or the id that it keeps.
    fn make(&mut self, at: At<'_>, column: &ColumnPlan, value: Value<'_>, out: &mut Batch) {
        let mut scratch = std::mem::take(&mut self.scratch);
        // made of the id that the row has in the target: that of the archive is its own only there
        let own = self.row.own.clone().filter(|_| column.not_null && at.is_key(&column.taken));
        let value = own.as_ref().map_or(value, |own| Value::Text(own.as_bytes()));
        match convert(&mut self.scanner, column, at.zone_rule(column), value, &mut scratch) {
            Ok(held) => {
                let held = held.borrow(&scratch);
                if column.not_null && at.stream.remembers {
                    if let Value::Text(text) = held {
                        self.row.beside.made(&column.name, &String::from_utf8_lossy(text));
                    }
                    let reason = "the archive lacks it and the target requires it";
                    self.row.changed.push((column.name.clone(), What::Defaulted, reason.into()));
                }
                out.push(held);
            }
            Err(refusal) => self.row.refused.push((column.name.clone(), refusal, None)),
        }
        self.scratch = scratch;
    }

    /// Keeps the id that a row had before, if it does not get it back.
    fn keep_former(&mut self, at: At<'_>, id: Value<'_>) {
        let Some(column) = at.stream.former_id else { return };
        let former = at.batch.value(at.row, column);
        let preserves = self.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let same_uuid = as_uuid(former).is_some() && as_uuid(former) == as_uuid(id) && !preserves;
        if former != Value::Null && !same_uuid && show_id(former) != show_id(id) {
            self.row.beside.missing(&at.stream.source.columns[column].name, former);
        }
    }

    /// The id that stands for one of the archive's, if another one does.
    fn id(&mut self, at: At<'_>, ids: &Ids, value: Value<'_>) -> Result<Option<MappedKey>> {
        let column = at.stream.former_id.filter(|_| ids.own);
        let former = column.map(|n| at.batch.value(at.row, n));
        if value == Value::Null {
            return match ids.rule {
                IdRule::Uuid if ids.own => {
                    self.nameless(at).map(|made| Some(MappedKey::Uuid(made)))
                }
                IdRule::Integer if ids.own => {
                    let made = self.nameless(at)?.to_string();
                    // or the row would come again with every import
                    self.row.beside.missing(NAMELESS_ID, Value::Text(made.as_bytes()));
                    let map = self.ids.get_mut(&ids.of);
                    map.map(|map| map.integer(&made, None).map(MappedKey::Integer)).transpose()
                }
                _ => Ok(None),
            };
        }
        let shown = show_id(value);
        let Some(map) = self.ids.get_mut(&ids.of) else { return Ok(None) };
        let back = match (ids.rule, former) {
            (IdRule::Integer, former) => {
                if !ids.own && map.get(&shown)?.is_none() {
                    self.spill.put(DANGLING, &named(&ids.of, value), &[])?;
                }
                let former = former.and_then(as_integer).or_else(|| as_integer(value));
                // a UUID that was made of this number for a row of this very database: it is that row
                let made_of = |n: i64| {
                    let home = self.plan.home.filter(|_| ids.own);
                    home.map(|home| uuid_for(home, &ids.of, Value::Int(n)))
                };
                if let Some(number) = former
                    && as_uuid(value).is_some_and(|uuid| made_of(number) == Some(uuid))
                {
                    map.restore(&shown, &MappedKey::Integer(number))?;
                    return Ok(Some(MappedKey::Integer(number)));
                }
                return map.integer(&shown, former).map(|id| Some(MappedKey::Integer(id)));
            }
            (IdRule::Uuid, former) => former.and_then(as_uuid).map(MappedKey::Uuid),
            (IdRule::Keep, Some(Value::Blob(bytes))) => Some(MappedKey::Blob(bytes.to_vec())),
            (IdRule::Keep, Some(Value::Text(text))) => Some(MappedKey::Text(text.to_vec())),
            (IdRule::Keep, Some(Value::Int(v))) => {
                Some(MappedKey::Text(v.to_string().into_bytes()))
            }
            (IdRule::Keep, _) => None,
        };
        if let Some(back) = back
            && map.give_back(&shown, &back)?
        {
            return Ok(Some(back));
        }
        let given = map.get(&shown)?;
        if given.is_some() || ids.rule != IdRule::Uuid {
            return Ok(given);
        }
        let uuid = as_uuid(value);
        if let Some(uuid) = uuid
            && (!ids.own || map.take(&shown, uuid)?)
        {
            return Ok(Some(MappedKey::Uuid(uuid)));
        }
        let made = MappedKey::Uuid(uuid_for(self.plan.instance, &ids.of, value));
        self.row.clashes = uuid.is_some();
        if self.row.clashes && self.plan.options.on_unrepresentable.adapts() {
            // what refers to the row spells it as the row does
            map.restore(&shown, &made)?;
        }
        Ok(Some(made))
    }

    /// The UUID of a row without an id: it follows from its content, and of equal rows from how many
    /// there were.
    fn nameless(&mut self, at: At<'_>) -> Result<uuid::Uuid> {
        let mut content = String::new();
        for n in 0..at.stream.source.columns.len() {
            content.push_str(&self.fingerprint.of(Kind::Text, at.batch.value(at.row, n)));
        }
        let content = Value::Text(content.as_bytes());
        let content = uuid_for(self.plan.instance, &at.stream.stream, content);
        let before = self.spill.get(NAMELESS, content.as_bytes())?;
        let before = before.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        let count = before.saturating_add(1).to_be_bytes();
        self.spill.put(NAMELESS, content.as_bytes(), &count)?;
        Ok(uuid::Uuid::new_v5(&content, &count))
    }

    /// Counts an id that became another one and keeps the first one.
    fn note_id(
        &mut self,
        at: At<'_>,
        column: &ColumnPlan,
        ids: &Ids,
        value: Value<'_>,
        given: &MappedKey,
    ) -> Result<()> {
        self.note_spelling(column, ids, value, given)?;
        let same = match (value, given) {
            (Value::Text(text), MappedKey::Uuid(uuid)) => uuid.to_string().as_bytes() == text,
            (Value::Text(text), MappedKey::Text(given)) => text == given,
            (Value::Int(v), MappedKey::Integer(given)) => v == *given,
            _ => false,
        };
        if same {
            return Ok(());
        }
        let respelled = matches!((as_uuid(value), given), (Some(a), MappedKey::Uuid(b)) if a == *b);
        if let (true, true, Some(what)) = (ids.own, self.row.clashes, self.adapts()) {
            self.change(column, what, format!("{CLASH}: one made from it stands there"));
        } else if !respelled && ids.own {
            let reason = match given {
                MappedKey::Uuid(_) => "the id is no UUID: one made from it stands there",
                MappedKey::Integer(_) => "the id is no integer: a number stands there",
                MappedKey::Text(_) | MappedKey::Blob(_) => "the row gets back the id it had before",
            };
            self.change(column, What::Remapped, reason.into());
        }
        let preserves = self.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let named = named(&ids.of, value);
        if ids.own && self.referenced[at.batch.stream()] {
            self.spill.put(RENAMED, &named, &[])?;
        } else if !ids.own && preserves && self.spill.get(RENAMED, &named)?.is_none() {
            // no row came under this id, so none will give it back to who refers to it
            self.keep_original(at, column, value, given.value());
        }
        if let (MappedKey::Integer(_), false) = (given, ids.own)
            && self.spill.get(DANGLING, &named)?.is_some()
        {
            // or the number would be given to another row one day
            self.row.beside.missing(&kept_reference(&column.name), value);
            let reason = "there is no row with this id: a number stands for it";
            self.change(column, What::Remapped, reason.into());
        }
        let wanted = ids.own && (preserves || !respelled);
        if let Some(name) = at.stream.origin.as_ref().filter(|_| wanted) {
            self.row.beside.missing(name, value);
        }
        Ok(())
    }

    /// Tells of a reference that spells a UUID otherwise than the row that it refers to: both are one
    /// UUID in the target, so the way back spells both as the row does.
    fn note_spelling(
        &mut self,
        column: &ColumnPlan,
        ids: &Ids,
        value: Value<'_>,
        given: &MappedKey,
    ) -> Result<()> {
        let preserves = self.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let (MappedKey::Uuid(uuid), Value::Text(text), true) = (given, value, preserves) else {
            return Ok(());
        };
        if ids.own && uuid.to_string().as_bytes() != text && as_uuid(value) == Some(*uuid) {
            self.any_respelled = true;
            self.spill.put(RESPELLED, uuid.as_bytes(), text)?;
        }
        if !ids.own && self.any_respelled {
            let spelled = self.spill.get(RESPELLED, uuid.as_bytes())?;
            if spelled.is_some_and(|spelled| spelled != text) {
                let reason = "the row that it refers to spells this UUID otherwise: the reference \
                              comes back in that spelling";
                self.change(column, What::Remapped, reason.into());
            }
        }
        Ok(())
    }

    /// The type of today for an old one, if it is asked for and there is one.
    fn event_type(
        &mut self,
        at: At<'_>,
        types: EventTypes,
        value: Value<'_>,
    ) -> Option<&'static str> {
        let (EventTypes::Upstream, Value::Text(text)) = (types, value) else { return None };
        let hook = self.hook(at, text);
        event_type::upstream(std::str::from_utf8(text).ok()?, hook.as_deref())
    }

    /// The hook that an event came from, where its type asks for it.
    fn hook(&mut self, at: At<'_>, event_type: &[u8]) -> Option<String> {
        if !event_type::asks_for_hook(event_type) {
            return None;
        }
        if let Some(hook) = at.text("hook_event_name") {
            return Some(String::from_utf8_lossy(hook).into_owned());
        }
        ["data", "metadata"].into_iter().find_map(|name| {
            let payload = at.text(name)?;
            let place = member(&mut self.scanner, payload, "hook_event_name")?;
            serde_json::from_slice(&payload[place.value]).ok()
        })
    }

    /// Pushes a value in the target's type, or the nearest one, or notes why there is none.
    fn convert(
        &mut self,
        at: At<'_>,
        column: &ColumnPlan,
        value: Value<'_>,
        original: bool,
        out: &mut Batch,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        match convert(&mut self.scanner, column, at.zone_rule(column), value, &mut scratch) {
            Ok(held) => {
                let held = held.borrow(&scratch);
                out.push(held);
                if original && changes_form(column, value) {
                    self.keep_original(at, column, value, held);
                }
            }
            Err(refusal) => self.unheld(at, column, value, refusal, out),
        }
        self.scratch = scratch;
    }

    /// Decides about a value that the target cannot hold.
    fn unheld(
        &mut self,
        at: At<'_>,
        column: &ColumnPlan,
        value: Value<'_>,
        refusal: Refusal,
        out: &mut Batch,
    ) {
        let mut text = Vec::new();
        let instead = self.instead(at, column, value, &refusal, &mut text);
        match (instead, self.adapts()) {
            (Some(instead), Some(what)) => {
                self.change(column, what, refusal.reason);
                self.keep_original(at, column, value, instead.value());
                out.push(instead.value());
            }
            (instead, _) => {
                let remedy = self.remedy(at, column, &refusal, instead.is_some(), value);
                self.row.refused.push((column.name.clone(), refusal, remedy));
            }
        }
    }

    /// What is done to values that the target cannot hold, if they are changed.
    fn adapts(&self) -> Option<What> {
        match self.plan.options.on_unrepresentable {
            OnUnrepresentable::Adapt => Some(What::Adapted),
            OnUnrepresentable::Preserve => Some(What::Preserved),
            OnUnrepresentable::Fail | OnUnrepresentable::Reject => None,
        }
    }

    /// The nearest value that the target holds.
    fn instead<'a>(
        &mut self,
        at: At<'a>,
        column: &'a ColumnPlan,
        value: Value<'_>,
        refusal: &Refusal,
        text: &'a mut Vec<u8>,
    ) -> Option<Instead<'a>> {
        if refusal.zone {
            return None;
        }
        if value == Value::Null {
            let otherwise = at.taken(column.default.as_ref()?, text);
            return (otherwise != Value::Null).then_some(Instead::Value(otherwise));
        }
        if let (Some(_), Some(CheckConstraint::OneOf(allowed)), Value::Text(name)) =
            (column.event_type, &column.check, value)
        {
            let hook = self.hook(at, name);
            let name = String::from_utf8_lossy(name);
            let nearest = event_type::nearest(&name, hook.as_deref(), allowed)?;
            return Some(Instead::Value(Value::Text(nearest.as_bytes())));
        }
        adapt(&mut self.scanner, column, at.zone_rule(column), value).map(Instead::Nearest)
    }

    /// What would remedy a refusal.
    fn remedy(
        &mut self,
        at: At<'_>,
        column: &ColumnPlan,
        refusal: &Refusal,
        has_nearest: bool,
        value: Value<'_>,
    ) -> Option<String> {
        if refusal.zone {
            return Some("--assume-tz".into());
        }
        if let (Some(EventTypes::Keep), Some(CheckConstraint::OneOf(allowed))) =
            (column.event_type, &column.check)
            && let Some(today) = self.event_type(at, EventTypes::Upstream, value)
            && allowed.iter().any(|a| a == today)
        {
            return Some("--event-types=upstream".into());
        }
        Some(match has_nearest {
            true => "--on-unrepresentable=adapt, =preserve or =reject".into(),
            false => "--on-unrepresentable=reject".into(),
        })
    }

    /// Keeps the original of a value, if originals are kept.
    fn keep_original(
        &mut self,
        at: At<'_>,
        column: &ColumnPlan,
        value: Value<'_>,
        loaded: Value<'_>,
    ) {
        let preserves = self.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        if preserves && at.stream.remembers {
            let kind = if column.ty == ColumnType::Jsonb { Kind::Jsonb } else { Kind::Text };
            let was = self.fingerprint.of(kind, loaded);
            self.row.beside.original(&column.name, value, was);
        }
    }

    /// Puts what has no column under the reserved key of the row's JSON, or beside the row.
    fn keep(&mut self, at: At<'_>, shaped: usize, out: &mut TargetRows) {
        let stream = at.stream;
        if !self.row.folded.is_empty() {
            let carried = stream.fold.and_then(|fold| match out.rows.value(shaped, fold) {
                Value::Text(text) => {
                    Some((fold, self.row.folded.fold_into(&mut self.scanner, text)?))
                }
                _ => None,
            });
            match carried {
                Some((fold, text)) => {
                    let place = shaped * stream.columns.len() + fold;
                    out.rows.replace(place, Value::Text(&text));
                }
                None => self.row.beside.append(&mut self.row.folded),
            }
        }
        self.keep_reserved(stream, shaped, out);
        self.also_keep_in_sidecar(at, shaped, out);
        if self.row.beside.is_empty() {
            // what is kept beside a row finds it by its key: only where nothing is, it goes
            if let ([key], true) = (&stream.key[..], self.row.keyless)
                && takes_no_id(&stream.columns[*key])
            {
                out.rows.replace(shaped * stream.columns.len() + key, Value::Null);
            }
            return;
        }
        if let Some(key) = stream.key.iter().find(|k| out.rows.value(shaped, **k) == Value::Null) {
            let reason = "the row has no id, so nothing can be kept beside it";
            let refusal = Refusal { reason: reason.into(), zone: false };
            let remedy = Some("--on-unrepresentable=reject".into());
            self.row.refused.push((stream.columns[*key].name.clone(), refusal, remedy));
            return;
        }
        let shown = || {
            let key = stream.key.iter().map(|k| show_id(out.rows.value(shaped, *k)));
            key.collect::<Vec<_>>().join(", ")
        };
        let key = self.row.key.take().unwrap_or_else(shown);
        out.sidecar.push(SidecarEntry { row: shaped, key, text: self.row.beside.text() });
    }

    /// Notes a payload that had the reserved key already, so that an export does not take it for ours.
    fn keep_reserved(&mut self, stream: &StreamPlan, shaped: usize, out: &TargetRows) {
        let Some(fold) = stream.fold.filter(|_| stream.remembers) else { return };
        let column = &stream.columns[fold];
        let value = out.rows.value(shaped, fold);
        let Value::Text(text) = value else { return };
        let folded = !self.row.folded.is_empty();
        let has = |scanner: &mut Scanner| {
            memchr::memmem::find(text, RESERVED_KEY.as_bytes()).is_some()
                && member(scanner, text, RESERVED_KEY).is_some()
        };
        if !folded && !self.row.beside.has(&column.name) && has(&mut self.scanner) {
            let kind = if column.ty == ColumnType::Jsonb { Kind::Jsonb } else { Kind::Text };
            let was = self.fingerprint.of(kind, value);
            self.row.beside.original(&column.name, value, was);
        }
    }

    /// Decides about a row with a value that the target cannot hold.
    fn refuse(&mut self, at: At<'_>, out: &mut TargetRows) -> Result<()> {
        let checks = self.purpose == Purpose::Check;
        let rejects = self.plan.options.on_unrepresentable == OnUnrepresentable::Reject;
        let refused = std::mem::take(&mut self.row.refused);
        // a zone or a column is missing for all rows, not for this one
        let missing = |name: &String| {
            at.stream.unmapped.is_some()
                || at.stream.missing.iter().any(|m| m.name == *name && m.fate == Fate::Refused)
        };
        let stops = (refused.iter())
            .find(|(column, refusal, _)| refusal.zone || missing(column) || !rejects);
        if let (false, Some((column, refusal, _))) = (checks, stops)
            && missing(column)
        {
            return Err(no_column(&self.plan, at, column, &refusal.reason));
        }
        if let (false, Some((column, refusal, remedy))) = (checks, stops) {
            return Err(self.refused_error(at, column, refusal, remedy.as_deref()));
        }
        let key = key_of(at.stream, at.batch, at.row);
        self.unload(at.batch, &[at.row])?;
        for (column, refusal, remedy) in refused {
            let misses = missing(&column);
            let column = Some(column);
            if checks && (refusal.zone || misses || !rejects) {
                let stream = at.batch.stream();
                let code = if misses { Code::Plan } else { Code::Value };
                self.problem(stream, column.clone(), &refusal.reason, code, &key, remedy);
            }
            let reason = refusal.reason;
            out.rejected.push(Rejected { row: at.row, key: key.clone(), column, reason });
        }
        Ok(())
    }

    /// Notes that rows are not loaded, so that what refers to them is not either.
    ///
    /// # Errors
    /// If the temporary file cannot be used.
    pub fn unload(&mut self, batch: &Batch, rows: &[usize]) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let Some(stream) = plan.streams.get(batch.stream()) else { return Ok(()) };
        for name in rows.iter().filter_map(|row| own_name(stream, batch, *row)) {
            self.spill.remove(FIRST, &name)?;
            if self.referenced[batch.stream()] {
                self.any_unloaded = true;
                self.spill.put(UNLOADED, &name, &[])?;
            }
        }
        Ok(())
    }

    fn refused_error(
        &self,
        at: At<'_>,
        column: &str,
        refusal: &Refusal,
        remedy: Option<&str>,
    ) -> Error {
        let ty = at.stream.columns.iter().find(|c| c.name == column).map(|c| c.ty.name());
        let zone = self.plan.zone_hint.as_deref();
        let hint = match (zone, remedy) {
            (Some(zone), Some("--assume-tz")) => format!(
                "say in which time zone these times were written: --assume-tz ZONE; the archive \
                 was made on a machine in {zone}: --assume-tz archive"
            ),
            (None, Some("--assume-tz")) => "say in which time zone these times were written: \
                 --assume-tz ZONE, for example --assume-tz Europe/Berlin"
                .into(),
            (_, Some("--event-types=upstream")) => "--event-types=upstream gives old types the \
                 names that Chronicle gave them later"
                .into(),
            (_, Some(flags)) if flags.contains("=adapt") => "--on-unrepresentable=adapt loads the \
                 nearest value that the target holds and counts it, =preserve keeps the original \
                 beside it, =reject leaves the row out and writes it to --rejects FILE"
                .into(),
            _ => {
                "this value has no form that the column holds: --on-unrepresentable=reject leaves \
                  the row out and writes it to --rejects FILE"
                    .into()
            }
        };
        Error::new(
            Code::Value,
            format!(
                "{}, column \"{column}\" ({} in the target): {}",
                at.place(),
                ty.unwrap_or_default(),
                refusal.reason
            ),
        )
        .hint(hint)
    }

    /// Notes something that would stop an import.
    pub fn problem(
        &mut self,
        stream: usize,
        column: Option<String>,
        reason: &str,
        code: Code,
        key: &str,
        remedy: Option<String>,
    ) {
        let place = (stream, column, reason.to_owned());
        let fresh = Found { code, rows: 0, first: Vec::new(), remedy };
        let found = self.problems.entry(place).or_insert(fresh);
        found.rows += 1;
        if found.first.len() < NAMED {
            found.first.push(key.to_owned());
        }
    }

    /// What was changed so far.
    pub fn changes(&self) -> Vec<Change> {
        (self.changes.iter())
            .map(|((stream, column, what, reason), (values, first))| Change {
                stream: self.plan.streams[*stream].stream.clone(),
                column: column.clone(),
                what: *what,
                reason: reason.clone(),
                values: *values,
                first: first.clone(),
            })
            .collect()
    }

    /// What a check has found so far.
    pub fn problems(&self) -> Vec<Problem> {
        (self.problems.iter())
            .map(|((stream, column, reason), found)| Problem {
                code: found.code.word(),
                stream: self.plan.streams[*stream].stream.clone(),
                column: column.clone(),
                reason: reason.clone(),
                rows: found.rows,
                first: found.first.clone(),
                remedy: found.remedy.clone(),
            })
            .collect()
    }

    /// What is odd about the times of the events.
    pub fn shifted(&self) -> Option<String> {
        self.clocks.shifted()
    }

    /// What the times of the events tell about the clock that wrote them.
    pub fn clock(&self) -> Option<String> {
        self.clocks.evidence()
    }
}

/// The error of a value that the target has no column for.
fn no_column(plan: &Plan, at: At<'_>, column: &str, reason: &str) -> Error {
    let names = |s: &StreamPlan| -> Vec<String> {
        let refused = s.missing.iter().filter(|m| m.fate == Fate::Refused);
        let others = refused.filter(|m| s.stream != at.stream.stream || m.name != column);
        others.map(|m| format!("{}.{}", s.stream, m.name)).collect()
    };
    let others: Vec<String> = plan.streams.iter().flat_map(names).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; it has none for {} either", others.join(", ")),
    };
    Error::new(
        Code::Plan,
        format!("{}, column \"{column}\": {reason}{others}", at.place()),
    )
    .hint(
        "--on-missing-column=fold keeps the values in the row's JSON, so that an export of the target \
         gives them back; =add gives the target the columns; =drop loses and counts the values",
    )
}

/// The error of a row that the target has no table for.
fn no_table(stream: &StreamPlan) -> Error {
    let told = format!("{}: the target has no table for its rows", stream.stream);
    Error::new(Code::Plan, told).hint(
        "--on-missing-column=fold keeps them in a table of our own, so that an export of the target \
         gives them back; =drop loses and counts them",
    )
}

/// A row of the archive where it stands.
#[derive(Clone, Copy)]
struct At<'a> {
    stream: &'a StreamPlan,
    batch: &'a Batch,
    row: usize,
}

impl<'a> At<'a> {
    /// Its table, its number in the archive and its key, for messages.
    fn place(&self) -> String {
        format!(
            "{}: row {} (key {})",
            self.stream.table_name,
            self.batch.first_row() + self.row as u64,
            key_of(self.stream, self.batch, self.row)
        )
    }

    /// The text of a column of the archive, if it is one.
    fn text(&self, name: &str) -> Option<&'a [u8]> {
        match self.batch.value(self.row, self.stream.source.column(name)?) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How a time without a zone is read: at the offset that is known of it, else as the plan says.
    fn zone_rule(&self, column: &ColumnPlan) -> ZoneRule {
        let known = match column.taken {
            ColumnSource::Column(n) => self.batch.offset(self.row, n),
            ColumnSource::TextOf(_) | ColumnSource::Text(_) => None,
        };
        known.map_or(column.zone_rule, ZoneRule::Fixed)
    }

    /// Whether a column of the target takes the text of the row's id.
    fn is_key(&self, taken: &ColumnSource) -> bool {
        matches!(taken, ColumnSource::TextOf(n) if self.stream.source.key == [*n])
    }

    /// The value that a column of the target takes.
    fn taken<'v>(&self, taken: &'v ColumnSource, text: &'v mut Vec<u8>) -> Value<'v>
    where
        'a: 'v,
    {
        match taken {
            ColumnSource::Column(n) => self.batch.value(self.row, *n),
            ColumnSource::Text(text) => Value::Text(text.as_bytes()),
            ColumnSource::TextOf(n) => match self.batch.value(self.row, *n) {
                Value::Null => Value::Null,
                Value::Text(text) => Value::Text(text),
                other => {
                    *text = show_id(other).into_bytes();
                    Value::Text(text)
                }
            },
        }
    }
}

/// The value that is loaded in the place of another one.
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

/// Whether a column of the target's own ids also takes a row without one, as a text key of SQLite.
fn takes_no_id(column: &ColumnPlan) -> bool {
    let keeps = column.ids.as_ref().is_some_and(|ids| ids.own && ids.rule == IdRule::Keep);
    keeps && !column.not_null && matches!(column.ty, ColumnType::Sqlite(Affinity::Text))
}

/// Whether the target's rule for a column allows a text.
fn allows(column: &ColumnPlan, text: &str) -> bool {
    match &column.check {
        Some(CheckConstraint::OneOf(allowed)) => allowed.iter().any(|a| a == text),
        _ => true,
    }
}

/// Whether a value that the column holds is spelled otherwise when it is read back.
fn changes_form(column: &ColumnPlan, value: Value<'_>) -> bool {
    match (&column.ty, value) {
        (ColumnType::Timestamptz, Value::Text(_)) => true,
        (ColumnType::Uuid, Value::Text(text)) => {
            as_uuid(value).is_none_or(|uuid| uuid.to_string().as_bytes() != text)
        }
        // an empty object or list has no room for a difference
        (ColumnType::Jsonb, Value::Text(text)) => {
            column.kind != Kind::Jsonb && !matches!(text, b"{}" | b"[]")
        }
        (ColumnType::Cast(_), Value::Text(_)) => column.kind == Kind::Text,
        _ => false,
    }
}

/// What names a row: its stream and its id.
fn named(of: &str, id: Value<'_>) -> Vec<u8> {
    format!("{of}\0{}", show_id(id)).into_bytes()
}

/// The key of a row as our own table has it: a text that every database can hold.
fn plain_key(at: At<'_>) -> String {
    let parts = at.stream.source.key.iter().map(|k| show_id(at.batch.value(at.row, *k)));
    let key = parts.collect::<Vec<_>>().join(", ");
    // a NUL stands in no text of Postgres
    match key.starts_with('\u{1}') || key.contains('\0') {
        true => format!("\u{1}{}", chronicle_archive::hex(key.as_bytes())),
        false => key,
    }
}

/// What names a row of the archive, if it has an id.
fn own_name(stream: &StreamPlan, batch: &Batch, row: usize) -> Option<Vec<u8>> {
    let own = |c: &&ColumnPlan| c.ids.as_ref().is_some_and(|ids| ids.own);
    let column = stream.columns.iter().find(own)?;
    match (&column.ids, &column.taken) {
        (Some(ids), ColumnSource::Column(n)) if batch.value(row, *n) != Value::Null => {
            Some(named(&ids.of, batch.value(row, *n)))
        }
        _ => None,
    }
}

/// The key of a row, for messages.
pub fn key_of(stream: &StreamPlan, batch: &Batch, row: usize) -> String {
    let parts = stream.source.key.iter().map(|k| show(batch.value(row, *k)));
    parts.collect::<Vec<_>>().join(", ")
}

/// What the two clocks of an event say: its own time is local, the time of its row is UTC, unless a
/// version of SQLite has shifted it by the zone once more.
#[derive(Default)]
struct Clocks {
    events: u64,
    shifted: u64,
    /// How far apart the two are when both are read as UTC, in quarters of an hour.
    apart: BTreeMap<i64, u64>,
}

/// The seconds that a row may be written after its event.
const PROMPT: i64 = 600;
/// The quarters of an hour that a clock can be from UTC: 15 hours.
const FURTHEST: i64 = 60;
const MICROS: i64 = 1_000_000;

impl Clocks {
    /// Whether rows of a role have two clocks.
    fn has_clocks(role: &crate::catalog::Role) -> bool {
        role.0 == "events"
    }

    fn look(&mut self, at: At<'_>) {
        let column = |name: &str| {
            let n = at.stream.source.column(name)?;
            let (column, text) = (&at.stream.source.columns[n], at.text(name)?);
            Some((column.time_text, text))
        };
        let (Some((TimeText::Local, happened)), Some((TimeText::Utc, written))) =
            (column("timestamp"), column("created_at"))
        else {
            return;
        };
        let (Ok(written), Ok(as_utc)) =
            (read_text(written, ZoneRule::Utc), read_text(happened, ZoneRule::Utc))
        else {
            return;
        };
        let apart = written.0.saturating_sub(as_utc.0) / MICROS;
        *self.apart.entry((apart + 450).div_euclid(900)).or_default() += 1;
        self.events += 1;
        let zone_rule =
            at.stream.columns.iter().find(|c| c.name == "timestamp").map(|c| at.zone_rule(c));
        let Some(Ok(happened)) = zone_rule.map(|zone_rule| read_text(happened, zone_rule)) else {
            return;
        };
        // east of Greenwich is positive: the same reading as UTC is later than the instant
        let zone = as_utc.0.saturating_sub(happened.0) / MICROS;
        let late = written.0.saturating_sub(happened.0) / MICROS;
        self.shifted += u64::from(zone != 0 && (late + zone).abs() < PROMPT);
    }

    fn shifted(&self) -> Option<String> {
        (self.shifted > 0).then(|| {
            format!(
                "events.created_at: {} of {} values are off by the zone once more, as some versions \
                 of SQLite wrote them; they were kept as they stand",
                self.shifted, self.events
            )
        })
    }

    fn evidence(&self) -> Option<String> {
        let (quarters, count) = self.apart.iter().max_by_key(|(_, count)| **count)?;
        let clock = |quarters: i64| {
            let sign = if quarters < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", quarters.abs() / 4, quarters.abs() % 4 * 15)
        };
        // no clock on Earth is further off: these times say something else
        (*quarters != 0 && quarters.abs() <= FURTHEST).then(|| {
            format!(
                "time zone: by the clock, {count} of {} events were written down {} after they \
                 happened: the events' clock was at {}, or at {} if SQLite shifted the other one",
                self.events,
                clock(*quarters),
                clock(-quarters),
                clock(-quarters / 2),
            )
        })
    }
}
