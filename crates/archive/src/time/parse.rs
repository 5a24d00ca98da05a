//! Reads the text of a date and time: its fields as written, before any zone applies to them.

use std::fmt;

use super::civil::{days_from_civil, days_in_month};
use super::{Instant, MICROS_PER_SECOND, SECONDS_PER_DAY};

/// PostgreSQL refuses offsets of 16 hours and more (`MAX_TZDISP_HOUR` in its
/// `datatype/timestamp.h`).
const MAX_OFFSET_HOURS: i64 = 15;

/// Why a text cannot be read as an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInstant {
    /// A local time, and the zone rule names no zone for it.
    NoZone,
    /// A local time that the zone skips (clocks forward).
    Gap,
    /// A local time that occurs twice in the zone (clocks back).
    Overlap,
    /// Finer than microseconds: non-zero digits beyond the sixth.
    TooFine,
    /// Outside PostgreSQL's range, [`Instant::MIN`] to [`Instant::MAX`].
    OutOfRange,
    /// Anything else: `''`, `now`, `None`, numbers, dates without a time, 30 February, year 0.
    Unreadable,
}

impl fmt::Display for NotInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotInstant::NoZone => "a local time without a zone",
            NotInstant::Gap => "a local time that does not exist (clocks went forward)",
            NotInstant::Overlap => "an ambiguous local time (clocks went back)",
            NotInstant::TooFine => "a time finer than microseconds",
            NotInstant::OutOfRange => "a time beyond the range of timestamptz",
            NotInstant::Unreadable => "not a date and time",
        })
    }
}

impl std::error::Error for NotInstant {}

/// What to do with a text that names no single microsecond.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Strictness {
    /// Refuse it.
    Exact,
    /// Take the nearest microsecond and the earlier of two instants.
    Nearest,
    /// Take the microsecond that the time lies in and the earlier of two instants.
    Floor,
}

impl Instant {
    /// Reads exactly what [`Instant::write_portable`] writes: 27 bytes, an existing date, hours to 23,
    /// seconds to 59.
    pub fn read_portable(text: &[u8]) -> Option<Instant> {
        let mut rest = Scanner(text);
        let year = rest.number::<4>().filter(|year| *year >= 1)?;
        let days = rest.days_after_year(year)?;
        rest.expect(b'T')?;
        let hour = rest.two_digits_to(23)?;
        rest.expect(b':')?;
        let minute = rest.two_digits_to(59)?;
        rest.expect(b':')?;
        let second = rest.two_digits_to(59)?;
        rest.expect(b'.')?;
        let micros = rest.number::<6>()?;
        rest.expect(b'Z')?;
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        rest.0.is_empty().then_some(Instant(seconds * MICROS_PER_SECOND + micros))
    }
}

/// A date and time as written, before a zone or a precision applies.
pub(super) struct Written {
    /// Seconds since 2000-01-01T00:00:00 in local time.
    pub(super) local: i64,
    pub(super) fraction: Fraction,
    /// Seconds east of Greenwich, if the text has an offset.
    pub(super) offset: Option<i32>,
}

/// The digits after the second.
#[derive(Clone, Copy, Default)]
pub(super) struct Fraction {
    /// The first six, as a number of microseconds.
    micros: i64,
    /// Whether a non-zero digit follows them.
    finer: bool,
    /// Whether the seventh digit is 5 or more.
    half_or_more: bool,
}

impl Fraction {
    /// Microseconds, 1,000,000 if rounding carries into the next second.
    pub(super) fn micros(self, strictness: Strictness) -> Result<i64, NotInstant> {
        match strictness {
            Strictness::Exact if self.finer => Err(NotInstant::TooFine),
            Strictness::Exact | Strictness::Floor => Ok(self.micros),
            Strictness::Nearest => Ok(self.micros + i64::from(self.half_or_more)),
        }
    }

    fn is_zero(self) -> bool {
        self.micros == 0 && !self.finer
    }
}

/// The rest of a text. Every method takes what it reads off the front; `None` means that the text
/// has another form.
pub(super) struct Scanner<'a>(pub(super) &'a [u8]);

impl Scanner<'_> {
    /// The whole text as a date and a time, or `None`.
    pub(super) fn written(mut self) -> Option<Written> {
        // The era comes last, but it decides which dates exist.
        let without_era = self.0.strip_suffix(b" BC");
        let before_christ = without_era.is_some();
        let text = without_era.unwrap_or(self.0);
        self.0 = text;
        let year = self.year()?;
        if (before_christ || year > 9999) && !is_in_postgres_alphabet(text) {
            return None;
        }
        let days = self.days_after_year(if before_christ { 1 - year } else { year })?;
        if !(self.eat(b'T') || self.eat(b' ') || self.eat(b't')) {
            return None;
        }
        let (seconds, fraction) = self.time_of_day()?;
        let offset = self.offset()?;
        let local = days * SECONDS_PER_DAY + seconds;
        self.0.is_empty().then_some(Written { local, fraction, offset })
    }

    /// A year from 1: four digits, or five or six without a leading zero.
    fn year(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match digits {
            4 => self.number::<4>().filter(|year| *year >= 1),
            5 => self.number::<5>().filter(|year| *year > 9999),
            6 => self.number::<6>().filter(|year| *year > 99_999),
            _ => None,
        }
    }

    /// `-MM-DD` of an astronomical year, as days since 2000-01-01.
    fn days_after_year(&mut self, year: i64) -> Option<i64> {
        self.expect(b'-')?;
        let month = self.two_digits_to(12).filter(|month| *month >= 1)?;
        self.expect(b'-')?;
        let day = self.two_digits_to(days_in_month(year, month)).filter(|day| *day >= 1)?;
        Some(days_from_civil(year, month, day))
    }

    /// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f`, as seconds since midnight (86,400 for 24:00:00) and the
    /// fraction.
    fn time_of_day(&mut self) -> Option<(i64, Fraction)> {
        let hour = self.two_digits_to(24)?;
        self.expect(b':')?;
        let minute = self.two_digits_to(59)?;
        let mut second = 0;
        let mut fraction = Fraction::default();
        if self.eat(b':') {
            second = self.two_digits_to(60)?;
            if self.eat(b'.') || self.eat(b',') {
                fraction = self.fraction()?;
            }
        }
        let within_day = hour < 24 || (minute == 0 && second == 0 && fraction.is_zero());
        within_day.then_some((hour * 3600 + minute * 60 + second, fraction))
    }

    /// One digit or more.
    fn fraction(&mut self) -> Option<Fraction> {
        let mut fraction = Fraction::default();
        let mut place = MICROS_PER_SECOND;
        let mut digits = 0_usize;
        while let [byte @ b'0'..=b'9', rest @ ..] = self.0 {
            let digit = i64::from(byte - b'0');
            fraction.half_or_more |= digits == 6 && digit >= 5;
            fraction.finer |= digits >= 6 && digit > 0;
            place /= 10; // 0 from the seventh digit on
            fraction.micros += digit * place;
            digits = digits.saturating_add(1);
            self.0 = rest;
        }
        (digits > 0).then_some(fraction)
    }

    /// The offset, if there is one; the inner `None` means that the text has none.
    fn offset(&mut self) -> Option<Option<i32>> {
        let after_blank = self.0.strip_prefix(b" ");
        let (rest, blank) = (after_blank.unwrap_or(self.0), after_blank.is_some());
        match rest {
            [b'Z' | b'z', rest @ ..] => {
                self.0 = rest;
                Some(Some(0))
            }
            [b'U', b'T', b'C', rest @ ..] if blank => {
                self.0 = rest;
                Some(Some(0))
            }
            [b'+' | b'-', ..] => {
                self.0 = rest;
                self.signed_offset().map(Some)
            }
            _ => Some(None),
        }
    }

    /// `+HH`, `+HHMM`, `+HH:MM` or `+HH:MM:SS`, or with `-`, in seconds east of Greenwich.
    pub(super) fn signed_offset(&mut self) -> Option<i32> {
        let west = self.eat(b'-');
        if !west {
            self.expect(b'+')?;
        }
        let mut seconds = self.two_digits_to(MAX_OFFSET_HOURS)? * 3600;
        if self.eat(b':') {
            seconds += self.two_digits_to(59)? * 60;
            if self.eat(b':') {
                seconds += self.two_digits_to(59)?;
            }
        } else if self.0.first().is_some_and(u8::is_ascii_digit) {
            seconds += self.two_digits_to(59)? * 60;
        }
        i32::try_from(if west { -seconds } else { seconds }).ok()
    }

    fn two_digits_to(&mut self, highest: i64) -> Option<i64> {
        self.number::<2>().filter(|value| *value <= highest)
    }

    /// Exactly `N` digits; `N` is at most 6, so the value is far from any limit.
    fn number<const N: usize>(&mut self) -> Option<i64> {
        let (digits, rest) = self.0.split_first_chunk::<N>()?;
        let mut value = 0;
        for byte in digits {
            if !byte.is_ascii_digit() {
                return None;
            }
            value = value * 10 + i64::from(byte - b'0');
        }
        self.0 = rest;
        Some(value)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }
}

/// Whether a text, without its era, has only characters that PostgreSQL prints.
///
/// ISO 8601 writes years before 0001 and after 9999 with a sign, so nothing writes such a year
/// together with `T`, `,` or `Z`.
fn is_in_postgres_alphabet(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b':' | b'.' | b' '))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{
        any_instant, any_zone_rule, assert_reads, assert_refused, exact, nearest, portable,
    };
    use super::super::{ZoneRule, read_text, read_text_nearest};
    use super::*;

    #[test]
    fn digits_beyond_microseconds_are_refused_or_rounded() {
        for (text, as_postgres) in [
            ("2025-12-31 23:59:59.9999999Z", "2026-01-01 00:00:00+00"),
            ("2025-08-19 12:00:00.1234565Z", "2025-08-19 12:00:00.123457+00"),
            ("2025-08-19 12:00:00.12345649999Z", "2025-08-19 12:00:00.123456+00"),
            ("2025-08-19 12:00:00.00000000000000000001Z", "2025-08-19 12:00:00+00"),
        ] {
            assert_eq!(exact(text, ZoneRule::Refuse), Err(NotInstant::TooFine), "{text}");
            assert_eq!(nearest(text, ZoneRule::Refuse).as_deref(), Ok(as_postgres), "{text}");
        }
    }

    #[test]
    fn second_60_and_hour_24_carry_over() {
        assert_reads("2016-12-31T23:59:60Z", ZoneRule::Refuse, "2017-01-01 00:00:00+00");
        assert_reads("2016-12-31T23:58:60.5Z", ZoneRule::Refuse, "2016-12-31 23:59:00.5+00");
        assert_reads("2025-02-28T24:00:00Z", ZoneRule::Refuse, "2025-03-01 00:00:00+00");
        assert_reads("2025-12-31 24:00", ZoneRule::Utc, "2026-01-01 00:00:00+00");
        assert_reads("2025-12-31 24:00:00.000000", ZoneRule::Utc, "2026-01-01 00:00:00+00");
        for text in [
            "24:00:01",
            "24:01:00",
            "24:00:60",
            "24:00:00.1",
            "24:00:00.0000001",
            "23:59:61",
            "23:60:00",
        ] {
            assert_refused(&format!("2025-12-31 {text}Z"), NotInstant::Unreadable);
        }
    }

    #[test]
    fn instants_beyond_postgres_are_out_of_range() {
        for text in [
            "294277-01-01 00:00:00+00",
            "294276-12-31 23:59:59.999999-00:00:01",
            "999999-12-31 23:59:59+00",
            "4714-11-23 23:59:59.999999+00 BC",
            "4714-11-24 00:00:00+01 BC",
            "9999-01-01 00:00:00+00 BC",
        ] {
            assert_refused(text, NotInstant::OutOfRange);
        }
        let last = "294276-12-31 23:59:59.9999995+00";
        assert_eq!(exact(last, ZoneRule::Refuse), Err(NotInstant::TooFine));
        assert_eq!(nearest(last, ZoneRule::Refuse), Err(NotInstant::OutOfRange));
        for seconds in [i32::MIN, i32::MAX] {
            assert!(exact("2025-08-19 12:00:00", ZoneRule::Fixed(seconds)).is_ok());
        }
    }

    /// Texts that people and programs write and that are no instants.
    #[rustfmt::skip] // one text per line would hide the rest of the file
    const UNREADABLE: &[&str] = &[
        "", " ", "now", "today", "yesterday", "epoch", "None", "null", "NaN", "1755604800",
        "1755604800.5", "20250819", "2025", "2025-08-19", "2025-08-19T", "2025-08-19 12",
        "2025-08-19T1200", "20250819T120000Z", "2025-W34-2T12:00:00Z", "2025-231T12:00:00Z",
        "12:00:00", "2025-08-19 12:00:00 PM", "08/19/2025 12:00:00", "Aug 19 12:00:00 2025",
        "19-08-2025 12:00:00", "2025/08/19 12:00:00", "2025-8-19 12:00:00", "2025-08-19 1:00:00",
        "2025-08-19  12:00:00", "2025-08-19_12:00:00", " 2025-08-19 12:00:00",
        "2025-08-19 12:00:00 ", "2025-08-19 12:00:00Z ", "2025-08-19 12:00:00\n",
        "2025-08-19 12:00:00\0", "2025-08-19 12:00:00.", "2025-08-19 12:00:00.Z",
        "2025-08-19 12:00.5", "2025-08-19 12:00:00  Z", "2025-08-19 12:00:00UTC",
        "2025-08-19 12:00:00 utc", "2025-08-19 12:00:00 PST", "2025-08-19 12:00:00 GMT",
        "2025-08-19 12:00:00+", "2025-08-19 12:00:00+2", "2025-08-19 12:00:00+02:0",
        "2025-08-19 12:00:00+02:60", "2025-08-19 12:00:00+020000", "2025-08-19 12:00:00+0200:00",
        "2025-08-19 12:00:00+16", "2025-08-19 12:00:00-24:00", "2025-08-19 12:00:00\u{2212}08:00",
        "2025-08-19 12:00:00+00+00", "2025-08-19T12:00:00Z[Europe/Berlin]",
        "0000-01-01 00:00:00Z", "0000-01-01 00:00:00+00 BC", "-0044-03-15 12:00:00+00",
        "+2025-08-19 12:00:00Z", "2025-00-19 12:00:00Z", "2025-13-19 12:00:00Z",
        "2025-08-00 12:00:00Z", "2025-08-32 12:00:00Z", "2025-02-29 12:00:00Z",
        "2025-02-30 12:00:00Z", "1900-02-29 12:00:00Z", "0002-02-29 12:00:00+00 BC",
        "2025-04-31 12:00:00Z", "2025-08-19 25:00:00Z", "02025-08-19 12:00:00+00",
        "002025-08-19 12:00:00+00", "1000000-08-19 12:00:00+00", "025-08-19 12:00:00Z",
        "12025-08-19T12:00:00Z", "0044-03-15T12:00:00Z BC", "0044-03-15 12:00:00+00 bc",
        "0044-03-15 12:00:00+00BC", "0044-03-15 12:00:00+00 AD", "Infinity", "INFINITY",
        "+infinity", "infinity ", "inf", "-Infinity", "\u{662}\u{660}25-08-19 12:00:00",
    ];

    #[test]
    fn other_texts_are_unreadable() {
        for text in UNREADABLE {
            assert_refused(text, NotInstant::Unreadable);
        }
    }

    #[test]
    fn the_portable_form_holds_years_1_to_9999() {
        let first = Instant::read_portable(b"0001-01-01T00:00:00.000000Z").unwrap();
        let last = Instant::read_portable(b"9999-12-31T23:59:59.999999Z").unwrap();
        assert_eq!(portable(first).as_deref(), Some("0001-01-01T00:00:00.000000Z"));
        assert_eq!(portable(last).as_deref(), Some("9999-12-31T23:59:59.999999Z"));
        for beyond in [
            Instant(first.0 - 1),
            Instant(last.0 + 1),
            Instant::MIN,
            Instant::MAX,
            Instant::INFINITY,
            Instant::NEG_INFINITY,
        ] {
            assert_eq!(portable(beyond), None);
        }
        for text in [
            "",
            "infinity",
            "0000-01-01T00:00:00.000000Z",
            "2025-02-29T00:00:00.000000Z",
            "2025-08-19T12:00:00Z",
            "2025-08-19 12:00:00.000000Z",
            "2025-08-19T12:00:00.000000z",
            "2025-08-19T12:00:00.000000",
            "2025-08-19T12:00:60.000000Z",
            "2025-08-19T24:00:00.000000Z",
            "2025-08-19T12:00:00,000000Z",
            "2025-08-19T12:00:00.0000000Z",
            "2025-08-19T12:00:00.000000Z ",
            "10000-01-01T00:00:00.000000Z",
            "2025-08-19T12:00:00.000000+00:00",
        ] {
            assert_eq!(Instant::read_portable(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn portable_texts_read_back(instant in any_instant()) {
            if let Some(text) = portable(instant) {
                prop_assert_eq!(text.len(), 27);
                prop_assert_eq!(Instant::read_portable(text.as_bytes()), Some(instant));
                prop_assert_eq!(read_text(text.as_bytes(), ZoneRule::Refuse), Ok(instant));
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(
            bytes: Vec<u8>,
            zone_rule in any_zone_rule(),
        ) {
            let _ = read_text(&bytes, zone_rule);
            let _ = Instant::read_portable(&bytes);
            let _ = Instant::read_postgres(&bytes);
        }

        #[test]
        fn exact_readings_are_also_the_nearest(
            text in concat!(
                "[0-9]{4,6}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9]",
                "(\\.[0-9]{1,9})?([+-][01][0-9])?( BC)?",
            ),
            zone_rule in any_zone_rule(),
        ) {
            let strict = read_text(text.as_bytes(), zone_rule);
            let near = read_text_nearest(text.as_bytes(), zone_rule);
            if let Ok(instant) = strict {
                prop_assert!((Instant::MIN..=Instant::MAX).contains(&instant));
                prop_assert_eq!(near, strict);
            }
        }
    }
}
