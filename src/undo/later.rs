//! Later batches that build on one which is undone: they have changed its rows, refer to them, or stand in their way.

use super::receipts::no_shape;
use super::sql::count;
use super::take_back::{TakeBack, at, found, staged, was};
use super::{Receipts, ReceiptsReader, Shape, ShapeTable, UndoSql, quoted};
use crate::error::{Code, Result};
use chronicle_archive::{Batch, Value};

/// The errors of receipts that cannot be read.
const DAMAGED: [Code; 3] = [Code::ArchiveDamaged, Code::ArchiveTruncated, Code::ArchiveUnsupported];
const WHAT: &str = "cannot look for the rows of later batches";

/// The temporary table of the keys that a later batch has written in a table of its own shape.
fn written(table: usize) -> String {
    format!("undo_later_{table}")
}

/// What a later batch has to do with one that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// Nothing.
    Nothing,
    /// It has changed rows of the other one, refers to them or is in their way.
    Rows,
    /// It has changed the same tables, and nothing tells whether the same rows.
    Tables,
    /// Its rows have columns that the other one has added.
    Columns,
    /// It has used the same tables with other columns.
    ItsColumns,
}

impl TakeBack {
    /// What a later batch has to do with this one, whose rows were found.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn met_by(
        &self,
        database: &mut dyn UndoSql,
        mut later: ReceiptsReader,
    ) -> Result<Met> {
        let shape = later.shape.clone();
        if !shape.tables.iter().any(|table| self.shape.concerns(&table.name)) {
            return Ok(Met::Nothing);
        }
        for (n, table) in shape.tables.iter().enumerate() {
            database.stage(&written(n), &["after"], &key_names(table)).await?;
        }
        let met = match stage(database, &mut later, &shape).await {
            Ok(()) => self.meets(database, &shape).await?,
            Err(e) if DAMAGED.contains(&e.code()) => Met::Tables,
            Err(e) => return Err(e),
        };
        for n in 0..shape.tables.len() {
            database.run(WHAT, &format!("DROP TABLE {}", written(n))).await?;
        }
        Ok(met)
    }

    async fn meets(&self, database: &mut dyn UndoSql, later: &Shape) -> Result<Met> {
        for (n, table) in later.tables.iter().enumerate() {
            database.index(&written(n), &first_of(&key_names(table), "after")).await?;
        }
        for n in 0..self.shape.tables.len() {
            for sql in self.meeting(database, n, later) {
                let Some(sql) = sql else { return Ok(Met::Tables) };
                let sql = format!("SELECT count(*) FROM ({sql} LIMIT 1) met");
                if count(database, WHAT, &sql).await? > 0 {
                    return Ok(Met::Rows);
                }
            }
        }
        Ok(Met::Nothing)
    }

    /// Queries that give a row if the later batch has met rows of a table of this one. `None` is a table whose rows have no
    /// keys by which that could be told.
    fn meeting(&self, database: &dyn UndoSql, n: usize, later: &Shape) -> Vec<Option<String>> {
        let table = &self.shape.tables[n];
        let full = database.full(table.schema.as_deref(), &table.name);
        let mut queries = Vec::new();
        if let Some(same) = later.table(table.schema.as_deref(), &table.name) {
            let theirs = &later.tables[same];
            if !has_the_same_key(table, theirs) {
                return vec![None];
            }
            // it has changed the same rows
            let keys: Vec<String> =
                (0..table.key.len()).map(|k| format!("u.key{k} = l.key{k}")).collect();
            let (ours, written) = (staged(n), written(same));
            queries.push(Some(format!(
                "SELECT 1 AS n FROM {ours} u JOIN {written} l ON {}",
                keys.join(" AND ")
            )));
            // it has given others their unique values
            let is_theirs = has_key(database, theirs, ("t", "l"));
            queries.extend(self.unique_values(database, n).into_iter().map(|(_, same)| {
                Some(format!(
                    "SELECT 1 AS n FROM {ours} u JOIN {full} t ON {same} JOIN {written} l ON {is_theirs} \
                     WHERE u.restores = 1"
                ))
            }));
        }
        // its rows refer to rows that this one has inserted
        for reference in &table.referred {
            let child = later.table(reference.schema.as_deref(), &reference.table);
            let Some(child) = child.filter(|child| !later.tables[*child].key.is_empty()) else {
                continue;
            };
            let refers: Vec<String> = (reference.columns.iter().zip(&reference.to))
                .map(|(from, to)| format!("c.{} = t.{}", quoted(from), quoted(to)))
                .collect();
            queries.push(Some(format!(
                "SELECT 1 AS n FROM {} f JOIN {full} t ON {} JOIN {} c ON {} JOIN {} l ON {} \
                 WHERE f.restores = 0",
                found(n),
                at("f", database.place(table, "t")),
                database.full(reference.schema.as_deref(), &reference.table),
                refers.join(" AND "),
                written(child),
                has_key(database, &later.tables[child], ("c", "l"))
            )));
        }
        queries.extend(self.needed(database, n, later));
        queries
    }

    /// Queries for rows of a table that come back and refer to rows which the later batch has written.
    fn needed(&self, database: &dyn UndoSql, n: usize, later: &Shape) -> Vec<Option<String>> {
        let table = &self.shape.tables[n];
        let mut queries = Vec::new();
        for (p, parent) in later.tables.iter().enumerate() {
            let to_it = parent.referred.iter().filter(|r| {
                r.schema.as_deref() == table.schema.as_deref() && r.table == table.name
            });
            for reference in to_it {
                let pairs = reference.columns.iter().zip(&reference.to).map(|(from, to)| {
                    let from = table.columns.iter().position(|c| !c.rowid && c.name == *from)?;
                    let key = parent.key.iter().position(|k| parent.columns[*k].name == *to)?;
                    let ty = &table.columns[from].ty;
                    let written = database.cast(&format!("l.key{key}"), ty);
                    Some(format!("{} = {written}", was(database, table, from)))
                });
                let Some(pairs) = pairs.collect::<Option<Vec<String>>>() else { continue };
                queries.push(Some(format!(
                    "SELECT 1 AS n FROM {} u JOIN {} l ON {} WHERE u.restores = 1",
                    staged(n),
                    written(p),
                    pairs.join(" AND ")
                )));
            }
        }
        queries
    }
}

/// Stages the keys of all rows that a batch has written.
async fn stage(
    database: &mut dyn UndoSql,
    receipts: &mut ReceiptsReader,
    shape: &Shape,
) -> Result<()> {
    let (mut rows, mut out) = (Batch::default(), Batch::default());
    while let Some(kind) = receipts.next(&mut rows)? {
        let (Receipts::Inserted(n) | Receipts::Changed(n) | Receipts::Deleted(n)) = kind else {
            continue;
        };
        let table = shape.tables.get(n).ok_or_else(no_shape)?;
        out.start(0, 1 + table.key.len(), 1);
        for row in 0..rows.rows() {
            // which rows are gone is of no interest here
            out.push(Value::Int(super::GONE));
            (0..table.key.len())
                .for_each(|key| out.push(rows.value(row, kind.key_column(table, key))));
        }
        database.insert(&written(n), &out).await?;
    }
    Ok(())
}

fn key_names(table: &ShapeTable) -> Vec<String> {
    (0..table.key.len()).map(|n| format!("key{n}")).collect()
}

/// Some names as a list; another one if there are none.
fn first_of(names: &[String], other: &str) -> String {
    if names.is_empty() { other.to_owned() } else { names.join(", ") }
}

/// Whether two batches name the rows of a table by the same columns.
fn has_the_same_key(one: &ShapeTable, other: &ShapeTable) -> bool {
    let names = |table: &ShapeTable| -> Vec<String> {
        table.key.iter().map(|k| table.columns[*k].name.clone()).collect()
    };
    !one.key.is_empty() && names(one) == names(other)
}

/// SQL that is true where a row of a table has a staged key.
fn has_key(database: &dyn UndoSql, table: &ShapeTable, (row, key): (&str, &str)) -> String {
    let same = table.key.iter().enumerate().map(|(n, k)| {
        let column = &table.columns[*k];
        let staged = database.cast(&format!("{key}.key{n}"), &column.ty);
        format!("{row}.{} = {staged}", quoted(&column.name))
    });
    same.collect::<Vec<_>>().join(" AND ")
}
