//! Ids of one table to ids of another kind, so that the same id always becomes the same id, in rows
//! and in what refers to them.

use uuid::Uuid;

use crate::error::Result;
use crate::spill::Spill;
use chronicle_archive::Value;

/// An id in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappedKey {
    /// An integer.
    Integer(i64),
    /// A UUID.
    Uuid(Uuid),
    /// A text.
    Text(Vec<u8>),
    /// A blob.
    Blob(Vec<u8>),
}

impl MappedKey {
    /// The id as a value.
    pub fn value(&self) -> Value<'_> {
        match self {
            MappedKey::Integer(v) => Value::Int(*v),
            MappedKey::Uuid(v) => Value::Uuid(v.into_bytes()),
            MappedKey::Text(text) => Value::Text(text),
            MappedKey::Blob(bytes) => Value::Blob(bytes),
        }
    }

    /// The id as the spill holds it: its class, then its bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let (class, bytes) = match self {
            MappedKey::Integer(v) => (b'i', &v.to_be_bytes()[..]),
            MappedKey::Uuid(v) => (b'u', &v.as_bytes()[..]),
            MappedKey::Text(text) => (b't', &text[..]),
            MappedKey::Blob(bytes) => (b'b', &bytes[..]),
        };
        [&[class], bytes].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<MappedKey> {
        let (class, bytes) = bytes.split_first()?;
        Some(match class {
            b'i' => MappedKey::Integer(i64::from_be_bytes(bytes.try_into().ok()?)),
            b'u' => MappedKey::Uuid(Uuid::from_bytes(bytes.try_into().ok()?)),
            b't' => MappedKey::Text(bytes.to_vec()),
            _ => MappedKey::Blob(bytes.to_vec()),
        })
    }
}

/// The ids of one table that do not follow from those of the archive: numbers, and ids that rows had
/// before. It may hold more than memory does.
pub struct KeyMap {
    spill: Spill,
    next: i64,
    /// Whether anything was assigned: where nothing was, as mostly, nothing is looked up.
    any: bool,
    /// The UUIDs that rows spell plainly, and how many lots of them are in the spill. As long as no
    /// row spells one differently, as is usual, none can be another's and none is looked up.
    plain: Option<(Vec<u8>, u32)>,
}

/// The ids that were assigned, by those of the archive.
const ASSIGNED: u32 = 0;
/// The integers that are in use.
const USED: u32 = 1;
/// The ids that rows got back or claimed, with those that they have in the archive.
const RESERVED: u32 = 2;
/// The UUIDs that rows spell plainly, a lot at each number.
const PLAIN: u32 = 3;
/// The bytes of a lot.
const LOT: usize = 64 << 10;

impl KeyMap {
    /// No ids.
    ///
    /// # Errors
    /// As all here: if the temporary file cannot be used.
    pub fn new() -> Result<KeyMap> {
        Ok(KeyMap { spill: Spill::new()?, next: 1, any: false, plain: Some((Vec::new(), 0)) })
    }

    /// Whether no id was assigned, so that each is what it is in the archive.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Registers an integer that the target uses, and the id that its row had where it came from.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn register(&mut self, original: Option<&str>, id: i64) -> Result<()> {
        self.spill.put(USED, &id.to_be_bytes(), &[])?;
        self.next = id.checked_add(1).map_or(self.next, |after| self.next.max(after));
        match original {
            Some(original) => self.assign(original, &MappedKey::Integer(id)),
            None => Ok(()),
        }
    }

    /// The integer of an id: the one assigned to it, else the one it had before if that is free, else
    /// the next one.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn integer(&mut self, original: &str, former: Option<i64>) -> Result<i64> {
        if let Some(MappedKey::Integer(id)) = self.get(original)? {
            return Ok(id);
        }
        let id = match former {
            Some(id) if self.is_free(id)? => id,
            _ => self.next_free()?,
        };
        self.register(Some(original), id)?;
        Ok(id)
    }

    fn is_free(&self, id: i64) -> Result<bool> {
        Ok(self.spill.get(USED, &id.to_be_bytes())?.is_none())
    }

    /// The next integer behind those in use; behind the last integer of all, the first free one.
    fn next_free(&mut self) -> Result<i64> {
        while !self.is_free(self.next)? {
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        Ok(self.next)
    }

    /// Gives a row back the id that it had before; false if another row has it.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn restore_original(&mut self, original: &str, id: &MappedKey) -> Result<bool> {
        let free = self.reserve(original, id)?;
        if free {
            self.assign(original, id)?;
        }
        Ok(free)
    }

    /// Claims the UUID that the id of a row spells; false if another row has it.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn claim(&mut self, original: &str, uuid: Uuid) -> Result<bool> {
        let mut plain = Uuid::encode_buffer();
        if *original != *uuid.hyphenated().encode_lower(&mut plain) {
            return self.reserve(original, &MappedKey::Uuid(uuid));
        }
        let Some((lot, lots)) = &mut self.plain else {
            return self.reserve(original, &MappedKey::Uuid(uuid));
        };
        lot.extend_from_slice(uuid.as_bytes());
        if lot.len() >= LOT {
            self.spill.put(PLAIN, &lots.to_be_bytes(), lot)?;
            lot.clear();
            *lots += 1;
        }
        Ok(true)
    }

    /// Reserves an id for a row; false if another row has it.
    fn reserve(&mut self, original: &str, id: &MappedKey) -> Result<bool> {
        if let Some((lot, lots)) = self.plain.take() {
            for n in 0..lots {
                let lot = self.spill.remove(PLAIN, &n.to_be_bytes())?;
                self.reserve_plain(&lot.unwrap_or_default())?;
            }
            self.reserve_plain(&lot)?;
        }
        let holder = self.spill.get(RESERVED, &id.to_bytes())?;
        if holder.is_none() {
            self.spill.put(RESERVED, &id.to_bytes(), original.as_bytes())?;
        }
        Ok(holder.is_none_or(|of| of == original.as_bytes()))
    }

    fn reserve_plain(&mut self, lot: &[u8]) -> Result<()> {
        for uuid in lot.chunks_exact(size_of::<Uuid>()).filter_map(|b| Uuid::from_slice(b).ok()) {
            let id = MappedKey::Uuid(uuid).to_bytes();
            self.spill.put(RESERVED, &id, uuid.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Assigns an id to one of the archive.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn assign(&mut self, original: &str, id: &MappedKey) -> Result<()> {
        self.any = true;
        self.spill.put(ASSIGNED, original.as_bytes(), &id.to_bytes()).map(|_| ())
    }

    /// The id that was assigned to one of the archive, if any.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn get(&self, original: &str) -> Result<Option<MappedKey>> {
        if !self.any {
            return Ok(None);
        }
        Ok(self
            .spill
            .get(ASSIGNED, original.as_bytes())?
            .and_then(|bytes| MappedKey::from_bytes(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_integer_comes_back_if_it_is_free() {
        let mut map = KeyMap::new().unwrap();
        map.register(Some("old"), 7).unwrap();
        for (original, former, expected) in [
            ("old", None, 7),
            ("a", Some(3), 3),
            ("b", Some(3), 8),
            ("a", Some(99), 3),
            ("c", Some(-1), -1),
            ("d", Some(i64::MAX), i64::MAX),
            ("e", None, 9),
        ] {
            assert_eq!(map.integer(original, former).unwrap(), expected, "{original}");
        }
    }

    #[test]
    fn a_uuid_belongs_to_the_first_row_that_spells_it() {
        let mut map = KeyMap::new().unwrap();
        let many = u128::try_from(3 * LOT / size_of::<Uuid>() + 1).unwrap();
        let uuid = |n| Uuid::from_u128(0xa << 124 | n);
        for n in 0..many {
            assert!(map.claim(&uuid(n).to_string(), uuid(n)).unwrap());
        }
        let shouted = |n| uuid(n).to_string().to_uppercase();
        assert!(map.claim(&shouted(many), uuid(many)).unwrap());
        assert!(!map.claim(&uuid(many).to_string(), uuid(many)).unwrap());
        for n in [0, many / 2, many - 1] {
            assert!(!map.claim(&shouted(n), uuid(n)).unwrap());
            assert!(map.claim(&uuid(n).to_string(), uuid(n)).unwrap(), "its own");
        }
    }

    #[test]
    fn an_assigned_id_is_found_with_its_class() {
        let mut map = KeyMap::new().unwrap();
        let all = [
            MappedKey::Integer(i64::MIN),
            MappedKey::Uuid(Uuid::from_u128(7)),
            MappedKey::Text(b"a\0\xff".to_vec()),
            MappedKey::Blob(Vec::new()),
        ];
        for given in all {
            map.assign("x", &given).unwrap();
            assert_eq!(map.get("x").unwrap(), Some(given));
        }
        assert_eq!(map.get("y").unwrap(), None);
    }
}
