//! From one project to another whose server has another version: rows and tables go over, and what does not is named.

use crate::support::cluster::{ADMIN, Cluster, Database, SUPA};
use crate::support::files::{assert_same_rows, fixture, postgres_dump};
use crate::support::migrate::{Scratch, event, session};
use crate::support::program::Program;

/// A project with rows, and with what Supabase has around its tables.
fn project(name: &str) -> Database {
    let scratch = Scratch::new(name);
    let database = Cluster::get().database_of(SUPA, name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database.apply_file_as(ADMIN, fixture("postgres-supabase-extras.sql"));
    let rows: String = (1..=3).map(session).collect::<String>()
        + &(11..=40).map(|n| event(n, n % 3 + 1, "stop")).collect::<String>();
    let archive = scratch.export(&scratch.sqlite("a.db", &["sqlite-hooks.sql"], &rows));
    let url = database.url();
    Program::new(["import", archive.to_str().expect("a path"), "--to", &url]).run().success();
    database
}

#[test]
fn a_project_moves_to_another_version_and_back() {
    let source = project("versions_source");
    let other = Cluster::of_another_version();
    assert_ne!(other.version() / 10_000, Cluster::get().version() / 10_000);
    let target = other.database_of(SUPA, "versions_target");
    let (from, to) = (source.url(), target.url());
    let copied = Program::new(["copy", "--from", &from, "--to", &to, "--create"]).run().success();
    copied
        .stderr_has("the target lacks publications that the source has: supabase_realtime of")
        .stderr_has(
            "the target lacks grants that the source has: anon (SELECT) of chronicle_events",
        );
    assert_same_rows(&postgres_dump(&source), &postgres_dump(&target));
    Program::new(["diff", &from, &to]).run().success();
    // the same bytes from both, but for what they say of their databases
    let scratch = Scratch::new("versions");
    let archives = [&from, &to].map(|url| {
        let file = scratch.path(&format!("{}.zst", url.len()));
        let file = file.to_str().expect("a path").to_owned();
        Program::new(["export", url, "-o", &file, "--reproducible"]).run().success();
        file
    });
    Program::new(["diff", &archives[0], &archives[1]]).run().success();
    // and back, into a new database of the old version
    let back = Cluster::get().database_of(SUPA, "versions_back");
    Program::new(["copy", "--from", &to, "--to", &back.url(), "--create"]).run().success();
    assert_same_rows(&postgres_dump(&source), &postgres_dump(&back));
    // a second copy of an unchanged project writes nothing, and a rollback undoes the first
    Program::new(["copy", "--from", &from, "--to", &to, "--on-conflict=update"]).run().success();
    Program::new(["rollback", "last", "--from", &to]).run().success();
}
