//! Keys and references of any width in Postgres, for a role that may silence references and one that may not.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::super::support::cluster::{ADMIN, Cluster, Database, OWNER, SUPA};
use super::super::support::files::fixture;
use super::super::support::migrate::{Scratch, fill, json_of, postgres, session, words};
use super::super::support::program::{Output, Program};

/// The roles that load rows: one has to obey the server's references, one may silence them.
const ROLES: [&str; 2] = [OWNER, SUPA];

/// Two databases with the same tables, and the layouts of both.
struct Pair {
    scratch: Scratch,
    server: Database,
    source: String,
}

impl Pair {
    /// Tables with their keys, as layouts name them; `role:table` gives a table a role.
    fn new(role: &str, tables: &[(&str, &[&str])], sqlite: &str, server_sql: &str) -> Pair {
        let scratch = Scratch::new("keys");
        for backend in ["sqlite", "postgres"] {
            let mut layout = format!("name = \"k\"\ntitle = \"k\"\nbackend = \"{backend}\"\n");
            for (table, key) in tables {
                let (role, table) = table.split_once(':').unwrap_or(("side", table));
                writeln!(
                    layout,
                    "[[stream]]\nname = \"{table}\"\nrole = \"{role}\"\ntable = \"{table}\"\n\
                     requires = {key:?}\nkey = {key:?}\norder = {key:?}"
                )
                .unwrap();
            }
            std::fs::write(scratch.path(backend), layout).unwrap();
        }
        let server = Cluster::get().database_of(role, "keys");
        server.psql_as(ADMIN, "GRANT ALL ON SCHEMA public TO PUBLIC");
        server.psql(server_sql);
        let source = words(&scratch.path("source.db")).to_owned();
        fill(&source, sqlite);
        Pair { scratch, server, source }
    }

    fn layout(&self, backend: &str) -> String {
        words(&self.scratch.path(backend)).to_owned()
    }

    /// An archive of the source in its present state.
    #[track_caller]
    fn archive(&self) -> PathBuf {
        let archive = self.scratch.path("archive.zst");
        let layout = self.layout("sqlite");
        let _ = std::fs::remove_file(&archive);
        let args = ["export", &self.source, "--layout", &layout, "-o", words(&archive)];
        Program::new(args).run().success();
        archive
    }

    /// Runs a command that brings the archive to the server.
    #[track_caller]
    fn run(&self, command: &str, options: &[&str]) -> Output {
        let (archive, layout) = (self.archive(), self.layout("postgres"));
        let url = self.server.url();
        let args = [command, words(&archive), "--to", &url, "--layout", &layout];
        Program::new(args.iter().chain(options)).run()
    }

    /// Checks, tries and imports; all three have to agree.
    #[track_caller]
    fn import(&self, options: &[&str]) -> Output {
        let check = self.run("check", options).code;
        let dry = self.run("import", &[options, &["--dry-run"]].concat()).code;
        let done = self.run("import", options);
        assert_eq!([check, dry], [done.code; 2], "check, dry run and import disagree");
        done
    }

    fn ask(&self, sql: &str) -> String {
        self.server.psql(sql)
    }
}

/// The rows of each stream that an import inserted and skipped.
fn counts(done: &Output) -> Vec<(u64, u64)> {
    let json = json_of(done);
    let count = |stream: &serde_json::Value, name: &str| stream[name].as_u64().unwrap();
    (json["streams"].as_array().unwrap().iter())
        .map(|s| (count(s, "inserted_rows"), count(s, "skipped_rows")))
        .collect()
}

const PARENT_AND_CHILD: &str = "CREATE TABLE p (a INTEGER, b TEXT, PRIMARY KEY (a, b)); \
    CREATE TABLE c (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);";

#[test]
fn a_second_import_by_a_composite_key_changes_nothing() {
    for role in ROLES {
        let pair = Pair::new(
            role,
            &[("c", &["a", "b"]), ("m", &["a", "b"])],
            "CREATE TABLE c (a INTEGER, b TEXT, t TEXT, PRIMARY KEY (a, b)); \
             CREATE TABLE m (a INTEGER, b INTEGER, PRIMARY KEY (a, b)); \
             INSERT INTO c VALUES (1, 'x', 'one'), (1, 'y', 'two'), (2, 'x', 'three'); \
             INSERT INTO m VALUES (1, 1), (1, 2);",
            "CREATE TABLE c (a bigint, b text, t text, PRIMARY KEY (a, b)); \
             CREATE TABLE m (a bigint, b bigint, PRIMARY KEY (a, b));",
        );
        assert_eq!(counts(&pair.import(&["--json"]).success()), [(3, 0), (2, 0)]);
        assert_eq!(counts(&pair.import(&["--json"]).success()), [(0, 3), (0, 2)]);
        fill(&pair.source, "INSERT INTO m VALUES (2, 1)");
        assert_eq!(counts(&pair.import(&["--json"]).success()), [(0, 3), (1, 2)]);
        fill(&pair.source, "UPDATE c SET t = 'other' WHERE a = 1 AND b = 'y'");
        pair.import(&[]).fails_with(11).stderr_has("another value in").stderr_has("key 1, y");
        assert_eq!(pair.ask("SELECT string_agg(t, ' ' ORDER BY a, b) FROM c"), "one two three");
    }
}

#[test]
fn the_key_of_a_wide_row_finds_its_entry_in_the_sidecar() {
    let pair = Pair::new(
        OWNER,
        &[("c", &["a", "b"])],
        "CREATE TABLE c (a TEXT, b TEXT, t TEXT, PRIMARY KEY (a, b)); \
         INSERT INTO c VALUES ('x, y', 'z', 'n' || char(0) || '1'), ('x', 'y, z', 'n' || char(0) || '2'), \
                              ('x\\', 'y', 'n' || char(0) || '3'), ('plain', 'row', 'as it is');",
        "CREATE TABLE c (a text, b text, t text, PRIMARY KEY (a, b));",
    );
    let archive = pair.archive();
    for _ in 0..2 {
        pair.run("import", &["--on-unrepresentable=preserve"]).success();
    }
    let back = pair.scratch.path("back.zst");
    let (url, layout) = (pair.server.url(), pair.layout("postgres"));
    let args = ["export", &url, "--layout", &layout, "-o", words(&back)];
    Program::new(args).run().success();
    Program::new(["diff", words(&archive), words(&back)]).run().success();
}

#[test]
fn orphans_of_a_wide_reference_follow_each_policy() {
    let rows = "INSERT INTO p VALUES (1, 'x'); \
        INSERT INTO c VALUES (1, 1, 'x'), (2, 9, 'x'), (3, NULL, 'x'), (4, 1, NULL);";
    let server = "CREATE TABLE p (a bigint, b text, PRIMARY KEY (a, b)); \
        CREATE TABLE c (id bigint PRIMARY KEY, a bigint, b text, \
                        CONSTRAINT c_p FOREIGN KEY (a, b) REFERENCES p);";
    let ids = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM c";
    for role in ROLES {
        let tables: [(&str, &[&str]); 2] = [("sessions:p", &["a", "b"]), ("c", &["id"])];
        let pair = Pair::new(role, &tables, &format!("{PARENT_AND_CHILD}{rows}"), server);
        for policy in ["fail", "keep"] {
            let done = pair.import(&[&format!("--orphans={policy}")]).fails_with(12);
            // references that the server enforces are reported by the server
            done.stderr_has(match role {
                OWNER => "c: row 2 (key 2), column a, b: ",
                _ => "by \"a, b\" (orphan: 2 -> 9, x",
            });
        }
        pair.import(&["--orphans=skip"]).success();
        assert_eq!(pair.ask(ids), "1 3 4");
        pair.import(&["--orphans=adopt"]).success();
        assert_eq!(pair.ask(ids), "1 2 3 4");
        assert_eq!(pair.ask("SELECT count(*) FROM p WHERE (a, b) = (9, 'x')"), "1");
    }
}

#[test]
fn half_a_reference_with_match_full_is_an_orphan() {
    let rows = "INSERT INTO p VALUES (1, 'x'); \
        INSERT INTO c VALUES (1, 1, 'x'), (2, NULL, 'x'), (3, NULL, NULL);";
    let server = "CREATE TABLE p (a bigint, b text, PRIMARY KEY (a, b)); \
        CREATE TABLE c (id bigint PRIMARY KEY, a bigint, b text, \
                        FOREIGN KEY (a, b) REFERENCES p MATCH FULL);";
    for role in ROLES {
        let tables: [(&str, &[&str]); 2] = [("p", &["a", "b"]), ("c", &["id"])];
        let pair = Pair::new(role, &tables, &format!("{PARENT_AND_CHILD}{rows}"), server);
        pair.import(&[]).fails_with(12);
        pair.import(&["--orphans=skip"]).success();
        assert_eq!(pair.ask("SELECT count(*) FROM c"), "2");
    }
}

/// A table that refers to itself, with rows that refer to later ones.
fn tree(role: &str, constraint: &str, rows: &str) -> Pair {
    Pair::new(
        role,
        &[("n", &["id"])],
        &format!("CREATE TABLE n (id INTEGER PRIMARY KEY, up INTEGER); {rows}"),
        &format!("CREATE TABLE n (id bigint PRIMARY KEY, up bigint REFERENCES n{constraint})"),
    )
}

#[test]
fn a_table_may_refer_to_its_own_later_rows() {
    let rows = "WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 3000) \
                INSERT INTO n SELECT n, 3001 - n FROM i;";
    for role in ROLES {
        for constraint in ["", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"] {
            let pair = tree(role, constraint, rows);
            assert_eq!(counts(&pair.import(&["--json"]).success()), [(3000, 0)]);
            fill(&pair.source, "INSERT INTO n VALUES (4001, 4002), (4002, 4001), (4003, 1)");
            assert_eq!(counts(&pair.import(&["--json"]).success()), [(3, 3000)]);
            let valid = "SELECT string_agg(pg_get_constraintdef(oid), '') FROM pg_constraint \
                         WHERE contype = 'f' AND convalidated";
            assert_eq!(pair.ask(valid), format!("FOREIGN KEY (up) REFERENCES n(id){constraint}"));
        }
    }
}

#[test]
fn rows_below_an_orphan_are_left_out_with_it() {
    let rows = "INSERT INTO n VALUES (1, 99), (2, 1), (3, 2), (4, 3), (5, NULL), (6, 5);";
    for role in ROLES {
        let pair = tree(role, "", rows);
        pair.import(&[])
            .fails_with(12)
            .stderr_has("1 n refers to a missing row by \"up\" (orphan: ")
            .stderr_has("1 -> 99");
        let done = pair.import(&["--orphans=skip", "--json"]).success();
        assert_eq!(json_of(&done)["streams"][0]["skipped_orphans"], 4);
        assert_eq!(pair.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM n"), "5 6");
    }
}

#[test]
fn two_tables_may_refer_to_each_other() {
    let sqlite = "CREATE TABLE a (id INTEGER PRIMARY KEY, b INTEGER); \
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER); \
        CREATE TABLE c (id INTEGER PRIMARY KEY, a INTEGER); \
        INSERT INTO a VALUES (1, 11), (2, NULL), (3, 12); INSERT INTO b VALUES (11, 2), (12, 3); \
        INSERT INTO c VALUES (21, 3);";
    let server = "CREATE TABLE a (id bigint PRIMARY KEY, b bigint); \
        CREATE TABLE b (id bigint PRIMARY KEY, a bigint NOT NULL REFERENCES a); \
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; \
        CREATE TABLE c (id bigint PRIMARY KEY, a bigint REFERENCES a);";
    let all = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(*) FROM c)";
    for role in ROLES {
        let tables: [(&str, &[&str]); 3] = [("a", &["id"]), ("b", &["id"]), ("c", &["id"])];
        let pair = Pair::new(role, &tables, sqlite, server);
        pair.import(&[]).success();
        assert_eq!(pair.ask(all), "3|2|1");
        // a row that refers to nothing takes along all that refer to it, round the cycle
        fill(
            &pair.source,
            "INSERT INTO a VALUES (4, 99), (5, 13); INSERT INTO b VALUES (13, 4); \
             INSERT INTO c VALUES (22, 5)",
        );
        pair.import(&[]).fails_with(12).stderr_has("4 -> 99");
        pair.import(&["--orphans=skip"]).success();
        assert_eq!(pair.ask(all), "3|2|1");
    }
}

#[test]
fn deferred_references_and_triggers_go_together() {
    let server = "CREATE TABLE p (a bigint, b text, PRIMARY KEY (a, b)); \
        CREATE TABLE c (id bigint PRIMARY KEY, a bigint, b text, \
                        FOREIGN KEY (a, b) REFERENCES p DEFERRABLE INITIALLY DEFERRED); \
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''fired''; END'; \
        CREATE TRIGGER refuse BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION refuse();";
    for role in ROLES {
        let tables: [(&str, &[&str]); 2] = [("p", &["a", "b"]), ("c", &["id"])];
        let rows = "INSERT INTO p VALUES (1, 'x'); INSERT INTO c VALUES (1, 1, 'x');";
        let pair = Pair::new(role, &tables, &format!("{PARENT_AND_CHILD}{rows}"), server);
        pair.import(&[]).success();
        fill(&pair.source, "INSERT INTO c VALUES (2, 2, 'x')");
        pair.import(&[]).fails_with(12).stderr_has("2 -> 2, x");
        let enabled = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'refuse'";
        assert_eq!(pair.ask(enabled), "O");
    }
}

#[test]
fn a_reference_may_be_to_a_unique_column_outside_the_key() {
    let sqlite = "CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT); \
        CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT); \
        INSERT INTO p VALUES (1, 'one'), (2, 'two'); INSERT INTO c VALUES (1, 'two');";
    let server = "CREATE TABLE p (id bigint PRIMARY KEY, code text UNIQUE); \
        CREATE TABLE c (id bigint PRIMARY KEY, code text REFERENCES p (code));";
    for role in ROLES {
        let tables: [(&str, &[&str]); 2] = [("sessions:p", &["id"]), ("c", &["id"])];
        let pair = Pair::new(role, &tables, sqlite, server);
        pair.import(&[]).success();
        fill(&pair.source, "INSERT INTO c VALUES (2, 'six')");
        // no row can be created of which only such a value is known
        for policy in ["fail", "adopt"] {
            let done = pair.import(&[&format!("--orphans={policy}")]);
            done.fails_with(12).stderr_has("by \"code\" (orphan: 2 -> six");
        }
        pair.import(&["--orphans=skip"]).success();
        assert_eq!(pair.ask("SELECT count(*) FROM c"), "1");
    }
}

#[test]
fn a_key_meets_the_row_that_the_server_says_is_equal() {
    let collation = "CREATE COLLATION lenient (provider = icu, locale = 'und-u-ks-level2', \
                                               deterministic = false); \
        CREATE TABLE p (k text COLLATE lenient PRIMARY KEY, t text); \
        CREATE TABLE c (id bigint PRIMARY KEY, k text COLLATE lenient REFERENCES p);";
    let citext = "CREATE EXTENSION citext; CREATE TABLE p (k citext PRIMARY KEY, t text); \
        CREATE TABLE c (id bigint PRIMARY KEY, k citext REFERENCES p);";
    let sqlite = "CREATE TABLE p (k TEXT PRIMARY KEY, t TEXT); \
        CREATE TABLE c (id INTEGER PRIMARY KEY, k TEXT); \
        INSERT INTO p VALUES ('kim', 'same'), ('lee', 'new'); INSERT INTO c VALUES (1, 'KIM');";
    for (server, role) in [(collation, OWNER), (collation, SUPA), (citext, OWNER), (citext, SUPA)] {
        let rows = "INSERT INTO p VALUES ('Kim', 'same')";
        let tables: [(&str, &[&str]); 2] = [("p", &["k"]), ("c", &["id"])];
        let pair = Pair::new(role, &tables, sqlite, &format!("{server}{rows}"));
        assert_eq!(counts(&pair.import(&["--json"]).success()), [(1, 1), (1, 0)]);
        assert_eq!(pair.ask("SELECT string_agg(k::text, ' ' ORDER BY t DESC) FROM p"), "Kim lee");
        // values are compared to the letter
        fill(&pair.source, "UPDATE p SET t = 'Same' WHERE k = 'kim'");
        pair.import(&[]).fails_with(11).stderr_has("first: key kim");
        fill(
            &pair.source,
            "UPDATE p SET t = 'same' WHERE k = 'kim'; INSERT INTO p VALUES ('LEE', 'new')",
        );
        pair.import(&[]).fails_with(11).stderr_has("the archive contains the key twice");
    }
}

#[test]
fn rows_under_another_key_are_met_in_trees_and_by_wide_keys() {
    let ddl = "CREATE TABLE tree (id bigint PRIMARY KEY, up bigint REFERENCES tree, name text UNIQUE); \
        CREATE TABLE p (a bigint, b bigint, name text UNIQUE, PRIMARY KEY (a, b)); \
        CREATE TABLE c (id bigint PRIMARY KEY, a bigint, b bigint, FOREIGN KEY (a, b) REFERENCES p);";
    let rows = "INSERT INTO tree VALUES (1, 3, 'leaf'), (2, 1, 'bud'), (3, NULL, 'root'); \
        INSERT INTO p VALUES (1, 1, 'met'), (1, 2, 'new'); INSERT INTO c VALUES (1, 1, 1), (2, 1, 2);";
    let there = "INSERT INTO tree VALUES (70, NULL, 'root'); INSERT INTO p VALUES (7, 8, 'met');";
    for role in ROLES {
        let tables: [(&str, &[&str]); 3] = [("tree", &["id"]), ("p", &["a", "b"]), ("c", &["id"])];
        let pair = Pair::new(role, &tables, &format!("{ddl}{rows}"), &format!("{ddl}{there}"));
        assert_eq!(counts(&pair.import(&["--json"]).success()), [(2, 1), (1, 1), (2, 0)]);
        let tree = "SELECT string_agg(id || '>' || coalesce(up, 0), ' ' ORDER BY id) FROM tree";
        assert_eq!(pair.ask(tree), "70>0 71>70 73>71");
        let children = "SELECT string_agg(id || '>' || a || b, ' ' ORDER BY id) FROM c";
        assert_eq!(pair.ask(children), "1>78 2>12");
        assert_eq!(counts(&pair.import(&["--json"]).success()), [(0, 3), (0, 2), (0, 2)]);
    }
}

/// A session with a value that the server's `jsonb` cannot hold.
fn with_original() -> String {
    session(1) + "UPDATE sessions SET metadata = '{\"nul\": \"\\u0000\"}';"
}

const PRESERVE: &[&str] = &["--on-unrepresentable=preserve", "--assume-tz=UTC"];

#[test]
fn the_sidecar_of_each_schema_is_in_a_schema_of_its_own() {
    let scratch = Scratch::new("own_schema");
    let source = scratch.sqlite("source.db", &["sqlite-hooks.sql"], &with_original());
    let server = postgres("postgres-upstream.sql", "own_schema", "CREATE SCHEMA other");
    let other = format!("{}?schema=other", server.url());
    scratch.shift(&source, &server.url(), PRESERVE).success();
    scratch.shift(&source, &other, &[PRESERVE, &["--create=upstream"]].concat()).success();
    let entries = "SELECT string_agg(schema_name, ' ' ORDER BY schema_name) FROM \
                   (SELECT DISTINCT schema_name, table_name FROM chronicle_dump.sidecar) s";
    assert_eq!(server.psql(entries), "other public");
    let beside = "SELECT count(*) FROM pg_class WHERE relname LIKE 'chronicle_dump%'";
    assert_eq!(server.psql(beside), "0");
    server.psql("DELETE FROM chronicle_dump.sidecar WHERE schema_name = 'public'");
    let restored = |url: &str| {
        let (before, back) = (scratch.export(&source), scratch.export(url));
        Program::new(["diff", words(&before), words(&back)]).run()
    };
    restored(&other).success();
    restored(&server.url()).fails_with(15);
}

#[test]
fn a_role_without_schema_rights_gets_tables_with_the_data() {
    let scratch = Scratch::new("no_schema");
    let source = scratch.sqlite("source.db", &["sqlite-hooks.sql"], &with_original());
    let server = Cluster::get().database_of(ADMIN, "no_schema");
    server.psql(&format!("GRANT ALL ON SCHEMA public TO {OWNER}"));
    server.apply_file_as(OWNER, fixture("postgres-upstream.sql"));
    let url = server.url_as(OWNER);
    for _ in 0..2 {
        scratch.shift(&source, &url, PRESERVE).success();
    }
    let place = "SELECT string_agg(oid::regclass::text, ' ' ORDER BY relname) FROM pg_class \
                 WHERE relname LIKE '%sidecar%' AND relkind = 'r' AND relrowsecurity";
    assert_eq!(server.psql(place), "chronicle_dump_sidecar chronicle_dump_sidecar_columns");
    let (before, back) = (scratch.export(&source), scratch.export(&url));
    Program::new(["diff", words(&before), words(&back)]).run().success();
}
