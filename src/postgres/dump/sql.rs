//! The statements of a dump, told apart as psql tells them: whatever is within quotes, comments and the bodies of functions
//! is no statement.

use std::io::BufRead;

use super::input::unreadable;
use crate::error::{Code, Error, Result};

/// The most tokens of a statement that is looked at as a whole; of any other, the first few are.
const MOST_TOKENS: usize = 1 << 16;
const FEW_TOKENS: usize = 16;
/// The most bytes of a name, a text or a comment that are kept: nothing that matters is longer.
const MOST_BYTES: usize = 1 << 10;

/// A word or sign of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word without quotes, in lower case.
    Word(String),
    /// A name in double quotes.
    Name(String),
    /// A text in single quotes, or the place of one in dollars.
    Text(String),
    /// Any other character.
    Sign(char),
}

/// What a dump consists of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement.
    Statement(Statement),
    /// A command of psql, without its backslash.
    Command(String),
    /// A comment of one line, as it is written.
    Comment(String),
}

/// A statement without its semicolon.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// The line in which it begins.
    pub(super) line: u64,
    /// Its tokens, or the first of them.
    pub(super) tokens: Vec<Token>,
    /// Whether there are more.
    pub(super) is_cut: bool,
}

/// Reads a dump.
pub(super) struct Script {
    input: Box<dyn BufRead + Send>,
    /// The line that is read now, counted from 1.
    line: u64,
    /// Whether a backslash within single quotes stands for itself.
    pub(super) standard_strings: bool,
}

/// Where psql sees the end of a statement: not within parentheses, nor in the body of a function that is written in SQL.
#[derive(Default)]
struct Nesting {
    parentheses: usize,
    blocks: usize,
    /// The first words, as far as they may begin a function.
    words: Vec<String>,
}

impl Nesting {
    fn word(&mut self, word: &str) {
        if self.words.len() < 4 {
            self.words.push(word.to_owned());
        }
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let is_routine = matches!(
            words[..],
            ["create", "function" | "procedure", ..]
                | ["create", "or", "replace", "function" | "procedure"]
        );
        match word {
            _ if !is_routine || self.parentheses > 0 => {}
            "begin" => self.blocks += 1,
            "case" if self.blocks > 0 => self.blocks += 1,
            "end" => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
    }

    fn sign(&mut self, sign: u8) {
        match sign {
            b'(' => self.parentheses += 1,
            b')' => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
    }

    fn is_at_end(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }
}

impl Script {
    pub(super) fn new(input: Box<dyn BufRead + Send>) -> Script {
        Script { input, line: 1, standard_strings: true }
    }

    /// The line that comes next, or the last one.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next statement, command or comment; None at the end of the file.
    ///
    /// # Errors
    /// If the file ends within one of them, or cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            match self.peek()? {
                None => return Ok(None),
                Some(b'\\') => {
                    self.bump()?;
                    return Ok(Some(Piece::Command(self.rest_of_line()?)));
                }
                Some(b'-') => {
                    let line = self.line;
                    self.bump()?;
                    if self.peek()? == Some(b'-') {
                        let comment = format!("-{}", self.rest_of_line()?);
                        return Ok(Some(Piece::Comment(comment)));
                    }
                    return self.statement(line, Some(b'-')).map(Some);
                }
                Some(b) if b.is_ascii_whitespace() || b == b';' => drop(self.bump()?),
                Some(_) => return self.statement(self.line, None).map(Some),
            }
        }
    }

    /// Goes to the first line of rows behind a COPY.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn begin_rows(&mut self) -> Result<()> {
        match self.rest_of_line()?.is_empty() {
            true => Ok(()),
            false => {
                let what =
                    format!("line {}: the rows of a COPY begin in a line of their own", self.line);
                Err(Error::new(Code::Source, what).hint("dump the database with pg_dump"))
            }
        }
    }

    /// The next line of rows behind a COPY, without its end; false at the line that ends them.
    ///
    /// # Errors
    /// If the file ends before.
    pub(super) fn row(&mut self, row: &mut Vec<u8>) -> Result<bool> {
        row.clear();
        // one large row must not cost its memory until the end
        row.shrink_to(8 << 20);
        self.input.read_until(b'\n', row).map_err(unreadable)?;
        if row.pop_if(|last| *last == b'\n').is_none() {
            return Err(self.cut("within the rows of a table"));
        }
        self.line += 1;
        // of a carriage return that is data, a dump has the escape
        row.pop_if(|last| *last == b'\r');
        Ok(row != b"\\.")
    }

    /// The error of a file that ends too early.
    pub(super) fn cut(&self, place: &str) -> Error {
        let what = format!("the dump is not complete: it ends in line {}, {place}", self.line);
        Error::new(Code::Source, what).hint(super::CUT)
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.input.fill_buf().map_err(unreadable)?.first().copied())
    }

    fn bump(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?;
        if byte.is_some() {
            self.input.consume(1);
        }
        self.line += u64::from(byte == Some(b'\n'));
        Ok(byte)
    }

    fn eat(&mut self, wanted: u8) -> Result<bool> {
        let is_there = self.peek()? == Some(wanted);
        if is_there {
            self.bump()?;
        }
        Ok(is_there)
    }

    fn rest_of_line(&mut self) -> Result<String> {
        let mut text = Vec::new();
        while let Some(byte) = self.bump()?.filter(|byte| *byte != b'\n') {
            keep(&mut text, byte);
        }
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// A statement that begins here, or with a sign that was read already.
    fn statement(&mut self, line: u64, first: Option<u8>) -> Result<Piece> {
        let (mut tokens, mut is_cut, mut nesting) = (Vec::new(), false, Nesting::default());
        let mut add = |token: Option<Token>| {
            let Some(token) = token else { return };
            let is_whole = |first: &Token| matches!(first, Token::Word(w) if w == "create" || w == "alter" || w == "copy");
            let most = if tokens.first().is_none_or(is_whole) { MOST_TOKENS } else { FEW_TOKENS };
            if tokens.len() < most { tokens.push(token) } else { is_cut = true }
        };
        add(first.map(|sign| Token::Sign(char::from(sign))));
        loop {
            let Some(byte) = self.bump()? else {
                let place = format!("within the statement that begins in line {line}");
                return Err(self.cut(&place));
            };
            match byte {
                b';' if nesting.is_at_end() => break,
                b if b.is_ascii_whitespace() => {}
                b'-' if self.eat(b'-')? => drop(self.rest_of_line()?),
                b'/' if self.eat(b'*')? => self.skip_comment()?,
                b'\'' => {
                    let escapes = !self.standard_strings;
                    add(Some(Token::Text(self.quoted(b'\'', escapes)?)));
                }
                b'"' => add(Some(Token::Name(self.quoted(b'"', false)?))),
                b'$' => add(self.dollar()?),
                b if is_word(b) => {
                    let word = self.word(b)?;
                    // E'…', the text with escapes
                    if word == "e" && self.eat(b'\'')? {
                        add(Some(Token::Text(self.quoted(b'\'', true)?)));
                        continue;
                    }
                    nesting.word(&word);
                    add(Some(Token::Word(word)));
                }
                sign => {
                    nesting.sign(sign);
                    add(Some(Token::Sign(char::from(sign))));
                }
            }
        }
        Ok(Piece::Statement(Statement { line, tokens, is_cut }))
    }

    fn word(&mut self, first: u8) -> Result<String> {
        let mut word = vec![first.to_ascii_lowercase()];
        while let Some(byte) = self.peek()?.filter(|b| is_word(*b) || *b == b'$') {
            self.bump()?;
            keep(&mut word, byte.to_ascii_lowercase());
        }
        Ok(String::from_utf8_lossy(&word).into_owned())
    }

    /// What is within quotes; two of them are one.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<String> {
        let (mut text, start) = (Vec::new(), self.line);
        loop {
            match self.bump()? {
                None => {
                    let place = format!("within the quotes that begin in line {start}");
                    return Err(self.cut(&place));
                }
                Some(b'\\') if escapes => {
                    if let Some(byte) = self.bump()? {
                        keep(&mut text, byte);
                    }
                }
                Some(byte) if byte == quote => {
                    if !self.eat(quote)? {
                        return Ok(String::from_utf8_lossy(&text).into_owned());
                    }
                    keep(&mut text, quote);
                }
                Some(byte) => keep(&mut text, byte),
            }
        }
    }

    /// What begins with a dollar: a text within `$tag$`, or nothing that matters.
    fn dollar(&mut self) -> Result<Option<Token>> {
        let (mut tag, start) = (Vec::new(), self.line);
        while let Some(byte) = self.peek()?.filter(|b| is_word(*b)) {
            self.bump()?;
            tag.push(byte);
            if tag.len() > MOST_BYTES {
                return Ok(None);
            }
        }
        if tag.first().is_some_and(u8::is_ascii_digit) || !self.eat(b'$')? {
            return Ok(None);
        }
        loop {
            match self.bump()? {
                None => {
                    let place = format!("within the text that begins in line {start}");
                    return Err(self.cut(&place));
                }
                Some(b'$') => {
                    let mut matched = 0;
                    while matched < tag.len() && self.peek()? == Some(tag[matched]) {
                        self.bump()?;
                        matched += 1;
                    }
                    // a dollar that does not end it may begin what does
                    if matched == tag.len() && self.eat(b'$')? {
                        return Ok(Some(Token::Text(String::new())));
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// The rest of a comment, which may have others within.
    fn skip_comment(&mut self) -> Result<()> {
        let (mut depth, start) = (1, self.line);
        while depth > 0 {
            match self.bump()? {
                None => {
                    let place = format!("within the comment that begins in line {start}");
                    return Err(self.cut(&place));
                }
                Some(b'/') if self.eat(b'*')? => depth += 1,
                Some(b'*') if self.eat(b'/')? => depth -= 1,
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn keep(text: &mut Vec<u8>, byte: u8) {
    if text.len() < MOST_BYTES {
        text.push(byte);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())))
    }

    /// The words of every statement; commands with a backslash, comments as they are.
    fn pieces(text: &str) -> Vec<String> {
        let mut script = script(text);
        let mut all = Vec::new();
        while let Some(piece) = script.next().unwrap() {
            all.push(match piece {
                Piece::Command(command) => format!("\\{command}"),
                Piece::Comment(comment) => comment,
                Piece::Statement(statement) => {
                    let shown = statement.tokens.iter().map(|token| match token {
                        Token::Word(word) => word.clone(),
                        Token::Name(name) => format!("\"{name}\""),
                        Token::Text(text) => format!("'{text}'"),
                        Token::Sign(sign) => sign.to_string(),
                    });
                    shown.collect::<Vec<_>>().join(" ")
                }
            });
        }
        all
    }

    #[test]
    fn statements_end_where_psql_ends_them() {
        let text = "\\restrict abc\n--\n-- A; comment\n--\nSET x = 'a;''b';\n\
            CREATE FUNCTION f() AS $$ COPY t FROM stdin; $x$ $$;\n\
            CREATE FUNCTION g() AS $_$ $ $_ $__$ ; $1 $_$ LANGUAGE sql;\n\
            CREATE OR REPLACE FUNCTION h() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END;\n\
            CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\n\
            SELECT E'a\\';b', \"x\"\"; y\" /* ; /* ' */ ; */ -- ; \"\n + a$b - $1;;\n-1;";
        assert_eq!(
            pieces(text),
            [
                "\\restrict abc",
                "--",
                "-- A; comment",
                "--",
                "set x = 'a;'b'",
                "create function f ( ) as ''",
                "create function g ( ) as '' language sql",
                "create or replace function h ( ) begin atomic select case when a then 1 end ; select 2 ; end",
                "create rule r as on insert to t do ( select 1 ; select 2 )",
                "select 'a';b' , \"x\"; y\" + a$b -",
                "- 1",
            ]
        );
    }

    #[test]
    fn what_ends_too_early_names_the_line() {
        for (text, place) in [
            ("SELECT 1", "line 1, within the statement that begins in line 1"),
            ("\nSELECT '\n", "line 3, within the quotes that begin in line 2"),
            ("SELECT $a$ \n $b$", "line 2, within the text that begins in line 1"),
            ("SELECT /* \n", "line 2, within the comment that begins in line 1"),
        ] {
            let error = script(text).next().unwrap_err().full();
            assert!(error.contains(place), "{text:?}: {error}");
        }
        let mut script = script("COPY t (a) FROM stdin;\na\\.\n\\.x\n1\r\n\\");
        script.next().unwrap();
        script.begin_rows().unwrap();
        let mut row = Vec::new();
        for expected in ["a\\.", "\\.x", "1"] {
            assert!(script.row(&mut row).unwrap());
            assert_eq!(String::from_utf8_lossy(&row), expected);
        }
        let error = script.row(&mut row).unwrap_err().full();
        assert!(error.contains("line 5, within the rows of a table"), "{error}");
    }

    #[test]
    fn strings_without_the_standard_have_escapes() {
        let mut script = script("SELECT 'a\\'; SELECT 2; --';");
        script.standard_strings = false;
        assert!(matches!(script.next().unwrap(), Some(Piece::Statement(s)) if s.tokens.len() == 2));
        assert_eq!(script.next().unwrap(), None);
    }
}
