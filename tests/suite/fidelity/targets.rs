//! What targets change by themselves, and what an export restores nevertheless.

use super::*;

// reading back

#[test]
fn a_column_that_holds_less_than_the_value_stops_the_import() {
    let scratch = Scratch::new("narrow");
    let sql = "ALTER TABLE events ADD COLUMN cost TEXT;".to_owned()
        + &good()
        + &format!(
            "UPDATE events SET cost = '1.25', timestamp = '2025-08-19T10:00:11.5Z' WHERE id = '{}'",
            id(11)
        );
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    for (narrow, column) in [
        (
            "ALTER TABLE chronicle_events ALTER timestamp TYPE timestamptz(0), ADD cost text",
            "timestamp",
        ),
        ("ALTER TABLE chronicle_events ADD cost numeric(6,1)", "cost"),
        ("ALTER TABLE chronicle_events ADD cost varchar(3)", "cost"),
    ] {
        for before in [
            String::new(),
            format!(
                "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('{}', 'x', now())",
                id(9)
            ),
        ] {
            // the view prevents a change of type
            let server = postgres(
                UPSTREAM,
                "narrow",
                &format!(
                    "DROP VIEW chronicle_recent_events, chronicle_active_sessions; {narrow}; {before}"
                ),
            );
            let rows = postgres_dump(&server);
            let output = import(&archive, &server.url(), &[]);
            assert!(
                matches!(output.code, Some(8 | 10)),
                "{narrow}: {:?} {}",
                output.code,
                output.stderr
            );
            output
                .stderr_has("chronicle_events")
                .stderr_has(&format!("\"{column}\""))
                .stderr_has(&id(11))
                .stderr_has("hint: ");
            assert_same_rows(&rows, &postgres_dump(&server));
        }
    }
}

#[test]
fn a_trigger_that_cannot_be_silenced_stops_the_import() {
    let scratch = Scratch::new("loud_trigger");
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &good()));
    let server = postgres(UPSTREAM, "loud_trigger", "");
    let writer = format!("writer_{}", server.name());
    let writer = &writer[..writer.len().min(63)];
    server.psql_as(
        ADMIN,
        &format!(
            "CREATE ROLE \"{writer}\" LOGIN BYPASSRLS PASSWORD '{PASSWORD}'; \
             GRANT ALL ON chronicle_sessions, chronicle_events TO \"{writer}\"; \
             GRANT CREATE ON SCHEMA public TO \"{writer}\""
        ),
    );
    import(&archive, &server.url_as(writer), &[])
        .fails_with(8)
        .stderr_has("trigger")
        .stderr_has("cannot be disabled");
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
    // a rule is no trigger, and what it does is seen when the rows are read back
    let before = format!(
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('{}', 'x', now())",
        id(9)
    );
    server.psql(&before);
    server.psql("CREATE RULE loud AS ON INSERT TO chronicle_sessions DO INSTEAD NOTHING");
    let rows = postgres_dump(&server);
    import(&archive, &server.url(), &[]).fails_with(8).stderr_has("a rule of the table changes");
    import(&archive, &server.url(), &["--no-undo"])
        .fails_with(8)
        .stderr_has("1 row loaded, 0 found");
    assert_same_rows(&rows, &postgres_dump(&server));
    server.psql_as(ADMIN, &format!("DROP OWNED BY \"{writer}\"; DROP ROLE \"{writer}\""));
}

// everything at once

#[test]
fn any_hooks_file_comes_back_byte_for_byte_from_postgres() {
    for seed in [1, 2] {
        let scratch = Scratch::new("hostile_there_and_back");
        let source = scratch.path("source.db");
        hostile_hooks_database(&source, 1_400, seed).expect("a database");
        // a row without an id would get a new one
        fill(
            words(&source),
            "DELETE FROM sessions WHERE id IS NULL; DELETE FROM events WHERE id IS NULL",
        );
        // what a table refuses and no program can get round: orphans, doubles, texts too long for an index
        let server = postgres(
            UPSTREAM,
            "hostile_there_and_back",
            "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey; \
             ALTER TABLE chronicle_sessions ALTER start_time DROP NOT NULL; \
             ALTER TABLE chronicle_sessions ALTER claude_session_id DROP NOT NULL; \
             ALTER TABLE chronicle_sessions DROP CONSTRAINT chronicle_sessions_claude_session_id_key; \
             ALTER TABLE chronicle_events ALTER timestamp DROP NOT NULL; \
             ALTER TABLE chronicle_events ALTER event_type DROP NOT NULL; \
             DROP INDEX idx_chronicle_sessions_claude_session_id, idx_chronicle_sessions_project_path, \
               idx_chronicle_events_type, idx_chronicle_events_tool_name",
        );
        let options = [KEEP, &["--assume-tz=America/Los_Angeles", "--orphans=keep"]].concat();
        scratch.shift(words(&source), &server.url(), &options).success();
        let back = scratch.sqlite("back.db", HOOKS, "");
        scratch.shift(&server.url(), &back, &["--orphans=keep"]).success();
        assert_same_rows(&sqlite_dump(&source), &sqlite_dump(back.as_ref()));
    }
}

#[test]
fn a_server_file_comes_back_and_continues_counting() {
    let scratch = Scratch::new("server_there_and_back");
    let rows = good()
        .replace("INTO sessions", "INTO chronicle_sessions")
        .replace("INTO events", "INTO chronicle_events")
        .replace("timestamp, data,", "timestamp, metadata,");
    let source = scratch.sqlite("source.db", SERVER, &rows);
    there_and_back(&scratch, &source, SERVER, &[]);
    assert_eq!(ask(&source, "SELECT event_count FROM chronicle_sessions"), "2");
}

#[test]
fn a_column_folded_into_a_file_comes_back_too() {
    let scratch = Scratch::new("folded_into_a_file");
    let mood =
        "ALTER TABLE events ADD COLUMN mood TEXT; ALTER TABLE sessions ADD COLUMN score REAL;";
    let sql = mood.to_owned()
        + &good()
        + &session(2)
        + &format!(
            "UPDATE events SET mood = 'calm' WHERE id = '{}'; UPDATE sessions SET score = 0.1; \
             UPDATE sessions SET metadata = '{{}}' WHERE id = '{}';",
            id(11),
            id(2)
        );
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = scratch.sqlite("server.db", SERVER, "");
    let archive = scratch.export(&source);
    import(&archive, &server, &["--on-missing-column=fold"]).success();
    let before = sqlite_dump(server.as_ref());
    import(&archive, &server, &["--on-missing-column=fold"]).success();
    assert_same_rows(&before, &sqlite_dump(server.as_ref()));
    let folded =
        "SELECT metadata FROM chronicle_sessions UNION ALL SELECT metadata FROM chronicle_events";
    assert_eq!(
        ask(&server, folded),
        "\n{\"chronicle_dump\":{\"score\":{\"real\":\"0.1\"}}}\n\
         {\"n\": 11,\"chronicle_dump\":{\"mood\":{\"text\":\"calm\"}}}\n{\"n\": 12}"
    );
    let back = scratch.sqlite("back.db", HOOKS, mood);
    scratch.shift(&server, &back, &["--on-missing-column=drop"]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn a_postgres_database_comes_back_from_a_file_with_every_digit() {
    let scratch = Scratch::new("postgres_there_and_back");
    let mut rows = String::new();
    for (n, (time, payload)) in [
        ("infinity", "{\"n\": 123456789012345678901234567890.10}"),
        ("-infinity", "[1, 1.0, -0.0]"),
        ("0044-03-15 12:00:00Z BC", "null"),
        ("2025-08-19 10:00:00.000001Z", "{\"chronicle_dump\": 1}"),
        ("12025-08-19 10:00:00Z", "{}"),
    ]
    .iter()
    .enumerate()
    {
        let (session, event) = (id(n as u32 + 1), id(n as u32 + 11));
        rows += &format!(
            "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, metadata, created_at) \
             VALUES ('{session}', '{n}', '{time}', NULLIF('{payload}', '{{}}')::jsonb, NULL); \
             INSERT INTO chronicle_events (id, session_id, event_type, timestamp, metadata, duration_ms) \
             VALUES ('{event}', '{session}', 'stop', '2025-08-19Z', '{payload}', {n});"
        );
    }
    let source = postgres(UPSTREAM, "postgres_there_and_back", &rows);
    let file = scratch.sqlite("file.db", HOOKS, "");
    scratch.shift(&source.url(), &file, KEEP).success();
    let back = postgres(UPSTREAM, "postgres_there_and_back", "");
    scratch.shift(&file, &back.url(), &["--on-missing-column=drop"]).success();
    assert_same_rows(&postgres_dump(&source), &postgres_dump(&back));
}

#[test]
fn a_stored_original_is_never_replaced_by_another_import() {
    let scratch = Scratch::new("kept_stays");
    let with = |text: &str| {
        session(1) + &event(11, 1, "stop").replace("'{", &format!("'{{\"t\": \"{text}\", "))
    };
    let first = scratch.sqlite("first.db", HOOKS, &with("\\u0000"));
    let other = scratch.sqlite("other.db", HOOKS, &with("\\ud800"));
    let server = postgres(UPSTREAM, "kept_stays", "");
    scratch.shift(&first, &server.url(), KEEP).success();
    let kept = || server.psql("SELECT * FROM chronicle_dump.sidecar ORDER BY key");
    let before = kept();
    scratch.shift(&first, &server.url(), &["--on-unrepresentable=adapt"]).success();
    scratch
        .shift(&other, &server.url(), KEEP)
        .fails_with(11)
        .stderr_has("another original of \"data\"");
    assert_eq!(kept(), before);
}

#[test]
fn a_side_row_with_a_nul_in_its_key_comes_back() {
    let scratch = Scratch::new("nul_keys");
    let sql = "INSERT INTO prompt_events (id, prompt_text) VALUES ('a' || char(0) || 'b', 'x'), \
                 (char(1) || '6100', 'y'); \
               INSERT INTO project_context (id, file_path) VALUES (x'00ff', 'z');";
    let source = scratch.sqlite("source.db", MANAGER, sql);
    let options = [KEEP, &["--orphans=keep"]].concat();
    let server = postgres(UPSTREAM, "nul_keys", "");
    scratch.shift(&source, &server.url(), &options).success();
    let back = scratch.sqlite("back.db", MANAGER, "");
    scratch.shift(&server.url(), &back, &options).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn a_reference_with_another_uuid_spelling_is_reported() {
    let scratch = Scratch::new("spelled_reference");
    let upper = session(1).replace("0000000a", "0000000A");
    let source = scratch.sqlite("source.db", HOOKS, &(upper + &event(11, 1, "stop")));
    let server = postgres(UPSTREAM, "spelled_reference", "");
    scratch
        .shift(&source, &server.url(), &[KEEP, &["--assume-tz=UTC"]].concat())
        .success()
        .stderr_has("spells this UUID differently");
}

#[test]
fn only_sessions_are_created_for_orphans() {
    let scratch = Scratch::new("adopt_sessions_only");
    let sql = "INSERT INTO prompt_events (id, event_id) VALUES ('p1', 'x');";
    let source = scratch.sqlite("source.db", MANAGER, sql);
    let to = scratch.sqlite("to.db", MANAGER, "");
    let said = scratch.shift(&source, &to, &["--orphans=adopt"]).success();
    said.stderr_has("loaded anyway").stderr_lacks("sessions created");
    assert_eq!(
        ask(&to, "SELECT (SELECT count(*) FROM events), count(*) FROM prompt_events"),
        "0|1"
    );
}
