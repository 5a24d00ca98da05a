//! What the two clocks of a row say about its time zone: its own time is local, the time at which it was written is
//! UTC, unless a version of SQLite has shifted that by the zone once more.

use std::collections::BTreeMap;

use super::archive_row::ArchiveRow;
use crate::catalog::ColumnType;
use crate::error::{Code, Error};
use crate::notice::{Notice, NoticeKind};
use crate::plan::TablePlan;
use chronicle_archive::time::{
    Instant, ZoneRule, offset_text, parse_zone, read_text, read_text_nearest,
};
use chronicle_archive::{TimeText, show_count, show_number};

/// The seconds that a row may be written after the time it tells, or before it.
const PROMPT: i64 = 600;
/// The same for a row that says by itself in which zone it was written.
const AT_ONCE: i64 = 120;
/// Offsets are whole quarters of an hour.
const QUARTER: i64 = 900;
/// The offsets that clocks have, in quarters of an hour: -12:00 to +14:00.
const OFFSETS: std::ops::RangeInclusive<i64> = -48..=56;
/// As many rows are needed to contradict the user.
const ENOUGH: u64 = 3;
const MICROS: i64 = 1_000_000;

/// The columns with the two clocks, by what the rows are. That of sessions was never shifted.
const CLOCKS: [(&str, &str, &str); 2] =
    [("sessions", "start_time", "created_at"), ("events", "timestamp", "created_at")];

/// Zones to give as an example, those with most people first.
const EXAMPLES: [&str; 25] = [
    "UTC",
    "America/Los_Angeles",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Athens",
    "Europe/Moscow",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "America/Sao_Paulo",
    "America/Phoenix",
    "America/Halifax",
    "America/Anchorage",
    "Pacific/Honolulu",
    "Asia/Dubai",
    "Asia/Karachi",
    "Asia/Bangkok",
    "Asia/Kathmandu",
    "Australia/Adelaide",
    "Pacific/Auckland",
    "America/St_Johns",
];

/// Rows whose clocks are equally far apart.
#[derive(Debug, Clone, Copy)]
struct Rows {
    count: u64,
    /// The local time of the first, read as UTC.
    first: Instant,
}

/// How far apart the clocks of rows are.
#[derive(Debug, Default)]
pub struct ClockSkew {
    /// Of each pair of [`CLOCKS`], by how many quarters of an hour the local one is ahead.
    ahead: [BTreeMap<i64, Rows>; 2],
    events: u64,
    shifted: u64,
    /// Rows that were read in a zone, and those of them whose clocks contradict it.
    zoned: u64,
    contradicting: u64,
}

/// What rows say about their zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneEvidence {
    /// The offset of most rows, as `UTC+02:00`.
    pub offset: String,
    /// A zone with these offsets; the offset itself if no known one has them.
    pub zone: String,
    /// How many rows the zone explains.
    pub rows: u64,
}

impl ZoneEvidence {
    /// The error of times that were read in a zone which most rows contradict.
    pub fn error(&self) -> Error {
        let ZoneEvidence { offset, zone, rows } = self;
        Error::new(
            Code::Value,
            format!(
                "event times look like local time at {offset} in {}, which contradicts --assume-tz; \
                 nothing was changed",
                show_count(*rows, "rows")
            ),
        )
        .hint(format!("--assume-tz {zone}, or --trust-zone if yours is right"))
    }
}

impl ClockSkew {
    /// Looks at a row, if it has two clocks and a local time of unknown offset.
    pub(super) fn look(&mut self, plan: &TablePlan, row: ArchiveRow<'_>) {
        let Some(pair) = CLOCKS.iter().position(|(role, ..)| plan.role.0 == *role) else { return };
        let (_, local, utc) = CLOCKS[pair];
        let column = |name: &str| {
            let n = row.source.column(name)?;
            Some((row.source.columns[n].time_text, row.text(name)?))
        };
        let (Some((TimeText::Local, happened)), Some((TimeText::Utc, written))) =
            (column(local), column(utc))
        else {
            return;
        };
        let (Ok(written), Ok(as_utc), Err(_)) = (
            read_text(written, ZoneRule::Utc),
            read_text(happened, ZoneRule::Utc),
            read_text(happened, ZoneRule::Refuse),
        ) else {
            return;
        };
        let ahead = seconds(as_utc, written);
        let quarters = (ahead + QUARTER / 2).div_euclid(QUARTER);
        let is_evidence = (ahead - quarters * QUARTER).abs() <= AT_ONCE
            && (OFFSETS.contains(&quarters) || OFFSETS.contains(&(quarters / 2)));
        if is_evidence {
            let rows = Rows { count: 0, first: as_utc };
            self.ahead[pair].entry(quarters).or_insert(rows).count += 1;
        }
        let is_event = pair == 1;
        self.events += u64::from(is_event);
        let planned = plan.columns.iter().find(|c| c.name == local);
        let Some(planned) = planned.filter(|c| c.ty == ColumnType::Timestamptz) else { return };
        let rule = row.zone_rule(planned);
        let Ok(happened) = read_text_nearest(happened, rule) else { return };
        // east of Greenwich is positive: the same reading as UTC is later than the instant
        let (zone, late) = (seconds(as_utc, happened), seconds(written, happened));
        let shifted = is_event && zone != 0 && (late + zone).abs() < PROMPT;
        self.shifted += u64::from(shifted);
        if is_evidence && rule == planned.zone_rule {
            self.zoned += 1;
            self.contradicting += u64::from(!shifted && late.abs() > PROMPT);
        }
    }

    /// How many times of rows are shifted by the zone once more, in words.
    pub(crate) fn shifted(&self) -> Option<Notice> {
        (self.shifted > 0).then(|| {
            let values = show_count(self.shifted, "created_at values");
            let was = if self.shifted == 1 { "was" } else { "were" };
            let text = format!("{values} {was} shifted twice by SQLite; copied unchanged");
            Notice::new(NoticeKind::ShiftedTimes, text)
        })
    }

    /// How many rows do not fit the zone in which they were read, if they are some and not most.
    pub(crate) fn otherwise(&self) -> Option<Notice> {
        (self.contradicting >= ENOUGH && self.contradiction().is_none()).then(|| {
            let text = format!(
                "{} of {} do not fit --assume-tz by their created_at: were they written in another zone?",
                show_number(self.contradicting),
                show_count(self.zoned, "times")
            );
            Notice::new(NoticeKind::OtherZone, text)
        })
    }

    /// How many rows speak for each offset, in quarters of an hour.
    fn offsets(&self) -> BTreeMap<i64, Vec<Rows>> {
        let [sessions, events] = &self.ahead;
        let mut found: BTreeMap<i64, Vec<Rows>> = BTreeMap::new();
        for (quarters, rows) in sessions {
            found.entry(*quarters).or_default().push(*rows);
        }
        for (quarters, rows) in events {
            let half = (quarters % 2 == 0).then_some(quarters / 2);
            let is_known = |offset: &i64| sessions.contains_key(offset);
            let offset = match half {
                Some(half) if !is_known(quarters) && is_known(&half) => half,
                Some(half) if !OFFSETS.contains(quarters) => half,
                _ => *quarters,
            };
            found.entry(offset).or_default().push(*rows);
        }
        found.retain(|offset, _| OFFSETS.contains(offset));
        found
    }

    /// The zone that explains most rows; `hint` is one to look at first. None if there is no evidence.
    pub fn evidence(&self, hint: Option<&str>) -> Option<ZoneEvidence> {
        let offsets = self.offsets();
        let count = |rows: &[Rows]| rows.iter().map(|r| r.count).sum::<u64>();
        let (most, rows) = offsets.iter().max_by_key(|(_, rows)| count(rows))?;
        let fixed = offset_text(i32::try_from(most * QUARTER).ok()?);
        let offset = if *most == 0 { "UTC".to_owned() } else { format!("UTC{fixed}") };
        let explained = |zone: &str| -> u64 {
            let Some(rule) = parse_zone(zone) else { return 0 };
            let all = offsets.iter().flat_map(|(o, rows)| rows.iter().map(move |r| (*o, r)));
            let same = all.filter(|(o, r)| offset_in(rule, r.first) == Some(o * QUARTER));
            same.map(|(_, r)| r.count).sum()
        };
        let zones = hint.into_iter().chain(EXAMPLES);
        let mut best = ZoneEvidence { zone: fixed, offset, rows: count(rows) };
        let mut is_named = false;
        for zone in zones {
            let rows = explained(zone);
            if rows > best.rows || (rows == best.rows && !is_named) {
                (best.zone, best.rows, is_named) = (zone.to_owned(), rows, true);
            }
        }
        Some(best)
    }

    /// What to type where a zone is missing.
    pub(super) fn hint(&self, archive: Option<&str>) -> String {
        match (self.evidence(archive), archive) {
            (Some(ZoneEvidence { offset, zone, .. }), _) => {
                format!("event times look like local time at {offset}, e.g. --assume-tz {zone}")
            }
            (None, Some(zone)) => format!(
                "name the time zone of these times: --assume-tz ZONE; the archive was exported in \
                 {zone}: --assume-tz archive"
            ),
            (None, None) => {
                "name the time zone in which they were written: --assume-tz ZONE, e.g. Europe/Berlin".into()
            }
        }
    }

    /// What the rows say against the zone in which they were read, if most of them do.
    pub fn contradiction(&self) -> Option<ZoneEvidence> {
        let evidence = self.evidence(None)?;
        let most = |rows: u64| rows * 2 > self.zoned;
        (self.zoned >= ENOUGH && most(self.contradicting) && most(evidence.rows))
            .then_some(evidence)
    }
}

/// The seconds from one instant to a later one.
fn seconds(later: Instant, earlier: Instant) -> i64 {
    later.0.saturating_sub(earlier.0) / MICROS
}

/// The offset of a local time in a zone, in seconds east of Greenwich; the time is given as read in UTC.
fn offset_in(rule: ZoneRule, as_utc: Instant) -> Option<i64> {
    let mut text = Vec::new();
    if !as_utc.write_portable(&mut text) {
        return None;
    }
    let local = text.strip_suffix(b"Z")?;
    Some(seconds(as_utc, read_text_nearest(local, rule).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{catalog, planned, required, stream, table, to};
    use crate::policy::{AssumeZone, PlanOptions};
    use chronicle_archive::{Batch, Kind, Value};

    /// The skew of rows of a table: each with its local time and the time at which it was written.
    fn look(skew: &mut ClockSkew, name: &str, zone: AssumeZone, rows: &[[&str; 2]]) {
        let local = if name == "events" { "timestamp" } else { "start_time" };
        let columns = [("id", Kind::Text), (local, Kind::Text), ("created_at", Kind::Text)];
        let mut source = stream(name, &columns);
        source.columns[1].time_text = TimeText::Local;
        source.columns[2].time_text = TimeText::Utc;
        let times = vec![
            required("id", ColumnType::Text(None)),
            to(local, ColumnType::Timestamptz),
            to("created_at", ColumnType::Timestamptz),
        ];
        let options = PlanOptions { assume_zone: zone, ..PlanOptions::default() };
        let streams = [source];
        let plan = planned(&streams, &catalog(vec![table(name, name, times)]), options);
        let mut batch = Batch::default();
        batch.start(0, 3, 1);
        for [happened, written] in rows {
            for text in ["1", happened, written] {
                batch.push(Value::Text(text.as_bytes()));
            }
        }
        for row in 0..batch.rows() {
            let row = ArchiveRow { source: &streams[0], batch: &batch, row };
            skew.look(plan.streams[0].table().unwrap(), row);
        }
    }

    fn of_events(zone: &str, rows: &[[&str; 2]]) -> ClockSkew {
        let mut skew = ClockSkew::default();
        look(&mut skew, "events", AssumeZone::parse(zone).unwrap(), rows);
        skew
    }

    const NOON: &str = "2025-08-19T12:00:00";

    #[test]
    fn rows_name_the_offset_of_their_clock_and_a_zone() {
        let skew = of_events("UTC", &[[NOON, "2025-08-19 19:00:01"]]);
        let found = skew.evidence(None).unwrap();
        assert_eq!(
            (found.offset.as_str(), found.zone.as_str()),
            ("UTC-07:00", "America/Los_Angeles")
        );
        let winter = of_events("UTC", &[["2025-01-19T12:00:00", "2025-01-19 11:00:01"]]);
        assert_eq!(winter.evidence(None).unwrap().zone, "Europe/Berlin");
        assert_eq!(winter.evidence(Some("Europe/Madrid")).unwrap().zone, "Europe/Madrid");
        assert_eq!(winter.evidence(Some("Asia/Tokyo")).unwrap().zone, "Europe/Berlin");
    }

    #[test]
    fn summer_and_winter_are_explained_by_one_zone() {
        let rows = [[NOON, "2025-08-19 16:00:00"], ["2025-01-19T12:00:00", "2025-01-19 17:00:00"]];
        let found = of_events("UTC", &rows).evidence(None).unwrap();
        assert_eq!((found.zone.as_str(), found.rows), ("America/New_York", 2));
    }

    #[test]
    fn sessions_tell_a_shifted_clock_from_a_far_one() {
        let shifted = [NOON, "2025-08-20 02:00:00"];
        let mut skew = ClockSkew::default();
        look(&mut skew, "sessions", AssumeZone::Refuse, &[[NOON, "2025-08-19 19:00:00"]]);
        look(&mut skew, "events", AssumeZone::Refuse, &[shifted; 4]);
        let found = skew.evidence(None).unwrap();
        assert_eq!((found.offset.as_str(), found.rows), ("UTC-07:00", 5));
        // by itself no clock is 14 hours behind
        assert_eq!(of_events("UTC", &[shifted]).evidence(None).unwrap().offset, "UTC-07:00");
    }

    #[test]
    fn times_with_an_offset_and_late_rows_are_no_evidence() {
        for row in [
            ["2025-08-19T12:00:00+02:00", "2025-08-19 19:00:00"],
            [NOON, "2026-08-19 19:00:00"],
            [NOON, "2025-08-19 19:07:00"],
        ] {
            assert_eq!(of_events("UTC", &[row]).evidence(None), None, "{row:?}");
        }
    }

    #[test]
    fn a_zone_is_contradicted_by_most_rows_or_not_at_all() {
        let rows = [[NOON, "2025-08-19 19:00:01"]; 3];
        let against = of_events("Europe/Berlin", &rows).contradiction().unwrap();
        assert_eq!(against.zone, "America/Los_Angeles");
        assert_eq!(of_events("America/Los_Angeles", &rows).contradiction(), None);
        assert_eq!(of_events("Europe/Berlin", &rows[..2]).contradiction(), None, "too few");
        let berlin = [NOON, "2025-08-19 10:00:00"];
        let mixed = [rows[0], berlin, berlin, berlin];
        let mixed = of_events("Europe/Berlin", &mixed);
        assert_eq!((mixed.contradiction(), mixed.otherwise()), (None, None), "one may be a slip");
        let half = [rows[0], rows[0], rows[0], berlin, berlin, berlin];
        let half = of_events("Europe/Berlin", &half);
        assert_eq!(half.contradiction(), None);
        let said = half.otherwise().unwrap().text;
        assert!(said.starts_with("3 of 6 times do not fit"), "{said}");
    }

    #[test]
    fn times_that_are_shifted_once_more_are_counted() {
        let skew = of_events("+02:00", &[[NOON, "2025-08-19 08:00:01"]; 3]);
        let expected = "3 created_at values were shifted twice by SQLite; copied unchanged";
        assert_eq!(skew.shifted().unwrap().text, expected);
        assert_eq!(skew.contradiction(), None);
        assert_eq!(of_events("+02:00", &[[NOON, "2025-08-19 10:00:01"]]).shifted(), None);
    }
}
