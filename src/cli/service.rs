//! `service`: the command that a scheduler runs every night, in the words of that scheduler.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;

use super::args::Args;
use super::copy::refuse_itself;
use super::export;
use super::login_args::LoginArgs;
use super::name_pattern::NamePattern;
use super::report::Report;
use super::service_args::ServiceArgs;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::location::{Environment, Location, SYSTEM_ROOTS};
use crate::policy::{AssumeZone, Policy};
use crate::service::{Nightly, NightlyJob, ServiceAction, TimeOfDay, UnitName};
use crate::typed;
use chronicle_archive::{show_path, show_text};

/// What was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The options of the command.
    pub(super) service: &'a ServiceArgs,
    /// Those of every command, which the one of the unit gets, too.
    pub(super) all: &'a Args,
}

/// Prints the units; `program` is the running program.
pub(super) async fn run(
    asked: Asked<'_>,
    program: std::io::Result<PathBuf>,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let Asked { service: args, all } = asked;
    let ServiceAction::Print = args.action;
    let at = TimeOfDay::parse(&args.at).map_err(|e| e.at("--at"))?;
    let program = program.map_err(|e| {
        Error::new(Code::NotFound, "the place of this program is not known").because(e)
    })?;
    let source = match &args.from {
        Some(text) => Database::named("--from", text, args, environment, report)?,
        None => Database::of("", export::found(environment, report)?, "")?,
    };
    let (job, called, command) = match (&args.archive_to, &args.sync_to) {
        (Some(file), _) => {
            let command = archive(args, &source, file)?;
            report.reveal(&file.display().to_string());
            (NightlyJob::Archive, source.called(), command)
        }
        (None, Some(target)) => {
            let target = Database::named("--sync-to", target, args, environment, report)?;
            let sources = std::slice::from_ref(&source.location);
            refuse_itself(sources, &target.location, "--sync-to", cancel).await?;
            let called = format!("{}-to-{}", source.called(), target.called());
            (NightlyJob::Sync, called, sync(args, &source, &target)?)
        }
        (None, None) => {
            let what = "say what to do every night";
            return Err(Error::new(Code::Usage, what).hint("give --archive-to or --sync-to"));
        }
    };
    let program = text(&program)?;
    let options = login(&args.login)?.into_iter().chain(common(all)?);
    let words: Vec<String> = std::iter::once(program).chain(command).chain(options).collect();
    Args::try_parse_from(&words).map_err(|e| {
        Error::new(Code::Internal, "the command line of the unit cannot be understood").because(e)
    })?;
    let home = environment.home.as_deref();
    let name = UnitName::new(job, args.name.as_deref().map_or(Ok(called), named)?);
    let units = Nightly { job, name, at, words: &words, home }.units(args.scheduler)?;
    if report.is_json() {
        report.result_json(&json!({
            "command": "service",
            "scheduler": args.scheduler.word(),
            "job": job.word(),
            "words": words,
            "units": units.iter().map(|u| json!({"file": u.file, "text": u.text})).collect::<Vec<_>>(),
        }))?;
        return Ok(0);
    }
    let texts: Vec<&str> = units.iter().map(|unit| unit.text.as_str()).collect();
    report.raw(texts.join("\n").as_bytes())?;
    Ok(0)
}

/// The name that was asked for.
fn named(name: &str) -> Result<String> {
    match UnitName::spelled(name) == name && !name.is_empty() {
        true => Ok(name.to_owned()),
        false => {
            let what = format!("--name: no unit can be called \"{}\"", show_text(name));
            Err(Error::new(Code::Usage, what)
                .hint("use letters, digits, and - _ . between them, such as --name work"))
        }
    }
}

/// The options of every command, as the command of a unit gets them.
fn common(all: &Args) -> Result<Vec<String>> {
    let log = all.log.as_deref().map(absolute).transpose()?.map(|log| format!("--log={log}"));
    let quiet = all.quiet.then(|| "--quiet".to_owned());
    let verbose = all.verbose.then(|| "--verbose".to_owned());
    Ok(log.into_iter().chain(quiet).chain(verbose).collect())
}

/// The options of the login, whose files are found from any folder.
fn login(args: &LoginArgs) -> Result<Vec<String>> {
    if args.password_file.as_ref().is_some_and(|file| !file.is_file()) {
        // what was typed may be the password itself
        return Err(Error::new(Code::NotFound, "--password-file: there is no such file"));
    }
    let file = |file: &Option<PathBuf>| file.as_deref().map(absolute).transpose();
    let root = args.sslrootcert.as_deref().filter(|root| *root != SYSTEM_ROOTS).map(Path::new);
    let absolute = LoginArgs {
        password_file: file(&args.password_file)?.map(PathBuf::from),
        env_file: file(&args.env_file)?.map(PathBuf::from),
        sslrootcert: root.map(self::absolute).transpose()?.or_else(|| args.sslrootcert.clone()),
        role: args.role.clone(),
        timeout: args.timeout,
    };
    Ok(absolute.words().into_iter().map(|[option, value]| format!("{option}={value}")).collect())
}

/// The command that writes an archive.
fn archive(args: &ServiceArgs, source: &Database, file: &Path) -> Result<Vec<String>> {
    let pattern = NamePattern::of(file, "--archive-to", &source.location.name())?;
    if !pattern.is_some_and(|pattern| pattern.is_dated()) {
        let what = "--archive-to: each night needs a file of its own with its date in the name";
        return Err(Error::new(Code::Usage, what)
            .hint("name it so: --archive-to 'FOLDER/NAME-{date}-{time}.ndjson.zst'"));
    }
    let file = absolute(file)?;
    if let Some(folder) = Path::new(&file).parent().filter(|folder| !folder.is_dir()) {
        let folder = show_path(folder.display());
        let what = format!("--archive-to: there is no folder {folder}");
        return Err(
            Error::new(Code::NotFound, what).hint(format!("create it first: mkdir -p {folder}"))
        );
    }
    let command = ["export".to_owned(), source.name.clone(), format!("--output={file}")];
    Ok(command.into_iter().chain(args.keep.words()).collect())
}

/// The command that brings a database up to date with another one.
fn sync(args: &ServiceArgs, source: &Database, target: &Database) -> Result<Vec<String>> {
    // what would be refused every night is refused now
    args.assume_tz.as_deref().map(AssumeZone::parse).transpose()?;
    let ends = [format!("--from={}", source.name), format!("--to={}", target.name)];
    let zone = args.assume_tz.as_ref().map(|zone| format!("--assume-tz={zone}"));
    let orphans = args.orphans.map(|orphans| format!("--orphans={}", orphans.word()));
    let command = std::iter::once("copy".to_owned()).chain(ends);
    let policies = ["--on-conflict=update".to_owned()].into_iter().chain(zone).chain(orphans);
    Ok(command.chain(policies).collect())
}

/// A database, and its name in a unit: the same from any folder, and never with a password.
struct Database {
    location: Location,
    name: String,
}

impl Database {
    /// The database that an option names.
    fn named(
        option: &str,
        name: &str,
        args: &ServiceArgs,
        environment: &Environment<'_>,
        report: &Report,
    ) -> Result<Database> {
        let location = Location::parse(name, environment);
        let location = location.map_err(|e| e.at(option))?;
        if location.variable().is_some() && args.login.env_file.is_none() {
            let what = format!("{option}: a unit does not have the variables of this shell");
            return Err(Error::new(Code::Usage, what).hint(
                "name a file that has it: --env-file FILE; or write the connection string itself, without its password, and \
                 put that into ~/.pgpass, or into a file for --password-file FILE",
            ));
        }
        if location.shows_password() {
            let what =
                format!("{option}: a password is not put into a unit, which others may read");
            return Err(Error::new(Code::Usage, what).hint(
                "leave it out, and put it into ~/.pgpass, or into a file for --password-file FILE",
            ));
        }
        if let Location::Postgres(_) = location {
            report.reveal(name);
        }
        Database::of(option, location, name)
    }

    /// A database that was typed so, or is a file: one that is there, since what was typed may be anything else.
    fn of(option: &str, location: Location, typed: &str) -> Result<Database> {
        let name = match &location {
            Location::Sqlite(path) if !path.is_file() => {
                let what = format!("{option}: {location}: no such file");
                return Err(Error::new(Code::NotFound, what).hint(match option {
                    "--sync-to" => "a first chronicle-dump copy --create creates a target",
                    _ => "name the database to read; without --from it is Chronicle's own file",
                }));
            }
            Location::Sqlite(path) => absolute(path)?,
            Location::Postgres(_) => typed::unwrapped(typed).unwrap_or(typed).to_owned(),
        };
        Ok(Database { location, name })
    }

    /// What it is called in the name of a unit.
    fn called(&self) -> String {
        // every project's database has one name
        let name = self.location.project().map_or_else(|| self.location.name(), str::to_owned);
        UnitName::spelled(&name)
    }
}

/// A path that leads to the same file from any folder.
fn absolute(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)
        .map_err(|e| Error::new(Code::Usage, "the name of a file is empty").because(e))?;
    text(&path)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let shown = show_path(path.display());
        Error::new(Code::Usage, format!("{shown}: a name that is not UTF-8 fits into no unit"))
            .hint("rename the file")
    })
}
