//! `inspect`: what an archive holds.

use std::io::{Read, Seek};
use std::path::Path;

use indicatif::HumanBytes;
use serde_json::json;

use super::args::InspectArgs;
use super::aside;
use super::import::{archive_name, open, open_archive};
use super::loaded::index_warning;
use super::report::Report;
use super::stats;
use crate::archive_part::Input;
use crate::cancel::Cancel;
use crate::chronicle::statistics::{Statistics, count};
use crate::error::{Code, Error, Result};
use crate::load::rejects::REJECTED_FROM;
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use crate::verify::{Inspected, Verified, inspect, verify};
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{Extent, Index, Limits};
use chronicle_archive::{show_count, show_text};

pub(super) async fn run(args: &InspectArgs, report: &Report, cancel: &Cancel) -> Result<u8> {
    let path = args.archive.as_path();
    let about = |e: Error| e.about(archive_name(path));
    if args.stats {
        let (verified, statistics) = counted(path, report, cancel).await.map_err(about)?;
        return say_all(path, verified, &statistics, report);
    }
    let (inspected, index) = look(path, report, cancel).await.map_err(about)?;
    let warning = index.and_then(index_warning);
    let code = if warning.is_some() { Code::IndexDamaged.exit() } else { 0 };
    if let Some(warning) = warning {
        report.fault(&warning.at(archive_name(path)));
    }
    let verified = index.is_some();
    if report.is_json() {
        report.result_json(&as_json(path, &inspected, verified))?;
    }
    as_text(path, &inspected, verified).iter().try_for_each(|line| report.result(line))?;
    Ok(code)
}

/// Reads all of an archive and counts.
async fn counted(path: &Path, report: &Report, cancel: &Cancel) -> Result<(Verified, Statistics)> {
    let progress = Progress::default();
    let input = open_archive(Some(path), &progress)?;
    let watch = report.watch(&progress);
    let (seen, stop) = (progress.clone(), cancel.clone());
    let counted = aside(cancel, move || count(input, &seen, &stop)).await;
    drop(watch);
    counted
}

/// Prints what an archive holds and what was counted; the exit code says if its seek table is not good.
fn say_all(
    path: &Path,
    verified: Verified,
    statistics: &Statistics,
    report: &Report,
) -> Result<u8> {
    for (stream, kind) in &verified.undecoded {
        let text = format!(
            "not checked: rows of {stream}, which hold the unknown kind \"{}\"",
            show_text(kind)
        );
        report.notice(&Notice::new(NoticeKind::NotChecked, text));
    }
    let warning = index_warning(verified.sealed.index);
    let has_warning = warning.is_some();
    if let Some(warning) = warning {
        report.fault(&warning.at(archive_name(path)));
    }
    let inspected = Inspected::from(verified);
    if report.is_json() {
        let mut result = as_json(path, &inspected, true);
        result["stats"] = stats::as_json(statistics);
        report.result_json(&result)?;
    }
    let mut lines = as_text(path, &inspected, true);
    lines.extend(stats::as_text(statistics, &inspected.manifest.rows, report.is_verbose()));
    lines.iter().try_for_each(|line| report.result(line))?;
    Ok(if has_warning { Code::IndexDamaged.exit() } else { 0 })
}

/// What the archive holds, and whether all of it was read for that: a pipe, or a file without a usable seek table.
async fn look(path: &Path, report: &Report, cancel: &Cancel) -> Result<(Inspected, Option<Index>)> {
    let progress = Progress::default();
    match open(Some(path), &progress)? {
        Input::Pipe(pipe) => from_all(pipe, progress, report, cancel).await,
        Input::File(mut file) => match inspect(&mut file, Limits::default())? {
            Some(inspected) => Ok((inspected, None)),
            None => {
                file.rewind().map_err(|e| {
                    Error::new(Code::Source, "the archive cannot be read").because(e)
                })?;
                from_all(Box::new(file), progress, report, cancel).await
            }
        },
    }
}

async fn from_all(
    input: Box<dyn Read + Send>,
    progress: Progress,
    report: &Report,
    cancel: &Cancel,
) -> Result<(Inspected, Option<Index>)> {
    let watch = report.watch(&progress);
    let (counted, stop) = (progress.clone(), cancel.clone());
    let verified =
        aside(cancel, move || verify(input, Limits::default(), false, &counted, &stop)).await;
    drop(watch);
    let verified = verified?;
    let index = verified.sealed.index;
    Ok((verified.into(), Some(index)))
}

fn extent(inspected: &Inspected, stream: &str) -> Option<Extent> {
    let mut extents = inspected.manifest.extents.iter();
    extents.find(|(name, _)| name == stream).map(|(_, extent)| extent.clone())
}

fn as_json(path: &Path, inspected: &Inspected, verified: bool) -> serde_json::Value {
    let Inspected { header, manifest, .. } = inspected;
    let streams: Vec<_> = (inspected.streams.iter().zip(&manifest.rows))
        .map(|(stream, (_, rows))| {
            let extent = extent(inspected, &stream.name);
            json!({
                "stream": stream.name,
                "table": stream.table,
                "rows": rows,
                "chunks": extent.as_ref().map(|e| e.chunks),
                "bytes": extent.as_ref().map(|e| e.bytes),
                "earliest": extent.as_ref().and_then(|e| e.first.clone()),
                "latest": extent.as_ref().and_then(|e| e.last.clone()),
                "columns": stream.columns.iter()
                    .map(|c| (c.name.clone(), json!(c.kind.word())))
                    .collect::<serde_json::Map<_, _>>(),
            })
        })
        .collect();
    json!({
        "command": "inspect",
        "archive": path.display().to_string(),
        "verified": verified,
        "digest": shown_digest(&inspected.digest),
        "version": header.version,
        "archive_id": header.archive_id,
        "created_at": header.created_at,
        "writer": header.writer,
        "source": header.source,
        "consistency": manifest.consistency.as_ref().unwrap_or(&header.consistency),
        "filters": header.filters,
        "base": header.base,
        "streams": streams,
        "chunks": manifest.chunks,
        "bytes": manifest.bytes,
        "compressed_bytes": inspected.file_bytes,
        "stats": null,
    })
}

fn as_text(path: &Path, inspected: &Inspected, verified: bool) -> Vec<String> {
    let Inspected { header, manifest, .. } = inspected;
    let source = &header.source;
    let mut lines = vec![format!(
        "{}: {} ({} uncompressed)",
        archive_name(path),
        HumanBytes(inspected.file_bytes),
        HumanBytes(manifest.bytes)
    )];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<11} {text}"));
    line("digest", shown_digest(&inspected.digest));
    line("id", show_text(&header.archive_id));
    let created = header.created_at.as_deref().unwrap_or("no time (reproducible)");
    line("created", format!("{} by {}", show_text(created), show_text(&header.writer)));
    let from = [
        Some(source.backend.as_str()),
        source.layout.as_deref(),
        source.schema.as_deref(),
        source.server.as_deref(),
        source.time_zone.as_deref(),
        source.label.as_deref(),
    ];
    let from: Vec<String> = from.into_iter().flatten().map(show_text).collect();
    line("from", from.join(", "));
    if let Some(instance) = &source.instance {
        line("source id", show_text(instance));
    }
    let consistency = manifest.consistency.as_ref().unwrap_or(&header.consistency);
    line(
        "consistency",
        match consistency.as_str() {
            "snapshot" => "snapshot".into(),
            other => format!("{}, not a snapshot", show_text(other)),
        },
    );
    for (name, value) in header.filters.iter().flatten() {
        match name.as_str() {
            REJECTED_FROM => line("rejects of", show_text(value)),
            _ => line("only", format!("{} {}", show_text(name), show_text(value))),
        }
    }
    for (stream, rows) in &manifest.rows {
        let mut text = show_count(*rows, stream);
        if let Some(extent) = extent(inspected, stream) {
            text.push_str(&format!(", {}", HumanBytes(extent.bytes)));
            // the least and the greatest text; words such as `now` say no time
            let is_time = |text: &String| text.starts_with(|c: char| c.is_ascii_digit());
            let times = (extent.first.filter(is_time), extent.last.filter(is_time));
            if let (Some(first), Some(last)) = times {
                text.push_str(&format!(", {} to {}", show_text(&first), show_text(&last)));
            }
        }
        line("holds", text);
    }
    let checked = if verified {
        "read completely, every check passed"
    } else {
        "only head and manifest were read; `chronicle-dump verify` reads everything"
    };
    line("checked", checked.into());
    lines
}
