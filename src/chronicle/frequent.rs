//! How often texts occur, however many different ones there are, in memory with a limit.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use chronicle_archive::sha256;

/// The most texts that have a count at any moment.
pub const MOST_TEXTS: usize = 2048;
/// The most bytes that are kept of a text.
const LONGEST_TEXT: usize = 512;
/// The hexadecimal digits of its SHA-256 that stand for the rest of a longer one.
const REST_DIGITS: usize = 8;

/// Counts of texts. Up to [`MOST_TEXTS`] different ones the counts are exact; beyond that they may be
/// too low, all by the same known number at most, and rare texts have none.
#[derive(Debug, Default)]
pub struct Frequent {
    counts: HashMap<Box<[u8]>, u64>,
    undercount: u64,
    without: u64,
}

impl Frequent {
    /// Counts one more row with this text.
    pub fn add(&mut self, text: &[u8]) {
        let text = shortened(text);
        if let Some(count) = self.counts.get_mut(&*text) {
            *count += 1;
            return;
        }
        if self.counts.len() >= MOST_TEXTS {
            self.make_room();
        }
        self.counts.insert(text.into(), 1);
    }

    /// Counts one more row without a text.
    pub fn add_none(&mut self) {
        self.without += 1;
    }

    /// Lowers every count by the median and forgets those that are left with nothing, so that at least
    /// half of the places are free (the summary of Misra and Gries, many rows at a time).
    fn make_room(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        self.undercount += median;
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(median);
            *count > 0
        });
    }

    /// How many different texts there were, if all of them have a count.
    pub fn different(&self) -> Option<usize> {
        (self.undercount == 0).then_some(self.counts.len())
    }

    /// The most by which a count may be too low.
    pub fn undercount(&self) -> u64 {
        self.undercount
    }

    /// The rows without a text.
    pub fn without(&self) -> u64 {
        self.without
    }

    /// The most frequent texts with their counts; equal counts are in the order of their texts.
    pub fn top(&self, limit: usize) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(text, count)| (&**text, *count)).collect();
        all.sort_unstable_by_key(|(text, count)| (Reverse(*count), *text));
        let shown = |(text, count): (&[u8], u64)| (String::from_utf8_lossy(text).into(), count);
        all.into_iter().take(limit).map(shown).collect()
    }
}

/// A text; of a long one its start and a part of its SHA-256, so that others with this start differ.
fn shortened(text: &[u8]) -> Cow<'_, [u8]> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    // a character is not cut in two
    let is_inside = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let end = (0..=LONGEST_TEXT).rev().find(|end| !is_inside(text[*end])).unwrap_or(LONGEST_TEXT);
    let digest = sha256(text);
    [&text[..end], "…".as_bytes(), &digest.as_bytes()[..REST_DIGITS]].concat().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_texts_are_counted_exactly() {
        let mut frequent = Frequent::default();
        for text in ["b", "a", "c", "a", ""] {
            frequent.add(text.as_bytes());
        }
        frequent.add_none();
        assert_eq!(
            (frequent.different(), frequent.undercount(), frequent.without()),
            (Some(4), 0, 1)
        );
        let top = [("a", 2), ("", 1), ("b", 1)].map(|(text, count)| (text.to_owned(), count));
        assert_eq!(frequent.top(3), top);
    }

    #[test]
    fn long_texts_with_one_start_stay_apart() {
        let mut frequent = Frequent::default();
        let start = "é".repeat(LONGEST_TEXT);
        for end in ["x", "y", "x"] {
            frequent.add(format!("{start}{end}").as_bytes());
        }
        let top = frequent.top(9);
        assert_eq!(top.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 1]);
        for (text, _) in top {
            assert!(text.len() < LONGEST_TEXT + 20 && text.starts_with("éé") && text.contains('…'));
            assert!(!text.contains('\u{fffd}'), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn counts_are_never_too_high_nor_lower_than_said(seed: u64, different in 1..4 * MOST_TEXTS as u64) {
            let (mut frequent, mut exact) = (Frequent::default(), BTreeMap::<String, u64>::new());
            let mut random = seed | 1;
            for _ in 0..20_000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // small numbers are frequent
                let text = (random % (1 + (random >> 32) % different)).to_string();
                frequent.add(text.as_bytes());
                *exact.entry(text).or_default() += 1;
            }
            let counted: BTreeMap<String, u64> = frequent.top(usize::MAX).into_iter().collect();
            prop_assert!(counted.len() <= MOST_TEXTS);
            for (text, rows) in &exact {
                let count = counted.get(text).copied().unwrap_or(0);
                prop_assert!(count <= *rows && *rows <= count + frequent.undercount(), "{text}");
            }
            match frequent.different() {
                Some(different) => prop_assert_eq!((different, counted), (exact.len(), exact)),
                None => prop_assert!(exact.len() > MOST_TEXTS),
            }
        }
    }
}
