//! Finding Chronicle's database file when none was named: where its hooks really keep it.

use std::path::{Path, PathBuf};

use super::env_file::EnvFile;
use super::settings::{DEFAULT_FILE, FILE, under_home};
use crate::error::{Code, Error, Result};
use crate::location::Environment;
use crate::sqlite::probe;
use chronicle_archive::{show_count, show_path};

/// The hooks' own settings, relative to the home directory.
const SETTINGS: &str = ".claude/hooks/chronicle/.env";
/// Where Chronicle's programs keep their file by default, most likely first, relative to the home
/// directory; each with the program that does.
const AT_HOME: [(&str, &str); 5] = [
    (DEFAULT_FILE, "the default of the hooks"),
    (".claude/hooks/chronicle/server/data/chronicle.db", "the default of the local server"),
    (".chronicle/fallback.db", "the default of the quick start"),
    (".claude/hooks_data.db", "the default of the first hooks"),
    (".chronicle/chronicle.db", "the default of the migration tutorial"),
];
/// Where a checkout of Chronicle keeps its file, relative to the working directory.
const HERE: [&str; 4] = [
    "data/chronicle.db",
    "chronicle.db",
    "apps/hooks/data/chronicle.db",
    "apps/server/data/chronicle.db",
];

/// A candidate.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why it was looked at.
    pub why: String,
    /// Its rows; None if they could not be counted, for example while it is locked.
    rows: Option<u64>,
}

/// The one file with data among all places where Chronicle keeps its file.
///
/// # Errors
/// If there is none, or more than one.
pub fn discover(environment: &Environment<'_>) -> Result<Found> {
    named_exists(environment)?;
    let found = candidates(environment);
    let with_data: Vec<&Found> = found.iter().filter(|f| f.rows != Some(0)).collect();
    match (with_data.as_slice(), found.first()) {
        ([one], _) => Ok((*one).clone()),
        ([], Some(first)) => Ok(first.clone()),
        ([], None) => Err(Error::new(Code::NotFound, "no Chronicle database found").hint(format!(
            "name it: chronicle-dump export PATH, or a postgresql:// URL; looked at ${FILE}, \
             ~/{SETTINGS}, {}, {}",
            AT_HOME.map(|(path, _)| format!("~/{path}")).join(", "),
            HERE.map(|path| format!("./{path}")).join(", ")
        ))),
        (several, _) => Err(Error::new(Code::Usage, "several Chronicle databases hold data")
            .with_details(several.iter().map(|found| found.line()).collect())
            .hint("name the one you mean: chronicle-dump export PATH")),
    }
}

/// Refuses a variable that names no file: what another place holds is not what was meant.
fn named_exists(environment: &Environment<'_>) -> Result<()> {
    let Some(named) = (environment.variable)(FILE).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = under_home(&named, environment.home.as_deref());
    match path.exists() {
        true => Ok(()),
        false => {
            let shown = show_path(path.display());
            Err(Error::new(Code::NotFound, format!("${FILE} names {shown}: no such file"))
                .hint("correct or unset it, or name the database: chronicle-dump export PATH"))
        }
    }
}

impl Found {
    fn line(&self) -> String {
        let rows = self.rows.map_or("rows unknown".into(), |n| show_count(n, "rows"));
        format!("{} ({rows}; {})", show_path(self.path.display()), self.why)
    }
}

/// The files that [`discover`] looks at, each with what is known of it.
pub fn places() -> Vec<(String, String)> {
    let settings = format!("the hooks' settings, in which {FILE} may name the file");
    let mut places = vec![(format!("~/{SETTINGS}"), settings)];
    places.extend(AT_HOME.map(|(path, why)| (format!("~/{path}"), why.to_owned())));
    places.extend(HERE.map(|path| (path.to_owned(), "in the working directory".to_owned())));
    places
}

/// Every place that has a Chronicle database, each file once.
fn candidates(environment: &Environment<'_>) -> Vec<Found> {
    let mut places: Vec<(PathBuf, String)> = Vec::new();
    let home = environment.home.as_deref();
    if let Some(path) = (environment.variable)(FILE).filter(|p| !p.is_empty()) {
        places.push((under_home(&path, home), format!("${FILE} names it")));
    }
    if let Some(home) = home {
        if let Some(path) = setting(&home.join(SETTINGS), environment) {
            places.push((under_home(&path, Some(home)), format!("~/{SETTINGS} names it")));
        }
        places.extend(AT_HOME.map(|(path, why)| (home.join(path), why.to_owned())));
    }
    places.extend(HERE.map(|path| (PathBuf::from(path), "in the working directory".to_owned())));
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for (path, why) in places {
        let Ok(real) = path.canonicalize() else { continue };
        if seen.contains(&real) {
            continue;
        }
        if let Some(rows) = probe::rows(&real) {
            found.push(Found { path, why, rows });
        }
        seen.push(real);
    }
    found
}

/// The hooks' file in their own settings; of no other setting is a word kept.
fn setting(file: &Path, environment: &Environment<'_>) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let file = EnvFile::parse(text).expanded(environment.variable);
    file.get(FILE).filter(|value| !value.is_empty()).map(str::to_owned)
}
