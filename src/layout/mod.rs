//! Layouts: how each kind of Chronicle database spells its tables and columns. They are data, one
//! file each: `known` holds those of `schemas/layouts/` and reads those of a user, `recognise`
//! finds the one that the columns of a database fit.

mod known;
mod recognise;

use std::borrow::Cow;

use serde::Deserialize;

use crate::catalog::{Backend, CatalogColumn, ColumnType, Role};
use crate::error::{Code, Error, Result};
use chronicle_archive::{Column, Kind, Stream, TimeText};

pub use known::{Choice, all, choices, created, known_stream, known_streams, named, pick};
pub use recognise::{Table, fit};

/// The role of sessions of Claude Code.
pub const SESSIONS: &str = "sessions";
/// The role of events of a session.
pub const EVENTS: &str = "events";

/// The column that keeps the id which a row had in a database of a kind, as Chronicle's migration
/// tutorial names it; `backend` is the word that archives have for the kind.
pub fn origin_column(backend: &str) -> String {
    let word = if backend == Backend::Postgres.word() { "supabase" } else { backend };
    format!("original_{word}_id")
}

/// The columns of Chronicle's migration tutorial that keep ids which rows had before.
pub const ORIGINS: [&str; 2] = ["original_sqlite_id", "original_supabase_id"];

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
    /// Who wrote databases of this layout, and when.
    #[serde(default)]
    pub written_by: String,
    /// The file that creates it: in `schemas/ddl/`, or next to the layout file of a user.
    pub ddl: Option<String>,
    /// Other databases with these columns, which differ in checks, triggers or optional columns.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Its streams, parents first.
    #[serde(rename = "stream")]
    pub streams: Vec<LayoutStream>,
    /// The text of the file that creates it.
    #[serde(skip)]
    sql: Option<Cow<'static, str>>,
}

/// Another way in which Chronicle created the tables of a layout.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its short name, as `--create` uses it.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The file that creates it.
    pub ddl: String,
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
    /// Whether a database may lack this table.
    #[serde(default)]
    pub optional: bool,
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
    /// The logical column for the id of the batch that has brought a row.
    pub batch: Option<String>,
    /// The logical column that says when a row was changed last.
    pub changed: Option<String>,
    /// The logical column that says when a row was stored.
    pub stored: Option<String>,
    /// The logical JSON column that can carry what this table has no column for.
    pub fold: Option<String>,
    /// Descriptions of single columns. All others are copied unchanged.
    #[serde(default)]
    pub columns: Vec<LayoutColumn>,
}

/// A layout's description of a column.
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
    /// That it can be recomputed, so that a target may lack it.
    #[serde(default)]
    pub derived: bool,
    /// The logical column whose text is used when an archive lacks this one and the table
    /// requires it.
    pub default_from: Option<String>,
    /// The text that is used when there is nothing else and the table requires a value.
    pub default: Option<String>,
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
    /// The description of a physical column.
    pub fn column(&self, physical: &str) -> Option<&LayoutColumn> {
        self.columns.iter().find(|c| c.physical().eq_ignore_ascii_case(physical))
    }

    /// The logical name of a physical column: its own, unless the layout says another. A column
    /// whose own name means another one here (`data` in a table whose payload is called `metadata`)
    /// is numbered, so that both travel.
    pub fn logical(&self, physical: &str) -> String {
        match self.column(physical) {
            Some(described) => described.name.clone(),
            None if self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(physical)) => {
                format!("{physical}_2")
            }
            // SQLite's names have no case: the names that this layout speaks of keep ours
            None => (self.key.iter().chain(&self.order).chain(self.references.keys()))
                .find(|name| name.eq_ignore_ascii_case(physical))
                .map_or_else(|| physical.to_owned(), Clone::clone),
        }
    }

    /// A physical column as a catalog describes it, in this layout's words.
    pub fn catalog_column(
        &self,
        physical: &str,
        ty: ColumnType,
        not_null: bool,
        has_default: bool,
    ) -> CatalogColumn {
        let described = self.column(physical);
        let name = self.logical(physical);
        let instant = described.and_then(|c| c.instant);
        CatalogColumn {
            json: described.is_some_and(|c| matches!(c.kind, Some(Kind::Json | Kind::Jsonb))),
            time_text: TimeText::new(instant.is_some(), instant == Some(Zoneless::Utc)),
            derived: described.is_some_and(|c| c.derived),
            vocabulary: self.role.0 == EVENTS && name == "event_type",
            name,
            physical: physical.to_owned(),
            ty,
            not_null,
            strict: false,
            has_default,
            check: None,
            default_from: described.and_then(|c| c.default_from.clone()),
            default: described.and_then(|c| c.default.clone()),
        }
    }

    /// The logical column that says when a row began, if its role has one.
    pub fn time(&self) -> Option<&'static str> {
        match self.role.0.as_str() {
            SESSIONS => Some("start_time"),
            EVENTS => Some("timestamp"),
            _ => None,
        }
    }

    /// The logical column that says when a row was changed last, where the table has it.
    pub fn changed(&self) -> &str {
        self.changed.as_deref().unwrap_or("updated_at")
    }

    /// The logical column that says when a row was stored, where the table has it.
    pub fn stored(&self) -> &str {
        self.stored.as_deref().unwrap_or("created_at")
    }

    /// Whether a row can be created for rows that refer to one that does not exist: a session can, any
    /// other row would be empty.
    pub fn is_adoptable(&self) -> bool {
        self.role.0 == SESSIONS
    }

    /// Whether a logical column can be recomputed.
    pub fn is_derived(&self, logical: &str) -> bool {
        self.columns.iter().any(|c| c.name == logical && c.derived)
    }

    /// The archive's column for a physical one of declared `kind`.
    pub fn archive_column(&self, physical: &str, kind: Kind) -> Column {
        let described = self.column(physical);
        let instant = described.and_then(|c| c.instant);
        Column {
            name: self.logical(physical),
            physical: physical.to_owned(),
            kind: described.and_then(|c| c.kind).unwrap_or(kind),
            nullable: true,
            time_text: TimeText::new(instant.is_some(), instant == Some(Zoneless::Utc)),
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
}

impl Layout {
    /// The SQL that creates its tables, if it is known.
    pub fn ddl(&self) -> Option<&str> {
        self.sql.as_deref()
    }

    /// The SQL that creates its tables.
    ///
    /// # Errors
    /// If its file names none.
    pub fn required_ddl(&self) -> Result<&str> {
        self.ddl().ok_or_else(|| {
            let what =
                format!("--create cannot create the layout {}: its file has no ddl", self.name);
            Error::new(Code::Usage, what)
                .hint("name the file with its CREATE statements: ddl = \"FILE.sql\"")
        })
    }

    /// The tables that hold its data, optional ones included.
    pub fn tables(&self) -> Vec<&str> {
        self.streams.iter().map(|s| s.table.as_str()).collect()
    }
}
