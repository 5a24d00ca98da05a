//! Which archives of a database stay: the newest of each of the last days, weeks and months that have one.

mod folder;

pub use folder::{Survey, Sweep, survey};

use std::cmp::Reverse;

use chrono::{DateTime, Datelike, Utc};

/// Of how many days, weeks and months the newest archive stays. All of them are in UTC, and weeks are those of ISO 8601.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Days.
    pub daily: u32,
    /// Weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

/// A number that all moments of one period share, and no others.
type PeriodOf = fn(DateTime<Utc>) -> i32;

impl Retention {
    /// Which of the archives that were created at these times stay. The newest always does; of two with one time, the one
    /// further back in the list counts as newer.
    pub fn staying(&self, created: &[DateTime<Utc>]) -> Vec<bool> {
        let mut newest_first: Vec<usize> = (0..created.len()).collect();
        newest_first.sort_by_key(|n| Reverse((created[*n], *n)));
        let mut stays = vec![false; created.len()];
        if let Some(newest) = newest_first.first() {
            stays[*newest] = true;
        }
        let rules: [(u32, PeriodOf); 3] =
            [(self.daily, day), (self.weekly, week), (self.monthly, month)];
        for (mut left, period_of) in rules {
            let mut last = None;
            for n in &newest_first {
                let period = Some(period_of(created[*n]));
                if period == last {
                    continue;
                }
                if left == 0 {
                    break;
                }
                (last, left) = (period, left - 1);
                stays[*n] = true;
            }
        }
        stays
    }

    /// Which of the archives may go: those that no rule keeps, if they and all that stay in their place are whole. Of an
    /// archive that is not whole it is as if it were not there. None is looked at unless one would go, and none twice.
    ///
    /// # Errors
    /// That of `is_whole`.
    pub fn going<E>(
        &self,
        created: &[DateTime<Utc>],
        mut is_whole: impl FnMut(usize) -> Result<bool, E>,
    ) -> Result<Vec<usize>, E> {
        let mut known: Vec<Option<bool>> = vec![None; created.len()];
        loop {
            let there = (0..created.len()).filter(|n| known[*n] != Some(false));
            let there: Vec<usize> = there.collect();
            let times: Vec<_> = there.iter().map(|n| created[*n]).collect();
            let stays = there.into_iter().zip(self.staying(&times));
            let (staying, going): (Vec<_>, Vec<_>) = stays.partition(|(_, stays)| *stays);
            let mut look = |n: usize| {
                let whole = known[n].map_or_else(|| is_whole(n), Ok)?;
                known[n] = Some(whole);
                Ok(whole)
            };
            let mut whole = Vec::new();
            for (n, _) in going {
                if look(n)? {
                    whole.push(n);
                }
            }
            let Some(oldest) = whole.iter().map(|n| created[*n]).min() else { return Ok(whole) };
            let mut all_whole = true;
            // older ones took no place from those that go
            for (n, _) in staying.into_iter().filter(|(n, _)| created[*n] >= oldest) {
                all_whole &= look(n)?;
            }
            if all_whole {
                return Ok(whole);
            }
        }
    }
}

fn day(time: DateTime<Utc>) -> i32 {
    time.num_days_from_ce()
}

/// The Monday of its week.
fn week(time: DateTime<Utc>) -> i32 {
    day(time).wrapping_sub_unsigned(time.weekday().num_days_from_monday())
}

fn month(time: DateTime<Utc>) -> i32 {
    time.year() * 12 + time.month0().cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        let text = if text.len() == 10 { format!("{text}T02:30:00Z") } else { text.to_owned() };
        text.parse().unwrap()
    }

    /// The archives that stay, in the order in which they were given.
    fn staying(retention: Retention, created: &[&str]) -> Vec<String> {
        let times: Vec<_> = created.iter().map(|text| at(text)).collect();
        let stays = retention.staying(&times);
        created.iter().zip(stays).filter(|(_, stays)| *stays).map(|(c, _)| (*c).into()).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        // 2024-12-30 is a Monday: its week is the first of 2025
        let winter = &[
            "2024-11-30",
            "2024-12-28",
            "2024-12-29",
            "2024-12-30",
            "2024-12-31",
            "2025-01-01",
            "2025-01-05",
            "2025-01-06",
        ][..];
        // several archives of a day, and a day without one
        let often = &[
            "2025-08-17T09:00:00Z",
            "2025-08-19T00:00:00Z",
            "2025-08-19T23:59:59Z",
            "2025-08-20T00:00:00Z",
            "2025-08-20T00:00:01Z",
        ][..];
        let rule = |daily, weekly, monthly| Retention { daily, weekly, monthly };
        for (retention, created, expected) in [
            (rule(0, 0, 0), winter, &["2025-01-06"][..]),
            (rule(1, 0, 0), winter, &["2025-01-06"]),
            (rule(3, 0, 0), winter, &["2025-01-01", "2025-01-05", "2025-01-06"]),
            (rule(0, 1, 0), winter, &["2025-01-06"]),
            (rule(0, 2, 0), winter, &["2025-01-05", "2025-01-06"]),
            (rule(0, 3, 0), winter, &["2024-12-29", "2025-01-05", "2025-01-06"]),
            (rule(0, 0, 2), winter, &["2024-12-31", "2025-01-06"]),
            (rule(0, 0, 9), winter, &["2024-11-30", "2024-12-31", "2025-01-06"]),
            (
                rule(2, 3, 3),
                winter,
                &["2024-11-30", "2024-12-29", "2024-12-31", "2025-01-05", "2025-01-06"],
            ),
            (rule(2, 0, 0), often, &["2025-08-19T23:59:59Z", "2025-08-20T00:00:01Z"]),
            (
                rule(3, 0, 0),
                often,
                &["2025-08-17T09:00:00Z", "2025-08-19T23:59:59Z", "2025-08-20T00:00:01Z"],
            ),
            (rule(9, 9, 9), &[], &[]),
        ] {
            assert_eq!(staying(retention, created), expected, "{retention:?}");
            let mut backwards = created.to_vec();
            backwards.reverse();
            let mut same = staying(retention, &backwards);
            same.reverse();
            assert_eq!(same, expected, "{retention:?}, the other way round");
        }
    }

    #[test]
    fn of_two_archives_of_one_moment_one_stays() {
        let times = [at("2025-08-19"), at("2025-08-19")];
        let retention = Retention { daily: 7, weekly: 4, monthly: 12 };
        assert_eq!(retention.staying(&times), [false, true]);
    }

    fn retentions() -> impl Strategy<Value = Retention> {
        (0..6_u32, 0..6_u32, 0..6_u32).prop_map(|(daily, weekly, monthly)| Retention {
            daily,
            weekly,
            monthly,
        })
    }

    /// Moments of some months, often several of a day.
    fn moments() -> impl Strategy<Value = Vec<DateTime<Utc>>> {
        let moment = (0..400_i64, 0..3_i64).prop_map(|(day, part)| {
            DateTime::from_timestamp(1_700_000_000 + day * 86_400 + part * 30_000, 0).unwrap()
        });
        proptest::collection::vec(moment, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_newest_stays_and_more_is_kept_by_larger_numbers(
            retention in retentions(),
            created in moments(),
            (daily, weekly, monthly) in (0..3_u32, 0..3_u32, 0..3_u32),
        ) {
            let stays = retention.staying(&created);
            let kept = || created.iter().zip(&stays).filter(|(_, stays)| **stays);
            prop_assert_eq!(kept().map(|(time, _)| time).max(), created.iter().max());
            let most = 1 + retention.daily + retention.weekly + retention.monthly;
            prop_assert!(kept().count() <= most as usize);
            let larger = Retention {
                daily: retention.daily + daily,
                weekly: retention.weekly + weekly,
                monthly: retention.monthly + monthly,
            };
            for (now, more) in stays.iter().zip(larger.staying(&created)) {
                prop_assert!(more || !now);
            }
        }

        #[test]
        fn only_whole_archives_go_as_if_there_were_no_others(
            retention in retentions(),
            created in moments(),
            damaged in proptest::collection::vec(proptest::bool::weighted(0.3), 40),
        ) {
            let mut looked = vec![0; created.len()];
            let going = retention.going(&created, |n| {
                looked[n] += 1;
                Ok::<_, ()>(!damaged[n])
            });
            let whole: Vec<usize> = (0..created.len()).filter(|n| !damaged[*n]).collect();
            let times: Vec<_> = whole.iter().map(|n| created[*n]).collect();
            let expected: Vec<usize> = (whole.into_iter().zip(retention.staying(&times)))
                .filter(|(_, stays)| !stays)
                .map(|(n, _)| n)
                .collect();
            prop_assert_eq!(going, Ok(expected));
            prop_assert!(looked.iter().all(|times| *times <= 1));
            let nothing_goes = retention.staying(&created).into_iter().all(|stays| stays);
            prop_assert!(!nothing_goes || looked.iter().all(|times| *times == 0));
        }

        #[test]
        fn what_stays_stays_the_next_time(retention in retentions(), created in moments()) {
            let stays = retention.staying(&created);
            let kept: Vec<_> =
                created.iter().zip(stays).filter(|(_, stays)| *stays).map(|(t, _)| *t).collect();
            prop_assert!(retention.staying(&kept).into_iter().all(|stays| stays));
        }
    }
}
