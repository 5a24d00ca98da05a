//! Selections: which rows a part has, what its archive says of it, and what is refused.

mod law;

use std::path::Path;

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::migrate::{Scratch, fill, json_of, postgres, records, words};
use crate::support::program::{Output, Program};

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";

/// Sessions of two projects, the second one open, with events on two days, one without a session and one without a
/// time.
const ROWS: &str = "
    INSERT INTO sessions (id, claude_session_id, project_path, git_branch, start_time, end_time) VALUES
        ('00000000-0000-0000-0000-000000000001', 'one', '/home/ada/app', 'main', '2025-08-18T10:00:00', '2025-08-18T11:00:00'),
        ('00000000-0000-0000-0000-000000000002', 'two', '/home/bob/lib', NULL, '2025-08-18T10:00:00', NULL);
    INSERT INTO events (id, session_id, event_type, timestamp, tool_name, data) VALUES
        ('00000000-0000-0000-0000-000000000011', '00000000-0000-0000-0000-000000000001', 'stop', '2025-08-18T10:30:00', NULL, '{}'),
        ('00000000-0000-0000-0000-000000000012', '00000000-0000-0000-0000-000000000002', 'stop', '2025-08-19T10:30:00', 'Bash', '{\"a\": [1, 2]}'),
        ('00000000-0000-0000-0000-000000000013', '00000000-0000-0000-0000-000000000009', 'error', '2025-08-19T11:00:00', NULL, '{}'),
        ('00000000-0000-0000-0000-000000000014', '00000000-0000-0000-0000-000000000001', 'stop', 'yesterday', NULL, '{}');";

fn export(from: &str, options: &[&str]) -> Output {
    Program::new(["export", from].iter().chain(options).copied()).run()
}

fn counts(scratch: &Scratch, output: Output) -> (usize, usize) {
    let archive = output.success().save(&scratch.path("part"));
    (records(&archive, "sessions").len(), records(&archive, "events").len())
}

#[test]
fn each_option_selects_what_it_names() {
    let scratch = Scratch::new("selection_options");
    let file = scratch.sqlite("source.db", HOOKS, ROWS);
    for (options, expected) in [
        (&[][..], (2, 4)),
        (&["--project=/home/ada/*"], (1, 2)),
        (&["--project=/home/ada/*", "--project=/home/bob/*"], (2, 3)),
        (&["--session=two"], (1, 1)),
        (&["--session=00000000-0000-0000-0000-000000000001"], (1, 2)),
        (&["--event-type=error"], (0, 1)),
        (&["--event-type=stop"], (2, 3)),
        (&["--where=events.tool_name=Bash"], (1, 1)),
        (&["--where=events.tool_name=\"Bash\""], (1, 1)),
        (&["--where=events.tool_name=null"], (1, 3)),
        (&["--where=events.tool_name=\"null\""], (0, 0)),
        (&["--where=events.tool_name=null", "--where=events.tool_name=Bash"], (2, 4)),
        (&["--where=sessions.git_branch=null"], (1, 1)),
        (&["--where=sessions.git_branch=main"], (1, 2)),
        (&["--where=events.data={\"a\":[1,2]}"], (1, 1)),
        // the open session lasts until its last event
        (&["--since=2025-08-19"], (1, 2)),
        (&["--until=2025-08-19"], (2, 1)),
        (&["--since=2025-08-18T10:45:00", "--until=2025-08-18T10:50:00"], (2, 0)),
        (&["--since=2025-08-18T11:00:01", "--until=2025-08-19T10:00:00"], (1, 0)),
    ] {
        assert_eq!(counts(&scratch, export(&file, options)), expected, "{options:?}");
    }
}

#[test]
fn what_is_left_out_of_a_part_is_counted() {
    let scratch = Scratch::new("selection_left_out");
    let file = scratch.sqlite("source.db", HOOKS, ROWS);
    let whole = scratch.export(&file);
    let whole = words(&whole);
    for command in [&["export", &file, "-o", "/dev/null", "--force"][..], &["cat", whole]] {
        let run = |options: &[&str]| Program::new([command, options].concat()).run().success();
        run(&["--project=/home/*"]).stderr_has("1 event left out: orphans");
        run(&["--since=2025-08-01"]).stderr_has("1 event without a readable time left out");
        run(&["--event-type=stop"]).stderr_lacks("left out");
    }
    // without a filter of sessions an orphan is selected as any event
    export(&file, &["--since=2025-08-01"]).success().stderr_has("exported anyway");
    let imported = scratch.path("target.db");
    let import = ["import", whole, "--create", "--to", words(&imported), "--project=/home/ada/*"];
    Program::new(import).run().success().stderr_has("1 event left out: orphans");
    let diff = ["diff", whole, &file, "--project=/home/ada/*"];
    Program::new(diff).run().success().stderr_has("1 event left out: orphans");
}

#[test]
fn the_archive_of_a_part_says_so() {
    let scratch = Scratch::new("selection_header");
    let file = scratch.sqlite("source.db", HOOKS, ROWS);
    let options = ["--project=/home/ada/*", "--project=x", "--since=1w", "--until=2999-01-01"];
    let exported = export(&file, &options).success().stderr_has("--project /home/ada/*");
    let archive = exported.save(&scratch.path("part"));
    let inspected = json_of(&Program::new(["inspect", "--json", words(&archive)]).run().success());
    let filters = &inspected["filters"];
    assert_eq!(filters["project"], json!("[\"/home/ada/*\",\"x\"]"));
    assert_eq!(filters["until"], json!("2999-01-01"));
    // seven days ago, and not seven days before whoever reads it
    let since = filters["since"].as_str().expect("a time");
    assert!(since.ends_with('Z') && since.starts_with("20"), "{since}");
    let target = scratch.path("target.db");
    Program::new(["import", words(&archive), "--create", "--to", words(&target)])
        .run()
        .success()
        .stderr_has("is a part of its database: --project /home/ada/* --project x");
    export(&file, &["--reproducible", "--since=7d"])
        .fails_with(2)
        .stderr_has("--since: a time that counts from now is not reproducible");
    let twice = ["--reproducible", "--since=2025-08-19", "--project=*"];
    let [a, b] = [(); 2].map(|()| export(&file, &twice).success().stdout);
    assert!(a == b, "a part is as reproducible as the whole");
}

#[test]
fn a_filter_that_cannot_be_applied_is_refused() {
    let scratch = Scratch::new("selection_refused");
    let file = scratch.sqlite("source.db", HOOKS, ROWS);
    let whole = scratch.export(&file);
    for (option, said) in [
        ("--user=ada", "--user: sessions has no column user_id"),
        ("--team=core", "--team: sessions has no column team_id"),
        ("--where=events.colour=red", "--where events.colour: events has no column colour"),
        ("--where=users.id=1", "--where users.id: there is no stream users"),
        ("--where=colour", "--where colour: not a condition"),
        ("--project=[a", "--project [a: not a pattern"),
        ("--since=tomorrow", "--since: tomorrow is not a time"),
        ("--until=7 d", "--until: 7 d is not a time"),
    ] {
        export(&file, &[option]).fails_with(2).stderr_has(said);
        Program::new(["cat", words(&whole), option]).run().fails_with(2).stderr_has(said);
        Program::new(["diff", words(&whole), &file, option]).run().fails_with(2).stderr_has(said);
    }
    export(&file, &["--since=2025-08-19", "--until=2025-08-19"])
        .fails_with(2)
        .stderr_has("--until 2025-08-19 is not after --since 2025-08-19");
    let target = scratch.path("target.db");
    let import = ["import", words(&whole), "--create", "--to", words(&target), "--user=ada"];
    Program::new(import).run().fails_with(2).stderr_has("sessions has no column user_id");
    assert!(!target.exists(), "nothing is left of it");
}

#[test]
fn a_user_of_events_alone_selects_events_and_their_sessions() {
    let scratch = Scratch::new("selection_user");
    let column = "ALTER TABLE events ADD COLUMN user_id TEXT;";
    let file = scratch.sqlite("source.db", HOOKS, &format!("{column}{ROWS}"));
    fill(&file, "UPDATE events SET user_id = 'ada' WHERE tool_name = 'Bash'");
    assert_eq!(counts(&scratch, export(&file, &["--user=ada"])), (1, 1));
}

#[test]
fn side_tables_follow_the_rows_that_they_refer_to() {
    let scratch = Scratch::new("selection_side");
    let setup = "
        INSERT INTO sessions (id, claude_session_id, project_path, start_time) VALUES
            ('00000000-0000-0000-0000-000000000001', 'one', '/a', '2025-08-18Z'),
            ('00000000-0000-0000-0000-000000000002', 'two', '/b', '2025-08-18Z');
        INSERT INTO events (id, session_id, event_type, timestamp, data) VALUES
            ('00000000-0000-0000-0000-000000000011', '00000000-0000-0000-0000-000000000001', 'prompt', '2025-08-18Z', '{}'),
            ('00000000-0000-0000-0000-000000000012', '00000000-0000-0000-0000-000000000002', 'prompt', '2025-08-19Z', '{}');
        INSERT INTO tool_events (id, session_id, event_id, tool_name) VALUES
            ('00000000-0000-0000-0000-000000000021', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000011', 'Bash'),
            ('00000000-0000-0000-0000-000000000022', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000012', 'Read');";
    let server = Cluster::get().database("selection_side");
    server.apply_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/ddl/postgres-setup.sql"));
    server.psql(setup);
    let whole = scratch.export(&server.url());
    for (options, expected) in [
        (&["--project=/a"][..], ["21"].as_slice()),
        (&["--since=2025-08-19"], &["22"]),
        (&["--where=tool_events.tool_name=Bash"], &["21"]),
        (&["--project=/c"], &[]),
    ] {
        let part = export(&server.url(), options).success().save(&scratch.path("part"));
        let cat = Program::new(
            ["cat", words(&whole), "--stream=tool_events"].iter().chain(options).copied(),
        );
        let printed = cat.run().success();
        let of_archive: Vec<String> =
            printed.text().lines().map(|line| line[..46].to_owned()).collect();
        let of_part: Vec<String> = records(&part, "tool_events")
            .iter()
            .map(|row| row["id"].as_str().expect("an id")[34..].to_owned())
            .collect();
        assert_eq!(of_part, expected, "{options:?}");
        assert_eq!(of_archive.len(), expected.len(), "{options:?}");
    }
}

#[test]
fn the_report_says_in_which_zone_times_are_compared() {
    let scratch = Scratch::new("selection_zone");
    let file = scratch.sqlite("source.db", HOOKS, ROWS);
    let zoned = "--since=2025-08-19T09:00:00Z";
    // ten thirty in Berlin is half past eight in UTC
    let utc = export(&file, &[zoned]);
    assert_eq!(counts(&scratch, utc.stderr_has("times without a zone are read in UTC")), (1, 2));
    let berlin = export(&file, &[zoned, "--assume-tz=Europe/Berlin"]);
    let said = "times without a zone are read in Europe/Berlin (--assume-tz)";
    assert_eq!(counts(&scratch, berlin.stderr_has(said)), (0, 1));
    // the header names the zone of the machine: an archive is read elsewhere
    let part = scratch.path("machine");
    let run = ["export", &file, zoned, "--assume-tz=archive", "-o", words(&part)];
    Program::new(run).env("TZ", "Europe/Berlin").run().success();
    let inspected = json_of(&Program::new(["inspect", "--json", words(&part)]).run().success());
    assert_eq!(inspected["filters"]["assume-tz"], json!("Europe/Berlin"));
    // wall time is compared with wall time, whatever the zone
    for zone in ["UTC", "Asia/Tokyo"] {
        let zone = format!("--assume-tz={zone}");
        let wall = export(&file, &["--since=2025-08-19T10:30:00", &zone]);
        assert_eq!(counts(&scratch, wall.stderr_lacks("zone")), (1, 2));
    }
    let server = postgres(
        UPSTREAM,
        "selection_zone",
        "INSERT INTO chronicle_sessions \
        (id, claude_session_id, start_time) VALUES (gen_random_uuid(), 'a', '2025-08-19 00:30:00+02')",
    );
    let naive = "--since=2025-08-19";
    let utc =
        export(&server.url(), &[naive]).stderr_has("2025-08-19 has no zone and is read in UTC");
    assert_eq!(counts(&scratch, utc), (0, 0));
    let berlin = export(&server.url(), &[naive, "--assume-tz=Europe/Berlin"]);
    assert_eq!(counts(&scratch, berlin), (1, 0));
}

#[test]
fn what_the_sidecar_stores_is_selected_as_it_was() {
    let scratch = Scratch::new("selection_sidecar");
    let odd = "UPDATE sessions SET project_path = '/home/ada/' || char(0) || 'x' WHERE claude_session_id = 'one'; \
               DELETE FROM events WHERE timestamp = 'yesterday' OR tool_name IS NULL AND event_type = 'error';";
    let file = scratch.sqlite("source.db", HOOKS, &format!("{ROWS}{odd}"));
    let server = postgres(
        UPSTREAM,
        "selection_sidecar",
        "ALTER TABLE chronicle_events DISABLE TRIGGER USER",
    );
    let whole = scratch.export(&file);
    let to = ["import", words(&whole), "--to", &server.url(), "--assume-tz=Asia/Tokyo"];
    Program::new(to).run().success();
    for options in [
        &["--project=/home/ada/?x"][..],
        &["--since=2025-08-19T10:30:00"],
        &["--until=2025-08-18T10:30:01"],
        &["--since=2025-08-18T10:30:00Z", "--until=2025-08-19T01:00:00Z"],
        &["--where=events.timestamp=2025-08-19T10:30:00"],
    ] {
        let zone = "--assume-tz=Asia/Tokyo";
        let options = &[options, &[zone]].concat()[..];
        let [a, b] = [&file, &server.url()].map(|from| counts(&scratch, export(from, options)));
        assert_eq!(a, b, "{options:?}");
        assert_ne!(a, (0, 0), "{options:?}");
        let diff = ["diff", &file, &server.url()];
        Program::new(diff.iter().chain(options).copied()).run().success();
    }
}

#[test]
fn a_part_of_a_part_counts_what_it_leaves_out_once() {
    let scratch = Scratch::new("selection_chain");
    let file = scratch.sqlite("source.db", HOOKS, ROWS);
    let part = export(&file, &["--project=/home/*"]).success().save(&scratch.path("part"));
    // of the target, rows of that part are read, twice, for those that the times select
    let restore = ["restore", words(&part), "--to", &file, "--since=2025-08-01", "--dry-run"];
    Program::new(restore)
        .run()
        .success()
        .stderr_has(&format!("{file}: 1 event left out: orphans"))
        .stderr_has(&format!("{file}: 1 event without a readable time left out"));
}
