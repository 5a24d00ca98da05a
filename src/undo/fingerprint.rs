//! The fingerprint of a row: 48 bits of XXH3 that tell whether it was edited.

use xxhash_rust::xxh3::Xxh3Default;

use chronicle_archive::Value;

/// How many values SQL hands over at once: SQLite passes no more than 127 to a function. The fingerprint of a row with
/// more columns is a chain: that of the first ones is the first of the next values.
pub const CHAIN: usize = 100;

/// The fingerprint of some values, never negative.
pub fn fingerprint<'a>(values: impl Iterator<Item = Value<'a>>) -> i64 {
    let mut hasher = Xxh3Default::new();
    values.for_each(|value| add(&mut hasher, value));
    i64::try_from(hasher.digest() >> 16).unwrap_or(0)
}

fn add(hasher: &mut Xxh3Default, value: Value<'_>) {
    let (class, bytes): (u8, &[u8]) = match value {
        Value::Null => (b'n', &[]),
        Value::Int(v) => return number(hasher, b'i', v.to_le_bytes()),
        Value::Real(v) => return number(hasher, b'r', v.to_le_bytes()),
        Value::Bool(v) => (b'o', if v { b"t" } else { b"f" }),
        Value::Time(v) => return number(hasher, b'm', v.0.to_le_bytes()),
        Value::Uuid(ref v) => (b'u', v),
        Value::Text(bytes) => (b't', bytes),
        Value::Blob(bytes) => (b'b', bytes),
    };
    number(hasher, class, (bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn number(hasher: &mut Xxh3Default, class: u8, bytes: [u8; 8]) {
    hasher.update(&[class]);
    hasher.update(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_classes_and_other_borders_differ() {
        let rows: [&[Value<'_>]; 8] = [
            &[Value::Text(b"ab"), Value::Text(b"c")],
            &[Value::Text(b"a"), Value::Text(b"bc")],
            &[Value::Blob(b"ab"), Value::Text(b"c")],
            &[Value::Int(1)],
            &[Value::Real(1.0)],
            &[Value::Text(b"1")],
            &[Value::Null],
            &[],
        ];
        let mut all: Vec<i64> = rows.iter().map(|row| fingerprint(row.iter().copied())).collect();
        assert!(all.iter().all(|f| (0..1 << 48).contains(f)), "{all:?}");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), rows.len());
    }
}
