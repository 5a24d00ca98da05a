//! What travels: kinds, streams with their columns, and batches of rows in one reused buffer.

use crate::time::Instant;

/// What a column holds, as the archive names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A 64-bit integer.
    Int,
    /// A double.
    Real,
    /// True or false.
    Bool,
    /// An exact decimal, as PostgreSQL writes it.
    Numeric,
    /// Text.
    Text,
    /// An instant in microseconds (`timestamptz`).
    Time,
    /// A calendar date.
    Date,
    /// A UUID.
    Uuid,
    /// Bytes.
    Bytes,
    /// JSON whose text is kept (`json`, or text that holds JSON).
    Json,
    /// JSON as PostgreSQL's `jsonb` prints it.
    Jsonb,
    /// Anything else, in PostgreSQL's text form.
    Other,
}

impl Kind {
    /// Every kind with the word that the archive uses for it.
    pub const WORDS: [(Kind, &'static str); 12] = [
        (Kind::Int, "int"),
        (Kind::Real, "real"),
        (Kind::Bool, "bool"),
        (Kind::Numeric, "numeric"),
        (Kind::Text, "text"),
        (Kind::Time, "time"),
        (Kind::Date, "date"),
        (Kind::Uuid, "uuid"),
        (Kind::Bytes, "bytes"),
        (Kind::Json, "json"),
        (Kind::Jsonb, "jsonb"),
        (Kind::Other, "other"),
    ];

    /// The word of this kind.
    pub fn word(self) -> &'static str {
        Kind::WORDS.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, word)| word)
    }

    /// The kind of a word, if there is one.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::WORDS.iter().find(|(_, w)| *w == word).map(|(kind, _)| *kind)
    }
}

/// A column of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The logical name, the key in every record.
    pub name: String,
    /// The name in the database it came from.
    pub physical: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether a record may show null here. Only keys can promise that they never do.
    pub nullable: bool,
    /// Text that holds instants in some ISO-like spelling.
    pub instant: bool,
    /// An instant column whose texts without a zone are UTC, not local time.
    pub utc: bool,
}

/// A stream: rows of one logical table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The logical name.
    pub name: String,
    /// The table it came from; information only, never used to build SQL on import.
    pub table: String,
    /// The columns, in the order of every record.
    pub columns: Vec<Column>,
    /// The columns of the key, as indices.
    pub key: Vec<usize>,
    /// The columns that the rows are sorted by, as indices; empty if unsorted.
    pub order: Vec<usize>,
}

impl Stream {
    /// The index of a column by its logical name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
}

/// One value, borrowed from a batch.
///
/// SQLite types every value on its own, so any variant may stand in a column of any kind there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A double, possibly NaN or infinite.
    Real(f64),
    /// A boolean.
    Bool(bool),
    /// An instant.
    Time(Instant),
    /// A UUID in its 16 bytes.
    Uuid([u8; 16]),
    /// Text as found: perhaps with NUL characters, perhaps not UTF-8.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

/// A value as a batch keeps it: bytes by position.
#[derive(Debug, Clone, Copy)]
enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Bool(bool),
    Time(Instant),
    Uuid([u8; 16]),
    Adopted(usize, usize),
    Text(usize, usize),
    Blob(usize, usize),
}

/// Rows of one stream. All bytes stand in one buffer, which is reused from batch to batch.
///
/// A batch that was read from an archive adopts the chunk it was read from, so that a payload is
/// never copied on its way; what had to be unescaped stands in a second buffer behind it.
#[derive(Debug, Default)]
pub struct Batch {
    stream: usize,
    width: usize,
    first_row: u64,
    cells: Vec<Cell>,
    adopted: Vec<u8>,
    own: Vec<u8>,
    /// By position; hardly any batch has one.
    offsets: Vec<(usize, i32)>,
    /// By row, and as rare.
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

    /// Takes over a buffer that [`Batch::push_adopted`] then refers to; returns the former one.
    pub fn adopt(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.adopted, bytes)
    }

    /// The buffer taken over by [`Batch::adopt`].
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

    /// Says which position in its stream the first row has.
    pub fn number_from(&mut self, first_row: u64) {
        self.first_row = first_row;
    }

    /// The bytes that the rows hold.
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
            Value::Text(bytes) => Cell::Text(self.keep(bytes), bytes.len()),
            Value::Blob(bytes) => Cell::Blob(self.keep(bytes), bytes.len()),
        };
        self.cells.push(cell);
    }

    /// Appends text that stands at `start` in the adopted buffer.
    pub fn push_adopted(&mut self, start: usize, len: usize) {
        self.cells.push(Cell::Adopted(start, len));
    }

    /// Takes back everything behind the first `rows` rows. Their bytes stay until the next start.
    pub fn truncate(&mut self, rows: usize) {
        self.cells.truncate(rows * self.width);
        self.offsets.truncate(self.offsets.partition_point(|(at, _)| *at < self.cells.len()));
        self.keyless.retain(|row| *row < rows);
    }

    /// The number of values so far; the next one pushed has this position.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Puts another value at a position.
    pub fn replace(&mut self, position: usize, value: Value<'_>) {
        self.push(value);
        if let Some(cell) = self.cells.pop()
            && let Some(old) = self.cells.get_mut(position)
        {
            *old = cell;
        }
    }

    /// Says at which offset, in seconds east of Greenwich, the local time at a position is.
    pub fn set_offset(&mut self, position: usize, seconds: i32) {
        let place = self.offsets.partition_point(|(at, _)| *at < position);
        self.offsets.insert(place, (position, seconds));
    }

    /// The offset, in seconds east of Greenwich, of a local time that does not say it itself, if it
    /// is known.
    pub fn offset(&self, row: usize, column: usize) -> Option<i32> {
        let found = self.offsets.binary_search_by_key(&(row * self.width + column), |(at, _)| *at);
        found.ok().map(|place| self.offsets[place].1)
    }

    /// Says that a row, which comes after all others of which this was said, had no key where it first
    /// came from: the one that it has was made.
    pub fn set_keyless(&mut self, row: usize) {
        self.keyless.push(row);
    }

    /// Whether a row had no key where it first came from.
    pub fn keyless(&self, row: usize) -> bool {
        self.keyless.binary_search(&row).is_ok()
    }

    fn keep(&mut self, bytes: &[u8]) -> usize {
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

/// A key as messages show it: readable, bounded, without control characters.
pub fn show(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Int(v) => v.to_string(),
        Value::Real(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Uuid(v) => uuid::Uuid::from_bytes(v).to_string(),
        Value::Time(v) => {
            let mut text = Vec::new();
            v.write_postgres(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
        Value::Text(bytes) => show_text(&String::from_utf8_lossy(bytes)),
        Value::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// A path as messages show it: whole, control characters escaped.
pub fn show_path(path: impl std::fmt::Display) -> String {
    let escape = |c: char| if c.is_control() { c.escape_debug().collect() } else { c.to_string() };
    path.to_string().chars().map(escape).collect()
}

/// Text as messages show it: at most 80 characters, control characters escaped.
pub fn show_text(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_pushed_from_both_buffers() {
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

    #[test]
    fn every_kind_is_found_by_its_word() {
        for (kind, word) in Kind::WORDS {
            assert_eq!((Kind::from_word(word), kind.word()), (Some(kind), word));
        }
        assert_eq!(Kind::from_word("vector"), None);
    }

    #[test]
    fn shown_text_is_short_and_has_no_control_characters() {
        assert_eq!(show_text("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert!(show_text(&"x".repeat(500)).chars().count() <= 81);
    }
}
