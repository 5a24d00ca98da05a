//! Many keys and fingerprints in few bytes: what receipts hold of the rows that a batch has inserted.
//!
//! A pack has the fingerprints of its rows, six bytes each, then the values of the key column by column: UUIDs in their
//! 16 bytes, whole numbers as differences to the one before, anything else value by value.

use crate::error::{Code, Error, Result};
use chronicle_archive::{Batch, Value};

/// The rows of one pack.
pub(super) const ROWS: usize = 1024;

/// A column of UUIDs as text in the usual spelling.
const UUIDS: u8 = b'u';
/// A column of whole numbers.
const NUMBERS: u8 = b'd';
/// A column of any values.
const VALUES: u8 = b'v';

/// Packs the rows of a batch: a fingerprint, then the key.
pub(super) fn pack(rows: &Batch, keys: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.rows() * 24);
    for row in 0..rows.rows() {
        let fingerprint = number(rows.value(row, 0)).unwrap_or(0);
        out.extend_from_slice(&fingerprint.to_le_bytes()[..6]);
    }
    for column in 1..=keys {
        let values = || (0..rows.rows()).map(|row| rows.value(row, column));
        if values().all(|value| uuid(value).is_some()) {
            out.push(UUIDS);
            values().filter_map(uuid).for_each(|uuid| out.extend_from_slice(&uuid));
        } else if values().all(|value| number(value).is_some()) {
            out.push(NUMBERS);
            let mut before = 0_i64;
            for value in values().filter_map(number) {
                put_number(&mut out, value.wrapping_sub(before));
                before = value;
            }
        } else {
            out.push(VALUES);
            values().for_each(|value| put_value(&mut out, value));
        }
    }
    out
}

/// Unpacks rows into a batch that has been started.
pub(super) fn unpack(bytes: &[u8], count: usize, keys: usize, rows: &mut Batch) -> Result<()> {
    let mut bytes = Bytes(bytes);
    let mut columns: Vec<Vec<Owned>> = Vec::new();
    let mut fingerprints = Vec::with_capacity(count);
    for _ in 0..count {
        let six = bytes.take(6)?;
        fingerprints.push(six.iter().rev().fold(0, |sum, byte| sum << 8 | i64::from(*byte)));
    }
    for _ in 0..keys {
        let mode = bytes.byte()?;
        let mut before = 0_i64;
        let mut column = Vec::with_capacity(count);
        for _ in 0..count {
            column.push(match mode {
                UUIDS => {
                    let uuid = uuid::Uuid::from_slice(bytes.take(16)?).map_err(|_| damaged())?;
                    Owned::Text(uuid.to_string().into_bytes())
                }
                NUMBERS => {
                    before = before.wrapping_add(bytes.number()?);
                    Owned::Int(before)
                }
                VALUES => bytes.value()?,
                _ => return Err(damaged()),
            });
        }
        columns.push(column);
    }
    if !bytes.0.is_empty() {
        return Err(damaged());
    }
    for (row, fingerprint) in fingerprints.into_iter().enumerate() {
        rows.push(Value::Int(fingerprint));
        columns.iter().for_each(|column| rows.push(column[row].value()));
    }
    Ok(())
}

fn damaged() -> Error {
    Error::new(Code::ArchiveDamaged, "the receipts have rows that cannot be read")
}

/// The bytes of a UUID that is spelled as usual.
fn uuid(value: Value<'_>) -> Option<[u8; 16]> {
    let Value::Text(text) = value else { return None };
    let uuid = uuid::Uuid::try_parse_ascii(text).ok()?;
    let mut buffer = uuid::Uuid::encode_buffer();
    (uuid.hyphenated().encode_lower(&mut buffer).as_bytes() == text).then(|| uuid.into_bytes())
}

fn number(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

/// Appends a number, a small one in few bytes: seven bits in each, the lowest ones first, its sign in the last place.
fn put_number(out: &mut Vec<u8>, number: i64) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    let (class, bytes) = match value {
        Value::Int(number) => {
            out.push(b'i');
            return put_number(out, number);
        }
        Value::Real(number) => {
            out.push(b'r');
            return out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Text(bytes) => (b't', bytes),
        Value::Blob(bytes) => (b'b', bytes),
        // no database gives a key as any of these
        Value::Null | Value::Bool(_) | Value::Time(_) | Value::Uuid(_) => return out.push(b'n'),
    };
    out.push(class);
    put_number(out, i64::try_from(bytes.len()).unwrap_or(0));
    out.extend_from_slice(bytes);
}

/// A value that was unpacked.
enum Owned {
    Null,
    Int(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Null => Value::Null,
            Owned::Int(number) => Value::Int(*number),
            Owned::Real(number) => Value::Real(*number),
            Owned::Text(bytes) => Value::Text(bytes),
            Owned::Blob(bytes) => Value::Blob(bytes),
        }
    }
}

/// Bytes on their way out of a pack.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<i64> {
        let mut rest = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            rest |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((rest >> 1).cast_signed() ^ -(rest & 1).cast_signed());
            }
        }
        Err(damaged())
    }

    fn value(&mut self) -> Result<Owned> {
        Ok(match self.byte()? {
            b'n' => Owned::Null,
            b'i' => Owned::Int(self.number()?),
            b'r' => {
                let bits: [u8; 8] = self.take(8)?.try_into().map_err(|_| damaged())?;
                Owned::Real(f64::from_le_bytes(bits))
            }
            class @ (b't' | b'b') => {
                let length = usize::try_from(self.number()?).map_err(|_| damaged())?;
                let bytes = self.take(length)?.to_vec();
                if class == b't' { Owned::Text(bytes) } else { Owned::Blob(bytes) }
            }
            _ => return Err(damaged()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn round_trip(rows: &[Vec<Value<'_>>]) -> usize {
        let keys = rows[0].len() - 1;
        let mut batch = Batch::default();
        batch.start(0, keys + 1, 1);
        rows.iter().flatten().for_each(|value| batch.push(*value));
        let bytes = pack(&batch, keys);
        let mut again = Batch::default();
        again.start(0, keys + 1, 1);
        unpack(&bytes, rows.len(), keys, &mut again).unwrap();
        for (row, values) in rows.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                assert_eq!(again.value(row, column), *value, "row {row}, column {column}");
            }
        }
        let mut cut = Batch::default();
        cut.start(0, keys + 1, 1);
        assert!(unpack(&bytes[..bytes.len() - 1], rows.len(), keys, &mut cut).is_err());
        bytes.len()
    }

    #[test]
    fn packed_rows_come_back_in_few_bytes() {
        let id = |n: u64| {
            uuid::Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n).to_string()
        };
        let texts: Vec<String> = (0..500).map(id).collect();
        let fingerprint = |n: usize| Value::Int((1 << 47) + n as i64);
        let uuids: Vec<Vec<Value<'_>>> = (texts.iter().enumerate())
            .map(|(n, text)| vec![fingerprint(n), Value::Text(text.as_bytes())])
            .collect();
        assert_eq!(round_trip(&uuids), 500 * 22 + 1);
        let numbers: Vec<Vec<Value<'_>>> =
            (0..500).map(|n| vec![fingerprint(n), Value::Int(n as i64 + 1_000_000)]).collect();
        assert!(round_trip(&numbers) < 500 * 7 + 8);
    }

    #[test]
    fn keys_of_any_values_come_back() {
        let upper = b"0000000A-0000-4000-8000-000000000001";
        round_trip(&[
            vec![Value::Int(0), Value::Null, Value::Int(i64::MIN), Value::Text(upper)],
            vec![
                Value::Int((1 << 48) - 1),
                Value::Real(-0.5),
                Value::Int(i64::MAX),
                Value::Text(b""),
            ],
            vec![Value::Int(7), Value::Blob(b"\0\xff"), Value::Int(-1), Value::Text(b"caf\xe9")],
        ]);
        round_trip(&[vec![Value::Int(1)], vec![Value::Int(2)]]);
    }
}
