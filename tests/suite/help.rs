//! The help, the manual page, the guides in docs/ and docs/json.md say what the program does.
//!
//! `UPDATE_DOCS=1 tests/run help::` rewrites the captured help and the manual page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chronicle_archive::control::Base;
use chronicle_archive::{ArchiveWriter, Header, Origin, WriterOptions};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use chronicle_dump::error::Code;
use serde_json::Value as Json;

use crate::support::cluster::Cluster;
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::program::Program;

pub(crate) const COMMANDS: [&str; 16] = [
    "export",
    "import",
    "copy",
    "check",
    "verify",
    "inspect",
    "cat",
    "diff",
    "restore",
    "history",
    "rollback",
    "schema",
    "env",
    "service",
    "completions",
    "man",
];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let path = file(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The help of a command at a fixed width; of the program itself without one.
pub(crate) fn help(command: Option<&str>) -> String {
    let program = Program::new(command).arg("--help").env("COLUMNS", "100");
    program.run().success().text().to_owned()
}

/// Compares a file with what the program says, or rewrites it.
fn same_as_file(path: &str, real: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(file(path).parent().unwrap()).unwrap();
        fs::write(file(path), real).unwrap();
    }
    assert!(
        read(path) == real,
        "{path} is not what the program says; UPDATE_DOCS=1 tests/run help:: rewrites it"
    );
}

#[test]
fn the_captured_help_is_the_real_one() {
    same_as_file("fixtures/help/chronicle-dump.txt", &help(None));
    for command in COMMANDS {
        same_as_file(&format!("fixtures/help/{command}.txt"), &help(Some(command)));
    }
    let kept: BTreeSet<String> = fs::read_dir(file("fixtures/help"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept.len(), COMMANDS.len() + 1, "{kept:?}");
}

#[test]
fn every_command_of_the_program_is_in_the_captured_help() {
    let help = help(None);
    let listed: Vec<&str> = (help.lines().skip_while(|line| *line != "Commands:").skip(1))
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
}

#[test]
fn the_manual_page_is_the_real_one() {
    let page = Program::new(["man"]).run().success();
    same_as_file("docs/chronicle-dump.1", page.text());
}

/// The long options in a text.
fn options(text: &str) -> BTreeSet<String> {
    let is_option = |c: char| c.is_ascii_lowercase() || c == '-';
    (text.match_indices("--"))
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '-'))
        .map(|(at, _)| text[at..].split(|c| !is_option(c)).next().unwrap().to_owned())
        .filter(|option| option.len() > 3)
        .collect()
}

#[test]
fn documents_name_every_option_and_no_other() {
    let known: BTreeSet<String> = COMMANDS
        .into_iter()
        .map(Some)
        .chain([None])
        .flat_map(|command| options(&help(command)))
        .collect();
    // of cargo, of systemctl and of supabase
    let foreign =
        ["--release", "--path", "--open", "--now", "--failed", "--use-copy"].map(str::to_owned);
    const DOCUMENTS: [&str; 8] = [
        "README.md",
        "docs/guide.md",
        "docs/selection.md",
        "docs/import.md",
        "docs/check-and-diff.md",
        "docs/undo.md",
        "docs/schedule.md",
        "docs/servers.md",
    ];
    let mut named = BTreeSet::new();
    for document in DOCUMENTS {
        named.extend(options(&read(document)));
    }
    named.retain(|option| !foreign.contains(option));
    assert_eq!(named, known);
}

#[test]
fn every_exit_code_means_the_same_everywhere() {
    let codes: BTreeMap<u8, &str> = (Code::ALL.iter().map(|code| code.exit()).chain([0]))
        .map(|exit| (exit, Code::meaning(exit)))
        .collect();
    let (help, page, guide) =
        (help(None), Program::new(["man"]).run().success(), read("docs/guide.md"));
    let listed = |text: &str| -> BTreeMap<u8, String> {
        (text.lines().skip_while(|line| *line != "Exit codes:").skip(1))
            .map_while(|line| {
                let (code, meaning) = line.trim().split_once(' ')?;
                Some((code.parse().ok()?, meaning.trim().to_owned()))
            })
            .collect()
    };
    let rows: BTreeMap<u8, String> = (guide.lines())
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((
                cells.next()?.parse().ok()?,
                cells.next()?.trim_end_matches([' ', '|']).to_owned(),
            ))
        })
        .collect();
    let (_, section) = page.text().split_once("\n.SH \"EXIT STATUS\"\n").expect("the exit codes");
    let items = section.split("\n.SH ").next().unwrap().split(".TP\n").skip(1).map(|item| {
        let (code, meaning) = item.split_once('\n').unwrap();
        let code = code.trim_start_matches("\\fB").trim_end_matches("\\fR");
        (code.parse().unwrap(), meaning.trim_end().to_owned())
    });
    let codes: BTreeMap<u8, String> = codes.into_iter().map(|(c, m)| (c, m.to_owned())).collect();
    assert_eq!(listed(&help), codes, "--help");
    assert_eq!(items.collect::<BTreeMap<u8, String>>(), codes, "the manual page");
    assert_eq!(rows, codes, "docs/guide.md");
}

#[test]
fn guide_names_every_place_of_chronicles_file() {
    let empty = workdir("places");
    let output = Program::new(["export", "-o", "x"]).current_dir(empty.path()).run().fails_with(7);
    let (_, places) = output.stderr.split_once("looked at ").expect("the list of places");
    let guide = read("docs/guide.md");
    for place in places.trim().split(", ").map(|place| place.trim_start_matches("./")) {
        assert!(guide.contains(&format!("`{place}`")), "docs/guide.md does not name {place}");
    }
}

// ---- docs/json.md -----------------------------------------------------------------------------

/// What a section of docs/json.md says of a key: its types, and whether it may be missing.
#[derive(Debug)]
struct Documented {
    types: BTreeSet<String>,
    optional: bool,
}

/// The keys of a section.
fn documented(section: &str) -> BTreeMap<String, Documented> {
    let document = read("docs/json.md");
    let (_, text) = document.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = text.split("\n## ").next().unwrap();
    let keys = (text.lines())
        .skip_while(|line| *line != "| key | type | meaning |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            let key = cells.next().unwrap().trim_matches('`').to_owned();
            let types = cells.next().unwrap();
            let optional = types.ends_with(", optional");
            let types =
                types.trim_end_matches(", optional").split(" or ").map(str::to_owned).collect();
            assert!(!cells.next().unwrap().is_empty(), "{key} has no meaning");
            (key, Documented { types, optional })
        });
    keys.collect()
}

/// Adds every key below a value, with the types it was seen with. The children of `open` have names of the archive.
fn keys_of(
    path: &str,
    value: &Json,
    open: &[&str],
    found: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_f64() => "number",
        Json::Number(_) => "integer",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    if !path.is_empty() && !path.ends_with("[]") {
        found.entry(path.to_owned()).or_default().insert(kind.to_owned());
    }
    match value {
        Json::Object(object) => {
            for (key, below) in object {
                let key = if open.contains(&path) { "*" } else { key };
                let dot = if path.is_empty() { "" } else { "." };
                keys_of(&format!("{path}{dot}{key}"), below, open, found);
            }
        }
        Json::Array(elements) => {
            for element in elements.iter().filter(|element| element.is_object()) {
                keys_of(&format!("{path}[]"), element, open, found);
            }
        }
        _ => {}
    }
}

/// Compares results of a command with its section: the same keys, each with a documented type.
fn as_documented(section: &str, open: &[&str], results: &[Json]) {
    let documented = documented(section);
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for result in results {
        let mut found = BTreeMap::new();
        keys_of("", result, open, &mut found);
        let top = documented.iter().filter(|(key, _)| !key.contains(['.', '[']));
        for (key, _) in top.filter(|(_, documented)| !documented.optional) {
            assert!(found.contains_key(key), "{section}: {key} is missing in {result}");
        }
        for (key, types) in found {
            seen.entry(key).or_default().extend(types);
        }
    }
    for (key, types) in &seen {
        let documented =
            documented.get(key).unwrap_or_else(|| panic!("{section}: {key} is not documented"));
        assert!(
            types.is_subset(&documented.types),
            "{section}: {key} is {types:?}, not {documented:?}"
        );
    }
    for key in documented.keys() {
        assert!(seen.contains_key(key), "{section}: no result has {key}");
    }
}

fn json(text: &str) -> Json {
    let line = text
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("no JSON: {text}"));
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// An archive of a database that has the numbers of another one, `numbered.ndjson.zst`, and its history.
fn rows_with_numbers_of_another(folder: &Path) {
    let run = |args: &[&str]| Program::new(args).current_dir(folder).run().success();
    sqlite_from(&["sqlite-seed.sql"], &folder.join("numbered.db"), "wal");
    let row = "INSERT INTO chronicle_sessions (project_path) VALUES ('/p')";
    rusqlite::Connection::open(folder.join("numbered.db")).unwrap().execute(row, []).unwrap();
    run(&["export", "numbered.db", "-o", "first.ndjson.zst"]);
    run(&["import", "first.ndjson.zst", "--to", "copy.db", "--create=tutorial-sqlite"]);
    run(&["export", "copy.db", "-o", "numbered.ndjson.zst"]);
}

/// The result of a rollback that would stop: a column that it would drop has an index.
fn stopped_by_a_column(folder: &Path) -> Json {
    let run = |args: &[&str]| Program::new(args.iter().copied()).current_dir(folder).run();
    fs::copy(folder.join("new.db"), folder.join("noted.db")).unwrap();
    let sql = |sql: &str| {
        rusqlite::Connection::open(folder.join("noted.db")).unwrap().execute_batch(sql).unwrap();
    };
    sql("ALTER TABLE sessions ADD COLUMN note TEXT; UPDATE sessions SET note = 'n'");
    run(&["export", "noted.db", "-o", "noted.zst"]).success();
    sql("ALTER TABLE sessions DROP COLUMN note");
    fs::copy(folder.join("noted.db"), folder.join("kept.db")).unwrap();
    run(&["import", "noted.zst", "--to", "kept.db", "--on-conflict", "update"]).success();
    let add = ["--on-missing-column", "add", "--on-conflict", "update"];
    run(&[&["import", "noted.zst", "--to", "noted.db"], &add[..]].concat()).success();
    sql("CREATE INDEX by_note ON sessions (note)");
    let dry = run(&["rollback", "last", "--from", "noted.db", "--dry-run", "--json"]);
    json(dry.fails_with(9).text())
}

/// The history of an import that was killed between two groups, and of one that was not.
fn half_history(folder: &Path) -> Json {
    let run = |args: &[&str], fault: &str| {
        let program = Program::new(args.iter().copied()).current_dir(folder);
        program.env("CHRONICLE_DUMP_FAULT", fault).run()
    };
    let import = ["import", "whole.ndjson.zst", "--to", "half.db", "--create", "--commit-every=1"];
    run(&[&import[..], &["--resumable"]].concat(), "none=error").success();
    run(&["rollback", "last", "--from", "half.db"], "none=error").success();
    let again =
        ["import", "whole.ndjson.zst", "--to", "half.db", "--commit-every=1", "--resumable"];
    run(&again, "groups: between two=abort@1");
    // as several connections leave it
    let ahead = "UPDATE chronicle_dump_migration_history SET details = json_set(details, '$.resume.ahead', \
                 json('[{\"number\": 3, \"checkpoint\": \"00\"}]')) WHERE details LIKE '%resume%'";
    rusqlite::Connection::open(folder.join("half.db")).unwrap().execute(ahead, []).unwrap();
    json(run(&["history", "half.db", "--json"], "none=error").success().text())
}

#[test]
fn the_json_results_are_as_documented() {
    let folder = workdir("json");
    let run = |args: &[&str]| {
        Program::new(["--json"].iter().chain(args)).current_dir(folder.path()).run()
    };
    let result = |args: &[&str]| json(run(args).success().text());

    let sample = fixture("sample-hooks.db");
    let archive = "sample.ndjson.zst";
    let exported = run(&["export", sample.to_str().unwrap(), "-o", archive]).success();
    let piped = run(&["export", sample.to_str().unwrap()]).success();
    let part = run(&["export", sample.to_str().unwrap(), "--since", "1d"]).success();
    let keep = ["-o", "kept-{date}-{time}.zst", "--keep-daily", "1"];
    let kept = run(&[&["export", sample.to_str().unwrap()], &keep[..]].concat()).success();
    let results = [&piped, &part].map(|run| json(&run.stderr));
    let results = [&results[..], &[json(exported.text()), json(kept.text())]].concat();
    as_documented("export", &["rows", "filters"], &results);
    let verified = [result(&["verify", archive]), result(&["verify", "--row-digests", archive])];

    let printed = [&["cat", archive][..], &["cat", archive, "--stream", "sessions"]];
    let printed = printed.map(|args| json(&run(args).success().stderr));
    as_documented("cat", &["rows"], &printed);

    // without the one event that Postgres would refuse, but with the payload that it must adapt
    let whole = folder.path().join("whole.db");
    fs::copy(&sample, &whole).unwrap();
    let orphans = "DELETE FROM events WHERE session_id NOT IN (SELECT id FROM sessions)";
    assert_eq!(rusqlite::Connection::open(&whole).unwrap().execute(orphans, []).unwrap(), 1);
    run(&["export", "whole.db", "-o", "whole.ndjson.zst", "--label", "a name"]).success();
    let database = Cluster::get().database("json");
    let url = database.url();
    let adapt = ["--create", "--assume-tz", "America/Los_Angeles", "--on-unrepresentable", "adapt"];
    let results = [
        result(&["import", archive, "--to", "new.db", "--create"]),
        result(&["import", archive, "--to", "new.db", "--dry-run"]),
        result(&[&["import", "whole.ndjson.zst", "--to", &url], adapt.as_slice()].concat()),
    ];
    let against =
        ["verify", "whole.ndjson.zst", "--against", &url, "--assume-tz", "America/Los_Angeles"];
    let adapted = [&against[..], &["--on-unrepresentable", "adapt"]].concat();
    let proven = result(&adapted);
    database.psql("UPDATE chronicle_sessions SET project_path = 'elsewhere'");
    let disproven = json(run(&adapted).fails_with(15).text());
    let verified = [&verified[..], &[proven, disproven]].concat();
    as_documented(
        "verify",
        &["rows", "row_digests", "against.streams[].changed_columns"],
        &verified,
    );
    // a rule that only the server knows refuses a row as a whole
    let rules = Cluster::get().database("json_rules");
    rules.apply_file(fixture("postgres-upstream.sql"));
    rules.psql("ALTER TABLE chronicle_sessions ADD CHECK (length(project_path) % 2 = 0)");
    let left_out = [
        "--assume-tz",
        "America/Los_Angeles",
        "--on-unrepresentable",
        "reject",
        "--rejects",
        "r.zst",
    ];
    let rejecting = [&["import", "whole.ndjson.zst", "--to", &rules.url()], left_out.as_slice()];
    let rejected = json(run(&rejecting.concat()).fails_with(14).text());
    let results = [&results[..], &[rejected]].concat();
    as_documented("import", &[], &results);
    let copied = copy_results(folder.path(), &whole);
    as_documented("copy", &["sources[].rows", "sources[].filters"], &copied);

    let check = ["check", "whole.ndjson.zst", "--to"];
    let utc = ["--assume-tz", "America/Los_Angeles"];
    let rejecting = ["--on-unrepresentable", "reject"];
    let adapting = ["--on-unrepresentable", "adapt"];
    let fresh = Cluster::get().database("json_check");
    fresh.apply_file(fixture("postgres-upstream.sql"));
    let (fresh, rules) = (fresh.url(), rules.url());
    let checked = [
        result(&["check", archive]),
        result(&["check", sample.to_str().unwrap()]),
        json(run(&[&check[..], &[&fresh, "--strict"], &utc].concat()).fails_with(10).text()),
        json(
            run(&[&["check", archive, "--to", &fresh], &utc[..], &adapting].concat())
                .fails_with(12)
                .text(),
        ),
        json(run(&[&check[..], &[&rules], &utc, &rejecting].concat()).fails_with(14).text()),
    ];
    as_documented("check", &["rows"], &checked);
    as_documented("schema", &[], &[result(&["schema"]), result(&["schema", "hooks"])]);

    run(&["export", &url, "-o", "postgres.ndjson.zst"]).success();
    fs::write(folder.path().join("part.ndjson.zst"), part_of_a_chain()).unwrap();
    rows_with_numbers_of_another(folder.path());
    let both = "SUPABASE_URL=https://abcd.supabase.co\nNEXT_PUBLIC_CHRONICLE_MODE=local\n";
    fs::write(folder.path().join("both.env"), both).unwrap();
    let inspected =
        ["whole.ndjson.zst", "postgres.ndjson.zst", "part.ndjson.zst", "numbered.ndjson.zst"]
            .map(|name| result(&["inspect", name]));
    let counted =
        ["whole.ndjson.zst", "part.ndjson.zst"].map(|name| result(&["inspect", "--stats", name]));
    let inspected = [&inspected[..], &counted].concat();
    let open = ["filters", "streams[].columns", "source.numbers"];
    as_documented("inspect", &open, &inspected);
    undo_as_documented(folder.path(), &url);
    let write = ["env", "hooks", "--backend", "supabase", "--write", "hooks.env"];
    let printed = [
        result(&["env", "dashboard", "--backend", "sqlite"]),
        result(&write),
        result(&["env", "hooks", "--backend", "sqlite", "--write", "hooks.env"]),
        json(run(&["env", "--check", "both.env"]).fails_with(15).text()),
    ];
    as_documented("env", &[], &printed);
    let nightly = ["service", "print", "cron", "--from", "whole.db", "--sync-to", "new.db"];
    let dated = ["--from", "whole.db", "--archive-to", "kept-{date}.zst"];
    let dated = [&["service", "print", "systemd"], &dated[..]].concat();
    as_documented("service", &[], &[result(&nightly), result(&dated)]);
    as_documented("completions", &[], &[result(&["completions", "bash"])]);
    as_documented("man", &[], &[result(&["man"]), result(&["man", "--install", "manual"])]);

    // a column that only one side has, and a row of every kind of difference
    let changed = folder.path().join("changed.db");
    fs::copy(&whole, &changed).unwrap();
    let change = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE sessions SET git_branch = 'other'; \
                  UPDATE events SET id = 'new' WHERE rowid = 1; UPDATE sessions SET start_time = start_time || 'Z'";
    rusqlite::Connection::open(&changed).unwrap().execute_batch(change).unwrap();
    let differences = [["whole.db", "changed.db"], ["changed.db", "whole.db"]]
        .map(|[a, b]| json(run(&["diff", a, b]).fails_with(15).text()));
    as_documented("diff", &["streams[].changed_columns"], &differences);

    let bytes = fs::read(folder.path().join(archive)).unwrap();
    fs::write(folder.path().join("cut.ndjson.zst"), &bytes[..bytes.len() / 2]).unwrap();
    let errors = [
        json(run(&["verify", "cut.ndjson.zst"]).fails_with(4).text()),
        json(run(&["inspect", "missing.ndjson.zst"]).fails_with(7).text()),
        json(run(&["import", "cut.ndjson.zst", "--to", "new.db"]).fails_with(4).text()),
        json(run(&["export", "missing.db", "-o", "x"]).fails_with(7).text()),
        json(run(&["frobnicate"]).fails_with(2).text()),
    ];
    as_documented("error", &[], &errors);
    for (error, command) in errors.iter().zip(["verify", "inspect", "import", "export"]) {
        assert_eq!(error["command"], command);
        let (word, exit) = (&error["error"]["code"], &error["error"]["exit"]);
        let known = |code: &Code| *word == code.word() && *exit == code.exit();
        assert!(Code::ALL.iter().any(known), "{error}");
    }
}

/// The results of copies: of one that is looked at, of one with an archive that is kept, and of two sources, of which rows
/// are left out.
fn copy_results(folder: &Path, whole: &Path) -> Vec<Json> {
    let run = |args: &[&str]| {
        Program::new(["--json", "copy"].iter().chain(args)).current_dir(folder).run()
    };
    let server = Cluster::get().database("json_copy");
    server.apply_file(fixture("postgres-upstream.sql"));
    let url = server.url();
    let sample = fixture("sample-hooks.db");
    let from = ["--from", sample.to_str().unwrap()];
    let looked = [&from[..], &["--to", "copied.db", "--create", "--dry-run"]].concat();
    let kept = [&from[..], &["--to", "copied.db", "--create", "--tee", "kept.zst"]].concat();
    let adapt = [
        "--assume-tz=America/Los_Angeles",
        "--on-unrepresentable=reject",
        "--rejects=c-{source}.zst",
    ];
    let whole = whole.to_str().unwrap();
    let both =
        [&["--from", whole, "--from", "copied.db", "--orphans=skip", "--to", &url], &adapt[..]]
            .concat();
    let part = [&from[..], &["--to", "part.db", "--create", "--since=1d"]].concat();
    let mut results = [looked, kept, part].map(|args| json(run(&args).success().text())).to_vec();
    results.push(json(run(&both).fails_with(14).text()));
    results
}

/// The results of `restore`, `history` and `rollback`, with two databases into which archives were imported: a SQLite
/// file, and one on a server.
fn undo_as_documented(folder: &Path, url: &str) {
    let run = |args: &[&str]| Program::new(["--json"].iter().chain(args)).current_dir(folder).run();
    let result = |args: &[&str]| json(run(args).success().text());
    let adapt = ["--assume-tz", "America/Los_Angeles", "--on-unrepresentable", "adapt"];
    let file = rusqlite::Connection::open(folder.join("new.db")).unwrap();
    file.execute("DELETE FROM events", []).unwrap();
    let restored = [
        result(&["restore", "sample.ndjson.zst", "--to", "new.db", "--backup", "before.zst"]),
        result(&[&["restore", "whole.ndjson.zst", "--to", url], &adapt[..]].concat()),
    ];
    as_documented("restore", &[], &restored);
    // an import that fails, a rollback that is only looked at, one that is done, and one that undoes it
    let other = format!("sha256:{}", "0".repeat(64));
    let failed =
        ["import", "whole.ndjson.zst", "--to", "new.db", "--clear", "--expect", other.as_str()];
    run(&failed).fails_with(5);
    let looked = result(&["rollback", "last", "--from", "new.db", "--dry-run"]);
    let undone = result(&["rollback", "last", "--from", "new.db"]);
    let again = undone["batch_id"].as_str().expect("an id").to_owned();
    let redone = result(&["rollback", &again, "--from", "new.db"]);
    as_documented("rollback", &[], &[looked, undone, redone, stopped_by_a_column(folder)]);
    let history = |options: &[&str]| result(&[&["history", "new.db"], options].concat());
    let whole = history(&["--verify"]);
    let damage = "UPDATE chronicle_dump_receipts SET piece = zeroblob(9) WHERE batch_id = (SELECT max(batch_id) FROM chronicle_dump_receipts)";
    file.execute(damage, []).unwrap();
    let damaged = json(run(&["history", "new.db", "--verify"]).fails_with(3).text());
    let pruned = history(&["--prune", "--keep", "1"]);
    // as a process that was killed leaves its batch
    let killed = "UPDATE chronicle_dump_migration_history SET status = 'started', completed_at = NULL, \
                  details = json_set(details, '$.process', json('{\"pid\": 7, \"host\": \"here\"}')) \
                  WHERE id = (SELECT min(id) FROM chronicle_dump_migration_history)";
    file.execute(killed, []).unwrap();
    let half = half_history(folder);
    let [kept, noted] = ["kept.db", "noted.db"].map(|name| result(&["history", name]));
    as_documented(
        "history",
        &["batches[].numbers"],
        &[whole, damaged, pruned, history(&[]), result(&["history", "copy.db"]), half, kept, noted],
    );
}

/// An archive that says it is a part of something and continues another.
fn part_of_a_chain() -> Vec<u8> {
    let columns = [("id", Kind::Int), ("name", Kind::Text)].map(|(name, kind)| Column {
        name: name.into(),
        physical: name.into(),
        kind,
        nullable: true,
        time_text: TimeText::None,
    });
    let stream = Stream {
        name: "sessions".into(),
        table: "sessions".into(),
        columns: columns.into(),
        key: vec![0],
        order: vec![0],
    };
    let origin = Origin { backend: "sqlite".into(), ..Origin::default() };
    let mut header = Header::new(origin, std::slice::from_ref(&stream), 1 << 22);
    header.filters = Some([("since".to_owned(), "2025-01-01".to_owned())].into());
    header.base = Some(Base {
        digest: format!("sha256:{}", "0".repeat(64)),
        archive_id: "00000000-0000-0000-0000-000000000000".into(),
    });
    let options = WriterOptions::default();
    let mut writer = ArchiveWriter::create(Vec::new(), &header, vec![stream], options).unwrap();
    let mut batch = Batch::default();
    batch.start(0, 2, 1);
    batch.push(Value::Int(1));
    batch.push(Value::Text(b"one"));
    writer.write(&batch).unwrap();
    writer.finish().unwrap().0
}

#[test]
fn every_word_of_an_error_is_documented_with_its_exit_code() {
    let document = read("docs/json.md");
    let rows: BTreeMap<&str, u8> = (document.lines())
        .filter_map(|line| {
            let (word, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((word, rest.split_once(" | ")?.0.parse().ok()?))
        })
        .collect();
    let codes: BTreeMap<&str, u8> =
        Code::ALL.iter().map(|code| (code.word(), code.exit())).collect();
    assert_eq!(rows, codes);
}
