//! Database files for tests, and dumps of databases that are equal when the databases are.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::cluster::Database;

/// The tables that hold Chronicle's data, in the order in which a dump shows them.
const TABLES: [&str; 4] = ["sessions", "events", "chronicle_sessions", "chronicle_events"];

/// A folder for one test, named after it and removed with the value.
pub(crate) fn workdir(test_name: &str) -> TempDir {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = test_name.chars().map(clean).take(60).collect();
    tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().expect("a temporary folder")
}

/// The path of a file in `fixtures/databases`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/databases").join(name)
}

/// Makes a SQLite file from fixtures, such as `&["sqlite-hooks.sql", "sample-hooks.sql"]`, in a journal mode
/// (`delete`, `wal`, …), and closes it.
#[track_caller]
pub(crate) fn sqlite_from(fixtures: &[&str], path: &Path, journal_mode: &str) {
    let database =
        Connection::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let set: String = database
        .pragma_update_and_check(None, "journal_mode", journal_mode, |row| row.get(0))
        .unwrap_or_else(|error| panic!("journal mode {journal_mode}: {error}"));
    assert_eq!(set, journal_mode, "the journal mode of {}", path.display());
    // SQLite's own default is off, that of the compiled-in SQLite is on; Chronicle's files hold orphans.
    database.pragma_update(None, "foreign_keys", "off").expect("foreign keys off");
    for name in fixtures {
        let sql =
            fs::read_to_string(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        database.execute_batch(&sql).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Every row of every Chronicle table as one line, sorted: for each column its storage class and its bytes in hex
/// (of a real, the bits). Equal dumps mean equal rows, to the last byte.
#[track_caller]
pub(crate) fn sqlite_dump(path: &Path) -> Vec<String> {
    let failed = |error: rusqlite::Error| -> ! { panic!("dump {}: {error}", path.display()) };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).unwrap_or_else(|error| failed(error));
    let mut lines = Vec::new();
    for table in TABLES {
        let exists = database.table_exists(Some("main"), table).and_then(|exists| {
            if exists { sqlite_rows(&database, table, &mut lines) } else { Ok(()) }
        });
        exists.unwrap_or_else(|error| failed(error));
    }
    lines
}

fn sqlite_rows(
    database: &Connection,
    table: &str,
    lines: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let mut statement = database.prepare(&format!("SELECT * FROM main.{table}"))?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let start = lines.len();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut line = table.to_owned();
        for (at, column) in columns.iter().enumerate() {
            line.push(' ');
            line.push_str(column);
            match row.get_ref(at)? {
                ValueRef::Null => line.push_str("=null"),
                ValueRef::Integer(value) => {
                    write!(line, "=integer:{value}").expect("write to a string")
                }
                ValueRef::Real(value) => {
                    write!(line, "=real:{:016x}", value.to_bits()).expect("write to a string")
                }
                ValueRef::Text(bytes) => push_hex(&mut line, "=text:", bytes),
                ValueRef::Blob(bytes) => push_hex(&mut line, "=blob:", bytes),
            }
        }
        lines.push(line);
    }
    lines[start..].sort_unstable();
    Ok(())
}

fn push_hex(line: &mut String, class: &str, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.push_str(class);
    line.extend(
        bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(DIGITS[usize::from(digit)])),
    );
}

/// Every row of every Chronicle table in the schema `public` as one line, sorted by id: each column as PostgreSQL
/// writes it, in UTC and with all digits.
#[track_caller]
pub(crate) fn postgres_dump(database: &Database) -> Vec<String> {
    const SETTINGS: &str =
        "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET extra_float_digits = 3;";
    let mut lines = Vec::new();
    for table in TABLES {
        let columns: Vec<String> = database
            .rows(&format!(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('public.{table}') \
                 AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
            ))
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        if columns.is_empty() {
            continue;
        }
        let texts: Vec<String> =
            columns.iter().map(|column| format!("\"{column}\"::text")).collect();
        let query = format!(
            "{SETTINGS} SELECT {} FROM public.{table} ORDER BY id::text COLLATE \"C\"",
            texts.join(", ")
        );
        for row in database.rows(&query) {
            let mut line = table.to_owned();
            for (column, value) in columns.iter().zip(row) {
                match value {
                    Some(text) => write!(line, " {column}={text:?}"),
                    None => write!(line, " {column}=null"),
                }
                .expect("write to a string");
            }
            lines.push(line);
        }
    }
    lines
}

/// As `assert_eq!` on two dumps, but shows only the first differences, cut to what a person can read.
#[track_caller]
pub(crate) fn assert_same_rows(left: &[String], right: &[String]) {
    if left == right {
        return;
    }
    let cut = |line: Option<&String>, from: usize| match line {
        Some(line) => {
            String::from_utf8_lossy(&line.as_bytes()[from..line.len().min(from + 300)]).into_owned()
        }
        None => "(no row)".to_owned(),
    };
    let mut message =
        format!("the rows differ: {} on the left, {} on the right", left.len(), right.len());
    let differing = (0..left.len().max(right.len())).filter(|&at| left.get(at) != right.get(at));
    for at in differing.take(3) {
        let (left, right) = (left.get(at), right.get(at));
        let common = match (left, right) {
            (Some(left), Some(right)) => {
                left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count()
            }
            _ => 0,
        };
        let from = common.saturating_sub(120);
        let (left, right) = (cut(left, from), cut(right, from));
        write!(message, "\nrow {at}, from byte {from}:\n  left:  {left}\n  right: {right}")
            .expect("write to a string");
    }
    panic!("{message}");
}
