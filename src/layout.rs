//! Layouts: how each kind of Chronicle database spells its tables and columns. They are data,
//! compiled in from `schemas/layouts/`; a database is recognised by its columns alone.

use serde::Deserialize;

use crate::error::{Code, Error, Result};
use crate::record::{Column, Kind, Stream, show_text};

/// Which kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database, for example Supabase's.
    Postgres,
}

impl Backend {
    /// The word that archives use.
    pub fn word(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
        }
    }
}

/// What the rows of a stream are, whatever the stream is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sessions of Claude Code.
    Sessions,
    /// Events of a session.
    Events,
    /// Anything else that Chronicle keeps beside them; it meets only a stream of its own name.
    Side,
}

/// What the texts of an instant column without a zone mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zoneless {
    /// The wall time of the machine that wrote them.
    Local,
    /// UTC.
    Utc,
}

/// One layout.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Its short name, as `--create` and archives use it.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The kind of database it is for.
    pub backend: Backend,
    /// The file of `schemas/ddl/` that creates it, if we create it.
    pub ddl: Option<String>,
    /// Its streams, parents first.
    #[serde(rename = "stream")]
    pub streams: Vec<LayoutStream>,
}

/// One table of a layout.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutStream {
    /// The logical name.
    pub name: String,
    /// What its rows are.
    pub role: Role,
    /// The table.
    pub table: String,
    /// The physical columns that it is recognised by.
    pub requires: Vec<String>,
    /// The physical columns that it never has.
    #[serde(default)]
    pub forbids: Vec<String>,
    /// The logical columns of its key.
    pub key: Vec<String>,
    /// The logical columns that an export is sorted by; the last is unique.
    pub order: Vec<String>,
    /// The logical columns that name rows of other streams.
    #[serde(default)]
    pub references: std::collections::BTreeMap<String, String>,
    /// The logical column that keeps the id which a row had in the database it came from.
    pub origin: Option<String>,
    /// The logical JSON column that can carry what this table has no column for.
    pub fold: Option<String>,
    /// What is to be said of single columns. All others travel as they are.
    #[serde(default)]
    pub columns: Vec<LayoutColumn>,
}

/// What a layout says of a column.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutColumn {
    /// The logical name.
    pub name: String,
    /// The physical name, if it is another one.
    pub physical: Option<String>,
    /// What it holds, where the declared type does not say it.
    #[serde(default, deserialize_with = "read_kind")]
    pub kind: Option<Kind>,
    /// That it holds instants as text, and what they mean without a zone.
    pub instant: Option<Zoneless>,
    /// That it can be made anew from the rest, so that a target may lack it.
    #[serde(default)]
    pub derived: bool,
    /// The logical column whose text stands here when an archive lacks this one and the table
    /// requires it.
    pub made_from: Option<String>,
    /// The text that stands here when there is nothing else and the table requires a value.
    pub otherwise: Option<String>,
}

fn read_kind<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Kind>, D::Error> {
    let word = String::deserialize(deserializer)?;
    Kind::from_word(&word)
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("unknown kind \"{word}\"")))
}

impl LayoutColumn {
    fn physical(&self) -> &str {
        self.physical.as_deref().unwrap_or(&self.name)
    }
}

impl LayoutStream {
    /// What is said of a physical column.
    pub fn column(&self, physical: &str) -> Option<&LayoutColumn> {
        self.columns.iter().find(|c| c.physical().eq_ignore_ascii_case(physical))
    }

    /// The logical name of a physical column: its own, unless the layout says another. A column
    /// whose own name means another one here (`data` beside a payload that is called `metadata`)
    /// is numbered, so that both travel.
    pub fn logical(&self, physical: &str) -> String {
        match self.column(physical) {
            Some(said) => said.name.clone(),
            None if self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(physical)) => {
                format!("{physical}_2")
            }
            // SQLite's names have no case: the names that this layout speaks of keep ours
            None => (self.key.iter().chain(&self.order).chain(self.references.keys()))
                .find(|name| name.eq_ignore_ascii_case(physical))
                .map_or_else(|| physical.to_owned(), Clone::clone),
        }
    }

    /// Whether a logical column can be made anew from the rest.
    pub fn is_derived(&self, logical: &str) -> bool {
        self.columns.iter().any(|c| c.name == logical && c.derived)
    }

    /// The archive's column for a physical one of declared `kind`.
    pub fn archive_column(&self, physical: &str, kind: Kind) -> Column {
        let said = self.column(physical);
        let instant = said.and_then(|c| c.instant);
        Column {
            name: self.logical(physical),
            physical: physical.to_owned(),
            kind: said.and_then(|c| c.kind).unwrap_or(kind),
            nullable: true,
            instant: instant.is_some(),
            utc: instant == Some(Zoneless::Utc),
        }
    }

    /// The archive's stream for these columns.
    ///
    /// # Errors
    /// If a column of the key or the order is missing, or two columns would share a name.
    pub fn archive_stream(&self, columns: Vec<Column>, sorted: bool) -> Result<Stream> {
        let find = |names: &[String]| -> Result<Vec<usize>> {
            names.iter().map(|name| self.find(&columns, name)).collect()
        };
        let key = find(&self.key)?;
        let order = if sorted { find(&self.order)? } else { Vec::new() };
        for (n, column) in columns.iter().enumerate() {
            if columns[..n].iter().any(|other| other.name == column.name) {
                return Err(Error::new(
                    Code::Layout,
                    format!("{}: two columns would both travel as \"{}\"", self.table, column.name),
                ));
            }
        }
        Ok(Stream { name: self.name.clone(), table: self.table.clone(), columns, key, order })
    }

    fn find(&self, columns: &[Column], name: &str) -> Result<usize> {
        columns.iter().position(|c| c.name == name).ok_or_else(|| {
            Error::new(Code::Layout, format!("{}: it has no column \"{name}\"", self.table))
        })
    }

    fn fits(&self, tables: &[Table]) -> bool {
        let Some(table) = tables.iter().find(|t| t.name.eq_ignore_ascii_case(&self.table)) else {
            return false;
        };
        self.requires.iter().all(|c| table.has(c)) && !self.forbids.iter().any(|c| table.has(c))
    }
}

impl Layout {
    fn fits(&self, tables: &[Table]) -> bool {
        self.streams.iter().all(|stream| stream.fits(tables))
    }

    /// The SQL that creates the tables of this layout, if we create it.
    pub fn ddl(&self) -> Option<&'static str> {
        let file = self.ddl.as_deref()?;
        DDL.iter().find(|(name, _)| *name == file).map(|(_, sql)| *sql)
    }
}

/// A table as it was found.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its physical columns.
    pub columns: Vec<String>,
}

impl Table {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c.eq_ignore_ascii_case(column))
    }
}

const LAYOUTS: [(&str, &str); 6] = [
    ("sqlite-hooks.toml", include_str!("../schemas/layouts/sqlite-hooks.toml")),
    ("sqlite-server.toml", include_str!("../schemas/layouts/sqlite-server.toml")),
    ("sqlite-both.toml", include_str!("../schemas/layouts/sqlite-both.toml")),
    ("sqlite-seed.toml", include_str!("../schemas/layouts/sqlite-seed.toml")),
    ("postgres-upstream.toml", include_str!("../schemas/layouts/postgres-upstream.toml")),
    ("postgres-seed.toml", include_str!("../schemas/layouts/postgres-seed.toml")),
];

const DDL: [(&str, &str); 2] = [
    ("sqlite-hooks.sql", include_str!("../schemas/ddl/sqlite-hooks.sql")),
    ("postgres-upstream.sql", include_str!("../schemas/ddl/postgres-upstream.sql")),
];

/// Every layout that is known for a kind of database.
///
/// # Errors
/// If a compiled-in file is not a layout, which a test forbids.
pub fn all(backend: Backend) -> Result<Vec<Layout>> {
    let mut layouts = Vec::new();
    for (file, text) in LAYOUTS {
        let layout: Layout = toml::from_str(text).map_err(|e| {
            Error::new(Code::Internal, format!("schemas/layouts/{file}")).because(e)
        })?;
        if layout.backend == backend {
            layouts.push(layout);
        }
    }
    Ok(layouts)
}

/// The layout whose tables and columns are all there; of several the one that asks for most.
///
/// # Errors
/// If none fits: the message shows what was found.
pub fn recognise(backend: Backend, tables: &[Table]) -> Result<Layout> {
    let asks = |layout: &Layout| layout.streams.iter().map(|s| s.requires.len()).sum::<usize>();
    let fitting = all(backend)?.into_iter().filter(|layout| layout.fits(tables));
    fitting.max_by_key(asks).ok_or_else(|| unknown(backend, tables))
}

/// How many tables a message shows.
const TABLES_SHOWN: usize = 6;

/// The first tables by their names: they tell people which database this is.
fn names(tables: &[Table]) -> String {
    let mut names: Vec<String> =
        tables.iter().take(TABLES_SHOWN).map(|t| show_text(&t.name)).collect();
    if tables.len() > names.len() {
        names.push("…".into());
    }
    names.join(", ")
}

fn unknown(backend: Backend, tables: &[Table]) -> Error {
    let related = |t: &&Table| t.name.contains("session") || t.name.contains("event");
    let shown: Vec<String> = (tables.iter().filter(related).take(TABLES_SHOWN))
        .map(|t| show_text(&format!("{} ({})", t.name, t.columns.join(", "))))
        .collect();
    let found = match (tables.len(), shown.is_empty()) {
        (0, _) => "it has no tables".to_owned(),
        (n, true) => format!("none of its {n} tables holds sessions or events: {}", names(tables)),
        (_, false) => format!("found {}", shown.join("; ")),
    };
    let known: Vec<String> = all(backend)
        .unwrap_or_default()
        .iter()
        .map(|l| {
            let tables: Vec<_> = l.streams.iter().map(|s| s.table.as_str()).collect();
            format!("{} ({})", l.title, tables.join(", "))
        })
        .collect();
    Error::new(Code::Layout, format!("this is no Chronicle database: {found}"))
        .hint(format!("layouts that are known: {}", known.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str]) -> Table {
        Table { name: name.into(), columns: columns.iter().map(|c| (*c).into()).collect() }
    }

    #[test]
    fn every_compiled_in_layout_parses_and_its_ddl_exists() {
        let mut count = 0;
        for backend in [Backend::Sqlite, Backend::Postgres] {
            for layout in all(backend).unwrap() {
                count += 1;
                assert_eq!(layout.ddl.is_some(), layout.ddl().is_some(), "{}", layout.name);
                assert!(layout.streams.iter().all(|s| crate::archive::is_stream_name(&s.name)));
            }
        }
        assert_eq!(count, LAYOUTS.len());
    }

    #[test]
    fn a_file_with_both_layouts_is_recognised_as_both() {
        let hooks = [
            table("sessions", &["id", "claude_session_id", "start_time"]),
            table("events", &["id", "session_id", "event_type", "timestamp", "data"]),
        ];
        let server = [
            table(
                "chronicle_sessions",
                &["id", "claude_session_id", "start_time", "metadata", "event_count"],
            ),
            table("chronicle_events", &["id", "session_id", "event_type", "timestamp", "metadata"]),
        ];
        let name = |tables: &[Table]| recognise(Backend::Sqlite, tables).unwrap().name;
        assert_eq!(name(&hooks), "hooks");
        assert_eq!(name(&server), "server");
        assert_eq!(name(&[hooks, server].concat()), "hooks+server");
    }

    #[test]
    fn an_unknown_pair_of_tables_is_shown() {
        let error = recognise(Backend::Sqlite, &[table("my_events", &["a", "b"])]).unwrap_err();
        assert!(error.full().contains("my_events (a, b)"), "{}", error.full());
        assert_eq!(error.code(), Code::Layout);
    }
}
