//! Text that a terminal shows and does not obey: characters that end lines, control it, change the
//! direction of writing or show nothing are written as escapes.

use std::borrow::Cow;

/// Whether a character would act on a terminal, or hide there, instead of being shown: C0 and C1
/// controls, line and paragraph separators, bidirectional marks and overrides, zero-width and other
/// format characters, and tags.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// A text on one line, which a terminal shows as it is.
///
/// ```
/// use chronicle_archive::escaped;
///
/// assert_eq!(escaped("plain é漢"), "plain é漢");
/// assert_eq!(escaped("a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |c, out| match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => out.extend(c.escape_unicode()),
    })
}

/// JSON on one line that means the same and that a terminal shows as it is. JSON itself escapes only
/// what is below U+0020.
///
/// ```
/// use chronicle_archive::escaped_json;
///
/// assert_eq!(escaped_json("\"\u{9b}\u{e0001}\""), "\"\\u009b\\udb40\\udc01\"");
/// ```
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    // outside of strings there is none of them but white space, which is a space then
    replaced(json, |c, out| match c {
        '\t' | '\n' | '\r' => out.push(' '),
        c => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    })
}

fn replaced(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) { escape(c, &mut out) } else { out.push(c) }
    }
    out.into()
}
