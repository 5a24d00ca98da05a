//! Local times, instants and the zones between them.

use super::*;

#[test]
fn ambiguous_skipped_and_zoneless_times_are_named() {
    let scratch = Scratch::new("zones");
    let at = |time: &str| {
        let sql =
            session(1) + &event(11, 1, "stop") + &format!("UPDATE events SET timestamp = '{time}'");
        let source = scratch.sqlite("source.db", HOOKS, &sql);
        let archive = scratch.export(&source);
        std::fs::remove_file(&source).expect("remove the file");
        archive
    };
    let server = postgres(UPSTREAM, "zones", "");
    import(&at("2025-08-19T10:00:00"), &server.url(), &[])
        .fails_with(10)
        .stderr_has("look like local time at UTC, e.g. --assume-tz")
        .stderr_has("--assume-tz");
    // never: the clock went from 2 to 3; twice: it went from 3 to 2
    for (time, words) in
        [("2025-03-30T02:30:00", "not exist"), ("2025-10-26T02:30:00", "ambiguous")]
    {
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
fn the_instant_of_a_local_time_travels_with_it() {
    let scratch = Scratch::new("offsets");
    // the last ones: finer than Postgres, twice in Berlin, never there, with a zone, by an old clock
    let odd = [
        "2025-08-19T10:00:00.1234567",
        "2025-10-26T02:30:00",
        "2025-03-30T02:30:00",
        "2025-08-19T10:00:00+05:00",
        "1890-01-01 00:00",
    ];
    let one = scratch.sqlite("one.db", HOOKS, &by_the_clock(1, &odd));
    let other = scratch.sqlite("other.db", HOOKS, &by_the_clock(2, &["2025-08-19T10:00:00"]));
    let [first, second, third, plain] =
        ["1", "2", "3", "4"].map(|_| postgres(UPSTREAM, "offsets", ""));
    // rows by two clocks in one table
    let both = "--on-unrepresentable=preserve";
    scratch.shift(&one, &first.url(), &[both, "--assume-tz=Europe/Berlin"]).success();
    scratch.shift(&other, &first.url(), &[both, "--assume-tz=America/New_York"]).success();
    let archive = scratch.export(&first.url());
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
    let check = Program::new(["check", "--strict", words(&archive), "--to", &plain.url()]).run();
    let check = check.fails_with(10).stdout_has("finer than microseconds");
    assert!(!check.text().contains("--assume-tz"), "{}", check.text());
    import(&archive, &plain.url(), &["--on-unrepresentable=adapt"]).success();
    assert_same_rows(&postgres_dump(&first), &postgres_dump(&plain));
    // texts are loaded unchanged into text columns
    let file = scratch.sqlite("back.db", HOOKS, "");
    import(&scratch.export(&third.url()), &file, &[]).success();
    for (source, number) in [(&one, 1), (&other, 2)] {
        let rows =
            format!("SELECT timestamp FROM events WHERE session_id = '{}' ORDER BY id", id(number));
        assert_eq!(ask(&file, &rows), ask(source, &rows));
    }
}

#[test]
fn local_times_are_compared_and_chosen_by_what_is_known_of_them() {
    let scratch = Scratch::new("known_offsets");
    let source = scratch.sqlite("source.db", HOOKS, &by_the_clock(1, &["2025-08-19T10:00:00"]));
    let into = |zone: &str| {
        let server = postgres(UPSTREAM, "known_offsets", "");
        let zone = format!("--assume-tz={zone}");
        scratch.shift(&source, &server.url(), &[KEEP, &[&zone]].concat()).success();
        server
    };
    let [berlin, paris, new_york] = ["Europe/Berlin", "Europe/Paris", "America/New_York"].map(into);
    let [in_berlin, in_paris, in_new_york] =
        [&berlin, &paris, &new_york].map(|server| scratch.export(&server.url()));
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
    let edited = records(&scratch.export(&berlin.url()), "events");
    assert_eq!(edited[0]["timestamp"], "2025-08-19T12:00:00.000000Z");
}

#[test]
fn the_three_clocks_of_a_hooks_row_are_each_read_right() {
    let scratch = Scratch::new("three_clocks");
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
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "three_clocks", "");
    scratch
        .shift(&source, &server.url(), &["--assume-tz=America/Los_Angeles"])
        .success()
        .stderr_has("3 created_at values were shifted twice by SQLite");
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
fn an_adopted_session_is_not_exported_until_edited() {
    let scratch = Scratch::new("made_and_gone");
    // of two missing sessions one has an id that is not a UUID
    let more = event(13, 2, "stop")
        + &event(14, 2, "stop")
        + &event(15, 3, "stop").replace(&format!("'{}'", id(3)), "'tea'");
    let source = scratch.sqlite("source.db", HOOKS, &(good() + &more));
    there_and_back(&scratch, &source, HOOKS, &["--orphans=adopt"]);
    let archive = scratch.export(&source);
    let options = [KEEP, &["--orphans=adopt"]].concat();
    let (server, file) =
        (postgres(UPSTREAM, "made_and_gone", ""), scratch.sqlite("file.db", SERVER, ""));
    let dump = |to: &str| match to == file {
        true => (sqlite_dump(to.as_ref()), ask(to, "SELECT * FROM chronicle_dump_sidecar")),
        false => (
            postgres_dump(&server),
            server.psql("SELECT * FROM chronicle_dump.sidecar ORDER BY 1, 2, 3"),
        ),
    };
    let sessions = |to: &str| records(&scratch.export(to), "sessions").len();
    for to in [server.url(), file.clone()] {
        import(&archive, &to, &options).success().stdout_has("2 sessions created");
        let before = dump(&to);
        import(&archive, &to, &options).success().stderr_lacks("sessions created");
        assert!(before == dump(&to), "{to}: the second import changed something");
        assert_eq!(sessions(&to), 1, "{to}");
        Program::new(["export", &to])
            .run()
            .success()
            .stderr_has("3 events have no session (orphans: ");
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
        // what was removed is created again
        edit("DELETE FROM chronicle_events");
        edit("DELETE FROM chronicle_sessions");
        import(&archive, &to, &[&options[..], &["--map-event-types=upstream"]].concat()).success();
        assert_eq!(sessions(&to), 1, "{to}");
    }
    // who preserves nothing has them for ever
    let server = postgres(UPSTREAM, "made_and_gone", "");
    import(&archive, &server.url(), &["--orphans=adopt"]).success();
    assert_eq!(sessions(&server.url()), 3);
}
