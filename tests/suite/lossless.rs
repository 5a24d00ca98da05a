//! What an import does when nobody says more than the time zone: nothing is lost, and the report fits a screen.

use crate::support::files::{assert_same_rows, sqlite_dump};
use crate::support::generate::hooks_database;
use crate::support::migrate::{
    Scratch, event, fill, id, json_of, postgres, records, session, words,
};
use crate::support::program::{Output, Program};

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";
/// Every layout that Chronicle had in Postgres, by its file.
const LAYOUTS: [&str; 7] = [
    UPSTREAM,
    "../../schemas/ddl/postgres-first.sql",
    "../../schemas/ddl/postgres-migrated.sql",
    "../../schemas/ddl/postgres-team.sql",
    "../../schemas/ddl/postgres-setup.sql",
    "../../schemas/ddl/postgres-dashboard.sql",
    "../../schemas/ddl/postgres-supabase-guide.sql",
];

fn import(archive: &std::path::Path, to: &str, options: &[&str]) -> Output {
    Program::new(["import", words(archive), "--to", to].iter().chain(options)).run()
}

/// Moves a file into a Postgres layout and into a new file, and panics unless both files are equal.
#[track_caller]
fn there_and_back(scratch: &Scratch, source: &str, layout: &str, options: &[&str]) {
    let server = postgres(layout, "lossless", "");
    import(&scratch.export(source), &server.url(), options).success();
    let back = scratch.path("back.db");
    import(&scratch.export(&server.url()), words(&back), &["--create"]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(&back));
    std::fs::remove_file(&back).expect("remove the file");
}

#[test]
fn realistic_hooks_data_come_back_equal_from_every_layout() {
    let scratch = Scratch::new("lossless_real");
    let source = scratch.path("source.db");
    hooks_database(&source, 12, 160, 5).expect("a database");
    for layout in LAYOUTS {
        there_and_back(&scratch, words(&source), layout, &["--assume-tz", "America/Los_Angeles"]);
    }
}

#[test]
fn odd_values_and_columns_come_back_equal_without_an_option() {
    let scratch = Scratch::new("lossless_odd");
    let odd = "ALTER TABLE sessions ADD COLUMN git_commit TEXT;".to_owned()
        + &session(1)
        + &event(11, 1, "stop")
        + &event(12, 1, "prompt")
        + "UPDATE sessions SET git_commit = 'abc', updated_at = '2020-01-01 00:00:00'; \
           UPDATE events SET duration_ms = 99999999999, data = '{\"a\": \"\\u0000\", \"n\": 1E5}' \
            WHERE event_type = 'stop'; \
           UPDATE events SET timestamp = '2025-08-19T10:00:00.1234567Z' WHERE event_type = 'prompt';";
    let source = scratch.sqlite("source.db", HOOKS, &odd);
    let server = postgres(UPSTREAM, "lossless_odd", "");
    import(&scratch.export(&source), &server.url(), &[]).success().stderr_has("sidecar table");
    let back = scratch.sqlite("back.db", HOOKS, "ALTER TABLE sessions ADD COLUMN git_commit TEXT");
    import(&scratch.export(&server.url()), &back, &[]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
}

#[test]
fn strict_refuses_what_the_default_preserves() {
    let scratch = Scratch::new("lossless_strict");
    let big = session(1) + &event(11, 1, "stop") + "UPDATE events SET duration_ms = 99999999999;";
    let source = scratch.sqlite("source.db", HOOKS, &big);
    let archive = scratch.export(&source);
    let server = postgres(UPSTREAM, "lossless_strict", "");
    import(&archive, &server.url(), &["--strict"]).fails_with(10).stderr_has("duration_ms");
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_events"), "0");
    let loose = ["--strict", "--on-unrepresentable", "adapt"];
    import(&archive, &server.url(), &loose).success().stderr_has("duration_ms");
}

#[test]
fn an_unchanged_copy_needs_no_table_of_ours() {
    let scratch = Scratch::new("lossless_plain");
    let source = scratch.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "stop")));
    let copy = scratch.path("copy.db");
    import(&scratch.export(&source), words(&copy), &["--create"]).success();
    let tables = sqlite_dump(&copy).into_iter().filter(|line| line.contains("chronicle_dump"));
    assert_eq!(tables.count(), 0);
}

/// Nine types of events, of which the tutorial's tables allow none but `session_start`.
fn nine_types() -> String {
    const TYPES: [&str; 9] = [
        "session_start",
        "notification",
        "error",
        "pre_tool_use",
        "post_tool_use",
        "user_prompt_submit",
        "stop",
        "subagent_stop",
        "pre_compact",
    ];
    let events = TYPES.iter().zip(11..).map(|(name, n)| event(n, 1, name));
    session(1) + &events.collect::<String>()
}

#[test]
fn what_has_no_nearest_value_is_set_aside_and_the_rest_loaded() {
    let scratch = Scratch::new("lossless_rejects");
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &nine_types()));
    let server = postgres("postgres-seed.sql", "lossless_rejects", "");
    import(&archive, &server.url(), &[]).fails_with(10).stderr_has("--rejects FILE");
    let rejects = scratch.path("rejects.zst");
    import(&archive, &server.url(), &["--rejects", words(&rejects)]).fails_with(14);
    let loaded = server.psql("SELECT count(*) FROM chronicle_events");
    let set_aside = records(&rejects, "events").len();
    assert_eq!(loaded.parse::<usize>().unwrap() + set_aside, 9);
    assert!(set_aside > 0 && loaded != "0", "{loaded} loaded, {set_aside} set aside");
}

#[test]
fn types_mapped_for_the_tutorial_come_back_as_they_were() {
    let scratch = Scratch::new("lossless_tutorial");
    let source = scratch.sqlite("source.db", HOOKS, &nine_types());
    let server = postgres("postgres-seed.sql", "lossless_tutorial", "");
    let options = ["--map-event-types", "tutorial"];
    import(&scratch.export(&source), &server.url(), &options).success();
    let types = server.psql("SELECT DISTINCT type FROM chronicle_events ORDER BY 1");
    assert_eq!(types, "prompt\nsession_end\nsession_start\ntool_use");
    let back = scratch.path("back.db");
    import(&scratch.export(&server.url()), words(&back), &["--create"]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(&back));
}

#[test]
fn a_report_fits_a_screen_and_verbose_tells_all() {
    let scratch = Scratch::new("lossless_report");
    let columns: String =
        (0..20).map(|n| format!("ALTER TABLE events ADD COLUMN extra_{n} TEXT;")).collect();
    let values: Vec<String> = (0..20).map(|n| format!("extra_{n} = 'x'")).collect();
    let sql = columns
        + &session(1)
        + &event(11, 1, "stop")
        + &format!("UPDATE events SET {};", values.join(", "));
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &sql));
    let lines = |options: &[&str]| {
        let server = postgres(UPSTREAM, "lossless_report", "");
        let run = import(&archive, &server.url(), options).success();
        run.stderr.lines().count() + run.text().lines().count()
    };
    assert!(lines(&[]) <= 12, "{} lines", lines(&[]));
    assert!(lines(&["-v"]) > 20);
}

/// Events with local times that were written at a time in UTC.
fn local_events(count: u32, local: &str, utc: &str) -> String {
    let rows: String = (11..11 + count).map(|n| event(n, 1, "stop")).collect();
    session(1)
        + &rows
        + &format!(
            "UPDATE sessions SET start_time = '{local}', created_at = '{utc}', updated_at = '{utc}'; \
             UPDATE events SET timestamp = '{local}', created_at = '{utc}';"
        )
}

#[test]
fn the_rows_themselves_name_their_time_zone() {
    let scratch = Scratch::new("lossless_zone");
    let sql = local_events(4, "2025-08-19T10:00:00", "2025-08-19 17:00:00");
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &sql));
    let server = postgres(UPSTREAM, "lossless_zone", "");
    import(&archive, &server.url(), &[])
        .fails_with(10)
        .stderr_has("look like local time at UTC-07:00, e.g. --assume-tz America/Los_Angeles");
    let check = ["check", words(&archive), "--to", &server.url(), "--json", "--quiet"];
    let checked = json_of(&Program::new(check).run().fails_with(10));
    assert!(checked["problems"].to_string().contains("--assume-tz America/Los_Angeles"));
    import(&archive, &server.url(), &["--assume-tz", "-07:00"]).success();
    let first = "SELECT DISTINCT timestamp AT TIME ZONE 'UTC' FROM chronicle_events";
    assert_eq!(server.psql(first), "2025-08-19 17:00:00");
}

#[test]
fn a_zone_that_most_rows_contradict_needs_trust() {
    let scratch = Scratch::new("lossless_contradiction");
    let sql = local_events(4, "2025-08-19T10:00:00", "2025-08-19 17:00:00");
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &sql));
    let server = postgres(UPSTREAM, "lossless_contradiction", "");
    let wrong = ["--assume-tz", "Europe/Berlin"];
    import(&archive, &server.url(), &wrong)
        .fails_with(10)
        .stderr_has("contradicts")
        .stderr_has("--assume-tz America/Los_Angeles");
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "0");
    let insisting = [&wrong[..], &["--trust-zone"]].concat();
    import(&archive, &server.url(), &insisting).success();
}

#[test]
fn ambiguous_and_skipped_local_times_load_and_come_back() {
    for (local, instant) in [
        ("2025-11-02T01:30:00", "2025-11-02 08:30:00"),
        ("2025-03-09T02:30:00", "2025-03-09 10:30:00"),
    ] {
        let scratch = Scratch::new("lossless_clocks");
        let sql = session(1)
            + &event(11, 1, "stop")
            + &format!("UPDATE events SET timestamp = '{local}' WHERE id = '{}';", id(11));
        let source = scratch.sqlite("source.db", HOOKS, &sql);
        let server = postgres(UPSTREAM, "lossless_clocks", "");
        let archive = scratch.export(&source);
        let zone = ["--assume-tz", "America/Los_Angeles"];
        import(&archive, &server.url(), &[&zone[..], &["--strict"]].concat()).fails_with(10);
        import(&archive, &server.url(), &zone).success();
        let loaded = "SELECT timestamp AT TIME ZONE 'UTC' FROM chronicle_events";
        assert_eq!(server.psql(loaded), instant, "{local}");
        let back = scratch.path("back.db");
        import(&scratch.export(&server.url()), words(&back), &["--create"]).success();
        assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(&back));
    }
}

#[test]
fn types_are_mapped_only_to_those_that_the_target_allows() {
    let scratch = Scratch::new("tutorial_types");
    let sql = session(1) + &event(11, 1, "stop");
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &sql));
    let server = postgres(UPSTREAM, "tutorial_types", "");
    let options = ["--map-event-types", "tutorial"];
    let refused = import(&archive, &server.url(), &options).fails_with(9);
    refused.stderr_has("needs the tutorial's tables").stderr_has("pre_tool_use");
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_events"), "0");
}

#[test]
fn values_that_were_edited_since_win_over_originals() {
    let scratch = Scratch::new("lossless_edited");
    let sql = session(1) + &event(11, 1, "stop") + "UPDATE events SET duration_ms = 99999999999;";
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let server = postgres(UPSTREAM, "lossless_edited", "");
    import(&scratch.export(&source), &server.url(), &[]).success();
    server.psql("UPDATE chronicle_events SET duration_ms = 5");
    let back = scratch.path("back.db");
    import(&scratch.export(&server.url()), words(&back), &["--create"]).success();
    fill(&source, "UPDATE events SET duration_ms = 5");
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(&back));
}
