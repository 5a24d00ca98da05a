//! `copy --config`: what the configuration file of Chronicle's migration tutorial asks for, joined with the command line,
//! whose options win.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::copy_args::CopyArgs;
use super::export;
use super::locate;
use super::prompt;
use super::report::Report;
use crate::chronicle::config::{
    ConfiguredEnd, MigrationConfig, database_is_missing, user_info_key,
};
use crate::error::{Code, Error, Result};
use crate::location::{Environment, Location, LoginOptions};
use crate::notice::Notice;
use crate::typed::may_be_secret;
use chronicle_archive::show_path;

/// More bytes than any configuration has.
const LONGEST: u64 = 1 << 20;

/// The archive of the source and that of the target, which `create_backup` asks for, beside the file.
const BACKUPS: [&str; 2] =
    ["{source}-{date}-{time}.ndjson.zst", "{source}-before-{date}-{time}.ndjson.zst"];

/// A copy as both ask for it.
pub(super) struct Asked {
    /// The options.
    pub(super) args: CopyArgs,
    /// The databases that are read, in their order.
    pub(super) sources: Vec<Location>,
    /// The database that is written.
    pub(super) target: Location,
    /// What of the file has no effect.
    pub(super) notices: Vec<Notice>,
}

impl Asked {
    /// Reads the file, if there is one, and finds out which databases are meant.
    pub(super) fn read(
        args: &CopyArgs,
        environment: &Environment<'_>,
        report: &Report,
    ) -> Result<Asked> {
        let config = match &args.config {
            Some(path) => read(path, environment)?,
            None => MigrationConfig::default(),
        };
        let sources = sources(args, &config, environment, report)?;
        let target = target(args, &config, environment, report)?;
        Ok(Asked { args: joined(args, &config), sources, target, notices: config.notices })
    }
}

fn read(path: &Path, environment: &Environment<'_>) -> Result<MigrationConfig> {
    let shown = show_path(path.display());
    let cannot = |e: std::io::Error| {
        Error::new(Code::NotFound, format!("{shown}: cannot be read")).because(e)
    };
    let mut text = String::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LONGEST).read_to_string(&mut text).map_err(cannot)?;
    MigrationConfig::parse(&text, environment.home.as_deref()).map_err(|e| e.at(shown))
}

/// The options with what the file adds to them.
fn joined(args: &CopyArgs, config: &MigrationConfig) -> CopyArgs {
    let mut args = args.clone();
    args.into.dry_run |= config.dry_run;
    args.into.clear |= config.clear_target;
    if args.selection.user.is_empty() {
        args.selection.user.extend(config.only_user.clone());
    }
    let of_file = config.user_info.iter();
    args.into.plan.amendments.of_file = of_file
        .map(|(column, value)| (user_info_key(column), (*column).to_owned(), value.clone()))
        .collect();
    if let Some(file) = args.config.as_ref().filter(|_| config.create_backup) {
        let [of_source, of_target] = BACKUPS.map(|name| file.with_file_name(name));
        args.tee.get_or_insert(of_source);
        args.into.batch.backup.get_or_insert(of_target);
    }
    args
}

fn sources(
    args: &CopyArgs,
    config: &MigrationConfig,
    environment: &Environment<'_>,
    report: &Report,
) -> Result<Vec<Location>> {
    if args.expect.is_some() && args.from.len() > 1 {
        return Err(Error::new(Code::Usage, "--expect works with one source only"));
    }
    let Environment { variable, home, login } = environment;
    let login = LoginOptions {
        password_file: args.from_password_file.clone().or_else(|| login.password_file.clone()),
        role: args.from_role.clone().or_else(|| login.role.clone()),
        sslrootcert: login.sslrootcert.clone(),
        timeout: login.timeout,
    };
    let environment = &Environment { variable: *variable, home: home.clone(), login };
    if !args.from.is_empty() {
        let locate = |text: &String| locate(text, environment, report);
        return args.from.iter().map(locate).collect();
    }
    let end = End { part: "source", option: "--from-db-url", url: args.from_db_url.as_deref() };
    match (&config.source, &args.config) {
        (Some(configured), Some(file)) => {
            let location = end.locate(configured, environment, report);
            Ok(vec![location.map_err(|e| e.at(show_path(file.display())))?])
        }
        (None, Some(file)) => Err(end.is_missing(file, "--from SOURCE")),
        (_, None) => Ok(vec![export::found(environment, report)?]),
    }
}

fn target(
    args: &CopyArgs,
    config: &MigrationConfig,
    environment: &Environment<'_>,
    report: &Report,
) -> Result<Location> {
    if let Some(text) = &args.to {
        return locate(text, environment, report);
    }
    let end = End { part: "target", option: "--to-db-url", url: args.to_db_url.as_deref() };
    match (&config.target, &args.config) {
        (Some(configured), Some(file)) => {
            let location = end.locate(configured, environment, report);
            location.map_err(|e| e.at(show_path(file.display())))
        }
        (_, Some(file)) => Err(end.is_missing(file, "--to TARGET")),
        (_, None) => Err(Error::new(Code::Usage, "--to is missing")),
    }
}

/// One end of a copy in the file, and the option that completes it.
struct End<'a> {
    part: &'static str,
    option: &'static str,
    url: Option<&'a str>,
}

impl End<'_> {
    fn is_missing(&self, file: &Path, option: &str) -> Error {
        let what = format!("{}: {} is missing", show_path(file.display()), self.part);
        Error::new(Code::Usage, what).hint(format!("add it to the file, or {option}"))
    }

    fn locate(
        &self,
        end: &ConfiguredEnd,
        environment: &Environment<'_>,
        report: &Report,
    ) -> Result<Location> {
        let part = self.part;
        let (name, database_url) = match end {
            ConfiguredEnd::File(path) => return self.file(path),
            ConfiguredEnd::Project { name, database_url } => (name, database_url),
        };
        let (key, location) = match (self.url, database_url) {
            (Some(url), _) => (self.option.to_owned(), locate(url, environment, report)?),
            // nobody sees it in the list of processes
            (None, Some(url)) => (
                format!("{part}.database_url"),
                Location::parse(url, environment)?.asking_by(prompt::password),
            ),
            (None, None) => return Err(database_is_missing(part, self.option)),
        };
        if matches!(location, Location::Sqlite(_)) {
            return Err(Error::new(Code::Usage, format!("{key} is not a connection string"))
                .hint("write postgresql://USER@HOST:5432/DATABASE"));
        }
        match (name, location.project()) {
            (Some(name), Some(project)) if *name != project => Err(Error::new(
                Code::Usage,
                format!("{key} leads to the project {project}, {part}.supabase_url to {name}"),
            )
            .hint("correct the wrong one of the two")),
            _ => Ok(location),
        }
    }

    fn file(&self, path: &Path) -> Result<Location> {
        if self.url.is_some() {
            return Err(Error::new(
                Code::Usage,
                format!("{} is for a project, but {}.type is \"sqlite\"", self.option, self.part),
            )
            .hint("omit it, or change the type to \"supabase\""));
        }
        // a message would repeat it
        if may_be_secret(&path.display().to_string()) && !path.exists() {
            return Err(Error::new(
                Code::Usage,
                format!("{}.database_path is not the path of a file", self.part),
            )
            .hint(format!("a connection string belongs into {}.database_url", self.part)));
        }
        Ok(Location::Sqlite(path.to_owned()))
    }
}
