//! CHECK constraints that can be foreseen: one column against a list of texts or a least number.

/// A CHECK constraint on one column whose effect can be foreseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckConstraint {
    /// One of these texts.
    OneOf(Vec<String>),
    /// A number that is not below this one.
    AtLeast(i64),
}

impl CheckConstraint {
    /// Reads the condition of a CHECK if it is of a form that we can foresee: a column and a list of
    /// texts, or a column and its least value, as SQLite keeps them or PostgreSQL prints them.
    pub fn parse(condition: &str) -> Option<(String, CheckConstraint)> {
        let text = condition.trim();
        let text = text.strip_prefix("CHECK").unwrap_or(text).trim();
        let text = unwrapped(text);
        let end = text.find(|c: char| !(c.is_alphanumeric() || "_\"".contains(c)))?;
        let (column, rest) = text.split_at(end);
        // a text column that is no text is cast before it is compared
        let rest = rest.strip_prefix("::text").unwrap_or(rest).trim();
        let column = column.trim_matches('"').to_owned();
        if column.is_empty() {
            return None;
        }
        if let Some(least) = rest.strip_prefix(">=") {
            return Some((column, CheckConstraint::AtLeast(least.trim().parse().ok()?)));
        }
        let list = rest
            .strip_prefix("= ANY")
            .or_else(|| rest.strip_prefix("IN"))
            .or_else(|| rest.strip_prefix("in"))?;
        let list = unwrapped(list.trim());
        let list = list.split("::text[]").next()?;
        let list = unwrapped(list).strip_prefix("ARRAY[").unwrap_or(unwrapped(list));
        let texts: Option<Vec<String>> =
            list.trim_end_matches(']').split(',').map(quoted_text).collect();
        Some((column, CheckConstraint::OneOf(texts?)))
    }
}

/// A text without the parentheses that enclose all of it.
fn unwrapped(text: &str) -> &str {
    let mut text = text.trim();
    while let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        let mut depth = 0_i32;
        let closes_early = inner.chars().any(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth < 0
        });
        if closes_early {
            break;
        }
        text = inner.trim();
    }
    text
}

/// A text between quotes, perhaps with a cast behind it.
fn quoted_text(item: &str) -> Option<String> {
    let (text, cast) = item.trim().strip_prefix('\'')?.rsplit_once('\'')?;
    (cast.is_empty() || cast.starts_with("::")).then(|| text.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read_as_both_databases_write_them() {
        let list =
            |texts: &[&str]| CheckConstraint::OneOf(texts.iter().map(|t| (*t).into()).collect());
        for (condition, expected) in [
            (
                "CHECK ((event_type = ANY (ARRAY['stop'::text, 'error'::text])))",
                Some(("event_type", list(&["stop", "error"]))),
            ),
            (
                "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
                None,
            ),
            ("event_type IN ('stop', 'it''s')", Some(("event_type", list(&["stop", "it's"])))),
            ("(duration_ms >= 0)", Some(("duration_ms", CheckConstraint::AtLeast(0)))),
            ("CHECK ((duration_ms >= 0))", Some(("duration_ms", CheckConstraint::AtLeast(0)))),
            ("a > 1 OR b IN ('x')", None),
            ("event_type IN ('stop', upper('x'))", None),
        ] {
            let found = CheckConstraint::parse(condition);
            let expected = expected.map(|(column, check)| (column.to_owned(), check));
            assert_eq!(found, expected, "{condition}");
        }
    }
}
