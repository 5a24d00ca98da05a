//! `history`: the batches of a database, one of them, or the care of their receipts.

use serde_json::{Value, json};

use super::history_args::HistoryArgs;
use super::locate;
use super::report::Report;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::history::{BatchRecord, BatchStatus, find};
use crate::location::Environment;
use crate::rollback::verified_receipts;
use crate::undo::HistoryDatabase;
use chronicle_archive::{show_count, show_number, show_path, show_text};

pub(super) async fn run(
    args: &HistoryArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let location = locate(&args.database, environment, report)?;
    let pruned = args.prune.then(|| prune_rule(args)).transpose()?;
    let mut database = location.open_history(args.prune, None, cancel).await?;
    database.notices().iter().for_each(|notice| report.notice(notice));
    let history = cancel.or(database.history()).await?;
    let shown: Vec<BatchRecord> = match &args.batch {
        Some(name) => vec![find(&history, name)?.clone()],
        None => history,
    };
    let database = database.as_mut();
    if let Some(rule) = pruned {
        return prune(database, &shown, &rule, report).await;
    }
    if args.verify {
        return verify(database, &shown, report, cancel).await;
    }
    if report.is_json() {
        let result = json!({
            "command": "history",
            "database": location.to_string(),
            "batches": shown,
        });
        report.result_json(&result)?;
    }
    match (&args.batch, &shown[..]) {
        (Some(_), [batch]) => lines_of(batch).iter().try_for_each(|line| report.result(line))?,
        (_, []) => report.result(&format!("{location}: no batches"))?,
        (_, batches) => batches.iter().try_for_each(|batch| report.result(&line_of(batch)))?,
    }
    Ok(0)
}

/// A batch on one line.
fn line_of(batch: &BatchRecord) -> String {
    let rows = show_count(batch.records_migrated, "rows");
    let note = match (batch.status, &batch.error_message, &batch.details.receipts) {
        (_, error, _) if batch.is_half() && batch.stands() => {
            let error = error.as_ref().map_or_else(String::new, |e| format!("{}; ", show_text(e)));
            format!("  {error}{}", half_text(batch))
        }
        (_, Some(error), _) => format!("  {}", show_text(error)),
        (BatchStatus::Completed, None, None) => "  cannot be undone: no receipts".to_owned(),
        (BatchStatus::Completed, None, Some(r)) if r.pruned => {
            "  cannot be undone: receipts removed".to_owned()
        }
        _ => String::new(),
    };
    let at: String = batch.started_at.chars().take(19).collect();
    format!(
        "{}  {}  {:8}  {:11}  {rows}{note}",
        batch.batch_id,
        at.replace('T', " "),
        batch.kind.word(),
        batch.status.word()
    )
}

/// How far an import has come that is committed in groups, and what goes on with it.
fn half_text(batch: &BatchRecord) -> String {
    let rows = batch.details.resume.as_ref().map_or(0, |resume| resume.rows);
    format!("{} of the archive are there: import --resume goes on", show_count(rows, "rows"))
}

/// All that is known of a batch.
fn lines_of(batch: &BatchRecord) -> Vec<String> {
    let mut lines = vec![
        format!("batch      {}", batch.batch_id),
        format!("kind       {}", batch.kind.word()),
        format!("status     {}", batch.status.word()),
        format!("started    {}", batch.started_at),
    ];
    let mut more = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{name:11}{value}")));
    };
    more("ended", batch.completed_at.clone());
    more("from", batch.source_backend.clone());
    more("into", Some(batch.target_backend.clone()));
    more("error", batch.error_message.as_deref().map(show_path));
    let details = &batch.details;
    more("process", details.process.as_ref().map(|p| format!("{} on {}", p.pid, p.host)));
    more("half", (batch.is_half() && batch.stands()).then(|| half_text(batch)));
    for archive in &details.archives {
        more("archive", Some(format!("{} sha256:{}", archive.archive_id, archive.digest)));
    }
    for table in &details.tables {
        let parts =
            [(table.inserted, "inserted"), (table.updated, "updated"), (table.deleted, "deleted")];
        let parts: Vec<String> = (parts.into_iter().filter(|(rows, _)| *rows > 0))
            .map(|(rows, what)| format!("{} {what}", show_number(rows)))
            .collect();
        more("rows", Some(format!("{}: {}", show_text(&table.table), parts.join(", "))));
    }
    more("backup", details.backup.as_deref().map(show_path));
    more("undoes", details.undoes.map(|id| id.to_string()));
    more("undone by", details.undone_by.map(|id| id.to_string()));
    more(
        "receipts",
        details.receipts.as_ref().map(|receipts| match receipts.pruned {
            true => "removed".to_owned(),
            false => {
                let bytes = show_number(receipts.bytes);
                match receipts.earlier.len() {
                    0 => format!("{bytes} bytes, sha256:{}", receipts.digest),
                    n => format!("{bytes} bytes in {} groups", n + 1),
                }
            }
        }),
    );
    lines
}

/// Reads the receipts of batches; exit code 3 if any is damaged.
async fn verify(
    database: &mut dyn HistoryDatabase,
    batches: &[BatchRecord],
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let (mut results, mut damaged) = (Vec::new(), 0);
    for batch in batches {
        let has = batch.details.receipts.as_ref().is_some_and(|receipts| !receipts.pruned);
        if !has {
            continue;
        }
        let found = cancel.or(verified_receipts(database, batch)).await;
        match &found {
            Err(e) if e.code() == Code::Cancelled => return found.map(|_| 0),
            Err(e) => {
                damaged += 1;
                report.error_of_part(e);
            }
            Ok(_) => report.result(&format!("the receipts of {} are whole", batch.batch_id))?,
        }
        results.push(json!({
            "batch_id": batch.batch_id,
            "whole": found.is_ok(),
            "error": found.err().map(|e| e.full()),
        }));
    }
    if report.is_json() {
        report.result_json(&json!({ "command": "history", "receipts": results }))?;
    }
    if results.is_empty() {
        report.result("no batch has receipts")?;
    }
    Ok(if damaged == 0 { 0 } else { Code::ArchiveDamaged.exit() })
}

/// Which receipts are removed.
struct PruneRule {
    keep: Option<usize>,
    /// The batches that began before this moment, in milliseconds since 1970.
    before: Option<u64>,
}

fn prune_rule(args: &HistoryArgs) -> Result<PruneRule> {
    if args.keep.is_none() && args.older_than.is_none() {
        return Err(Error::new(Code::Usage, "--prune needs --keep N or --older-than AGE")
            .hint("--prune --keep 10 keeps the receipts of the ten newest batches"));
    }
    let age = args.older_than.as_deref().map(milliseconds).transpose()?;
    let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
    Ok(PruneRule { keep: args.keep, before: age.map(|age| now.saturating_sub(age)) })
}

/// An age such as `30d`, in milliseconds.
fn milliseconds(text: &str) -> Result<u64> {
    let refused = || {
        Error::new(Code::Usage, format!("--older-than: not an age: {}", show_text(text)))
            .hint("give a number and a unit: 12h, 30d, 8w")
    };
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refused)?;
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 24 * 7,
        _ => return Err(refused()),
    };
    let number: u32 = number.parse().map_err(|_| refused())?;
    Ok(u64::from(number) * hours * 3_600_000)
}

async fn prune(
    database: &mut dyn HistoryDatabase,
    history: &[BatchRecord],
    rule: &PruneRule,
    report: &Report,
) -> Result<u8> {
    let with: Vec<&BatchRecord> = (history.iter())
        .filter(|b| b.details.receipts.as_ref().is_some_and(|receipts| !receipts.pruned))
        .collect();
    let kept = rule.keep.unwrap_or(0);
    let is_old = |batch: &BatchRecord| {
        let began = batch.batch_id.get_timestamp().map(|t| {
            let (seconds, nanos) = t.to_unix();
            seconds * 1000 + u64::from(nanos) / 1_000_000
        });
        rule.before.is_none_or(|before| began.is_some_and(|began| began < before))
    };
    let removed: Vec<BatchRecord> =
        with.iter().rev().skip(kept).filter(|b| is_old(b)).map(|b| (*b).clone()).collect();
    database.prune(&removed).await?;
    let bytes: u64 =
        removed.iter().filter_map(|b| b.details.receipts.as_ref()).map(|r| r.bytes).sum();
    let ids: Vec<Value> = removed.iter().map(|b| json!(b.batch_id)).collect();
    let line = format!(
        "removed the receipts of {}, {} bytes",
        show_count(removed.len() as u64, "batches"),
        show_number(bytes)
    );
    let said = report.result(&line).and_then(|()| match report.is_json() {
        true => report.result_json(&json!({"command": "history", "pruned": ids, "bytes": bytes})),
        false => Ok(()),
    });
    report.said(said, Some("the receipts are removed"))?;
    Ok(0)
}
