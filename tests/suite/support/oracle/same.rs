//! Whether two cells say the same, decided without the code under test.

use super::*;

/// How two values are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Same {
    /// The same bytes.
    Kept,
    /// The same meaning, spelled as the other kind of column spells it.
    Converted,
    /// Something else.
    Differs,
}

/// Compares a value with its result. `bare` is the result without the reserved key, `jsonb` how Postgres
/// itself spells the text as `jsonb`.
pub(crate) fn same(
    from: &Cell,
    to: &Cell,
    bare: Option<&Cell>,
    zone: Option<Zoneless>,
    jsonb: Option<&str>,
) -> Same {
    let (Some(a), Some(b)) = (&from.bytes, &to.bytes) else {
        return if from.bytes == to.bytes { Same::Kept } else { Same::Differs };
    };
    let converted = |yes: bool| if yes { Same::Converted } else { Same::Differs };
    let (one, other) = (family(&from.class), family(&to.class));
    // of PostgreSQL's two, `json` keeps a text byte for byte
    let text = other == "text" || to.class == "json";
    if a == b && (one == other || (one != "blob" && text && one != "number")) {
        return Same::Kept;
    }
    if one != "blob" && to.class == "text" && unfolded(b).is_some_and(|b| b == *a) {
        return Same::Kept;
    }
    let texts = (from.text(), to.text());
    let (Some(x), Some(y)) = texts else { return Same::Differs };
    if one == "blob" || other == "blob" {
        return Same::Differs;
    }
    if to.class == "uuid" || from.class == "uuid" {
        return converted(Uuid::try_parse(x).is_ok() && Uuid::try_parse(x) == Uuid::try_parse(y));
    }
    if to.class == "timestamptz" || from.class == "timestamptz" {
        let zone_rule = if zone == Some(Zoneless::Utc) { 0 } else { EAST };
        return converted(
            one != "number" && instant(x, zone_rule) == instant(y, 0) && instant(y, 0).is_some(),
        );
    }
    if to.class == "jsonb" {
        let bare = bare.and_then(Cell::text);
        return converted(jsonb.is_some_and(|j| j == y || Some(j) == bare));
    }
    match (one, other) {
        ("number", "text") | ("text", "number") => converted(a == b),
        ("number", "number") => converted(x.parse::<f64>().ok() == y.parse::<f64>().ok()),
        ("bool", "number") => converted((x == "t" || x == "true") == (y == "1")),
        _ => Same::Differs,
    }
}

pub(super) fn family(class: &str) -> &str {
    match class {
        "integer" | "int2" | "int4" | "int8" => "number",
        "real" | "float4" | "float8" => "real",
        "bool" | "blob" | "uuid" | "timestamptz" => class,
        "json" | "jsonb" => "json",
        _ => "text",
    }
}

/// A JSON text without what was folded into its end; None if nothing was.
pub(super) fn unfolded(text: &[u8]) -> Option<Vec<u8>> {
    const KEY: &[u8] = b"\"chronicle_dump\":";
    let at = memchr::memmem::rfind(text, KEY)?;
    let end = text.iter().rposition(|b| *b == b'}')?;
    let head = text[..at].strip_suffix(b",").unwrap_or(&text[..at]);
    Some([head, text.get(end..)?].concat())
}

/// The picoseconds since 1970 that a text says, read by the calendar alone; `east` is where a text without an offset
/// was written.
pub(crate) fn instant(text: &str, east: i128) -> Option<i128> {
    match text {
        "infinity" => return Some(i128::MAX),
        "-infinity" => return Some(i128::MIN),
        _ => {}
    }
    let (text, bc) = text.strip_suffix(" BC").map_or((text, false), |t| (t, true));
    let (date, rest) = text.split_at_checked(text.find(['T', 't', ' '])?)?;
    let mut parts = date.splitn(3, '-');
    let mut part = || parts.next()?.parse::<i128>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    let year = if bc { 1 - year } else { year };
    let clock_end = rest[1..].find(|c: char| !(c.is_ascii_digit() || ":.,".contains(c)));
    let (clock, zone) = rest[1..].split_at(clock_end.unwrap_or(rest.len() - 1));
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let number = |t: &str| t.parse::<i128>().ok();
    let times: Vec<i128> = clock.split(':').map(number).collect::<Option<_>>()?;
    let seconds = times.iter().zip([3600, 60, 1]).map(|(t, unit)| t * unit).sum::<i128>();
    let zone = zone.trim();
    let offset = match zone.chars().next() {
        None => east,
        Some('Z' | 'z' | 'U') => 0,
        Some(sign) => {
            let digits: String = zone[1..].chars().filter(char::is_ascii_digit).collect();
            let two = |n: usize| digits.get(2 * n..2 * n + 2).map_or(Some(0), number);
            let value = two(0)? * 3600 + two(1)? * 60 + two(2)?;
            if sign == '-' { -value } else { value }
        }
    };
    let picos: i128 = format!("{fraction:0<12}").get(..12)?.parse().ok()?;
    let whole = days(year, month, day)? * 86_400 + seconds - offset;
    Some(whole * 1_000_000_000_000 + picos)
}

/// The days since 1970-01-01 in the Gregorian calendar.
pub(super) fn days(year: i128, month: i128, day: i128) -> Option<i128> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let most = match month {
        2 => 28 + i128::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=most).contains(&day) {
        return None;
    }
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    Some(
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day
            - 719_469,
    )
}

/// How Postgres spells texts as `jsonb`; None for those that it refuses.
pub(crate) fn as_jsonb(texts: &[Option<&str>]) -> Vec<Option<String>> {
    let database = Cluster::get().database("as jsonb");
    let mut sql = String::from(
        "CREATE FUNCTION pg_temp.spelled(text) RETURNS text LANGUAGE plpgsql AS $$ \
         BEGIN RETURN $1::jsonb::text; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;",
    );
    for text in texts {
        let text = text.filter(|t| !t.contains('\0'));
        let literal = text.map_or("NULL".into(), |t| format!("'{}'", t.replace('\'', "''")));
        writeln!(sql, "SELECT pg_temp.spelled({literal});").unwrap();
    }
    database.rows(&sql).into_iter().map(|mut row| row.remove(0)).collect()
}
