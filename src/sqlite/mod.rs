//! The SQLite room: the only place that names rusqlite.
//!
//! [`snapshot`] opens a file so that its writers are never held up, [`catalog`] looks at its
//! tables, [`source`] reads them, each by a `query`, and [`load`] writes them.

pub mod backup;
pub mod catalog;
mod column_uses;
mod history;
pub mod load;
mod narrow;
mod new_file;
mod noting;
pub mod probe;
mod query;
pub mod rollback;
pub mod snapshot;
pub mod source;
mod undo;
mod writable;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, ErrorCode, ffi};

use crate::error::{Code, Error};
use chronicle_archive::{TimeText, Value, show};

/// An error of SQLite in our words, with `code` for what is not more specific.
pub(crate) fn failed(code: Code, what: impl Into<String>, cause: rusqlite::Error) -> Error {
    let what = what.into();
    match cause.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => crate::cancel::cancelled(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(code, format!("{what}: another process keeps the database locked"))
                .hint("wait until it has ended, or stop Chronicle's server, and try again")
        }
        Some(ErrorCode::DiskFull) => {
            let full = std::io::Error::new(std::io::ErrorKind::StorageFull, "the disk is full");
            let said = what.contains("nothing was changed");
            let unchanged = if said { "" } else { "; nothing was changed" };
            Error::new(code, format!("{what}: the disk is full{unchanged}"))
                .hint("free space, or point TMPDIR at a larger disk, and try again")
                .because(full)
        }
        Some(ErrorCode::NotADatabase) => Error::new(code, format!("{what}: not a SQLite database"))
            .hint("if it is encrypted, decrypt it first; if it is an archive, import it"),
        Some(ErrorCode::DatabaseCorrupt) => {
            Error::new(code, format!("{what}: the database file is damaged")).because(cause).hint(
                "look at it with `sqlite3 FILE 'PRAGMA integrity_check'` and recover it with \
                 `sqlite3 FILE .recover`",
            )
        }
        Some(ErrorCode::ReadOnly) => {
            Error::new(code, format!("{what}: the file or its directory cannot be written"))
        }
        _ => Error::new(code, what).because(cause),
    }
}

/// The extended result code of an error, or 0.
pub(crate) fn extended_code(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |e: &ffi::Error| e.extended_code)
}

/// SQLite's page cache in KiB for a connection that writes: enough that the indexes of some hundred thousand rows stay in
/// it.
pub(crate) const CACHE_KIB: i64 = 40 << 10;

/// The extended result codes of a unique value that another row has.
pub(crate) const UNIQUE: [i32; 3] = [
    ffi::SQLITE_CONSTRAINT_UNIQUE,
    ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    ffi::SQLITE_CONSTRAINT_ROWID,
];

/// A name as SQL writes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The SQL function that [`key_text`] calls.
const KEY_TEXT: &str = "chronicle_dump_key_text";
/// The SQL function that [`fingerprint_of`] calls.
const FINGERPRINT: &str = "chronicle_dump_fingerprint";
/// The SQL function that [`changed_of`] calls.
const CHANGED: &str = "chronicle_dump_changed";
/// The SQL function that [`shown_key`] calls.
const SHOWN_KEY: &str = "chronicle_dump_shown_key";

/// Gives a connection the SQL functions that name a row by its key, in the very words that the rest of
/// the program uses.
pub(crate) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(KEY_TEXT, -1, flags, |key| {
        let parts: Vec<Value<'_>> = (0..key.len()).map(|n| from_sqlite(key.get_raw(n))).collect();
        // a row without a key is not the one whose key is the text "NULL"
        Ok((!parts.contains(&Value::Null)).then(|| crate::identity::key_text(parts)))
    })?;
    connection.create_scalar_function(FINGERPRINT, -1, flags, |values| {
        let values = (0..values.len()).map(|n| from_sqlite(values.get_raw(n)));
        Ok(crate::undo::fingerprint(values))
    })?;
    connection.create_scalar_function(CHANGED, -1, flags, |values| {
        let half = values.len() / 2;
        let value = |n| from_sqlite(values.get_raw(n));
        let same = |n: usize| crate::sidecar::is_same(value(n), value(half + n));
        Ok((0..half).map(|n| if same(n) { '0' } else { '1' }).collect::<String>())
    })?;
    connection.create_scalar_function(SHOWN_KEY, -1, flags, |key| {
        let parts: Vec<String> =
            (0..key.len()).map(|n| show(from_sqlite(key.get_raw(n)))).collect();
        Ok(parts.join(", "))
    })
}

/// SQL for the fingerprint of some values, as receipts have it.
pub(crate) fn fingerprint_of(values: &[String]) -> String {
    let mut links = values.chunks(crate::undo::CHAIN);
    let first = links.next().map_or_else(String::new, |values| values.join(", "));
    links.fold(format!("{FINGERPRINT}({first})"), |link, values| {
        format!("{FINGERPRINT}({link}, {})", values.join(", "))
    })
}

/// SQL for a text that says of each value whether it was another one then, to the byte: `1`, or else `0`.
pub(crate) fn changed_of(now: &[String], then: &[String]) -> String {
    let pairs = now.chunks(crate::undo::CHAIN / 2).zip(then.chunks(crate::undo::CHAIN / 2));
    let part = |(now, then): (&[String], &[String])| {
        format!("{CHANGED}({}, {})", now.join(", "), then.join(", "))
    };
    pairs.map(part).collect::<Vec<_>>().join(" || ")
}

/// SQL for the text that names a row by its key, which is given as SQL, column by column; NULL if any
/// of them is.
pub(crate) fn key_text(key: &[String]) -> String {
    format!("{KEY_TEXT}({})", key.join(", "))
}

/// SQL for a row's key as messages show it; the key is given as SQL, column by column.
pub(crate) fn shown_key(key: &[String]) -> String {
    format!("{SHOWN_KEY}({})", key.join(", "))
}

/// SQL for a row as one text, by which it is seen whether the row was edited; `of` is written before
/// every column. A column without a value is left out: one that is added later changes nothing.
pub(crate) fn row_text<'a>(of: &str, columns: impl Iterator<Item = &'a String>) -> String {
    let parts = columns.map(|name| {
        let (column, name) = (format!("{of}{}", quoted(name)), literal(name));
        format!(
            "CASE WHEN {column} IS NULL THEN '' ELSE {name} || ' ' || typeof({column}) || ' ' || hex({column}) || ';' END"
        )
    });
    parts.collect::<Vec<_>>().join(" || ")
}

/// The word for how the texts of a column hold times, as our table of columns has it.
pub(crate) fn time_text(time_text: TimeText) -> &'static str {
    match time_text {
        TimeText::None => "none",
        TimeText::Local => "local",
        TimeText::Utc => "utc",
    }
}

/// What such a word says.
pub(crate) fn read_time_text(word: &str) -> Option<TimeText> {
    [TimeText::None, TimeText::Local, TimeText::Utc].into_iter().find(|t| time_text(*t) == word)
}

/// A value of SQLite as one of ours.
pub(crate) fn from_sqlite(value: rusqlite::types::ValueRef<'_>) -> Value<'_> {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(v) => Value::Int(v),
        ValueRef::Real(v) => Value::Real(v),
        ValueRef::Text(bytes) => Value::Text(bytes),
        ValueRef::Blob(bytes) => Value::Blob(bytes),
    }
}

/// One of our values as one of SQLite. Text goes in byte for byte, also when it is not UTF-8.
pub(crate) fn to_sqlite(value: Value<'_>) -> rusqlite::types::ToSqlOutput<'_> {
    use rusqlite::types::{ToSqlOutput, ValueRef};
    ToSqlOutput::Borrowed(match value {
        Value::Int(v) => ValueRef::Integer(v),
        Value::Real(v) => ValueRef::Real(v),
        Value::Text(bytes) => ValueRef::Text(bytes),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
        // the plan has turned these into one of the above
        Value::Null | Value::Bool(_) | Value::Time(_) | Value::Uuid(_) => ValueRef::Null,
    })
}
