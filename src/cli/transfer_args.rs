//! The options of exports and imports that every command shares which does either.

use std::path::PathBuf;

use super::args::{OUTPUT, PERFORMANCE, TARGET};
use super::login_args::LoginArgs;
use super::policy_args::{BatchArgs, LoadArgs, PlanArgs, TargetArgs};

/// How an archive is written.
#[derive(Debug, Clone, clap::Args)]
pub struct WriterArgs {
    /// The zstd level
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=22))]
    #[arg(help_heading = PERFORMANCE)]
    pub level: i32,

    /// The compressing threads [default: the processors of this machine]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    #[arg(help_heading = PERFORMANCE)]
    pub threads: Option<u16>,

    /// Read rows in the order of the disk: a little faster, but the same data may give a different
    /// digest
    #[arg(long, help_heading = PERFORMANCE)]
    pub unsorted: bool,
}

/// What an archive says of itself.
#[derive(Debug, Clone, clap::Args)]
pub struct HeaderArgs {
    /// No clock, no random id, nothing about this machine: the same data give the same bytes
    #[arg(long, conflicts_with = "unsorted", help_heading = OUTPUT)]
    pub reproducible: bool,

    /// Put a digest of each stream's rows into the manifest that does not depend on their order;
    /// comparable where the columns are the same and times without a zone are UTC. Costs time
    #[arg(long, help_heading = OUTPUT)]
    pub row_digests: bool,

    /// A name to put into the archive's header
    #[arg(long, value_name = "TEXT", help_heading = OUTPUT)]
    pub label: Option<String>,
}

/// What an import does to its target.
#[derive(Debug, Clone, clap::Args)]
pub struct IntoArgs {
    /// The layout of the target
    #[command(flatten)]
    pub target: TargetArgs,

    /// Do everything except the commit, and show the plan
    #[arg(long, help_heading = TARGET)]
    pub dry_run: bool,

    /// First delete all rows that the target has in the tables of the archive, in the same
    /// transaction; a rollback brings them back
    #[arg(long, help_heading = TARGET)]
    pub clear: bool,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// How the import is recorded
    #[command(flatten)]
    pub batch: BatchArgs,

    /// How to handle values, columns and ids
    #[command(flatten)]
    pub plan: PlanArgs,

    /// How to load
    #[command(flatten)]
    pub load: LoadArgs,

    /// Where to write the rows that --on-unrepresentable=reject leaves out, as an archive
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub rejects: Option<PathBuf>,
}

impl IntoArgs {
    /// Names of files that may hold a password instead.
    pub(super) fn hidden_names(&self) -> [Option<String>; 4] {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let backups = [&self.batch.backup, &self.batch.backup_db].map(path);
        let [backup, backup_db] = backups;
        [path(&self.rejects), self.target.layout.clone(), backup, backup_db]
    }
}
