//! Named zones such as `Europe/Berlin`: the feature `zones` decides, here and nowhere else, whether there are any.

pub use zones::NamedZone;

/// Without the feature no zone has a name, so that no `NamedZone` can exist.
#[cfg(not(feature = "zones"))]
mod zones {
    use super::super::parse::{NotInstant, Strictness};

    /// A zone of the IANA time zone database; without the feature `zones` there is none.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum NamedZone {}

    impl NamedZone {
        pub(in super::super) fn find(_name: &str) -> Option<NamedZone> {
            None
        }

        pub(in super::super) fn offset_of(
            self,
            _local: i64,
            _strictness: Strictness,
        ) -> Result<i32, NotInstant> {
            match self {}
        }
    }
}

/// The clock rules of `chrono-tz`, compiled in.
#[cfg(feature = "zones")]
mod zones {
    use chrono::{DateTime, LocalResult, Offset, TimeZone};
    use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

    use super::super::SECONDS_PER_DAY;
    use super::super::civil::{DAYS_1970_TO_2000, civil_from_days, days_from_civil, is_leap};
    use super::super::parse::{NotInstant, Strictness};

    /// A zone of the IANA time zone database.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct NamedZone(pub(super) Tz);

    impl NamedZone {
        pub(in super::super) fn find(name: &str) -> Option<NamedZone> {
            let mut zones = TZ_VARIANTS.iter();
            zones.find(|zone| zone.name().eq_ignore_ascii_case(name)).copied().map(NamedZone)
        }

        /// The offset, in seconds east of Greenwich, of a local time in seconds since
        /// 2000-01-01T00:00:00.
        pub(in super::super) fn offset_of(
            self,
            local: i64,
            strictness: Strictness,
        ) -> Result<i32, NotInstant> {
            let NamedZone(zone) = self;
            let unix = with_known_rules(local) + DAYS_1970_TO_2000 * SECONDS_PER_DAY;
            let clock =
                DateTime::from_timestamp(unix, 0).ok_or(NotInstant::OutOfRange)?.naive_utc();
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
    }

    /// The last year of `chrono-tz`'s tables, which list every change of the clocks one by one.
    const LAST_YEAR_OF_ZONES: i64 = 2099;

    /// The local time itself, or after the end of the tables the same day and time in a year of the same
    /// shape.
    ///
    /// Without this every summer after the tables would be read an hour off, without an error. The rules for
    /// the future are of the kind "last Sunday of March", so they fall alike in two years that begin
    /// on the same weekday and are both leap years or both not; any 28 years in a row without a missing
    /// leap day hold every such shape. (Only Morocco, whose clocks follow Ramadan in the tables up to
    /// 2087, gets a guess where its rule is unknown anyway.)
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
}

#[cfg(test)]
#[cfg(feature = "zones")]
mod tests {
    use chrono::{DateTime, LocalResult, NaiveDate, SecondsFormat, TimeZone, Utc};
    use chrono_tz::{TZ_VARIANTS, Tz};
    use proptest::prelude::*;

    use super::super::tests::{assert_reads, exact, nearest, portable, postgres};
    use super::super::{
        Instant, MICROS_PER_SECOND, NotInstant, ZoneRule, parse_zone, read_text, read_text_nearest,
    };
    use super::NamedZone;

    const LOS_ANGELES: ZoneRule = named(Tz::America__Los_Angeles);
    const BERLIN: ZoneRule = named(Tz::Europe__Berlin);

    const fn named(zone: Tz) -> ZoneRule {
        ZoneRule::Named(NamedZone(zone))
    }

    #[test]
    fn zones_are_found_in_any_case() {
        for (name, zone_rule) in [
            ("America/Los_Angeles", LOS_ANGELES),
            ("america/los_angeles", LOS_ANGELES),
            ("EUROPE/BERLIN", BERLIN),
        ] {
            assert_eq!(parse_zone(name), Some(zone_rule), "{name}");
        }
    }

    #[test]
    fn a_named_zone_applies_to_local_times_only() {
        assert_reads("2026-09-08T14:26:21.428210", LOS_ANGELES, "2026-09-08 21:26:21.42821+00");
        assert_reads("2025-08-19 12:00:00", BERLIN, "2025-08-19 10:00:00+00");
        assert_reads("2025-01-19 12:00:00", BERLIN, "2025-01-19 11:00:00+00");
        assert_reads("1800-01-01 00:00:00", BERLIN, "1799-12-31 23:06:32+00");
        assert_reads("2025-08-19T10:00:00+05:30", LOS_ANGELES, "2025-08-19 04:30:00+00");
        assert_reads("infinity", LOS_ANGELES, "infinity");
        assert_eq!(exact("now", LOS_ANGELES), Err(NotInstant::Unreadable));
    }

    #[test]
    fn skipped_local_times_take_the_offset_before_the_gap() {
        for (text, zone_rule, as_postgres) in [
            ("2026-03-08T02:30:00", LOS_ANGELES, "2026-03-08 10:30:00+00"),
            ("2026-03-08 02:00:00", LOS_ANGELES, "2026-03-08 10:00:00+00"),
            ("2026-03-08 02:59:59.999999", LOS_ANGELES, "2026-03-08 10:59:59.999999+00"),
            ("2026-03-29 02:30:00", BERLIN, "2026-03-29 01:30:00+00"),
            // a whole day, when Samoa changed sides of the date line
            ("2011-12-30 12:00:00", named(Tz::Pacific__Apia), "2011-12-30 22:00:00+00"),
        ] {
            assert_eq!(exact(text, zone_rule), Err(NotInstant::Gap), "{text}");
            assert_eq!(nearest(text, zone_rule).as_deref(), Ok(as_postgres), "{text}");
        }
        assert_reads("2026-03-08 01:59:59.999999", LOS_ANGELES, "2026-03-08 09:59:59.999999+00");
        assert_reads("2026-03-08 03:00:00", LOS_ANGELES, "2026-03-08 10:00:00+00");
    }

    #[test]
    fn repeated_local_times_take_the_earlier_instant() {
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
        let sydney = named(Tz::Australia__Sydney);
        assert_reads("9999-12-31 23:59:59", sydney, "9999-12-31 12:59:59+00");
        // 2100-03-14 is the second Sunday of its March
        assert_eq!(exact("2100-03-14 02:30:00", LOS_ANGELES), Err(NotInstant::Gap));
        assert_eq!(exact("294277-01-01 00:00:00", LOS_ANGELES), Err(NotInstant::OutOfRange));
    }

    fn chrono_of(instant: Instant) -> DateTime<Utc> {
        let epoch =
            NaiveDate::from_ymd_opt(2000, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
        DateTime::from_timestamp_micros(epoch.timestamp_micros() + instant.0).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn portable_texts_equal_those_of_chrono(
            count in -63_082_281_600_000_000..=252_455_615_999_999_999_i64, // the years 1 to 9999
        ) {
            let theirs = chrono_of(Instant(count)).to_rfc3339_opts(SecondsFormat::Micros, true);
            prop_assert_eq!(portable(Instant(count)), Some(theirs));
        }

        #[test]
        fn local_times_are_resolved_as_by_chrono(
            seconds in -3_155_760_000_i64..3_155_673_600, // the years 1900 to 2099
            zone in proptest::sample::select(&TZ_VARIANTS[..]),
        ) {
            let local = chrono_of(Instant(seconds * MICROS_PER_SECOND)).naive_utc();
            let text = local.format("%Y-%m-%dT%H:%M:%S").to_string();
            let ours = read_text(text.as_bytes(), named(zone));
            let ours = ours.map(|instant| chrono_of(instant).naive_utc());
            match zone.from_local_datetime(&local) {
                LocalResult::Single(theirs) => prop_assert_eq!(ours, Ok(theirs.naive_utc())),
                LocalResult::Ambiguous(..) => prop_assert_eq!(ours, Err(NotInstant::Overlap)),
                LocalResult::None => prop_assert_eq!(ours, Err(NotInstant::Gap)),
            }
            prop_assert!(read_text_nearest(text.as_bytes(), named(zone)).is_ok());
        }

        #[test]
        fn the_dates_that_exist_are_those_of_chrono(
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
        fn zones_of_the_table_leave_texts_with_an_offset_alone(
            count in Instant::MIN.0..=Instant::MAX.0,
            zone in proptest::sample::select(&TZ_VARIANTS[..]),
        ) {
            let text = postgres(Instant(count));
            prop_assert_eq!(read_text(text.as_bytes(), named(zone)), Ok(Instant(count)));
            prop_assert_eq!(read_text_nearest(text.as_bytes(), named(zone)), Ok(Instant(count)));
        }
    }
}
