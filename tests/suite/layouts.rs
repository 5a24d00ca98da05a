//! Every layout is recognised as itself, comes back whole from its archive, and a layout file is enough for a fork.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use chronicle_dump::catalog::Backend;
use chronicle_dump::layout::{self, Choice};
use rusqlite::Connection;
use serde_json::Value as Json;

use crate::support::cluster::{Cluster, Database};
use crate::support::files::workdir;
use crate::support::program::{Output, Program};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/layouts/README.md");

pub(crate) fn choices(backend: Backend) -> Vec<Choice> {
    layout::choices().unwrap().into_iter().filter(|c| c.layout.backend == backend).collect()
}

fn words(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(args: &[&str]) -> Output {
    Program::new(args).run()
}

/// Exports a database; gives the archive and the layout that it names.
#[track_caller]
fn export(from: &str, folder: &Path, options: &[&str]) -> (PathBuf, String) {
    let archive = folder.join(format!("{}.archive", fs::read_dir(folder).unwrap().count()));
    run(&[&["export", from, "-o", words(&archive)], options].concat()).success();
    let shown = run(&["inspect", "--json", words(&archive)]).success();
    let shown: Json = serde_json::from_str(shown.text().trim()).unwrap();
    (archive, shown["source"]["layout"].as_str().unwrap().to_owned())
}

/// A value that a column of this name and type takes, different from row to row.
fn literal(column: &str, declared: &str, row: usize) -> String {
    let declared = declared.to_ascii_lowercase();
    let text = match column {
        "id" | "session_id" | "event_id" if declared.contains("int") => return row.to_string(),
        "id" | "session_id" | "event_id" => format!("0000000{row}-0000-4000-8000-00000000000{row}"),
        "event_type" | "type" => "session_start".into(),
        "status" => "active".into(),
        "phase" => "pre".into(),
        "role" => "lead".into(),
        "data_sharing_level" => "team".into(),
        _ if declared.contains("json") => format!("{{\"a\": {row}}}"),
        "data" | "metadata" | "parameters" | "result" => format!("{{\"é\":[{row},2.5,null]}}"),
        _ if declared.contains("bool") => {
            return if declared == "bool" { "true" } else { "1" }.into();
        }
        _ if declared.contains("int") => return row.to_string(),
        _ if declared.contains("real") || declared.contains("float") => return format!("{row}.5"),
        "timestamp" | "last_modified" | "last_active" => format!("2025-08-2{row}T10:11:12.345678"),
        _ if column.ends_with("_at") || column.ends_with("_time") => {
            format!("2025-08-2{row}T01:02:03.5")
        }
        _ => format!("{column} {row} ä"),
    };
    format!("'{text}'")
}

/// Two rows for a table with these columns.
pub(crate) fn rows(table: &str, columns: &[(String, String)]) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let mut sql = String::new();
    for row in 1..=2 {
        let values: Vec<String> = columns.iter().map(|(n, ty)| literal(n, ty, row)).collect();
        writeln!(sql, "INSERT INTO {table} ({}) VALUES ({});", names.join(", "), values.join(", "))
            .unwrap();
    }
    sql
}

fn sqlite_columns(database: &Connection, table: &str) -> Vec<(String, String)> {
    let mut found = database.prepare("SELECT name, type FROM pragma_table_info(?1)").unwrap();
    let rows = found.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Two rows for a table of a file, which is there.
pub(crate) fn sqlite_rows(database: &Connection, table: &str) -> String {
    rows(table, &sqlite_columns(database, table))
}

/// Every value with its storage class, of the tables of a layout.
fn sqlite_values(path: &Path, tables: &[&str]) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let mut lines = Vec::new();
    for table in tables {
        let columns = sqlite_columns(&database, table);
        let each = columns.iter().map(|(name, _)| format!("quote(\"{name}\")"));
        let sql =
            format!("SELECT {} FROM {table} ORDER BY 1", each.collect::<Vec<_>>().join("||','||"));
        let mut found = database.prepare(&sql).unwrap();
        let rows = found.query_map([], |row| row.get::<_, String>(0)).unwrap();
        lines.extend(rows.map(|row| format!("{table} {}", row.unwrap())));
    }
    lines
}

/// A new file of a layout with two rows in each of its tables, and the names of these.
fn filled_sqlite<'a>(choice: &'a Choice, path: &Path) -> Vec<&'a str> {
    let database = Connection::open(path).unwrap();
    database.execute_batch(choice.layout.ddl().unwrap()).unwrap();
    let is_there = |table: &&str| database.table_exists(Some("main"), table).unwrap();
    let tables: Vec<&str> = choice.layout.tables().into_iter().filter(is_there).collect();
    for table in &tables {
        let sql = sqlite_rows(&database, table);
        database.execute_batch(&sql).unwrap_or_else(|e| panic!("{}: {e}\n{sql}", choice.name));
    }
    tables
}

#[test]
fn every_sqlite_layout_is_recognised_and_comes_back() {
    for choice in choices(Backend::Sqlite) {
        let folder = workdir("layouts-sqlite");
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        let tables = filled_sqlite(&choice, &from);
        let (archive, recognised) = export(words(&from), folder.path(), &[]);
        assert_eq!(recognised, choice.layout.name, "{}", choice.name);
        let create = format!("--create={}", choice.name);
        run(&["import", "--strict", words(&archive), "--to", words(&to), &create]).success();
        let expected = sqlite_values(&from, &tables);
        assert_eq!(expected.len(), 2 * tables.len(), "{}", choice.name);
        assert_eq!(expected, sqlite_values(&to, &tables), "{}", choice.name);
    }
}

/// Nothing is lost.
const KEEP: [&str; 3] =
    ["--on-unrepresentable=preserve", "--on-missing-column=fold", "--assume-tz=UTC"];

/// Layouts of files, and those of Postgres whose defaults fill the columns that these lack.
const DEFAULTED: [(&str, &str); 7] = [
    ("server", "dashboard-guide"),
    ("server", "team"),
    ("hooks", "dashboard-guide"),
    ("hooks-strict", "setup-script"),
    ("hooks-metadata", "supabase-guide"),
    ("uv-scripts", "setup-script"),
    ("models", "supabase-guide"),
];

#[test]
fn defaults_of_postgres_do_not_come_back_to_a_file() {
    let mut wrong = Vec::new();
    for (file, layout) in DEFAULTED {
        let choice = choices(Backend::Sqlite).into_iter().find(|c| c.name == file).unwrap();
        let folder = workdir("defaults");
        let (from, back) = (folder.path().join("from.db"), folder.path().join("back.db"));
        let tables = filled_sqlite(&choice, &from);
        let (archive, _) = export(words(&from), folder.path(), &[]);
        let server = Cluster::get().database(&format!("{file} to {layout}"));
        let url = server.url();
        let there = |more: &str| {
            run(&[&["import", "--strict", words(&archive), "--to", &url, more], &KEEP[..]].concat()).success();
            server.psql("SELECT * FROM chronicle_dump.sidecar ORDER BY 1, 2, 3")
        };
        let kept = there(&format!("--create={layout}"));
        if kept != there("--orphans=fail") {
            wrong.push(format!("{file} to {layout}: a second import changes what is kept"));
        }
        run(&[&["verify", words(&archive), "--against", &url], &KEEP[..]].concat()).success();
        let (returning, _) = export(&url, folder.path(), &[]);
        let create = format!("--create={file}");
        let to = ["import", "--strict", words(&returning), "--to", words(&back), &create];
        run(&[&to[..], &KEEP[..]].concat()).success();
        let (before, after) = (sqlite_values(&from, &tables), sqlite_values(&back, &tables));
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b);
        wrong.extend(changed.map(|(a, b)| format!("{file} to {layout}:\n  {a}\n  {b}")));
        assert_eq!(before.len(), after.len(), "{file} to {layout}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_stood_there_by_default_and_was_edited_since_comes_back() {
    let choice = choices(Backend::Sqlite).into_iter().find(|c| c.name == "server").unwrap();
    let folder = workdir("edited_default");
    let from = folder.path().join("from.db");
    filled_sqlite(&choice, &from);
    let (archive, _) = export(words(&from), folder.path(), &[]);
    let server = Cluster::get().database("edited default");
    let url = server.url();
    let to = ["import", "--strict", words(&archive), "--to", &url, "--create=dashboard-guide"];
    run(&[&to[..], &KEEP[..]].concat()).success();
    let status = || -> Vec<Json> {
        let (archive, _) = export(&url, folder.path(), &[]);
        let rows = run(&["cat", "--stream=sessions", words(&archive)]).success();
        let rows = rows.text().lines().map(|row| serde_json::from_str::<Json>(row).unwrap());
        rows.map(|row| row["status"].clone()).collect()
    };
    assert_eq!(status(), [Json::Null, Json::Null]);
    let first = "(SELECT min(id::text)::uuid FROM chronicle_sessions)";
    server.psql(&format!("UPDATE chronicle_sessions SET status = 'done' WHERE id = {first}"));
    let mut status = status();
    status.sort_by_key(Json::is_null);
    assert_eq!(status, [Json::from("done"), Json::Null]);
}

pub(crate) fn postgres_columns(database: &Database, table: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
          WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 ORDER BY a.attnum"
    );
    let rows = database.rows(&sql).into_iter();
    rows.map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
}

fn postgres_values(database: &Database, tables: &[&str]) -> String {
    let each =
        tables.iter().map(|t| database.psql(&format!("SELECT t::text FROM {t} t ORDER BY 1")));
    each.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_postgres_layout_is_recognised_and_comes_back() {
    for choice in choices(Backend::Postgres) {
        let folder = workdir("layouts-postgres");
        let from = Cluster::get().database(&format!("from {}", choice.name));
        let to = Cluster::get().database(&format!("to {}", choice.name));
        from.psql(choice.layout.ddl().unwrap());
        let is_there =
            |table: &&str| from.psql(&format!("SELECT to_regclass('{table}') IS NOT NULL")) == "t";
        let tables: Vec<&str> = choice.layout.tables().into_iter().filter(is_there).collect();
        for table in &tables {
            from.psql(&rows(table, &postgres_columns(&from, table)));
        }
        let (archive, recognised) = export(&from.url(), folder.path(), &[]);
        assert_eq!(recognised, choice.layout.name);
        let create = format!("--create={}", choice.name);
        run(&["import", "--strict", words(&archive), "--to", &to.url(), &create]).success();
        let expected = postgres_values(&from, &tables);
        assert_eq!(expected.lines().count(), 2 * tables.len(), "{}", choice.name);
        assert_eq!(expected, postgres_values(&to, &tables), "{}", choice.name);
    }
}

/// The code blocks of the document in a language.
fn block(language: &str) -> String {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("the example");
    rest.split("```").next().unwrap().to_owned()
}

const FORK_ROWS: &str = "\
    INSERT INTO cc_runs VALUES ('r1', 'claude 1', '2025-08-21T10:11:12', '/a'), ('r2', 'ä', NULL, '/b');
    INSERT INTO cc_steps VALUES ('s1', 'r1', 'stop', '2025-08-21T10:11:13', '{\"a\":1}');";
const FORK_TABLES: [&str; 2] = ["cc_runs", "cc_steps"];

#[test]
fn a_fork_in_sqlite_works_with_the_documents_layout_file() {
    let folder = workdir("fork-sqlite");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("fork.toml"), block("toml")).unwrap();
    fs::write(at("fork.sql"), block("sql")).unwrap();
    let database = Connection::open(at("fork.db")).unwrap();
    database.execute_batch(&format!("{}{FORK_ROWS}", block("sql"))).unwrap();
    drop(database);
    let (fork, file) = (at("fork.db"), at("fork.toml"));
    run(&["export", words(&fork), "-o", words(&at("x"))]).fails_with(9).stderr_has("--layout FILE");
    let (archive, name) = export(words(&fork), folder.path(), &["--layout", words(&file)]);
    assert_eq!(name, "fork");
    let again = at("again.db");
    let options = ["--create", "--layout", words(&file)];
    run(&[&["import", "--strict", words(&archive), "--to", words(&again)], options.as_slice()]
        .concat())
    .success();
    let expected = sqlite_values(&fork, &FORK_TABLES);
    assert_eq!(expected.len(), 3);
    assert_eq!(expected, sqlite_values(&again, &FORK_TABLES));
    let hooks = at("hooks.db");
    run(&["import", "--strict", words(&archive), "--to", words(&hooks), "--create"]).success();
    let event = sqlite_values(&hooks, &["events"]);
    assert_eq!(event.len(), 1);
    assert!(event[0].contains("'{\"a\":1}'"), "{event:?}");
}

#[test]
fn check_diff_and_verify_take_the_layout_of_a_database_too() {
    let folder = workdir("fork-layouts");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("fork.toml"), block("toml")).unwrap();
    fs::write(at("fork.sql"), block("sql")).unwrap();
    let (fork, file, hooks) = (at("fork.db"), at("fork.toml"), at("hooks.db"));
    let database = Connection::open(&fork).unwrap();
    database.execute_batch(&format!("{}{FORK_ROWS}", block("sql"))).unwrap();
    drop(database);
    let (archive, _) = export(words(&fork), folder.path(), &["--layout", words(&file)]);
    let (fork, file, archive) = (words(&fork), words(&file), words(&archive));
    let check = ["check", "--from", fork, "--to", words(&hooks), "--create"];
    run(&check).fails_with(9);
    run(&[&check[..], &["--from-layout", file]].concat()).success();
    run(&["check", archive, "--from-layout", file]).fails_with(2).stderr_has("for a database");
    run(&["diff", archive, fork]).fails_with(9);
    run(&["diff", archive, fork, "--layout", file]).success();
    run(&["diff", fork, fork, "--layout", file]).success();
    run(&["diff", archive, archive, "--layout", file])
        .fails_with(2)
        .stderr_has("both are archives");
    run(&["verify", archive, "--against", fork]).fails_with(9);
    run(&["verify", archive, "--against", fork, "--layout", file]).success();
    run(&["verify", archive, "--layout", file]).fails_with(2);
    run(&["import", archive, "--to", words(&hooks), "--create"]).success();
    // a database of the other kind is recognised
    let server = Cluster::get().database("fork layouts");
    server.psql(layout::named("upstream", None).unwrap().layout.ddl().unwrap());
    let zone = ["--layout", file, "--assume-tz=UTC"];
    run(&[&["diff", &server.url(), fork][..], &zone].concat()).fails_with(15);
}

#[test]
fn a_layout_file_with_an_unknown_column_is_refused() {
    let folder = workdir("fork-wrong");
    let file = folder.path().join("fork.toml");
    for (right, wrong, message) in [
        ("fold = \"data\"", "fold = \"dta\"", "events: fold names the column \"dta\""),
        (
            "default_from = \"id\"",
            "default_from = \"no\"",
            "sessions: default_from names the column \"no\"",
        ),
        ("order = [\"id\"]", "order = [\"run\"]", "sessions: order names the column \"run\""),
        ("key = [\"id\"]", "key = [\"run_id\"]", "sessions: key names the column \"run_id\""),
        ("{ session_id = ", "{ run = ", "events: references names the column \"run\""),
        ("fold = \"data\"", "origin = \"old\"", "events: origin names the column \"old\""),
        (
            "physical = \"kind\"",
            "physical = \"RUN_ID\"",
            "events: \"session_id\" and \"event_type\" are both the column \"RUN_ID\"",
        ),
        ("name = \"event_type\"", "name = \"id\"", "events: two columns have the name \"id\""),
    ] {
        assert!(block("toml").contains(right), "{right}");
        fs::write(&file, block("toml").replacen(right, wrong, 1)).unwrap();
        run(&["export", "none.db", "-o", "/dev/null", "--layout", words(&file)])
            .fails_with(9)
            .stderr_has(words(&file))
            .stderr_has(message);
    }
}

#[test]
fn a_copy_of_a_layout_that_is_known_is_a_layout_file_too() {
    let folder = workdir("copies");
    let place = |name: &str| folder.path().join(name);
    let known = Path::new(DOCUMENT).parent().unwrap();
    for entry in fs::read_dir(known).unwrap().map(Result::unwrap) {
        let file = entry.file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".toml") else { continue };
        let (copy, ddl) = (place(&file), format!("{name}.sql"));
        fs::copy(entry.path(), &copy).unwrap();
        fs::copy(known.join("../ddl").join(&ddl), place(&ddl)).unwrap();
        let (database, backend);
        let from = if name.starts_with("sqlite") {
            let path = place(&format!("{name}.db"));
            let sql = fs::read_to_string(place(&ddl)).unwrap();
            Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
            backend = Backend::Sqlite;
            words(&path).to_owned()
        } else {
            database = Cluster::get().database("copies");
            database.psql(&fs::read_to_string(place(&ddl)).unwrap());
            backend = Backend::Postgres;
            database.url()
        };
        let (_, layout) = export(&from, folder.path(), &["--layout", words(&copy)]);
        assert!(choices(backend).iter().any(|choice| choice.name == layout), "{layout}");
    }
}

#[test]
fn rows_that_are_kept_apart_are_there_already_the_second_time() {
    let folder = workdir("apart-twice");
    let at = |name: &str| folder.path().join(name);
    let many = layout::named("uv-manager", None).unwrap().layout;
    let database = Connection::open(at("many.db")).unwrap();
    database.execute_batch(many.ddl().unwrap()).unwrap();
    for table in ["sessions", "events", "tool_events"] {
        database.execute_batch(&sqlite_rows(&database, table)).unwrap();
    }
    drop(database);
    let (archive, _) = export(words(&at("many.db")), folder.path(), &[]);
    let server = Cluster::get().database("apart twice");
    for to in [words(&at("hooks.db")), &server.url()] {
        let import =
            ["import", "--strict", words(&archive), "--to", to, "--on-missing-column=fold"];
        let import = [&import[..], &["--on-unrepresentable=adapt", "--assume-tz=UTC"]].concat();
        run(&[&import[..], &["--create"]].concat())
            .success()
            .stdout_has("2 events, 2 tool_events, ");
        run(&import).success().stdout_has("0 tool_events (2 existed already), ");
    }
}

#[test]
fn a_fork_in_postgres_works_with_the_documents_layout_file() {
    let folder = workdir("fork-postgres");
    let file = folder.path().join("fork.toml");
    let text = block("toml").replace("backend = \"sqlite\"", "backend = \"postgres\"");
    fs::write(&file, text).unwrap();
    fs::write(folder.path().join("fork.sql"), block("sql")).unwrap();
    let (fork, again) = (Cluster::get().database("fork"), Cluster::get().database("fork again"));
    fork.psql(&format!("{}{FORK_ROWS}", block("sql")));
    let (archive, name) = export(&fork.url(), folder.path(), &["--layout", words(&file)]);
    assert_eq!(name, "fork");
    let options = ["--create", "--layout", words(&file)];
    run(&[&["import", "--strict", words(&archive), "--to", &again.url()], options.as_slice()]
        .concat())
    .success();
    assert_eq!(postgres_values(&fork, &FORK_TABLES), postgres_values(&again, &FORK_TABLES));
    let hooks = folder.path().join("hooks.db");
    run(&["import", "--strict", words(&archive), "--to", words(&hooks), "--create"]).success();
    assert_eq!(sqlite_values(&hooks, &["sessions", "events"]).len(), 3);
}

#[test]
fn a_forced_layout_must_fit_and_a_wrong_name_lists_all() {
    let folder = workdir("forced");
    let path = folder.path().join("hooks.db");
    let hooks = layout::named("hooks", None).unwrap().layout;
    Connection::open(&path).unwrap().execute_batch(hooks.ddl().unwrap()).unwrap();
    let forced = |name: &str| run(&["export", words(&path), "-o", "/dev/null", "--layout", name]);
    forced("hooks").success();
    forced("uv-scripts").fails_with(9).stderr_has("table events lacks column hook_event_name");
    forced("upstream").fails_with(2).stderr_has("is for Postgres");
    forced("missing.toml").fails_with(2).stderr_has("hooks-strict");
    run(&["schema", "nothing"]).fails_with(2).stderr_has("tutorial-postgres");
}

#[test]
fn schema_prints_the_ddl_and_lists_all_layouts() {
    let list = run(&["schema"]).success();
    for choice in layout::choices().unwrap() {
        assert!(list.text().lines().any(|l| l.starts_with(&format!("{} ", choice.name))));
        assert_eq!(run(&["schema", &choice.name]).success().text(), choice.layout.ddl().unwrap());
    }
}

#[test]
fn the_document_lists_every_layout() {
    const BEGIN: &str = "<!-- table:begin -->\n";
    const END: &str = "<!-- table:end -->\n";
    let mut table = String::from(
        "| layout | also created as | kind | tables | written by |\n|---|---|---|---|---|\n",
    );
    for backend in [Backend::Sqlite, Backend::Postgres] {
        for layout in layout::all(backend).unwrap() {
            let code = |names: Vec<&str>| {
                names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
            };
            let variants = layout.variants.iter().map(|v| v.name.as_str()).collect();
            writeln!(
                table,
                "| `{}` | {} | {} | {} | {} |",
                layout.name,
                code(variants),
                backend.title(),
                code(layout.tables()),
                layout.written_by
            )
            .unwrap();
        }
    }
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let whole = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, &whole).unwrap();
    }
    let text = fs::read_to_string(DOCUMENT).unwrap();
    assert!(text == whole, "UPDATE_DOCS=1 tests/run layouts:: rewrites the table");
}
