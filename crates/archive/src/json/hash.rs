//! Hashes what a JSON text means: equal for every spelling, order of names and white space.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use crate::canonical::{Scratch, write_canonical};

use super::{JsonIssues, Scanner, Token, Tokens};

/// Hashes what JSON texts mean; builds no tree and keeps its buffers.
///
/// It finds accidents, not attackers: another text with the same hash can be constructed.
///
/// ```
/// use chronicle_archive::json::JsonHash;
///
/// let mut hash = JsonHash::default();
/// assert_eq!(hash.hash(br#"{"a":1.0,"b":"x"}"#), hash.hash(br#"{ "b": "\u0078", "a": 10e-1 }"#));
/// ```
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
    /// The sum of its members so far, and the hash of a name whose value follows.
    Object { sum: u64, name: Option<u64> },
    /// The hash of its values so far, in their order.
    Array(u64),
}

/// What is hashed: equal bytes of two classes have two hashes.
#[derive(Clone, Copy)]
enum Class {
    Text = 1,
    Number,
    Word,
    Object,
    Array,
    Member,
    /// Not comparable as JSON.
    Opaque,
}

impl JsonHash {
    /// The hash of a text; by its bytes if it is [not comparable](JsonIssues::NOT_COMPARABLE) as JSON.
    pub fn hash(&mut self, text: &[u8]) -> u64 {
        let issues = self.scanner.scan(text);
        if issues.intersects(JsonIssues::NOT_COMPARABLE) {
            return bytes(Class::Opaque, text);
        }
        if !issues.contains(JsonIssues::DUPLICATE) {
            return self.hash_valid(text);
        }
        // The last of equal names counts, which a sum cannot express.
        let mut unique = std::mem::take(&mut self.unique);
        unique.clear();
        write_canonical(text, &mut unique, &mut Scratch::default());
        let hash = self.hash_valid(&unique);
        self.unique = unique;
        hash
    }

    /// The hash of valid JSON without duplicate names.
    fn hash_valid(&mut self, text: &[u8]) -> u64 {
        self.open.clear();
        let mut whole = 0;
        let mut tokens = Tokens::new(text);
        while let Some(token) = tokens.next() {
            let value = match token {
                Token::ObjectStart => {
                    self.open.push(Container::Object { sum: 0, name: None });
                    continue;
                }
                Token::ArrayStart => {
                    self.open.push(Container::Array(0));
                    continue;
                }
                Token::Colon => continue,
                Token::ObjectEnd | Token::ArrayEnd => self.end(),
                Token::String => bytes(Class::Text, tokens.decode(&mut self.scratch)),
                Token::Number(number) => self.number(number),
                Token::Literal(word) => bytes(Class::Word, word),
            };
            self.add(value);
            whole = value;
        }
        whole
    }

    fn end(&mut self) -> u64 {
        match self.open.pop() {
            Some(Container::Object { sum, .. }) => pair(Class::Object, sum, 0),
            Some(Container::Array(hash)) => pair(Class::Array, hash, 0),
            None => 0,
        }
    }

    /// Adds a value, or a name, to the container around it.
    #[inline(always)]
    fn add(&mut self, value: u64) {
        match self.open.last_mut() {
            Some(Container::Object { sum, name }) => match name.take() {
                None => *name = Some(value),
                // A sum does not depend on the order.
                Some(name) => *sum = sum.wrapping_add(pair(Class::Member, name, value)),
            },
            Some(Container::Array(hash)) => *hash = pair(Class::Array, *hash, value),
            None => {}
        }
    }

    /// The hash of a number: its digits without zeros at either end, and a power of ten.
    fn number(&mut self, token: &[u8]) -> u64 {
        let digits = &mut self.scratch;
        digits.clear();
        let (mut power, mut fraction) = (0_i64, 0);
        for (n, &byte) in token.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    power -= fraction;
                    if byte != b'0' || !digits.is_empty() {
                        digits.push(byte);
                    }
                }
                b'.' => fraction = 1,
                b'e' | b'E' => {
                    power = power.saturating_add(exponent(&token[n + 1..]));
                    break;
                }
                _ => {}
            }
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
            power = power.saturating_add(1);
        }
        // Zero has neither a sign nor a power.
        let sign = match (digits.is_empty(), token.first()) {
            (true, _) => 0,
            (false, Some(b'-')) => -1,
            (false, _) => 1,
        };
        let mut hasher = hasher(Class::Number);
        hasher.write_i64(sign);
        hasher.write_i64(power * sign.abs());
        hasher.write(digits);
        hasher.finish()
    }
}

/// The value of an exponent, as written after its `e`; one that is out of range becomes the limit.
fn exponent(written: &[u8]) -> i64 {
    let written = std::str::from_utf8(written).unwrap_or_default();
    let limit = if written.starts_with('-') { i64::MIN } else { i64::MAX };
    written.parse().unwrap_or(limit)
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
    fn other_contents_have_other_hashes() {
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
    fn hashing_any_depth_uses_no_stack() {
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

    /// The same content spelled in another way: names reversed and escaped, white space everywhere.
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
        fn hashes_are_equal_if_canonical_forms_are(one in json(), other in json()) {
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
        fn every_text_has_one_hash(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut hasher = JsonHash::default();
            prop_assert_eq!(hasher.hash(&text), hasher.hash(&text));
        }
    }
}
