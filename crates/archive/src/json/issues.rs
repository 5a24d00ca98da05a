//! What keeps a JSON text from being portable, as a set of flags.

/// What keeps a text from being portable JSON: a set of flags, empty means portable.
///
/// A text that is not JSON at all has [`JsonIssues::INVALID`] and nothing else: any other flag would
/// depend on where reading stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JsonIssues(pub(super) u16);

impl JsonIssues {
    /// Not JSON as RFC 8259 defines it, in UTF-8 and without a byte order mark.
    pub const INVALID: JsonIssues = JsonIssues(1);
    /// The top level is not an object.
    pub const NOT_OBJECT: JsonIssues = JsonIssues(1 << 1);
    /// A raw LF or CR byte in white space.
    pub const LINE_BREAK: JsonIssues = JsonIssues(1 << 2);
    /// White space before or after the value.
    pub const OUTER_SPACE: JsonIssues = JsonIssues(1 << 3);
    /// U+0000, as an escape, in a string or name.
    pub const NUL: JsonIssues = JsonIssues(1 << 4);
    /// A lone surrogate, as an escape, in a string or name.
    pub const SURROGATE: JsonIssues = JsonIssues(1 << 5);
    /// Two equal names in one object, however they are escaped.
    pub const DUPLICATE: JsonIssues = JsonIssues(1 << 6);
    /// A number with a long token or a large exponent, or one that is not finite as a double.
    pub const NUMBER: JsonIssues = JsonIssues(1 << 7);
    /// A number that PostgreSQL's `numeric` may not hold; [`JsonIssues::NUMBER`] is set too.
    pub const HUGE_NUMBER: JsonIssues = JsonIssues(1 << 8);
    /// Nested deeper than 100 levels.
    pub const DEEP: JsonIssues = JsonIssues(1 << 9);
    /// Nested deeper than 1000 levels; [`JsonIssues::DEEP`] is set too.
    pub const VERY_DEEP: JsonIssues = JsonIssues(1 << 10);

    /// The flags of a text that no database compares as JSON, but at most as plain text.
    pub const NOT_COMPARABLE: JsonIssues = JsonIssues::INVALID
        .union(JsonIssues::NUL)
        .union(JsonIssues::SURROGATE)
        .union(JsonIssues::HUGE_NUMBER)
        .union(JsonIssues::VERY_DEEP);

    /// Every flag in words, and the stronger flag that makes it redundant.
    const WORDS: [(JsonIssues, &'static str, Option<JsonIssues>); 11] = [
        (Self::INVALID, "not valid JSON", None),
        (Self::NOT_OBJECT, "not an object", None),
        (Self::LINE_BREAK, "a line break between tokens", None),
        (Self::OUTER_SPACE, "white space around the value", None),
        (Self::NUL, "a NUL character", None),
        (Self::SURROGATE, "half a surrogate pair", None),
        (Self::DUPLICATE, "duplicate names", None),
        (Self::NUMBER, "a number outside the portable range", Some(Self::HUGE_NUMBER)),
        (Self::HUGE_NUMBER, "a number too large for PostgreSQL", None),
        (Self::DEEP, "nesting deeper than 100", Some(Self::VERY_DEEP)),
        (Self::VERY_DEEP, "nesting deeper than 1000", None),
    ];

    /// Whether there is no issue.
    pub fn is_portable(self) -> bool {
        self == JsonIssues::default()
    }

    /// Whether every flag of `other` is set.
    pub fn contains(self, other: JsonIssues) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether at least one of the flags of `others` is set.
    pub fn intersects(self, others: JsonIssues) -> bool {
        self.0 & others.0 != 0
    }

    /// The flags of both.
    #[must_use]
    pub const fn union(self, other: JsonIssues) -> JsonIssues {
        JsonIssues(self.0 | other.0)
    }

    /// Sets every flag of `other`.
    pub fn insert(&mut self, other: JsonIssues) {
        self.0 |= other.0;
    }

    /// The issues in words; of two flags where one implies the other, only the stronger.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS
            .into_iter()
            .filter(move |&(flag, _, stronger)| {
                self.contains(flag) && !stronger.is_some_and(|flag| self.contains(flag))
            })
            .map(|(_, words, _)| words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stronger_of_two_issues_is_named() {
        let words = |found: JsonIssues| found.names().collect::<Vec<_>>();
        assert!(words(JsonIssues::default()).is_empty());
        assert_eq!(
            words(JsonIssues::DUPLICATE.union(JsonIssues::NUL)),
            ["a NUL character", "duplicate names"]
        );
        assert_eq!(
            words(JsonIssues::DEEP.union(JsonIssues::VERY_DEEP)),
            ["nesting deeper than 1000"]
        );
        assert_eq!(words(JsonIssues(u16::MAX)).len(), 9);
    }
}
