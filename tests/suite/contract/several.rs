//! Several archives go into one target as one import.

use super::*;

both! {
    archives_of_overlapping_sources_are_one_import_in_any_order
    a_bad_archive_takes_back_those_before_it
    of_rows_that_differ_the_policy_takes_one
    a_session_of_two_machines_is_one_session
    a_dry_run_of_several_archives_changes_nothing
    columns_that_an_archive_adds_are_there_for_the_next
    rows_whose_key_several_rows_have_are_refused
    the_history_counts_all_archives_also_without_receipts
    a_check_of_several_archives_finds_what_an_import_meets
    a_check_sees_the_rows_of_earlier_archives
}

/// Runs an import of several archives.
#[track_caller]
fn import_all(archives: &[&PathBuf], store: &Store, options: &[&str]) -> Output {
    let url = store.url();
    let names = archives.iter().map(|path| path.to_str().expect("a path in UTF-8"));
    let start = ["import", "--strict"].into_iter().chain(names).chain(["--to", &url]);
    Program::new(start.chain(options.iter().copied())).run()
}

/// Three sources that share rows.
fn overlapping(store: &Store) -> [PathBuf; 3] {
    let one = session(1, "cs-1");
    let two = session(2, "cs-2");
    [
        store.archive(&(good())),
        store.archive(
            &(one.clone() + &event(11, 1, "pre_tool_use", "NULL") + &event(21, 1, "stop", "1")),
        ),
        store.archive(&(one + &two + &event(13, 2, "stop", "NULL") + &event(31, 2, "stop", "2"))),
    ]
}

fn archives_of_overlapping_sources_are_one_import_in_any_order(backend: Backend) {
    let mut all: Vec<Vec<String>> = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let store = backend.make("several_any_order");
        let archives = overlapping(&store);
        let archives: Vec<&PathBuf> = order.iter().map(|n| &archives[*n]).collect();
        let done = json_of(&import_all(&archives, &store, &["--json"]).success());
        let inserted: Vec<&Value> = done["streams"]
            .as_array()
            .expect("streams")
            .iter()
            .map(|s| &s["inserted_rows"])
            .collect();
        assert_eq!(inserted, [&json!(2), &json!(5)]);
        assert_eq!(done["archives"].as_array().expect("archives").len(), 3);
        all.push(store.dump());
    }
    assert_same_rows(&all[0], &all[1]);
    assert_same_rows(&all[0], &all[2]);
}

fn a_bad_archive_takes_back_those_before_it(backend: Backend) {
    let store = backend.make("several_bad");
    let [first, second, _] = overlapping(&store);
    let bytes = fs::read(&second).expect("the archive");
    let cut = store.folder.path().join("cut.ndjson.zst");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a file");
    import_all(&[&first, &cut], &store, &[]).fails_with(4).stderr_has("cut.ndjson.zst");
    assert_eq!(store.dump(), Vec::<String>::new());
    let bad = store.archive(&bad_last_event());
    import_all(&[&first, &bad], &store, &[]).fails_with(10).stderr_has(&id(14));
    assert_eq!(store.dump(), Vec::<String>::new());
}

fn of_rows_that_differ_the_policy_takes_one(backend: Backend) {
    let events = backend.events();
    let duration = format!("SELECT duration_ms FROM {events} WHERE id = '{}'", id(12));
    for (policy, expected) in [("skip", "12"), ("update", "99")] {
        let store = backend.make("several_differ");
        let first = store.archive(&good());
        let edit = format!("UPDATE events SET duration_ms = 99 WHERE id = '{}';", id(12));
        let second = store.archive(&(good() + &edit));
        let both = [&first, &second];
        import_all(&both, &store, &[]).fails_with(11).stderr_has("\"duration_ms\"");
        assert_eq!(store.dump(), Vec::<String>::new());
        import_all(&both, &store, &["--on-conflict", policy]).success();
        assert_eq!(store.one(&duration), expected, "{policy}");
    }
}

fn a_session_of_two_machines_is_one_session(backend: Backend) {
    let store = backend.make("several_machines");
    let first = store.archive(&good());
    let other = store.archive(&(session(9, "cs-1") + &event(10, 9, "stop", "NULL")));
    import_all(&[&first, &other], &store, &[]).success();
    let of = format!("SELECT session_id FROM {} WHERE id = '{}'", backend.events(), id(10));
    assert_eq!(store.one(&of), id(1));
    assert_eq!(store.one(&format!("SELECT count(*) FROM {}", backend.sessions())), "2");
}

fn a_dry_run_of_several_archives_changes_nothing(backend: Backend) {
    let store = backend.make("several_dry");
    let archives = overlapping(&store);
    let archives: Vec<&PathBuf> = archives.iter().collect();
    import_all(&archives, &store, &["--dry-run"]).success().stdout_has("from 3 archives");
    assert_eq!(store.dump(), Vec::<String>::new());
}

fn columns_that_an_archive_adds_are_there_for_the_next(backend: Backend) {
    let store = backend.make("several_add");
    let note = |number: u32, text: &str| {
        let id = id(number);
        format!(
            "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = '{text}' WHERE id = '{id}';"
        )
    };
    let first = store.archive(&(good() + &note(12, "one")));
    let second =
        store.archive(&(session(1, "cs-1") + &event(21, 1, "stop", "1") + &note(21, "two")));
    import_all(&[&first, &second], &store, &["--on-missing-column=add"]).success();
    let notes = format!("SELECT count(note) FROM {}", backend.events());
    assert_eq!(store.one(&notes), "2");
}

/// A database with an empty table whose key nothing keeps unique, its layout file, and archives of such a table with
/// these rows of numbers and words.
pub(super) fn loose(
    backend: Backend,
    test_name: &str,
    archives: &[&str],
) -> (Store, String, Vec<PathBuf>) {
    let store = backend.nothing(test_name);
    let layout = |backend: &str| {
        let path = store.folder.path().join(format!("{backend}.toml"));
        let text = format!(
            "name = \"w\"\ntitle = \"w\"\nbackend = \"{backend}\"\n[[stream]]\nname = \"loose\"\n\
             role = \"side\"\ntable = \"loose\"\nrequires = [\"n\"]\nkey = [\"n\"]\norder = [\"n\"]\n"
        );
        fs::write(&path, text).expect("a layout");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let [in_file, on_server] = ["sqlite", "postgres"].map(layout);
    let archive = |(number, rows): (usize, &&str)| {
        let [from, to] =
            ["db", "zst"].map(|end| store.folder.path().join(format!("source{number}.{end}")));
        fill(
            &from,
            &format!("CREATE TABLE loose (n INTEGER, v TEXT); INSERT INTO loose VALUES {rows}"),
        );
        // they are of one database
        let export = ["export", "--reproducible", "--layout", &in_file].map(str::to_owned);
        let places = [from, "-o".into(), to.clone()].map(|path| path.display().to_string());
        Program::new(export.into_iter().chain(places)).run().success();
        to
    };
    let archives = archives.iter().enumerate().map(archive).collect();
    let layout = match backend {
        Backend::Sqlite => in_file,
        Backend::Postgres => on_server,
    };
    match &store.place {
        Place::File(path) => fill(path, "CREATE TABLE loose (n INTEGER, v TEXT)"),
        Place::Server(database) => {
            drop(database.psql("CREATE TABLE loose (n bigint, v text)"));
        }
    }
    (store, layout, archives)
}

fn rows_whose_key_several_rows_have_are_refused(backend: Backend) {
    let rows = ["(1, 'a'), (1, 'b'), (2, 'c')", "(1, 'd'), (2, 'c')"];
    let (store, layout, archives) = loose(backend, "several_loose", &rows);
    let archives: Vec<&PathBuf> = archives.iter().collect();
    for policy in ["fail", "skip", "update"] {
        let policy = format!("--on-conflict={policy}");
        for more in [&[][..], &["--dry-run"]] {
            let options = [&["--layout", &layout, &policy], more].concat();
            import_all(&archives, &store, &options)
                .fails_with(9)
                .stderr_has("loose: \"n\" is not a unique key in this database")
                .stderr_has("nothing was changed")
                .stderr_has("CREATE UNIQUE INDEX");
            assert_eq!(store.one("SELECT count(*) FROM loose"), "0");
        }
    }
    // one archive has nothing to meet
    import_all(&archives[..1], &store, &["--layout", &layout]).success();
    assert_eq!(store.one("SELECT count(*) FROM loose"), "3");
}

#[test]
fn on_a_server_a_key_may_happen_to_be_unique() {
    let rows = ["(1, 'a'), (2, 'c'), (NULL, 'x')", "(1, 'd'), (2, 'c'), (3, 'e'), (NULL, 'x')"];
    let (store, layout, archives) = loose(Backend::Postgres, "several_unique", &rows);
    let archives: Vec<&PathBuf> = archives.iter().collect();
    let options = ["--layout", &layout, "--on-conflict=skip", "--json"];
    let done = json_of(&import_all(&archives, &store, &options).success());
    let counts = ["inserted_rows", "skipped_rows", "conflicting_rows"]
        .map(|key| done["streams"][0][key].as_u64().expect("a number"));
    assert_eq!(counts, [4, 2, 1]);
    assert_eq!(store.one("SELECT string_agg(v, '' ORDER BY v) FROM loose"), "acex");
}

fn the_history_counts_all_archives_also_without_receipts(backend: Backend) {
    let mut counted = Vec::new();
    for options in [&[][..], &["--no-undo"]] {
        let store = backend.make("several_counted");
        let archives = overlapping(&store);
        let archives: Vec<&PathBuf> = archives.iter().collect();
        import_all(&archives, &store, options).success();
        let batch = store.history().pop().expect("a batch");
        let tables = batch["tables"].as_array().expect("tables").clone();
        counted.push((batch["records_migrated"].clone(), tables));
    }
    assert_eq!(counted[0], counted[1]);
    assert_eq!(counted[0].0, json!(7));
}

/// Runs a check of several archives.
#[track_caller]
fn check_all(archives: &[&PathBuf], store: &Store, options: &[&str]) -> Output {
    let url = store.url();
    let names = archives.iter().map(|path| path.to_str().expect("a path in UTF-8"));
    let start = ["check", "--strict"].into_iter().chain(names).chain(["--to", &url]);
    Program::new(start.chain(options.iter().copied())).run()
}

fn a_check_of_several_archives_finds_what_an_import_meets(backend: Backend) {
    let store = backend.make("check_several");
    let edit = format!("UPDATE events SET duration_ms = 99 WHERE id = '{}';", id(12));
    let (good, edited) = (store.archive(&good()), store.archive(&(good() + &edit)));
    let bad = store.archive(&(session(5, "cs-5") + &event(14, 5, "notification", "-1")));
    let more = store.archive(&(session(6, "cs-6") + &event(16, 6, "stop", "1")));
    for (archives, options, code, words) in [
        (&[&good, &more][..], &[][..], 0, "would succeed"),
        (&[&good, &good, &more], &[], 0, "would succeed"),
        (&[&good, &edited], &[], 11, "\"duration_ms\""),
        (&[&edited, &good], &[], 11, "\"duration_ms\""),
        (&[&good, &edited], &["--on-conflict=update"], 0, "would succeed"),
        (&[&good, &bad, &more], &[], 10, "not checked: 1 archive behind "),
    ] {
        let checked = check_all(archives, &store, options);
        assert_eq!(checked.code, Some(code), "{words}: {}{}", checked.text(), checked.stderr);
        assert!(format!("{}{}", checked.text(), checked.stderr).contains(words), "{words}");
        let imported = import_all(archives, &store, &[options, &["--dry-run"]].concat());
        assert_eq!(imported.code, Some(code), "{words}: {}", imported.stderr);
        assert_eq!(store.dump(), Vec::<String>::new());
    }
    let json = json_of(&check_all(&[&good, &edited], &store, &["--json"]).fails_with(11));
    assert_eq!(json["archives"].as_array().expect("archives").len(), 2);
    assert_eq!(json["rows"], json!({"sessions": 4, "events": 6}));
    let hint = json["hint"].as_str().expect("a hint");
    let words = |path: &PathBuf| hint.find(path.to_str().expect("a path"));
    assert!(words(&good) < words(&edited) && words(&good).is_some(), "{hint}");
    assert!(hint.contains("--on-conflict"), "{hint}");
}

fn a_check_sees_the_rows_of_earlier_archives(backend: Backend) {
    let store = backend.make("check_earlier");
    let good = store.archive(&good());
    let child = store.archive(&event(22, 1, "stop", "1"));
    let options = ["--orphans=fail"];
    check_all(&[&child], &store, &options).fails_with(12).stdout_has(&id(22));
    check_all(&[&good, &child], &store, &options).success();
    check_all(&[&child, &good], &store, &options).fails_with(12);
    // only files can be read once more
    let url = store.url();
    let good = good.to_str().expect("a path in UTF-8");
    Program::new(["check", good, "-", "--to", &url])
        .run()
        .fails_with(2)
        .stderr_has("must be a file");
    if backend == Backend::Sqlite {
        Program::new(["check", good, &url])
            .run()
            .fails_with(2)
            .stderr_has("only if all are archives");
    }
    let both = [good, child.to_str().expect("a path in UTF-8")];
    Program::new(["check", both[0], both[1]]).run().success().stdout_has("4 events");
}
