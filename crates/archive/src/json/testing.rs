//! What the tests of this folder share: generated JSON of every kind, and how serde_json reads it.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{JsonIssues, Scanner};

pub(super) const OK: JsonIssues = JsonIssues(0);

pub(super) fn scan(text: impl AsRef<[u8]>) -> JsonIssues {
    Scanner::default().scan(text.as_ref())
}

/// An object around arrays, `depth` levels in all.
pub(super) fn nested(depth: usize) -> String {
    if depth == 1 {
        return "{}".to_owned();
    }
    format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

/// What serde_json finds in a text that it can parse.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) duplicate: bool,
    pub(super) nul: bool,
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
pub(super) fn any_string() -> impl Strategy<Value = String> {
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

/// Valid JSON of every kind, with and without issues.
pub(super) fn any_json() -> impl Strategy<Value = String> {
    let word = prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned);
    let value = prop_oneof![any_string(), number(), word].prop_recursive(5, 60, 6, |inner| {
        let item = (space(), inner.clone(), space())
            .prop_map(|(a, value, b)| format!("{a}{value}{b}"))
            .boxed();
        let member = (space(), any_string(), space(), item.clone())
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
    (space(), any_string(), value, space(), any::<bool>()).prop_map(
        |(a, name, value, b, object)| match object {
            true => format!("{a}{{{name}:{value}}}{b}"),
            false => format!("{a}{value}{b}"),
        },
    )
}

/// Bytes that are JSON, nearly JSON, or its tokens in a random order.
pub(super) fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        proptest::sample::select(b"{}[]:,\"\\/utfn0123456789-+.eE \n\t\r\0\x1f\x7fd8".to_vec()),
        any::<u8>()
    ];
    let change = (any::<proptest::sample::Index>(), 0..3_u8, byte);
    let mutated =
        (any_json(), proptest::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
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
        "{", "}", "[", "]", ":", ",", "\"a\"", "\"", "\\", "\\u", "d83d", "1", "0", "-", ".", "e",
        "+", "true", "null", " ", "\n", "é", "{\"a\":", "\u{feff}",
    ]);
    let heap =
        proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat().into_bytes());
    prop_oneof![3 => mutated, 1 => heap]
}
