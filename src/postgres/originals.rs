//! What the sidecar stores of the rows of a table, and how they are restored with it.

use super::catalog::PgCatalog;
use super::connection::Connection;
use super::own_tables::OwnTables;
use super::{key_text, literal, quoted, row_text};
use crate::error::{Code, Error, Result};
use crate::layout::LayoutStream;
use crate::notice::{Notice, NoticeKind};
use crate::sidecar::{DEFAULT, OriginalColumn, Recipe, Restorer, WHOLE_ROW, default_columns};
use chronicle_archive::{Stream, show_text};

/// How the rows of a table are restored, if anything is stored of them; with SQL that is true for those that came from
/// elsewhere, if not all did.
pub(super) async fn restorable(
    connection: &Connection,
    catalog: &PgCatalog,
    own: &OwnTables,
    described: &LayoutStream,
    stream: &Stream,
) -> Result<Option<(Recipe, Option<String>)>> {
    let ask = async |sql: &str| -> Result<bool> {
        let answer = connection.read(Code::Source, OWN, sql, |row| row.boolean()).await?;
        Ok(answer == [true])
    };
    let (sidecar, belongs) = (&own.sidecar, own.belongs("r", &stream.table));
    let original_columns = original_columns(connection, own, &stream.table).await?;
    let any = format!("SELECT EXISTS (SELECT 1 FROM {sidecar} r WHERE {belongs})");
    if original_columns.is_empty() && !ask(&any).await? {
        return Ok(None);
    }
    // an import may have created rows, which are left out as long as nobody has edited them
    let whole = format!(
        "SELECT EXISTS (SELECT 1 FROM {sidecar} r WHERE {belongs} \
         AND starts_with(r.entry, '{{\"{WHOLE_ROW}\"'))"
    );
    let default = format!("r.entry::json #>> ARRAY['{WHOLE_ROW}', '{DEFAULT}']");
    let only = ask(&whole).await?.then(|| format!("{default} IS DISTINCT FROM {}", row_text("t")));
    let rows = with_entries(catalog, own, stream, only.as_deref());
    let mut fillers = Vec::new();
    let table = catalog.table(described);
    let has_default = |name: &str| {
        table.is_some_and(|t| t.columns.iter().any(|c| c.name == name && c.has_default))
    };
    for column in default_columns(described, stream, &original_columns, has_default) {
        let default = format!("r.entry::json #>> ARRAY[{}, '{DEFAULT}']", literal(&column.name));
        let sql = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM {rows} AND {default} IS DISTINCT FROM t.{}::text) \
                AND EXISTS (SELECT 1 FROM {rows} AND {default} IS NOT NULL)",
            quoted(&column.physical)
        );
        if ask(&sql).await? {
            fillers.push(column.name.clone());
        }
    }
    let (original, restorer) =
        Restorer::new(stream, &original_columns, described.fold.as_deref(), &fillers);
    Ok(Some((Recipe { original, restorer }, only)))
}

/// What we were about to read when it failed.
pub(super) const OWN: &str = "cannot read the sidecar table";

/// Our own tables, if there are any and this role may read them.
pub(super) async fn own_tables(
    connection: &Connection,
    catalog: &PgCatalog,
    notices: &mut Vec<Notice>,
) -> Result<Option<OwnTables>> {
    let found = OwnTables::find(connection, Code::Source, &catalog.schema).await?;
    let Some(found) = found else { return Ok(None) };
    if found.readable {
        return Ok(Some(found));
    }
    let notice = Notice::new(
        NoticeKind::HiddenOriginals,
        "this role may not read the sidecar table; originals stored there are not restored",
    );
    if !notices.contains(&notice) {
        notices.push(notice);
    }
    Ok(None)
}

/// The columns that the rows of a table had where they came from.
pub(super) async fn original_columns(
    connection: &Connection,
    own: &OwnTables,
    table: &str,
) -> Result<Vec<OriginalColumn>> {
    let sql = format!(
        "SELECT table_name, name, place::text, kind, (time_text <> 'none')::text, \
                (time_text = 'utc')::text FROM {} r WHERE {} ORDER BY place",
        own.columns,
        own.belongs("r", table)
    );
    let rows = connection.rows(Code::Source, OWN, &sql).await?;
    let read = |row: &Vec<Option<String>>| {
        OriginalColumn::read(row).ok_or_else(|| {
            let what = format!("{}: a row for {} cannot be read", own.columns, show_text(table));
            Error::new(Code::Source, what)
                .hint("a later version of this program may have written it")
        })
    };
    rows.iter().map(read).collect()
}

/// The rows `t` of a table for which a condition is true, with their entries `r`, as SQL that ends in a
/// condition.
pub(super) fn with_entries(
    catalog: &PgCatalog,
    own: &OwnTables,
    stream: &Stream,
    only: Option<&str>,
) -> String {
    let key: Vec<String> =
        stream.key.iter().map(|k| quoted(&stream.columns[*k].physical)).collect();
    format!(
        "{} t LEFT JOIN {} r ON {} AND r.key = {} WHERE {}",
        catalog.full_name(&stream.table),
        own.sidecar,
        own.belongs("r", &stream.table),
        key_text(&key, "t"),
        only.unwrap_or("true")
    )
}
