//! A column that holds less than a value says: refused by its place, or rounded, counted and given back.

use super::super::support::migrate::json_of;
use super::{Pair, literal};

/// Types, the declared type in SQLite, a value, and what is loaded of it.
const SHORTENED: [(&str, &str, &str, &str); 26] = [
    ("numeric(10,2)", "TEXT", "'1.234'", "1.23"),
    ("numeric(10,2)", "REAL", "1.239", "1.24"),
    ("numeric(4,1)", "TEXT", "'123456'", "999.9"),
    ("numeric(4,1)", "TEXT", "'-1e9'", "-999.9"),
    ("money", "TEXT", "'12.345'", "$12.35"),
    ("timestamptz(3)", "TEXT", "'2025-08-19T10:00:00.428260Z'", "2025-08-19 10:00:00.428+00"),
    ("timestamptz(0)", "TEXT", "'2025-08-19T10:00:00.5Z'", "2025-08-19 10:00:01+00"),
    ("timestamp(3)", "TEXT", "'2025-08-19 10:00:00.428210'", "2025-08-19 10:00:00.428"),
    ("timestamp", "TEXT", "'2025-08-19 10:00:00.1234567'", "2025-08-19 10:00:00.123457"),
    ("timestamp", "TEXT", "'2025-08-19 10:00:00+02'", "2025-08-19 10:00:00"),
    ("date", "TEXT", "'2025-08-19 10:00:00'", "2025-08-19"),
    ("time(0)", "TEXT", "'10:00:00.4'", "10:00:00"),
    ("time", "TEXT", "'2025-08-19 10:00:00'", "10:00:00"),
    ("interval(0)", "TEXT", "'1.5 seconds'", "00:00:02"),
    ("varchar(3)", "TEXT", "'abcd'", "abc"),
    ("char(3)", "TEXT", "'abcd'", "abc"),
    (
        "name",
        "TEXT",
        "printf('%070d', 1)",
        "000000000000000000000000000000000000000000000000000000000000000",
    ),
    ("shorty", "TEXT", "'abcd'", "abc"),
    ("varbit(3)", "TEXT", "'10111'", "101"),
    ("varchar(2)[]", "TEXT", "'{abc,d}'", "{ab,d}"),
    ("numeric(4,1)[]", "TEXT", "'{1.25}'", "{1.3}"),
    ("float4", "REAL", "0.123456789", "0.12345679"),
    ("int4", "INTEGER", "2147483648", "2147483647"),
    ("int2", "INTEGER", "-40000", "-32768"),
    ("int4", "REAL", "1.5", "2"),
    ("bigint", "REAL", "-2.5", "-3"),
];

#[test]
fn a_column_that_holds_less_follows_every_policy() {
    for (ty, declared, value, loaded) in SHORTENED {
        let pair = Pair::new(
            "precision",
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared}); \
                 INSERT INTO t VALUES (7, {value}), (8, NULL), (9, {value})"
            ),
            &format!(
                "CREATE DOMAIN shorty AS varchar(3); CREATE TABLE t (id bigint PRIMARY KEY, v {ty})"
            ),
        );
        let all = "SELECT coalesce(string_agg(id || '=' || coalesce(v::text, '-'), ' ' ORDER BY id), '') FROM t";
        let (said, refused) = pair.both("fail");
        let refused = refused.fails_with(10);
        refused.stderr_has("(key 7), column \"v\"");
        assert_eq!(said["problems"][0]["rows"], 2, "{ty}: {said:#}");
        assert_eq!(said["problems"][0]["samples"], serde_json::json!(["7", "9"]), "{ty}: {said:#}");
        pair.both("reject").1.fails_with(14);
        assert_eq!(pair.psql(all), "8=-", "{ty} of {value}");
        for policy in ["adapt", "preserve"] {
            pair.psql("TRUNCATE t");
            let (_, done) = pair.both(policy);
            let done = done.success();
            assert_eq!(pair.psql(all), format!("7={loaded} 8=- 9={loaded}"), "{ty} of {value}");
            let changes = &json_of(&done)["changes"];
            assert_eq!(changes[0]["values"], 2, "{ty} of {value}: {changes:#}");
        }
        pair.gives_back(&pair.archive());
    }
}

#[test]
fn a_key_is_never_rounded() {
    for (ty, value) in [("varchar(3)", "abcd"), ("numeric(4,1)", "1.25"), ("char(2)", "abc")] {
        let sqlite = format!(
            "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES ({}, 'x')",
            literal(value)
        );
        let pair = Pair::new(
            "precision_key",
            &sqlite,
            &format!("CREATE TABLE t (id {ty} PRIMARY KEY, v text)"),
        );
        for policy in ["fail", "adapt", "preserve"] {
            pair.both(policy).1.fails_with(10).stderr_has("column \"id\"");
        }
        pair.both("reject").1.fails_with(14);
    }
}
