//! Values that no row has: what a row gets for a moment while its unique value moves to another row.

use crate::catalog::ColumnType;
use crate::postgres::quoted;

/// SQL for a value of a type that no row of some tables has in a column; `number` is SQL for a number that each row gets which
/// gives its value up. `None` if no such value of the type is known.
pub(super) fn free_value(
    ty: &ColumnType,
    column: &str,
    tables: &[&str],
    number: &str,
) -> Option<String> {
    let random = format!("md5(random()::text || ({number})::text)");
    Some(match ty {
        ColumnType::Text(None) => random,
        ColumnType::Text(Some(most)) => format!("left({random}, {most})"),
        ColumnType::Uuid => format!("{random}::uuid"),
        ColumnType::Bytea => format!("decode({random}, 'hex')"),
        ColumnType::Int(_) => {
            let least =
                |table: &&str| format!("(SELECT min(x.{0}) FROM {table} x)", quoted(column));
            let least: Vec<String> = tables.iter().map(least).collect();
            format!("least(0, {}) - {number}", least.join(", "))
        }
        _ => return None,
    })
}

/// A type of which such values are known, by the words of the server's `format_type`.
pub(super) fn type_of(words: &str) -> Option<ColumnType> {
    Some(match words {
        "text" | "character varying" => ColumnType::Text(None),
        "uuid" => ColumnType::Uuid,
        "bytea" => ColumnType::Bytea,
        "smallint" => ColumnType::Int(2),
        "integer" => ColumnType::Int(4),
        "bigint" => ColumnType::Int(8),
        _ => {
            let most = words.strip_prefix("character varying(")?.strip_suffix(')')?;
            ColumnType::Text(Some(most.parse().ok()?))
        }
    })
}
