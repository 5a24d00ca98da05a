//! `check` is clean exactly when the import is, and has predicted every refusal with its key.

use std::cell::Cell;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::support::cluster::OWNER;
use super::super::support::migrate::json_of;
use super::Pair;

/// Types of Postgres, each with values of SQLite that it takes, takes less of, or refuses.
const COLUMNS: [(&str, &[&str]); 14] = [
    ("mood", &["'happy'", "'angry'", "' Sad'"]),
    ("posint", &["5", "-5", "'x'"]),
    ("date", &["'2025-01-02'", "'2025-1-2'", "'2025-02-30'", "'2025-01-02 10:00'"]),
    ("numeric(6,2)", &["1.5", "'1.50'", "1.234", "99999"]),
    ("int4", &["7", "7.0", "4294967296", "'x'"]),
    ("boolean", &["1", "'t'", "'maybe'"]),
    ("varchar(3)", &["'abc'", "'abcd'", "'ABC'"]),
    ("timestamptz(3)", &["'2025-01-01T00:00:00Z'", "'2025-01-01T00:00:00.123456Z'", "'soon'"]),
    ("timestamp", &["'2025-01-01T00:00:00'", "'2025-01-01 00:00:00+02'"]),
    ("text", &["'a'", "'A'", "CAST(x'6100' AS TEXT)", "7", "printf('%03000d', 1)"]),
    ("citext", &["'a'", "'A'", "'b'"]),
    ("jsonb", &["'{}'", "'{\"a\": 1}'", "'x'", "'[1,2]'"]),
    ("int[]", &["'{1}'", "'[1]'", "'{x}'"]),
    ("lenient", &["'a'", "'A'", "'b'"]),
];

/// What a table may have beside its columns, where `v` is the first of them.
const EXTRAS: [&str; 12] = [
    "ALTER TABLE t ADD CHECK (v::text <> 'abc' AND v::text NOT LIKE '2025-01-01%')",
    "ALTER TABLE t ADD CHECK (length(v::text) < coalesce(up, 3) + 20)",
    "ALTER TABLE t ALTER v SET NOT NULL",
    "CREATE UNIQUE INDEX ON t (v)",
    "CREATE UNIQUE INDEX ON t (up) WHERE id > 2",
    "CREATE INDEX ON t (v)",
    "ALTER TABLE t ADD FOREIGN KEY (up) REFERENCES t",
    "ALTER TABLE t ADD FOREIGN KEY (up) REFERENCES t DEFERRABLE INITIALLY DEFERRED",
    "CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    "ALTER TABLE t ADD g int GENERATED ALWAYS AS (100 / (up - 3)) STORED",
    "ALTER TABLE t ADD own text DEFAULT 'own' CHECK (own <> 'other')",
    "ALTER TABLE t ADD EXCLUDE USING btree (up WITH =)",
];

const TYPES: &str = "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('happy', 'Sad'); \
    CREATE DOMAIN posint AS int CHECK (value > 0); \
    CREATE COLLATION lenient (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''fired''; END';";

/// A table and rows for it.
#[derive(Debug, Clone)]
struct Case {
    columns: Vec<usize>,
    extras: Vec<usize>,
    partitioned: bool,
    /// Of each row, the value of each column (as a place in its list, modulo its length; none is NULL), and
    /// the row that it refers to.
    rows: Vec<(Vec<Option<usize>>, Option<u8>)>,
    /// How many of the rows are in the target already.
    there: usize,
    policy: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let columns = proptest::collection::vec(0..COLUMNS.len(), 1..4);
    let extras = proptest::sample::subsequence((0..EXTRAS.len()).collect::<Vec<_>>(), 0..4);
    let value = proptest::option::weighted(0.8, 0..8_usize);
    let row = (proptest::collection::vec(value, 3), proptest::option::weighted(0.6, 1..7_u8));
    let rows = proptest::collection::vec(row, 1..6);
    (columns, extras, proptest::bool::weighted(0.2), rows, 0..2_usize, 0..super::POLICIES.len())
        .prop_map(|(columns, extras, partitioned, rows, there, policy)| Case {
            columns,
            extras,
            partitioned,
            rows,
            there,
            policy,
        })
}

impl Case {
    fn sqlite(&self) -> String {
        let mut sql = String::from("CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER");
        (0..self.columns.len()).for_each(|n| write!(sql, ", v{}", suffix(n)).unwrap());
        sql.push_str(");");
        for (id, (values, up)) in self.rows.iter().enumerate() {
            let up = up.map_or_else(|| "NULL".to_owned(), |up| up.to_string());
            write!(sql, "INSERT INTO t VALUES ({}, {up}", id + 1).unwrap();
            for (column, value) in self.columns.iter().zip(values) {
                let all = COLUMNS[*column].1;
                let value = value.map_or("NULL", |value| all[value % all.len()]);
                write!(sql, ", {value}").unwrap();
            }
            sql.push_str(");");
        }
        sql
    }

    fn postgres(&self) -> String {
        let mut sql = format!("{TYPES} CREATE TABLE t (id bigint PRIMARY KEY, up bigint");
        for (n, column) in self.columns.iter().enumerate() {
            let ty = match COLUMNS[*column].0 {
                "lenient" => "text COLLATE lenient",
                ty => ty,
            };
            write!(sql, ", v{} {ty}", suffix(n)).unwrap();
        }
        sql.push(')');
        if self.partitioned {
            sql.push_str(
                " PARTITION BY RANGE (id); CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (4)",
            );
        }
        sql
    }
}

fn suffix(n: usize) -> String {
    if n == 0 { String::new() } else { n.to_string() }
}

/// Whether a key occurs in what a check has found.
fn is_predicted(key: &str, problems: &serde_json::Value) -> bool {
    problems.as_array().unwrap().iter().any(|p| {
        let first = p["samples"].as_array().unwrap();
        let named = first.iter().any(|k| k == key) || p["reason"].as_str().unwrap().contains(key);
        named || p["rows"].as_u64().unwrap() > first.len() as u64
    })
}

/// Whether the rows go in.
fn agrees(case: &Case) -> Result<bool, TestCaseError> {
    let pair = Pair::new("check_agrees", &case.sqlite(), "SELECT 1");
    pair.psql(&case.postgres());
    for extra in &case.extras {
        // what does not fit the columns is no part of the table
        let _ = pair.server.try_psql_as(OWNER, EXTRAS[*extra]);
    }
    if case.there > 0 {
        let there = "INSERT INTO t (id, up) VALUES (1, NULL)";
        let _ = pair.server.try_psql_as(OWNER, there);
    }
    let policy = super::POLICIES[case.policy];
    let archive = pair.archive();
    let checked = pair.run("check", &archive, policy);
    let imported = pair.run("import", &archive, policy);
    let said = json_of(&checked);
    let shown =
        format!("{policy}\n{}\n{}\n{said:#}\n{}", case.sqlite(), case.postgres(), imported.stderr);
    let went = matches!(imported.code, Some(0 | 14));
    prop_assert_eq!(&said["clean"], &serde_json::json!(went), "{}", shown);
    if went {
        prop_assert_eq!(checked.code, imported.code, "{}", shown);
        return Ok(true);
    }
    let error = &json_of(&imported)["error"];
    let code = &error["code"];
    let problems = &said["problems"];
    let kinds = problems.as_array().unwrap().iter().map(|p| &p["code"]);
    prop_assert!(kinds.clone().any(|kind| kind == code), "{} is not predicted\n{}", code, shown);
    prop_assert!(imported.code != Some(8), "{}", shown);
    let message = error["message"].as_str().unwrap();
    let behind = message.split("key ").nth(1).unwrap_or_default();
    let key: String = behind.chars().take_while(char::is_ascii_digit).collect();
    prop_assert!(key.is_empty() || is_predicted(&key, problems), "key {}\n{}", key, shown);
    Ok(false)
}

#[test]
fn of_two_constraints_a_check_names_the_one_of_the_import() {
    let rows = vec![(vec![Some(0), None, None], Some(4)), (vec![Some(1), Some(0), None], Some(4))];
    let case = Case {
        columns: vec![2],
        extras: vec![3, 11],
        partitioned: false,
        rows,
        there: 1,
        policy: 2,
    };
    assert!(matches!(agrees(&case), Ok(false)), "both refuse the same");
}

#[test]
fn a_check_is_clean_exactly_when_the_import_is() {
    let config = Config { cases: 32, max_shrink_iters: 24, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let (went, refused) = (Cell::new(0), Cell::new(0));
    let done = runner.run(&cases(), |case| {
        let count = if agrees(&case)? { &went } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    assert!(
        went.get() > 2 && refused.get() > 2,
        "{} went in, {} did not",
        went.get(),
        refused.get()
    );
}
