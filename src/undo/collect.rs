//! Writing the receipts of a batch: what was noted while it wrote, compared with what the database holds at its end.
//!
//! A target notes in temporary tables the identities of rows that it inserts, `undo_inserted_N`, and the former content
//! of rows that were there before, `undo_before_N`, at most once each. Of a table that was empty nothing is noted: all of
//! its rows are new.

use std::fs::File;

use super::receipts::CHANGED;
use super::{GONE, ReceiptsWriter, Shape, ShapeReference, ShapeTable, UndoSql, entries_of, quoted};
use crate::error::Result;
use crate::fault;
use crate::history::TableChanges;
use chronicle_archive::{Kind, Value, Written};

/// What was noted of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// The number in the names of its temporary tables.
    pub number: usize,
    /// Whether it had no rows when the batch began.
    pub was_empty: bool,
    /// Whether rows that were inserted are noted.
    pub inserted: bool,
    /// How many of its columns the former rows have: those that were added since are not among them; `None` if no former
    /// rows are noted.
    pub before: Option<usize>,
}

/// The temporary table of rows that were inserted.
pub fn inserted_name(table: usize) -> String {
    format!("undo_inserted_{table}")
}

/// The temporary table of rows as they were before.
pub fn before_name(table: usize) -> String {
    format!("undo_before_{table}")
}

/// Writes the receipts of a batch that has changed nothing any more; what was noted is in the order of the shape's
/// tables. Gives their file, what was written, and what was done to each table.
///
/// # Errors
/// If the database cannot be read, or the file not be written.
pub async fn collect(
    database: &mut dyn UndoSql,
    shape: &Shape,
    noted_of: &[Noted],
    kind: impl Fn(&str) -> Kind,
) -> Result<(File, Written, Vec<TableChanges>)> {
    fault::point("receipts: before they are collected")?;
    let mut receipts = ReceiptsWriter::create(shape, kind)?;
    let mut changes = Vec::new();
    for (n, (table, noted)) in shape.tables.iter().zip(noted_of).enumerate() {
        let mut done = TableChanges { table: table.name.clone(), ..TableChanges::default() };
        let what = format!("{}: cannot write the receipts", table.name);
        if noted.was_empty || noted.inserted {
            let sql = inserted_sql(database, shape, table, *noted);
            let keys = table.key.len();
            database
                .select(&what, &sql, keys, &mut |row, at| {
                    done.inserted += 1;
                    receipts.inserted(
                        n,
                        number(row.value(at, 0)),
                        (1..=keys).map(|c| row.value(at, c)),
                    )
                })
                .await?;
        }
        if let Some(width) = noted.before {
            let sql = changed_sql(database, noted.number, table, width);
            let (keys, columns) = (table.key.len(), table.columns.len());
            let all = vec![CHANGED; columns];
            database
                .select(&what, &sql, 1 + keys + columns, &mut |row, at| {
                    let (fingerprint, changed) = match (number(row.value(at, 0)), row.value(at, 1))
                    {
                        (GONE, _) => (GONE, all.as_slice()),
                        (_, Value::Text(changed)) if !changed.contains(&CHANGED) => return Ok(()),
                        (now, Value::Text(changed)) => (now, changed),
                        (now, _) => (now, all.as_slice()),
                    };
                    *(if fingerprint == GONE { &mut done.deleted } else { &mut done.updated }) += 1;
                    let (key, was) = (2..2 + keys, 2 + keys..2 + keys + columns);
                    let value = |c| row.value(at, c);
                    receipts.changed(n, fingerprint, changed, key.map(value), was.map(value))
                })
                .await?;
        }
        for (number, reference) in table.referred.iter().enumerate() {
            let Some(sql) = referred_sql(database, shape, noted_of, n, reference) else { continue };
            let keys = table.key.len();
            database
                .select(&what, &sql, keys, &mut |row, at| {
                    let key = (1..=keys).map(|c| row.value(at, c));
                    receipts.referred(n, self::number(row.value(at, 0)), number, key)
                })
                .await?;
        }
        if !table.own {
            changes.push(done);
        }
    }
    let (file, written) = receipts.finish()?;
    changes.retain(|t| t.inserted + t.updated + t.deleted > 0);
    Ok((file, written, changes))
}

fn number(value: Value<'_>) -> i64 {
    match value {
        Value::Int(number) => number,
        _ => GONE,
    }
}

/// SQL for the rows that the batch has inserted into a table and that rows refer to which it has not inserted: how many,
/// and the key. `None` if there can be none.
fn referred_sql(
    database: &dyn UndoSql,
    shape: &Shape,
    noted: &[Noted],
    n: usize,
    reference: &ShapeReference,
) -> Option<String> {
    let (table, parent) = (&shape.tables[n], noted[n]);
    if !(parent.was_empty || parent.inserted) || table.key.is_empty() {
        return None;
    }
    let child = shape.table(reference.schema.as_deref(), &reference.table);
    let others = match child {
        Some(child) if noted[child].was_empty => return None,
        Some(child) => of_others(database, &shape.tables[child], noted[child]),
        None => "1 = 1".to_owned(),
    };
    let full = database.full(table.schema.as_deref(), &table.name);
    let from = match parent.was_empty {
        true => format!("{full} t"),
        false => format!(
            "{} p JOIN {full} t ON {}",
            inserted_name(parent.number),
            same_identity(database, table, "p", "t")
        ),
    };
    let key: Vec<String> =
        table.key.iter().map(|k| format!("t.{}", quoted(&table.columns[*k].name))).collect();
    let shown: Vec<String> = key.iter().map(|key| database.text(key)).collect();
    let refers: Vec<String> = (reference.columns.iter().zip(&reference.to))
        .map(|(from, to)| format!("c.{} = t.{}", quoted(from), quoted(to)))
        .collect();
    Some(format!(
        "SELECT count(*), {} FROM {from} JOIN {} c ON {} WHERE {others} GROUP BY {}",
        shown.join(", "),
        database.full(reference.schema.as_deref(), &reference.table),
        refers.join(" AND "),
        key.join(", ")
    ))
}

/// SQL that is true of rows `c` that the batch has not written, or has left as they were, so that no receipt has them.
fn of_others(database: &dyn UndoSql, table: &ShapeTable, noted: Noted) -> String {
    let is_in = |name: String, alias: &str, more: &str| {
        let same = same_identity(database, table, alias, "c");
        format!("EXISTS (SELECT 1 FROM {name} {alias} WHERE {same}{more})")
    };
    let mut untouched = vec!["1 = 1".to_owned()];
    if noted.inserted {
        untouched.push(format!("NOT {}", is_in(inserted_name(noted.number), "i", "")));
    }
    let Some(width) = noted.before else { return untouched.join(" AND ") };
    let (now, then) = (columns(table, "c"), columns_before(database, table, width));
    let (now, then) = (fingerprint(database, table, &now), fingerprint(database, table, &then));
    let unchanged = is_in(before_name(noted.number), "b", &format!(" AND {now} = {then}"));
    untouched.push(format!("NOT {}", is_in(before_name(noted.number), "b", "")));
    format!("(({}) OR {unchanged})", untouched.join(" AND "))
}

/// SQL that is true where rows have the same identity; `noted` is the alias of the temporary table.
fn same_identity(database: &dyn UndoSql, table: &ShapeTable, noted: &str, row: &str) -> String {
    let same = database.identity(table, row);
    let same = same.iter().enumerate().map(|(n, column)| format!("{column} = {noted}.i{n}"));
    same.collect::<Vec<_>>().join(" AND ")
}

fn columns(table: &ShapeTable, alias: &str) -> Vec<String> {
    table.columns.iter().map(|c| format!("{alias}.{}", quoted(&c.name))).collect()
}

/// SQL for the fingerprint of a row whose columns are given as SQL.
fn fingerprint(database: &dyn UndoSql, table: &ShapeTable, columns: &[String]) -> String {
    database.fingerprint(&table.content(columns))
}

/// The columns of a row `b` as it was before, of which the first `width` were there.
fn columns_before(database: &dyn UndoSql, table: &ShapeTable, width: usize) -> Vec<String> {
    let was = |n: usize| match n < width {
        true => format!("b.w{n}"),
        // it was added since
        false => database.null(&table.columns[n].ty),
    };
    (0..table.columns.len()).map(was).collect()
}

fn inserted_sql(database: &dyn UndoSql, shape: &Shape, table: &ShapeTable, noted: Noted) -> String {
    let full = database.full(table.schema.as_deref(), &table.name);
    let mut values = vec![fingerprint(database, table, &columns(table, "t"))];
    values.extend(
        table.key.iter().map(|k| database.text(&format!("t.{}", quoted(&table.columns[*k].name)))),
    );
    let values = values.join(", ");
    // entries that go with their rows are not listed
    let implied: Vec<String> = (shape.tables.iter())
        .filter(|of| table.is_sidecar() && !of.entry_key.is_empty())
        .map(|of| format!(" AND NOT ({})", entries_of(table, of)))
        .collect();
    let implied = implied.concat();
    if noted.was_empty {
        return format!("SELECT {values} FROM {full} t WHERE 1 = 1{implied}");
    }
    let mut sql = format!(
        "SELECT {values} FROM {} i JOIN {full} t ON {} WHERE 1 = 1{implied}",
        inserted_name(noted.number),
        same_identity(database, table, "i", "t")
    );
    if noted.before.is_some() {
        // one that was deleted before it was inserted again has changed
        sql.push_str(&format!(
            " AND NOT EXISTS (SELECT 1 FROM {} b WHERE {})",
            before_name(noted.number),
            same_identity(database, table, "b", "t")
        ));
    }
    sql
}

/// SQL for the rows of a table that were changed or deleted: the fingerprint now, which columns have changed, the key, and
/// the former values.
fn changed_sql(database: &dyn UndoSql, n: usize, table: &ShapeTable, width: usize) -> String {
    let full = database.full(table.schema.as_deref(), &table.name);
    let (now, was) = (columns(table, "t"), columns_before(database, table, width));
    let missing = format!("{} IS NULL", database.identity(table, "t")[0]);
    let key = |k: &usize| {
        database.text(&format!("CASE WHEN {missing} THEN {} ELSE {} END", was[*k], now[*k]))
    };
    let fingerprint = fingerprint(database, table, &now);
    let mut values = vec![
        format!("CASE WHEN {missing} THEN {GONE} ELSE {fingerprint} END"),
        database.changed(&now, &was),
    ];
    values.extend(table.key.iter().map(key));
    values.extend(now.iter().zip(&was).map(|(now, was)| database.text_if_changed(now, was)));
    format!(
        "SELECT {} FROM {} b LEFT JOIN {full} t ON {}",
        values.join(", "),
        before_name(n),
        same_identity(database, table, "b", "t")
    )
}
