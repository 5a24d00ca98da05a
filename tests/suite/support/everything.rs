//! All that a database holds but our own bookkeeping, as lines: an independent dump, which knows no layout.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::cluster::Database;

/// The tables of the history, which no batch changes but its own.
const BOOKKEEPING: [&str; 2] = ["migration_history", "receipts"];

/// Every statement of the schema, every row in the order of its table, with its rowid, and the numbers of AUTOINCREMENT.
#[track_caller]
pub(crate) fn everything_in_file(path: &Path) -> Vec<String> {
    let dump = || -> rusqlite::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags)?;
        let mut lines = Vec::new();
        let ours = BOOKKEEPING.map(|name| format!("chronicle_dump_{name}"));
        let is_ours = |name: &str| ours.iter().any(|own| name == own);
        let mut schema = database.prepare(
            "SELECT type, tbl_name, name, coalesce(sql, '') FROM sqlite_schema ORDER BY rowid",
        )?;
        let schema =
            schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let schema: Vec<(String, String, String, String)> =
            schema.collect::<rusqlite::Result<_>>()?;
        for (kind, table, name, sql) in schema.iter().filter(|(_, table, ..)| !is_ours(table)) {
            lines.push(format!("{kind} {table} {name} {sql}"));
            if kind == "table" && table != "sqlite_sequence" {
                rows(&database, table, &mut lines)?;
            }
        }
        if schema.iter().any(|(_, table, ..)| table == "sqlite_sequence") {
            let mut numbers =
                database.prepare("SELECT name || ' ' || seq FROM sqlite_sequence ORDER BY 1")?;
            let numbers = numbers.query_map([], |row| row.get(0))?;
            lines.extend(numbers.collect::<rusqlite::Result<Vec<String>>>()?);
        }
        Ok(lines)
    };
    dump().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rows(database: &Connection, table: &str, lines: &mut Vec<String>) -> rusqlite::Result<()> {
    let quoted = format!("\"{}\"", table.replace('"', "\"\""));
    let columns = database
        .prepare("SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1")?
        .query_map([table], |row| row.get::<_, String>(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let quotes: Vec<String> =
        columns.iter().map(|c| format!("quote(\"{}\")", c.replace('"', "\"\""))).collect();
    let all = quotes.join(" || ', ' || ");
    let with_rowid = format!("SELECT rowid || ': ' || {all} FROM {quoted} ORDER BY rowid");
    let without = format!("SELECT {all} FROM {quoted}");
    let mut statement = database.prepare(&with_rowid).or_else(|_| database.prepare(&without))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let bytes = row.get_ref(0)?.as_bytes()?;
        // text need not be UTF-8
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        let text = text.unwrap_or_else(|_| bytes.escape_ascii().to_string());
        lines.push(format!("{table} {text}"));
    }
    Ok(())
}

/// The columns of every table of every schema, every row in the texts of its values, sorted, and every sequence.
#[track_caller]
pub(crate) fn everything_on_server(database: &Database) -> Vec<String> {
    let tables = database.rows(
        "SELECT n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
                string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum), \
                string_agg(', ' || quote_ident(a.attname) || '::text', '' ORDER BY a.attnum) \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
          WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
          GROUP BY 1, 2 ORDER BY 1, 2",
    );
    let mut lines = Vec::new();
    let mut all = "SET TimeZone = 'UTC'; SET extra_float_digits = 3;".to_owned();
    for table in &tables {
        let text = |n: usize| table[n].as_deref().unwrap_or_default();
        let (schema, name, full) = (text(0), text(1), text(2));
        let ours = BOOKKEEPING.iter().any(|own| {
            (schema == "chronicle_dump" && name == *own) || name == format!("chronicle_dump_{own}")
        });
        if !ours {
            lines.push(format!("table {full} ({})", text(3)));
            let literal = full.replace('\'', "''");
            all.push_str(&format!("SELECT '{literal}'{} FROM {full};", text(4)));
        }
    }
    for row in database.rows(&all) {
        lines.push(format!("{} {:?}", row[0].as_deref().unwrap_or_default(), &row[1..]));
    }
    lines.sort();
    let sequences = database.psql(
        "SELECT schemaname || '.' || sequencename || ' ' || coalesce(last_value::text, 'unused') \
           FROM pg_sequences ORDER BY 1",
    );
    lines.extend(sequences.lines().map(|line| format!("sequence {line}")));
    lines
}
