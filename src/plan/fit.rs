//! Which kinds of the archive fit which types of a target.

use super::ColumnPlan;
use crate::catalog::{CatalogColumn, CatalogTable, ColumnType};
use chronicle_archive::{Column, Kind, Stream, TimeText};

/// Whether any value of a kind can go into a type; each value is checked on its own later.
pub(super) fn possible(kind: Kind, ty: &ColumnType) -> bool {
    match ty {
        ColumnType::Sqlite(_) | ColumnType::Text(_) | ColumnType::Cast(_) => true,
        ColumnType::Uuid => matches!(kind, Kind::Uuid | Kind::Text | Kind::Bytes),
        ColumnType::Int(_) | ColumnType::Float(_) | ColumnType::Bool => {
            matches!(kind, Kind::Bool | Kind::Int | Kind::Real | Kind::Numeric | Kind::Text)
        }
        ColumnType::Timestamptz => {
            matches!(
                kind,
                Kind::Time | Kind::Text | Kind::Date | Kind::Int | Kind::Real | Kind::Other
            )
        }
        ColumnType::Json | ColumnType::Jsonb => {
            matches!(kind, Kind::Json | Kind::Jsonb | Kind::Text | Kind::Other)
        }
        ColumnType::Bytea => matches!(kind, Kind::Bytes | Kind::Text | Kind::Uuid),
    }
}

/// The problem of a column whose kind never fits.
pub(super) fn impossible(
    stream: &Stream,
    column: &Column,
    table: &CatalogTable,
    target: &CatalogColumn,
) -> String {
    format!(
        "{}: \"{}\" is {} in the archive and {} in {}",
        stream.name,
        column.name,
        column.kind.word(),
        target.ty.name(),
        table.name
    )
}

/// Whether an export reads a column back in the kind that its values came in.
pub(super) fn reads_back(column: &ColumnPlan) -> bool {
    match column.ty {
        ColumnType::Cast(_) => matches!(column.kind, Kind::Numeric | Kind::Date | Kind::Other),
        _ => !converts(column.kind, &column.ty),
    }
}

/// Whether values of a kind become values of another one in a type.
pub(super) fn converts(kind: Kind, ty: &ColumnType) -> bool {
    !matches!(
        (kind, ty),
        (Kind::Uuid, ColumnType::Uuid)
            | (Kind::Time, ColumnType::Timestamptz)
            | (Kind::Int, ColumnType::Int(_))
            | (Kind::Real, ColumnType::Float(_))
            | (Kind::Bool, ColumnType::Bool)
            | (Kind::Bytes, ColumnType::Bytea)
            | (Kind::Json, ColumnType::Json)
            | (Kind::Jsonb, ColumnType::Jsonb)
            | (Kind::Text, ColumnType::Text(_))
            | (_, ColumnType::Cast(_))
            | (
                Kind::Text
                    | Kind::Json
                    | Kind::Jsonb
                    | Kind::Int
                    | Kind::Real
                    | Kind::Bytes
                    | Kind::Numeric
                    | Kind::Other
                    | Kind::Date,
                ColumnType::Sqlite(_)
            )
    )
}

/// Some databases compare names without regard to case, so all are compared so.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// A column of the archive that holds plain text.
pub(super) fn text_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        physical: name.to_owned(),
        kind: Kind::Text,
        nullable: true,
        time_text: TimeText::None,
    }
}
