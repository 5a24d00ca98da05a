//! A layout may have a column for the batch that has brought a row: it is filled, and is no data.

use super::*;

both! {
    new_rows_have_the_id_of_their_batch
    ids_of_own_batches_are_not_exported
    a_batch_of_another_program_is_data
    rows_that_exist_keep_their_batch
    a_snapshot_is_restored_without_a_change_of_batches
    rows_with_a_batch_are_undone
    several_archives_bring_rows_of_one_batch
}

const LAYOUT: &str = r#"
name = "marked"
title = "a fork that marks its rows"
backend = "BACKEND"
ddl = "marked.sql"

[[stream]]
name = "sessions"
role = "sessions"
table = "runs"
requires = ["id", "claude_session_id", "brought_by"]
key = ["id"]
order = ["id"]
batch = "brought_by"

[[stream]]
name = "events"
role = "events"
table = "steps"
requires = ["id", "session_id", "timestamp", "batch_id"]
key = ["id"]
order = ["timestamp", "id"]
references = { session_id = "sessions" }
batch = "batch_id"
"#;

const DDL: &str = "
CREATE TABLE runs (id TEXT PRIMARY KEY, claude_session_id TEXT UNIQUE NOT NULL, brought_by UUID);
CREATE TABLE steps (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, timestamp TEXT NOT NULL, duration_ms INTEGER,
    batch_id TEXT NOT NULL);
";

const THEIRS: &str = "00000000-0000-4000-8000-00000000abcd";

/// A database of this layout, and its layout file.
struct Marked {
    store: Store,
    layout: String,
}

impl Marked {
    #[track_caller]
    fn make(backend: Backend, test_name: &str) -> Marked {
        let store = backend.nothing(test_name);
        let layout = store.folder.path().join("marked.toml");
        let (word, ddl) = match backend {
            // SQLite knows no type of this name, and would take it for numeric
            Backend::Sqlite => ("sqlite", DDL.replace("UUID", "TEXT")),
            Backend::Postgres => ("postgres", DDL.to_owned()),
        };
        fs::write(&layout, LAYOUT.replace("BACKEND", word)).expect("the layout file");
        fs::write(layout.with_file_name("marked.sql"), &ddl).expect("its tables");
        store.run(&ddl);
        Marked { store, layout: layout.to_str().expect("a path in UTF-8").to_owned() }
    }

    fn run(&self, words: &[&str]) -> Output {
        Program::new(words.iter().copied().chain(["--layout", &self.layout])).run()
    }

    #[track_caller]
    fn import(&self, archive: &Path, options: &[&str]) -> Output {
        let (archive, url) = (archive.to_str().expect("a path in UTF-8"), self.store.url());
        let import = ["import", archive, "--to", &url, "--on-missing-column=drop"];
        self.run(&[&import, options].concat())
    }

    #[track_caller]
    fn export(&self, name: &str) -> PathBuf {
        let path = self.store.folder.path().join(name);
        let (place, url) = (path.to_str().expect("a path in UTF-8"), self.store.url());
        self.run(&["export", &url, "-o", place, "--reproducible"]).success();
        path
    }

    /// The batches of rows, in the order of their ids.
    #[track_caller]
    fn batches(&self, table: &str) -> Vec<String> {
        let column = if table == "runs" { "brought_by" } else { "batch_id" };
        let all = match &self.store.place {
            Place::File(_) => {
                format!("SELECT group_concat({column}, ' ' ORDER BY id) FROM {table}")
            }
            Place::Server(_) => {
                format!("SELECT string_agg({column}::text, ' ' ORDER BY id) FROM {table}")
            }
        };
        self.store.one(&all).split(' ').map(str::to_owned).collect()
    }
}

#[track_caller]
fn rows_of(archive: &Path) -> String {
    Program::new(["cat".as_ref(), archive.as_os_str()]).run().success().text().to_owned()
}

fn new_rows_have_the_id_of_their_batch(backend: Backend) {
    let marked = Marked::make(backend, "batches_new");
    let archive = marked.store.archive(&good());
    marked.import(&archive, &["--dry-run"]).success();
    marked.import(&archive, &[]).success();
    let first = marked.store.newest();
    assert_eq!(marked.batches("runs"), vec![first.clone(); 2]);
    assert_eq!(marked.batches("steps"), vec![first.clone(); 3]);
    // into tables with rows, with a session that is created
    let more = event(14, 1, "stop", "NULL") + &event(15, 7, "stop", "NULL");
    marked.import(&marked.store.archive(&more), &["--orphans=adopt", "--no-undo"]).success();
    let second = marked.store.newest();
    assert_ne!(first, second);
    assert_eq!(marked.batches("runs"), [&first, &first, &second].map(String::as_str));
    let steps = [&first, &first, &first, &second, &second].map(String::as_str);
    assert_eq!(marked.batches("steps"), steps);
}

fn ids_of_own_batches_are_not_exported(backend: Backend) {
    let marked = Marked::make(backend, "batches_export");
    marked.import(&marked.store.archive(&good()), &[]).success();
    let archive = marked.export("first.zst");
    assert!(!rows_of(&archive).contains(&marked.store.newest()), "{}", rows_of(&archive));
    let other = Marked::make(backend, "batches_export_other");
    other.import(&archive, &[]).success();
    assert_eq!(other.batches("steps"), vec![other.store.newest(); 3]);
    assert_eq!(rows_of(&archive), rows_of(&other.export("second.zst")));
    let (place, url) = (archive.to_str().expect("a path in UTF-8"), other.store.url());
    other.run(&["diff", place, &url]).success();
    other.run(&["verify", place, "--against", &url]).success();
}

/// A database in which another program has marked one row of each table.
fn with_theirs(backend: Backend, test_name: &str) -> (Marked, PathBuf) {
    let marked = Marked::make(backend, test_name);
    marked.import(&marked.store.archive(&good()), &[]).success();
    let mark = |table, column, number| {
        marked
            .store
            .run(&format!("UPDATE {table} SET {column} = '{THEIRS}' WHERE id = '{}'", id(number)));
    };
    mark("runs", "brought_by", 2);
    mark("steps", "batch_id", 12);
    let archive = marked.export("theirs.zst");
    (marked, archive)
}

fn a_batch_of_another_program_is_data(backend: Backend) {
    let (marked, archive) = with_theirs(backend, "batches_theirs");
    assert_eq!(rows_of(&archive).matches(THEIRS).count(), 2);
    let other = Marked::make(backend, "batches_theirs_other");
    other.import(&archive, &[]).success();
    let own = other.store.newest();
    assert_eq!(other.batches("runs"), [&own, THEIRS]);
    assert_eq!(other.batches("steps"), [&own, THEIRS, &own]);
    // a row of an own batch is not the same as one that another program has marked
    marked.store.run(&format!("UPDATE steps SET batch_id = 'x' WHERE id = '{}'", id(12)));
    marked.import(&archive, &[]).fails_with(11).stderr_has("\"batch_id\"");
    marked.import(&archive, &["--on-conflict=update"]).success();
    assert_eq!(marked.batches("steps")[1], THEIRS);
}

fn rows_that_exist_keep_their_batch(backend: Backend) {
    let marked = Marked::make(backend, "batches_keep");
    let archive = marked.store.archive(&good());
    marked.import(&archive, &[]).success();
    let first = marked.store.newest();
    let again = json_of(&marked.import(&archive, &["--json"]).success());
    assert_eq!(again["streams"][1]["skipped_rows"], 3);
    assert_eq!(marked.batches("steps"), vec![first.clone(); 3]);
    marked.store.run("UPDATE steps SET duration_ms = 99");
    let updated = json_of(&marked.import(&archive, &["--on-conflict=update", "--json"]).success());
    assert_eq!(updated["streams"][1]["updated_rows"], 3);
    assert_eq!(marked.batches("steps"), vec![first; 3]);
    assert_eq!(marked.store.one("SELECT count(*) FROM steps WHERE duration_ms = 99"), "0");
}

fn a_snapshot_is_restored_without_a_change_of_batches(backend: Backend) {
    let (marked, archive) = with_theirs(backend, "batches_restore");
    let before = marked.store.everything();
    let (place, url) = (archive.to_str().expect("a path in UTF-8"), marked.store.url());
    let restore = ["restore", place, "--to", &url, "--json"];
    let done = json_of(&marked.run(&restore).success());
    assert_eq!(marked.store.history().last().expect("a batch")["records_migrated"], 0, "{done}");
    assert_same_rows(&before, &marked.store.everything());
    let batches = marked.batches("steps");
    marked.store.run(&format!("DELETE FROM steps WHERE id = '{}'", id(13)));
    marked.run(&restore).success();
    assert_eq!(marked.batches("steps")[..2], batches[..2]);
    assert_eq!(marked.batches("steps")[2], marked.store.newest(), "it is new again");
}

fn rows_with_a_batch_are_undone(backend: Backend) {
    let (marked, archive) = with_theirs(backend, "batches_undo");
    marked.store.run(&format!("DELETE FROM steps WHERE id = '{}'", id(11)));
    marked.store.run("UPDATE steps SET duration_ms = 99");
    let before = marked.store.everything();
    marked.import(&archive, &["--on-conflict=update"]).success();
    let after = marked.store.everything();
    assert_ne!(before, after);
    marked.store.rollback("last", &[]).success();
    assert_same_rows(&before, &marked.store.everything());
    marked.store.rollback(&marked.store.newest(), &[]).success();
    assert_same_rows(&after, &marked.store.everything());
}

fn several_archives_bring_rows_of_one_batch(backend: Backend) {
    let marked = Marked::make(backend, "batches_several");
    let first = marked.store.archive(&good());
    let second = marked.store.archive(&(good() + &event(14, 2, "stop", "NULL")));
    let second = second.to_str().expect("a path in UTF-8");
    let done = json_of(&marked.import(&first, &[second, "--json"]).success());
    assert_eq!(done["streams"][1]["skipped_rows"], 3);
    assert_eq!(marked.batches("steps"), vec![marked.store.newest(); 4]);
}
