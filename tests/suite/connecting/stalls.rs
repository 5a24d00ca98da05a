//! Connections that go silent, break, or have nothing to do for long: a command ends with an error that says so, or goes on.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::cluster::{ADMIN, Cluster, Database, OWNER};
use crate::support::files::fixture;
use crate::support::migrate::{Scratch, event, session, words};
use crate::support::pooler::Pooler;
use crate::support::program::{Program, wait_until};
use crate::support::proxy::{Network, Proxy};

/// A database with 40 MB of events.
fn large(name: &str) -> Database {
    let database = Cluster::get().database(name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database.psql(
        "INSERT INTO chronicle_sessions (claude_session_id, project_path, start_time) VALUES ('one', '/p', now())",
    );
    database.psql(
        "INSERT INTO chronicle_events (session_id, event_type, tool_name, timestamp, metadata) \
         SELECT s.id, 'pre_tool_use', 'Bash', now(), jsonb_build_object('text', repeat(md5(n::text), 300)) \
         FROM chronicle_sessions s, generate_series(1, 4000) n",
    );
    database
}

fn export(url: &str, scratch: &Scratch, more: &[&str]) -> Program {
    let file = scratch.path("out.zst");
    Program::new(
        ["export", url, "-o", words(&file), "--force"].into_iter().chain(more.iter().copied()),
    )
}

#[test]
fn a_network_that_stops_ends_an_export_in_time() {
    let (database, scratch) = (large("silent"), Scratch::new("silent"));
    for (becomes, words) in [
        (Network::Silent, "it does not answer on another connection, either"),
        (Network::HasForgotten, "it waits for this side, and nothing passes"),
    ] {
        let proxy = Proxy::to(database.port());
        let url = proxy.instead(&database.url(), database.port());
        let run = export(&url, &scratch, &["--timeout=16"]).spawn();
        wait_until("rows come", || proxy.carried() > 2_000_000);
        proxy.becomes(becomes);
        let since = Instant::now();
        let run = run.wait().fails_with(8);
        let took = since.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        run.stderr_has("the connection to the server was lost: ").stderr_has(words);
        assert!(!scratch.path("out.zst").exists(), "no part of an archive stays");
    }
}

#[test]
fn a_broken_connection_is_named_at_once() {
    let (database, scratch) = (large("broken"), Scratch::new("broken"));
    let proxy = Proxy::to(database.port());
    let run = export(&proxy.instead(&database.url(), database.port()), &scratch, &[]).spawn();
    wait_until("rows come", || proxy.carried() > 2_000_000);
    proxy.becomes(Network::Breaks);
    let run = run.wait().fails_with(8).stderr_has("the connection to the server was lost: ");
    assert!(run.time < Duration::from_secs(20), "{:?}", run.time);
}

#[test]
fn an_import_over_a_silent_network_changes_nothing() {
    let (source, scratch) = (large("silent_source"), Scratch::new("silent_import"));
    export(&source.url(), &scratch, &[]).run().success();
    let target = Cluster::get().database("silent_target");
    target.apply_file(fixture("postgres-upstream.sql"));
    let proxy = Proxy::to(target.port());
    proxy.is_silent_after(8_000_000);
    let (file, url) = (scratch.path("out.zst"), proxy.instead(&target.url(), target.port()));
    let run = Program::new(["import", words(&file), "--to", &url, "--timeout=16"]).run();
    run.fails_with(8).stderr_has("the connection to the server was lost: ");
    target.psql_as(ADMIN, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    assert_eq!(target.psql("SELECT count(*) FROM chronicle_events"), "0");
}

#[test]
fn ctrl_c_ends_within_a_second_on_a_silent_network() {
    let (database, scratch) = (large("stopped"), Scratch::new("stopped"));
    let proxy = Proxy::to(database.port());
    let run = export(&proxy.instead(&database.url(), database.port()), &scratch, &[]).spawn();
    wait_until("rows come", || proxy.carried() > 2_000_000);
    proxy.becomes(Network::Silent);
    std::thread::sleep(Duration::from_millis(300));
    let since = Instant::now();
    run.signal("INT");
    run.wait().fails_with(130);
    let took = since.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn a_server_that_is_at_work_may_be_silent() {
    let (target, scratch) = (Cluster::get().database("at_work"), Scratch::new("at_work"));
    target.apply_file(fixture("postgres-upstream.sql"));
    target.psql(
        "CREATE FUNCTION rest() RETURNS boolean LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep(20); RETURN true; END'; \
         ALTER TABLE chronicle_sessions ADD CHECK (rest())",
    );
    let archive = scratch.export(&scratch.sqlite("a.db", &["sqlite-hooks.sql"], &session(1)));
    let url = target.url();
    let args = ["import", words(&archive), "--to", &url, "--timeout=16"];
    let run = Program::new(args).run().success();
    assert!(run.time > Duration::from_secs(20), "{:?}", run.time);
}

#[test]
fn whoever_waits_long_outlives_the_limits_of_servers() {
    let (database, scratch) = (large("patient"), Scratch::new("patient"));
    let archive = scratch.export(&scratch.sqlite(
        "a.db",
        &["sqlite-hooks.sql"],
        &(session(1) + &event(11, 1, "stop")),
    ));
    database.psql_as(
        ADMIN,
        &format!(
            "ALTER ROLE {OWNER} IN DATABASE \"{}\" SET idle_in_transaction_session_timeout = '2s'",
            database.name()
        ),
    );
    let pooler = Pooler::with(&database, OWNER, "idle_transaction_timeout = 12\n");
    // a receiver that stops in the middle
    let mut export = Program::new(["export", &pooler.url()]).stdout_by_hand().spawn();
    let mut stdout = export.take_stdout();
    let mut head = vec![0; 100_000];
    stdout.read_exact(&mut head).expect("the beginning of an archive");
    // a sender that stops in the middle
    let bytes = std::fs::read(&archive).expect("the archive");
    let url = pooler.url();
    let import = ["import", "-", "--to", &url, "--on-conflict=update"];
    let mut import = Program::new(import).stdin_by_hand().spawn();
    let mut stdin = import.take_stdin();
    stdin.write_all(&bytes[..bytes.len() / 2]).expect("the first half");
    stdin.flush().expect("it is on its way");
    std::thread::sleep(Duration::from_secs(15));
    stdout.read_to_end(&mut head).expect("the rest of the archive");
    export.wait().success();
    stdin.write_all(&bytes[bytes.len() / 2..]).expect("the second half");
    drop(stdin);
    import.wait().success();
    Program::new(["verify", "-"]).stdin(head).run().success();
}

#[test]
fn a_vanished_client_does_not_keep_its_session() {
    let (target, scratch) = (Cluster::get().database("vanished"), Scratch::new("vanished"));
    target.apply_file(fixture("postgres-upstream.sql"));
    target.psql(
        "CREATE TABLE seen AS SELECT name, setting FROM pg_settings WHERE false; \
         CREATE FUNCTION look() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN \
           INSERT INTO public.seen SELECT name, setting FROM pg_settings WHERE name ~ ''^(idle_in|tcp_|client_conn)''; \
           RETURN true; END'; \
         ALTER TABLE chronicle_sessions ADD CHECK (look())",
    );
    let archive = scratch.export(&scratch.sqlite("a.db", &["sqlite-hooks.sql"], &session(1)));
    let url = target.url();
    Program::new(["import", words(&archive), "--to", &url]).run().success();
    let seen = target.psql("SELECT name, setting FROM seen ORDER BY name");
    assert_eq!(
        seen,
        "client_connection_check_interval|10000\nidle_in_transaction_session_timeout|900000\n\
         tcp_keepalives_count|3\ntcp_keepalives_idle|30\ntcp_keepalives_interval|10\ntcp_user_timeout|120000"
    );
}
