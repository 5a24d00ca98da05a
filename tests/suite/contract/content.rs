//! One event that was written to two databases under two ids is one event: rows meet by their content, too.

use super::undo::undone;
use super::*;

both! {
    an_event_under_another_id_is_met_by_its_content
    without_being_asked_rows_meet_by_their_keys
    rows_that_differ_in_anything_are_two
    equal_rows_are_matched_one_by_one
    archives_in_any_order_give_the_same_content
    what_refers_to_a_row_follows_it_to_the_other_key
    rows_that_refer_to_rows_of_their_table_are_matched
    json_is_compared_by_what_it_means
    an_import_with_matched_rows_is_undone
    a_check_and_a_dry_run_count_the_same
    what_the_target_lacks_of_a_matched_row_is_stored
    rows_of_one_stream_can_be_matched
}

const CONTENT: &str = "--match=content";

/// An event with another id and the content of one that [`event`] makes, spelled in another way and stored at another
/// time.
fn twin(number: u32, of: u32, session: u32, event_type: &str, duration: &str) -> String {
    format!(
        "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at) \
         VALUES ('{}', '{}', '{event_type}', '2025-08-19T12:00:{of:02}+02:00', '{{ \"\\u0061\":{of}.0 }}', 'Bash', \
         {duration}, '2025-08-20 11:11:11');",
        id(number),
        id(session)
    )
}

#[track_caller]
fn counts(output: &Output, stream: usize) -> [u64; 3] {
    let done = json_of(output);
    ["inserted_rows", "skipped_rows", "content_matched_rows"]
        .map(|name| done["streams"][stream][name].as_u64().expect(name))
}

impl Store {
    /// The content of all events, without their ids.
    fn contents(&self, backend: Backend) -> Vec<String> {
        let (sessions, events) = (backend.sessions(), backend.events());
        let (data, time) = match backend {
            Backend::Sqlite => ("json(e.data)", "datetime(e.timestamp)"),
            Backend::Postgres => ("e.metadata", "e.timestamp"),
        };
        let row = format!(
            "s.claude_session_id || ' ' || e.event_type || ' ' || {time} || ' ' || replace({data}{}, '.0', '') || ' ' \
             || coalesce(e.duration_ms{}, '-')",
            if backend == Backend::Sqlite { "" } else { "::text" },
            if backend == Backend::Sqlite { "" } else { "::text" },
        );
        let all = match backend {
            Backend::Sqlite => "group_concat",
            Backend::Postgres => "string_agg",
        };
        let sql = format!(
            "SELECT {all}({row}, ';') FROM {events} e JOIN {sessions} s ON s.id = e.session_id"
        );
        let mut rows: Vec<String> = self
            .one(&sql)
            .split(';')
            .map(|row| row.replace(' ', "").replace("\\u0061", "a"))
            .collect();
        rows.sort();
        rows
    }
}

fn an_event_under_another_id_is_met_by_its_content(backend: Backend) {
    let store = backend.make("content_met");
    store.import(&store.archive(&good()), &[]).success();
    let before = store.dump();
    let twins = session(1, "cs-1")
        + &session(9, "cs-2")
        + &twin(91, 11, 1, "pre_tool_use", "NULL")
        + &twin(92, 12, 1, "post_tool_use", "12")
        + &twin(93, 13, 9, "stop", "NULL");
    let archive = store.archive(&twins);
    store.import(&archive, &[CONTENT]).success().stdout_has("3 met by content");
    assert_same_rows(&before, &store.dump());
    let again = store.import(&archive, &[CONTENT, "--json"]).success();
    assert_eq!(counts(&again, 1), [0, 3, 3]);
}

fn without_being_asked_rows_meet_by_their_keys(backend: Backend) {
    let store = backend.make("content_key");
    store.import(&store.archive(&good()), &[]).success();
    let archive = store.archive(&(session(1, "cs-1") + &twin(91, 11, 1, "pre_tool_use", "NULL")));
    let output = store.import(&archive, &["--match=key", "--json"]).success();
    assert_eq!(counts(&output, 1), [1, 0, 0]);
}

fn rows_that_differ_in_anything_are_two(backend: Backend) {
    let store = backend.make("content_differs");
    store.import(&store.archive(&good()), &[]).success();
    let edits = [
        "duration_ms = 13",
        "duration_ms = NULL",
        "tool_name = 'bash'",
        "event_type = 'pre_tool_use'",
        "timestamp = '2025-08-19T12:00:12+03:00'",
        "timestamp = '2025-08-19T10:00:12.000001Z'",
        "data = '{\"a\": \"12\"}'",
        "data = '{\"a\": 12, \"b\": null}'",
    ];
    let mut sql = session(1, "cs-1");
    for (number, edit) in (80..).zip(edits) {
        sql += &twin(number, 12, 1, "post_tool_use", "12");
        sql += &format!("UPDATE events SET {edit} WHERE id = '{}';", id(number));
    }
    let sessions = "the same event of another session";
    let more = session(2, "cs-2") + &twin(70, 12, 2, "post_tool_use", "12");
    let output = store.import(&store.archive(&(sql + &more)), &[CONTENT, "--json"]).success();
    assert_eq!(counts(&output, 1), [edits.len() as u64 + 1, 0, 0], "{sessions}");
}

fn equal_rows_are_matched_one_by_one(backend: Backend) {
    let copies = |from: u32, count: u32| -> String {
        (0..count).map(|n| twin(from + n, 12, 1, "post_tool_use", "12")).collect()
    };
    for (stored, shared, arriving) in
        [(1, 0, 2), (2, 0, 1), (2, 0, 2), (3, 1, 2), (2, 1, 3), (2, 2, 3)]
    {
        let store = backend.make("content_equal");
        let first = session(1, "cs-1") + &copies(20, stored);
        store.import(&store.archive(&first), &[CONTENT]).success();
        let second = session(1, "cs-1") + &copies(20, shared) + &copies(40, arriving - shared);
        store.import(&store.archive(&second), &[CONTENT]).success();
        let count = store.one(&format!("SELECT count(*) FROM {}", backend.events()));
        assert_eq!(count, stored.max(arriving).to_string(), "{stored} {shared} {arriving}");
    }
}

/// Sources that each hold a part of one Chronicle, some of it under ids of their own.
fn parts(store: &Store) -> [PathBuf; 3] {
    let one = session(1, "cs-1");
    [
        store.archive(&(good() + &twin(50, 12, 1, "post_tool_use", "12"))),
        store.archive(
            &(one.clone()
                + &twin(61, 11, 1, "pre_tool_use", "NULL")
                + &twin(62, 12, 1, "post_tool_use", "12")
                + &twin(63, 14, 1, "stop", "3")),
        ),
        store.archive(
            &(one
                + &session(8, "cs-2")
                + &event(12, 1, "post_tool_use", "12")
                + &twin(71, 13, 8, "stop", "NULL")
                + &twin(72, 14, 1, "stop", "3")
                + &twin(73, 14, 1, "stop", "3")),
        ),
    ]
}

fn archives_in_any_order_give_the_same_content(backend: Backend) {
    let mut all: Vec<Vec<String>> = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let store = backend.make("content_order");
        let archives = parts(&store);
        let url = store.url();
        let names = order.map(|n| archives[n].to_str().expect("a path in UTF-8"));
        let import = ["import"].into_iter().chain(names).chain(["--to", &url, CONTENT]);
        let import: Vec<&str> = import.collect();
        Program::new(import.iter().copied()).run().success();
        all.push(store.contents(backend));
        assert_eq!(all[0].len(), 6, "{:#?}", all[0]);
        assert_eq!(all.last(), all.first(), "{order:?}");
        let before = store.dump();
        Program::new(import.iter().copied()).run().success();
        assert_same_rows(&before, &store.dump());
        // and one after the other
        let apart = backend.make("content_order_apart");
        for n in order {
            apart.import(&archives[n], &[CONTENT]).success();
        }
        assert_eq!(apart.contents(backend), all[0], "{order:?}");
    }
}

const LAYOUT: &str = r#"
name = "plain"
title = "a fork whose sessions have no other key"
backend = "BACKEND"

[[stream]]
name = "sessions"
role = "sessions"
table = "runs"
requires = ["id", "claude_session_id"]
key = ["id"]
order = ["id"]

[[stream]]
name = "events"
role = "events"
table = "steps"
requires = ["id", "session_id", "timestamp", "cause"]
key = ["id"]
order = ["id"]
references = { session_id = "sessions" }
columns = [{ name = "data", kind = "json" }]
"#;

const DDL: &str = "
CREATE TABLE runs (id TEXT PRIMARY KEY, claude_session_id TEXT NOT NULL);
CREATE TABLE steps (id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES runs (id), timestamp TEXT NOT NULL,
    duration_ms INTEGER, data JSON, cause TEXT REFERENCES steps (id));
";

/// A database in which nothing but the key is unique, and how to import into it.
fn plain(backend: Backend, test_name: &str) -> (Store, impl Fn(&Path) -> Output) {
    let store = backend.nothing(test_name);
    match backend {
        // SQLite knows no type of this name, and would take it for numeric
        Backend::Sqlite => store.run(&DDL.replace("JSON", "TEXT")),
        Backend::Postgres => store.run(DDL),
    }
    let layout = store.folder.path().join("plain.toml");
    let word = if backend == Backend::Sqlite { "sqlite" } else { "postgres" };
    fs::write(&layout, LAYOUT.replace("BACKEND", word)).expect("the layout file");
    let url = store.url();
    let import = move |archive: &Path| {
        let words =
            [archive, &layout].map(|path| path.to_str().expect("a path in UTF-8").to_owned());
        let [archive, layout] = &words;
        let import = ["import", archive, "--to", &url, "--layout", layout, CONTENT, "--json"];
        Program::new(import.into_iter().chain(["--on-missing-column=drop"])).run()
    };
    (store, import)
}

fn what_refers_to_a_row_follows_it_to_the_other_key(backend: Backend) {
    let (store, import) = plain(backend, "content_alias");
    import(&store.archive(&good())).success();
    let archive = store.archive(&(session(9, "cs-1") + &event(41, 9, "stop", "NULL")));
    let output = import(&archive).success();
    assert_eq!((counts(&output, 0), counts(&output, 1)), ([0, 1, 1], [1, 0, 0]));
    let of = format!("SELECT session_id FROM steps WHERE id = '{}'", id(41));
    assert_eq!(store.one(&of), id(1));
    // the event is there by its key now, and refers to the session that is there
    let output = import(&archive).success();
    assert_eq!((counts(&output, 0), counts(&output, 1)), ([0, 1, 1], [0, 1, 0]));
    assert_eq!(store.one("SELECT count(*) FROM runs"), "2");
}

fn rows_that_refer_to_rows_of_their_table_are_matched(backend: Backend) {
    let (store, import) = plain(backend, "content_cause");
    let chain = |from: u32, session: u32| {
        let cause = |number: u32| {
            format!(
                "UPDATE events SET cause = '{}' WHERE id = '{}';",
                id(from + number - 1),
                id(from + number)
            )
        };
        let events: String = (0..4)
            .map(|n| {
                let time = "2025-08-19T10:00:00Z";
                event_at(from + n, session, "stop", time, "7")
            })
            .collect();
        format!(
            "ALTER TABLE events ADD COLUMN cause TEXT; {}{events}{}UPDATE events SET data = '[]';",
            session_of(&id(session), "cs-1"),
            (1..4).map(cause).collect::<String>()
        )
    };
    import(&store.archive(&chain(20, 1))).success();
    let before = store.everything();
    let output = import(&store.archive(&chain(30, 5))).success();
    assert_eq!(counts(&output, 1), [0, 4, 4]);
    let rows = |all: Vec<String>| -> Vec<String> {
        all.into_iter().filter(|line| line.contains("steps") || line.contains("runs")).collect()
    };
    assert_same_rows(&rows(before), &rows(store.everything()));
}

fn json_is_compared_by_what_it_means(backend: Backend) {
    let (store, import) = plain(backend, "content_json");
    let rows = |from: u32, texts: &[&str]| -> String {
        let row = |(number, text): (u32, &&str)| {
            let edit = format!("UPDATE events SET data = '{text}' WHERE id = '{}';", id(number));
            event_at(number, 1, "stop", "2025-08-19T10:00:00Z", "7") + &edit
        };
        session(1, "cs-1") + &(from..).zip(texts).map(row).collect::<String>()
    };
    let stored = [
        r#"{"a": 1, "b": [1.0, true]}"#,
        r#"{"z": "\u00e9"}"#,
        r#"{"z": "\u0000"}"#,
        r#"{"z": 1e400}"#,
        "null",
    ];
    import(&store.archive(&rows(20, &stored))).success();
    let arriving = [
        r#"{"b":[10e-1,true],"a":1}"#,
        r#"{"z":"é"}"#,
        r#"{"z": "\u0000"}"#,
        r#"{"z": 1e400}"#,
        r#""null""#,
        "{}",
    ];
    let output = import(&store.archive(&rows(30, &arriving))).success();
    assert_eq!(counts(&output, 1), [2, 4, 4]);
}

fn an_import_with_matched_rows_is_undone(backend: Backend) {
    let store = backend.make("content_undo");
    store.import(&store.archive(&good()), &["--no-undo"]).success();
    let archive = store.archive(
        &(good()
            + &session(3, "cs-3")
            + &twin(91, 11, 1, "pre_tool_use", "NULL")
            + &twin(92, 14, 3, "stop", "1")),
    );
    let more = store.archive(
        &(session(3, "cs-3")
            + &twin(93, 12, 1, "post_tool_use", "12")
            + &session(1, "cs-1")
            + &twin(94, 14, 3, "stop", "2")),
    );
    undone(&store, &archive, &[CONTENT]);
    undone(&store, &more, &[CONTENT]);
}

fn a_check_and_a_dry_run_count_the_same(backend: Backend) {
    let store = backend.make("content_dry");
    store.import(&store.archive(&good()), &[]).success();
    let archive = store.archive(
        &(session(1, "cs-1")
            + &twin(91, 11, 1, "pre_tool_use", "NULL")
            + &twin(92, 14, 1, "stop", "1")),
    );
    let before = store.everything();
    let dry = store.import(&archive, &[CONTENT, "--dry-run", "--json"]).success();
    assert_eq!(counts(&dry, 1), [1, 1, 1]);
    let place = archive.to_str().expect("a path in UTF-8");
    Program::new(["check", place, "--to", &store.url(), "--strict", CONTENT]).run().success();
    assert_same_rows(&before, &store.everything());
    let done = store.import(&archive, &[CONTENT, "--json"]).success();
    assert_eq!(counts(&done, 1), [1, 1, 1]);
}

fn what_the_target_lacks_of_a_matched_row_is_stored(backend: Backend) {
    let store = backend.make("content_lacks");
    store.import(&store.archive(&good()), &[]).success();
    let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'remember';";
    let archive =
        store.archive(&(session(1, "cs-1") + &twin(91, 12, 1, "post_tool_use", "12") + note));
    let url = store.url();
    let place = archive.to_str().expect("a path in UTF-8");
    let import = ["import", place, "--to", &url, CONTENT, "--json"];
    assert_eq!(counts(&Program::new(import).run().success(), 1), [0, 1, 1]);
    let exported = store.folder.path().join("exported.zst");
    let exported = exported.to_str().expect("a path in UTF-8");
    Program::new(["export", &url, "-o", exported]).run().success();
    let rows = Program::new(["cat", exported]).run().success();
    let with_note: Vec<&str> =
        rows.text().lines().filter(|line| line.contains("remember")).collect();
    assert!(with_note.len() == 1 && with_note[0].contains(&id(12)), "{with_note:?}");
    assert!(!rows.text().contains(&id(91)), "{}", rows.text());
}

fn rows_of_one_stream_can_be_matched(backend: Backend) {
    let store = backend.make("content_stream");
    store.import(&store.archive(&good()), &[]).success();
    let archive = store.archive(&(session(1, "cs-1") + &twin(91, 11, 1, "pre_tool_use", "NULL")));
    store
        .import(&archive, &["--match=steps=content"])
        .fails_with(2)
        .stderr_has("no stream \"steps\"");
    store.import(&archive, &["--match=rows"]).fails_with(2).stderr_has("key, content");
    let output = store.import(&archive, &["--match=content,events=key", "--json"]).success();
    assert_eq!(counts(&output, 1), [1, 0, 0]);
}
