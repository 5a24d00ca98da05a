//! No secret that is typed where a database or a file is expected comes back in a message, however it is mangled.

use std::collections::BTreeMap;

use chronicle_dump::location::{Environment, Location, LoginOptions};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::support::files::{fixture, workdir};
use crate::support::program::Program;

/// A password with its telling parts: the whole, and what is before and behind a character that ends something
/// somewhere.
#[derive(Debug, Clone)]
struct Secret {
    text: String,
    parts: [String; 2],
}

fn secret() -> impl Strategy<Value = Secret> {
    let part = || "Zq[A-Za-z0-9]{6,10}";
    (part(), "[-_.!*^~,@/:#?%+ ]?", part()).prop_map(|(before, between, behind)| Secret {
        text: format!("{before}{between}{behind}"),
        parts: [before, behind],
    })
}

impl Secret {
    /// Whether any telling part of it is in a text.
    fn is_in(&self, text: &str) -> bool {
        self.parts.iter().any(|part| text.contains(part))
    }
}

/// Every way to get a connection string wrong that was seen, with a password in its place.
fn manglings(password: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
    let url = format!("postgres://u:{encoded}@127.0.0.1:1/d");
    let raw = format!("postgres://u:{password}@127.0.0.1:1/d");
    let all = utf8_percent_encode(&raw, NON_ALPHANUMERIC).to_string();
    // with an @ it would be the URL of another host
    let cut = format!("postgres://u:{}", password.replace('@', ""));
    vec![
        cut,
        format!("DATABASE_URL={url}"),
        format!("DATABASE_URL={raw}"),
        format!("export DATABASE_URL=\"{url}\""),
        format!("db_url = '{url}'"),
        format!("DATABASE_URL: {url}"),
        format!("\"{url}\""),
        format!("'{raw}'"),
        format!("'host=127.0.0.1 port=1 password={password}'"),
        format!("psql \"host=h password={password}\""),
        format!("psql {url}"),
        format!("psql -h h -W {password}"),
        format!("PGPASSWORD={password} psql -h h"),
        format!("pg_dump --dbname={raw}"),
        format!("postgres:{password}@h:5432/d"),
        format!("//u:{password}@h/d"),
        format!("u:{password}@h/d"),
        format!("u:{password}@h"),
        format!("u/{password}@h:5432/d"),
        format!("h:5432:d:u:{password}"),
        format!("PGPASSWORD={password}"),
        format!("export PGPASSWORD={password}"),
        format!("set PGPASSWORD={password}"),
        format!("$env:PGPASSWORD=\"{password}\""),
        format!("MY_OWN={password}"),
        format!("Server=h;Database=d;User Id=u;Password={password}"),
        format!("Host=h;Username=u;Password={password}"),
        format!("user=u Password={password}"),
        format!("host=h user=u pwd={password}"),
        format!("sqlite:{url}"),
        format!("sqlite:host=h password={password}"),
        format!("jdbc:postgresql://h/d?user=u&password={password}"),
        format!("postgresql+psycopg2://u:{password}@h/d"),
        format!("postgre://u:{password}@h/d"),
        format!("mysql://u:{password}@h/d"),
        format!("https://u:{password}@x.supabase.co/d"),
        format!("{{\"host\": \"h\", \"password\": \"{password}\"}}"),
        format!("password: {password}"),
        format!("pass:{password}"),
        format!("postgres://u:{password}@h:x/d"),
        format!("host=h password='{password}"),
        all,
    ]
}

/// Everything that the library says of a text where a database is expected.
fn said_of(text: &str) -> String {
    let nothing = |_: &str| None;
    let variables = BTreeMap::from([("USER", "system")]);
    let variable =
        |name: &str| variables.get(name).map(|v| (*v).to_owned()).or_else(|| nothing(name));
    let environment =
        Environment { variable: &variable, home: None, login: LoginOptions::default() };
    match Location::parse(text, &environment) {
        Ok(location @ Location::Postgres(_)) => {
            format!("{location} {location:?} {}", location.name())
        }
        // a name of a file: the program does not repeat it unless it is there
        Ok(Location::Sqlite(_)) => String::new(),
        Err(error) => {
            format!("{} {:?} {:?} {error:?}", error.full(), error.details(), error.next_step())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mangled_string_brings_its_secret_into_a_message(secret in secret()) {
        for text in manglings(&secret.text) {
            let said = said_of(&text);
            prop_assert!(!secret.is_in(&said), "{text}: {said}");
        }
    }
}

#[test]
fn the_program_repeats_no_secret_in_any_place() {
    let folder = workdir("secrets");
    std::fs::copy(fixture("sample-hooks.db"), folder.path().join("x.db")).unwrap();
    let archive = Program::new(["export", "x.db", "-o", "a.zst"]).current_dir(folder.path()).run();
    archive.success();
    let places: [&[&str]; 25] = [
        &["export"],
        &["export", "-o"],
        &["export", "x.db", "--layout"],
        &["export", "x.db", "--password-file"],
        &["export", "x.db"],
        &["import", "a.zst", "--to"],
        &["import", "a.zst", "--create", "--dry-run", "--to"],
        &["import", "--to", "x.db"],
        &["copy", "--to", "x.db", "--from"],
        &["copy", "--from", "x.db", "--to"],
        &["copy", "--to", "x.db", "--config"],
        &["copy", "--from", "x.db", "--to", "y.db", "--from-password-file"],
        &["check"],
        &["check", "--from"],
        &["check", "a.zst", "--to"],
        &["verify"],
        &["verify", "a.zst", "--against"],
        &["inspect"],
        &["cat"],
        &["diff", "a.zst"],
        &["schema"],
        &["service", "print", "cron", "--sync-to", "x.db", "--from"],
        &["service", "print", "systemd", "--from", "x.db", "--sync-to"],
        &["service", "print", "launchd", "--from", "x.db", "--archive-to"],
        &["service", "print", "cron", "--from=x.db", "--sync-to=x.db", "--password-file"],
    ];
    let mut runner = TestRunner::deterministic();
    for (n, place) in places.iter().enumerate() {
        let secret = secret().new_tree(&mut runner).unwrap().current();
        for (m, text) in manglings(&secret.text).into_iter().enumerate() {
            // as an argument it has no NUL, and a test has no hour: every second one as JSON
            let json: &[&str] = if (n + m) % 2 == 0 { &["--json"] } else { &[] };
            let program = Program::new(place.iter().chain(json).copied()).arg(&text);
            let run = program.current_dir(folder.path()).run();
            let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), run.stderr);
            assert!(!secret.is_in(&said), "{place:?} {text}: {said}");
        }
    }
    let left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["x.db", "a.zst"].contains(&name.as_str()))
        .collect();
    assert!(left.is_empty(), "nothing was called after a mangled string: {left:?}");
}

#[test]
fn a_mangled_string_is_named_for_what_it_looks_like() {
    for (text, what, how) in [
        ("psql \"host=h\"", "a command", "give the connection string alone"),
        ("sqlite:postgres://u@h/d", "behind sqlite:", "leave sqlite: out"),
        ("DATABASE_URL: postgres://u@h/d", "something in front of it", "give the URL alone"),
        ("postgre://u@h/d", "a URL", "write postgresql://"),
        ("//u:p@h/d", "a URL without its beginning", "write postgresql://"),
        ("PGPASSWORD=x", "a variable and its value", "set the variable before the command"),
        ("Server=h;Password=x", "of another program", "write postgresql://"),
        ("h:5432:d:u:p", "a line of a pass file", "~/.pgpass"),
        ("postgres%3A%2F%2Fh", "percent-encoded as a whole", "within its parts"),
        ("password: x", "a password", "PGPASSWORD"),
    ] {
        let run = Program::new(["export", text]).run().fails_with(2);
        run.stderr_has(what).stderr_has(how);
    }
}

#[test]
fn a_pasted_assignment_is_understood() {
    let database = crate::support::cluster::Cluster::get().database("pasted");
    database.apply_file(fixture("postgres-upstream.sql"));
    let url = database.url();
    for text in [
        format!("DATABASE_URL={url}"),
        format!("export DATABASE_URL='{url}'"),
        format!("\"{url}\""),
        format!("  db_url = \"{url}\" "),
    ] {
        let run = Program::new(["export"]).arg(&text).run().success();
        run.stderr_has("taken out of the text around it");
    }
}

#[test]
fn a_typed_password_earns_one_note() {
    let database = crate::support::cluster::Cluster::get().database("typed");
    database.apply_file(fixture("postgres-upstream.sql"));
    let url = database.url();
    let note = "is visible to every user of this machine (ps)";
    let run = Program::new(["diff"]).arg(&url).arg(&url).run().success();
    assert_eq!(run.stderr.matches(note).count(), 1, "{}", run.stderr);
    let run = Program::new(["export", "-q"]).arg(&url).run().success();
    run.stderr_lacks(note);
    let (before, behind) = url.split_once(':').unwrap();
    let (user, host) = behind.split_once('@').unwrap();
    let (user, _) = user.rsplit_once(':').unwrap();
    let bare = format!("{before}:{user}@{host}");
    let password = crate::support::cluster::PASSWORD;
    let run = Program::new(["export"]).arg(&bare).env("PGPASSWORD", password).run().success();
    run.stderr_lacks(note);
}
