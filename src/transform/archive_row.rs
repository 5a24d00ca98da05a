//! One row of an archive: its values, its key, and what identifies it among all rows.

use crate::identity::{show_id, write_part};
use crate::plan::{ColumnPlan, ColumnSource, key_of, lacks_key};
use chronicle_archive::time::ZoneRule;
use chronicle_archive::{Batch, Stream, Value};

/// A row of a batch of the archive.
#[derive(Clone, Copy)]
pub(super) struct ArchiveRow<'a> {
    /// The archive's description of its stream.
    pub(super) source: &'a Stream,
    pub(super) batch: &'a Batch,
    pub(super) row: usize,
}

impl<'a> ArchiveRow<'a> {
    /// The number of its stream.
    pub(super) fn stream(&self) -> usize {
        self.batch.stream()
    }

    pub(super) fn value(&self, column: usize) -> Value<'a> {
        self.batch.value(self.row, column)
    }

    /// All its values.
    pub(super) fn values(self) -> impl Iterator<Item = Value<'a>> {
        (0..self.source.columns.len()).map(move |n| self.value(n))
    }

    /// The text of a column, if it is one.
    pub(super) fn text(&self, name: &str) -> Option<&'a [u8]> {
        match self.value(self.source.column(name)?) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its key, for messages.
    pub(super) fn key(&self) -> String {
        key_of(self.source, self.batch, self.row)
    }

    /// Whether its key, or a part of it, is NULL.
    pub(super) fn lacks_key(&self) -> bool {
        lacks_key(self.source, self.batch, self.row)
    }

    /// Whether it had no key where it first came from.
    pub(super) fn is_keyless(&self) -> bool {
        self.batch.keyless(self.row)
    }

    /// Its table, its number in the archive and its key, for messages.
    pub(super) fn place(&self, table: &str) -> String {
        let number = self.batch.first_row() + self.row as u64;
        format!("{table}: row {number} (key {})", self.key())
    }

    /// How a time without a zone is read: at the offset that is known of it, else as the plan says.
    pub(super) fn zone_rule(&self, column: &ColumnPlan) -> ZoneRule {
        let known = column.archive_column().and_then(|n| self.batch.offset(self.row, n));
        known.map_or(column.zone_rule, ZoneRule::Fixed)
    }

    /// Whether a column of the target takes the text of the row's id.
    pub(super) fn is_key(&self, source: &ColumnSource) -> bool {
        matches!(source, ColumnSource::TextOf(n) if self.source.key == [*n])
    }

    /// The value that a column of the target takes.
    pub(super) fn take<'v>(&self, source: &'v ColumnSource, text: &'v mut Vec<u8>) -> Value<'v>
    where
        'a: 'v,
    {
        match source {
            ColumnSource::Column(n) => self.value(*n),
            ColumnSource::Text(text) => Value::Text(text.as_bytes()),
            ColumnSource::Batch => Value::Null,
            ColumnSource::TextOf(n) => match self.value(*n) {
                Value::Null => Value::Null,
                Value::Text(text) => Value::Text(text),
                other => {
                    *text = show_id(other).into_bytes();
                    Value::Text(text)
                }
            },
        }
    }

    /// Writes what identifies a row by some of its columns; false if any of them is NULL.
    pub(super) fn write_name(&self, columns: &[usize], name: &mut Vec<u8>) -> bool {
        name.clear();
        columns.iter().all(|n| {
            let value = self.value(*n);
            write_part(value, name);
            value != Value::Null
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::stream;
    use chronicle_archive::Kind;

    #[test]
    fn no_two_keys_of_several_columns_have_the_same_name() {
        let source = stream("notes", &[("a", Kind::Text), ("b", Kind::Text)]);
        let mut batch = Batch::default();
        batch.start(0, 2, 1);
        for [a, b] in [["a", "b"], ["ab", ""], ["", "ab"], ["a, b", ""], ["a", ", b"]] {
            batch.push(Value::Text(a.as_bytes()));
            batch.push(Value::Text(b.as_bytes()));
        }
        let mut names: Vec<Vec<u8>> = (0..batch.rows())
            .map(|row| {
                let mut name = Vec::new();
                assert!(
                    ArchiveRow { source: &source, batch: &batch, row }
                        .write_name(&[0, 1], &mut name)
                );
                name
            })
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), batch.rows());
    }

    #[test]
    fn a_key_with_a_null_has_no_name() {
        let source = stream("notes", &[("a", Kind::Text), ("b", Kind::Text)]);
        let mut batch = Batch::default();
        batch.start(0, 2, 1);
        batch.push(Value::Text(b"a"));
        batch.push(Value::Null);
        let row = ArchiveRow { source: &source, batch: &batch, row: 0 };
        assert!(!row.write_name(&[0, 1], &mut Vec::new()));
        assert!(row.write_name(&[0], &mut Vec::new()));
    }
}
