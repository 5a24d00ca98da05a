//! `verify`: every check on every archive named.

use std::path::Path;

use serde_json::json;

use super::args::VerifyArgs;
use super::aside;
use super::audit::{Against, against};
use super::export::{rows_object, rows_text};
use super::import::{archive_name, open_archive};
use super::load::expected_digest;
use super::loaded::index_warning;
use super::locate;
use super::report::Report;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::location::{Environment, Location};
use crate::progress::Progress;
use crate::verify::{Verified, verify};
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::show_text;
use chronicle_archive::{Index, Limits};

pub(super) async fn run(
    args: &VerifyArgs,
    environment: &Environment<'_>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let expected = args.expect.as_deref().map(expected_digest).transpose()?;
    if expected.is_some() && args.archives.len() > 1 {
        return Err(Error::new(Code::Usage, "--expect works with one archive only")
            .hint("verify the archives one by one"));
    }
    if args.against.is_none() && !args.plan.is_default() {
        return Err(Error::new(Code::Usage, "import options need --against")
            .hint("name the database that the archive was imported into: --against DATABASE"));
    }
    if args.against.is_none() {
        args.login.refuse_without("--against DATABASE")?;
    }
    if !args.plan.on_conflict.is_empty() {
        return Err(Error::new(Code::Usage, "--on-conflict has no effect on a comparison")
            .hint("omit it: rows that the target kept are reported as changed"));
    }
    let database =
        (args.against.as_deref()).map(|text| locate(text, environment, report)).transpose()?;
    if !args.plan.matches.is_empty() {
        return Err(Error::new(Code::Usage, "--match has no effect on a comparison")
            .hint("omit it: rows are compared by their keys"));
    }
    // every archive is read, whatever the others are; the worst one decides
    let mut worst = 0;
    for path in &args.archives {
        match one(path, args, database.as_ref(), expected.as_deref(), report, cancel).await {
            Ok(code) => worst = worse(worst, code),
            Err(e) if matches!(e.code(), Code::Cancelled | Code::BrokenPipe) => return Err(e),
            Err(e) => {
                let e = e.about(archive_name(path));
                report.error(&e);
                worst = worse(worst, e.code().exit());
            }
        }
    }
    Ok(worst)
}

/// Damage counts more than a missing index, and that more than nothing.
fn worse(a: u8, b: u8) -> u8 {
    let index = Code::IndexDamaged.exit();
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) if a == index => b,
        (a, _) => a,
    }
}

async fn one(
    path: &Path,
    args: &VerifyArgs,
    database: Option<&Location>,
    expected: Option<&str>,
    report: &Report,
    cancel: &Cancel,
) -> Result<u8> {
    let progress = Progress::default();
    let input = open_archive(Some(path), &progress)?;
    let watch = report.watch(&progress);
    let (verified, mut compared) = match database {
        Some(database) => {
            let name = archive_name(path);
            let both = against(args, database, name, input, &progress, report, cancel).await?;
            (both.0, Some(both.1))
        }
        None => {
            let (digests, counted, stop) = (args.row_digests, progress.clone(), cancel.clone());
            let all = move || verify(input, Limits::default(), digests, &counted, &stop);
            (aside(cancel, all).await?, None)
        }
    };
    drop(watch);
    let digest = shown_digest(&verified.sealed.digest);
    if expected.is_some_and(|expected| expected != verified.sealed.digest) {
        return Err(Error::new(
            Code::DigestMismatch,
            format!("the archive is complete, but its digest is {digest}, not the expected one"),
        )
        .hint("check that the digest is of this archive"));
    }
    let warning = index_warning(verified.sealed.index);
    if let Some(warning) = warning.clone() {
        report.fault(&warning.at(archive_name(path)));
    }
    say(path, &verified, &digest, compared.as_mut(), report)?;
    if let Some((stream, kind)) = verified.undecoded.first() {
        return Err(Error::new(
            Code::ArchiveUnsupported,
            format!(
                "the checksums agree, but the rows of {stream} have the unknown kind \"{}\"",
                show_text(kind)
            ),
        )
        .hint("install a newer chronicle-dump"));
    }
    let differs = match &compared {
        Some(compared) => compared.say(report)?,
        None => 0,
    };
    Ok(if warning.is_some() { worse(differs, Code::IndexDamaged.exit()) } else { differs })
}

fn say(
    path: &Path,
    verified: &Verified,
    digest: &str,
    compared: Option<&mut Against>,
    report: &Report,
) -> Result<()> {
    let Verified { header, sealed, .. } = verified;
    let manifest = &sealed.manifest;
    let consistency = manifest.consistency.as_ref().unwrap_or(&header.consistency);
    if report.is_json() {
        report.result_json(&json!({
            "command": "verify",
            "archive": path.display().to_string(),
            "archive_id": header.archive_id,
            "digest": digest,
            "rows": rows_object(&manifest.rows),
            "chunks": manifest.chunks,
            "bytes": manifest.bytes,
            "compressed_bytes": sealed.file_bytes,
            "consistency": consistency,
            "row_digests": (verified.row_digests.iter())
                .map(|(stream, digest)| (stream.clone(), json!(format!("lrd1:{digest}"))))
                .collect::<serde_json::Map<_, _>>(),
            "against": compared.map(Against::json),
            "seek_table": match sealed.index {
                Index::Good => "good",
                Index::None => "none",
                Index::Missing => "missing",
                Index::Damaged => "damaged",
            },
        }))?;
    }
    let shown = archive_name(path);
    report.result(&format!("{shown}: OK, {}, {digest}", rows_text(&manifest.rows)))?;
    for (stream, digest) in &verified.row_digests {
        report.result(&format!("{shown}: rows of {stream}: lrd1:{digest}"))?;
    }
    Ok(())
}
