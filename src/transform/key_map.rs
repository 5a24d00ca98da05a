//! Ids of one kind to ids of another, so that the same id becomes the same id again, in rows and in
//! what refers to them.

use uuid::Uuid;

use crate::error::Result;
use crate::spill::Spill;
use chronicle_archive::{Value, show};

/// The UUID that stands for an id which is none: version 5 of where it comes from, whose rows it
/// names, its class and its bytes. The same id gives the same UUID at any time.
pub fn uuid_for(instance: Uuid, stream: &str, id: Value<'_>) -> Uuid {
    let (class, bytes) = match id {
        Value::Text(bytes) => ("text", bytes.to_vec()),
        Value::Blob(bytes) => ("blob", bytes.to_vec()),
        other => ("", show(other).into_bytes()),
    };
    let name = [stream.as_bytes(), b"\0", class.as_bytes(), b"\0", &bytes].concat();
    Uuid::new_v5(&instance, &name)
}

/// The name of a database among all, made of what tells it unmapped. It follows from these texts at any
/// time, and none of them can be read out of it.
pub fn instance_of(parts: &[&[u8]]) -> Uuid {
    const DATABASES: Uuid = Uuid::from_u128(0x9d3f_7a52_6c0e_4b1d_8f24_51a0_c7e6_3b98);
    // lengths go in too: no two lists of texts run together into the same bytes
    let mut name = Vec::new();
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&DATABASES, &name)
}

/// The UUID that an id spells, if it is one: in the spellings that PostgreSQL reads, and as a URN.
pub fn as_uuid(id: Value<'_>) -> Option<Uuid> {
    match id {
        Value::Uuid(bytes) => Some(Uuid::from_bytes(bytes)),
        Value::Text(text) => Uuid::try_parse_ascii(text).ok(),
        _ => None,
    }
}

/// The integer that an id spells, in the one spelling that an integer has.
pub fn as_integer(id: Value<'_>) -> Option<i64> {
    match id {
        Value::Int(v) => Some(v),
        Value::Text(text) => {
            let text = std::str::from_utf8(text).ok()?;
            text.parse().ok().filter(|v: &i64| v.to_string() == text)
        }
        _ => None,
    }
}

/// An id as a text that names it, and as SQL casts it to text.
pub fn show_id(id: Value<'_>) -> String {
    match id {
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("\u{0}text {}", chronicle_archive::hex(text)),
        },
        Value::Blob(bytes) => format!("\u{0}blob {}", chronicle_archive::hex(bytes)),
        other => show(other),
    }
}

/// An id that was given.
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

/// The ids of one stream that do not follow from themselves: those that were given from a sequence,
/// and those that a row had before. It may hold more than memory does.
pub struct KeyMap {
    spill: Spill,
    next: i64,
    /// Whether anything was given: where nothing was, as mostly, nothing is looked up.
    any: bool,
    /// The UUIDs that rows spell plainly, and how many lots of them are in the spill. As long as no
    /// row spells one otherwise, as mostly, none can be another's and none is looked up.
    plain: Option<(Vec<u8>, u32)>,
}

/// Where the ids that were given stand, by what they were.
const GIVEN: u32 = 0;
/// Where the integers stand that are in use.
const TAKEN: u32 = 1;
/// Where the ids stand that rows got back or took, with what they are in the archive.
const HELD: u32 = 2;
/// Where UUIDs stand that rows spell plainly, a lot at each number.
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

    /// Notes an integer that the target uses, and the id that its row had where it came from.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn know(&mut self, original: Option<&str>, id: i64) -> Result<()> {
        self.spill.put(TAKEN, &id.to_be_bytes(), &[])?;
        self.next = id.checked_add(1).map_or(self.next, |after| self.next.max(after));
        match original {
            Some(original) => self.restore(original, &MappedKey::Integer(id)),
            None => Ok(()),
        }
    }

    /// The integer of an id: the one it was given, else the one it had before if that is free, else
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
        self.know(Some(original), id)?;
        Ok(id)
    }

    fn is_free(&self, id: i64) -> Result<bool> {
        Ok(self.spill.get(TAKEN, &id.to_be_bytes())?.is_none())
    }

    /// The next integer behind those in use; behind the last integer of all, the first free one.
    fn next_free(&mut self) -> Result<i64> {
        while !self.is_free(self.next)? {
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        Ok(self.next)
    }

    /// Notes that a row gets an id back that it had before; false if another row has got it.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn give_back(&mut self, original: &str, id: &MappedKey) -> Result<bool> {
        let free = self.hold(original, id)?;
        if free {
            self.restore(original, id)?;
        }
        Ok(free)
    }

    /// Notes that a row takes the UUID that its id spells; false if another row has got it.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn take(&mut self, original: &str, uuid: Uuid) -> Result<bool> {
        let mut plain = Uuid::encode_buffer();
        if *original != *uuid.hyphenated().encode_lower(&mut plain) {
            return self.hold(original, &MappedKey::Uuid(uuid));
        }
        let Some((lot, lots)) = &mut self.plain else {
            return self.hold(original, &MappedKey::Uuid(uuid));
        };
        lot.extend_from_slice(uuid.as_bytes());
        if lot.len() >= LOT {
            self.spill.put(PLAIN, &lots.to_be_bytes(), lot)?;
            lot.clear();
            *lots += 1;
        }
        Ok(true)
    }

    /// Notes that a row has an id; false if another row has it.
    fn hold(&mut self, original: &str, id: &MappedKey) -> Result<bool> {
        if let Some((lot, lots)) = self.plain.take() {
            for n in 0..lots {
                let lot = self.spill.remove(PLAIN, &n.to_be_bytes())?;
                self.hold_plain(&lot.unwrap_or_default())?;
            }
            self.hold_plain(&lot)?;
        }
        let holder = self.spill.get(HELD, &id.to_bytes())?;
        if holder.is_none() {
            self.spill.put(HELD, &id.to_bytes(), original.as_bytes())?;
        }
        Ok(holder.is_none_or(|of| of == original.as_bytes()))
    }

    fn hold_plain(&mut self, lot: &[u8]) -> Result<()> {
        for uuid in lot.chunks_exact(size_of::<Uuid>()).filter_map(|b| Uuid::from_slice(b).ok()) {
            let id = MappedKey::Uuid(uuid).to_bytes();
            self.spill.put(HELD, &id, uuid.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Notes the id that a row gets back.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn restore(&mut self, original: &str, id: &MappedKey) -> Result<()> {
        self.any = true;
        self.spill.put(GIVEN, original.as_bytes(), &id.to_bytes()).map(|_| ())
    }

    /// What an id was given, if it was.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    pub fn get(&self, original: &str) -> Result<Option<MappedKey>> {
        if !self.any {
            return Ok(None);
        }
        Ok(self
            .spill
            .get(GIVEN, original.as_bytes())?
            .and_then(|bytes| MappedKey::from_bytes(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_id_of_one_place_is_always_the_same_uuid_and_of_two_never() {
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = |v: i64| Value::Int(v);
        assert_eq!(uuid_for(here, "sessions", id(1)), uuid_for(here, "sessions", id(1)));
        let others = [
            uuid_for(here, "sessions", id(1)),
            uuid_for(here, "sessions", id(2)),
            uuid_for(here, "events", id(1)),
            uuid_for(there, "sessions", id(1)),
            uuid_for(here, "sessions", Value::Text(b"1")),
            uuid_for(here, "sessions", Value::Blob(b"1")),
        ];
        let distinct: HashSet<Uuid> = others.into_iter().collect();
        assert_eq!(distinct.len(), others.len());
    }

    #[test]
    fn a_former_integer_comes_back_if_it_is_free() {
        let mut map = KeyMap::new().unwrap();
        map.know(Some("old"), 7).unwrap();
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
    fn a_uuid_is_the_first_rows_that_spells_it_however_many_there_are() {
        let mut map = KeyMap::new().unwrap();
        let many = u128::try_from(3 * LOT / size_of::<Uuid>() + 1).unwrap();
        let uuid = |n| Uuid::from_u128(0xa << 124 | n);
        for n in 0..many {
            assert!(map.take(&uuid(n).to_string(), uuid(n)).unwrap());
        }
        let shouted = |n| uuid(n).to_string().to_uppercase();
        assert!(map.take(&shouted(many), uuid(many)).unwrap());
        assert!(!map.take(&uuid(many).to_string(), uuid(many)).unwrap());
        for n in [0, many / 2, many - 1] {
            assert!(!map.take(&shouted(n), uuid(n)).unwrap());
            assert!(map.take(&uuid(n).to_string(), uuid(n)).unwrap(), "its own");
        }
    }

    #[test]
    fn what_was_given_comes_back_whole() {
        let mut map = KeyMap::new().unwrap();
        let all = [
            MappedKey::Integer(i64::MIN),
            MappedKey::Uuid(Uuid::from_u128(7)),
            MappedKey::Text(b"a\0\xff".to_vec()),
            MappedKey::Blob(Vec::new()),
        ];
        for given in all {
            map.restore("x", &given).unwrap();
            assert_eq!(map.get("x").unwrap(), Some(given));
        }
        assert_eq!(map.get("y").unwrap(), None);
    }

    #[test]
    fn integers_have_one_spelling_and_uuids_have_several() {
        assert_eq!(as_integer(Value::Text(b"7")), Some(7));
        for no in ["07", "+7", " 7", "7.0", "", "x"] {
            assert_eq!(as_integer(Value::Text(no.as_bytes())), None, "{no}");
        }
        let plain = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        for yes in [
            plain.to_owned(),
            plain.to_uppercase(),
            plain.replace('-', ""),
            format!("{{{plain}}}"),
            format!("urn:uuid:{plain}"),
        ] {
            assert_eq!(as_uuid(Value::Text(yes.as_bytes())), Uuid::parse_str(plain).ok(), "{yes}");
        }
        assert_eq!(as_uuid(Value::Text(b" 6ba7b810-9dad-11d1-80b4-00c04fd430c8")), None);
    }
}
