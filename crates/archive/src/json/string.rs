//! Strings as JSON writes them: read piece by piece, decoded, written.

/// A part of a string.
pub(super) enum Piece<'a> {
    /// Bytes without escapes.
    Plain(&'a [u8]),
    /// A character that was escaped.
    Char(char),
    /// An escaped surrogate that is not half of a pair.
    Lone(u16),
}

/// Walks over the string whose opening quote is at `start`.
/// Returns the position after its closing quote, or where it stops being a string.
#[inline(always)]
pub(super) fn walk_string<'a>(
    text: &'a [u8],
    start: usize,
    each: impl FnMut(Piece<'a>),
) -> Result<usize, usize> {
    if text.get(start) == Some(&b'"') { walk_pieces(text, start + 1, each) } else { Err(start) }
}

/// Like [`walk_string`], from after the opening quote.
#[inline(always)]
pub(super) fn walk_pieces<'a>(
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

/// The first position from `at` on that is a quote, a backslash, a control character, or the end of the text.
#[inline(always)]
pub(super) fn skip_plain(text: &[u8], mut at: usize) -> usize {
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
/// the lowest one may be wrong; they are never read.
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

/// Reads the escape whose backslash is at `at`; returns what it means and the position after it.
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

pub(super) fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
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
pub(super) fn write_char(out: &mut Vec<u8>, c: char) {
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
    let mut paired = true;
    let end = walk_string(text, 0, |piece| match piece {
        Piece::Plain(bytes) => out.extend_from_slice(bytes),
        Piece::Char(c) => push_char(out, c),
        Piece::Lone(_) => paired = false,
    });
    // An escape cannot split a character, so a token of valid UTF-8 decodes to valid UTF-8.
    match end {
        Ok(end) if paired && std::str::from_utf8(&text[..end]).is_ok() => Some(end),
        _ => {
            out.truncate(before);
            None
        }
    }
}

/// The length of the content of the JSON string whose opening quote is `text[0]`, if it has no escapes and no
/// control characters, so that it needs no decoding. Whether it is UTF-8 is not checked.
pub fn plain_string(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let end = skip_plain(text, 1);
    (text.get(end) == Some(&b'"')).then(|| end - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::any_string;
    use super::*;

    #[test]
    fn strings_are_written_with_the_fewest_escapes() {
        let mut out = b"x".to_vec();
        write_string(&mut out, "a\"\\/\0\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}é\u{2028}😀");
        let expected = "x\"a\\\"\\\\/\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\u{7f}é\u{2028}😀\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn invalid_strings_leave_the_output_unchanged() {
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
    fn plain_strings_have_no_escapes() {
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
    fn plain_runs_end_at_every_special_byte() {
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

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
        fn strings_decode_as_by_serde_json(token in any_string()) {
            let mut read = Vec::new();
            let length = read_string(token.as_bytes(), &mut read);
            match serde_json::from_str::<String>(&token) {
                Ok(text) => prop_assert_eq!((length, read), (Some(token.len()), text.into_bytes())),
                Err(_) => prop_assert_eq!(length, None),
            }
        }
    }
}
