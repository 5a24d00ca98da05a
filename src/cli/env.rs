//! `env`: the variables that point Chronicle's hooks or its dashboard to a database, and what is wrong in a file of them.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::env_args::EnvArgs;
use super::report::{Report, Start};
use crate::chronicle::env_file::{EnvFile, written};
use crate::chronicle::settings::{Examined, Given, Setting, block, examine, is_secret_key};
use crate::error::{Code, Error, Result};
use crate::policy::Policy;
use chronicle_archive::show_path;

/// The rights of a new file: it may get secrets.
const OWN: u32 = 0o600;

/// Returns the exit code.
pub(super) fn run(args: &EnvArgs, home: Option<&Path>, report: &Report) -> Result<u8> {
    if let Some(path) = &args.check {
        return check(path, home, report);
    }
    let (Some(program), Some(store)) = (args.program, args.backend) else {
        return Err(Error::new(Code::Usage, "say which program and which --backend")
            .hint("chronicle-dump env hooks --backend sqlite"));
    };
    let settings = block(program, store, &given(args)?, home);
    let mut result = json!({
        "command": "env",
        "program": program.word(),
        "backend": store.word(),
        "variables": settings.iter().map(described).collect::<Vec<_>>(),
    });
    match &args.write {
        Some(path) => {
            let done = Written::write(path, &settings)?;
            result["file"] = path.display().to_string().into();
            result["changed"] = json!(done.changed);
            result["to_fill_in"] = json!(done.to_fill_in);
            if let Some(copy) = &done.copy {
                result["copy"] = copy.display().to_string().into();
            }
            match report.is_json() {
                true => report.result_json(&result)?,
                false => done.lines(path).iter().try_for_each(|line| report.result(line))?,
            }
        }
        None if report.is_json() => report.result_json(&result)?,
        None => {
            let lines = settings.iter().map(|s| format!("{}={}\n", s.key, written(&s.value)));
            report.raw(lines.collect::<String>().as_bytes())?;
        }
    }
    Ok(0)
}

/// What the command line says of a project or a file.
fn given(args: &EnvArgs) -> Result<Given> {
    if args.anon_key.as_deref().is_some_and(is_secret_key) {
        let what = "--anon-key: this is a secret key of the project, not its anon key";
        return Err(Error::new(Code::Usage, what)
            .hint("use the anon (publishable) key: project settings, API keys"));
    }
    let is_address = |url: &&String| url.starts_with("https://") || url.starts_with("http://");
    if args.supabase_url.as_ref().is_some_and(|url| !is_address(&url)) {
        let what = "--supabase-url: not the address of a project";
        return Err(Error::new(Code::Usage, what).hint("it begins with https://"));
    }
    let database = args.database.as_deref().map(std::path::absolute).transpose();
    let database = database.map_err(|e| {
        Error::new(Code::Usage, "--database: the name of the file is empty").because(e)
    })?;
    Ok(Given { database, url: args.supabase_url.clone(), anon_key: args.anon_key.clone() })
}

fn described(setting: &Setting) -> serde_json::Value {
    json!({
        "name": setting.key,
        "value": setting.value,
        "placeholder": setting.placeholder,
    })
}

/// What was done to a file.
struct Written {
    /// The variables that have other values now.
    changed: Vec<&'static str>,
    /// Those that the user has to put in.
    to_fill_in: Vec<&'static str>,
    /// The file as it was.
    copy: Option<PathBuf>,
}

impl Written {
    /// Sets the variables in a file, and keeps the file as it was beside it.
    fn write(path: &Path, settings: &[Setting]) -> Result<Written> {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let before = match std::fs::read_to_string(&place) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(path, e)),
        };
        let mut file = EnvFile::parse(before.clone().unwrap_or_default());
        let mut done = Written { changed: Vec::new(), to_fill_in: Vec::new(), copy: None };
        for setting in settings {
            let now = file.get(setting.key);
            // a value that is there is better than none
            if setting.placeholder && now.is_some_and(|now| !now.is_empty() && now != setting.value)
            {
                continue;
            }
            if setting.placeholder {
                done.to_fill_in.push(setting.key);
            }
            // a variable that is not set needs no empty value, unless the environment may have one
            if now != Some(setting.value.as_str()) {
                file = file.with(setting.key, &setting.value);
                done.changed.push(setting.key);
            }
        }
        if done.changed.is_empty() {
            return Ok(done);
        }
        let cannot = |e| Error::writing(path.display(), e);
        let mode = match &before {
            None => OWN,
            Some(_) => {
                done.copy = Some(copy_beside(&place)?);
                place.metadata().map_err(cannot)?.permissions().mode()
            }
        };
        replace(&place, file.text(), mode).map_err(cannot)?;
        Ok(done)
    }

    fn lines(&self, path: &Path) -> Vec<String> {
        let path = show_path(path.display());
        let mut lines = vec![match self.changed.as_slice() {
            [] => format!("{path}: nothing to change"),
            changed => format!("{path}: set {}", changed.join(", ")),
        }];
        if let Some(copy) = &self.copy {
            lines.push(format!("copy of the former file: {}", show_path(copy.display())));
        }
        if !self.to_fill_in.is_empty() {
            lines.push(format!("put in the values of {}", self.to_fill_in.join(", ")));
        }
        lines
    }
}

fn unreadable(path: &Path, e: std::io::Error) -> Error {
    let shown = show_path(path.display());
    match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Code::NotFound, format!("{shown}: no such file"))
        }
        _ => Error::new(Code::NotFound, format!("{shown}: cannot be read")).because(e),
    }
}

/// A copy of a file under its name and the time, which nobody else has.
fn copy_beside(place: &Path) -> Result<PathBuf> {
    let now = chrono::Utc::now().format("%Y-%m-%d-%H%M%S%3f");
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{now}"));
    let copy = place.with_file_name(name);
    let cannot = |e| Error::writing(copy.display(), e);
    let mut source = File::open(place).map_err(cannot)?;
    let mut file = File::create_new(&copy).map_err(cannot)?;
    let rights = source.metadata().map_err(cannot)?.permissions();
    file.set_permissions(rights).map_err(cannot)?;
    std::io::copy(&mut source, &mut file).map_err(cannot)?;
    file.sync_all().map_err(cannot)?;
    Ok(copy)
}

/// Gives a file another content, all at once.
fn replace(place: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(place).map(|_| ()).map_err(|e| e.error)
}

/// Says what a file of variables leads to.
fn check(path: &Path, home: Option<&Path>, report: &Report) -> Result<u8> {
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(path, e))?;
    let found = examine(&EnvFile::parse(text), home);
    match report.is_json() {
        true => report.result_json(&as_json(path, &found))?,
        false => {
            for line in destinations(&found) {
                report.result(&line)?;
            }
            for problem in &found.findings.problems {
                report.finding(Start::Error, problem)?;
            }
            for note in &found.findings.notes {
                report.result(&format!("note: {note}"))?;
            }
        }
    }
    Ok(if found.findings.problems.is_empty() { 0 } else { Code::Different.exit() })
}

/// Where the programs that read the file write to or read from, in words.
fn destinations(found: &Examined) -> Vec<String> {
    let mut lines = Vec::new();
    if found.of_hooks {
        lines.push(match &found.project {
            Some(project) => format!("the hooks write to {project} and to {}", found.database),
            None => format!("the hooks write to {} alone", found.database),
        });
    }
    if found.of_dashboard {
        lines.push(match &found.dashboard {
            Some(read) => format!("the dashboard reads {read}"),
            None => "the dashboard finds no data".to_owned(),
        });
    }
    lines
}

fn as_json(path: &Path, found: &Examined) -> serde_json::Value {
    let mut result = json!({
        "command": "env",
        "file": path.display().to_string(),
        "problems": found.findings.problems,
        "notes": found.findings.notes,
    });
    if found.of_hooks {
        result["hooks"] = json!({ "database": found.database, "project": found.project });
    }
    if found.of_dashboard {
        result["dashboard"] = json!({ "reads": found.dashboard });
    }
    result
}
