//! The command line: arguments to options, one library call per command, and the report.

pub mod args;
mod audit;
mod backup;
mod bar;
mod cat;
mod check;
mod completions;
mod copy;
mod copy_args;
mod copy_config;
mod diff;
mod dump_args;
mod env;
mod env_args;
mod environment;
mod examples;
mod export;
mod groups;
mod history;
mod history_args;
mod import;
mod inspect;
mod keep;
mod load;
mod loaded;
mod log;
mod login_args;
mod manual;
mod name_pattern;
mod output;
mod policy_args;
mod prompt;
mod read_back;
mod report;
mod restore;
mod rollback;
mod schema;
mod selection_args;
mod service;
mod service_args;
mod signals;
mod stats;
mod status;
mod suggestion;
mod summary;
mod transfer_args;
mod usage;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::load::bench_skip;
use crate::location::{Environment, Location};
use args::{Args, Command};
use report::Report;

/// Runs the program with its arguments; returns the exit code.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.collect();
    let args = match Args::try_parse_from(&arguments) {
        Ok(args) => args,
        Err(refusal) => {
            let log = log::named(&arguments).or_else(log_of_environment);
            return usage::refuse(refusal, &arguments, log.as_deref());
        }
    };
    let log = args.log.clone().or_else(log_of_environment);
    let report = Report::new(&args, log.as_deref());
    let opened = log.map_or(Ok(()), |log| report.open_log(&log, &arguments));
    let code = opened.and_then(|()| work(&args, &report)).unwrap_or_else(|error| {
        report.error(&error);
        error.code().exit()
    });
    report.end(code);
    code
}

/// The log that the environment names.
fn log_of_environment() -> Option<PathBuf> {
    std::env::var_os(log::VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

fn work(args: &Args, report: &Report) -> Result<u8> {
    let set = |name: &str| std::env::var(name).ok();
    let login = args.command.login().cloned().unwrap_or_default();
    let file = login.variables(&set)?;
    let in_file = |name: &str| file.as_ref()?.get(name).map(str::to_owned);
    let variable = |name: &str| set(name).or_else(|| in_file(name));
    let environment =
        Environment { variable: &variable, home: std::env::home_dir(), login: login.options() };
    // what needs no database and no archive
    let printed = match &args.command {
        Command::Schema(args) => Some(schema::run(args, report).map(|()| 0)),
        Command::Env(args) => Some(env::run(args, &environment, report)),
        Command::Completions(args) => Some(completions::run(args, report).map(|()| 0)),
        Command::Man(args) => Some(manual::run(args, report).map(|()| 0)),
        _ => None,
    };
    if let Some(printed) = printed {
        return printed;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Error::new(Code::Internal, "cannot start the runtime").because(e))?;
    let cancel = Cancel::default();
    // before any work: a signal that nobody listens for would leave a part of an output behind
    let signals = {
        let _inside = runtime.enter();
        signals::Signals::listen()
    };
    runtime.spawn(signals::stop_on_signal(signals, cancel.clone()));
    bench_skip::check(variable(bench_skip::VARIABLE).as_deref())?;
    let result = runtime.block_on(async {
        let result = match &args.command {
            Command::Export(args) => export::run(args, &environment, report, &cancel).await,
            Command::Import(args) => import::run(args, &environment, report, &cancel).await,
            Command::Copy(args) => copy::run(args, &environment, report, &cancel).await,
            Command::Check(args) => check::run(args, &environment, report, &cancel).await,
            Command::Verify(args) => verify::run(args, &environment, report, &cancel).await,
            Command::Inspect(args) => inspect::run(args, report, &cancel).await,
            Command::Cat(args) => cat::run(args, report, &cancel).await,
            Command::Diff(args) => diff::run(args, "diff", &environment, report, &cancel).await,
            Command::Restore(args) => restore::run(args, &environment, report, &cancel).await,
            Command::History(args) => history::run(args, &environment, report, &cancel).await,
            Command::Rollback(args) => rollback::run(args, &environment, report, &cancel).await,
            Command::Service(asked) => {
                let program = std::env::current_exe();
                let asked = service::Asked { service: asked, all: args };
                service::run(asked, program, &environment, report, &cancel).await
            }
            Command::Schema(_) | Command::Env(_) | Command::Completions(_) | Command::Man(_) => {
                Ok(0)
            }
        };
        signals::or_interrupted(result, &cancel).await
    });
    // a thread that waits for a pipe must not keep the process alive
    runtime.shutdown_background();
    result
}

/// Reads the name of a database, and tells if it shows a password.
fn locate(text: &str, environment: &Environment<'_>, report: &Report) -> Result<Location> {
    let location = Location::parse(text, environment)?.asking_by(prompt::password);
    if location.shows_password() {
        report.password_is_typed();
    } else if matches!(location, Location::Postgres(_)) && location.to_string() == text {
        report.reveal(text);
    }
    Ok(location)
}

/// Does work that may wait for an input on a thread of its own, so that a stop is seen.
async fn aside<T: Send + 'static>(
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let failed = || Error::new(Code::Internal, "a thread has failed");
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .spawn(move || {
            let _ = done.send(work());
        })
        .map_err(|e| failed().because(e))?;
    cancel.or(async { result.await.map_err(|_| failed())? }).await
}
