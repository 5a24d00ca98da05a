//! Chronicle's own file is found where its hooks keep it, and never guessed.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::archive::read;
use crate::support::files::{sqlite_from, workdir};
use crate::support::program::{Output, Program};

const SAMPLE: [&str; 2] = ["sqlite-hooks.sql", "sample-hooks.sql"];
const EMPTY: [&str; 1] = ["sqlite-hooks.sql"];

/// A home, and an empty folder to run in.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Home {
        let folder = workdir("home");
        for name in ["home", "here"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Home { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A database at a place of the home (`home/…`) or of the working directory (`here/…`).
    fn put(&self, place: &str, fixtures: &[&str]) -> PathBuf {
        let path = self.path(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        sqlite_from(fixtures, &path, "delete");
        path
    }

    fn export(&self) -> Program {
        Program::new(["export"]).env("HOME", self.path("home")).current_dir(self.path("here"))
    }
}

#[track_caller]
fn assert_takes(output: Output, path: &str, why: &str) {
    let output = output.success().stderr_has(path).stderr_has(why);
    let found = read(output.stdout.as_slice()).unwrap();
    assert_eq!(found.rows.iter().map(Vec::len).sum::<usize>(), 128);
}

#[test]
fn a_database_is_found_wherever_chronicle_keeps_it() {
    for (place, why) in [
        (".claude/hooks/chronicle/data/chronicle.db", "the default of the hooks"),
        (".claude/hooks/chronicle/server/data/chronicle.db", "the default of the local server"),
        (".chronicle/fallback.db", "the default of the quick start"),
        (".claude/hooks_data.db", "the default of the first hooks"),
        (".chronicle/chronicle.db", "the default of the migration tutorial"),
    ] {
        let home = Home::new();
        let path = home.put(&format!("home/{place}"), &SAMPLE);
        assert_takes(home.export().run(), path.to_str().unwrap(), why);
    }
    for place in [
        "data/chronicle.db",
        "chronicle.db",
        "apps/hooks/data/chronicle.db",
        "apps/server/data/chronicle.db",
    ] {
        let home = Home::new();
        home.put(&format!("here/{place}"), &SAMPLE);
        assert_takes(home.export().run(), place, "in the working directory");
    }
}

#[test]
fn a_database_is_found_where_the_hooks_settings_name_it() {
    let home = Home::new();
    home.put("home/my data/c.db", &SAMPLE);
    let with = |value: &str| home.export().env("CLAUDE_HOOKS_DB_PATH", value).run();
    assert_takes(with("~/my data/c.db"), "home/my data/c.db", "$CLAUDE_HOOKS_DB_PATH names it");
    assert_takes(
        with(home.path("home/my data/c.db").to_str().unwrap()),
        "c.db",
        "$CLAUDE_HOOKS_DB_PATH",
    );
    assert_takes(with("../home/my data/c.db"), "c.db", "$CLAUDE_HOOKS_DB_PATH");
    let settings = home.path("home/.claude/hooks/chronicle/.env");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    for line in [
        "CLAUDE_HOOKS_DB_PATH=~/my data/c.db",
        "CLAUDE_HOOKS_DB_PATH=\"~/my data/c.db\"",
        "export CLAUDE_HOOKS_DB_PATH='~/my data/c.db'",
        "CLAUDE_HOOKS_DB_PATH=~/old.db\nCLAUDE_HOOKS_DB_PATH = ~/my data/c.db",
    ] {
        fs::write(&settings, format!("# Chronicle\nSUPABASE_ANON_KEY=hidden\n{line}\n")).unwrap();
        let output = home.export().run();
        assert!(!output.stderr.contains("hidden"), "{}", output.stderr);
        assert_takes(output, "home/my data/c.db", ".claude/hooks/chronicle/.env names it");
    }
}

#[test]
fn a_variable_that_names_no_file_is_not_passed_over() {
    let home = Home::new();
    home.put("home/.claude/hooks/chronicle/data/chronicle.db", &SAMPLE);
    let named = home.export().env("CLAUDE_HOOKS_DB_PATH", "~/gone.db").run();
    named
        .fails_with(7)
        .stderr_has("$CLAUDE_HOOKS_DB_PATH names")
        .stderr_has("gone.db: no such file");
    let unset = home.export().env("CLAUDE_HOOKS_DB_PATH", "").run();
    assert_takes(unset, "chronicle.db", "the default of the hooks");
}

#[test]
fn of_several_databases_none_is_guessed() {
    let home = Home::new();
    let first = home.put("home/.claude/hooks/chronicle/data/chronicle.db", &SAMPLE);
    home.put("here/chronicle.db", &SAMPLE);
    let output = home.export().run().fails_with(2);
    let output = output
        .stderr_has("several Chronicle databases hold data")
        .stderr_has(first.to_str().unwrap());
    let output = output.stderr_has("chronicle.db (128 rows; in the working directory)");
    let output = output.stderr_has("hint: export: name the one you mean");
    assert!(output.stdout.is_empty());
}

#[test]
fn of_one_empty_and_one_full_database_the_full_one_is_taken() {
    let home = Home::new();
    home.put("home/.claude/hooks/chronicle/data/chronicle.db", &EMPTY);
    let full = home.put("home/.chronicle/fallback.db", &SAMPLE);
    // none of Chronicle's, and no database at all: neither counts
    fs::write(home.path("here/chronicle.db"), "text").unwrap();
    assert_takes(home.export().run(), full.to_str().unwrap(), "the default of the quick start");
}

#[test]
fn where_nothing_is_found_the_places_are_listed() {
    let home = Home::new();
    let output = home.export().run().fails_with(7).stderr_has("no Chronicle database found");
    output
        .stderr_has("hint: ")
        .stderr_has("$CLAUDE_HOOKS_DB_PATH")
        .stderr_has("~/.chronicle/fallback.db");
}
