//! The command line: every command and option, with its help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::policy_args::{PlanArgs, TargetArgs};
use crate::typed::may_be_secret;

/// Moves Chronicle databases between SQLite and Postgres through one verified, portable archive.
#[derive(Debug, Parser)]
#[command(name = "chronicle-dump", version, after_long_help = EXIT_CODES)]
pub struct Args {
    /// Print nothing but errors, on either stream
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Say everything: what was done to each column and why, line by line
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,

    /// Print the result, or the error, as one JSON object: on stdout, or on stderr where stdout
    /// carries an archive (`export` without -o) or rows (`cat`)
    #[arg(long, global = true)]
    pub json: bool,

    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The exit codes, as the help shows them; a test compares them with the code.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a bug of this program
  2    the command line cannot be understood
  3    not an archive, a damaged one, or one of a newer version
  4    the archive ends before its manifest
  5    the archive is complete but not the expected one
  6    the archive is complete; only its seek table is damaged or missing
  7    a database or file was not found or could not be opened
  8    reading the source or writing the target failed
  9    the tables are of no known layout, or the archive does not fit them
  10   a value that the target cannot hold
  11   a row exists already with other content
  12   a row refers to a row that does not exist
  13   the output could not be written
  14   done, but some rows were left out and set aside
  15   what was compared is not equal
  130  stopped by a signal, nothing changed
  141  the reader of our output has gone";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write everything in a database to one archive, on stdout or in a file
    Export(ExportArgs),
    /// Load an archive into a database: all of it or nothing
    Import(ImportArgs),
    /// Find everything that would stop or change an import; nothing is written
    Check(CheckArgs),
    /// Read archives from the first to the last byte and check everything
    Verify(VerifyArgs),
    /// Show what an archive contains, without reading all of it where possible
    Inspect(InspectArgs),
    /// Print an archive's rows as JSON, one on each line
    Cat(CatArgs),
    /// Compare two archives or databases row by row; exit code 15 if they are not equal
    Diff(DiffArgs),
    /// Print the tables of a layout as SQL, or list the layouts that are known
    Schema(SchemaArgs),
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// Where a command's JSON result goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonTo {
    /// Standard output.
    Stdout,
    /// Standard error, because standard output carries the archive or its rows.
    Stderr,
}

impl Command {
    /// The command's name, in front of every message.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Export(_) => "export",
            Command::Import(_) => "import",
            Command::Check(_) => "check",
            Command::Verify(_) => "verify",
            Command::Inspect(_) => "inspect",
            Command::Cat(_) => "cat",
            Command::Diff(_) => "diff",
            Command::Schema(_) => "schema",
            Command::Man => "man",
        }
    }

    /// Where its JSON result goes, as far as the command line says it: `-o` may lead to stdout.
    pub fn json_to(&self) -> JsonTo {
        match self {
            Command::Export(args) if args.output.is_some() => JsonTo::Stdout,
            Command::Export(_) | Command::Cat(_) => JsonTo::Stderr,
            _ => JsonTo::Stdout,
        }
    }

    /// Names of files and databases that messages do not repeat if there is no such file: they may hold
    /// a password.
    pub fn hidden_names(&self) -> Vec<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let (names, password_file) = match self {
            Command::Export(a) => {
                (vec![a.source.clone(), path(&a.output), a.layout.clone()], &a.password_file)
            }
            Command::Import(a) => {
                let files = [path(&a.archive), path(&a.rejects), a.target.layout.clone()];
                ([vec![Some(a.to.clone())], files.into()].concat(), &a.password_file)
            }
            Command::Check(a) => {
                let layouts = [a.from_layout.clone(), a.target.layout.clone()];
                let databases = [a.what.clone(), a.from.clone(), a.to.clone()];
                ([databases.to_vec(), layouts.into()].concat(), &a.password_file)
            }
            Command::Verify(a) => {
                let archives = a.archives.iter().map(|path| Some(path.display().to_string()));
                let more = [a.against.clone(), a.layout.clone()];
                (archives.chain(more).collect(), &a.password_file)
            }
            Command::Diff(a) => {
                (vec![Some(a.a.clone()), Some(a.b.clone()), a.layout.clone()], &a.password_file)
            }
            Command::Inspect(InspectArgs { archive }) | Command::Cat(CatArgs { archive, .. }) => {
                (vec![Some(archive.display().to_string())], &None)
            }
            Command::Schema(a) => (vec![a.layout.clone()], &None),
            Command::Man => (Vec::new(), &None),
        };
        // a password may have been typed in the place of its file
        let password_file = path(password_file).filter(|name| name.len() > 2);
        let secret = names.into_iter().flatten().filter(|name| may_be_secret(name));
        secret.chain(password_file).collect()
    }
}

/// `export`
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The database: a .db file, sqlite:PATH, a postgresql:// URL or a libpq key=value string;
    /// without it, Chronicle's own file is used
    pub source: Option<String>,

    /// Write to FILE instead of stdout; it gets its name only when it is complete. {date}, {time}
    /// (both in UTC) and {source} in the name are filled in. A file that exists is not replaced
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace the file that -o names
    #[arg(long, requires = "output")]
    pub force: bool,

    /// The zstd level
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: i32,

    /// The compressing threads [default: the processors of this machine]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// Read rows in the order of the disk: a little faster, but the same data may give a different
    /// digest
    #[arg(long)]
    pub unsorted: bool,

    /// No clock, no random id, nothing about this machine: the same data give the same bytes
    #[arg(long, conflicts_with = "unsorted")]
    pub reproducible: bool,

    /// Put a digest of each stream's rows into the manifest that does not depend on their order;
    /// comparable where the columns are the same and times without a zone are UTC. Costs time
    #[arg(long)]
    pub row_digests: bool,

    /// The layout of the tables, instead of recognising it: a layout file, or the name of a known
    /// layout
    #[arg(long, value_name = "FILE")]
    pub layout: Option<String>,

    /// A name to put into the archive's header
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,

    /// A file with the database's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `import`
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The archive; stdin if it is missing or `-`
    pub archive: Option<PathBuf>,

    /// The database to load into: a .db file, sqlite:PATH, a postgresql:// URL or a libpq
    /// key=value string
    #[arg(long, value_name = "TARGET")]
    pub to: String,

    /// The layout of the target
    #[command(flatten)]
    pub target: TargetArgs,

    /// Do everything except the commit, and show the plan
    #[arg(long)]
    pub dry_run: bool,

    /// How to handle values, columns and ids
    #[command(flatten)]
    pub plan: PlanArgs,

    /// Where to write the rows that --on-unrepresentable=reject leaves out, as an archive
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,

    /// Load only the archive with this digest
    #[arg(long, value_name = "sha256:…")]
    pub expect: Option<String>,

    /// A file with the database's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `check`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The archive or the database to look at; `-` is stdin
    #[arg(required_unless_present = "from")]
    pub what: Option<String>,

    /// The database that would be exported
    #[arg(long, value_name = "SOURCE", conflicts_with = "what")]
    pub from: Option<String>,

    /// The database that would be imported into
    #[arg(long, value_name = "TARGET")]
    pub to: Option<String>,

    /// The layout of the source's tables, instead of recognising it: a layout file, or the name of
    /// a known layout
    #[arg(long, value_name = "FILE")]
    pub from_layout: Option<String>,

    /// The layout of the target
    #[command(flatten)]
    pub target: TargetArgs,

    /// How to handle values, columns and ids
    #[command(flatten)]
    pub plan: PlanArgs,

    /// A file with the databases' password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `verify`
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The archives; `-` is stdin
    #[arg(required = true)]
    pub archives: Vec<PathBuf>,

    /// The digest that the archive must have
    #[arg(long, value_name = "sha256:…")]
    pub expect: Option<String>,

    /// Compute the digest of each stream's rows, and compare it with the manifest's if it has one
    #[arg(long)]
    pub row_digests: bool,

    /// Also check that every row is in this database as an import with the same options would have
    /// loaded it; exit code 15 if not
    #[arg(long, value_name = "DATABASE")]
    pub against: Option<String>,

    /// The layout of the database's tables, instead of recognising it: a layout file, or the name of
    /// a known layout
    #[arg(long, value_name = "FILE", requires = "against")]
    pub layout: Option<String>,

    /// Show at most N differences of each stream; all are counted
    #[arg(long, value_name = "N", default_value_t = 100, requires = "against")]
    pub limit: u64,

    /// How an import handles values, columns and ids
    #[command(flatten)]
    pub plan: PlanArgs,

    /// A file with the database's password
    #[arg(long, value_name = "FILE", requires = "against")]
    pub password_file: Option<PathBuf>,
}

/// `inspect`
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The archive; `-` is stdin
    pub archive: PathBuf,
}

/// What `cat` prints, below its options.
const CAT: &str = "\
Each row is one line: {\"stream\":\"events\",\"record\":{...}}, or with --stream the record alone. For
a value that JSON cannot express (an infinite time, a text with NUL characters, ...) the record shows
the nearest portable value; import loads the exact one.

A row is printed only after its chunk was verified. With --stream, only that part of a file
is read; each chunk is still checked, but not the chain of the whole archive. A pipe is
always read and checked to its end.

A Singer stream ends with the manifest's STATE line only if the whole archive was read.";

/// `cat`
#[derive(Debug, clap::Args)]
#[command(after_help = CAT)]
pub struct CatArgs {
    /// The archive; `-` is stdin
    pub archive: PathBuf,

    /// Print only this stream, such as `events`
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,

    /// Print only rows of TIME or later, by their stream's time column (of sessions the start): a date or a date and
    /// time, such as 2025-08-19T12:00:00+02:00. Wherever the zone is missing, here or in a row, it is read as UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Print only rows before TIME
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Print a Singer stream: the archive's SCHEMA, RECORD and STATE lines
    #[arg(long)]
    pub singer: bool,

    /// Print JSON columns as strings of JSON, for readers that take no free-form objects
    #[arg(long)]
    pub json_as_string: bool,
}

/// `diff`
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// An archive or a database: a file of either kind, sqlite:PATH, a postgresql:// URL or a libpq
    /// key=value string; `-` is an archive on stdin
    pub a: String,

    /// What it is compared with
    pub b: String,

    /// The layout of the databases' tables, instead of recognising it: a layout file, or the name of
    /// a known layout; a database of the other kind is still recognised
    #[arg(long, value_name = "FILE")]
    pub layout: Option<String>,

    /// Print only how many rows are equal, changed and missing
    #[arg(long)]
    pub summary: bool,

    /// Show at most N differences of each stream; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,

    /// Leave a column out of the comparison; may be given several times
    #[arg(long, value_name = "COLUMN")]
    pub ignore: Vec<String>,

    /// The time zone of times that were written without one, where the other side has instants:
    /// Europe/Berlin, UTC, +02:00, or `archive` for the zone of the machine that they came from
    #[arg(long, value_name = "ZONE")]
    pub assume_tz: Option<String>,

    /// A file with the database's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `schema`
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// The layout whose tables are printed; without it, all layouts are listed
    pub layout: Option<String>,
}
