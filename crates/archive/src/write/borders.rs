//! Where chunks end: behind rows that their keys choose, so that an inserted, changed or deleted row moves no
//! border but those next to it.
//!
//! A chunk ends behind the first row beyond its least size whose hash is small enough for the row's length. Where
//! there is none before the greatest size, it ends behind the row that came closest to it. Both depend on nothing
//! but the rows behind the border before, so that two archives which differ in a place agree again soon behind it.

/// A border lies at this part of the greatest size or beyond, as a divisor.
const LEAST: usize = 2;
/// Beyond the least size, this part of the greatest size lies between two rows that end a chunk, on average.
const MEAN: usize = 2;

/// A row behind which the chunk may end.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    hash: u64,
    length: usize,
    border: Border,
}

/// A place between two rows of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Border {
    /// The bytes before it.
    pub(crate) bytes: usize,
    /// The rows before it.
    pub(crate) rows: u64,
}

impl Candidate {
    /// Whether it is a better end than another one: a smaller hash for its length.
    fn is_better(&self, other: &Candidate) -> bool {
        u128::from(self.hash) * other.length as u128 <= u128::from(other.hash) * self.length as u128
    }
}

/// The rows of the chunk that is being filled, as far as it may end behind them.
#[derive(Debug)]
pub(crate) struct Borders {
    greatest: usize,
    /// Every row that is better than all behind it. So the first one beyond a size is the best of all beyond it,
    /// and the last one is the last row.
    candidates: Vec<Candidate>,
    /// For each candidate in turn, where the values of its order columns are in the chunk.
    spans: Vec<(usize, usize)>,
    /// How many these are for a candidate.
    width: usize,
}

impl Borders {
    /// The borders of chunks of at most `greatest` bytes.
    pub(crate) fn new(greatest: usize) -> Borders {
        Borders { greatest, candidates: Vec::new(), spans: Vec::new(), width: 0 }
    }

    /// Adds a row of `length` bytes that ends at `border`; true if the chunk ends behind it. `spans` are where the
    /// values of its order columns are.
    pub(crate) fn add(
        &mut self,
        hash: u64,
        length: usize,
        border: Border,
        spans: impl Iterator<Item = (usize, usize)>,
    ) -> bool {
        let row = Candidate { hash, length, border };
        while self.candidates.last().is_some_and(|last| row.is_better(last)) {
            self.candidates.pop();
            self.spans.truncate(self.candidates.len() * self.width);
        }
        self.candidates.push(row);
        self.spans.extend(spans);
        self.width = self.spans.len() / self.candidates.len();
        let is_small = u128::from(hash) * (self.greatest / MEAN) as u128 <= (length as u128) << 64;
        border.bytes > self.greatest || (self.is_far_enough(&row) && is_small)
    }

    fn is_far_enough(&self, row: &Candidate) -> bool {
        row.border.bytes >= self.greatest / LEAST
    }

    /// The place where the chunk ends if no further row fits into it; none if it is empty.
    pub(crate) fn best(&self) -> Option<Border> {
        let best = self.candidates.iter().find(|row| self.is_far_enough(row));
        best.or(self.candidates.last()).map(|row| row.border)
    }

    /// Behind the last row; none if there is none.
    pub(crate) fn last(&self) -> Option<Border> {
        self.candidates.last().map(|row| row.border)
    }

    /// Where the values of the order columns are in the row before a border that this has given.
    pub(crate) fn spans(&self, border: Border) -> &[(usize, usize)] {
        let row = self.position(border);
        self.spans.get(row * self.width..(row + 1) * self.width).unwrap_or_default()
    }

    /// Ends the chunk at a border that this has given: the rows behind it are the first ones of the next chunk.
    pub(crate) fn cut(&mut self, border: Border) {
        let gone = (self.position(border) + 1).min(self.candidates.len());
        self.spans.drain(..gone * self.width);
        self.candidates.drain(..gone);
        for row in &mut self.candidates {
            row.border.bytes -= border.bytes;
            row.border.rows -= border.rows;
        }
        for (from, to) in &mut self.spans {
            *from -= border.bytes;
            *to -= border.bytes;
        }
    }

    fn position(&self, border: Border) -> usize {
        self.candidates.partition_point(|row| row.border.bytes < border.bytes)
    }
}

/// An odd number without a pattern: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// A hash of some texts, the same in every version of this program and on every machine: the digest of an archive
/// depends on where its chunks end.
pub(crate) fn hash<'a>(texts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let step = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(FACTOR);
        product ^ product >> 32
    };
    let mut hash = 0;
    for text in texts {
        hash = step(hash, text.len() as u64);
        let (words, rest) = text.as_chunks::<8>();
        hash = words.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = step(hash, u64::from_le_bytes(last));
    }
    step(step(hash, 0), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits rows of these hashes and lengths into chunks of at most 100 bytes.
    fn chunks(rows: &[(u64, usize)]) -> Vec<u64> {
        let (mut borders, mut ends) = (Borders::new(100), Vec::new());
        let mut filled = Border { bytes: 0, rows: 0 };
        let mut cut = |borders: &mut Borders, filled: &mut Border, at: Border| {
            borders.cut(at);
            ends.push(at.rows);
            *filled = Border { bytes: filled.bytes - at.bytes, rows: filled.rows - at.rows };
        };
        for (hash, length) in rows {
            while filled.bytes + length > 100
                && let Some(best) = borders.best()
            {
                cut(&mut borders, &mut filled, best);
            }
            filled = Border { bytes: filled.bytes + length, rows: filled.rows + 1 };
            let span = (filled.bytes - length, filled.bytes);
            if borders.add(*hash, *length, filled, std::iter::once(span)) {
                let end = filled;
                cut(&mut borders, &mut filled, end);
            }
            if let Some(last) = borders.last() {
                assert_eq!((last, borders.spans(last)), (filled, &[span][..]));
            }
        }
        if let Some(last) = borders.last() {
            cut(&mut borders, &mut filled, last);
        }
        ends
    }

    #[test]
    fn a_row_of_a_small_hash_beyond_the_least_size_ends_a_chunk() {
        let other = (u64::MAX, 10);
        let rows = [other, (0, 10), other, other, other, (0, 10), other, other, other];
        assert_eq!(chunks(&rows), [6, 3]);
    }

    #[test]
    fn without_such_a_row_the_smallest_hash_ends_the_chunk() {
        let rows: Vec<_> = (0..26_u64).map(|n| (u64::MAX - n % 7, 10)).collect();
        // the seventh row of each seven has the smallest one
        assert_eq!(chunks(&rows), [7, 7, 7, 5]);
    }

    #[test]
    fn a_row_larger_than_a_chunk_is_one_by_itself() {
        let other = (u64::MAX, 10);
        assert_eq!(chunks(&[other, other, (u64::MAX, 300), other]), [2, 1, 1]);
        assert_eq!(chunks(&[(u64::MAX, 300), (u64::MAX, 300)]), [1, 1]);
        assert_eq!(chunks(&[(u64::MAX, 100), other]), [1, 1]);
    }

    #[test]
    fn hashes_stay_what_they_are() {
        assert_eq!(hash([&b""[..]].into_iter()), 0);
        assert_eq!(hash([&b"\"a\""[..]].into_iter()), 0x54e1_498e_b120_c9b7);
        let two = [&b"\"a\""[..], b"12345678"];
        assert_eq!(hash(two.into_iter()), 0x65ef_e6bf_e0ee_8141);
    }
}
