//! What README.md shows is run for real, and what it promises names a test that exists.

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

/// The only blocks that are shown and not run.
const NOT_RUN: [&str; 2] = ["tests/run\n", "benches/run\n"];

/// What stands for the programs that reach out of the test: `cargo run` is the program that is there, `ssh` a shell
/// of this machine.
const STAND_INS: [(&str, &str); 2] = [
    (
        "cargo",
        "#!/bin/sh\n[ \"$1 $2 $3 $4\" = 'run --release --quiet --' ] || exit 99\nshift 4\nexec chronicle-dump \"$@\"\n",
    ),
    ("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"),
];

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

/// A block of shell commands, and what the comment above it says.
struct Block {
    line: usize,
    text: String,
    comment: String,
}

impl Block {
    /// The programs that it needs and that nothing here brings along.
    fn needs(&self) -> impl Iterator<Item = &str> {
        let named = self.comment.strip_prefix("needs: ").unwrap_or_default();
        named.split_whitespace()
    }
}

fn blocks() -> Vec<Block> {
    let text = readme();
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
    assert!(open.is_none(), "a block of README.md is not closed");
    blocks
}

/// What a reader of the recipes has: the program, Chronicle's database in its place, and a Supabase-like server.
struct Reader {
    folder: TempDir,
    home: PathBuf,
    database: Database,
}

impl Reader {
    fn new() -> Reader {
        let folder = workdir("readme");
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
        let database = Cluster::get().database("readme");
        database.apply_file(Path::new(ROOT).join("schemas/ddl/postgres-upstream.sql"));
        Reader { folder, home, database }
    }

    fn work(&self, file: &str) -> PathBuf {
        self.folder.path().join("work").join(file)
    }

    fn chronicle(&self) -> PathBuf {
        self.home.join(".claude/hooks/chronicle/data/chronicle.db")
    }

    /// Runs a block as a person would type it, and gives what it printed.
    fn run(&self, block: &Block) -> String {
        let port = self.database.port().to_string();
        let mut path = OsString::from(self.folder.path().join("programs"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut child = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block.text])
            .current_dir(self.work(""))
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home)
            .env(
                "DATABASE_URL",
                format!("postgresql://{OWNER}@127.0.0.1:{port}/{}", self.database.name()),
            )
            .envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", OWNER)])
            .envs([("PGDATABASE", self.database.name()), ("PGPASSWORD", PASSWORD)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // what `read` asks for; blocks that do not read leave it alone
        let _ = child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes());
        let output = child.wait_with_output().unwrap();
        let shown = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(
            output.status.success(),
            "README.md, line {}: {}\n{}--- stdout\n{}--- stderr\n{}",
            block.line,
            output.status,
            block.text,
            shown[0],
            shown[1]
        );
        let shown = shown.concat();
        assert!(!shown.contains(PASSWORD), "README.md, line {}: the password is shown", block.line);
        shown
    }
}

/// A database as the hooks leave it, without the rows that Postgres cannot hold: an orphan, and odd payloads.
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

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[test]
fn every_command_that_is_shown_works() {
    let reader = Reader::new();
    let mut said = String::new();
    for block in blocks() {
        if block.comment.starts_with("not run") {
            assert!(NOT_RUN.contains(&block.text.as_str()), "line {}: must be run", block.line);
            continue;
        }
        let missing: Vec<&str> = block.needs().filter(|program| !is_installed(program)).collect();
        if missing.is_empty() {
            said.push_str(&reader.run(&block));
        } else {
            println!("README.md, line {}: not run, for want of {}", block.line, missing.join(", "));
        }
    }
    let original = sqlite_dump(&reader.chronicle());
    assert!(original.len() > 100, "the database of the recipes is not empty");
    for copy in ["restored.db", "from-laptop.db", "expected.db"] {
        assert_same_rows(&original, &sqlite_dump(&reader.work(copy)));
    }
    assert_eq!(sqlite_dump(&reader.work("from-supabase.db")).len(), original.len());
    assert_eq!(postgres_dump(&reader.database).len(), original.len());
    let row_digests: BTreeSet<&str> =
        said.split_whitespace().filter(|word| word.starts_with("lrd1:")).collect();
    assert_eq!(row_digests.len(), 2, "one of sessions and one of events, in both archives: {said}");
    for words in ["taking ", "a dry run, nothing was changed", "nothing has changed", "whole, "] {
        assert!(said.contains(words), "nothing said: {words}\n{said}");
    }
}

#[test]
fn the_main_job_and_all_tests_are_one_command_each() {
    let blocks = blocks();
    let first = &blocks[0].text;
    assert_eq!(first.lines().count(), 1);
    assert!(
        first.starts_with("cargo run ") && first.contains("fixtures/databases/sample-hooks.db")
    );
    assert_eq!(blocks[1].text, "tests/run\n");
    for command in ["tests/run", ".ci/run", "benches/run"] {
        let file = fs::metadata(Path::new(ROOT).join(command)).unwrap();
        assert!(file.permissions().mode() & 0o111 != 0, "{command} cannot be run");
        assert!(readme().contains(command), "README.md does not name {command}");
    }
}

/// Rows of the table of promises: what stands in its second column.
#[test]
fn every_promise_names_tests_that_exist() {
    let text = readme();
    let rows: Vec<&str> = (text.lines())
        .skip_while(|line| *line != "| promised | tried by | seen |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(rows.len() > 5, "the table of promises was not found");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, promise, tests, seen, _] = cells[..] else { panic!("not three cells: {row}") };
        assert!(!promise.is_empty() && !seen.is_empty(), "{row}");
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for test in named {
            let (module, name) =
                test.rsplit_once("::").unwrap_or_else(|| panic!("no module: {test}"));
            let module = module.replace("::", "/");
            let places = [format!("tests/suite/{module}.rs"), format!("src/{module}.rs")];
            let found = places.iter().any(|place| {
                let text = fs::read_to_string(Path::new(ROOT).join(place)).unwrap_or_default();
                text.contains(&format!("fn {name}("))
            });
            assert!(found, "there is no test {test}");
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    for document in
        ["README.md", "CHANGELOG.md", "docs/json.md", "docs/readers.md", "schemas/archive.md"]
    {
        let path = Path::new(ROOT).join(document);
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{document}: {target} leads nowhere");
            let there = || anchors(&fs::read_to_string(&file).unwrap());
            assert!(
                anchor.is_empty() || there().contains(anchor),
                "{document}: no heading {target}"
            );
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
