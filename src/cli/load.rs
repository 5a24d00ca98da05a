//! Loading archives into a target, as an import and a copy do it: what is asked for, the backup, the one transaction, and
//! the files with what was left out.

use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;

use super::backup;
use super::import::{archive_name, open};
use super::output::Destination;
use super::policy_args::{LoadArgs, TargetArgs};
use super::report::Report;
use super::transfer_args::IntoArgs;
use crate::archive_input::ArchiveInput;
use crate::archive_part::open_part;
use crate::cancel::Cancel;
use crate::catalog::Backend;
use crate::error::{Code, Error, Result};
use crate::history::BatchKind;
use crate::import::{ImportOptions, Imported, Part, import};
use crate::layout;
use crate::load::{DryRun, Target, TargetOptions};
use crate::location::Location;
use crate::policy::{OnUnrepresentable, OwnRows, PlanOptions};
use crate::progress::Progress;
use crate::selection::Selection;
use chronicle_archive::read::reader::parse_digest;

/// An archive that is to be loaded.
pub(super) struct Incoming<'a> {
    /// What messages call it.
    pub(super) name: String,
    /// Opens it, when its turn comes.
    pub(super) open: BoxFuture<'a, Result<ArchiveInput>>,
}

impl<'a> Incoming<'a> {
    /// The archive in a file or on stdin, which must be there.
    pub(super) fn read(
        path: Option<&Path>,
        selection: &'a Selection,
        progress: &'a Progress,
        cancel: &'a Cancel,
    ) -> Result<Incoming<'a>> {
        let name = path.map_or("stdin".into(), archive_name);
        let input = open(path, progress)?;
        let open = open_part(name.clone(), input, selection, progress, cancel);
        Ok(Incoming { name, open: Box::pin(open) })
    }
}

/// What is asked for, and whatever of it can be refused before anything is opened.
pub(super) struct Load<'a> {
    pub(super) args: &'a IntoArgs,
    pub(super) location: &'a Location,
    pub(super) options: ImportOptions,
    pub(super) opening: TargetOptions,
    /// Where the rows of each archive go that are left out.
    rejects: Vec<Option<Destination>>,
}

impl<'a> Load<'a> {
    /// Looks at the options; `names` are those of the archives in the names of files.
    pub(super) fn prepare(
        args: &'a IntoArgs,
        location: &'a Location,
        names: &[String],
        expect: Option<&str>,
    ) -> Result<Load<'a>> {
        let options = ImportOptions {
            plan: PlanOptions {
                rejects: args.rejects.is_some(),
                own_rows: if args.clear { OwnRows::Cleared } else { OwnRows::Stay },
                ..args.plan.options()?
            },
            expect: expect.map(expected_digest).transpose()?,
            batch: None,
        };
        let opening = TargetOptions {
            // a dry run keeps no reader out
            readers_go_on: args.dry_run,
            wait: args.batch.wait.map(|seconds| Duration::from_secs(seconds.into())),
            ..opening(&args.target, &args.load, location)?
        };
        let policy = options.plan.on_unrepresentable;
        Ok(Load { args, location, options, opening, rejects: rejects(args, policy, names)? })
    }

    /// Loads the archives in one transaction; what is left out gets its files.
    pub(super) async fn run(
        self,
        incoming: Vec<Incoming<'_>>,
        progress: &Progress,
        report: &Report,
        cancel: &Cancel,
    ) -> Result<Vec<Imported>> {
        let Load { args, location, mut options, opening, rejects } = self;
        let (mut parts, mut places) = (Vec::new(), Vec::new());
        for (Incoming { name, open }, rejects) in incoming.into_iter().zip(rejects) {
            let (file, place) = match rejects {
                Some(destination) => {
                    let (file, place, reported) = destination.open(cancel).await?.split();
                    (Some(file), Some((place, reported)))
                }
                None => (None, None),
            };
            places.push(place);
            parts.push(Part { name, open, rejects: file });
        }
        let backup = backup_of(args, &opening, location, report, cancel).await?;
        options.batch = Some(args.batch.options(BatchKind::Import, backup));
        let watch = report.watch(progress);
        let loaded = async {
            // a target is not opened for what is no archive
            if let Some(first) = parts.first_mut() {
                let name = first.name.clone();
                let opened = std::mem::replace(&mut first.open, Box::pin(std::future::pending()));
                let opened = Part::opened(name, opened.await?);
                *first = Part { rejects: first.rejects.take(), ..opened };
            }
            let target = location.open_target(&opening, cancel).await?;
            let target: Box<dyn Target> =
                if args.dry_run { Box::new(DryRun::new(target)) } else { target };
            import(parts, target, options, progress, cancel).await
        }
        .await;
        drop(watch);
        // an import writes no other output
        let about = |e| match places.iter().flatten().next() {
            Some((_, reported)) => reported.about(e),
            None => e,
        };
        let mut imported = loaded.map_err(about)?;
        for (imported, place) in imported.iter_mut().zip(places) {
            if let (Some((file, _)), Some((place, reported))) = (imported.rejects.take(), place) {
                place.finish(file).map_err(|e| reported.about_committed(e))?;
            }
        }
        Ok(imported)
    }
}

/// Makes the backups that are asked for.
pub(super) async fn backup_of(
    args: &IntoArgs,
    opening: &TargetOptions,
    location: &Location,
    report: &Report,
    cancel: &Cancel,
) -> Result<Option<String>> {
    match (args.dry_run, &opening.create) {
        // what is not there yet needs no backup
        (true, _) | (_, Some(_)) => Ok(None),
        (false, None) => backup::take(&args.batch, location, report, cancel).await,
    }
}

/// The layouts that `--create` and `--layout` name.
pub(super) fn opening(
    args: &TargetArgs,
    load: &LoadArgs,
    location: &Location,
) -> Result<TargetOptions> {
    let backend = location.backend();
    let layout = args.layout.as_deref().map(|text| layout::pick(text, backend)).transpose()?;
    let create = match (&args.create, &layout) {
        (None, _) => None,
        (Some(None), Some(layout)) => Some(layout.clone()),
        (Some(name), None) => Some(layout::created(name.as_deref(), backend)?),
        (Some(Some(_)), Some(_)) => {
            return Err(Error::new(Code::Usage, "--create=LAYOUT and --layout both name a layout")
                .hint("use one of them; --create --layout FILE creates the tables of the file"));
        }
    };
    let compression = load.toast_compression;
    if compression.is_some() && backend == Backend::Sqlite {
        return Err(Error::new(Code::Usage, "--toast-compression works with Postgres only")
            .hint("omit it: SQLite does not compress rows"));
    }
    Ok(TargetOptions { create, layout, compression, ..TargetOptions::default() })
}

/// Where rows go that are left out, for each archive; nowhere in a dry run, which only counts them.
fn rejects(
    args: &IntoArgs,
    policy: OnUnrepresentable,
    names: &[String],
) -> Result<Vec<Option<Destination>>> {
    match (&args.rejects, policy) {
        (
            Some(path),
            OnUnrepresentable::Reject | OnUnrepresentable::Preserve | OnUnrepresentable::Adapt,
        ) => {
            // it may hold the rows that an earlier import left out, or be the archive that is read
            let found = Destination::find_each(path, "--rejects", false, names)?;
            Ok(found.into_iter().map(|found| (!args.dry_run).then_some(found)).collect())
        }
        (None, OnUnrepresentable::Reject) => {
            Err(Error::new(Code::Usage, "--on-unrepresentable reject needs --rejects FILE")
                .hint("add --rejects FILE; the rows that are left out go there, as an archive"))
        }
        (Some(_), OnUnrepresentable::Fail) => Err(Error::new(
            Code::Usage,
            "--rejects has no effect with --strict or --on-unrepresentable fail",
        )
        .hint("omit --rejects, or add --on-unrepresentable reject")),
        (None, _) => Ok(names.iter().map(|_| None).collect()),
    }
}

/// The digest behind `--expect`.
pub(super) fn expected_digest(text: &str) -> Result<String> {
    parse_digest(text).ok_or_else(|| {
        Error::new(Code::Usage, "--expect: not a digest")
            .hint("give sha256: and 64 hexadecimal digits, as `chronicle-dump verify` prints them")
    })
}
