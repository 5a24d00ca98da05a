//! Where a database is: the only place that names both kinds.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::catalog::Backend;
use crate::error::{Code, Error, Result};
use crate::load::{Preflight, Target, TargetOptions};
use crate::notice::{Notice, NoticeKind};
use crate::part::Selected;
use crate::postgres::attached::Attached;
pub use crate::postgres::conninfo::SYSTEM as SYSTEM_ROOTS;
use crate::postgres::conninfo::{ConnInfo, Prompt, read_password_file};
use crate::postgres::dump;
use crate::postgres::load::PgTarget;
use crate::postgres::rollback::PgHistory;
use crate::postgres::source::PgSource;
use crate::selection::Selection;
use crate::source::{Restored, Source, SourceOptions};
use crate::sqlite;
use crate::sqlite::load::SqliteTarget;
use crate::sqlite::rollback::SqliteHistory;
use crate::sqlite::source::SqliteSource;
use crate::typed;
use crate::undo::HistoryDatabase;
use chronicle_archive::show_path;

/// A database, by its file or its server. Its text never shows a password.
#[derive(Clone, Debug)]
pub enum Location {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<ConnInfo>),
}

/// What surrounds the program: its variables and its user's home.
pub struct Environment<'a> {
    /// Looks a variable up.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// How servers are reached, where their connection strings do not say it.
    pub login: LoginOptions,
}

/// What options say of the login to a server.
#[derive(Clone, Debug, Default)]
pub struct LoginOptions {
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The role to act as.
    pub role: Option<String>,
    /// A file of root certificates, or `system`.
    pub sslrootcert: Option<String>,
    /// How long a server may owe an answer in silence; zero is for ever.
    pub timeout: Option<Duration>,
}

impl Location {
    /// Reads a path, `sqlite:PATH`, a `postgresql://` URL or a libpq key=value string, also one that
    /// was pasted with its quotes or as `NAME=value`, or one of these in the variable that `env:NAME` names.
    ///
    /// # Errors
    /// A text that is none of these, or a URL that cannot be read in one way only.
    pub fn parse(text: &str, environment: &Environment<'_>) -> Result<Location> {
        let Some(name) = typed::variable(text) else {
            return Location::read(text, environment);
        };
        let value = typed::value(name, environment.variable)?;
        let location = Location::read(&value, environment);
        match location.map_err(|e| e.at(typed::shown_variable(name)))? {
            Location::Postgres(mut info) => {
                info.come_from_variable(name);
                Ok(Location::Postgres(info))
            }
            Location::Sqlite(path) if path.exists() => Ok(Location::Sqlite(path)),
            Location::Sqlite(_) => Err(typed::leads_nowhere(name)),
        }
    }

    /// Reads what names a database by itself.
    fn read(text: &str, environment: &Environment<'_>) -> Result<Location> {
        if text.trim().is_empty() {
            return Err(Error::new(Code::Usage, "the name of the database is empty").hint(
                "a variable in quotes may not be set; give a .db file or a postgresql:// URL",
            ));
        }
        let path = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
        let looks_like = ConnInfo::looks_like(text);
        // a file may be called anything, if it is there
        if !looks_like && Path::new(path.unwrap_or(text)).exists() {
            return Ok(Location::Sqlite(path.unwrap_or(text).into()));
        }
        let inner =
            typed::unwrapped(text).filter(|inner| !looks_like && ConnInfo::looks_like(inner));
        if !looks_like && inner.is_none() {
            typed::refuse_mangled(text)?;
            return Ok(Location::Sqlite(path.unwrap_or(text).into()));
        }
        let text = inner.unwrap_or(text);
        let Environment { variable, home, login } = environment;
        let given = login.password_file.as_deref().map(read_password_file).transpose()?;
        let mut info = ConnInfo::parse(text, *variable)?;
        if inner.is_some() {
            let text = "the connection string was taken out of the text around it";
            info.notes.push(Notice::new(NoticeKind::Unwrapped, text));
        }
        info.find_password(given, *variable, home.as_deref())?;
        info.tls.complete(login.sslrootcert.as_deref(), home.as_deref())?;
        info.role.clone_from(&login.role);
        if let Some(timeout) = login.timeout {
            info.patience = Some(timeout).filter(|timeout| !timeout.is_zero());
        }
        Ok(Location::Postgres(Box::new(info)))
    }

    /// Opens the database for reading, as one consistent moment.
    ///
    /// # Errors
    /// If it cannot be opened or is of no known layout.
    pub async fn open_source(
        &self,
        options: SourceOptions,
        cancel: &Cancel,
    ) -> Result<Box<dyn Source>> {
        let source = match self {
            Location::Sqlite(path) => {
                let opened = SqliteSource::open(path, &options, cancel);
                let (source, recipes) = opened.map_err(|e| e.about(path.display()))?;
                Restored::wrap(Box::new(source), recipes, options.stored_keys)
            }
            Location::Postgres(info) => {
                let (source, recipes) = cancel.or(PgSource::open(info, &options)).await?;
                Restored::wrap(Box::new(source), recipes, options.stored_keys)
            }
        };
        select(source, &options).map_err(|e| e.about(self))
    }

    /// Opens the database for writing; creates its tables first if the options say so.
    ///
    /// # Errors
    /// If it cannot be opened or is of no known layout.
    pub async fn open_target(
        &self,
        options: &TargetOptions,
        cancel: &Cancel,
    ) -> Result<Box<dyn Target>> {
        match self {
            Location::Sqlite(path) => {
                let target = match &options.create {
                    Some(layout) => SqliteTarget::create(path, layout, cancel),
                    None => SqliteTarget::open(path, options, cancel),
                };
                Ok(Box::new(target.map_err(|e| e.about(path.display()))?))
            }
            Location::Postgres(info) => {
                Ok(Box::new(cancel.or(PgTarget::open(info, options, cancel)).await?))
            }
        }
    }

    /// Opens the database to find out what would stop the import of an archive behind so many others: nothing stays, and
    /// nothing is locked unless there are others, which are loaded first.
    ///
    /// # Errors
    /// As [`open_target`](Location::open_target).
    pub async fn open_preflight(
        &self,
        options: &TargetOptions,
        earlier: usize,
        cancel: &Cancel,
    ) -> Result<Preflight> {
        let target: Box<dyn Target> = match self {
            Location::Sqlite(path) => {
                let target = match &options.create {
                    Some(layout) => SqliteTarget::would_create(path, layout, cancel),
                    None => SqliteTarget::open_copy(path, options, cancel),
                };
                Box::new(target.map_err(|e| e.about(path.display()))?)
            }
            Location::Postgres(info) => {
                Box::new(cancel.or(PgTarget::open(info, options, cancel)).await?)
            }
        };
        Ok(Preflight::after(earlier, target))
    }

    /// Opens its history, for reading or for undoing batches, which waits as long as given for others.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn open_history(
        &self,
        writes: bool,
        wait: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<Box<dyn HistoryDatabase>> {
        match self {
            Location::Sqlite(path) => {
                let opened = SqliteHistory::open(path, writes, wait, cancel);
                Ok(Box::new(opened.map_err(|e| e.about(path.display()))?))
            }
            Location::Postgres(info) => {
                Ok(Box::new(cancel.or(PgHistory::open(info, wait, cancel)).await?))
            }
        }
    }

    /// Whether it is a file that does not exist.
    pub fn is_no_file(&self) -> bool {
        match self {
            Location::Sqlite(path) => {
                path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            }
            Location::Postgres(_) => false,
        }
    }

    /// Whether another name leads to the same database, as far as that can be told without opening either: by another
    /// link to the file, or by another spelling of the server.
    pub async fn is_same(&self, other: &Location) -> bool {
        match (self, other) {
            (Location::Sqlite(one), Location::Sqlite(two)) => {
                let file = |path: &Path| path.metadata().ok().map(|data| (data.dev(), data.ino()));
                file(one).is_some_and(|file_of_one| file(two) == Some(file_of_one))
            }
            (Location::Postgres(one), Location::Postgres(two)) => one.is_same(two).await,
            _ => false,
        }
    }

    /// What another database on a server has beside the rows of its tables, and this one lacks; nothing where either of them
    /// is a file.
    ///
    /// # Errors
    /// If a server cannot be asked.
    pub async fn lacks(&self, other: &Location, cancel: &Cancel) -> Result<Vec<Notice>> {
        let (Location::Postgres(own), Location::Postgres(other)) = (self, other) else {
            return Ok(Vec::new());
        };
        let theirs = cancel.or(Attached::read(other)).await?;
        Ok(cancel.or(Attached::read(own)).await?.lacks(&theirs))
    }

    /// The Supabase project that it belongs to, if its name says so.
    pub fn project(&self) -> Option<&str> {
        match self {
            Location::Sqlite(_) => None,
            Location::Postgres(info) => info.project(),
        }
    }

    /// Copies the whole file of a SQLite database.
    ///
    /// # Errors
    /// If it is no file, or the copy cannot be made.
    pub fn copy_file(&self, to: &Path, cancel: &Cancel) -> Result<()> {
        match self {
            Location::Sqlite(file) => sqlite::backup::copy(file, to, cancel),
            Location::Postgres(_) => {
                Err(Error::new(Code::Usage, "a database on a server is not a file"))
            }
        }
    }

    /// What it is called, for the name of a file: the file without its ending, or the database.
    pub fn name(&self) -> String {
        match self {
            Location::Sqlite(path) => {
                path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned())
            }
            Location::Postgres(info) => info.database.clone(),
        }
    }

    /// The name to type for it, without a password.
    pub fn to_type(&self) -> String {
        match self {
            Location::Sqlite(path) => {
                let path = path.display().to_string();
                if path.starts_with('-') { format!("./{path}") } else { path }
            }
            Location::Postgres(info) => info.to_type(),
        }
    }

    /// The same database, whose password is asked for if its server wants one and none was found.
    #[must_use]
    pub fn asking_by(self, prompt: Prompt) -> Location {
        match self {
            Location::Sqlite(_) => self,
            Location::Postgres(mut info) => {
                info.ask_by(prompt);
                Location::Postgres(info)
            }
        }
    }

    /// The variable that holds its name, if only that was typed.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Location::Sqlite(_) => None,
            Location::Postgres(info) => info.variable(),
        }
    }

    /// Whether its password was typed, so that it is in the list of processes.
    pub fn shows_password(&self) -> bool {
        matches!(self, Location::Postgres(info) if info.password_is_typed)
    }

    /// The kind of this database.
    pub fn backend(&self) -> Backend {
        match self {
            Location::Sqlite(_) => Backend::Sqlite,
            Location::Postgres(_) => Backend::Postgres,
        }
    }
}

/// The rows of a source that are wanted.
fn select(source: Box<dyn Source>, options: &SourceOptions) -> Result<Box<dyn Source>> {
    let select = |source, selection: &Selection| Selected::wrap(source, selection);
    options.selections.iter().try_fold(source, select)
}

/// A file with what `pg_dump` writes of a database, as plain SQL.
#[derive(Debug, Clone)]
pub struct DumpFile {
    /// The file; none is stdin.
    pub path: Option<PathBuf>,
    /// The database that is wanted, of several.
    pub database: Option<String>,
    /// The schema that is wanted, of several.
    pub schema: Option<String>,
}

impl DumpFile {
    /// What helps if it is a folder.
    pub const FOLDER: &str = dump::RESTORE;

    /// Reads all of its text, and gives the rows in it.
    ///
    /// # Errors
    /// If it is not complete, not plain SQL, or its tables are of no known layout.
    pub async fn open_source(
        &self,
        input: dump::Bytes,
        options: SourceOptions,
        cancel: &Cancel,
    ) -> Result<Box<dyn Source>> {
        let wanted = [&self.database, &self.schema].map(Option::as_deref);
        let opened = dump::open(input, wanted, &options, cancel).await;
        let (source, recipes) = opened.map_err(|e| e.about(self))?;
        let source = Restored::wrap(Box::new(source), recipes, options.stored_keys);
        select(source, &options).map_err(|e| e.about(self))
    }

    /// What it is called, for the name of a file: without the endings that say what it is.
    pub fn name(&self) -> String {
        let name = self.path.as_ref().and_then(|path| path.file_name());
        let mut name = name.map_or("stdin".into(), |name| name.to_string_lossy().into_owned());
        let endings = [".gz", ".zst", ".sql", ".backup", ".dump"];
        while let Some(stem) = endings.iter().find_map(|ending| name.strip_suffix(ending))
            && !stem.is_empty()
        {
            name = stem.to_owned();
        }
        name
    }
}

impl fmt::Display for DumpFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => f.write_str(&show_path(path.display())),
            None => f.write_str("stdin"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => f.write_str(&show_path(path.display())),
            Location::Postgres(info) => write!(f, "{info}"),
        }
    }
}
