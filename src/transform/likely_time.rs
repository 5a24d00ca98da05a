//! The instant that a value which is not a time of the archive's form most likely means.

use chronicle_archive::Value;
use chronicle_archive::time::{Instant, ZoneRule, read_text_nearest};

/// 1970-01-01T00:00:00Z in seconds, as an [`Instant`] counts.
const UNIX_EPOCH: i64 = -946_684_800;
const MICROS: f64 = 1e6;
/// The Julian day number of 2000-01-01T00:00:00Z.
const JULIAN_2000: f64 = 2_451_544.5;

/// The instant that a value most likely means; none if it may mean any or nothing.
pub(super) fn nearest_instant(zone_rule: ZoneRule, value: Value<'_>) -> Option<Instant> {
    match value {
        Value::Text(text) | Value::Blob(text) => of_text(zone_rule, text),
        Value::Int(number) => {
            of_digits(zone_rule, &number.to_string()).or_else(|| of_count(number as f64))
        }
        Value::Real(number) => of_number(number),
        _ => None,
    }
}

fn of_text(zone_rule: ZoneRule, text: &[u8]) -> Option<Instant> {
    let text = text.trim_ascii();
    if let Ok(instant) = read_text_nearest(text, zone_rule) {
        return Some(instant);
    }
    let text = std::str::from_utf8(text).ok()?;
    if text == "epoch" {
        return Some(Instant(UNIX_EPOCH * 1_000_000));
    }
    if let Some(date) = Date::read(text) {
        return date.instant(zone_rule);
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain).and_then(of_number)
}

/// A date without dashes, of our time: other numbers of eight digits are no dates.
fn of_digits(zone_rule: ZoneRule, digits: &str) -> Option<Instant> {
    let of_our_time = digits.starts_with("19") || digits.starts_with("20");
    Date::read(digits).filter(|_| of_our_time)?.instant(zone_rule)
}

fn of_number(number: f64) -> Option<Instant> {
    of_julian_day(number).or_else(|| of_count(number))
}

/// The instant of a Julian day between 1858 and 2132, as SQLite's `julianday()` gives it.
fn of_julian_day(number: f64) -> Option<Instant> {
    let micros = (number - JULIAN_2000) * 86_400.0 * MICROS;
    (2_400_000.0..2_500_000.0).contains(&number).then(|| Instant(micros.round() as i64))
}

/// The instant of a count of seconds, milliseconds, microseconds or nanoseconds since 1970, whichever
/// puts it between 1973 and 5138: no number is within that range in two units.
fn of_count(number: f64) -> Option<Instant> {
    let micros = match number {
        n if (1e8..1e11).contains(&n) => n * 1e6,
        n if (1e11..1e14).contains(&n) => n * 1e3,
        n if (1e14..1e17).contains(&n) => n,
        n if (1e17..1e20).contains(&n) => n / 1e3,
        _ => return None,
    };
    Some(Instant((micros + UNIX_EPOCH as f64 * MICROS).round() as i64))
}

/// A date that may not exist, and the time behind it.
struct Date<'a> {
    /// Astronomical, as in ISO 8601: 0 is 1 BC.
    year: i64,
    month: &'a str,
    day: u8,
    rest: &'a str,
}

impl Date<'_> {
    /// Reads years of any number of digits with a sign or none, and dates without dashes.
    fn read(text: &str) -> Option<Date<'_>> {
        let (sign, text) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (year, text) = match digits {
            8 => (4, text),
            4..=6 => (digits, text),
            _ => return None,
        };
        let dash = usize::from(digits != 8);
        let year_digits = text.get(..year)?;
        let month = text.get(year + dash..year + dash + 2)?;
        let day = text.get(year + dash + 2 + dash..year + 2 * dash + 4)?;
        let dashes =
            dash == 0 || (text[year..].starts_with('-') && text[year + 3..].starts_with('-'));
        let year_number: i64 = year_digits.parse().ok()?;
        let date = Date {
            year: sign * year_number,
            month: month.bytes().all(|b| b.is_ascii_digit()).then_some(month)?,
            day: day.parse().ok().filter(|day| (1..=31).contains(day))?,
            rest: text.get(year + 2 * dash + 4..)?,
        };
        dashes.then_some(date)
    }

    /// Its instant; a day that the month lacks is the month's last one.
    fn instant(&self, zone_rule: ZoneRule) -> Option<Instant> {
        let mut days = (self.day.min(28)..=self.day).rev();
        days.find_map(|day| read_text_nearest(self.spelled(day).as_bytes(), zone_rule).ok())
    }

    /// The text in a form that is read: beyond four digits, and before Christ, in that of Postgres.
    fn spelled(&self, day: u8) -> String {
        let time = if self.rest.is_empty() { "T00:00:00" } else { self.rest };
        let (year, era) = if self.year > 0 { (self.year, "") } else { (1 - self.year, " BC") };
        let month = self.month;
        if year <= 9999 && era.is_empty() {
            return format!("{year:04}-{month}-{day:02}{time}");
        }
        let time = time.replace(['T', 't'], " ").replace(['Z', 'z'], "+00");
        format!("{year:04}-{month}-{day:02}{time}{era}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Value<'_>) -> Option<String> {
        let instant = nearest_instant(ZoneRule::Utc, value)?;
        let mut text = Vec::new();
        instant.write_postgres(&mut text);
        Some(String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_unit_of_a_unix_time_is_decided_by_its_size() {
        let expected = Some("2025-08-19 12:00:00+00".to_owned());
        for number in [1_755_604_800.0, 1_755_604_800e3, 1_755_604_800e6, 1_755_604_800e9] {
            assert_eq!(shown(Value::Real(number)), expected, "{number}");
        }
        assert_eq!(shown(Value::Real(1_755_604_800.25)).unwrap(), "2025-08-19 12:00:00.25+00");
        for no in [0.0, 2025.0, 20_250_102.0, -1.0, f64::NAN, 1e30] {
            assert_eq!(shown(Value::Real(no)), None, "{no}");
        }
    }

    #[test]
    fn a_text_that_means_one_time_is_that_time() {
        for (text, expected) in [
            (" 2025-08-19T14:26:21Z\n", "2025-08-19 14:26:21+00"),
            ("2025-08-19", "2025-08-19 00:00:00+00"),
            ("20250819", "2025-08-19 00:00:00+00"),
            ("2025-02-30T01:02:03Z", "2025-02-28 01:02:03+00"),
            ("2024-02-31", "2024-02-29 00:00:00+00"),
            ("10000-01-01T00:00:00Z", "10000-01-01 00:00:00+00"),
            ("294276-12-31T23:59:59.999999Z", "294276-12-31 23:59:59.999999+00"),
            ("0000-01-01T00:00:00Z", "0001-01-01 00:00:00+00 BC"),
            ("-0044-03-15T12:00:00Z", "0045-03-15 12:00:00+00 BC"),
            ("epoch", "1970-01-01 00:00:00+00"),
        ] {
            assert_eq!(shown(Value::Text(text.as_bytes())).as_deref(), Some(expected), "{text}");
            assert_eq!(shown(Value::Blob(text.as_bytes())).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "now",
            "yesterday",
            "None",
            "2025",
            "2025-13-01",
            "2025-08-32",
            "294277-01-01T00:00:00Z",
            "\u{e9}025-08-19",
            "2025-08-1\u{e9}",
        ] {
            assert_eq!(shown(Value::Text(text.as_bytes())), None, "{text}");
        }
    }

    #[test]
    fn a_number_may_be_a_date_or_a_julian_day() {
        assert_eq!(shown(Value::Int(20_250_819)).as_deref(), Some("2025-08-19 00:00:00+00"));
        assert_eq!(shown(Value::Int(12_345_678)), None);
        assert_eq!(shown(Value::Real(2_460_907.0)).as_deref(), Some("2025-08-19 12:00:00+00"));
    }
}
