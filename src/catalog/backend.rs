//! The kinds of database.

use serde::Deserialize;

use super::{Affinity, ColumnType};
use chronicle_archive::Kind;

/// Which kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database.
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

    /// A type that holds every value of a kind without change.
    pub fn type_for(self, kind: Kind) -> ColumnType {
        match (self, kind) {
            (Backend::Sqlite, Kind::Int | Kind::Bool) => ColumnType::Sqlite(Affinity::Integer),
            (Backend::Sqlite, Kind::Real) => ColumnType::Sqlite(Affinity::Real),
            (Backend::Sqlite, Kind::Bytes) => ColumnType::Sqlite(Affinity::Blob),
            (Backend::Sqlite, _) => ColumnType::Sqlite(Affinity::Text),
            (Backend::Postgres, Kind::Int) => ColumnType::Int(8),
            (Backend::Postgres, Kind::Real) => ColumnType::Float(8),
            (Backend::Postgres, Kind::Bool) => ColumnType::Bool,
            (Backend::Postgres, Kind::Time) => ColumnType::Timestamptz,
            (Backend::Postgres, Kind::Uuid) => ColumnType::Uuid,
            (Backend::Postgres, Kind::Bytes) => ColumnType::Bytea,
            // json keeps the text, jsonb does not
            (Backend::Postgres, Kind::Json) => ColumnType::Json,
            (Backend::Postgres, Kind::Jsonb) => ColumnType::Jsonb,
            (Backend::Postgres, Kind::Numeric | Kind::Date | Kind::Text | Kind::Other) => {
                ColumnType::Text(None)
            }
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "Postgres",
        }
    }
}
