//! Instants: how a time text becomes PostgreSQL's count of microseconds, and how that count is
//! written again.
//!
//! The calendar is the proleptic Gregorian one, as in PostgreSQL and ISO 8601. Years are
//! astronomical inside (0 is 1 BC). The arithmetic is our own, because the range is PostgreSQL's
//! and the speed matters; only the clock rules of named zones come from `chrono-tz`.

use std::fmt;

#[cfg(feature = "zones")]
use chrono::{DateTime, LocalResult, Offset, TimeZone};
#[cfg(feature = "zones")]
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// Days from 1970-01-01, where Unix and `chrono` count from, to 2000-01-01, where PostgreSQL does.
const DAYS_1970_TO_2000: i64 = 10_957;
/// Days from 0000-03-01, the start of a 400-year cycle that ends with its leap day, to 2000-01-01.
const DAYS_YEAR_0_TO_2000: i64 = 719_468 + DAYS_1970_TO_2000;
/// Days of the 400 years after which the Gregorian calendar repeats.
const DAYS_PER_CYCLE: i64 = 146_097;
/// PostgreSQL refuses offsets of 16 hours and more (`MAX_TZDISP_HOUR` in its
/// `datatype/timestamp.h`).
const MAX_OFFSET_HOURS: i64 = 15;

/// An instant as PostgreSQL's `timestamptz` keeps it: microseconds since 2000-01-01T00:00:00Z.
///
/// `i64::MAX` is `infinity`, `i64::MIN` is `-infinity`; the order is the order in time. Finite
/// counts beyond [`Instant::MIN`] and [`Instant::MAX`] do not occur in PostgreSQL and are never the
/// result of reading.
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

    /// Appends `YYYY-MM-DDTHH:MM:SS.ffffffZ` (always six digits) and returns true if the year is
    /// 0001 to 9999; otherwise appends nothing and returns false.
    pub fn write_portable(self, out: &mut Vec<u8>) -> bool {
        let face = Face::of(self);
        // The infinite instants need no question of their own: their counts lie far beyond year
        // 9999.
        if !(1..=9999).contains(&face.year) {
            return false;
        }
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        fill(&mut text[..4], face.year);
        text[4..26].copy_from_slice(&face.after_year(b'T'));
        out.extend_from_slice(&text);
        true
    }

    /// Reads exactly what [`Instant::write_portable`] writes: 27 bytes, a real date, hours to 23,
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

    /// Appends PostgreSQL's text of the instant under `DateStyle=ISO` and `TimeZone=UTC`.
    ///
    /// `2025-08-19 12:00:00.5+00`, `0044-03-15 12:00:00+00 BC`, `294276-12-31 23:59:59.999999+00`,
    /// `infinity`, `-infinity`: at least four digits of year, no fraction if it is zero, no
    /// trailing zeros in it.
    pub fn write_postgres(self, out: &mut Vec<u8>) {
        match self {
            Instant::INFINITY => return out.extend_from_slice(b"infinity"),
            Instant::NEG_INFINITY => return out.extend_from_slice(b"-infinity"),
            _ => {}
        }
        let face = Face::of(self);
        let before_christ = face.year < 1;
        let mut digits = [0; 6];
        fill(&mut digits, if before_christ { 1 - face.year } else { face.year });
        out.extend_from_slice(without_zeros_before_the_last_four(&digits));
        out.extend_from_slice(without_zero_fraction(&face.after_year(b' ')));
        out.extend_from_slice(if before_christ { b"+00 BC" } else { b"+00" });
    }

    /// Reads exactly what [`Instant::write_postgres`] writes for a value in PostgreSQL's range.
    pub fn read_postgres(text: &[u8]) -> Option<Instant> {
        let instant = read_text(text, ZoneRule::Refuse).ok()?;
        // Other spellings of the same instant read as well; only the one PostgreSQL prints comes
        // out again.
        let mut printed = Vec::with_capacity(40);
        instant.write_postgres(&mut printed);
        (printed == text).then_some(instant)
    }
}

/// How a text without an offset is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ZoneRule {
    /// Not at all: nobody said in which zone it was written.
    Refuse,
    /// As UTC.
    Utc,
    /// As the wall clock of a named zone.
    #[cfg(feature = "zones")]
    Zone(Tz),
    /// As the wall clock at a fixed offset, in seconds east of Greenwich.
    Fixed(i32),
}

/// The reading a zone's name asks for: `UTC` and `Z`, IANA names in any case, offsets like `+02:00`
/// or `-0800`.
pub fn parse_zone(name: &str) -> Option<ZoneRule> {
    if name.eq_ignore_ascii_case("UTC") || name.eq_ignore_ascii_case("Z") {
        return Some(ZoneRule::Utc);
    }
    let mut rest = Scanner(name.as_bytes());
    if let Some(seconds) = rest.signed_offset() {
        return rest.0.is_empty().then_some(ZoneRule::Fixed(seconds));
    }
    named_zone(name)
}

#[cfg(feature = "zones")]
fn named_zone(name: &str) -> Option<ZoneRule> {
    TZ_VARIANTS
        .iter()
        .find(|zone| zone.name().eq_ignore_ascii_case(name))
        .copied()
        .map(ZoneRule::Zone)
}

#[cfg(not(feature = "zones"))]
fn named_zone(_: &str) -> Option<ZoneRule> {
    None
}

/// The offset, in seconds east of Greenwich, at which a local time without a zone is an instant; None
/// if the text is none, or no offset makes it this instant.
pub fn offset_at(text: &[u8], instant: Instant) -> Option<i32> {
    if read_text(text, ZoneRule::Refuse) != Err(NotInstant::NoZone) {
        return None;
    }
    let ahead = read_text_nearest(text, ZoneRule::Utc).ok()?.0.checked_sub(instant.0)?;
    let seconds = i32::try_from(ahead / MICROS_PER_SECOND).ok()?;
    let plain = ahead % MICROS_PER_SECOND == 0 && read_offset(&offset_text(seconds)).is_some();
    plain.then_some(seconds)
}

/// An offset as `+HH:MM`, with `:SS` behind it where there are seconds.
pub fn offset_text(seconds: i32) -> String {
    let (sign, east) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let text = format!("{sign}{:02}:{:02}", east / 3600, east / 60 % 60);
    if east % 60 == 0 { text } else { format!("{text}:{:02}", east % 60) }
}

/// Reads exactly what [`offset_text`] writes, up to 15:59:59 on either side.
pub fn read_offset(text: &str) -> Option<i32> {
    let mut rest = Scanner(text.as_bytes());
    rest.signed_offset().filter(|seconds| rest.0.is_empty() && offset_text(*seconds) == text)
}

/// Why a text is no instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInstant {
    /// It reads as a local time, but nobody said in which zone.
    NoZone,
    /// A local time that the zone skips (clocks forward).
    Gap,
    /// A local time that occurs twice in the zone (clocks back).
    Overlap,
    /// It is finer than microseconds: non-zero digits beyond the sixth.
    TooFine,
    /// It is beyond PostgreSQL's range, [`Instant::MIN`] to [`Instant::MAX`].
    OutOfRange,
    /// Anything else: `''`, `now`, `None`, numbers, dates without a time, 30 February, year 0.
    Unreadable,
}

impl fmt::Display for NotInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotInstant::NoZone => "a local time without a zone",
            NotInstant::Gap => "a local time that the zone skips",
            NotInstant::Overlap => "a local time that occurs twice in the zone",
            NotInstant::TooFine => "a time finer than microseconds",
            NotInstant::OutOfRange => "a time beyond the range of timestamptz",
            NotInstant::Unreadable => "not a date and time",
        })
    }
}

impl std::error::Error for NotInstant {}

/// Reads a time text as databases of Chronicle hold them; a text without an offset is read as
/// `zone_rule` says.
///
/// Accepted are `YYYY-MM-DD`, then `T`, `t` or one blank, then `HH:MM`, optionally `:SS`,
/// optionally `.` or `,` and digits; then optionally, after at most one blank, `Z`, `z`, `+HH`,
/// `+HHMM`, `+HH:MM`, `+HH:MM:SS` (or with `-`), or ` UTC`. Also what PostgreSQL prints beyond
/// that: years of five and six digits, ` BC`, `infinity` and `-infinity`. Second 60 is the start of
/// the next minute and 24:00:00 the start of the next day, as in PostgreSQL.
///
/// PostgreSQL itself reads far more (`now`, `yesterday`, `20250819`, `Aug 19 2025`, a bare date).
/// Here those are [`NotInstant::Unreadable`]: what such a text means depends on when and by whom it
/// is read.
pub fn read_text(text: &[u8], zone_rule: ZoneRule) -> Result<Instant, NotInstant> {
    read(text, zone_rule, Strictness::Exact)
}

/// The same, but never fails where a nearest reading exists.
///
/// What is finer than a microsecond is rounded half up, a local time that occurs twice is the
/// earlier of the two instants, and one that the zone skips is read with the offset in force before
/// the gap.
pub fn read_text_nearest(text: &[u8], zone_rule: ZoneRule) -> Result<Instant, NotInstant> {
    read(text, zone_rule, Strictness::Nearest)
}

/// The same, but gives the microsecond that the time lies in: what is finer is cut off, so that no
/// time passes a border that it stands before.
pub fn read_text_floor(text: &[u8], zone_rule: ZoneRule) -> Result<Instant, NotInstant> {
    read(text, zone_rule, Strictness::Floor)
}

/// What to do with a text that names no single microsecond.
#[derive(Clone, Copy, PartialEq)]
enum Strictness {
    Exact,
    Nearest,
    Floor,
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
        None => offset_of_naive(written.local, zone_rule, strictness)?,
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

/// The offset, in seconds east, at which a local time (in seconds since 2000-01-01T00:00:00) is to
/// be read.
fn offset_of_naive(
    #[cfg_attr(not(feature = "zones"), allow(unused_variables))] local: i64,
    zone_rule: ZoneRule,
    #[cfg_attr(not(feature = "zones"), allow(unused_variables))] strictness: Strictness,
) -> Result<i32, NotInstant> {
    match zone_rule {
        ZoneRule::Refuse => Err(NotInstant::NoZone),
        ZoneRule::Utc => Ok(0),
        ZoneRule::Fixed(seconds) => Ok(seconds),
        #[cfg(feature = "zones")]
        ZoneRule::Zone(zone) => offset_in_zone(local, zone, strictness),
    }
}

#[cfg(feature = "zones")]
fn offset_in_zone(local: i64, zone: Tz, strictness: Strictness) -> Result<i32, NotInstant> {
    let unix = with_known_rules(local) + DAYS_1970_TO_2000 * SECONDS_PER_DAY;
    let clock = DateTime::from_timestamp(unix, 0).ok_or(NotInstant::OutOfRange)?.naive_utc();
    let offset = match (zone.offset_from_local_datetime(&clock), strictness) {
        (LocalResult::Single(only), _) => Some(only),
        (LocalResult::Ambiguous(..), Strictness::Exact) => return Err(NotInstant::Overlap),
        (LocalResult::Ambiguous(earlier, _), _) => Some(earlier),
        (LocalResult::None, Strictness::Exact) => None,
        (LocalResult::None, _) => {
            GapInfo::new(&clock, &zone).and_then(|gap| gap.begin).map(|(_, before)| before)
        }
    };
    offset.map(|offset| offset.fix().local_minus_utc()).ok_or(NotInstant::Gap)
}

/// The last year of `chrono-tz`'s tables, which list every change of the clocks one by one.
#[cfg(feature = "zones")]
const LAST_YEAR_OF_ZONES: i64 = 2099;

/// The local time itself, or past the zone tables the same day and time in a year of the same
/// shape.
///
/// Without this every summer after the tables would silently be read an hour off. The rules for
/// the future are of the kind "last Sunday of March", so they fall alike in two years that begin
/// on the same weekday and are both leap years or both not; any 28 years in a row without a missing
/// leap day hold every such shape. (Only Morocco, whose clocks follow Ramadan in the tables up to
/// 2087, gets a guess where its rule is unknown anyway.)
#[cfg(feature = "zones")]
fn with_known_rules(local: i64) -> i64 {
    let year = civil_from_days(local.div_euclid(SECONDS_PER_DAY)).year;
    if year <= LAST_YEAR_OF_ZONES {
        return local;
    }
    let new_year = days_from_civil(year, 1, 1);
    let same_shape = |known: &i64| {
        is_leap(*known) == is_leap(year) && (new_year - days_from_civil(*known, 1, 1)) % 7 == 0
    };
    let known =
        (LAST_YEAR_OF_ZONES - 27..=LAST_YEAR_OF_ZONES).rev().find(same_shape).unwrap_or(year);
    local - (new_year - days_from_civil(known, 1, 1)) * SECONDS_PER_DAY
}

/// A date and time as written, before anything depends on a zone or on precision.
struct Written {
    /// Seconds since 2000-01-01T00:00:00 on the writer's clock.
    local: i64,
    fraction: Fraction,
    /// Seconds east of Greenwich, if the text says so.
    offset: Option<i32>,
}

/// The digits after the second.
#[derive(Clone, Copy, Default)]
struct Fraction {
    /// The first six, as a number of microseconds.
    micros: i64,
    /// Whether a non-zero digit follows them.
    finer: bool,
    /// Whether the seventh digit is 5 or more.
    half_or_more: bool,
}

impl Fraction {
    /// Microseconds, 1,000,000 if rounding carries into the next second.
    fn micros(self, strictness: Strictness) -> Result<i64, NotInstant> {
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

/// What is left to read. Every method takes what it reads off the front; `None` is a text of
/// another form.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// The whole text as a date and a time, or `None`.
    fn written(mut self) -> Option<Written> {
        // The era stands last, but decides already which dates are real.
        let without_era = self.0.strip_suffix(b" BC");
        let before_christ = without_era.is_some();
        let text = without_era.unwrap_or(self.0);
        self.0 = text;
        let year = self.year()?;
        if (before_christ || year > 9999) && !has_only_characters_of_postgres(text) {
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

    /// The offset if there is one; the inner `None` is a text that goes on without it.
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
    fn signed_offset(&mut self) -> Option<i32> {
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

/// Whether a text without its era could be PostgreSQL's output as far as its characters tell.
///
/// ISO 8601 writes years before 0001 and after 9999 with a sign, so with them `T`, `,` and `Z` are
/// nobody's.
fn has_only_characters_of_postgres(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b':' | b'.' | b' '))
}

/// An instant as calendar and clock show it in UTC.
struct Face {
    year: i64,
    month: i64,
    day: i64,
    micros_of_day: i64,
}

impl Face {
    fn of(instant: Instant) -> Face {
        let Civil { year, month, day } = civil_from_days(instant.0.div_euclid(MICROS_PER_DAY));
        Face { year, month, day, micros_of_day: instant.0.rem_euclid(MICROS_PER_DAY) }
    }

    /// `-MM-DD`, the separator, `HH:MM:SS.ffffff`.
    fn after_year(&self, separator: u8) -> [u8; 22] {
        let seconds = self.micros_of_day / MICROS_PER_SECOND;
        let mut text = *b"-00-00 00:00:00.000000";
        fill(&mut text[1..3], self.month);
        fill(&mut text[4..6], self.day);
        text[6] = separator;
        fill(&mut text[7..9], seconds / 3600);
        fill(&mut text[10..12], seconds / 60 % 60);
        fill(&mut text[13..15], seconds % 60);
        fill(&mut text[16..22], self.micros_of_day % MICROS_PER_SECOND);
        text
    }
}

/// Writes the last decimal digits of a value that is not negative, as many as there is room for.
fn fill(digits: &mut [u8], mut value: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10).unsigned_abs() as u8;
        value /= 10;
    }
}

fn without_zeros_before_the_last_four(mut digits: &[u8]) -> &[u8] {
    while digits.len() > 4
        && let [b'0', rest @ ..] = digits
    {
        digits = rest;
    }
    digits
}

/// A text that ends in a point and digits, without the zeros at its end, and without the point if
/// only zeros follow it.
fn without_zero_fraction(mut text: &[u8]) -> &[u8] {
    while let [shorter @ .., b'0'] = text {
        text = shorter;
    }
    text.strip_suffix(b".").unwrap_or(text)
}

/// A date with its astronomical year.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
}

// The two conversions are Howard Hinnant's `days_from_civil` and `civil_from_days`: years are
// counted from March so that the leap day is the last day of its year, and the months from March
// have the lengths that (153 * month + 2) / 5 adds up. Years and days stay within some 300,000
// years, so nothing here can overflow.

/// Days from 2000-01-01 to a real date.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * DAYS_PER_CYCLE + day_of_cycle - DAYS_YEAR_0_TO_2000
}

/// The date so many days after 2000-01-01.
fn civil_from_days(days: i64) -> Civil {
    let days = days + DAYS_YEAR_0_TO_2000;
    let cycle = days.div_euclid(DAYS_PER_CYCLE);
    let day_of_cycle = days.rem_euclid(DAYS_PER_CYCLE);
    // Taking out the leap days (one in 1,461 days, none in 36,524, one in 146,096) leaves years of
    // 365 days.
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    Civil { year, month, day }
}

/// Whether a text is a real date of the years 0001 to 9999 in the form `YYYY-MM-DD`.
pub(crate) fn is_date(text: &[u8]) -> bool {
    let shaped = text.len() == 10
        && text.iter().enumerate().all(|(n, byte)| match n {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    shaped && {
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        year > 0 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day)
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use chrono::{NaiveDate, SecondsFormat};
    use proptest::prelude::*;

    const LOS_ANGELES: ZoneRule = ZoneRule::Zone(Tz::America__Los_Angeles);
    const BERLIN: ZoneRule = ZoneRule::Zone(Tz::Europe__Berlin);

    fn portable(instant: Instant) -> Option<String> {
        let mut out = b"kept ".to_vec();
        let written = instant.write_portable(&mut out);
        let text = String::from_utf8(out).unwrap().strip_prefix("kept ").unwrap().to_owned();
        assert_eq!(written, !text.is_empty(), "appends if and only if it says so");
        written.then_some(text)
    }

    fn postgres(instant: Instant) -> String {
        let mut out = Vec::new();
        instant.write_postgres(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The exact reading as PostgreSQL would print it, or the reason.
    fn exact(text: &str, zone_rule: ZoneRule) -> Result<String, NotInstant> {
        read_text(text.as_bytes(), zone_rule).map(postgres)
    }

    fn nearest(text: &str, zone_rule: ZoneRule) -> Result<String, NotInstant> {
        read_text_nearest(text.as_bytes(), zone_rule).map(postgres)
    }

    /// Both readings take the text for the instant that PostgreSQL prints so.
    fn assert_reads(text: &str, zone_rule: ZoneRule, as_postgres: &str) {
        assert_eq!(exact(text, zone_rule).as_deref(), Ok(as_postgres), "{text:?} {zone_rule:?}");
        assert_eq!(
            nearest(text, zone_rule).as_deref(),
            Ok(as_postgres),
            "{text:?} {zone_rule:?}, nearest"
        );
    }

    /// Neither reading takes the text, whatever the zone.
    fn assert_refused(text: &str, why: NotInstant) {
        for zone_rule in [ZoneRule::Refuse, ZoneRule::Utc, LOS_ANGELES, ZoneRule::Fixed(3600)] {
            assert_eq!(exact(text, zone_rule), Err(why), "{text:?} {zone_rule:?}");
            assert_eq!(nearest(text, zone_rule), Err(why), "{text:?} {zone_rule:?}, nearest");
        }
    }

    #[test]
    fn an_offset_and_the_text_before_it_are_the_instant() {
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
            // beside it by less than a second, by two days, and by all that there is
            for other in [instant.0 + 1, instant.0 - 172_800_000_000, i64::MIN, i64::MAX] {
                assert_eq!(offset_at(text.as_bytes(), Instant(other)), None, "{text}");
            }
            assert_eq!(offset_at(with_zone.as_bytes(), instant), None);
        }
        for none in ["soon", "", "infinity", "2025-08-19"] {
            assert_eq!(offset_at(none.as_bytes(), Instant(0)), None, "{none}");
        }
        for none in ["Z", "2", "+2:00", "+0200", "-00:00", "+02:00:00", "+16:00", "+02:00 "] {
            assert_eq!(read_offset(none), None, "{none}");
        }
    }

    #[test]
    fn the_limits_are_those_of_postgres() {
        assert_eq!(postgres(Instant(0)), "2000-01-01 00:00:00+00");
        assert_eq!(postgres(Instant::MIN), "4714-11-24 00:00:00+00 BC");
        assert_eq!(postgres(Instant::MAX), "294276-12-31 23:59:59.999999+00");
        assert_eq!(postgres(Instant::INFINITY), "infinity");
        assert_eq!(postgres(Instant::NEG_INFINITY), "-infinity");
        assert!(Instant::NEG_INFINITY < Instant::MIN && Instant::MAX < Instant::INFINITY);
    }

    #[test]
    fn times_with_an_offset_read_the_same_in_every_zone() {
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
            for zone_rule in [ZoneRule::Refuse, ZoneRule::Utc, LOS_ANGELES, ZoneRule::Fixed(-3600)]
            {
                assert_reads(text, zone_rule, as_postgres);
            }
        }
    }

    #[test]
    fn local_times_read_as_the_caller_says_and_not_at_all_if_nobody_says() {
        for text in ["2026-09-08T14:26:21.428210", "2025-08-19 12:00:00", "2025-08-19 12:00"] {
            assert_eq!(exact(text, ZoneRule::Refuse), Err(NotInstant::NoZone));
            assert_eq!(nearest(text, ZoneRule::Refuse), Err(NotInstant::NoZone));
        }
        assert_reads("2026-09-08T14:26:21.428210", ZoneRule::Utc, "2026-09-08 14:26:21.42821+00");
        assert_reads("2026-09-08T14:26:21.428210", LOS_ANGELES, "2026-09-08 21:26:21.42821+00");
        assert_reads("2025-08-19 12:00:00", ZoneRule::Fixed(19_800), "2025-08-19 06:30:00+00");
        assert_reads("2025-08-19 12:00:00", BERLIN, "2025-08-19 10:00:00+00");
        assert_reads("2025-01-19 12:00:00", BERLIN, "2025-01-19 11:00:00+00");
        assert_reads("1800-01-01 00:00:00", BERLIN, "1799-12-31 23:06:32+00");
        assert_reads("0044-03-15 12:00:00 BC", ZoneRule::Utc, "0044-03-15 12:00:00+00 BC");
    }

    #[test]
    fn a_local_time_the_zone_skips_is_refused_or_read_with_the_offset_before_the_gap() {
        for (text, zone_rule, as_postgres) in [
            ("2026-03-08T02:30:00", LOS_ANGELES, "2026-03-08 10:30:00+00"),
            ("2026-03-08 02:00:00", LOS_ANGELES, "2026-03-08 10:00:00+00"),
            ("2026-03-08 02:59:59.999999", LOS_ANGELES, "2026-03-08 10:59:59.999999+00"),
            ("2026-03-29 02:30:00", BERLIN, "2026-03-29 01:30:00+00"),
            // a whole day, when Samoa changed sides of the date line
            ("2011-12-30 12:00:00", ZoneRule::Zone(Tz::Pacific__Apia), "2011-12-30 22:00:00+00"),
        ] {
            assert_eq!(exact(text, zone_rule), Err(NotInstant::Gap), "{text}");
            assert_eq!(nearest(text, zone_rule).as_deref(), Ok(as_postgres), "{text}");
        }
        assert_reads("2026-03-08 01:59:59.999999", LOS_ANGELES, "2026-03-08 09:59:59.999999+00");
        assert_reads("2026-03-08 03:00:00", LOS_ANGELES, "2026-03-08 10:00:00+00");
    }

    #[test]
    fn a_local_time_that_occurs_twice_is_refused_or_the_earlier_instant() {
        for (text, zone_rule, as_postgres) in [
            ("2026-11-01T01:00:00", LOS_ANGELES, "2026-11-01 08:00:00+00"),
            ("2026-11-01T01:59:59.999999", LOS_ANGELES, "2026-11-01 08:59:59.999999+00"),
            ("2026-10-25 02:30:00", BERLIN, "2026-10-25 00:30:00+00"),
        ] {
            assert_eq!(exact(text, zone_rule), Err(NotInstant::Overlap), "{text}");
            assert_eq!(nearest(text, zone_rule).as_deref(), Ok(as_postgres), "{text}");
        }
        assert_reads("2026-11-01 00:59:59", LOS_ANGELES, "2026-11-01 07:59:59+00");
        assert_reads("2026-11-01 02:00:00", LOS_ANGELES, "2026-11-01 10:00:00+00");
    }

    #[test]
    fn summers_after_the_zone_tables_are_still_summers() {
        for year in 2100..=2500 {
            assert_reads(
                &format!("{year}-07-01 12:00:00"),
                LOS_ANGELES,
                &format!("{year}-07-01 19:00:00+00"),
            );
            assert_reads(
                &format!("{year}-01-01 12:00:00"),
                LOS_ANGELES,
                &format!("{year}-01-01 20:00:00+00"),
            );
        }
        let sydney = ZoneRule::Zone(Tz::Australia__Sydney);
        assert_reads("9999-12-31 23:59:59", sydney, "9999-12-31 12:59:59+00");
        // 2100-03-14 is the second Sunday of its March
        assert_eq!(exact("2100-03-14 02:30:00", LOS_ANGELES), Err(NotInstant::Gap));
        assert_eq!(exact("294277-01-01 00:00:00", LOS_ANGELES), Err(NotInstant::OutOfRange));
    }

    #[test]
    fn digits_beyond_microseconds_are_refused_or_rounded_half_up() {
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
    fn second_60_and_24_o_clock_belong_to_the_next_minute_and_day() {
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

    #[test]
    fn everything_else_is_unreadable() {
        for text in [
            "",
            " ",
            "now",
            "today",
            "yesterday",
            "epoch",
            "None",
            "null",
            "NaN",
            "1755604800",
            "1755604800.5",
            "20250819",
            "2025",
            "2025-08-19",
            "2025-08-19T",
            "2025-08-19 12",
            "2025-08-19T1200",
            "20250819T120000Z",
            "2025-W34-2T12:00:00Z",
            "2025-231T12:00:00Z",
            "12:00:00",
            "2025-08-19 12:00:00 PM",
            "08/19/2025 12:00:00",
            "Aug 19 12:00:00 2025",
            "19-08-2025 12:00:00",
            "2025/08/19 12:00:00",
            "2025-8-19 12:00:00",
            "2025-08-19 1:00:00",
            "2025-08-19  12:00:00",
            "2025-08-19_12:00:00",
            " 2025-08-19 12:00:00",
            "2025-08-19 12:00:00 ",
            "2025-08-19 12:00:00Z ",
            "2025-08-19 12:00:00\n",
            "2025-08-19 12:00:00\0",
            "2025-08-19 12:00:00.",
            "2025-08-19 12:00:00.Z",
            "2025-08-19 12:00.5",
            "2025-08-19 12:00:00  Z",
            "2025-08-19 12:00:00UTC",
            "2025-08-19 12:00:00 utc",
            "2025-08-19 12:00:00 PST",
            "2025-08-19 12:00:00 GMT",
            "2025-08-19 12:00:00+",
            "2025-08-19 12:00:00+2",
            "2025-08-19 12:00:00+02:0",
            "2025-08-19 12:00:00+02:60",
            "2025-08-19 12:00:00+020000",
            "2025-08-19 12:00:00+0200:00",
            "2025-08-19 12:00:00+16",
            "2025-08-19 12:00:00-24:00",
            "2025-08-19 12:00:00\u{2212}08:00",
            "2025-08-19 12:00:00+00+00",
            "2025-08-19T12:00:00Z[Europe/Berlin]",
            "0000-01-01 00:00:00Z",
            "0000-01-01 00:00:00+00 BC",
            "-0044-03-15 12:00:00+00",
            "+2025-08-19 12:00:00Z",
            "2025-00-19 12:00:00Z",
            "2025-13-19 12:00:00Z",
            "2025-08-00 12:00:00Z",
            "2025-08-32 12:00:00Z",
            "2025-02-29 12:00:00Z",
            "2025-02-30 12:00:00Z",
            "1900-02-29 12:00:00Z",
            "0002-02-29 12:00:00+00 BC",
            "2025-04-31 12:00:00Z",
            "2025-08-19 25:00:00Z",
            "02025-08-19 12:00:00+00",
            "002025-08-19 12:00:00+00",
            "1000000-08-19 12:00:00+00",
            "025-08-19 12:00:00Z",
            "12025-08-19T12:00:00Z",
            "0044-03-15T12:00:00Z BC",
            "0044-03-15 12:00:00+00 bc",
            "0044-03-15 12:00:00+00BC",
            "0044-03-15 12:00:00+00 AD",
            "Infinity",
            "INFINITY",
            "+infinity",
            "infinity ",
            "inf",
            "-Infinity",
            "\u{662}\u{660}25-08-19 12:00:00",
        ] {
            assert_refused(text, NotInstant::Unreadable);
        }
    }

    #[test]
    fn the_portable_form_holds_the_years_1_to_9999_and_nothing_else() {
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

    #[test]
    fn the_postgres_form_is_read_in_its_own_spelling_only() {
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

    #[test]
    fn a_zone_is_utc_an_iana_name_in_any_case_or_an_offset() {
        for (name, zone_rule) in [
            ("UTC", ZoneRule::Utc),
            ("utc", ZoneRule::Utc),
            ("Z", ZoneRule::Utc),
            ("America/Los_Angeles", LOS_ANGELES),
            ("america/los_angeles", LOS_ANGELES),
            ("EUROPE/BERLIN", BERLIN),
            ("+02:00", ZoneRule::Fixed(7200)),
            ("-0800", ZoneRule::Fixed(-28_800)),
            ("+05", ZoneRule::Fixed(19_800 - 1800)),
            ("-15:59:59", ZoneRule::Fixed(-57_599)),
        ] {
            assert_eq!(parse_zone(name), Some(zone_rule), "{name}");
        }
        for name in [
            "",
            " UTC",
            "Mars/Olympus",
            "02:00",
            "+2",
            "+16",
            "+02:00 ",
            "UTC+2",
            "local",
            "Los_Angeles",
        ] {
            assert_eq!(parse_zone(name), None, "{name:?}");
        }
    }

    /// Any finite instant of PostgreSQL; the years of people, the edges and whole seconds more
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

    fn of_postgres() -> impl Strategy<Value = Instant> {
        prop_oneof![20 => finite(), 1 => Just(Instant::INFINITY), 1 => Just(Instant::NEG_INFINITY)]
    }

    fn zone_rule() -> impl Strategy<Value = ZoneRule> {
        prop_oneof![
            Just(ZoneRule::Refuse),
            Just(ZoneRule::Utc),
            any::<i32>().prop_map(ZoneRule::Fixed),
            proptest::sample::select(&TZ_VARIANTS[..]).prop_map(ZoneRule::Zone),
        ]
    }

    fn chrono_of(instant: Instant) -> DateTime<chrono::Utc> {
        let epoch =
            NaiveDate::from_ymd_opt(2000, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
        DateTime::from_timestamp_micros(epoch.timestamp_micros() + instant.0).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_is_written_portably_reads_back(instant in of_postgres()) {
            if let Some(text) = portable(instant) {
                prop_assert_eq!(text.len(), 27);
                prop_assert_eq!(Instant::read_portable(text.as_bytes()), Some(instant));
                prop_assert_eq!(read_text(text.as_bytes(), ZoneRule::Refuse), Ok(instant));
            }
        }

        #[test]
        fn what_is_written_for_postgres_reads_back(instant in of_postgres(), zone_rule in zone_rule()) {
            let text = postgres(instant);
            prop_assert_eq!(Instant::read_postgres(text.as_bytes()), Some(instant));
            prop_assert_eq!(read_text(text.as_bytes(), zone_rule), Ok(instant));
            prop_assert_eq!(read_text_nearest(text.as_bytes(), zone_rule), Ok(instant));
        }

        #[test]
        fn the_portable_text_is_what_chrono_writes(
            count in -63_082_281_600_000_000..=252_455_615_999_999_999_i64, // the years 1 to 9999
        ) {
            let theirs = chrono_of(Instant(count)).to_rfc3339_opts(SecondsFormat::Micros, true);
            prop_assert_eq!(portable(Instant(count)), Some(theirs));
        }

        #[test]
        fn local_times_read_as_chrono_resolves_them(
            seconds in -3_155_760_000_i64..3_155_673_600, // the years 1900 to 2099
            zone in proptest::sample::select(&TZ_VARIANTS[..]),
        ) {
            let local = chrono_of(Instant(seconds * MICROS_PER_SECOND)).naive_utc();
            let text = local.format("%Y-%m-%dT%H:%M:%S").to_string();
            let ours = read_text(text.as_bytes(), ZoneRule::Zone(zone));
            let ours = ours.map(|instant| chrono_of(instant).naive_utc());
            match zone.from_local_datetime(&local) {
                LocalResult::Single(theirs) => prop_assert_eq!(ours, Ok(theirs.naive_utc())),
                LocalResult::Ambiguous(..) => prop_assert_eq!(ours, Err(NotInstant::Overlap)),
                LocalResult::None => prop_assert_eq!(ours, Err(NotInstant::Gap)),
            }
            prop_assert!(read_text_nearest(text.as_bytes(), ZoneRule::Zone(zone)).is_ok());
        }

        #[test]
        fn a_real_date_reads_if_and_only_if_chrono_knows_it(
            year in 1..=9999_i32,
            month in 0..14_u32,
            day in 0..33_u32,
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T00:00:00.000000Z");
            let theirs = NaiveDate::from_ymd_opt(year, month, day);
            let ours = Instant::read_portable(text.as_bytes());
            prop_assert_eq!(ours.map(|instant| chrono_of(instant).date_naive()), theirs);
            prop_assert_eq!(read_text(text.as_bytes(), ZoneRule::Refuse).ok(), ours);
        }

        #[test]
        fn no_bytes_make_reading_panic_and_no_count_makes_writing_panic(
            bytes: Vec<u8>,
            zone_rule in zone_rule(),
            count: i64,
        ) {
            let _ = read_text(&bytes, zone_rule);
            let _ = Instant::read_portable(&bytes);
            let _ = Instant::read_postgres(&bytes);
            let _ = (portable(Instant(count)), postgres(Instant(count)));
        }

        #[test]
        fn a_text_like_a_time_never_panics_and_both_readings_agree_where_the_exact_one_exists(
            text in concat!(
                "[0-9]{4,6}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9]",
                "(\\.[0-9]{1,9})?([+-][01][0-9])?( BC)?",
            ),
            zone_rule in zone_rule(),
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
