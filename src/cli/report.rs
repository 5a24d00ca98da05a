//! Messages on stderr, results on stdout, and the progress of long work.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::args::{Args, JsonTo};
use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use chronicle_archive::{escaped, escaped_json};

/// How often progress is printed where there is no terminal to draw on.
const PRINTED_EVERY: Duration = Duration::from_secs(10);
/// How often it is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(200);

/// What stands for a name that may hold a secret.
const HIDDEN: &str = "(a name that is not shown: it may hold a password)";

/// The only place that prints.
pub(super) struct Report {
    command: &'static str,
    quiet: bool,
    verbose: bool,
    json: bool,
    /// Whether results for people are on stdout.
    prints_result: bool,
    /// Whether stdout carries an archive or its rows, so that JSON goes to stderr.
    stdout_is_taken: AtomicBool,
    /// What was typed and is not repeated unless a file is called so.
    hidden: Vec<String>,
    /// Whether it was said that a password can be seen.
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
            prints_result: args.command.prints_result(),
            stdout_is_taken: AtomicBool::new(args.command.json_to() == JsonTo::Stderr),
            hidden: args.command.hidden_names(),
            warned_of_ps: AtomicBool::new(false),
        }
    }

    /// Whether everything is told, however long it is.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Tells once that a password on the command line is no secret.
    pub(super) fn password_is_typed(&self) {
        if !self.warned_of_ps.swap(true, Ordering::Relaxed) {
            self.notice(
                "the password in the connection string can be seen by every user of this machine \
                 (ps); PGPASSWORD and --password-file FILE keep it to yourself",
            );
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
        self.hidden.iter().filter(|name| !std::path::Path::new(name).exists())
    }

    /// Notes that stdout carries an archive, whatever the command line looked like.
    pub(super) fn stdout_is_taken(&self) {
        self.stdout_is_taken.store(true, Ordering::Relaxed);
    }

    /// Whether the result is wanted as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints something that people should know.
    pub(super) fn notice(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Prints a warning: something is wrong, but the work goes on.
    pub(super) fn warning(&self, text: &str) {
        self.notice(&format!("warning: {text}"));
    }

    /// Says why the exit code is not 0 although there is a result; also if little is to be said.
    pub(super) fn fault(&self, text: &str) {
        self.say(text);
    }

    /// Prints an error and its hint; nothing if the reader has closed the output.
    pub(super) fn error(&self, error: &Error) {
        if self.json && error.code() != Code::BrokenPipe {
            let mut object = json!({
                "command": self.command,
                "error": {
                    "code": error.code().word(),
                    "exit": error.code().exit(),
                    "message": error.full(),
                },
            });
            if let Some(hint) = error.next_step() {
                object["error"]["hint"] = hint.into();
            }
            let _ = self.result_json(&object);
        }
        if error.code() == Code::BrokenPipe {
            return;
        }
        self.say(&error.line());
        // stderr may be closed; there is nobody left to tell
        let mut stderr = std::io::stderr().lock();
        for detail in error.details() {
            let _ = writeln!(stderr, "  {}", self.shown(detail));
        }
        if let Some(hint) = error.next_step() {
            let _ = writeln!(stderr, "hint: {}", self.shown(hint));
        }
    }

    /// Prints a line of the result for people: on stdout, but for `export` on stderr.
    pub(super) fn result(&self, text: &str) -> Result<()> {
        match self.prints_result {
            _ if self.quiet => Ok(()),
            true => self.raw(format!("{}\n", self.shown(text)).as_bytes()),
            false => {
                self.notice(text);
                Ok(())
            }
        }
    }

    /// Prints a line of what a check has found wrong: an error, which is also printed with `--quiet`.
    pub(super) fn finding(&self, text: &str) -> Result<()> {
        self.raw(format!("{}\n", self.shown(text)).as_bytes())
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

    fn say(&self, text: &str) {
        // stderr may be closed; nobody is left to read
        let _ = writeln!(
            std::io::stderr().lock(),
            "chronicle-dump {}: {}",
            self.command,
            self.shown(text)
        );
    }

    /// Shows progress until the returned guard is dropped.
    pub(super) fn watch(&self, progress: &Progress) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        if self.quiet {
            return Watch { stop, thread: None };
        }
        let (seen, command, ended) = (progress.clone(), self.command, Arc::clone(&stop));
        let draws = std::io::stderr().is_terminal();
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            if draws { draw(&seen, &ended) } else { print_progress(command, &seen, &ended) }
        });
        Watch { stop, thread: thread.ok() }
    }
}

/// Ends the display of progress when dropped.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn draw(progress: &Progress, ended: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let started = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        bar.set_message(state(progress, started.elapsed()));
        bar.tick();
        std::thread::park_timeout(DRAWN_EVERY);
    }
    bar.finish_and_clear();
}

fn print_progress(command: &str, progress: &Progress, ended: &AtomicBool) {
    let started = Instant::now();
    let mut printed = started;
    while !ended.load(Ordering::Relaxed) {
        std::thread::park_timeout(PRINTED_EVERY.saturating_sub(printed.elapsed()));
        if printed.elapsed() >= PRINTED_EVERY {
            printed = Instant::now();
            let state = state(progress, started.elapsed());
            let _ = writeln!(std::io::stderr().lock(), "chronicle-dump {command}: {state}");
        }
    }
}

/// Rows, bytes, rate and the remaining time, as far as they are known.
fn state(progress: &Progress, elapsed: Duration) -> String {
    let rows = progress.rows.load(Ordering::Relaxed);
    let bytes = progress.bytes.load(Ordering::Relaxed);
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut text = format!(
        "{rows} rows, {}, {:.0} rows/s, {}/s",
        HumanBytes(bytes),
        rows as f64 / seconds,
        HumanBytes((bytes as f64 / seconds) as u64)
    );
    if let Some(done) = progress.fraction().filter(|done| *done > 0.01) {
        let left = Duration::from_secs_f64(seconds * (1.0 - done) / done);
        text.push_str(&format!(", {:.0} %, {} left", done * 100.0, HumanDuration(left)));
    }
    text
}
