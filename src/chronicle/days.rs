//! How many rows each day has, over any span of time, in memory with a limit.

use std::collections::BTreeMap;

use chronicle_archive::time::Instant;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The most spans that have a count.
pub const MOST_SPANS: usize = 4096;

/// Rows by span. A span is a day, until there are too many: then spans become twice as long.
#[derive(Debug)]
pub struct Days {
    /// The days of a span.
    length: i64,
    /// The spans with rows, by their number.
    rows: BTreeMap<i64, u64>,
    without: u64,
}

impl Default for Days {
    fn default() -> Days {
        Days { length: 1, rows: BTreeMap::new(), without: 0 }
    }
}

impl Days {
    /// Counts one more row; `None`, or one that never comes, is no time.
    pub fn add(&mut self, time: Option<Instant>) {
        let is_finite = |time: &Instant| (Instant::MIN..=Instant::MAX).contains(time);
        let Some(Instant(micros)) = time.filter(is_finite) else {
            self.without += 1;
            return;
        };
        let day = micros.div_euclid(MICROS_PER_DAY);
        *self.rows.entry(day.div_euclid(self.length)).or_default() += 1;
        while self.rows.len() > MOST_SPANS {
            self.length *= 2;
            let mut joined = BTreeMap::new();
            for (span, rows) in std::mem::take(&mut self.rows) {
                *joined.entry(span.div_euclid(2)).or_default() += rows;
            }
            self.rows = joined;
        }
    }

    /// The days of a span: 1 unless there are very many.
    pub fn days_per_span(&self) -> i64 {
        self.length
    }

    /// The rows without a time that can be read.
    pub fn without(&self) -> u64 {
        self.without
    }

    /// The first day of every span that has rows, with its rows.
    pub fn spans(&self) -> impl Iterator<Item = (String, u64)> {
        self.rows.iter().map(|(span, rows)| (day_text(span * self.length), *rows))
    }

    /// All rows between the first and the last span, joined to at most `bars` numbers; and the days of
    /// each.
    pub fn bars(&self, bars: usize) -> (Vec<u64>, i64) {
        let (Some((first, _)), Some((last, _))) =
            (self.rows.first_key_value(), self.rows.last_key_value())
        else {
            return (Vec::new(), self.length);
        };
        let (spans, bars) = (last - first + 1, i64::try_from(bars.max(1)).unwrap_or(i64::MAX));
        let joined = spans / bars + i64::from(spans % bars != 0);
        let mut numbers = Vec::new();
        for (span, rows) in &self.rows {
            let bar = usize::try_from((span - first) / joined).unwrap_or(0);
            numbers.resize(numbers.len().max(bar + 1), 0);
            numbers[bar] += rows;
        }
        (numbers, joined * self.length)
    }
}

/// A day, counted from 2000-01-01, as a date.
fn day_text(day: i64) -> String {
    let mut text = Vec::new();
    Instant(day.saturating_mul(MICROS_PER_DAY)).write_postgres(&mut text);
    String::from_utf8_lossy(&text).replace(" 00:00:00+00", "")
}

#[cfg(test)]
mod tests {
    use chronicle_archive::time::{ZoneRule, read_text};

    use super::*;

    fn of(texts: &[&str]) -> Days {
        let mut days = Days::default();
        for text in texts {
            days.add(read_text(text.as_bytes(), ZoneRule::Utc).ok());
        }
        days
    }

    fn spans(days: &Days) -> Vec<(String, u64)> {
        days.spans().collect()
    }

    #[test]
    fn rows_are_counted_by_day() {
        let days = of(&[
            "2025-08-19T23:59:59.999999",
            "2025-08-17T00:00",
            "2025-08-19T00:00",
            "now",
            "infinity",
        ]);
        let expected = [("2025-08-17", 1), ("2025-08-19", 2)];
        assert_eq!(spans(&days), expected.map(|(day, rows)| (day.to_owned(), rows)));
        assert_eq!((days.without(), days.days_per_span()), (2, 1));
        assert_eq!(days.bars(80), (vec![1, 0, 2], 1));
        assert_eq!(days.bars(2), (vec![1, 2], 2));
        assert_eq!(days.bars(0), (vec![3], 3));
        assert_eq!(Days::default().bars(80), (vec![], 1));
    }

    #[test]
    fn dates_of_every_age_are_written() {
        let days =
            of(&["0044-03-15 12:00:00+00 BC", "1999-12-31T00:00Z", "294276-12-31 23:59:59+00"]);
        let dates: Vec<String> = spans(&days).into_iter().map(|(day, _)| day).collect();
        assert_eq!(dates, ["0044-03-15 BC", "1999-12-31", "294276-12-31"]);
        let (bars, _) = days.bars(10);
        assert_eq!((bars.len(), bars.iter().sum::<u64>()), (10, 3));
    }

    #[test]
    fn very_many_days_become_longer_spans() {
        let mut days = Days::default();
        let rows = 10 * MOST_SPANS as i64;
        for day in 0..rows {
            // forwards and backwards in time
            let day = if day % 2 == 0 { day } else { -day };
            days.add(Some(Instant(day * MICROS_PER_DAY)));
        }
        assert!(days.rows.len() <= MOST_SPANS && days.days_per_span() > 1);
        assert_eq!(spans(&days).iter().map(|(_, rows)| rows).sum::<u64>(), rows as u64);
        days.add(Some(Instant::MIN));
        days.add(Some(Instant::MAX));
        let all = spans(&days);
        assert_eq!(all.iter().map(|(_, rows)| rows).sum::<u64>(), rows as u64 + 2);
        assert!(days.bars(80).0.len() <= 80);
    }
}
