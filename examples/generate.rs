//! Makes a Chronicle database to try things on:
//! `cargo run --release --example generate -- FILE --sessions N --events N [--seed S] [--server]`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

#[path = "../tests/suite/support/generate/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod generate;

const USAGE: &str = "usage: generate FILE --sessions N --events N [--seed S] [--server]";

struct Wanted {
    file: PathBuf,
    sessions: u32,
    events: u32,
    seed: u64,
    server: bool,
}

fn main() -> ExitCode {
    match wanted(std::env::args().skip(1)).and_then(|wanted| make(&wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // There is nowhere left to say that stderr is gone.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut file, mut sessions, mut events) = (None, None, None);
    let (mut seed, mut server) = (1, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--sessions" => sessions = Some(number(&arg, args.next())?),
            "--events" => events = Some(number(&arg, args.next())?),
            "--seed" => seed = number(&arg, args.next())?,
            "--server" => server = true,
            _ if arg.starts_with('-') || file.is_some() => {
                return Err(format!("unexpected: {arg}\n{USAGE}"));
            }
            _ => file = Some(PathBuf::from(arg)),
        }
    }
    match (file, sessions, events) {
        (Some(file), Some(sessions), Some(events)) => {
            Ok(Wanted { file, sessions, events, seed, server })
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn number<T: FromStr>(option: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("{option} needs a number\n{USAGE}"))?;
    value.parse().map_err(|_| format!("{option}: {value} is not a number that fits\n{USAGE}"))
}

fn make(wanted: &Wanted) -> Result<(), String> {
    let Wanted { file, sessions, events, seed, server } = wanted;
    if file.exists() {
        return Err(format!("{} exists already: name a new file", file.display()));
    }
    let write = if *server { generate::server_database } else { generate::hooks_database };
    write(file, *sessions, *events, *seed).map_err(|error| format!("{}: {error}", file.display()))
}
