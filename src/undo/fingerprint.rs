//! The fingerprint of a row: 48 bits of XXH3 that tell whether it was edited.

use xxhash_rust::xxh3::Xxh3Default;

use chronicle_archive::Value;

/// How many values one link of the chain takes: SQLite passes no more than 127 to a function.
pub const CHAIN: usize = 100;

/// The fingerprint of some values, never negative. Of a row with more than [`CHAIN`] columns it is a chain: the
/// fingerprint of the first columns is the first value of the next link.
pub fn fingerprint<'a>(values: impl Iterator<Item = Value<'a>>) -> i64 {
    let (mut hasher, mut in_link) = (Xxh3Default::new(), 0);
    for value in values {
        if in_link == CHAIN {
            let link = end(hasher);
            hasher = Xxh3Default::new();
            add(&mut hasher, Value::Int(link));
            in_link = 0;
        }
        add(&mut hasher, value);
        in_link += 1;
    }
    end(hasher)
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

fn end(hasher: Xxh3Default) -> i64 {
    i64::try_from(hasher.digest() >> 16).unwrap_or(0)
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

    #[test]
    fn a_long_row_is_a_chain_of_links() {
        let values: Vec<Value<'_>> = (0..250).map(Value::Int).collect();
        let first = fingerprint(values[..100].iter().copied());
        let second =
            fingerprint(std::iter::once(Value::Int(first)).chain(values[100..200].iter().copied()));
        let third =
            fingerprint(std::iter::once(Value::Int(second)).chain(values[200..].iter().copied()));
        assert_ne!(first, second);
        assert_eq!(fingerprint(values.iter().copied()), third);
    }
}
