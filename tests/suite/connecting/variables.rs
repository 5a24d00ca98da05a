//! `env:NAME` where a database is expected: only the variable that is named, and never what it holds.

use rusqlite::Connection;

use crate::support::cluster::Cluster;
use crate::support::files::{fixture, workdir};
use crate::support::program::Program;

/// Passwords and keys that no message may have.
const HIDDEN: [&str; 4] = ["Zq7", "hidden", "eyJ", "sb_secret"];

#[test]
fn a_variable_names_a_database_for_every_command() {
    let (one, two) = (Cluster::get().database("by_env_one"), Cluster::get().database("by_env_two"));
    for database in [&one, &two] {
        database.apply_file(fixture("postgres-upstream.sql"));
    }
    let folder = workdir("by_env");
    let run = |line: &str| {
        let program = Program::new(line.split(' ')).current_dir(folder.path());
        program.env("ONE", one.url()).env("TWO", two.url()).run().success()
    };
    std::fs::copy(fixture("sample-hooks.db"), folder.path().join("x.db")).unwrap();
    let _ = run("copy --from x.db --to env:ONE --assume-tz UTC --trust-zone --orphans skip");
    // no password was typed
    run("export env:ONE -o a.zst").stderr_lacks("is visible to every user");
    for line in [
        "verify a.zst --against env:ONE",
        "diff a.zst env:ONE",
        "check env:ONE",
        "check a.zst --to env:TWO",
        "import a.zst --to env:TWO",
        "diff env:ONE env:TWO",
        "history env:TWO",
        "rollback last --from env:TWO --dry-run",
        "restore a.zst --to env:TWO --dry-run",
    ] {
        let _ = run(line);
    }
}

#[test]
fn a_variable_may_hold_the_path_of_a_file() {
    let run = Program::new(["check", "env:CHRONICLE_FILE"]);
    let file = fixture("sample-hooks.db");
    run.env("CHRONICLE_FILE", file).run().success().stdout_has("sample-hooks.db");
}

#[test]
fn a_variable_without_a_database_is_explained() {
    for (name, value, code, what, how) in [
        ("DATABASE_URL", None, 2, "the variable DATABASE_URL is not set", "export NAME="),
        ("DATABASE_URL", Some(""), 2, "the variable DATABASE_URL is empty", "connection string"),
        ("DATABASE_URL", Some("  "), 2, "the variable DATABASE_URL is empty", "connection string"),
        ("DB", Some("hidden.db"), 7, "nor the path of a file that exists", "postgresql://"),
        ("DB", Some("env:DATABASE_URL"), 7, "nor the path of a file", "postgresql://"),
        ("DB", Some("postgres://u:Zq7@h:x/d"), 2, "the variable DB: ", "PGPASSWORD"),
        ("DB", Some("u:Zq7@h/d"), 2, "a URL without its beginning", "postgresql://"),
        ("DB", Some("postgres://u:[YOUR-PASSWORD]@h/d"), 2, "placeholder", "PGPASSWORD"),
        (
            "SUPABASE_URL",
            Some("https://abcdefghijklmnopqrst.supabase.co"),
            2,
            "the variable SUPABASE_URL: this is the address of a Supabase project's API",
            "postgres.abcdefghijklmnopqrst@",
        ),
        (
            "SUPABASE_URL",
            Some("https://api.hidden.example"),
            2,
            "address of a project's API",
            "choose \"Session pooler\"",
        ),
        (
            "SUPABASE_SERVICE_ROLE_KEY",
            Some("eyJhbGciOiJIUzI1NiJ9.e30.x"),
            2,
            "holds a key",
            "the service_role or secret key is not the database password",
        ),
        ("SUPABASE_SECRET_KEY", Some("sb_secret_Zq7"), 2, "holds a key", "Session pooler"),
    ] {
        let program = Program::new(["export"]).arg(format!("env:{name}"));
        let program = value.iter().fold(program, |program, value| program.env(name, value));
        let run = program.run().fails_with(code);
        for hidden in HIDDEN {
            assert!(!run.stderr.contains(hidden), "{run:?}");
        }
        run.stderr_has(what).stderr_has(how);
    }
    for typed in ["env:", "env:a b", "env:postgres://u:Zq7@h/d"] {
        let run = Program::new(["export", typed]).run().fails_with(2);
        run.stderr_has("behind env: there is no name of a variable").stderr_lacks("Zq7");
    }
}

#[test]
fn no_variable_is_looked_at_unless_it_is_named() {
    let folder = workdir("bare");
    let home = folder.path().join(".claude/hooks/chronicle/data");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(fixture("sample-hooks.db"), home.join("chronicle.db")).unwrap();
    let rows = Connection::open(home.join("chronicle.db")).unwrap();
    let sessions: i64 =
        rows.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert!(sessions > 0);
    let names = [
        "DATABASE_URL",
        "SUPABASE_DB_URL",
        "CHRONICLE_DUMP_DB_URL",
        "POSTGRES_URL",
        "POSTGRES_URL_NON_POOLING",
        "DIRECT_URL",
        "PGHOST",
    ];
    let program = Program::new(["export"]).env("HOME", folder.path());
    let set = |program: Program, name: &&str| program.env(name, "postgres://u:Zq7@127.0.0.1:1/d");
    let run = names.iter().fold(program, set).run().success();
    run.stderr_has("chronicle.db").stderr_lacks("Zq7");
}

#[test]
fn a_unit_takes_no_variable_of_the_shell() {
    let program = Program::new(["service", "print", "cron", "--sync-to", "env:ONE", "--from"]);
    let run = program.arg(fixture("sample-hooks.db")).env("ONE", "postgres://u@h/d");
    run.run().fails_with(2).stderr_has("a unit does not have the variables of this shell");
}
