//! The boundaries between the modules of the source, checked by the names in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the source: its path below `src/` (of the archive's crate below `crates/`), its text, its shipped text
/// without tests, and its code without comments and strings.
pub(crate) struct Source {
    path: String,
    text: String,
    shipped: String,
    code: String,
}

impl Source {
    /// Its path below the sources.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The texts in quotes of the shipped code, as the program has them.
    pub(crate) fn strings(&self) -> Vec<String> {
        let (mut found, mut rest) = (Vec::new(), self.shipped.as_str());
        while let Some(c) = rest.chars().next() {
            let skip = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if c == '"' {
                let end = string(rest);
                let lines = rest[1..end - 1].split("\\\n").map(str::trim_start);
                let text = lines.collect::<String>();
                found.push(text.replace("\\\"", "\"").replace("\\n", "\n"));
                end
            } else {
                character(rest).unwrap_or(c.len_utf8())
            };
            rest = &rest[skip..];
        }
        found
    }

    fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    /// Whether a name occurs in the code as a word of its own.
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

/// The files of the root package.
pub(crate) fn sources() -> Vec<Source> {
    read_sources("src", "")
}

/// The files of the archive's crate.
pub(crate) fn archive_sources() -> Vec<Source> {
    read_sources("crates/archive/src", "crates/archive/")
}

fn read_sources(folder: &str, prefix: &str) -> Vec<Source> {
    let folder = Path::new(ROOT).join(folder);
    let read = |file: PathBuf| {
        let path = format!("{prefix}{}", file.strip_prefix(&folder).unwrap().to_str().unwrap());
        assert!(path.ends_with(".rs"), "{path}: only Rust files belong in a source folder");
        let text = fs::read_to_string(&file).unwrap();
        let tests = ["\n#[cfg(test)]\nmod tests", "\n#[cfg(test)]\n#[allow"];
        let end = tests.iter().filter_map(|start| text.find(start)).min();
        let shipped = text[..end.unwrap_or(text.len())].to_owned();
        let code = without_comments_and_strings(&shipped);
        Source { path, text, shipped, code }
    };
    let sources: Vec<Source> = files(&folder).into_iter().map(read).collect();
    assert!(sources.len() > 20, "{} was not found", folder.display());
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

/// A word may occur only in these modules.
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

#[test]
fn the_reader_of_sources_sees_code_and_nothing_else() {
    let text = "use crate::{a, b::{c, d}, e};\n// tokio\nlet x = \"print!\\\" clap\"; 'q' '\"' r#\"zstd\"# /* serde */\n\
                fn f<'a>(s: &'a str) { crate::g::h() }";
    let code = without_comments_and_strings(text);
    let source = Source { path: "x.rs".into(), text: text.into(), shipped: text.into(), code };
    for hidden in ["tokio", "print", "clap", "zstd", "serde", "q"] {
        assert!(!source.names(hidden), "{hidden}: {}", source.code);
    }
    assert!(source.names("str") && !source.names("st"), "{}", source.code);
    assert_eq!(source.modules().into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g"]);
}

#[test]
fn each_driver_lives_in_one_room() {
    only_in("rusqlite", &["sqlite/", "spill.rs"]);
    only_in("tokio_postgres", &["postgres/"]);
    only_in("rustls", &["postgres/"]);
    only_in("tokio_postgres_rustls", &["postgres/"]);
}

#[test]
fn the_command_line_and_every_printed_word_live_in_one_room() {
    for word in ["clap", "clap_complete", "clap_mangen", "indicatif", "stdin", "stdout", "stderr"] {
        only_in(word, &["cli/"]);
    }
    for source in sources() {
        for print in ["print", "println", "eprint", "eprintln", "dbg"] {
            assert!(!source.code.contains(&format!("{print}!")), "src/{}: {print}!", source.path);
        }
    }
}

#[test]
fn the_archive_crate_knows_no_database_runtime_or_clock() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("crates/archive/Cargo.toml")).unwrap();
    for word in ["rusqlite", "tokio", "futures", "clap", "libc", "iana-time-zone"] {
        assert!(!manifest.contains(word), "crates/archive depends on {word}");
    }
    for source in archive_sources() {
        for word in ["SystemTime", "Utc::now", "env::var"] {
            assert!(!source.code.contains(word), "{} asks for {word}", source.path);
        }
    }
}

/// A module names none of these others.
fn never_names(room: &str, modules: &[&str]) {
    for source in sources().iter().filter(|source| source.is_in(&[room])) {
        for module in source.modules() {
            assert!(
                !modules.contains(&module.as_str()),
                "src/{} names {module}, which src/{room} must not know",
                source.path
            );
        }
    }
}

#[test]
fn what_is_decided_knows_neither_ends_nor_backends() {
    let ends = ["source", "load", "sqlite", "postgres", "cli"];
    for room in ["catalog/", "policy.rs", "plan/"] {
        never_names(room, &ends);
    }
    never_names("transform/", &["sqlite", "postgres", "cli"]);
    never_names("import/", &["sqlite", "postgres", "cli"]);
    never_names("export.rs", &["sqlite", "postgres", "cli", "plan", "transform", "load"]);
    never_names("diff/", &["sqlite", "postgres", "cli"]);
    never_names("history.rs", &["sqlite", "postgres", "cli", "undo", "load", "source"]);
    never_names("undo/", &["sqlite", "postgres", "cli", "plan", "transform", "import"]);
    never_names("rollback.rs", &["sqlite", "postgres", "cli", "plan", "transform", "import"]);
    never_names("sidecar/", &["sqlite", "postgres", "cli", "transform", "load"]);
}

#[test]
fn backends_know_only_what_crosses_their_seams() {
    for room in ["sqlite", "postgres"] {
        let other = if room == "sqlite" { "postgres" } else { "sqlite" };
        never_names(
            &format!("{room}/"),
            &["transform", "import", "export", "diff", "rollback", "cli", other],
        );
    }
}

#[test]
fn only_location_knows_both_backends() {
    for source in sources() {
        let modules = source.modules();
        let (sqlite, postgres) = (modules.contains("sqlite"), modules.contains("postgres"));
        match source.path.as_str() {
            "location.rs" => assert!(sqlite && postgres, "location.rs names both"),
            // a look into a file shows whether it is Chronicle's
            "chronicle/discover.rs" => assert!(!postgres, "chronicle/discover.rs"),
            // the map that may outgrow memory is a SQLite database, and its errors are SQLite's
            "spill.rs" => assert!(!postgres, "spill.rs"),
            path => {
                assert!(!sqlite || path.starts_with("sqlite/"), "src/{path} names sqlite");
                assert!(!postgres || path.starts_with("postgres/"), "src/{path} names postgres");
            }
        }
    }
}

#[test]
fn the_spill_shows_nothing_of_its_database() {
    let sources = sources();
    let spill = &sources.iter().find(|s| s.path == "spill.rs").expect("spill.rs").code;
    let public = spill.lines().map(str::trim).filter(|l| l.starts_with("pub "));
    assert!(public.clone().count() > 4, "the spill has lost its functions: mend this test");
    for line in public {
        for word in ["rusqlite", "Connection", "Statement", "ToSql"] {
            assert!(!line.contains(word), "src/spill.rs shows {word}: {line}");
        }
    }
}

/// The top-level room of a path: `plan` of `plan/join.rs` and of `plan.rs`.
fn room_of(path: &str) -> String {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned()
}

#[test]
fn rooms_know_each_other_in_one_direction_only() {
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let room = room_of(&source.path);
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let mut others = source.modules();
        others.remove(&room);
        knows.entry(room).or_default().append(&mut others);
    }
    let rooms: Vec<String> = knows.keys().cloned().collect();
    // a module that reaches itself is in a circle
    for room in &rooms {
        let (mut reached, mut open) = (BTreeSet::new(), vec![room.clone()]);
        while let Some(next) = open.pop() {
            for other in knows.get(&next).into_iter().flatten() {
                assert!(other != room, "src/{room} and src/{next} know each other in a circle");
                if reached.insert(other.clone()) {
                    open.push(other.clone());
                }
            }
        }
    }
}

/// How long a file may be with its tests.
const FILE_LINES: usize = 600;
/// How long a function may be.
const FUNCTION_LINES: usize = 80;

#[test]
fn no_file_and_no_function_is_too_long() {
    let mut long = Vec::new();
    for source in sources().into_iter().chain(archive_sources()) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES {
            long.push(format!("{}: {lines} lines", source.path));
        }
        for (name, lines) in functions(&source.text) {
            if lines > FUNCTION_LINES {
                long.push(format!("{}: fn {name} has {lines} lines", source.path));
            }
        }
    }
    assert!(long.is_empty(), "split along what they hold:\n{}", long.join("\n"));
}

/// The functions of a formatted file with their lengths: from `fn` to the brace at its own depth.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_function =
            ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "async fn ", "pub async fn "]
                .iter()
                .any(|start| code.starts_with(start))
                || code.starts_with("pub(super) async fn ");
        let Some(name) = code.split("fn ").nth(1).filter(|_| is_function) else { continue };
        let indent = line.len() - code.len();
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[n..].iter().position(|l| *l == end).map_or(1, |at| at + 1);
        // a signature without a body ends with its own line
        if !lines[n..].iter().take(12).any(|l| l.ends_with('{')) {
            continue;
        }
        let name = name.split(['(', '<']).next().unwrap_or(name);
        found.push((name.to_owned(), length));
    }
    found
}

#[test]
fn no_public_type_name_is_used_twice() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for source in sources().into_iter().chain(archive_sources()) {
        for line in source.shipped.lines() {
            let Some(rest) = ["pub struct ", "pub enum ", "pub trait "]
                .iter()
                .find_map(|start| line.strip_prefix(start))
            else {
                continue;
            };
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            if let Some(other) = seen.insert(rest[..end].to_owned(), source.path.clone()) {
                panic!("{} is a type of {other} and of {}", &rest[..end], source.path);
            }
        }
    }
}

#[test]
fn the_core_speaks_of_no_application() {
    let rooms = ["catalog/", "plan/", "transform/", "sidecar/", "load/", "sqlite/"];
    // what is known of Chronicle's events is in files of its own
    let exempt = ["transform/vocabulary.rs", "transform/clock_skew.rs"];
    let words = ["sessions", "events", "event_type", "claude", "supabase"];
    let sources = sources();
    let core = sources.iter().filter(|s| s.is_in(&rooms) && !s.is_in(&exempt));
    let mut found = Vec::new();
    for source in core.chain(&archive_sources()) {
        for (n, line) in source.shipped.lines().enumerate() {
            let said = line.to_lowercase();
            let spoken = said.split(|c: char| !c.is_alphanumeric() && c != '_');
            found.extend(
                spoken
                    .filter(|word| words.contains(word))
                    .map(|word| format!("{}:{}: {word}", source.path, n + 1)),
            );
        }
    }
    assert!(found.is_empty(), "words of one application in the core:\n{}", found.join("\n"));
}

#[test]
fn each_policy_has_one_table_of_words() {
    for source in sources().iter().filter(|s| s.is_in(&["cli/"])) {
        assert!(!source.names("ValueEnum"), "src/{}: policies come from policy.rs", source.path);
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
    all.extend(
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Cargo.toml"]
            .map(|name| Path::new(ROOT).join(name)),
    );
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
    for manifest in ["Cargo.toml", "crates/archive/Cargo.toml"] {
        let manifest = fs::read_to_string(Path::new(ROOT).join(manifest)).unwrap();
        for name in ["dependencies", "dev-dependencies"] {
            for line in table(&manifest, name).into_iter().filter(|line| !line.starts_with('#')) {
                let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
                assert!(reason.len() > 3, "no reason: {line}");
            }
        }
    }
}

#[test]
fn the_lints_table_holds_and_nobody_steps_out_of_it() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let (rust, clippy) =
        (table(&manifest, "workspace.lints.rust"), table(&manifest, "workspace.lints.clippy"));
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
