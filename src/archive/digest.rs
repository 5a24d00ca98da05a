//! The row digest `lrd1`: one number per stream that is the same for the same content, whatever
//! the order of the rows, the engine they came from and the spelling of their JSON.
//!
//! It compares a source with a target and finds accidents, not attackers: a sum of hashes can be
//! forged. Two equal rows do not cancel out, as they would with exclusive or.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};

use super::json::{plain_string, read_string, write_string};
use crate::record::{Kind, Stream};
use crate::time::{Naive, read_text};

/// The name of the algorithm, as manifests carry it.
pub const LRD1: &str = "lrd1";

/// The digest of the rows of one stream.
#[derive(Debug, Clone)]
pub struct RowDigest {
    columns: Vec<Column>,
    sum: [u64; 4],
    row: Vec<u8>,
    scratch: Scratch,
}

#[derive(Debug, Clone)]
struct Column {
    /// The name as JSON, with a colon, and a comma in front of all but the first.
    name: Vec<u8>,
    instant: bool,
}

impl RowDigest {
    /// The digest of no rows of `stream`.
    pub fn new(stream: &Stream) -> RowDigest {
        let columns = (stream.columns.iter().enumerate())
            .map(|(n, column)| {
                let mut name = if n == 0 { Vec::new() } else { b",".to_vec() };
                write_string(&mut name, &column.name);
                name.push(b':');
                Column { name, instant: column.instant && column.kind == Kind::Text }
            })
            .collect();
        RowDigest { columns, sum: [0; 4], row: Vec::new(), scratch: Scratch::default() }
    }

    /// Adds a row, given as the JSON texts of its record values in the order of the columns.
    pub fn add<'a>(&mut self, values: impl IntoIterator<Item = &'a [u8]>) {
        self.row.clear();
        self.row.push(b'{');
        for (column, value) in self.columns.iter().zip(values) {
            self.row.extend_from_slice(&column.name);
            if !(column.instant && write_instant(value, &mut self.row)) {
                write_canonical(value, &mut self.row, &mut self.scratch);
            }
        }
        self.row.push(b'}');
        self.add_hash(&Sha256::digest(&self.row));
    }

    /// Adds a hash as a 256-bit big-endian number, modulo 2^256.
    fn add_hash(&mut self, hash: &[u8]) {
        let mut carry = false;
        let limbs = hash.rchunks_exact(8).zip(self.sum.iter_mut().rev());
        for (bytes, limb) in limbs {
            let word = bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
            let (sum, over) = limb.overflowing_add(word);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_again);
        }
    }

    /// The digest as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.sum.iter().map(|limb| format!("{limb:016x}")).collect()
    }
}

/// Buffers that are used anew for every value.
#[derive(Debug, Clone, Default)]
struct Scratch {
    text: Vec<u8>,
}

/// Writes a text that reads as an instant in UTC with six digits; false if it is none.
fn write_instant(value: &[u8], out: &mut Vec<u8>) -> bool {
    // an instant's text has nothing to escape
    let Some(len) = plain_string(value) else { return false };
    let Ok(instant) = read_text(&value[1..=len], Naive::Utc) else { return false };
    out.push(b'"');
    if instant.write_portable(out) {
        out.push(b'"');
        return true;
    }
    out.pop();
    false
}

/// Appends the canonical form of a portable JSON text: names sorted, numbers as exact decimals,
/// no white space. Its depth is bounded by the rules of portable JSON.
fn write_canonical(text: &[u8], out: &mut Vec<u8>, scratch: &mut Scratch) {
    let mut at = 0;
    write_value(text, &mut at, out, scratch);
}

fn skip_space(text: &[u8], at: &mut usize) {
    while matches!(text.get(*at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        *at += 1;
    }
}

fn write_value(text: &[u8], at: &mut usize, out: &mut Vec<u8>, scratch: &mut Scratch) {
    skip_space(text, at);
    match text.get(*at) {
        Some(b'{') => write_object(text, at, out, scratch),
        Some(b'[') => write_array(text, at, out, scratch),
        Some(b'"') => write_text(text, at, out, scratch),
        Some(b'-' | b'0'..=b'9') => {
            let rest = &text[*at..];
            let end = rest.iter().position(|b| !b"+-.eE0123456789".contains(b));
            let end = end.unwrap_or(rest.len());
            write_number(&rest[..end], out);
            *at += end;
        }
        _ => {
            let rest = text.get(*at..).unwrap_or(&[]);
            let end = rest.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..end]);
            // whatever stands here in a text that is no JSON: never stand still
            *at += end.max(1);
        }
    }
    skip_space(text, at);
}

fn write_text(text: &[u8], at: &mut usize, out: &mut Vec<u8>, scratch: &mut Scratch) {
    let rest = &text[*at..];
    if let Some(len) = plain_string(rest) {
        out.extend_from_slice(&rest[..len + 2]);
        *at += len + 2;
        return;
    }
    scratch.text.clear();
    *at += read_string(rest, &mut scratch.text).unwrap_or(rest.len());
    write_string(out, &String::from_utf8_lossy(&scratch.text));
}

fn write_array(text: &[u8], at: &mut usize, out: &mut Vec<u8>, scratch: &mut Scratch) {
    *at += 1;
    out.push(b'[');
    skip_space(text, at);
    while !matches!(text.get(*at), Some(b']') | None) {
        write_value(text, at, out, scratch);
        if text.get(*at) == Some(&b',') {
            out.push(b',');
            *at += 1;
        }
    }
    *at += 1;
    out.push(b']');
}

fn write_object(text: &[u8], at: &mut usize, out: &mut Vec<u8>, scratch: &mut Scratch) {
    *at += 1;
    let mut members: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    skip_space(text, at);
    while !matches!(text.get(*at), Some(b'}') | None) {
        let mut name = Vec::new();
        let rest = &text[*at..];
        *at += read_string(rest, &mut name).unwrap_or(rest.len());
        skip_space(text, at);
        *at += 1; // the colon
        let mut value = Vec::new();
        write_value(text, at, &mut value, scratch);
        members.push((name, value));
        if text.get(*at) == Some(&b',') {
            *at += 1;
            skip_space(text, at);
        }
    }
    *at += 1;
    // stable: of equal names the last one stays last, and wins
    members.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(b'{');
    let mut first = true;
    for (n, (name, value)) in members.iter().enumerate() {
        if members.get(n + 1).is_some_and(|(next, _)| next == name) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, &String::from_utf8_lossy(name));
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

/// A number as digits and a power of ten, without zeros at either end: 1.10 is 11e-1.
fn write_number(token: &[u8], out: &mut Vec<u8>) {
    let text = std::str::from_utf8(token).unwrap_or("0");
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        out.push(b'0');
        return;
    }
    let zeros = significant.len() - trimmed.len();
    let power = exponent.parse::<i64>().unwrap_or(0) - fraction.len() as i64 + zeros as i64;
    let sign = if negative { "-" } else { "" };
    // writing to a Vec cannot fail
    let _ = match power {
        0 => write!(out, "{sign}{trimmed}"),
        _ => write!(out, "{sign}{trimmed}e{power}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    fn canonical(text: &str) -> String {
        let mut out = Vec::new();
        write_canonical(text.as_bytes(), &mut out, &mut Scratch::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_exact_decimals_without_zeros_at_the_ends() {
        for (text, expected) in [
            ("1.10", "11e-1"),
            ("11e-1", "11e-1"),
            ("100", "1e2"),
            ("1E2", "1e2"),
            ("-0", "0"),
            ("0.000", "0"),
            ("-12.50e+3", "-125e2"),
            ("9007199254740993", "9007199254740993"),
            ("0.001", "1e-3"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn spelling_and_order_do_not_matter_and_values_do() {
        let one = r#"{ "b": [1, 2.0, {"y": "caf\u00e9", "x": null}], "a":true }"#;
        let other = r#"{"a":true,"b":[1.0,2,{"x":null,"y":"café"}]}"#;
        assert_eq!(canonical(one), canonical(other));
        assert_eq!(canonical(one), r#"{"a":true,"b":[1,2,{"x":null,"y":"café"}]}"#);
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
        assert_eq!(canonical(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
    }

    fn stream() -> Stream {
        let column = |name: &str, instant| record::Column {
            name: name.into(),
            physical: name.into(),
            kind: Kind::Text,
            nullable: true,
            instant,
            utc: false,
        };
        Stream {
            name: "s".into(),
            table: "s".into(),
            columns: vec![column("id", false), column("at", true)],
            key: vec![0],
            order: vec![],
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_their_number_does() {
        let rows: [[&[u8]; 2]; 3] = [[b"\"a\"", b"null"], [b"\"b\"", b"null"], [b"\"b\"", b"null"]];
        let digest = |order: &[usize]| {
            let mut digest = RowDigest::new(&stream());
            order.iter().for_each(|n| digest.add(rows[*n]));
            digest.hex()
        };
        assert_eq!(digest(&[0, 1, 2]), digest(&[2, 1, 0]));
        assert_ne!(digest(&[0, 1]), digest(&[0, 1, 2]));
        assert_eq!(digest(&[]), "0".repeat(64));
        // one row: the SHA-256 of its canonical text
        assert_eq!(digest(&[0]), super::super::sha256(br#"{"id":"a","at":null}"#));
    }

    #[test]
    fn instants_are_compared_as_instants() {
        let digest = |at: &str| {
            let mut digest = RowDigest::new(&stream());
            digest.add([&b"\"a\""[..], at.as_bytes()]);
            digest.hex()
        };
        assert_eq!(digest("\"2025-08-19T12:00:00+02:00\""), digest("\"2025-08-19 10:00:00\""));
        assert_ne!(digest("\"2025-08-19T12:00:00+02:00\""), digest("\"2025-08-19 12:00:00\""));
        assert_ne!(digest("\"now\""), digest("\"then\""));
    }
}
