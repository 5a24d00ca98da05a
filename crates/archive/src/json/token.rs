//! The tokens of a valid JSON text: the one walk that sanitizing, hashing, comparing and finding members share.

use std::ops::Range;

use super::string::{Piece, push_char, skip_plain, walk_pieces, walk_string};

/// A token. Commas and white space are skipped: they say nothing that the other tokens do not.
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
    /// `:`, after a name.
    Colon,
    /// A name or a string; a method of [`Tokens`] reads it, else the next token skips it.
    String,
    /// A number.
    Number(&'a [u8]),
    /// `true`, `false` or `null`.
    Literal(&'a [u8]),
}

/// The tokens of a text that a [`Scanner`](super::Scanner) found to be valid. Of any other text the tokens mean
/// nothing, but they come to an end.
///
/// It is no `Iterator`, because a string is read once, by a method that suits its reader.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    text: &'a [u8],
    /// Where the last token starts.
    start: usize,
    /// Where the next token is looked for.
    at: usize,
    /// Whether the last token is a string that was not read, so that its end is unknown.
    is_unread: bool,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Tokens { text, start: 0, at: 0, is_unread: false }
    }

    /// The next token; None at the end of the text.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Token<'a>> {
        if self.is_unread {
            self.skip_string();
        }
        self.start = self.at;
        while let Some(b',' | b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.start) {
            self.start += 1;
        }
        self.at = self.start + 1;
        Some(match self.text.get(self.start) {
            Some(b'"') => {
                self.is_unread = true;
                Token::String
            }
            Some(b':') => Token::Colon,
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

    /// Where the last token is in the text; if it is a string, after reading it.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.at
    }

    /// The last token as written; if it is a string, after reading it.
    pub(crate) fn written(&self) -> &'a [u8] {
        self.text.get(self.range()).unwrap_or(&[])
    }

    /// Reads the string that is the last token: its content, if it has no escapes. Else it stays unread.
    #[inline(always)]
    pub(crate) fn plain(&mut self) -> Option<&'a [u8]> {
        let end = skip_plain(self.text, self.start + 1);
        if self.text.get(end) != Some(&b'"') {
            return None;
        }
        (self.at, self.is_unread) = (end + 1, false);
        Some(&self.text[self.start + 1..end])
    }

    /// Reads the string that is the last token: its content, decoded into `buffer` if it has escapes. Lone
    /// surrogates are left out.
    #[inline(always)]
    pub(crate) fn decode<'b>(&mut self, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let end = skip_plain(self.text, self.start + 1);
        let plain = &self.text[self.start + 1..end];
        self.is_unread = false;
        if self.text.get(end) == Some(&b'"') {
            self.at = end + 1;
            return plain;
        }
        buffer.clear();
        buffer.extend_from_slice(plain);
        let end = walk_pieces(self.text, end, |piece| match piece {
            Piece::Plain(bytes) => buffer.extend_from_slice(bytes),
            Piece::Char(c) => push_char(buffer, c),
            Piece::Lone(_) => {}
        });
        self.at = end.unwrap_or(self.text.len());
        buffer
    }

    /// Reads the string that is the last token, piece by piece.
    #[inline(always)]
    pub(super) fn pieces(&mut self, each: impl FnMut(Piece<'a>)) {
        self.is_unread = false;
        self.at = walk_string(self.text, self.start, each).unwrap_or(self.text.len());
    }

    /// Skips the next value with everything in it; returns where it is in the text.
    pub(crate) fn skip_value(&mut self) -> Option<Range<usize>> {
        let mut start = None;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                Token::ObjectStart | Token::ArrayStart => depth += 1,
                Token::ObjectEnd | Token::ArrayEnd => depth = depth.checked_sub(1)?,
                Token::String => self.skip_string(),
                _ => {}
            }
            let start = *start.get_or_insert(self.start);
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    /// Skips the string that is the last token. Its end is the first quote after an even number of backslashes.
    fn skip_string(&mut self) {
        self.is_unread = false;
        let content = self.start + 1;
        self.at = content;
        while let Some(distance) = memchr::memchr(b'"', &self.text[self.at..]) {
            let quote = self.at + distance;
            self.at = quote + 1;
            let before = self.text[content..quote].iter().rev();
            if before.take_while(|byte| **byte == b'\\').count() % 2 == 0 {
                return;
            }
        }
        self.at = self.text.len();
    }

    /// The bytes from `start` on that belong to the token, at least one.
    #[inline(always)]
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        while self.text.get(self.at).is_some_and(|byte| belongs(*byte)) {
            self.at += 1;
        }
        &self.text[self.start..self.at]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_json, any_string, nearly_json};
    use super::*;

    #[test]
    fn tokens_are_strings_values_and_brackets() {
        let text = br#" {"a\"" : [1.5e-3, "b\\" ,null ] , "":{} } "#;
        let mut tokens = Tokens::new(text);
        let (mut found, mut strings) = (Vec::new(), Vec::new());
        while let Some(token) = tokens.next() {
            found.push(token);
            if token == Token::String {
                tokens.skip_string();
                strings.push(tokens.written());
            }
        }
        let expected = [
            Token::ObjectStart,
            Token::String,
            Token::Colon,
            Token::ArrayStart,
            Token::Number(b"1.5e-3"),
            Token::String,
            Token::Literal(b"null"),
            Token::ArrayEnd,
            Token::String,
            Token::Colon,
            Token::ObjectStart,
            Token::ObjectEnd,
            Token::ObjectEnd,
        ];
        assert_eq!(found, expected);
        assert_eq!(strings, [&br#""a\"""#[..], br#""b\\""#, b"\"\""]);
    }

    #[test]
    fn strings_are_decoded_into_the_buffer_only_if_escaped() {
        let mut buffer = b"before".to_vec();
        let mut tokens = Tokens::new(r#"["é","a\u00e9\n\ud800b"]"#.as_bytes());
        assert_eq!((tokens.next(), tokens.next()), (Some(Token::ArrayStart), Some(Token::String)));
        assert_eq!(tokens.decode(&mut buffer), "é".as_bytes());
        assert_eq!(buffer, b"before");
        assert_eq!((tokens.next(), tokens.plain()), (Some(Token::String), None));
        assert_eq!(tokens.decode(&mut buffer), "aé\nb".as_bytes());
        assert_eq!((tokens.next(), tokens.next()), (Some(Token::ArrayEnd), None));
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
        fn a_string_ends_at_the_same_place_however_it_is_read(text in any_string()) {
            let reads: [fn(&mut Tokens<'_>); 3] = [
                |tokens| tokens.skip_string(),
                |tokens| { tokens.decode(&mut Vec::new()); },
                |tokens| tokens.pieces(|_| {}),
            ];
            prop_assume!(super::super::testing::scan(&text) != super::super::JsonIssues::INVALID);
            let longer = format!("{text}\"\\\"");
            for read in reads {
                let mut tokens = Tokens::new(longer.as_bytes());
                prop_assert_eq!(tokens.next(), Some(Token::String));
                read(&mut tokens);
                prop_assert_eq!(tokens.range(), 0..text.len());
            }
        }

        #[test]
        fn tokens_of_any_bytes_come_to_an_end(text in nearly_json(), read: bool) {
            let (mut tokens, mut buffer) = (Tokens::new(&text), Vec::new());
            let mut count = 0;
            while let Some(token) = tokens.next() {
                if read && token == Token::String {
                    tokens.decode(&mut buffer);
                }
                count += 1;
                prop_assert!(count <= text.len());
            }
        }
    }
}
