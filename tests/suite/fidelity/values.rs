//! Values that the target cannot hold, adapted, preserved or rejected.

use super::*;

#[test]
fn odd_values_come_back_byte_for_byte_from_postgres() {
    let scratch = Scratch::new("odd_values");
    let source = scratch.sqlite(
        "source.db",
        HOOKS,
        &(odd() + "UPDATE sessions SET start_time = '2025-08-19T10:00:00'"),
    );
    there_and_back(&scratch, &source, HOOKS, &["--assume-tz=Europe/Berlin"]);
}

#[test]
fn files_of_the_hooks_come_back_byte_for_byte_from_postgres() {
    let scratch = Scratch::new("hooks_there_and_back");
    let source = scratch.path("generated.db");
    hooks_database(&source, 30, 600, 5).expect("a database");
    fill(
        words(&source),
        "UPDATE sessions SET end_time = start_time, git_branch = 'main', metadata = '{\"a\":  [1, 2.50]}' \
          WHERE rowid % 2 = 0; UPDATE events SET duration_ms = rowid % 977 WHERE rowid % 3 = 0;",
    );
    there_and_back(&scratch, words(&source), HOOKS, &["--assume-tz=America/Los_Angeles"]);
    let sample = scratch.sqlite("sample.db", &["sqlite-hooks.sql", "sample-hooks.sql"], "");
    there_and_back(
        &scratch,
        &sample,
        HOOKS,
        &["--assume-tz=UTC", "--map-event-types=upstream", "--orphans=keep"],
    );
}

#[test]
fn an_unusual_value_stops_an_import_and_leaves_nothing() {
    let scratch = Scratch::new("odd_value");
    for (column, value, words) in [
        ("data", "'{\"a\": NaN}'", "it is not valid JSON"),
        ("data", "'{\"a\": \"\\u0000\"}'", "column \"data\""),
        ("tool_name", "CAST(x'610062' AS TEXT)", "NUL"),
        ("tool_name", "x'00'", "a blob is not text"),
        ("duration_ms", "4294967296", "too large for 4 bytes"),
        ("duration_ms", "-1", "below 0"),
        ("timestamp", "'now'", "column \"timestamp\""),
    ] {
        let sql = good() + &format!("UPDATE events SET {column} = {value} WHERE id = '{}'", id(12));
        let source = scratch.sqlite("source.db", HOOKS, &sql);
        let server = postgres(UPSTREAM, "odd_value", "");
        scratch
            .shift(&source, &server.url(), &[])
            .fails_with(10)
            .stderr_has(words)
            .stderr_has(&id(12))
            .stderr_has("chronicle_events")
            .stderr_has("leaves the row out");
        assert_eq!(postgres_dump(&server), Vec::<String>::new());
        assert_eq!(
            server.psql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'chronicle_dump%'"),
            "0"
        );
        std::fs::remove_file(&source).expect("remove the file");
    }
}

#[test]
fn adapted_values_are_counted_and_nothing_is_kept() {
    let scratch = Scratch::new("adapted");
    let source = scratch.sqlite(
        "source.db",
        HOOKS,
        &(odd() + "UPDATE sessions SET start_time = '2025-08-19T10:00:00'"),
    );
    let server = postgres(UPSTREAM, "adapted", "");
    let options = ["--on-unrepresentable=adapt", "--assume-tz=UTC"];
    let done =
        scratch.shift(&source, &server.url(), &[&options[..], &["--json"]].concat()).success();
    let changes = json_of(&done)["changes"].clone();
    let of = |column: &str| -> u64 {
        let changes = changes.as_array().expect("changes").iter();
        changes.filter(|c| c["column"] == column).map(|c| c["values"].as_u64().unwrap_or(0)).sum()
    };
    assert_eq!(
        ["data", "tool_name", "duration_ms", "timestamp", "created_at"].map(of),
        [7, 2, 3, 1, 1],
        "{changes:#}"
    );
    let kept = "SELECT count(*) FROM pg_class WHERE relname IN ('sidecar', 'chronicle_dump_sidecar') AND pg_relation_size(oid) > 0";
    assert_eq!(server.psql(kept), "0");
}

#[test]
fn rejected_rows_go_into_their_own_archive_with_reasons() {
    let scratch = Scratch::new("rejected");
    let sql = good()
        + &event(13, 1, "stop")
        + &format!(
            "UPDATE events SET duration_ms = 'soon', tool_name = x'00' WHERE id = '{}'",
            id(12)
        );
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    let server = postgres(UPSTREAM, "rejected", "");
    let rejects = scratch.path("rejects.ndjson.zst");
    import(&archive, &server.url(), &["--on-unrepresentable=reject"])
        .fails_with(2)
        .stderr_has("--rejects FILE");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options)
        .fails_with(14)
        .stderr_has("events.duration_ms: 1 row left out")
        .stderr_has("events.tool_name: 1 row left out")
        .stderr_has(&id(12))
        .stdout_has("2 events (1 rejected)");
    assert_eq!(
        server.psql("SELECT id FROM chronicle_events ORDER BY id"),
        [id(11), id(13)].join("\n")
    );
    Program::new(["verify", words(&rejects)]).run().success();
    let lines =
        zstd::decode_all(std::fs::File::open(&rejects).expect("the rejects")).expect("zstd");
    let lines = String::from_utf8(lines).expect("text");
    let line = lines.lines().find(|l| l.contains("\"rejected\":")).expect("a rejected row");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let line = &line["chronicle"];
    assert_eq!(line["row"], 2, "{line}");
    assert_eq!(
        line["rejected"].as_array().map(Vec::len),
        Some(2),
        "one reason for each column: {line}"
    );
    assert_eq!(line["rejected"][1]["column"], "duration_ms", "{line}");
    // no file is replaced, be it these rows or the archive itself
    for there in [words(&rejects), words(&archive), &source] {
        let before = std::fs::read(there).expect("the file");
        let options = ["--on-unrepresentable=reject", "--rejects", there];
        for dry in [&[][..], &["--dry-run"]] {
            import(&archive, &server.url(), &[&options[..], dry].concat())
                .fails_with(2)
                .stderr_has("--rejects: ");
        }
        assert!(std::fs::read(there).expect("the file") == before);
    }
    // a dry run counts the rows and writes no file
    let dry = scratch.path("dry.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&dry), "--dry-run"];
    import(&archive, &server.url(), &options)
        .fails_with(14)
        .stderr_has("1 row would be left out: ");
    assert!(!dry.exists());
    // the rest of the way
    import(&rejects, &server.url(), KEEP).success();
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&server.url(), &back, &[]).success();
    let row = format!("SELECT * FROM events WHERE id = '{}'", id(12));
    assert_eq!(ask(&back, &row), ask(&source, &row));
    // nothing to reject: no file, and all is well
    let none = scratch.path("none.ndjson.zst");
    let fine = scratch.sqlite("fine.db", HOOKS, &good());
    let options = ["--on-unrepresentable=reject", "--rejects", words(&none)];
    let empty = postgres(UPSTREAM, "rejected", "");
    scratch.shift(&fine, &empty.url(), &options).success();
    assert!(!none.exists());
}

#[test]
fn a_rule_that_only_the_server_knows_rejects_rows_too() {
    let scratch = Scratch::new("server_rule");
    let source = scratch.sqlite("source.db", HOOKS, &(good() + &event(13, 1, "stop")));
    let rule = "ALTER TABLE chronicle_events ADD CHECK (length(event_type) * 2 > 10)";
    let server = postgres(UPSTREAM, "server_rule", rule);
    let archive = scratch.export(&source);
    import(&archive, &server.url(), &[]).fails_with(10);
    let rejects = scratch.path("rejects.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options).fails_with(14);
    assert_eq!(server.psql("SELECT id FROM chronicle_events"), id(11));
    let keys: Vec<_> = records(&rejects, "events").iter().map(|r| r["id"].clone()).collect();
    assert_eq!(keys, [json!(id(12)), json!(id(13))]);
}

#[test]
fn values_edited_since_are_exported_as_edited() {
    let scratch = Scratch::new("edited");
    let mut sql = session(1);
    for n in 11..15 {
        sql += &event(n, 1, "stop").replace("\"n\": ", "\"n\":   ");
    }
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "edited", "");
    scratch.shift(&source, &server.url(), KEEP).success();
    server.psql(&format!(
        "UPDATE chronicle_events SET metadata = '{{\"n\": 99}}' WHERE id = '{}'; \
         UPDATE chronicle_events SET timestamp = '2025-08-19 11:00:00Z' WHERE id = '{}'; \
         UPDATE chronicle_sessions SET metadata = jsonb_set(metadata, '{{note}}', '1'); \
         INSERT INTO chronicle_events (id, session_id, event_type, timestamp, metadata, created_at) \
         VALUES ('{}', '{}', 'stop', '2025-08-19 12:00:00.5Z', '{{\"new\": true}}', '2025-08-19 12:00:01Z')",
        id(12),
        id(13),
        id(20),
        id(1)
    ));
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&server.url(), &back, &[]).success();
    assert_eq!(
        ask(&back, "SELECT timestamp, data FROM events ORDER BY id"),
        "2025-08-19T10:00:11Z|{\"n\":   11}\n\
         2025-08-19T10:00:12Z|{\"n\": 99}\n\
         2025-08-19T11:00:00.000000Z|{\"n\":   13}\n\
         2025-08-19T10:00:14Z|{\"n\":   14}\n\
         2025-08-19T12:00:00.500000Z|{\"new\": true}"
    );
    assert_eq!(ask(&back, "SELECT updated_at FROM sessions"), "2025-08-19 10:00:01");
}

#[test]
fn a_second_import_that_preserves_changes_nothing() {
    let scratch = Scratch::new("preserved_twice");
    let mut sql = odd() + "ALTER TABLE sessions ADD COLUMN git_commit TEXT;";
    sql += "UPDATE sessions SET start_time = '2025-08-19T10:00:00Z', git_commit = 'c0ffee', metadata = '{}'";
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "preserved_twice", "");
    let archive = scratch.export(&source);
    let options = [KEEP, &["--assume-tz=UTC"]].concat();
    import(&archive, &server.url(), &options).success();
    let all = |table: &str| server.psql(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3"));
    let before = (
        postgres_dump(&server),
        all("chronicle_dump.sidecar"),
        all("chronicle_dump.sidecar_columns"),
    );
    assert!(!before.1.is_empty() && !before.2.is_empty());
    import(&archive, &server.url(), &options).success();
    let after = (
        postgres_dump(&server),
        all("chronicle_dump.sidecar"),
        all("chronicle_dump.sidecar_columns"),
    );
    assert!(before == after, "{before:#?}\n{after:#?}");
}

#[test]
fn recreated_tables_inherit_no_originals() {
    let scratch = Scratch::new("recreated");
    let texts = scratch.sqlite("texts.db", HOOKS, &good());
    let zoned = session(1) + &event(11, 1, "stop");
    let instants = postgres(UPSTREAM, "recreated_from", "");
    scratch.shift(&scratch.sqlite("zoned.db", HOOKS, &zoned), &instants.url(), KEEP).success();
    instants.psql(
        "UPDATE chronicle_sessions SET end_time = 'infinity'; DROP SCHEMA chronicle_dump CASCADE",
    );
    let archive = scratch.export(&instants.url());

    let server = postgres(UPSTREAM, "recreated", "");
    scratch.shift(&texts, &server.url(), KEEP).success();
    server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    server.apply_file(fixture(UPSTREAM));
    import(&archive, &server.url(), KEEP).success();
    let again = scratch.export(&server.url());
    for stream in ["sessions", "events"] {
        assert_eq!(records(&again, stream), records(&archive, stream));
    }

    let file = scratch.sqlite("target.db", HOOKS, "");
    scratch.shift(&instants.url(), &file, KEEP).success();
    fill(&file, "DELETE FROM events; DELETE FROM sessions");
    scratch.shift(&texts, &file, KEEP).success();
    assert_same_rows(&sqlite_dump(Path::new(&file)), &sqlite_dump(Path::new(&texts)));
}

#[test]
fn the_sidecar_tables_are_for_the_owner_alone() {
    let scratch = Scratch::new("private_residue");
    let source = scratch.sqlite("source.db", HOOKS, &good());
    let server = postgres(UPSTREAM, "private_residue", "");
    server.apply_file_as(ADMIN, fixture("postgres-supabase-extras.sql"));
    // as Supabase does it: whatever the owner makes is open to the interface
    server.psql(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated",
    );
    scratch.shift(&source, &server.url(), KEEP).success();
    for table in ["chronicle_dump.sidecar", "chronicle_dump.sidecar_columns"] {
        assert_ne!(server.psql(&format!("SELECT count(*) FROM {table}")), "0");
        for role in ["anon", "authenticated"] {
            for statement in [
                format!("SELECT * FROM {table}"),
                format!("DELETE FROM {table}"),
                format!("INSERT INTO {table} (table_name) VALUES ('x')"),
            ] {
                let refused = server.try_psql_as(ADMIN, &format!("SET ROLE {role}; {statement}"));
                assert!(refused.is_err_and(|e| e.starts_with("42501")), "{role}: {statement}");
            }
        }
        let locked = format!("SELECT relrowsecurity FROM pg_class WHERE oid = '{table}'::regclass");
        assert_eq!(server.psql(&locked), "t");
    }
    // a role that may read the rows but not the sidecar is warned
    let reader = format!("reader_{}", server.name());
    let reader = &reader[..reader.len().min(63)];
    server.psql_as(
        ADMIN,
        &format!(
            "CREATE ROLE \"{reader}\" LOGIN BYPASSRLS PASSWORD '{PASSWORD}'; \
             GRANT SELECT ON chronicle_sessions, chronicle_events TO \"{reader}\""
        ),
    );
    Program::new(["export", &server.url_as(reader)])
        .run()
        .success()
        .stderr_has("may not read the sidecar table");
    server.psql_as(ADMIN, &format!("DROP OWNED BY \"{reader}\"; DROP ROLE \"{reader}\""));
}

// time

#[test]
fn times_become_instants_by_rule_and_words_are_refused() {
    let scratch = Scratch::new("times");
    let archive = |time: &str| {
        let sql =
            session(1) + &event(11, 1, "stop") + &format!("UPDATE events SET timestamp = {time}");
        let source = scratch.sqlite("source.db", HOOKS, &sql);
        let archive = scratch.export(&source);
        std::fs::remove_file(&source).expect("remove the file");
        archive
    };
    let server = postgres(UPSTREAM, "times", "");
    let stored = "SELECT to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM chronicle_events";
    for (time, options, expected) in [
        ("'2025-08-19T10:00:00+02:00'", &[][..], "2025-08-19 08:00:00.000000"),
        ("'2025-08-19T10:00:00.5'", &["--assume-tz=+02:00"], "2025-08-19 08:00:00.500000"),
        ("'2025-01-19T10:00:00'", &["--assume-tz=Europe/Berlin"], "2025-01-19 09:00:00.000000"),
        ("'2025-07-19T10:00:00'", &["--assume-tz=Europe/Berlin"], "2025-07-19 08:00:00.000000"),
        // seconds, milliseconds and microseconds, each by its size
        ("1755597600", &["--on-unrepresentable=adapt"], "2025-08-19 10:00:00.000000"),
        ("1755597600500", &["--on-unrepresentable=adapt"], "2025-08-19 10:00:00.500000"),
        ("'1755597600.25'", &["--on-unrepresentable=adapt"], "2025-08-19 10:00:00.250000"),
        (
            "'2025-08-19T10:00:00.1234567Z'",
            &["--on-unrepresentable=adapt"],
            "2025-08-19 10:00:00.123457",
        ),
        ("'2025-02-30T10:00:00Z'", &["--on-unrepresentable=adapt"], "2025-02-28 10:00:00.000000"),
        ("'epoch'", &["--on-unrepresentable=adapt"], "1970-01-01 00:00:00.000000"),
    ] {
        let archive = archive(time);
        let told = import(&archive, &server.url(), options).success();
        if options.contains(&"--on-unrepresentable=adapt") {
            told.stderr_has("events.timestamp: 1 value changed to the nearest value");
            import(&archive, &server.url(), &[]).fails_with(10);
        }
        assert_eq!(server.psql(stored), expected, "{time}");
        server.psql("TRUNCATE chronicle_sessions CASCADE");
    }
    for word in ["now", "today", "yesterday", "", "None", "2025-13-01T00:00:00Z"] {
        let archive = archive(&format!("'{word}'"));
        for option in ["fail", "adapt", "preserve"] {
            let option = format!("--on-unrepresentable={option}");
            import(&archive, &server.url(), &[&option, "--assume-tz=UTC"])
                .fails_with(10)
                .stderr_has("column \"timestamp\"");
        }
        // a file keeps what is written there
        let file = scratch.sqlite("target.db", HOOKS, "");
        import(&archive, &file, &[]).success();
        assert_eq!(ask(&file, "SELECT timestamp FROM events"), word);
        std::fs::remove_file(&file).expect("remove the file");
    }
}
