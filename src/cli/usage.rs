//! Command lines that cannot be understood, and help that was asked for.

use std::ffi::OsString;
use std::io::Write;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::json;

use super::args::{Args, JsonTo};
use crate::error::{Code, Error};
use chronicle_archive::escaped_json;

/// Prints what clap says instead of arguments: help and version are results, everything else is a
/// mistake. Returns the exit code.
pub(super) fn refuse(mut refusal: clap::Error, arguments: &[OsString]) -> u8 {
    hide_words(&mut refusal);
    let mistake = refusal.use_stderr();
    if mistake && arguments.iter().any(|argument| argument == "--json") {
        print_json(&refusal, arguments);
    }
    let printed = refusal.print().and_then(|()| std::io::stdout().flush());
    match printed.map_err(|e| Error::writing("stdout", e)) {
        _ if mistake => Code::Usage.exit(),
        Ok(()) => 0,
        Err(error) => {
            if error.code() != Code::BrokenPipe {
                let _ = writeln!(std::io::stderr().lock(), "chronicle-dump: {}", error.full());
            }
            error.code().exit()
        }
    }
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
    let text = refusal.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let message = lines.collect::<Vec<_>>().join(" ");
    let error = json!({
        "command": command.filter(|word| Args::command().find_subcommand(word).is_some()),
        "error": {
            "code": Code::Usage.word(),
            "exit": Code::Usage.exit(),
            "message": message.strip_prefix("error: ").unwrap_or(&message),
            "hint": "chronicle-dump --help lists commands and options",
        },
    });
    let line = format!("{}\n", escaped_json(&error.to_string()));
    // whoever does not read it is told by the exit code
    let _ = match to {
        JsonTo::Stdout => std::io::stdout().lock().write_all(line.as_bytes()),
        JsonTo::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
    };
}
