//! Command lines that cannot be understood, and help that was asked for.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::json;

use super::args::{Args, JsonTo};
use super::log::{Level, Log};
use super::report::{self, Start};
use crate::error::{Code, Error, Result};
use crate::typed::may_be_secret;
use chronicle_archive::{escaped, escaped_json};

/// Prints what clap says instead of arguments: help and version are results, everything else is a
/// mistake. Returns the exit code.
pub(super) fn refuse(mut refusal: clap::Error, arguments: &[OsString], log: Option<&Path>) -> u8 {
    hide_words(&mut refusal);
    let mistake = refusal.use_stderr();
    if mistake && arguments.iter().any(|argument| argument == "--json") {
        print_json(&refusal, arguments);
    }
    // without any argument clap prints the help, on stderr
    if mistake && refusal.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let (message, hint) = (message(&refusal), hint(&refusal, arguments));
        report::print(Start::Error, None, &escaped(&message));
        report::print(Start::Hint, None, &escaped(&hint));
        if let Some(error) = log.and_then(|path| note(path, arguments, &message, &hint).err()) {
            report::print(Start::Warning, None, &escaped(&error.line()));
        }
        return Code::Usage.exit();
    }
    let printed = refusal.print().and_then(|()| std::io::stdout().flush());
    match printed.map_err(|e| Error::writing("stdout", e)) {
        _ if mistake => Code::Usage.exit(),
        Ok(()) => 0,
        Err(error) => {
            if error.code() != Code::BrokenPipe {
                report::print(Start::Error, None, &error.full());
            }
            error.code().exit()
        }
    }
}

/// Notes a mistake in the log, without the arguments: which of them are secrets cannot be known.
fn note(path: &Path, arguments: &[OsString], message: &str, hint: &str) -> Result<()> {
    // it may be anything that stands behind the option
    if may_be_secret(&path.display().to_string()) && !path.exists() {
        return Err(Error::new(Code::Usage, "the log has a name that may hold a password"));
    }
    let log = Log::open(path, command(arguments).unwrap_or("-"))?;
    let text = format!("{message}\nhint: {hint}");
    let failed = log.begin(&[]).or(log.line(Level::Error, &escaped(&text)));
    failed.or(log.end(Code::Usage.exit())).map_or(Ok(()), Err)
}

/// Leaves out a word that no argument was expected for: it may be part of a connection string
/// without quotes, and hold its password.
fn hide_words(refusal: &mut clap::Error) {
    if refusal.kind() != ErrorKind::UnknownArgument {
        return;
    }
    let is_value = match refusal.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => !word.starts_with('-'),
        _ => false,
    };
    if !is_value {
        return;
    }
    let shown = "(a word that is not shown; put a connection string into quotes)";
    refusal.insert(ContextKind::InvalidArg, ContextValue::String(shown.to_owned()));
    // what it suggests repeats the word
    let _ = refusal.remove(ContextKind::Suggested);
}

/// What clap says, on one line and without how to go on.
fn message(refusal: &clap::Error) -> String {
    let text = refusal.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let message = lines.collect::<Vec<_>>().join(" ");
    message.strip_prefix("error: ").unwrap_or(&message).to_owned()
}

/// How to go on: what clap suggests, else where the options are listed.
fn hint(refusal: &clap::Error, arguments: &[OsString]) -> String {
    let text = refusal.render().to_string();
    let tips: Vec<&str> = text.lines().filter_map(|l| l.trim().strip_prefix("tip: ")).collect();
    if !tips.is_empty() {
        return tips.join("; ");
    }
    let command = command(arguments).map_or_else(String::new, |name| format!("{name} "));
    format!("chronicle-dump {command}--help lists the options")
}

/// The command among the arguments, if it is one.
fn command(arguments: &[OsString]) -> Option<&str> {
    let words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let command = words.into_iter().find(|word| !word.starts_with('-'))?;
    Args::command().find_subcommand(command).map(|_| command)
}

/// Prints a mistake as JSON, where the result would be.
fn print_json(refusal: &clap::Error, arguments: &[OsString]) {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let command = words.iter().find(|word| !word.starts_with('-')).copied();
    let goes_to_a_file = words.iter().any(|w| w.starts_with("-o") || w.starts_with("--output"));
    let to = match command {
        Some("cat") => JsonTo::Stderr,
        Some("export") if !goes_to_a_file => JsonTo::Stderr,
        _ => JsonTo::Stdout,
    };
    let error = json!({
        "command": self::command(arguments),
        "error": {
            "code": Code::Usage.word(),
            "exit": Code::Usage.exit(),
            "message": message(refusal),
            "hint": hint(refusal, arguments),
        },
    });
    let line = format!("{}\n", escaped_json(&error.to_string()));
    // if nobody reads it, the exit code is left
    let _ = match to {
        JsonTo::Stdout => std::io::stdout().lock().write_all(line.as_bytes()),
        JsonTo::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
    };
}
