//! What a terminal shows while work is done: one line that fits, coloured words, and nothing that stays behind.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::files::{sqlite_from, workdir};
use crate::support::program::Program;

/// A terminal of some columns in which a shell runs a script, interrupted after some seconds if that is not 0.
const TERMINAL: &str = "
import fcntl, os, pty, select, struct, sys, termios, time
columns, interrupt = int(sys.argv[1]), float(sys.argv[2])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    os.execvp('sh', ['sh', '-c', sys.argv[3]])
start, sent = time.monotonic(), interrupt == 0
while True:
    if not sent and time.monotonic() - start > interrupt:
        os.write(fd, b'\\x03')
        sent = True
    ready, _, _ = select.select([fd], [], [], 0.1)
    if not ready:
        continue
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    os.write(1, data)
os.waitpid(pid, 0)
";

/// What a terminal gets from a script in which `$P` is the program.
#[track_caller]
fn shown(folder: &Path, columns: u16, interrupt: f32, script: &str) -> String {
    let (columns, interrupt) = (columns.to_string(), interrupt.to_string());
    let output = Command::new("python3")
        .args(["-c", TERMINAL, &columns, &interrupt, script])
        .env("P", env!("CARGO_BIN_EXE_chronicle-dump"))
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        // builds on servers show colours on any terminal
        .env_remove("CI")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("this test needs python3");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines that stand on the terminal at the end, without colours.
fn left(shown: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in shown.split('\n') {
        let mut text = String::new();
        for part in line.trim_end_matches('\r').split('\r') {
            text = match part.strip_prefix("\u{1b}[K") {
                Some(rest) => rest.to_owned(),
                None => part.split("\u{1b}[K").next().unwrap_or_default().to_owned(),
            };
        }
        lines.push(without_colours(&text));
    }
    lines.retain(|line| !line.is_empty());
    lines
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// A folder with the sample as a database and as an archive.
fn folder(test_name: &str) -> tempfile::TempDir {
    let folder = workdir(test_name);
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &folder.path().join("s.db"), "wal");
    Program::new(["export", "s.db", "-o", "a.zst"]).current_dir(folder.path()).run().success();
    folder
}

#[test]
fn progress_fits_a_narrow_terminal_and_leaves_nothing() {
    let folder = folder("narrow");
    let script = "(sleep 1.5; cat a.zst) | $P import --to new.db --create";
    let shown = shown(folder.path(), 40, 0.0, script);
    let drawn: Vec<&str> =
        shown.split('\r').filter(|part| part.contains("import: reading")).collect();
    assert!(drawn.len() > 2, "{shown:?}");
    for line in drawn {
        let width = line.trim_end_matches("\u{1b}[K").len();
        assert!(width < 40, "{line:?}");
    }
    let left = left(&shown);
    assert!(left.iter().all(|line| !line.contains("reading")), "{left:?}");
    assert!(left.last().unwrap().starts_with("imported 8 sessions"), "{left:?}");
}

#[test]
fn an_interrupt_clears_the_line() {
    let folder = folder("interrupt");
    let script = "sleep 5 | $P import --to new.db --create";
    let left = left(&shown(folder.path(), 80, 1.2, script));
    assert!(left.iter().all(|line| !line.contains("reading")), "{left:?}");
    assert!(
        left.iter().any(|l| l.ends_with("error: import: interrupted; nothing was changed")),
        "{left:?}"
    );
}

#[test]
fn a_terminal_shows_colours_unless_they_are_not_wanted() {
    let folder = folder("colours");
    let coloured = shown(folder.path(), 80, 0.0, "$P verify gone.zst");
    assert!(coloured.contains("\u{1b}[1m\u{1b}[31merror: \u{1b}[0m"), "{coloured:?}");
    for variable in ["NO_COLOR=1", "CLICOLOR=0", "TERM=dumb"] {
        let plain = shown(folder.path(), 80, 0.0, &format!("{variable} $P verify gone.zst"));
        assert!(plain.contains("error: ") && !plain.contains('\u{1b}'), "{variable}: {plain:?}");
    }
    let piped = Program::new(["verify", "gone.zst"]).env("CLICOLOR", "1").run();
    piped.fails_with(7).stderr_lacks("\u{1b}");
}

#[test]
fn two_commands_in_a_pipe_say_which_one_speaks() {
    let folder = folder("speakers");
    let script = "$P export gone.db | $P import --to new.db --create";
    let left = left(&shown(folder.path(), 100, 0.0, script));
    assert!(left.iter().any(|line| line.starts_with("error: export: ")), "{left:?}");
    assert!(left.iter().any(|line| line.starts_with("error: import: ")), "{left:?}");
    // alone, a command needs no name
    let alone = Program::new(["verify", "gone.zst"]).run();
    alone.fails_with(7).stderr_has("error: gone.zst");
}
