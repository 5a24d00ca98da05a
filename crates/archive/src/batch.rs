//! Batches: rows of one stream in one buffer, which the next rows reuse.

use crate::model::Value;
use crate::time::Instant;

/// The bytes of a buffer beyond which it is not kept for other rows: several chunks of the usual size.
const LARGE: usize = 8 << 20;

/// A value; text and bytes as start and length in a buffer.
#[derive(Debug, Clone, Copy)]
enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Bool(bool),
    Time(Instant),
    Uuid([u8; 16]),
    /// Text in the adopted buffer.
    Adopted(usize, usize),
    Text(usize, usize),
    Blob(usize, usize),
}

/// Rows of one stream; reused, so that the next rows need no new memory.
///
/// A batch that is read from an archive adopts the buffer of its chunk, so that payloads are never
/// copied; only values with escapes are decoded into a second buffer.
///
/// ```
/// use chronicle_archive::{Batch, Value};
///
/// let mut batch = Batch::default();
/// batch.start(0, 2, 1); // rows of two columns
/// batch.push(Value::Int(7));
/// batch.push(Value::Text(b"seven"));
/// assert_eq!(batch.rows(), 1);
/// assert_eq!(batch.value(0, 1), Value::Text(b"seven"));
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    stream: usize,
    width: usize,
    first_row: u64,
    cells: Vec<Cell>,
    adopted: Vec<u8>,
    own: Vec<u8>,
    /// Offsets of local times, sorted by position; most batches have none.
    offsets: Vec<(usize, i32)>,
    /// Numbers of rows that had no key at their source, in order; as rare.
    keyless: Vec<usize>,
}

impl Batch {
    /// Empties the batch for rows of stream number `stream` with `width` columns.
    pub fn start(&mut self, stream: usize, width: usize, first_row: u64) {
        self.stream = stream;
        self.width = width;
        self.first_row = first_row;
        self.cells.clear();
        self.adopted.clear();
        self.own.clear();
        self.offsets.clear();
        self.keyless.clear();
    }

    /// Frees buffers that grew far beyond what rows usually need: one huge row must not cost its memory
    /// until the end.
    pub fn release_large(&mut self) {
        for buffer in [&mut self.adopted, &mut self.own] {
            if buffer.capacity() > LARGE {
                *buffer = Vec::new();
                self.cells.clear();
            }
        }
    }

    /// Takes ownership of a buffer, which [`Batch::push_adopted`] refers to; returns the previous one.
    pub fn adopt(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.adopted, bytes)
    }

    /// The buffer that [`Batch::adopt`] took.
    pub fn adopted(&self) -> &[u8] {
        &self.adopted
    }

    /// The number of the stream, in the order of the header.
    pub fn stream(&self) -> usize {
        self.stream
    }

    /// The number of whole rows.
    pub fn rows(&self) -> usize {
        self.cells.len().checked_div(self.width).unwrap_or(0)
    }

    /// The position in its stream of the first row, counted from 1.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Sets the position in its stream of the first row, counted from 1.
    pub fn number_from(&mut self, first_row: u64) {
        self.first_row = first_row;
    }

    /// The approximate memory of the rows in bytes.
    pub fn size(&self) -> usize {
        self.adopted.len() + self.own.len() + 8 * self.cells.len()
    }

    /// Appends a value to the row being built, copying its bytes.
    pub fn push(&mut self, value: Value<'_>) {
        let cell = match value {
            Value::Null => Cell::Null,
            Value::Int(v) => Cell::Int(v),
            Value::Real(v) => Cell::Real(v),
            Value::Bool(v) => Cell::Bool(v),
            Value::Time(v) => Cell::Time(v),
            Value::Uuid(v) => Cell::Uuid(v),
            Value::Text(bytes) => Cell::Text(self.store(bytes), bytes.len()),
            Value::Blob(bytes) => Cell::Blob(self.store(bytes), bytes.len()),
        };
        self.cells.push(cell);
    }

    /// Appends the text of `len` bytes at `start` in the adopted buffer.
    pub fn push_adopted(&mut self, start: usize, len: usize) {
        self.cells.push(Cell::Adopted(start, len));
    }

    /// Removes all but the first `rows` rows; their memory is kept until the next [`Batch::start`].
    pub fn truncate(&mut self, rows: usize) {
        self.cells.truncate(rows * self.width);
        self.offsets.truncate(self.offsets.partition_point(|(at, _)| *at < self.cells.len()));
        self.keyless.retain(|row| *row < rows);
    }

    /// Keeps the rows that `keep` says, in their order, and removes the others. Memory is kept until the next
    /// [`Batch::start`].
    ///
    /// ```
    /// use chronicle_archive::{Batch, Value};
    ///
    /// let mut batch = Batch::default();
    /// batch.start(0, 1, 1);
    /// (1..=3).for_each(|n| batch.push(Value::Int(n)));
    /// batch.retain(&[true, false, true]);
    /// assert_eq!((batch.rows(), batch.value(1, 0)), (2, Value::Int(3)));
    /// ```
    pub fn retain(&mut self, keep: &[bool]) {
        let is_kept = |row: usize| keep.get(row).copied().unwrap_or(false);
        let mut places = Vec::with_capacity(self.rows());
        let mut kept = 0;
        for row in 0..self.rows() {
            places.push(kept);
            if is_kept(row) {
                let from = row * self.width;
                self.cells.copy_within(from..from + self.width, kept * self.width);
                kept += 1;
            }
        }
        self.cells.truncate(kept * self.width);
        let (width, place) = (self.width.max(1), |row: usize| places.get(row).copied());
        self.offsets.retain(|(at, _)| is_kept(at / width));
        for (at, _) in &mut self.offsets {
            *at = place(*at / width).unwrap_or(0) * width + *at % width;
        }
        self.keyless.retain(|row| is_kept(*row));
        self.keyless.iter_mut().for_each(|row| *row = place(*row).unwrap_or(0));
    }

    /// The number of values so far; the next one pushed has this position.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Replaces the value at a position.
    pub fn replace(&mut self, position: usize, value: Value<'_>) {
        self.push(value);
        if let Some(cell) = self.cells.pop()
            && let Some(old) = self.cells.get_mut(position)
        {
            *old = cell;
        }
    }

    /// Gives a row another value in a column; what was known of the former one does not hold for it.
    pub fn set(&mut self, row: usize, column: usize, value: Value<'_>) {
        let position = row * self.width + column;
        self.replace(position, value);
        self.offsets.retain(|(at, _)| *at != position);
    }

    /// Gives a row the value of one of its columns in another, too.
    pub fn copy(&mut self, row: usize, from: usize, to: usize) {
        let start = row * self.width;
        if let Some(cell) = self.cells.get(start + from).copied()
            && let Some(other) = self.cells.get_mut(start + to)
        {
            *other = cell;
        }
    }

    /// Adds so many columns behind the others; they are NULL in all rows.
    pub fn widen(&mut self, columns: usize) {
        let (old, new) = (self.width.max(1), self.width + columns);
        let rows = std::mem::take(&mut self.cells);
        for row in rows.chunks(old) {
            self.cells.extend_from_slice(row);
            self.cells.extend(std::iter::repeat_n(Cell::Null, columns));
        }
        self.offsets.iter_mut().for_each(|(at, _)| *at = *at / old * new + *at % old);
        self.width = new;
    }

    /// Notes the offset, in seconds east of Greenwich, of the local time at a position.
    pub fn set_offset(&mut self, position: usize, seconds: i32) {
        let place = self.offsets.partition_point(|(at, _)| *at < position);
        self.offsets.insert(place, (position, seconds));
    }

    /// The offset, in seconds east of Greenwich, that is known of a local time although its text has
    /// none.
    pub fn offset(&self, row: usize, column: usize) -> Option<i32> {
        let found = self.offsets.binary_search_by_key(&(row * self.width + column), |(at, _)| *at);
        found.ok().map(|place| self.offsets[place].1)
    }

    /// Notes that a row had no key at its first source and has a generated one. Rows must be noted in
    /// their order.
    pub fn set_keyless(&mut self, row: usize) {
        self.keyless.push(row);
    }

    /// Whether a row had no key at its first source.
    pub fn keyless(&self, row: usize) -> bool {
        self.keyless.binary_search(&row).is_ok()
    }

    fn store(&mut self, bytes: &[u8]) -> usize {
        let start = self.own.len();
        self.own.extend_from_slice(bytes);
        start
    }

    /// The value of `column` in row number `row`, both counted from 0.
    pub fn value(&self, row: usize, column: usize) -> Value<'_> {
        self.value_at(row * self.width + column)
    }

    /// The value at a position.
    pub fn value_at(&self, position: usize) -> Value<'_> {
        match self.cells.get(position) {
            None | Some(Cell::Null) => Value::Null,
            Some(Cell::Int(v)) => Value::Int(*v),
            Some(Cell::Real(v)) => Value::Real(*v),
            Some(Cell::Bool(v)) => Value::Bool(*v),
            Some(Cell::Time(v)) => Value::Time(*v),
            Some(Cell::Uuid(v)) => Value::Uuid(*v),
            Some(Cell::Adopted(start, len)) => Value::Text(slice(&self.adopted, *start, *len)),
            Some(Cell::Text(start, len)) => Value::Text(slice(&self.own, *start, *len)),
            Some(Cell::Blob(start, len)) => Value::Blob(slice(&self.own, *start, *len)),
        }
    }
}

fn slice(bytes: &[u8], start: usize, len: usize) -> &[u8] {
    bytes.get(start..start + len).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_row_does_not_keep_its_memory() {
        let mut batch = Batch::default();
        batch.start(0, 1, 1);
        batch.push(Value::Text(&vec![b'x'; LARGE + 1]));
        batch.release_large();
        assert_eq!((batch.rows(), batch.own.capacity()), (0, 0));
        batch.start(0, 1, 1);
        batch.push(Value::Text(b"usual"));
        batch.release_large();
        assert_eq!(batch.value(0, 0), Value::Text(b"usual"));
    }

    #[test]
    fn rows_that_are_kept_keep_what_is_known_of_them() {
        let mut batch = Batch::default();
        batch.start(0, 2, 1);
        for n in 0..6 {
            batch.push(Value::Int(n));
            batch.push(Value::Text(b"x"));
        }
        batch.set_offset(3, 60);
        batch.set_offset(8, 120);
        (0..6).for_each(|row| batch.set_keyless(row));
        batch.retain(&[false, true, false, true, true, false]);
        let numbers: Vec<Value<'_>> = (0..batch.rows()).map(|row| batch.value(row, 0)).collect();
        assert_eq!(numbers, [Value::Int(1), Value::Int(3), Value::Int(4)]);
        assert_eq!((batch.offset(0, 1), batch.offset(2, 0)), (Some(60), Some(120)));
        assert_eq!((batch.offset(1, 0), batch.keyless(2), batch.keyless(3)), (None, true, false));
        batch.retain(&[]);
        assert_eq!(batch.rows(), 0);
    }

    #[test]
    fn a_wider_batch_holds_what_it_held() {
        let mut batch = Batch::default();
        batch.start(0, 2, 1);
        for n in 0..3 {
            batch.push(Value::Int(n));
            batch.push(Value::Text(b"2025-08-19T10:00:00"));
        }
        batch.set_offset(3, 60);
        batch.set_offset(5, 120);
        batch.widen(2);
        assert_eq!(
            (batch.rows(), batch.value(1, 0), batch.value(2, 3)),
            (3, Value::Int(1), Value::Null)
        );
        assert_eq!((batch.offset(1, 1), batch.offset(2, 1)), (Some(60), Some(120)));
        batch.set(1, 1, Value::Text(b"later"));
        batch.set(2, 2, Value::Bool(true));
        assert_eq!(
            (batch.value(1, 1), batch.value(2, 2)),
            (Value::Text(b"later"), Value::Bool(true))
        );
        assert_eq!((batch.offset(1, 1), batch.offset(2, 1)), (None, Some(120)));
    }

    #[test]
    fn values_come_back_from_both_buffers() {
        let mut batch = Batch::default();
        batch.start(1, 3, 7);
        batch.adopt(b"hello world".to_vec());
        batch.push_adopted(6, 5);
        batch.push(Value::Blob(b"own"));
        batch.push(Value::Int(-1));
        assert_eq!((batch.rows(), batch.stream(), batch.first_row()), (1, 1, 7));
        assert_eq!(batch.value(0, 0), Value::Text(b"world"));
        assert_eq!(batch.value(0, 1), Value::Blob(b"own"));
        assert_eq!(batch.value(0, 2), Value::Int(-1));
    }
}
