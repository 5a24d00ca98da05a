//! Values as bytes that wait in the spill: the same bytes only for the same values.

use chronicle_archive::Value;
use chronicle_archive::time::Instant;

/// Appends a value.
pub fn push(out: &mut Vec<u8>, value: Value<'_>) {
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

/// Reads values that were appended one after the other.
pub fn read(mut bytes: &[u8]) -> Vec<Value<'_>> {
    std::iter::from_fn(|| one(&mut bytes)).collect()
}

fn one<'a>(rest: &mut &'a [u8]) -> Option<Value<'a>> {
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
    fn bytes_give_back_every_kind_of_value() {
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
        let mut bytes = Vec::new();
        values.iter().for_each(|value| push(&mut bytes, *value));
        assert_eq!(read(&bytes), values);
    }
}
