//! Rows that come twice: from the hooks and from the server of one file.

use super::*;

/// A session and an event as the local server writes them.
fn of_the_server(session: u32, event: u32, data: &str) -> String {
    let (session, event) = (id(session), id(event));
    format!(
        "INSERT INTO chronicle_sessions (id, claude_session_id, project_path, start_time, created_at) \
         VALUES ('{session}', '{session}', '/home/kim/tea', '2025-08-19T10:00:00Z', '2025-08-19 10:00:00'); \
         INSERT INTO chronicle_events (id, session_id, event_type, timestamp, metadata, tool_name, created_at) \
         VALUES ('{event}', '{session}', 'stop', '2025-08-19T10:00:11Z', '{data}', 'Bash', '2025-08-19 10:00:00');"
    )
}

/// What both tables hold of a session and an event that differ in nothing that counts.
fn in_both(data: &str) -> String {
    session(1) + &event(11, 1, "stop") + &of_the_server(1, 11, data)
}

#[test]
fn a_second_copy_that_says_nothing_new_is_left_out() {
    let scratch = Scratch::new("redundant_rows");
    // without a metadata and with an empty one, with a count and without
    let source = scratch.sqlite("source.db", BOTH, &in_both("{\"n\": 11}"));
    let archive = scratch.export(&source);
    let (hooks, server) = (
        scratch.sqlite("hooks.db", HOOKS, ""),
        postgres("postgres-upstream.sql", "redundant_rows", ""),
    );
    for to in [hooks, server.url()] {
        for inserted in [1, 0] {
            Program::new(["check", "--strict", words(&archive), "--to", &to]).run().success();
            let done = json_of(&import(&archive, &to, &["--json"]).success());
            for stream in 0..2 {
                let (first, second) = (&done["streams"][stream], &done["streams"][stream + 2]);
                assert_eq!(first["inserted_rows"], inserted, "{done:#}");
                assert_eq!([&second["inserted_rows"], &second["skipped_rows"]], [0, 1], "{done:#}");
            }
        }
        Program::new(["verify", "--strict", words(&archive), "--against", &to]).run().success();
        assert_eq!(records(&scratch.export(&to), "events").len(), 1);
    }
}

#[test]
fn a_duplicate_with_more_is_refused_stored_or_dropped() {
    let scratch = Scratch::new("second_copy");
    let sql = in_both("{\"of\": \"the server\"}") + &of_the_server(2, 12, "{}");
    let source = scratch.sqlite("source.db", BOTH, &sql);
    let archive = scratch.export(&source);
    let kept = records(&archive, "server_events");
    let hooks = || {
        drop(std::fs::remove_file(scratch.path("hooks.db")));
        scratch.sqlite("hooks.db", HOOKS, "")
    };
    let server = || postgres("postgres-upstream.sql", "second_copy", "");
    for there in [None, Some(server())] {
        let to = || there.as_ref().map_or_else(&hooks, |server| server.url());
        let target = to();
        let reason = "events has a row with this id";
        import(&archive, &target, &[])
            .fails_with(11)
            .stderr_has(&format!("(key {}), column \"data\": {reason}", id(11)))
            .stderr_has("--on-missing-column preserve");
        let checked =
            Program::new(["check", "--strict", words(&archive), "--to", &target, "--json"]).run();
        let problem = json_of(&checked.fails_with(11))["problems"][0].clone();
        assert_eq!([&problem["code"], &problem["column"]], ["row.conflict", "data"]);
        assert_eq!(problem["remedy"], "--on-missing-column preserve, add or drop");
        assert_eq!(problem["samples"], json!([id(11)]));

        let dropped = ["--on-missing-column=drop", "--dry-run", "--json"];
        let done = json_of(&import(&archive, &target, &dropped).success());
        let lost: Vec<_> = (done["changes"].as_array().expect("changes").iter())
            .filter(|c| c["column"] == "*")
            .map(|c| {
                (
                    c["stream"].clone(),
                    c["kind"].clone(),
                    c["values"].clone(),
                    c["first_key"].clone(),
                )
            })
            .collect();
        let one = |stream: &str, n| (json!(stream), json!("dropped"), json!(1), json!(id(n)));
        assert_eq!(lost, [one("server_sessions", 1), one("server_events", 11)]);

        for inserted in [1, 0] {
            let args = [&["check", "--strict", words(&archive), "--to", &target], KEEPING].concat();
            Program::new(args).run().success();
            let done =
                json_of(&import(&archive, &target, &[KEEPING, &["--json"]].concat()).success());
            let rows = |n: usize| done["streams"][n]["inserted_rows"].clone();
            assert_eq!(
                [rows(0), rows(1), rows(2), rows(3)],
                [1, 1, 2, 2].map(|n| json!(n * inserted))
            );
        }
        let args =
            [&["verify", "--strict", words(&archive), "--against", &target], KEEPING].concat();
        Program::new(args).run().success();
        let back = scratch.export(&target);
        let (sessions, events) = (records(&back, "sessions"), records(&back, "events"));
        assert_eq!([sessions.len(), events.len()], [1, 1]);
        assert_eq!(events[0]["session_id"], sessions[0]["id"]);
        let (parents, again) = (records(&back, "server_sessions"), records(&back, "server_events"));
        assert_eq!(again, kept, "to the letter");
        assert!(again.iter().all(|e| parents.iter().any(|s| s["id"] == e["session_id"])));
    }
}

#[test]
fn hooks_and_server_rows_come_back_to_their_own_tables() {
    let scratch = Scratch::new("own_tables");
    // a session and an event of both, and others that the server alone has
    let alone = of_the_server(2, 12, "{ \"of\": \"nobody else\" }");
    let rows = in_both("{ \"of\": \"the server\" }") + &alone;
    let source = scratch.sqlite("source.db", BOTH, &rows);
    let server = postgres("postgres-upstream.sql", "own_tables", "");
    for to in [scratch.sqlite("hooks.db", HOOKS, ""), server.url()] {
        for _ in 0..2 {
            scratch.shift(&source, &to, KEEPING).success();
        }
        let back = scratch.sqlite("back.db", BOTH, "");
        scratch.shift(&to, &back, &[]).success();
        assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
        // by way of a third one, too
        let other = scratch.sqlite("other.db", HOOKS, "");
        scratch.shift(&to, &other, KEEPING).success();
        let last = scratch.sqlite("last.db", BOTH, "");
        scratch.shift(&other, &last, &[]).success();
        assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(last.as_ref()));
        for file in [back, other, last] {
            std::fs::remove_file(file).expect("remove the file");
        }
    }
    // all can be seen where there is one pair of tables, and what somebody writes there stays
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "2");
    server.psql("UPDATE chronicle_sessions SET git_branch = 'mine' WHERE id::text LIKE '%2'");
    let edited = scratch.sqlite("edited.db", BOTH, "");
    scratch.shift(&server.url(), &edited, KEEPING).success();
    assert_eq!(ask(&edited, "SELECT count(*) FROM sessions WHERE git_branch = 'mine'"), "1");
}

#[test]
fn the_second_copy_of_a_rejected_row_is_loaded_in_its_place() {
    let scratch = Scratch::new("rejected_first");
    let sql = in_both("{\"n\": 11}")
        + &format!("UPDATE sessions SET start_time = 'never' WHERE id = '{}'", id(1));
    let archive = scratch.export(&scratch.sqlite("source.db", BOTH, &sql));
    let server = postgres("postgres-upstream.sql", "rejected_first", "");
    let rejects = scratch.path("rejects.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options).fails_with(14);
    let joined =
        "SELECT e.id FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(server.psql(joined), id(11));
    assert_eq!([records(&rejects, "sessions").len(), records(&rejects, "events").len()], [1, 1]);
}
