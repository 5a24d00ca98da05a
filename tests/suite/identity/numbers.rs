//! Ids that a server numbers.

use super::*;

#[test]
fn numbers_in_use_are_known_however_many_there_are() {
    let scratch = Scratch::new("many_numbers");
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) \
                INSERT INTO chronicle_sessions SELECT n, '/tea', 'main', '2025-08-19T10:00:00Z', NULL, \
                'active', 1, '2025-08-19 10:00:00', '2025-08-19 10:00:01' FROM n";
    let target = scratch.sqlite("target.db", TUTORIAL, many);
    let archive = scratch.export(&scratch.sqlite("source.db", HOOKS, &session(1)));
    for _ in 0..2 {
        import(&archive, &target, TUTORIAL_OPTIONS).success();
        let found = "SELECT count(*), max(id) FROM chronicle_sessions";
        assert_eq!(ask(&target, found), "20001|20001");
    }
}

/// A SQLite file and a server whose ids are numbers.
pub(super) fn where_ids_are_numbers(scratch: &Scratch, name: &str) -> [Asked; 2] {
    let file = scratch.sqlite("numbers.db", TUTORIAL, "");
    let server = postgres("postgres-upstream.sql", name, NUMBERED_SERVER);
    let (asked, url) = (file.clone(), server.url());
    [
        (file, Box::new(move |query: &str| ask(&asked, query))),
        (url, Box::new(move |query: &str| server.psql(query))),
    ]
}

#[test]
fn the_number_of_a_missing_session_is_never_reused() {
    let scratch = Scratch::new("dangling_numbers");
    let lost = session(1) + &event(11, 1, "prompt") + &event(12, 9, "prompt");
    let orphans = scratch.export(&scratch.sqlite("lost.db", HOOKS, &lost));
    let others =
        scratch.export(&scratch.sqlite("others.db", HOOKS, &(session(2) + &event(21, 2, "stop"))));
    let found =
        scratch.export(&scratch.sqlite("found.db", HOOKS, &(session(9) + &event(13, 9, "stop"))));
    let parents = "SELECT e.id, count(s.id), count(e.session_id) FROM chronicle_events e \
                   LEFT JOIN chronicle_sessions s ON s.id = e.session_id GROUP BY e.id ORDER BY e.id";
    let options = [TUTORIAL_OPTIONS, &["--orphans=keep"]].concat();
    for (to, query) in where_ids_are_numbers(&scratch, "dangling_numbers") {
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
fn an_adopted_session_is_created_once_where_ids_are_numbers() {
    let scratch = Scratch::new("adopted_numbers");
    let lost = session(1) + &event(11, 1, "prompt") + &event(12, 9, "prompt");
    let archive = scratch.export(&scratch.sqlite("lost.db", HOOKS, &lost));
    let options = ["--on-missing-column=fold", "--orphans=adopt"];
    for (to, query) in where_ids_are_numbers(&scratch, "adopted_numbers") {
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
    let scratch = Scratch::new("nameless_numbers");
    let nameless = "INSERT INTO events (session_id, event_type, timestamp, data) VALUES \
        ('5e551011-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:00Z', '{}');";
    let rows = session(1) + &event(11, 1, "prompt") + nameless;
    let archive = scratch.export(&scratch.sqlite("nameless.db", HOOKS, &rows));
    for (to, query) in where_ids_are_numbers(&scratch, "nameless_numbers") {
        for _ in 0..3 {
            import(&archive, &to, &["--on-missing-column=fold", "--orphans=keep"]).success();
            assert_eq!(query("SELECT count(*) FROM chronicle_events"), "2", "{to}");
        }
    }
}

#[test]
fn a_numbered_row_comes_back_into_its_own_file_as_itself() {
    let scratch = Scratch::new("numbers_home");
    let file = scratch.sqlite("file.db", TUTORIAL, &numbered(1, "/tea"));
    let server = postgres("postgres-seed.sql", "numbers_home", "");
    scratch.shift(&file, &server.url(), TUTORIAL_OPTIONS).success();
    // another machine's rows exist, too
    let other = scratch.sqlite("other.db", TUTORIAL, &numbered(1, "/coffee"));
    scratch.shift(&other, &server.url(), TUTORIAL_OPTIONS).success();
    for _ in 0..2 {
        scratch.shift(&server.url(), &file, TUTORIAL_OPTIONS).success();
        let held = "SELECT project_path, count(*) FROM chronicle_sessions GROUP BY 1 ORDER BY 1";
        assert_eq!(ask(&file, held), "/coffee|3\n/tea|3");
        let first = "SELECT group_concat(id) FROM chronicle_sessions WHERE project_path = '/tea'";
        assert_eq!(ask(&file, first), "1,2,3");
    }
}

#[test]
fn the_dashboards_events_stay_with_their_sessions_both_ways() {
    let scratch = Scratch::new("dashboard_sessions");
    let source = scratch.sqlite("source.db", HOOKS, &(session(1) + &event(11, 1, "stop")));
    let dashboard = postgres("../../schemas/ddl/postgres-dashboard.sql", "dashboard", "");
    let options = [TUTORIAL_OPTIONS, &["--assume-tz=UTC"]].concat();
    scratch.shift(&source, &dashboard.url(), &options).success();
    dashboard.psql(
        "INSERT INTO chronicle_sessions (session_id, project_path) VALUES ('c', 'p'); \
         INSERT INTO chronicle_events (session_id, event_type, event_data) VALUES ('c', 'stop', '{}')",
    );
    let together = "SELECT count(*) FROM chronicle_events e \
                    JOIN chronicle_sessions s ON s.session_id = e.session_id";
    assert_eq!(dashboard.psql(together), "2");
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&dashboard.url(), &back, &options).success();
    let together = "SELECT count(*) FROM events e JOIN sessions s ON s.id = e.session_id";
    assert_eq!(ask(&back, together), "2");
    let server = postgres("postgres-upstream.sql", "from_dashboard", "");
    scratch.shift(&dashboard.url(), &server.url(), &options).success();
    let together =
        "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id";
    assert_eq!(server.psql(together), "2");
}
