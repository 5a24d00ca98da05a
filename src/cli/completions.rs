//! `completions`: what a shell completes, made from the definition of the command line.

use clap::CommandFactory;
use serde_json::json;

use super::args::{Args, CompletionsArgs};
use super::report::Report;
use crate::error::Result;

pub(super) fn run(args: &CompletionsArgs, report: &Report) -> Result<()> {
    let mut program = Args::command();
    let name = program.get_name().to_owned();
    // the generator panics if it cannot write, which memory always can
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    let script = with_one_name(&String::from_utf8_lossy(&script));
    if !report.is_json() {
        return report.raw(script.as_bytes());
    }
    report.result_json(&json!({
        "command": "completions",
        "shell": args.shell.to_string(),
        "script": script,
    }))
}

/// The script for bash spells the name of a program with a hyphen in two ways, so that nothing is
/// completed behind a command: <https://github.com/clap-rs/clap/issues/6421>.
fn with_one_name(script: &str) -> String {
    script.replace("chronicle__subcmd__dump", "chronicle__dump")
}
