//! Sanitizing: rewrites a JSON object that is not portable as one that is.

use std::collections::HashMap;

use super::number::read_number;
use super::string::{Piece, push_char, write_char};
use super::token::{Token, Tokens};
use super::{JsonIssues, Scanner};

/// The sanitized text of a JSON object: compact and portable.
///
/// None (null in a record) if the text is not JSON, not an object, or nested too deep. NUL and lone surrogates
/// become U+FFFD, numbers outside the portable range become strings of their digits, and of members whose names
/// are equal after that, the position of the first and the value of the last are kept.
///
/// ```
/// use chronicle_archive::json::sanitize;
///
/// let text = br#"{ "a": "\u0000", "b": 1e999, "a": 2 }"#;
/// assert_eq!(sanitize(text).as_deref(), Some(&br#"{"a":2,"b":"1e999"}"#[..]));
/// assert_eq!(sanitize(b"[]"), None);
/// ```
pub fn sanitize(text: &[u8]) -> Option<Vec<u8>> {
    let refused = JsonIssues::INVALID.union(JsonIssues::NOT_OBJECT).union(JsonIssues::DEEP);
    if Scanner::default().scan(text).intersects(refused) {
        return None;
    }
    let out = Vec::with_capacity(text.len());
    let mut sanitizer = Sanitizer { out, string: 0, objects: Vec::new(), members: Vec::new() };
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.next() {
        sanitizer.write(token, &mut tokens);
    }
    Some(sanitizer.out)
}

/// Writes the tokens of a valid text.
struct Sanitizer {
    out: Vec<u8>,
    /// Where the last string starts in `out`.
    string: usize,
    /// For every open object where its members start, in `out` and in `members`.
    objects: Vec<(usize, usize)>,
    /// The members of all open objects, the innermost last.
    members: Vec<Member>,
}

/// Where the name and the value of a member start in the output.
#[derive(Clone, Copy)]
struct Member {
    name: usize,
    value: usize,
}

impl Sanitizer {
    fn write(&mut self, token: Token<'_>, tokens: &mut Tokens<'_>) {
        match token {
            Token::ObjectStart => {
                self.separate();
                self.out.push(b'{');
                self.objects.push((self.out.len(), self.members.len()));
            }
            Token::ObjectEnd => {
                if let Some((body, first)) = self.objects.pop() {
                    self.keep_last_of_equal_names(body, first);
                }
                self.out.push(b'}');
            }
            Token::ArrayStart => {
                self.separate();
                self.out.push(b'[');
            }
            Token::ArrayEnd => self.out.push(b']'),
            Token::Colon => {
                self.out.push(b':');
                self.members.push(Member { name: self.string, value: self.out.len() });
            }
            Token::String => {
                self.separate();
                self.string = self.out.len();
                self.write_string(tokens);
            }
            Token::Number(number) => {
                self.separate();
                self.write_number(number);
            }
            Token::Literal(word) => {
                self.separate();
                self.out.extend_from_slice(word);
            }
        }
    }

    /// Writes the comma before a value or a name, unless it is the first or a member's value.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    fn write_string(&mut self, tokens: &mut Tokens<'_>) {
        let out = &mut self.out;
        out.push(b'"');
        tokens.pieces(|piece| match piece {
            Piece::Plain(bytes) => out.extend_from_slice(bytes),
            Piece::Char('\0') | Piece::Lone(_) => push_char(out, char::REPLACEMENT_CHARACTER),
            Piece::Char(c) => write_char(out, c),
        });
        out.push(b'"');
    }

    fn write_number(&mut self, token: &[u8]) {
        let portable = read_number(token, 0).is_ok_and(|(_, issues)| issues.is_portable());
        let quote: &[u8] = if portable { b"" } else { b"\"" };
        [quote, token, quote].into_iter().for_each(|part| self.out.extend_from_slice(part));
    }

    /// Ends an object whose text starts at `body` and whose members start at number `first`: merges
    /// members with equal names. All names are escaped alike by now, so equal bytes are equal names.
    fn keep_last_of_equal_names(&mut self, body: usize, first: usize) {
        let members = &self.members[first..];
        let mut places = HashMap::with_capacity(members.len());
        // The number of the first member of a name, and that of the last.
        let mut kept: Vec<(usize, usize)> = Vec::with_capacity(members.len());
        for (n, member) in members.iter().enumerate() {
            let place = *places.entry(&self.out[member.name..member.value]).or_insert(kept.len());
            match kept.get_mut(place) {
                Some((_, last)) => *last = n,
                None => kept.push((n, n)),
            }
        }
        if kept.len() < members.len() {
            let mut merged = Vec::with_capacity(self.out.len() - body);
            for (first, last) in kept {
                // The comma before the next name, or the end of the output, ends a value.
                let end = members.get(last + 1).map_or(self.out.len(), |next| next.name - 1);
                let separator: &[u8] = if merged.is_empty() { b"" } else { b"," };
                merged.extend_from_slice(separator);
                merged.extend_from_slice(&self.out[members[first].name..members[first].value]);
                merged.extend_from_slice(&self.out[members[last].value..end]);
            }
            self.out.truncate(body);
            self.out.append(&mut merged);
        }
        self.members.truncate(first);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{OK, any_json, nearly_json, nested, scan};
    use super::*;

    fn sanitized(text: &str) -> Option<String> {
        sanitize(text.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn what_is_not_portable_is_replaced() {
        let cases = [
            (" {\n\"a\" : [ 1 , 2 ] , \"b\" : { } }\r\n", r#"{"a":[1,2],"b":{}}"#),
            (r#"{"a":"x\u0000y\u0001"}"#, "{\"a\":\"x\u{fffd}y\\u0001\"}"),
            (r#"{"a":"\ud83d\ud83d\ude00\ude00"}"#, "{\"a\":\"\u{fffd}😀\u{fffd}\"}"),
            (r#"{"a":"\ud83d\u0041\ud83dB"}"#, "{\"a\":\"\u{fffd}A\u{fffd}B\"}"),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"{"b":0,"a":1,"\u0061":{"x":1,"x":2},"c":4}"#, r#"{"b":0,"a":{"x":2},"c":4}"#),
            ("{\"\\u0000\":1,\"\\ud800\":2,\"\u{fffd}\":3}", "{\"\u{fffd}\":3}"),
            (
                r#"{"a":[1e999,-1E2,1.10,-0],"b":1e-309}"#,
                r#"{"a":["1e999",-1E2,1.10,-0],"b":"1e-309"}"#,
            ),
            (
                r#"{"\u00e9\/":"\u001F\u0022\u005c\b\f\n\r\t\u007f"}"#,
                "{\"é/\":\"\\u001f\\\"\\\\\\b\\f\\n\\r\\t\u{7f}\"}",
            ),
            (
                r#"{"a":[[],[[]],{},true,false,null,""]} "#,
                r#"{"a":[[],[[]],{},true,false,null,""]}"#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(sanitized(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_than_objects_are_refused() {
        for text in ["[]", "null", "1", "\"{}\"", "", "{", "{}x"] {
            assert_eq!(sanitized(text), None, "{text}");
        }
    }

    #[test]
    fn objects_are_sanitized_up_to_the_portable_depth() {
        for depth in [1, 100, 101, 1_000_000] {
            assert_eq!(sanitized(&nested(depth)).is_some(), depth <= 100, "{depth}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sanitized_text_is_portable_and_stays_as_it_is(text in any_json()) {
            if let Some(once) = sanitize(text.as_bytes()) {
                prop_assert_eq!(scan(&once), OK);
                prop_assert_eq!(sanitize(&once), Some(once));
            } else {
                prop_assert!(scan(&text).contains(JsonIssues::NOT_OBJECT));
            }
        }

        #[test]
        fn damaged_text_is_sanitized_or_refused(text in nearly_json()) {
            if let Some(sanitized) = sanitize(&text) {
                prop_assert_eq!(scan(&sanitized), OK);
            }
        }

        #[test]
        fn sanitizing_keeps_what_serde_json_reads(text in any_json()) {
            let issues = scan(&text);
            // The last of equal names wins there, too; the rest is what sanitizing has to change.
            let changed = [JsonIssues::NUL, JsonIssues::SURROGATE, JsonIssues::NUMBER];
            if !changed.into_iter().any(|flag| issues.contains(flag)) && let Some(sanitized) = sanitize(text.as_bytes()) {
                let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
                prop_assert_eq!(read(&sanitized), read(text.as_bytes()));
            }
        }

        #[test]
        fn compact_portable_text_stays_as_it_is(text in any_json()) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let compact = value.to_string();
                if scan(&compact).is_portable() {
                    prop_assert_eq!(sanitized(&compact), Some(compact));
                }
            }
        }
    }
}
