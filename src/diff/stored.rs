//! A row as it waits in the spill: its values, and its identity, which is the same for equal rows.

use sha2::{Digest, Sha256};

use super::pair::Joined;
use crate::value_bytes::{push, read};
use chronicle_archive::canonical::Canonical;
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
        read(self.bytes.get(8..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_row_keeps_its_values_whatever_its_count() {
        let values = [Value::Null, Value::Int(i64::MIN), Value::Text(b"a\0\xff")];
        let mut stored = Stored::from_bytes(Stored::one(values.into_iter()).bytes().to_vec());
        assert_eq!((stored.count(), stored.values()), (1, values.to_vec()));
        stored.set_count(7);
        assert_eq!((stored.count(), stored.values()), (7, values.to_vec()));
    }
}
