//! The ends of the help, the manual page and the completions: every example is valid, every variable and file is named.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use chronicle_dump::chronicle::discover::{discover, places};
use chronicle_dump::cli::args::Args;
use chronicle_dump::location::{Environment, Location, LoginOptions};
use chronicle_dump::{postgres, sidecar};
use clap::Parser;

use crate::full_disks::with_small_files;
use crate::help::{COMMANDS, help};
use crate::support::files::workdir;
use crate::support::program::{Output, Program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronicle-dump");
const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "elvish", "powershell"];
/// The narrowest terminal in which an example is one line for each of its lines.
const NARROW: usize = 80;

fn page() -> String {
    Program::new(["man"]).run().success().text().to_owned()
}

/// Whether a program is installed, as `NAME --version` says.
fn is_installed(name: &str) -> bool {
    let mut run = Command::new(name);
    run.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    run.status().is_ok_and(|status| status.success())
}

// ---- examples ---------------------------------------------------------------------------------

/// The command lines that a help shows as examples, each as one line of a shell.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let shown = lines.take_while(|line| line.starts_with(' '));
    let mut found: Vec<String> = Vec::new();
    for line in shown.filter(|line| line.starts_with("    ")) {
        match found.last_mut().and_then(|open| open.strip_suffix('\\').map(str::to_owned)) {
            Some(open) => *found.last_mut().unwrap() = open + line.trim_start(),
            None => found.push(line.trim_start().to_owned()),
        }
    }
    found
}

/// The words of a line of a shell; a quoted text belongs to its word.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    assert!(quote.is_none(), "an open quote: {line}");
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The arguments of each call of the program in a line; redirections are the shell's.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for part in words(line).split(|word| word == "|") {
        let start = part.iter().position(|word| word == "chronicle-dump");
        let Some(start) = start else { continue };
        assert!(start == 0 || part[0] == "ssh", "{line}");
        let call = part[start..].iter().take_while(|word| *word != ">").cloned();
        calls.push(call.collect());
    }
    calls
}

#[test]
fn every_example_of_the_help_is_a_valid_command_line() {
    for command in COMMANDS.into_iter().map(Some).chain([None]) {
        let found = examples(&help(command));
        assert!((2..=3).contains(&found.len()), "{command:?}: {found:?}");
        for line in &found {
            let calls = calls(line);
            assert!(!calls.is_empty(), "{line}");
            for call in &calls {
                Args::try_parse_from(call).unwrap_or_else(|e| panic!("{line}\n{e}"));
            }
            let shows = |command: &str| calls.iter().any(|call| call[1] == command);
            assert!(command.is_none_or(shows), "{command:?} is not in {line}");
        }
    }
}

#[test]
fn no_example_is_wider_than_a_narrow_terminal() {
    for command in COMMANDS.into_iter().map(Some).chain([None]) {
        let program = Program::new(command).arg("--help").env("COLUMNS", NARROW.to_string());
        let narrow = program.run().success().text().to_owned();
        assert_eq!(examples(&narrow), examples(&help(command)), "{command:?}");
    }
}

#[test]
fn examples_of_the_manual_are_those_of_the_help() {
    let page = page();
    let (_, section) = page.split_once("\n.SH EXAMPLES\n").expect("the examples");
    let section = section.split("\n.SH ").next().unwrap();
    let shown: Vec<String> = (section.split("\n.nf\n").skip(1))
        .map(|rest| rest.split("\n.fi").next().unwrap())
        .map(|text| text.replace("\\\\\n", "").replace("\\*(Aq", "'").replace("\\-", "-"))
        .map(|text| words(&text).join(" "))
        .collect();
    let helps = [None].into_iter().chain(COMMANDS.into_iter().map(Some));
    let expected: Vec<String> = helps
        .flat_map(|command| examples(&help(command)))
        .map(|line| words(&line).join(" "))
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn every_option_is_in_a_group_and_the_groups_are_in_order() {
    const GROUPS: [&str; 8] = [
        "Input",
        "Selection",
        "Target",
        "Connection",
        "Values",
        "Conflicts",
        "Performance",
        "Output",
    ];
    for command in COMMANDS.into_iter().map(Some).chain([None]) {
        let help = help(command);
        let lines = help.lines().take_while(|line| *line != "Examples:");
        let heads =
            lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.strip_suffix(':'));
        let heads: Vec<&str> = heads.filter(|head| *head != "Commands").collect();
        let mut expected = GROUPS.to_vec();
        expected.retain(|group| heads.contains(group));
        assert_eq!(heads, expected, "{command:?}");
    }
    let heads = help(Some("import"));
    assert!(GROUPS.iter().all(|group| heads.contains(&format!("\n{group}:\n"))), "{heads}");
}

// ---- variables --------------------------------------------------------------------------------

/// Where the code asks for variables by their names; anywhere else it is given them by the command line.
const ASKED_FOR: [(&str, &[&str]); 6] = [
    // what the others are given, and what is for benches and tests alone
    ("cli/mod.rs", &["HOME", "CHRONICLE_DUMP_LOG"]),
    ("fault.rs", &[]),
    ("load/bench_skip.rs", &[]),
    ("cli/stats.rs", &["COLUMNS"]),
    ("sqlite/source.rs", &["TZ"]),
    ("temporary.rs", &["TMPDIR", "SQLITE_TMPDIR"]),
];
/// What libraries ask for: the width and the colours of the help.
const OF_LIBRARIES: [&str; 5] = ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"];

/// The variables that are looked up for names of servers, and for Chronicle's own file.
fn looked_up() -> BTreeSet<String> {
    let home = workdir("variables");
    let asked = RefCell::new(BTreeSet::new());
    for user in [None, Some("me".to_owned())] {
        let variable = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            user.clone().filter(|_| name == "USER")
        };
        let environment = Environment {
            variable: &variable,
            home: Some(home.path().into()),
            login: LoginOptions::default(),
        };
        for name in ["postgresql://", "host=db.abcdefgh.supabase.co", "service=any"] {
            let _ = Location::parse(name, &environment);
        }
        let _ = discover(&environment);
    }
    asked.into_inner()
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else {
            found.push((entry.display().to_string(), fs::read_to_string(&entry).unwrap()));
        }
    }
}

#[test]
fn variables_are_asked_for_in_known_places_only() {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root, &mut found);
    let ask = ["env::var", "env::temp_dir", "env::home_dir", "env!(", "option_env!("];
    let asking: BTreeSet<&str> = (found.iter())
        .filter(|(_, text)| ask.iter().any(|ask| text.contains(ask)))
        .map(|(path, _)| path.split("/src/").last().unwrap())
        .collect();
    assert_eq!(asking, ASKED_FOR.map(|(file, _)| file).into(), "name it in environment.rs, too");
}

#[test]
fn every_variable_that_is_read_is_in_help_and_manual() {
    let known = ASKED_FOR.iter().flat_map(|(_, names)| *names).chain(&OF_LIBRARIES);
    let mut read = looked_up();
    read.extend(known.map(|name| (*name).to_owned()));
    let listed = |names: &str| names.split(", ").map(str::to_owned).collect::<Vec<_>>();

    let help = help(None);
    let lines = help.lines().skip_while(|line| *line != "Environment variables:").skip(1);
    let heads = lines.take_while(|line| line.starts_with(' ')).filter(|l| !l.starts_with("    "));
    assert_eq!(heads.flat_map(|line| listed(line.trim())).collect::<BTreeSet<_>>(), read);

    let page = page();
    let (_, section) = page.split_once("\n.SH ENVIRONMENT\n").expect("the variables");
    let heads = section.split("\n.SH ").next().unwrap().split(".TP\n").skip(1);
    let heads =
        heads.map(|item| item.lines().next().unwrap().replace("\\fB", "").replace("\\fR", ""));
    assert_eq!(heads.flat_map(|line| listed(&line)).collect::<BTreeSet<_>>(), read);
}

#[test]
fn help_of_a_command_names_the_variables_of_databases() {
    for command in COMMANDS {
        const OPEN: [&str; 9] = [
            "export", "import", "copy", "check", "verify", "diff", "restore", "history", "rollback",
        ];
        let opens = OPEN.contains(&command);
        let help = help(Some(command));
        assert_eq!(help.contains("PGPASSWORD"), opens, "{command}");
        let finds = ["export", "copy"].contains(&command);
        assert_eq!(help.contains("CLAUDE_HOOKS_DB_PATH"), finds, "{command}");
    }
}

// ---- the manual page --------------------------------------------------------------------------

#[test]
fn the_manual_names_the_files_and_tables_of_the_program() {
    let page = page().replace("\\-", "-");
    let (_, files) = page.split_once("\n.SH FILES\n").expect("the files");
    let files = files.split("\n.SH ").next().unwrap();
    let own = format!("{}.sidecar", postgres::own_tables::SCHEMA);
    let mut names: Vec<String> = places().into_iter().map(|(path, _)| path).collect();
    assert!(names.len() > 9, "{names:?}");
    names.extend([own, sidecar::SIDECAR.to_owned(), sidecar::COLUMNS.to_owned()]);
    for table in ["migration_history", "receipts"] {
        let schema = postgres::own_tables::SCHEMA;
        names.extend([format!("{schema}.{table}"), format!("{schema}_{table}")]);
    }
    names.extend(["~/.pgpass", ".chronicle-dump-*.partial", "TMPDIR"].map(str::to_owned));
    names.push("FILE.chronicle-dump-partial".into());
    for name in names {
        assert!(files.contains(&format!("\\fB{name}\\fR")), "{name} is not in FILES:\n{files}");
    }
}

#[test]
fn the_manual_has_its_sections_in_the_usual_order() {
    let page = page();
    let sections: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".SH "))
        .map(|s| s.trim_matches('"'))
        .collect();
    let commands = COMMANDS.map(str::to_uppercase);
    let expected: Vec<&str> = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"]
        .into_iter()
        .chain(commands.iter().map(String::as_str))
        .chain(["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO", "VERSION"])
        .collect();
    assert_eq!(sections, expected);
}

#[test]
fn the_manual_is_typeset_without_a_warning() {
    if !is_installed("groff") {
        println!("groff is not installed: not tried");
        return;
    }
    let folder = workdir("typeset");
    let file = folder.path().join("page.1");
    fs::write(&file, page()).unwrap();
    let mut command = Command::new("groff");
    command.args(["-man", "-ww", "-Kutf8", "-Tutf8", "-P-c", "-rLL=100n"]).arg(&file);
    let output = command.output().unwrap();
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && warnings.is_empty(), "{warnings}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let last = "chronicle-dump man --install ~/.local/share/man";
    for line in
        ["chronicle-dump export -o backup.ndjson.zst", "--assume-tz America/Los_Angeles", last]
    {
        assert!(shown.lines().any(|shown| shown.trim().starts_with(line)), "{line}:\n{shown}");
    }
    let continued = "chronicle-dump import backup.ndjson.zst --to \"$DATABASE_URL\" \\";
    assert!(shown.lines().any(|shown| shown.trim() == continued), "{shown}");
}

fn install(folder: &Path, to: &str) -> Output {
    Program::new(["man", "--install", to]).current_dir(folder).run()
}

#[test]
fn the_manual_is_installed_where_man_finds_it() {
    let folder = workdir("install");
    let file = folder.path().join("share/man here/man1/chronicle-dump.1");
    let output = install(folder.path(), "share/man here").success();
    assert_eq!(fs::read_to_string(&file).unwrap(), page());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o444,
        0o444,
        "others may read it"
    );
    let absolute = folder.path().join("share/man here");
    let output = output.stdout_has("wrote share/man here/man1/chronicle-dump.1\n");
    let output = output.stdout_has("man -M 'share/man here' chronicle-dump\n");
    output.stdout_has(&format!("MANPATH='{}':", absolute.display()));
    if is_installed("man") {
        let found =
            Command::new("man").arg("-M").arg(&absolute).args(["-w", "chronicle-dump"]).output();
        assert_eq!(
            String::from_utf8(found.unwrap().stdout).unwrap().trim(),
            file.to_str().unwrap()
        );
    }
    // an older one is replaced, and nothing else is left behind
    fs::write(&file, "old").unwrap();
    let quiet = Program::new(["man", "-q", "--install"]).arg(&absolute).run().success();
    assert_eq!((quiet.text(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), page());
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_manual_that_cannot_be_installed_is_an_error_of_output() {
    let folder = workdir("install-fails");
    fs::write(folder.path().join("file"), "").unwrap();
    install(folder.path(), "file").fails_with(13).stderr_has("file/man1: cannot write");
    install(folder.path(), "").fails_with(2).stderr_has("'--install <DIR>'");
    fs::create_dir_all(folder.path().join("in the way/man1/chronicle-dump.1")).unwrap();
    install(folder.path(), "in the way")
        .fails_with(13)
        .stderr_has("chronicle-dump.1: cannot write");
    let (code, said) = with_small_files(2, folder.path(), &["man", "--install", "full"]);
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("full/man1/chronicle-dump.1: the disk is full"), "{said}");
    assert_eq!(fs::read_dir(folder.path().join("full/man1")).unwrap().count(), 0, "no part of it");
}

// ---- completions ------------------------------------------------------------------------------

fn completions(shell: &str) -> String {
    Program::new(["completions", shell]).run().success().text().to_owned()
}

#[test]
fn completions_of_every_shell_have_every_command_and_option() {
    for shell in SHELLS {
        let script = completions(shell);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        for option in ["on-unrepresentable", "stats", "install", "toast-compression", "json"] {
            assert!(script.contains(option), "{shell}: --{option}");
        }
    }
    let help = help(Some("completions"));
    assert!(SHELLS.iter().all(|shell| help.contains(shell)), "{help}");
    Program::new(["completions", "tcsh"]).run().fails_with(2).stderr_has("possible values");
}

#[test]
fn shells_read_their_completions() {
    let folder = workdir("completions");
    for shell in SHELLS.iter().take(3).filter(|shell| **shell == "bash" || is_installed(shell)) {
        let file = folder.path().join(shell);
        fs::write(&file, completions(shell)).unwrap();
        let read = Command::new(shell).arg("-n").arg(&file).output().expect("the shell");
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success() && said.is_empty(), "{shell}: {said}");
    }
}

#[test]
fn bash_completes_commands_options_and_words() {
    let folder = workdir("bash");
    fs::write(folder.path().join("completions"), completions("bash")).unwrap();
    let complete = |words: &[&str]| -> Vec<String> {
        const ASK: &str = "source completions; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
             complete=$(complete -p chronicle-dump); complete=${complete#* -F }; \
             ${complete%% *} chronicle-dump \"${@: -1}\" \"${@: -2:1}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", ASK, "bash", "chronicle-dump"]).args(words);
        let output = command.current_dir(folder.path()).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    assert_eq!(complete(&["exp"]), ["export"]);
    assert_eq!(complete(&["import", "--orph"]), ["--orphans"]);
    assert_eq!(complete(&["import", "--orphans", "k"]), ["keep"]);
    assert_eq!(complete(&["completions", "po"]), ["powershell"]);
    let listed = complete(&[""]);
    assert!(COMMANDS.iter().all(|command| listed.iter().any(|word| word == command)), "{listed:?}");
}

#[test]
fn a_closed_pipe_ends_whatever_prints_in_silence() {
    for args in [
        &["--help"][..],
        &["schema"],
        &["man"],
        &["man", "--json"],
        &["completions", "bash"],
        &["completions", "fish", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(PROGRAM);
        let output = command.args(args).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = output.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(141), ""), "{args:?}");
    }
}
