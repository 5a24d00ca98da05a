//! The options of `history` and `rollback`.

use clap::ValueHint;

use super::args::{CONFLICTS, INPUT, OUTPUT, TARGET};
use super::examples::long_help;
use super::login_args::LoginArgs;

/// `history`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("history"), next_display_order = 1)]
pub struct HistoryArgs {
    /// The database: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq key=value string
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::FilePath)]
    pub database: String,

    /// Show this batch alone: its id, the start of it, or `last`
    #[arg(help_heading = INPUT, value_hint = ValueHint::Other)]
    pub batch: Option<String>,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// Read the receipts from the first to the last byte and check everything
    #[arg(long, conflicts_with = "prune", help_heading = OUTPUT)]
    pub verify: bool,

    /// Remove old receipts: their batches stay in the history and can no longer be undone
    #[arg(long, conflicts_with = "batch", help_heading = OUTPUT)]
    pub prune: bool,

    /// Keep the receipts of the N newest batches
    #[arg(long, value_name = "N", requires = "prune", help_heading = OUTPUT)]
    pub keep: Option<usize>,

    /// Remove only receipts that are older than this: 12h, 30d, 8w
    #[arg(long, value_name = "AGE", requires = "prune", help_heading = OUTPUT)]
    pub older_than: Option<String>,
}

/// `rollback`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("rollback"), next_display_order = 1)]
pub struct RollbackArgs {
    /// The batch: its id, the start of it, or `last`, the newest one that is not a rollback and
    /// is not undone
    #[arg(help_heading = INPUT, display_order = 0, value_hint = ValueHint::Other)]
    pub batch: String,

    /// The database that it is in: a .db file, sqlite:PATH, env:NAME, a postgresql:// URL or a libpq key=value
    /// string
    #[arg(long, value_name = "DATABASE", help_heading = TARGET, value_hint = ValueHint::FilePath)]
    pub from: String,

    /// Find out what would be undone; nothing is written
    #[arg(long, help_heading = TARGET)]
    pub dry_run: bool,

    /// How a server is reached
    #[command(flatten)]
    pub login: LoginArgs,

    /// Leave rows as they are that were edited, are referred to or cannot come back, and undo the rest
    #[arg(long, help_heading = CONFLICTS)]
    pub force: bool,

    /// How long to wait for another import, restore or rollback in the same database [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = TARGET)]
    pub wait: Option<u32>,
}
