//! Names of an object: whether two of them mean the same, however they are escaped.

use std::borrow::Cow;
use std::collections::HashSet;

use super::string::{Piece, push_char, walk_pieces};

/// Up to this many names are compared pair by pair; more are sorted by hash first.
const FEW_NAMES: usize = 16;

/// The names and the bytes of a name for which a buffer is kept.
const MOST_KEPT: usize = 64 << 10;

/// The names of all open objects of a text, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Names {
    all: Vec<Name>,
    /// The decoded bytes of a name that has escapes.
    decoded: Vec<u8>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds the name at `start..end` of `text`; `escaped` says whether it has escapes.
    #[inline(always)]
    pub(super) fn push(&mut self, text: &[u8], start: usize, end: usize, escaped: bool) {
        self.all.push(Name::new(text, start, end, escaped, &mut self.decoded));
    }

    /// Whether two of those from `first` on mean the same; may reorder them.
    pub(super) fn have_equal(&mut self, text: &[u8], first: usize) -> bool {
        has_equal(text, &mut self.all[first..])
    }

    pub(super) fn truncate(&mut self, first: usize) {
        self.all.truncate(first);
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// Lets go of what one text of very many names has needed: a process has several scanners, each of which would hold
    /// it.
    pub(super) fn release_large(&mut self) {
        if self.all.capacity().max(self.decoded.capacity()) > MOST_KEPT {
            *self = Names::default();
        }
    }
}

/// A name of an object: where it is written, without its quotes, and the hash of its decoded bytes.
#[derive(Debug, Clone, Copy)]
struct Name {
    // an object may have millions of names, each hardly longer than this
    hash: u32,
    start: u32,
    end: u32,
}

impl Name {
    /// The name at `start..end` of `text`; `escaped` says whether it has escapes, and `decoded` is a
    /// buffer for it without them.
    #[inline(always)]
    fn new(text: &[u8], start: usize, end: usize, escaped: bool, decoded: &mut Vec<u8>) -> Name {
        let written = &text[start..end];
        if !escaped {
            return Name::at(start, end, hash(written));
        }
        decoded.clear();
        decode_name(written, decoded);
        Name::at(start, end, hash(decoded))
    }

    /// A name of a text that is no longer than 4 GiB.
    #[inline(always)]
    fn at(start: usize, end: usize, hash: u64) -> Name {
        Name { hash: (hash >> 32) as u32, start: start as u32, end: end as u32 }
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Whether two of the names mean the same; may reorder them.
fn has_equal(text: &[u8], names: &mut [Name]) -> bool {
    if names.len() <= FEW_NAMES {
        return names.iter().enumerate().any(|(i, one)| {
            names[..i].iter().any(|other| one.hash == other.hash && same_name(text, one, other))
        });
    }
    names.sort_unstable_by_key(|name| name.hash);
    let mut runs = names.chunk_by(|one, other| one.hash == other.hash).filter(|run| run.len() > 1);
    runs.any(|run| {
        // Equal hashes are nearly always equal names; the set only keeps contrived collisions harmless.
        let mut seen = HashSet::new();
        run.iter().any(|name| !seen.insert(decoded_name(text, name)))
    })
}

fn same_name(text: &[u8], one: &Name, other: &Name) -> bool {
    decoded_name(text, one) == decoded_name(text, other)
}

/// The decoded bytes of a name.
fn decoded_name<'a>(text: &'a [u8], name: &Name) -> Cow<'a, [u8]> {
    let written = &text[name.range()];
    if memchr::memchr(b'\\', written).is_none() {
        return Cow::Borrowed(written);
    }
    let mut decoded = Vec::with_capacity(written.len());
    decode_name(written, &mut decoded);
    Cow::Owned(decoded)
}

/// Decodes a valid name without its quotes. A lone surrogate becomes its three bytes in generalised UTF-8,
/// which no character has: different names stay different.
fn decode_name(written: &[u8], out: &mut Vec<u8>) {
    // The missing closing quote is the only error there can be, and it comes after all pieces.
    let _ = walk_pieces(written, 0, |piece| match piece {
        Piece::Plain(bytes) => out.extend_from_slice(bytes),
        Piece::Char(c) => push_char(out, c),
        Piece::Lone(unit) => out.extend_from_slice(&[
            0xE0 | (unit >> 12) as u8,
            0x80 | (unit >> 6 & 0x3F) as u8,
            0x80 | (unit & 0x3F) as u8,
        ]),
    });
}

/// A hash of short byte strings: every 8 bytes are folded in by one wide multiplication.
#[inline(always)]
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = SEED ^ bytes.len() as u64;
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(hash ^ u64::from_le_bytes(last))
}

/// Mixes every bit into every other: both halves of a 128-bit product.
#[inline(always)]
fn fold(word: u64) -> u64 {
    let product = u128::from(word) * 0xE703_7ED1_A0B4_28DB;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::super::JsonIssues;
    use super::super::testing::scan;
    use super::*;

    #[test]
    fn duplicates_among_many_names_are_found() {
        let object = |last: &str| {
            let names: String = (0..100_000).map(|i| format!("\"n{i}\":{i},")).collect();
            format!("{{{names}\"{last}\":0}}")
        };
        assert_eq!(scan(object("n")), JsonIssues::default());
        assert_eq!(scan(object("n4711")), JsonIssues::DUPLICATE);
        assert_eq!(scan(object("\\u006e99999")), JsonIssues::DUPLICATE);
        for count in FEW_NAMES - 1..FEW_NAMES + 3 {
            let names: Vec<_> = (0..count).map(|i| format!("\"{i}\":0")).collect();
            assert_eq!(scan(format!("{{{}}}", names.join(","))), JsonIssues::default());
            assert_eq!(
                scan(format!("{{{},\"\\u0030\":0}}", names.join(","))),
                JsonIssues::DUPLICATE
            );
        }
    }

    #[test]
    fn only_buffers_of_usual_size_are_kept() {
        for (count, kept) in [(1_000, true), (2 * MOST_KEPT, false)] {
            let mut names = Names::default();
            (0..count).for_each(|_| names.push(b"n", 0, 1, false));
            names.clear();
            names.release_large();
            assert_eq!(names.all.capacity() >= count, kept, "{count}");
        }
    }

    #[test]
    fn names_with_equal_hashes_may_differ() {
        let text = (0..40).map(|i| format!("{i:02}")).collect::<String>();
        let mut names: Vec<_> =
            (0..40).map(|i| Name { hash: 7, start: 2 * i, end: 2 * i + 2 }).collect();
        assert!(!has_equal(text.as_bytes(), &mut names[..FEW_NAMES]));
        assert!(!has_equal(text.as_bytes(), &mut names));
        names.push(names[20]);
        assert!(has_equal(text.as_bytes(), &mut names));
    }
}
