//! A value is loaded in whatever spelling it comes: the server's own is in the table, and that of the source comes back.

use std::fmt::Write as _;

use super::{POLICIES, Pair, inserted, literal};

/// Types of Postgres, each with spellings of values that the server itself would spell otherwise.
const SPELLINGS: [(&str, &[&str]); 24] = [
    ("numeric(10,2)", &["1.1", "5", "1230.99", "1e2", "-0.50", " 7 ", "+3", ".5"]),
    ("numeric", &["1e3", "-.5", "0012", "nan", "+1.50"]),
    ("money", &["12.50", "$1,234.5", "-3"]),
    (
        "timestamp",
        &["2025-01-02T03:04:05", "2025-01-02 03:04", "20250102T030405", "2025-01-02 03:04:05.500"],
    ),
    ("timestamp(3)", &["2025-01-02T03:04:05.5000", "2025-01-02 03:04:05.123Z"]),
    ("date", &["2025-1-2", "20250102", "Jan 2 2025", "2025-01-02 00:00:00"]),
    ("time", &["03:04", "030405", "3:04 PM", "03:04:05.500000"]),
    ("timetz", &["03:04+2", "03:04:05Z"]),
    ("interval", &["1 day", "P1D", "1-2", "01:02:03", "1 week", "-1 mon +2 days"]),
    ("inet", &["10.0.0.1", "10.0.0.0/8", "::0:1"]),
    ("cidr", &["10", "10.0.0.0"]),
    ("macaddr", &["08002b010203", "08-00-2B-01-02-03"]),
    ("int[]", &["{ 1, 2 }", "{01,2}", "[0:1]={1,2}"]),
    ("text[]", &["{ a, \"b c\" }", "{\"a\",NULL}"]),
    ("numeric(6,2)[]", &["{1.5,2}", "{}"]),
    ("int4range", &["[1,5]", "(1,2]", "EMPTY"]),
    ("tsrange", &["[2025-01-02T03:04:05,)"]),
    ("bit varying(9)", &["B101", "101"]),
    ("char(5)", &["ab", "ab   ", "abcde"]),
    ("point", &["(1.50,-2)", "1,2"]),
    ("bytea", &[]),
    ("jsonpath", &["$.a", "strict $ . a"]),
    ("mood", &["so so", "ok"]),
    ("xml", &["<a>x</a>"]),
];

fn tables() -> (String, String) {
    let mut sqlite = String::from("CREATE TABLE t (id INTEGER PRIMARY KEY");
    let mut postgres = String::from(
        "CREATE TYPE mood AS ENUM ('ok', 'so so'); CREATE TABLE t (id bigint PRIMARY KEY",
    );
    for (n, (ty, _)) in SPELLINGS.iter().enumerate().filter(|(_, (_, texts))| !texts.is_empty()) {
        write!(sqlite, ", v{n} TEXT").unwrap();
        write!(postgres, ", v{n} {ty}").unwrap();
    }
    sqlite.push_str(");");
    postgres.push(')');
    let mut id = 0;
    for (n, (_, texts)) in SPELLINGS.iter().enumerate() {
        for text in *texts {
            id += 1;
            writeln!(sqlite, "INSERT INTO t (id, v{n}) VALUES ({id}, {});", literal(text)).unwrap();
        }
    }
    (sqlite, postgres)
}

#[test]
fn a_value_is_loaded_in_any_spelling_under_every_policy() {
    let (sqlite, postgres) = tables();
    let pair = Pair::new("spelling", &sqlite, &postgres);
    let archive = pair.archive();
    for policy in POLICIES {
        pair.psql("TRUNCATE t");
        let (said, done) = pair.both(policy);
        assert_eq!(done.code, Some(0), "{policy}: {}\n{said:#}", done.stderr);
        assert!(inserted(&done) > 60, "{}", done.text());
        let mut id = 0;
        for (n, (ty, texts)) in SPELLINGS.iter().enumerate() {
            for text in *texts {
                id += 1;
                let sql = format!(
                    "SELECT v{n}::text = ({}::{ty})::text FROM t WHERE id = {id}",
                    literal(text)
                );
                assert_eq!(pair.psql(&sql), "t", "{ty} of {text}");
            }
        }
        if policy == "preserve" {
            pair.gives_back(&archive);
        }
        // the same rows again are the same rows
        assert_eq!(inserted(&pair.run("import", &archive, policy).success()), 0, "{policy}");
    }
}

#[test]
fn a_key_meets_its_row_in_any_spelling() {
    for (ty, ours, theirs) in [
        ("numeric(10,2)", "1.5", "1.50"),
        ("date", "2025-1-2", "2025-01-02"),
        ("inet", "10.0.0.1", "10.0.0.1/32"),
        ("timestamp", "2025-01-02T03:04:05", "2025-01-02 03:04:05"),
    ] {
        let sqlite = format!(
            "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES ({}, 'x')",
            literal(ours)
        );
        let postgres = format!(
            "CREATE TABLE t (id {ty} PRIMARY KEY, v text); INSERT INTO t VALUES ({}, 'x')",
            literal(theirs)
        );
        let pair = Pair::new("spelling_key", &sqlite, &postgres);
        for policy in ["fail", "preserve"] {
            let (_, done) = pair.both(policy);
            assert_eq!((done.code, inserted(&done)), (Some(0), 0), "{ty}: {}", done.stderr);
        }
        pair.gives_back(&pair.archive());
        pair.psql("UPDATE t SET v = 'other'");
        pair.both("fail").1.fails_with(11);
    }
}

#[test]
fn a_spelling_that_cannot_be_recomputed_is_counted() {
    let pair = Pair::new(
        "spelling_counted",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, r REAL); \
         INSERT INTO t VALUES (1, '1.1', 1.5), (2, '1.10', 2.0)",
        "CREATE TABLE t (id bigint PRIMARY KEY, v numeric(10,2), r numeric(10,2))",
    );
    let done = pair.run("import", &pair.archive(), "preserve").success();
    let changes = &super::json_of(&done)["changes"];
    // the real numbers are recomputed from the numerics, and one text is spelled as the server does
    let only = [&changes[0]["column"], &changes[0]["kind"], &changes[0]["values"]];
    assert_eq!(only.map(ToString::to_string), ["\"v\"", "\"respelled\"", "1"], "{changes:#}");
    assert_eq!(changes.as_array().unwrap().len(), 1, "{changes:#}");
    pair.gives_back(&pair.archive());
}
