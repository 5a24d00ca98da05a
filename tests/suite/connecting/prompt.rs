//! The password that is asked for on a terminal: it is used, it is not shown, and the terminal is left as it was.

use std::process::{Command, Stdio};

use crate::support::cluster::{Cluster, Database, PASSWORD};
use crate::support::files::{fixture, workdir};
use crate::support::program::Program;

/// Runs a command in a terminal of its own, types something once a password is asked for, and prints on its last line
/// the exit code and whether the terminal shows what is typed: before the question, at it, and at the end.
const TYPIST: &str = r#"
import os, pty, sys, termios
shows = lambda: bool(termios.tcgetattr(fd)[3] & termios.ECHO)
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said, states = b"", [shows()]
while True:
    try:
        more = os.read(fd, 4096)
    except OSError:
        break
    if not more:
        break
    said += more
    if len(states) == 1 and b"Password for " in said and said.endswith(b": "):
        states.append(shows())
        os.write(fd, sys.argv[1].encode())
states.append(shows())
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(said)
print("\n%d %s" % (code, states))
"#;

/// What the terminal showed, and the last line of the typist.
fn typing(typed: &str, arguments: &[&str]) -> (String, String) {
    let home = workdir("typing");
    let run = Command::new("python3")
        .args(["-c", TYPIST, typed, env!("CARGO_BIN_EXE_chronicle-dump")])
        .args(arguments)
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .expect("this test needs python3 (3.9 or later)");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8_lossy(&run.stdout).trim_end().to_owned();
    let (said, end) = said.rsplit_once('\n').expect("a last line");
    (said.to_owned(), end.to_owned())
}

/// A database, and its URL without the password.
fn database(test_name: &str) -> (Database, String) {
    let database = Cluster::get().database(test_name);
    database.apply_file(fixture("postgres-upstream.sql"));
    let url = database.url();
    let (login, place) = url.rsplit_once('@').unwrap();
    let user = login.rsplit_once(':').unwrap().0.to_owned();
    let bare = format!("{user}@{place}");
    (database, bare)
}

#[test]
fn a_typed_password_is_used_and_not_shown() {
    let (_database, bare) = database("typed_at_the_prompt");
    let (said, end) = typing(&format!("{PASSWORD}\n"), &["check", &bare]);
    assert_eq!(end, "0 [True, False, True]", "{said}");
    assert_eq!(said.matches("Password for postgresql://").count(), 1, "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

#[test]
fn a_wrong_password_is_not_asked_for_again() {
    let (_database, bare) = database("wrong_at_the_prompt");
    let (said, end) = typing("wrong\n", &["check", &bare]);
    assert_eq!(end, "7 [True, False, True]", "{said}");
    assert_eq!(said.matches("Password for ").count(), 1, "{said}");
    assert!(said.contains("[SQLSTATE 28P01]"), "{said}");
}

#[test]
fn a_question_that_is_left_leaves_the_terminal_as_it_was() {
    let (_database, bare) = database("left_prompt");
    let (said, end) = typing("\u{3}", &["check", &bare]);
    assert_eq!(end, "130 [True, False, True]", "{said}");
    let (said, end) = typing("\n", &["check", &bare]);
    assert_eq!(end, "7 [True, False, True]", "{said}");
    assert!(said.contains("the server asks for a password"), "{said}");
}

#[test]
fn nobody_is_asked_where_nobody_watches() {
    let (_database, bare) = database("nobody_watches");
    let run = Program::new(["check", &bare]).run().fails_with(7);
    run.stderr_has("the server asks for a password").stderr_lacks("Password for");
}
