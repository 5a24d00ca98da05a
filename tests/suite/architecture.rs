//! The walls between the rooms of the source, held by reading the names that stand in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the source: its path below `src/`, its text, and its code without comments, strings and tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    /// Whether a name stands in the code as a word of its own.
    fn names(&self, word: &str) -> bool {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.code.match_indices(word).any(|(at, _)| {
            !is_part(self.code[..at].chars().next_back())
                && !is_part(self.code[at + word.len()..].chars().next())
        })
    }

    /// The top-level modules of the crate that the code names: `a` and `b` of `crate::{a::x, b}`.
    fn modules(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            first_segments(&self.code[at + "crate::".len()..], &mut found);
        }
        if self.path.contains('/') {
            for (at, _) in self.code.match_indices("super::super::") {
                first_segments(&self.code[at + "super::super::".len()..], &mut found);
            }
        }
        found
    }
}

fn first_segments(path: &str, found: &mut BTreeSet<String>) {
    let Some(group) = path.strip_prefix('{') else {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
        found.insert(path[..end].to_owned());
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                let item = group[start..at].trim_start();
                if !item.is_empty() {
                    first_segments(item, found);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// Every file below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let folder = Path::new(ROOT).join("src");
    let mut sources = Vec::new();
    for file in files(&folder) {
        let path = file.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        assert!(path.ends_with(".rs"), "src/{path}: only Rust files stand in src/");
        let text = fs::read_to_string(&file).unwrap();
        let shipped = text.split("\n#[cfg(test)]").next().unwrap();
        let code = without_comments_and_strings(shipped);
        sources.push(Source { path, text, code });
    }
    assert!(sources.len() > 20, "src/ was not found");
    sources
}

/// The code with its comments and the inside of its strings left out.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(end) = raw_string(rest).filter(|_| !ends_in_a_word(&code)) {
            end
        } else if c == '"' {
            string(rest)
        } else if let Some(end) = character(rest) {
            end
        } else {
            code.push(c);
            c.len_utf8()
        };
        if skip > c.len_utf8() {
            code.push(' ');
        }
        rest = &rest[skip..];
    }
    code
}

fn ends_in_a_word(code: &str) -> bool {
    // the b of a byte string belongs to it
    let code = code.strip_suffix('b').unwrap_or(code);
    code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The length of a raw string such as `r#"..."#`.
fn raw_string(text: &str) -> Option<usize> {
    let hashes: String = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').collect();
    let start = 1 + hashes.len();
    text[start..].strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let length = text[start + 1..].find(&end).map(|at| start + 1 + at + end.len());
    Some(length.unwrap_or(text.len()))
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `'x'` or `'\n'`; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return escape[first..].find('\'').map(|at| 2 + first + at + 1);
    }
    let first = inside.chars().next()?.len_utf8();
    inside[first..].starts_with('\'').then_some(1 + first + 1)
}

/// A word may stand only in these rooms.
fn only_in(word: &str, rooms: &[&str]) {
    let mut seen = false;
    for source in sources().iter().filter(|source| source.names(word)) {
        assert!(
            source.is_in(rooms),
            "src/{} names {word}, which belongs to {rooms:?}",
            source.path
        );
        seen = true;
    }
    assert!(seen, "nobody names {word} any more: mend this test");
}

/// A file or room names no module of the crate but these.
fn knows_only(room: &str, modules: &[&str]) {
    let sources = sources();
    let inside: Vec<&Source> = sources.iter().filter(|source| source.is_in(&[room])).collect();
    assert!(!inside.is_empty(), "there is no src/{room}");
    for source in inside {
        for module in source.modules() {
            assert!(
                modules.contains(&module.as_str()),
                "src/{} knows {module}, but src/{room} may know only {modules:?}",
                source.path
            );
        }
    }
}

#[test]
fn the_reader_of_sources_sees_code_and_nothing_else() {
    let text = "use crate::{a, b::{c, d}, e};\n// tokio\nlet x = \"print!\\\" clap\"; 'q' '\"' r#\"zstd\"# /* serde */\n\
                fn f<'a>(s: &'a str) { crate::g::h() }";
    let code = without_comments_and_strings(text);
    let source = Source { path: "x.rs".into(), text: text.into(), code };
    for hidden in ["tokio", "print", "clap", "zstd", "serde", "q"] {
        assert!(!source.names(hidden), "{hidden}: {}", source.code);
    }
    assert!(source.names("str") && !source.names("st"), "{}", source.code);
    assert_eq!(source.modules().into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g"]);
}

#[test]
fn each_driver_lives_in_one_room() {
    only_in("rusqlite", &["sqlite/"]);
    only_in("tokio_postgres", &["postgres/"]);
    only_in("rustls", &["postgres/"]);
    only_in("tokio_postgres_rustls", &["postgres/"]);
}

#[test]
fn the_command_line_and_every_printed_word_live_in_one_room() {
    for word in ["clap", "clap_mangen", "indicatif", "stdin", "stdout", "stderr"] {
        only_in(word, &["cli/"]);
    }
    for source in sources() {
        for print in ["print", "println", "eprint", "eprintln", "dbg"] {
            assert!(!source.code.contains(&format!("{print}!")), "src/{}: {print}!", source.path);
        }
    }
}

#[test]
fn the_archive_knows_no_database_and_no_runtime() {
    knows_only("archive/", &["archive", "cancel", "error", "progress", "record", "time"]);
    for source in sources().iter().filter(|source| source.is_in(&["archive/"])) {
        for word in ["tokio", "futures"] {
            assert!(!source.names(word), "src/{} names {word}", source.path);
        }
    }
}

#[test]
fn export_and_import_meet_only_in_the_archive() {
    knows_only("export.rs", &["archive", "cancel", "error", "progress", "record", "source"]);
    knows_only(
        "import.rs",
        &[
            "archive",
            "cancel",
            "error",
            "archive_input",
            "plan",
            "progress",
            "record",
            "rejects",
            "sidecar",
            "shape",
            "shaping",
            "target",
        ],
    );
    knows_only("archive_input.rs", &["archive", "cancel", "error", "progress", "record"]);
    knows_only(
        "shaping.rs",
        &["archive", "error", "archive_input", "plan", "record", "shape", "target"],
    );
    knows_only("verify.rs", &["archive", "cancel", "error", "progress", "record"]);
}

#[test]
fn the_two_databases_know_nothing_of_each_other_and_nobody_knows_both_but_location() {
    for source in sources() {
        let modules = source.modules();
        let (sqlite, postgres) = (modules.contains("sqlite"), modules.contains("postgres"));
        match source.path.as_str() {
            "location.rs" => assert!(sqlite && postgres, "location.rs names both"),
            // a file is told to be Chronicle's by a look into it
            "discover.rs" => {
                assert!(!postgres && source.code.contains("crate::sqlite::probe"), "discover.rs");
            }
            path => {
                assert!(!sqlite || path.starts_with("sqlite/"), "src/{path} names sqlite");
                assert!(!postgres || path.starts_with("postgres/"), "src/{path} names postgres");
            }
        }
    }
}

#[test]
fn comparing_knows_no_database_and_the_spool_shows_none() {
    knows_only(
        "compare/",
        &[
            "archive",
            "cancel",
            "error",
            "archive_input",
            "layout",
            "plan",
            "progress",
            "record",
            "source",
            "spill",
            "time",
        ],
    );
    // the spill is a map that happens to be kept by SQLite: it has a name of its own outside of
    // the room, and what can be called from there names no type of the driver
    let sources = sources();
    let code = |path: &str| &sources.iter().find(|s| s.path == path).expect(path).code;
    assert!(code("lib.rs").contains("pub use sqlite::spill;"));
    let own = code("sqlite/spill.rs").lines().map(str::trim).filter(|l| l.starts_with("pub "));
    assert!(own.clone().count() > 4, "the spill has lost its functions: mend this test");
    for line in own {
        for word in ["rusqlite", "Connection", "Statement", "ToSql"] {
            assert!(!line.contains(word), "src/sqlite/spill.rs shows {word}: {line}");
        }
    }
}

#[test]
fn both_rooms_of_a_database_know_only_what_travels() {
    let common = [
        "archive", "cancel", "error", "ids", "layout", "plan", "readback", "record", "sidecar",
        "shape", "skip", "source", "target", "time",
    ];
    for room in ["sqlite", "postgres"] {
        let modules: Vec<&str> = common.into_iter().chain([room]).collect();
        knows_only(&format!("{room}/"), &modules);
    }
}

#[test]
fn every_file_of_the_source_says_what_it_is() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "src/{} opens without a `//!` line", source.path);
    }
}

#[test]
fn nothing_is_left_to_do() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let folders = ["src", "tests", "examples", "benches", "schemas", "docs", ".ci"];
    let mut all: Vec<PathBuf> =
        folders.iter().flat_map(|f| files(&Path::new(ROOT).join(f))).collect();
    all.extend(["README.md", "CHANGELOG.md", "Cargo.toml"].map(|name| Path::new(ROOT).join(name)));
    for file in all {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for mark in marks {
            assert!(!text.contains(mark), "{}: {mark}", file.display());
        }
    }
}

/// The lines of a table of Cargo.toml.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = manifest.lines().skip_while(|line| *line != format!("[{name}]"));
    assert!(lines.next().is_some(), "Cargo.toml has no [{name}]");
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.trim().is_empty()).collect()
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    for name in ["dependencies", "dev-dependencies"] {
        for line in table(&manifest, name).into_iter().filter(|line| !line.starts_with('#')) {
            let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
            assert!(reason.len() > 3, "no reason: {line}");
        }
    }
}

#[test]
fn the_lints_table_holds_and_nobody_steps_out_of_it() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let (rust, clippy) = (table(&manifest, "lints.rust"), table(&manifest, "lints.clippy"));
    for (lines, lints) in [
        (&rust, ["unsafe_code", "missing_docs"].as_slice()),
        (
            &clippy,
            &["print_stdout", "print_stderr", "unwrap_used", "expect_used", "panic", "dbg_macro"],
        ),
    ] {
        for lint in lints {
            let denied = format!("{lint} = \"deny\"");
            assert!(lines.iter().any(|line| line.starts_with(&denied)), "{lint} is not denied");
        }
    }
    for source in sources() {
        assert!(!source.code.contains("#![allow"), "src/{} allows for a whole file", source.path);
        for lint in ["print_std", "unwrap_used", "expect_used", "clippy::panic"] {
            assert!(!source.code.contains(lint), "src/{} steps out of {lint}", source.path);
        }
    }
}

#[test]
fn no_second_crypto_library_is_in_the_lock_file() {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"ring\""), "the one that is wanted");
    for name in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{name}\"")), "{name} is in Cargo.lock");
    }
}

/// Features are joined over all dependencies, so what serde_json does is looked at, not what Cargo.toml asks for.
#[test]
fn serde_json_keeps_its_plain_numbers_and_sorted_keys() {
    let number: serde_json::Value = serde_json::from_str("1.10").unwrap();
    assert_eq!(number.to_string(), "1.1", "arbitrary_precision is on");
    let object: serde_json::Value = serde_json::from_str("{\"b\":1,\"a\":2}").unwrap();
    assert_eq!(object.to_string(), "{\"a\":2,\"b\":1}", "preserve_order is on");
}
