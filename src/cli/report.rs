//! Messages on stderr, results on stdout: the only place that prints.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style, Styles};
use serde_json::{Value, json};

use super::args::{Args, Command, JsonTo};
use super::bar::{self, Watch};
use super::log::{Level, Log};
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind, Weight};
use crate::progress::Progress;
use crate::typed::may_be_secret;
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

    fn level(self) -> Level {
        match self {
            Start::Error => Level::Error,
            Start::Warning => Level::Warning,
            Start::Note | Start::Hint | Start::Fix => Level::Note,
        }
    }

    /// A line as the log has it, which gives the level by itself.
    fn logged(self, text: &str) -> String {
        match self {
            Start::Hint | Start::Fix => format!("{}{text}", self.word().trim_start()),
            Start::Error | Start::Warning | Start::Note => text.to_owned(),
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

/// Options whose values the log does not repeat.
const PRIVATE: [&str; 1] = ["--anon-key"];

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
    /// Where everything is said once more.
    log: OnceLock<Log>,
}

impl Report {
    /// As the command line asks for it; the log is yet to be opened.
    pub(super) fn new(args: &Args, log: Option<&Path>) -> Report {
        let log = log.map(|path| path.display().to_string()).filter(|name| may_be_secret(name));
        Report {
            command: args.command.name(),
            quiet: args.quiet,
            verbose: args.verbose,
            json: args.json,
            in_pipe: AtomicBool::new(is_in_pipe(&args.command)),
            stdout_is_taken: AtomicBool::new(args.command.json_to() == JsonTo::Stderr),
            hidden: args.command.hidden_names().into_iter().chain(log).collect(),
            revealed: Mutex::default(),
            warned_of_ps: AtomicBool::new(false),
            log: OnceLock::new(),
        }
    }

    /// Opens the log, and notes what was typed in it.
    pub(super) fn open_log(&self, path: &Path, arguments: &[OsString]) -> Result<()> {
        let opened = Log::open(path, self.command)?;
        let log = self.log.get_or_init(|| opened);
        self.log_failed(log.begin(&self.typed(arguments)));
        Ok(())
    }

    /// The arguments without those that may hold a secret.
    fn typed(&self, arguments: &[OsString]) -> Vec<String> {
        let mut is_private = false;
        let mut typed = Vec::new();
        for argument in arguments.iter().skip(1) {
            let word = argument.to_string_lossy();
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if word.starts_with("--") => (Some(option), value),
                _ => (None, &*word),
            };
            let hides = is_private || option.is_some_and(|option| PRIVATE.contains(&option));
            let hides = hides || (may_be_secret(value) && !Path::new(value).exists());
            let value = if hides { HIDDEN.to_owned() } else { self.shown(value) };
            typed.push(option.map_or_else(|| value.clone(), |option| format!("{option}={value}")));
            is_private = PRIVATE.contains(&&*word);
        }
        typed
    }

    /// Notes the exit code in the log.
    pub(super) fn end(&self, exit: u8) {
        self.log_failed(self.log.get().and_then(|log| log.end(exit)));
    }

    /// Notes the batch that everything from here on is about.
    pub(super) fn batch(&self, id: Option<uuid::Uuid>) {
        if let (Some(log), Some(id)) = (self.log.get(), id) {
            log.batch(id);
        }
    }

    /// Appends a line to the log, if there is one.
    fn log(&self, level: Level, text: &str) {
        let text = self.shown(text);
        self.log_failed(self.log.get().and_then(|log| log.line(level, &text)));
    }

    /// Says that the log lacks lines; the work goes on.
    fn log_failed(&self, failed: Option<Error>) {
        if let Some(error) = failed {
            let text = format!("{}; the work goes on, the log lacks lines", error.line());
            print(Start::Warning, self.speaker(), &self.shown(&text));
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

    /// Prints a line on stderr, and logs it.
    fn line(&self, start: Start, text: &str) {
        self.log(start.level(), &start.logged(text));
        print(start, self.speaker(), &self.shown(text));
    }

    /// Whether the result is wanted as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints what people should know, unless nobody needs to act on it and `-v` is not given.
    pub(super) fn notice(&self, notice: &Notice) {
        if notice.kind.weight() == Weight::Detail && !self.verbose {
            return;
        }
        let start = match notice.kind.weight() {
            Weight::Warning => Start::Warning,
            Weight::Note | Weight::Detail => Start::Note,
        };
        match self.quiet {
            true => self.log(start.level(), &notice.text),
            false => self.line(start, &notice.text),
        }
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
        if error.code() == Code::BrokenPipe {
            return;
        }
        if self.json {
            let object = json!({"command": self.command, "error": Report::error_object(error)});
            let _ = self.result_json(&object);
        }
        self.say_error(error, true);
    }

    /// Prints what is wrong with a part of the result, which with `--json` says so itself.
    pub(super) fn error_of_part(&self, error: &Error) {
        self.say_error(error, !self.json);
    }

    /// Logs an error on one line, and prints it with its hint.
    fn say_error(&self, error: &Error, is_printed: bool) {
        let lines = std::iter::once((Start::Error, error.line()))
            .chain(error.details().iter().map(|detail| (Start::Note, detail.clone())))
            .chain(error.next_step().map(|hint| (Start::Hint, hint.to_owned())));
        let lines: Vec<(Start, String)> = lines.collect();
        // one line, so that whoever searches the log finds all of it
        let all: Vec<String> = lines.iter().map(|(start, text)| start.logged(text)).collect();
        self.log(Level::Error, &all.join("\n"));
        for (start, text) in lines.iter().filter(|_| is_printed) {
            print(*start, self.speaker(), &self.shown(text));
        }
    }

    /// Prints a line of the result for people: on stdout, or on stderr where stdout carries an archive. With `--json` only
    /// the log has it.
    pub(super) fn result(&self, text: &str) -> Result<()> {
        self.log(Level::Info, text);
        match self.stdout_is_taken.load(Ordering::Relaxed) {
            _ if self.quiet || self.json => Ok(()),
            false => self.raw(format!("{}\n", self.shown(text)).as_bytes()),
            true => {
                print(Start::Note, self.speaker(), &self.shown(text));
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

    /// Prints a line of what a check has found wrong, or what to do about it; also with `--quiet`. With `--json` only the
    /// log has it.
    pub(super) fn finding(&self, start: Start, text: &str) -> Result<()> {
        self.log(start.level(), &start.logged(text));
        if self.json {
            return Ok(());
        }
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
        Command::Export(args) if args.output.is_none() && is_pipe(&std::io::stdout()) => {
            return true;
        }
        Command::Export(args) => args.dump.is_stdin(),
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
