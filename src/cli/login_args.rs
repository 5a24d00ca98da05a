//! The options of every command that opens a database: how a server is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueHint;

use super::args::CONNECTION;
use crate::chronicle::env_file::EnvFile;
use crate::error::{Code, Error, Result};
use crate::location::LoginOptions;
use chronicle_archive::show_path;

/// How a server is reached, where its connection string does not say it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LoginArgs {
    /// A file with the password of the database
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,

    /// A file of root certificates, one of which has to have signed the server's certificate, or `system` for those that this
    /// machine trusts
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, value_hint = ValueHint::FilePath)]
    pub sslrootcert: Option<String>,

    /// The role to act as after the login, in the transaction only
    #[arg(long, value_name = "NAME", help_heading = CONNECTION)]
    pub role: Option<String>,

    /// How long a server may owe an answer without a byte, before it is asked on another connection whether it is still at
    /// work; a connection that is lost ends the command. 0 is for ever [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = CONNECTION)]
    pub timeout: Option<u32>,

    /// A file of variables, as NAME=VALUE in each line, for env:NAME and wherever else variables are read; those that are set
    /// win
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, value_hint = ValueHint::FilePath)]
    pub env_file: Option<PathBuf>,
}

impl LoginArgs {
    /// What the options say of a login.
    pub fn options(&self) -> LoginOptions {
        LoginOptions {
            password_file: self.password_file.clone(),
            role: self.role.clone(),
            sslrootcert: self.sslrootcert.clone(),
            timeout: self.timeout.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    /// The options as a command line has them.
    pub fn words(&self) -> Vec<[String; 2]> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("--password-file", path(&self.password_file)),
            ("--sslrootcert", self.sslrootcert.clone()),
            ("--role", self.role.clone()),
            ("--timeout", self.timeout.map(|seconds| seconds.to_string())),
            ("--env-file", path(&self.env_file)),
        ];
        let words =
            given.into_iter().filter_map(|(option, value)| Some([option.to_owned(), value?]));
        words.collect()
    }

    /// Refuses options for a database where none is named.
    ///
    /// # Errors
    /// If an option was given.
    pub fn refuse_without(&self, database: &str) -> Result<()> {
        match self.words().first() {
            None => Ok(()),
            Some([option, _]) => {
                let what = format!("{option} is for a database, and none is named");
                Err(Error::new(Code::Usage, what).hint(format!("name it: {database}")))
            }
        }
    }

    /// The variables of the file of variables, if one was given.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn variables(&self, outside: &dyn Fn(&str) -> Option<String>) -> Result<Option<EnvFile>> {
        self.env_file.as_deref().map(|path| read(path, outside)).transpose()
    }
}

fn read(path: &Path, outside: &dyn Fn(&str) -> Option<String>) -> Result<EnvFile> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::new(Code::NotFound, format!("--env-file: cannot read {}", show_path(path.display())))
            .because(e)
            .hint("name a file with NAME=VALUE in each line: --env-file FILE")
    })?;
    Ok(EnvFile::parse(text).expanded(outside))
}
