//! `rollback`: a batch, a database, and what was undone.

use std::time::{Duration, Instant};

use serde_json::json;

use super::args::RollbackArgs;
use super::locate;
use super::report::Report;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::location::Environment;
use crate::notice::{Notice, NoticeKind};
use crate::rollback::{RollbackOptions, RolledBack, rollback};
use chronicle_archive::show_count;

pub(super) async fn run(
    args: &RollbackArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let location = locate(&args.from, args.password_file.as_deref(), environment, report)?;
    let wait = args.wait.map(|seconds| Duration::from_secs(seconds.into()));
    let database = location.open_history(!args.dry_run, wait, cancel).await?;
    let options =
        RollbackOptions { batch: args.batch.clone(), dry_run: args.dry_run, force: args.force };
    let backend = location.backend().word();
    let done = rollback(database, backend, &options, cancel).await?;
    for line in done.standing.lines().iter().filter(|_| args.dry_run || done.standing.kept() > 0) {
        report.notice(&Notice::new(NoticeKind::Standing, line));
    }
    for batch in done.later.iter().filter(|_| args.dry_run) {
        report.notice(&Notice::new(NoticeKind::Standing, batch.sentence()));
    }
    let said = match report.is_json() {
        true => report.result_json(&json!({
            "command": "rollback",
            "target": location.to_string(),
            "committed": done.rollback.is_some(),
            "undone": done.undone.batch_id,
            "batch_id": done.rollback.as_ref().map(|batch| batch.batch_id),
            "tables": done.standing.tables,
            "later": done.later.iter().map(|batch| batch.record.batch_id).collect::<Vec<_>>(),
            "seconds": started.elapsed().as_secs_f64(),
        })),
        false => report.result(&text(&done, args.force)),
    };
    let what = done.rollback.as_ref().map(|_| "the batch is rolled back");
    report.said(said, what)?;
    Ok(0)
}

/// What was done, in one line.
fn text(done: &RolledBack, force: bool) -> String {
    let counts = done.standing.changes().into_iter().map(|table| {
        let parts: Vec<String> = [
            (table.deleted, "removed"),
            (table.updated, "restored"),
            (table.inserted, "brought back"),
        ]
        .into_iter()
        .filter(|(rows, _)| *rows > 0)
        .map(|(rows, what)| format!("{} {what}", show_count(rows, &table.table)))
        .collect();
        parts.join(", ")
    });
    let counts: Vec<String> = counts.collect();
    let counts = if counts.is_empty() { "no rows".to_owned() } else { counts.join(", ") };
    let kept = match done.standing.kept() {
        0 => String::new(),
        rows => format!("; {} left unchanged", show_count(rows, "rows")),
    };
    match &done.rollback {
        Some(batch) => format!(
            "rolled back {}: {counts}{kept}; this rollback is batch {}",
            done.undone, batch.batch_id
        ),
        None if done.standing.kept() > 0 && !force => format!(
            "would stop: not all rows of {} can be undone; --force would undo the rest: {counts}{kept}; nothing \
             was changed (dry run)",
            done.undone
        ),
        None => {
            format!(
                "would roll back {}: {counts}{kept}; nothing was changed (dry run)",
                done.undone
            )
        }
    }
}
