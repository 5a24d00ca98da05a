//! What an import refuses, and what it says of it.

use super::*;

#[test]
fn sqlite_keeps_and_counts_orphans_by_default() {
    let store = Backend::Sqlite.make("sqlite_orphans");
    let archive = store.archive(&(good() + &event(14, 7, "stop", "NULL")));
    store
        .import(&archive, &["--orphans", "fail"])
        .fails_with(12)
        .stderr_has(&id(14))
        .stderr_has(&id(7))
        .stderr_has("hint: --orphans keep");
    assert_eq!(store.dump(), Vec::<String>::new());
    let kept = store.import(&archive, &["--json"]).success().stderr_has(&id(14));
    assert_eq!(
        json_of(&kept)["orphans"],
        json!([{"stream": "events", "column": "session_id", "rows": 1, "samples": [[id(14), id(7)]]}])
    );
    assert_eq!(store.dump().len(), 6);
}

#[test]
fn postgres_refuses_orphans_that_it_does_not_allow_and_says_so() {
    for owner in [OWNER, SUPA] {
        let store = server_of(owner, "postgres_orphans");
        let archive = store.archive(&(good() + &event(14, 7, "stop", "NULL")));
        for options in [&[][..], &["--orphans", "keep"], &["--orphans", "fail"]] {
            store
                .import(&archive, options)
                .fails_with(12)
                .stderr_has(&id(14))
                .stderr_has(&id(7))
                .stderr_has("since the target enforces this reference");
            assert_eq!(store.dump(), Vec::<String>::new());
        }
    }
}

/// Panics unless an import of these rows into Postgres is refused with exit code 10 and all of these words.
#[track_caller]
fn postgres_refuses(sql: &str, options: &[&str], wanted: &[&str]) {
    let store = Backend::Postgres.make("refuses");
    let mut output = store.import(&store.archive(sql), options).fails_with(10);
    for words in wanted {
        output = output.stderr_has(words);
    }
    assert_eq!(store.dump(), Vec::<String>::new());
}

#[test]
fn an_unknown_event_type_is_refused_with_its_key() {
    let sql = good() + &event(14, 2, "prompt", "NULL");
    postgres_refuses(&sql, &[], &["chronicle_events", &id(14), "event_type"]);
}

#[test]
fn an_integer_too_large_for_the_column_is_refused_with_its_key() {
    let sql = good() + &event(14, 2, "stop", "2147483648");
    let wanted = ["chronicle_events", &id(14), "\"duration_ms\"", "2147483648 is too large"];
    postgres_refuses(&sql, &[], &wanted);
}

#[test]
fn an_id_without_uuid_form_gets_one_and_comes_back() {
    let store = Backend::Postgres.make("no_uuid");
    let event =
        event(14, 2, "stop", "NULL").replace(&id(14), "event-3").replace(&id(2), "session-3");
    let sql = good() + &session_of("session-3", "cs-3") + &event;
    store
        .import(&store.archive(&sql), &[])
        .success()
        .stderr_has("sessions.id: 1 value remapped: the id is not a UUID")
        .stderr_has("first: key session-3");
    let joined = "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s \
                  ON s.id = e.session_id WHERE s.claude_session_id = 'cs-3'";
    assert_eq!(store.server().psql(joined), "1", "the event follows its session");
    let back = Backend::Sqlite.make("no_uuid_back");
    let archive = store.folder.path().join("back.zst");
    Program::new(["export", &store.url(), "-o", archive.to_str().unwrap()]).run().success();
    back.import(&archive, &[]).success();
    let Place::File(path) = &back.place else { panic!("a file") };
    let sql = "SELECT e.id || ' of ' || s.id FROM events e JOIN sessions s ON s.id = e.session_id \
               WHERE s.claude_session_id = 'cs-3'";
    let ids: String = Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(ids, "event-3 of session-3");
}

#[test]
fn a_local_time_is_refused_until_its_zone_is_named() {
    let sql = good() + &event_at(14, 2, "stop", "2025-09-08T09:58:05.887332", "NULL");
    postgres_refuses(&sql, &[], &[&id(14), "\"timestamp\"", "--assume-tz ZONE"]);

    for (zone, instant) in [
        ("America/Los_Angeles", "2025-09-08 16:58:05.887332+00"),
        ("Europe/Berlin", "2025-09-08 07:58:05.887332+00"),
        ("+02:00", "2025-09-08 07:58:05.887332+00"),
    ] {
        let store = Backend::Postgres.make("assumed_zone");
        store.import(&store.archive(&sql), &["--assume-tz", zone]).success();
        assert_eq!(time_of(&store, 14), instant, "{zone}");
    }
}

fn time_of(store: &Store, event: u32) -> String {
    store.server().psql(&format!(
        "SET TimeZone = 'UTC'; SELECT timestamp FROM chronicle_events WHERE id = '{}'",
        id(event)
    ))
}

#[test]
fn the_zone_of_an_archive_is_used_only_when_asked_for() {
    let sql = good() + &event_at(14, 2, "stop", "2025-09-08T09:58:05.887332", "NULL");
    let store = Backend::Postgres.make("zone_of_the_archive");
    let archive = store.archive(&sql);
    let inspected =
        Program::new(["inspect".as_ref(), archive.as_os_str()]).arg("--json").run().success();
    // a machine in a container may have none
    if let Some(zone) = zone_in(&json_of(&inspected)) {
        let hint = format!("the archive was exported in {zone}: --assume-tz archive");
        store.import(&archive, &[]).fails_with(10).stderr_has(&hint);
        store.import(&archive, &["--assume-tz", "archive"]).success();
        let named = Backend::Postgres.make("zone_by_name");
        named.import(&archive, &["--assume-tz", &zone]).success();
        assert_eq!(time_of(&store, 14), time_of(&named, 14));
    }

    // a reproducible archive says nothing of the machine
    let source = archive.with_file_name("source.db");
    Program::new(["export".as_ref(), source.as_os_str(), "-o".as_ref(), archive.as_os_str()])
        .arg("--reproducible")
        .arg("--force")
        .run()
        .success();
    store
        .import(&archive, &["--assume-tz", "archive"])
        .fails_with(9)
        .stderr_has("does not name its time zone")
        .stderr_has("hint: ");
}

/// The first `time_zone` of an object, at any depth.
fn zone_in(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let own = object.get("time_zone").and_then(Value::as_str).map(str::to_owned);
    own.or_else(|| object.values().find_map(zone_in))
}

#[test]
fn a_local_time_that_the_clocks_skipped_is_refused() {
    let sql = good() + &event_at(14, 2, "stop", "2025-03-09T02:30:00", "NULL");
    let wanted = [&id(14), "\"timestamp\""];
    postgres_refuses(&sql, &["--assume-tz", "America/Los_Angeles"], &wanted);
}

#[test]
fn a_refused_column_is_named_with_all_others_like_it() {
    let database = Cluster::get().database("no_place");
    database.apply_file(fixture("postgres-seed.sql"));
    let store = Store { folder: workdir("no_place"), place: Place::Server(database) };
    let archive = store.archive(&good());
    store
        .import(&archive, &[])
        .fails_with(9)
        .stderr_has(&format!("row 1 (key {})", id(1)))
        .stderr_has("column \"claude_session_id\": the target has no column for it")
        .stderr_has("none for sessions.metadata, events.tool_name, events.duration_ms either")
        .stderr_has("hint: --on-missing-column preserve")
        .stderr_lacks("updated_at");
    assert_eq!(store.dump(), Vec::<String>::new());
}

#[test]
fn a_column_without_a_place_and_without_a_value_loses_nothing() {
    let store = Backend::Sqlite.make("no_value");
    store.run("ALTER TABLE sessions ADD COLUMN note TEXT");
    store.run(&good());
    let archive = store.folder.path().join("noted.zst");
    Program::new(["export", &store.url(), "-o", archive.to_str().unwrap()]).run().success();
    let plain = Backend::Sqlite.make("no_value_plain");
    plain.import(&archive, &[]).success();
    let without = |line: &String| line.replace(" note=null", "");
    assert_same_rows(&plain.dump(), &store.dump().iter().map(without).collect::<Vec<_>>());
}

#[test]
fn a_derived_column_without_a_place_is_left_out_with_a_notice() {
    let store = Backend::Postgres.make("derived");
    let output = store
        .import(&store.archive(&good()), &["--json", "-v"])
        .success()
        .stderr_has("sessions: not in chronicle_sessions: updated_at; can be recomputed");
    assert!(json_of(&output)["notices"].to_string().contains("updated_at"));
}
