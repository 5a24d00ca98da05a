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
    let head = "# ~/.config/systemd/user/chronicle-dump-archive-s.service\n[Unit]\n";
    assert!(service.starts_with(head), "{service}");
    assert!(timer.starts_with("~/.config/systemd/user/chronicle-dump-archive-s.timer\n[Unit]\n"));
    assert!(timer.contains("\nOnCalendar=*-*-* 02:30:00\nPersistent=true\n"), "{timer}");
    let line = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert_eq!(systemd_words(line), machine.words(&ARCHIVE));
    let folder = workdir("units_systemd_verify");
    let place = |name: &str| folder.path().join(format!("chronicle-dump-archive-s.{name}"));
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
    assert!(list.contains("<!-- ~/Library/LaunchAgents/local.chronicle-dump.archive.s.plist -->"));
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
    assert_eq!(read["Label"], "local.chronicle-dump.archive.s");
    assert_eq!(read["ProgramArguments"], Value::from(machine.words(&ARCHIVE)));
    assert_eq!(read["StartCalendarInterval"], serde_json::json!({"Hour": 23, "Minute": 7}));
    let log = machine.home.join("Library/Logs/local.chronicle-dump.archive.s.log");
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
fn each_job_has_units_of_its_own() {
    let machine = Machine::new("units_names");
    for name in ["copy.db", "a b%.db"] {
        sqlite_from(&["sqlite-hooks.sql"], &machine.home.join(name), "wal");
    }
    let files = |scheduler: &str, from: &str, job: &[&str]| {
        let mut command = Command::new(&machine.program);
        command.args(["service", "print", scheduler, "--json", "--from", from]).args(job);
        let done = command.env("HOME", &machine.home).current_dir(&machine.home).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let result: Value = serde_json::from_slice(&done.stdout).unwrap();
        let units = result["units"].as_array().unwrap().iter();
        let files = units.map(|unit| unit["file"].as_str().unwrap().to_owned());
        files.map(|file| file.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let archive = ["--archive-to", "{date}.zst"];
    let unit = |name: &str| ["service", "timer"].map(|end| format!("chronicle-dump-{name}.{end}"));
    assert_eq!(files("systemd", "s.db", &archive), unit("archive-s"));
    assert_eq!(files("systemd", "a b%.db", &archive), unit("archive-a-b"));
    assert_eq!(files("systemd", "s.db", &["--sync-to", "copy.db"]), unit("sync-s-to-copy"));
    let named = [&archive[..], &["--name", "work.2"]].concat();
    assert_eq!(files("systemd", "s.db", &named), unit("archive-work.2"));
    // of two projects each database is called postgres
    let url = "postgresql://postgres.abcdefghijklmnopqrst@aws-0-eu-west-1.pooler.supabase.com:5432/postgres";
    let sync = ["--sync-to", url];
    let label = "local.chronicle-dump.sync.s-to-abcdefghijklmnopqrst.plist";
    assert_eq!(files("launchd", "s.db", &sync), [label]);
    for name in ["", "a b", "../x", "-x", "é"] {
        let name = format!("--name={name}");
        let args = ["service", "print", "cron", "--from", "s.db", "--archive-to", "{date}", &name];
        Program::new(args).current_dir(&machine.home).run().fails_with(2).stderr_has("--name: ");
    }
}

/// Every option of the command is in the unit's command or refused: none is dropped.
#[test]
fn no_option_is_dropped_on_its_way_into_a_unit() {
    let folder = workdir("units_options");
    for name in ["s.db", "copy.db"] {
        sqlite_from(&["sqlite-hooks.sql"], &folder.path().join(name), "wal");
    }
    for name in ["password", "roots", "variables"] {
        fs::write(folder.path().join(name), "A=b\n").unwrap();
        mode(&folder.path().join(name), 0o600);
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    // what is typed, what the command gets, and for which of archive and copy; nothing for what is of the unit
    let login = |option: &str, name: &str| {
        (format!("--{option}={name}"), format!("--{option}={}", path(name)), [true, true])
    };
    let same = |option: &str, jobs: [bool; 2]| (option.to_owned(), option.to_owned(), jobs);
    let cases = [
        login("password-file", "password"),
        login("sslrootcert", "roots"),
        login("env-file", "variables"),
        same("--role=kim", [true, true]),
        same("--timeout=7", [true, true]),
        same("--assume-tz=Europe/Berlin", [false, true]),
        same("--orphans=skip", [false, true]),
        same("--keep-daily=7", [true, false]),
        same("--keep-weekly=4", [true, false]),
        same("--keep-monthly=3", [true, false]),
        (("--log=x.log").to_owned(), format!("--log={}", path("x.log")), [true, true]),
        same("--quiet", [true, true]),
        same("--verbose", [true, true]),
    ];
    for (typed, expected, jobs) in &cases {
        for (job, fits) in [["--archive-to", "{date}"], ["--sync-to", "copy.db"]].iter().zip(jobs) {
            let args = ["service", "print", "cron", "--json", "--from", "s.db"];
            let args = args.iter().chain(job).copied().chain([typed.as_str()]);
            let run = Program::new(args).current_dir(folder.path()).run();
            match fits {
                true => {
                    let words = json_of(&run.success())["words"].clone();
                    assert!(words.as_array().unwrap().contains(&Value::from(expected.as_str())));
                }
                false => drop(run.fails_with(2).stderr_has("cannot be used with")),
            }
        }
    }
    let help = Program::new(["service", "--help"]).run().success();
    let options = help.text().lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("-q, ").trim_start_matches("-v, ");
        line.strip_prefix("--")?.split([' ', '=']).next()
    });
    let of_the_unit = ["from", "archive-to", "sync-to", "at", "name", "json"];
    let tried = |option: &str| {
        let option = format!("--{option}");
        cases.iter().any(|(typed, ..)| typed.split('=').next() == Some(&option))
    };
    let open: Vec<&str> =
        options.filter(|option| !of_the_unit.contains(option) && !tried(option)).collect();
    assert_eq!(open, [""; 0], "options that are not tried");
}

#[test]
fn what_fails_every_night_is_refused_at_once() {
    let folder = workdir("units_in_vain");
    for name in ["s.db", "copy.db"] {
        sqlite_from(&["sqlite-hooks.sql"], &folder.path().join(name), "wal");
    }
    std::os::unix::fs::symlink("copy.db", folder.path().join("link.db")).unwrap();
    let run = |from: &str, options: &[&str]| {
        let args = ["service", "print", "cron", "--from", from];
        Program::new(args.iter().chain(options)).current_dir(folder.path()).run()
    };
    for to in ["copy.db", "link.db", "./copy.db"] {
        let refused = run("copy.db", &["--sync-to", to]).fails_with(2);
        assert!(refused.stdout.is_empty());
        refused.stderr_has("--from and --sync-to are the same database");
    }
    let zone = run("s.db", &["--sync-to", "copy.db", "--assume-tz", "Foo/Bar"]).fails_with(2);
    let copy = ["copy", "--from", "s.db", "--to", "copy.db", "--assume-tz", "Foo/Bar"];
    let copied = Program::new(copy).current_dir(folder.path()).run().fails_with(2);
    assert_eq!(zone.stderr, copied.stderr);
    let missing = run("no.db", &["--archive-to", "{date}"]).fails_with(7);
    missing.stderr_has("hint: name the database to read").stderr_lacks("--create");
    run("s.db", &["--sync-to", "no.db"]).fails_with(7).stderr_has("copy --create creates a target");
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
