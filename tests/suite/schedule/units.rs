//! `service print`: units that the schedulers themselves can read, and commands that do what was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::cluster::PASSWORD;
use crate::support::files::{sqlite_dump, sqlite_from, workdir};
use crate::support::migrate::{event, fill, json_of, session};
use crate::support::program::{Program, mode};

/// A folder whose name means something to every scheduler, with a database and the program itself.
struct Machine {
    _folder: tempfile::TempDir,
    home: PathBuf,
    program: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Machine {
        let folder = workdir(name);
        let home = folder.path().join("it's 50% \"of\" $HOME & <é>; \\x");
        fs::create_dir_all(home.join("archives")).unwrap();
        // systemd starts nothing with a quote or a backslash in its path
        let programs = folder.path().join("a b%$c & <é>;");
        fs::create_dir(&programs).unwrap();
        let program = programs.join("chronicle-dump");
        fs::copy(env!("CARGO_BIN_EXE_chronicle-dump"), &program).unwrap();
        let database = home.join("s.db");
        sqlite_from(&["sqlite-hooks.sql"], &database, "wal");
        fill(database.to_str().unwrap(), &(session(1) + &event(11, 1, "stop")));
        Machine { _folder: folder, home, program }
    }

    /// The units for a nightly job, with names as one types them in this folder.
    #[track_caller]
    fn units(&self, scheduler: &str, options: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(["service", "print", scheduler, "--from", "s.db"]).args(options);
        let done = command.env("HOME", &self.home).current_dir(&self.home).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// What the command is, word by word.
    fn words(&self, options: &[&str]) -> Vec<String> {
        let units = self.units("cron", &[options, &["--json"]].concat());
        let result: Value = serde_json::from_str(&units).unwrap();
        let words = result["words"].as_array().unwrap().iter();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    fn archives(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.join("archives")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

const ARCHIVE: [&str; 4] =
    ["--archive-to", "archives/{source}-{date}-{time}.zst", "--keep-daily=7", "--keep-monthly=12"];

/// Runs a line of a crontab as cron does: the five fields and the command, by a shell without variables of the user.
fn as_cron(line: &str, home: &Path) -> ([String; 5], Output) {
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let mut fields = line.trim_end().splitn(6, ' ').map(str::to_owned);
    let time = [(); 5].map(|()| fields.next().unwrap());
    let command = fields.next().unwrap();
    let percent = command.replace("\\%", "");
    assert!(!percent.contains('%'), "a percent sign ends the command: {line}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &command.replace("\\%", "%")]).env_clear();
    let done = shell.env("HOME", home).env("PATH", "/usr/bin:/bin").current_dir("/").output();
    (time, done.unwrap())
}

#[test]
fn a_line_of_a_crontab_writes_the_archive() {
    let machine = Machine::new("units_cron");
    let line = machine.units("cron", &[&ARCHIVE[..], &["--at", "4:05"]].concat());
    let (time, done) = as_cron(&line, &machine.home);
    assert_eq!(time, ["5", "4", "*", "*", "*"]);
    assert!(done.status.success(), "{line}{done:?}");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("removed 0 older archives, kept 1 archive"), "{said}");
    let [archive] = &machine.archives()[..] else { panic!("{:?}", machine.archives()) };
    assert!(archive.file_name().unwrap().to_str().unwrap().starts_with("s-20"), "{archive:?}");
    Program::new(["verify"]).arg(archive).run().success().stdout_has("1 session, 1 event");
}

#[test]
fn a_line_of_a_crontab_brings_a_copy_up_to_date() {
    let machine = Machine::new("units_sync");
    let (source, copy) = (machine.home.join("s.db"), machine.home.join("copy.db"));
    sqlite_from(&["sqlite-hooks.sql"], &copy, "wal");
    let line = machine.units("cron", &["--sync-to", "copy.db", "--orphans", "skip"]);
    for more in ["", "UPDATE sessions SET end_time = '2025-08-19T12:00:00Z';"] {
        fill(source.to_str().unwrap(), more);
        let (time, done) = as_cron(&line, &machine.home);
        assert_eq!(time, ["30", "2", "*", "*", "*"]);
        assert!(done.status.success(), "{line}{done:?}");
        assert_eq!(sqlite_dump(&copy), sqlite_dump(&source));
    }
}

#[test]
fn systemd_accepts_the_service_and_its_timer() {
    let machine = Machine::new("units_systemd");
    let both = machine.units("systemd", &ARCHIVE);
    let (service, timer) = both.split_once("\n# ").expect("two units");
    let head = "# ~/.config/systemd/user/chronicle-dump-archive.service\n[Unit]\n";
    assert!(service.starts_with(head), "{service}");
    assert!(timer.starts_with("~/.config/systemd/user/chronicle-dump-archive.timer\n[Unit]\n"));
    assert!(timer.contains("\nOnCalendar=*-*-* 02:30:00\nPersistent=true\n"), "{timer}");
    let line = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert_eq!(systemd_words(line), machine.words(&ARCHIVE));
    let folder = workdir("units_systemd_verify");
    let place = |name: &str| folder.path().join(format!("chronicle-dump-archive.{name}"));
    fs::write(place("service"), service).unwrap();
    fs::write(place("timer"), format!("# {timer}")).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--user"]).args([place("service"), place("timer")]);
    let Ok(done) = verify.env("XDG_RUNTIME_DIR", folder.path()).output() else {
        println!("systemd-analyze is not installed: not tried");
        return;
    };
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("chronicle-dump"), "{said}\n{both}");
}

/// The words of a command line, as systemd.syntax(7) and systemd.service(5) say how to read them.
fn systemd_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => word.extend(characters.next()),
            '%' => {
                assert_eq!(characters.next(), Some('%'), "a specifier: {line}");
                word.push('%');
            }
            '$' if !words.is_empty() => {
                assert_eq!(characters.next(), Some('$'), "a variable: {line}");
                word.push('$');
            }
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    assert!(!quoted, "an open quote: {line}");
    words.push(word);
    words
}

#[test]
fn a_property_list_has_the_command_and_the_time() {
    let machine = Machine::new("units_launchd");
    let list = machine.units("launchd", &[&ARCHIVE[..], &["--at=23:07"]].concat());
    assert!(list.contains("<!-- ~/Library/LaunchAgents/local.chronicle-dump.archive.plist -->"));
    let read =
        "import json, plistlib, sys; print(json.dumps(plistlib.loads(sys.stdin.buffer.read())))";
    let mut python = Command::new("python3");
    python.args(["-c", read]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("the tests need Python");
    let mut stdin = python.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, list.as_bytes()).unwrap();
    drop(stdin);
    let done = python.wait_with_output().unwrap();
    assert!(done.status.success(), "{list}");
    let read: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(read["Label"], "local.chronicle-dump.archive");
    assert_eq!(read["ProgramArguments"], Value::from(machine.words(&ARCHIVE)));
    assert_eq!(read["StartCalendarInterval"], serde_json::json!({"Hour": 23, "Minute": 7}));
    let log = machine.home.join("Library/Logs/local.chronicle-dump.archive.log");
    assert_eq!(read["StandardErrorPath"], log.to_str().unwrap());
}

#[test]
fn a_unit_never_has_a_password() {
    let folder = workdir("units_password");
    sqlite_from(&["sqlite-hooks.sql"], &folder.path().join("s.db"), "wal");
    fs::write(folder.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    mode(&folder.path().join("password"), 0o600);
    let run = |scheduler: &str, options: &[&str]| {
        let args = ["service", "print", scheduler, "--from", "s.db"];
        Program::new(args.iter().chain(options)).current_dir(folder.path()).run()
    };
    for scheduler in ["systemd", "launchd", "cron"] {
        for with in [
            "postgresql://kim:hunter2secret@db.example.org/d",
            "postgresql://kim@db.example.org/d?password=hunter2secret",
            "host=db.example.org user=kim password=hunter2secret",
            "DATABASE_URL=postgres://kim:hunter2secret@db.example.org/d",
        ] {
            let refused = run(scheduler, &["--sync-to", with]).fails_with(2);
            assert!(refused.stdout.is_empty());
            refused.stderr_has("a password is not put into a unit").stderr_lacks("hunter2secret");
        }
    }
    let url = "postgresql://kim@db.example.org/d?sslmode=require";
    let sync = ["--sync-to", url, "--password-file", "password", "--json"];
    let result = json_of(&run("cron", &sync).success());
    let words: Vec<&str> =
        result["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let file = format!("--password-file={}", folder.path().join("password").display());
    assert!(words.contains(&&*format!("--to={url}")) && words.contains(&&*file), "{words:?}");
    assert_eq!(words[1], "copy");
}

#[test]
fn the_database_that_nobody_named_is_in_the_unit() {
    let folder = workdir("units_found");
    let database = folder.path().join("named.db");
    sqlite_from(&["sqlite-hooks.sql"], &database, "wal");
    fill(database.to_str().unwrap(), &session(1));
    let archive = ["service", "print", "cron", "--archive-to", "{date}.zst", "--json"];
    let run = Program::new(archive).current_dir(folder.path());
    // cron knows none of the variables of a login
    let result = json_of(&run.env("CLAUDE_HOOKS_DB_PATH", &database).run().success());
    assert_eq!(result["words"][2], database.to_str().unwrap());
}

#[test]
fn what_no_unit_can_express_is_refused() {
    let folder = workdir("units_refused");
    sqlite_from(&["sqlite-hooks.sql"], &folder.path().join("a\nb.db"), "wal");
    let args = ["service", "print", "cron", "--from", "a\nb.db", "--archive-to", "{date}.zst"];
    let run = Program::new(args).current_dir(folder.path()).run();
    run.fails_with(2).stderr_has("a control character");
    let quoted = folder.path().join("kim's");
    fs::create_dir(&quoted).unwrap();
    let program = quoted.join("chronicle-dump");
    fs::copy(env!("CARGO_BIN_EXE_chronicle-dump"), &program).unwrap();
    fs::rename(folder.path().join("a\nb.db"), folder.path().join("s.db")).unwrap();
    for (scheduler, code) in [("systemd", 2), ("launchd", 0), ("cron", 0)] {
        let mut command = Command::new(&program);
        command.args(["service", "print", scheduler, "--from", "s.db", "--archive-to", "{date}"]);
        let done = command.current_dir(folder.path()).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{done:?}");
    }
}
