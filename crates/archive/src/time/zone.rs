//! Zones: what to do with a local time, names of zones, and offsets from UTC.

use super::named::NamedZone;
use super::parse::{NotInstant, Scanner, Strictness};

/// How a text without an offset is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ZoneRule {
    /// Not at all: its zone is unknown.
    Refuse,
    /// As UTC.
    Utc,
    /// As the local time of a named zone; without the feature `zones` there is none.
    Named(NamedZone),
    /// As the local time at a fixed offset, in seconds east of Greenwich.
    Fixed(i32),
}

impl ZoneRule {
    /// The offset, in seconds east of Greenwich, of a local time in seconds since
    /// 2000-01-01T00:00:00.
    pub(super) fn offset_of(self, local: i64, strictness: Strictness) -> Result<i32, NotInstant> {
        match self {
            ZoneRule::Refuse => Err(NotInstant::NoZone),
            ZoneRule::Utc => Ok(0),
            ZoneRule::Named(zone) => zone.offset_of(local, strictness),
            ZoneRule::Fixed(seconds) => Ok(seconds),
        }
    }
}

/// The zone rule that a name asks for: `UTC` or `Z`, an offset like `+02:00` or `-0800`, or with the
/// feature `zones` an IANA name in any case, like `Europe/Berlin`.
pub fn parse_zone(name: &str) -> Option<ZoneRule> {
    if name.eq_ignore_ascii_case("UTC") || name.eq_ignore_ascii_case("Z") {
        return Some(ZoneRule::Utc);
    }
    let mut rest = Scanner(name.as_bytes());
    if let Some(seconds) = rest.signed_offset() {
        return rest.0.is_empty().then_some(ZoneRule::Fixed(seconds));
    }
    NamedZone::find(name).map(ZoneRule::Named)
}

/// An offset as `+HH:MM`, followed by `:SS` if it has seconds.
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

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_reads, exact, nearest};
    use super::*;

    #[test]
    fn zone_rules_are_utc_or_an_offset() {
        for (name, zone_rule) in [
            ("UTC", ZoneRule::Utc),
            ("utc", ZoneRule::Utc),
            ("Z", ZoneRule::Utc),
            ("+02:00", ZoneRule::Fixed(7200)),
            ("-0800", ZoneRule::Fixed(-28_800)),
            ("+05", ZoneRule::Fixed(18_000)),
            ("-15:59:59", ZoneRule::Fixed(-57_599)),
        ] {
            assert_eq!(parse_zone(name), Some(zone_rule), "{name}");
        }
        let others =
            ["", " UTC", "Mars/Olympus", "02:00", "+2", "+16", "+02:00 ", "UTC+2", "local"];
        for name in others.into_iter().chain(["Los_Angeles"]) {
            assert_eq!(parse_zone(name), None, "{name:?}");
        }
    }

    #[test]
    fn offsets_are_read_in_the_spelling_they_are_written() {
        for seconds in [0, 7200, -12_600, 3208, 57_599, -57_599] {
            assert_eq!(read_offset(&offset_text(seconds)), Some(seconds));
        }
        for none in ["Z", "2", "+2:00", "+0200", "-00:00", "+02:00:00", "+16:00", "+02:00 "] {
            assert_eq!(read_offset(none), None, "{none}");
        }
    }

    #[test]
    fn local_times_are_read_by_the_zone_rule() {
        for text in ["2026-09-08T14:26:21.428210", "2025-08-19 12:00:00", "2025-08-19 12:00"] {
            assert_eq!(exact(text, ZoneRule::Refuse), Err(NotInstant::NoZone));
            assert_eq!(nearest(text, ZoneRule::Refuse), Err(NotInstant::NoZone));
        }
        assert_reads("2026-09-08T14:26:21.428210", ZoneRule::Utc, "2026-09-08 14:26:21.42821+00");
        assert_reads("2025-08-19 12:00:00", ZoneRule::Fixed(19_800), "2025-08-19 06:30:00+00");
        assert_reads("0044-03-15 12:00:00 BC", ZoneRule::Utc, "0044-03-15 12:00:00+00 BC");
    }
}
