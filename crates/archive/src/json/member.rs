//! Finds a member of an object in its text, without parsing the rest into values.

use std::ops::Range;

use super::token::{Token, Tokens};
use super::{JsonIssues, Scanner};

/// Where a member of the top-level object is in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its value.
    pub value: Range<usize>,
    /// What to cut to remove it: the member with its comma and the white space next to it.
    pub whole: Range<usize>,
}

/// Finds the member `name` of the object `text`; None if the text is not a JSON object or has no such
/// member. The last of several with this name counts, as in every database.
///
/// ```
/// use chronicle_archive::json::{Scanner, member};
///
/// let text = r#"{"a": 1, "b": [2, 3]}"#;
/// let place = member(&mut Scanner::default(), text.as_bytes(), "b").unwrap();
/// assert_eq!(&text[place.value], "[2, 3]");
/// assert_eq!(&text[place.whole], r#", "b": [2, 3]"#);
/// ```
pub fn member(scanner: &mut Scanner, text: &[u8], name: &str) -> Option<Place> {
    if scanner.scan(text).intersects(JsonIssues::INVALID.union(JsonIssues::NOT_OBJECT)) {
        return None;
    }
    let mut tokens = Tokens::new(text);
    tokens.next();
    let (mut found, mut decoded) = (None, Vec::new());
    let (mut before, mut is_first) = (tokens.range().end, true);
    while let Some(Token::String) = tokens.next() {
        let is_it = tokens.decode(&mut decoded) == name.as_bytes();
        tokens.next(); // the colon
        let value = tokens.skip_value()?;
        let after = value.end;
        if is_it {
            // The first member goes with the comma after it, any other with the comma before it.
            let whole = match is_first {
                true => before..start_of_next(text, after),
                false => comma_from(text, before)?..after,
            };
            found = Some(Place { value, whole });
        }
        (before, is_first) = (after, false);
    }
    found
}

/// Where the member after the one that ends at `end` starts; `end` itself if there is none.
fn start_of_next(text: &[u8], end: usize) -> usize {
    let mut tokens = Tokens::new(&text[end..]);
    match tokens.next() {
        Some(Token::String) => end + tokens.range().start,
        _ => end,
    }
}

/// The comma after the white space at `at`.
fn comma_from(text: &[u8], at: usize) -> Option<usize> {
    text[at..].iter().position(|byte| *byte == b',').map(|distance| at + distance)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::nearly_json;
    use super::*;

    #[test]
    fn a_member_can_be_cut_out_without_a_trace() {
        for (with, without) in [
            (r#"{"x":1}"#, "{}"),
            (r#"{"a": 1,"x":{"y":[1, "}"]}}"#, r#"{"a": 1}"#),
            (r#"{"x": {"y": 2}, "a": 1}"#, r#"{"a": 1}"#),
            (r#"{"a": 1, "x": "s", "b": {"x": 3}}"#, r#"{"a": 1, "b": {"x": 3}}"#),
            (r#" { "a" : 1 ,"x":2} "#, r#" { "a" : 1 } "#),
            (r#"{"a":1,"\u0078":2}"#, r#"{"a":1}"#),
            (r#"{"x":1,"x":2}"#, r#"{"x":1}"#),
        ] {
            let place = member(&mut Scanner::default(), with.as_bytes(), "x").unwrap();
            let rest = format!("{}{}", &with[..place.whole.start], &with[place.whole.end..]);
            assert_eq!(rest, without, "{with}");
        }
        for none in ["[1]", "{}", r#"{"a":{"x":1}}"#, "", "x", r#"{"x":}"#, r#"{"x""#, r#"{"x":1"#]
        {
            assert_eq!(member(&mut Scanner::default(), none.as_bytes(), "x"), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn cutting_a_member_leaves_valid_json(text in nearly_json()) {
            let mut scanner = Scanner::default();
            if let Some(Place { value, whole }) = member(&mut scanner, &text, "a") {
                prop_assert!(!scanner.scan(&text[value]).contains(JsonIssues::INVALID));
                let rest = [&text[..whole.start], &text[whole.end..]].concat();
                prop_assert!(!scanner.scan(&rest).contains(JsonIssues::INVALID));
            }
        }
    }
}
