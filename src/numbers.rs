//! Whose the integer ids of a table are: the same number of two databases is not the same row.
//!
//! A database gives out its own numbers. When rows come with the numbers that another database gave them, the history
//! notes up to which number they are that one's, and an archive of these rows says so, too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::uuid_for;
use chronicle_archive::{Kind, NumberRange, Origin, Stream, Value};

/// Up to which numbers the ids of one table are whose; those behind the last range are of the database itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Numbers(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    /// Its last number.
    last: i64,
    /// The database that gave them out.
    instance: Uuid,
}

/// The integer ids that a table has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableNumbers {
    /// Whose they are.
    pub numbers: Numbers,
    /// The greatest; none without rows.
    pub greatest: Option<i64>,
}

impl Numbers {
    /// The ranges that an archive states; what it states about a database without a UUID does not count.
    fn stated(ranges: &[NumberRange]) -> Numbers {
        let range = |r: &NumberRange| {
            Some(Range { last: r.last, instance: Uuid::parse_str(&r.instance).ok()? })
        };
        Numbers(ranges.iter().filter_map(range).collect())
    }

    /// The ranges as an archive states them.
    pub fn to_state(&self) -> Vec<NumberRange> {
        let state = |r: &Range| NumberRange { last: r.last, instance: r.instance.to_string() };
        self.0.iter().map(state).collect()
    }

    /// The database that gave a number out; `own` is the one that has the table.
    fn owner(&self, number: i64, own: Uuid) -> Uuid {
        let range = self.0.iter().find(|range| number <= range.last);
        range.map_or(own, |range| range.instance)
    }

    /// The last numbers of the ranges, up to a number, and that number.
    fn borders(&self, greatest: i64) -> impl Iterator<Item = i64> {
        let lasts = self.0.iter().map(|range| range.last);
        lasts.take_while(move |last| *last < greatest).chain([greatest])
    }
}

/// Whose the integer ids in the tables of one database are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbering {
    own: Uuid,
    streams: BTreeMap<String, Numbers>,
}

impl Numbering {
    /// Those of a database; of its streams, those with numbers of others.
    pub fn new(own: Uuid, streams: BTreeMap<String, Numbers>) -> Numbering {
        Numbering { own, streams }
    }

    /// Those of an archive, whose ids are those of the database `own`.
    pub fn of_archive(origin: &Origin, own: Uuid) -> Numbering {
        let streams = origin.numbers.iter();
        Numbering::new(
            own,
            streams.map(|(s, ranges)| (s.clone(), Numbers::stated(ranges))).collect(),
        )
    }

    /// The same with other names of some streams.
    #[must_use]
    pub fn renamed(mut self, names: impl Iterator<Item = (String, String)>) -> Numbering {
        for (from, to) in names.filter(|(from, to)| from != to) {
            if let Some(numbers) = self.streams.remove(&from) {
                self.streams.entry(to).or_insert(numbers);
            }
        }
        self
    }

    /// The same with other numbers of one stream.
    #[must_use]
    pub fn with(&self, stream: &str, numbers: Numbers) -> Numbering {
        let mut changed = self.clone();
        changed.streams.insert(stream.to_owned(), numbers);
        changed
    }

    /// The database itself.
    pub fn own(&self) -> Uuid {
        self.own
    }

    /// Whether it is known which database this is.
    fn is_known(&self) -> bool {
        !self.own.is_nil()
    }

    fn of(&self, stream: &str) -> &Numbers {
        const NONE: &Numbers = &Numbers(Vec::new());
        self.streams.get(stream).unwrap_or(NONE)
    }

    /// The UUID that names a row of a stream among those of all databases, derived from its id.
    pub fn uuid(&self, stream: &str, id: Value<'_>) -> Uuid {
        let owner = match id {
            Value::Int(number) => self.of(stream).owner(number, self.own),
            _ => self.own,
        };
        uuid_for(owner, stream, id)
    }

    /// Whether a number of a stream is the same row in both databases, if it is one in both.
    pub fn means_the_same(&self, other: &Numbering, stream: &str, number: i64) -> bool {
        let owner = |all: &Numbering| all.of(stream).owner(number, all.own);
        owner(self) == owner(other)
    }

    /// Whether that is so for every number of a table that has them up to `greatest`. Of a database that nobody can
    /// name nothing else is known.
    pub fn agrees(&self, other: &Numbering, stream: &str, greatest: Option<i64>) -> bool {
        let Some(greatest) = greatest.filter(|_| self.is_known() && other.is_known()) else {
            return true;
        };
        let borders = self.of(stream).borders(greatest);
        borders
            .chain(other.of(stream).borders(greatest))
            .all(|number| self.means_the_same(other, stream, number))
    }

    /// What the numbers of a stream are in a database `there` once it has these very rows, up to `greatest`; None if
    /// nobody can say.
    pub fn in_database(
        &self,
        there: &Numbering,
        stream: &str,
        greatest: Option<i64>,
    ) -> Option<Numbers> {
        if !self.is_known() || !there.is_known() {
            return None;
        }
        let numbers = self.of(stream);
        let mut ranges: Vec<Range> = Vec::new();
        for last in greatest.into_iter().flat_map(|greatest| numbers.borders(greatest)) {
            let instance = numbers.owner(last, self.own);
            match ranges.last_mut() {
                Some(before) if before.instance == instance => before.last = last,
                _ => ranges.push(Range { last, instance }),
            }
        }
        // what follows is its own anyway
        if ranges.last().is_some_and(|range| range.instance == there.own) {
            ranges.pop();
        }
        Some(Numbers(ranges))
    }
}

/// Whether the key of a stream is one integer.
pub fn has_integer_key(stream: &Stream) -> bool {
    matches!(stream.key[..], [key] if stream.columns[key].kind == Kind::Int)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HERE: Uuid = Uuid::from_u128(1);
    const THERE: Uuid = Uuid::from_u128(2);
    const ELSEWHERE: Uuid = Uuid::from_u128(3);

    fn numbering(own: Uuid, ranges: &[(i64, Uuid)]) -> Numbering {
        let ranges =
            ranges.iter().map(|(last, instance)| Range { last: *last, instance: *instance });
        Numbering::new(own, BTreeMap::from([("s".into(), Numbers(ranges.collect()))]))
    }

    fn ranges(numbers: &Numbers) -> Vec<(i64, Uuid)> {
        numbers.0.iter().map(|range| (range.last, range.instance)).collect()
    }

    #[test]
    fn a_number_belongs_to_the_first_range_that_reaches_it() {
        let all = numbering(HERE, &[(10, THERE), (12, ELSEWHERE)]);
        for (number, owner) in [(-5, THERE), (10, THERE), (11, ELSEWHERE), (13, HERE)] {
            let expected = uuid_for(owner, "s", Value::Int(number));
            assert_eq!(all.uuid("s", Value::Int(number)), expected, "{number}");
        }
        assert_eq!(all.uuid("s", Value::Text(b"1")), uuid_for(HERE, "s", Value::Text(b"1")));
    }

    #[test]
    fn databases_agree_if_every_number_in_use_has_one_owner() {
        let (here, there) = (numbering(HERE, &[]), numbering(THERE, &[]));
        let copy = numbering(THERE, &[(10, HERE)]);
        for (a, b, greatest, agree) in [
            (&here, &here, Some(i64::MAX), true),
            (&here, &there, None, true),
            (&here, &there, Some(1), false),
            (&here, &copy, Some(10), true),
            (&here, &copy, Some(11), false),
            (&copy, &there, Some(11), false),
            (&numbering(Uuid::nil(), &[]), &here, Some(5), true),
        ] {
            assert_eq!(a.agrees(b, "s", greatest), agree, "{a:?} {b:?} {greatest:?}");
            assert_eq!(b.agrees(a, "s", greatest), agree, "{b:?} {a:?} {greatest:?}");
        }
    }

    #[test]
    fn rows_keep_their_owners_from_database_to_database() {
        let (here, there, last) =
            (numbering(HERE, &[]), numbering(THERE, &[]), numbering(ELSEWHERE, &[]));
        let copy = here.in_database(&there, "s", Some(10)).unwrap();
        assert_eq!(ranges(&copy), [(10, HERE)]);
        // two rows more, given out there
        let copy = numbering(THERE, &ranges(&copy));
        let second = copy.in_database(&last, "s", Some(12)).unwrap();
        assert_eq!(ranges(&second), [(10, HERE), (12, THERE)]);
        let home = copy.in_database(&here, "s", Some(12)).unwrap();
        assert_eq!(ranges(&home), [(10, HERE), (12, THERE)]);
        let never_left = copy.in_database(&here, "s", Some(10)).unwrap();
        assert_eq!(ranges(&never_left), []);
        assert_eq!(here.in_database(&there, "s", None), Some(Numbers::default()));
    }
}
