//! How tests are written: files that can be read at once, and names that are sentences of one clause.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// How long a file of tests may be.
const FILE_LINES: usize = 600;
/// How long the name of a test may be.
const NAME_CHARS: usize = 60;

/// The Rust files below a folder of the project, with their texts.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![Path::new(ROOT).join(folder)]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no Rust file");
    found
}

#[test]
fn no_file_of_tests_is_too_long() {
    let long: Vec<String> = (rust_files("tests").iter().chain(&rust_files("benches")))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split along what they hold:\n{}", long.join("\n"));
}

/// The names of the tests in a file: the functions behind `#[test]` and its kin.
fn tests_in(text: &str) -> Vec<&str> {
    let mut lines = text.lines().map(str::trim_start);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if !line.starts_with("#[test]") && !line.starts_with("#[tokio::test") {
            continue;
        }
        let function = lines.find(|line| !line.starts_with("#[") && !line.starts_with("//"));
        let name = function.and_then(|line| line.split_once("fn ")).map(|(_, rest)| rest);
        found.extend(name.and_then(|rest| rest.split(['(', '<']).next()));
    }
    found
}

#[test]
fn names_of_tests_are_short_sentences() {
    let (mut tests, mut long) = (0, Vec::new());
    for folder in ["tests", "src", "crates"] {
        for (path, text) in rust_files(folder) {
            for name in tests_in(&text) {
                tests += 1;
                if name.chars().count() > NAME_CHARS {
                    long.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    assert!(tests > 400, "only {tests} tests were found");
    assert!(long.is_empty(), "at most {NAME_CHARS} characters:\n{}", long.join("\n"));
}
