//! Instants: how a text becomes PostgreSQL's count of microseconds, and how that count is written.
//!
//! The calendar is the proleptic Gregorian one, as in PostgreSQL and ISO 8601. Years are
//! astronomical inside (0 is 1 BC). The arithmetic is our own because of PostgreSQL's range, which
//! ends in the year 294276, and for speed; only the clock rules of named zones come from `chrono-tz`.

mod civil;
mod named;
mod parse;
mod write;
mod zone;

pub(crate) use civil::is_date;
pub use named::NamedZone;
pub use parse::NotInstant;
pub use zone::{ZoneRule, offset_text, parse_zone, read_offset};

use parse::{Scanner, Strictness};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;

/// An instant as PostgreSQL's `timestamptz` keeps it: microseconds since 2000-01-01T00:00:00Z.
///
/// `i64::MAX` is `infinity`, `i64::MIN` is `-infinity`; the order is the order in time. Finite
/// counts beyond [`Instant::MIN`] and [`Instant::MAX`] do not occur in PostgreSQL, and no text is
/// read as one.
///
/// ```
/// use chronicle_archive::time::{ZoneRule, read_text};
///
/// let instant = read_text(b"2025-08-19 12:00:00+02", ZoneRule::Refuse)?;
/// let mut text = Vec::new();
/// assert!(instant.write_portable(&mut text));
/// assert_eq!(text, b"2025-08-19T10:00:00.000000Z");
/// # Ok::<(), chronicle_archive::time::NotInstant>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Instant(pub i64);

impl Instant {
    /// Later than every other instant.
    pub const INFINITY: Instant = Instant(i64::MAX);
    /// Earlier than every other instant.
    pub const NEG_INFINITY: Instant = Instant(i64::MIN);
    /// The earliest finite instant of PostgreSQL: 4714-11-24 00:00:00 BC, the start of the Julian
    /// day numbers (`MIN_TIMESTAMP` in its `datatype/timestamp.h`).
    pub const MIN: Instant = Instant(-211_813_488_000_000_000);
    /// The latest finite instant of PostgreSQL: 294276-12-31T23:59:59.999999Z (the last before
    /// `END_TIMESTAMP` in the same file).
    pub const MAX: Instant = Instant(9_223_371_331_199_999_999);

    /// Reads exactly what [`Instant::write_postgres`] writes for a value in PostgreSQL's range.
    pub fn read_postgres(text: &[u8]) -> Option<Instant> {
        let instant = read_text(text, ZoneRule::Refuse).ok()?;
        // Other spellings of the same instant are read as well; only PostgreSQL's is printed again.
        let mut printed = Vec::with_capacity(40);
        instant.write_postgres(&mut printed);
        (printed == text).then_some(instant)
    }
}

/// Reads the text of a date and time; `zone_rule` says how to read one without an offset.
///
/// Accepted are `YYYY-MM-DD`, then `T`, `t` or one blank, then `HH:MM`, optionally `:SS`,
/// optionally `.` or `,` and digits; then optionally, after at most one blank, `Z`, `z`, `+HH`,
/// `+HHMM`, `+HH:MM`, `+HH:MM:SS` (or with `-`), or ` UTC`. Also what PostgreSQL prints beyond
/// that: years of five and six digits, ` BC`, `infinity` and `-infinity`. Second 60 is the start of
/// the next minute and 24:00:00 the start of the next day, as in PostgreSQL.
///
/// PostgreSQL itself reads far more (`now`, `yesterday`, `20250819`, `Aug 19 2025`, a bare date).
/// Here those are [`NotInstant::Unreadable`]: what such a text means depends on when and where it is
/// read.
pub fn read_text(text: &[u8], zone_rule: ZoneRule) -> Result<Instant, NotInstant> {
    read(text, zone_rule, Strictness::Exact)
}

/// Reads like [`read_text`], but takes the nearest instant where the exact one is unknown.
///
/// What is finer than a microsecond is rounded half up, a local time that occurs twice is the
/// earlier of the two instants, and one that the zone skips is read with the offset in force before
/// the gap.
pub fn read_text_nearest(text: &[u8], zone_rule: ZoneRule) -> Result<Instant, NotInstant> {
    read(text, zone_rule, Strictness::Nearest)
}

/// Reads like [`read_text_nearest`], but cuts off what is finer than a microsecond, so that a time
/// before a limit stays before it.
pub fn read_text_floor(text: &[u8], zone_rule: ZoneRule) -> Result<Instant, NotInstant> {
    read(text, zone_rule, Strictness::Floor)
}

/// The offset, in seconds east of Greenwich, at which a local time is an instant; None if the text is
/// not a local time, or no offset makes it this instant.
pub fn offset_at(text: &[u8], instant: Instant) -> Option<i32> {
    if read_text(text, ZoneRule::Refuse) != Err(NotInstant::NoZone) {
        return None;
    }
    let ahead = read_text_nearest(text, ZoneRule::Utc).ok()?.0.checked_sub(instant.0)?;
    let seconds = i32::try_from(ahead / MICROS_PER_SECOND).ok()?;
    let whole = ahead % MICROS_PER_SECOND == 0 && read_offset(&offset_text(seconds)).is_some();
    whole.then_some(seconds)
}

fn read(text: &[u8], zone_rule: ZoneRule, strictness: Strictness) -> Result<Instant, NotInstant> {
    match text {
        b"infinity" => return Ok(Instant::INFINITY),
        b"-infinity" => return Ok(Instant::NEG_INFINITY),
        _ => {}
    }
    let written = Scanner(text).written().ok_or(NotInstant::Unreadable)?;
    let offset = match written.offset {
        Some(offset) => offset,
        None => zone_rule.offset_of(written.local, strictness)?,
    };
    let micros = written.fraction.micros(strictness)?;
    // The local time is at most year 999999 in seconds, so only the step to microseconds can
    // overflow.
    let seconds = written.local - i64::from(offset);
    seconds
        .checked_mul(MICROS_PER_SECOND)
        .and_then(|whole| whole.checked_add(micros))
        .map(Instant)
        .filter(|instant| (Instant::MIN..=Instant::MAX).contains(instant))
        .ok_or(NotInstant::OutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONE_RULES: [ZoneRule; 4] =
        [ZoneRule::Refuse, ZoneRule::Utc, ZoneRule::Fixed(3600), ZoneRule::Fixed(-28_800)];

    pub(super) fn portable(instant: Instant) -> Option<String> {
        let mut out = b"kept ".to_vec();
        let written = instant.write_portable(&mut out);
        let text = String::from_utf8(out).unwrap().strip_prefix("kept ").unwrap().to_owned();
        assert_eq!(written, !text.is_empty(), "appends if and only if it says so");
        written.then_some(text)
    }

    pub(super) fn postgres(instant: Instant) -> String {
        let mut out = Vec::new();
        instant.write_postgres(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The exact reading as PostgreSQL prints it, or the reason for none.
    pub(super) fn exact(text: &str, zone_rule: ZoneRule) -> Result<String, NotInstant> {
        read_text(text.as_bytes(), zone_rule).map(postgres)
    }

    pub(super) fn nearest(text: &str, zone_rule: ZoneRule) -> Result<String, NotInstant> {
        read_text_nearest(text.as_bytes(), zone_rule).map(postgres)
    }

    /// Both readings are the instant that PostgreSQL prints as `as_postgres`.
    pub(super) fn assert_reads(text: &str, zone_rule: ZoneRule, as_postgres: &str) {
        assert_eq!(exact(text, zone_rule).as_deref(), Ok(as_postgres), "{text:?} {zone_rule:?}");
        assert_eq!(
            nearest(text, zone_rule).as_deref(),
            Ok(as_postgres),
            "{text:?} {zone_rule:?}, nearest"
        );
    }

    /// Both readings refuse the text under every zone rule.
    pub(super) fn assert_refused(text: &str, why: NotInstant) {
        for zone_rule in ZONE_RULES {
            assert_eq!(exact(text, zone_rule), Err(why), "{text:?} {zone_rule:?}");
            assert_eq!(nearest(text, zone_rule), Err(why), "{text:?} {zone_rule:?}, nearest");
        }
    }

    /// Any finite instant of PostgreSQL; the years 1 to 9999, the limits and whole seconds more
    /// often.
    fn finite() -> impl Strategy<Value = Instant> {
        let all = Instant::MIN.0..=Instant::MAX.0;
        prop_oneof![
            all.clone().prop_map(Instant),
            (-63_082_281_600_000_000..=252_455_615_999_999_999_i64).prop_map(Instant),
            all.prop_map(|count| Instant(count - count % MICROS_PER_SECOND)),
            (0..3_i64).prop_map(|step| Instant(Instant::MIN.0 + step)),
            (0..3_i64).prop_map(|step| Instant(Instant::MAX.0 - step)),
        ]
    }

    /// Any instant of PostgreSQL, the infinite ones included.
    pub(super) fn any_instant() -> impl Strategy<Value = Instant> {
        prop_oneof![20 => finite(), 1 => Just(Instant::INFINITY), 1 => Just(Instant::NEG_INFINITY)]
    }

    /// Any zone rule but a named zone.
    pub(super) fn any_zone_rule() -> impl Strategy<Value = ZoneRule> {
        prop_oneof![
            Just(ZoneRule::Refuse),
            Just(ZoneRule::Utc),
            any::<i32>().prop_map(ZoneRule::Fixed),
        ]
    }

    #[test]
    fn offset_at_finds_the_offset_of_a_local_time() {
        for (text, offset) in [
            ("2025-08-19T10:00:00.1234567", "+02:00"),
            ("2025-08-19 10:00", "-03:30"),
            ("2025-08-19T24:00:00", "+00:00"),
            ("1890-01-01 00:00:00", "+00:53:28"),
            ("0001-01-01 00:00:00", "-15:59:59"),
        ] {
            let with_zone = format!("{text}{offset}");
            let instant = read_text_nearest(with_zone.as_bytes(), ZoneRule::Refuse).unwrap();
            let found = offset_at(text.as_bytes(), instant).unwrap();
            assert_eq!((offset_text(found).as_str(), read_offset(offset)), (offset, Some(found)));
            // off by less than a second, by two days, and by all there is
            for other in [instant.0 + 1, instant.0 - 172_800_000_000, i64::MIN, i64::MAX] {
                assert_eq!(offset_at(text.as_bytes(), Instant(other)), None, "{text}");
            }
            assert_eq!(offset_at(with_zone.as_bytes(), instant), None);
        }
        for none in ["soon", "", "infinity", "2025-08-19"] {
            assert_eq!(offset_at(none.as_bytes(), Instant(0)), None, "{none}");
        }
    }

    #[test]
    fn times_with_an_offset_ignore_the_zone_rule() {
        let table = [
            ("2025-08-19T10:00:00.123456+00:00", "2025-08-19 10:00:00.123456+00"),
            ("2025-08-19T10:00:00+05:30", "2025-08-19 04:30:00+00"),
            ("2025-08-19T10:00:00Z", "2025-08-19 10:00:00+00"),
            ("2025-08-19t10:00:00z", "2025-08-19 10:00:00+00"),
            ("2025-08-19 10:00:00 UTC", "2025-08-19 10:00:00+00"),
            ("2025-08-19 10:00:00 Z", "2025-08-19 10:00:00+00"),
            ("2025-08-19 10:00:00 +02", "2025-08-19 08:00:00+00"),
            ("2025-08-19 10:00-0800", "2025-08-19 18:00:00+00"),
            ("2025-08-19 10:00:00-00:00", "2025-08-19 10:00:00+00"),
            ("2025-08-19 10:00:00,5+00", "2025-08-19 10:00:00.5+00"),
            ("2025-08-19 10:00:00.120000000000000000000000000000+00", "2025-08-19 10:00:00.12+00"),
            ("1883-11-18 12:03:58-07:52:58", "1883-11-18 19:56:56+00"),
            ("2025-08-19 10:00:00+15:59:59", "2025-08-18 18:00:01+00"),
            ("2024-02-29 00:00:00Z", "2024-02-29 00:00:00+00"),
            ("2000-02-29 00:00:00Z", "2000-02-29 00:00:00+00"),
            ("0001-01-01 00:00:00+00", "0001-01-01 00:00:00+00"),
            ("0001-01-01 00:00:00+01", "0001-12-31 23:00:00+00 BC"),
            ("9999-12-31 23:59:59-01", "10000-01-01 00:59:59+00"),
            ("0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"),
            ("0001-02-29 12:00:00+00 BC", "0001-02-29 12:00:00+00 BC"),
            ("10000-01-01 05:30:00+05:30", "10000-01-01 00:00:00+00"),
            ("294276-12-31 23:59:59.999999+00", "294276-12-31 23:59:59.999999+00"),
            ("294277-01-01 00:59:59.999999+01", "294276-12-31 23:59:59.999999+00"),
            ("4714-11-23 23:00:00-01 BC", "4714-11-24 00:00:00+00 BC"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
        ];
        for (text, as_postgres) in table {
            for zone_rule in ZONE_RULES {
                assert_reads(text, zone_rule, as_postgres);
            }
        }
    }

    #[test]
    fn the_postgres_form_is_read_in_its_own_spelling() {
        for text in [
            "2025-08-19T12:00:00+00",
            "2025-08-19 12:00:00.50+00",
            "2025-08-19 12:00:00.0+00",
            "2025-08-19 12:00:00Z",
            "2025-08-19 12:00:00",
            "2025-08-19 12:00:00+00:00",
            "2025-08-19 12:00:00+01",
            "2025-08-19 12:00:00 +00",
            "2025-08-19 12:00+00",
            "2025-08-19 24:00:00+00",
            "2025-08-19 12:00:60+00",
            "294277-01-01 00:00:00+00",
            "4714-11-23 23:59:59.999999+00 BC",
            "Infinity",
            "",
        ] {
            assert_eq!(Instant::read_postgres(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn postgres_texts_read_back(instant in any_instant(), zone_rule in any_zone_rule()) {
            let text = postgres(instant);
            prop_assert_eq!(Instant::read_postgres(text.as_bytes()), Some(instant));
            prop_assert_eq!(read_text(text.as_bytes(), zone_rule), Ok(instant));
            prop_assert_eq!(read_text_nearest(text.as_bytes(), zone_rule), Ok(instant));
        }
    }
}
