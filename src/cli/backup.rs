//! What a target was before an import or a restore: an archive of its tables, or a copy of its file, made and verified
//! before anything is written.

use std::path::Path;

use super::output::Destination;
use super::policy_args::BatchArgs;
use super::read_back::read_back;
use super::report::Report;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, export};
use crate::load::{CREATE_FILE, CREATE_TABLES};
use crate::location::Location;
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use crate::source::SourceOptions;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::show_path;

/// Makes the backups that are asked for, and says so; gives what the history says of them.
///
/// # Errors
/// A file that exists or cannot be written, or a target that cannot be read.
pub(super) async fn take(
    args: &BatchArgs,
    location: &Location,
    report: &Report,
    cancel: &Cancel,
) -> Result<Option<String>> {
    let mut made = Vec::new();
    if let Some(path) = &args.backup {
        made.push(archive(path, location, cancel).await?);
    }
    if let Some(path) = &args.backup_db {
        if matches!(location, Location::Postgres(_)) {
            return Err(Error::new(Code::Usage, "--backup-db works with SQLite only")
                .hint("--backup FILE writes an archive of the tables"));
        }
        let copied = location.copy_file(path, cancel);
        copied.map_err(|e| creatable(e, location).at("--backup-db"))?;
        made.push(show_path(path.display()));
    }
    let made = (!made.is_empty()).then(|| made.join(", "));
    if let Some(files) = &made {
        let text = format!("the target was saved in {files}");
        report.notice(&Notice::new(NoticeKind::Saved, text));
    }
    Ok(made)
}

/// An error of a target that cannot be saved because it is yet to be created, with the option that does so, as its import
/// names it.
fn creatable(error: Error, location: &Location) -> Error {
    let known = error.next_step().map_or_else(String::new, |hint| format!("; {hint}"));
    match (error.code(), location) {
        (Code::NotFound, Location::Sqlite(_)) => error.hint(CREATE_FILE),
        (Code::Layout, Location::Postgres(_)) => error.hint(format!("{CREATE_TABLES}{known}")),
        _ => error,
    }
}

/// Writes an archive of the target's tables, and reads it back.
async fn archive(path: &Path, location: &Location, cancel: &Cancel) -> Result<String> {
    let destination = Destination::find(Some(path), "--backup", false, &location.name())?;
    if destination.is_stdout() {
        return Err(Error::new(Code::Usage, "--backup needs the name of a file"));
    }
    let options = SourceOptions { sorted: true, ..SourceOptions::default() };
    let source = location.open_source(options, cancel).await;
    let source = source.map_err(|e| creatable(e, location).at("--backup"))?;
    let (file, place, reported) = destination.open(cancel).await?.split();
    let progress = Progress::default();
    let exported = export(source, file, ExportOptions::default(), &progress, cancel).await;
    let (file, exported) = exported.map_err(|e| reported.about(e))?;
    let digest = exported.written.digest;
    let shown = reported.shown().to_owned();
    // what goes through a pipe or into a device is not there any more
    if let Some(file) = place.finish(file).map_err(|e| reported.about(e))? {
        let read = read_back(&file, &digest, cancel).await;
        read.map_err(|e| e.at("--backup").hint("nothing was changed in the target"))?;
    }
    Ok(format!("{shown} {}", shown_digest(&digest)))
}
