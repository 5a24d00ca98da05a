//! `import --resumable`: an archive that is loaded in groups, each committed by itself, and how another run goes on.

use super::args::{ImportArgs, PERFORMANCE, TARGET};
use super::load::{Incoming, Load, backup_of};
use super::report::Report;
use crate::cancel::Cancel;
use crate::catalog::Backend;
use crate::error::{Code, Error, Result};
use crate::history::{BatchKind, BatchRecord};
use crate::import::group::Opening;
use crate::import::groups::{Groups, import_in_groups};
use crate::import::{Imported, Part};
use crate::load::TargetOptions;
use crate::location::Location;
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use crate::rollback::{RollbackOptions, rollback};
use chronicle_archive::show_count;

/// The chunks of a group: 64 MiB of rows, if nothing else was asked for when the archive was written.
const CHUNKS: u32 = 16;

/// Whether an import is committed in groups.
#[derive(Debug, Clone, clap::Args)]
pub struct GroupArgs {
    /// Commit every few chunks of the archive, and not only at the end: where it is stopped, --resume goes on, or a
    /// rollback takes back what is done
    #[arg(long, help_heading = TARGET)]
    #[arg(conflicts_with = "resume")]
    pub resumable: bool,

    /// Go on with the import that was stopped, with the same archive and options; where nothing of it is in the target,
    /// begin it, as --resumable does
    #[arg(long, help_heading = TARGET)]
    #[arg(conflicts_with_all = ["backup", "backup_db"])]
    pub resume: bool,

    /// Load with N connections at the same time where the rows can come in any order; implies --resumable. Postgres only
    #[arg(long, value_name = "N", help_heading = PERFORMANCE)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,

    /// Commit every N chunks of the archive [default: 16]
    #[arg(long, value_name = "N", help_heading = TARGET)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub commit_every: Option<u32>,
}

impl GroupArgs {
    /// Whether the import is committed in groups.
    ///
    /// # Errors
    /// If it should be committed every few chunks, but not in groups, or with an option that groups cannot obey.
    pub(super) fn are_asked_for(&self, args: &ImportArgs) -> Result<bool> {
        let asked = self.resumable || self.resume || self.jobs.is_some();
        if self.commit_every.is_some() && !asked {
            return Err(Error::new(Code::Usage, "--commit-every works with --resumable only")
                .hint("add --resumable, or --resume to go on with an import that was stopped"));
        }
        let into = &args.into;
        let refused = [
            (into.dry_run, "--dry-run", "do the dry run without --resumable"),
            (into.batch.no_undo, "--no-undo", "omit it: what is half done must be undoable"),
            (into.rejects.is_some(), "--rejects", "omit it: a run that is killed loses the file"),
            (args.expect.is_some(), "--expect", "first: chronicle-dump verify --expect"),
        ];
        match refused.into_iter().find(|(is_given, ..)| *is_given && asked) {
            Some((_, option, hint)) => {
                let what = format!("{option} does not work with an import in groups");
                Err(Error::new(Code::Usage, what).hint(hint))
            }
            None => Ok(asked),
        }
    }

    /// How many connections load at the same time.
    fn jobs(&self, location: &Location) -> Result<usize> {
        match (self.jobs, location.backend()) {
            (Some(2..), Backend::Sqlite) => {
                Err(Error::new(Code::Usage, "--jobs works with Postgres only")
                    .hint("omit it: a SQLite file has one writer"))
            }
            (jobs, _) => Ok(jobs.unwrap_or(1).into()),
        }
    }
}

/// Loads an archive in groups; in the end all that they have brought is read back once more.
pub(super) async fn run(
    load: Load<'_>,
    incoming: Vec<Incoming<'_>>,
    asked: &GroupArgs,
    (progress, report, cancel): (&Progress, &Report, &Cancel),
) -> Result<Vec<Imported>> {
    let Load { args, location, mut options, opening, .. } = load;
    let Ok([Incoming { name, open }]) = <[Incoming<'_>; 1]>::try_from(incoming) else {
        return Err(Error::new(Code::Usage, "--resumable works with one archive only")
            .hint("load the archives one after the other"));
    };
    let history = match asked.resume {
        true => Some(history(location, cancel).await?),
        false => None,
    };
    let backup = match &history {
        Some(_) => None,
        None => backup_of(args, &opening, location, report, cancel).await?,
    };
    options.batch = Some(args.batch.options(BatchKind::Import, backup));
    let watch = report.watch(progress);
    let part = Part { name, open, rejects: None };
    let groups = Groups {
        open: Box::new(|how| {
            let opening = match how {
                Opening::First => opening.clone(),
                Opening::Next => as_it_is(&opening),
                Opening::SideBySide => TargetOptions { side_by_side: true, ..as_it_is(&opening) },
            };
            Box::pin(async move { location.open_target(&opening, cancel).await })
        }),
        chunks: asked.commit_every.unwrap_or(CHUNKS).into(),
        jobs: asked.jobs(location)?,
        history,
    };
    let imported = import_in_groups(part, groups, options, progress, cancel).await;
    drop(watch);
    let mut imported = imported?;
    let edited = edited_since(&imported, location, cancel).await?;
    imported.stats.add_notices(edited);
    Ok(vec![imported])
}

/// The history of the target; none where the file or the tables are yet to be made.
async fn history(location: &Location, cancel: &Cancel) -> Result<Vec<BatchRecord>> {
    if location.is_no_file() {
        return Ok(Vec::new());
    }
    match location.open_history(false, None, cancel).await {
        Ok(mut database) => cancel.or(database.history()).await,
        // whoever opens it as a target knows what to do
        Err(error) if error.code() == Code::Layout => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// How a target is opened whose tables are there.
fn as_it_is(opening: &TargetOptions) -> TargetOptions {
    let layout = opening.create.clone().or_else(|| opening.layout.clone());
    TargetOptions { create: None, layout, in_groups: true, ..opening.clone() }
}

/// Reads back all rows of the batch, by its receipts; says so if others have changed or deleted some since their group was committed.
async fn edited_since(
    imported: &Imported,
    location: &Location,
    cancel: &Cancel,
) -> Result<Option<Notice>> {
    let Some(batch) = imported.batch else { return Ok(None) };
    let read = async {
        let database = location.open_history(false, None, cancel).await?;
        let options = RollbackOptions { batch: batch.to_string(), dry_run: true, force: false };
        rollback(database, location.backend().word(), &options, cancel).await
    };
    let found = read.await.map_err(|error| {
        let what = format!("the rows are imported, but cannot be read back: {}", error.full());
        Error::new(error.code(), what).hint("chronicle-dump verify ARCHIVE --against DB compares")
    })?;
    let edited: u64 = found.standing.tables.iter().map(|table| table.edited.rows).sum();
    Ok((edited > 0).then(|| {
        let text = format!(
            "{} edited or deleted by others since they were loaded",
            show_count(edited, "rows")
        );
        Notice::new(NoticeKind::EditedMeanwhile, text)
    }))
}
