//! What a JSON text means, as a number: the same for every spelling, order of names and white space.
//! It makes no tree and allocates nothing per value.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use crate::canonical::{Scratch, write_canonical};
use crate::json::{JsonIssues, Scanner, plain_string, read_string};

/// Hashes meanings; keeps its buffers. It finds accidents, not attackers.
#[derive(Debug, Default)]
pub struct JsonHash {
    scanner: Scanner,
    open: Vec<Container>,
    scratch: Vec<u8>,
    unique: Vec<u8>,
}

/// A container that has begun.
#[derive(Debug, Clone, Copy)]
enum Container {
    /// The sum of its members, and the hash of a name whose value is still to come.
    Object { sum: u64, name: Option<u64> },
    /// The hash of its values so far, in their order.
    Array(u64),
}

/// What is hashed: the same bytes as a text and as a number are two meanings.
#[derive(Clone, Copy)]
enum Class {
    Text = 1,
    Number,
    Word,
    Object,
    Array,
    Member,
    /// No JSON, or beyond what any engine compares by its meaning.
    Opaque,
}

impl JsonHash {
    /// The hash of a text. What is no JSON, or has numbers, depths or escapes that no engine compares
    /// by their meaning, is hashed by its bytes.
    pub fn hash(&mut self, text: &[u8]) -> u64 {
        let found = self.scanner.scan(text);
        let opaque = [
            JsonIssues::INVALID,
            JsonIssues::NUL,
            JsonIssues::SURROGATE,
            JsonIssues::HUGE_NUMBER,
            JsonIssues::VERY_DEEP,
        ];
        if opaque.into_iter().any(|finding| found.contains(finding)) {
            return bytes(Class::Opaque, text);
        }
        if !found.contains(JsonIssues::DUPLICATE) {
            return self.hash_valid(text);
        }
        // of equal names the last one counts, which a sum cannot see
        let mut unique = std::mem::take(&mut self.unique);
        unique.clear();
        write_canonical(text, &mut unique, &mut Scratch::default());
        let hash = self.hash_valid(&unique);
        self.unique = unique;
        hash
    }

    /// The hash of a text that is known to be JSON without equal names.
    fn hash_valid(&mut self, text: &[u8]) -> u64 {
        self.open.clear();
        let (mut at, mut whole) = (0, 0);
        while let Some(&byte) = text.get(at) {
            let (length, value) = match byte {
                b'{' => (1, self.begin(Container::Object { sum: 0, name: None })),
                b'[' => (1, self.begin(Container::Array(0))),
                b'}' | b']' => (1, self.end()),
                b'"' => self.text(&text[at..]),
                b'-' | b'0'..=b'9' => self.number(&text[at..]),
                b'a'..=b'z' => word(&text[at..]),
                // white space, and what stands between values: its place says nothing more
                _ => (1, None),
            };
            at += length;
            if let Some(value) = value {
                whole = self.arrive(value);
            }
        }
        whole
    }

    fn begin(&mut self, container: Container) -> Option<u64> {
        self.open.push(container);
        None
    }

    fn end(&mut self) -> Option<u64> {
        self.open.pop().map(|container| match container {
            Container::Object { sum, .. } => pair(Class::Object, sum, 0),
            Container::Array(hash) => pair(Class::Array, hash, 0),
        })
    }

    /// Takes a value, or a name, into the container around it; returns it.
    fn arrive(&mut self, value: u64) -> u64 {
        match self.open.last_mut() {
            Some(Container::Object { sum, name }) => match name.take() {
                None => *name = Some(value),
                // whatever the order: a sum
                Some(name) => *sum = sum.wrapping_add(pair(Class::Member, name, value)),
            },
            Some(Container::Array(hash)) => *hash = pair(Class::Array, *hash, value),
            None => {}
        }
        value
    }

    /// The length and the hash of a string.
    fn text(&mut self, token: &[u8]) -> (usize, Option<u64>) {
        if let Some(length) = plain_string(token) {
            return (length + 2, Some(bytes(Class::Text, &token[1..=length])));
        }
        self.scratch.clear();
        let length = read_string(token, &mut self.scratch).unwrap_or(token.len());
        (length, Some(bytes(Class::Text, &self.scratch)))
    }

    /// The length and the hash of a number: its digits without zeros at the ends, and a power of ten.
    fn number(&mut self, text: &[u8]) -> (usize, Option<u64>) {
        let digits = &mut self.scratch;
        digits.clear();
        let (mut power, mut fraction, mut at) = (0_i64, 0, 0);
        while let Some(&byte) = text.get(at) {
            match byte {
                b'0'..=b'9' => {
                    power -= fraction;
                    if byte != b'0' || !digits.is_empty() {
                        digits.push(byte);
                    }
                }
                b'.' => fraction = 1,
                b'-' => {}
                b'e' | b'E' => {
                    let (length, exponent) = exponent(&text[at + 1..]);
                    at += 1 + length;
                    power = power.saturating_add(exponent);
                    break;
                }
                _ => break,
            }
            at += 1;
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
            power = power.saturating_add(1);
        }
        // zero has neither a sign nor a power
        let sign = match (digits.is_empty(), text.first()) {
            (true, _) => 0,
            (false, Some(b'-')) => -1,
            (false, _) => 1,
        };
        let mut hasher = hasher(Class::Number);
        hasher.write_i64(sign);
        hasher.write_i64(power * sign.abs());
        hasher.write(digits);
        (at, Some(hasher.finish()))
    }
}

/// The length and the value of an exponent behind its `e`; one beyond all bounds is the largest.
fn exponent(text: &[u8]) -> (usize, i64) {
    let end = text.iter().position(|b| !b"+-0123456789".contains(b)).unwrap_or(text.len());
    let written = std::str::from_utf8(&text[..end]).unwrap_or_default();
    let beyond = if written.starts_with('-') { i64::MIN } else { i64::MAX };
    (end, written.parse().unwrap_or(beyond))
}

/// The length and the hash of `true`, `false` or `null`.
fn word(text: &[u8]) -> (usize, Option<u64>) {
    let end = text.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(text.len());
    (end, Some(bytes(Class::Word, &text[..end])))
}

fn hasher(class: Class) -> impl Hasher {
    FixedState::with_seed(class as u64).build_hasher()
}

fn bytes(class: Class, bytes: &[u8]) -> u64 {
    let mut hasher = hasher(class);
    hasher.write(bytes);
    hasher.finish()
}

fn pair(class: Class, one: u64, other: u64) -> u64 {
    let mut hasher = hasher(class);
    hasher.write_u64(one);
    hasher.write_u64(other);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Number, Value};

    use super::*;

    fn hash(text: &str) -> u64 {
        JsonHash::default().hash(text.as_bytes())
    }

    #[test]
    fn spelling_and_order_do_not_matter() {
        let one = r#"{ "b": [1, 2.0, {"y": "caf\u00e9", "x": null}], "a":true , "n":1200e-2}"#;
        let other = r#"{"a":true,"n":12.0,"b":[1.0,0.2E+1,{"x":null,"y":"café"}]}"#;
        assert_eq!(hash(one), hash(other));
        for zero in ["0", "-0", "0.000", "0e7", "-0.0E-3"] {
            assert_eq!(hash(zero), hash("0"), "{zero}");
        }
        assert_eq!(hash(r#"{"a":1,"b":{"c":1,"c":2},"a":3}"#), hash(r#"{"b":{"c":2},"a":3}"#));
    }

    #[test]
    fn every_other_meaning_is_another_number() {
        let texts = [
            "0",
            "1",
            "-1",
            "10",
            "100",
            "0.1",
            "\"1\"",
            "true",
            "false",
            "null",
            "\"true\"",
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            "[[1,2]]",
            "[1,[2]]",
            "[null]",
            "[null,null]",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":"b"}"#,
            r#"{"b":"a"}"#,
            r#"["a","b"]"#,
            r#"{"a":{"b":1}}"#,
            r#"{"b":{"a":1}}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            "\"\"",
            r#"{"a":{},"b":1}"#,
            r#"{"a":{"b":1},"c":2}"#,
            r#"{"a":{"c":2},"b":1}"#,
            "9007199254740993",
            "9007199254740992",
            "no json",
            "[1,2",
            "",
        ];
        let mut hashes: Vec<u64> = texts.iter().map(|text| hash(text)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), texts.len());
    }

    #[test]
    fn depth_takes_no_stack() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_ne!(hash(&nested(900)), hash(&nested(901)));
        assert_ne!(hash(&nested(100_000)), hash(&nested(100_001)));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|n| Value::Number(Number::from(n))),
            any::<f64>().prop_filter_map("finite", |n| Number::from_f64(n).map(Value::Number)),
            any::<String>().prop_map(|text| Value::String(text.replace('\0', ""))),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec(("[^\0]{0,3}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The same in another spelling: names the other way round, all escaped, blanks everywhere.
    fn respelled(value: &Value) -> String {
        let text = |text: &str| {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{units}\"")
        };
        match value {
            Value::Number(number) if number.as_i64().is_some_and(|n| n != 0) => {
                format!("{number}00.00e-2")
            }
            Value::String(of) => text(of),
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(respelled).collect();
                format!("[\n{} ]", values.join(" , "))
            }
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| {
                    format!("{}\t:{}", text(name), respelled(value))
                };
                let members: Vec<String> = members.iter().rev().map(member).collect();
                format!("{{ {}}}", members.join(" ,"))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn two_texts_have_one_number_exactly_if_their_canonical_forms_are_equal(one in json(), other in json()) {
            let canonical = |text: &str| {
                let mut out = Vec::new();
                write_canonical(text.as_bytes(), &mut out, &mut Scratch::default());
                out
            };
            let (a, b) = (one.to_string(), other.to_string());
            prop_assert_eq!(hash(&a), hash(&respelled(&one)));
            prop_assert_eq!(hash(&a) == hash(&b), canonical(&a) == canonical(&b));
        }

        #[test]
        fn no_bytes_are_too_odd(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut meaning = JsonHash::default();
            prop_assert_eq!(meaning.hash(&text), meaning.hash(&text));
        }
    }
}
