//! Which stream of one side meets which of the other, and by which columns.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::{A, B, CompareOptions};
use crate::catalog::Role;
use crate::error::{Code, Error, Result};
use crate::layout::{self};
use crate::policy::AssumeZone;
use chronicle_archive::canonical::Canonical;
use chronicle_archive::time::{NotInstant, ZoneRule, parse_zone, read_text};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value, show_text};

/// A column that both sides have.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    /// Its logical name.
    pub(super) name: String,
    /// Its position in the rows of either side.
    pub(super) at: [usize; 2],
    /// How both are read: JSON if either side says so.
    kind: Kind,
    /// Whether texts are read as instants: if either side holds instants.
    instant: bool,
    /// How texts of either side without a zone are read.
    zone_rule: [ZoneRule; 2],
    /// Whether only one side distinguishes booleans from integers, so that true is 1.
    bool_is_int: bool,
    /// Whether one side holds integers and the other one texts, so that 7 is '7'.
    int_is_text: bool,
}

impl Joined {
    fn new(a: (usize, &Column), b: (usize, &Column), zone_rule: [ZoneRule; 2]) -> Joined {
        let ((at_a, a), (at_b, b)) = (a, b);
        let json = |c: &&Column| matches!(c.kind, Kind::Json | Kind::Jsonb);
        let zone = |c: &Column, zone_rule| {
            if c.time_text == TimeText::Utc { ZoneRule::Utc } else { zone_rule }
        };
        let either = |kind| a.kind == kind || b.kind == kind;
        Joined {
            name: a.name.clone(),
            at: [at_a, at_b],
            kind: [a, b].into_iter().find(json).unwrap_or(a).kind,
            instant: [a, b].iter().any(|c| c.time_text.is_time() || c.kind == Kind::Time),
            zone_rule: [zone(a, zone_rule[A]), zone(b, zone_rule[B])],
            // as an import turns them into each other
            bool_is_int: either(Kind::Bool) && a.kind != b.kind,
            int_is_text: either(Kind::Int) && either(Kind::Text),
        }
    }

    /// The value of a row of one side; of a local time whose offset is known, its instant.
    pub(super) fn value<'a>(&self, side: usize, batch: &'a Batch, row: usize) -> Value<'a> {
        let value = batch.value(row, self.at[side]);
        match (value, batch.offset(row, self.at[side])) {
            (Value::Text(text), Some(offset)) if self.instant => {
                read_text(text, ZoneRule::Fixed(offset)).map_or(value, Value::Time)
            }
            _ => value,
        }
    }

    /// Appends the canonical form of a value of one side.
    pub(super) fn write(
        &self,
        canonical: &mut Canonical,
        side: usize,
        value: Value<'_>,
        out: &mut Vec<u8>,
    ) {
        let (instant, zone_rule) = (self.instant, self.zone_rule[side]);
        match value {
            // no JSON text starts so: a JSON `null` is a value, NULL is none
            Value::Null => out.extend_from_slice(b"!null"),
            Value::Bool(v) if self.bool_is_int => {
                canonical.write(self.kind, instant, zone_rule, Value::Int(i64::from(v)), out);
            }
            Value::Int(v) if self.int_is_text => {
                let text = v.to_string();
                canonical.write(self.kind, instant, zone_rule, Value::Text(text.as_bytes()), out);
            }
            value => canonical.write(self.kind, instant, zone_rule, value, out),
        }
    }

    /// The canonical form of a value of one side.
    pub(super) fn form(&self, canonical: &mut Canonical, side: usize, value: Value<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(canonical, side, value, &mut out);
        out
    }

    /// Whether a value of A equals one of B. Most are the same to the byte, which is quick to see.
    pub(super) fn same(&self, canonical: &mut Canonical, a: Value<'_>, b: Value<'_>) -> bool {
        let one_reading = !self.instant || self.zone_rule[A] == self.zone_rule[B];
        (one_reading && a == b) || self.form(canonical, A, a) == self.form(canonical, B, b)
    }

    /// Which value a sorted database gives first. Only a good guess: every database sorts in its
    /// own way.
    pub(super) fn order(&self, canonical: &mut Canonical, a: Value<'_>, b: Value<'_>) -> Ordering {
        match (a, b) {
            (Value::Int(a), Value::Int(b)) => a.cmp(&b),
            (Value::Time(a), Value::Time(b)) => a.0.cmp(&b.0),
            (Value::Text(a), Value::Text(b)) if !self.instant || a == b => a.cmp(b),
            (a, b) => rank(a).cmp(&rank(b)).then_with(|| match (number(a), number(b)) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => self.form(canonical, A, a).cmp(&self.form(canonical, B, b)),
            }),
        }
    }

    /// Whether one value is an instant and the other a local time that nobody named the zone of.
    pub(super) fn lacks_zone(&self, a: Value<'_>, b: Value<'_>) -> bool {
        let read = |side: usize, value| match value {
            Value::Time(instant) => Ok(instant),
            Value::Text(text) if self.instant => read_text(text, self.zone_rule[side]),
            _ => Err(NotInstant::Unreadable),
        };
        matches!(
            (read(A, a), read(B, b)),
            (Err(NotInstant::NoZone), Ok(_)) | (Ok(_), Err(NotInstant::NoZone))
        )
    }
}

/// The order of storage classes in SQLite.
fn rank(value: Value<'_>) -> u8 {
    match value {
        Value::Null => 0,
        Value::Int(_) | Value::Real(_) | Value::Bool(_) => 1,
        Value::Text(_) | Value::Time(_) | Value::Uuid(_) => 2,
        Value::Blob(_) => 3,
    }
}

fn number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Int(v) => Some(v as f64),
        Value::Real(v) => Some(v),
        _ => None,
    }
}

/// Two streams that are compared, or one that only one side has.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// The name, of A if it has one.
    pub(super) name: String,
    /// The streams' numbers on either side.
    pub(super) streams: [Option<usize>; 2],
    /// The compared columns; of a stream that only one side has, those of its key.
    pub(super) columns: Vec<Joined>,
    /// The key among them. Without one, rows are present or missing, never changed.
    pub(super) key: Vec<usize>,
    /// What both sides are sorted by; empty if they are not sorted alike.
    pub(super) order: Vec<Joined>,
    /// Columns that only one side has.
    pub(super) lone_columns: [Vec<String>; 2],
}

/// Pairs the streams of two sides: by name, else the only two of the same role that are left over.
///
/// # Errors
/// A column to ignore that does not exist or is a key, or a time zone that is not known.
pub(super) fn pairs(
    streams: [&[Stream]; 2],
    zones: [Option<&str>; 2],
    options: &CompareOptions,
) -> Result<Vec<Pair>> {
    let zone_rule = zone_rule(zones, options.assume_zone)?;
    let [a, b] = streams;
    let partner = partners(a, b);
    let mut pairs: Vec<Pair> = (a.iter().enumerate())
        .map(|(n, stream)| match partner[n] {
            Some(m) => pair((n, stream), (m, &b[m]), zone_rule, &options.ignore),
            None => alone(A, n, stream, zone_rule),
        })
        .collect();
    let met: HashSet<usize> = partner.iter().flatten().copied().collect();
    let left = (0..b.len()).filter(|n| !met.contains(n));
    pairs.extend(left.map(|n| alone(B, n, &b[n], zone_rule)));
    check_ignored(streams, &options.ignore)?;
    Ok(pairs)
}

/// The number of the stream in B that each one of A meets.
fn partners(a: &[Stream], b: &[Stream]) -> Vec<Option<usize>> {
    let numbers: HashMap<&str, usize> =
        b.iter().enumerate().map(|(n, stream)| (stream.name.as_str(), n)).collect();
    let mut partner: Vec<Option<usize>> =
        a.iter().map(|stream| numbers.get(stream.name.as_str()).copied()).collect();
    let roles: Vec<Role> = a.iter().filter_map(role_of).filter(Role::is_shared).collect();
    for role in roles {
        let in_a: Vec<usize> = (0..a.len())
            .filter(|n| partner[*n].is_none() && role_of(&a[*n]).as_ref() == Some(&role))
            .collect();
        let in_b: Vec<usize> = (0..b.len())
            .filter(|n| role_of(&b[*n]).as_ref() == Some(&role) && !partner.contains(&Some(*n)))
            .collect();
        if let ([in_a], [in_b]) = (in_a.as_slice(), in_b.as_slice()) {
            partner[*in_a] = Some(*in_b);
        }
    }
    partner
}

/// What the rows of a stream are, as the layouts that know it say.
fn role_of(stream: &Stream) -> Option<Role> {
    layout::known_stream(&stream.name).map(|known| known.role.clone())
}

/// How either side's texts without a zone are read. A side that does not say its zone takes the
/// other's.
fn zone_rule(zones: [Option<&str>; 2], assume: AssumeZone) -> Result<[ZoneRule; 2]> {
    match assume {
        AssumeZone::Refuse => Ok([ZoneRule::Refuse; 2]),
        AssumeZone::Zone(zone) => Ok([zone; 2]),
        AssumeZone::Archive => {
            let [a, b] = zones.map(|zone| zone.and_then(parse_zone));
            match (a.or(b), b.or(a)) {
                (Some(a), Some(b)) => Ok([a, b]),
                _ => Err(Error::new(Code::Plan, "neither side names its time zone")
                    .hint("name the zone: --assume-tz Europe/Berlin")),
            }
        }
    }
}

/// The column of this name. SQLite compares names without regard to case, so do we, unless there is
/// one that is spelled the same.
fn named(columns: &[Column], name: &str) -> Option<usize> {
    let exact = columns.iter().position(|c| c.name == name);
    exact.or_else(|| columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
}

fn pair(
    a: (usize, &Stream),
    b: (usize, &Stream),
    zone_rule: [ZoneRule; 2],
    ignore: &[String],
) -> Pair {
    let ((n, a), (m, b)) = (a, b);
    let join = |at: usize| {
        let column = &a.columns[at];
        let other = named(&b.columns, &column.name)?;
        Some(Joined::new((at, column), (other, &b.columns[other]), zone_rule))
    };
    let is_ignored = |name: &str| ignore.iter().any(|i| i.eq_ignore_ascii_case(name));
    let lone = |of: &Stream, other: &Stream| -> Vec<String> {
        let missing = of.columns.iter().filter(|c| named(&other.columns, &c.name).is_none());
        missing.map(|c| c.name.clone()).filter(|name| !is_ignored(name)).collect()
    };
    let columns: Vec<Joined> =
        (0..a.columns.len()).filter_map(join).filter(|c| !is_ignored(&c.name)).collect();
    // the key of a side, if all of it is compared
    let key_of = |side: usize, of: &Stream| -> Option<Vec<usize>> {
        let place = |at: &usize| columns.iter().position(|c| c.at[side] == *at);
        let key: Option<Vec<usize>> = of.key.iter().map(place).collect();
        key.filter(|key| !key.is_empty())
    };
    let order_of = |of: &Stream| -> Vec<String> {
        let names = of.order.iter().filter_map(|at| of.columns.get(*at));
        names.map(|c| c.name.to_ascii_lowercase()).collect()
    };
    let sorted_alike = order_of(a) == order_of(b);
    let order: Option<Vec<Joined>> = a.order.iter().map(|at| join(*at)).collect();
    Pair {
        name: a.name.clone(),
        streams: [Some(n), Some(m)],
        key: key_of(A, a).or_else(|| key_of(B, b)).unwrap_or_default(),
        order: order.filter(|_| sorted_alike).unwrap_or_default(),
        lone_columns: [lone(a, b), lone(b, a)],
        columns,
    }
}

/// A stream that the other side lacks. Of its rows only the key is looked at.
fn alone(side: usize, number: usize, stream: &Stream, zone_rule: [ZoneRule; 2]) -> Pair {
    let mut streams = [None; 2];
    streams[side] = Some(number);
    let key = (stream.key.iter()).filter_map(|at| Some((*at, stream.columns.get(*at)?)));
    let columns: Vec<Joined> = key.map(|column| Joined::new(column, column, zone_rule)).collect();
    Pair {
        name: stream.name.clone(),
        streams,
        key: (0..columns.len()).collect(),
        columns,
        order: Vec::new(),
        lone_columns: Default::default(),
    }
}

fn check_ignored(streams: [&[Stream]; 2], ignore: &[String]) -> Result<()> {
    for name in ignore {
        let shown = show_text(name);
        let mut all = streams.into_iter().flatten();
        if !all.any(|stream| named(&stream.columns, name).is_some()) {
            return Err(Error::new(
                Code::Usage,
                format!("--ignore: there is no column \"{shown}\""),
            )
            .hint("`chronicle-dump inspect ARCHIVE --json` names every column of an archive"));
        }
        let is_key = |stream: &&Stream| {
            stream
                .key
                .iter()
                .any(|k| stream.columns.get(*k).is_some_and(|c| c.name.eq_ignore_ascii_case(name)))
        };
        if let Some(stream) = streams.into_iter().flatten().find(is_key) {
            return Err(Error::new(
                Code::Usage,
                format!(
                    "--ignore: \"{shown}\" is the key of {}, by which rows are matched",
                    stream.name
                ),
            )
            .hint("name another column"));
        }
    }
    Ok(())
}
