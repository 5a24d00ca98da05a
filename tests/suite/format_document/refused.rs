//! What the JSON Schemas refuse: lines that lack a key, have a wrong value or are of another sort.

use serde_json::json;

use super::{SCHEMAS, changed, good, validator};

#[test]
fn every_schema_refuses_a_line_that_lacks_a_key() {
    let keys = [
        (
            "header",
            "/value/chronicle",
            "kind version requires archive_id created_at writer source streams chunk_target \
             consistency source/backend",
        ),
        ("header", "", "type value value/chronicle value/bookmarks"),
        ("checkpoint", "/value/chronicle", "kind chunk stream rows bytes sha256 prev"),
        ("checkpoint", "/value/bookmarks/a", "rows last_key"),
        ("checkpoint", "", "type value value/chronicle value/bookmarks"),
        ("manifest", "/value/chronicle", "kind version chunks bytes rows prev seek_table"),
        ("manifest", "/value/chronicle/extents/a", "chunks bytes first"),
        ("manifest", "", "type value value/chronicle value/bookmarks"),
        ("SCHEMA", "", "type stream schema key_properties chronicle"),
        ("SCHEMA", "/schema", "type properties properties/int/type"),
        ("SCHEMA", "/chronicle", "table columns instants order"),
        ("RECORD", "", "type stream record"),
    ];
    for (sort, parent, keys) in keys {
        let mut line = good(sort);
        if sort == "manifest" {
            line["value"]["chronicle"]["extents"]["a"]["first"] = "1".into();
            line["value"]["chronicle"]["extents"]["a"]["last"] = "2".into();
        }
        assert!(SCHEMAS[sort].is_valid(&line), "{line}");
        for key in keys.split_whitespace() {
            let broken = changed(&line, &format!("{parent}/{key}"), None);
            assert!(!SCHEMAS[sort].is_valid(&broken), "{sort} without {parent}/{key}");
        }
    }
}

#[test]
fn every_schema_refuses_a_wrong_value() {
    let digest = "A".repeat(64);
    let wrong = [
        ("header", "/value/chronicle/kind", json!("manifest")),
        ("header", "/value/chronicle/version", json!(2)),
        ("header", "/value/chronicle/version", json!("1")),
        ("header", "/value/chronicle/requires", json!([1])),
        ("header", "/value/chronicle/archive_id", json!("5F0C0F6E-8F7B-4B8E-9A55-3F6A1F3F7B10")),
        ("header", "/value/chronicle/created_at", json!("2025-08-20 08:00:00")),
        ("header", "/value/chronicle/created_at", json!("2025-08-20T08:00:00+02:00")),
        ("header", "/value/chronicle/source/backend", json!("mysql")),
        ("header", "/value/chronicle/streams", json!([])),
        ("header", "/value/chronicle/streams", json!(["a", "a"])),
        ("header", "/value/chronicle/streams", json!(["Sessions"])),
        ("header", "/value/chronicle/chunk_target", json!(1024)),
        ("header", "/value/chronicle/consistency", json!("maybe")),
        ("header", "/value/chronicle/filters", json!({"project": 1})),
        ("header", "/value/chronicle/base", json!({"digest": "sha256:00", "archive_id": ""})),
        ("header", "/value/bookmarks", json!({"a": {"rows": 1, "last_key": null}})),
        ("header", "/type", json!("state")),
        ("checkpoint", "/value/chronicle/chunk", json!(-1)),
        ("checkpoint", "/value/chronicle/chunk", json!(0)),
        ("checkpoint", "/value/chronicle/chunk", json!(1.5)),
        ("checkpoint", "/value/chronicle/stream", json!(null)),
        ("checkpoint", "/value/chronicle/stream", json!("a b")),
        ("checkpoint", "/value/chronicle/rows", json!(0)),
        ("checkpoint", "/value/chronicle/bytes", json!("12")),
        ("checkpoint", "/value/chronicle/sha256", json!(digest)),
        ("checkpoint", "/value/chronicle/sha256", json!("00")),
        ("checkpoint", "/value/chronicle/prev", json!(null)),
        ("checkpoint", "/value/bookmarks/a/rows", json!(0)),
        ("checkpoint", "/value/bookmarks/a/last_key", json!("k")),
        ("manifest", "/value/chronicle/version", json!(2)),
        ("manifest", "/value/chronicle/chunks", json!(0)),
        ("manifest", "/value/chronicle/rows", json!({"A": 1})),
        ("manifest", "/value/chronicle/rows/a", json!(-1)),
        ("manifest", "/value/chronicle/prev", json!(null)),
        ("manifest", "/value/chronicle/seek_table", json!(1)),
        ("manifest", "/value/chronicle/consistency", json!("")),
        ("manifest", "/value/chronicle/digests", json!({"lrd1": {"a": digest}})),
        ("manifest", "/value/chronicle/extents/a/bytes", json!(null)),
        ("SCHEMA", "/stream", json!("1a")),
        ("SCHEMA", "/stream", json!("a".repeat(64))),
        ("SCHEMA", "/key_properties", json!([])),
        ("SCHEMA", "/schema/type", json!("array")),
        ("SCHEMA", "/schema/properties", json!({})),
        ("SCHEMA", "/schema/properties/json", json!({})),
        ("SCHEMA", "/schema/properties/json", json!({"type": "object", "properties": {}})),
        ("SCHEMA", "/schema/properties/int/type", json!(["integer", "string"])),
        ("SCHEMA", "/schema/properties/int/minimum", json!(0)),
        ("SCHEMA", "/chronicle/columns/int", json!("vector")),
        ("SCHEMA", "/chronicle/order", json!(["id", "id"])),
        ("SCHEMA", "/chronicle/instants", json!("id")),
        ("SCHEMA", "/chronicle/utc", json!([1])),
        ("SCHEMA", "/chronicle/names", json!({"id": null})),
        ("RECORD", "/type", json!("record")),
        ("RECORD", "/stream", json!("")),
        ("RECORD", "/record", json!([])),
        ("RECORD", "/record/text", json!(["no", "array"])),
        ("RECORD", "/chronicle", json!(null)),
        ("RECORD", "/chronicle/exact", json!({})),
        ("RECORD", "/chronicle/exact/text", json!("a\u{0}b")),
        ("RECORD", "/chronicle/exact/text", json!({})),
        ("RECORD", "/chronicle/exact/text", json!({"text": "a\u{0}b", "int": "1"})),
        ("RECORD", "/chronicle/exact/text", json!({"vector": "[1]"})),
        ("RECORD", "/chronicle/exact/text", json!({"int": 1})),
        ("RECORD", "/chronicle/exact/text", json!({"int": "007"})),
        ("RECORD", "/chronicle/exact/text", json!({"text64": "AP8"})),
        ("RECORD", "/chronicle/exact/text", json!({"real": "1,5"})),
        ("RECORD", "/chronicle/exact/text", json!({"time": "2025-08-19T12:00:00Z"})),
        ("RECORD", "/chronicle/keyless", json!(1)),
        ("RECORD", "/chronicle/offsets", json!({})),
        ("RECORD", "/chronicle/offsets", json!({"text": "+2"})),
        ("RECORD", "/chronicle/offsets", json!({"text": {"time": "+02:00"}})),
    ];
    for (sort, place, value) in wrong {
        let broken = changed(&good(sort), place, Some(value));
        assert!(!SCHEMAS[sort].is_valid(&broken), "{sort}: {place} in {broken}");
    }
    let streams = validator(&good("SCHEMA")["schema"]);
    let record = &good("RECORD")["record"];
    assert!(streams.is_valid(record));
    for (place, value) in [
        ("/id", json!(null)),
        ("/int", json!("1")),
        ("/int", json!(9_223_372_036_854_775_808_u64)),
        ("/time", json!("2025-08-19 12:00:00")),
        ("/date", json!("2025-02-29")),
        ("/uuid", json!("1")),
        ("/json", json!([])),
        ("/bool", json!(0)),
    ] {
        let broken = changed(record, place, Some(value));
        assert!(!streams.is_valid(&broken), "{place} in {broken}");
    }
}

#[test]
fn unknown_keys_are_taken_inside_chronicle_only() {
    let places = [
        ("header", "/value/chronicle/new", true),
        ("header", "/value/chronicle/source/new", true),
        ("checkpoint", "/value/chronicle/new", true),
        ("manifest", "/value/chronicle/new", true),
        ("manifest", "/value/chronicle/digests", true),
        ("manifest", "/value/chronicle/extents/a/new", true),
        ("SCHEMA", "/chronicle/new", true),
        ("RECORD", "/chronicle/new", true),
        ("header", "/new", false),
        ("header", "/value/new", false),
        ("checkpoint", "/new", false),
        ("checkpoint", "/value/new", false),
        ("checkpoint", "/value/bookmarks/a/new", false),
        ("manifest", "/new", false),
        ("manifest", "/value/new", false),
        ("SCHEMA", "/new", false),
        ("SCHEMA", "/schema/new", false),
        ("SCHEMA", "/schema/properties/int/new", false),
        ("RECORD", "/new", false),
    ];
    for (sort, place, taken) in places {
        let line = changed(&good(sort), place, Some(json!({"sha512": "x"})));
        assert_eq!(SCHEMAS[sort].is_valid(&line), taken, "{sort}: {place}");
    }
}

#[test]
fn a_line_is_of_one_sort_only() {
    for sort in SCHEMAS.keys() {
        let line = good(sort);
        let takers: Vec<_> = SCHEMAS.iter().filter(|(_, s)| s.is_valid(&line)).collect();
        assert_eq!(takers.len(), 1, "{sort}");
        assert_eq!(takers[0].0, sort);
    }
}
