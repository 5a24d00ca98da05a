//! Integer ids of several databases: the same number is not the same row, and a row is the same wherever it went.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::numbers::where_ids_are_numbers;
use super::*;

/// Sessions without an event of their own, and events of another session.
const STRANGERS: &str = "SELECT count(*) FROM chronicle_events e LEFT JOIN chronicle_sessions s \
    ON s.id = e.session_id WHERE CAST(e.data AS text) NOT LIKE '%\"' || s.project_path || '\"%' \
    OR s.id IS NULL";
const COUNTS: &str = "SELECT (SELECT count(*) FROM chronicle_sessions), \
    (SELECT count(*) FROM chronicle_events)";

#[test]
fn numbers_of_two_machines_never_meet() {
    let scratch = Scratch::new("two_machines");
    let archives = ["/tea", "/coffee"].map(|project| {
        let file =
            scratch.sqlite(&format!("{}.db", &project[1..]), TUTORIAL, &numbered(1, project));
        scratch.export(&file)
    });
    for order in [[0, 1], [1, 0]] {
        let name = format!("two_machines_{}", order[0]);
        for (to, query) in where_ids_are_numbers(&scratch, &name) {
            let [first, second] = order.map(|n| words(&archives[n]));
            let at_once =
                ["import", first, second, "--to", &to, "--on-missing-column=fold", "--quiet"];
            Program::new(at_once).run().success();
            for archive in [first, second, first] {
                import(std::path::Path::new(archive), &to, TUTORIAL_OPTIONS).success();
                assert_eq!(
                    (query(COUNTS).as_str(), query(STRANGERS).as_str()),
                    ("6|6", "0"),
                    "{to}"
                );
            }
            if let Some(file) = to.strip_suffix(".db") {
                std::fs::remove_file(format!("{file}.db")).expect("remove the file");
            }
        }
    }
}

#[test]
fn a_dry_run_of_several_archives_counts_what_their_import_does() {
    let scratch = Scratch::new("numbers_dry_run");
    let tea = scratch.sqlite("tea.db", TUTORIAL, &numbered(1, "/tea"));
    let first = scratch.export(&tea);
    fill(&tea, &numbered(4, "/tea"));
    let more = scratch.export(&tea);
    let coffee = scratch.export(&scratch.sqlite("coffee.db", TUTORIAL, &numbered(1, "/coffee")));
    for (to, _) in where_ids_are_numbers(&scratch, "numbers_dry_run") {
        let import = |mode: &[&str]| {
            let archives = [&first, &more, &coffee].map(|archive| words(archive));
            let rest = ["--to", &to, "--on-missing-column=fold", "--json"];
            let done =
                Program::new(["import"].iter().chain(&archives).chain(&rest).chain(mode)).run();
            let done = json_of(&done.success());
            ["inserted_rows", "skipped_rows"].map(|key| done["streams"][0][key].clone())
        };
        let counted = [import(&["--dry-run"]), import(&["--no-undo"])];
        assert_eq!(counted[0], counted[1], "{to}");
        assert_eq!(counted[1], [json!(9), json!(3)], "{to}");
    }
}

#[test]
fn rows_with_another_machines_numbers_are_named() {
    let scratch = Scratch::new("named_numbers");
    let target = scratch.sqlite("target.db", TUTORIAL, &numbered(1, "/tea"));
    let other = scratch.export(&scratch.sqlite("other.db", TUTORIAL, &numbered(1, "/coffee")));
    let report = import(&other, &target, TUTORIAL_OPTIONS).success();
    report
        .stderr_has("the archive's numbers are those of another database")
        .stderr_has("--instance");
    Program::new(["rollback", "last", "--from", &target]).run().success();
    assert_eq!(ask(&target, COUNTS), "3|3");
    // what the user says settles it
    let home = inspected_instance(&scratch, &target);
    import(&other, &target, &[TUTORIAL_OPTIONS, &["--instance", &home]].concat()).fails_with(11);
}

/// The UUID that an export of a database names it by.
fn inspected_instance(scratch: &Scratch, database: &str) -> String {
    let inspected = json_of(
        &Program::new(["inspect", "--json", words(&scratch.export(database))]).run().success(),
    );
    inspected["source"]["instance"].as_str().expect("an instance").to_owned()
}

#[test]
fn a_row_has_one_uuid_whichever_way_it_came() {
    let scratch = Scratch::new("one_uuid");
    let first = scratch.sqlite("first.db", TUTORIAL, &numbered(1, "/tea"));
    let second = scratch.sqlite("second.db", TUTORIAL, &numbered(1, "/coffee"));
    let third = scratch.sqlite("third.db", TUTORIAL, "");
    // the first one keeps its numbers there, the second gets others
    for from in [&first, &second] {
        scratch.shift(from, &third, TUTORIAL_OPTIONS).success();
    }
    let server = postgres("postgres-seed.sql", "one_uuid", "");
    // the server notes whose row it got: a file that it was in, or its own
    let options = [TUTORIAL_OPTIONS, &["--on-conflict=skip"]].concat();
    for from in [&third, &first, &second, &third] {
        scratch.shift(from, &server.url(), &options).success();
        assert_eq!(server.psql(COUNTS), "6|6", "{from}");
    }
}

#[test]
fn a_restore_gives_rows_the_numbers_of_its_archive() {
    let scratch = Scratch::new("restored_numbers");
    let target = scratch.sqlite("target.db", TUTORIAL, &numbered(1, "/tea"));
    let other = scratch.sqlite("other.db", TUTORIAL, &numbered(1, "/coffee"));
    Program::new(["restore", words(&scratch.export(&other)), "--to", &target]).run().success();
    assert_same_rows(&sqlite_dump(target.as_ref()), &sqlite_dump(other.as_ref()));
    // they are the other machine's now
    scratch.shift(&other, &target, TUTORIAL_OPTIONS).success();
    assert_eq!(ask(&target, COUNTS), "3|3");
    // and its own again after a rollback
    for _ in 0..2 {
        Program::new(["rollback", "last", "--from", &target, "--force"]).run().success();
    }
    scratch.shift(&other, &target, TUTORIAL_OPTIONS).success();
    assert_eq!((ask(&target, COUNTS).as_str(), ask(&target, STRANGERS).as_str()), ("6|6", "0"));
}

/// What happens to three machines.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One gets a session with an event.
    Work(usize),
    /// The rows of one go to another.
    Sync(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3usize).prop_map(Step::Work),
        3 => (0..3usize, 1..3usize).prop_map(|(from, on)| Step::Sync(from, (from + on) % 3)),
    ];
    proptest::collection::vec(step, 4..14)
}

#[test]
fn machines_that_exchange_rows_have_each_row_once() {
    let config =
        Config { cases: 10, failure_persistence: None, max_shrink_iters: 30, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        exchange(&steps).map_err(|why| TestCaseError::fail(format!("{steps:?}: {why}")))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Does it, and compares what each machine has with what has been made on it or come to it.
fn exchange(steps: &[Step]) -> Result<(), String> {
    let scratch = Scratch::new("exchange");
    let machines = [0, 1, 2].map(|n| scratch.sqlite(&format!("machine{n}.db"), TUTORIAL, ""));
    let mut known = [(); 3].map(|()| BTreeSet::new());
    for (n, step) in steps.iter().enumerate() {
        let changed = match *step {
            Step::Work(on) => {
                let project = format!("/row-{n}");
                fill(
                    &machines[on],
                    &format!(
                        "INSERT INTO chronicle_sessions (project_path) VALUES ('{project}'); \
                         INSERT INTO chronicle_events (session_id, type, data) \
                         VALUES (last_insert_rowid(), 'prompt', '{{\"of\": \"{project}\"}}');"
                    ),
                );
                known[on].insert(project);
                on
            }
            Step::Sync(from, to) => {
                scratch.shift(&machines[from], &machines[to], TUTORIAL_OPTIONS).success();
                let more = known[from].clone();
                known[to].extend(more);
                to
            }
        };
        let has = ask(&machines[changed], "SELECT project_path FROM chronicle_sessions");
        let mut has: Vec<&str> = has.lines().collect();
        has.sort_unstable();
        let mut expected: Vec<&str> = known[changed].iter().map(String::as_str).collect();
        expected.sort_unstable();
        if has != expected || ask(&machines[changed], STRANGERS) != "0" {
            return Err(format!("after {step:?} machine {changed} has {has:?}, not {expected:?}"));
        }
        let events = ask(&machines[changed], "SELECT count(*) FROM chronicle_events");
        if events != expected.len().to_string() {
            return Err(format!("after {step:?} machine {changed} has {events} events"));
        }
    }
    Ok(())
}
