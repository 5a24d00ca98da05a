//! `schema`: the tables of a layout as SQL, or the list of all layouts.

use serde_json::{Value, json};

use super::args::SchemaArgs;
use super::report::Report;
use crate::error::Result;
use crate::layout::{self, Choice};

pub(super) fn run(args: &SchemaArgs, report: &Report) -> Result<()> {
    match &args.layout {
        Some(name) => print(&layout::named(name, None)?, report),
        None => list(&layout::choices()?, report),
    }
}

fn print(choice: &Choice, report: &Report) -> Result<()> {
    let ddl = choice.layout.required_ddl()?;
    if !report.is_json() {
        return report.raw(ddl.as_bytes());
    }
    let mut result = described(choice);
    result["command"] = "schema".into();
    result["ddl"] = ddl.into();
    report.result_json(&result)
}

fn list(choices: &[Choice], report: &Report) -> Result<()> {
    if report.is_json() {
        let layouts: Vec<Value> = choices.iter().map(described).collect();
        return report.result_json(&json!({ "command": "schema", "layouts": layouts }));
    }
    let width = choices.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let lines: String = (choices.iter())
        .map(|c| format!("{:width$}  {:8}  {}\n", c.name, c.layout.backend.title(), c.title))
        .collect();
    // the layouts are ours, and what was asked for
    report.raw(lines.as_bytes())
}

fn described(choice: &Choice) -> Value {
    json!({
        "name": choice.name,
        "layout": choice.layout.name,
        "backend": choice.layout.backend.word(),
        "title": choice.title,
        "written_by": choice.layout.written_by,
        "tables": choice.layout.tables(),
    })
}
