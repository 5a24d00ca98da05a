//! The options of `copy`.

use std::path::PathBuf;

use clap::ValueHint;

use super::args::{INPUT, OUTPUT, TARGET};
use super::examples::long_help;
use super::selection_args::SelectionArgs;
use super::transfer_args::{HeaderArgs, IntoArgs, WriterArgs};

/// `copy`
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = long_help("copy"), next_display_order = 1)]
pub struct CopyArgs {
    /// The database to copy: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq key=value
    /// string. May be given several times: they are loaded one after the other in one transaction.
    /// Without it, Chronicle's own file is used
    #[arg(long, value_name = "SOURCE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub from: Vec<String>,

    /// Take source, target and other choices from FILE, a configuration file of Chronicle's migration
    /// tutorial; options of the command line win
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// The connection string of the project that --config names as the source
    #[arg(long, value_name = "URL", requires = "config", conflicts_with = "from")]
    #[arg(help_heading = INPUT)]
    pub from_db_url: Option<String>,

    /// The layout of the sources' tables, instead of recognising it: a layout file, or the name of a
    /// known layout; a source of the other kind is still recognised
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub from_layout: Option<String>,

    /// A file with the sources' password, if it is not that of --password-file
    #[arg(long, value_name = "FILE", help_heading = INPUT)]
    pub from_password_file: Option<PathBuf>,

    /// The role to act as in the sources, if it is not that of --role
    #[arg(long, value_name = "NAME", help_heading = INPUT)]
    pub from_role: Option<String>,

    /// Which rows are copied
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Load the source only if its archive has this digest, as an export with --reproducible has
    /// printed it
    #[arg(long, value_name = "sha256:…", requires = "reproducible", help_heading = INPUT)]
    pub expect: Option<String>,

    /// The database to load into: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq
    /// key=value string
    #[arg(long, value_name = "TARGET", required_unless_present = "config", help_heading = TARGET)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub to: Option<String>,

    /// The connection string of the project that --config names as the target
    #[arg(long, value_name = "URL", requires = "config", conflicts_with = "to")]
    #[arg(help_heading = TARGET)]
    pub to_db_url: Option<String>,

    /// What is done to the target
    #[command(flatten)]
    pub into: IntoArgs,

    /// How the archive is written
    #[command(flatten)]
    pub writer: WriterArgs,

    /// Keep the archive that goes from the source to the target in FILE; it gets its name only when
    /// everything is loaded. {date}, {time} (both in UTC) and {source} in the name are filled in. A
    /// file that exists is not replaced
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub tee: Option<PathBuf>,

    /// Replace the file that --tee names
    #[arg(long, requires = "tee", help_heading = OUTPUT)]
    pub force: bool,

    /// What the archive says of itself
    #[command(flatten)]
    pub header: HeaderArgs,
}

impl CopyArgs {
    /// Names of files and databases that may hold a password.
    pub(super) fn hidden_names(&self) -> Vec<Option<String>> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let from = self.from.iter().cloned().map(Some);
        let urls =
            [&self.to, &self.from_db_url, &self.to_db_url, &self.from_layout].map(Clone::clone);
        let more = urls.into_iter().chain([&self.config, &self.tee].map(path));
        from.chain(more).chain(self.into.hidden_names()).collect()
    }
}
