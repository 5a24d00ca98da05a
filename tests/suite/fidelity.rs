//! Laws about values and columns: what a target cannot hold is refused, told, or kept and given back, and never lost unsaid.

use std::path::Path;

use serde_json::json;

use crate::support::cluster::{ADMIN, PASSWORD};
use crate::support::files::{assert_same_rows, fixture, postgres_dump, sqlite_dump};
use crate::support::generate::{hooks_database, hostile_hooks_database};
use crate::support::migrate::{
    Scratch, ask, event, fill, id, import, json_of, postgres, records, session, words,
};
use crate::support::program::Program;

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const SERVER: &[&str] = &["sqlite-server.sql"];
const MANAGER: &[&str] = &["../../schemas/ddl/sqlite-uv-manager.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";
/// Nothing is lost.
const KEEP: &[&str] = &["--on-missing-column=fold", "--on-unrepresentable=preserve"];

fn good() -> String {
    session(1) + &event(11, 1, "pre_tool_use") + &event(12, 1, "stop")
}

/// Moves a file into Chronicle's Postgres layout and back, and panics unless it is the same to the last byte.
#[track_caller]
fn there_and_back(desk: &Scratch, source: &str, fixtures: &[&str], options: &[&str]) {
    // what no program can get round
    let loose = match options.contains(&"--orphans=keep") {
        true => "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey",
        false => "",
    };
    let server = postgres(UPSTREAM, "there_and_back", loose);
    desk.shift(source, &server.url(), &[KEEP, options].concat()).success();
    let back = desk.sqlite("there-and-back.db", fixtures, "");
    desk.shift(&server.url(), &back, &["--on-missing-column=add"]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
    std::fs::remove_file(&back).expect("remove the file");
}

// columns

#[test]
fn a_column_that_the_target_lacks_stops_an_import_unless_it_can_be_made_anew() {
    let desk = Scratch::new("missing_column");
    let more = "ALTER TABLE sessions ADD COLUMN git_commit TEXT;".to_owned()
        + &good()
        + "UPDATE sessions SET git_commit = 'abc';";
    let plain = desk.sqlite("plain.db", HOOKS, &good());
    let source = desk.sqlite("source.db", HOOKS, &more);
    let server = postgres(UPSTREAM, "missing_column", "");
    desk.shift(&source, &server.url(), &[])
        .fails_with(9)
        .stderr_has("column \"git_commit\": the target has no column for it")
        .stderr_lacks("updated_at")
        .stderr_has("--on-missing-column=fold");
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
    desk.shift(&plain, &server.url(), &[]).success().stderr_has("updated_at");
}

#[test]
fn a_column_whose_name_means_something_else_in_the_target_is_kept_where_it_cannot_be_added() {
    let desk = Scratch::new("name_taken");
    // the server's tables call the payload so
    let more = "ALTER TABLE events ADD COLUMN metadata TEXT;".to_owned()
        + &good()
        + "UPDATE events SET metadata = '{\"of\": \"mine\"}';";
    let source = desk.sqlite("source.db", HOOKS, &more);
    let server = desk.sqlite("server.db", SERVER, "");
    desk.shift(&source, &server, &["--on-missing-column=add"]).success();
    let back = desk.sqlite("back.db", HOOKS, "ALTER TABLE events ADD COLUMN metadata TEXT;");
    desk.shift(&server, &back, &["--on-missing-column=drop"]).success();
    assert_eq!(ask(&back, "SELECT DISTINCT metadata FROM events"), "{\"of\": \"mine\"}");
}

#[test]
fn dropped_columns_are_counted_and_folded_ones_are_kept() {
    let desk = Scratch::new("dropped_column");
    let sql = "ALTER TABLE events ADD COLUMN mood TEXT;".to_owned()
        + &good()
        + &format!("UPDATE events SET mood = 'calm' WHERE id = '{}';", id(11));
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
    for (option, what, word) in [
        ("--on-missing-column=drop", "dropped", "lost"),
        ("--on-missing-column=fold", "folded", "kept with their rows"),
    ] {
        let server = postgres(UPSTREAM, "dropped_column", "");
        let done = import(&archive, &server.url(), &[option, "--json"]).success();
        let changes = json_of(&done)["changes"].clone();
        let mood = changes.as_array().expect("changes").iter().find(|c| c["column"] == "mood");
        let mood = mood.unwrap_or_else(|| panic!("{option}: {changes}"));
        assert_eq!([&mood["what"], &mood["values"]], [&json!(what), &json!(1)], "{option}");
        import(&archive, &server.url(), &[option]).success().stderr_has(word);
        let back = records(&desk.export(&server.url()), "events");
        let expected = if what == "folded" { json!("calm") } else { json!(null) };
        assert_eq!(back[0]["mood"], expected, "{option}");
    }
}

#[test]
fn a_folded_value_stands_in_the_rows_json_where_that_is_an_object_and_beside_the_row_where_not() {
    let desk = Scratch::new("folded");
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
    let source = desk.sqlite("source.db", HOOKS, &sql);
    there_and_back(&desk, &source, HOOKS, &[]);
    let server = postgres(UPSTREAM, "folded", "");
    desk.shift(&source, &server.url(), KEEP).success();
    let folded = "SELECT metadata #>> '{chronicle_dump,git_commit,text}' FROM chronicle_sessions ORDER BY id";
    assert_eq!(server.psql(folded), "\ndecade\n");
    let mine = "SELECT count(*) FROM chronicle_events WHERE metadata #>> '{chronicle_dump,x,text}' = 'mine'";
    assert_eq!(server.psql(mine), "1");
}

#[test]
fn the_target_gets_the_columns_that_it_lacks_and_gives_their_values_back() {
    let desk = Scratch::new("added_column");
    let sql = "ALTER TABLE events ADD COLUMN mood TEXT; ALTER TABLE events ADD COLUMN score REAL; \
               ALTER TABLE events ADD COLUMN size INTEGER; ALTER TABLE events ADD COLUMN raw BLOB;"
        .to_owned()
        + &good()
        + &format!(
            "UPDATE events SET mood = 'calm', score = 0.1, size = 9007199254740993, raw = x'00ff' \
              WHERE id = '{}';",
            id(11)
        );
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
    let (server, file) =
        (postgres(UPSTREAM, "added_column", ""), desk.sqlite("target.db", HOOKS, ""));
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
        let row = &records(&desk.export(&to), "events")[0];
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
fn a_session_id_that_only_the_target_requires_is_made_always_the_same_and_does_not_come_back() {
    let desk = Scratch::new("made_column");
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
    let archive = desk.export(&source.url());
    import(&archive, &server.url(), &["--on-missing-column=fold"])
        .success()
        .stderr_has("the archive lacks it and the target requires it");
    let before = postgres_dump(&server);
    assert_eq!(server.psql("SELECT claude_session_id FROM chronicle_sessions"), id(1));
    import(&archive, &server.url(), &["--on-missing-column=fold"]).success();
    assert_same_rows(&before, &postgres_dump(&server));
    let exported = records(&desk.export(&server.url()), "sessions");
    assert_eq!(exported[0].get("claude_session_id"), None);
    let back = postgres("postgres-seed.sql", "made_column", "");
    desk.shift(&server.url(), &back.url(), &["--on-missing-column=drop"]).success();
    assert_same_rows(&postgres_dump(&source), &postgres_dump(&back));
}

// values

/// Rows with values that no Postgres column holds as they are, by the hooks' columns.
fn odd() -> String {
    let mut sql = session(1) + &session(2);
    let odd: [(&str, &str); 16] = [
        ("data", "'{\"a\": \"\\u0000\"}'"),
        ("data", "'{\"a\": NaN}'"),
        ("data", "'{\"a\": \"\\ud800\"}'"),
        ("data", "'{\"a\":1,\"a\":2,  \"b\": 1E5}'"),
        ("data", "'not json'"),
        ("data", "x'7b7d'"),
        ("data", "CAST(x'7b2261223a2022ff227d' AS TEXT)"),
        ("tool_name", "CAST(x'610062' AS TEXT)"),
        ("tool_name", "x'00ff'"),
        ("tool_name", "1.5"),
        ("duration_ms", "1.5"),
        ("duration_ms", "'soon'"),
        ("duration_ms", "9223372036854775807"),
        ("timestamp", "'2025-08-19T10:00:00.1234567Z'"),
        ("timestamp", "'2025-08-19T10:00:00'"),
        ("created_at", "'yesterday'"),
    ];
    for (n, (column, value)) in odd.iter().enumerate() {
        let n = n as u32 + 10;
        sql += &event(n, 1, "stop");
        sql += &format!("UPDATE events SET {column} = {value} WHERE id = '{}';", id(n));
    }
    sql + &format!("UPDATE sessions SET start_time = 20250102 WHERE id = '{}';", id(2))
}

#[test]
fn odd_values_come_back_byte_for_byte_from_postgres() {
    let desk = Scratch::new("odd_values");
    let source = desk.sqlite(
        "source.db",
        HOOKS,
        &(odd() + "UPDATE sessions SET start_time = '2025-08-19T10:00:00'"),
    );
    there_and_back(&desk, &source, HOOKS, &["--assume-tz=Europe/Berlin"]);
}

#[test]
fn files_of_the_hooks_come_back_byte_for_byte_from_postgres() {
    let desk = Scratch::new("hooks_there_and_back");
    let source = desk.path("generated.db");
    hooks_database(&source, 30, 600, 5).expect("a database");
    fill(
        words(&source),
        "UPDATE sessions SET end_time = start_time, git_branch = 'main', metadata = '{\"a\":  [1, 2.50]}' \
          WHERE rowid % 2 = 0; UPDATE events SET duration_ms = rowid % 977 WHERE rowid % 3 = 0;",
    );
    there_and_back(&desk, words(&source), HOOKS, &["--assume-tz=America/Los_Angeles"]);
    let sample = desk.sqlite("sample.db", &["sqlite-hooks.sql", "sample-hooks.sql"], "");
    there_and_back(
        &desk,
        &sample,
        HOOKS,
        &["--assume-tz=UTC", "--event-types=upstream", "--orphans=keep"],
    );
}

#[test]
fn an_odd_value_stops_an_import_by_its_name_and_leaves_nothing() {
    let desk = Scratch::new("odd_value");
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
        let source = desk.sqlite("source.db", HOOKS, &sql);
        let server = postgres(UPSTREAM, "odd_value", "");
        desk.shift(&source, &server.url(), &[])
            .fails_with(10)
            .stderr_has(words)
            .stderr_has(&id(12))
            .stderr_has("chronicle_events")
            .stderr_has("=reject leaves the row out");
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
    let desk = Scratch::new("adapted");
    let source = desk.sqlite(
        "source.db",
        HOOKS,
        &(odd() + "UPDATE sessions SET start_time = '2025-08-19T10:00:00'"),
    );
    let server = postgres(UPSTREAM, "adapted", "");
    let options = ["--on-unrepresentable=adapt", "--assume-tz=UTC"];
    let done = desk.shift(&source, &server.url(), &[&options[..], &["--json"]].concat()).success();
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
fn rejected_rows_go_into_an_archive_of_their_own_with_the_reasons() {
    let desk = Scratch::new("rejected");
    let sql = good()
        + &event(13, 1, "stop")
        + &format!(
            "UPDATE events SET duration_ms = 'soon', tool_name = x'00' WHERE id = '{}'",
            id(12)
        );
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
    let server = postgres(UPSTREAM, "rejected", "");
    let rejects = desk.path("rejects.ndjson.zst");
    import(&archive, &server.url(), &["--on-unrepresentable=reject"])
        .fails_with(2)
        .stderr_has("--rejects FILE");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options)
        .fails_with(14)
        .stderr_has("column \"duration_ms\"")
        .stderr_has("column \"tool_name\"")
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
                .stderr_has("--rejects: ")
                .stderr_has("is there, it is not replaced");
        }
        assert!(std::fs::read(there).expect("the file") == before);
    }
    // a dry run counts the rows and writes no file
    let dry = desk.path("dry.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&dry), "--dry-run"];
    import(&archive, &server.url(), &options).fails_with(14).stderr_has("rows left out: 1");
    assert!(!dry.exists());
    // the rest of the way
    import(&rejects, &server.url(), KEEP).success();
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&server.url(), &back, &[]).success();
    let row = format!("SELECT * FROM events WHERE id = '{}'", id(12));
    assert_eq!(ask(&back, &row), ask(&source, &row));
    // nothing to reject: no file, and all is well
    let none = desk.path("none.ndjson.zst");
    let fine = desk.sqlite("fine.db", HOOKS, &good());
    let options = ["--on-unrepresentable=reject", "--rejects", words(&none)];
    let empty = postgres(UPSTREAM, "rejected", "");
    desk.shift(&fine, &empty.url(), &options).success();
    assert!(!none.exists());
}

#[test]
fn a_rule_that_only_the_server_knows_rejects_rows_too() {
    let desk = Scratch::new("server_rule");
    let source = desk.sqlite("source.db", HOOKS, &(good() + &event(13, 1, "stop")));
    let rule = "ALTER TABLE chronicle_events ADD CHECK (length(event_type) * 2 > 10)";
    let server = postgres(UPSTREAM, "server_rule", rule);
    let archive = desk.export(&source);
    import(&archive, &server.url(), &[]).fails_with(10);
    let rejects = desk.path("rejects.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options).fails_with(14);
    assert_eq!(server.psql("SELECT id FROM chronicle_events"), id(11));
    let keys: Vec<_> = records(&rejects, "events").iter().map(|r| r["id"].clone()).collect();
    assert_eq!(keys, [json!(id(12)), json!(id(13))]);
}

#[test]
fn what_was_edited_since_is_exported_as_it_is_now() {
    let desk = Scratch::new("edited");
    let mut sql = session(1);
    for n in 11..15 {
        sql += &event(n, 1, "stop").replace("\"n\": ", "\"n\":   ");
    }
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "edited", "");
    desk.shift(&source, &server.url(), KEEP).success();
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
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&server.url(), &back, &[]).success();
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
    let desk = Scratch::new("preserved_twice");
    let mut sql = odd() + "ALTER TABLE sessions ADD COLUMN git_commit TEXT;";
    sql += "UPDATE sessions SET start_time = '2025-08-19T10:00:00Z', git_commit = 'c0ffee', metadata = '{}'";
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "preserved_twice", "");
    let archive = desk.export(&source);
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
fn what_is_kept_beside_the_rows_is_for_the_owner_alone() {
    let desk = Scratch::new("private_residue");
    let source = desk.sqlite("source.db", HOOKS, &good());
    let server = postgres(UPSTREAM, "private_residue", "");
    server.apply_file_as(ADMIN, fixture("postgres-supabase-extras.sql"));
    // as Supabase does it: whatever the owner makes is open to the interface
    server.psql(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated",
    );
    desk.shift(&source, &server.url(), KEEP).success();
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
    // who may read the rows but not what is kept is told so
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
    let desk = Scratch::new("times");
    let archive = |time: &str| {
        let sql =
            session(1) + &event(11, 1, "stop") + &format!("UPDATE events SET timestamp = {time}");
        let source = desk.sqlite("source.db", HOOKS, &sql);
        let archive = desk.export(&source);
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
    ] {
        let archive = archive(time);
        let told = import(&archive, &server.url(), options).success();
        if options.contains(&"--on-unrepresentable=adapt") {
            told.stderr_has("column \"timestamp\"").stderr_has("values adapted: 1");
            import(&archive, &server.url(), &[]).fails_with(10);
        }
        assert_eq!(server.psql(stored), expected, "{time}");
        server.psql("TRUNCATE chronicle_sessions CASCADE");
    }
    for word in [
        "now",
        "today",
        "yesterday",
        "epoch",
        "",
        "None",
        "2025-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ] {
        let archive = archive(&format!("'{word}'"));
        for option in ["fail", "adapt", "preserve"] {
            let option = format!("--on-unrepresentable={option}");
            import(&archive, &server.url(), &[&option, "--assume-tz=UTC"])
                .fails_with(10)
                .stderr_has("column \"timestamp\"");
        }
        // a file keeps what is written there
        let file = desk.sqlite("target.db", HOOKS, "");
        import(&archive, &file, &[]).success();
        assert_eq!(ask(&file, "SELECT timestamp FROM events"), word);
        std::fs::remove_file(&file).expect("remove the file");
    }
}

#[test]
fn a_time_without_a_zone_asks_for_one_and_one_that_was_twice_or_never_is_named() {
    let desk = Scratch::new("zones");
    let at = |time: &str| {
        let sql =
            session(1) + &event(11, 1, "stop") + &format!("UPDATE events SET timestamp = '{time}'");
        let source = desk.sqlite("source.db", HOOKS, &sql);
        let archive = desk.export(&source);
        std::fs::remove_file(&source).expect("remove the file");
        archive
    };
    let server = postgres(UPSTREAM, "zones", "");
    import(&at("2025-08-19T10:00:00"), &server.url(), &[])
        .fails_with(10)
        .stderr_has("hint: say in which time zone")
        .stderr_has("--assume-tz");
    // never: the clock went from 2 to 3; twice: it went from 3 to 2
    for (time, words) in [("2025-03-30T02:30:00", "skips"), ("2025-10-26T02:30:00", "twice")] {
        import(&at(time), &server.url(), &["--assume-tz=Europe/Berlin"])
            .fails_with(10)
            .stderr_has(words)
            .stderr_has(&id(11));
    }
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
}

/// Rows of the hooks whose times have no zone, by the clock of the machine that wrote them.
fn by_the_clock(number: u32, times: &[&str]) -> String {
    let mut sql = session(number);
    for (n, time) in times.iter().enumerate() {
        let event = number * 10 + n as u32;
        sql += &self::event(event, number, "stop");
        sql += &format!("UPDATE events SET timestamp = '{time}' WHERE id = '{}';", id(event));
    }
    sql + &format!(
        "UPDATE sessions SET start_time = '2025-08-19T10:00:00.123456' WHERE id = '{}';",
        id(number)
    )
}

#[test]
fn what_instant_a_local_time_is_travels_with_it_from_one_postgres_to_another() {
    let desk = Scratch::new("offsets");
    // the last ones: finer than Postgres, twice in Berlin, never there, with a zone, by an old clock
    let odd = [
        "2025-08-19T10:00:00.1234567",
        "2025-10-26T02:30:00",
        "2025-03-30T02:30:00",
        "2025-08-19T10:00:00+05:00",
        "1890-01-01 00:00",
    ];
    let one = desk.sqlite("one.db", HOOKS, &by_the_clock(1, &odd));
    let other = desk.sqlite("other.db", HOOKS, &by_the_clock(2, &["2025-08-19T10:00:00"]));
    let [first, second, third, plain] =
        ["1", "2", "3", "4"].map(|_| postgres(UPSTREAM, "offsets", ""));
    // rows by two clocks in one table
    let both = "--on-unrepresentable=preserve";
    desk.shift(&one, &first.url(), &[both, "--assume-tz=Europe/Berlin"]).success();
    desk.shift(&other, &first.url(), &[both, "--assume-tz=America/New_York"]).success();
    let archive = desk.export(&first.url());
    let times: Vec<_> =
        records(&archive, "events").iter().map(|r| r["timestamp"].clone()).collect();
    assert!(odd.iter().all(|odd| times.contains(&json!(odd))), "{times:?}");
    // a zone that is said does not overrule the one that is known
    for (to, options) in [(&second, vec![both]), (&third, vec![both, "--assume-tz=Asia/Tokyo"])] {
        import(&archive, &to.url(), &options).success();
        assert_same_rows(&postgres_dump(&first), &postgres_dump(to));
        let to_url = to.url();
        let proof = [&["verify", words(&archive), "--against", &to_url], &options[..]].concat();
        Program::new(proof).run().success();
        Program::new(["diff", &first.url(), &to.url()]).run().success();
    }
    let check = Program::new(["check", words(&archive), "--to", &plain.url()]).run();
    let check = check.fails_with(10).stdout_has("finer than microseconds");
    assert!(!check.text().contains("--assume-tz"), "{}", check.text());
    import(&archive, &plain.url(), &["--on-unrepresentable=adapt"]).success();
    assert_same_rows(&postgres_dump(&first), &postgres_dump(&plain));
    // where texts go, they go as they are
    let file = desk.sqlite("back.db", HOOKS, "");
    import(&desk.export(&third.url()), &file, &[]).success();
    for (source, number) in [(&one, 1), (&other, 2)] {
        let rows =
            format!("SELECT timestamp FROM events WHERE session_id = '{}' ORDER BY id", id(number));
        assert_eq!(ask(&file, &rows), ask(source, &rows));
    }
}

#[test]
fn local_times_are_compared_and_chosen_by_what_is_known_of_them() {
    let desk = Scratch::new("known_offsets");
    let source = desk.sqlite("source.db", HOOKS, &by_the_clock(1, &["2025-08-19T10:00:00"]));
    let into = |zone: &str| {
        let server = postgres(UPSTREAM, "known_offsets", "");
        let zone = format!("--assume-tz={zone}");
        desk.shift(&source, &server.url(), &[KEEP, &[&zone]].concat()).success();
        server
    };
    let [berlin, paris, new_york] = ["Europe/Berlin", "Europe/Paris", "America/New_York"].map(into);
    let [in_berlin, in_paris, in_new_york] =
        [&berlin, &paris, &new_york].map(|server| desk.export(&server.url()));
    let diff = |a: &str, b: &str, options: &[&str]| {
        Program::new([&["diff", a, b], options].concat()).run()
    };
    diff(&berlin.url(), &paris.url(), &[]).success();
    diff(words(&in_berlin), words(&in_paris), &[]).success();
    for (a, b) in
        [(berlin.url(), new_york.url()), (words(&in_berlin).into(), words(&in_new_york).into())]
    {
        diff(&a, &b, &[])
            .fails_with(15)
            .stdout_has("timestamp: 2025-08-19 08:00:00+00 -> 2025-08-19 14:00:00+00")
            .stdout_has("start_time: ");
    }
    // of the file nobody knows it until a zone is said
    diff(&source, &berlin.url(), &[]).fails_with(15).stderr_has("--assume-tz");
    diff(&source, &berlin.url(), &["--assume-tz=Europe/Berlin"]).success();
    let chosen = |archive: &Path| {
        let since = ["cat", "--stream=events", "--since=2025-08-19T09:00:00Z", words(archive)];
        Program::new(since).run().success().text().lines().count()
    };
    assert_eq!([&in_berlin, &in_new_york].map(|archive| chosen(archive)), [0, 1]);
    // what was edited since has another instant, and says it itself
    berlin.psql("UPDATE chronicle_events SET timestamp = '2025-08-19 12:00:00Z'");
    let edited = records(&desk.export(&berlin.url()), "events");
    assert_eq!(edited[0]["timestamp"], "2025-08-19T12:00:00.000000Z");
}

#[test]
fn the_three_clocks_of_a_hooks_row_are_each_read_right() {
    let desk = Scratch::new("three_clocks");
    // Los Angeles, 17:17 local time is 01:17 UTC of the next day; created_at was shifted once more
    let mut sql = String::new();
    for n in 1..4 {
        sql += &format!(
            "INSERT INTO sessions (id, claude_session_id, start_time, created_at, updated_at) VALUES \
               ('{0}', 'cs-{n}', '2025-01-07T17:17:00', '2025-01-08 01:17:00', '2025-01-08 01:17:00'); \
             INSERT INTO events (id, session_id, event_type, timestamp, created_at) VALUES \
               ('{1}', '{0}', 'stop', '2025-01-07T17:17:00.5', '2025-01-08 09:17:01');",
            id(n),
            id(n + 10)
        );
    }
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "three_clocks", "");
    desk.shift(&source, &server.url(), &["--assume-tz=America/Los_Angeles"])
        .success()
        .stderr_has("events.created_at: 3 of 3 values are off by the zone once more");
    let utc = |column: &str, table: &str| {
        server.psql(&format!(
            "SELECT DISTINCT to_char({column} AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS.MS') FROM {table}"
        ))
    };
    assert_eq!(utc("start_time", "chronicle_sessions"), "01-08 01:17:00.000");
    assert_eq!(utc("created_at", "chronicle_sessions"), "01-08 01:17:00.000");
    assert_eq!(utc("timestamp", "chronicle_events"), "01-08 01:17:00.500");
    assert_eq!(utc("created_at", "chronicle_events"), "01-08 09:17:01.000");
}

// what was made

#[test]
fn a_session_that_was_made_goes_away_again_until_somebody_edits_it() {
    let desk = Scratch::new("made_and_gone");
    // of two sessions that are not there one has an id that is no UUID
    let more = event(13, 2, "stop")
        + &event(14, 2, "stop")
        + &event(15, 3, "stop").replace(&format!("'{}'", id(3)), "'tea'");
    let source = desk.sqlite("source.db", HOOKS, &(good() + &more));
    there_and_back(&desk, &source, HOOKS, &["--orphans=adopt"]);
    let archive = desk.export(&source);
    let options = [KEEP, &["--orphans=adopt"]].concat();
    let (server, file) =
        (postgres(UPSTREAM, "made_and_gone", ""), desk.sqlite("file.db", SERVER, ""));
    let dump = |to: &str| match to == file {
        true => (sqlite_dump(to.as_ref()), ask(to, "SELECT * FROM chronicle_dump_sidecar")),
        false => (
            postgres_dump(&server),
            server.psql("SELECT * FROM chronicle_dump.sidecar ORDER BY 1, 2, 3"),
        ),
    };
    let sessions = |to: &str| records(&desk.export(to), "sessions").len();
    for to in [server.url(), file.clone()] {
        import(&archive, &to, &options).success().stdout_has("2 sessions made");
        let before = dump(&to);
        import(&archive, &to, &options).success().stderr_lacks("sessions made");
        assert!(before == dump(&to), "{to}: the second import changed something");
        assert_eq!(sessions(&to), 1, "{to}");
        Program::new(["export", &to]).run().success().stderr_has("events: 3 rows refer by");
        let edit = |sql: &str| match to == file {
            true => fill(&file, sql),
            false => drop(server.psql(sql)),
        };
        // a column that comes later is no edit
        edit("ALTER TABLE chronicle_sessions ADD COLUMN mood TEXT");
        assert_eq!(sessions(&to), 1, "{to}");
        edit(
            "UPDATE chronicle_sessions SET mood = 'calm' WHERE start_time = (SELECT max(start_time) FROM chronicle_sessions)",
        );
        assert_eq!(sessions(&to), 2, "{to}");
        // what was removed is made anew
        edit("DELETE FROM chronicle_events");
        edit("DELETE FROM chronicle_sessions");
        import(&archive, &to, &[&options[..], &["--event-types=upstream"]].concat()).success();
        assert_eq!(sessions(&to), 1, "{to}");
    }
    // who preserves nothing has them for ever
    let server = postgres(UPSTREAM, "made_and_gone", "");
    import(&archive, &server.url(), &["--orphans=adopt"]).success();
    assert_eq!(sessions(&server.url()), 3);
}

// reading back

#[test]
fn a_column_that_holds_less_than_the_value_stops_the_import() {
    let desk = Scratch::new("narrow");
    let sql = "ALTER TABLE events ADD COLUMN cost TEXT;".to_owned()
        + &good()
        + &format!(
            "UPDATE events SET cost = '1.25', timestamp = '2025-08-19T10:00:11.5Z' WHERE id = '{}'",
            id(11)
        );
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
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
            // the view stands in the way of a change of type
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
    let desk = Scratch::new("loud_trigger");
    let archive = desk.export(&desk.sqlite("source.db", HOOKS, &good()));
    let server = postgres(UPSTREAM, "loud_trigger", "");
    let writer = format!("writer_{}", server.name());
    let writer = &writer[..writer.len().min(63)];
    server.psql_as(
        ADMIN,
        &format!(
            "CREATE ROLE \"{writer}\" LOGIN BYPASSRLS PASSWORD '{PASSWORD}'; \
             GRANT ALL ON chronicle_sessions, chronicle_events TO \"{writer}\""
        ),
    );
    import(&archive, &server.url_as(writer), &[])
        .fails_with(8)
        .stderr_has("trigger")
        .stderr_has("cannot be switched off");
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
    // a rule is no trigger, and what it does is seen when the rows are read back
    let before = format!(
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('{}', 'x', now())",
        id(9)
    );
    server.psql(&before);
    server.psql("CREATE RULE loud AS ON INSERT TO chronicle_sessions DO INSTEAD NOTHING");
    let rows = postgres_dump(&server);
    import(&archive, &server.url(), &[])
        .fails_with(8)
        .stderr_has("1 rows were loaded and 0 are there");
    assert_same_rows(&rows, &postgres_dump(&server));
    server.psql_as(ADMIN, &format!("DROP OWNED BY \"{writer}\"; DROP ROLE \"{writer}\""));
}

// everything at once

#[test]
fn whatever_a_hooks_file_can_hold_comes_back_byte_for_byte_from_postgres() {
    for seed in [1, 2] {
        let desk = Scratch::new("hostile_there_and_back");
        let source = desk.path("source.db");
        hostile_hooks_database(&source, 1_400, seed).expect("a database");
        // who has no id gets one
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
        desk.shift(words(&source), &server.url(), &options).success();
        let back = desk.sqlite("back.db", HOOKS, "");
        desk.shift(&server.url(), &back, &["--orphans=keep"]).success();
        assert_same_rows(&sqlite_dump(&source), &sqlite_dump(back.as_ref()));
    }
}

#[test]
fn a_file_of_the_server_comes_back_from_postgres_and_goes_on_counting() {
    let desk = Scratch::new("server_there_and_back");
    let rows = good()
        .replace("INTO sessions", "INTO chronicle_sessions")
        .replace("INTO events", "INTO chronicle_events")
        .replace("timestamp, data,", "timestamp, metadata,");
    let source = desk.sqlite("source.db", SERVER, &rows);
    there_and_back(&desk, &source, SERVER, &[]);
    assert_eq!(ask(&source, "SELECT event_count FROM chronicle_sessions"), "2");
}

#[test]
fn a_column_folded_into_a_file_comes_back_too() {
    let desk = Scratch::new("folded_into_a_file");
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
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let server = desk.sqlite("server.db", SERVER, "");
    let archive = desk.export(&source);
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
    let back = desk.sqlite("back.db", HOOKS, mood);
    desk.shift(&server, &back, &["--on-missing-column=drop"]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn a_postgres_database_comes_back_from_a_file_with_every_digit() {
    let desk = Scratch::new("postgres_there_and_back");
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
    let file = desk.sqlite("file.db", HOOKS, "");
    desk.shift(&source.url(), &file, KEEP).success();
    let back = postgres(UPSTREAM, "postgres_there_and_back", "");
    desk.shift(&file, &back.url(), &["--on-missing-column=drop"]).success();
    assert_same_rows(&postgres_dump(&source), &postgres_dump(&back));
}

#[test]
fn what_is_kept_beside_a_row_is_never_replaced_by_another_import() {
    let desk = Scratch::new("kept_stays");
    let with = |text: &str| {
        session(1) + &event(11, 1, "stop").replace("'{", &format!("'{{\"t\": \"{text}\", "))
    };
    let first = desk.sqlite("first.db", HOOKS, &with("\\u0000"));
    let other = desk.sqlite("other.db", HOOKS, &with("\\ud800"));
    let server = postgres(UPSTREAM, "kept_stays", "");
    desk.shift(&first, &server.url(), KEEP).success();
    let kept = || server.psql("SELECT * FROM chronicle_dump.sidecar ORDER BY key");
    let before = kept();
    desk.shift(&first, &server.url(), &["--on-unrepresentable=adapt"]).success();
    desk.shift(&other, &server.url(), KEEP)
        .fails_with(11)
        .stderr_has("another original of \"data\"");
    assert_eq!(kept(), before);
}

#[test]
fn a_side_row_whose_key_holds_a_nul_is_kept_beside_and_comes_back() {
    let desk = Scratch::new("nul_keys");
    let sql = "INSERT INTO prompt_events (id, prompt_text) VALUES ('a' || char(0) || 'b', 'x'), \
                 (char(1) || '6100', 'y'); \
               INSERT INTO project_context (id, file_path) VALUES (x'00ff', 'z');";
    let source = desk.sqlite("source.db", MANAGER, sql);
    let options = [KEEP, &["--orphans=keep"]].concat();
    let server = postgres(UPSTREAM, "nul_keys", "");
    desk.shift(&source, &server.url(), &options).success();
    let back = desk.sqlite("back.db", MANAGER, "");
    desk.shift(&server.url(), &back, &options).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn a_reference_that_spells_a_uuid_otherwise_than_its_row_is_told() {
    let desk = Scratch::new("spelled_reference");
    let upper = session(1).replace("0000000a", "0000000A");
    let source = desk.sqlite("source.db", HOOKS, &(upper + &event(11, 1, "stop")));
    let server = postgres(UPSTREAM, "spelled_reference", "");
    desk.shift(&source, &server.url(), &[KEEP, &["--assume-tz=UTC"]].concat())
        .success()
        .stderr_has("spells this UUID otherwise");
}

#[test]
fn only_sessions_are_made_for_what_refers_to_them() {
    let desk = Scratch::new("adopt_sessions_only");
    let sql = "INSERT INTO prompt_events (id, event_id) VALUES ('p1', 'x');";
    let source = desk.sqlite("source.db", MANAGER, sql);
    let to = desk.sqlite("to.db", MANAGER, "");
    let said = desk.shift(&source, &to, &["--orphans=adopt"]).success();
    said.stderr_has("loaded all the same").stderr_lacks("sessions made");
    assert_eq!(
        ask(&to, "SELECT (SELECT count(*) FROM events), count(*) FROM prompt_events"),
        "0|1"
    );
}
