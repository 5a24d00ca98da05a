//! The options of `env`.

use std::path::PathBuf;

use clap::ValueHint;

use super::args::{INPUT, OUTPUT};
use super::examples::long_help;
use super::policy_args::words;
use crate::chronicle::settings::{Program, Store};

/// `env`
#[derive(Debug, clap::Args)]
#[command(after_long_help = long_help("env"))]
pub struct EnvArgs {
    /// The program of Chronicle that reads the variables
    #[arg(help_heading = INPUT, value_parser = words::<Program>())]
    #[arg(required_unless_present = "check", requires = "backend")]
    pub program: Option<Program>,

    /// Where it is to keep or find its data
    #[arg(long, value_name = "BACKEND", help_heading = INPUT, value_parser = words::<Store>())]
    pub backend: Option<Store>,

    /// The SQLite file of the hooks; without it, the file that they use by default
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    pub database: Option<PathBuf>,

    /// The address of the Supabase project; without it, a placeholder
    #[arg(long, value_name = "URL", help_heading = INPUT)]
    pub supabase_url: Option<String>,

    /// The anon (publishable) key of the project, never a secret one; without it, a placeholder
    #[arg(long, value_name = "KEY", help_heading = INPUT)]
    pub anon_key: Option<String>,

    /// Set the variables in this .env file, keep every other byte of it, and leave a dated copy beside it
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub write: Option<PathBuf>,

    /// Say where the hooks would write with this .env file, and what is missing or contradictory in it; exit code 15 then
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["program", "backend", "database", "supabase_url", "anon_key", "write"])]
    pub check: Option<PathBuf>,
}
