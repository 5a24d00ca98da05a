//! `copy --config`: both files of Chronicle's migration tutorial, and the effect or the notice of each of their keys.

use std::collections::BTreeSet;

use chronicle_dump::chronicle::config::MigrationConfig;

use super::*;

/// The files, but for names as the tutorial has them.
const TUTORIAL: [&str; 2] = ["migration-config.json", "migration-config-supabase-to-sqlite.json"];
const SCHEMA: &str = include_str!("../../../schemas/migration-config.schema.json");
/// A key of a project, which no message shows.
const KEY: &str = "eyJhbGciOi.a-service-role-key";

fn tutorial(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/configurations").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Writes a configuration into a folder of its own; a backup would be beside it.
fn written(scratch: &Scratch, config: &Value) -> PathBuf {
    let folder = scratch.path("config");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let path = folder.join("migration-config.json");
    fs::write(&path, serde_json::to_string_pretty(config).unwrap()).unwrap();
    path
}

#[track_caller]
fn run(scratch: &Scratch, config: &Value, options: &[&str]) -> Output {
    let path = written(scratch, config);
    let program = Program::new(["copy", "--config", words(&path)].iter().chain(options));
    let output = program.run();
    let said = format!("{}{}", output.text(), output.stderr);
    assert!(!said.contains(KEY), "the key of the project is shown: {said}");
    output
}

/// A configuration from a file into a file, with these choices.
fn between(source: &str, target: &str, migration: Value) -> Value {
    json!({
        "source": {"type": "sqlite", "database_path": source},
        "target": {"type": "sqlite", "database_path": target},
        "migration": migration,
    })
}

/// A file with rows, an empty one, and a scratch for them.
fn files(test_name: &str) -> (Scratch, String, String) {
    let scratch = Scratch::new(test_name);
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    let target = scratch.sqlite("target.db", &EMPTY, "");
    (scratch, source, target)
}

fn count(file: &str) -> usize {
    sqlite_dump(Path::new(file)).len()
}

/// What lies beside a configuration.
fn beside(scratch: &Scratch) -> Vec<String> {
    let entries = fs::read_dir(scratch.path("config")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "migration-config.json");
    names.sort();
    names
}

#[test]
fn the_schema_describes_both_files_of_the_tutorial() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::validator_for(&schema).unwrap();
    for name in TUTORIAL {
        let config = tutorial(name);
        assert!(validator.is_valid(&config), "{name}");
        // of every key: another name of it, and another kind of value
        for (part, keys) in config.as_object().unwrap() {
            for key in keys.as_object().unwrap().keys() {
                let mut other = config.clone();
                let value = other[part].as_object_mut().unwrap().remove(key).unwrap();
                other[part][format!("{key}s")] = value;
                assert!(!validator.is_valid(&other), "{part}.{key}");
                let error = MigrationConfig::parse(&other.to_string(), None).unwrap_err().full();
                assert!(error.contains(&format!("unknown key: {part}.{key}s")), "{error}");
                let mut other = config.clone();
                other[part][key] = json!([]);
                assert!(!validator.is_valid(&other), "{part}.{key}");
                assert!(MigrationConfig::parse(&other.to_string(), None).is_err(), "{part}.{key}");
            }
        }
    }
}

#[test]
fn the_schema_and_the_program_know_the_same_keys() {
    let schema = schema();
    let keys = |of: &Value| -> BTreeSet<String> {
        of["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let hinted = |config: Value, before: &str| -> BTreeSet<String> {
        let error = MigrationConfig::parse(&config.to_string(), None).unwrap_err();
        let (_, list) = error.next_step().unwrap().split_once(before).expect("a list");
        list.split(", ").map(str::to_owned).collect()
    };
    assert_eq!(hinted(json!({"x": 1}), "has the parts "), keys(&schema));
    for part in keys(&schema) {
        let described = match &schema["properties"][&part]["$ref"] {
            Value::String(_) => &schema["$defs"]["database"],
            _ => &schema["properties"][&part],
        };
        let known = hinted(json!({&part: {"x": 1}}), "has the keys ");
        assert_eq!(known, keys(described), "{part}");
    }
}

#[test]
fn the_files_of_the_tutorial_move_rows_there_and_back() {
    let scratch = Scratch::new("config_tutorial");
    let row = "INSERT INTO chronicle_sessions VALUES (1, '/p', 'main', '2025-08-19T10:00:00Z', NULL, 'active', 0, \
               '2025-08-19T10:00:00Z', '2025-08-19T10:00:00Z')";
    let source = scratch.sqlite("chronicle.db", &["sqlite-seed.sql"], row);
    let server = postgres("postgres-seed.sql", "config_tutorial", "SELECT 1");
    let [mut there, mut back] = TUTORIAL.map(tutorial);
    there["source"]["database_path"] = json!(source);
    let url = server.url();
    let options = ["--to-db-url", &url];
    there["user_info"] = json!({"user_id": "ada", "team_id": "core"});
    let done = run(&scratch, &there, &options).success();
    done.stdout_has("copied 1 session").stderr_has("migration.batch_size is ignored");
    assert_eq!(server.psql("SELECT count(*) FROM chronicle_sessions"), "1");
    assert_eq!(beside(&scratch).len(), 2, "create_backup");
    let owner = "SELECT user_id || ' ' || team_id FROM chronicle_sessions";
    assert_eq!(server.psql(owner), "ada core");
    server.psql(
        "INSERT INTO chronicle_sessions (id, project_path, user_id) \
         VALUES ('0000000a-0000-4000-8000-000000000009', '/q', 'bob')",
    );

    let home = scratch.path("home");
    fs::create_dir_all(home.join(".chronicle")).unwrap();
    back["filters"] = json!({"user_id": "ada"});
    // that file's tables have no columns for them
    back["user_info"] = json!({"user_id": "ada"});
    let path = written(&scratch, &back);
    let copy = || {
        let args =
            ["copy", "--config", words(&path), "--create=tutorial-sqlite", "--from-db-url", &url];
        Program::new(args).env("HOME", &home)
    };
    let note = "user_info.user_id is ignored: the target has no column user_id";
    copy().run().success().stdout_has("copied 1 session").stderr_has(note);
    assert_eq!(count(words(&home.join(".chronicle/chronicle.db"))), 1);
}

#[test]
fn a_project_is_copied_into_another_one() {
    let scratch = Scratch::new("config_projects");
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    let [from, to] = ["config_from", "config_to"].map(|name| postgres(UPSTREAM, name, "SELECT 1"));
    copy(&[&source], &from.url(), &[]).success();
    let project = |url: Option<String>| {
        json!({
            "type": "supabase",
            "supabase_url": "https://your-project.supabase.co",
            "supabase_service_role_key": KEY,
            "database_url": url,
        })
    };
    let config = json!({"source": project(Some(from.url())), "target": project(None)});
    let needs = run(&scratch, &config, &[]).fails_with(2);
    needs.stderr_has("HTTP interface, not to its database").stderr_has("--to-db-url");
    let url = to.url();
    let done = run(&scratch, &config, &["--to-db-url", &url]).success();
    done.stderr_has("source.supabase_service_role_key is ignored")
        .stderr_has("target.supabase_service_role_key is ignored");
    assert_same_rows(&postgres_dump(&from), &postgres_dump(&to));
    // a password in the file is in no list of processes
    let quiet = json!({"source": project(Some(from.url())), "target": project(Some(to.url()))});
    run(&scratch, &quiet, &[]).success().stderr_lacks("visible to every user");
}

#[test]
fn the_wrong_project_is_told() {
    let scratch = Scratch::new("config_wrong");
    let source = scratch.sqlite("source.db", &EMPTY, &rows());
    for url in [
        "postgresql://postgres.bbbb@aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
        "postgresql://postgres@db.bbbb.supabase.co:5432/postgres",
    ] {
        let mut config = between(&source, "", json!({}));
        config["target"] = json!({"type": "supabase", "supabase_url": "https://aaaa.supabase.co"});
        let wrong = run(&scratch, &config, &["--to-db-url", url]).fails_with(2);
        wrong.stderr_has("leads to the project bbbb, target.supabase_url to aaaa");
        config["target"]["database_url"] = json!(url);
        run(&scratch, &config, &[]).fails_with(2).stderr_has("target.database_url leads to");
    }
}

#[test]
fn keys_without_effect_are_told_with_the_reason() {
    let (scratch, source, target) = files("config_notices");
    for (key, value, why) in [
        ("batch_size", json!(500), Some("in one transaction")),
        ("parallel_workers", json!(5), Some("in one transaction, which one connection has")),
        ("validate_data", json!(false), Some("always read back")),
        ("validate_data", json!(true), None),
        ("create_indexes", json!(false), Some("keeps its indexes")),
        ("create_indexes", json!(true), None),
        ("create_backup", json!(false), None),
        ("dry_run", json!(false), None),
        ("clear_target", json!(false), None),
    ] {
        let config = between(&source, &target, json!({key: value}));
        let done = run(&scratch, &config, &[]).success();
        match why {
            Some(why) => {
                let start = format!("note: migration.{key}");
                let is_it =
                    |l: &str| l.starts_with(&start) && l.contains("is ignored") && l.contains(why);
                assert!(done.stderr.lines().any(is_it), "{key}: {}", done.stderr);
            }
            None => drop(done.stderr_lacks("ignored")),
        }
        let json = json_of(&run(&scratch, &config, &["--json"]).success());
        let notices = json["notices"].to_string();
        assert_eq!(notices.contains("is ignored"), why.is_some(), "{key}: {notices}");
    }
}

#[test]
fn a_dry_run_in_the_file_writes_nothing() {
    let (scratch, source, target) = files("config_dry");
    let migration = json!({"dry_run": true, "create_backup": true, "clear_target": true});
    let config = between(&source, &target, migration);
    run(&scratch, &config, &[]).success().stdout_has("would copy").stdout_has("(dry run)");
    assert_eq!((count(&target), beside(&scratch)), (0, Vec::new()));
    let config = between(&source, &target, json!({"dry_run": false}));
    run(&scratch, &config, &["--dry-run"]).success();
    assert_eq!(count(&target), 0);
    run(&scratch, &config, &[]).success();
    assert_eq!(count(&target), 5);
}

#[test]
fn clear_target_deletes_the_rows_of_the_target_first() {
    let (scratch, source, target) = files("config_clear");
    fill(&target, &(session(7) + &event(17, 7, "stop")));
    let config = between(&source, &target, json!({"clear_target": true}));
    run(&scratch, &config, &[]).success().stdout_has("1 deleted first");
    assert_same_rows(&sqlite_dump(Path::new(&source)), &sqlite_dump(Path::new(&target)));
}

#[test]
fn create_backup_leaves_archives_of_both_ends() {
    let (scratch, source, target) = files("config_backup");
    fill(&target, &session(7));
    let config = between(&source, &target, json!({"create_backup": true}));
    let done = run(&scratch, &config, &[]).success();
    let names = beside(&scratch);
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].starts_with("source-") && names[1].starts_with("target-before-"), "{names:?}");
    let [of_source, of_target] =
        [&names[0], &names[1]].map(|name| scratch.path("config").join(name));
    done.stdout_has(&format!("kept in {}", words(&of_source)))
        .stderr_has(&format!("the target was saved in {}", words(&of_target)));
    let rows = |archive: &Path| {
        let verified = Program::new(["verify", "--json", words(archive)]).run().success();
        json_of(&verified)["rows"].clone()
    };
    assert_eq!(rows(&of_source), json!({"sessions": 2, "events": 3}));
    assert_eq!(rows(&of_target), json!({"sessions": 1, "events": 0}));
    // a copy that fails keeps no archive of the source
    fill(&target, "UPDATE sessions SET git_branch = 'other'");
    run(&scratch, &config, &[]).fails_with(11);
    assert!(beside(&scratch).iter().all(|name| name.starts_with("target-before-")));
}

#[test]
fn a_target_that_is_yet_to_be_created_needs_no_backup() {
    let (scratch, source, _) = files("config_backup_new");
    let new = scratch.path("new.db");
    let config = between(&source, words(&new), json!({"create_backup": true}));
    let refused = run(&scratch, &config, &[]).fails_with(7);
    refused.stderr_has("--backup: ").stderr_has("hint: --create creates a new database");
    run(&scratch, &config, &["--create"]).success();
    assert_eq!(count(words(&new)), count(&source));
    let server = Cluster::get().database("config_backup_new");
    let url = server.url();
    let options = ["--to", &url, "--assume-tz=UTC", "--trust-zone"];
    let refused = run(&scratch, &config, &options).fails_with(9);
    let plain =
        Program::new(["copy", "--from", &source].iter().chain(&options)).run().fails_with(9);
    let hint = |output: &Output| {
        let hint = output.stderr.lines().find(|line| line.starts_with("hint: "));
        hint.map(str::to_owned)
    };
    assert_eq!(hint(&refused), hint(&plain), "{}", refused.stderr);
    refused.stderr_has("--backup: ").stderr_has("hint: --create creates Chronicle's tables");
    run(&scratch, &config, &[&options[..], &["--create"]].concat()).success();
    // nor does an import, and --backup-db is no different
    let archive = scratch.export(&source);
    for option in ["--backup", "--backup-db"] {
        let import = ["import", words(&archive), "--to", "none.db", option, "saved"];
        let refused = Program::new(import).current_dir(scratch.path("")).run().fails_with(7);
        refused.stderr_has(&format!("{option}: ")).stderr_has("hint: --create creates a new");
    }
}

#[test]
fn options_of_the_command_line_win_over_the_file() {
    let (scratch, source, target) = files("config_options");
    let other = scratch.sqlite("other.db", &EMPTY, &session(9));
    let kept = scratch.path("kept.zst");
    let config = between(&source, &target, json!({"create_backup": true}));
    let new = scratch.path("new.db");
    let options = ["--from", &other, "--to", words(&new), "--create", "--tee", words(&kept)];
    run(&scratch, &config, &options).success();
    assert_eq!((count(&target), count(words(&new))), (0, 1));
    assert!(kept.exists() && beside(&scratch).is_empty());
    let only = json!({"migration": {"batch_size": 500}});
    run(&scratch, &only, &["--from", &other]).fails_with(2).stderr_has("target is missing");
    run(&scratch, &only, &["--to", &target]).fails_with(2).stderr_has("source is missing");
    run(&scratch, &only, &["--from", &other, "--to", &target]).success();
    let url = "postgresql://h/d";
    let of_file = run(&scratch, &config, &["--to-db-url", url]).fails_with(2);
    of_file.stderr_has("target.type is \"sqlite\"");
    Program::new(["copy", "--to", &target, "--from-db-url", url]).run().fails_with(2);
}

#[test]
fn a_path_of_the_file_that_may_be_a_secret_is_not_repeated() {
    let (scratch, source, target) = files("config_secret");
    let secret = "postgres://u:Zq-secret@h/d";
    for (part, key) in [("source", "database_path"), ("target", "database_path")] {
        let mut config = between(&source, &target, json!({}));
        config[part][key] = json!(secret);
        let said = run(&scratch, &config, &[]).fails_with(2);
        said.stderr_has("is not the path of a file").stderr_lacks("Zq-secret");
    }
    let mut config = between(&source, &target, json!({}));
    config["source"] = json!({"type": "supabase", "database_url": "u/Zq-secret"});
    let said = run(&scratch, &config, &[]).fails_with(2);
    said.stderr_has("source.database_url is not a connection string").stderr_lacks("Zq-secret");
    let gone = scratch.path("gone.json");
    let missing = Program::new(["copy", "--config", words(&gone)]).run();
    missing.fails_with(7).stderr_has("gone.json: cannot be read");
}
