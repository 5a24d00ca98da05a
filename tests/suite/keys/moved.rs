//! SQLite: unique values of any kind move from row to row, in whatever order the rows come.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::sqlite::{Tables, content, counted};
use crate::support::migrate::json_of;
use crate::support::program::Program;

/// The columns are unique in three ways, by themselves, without regard to case, and together, and refuse what they should
/// not hold.
fn ddl(more: &str) -> String {
    format!(
        "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, \
         b INTEGER NOT NULL UNIQUE CHECK (b BETWEEN 0 AND 9), c BLOB, d REAL NOT NULL CHECK (d < 10), \
         UNIQUE (c, d)) {more}"
    )
}

/// A row without its key, as SQL writes its values.
type Row = [String; 4];

/// Rows by their keys, of which no two have the same unique value.
type Rows = BTreeMap<String, Row>;

fn rows() -> impl Strategy<Value = Rows> {
    let column = || Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle();
    let keys = subsequence((0..6).map(|n| format!("k{n}")).collect::<Vec<_>>(), 0..=6);
    let rest = prop::collection::vec((0..4_u8, any::<bool>(), any::<Index>()), 6);
    (keys, column(), column(), column(), rest).prop_map(|(keys, a, b, c, rest)| {
        let row = |(n, key): (usize, String)| {
            let (null, upper, d) = &rest[n];
            let letter = ["a", "b", "c", "d", "e", "f"][a[n]];
            let letter = if *upper { letter.to_uppercase() } else { letter.to_owned() };
            let a = if *null == 0 { "NULL".into() } else { format!("'{letter}'") };
            let c = if *null == 1 { "NULL".into() } else { format!("x'0{}'", c[n]) };
            (key, [a, b[n].to_string(), c, format!("{}.5", d.index(2))])
        };
        keys.into_iter().enumerate().map(row).collect()
    })
}

fn inserts(rows: &Rows) -> String {
    let insert = |(key, row): (&String, &Row)| {
        format!("INSERT INTO t VALUES ('{key}', {});", row.join(", "))
    };
    rows.iter().map(insert).collect()
}

/// Whether no two rows have the same unique values.
fn is_legal(rows: &Rows) -> bool {
    let differ = |of: &dyn Fn(&Row) -> Option<String>| {
        let values: Vec<String> = rows.values().filter_map(of).collect();
        values.iter().collect::<BTreeSet<_>>().len() == values.len()
    };
    differ(&|[a, ..]| (a != "NULL").then(|| a.to_lowercase()))
        && differ(&|[_, b, ..]| Some(b.clone()))
        && differ(&|[_, _, c, d]| (c != "NULL").then(|| format!("{c} {d}")))
}

fn tables(test_name: &str, strict: bool) -> Tables {
    let more = if strict { "STRICT, WITHOUT ROWID" } else { "" };
    Tables::new(test_name, &ddl(more), &[("t", "side", &["id"])])
}

#[test]
fn a_row_that_is_refused_takes_nothing() {
    let ddl = "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, b TEXT)";
    let tables = Tables::new("moved_refused", ddl, &[("t", "side", &["id"])]);
    let unique = "CREATE UNIQUE INDEX one_a ON t (a); CREATE UNIQUE INDEX one_b ON t (b);";
    let target = tables.file(
        "b.db",
        &format!("{unique} INSERT INTO t VALUES ('k0', 'a0', 'b0'), ('k1', 'a1', 'b1'), ('k2', 'a2', 'b2')"),
    );
    let before = content(&target);
    // the second row gets a value of the third one, and one that the first one has from the archive, too
    let archive = tables.export(
        &tables.file("a.db", "INSERT INTO t VALUES ('k0', 'new', 'b0'), ('k1', 'a2', 'b0')"),
    );
    for options in [&["--on-conflict=update"][..], &["--on-conflict=update", "--dry-run"]] {
        tables.import(&archive, &target, options).fails_with(11).stderr_has(
            "error: t: 1 row: its b is already used by the row with key k0 (first: key k1)",
        );
        assert_eq!(before, content(&target));
    }
}

#[test]
fn numbers_of_rows_that_are_no_keys_move_in_a_restore() {
    let ddl = "CREATE TABLE t (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)";
    let tables = Tables::new("moved_numbers", ddl, &[("t", "side", &["id"])]);
    let target = tables.file("b.db", "INSERT INTO t VALUES (1, 'k0'), (2, 'k1')");
    let before = content(&target);
    let source = tables.file("a.db", "INSERT INTO t VALUES (2, 'k0'), (1, 'k1')");
    let to = format!("sqlite:{target}");
    let restore = ["restore", &tables.export(&source), "--to", &to, "--json"];
    let done = json_of(&tables.run(&restore, &[]).success());
    // a row whose place another one gets is inserted again
    let counts = ["inserted_rows", "updated_rows", "deleted_rows", "skipped_rows"];
    assert_eq!(counts.map(|what| counted(&done, what)[0]), [1, 1, 1, 0]);
    assert_eq!(content(&source), content(&target));
    Program::new(["rollback", "last", "--from", &target]).run().success();
    assert_eq!(before, content(&target));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn an_update_ends_where_the_archive_says_or_changes_nothing(
        (strict, target, archive) in (any::<bool>(), rows(), rows())
    ) {
        // rows that are new could be existing ones under another key
        let known = archive.into_iter().filter(|(key, _)| target.contains_key(key));
        let archive: Rows = known.collect();
        let tables = tables("moved_update", strict);
        let file = tables.file("b.db", &inserts(&target));
        let before = content(&file);
        let mut whole = target.clone();
        whole.extend(archive.clone());
        let source = tables.export(&tables.file("a.db", &inserts(&archive)));
        let done = tables.import(&source, &file, &["--on-conflict=update"]);
        if !is_legal(&whole) {
            done.fails_with(11);
            prop_assert_eq!(before, content(&file));
            return Ok(());
        }
        let done = json_of(&done.success());
        let expected = tables.file("c.db", &inserts(&whole));
        prop_assert_eq!(content(&expected), content(&file));
        let changed = archive.iter().filter(|(key, row)| target[*key] != **row).count();
        prop_assert_eq!(counted(&done, "updated_rows"), [changed as u64]);
        Program::new(["rollback", "last", "--from", &file]).run().success();
        prop_assert_eq!(before, content(&file));
    }

    #[test]
    fn a_restore_ends_where_the_archive_says(
        (strict, target, archive) in (any::<bool>(), rows(), rows())
    ) {
        let tables = tables("moved_restore", strict);
        let file = tables.file("b.db", &inserts(&target));
        let before = content(&file);
        let (source, to) = (tables.file("a.db", &inserts(&archive)), format!("sqlite:{file}"));
        let restore = ["restore", &tables.export(&source), "--to", &to, "--json"];
        let done = json_of(&tables.run(&restore, &[]).success());
        prop_assert_eq!(content(&source), content(&file));
        let both = archive.iter().filter(|(key, _)| target.contains_key(*key));
        let (same, changed): (Vec<_>, Vec<_>) = both.partition(|(key, row)| target[*key] == **row);
        let kept = (same.len() + changed.len()) as u64;
        let counts = ["inserted_rows", "updated_rows", "deleted_rows", "skipped_rows"];
        let expected = [
            archive.len() as u64 - kept,
            changed.len() as u64,
            target.len() as u64 - kept,
            same.len() as u64,
        ];
        prop_assert_eq!(counts.map(|what| counted(&done, what)[0]), expected);
        Program::new(["rollback", "last", "--from", &file]).run().success();
        prop_assert_eq!(before, content(&file));
    }
}
