//! Spellings of one UUID, and ids that are none.

use super::*;

#[test]
fn references_find_a_uuid_in_every_spelling() {
    let scratch = Scratch::new("uuid_spellings");
    let plain = |n: u32| format!("6ba7b81{n}-9dad-11d1-80b4-00c04fd430c8");
    let spelled = [
        plain(0).to_uppercase(),
        plain(1).replace('-', ""),
        format!("{{{}}}", plain(2)),
        format!("urn:uuid:{}", plain(3)),
        plain(4),
    ];
    let sql: String = (0..5_u32)
        .map(|n| {
            session(n).replace(&id(n), &spelled[n as usize])
                + &event(20 + n, n, "stop").replace(&id(n), &spelled[n as usize])
        })
        .collect();
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = postgres("postgres-upstream.sql", "uuid_spellings", "");
    scratch
        .shift(
            &source,
            &server.url(),
            &["--on-missing-column=fold", "--on-unrepresentable=preserve"],
        )
        .success();
    let found = "SELECT s.id FROM chronicle_sessions s JOIN chronicle_events e ON e.session_id = s.id ORDER BY 1";
    assert_eq!(server.psql(found), [0, 1, 2, 3, 4].map(plain).join("\n"));
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&server.url(), &back, &[]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

/// Two sessions whose ids are one UUID in two spellings, each with an event; so are the ids of those.
fn spelled_twice() -> String {
    let plain = "6ba7b81N-9dad-11d1-80b4-00c04fd430c8";
    let spelled = |n: &str, other: bool| match other {
        false => plain.replace('N', n),
        true => format!("{{{}}}", plain.replace('N', n).to_uppercase()),
    };
    [false, true]
        .into_iter()
        .zip(1..)
        .map(|(other, n)| {
            session(n).replace(&id(n), &spelled("0", other))
                + &event(20 + n, n, "stop")
                    .replace(&id(20 + n), &spelled("1", other))
                    .replace(&id(n), &spelled("0", other))
        })
        .collect()
}

#[test]
fn two_spellings_of_one_uuid_are_refused_with_a_remedy() {
    let scratch = Scratch::new("uuid_clash");
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &spelled_twice()));
    for before in [
        String::new(),
        format!(
            "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('{}', 'x', now())",
            id(9)
        ),
    ] {
        let server = postgres("postgres-upstream.sql", "uuid_clash", &before);
        let rows = postgres_dump(&server);
        import(&archive, &server.url(), &[])
            .fails_with(10)
            .stderr_has("(key {6BA7B810-9DAD-11D1-80B4-00C04FD430C8}), column \"id\"")
            .stderr_has("--on-unrepresentable preserve loads");
        assert_same_rows(&rows, &postgres_dump(&server));
        let checked =
            Program::new(["check", "--strict", words(&archive), "--to", &server.url(), "--json"])
                .run();
        let problem = json_of(&checked.fails_with(10))["problems"][0].clone();
        assert_eq!(problem["remedy"], "--on-unrepresentable preserve, adapt or reject");
        assert_eq!(problem["reason"], "another row has this UUID already, in another spelling");
    }
}

#[test]
fn two_spellings_of_one_uuid_become_two_rows() {
    let scratch = Scratch::new("uuid_spelled_twice");
    let source = scratch.sqlite("source.db", HOOKS, &spelled_twice());
    let archive = scratch.export(&source);
    for option in ["--on-unrepresentable=adapt", "--on-unrepresentable=preserve"] {
        let server = postgres("postgres-upstream.sql", "uuid_spelled_twice", "");
        let (to, options) = (server.url(), ["--on-missing-column=fold", option]);
        let args = [&["check", "--strict", words(&archive), "--to", &to], &options[..]].concat();
        Program::new(args).run().success().stdout_has("would succeed");
        for inserted in [2, 0] {
            let done = import(&archive, &to, &[&options[..], &["--json"]].concat());
            let done = json_of(&done.success());
            for stream in 0..2 {
                assert_eq!(done["streams"][stream]["inserted_rows"], inserted, "{done:#}");
            }
        }
        let joined = "SELECT count(DISTINCT s.id), count(DISTINCT e.id), count(DISTINCT s.claude_session_id) \
                      FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id \
                      WHERE e.metadata ->> 'n' = '2' || right(s.claude_session_id, 1)";
        assert_eq!(server.psql(joined), "2|2|2", "{option}");
        let args = [&["verify", words(&archive), "--against", &to], &options[..]].concat();
        Program::new(args).run().success();
        if option.ends_with("preserve") {
            let back = scratch.sqlite("back.db", HOOKS, "");
            scratch.shift(&to, &back, &[]).success();
            assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
        }
    }
    let server = postgres("postgres-upstream.sql", "uuid_spelled_twice", "");
    let rejects = scratch.path("rejects.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options).fails_with(14).stderr_has("in another spelling");
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_events"), "1");
    assert_eq!([records(&rejects, "sessions").len(), records(&rejects, "events").len()], [1, 1]);
}

#[test]
fn a_stored_uuid_spelling_reserves_its_uuid() {
    let scratch = Scratch::new("uuid_kept_spelling");
    let plain = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let one = |name: &str, n: u32, spelled: &str| {
        let sql = session(n) + &event(20 + n, n, "stop");
        scratch.export(&scratch.sqlite(name, HOOKS, &sql.replace(&id(n), spelled)))
    };
    let (upper, lower) = (one("upper.db", 1, &plain.to_uppercase()), one("lower.db", 2, plain));
    let server = postgres("postgres-upstream.sql", "uuid_kept_spelling", "");
    let joined = "SELECT s.claude_session_id, e.metadata ->> 'n', s.id::text = '6ba7b810-9dad-11d1-80b4-00c04fd430c8' \
                  FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id ORDER BY 1";
    for _ in 0..2 {
        for archive in [&upper, &lower] {
            import(archive, &server.url(), KEEPING).success();
        }
        assert_eq!(server.psql(joined), "cs-1|21|t\ncs-2|22|f");
        assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "2");
    }
}

#[test]
fn ids_that_are_no_uuids_get_one_and_come_back() {
    let scratch = Scratch::new("odd_ids");
    let event_of = |number: u32, id_sql: &str, session_sql: &str| {
        event(number, 1, "stop")
            .replace(&format!("'{}'", id(number)), id_sql)
            .replace(&format!("'{}'", id(1)), session_sql)
    };
    // blobs, a text of digits, the empty text, a text with blanks, no id at all
    let ids = [
        "x'00ff'",
        "x'31'",
        "'1'",
        "''",
        "' a '",
        "'ünï'",
        "CAST(x'ff' AS TEXT)",
        "CAST(x'610062' AS TEXT)",
    ];
    let mut sql: String = (ids.iter().enumerate())
        .map(|(n, odd)| {
            let n = n as u32 + 1;
            session(n).replace(&format!("'{}'", id(n)), odd) + &event_of(n + 20, odd, odd)
        })
        .collect();
    // two rows without an id that are equal in everything, and one that is not
    for number in [50, 50, 51] {
        sql += &event_of(number, "NULL", "'1'");
    }
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = postgres("postgres-upstream.sql", "odd_ids", "");
    let archive = scratch.export(&source);
    let options = ["--on-missing-column=fold", "--on-unrepresentable=preserve"];
    import(&archive, &server.url(), &options).success().stderr_has("is not a UUID");
    let joined = "SELECT count(*), count(DISTINCT s.id), count(DISTINCT e.id) FROM chronicle_events e \
                  JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(server.psql(joined), "11|8|11");
    let before = postgres_dump(&server);
    import(&archive, &server.url(), &options).success();
    assert_same_rows(&before, &postgres_dump(&server));
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&server.url(), &back, &[]).success();
    // and the UUIDs that were made stay those that they were
    let second = postgres("postgres-upstream.sql", "odd_ids", "");
    let kept = scratch.sqlite("kept.db", HOOKS, "");
    scratch.shift(&server.url(), &kept, &options).success();
    scratch.shift(&kept, &second.url(), &options).success();
    let ids =
        "SELECT id FROM chronicle_sessions UNION ALL SELECT id FROM chronicle_events ORDER BY id";
    let (first, then) = (server.psql(ids), second.psql(ids));
    let lost: Vec<&str> = first.lines().filter(|id| !then.contains(id)).collect();
    // but for those of rows that had none again meanwhile
    assert_eq!((first.lines().count(), lost.len()), (19, 3), "{lost:?}");
    let again = scratch.sqlite("again.db", HOOKS, "");
    scratch.shift(&second.url(), &again, &options).success();
    assert_same_rows(&sqlite_dump(kept.as_ref()), &sqlite_dump(again.as_ref()));
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn a_row_without_an_id_comes_back_without_one() {
    let scratch = Scratch::new("keyless");
    let mut sql = session(1) + &session(2).replace(&format!("'{}'", id(2)), "NULL");
    // two that are equal in everything, and one whose time is no instant by itself
    for number in [50, 50, 51] {
        sql += &event(number, 1, "stop").replace(&format!("'{}'", id(number)), "NULL");
    }
    sql += "UPDATE events SET timestamp = '2025-08-19T10:00:51' WHERE timestamp LIKE '%51Z'";
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let options =
        ["--on-missing-column=fold", "--on-unrepresentable=preserve", "--assume-tz=Europe/Berlin"];
    let [first, second] = ["1", "2"].map(|_| postgres("postgres-upstream.sql", "keyless", ""));
    scratch.shift(&source, &first.url(), &options).success();
    let archive = scratch.export(&first.url());
    // its own export changes nothing, and another server has the same ids
    let before = postgres_dump(&first);
    import(&archive, &first.url(), &options).success();
    assert_same_rows(&before, &postgres_dump(&first));
    import(&archive, &second.url(), &options[..2]).success();
    assert_same_rows(&before, &postgres_dump(&second));
    Program::new(["verify", words(&archive), "--against", &second.url()])
        .arg(options[0])
        .arg(options[1])
        .run()
        .success();
    // back from either, also twice
    for server in [&first, &second] {
        let back = scratch.sqlite("back.db", HOOKS, "");
        let archive = scratch.export(&server.url());
        for _ in 0..2 {
            import(&archive, &back, &["--on-missing-column=add"]).success();
            assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
        }
        std::fs::remove_file(&back).expect("remove the file");
    }
    // without preserve the ids stay for ever
    let plain = postgres("postgres-upstream.sql", "keyless", "");
    scratch.shift(&source, &plain.url(), &options[2..]).success();
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&plain.url(), &back, &[]).success();
    assert_eq!(ask(&back, "SELECT count(*) FROM events WHERE id IS NULL"), "0");
}
