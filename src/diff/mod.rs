//! Comparing two archives or databases row by row, by key, in bounded memory.
//!
//! Both sides are read in step. Where both are sorted alike, equal rows meet at once and are done
//! with; that is nearly all of them. A row that meets no equal one waits in the
//! [`spill`](crate::spill), where it cancels out with an equal row that comes later. So whatever
//! the order, only rows without an equal one are left in the end, and these meet by all columns of
//! their key: they are what is different. Order is a matter of speed alone.

mod pair;
mod show;
mod stored;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::notice::Notice;
use crate::policy::AssumeZone;
use crate::progress::Progress;
use crate::source::Source;
use crate::spill::Spill;
use chronicle_archive::canonical::Canonical;
use chronicle_archive::{self as record, Batch, Stream, Value};
use pair::{Joined, Pair, pairs};
use stored::{Stored, identity, key_of};

/// The first of the two sides, as an index.
const A: usize = 0;
/// The second.
const B: usize = 1;

/// One of the two that are compared: whatever gives streams of rows.
pub trait Side: Send {
    /// The streams.
    fn streams(&self) -> &[Stream];

    /// The time zone of the machine that the rows came from, if it is known.
    fn time_zone(&self) -> Option<&str>;

    /// Fills `batch` with the next rows; false when there are no more.
    ///
    /// # Errors
    /// Whatever keeps it from being read to its end, damage included.
    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>>;

    /// What people should know of rows that were not handed over, now that there are no more.
    fn left_out(&self) -> Vec<Notice> {
        Vec::new()
    }

    /// The selection that it has the rows of, if it has not all of its database.
    fn filters(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

/// A database.
impl Side for Box<dyn Source> {
    fn streams(&self) -> &[Stream] {
        (**self).streams()
    }

    fn time_zone(&self) -> Option<&str> {
        self.origin().time_zone.as_deref()
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        (**self).next_batch(batch)
    }

    fn left_out(&self) -> Vec<Notice> {
        (**self).left_out()
    }
}

/// An archive. It ends only if its manifest agrees.
impl Side for ArchiveInput {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn time_zone(&self) -> Option<&str> {
        self.header.source.time_zone.as_deref()
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.next(batch).await?.is_none()) })
    }

    fn left_out(&self) -> Vec<Notice> {
        ArchiveInput::left_out(self)
    }

    fn filters(&self) -> Option<&BTreeMap<String, String>> {
        self.header.filters.as_ref()
    }
}

/// What is compared, and what is reported.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// How times without a zone are read where the other side has instants.
    pub assume_zone: AssumeZone,
    /// Columns that are not compared, by their logical names.
    pub ignore: Vec<String>,
    /// Whether rows that only B has are counted without being reported one by one: B may hold more.
    pub more_in_b: bool,
}

/// One row that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The stream.
    pub stream: String,
    /// The key, for people: bounded, without control characters.
    pub key: String,
    /// What is different.
    pub kind: DifferenceKind,
}

/// How a row differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// B lacks it.
    OnlyA,
    /// A lacks it.
    OnlyB,
    /// Both have a row of this key, with other content in these columns.
    Changed(Vec<ChangedColumn>),
}

/// A column in which two rows of one key differ. The values are for people: bounded, around the
/// place where they differ, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChangedColumn {
    /// The logical name.
    pub column: String,
    /// What A holds.
    pub a: String,
    /// What B holds.
    pub b: String,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The streams in the order of A, then those that only B has.
    pub streams: Vec<ComparedStream>,
}

impl Compared {
    /// Whether both sides hold the same rows.
    pub fn is_equal(&self) -> bool {
        self.b_holds_a() && self.streams.iter().all(|s| s.only_b_rows == 0)
    }

    /// Whether every row of A is in B.
    pub fn b_holds_a(&self) -> bool {
        self.streams.iter().all(|s| s.only_a_rows == 0 && s.changed_rows == 0)
    }
}

/// The result of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComparedStream {
    /// Its name, that of A if both have it.
    pub stream: String,
    /// Whether A and B have it.
    pub present: [bool; 2],
    /// Rows that are the same on both sides.
    pub equal_rows: u64,
    /// Rows of the same key with other content.
    pub changed_rows: u64,
    /// Rows whose key only A has.
    pub only_a_rows: u64,
    /// Rows whose key only B has.
    pub only_b_rows: u64,
    /// The columns in which rows were changed, and how many rows.
    pub changed_columns: Vec<(String, u64)>,
    /// Columns that only A has; they are not compared.
    pub only_a_columns: Vec<String>,
    /// Columns that only B has; they are not compared.
    pub only_b_columns: Vec<String>,
    /// Columns with times that could not be compared because their zone is not known.
    pub zoneless_columns: Vec<String>,
}

/// Compares the rows of two sides. Every difference goes to `on_difference`, stream by stream and in an order
/// of keys that does not depend on that of the rows, after both sides were read to their ends:
/// nothing is reported of a side that turns out to be damaged.
///
/// Columns are matched by name, without regard to case; only those that both sides have are compared. Two
/// values are equal if their [canonical forms](chronicle_archive::canonical) are. Rows of the same key
/// (there may be several where nothing keeps keys unique) are paired one by one.
///
/// # Errors
/// What keeps a side from being read, a column to ignore that does not exist, a full temporary disk,
/// an error of `on_difference`, or a stop.
pub async fn compare(
    a: &mut dyn Side,
    b: &mut dyn Side,
    options: &CompareOptions,
    on_difference: &mut dyn FnMut(Difference) -> Result<()>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Compared> {
    let pairs = pairs([a.streams(), b.streams()], [a.time_zone(), b.time_zone()], options)?;
    let mut comparison = Comparison::new(pairs, options.more_in_b)?;
    let mut cursors = [Cursor::new(a), Cursor::new(b)];
    for cursor in &mut cursors {
        cursor.refill(progress, cancel).await?;
    }
    while let Some(passed) = comparison.step(&cursors)? {
        for (cursor, passed) in cursors.iter_mut().zip(passed) {
            if passed {
                cursor.row += 1;
                cursor.refill(progress, cancel).await?;
            }
        }
    }
    for pair in 0..comparison.pairs.len() {
        comparison.report(pair, on_difference, cancel)?;
        comparison.sort_columns(pair);
    }
    Ok(Compared { streams: comparison.results })
}

/// How far one side has been read.
struct Cursor<'s> {
    side: &'s mut dyn Side,
    batch: Batch,
    row: usize,
    ended: bool,
}

impl<'s> Cursor<'s> {
    fn new(side: &'s mut dyn Side) -> Cursor<'s> {
        Cursor { side, batch: Batch::default(), row: 0, ended: false }
    }

    /// Fetches batches until there is a row, or no more of them.
    async fn refill(&mut self, progress: &Progress, cancel: &Cancel) -> Result<()> {
        while !self.ended && self.row >= self.batch.rows() {
            self.ended = !cancel.or(self.side.next_batch(&mut self.batch)).await?;
            self.row = 0;
            if !self.ended {
                progress.add_rows(self.batch.rows());
            }
        }
        Ok(())
    }

    fn value(&self, side: usize, column: &Joined) -> Value<'_> {
        column.value(side, &self.batch, self.row)
    }
}

/// The work on both sides' rows.
struct Comparison {
    pairs: Vec<Pair>,
    /// The pair of each stream of either side.
    pair_of: [Vec<usize>; 2],
    /// The rows that wait in the spill, for each pair and side.
    waiting: Vec<[u64; 2]>,
    results: Vec<ComparedStream>,
    more_in_b: bool,
    spill: Spill,
    canonical: Canonical,
}

impl Comparison {
    fn new(pairs: Vec<Pair>, more_in_b: bool) -> Result<Comparison> {
        let pair_of = [A, B].map(|side| {
            let mut numbered: Vec<(usize, usize)> = (pairs.iter().enumerate())
                .filter_map(|(n, pair)| Some((pair.streams[side]?, n)))
                .collect();
            numbered.sort_unstable();
            numbered.into_iter().map(|(_, pair)| pair).collect()
        });
        let results = pairs.iter().map(empty_result).collect();
        Ok(Comparison {
            pair_of,
            waiting: vec![[0; 2]; pairs.len()],
            results,
            more_in_b,
            spill: Spill::new()?,
            canonical: Canonical::default(),
            pairs,
        })
    }

    /// Looks at the next row of either side; says which of them are done with, or None when there are
    /// none left.
    fn step(&mut self, cursors: &[Cursor<'_>; 2]) -> Result<Option<[bool; 2]>> {
        let [a, b] = [A, B].map(|side| {
            let cursor = &cursors[side];
            (!cursor.ended).then(|| self.pair_of[side].get(cursor.batch.stream()).copied())?
        });
        let passed = match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => match a.cmp(&b) {
                Ordering::Equal => match self.meet(a, cursors) {
                    None => {
                        self.results[a].equal_rows += 1;
                        return Ok(Some([true; 2]));
                    }
                    Some(Ordering::Less) => [true, false],
                    Some(Ordering::Greater) => [false, true],
                    // sorted in another way, not sorted, or changed: neither is ahead
                    Some(Ordering::Equal) => [true; 2],
                },
                Ordering::Less => [true, false],
                Ordering::Greater => [false, true],
            },
            (a, b) => [a.is_some(), b.is_some()],
        };
        for (side, pair) in [(A, a), (B, b)] {
            if let (true, Some(pair)) = (passed[side], pair) {
                self.set_aside(pair, side, &cursors[side])?;
            }
        }
        Ok(Some(passed))
    }

    /// None if the two rows are equal, else which comes first.
    fn meet(&mut self, pair: usize, [a, b]: &[Cursor<'_>; 2]) -> Option<Ordering> {
        let Comparison { pairs, canonical, .. } = self;
        let pair = &pairs[pair];
        let differs = pair
            .columns
            .iter()
            .any(|column| !column.same(canonical, a.value(A, column), b.value(B, column)));
        differs.then(|| {
            (pair.order.iter())
                .map(|c| c.order(canonical, a.value(A, c), b.value(B, c)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        })
    }

    /// Lets a row cancel out with an equal one of the other side, or wait for it.
    fn set_aside(&mut self, number: usize, side: usize, cursor: &Cursor<'_>) -> Result<()> {
        let other = 1 - side;
        let pair = &self.pairs[number];
        let identity = identity(
            &mut self.canonical,
            &pair.columns,
            &pair.key,
            side,
            &cursor.batch,
            cursor.row,
        );
        if self.waiting[number][other] > 0
            && let Some(found) = self.spill.remove(space(number, other), &identity)?
        {
            let mut found = Stored::from_bytes(found);
            if found.count() > 1 {
                found.set_count(found.count() - 1);
                self.spill.put(space(number, other), &identity, found.bytes())?;
            }
            self.waiting[number][other] -= 1;
            self.results[number].equal_rows += 1;
            return Ok(());
        }
        let mut row = Stored::one(pair.columns.iter().map(|c| cursor.value(side, c)));
        if let Some(same) = self.spill.put(space(number, side), &identity, row.bytes())? {
            row.set_count(Stored::from_bytes(same).count() + 1);
            self.spill.put(space(number, side), &identity, row.bytes())?;
        }
        self.waiting[number][side] += 1;
        Ok(())
    }

    /// Reports the rows of a pair that are left, by key.
    fn report(
        &mut self,
        number: usize,
        on_difference: &mut dyn FnMut(Difference) -> Result<()>,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut heads = [self.next_left(number, A, None)?, self.next_left(number, B, None)?];
        let keyless = self.pairs[number].key.is_empty();
        while let Some((sides, times)) = foremost(&heads, keyless) {
            cancel.check()?;
            let rows = [A, B].map(|side| heads[side].as_ref().filter(|_| sides[side]));
            self.report_rows(
                number,
                rows.map(|row| row.map(|(_, row)| row)),
                times,
                on_difference,
            )?;
            for side in [A, B].into_iter().filter(|side| sides[*side]) {
                heads[side] = match heads[side].take() {
                    Some((key, mut row)) if row.count() > times => {
                        row.set_count(row.count() - times);
                        Some((key, row))
                    }
                    head => self.next_left(number, side, head.as_ref().map(|(key, _)| &**key))?,
                };
            }
        }
        Ok(())
    }

    /// Brings the changed columns of a result into the order of the stream.
    fn sort_columns(&mut self, number: usize) {
        let columns = &self.pairs[number].columns;
        let place = |name: &String| columns.iter().position(|c| c.name == *name);
        self.results[number].changed_columns.sort_by_key(|(name, _)| place(name));
    }

    fn next_left(
        &self,
        number: usize,
        side: usize,
        after: Option<&[u8]>,
    ) -> Result<Option<(Vec<u8>, Stored)>> {
        let next = self.spill.next(space(number, side), after)?;
        Ok(next.map(|(key, row)| (key, Stored::from_bytes(row))))
    }

    /// Reports a difference as often as it occurs.
    fn report_rows(
        &mut self,
        number: usize,
        rows: [Option<&Stored>; 2],
        times: u64,
        on_difference: &mut dyn FnMut(Difference) -> Result<()>,
    ) -> Result<()> {
        let Comparison { pairs, results, canonical, more_in_b, .. } = self;
        let (pair, result) = (&pairs[number], &mut results[number]);
        let [a, b] = rows.map(|row| row.map(Stored::values));
        let Some(row) = a.as_ref().or(b.as_ref()) else { return Ok(()) };
        let key = shown_key(pair, row);
        let kind = match (&a, &b) {
            (Some(a), Some(b)) => {
                result.changed_rows += times;
                DifferenceKind::Changed(changed(canonical, pair, a, b, times, result))
            }
            (Some(_), None) => {
                result.only_a_rows += times;
                DifferenceKind::OnlyA
            }
            _ => {
                result.only_b_rows += times;
                DifferenceKind::OnlyB
            }
        };
        if *more_in_b && kind == DifferenceKind::OnlyB {
            return Ok(());
        }
        let difference = Difference { stream: pair.name.clone(), key, kind };
        (0..times).try_for_each(|_| on_difference(difference.clone()))
    }
}

/// Of the rows that are left on either side, which are to be reported now and how often: those of the
/// lesser key, or a row of each side if they have the same one.
fn foremost(heads: &[Option<(Vec<u8>, Stored)>; 2], keyless: bool) -> Option<([bool; 2], u64)> {
    match heads {
        [None, None] => None,
        [Some((_, a)), None] => Some(([true, false], a.count())),
        [None, Some((_, b))] => Some(([false, true], b.count())),
        [Some((key_a, a)), Some((key_b, b))] => Some(match key_of(key_a).cmp(key_of(key_b)) {
            Ordering::Less => ([true, false], a.count()),
            Ordering::Greater => ([false, true], b.count()),
            // without a key it is unknown which row became which
            Ordering::Equal if keyless => ([true, false], a.count()),
            Ordering::Equal => ([true; 2], a.count().min(b.count())),
        }),
    }
}

/// The columns in which two rows differ, counted into the result.
fn changed(
    canonical: &mut Canonical,
    pair: &Pair,
    a: &[Value<'_>],
    b: &[Value<'_>],
    times: u64,
    result: &mut ComparedStream,
) -> Vec<ChangedColumn> {
    let mut changed = Vec::new();
    for (column, (a, b)) in pair.columns.iter().zip(a.iter().zip(b)) {
        let forms = [column.form(canonical, A, *a), column.form(canonical, B, *b)];
        if forms[A] == forms[B] {
            continue;
        }
        match result.changed_columns.iter_mut().find(|(name, _)| *name == column.name) {
            Some((_, rows)) => *rows += times,
            None => result.changed_columns.push((column.name.clone(), times)),
        }
        if column.lacks_zone(*a, *b) && !result.zoneless_columns.contains(&column.name) {
            result.zoneless_columns.push(column.name.clone());
        }
        let [a, b] = show::both((*a, &forms[A]), (*b, &forms[B]));
        changed.push(ChangedColumn { column: column.name.clone(), a, b });
    }
    changed
}

/// The key of a row for people; of a row without one, its first few values.
fn shown_key(pair: &Pair, row: &[Value<'_>]) -> String {
    let first: Vec<usize> = (0..4.min(row.len())).collect();
    let key = if pair.key.is_empty() { &first } else { &pair.key };
    let values = key.iter().filter_map(|k| row.get(*k));
    values.map(|value| record::show(*value)).collect::<Vec<_>>().join(", ")
}

/// Where the rows of a pair's side wait in the spill.
fn space(pair: usize, side: usize) -> u32 {
    u32::try_from(2 * pair + side).unwrap_or(u32::MAX)
}

fn empty_result(pair: &Pair) -> ComparedStream {
    let [only_a_columns, only_b_columns] = pair.lone_columns.clone();
    ComparedStream {
        stream: pair.name.clone(),
        present: pair.streams.map(|stream| stream.is_some()),
        only_a_columns,
        only_b_columns,
        ..ComparedStream::default()
    }
}
