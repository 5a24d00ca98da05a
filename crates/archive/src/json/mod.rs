//! JSON text as bytes: is it portable, what is its portable projection, how are its strings read and written.

pub mod hash;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The longest number token of a portable text, in bytes.
const MAX_NUMBER_BYTES: usize = 400;
/// The largest written exponent of a portable text, either way.
const MAX_EXPONENT: usize = 308;
/// Above this many digits and exponent together PostgreSQL's `numeric` may not hold a number.
const MAX_NUMERIC_DIGITS: usize = 16_000;
/// The deepest portable text; the top level has depth 1.
const MAX_DEPTH: usize = 100;
/// Deeper than this PostgreSQL's own parser may run out of stack.
const MAX_SERVER_DEPTH: usize = 1_000;
/// Up to so many names are compared pair by pair; more are sorted by hash first.
const FEW_NAMES: usize = 16;

/// What keeps a text from being portable JSON: a set of flags, empty means portable.
///
/// A text that is not JSON at all has [`JsonIssues::INVALID`] and nothing else: what else was seen would
/// only depend on where reading stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JsonIssues(u16);

impl JsonIssues {
    /// Not JSON as RFC 8259 defines it, in UTF-8 and without a byte order mark.
    pub const INVALID: JsonIssues = JsonIssues(1);
    /// The top level is not an object.
    pub const NOT_OBJECT: JsonIssues = JsonIssues(1 << 1);
    /// A raw LF or CR byte in white space.
    pub const LINE_BREAK: JsonIssues = JsonIssues(1 << 2);
    /// White space before or after the value.
    pub const OUTER_SPACE: JsonIssues = JsonIssues(1 << 3);
    /// U+0000, as an escape, in a string or name.
    pub const NUL: JsonIssues = JsonIssues(1 << 4);
    /// Half a surrogate pair, as an escape, in a string or name.
    pub const SURROGATE: JsonIssues = JsonIssues(1 << 5);
    /// Two equal names in one object, however they are escaped.
    pub const DUPLICATE: JsonIssues = JsonIssues(1 << 6);
    /// A number with a long token or a large exponent, or one that is not finite as a double.
    pub const NUMBER: JsonIssues = JsonIssues(1 << 7);
    /// A number that PostgreSQL's `numeric` may not hold; [`JsonIssues::NUMBER`] is set too.
    pub const HUGE_NUMBER: JsonIssues = JsonIssues(1 << 8);
    /// Nested deeper than 100 levels.
    pub const DEEP: JsonIssues = JsonIssues(1 << 9);
    /// Nested deeper than 1000 levels; [`JsonIssues::DEEP`] is set too.
    pub const VERY_DEEP: JsonIssues = JsonIssues(1 << 10);

    /// Every flag in words, and the stronger flag that makes the words needless.
    const WORDS: [(JsonIssues, &'static str, Option<JsonIssues>); 11] = [
        (Self::INVALID, "not valid JSON", None),
        (Self::NOT_OBJECT, "not an object", None),
        (Self::LINE_BREAK, "a line break between tokens", None),
        (Self::OUTER_SPACE, "white space around the value", None),
        (Self::NUL, "a NUL character", None),
        (Self::SURROGATE, "half a surrogate pair", None),
        (Self::DUPLICATE, "duplicate names", None),
        (Self::NUMBER, "a number outside the portable range", Some(Self::HUGE_NUMBER)),
        (Self::HUGE_NUMBER, "a number too large for PostgreSQL", None),
        (Self::DEEP, "nesting deeper than 100", Some(Self::VERY_DEEP)),
        (Self::VERY_DEEP, "nesting deeper than 1000", None),
    ];

    /// Whether nothing was found.
    pub fn is_portable(self) -> bool {
        self == JsonIssues::default()
    }

    /// Whether every flag of `other` is set.
    pub fn contains(self, other: JsonIssues) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets every flag of `other`.
    pub fn insert(&mut self, other: JsonIssues) {
        self.0 |= other.0;
    }

    /// What was found, in words for people; of two flags where one implies the other, only the stronger.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS
            .into_iter()
            .filter(move |&(flag, _, stronger)| {
                self.contains(flag) && !stronger.is_some_and(|flag| self.contains(flag))
            })
            .map(|(_, words, _)| words)
    }
}

/// Checks JSON texts, one after the other; keeps its buffers, so that a scan allocates nothing in the steady state.
#[derive(Debug, Default)]
pub struct Scanner {
    /// For every open container: [`ARRAY`], or where the names of the object start in `names`.
    open: Vec<usize>,
    /// The names of all open objects, the innermost last.
    names: Vec<Name>,
    /// The decoded bytes of a name that has escapes.
    decoded: Vec<u8>,
}

/// Marks an array in the stack of open containers.
const ARRAY: usize = usize::MAX;

/// A name of an object: where it is written, without its quotes, and the hash of what it means.
#[derive(Debug, Clone, Copy)]
struct Name {
    hash: u64,
    start: usize,
    end: usize,
}

impl Scanner {
    /// Checks the whole of `text`.
    pub fn scan(&mut self, text: &[u8]) -> JsonIssues {
        if std::str::from_utf8(text).is_err() {
            return JsonIssues::INVALID;
        }
        let mut pass = Pass::new(self, text);
        match pass.whole() {
            Ok(()) => pass.found,
            Err(Invalid) => JsonIssues::INVALID,
        }
    }

    /// Checks the one value at the very start of `text`; returns its length and what was found.
    ///
    /// What follows the value is not looked at, except that a digit after a leading zero is invalid.
    /// If the value is invalid, the length says how far it could be read.
    pub fn scan_prefix(&mut self, text: &[u8]) -> (usize, JsonIssues) {
        let mut pass = Pass::new(self, text);
        let result = pass.value();
        let (length, found) = (pass.at.min(text.len()), pass.found);
        // Only now is it known which bytes belong to the value.
        match (result, std::str::from_utf8(&text[..length])) {
            (Ok(()), Ok(_)) => (length, found),
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
    /// The container ended, and thereby is itself a value that ended.
    Closed,
    /// Nothing: the value was the outermost one.
    End,
}

/// One run over one text.
struct Pass<'a> {
    state: &'a mut Scanner,
    text: &'a [u8],
    at: usize,
    found: JsonIssues,
}

impl<'a> Pass<'a> {
    fn new(state: &'a mut Scanner, text: &'a [u8]) -> Self {
        state.open.clear();
        state.names.clear();
        Pass { state, text, at: 0, found: JsonIssues::default() }
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
            self.found.insert(JsonIssues::OUTER_SPACE);
        }
    }

    /// One value with everything in it. A loop and a stack instead of recursion: depth is not limited here.
    fn value(&mut self) -> Result<(), Invalid> {
        if self.peek() != Some(b'{') {
            self.found.insert(JsonIssues::NOT_OBJECT);
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
        let Some(&container) = self.state.open.last() else {
            return Ok(Next::End);
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
        self.state.open.push(container);
        let depth = self.state.open.len();
        if depth > MAX_DEPTH {
            self.found.insert(JsonIssues::DEEP);
        }
        if depth > MAX_SERVER_DEPTH {
            self.found.insert(JsonIssues::VERY_DEEP);
        }
        self.at += 1;
        self.space();
    }

    /// Steps over the bracket at `at`, out of the container.
    fn close(&mut self) {
        self.at += 1;
        if let Some(first_name) = self.state.open.pop().filter(|&container| container != ARRAY) {
            // One pair of equal names is enough to know.
            if !self.found.contains(JsonIssues::DUPLICATE)
                && has_equal(self.text, &mut self.state.names[first_name..])
            {
                self.found.insert(JsonIssues::DUPLICATE);
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
        let end = self.at - 1;
        let hash = if escaped {
            self.state.decoded.clear();
            decode_name(&self.text[start..end], &mut self.state.decoded);
            hash(&self.state.decoded)
        } else {
            hash(&self.text[start..end])
        };
        self.state.names.push(Name { hash, start, end });
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
        let mut found = self.found;
        let mut escaped = false;
        let end = walk_string(self.text, self.at, |piece| match piece {
            Piece::Plain(_) => {}
            Piece::Char(c) => {
                escaped = true;
                if c == '\0' {
                    found.insert(JsonIssues::NUL);
                }
            }
            Piece::Lone(_) => {
                escaped = true;
                found.insert(JsonIssues::SURROGATE);
            }
        });
        self.found = found;
        self.arrive(end)?;
        Ok(escaped)
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Invalid> {
        match read_number(self.text, self.at) {
            Ok((end, found)) => {
                self.at = end;
                self.found.insert(found);
                Ok(())
            }
            Err(stopped) => self.arrive(Err(stopped)),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Invalid> {
        let rest = self.text[self.at..].iter();
        let same = rest.zip(word).take_while(|(read, expected)| read == expected).count();
        self.at += same;
        if same == word.len() { Ok(()) } else { Err(Invalid) }
    }

    /// Goes to the end of a token, or to where it turned out to be wrong.
    #[inline(always)]
    fn arrive(&mut self, end: Result<usize, usize>) -> Result<(), Invalid> {
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
                self.found.insert(JsonIssues::LINE_BREAK);
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// Whether two of the names mean the same; may reorder them.
fn has_equal(text: &[u8], names: &mut [Name]) -> bool {
    if names.len() <= FEW_NAMES {
        return names.iter().enumerate().any(|(i, one)| {
            names[..i].iter().any(|other| one.hash == other.hash && same_name(text, one, other))
        });
    }
    names.sort_unstable_by_key(|name| name.hash);
    let mut runs = names.chunk_by(|one, other| one.hash == other.hash).filter(|run| run.len() > 1);
    runs.any(|run| {
        // Equal hashes are nearly always equal names; the set only keeps contrived collisions harmless.
        let mut seen = HashSet::new();
        run.iter().any(|name| !seen.insert(meaning(text, name)))
    })
}

fn same_name(text: &[u8], one: &Name, other: &Name) -> bool {
    meaning(text, one) == meaning(text, other)
}

/// The decoded bytes of a name.
fn meaning<'a>(text: &'a [u8], name: &Name) -> Cow<'a, [u8]> {
    let written = &text[name.start..name.end];
    if memchr::memchr(b'\\', written).is_none() {
        return Cow::Borrowed(written);
    }
    let mut decoded = Vec::with_capacity(written.len());
    decode_name(written, &mut decoded);
    Cow::Owned(decoded)
}

/// Decodes a valid name without its quotes. A lone surrogate becomes its three bytes in generalised UTF-8,
/// which no character has: different names stay different.
fn decode_name(written: &[u8], out: &mut Vec<u8>) {
    // The missing closing quote is the only error there can be, and it comes after all pieces.
    let _ = walk_pieces(written, 0, |piece| match piece {
        Piece::Plain(bytes) => out.extend_from_slice(bytes),
        Piece::Char(c) => push_char(out, c),
        Piece::Lone(unit) => out.extend_from_slice(&[
            0xE0 | (unit >> 12) as u8,
            0x80 | (unit >> 6 & 0x3F) as u8,
            0x80 | (unit & 0x3F) as u8,
        ]),
    });
}

/// A hash of short byte strings: every 8 bytes are folded in by one wide multiplication.
#[inline(always)]
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = SEED ^ bytes.len() as u64;
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(hash ^ u64::from_le_bytes(last))
}

/// Mixes every bit into every other: both halves of a 128-bit product.
#[inline(always)]
fn fold(word: u64) -> u64 {
    let product = u128::from(word) * 0xE703_7ED1_A0B4_28DB;
    (product >> 64) as u64 ^ product as u64
}

/// Reads the number at `start`: its end and what is wrong with its size, or where it stops being a number.
#[inline(always)]
fn read_number(text: &[u8], start: usize) -> Result<(usize, JsonIssues), usize> {
    let first = start + usize::from(text.get(start) == Some(&b'-'));
    let end = skip_digits(text, first);
    if end == first {
        return Err(end);
    }
    if text[first] == b'0' && end - first > 1 {
        return Err(first + 1);
    }
    // Short integers, which most numbers are, cannot be out of range.
    if end - first <= MAX_EXPONENT && !matches!(text.get(end), Some(b'.' | b'e' | b'E')) {
        return Ok((end, JsonIssues::default()));
    }
    read_real(text, start, end)
}

/// Reads the rest of a number whose integer part ends at `int_end`.
fn read_real(text: &[u8], start: usize, int_end: usize) -> Result<(usize, JsonIssues), usize> {
    let mut end = int_end;
    if text.get(end) == Some(&b'.') {
        end = some_digits(text, end + 1)?;
    }
    let mantissa = end - start;
    let mut exponent = 0;
    if let Some(b'e' | b'E') = text.get(end) {
        let digits = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = some_digits(text, digits)?;
        exponent = text[digits..end].iter().fold(0_usize, |value, digit| {
            value.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        });
    }
    Ok((end, judge_number(&text[start..end], mantissa, exponent)))
}

/// What is wrong with the size of a number; `mantissa` is how many bytes come before the exponent.
fn judge_number(token: &[u8], mantissa: usize, exponent: usize) -> JsonIssues {
    let mut found = JsonIssues::default();
    if mantissa.saturating_add(exponent) > MAX_NUMERIC_DIGITS {
        found.insert(JsonIssues::HUGE_NUMBER);
    }
    if token.len() > MAX_NUMBER_BYTES
        || exponent > MAX_EXPONENT
        || !is_finite(token, mantissa, exponent)
    {
        found.insert(JsonIssues::NUMBER);
    }
    found
}

/// Whether the number fits into a double without becoming infinite.
fn is_finite(token: &[u8], mantissa: usize, exponent: usize) -> bool {
    // Less than 1e308 whatever the digits are: no need to convert.
    mantissa + exponent <= MAX_EXPONENT
        || std::str::from_utf8(token).is_ok_and(|token| token.parse().is_ok_and(f64::is_finite))
}

/// The end of one or more digits, or where a digit is missing.
fn some_digits(text: &[u8], start: usize) -> Result<usize, usize> {
    let end = skip_digits(text, start);
    if end > start { Ok(end) } else { Err(start) }
}

#[inline(always)]
fn skip_digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// A part of a string.
enum Piece<'a> {
    /// Bytes that stand for themselves.
    Plain(&'a [u8]),
    /// A character that was escaped.
    Char(char),
    /// An escaped surrogate that is not half of a pair.
    Lone(u16),
}

/// Walks over the string whose opening quote is at `start`.
/// Returns the place after its closing quote, or where it stops being a string.
#[inline(always)]
fn walk_string<'a>(
    text: &'a [u8],
    start: usize,
    each: impl FnMut(Piece<'a>),
) -> Result<usize, usize> {
    if text.get(start) == Some(&b'"') { walk_pieces(text, start + 1, each) } else { Err(start) }
}

/// Like [`walk_string`], from after the opening quote.
#[inline(always)]
fn walk_pieces<'a>(
    text: &'a [u8],
    mut at: usize,
    mut each: impl FnMut(Piece<'a>),
) -> Result<usize, usize> {
    loop {
        let end = skip_plain(text, at);
        if end > at {
            each(Piece::Plain(&text[at..end]));
        }
        match text.get(end) {
            Some(b'"') => return Ok(end + 1),
            Some(b'\\') => {
                let (piece, next) = read_escape(text, end)?;
                each(piece);
                at = next;
            }
            _ => return Err(end),
        }
    }
}

/// The first place from `at` on that is a quote, a backslash, a control character, or the end of the text.
#[inline(always)]
fn skip_plain(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while text.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Sets the high bit of the lowest byte that ends a plain run. The subtractions borrow upwards, so bits above
/// the lowest one may be wrong; nobody looks at them.
#[inline(always)]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & (ONES << 7)
}

/// Reads the escape whose backslash is at `at`; returns what it stands for and the place after it.
#[inline(always)]
fn read_escape<'a>(text: &[u8], at: usize) -> Result<(Piece<'a>, usize), usize> {
    let c = match text.get(at + 1) {
        Some(b'u') => return read_unicode_escape(text, at),
        Some(b'n') => '\n',
        Some(&byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        _ => return Err(at + 1),
    };
    Ok((Piece::Char(c), at + 2))
}

/// Reads a `\u` escape, or two of them if they are a surrogate pair.
#[inline(always)]
fn read_unicode_escape<'a>(text: &[u8], at: usize) -> Result<(Piece<'a>, usize), usize> {
    let unit = read_hex(text, at + 2).ok_or(at + 2)?;
    let next = at + 6;
    if let Some(c) = char::from_u32(u32::from(unit)) {
        return Ok((Piece::Char(c), next));
    }
    let pair = [unit, low_half(text, next).unwrap_or_default()];
    match char::decode_utf16(pair).next() {
        Some(Ok(c)) => Ok((Piece::Char(c), next + 6)),
        _ => Ok((Piece::Lone(unit), next)),
    }
}

/// The UTF-16 unit of the `\u` escape at `at`, if there is one.
fn low_half(text: &[u8], at: usize) -> Option<u16> {
    text.get(at..)?.starts_with(b"\\u").then(|| read_hex(text, at + 2))?
}

/// The four hexadecimal digits at `at`.
#[inline(always)]
fn read_hex(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..)?.first_chunk::<4>()?;
    let [a, b, c, d] = digits.map(|digit| HEX[usize::from(digit)]);
    // Only the mark of a wrong digit has high bits.
    if (a | b | c | d) > 0xF {
        return None;
    }
    Some(u16::from(a) << 12 | u16::from(b) << 8 | u16::from(c) << 4 | u16::from(d))
}

/// The value of every hexadecimal digit, 0xFF for all other bytes.
const HEX: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The projection of a text that is not portable: compact portable JSON text of an object.
///
/// None (null in a record) if the text is not JSON, not an object, or nested too deep. NUL and lone surrogates
/// become U+FFFD, numbers outside the portable range become strings of their token, and of members whose names
/// are equal after that the first one's place and the last one's value stay.
pub fn sanitize(text: &[u8]) -> Option<Vec<u8>> {
    let found = Scanner::default().scan(text);
    if [JsonIssues::INVALID, JsonIssues::NOT_OBJECT, JsonIssues::DEEP]
        .into_iter()
        .any(|flag| found.contains(flag))
    {
        return None;
    }
    let mut projector = Sanitizer { text, at: 0, out: Vec::with_capacity(text.len()) };
    projector.space();
    projector.value()?;
    Some(projector.out)
}

/// Where a member of the top-level object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its value.
    pub value: std::ops::Range<usize>,
    /// What goes when it is taken out: the member with the comma and the space that belong to it.
    pub whole: std::ops::Range<usize>,
}

/// Finds a member of the object that `text` is; None if it is no object or has no such member. Of
/// several the last one counts, as everywhere.
pub fn member(scanner: &mut Scanner, text: &[u8], name: &str) -> Option<Place> {
    let space = |mut at: usize| {
        while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        at
    };
    let mut at = space(0);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    let (mut before, mut found, mut decoded) = (at + 1, None, Vec::new());
    at = space(at + 1);
    while text.get(at) == Some(&b'"') {
        decoded.clear();
        let is_first = text.get(before - 1) == Some(&b'{');
        at += read_string(text.get(at..)?, &mut decoded)?;
        at = space(at) + 1; // the colon
        let start = space(at);
        let (length, findings) = scanner.scan_prefix(text.get(start..)?);
        if findings.contains(JsonIssues::INVALID) {
            return None;
        }
        let end = start + length;
        at = space(end);
        let more = text.get(at) == Some(&b',');
        if decoded == name.as_bytes() {
            // the first one goes with the comma behind it, another one with that in front
            let whole = match (is_first, more) {
                (true, true) => before..space(at + 1),
                (true, false) => before..end,
                (false, _) => before - 1..end,
            };
            found = Some(Place { value: start..end, whole });
        }
        if !more {
            break;
        }
        before = at + 1;
        at = space(at + 1);
    }
    found
}

/// Rewrites a text that was scanned: it is valid and so shallow that recursion is safe.
struct Sanitizer<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

/// Where a member of an object was written: from its name, from its value, up to its end.
#[derive(Clone, Copy)]
struct Member {
    name: usize,
    value: usize,
    end: usize,
}

impl Sanitizer<'_> {
    fn value(&mut self) -> Option<()> {
        match self.text.get(self.at)? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.literal(),
        }
    }

    fn object(&mut self) -> Option<()> {
        let mut members = Vec::new();
        let body = self.out.len() + 1;
        self.bracket()?;
        while self.text.get(self.at)? != &b'}' {
            self.comma()?;
            let name = self.out.len();
            self.string()?;
            self.space();
            self.bracket()?;
            let value = self.out.len();
            self.value()?;
            members.push(Member { name, value, end: self.out.len() });
            self.space();
        }
        self.keep_last(body, &members);
        self.bracket()
    }

    /// Collapses members with equal names. All names are written in one way, so that equal bytes are equal names.
    fn keep_last(&mut self, body: usize, members: &[Member]) {
        let mut places = HashMap::with_capacity(members.len());
        // The name of the first with the value of the last.
        let mut kept: Vec<(Member, Member)> = Vec::with_capacity(members.len());
        for &member in members {
            let place = *places.entry(&self.out[member.name..member.value]).or_insert(kept.len());
            match kept.get_mut(place) {
                Some((_, last)) => *last = member,
                None => kept.push((member, member)),
            }
        }
        if kept.len() == members.len() {
            return;
        }
        let mut collapsed = Vec::new();
        for (i, (first, last)) in kept.into_iter().enumerate() {
            if i > 0 {
                collapsed.push(b',');
            }
            collapsed.extend_from_slice(&self.out[first.name..first.value]);
            collapsed.extend_from_slice(&self.out[last.value..last.end]);
        }
        self.out.truncate(body);
        self.out.append(&mut collapsed);
    }

    fn array(&mut self) -> Option<()> {
        self.bracket()?;
        while self.text.get(self.at)? != &b']' {
            self.comma()?;
            self.value()?;
            self.space();
        }
        self.bracket()
    }

    /// Copies one structural byte and drops the white space after it.
    fn bracket(&mut self) -> Option<()> {
        self.out.push(*self.text.get(self.at)?);
        self.at += 1;
        self.space();
        Some(())
    }

    /// Copies the comma before a member or element, if it is not the first one.
    fn comma(&mut self) -> Option<()> {
        if self.text.get(self.at)? == &b',' { self.bracket() } else { Some(()) }
    }

    fn string(&mut self) -> Option<()> {
        let out = &mut self.out;
        out.push(b'"');
        let end = walk_string(self.text, self.at, |piece| match piece {
            Piece::Plain(bytes) => out.extend_from_slice(bytes),
            Piece::Char('\0') | Piece::Lone(_) => push_char(out, char::REPLACEMENT_CHARACTER),
            Piece::Char(c) => write_char(out, c),
        });
        out.push(b'"');
        self.at = end.ok()?;
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let (end, found) = read_number(self.text, self.at).ok()?;
        let token = &self.text[self.at..end];
        self.at = end;
        if found.is_portable() {
            self.out.extend_from_slice(token);
        } else {
            self.out.push(b'"');
            self.out.extend_from_slice(token);
            self.out.push(b'"');
        }
        Some(())
    }

    fn literal(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        self.out.extend_from_slice(&rest[..length]);
        self.at += length;
        // Never true for a text that was scanned, but a loop must not stand still.
        if length == 0 { None } else { Some(()) }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

/// Appends `text` as a JSON string with its quotes, escaping only what must be.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut at = 0;
    while at < bytes.len() {
        let end = skip_plain(bytes, at);
        out.extend_from_slice(&bytes[at..end]);
        if let Some(&byte) = bytes.get(end) {
            write_char(out, char::from(byte));
        }
        at = end + 1;
    }
    out.push(b'"');
}

/// Appends one character as the inside of a JSON string.
fn write_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\0'..='\u{1f}' => {
            let digit = |value: u32| b"0123456789abcdef"[value as usize & 0xF];
            let code = u32::from(c);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(code >> 4), digit(code)]);
        }
        _ => push_char(out, c),
    }
}

/// Decodes the JSON string whose opening quote is `text[0]` and appends it to `out`.
///
/// Returns the length of the token with both quotes, or None, leaving `out` as it was, if it is not a valid
/// string of valid UTF-8 or has a lone surrogate. `\u0000` is decoded to NUL.
pub fn read_string(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let before = out.len();
    let mut whole = true;
    let end = walk_string(text, 0, |piece| match piece {
        Piece::Plain(bytes) => out.extend_from_slice(bytes),
        Piece::Char(c) => push_char(out, c),
        Piece::Lone(_) => whole = false,
    });
    // A character cannot be split by an escape: checking the token is checking what it stands for.
    match end {
        Ok(end) if whole && std::str::from_utf8(&text[..end]).is_ok() => Some(end),
        _ => {
            out.truncate(before);
            None
        }
    }
}

/// The length of the content of the JSON string whose opening quote is `text[0]`, if it has no escapes and no
/// control characters, so that the bytes are their own meaning. Whether they are UTF-8 is not checked.
pub fn plain_string(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let end = skip_plain(text, 1);
    (text.get(end) == Some(&b'"')).then(|| end - 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    const OK: JsonIssues = JsonIssues(0);

    fn scan(text: impl AsRef<[u8]>) -> JsonIssues {
        Scanner::default().scan(text.as_ref())
    }

    fn all(flags: &[JsonIssues]) -> JsonIssues {
        let mut found = OK;
        flags.iter().for_each(|&flag| found.insert(flag));
        found
    }

    fn projected(text: &str) -> Option<String> {
        sanitize(text.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    /// An object around arrays, `depth` levels in all.
    fn nested(depth: usize) -> String {
        if depth == 1 {
            return "{}".to_owned();
        }
        format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn portable_texts_have_no_findings() {
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
    fn what_is_not_json_is_invalid_and_nothing_else() {
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
            assert_eq!(projected(text), None, "{text:?}");
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
    fn every_kind_of_finding_is_found_and_told_apart() {
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
            assert_eq!(scan(text), all(expected), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_judged_at_the_borders() {
        use JsonIssues as F;
        let digits = |count: usize| "1".repeat(count);
        let (number, huge) = (F::NUMBER, all(&[F::NUMBER, F::HUGE_NUMBER]));
        let cases = [
            ("1e308".into(), OK),
            ("1e309".into(), number),
            ("1e-308".into(), OK),
            ("1e-309".into(), number),
            ("0e309".into(), number),
            ("1E+0000000308".into(), OK),
            ("1.7976931348623157e308".into(), OK),
            ("1.7976931348623159e308".into(), number),
            ("-2e308".into(), number),
            ("12e307".into(), OK),
            ("12e308".into(), number),
            (digits(308), OK),
            (digits(309), OK),
            ("9".repeat(309), number),
            (digits(310), number),
            (format!("-{}", digits(310)), number),
            (format!("{}e-100", digits(310)), OK),
            (format!("{}.{}", digits(300), digits(99)), OK),
            (format!("{}.{}", digits(300), digits(100)), number),
            (format!("0.{}", digits(398)), OK),
            (format!("0.{}", digits(399)), number),
            (format!("1e{}1", "0".repeat(397)), OK),
            (format!("1e{}1", "0".repeat(398)), number),
            ("1e15999".into(), number),
            ("1e16000".into(), huge),
            ("1e-16383".into(), huge),
            ("1e99999999999999999999999999".into(), huge),
            (digits(16_000), number),
            (digits(16_001), huge),
            (format!("0.{}", "0".repeat(15_999)), huge),
        ];
        for (token, expected) in cases {
            assert_eq!(scan(format!("{{\"a\":{token}}}")), expected, "{token}");
            assert_eq!(scan(format!("{{\"a\":[{token}]}}")), expected, "{token}");
        }
    }

    #[test]
    fn depth_is_judged_at_the_borders_and_never_overflows_the_stack() {
        let very = all(&[JsonIssues::DEEP, JsonIssues::VERY_DEEP]);
        for (depth, expected) in [
            (1, OK),
            (100, OK),
            (101, JsonIssues::DEEP),
            (1_000, JsonIssues::DEEP),
            (1_001, very),
            (1_000_000, very),
        ] {
            assert_eq!(scan(nested(depth)), expected, "{depth}");
            assert_eq!(projected(&nested(depth)).is_some(), depth <= 100, "{depth}");
        }
        assert_eq!(scan("{\"a\":".repeat(1_000_000)), JsonIssues::INVALID);
    }

    #[test]
    fn objects_with_many_names_are_quick_and_exact() {
        let object = |last: &str| {
            let names: String = (0..100_000).map(|i| format!("\"n{i}\":{i},")).collect();
            format!("{{{names}\"{last}\":0}}")
        };
        assert_eq!(scan(object("n")), OK);
        assert_eq!(scan(object("n4711")), JsonIssues::DUPLICATE);
        assert_eq!(scan(object("\\u006e99999")), JsonIssues::DUPLICATE);
        for count in FEW_NAMES - 1..FEW_NAMES + 3 {
            let names: Vec<_> = (0..count).map(|i| format!("\"{i}\":0")).collect();
            assert_eq!(scan(format!("{{{}}}", names.join(","))), OK);
            assert_eq!(
                scan(format!("{{{},\"\\u0030\":0}}", names.join(","))),
                JsonIssues::DUPLICATE
            );
        }
    }

    #[test]
    fn equal_hashes_alone_are_not_equal_names() {
        let text = (0..40).map(|i| format!("{i:02}")).collect::<String>();
        let mut names: Vec<_> =
            (0..40).map(|i| Name { hash: 7, start: 2 * i, end: 2 * i + 2 }).collect();
        assert!(!has_equal(text.as_bytes(), &mut names[..FEW_NAMES]));
        assert!(!has_equal(text.as_bytes(), &mut names));
        names.push(names[20]);
        assert!(has_equal(text.as_bytes(), &mut names));
    }

    #[test]
    fn a_scanner_forgets_the_text_before() {
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

    #[test]
    fn findings_have_words_and_only_the_stronger_of_two() {
        let words = |found: JsonIssues| found.names().collect::<Vec<_>>();
        assert!(words(OK).is_empty());
        assert_eq!(
            words(all(&[JsonIssues::DUPLICATE, JsonIssues::NUL])),
            ["a NUL character", "duplicate names"]
        );
        assert_eq!(
            words(all(&[JsonIssues::DEEP, JsonIssues::VERY_DEEP])),
            ["nesting deeper than 1000"]
        );
        assert_eq!(words(JsonIssues(u16::MAX)).len(), 9);
    }

    #[test]
    fn the_projection_repairs_what_it_can() {
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
            assert_eq!(projected(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_has_no_projection() {
        for text in ["[]", "null", "1", "\"{}\"", "", "{", "{}x"] {
            assert_eq!(projected(text), None, "{text}");
        }
    }

    #[test]
    fn strings_are_written_with_the_fewest_escapes() {
        let mut out = b"x".to_vec();
        write_string(&mut out, "a\"\\/\0\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}é\u{2028}😀");
        let expected = "x\"a\\\"\\\\/\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\u{7f}é\u{2028}😀\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn strings_that_mean_nothing_are_not_read_and_leave_no_trace() {
        let cases: [&[u8]; 11] = [
            b"",
            b"a",
            b"\"a",
            b"\"a\\\"",
            b"\"a\\x\"",
            b"\"a\\ud800\"",
            b"\"a\\udc00b\"",
            b"\"a\xff\"",
            b"\"a\n\"",
            b"\"\xc3\\n\xa9\"",
            b"\"a\\u00\"",
        ];
        for text in cases {
            let mut out = b"before".to_vec();
            assert_eq!(read_string(text, &mut out), None, "{text:?}");
            assert_eq!(out, b"before");
        }
        let mut out = Vec::new();
        assert_eq!(read_string(r#""a\u0000\ud83d\ude00\/é": 1"#.as_bytes(), &mut out), Some(25));
        assert_eq!(out, "a\0😀/é".as_bytes());
    }

    #[test]
    fn plain_strings_are_those_without_escapes() {
        let cases: [(&[u8], Option<usize>); 9] = [
            (b"\"\"", Some(0)),
            (b"\"abc\":1", Some(3)),
            ("\"0123456789é\" \\".as_bytes(), Some(12)),
            (b"\"0123456789\\n\"", None),
            (b"\"a\tb\"", None),
            (b"\"abc", None),
            (b"\"", None),
            (b"abc\"", None),
            (b"", None),
        ];
        for (text, expected) in cases {
            assert_eq!(plain_string(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_plain_run_is_found_at_every_offset() {
        for special in 0..=0xFF_u8 {
            let ends = special < 0x20 || special == b'"' || special == b'\\';
            for (offset, filler) in
                (0..20).flat_map(|offset| [(offset, b'!'), (offset, b'#'), (offset, 0xFF)])
            {
                let mut text = [filler; 20];
                text[offset] = special;
                assert_eq!(
                    skip_plain(&text, 0),
                    if ends { offset } else { 20 },
                    "{special} at {offset}"
                );
            }
        }
    }

    /// What serde_json's own parser sees, for texts that it can hold.
    #[derive(Debug, Default)]
    struct Seen {
        duplicate: bool,
        nul: bool,
    }

    impl<'de> serde::Deserialize<'de> for Seen {
        fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
            source.deserialize_any(SeenVisitor)
        }
    }

    struct SeenVisitor;

    impl<'de> serde::de::Visitor<'de> for SeenVisitor {
        type Value = Seen;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("any JSON")
        }
        fn visit_unit<E>(self) -> Result<Seen, E> {
            Ok(Seen::default())
        }
        fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
            Ok(Seen::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
            Ok(Seen::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
            Ok(Seen::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
            Ok(Seen::default())
        }
        fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
            Ok(Seen { nul: text.contains('\0'), duplicate: false })
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
            let mut seen = Seen::default();
            while let Some(item) = items.next_element::<Seen>()? {
                seen.nul |= item.nul;
                seen.duplicate |= item.duplicate;
            }
            Ok(seen)
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<Seen, A::Error> {
            let mut seen = Seen::default();
            let mut names = HashSet::new();
            while let Some((name, item)) = members.next_entry::<String, Seen>()? {
                seen.nul |= item.nul | name.contains('\0');
                seen.duplicate |= item.duplicate | !names.insert(name);
            }
            Ok(seen)
        }
    }

    /// White space, mostly none.
    fn space() -> impl Strategy<Value = &'static str> {
        prop_oneof![12 => Just(""), 2 => Just(" "), 1 => Just("\t \r"), 1 => Just("\n  ")]
    }

    /// A string token, often one that equals another.
    fn string() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[ab]",
            2 => "[ -!#-\\[\\]-~]{0,12}",
            2 => "[é😀\u{7f}\u{2028}\u{fffd}]",
            1 => Just("\\u0061".to_owned()),
            1 => "\\\\[\"\\\\/bfnrt]",
            1 => "\\\\u[0-9a-fA-F]{4}",
            1 => "\\\\u(0000|d83d|DE00|d83d\\\\ude00|001f)",
        ];
        proptest::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "-?(0|[1-9][0-9]{0,20})",
            2 => "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
            1 => "-?[1-9][0-9]{300,410}",
        ]
    }

    /// Valid JSON of every kind, with and without findings.
    fn json() -> impl Strategy<Value = String> {
        let word = prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned);
        let value = prop_oneof![string(), number(), word].prop_recursive(5, 60, 6, |inner| {
            let item = (space(), inner.clone(), space())
                .prop_map(|(a, value, b)| format!("{a}{value}{b}"))
                .boxed();
            let member = (space(), string(), space(), item.clone())
                .prop_map(|(a, n, b, v)| format!("{a}{n}{b}:{v}"));
            prop_oneof![
                (space(), proptest::collection::vec(item, 0..5)).prop_map(|(space, items)| {
                    match items.len() {
                        0 => format!("[{space}]"),
                        _ => format!("[{}]", items.join(",")),
                    }
                }),
                (space(), proptest::collection::vec(member, 0..6)).prop_map(|(space, members)| {
                    match members.len() {
                        0 => format!("{{{space}}}"),
                        _ => format!("{{{}}}", members.join(",")),
                    }
                }),
            ]
        });
        (space(), string(), value, space(), any::<bool>()).prop_map(
            |(a, name, value, b, object)| match object {
                true => format!("{a}{{{name}:{value}}}{b}"),
                false => format!("{a}{value}{b}"),
            },
        )
    }

    /// Bytes that are JSON, nearly JSON, or a heap of its tokens.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            proptest::sample::select(b"{}[]:,\"\\/utfn0123456789-+.eE \n\t\r\0\x1f\x7fd8".to_vec()),
            any::<u8>()
        ];
        let change = (any::<proptest::sample::Index>(), 0..3_u8, byte);
        let mutated =
            (json(), proptest::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
                let mut bytes = text.into_bytes();
                for (index, kind, byte) in changes {
                    let at = index.index(bytes.len() + 1);
                    match kind {
                        0 => bytes.insert(at, byte),
                        1 if at < bytes.len() => bytes[at] = byte,
                        _ => drop(bytes.splice(at..(at + 1).min(bytes.len()), [])),
                    }
                }
                bytes
            });
        let token = proptest::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"a\"", "\"", "\\", "\\u", "d83d", "1", "0", "-", ".",
            "e", "+", "true", "null", " ", "\n", "é", "{\"a\":", "\u{feff}",
        ]);
        let heap =
            proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat().into_bytes());
        prop_oneof![3 => mutated, 1 => heap]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn generated_json_is_valid(text in json()) {
            prop_assert!(!scan(text).contains(JsonIssues::INVALID));
        }

        #[test]
        fn validity_is_what_serde_json_says(text in nearly_json()) {
            let valid = serde_json::from_slice::<&RawValue>(&text).is_ok() && std::str::from_utf8(&text).is_ok();
            prop_assert_eq!(scan(&text) != JsonIssues::INVALID, valid, "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn names_and_nuls_are_what_serde_json_sees(text in json()) {
            // It cannot read lone surrogates and numbers that are not finite.
            if let Ok(seen) = serde_json::from_str::<Seen>(&text) {
                let found = scan(&text);
                prop_assert_eq!(found.contains(JsonIssues::DUPLICATE), seen.duplicate);
                prop_assert_eq!(found.contains(JsonIssues::NUL), seen.nul);
                prop_assert!(!found.contains(JsonIssues::SURROGATE));
                prop_assert_eq!(found.contains(JsonIssues::NOT_OBJECT), !text.trim_start().starts_with('{'));
            }
        }

        #[test]
        fn line_breaks_and_outer_space_are_where_they_can_be_seen(text in json()) {
            let found = scan(&text);
            prop_assert_eq!(found.contains(JsonIssues::LINE_BREAK), text.contains(['\n', '\r']));
            prop_assert_eq!(found.contains(JsonIssues::OUTER_SPACE), text.trim_matches([' ', '\t', '\n', '\r']) != text);
        }

        #[test]
        fn every_projection_is_portable_and_its_own_projection(text in json()) {
            if let Some(once) = sanitize(text.as_bytes()) {
                prop_assert_eq!(scan(&once), OK);
                prop_assert_eq!(sanitize(&once), Some(once));
            } else {
                prop_assert!(scan(&text).contains(JsonIssues::NOT_OBJECT));
            }
        }

        #[test]
        fn the_projection_of_damaged_text_is_portable_or_null(text in nearly_json()) {
            if let Some(projection) = sanitize(&text) {
                prop_assert_eq!(scan(&projection), OK);
            }
        }

        #[test]
        fn the_projection_means_what_serde_json_reads(text in json()) {
            let found = scan(&text);
            // The last of equal names wins there, too; the rest is what a projection has to change.
            let changed = [JsonIssues::NUL, JsonIssues::SURROGATE, JsonIssues::NUMBER];
            if !changed.into_iter().any(|flag| found.contains(flag)) && let Some(projection) = sanitize(text.as_bytes()) {
                let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
                prop_assert_eq!(read(&projection), read(text.as_bytes()));
            }
        }

        #[test]
        fn canonical_text_is_its_own_projection(text in json()) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let canonical = value.to_string();
                if scan(&canonical).is_portable() {
                    prop_assert_eq!(projected(&canonical), Some(canonical));
                }
            }
        }

        #[test]
        fn a_prefix_is_judged_like_the_whole(text in nearly_json(), rest in "([,}\\] ].{0,5})?") {
            let start = text.iter().take_while(|byte| b" \t\n\r".contains(byte)).count();
            let text = &text[start..];
            let end = text.iter().rposition(|byte| !b" \t\n\r".contains(byte)).map_or(0, |last| last + 1);
            let text = &text[..end];
            let whole = scan(text);
            let (length, found) = Scanner::default().scan_prefix(&[text, rest.as_bytes()].concat());
            if whole != JsonIssues::INVALID {
                prop_assert_eq!((length, found), (text.len(), whole));
            } else if found != JsonIssues::INVALID && length <= text.len() {
                // Valid up to here: something else must follow.
                prop_assert!(length < text.len());
                prop_assert_eq!(scan(&text[..length]), found);
            }
        }

        #[test]
        fn written_strings_are_read_back(text in any::<String>(), more in any::<Vec<u8>>()) {
            let mut token = Vec::new();
            write_string(&mut token, &text);
            prop_assert_eq!(&token, &serde_json::to_vec(&text).unwrap());
            let plain = plain_string(&token);
            prop_assert!(plain.is_none_or(|length| &token[1..=length] == text.as_bytes()));
            prop_assert_eq!(plain.is_some(), !token.contains(&b'\\'));
            let length = token.len();
            token.extend_from_slice(&more);
            let mut read = Vec::new();
            prop_assert_eq!(read_string(&token, &mut read), Some(length));
            prop_assert_eq!(read, text.as_bytes());
        }

        #[test]
        fn strings_mean_what_serde_json_reads(token in string()) {
            let mut read = Vec::new();
            let length = read_string(token.as_bytes(), &mut read);
            match serde_json::from_str::<String>(&token) {
                Ok(text) => prop_assert_eq!((length, read), (Some(token.len()), text.into_bytes())),
                Err(_) => prop_assert_eq!(length, None),
            }
        }
    }

    #[test]
    fn a_member_is_found_and_taken_out_without_a_trace() {
        for (with, without) in [
            (r#"{"x":1}"#, "{}"),
            (r#"{"a": 1,"x":{"y":[1, "}"]}}"#, r#"{"a": 1}"#),
            (r#"{"x": {"y": 2}, "a": 1}"#, r#"{"a": 1}"#),
            (r#"{"a": 1, "x": "s", "b": {"x": 3}}"#, r#"{"a": 1, "b": {"x": 3}}"#),
            (r#" { "a" : 1 ,"x":2} "#, r#" { "a" : 1 } "#),
        ] {
            let place = member(&mut Scanner::default(), with.as_bytes(), "x").unwrap();
            let rest = format!("{}{}", &with[..place.whole.start], &with[place.whole.end..]);
            assert_eq!(rest, without, "{with}");
        }
        for none in ["[1]", "{}", r#"{"a":{"x":1}}"#, "", "x", r#"{"x":}"#, r#"{"x""#] {
            assert_eq!(member(&mut Scanner::default(), none.as_bytes(), "x"), None, "{none}");
        }
    }
}
