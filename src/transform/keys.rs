//! Ids of an archive to ids of a target, with what a mapped id means for its row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use uuid::Uuid;

use super::archive_row::ArchiveRow;
use super::key_map::{KeyMap, MappedKey};
use crate::error::Result;
use crate::identity::{as_integer, as_uuid, id_text, uuid_for, write_part};
use crate::plan::{IdRule, Ids, Plan, TablePlan};
use crate::policy::OnUnrepresentable;
use crate::sidecar::Fingerprint;
use crate::spill::Spill;
use chronicle_archive::{Kind, Value};

/// How many rows without an id had the same content, by the UUID of that content.
const NAMELESS: u32 = 0;
/// The ids of rows that others refer to and that became other ids.
const RENAMED: u32 = 1;
/// The ids that refer to no row, where ids are numbers.
const DANGLING: u32 = 2;
/// The UUIDs that rows spell in a way of their own, with that spelling.
const RESPELLED: u32 = 3;

/// What an id of the archive is in the target.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    /// The id in the target; none if it is the same value.
    pub(super) key: Option<MappedKey>,
    /// The UUID that was derived for a row without an id, if its id is a number.
    pub(super) nameless: Option<Uuid>,
    /// Whether the UUID that the id spells is another row's.
    pub(super) clashes: bool,
    /// Whether it is spelled as in the archive.
    pub(super) same: bool,
    /// Whether it is the same UUID in another spelling.
    pub(super) respelled: bool,
    /// Whether it refers to no row so far and is replaced by a number.
    pub(super) dangling: bool,
    /// Whether it refers to a row that did not come under this id, so that none restores it.
    pub(super) unresolved: bool,
    /// Whether the row that it refers to spells the same UUID differently.
    pub(super) spelled_differently: bool,
    /// The UUID that names its row among those of all databases, if its number here does not.
    pub(super) named: Option<Uuid>,
}

/// Maps ids by the rules of the plan.
pub struct KeyMapper {
    plan: Arc<Plan>,
    /// By table, the ids that do not follow from those of the archive.
    maps: BTreeMap<usize, KeyMap>,
    /// Of every stream, whether other rows may refer to its rows by an id.
    referenced: Vec<bool>,
    preserves: bool,
    spill: Spill,
    any_respelled: bool,
    fingerprint: Fingerprint,
    name: Vec<u8>,
}

impl KeyMapper {
    /// No ids so far.
    ///
    /// # Errors
    /// As all here: if the temporary file cannot be used.
    pub fn new(plan: Arc<Plan>) -> Result<KeyMapper> {
        let mut maps = BTreeMap::new();
        for ids in plan.tables().flat_map(|(_, t)| &t.columns).filter_map(|c| c.ids.as_ref()) {
            if let Entry::Vacant(vacant) = maps.entry(ids.table) {
                vacant.insert(KeyMap::new()?);
            }
        }
        let referenced = |s: &crate::plan::StreamPlan| {
            s.table().is_some_and(|table| plan.is_referenced(table.table))
        };
        Ok(KeyMapper {
            referenced: plan.streams.iter().map(referenced).collect(),
            preserves: plan.options.on_unrepresentable == OnUnrepresentable::Preserve,
            plan,
            maps,
            spill: Spill::new()?,
            any_respelled: false,
            fingerprint: Fingerprint::default(),
            name: Vec::new(),
        })
    }

    /// The plan whose rules these are.
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Registers an integer that a table of the target uses, what it was where its row came from, and
    /// whether it only refers to a row.
    ///
    /// # Errors
    /// As [`KeyMapper::new`].
    pub fn register(
        &mut self,
        ids: &Ids,
        original: Option<&str>,
        id: i64,
        refers: bool,
    ) -> Result<()> {
        if let Some(original) = original.filter(|_| refers) {
            self.write_id(ids.table, Value::Text(original.as_bytes()));
            self.spill.put(DANGLING, &self.name, &[])?;
        }
        let home = self.plan.home.as_ref().filter(|_| ids.rule == IdRule::Number && !refers);
        let named = home.map(|home| home.uuid(&ids.of, Value::Int(id)).to_string());
        let original = original.map(str::to_owned).or(named);
        self.maps.get_mut(&ids.table).map_or(Ok(()), |map| map.register(original.as_deref(), id))
    }

    /// Registers the UUID of a row of the target, and its id where it came from: if that spells this
    /// UUID, or would have, had not another row had it.
    ///
    /// # Errors
    /// As [`KeyMapper::new`].
    pub fn register_spelling(&mut self, ids: &Ids, original: &str, id: Uuid) -> Result<()> {
        let value = Value::Text(original.as_bytes());
        let (Some(map), Some(spelled)) = (self.maps.get_mut(&ids.table), as_uuid(value)) else {
            return Ok(());
        };
        if spelled == id {
            return map.claim(original, id).map(|_| ());
        }
        match uuid_for(self.plan.instance, &ids.of, value) == id {
            true => map.assign(original, &MappedKey::Uuid(id)),
            false => Ok(()),
        }
    }

    /// The id in the target of an id of a row.
    ///
    /// # Errors
    /// As [`KeyMapper::new`].
    pub(super) fn map(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        ids: &Ids,
        value: Value<'_>,
    ) -> Result<Mapping> {
        let mut mapping = Mapping::default();
        mapping.key = match (value, ids.rule) {
            (Value::Null, IdRule::Uuid) if ids.own => Some(MappedKey::Uuid(self.nameless(row)?)),
            (Value::Null, IdRule::Integer) if ids.own => {
                let derived = self.nameless(row)?;
                mapping.nameless = Some(derived);
                let map = self.maps.get_mut(&ids.table);
                let number = map.map(|map| map.integer(&derived.to_string(), None)).transpose()?;
                number.map(MappedKey::Integer)
            }
            (Value::Null, _) => None,
            (_, IdRule::Integer) => self.integer(plan, row, ids, value)?,
            (Value::Int(number), IdRule::Number) => {
                self.number(plan, row, ids, number, &mut mapping)?
            }
            (_, IdRule::Number) => None,
            (_, IdRule::Uuid) => self.uuid(plan, row, ids, value, &mut mapping)?,
            (_, IdRule::Keep) => self.kept(plan, row, ids, value)?,
        };
        if let Some(key) = mapping.key.take() {
            self.describe(row, ids, value, &key, &mut mapping)?;
            mapping.key = Some(key);
        }
        Ok(mapping)
    }

    /// The id that the row had in a database like the target, if it is asked for that.
    fn former<'a>(plan: &TablePlan, row: ArchiveRow<'a>, ids: &Ids) -> Option<Value<'a>> {
        plan.former_id.filter(|_| ids.own).map(|n| row.value(n))
    }

    /// The UUID that the row has had since it came from another database, if its id is a number.
    fn first(plan: &TablePlan, row: ArchiveRow<'_>, ids: &Ids) -> Option<Uuid> {
        plan.named_by.filter(|_| ids.own).and_then(|n| as_uuid(row.value(n)))
    }

    fn integer(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        ids: &Ids,
        value: Value<'_>,
    ) -> Result<Option<MappedKey>> {
        let shown = id_text(value);
        self.write_id(ids.table, value);
        let Some(map) = self.maps.get_mut(&ids.table) else { return Ok(None) };
        if !ids.own && map.get(&shown)?.is_none() {
            self.spill.put(DANGLING, &self.name, &[])?;
        }
        let former = Self::former(plan, row, ids).and_then(as_integer);
        let former = former.or_else(|| as_integer(value));
        // a UUID that was derived from this number for a row of this very database: it is that row
        let derived_from = |n: i64| {
            let home = self.plan.home.as_ref().filter(|_| ids.own);
            home.map(|home| home.uuid(&ids.of, Value::Int(n)))
        };
        if let Some(number) = former
            && as_uuid(value).is_some_and(|uuid| derived_from(number) == Some(uuid))
        {
            map.assign(&shown, &MappedKey::Integer(number))?;
            return Ok(Some(MappedKey::Integer(number)));
        }
        map.integer(&shown, former).map(|id| Some(MappedKey::Integer(id)))
    }

    /// The number in the target of a number of another database: that of the same row, if it is there.
    fn number(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        ids: &Ids,
        number: i64,
        mapping: &mut Mapping,
    ) -> Result<Option<MappedKey>> {
        // no id that a row had elsewhere is spelled like this
        let (value, shown) = (Value::Int(number), format!("\0{number}"));
        let first = Self::first(plan, row, ids);
        let named = first.unwrap_or_else(|| self.plan.numbers.uuid(&ids.of, value));
        let plan = Arc::clone(&self.plan);
        let home = plan.home.as_ref();
        let is_its_own = first.is_none()
            && home.is_some_and(|home| plan.numbers.means_the_same(home, &ids.of, number));
        self.write_id(ids.table, value);
        let Some(map) = self.maps.get_mut(&ids.table) else { return Ok(None) };
        let known = if ids.own { None } else { map.get(&shown)? };
        let name = named.to_string();
        let known = known.or(map.get(&name)?);
        let dangles = known.is_none() && !ids.own && !is_its_own;
        let key = match known {
            Some(known) => known,
            None => MappedKey::Integer(map.integer(&name, is_its_own.then_some(number))?),
        };
        if ids.own {
            // what refers to the row has the archive's number
            map.assign(&shown, &key)?;
        }
        if dangles {
            self.spill.put(DANGLING, &self.name, &[])?;
        }
        let here = home.map(|home| home.uuid(&ids.of, key.value()));
        mapping.named = Some(named).filter(|named| here != Some(*named));
        Ok(Some(key))
    }

    fn uuid(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        ids: &Ids,
        value: Value<'_>,
        mapping: &mut Mapping,
    ) -> Result<Option<MappedKey>> {
        let shown = id_text(value);
        let Some(map) = self.maps.get_mut(&ids.table) else { return Ok(None) };
        let former = Self::former(plan, row, ids).and_then(as_uuid).map(MappedKey::Uuid);
        if let Some(former) = former
            && map.restore_original(&shown, &former)?
        {
            return Ok(Some(former));
        }
        if let (Some(first), Value::Int(_)) = (Self::first(plan, row, ids), value)
            && map.claim(&first.to_string(), first)?
        {
            // what refers to the row has its number
            map.assign(&shown, &MappedKey::Uuid(first))?;
        }
        if let Some(assigned) = map.get(&shown)? {
            return Ok(Some(assigned));
        }
        let uuid = as_uuid(value);
        if let Some(uuid) = uuid
            && (!ids.own || map.claim(&shown, uuid)?)
        {
            return Ok(Some(MappedKey::Uuid(uuid)));
        }
        let derived = MappedKey::Uuid(self.plan.numbers.uuid(&ids.of, value));
        mapping.clashes = uuid.is_some();
        if mapping.clashes && self.plan.options.on_unrepresentable.adapts() {
            // what refers to the row spells it as the row does
            map.assign(&shown, &derived)?;
        }
        Ok(Some(derived))
    }

    fn kept(
        &mut self,
        plan: &TablePlan,
        row: ArchiveRow<'_>,
        ids: &Ids,
        value: Value<'_>,
    ) -> Result<Option<MappedKey>> {
        let Some(map) = self.maps.get_mut(&ids.table) else { return Ok(None) };
        let former = match Self::former(plan, row, ids) {
            Some(Value::Blob(bytes)) => Some(MappedKey::Blob(bytes.to_vec())),
            Some(Value::Text(text)) => Some(MappedKey::Text(text.to_vec())),
            Some(Value::Int(v)) => Some(MappedKey::Text(v.to_string().into_bytes())),
            _ => None,
        };
        if former.is_none() && map.is_empty() {
            return Ok(None);
        }
        let shown = id_text(value);
        if let Some(former) = former
            && map.restore_original(&shown, &former)?
        {
            return Ok(Some(former));
        }
        map.get(&shown)
    }

    /// Says what a mapped id means for its row.
    fn describe(
        &mut self,
        row: ArchiveRow<'_>,
        ids: &Ids,
        value: Value<'_>,
        key: &MappedKey,
        mapping: &mut Mapping,
    ) -> Result<()> {
        self.note_spelling(ids, value, key, mapping)?;
        mapping.same = match (value, key) {
            (Value::Text(text), MappedKey::Uuid(uuid)) => is_spelled_plainly(*uuid, text),
            (Value::Text(text), MappedKey::Text(key)) => text == key,
            (Value::Int(v), MappedKey::Integer(key)) => v == *key && mapping.named.is_none(),
            _ => false,
        };
        if mapping.same {
            return Ok(());
        }
        mapping.respelled =
            matches!((as_uuid(value), key), (Some(a), MappedKey::Uuid(b)) if a == *b);
        self.write_id(ids.table, value);
        if ids.own && self.referenced[row.stream()] {
            self.spill.put(RENAMED, &self.name, &[])?;
        } else if !ids.own && self.preserves && ids.rule != IdRule::Number {
            mapping.unresolved = self.spill.get(RENAMED, &self.name)?.is_none();
        }
        if let (MappedKey::Integer(_), false) = (key, ids.own) {
            mapping.dangling = self.spill.get(DANGLING, &self.name)?.is_some();
        }
        Ok(())
    }

    /// Notes how a row spells its UUID. A reference that spells it differently is one UUID with it in
    /// the target, so an export of the target restores both as the row does.
    fn note_spelling(
        &mut self,
        ids: &Ids,
        value: Value<'_>,
        key: &MappedKey,
        mapping: &mut Mapping,
    ) -> Result<()> {
        let (MappedKey::Uuid(uuid), Value::Text(text), true) = (key, value, self.preserves) else {
            return Ok(());
        };
        if ids.own && !is_spelled_plainly(*uuid, text) && as_uuid(value) == Some(*uuid) {
            self.any_respelled = true;
            self.spill.put(RESPELLED, uuid.as_bytes(), text)?;
        }
        if !ids.own && self.any_respelled {
            let spelled = self.spill.get(RESPELLED, uuid.as_bytes())?;
            mapping.spelled_differently = spelled.is_some_and(|spelled| spelled != text);
        }
        Ok(())
    }

    /// The UUID of a row without an id: it follows from its content, and of equal rows from how many
    /// there were.
    ///
    /// # Errors
    /// As [`KeyMapper::new`].
    pub(super) fn nameless(&mut self, row: ArchiveRow<'_>) -> Result<Uuid> {
        let mut content = String::new();
        for value in row.values() {
            content.push_str(&self.fingerprint.of(Kind::Text, value));
        }
        let content = Value::Text(content.as_bytes());
        let content = uuid_for(self.plan.instance, &row.source.name, content);
        let before = self.spill.get(NAMELESS, content.as_bytes())?;
        let before = before.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        let count = before.saturating_add(1).to_be_bytes();
        self.spill.put(NAMELESS, content.as_bytes(), &count)?;
        Ok(Uuid::new_v5(&content, &count))
    }

    /// Writes what identifies an id among those of all tables.
    fn write_id(&mut self, table: usize, id: Value<'_>) {
        self.name.clear();
        self.name.extend_from_slice(&(table as u64).to_be_bytes());
        write_part(id, &mut self.name);
    }
}

/// Whether a text spells a UUID in lower case with hyphens.
fn is_spelled_plainly(uuid: Uuid, text: &[u8]) -> bool {
    let mut plain = Uuid::encode_buffer();
    uuid.hyphenated().encode_lower(&mut plain).as_bytes() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{accounts_and_notes, planned, stream};
    use crate::policy::PlanOptions;
    use chronicle_archive::Batch;

    /// A mapper for accounts and notes with texts as ids.
    fn mapper(on_unrepresentable: OnUnrepresentable) -> KeyMapper {
        let streams = [
            stream("accounts", &[("id", Kind::Text), ("info", Kind::Json)]),
            stream("notes", &[("id", Kind::Text), ("account_id", Kind::Text)]),
        ];
        let options = PlanOptions { on_unrepresentable, ..PlanOptions::default() };
        KeyMapper::new(Arc::new(planned(&streams, &accounts_and_notes(), options))).unwrap()
    }

    /// Maps the id in a column of a row of a stream.
    fn map(mapper: &mut KeyMapper, stream: usize, column: usize, id: Value<'_>) -> Mapping {
        let plan = Arc::clone(mapper.plan());
        let table = plan.streams[stream].table().unwrap();
        let mut batch = Batch::default();
        batch.start(stream, 2, 1);
        batch.push(id);
        batch.push(id);
        let row = ArchiveRow { source: &table.source, batch: &batch, row: 0 };
        let ids = table.columns[column].ids.clone().unwrap();
        mapper.map(table, row, &ids, id).unwrap()
    }

    const UUID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    #[test]
    fn a_reference_becomes_the_id_that_its_row_has() {
        let mut mapper = mapper(OnUnrepresentable::Fail);
        let own = map(&mut mapper, 0, 0, Value::Text(b"first"));
        let reference = map(&mut mapper, 1, 1, Value::Text(b"first"));
        assert!(matches!(own.key, Some(MappedKey::Uuid(_))) && !own.same);
        assert_eq!(own.key, reference.key);
        assert_ne!(own.key, map(&mut mapper, 1, 1, Value::Text(b"second")).key);
    }

    #[test]
    fn a_uuid_stays_and_its_other_spelling_clashes() {
        let mut mapper = mapper(OnUnrepresentable::Preserve);
        let plain = map(&mut mapper, 0, 0, Value::Text(UUID.as_bytes()));
        assert!(plain.same && !plain.clashes);
        let shouted = UUID.to_uppercase();
        let other = map(&mut mapper, 0, 0, Value::Text(shouted.as_bytes()));
        assert!(other.clashes && other.key != plain.key);
        let reference = map(&mut mapper, 1, 1, Value::Text(shouted.as_bytes()));
        assert_eq!(reference.key, other.key, "what refers to it spells it as it does");
    }

    #[test]
    fn a_reference_without_its_row_keeps_its_own_original() {
        let mut mapper = mapper(OnUnrepresentable::Preserve);
        map(&mut mapper, 0, 0, Value::Text(b"first"));
        assert!(!map(&mut mapper, 1, 1, Value::Text(b"first")).unresolved);
        assert!(map(&mut mapper, 1, 1, Value::Text(b"second")).unresolved);
    }

    #[test]
    fn rows_without_an_id_get_one_each_and_always_the_same() {
        let ids = |mapper: &mut KeyMapper| {
            [(); 2].map(|()| map(mapper, 0, 0, Value::Null).key.expect("an id").to_owned())
        };
        let first = ids(&mut mapper(OnUnrepresentable::Fail));
        assert_ne!(first[0], first[1]);
        assert_eq!(first, ids(&mut mapper(OnUnrepresentable::Fail)));
    }
}
