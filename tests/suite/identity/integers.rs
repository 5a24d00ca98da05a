//! Integer ids become UUIDs and integers again.

use super::*;

#[test]
fn integers_become_uuids_and_the_same_integers_again() {
    let scratch = Scratch::new("integers_and_back");
    let source = scratch.sqlite("source.db", TUTORIAL, &numbered(7, "/tea"));
    let server = postgres("postgres-seed.sql", "integers_and_back", "");
    scratch.shift(&source, &server.url(), TUTORIAL_OPTIONS).success();
    let origins = "SELECT s.original_sqlite_id, e.original_sqlite_id FROM chronicle_sessions s \
                   JOIN chronicle_events e ON e.session_id = s.id ORDER BY 1";
    assert_eq!(server.psql(origins), "7|107\n8|108\n9|109");
    assert_eq!(
        server.psql("SELECT count(*) FROM chronicle_sessions WHERE id::text ~ '-5...-'"),
        "3"
    );
    let back = scratch.sqlite("back.db", TUTORIAL, "");
    scratch.shift(&server.url(), &back, TUTORIAL_OPTIONS).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn references_follow_an_integer_that_was_remapped() {
    let scratch = Scratch::new("taken_integer");
    let source = scratch.sqlite("source.db", TUTORIAL, &numbered(1, "/tea"));
    let server = postgres("postgres-seed.sql", "taken_integer", "");
    scratch.shift(&source, &server.url(), TUTORIAL_OPTIONS).success();
    let other = scratch.sqlite("other.db", TUTORIAL, &numbered(3, "/coffee"));
    let archive = scratch.export(&server.url());
    import(&archive, &other, TUTORIAL_OPTIONS).success();
    let strangers = "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s \
                     ON s.id = e.session_id WHERE json_extract(e.data, '$.of') <> s.project_path";
    assert_eq!(ask(&other, strangers), "0");
    assert_eq!(ask(&other, "SELECT count(*), min(id), max(id) FROM chronicle_sessions"), "6|1|6");
    // 1 and 2 were free; 3 was not
    let of = "SELECT id FROM chronicle_sessions WHERE project_path = '/tea' ORDER BY id";
    assert_eq!(ask(&other, of), "1\n2\n6");
    let before = sqlite_dump(other.as_ref());
    import(&archive, &other, TUTORIAL_OPTIONS).success();
    assert_same_rows(&before, &sqlite_dump(other.as_ref()));
}

#[test]
fn uuids_become_integers_and_the_same_uuids_again() {
    let scratch = Scratch::new("uuids_and_back");
    let rows: String = (1..4)
        .map(|n| {
            format!(
                "INSERT INTO chronicle_sessions (id, project_path, start_time, created_at, updated_at) \
                 VALUES ('{}', '/tea', '2025-08-19 10:00:00Z', '2025-08-19Z', '2025-08-19Z'); \
                 INSERT INTO chronicle_events (id, session_id, type, timestamp, created_at) \
                 VALUES ('{}', '{}', 'prompt', '2025-08-19 10:00:00Z', '2025-08-19Z');",
                id(n),
                id(n + 10),
                id(n)
            )
        })
        .collect();
    let server = postgres("postgres-seed.sql", "uuids_and_back", &rows);
    let with_origin = "ALTER TABLE chronicle_sessions ADD COLUMN original_supabase_id TEXT; \
                       ALTER TABLE chronicle_events ADD COLUMN original_supabase_id TEXT;";
    for (name, sql) in [("plain", ""), ("origin", with_origin)] {
        let file = scratch.sqlite(&format!("{name}.db"), TUTORIAL, sql);
        scratch.shift(&server.url(), &file, TUTORIAL_OPTIONS).success();
        assert_eq!(ask(&file, "SELECT id FROM chronicle_sessions"), "1\n2\n3");
        if name == "origin" {
            let kept = "SELECT original_supabase_id FROM chronicle_sessions ORDER BY id";
            assert_eq!(ask(&file, kept), [id(1), id(2), id(3)].join("\n"));
        }
        let back = postgres("postgres-seed.sql", &format!("uuids_and_back_{name}"), "");
        scratch.shift(&file, &back.url(), TUTORIAL_OPTIONS).success();
        // the databases in between are named, too
        let between = "SELECT original_sqlite_id FROM chronicle_sessions ORDER BY id";
        assert_eq!(back.psql(between), "1\n2\n3");
        for table in ["chronicle_sessions", "chronicle_events"] {
            // and so is the batch that has brought the rows
            let both = "original_sqlite_id = NULL, migration_batch = NULL";
            back.psql(&format!("UPDATE {table} SET {both}"));
        }
        assert_same_rows(&postgres_dump(&server), &postgres_dump(&back));
    }
}

#[test]
fn importing_twice_is_importing_once_for_every_kind_of_id() {
    let scratch = Scratch::new("twice_everywhere");
    let numbered = scratch.sqlite("numbered.db", TUTORIAL, &numbered(1, "/tea"));
    let odd = session(1).replace(&id(1), "not a uuid")
        + &event(11, 1, "prompt").replace(&id(1), "not a uuid");
    let named = scratch.sqlite("named.db", HOOKS, &odd);
    let options = [TUTORIAL_OPTIONS, &["--map-event-types=upstream"]].concat();
    for (source, layout, options) in [
        (&numbered, "postgres-seed.sql", TUTORIAL_OPTIONS),
        (&numbered, "postgres-upstream.sql", &options),
        (&named, "postgres-upstream.sql", &options),
        (&named, "postgres-seed.sql", TUTORIAL_OPTIONS),
    ] {
        let server = postgres(layout, "twice_everywhere", "");
        let archive = scratch.export(source);
        import(&archive, &server.url(), options).success();
        let (rows, kept) =
            (postgres_dump(&server), server.psql("SELECT * FROM chronicle_dump.sidecar"));
        assert!(!rows.is_empty());
        // another export of the same database is the same database
        for archive in [archive, scratch.export(source)] {
            let again = import(&archive, &server.url(), &[options, &["--json"]].concat()).success();
            for stream in json_of(&again)["streams"].as_array().expect("streams") {
                assert_eq!(stream["inserted_rows"], 0, "{layout}: {stream}");
            }
        }
        assert_same_rows(&rows, &postgres_dump(&server));
        assert_eq!(kept, server.psql("SELECT * FROM chronicle_dump.sidecar"));
        for fixtures in [HOOKS, TUTORIAL] {
            let file = scratch.sqlite(&format!("{}.db", server.name()), fixtures, "");
            let archive = scratch.export(&server.url());
            import(&archive, &file, options).success();
            let before = sqlite_dump(file.as_ref());
            import(&archive, &file, options).success();
            assert_same_rows(&before, &sqlite_dump(file.as_ref()));
            std::fs::remove_file(&file).expect("remove the file");
        }
    }
}

#[test]
fn equal_integers_of_two_databases_are_two_rows() {
    let scratch = Scratch::new("two_instances");
    let one = scratch.sqlite("one.db", TUTORIAL, &numbered(1, "/tea"));
    let other = scratch.sqlite("other.db", TUTORIAL, &numbered(1, "/coffee"));
    let server = postgres("postgres-seed.sql", "two_instances", "");
    for file in [&one, &other] {
        scratch.shift(file, &server.url(), TUTORIAL_OPTIONS).success();
    }
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "6");
    let strangers = "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s \
                     ON s.id = e.session_id WHERE e.data ->> 'of' <> s.project_path";
    assert_eq!(server.psql(strangers), "0");

    // a moved file is given its former identity
    let archive = scratch.export(&one);
    let instance = inspected(&archive)["instance"].as_str().expect("an instance").to_owned();
    let moved = words(&scratch.path("moved.db")).to_owned();
    std::fs::rename(&one, &moved).expect("move the file");
    let archive = scratch.export(&moved);
    assert_ne!(inspected(&archive)["instance"], json!(instance));
    let options = [TUTORIAL_OPTIONS, &["--instance", &instance]].concat();
    import(&archive, &server.url(), &options).success();
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "6");
}

#[track_caller]
fn inspected(archive: &std::path::Path) -> serde_json::Value {
    json_of(&Program::new(["inspect", "--json", words(archive)]).run().success())["source"].clone()
}

#[test]
fn an_archive_names_its_database_unless_reproducible() {
    let scratch = Scratch::new("instance");
    let file = scratch.sqlite("source.db", HOOKS, &session(1));
    let server = postgres("postgres-upstream.sql", "instance", "");
    let second = postgres("postgres-upstream.sql", "instance", "");
    let schema = "CREATE SCHEMA other; ALTER TABLE chronicle_sessions SET SCHEMA other; \
                  ALTER TABLE chronicle_events SET SCHEMA other;";
    let mut seen = Vec::new();
    for from in [&file, &server.url(), &second.url()] {
        let (archive, again) = (scratch.export(from), scratch.export(from));
        let instance = inspected(&archive)["instance"].as_str().expect("an instance").to_owned();
        assert_eq!(inspected(&again)["instance"], json!(instance));
        Program::new(["inspect", words(&archive)]).run().success().stdout_has(&instance);
        assert!(!seen.contains(&instance), "two databases of one name");
        seen.push(instance);
        let plain = scratch.path("plain.ndjson.zst");
        Program::new(["export", "--reproducible", "--force", from, "-o", words(&plain)])
            .run()
            .success();
        assert_eq!(inspected(&plain).get("instance"), None);
    }
    second.psql(schema);
    let moved = scratch.export(&second.url());
    assert!(!seen.contains(&inspected(&moved)["instance"].as_str().expect("one").to_owned()));
    // the same file by another way
    let link = scratch.path("link.db");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    assert_eq!(inspected(&scratch.export(words(&link)))["instance"], json!(seen[0]));
}

#[test]
fn one_former_id_goes_back_to_one_row_only() {
    let scratch = Scratch::new("one_former_id");
    let rows: String = (1..3)
        .map(|n| {
            format!(
                "INSERT INTO chronicle_sessions (id, original_sqlite_id, project_path, start_time, created_at, updated_at) \
                 VALUES ('{}', '1', '/tea', '2025-08-19 10:00:00Z', '2025-08-19Z', '2025-08-19Z');",
                id(n)
            )
        })
        .collect();
    let server = postgres("postgres-seed.sql", "one_former_id", &rows);
    let hooks = scratch.sqlite("hooks.db", HOOKS, "");
    scratch.shift(&server.url(), &hooks, &["--on-missing-column=drop"]).success();
    assert_eq!(ask(&hooks, "SELECT id FROM sessions ORDER BY id"), format!("{}\n1", id(2)));
}

#[test]
fn the_largest_integer_is_an_id_like_any_other() {
    let scratch = Scratch::new("largest_integer");
    let odd = session(1).replace(&id(1), "9223372036854775807")
        + &session(2).replace(&id(2), "x")
        + &session(3).replace(&id(3), "y");
    let source = scratch.sqlite("source.db", HOOKS, &odd);
    let target = scratch.sqlite("target.db", TUTORIAL, "");
    scratch.shift(&source, &target, TUTORIAL_OPTIONS).success();
    let ids = "SELECT id FROM chronicle_sessions ORDER BY id";
    assert_eq!(ask(&target, ids), "1\n2\n9223372036854775807");
}

#[test]
fn texts_become_integers_once_and_the_same_texts_again() {
    let scratch = Scratch::new("texts_and_back");
    let source = scratch.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "prompt")));
    let target = scratch.sqlite("target.db", TUTORIAL, "");
    let archive = scratch.export(&source);
    for _ in 0..2 {
        import(&archive, &target, TUTORIAL_OPTIONS).success();
        assert_eq!(ask(&target, "SELECT count(*) FROM chronicle_sessions"), "1");
    }
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&target, &back, &["--on-missing-column=drop"]).success();
    assert_eq!(ask(&back, "SELECT id FROM sessions"), id(1));
    assert_eq!(ask(&back, "SELECT session_id FROM events"), id(1));
}

#[test]
fn a_former_id_that_fits_nowhere_is_kept() {
    let scratch = Scratch::new("former_kept");
    let with_origin = numbered(1, "/tea")
        + "ALTER TABLE chronicle_sessions ADD COLUMN original_supabase_id TEXT;"
        + "UPDATE chronicle_sessions SET original_supabase_id = 'no uuid';";
    let source = scratch.sqlite("source.db", TUTORIAL, &with_origin);
    let server = postgres("postgres-upstream.sql", "former_kept", "");
    let options = [TUTORIAL_OPTIONS, &["--map-event-types=upstream"]].concat();
    scratch.shift(&source, &server.url(), &options).success();
    let kept = "SELECT count(*) FROM chronicle_dump.sidecar WHERE entry LIKE '%no uuid%'";
    assert_eq!(server.psql(kept), "3");
}

#[test]
fn equal_integers_of_two_databases_never_meet() {
    let scratch = Scratch::new("two_machines");
    let server = postgres("postgres-upstream.sql", "two_machines", "");
    let options = [TUTORIAL_OPTIONS, &["--map-event-types=upstream"]].concat();
    for name in ["one.db", "two.db"] {
        let source = scratch.sqlite(name, TUTORIAL, &numbered(1, "/tea"));
        scratch.shift(&source, &server.url(), &options).success();
    }
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "6");
}

#[test]
fn numbers_that_a_server_gave_are_given_once() {
    let scratch = Scratch::new("numbers_once");
    let source = scratch.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "prompt")));
    // the tutorial's tables with numbers for ids, and no column for those of before
    let server = postgres("postgres-upstream.sql", "numbers_once", NUMBERED_SERVER);
    let archive = scratch.export(&source);
    for _ in 0..2 {
        import(&archive, &server.url(), TUTORIAL_OPTIONS).success();
        assert_eq!(server.psql("SELECT id FROM chronicle_sessions"), "1");
        assert_eq!(server.psql("SELECT id, session_id FROM chronicle_events"), "1|1");
    }
}
