//! What an archive holds: streams, their columns and kinds, and values.

use crate::time::Instant;

/// The kind of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A 64-bit integer.
    Int,
    /// A 64-bit floating-point number.
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
    /// JSON that keeps its text (`json`, or text that holds JSON).
    Json,
    /// JSON as PostgreSQL prints its `jsonb`.
    Jsonb,
    /// Any other type, in PostgreSQL's text form.
    Other,
}

impl Kind {
    /// Every kind with its word in the archive.
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

    /// The word of this kind in the archive.
    pub fn word(self) -> &'static str {
        Kind::WORDS.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, word)| word)
    }

    /// The kind with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::WORDS.iter().find(|(_, w)| *w == word).map(|(kind, _)| *kind)
    }
}

/// Whether the texts of a column are times in some ISO-like spelling, and how to read those without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeText {
    /// They are not times.
    #[default]
    None,
    /// Times; without a zone they are local times of a zone that the archive does not name.
    Local,
    /// Times; without a zone they are UTC.
    Utc,
}

impl TimeText {
    /// From the two lists of a SCHEMA line: whether a column is among `instants`, and among `utc`.
    pub fn new(is_instant: bool, is_utc: bool) -> TimeText {
        match (is_instant, is_utc) {
            (false, _) => TimeText::None,
            (true, false) => TimeText::Local,
            (true, true) => TimeText::Utc,
        }
    }

    /// Whether the texts are times.
    pub fn is_time(self) -> bool {
        self != TimeText::None
    }
}

/// A column of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The logical name, the key in every record.
    pub name: String,
    /// The name in the source database.
    pub physical: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether a record may show null here: always, unless the column is part of the key.
    pub nullable: bool,
    /// Whether its texts are times.
    pub time_text: TimeText,
}

/// A stream: rows of one logical table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The logical name.
    pub name: String,
    /// The table in the source database; for information only, never part of SQL.
    pub table: String,
    /// The columns, in the order of every record.
    pub columns: Vec<Column>,
    /// The columns of the key, as indices.
    pub key: Vec<usize>,
    /// The columns that the rows are sorted by, as indices; empty if unsorted.
    pub order: Vec<usize>,
}

impl Column {
    /// A column of the same name in the archive and in the database, whose values may be null.
    pub fn new(name: &str, kind: Kind) -> Column {
        let name = name.to_owned();
        let time_text = TimeText::None;
        Column { physical: name.clone(), name, kind, nullable: true, time_text }
    }
}

impl Stream {
    /// A stream of a table of the same name. The first column is its key, which is never null, and the rows are sorted
    /// by it.
    pub fn new(name: &str, mut columns: Vec<Column>) -> Stream {
        columns.iter_mut().take(1).for_each(|key| key.nullable = false);
        let (key, order) = (vec![0], vec![0]);
        Stream { name: name.to_owned(), table: name.to_owned(), columns, key, order }
    }

    /// The index of a column by its logical name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
}

/// One value, borrowed from a batch.
///
/// SQLite gives each value a type of its own, so a column of any kind may hold any variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A floating-point number, perhaps NaN or infinite.
    Real(f64),
    /// A boolean.
    Bool(bool),
    /// An instant.
    Time(Instant),
    /// A UUID in its 16 bytes.
    Uuid([u8; 16]),
    /// Text as the source has it: perhaps with NUL characters, perhaps not UTF-8.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_their_words() {
        for (kind, word) in Kind::WORDS {
            assert_eq!((Kind::from_word(word), kind.word()), (Some(kind), word));
        }
        assert_eq!(Kind::from_word("vector"), None);
    }
}
