//! `rollback`: a batch, a database, and what was undone.

use std::time::{Duration, Instant};

use serde_json::json;

use super::history_args::RollbackArgs;
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
    let location = locate(&args.from, environment, report)?;
    let wait = args.wait.map(|seconds| Duration::from_secs(seconds.into()));
    let database = location.open_history(!args.dry_run, wait, cancel).await?;
    database.notices().iter().for_each(|notice| report.notice(notice));
    let options =
        RollbackOptions { batch: args.batch.clone(), dry_run: args.dry_run, force: args.force };
    let backend = location.backend().word();
    let done = rollback(database, backend, &options, cancel).await?;
    let shows = args.dry_run || done.standing.leaves_any();
    for line in done.standing.lines().iter().filter(|_| shows) {
        report.notice(&Notice::new(NoticeKind::Standing, line));
    }
    for batch in done.later.iter().filter(|_| args.dry_run) {
        report.notice(&Notice::new(NoticeKind::Standing, batch.sentence()));
    }
    report.batch(done.rollback.as_ref().map(|batch| batch.batch_id));
    let said = report.result(&text(&done)).and_then(|()| match report.is_json() {
        true => report.result_json(&json!({
            "command": "rollback",
            "target": location.to_string(),
            "committed": done.rollback.is_some(),
            "undone": done.undone.batch_id,
            "batch_id": done.rollback.as_ref().map(|batch| batch.batch_id),
            "tables": done.standing.tables,
            "columns": done.standing.columns,
            "stopped": done.stopped.as_ref().map(Report::error_object),
            "later": done.later.iter().map(|batch| batch.record.batch_id).collect::<Vec<_>>(),
            "seconds": started.elapsed().as_secs_f64(),
        })),
        false => Ok(()),
    });
    let what = done.rollback.as_ref().map(|_| "the batch is rolled back");
    report.said(said, what)?;
    Ok(done.stopped.map_or(0, |error| error.code().exit()))
}

/// What was done, in one line.
fn text(done: &RolledBack) -> String {
    let counts = done.standing.tables.iter().flat_map(|table| {
        let name = table.own.unwrap_or(&table.table);
        [(table.inserted, "removed"), (table.updated, "restored"), (table.deleted, "brought back")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(move |(count, what)| format!("{} {what}", show_count(count, name)))
    });
    let columns = done.standing.columns.iter().filter(|column| column.dropped);
    let columns = columns.map(|c| format!("column {} of {} removed", c.column, c.table));
    let counts: Vec<String> = counts.chain(columns).collect();
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
        None if done.stopped.is_some() => format!(
            "would stop: not all of {} can be undone; --force would undo the rest: {counts}{kept}; nothing \
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
