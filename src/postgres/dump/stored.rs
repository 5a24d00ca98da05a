//! The rows of a table as a dump has them, with what the sidecar stores of each.

use std::collections::HashSet;
use std::sync::Arc;

use super::row_text::RowText;
use crate::error::{Code, Error, Result};
use crate::identity::{key_text, show_id};
use crate::sidecar::{WHOLE_ROW, default_of};
use crate::sorted::{RowsInOrder, SortedRows};
use crate::spill::Spill;
use crate::value_bytes;
use chronicle_archive::{Stream, Value};

/// The rows of a table.
pub(super) struct StoredRows {
    rows: SortedRows,
    reading: Arc<HowRead>,
}

/// How a row is read.
#[derive(Default)]
struct HowRead {
    /// The column that is left out where it names a batch of the history.
    batch: Option<usize>,
    batches: Arc<HashSet<Vec<u8>>>,
    /// The columns of the key, and the space of the entries by it.
    entries: Option<(Vec<usize>, u32)>,
    /// The table, and what rows that an import created are compared with: those that nobody has edited are left out.
    only: Option<(String, RowText)>,
}

/// The rows of a table, one after the other.
pub(super) struct StoredRowsInOrder {
    rows: RowsInOrder,
    reading: Arc<HowRead>,
}

/// A row that is not left out.
pub(super) struct StoredRow<'a> {
    /// Its values, in the order of the table's columns.
    pub(super) values: Vec<Value<'a>>,
    /// Its entry, if it has one.
    pub(super) entry: Option<Vec<u8>>,
}

impl StoredRows {
    /// Rows without anything that the sidecar stores.
    pub(super) fn new(
        rows: SortedRows,
        batch: Option<usize>,
        batches: &Arc<HashSet<Vec<u8>>>,
    ) -> StoredRows {
        let batches = Arc::clone(batches);
        StoredRows { rows, reading: Arc::new(HowRead { batch, batches, ..HowRead::default() }) }
    }

    /// Reads each row with its entry, from the space with this number, if there are any.
    pub(super) fn read_entries(&mut self, stream: &Stream, space: Option<u32>) {
        if let Some(reading) = Arc::get_mut(&mut self.reading) {
            reading.entries = space.map(|space| (stream.key.clone(), space));
        }
    }

    /// Leaves out the rows that an import created for others to refer to, unless they were edited.
    pub(super) fn leave_out_created(&mut self, table: &str, text: RowText) {
        if let Some(reading) = Arc::get_mut(&mut self.reading) {
            reading.only = Some((table.to_owned(), text));
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.rows.count()
    }

    /// Begins to read them.
    pub(super) fn read(&self) -> Result<StoredRowsInOrder> {
        Ok(StoredRowsInOrder { rows: self.rows.read()?, reading: Arc::clone(&self.reading) })
    }
}

impl StoredRowsInOrder {
    /// The values of the next row, whether it is left out or not.
    pub(super) fn next_row(&mut self) -> Result<Option<Vec<Value<'_>>>> {
        Ok(if self.rows.advance()? { Some(self.values()) } else { None })
    }

    /// The values of the next row that is not left out, with its entry.
    pub(super) fn next_kept(&mut self, entries: &Spill) -> Result<Option<StoredRow<'_>>> {
        while self.rows.advance()? {
            let entry = self.entry(entries)?;
            if !self.is_created(entry.as_deref())? {
                return Ok(Some(StoredRow { values: self.values(), entry }));
            }
        }
        Ok(None)
    }

    fn values(&self) -> Vec<Value<'_>> {
        let mut values = value_bytes::read(self.rows.row());
        if let Some(value) = self.reading.batch.and_then(|n| values.get_mut(n))
            && self.reading.batches.contains(show_id(*value).as_bytes())
        {
            *value = Value::Null;
        }
        values
    }

    fn entry(&self, entries: &Spill) -> Result<Option<Vec<u8>>> {
        let Some((key, space)) = &self.reading.entries else { return Ok(None) };
        let values = value_bytes::read(self.rows.row());
        let key = key_text(key.iter().filter_map(|n| values.get(*n)).copied());
        entries.get(*space, key.as_bytes())
    }

    /// Whether an import created the row, and nobody has edited it.
    fn is_created(&self, entry: Option<&[u8]>) -> Result<bool> {
        let Some((table, text)) = &self.reading.only else { return Ok(false) };
        let Some(created) = entry.and_then(|entry| default_of(entry, WHOLE_ROW)) else {
            return Ok(false);
        };
        let now = text.of(&value_bytes::read(self.rows.row())).ok_or_else(|| {
            let what = format!(
                "{table}: an import created rows for others to refer to, and only a server knows whether they \
                 were edited"
            );
            Error::new(Code::Source, what).hint(super::LIVE)
        })?;
        Ok(now == created)
    }
}
