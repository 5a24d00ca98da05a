//! The program: it hands its arguments to the command line and ends with the code it is given.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(chronicle_dump::cli::run(std::env::args_os()))
}
