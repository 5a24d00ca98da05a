//! An import happens once, whole or not at all.

use super::*;

both! {
    importing_twice_is_importing_once
    two_rows_with_one_claude_session_id_are_refused
    a_refused_value_in_the_last_event_leaves_nothing
    a_refused_value_leaves_nothing_of_a_created_database
    a_dry_run_says_the_same_counts_and_changes_nothing
    a_dry_run_creates_nothing
    another_digest_than_the_expected_one_changes_nothing
    a_cut_archive_changes_nothing
}

fn importing_twice_is_importing_once(backend: Backend) {
    let store = backend.make("importing_twice");
    let archive = store.archive(&good());
    let first = store.import(&archive, &["--json"]).success();
    let loaded = |inserted: [u32; 2], skipped: [u32; 2]| {
        json!([
            {"stream": "sessions", "inserted_rows": inserted[0], "skipped_rows": skipped[0],
             "updated_rows": 0, "deleted_rows": 0, "conflicting_rows": 0, "matched_rows": 0, "content_matched_rows": 0,
             "skipped_orphans": 0, "rejected_rows": 0, "adopted_rows": 0},
            {"stream": "events", "inserted_rows": inserted[1], "skipped_rows": skipped[1],
             "updated_rows": 0, "deleted_rows": 0, "conflicting_rows": 0, "matched_rows": 0, "content_matched_rows": 0,
             "skipped_orphans": 0, "rejected_rows": 0, "adopted_rows": 0},
        ])
    };
    assert_eq!(json_of(&first)["streams"], loaded([2, 3], [0, 0]));
    let before = store.dump();
    assert_eq!(before.len(), 5);

    let second = store.import(&archive, &["--json"]).success();
    assert_eq!(json_of(&second)["streams"], loaded([0, 0], [2, 3]));
    assert_same_rows(&before, &store.dump());

    let more = store.archive(&(good() + &event(14, 2, "notification", "NULL")));
    let third = store.import(&more, &["--json"]).success();
    assert_eq!(json_of(&third)["streams"], loaded([0, 1], [2, 3]));
    assert_eq!(store.dump().len(), 6);
}

fn two_rows_with_one_claude_session_id_are_refused(backend: Backend) {
    let store = backend.make("doubled_claude_session_id");
    // as a source without the constraint has them
    let sql = "DROP TABLE sessions; \
               CREATE TABLE sessions (id TEXT PRIMARY KEY, claude_session_id TEXT, start_time TIMESTAMP, \
               project_path TEXT, created_at TIMESTAMP, updated_at TIMESTAMP);"
        .to_owned()
        + &session(1, "cs-1")
        + &session(2, "cs-1");
    store
        .import(&store.archive(&sql), &[])
        .fails_with(11)
        .stderr_has(backend.sessions())
        .stderr_has("claude_session_id")
        .stderr_has(&id(2))
        .stderr_has("hint: ");
    assert_eq!(store.dump(), Vec::<String>::new());
}

fn a_refused_value_in_the_last_event_leaves_nothing(backend: Backend) {
    let store = backend.make("refused_value");
    let archive = store.archive(&bad_last_event());
    let refused = |store: &Store| {
        store
            .import(&archive, &[])
            .fails_with(10)
            .stderr_has(backend.events())
            .stderr_has(&id(14))
            .stderr_has("hint: ");
    };
    refused(&store);
    assert_eq!(store.dump(), Vec::<String>::new());

    // and where rows exist already
    store.import(&store.archive(&good()), &[]).success();
    let before = store.dump();
    refused(&store);
    assert_same_rows(&before, &store.dump());
}

fn a_refused_value_leaves_nothing_of_a_created_database(backend: Backend) {
    let store = backend.nothing("refused_value_created");
    store.import(&store.archive(&bad_last_event()), &["--create"]).fails_with(10);
    store.is_nothing();
    store.import(&store.archive(&good()), &["--create"]).success();
    assert_eq!(store.dump().len(), 5);
}

fn a_dry_run_says_the_same_counts_and_changes_nothing(backend: Backend) {
    let store = backend.make("dry_run");
    store.import(&store.archive(&(session(1, "cs-1"))), &[]).success();
    let before = store.dump();
    let archive = store.archive(&good());
    let dry = json_of(&store.import(&archive, &["--json", "--dry-run"]).success());
    assert_same_rows(&before, &store.dump());
    let real = json_of(&store.import(&archive, &["--json"]).success());
    assert_eq!(dry["committed"], json!(false));
    assert_eq!(real["committed"], json!(true));
    for what in ["streams", "adapted", "orphans", "notices", "digest", "archive_id"] {
        assert_eq!(dry[what], real[what], "{what}");
    }
    assert_eq!(store.dump().len(), 5);
}

fn a_dry_run_creates_nothing(backend: Backend) {
    let store = backend.nothing("dry_run_creates");
    store
        .import(&store.archive(&good()), &["--create", "--dry-run"])
        .success()
        .stdout_has("nothing was changed (dry run)");
    store.is_nothing();
}

fn another_digest_than_the_expected_one_changes_nothing(backend: Backend) {
    let store = backend.make("expected");
    let archive = store.archive(&good());
    let expected = format!("sha256:{}", "0".repeat(64));
    store.import(&archive, &["--expect", &expected]).fails_with(5).stderr_has(&expected);
    assert_eq!(store.dump(), Vec::<String>::new());
    let dry = json_of(&store.import(&archive, &["--json", "--dry-run"]).success());
    let digest = dry["digest"].as_str().expect("a digest");
    store.import(&archive, &["--expect", digest]).success();
    assert_eq!(store.dump().len(), 5);
}

fn a_cut_archive_changes_nothing(backend: Backend) {
    let store = backend.make("cut");
    let archive = store.archive(&good());
    cut(&archive);
    store.import(&archive, &[]).fails_with(4);
    assert_eq!(store.dump(), Vec::<String>::new());
}

/// Cuts an archive in its last frame.
fn cut(archive: &Path) {
    let bytes = fs::read(archive).expect("the archive");
    fs::write(archive, &bytes[..bytes.len() - 120]).expect("the cut archive");
}
