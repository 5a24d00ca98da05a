//! Laws about ids, what refers to them, origins, types of events and orphans: the same thing becomes the same thing again.

use serde_json::json;

use crate::support::files::{assert_same_rows, postgres_dump, sqlite_dump};
use crate::support::migrate::{
    Scratch, ask, event, fill, id, import, json_of, postgres, records, session, words,
};
use crate::support::program::Program;

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const TUTORIAL: &[&str] = &["sqlite-seed.sql"];
/// What the two ends of the tutorial need of each other.
const TUTORIAL_OPTIONS: &[&str] = &["--on-missing-column=fold", "--on-unrepresentable=preserve"];

/// Sessions and events with integers as ids, in the tutorial's SQLite layout.
fn numbered(first: i64, project: &str) -> String {
    (first..first + 3)
        .map(|n| {
            format!(
                "INSERT INTO chronicle_sessions VALUES ({n}, '{project}', 'main', \
                   '2025-08-19T10:00:00Z', NULL, 'active', 1, '2025-08-19 10:00:00', '2025-08-19 10:00:01'); \
                 INSERT INTO chronicle_events VALUES ({}, {n}, 'prompt', '2025-08-19T10:00:0{}Z', \
                   '{{\"of\": \"{project}\"}}', '2025-08-19 10:00:00');",
                n + 100,
                n % 10
            )
        })
        .collect()
}

#[test]
fn integers_become_uuids_and_the_same_integers_again() {
    let desk = Scratch::new("integers_and_back");
    let source = desk.sqlite("source.db", TUTORIAL, &numbered(7, "/tea"));
    let server = postgres("postgres-seed.sql", "integers_and_back", "");
    desk.shift(&source, &server.url(), TUTORIAL_OPTIONS).success();
    let origins = "SELECT s.original_sqlite_id, e.original_sqlite_id FROM chronicle_sessions s \
                   JOIN chronicle_events e ON e.session_id = s.id ORDER BY 1";
    assert_eq!(server.psql(origins), "7|107\n8|108\n9|109");
    assert_eq!(
        server.psql("SELECT count(*) FROM chronicle_sessions WHERE id::text ~ '-5...-'"),
        "3"
    );
    let back = desk.sqlite("back.db", TUTORIAL, "");
    desk.shift(&server.url(), &back, TUTORIAL_OPTIONS).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn an_integer_that_is_taken_gives_way_and_what_refers_to_it_follows() {
    let desk = Scratch::new("taken_integer");
    let source = desk.sqlite("source.db", TUTORIAL, &numbered(1, "/tea"));
    let server = postgres("postgres-seed.sql", "taken_integer", "");
    desk.shift(&source, &server.url(), TUTORIAL_OPTIONS).success();
    let other = desk.sqlite("other.db", TUTORIAL, &numbered(3, "/coffee"));
    let archive = desk.export(&server.url());
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
    let desk = Scratch::new("uuids_and_back");
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
        let file = desk.sqlite(&format!("{name}.db"), TUTORIAL, sql);
        desk.shift(&server.url(), &file, TUTORIAL_OPTIONS).success();
        assert_eq!(ask(&file, "SELECT id FROM chronicle_sessions"), "1\n2\n3");
        if name == "origin" {
            let kept = "SELECT original_supabase_id FROM chronicle_sessions ORDER BY id";
            assert_eq!(ask(&file, kept), [id(1), id(2), id(3)].join("\n"));
        }
        let back = postgres("postgres-seed.sql", &format!("uuids_and_back_{name}"), "");
        desk.shift(&file, &back.url(), TUTORIAL_OPTIONS).success();
        // where they have been meanwhile is told, too
        let between = "SELECT original_sqlite_id FROM chronicle_sessions ORDER BY id";
        assert_eq!(back.psql(between), "1\n2\n3");
        for table in ["chronicle_sessions", "chronicle_events"] {
            back.psql(&format!("UPDATE {table} SET original_sqlite_id = NULL"));
        }
        assert_same_rows(&postgres_dump(&server), &postgres_dump(&back));
    }
}

#[test]
fn importing_twice_is_importing_once_from_every_kind_of_id_to_every_other() {
    let desk = Scratch::new("twice_everywhere");
    let numbered = desk.sqlite("numbered.db", TUTORIAL, &numbered(1, "/tea"));
    let odd = session(1).replace(&id(1), "not a uuid")
        + &event(11, 1, "prompt").replace(&id(1), "not a uuid");
    let named = desk.sqlite("named.db", HOOKS, &odd);
    let options = [TUTORIAL_OPTIONS, &["--event-types=upstream"]].concat();
    for (source, layout, options) in [
        (&numbered, "postgres-seed.sql", TUTORIAL_OPTIONS),
        (&numbered, "postgres-upstream.sql", &options),
        (&named, "postgres-upstream.sql", &options),
        (&named, "postgres-seed.sql", TUTORIAL_OPTIONS),
    ] {
        let server = postgres(layout, "twice_everywhere", "");
        let archive = desk.export(source);
        import(&archive, &server.url(), options).success();
        let (rows, kept) =
            (postgres_dump(&server), server.psql("SELECT * FROM chronicle_dump.sidecar"));
        assert!(!rows.is_empty());
        // another export of the same database is the same database
        for archive in [archive, desk.export(source)] {
            let again = import(&archive, &server.url(), &[options, &["--json"]].concat()).success();
            for stream in json_of(&again)["streams"].as_array().expect("streams") {
                assert_eq!(stream["inserted_rows"], 0, "{layout}: {stream}");
            }
        }
        assert_same_rows(&rows, &postgres_dump(&server));
        assert_eq!(kept, server.psql("SELECT * FROM chronicle_dump.sidecar"));
        for fixtures in [HOOKS, TUTORIAL] {
            let file = desk.sqlite(&format!("{}.db", server.name()), fixtures, "");
            let archive = desk.export(&server.url());
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
    let desk = Scratch::new("two_instances");
    let one = desk.sqlite("one.db", TUTORIAL, &numbered(1, "/tea"));
    let other = desk.sqlite("other.db", TUTORIAL, &numbered(1, "/coffee"));
    let server = postgres("postgres-seed.sql", "two_instances", "");
    for file in [&one, &other] {
        desk.shift(file, &server.url(), TUTORIAL_OPTIONS).success();
    }
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "6");
    let strangers = "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s \
                     ON s.id = e.session_id WHERE e.data ->> 'of' <> s.project_path";
    assert_eq!(server.psql(strangers), "0");

    // a file that was moved is told to be the one it was
    let archive = desk.export(&one);
    let instance = inspected(&archive)["instance"].as_str().expect("an instance").to_owned();
    let moved = words(&desk.path("moved.db")).to_owned();
    std::fs::rename(&one, &moved).expect("move the file");
    let archive = desk.export(&moved);
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
fn an_archive_names_its_database_unless_it_shall_be_reproducible() {
    let desk = Scratch::new("instance");
    let file = desk.sqlite("source.db", HOOKS, &session(1));
    let server = postgres("postgres-upstream.sql", "instance", "");
    let second = postgres("postgres-upstream.sql", "instance", "");
    let schema = "CREATE SCHEMA other; ALTER TABLE chronicle_sessions SET SCHEMA other; \
                  ALTER TABLE chronicle_events SET SCHEMA other;";
    let mut seen = Vec::new();
    for from in [&file, &server.url(), &second.url()] {
        let (archive, again) = (desk.export(from), desk.export(from));
        let instance = inspected(&archive)["instance"].as_str().expect("an instance").to_owned();
        assert_eq!(inspected(&again)["instance"], json!(instance));
        Program::new(["inspect", words(&archive)]).run().success().stdout_has(&instance);
        assert!(!seen.contains(&instance), "two databases of one name");
        seen.push(instance);
        let plain = desk.path("plain.ndjson.zst");
        Program::new(["export", "--reproducible", from, "-o", words(&plain)]).run().success();
        assert_eq!(inspected(&plain).get("instance"), None);
    }
    second.psql(schema);
    let moved = desk.export(&second.url());
    assert!(!seen.contains(&inspected(&moved)["instance"].as_str().expect("one").to_owned()));
    // the same file by another way
    let link = desk.path("link.db");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    assert_eq!(inspected(&desk.export(words(&link)))["instance"], json!(seen[0]));
}

#[test]
fn a_uuid_is_the_same_in_every_spelling_and_what_refers_to_it_finds_it() {
    let desk = Scratch::new("uuid_spellings");
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
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let server = postgres("postgres-upstream.sql", "uuid_spellings", "");
    desk.shift(
        &source,
        &server.url(),
        &["--on-missing-column=fold", "--on-unrepresentable=preserve"],
    )
    .success();
    let found = "SELECT s.id FROM chronicle_sessions s JOIN chronicle_events e ON e.session_id = s.id ORDER BY 1";
    assert_eq!(server.psql(found), [0, 1, 2, 3, 4].map(plain).join("\n"));
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&server.url(), &back, &[]).success();
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
fn two_spellings_of_one_uuid_are_refused_by_name_and_check_says_what_settles_it() {
    let desk = Scratch::new("uuid_clash");
    let archive = desk.export(&desk.sqlite("source.db", HOOKS, &spelled_twice()));
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
            .stderr_has("--on-unrepresentable=adapt loads");
        assert_same_rows(&rows, &postgres_dump(&server));
        let checked =
            Program::new(["check", words(&archive), "--to", &server.url(), "--json"]).run();
        let problem = json_of(&checked.fails_with(10))["problems"][0].clone();
        assert_eq!(problem["remedy"], "--on-unrepresentable=adapt, =preserve or =reject");
        assert_eq!(problem["reason"], "another row has this UUID already, in another spelling");
    }
}

#[test]
fn two_spellings_of_one_uuid_are_two_rows_and_what_refers_to_each_follows() {
    let desk = Scratch::new("uuid_spelled_twice");
    let source = desk.sqlite("source.db", HOOKS, &spelled_twice());
    let archive = desk.export(&source);
    for option in ["--on-unrepresentable=adapt", "--on-unrepresentable=preserve"] {
        let server = postgres("postgres-upstream.sql", "uuid_spelled_twice", "");
        let (to, options) = (server.url(), ["--on-missing-column=fold", option]);
        let args = [&["check", words(&archive), "--to", &to], &options[..]].concat();
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
            let back = desk.sqlite("back.db", HOOKS, "");
            desk.shift(&to, &back, &[]).success();
            assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
        }
    }
    let server = postgres("postgres-upstream.sql", "uuid_spelled_twice", "");
    let rejects = desk.path("rejects.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options).fails_with(14).stderr_has("in another spelling");
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_events"), "1");
    assert_eq!([records(&rejects, "sessions").len(), records(&rejects, "events").len()], [1, 1]);
}

#[test]
fn a_spelling_that_is_kept_beside_a_row_keeps_others_from_its_uuid() {
    let desk = Scratch::new("uuid_kept_spelling");
    let plain = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let one = |name: &str, n: u32, spelled: &str| {
        let sql = session(n) + &event(20 + n, n, "stop");
        desk.export(&desk.sqlite(name, HOOKS, &sql.replace(&id(n), spelled)))
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
    let desk = Scratch::new("odd_ids");
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
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let server = postgres("postgres-upstream.sql", "odd_ids", "");
    let archive = desk.export(&source);
    let options = ["--on-missing-column=fold", "--on-unrepresentable=preserve"];
    import(&archive, &server.url(), &options).success().stderr_has("is no UUID");
    let joined = "SELECT count(*), count(DISTINCT s.id), count(DISTINCT e.id) FROM chronicle_events e \
                  JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(server.psql(joined), "11|8|11");
    let before = postgres_dump(&server);
    import(&archive, &server.url(), &options).success();
    assert_same_rows(&before, &postgres_dump(&server));
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&server.url(), &back, &[]).success();
    // and the UUIDs that were made stay those that they were
    let second = postgres("postgres-upstream.sql", "odd_ids", "");
    let kept = desk.sqlite("kept.db", HOOKS, "");
    desk.shift(&server.url(), &kept, &options).success();
    desk.shift(&kept, &second.url(), &options).success();
    let ids =
        "SELECT id FROM chronicle_sessions UNION ALL SELECT id FROM chronicle_events ORDER BY id";
    let (first, then) = (server.psql(ids), second.psql(ids));
    let lost: Vec<&str> = first.lines().filter(|id| !then.contains(id)).collect();
    // but for those of rows that had none again meanwhile
    assert_eq!((first.lines().count(), lost.len()), (19, 3), "{lost:?}");
    let again = desk.sqlite("again.db", HOOKS, "");
    desk.shift(&second.url(), &again, &options).success();
    assert_same_rows(&sqlite_dump(kept.as_ref()), &sqlite_dump(again.as_ref()));
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn a_row_without_an_id_has_none_again_and_is_itself_wherever_it_needs_one() {
    let desk = Scratch::new("keyless");
    let mut sql = session(1) + &session(2).replace(&format!("'{}'", id(2)), "NULL");
    // two that are equal in everything, and one whose time is no instant by itself
    for number in [50, 50, 51] {
        sql += &event(number, 1, "stop").replace(&format!("'{}'", id(number)), "NULL");
    }
    sql += "UPDATE events SET timestamp = '2025-08-19T10:00:51' WHERE timestamp LIKE '%51Z'";
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let options =
        ["--on-missing-column=fold", "--on-unrepresentable=preserve", "--assume-tz=Europe/Berlin"];
    let [first, second] = ["1", "2"].map(|_| postgres("postgres-upstream.sql", "keyless", ""));
    desk.shift(&source, &first.url(), &options).success();
    let archive = desk.export(&first.url());
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
        let back = desk.sqlite("back.db", HOOKS, "");
        let archive = desk.export(&server.url());
        for _ in 0..2 {
            import(&archive, &back, &["--on-missing-column=add"]).success();
            assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
        }
        std::fs::remove_file(&back).expect("remove the file");
    }
    // who preserves nothing has the ids for ever
    let plain = postgres("postgres-upstream.sql", "keyless", "");
    desk.shift(&source, &plain.url(), &options[2..]).success();
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&plain.url(), &back, &[]).success();
    assert_eq!(ask(&back, "SELECT count(*) FROM events WHERE id IS NULL"), "0");
}

/// One event of every type that Chronicle ever wrote, with the hook it came from.
const TYPES: [(&str, &str, &str); 14] = [
    ("tool_use", "PreToolUse", "pre_tool_use"),
    ("tool_use", "PostToolUse", "post_tool_use"),
    ("tool_use", "", "post_tool_use"),
    ("prompt", "UserPromptSubmit", "user_prompt_submit"),
    ("session_end", "Stop", "stop"),
    ("notification", "PreCompact", "pre_compact"),
    ("notification", "SubagentStop", "subagent_stop"),
    ("notification", "PreToolUse", "pre_tool_use"),
    ("notification", "Notification", "notification"),
    ("subagent_termination", "SubagentStop", "subagent_stop"),
    ("pre_compaction", "PreCompact", "pre_compact"),
    ("session_start", "SessionStart", "session_start"),
    ("error", "", "error"),
    ("stop", "Stop", "stop"),
];

fn typed() -> String {
    let mut sql = session(1);
    for (n, (old, hook, _)) in TYPES.iter().enumerate() {
        let n = n as u32 + 10;
        let named = format!("{{\"hook_event_name\": \"{hook}\"}}");
        let data = if hook.is_empty() { "{}" } else { &named };
        sql += &event(n, 1, old).replace(&format!("{{\"n\": {n}}}"), data);
    }
    sql
}

#[test]
fn old_types_of_events_become_those_of_today_by_chronicles_own_rule() {
    let desk = Scratch::new("event_types");
    let source = desk.sqlite("source.db", HOOKS, &typed());
    let archive = desk.export(&source);
    let server = postgres("postgres-upstream.sql", "event_types", "");
    import(&archive, &server.url(), &[])
        .fails_with(10)
        .stderr_has("event_type")
        .stderr_has("--event-types=upstream");
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
    import(&archive, &server.url(), &["--event-types=upstream", "--on-unrepresentable=preserve"])
        .success()
        .stderr_has("tool_use is pre_tool_use today");
    let types = "SELECT event_type FROM chronicle_events ORDER BY id";
    assert_eq!(server.psql(types), TYPES.map(|(_, _, new)| new).join("\n"));
    // they were kept
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&server.url(), &back, &[]).success();
    let types = "SELECT event_type FROM events ORDER BY id";
    assert_eq!(ask(&back, types), TYPES.map(|(old, ..)| old).join("\n"));

    // a file takes any type as it is, and maps it if asked
    let kept = desk.sqlite("kept.db", HOOKS, "");
    import(&archive, &kept, &[]).success();
    assert_eq!(ask(&kept, types), TYPES.map(|(old, ..)| old).join("\n"));
    let mapped = desk.sqlite("mapped.db", HOOKS, "");
    import(&archive, &mapped, &["--event-types=upstream"]).success();
    assert_eq!(ask(&mapped, types), TYPES.map(|(_, _, new)| new).join("\n"));
}

#[test]
fn a_type_that_the_target_refuses_is_found_before_anything_is_loaded() {
    let desk = Scratch::new("unknown_type");
    let sql = session(1) + &event(11, 1, "stop") + &event(12, 1, "dreamt");
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
    let strict = "CREATE TABLE events_strict AS SELECT 1; DROP TABLE events; CREATE TABLE events (id TEXT PRIMARY KEY, \
        session_id TEXT, event_type TEXT NOT NULL CHECK (event_type IN ('stop', 'notification')), timestamp TEXT, data TEXT, \
        tool_name TEXT, duration_ms INTEGER, created_at TEXT)";
    let server = postgres("postgres-upstream.sql", "unknown_type", "");
    let file = desk.sqlite("strict.db", HOOKS, strict);
    for to in [server.url(), file.clone()] {
        import(&archive, &to, &[])
            .fails_with(10)
            .stderr_has("\"dreamt\" is none of what the target allows")
            .stderr_has(&id(12));
        Program::new(["check", words(&archive), "--to", &to])
            .run()
            .fails_with(10)
            .stdout_has("dreamt");
        import(&archive, &to, &["--on-unrepresentable=preserve"]).success();
    }
    let types = "SELECT event_type FROM chronicle_events ORDER BY id";
    assert_eq!(server.psql(types), "stop\nnotification");
    for from in [server.url(), file] {
        let records = records(&desk.export(&from), "events");
        let types: Vec<_> = records.iter().map(|r| &r["event_type"]).collect();
        assert_eq!(types, ["stop", "dreamt"], "{from}");
    }
}

/// One good event, two of a session that is nowhere, one of another, one without any.
fn orphaned() -> String {
    session(1)
        + &event(11, 1, "stop")
        + &event(12, 8, "stop")
        + &event(13, 8, "stop")
        + &event(14, 9, "stop")
}

#[test]
fn orphans_stop_an_import_or_are_kept_left_out_or_adopted_as_told() {
    let desk = Scratch::new("orphans");
    let source = desk.sqlite("source.db", HOOKS, &orphaned());
    let archive = desk.export(&source);
    let hooks = || desk.sqlite("target.db", HOOKS, "");
    let counts = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM events)";
    let counts_there =
        "SELECT (SELECT count(*) FROM chronicle_sessions), (SELECT count(*) FROM chronicle_events)";
    let loose = "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey";
    for (option, enforced, expected) in [
        ("--orphans=fail", false, None),
        ("--orphans=keep", false, Some(("1|4", 4, 0, 0))),
        ("--orphans=skip", false, Some(("1|1", 1, 3, 0))),
        ("--orphans=adopt", false, Some(("3|4", 4, 0, 2))),
        ("--orphans=fail", true, None),
        ("--orphans=keep", true, None),
        ("--orphans=skip", true, Some(("1|1", 1, 3, 0))),
        ("--orphans=adopt", true, Some(("3|4", 4, 0, 2))),
    ] {
        let file = hooks();
        let server =
            postgres("postgres-upstream.sql", "orphans", if enforced { "" } else { loose });
        for (to, counted) in [(&server.url(), true), (&file, false)] {
            if enforced && !counted {
                continue;
            }
            let said = format!("{option} into {to}");
            let done = import(&archive, to, &[option, "--json"]);
            let Some((rows, inserted, skipped, adopted)) = expected else {
                done.fails_with(12).stderr_has(&id(12)).stderr_has("hint: ");
                continue;
            };
            let done = json_of(&done.success());
            let events = &done["streams"][1];
            assert_eq!(events["inserted_rows"], inserted, "{said}: {events}");
            assert_eq!(events["orphans_skipped"], skipped, "{said}: {events}");
            assert_eq!(events["adopted_rows"], adopted, "{said}: {events}");
            assert_eq!(done["orphans"][0]["rows"], 3, "{said}: {done}");
            let found = if counted { server.psql(counts_there) } else { ask(&file, counts) };
            assert_eq!(found, rows, "{said}");
            // and once more
            let again = json_of(&import(&archive, to, &[option, "--json"]).success());
            assert_eq!(again["streams"][1]["inserted_rows"], 0, "{said}: {again}");
            let found = if counted { server.psql(counts_there) } else { ask(&file, counts) };
            assert_eq!(found, rows, "{said}, twice");
        }
        std::fs::remove_file(&file).expect("remove the file");
    }
}

#[test]
fn an_adopted_session_starts_with_its_first_event() {
    let desk = Scratch::new("adopted");
    let source = desk.sqlite("source.db", HOOKS, &orphaned());
    let archive = desk.export(&source);
    let server = postgres("postgres-upstream.sql", "adopted", "");
    import(&archive, &server.url(), &["--orphans=adopt"])
        .success()
        .stderr_has("sessions made for them");
    let made = format!(
        "SELECT claude_session_id, to_char(start_time AT TIME ZONE 'UTC', 'HH24:MI:SS') \
           FROM chronicle_sessions WHERE id = '{}'",
        id(8)
    );
    assert_eq!(server.psql(&made), format!("{}|10:00:12", id(8)));
    let file = desk.sqlite("target.db", HOOKS, "");
    import(&archive, &file, &["--orphans=adopt"]).success();
    let made = format!("SELECT start_time FROM sessions WHERE id = '{}'", id(8));
    assert_eq!(ask(&file, &made), "2025-08-19T10:00:12Z");
}

#[test]
fn an_event_that_names_no_session_is_no_orphan() {
    let desk = Scratch::new("null_reference");
    let loose = "DROP TABLE events; CREATE TABLE events (id TEXT PRIMARY KEY, session_id TEXT, \
                 event_type TEXT, timestamp TEXT, data TEXT);";
    let sql = loose.to_owned()
        + &session(1)
        + &format!(
            "INSERT INTO events VALUES ('{}', NULL, 'stop', '2025-08-19T10:00:00Z', '{{}}');",
            id(11)
        );
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
    for option in ["--orphans=fail", "--orphans=skip", "--orphans=adopt"] {
        let file = desk.sqlite("target.db", HOOKS, loose);
        let server = postgres("postgres-upstream.sql", "null_reference", "");
        for to in [&file, &server.url()] {
            let done = json_of(&import(&archive, to, &[option, "--json"]).success());
            assert_eq!(done["orphans"], json!([]), "{option} into {to}");
            assert_eq!(done["streams"][1]["inserted_rows"], 1, "{option} into {to}");
        }
        std::fs::remove_file(&file).expect("remove the file");
    }
}

#[test]
fn children_of_rejected_sessions_are_rejected_too_and_orphans_are_not() {
    let desk = Scratch::new("rejected_parent");
    let mut sql = orphaned() + &session(2) + &event(15, 2, "stop");
    sql += &format!("UPDATE sessions SET start_time = 'never' WHERE id = '{}'", id(2));
    let source = desk.sqlite("source.db", HOOKS, &sql);
    let archive = desk.export(&source);
    let server = postgres("postgres-upstream.sql", "rejected_parent", "");
    let rejects = desk.path("rejects.ndjson.zst");
    let options =
        ["--on-unrepresentable=reject", "--rejects", words(&rejects), "--orphans=skip", "--json"];
    let done = json_of(&import(&archive, &server.url(), &options).fails_with(14));
    assert_eq!(done["streams"][0]["inserted_rows"], 1);
    assert_eq!(done["streams"][1]["inserted_rows"], 1);
    assert_eq!(done["streams"][1]["orphans_skipped"], 3);
    let (sessions, events) = (records(&rejects, "sessions"), records(&rejects, "events"));
    assert_eq!([sessions.len(), events.len()], [1, 1]);
    assert_eq!([&sessions[0]["id"], &events[0]["id"]], [&json!(id(2)), &json!(id(15))]);
    // mended, they are imported like any archive
    fill(&source, "");
    let file = desk.sqlite("mended.db", HOOKS, "");
    import(&rejects, &file, &[]).success();
    fill(&file, "UPDATE sessions SET start_time = '2025-08-19T10:00:00Z'");
    desk.shift(&file, &server.url(), &[]).success();
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_events"), "2");
}

#[test]
fn only_the_orphans_leave_a_file_that_held_rows_before() {
    let desk = Scratch::new("orphans_among_others");
    let keyed = "DROP TABLE events; CREATE TABLE events (id TEXT PRIMARY KEY, session_id TEXT, event_type TEXT, \
                 timestamp TEXT, data TEXT, tool_name TEXT, duration_ms INTEGER, created_at TEXT) WITHOUT ROWID;";
    let before: String = (30..40).map(|n| event(n, 1, "stop")).collect();
    let archive = desk.export(&desk.sqlite("source.db", HOOKS, &orphaned()));
    for (name, ddl) in [("rowids", ""), ("keys", keyed)] {
        let sql = ddl.to_owned() + &session(1) + &before;
        let file = desk.sqlite(&format!("{name}.db"), HOOKS, &sql);
        let done = json_of(&import(&archive, &file, &["--orphans=skip", "--json"]).success());
        assert_eq!(done["streams"][1]["orphans_skipped"], 3, "{name}");
        let expected: Vec<String> = [11].into_iter().chain(30..40).map(id).collect();
        assert_eq!(ask(&file, "SELECT id FROM events ORDER BY id"), expected.join("\n"), "{name}");
    }
}

#[test]
fn one_former_id_goes_back_to_one_row_only() {
    let desk = Scratch::new("one_former_id");
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
    let hooks = desk.sqlite("hooks.db", HOOKS, "");
    desk.shift(&server.url(), &hooks, &["--on-missing-column=drop"]).success();
    assert_eq!(ask(&hooks, "SELECT id FROM sessions ORDER BY id"), format!("{}\n1", id(2)));
}

#[test]
fn the_largest_integer_is_an_id_like_any_other() {
    let desk = Scratch::new("largest_integer");
    let odd = session(1).replace(&id(1), "9223372036854775807")
        + &session(2).replace(&id(2), "x")
        + &session(3).replace(&id(3), "y");
    let source = desk.sqlite("source.db", HOOKS, &odd);
    let target = desk.sqlite("target.db", TUTORIAL, "");
    desk.shift(&source, &target, TUTORIAL_OPTIONS).success();
    let ids = "SELECT id FROM chronicle_sessions ORDER BY id";
    assert_eq!(ask(&target, ids), "1\n2\n9223372036854775807");
}

#[test]
fn texts_become_integers_once_and_the_same_texts_again() {
    let desk = Scratch::new("texts_and_back");
    let source = desk.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "prompt")));
    let target = desk.sqlite("target.db", TUTORIAL, "");
    let archive = desk.export(&source);
    for _ in 0..2 {
        import(&archive, &target, TUTORIAL_OPTIONS).success();
        assert_eq!(ask(&target, "SELECT count(*) FROM chronicle_sessions"), "1");
    }
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&target, &back, &["--on-missing-column=drop"]).success();
    assert_eq!(ask(&back, "SELECT id FROM sessions"), id(1));
    assert_eq!(ask(&back, "SELECT session_id FROM events"), id(1));
}

#[test]
fn a_former_id_that_fits_nowhere_is_kept() {
    let desk = Scratch::new("former_kept");
    let with_origin = numbered(1, "/tea")
        + "ALTER TABLE chronicle_sessions ADD COLUMN original_supabase_id TEXT;"
        + "UPDATE chronicle_sessions SET original_supabase_id = 'no uuid';";
    let source = desk.sqlite("source.db", TUTORIAL, &with_origin);
    let server = postgres("postgres-upstream.sql", "former_kept", "");
    let options = [TUTORIAL_OPTIONS, &["--event-types=upstream"]].concat();
    desk.shift(&source, &server.url(), &options).success();
    let kept = "SELECT count(*) FROM chronicle_dump.sidecar WHERE entry LIKE '%no uuid%'";
    assert_eq!(server.psql(kept), "3");
}

#[test]
fn equal_integers_of_two_databases_meet_nowhere_not_even_in_what_is_made_of_them() {
    let desk = Scratch::new("two_machines");
    let server = postgres("postgres-upstream.sql", "two_machines", "");
    let options = [TUTORIAL_OPTIONS, &["--event-types=upstream"]].concat();
    for name in ["one.db", "two.db"] {
        let source = desk.sqlite(name, TUTORIAL, &numbered(1, "/tea"));
        desk.shift(&source, &server.url(), &options).success();
    }
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "6");
}

#[test]
fn numbers_that_a_server_gave_are_given_once() {
    let desk = Scratch::new("numbers_once");
    let source = desk.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "prompt")));
    // the tutorial's tables with numbers for ids, and no column for those of before
    let server = postgres("postgres-upstream.sql", "numbers_once", NUMBERED_SERVER);
    let archive = desk.export(&source);
    for _ in 0..2 {
        import(&archive, &server.url(), TUTORIAL_OPTIONS).success();
        assert_eq!(server.psql("SELECT id FROM chronicle_sessions"), "1");
        assert_eq!(server.psql("SELECT id, session_id FROM chronicle_events"), "1|1");
    }
}

/// Chronicle's hooks and local server in one file.
const BOTH: &[&str] = &["sqlite-hooks.sql", "sqlite-server.sql"];
/// What such a file needs of a server.
const KEEPING: &[&str] = &["--on-missing-column=fold", "--on-unrepresentable=preserve"];

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
    let desk = Scratch::new("redundant_rows");
    // without a metadata and with an empty one, with a count and without
    let source = desk.sqlite("source.db", BOTH, &in_both("{\"n\": 11}"));
    let archive = desk.export(&source);
    let (hooks, server) = (
        desk.sqlite("hooks.db", HOOKS, ""),
        postgres("postgres-upstream.sql", "redundant_rows", ""),
    );
    for to in [hooks, server.url()] {
        for inserted in [1, 0] {
            Program::new(["check", words(&archive), "--to", &to]).run().success();
            let done = json_of(&import(&archive, &to, &["--json"]).success());
            for stream in 0..2 {
                let (first, second) = (&done["streams"][stream], &done["streams"][stream + 2]);
                assert_eq!(first["inserted_rows"], inserted, "{done:#}");
                assert_eq!([&second["inserted_rows"], &second["skipped_rows"]], [0, 1], "{done:#}");
            }
        }
        Program::new(["verify", words(&archive), "--against", &to]).run().success();
        assert_eq!(records(&desk.export(&to), "events").len(), 1);
    }
}

#[test]
fn a_second_copy_that_says_more_is_refused_by_name_kept_or_dropped() {
    let desk = Scratch::new("second_copy");
    let sql = in_both("{\"of\": \"the server\"}") + &of_the_server(2, 12, "{}");
    let source = desk.sqlite("source.db", BOTH, &sql);
    let archive = desk.export(&source);
    let kept = records(&archive, "server_events");
    let hooks = || {
        drop(std::fs::remove_file(desk.path("hooks.db")));
        desk.sqlite("hooks.db", HOOKS, "")
    };
    let server = || postgres("postgres-upstream.sql", "second_copy", "");
    for there in [None, Some(server())] {
        let to = || there.as_ref().map_or_else(&hooks, |server| server.url());
        let target = to();
        let reason = "events has a row with this id";
        import(&archive, &target, &[])
            .fails_with(11)
            .stderr_has(&format!("(key {}), column \"data\": {reason}", id(11)))
            .stderr_has("--on-missing-column=fold");
        let checked = Program::new(["check", words(&archive), "--to", &target, "--json"]).run();
        let problem = json_of(&checked.fails_with(11))["problems"][0].clone();
        assert_eq!([&problem["code"], &problem["column"]], ["row.conflict", "data"]);
        assert_eq!(problem["remedy"], "--on-missing-column=fold, =add or =drop");
        assert_eq!(problem["first"], json!([id(11)]));

        let dropped = ["--on-missing-column=drop", "--dry-run", "--json"];
        let done = json_of(&import(&archive, &target, &dropped).success());
        let lost: Vec<_> = (done["changes"].as_array().expect("changes").iter())
            .filter(|c| c["column"] == "*")
            .map(|c| {
                (c["stream"].clone(), c["what"].clone(), c["values"].clone(), c["first"].clone())
            })
            .collect();
        let one = |stream: &str, n| (json!(stream), json!("dropped"), json!(1), json!(id(n)));
        assert_eq!(lost, [one("server_sessions", 1), one("server_events", 11)]);

        for inserted in [1, 0] {
            let args = [&["check", words(&archive), "--to", &target], KEEPING].concat();
            Program::new(args).run().success();
            let done =
                json_of(&import(&archive, &target, &[KEEPING, &["--json"]].concat()).success());
            let rows = |n: usize| done["streams"][n]["inserted_rows"].clone();
            assert_eq!(
                [rows(0), rows(1), rows(2), rows(3)],
                [1, 1, 2, 2].map(|n| json!(n * inserted))
            );
        }
        let args = [&["verify", words(&archive), "--against", &target], KEEPING].concat();
        Program::new(args).run().success();
        let back = desk.export(&target);
        let (sessions, events) = (records(&back, "sessions"), records(&back, "events"));
        assert_eq!([sessions.len(), events.len()], [1, 1]);
        assert_eq!(events[0]["session_id"], sessions[0]["id"]);
        let (parents, again) = (records(&back, "server_sessions"), records(&back, "server_events"));
        assert_eq!(again, kept, "to the letter");
        assert!(again.iter().all(|e| parents.iter().any(|s| s["id"] == e["session_id"])));
    }
}

#[test]
fn the_hooks_and_the_server_in_one_file_come_back_each_to_its_own_tables() {
    let desk = Scratch::new("own_tables");
    // a session and an event of both, and others that the server alone has
    let alone = of_the_server(2, 12, "{ \"of\": \"nobody else\" }");
    let rows = in_both("{ \"of\": \"the server\" }") + &alone;
    let source = desk.sqlite("source.db", BOTH, &rows);
    let server = postgres("postgres-upstream.sql", "own_tables", "");
    for to in [desk.sqlite("hooks.db", HOOKS, ""), server.url()] {
        for _ in 0..2 {
            desk.shift(&source, &to, KEEPING).success();
        }
        let back = desk.sqlite("back.db", BOTH, "");
        desk.shift(&to, &back, &[]).success();
        assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
        // by way of a third one, too
        let other = desk.sqlite("other.db", HOOKS, "");
        desk.shift(&to, &other, KEEPING).success();
        let last = desk.sqlite("last.db", BOTH, "");
        desk.shift(&other, &last, &[]).success();
        assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(last.as_ref()));
        for file in [back, other, last] {
            std::fs::remove_file(file).expect("remove the file");
        }
    }
    // all can be seen where there is one pair of tables, and what somebody writes there stays
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "2");
    server.psql("UPDATE chronicle_sessions SET git_branch = 'mine' WHERE id::text LIKE '%2'");
    let edited = desk.sqlite("edited.db", BOTH, "");
    desk.shift(&server.url(), &edited, KEEPING).success();
    assert_eq!(ask(&edited, "SELECT count(*) FROM sessions WHERE git_branch = 'mine'"), "1");
}

#[test]
fn the_second_copy_of_a_rejected_row_is_loaded_in_its_place() {
    let desk = Scratch::new("rejected_first");
    let sql = in_both("{\"n\": 11}")
        + &format!("UPDATE sessions SET start_time = 'never' WHERE id = '{}'", id(1));
    let archive = desk.export(&desk.sqlite("source.db", BOTH, &sql));
    let server = postgres("postgres-upstream.sql", "rejected_first", "");
    let rejects = desk.path("rejects.ndjson.zst");
    let options = ["--on-unrepresentable=reject", "--rejects", words(&rejects)];
    import(&archive, &server.url(), &options).fails_with(14);
    let joined =
        "SELECT e.id FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(server.psql(joined), id(11));
    assert_eq!([records(&rejects, "sessions").len(), records(&rejects, "events").len()], [1, 1]);
}

#[test]
fn numbers_in_use_are_known_however_many_there_are() {
    let desk = Scratch::new("many_numbers");
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) \
                INSERT INTO chronicle_sessions SELECT n, '/tea', 'main', '2025-08-19T10:00:00Z', NULL, \
                'active', 1, '2025-08-19 10:00:00', '2025-08-19 10:00:01' FROM n";
    let target = desk.sqlite("target.db", TUTORIAL, many);
    let archive = desk.export(&desk.sqlite("source.db", HOOKS, &session(1)));
    for _ in 0..2 {
        import(&archive, &target, TUTORIAL_OPTIONS).success();
        let found = "SELECT count(*), max(id) FROM chronicle_sessions";
        assert_eq!(ask(&target, found), "20001|20001");
    }
}

/// The tutorial's tables with numbers for ids, and no column for those of before, in Postgres.
const NUMBERED_SERVER: &str = "DROP TABLE chronicle_events, chronicle_sessions CASCADE; \
    CREATE TABLE chronicle_sessions (id bigint PRIMARY KEY, project_path text, \
        start_time timestamptz, status text); \
    CREATE TABLE chronicle_events (id bigint PRIMARY KEY, session_id bigint, type text, \
        timestamp timestamptz, data jsonb)";

/// A database, and how to ask it.
type Asked = (String, Box<dyn Fn(&str) -> String>);

/// A SQLite file and a server whose ids are numbers.
fn where_ids_are_numbers(desk: &Scratch, name: &str) -> [Asked; 2] {
    let file = desk.sqlite("numbers.db", TUTORIAL, "");
    let server = postgres("postgres-upstream.sql", name, NUMBERED_SERVER);
    let (asked, url) = (file.clone(), server.url());
    [
        (file, Box::new(move |query: &str| ask(&asked, query))),
        (url, Box::new(move |query: &str| server.psql(query))),
    ]
}

#[test]
fn the_number_of_a_session_that_is_not_there_is_given_to_no_other() {
    let desk = Scratch::new("dangling_numbers");
    let lost = session(1) + &event(11, 1, "prompt") + &event(12, 9, "prompt");
    let orphans = desk.export(&desk.sqlite("lost.db", HOOKS, &lost));
    let others =
        desk.export(&desk.sqlite("others.db", HOOKS, &(session(2) + &event(21, 2, "stop"))));
    let found = desk.export(&desk.sqlite("found.db", HOOKS, &(session(9) + &event(13, 9, "stop"))));
    let parents = "SELECT e.id, count(s.id), count(e.session_id) FROM chronicle_events e \
                   LEFT JOIN chronicle_sessions s ON s.id = e.session_id GROUP BY e.id ORDER BY e.id";
    let options = [TUTORIAL_OPTIONS, &["--orphans=keep"]].concat();
    for (to, query) in where_ids_are_numbers(&desk, "dangling_numbers") {
        for archive in [&orphans, &others, &orphans] {
            import(archive, &to, &options).success();
            import(archive, &to, &options).success();
        }
        assert_eq!(query(parents), "1|1|1\n2|0|1\n3|1|1", "{to}");
        // and when the session comes at last, its events are its own
        import(&found, &to, &options).success();
        assert_eq!(query(parents), "1|1|1\n2|1|1\n3|1|1\n4|1|1", "{to}");
    }
}

#[test]
fn a_session_made_for_its_events_is_made_once_where_ids_are_numbers() {
    let desk = Scratch::new("adopted_numbers");
    let lost = session(1) + &event(11, 1, "prompt") + &event(12, 9, "prompt");
    let archive = desk.export(&desk.sqlite("lost.db", HOOKS, &lost));
    let options = ["--on-missing-column=fold", "--orphans=adopt"];
    for (to, query) in where_ids_are_numbers(&desk, "adopted_numbers") {
        for _ in 0..2 {
            import(&archive, &to, &options).success();
            assert_eq!(query("SELECT count(*) FROM chronicle_sessions"), "2", "{to}");
            let parents = "SELECT id, session_id FROM chronicle_events ORDER BY id";
            assert_eq!(query(parents), "1|1\n2|2", "{to}");
        }
    }
}

#[test]
fn a_row_without_an_id_gets_its_number_once() {
    let desk = Scratch::new("nameless_numbers");
    let nameless = "INSERT INTO events (session_id, event_type, timestamp, data) VALUES \
        ('5e551011-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:00Z', '{}');";
    let rows = session(1) + &event(11, 1, "prompt") + nameless;
    let archive = desk.export(&desk.sqlite("nameless.db", HOOKS, &rows));
    for (to, query) in where_ids_are_numbers(&desk, "nameless_numbers") {
        for _ in 0..3 {
            import(&archive, &to, &["--on-missing-column=fold", "--orphans=keep"]).success();
            assert_eq!(query("SELECT count(*) FROM chronicle_events"), "2", "{to}");
        }
    }
}

#[test]
fn a_number_comes_back_into_the_file_that_it_is_of_as_the_row_that_it_is() {
    let desk = Scratch::new("numbers_home");
    let file = desk.sqlite("file.db", TUTORIAL, &numbered(1, "/tea"));
    let server = postgres("postgres-seed.sql", "numbers_home", "");
    desk.shift(&file, &server.url(), TUTORIAL_OPTIONS).success();
    // another machine's rows are there, too
    let other = desk.sqlite("other.db", TUTORIAL, &numbered(1, "/coffee"));
    desk.shift(&other, &server.url(), TUTORIAL_OPTIONS).success();
    for _ in 0..2 {
        desk.shift(&server.url(), &file, TUTORIAL_OPTIONS).success();
        let held = "SELECT project_path, count(*) FROM chronicle_sessions GROUP BY 1 ORDER BY 1";
        assert_eq!(ask(&file, held), "/coffee|3\n/tea|3");
        let first = "SELECT group_concat(id) FROM chronicle_sessions WHERE project_path = '/tea'";
        assert_eq!(ask(&file, first), "1,2,3");
    }
}

#[test]
fn the_dashboards_events_stay_with_their_sessions_both_ways() {
    let desk = Scratch::new("dashboard_sessions");
    let source = desk.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "stop")));
    let dashboard = postgres("../../schemas/ddl/postgres-dashboard.sql", "dashboard", "");
    let options = [TUTORIAL_OPTIONS, &["--assume-tz=UTC"]].concat();
    desk.shift(&source, &dashboard.url(), &options).success();
    dashboard.psql(
        "INSERT INTO chronicle_sessions (session_id, project_path) VALUES ('c', 'p'); \
         INSERT INTO chronicle_events (session_id, event_type, event_data) VALUES ('c', 'stop', '{}')",
    );
    let together = "SELECT count(*) FROM chronicle_events e \
                    JOIN chronicle_sessions s ON s.session_id = e.session_id";
    assert_eq!(dashboard.psql(together), "2");
    let back = desk.sqlite("back.db", HOOKS, "");
    desk.shift(&dashboard.url(), &back, &options).success();
    let together = "SELECT count(*) FROM events e JOIN sessions s ON s.id = e.session_id";
    assert_eq!(ask(&back, together), "2");
    let server = postgres("postgres-upstream.sql", "from_dashboard", "");
    desk.shift(&dashboard.url(), &server.url(), &options).success();
    let together =
        "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(server.psql(together), "2");
}
