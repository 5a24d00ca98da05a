//! `import`: an archive, a target, and what came of it.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::json;

use super::args::{ImportArgs, OrphansArg, UnrepresentableArg};
use super::report::Report;
use crate::archive::reader::{parse_digest, shown_digest};
use crate::archive::{Index, Limits};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::import::{ImportOptions, Imported, Incoming, import};
use crate::location::{Environment, Location};
use crate::plan::{AssumeZone, OnUnrepresentable, PlanOptions};
use crate::progress::Progress;
use crate::record::show_path;
use crate::target::OnOrphans;

pub(super) async fn run(
    args: &ImportArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let started = Instant::now();
    let options = options(args)?;
    let location = Location::parse(&args.to, args.password_file.as_deref(), environment)?;
    let progress = Progress::default();
    let input = open_archive(args.archive.as_deref(), &progress)?;
    let watch = report.watch(&progress);
    let loaded = async {
        let name = args.archive.as_deref().map_or("stdin".into(), |p| show_path(p.display()));
        let incoming = Incoming::open(name, input, Limits::default(), &progress, cancel).await?;
        let archive_id = incoming.header.archive_id.clone();
        let target = location.open_target(args.create, cancel).await?;
        let imported = import(incoming, target, options, &progress, cancel).await?;
        Ok((archive_id, imported))
    }
    .await;
    drop(watch);
    let (archive_id, imported) = loaded?;
    // whoever read our result may have gone; what is committed stays committed
    if let Err(error) = say(&archive_id, &imported, &location, started, report) {
        report.warning(&format!("the result could not be printed: {}", error.full()));
    }
    Ok(0)
}

fn options(args: &ImportArgs) -> Result<ImportOptions> {
    let assume_zone = match &args.assume_tz {
        Some(zone) => AssumeZone::parse(zone)?,
        None => AssumeZone::Refuse,
    };
    let on_unrepresentable = match args.on_unrepresentable {
        UnrepresentableArg::Fail => OnUnrepresentable::Fail,
        UnrepresentableArg::Adapt => OnUnrepresentable::Adapt,
    };
    Ok(ImportOptions {
        plan: PlanOptions { on_unrepresentable, assume_zone },
        orphans: args.orphans.map(|orphans| match orphans {
            OrphansArg::Fail => OnOrphans::Fail,
            OrphansArg::Keep => OnOrphans::Keep,
        }),
        dry_run: args.dry_run,
        expect: args.expect.as_deref().map(expected_digest).transpose()?,
    })
}

/// The digest behind `--expect`.
pub(super) fn expected_digest(text: &str) -> Result<String> {
    parse_digest(text).ok_or_else(|| {
        Error::new(Code::Usage, "--expect: this is no digest")
            .hint("give sha256: and 64 hexadecimal digits, as export and verify print them")
    })
}

/// Opens an archive's file or stdin.
pub(super) fn open_archive(
    path: Option<&Path>,
    progress: &Progress,
) -> Result<Box<dyn Read + Send>> {
    let Some(path) = path.filter(|p| *p != Path::new("-")) else {
        if std::io::stdin().is_terminal() {
            return Err(Error::new(Code::Usage, "no archive: stdin is a terminal").hint(
                "name the file, or pipe an export into it: chronicle-dump export … | \
                 chronicle-dump import --to …",
            ));
        }
        return Ok(Box::new(std::io::stdin()));
    };
    let shown = show_path(path.display());
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Code::NotFound, format!("{shown}: no such file"))
        }
        _ => Error::new(Code::NotFound, format!("{shown}: cannot be opened")).because(e),
    })?;
    match file.metadata() {
        Ok(data) if data.is_dir() => {
            return Err(Error::new(Code::NotFound, format!("{shown} is a directory")));
        }
        Ok(data) => progress.expected_bytes.store(data.len(), Ordering::Relaxed),
        Err(_) => {}
    }
    Ok(Box::new(file))
}

fn say(
    archive_id: &str,
    imported: &Imported,
    location: &Location,
    started: Instant,
    report: &Report,
) -> Result<()> {
    let outcome = &imported.outcome;
    let notices = notices(imported);
    notices.iter().for_each(|n| report.notice(n));
    for orphans in &outcome.orphans {
        let done = if imported.committed { "loaded" } else { "would be loaded" };
        report.notice(&format!("{} ({done} all the same)", orphans.sentence()));
    }
    for adapted in &outcome.adapted {
        report.warning(&format!(
            "{}: column \"{}\": {} (values adapted: {}, the first in the row with key {})",
            adapted.stream, adapted.column, adapted.reason, adapted.values, adapted.first
        ));
    }
    if let Some(warning) = index_warning(imported.sealed.index) {
        report.warning(warning);
    }
    if report.is_json() {
        return report.result_json(&json!({
            "command": "import",
            "target": location.to_string(),
            "committed": imported.committed,
            "archive_id": archive_id,
            "digest": shown_digest(&imported.sealed.digest),
            "streams": outcome.loaded,
            "adapted": outcome.adapted,
            "orphans": outcome.orphans,
            "notices": notices,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    let streams: Vec<String> = (outcome.loaded.iter())
        .map(|l| match l.skipped_rows {
            0 => format!("{} {}", l.inserted_rows, l.stream),
            skipped => {
                format!("{} {} ({skipped} more were there already)", l.inserted_rows, l.stream)
            }
        })
        .collect();
    let (verb, after) = if imported.committed {
        ("imported", "")
    } else {
        ("would import", "; a dry run, nothing was changed")
    };
    report.result(&format!(
        "{verb} {} into {location} from {}{after}",
        streams.join(", "),
        shown_digest(&imported.sealed.digest)
    ))
}

/// What the plan left out, and what the target said.
fn notices(imported: &Imported) -> Vec<String> {
    let mut notices = imported.outcome.notices.clone();
    for stream in &imported.plan.streams {
        if !stream.dropped.is_empty() {
            notices.push(format!(
                "{}: {} has no column for {}, which can be made anew from the rest: left out",
                stream.stream,
                stream.table_name,
                stream.dropped.join(", ")
            ));
        }
        if !stream.defaulted.is_empty() {
            notices.push(format!(
                "{}: the archive lacks {}: the target's defaults stand there",
                stream.stream,
                stream.defaulted.join(", ")
            ));
        }
    }
    notices
}

/// What is to be said of a seek table that is not as it should be.
pub(super) fn index_warning(index: Index) -> Option<&'static str> {
    match index {
        Index::Good | Index::None => None,
        Index::Missing => Some("the archive is whole, but its seek table is missing"),
        Index::Damaged => Some("the archive is whole, but its seek table is damaged"),
    }
}
