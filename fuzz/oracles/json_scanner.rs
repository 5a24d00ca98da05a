//! What holds of the JSON scanner for every input; serde_json is the judge.

use chronicle_archive::json::{
    JsonHash, JsonIssues, Scanner, member, read_string, sanitize, write_string,
};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Panics if the scanner is wrong about `input`.
pub(crate) fn check(input: &[u8]) {
    let mut scanner = Scanner::default();
    let found = scanner.scan(input);
    let text = std::str::from_utf8(input).unwrap_or("");
    let valid = serde_json::from_str::<IgnoredAny>(text).is_ok();
    assert_eq!(found.contains(JsonIssues::INVALID), !valid, "is it JSON?");
    if found.contains(JsonIssues::INVALID) {
        assert_eq!(found, JsonIssues::INVALID, "nothing else is reported of text that is not JSON");
    }
    check_prefix(&mut scanner, input, found);
    check_sanitized(input, found);
    if found.is_portable() {
        check_portable(&mut scanner, input);
    }
    if !text.is_empty() {
        check_string(text);
    }
}

/// A value is found to be the same whatever follows it.
fn check_prefix(scanner: &mut Scanner, input: &[u8], found: JsonIssues) {
    let (length, of_prefix) = scanner.scan_prefix(input);
    assert!(length <= input.len());
    if found.contains(JsonIssues::INVALID) || found.contains(JsonIssues::OUTER_SPACE) {
        return;
    }
    assert_eq!((length, of_prefix), (input.len(), found));
    let followed = [input, b",\"\xff"].concat();
    assert_eq!(scanner.scan_prefix(&followed), (length, found));
}

/// A sanitized object is portable, and sanitizing it again changes nothing.
fn check_sanitized(input: &[u8], found: JsonIssues) {
    let impossible = [JsonIssues::INVALID, JsonIssues::NOT_OBJECT, JsonIssues::DEEP];
    let possible = !impossible.into_iter().any(|flag| found.contains(flag));
    let sanitized = sanitize(input);
    assert_eq!(sanitized.is_some(), possible);
    let Some(sanitized) = sanitized else { return };
    assert_eq!(Scanner::default().scan(&sanitized), JsonIssues::default());
    assert_eq!(sanitize(&sanitized).as_ref(), Some(&sanitized));
    // serde_json, too, lets the last one of equal names count; it reads no half surrogate and no infinite number
    let readable = [JsonIssues::SURROGATE, JsonIssues::NUMBER, JsonIssues::NUL];
    if !readable.into_iter().any(|flag| found.contains(flag)) {
        assert_eq!(value(&sanitized), value(input), "the sanitized text means something else");
    }
}

/// What serde_json finds in a portable text is found by member names too, and hashed alike.
fn check_portable(scanner: &mut Scanner, input: &[u8]) {
    let whole = value(input);
    let sanitized = sanitize(input).expect("a portable text can be sanitized");
    let mut hasher = JsonHash::default();
    let hash = hasher.hash(input);
    assert_eq!(hash, hasher.hash(&sanitized), "white space was hashed");
    for (name, expected) in whole.as_object().expect("a portable text is an object") {
        let place = member(scanner, input, name).expect("an existing member");
        assert_eq!(value(&input[place.value]), *expected);
        let rest = [&input[..place.whole.start], &input[place.whole.end..]].concat();
        let mut without = whole.clone();
        without.as_object_mut().and_then(|object| object.remove(name));
        assert_eq!(value(&rest), without, "what is left without a member");
        assert_ne!(hash, hasher.hash(&rest), "a member that the hash leaves out");
    }
}

/// A text that is written as a JSON string is read again, by serde_json too.
fn check_string(text: &str) {
    let (mut written, mut read) = (Vec::new(), Vec::new());
    write_string(&mut written, text);
    assert_eq!(read_string(&written, &mut read), Some(written.len()));
    assert_eq!(read, text.as_bytes());
    assert_eq!(value(&written), Value::String(text.to_owned()));
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("serde_json reads it")
}

/// Texts of every kind, and the lines of a real archive.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let archive = include_bytes!("../../fixtures/archives/hostile.ndjson.zst");
    let lines = zstd::decode_all(&archive[..]).expect("a fixture");
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| line.len() < 1000);
    let texts = [
        r#"{ "a" : [ 1 , { } , [ ] , "x" , true , false , null ] }"#,
        r#"{"a":-0,"b":1E2,"c":1.10,"d":9007199254740993,"e":0.0,"f":1e+5,"g":1e999}"#,
        r#"{"":"\"\\\/\b\f\n\r\t\u00e9\u001F","\ud83d\ude00":"\uD83D\uDE00","half":"\ud83d"}"#,
        r#"{"a":1,"\u0061":2,"A":{"a":"\u0000"}}"#,
        "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]",
        "\n\t\r {\"é\": \"\u{2028}\u{feff}😀\"}\r\n",
        "nul",
    ];
    texts
        .into_iter()
        .map(|text| text.as_bytes().to_vec())
        .chain(lines.map(<[u8]>::to_vec))
        .collect()
}
