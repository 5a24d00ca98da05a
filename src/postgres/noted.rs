//! What a batch has touched in Postgres: tables as receipts describe them, and the SQL that notes rows before they are
//! changed and after they are inserted.

use super::connection::Connection;
use super::{literal, quoted};
use crate::error::{Code, Result};
use crate::undo::{
    Noted, Sequence, ShapeColumn, ShapeReference, ShapeTable, before_name, inserted_name,
};

/// A table of the shape as SQL writes it.
pub(super) fn full(table: &ShapeTable) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&table.name)),
        None => quoted(&table.name),
    }
}

/// A table as it is now; `None` if there is none with columns that hold data.
pub(super) async fn shape_table(
    connection: &Connection,
    schema: &str,
    name: &str,
    own: bool,
) -> Result<Option<ShapeTable>> {
    let Some(columns) = columns(connection, schema, name).await? else { return Ok(None) };
    let columns: Vec<ShapeColumn> =
        (columns.into_iter()).map(|(name, ty)| ShapeColumn { name, ty, rowid: false }).collect();
    let key = usable_key(connection, schema, name).await?;
    let key = key.iter().filter_map(|k| columns.iter().position(|c| c.name == *k)).collect();
    let (schema, name) = (Some(schema.to_owned()), name.to_owned());
    let (referred, entry_key) = (Vec::new(), Vec::new());
    Ok(Some(ShapeTable { schema, name, columns, key, referred, entry_key, own }))
}

/// The columns of a table that hold data, with their types; `None` if it has none.
pub(super) async fn columns(
    connection: &Connection,
    schema: &str,
    name: &str,
) -> Result<Option<Vec<(String, String)>>> {
    let sql = format!(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
           JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p') \
            AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
        literal(schema),
        literal(name)
    );
    let what = format!("cannot read the columns of {name}");
    let read = connection.read(Code::Target, &what, &sql, |row| Ok((row.text()?, row.text()?)));
    let found = read.await?;
    Ok((!found.is_empty()).then_some(found))
}

/// The columns of the primary key, or of another key that tells every row from the others at any moment, whose values
/// the server can compare wherever it looks for operators.
async fn usable_key(connection: &Connection, schema: &str, name: &str) -> Result<Vec<String>> {
    let of = "unnest(i.indkey) WITH ORDINALITY AS k(n, at) JOIN pg_catalog.pg_attribute a \
              ON a.attrelid = i.indrelid AND a.attnum = k.n";
    let sql = format!(
        "SELECT to_json(array(SELECT a.attname::text FROM {of} WHERE k.at <= i.indnkeyatts \
                               ORDER BY k.at)) \
           FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = {} AND c.relname = {} AND i.indisunique AND i.indisvalid \
            AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
            AND NOT EXISTS (SELECT 1 FROM {of} JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
                  LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd' \
                 WHERE k.at <= i.indnkeyatts AND (NOT a.attnotnull OR a.attgenerated <> '' \
                    OR coalesce(b.typnamespace, t.typnamespace) <> 'pg_catalog'::regnamespace)) \
          ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1",
        literal(schema),
        literal(name)
    );
    let what = format!("cannot read the key of {name}");
    let found = connection.read(Code::Target, &what, &sql, |row| row.texts()).await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// SQL for the names of the columns of a foreign key `k`, as a JSON array.
pub(super) fn names_of_key(columns: &str, table: &str) -> String {
    format!(
        "to_json(array(SELECT a.attname::text FROM unnest(k.{columns}) WITH ORDINALITY AS u(n, at) \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = k.{table} AND a.attnum = u.n \
          ORDER BY u.at))"
    )
}

/// The foreign keys of the whole database that refer to a table, which is given as SQL writes it.
pub(super) async fn referring(connection: &Connection, table: &str) -> Result<Vec<ShapeReference>> {
    let names = names_of_key;
    let sql = format!(
        "SELECT n.nspname, c.relname, {}, {} FROM pg_catalog.pg_constraint k \
           JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE k.contype = 'f' AND k.confrelid = {}::regclass AND k.conparentid = 0 \
          ORDER BY k.oid",
        names("conkey", "conrelid"),
        names("confkey", "confrelid"),
        literal(table)
    );
    let what = "cannot read the foreign keys";
    let read = connection.read(Code::Target, what, &sql, |row| {
        Ok(ShapeReference {
            schema: Some(row.text()?),
            table: row.text()?,
            columns: row.texts()?,
            to: row.texts()?,
        })
    });
    read.await
}

/// The sequences that tables take numbers from, each with the number given last; those that this role may not ask are
/// not among them.
pub(super) async fn sequences(
    connection: &Connection,
    tables: &[ShapeTable],
) -> Result<Vec<Sequence>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> =
        tables.iter().map(|t| format!("{}::regclass", literal(&full(t)))).collect();
    let names = names.join(", ");
    let sql = format!(
        "SELECT s.oid::regclass, pg_sequence_last_value(s.oid) FROM pg_catalog.pg_class s \
          WHERE s.relkind = 'S' AND CASE WHEN has_sequence_privilege(s.oid, 'USAGE, SELECT') \
            THEN EXISTS (SELECT 1 FROM pg_catalog.pg_depend d \
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid \
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN ({names}) \
                    AND d.deptype IN ('a', 'i')) \
              OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend d \
                   JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid \
                  WHERE d.classid = 'pg_attrdef'::regclass AND f.adrelid IN ({names}) \
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid) END \
          ORDER BY s.oid"
    );
    let what = "cannot read the sequences";
    let read = connection.read(Code::Target, what, &sql, |row| {
        let (name, last) = (row.text()?, row.optional_parsed()?);
        Ok(Sequence { name, before: last, after: last })
    });
    read.await
}

/// Where a row is, as SQL: in a partitioned table its partition belongs to it.
pub(super) fn place(alias: &str) -> Vec<String> {
    vec![format!("{alias}.ctid"), format!("{alias}.tableoid")]
}

/// What tells the rows of a table apart while a batch runs, as SQL: its key, or where they are.
pub(super) fn identity(table: &ShapeTable, alias: &str) -> Vec<String> {
    match table.key.is_empty() {
        true => place(alias),
        false => {
            let column = |k: &usize| format!("{alias}.{}", quoted(&table.columns[*k].name));
            table.key.iter().map(column).collect()
        }
    }
}

/// The names of the columns in which a noted identity is.
pub(super) fn numbered(table: &ShapeTable) -> Vec<String> {
    (0..identity(table, "t").len()).map(|n| format!("i{n}")).collect()
}

/// SQL that makes the temporary tables in which rows of table `n` are noted, if there are none.
pub(super) fn create_notes(n: usize, table: &ShapeTable) -> String {
    let ids: Vec<String> = (identity(table, "t").iter().zip(numbered(table)))
        .map(|(id, name)| format!("{id} AS {name}"))
        .collect();
    let was = table.columns.iter().enumerate();
    let was = was.map(|(n, c)| format!("t.{} AS w{n}", quoted(&c.name)));
    let all: Vec<String> = ids.iter().cloned().chain(was).collect();
    let create = |name: String, columns: &[String]| {
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DROP AS \
             SELECT {} FROM {} t WITH NO DATA;",
            columns.join(", "),
            full(table)
        )
    };
    create(inserted_name(n), &ids) + &create(before_name(n), &all)
}

/// SQL that is true if a row with this identity is noted in a temporary table.
fn is_noted(name: &str, ids: &[String]) -> String {
    let same = ids.iter().enumerate().map(|(n, id)| format!("o.i{n} = {id}"));
    let same = same.collect::<Vec<_>>().join(" AND ");
    format!("EXISTS (SELECT 1 FROM pg_temp.{name} o WHERE {same})")
}

/// SQL that notes rows `t` as they are before they are changed or deleted, at most once, and none that the batch has
/// inserted; `from` is what follows the columns and ends in a condition.
pub(super) fn note_before(n: usize, table: &ShapeTable, from: &str) -> String {
    let ids = identity(table, "t");
    let was = table.columns.iter().map(|c| format!("t.{}", quoted(&c.name)));
    let all: Vec<String> = ids.iter().cloned().chain(was).collect();
    format!(
        "INSERT INTO pg_temp.{before} SELECT {} {from} AND NOT {} AND NOT {}",
        all.join(", "),
        is_noted(&before_name(n), &ids),
        is_noted(&inserted_name(n), &ids),
        before = before_name(n)
    )
}

/// SQL that notes the rows that a query `from` names as inserted, each once; their identities are its columns `i0` and on.
pub(super) fn note_inserted(n: usize, table: &ShapeTable, from: &str) -> String {
    let ids: Vec<String> = numbered(table).iter().map(|i| format!("n.{i}")).collect();
    format!(
        "INSERT INTO pg_temp.{} SELECT {} FROM {from} n WHERE NOT {}",
        inserted_name(n),
        ids.join(", "),
        is_noted(&inserted_name(n), &ids)
    )
}

/// What is noted of table `n`, whose former rows have so many columns.
pub(super) async fn what_is_noted(
    connection: &Connection,
    n: usize,
    width: usize,
) -> Result<Noted> {
    let sql = format!("SELECT to_regclass('pg_temp.{}') IS NOT NULL", inserted_name(n));
    let what = "cannot look for what is noted";
    if connection.read(Code::Target, what, &sql, |row| row.boolean()).await? != [true] {
        return Ok(Noted::default());
    }
    let inserted = !has_none(connection, &format!("pg_temp.{}", inserted_name(n))).await?;
    let before = !has_none(connection, &format!("pg_temp.{}", before_name(n))).await?;
    Ok(Noted { number: n, was_empty: false, inserted, before: before.then_some(width) })
}

/// Whether anything is noted of a table.
pub(super) fn any(noted: &Noted) -> bool {
    noted.was_empty || noted.inserted || noted.before.is_some()
}

/// Whether a table has no rows.
pub(super) async fn has_none(connection: &Connection, full: &str) -> Result<bool> {
    let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {full})");
    let what = "cannot look for rows that have changed";
    Ok(connection.read(Code::Target, what, &sql, |row| row.boolean()).await? == [true])
}
