//! The tokens of a valid JSON text: the one walk that sanitizing, hashing, comparing and finding members share.

use std::ops::Range;

use super::string::{skip_plain, walk_string};
use super::{plain_string, string};

/// A token. Commas, colons and white space are none: they say nothing that the other tokens do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// The name of a member, with its quotes.
    Name(Quoted<'a>),
    /// A string that is a value, with its quotes.
    String(Quoted<'a>),
    /// A number.
    Number(&'a [u8]),
    /// `true`, `false` or `null`.
    Literal(&'a [u8]),
}

/// A string as written, with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted<'a>(&'a [u8]);

impl<'a> Quoted<'a> {
    /// The string as written, with its quotes.
    pub(crate) fn written(self) -> &'a [u8] {
        self.0
    }

    /// The content, if it has no escapes.
    #[inline(always)]
    pub(crate) fn plain(self) -> Option<&'a [u8]> {
        plain_string(self.0).map(|length| &self.0[1..=length])
    }

    /// The content, decoded into `buffer` if it has escapes; a lone surrogate is left out.
    #[inline(always)]
    pub(crate) fn decode<'b>(self, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        if let Some(plain) = self.plain() {
            return plain;
        }
        buffer.clear();
        // A valid text has no error to report.
        let _ = walk_string(self.0, 0, |piece| match piece {
            string::Piece::Plain(bytes) => buffer.extend_from_slice(bytes),
            string::Piece::Char(c) => string::push_char(buffer, c),
            string::Piece::Lone(_) => {}
        });
        buffer
    }
}

/// Iterates over the tokens of a text that a [`Scanner`](super::Scanner) found to be valid. Of any other text the
/// tokens mean nothing, but the iteration ends.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    text: &'a [u8],
    /// Where the last token begins.
    start: usize,
    /// Behind the last token; for a name, behind its quotes.
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Tokens { text, start: 0, at: 0 }
    }

    /// Where the last token is in the text.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.at
    }

    /// Skips the next value with everything in it; returns where it is in the text.
    pub(crate) fn skip_value(&mut self) -> Option<Range<usize>> {
        let mut start = None;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                Token::ObjectStart | Token::ArrayStart => depth += 1,
                Token::ObjectEnd | Token::ArrayEnd => depth = depth.checked_sub(1)?,
                _ => {}
            }
            let start = *start.get_or_insert(self.start);
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    /// A string or name whose opening quote is at `start`.
    #[inline(always)]
    fn quoted(&mut self) -> Token<'a> {
        let mut end = skip_plain(self.text, self.start + 1);
        while self.text.get(end) == Some(&b'\\') {
            // No escape has a quote or backslash beyond its second byte.
            end = skip_plain(self.text, end + 2);
        }
        self.at = (end + 1).min(self.text.len());
        let quoted = Quoted(&self.text[self.start..self.at]);
        let mut after = self.at;
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(after) {
            after += 1;
        }
        match self.text.get(after) {
            Some(b':') => Token::Name(quoted),
            _ => Token::String(quoted),
        }
    }

    /// The bytes from `start` on of which `belongs` is true, but at least one.
    #[inline(always)]
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        self.at = self.start + 1;
        while self.text.get(self.at).is_some_and(|byte| belongs(*byte)) {
            self.at += 1;
        }
        &self.text[self.start..self.at]
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Token<'a>> {
        self.start = self.at;
        while let Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.start) {
            self.start += 1;
        }
        self.at = self.start + 1;
        Some(match self.text.get(self.start) {
            Some(b'"') => self.quoted(),
            Some(b'{') => Token::ObjectStart,
            Some(b'}') => Token::ObjectEnd,
            Some(b'[') => Token::ArrayStart,
            Some(b']') => Token::ArrayEnd,
            Some(b'-' | b'0'..=b'9') => {
                let part = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                Token::Number(self.run(part))
            }
            Some(_) => Token::Literal(self.run(|byte| byte.is_ascii_lowercase())),
            None => {
                self.at = self.start;
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_json, nearly_json};
    use super::*;

    #[test]
    fn tokens_are_names_values_and_brackets() {
        let text = br#" {"a\"" : [1.5e-3, "b\\" ,null ] , "":{}, "c":"d"} "#;
        let tokens: Vec<_> = Tokens::new(text).collect();
        let expected = [
            Token::ObjectStart,
            Token::Name(Quoted(br#""a\"""#)),
            Token::ArrayStart,
            Token::Number(b"1.5e-3"),
            Token::String(Quoted(br#""b\\""#)),
            Token::Literal(b"null"),
            Token::ArrayEnd,
            Token::Name(Quoted(b"\"\"")),
            Token::ObjectStart,
            Token::ObjectEnd,
            Token::Name(Quoted(b"\"c\"")),
            Token::String(Quoted(b"\"d\"")),
            Token::ObjectEnd,
        ];
        assert_eq!(tokens, expected);
    }

    #[test]
    fn strings_decode_into_the_buffer_only_if_escaped() {
        let mut buffer = b"before".to_vec();
        assert_eq!(Quoted("\"é\"".as_bytes()).decode(&mut buffer), "é".as_bytes());
        assert_eq!(buffer, b"before");
        assert_eq!(Quoted(br#""a\u00e9\n\ud800""#).decode(&mut buffer), "aé\n".as_bytes());
    }

    proptest! {
        #[test]
        fn a_value_is_skipped_as_a_whole(text in any_json(), more in ".{0,5}") {
            let start = text.len() - text.trim_start().len();
            let end = text.trim_end().len();
            let mut tokens = Tokens::new(text.as_bytes());
            prop_assert_eq!(tokens.skip_value(), Some(start..end));
            prop_assert_eq!(tokens.next(), None);
            let text = format!("[{text},{more}");
            let mut tokens = Tokens::new(text.as_bytes());
            prop_assert_eq!(tokens.next(), Some(Token::ArrayStart));
            prop_assert_eq!(tokens.skip_value(), Some(start + 1..end + 1));
        }

        #[test]
        fn tokens_of_any_bytes_come_to_an_end(text in nearly_json()) {
            prop_assert!(Tokens::new(&text).count() <= text.len());
        }
    }
}
