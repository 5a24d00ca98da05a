//! Messages on stderr, results on stdout: the only place that prints.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style, Styles};
use serde_json::{Value, json};

use super::args::{Args, Command, JsonTo};
use super::bar::{self, Watch};
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind, Weight};
use crate::progress::Progress;
use chronicle_archive::{escaped, escaped_json};

/// How a line begins that is not a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The work has failed.
    Error,
    /// Something was lost or changed for good.
    Warning,
    /// Something to know.
    Note,
    /// What to type next.
    Hint,
    /// What settles the problem in the line above.
    Fix,
}

impl Start {
    fn word(self) -> &'static str {
        match self {
            Start::Error => "error: ",
            Start::Warning => "warning: ",
            Start::Note => "note: ",
            Start::Hint => "hint: ",
            Start::Fix => "  fix: ",
        }
    }

    /// The colours of clap, which has none for notes.
    fn style(self) -> Style {
        let clap = Styles::styled();
        match self {
            Start::Error => *clap.get_error(),
            Start::Warning => clap.get_invalid().bold(),
            Start::Note => AnsiColor::Cyan.on_default().bold(),
            Start::Hint | Start::Fix => clap.get_valid().bold(),
        }
    }

    /// The word, coloured if the stream that it goes to shows colours.
    fn shown(self, stream: &impl anstream::stream::RawStream) -> String {
        match AutoStream::choice(stream) {
            ColorChoice::Never => self.word().to_owned(),
            _ => format!("{0}{1}{0:#}", self.style(), self.word()),
        }
    }
}

/// Prints a line on stderr; `speaker` is the command, where another one may print there too.
pub(super) fn print(start: Start, speaker: Option<&str>, text: &str) {
    let stderr = std::io::stderr();
    // this command or another one may have drawn its progress on this line of the terminal
    let is_drawn = bar::is_drawn() || (speaker.is_some() && stderr.is_terminal());
    let clear = if is_drawn { bar::CLEARED } else { "" };
    let speaker = speaker.map_or_else(String::new, |name| format!("{name}: "));
    let start = start.shown(&stderr);
    // stderr may be closed; nobody is left to read
    let _ = writeln!(stderr.lock(), "{clear}{start}{speaker}{text}");
}

/// What stands for a name that may hold a secret.
const HIDDEN: &str = "(a name that is not shown: it may hold a password)";

/// How one command prints.
pub(super) struct Report {
    command: &'static str,
    quiet: bool,
    verbose: bool,
    json: bool,
    /// Whether the archive comes or goes through a pipe, whose other end may print on the same terminal.
    in_pipe: AtomicBool,
    /// Whether stdout carries an archive or its rows, so that JSON goes to stderr.
    stdout_is_taken: AtomicBool,
    /// What was typed and is not repeated unless a file is called so.
    hidden: Vec<String>,
    /// Those of them that were understood and hold no password.
    revealed: Mutex<Vec<String>>,
    /// Whether a password on the command line was warned of.
    warned_of_ps: AtomicBool,
}

impl Report {
    /// As the command line asks for it.
    pub(super) fn new(args: &Args) -> Report {
        Report {
            command: args.command.name(),
            quiet: args.quiet,
            verbose: args.verbose,
            json: args.json,
            in_pipe: AtomicBool::new(is_in_pipe(&args.command)),
            stdout_is_taken: AtomicBool::new(args.command.json_to() == JsonTo::Stderr),
            hidden: args.command.hidden_names(),
            revealed: Mutex::default(),
            warned_of_ps: AtomicBool::new(false),
        }
    }

    /// Whether everything is printed, however long it is.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Warns once that a password on the command line is no secret.
    pub(super) fn password_is_typed(&self) {
        if !self.warned_of_ps.swap(true, Ordering::Relaxed) {
            let text = "the password on the command line is visible to every user of this machine \
                        (ps); use PGPASSWORD or --password-file FILE";
            self.notice(&Notice::new(NoticeKind::VisiblePassword, text));
        }
    }

    /// A text as it may be printed: on one line, and without names that may hold a secret.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for name in self.hidden() {
            text = text.replace(name, HIDDEN).replace(&*escaped(name), HIDDEN);
        }
        escaped(&text).into_owned()
    }

    /// The names that are not shown; a file that is called so is no secret.
    fn hidden(&self) -> impl Iterator<Item = &String> {
        let is_revealed = |name: &String| self.revealed.lock().is_ok_and(|r| r.contains(name));
        self.hidden.iter().filter(move |name| !Path::new(name).exists() && !is_revealed(name))
    }

    /// Notes that a name is that of a database, and that there is no password in it.
    pub(super) fn reveal(&self, name: &str) {
        if let Ok(mut revealed) = self.revealed.lock() {
            revealed.push(name.to_owned());
        }
    }

    /// Notes that stdout carries an archive, whatever the command line looked like.
    pub(super) fn stdout_is_taken(&self) {
        self.stdout_is_taken.store(true, Ordering::Relaxed);
        self.in_pipe.fetch_or(is_pipe(&std::io::stdout()), Ordering::Relaxed);
    }

    /// The command, if its lines have to be told from those of another one.
    fn speaker(&self) -> Option<&'static str> {
        self.in_pipe.load(Ordering::Relaxed).then_some(self.command)
    }

    /// Prints a line on stderr.
    fn line(&self, start: Start, text: &str) {
        print(start, self.speaker(), &self.shown(text));
    }

    /// Whether the result is wanted as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints what people should know, unless nobody needs to act on it and `-v` is not given.
    pub(super) fn notice(&self, notice: &Notice) {
        if self.quiet || (notice.kind.weight() == Weight::Detail && !self.verbose) {
            return;
        }
        let start = match notice.kind.weight() {
            Weight::Warning => Start::Warning,
            Weight::Note | Weight::Detail => Start::Note,
        };
        self.line(start, &notice.text);
    }

    /// Prints why the exit code is not 0 although there is a result; also with `--quiet`.
    pub(super) fn fault(&self, notice: &Notice) {
        self.line(Start::Warning, &notice.text);
    }

    /// An error as results have it.
    pub(super) fn error_object(error: &Error) -> serde_json::Value {
        let mut object = json!({
            "code": error.code().word(),
            "exit": error.code().exit(),
            "message": error.full(),
        });
        if let Some(hint) = error.next_step() {
            object["hint"] = hint.into();
        }
        object
    }

    /// Prints an error and its hint; nothing if the reader has closed the output.
    pub(super) fn error(&self, error: &Error) {
        if self.json && error.code() != Code::BrokenPipe {
            let object = json!({"command": self.command, "error": Report::error_object(error)});
            let _ = self.result_json(&object);
        }
        if error.code() == Code::BrokenPipe {
            return;
        }
        self.line(Start::Error, &error.line());
        error.details().iter().for_each(|detail| self.line(Start::Note, detail));
        if let Some(hint) = error.next_step() {
            self.line(Start::Hint, hint);
        }
    }

    /// Prints a line of the result for people: on stdout, or on stderr where stdout carries an archive.
    pub(super) fn result(&self, text: &str) -> Result<()> {
        match self.stdout_is_taken.load(Ordering::Relaxed) {
            _ if self.quiet => Ok(()),
            false => self.raw(format!("{}\n", self.shown(text)).as_bytes()),
            true => {
                self.line(Start::Note, text);
                Ok(())
            }
        }
    }

    /// What becomes of a command whose result could not be printed: what is `done` in a database stays done. If the
    /// reader of stdout has gone, that is no failure.
    pub(super) fn said(&self, said: Result<()>, done: Option<&str>) -> Result<()> {
        let Err(error) = said else { return Ok(()) };
        let done = done.unwrap_or("nothing was changed");
        let error = error.at(format_args!("{done}, but the result could not be printed"));
        if error.code() != Code::BrokenPipe {
            return Err(error);
        }
        self.notice(&Notice::new(NoticeKind::Unreported, error.full()));
        Ok(())
    }

    /// Prints a line of what a check has found wrong, or what to do about it; also with `--quiet`.
    pub(super) fn finding(&self, start: Start, text: &str) -> Result<()> {
        let start = start.shown(&std::io::stdout());
        self.raw(format!("{start}{}\n", self.shown(text)).as_bytes())
    }

    /// Prints the result as one line of JSON.
    pub(super) fn result_json(&self, result: &Value) -> Result<()> {
        let mut json = result.to_string();
        for name in self.hidden() {
            let quoted = Value::from(name.as_str()).to_string();
            json = json.replace(quoted.trim_matches('"'), HIDDEN);
        }
        let line = format!("{}\n", escaped_json(&json));
        match self.stdout_is_taken.load(Ordering::Relaxed) {
            false => self.raw(line.as_bytes()),
            true => {
                let _ = std::io::stderr().lock().write_all(line.as_bytes());
                Ok(())
            }
        }
    }

    /// Writes bytes to stdout.
    pub(super) fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|e| Error::writing("stdout", e))
    }

    /// Shows progress until the returned guard is dropped.
    pub(super) fn watch(&self, progress: &Progress) -> Watch {
        match self.quiet {
            true => Watch::nothing(),
            false => Watch::start(self.command, self.in_pipe.load(Ordering::Relaxed), progress),
        }
    }
}

/// Whether the archive of a command comes or goes through a pipe, as far as the command line says it.
fn is_in_pipe(command: &Command) -> bool {
    let stdin = |name: &Path| name == Path::new("-");
    let reads_stdin = match command {
        Command::Export(args) => return args.output.is_none() && is_pipe(&std::io::stdout()),
        Command::Import(args) => args.archives.is_empty() || args.archives.iter().any(|p| stdin(p)),
        Command::Check(args) => args.what.iter().any(|what| what == "-"),
        Command::Verify(args) => args.archives.iter().any(|path| stdin(path)),
        Command::Diff(args) => args.a == "-" || args.b == "-",
        Command::Inspect(args) => stdin(&args.archive),
        Command::Cat(args) => stdin(&args.archive),
        Command::Restore(args) => args.archive == "-",
        Command::Copy(_) | Command::History(_) | Command::Rollback(_) => false,
        Command::Schema(_) | Command::Env(_) | Command::Service(_) => false,
        Command::Man(_) | Command::Completions(_) => false,
    };
    reads_stdin && is_pipe(&std::io::stdin())
}

/// Whether a stream is a pipe or a socket.
fn is_pipe(stream: &impl AsFd) -> bool {
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    let kind = file.and_then(|file| file.metadata()).map(|data| data.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
}
