//! Taking a batch back: finding its rows as it left them, in sets and by the database, then deleting what it inserted
//! and restoring what it changed.

use std::collections::BTreeSet;

use super::sql::count;
use super::{
    GONE, Group, Receipts, ReceiptsReader, Shape, ShapeReference, ShapeTable, Standing,
    TableStanding, Taken, UndoSql, UniqueColumns, entries_of, quoted,
};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::load::SAMPLES;
use chronicle_archive::{Batch, Value};

/// Stages the receipts of a batch and finds out what can be taken back.
///
/// # Errors
/// Damaged receipts, a table that was changed since, or a query that fails.
pub async fn take_back(
    database: &mut dyn UndoSql,
    mut receipts: ReceiptsReader,
) -> Result<(TakeBack, Standing)> {
    let mut back = TakeBack::new(receipts.shape.clone());
    back.require_shape(database).await?;
    for (n, table) in back.shape.tables.iter().enumerate() {
        let (keys, was) = (table.key.len(), table.columns.len());
        database.stage(&staged(n), &["n", "restores", "after"], &staged_names(keys, was)).await?;
        database.stage(&referred(n), &["rows", "reference"], &staged_names(keys, 0)).await?;
    }
    back.stage(database, &mut receipts).await?;
    for (n, table) in back.shape.tables.iter().enumerate() {
        let keys = staged_names(table.key.len(), 0).join(", ");
        database.index(&staged(n), if keys.is_empty() { "n" } else { &keys }).await?;
        database.index(&referred(n), "reference").await?;
    }
    for n in 0..back.shape.tables.len() {
        back.find(database, n).await?;
    }
    while back.mark_referred(database).await? {}
    back.free_keys(database).await?;
    for table in &back.shape.tables {
        back.unique.push(database.unique(table).await?);
    }
    // what cannot come back stays, and so does what it refers to, which may be in the way of others
    while back.mark_taken(database).await? | back.mark_referred(database).await? {}
    let standing = back.standing(database).await?;
    Ok((back, standing))
}

/// When rows are deleted that a batch has inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the others are restored.
    Before,
    /// After that.
    After,
}

/// A batch whose rows were found.
pub struct TakeBack {
    /// What it has touched.
    pub shape: Shape,
    /// What the tables keep unique, beside their keys.
    pub(super) unique: Vec<Vec<UniqueColumns>>,
    /// Of every table, the unique columns whose former values other rows have.
    pub(super) taken: Vec<BTreeSet<String>>,
}

/// The temporary table of the receipts of a table.
pub(super) fn staged(table: usize) -> String {
    format!("undo_receipts_{table}")
}

/// The names of the columns of a key and of a former row.
fn staged_names(keys: usize, was: usize) -> Vec<String> {
    let keys = (0..keys).map(|n| format!("key{n}"));
    keys.chain((0..was).map(|n| format!("was{n}"))).collect()
}

/// The temporary table of how many rows referred to those of a table when the batch ended.
fn referred(table: usize) -> String {
    format!("undo_referred_{table}")
}

/// The temporary table of the places of these rows.
pub(super) fn found(table: usize) -> String {
    format!("undo_found_{table}")
}

/// SQL that is true where a row of such a table, under an alias, is about the row at a place.
pub(super) fn at(alias: &str, place: Vec<String>) -> String {
    let same = place.iter().enumerate().map(|(n, p)| format!("{alias}.p{n} = {p}"));
    same.collect::<Vec<_>>().join(" AND ")
}

impl TakeBack {
    fn new(shape: Shape) -> TakeBack {
        let taken = vec![BTreeSet::new(); shape.tables.len()];
        TakeBack { shape, unique: Vec::new(), taken }
    }

    /// Refuses tables that are not as the batch left them.
    async fn require_shape(&self, database: &mut dyn UndoSql) -> Result<()> {
        for table in &self.shape.tables {
            let now = database.columns(table).await?;
            let changed = |what: String| {
                Error::new(
                    Code::Plan,
                    format!("{}: {what} since the batch; nothing was changed", table.name),
                )
                .hint("a rollback needs the tables as the batch left them: undo that change first")
            };
            let Some(now) = now else { return Err(changed("the table was dropped".into())) };
            for column in table.columns.iter().filter(|c| !c.rowid) {
                match now.iter().find(|(name, _)| *name == column.name) {
                    None => {
                        let what = format!("the column {} was dropped or renamed", column.name);
                        return Err(changed(what));
                    }
                    Some((_, ty)) if *ty != column.ty => {
                        let what = format!(
                            "the type of the column {} was changed from {} to {ty}",
                            column.name, column.ty
                        );
                        return Err(changed(what));
                    }
                    Some(_) => {}
                }
            }
            let is_known = |name: &str| table.columns.iter().any(|c| c.name == name);
            if let Some((name, _)) = now.iter().find(|(name, _)| !is_known(name)) {
                return Err(changed(format!("the column {name} was added")));
            }
        }
        Ok(())
    }

    async fn stage(&self, database: &mut dyn UndoSql, receipts: &mut ReceiptsReader) -> Result<()> {
        let (mut rows, mut out, mut number) = (Batch::default(), Batch::default(), 0);
        while let Some(kind) = receipts.next(&mut rows)? {
            let (Receipts::Inserted(n) | Receipts::Changed(n) | Receipts::Referred(n)) = kind;
            let unknown =
                || Error::new(Code::ArchiveDamaged, "receipts of a table without a shape");
            let table = self.shape.tables.get(n).ok_or_else(unknown)?;
            let (keys, was) = (table.key.len(), table.columns.len());
            if matches!(kind, Receipts::Referred(_)) {
                database.insert(&referred(n), &rows).await?;
                continue;
            }
            let restores = matches!(kind, Receipts::Changed(_));
            out.start(0, 3 + keys + was, 1);
            for row in 0..rows.rows() {
                number += 1;
                out.push(Value::Int(number));
                out.push(Value::Int(restores.into()));
                let given = 1 + keys + if restores { was } else { 0 };
                for column in 0..=keys + was {
                    out.push(match column < given {
                        true => rows.value(row, column),
                        false => Value::Null,
                    });
                }
            }
            database.insert(&staged(n), &out).await?;
        }
        Ok(())
    }

    /// Finds the rows of a table by their keys, or by their content where they have none.
    async fn find(&self, database: &mut dyn UndoSql, n: usize) -> Result<()> {
        const WHAT: &str = "cannot look for the rows of the batch";
        let table = &self.shape.tables[n];
        let full = database.full(table.schema.as_deref(), &table.name);
        let (staged, found) = (staged(n), found(n));
        let place = database.place(table, "t");
        let places: Vec<String> =
            place.iter().enumerate().map(|(n, p)| format!("{p} AS p{n}")).collect();
        let (places, first) = (places.join(", "), &place[0]);
        let columns: Vec<String> =
            table.columns.iter().map(|c| format!("t.{}", quoted(&c.name))).collect();
        let now = database.fingerprint(&columns);
        let key = |n: usize| format!("u.key{n}");
        let same: Vec<String> = (table.key.iter().enumerate())
            .map(|(n, k)| {
                let column = &table.columns[*k];
                format!("t.{} = {}", quoted(&column.name), database.cast(&key(n), &column.ty))
            })
            .collect();
        let known: Vec<String> =
            (0..table.key.len()).map(|n| format!("{} IS NOT NULL", key(n))).collect();
        let (same, known) = match table.key.is_empty() {
            true => ("1 = 0".to_owned(), "1 = 0".to_owned()),
            false => (same.join(" AND "), known.join(" AND ")),
        };
        let sql = format!(
            "CREATE TEMPORARY TABLE {found} AS SELECT u.n AS n, u.restores AS restores, \
             u.after AS after, {places}, CASE \
             WHEN u.after = {GONE} THEN CASE WHEN {first} IS NULL THEN 'same' ELSE 'edited' END \
             WHEN {first} IS NULL THEN 'edited' WHEN {now} = u.after THEN 'same' \
             ELSE 'edited' END AS state \
             FROM {staged} u LEFT JOIN {full} t ON {same} WHERE {known}"
        );
        database.run(WHAT, &sql).await?;
        let unkeyed = format!("SELECT count(*) FROM {staged} u WHERE NOT ({known})");
        if count(database, WHAT, &unkeyed).await? > 0 {
            let numbers: Vec<String> = (0..place.len()).map(|n| format!("t.p{n}")).collect();
            let numbers = numbers.join(", ");
            let sql = format!(
                "INSERT INTO {found} SELECT u.n, u.restores, u.after, {numbers}, \
                 CASE WHEN u.after <> {GONE} AND t.p0 IS NULL THEN 'edited' ELSE 'same' END FROM \
                 (SELECT u.n, u.restores, u.after, row_number() OVER (PARTITION BY u.after ORDER BY u.n) AS r \
                    FROM {staged} u WHERE NOT ({known})) u LEFT JOIN \
                 (SELECT i.*, row_number() OVER (PARTITION BY i.now ORDER BY i.p0 DESC) AS r \
                    FROM (SELECT {places}, {now} AS now FROM {full} t) i) t \
                 ON t.now = u.after AND t.r = u.r"
            );
            database.run(WHAT, &sql).await?;
        }
        database.index(&found, &place_list(place.len())).await?;
        let all = format!("SELECT count(*) - count(DISTINCT n) FROM {found}");
        if count(database, WHAT, &all).await? > 0 {
            let what = format!("{}: several rows have the key of a row of the batch", table.name);
            return Err(Error::new(Code::Conflict, format!("{what}; nothing was changed")));
        }
        Ok(())
    }

    /// Marks the rows that rows refer to which stay; whether there were any more.
    async fn mark_referred(&self, database: &mut dyn UndoSql) -> Result<bool> {
        let mut any = false;
        for (n, table) in self.shape.tables.iter().enumerate() {
            for (number, reference) in table.referred.iter().enumerate() {
                let sql = self.referred_sql(database, n, table, (number, reference));
                any |=
                    database.run("cannot look for rows that refer to the batch", &sql).await? > 0;
            }
        }
        Ok(any)
    }

    /// Marks the deleted rows whose keys only rows have that go: the batch has inserted those in their stead.
    async fn free_keys(&self, database: &mut dyn UndoSql) -> Result<()> {
        for (n, table) in self.shape.tables.iter().enumerate() {
            let found = found(n);
            let same: Vec<String> = (0..database.place(table, "t").len())
                .map(|n| format!("g.p{n} = {found}.p{n}"))
                .collect();
            let sql = format!(
                "UPDATE {found} SET state = 'same' WHERE state = 'edited' AND after = {GONE} \
                 AND EXISTS (SELECT 1 FROM {found} g \
                 WHERE g.state = 'same' AND g.after <> {GONE} AND {})",
                same.join(" AND ")
            );
            database.run("cannot look for the keys of the batch", &sql).await?;
        }
        Ok(())
    }

    fn referred_sql(
        &self,
        database: &dyn UndoSql,
        n: usize,
        table: &ShapeTable,
        (number, reference): (usize, &ShapeReference),
    ) -> String {
        let found_here = found(n);
        let schema = reference.schema.as_deref();
        let child = database.full(schema, &reference.table);
        let refers: Vec<String> = (reference.columns.iter().zip(&reference.to))
            .map(|(from, to)| format!("c.{} = t.{}", quoted(from), quoted(to)))
            .collect();
        let known: Vec<String> =
            (0..table.key.len()).map(|n| format!("u.key{n} = o.key{n}")).collect();
        let known = if known.is_empty() { vec!["1 = 0".to_owned()] } else { known };
        let goes = match self.shape.table(schema, &reference.table) {
            None => String::new(),
            Some(child) => format!(
                " AND NOT EXISTS (SELECT 1 FROM {} g WHERE g.state = 'same' AND {})",
                found(child),
                at("g", database.place(&self.shape.tables[child], "c"))
            ),
        };
        format!(
            "UPDATE {found_here} SET state = 'referred' WHERE state = 'same' AND restores = 0 \
             AND n IN (SELECT f.n FROM {found_here} f JOIN {} t ON {} JOIN {child} c ON {} \
             WHERE f.state = 'same' AND f.restores = 0{goes} GROUP BY f.n \
             HAVING count(*) > coalesce((SELECT max(o.rows) FROM {} o JOIN {} u ON {} \
             WHERE u.n = f.n AND o.reference = {number}), 0))",
            database.full(table.schema.as_deref(), &table.name),
            at("f", database.place(table, "t")),
            refers.join(" AND "),
            referred(n),
            staged(n),
            known.join(" AND ")
        )
    }

    async fn standing(&self, database: &mut dyn UndoSql) -> Result<Standing> {
        const WHAT: &str = "cannot count the rows of the batch";
        let mut standing = Standing::default();
        for (n, table) in self.shape.tables.iter().enumerate() {
            let found = found(n);
            let same = |more: &str| {
                format!("SELECT count(*) FROM {found} WHERE state = 'same' AND {more}")
            };
            standing.tables.push(TableStanding {
                table: table.name.clone(),
                inserted: count(database, WHAT, &same("restores = 0")).await?,
                updated: count(database, WHAT, &same(&format!("restores = 1 AND after <> {GONE}")))
                    .await?,
                deleted: count(database, WHAT, &same(&format!("restores = 1 AND after = {GONE}")))
                    .await?,
                edited: self.group(database, n, "edited").await?,
                referred: self.group(database, n, "referred").await?,
                taken: Taken {
                    group: self.group(database, n, "taken").await?,
                    columns: self.taken[n].iter().cloned().collect(),
                },
            });
        }
        Ok(standing)
    }

    async fn group(&self, database: &mut dyn UndoSql, n: usize, state: &str) -> Result<Group> {
        const WHAT: &str = "cannot list the rows of the batch";
        let (found, staged) = (found(n), staged(n));
        let rows =
            count(database, WHAT, &format!("SELECT count(*) FROM {found} WHERE state = '{state}'"))
                .await?;
        let keys: Vec<String> = (0..self.shape.tables[n].key.len())
            .map(|n| format!("coalesce(CAST(u.key{n} AS text), 'NULL')"))
            .collect();
        if rows == 0 || keys.is_empty() {
            return Ok(Group { rows, samples: Vec::new() });
        }
        let sql = format!(
            "SELECT {} FROM {staged} u JOIN {found} f ON f.n = u.n WHERE f.state = '{state}' \
             ORDER BY u.n LIMIT {SAMPLES}",
            keys.join(" || ', ' || ")
        );
        let samples = database.rows(WHAT, &sql).await?.into_iter().flatten().flatten();
        let samples = samples.map(|key| chronicle_archive::show_text(&key)).collect();
        Ok(Group { rows, samples })
    }

    /// Takes back what is as the batch left it.
    ///
    /// # Errors
    /// If the database refuses a row, or does not hold afterwards what it should.
    pub async fn apply(&self, database: &mut dyn UndoSql) -> Result<()> {
        fault::point("rollback: before rows are deleted")?;
        for (n, table) in self.shape.tables.iter().enumerate() {
            let places = place_list(database.place(table, "t").len());
            let all = format!(
                "SELECT {places} FROM {} WHERE state = 'same' AND after <> {GONE}",
                found(n)
            );
            database.about_to_change(table, &all).await?;
        }
        self.delete(database, When::Before).await?;
        self.delete_entries(database).await?;
        fault::point("rollback: after rows are deleted")?;
        for (n, table) in self.shape.tables.iter().enumerate() {
            fault::point("rollback: before a table is restored")?;
            self.restore(database, n, table).await?;
            fault::point("rollback: after a table is restored")?;
        }
        self.delete(database, When::After).await?;
        for (n, table) in self.shape.tables.iter().enumerate() {
            self.prove(database, n, table).await?;
        }
        Ok(())
    }

    /// Deletes what the batch has inserted, children first. Where the server watches over references, rows go before the
    /// others are restored as far as nothing refers to them, since they may have the others' unique values; the rest goes
    /// when nothing refers to it any more.
    async fn delete(&self, database: &mut dyn UndoSql, when: When) -> Result<()> {
        let replaces = database.replaces();
        if replaces && when == When::After {
            return Ok(());
        }
        for (n, table) in self.shape.tables.iter().enumerate().rev() {
            let place = database.place(table, "t");
            let goes = if replaces { "1 = 1" } else { "restores = 0" };
            let mut sql = format!(
                "DELETE FROM {} AS t WHERE ({}) IN (SELECT {} FROM {} \
                 WHERE state = 'same' AND after <> {GONE} AND {goes})",
                database.full(table.schema.as_deref(), &table.name),
                place.join(", "),
                place_list(place.len()),
                found(n)
            );
            if !replaces && when == When::Before {
                for reference in &table.referred {
                    sql.push_str(&self.but_referred(database, n, reference));
                }
            }
            database
                .run(&format!("{}: cannot delete the rows of the batch", table.name), &sql)
                .await?;
        }
        Ok(())
    }

    /// SQL that leaves out the rows `t` of a table that others refer to.
    fn but_referred(&self, database: &dyn UndoSql, n: usize, reference: &ShapeReference) -> String {
        let schema = reference.schema.as_deref();
        let refers: Vec<String> = (reference.columns.iter().zip(&reference.to))
            .map(|(from, to)| format!("c.{} = t.{}", quoted(from), quoted(to)))
            .collect();
        // of its own table those that go with it do not count
        let goes = match self.shape.table(schema, &reference.table) == Some(n) {
            true => format!(" AND NOT {}", self.is_deleted(database, n, "c")),
            false => String::new(),
        };
        format!(
            " AND NOT EXISTS (SELECT 1 FROM {} c WHERE {}{goes})",
            database.full(schema, &reference.table),
            refers.join(" AND ")
        )
    }

    /// SQL that is true of the rows of a table, under an alias, that the batch has inserted and that go.
    fn is_deleted(&self, database: &dyn UndoSql, n: usize, alias: &str) -> String {
        format!(
            "EXISTS (SELECT 1 FROM {} d WHERE d.state = 'same' AND d.after <> {GONE} \
             AND d.restores = 0 AND {})",
            found(n),
            at("d", database.place(&self.shape.tables[n], alias))
        )
    }

    /// Deletes the entries that go with their rows.
    async fn delete_entries(&self, database: &mut dyn UndoSql) -> Result<()> {
        let Some(sidecar) = self.shape.sidecar() else { return Ok(()) };
        let full = database.full(sidecar.schema.as_deref(), &sidecar.name);
        let tables = self.shape.tables.iter().enumerate().filter(|(_, t)| !t.entry_key.is_empty());
        for (n, table) in tables {
            let key: Vec<String> = table.entry_key.iter().map(|k| quoted(k)).collect();
            let gone = format!(
                "{} AND t.key NOT IN (SELECT k.key FROM (SELECT {} AS key FROM {} r WHERE NOT {}) k WHERE k.key IS NOT NULL)",
                entries_of(sidecar, table),
                database.key_text(&key, "r"),
                database.full(table.schema.as_deref(), &table.name),
                // some go only later
                self.is_deleted(database, n, "r")
            );
            let places = database.place(sidecar, "t").join(", ");
            let places = format!("SELECT {places} FROM {full} t WHERE {gone}");
            database.about_to_change(sidecar, &places).await?;
            let sql = format!("DELETE FROM {full} AS t WHERE {gone}");
            database.run("cannot delete the entries of the batch", &sql).await?;
        }
        Ok(())
    }

    /// Gives the rows of a table that the batch has changed or deleted their former values.
    async fn restore(
        &self,
        database: &mut dyn UndoSql,
        n: usize,
        table: &ShapeTable,
    ) -> Result<()> {
        let what = format!("{}: cannot restore the rows of the batch", table.name);
        let replaces = database.replaces();
        let insert = self.insert_sql(database, n, table, replaces);
        match self.update_sql(database, n, table).filter(|_| !replaces) {
            Some(update) => self.update(database, n, (&what, &update, &insert)).await?,
            None => drop(database.run(&what, &insert).await?),
        }
        let keys: Vec<String> = table.key.iter().map(|k| was(database, table, *k)).collect();
        let keys = format!("SELECT {} {} AND u.after = {GONE}", keys.join(", "), restored(n));
        database.has_inserted(table, &keys).await
    }

    fn update_sql(&self, database: &dyn UndoSql, n: usize, table: &ShapeTable) -> Option<String> {
        let set: Vec<String> = (table.columns.iter().enumerate())
            .filter(|(n, _)| !table.key.contains(n))
            .map(|(n, column)| format!("{} = {}", quoted(&column.name), was(database, table, n)))
            .collect();
        let place = database.place(table, "t");
        let place: Vec<String> =
            place.iter().enumerate().map(|(n, p)| format!("{p} = f.p{n}")).collect();
        (!set.is_empty()).then(|| {
            format!(
                "UPDATE {} AS t SET {} {} AND {} AND f.after <> {GONE}",
                database.full(table.schema.as_deref(), &table.name),
                set.join(", "),
                restored(n),
                place.join(" AND ")
            )
        })
    }

    /// SQL that inserts the former rows of those that are gone, or of all.
    fn insert_sql(
        &self,
        database: &dyn UndoSql,
        n: usize,
        table: &ShapeTable,
        all: bool,
    ) -> String {
        let full = database.full(table.schema.as_deref(), &table.name);
        let mut values: Vec<String> =
            (0..table.columns.len()).map(|n| was(database, table, n)).collect();
        let mut order = "u.n".to_owned();
        if let Some(rowid) = table.columns.iter().position(|c| c.rowid) {
            // another row may have got the number since: such rows get the next one, behind all others
            let (name, was) = (quoted(&table.columns[rowid].name), &values[rowid]);
            let free =
                format!("CASE WHEN {was} IN (SELECT {name} FROM {full}) THEN NULL ELSE {was} END");
            order = format!("{free} IS NULL, u.n");
            values[rowid] = free;
        }
        let names: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
        format!(
            "INSERT INTO {full} ({}) {}SELECT {} {}{} ORDER BY {order}",
            names.join(", "),
            database.overriding(),
            values.join(", "),
            restored(n),
            if all { String::new() } else { format!(" AND u.after = {GONE}") }
        )
    }

    /// Makes sure that the restored rows of a table are what they were.
    async fn prove(&self, database: &mut dyn UndoSql, n: usize, table: &ShapeTable) -> Result<()> {
        let what = format!("{}: cannot read back the restored rows", table.name);
        let full = database.full(table.schema.as_deref(), &table.name);
        if table.key.is_empty() {
            return Ok(());
        }
        let shown = || (0..table.columns.len()).filter(|n| !table.columns[*n].rowid);
        let column = |n: usize| format!("t.{}", quoted(&table.columns[n].name));
        let same: Vec<String> = (table.key.iter())
            .map(|k| format!("{} = {}", column(*k), was(database, table, *k)))
            .collect();
        let known: Vec<String> =
            table.key.iter().map(|k| format!("u.was{k} IS NOT NULL")).collect();
        let now: Vec<String> = shown().map(column).collect();
        let then: Vec<String> = shown().map(|n| was(database, table, n)).collect();
        let sql = format!(
            "SELECT count(*) FROM {} u JOIN {} f ON f.n = u.n LEFT JOIN {full} t ON {} \
             WHERE f.state = 'same' AND u.restores = 1 AND {} AND ({} IS NULL OR {} <> {})",
            staged(n),
            found(n),
            same.join(" AND "),
            known.join(" AND "),
            database.place(table, "t")[0],
            database.fingerprint(&now),
            database.fingerprint(&then)
        );
        match count(database, &what, &sql).await? {
            0 => Ok(()),
            rows => Err(Error::new(
                Code::Readback,
                format!(
                    "{}: {rows} restored rows are not what they were; nothing was changed",
                    table.name
                ),
            )
            .hint("a column, a rule or a trigger of the table changes what is written")),
        }
    }
}

/// SQL for the former value of a column of a staged row.
pub(super) fn was(database: &dyn UndoSql, table: &ShapeTable, column: usize) -> String {
    database.cast(&format!("u.was{column}"), &table.columns[column].ty)
}

/// What follows the columns of a query for the rows of a table that are restored.
fn restored(n: usize) -> String {
    format!(
        "FROM {} u JOIN {} f ON f.n = u.n WHERE f.state = 'same' AND u.restores = 1",
        staged(n),
        found(n)
    )
}

fn place_list(width: usize) -> String {
    (0..width).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ")
}
