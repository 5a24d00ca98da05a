//! The command line: arguments to options, one library call per command, and the report.

pub mod args;
mod audit;
mod bar;
mod cat;
mod check;
mod diff;
mod export;
mod import;
mod inspect;
mod output;
mod policy_args;
mod report;
mod schema;
mod signals;
mod suggestion;
mod summary;
mod usage;
mod verify;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, Parser};

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
        Err(refusal) => return usage::refuse(refusal, &arguments),
    };
    let report = Report::new(&args);
    match work(&args, &report) {
        Ok(code) => code,
        Err(error) => {
            report.error(&error);
            error.code().exit()
        }
    }
}

fn work(args: &Args, report: &Report) -> Result<u8> {
    if let Command::Man = args.command {
        return man(report).map(|()| 0);
    }
    if let Command::Schema(args) = &args.command {
        return schema::run(args, report).map(|()| 0);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Error::new(Code::Internal, "cannot start the runtime").because(e))?;
    let cancel = Cancel::default();
    runtime.spawn(signals::stop_on_signal(cancel.clone()));
    let variable = |name: &str| std::env::var(name).ok();
    bench_skip::check(variable(bench_skip::VARIABLE).as_deref())?;
    let environment = Environment { variable: &variable, home: std::env::home_dir() };
    let result = runtime.block_on(async {
        match &args.command {
            Command::Export(args) => {
                let exported = export::run(args, &environment, report, &cancel).await;
                exported.map_err(|e| export::about(args, e))
            }
            Command::Import(args) => import::run(args, &environment, report, &cancel).await,
            Command::Check(args) => check::run(args, &environment, report, &cancel).await,
            Command::Verify(args) => verify::run(args, &environment, report, &cancel).await,
            Command::Inspect(args) => inspect::run(args, report, &cancel).await,
            Command::Cat(args) => cat::run(args, report, &cancel).await,
            Command::Diff(args) => diff::run(args, &environment, report, &cancel).await,
            Command::Schema(_) | Command::Man => Ok(0),
        }
    });
    // a thread that waits for a pipe must not keep the process alive
    runtime.shutdown_background();
    result
}

/// Reads the name of a database, and tells if it shows a password.
fn locate(
    text: &str,
    password_file: Option<&Path>,
    environment: &Environment<'_>,
    report: &Report,
) -> Result<Location> {
    let location = Location::parse(text, password_file, environment)?;
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

/// Prints the manual page.
fn man(report: &Report) -> Result<()> {
    let page =
        page().map_err(|e| Error::new(Code::Internal, "cannot write the page").because(e))?;
    report.raw(page.as_bytes())
}

/// The manual page: the program, then every command under a heading of its own.
fn page() -> std::io::Result<String> {
    let mut program = Args::command();
    program.build();
    let mut page = Vec::new();
    let whole = clap_mangen::Man::new(program.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    let shown = |c: &&clap::Command| !c.is_hide_set() && c.get_name() != "help";
    for command in program.get_subcommands().filter(shown) {
        let mut part = Vec::new();
        let man = clap_mangen::Man::new(command.clone());
        man.render_description_section(&mut part)?;
        man.render_synopsis_section(&mut part)?;
        man.render_options_section(&mut part)?;
        let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
        page.extend_from_slice(
            format!(".SH {}\n{part}", command.get_name().to_uppercase()).as_bytes(),
        );
    }
    whole.render_extra_section(&mut page)?;
    whole.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).replace(".SH EXTRA", ".SH \"EXIT STATUS\""))
}
