//! Imports that are taken back: the tables, our own included, and the sequences are what they were.

use super::*;

/// Everything of a database but the history: rows, columns, sequences, triggers, indexes and keys.
fn state(database: &Database) -> String {
    let mut state = String::new();
    let tables = database.psql(
        "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND (n.nspname = 'public' OR n.nspname = 'chronicle_dump' \
           AND c.relname LIKE 'sidecar%') ORDER BY 1",
    );
    for table in tables.lines().filter(|t| !t.is_empty()) {
        let rows = database.psql(&format!("SELECT t::text FROM {table} t ORDER BY t::text"));
        // tables of ours that an import has created may stay, without rows
        if !table.starts_with("chronicle_dump.") || !rows.is_empty() {
            state.push_str(&format!("{table}\n{rows}\n"));
        }
    }
    for sql in [
        "SELECT a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attidentity \
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind = 'r' \
            AND c.relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped \
          ORDER BY 1, a.attnum",
        "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1",
        "SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger ORDER BY 1, 2",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    ] {
        state.push_str(&database.psql(sql));
        state.push('\n');
    }
    state
}

#[track_caller]
fn rollback(database: &Database, batch: &str) -> String {
    let url = database.url();
    let done = Program::new(["rollback", batch, "--from", &url, "--json"]).run().success();
    let result: serde_json::Value = serde_json::from_str(done.text()).unwrap();
    result["batch_id"].as_str().unwrap().to_owned()
}

/// What the tables are like before: with a key, with another one that the server alone numbers, or with none.
const SHAPES: [&str; 4] = [
    "SELECT 1",
    "ALTER TABLE chronicle_events ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_pkey",
    "ALTER TABLE chronicle_events ADD COLUMN s bigserial UNIQUE, ADD COLUMN twice int GENERATED ALWAYS AS (duration_ms * 2) STORED",
];

#[test]
fn imports_are_taken_back_one_after_the_other() {
    for owner in [OWNER, SUPA] {
        for (n, shape) in SHAPES.iter().enumerate() {
            let name = format!("undone_{owner}_{n}");
            let (database, scratch) = (empty(owner, &name), Scratch::new(&name));
            database.psql(shape);
            let mut states = vec![state(&database)];
            let first = session(1, 10..15) + &session(2, 20..23);
            let changed = "ALTER TABLE events ADD COLUMN mood TEXT;".to_owned()
                + &first.replace("'Bash', 12", "'Other', 12")
                + &session(3, 30..33)
                + "UPDATE events SET mood = 'good' WHERE duration_ms > 11; \
                   UPDATE events SET data = '{\"a\": \"\\u0000\"}' WHERE duration_ms IN (13, 31);";
            let more = session(4, 40..42)
                + "INSERT INTO events (id, session_id, event_type, timestamp, data, created_at) VALUES \
                   ('0000000a-0000-4000-8000-000000000099', '0000000a-0000-4000-8000-000000000077', 'stop', \
                    '2025-08-19T10:00:00Z', '{}', '2025-08-19 10:00:00');";
            let steps: [(&str, &[&str]); 3] = [
                (&first, &[]),
                (&changed, &["--on-conflict", "update", "--on-missing-column", "add"]),
                (&more, &["--orphans", "adopt"]),
            ];
            for (sql, options) in steps {
                import(&archive(&scratch, sql), &database.url(), options).success();
                states.push(state(&database));
            }
            let last = states.pop().unwrap();
            let mut now = last.clone();
            while let Some(before) = states.pop() {
                let undone = rollback(&database, "last");
                assert_eq!(state(&database), before, "{name}");
                rollback(&database, &undone);
                assert_eq!(state(&database), now, "{name}, again");
                rollback(&database, "last");
                assert_eq!(state(&database), before, "{name}, and back");
                now = before;
            }
        }
    }
}

#[test]
fn rows_that_were_edited_since_stop_a_rollback() {
    let (database, scratch) = (empty(OWNER, "undone_edited"), Scratch::new("undone_edited"));
    let good = archive(&scratch, &session(1, 10..13));
    import(&good, &database.url(), &[]).success();
    database.psql("UPDATE chronicle_events SET tool_name = 'mine' WHERE duration_ms = 11");
    let url = database.url();
    let words = ["rollback", "last", "--from", &url];
    let before = state(&database);
    Program::new(words).run().fails_with(11).stderr_has("1 row edited");
    assert_eq!(state(&database), before);
    Program::new(words).arg("--force").run().success();
    assert_eq!(database.psql("SELECT tool_name FROM chronicle_events"), "mine");
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_sessions"), "1");
}

#[test]
fn a_damaged_receipt_stops_a_rollback() {
    let (database, scratch) = (empty(OWNER, "undone_damaged"), Scratch::new("undone_damaged"));
    import(&archive(&scratch, &session(1, 10..13)), &database.url(), &[]).success();
    let before = state(&database);
    let length = "SELECT length(piece) FROM chronicle_dump.receipts";
    let length: u32 = database.psql(length).parse().unwrap();
    for at in [0, length / 2, length - 1] {
        let flip = format!(
            "UPDATE chronicle_dump.receipts SET piece = set_byte(piece, {at}, get_byte(piece, {at}) # 1)"
        );
        database.psql(&flip);
        Program::new(["rollback", "last", "--from", &database.url()])
            .run()
            .fails_with(3)
            .stderr_has("damaged");
        assert_eq!(state(&database), before);
        database.psql(&flip);
    }
    rollback(&database, "last");
}
