//! The variables that Chronicle's programs really read: the block that points one of them to a backend, and what is
//! wrong in a file of them.
//!
//! Source of the rules: upstream's `apps/hooks/src/lib/database.py` and `apps/dashboard/src/lib/config.ts`, on its
//! branches `main` and `dev` of August 2025.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::env_file::EnvFile;
use crate::policy::Policy;

/// A program of Chronicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The hooks, which write.
    Hooks,
    /// The dashboard, which reads.
    Dashboard,
}

impl Policy for Program {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Hooks, "hooks", "The hooks, which write"),
        (Self::Dashboard, "dashboard", "The dashboard, which reads"),
    ];
}

/// Where it keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A SQLite file.
    Sqlite,
    /// A Supabase project.
    Supabase,
}

impl Policy for Store {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Sqlite, "sqlite", "A SQLite file"),
        (Self::Supabase, "supabase", "A Supabase project"),
    ];
}

/// What the user has said of a project or a file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The SQLite file.
    pub database: Option<PathBuf>,
    /// The address of the project.
    pub url: Option<String>,
    /// Its key for browsers and hooks.
    pub anon_key: Option<String>,
}

/// A variable of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// Its value, or what stands for it.
    pub value: String,
    /// Whether the user has to put the value in.
    pub placeholder: bool,
}

/// The address and the key of a project that is not named.
const PLACEHOLDERS: [&str; 2] = ["https://PROJECT.supabase.co", "ANON_KEY"];
/// Where the hooks keep their file unless they are told otherwise, relative to the home directory.
pub(super) const DEFAULT_FILE: &str = ".claude/hooks/chronicle/data/chronicle.db";
/// The server that dev's dashboard asks for a SQLite file.
const LOCAL_SERVER: &str = "http://localhost:8510";

const URL: &str = "SUPABASE_URL";
const KEY: &str = "SUPABASE_ANON_KEY";
/// The variable that names the hooks' file.
pub(super) const FILE: &str = "CLAUDE_HOOKS_DB_PATH";
const BACKEND: &str = "CHRONICLE_BACKEND_MODE";
const PUBLIC_URL: &str = "NEXT_PUBLIC_SUPABASE_URL";
const PUBLIC_KEY: &str = "NEXT_PUBLIC_SUPABASE_ANON_KEY";
const MODE: &str = "NEXT_PUBLIC_CHRONICLE_MODE";

/// Variables of the hooks that must be numbers, and whether they may have a fraction: else every hook ends with an error.
const NUMBERS: [(&str, bool); 3] = [
    ("CLAUDE_HOOKS_DB_TIMEOUT", false),
    ("CLAUDE_HOOKS_DB_RETRY_ATTEMPTS", false),
    ("CLAUDE_HOOKS_DB_RETRY_DELAY", true),
];

/// Variables that Chronicle's scripts and documents name and no code of it reads, each with the one that is read.
const UNREAD: [(&str, &str); 14] = [
    ("CHRONICLE_SUPABASE_URL", URL),
    ("CHRONICLE_SUPABASE_ANON_KEY", KEY),
    ("CHRONICLE_SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_ROLE_KEY"),
    ("CHRONICLE_SQLITE_PATH", FILE),
    ("SQLITE_FALLBACK_PATH", FILE),
    ("SQLITE_DATABASE_PATH", FILE),
    ("SQLITE_DB_PATH", FILE),
    ("NEXT_PUBLIC_SQLITE_PATH", FILE),
    ("CLAUDE_HOOKS_DB_TYPE", URL),
    ("NEXT_PUBLIC_API_URL", "NEXT_PUBLIC_LOCAL_SERVER_URL"),
    ("NEXT_PUBLIC_DATABASE_TYPE", MODE),
    ("NEXT_PUBLIC_BACKEND_MODE", MODE),
    ("CHRONICLE_USER_ID", ""),
    ("CHRONICLE_TEAM_ID", ""),
];

/// The variables that point a program to a store.
pub fn block(program: Program, store: Store, given: &Given, home: Option<&Path>) -> Vec<Setting> {
    let plain = |key, value: &str| Setting { key, value: value.to_owned(), placeholder: false };
    let project = |url, key| {
        let or = |key, given: &Option<String>, placeholder: &str| Setting {
            key,
            value: given.clone().unwrap_or_else(|| placeholder.to_owned()),
            placeholder: given.is_none(),
        };
        let [address, anon] = PLACEHOLDERS;
        vec![or(url, &given.url, address), or(key, &given.anon_key, anon)]
    };
    let file = given.database.clone().or_else(|| Some(home?.join(DEFAULT_FILE)));
    let file = file.unwrap_or_else(|| format!("~/{DEFAULT_FILE}").into());
    let file = plain(FILE, &file.display().to_string());
    match (program, store) {
        (Program::Hooks, Store::Supabase) => {
            let mut all = project(URL, KEY);
            all.extend([file, plain(BACKEND, "supabase")]);
            all
        }
        // an empty value, so that one of the environment does not count
        (Program::Hooks, Store::Sqlite) => {
            vec![file, plain(URL, ""), plain(KEY, ""), plain(BACKEND, "local")]
        }
        (Program::Dashboard, Store::Supabase) => {
            let mut all = vec![plain(MODE, "supabase")];
            all.extend(project(PUBLIC_URL, PUBLIC_KEY));
            all
        }
        (Program::Dashboard, Store::Sqlite) => {
            vec![plain(MODE, "local"), plain("NEXT_PUBLIC_LOCAL_SERVER_URL", LOCAL_SERVER)]
        }
    }
}

/// What is wrong in a file of variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why a program does not do what the file seems to say.
    pub problems: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// What a file of variables says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Whether it has variables of the hooks.
    pub of_hooks: bool,
    /// Whether it has variables of the dashboard.
    pub of_dashboard: bool,
    /// The project that the hooks write to, if any.
    pub project: Option<String>,
    /// The file that the hooks write to.
    pub database: String,
    /// What the dashboard reads: a project, or the local server.
    pub dashboard: Option<String>,
    /// What is missing, contradictory or without effect.
    pub findings: Findings,
}

/// Looks at a file of variables, as its reader sees it.
pub fn examine(file: &EnvFile, home: Option<&Path>) -> Examined {
    let of_dashboard = file.assignments().iter().any(|a| a.key.starts_with("NEXT_PUBLIC_"));
    // a file without any variable of Chronicle is one that the hooks would read, too
    let of_hooks = is_set(file, &[URL, KEY, FILE, BACKEND]) || !of_dashboard;
    let mut examined = Examined { of_hooks, of_dashboard, ..Examined::default() };
    let findings = &mut examined.findings;
    lines(file, findings);
    let database = said(file, FILE).map_or_else(|| format!("~/{DEFAULT_FILE}"), str::to_owned);
    let database = under_home(&database, home).display().to_string();
    if of_hooks {
        examined.project = project(file, URL, KEY, findings);
        if examined.project.is_none() && said(file, BACKEND) == Some("supabase") {
            let text = format!("{BACKEND} is supabase, but {URL} and {KEY} name no project");
            findings.problems.push(text);
        }
        hooks_file(&database, findings);
        numbers(file, findings);
    }
    examined.database = database;
    if of_dashboard {
        examined.dashboard = dashboard(file, findings);
    }
    if let (Some(hooks), Some(dashboard)) = (&examined.project, &examined.dashboard)
        && hooks != dashboard
    {
        let text = format!("the hooks write to {hooks}, but the dashboard reads {dashboard}");
        findings.problems.push(text);
    }
    for (name, read) in UNREAD.iter().filter(|(name, _)| file.get(name).is_some()) {
        let instead = match *read {
            "" => String::new(),
            read if file.get(read).is_some() => format!("; {read} is"),
            read => format!("; set {read} instead"),
        };
        findings.notes.push(format!("{name} is read by no program of Chronicle{instead}"));
    }
    examined
}

/// A path as the hooks take it: they pass `~/…` on unchanged, and then use the home directory.
pub(super) fn under_home(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

/// Whether any of these variables is set.
fn is_set(file: &EnvFile, names: &[&str]) -> bool {
    file.assignments().iter().any(|a| names.contains(&a.key.as_str()))
}

/// A variable that is set to something.
fn said<'a>(file: &'a EnvFile, key: &str) -> Option<&'a str> {
    file.get(key).filter(|value| !value.is_empty())
}

/// Lines that set nothing, and variables that are set twice.
fn lines(file: &EnvFile, findings: &mut Findings) {
    for line in &file.unreadable {
        let text = format!("line {line} is not NAME=VALUE and sets nothing");
        findings.problems.push(text);
    }
    let all = file.assignments();
    for (n, last) in all.iter().enumerate() {
        let earlier = all[..n].iter().find(|a| a.key == last.key);
        let is_last = all[n + 1..].iter().all(|a| a.key != last.key);
        if let Some(earlier) = earlier.filter(|_| is_last) {
            let text = format!(
                "{} is set in line {} and again in line {}, which counts",
                last.key, earlier.line, last.line
            );
            findings.notes.push(text);
        }
    }
}

/// The project that two variables name, if both do.
fn project(file: &EnvFile, url: &str, key: &str, findings: &mut Findings) -> Option<String> {
    let mut problem = |text: String| findings.problems.push(text);
    let (address, anon) = match (said(file, url), said(file, key)) {
        (Some(address), Some(anon)) => (address, anon),
        (None, None) => return None,
        (Some(_), None) => {
            problem(format!("{key} is missing: {url} alone names no project"));
            return None;
        }
        (None, Some(_)) => {
            problem(format!("{url} is missing: {key} alone names no project"));
            return None;
        }
    };
    for (name, value) in [(url, address), (key, anon)] {
        if is_placeholder(value) {
            problem(format!("{name} still has a placeholder, not a value"));
            return None;
        }
    }
    if !address.starts_with("https://") && !address.starts_with("http://") {
        let is_database =
            address.starts_with("postgres://") || address.starts_with("postgresql://");
        problem(match is_database {
            true => format!(
                "{url} is the connection string of a database, not the address of a project: {}",
                PLACEHOLDERS[0]
            ),
            false => format!("{url} is no address of a project: {}", PLACEHOLDERS[0]),
        });
        return None;
    }
    if is_secret_key(anon) {
        let who =
            if key == PUBLIC_KEY { "every browser gets it" } else { "no policy holds it back" };
        problem(format!("{key} is a secret key of the project: {who}; use its anon key"));
    }
    let shown = address.trim_end_matches('/').to_owned();
    let of_key = claims(anon).and_then(|claims| Some(claims.get("ref")?.as_str()?.to_owned()));
    if let (Some(of_key), Some(of_url)) = (of_key, reference(address))
        && of_key != of_url
    {
        problem(format!(
            "{key} is a key of the project {of_key}, not of {of_url}, which {url} names"
        ));
    }
    Some(shown)
}

/// The name of a project in its address.
pub(super) fn reference(address: &str) -> Option<&str> {
    let host = address.split_once("://")?.1.split(['/', ':', '?']).next()?;
    host.strip_suffix(".supabase.co")
}

/// What a key of the older kind, a JSON web token, says of itself.
fn claims(key: &str) -> Option<serde_json::Value> {
    let payload = URL_SAFE_NO_PAD.decode(key.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Whether a key of a project is one that nobody but its owner may have.
pub fn is_secret_key(key: &str) -> bool {
    let claims = claims(key);
    let role = claims.as_ref().and_then(|claims| claims.get("role")?.as_str());
    role == Some("service_role") || key.starts_with("sb_secret_")
}

/// Whether a value still has to be put in.
pub(super) fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|placeholder| value == placeholder.to_ascii_lowercase())
        || ["your-", "your_", "<", "[", "xxxx", "example"].iter().any(|part| value.contains(part))
}

/// The file of the hooks, which run in the folder of whatever project is worked on.
fn hooks_file(database: &str, findings: &mut Findings) {
    let path = Path::new(database);
    if path.is_relative() {
        let text = format!(
            "{FILE} is relative: the hooks would write to another file in every project's folder"
        );
        findings.problems.push(text);
    } else if path.is_dir() {
        findings.problems.push(format!("{FILE} is a folder, not a file: {database}"));
    } else if !path.exists() {
        findings.notes.push(format!("the hooks would create {database}"));
    }
}

fn numbers(file: &EnvFile, findings: &mut Findings) {
    for (name, fraction) in NUMBERS {
        let Some(value) = file.get(name).map(str::trim) else { continue };
        let is_number =
            if fraction { value.parse::<f64>().is_ok() } else { value.parse::<i64>().is_ok() };
        if !is_number {
            let what = if fraction { "a number" } else { "a whole number" };
            let text = format!("{name} is not {what}: every hook would end with an error");
            findings.problems.push(text);
        }
    }
}

/// What the dashboard reads.
fn dashboard(file: &EnvFile, findings: &mut Findings) -> Option<String> {
    let server = said(file, "NEXT_PUBLIC_LOCAL_SERVER_URL").unwrap_or(LOCAL_SERVER).to_owned();
    let project = project(file, PUBLIC_URL, PUBLIC_KEY, findings);
    match (said(file, MODE), project) {
        (Some("local"), _) => Some(server),
        (Some("supabase"), None) => {
            let text =
                format!("{MODE} is supabase, but {PUBLIC_URL} and {PUBLIC_KEY} name no project");
            findings.problems.push(text);
            None
        }
        (Some("supabase") | None, Some(project)) => Some(project),
        (None, None) if is_set(file, &[PUBLIC_URL, PUBLIC_KEY]) => None,
        (None, None) => Some(server),
        (Some(_), _) => {
            let text =
                format!("{MODE} is neither local nor supabase: the dashboard takes it for local");
            findings.problems.push(text);
            Some(server)
        }
    }
}
