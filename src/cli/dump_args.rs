//! The options of an export that reads a dump, and the opening of its file.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::args::INPUT;
use super::import::open;
use crate::error::{Code, Error, Result};
use crate::location::DumpFile;
use crate::progress::Progress;

/// A dump in place of a database.
#[derive(Debug, Clone, clap::Args)]
pub struct DumpArgs {
    /// Read a dump instead of a database, without a server: plain SQL of pg_dump or pg_dumpall, or a
    /// downloaded backup of Supabase (db_cluster.backup), also in gzip or zstd; `-` is stdin. One that
    /// is not complete is refused
    #[arg(long, value_name = "FILE", help_heading = INPUT, value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["source", "password_file", "sslrootcert", "role", "timeout", "env_file"])]
    pub from_dump: Option<PathBuf>,

    /// The database to take, if several in the dump have Chronicle's tables
    #[arg(long, value_name = "NAME", requires = "from_dump", help_heading = INPUT)]
    pub dump_database: Option<String>,

    /// The schema to take, if several in the dump have Chronicle's tables
    #[arg(long, value_name = "NAME", requires = "from_dump", help_heading = INPUT)]
    pub dump_schema: Option<String>,
}

impl DumpArgs {
    /// The dump, if one is to be read.
    pub(super) fn file(&self) -> Option<DumpFile> {
        let path = self.from_dump.as_ref()?;
        Some(DumpFile {
            path: Some(path.clone()).filter(|path| path != Path::new("-")),
            database: self.dump_database.clone(),
            schema: self.dump_schema.clone(),
        })
    }

    /// Whether it is read from stdin.
    pub(super) fn is_stdin(&self) -> bool {
        self.from_dump.as_deref() == Some(Path::new("-"))
    }
}

/// Opens the file of a dump, or stdin.
pub(super) fn open_dump(dump: &DumpFile) -> Result<Box<dyn std::io::Read + Send>> {
    let wrong = |what: &str| Error::new(Code::Usage, format!("--from-dump: {what}"));
    match &dump.path {
        None if std::io::stdin().is_terminal() => {
            return Err(wrong("stdin is a terminal").hint(
                "name the file, or pipe a dump into it: gunzip -c FILE | chronicle-dump export --from-dump -",
            ));
        }
        Some(path) if path.as_os_str().is_empty() => {
            return Err(
                wrong("the name of the file is empty").hint("a variable in quotes may not be set")
            );
        }
        Some(path) if path.is_dir() => {
            let error = Error::new(Code::NotFound, format!("{dump} is a directory"));
            return Err(match path.join("toc.dat").exists() {
                true => error.hint(DumpFile::FOLDER),
                false => error,
            });
        }
        _ => {}
    }
    // the rows come only when all of it is read: it has no progress of its own
    Ok(open(dump.path.as_deref(), &Progress::default())?.into_read())
}
