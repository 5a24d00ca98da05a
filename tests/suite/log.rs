//! The log file: everything that is said, a line each, with nothing private, whatever else is printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::migrate::{Scratch, event, json_of, postgres, session, words};
use crate::support::program::{Program, Running};

const EMPTY: [&str; 1] = ["sqlite-hooks.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";

/// The program with a log.
fn logged<'a>(log: &'a Path, arguments: impl IntoIterator<Item = &'a str>) -> Program {
    Program::new(arguments).arg("--log").arg(log)
}

/// A scratch with a database of a session and an event, and the name of a log.
fn scratch(test_name: &str) -> (Scratch, String, PathBuf) {
    let scratch = Scratch::new(test_name);
    let source = scratch.sqlite("source.db", &EMPTY, &(session(1) + &event(11, 1, "stop")));
    let log = scratch.path("chronicle-dump.log");
    (scratch, source, log)
}

/// The lines of a log as level, command and text; the times are checked.
#[track_caller]
fn lines(log: &Path) -> Vec<[String; 3]> {
    let text = fs::read_to_string(log).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let line = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), 24, "{line}");
        assert!(
            chrono::DateTime::parse_from_rfc3339(time).is_ok() && time.ends_with('Z'),
            "{line}"
        );
        let mut parts = rest.splitn(3, ' ').map(str::to_owned);
        std::array::from_fn(|_| parts.next().unwrap_or_else(|| panic!("{line}")))
    };
    text.lines().map(line).collect()
}

/// The texts of a level.
fn texts(lines: &[[String; 3]], level: &str) -> Vec<String> {
    lines.iter().filter(|line| line[0] == level).map(|line| line[2].clone()).collect()
}

#[test]
fn a_run_is_logged_from_its_arguments_to_its_exit() {
    let (scratch, source, log) = scratch("log_run");
    let archive = scratch.path("a.zst");
    let output = logged(&log, ["export", &source, "-o", words(&archive)]).run().success();
    let lines = lines(&log);
    assert!(lines.iter().all(|line| line[1] == "export"), "{lines:?}");
    let info = texts(&lines, "info");
    let [first, result, last] = &info[..] else { panic!("{info:?}") };
    let version = env!("CARGO_PKG_VERSION");
    let typed = format!("chronicle-dump {version} export {source} -o {}", words(&archive));
    assert_eq!(*first, format!("{typed} --log {}", words(&log)));
    assert_eq!(*result, output.text().trim_end());
    assert!(last.starts_with("exit code 0 after ") && last.ends_with(" s"), "{last}");
    assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn quiet_and_json_change_nothing_in_the_log() {
    let (scratch, source, _) = scratch("log_quiet");
    let archive = scratch.export(&source);
    let commands: [&[&str]; 5] = [
        &["verify", words(&archive)],
        &["inspect", words(&archive), "--stats"],
        &["check", words(&archive), "--to", &source],
        &["diff", &source, words(&archive)],
        &["history", &source],
    ];
    for command in commands {
        let said = ["plain", "quiet", "json"].map(|name| {
            let log = scratch.path(&format!("{}-{name}.log", command[0]));
            let option = (name != "plain").then(|| format!("--{name}"));
            let program = logged(&log, command.iter().copied());
            let output = option.iter().fold(program, |program, o| program.arg(o)).run().success();
            match name {
                "quiet" => assert_eq!(output.text(), "", "{command:?}"),
                "json" => assert!(json_of(&output).is_object(), "{command:?}"),
                _ => assert_ne!(output.text(), "", "{command:?}"),
            }
            let lines = lines(&log);
            assert!(lines.len() > 2, "{command:?}");
            lines[1..lines.len() - 1].to_vec()
        });
        assert_eq!(said[0], said[1], "{command:?} --quiet");
        assert_eq!(said[0], said[2], "{command:?} --json");
    }
}

#[test]
fn lines_of_a_load_have_the_id_of_its_batch() {
    let (scratch, source, log) = scratch("log_batch");
    let database = postgres(UPSTREAM, "log_batch", "");
    let archive = scratch.export(&source);
    let target = scratch.sqlite("target.db", &EMPTY, "");
    for to in [target, database.url()] {
        let _ = fs::remove_file(&log);
        let load = ["import", words(&archive), "--to", &to, "--trust-zone", "--assume-tz=UTC"];
        let result = json_of(&logged(&log, load).arg("--json").run().success());
        let marked = format!("batch={} ", result["batch_id"].as_str().unwrap());
        let mut info = texts(&lines(&log), "info");
        assert!(!info.remove(0).contains("batch="));
        assert_eq!(info.len(), 2, "{info:?}");
        assert!(info.iter().all(|text| text.starts_with(&marked)), "{info:?}");
        assert!(info[0].contains("imported"), "{info:?}");
    }
}

#[test]
fn an_error_is_one_line_with_its_hint() {
    let (scratch, _, log) = scratch("log_error");
    let output = logged(&log, ["verify", "a\nb.zst"]).run();
    let code = output.code.unwrap();
    assert_ne!(code, 0);
    let found = lines(&log);
    let errors = texts(&found, "error");
    let [error] = &errors[..] else { panic!("{errors:?}") };
    let message = output.stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
    assert!(error.starts_with(message), "{error}");
    let hint = output.stderr.lines().find(|line| line.starts_with("hint: "));
    assert!(hint.is_none_or(|hint| error.ends_with(&format!("\\n{hint}"))), "{error}");
    assert!(found.last().unwrap()[2].starts_with(&format!("exit code {code} ")), "{found:?}");
    // a command line that is not understood
    let other = scratch.path("usage.log");
    logged(&other, ["verify", "--nonsense"]).run().fails_with(2);
    let found = lines(&other);
    let errors = texts(&found, "error");
    assert!(errors.len() == 1 && errors[0].contains("--nonsense"), "{errors:?}");
    assert!(errors[0].contains("\\nhint: "), "{errors:?}");
    assert!(found.last().unwrap()[2].starts_with("exit code 2 "), "{found:?}");
}

#[test]
fn no_argument_with_a_secret_is_logged() {
    let (scratch, source, log) = scratch("log_secrets");
    let secrets: [&[&str]; 4] = [
        &["import", "--to", "postgres://me:hunter2@127.0.0.1:1/db", "none.zst"],
        &["import", "--to=host=127.0.0.1 port=1 password=hunter2", "none.zst"],
        &["export", &source, "--password-file", "hunter2"],
        &["env", "hooks", "--backend=supabase", "--anon-key", "hunter2"],
    ];
    for arguments in secrets {
        let _ = logged(&log, arguments.iter().copied()).run();
    }
    let with_secret = scratch.path("unused").display().to_string() + ":hunter2@x/log";
    Program::new(["verify", "none.zst"])
        .arg("--log")
        .arg(with_secret)
        .run()
        .stderr_lacks("hunter2");
    let info = texts(&lines(&log), "info");
    let ended = info.iter().filter(|text| text.starts_with("exit code "));
    assert_eq!(ended.count(), secrets.len());
    assert!(!fs::read_to_string(&log).unwrap().contains("hunter2"));
}

#[test]
fn the_option_wins_over_the_variable() {
    let (scratch, source, log) = scratch("log_variable");
    let other = scratch.path("other.log");
    let run = |program: Program| program.env("CHRONICLE_DUMP_LOG", &other).run().success();
    run(logged(&log, ["history", &source]));
    assert!(!other.exists());
    run(Program::new(["history", &source]));
    assert_eq!(lines(&log).len(), lines(&other).len());
}

#[test]
fn a_log_that_cannot_be_opened_stops_everything() {
    let (scratch, source, _) = scratch("log_unopened");
    let archive = scratch.path("a.zst");
    let before = fs::read(&source).unwrap();
    let nowhere = scratch.path("none/log").display().to_string();
    for (log, code) in [(nowhere.as_str(), 13), (words(&scratch.path("")), 13), (&source, 2)] {
        let export = ["export", &source, "-o", words(&archive)];
        logged(Path::new(log), export).run().fails_with(code).stderr_has("--log");
        assert!(!archive.exists(), "{log}");
    }
    assert_eq!(fs::read(&source).unwrap(), before);
}

#[test]
fn a_full_disk_costs_the_log_but_not_the_work() {
    let (scratch, source, _) = scratch("log_full");
    let archive = scratch.path("a.zst");
    let export = ["export", &source, "-o", words(&archive), "-q"];
    let output = logged(Path::new("/dev/full"), export).run().success();
    assert_eq!(output.stderr.matches("warning: ").count(), 1, "{}", output.stderr);
    let output = output.stderr_has("--log /dev/full");
    assert_eq!(output.text(), "");
    Program::new(["verify", words(&archive)]).run().success();
}

#[test]
fn several_processes_share_a_log_line_by_line() {
    let (scratch, source, log) = scratch("log_shared");
    let archive = scratch.export(&source);
    let verify = |_| logged(&log, ["verify", words(&archive)]).spawn();
    let running: Vec<Running> = (0..8).map(verify).collect();
    running.into_iter().for_each(|running| drop(running.wait().success()));
    let info = texts(&lines(&log), "info");
    assert_eq!(info.iter().filter(|text| text.starts_with("exit code 0 ")).count(), 8);
    assert_eq!(info.iter().filter(|text| text.contains(": OK, ")).count(), 8);
}
