//! Columns that the target lacks, folded, added or dropped.

use super::*;

#[test]
fn a_column_that_cannot_be_added_is_stored_in_the_sidecar() {
    let scratch = Scratch::new("name_taken");
    // the server's tables call the payload so
    let more = "ALTER TABLE events ADD COLUMN metadata TEXT;".to_owned()
        + &good()
        + "UPDATE events SET metadata = '{\"of\": \"mine\"}';";
    let source = scratch.sqlite("source.db", HOOKS, &more);
    let server = scratch.sqlite("server.db", SERVER, "");
    scratch.shift(&source, &server, &["--on-missing-column=add"]).success();
    let back = scratch.sqlite("back.db", HOOKS, "ALTER TABLE events ADD COLUMN metadata TEXT;");
    scratch.shift(&server, &back, &["--on-missing-column=drop"]).success();
    assert_eq!(ask(&back, "SELECT DISTINCT metadata FROM events"), "{\"of\": \"mine\"}");
}

#[test]
fn dropped_columns_are_counted_and_folded_ones_are_kept() {
    let scratch = Scratch::new("dropped_column");
    let sql = "ALTER TABLE events ADD COLUMN mood TEXT;".to_owned()
        + &good()
        + &format!("UPDATE events SET mood = 'calm' WHERE id = '{}';", id(11));
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    for (option, what, word) in [
        ("--on-missing-column=drop", "dropped", "lost"),
        ("--on-missing-column=fold", "folded", "stored in the row's JSON"),
    ] {
        let server = postgres(UPSTREAM, "dropped_column", "");
        let done = import(&archive, &server.url(), &[option, "--json"]).success();
        let changes = json_of(&done)["changes"].clone();
        let mood = changes.as_array().expect("changes").iter().find(|c| c["column"] == "mood");
        let mood = mood.unwrap_or_else(|| panic!("{option}: {changes}"));
        assert_eq!([&mood["kind"], &mood["values"]], [&json!(what), &json!(1)], "{option}");
        import(&archive, &server.url(), &[option]).success().stderr_has(word);
        let back = records(&scratch.export(&server.url()), "events");
        let expected = if what == "folded" { json!("calm") } else { json!(null) };
        assert_eq!(back[0]["mood"], expected, "{option}");
    }
}

#[test]
fn a_folded_value_goes_into_a_json_object_else_the_sidecar() {
    let scratch = Scratch::new("folded");
    let payloads = [
        "{\"a\": 1}",
        "{}",
        "{ }",
        "[1, 2]",
        "\"text\"",
        "7",
        "null",
        "true",
        "",
        "{\"chronicle_dump\": {\"x\": {\"text\": \"mine\"}}}",
        "{\"chronicle_dump\": 1, \"b\": [ ]}",
        "{\"a\": {\"chronicle_dump\": 2}}",
    ];
    let mut sql =
        "ALTER TABLE events ADD COLUMN mood TEXT; ALTER TABLE sessions ADD COLUMN git_commit TEXT;"
            .to_owned()
            + &session(1)
            + &session(2)
            + &session(3);
    for (n, payload) in payloads.iter().enumerate() {
        let n = n as u32 + 10;
        sql += &event(n, 1, "stop").replace(&format!("{{\"n\": {n}}}"), payload);
    }
    sql += &format!(
        "UPDATE events SET mood = CASE rowid % 5 WHEN 0 THEN 'it''s \"calm\" é' WHEN 1 THEN 1.5 WHEN 2 THEN x'00ff' \
             WHEN 3 THEN CAST(x'6100ff' AS TEXT) END; \
         UPDATE sessions SET git_commit = 'c0ffee', metadata = NULL WHERE id = '{}'; \
         UPDATE sessions SET git_commit = 'decade', metadata = '{{\"m\": [1,  2]}}' WHERE id = '{}';",
        id(1),
        id(2)
    );
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    there_and_back(&scratch, &source, HOOKS, &[]);
    let server = postgres(UPSTREAM, "folded", "");
    scratch.shift(&source, &server.url(), KEEP).success();
    let folded = "SELECT metadata #>> '{chronicle_dump,git_commit,text}' FROM chronicle_sessions ORDER BY id";
    assert_eq!(server.psql(folded), "\ndecade\n");
    let mine = "SELECT count(*) FROM chronicle_events WHERE metadata #>> '{chronicle_dump,x,text}' = 'mine'";
    assert_eq!(server.psql(mine), "1");
}

#[test]
fn added_columns_give_their_values_back() {
    let scratch = Scratch::new("added_column");
    let sql = "ALTER TABLE events ADD COLUMN mood TEXT; ALTER TABLE events ADD COLUMN score REAL; \
               ALTER TABLE events ADD COLUMN size INTEGER; ALTER TABLE events ADD COLUMN raw BLOB;"
        .to_owned()
        + &good()
        + &format!(
            "UPDATE events SET mood = 'calm', score = 0.1, size = 9007199254740993, raw = x'00ff' \
              WHERE id = '{}';",
            id(11)
        );
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    let (server, file) =
        (postgres(UPSTREAM, "added_column", ""), scratch.sqlite("target.db", HOOKS, ""));
    let empty = postgres_dump(&server);
    import(&archive, &server.url(), &["--on-missing-column=add", "--dry-run"])
        .success()
        .stderr_has("mood");
    assert_same_rows(&empty, &postgres_dump(&server));
    for to in [server.url(), file.clone()] {
        import(&archive, &to, &["--on-missing-column=add"])
            .success()
            .stderr_has("mood, score, size, raw");
        import(&archive, &to, &["--on-missing-column=add"]).success();
        let row = &records(&scratch.export(&to), "events")[0];
        assert_eq!(
            [&row["mood"], &row["score"], &row["raw"]],
            [&json!("calm"), &json!(0.1), &json!("AP8=")],
            "{to}"
        );
        assert_eq!(row["size"].to_string(), "9007199254740993", "{to}");
    }
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_attribute \
                 WHERE attrelid = 'chronicle_events'::regclass AND attname IN ('mood', 'score', 'size', 'raw')";
    assert_eq!(server.psql(types), "text double precision bigint bytea");
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(file.as_ref()));
}

#[test]
fn a_required_session_id_is_derived_and_not_exported() {
    let scratch = Scratch::new("made_column");
    let rows = format!(
        "INSERT INTO chronicle_sessions (id, project_path, start_time, status, event_count, created_at, updated_at) \
         VALUES ('{0}', '/tea', '2025-08-19 10:00Z', 'completed', 3, '2025-08-19Z', '2025-08-19Z'); \
         INSERT INTO chronicle_events (id, session_id, type, timestamp, data, created_at) \
         VALUES ('{1}', '{0}', 'session_start', '2025-08-19 10:00Z', '{{\"a\": 1}}', '2025-08-19Z');",
        id(1),
        id(11)
    );
    let source = postgres("postgres-seed.sql", "made_column", &rows);
    let server = postgres(UPSTREAM, "made_column", "");
    let archive = scratch.export(&source.url());
    import(&archive, &server.url(), &["--on-missing-column=fold"])
        .success()
        .stderr_has("the archive lacks it and the target requires it");
    let before = postgres_dump(&server);
    assert_eq!(server.psql("SELECT claude_session_id FROM chronicle_sessions"), id(1));
    import(&archive, &server.url(), &["--on-missing-column=fold"]).success();
    assert_same_rows(&before, &postgres_dump(&server));
    let exported = records(&scratch.export(&server.url()), "sessions");
    assert_eq!(exported[0].get("claude_session_id"), None);
    let back = postgres("postgres-seed.sql", "made_column", "");
    scratch.shift(&server.url(), &back.url(), &["--on-missing-column=drop"]).success();
    // rows without a batch get that of the import
    for table in ["chronicle_sessions", "chronicle_events"] {
        back.psql(&format!("UPDATE {table} SET migration_batch = NULL"));
    }
    assert_same_rows(&postgres_dump(&source), &postgres_dump(&back));
}
