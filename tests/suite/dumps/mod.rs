//! A dump gives the archive that a live export of its database gives, or it is refused.

mod refused;
mod same;
mod sidecar;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::support::cluster::{ADMIN, Cluster, Database, PASSWORD};
use crate::support::migrate::Scratch;
use crate::support::program::{Output, Program};

/// Tables as Supabase's dashboard creates them, with rows that are worth a test.
const LAYOUT: &str = "postgres-upstream.sql";

/// What pg_dump writes of a database.
#[track_caller]
fn dump(database: &Database, options: &[&str]) -> Vec<u8> {
    let mut program = Cluster::get().client_program("pg_dump");
    let done = program.args(options).args(["--dbname", &database.admin_url()]).output();
    let done = done.expect("run pg_dump");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// Sessions and events in tables of the usual layout.
fn some_rows(sessions: usize) -> String {
    format!(
        "INSERT INTO chronicle_sessions (claude_session_id, start_time, project_path) \
         SELECT 'claude ' || nr, '2025-08-19 10:00:00+00'::timestamptz + nr * interval '7 hours', '/home/kim/' || nr % 3 \
           FROM generate_series(1, {sessions}) nr; \
         INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata, tool_name) \
         SELECT id, 'pre_tool_use', start_time - nr * interval '1 hour', jsonb_build_object('n', nr), 'Bash' \
           FROM chronicle_sessions, generate_series(1, 5) nr;"
    )
}

fn scratch(test_name: &str) -> Scratch {
    Scratch::new(test_name)
}

/// Exports, and gives the archive's bytes with the result.
#[track_caller]
fn export(scratch: &Scratch, from: &[&str]) -> (Vec<u8>, Json) {
    let archive = scratch.path("archive");
    let program = Program::new(["export", "--json", "--force", "-o"]).arg(&archive);
    let output = from.iter().fold(program, |program, arg| program.arg(*arg)).run().success();
    let result = serde_json::from_str(output.text()).expect("one JSON object");
    (std::fs::read(archive).expect("the archive"), result)
}

/// The lines of an archive.
fn lines(archive: &[u8]) -> Vec<String> {
    let mut text = String::new();
    zstd::Decoder::new(archive).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A dump in a file.
fn save(scratch: &Scratch, dump: &[u8]) -> PathBuf {
    let path = scratch.path("dump.sql");
    std::fs::write(&path, dump).unwrap();
    path
}

fn words(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Requires that a dump gives the very bytes of a live export, and the same result; gives the lines of that archive.
#[track_caller]
fn assert_same(database: &Database, dump: &[u8], options: &[&str]) -> Vec<String> {
    let scratch = scratch("dumps");
    let path = save(&scratch, dump);
    let all = |from: &[&str]| export(&scratch, &[from, &["--reproducible"], options].concat());
    let (live, mut expected) = all(&[&database.url()]);
    let (archive, mut result) = all(&["--from-dump", words(&path)]);
    for (line, expected) in lines(&archive).iter().zip(&lines(&live)) {
        assert_eq!(line, expected);
    }
    assert!(archive == live, "{} lines", lines(&archive).len());
    for result in [&mut expected, &mut result] {
        for key in ["source", "seconds"] {
            assert!(result.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
        // the samples come in any order
        for orphans in result["orphans"].as_array_mut().unwrap() {
            assert!(orphans.as_object_mut().unwrap().remove("samples").is_some());
        }
    }
    assert_eq!(result, expected);
    lines(&live)
}

/// Requires that a dump is refused, and that nothing is written.
#[track_caller]
fn refuse(dump: &[u8], options: &[&str]) -> Output {
    let scratch = scratch("refused_dump");
    let path = save(&scratch, dump);
    let output = Program::new(["export", "--from-dump", words(&path), "-o"])
        .arg(scratch.path("archive"))
        .arg("--force");
    let output = options.iter().fold(output, |program, option| program.arg(*option)).run();
    assert_ne!(output.code, Some(0), "{}", output.stderr);
    let left: Vec<_> = std::fs::read_dir(scratch.path("")).unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    output
}

/// What pg_dumpall writes of copies of databases: of those whose names begin with the letter of the first.
#[track_caller]
fn cluster_dump(databases: &[(&Database, &str)]) -> Vec<u8> {
    let copies: Vec<Database> = (databases.iter())
        .map(|(database, name)| {
            let sql = format!("CREATE DATABASE \"{name}\" TEMPLATE \"{}\"", database.name());
            database.psql_as(ADMIN, &sql);
            database.beside(name)
        })
        .collect();
    let mut program = Cluster::get().client_program("pg_dumpall");
    // the other databases of the cluster are those of other tests
    let others = format!("--exclude-database=[^{}]*", &copies[0].name()[..1]);
    program.args([&others, "--dbname", &copies[0].admin_url()]);
    let done = program.env("PGPASSWORD", PASSWORD).output().expect("run pg_dumpall");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}
