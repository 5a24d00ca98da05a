//! `--role`: what a user may do as a member of a role that owns the tables.

use crate::support::cluster::{ADMIN, Cluster, Database, OWNER, PASSWORD};
use crate::support::files::{fixture, workdir};
use crate::support::program::{Output, Program};

/// A user who may do nothing but act as the owner of the databases, for the time of a test.
struct Member {
    name: &'static str,
    database: Database,
}

impl Member {
    fn new(name: &'static str) -> Member {
        let database = Cluster::get().database(name);
        database.apply_file(fixture("postgres-upstream.sql"));
        let user = format!("CREATE ROLE {name} LOGIN NOINHERIT PASSWORD '{PASSWORD}'");
        database.psql_as(ADMIN, &format!("{user}; GRANT {OWNER} TO {name}"));
        Member { name, database }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let folder = workdir(self.name);
        std::fs::copy(fixture("sample-hooks.db"), folder.path().join("x.db")).unwrap();
        let url = self.database.url_as(self.name);
        Program::new(arguments.iter().copied()).current_dir(folder.path()).env("DB", url).run()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.database.try_psql_as(ADMIN, &format!("DROP ROLE {}", self.name));
    }
}

#[test]
fn a_member_acts_as_the_owner_only_with_role() {
    let member = Member::new("a_member");
    let into = [
        "copy",
        "--from",
        "x.db",
        "--to",
        "env:DB",
        "--assume-tz",
        "UTC",
        "--trust-zone",
        "--orphans",
        "skip",
    ];
    let _ = member.run(&into).fails_with(8).stderr_has("this role may not create tables");
    let _ = member.run(&[into.as_slice(), &["--role", OWNER]].concat()).success();
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname || tablename LIKE '%chronicle_dump%'";
    assert_eq!(member.database.psql(owners), OWNER, "what is made belongs to the role");
    for line in [
        "export env:DB -o b.zst",
        "check env:DB",
        "diff env:DB env:DB",
        "history env:DB",
        "rollback last --from env:DB --dry-run",
        "copy --from env:DB --to new.db --create",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        if ["export", "check", "diff", "copy"].contains(&words[0]) {
            let run = member.run(&words);
            assert_ne!(run.code, Some(0), "{line} needs the role");
        }
        let role = if line.starts_with("copy") { "--from-role" } else { "--role" };
        let _ = member.run(&[words.as_slice(), &[role, OWNER]].concat()).success();
    }
}

#[test]
fn a_role_that_cannot_be_taken_is_explained() {
    let member = Member::new("no_member");
    let run = member.run(&["export", "env:DB", "--role", ADMIN]);
    run.fails_with(8)
        .stderr_has("permission denied to set role")
        .stderr_has("is no member of that role");
    let run = member.run(&["export", "env:DB", "--role", "no\"body"]);
    run.fails_with(8)
        .stderr_has("does not exist")
        .stderr_has("check the name of the role behind --role");
}
