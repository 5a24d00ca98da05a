//! Rows that are not of the format, exact values that are not what records show, streams out of order.

use chronicle_archive::{ArchiveReader, Batch, Limits, Value};
use chronicle_dump::error::Code;

use super::hand::{Hand, Line, SESSION_ROWS, assert_both_refused, split, with_table};
use super::{DAMAGED, assert_refused, attempt, refusal};

#[test]
pub(super) fn rows_that_are_not_of_the_format_are_refused() {
    let place = "chunk 2, row 1 of events";
    let record = "expected a RECORD of this stream";
    let next = "expected the next column of the SCHEMA line";
    let (int, real) = ("expected a value of kind int", "expected a value of kind real");
    let portable = "expected a portable JSON object";
    let deep = format!("\"data\":{}{{}}{}", "{\"a\":".repeat(100), "}".repeat(100));
    for (what, from, to, says) in [
        ("a column twice", "\"id\":\"e1\"", "\"id\":\"e1\",\"id\":\"e1\"", next),
        ("a column missing", "\"n\":1,", "", next),
        ("columns in another order", "\"n\":1,\"x\":0.5", "\"x\":0.5,\"n\":1", next),
        (
            "a column more",
            "\"data\":{\"a\": 1}",
            "\"data\":{\"a\": 1},\"more\":1",
            "expected the end of the record",
        ),
        ("a space", "\"n\":1", "\"n\": 1", int),
        ("a space", "{\"type\"", " {\"type\"", record),
        ("a blank line", "{\"type\"", "\n{\"type\"", record),
        ("a mark of byte order", "{\"type\"", "\u{feff}{\"type\"", record),
        ("lower case", "\"RECORD\"", "\"record\"", record),
        ("another stream", "\"events\"", "\"sessions\"", record),
        ("another type", "\"RECORD\"", "\"SCHEMA\"", record),
        ("a carriage return", "{\"a\": 1}}}\n", "{\"a\": 1}}}\r\n", "carriage return"),
        (
            "a member behind",
            "{\"a\": 1}}}\n",
            "{\"a\": 1}},\"more\":1}\n",
            "expected the end of the line",
        ),
        ("something behind", "{\"a\": 1}}}\n", "{\"a\": 1}}}{}\n", "expected the end of the line"),
        ("a line in two", "\"n\":1", "\"n\":\n1", int),
        ("text", "\"n\":1", "\"n\":\"1\"", int),
        ("a fraction", "\"n\":1", "\"n\":1.0", int),
        ("an exponent", "\"n\":1", "\"n\":1e2", int),
        ("a leading zero", "\"n\":1", "\"n\":01", int),
        ("a plus", "\"n\":1", "\"n\":+1", int),
        ("minus zero", "\"n\":1", "\"n\":-0", int),
        ("a large integer", "\"n\":1", "\"n\":9223372036854775808", int),
        ("nothing", "\"n\":1", "\"n\":", int),
        ("NaN", "\"x\":0.5", "\"x\":NaN", real),
        ("a large real", "\"x\":0.5", "\"x\":1e400", real),
        ("an integer for a real", "\"x\":0.5", "\"x\":1", real),
        ("half a real", "\"x\":0.5", "\"x\":.5", real),
        ("half a real", "\"x\":0.5", "\"x\":5.", real),
        ("true", "\"x\":0.5", "\"x\":true", real),
        ("null in a key", "\"id\":\"e1\"", "\"id\":null", "the SCHEMA line allows no null"),
        ("a number as text", "\"id\":\"e1\"", "\"id\":1", "expected a value of kind text"),
        ("a NUL", "\"id\":\"e1\"", "\"id\":\"\\u0000\"", "found a NUL character"),
        ("half a pair", "\"id\":\"e1\"", "\"id\":\"\\ud800\"", "found a broken string"),
        ("a raw tab", "\"id\":\"e1\"", "\"id\":\"\t\"", "found a broken string"),
        ("a bad escape", "\"id\":\"e1\"", "\"id\":\"\\x\"", "found a broken string"),
        ("an open string", "\"id\":\"e1\"", "\"id\":\"e1", next),
        ("a list", "{\"a\": 1}", "[1]", portable),
        ("a string for JSON", "{\"a\": 1}", "\"a\"", "expected a value of kind json"),
        ("a name twice", "{\"a\": 1}", "{\"a\":1,\"a\":1}", portable),
        ("a NUL in JSON", "{\"a\": 1}", "{\"a\":\"\\u0000\"}", portable),
        ("half a pair in JSON", "{\"a\": 1}", "{\"\\udfff\":1}", portable),
        ("a large number in JSON", "{\"a\": 1}", "{\"a\":1e400}", portable),
        ("no JSON", "{\"a\": 1}", "{\"a\":}", portable),
        ("deep JSON", "\"data\":{\"a\": 1}", &deep, portable),
    ] {
        let pieces = Hand::rows(from, to).pieces();
        assert_both_refused(what, &pieces, DAMAGED, says);
        let full = refusal(&with_table(&pieces)).1;
        assert!(full.contains(place) || says == "carriage return", "{what}: {full}");
    }
    let mut pieces = Hand::new().pieces();
    let at = pieces[2].windows(2).position(|bytes| bytes == b"e1").unwrap();
    pieces[2][at] = 0xFF;
    assert_both_refused("no UTF-8 with an old checkpoint", &pieces, DAMAGED, "SHA-256");
}

#[test]
pub(super) fn an_exact_value_that_is_not_what_the_record_shows_is_refused() {
    let whole = "\"data\":{\"a\": 1}}";
    let beside = |record: &str, side: &str| format!("\"data\":{record}}},\"chronicle\":{side}");
    let exact = |record: &str, exact: &str| beside(record, &format!("{{\"exact\":{exact}}}"));
    let portable_form = "expected the portable form of its exact value";
    for (to, code, says) in [
        (exact("{\"a\":1}", r#"{"data":{"json":"{\"a\":1,\"a\":2}"}}"#), DAMAGED, portable_form),
        (
            exact("{\"a\":2}", r#"{"data":{"json":"{\"a\":2}"} }"#)
                .replace("{\"a\":2}", "{\"a\": 2}"),
            DAMAGED,
            portable_form,
        ),
        (exact("null", r#"{"data":{"json":"{\"a\":1,\"a\":2}"}}"#), DAMAGED, portable_form),
        (exact("{\"a\":1}", r#"{"data":{"json":"[1]"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"n":{"int":"2"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"x":{"real":"NaN"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"id":{"text":"e1\u0000"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"id":{"blob":"AAEC"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"n":{"int":"1 "}}"#), DAMAGED, "does not parse"),
        (exact("{}", r#"{"n":{"int":"9223372036854775808"}}"#), DAMAGED, "does not parse"),
        (exact("{}", r#"{"x":{"real":"inf"}}"#), DAMAGED, "does not parse"),
        (exact("{}", r#"{"n":{"blob":"AAE"}}"#), DAMAGED, "does not parse"),
        (
            exact("{}", r#"{"n":{"wonder":"1"}}"#),
            Code::ArchiveUnsupported,
            "column n: the exact tag \"wonder\" is not known",
        ),
        (
            exact("{}", r#"{"n":{"jsonb":"1"}}"#),
            Code::ArchiveUnsupported,
            "the exact tag \"jsonb\" is not known in a column of kind int",
        ),
        (
            exact("{}", r#"{"n":{"time":"infinity"}}"#),
            Code::ArchiveUnsupported,
            "the exact tag \"time\"",
        ),
        (
            exact("{}", r#"{"more":{"int":"1"}}"#),
            DAMAGED,
            "found an exact value for an unknown column",
        ),
        (exact("{}", r#"{"n":{"int":"1","text":"1"}}"#), DAMAGED, "found several exact values"),
        (exact("{}", r#"{"n":{}}"#), DAMAGED, "found several exact values, expected one"),
        (exact("{}", r#"{"n":{"int":"1"},"n":{"int":"1"}}"#), DAMAGED, "distinct names"),
        (exact("{}", r#"{"n":{"int":1}}"#), DAMAGED, "expected objects of texts"),
        (exact("{}", "[]"), DAMAGED, "expected objects of texts"),
        (beside("{}", "[]"), DAMAGED, "`chronicle` object"),
        (beside("{}", "null"), DAMAGED, "`chronicle` object"),
        (beside("{}", ""), DAMAGED, "`chronicle` object"),
        (beside("{}", "{},\"more\":1"), DAMAGED, "`chronicle` object"),
        (beside("{}", "{\"exact\":{},\"exact\":{}}"), DAMAGED, "`chronicle` object"),
    ] {
        assert_both_refused(&to, &Hand::rows(whole, &to).pieces(), code, says);
    }
}

#[test]
pub(super) fn an_offset_that_is_none_of_a_local_time_is_refused() {
    let with = |note: &str, offsets: &str| {
        let mut hand = Hand::new();
        hand.head = hand.head.replacen("\"instants\":[]", "\"instants\":[\"note\"]", 1);
        let side = format!("{{\"note\":{note}}},\"chronicle\":{{\"offsets\":{offsets}}}}}");
        let rows = SESSION_ROWS.replacen("{\"id\":\"s1\",\"note\":null}}", "{\"id\":\"s1\",", 1);
        hand.chunks[0].1 =
            rows.replacen("{\"id\":\"s1\",", &format!("{{\"id\":\"s1\",{}", &side[1..]), 1);
        attempt(&hand.pieces().concat()).1
    };
    let local = "\"2025-08-19 10:00:00.1234567\"";
    for good in ["+02:00", "-15:59:59", "+00:00", "+00:53:28"] {
        with(local, &format!("{{\"note\":\"{good}\"}}")).unwrap();
    }
    for (note, offset, says) in [
        (local, "\"+2\"", "expected an offset"),
        (local, "\"-00:00\"", "expected an offset"),
        (local, "\"+16:00\"", "expected an offset"),
        (local, "\"+02:00:00\"", "expected an offset"),
        (local, "\"Europe/Berlin\"", "expected an offset"),
        (local, "2", "the `chronicle` object"),
        ("\"2025-08-19 10:00:00Z\"", "\"+02:00\"", "expected an offset for a time without a zone"),
        ("\"soon\"", "\"+02:00\"", "expected an offset for a time without a zone"),
        ("null", "\"+02:00\"", "expected an offset for a time without a zone"),
    ] {
        let error = with(note, &format!("{{\"note\":{offset}}}")).unwrap_err();
        assert!(error.code() == DAMAGED && error.full().contains(says), "{}", error.full());
    }
    for (column, says) in
        [("id", "for a time without a zone"), ("more", "an offset for an unknown column")]
    {
        let error = with(local, &format!("{{\"{column}\":\"+02:00\"}}")).unwrap_err();
        assert!(error.code() == DAMAGED && error.full().contains(says), "{}", error.full());
    }
}

#[test]
pub(super) fn streams_come_in_the_order_of_the_header_and_never_resume() {
    let good = Hand::new();
    for order in [&[1, 0][..], &[0, 1, 0], &[1, 2, 0], &[1, 0, 2]] {
        let chunks = order.iter().map(|n| good.chunks[*n].clone()).collect();
        let pieces = Hand { chunks, ..good.clone() }.pieces();
        assert_both_refused("the order", &pieces, DAMAGED, "its stream is unknown or out of order");
    }
    for order in [&[][..], &[0], &[1], &[2, 1]] {
        let chunks = order.iter().map(|n| good.chunks[*n].clone()).collect();
        let pieces = Hand { chunks, ..good.clone() }.pieces();
        attempt(&with_table(&pieces)).1.unwrap();
        attempt(&pieces.concat()).1.unwrap();
    }
    let mut mixed = Hand::new();
    mixed.chunks[1].1.push_str(SESSION_ROWS);
    assert_both_refused("mixed", &mixed.pieces(), DAMAGED, "expected a RECORD of this stream");
    let mut empty = Hand::new();
    empty.chunks[1].1.clear();
    let (pieces, says) = (empty.pieces(), "it holds 0 rows, but its checkpoint counts 0");
    assert_refused("no rows", &with_table(&split(&pieces)), DAMAGED, says);
    assert_refused("no rows, bare", &pieces.concat(), DAMAGED, says);
    // a checkpoint alone counts as that of the records before it
    assert_refused("no rows, joined", &with_table(&pieces), DAMAGED, "its checkpoint is number 2");
}

#[test]
pub(super) fn a_stream_of_an_unknown_kind_is_verified_and_not_decoded() {
    let kind = ("\"data\":\"json\"", "\"data\":\"vector\"");
    let hand = Hand::head(kind.0, kind.1);
    let pieces = hand.pieces();
    for bytes in [with_table(&pieces), pieces.concat()] {
        let mut reader = ArchiveReader::open(&bytes[..], Limits::default()).unwrap();
        assert_eq!((reader.unknown_kind(0), reader.unknown_kind(1)), (None, Some("vector")));
        assert_eq!(reader.unknown_kind(2), None);
        let mut batch = Batch::default();
        let mut read = Vec::new();
        while reader.next_batch(&mut batch).unwrap() {
            read.push((batch.stream(), batch.rows()));
        }
        assert_eq!(read, [(0, 2), (1, 0), (1, 0)]);
        assert_eq!((reader.rows(), reader.sealed().is_some()), (&[2, 3][..], true));
        assert_eq!(batch.value(0, 0), Value::Null);
    }
    for (from, to, says) in [
        ("{\"type\"", "\n{\"type\"", "chunk 2, row 1 of events: found something else"),
        ("\"RECORD\"", "\"SCHEMA\"", "expected a RECORD of this stream"),
        ("\"events\"", "\"sessions\"", "expected a RECORD of this stream"),
        ("\"n\":1", "\"n\":\n1", "row 2 of events"),
        ("\"n\":1", "\"n\":\r1", "carriage return"),
    ] {
        let mut hand = Hand::rows(from, to);
        hand.head = hand.head.replace(kind.0, kind.1);
        assert_both_refused(to, &hand.pieces(), DAMAGED, says);
    }
    let pieces = hand.altered(|line, text| match line {
        Line::Checkpoint(2) => text.replace("\"rows\":2", "\"rows\":1"),
        _ => text,
    });
    assert_both_refused("rows", &pieces, DAMAGED, "it holds 2 rows, but its checkpoint counts 1");
}
