//! Calendar arithmetic: days since 2000-01-01 and the dates of the proleptic Gregorian calendar.

/// Days from 1970-01-01, where Unix counts from, to 2000-01-01, where PostgreSQL does.
pub(super) const DAYS_1970_TO_2000: i64 = 10_957;
/// Days from 0000-03-01, the start of a 400-year cycle that ends with its leap day, to 2000-01-01.
const DAYS_YEAR_0_TO_2000: i64 = 719_468 + DAYS_1970_TO_2000;
/// Days of the 400 years after which the Gregorian calendar repeats.
const DAYS_PER_CYCLE: i64 = 146_097;

/// A date with its astronomical year.
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

// The two conversions are Howard Hinnant's `days_from_civil` and `civil_from_days`: years are
// counted from March so that the leap day is the last day of its year, and the months from March
// have the lengths that (153 * month + 2) / 5 adds up. Years and days stay within some 300,000
// years, so nothing here can overflow.

/// Days from 2000-01-01 to a date that exists.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * DAYS_PER_CYCLE + day_of_cycle - DAYS_YEAR_0_TO_2000
}

/// The date that is `days` after 2000-01-01.
pub(super) fn civil_from_days(days: i64) -> Civil {
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

/// Whether a text is an existing date of the years 0001 to 9999, written `YYYY-MM-DD`.
pub(crate) fn is_date(text: &[u8]) -> bool {
    let well_formed = text.len() == 10
        && text.iter().enumerate().all(|(n, byte)| match n {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    well_formed && {
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        year > 0 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day)
    }
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

pub(super) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_have_ten_characters_and_exist() {
        for text in ["0001-01-01", "2024-02-29", "2000-02-29", "9999-12-31"] {
            assert!(is_date(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "0000-01-01",
            "2025-02-29",
            "1900-02-29",
            "2025-13-01",
            "2025-00-01",
            "2025-04-31",
            "2025-04-00",
            "2025-4-1",
            "2025/04/01",
            "2025-04-01 ",
            "12025-04-01",
        ] {
            assert!(!is_date(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_and_dates_convert_both_ways(days in -110_000_000_i64..=110_000_000) {
            let Civil { year, month, day } = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
            prop_assert!((1..=days_in_month(year, month)).contains(&day));
        }
    }
}
