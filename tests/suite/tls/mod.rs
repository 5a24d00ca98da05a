//! Encrypted connections with a real server: what each mode makes of each certificate, and what is said of it.

mod clients;
mod matrix;
mod refused;

use crate::support::program::{Output, Program};

/// A host of Supabase's platform; the tests say where it is.
const HOST: &str = "db.abcdefghijklmnopqrst.supabase.co";

/// Logs in and reads the history.
fn log_in(database: &str) -> Output {
    Program::new(["history", database]).run()
}
