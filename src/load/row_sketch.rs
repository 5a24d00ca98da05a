//! Whether a target holds what was loaded: sums over what went in and over what is read back, and
//! which row and column it is where they differ.
//!
//! Every row goes, by three hashes of its key, into one bucket of each of three tables; a bucket has
//! a wrapping sum of hashes per column. Memory is constant, order does not matter, and rows can be
//! taken out again. A row that differs makes its three buckets differ, and hardly any other row
//! shares all three with it. This finds accidents, not attackers.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::FixedState;

use crate::catalog::ColumnType;
use crate::error::{Code, Error};
use crate::load::bench_skip::{Step, skips};
use crate::plan::TablePlan;
use chronicle_archive::json::JsonHash;
use chronicle_archive::show_count;
use chronicle_archive::{Batch, Value, show};

const TABLES: usize = 3;
const BUCKETS: usize = 1024;

/// The sums over the rows of one stream.
#[derive(Debug)]
pub struct RowSketch {
    types: Vec<ColumnType>,
    key: Vec<usize>,
    /// Below zero while rows are taken out that have yet to be added.
    rows: i64,
    /// Empty before the first row: of thousands of streams, most may have none.
    sums: Vec<u64>,
    meaning: JsonHash,
}

impl RowSketch {
    /// The sums over no rows of columns with these types.
    pub fn new(types: Vec<ColumnType>, key: Vec<usize>) -> RowSketch {
        RowSketch { types, key, rows: 0, sums: Vec::new(), meaning: JsonHash::default() }
    }

    /// Sums of the same columns over no rows.
    pub fn another(&self) -> RowSketch {
        RowSketch::new(self.types.clone(), self.key.clone())
    }

    /// The rows so far.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.rows).unwrap_or(0)
    }

    /// Adds a row.
    pub fn add(&mut self, batch: &Batch, row: usize) {
        self.rows = self.rows.saturating_add(1);
        self.count(batch, row, u64::wrapping_add);
    }

    /// Takes a row out again.
    pub fn take(&mut self, batch: &Batch, row: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.count(batch, row, u64::wrapping_sub);
    }

    fn count(&mut self, batch: &Batch, row: usize, change: fn(u64, u64) -> u64) {
        if skips(Step::Readback) {
            return;
        }
        if self.sums.is_empty() {
            self.sums = vec![0; TABLES * BUCKETS * (self.types.len() + 1)];
        }
        let key = self.key_hash(batch, row);
        let places = self.places(key);
        for column in 0..=self.types.len() {
            let hash = match column.checked_sub(1) {
                None => key,
                // the key goes in too: two rows cannot swap their values unseen
                Some(column) => self.hash(column, batch.value(row, column), key),
            };
            for place in places {
                self.sums[place + column] = change(self.sums[place + column], hash);
            }
        }
    }

    fn key_hash(&mut self, batch: &Batch, row: usize) -> u64 {
        let mut hash = 0;
        for n in 0..self.key.len() {
            let column = self.key[n];
            hash = self.hash(column, batch.value(row, column), hash);
        }
        hash
    }

    fn hash(&mut self, column: usize, value: Value<'_>, seed: u64) -> u64 {
        let mut hasher = FixedState::with_seed(seed).build_hasher();
        std::mem::discriminant(&value).hash(&mut hasher);
        match (&self.types[column], value) {
            (_, Value::Null) => {}
            // the server spells it in its own way
            (ColumnType::Jsonb, Value::Text(text)) => hasher.write_u64(self.meaning.hash(text)),
            (_, Value::Real(v)) => hasher.write_u64(v.to_bits()),
            (_, Value::Int(v)) => hasher.write_i64(v),
            (_, Value::Bool(v)) => hasher.write_u8(u8::from(v)),
            (_, Value::Time(v)) => hasher.write_i64(v.0),
            (_, Value::Uuid(v)) => hasher.write(&v),
            (_, Value::Text(bytes) | Value::Blob(bytes)) => hasher.write(bytes),
        }
        hasher.finish()
    }

    /// Where the three buckets of a key start.
    fn places(&self, key: u64) -> [usize; TABLES] {
        let width = self.types.len() + 1;
        let mut at = 0;
        [0_u32, 1, 2].map(|table| {
            // ten bits of the hash for each table
            let bucket = usize::try_from(key >> (10 * table)).unwrap_or(0) % BUCKETS;
            let place = (at + bucket) * width;
            at += BUCKETS;
            place
        })
    }

    /// The sum at a place: of no rows it is 0.
    fn sum(&self, place: usize) -> u64 {
        if self.sums.is_empty() { 0 } else { self.sums[place] }
    }

    /// Whether the two hold different rows.
    pub fn differs(&self, other: &RowSketch) -> bool {
        let length = self.sums.len().max(other.sums.len());
        self.rows != other.rows || (0..length).any(|place| self.sum(place) != other.sum(place))
    }

    /// The columns in which a row that one of the two holds is not as in the other; none if it is no
    /// suspect. Without any of its own columns, the row itself is missing in one of them.
    pub fn mismatched_columns(
        &mut self,
        other: &RowSketch,
        batch: &Batch,
        row: usize,
    ) -> Option<Vec<usize>> {
        let key = self.key_hash(batch, row);
        let places = self.places(key);
        let differs =
            |column: usize| places.iter().all(|p| self.sum(p + column) != other.sum(p + column));
        let columns: Vec<usize> = (1..=self.types.len()).filter(|c| differs(*c)).collect();
        (!columns.is_empty()).then(|| columns.iter().map(|c| c - 1).collect())
    }
}

/// The key, the columns and the values of a row that is not as it was loaded.
pub type Differing = (String, Vec<(String, String)>);

/// What differs in a row that was read back, if it does.
pub fn differing(
    stream: &TablePlan,
    found: &mut RowSketch,
    loaded: &RowSketch,
    batch: &Batch,
    row: usize,
) -> Option<Differing> {
    let columns = found.mismatched_columns(loaded, batch, row)?;
    let key = stream.key.iter().map(|k| show(batch.value(row, *k))).collect::<Vec<_>>().join(", ");
    let shown =
        columns.iter().map(|c| (stream.columns[*c].name.clone(), show(batch.value(row, *c))));
    Some((key, shown.collect()))
}

/// The error of a target that does not hold what was loaded.
pub fn not_as_loaded(
    stream: &TablePlan,
    first: Option<Differing>,
    loaded: u64,
    found: u64,
) -> Error {
    let what = match first {
        Some((key, columns)) => {
            let columns: Vec<String> = (columns.into_iter())
                .map(|(name, value)| format!("\"{name}\" reads {value}"))
                .collect();
            format!("row with key {key} differs from what was loaded: {}", columns.join(", "))
        }
        None => format!("{} loaded, {found} found", show_count(loaded, "rows")),
    };
    Error::new(Code::Readback, format!("{}: {what}; nothing was changed", stream.table_name)).hint(
        "a column, a rule or a trigger of the target changes what is loaded; import into a table \
         without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: &[(i64, &str)]) -> Batch {
        let mut batch = Batch::default();
        batch.start(0, 2, 1);
        for (id, text) in rows {
            batch.push(Value::Int(*id));
            batch.push(Value::Text(text.as_bytes()));
        }
        batch
    }

    fn sums(batch: &Batch) -> RowSketch {
        let mut sums = RowSketch::new(vec![ColumnType::Int(8), ColumnType::Jsonb], vec![0]);
        (0..batch.rows()).for_each(|row| sums.add(batch, row));
        sums
    }

    #[test]
    fn order_and_the_spelling_of_jsonb_do_not_matter() {
        let one = sums(&batch(&[(1, "{\"a\":1,\"b\":2}"), (2, "{}")]));
        let other = sums(&batch(&[(2, "{ }"), (1, "{\"b\": 2, \"a\": 1}")]));
        assert!(!one.differs(&other));
        assert!(one.differs(&sums(&batch(&[(1, "{}"), (2, "{\"a\":1,\"b\":2}")]))), "swapped");
    }

    #[test]
    fn the_row_and_column_that_differ_are_found_among_many() {
        let rows = |changed: Option<i64>| -> Batch {
            let texts: Vec<(i64, String)> = (0..5000)
                .map(|n| (n, format!("{{\"n\":{}}}", n + i64::from(changed == Some(n)))))
                .collect();
            batch(&texts.iter().map(|(n, t)| (*n, t.as_str())).collect::<Vec<_>>())
        };
        let read = rows(Some(4321));
        let (loaded, mut found) = (sums(&rows(None)), sums(&read));
        assert!(found.differs(&loaded));
        let mismatched_columns: Vec<(usize, Vec<usize>)> = (0..read.rows())
            .filter_map(|row| Some((row, found.mismatched_columns(&loaded, &read, row)?)))
            .collect();
        assert_eq!(mismatched_columns, [(4321, vec![1])]);
    }

    #[test]
    fn a_row_can_be_taken_out_again() {
        let both = batch(&[(1, "{}"), (2, "[]")]);
        let mut sums_of_both = sums(&both);
        sums_of_both.take(&both, 1);
        assert!(!sums_of_both.differs(&sums(&batch(&[(1, "{}")]))));
        sums_of_both.take(&both, 0);
        sums_of_both.take(&both, 0);
        assert!(sums_of_both.differs(&sums(&batch(&[]))));
        assert_eq!(sums_of_both.rows(), 0, "there are never fewer rows than none");
    }
}
