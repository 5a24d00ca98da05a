//! The binary form of COPY: rows of the server to values and back
//! (<https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format").

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use chronicle_archive::time::Instant;
use chronicle_archive::{Batch, Value};

/// A value of this size is put into a buffer that grows for it alone, not by doubling.
const LARGE: usize = 1 << 20;
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// The version byte in front of every jsonb.
const JSONB_VERSION: u8 = 1;

/// How the bytes of a field are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Text, as the server prints it.
    Text,
    /// An integer of 2, 4 or 8 bytes.
    Int,
    /// A float of 4 or 8 bytes.
    Float,
    /// A boolean.
    Bool,
    /// Microseconds since 2000.
    Time,
    /// 16 bytes.
    Uuid,
    /// Bytes.
    Bytes,
    /// A version byte and JSON text.
    Jsonb,
}

/// Reads rows out of the stream of a COPY.
#[derive(Debug, Default)]
pub struct RowReader {
    pending: BytesMut,
    started: bool,
    ended: bool,
}

impl RowReader {
    /// Takes what the server sent; a large row is not copied for it.
    pub fn feed(&mut self, bytes: Bytes) {
        if self.pending.is_empty() && bytes.len() >= LARGE {
            self.pending = BytesMut::from(bytes);
        } else {
            self.pending.extend_from_slice(&bytes);
        }
    }

    /// Whether the server has said that there are no more rows.
    pub fn ended(&self) -> bool {
        self.ended && self.pending.is_empty()
    }

    /// Appends the rows that are whole to `batch`.
    ///
    /// # Errors
    /// If the bytes are not what the fields say.
    pub fn read(&mut self, fields: &[Field], batch: &mut Batch) -> Result<()> {
        if !self.started {
            match self.pending.get(..SIGNATURE.len() + 8) {
                Some(header) if header.starts_with(SIGNATURE) => {
                    self.pending.advance(SIGNATURE.len() + 8);
                    self.started = true;
                }
                Some(_) => return Err(broken()),
                None => return Ok(()),
            }
        }
        while !self.ended {
            let Some(length) = row_length(&self.pending)? else { return Ok(()) };
            let row = self.pending.split_to(length);
            self.ended = !push_row(&row, fields, batch)?;
        }
        Ok(())
    }
}

fn broken() -> Error {
    Error::new(Code::Source, "the server's rows are not in the expected form")
}

/// The length of the row at the start of the bytes, if it is whole.
fn row_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(count) = bytes.first_chunk::<2>().map(|b| i16::from_be_bytes(*b)) else {
        return Ok(None);
    };
    let mut length = 2;
    for _ in 0..count.max(0) {
        let Some(size) = bytes.get(length..).and_then(|b| b.first_chunk::<4>()) else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*size).max(0);
        length += 4 + usize::try_from(size).map_err(|_| broken())?;
    }
    Ok((bytes.len() >= length).then_some(length))
}

/// Appends a row; false if it is the trailer.
fn push_row(mut row: &[u8], fields: &[Field], batch: &mut Batch) -> Result<bool> {
    let count = row.get_i16();
    if count == -1 {
        return Ok(false);
    }
    if usize::try_from(count).ok() != Some(fields.len()) {
        return Err(broken());
    }
    for field in fields {
        let size = row.get_i32();
        let Ok(size) = usize::try_from(size) else {
            batch.push(Value::Null);
            continue;
        };
        let (bytes, rest) = row.split_at(size);
        batch.push(value(*field, bytes).ok_or_else(broken)?);
        row = rest;
    }
    Ok(true)
}

fn value(field: Field, bytes: &[u8]) -> Option<Value<'_>> {
    Some(match field {
        Field::Text => Value::Text(bytes),
        Field::Bytes => Value::Blob(bytes),
        Field::Bool => Value::Bool(bytes != [0]),
        Field::Uuid => Value::Uuid(bytes.try_into().ok()?),
        Field::Time => Value::Time(Instant(i64::from_be_bytes(bytes.try_into().ok()?))),
        Field::Jsonb => match bytes.split_first()? {
            (&JSONB_VERSION, text) => Value::Text(text),
            _ => return None,
        },
        Field::Int => Value::Int(match bytes.len() {
            2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
            4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
            _ => i64::from_be_bytes(bytes.try_into().ok()?),
        }),
        Field::Float => Value::Real(match bytes.len() {
            4 => widen(f32::from_be_bytes(bytes.try_into().ok()?)),
            _ => f64::from_be_bytes(bytes.try_into().ok()?),
        }),
    })
}

/// The double whose shortest text is that of the float: 0.1 stays 0.1.
fn widen(value: f32) -> f64 {
    if value.is_finite() {
        value.to_string().parse().unwrap_or_else(|_| f64::from(value))
    } else {
        f64::from(value)
    }
}

/// The start of a COPY.
pub fn start(out: &mut BytesMut) {
    out.put_slice(SIGNATURE);
    out.put_i32(0); // flags
    out.put_i32(0); // length of the header's extension
}

/// The end of a COPY.
pub fn end(out: &mut BytesMut) {
    out.put_i16(-1);
}

/// Appends a row of converted values in the types of the target.
///
/// # Errors
/// If a field is longer than the protocol's 2 GiB.
pub fn put_row(out: &mut BytesMut, types: &[ColumnType], batch: &Batch, row: usize) -> Result<()> {
    let value = |(column, ty)| (ty, batch.value(row, column));
    put_values(out, types.iter().enumerate().map(value))
}

/// Appends a row of values, each with its type.
///
/// # Errors
/// As [`put_row`].
pub fn put_values<'a>(
    out: &mut BytesMut,
    values: impl ExactSizeIterator<Item = (&'a ColumnType, Value<'a>)>,
) -> Result<()> {
    out.put_i16(i16::try_from(values.len()).map_err(|_| too_large())?);
    for (ty, value) in values {
        let length_at = out.len();
        out.put_i32(0);
        if value == Value::Null {
            out[length_at..length_at + 4].copy_from_slice(&(-1_i32).to_be_bytes());
            continue;
        }
        put(out, ty, value);
        let length = i32::try_from(out.len() - length_at - 4).map_err(|_| too_large())?;
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// How the fields of these types are read.
pub fn fields(types: &[ColumnType]) -> Vec<Field> {
    let field = |ty: &ColumnType| match ty {
        ColumnType::Uuid => Field::Uuid,
        ColumnType::Int(_) => Field::Int,
        ColumnType::Float(_) => Field::Float,
        ColumnType::Bool => Field::Bool,
        ColumnType::Timestamptz => Field::Time,
        ColumnType::Jsonb => Field::Jsonb,
        ColumnType::Bytea => Field::Bytes,
        ColumnType::Text(_) | ColumnType::Json | ColumnType::Cast(_) | ColumnType::Sqlite(_) => {
            Field::Text
        }
    };
    types.iter().map(field).collect()
}

fn too_large() -> Error {
    Error::new(Code::Value, "a value is too large for the protocol")
}

fn put(out: &mut BytesMut, ty: &ColumnType, value: Value<'_>) {
    if let Value::Text(bytes) | Value::Blob(bytes) = value
        && bytes.len() >= LARGE
    {
        // with room for what comes behind it
        out.reserve(bytes.len() + (64 << 10));
    }
    match (ty, value) {
        (ColumnType::Int(2), Value::Int(v)) => out.put_i16(v as i16),
        (ColumnType::Int(4), Value::Int(v)) => out.put_i32(v as i32),
        (_, Value::Int(v)) => out.put_i64(v),
        (ColumnType::Float(4), Value::Real(v)) => out.put_f32(v as f32),
        (_, Value::Real(v)) => out.put_f64(v),
        (_, Value::Bool(v)) => out.put_u8(u8::from(v)),
        (_, Value::Time(v)) => out.put_i64(v.0),
        (_, Value::Uuid(v)) => out.put_slice(&v),
        (ColumnType::Jsonb, Value::Text(text)) => {
            out.put_u8(JSONB_VERSION);
            out.put_slice(text);
        }
        (_, Value::Text(bytes) | Value::Blob(bytes)) => out.put_slice(bytes),
        (_, Value::Null) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_binary_form_however_the_bytes_are_cut() {
        let types = [ColumnType::Int(4), ColumnType::Jsonb, ColumnType::Uuid, ColumnType::Bool];
        let fields = [Field::Int, Field::Jsonb, Field::Uuid, Field::Bool];
        let mut row = Batch::default();
        row.start(0, 4, 1);
        row.push(Value::Int(-7));
        row.push(Value::Text(b"{\"a\": 1}"));
        row.push(Value::Null);
        row.push(Value::Bool(true));
        let mut bytes = BytesMut::new();
        start(&mut bytes);
        put_row(&mut bytes, &types, &row, 0).unwrap();
        put_row(&mut bytes, &types, &row, 0).unwrap();
        end(&mut bytes);
        for step in [1, 7, bytes.len()] {
            let mut reader = RowReader::default();
            let mut batch = Batch::default();
            batch.start(0, 4, 1);
            for piece in bytes.chunks(step) {
                reader.feed(Bytes::copy_from_slice(piece));
                reader.read(&fields, &mut batch).unwrap();
            }
            assert!(reader.ended());
            assert_eq!(batch.rows(), 2);
            assert_eq!(batch.value(1, 1), Value::Text(b"{\"a\": 1}"));
            assert_eq!(batch.value(1, 2), Value::Null);
        }
    }

    #[test]
    fn a_small_float_keeps_its_shortest_text() {
        assert_eq!(widen(0.1), 0.1);
        assert!(widen(f32::NAN).is_nan());
    }
}
