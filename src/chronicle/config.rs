//! The configuration file of Chronicle's migration tutorial: what each of its keys asks for. Its secrets are in no message.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::settings::{is_placeholder, reference, under_home};
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};

/// What the value of a key is.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Flag,
}

impl Form {
    fn words(self) -> &'static str {
        match self {
            Form::Text => "a text",
            Form::Number => "a whole number from 1 on",
            Form::Flag => "true or false",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Form::Text => value.is_string(),
            Form::Number => value.as_u64().is_some_and(|number| number > 0),
            Form::Flag => value.is_boolean(),
        }
    }
}

const DATABASE: &[(&str, Form)] = &[
    ("type", Form::Text),
    ("database_path", Form::Text),
    ("supabase_url", Form::Text),
    ("supabase_service_role_key", Form::Text),
    ("database_url", Form::Text),
];

/// The parts of the file, and the keys of each; `schemas/migration-config.schema.json` says the same.
const PARTS: &[(&str, &[(&str, Form)])] = &[
    ("source", DATABASE),
    ("target", DATABASE),
    (
        "migration",
        &[
            ("batch_size", Form::Number),
            ("parallel_workers", Form::Number),
            ("validate_data", Form::Flag),
            ("create_backup", Form::Flag),
            ("create_indexes", Form::Flag),
            ("dry_run", Form::Flag),
            ("clear_target", Form::Flag),
        ],
    ),
    ("user_info", &[("user_id", Form::Text), ("team_id", Form::Text)]),
    ("filters", &[("user_id", Form::Text)]),
];

/// The key of the value that `user_info` has for a column.
pub fn user_info_key(column: &str) -> String {
    format!("user_info.{column}")
}

/// The columns that `user_info` has values for.
const USER_INFO: [&str; 2] = ["user_id", "team_id"];

/// What such a file asks for.
#[derive(Debug, Default)]
pub struct MigrationConfig {
    /// Where the rows come from, if it says so.
    pub source: Option<ConfiguredEnd>,
    /// Where they go.
    pub target: Option<ConfiguredEnd>,
    /// Whether archives of both databases are made first.
    pub create_backup: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether the target's rows are deleted first.
    pub clear_target: bool,
    /// The user whose rows alone are wanted.
    pub only_user: Option<String>,
    /// Values for columns of rows that have none, by column.
    pub user_info: Vec<(&'static str, String)>,
    /// The keys that have no effect, and why.
    pub notices: Vec<Notice>,
}

/// A database of such a file.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfiguredEnd {
    /// A SQLite file.
    File(PathBuf),
    /// A Supabase project.
    Project {
        /// The project's name, as its address has it.
        name: Option<String>,
        /// The connection string of its database, which the tutorial's files lack. It may hold a password.
        database_url: Option<String>,
    },
}

impl MigrationConfig {
    /// Reads the text of such a file; paths below `~` are in `home`.
    ///
    /// # Errors
    /// What is not JSON, a key that the file cannot have, or one that asks for what cannot be done.
    pub fn parse(text: &str, home: Option<&Path>) -> Result<MigrationConfig> {
        let value: Value = serde_json::from_str(text).map_err(|e| {
            Error::new(Code::Usage, "this is not JSON").because(e).hint(known_parts())
        })?;
        let Value::Object(parts) = value else {
            return Err(Error::new(Code::Usage, "this is not a JSON object").hint(known_parts()));
        };
        refuse_unknown(&parts)?;
        let keys = Keys(&parts);
        let end = |part| {
            if parts.get(part).is_some_and(Value::is_object) {
                ConfiguredEnd::read(&keys, part, home).map(Some)
            } else {
                Ok(None)
            }
        };
        let flag = |key| keys.flag("migration", key);
        Ok(MigrationConfig {
            source: end("source")?,
            target: end("target")?,
            create_backup: flag("create_backup") == Some(true),
            dry_run: flag("dry_run") == Some(true),
            clear_target: flag("clear_target") == Some(true),
            only_user: keys.text("filters", "user_id").map(str::to_owned),
            user_info: (USER_INFO.iter())
                .filter_map(|key| Some((*key, keys.text("user_info", key)?.to_owned())))
                .collect(),
            notices: without_effect(&keys),
        })
    }
}

impl ConfiguredEnd {
    fn read(keys: &Keys<'_>, part: &str, home: Option<&Path>) -> Result<ConfiguredEnd> {
        const OF_PROJECTS: [&str; 3] =
            ["supabase_url", "supabase_service_role_key", "database_url"];
        let refuse = |what: String, hint: String| Err(Error::new(Code::Usage, what).hint(hint));
        let is_given = |key: &&str| keys.text(part, key).is_some();
        match keys.text(part, "type") {
            Some("sqlite") => {
                if let Some(key) = OF_PROJECTS.iter().find(|key| is_given(key)) {
                    return refuse(
                        format!("{part}.{key} is for \"type\": \"supabase\", not \"sqlite\""),
                        format!("remove it, or change {part}.type"),
                    );
                }
                match keys.text(part, "database_path") {
                    Some(path) => Ok(ConfiguredEnd::File(under_home(path, home))),
                    None => refuse(
                        format!("{part}.database_path is missing"),
                        "it names the SQLite file".into(),
                    ),
                }
            }
            Some("supabase") if is_given(&"database_path") => refuse(
                format!("{part}.database_path is for \"type\": \"sqlite\", not \"supabase\""),
                format!("remove it, or change {part}.type"),
            ),
            Some("supabase") => {
                let url = keys.text(part, "supabase_url").filter(|url| !is_placeholder(url));
                Ok(ConfiguredEnd::Project {
                    name: url.and_then(reference).map(str::to_owned),
                    database_url: keys.text(part, "database_url").map(str::to_owned),
                })
            }
            Some(_) => refuse(
                format!("{part}.type is neither \"sqlite\" nor \"supabase\""),
                "\"supabase\" is for any database on a Postgres server".into(),
            ),
            None => refuse(
                format!("{part}.type is missing"),
                "write \"type\": \"sqlite\" or \"type\": \"supabase\"".into(),
            ),
        }
    }
}

/// The parts of a file whose keys and values have their form.
struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    fn get(&self, part: &str, key: &str) -> Option<&'a Value> {
        self.0.get(part)?.get(key).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    fn text(&self, part: &str, key: &str) -> Option<&'a str> {
        self.get(part, key)?.as_str().filter(|text| !text.trim().is_empty())
    }

    fn flag(&self, part: &str, key: &str) -> Option<bool> {
        self.get(part, key)?.as_bool()
    }
}

fn known_parts() -> String {
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    format!("the file has the parts {}", names.join(", "))
}

/// Refuses keys that no such file has, all of them together, and values of another form; none of them is repeated.
fn refuse_unknown(parts: &Map<String, Value>) -> Result<()> {
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for (part, value) in parts {
        let shown = chronicle_archive::show_text(part);
        let Some((_, known)) = PARTS.iter().find(|(name, _)| name == part) else {
            unknown.push(shown);
            continue;
        };
        let Value::Object(keys) = value else {
            if !value.is_null() {
                wrong.push(format!("{part} must be an object"));
            }
            continue;
        };
        for (key, value) in keys {
            match known.iter().find(|(name, _)| name == key) {
                None => unknown.push(format!("{part}.{}", chronicle_archive::show_text(key))),
                Some((_, form)) if !value.is_null() && !form.fits(value) => {
                    wrong.push(format!("{part}.{key} must be {}", form.words()));
                }
                Some(_) => {}
            }
        }
    }
    if let Some(first) = unknown.first() {
        let part = first.split('.').next().unwrap_or_default();
        let of_part = PARTS.iter().find(|(name, _)| *name == part && first.contains('.'));
        let hint = of_part.map_or_else(known_parts, |(part, keys)| {
            let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
            format!("{part} has the keys {}", names.join(", "))
        });
        let keys = if unknown.len() == 1 { "unknown key" } else { "unknown keys" };
        return Err(Error::new(Code::Usage, format!("{keys}: {}", unknown.join(", "))).hint(hint));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Code::Usage, wrong.join("; "))),
    }
}

/// What has no effect, and why.
fn without_effect(keys: &Keys<'_>) -> Vec<Notice> {
    let is_given = |key: &str| keys.get("migration", key).is_some();
    let is_off = |key: &str| keys.flag("migration", key) == Some(false);
    let mut all = Vec::new();
    let mut ignored = |what: String, why: &str| {
        all.push(Notice::new(NoticeKind::Ignored, format!("{what} is ignored: {why}")));
    };
    if is_given("batch_size") {
        ignored("migration.batch_size".into(), "all rows are loaded in one transaction");
    }
    if is_given("parallel_workers") {
        let why = "all rows are loaded in one transaction, which one connection has";
        ignored("migration.parallel_workers".into(), why);
    }
    if is_off("validate_data") {
        let why = "what is loaded is always read back and compared";
        ignored("migration.validate_data = false".into(), why);
    }
    if is_off("create_indexes") {
        let why = "the target keeps its indexes; those of empty tables are rebuilt behind the rows";
        ignored("migration.create_indexes = false".into(), why);
    }
    for part in ["source", "target"] {
        if keys.text(part, "supabase_service_role_key").is_some() {
            let why = "a database is opened with its own password";
            ignored(format!("{part}.supabase_service_role_key"), why);
        }
    }
    all
}

/// The error of a project whose database is not named; `option` names it.
pub fn database_is_missing(part: &str, option: &str) -> Error {
    let what = format!(
        "{part}: supabase_url and supabase_service_role_key lead to the project's HTTP interface, not to its database"
    );
    Error::new(Code::Usage, what).hint(format!(
        "add {option} with the connection string of the project's page (direct connection or session pooler), \
         or \"database_url\" to {part}; its password is the database's own, in PGPASSWORD or a --password-file"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &str = "eyJhbGciOi-a-secret";

    fn parse(text: &str) -> Result<MigrationConfig> {
        MigrationConfig::parse(text, Some(Path::new("/home/kim")))
    }

    #[test]
    fn a_database_is_a_file_or_a_project() {
        let config = parse(
            r#"{"source": {"type": "sqlite", "database_path": "~/.chronicle/chronicle.db"},
                "target": {"type": "supabase", "supabase_url": "https://abcd.supabase.co",
                           "database_url": "postgres://h/d"}}"#,
        )
        .unwrap();
        let file = PathBuf::from("/home/kim/.chronicle/chronicle.db");
        assert_eq!(config.source, Some(ConfiguredEnd::File(file)));
        let project = ConfiguredEnd::Project {
            name: Some("abcd".into()),
            database_url: Some("postgres://h/d".into()),
        };
        assert_eq!(config.target, Some(project));
    }

    #[test]
    fn a_placeholder_names_no_project() {
        let text = r#"{"source": {"type": "supabase", "supabase_url": "https://your-project.supabase.co"}}"#;
        let project = ConfiguredEnd::Project { name: None, database_url: None };
        assert_eq!(parse(text).unwrap().source, Some(project));
    }

    #[test]
    fn whatever_is_refused_is_named_and_not_repeated() {
        for (text, named) in [
            ("{\"a\": 1, \"source\": {\"typ\": \"SECRET\"}}", "unknown keys: a, source.typ"),
            ("{\"migration\": {\"batchSize\": \"SECRET\"}}", "unknown key: migration.batchSize"),
            (
                "{\"migration\": {\"dry_run\": \"SECRET\"}}",
                "migration.dry_run must be true or false",
            ),
            ("{\"migration\": {\"batch_size\": 0}}", "migration.batch_size must be a whole number"),
            ("{\"source\": \"SECRET\"}", "source must be an object"),
            ("{\"source\": {}}", "source.type is missing"),
            ("{\"source\": {\"type\": \"SECRET\"}}", "source.type is neither"),
            ("{\"target\": {\"type\": \"sqlite\"}}", "target.database_path is missing"),
            (
                "{\"target\": {\"type\": \"sqlite\", \"supabase_service_role_key\": \"SECRET\"}}",
                "target.supabase_service_role_key is for",
            ),
            (
                "{\"target\": {\"type\": \"supabase\", \"database_path\": \"SECRET\"}}",
                "target.database_path is for",
            ),
            ("[\"SECRET\"]", "not a JSON object"),
            ("{\"SECRET\"", "not JSON"),
        ] {
            let error = parse(&text.replace("SECRET", SECRET)).unwrap_err();
            let said = format!("{} {:?} {error:?}", error.full(), error.next_step());
            assert!(said.contains(named), "{text}: {said}");
            assert!(!said.contains(SECRET), "{text}: {said}");
            assert_eq!(error.code(), Code::Usage);
        }
    }

    #[test]
    fn empty_values_ask_for_nothing() {
        let text = r#"{"user_info": {"user_id": "", "team_id": null}, "filters": {}, "source": null,
                       "migration": {"dry_run": null}}"#;
        let config = parse(text).unwrap();
        assert!(config.source.is_none() && !config.dry_run && config.notices.is_empty());
    }
}
