//! Times that limit a selection: what people type, and whether the time in a row is before one.

use crate::error::{Code, Error, Result};
use chronicle_archive::time::{Instant, NotInstant, ZoneRule, read_text_floor};
use chronicle_archive::{Column, Kind, TimeText, Value, show_text};

/// A moment that limits a selection. Without a zone it is the wall time that rows without a zone have.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The text that a header keeps; never a relative one.
    pub text: String,
    /// Whether a relative text, such as `7d`, was given.
    pub is_relative: bool,
    /// The moment; without a zone as if it were UTC.
    at: Instant,
    has_zone: bool,
}

const SECOND: i64 = 1_000_000;
/// The units of relative times, in seconds.
const UNITS: [(char, i64); 5] =
    [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 7 * 86_400)];
/// From 1970, where the clock's seconds begin, to 2000, where an instant's do.
const SECONDS_1970_TO_2000: i64 = 946_684_800;

impl Bound {
    /// Reads a date, a date and time, or how long before `now` (microseconds since 1970) it is: `7d`.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn parse(option: &str, text: &str, now: i64) -> Result<Bound> {
        if let Some(seconds) = relative(text) {
            let micros = seconds.checked_mul(SECOND).and_then(|span| now.checked_sub(span));
            let at = micros.and_then(|at| at.checked_sub(SECONDS_1970_TO_2000 * SECOND));
            let at = at.map(Instant).filter(|at| *at >= Instant::MIN);
            let at = at.ok_or_else(|| not_a_time(option, text))?;
            let mut shown = Vec::new();
            at.write_portable(&mut shown);
            let text = String::from_utf8_lossy(&shown).into_owned();
            return Ok(Bound { text, is_relative: true, at, has_zone: true });
        }
        Bound::absolute(text).map_err(|_| not_a_time(option, text))
    }

    /// Reads a date, or a date and time.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn absolute(text: &str) -> Result<Bound> {
        let bound =
            |at, has_zone| Bound { text: text.to_owned(), is_relative: false, at, has_zone };
        match read(text.as_bytes(), ZoneRule::Refuse) {
            Ok(at) => Ok(bound(at, true)),
            Err(NotInstant::NoZone) => (read(text.as_bytes(), ZoneRule::Utc))
                .map(|at| bound(at, false))
                .map_err(|_| not_a_time("a time", text)),
            Err(_) => Err(not_a_time("a time", text)),
        }
    }

    /// Whether it is certainly not before another one.
    pub fn is_not_before(&self, other: &Bound) -> bool {
        self.has_zone == other.has_zone && self.at >= other.at
    }

    /// The instant, read in a zone if it has none of its own.
    fn instant(&self, zone: ZoneRule) -> Instant {
        match self.has_zone {
            true => self.at,
            false => read(self.text.as_bytes(), zone).unwrap_or(self.at),
        }
    }
}

fn not_a_time(option: &str, text: &str) -> Error {
    Error::new(Code::Usage, format!("{option}: {} is not a time", show_text(text))).hint(
        "give a date, a date and time, or how long ago: 2025-08-19, 2025-08-19T12:00:00+02:00, 7d",
    )
}

/// The seconds of a relative time.
fn relative(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let seconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let digits = text.strip_suffix(unit)?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse::<i64>().ok()?.checked_mul(seconds)).flatten()
}

/// The microsecond that a time lies in; a date is its midnight.
fn read(text: &[u8], zone: ZoneRule) -> std::result::Result<Instant, NotInstant> {
    match read_text_floor(text, zone) {
        Err(NotInstant::Unreadable) => read_text_floor(&[text, b"T00:00"].concat(), zone),
        other => other,
    }
}

/// How the times of a column are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// The zone of times without one, where they are compared with an instant.
    pub zone: ZoneRule,
    /// Whether texts without a zone are UTC.
    pub texts_are_utc: bool,
}

impl Clock {
    /// The clock of a column.
    pub fn of(column: &Column, zone: ZoneRule) -> Clock {
        Clock { zone, texts_are_utc: column.time_text == TimeText::Utc }
    }

    /// Whether the times of a column are instants, whatever their texts look like.
    pub fn has_instants(column: &Column) -> bool {
        column.kind == Kind::Time || column.time_text == TimeText::Utc
    }

    /// Whether a value, with the offset that is known of it, is at or after a bound; None if it is no time that can be
    /// read.
    pub fn is_reached(self, bound: &Bound, value: Value<'_>, offset: Option<i32>) -> Option<bool> {
        let text = match value {
            Value::Time(at) => return Some(at >= bound.instant(self.zone)),
            Value::Text(text) => text,
            _ => return None,
        };
        let own = match (offset, self.texts_are_utc) {
            (Some(seconds), _) => ZoneRule::Fixed(seconds),
            (None, true) => ZoneRule::Utc,
            (None, false) => ZoneRule::Refuse,
        };
        match read(text, own) {
            Ok(at) => Some(at >= bound.instant(self.zone)),
            Err(NotInstant::NoZone) if bound.has_zone => {
                read(text, self.zone).ok().map(|at| at >= bound.at)
            }
            Err(NotInstant::NoZone) => read(text, ZoneRule::Utc).ok().map(|wall| wall >= bound.at),
            Err(_) => None,
        }
    }
}

/// From one moment to another, without the last one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span {
    /// The first moment in it.
    pub since: Option<Bound>,
    /// The first one behind it.
    pub until: Option<Bound>,
}

impl Span {
    /// Whether it has an end on either side.
    pub fn is_limited(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// Whether a value is in it; None if it is no time that can be read.
    pub fn contains(&self, clock: Clock, value: Value<'_>, offset: Option<i32>) -> Option<bool> {
        let reached = |bound: &Option<Bound>| {
            bound.as_ref().map(|bound| clock.is_reached(bound, value, offset))
        };
        let since = reached(&self.since).unwrap_or(Some(true))?;
        let until = reached(&self.until).unwrap_or(Some(false))?;
        Some(since && !until)
    }

    /// What zone its bounds or the times of a column are read in, in words, if either has none and the other has one.
    pub fn assumption(&self, stream: &str, column: &Column, zone: &str) -> Option<String> {
        let bounds = || [&self.since, &self.until].into_iter().flatten();
        let instants = Clock::has_instants(column);
        let naive = bounds().find(|bound| !bound.has_zone).filter(|_| instants);
        if let Some(bound) = naive {
            return Some(format!("{} has no zone and is read in {zone}", bound.text));
        }
        let assumed = !instants && bounds().any(|bound| bound.has_zone);
        assumed
            .then(|| format!("{stream}.{}: times without a zone are read in {zone}", column.name))
    }

    /// The bounds as instants, as texts that Postgres reads.
    pub fn instants(&self, zone: ZoneRule) -> [Option<String>; 2] {
        [&self.since, &self.until].map(|bound| {
            bound.as_ref().map(|bound| {
                let mut text = Vec::new();
                bound.instant(zone).write_postgres(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Bound {
        Bound::absolute(text).unwrap()
    }

    fn reached(bound: &Bound, value: Value<'_>, zone: ZoneRule, utc: bool) -> Option<bool> {
        Clock { zone, texts_are_utc: utc }.is_reached(bound, value, None)
    }

    #[test]
    fn relative_times_are_counted_from_now() {
        let now = SECONDS_1970_TO_2000 * SECOND + 10 * 86_400 * SECOND;
        for (text, expected) in [
            ("7d", "2000-01-04T00:00:00.000000Z"),
            ("1w", "2000-01-04T00:00:00.000000Z"),
            ("36h", "2000-01-09T12:00:00.000000Z"),
            ("90m", "2000-01-10T22:30:00.000000Z"),
            ("1s", "2000-01-10T23:59:59.000000Z"),
        ] {
            let read = Bound::parse("--since", text, now).unwrap();
            assert_eq!((&*read.text, read.is_relative), (expected, true), "{text}");
            assert_eq!(read.at, bound(expected).at);
        }
        for wrong in ["d", "-7d", "7", "7y", "1.5d", "", "soon", "99999999999999999d", "2025-13-01"]
        {
            let error = Bound::parse("--since", wrong, now).unwrap_err();
            assert!(error.full().contains("is not a time"), "{wrong}");
        }
    }

    #[test]
    fn walls_meet_walls_and_instants_meet_in_a_zone() {
        let (wall, instant) = (bound("2025-08-19"), bound("2025-08-19T00:00Z"));
        let berlin = ZoneRule::Fixed(7200);
        let text = |text: &'static str| Value::Text(text.as_bytes());
        // both without a zone: no zone matters
        assert_eq!(reached(&wall, text("2025-08-19 00:00:00"), berlin, false), Some(true));
        assert_eq!(reached(&wall, text("2025-08-18T23:59:59.9999999"), berlin, false), Some(false));
        // the row alone has one, or is known to be UTC
        assert_eq!(reached(&wall, text("2025-08-18T22:00:00Z"), berlin, false), Some(true));
        assert_eq!(reached(&wall, text("2025-08-18T22:00:00"), berlin, true), Some(true));
        assert_eq!(reached(&wall, text("2025-08-18T22:00:00Z"), ZoneRule::Utc, false), Some(false));
        let at = bound("2025-08-18T22:00:00Z").at;
        assert_eq!(reached(&wall, Value::Time(at), berlin, false), Some(true));
        // the bound alone has one
        assert_eq!(reached(&instant, text("2025-08-19 01:59:59"), berlin, false), Some(false));
        assert_eq!(reached(&instant, text("2025-08-19 02:00:00"), berlin, false), Some(true));
        // no times
        for odd in [Value::Null, Value::Int(20_250_819), text("yesterday"), text("")] {
            assert_eq!(reached(&wall, odd, berlin, false), None);
        }
    }

    #[test]
    fn a_span_has_its_first_moment_and_not_its_last() {
        let span = Span { since: Some(bound("2025-08-19")), until: Some(bound("2025-08-20")) };
        let clock = Clock { zone: ZoneRule::Utc, texts_are_utc: false };
        let is_in = |text: &str| span.contains(clock, Value::Text(text.as_bytes()), None);
        assert_eq!(is_in("2025-08-18T23:59:59.999999"), Some(false));
        assert_eq!(is_in("2025-08-19"), Some(true));
        assert_eq!(is_in("2025-08-19T23:59:59.9999999"), Some(true));
        assert_eq!(is_in("2025-08-20T00:00:00"), Some(false));
        assert_eq!(is_in("x"), None);
    }
}
