//! Texts of instants: the portable form of archives, and the form that PostgreSQL prints.

use super::civil::{Civil, civil_from_days};
use super::{Instant, MICROS_PER_DAY, MICROS_PER_SECOND};

impl Instant {
    /// Appends `YYYY-MM-DDTHH:MM:SS.ffffffZ` (always six digits) and returns true if the year is
    /// 0001 to 9999; else appends nothing and returns false.
    pub fn write_portable(self, out: &mut Vec<u8>) -> bool {
        let civil = CivilTime::of(self);
        // Infinite instants need no case of their own: their counts lie far beyond year 9999.
        if !(1..=9999).contains(&civil.year) {
            return false;
        }
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        fill(&mut text[..4], civil.year);
        text[4..26].copy_from_slice(&civil.after_year(b'T'));
        out.extend_from_slice(&text);
        true
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
        let civil = CivilTime::of(self);
        let before_christ = civil.year < 1;
        let mut digits = [0; 6];
        fill(&mut digits, if before_christ { 1 - civil.year } else { civil.year });
        out.extend_from_slice(trim_leading_zeros(&digits));
        out.extend_from_slice(trim_zero_fraction(&civil.after_year(b' ')));
        out.extend_from_slice(if before_christ { b"+00 BC" } else { b"+00" });
    }
}

/// The date and the time of day of an instant in UTC.
struct CivilTime {
    year: i64,
    month: i64,
    day: i64,
    micros_of_day: i64,
}

impl CivilTime {
    fn of(instant: Instant) -> CivilTime {
        let Civil { year, month, day } = civil_from_days(instant.0.div_euclid(MICROS_PER_DAY));
        CivilTime { year, month, day, micros_of_day: instant.0.rem_euclid(MICROS_PER_DAY) }
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

/// Fills `digits` with the last decimal digits of a value that is not negative.
fn fill(digits: &mut [u8], mut value: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10).unsigned_abs() as u8;
        value /= 10;
    }
}

/// Removes leading zeros until four digits are left.
fn trim_leading_zeros(mut digits: &[u8]) -> &[u8] {
    while digits.len() > 4
        && let [b'0', rest @ ..] = digits
    {
        digits = rest;
    }
    digits
}

/// Removes trailing zeros of a fraction, and its point if nothing else is left.
fn trim_zero_fraction(mut text: &[u8]) -> &[u8] {
    while let [shorter @ .., b'0'] = text {
        text = shorter;
    }
    text.strip_suffix(b".").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_instant, portable, postgres};
    use super::*;

    #[test]
    fn the_limits_are_written_as_postgres_prints_them() {
        assert_eq!(postgres(Instant(0)), "2000-01-01 00:00:00+00");
        assert_eq!(postgres(Instant::MIN), "4714-11-24 00:00:00+00 BC");
        assert_eq!(postgres(Instant::MAX), "294276-12-31 23:59:59.999999+00");
        assert_eq!(postgres(Instant::INFINITY), "infinity");
        assert_eq!(postgres(Instant::NEG_INFINITY), "-infinity");
        assert!(Instant::NEG_INFINITY < Instant::MIN && Instant::MAX < Instant::INFINITY);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn portable_text_is_written_for_years_1_to_9999(instant in any_instant()) {
            let first = Instant::read_portable(b"0001-01-01T00:00:00.000000Z").unwrap();
            let last = Instant::read_portable(b"9999-12-31T23:59:59.999999Z").unwrap();
            prop_assert_eq!(portable(instant).is_some(), (first..=last).contains(&instant));
        }

        #[test]
        fn no_count_makes_writing_panic(count: i64) {
            let _ = (portable(Instant(count)), postgres(Instant(count)));
        }
    }
}
