//! SQLite: rows meet by keys of any width as SQLite itself compares them, and references of any width hold.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::Value as Json;

use crate::support::migrate::{Scratch, ask, fill, json_of, words};
use crate::support::program::{Output, Program};

/// A table of a test: its name, its role, and its key.
type Described<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Databases of tables that no known layout has, and the layout that describes them.
pub(super) struct Tables {
    scratch: Scratch,
    layout: PathBuf,
    ddl: String,
}

impl Tables {
    pub(super) fn new(test_name: &str, ddl: &str, tables: &[Described<'_>]) -> Tables {
        let scratch = Scratch::new(test_name);
        let layout = scratch.path("layout.toml");
        let mut text = String::from(
            "name = \"general\"\ntitle = \"general\"\nbackend = \"sqlite\"\nddl = \"layout.sql\"\n",
        );
        for (table, role, key) in tables {
            writeln!(
                text,
                "[[stream]]\nname = \"{table}\"\nrole = \"{role}\"\ntable = \"{table}\"\n\
                 requires = {key:?}\nkey = {key:?}\norder = {key:?}"
            )
            .unwrap();
        }
        fs::write(&layout, text).unwrap();
        fs::write(scratch.path("layout.sql"), ddl).unwrap();
        Tables { scratch, layout, ddl: ddl.to_owned() }
    }

    /// A new file with these rows.
    pub(super) fn file(&self, name: &str, rows: &str) -> String {
        let file = words(&self.scratch.path(name)).to_owned();
        fill(&file, &self.ddl);
        fill(&file, rows);
        file
    }

    pub(super) fn run(&self, args: &[&str], options: &[&str]) -> Output {
        Program::new([args, options, &["--layout", words(&self.layout)]].concat()).run()
    }

    #[track_caller]
    pub(super) fn export(&self, from: &str) -> String {
        let archive = format!("{from}.{}.archive", fs::read_dir(self.folder()).unwrap().count());
        self.run(&["export", from, "-o", &archive, "-q"], &[]).success();
        archive
    }

    fn folder(&self) -> PathBuf {
        self.layout.parent().unwrap().to_owned()
    }

    /// A file that does not exist yet, as `--to` takes it.
    fn new_file(&self, name: &str) -> String {
        words(&self.scratch.path(name)).to_owned()
    }

    pub(super) fn import(&self, archive: &str, to: &str, options: &[&str]) -> Output {
        self.run(&["import", archive, "--to", &format!("sqlite:{to}"), "--json"], options)
    }

    #[track_caller]
    fn create(&self, archive: &str, to: &str, options: &[&str]) -> Json {
        json_of(&self.import(archive, to, &[options, &["--create"]].concat()).success())
    }

    #[track_caller]
    fn again(&self, archive: &str, to: &str, options: &[&str]) -> Json {
        json_of(&self.import(archive, to, options).success())
    }
}

/// A number that an import counted, stream by stream.
#[track_caller]
pub(super) fn counted(imported: &Json, what: &str) -> Vec<u64> {
    imported["streams"].as_array().unwrap().iter().map(|s| s[what].as_u64().unwrap()).collect()
}

/// Everything in the tables of a file, to the byte and the storage class.
#[track_caller]
pub(super) fn content(file: &str) -> Vec<String> {
    let tables = ask(
        file,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         AND name NOT LIKE 'chronicle_dump%' ORDER BY name",
    );
    let mut lines = Vec::new();
    for table in tables.lines() {
        let columns = ask(file, &format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns: Vec<String> = (columns.lines())
            .map(|c| format!("typeof(\"{c}\") || ':' || quote(\"{c}\")"))
            .collect();
        let sql = format!("SELECT {} FROM {table}", columns.join(", "));
        lines.extend(ask(file, &sql).lines().map(|line| format!("{table} {line}")));
    }
    lines.sort();
    lines
}

const COMPOSITE: &str = "CREATE TABLE place (a TEXT, b INTEGER, t TEXT, PRIMARY KEY (a, b))";
const PLACES: &str = "INSERT INTO place VALUES ('x', 1, 'one'), ('x', 2, 'two'), ('y', 1, 'three')";

#[test]
fn a_composite_key_imported_twice_is_there_once() {
    for (name, ddl) in [
        ("rowid", COMPOSITE.to_owned()),
        ("without_rowid", format!("{COMPOSITE} WITHOUT ROWID")),
        (
            "unique_index",
            "CREATE TABLE place (a TEXT, b INTEGER, t TEXT); \
             CREATE UNIQUE INDEX by_key ON place (b, a)"
                .to_owned(),
        ),
    ] {
        let tables = Tables::new(name, &ddl, &[("place", "side", &["a", "b"])]);
        let source = tables.file("a.db", PLACES);
        let (archive, target) = (tables.export(&source), tables.new_file("b.db"));
        assert_eq!(counted(&tables.create(&archive, &target, &[]), "inserted_rows"), [3], "{name}");
        let again = tables.again(&archive, &target, &[]);
        assert_eq!(counted(&again, "inserted_rows"), [0], "{name}");
        assert_eq!(counted(&again, "skipped_rows"), [3], "{name}");
        assert_eq!(content(&source), content(&target), "{name}");
        // rows that differ in one key column alone are other rows, in addition to the existing ones
        fill(&source, "INSERT INTO place VALUES ('y', 2, 'four')");
        let more = tables.again(&tables.export(&source), &target, &[]);
        assert_eq!(counted(&more, "inserted_rows"), [1], "{name}");
        assert_eq!(content(&source), content(&target), "{name}");
    }
}

#[test]
fn another_row_of_the_same_composite_key_is_a_conflict() {
    let tables = Tables::new("composite_conflict", COMPOSITE, &[("place", "side", &["a", "b"])]);
    let source = tables.file("a.db", PLACES);
    let target = tables.file("b.db", "INSERT INTO place VALUES ('x', 2, 'zwei')");
    let before = content(&target);
    let archive = tables.export(&source);
    (tables.import(&archive, &target, &[]).fails_with(11))
        .stderr_has("place: 1 row: ")
        .stderr_has("(first: key x, 2)")
        .stderr_has("another value in \"t\"");
    assert_eq!(content(&target), before);
}

#[test]
fn a_composite_key_that_is_not_unique_is_refused() {
    let tables = Tables::new(
        "not_unique",
        "CREATE TABLE place (a TEXT, b INTEGER, t TEXT); \
         CREATE UNIQUE INDEX some ON place (a, b) WHERE t <> ''; \
         CREATE UNIQUE INDEX lowered ON place (a, lower(b))",
        &[("place", "side", &["a", "b"])],
    );
    let source = tables.file("a.db", PLACES);
    let (archive, target) = (tables.export(&source), tables.new_file("b.db"));
    tables.create(&archive, &target, &[]);
    (tables.import(&archive, &target, &[]).fails_with(9))
        .stderr_has("place: (a, b) are together not a unique key in this database");
}

const REFERRING: &str = "CREATE TABLE runs (a TEXT NOT NULL, b INTEGER NOT NULL, start_time TEXT, \
     t TEXT NOT NULL DEFAULT '', PRIMARY KEY (a, b)); \
     CREATE TABLE note (id INTEGER PRIMARY KEY, b INTEGER, a TEXT, \
         FOREIGN KEY (b, a) REFERENCES runs (b, a))";
const RUNS: &[Described<'_>] = &[("runs", "sessions", &["a", "b"]), ("note", "side", &["id"])];
const NOTES: &str = "INSERT INTO runs (a, b) VALUES ('x', 1), ('x', 2); \
     INSERT INTO note VALUES (1, 1, 'x'), (2, 3, 'x'), (3, NULL, 'y'), (4, 9, NULL), (5, 1, 'y')";

#[test]
fn orphans_of_a_composite_reference_follow_each_policy() {
    let tables = Tables::new("composite_orphans", REFERRING, RUNS);
    let source = tables.file("a.db", NOTES);
    let archive = tables.export(&source);
    let kept = tables.create(&archive, &tables.new_file("keep.db"), &[]);
    assert_eq!(kept["orphans"][0]["rows"], 2);
    assert_eq!(kept["orphans"][0]["column"], "b, a");
    assert_eq!(kept["orphans"][0]["samples"], serde_json::json!([["2", "3, x"], ["5", "1, y"]]));
    assert_eq!(content(&source), content(&tables.new_file("keep.db")));

    let target = tables.new_file("skip.db");
    let skipped = tables.create(&archive, &target, &["--orphans=skip"]);
    assert_eq!(counted(&skipped, "skipped_orphans"), [0, 2]);
    assert_eq!(ask(&target, "SELECT id FROM note"), "1\n3\n4", "a NULL refers to nothing");

    let target = tables.new_file("adopt.db");
    let adopted = tables.create(&archive, &target, &["--orphans=adopt"]);
    assert_eq!(counted(&adopted, "adopted_rows"), [0, 2]);
    assert_eq!(ask(&target, "SELECT a, b FROM runs ORDER BY a, b"), "x|1\nx|2\nx|3\ny|1");

    let failed = tables.import(&archive, &tables.new_file("f.db"), &["--create", "--orphans=fail"]);
    failed
        .fails_with(12)
        .stderr_has("2 note refer to missing rows by \"b, a\" (orphans: 2 -> 3, x");
}

#[test]
fn an_export_counts_orphans_of_composite_references() {
    let tables = Tables::new("export_orphans", REFERRING, RUNS);
    let source = tables.file("a.db", NOTES);
    let archive = words(&tables.scratch.path("a.archive")).to_owned();
    (tables.run(&["export", &source, "-o", &archive], &[]).success())
        .stderr_has("2 note refer to missing rows by \"b, a\" (orphans: 2 -> 3, x, 5 -> 1, y");
}

#[test]
fn verify_against_leaves_out_orphans_of_composite_references() {
    let tables = Tables::new("verify_orphans", REFERRING, RUNS);
    let archive = tables.export(&tables.file("a.db", NOTES));
    let target = tables.new_file("b.db");
    tables.create(&archive, &target, &["--orphans=skip"]);
    let against = format!("sqlite:{target}");
    let args = ["verify", &archive, "--against", &against, "--orphans", "skip"];
    tables.run(&args, &[]).success();
    fill(&target, "DELETE FROM note WHERE id = 4");
    tables.run(&args, &[]).fails_with(15);
}

#[test]
fn a_row_may_refer_to_a_later_row_of_its_own_table() {
    let ddl = "CREATE TABLE tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree)";
    let tables = Tables::new("self_reference", ddl, &[("tree", "side", &["id"])]);
    let source = tables.file("a.db", "INSERT INTO tree VALUES (1, 3), (2, 1), (3, NULL), (4, 4)");
    let (archive, target) = (tables.export(&source), tables.new_file("b.db"));
    let made = tables.create(&archive, &target, &["--orphans=fail"]);
    assert_eq!(made["orphans"], serde_json::json!([]));
    assert_eq!(content(&source), content(&target));
}

#[test]
fn two_tables_may_refer_to_each_other() {
    let ddl = "CREATE TABLE ring_a (k TEXT, n INT, b INTEGER NOT NULL REFERENCES ring_b (id), \
                   PRIMARY KEY (k, n)) WITHOUT ROWID; \
               CREATE TABLE ring_b (id INTEGER PRIMARY KEY, k TEXT NOT NULL, n INT NOT NULL, \
                   FOREIGN KEY (k, n) REFERENCES ring_a)";
    let described: &[Described<'_>] =
        &[("ring_a", "side", &["k", "n"]), ("ring_b", "side", &["id"])];
    let tables = Tables::new("ring", ddl, described);
    let rows = "INSERT INTO ring_a VALUES ('k', 1, 10), ('k', 2, 20); \
                INSERT INTO ring_b VALUES (10, 'k', 2), (20, 'k', 1)";
    let source = tables.file("a.db", rows);
    let (archive, target) = (tables.export(&source), tables.new_file("b.db"));
    tables.create(&archive, &target, &["--orphans=fail"]);
    assert_eq!(content(&source), content(&target));
    // one end is missing: everything around the ring goes
    fill(&source, "DELETE FROM ring_b WHERE id = 20");
    let target = tables.new_file("c.db");
    let skipped = tables.create(&tables.export(&source), &target, &["--orphans=skip"]);
    assert_eq!(counted(&skipped, "skipped_orphans"), [2, 1]);
    assert_eq!(content(&target), [""; 0]);
}

#[test]
fn skipping_an_orphan_skips_what_refers_to_it() {
    let ddl = "CREATE TABLE tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree (id)); \
               CREATE TABLE leaf (id INTEGER PRIMARY KEY, tree INTEGER REFERENCES tree (id))";
    let described: &[Described<'_>] = &[("tree", "side", &["id"]), ("leaf", "side", &["id"])];
    let tables = Tables::new("cascade", ddl, described);
    let rows = "INSERT INTO tree VALUES (1, 99), (2, 1), (3, 2), (4, NULL), (5, 4); \
                INSERT INTO leaf VALUES (1, 3), (2, 5), (3, NULL)";
    let archive = tables.export(&tables.file("a.db", rows));
    for (name, before) in [("empty.db", ""), ("filled.db", "INSERT INTO tree VALUES (7, 98)")] {
        let target = tables.file(name, before);
        let skipped = tables.again(&archive, &target, &["--orphans=skip"]);
        assert_eq!(counted(&skipped, "skipped_orphans"), [3, 1], "{name}");
        assert_eq!(counted(&skipped, "inserted_rows"), [2, 2], "{name}");
        let tree = "SELECT c.up IS NULL, p.id IS NULL FROM tree c LEFT JOIN tree p ON p.id = c.up \
                    WHERE c.id <> 7 ORDER BY 1 DESC";
        let leaf = "SELECT l.tree IS NULL, t.id IS NULL FROM leaf l LEFT JOIN tree t ON t.id = l.tree \
                    ORDER BY 1 DESC";
        let (tree, leaf) = (ask(&target, tree), ask(&target, leaf));
        assert_eq!((tree.as_str(), leaf.as_str()), ("1|1\n0|0", "1|1\n0|0"), "{name}");
    }
    // a row that was there before stays, whatever it refers to
    assert_eq!(ask(&tables.new_file("filled.db"), "SELECT up FROM tree WHERE id = 7"), "98");
}

#[test]
fn a_reference_may_name_a_unique_column_that_is_no_key() {
    let ddl = "CREATE TABLE kind (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE); \
               CREATE TABLE use_kind (id INTEGER PRIMARY KEY, k TEXT REFERENCES KIND (CODE))";
    let described: &[Described<'_>] = &[("kind", "side", &["id"]), ("use_kind", "side", &["id"])];
    let tables = Tables::new("unique_parent", ddl, described);
    let rows = "INSERT INTO kind VALUES (1, 'k1'), (2, NULL); \
                INSERT INTO use_kind VALUES (1, 'K1'), (2, NULL), (3, 'k2')";
    let archive = tables.export(&tables.file("a.db", rows));
    let target = tables.new_file("b.db");
    let made = tables.create(&archive, &target, &["--orphans=skip"]);
    assert_eq!(made["orphans"][0]["rows"], 1);
    assert_eq!(ask(&target, "SELECT id FROM use_kind"), "1\n2", "'K1' is 'k1' to the database");
}

#[test]
fn keys_are_compared_as_the_database_compares_them() {
    let ddl = "CREATE TABLE word (w TEXT COLLATE NOCASE, l TEXT COLLATE RTRIM, n INT, \
                   PRIMARY KEY (w, l))";
    let tables = Tables::new("nocase", ddl, &[("word", "side", &["w", "l"])]);
    let source = tables.file("a.db", "INSERT INTO word VALUES ('Tea', 'en', 1)");
    let archive = tables.export(&source);
    for (n, (there, spelled)) in [
        ("'tea', 'en'", "\"w\" is \"tea\" in the target and \"Tea\" in the archive"),
        ("'Tea', 'en '", "\"l\" is \"en \" in the target and \"en\" in the archive"),
    ]
    .into_iter()
    .enumerate()
    {
        let target =
            tables.file(&format!("{n}.db"), &format!("INSERT INTO word VALUES ({there}, 1)"));
        (tables.import(&archive, &target, &[]).fails_with(11))
            .stderr_has("first: key Tea, en")
            .stderr_has("the same key, spelled differently")
            .stderr_has(spelled);
    }
    let other = tables.file("other.db", "INSERT INTO word VALUES ('tee', 'en', 1)");
    assert_eq!(counted(&tables.again(&archive, &other, &[]), "inserted_rows"), [1]);
    assert_eq!(counted(&tables.again(&archive, &other, &[]), "skipped_rows"), [1]);
}

#[test]
fn the_index_of_a_key_says_how_it_is_compared() {
    // the column ignores case, its key does not
    let ddl = "CREATE TABLE word (w TEXT COLLATE NOCASE, n INT); \
               CREATE UNIQUE INDEX exact ON word (w COLLATE BINARY, n)";
    let tables = Tables::new("index_collation", ddl, &[("word", "side", &["w", "n"])]);
    let source = tables.file("a.db", "INSERT INTO word VALUES ('Tea', 1), ('tea', 1)");
    let (archive, target) = (tables.export(&source), tables.new_file("b.db"));
    tables.create(&archive, &target, &[]);
    assert_eq!(counted(&tables.again(&archive, &target, &[]), "skipped_rows"), [2]);
    assert_eq!(content(&source), content(&target));
}

#[test]
fn a_taken_unique_value_names_the_whole_key_of_its_row() {
    let ddl = format!("{COMPOSITE}; CREATE UNIQUE INDEX by_t ON place (t COLLATE NOCASE)");
    let tables = Tables::new("taken", &ddl, &[("place", "side", &["a", "b"])]);
    let archive = tables.export(&tables.file("a.db", PLACES));
    let target = tables.file("b.db", "INSERT INTO place VALUES ('z', 7, 'TWO')");
    (tables.import(&archive, &target, &[]).fails_with(11))
        .stderr_has("another value in \"t\" in the target (first: key x, 2)");
}

#[test]
fn a_child_that_comes_first_finds_its_parent_under_another_key() {
    let ddl =
        "CREATE TABLE tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree, name TEXT UNIQUE)";
    let tables = Tables::new("known_as_tree", ddl, &[("tree", "side", &["id"])]);
    let archive = tables.export(&tables.file(
        "a.db",
        "INSERT INTO tree VALUES (1, 3, 'leaf'), (2, 1, 'bud'), (3, NULL, 'root'), (4, 3, 'twig')",
    ));
    let target = tables.file("b.db", "INSERT INTO tree VALUES (70, NULL, 'root')");
    let done = tables.again(&archive, &target, &[]);
    assert_eq!(
        (counted(&done, "inserted_rows"), counted(&done, "matched_rows")),
        (vec![3], vec![1])
    );
    let found = ask(&target, "SELECT id, up, name FROM tree ORDER BY id");
    assert_eq!(found.trim(), "70||root\n71|70|leaf\n73|71|bud\n74|70|twig");
}

#[test]
fn diff_meets_rows_by_composite_keys_in_any_order() {
    let tables = Tables::new("composite_diff", COMPOSITE, &[("place", "side", &["a", "b"])]);
    let (mut forth, mut back) = (String::new(), Vec::new());
    for n in 0..60 {
        let row = format!("('k{}', {}, 'v{n}')", n % 7, n / 7);
        write!(forth, "INSERT INTO place VALUES {row};").unwrap();
        back.push(format!("INSERT INTO place VALUES {row};"));
    }
    back.reverse();
    let (a, b) = (tables.file("a.db", &forth), tables.file("b.db", &back.concat()));
    tables.run(&["diff", &a, &b], &[]).success();
    fill(
        &b,
        "UPDATE place SET t = 'new' WHERE a = 'k3' AND b = 2; \
              DELETE FROM place WHERE a = 'k4' AND b = 2; \
              INSERT INTO place VALUES ('k4', 99, '')",
    );
    let found = json_of(&tables.run(&["diff", &a, &b, "--json"], &[]).fails_with(15));
    let differences = found["streams"][0]["differences"].as_array().unwrap();
    let changes: Vec<(&str, &str)> = (differences.iter())
        .map(|d| (d["kind"].as_str().unwrap(), d["key"].as_str().unwrap()))
        .collect();
    assert_eq!(changes, [("changed", "k3, 2"), ("only_a", "k4, 2"), ("only_b", "k4, 99")]);
    tables.run(&["diff", &a, &b], &[]).fails_with(15).stdout_has("k3, 2");
}

#[test]
fn what_a_table_lacks_comes_back_to_its_row_by_a_composite_key() {
    let wide = "CREATE TABLE place (a TEXT, b TEXT, t TEXT, PRIMARY KEY (a, b))";
    let tables = Tables::new("composite_sidecar", wide, &[("place", "side", &["a", "b"])]);
    let rows = "INSERT INTO place VALUES ('a, b', 'c', 'one'), ('a', 'b, c', 'two'), \
                ('a\\', ', c', 'three'), (x'00ff', 'x', 'four'), (CAST(x'ff' AS TEXT), 'y', 'five')";
    let source = tables.file("a.db", rows);
    let archive = tables.export(&source);
    let target = tables.new_file("b.db");
    fill(&target, "CREATE TABLE place (a TEXT, b TEXT, PRIMARY KEY (a, b))");
    for _ in 0..2 {
        tables.again(&archive, &target, &["--on-missing-column=fold"]);
    }
    assert_eq!(ask(&target, "SELECT count(*) FROM chronicle_dump_sidecar"), "5");
    let back = tables.new_file("c.db");
    tables.create(&tables.export(&target), &back, &[]);
    assert_eq!(content(&source), content(&back));
}

#[test]
fn a_row_without_a_key_has_no_entry_of_a_key_spelled_null() {
    let ddl = "CREATE TABLE place (a TEXT, b TEXT, t TEXT, PRIMARY KEY (a, b))";
    let tables = Tables::new("null_key", ddl, &[("place", "side", &["a", "b"])]);
    let source = tables.file("a.db", "INSERT INTO place VALUES ('NULL', 'NULL', 'text')");
    let target = tables.new_file("b.db");
    fill(&target, "CREATE TABLE place (a TEXT, b TEXT, PRIMARY KEY (a, b))");
    tables.again(&tables.export(&source), &target, &["--on-missing-column=fold"]);
    fill(&target, "INSERT INTO place VALUES (NULL, NULL), (NULL, 'NULL')");
    let back = tables.new_file("c.db");
    tables.create(&tables.export(&target), &back, &[]);
    let rows = ask(&back, "SELECT a IS NULL, b IS NULL, t FROM place ORDER BY 1, 2");
    assert_eq!(rows, "0|0|text\n1|0|\n1|1|");
}

#[test]
fn a_column_may_be_called_as_the_number_of_a_row() {
    let ddl = "CREATE TABLE hides (rowid TEXT, n INT, PRIMARY KEY (rowid, n))";
    let tables = Tables::new("hidden_rowid", ddl, &[("hides", "side", &["rowid", "n"])]);
    let source = tables.file("a.db", "INSERT INTO hides VALUES ('r', 1), ('r', 2)");
    let target = tables.file("b.db", "INSERT INTO hides VALUES ('s', 1)");
    let archive = tables.export(&source);
    assert_eq!(counted(&tables.again(&archive, &target, &[]), "inserted_rows"), [2]);
    assert_eq!(ask(&target, "SELECT * FROM hides ORDER BY 1, 2"), "r|1\nr|2\ns|1");
}

/// A table with a random key, and rows for it.
#[derive(Debug, Clone)]
struct RandomTable {
    /// The declared type and collation of each key column.
    key: Vec<(&'static str, &'static str)>,
    without_rowid: bool,
    by_index: bool,
    rows: Vec<Vec<&'static str>>,
}

impl RandomTable {
    fn ddl(&self) -> String {
        let columns: String = (self.key.iter().enumerate())
            .map(|(n, (ty, coll))| format!("k{n} {ty} {coll}, "))
            .collect();
        let names = self.names().join(", ");
        match (self.without_rowid, self.by_index) {
            (true, _) => {
                format!("CREATE TABLE t ({columns} v, PRIMARY KEY ({names})) WITHOUT ROWID")
            }
            (false, true) => {
                format!("CREATE TABLE t ({columns} v); CREATE UNIQUE INDEX u ON t ({names})")
            }
            (false, false) => format!("CREATE TABLE t (v, {columns} PRIMARY KEY ({names}))"),
        }
    }

    fn names(&self) -> Vec<String> {
        (0..self.key.len()).map(|n| format!("k{n}")).collect()
    }

    fn inserts(&self) -> Vec<String> {
        let names = self.names().join(", ");
        let insert = |row: &Vec<&str>| {
            let key = row[..self.key.len()].join(", ");
            format!("INSERT OR IGNORE INTO t (v, {names}) VALUES ({}, {key})", row[4])
        };
        self.rows.iter().map(insert).collect()
    }
}

fn random_table() -> impl Strategy<Value = RandomTable> {
    let ty =
        prop::sample::select(vec!["TEXT", "INTEGER", "BLOB", "", "INT", "DATE", "DECIMAL(9,2)"]);
    let collation = prop::sample::select(vec!["", "COLLATE NOCASE", "COLLATE RTRIM"]);
    let value = || {
        prop::sample::select(vec![
            "NULL",
            "0",
            "1",
            "-7",
            "1.5",
            "2.0",
            "'1'",
            "'a'",
            "'A'",
            "'a '",
            "'ä'",
            "'a, b'",
            "''",
            "x'00'",
            "x'61'",
            "x''",
            "9223372036854775807",
        ])
    };
    (
        prop::collection::vec((ty, collation), 1..5),
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(prop::collection::vec(value(), 5), 0..12),
    )
        .prop_map(|(key, without_rowid, by_index, rows)| RandomTable {
            key,
            without_rowid,
            by_index,
            rows,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_key_comes_back_whole_and_only_once(table in random_table()) {
        let names = table.names();
        let key: Vec<&str> = names.iter().map(String::as_str).collect();
        let tables = Tables::new("any_key", &table.ddl(), &[("t", "side", &key)]);
        let source = tables.file("a.db", "");
        let database = Connection::open(&source).unwrap();
        for insert in table.inserts() {
            // what SQLite itself refuses is no row
            let _ = database.execute(&insert, []);
        }
        drop(database);
        let archive = tables.export(&source);
        let target = tables.new_file("b.db");
        tables.create(&archive, &target, &[]);
        prop_assert_eq!(content(&source), content(&target));
        let again = tables.again(&archive, &target, &[]);
        let rows = Connection::open(&source).unwrap()
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        prop_assert_eq!(counted(&again, "skipped_rows"), [rows.unsigned_abs()]);
        prop_assert_eq!(content(&source), content(&target));
        tables.run(&["diff", &source, &target], &[]).success();
    }
}
