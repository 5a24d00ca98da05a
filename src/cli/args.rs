//! The command line: every command and option, with its help.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::copy_args::CopyArgs;
use super::dump_args::DumpArgs;
use super::env_args::EnvArgs;
use super::examples::{long_help, program_help};
use super::groups::GroupArgs;
use super::history_args::{HistoryArgs, RollbackArgs};
use super::keep::KeepArgs;
use super::login_args::LoginArgs;
use super::policy_args::{BatchArgs, LoadArgs, PlanArgs, RestorePlanArgs, TargetArgs};
use super::selection_args::SelectionArgs;
use super::service_args::ServiceArgs;
use super::transfer_args::{HeaderArgs, IntoArgs, WriterArgs};
use crate::typed::may_be_secret;

// the groups of options, in the order in which the help of a command shows them
/// What is read.
pub(super) const INPUT: &str = "Input";
/// Which rows are wanted.
pub(super) const SELECTION: &str = "Selection";
/// The database that is written or compared with.
pub(super) const TARGET: &str = "Target";
/// How a server is reached.
pub(super) const CONNECTION: &str = "Connection";
/// How values and columns are handled.
pub(super) const VALUES: &str = "Values";
/// How ids and references that do not fit are handled.
pub(super) const CONFLICTS: &str = "Conflicts";
/// What only changes how long it takes.
pub(super) const PERFORMANCE: &str = "Performance";
/// What is written or printed.
pub(super) const OUTPUT: &str = "Output";

/// Moves Chronicle databases between SQLite and Postgres through one verified, portable archive.
#[derive(Debug, Parser)]
#[command(
    name = "chronicle-dump",
    version,
    after_long_help = program_help(),
    subcommand_value_name = "COMMAND",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Args {
    /// Print nothing but errors, on either stream
    #[arg(long, short, global = true, help_heading = OUTPUT, display_order = 100)]
    pub quiet: bool,

    /// Say everything: what was done to each column and why, line by line
    #[arg(long, short, global = true, conflicts_with = "quiet", help_heading = OUTPUT)]
    #[arg(display_order = 101)]
    pub verbose: bool,

    /// Print the result, or the error, as one JSON object: on stdout, or on stderr where stdout
    /// carries an archive (`export` without -o) or rows (`cat`)
    #[arg(long, global = true, help_heading = OUTPUT, display_order = 102)]
    pub json: bool,

    /// Append a line for everything that is said to this file, also with -q: time, level, command,
    /// batch and text; without the option, $CHRONICLE_DUMP_LOG names the file
    #[arg(long, value_name = "FILE", global = true, help_heading = OUTPUT, display_order = 103)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,

    /// Print help: all of it with --help, a summary with -h
    #[arg(long, short, global = true, action = ArgAction::Help, help_heading = OUTPUT)]
    #[arg(display_order = 104)]
    pub help: Option<bool>,

    /// Print the version
    #[arg(long, short = 'V', action = ArgAction::Version, help_heading = OUTPUT)]
    #[arg(display_order = 105)]
    pub version: Option<bool>,

    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write everything in a database to one archive, on stdout or in a file
    Export(ExportArgs),
    /// Load an archive into a database: completely or not at all, unless --resumable
    Import(ImportArgs),
    /// Load a database into another one, without a file in between: all of it or nothing
    Copy(CopyArgs),
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
    /// Make the tables of a database hold exactly what an archive holds
    Restore(RestoreArgs),
    /// List the imports, restores and rollbacks of a database
    History(HistoryArgs),
    /// Undo an import, a restore or another rollback: all of it or nothing
    Rollback(RollbackArgs),
    /// Print the tables of a layout as SQL, or list the layouts that are known
    Schema(SchemaArgs),
    /// Print or set the variables of Chronicle's hooks or dashboard, or check a file of them
    Env(EnvArgs),
    /// Print what systemd, launchd or cron needs to archive or copy a database every night
    Service(ServiceArgs),
    /// Print the completions of commands and options for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or install it
    Man(ManArgs),
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
            Command::Copy(_) => "copy",
            Command::Check(_) => "check",
            Command::Verify(_) => "verify",
            Command::Inspect(_) => "inspect",
            Command::Cat(_) => "cat",
            Command::Diff(_) => "diff",
            Command::Restore(_) => "restore",
            Command::History(_) => "history",
            Command::Rollback(_) => "rollback",
            Command::Schema(_) => "schema",
            Command::Env(_) => "env",
            Command::Service(_) => "service",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
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

    /// How servers are reached; `None` if the command opens no database.
    pub fn login(&self) -> Option<&LoginArgs> {
        match self {
            Command::Export(a) => Some(&a.login),
            Command::Import(a) => Some(&a.into.login),
            Command::Copy(a) => Some(&a.into.login),
            Command::Check(a) => Some(&a.login),
            Command::Verify(a) => Some(&a.login),
            Command::Diff(a) => Some(&a.login),
            Command::Restore(a) => Some(&a.login),
            Command::History(a) => Some(&a.login),
            Command::Rollback(a) => Some(&a.login),
            Command::Service(a) => Some(&a.login),
            _ => None,
        }
    }

    /// Names of files and databases that messages do not repeat if there is no such file: they may hold
    /// a password.
    pub fn hidden_names(&self) -> Vec<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let names: Vec<Option<String>> = match self {
            Command::Export(a) => {
                let dump = path(&a.dump.from_dump);
                vec![a.source.clone(), dump, path(&a.output), a.layout.clone()]
            }
            Command::Import(a) => {
                let archives = a.archives.iter().map(|path| Some(path.display().to_string()));
                archives.chain([Some(a.to.clone())]).chain(a.into.hidden_names()).collect()
            }
            Command::Copy(a) => a.hidden_names(),
            Command::Check(a) => {
                let layouts = [a.from_layout.clone(), a.target.layout.clone()];
                let what = a.what.iter().cloned().map(Some);
                what.chain([a.from.clone(), a.to.clone()]).chain(layouts).collect()
            }
            Command::Verify(a) => {
                let archives = a.archives.iter().map(|path| Some(path.display().to_string()));
                archives.chain([a.against.clone(), a.layout.clone()]).collect()
            }
            Command::Diff(a) => vec![Some(a.a.clone()), Some(a.b.clone()), a.layout.clone()],
            Command::Inspect(InspectArgs { archive, .. })
            | Command::Cat(CatArgs { archive, .. }) => vec![Some(archive.display().to_string())],
            Command::Restore(a) => {
                let more = [path(&a.batch.backup), path(&a.batch.backup_db)];
                let names = [Some(a.archive.clone()), Some(a.to.clone()), a.target.layout.clone()];
                names.into_iter().chain(more).collect()
            }
            Command::History(a) => vec![Some(a.database.clone())],
            Command::Rollback(a) => vec![Some(a.from.clone())],
            Command::Env(a) => vec![path(&a.write), path(&a.check), path(&a.database)],
            Command::Service(a) => a.hidden_names(),
            Command::Schema(a) => vec![a.layout.clone()],
            Command::Completions(_) => Vec::new(),
            Command::Man(a) => vec![path(&a.install)],
        };
        // a password may have been typed in the place of its file
        let of_sources = match self {
            Command::Copy(a) => &a.from_password_file,
            _ => &None,
        };
        let of_login = self.login().map_or(&None, |login| &login.password_file);
        let files = [of_login, of_sources].map(path).into_iter().flatten();
        let secret = names.into_iter().flatten().filter(|name| may_be_secret(name));
        secret.chain(files.filter(|name| name.len() > 2)).collect()
    }
}

/// `export`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("export"), next_display_order = 1)]
pub struct ExportArgs {
    /// The database: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq key=value string;
    /// without it, Chronicle's own file is used
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub source: Option<String>,

    /// A dump in place of a database
    #[command(flatten)]
    pub dump: DumpArgs,

    /// The layout of the tables, instead of recognising it: a layout file, or the name of a known
    /// layout
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub layout: Option<String>,

    /// Which rows are wanted
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// The time zone of times without one, where --since or --until are compared with them, or of --since and --until
    /// themselves, where they have none and the rows do [default: UTC]
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, help_heading = SELECTION)]
    pub assume_tz: Option<String>,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// How the archive is written
    #[command(flatten)]
    pub writer: WriterArgs,

    /// Write to FILE instead of stdout; it gets its name only when it is complete. {date}, {time}
    /// (both in UTC) and {source} in the name are filled in. A file that exists is not replaced
    #[arg(long, short, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,

    /// Replace the file that -o names
    #[arg(long, requires = "output", help_heading = OUTPUT)]
    pub force: bool,

    /// Which older archives stay
    #[command(flatten)]
    pub keep: KeepArgs,

    /// What the archive says of itself
    #[command(flatten)]
    pub header: HeaderArgs,
}

/// `import`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("import"), next_display_order = 1)]
pub struct ImportArgs {
    /// The archives, loaded one after the other in one transaction; stdin if there is none, or `-`
    #[arg(value_name = "ARCHIVE", help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub archives: Vec<PathBuf>,

    /// Load only the archive with this digest
    #[arg(long, value_name = "sha256:…", help_heading = INPUT)]
    pub expect: Option<String>,

    /// Which rows are wanted
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// The database to load into: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq
    /// key=value string
    #[arg(long, value_name = "TARGET", help_heading = TARGET, value_hint = ValueHint::FilePath)]
    pub to: String,

    /// What is done to the target
    #[command(flatten)]
    pub into: IntoArgs,

    /// Whether it is committed in groups
    #[command(flatten)]
    pub groups: GroupArgs,
}

/// `check`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("check"), next_display_order = 1)]
pub struct CheckArgs {
    /// The archive or the database to look at, or several archives in their order; `-` is stdin
    #[arg(required_unless_present = "from", help_heading = INPUT, display_order = 0)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub what: Vec<String>,

    /// The database that would be exported
    #[arg(long, value_name = "SOURCE", conflicts_with = "what", help_heading = INPUT)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub from: Option<String>,

    /// The layout of the source's tables, instead of recognising it: a layout file, or the name of
    /// a known layout
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub from_layout: Option<String>,

    /// The database that would be imported into
    #[arg(long, value_name = "TARGET", help_heading = TARGET, value_hint = ValueHint::FilePath)]
    pub to: Option<String>,

    /// The layout of the target
    #[command(flatten)]
    pub target: TargetArgs,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// How to handle values, columns and ids
    #[command(flatten)]
    pub plan: PlanArgs,

    /// How to load
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `verify`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("verify"), next_display_order = 1)]
pub struct VerifyArgs {
    /// The archives; `-` is stdin
    #[arg(required = true, help_heading = INPUT, display_order = 0)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub archives: Vec<PathBuf>,

    /// The digest that the archive must have
    #[arg(long, value_name = "sha256:…", help_heading = INPUT)]
    pub expect: Option<String>,

    /// Also check that every row is in this database as an import with the same options would have
    /// loaded it; exit code 15 if not
    #[arg(long, value_name = "DATABASE", help_heading = TARGET, value_hint = ValueHint::FilePath)]
    pub against: Option<String>,

    /// The layout of the database's tables, instead of recognising it: a layout file, or the name of
    /// a known layout
    #[arg(long, value_name = "FILE", requires = "against", help_heading = TARGET)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub layout: Option<String>,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// How an import handles values, columns and ids
    #[command(flatten)]
    pub plan: PlanArgs,

    /// Compute the digest of each stream's rows, and compare it with the manifest's if it has one
    #[arg(long, help_heading = OUTPUT)]
    pub row_digests: bool,

    /// Show at most N differences of each stream; all are counted
    #[arg(long, value_name = "N", default_value_t = 100, requires = "against")]
    #[arg(help_heading = OUTPUT)]
    pub limit: u64,
}

/// `inspect`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("inspect"))]
pub struct InspectArgs {
    /// The archive; `-` is stdin
    #[arg(help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub archive: PathBuf,

    /// Also count the rows of each day, the most frequent projects, tools and types of events, and the
    /// sessions without an end. This reads and checks all of the archive; -v lists more
    #[arg(long, help_heading = OUTPUT)]
    pub stats: bool,
}

/// What `cat` prints, below its options.
pub(super) const CAT: &str = "\
Each row is one line: {\"stream\":\"events\",\"record\":{...}}, or with --stream the record alone. For
a value that JSON cannot express (an infinite time, a text with NUL characters, ...) the record shows
the nearest portable value; import loads the exact one.

A row is printed only after its chunk was verified. With --stream, only that part of a file
is read; each chunk is still checked, but not the chain of the whole archive. A pipe is
always read and checked to its end.

A Singer stream ends with the manifest's STATE line only if the whole archive was read.";

/// `cat`
#[derive(Debug, clap::Args)]
#[command(after_help = CAT, after_long_help = long_help("cat"), next_display_order = 1)]
pub struct CatArgs {
    /// The archive; `-` is stdin
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub archive: PathBuf,

    /// Print only this stream, such as `events`
    #[arg(long, value_name = "NAME", help_heading = INPUT)]
    pub stream: Option<String>,

    /// Which rows are wanted
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// The time zone of times without one, where --since or --until are compared with them, or of --since and --until
    /// themselves, where they have none and the rows do [default: UTC]
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, help_heading = SELECTION)]
    pub assume_tz: Option<String>,

    /// Print a Singer stream: the archive's SCHEMA, RECORD and STATE lines
    #[arg(long, help_heading = OUTPUT)]
    pub singer: bool,

    /// Print JSON columns as strings of JSON, for readers that take no free-form objects
    #[arg(long, help_heading = OUTPUT)]
    pub json_as_string: bool,
}

/// `diff`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("diff"), next_display_order = 1)]
pub struct DiffArgs {
    /// An archive or a database: a file of either kind, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq
    /// key=value string; `-` is an archive on stdin
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub a: String,

    /// What it is compared with
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub b: String,

    /// The layout of the databases' tables, instead of recognising it: a layout file, or the name of
    /// a known layout; a database of the other kind is still recognised
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub layout: Option<String>,

    /// Which rows are compared
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// Leave a column out of the comparison; may be given several times
    #[arg(long, value_name = "COLUMN", help_heading = VALUES)]
    pub ignore: Vec<String>,

    /// The time zone of times that were written without one, where the other side has instants:
    /// Europe/Berlin, UTC, +02:00, or `archive` for the zone of the machine that they came from
    #[arg(long, value_name = "ZONE", help_heading = VALUES)]
    pub assume_tz: Option<String>,

    /// Print only how many rows are equal, changed and missing
    #[arg(long, help_heading = OUTPUT)]
    pub summary: bool,

    /// Show at most N differences of each stream; all are counted
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = OUTPUT)]
    pub limit: u64,
}

/// `restore`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("restore"), next_display_order = 1)]
pub struct RestoreArgs {
    /// The archive, or a SQLite file such as one that --backup-db has written; `-` is an archive on
    /// stdin
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub archive: String,

    /// Which rows are restored; all others stay as they are
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// The database: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq key=value string
    #[arg(long, value_name = "TARGET", help_heading = TARGET, value_hint = ValueHint::FilePath)]
    pub to: String,

    /// The layout of the target
    #[command(flatten)]
    pub target: TargetArgs,

    /// Show what would change, as `diff` does; nothing is written
    #[arg(long, help_heading = TARGET)]
    pub dry_run: bool,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// How the restore is recorded
    #[command(flatten)]
    pub batch: BatchArgs,

    /// How to handle values, columns and ids
    #[command(flatten)]
    pub plan: RestorePlanArgs,

    /// How to load
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `schema`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("schema"))]
pub struct SchemaArgs {
    /// The layout whose tables are printed; without it, all layouts are listed
    #[arg(help_heading = INPUT, value_hint = ValueHint::Other)]
    pub layout: Option<String>,
}

/// `completions`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("completions"))]
pub struct CompletionsArgs {
    /// The shell that reads them
    #[arg(help_heading = INPUT)]
    pub shell: Shell,
}

/// `man`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("man"))]
pub struct ManArgs {
    /// Write the page to DIR/man1/chronicle-dump.1 instead of stdout; folders are created, an older
    /// page is replaced
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub install: Option<PathBuf>,
}
