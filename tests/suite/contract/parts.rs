//! A restore of a part makes the target's part what the archive says, and leaves everything beside it as it is.

use super::*;

both! {
    a_restore_of_a_part_stays_within_it
    a_restore_of_a_part_is_undone_and_writes_only_differences
    a_dry_run_of_a_part_shows_its_differences_alone
    a_value_of_a_row_beside_the_part_is_not_taken
    a_part_keeps_the_originals_beside_it
    what_cannot_be_restored_in_part_is_refused
}

const KIM: &str = "--project=/home/kim/*";

/// A database with two projects, archives of everything and of Kim's part, and what has changed since in both.
struct Edited {
    store: Store,
    whole: PathBuf,
    part: PathBuf,
}

#[track_caller]
fn export(store: &Store, name: &str, options: &[&str]) -> PathBuf {
    let path = store.folder.path().join(name);
    let to = path.to_str().expect("a path in UTF-8");
    let url = store.url();
    Program::new(["export", &url, "-o", to].iter().chain(options).copied()).run().success();
    path
}

#[track_caller]
fn restore(store: &Store, from: &Path, options: &[&str]) -> Output {
    let (from, url) = (from.to_str().expect("a path in UTF-8"), store.url());
    Program::new(["restore", from, "--to", &url].iter().chain(options).copied()).run()
}

fn rows(backend: Backend) -> String {
    let null = r#"UPDATE events SET data = '{"nul": "\u0000"}' WHERE duration_ms = 3;"#;
    let null = if backend == Backend::Postgres { null } else { "" };
    format!(
        "{}{}{}{}{}{null}{}",
        session(1, "cs-1"),
        session(2, "cs-2"),
        event(11, 1, "pre_tool_use", "3"),
        event(12, 1, "post_tool_use", "12"),
        event(13, 2, "stop", "3"),
        "UPDATE sessions SET project_path = '/home/lee/tea' WHERE claude_session_id = 'cs-2';"
    )
}

fn edited(backend: Backend, test_name: &str) -> Edited {
    let store = backend.make(test_name);
    store.import(&store.archive(&rows(backend)), &["--on-unrepresentable=preserve"]).success();
    let (whole, part) = (export(&store, "whole.zst", &[]), export(&store, "part.zst", &[KIM]));
    let (sessions, events) = (backend.sessions(), backend.events());
    store.run(&format!("UPDATE {events} SET duration_ms = 99 WHERE id = '{}'", id(12)));
    store.run(&format!("DELETE FROM {events} WHERE id = '{}'", id(11)));
    store.run(&format!("UPDATE {events} SET duration_ms = 98 WHERE id = '{}'", id(13)));
    let more = session(3, "cs-3")
        + &event(31, 3, "stop", "7")
        + &session(4, "cs-4")
        + &event(41, 4, "stop", "7");
    store.import(&store.archive(&more), &[]).success();
    let lee = "project_path = '/home/lee/tea'";
    store.run(&format!("UPDATE {sessions} SET {lee} WHERE claude_session_id = 'cs-4'"));
    Edited { store, whole, part }
}

/// The rows of Kim's part, and those beside it: their ids and what was edited.
fn content(store: &Store, backend: Backend) -> [String; 2] {
    let (sessions, events) = (backend.sessions(), backend.events());
    let all = if backend == Backend::Sqlite { "group_concat" } else { "string_agg" };
    ["=", "<>"].map(|is| {
        let sql = format!(
            "SELECT {all}(r, ' ') FROM (SELECT substr(CAST(s.id AS text), 35) || ':' || \
                coalesce(substr(CAST(e.id AS text), 35) || '=' || e.duration_ms, '-') AS r \
               FROM {sessions} s LEFT JOIN {events} e ON e.session_id = s.id \
              WHERE s.project_path {is} '/home/kim/greenhouse' ORDER BY 1) AS sorted"
        );
        store.one(&sql)
    })
}

fn a_restore_of_a_part_stays_within_it(backend: Backend) {
    for of_whole in [false, true] {
        let Edited { store, whole, part } = edited(backend, "part_within");
        let [_, beside] = content(&store, backend);
        let done = match of_whole {
            true => restore(&store, &whole, &[KIM, "--json"]),
            false => restore(&store, &part, &["--json"]),
        };
        let done = json_of(&done.success());
        assert_eq!(content(&store, backend), ["01:11=3 01:12=12", &beside], "whole: {of_whole}");
        assert_eq!(beside, "02:13=98 04:41=7");
        let counts = |n: usize| {
            let stream = &done["streams"][n];
            ["inserted_rows", "updated_rows", "deleted_rows", "skipped_rows"]
                .map(|key| stream[key].as_u64().expect("a number"))
        };
        assert_eq!((counts(0), counts(1)), ([0, 0, 1, 1], [1, 1, 1, 0]));
        let (part, url) = (part.to_str().expect("a path"), store.url());
        Program::new(["diff", part, &url, KIM]).run().success();
    }
}

fn a_restore_of_a_part_is_undone_and_writes_only_differences(backend: Backend) {
    let Edited { store, part, .. } = edited(backend, "part_undone");
    let before = store.everything();
    restore(&store, &part, &[]).success();
    let after = store.everything();
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
    restore(&store, &part, &[]).success().stdout_has("unchanged");
    assert_eq!(store.history().last().expect("a batch")["records_migrated"], json!(0));
    assert_same_rows(&after, &store.everything());
}

fn a_dry_run_of_a_part_shows_its_differences_alone(backend: Backend) {
    let Edited { store, whole, part } = edited(backend, "part_dry");
    let before = store.everything();
    for shown in
        [restore(&store, &part, &["--dry-run"]), restore(&store, &whole, &["--dry-run", KIM])]
    {
        let shown = shown.success();
        let text = shown.text();
        assert!(text.contains(&format!("~ events {}", id(12))), "{text}");
        assert!(text.contains(&format!("+ events {}", id(11))), "{text}");
        assert!(text.contains(&format!("- sessions {}", id(3))), "{text}");
        for beside in [2, 4, 13, 41] {
            assert!(!text.contains(&id(beside)), "{text}");
        }
    }
    assert_same_rows(&before, &store.everything());
}

fn a_value_of_a_row_beside_the_part_is_not_taken(backend: Backend) {
    let Edited { store, part, .. } = edited(backend, "part_unique");
    let sessions = backend.sessions();
    store.run(&format!("UPDATE {sessions} SET claude_session_id = 'other' WHERE id = '{}'", id(1)));
    store.run(&format!("UPDATE {sessions} SET claude_session_id = 'cs-1' WHERE id = '{}'", id(2)));
    let before = store.everything();
    restore(&store, &part, &[]).fails_with(11);
    assert_same_rows(&before, &store.everything());
}

fn a_part_keeps_the_originals_beside_it(backend: Backend) {
    let Edited { store, part, .. } = edited(backend, "part_originals");
    let (url, beside) = (store.url(), ["--project=/home/lee/*"]);
    let rows = |name: &str| {
        let archive = export(&store, name, &beside);
        let cat = Program::new(["cat", archive.to_str().expect("a path")]).run().success();
        // where the rows of the part came from, which says nothing of these
        cat.text().replace(",\"original_supabase_id\":null", "")
    };
    let before = rows("before.zst");
    if backend == Backend::Postgres {
        assert!(before.contains("T10:00:13Z"), "the spelling of a time is stored: {before}");
    }
    restore(&store, &part, &[]).success();
    assert_eq!(rows("after.zst"), before);
    let part = part.to_str().expect("a path");
    Program::new(["diff", part, &url, KIM]).run().success();
}

fn what_cannot_be_restored_in_part_is_refused(backend: Backend) {
    let Edited { store, whole, part } = edited(backend, "part_refused");
    let before = store.everything();
    restore(&store, &part, &["--orphans=skip"]).fails_with(2).stderr_has("--orphans works with");
    restore(&store, &whole, &["--user=ada"]).fails_with(2).stderr_has("no column user_id");
    assert_same_rows(&before, &store.everything());
}
