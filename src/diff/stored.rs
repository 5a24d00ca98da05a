//! A row as it waits in the spill: its values, and its identity, which is the same for equal rows.

use sha2::{Digest, Sha256};

use super::pair::Joined;
use chronicle_archive::canonical::Canonical;
use chronicle_archive::time::Instant;
use chronicle_archive::{Batch, Value};

/// The bytes of the hash that ends an identity.
const HASH: usize = 32;

/// The identity of a row: its key's canonical form, then a hash of all its compared values. Rows of
/// one key are neighbours in the order of identities, equal rows have the same.
pub(super) fn identity(
    canonical: &mut Canonical,
    columns: &[Joined],
    key: &[usize],
    side: usize,
    batch: &Batch,
    row: usize,
) -> Vec<u8> {
    let mut form = Vec::new();
    for column in key.iter().filter_map(|k| columns.get(*k)) {
        column.write(canonical, side, column.value(side, batch, row), &mut form);
        // a canonical form has no line end of its own
        form.push(b'\n');
    }
    let mut hash = Sha256::new();
    let mut value = Vec::new();
    for column in columns {
        value.clear();
        column.write(canonical, side, column.value(side, batch, row), &mut value);
        value.push(b'\n');
        hash.update(&value);
    }
    form.extend_from_slice(&hash.finalize());
    form
}

/// The part of an identity that is the key's.
pub(super) fn key_of(identity: &[u8]) -> &[u8] {
    identity.get(..identity.len().saturating_sub(HASH)).unwrap_or(identity)
}

/// Equal rows that wait: how many there are, and their values.
pub(super) struct Stored {
    bytes: Vec<u8>,
}

impl Stored {
    /// One row, given by its values.
    pub(super) fn one<'a>(values: impl Iterator<Item = Value<'a>>) -> Stored {
        let mut bytes = 1_u64.to_le_bytes().to_vec();
        values.for_each(|value| push(&mut bytes, value));
        Stored { bytes }
    }

    /// What the spill held.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Stored {
        Stored { bytes }
    }

    /// What the spill is to hold.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many rows.
    pub(super) fn count(&self) -> u64 {
        self.bytes.first_chunk().map_or(0, |count| u64::from_le_bytes(*count))
    }

    /// Sets how many rows there are.
    pub(super) fn set_count(&mut self, count: u64) {
        if let Some(bytes) = self.bytes.first_chunk_mut() {
            *bytes = count.to_le_bytes();
        }
    }

    /// The values.
    pub(super) fn values(&self) -> Vec<Value<'_>> {
        let mut rest = self.bytes.get(8..).unwrap_or_default();
        std::iter::from_fn(|| read(&mut rest)).collect()
    }
}

fn push(out: &mut Vec<u8>, value: Value<'_>) {
    let mut fixed = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Null => fixed(b'n', &[]),
        Value::Int(v) => fixed(b'i', &v.to_le_bytes()),
        Value::Real(v) => fixed(b'r', &v.to_le_bytes()),
        Value::Bool(v) => fixed(b'l', &[u8::from(v)]),
        Value::Time(v) => fixed(b't', &v.0.to_le_bytes()),
        Value::Uuid(v) => fixed(b'u', &v),
        Value::Text(text) => {
            fixed(b's', &(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text);
        }
        Value::Blob(bytes) => {
            fixed(b'b', &(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

fn read<'a>(rest: &mut &'a [u8]) -> Option<Value<'a>> {
    let [tag] = take::<1>(rest)?;
    Some(match tag {
        b'n' => Value::Null,
        b'i' => Value::Int(i64::from_le_bytes(take(rest)?)),
        b'r' => Value::Real(f64::from_le_bytes(take(rest)?)),
        b'l' => Value::Bool(take::<1>(rest)? == [1]),
        b't' => Value::Time(Instant(i64::from_le_bytes(take(rest)?))),
        b'u' => Value::Uuid(take(rest)?),
        b's' => Value::Text(take_long(rest)?),
        _ => Value::Blob(take_long(rest)?),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u64::from_le_bytes(take(rest)?)).ok()?;
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_row_gives_back_every_kind_of_value() {
        let values = [
            Value::Null,
            Value::Int(i64::MIN),
            Value::Real(-0.5),
            Value::Bool(true),
            Value::Bool(false),
            Value::Time(Instant::MAX),
            Value::Uuid([9; 16]),
            Value::Text(b""),
            Value::Text(b"a\0\xff"),
            Value::Blob(b"b"),
        ];
        let mut stored = Stored::from_bytes(Stored::one(values.into_iter()).bytes().to_vec());
        assert_eq!((stored.count(), stored.values()), (1, values.to_vec()));
        stored.set_count(7);
        assert_eq!((stored.count(), stored.values()), (7, values.to_vec()));
    }
}
