//! Which older archives stay when a new one is written: the options, and the removal of the others.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::OUTPUT;
use super::aside;
use super::name_pattern::NamePattern;
use super::read_back::read_back;
use super::report::Report;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};
use crate::retention::{Retention, Sweep, survey};
use chronicle_archive::{show_count, show_path};

/// Which older archives stay.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KeepArgs {
    /// When the archive is complete and was read back, remove older ones of the same database and selection, whose names
    /// differ only in {date} and {time}: the newest of each of the last N days stays
    #[arg(long, value_name = "N", requires = "output", help_heading = OUTPUT)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_daily: Option<u32>,

    /// Likewise; the newest of each of the last N weeks stays. An archive that any of these options keeps stays
    #[arg(long, value_name = "N", requires = "output", help_heading = OUTPUT)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_weekly: Option<u32>,

    /// Likewise; the newest of each of the last N months stays
    #[arg(long, value_name = "N", requires = "output", help_heading = OUTPUT)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_monthly: Option<u32>,
}

impl KeepArgs {
    /// The options with their numbers.
    fn given(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("--keep-daily", self.keep_daily),
            ("--keep-weekly", self.keep_weekly),
            ("--keep-monthly", self.keep_monthly),
        ];
        all.into_iter().filter_map(|(option, number)| Some((option, number?)))
    }

    /// The first option that is given, to name it.
    pub(super) fn first(&self) -> Option<&'static str> {
        self.given().next().map(|(option, _)| option)
    }

    /// The options as one types them.
    pub(super) fn words(&self) -> Vec<String> {
        self.given().map(|(option, number)| format!("{option}={number}")).collect()
    }

    /// What is asked for, with the name that an archive was given; None if nothing is.
    ///
    /// # Errors
    /// If archives could not be told apart by name or by time.
    pub(super) fn keeping(
        &self,
        pattern: Option<&NamePattern>,
        reproducible: bool,
    ) -> Result<Option<Keeping>> {
        let Some(option) = self.first() else { return Ok(None) };
        let refuse = |what: &str, hint: &str| {
            Err(Error::new(Code::Usage, format!("{option}: {what}")).hint(hint))
        };
        if reproducible {
            let what = "a reproducible archive does not say when it was created";
            return refuse(what, "leave out --reproducible");
        }
        let Some(pattern) = pattern.filter(|pattern| pattern.is_dated()) else {
            let what = "each archive needs a file of its own with its date in the name";
            return refuse(what, "name it so: -o 'NAME-{date}-{time}.ndjson.zst'");
        };
        let retention = Retention {
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
        };
        Ok(Some(Keeping { retention, pattern: pattern.clone() }))
    }
}

/// Which archives stay beside one that is yet to be written.
pub(super) struct Keeping {
    retention: Retention,
    pattern: NamePattern,
}

impl Keeping {
    /// Reads the new archive back and removes those that no longer stay.
    ///
    /// # Errors
    /// If the new archive is not what was written, or a stop: then nothing is removed.
    pub(super) async fn tidy(&self, file: &Path, digest: &str, cancel: &Cancel) -> Result<Tidied> {
        let stays = "the older archives were not touched";
        let verified = read_back(file, digest, cancel).await.map_err(|e| match e.code() {
            Code::Cancelled => {
                let what = "interrupted while the new archive was read back; it is complete";
                Error::new(Code::Cancelled, what).hint(stays)
            }
            _ => e.hint(stays),
        })?;
        let (retention, pattern) = (self.retention, self.pattern.clone());
        let (newest, stop) = (file.to_owned(), cancel.clone());
        let look =
            move || survey(retention, &newest, &verified.header, |name| pattern.fits(name), &stop);
        let found = aside(cancel, look).await.map_err(|e| match e.code() {
            Code::Cancelled => {
                let what = "interrupted while older archives were read; the new one is complete";
                Error::new(Code::Cancelled, what).hint(stays)
            }
            _ => e.hint(stays),
        })?;
        Ok(Tidied { sweep: found.sweep() })
    }
}

/// What was removed and what was kept.
pub(super) struct Tidied {
    sweep: Sweep,
}

impl Tidied {
    /// The paths as JSON.
    pub(super) fn removed(&self) -> Value {
        paths(self.sweep.removed.iter())
    }

    /// The paths as JSON.
    pub(super) fn kept(&self) -> Value {
        paths(self.sweep.kept.iter())
    }

    /// The paths as JSON.
    pub(super) fn damaged(&self) -> Value {
        paths(self.sweep.damaged.iter().map(|(path, _)| path))
    }

    /// What people should know of files that are still there.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let unremoved = self.sweep.failed.iter().map(|(path, error)| {
            let text = format!("{} could not be removed: {error}", show_path(path.display()));
            Notice::new(NoticeKind::NotRemoved, text)
        });
        let unlisted = self.sweep.unlisted.iter().map(|(folder, error)| {
            let folder = show_path(folder.display());
            let text = format!("older archives in {folder} could not be removed: {error}");
            Notice::new(NoticeKind::NotRemoved, text)
        });
        let damaged = self.sweep.damaged.iter().map(|(path, error)| {
            let text = format!(
                "{} is damaged; it was not removed and takes the place of no other: {}",
                show_path(path.display()),
                error.full()
            );
            Notice::new(NoticeKind::DamagedArchive, text)
        });
        let others = left_alone(
            &self.sweep.others,
            "files",
            "since they are not whole archives of this database and selection",
        );
        let ahead = left_alone(
            &self.sweep.ahead,
            "archives",
            "since by their headers they are newer than this one: a clock is or was wrong",
        );
        unremoved.chain(unlisted).chain(damaged).chain(others).chain(ahead).collect()
    }

    /// Prints it: one line, or one for each archive.
    pub(super) fn say(&self, report: &Report) -> Result<()> {
        let (removed, kept) = (&self.sweep.removed, &self.sweep.kept);
        if report.is_verbose() {
            for (what, paths) in [("removed", removed), ("kept", kept)] {
                for path in paths {
                    report.result(&format!("{what} {}", show_path(path.display())))?;
                }
            }
        }
        let removed = show_count(removed.len() as u64, "older archives");
        let kept = show_count(kept.len() as u64, "archives");
        report.result(&format!("removed {removed}, kept {kept}"))
    }
}

fn paths<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Value {
    paths.map(|path| json!(path.display().to_string())).collect()
}

/// The notice of files that were not looked at further.
fn left_alone(paths: &[PathBuf], noun: &str, why: &str) -> Option<Notice> {
    let files = show_count(paths.len() as u64, noun);
    let text = format!("{files} with such a name left alone, {why}: {}", names(paths));
    (!paths.is_empty()).then(|| Notice::new(NoticeKind::LeftAlone, text))
}

/// The names of a few files.
fn names(paths: &[PathBuf]) -> String {
    const MOST: usize = 3;
    let name = |path: &PathBuf| show_path(path.file_name().unwrap_or_default().display());
    let shown = paths.iter().take(MOST).map(name).collect::<Vec<_>>().join(", ");
    if paths.len() > MOST { format!("{shown}, …") } else { shown }
}
