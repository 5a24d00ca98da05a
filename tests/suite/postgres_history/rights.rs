//! Roles that may not create the tables of history.

use super::*;
use crate::support::cluster::{ADMIN, PASSWORD};

/// A role that may write the rows of a database, and create nothing in it.
struct Writer {
    database: Database,
    name: String,
}

impl Writer {
    fn new(test_name: &str) -> Writer {
        let database = empty(OWNER, test_name);
        let name: String = format!("w_{}", database.name()).chars().take(63).collect();
        database.psql_as(
            ADMIN,
            &format!(
                "CREATE ROLE {name} LOGIN BYPASSRLS PASSWORD '{PASSWORD}'; \
                 REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
                 GRANT ALL ON chronicle_sessions, chronicle_events TO {name}"
            ),
        );
        // what fires by itself could not be silenced by this role
        database.psql(NO_TRIGGERS);
        Writer { database, name }
    }

    fn import(&self, archive: &Path, options: &[&str]) -> Output {
        let url = self.database.url_as(&self.name);
        let archive = archive.to_str().expect("a path in UTF-8");
        Program::new(["import", archive, "--to", &url].iter().chain(options).copied()).run()
    }

    fn rows(&self) -> String {
        self.database.psql("SELECT count(*) FROM chronicle_events")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        // the cluster takes what is left with it
        let _ = self.database.try_psql_as(ADMIN, &sql);
    }
}

/// An archive of three events in the server's layout.
fn of_a_server(scratch: &Scratch) -> PathBuf {
    let database = empty(OWNER, "rights_source");
    database.psql(&format!(
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('{0}', 'cs', now()); \
         INSERT INTO chronicle_events (session_id, event_type, timestamp) \
         SELECT '{0}', 'stop', now() - interval '1 day' FROM generate_series(1, 3)",
        id(1)
    ));
    scratch.export(&database.url())
}

#[test]
fn a_role_that_may_create_nothing_imports_without_a_history() {
    let (writer, scratch) = (Writer::new("rights_none"), Scratch::new("rights_none"));
    let archive = of_a_server(&scratch);
    let grant = format!("GRANT CREATE ON SCHEMA \"public\" TO {}", writer.name);
    writer
        .import(&archive, &[])
        .fails_with(8)
        .stderr_has("this role may not create tables in the schema \"public\"")
        .stderr_has("nothing was changed")
        .stderr_has(&format!("hint: {grant}"))
        .stderr_has("--no-undo");
    assert_eq!(writer.rows(), "0");
    let done = writer.import(&archive, &["--no-undo", "--json"]).success();
    let json: serde_json::Value = serde_json::from_str(done.text()).expect("one JSON object");
    assert_eq!(json["batch_id"], serde_json::Value::Null, "no history has it");
    let notices = json["notices"].to_string();
    assert!(notices.contains("the history of this batch is not recorded: this role"), "{notices}");
    assert_eq!(writer.rows(), "3");
    let url = writer.database.url();
    let history = Program::new(["history", &url, "--json"]).run().success();
    history.stdout_has("\"batches\":[]");
    // with that right, everything is recorded
    writer.database.psql(&grant);
    writer.import(&archive, &[]).success();
    let tables =
        "SELECT count(*) FROM pg_tables WHERE tablename = 'chronicle_dump_migration_history'";
    assert_eq!(writer.database.psql(tables), "1");
}

#[test]
fn what_only_the_sidecar_table_can_hold_is_refused_without_one() {
    let (writer, scratch) = (Writer::new("rights_sidecar"), Scratch::new("rights_sidecar"));
    // the hooks have a column that the server lacks
    let archive = archive(&scratch, &session(1, 11..14));
    writer
        .import(&archive, &["--no-undo"])
        .fails_with(8)
        .stderr_has("cannot create the sidecar table: this role may not create tables")
        .stderr_has(&format!("GRANT CREATE ON SCHEMA \"public\" TO {}", writer.name))
        .stderr_has("--on-missing-column drop");
    assert_eq!(writer.rows(), "0");
    let drops = ["--no-undo", "--on-missing-column=drop", "--on-unrepresentable=adapt"];
    writer.import(&archive, &drops).success();
    assert_eq!(writer.rows(), "3");
}

#[test]
fn a_history_of_another_role_is_named() {
    let (writer, scratch) = (Writer::new("rights_other"), Scratch::new("rights_other"));
    let archive = of_a_server(&scratch);
    let owner = writer.database.url();
    let first = archive.to_str().expect("a path");
    Program::new(["import", first, "--to", &owner]).run().success();
    let beside = "ALTER TABLE chronicle_dump.migration_history SET SCHEMA public; \
         ALTER TABLE chronicle_dump.receipts SET SCHEMA public; \
         ALTER TABLE migration_history RENAME TO chronicle_dump_migration_history; \
         ALTER TABLE receipts RENAME TO chronicle_dump_receipts";
    writer.database.psql(beside);
    writer
        .import(&archive, &[])
        .fails_with(8)
        .stderr_has("the tables of history belong to another role")
        .stderr_has("connect as the role that has created them");
    writer.import(&archive, &["--no-undo"]).success();
}
