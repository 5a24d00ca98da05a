//! Streams and rows as hostile as databases allow, as strategies of proptest.

use chronicle_archive::time::Instant;
use chronicle_archive::{Column, Kind, Stream, TimeText};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use serde_json::Value as Json;

use super::{Owned, Row, Way};

// ---- streams and rows as hostile as databases allow -----------------------------------------

const INTS: [i64; 7] = [0, 1, -1, i64::MIN, i64::MAX, 1 << 53, -(1 << 53) - 1];

const TEXTS: [&[u8]; 24] = [
    b"",
    b"plain",
    b" \t padded \r\n",
    b"\"quoted\\ / \x08\x0c\x1f\x7f",
    b"a\0b",
    b"\0",
    b"\xff\xfe",
    b"half \xe2\x82",
    b"\xed\xa0\x80 a surrogate in UTF-8",
    b"nul and \xff\0 both",
    "é漢\u{1f600}\u{2028}\u{2029}\u{85}\u{feff}\u{fffd}".as_bytes(),
    b"\\ud800\\u0000",
    b"2025-08-19 12:00:00",
    b"2025-08-19T12:00:00.123456+02:00",
    b"infinity",
    b"null",
    b"NULL",
    b"NaN",
    b"12",
    b"true",
    b"\",\"id\":\"2\"},\"chronicle\":{\"exact\":{}}}",
    b"{\"type\":\"STATE\",\"value\":{}}\n{\"type\":\"STATE\",",
    b"AAEC",
    b"0b6f9b1e-7c3d-4f0e-9a55-3f6a1f3f7b10",
];

const JSONS: [&[u8]; 40] = [
    b"{}",
    b"{\"a\": 1, \"b\": [1.10, 1E2, 9007199254740993, -0, -0.0, 5e-324]}",
    "{\"caf\\u00e9\": \"\u{1f600}\u{2028}\", \"\\ud83d\\ude00\": null}".as_bytes(),
    b"{ \"spaced\" :\t[ true , false ] }",
    b"{\"a\":{\"a\":{\"a\":{}}},\"b\":[[[[]]]]}",
    b"{\"n\":1e308,\"m\":-1.7976931348623157e308}",
    b"",
    b" ",
    b"null",
    b"true",
    b"\"text\"",
    b"\"\\u0000\"",
    b"12.50",
    b"[]",
    b"[{\"a\":1},{\"a\":2}]",
    b" {\"a\":1}",
    b"{\"a\":1}\n",
    b"{\n  \"a\": 1\r\n}",
    b"{\"a\":\"x\\u0000y\"}",
    b"{\"\\u0000\":0}",
    b"{\"a\":\"\\ud800\",\"b\":\"\\udc00\\ud83d\"}",
    b"{\"\\ud800\":1,\"\\ud801\":2,\"\\ufffd\":3}",
    b"{\"a\":1,\"b\":2,\"a\":3}",
    b"{\"a\":1,\"\\u0061\":{\"b\":1,\"b\":2}}",
    b"{\"n\":1e400}",
    b"{\"n\":-1e999999999999,\"m\":1e-309}",
    b"{\"a\":NaN}",
    b"{\"a\":1,}",
    b"{'a':1}",
    b"{\"a\":01}",
    b"{\"a\":1",
    b"{\"a\":1}}",
    b"{\"a\":\"\t\"}",
    b"{\"a\":\"\xff\"}",
    b"\xef\xbb\xbf{\"a\":1}",
    b"{\"a\":1}\0",
    b"{\"a\":Infinity}",
    b"not JSON",
    b"{\"a\":\"}},{\\\"chronicle\\\":{\"}",
    b"{\"__proto__\":1,\"\":2,\" \":3}",
];

const NUMERICS: [&str; 11] = [
    "1.10",
    "0",
    "-0.5",
    "0.00000000000000000000000000000000000001",
    "12345678901234567890123456789012345678901234567890.98765",
    "100",
    "-1",
    "NaN",
    "Infinity",
    "-Infinity",
    "9999999999999999999",
];

const DATES: [&str; 9] = [
    "2025-02-28",
    "2024-02-29",
    "0001-01-01",
    "9999-12-31",
    "10000-01-01",
    "5874897-12-31",
    "0044-03-15 BC",
    "infinity",
    "-infinity",
];

const JSONBS: [&str; 10] = [
    "{}",
    "{\"a\": 1.10, \"bb\": [1, 2, {\"c\": null}]}",
    "{\"\u{1f600}\": \"\u{2028}\\n\\\"\"}",
    "null",
    "true",
    "-12.50",
    "\"text\"",
    "\"\"",
    "[]",
    "[1, {\"a\": 2}]",
];

const OTHERS: [&str; 8] = [
    "",
    "{1,NULL,\"a b\"}",
    "P1Y2M3DT4H5M6.789S",
    "12:00:00+02",
    "::1/128",
    "$1.00",
    "é",
    "a\tb\\",
];

/// Text as SQLite may hold it: any bytes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(&TEXTS[..]).prop_map(<[u8]>::to_vec),
        2 => any::<String>().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => (select(&TEXTS[..]), 1..600_usize).prop_map(|(text, times)| text.repeat(times)),
    ]
}

/// JSON text as tools write it, portable and not.
fn json_text() -> impl Strategy<Value = Vec<u8>> {
    let nested = |depth: usize| ["{\"a\":".repeat(depth), "{}".into(), "}".repeat(depth)].concat();
    let arrays = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    prop_oneof![
        8 => select(&JSONS[..]).prop_map(<[u8]>::to_vec),
        2 => generated_json().prop_map(String::into_bytes),
        1 => select(vec![1_usize, 98, 99, 100, 101, 1000, 2000])
            .prop_map(move |depth| nested(depth).into_bytes()),
        1 => select(vec![98_usize, 99, 100, 101]).prop_map(move |d| arrays(d).into_bytes()),
        1 => select(vec![307_usize, 308, 309, 399, 400, 401])
            .prop_map(|digits| format!("{{\"n\":{}}}", "9".repeat(digits)).into_bytes()),
        1 => text(),
    ]
}

/// Objects with few different names, so that some are equal, and strings that need escapes.
fn generated_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<f64>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        any::<String>().prop_map(|v| Json::String(v).to_string()),
        select(vec!["null", "true", "1E+2", "1e999", "-0", "\"\\u0000\"", "\"\\udfff\""])
            .prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(3, 24, 5, |inner| {
        let name = select(vec!["a", "b", "\\u0061", "", "a\\u0000", "c d", "\\n"]);
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            vec((name, inner), 0..5).prop_map(|members| {
                let members: Vec<String> = members
                    .into_iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    vec(value, 0..3).prop_map(|values| {
        let members = values.iter().enumerate().map(|(n, value)| format!("\"{n}\": {value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    })
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("NaN is in real columns only", |v| !v.is_nan()),
        select(vec![0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, 5e-324, f64::MAX, f64::MIN, 1e22]),
        select(vec![f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

/// Any value that SQLite may hold in a column of any declared kind.
fn free() -> BoxedStrategy<Owned> {
    prop_oneof![
        1 => Just(Owned::Null),
        2 => prop_oneof![any::<i64>(), select(&INTS[..])].prop_map(Owned::Int),
        2 => real().prop_map(Owned::Real),
        3 => text().prop_map(Owned::Text),
        2 => json_text().prop_map(Owned::Text),
        2 => vec(any::<u8>(), 0..40).prop_map(Owned::Blob),
    ]
    .boxed()
}

fn instant() -> impl Strategy<Value = Instant> {
    prop_oneof![
        3 => (Instant::MIN.0..=Instant::MAX.0).prop_map(Instant),
        3 => (-63_082_281_600_000_000..=252_455_615_999_999_999_i64).prop_map(Instant),
        2 => select(vec![
            Instant::MIN,
            Instant::MAX,
            Instant::INFINITY,
            Instant::NEG_INFINITY,
            Instant(-63_082_281_600_000_000),
            Instant(-63_082_281_600_000_001),
            Instant(252_455_615_999_999_999),
            Instant(252_455_616_000_000_000),
            Instant(0),
        ]),
    ]
}

/// A value of a column: of its kind more often, but of any class where SQLite could have put it.
fn value(kind: Kind, nullable: bool) -> BoxedStrategy<Owned> {
    let texts = |list: &'static [&'static str]| {
        select(list).prop_map(|text| Owned::Text(text.as_bytes().to_vec())).boxed()
    };
    let own = match kind {
        Kind::Int => prop_oneof![any::<i64>(), select(&INTS[..])].prop_map(Owned::Int).boxed(),
        Kind::Real => prop_oneof![4 => real(), 1 => Just(f64::NAN)].prop_map(Owned::Real).boxed(),
        Kind::Text => text().prop_map(Owned::Text).boxed(),
        Kind::Json => json_text().prop_map(Owned::Text).boxed(),
        Kind::Bytes => vec(any::<u8>(), 0..60).prop_map(Owned::Blob).boxed(),
        Kind::Bool => any::<bool>().prop_map(Owned::Bool).boxed(),
        Kind::Numeric => texts(&NUMERICS),
        Kind::Time => instant().prop_map(Owned::Time).boxed(),
        Kind::Date => texts(&DATES),
        Kind::Uuid => any::<[u8; 16]>().prop_map(Owned::Uuid).boxed(),
        Kind::Jsonb => prop_oneof![
            texts(&JSONBS),
            Just(Owned::Text(format!("{{\"n\": 1{}}}", "0".repeat(400)).into_bytes())),
        ]
        .boxed(),
        Kind::Other => texts(&OTHERS),
    };
    let typed_freely =
        matches!(kind, Kind::Int | Kind::Real | Kind::Text | Kind::Json | Kind::Bytes);
    match (nullable, kind) {
        (true, _) if typed_freely => prop_oneof![3 => own, 1 => free()].boxed(),
        (true, _) => prop_oneof![6 => own, 1 => Just(Owned::Null)].boxed(),
        // a key of text is shown as text whatever it is, but there must be one
        (false, Kind::Text) => prop_oneof![3 => own, 1 => free()]
            .prop_filter("a key that is not null", |value| *value != Owned::Null)
            .boxed(),
        (false, _) => own,
    }
}

/// A stream with one or two key columns and up to seven others.
fn stream(number: usize) -> impl Strategy<Value = Stream> {
    let key = vec((select(vec![Kind::Text, Kind::Int, Kind::Uuid]), any::<bool>()), 1..3);
    let kinds = Kind::WORDS.map(|(kind, _)| kind).to_vec();
    let other = vec((select(kinds), any::<[bool; 3]>()), 0..8);
    let suffixes = select(vec!["", " é\u{1f600}", "\"\\\n\u{1}", "_null", "{,:}", "chronicle"]);
    (key, other, suffixes, any::<bool>(), vec(any::<Pick>(), 0..3)).prop_map(
        move |(key, others, suffix, sorted, order)| {
            let width = key.len();
            let mut columns = Vec::new();
            for (kind, strict) in key {
                columns.push((kind, !strict, TimeText::None));
            }
            for (kind, [instant, utc, _]) in others {
                let instant = instant && kind == Kind::Text;
                columns.push((kind, true, TimeText::new(instant, utc)));
            }
            let columns: Vec<Column> = (columns.into_iter().enumerate())
                .map(|(n, (kind, nullable, time_text))| Column {
                    name: format!("c{n}{suffix}"),
                    physical: if n % 2 == 0 { format!("c{n}{suffix}") } else { format!("P {n}") },
                    kind,
                    nullable,
                    time_text,
                })
                .collect();
            let mut order: Vec<usize> = order.iter().map(|p| p.index(columns.len())).collect();
            order.extend(0..width);
            order.dedup();
            let mut seen = std::collections::BTreeSet::new();
            order.retain(|n| seen.insert(*n) && sorted);
            Stream {
                name: format!("stream_{number}"),
                table: format!("public.\"T{suffix}\""),
                columns,
                key: (0..width).collect(),
                order,
            }
        },
    )
}

fn rows_of(stream: &Stream) -> BoxedStrategy<Vec<Row>> {
    let row: Vec<_> = stream.columns.iter().map(|c| value(c.kind, c.nullable)).collect();
    prop_oneof![1 => Just(Vec::new()).boxed(), 6 => vec(row, 0..40).boxed()].boxed()
}

type Content = (Vec<Stream>, Vec<Vec<Row>>);

/// One to three streams with their rows.
pub(super) fn content() -> impl Strategy<Value = Content> {
    (1..4_usize).prop_flat_map(|count| (0..count).map(stream).collect::<Vec<_>>()).prop_flat_map(
        |streams| {
            let rows: Vec<_> = streams.iter().map(rows_of).collect();
            (Just(streams), rows)
        },
    )
}

pub(super) fn way() -> impl Strategy<Value = Way> {
    (select(vec![1, 3, 7]), 1..4_usize, any::<bool>(), 1..40_usize)
        .prop_map(|(level, threads, seek_table, batch)| Way { level, threads, seek_table, batch })
}

/// Chunk targets that hold everything, some rows, one row, or less than one.
pub(super) fn chunk_target() -> impl Strategy<Value = u64> {
    prop_oneof![Just(65_536), 1..3000_u64, Just(1)]
}
