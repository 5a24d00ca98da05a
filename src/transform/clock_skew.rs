//! What the two clocks of an event say: its own time is local, the time of its row is UTC, unless a
//! version of SQLite has shifted it by the zone once more.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::archive_row::ArchiveRow;
use crate::plan::TablePlan;
use chronicle_archive::TimeText;
use chronicle_archive::time::{ZoneRule, read_text};

/// The seconds that a row may be written after its event.
const PROMPT: i64 = 600;
/// The quarters of an hour that a clock can be from UTC: 15 hours.
const FURTHEST: i64 = 60;
/// The offsets from UTC of the zones on Earth, in quarters of an hour.
const OFFSETS: RangeInclusive<i64> = -48..=56;
const MICROS: i64 = 1_000_000;

/// How far apart the times of events and of their rows are.
#[derive(Default)]
pub(super) struct ClockSkew {
    events: u64,
    shifted: u64,
    /// How far apart the two are when both are read as UTC, in quarters of an hour.
    apart: BTreeMap<i64, u64>,
}

impl ClockSkew {
    /// Looks at a row, if it has two clocks.
    pub(super) fn look(&mut self, plan: &TablePlan, row: ArchiveRow<'_>) {
        if plan.role.0 != "events" {
            return;
        }
        let column = |name: &str| {
            let n = row.source.column(name)?;
            Some((row.source.columns[n].time_text, row.text(name)?))
        };
        let (Some((TimeText::Local, happened)), Some((TimeText::Utc, written))) =
            (column("timestamp"), column("created_at"))
        else {
            return;
        };
        let (Ok(written), Ok(as_utc)) =
            (read_text(written, ZoneRule::Utc), read_text(happened, ZoneRule::Utc))
        else {
            return;
        };
        let apart = written.0.saturating_sub(as_utc.0) / MICROS;
        *self.apart.entry((apart + 450).div_euclid(900)).or_default() += 1;
        self.events += 1;
        let planned = plan.columns.iter().find(|c| c.name == "timestamp");
        let Some(Ok(happened)) = planned.map(|c| read_text(happened, row.zone_rule(c))) else {
            return;
        };
        // east of Greenwich is positive: the same reading as UTC is later than the instant
        let zone = as_utc.0.saturating_sub(happened.0) / MICROS;
        let late = written.0.saturating_sub(happened.0) / MICROS;
        self.shifted += u64::from(zone != 0 && (late + zone).abs() < PROMPT);
    }

    /// What is wrong with the times of rows, in words.
    pub(super) fn shifted(&self) -> Option<String> {
        (self.shifted > 0).then(|| {
            format!(
                "events.created_at: {} of {} values were shifted twice by SQLite; copied unchanged",
                self.shifted, self.events
            )
        })
    }

    /// What the times say about the clock that wrote them, in words.
    pub(super) fn evidence(&self) -> Option<String> {
        let (quarters, count) = self.apart.iter().max_by_key(|(_, count)| **count)?;
        let clock = |quarters: i64| {
            let sign = if quarters < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", quarters.abs() / 4, quarters.abs() % 4 * 15)
        };
        // no clock on Earth is further off: these times mean something else
        if *quarters == 0 || quarters.abs() > FURTHEST {
            return None;
        }
        let (offset, shifted) = (clock(-quarters), clock(-quarters / 2));
        let events = format!("{count} of {} events", self.events);
        Some(match OFFSETS.contains(&-quarters) {
            true => format!(
                "event times look like local time at UTC{offset} ({events}), or at UTC{shifted} if \
                 SQLite shifted created_at, e.g. --assume-tz {offset}"
            ),
            false => format!(
                "event times look like local time at UTC{shifted} ({events}; SQLite shifted \
                 created_at), e.g. --assume-tz {shifted}"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ColumnType;
    use crate::plan::testing::{catalog, planned, required, stream, table, to};
    use crate::policy::{AssumeZone, PlanOptions};
    use chronicle_archive::{Batch, Kind, Value};

    /// The skew of events that happened at noon by a clock two hours east of UTC.
    fn skew(written: &str, zone: AssumeZone) -> ClockSkew {
        let columns = [("id", Kind::Text), ("timestamp", Kind::Text), ("created_at", Kind::Text)];
        let mut events = stream("events", &columns);
        events.columns[1].time_text = TimeText::Local;
        events.columns[2].time_text = TimeText::Utc;
        let times = vec![
            required("id", ColumnType::Text(None)),
            to("timestamp", ColumnType::Timestamptz),
            to("created_at", ColumnType::Timestamptz),
        ];
        let options = PlanOptions { assume_zone: zone, ..PlanOptions::default() };
        let streams = [events];
        let plan = planned(&streams, &catalog(vec![table("events", "events", times)]), options);
        let mut batch = Batch::default();
        batch.start(0, 3, 1);
        for text in ["1", "2025-08-19T12:00:00", written] {
            batch.push(Value::Text(text.as_bytes()));
        }
        let mut skew = ClockSkew::default();
        let row = ArchiveRow { source: &streams[0], batch: &batch, row: 0 };
        skew.look(plan.streams[0].table().unwrap(), row);
        skew
    }

    #[test]
    fn the_clock_of_events_is_found_from_that_of_their_rows() {
        let evidence = skew("2025-08-19 10:00:01", AssumeZone::Refuse).evidence().unwrap();
        assert!(evidence.contains("UTC+02:00"), "{evidence}");
        assert_eq!(skew("2025-08-19 12:00:01", AssumeZone::Refuse).evidence(), None);
        let shifted = skew("2025-08-20 02:00:01", AssumeZone::Refuse).evidence().unwrap();
        assert!(shifted.contains("UTC-07:00") && !shifted.contains("-14:00"), "{shifted}");
    }

    #[test]
    fn times_that_are_shifted_once_more_are_counted() {
        let zone = AssumeZone::parse("+02:00").unwrap();
        assert!(skew("2025-08-19 08:00:01", zone).shifted().unwrap().contains("1 of 1"));
        assert_eq!(skew("2025-08-19 10:00:01", zone).shifted(), None);
    }
}
