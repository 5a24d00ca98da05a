//! Checks in one pass whether a text is JSON, and whether it is portable.

use super::JsonIssues;
use super::depth::DeepContainers;
use super::names::Names;
use super::number::read_number;
use super::string::{Piece, walk_string};

/// The deepest portable text; the top level has depth 1.
const MAX_DEPTH: usize = 100;
/// Deeper than this PostgreSQL's own parser may run out of stack, and names are not looked at.
const MAX_SERVER_DEPTH: usize = 1_000;

/// Checks JSON texts one after the other; keeps its buffers, so that most scans allocate nothing.
///
/// ```
/// use chronicle_archive::json::{JsonIssues, Scanner};
///
/// let mut scanner = Scanner::default();
/// assert!(scanner.scan(br#"{"a":1}"#).is_portable());
/// assert_eq!(scanner.scan(br#"{"a":1,"a":2}"#), JsonIssues::DUPLICATE);
/// ```
#[derive(Debug, Default)]
pub struct Scanner {
    /// For every open container: [`ARRAY`], or where the names of the object start in `names`. Those
    /// below [`MAX_SERVER_DEPTH`] are in `deep`.
    open: Vec<usize>,
    /// The containers below.
    deep: DeepContainers,
    /// The names of all open objects.
    names: Names,
}

/// Marks an array in the stack of open containers.
const ARRAY: usize = usize::MAX;
/// Marks an object whose names are not looked at.
const NAMELESS: usize = usize::MAX - 1;

impl Scanner {
    /// Checks the whole of `text`.
    pub fn scan(&mut self, text: &[u8]) -> JsonIssues {
        // no database holds a text of 4 GiB
        if u32::try_from(text.len()).is_err() || std::str::from_utf8(text).is_err() {
            return JsonIssues::INVALID;
        }
        let mut pass = Pass::new(self, text);
        let issues = match pass.whole() {
            Ok(()) => pass.issues,
            Err(Invalid) => JsonIssues::INVALID,
        };
        self.names.release_large();
        issues
    }

    /// Checks the one value at the very start of `text`; returns its length and its issues.
    ///
    /// What follows the value is not checked, except that a digit after a leading zero is invalid.
    /// If the value is invalid, the length says how far it could be read.
    pub fn scan_prefix(&mut self, text: &[u8]) -> (usize, JsonIssues) {
        let mut pass = Pass::new(self, text);
        let result = pass.value();
        let (length, issues) = (pass.at.min(text.len()), pass.issues);
        self.names.release_large();
        // Only now is it known which bytes belong to the value.
        match (result, std::str::from_utf8(&text[..length])) {
            (Ok(()), Ok(_)) => (length, issues),
            (Err(Invalid), Ok(_)) => (length, JsonIssues::INVALID),
            (_, Err(error)) => (error.valid_up_to(), JsonIssues::INVALID),
        }
    }
}

/// The text is not JSON; how far it was read is in [`Pass::at`].
#[derive(Debug)]
struct Invalid;

/// What comes after a value.
enum Next {
    /// Another value, in the same container.
    Value,
    /// The container ended, which itself is a value.
    Closed,
    /// Nothing: it was the outermost value.
    End,
}

/// One run over one text.
struct Pass<'a> {
    state: &'a mut Scanner,
    text: &'a [u8],
    at: usize,
    issues: JsonIssues,
}

impl<'a> Pass<'a> {
    fn new(state: &'a mut Scanner, text: &'a [u8]) -> Self {
        state.open.clear();
        state.deep.clear();
        state.names.clear();
        Pass { state, text, at: 0, issues: JsonIssues::default() }
    }

    /// The value and the white space around it.
    fn whole(&mut self) -> Result<(), Invalid> {
        self.outer_space();
        self.value()?;
        self.outer_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Invalid) }
    }

    fn outer_space(&mut self) {
        let start = self.at;
        self.space();
        if self.at > start {
            self.issues.insert(JsonIssues::OUTER_SPACE);
        }
    }

    /// One value with everything in it; a loop and a stack, because the depth has no limit here.
    fn value(&mut self) -> Result<(), Invalid> {
        if self.peek() != Some(b'{') {
            self.issues.insert(JsonIssues::NOT_OBJECT);
        }
        loop {
            let mut ended = self.begin_value()?;
            while ended {
                match self.after_value()? {
                    Next::Value => ended = false,
                    Next::Closed => {}
                    Next::End => return Ok(()),
                }
            }
        }
    }

    /// Reads a scalar, an empty container, or the start of a container up to its first value.
    /// Returns whether a value has ended.
    #[inline(always)]
    fn begin_value(&mut self) -> Result<bool, Invalid> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| true),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| true),
            Some(b'{') => self.begin_object(),
            Some(b'[') => self.begin_array(),
            Some(b't') => self.literal(b"true").map(|()| true),
            Some(b'f') => self.literal(b"false").map(|()| true),
            Some(b'n') => self.literal(b"null").map(|()| true),
            _ => Err(Invalid),
        }
    }

    fn begin_object(&mut self) -> Result<bool, Invalid> {
        self.open(self.state.names.len());
        if self.peek() == Some(b'}') {
            self.close();
            return Ok(true);
        }
        self.name()?;
        Ok(false)
    }

    fn begin_array(&mut self) -> Result<bool, Invalid> {
        self.open(ARRAY);
        if self.peek() == Some(b']') {
            self.close();
            return Ok(true);
        }
        Ok(false)
    }

    #[inline(always)]
    fn after_value(&mut self) -> Result<Next, Invalid> {
        let container = match self.state.deep.last() {
            None => match self.state.open.last() {
                Some(&container) => container,
                None => return Ok(Next::End),
            },
            Some(is_array) => {
                if is_array {
                    ARRAY
                } else {
                    NAMELESS
                }
            }
        };
        self.space();
        match (self.peek(), container) {
            (Some(b','), _) => {
                self.at += 1;
                self.space();
                if container != ARRAY {
                    self.name()?;
                }
                Ok(Next::Value)
            }
            (Some(b']'), ARRAY) => {
                self.close();
                Ok(Next::Closed)
            }
            (Some(b'}'), first_name) if first_name != ARRAY => {
                self.close();
                Ok(Next::Closed)
            }
            _ => Err(Invalid),
        }
    }

    /// Steps over the bracket at `at` and the white space after it, into the container.
    fn open(&mut self, container: usize) {
        if self.state.open.len() == MAX_SERVER_DEPTH {
            self.state.deep.push(container == ARRAY);
            self.issues.insert(JsonIssues::VERY_DEEP);
        } else {
            self.state.open.push(container);
        }
        if self.state.open.len() > MAX_DEPTH {
            self.issues.insert(JsonIssues::DEEP);
        }
        self.at += 1;
        self.space();
    }

    /// Steps over the bracket at `at`, out of the container.
    fn close(&mut self) {
        self.at += 1;
        if self.state.deep.pop().is_some() {
            return;
        }
        if let Some(first_name) = self.state.open.pop().filter(|&container| container != ARRAY) {
            // One pair of equal names is enough.
            if !self.issues.contains(JsonIssues::DUPLICATE)
                && self.state.names.have_equal(self.text, first_name)
            {
                self.issues.insert(JsonIssues::DUPLICATE);
            }
            self.state.names.truncate(first_name);
        }
    }

    /// Reads a name, its colon, and the white space around that.
    #[inline(always)]
    fn name(&mut self) -> Result<(), Invalid> {
        let start = self.at + 1;
        if self.peek() != Some(b'"') {
            return Err(Invalid);
        }
        let escaped = self.string()?;
        if self.state.deep.is_empty() {
            self.state.names.push(self.text, start, self.at - 1, escaped);
        }
        self.space();
        if self.peek() != Some(b':') {
            return Err(Invalid);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Reads the string whose opening quote is at `at`; returns whether it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, Invalid> {
        let mut issues = self.issues;
        let mut escaped = false;
        let end = walk_string(self.text, self.at, |piece| match piece {
            Piece::Plain(_) => {}
            Piece::Char(c) => {
                escaped = true;
                if c == '\0' {
                    issues.insert(JsonIssues::NUL);
                }
            }
            Piece::Lone(_) => {
                escaped = true;
                issues.insert(JsonIssues::SURROGATE);
            }
        });
        self.issues = issues;
        self.advance_to(end)?;
        Ok(escaped)
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Invalid> {
        match read_number(self.text, self.at) {
            Ok((end, issues)) => {
                self.at = end;
                self.issues.insert(issues);
                Ok(())
            }
            Err(stopped) => self.advance_to(Err(stopped)),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Invalid> {
        let rest = self.text[self.at..].iter();
        let same = rest.zip(word).take_while(|(read, expected)| read == expected).count();
        self.at += same;
        if same == word.len() { Ok(()) } else { Err(Invalid) }
    }

    /// Moves to the end of a token, or to where it is invalid.
    #[inline(always)]
    fn advance_to(&mut self, end: Result<usize, usize>) -> Result<(), Invalid> {
        match end {
            Ok(at) => {
                self.at = at;
                Ok(())
            }
            Err(at) => {
                self.at = at;
                Err(Invalid)
            }
        }
    }

    #[inline(always)]
    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            if matches!(byte, b'\n' | b'\r') {
                self.issues.insert(JsonIssues::LINE_BREAK);
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::super::testing::{OK, Seen, any_json, nearly_json, nested, scan};
    use super::*;

    fn union(flags: &[JsonIssues]) -> JsonIssues {
        flags.iter().fold(OK, |all, flag| all.union(*flag))
    }

    #[test]
    fn portable_texts_have_no_issues() {
        let cases = [
            r#"{}"#,
            r#"{ "a" : [ 1 , { } , [ ] , "x" , true , false , null ] }"#,
            "{\t\"a\":\t1}",
            r#"{"a":-0,"b":1E2,"c":1.10,"d":9007199254740993,"e":0.0,"f":1e+5}"#,
            r#"{"":"\"\\\/\b\f\n\r\t\u00e9\u001F"}"#,
            r#"{"a":"\ud83d\ude00\uD83D\uDE00"}"#,
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"a":1,"A":1,"a ":1,"é":1,"é":1}"#,
            "{\"a\":\"\u{7f}\u{2028}\u{feff}😀\"}",
        ];
        for text in cases {
            assert_eq!(scan(text), OK, "{text}");
        }
    }

    #[test]
    fn other_texts_are_invalid_and_nothing_else() {
        let cases = [
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "{}}",
            "{} x",
            "{}{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "[,]",
            "[1,]",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{1:2}",
            "{\"a\":1]",
            "[1}",
            "{'a':1}",
            "tru",
            "nul",
            "True",
            "nullx",
            "NaN",
            "Infinity",
            "-Infinity",
            "-",
            "+1",
            "01",
            "-01",
            "00",
            "1.",
            ".5",
            "1.e1",
            "1e",
            "1e+",
            "1E-x",
            "0x1",
            "\"\t\"",
            "\"\n\"",
            "\"\0\"",
            "\"\u{1f}\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\\U0041\"",
            "\"\\",
            "\"\\\"",
            "\"\\ud83d\\u\"",
            "\"\\é\"",
            "\u{feff}{}",
            "{}\u{feff}",
            "{}\0",
            "{\u{a0}}",
            "{\u{c}}",
            "{\"\\u0000\":1e999,",
            "// x\n{}",
            "\n",
            "{\"a\":[}",
            "{\"a\":{]}",
            "[1]]",
        ];
        for text in cases {
            assert_eq!(scan(text), JsonIssues::INVALID, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_invalid() {
        let cases: [&[u8]; 6] = [
            b"{\"\xff\":1}",
            b"{\"a\":\"\xc3\"}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"\xff",
            b"{}\xff",
            b"\xff\xfe{\0}\0",
        ];
        for text in cases {
            assert_eq!(scan(text), JsonIssues::INVALID, "{text:?}");
        }
    }

    #[test]
    fn every_issue_is_found_and_distinguished() {
        use JsonIssues as F;
        let cases: &[(&str, &[JsonIssues])] = &[
            ("[]", &[F::NOT_OBJECT]),
            ("null", &[F::NOT_OBJECT]),
            ("\"{}\"", &[F::NOT_OBJECT]),
            ("-1.5e3", &[F::NOT_OBJECT]),
            ("{\n}", &[F::LINE_BREAK]),
            ("{\"a\":\r1}", &[F::LINE_BREAK]),
            ("{\"a\":1\n,\"b\":2}", &[F::LINE_BREAK]),
            (" {}", &[F::OUTER_SPACE]),
            ("{}\t", &[F::OUTER_SPACE]),
            ("{}\n", &[F::OUTER_SPACE, F::LINE_BREAK]),
            (r#"{"a":"x\u0000y"}"#, &[F::NUL]),
            (r#"{"\u0000":1}"#, &[F::NUL]),
            (r#"{"a":"\\u0000\u0001"}"#, &[]),
            (r#"{"a":"\ud83d"}"#, &[F::SURROGATE]),
            (r#"{"a":"\ude00"}"#, &[F::SURROGATE]),
            (r#"{"a":"\ude00\ud83d"}"#, &[F::SURROGATE]),
            (r#"{"a":"\ud83dA"}"#, &[F::SURROGATE]),
            (r#"{"a":"\ud83d\u0041"}"#, &[F::SURROGATE]),
            (r#"{"a":"\ud83d\u0000"}"#, &[F::SURROGATE, F::NUL]),
            (r#"{"a":"\ud83d\n\ude00"}"#, &[F::SURROGATE]),
            (r#"{"\uD83D":1}"#, &[F::SURROGATE]),
            (r#"{"a":"\ud7ff\ue000\uffff"}"#, &[]),
            (r#"{"a":1,"a":1}"#, &[F::DUPLICATE]),
            (r#"{"a":1,"\u0061":1}"#, &[F::DUPLICATE]),
            (r#"{"\u0061":1,"b":[],"\u0061":1}"#, &[F::DUPLICATE]),
            (r#"{"😀":1,"\ud83d\ude00":1}"#, &[F::DUPLICATE]),
            (r#"{"":1,"":2}"#, &[F::DUPLICATE]),
            (r#"{"/":1,"\/":2}"#, &[F::DUPLICATE]),
            (r#"{"a":{"x":1,"x":1}}"#, &[F::DUPLICATE]),
            (r#"{"a":{"x":1},"b":{"x":1},"a":1}"#, &[F::DUPLICATE]),
            (r#"{"\ud800":1,"\uD800":1}"#, &[F::DUPLICATE, F::SURROGATE]),
            (r#"{"\ud800":1,"\ud801":1}"#, &[F::SURROGATE]),
            (r#"{"a\\":1,"a\"":1,"a":1}"#, &[]),
            (
                r#"[1e999,{"a":1,"a":"\u0000\udfff"}] "#,
                &[F::NOT_OBJECT, F::NUMBER, F::DUPLICATE, F::NUL, F::SURROGATE, F::OUTER_SPACE],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(scan(text), union(expected), "{text:?}");
        }
    }

    #[test]
    fn any_depth_is_read_without_using_the_stack() {
        let very = JsonIssues::DEEP.union(JsonIssues::VERY_DEEP);
        for (depth, expected) in [
            (1, OK),
            (100, OK),
            (101, JsonIssues::DEEP),
            (1_000, JsonIssues::DEEP),
            (1_001, very),
            (1_000_000, very),
        ] {
            assert_eq!(scan(nested(depth)), expected, "{depth}");
        }
        assert_eq!(scan("{\"a\":".repeat(1_000_000)), JsonIssues::INVALID);
    }

    #[test]
    fn a_scanner_forgets_the_previous_text() {
        let mut scanner = Scanner::default();
        for text in [r#"{"a":1,"a":[{"b":1"#, r#"[[[{"a":{"#, "{\"a\":1e999}"] {
            scanner.scan(text.as_bytes());
            assert_eq!(scanner.scan(br#"{"a":1,"b":2}"#), OK);
        }
    }

    #[test]
    fn a_prefix_ends_with_its_value() {
        let prefix = |text: &[u8]| Scanner::default().scan_prefix(text);
        assert_eq!(prefix(br#"{"a":[1, 2]},"exact":null}"#), (12, OK));
        assert_eq!(prefix(b"{} "), (2, OK));
        assert_eq!(prefix(b"{\"a\":1}\xff"), (7, OK));
        assert_eq!(prefix(b"12,"), (2, JsonIssues::NOT_OBJECT));
        assert_eq!(prefix(b"\"x\"}"), (3, JsonIssues::NOT_OBJECT));
        assert_eq!(prefix(b"null}"), (4, JsonIssues::NOT_OBJECT));
        assert_eq!(prefix(b" {}"), (0, JsonIssues::INVALID));
        assert_eq!(prefix(b""), (0, JsonIssues::INVALID));
        assert_eq!(prefix(b"{\"a\":tru }"), (8, JsonIssues::INVALID));
        assert_eq!(prefix(b"{\"a\":\"\xff\"}"), (6, JsonIssues::INVALID));
        assert_eq!(prefix(b"\"\\u"), (3, JsonIssues::INVALID));
        assert_eq!(prefix(b"01"), (1, JsonIssues::INVALID));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn generated_json_is_valid(text in any_json()) {
            prop_assert!(!scan(text).contains(JsonIssues::INVALID));
        }

        #[test]
        fn validity_equals_that_of_serde_json(text in nearly_json()) {
            let valid = serde_json::from_slice::<&RawValue>(&text).is_ok() && std::str::from_utf8(&text).is_ok();
            prop_assert_eq!(scan(&text) != JsonIssues::INVALID, valid, "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn duplicates_and_nuls_equal_those_of_serde_json(text in any_json()) {
            // It cannot read lone surrogates and numbers that are not finite.
            if let Ok(seen) = serde_json::from_str::<Seen>(&text) {
                let issues = scan(&text);
                prop_assert_eq!(issues.contains(JsonIssues::DUPLICATE), seen.duplicate);
                prop_assert_eq!(issues.contains(JsonIssues::NUL), seen.nul);
                prop_assert!(!issues.contains(JsonIssues::SURROGATE));
                prop_assert_eq!(issues.contains(JsonIssues::NOT_OBJECT), !text.trim_start().starts_with('{'));
            }
        }

        #[test]
        fn line_breaks_and_outer_space_are_found(text in any_json()) {
            let issues = scan(&text);
            prop_assert_eq!(issues.contains(JsonIssues::LINE_BREAK), text.contains(['\n', '\r']));
            prop_assert_eq!(issues.contains(JsonIssues::OUTER_SPACE), text.trim_matches([' ', '\t', '\n', '\r']) != text);
        }

        #[test]
        fn a_prefix_has_the_issues_of_the_whole(text in nearly_json(), rest in "([,}\\] ].{0,5})?") {
            let start = text.iter().take_while(|byte| b" \t\n\r".contains(byte)).count();
            let text = &text[start..];
            let end = text.iter().rposition(|byte| !b" \t\n\r".contains(byte)).map_or(0, |last| last + 1);
            let text = &text[..end];
            let whole = scan(text);
            let (length, issues) = Scanner::default().scan_prefix(&[text, rest.as_bytes()].concat());
            if whole != JsonIssues::INVALID {
                prop_assert_eq!((length, issues), (text.len(), whole));
            } else if issues != JsonIssues::INVALID && length <= text.len() {
                // Valid up to here: something else must follow.
                prop_assert!(length < text.len());
                prop_assert_eq!(scan(&text[..length]), issues);
            }
        }
    }
}
