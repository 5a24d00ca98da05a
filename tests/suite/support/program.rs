//! Running the program itself: its output, its exit code, its pipes, and no password in any of its words.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memchr::memmem;
use percent_encoding::percent_decode;
use tempfile::TempDir;

use super::cluster::PASSWORD;
use super::hints::unknown_options;

/// A run that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// How a zstd frame begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What belongs to the machine that runs the tests, and must not reach the program.
const FOREIGN: [&str; 7] =
    ["PG", "SUPABASE", "CLAUDE", "CHRONICLE", "NEXT_PUBLIC_", "SQLITE_", "DATABASE_URL"];

/// One call of the program, yet to be made.
pub(crate) struct Program {
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    /// The copy of the program that a user runs whom permissions concern.
    by_anybody: Option<PathBuf>,
    input: Input,
    output: Reader,
    patience: Duration,
}

enum Input {
    Empty,
    Bytes(Vec<u8>),
    File(PathBuf),
    From(ChildStdout),
    ByHand,
}

/// Who reads its stdout.
enum Reader {
    Harness,
    Test,
}

impl Program {
    /// The program with these arguments, in the crate's folder, with an empty stdin and a home that is new and empty.
    pub(crate) fn new<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Program {
        Program {
            args: args.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            folder: None,
            by_anybody: None,
            input: Input::Empty,
            output: Reader::Harness,
            patience: PATIENCE,
        }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Program {
        self.args.push(arg.into());
        self
    }

    /// An environment variable.
    pub(crate) fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// The folder to run in.
    pub(crate) fn current_dir(mut self, folder: impl Into<PathBuf>) -> Program {
        self.folder = Some(folder.into());
        self
    }

    /// Lets a user run it whom permissions concern, from a copy of the program that such a user can reach.
    pub(crate) fn by_anybody(mut self, copy: impl Into<PathBuf>) -> Program {
        self.by_anybody = Some(copy.into());
        self
    }

    /// Bytes for stdin.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Program {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// A file as stdin, as the shell's `<` does it.
    pub(crate) fn stdin_file(mut self, path: impl Into<PathBuf>) -> Program {
        self.input = Input::File(path.into());
        self
    }

    /// Leaves stdin to the test: `Running::take_stdin`.
    pub(crate) fn stdin_by_hand(mut self) -> Program {
        self.input = Input::ByHand;
        self
    }

    /// Leaves stdout to the test: `Running::take_stdout`. The run's `stdout` is then empty.
    pub(crate) fn stdout_by_hand(mut self) -> Program {
        self.output = Reader::Test;
        self
    }

    /// How long it may take before the test fails and the program is killed.
    pub(crate) fn patience(mut self, limit: Duration) -> Program {
        self.patience = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it. It is killed when the value goes away unwaited.
    #[track_caller]
    pub(crate) fn spawn(self) -> Running {
        let home = tempfile::tempdir().expect("a home for the program");
        let mut command = match &self.by_anybody {
            Some(copy) => as_anybody(copy, home.path()),
            None => Command::new(env!("CARGO_BIN_EXE_chronicle-dump")),
        };
        command.args(&self.args);
        let foreign = |key: &OsString| {
            FOREIGN.iter().any(|start| key.as_encoded_bytes().starts_with(start.as_bytes()))
        };
        for (key, _) in std::env::vars_os().filter(|(key, _)| foreign(key)) {
            command.env_remove(key);
        }
        command.env("HOME", home.path()).envs(self.environment);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut bytes = None;
        command.stdin(match self.input {
            Input::Empty => Stdio::null(),
            Input::ByHand => Stdio::piped(),
            Input::From(stdout) => stdout.into(),
            Input::File(path) => File::open(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
                .into(),
            Input::Bytes(input) => {
                bytes = Some(input);
                Stdio::piped()
            }
        });
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", shown(&self.args)));
        if let Some(bytes) = bytes {
            let mut stdin = child.stdin.take().expect("a pipe to its stdin");
            // A program that has seen enough closes its stdin; that is its right.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        let stdout = match self.output {
            Reader::Harness => child.stdout.take().map(collect),
            Reader::Test => None,
        };
        let stderr = child.stderr.take().map(collect);
        Running {
            args: self.args,
            child,
            stdout,
            stderr,
            patience: self.patience,
            peak_memory: None,
            _home: home,
        }
    }
}

/// Runs two programs with the stdout of the first as the stdin of the second, joined by a pipe of the system alone.
/// Waits until something is true, which must be soon.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
pub(crate) fn pipe(first: Program, second: Program) -> (Output, Output) {
    let mut first = first.stdout_by_hand().spawn();
    let second = Program { input: Input::From(first.take_stdout()), ..second }.spawn();
    // Both are waited for at once: either may end first, and neither may be left to fill a pipe.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| first.wait());
        let second = second.wait();
        (first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), second)
    })
}

/// A program that was started.
pub(crate) struct Running {
    args: Vec<OsString>,
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    patience: Duration,
    peak_memory: Option<u64>,
    _home: TempDir,
}

impl Running {
    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The write end of its stdin, if `stdin_by_hand`.
    #[track_caller]
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a stdin by hand, taken once")
    }

    /// The read end of its stdout, if `stdout_by_hand`.
    #[track_caller]
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("a stdout by hand, taken once")
    }

    /// Sends the signal of this name: `INT`, `TERM`, `PIPE`, `STOP`, `CONT`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "send {name} to {}", shown(&self.args));
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill(mut self) -> Output {
        self.peak_memory = peak_memory(self.id());
        self.child.kill().unwrap_or_else(|error| panic!("kill {}: {error}", shown(&self.args)));
        self.wait()
    }

    /// True while it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end. Panics if it takes too long, if a password is in anything that it wrote, or if a hint
    /// names an option that cannot be typed.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let started = Instant::now();
        let status = loop {
            self.peak_memory = peak_memory(self.id()).max(self.peak_memory);
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if started.elapsed() < self.patience => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                Ok(None) => {
                    let _ = self.child.kill();
                    let status = self.child.wait().unwrap_or_default();
                    let output = self.output(status, started);
                    panic!("it still ran after {:?}\n{}", self.patience, output.shown());
                }
                Err(error) => panic!("wait for {}: {error}", shown(&self.args)),
            }
        };
        let output = self.output(status, started);
        output.keeps_the_password();
        output.hints_at_what_can_be_typed();
        output
    }

    fn output(&mut self, status: ExitStatus, started: Instant) -> Output {
        let collected = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.map(|thread| thread.join().expect("the reader of a pipe")).unwrap_or_default()
        };
        Output {
            code: status.code(),
            stdout: collected(self.stdout.take()),
            stderr: String::from_utf8_lossy(&collected(self.stderr.take())).into_owned(),
            time: started.elapsed(),
            peak_memory: self.peak_memory,
            args: std::mem::take(&mut self.args),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No effect on one that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its stdout.
    pub(crate) stdout: Vec<u8>,
    /// Its stderr.
    pub(crate) stderr: String,
    /// How long the test waited for it.
    pub(crate) time: Duration,
    /// The most memory it held, in bytes, where the system reports it (Linux), as last seen before its end.
    pub(crate) peak_memory: Option<u64>,
    args: Vec<OsString>,
}

impl Output {
    /// Panics, showing everything, unless it exited with 0.
    #[track_caller]
    pub(crate) fn success(self) -> Output {
        self.fails_with(0)
    }

    /// Panics, showing everything, unless it exited with this code.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> Output {
        assert!(self.code == Some(code), "expected exit code {code}\n{}", self.shown());
        self
    }

    /// Panics, showing everything, unless these words are on stderr.
    #[track_caller]
    pub(crate) fn stderr_has(self, words: &str) -> Output {
        assert!(self.stderr.contains(words), "expected on stderr: {words}\n{}", self.shown());
        self
    }

    /// Panics, showing everything, if these words are on stderr.
    #[track_caller]
    pub(crate) fn stderr_lacks(self, words: &str) -> Output {
        assert!(!self.stderr.contains(words), "not expected on stderr: {words}\n{}", self.shown());
        self
    }

    /// Panics, showing everything, unless these words are on stdout.
    #[track_caller]
    pub(crate) fn stdout_has(self, words: &str) -> Output {
        assert!(self.text().contains(words), "expected on stdout: {words}\n{}", self.shown());
        self
    }

    /// Its stdout as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not text: {error}\n{}", self.shown()))
    }

    /// Writes its stdout to a file, which it names.
    #[track_caller]
    pub(crate) fn save(&self, path: &Path) -> PathBuf {
        std::fs::write(path, &self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path.to_owned()
    }

    /// Panics if the test password, or a telling part of it, in any spelling of a URL, is in what it wrote.
    #[track_caller]
    fn keeps_the_password(&self) {
        // Cut at the characters that a careless parser takes for the end of a password.
        const PARTS: [&str; 3] = [PASSWORD, "ss:w/", "w/rd#"];
        // An archive is compressed: nothing in it can be seen this way.
        let stdout =
            if self.stdout.starts_with(&ZSTD_MAGIC) { &[] } else { self.stdout.as_slice() };
        for (name, bytes) in [("stdout", stdout), ("stderr", self.stderr.as_bytes())] {
            let decoded: Cow<'_, [u8]> = percent_decode(bytes).into();
            for part in PARTS {
                let there = |bytes: &[u8]| memmem::find(bytes, part.as_bytes()).is_some();
                assert!(
                    !there(bytes) && !there(&decoded),
                    "a password is on {name}\n{}",
                    self.shown()
                );
            }
        }
    }

    /// Panics if a hint names an option that its reader cannot type.
    #[track_caller]
    fn hints_at_what_can_be_typed(&self) {
        let command = self.args.first().map(|arg| arg.to_string_lossy()).unwrap_or_default();
        let unknown = unknown_options(&command, &self.stderr);
        assert!(unknown.is_empty(), "no option of the command: {unknown:?}\n{}", self.shown());
    }

    /// Everything, for a person.
    fn shown(&self) -> String {
        const MOST: usize = 4_000;
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(MOST)]);
        let more = if self.stdout.len() > MOST { " (its beginning)" } else { "" };
        let code = self.code.map_or("a signal".to_owned(), |code| format!("code {code}"));
        format!(
            "$ {}\nended by {code} after {:.1?}\n--- stdout, {} bytes{more}\n{stdout}\n--- stderr\n{}---",
            shown(&self.args),
            self.time,
            self.stdout.len(),
            self.stderr
        )
    }
}

fn shown(args: &[OsString]) -> String {
    let words = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("chronicle-dump".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn collect(mut source: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What a killed program wrote before its end is still wanted.
        let _ = source.read_to_end(&mut bytes);
        bytes
    })
}

/// Sets the permissions of a file or folder.
#[track_caller]
pub(crate) fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}

/// A copy of the program in a folder that anybody may use: its own place may be closed to others.
#[track_caller]
pub(crate) fn program_for_anybody(folder: &Path) -> PathBuf {
    mode(folder, 0o755);
    let program = folder.join("chronicle-dump");
    std::fs::copy(env!("CARGO_BIN_EXE_chronicle-dump"), &program).expect("a copy of the program");
    mode(&program, 0o755);
    program
}

/// A program run by a user whom permissions concern: root has to become somebody else (by setpriv of util-linux).
pub(crate) fn as_anybody(program: &Path, home: &Path) -> Command {
    let root = std::fs::metadata(program).is_ok_and(|data| data.uid() == 0);
    let mut command = match root {
        true => Command::new("setpriv"),
        false => Command::new(program),
    };
    if root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    }
    command.env("HOME", home);
    command
}

/// The high-water mark of a process's memory, where `/proc` reports it.
fn peak_memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
