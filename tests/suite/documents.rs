//! What the documents show is run for real, and what they name exists: files, headings, tests and functions.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::cluster::{Cluster, Database, OWNER, PASSWORD};
use crate::support::files::{assert_same_rows, postgres_dump, sqlite_dump, sqlite_from, workdir};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The steps of Chronicle's migration tutorial.
const MIGRATION: &str = "docs/migrating-chronicle.md";

/// The blocks that are shown and not run, each with the document that may have it.
const NOT_RUN: [(&str, &str); 6] = [
    ("README.md", "cargo install --path .\n"),
    ("README.md", "tests/run\n"),
    ("docs/performance.md", "benches/run\n"),
    (
        MIGRATION,
        "echo '{\"session_id\":\"test-migration\",\"tool_name\":\"Read\",\"file_path\":\"test.txt\"}' | \
         python ~/.claude/hooks/chronicle/hooks/pre_tool_use.py\n\
         curl -s -o /dev/null -w \"%{http_code}\\n\" http://localhost:3000/api/health\n",
    ),
    (
        MIGRATION,
        "chronicle-dump copy --from \"$OLD_DATABASE_URL\" --from-password-file old-password --to \"$DATABASE_URL\"\n\
         chronicle-dump diff \"$OLD_DATABASE_URL\" \"$DATABASE_URL\" --summary\n",
    ),
    (
        "CONTRIBUTING.md",
        "cargo check --all-targets\ntests/run --test suite diff::\ntests/run --test suite help::\n",
    ),
];

/// Stand-ins for programs that reach out of the test: `cargo run` runs the program under test, `ssh` a shell here.
const STAND_INS: [(&str, &str); 2] = [
    (
        "cargo",
        "#!/bin/sh\n[ \"$1 $2 $3 $4\" = 'run --release --quiet --' ] || exit 99\nshift 4\nexec chronicle-dump \"$@\"\n",
    ),
    ("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"),
];

fn read(document: &str) -> String {
    let path = Path::new(ROOT).join(document);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every document whose commands are run: the two at the root, and all in `docs/`.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            found.push(format!("docs/{name}"));
        }
    }
    found.sort();
    found
}

// ---- commands ---------------------------------------------------------------------------------

/// A block of shell commands, and the comment above it.
struct Block {
    line: usize,
    text: String,
    comment: String,
}

impl Block {
    /// The programs that it needs and that the tests do not bring along.
    fn missing_programs(&self) -> Vec<&str> {
        let named = self.comment.strip_prefix("needs: ").unwrap_or_default();
        named.split_whitespace().filter(|program| !is_installed(program)).collect()
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn blocks(document: &str) -> Vec<Block> {
    let text = read(document);
    let mut blocks = Vec::new();
    let (mut above, mut open) = ("", None::<Block>);
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => block.text.push_str(&format!("{line}\n")),
            None if line == "```sh" => {
                let comment = above.strip_prefix("<!-- ").and_then(|c| c.strip_suffix(" -->"));
                let comment = comment.unwrap_or_default().to_owned();
                open = Some(Block { line: number + 1, text: String::new(), comment });
            }
            None => {}
        }
        above = line;
    }
    assert!(open.is_none(), "a block of {document} is not closed");
    blocks
}

/// What a reader of a document has: the program, Chronicle's database in its place, and a server if a block needs one.
struct Reader {
    document: String,
    folder: TempDir,
    home: PathBuf,
    database: Option<Database>,
    /// Everything that the blocks printed.
    printed: String,
}

impl Reader {
    /// Runs every block of a document, in its order, in a fresh folder.
    fn follow(document: &str) -> Reader {
        Reader::follow_into(document, "upstream", "")
    }

    /// The same with a project that has the tables of a layout, and with more options for what goes into it.
    fn follow_into(document: &str, layout: &str, more: &str) -> Reader {
        let mut blocks = blocks(document);
        for block in &mut blocks {
            let line = |line: &str| match line.split_whitespace().nth(1) {
                Some("copy" | "verify") if line.contains("--assume-tz") => {
                    format!("{line} {more}\n")
                }
                _ => format!("{line}\n"),
            };
            block.text = block.text.lines().map(line).collect();
        }
        let mut reader = Reader::new(document);
        if blocks.iter().any(|b| b.text.contains("$DATABASE_URL") || b.text.contains("$PGHOST")) {
            let database = Cluster::get().database("documents");
            let ddl = format!("schemas/ddl/postgres-{layout}.sql");
            database.apply_file(Path::new(ROOT).join(ddl));
            reader.database = Some(database);
        }
        for block in blocks {
            let missing = block.missing_programs();
            if block.comment.starts_with("not run") {
                let known = NOT_RUN.contains(&(document, block.text.as_str()));
                assert!(known, "{document}, line {}: must be run", block.line);
            } else if missing.is_empty() {
                reader.run(&block);
            } else {
                let missing = missing.join(", ");
                println!("{document}, line {}: not run, {missing} is not installed", block.line);
            }
        }
        reader
    }

    fn new(document: &str) -> Reader {
        let folder = workdir("documents");
        let home = folder.path().join("home");
        let programs = folder.path().join("programs");
        let work = folder.path().join("work");
        for folder in [&home.join(".claude/hooks/chronicle/data"), &programs, &work] {
            fs::create_dir_all(folder).unwrap();
        }
        chronicles_database(&home.join(".claude/hooks/chronicle/data/chronicle.db"));
        let password_file = home.join(".supabase-password");
        fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(env!("CARGO_BIN_EXE_chronicle-dump"), programs.join("chronicle-dump")).unwrap();
        for (name, script) in STAND_INS {
            fs::write(programs.join(name), script).unwrap();
            fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(Path::new(ROOT).join("fixtures"), work.join("fixtures")).unwrap();
        let (document, printed) = (document.to_owned(), String::new());
        Reader { document, folder, home, database: None, printed }
    }

    fn work(&self, file: &str) -> PathBuf {
        self.folder.path().join("work").join(file)
    }

    /// The rows of Chronicle's own database.
    fn original(&self) -> Vec<String> {
        sqlite_dump(&self.home.join(".claude/hooks/chronicle/data/chronicle.db"))
    }

    /// Runs a block as a person would type it.
    fn run(&mut self, block: &Block) {
        let mut path = OsString::from(self.folder.path().join("programs"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &block.text])
            .current_dir(self.work(""))
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(database) = &self.database {
            let (port, name) = (database.port().to_string(), database.name());
            let url = format!("postgresql://{OWNER}@127.0.0.1:{port}/{name}");
            command
                .env("DATABASE_URL", url)
                .envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", OWNER)])
                .envs([("PGDATABASE", name), ("PGPASSWORD", PASSWORD)]);
        }
        let mut child = command.spawn().unwrap();
        // the answer to `read`; blocks that do not read ignore it
        let _ = child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes());
        let output = child.wait_with_output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let place = format!("{}, line {}", self.document, block.line);
        assert!(
            output.status.success(),
            "{place}: {}\n{}--- stdout\n{stdout}--- stderr\n{stderr}",
            output.status,
            block.text
        );
        let shows_password = stdout.contains(PASSWORD) || stderr.contains(PASSWORD);
        assert!(!shows_password, "{place}: the password is shown");
        self.printed.push_str(&(stdout + &stderr));
    }
}

/// A database as the hooks leave it, without the rows that Postgres cannot store: an orphan, and odd payloads.
fn chronicles_database(path: &Path) {
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], path, "wal");
    let connection = Connection::open(path).unwrap();
    for odd in [
        "session_id NOT IN (SELECT id FROM sessions)",
        "data LIKE '%\\u0000%'",
        "NOT json_valid(data)",
        "data LIKE '%\\ud8__ %'",
    ] {
        assert_eq!(connection.execute(&format!("DELETE FROM events WHERE {odd}"), []).unwrap(), 1);
    }
}

#[test]
fn commands_of_the_readme_work() {
    let reader = Reader::follow("README.md");
    let original = reader.original();
    assert!(original.len() > 100, "the database of the recipes is not empty");
    assert_same_rows(&original, &sqlite_dump(&reader.work("from-laptop.db")));
    assert_eq!(sqlite_dump(&reader.work("from-supabase.db")).len(), original.len());
    assert_eq!(postgres_dump(reader.database.as_ref().unwrap()).len(), original.len());
}

#[test]
fn commands_of_the_guide_work() {
    let reader = Reader::follow("docs/guide.md");
    let original = reader.original();
    for copy in ["restored.db", "from-laptop.db", "expected.db", "proven.db"] {
        assert_same_rows(&original, &sqlite_dump(&reader.work(copy)));
    }
    assert_eq!(sqlite_dump(&reader.work("from-supabase.db")).len(), original.len());
    assert_eq!(postgres_dump(reader.database.as_ref().unwrap()).len(), original.len());
    let row_digests: BTreeSet<&str> =
        reader.printed.split_whitespace().filter(|word| word.starts_with("lrd1:")).collect();
    assert_eq!(row_digests.len(), 2, "sessions and events, the same in both archives");
    assert!(reader.printed.contains("nothing has changed"), "{}", reader.printed);
}

#[test]
fn the_migration_tutorial_works_with_every_layout() {
    let tutorial = "--map-event-types tutorial";
    for (layout, more) in [("upstream", ""), ("seed", tutorial), ("guide", tutorial)] {
        let reader = Reader::follow_into(MIGRATION, layout, more);
        // there, back, rolled back and restored: judged by the rows themselves
        let original = reader.original();
        assert_same_rows(&original, &sqlite_dump(&reader.work("local.db")));
        let server = reader.database.as_ref().unwrap();
        let left = "SELECT (SELECT count(*) FROM chronicle_sessions) + (SELECT count(*) FROM chronicle_events)";
        assert_eq!(server.psql(left), "0", "{layout}");
        let batches = "SELECT string_agg(status, ' ' ORDER BY started_at) FROM migration_history";
        let batches = match server.psql("SELECT to_regclass('migration_history')").is_empty() {
            true => batches.replace("migration_history", "chronicle_dump.migration_history"),
            false => batches.to_owned(),
        };
        assert_eq!(server.psql(&batches), "rolled_back completed", "{layout}");
        let paths = "SELECT count(*) || ' ' || sum(project_path LIKE '/Users/%') FROM sessions";
        let part = Connection::open(reader.work("part.db")).unwrap();
        let moved: String = part.query_row(paths, [], |row| row.get(0)).unwrap();
        let (all, moved) = moved.split_once(' ').unwrap();
        assert!(all == moved && all != "0", "{all} of which {moved} are moved");
    }
}

#[test]
fn commands_of_the_other_documents_work() {
    let own_tests = ["README.md", "docs/guide.md", MIGRATION];
    let mut shown = 0;
    for document in documents().iter().filter(|d| !own_tests.contains(&d.as_str())) {
        shown += blocks(document).len();
        Reader::follow(document);
    }
    assert!(shown >= 8, "only {shown} blocks were found");
}

// ---- form -------------------------------------------------------------------------------------

/// The longest line of prose; tables and commands may be longer.
const WIDTH: usize = 130;

#[test]
fn readme_is_short() {
    let text = read("README.md");
    assert!(text.lines().count() <= 160, "README.md has more than 160 lines");
    let mut is_code = false;
    for (number, line) in text.lines().enumerate() {
        is_code ^= line.starts_with("```");
        let may_be_long = is_code || line.starts_with('|');
        let width = line.chars().count();
        assert!(may_be_long || width <= WIDTH, "README.md, line {}: {width} wide", number + 1);
    }
}

#[test]
fn the_main_job_and_all_tests_are_one_command_each() {
    let blocks = blocks("README.md");
    let first = &blocks[0].text;
    assert_eq!(first.lines().count(), 1);
    assert!(
        first.starts_with("cargo run ") && first.contains("fixtures/databases/sample-hooks.db")
    );
    assert!(blocks.iter().any(|block| block.text == "tests/run\n"));
    for (command, document) in [
        ("tests/run", "README.md"),
        ("benches/run", "docs/performance.md"),
        (".ci/run", "CONTRIBUTING.md"),
    ] {
        let file = fs::metadata(Path::new(ROOT).join(command)).unwrap();
        assert!(file.permissions().mode() & 0o111 != 0, "{command} cannot be run");
        assert!(read(document).contains(command), "{document} does not name {command}");
    }
}

#[test]
fn readme_links_every_document() {
    let readme = read("README.md");
    for document in documents().iter().filter(|document| *document != "README.md") {
        assert!(readme.contains(&format!("]({document})")), "README.md has no link to {document}");
    }
}

// ---- what is named exists ---------------------------------------------------------------------

/// The cells of a table's rows, in a text that starts before its head.
fn rows<'a>(text: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let cells = |row: &'a str| row.trim_matches('|').split('|').map(str::trim).collect();
    let lines = text.lines().skip_while(|line| *line != head).skip(2);
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Whether a file defines a function.
fn defines(file: &str, function: &str) -> bool {
    let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_default();
    ["(", "<"].iter().any(|end| text.contains(&format!("fn {function}{end}")))
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = read("docs/guarantees.md");
    let promises = rows(&text, "| promised | tried by | seen |");
    assert!(promises.len() > 5, "the table of promises was not found");
    for row in promises {
        let [promise, tests, seen] = row[..] else { panic!("not three cells: {row:?}") };
        assert!(!promise.is_empty() && !seen.is_empty(), "{row:?}");
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row:?}");
        for test in named {
            let (module, name) = test.rsplit_once("::").expect("a module before the test's name");
            let module = module.replace("::", "/");
            let exists = ["tests/suite", "src", "crates/archive/src"].iter().any(|folder| {
                defines(&format!("{folder}/{module}.rs"), name)
                    || defines(&format!("{folder}/{module}/mod.rs"), name)
            });
            assert!(exists, "there is no test {test}");
        }
    }
}

/// The most calls from `main` to the database.
const LONGEST_CHAIN: usize = 12;

#[test]
fn call_chains_name_functions_that_exist_and_never_climb_back() {
    const HEAD: &str = "| call | file | what it does |";
    let text = read("docs/architecture.md");
    let chains: Vec<_> = text.match_indices(HEAD).map(|(at, _)| rows(&text[at..], HEAD)).collect();
    assert!(chains.len() >= 4, "export, import, check and diff have a chain each");
    for chain in chains {
        assert!((3..=LONGEST_CHAIN).contains(&chain.len()), "{} calls: {chain:?}", chain.len());
        let mut left = Vec::new();
        let mut current = "";
        for row in chain {
            let [call, file, _] = row[..] else { panic!("not three cells: {row:?}") };
            let (call, file) = (call.trim_matches('`'), file.trim_matches('`'));
            assert!(defines(file, call), "{file} has no function {call}");
            if file != current {
                assert!(!left.contains(&file), "the chain returns to {file}");
                left.push(std::mem::replace(&mut current, file));
            }
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    let others = ["CHANGELOG.md", "schemas/archive.md", "schemas/layouts/README.md"];
    for document in documents().iter().map(String::as_str).chain(others) {
        let path = Path::new(ROOT).join(document);
        let text = read(document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{document}: {target} leads nowhere");
            let is_there = || anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
            assert!(anchor.is_empty() || is_there(), "{document}: no heading {target}");
        }
    }
}

/// The names that headings get where Markdown is shown: lower case, without punctuation, `-` for blanks.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let clean = |c: char| match c {
        ' ' => Some('-'),
        _ if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    headings.map(|heading| heading.chars().filter_map(clean).collect()).collect()
}
