//! What a real server refuses, and the next step that comes with it.

use crate::support::cluster::{ADMIN, Cluster, Database, PASSWORD};
use crate::support::files::{fixture, workdir};
use crate::support::program::Program;

fn database(test_name: &str) -> Database {
    let database = Cluster::get().database(test_name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database
}

#[test]
fn a_wrong_password_is_sent_once_to_every_address_together() {
    let database = database("wrong_password");
    database.psql_as(ADMIN, &format!("CREATE ROLE often LOGIN PASSWORD '{PASSWORD}'"));
    let port = database.port();
    let hosts = format!("host=127.0.0.1,127.0.0.1 port={port},{port} dbname={}", database.name());
    let run = Program::new(["export"]).arg(format!("{hosts} user=often password=wrong"));
    run.run()
        .fails_with(7)
        .stderr_has("[SQLSTATE 28P01]")
        .stderr_has("hint: export: check the user");
    let log = Cluster::get().log();
    let times = log.matches("password authentication failed for user \"often\"").count();
    assert_eq!(times, 1, "{log}");
    database.psql_as(ADMIN, "DROP ROLE often");
}

#[test]
fn a_role_without_a_connection_left_is_explained() {
    let database = database("no_connection_left");
    database.psql_as(
        ADMIN,
        &format!("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD '{PASSWORD}'"),
    );
    let run = Program::new(["export"]).arg(database.url_as("crowded")).run().fails_with(7);
    run.stderr_has("[SQLSTATE 53300]").stderr_has("the server has no connection left");
    database.psql_as(ADMIN, "DROP ROLE crowded");
}

#[test]
fn a_server_that_wants_encryption_says_how() {
    let database = database("wants_encryption");
    database.psql_as(ADMIN, &format!("CREATE ROLE plain_one LOGIN PASSWORD '{PASSWORD}'"));
    // the server runs in its own folder
    let rule = "sed -i ''1i hostnossl all plain_one 127.0.0.1/32 reject'' pg_hba.conf";
    database.psql_as(ADMIN, &format!("COPY (SELECT 1) TO PROGRAM '{rule}'"));
    database.psql_as(ADMIN, "SELECT pg_reload_conf(), pg_sleep(0.5)");
    let url = format!("{}?sslmode=disable", database.url_as("plain_one"));
    let run = Program::new(["export"]).arg(url).run().fails_with(7);
    run.stderr_has("no encryption [SQLSTATE 28000]").stderr_has("write sslmode=require");
    database.psql_as(ADMIN, "DROP ROLE plain_one");
}

#[test]
fn a_read_only_database_refuses_an_import_with_the_reason() {
    let folder = workdir("read_only");
    let archive = folder.path().join("a.zst");
    Program::new(["export"])
        .arg(fixture("sample-hooks.db"))
        .arg("-o")
        .arg(&archive)
        .run()
        .success();
    let database = database("read_only");
    let name = database.name();
    database.psql(&format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on"));
    let run = Program::new(["import"]).arg(&archive).arg("--to").arg(database.url());
    run.run().fails_with(8).stderr_has("[SQLSTATE 25006]").stderr_has("the database is read-only");
}
