//! The nearest value that a column holds is loaded, NULL only where nothing else fits.

use super::super::support::migrate::{ask, fill, json_of, words};
use super::super::support::program::Program;
use super::{Pair, literal};

/// The declared type in SQLite, a value there, a type of Postgres, and what is loaded.
const INTO_POSTGRES: [(&str, &str, &str, &str); 40] = [
    ("BOOLEAN", "'true'", "boolean", "true"),
    ("BOOLEAN", "'t'", "boolean", "true"),
    ("BOOLEAN", "'Yes'", "boolean", "true"),
    ("BOOLEAN", "'on'", "boolean", "true"),
    ("BOOLEAN", "1", "boolean", "true"),
    ("BOOLEAN", "2", "boolean", "true"),
    ("BOOLEAN", "'false'", "boolean", "false"),
    ("BOOLEAN", "' F '", "boolean", "false"),
    ("BOOLEAN", "'no'", "boolean", "false"),
    ("BOOLEAN", "'off'", "boolean", "false"),
    ("BOOLEAN", "0", "boolean", "false"),
    ("BOOLEAN", "'0'", "boolean", "false"),
    ("TEXT", "'1'", "boolean", "true"),
    ("BOOLEAN", "'perhaps'", "boolean", "-"),
    ("REAL", "7.0", "bigint", "7"),
    ("REAL", "1e15", "bigint", "1000000000000000"),
    ("REAL", "9e999", "int4", "2147483647"),
    ("TEXT", "'12'", "int4", "12"),
    ("TEXT", "' 12.5 '", "int4", "13"),
    ("TEXT", "'many'", "int4", "-"),
    ("", "7", "text", "7"),
    ("", "7.5", "text", "7.5"),
    ("", "x'6d61696e'", "text", "main"),
    ("", "x'00ff'", "text", "AP8="),
    ("REAL", "0.1", "float4", "0.1"),
    ("REAL", "1e300", "float4", "3.4028235e+38"),
    ("TEXT", "'0.25'", "float8", "0.25"),
    ("INTEGER", "9007199254740993", "float8", "9.007199254740992e+15"),
    ("", "7", "numeric", "7"),
    ("", "7.25", "numeric", "7.25"),
    ("TEXT", "'[1, 2]'", "bigint[]", "{1,2}"),
    ("BLOB", "x'6f1b7c1e00004000800000000000000a'", "uuid", "6f1b7c1e-0000-4000-8000-00000000000a"),
    (
        "TEXT",
        "' 6f1b7c1e-0000-4000-8000-00000000000a'",
        "uuid",
        "6f1b7c1e-0000-4000-8000-00000000000a",
    ),
    ("TEXT", "'nobody'", "uuid", "-"),
    ("BLOB", "x'00ff'", "bytea", "\\x00ff"),
    ("TEXT", "'ab'", "bytea", "\\x6162"),
    ("TEXT", "'not json'", "jsonb", "\"not json\""),
    ("", "5", "jsonb", "5"),
    ("TEXT", "'HIGH '", "level", "high"),
    ("INTEGER", "-3", "least", "0"),
];

#[test]
fn the_nearest_value_goes_into_postgres() {
    for (declared, value, ty, loaded) in INTO_POSTGRES {
        let ty = match ty {
            "level" => "text CHECK (v IN ('high', 'low'))",
            "least" => "bigint CHECK (v >= 0)",
            other => other,
        };
        let pair = Pair::new(
            "nearest",
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared}); INSERT INTO t VALUES (7, {value})"
            ),
            &format!("CREATE TABLE t (id bigint PRIMARY KEY, v {ty})"),
        );
        let (said, _) = pair.both("fail");
        for policy in ["adapt", "preserve"] {
            pair.psql("TRUNCATE t");
            let (_, done) = pair.both(policy);
            assert_eq!(done.code, Some(0), "{value} into {ty}: {}", done.stderr);
            let found = pair.psql("SELECT coalesce(v::text, '-') FROM t");
            assert_eq!(found, loaded, "{value} of {declared} into {ty}");
            // what was refused is counted, and nothing else is
            let counted = json_of(&done)["changes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|c| c["kind"] != "respelled");
            assert_eq!(said["clean"], !counted, "{value} into {ty}: {said:#}\n{}", done.text());
        }
        pair.gives_back(&pair.archive());
    }
}

/// A type of Postgres, a value there, a declared type of SQLite, and what is loaded, as SQLite quotes it.
const INTO_SQLITE: [(&str, &str, &str, &str); 20] = [
    ("numeric", "5", "INTEGER", "5"),
    ("numeric", "5.00", "INTEGER", "5"),
    ("numeric", "0.5", "DECIMAL(10,2)", "0.5"),
    ("numeric", "0.5", "INTEGER", "0.5"),
    ("numeric", "5", "REAL", "5.0"),
    ("numeric", "1234567890123.456789", "REAL", "1234567890123.4568"),
    ("numeric", "123456789012345678901234567890", "INTEGER", "1.2345678901234568e+29"),
    ("numeric", "NaN", "TEXT", "'NaN'"),
    ("numeric", "1.10", "TEXT", "'1.10'"),
    ("bigint", "5", "REAL", "5.0"),
    ("bigint", "9007199254740993", "REAL", "9.007199254740992e+15"),
    ("float8", "-0", "REAL", "0.0"),
    ("float8", "-0", "INTEGER", "0"),
    ("float8", "7", "INTEGER", "7"),
    ("float8", "7", "TEXT", "'7.0'"),
    ("float8", "NaN", "REAL", "NULL"),
    ("boolean", "true", "INTEGER", "1"),
    ("boolean", "true", "REAL", "1.0"),
    ("text", "12", "INTEGER", "12"),
    ("text", "x", "INTEGER", "'x'"),
];

#[test]
fn the_nearest_value_goes_into_sqlite() {
    for (ty, value, declared, loaded) in INTO_SQLITE {
        let pair = Pair::new(
            "nearest_back",
            "CREATE TABLE unused (id)",
            &format!(
                "CREATE TABLE t (id bigint PRIMARY KEY, v {ty}); INSERT INTO t VALUES (7, {})",
                literal(value)
            ),
        );
        let archive = pair.archive_of_server();
        let layout = pair.layout("sqlite");
        for policy in ["fail", "adapt", "preserve"] {
            let file = words(&pair.scratch.path(&format!("{policy}.db"))).to_owned();
            fill(&file, &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})"));
            let policy_arg = format!("--on-unrepresentable={policy}");
            let run = |command: &str| {
                let args: [&str; 7] =
                    [command, &archive, "--to", &file, "--layout", &layout, &policy_arg];
                Program::new(args).run()
            };
            let (checked, done) = (run("check"), run("import"));
            assert_eq!(checked.code, done.code, "{ty} {value} into {declared}: {}", done.stderr);
            if policy == "fail" && done.code == Some(10) {
                continue;
            }
            let done = done.success();
            let found = ask(&file, "SELECT quote(v) FROM t");
            assert_eq!(found.parse::<f64>().ok(), loaded.parse::<f64>().ok(), "{found}");
            let same = found == loaded || found.parse::<f64>().is_ok();
            assert!(same, "{ty} {value} into {declared}: {found}, not {loaded}\n{}", done.stderr);
        }
        let file = words(&pair.scratch.path("preserve.db")).to_owned();
        let back = pair.export(&file, "sqlite", "back.zst");
        Program::new(["diff", &archive, &back]).run().success();
    }
}

#[test]
fn equal_numbers_of_another_class_are_loaded_under_every_policy() {
    for (ty, value, declared) in [
        ("numeric", "5", "INTEGER"),
        ("numeric", "0.5", "REAL"),
        ("bigint", "5", "REAL"),
        ("float8", "-0", "REAL"),
        ("float8", "7", "INTEGER"),
    ] {
        let pair = Pair::new(
            "equal",
            "CREATE TABLE unused (id)",
            &format!(
                "CREATE TABLE t (id bigint PRIMARY KEY, v {ty}); INSERT INTO t VALUES (7, {})",
                literal(value)
            ),
        );
        let (archive, layout) = (pair.archive_of_server(), pair.layout("sqlite"));
        let file = words(&pair.scratch.path("strict.db")).to_owned();
        fill(&file, &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})"));
        let args =
            ["import", &archive, "--to", &file, "--layout", &layout, "--on-unrepresentable=fail"];
        Program::new(args).run().success();
    }
}

/// A STRICT table takes its own archive back, whatever class its values are of.
#[test]
fn a_strict_table_takes_its_own_archive_back() {
    let ddl = "CREATE TABLE t (id TEXT PRIMARY KEY, a ANY, i INTEGER, r REAL, x TEXT, b BLOB) STRICT, WITHOUT ROWID";
    let pair = Pair::new(
        "strict",
        &format!(
            "{ddl}; INSERT INTO t VALUES ('a', 1, 1, 1.5, '1', x'01'), ('b', '1', 2, 2, '2.0', x''), \
             ('c', 1.0, NULL, NULL, NULL, NULL), ('d', x'01', 3, 3.0, '', x'00'), ('e', NULL, 4, -0.0, 'x', NULL)"
        ),
        "SELECT 1",
    );
    let (archive, layout) = (pair.archive(), pair.layout("sqlite"));
    let file = words(&pair.scratch.path("again.db")).to_owned();
    fill(&file, ddl);
    let policy = "--on-unrepresentable=fail";
    for command in ["check", "import", "check", "import"] {
        Program::new([command, &archive, "--to", &file, "--layout", &layout, policy])
            .run()
            .success();
    }
    let all =
        "SELECT id, quote(a), typeof(a), quote(i), quote(r), typeof(r), quote(x), quote(b) FROM t";
    assert_eq!(ask(&file, all), ask(&pair.source, all));
}

#[test]
fn a_strict_table_gets_the_nearest_value_of_its_class() {
    let pair = Pair::new(
        "strict_nearest",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, i, r, x, b); \
         INSERT INTO t VALUES (1, '12', '0.5', 7, 'text'), (2, 'none', 'none', x'6162', 5)",
        "SELECT 1",
    );
    let (archive, layout) = (pair.archive(), pair.layout("sqlite"));
    let file = words(&pair.scratch.path("strict.db")).to_owned();
    fill(
        &file,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, x TEXT, b BLOB) STRICT",
    );
    let run = |command: &str, policy: &str| {
        let policy = format!("--on-unrepresentable={policy}");
        Program::new([command, &archive, "--to", &file, "--layout", &layout, &policy]).run()
    };
    run("check", "fail").fails_with(10);
    run("import", "fail").fails_with(10).stderr_has("(key 1), column \"i\"");
    run("check", "preserve").success();
    run("import", "preserve").success();
    let all = "SELECT quote(i), quote(r), quote(x), quote(b) FROM t ORDER BY id";
    assert_eq!(ask(&file, all), "12|0.5|'7'|X'74657874'\nNULL|NULL|'ab'|X'35'");
    let back = pair.export(&file, "sqlite", "back.zst");
    Program::new(["diff", &archive, &back]).run().success();
}
