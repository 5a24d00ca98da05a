//! Whether a type of Postgres loses something of a text that it takes: pure, from the text and the server's own spelling.

use crate::decimal::Decimal;

/// Whether a text of a time means another one with every import.
pub(super) fn is_relative(ty: &str, text: &str) -> bool {
    let words = ["now", "today", "tomorrow", "yesterday"];
    let is_time = matches!(ty, "date" | "timestamp" | "timestamptz" | "time" | "timetz");
    is_time && words.iter().any(|word| text.to_ascii_lowercase().contains(word))
}

/// Whether the type named `ty` loses something of a text that it spells as `spelled`, and as `unlimited`
/// where it has limits and has them not.
pub(super) fn loses(ty: &str, text: &str, spelled: &str, unlimited: Option<&str>) -> bool {
    let own = match ty {
        "numeric" | "money" | "int2" | "int4" | "int8" | "oid" => other_number(text, spelled),
        "varchar" | "text" | "name" | "char" => text != spelled,
        // blanks at its end are none of its value
        "bpchar" => text.trim_end_matches(' ') != spelled.trim_end_matches(' '),
        "bit" | "varbit" => match text.trim().strip_prefix(['b', 'B']).unwrap_or(text.trim()) {
            hexadecimal if hexadecimal.starts_with(['x', 'X']) => false,
            digits => digits != spelled,
        },
        "json" | "jsonb" | "float4" | "float8" => false,
        "date" => has_time_of_day(text),
        "timestamp" => has_offset(text) || finer(text, spelled),
        "time" => has_offset(text) || has_date(text) || finer(text, spelled),
        "timetz" => has_date(text) || finer(text, spelled),
        "timestamptz" => finer(text, spelled),
        _ => has_long_fraction(text) && !same_numbers(text, spelled),
    };
    own || unlimited.is_some_and(|unlimited| match ty {
        "bpchar" => unlimited.trim_end_matches(' ') != spelled.trim_end_matches(' '),
        _ => unlimited != spelled && !same_numbers(unlimited, spelled),
    })
}

fn other_number(text: &str, spelled: &str) -> bool {
    let plain = |text: &str| text.replace(['$', ','], "");
    let read = |text: &str| Decimal::read(plain(text).as_bytes());
    match (read(text), read(spelled)) {
        (Some(given), Some(loaded)) => given != loaded,
        // NaN, infinity, or a number in a form of the server alone
        _ => false,
    }
}

/// The digits of a fraction of a second, without zeros at the end.
fn fraction(text: &str) -> &str {
    let behind = text.rsplit_once(':').map_or("", |(_, seconds)| seconds);
    // an offset has colons, too
    let behind = match behind.contains(['.', ',']) {
        true => behind,
        false => text.split(':').find(|part| part.contains(['.', ','])).unwrap_or(""),
    };
    let Some(at) = behind.find(['.', ',']) else { return "" };
    let digits = &behind[at + 1..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].trim_end_matches('0')
}

/// Whether a time has a fraction of a second that its type rounds.
fn finer(text: &str, spelled: &str) -> bool {
    fraction(text) != fraction(spelled)
}

/// What follows the first colon of a text, which in times is behind the hours.
fn behind_hours(text: &str) -> Option<&str> {
    text.split_once(':').map(|(_, rest)| rest)
}

fn has_date(text: &str) -> bool {
    let before = text.split(':').next().unwrap_or("");
    let hours = before.trim_end_matches(|c: char| c.is_ascii_digit());
    hours.chars().any(|c| c.is_ascii_digit())
}

fn has_time_of_day(text: &str) -> bool {
    let Some((before, rest)) = text.split_once(':') else { return false };
    let start = before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let rest = &rest[..offset_at(rest).unwrap_or(rest.len())];
    before[start..].chars().chain(rest.chars()).any(|c| matches!(c, '1'..='9')) || has_offset(text)
}

/// Where an offset or the name of a zone begins behind the hours of a time.
fn offset_at(rest: &str) -> Option<usize> {
    rest.find(|c: char| c == '+' || c == '-' || c.is_ascii_alphabetic())
}

/// Whether a time names an offset from UTC, or a zone other than it.
fn has_offset(text: &str) -> bool {
    let Some(rest) = behind_hours(text) else { return false };
    let Some(at) = offset_at(rest) else { return false };
    let zone = rest[at..].trim();
    match zone.strip_prefix(['+', '-']) {
        Some(digits) => digits.chars().any(|c| matches!(c, '1'..='9')),
        None => !["z", "utc", "gmt", "am", "pm", "bc", "ad"]
            .contains(&zone.to_ascii_lowercase().as_str()),
    }
}

/// The numbers of a text with a point in them.
fn fractions(text: &str) -> impl Iterator<Item = &str> {
    let of_number = |c: char| !(c.is_ascii_digit() || c == '.');
    text.split(of_number).filter(|part| part.contains('.') && part.len() > 1)
}

/// Whether a text has a number with more than six digits behind its point, as no time keeps them.
fn has_long_fraction(text: &str) -> bool {
    let long =
        |number: &str| number.rsplit('.').next().is_some_and(|d| d.trim_end_matches('0').len() > 6);
    fractions(text).any(long)
}

/// Whether two texts hold the same numbers, and else the same characters.
fn same_numbers(one: &str, other: &str) -> bool {
    let of_number = |c: char| c.is_ascii_digit() || c == '.';
    let split = |text: &str| -> (Vec<String>, String) {
        let numbers = text.split(|c| !of_number(c)).filter(|n| !n.is_empty());
        (numbers.map(str::to_owned).collect(), text.chars().filter(|c| !of_number(*c)).collect())
    };
    let ((ours, rest), (theirs, others)) = (split(one), split(other));
    let same = |(a, b): (&String, &String)| {
        a == b
            || matches!((Decimal::read(a.as_bytes()), Decimal::read(b.as_bytes())), (Some(a), Some(b)) if a == b)
            || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
    };
    rest == others && ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_in_another_spelling_loses_nothing() {
        for (ty, text, spelled) in [
            ("numeric", "1.1", "1.10"),
            ("numeric", "1e3", "1000"),
            ("numeric", "nan", "NaN"),
            ("money", "12.50", "12.50"),
            ("money", "$1,234.5", "1234.50"),
            ("timestamp", "2025-01-02T03:04:05", "2025-01-02 03:04:05"),
            ("timestamp", "2025-01-02 03:04:05.500Z", "2025-01-02 03:04:05.5"),
            ("timestamp", "0044-03-15 12:00:00 BC", "0044-03-15 12:00:00 BC"),
            ("timestamp", "2025-01-02", "2025-01-02 00:00:00"),
            ("timestamptz", "2025-01-02 03:04:05.5+05:45", "2025-01-01 21:19:05.5+00"),
            ("date", "2025-1-2", "2025-01-02"),
            ("date", "2025-01-02 00:00:00", "2025-01-02"),
            ("time", "03:04", "03:04:00"),
            ("interval", "1 day", "P1D"),
            ("interval", "1.5 hours", "PT1H30M"),
            ("inet", "10.0.0.1", "10.0.0.1/32"),
            ("_text", "{ a, b }", "{a,b}"),
            ("int4range", "[1,5]", "[1,6)"),
            ("bpchar", "ab   ", "ab"),
            ("bit", "B101", "101"),
            ("point", "(1.50,-2)", "(1.5,-2)"),
        ] {
            assert!(!loses(ty, text, spelled, None), "{ty}: {text} as {spelled}");
        }
        assert!(!loses("numeric", "1.1", "1.10", Some("1.1")));
        assert!(!loses("_numeric", "{1.1,2}", "{1.10,2.00}", Some("{1.1,2}")));
    }

    #[test]
    fn a_value_that_is_rounded_or_cut_loses() {
        for (ty, text, spelled) in [
            ("numeric", "1.234", "1.23"),
            ("money", "12.345", "12.35"),
            ("timestamp", "2025-01-02 03:04:05.1234567", "2025-01-02 03:04:05.123457"),
            ("timestamp", "2025-01-02T03:04:05+02", "2025-01-02 03:04:05"),
            ("timestamp", "2025-01-02T03:04:05 CET", "2025-01-02 03:04:05"),
            ("date", "2025-01-02T03:04:05", "2025-01-02"),
            ("time", "2025-01-02 03:04:05", "03:04:05"),
            ("time", "03:04:05+02", "03:04:05"),
            ("timetz", "03:04:05.1234567+02", "03:04:05.123457+02"),
            ("varchar", "abcd", "abc"),
            ("bpchar", "abcd", "abc"),
            ("varbit", "10111", "101"),
            ("_timestamp", "{2025-01-02 03:04:05.1234567}", "{\"2025-01-02 03:04:05.123457\"}"),
        ] {
            assert!(loses(ty, text, spelled, None), "{ty}: {text} as {spelled}");
        }
        assert!(loses("_varchar", "{abcd}", "{abc}", Some("{abcd}")));
        assert!(loses("interval", "1.5 seconds", "PT2S", Some("PT1.5S")));
        assert!(loses("_numeric", "{1.25}", "{1.3}", Some("{1.25}")));
    }

    #[test]
    fn a_word_for_a_moment_is_no_value() {
        assert!(is_relative("date", "Today"));
        assert!(is_relative("timestamp", "now"));
        assert!(!is_relative("timestamp", "infinity"));
        assert!(!is_relative("varchar", "now"));
    }
}
