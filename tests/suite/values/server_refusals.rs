//! What only the server can refuse is named by key and column, counted, and settled by every policy.

use super::super::support::cluster::{ADMIN, Cluster};
use super::super::support::migrate::json_of;
use super::Pair;

/// The type of a column, a good value, a bad one, and what stands for it.
const REFUSED: [(&str, &str, &str, &str); 14] = [
    ("mood", "'happy'", "'angry'", "-"),
    ("mood", "'happy'", "' HAPPY '", "happy"),
    ("date", "'2025-02-28'", "'2025-02-30'", "2025-02-28"),
    ("date", "'2025-02-28'", "'today'", "-"),
    ("numeric", "'1.5'", "'3 apples'", "-"),
    ("int[]", "'{1,2}'", "'[1,2]'", "{1,2}"),
    ("text[]", "'{a}'", "'[\"a b\", null, \"c\\\"\"]'", "{\"a b\",NULL,\"c\\\"\"}"),
    ("posint", "5", "-5", "-"),
    ("code", "'ab1'", "'no code'", "-"),
    ("interval", "'P1D'", "'soon'", "-"),
    ("inet", "'10.0.0.1'", "'localhost'", "-"),
    ("timestamp", "'2025-01-02 03:04:05'", "'1755613581'", "2025-08-19 14:26:21"),
    ("xml", "'<a/>'", "'<a>'", "-"),
    ("tsquery", "'a'", "'a & '", "-"),
];

const TYPES: &str = "CREATE TYPE mood AS ENUM ('happy', 'sad'); \
    CREATE DOMAIN posint AS int CHECK (value > 0); \
    CREATE DOMAIN code AS text CHECK (value ~ '^[a-z]+[0-9]$');";

const ALL: &str =
    "SELECT coalesce(string_agg(id || '=' || coalesce(v::text, '-'), ' ' ORDER BY id), '') FROM t";

/// Rows 2 and 3 are refused, 1 and 4 are not; checks that under every policy.
#[track_caller]
fn follows_every_policy(pair: &Pair, what: &str, good: &str, instead: &str, columns: &[&str]) {
    let (said, refused) = pair.both("fail");
    let refused = refused.fails_with(10).stderr_has("key 2");
    for column in columns {
        assert!(refused.stderr.contains(&format!("\"{column}\"")), "{what}: {}", refused.stderr);
    }
    assert_eq!(said["problems"][0]["rows"], 2, "{what}: {said:#}");
    assert_eq!(said["problems"][0]["samples"], serde_json::json!(["2", "3"]), "{what}: {said:#}");
    pair.both("reject").1.fails_with(14);
    assert_eq!(pair.psql(ALL), format!("1={good} 4={good}"), "{what}");
    for policy in ["adapt", "preserve"] {
        pair.psql("TRUNCATE t");
        let (said, done) = pair.both(policy);
        assert_eq!(done.code, Some(0), "{what}: {}\n{said:#}", done.stderr);
        assert_eq!(pair.psql(ALL), format!("1={good} 2={instead} 3={instead} 4={good}"), "{what}");
        let changes = json_of(&done)["changes"].clone();
        assert!(
            changes.as_array().unwrap().iter().any(|c| c["values"] == 2),
            "{what}: {changes:#}"
        );
    }
    pair.gives_back(&pair.archive());
}

#[test]
fn a_text_that_a_type_refuses_follows_every_policy() {
    for (ty, good, bad, instead) in REFUSED {
        let pair = Pair::new(
            "refused",
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v); \
                 INSERT INTO t VALUES (1, {good}), (2, {bad}), (3, {bad}), (4, {good})"
            ),
            &format!("{TYPES} CREATE TABLE t (id bigint PRIMARY KEY, v {ty})"),
        );
        let shown = pair.psql(&format!("SELECT ({good})::text::{ty}::text"));
        follows_every_policy(&pair, ty, &shown, instead, &["v"]);
        // without a value that fits, only leaving the row out goes on
        pair.psql("TRUNCATE t; ALTER TABLE t ALTER v SET NOT NULL");
        let code = if instead == "-" { 10 } else { 0 };
        pair.both("preserve").1.fails_with(code);
        pair.both("reject").1.fails_with(14);
    }
}

#[test]
fn rules_that_only_the_server_applies_follow_every_policy() {
    for (what, server, columns) in [
        (
            "a CHECK",
            "CREATE TABLE t (id bigint PRIMARY KEY, v text CHECK (length(v) < 9))",
            &["v"][..],
        ),
        (
            "a CHECK of two columns",
            "CREATE TABLE t (id bigint PRIMARY KEY, v text, w bigint, CHECK (length(v) < w))",
            &[],
        ),
        (
            "a CHECK that fails itself",
            "CREATE TABLE t (id bigint PRIMARY KEY, v text CHECK (1.0 / (length(v) - 16) < 0))",
            &["v"],
        ),
        (
            "partitions",
            "CREATE TABLE t (id bigint, v text, w bigint) PARTITION BY LIST (v); \
             CREATE TABLE p PARTITION OF t FOR VALUES IN ('good', NULL); ALTER TABLE t ADD UNIQUE (id, v)",
            &["v"],
        ),
        (
            "a column that is computed",
            "CREATE TABLE t (id bigint PRIMARY KEY, v text, \
                g int GENERATED ALWAYS AS (CASE WHEN v = 'good' OR v IS NULL THEN 1 ELSE v::int END) STORED)",
            &["v"],
        ),
    ] {
        let pair = Pair::new(
            "rules",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w INTEGER); \
             INSERT INTO t VALUES (1, 'good', 9), (2, 'sixteen letters!', 9), \
                                  (3, 'sixteen letters?', 9), (4, 'good', 9)",
            server,
        );
        if !server.contains(" w bigint") {
            pair.psql("ALTER TABLE t ADD w bigint");
        }
        follows_every_policy(&pair, what, "good", "-", columns);
    }
}

#[test]
fn a_value_too_long_for_an_index_is_shortened() {
    for index in
        ["CREATE INDEX ON t (v)", "CREATE INDEX ON t (lower(v))", "CREATE UNIQUE INDEX ON t (v)"]
    {
        // hexadecimal digits of hashes: what repeats would be compressed
        let long = "(SELECT group_concat(hex(randomblob(16)), '') FROM (WITH RECURSIVE i (n) AS \
                    (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 400) SELECT n FROM i))";
        let pair = Pair::new(
            "long",
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); \
                 INSERT INTO t VALUES (1, 'a'), (2, {long}), (3, {long}), (4, 'b')"
            ),
            &format!("CREATE TABLE t (id bigint PRIMARY KEY, v text); {index}"),
        );
        let lengths = "SELECT string_agg((length(v) > 1000)::text, ' ' ORDER BY id) FROM t";
        let (said, refused) = pair.both("fail");
        refused
            .fails_with(10)
            .stderr_has("(key 2), column \"v\"")
            .stderr_has("too long for the index");
        assert_eq!(said["problems"][0]["rows"], 2, "{said:#}");
        pair.both("reject").1.fails_with(14);
        assert_eq!(pair.psql(lengths), "false false", "{index}");
        pair.psql("TRUNCATE t");
        pair.both("preserve").1.success();
        assert_eq!(pair.psql(lengths), "false true true false", "{index}");
        pair.gives_back(&pair.archive());
    }
}

#[test]
fn a_character_that_the_encoding_lacks_is_replaced() {
    let name = "latin1";
    let plain = Cluster::get().database(name);
    plain.psql_as(
        ADMIN,
        &format!(
            "CREATE DATABASE {name}_narrow TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER chronicle"
        ),
    );
    let narrow = plain.beside(&format!("{name}_narrow"));
    let pair = Pair::on(
        narrow,
        name,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); \
         INSERT INTO t VALUES (1, 'é'), (2, 'é€ 豆'), (3, 'é€ 豆'), (4, 'é')",
        "CREATE TABLE t (id bigint PRIMARY KEY, v text)",
    );
    follows_every_policy(&pair, "LATIN1", "é", "é? ?", &["v"]);
}

#[test]
fn without_its_language_the_server_is_asked_in_halves() {
    let pair = Pair::new(
        "no_language",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); \
         WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 500) \
         INSERT INTO t SELECT n, CASE WHEN n % 97 = 0 THEN 'no number ' || n ELSE n || '.0' END FROM i",
        "CREATE TABLE t (id bigint PRIMARY KEY, v numeric(9,1))",
    );
    pair.server.psql_as(ADMIN, "DROP EXTENSION plpgsql");
    let (said, _) = pair.both("fail");
    assert_eq!(said["problems"][0]["rows"], 5, "{said:#}");
    pair.both("adapt").1.success();
    assert_eq!(pair.psql("SELECT count(*), count(v) FROM t"), "500|495");
}

#[test]
fn many_bad_values_are_one_problem_and_asked_quickly() {
    let pair = Pair::new(
        "many_bad",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); \
         WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 20000) \
         INSERT INTO t SELECT n, 'bad ' || n FROM i",
        "CREATE TABLE t (id bigint PRIMARY KEY, v date)",
    );
    let archive = pair.archive();
    let checked = pair.run("check", &archive, "fail").fails_with(10);
    let said = json_of(&checked);
    assert_eq!(said["problems"].as_array().unwrap().len(), 1, "{said:#}");
    assert_eq!(said["problems"][0]["rows"], 20000, "{said:#}");
    assert!(checked.time < std::time::Duration::from_secs(60), "{:?}", checked.time);
}
