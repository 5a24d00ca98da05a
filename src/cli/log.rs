//! The log file: a line for everything that the program says, with its time, level, command and batch.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::CommandFactory;

use super::args::Args;
use crate::error::{Code, Error, Result};

/// The variable that names the log where the option does not.
pub(super) const VARIABLE: &str = "CHRONICLE_DUMP_LOG";
/// The option that names it.
const OPTION: &str = "--log";
/// How every line begins, `0` for any digit.
const DATE: &[u8; 11] = b"0000-00-00T";

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What was done.
    Info,
    /// Something to know, or what to type next.
    Note,
    /// Something was lost or changed for good.
    Warning,
    /// The work has failed.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// A log that is open.
pub(super) struct Log {
    file: File,
    name: String,
    command: String,
    batch: OnceLock<uuid::Uuid>,
    started: Instant,
    has_failed: AtomicBool,
}

impl Log {
    /// Opens a log, or begins one that only its owner may read. What is there must be a log: a database or an archive that
    /// was named by mistake would be damaged.
    pub(super) fn open(path: &Path, command: &str) -> Result<Log> {
        let name = format!("{OPTION} {}", path.display());
        let cannot = |e| Error::writing(&name, e);
        if !is_log(path).map_err(cannot)? {
            let what = format!("{name}: this file is no log, and nothing is appended to it");
            return Err(Error::new(Code::Usage, what).hint("name another file, or a new one"));
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        Ok(Log {
            file: opened.map_err(cannot)?,
            name,
            command: command.to_owned(),
            batch: OnceLock::new(),
            started: Instant::now(),
            has_failed: AtomicBool::new(false),
        })
    }

    /// The first line: the version, and what was typed.
    pub(super) fn begin(&self, typed: &[String]) -> Option<Error> {
        let program = Args::command().render_version();
        let words = std::iter::once(program.trim()).chain(typed.iter().map(String::as_str));
        self.line(Level::Info, &words.collect::<Vec<_>>().join(" "))
    }

    /// The last line.
    pub(super) fn end(&self, exit: u8) -> Option<Error> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.line(Level::Info, &format!("exit code {exit} after {seconds:.3} s"))
    }

    /// Notes the batch that the lines from here on are about.
    pub(super) fn batch(&self, id: uuid::Uuid) {
        let _ = self.batch.set(id);
    }

    /// Appends a text without line breaks, at once: other processes may write to the same file. The first error is
    /// returned, later ones are the same.
    pub(super) fn line(&self, level: Level, text: &str) -> Option<Error> {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let batch = self.batch.get().map_or_else(String::new, |id| format!("batch={id} "));
        let line = format!("{now} {} {} {batch}{text}\n", level.word(), self.command);
        let failed = (&self.file).write_all(line.as_bytes()).err()?;
        let is_first = !self.has_failed.swap(true, Ordering::Relaxed);
        is_first.then(|| Error::writing(&self.name, failed))
    }
}

/// Whether lines may be appended: to a log, to an empty or a new file, and to whatever is no file, as a pipe.
fn is_log(path: &Path) -> std::io::Result<bool> {
    match path.metadata() {
        Ok(data) if data.is_file() && data.len() > 0 => {}
        _ => return Ok(true),
    }
    let mut start = [0; DATE.len()];
    match File::open(path)?.read_exact(&mut start) {
        Ok(()) => Ok(start.iter().zip(DATE).all(|(byte, expected)| match expected {
            b'0' => byte.is_ascii_digit(),
            _ => byte == expected,
        })),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The log that arguments name which cannot be understood otherwise.
pub(super) fn named(arguments: &[OsString]) -> Option<PathBuf> {
    let options = || arguments.iter().take_while(|argument| *argument != "--");
    let behind = options().position(|argument| argument == OPTION);
    let within = options().find_map(|argument| argument.to_str()?.strip_prefix("--log="));
    let behind = behind.and_then(|at| arguments.get(at + 1)).map(PathBuf::from);
    behind.or_else(|| within.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_found_among_the_arguments() {
        for (arguments, expected) in [
            (&["export", "--log", "a"][..], Some("a")),
            (&["--log=b", "export"], Some("b")),
            (&["export", "--log"], None),
            (&["export", "--", "--log", "a"], None),
            (&["export", "--logs", "a"], None),
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(named(&arguments), expected.map(PathBuf::from), "{arguments:?}");
        }
    }
}
