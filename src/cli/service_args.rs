//! The options of `service`.

use std::path::PathBuf;

use clap::ValueHint;

use super::args::{CONFLICTS, INPUT, OUTPUT, TARGET, VALUES};
use super::examples::long_help;
use super::keep::KeepArgs;
use super::login_args::LoginArgs;
use super::policy_args::words;
use crate::policy::OnOrphans;
use crate::service::{Scheduler, ServiceAction};

/// `service`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("service"), next_display_order = 1)]
#[command(group = clap::ArgGroup::new("job").args(["output", "sync_to"]).required(true))]
pub struct ServiceArgs {
    /// What to do with the units
    #[arg(help_heading = INPUT, display_order = 0, value_parser = words::<ServiceAction>())]
    pub action: ServiceAction,

    /// Who starts the command
    #[arg(help_heading = INPUT, display_order = 0, value_parser = words::<Scheduler>())]
    pub scheduler: Scheduler,

    /// The database to read: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq key=value string; without it,
    /// Chronicle's own file as it is found now
    #[arg(long, value_name = "SOURCE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub from: Option<String>,

    /// Copy the database into this one every night: new rows are added, rows that differ become what the source has
    #[arg(long, value_name = "DATABASE", help_heading = TARGET, value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["keep_daily", "keep_weekly", "keep_monthly"])]
    pub sync_to: Option<String>,

    /// How servers are reached, every night
    #[command(flatten)]
    pub login: LoginArgs,

    /// The time zone of times that were written without one, for --sync-to: Europe/Berlin, UTC, +02:00
    #[arg(long, value_name = "ZONE", requires = "sync_to", conflicts_with = "output", help_heading = VALUES)]
    #[arg(allow_hyphen_values = true)]
    pub assume_tz: Option<String>,

    /// How to handle rows that refer to rows which do not exist, for --sync-to
    #[arg(long, requires = "sync_to", conflicts_with = "output", help_heading = CONFLICTS)]
    #[arg(value_parser = words::<OnOrphans>())]
    pub orphans: Option<OnOrphans>,

    /// Write an archive every night; the name needs {date}, and may have {time} and {source}
    #[arg(id = "output", long = "archive-to", value_name = "FILE", help_heading = OUTPUT)]
    pub archive_to: Option<PathBuf>,

    /// Which older archives stay
    #[command(flatten)]
    pub keep: KeepArgs,

    /// When the command starts, in the time of this machine
    #[arg(long, value_name = "HH:MM", default_value = "02:30", help_heading = OUTPUT)]
    pub at: String,

    /// What the units are called behind chronicle-dump-archive- or -sync-, if not after the databases: each job needs a name of
    /// its own
    #[arg(long, value_name = "NAME", help_heading = OUTPUT, value_hint = ValueHint::Other)]
    pub name: Option<String>,
}

impl ServiceArgs {
    /// Names that messages do not repeat if there is no such file: they may hold a password.
    pub(super) fn hidden_names(&self) -> Vec<Option<String>> {
        let archive = self.archive_to.as_ref().map(|path| path.display().to_string());
        vec![self.from.clone(), self.sync_to.clone(), archive]
    }
}
