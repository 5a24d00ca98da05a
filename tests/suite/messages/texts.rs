//! Every text in the source that may become a message.

use super::{retired_in, same_as_file};
use crate::architecture::{archive_sources, sources};

/// What belongs to SQL and not to people.
const SQL: [&str; 12] = [
    "SELECT ",
    " FROM ",
    " WHERE ",
    "pg_catalog",
    "CREATE TEMP",
    "INSERT INTO",
    "DELETE FROM",
    " JOIN ",
    "ALTER TABLE",
    "ORDER BY",
    "TABLE {",
    "::text",
];

/// Whether a text of the source is for people: several words, of which one is in small letters.
fn is_for_people(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_plain = |word: &&&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase());
    words.len() > 2
        && words.iter().filter(is_plain).count() > 1
        && !text.starts_with(|c: char| c.is_ascii_uppercase())
        && SQL.iter().all(|sql| !text.contains(sql))
}

/// The texts of the source, by file.
fn texts() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for source in archive_sources().into_iter().chain(sources()) {
        let texts: Vec<String> =
            source.strings().into_iter().filter(|text| is_for_people(text)).collect();
        if !texts.is_empty() {
            found.push((source.path().to_owned(), texts));
        }
    }
    found
}

#[test]
fn the_captured_texts_are_those_of_the_source() {
    let mut all = String::new();
    for (path, texts) in texts() {
        all.push_str(&format!("[{path}]\n"));
        texts.iter().for_each(|text| all.push_str(&format!("{}\n", text.escape_debug())));
        all.push('\n');
    }
    same_as_file("texts.txt", &all);
}

#[test]
fn no_text_for_people_has_a_retired_word() {
    let all = texts();
    assert!(all.iter().map(|(_, texts)| texts.len()).sum::<usize>() > 400);
    for (path, texts) in all {
        for text in texts {
            assert_eq!(retired_in(&text), Vec::<String>::new(), "{path}: {text}");
        }
    }
}
