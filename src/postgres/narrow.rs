//! Rows that the server leaves out itself: the tests of a selection as SQL, as far as SQL says the same.

use super::{literal, quoted};
use crate::selection::{Condition, Narrowing, Test};
use chronicle_archive::time::ZoneRule;
use chronicle_archive::{Kind, Stream};

/// A narrowing as SQL for rows `t` of a stream, behind AND. It may keep rows that are not selected, but leaves out none
/// that are. `table` gives the full name of a stream's table.
pub(super) fn condition(
    narrowing: &Narrowing,
    n: usize,
    streams: &[Stream],
    table: impl Fn(&Stream) -> String,
) -> String {
    let mut all = conditions(&narrowing.conditions, "t", &streams[n], narrowing.zone);
    if let Some((parent, column, of_parent)) = &narrowing.parent {
        let of = &streams[*parent];
        let refers = quoted(&streams[n].columns[*column].physical);
        let passes = conditions(of_parent, "p", of, narrowing.zone);
        if let (Some(key), false) = (of.key.first(), passes.is_empty()) {
            let key = quoted(&of.columns[*key].physical);
            // an orphan stays: it is counted
            all.push(format!(
                "NOT EXISTS (SELECT 1 FROM {} p WHERE p.{key} = t.{refers} AND ({}) IS NOT TRUE)",
                table(of),
                passes.join(" AND ")
            ));
        }
    }
    all.iter().map(|condition| format!(" AND {condition}")).collect()
}

/// The conditions that SQL can say.
fn conditions(all: &[Condition], of: &str, stream: &Stream, zone: ZoneRule) -> Vec<String> {
    let one = |condition: &Condition| {
        let any = condition.any.iter().map(|(column, kind, test)| {
            let column = format!("{of}.{}", quoted(&stream.columns[*column].physical));
            says(&column, *kind, test, zone)
        });
        Some(format!("({})", any.collect::<Option<Vec<_>>>()?.join(" OR ")))
    };
    all.iter().filter_map(one).collect()
}

/// A test as SQL; None if only we can tell.
fn says(column: &str, kind: Kind, test: &Test, zone: ZoneRule) -> Option<String> {
    match (test, kind) {
        (Test::Null, _) => Some(format!("{column} IS NULL")),
        (Test::Is(value), _) if value.contains('\0') => Some("false".into()),
        (Test::Is(value), Kind::Text) => {
            Some(format!("{column} = {} COLLATE \"C\"", literal(value)))
        }
        (Test::Is(value), Kind::Uuid) => Some(match uuid::Uuid::parse_str(value) {
            Ok(uuid) => format!("{column} = '{uuid}'"),
            Err(_) => "false".into(),
        }),
        (Test::Is(value), Kind::Int) => {
            value.parse::<i64>().ok().map(|number| format!("{column} = {number}::bigint"))
        }
        (Test::Like(pattern), Kind::Text) => {
            let like = literal(&like(pattern.as_str())?);
            Some(format!("{column} COLLATE \"C\" LIKE {like} ESCAPE '\\'"))
        }
        (Test::Within(span, _), Kind::Time) => {
            let [since, until] = span.instants(zone);
            let since = since.map(|at| format!("{column} >= '{at}'::timestamptz"));
            let until = until.map(|at| format!("{column} < '{at}'::timestamptz"));
            let both: Vec<String> = since.into_iter().chain(until).collect();
            // rows without a time are counted
            Some(format!("({column} IS NULL OR {})", both.join(" AND ")))
        }
        _ => None,
    }
}

/// A pattern as LIKE has it, which may fit more: a class of characters is any character there.
fn like(pattern: &str) -> Option<String> {
    let mut like = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\0' => return None,
            '*' => {
                like.push('%');
                let behind = rest.as_str().trim_start_matches('*');
                // two of them and a slash may also be nothing
                let is_folders = behind.len() < rest.as_str().len() && behind.starts_with('/');
                rest = if is_folders { behind[1..].chars() } else { behind.chars() };
            }
            '?' => like.push('_'),
            '[' => {
                // as the pattern is read: a bracket in front is one of the class
                let class = rest.as_str().strip_prefix('!').unwrap_or(rest.as_str());
                let first = class.chars().next()?;
                let end = class[first.len_utf8()..].find(']')? + first.len_utf8() + 1;
                rest = class[end..].chars();
                like.push('_');
            }
            '%' | '_' | '\\' => {
                like.push('\\');
                like.push(c);
            }
            c => like.push(c),
        }
    }
    Some(like)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_becomes_one_that_fits_at_least_as_much() {
        for (pattern, expected) in [
            ("/home/*/a?p", "/home/%/a_p"),
            ("100%_\\", "100\\%\\_\\\\"),
            ("a[xyz]b", "a_b"),
            ("a[]x]b[!]]c", "a_b_c"),
            ("[*]", "_"),
            ("/home/**/app", "/home/%app"),
            ("**/app/**", "%app/%"),
        ] {
            assert_eq!(like(pattern).as_deref(), Some(expected), "{pattern}");
        }
    }
}
