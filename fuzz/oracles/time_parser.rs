//! What holds of the time parser for every input; chrono is the judge where it reads the same.

use chronicle_archive::time::{
    Instant, NotInstant, ZoneRule, offset_at, offset_text, parse_zone, read_offset, read_text,
    read_text_floor, read_text_nearest,
};
use chrono::DateTime;

/// Microseconds from 1970, where chrono counts from, to 2000.
const EPOCH: i64 = 946_684_800_000_000;

/// Panics if the time parser is wrong about `input`.
pub(crate) fn check(input: &[u8]) {
    for zone in ["UTC", "+05:45", "-15:59:59", "Europe/London", "America/New_York"] {
        check_in_zone(input, parse_zone(zone).expect("a zone"));
    }
    match read_text(input, ZoneRule::Refuse) {
        Ok(instant) => {
            check_instant(instant);
            let elsewhere = read_text(input, ZoneRule::Fixed(3600));
            assert_eq!(elsewhere, Ok(instant), "a zone counts where the text names its own");
        }
        Err(NotInstant::NoZone) => check_local(input),
        Err(_) => {}
    }
    check_exact_forms(input);
    check_zone(input);
    compare_with_chrono(input);
    if let Some(bytes) = input.first_chunk() {
        let instant = Instant(i64::from_le_bytes(*bytes));
        if (Instant::MIN..=Instant::MAX).contains(&instant) {
            check_instant(instant);
        }
    }
}

/// The ways to read a text agree with each other.
fn check_in_zone(input: &[u8], zone: ZoneRule) {
    let nearest = read_text_nearest(input, zone);
    let floor = read_text_floor(input, zone);
    match read_text(input, zone) {
        Ok(instant) => {
            assert_eq!((nearest, floor), (Ok(instant), Ok(instant)));
            check_instant(instant);
        }
        Err(NotInstant::TooFine | NotInstant::Gap | NotInstant::Overlap) => {
            // what is only unclear has a nearest reading, unless that is out of range
            for read in [nearest, floor] {
                assert!(matches!(read, Ok(_) | Err(NotInstant::OutOfRange)), "{read:?}");
            }
            if let (Ok(nearest), Ok(floor)) = (nearest, floor) {
                assert!((0..=1).contains(&(nearest.0 - floor.0)));
            }
        }
        Err(error) => assert_eq!((nearest, floor), (Err(error), Err(error))),
    }
}

/// What is written is read again, and says the same as chrono.
fn check_instant(instant: Instant) {
    let infinite = matches!(instant, Instant::INFINITY | Instant::NEG_INFINITY);
    assert!(infinite || (Instant::MIN..=Instant::MAX).contains(&instant));
    let mut text = Vec::new();
    instant.write_postgres(&mut text);
    assert_eq!(Instant::read_postgres(&text), Some(instant));
    text.clear();
    if instant.write_portable(&mut text) {
        assert_eq!(Instant::read_portable(&text), Some(instant));
        assert_eq!(read_text(&text, ZoneRule::Refuse), Ok(instant));
        let judge = DateTime::from_timestamp_micros(instant.0 + EPOCH).expect("within its range");
        let judged = judge.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        assert_eq!(String::from_utf8_lossy(&text), judged);
    } else {
        assert!(text.is_empty());
    }
}

/// The offset of a local time is found again, but at the very ends of the range.
fn check_local(input: &[u8]) {
    if read_text_nearest(input, ZoneRule::Utc).is_err() {
        return;
    }
    for seconds in [0, 3600, -12_345, 57_599] {
        if let Ok(instant) = read_text(input, ZoneRule::Fixed(seconds)) {
            assert_eq!(offset_at(input, instant), Some(seconds));
        }
    }
}

/// A form that is written in one way only is read in that way only.
fn check_exact_forms(input: &[u8]) {
    let mut text = Vec::new();
    if let Some(instant) = Instant::read_portable(input) {
        assert!(instant.write_portable(&mut text));
        assert_eq!(text, input);
        assert_eq!(read_text(input, ZoneRule::Refuse), Ok(instant));
    }
    text.clear();
    if let Some(instant) = Instant::read_postgres(input) {
        instant.write_postgres(&mut text);
        assert_eq!(text, input);
    }
}

fn check_zone(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else { return };
    if let Some(ZoneRule::Fixed(seconds)) = parse_zone(name) {
        assert!(seconds.abs() < 16 * 3600);
        assert_eq!(read_offset(&offset_text(seconds)), Some(seconds));
    }
    if let Some(seconds) = read_offset(name) {
        assert_eq!(parse_zone(name), Some(ZoneRule::Fixed(seconds)));
    }
}

/// RFC 3339 is read as chrono reads it. It has leap seconds of its own.
fn compare_with_chrono(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (Ok(judge), Ok(instant)) =
        (DateTime::parse_from_rfc3339(text), read_text(input, ZoneRule::Refuse))
    else {
        return;
    };
    if judge.timestamp_subsec_nanos() < 1_000_000_000 {
        assert_eq!(instant.0, judge.timestamp_micros() - EPOCH, "{text}");
    }
}

/// Times as databases hold them, and near misses.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "2025-08-19T12:00:00.123456Z",
        "2025-08-19 12:00:00.5+00",
        "2025-08-19 12:00",
        "2025-03-30T01:30:00",
        "2025-10-26 01:30:00,1234567",
        "2025-11-02 01:30:00 UTC",
        "2024-02-29T23:59:60.0000005-08:00",
        "2025-12-31t24:00:00+0545",
        "0044-03-15 12:00:00+00 BC",
        "4714-11-24 00:00:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
        "294276-12-31 23:59:59.9999999+15:59:59",
        "12345-01-01 00:00:00 z",
        "2150-07-01 02:30:00",
        "infinity",
        "-infinity",
        "2025-02-30 00:00:00",
        "now",
        "20250819",
        "+02:00",
        "-15:59:59",
        "Europe/Berlin",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}
