//! What was made on a column of a file, such as an index, and would go or break if the column were dropped.
//!
//! SQLite has no list of that. It is asked by a rehearsal: a database in memory gets the file's tables without a row, and
//! the column gets another name there. SQLite writes that name wherever the column is meant.

use rusqlite::Connection;

use super::quoted;

/// A name that nothing has.
const NAME: &str = "chronicle_dump_renamed";

/// What was made on a column, in words.
///
/// # Errors
/// If the file's tables cannot be read.
pub(super) fn uses_of(
    connection: &Connection,
    table: &str,
    column: &str,
) -> rusqlite::Result<Vec<String>> {
    let copy = Connection::open_in_memory()?;
    copy_tables(connection, &copy)?;
    let mut uses = settings(&copy, table, column)?;
    uses.extend(named_in(&copy, table, column)?);
    let drop = format!("ALTER TABLE {} DROP COLUMN {}", quoted(table), quoted(column));
    match copy.execute_batch(&drop) {
        Err(e) if uses.is_empty() => Ok(vec![e.to_string()]),
        _ => Ok(uses),
    }
}

/// Makes what a file has in another database, without rows. What needs a function or a module that is not here is left
/// out, as it cannot be used here either.
fn copy_tables(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    let mut statement = from.prepare(
        "SELECT sql FROM main.sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         ORDER BY type <> 'table', type <> 'view', rowid",
    )?;
    for sql in statement.query_map([], |row| row.get::<_, String>(0))? {
        let _ = to.execute_batch(&sql?);
    }
    Ok(())
}

/// What the table says of the column beyond its name and type.
fn settings(copy: &Connection, table: &str, column: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = copy.prepare(
        "SELECT \"notnull\", dflt_value FROM pragma_table_info(?) WHERE lower(name) = lower(?)",
    )?;
    let read =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, Option<String>>(1)?));
    let mut all = Vec::new();
    for found in statement.query_map([table, column], read)? {
        let (not_null, default) = found?;
        all.extend(not_null.then(|| "NOT NULL".to_owned()));
        all.extend(default.map(|default| format!("DEFAULT {default}")));
    }
    Ok(all)
}

/// What names the column, the place in its table aside where it is declared.
fn named_in(copy: &Connection, table: &str, column: &str) -> rusqlite::Result<Vec<String>> {
    copy.execute_batch("SAVEPOINT renamed")?;
    let (of, from) = (quoted(table), quoted(column));
    // where that fails, dropping the column does, and says why
    let _ = copy.execute_batch(&format!("ALTER TABLE {of} RENAME COLUMN {from} TO {NAME}"));
    let mut all = Vec::new();
    {
        let mut statement =
            copy.prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (kind, name, sql): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let is_declared = kind == "table" && name.eq_ignore_ascii_case(table);
            match (sql.matches(NAME).count(), is_declared) {
                (0, _) | (1, true) => {}
                (_, true) => {
                    all.push(format!("a CHECK, a key or a computed column of the table {name}"));
                }
                (_, false) => all.push(format!("{kind} {name}")),
            }
        }
    }
    copy.execute_batch("ROLLBACK TO renamed; RELEASE renamed")?;
    Ok(all)
}
