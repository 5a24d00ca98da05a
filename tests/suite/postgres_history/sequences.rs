//! Sequences move with the commit of a batch, or not at all.

use super::*;
use crate::support::cluster::{ADMIN, PASSWORD};

/// The number that the sequence of the events has given last.
const LAST: &str = "SELECT coalesce(last_value::text, 'unused') FROM pg_sequences WHERE sequencename = 'chronicle_events_n_seq'";

/// A database whose events are numbered by a sequence, which has given one number.
fn numbered(test_name: &str) -> Database {
    let database = empty(OWNER, test_name);
    database.psql(
        "ALTER TABLE chronicle_events ADD COLUMN n bigserial UNIQUE; \
         SELECT nextval('chronicle_events_n_seq')",
    );
    database
}

/// An archive with three events that have such numbers, up to 40.
fn with_numbers(scratch: &Scratch) -> PathBuf {
    let sql = session(1, 10..13);
    archive(
        scratch,
        &format!(
            "ALTER TABLE events ADD COLUMN n INTEGER; {sql} UPDATE events SET n = 28 + duration_ms;"
        ),
    )
}

/// Runs a command that fails at its commit.
#[track_caller]
fn fail_at_the_commit(program: Program) {
    let program = program.env("CHRONICLE_DUMP_FAULT", "commit: before=error");
    program.run().fails_with(8).stderr_has("a fault on purpose");
}

#[test]
fn a_commit_that_fails_leaves_the_sequences() {
    let (database, scratch) = (numbered("sequence_fails"), Scratch::new("sequence_fails"));
    let (archive, url) = (with_numbers(&scratch), database.url());
    fail_at_the_commit(importing(&archive, &url, &[]));
    assert_eq!(database.psql(LAST), "1");
    import(&archive, &url, &[]).success();
    assert_eq!(database.psql(LAST), "40");
    fail_at_the_commit(Program::new(["rollback", "last", "--from", &url]));
    assert_eq!(database.psql(LAST), "40", "the rows with these numbers are still there");
    Program::new(["rollback", "last", "--from", &url]).run().success();
    assert_eq!(database.psql(LAST), "1");
    // one that has given no number gives its first one again
    database.psql("SELECT setval('chronicle_events_n_seq', 1, false)");
    assert_eq!(database.psql(LAST), "unused");
    import(&archive, &url, &[]).success();
    fail_at_the_commit(Program::new(["rollback", "last", "--from", &url]));
    assert_eq!(database.psql(LAST), "40");
    Program::new(["rollback", "last", "--from", &url]).run().success();
    assert_eq!(database.psql(LAST), "unused");
}

#[test]
fn a_sequence_in_use_is_not_waited_for() {
    let (database, scratch) = (numbered("sequence_used"), Scratch::new("sequence_used"));
    let (archive, url) = (with_numbers(&scratch), database.url());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // a transaction that has taken a number and has yet to end
    let user = runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        let take = "BEGIN; SELECT nextval('chronicle_events_n_seq')";
        client.batch_execute(take).await.expect("a number");
        client
    });
    import(&archive, &url, &[]).success();
    assert_eq!(database.psql(LAST), "40");
    // the rollback could not be sure to move it with its commit
    Program::new(["rollback", "last", "--from", &url]).run().success();
    assert_eq!(database.psql(LAST), "40");
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "0");
    let next = runtime.block_on(async {
        let row = user.query_one("SELECT nextval('chronicle_events_n_seq')", &[]).await;
        row.expect("a number").get::<_, i64>(0)
    });
    assert_eq!(next, 41);
}

#[test]
fn a_role_that_does_not_own_a_sequence_moves_it_ahead() {
    let (database, scratch) = (numbered("sequence_other"), Scratch::new("sequence_other"));
    let archive = with_numbers(&scratch);
    let role: String = format!("s_{}", database.name()).chars().take(63).collect();
    database.psql_as(
        ADMIN,
        &format!(
            "CREATE ROLE {role} LOGIN BYPASSRLS PASSWORD '{PASSWORD}'; \
             GRANT ALL ON SCHEMA public TO {role}; \
             GRANT ALL ON chronicle_sessions, chronicle_events, chronicle_events_n_seq TO {role}"
        ),
    );
    database.psql(NO_TRIGGERS);
    let url = database.url_as(&role);
    fail_at_the_commit(importing(&archive, &url, &[]));
    // numbers are left out, and no row is lost
    assert_eq!(database.psql(LAST), "40");
    import(&archive, &url, &[]).success();
    Program::new(["rollback", "last", "--from", &url]).run().success();
    assert_eq!(database.psql(LAST), "40");
    database.psql_as(ADMIN, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
