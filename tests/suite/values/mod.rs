//! Values on their way between tables of any types: what is loaded, what comes back, and what is refused.

mod check_agrees;
mod columns;
mod nearest;
mod precision;
mod server_refusals;
mod spelling;

use std::path::PathBuf;

use serde_json::Value as Json;

use super::support::cluster::{ADMIN, Cluster, Database};
use super::support::migrate::{Scratch, fill, json_of, words};
use super::support::program::{Output, Program};

/// Every policy for values, with whether a row may be left out and whether another value may be loaded.
const POLICIES: [&str; 4] = ["fail", "adapt", "preserve", "reject"];

/// A SQLite file and a Postgres database with a table `t` each, whose key is `id`.
struct Pair {
    scratch: Scratch,
    server: Database,
    source: String,
}

impl Pair {
    /// Both databases, with what SQL puts into them.
    #[track_caller]
    fn new(test_name: &str, sqlite: &str, postgres: &str) -> Pair {
        let server = Cluster::get().database(test_name);
        Pair::on(server, test_name, sqlite, postgres)
    }

    /// The same on a database that is there.
    #[track_caller]
    fn on(server: Database, test_name: &str, sqlite: &str, postgres: &str) -> Pair {
        let scratch = Scratch::new(test_name);
        for backend in ["sqlite", "postgres"] {
            let layout = format!(
                "name = \"v-{backend}\"\ntitle = \"v\"\nbackend = \"{backend}\"\n[[stream]]\n\
                 name = \"things\"\nrole = \"side\"\ntable = \"t\"\nrequires = [\"id\"]\nkey = [\"id\"]\n\
                 order = [\"id\"]\n"
            );
            std::fs::write(scratch.path(backend), layout).unwrap();
        }
        server.psql_as(ADMIN, "GRANT ALL ON SCHEMA public TO PUBLIC");
        let source = words(&scratch.path("source.db")).to_owned();
        fill(&source, sqlite);
        let pair = Pair { scratch, server, source };
        pair.psql(postgres);
        pair
    }

    /// Runs SQL in the Postgres database.
    #[track_caller]
    fn psql(&self, sql: &str) -> String {
        self.server.psql(sql)
    }

    fn layout(&self, backend: &str) -> String {
        words(&self.scratch.path(backend)).to_owned()
    }

    /// An archive of the file as it is now.
    #[track_caller]
    fn archive(&self) -> String {
        self.export(&self.source, "sqlite", "source.zst")
    }

    /// An archive of the Postgres database as it is now.
    #[track_caller]
    fn archive_of_server(&self) -> String {
        self.export(&self.server.url(), "postgres", "server.zst")
    }

    #[track_caller]
    fn export(&self, from: &str, backend: &str, name: &str) -> String {
        let archive = self.scratch.path(name);
        let _ = std::fs::remove_file(&archive);
        let layout = self.layout(backend);
        let args = ["export", from, "--layout", &layout, "-o", words(&archive)];
        Program::new(args).run().success();
        words(&archive).to_owned()
    }

    /// Runs `check` or `import` of an archive into the server under a policy.
    #[track_caller]
    fn run(&self, command: &str, archive: &str, policy: &str) -> Output {
        let (url, layout) = (self.server.url(), self.layout("postgres"));
        let (policy_arg, rejects) = (format!("--on-unrepresentable={policy}"), self.rejects());
        let mut args =
            vec![command, archive, "--to", &url, "--layout", &layout, "--json", &policy_arg];
        let rejects = format!("--rejects={}", words(&rejects));
        if policy == "reject" && command == "import" {
            args.push(&rejects);
        }
        Program::new(args).run()
    }

    fn rejects(&self) -> PathBuf {
        let path = self.scratch.path("rejects.zst");
        let _ = std::fs::remove_file(&path);
        path
    }

    /// Checks and imports the file under a policy: both have to end alike. Gives what each said.
    #[track_caller]
    fn both(&self, policy: &str) -> (Json, Output) {
        let archive = self.archive();
        let checked = self.run("check", &archive, policy);
        let imported = self.run("import", &archive, policy);
        assert_eq!(
            checked.code,
            imported.code,
            "check and import disagree under {policy}\n{}\n{}\n{}",
            checked.text(),
            imported.text(),
            imported.stderr
        );
        (json_of(&checked), imported)
    }

    /// Whether the server gives back an archive, value for value.
    #[track_caller]
    fn gives_back(&self, archive: &str) {
        let back = self.archive_of_server();
        Program::new(["diff", archive, &back]).run().success();
    }
}

/// The rows that an import inserted.
#[track_caller]
fn inserted(done: &Output) -> u64 {
    json_of(done)["streams"][0]["inserted_rows"].as_u64().expect("a number of rows")
}

/// A text as a literal of both databases.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
