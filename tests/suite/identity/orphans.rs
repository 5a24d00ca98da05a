//! Rows that refer to nothing: stopped, kept, skipped or adopted.

use super::*;

/// One good event, two of a session that is nowhere, one of another, one without any.
fn orphaned() -> String {
    session(1)
        + &event(11, 1, "stop")
        + &event(12, 8, "stop")
        + &event(13, 8, "stop")
        + &event(14, 9, "stop")
}

#[test]
fn orphans_are_refused_kept_skipped_or_adopted() {
    let scratch = Scratch::new("orphans");
    let source = scratch.sqlite("source.db", HOOKS, &orphaned());
    let archive = scratch.export(&source);
    let hooks = || scratch.sqlite("target.db", HOOKS, "");
    let counts = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM events)";
    let counts_there =
        "SELECT (SELECT count(*) FROM chronicle_sessions), (SELECT count(*) FROM chronicle_events)";
    let loose = "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey";
    for (option, enforced, expected) in [
        ("--orphans=fail", false, None),
        ("--orphans=keep", false, Some(("1|4", 4, 0, 0))),
        ("--orphans=skip", false, Some(("1|1", 1, 3, 0))),
        ("--orphans=adopt", false, Some(("3|4", 4, 0, 2))),
        ("--orphans=fail", true, None),
        ("--orphans=keep", true, None),
        ("--orphans=skip", true, Some(("1|1", 1, 3, 0))),
        ("--orphans=adopt", true, Some(("3|4", 4, 0, 2))),
    ] {
        let file = hooks();
        let server =
            postgres("postgres-upstream.sql", "orphans", if enforced { "" } else { loose });
        for (to, counted) in [(&server.url(), true), (&file, false)] {
            if enforced && !counted {
                continue;
            }
            let said = format!("{option} into {to}");
            let done = import(&archive, to, &[option, "--json"]);
            let Some((rows, inserted, skipped, adopted)) = expected else {
                done.fails_with(12).stderr_has(&id(12)).stderr_has("hint: ");
                continue;
            };
            let done = json_of(&done.success());
            let events = &done["streams"][1];
            assert_eq!(events["inserted_rows"], inserted, "{said}: {events}");
            assert_eq!(events["skipped_orphans"], skipped, "{said}: {events}");
            assert_eq!(events["adopted_rows"], adopted, "{said}: {events}");
            assert_eq!(done["orphans"][0]["rows"], 3, "{said}: {done}");
            let found = if counted { server.psql(counts_there) } else { ask(&file, counts) };
            assert_eq!(found, rows, "{said}");
            // and once more
            let again = json_of(&import(&archive, to, &[option, "--json"]).success());
            assert_eq!(again["streams"][1]["inserted_rows"], 0, "{said}: {again}");
            let found = if counted { server.psql(counts_there) } else { ask(&file, counts) };
            assert_eq!(found, rows, "{said}, twice");
        }
        std::fs::remove_file(&file).expect("remove the file");
    }
}

#[test]
fn an_adopted_session_starts_with_its_first_event() {
    let scratch = Scratch::new("adopted");
    let source = scratch.sqlite("source.db", HOOKS, &orphaned());
    let archive = scratch.export(&source);
    let server = postgres("postgres-upstream.sql", "adopted", "");
    import(&archive, &server.url(), &["--orphans=adopt"])
        .success()
        .stderr_has("sessions created for them");
    let made = format!(
        "SELECT claude_session_id, to_char(start_time AT TIME ZONE 'UTC', 'HH24:MI:SS') \
           FROM chronicle_sessions WHERE id = '{}'",
        id(8)
    );
    assert_eq!(server.psql(&made), format!("{}|10:00:12", id(8)));
    let file = scratch.sqlite("target.db", HOOKS, "");
    import(&archive, &file, &["--orphans=adopt"]).success();
    let made = format!("SELECT start_time FROM sessions WHERE id = '{}'", id(8));
    assert_eq!(ask(&file, &made), "2025-08-19T10:00:12Z");
}

#[test]
fn an_event_that_names_no_session_is_no_orphan() {
    let scratch = Scratch::new("null_reference");
    let loose = "DROP TABLE events; CREATE TABLE events (id TEXT PRIMARY KEY, session_id TEXT, \
                 event_type TEXT, timestamp TEXT, data TEXT);";
    let sql = loose.to_owned()
        + &session(1)
        + &format!(
            "INSERT INTO events VALUES ('{}', NULL, 'stop', '2025-08-19T10:00:00Z', '{{}}');",
            id(11)
        );
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    for option in ["--orphans=fail", "--orphans=skip", "--orphans=adopt"] {
        let file = scratch.sqlite("target.db", HOOKS, loose);
        let server = postgres("postgres-upstream.sql", "null_reference", "");
        for to in [&file, &server.url()] {
            let done = json_of(&import(&archive, to, &[option, "--json"]).success());
            assert_eq!(done["orphans"], json!([]), "{option} into {to}");
            assert_eq!(done["streams"][1]["inserted_rows"], 1, "{option} into {to}");
        }
        std::fs::remove_file(&file).expect("remove the file");
    }
}

#[test]
fn events_of_rejected_sessions_are_rejected_orphans_not() {
    let scratch = Scratch::new("rejected_parent");
    let mut sql = orphaned() + &session(2) + &event(15, 2, "stop");
    sql += &format!("UPDATE sessions SET start_time = 'never' WHERE id = '{}'", id(2));
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    let server = postgres("postgres-upstream.sql", "rejected_parent", "");
    let rejects = scratch.path("rejects.ndjson.zst");
    let options =
        ["--on-unrepresentable=reject", "--rejects", words(&rejects), "--orphans=skip", "--json"];
    let done = json_of(&import(&archive, &server.url(), &options).fails_with(14));
    assert_eq!(done["streams"][0]["inserted_rows"], 1);
    assert_eq!(done["streams"][1]["inserted_rows"], 1);
    assert_eq!(done["streams"][1]["skipped_orphans"], 3);
    let (sessions, events) = (records(&rejects, "sessions"), records(&rejects, "events"));
    assert_eq!([sessions.len(), events.len()], [1, 1]);
    assert_eq!([&sessions[0]["id"], &events[0]["id"]], [&json!(id(2)), &json!(id(15))]);
    // mended, they are imported like any archive
    fill(&source, "");
    let file = scratch.sqlite("mended.db", HOOKS, "");
    import(&rejects, &file, &[]).success();
    fill(&file, "UPDATE sessions SET start_time = '2025-08-19T10:00:00Z'");
    scratch.shift(&file, &server.url(), &[]).success();
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_events"), "2");
}

#[test]
fn only_the_orphans_leave_a_file_that_held_rows_before() {
    let scratch = Scratch::new("orphans_among_others");
    let keyed = "DROP TABLE events; CREATE TABLE events (id TEXT PRIMARY KEY, session_id TEXT, event_type TEXT, \
                 timestamp TEXT, data TEXT, tool_name TEXT, duration_ms INTEGER, created_at TEXT) WITHOUT ROWID;";
    let before: String = (30..40).map(|n| event(n, 1, "stop")).collect();
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &orphaned()));
    for (name, ddl) in [("rowids", ""), ("keys", keyed)] {
        let sql = ddl.to_owned() + &session(1) + &before;
        let file = scratch.sqlite(&format!("{name}.db"), HOOKS, &sql);
        let done = json_of(&import(&archive, &file, &["--orphans=skip", "--json"]).success());
        assert_eq!(done["streams"][1]["skipped_orphans"], 3, "{name}");
        let expected: Vec<String> = [11].into_iter().chain(30..40).map(id).collect();
        assert_eq!(ask(&file, "SELECT id FROM events ORDER BY id"), expected.join("\n"), "{name}");
    }
}

#[test]
fn an_id_that_no_session_can_have_is_not_adopted() {
    let scratch = Scratch::new("not_adopted");
    let orphan = "INSERT INTO chronicle_events (id, session_id, type, timestamp, data) \
                  VALUES (1, 'a name', 'prompt', '2025-08-19T10:00:00Z', '{}')";
    let archive = scratch.export(&scratch.sqlite("source.db", TUTORIAL, orphan));
    let target = scratch.sqlite("target.db", TUTORIAL, "");
    let refused = import(&archive, &target, &["--orphans=adopt"]).fails_with(12);
    refused.stderr_has("cannot hold the rows for them").stderr_has("--orphans keep");
    let check = ["check", words(&archive), "--to", &target, "--orphans=adopt"];
    Program::new(check).run().fails_with(12);
    let check = "CHECK (status IN ('done'))";
    let server = postgres(
        "postgres-upstream.sql",
        "not_adopted",
        &NUMBERED_SERVER.replace("status text", &format!("status text DEFAULT 'new' {check}")),
    );
    let events = event(11, 1, "prompt");
    let archive = scratch.export(&scratch.sqlite("events.db", HOOKS, &events));
    let options = ["--on-missing-column=fold", "--orphans=adopt"];
    import(&archive, &server.url(), &options).fails_with(12).stderr_has("--orphans skip");
}
