//! `env`: the variables that point Chronicle's hooks or its dashboard to a database, and what is wrong in a file of them.

use std::fs::{File, Metadata, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::env_args::EnvArgs;
use super::report::{Report, Start};
use crate::chronicle::env_file::{EnvFile, written};
use crate::chronicle::settings::{
    Examined, Given, Program, Setting, Store, block, examine, is_secret_key,
};
use crate::error::{Code, Error, Result};
use crate::location::Environment;
use crate::policy::Policy;
use chronicle_archive::show_path;

/// The rights of a new file: it may get secrets.
const OWN: u32 = 0o600;

/// More bytes than any file of variables has.
const LONGEST: u64 = 1 << 20;

/// Returns the exit code.
pub(super) fn run(args: &EnvArgs, environment: &Environment<'_>, report: &Report) -> Result<u8> {
    if let Some(path) = &args.check {
        return check(path, environment, report);
    }
    let (Some(program), Some(store)) = (args.program, args.backend) else {
        return Err(Error::new(Code::Usage, "say which program and which --backend")
            .hint("chronicle-dump env hooks --backend sqlite"));
    };
    refuse_useless(args, program, store)?;
    let settings = block(program, store, &given(args)?, environment.home.as_deref());
    let mut result = json!({
        "command": "env",
        "program": program.word(),
        "backend": store.word(),
        "variables": settings.iter().map(described).collect::<Vec<_>>(),
    });
    match &args.write {
        Some(path) => {
            let done = Edit::write(path, &settings)?;
            result["file"] = path.display().to_string().into();
            result["changed"] = json!(done.changed);
            result["to_fill_in"] = json!(done.to_fill_in);
            if let Some(copy) = &done.copy {
                result["copy"] = copy.display().to_string().into();
            }
            if report.is_json() {
                report.result_json(&result)?;
            }
            done.lines(path).iter().try_for_each(|line| report.result(line))?;
        }
        None if report.is_json() => report.result_json(&result)?,
        None => {
            let lines = settings.iter().map(|s| format!("{}={}\n", s.key, written(&s.value)));
            report.raw(lines.collect::<String>().as_bytes())?;
        }
    }
    Ok(0)
}

/// Refuses options that the block has no place for.
fn refuse_useless(args: &EnvArgs, program: Program, store: Store) -> Result<()> {
    let is_local = store == Store::Sqlite;
    let useless = [
        ("--database", args.database.is_some() && program == Program::Dashboard),
        ("--supabase-url", args.supabase_url.is_some() && is_local),
        ("--anon-key", args.anon_key.is_some() && is_local),
    ];
    let Some((option, _)) = useless.into_iter().find(|(_, is_useless)| *is_useless) else {
        return Ok(());
    };
    let (program, store) = (program.word(), store.word());
    let what = format!("{option} has no effect on `env {program} --backend {store}`");
    Err(Error::new(Code::Usage, what)
        .hint("leave it out; --database is for the hooks, the others are for supabase"))
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
struct Edit {
    /// The variables that have other values now.
    changed: Vec<&'static str>,
    /// Those that the user has to put in.
    to_fill_in: Vec<&'static str>,
    /// The file as it was.
    copy: Option<PathBuf>,
}

impl Edit {
    /// Sets the variables in a file, and keeps the file as it was beside it.
    fn write(path: &Path, settings: &[Setting]) -> Result<Edit> {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let before = match place.metadata() {
            Ok(former) if !former.is_file() => {
                let what = format!("--write: {} is not a plain file", show_path(path.display()));
                return Err(Error::new(Code::Usage, what));
            }
            Ok(_) => Some(read(&place)?),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(path, e)),
        };
        let mut file = EnvFile::parse(before.clone().unwrap_or_default());
        let mut done = Edit { changed: Vec::new(), to_fill_in: Vec::new(), copy: None };
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
            if now != Some(setting.value.as_str()) {
                file = file.with(setting.key, &setting.value);
                done.changed.push(setting.key);
            }
        }
        if done.changed.is_empty() {
            return Ok(done);
        }
        let cannot = |e| unwritable(path, e);
        let former = before.is_some().then(|| place.metadata()).transpose().map_err(cannot)?;
        if let Some(text) = before {
            let copy = copy_name(&place);
            put(&copy, &text, former.as_ref()).map_err(|e| unwritable(&copy, e))?;
            done.copy = Some(copy);
        }
        put(&place, file.text(), former.as_ref()).map_err(cannot)?;
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

/// The text of a file of variables.
fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    let bytes = file.take(LONGEST + 1).read_to_string(&mut text);
    if bytes.map_err(|e| unreadable(path, e))? as u64 > LONGEST {
        let what = format!("{}: too large for a file of variables", show_path(path.display()));
        return Err(Error::new(Code::NotFound, what));
    }
    Ok(text)
}

fn unreadable(path: &Path, e: std::io::Error) -> Error {
    let shown = show_path(path.display());
    match e.kind() {
        ErrorKind::NotFound => Error::new(Code::NotFound, format!("{shown}: no such file")),
        ErrorKind::InvalidData => {
            Error::new(Code::NotFound, format!("{shown}: not a text in UTF-8"))
        }
        _ => Error::new(Code::NotFound, format!("{shown}: cannot be read")).because(e),
    }
}

fn unwritable(path: &Path, e: std::io::Error) -> Error {
    let shown = show_path(path.display());
    match e.kind() {
        ErrorKind::NotFound => {
            Error::new(Code::Output, format!("{shown}: its directory does not exist"))
        }
        _ => Error::writing(path.display(), e),
    }
}

/// The name of a copy of a file: its own and the time.
fn copy_name(place: &Path) -> PathBuf {
    let now = chrono::Utc::now().format("%Y-%m-%d-%H%M%S%3f");
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{now}"));
    place.with_file_name(name)
}

/// Writes a file all at once, with the rights and the owner of the former one.
fn put(place: &Path, text: &str, former: Option<&Metadata>) -> std::io::Result<()> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    if let Some(former) = former {
        let now = file.as_file().metadata()?;
        if (now.uid(), now.gid()) != (former.uid(), former.gid()) {
            fchown(file.as_file(), Some(former.uid()), Some(former.gid()))?;
        }
    }
    let mode = former.map_or(OWN, |former| former.permissions().mode());
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(place).map(|_| ()).map_err(|e| e.error)
}

/// Says what a file of variables leads to.
fn check(path: &Path, environment: &Environment<'_>, report: &Report) -> Result<u8> {
    let file = EnvFile::parse(read(path)?).expanded(environment.variable);
    let found = examine(&file, environment.home.as_deref());
    if report.is_json() {
        report.result_json(&as_json(path, &found))?;
    }
    for line in destinations(&found) {
        report.result(&line)?;
    }
    for problem in &found.findings.problems {
        report.finding(Start::Error, problem)?;
    }
    for note in &found.findings.notes {
        report.result(&format!("note: {note}"))?;
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
