//! What an archive holds: kinds of columns, streams with their columns, and single values.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_word() {
        for (kind, word) in Kind::WORDS {
            assert_eq!((Kind::from_word(word), kind.word()), (Some(kind), word));
        }
        assert_eq!(Kind::from_word("vector"), None);
    }
}
