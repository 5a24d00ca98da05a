//! Intervals: from the style in which pg_dump has them written to that of ISO 8601, as the server writes both.

/// An interval in the style of ISO 8601; None if it is not one as pg_dump writes them.
pub(super) fn iso_8601(text: &str) -> Option<String> {
    if matches!(text, "infinity" | "-infinity") {
        return Some(text.to_owned());
    }
    let mut iso = String::from("P");
    let mut words = text.split(' ').peekable();
    for (unit, letter) in [("year", 'Y'), ("mon", 'M'), ("day", 'D')] {
        let mut ahead = words.clone();
        let (Some(number), Some(name)) = (ahead.next(), ahead.next()) else { break };
        if name.strip_suffix('s').unwrap_or(name) != unit {
            continue;
        }
        let number: i64 = number.parse().ok()?;
        if number != 0 {
            iso.push_str(&format!("{number}{letter}"));
        }
        words = ahead;
    }
    if let Some(time) = words.next() {
        push_time(&mut iso, time)?;
    }
    if iso == "P" {
        iso.push_str("T0S");
    }
    words.next().is_none().then_some(iso)
}

/// Appends the part below days, such as `-03:04:05.6`.
fn push_time(iso: &mut String, text: &str) -> Option<()> {
    let (minus, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let [hours, minutes]: [u64; 2] = [hours.parse().ok()?, minutes.parse().ok()?];
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let (whole, digits): (u64, u64) = (whole.parse().ok()?, format!("0{fraction}").parse().ok()?);
    if parts.next().is_some() {
        return None;
    }
    if hours + minutes + whole + digits == 0 {
        return Some(());
    }
    iso.push('T');
    for (number, letter) in [(hours, 'H'), (minutes, 'M')] {
        if number != 0 {
            iso.push_str(&format!("{minus}{number}{letter}"));
        }
    }
    if whole != 0 || digits != 0 {
        let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
        iso.push_str(&format!("{minus}{whole}{fraction}S"));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_are_those_of_the_server() {
        for (postgres, iso) in [
            ("00:00:00", Some("PT0S")),
            ("1 mon -2 days +03:04:05.678901", Some("P1M-2DT3H4M5.678901S")),
            ("-178000000 years", Some("P-178000000Y")),
            ("1 year 2 mons 1 day", Some("P1Y2M1D")),
            ("-00:00:00.5", Some("PT-0.5S")),
            ("-1 days -26:00:00", Some("P-1DT-26H")),
            ("infinity", Some("infinity")),
            ("P1M", None),
            ("1 mon 2", None),
            ("03:04", None),
        ] {
            assert_eq!(iso_8601(postgres).as_deref(), iso, "{postgres}");
        }
    }
}
