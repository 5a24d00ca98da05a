//! Rows in the order of their keys, sorted in bounded memory: what does not fit waits in a file without a name.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Code, Error, Result, is_full};
use crate::temporary;

/// The bytes of rows that are sorted in memory; then they go to the file, as one run.
const RUN_BYTES: usize = 8 << 20;
/// The bytes that all runs together are read ahead by, and the least for one of them.
const AHEAD_BYTES: usize = 8 << 20;
const LEAST_AHEAD: usize = 4 << 10;

/// Takes rows in any order.
pub struct Sorter {
    run_bytes: usize,
    /// Keys and rows, one behind the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    file: Option<File>,
    runs: Vec<Range<u64>>,
    rows: u64,
}

/// Where a row is in the memory of a run.
struct Entry {
    at: usize,
    key: usize,
    row: usize,
}

impl Default for Sorter {
    fn default() -> Self {
        Sorter::with_run_bytes(RUN_BYTES)
    }
}

impl Sorter {
    fn with_run_bytes(run_bytes: usize) -> Sorter {
        let (bytes, entries, runs) = (Vec::new(), Vec::new(), Vec::new());
        Sorter { run_bytes, bytes, entries, file: None, runs, rows: 0 }
    }

    /// Takes a row. Rows with the same key keep the order in which they come.
    ///
    /// # Errors
    /// If the temporary file cannot be written, mostly a full disk.
    pub fn push(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        self.entries.push(Entry { at: self.bytes.len(), key: key.len(), row: row.len() });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(row);
        self.rows += 1;
        let size = self.bytes.len() + self.entries.len() * size_of::<Entry>();
        if size < self.run_bytes { Ok(()) } else { self.write_run() }
    }

    fn sort(&mut self) {
        let Sorter { bytes, entries, .. } = self;
        entries.sort_by_key(|entry| &bytes[entry.at..entry.at + entry.key]);
    }

    fn write_run(&mut self) -> Result<()> {
        self.sort();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile().map_err(unusable)?),
        };
        let start = self.runs.last().map_or(0, |run| run.end);
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut end = start;
        let mut write = |bytes: &[u8]| {
            end += bytes.len() as u64;
            out.write_all(bytes).map_err(unusable)
        };
        for Entry { at, key, row } in &self.entries {
            write(&(*key as u64).to_le_bytes())?;
            write(&(*row as u64).to_le_bytes())?;
            write(&self.bytes[*at..at + key + row])?;
        }
        out.flush().map_err(unusable)?;
        drop(out);
        self.runs.push(start..end);
        self.entries.clear();
        self.bytes.clear();
        // one large row must not cost its memory until the end
        self.bytes.shrink_to(self.run_bytes);
        Ok(())
    }

    /// All rows that have come.
    ///
    /// # Errors
    /// As [`Sorter::push`].
    pub fn finish(mut self) -> Result<SortedRows> {
        if self.file.is_some() && !self.entries.is_empty() {
            self.write_run()?;
            (self.bytes, self.entries) = (Vec::new(), Vec::new());
        }
        self.sort();
        let memory = Memory { bytes: self.bytes, entries: self.entries };
        let file = self.file.map(Arc::new);
        Ok(SortedRows { memory: Arc::new(memory), file, runs: self.runs, rows: self.rows })
    }
}

fn unusable(cause: std::io::Error) -> Error {
    match is_full(&cause) {
        true => temporary::no_room(&temporary::folder(), None),
        false => Error::new(Code::Output, "the temporary file cannot be used").because(cause),
    }
}

/// The only run, if everything fits in memory.
struct Memory {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// Rows that can be read in the order of their keys, as often as needed.
pub struct SortedRows {
    memory: Arc<Memory>,
    file: Option<Arc<File>>,
    runs: Vec<Range<u64>>,
    rows: u64,
}

impl SortedRows {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.rows
    }

    /// Begins to read them at the first one.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn read(&self) -> Result<RowsInOrder> {
        let ahead = (AHEAD_BYTES / self.runs.len().max(1)).max(LEAST_AHEAD);
        let mut runs = Vec::new();
        for range in &self.runs {
            let Some(file) = &self.file else { continue };
            let section = Section { file: Arc::clone(file), range: range.clone() };
            let input = BufReader::with_capacity(ahead, section);
            runs.push(Run { input, row: Vec::new() });
        }
        let mut rows = RowsInOrder {
            memory: Arc::clone(&self.memory),
            next: 0,
            runs,
            heads: BinaryHeap::new(),
            head: None,
        };
        for n in 0..rows.runs.len() {
            rows.read_next(n, Vec::new())?;
        }
        Ok(rows)
    }
}

/// Some bytes of a file.
struct Section {
    file: Arc<File>,
    range: Range<u64>,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..most], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

/// A run that is being read, and the row that comes next in it.
struct Run {
    input: BufReader<Section>,
    row: Vec<u8>,
}

/// The rows, one after the other.
pub struct RowsInOrder {
    memory: Arc<Memory>,
    /// The next one in memory.
    next: usize,
    runs: Vec<Run>,
    /// The keys of the runs' next rows, with the number of the run: the earlier one has what came earlier.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// The run that has the row which was come to last, with that row's key.
    head: Option<(Vec<u8>, usize)>,
}

impl RowsInOrder {
    /// Goes to the next row; false if there are no more.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn advance(&mut self) -> Result<bool> {
        if self.next < self.memory.entries.len() {
            self.next += 1;
            return Ok(true);
        }
        if let Some((key, n)) = self.head.take() {
            self.read_next(n, key)?;
        }
        self.head = self.heads.pop().map(|Reverse(head)| head);
        Ok(self.head.is_some())
    }

    /// The row that was come to.
    pub fn row(&self) -> &[u8] {
        if let Some((_, n)) = &self.head {
            return &self.runs[*n].row;
        }
        let entry = self.next.checked_sub(1).and_then(|n| self.memory.entries.get(n));
        entry.map_or(&[], |Entry { at, key, row }| &self.memory.bytes[at + key..at + key + row])
    }

    /// Reads the next row of a run; `key` is a buffer for its key.
    fn read_next(&mut self, n: usize, mut key: Vec<u8>) -> Result<()> {
        let Run { input, row } = &mut self.runs[n];
        if input.buffer().is_empty() && input.get_ref().range.is_empty() {
            return Ok(());
        }
        let mut lengths = [[0; 8]; 2];
        for length in &mut lengths {
            input.read_exact(length).map_err(unusable)?;
        }
        let [key_length, row_length] = lengths.map(u64::from_le_bytes);
        for (buffer, length) in [(&mut key, key_length), (row, row_length)] {
            buffer.clear();
            buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
            buffer.shrink_to(RUN_BYTES);
            input.read_exact(buffer).map_err(unusable)?;
        }
        self.heads.push(Reverse((key, n)));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(sorted: &SortedRows) -> Vec<Vec<u8>> {
        let mut rows = sorted.read().unwrap();
        let mut all = Vec::new();
        while rows.advance().unwrap() {
            all.push(rows.row().to_vec());
        }
        all
    }

    proptest! {
        #[test]
        fn rows_come_as_a_stable_sort_in_memory_has_them(
            keys in proptest::collection::vec(proptest::collection::vec(0_u8..3, 0..4), 0..200),
            run_bytes in prop_oneof![Just(1_usize), Just(300), Just(RUN_BYTES)],
        ) {
            let mut sorter = Sorter::with_run_bytes(run_bytes);
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for (n, key) in keys.into_iter().enumerate() {
                let row = vec![7; n % 5].into_iter().chain([n as u8]).collect::<Vec<u8>>();
                sorter.push(&key, &row).unwrap();
                model.push((key, row));
            }
            model.sort_by(|(a, _), (b, _)| a.cmp(b));
            let model: Vec<Vec<u8>> = model.into_iter().map(|(_, row)| row).collect();
            let sorted = sorter.finish().unwrap();
            prop_assert_eq!(sorted.count(), model.len() as u64);
            prop_assert_eq!(all(&sorted), model.clone());
            prop_assert_eq!(all(&sorted), model, "a second time");
        }
    }

    #[test]
    fn rows_larger_than_memory_come_back_whole() {
        let mut sorter = Sorter::with_run_bytes(1 << 16);
        let row = |n: u8| vec![n; 1 << 17];
        for n in [3, 1, 2] {
            sorter.push(&[n], &row(n)).unwrap();
        }
        assert_eq!(all(&sorter.finish().unwrap()), [row(1), row(2), row(3)]);
    }
}
