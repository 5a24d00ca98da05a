//! The end of `check` of a database: how its Chronicle stands.

use serde_json::json;

use crate::support::migrate::{Scratch, fill, json_of, postgres};
use crate::support::program::Program;

/// Sessions of six days, of which one has ended, and events of two of them, one without a session.
fn rows(sessions: &str, events: &str, zone: &str) -> String {
    let mut sql = String::new();
    for day in 1..=6 {
        let end = if day == 6 { format!("'2025-08-06T12:00:00{zone}'") } else { "NULL".into() };
        sql += &format!(
            "INSERT INTO {sessions} (id, claude_session_id, project_path, start_time, end_time) VALUES \
             ('00000000-0000-0000-0000-00000000000{day}', 'cs-{day}', '/p{day}', '2025-08-0{day}T10:00:00{zone}', {end});"
        );
    }
    for (id, session, time) in
        [(11, 1, "06T11:00:00"), (12, 6, "06T10:30:00"), (13, 9, "02T10:00:00")]
    {
        sql += &format!(
            "INSERT INTO {events} (id, session_id, event_type, timestamp) VALUES \
             ('00000000-0000-0000-0000-0000000000{id}', '00000000-0000-0000-0000-00000000000{session}', 'stop', \
              '2025-08-{time}{zone}');"
        );
    }
    sql
}

fn check(database: &str) -> (String, serde_json::Value) {
    let text = Program::new(["check", database]).run().success().text().to_owned();
    let json = json_of(&Program::new(["check", "--json", database]).run().success());
    (text, json["status"].clone())
}

#[test]
fn a_check_of_a_file_ends_with_its_status() {
    let scratch = Scratch::new("status_file");
    let file = scratch.sqlite("source.db", &["sqlite-hooks.sql"], &rows("sessions", "events", ""));
    let (text, status) = check(&file);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(lines[1].starts_with("connection  ") && lines[1].contains("(SQLite 3."), "{text}");
    assert!(!lines[1].contains("//"), "{text}");
    assert_eq!(
        lines[2..],
        [
            "sessions    6, 5 open",
            "events      3, the last at 2025-08-06T11:00:00",
            "orphans     1",
            "latest      2025-08-06T10:00:00 to 2025-08-06T12:00:00  /p6  00000000-0000-0000-0000-000000000006",
            "2025-08-05T10:00:00 to open  /p5  00000000-0000-0000-0000-000000000005",
            "2025-08-04T10:00:00 to open  /p4  00000000-0000-0000-0000-000000000004",
            "2025-08-03T10:00:00 to open  /p3  00000000-0000-0000-0000-000000000003",
            "2025-08-02T10:00:00 to open  /p2  00000000-0000-0000-0000-000000000002",
        ]
    );
    assert_eq!((&status["sessions"], &status["open_sessions"]), (&json!(6), &json!(5)));
    assert_eq!(status["latest_sessions"][0]["end"], json!("2025-08-06T12:00:00"));
    assert_eq!(status["latest_sessions"][1]["end"], json!(null));
    // what is no time is a session all the same
    fill(&file, "UPDATE sessions SET start_time = 'soon', project_path = NULL");
    let (text, status) = check(&file);
    assert!(text.contains("sessions    6, 5 open"), "{text}");
    assert_eq!(status["latest_sessions"], json!([]));
}

#[test]
fn a_check_of_a_server_ends_with_its_status() {
    let scratch = Scratch::new("status_server");
    let setup = "ALTER TABLE chronicle_events DISABLE TRIGGER USER, \
                     DROP CONSTRAINT chronicle_events_session_id_fkey;";
    let rows = rows("chronicle_sessions", "chronicle_events", "Z");
    let server = postgres("postgres-upstream.sql", "status_server", &format!("{setup}{rows}"));
    let (text, status) = check(&server.url());
    assert!(text.contains("(PostgreSQL "), "{text}");
    assert!(text.contains("sessions    6, 5 open"), "{text}");
    assert_eq!((&status["sessions"], &status["events"]), (&json!(6), &json!(3)));
    assert_eq!(status["latest_sessions"].as_array().map(Vec::len), Some(5));
    // an archive has none, nor what is checked against a target
    let archive = scratch.export(&server.url());
    let of_archive = ["check", "--json", archive.to_str().expect("a path")];
    assert_eq!(json_of(&Program::new(of_archive).run().success())["status"], json!(null));
}
