//! `env`: the variables of Chronicle's programs, as they are printed, set in a file, and checked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::files::workdir;
use crate::support::migrate::json_of;
use crate::support::program::{Output, Program};

/// Keys of projects, as the older kind says what they are.
const ANON: &str = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiIsInJlZiI6ImFiY2QifQ.x";
const SERVICE: &str = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIiwicmVmIjoiYWJjZCJ9.x";

fn env(args: &[&str]) -> Output {
    Program::new([&["env"], args].concat()).run()
}

/// What is said of a file with this text, and the exit code.
fn checked(text: &str) -> (String, Option<i32>) {
    let folder = workdir("env_check");
    let file = folder.path().join(".env");
    fs::write(&file, text).expect("a file");
    let done = Program::new(["env", "--check"]).arg(&file).run();
    (done.text().to_owned(), done.code)
}

/// The files of a folder other than one.
fn others(folder: &Path, name: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    all.filter(|path| path.file_name().is_some_and(|other| other != name)).collect()
}

#[test]
fn a_block_has_what_chronicle_reads_and_no_secret() {
    let hooks = env(&["hooks", "--backend", "supabase"]).success();
    let lines: Vec<&str> = hooks.text().lines().collect();
    assert_eq!(
        lines[..2],
        ["SUPABASE_URL=https://PROJECT.supabase.co", "SUPABASE_ANON_KEY=ANON_KEY"]
    );
    assert!(lines[2].ends_with("/.claude/hooks/chronicle/data/chronicle.db"), "{lines:?}");
    let given = ["--supabase-url", "https://abcd.supabase.co", "--anon-key", ANON, "--json"];
    let args = [&["dashboard", "--backend", "supabase"], &given[..]].concat();
    let result = json_of(&env(&args).success());
    let variables = result["variables"].as_array().expect("variables");
    let has = |name: &str, value: &str| {
        variables.contains(&json!({ "name": name, "value": value, "placeholder": false }))
    };
    assert!(has("NEXT_PUBLIC_SUPABASE_URL", "https://abcd.supabase.co"), "{result}");
    assert!(has("NEXT_PUBLIC_SUPABASE_ANON_KEY", ANON), "{result}");
}

#[test]
fn a_secret_key_is_refused_and_not_repeated() {
    for key in [SERVICE, "sb_secret_0123456789"] {
        let args = ["hooks", "--backend", "supabase", "--anon-key", key];
        env(&args).fails_with(2).stderr_has("secret key").stderr_lacks(key);
        let (said, code) =
            checked(&format!("SUPABASE_URL=https://abcd.supabase.co\nSUPABASE_ANON_KEY={key}\n"));
        assert!(code == Some(15) && said.contains("secret key") && !said.contains(key), "{said}");
    }
}

#[test]
fn an_option_without_effect_is_refused() {
    for (program, backend, option) in [
        ("hooks", "sqlite", "--supabase-url"),
        ("dashboard", "sqlite", "--anon-key"),
        ("dashboard", "supabase", "--database"),
    ] {
        let run = env(&[program, "--backend", backend, option, "https://abcd.supabase.co"]);
        run.fails_with(2).stderr_has(&format!("{option} has no effect"));
    }
}

#[test]
fn a_file_changes_in_these_variables_alone() {
    let folder = workdir("env_write");
    let file = folder.path().join(".env");
    let before = "# mine\r\nexport SUPABASE_URL = 'https://old.supabase.co' # old\r\nMORE='a\r\nb'";
    fs::write(&file, before).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("rights");
    let name = file.display().to_string();
    let database = folder.path().join("it's.db").display().to_string();
    let write = |more: &[&str]| {
        env(&[&["hooks", "--write", &name, "--database", &database, "--backend"], more].concat())
    };
    write(&["supabase", "--supabase-url", "https://abcd.supabase.co", "--anon-key", ANON])
        .success();
    let after = fs::read_to_string(&file).expect("a file");
    let expected = format!(
        "# mine\r\nexport SUPABASE_URL = https://abcd.supabase.co # old\r\nMORE='a\r\nb'\r\n\
         SUPABASE_ANON_KEY={ANON}\r\nCLAUDE_HOOKS_DB_PATH=\"{database}\"\r\n\
         CHRONICLE_BACKEND_MODE=supabase\r\n"
    );
    assert_eq!(after, expected);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);
    let copies = others(folder.path(), ".env");
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(fs::read_to_string(&copies[0]).expect("a copy"), before);
    // values that are there are better than placeholders, and what needs no change gets none
    write(&["supabase"]).success().stdout_has("nothing to change");
    assert_eq!(fs::read_to_string(&file).expect("a file"), expected);
    assert_eq!(others(folder.path(), ".env").len(), 1);
    write(&["sqlite"]).success();
    let check = Program::new(["env", "--check"]).arg(&file).run().success();
    check.stdout_has(&format!("the hooks write to {database} alone"));
}

#[test]
fn a_new_file_belongs_to_its_user_alone() {
    let folder = workdir("env_new");
    let file = folder.path().join("new.env").display().to_string();
    let run = env(&["dashboard", "--backend", "supabase", "--write", &file]).success();
    run.stdout_has("put in the values of NEXT_PUBLIC_SUPABASE_URL, NEXT_PUBLIC_SUPABASE_ANON_KEY");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(others(folder.path(), "new.env").is_empty());
    env(&["--check", &file]).fails_with(15).stdout_has("still has a placeholder");
}

#[test]
fn what_a_file_leads_to_and_lacks_is_said() {
    let url = "SUPABASE_URL=https://abcd.supabase.co\n";
    let key = format!("SUPABASE_ANON_KEY={ANON}\n");
    let absolute = "CLAUDE_HOOKS_DB_PATH=/tmp\n";
    for (text, code, said) in [
        (format!("{url}{key}"), 0, "the hooks write to https://abcd.supabase.co and to "),
        (String::new(), 0, "the hooks write to "),
        (url.to_owned(), 15, "SUPABASE_ANON_KEY is missing"),
        (key.clone(), 15, "SUPABASE_URL is missing"),
        (format!("SUPABASE_URL=https://efgh.supabase.co\n{key}"), 15, "of the project abcd, not of efgh"),
        (format!("SUPABASE_URL=postgresql://u@h/d\n{key}"), 15, "connection string of a database"),
        ("CLAUDE_HOOKS_DB_PATH=data/c.db\n".into(), 15, "CLAUDE_HOOKS_DB_PATH is relative"),
        (absolute.into(), 15, "is a folder, not a file"),
        ("CLAUDE_HOOKS_DB_TIMEOUT=5s\n".into(), 15, "CLAUDE_HOOKS_DB_TIMEOUT is not a whole number"),
        ("CLAUDE_HOOKS_DB_PATH=${HOME}/c.db\n".into(), 0, "/c.db alone"),
        ("CHRONICLE_BACKEND_MODE=supabase\n".into(), 15, "name no project"),
        ("NEXT_PUBLIC_CHRONICLE_MODE=supabase\n".into(), 15, "the dashboard finds no data"),
        ("NEXT_PUBLIC_CHRONICLE_MODE=file\n".into(), 15, "neither local nor supabase"),
        ("just words\n".into(), 15, "line 1 is not NAME=VALUE"),
        ("SQLITE_DB_PATH=/x.db\n".into(), 0, "read by no program of Chronicle; set CLAUDE_HOOKS_DB_PATH"),
        (format!("{url}{url}{key}"), 0, "set in line 1 and again in line 2"),
        (
            format!("{url}{key}NEXT_PUBLIC_SUPABASE_URL=https://x.example.org\nNEXT_PUBLIC_SUPABASE_ANON_KEY=k\n")
                .replace("example", "local"),
            15,
            "but the dashboard reads https://x.local.org",
        ),
    ] {
        let (found, exit) = checked(&text);
        assert!(exit == Some(code) && found.contains(said), "{text:?}: {exit:?}: {found}");
    }
    let missing = ["--check", "no-such-file.env"];
    env(&missing).fails_with(7).stderr_has("no such file");
}

#[test]
fn what_is_no_file_of_variables_is_refused() {
    let folder = workdir("env_no_file");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("bytes"), b"A=\xff\n").expect("a file");
    let write = |to: &str| env(&["hooks", "--backend", "sqlite", "--write", to]);
    env(&["--check", &path("bytes")]).fails_with(7).stderr_has("not a text in UTF-8");
    env(&["--check", "/dev/zero"]).fails_with(7).stderr_has("too large");
    write(&path("bytes")).fails_with(7).stderr_has("not a text in UTF-8");
    write("/dev/full").fails_with(2).stderr_has("not a plain file");
    write(&path("missing/.env")).fails_with(13).stderr_has("its directory does not exist");
    assert!(others(folder.path(), "bytes").is_empty());
}
