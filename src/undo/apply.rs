//! Taking a batch back, second part: deleting what it inserted, restoring what it changed, and proving that.

use super::sql::count;
use super::take_back::{
    TakeBack, at, former_value, found, has_changed, numbered, place_list, staged, was,
};
use super::{GONE, ShapeReference, ShapeTable, UndoSql, delete_sql, entries_of, quoted};
use crate::error::{Code, Error, Result};
use crate::fault;

/// When rows are deleted that a batch has inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the others are restored.
    Before,
    /// After that.
    After,
}

impl TakeBack {
    /// Takes back what is as the batch left it.
    ///
    /// # Errors
    /// If the database refuses a row, or does not hold afterwards what it should.
    pub async fn apply(&self, database: &mut dyn UndoSql) -> Result<()> {
        fault::point("rollback: before rows are deleted")?;
        let tables = self.shape.tables.iter().enumerate();
        let inserted = tables.map(|(n, table)| (table, written(database, n, table, 0)));
        let inserted: Vec<(&ShapeTable, String)> = inserted.collect();
        database.about_to_delete(&inserted).await?;
        for (n, table) in self.shape.tables.iter().enumerate() {
            let changed = written(database, n, table, 1);
            database.about_to_change(table, &changed).await?;
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
            let what = format!("{}: cannot delete the rows of the batch", table.name);
            let inserted = written(database, n, table, 0);
            if replaces || when == When::After {
                database.delete(&what, table, &inserted).await?;
                continue;
            }
            let mut sql = delete_sql(database, table, &inserted);
            for reference in &table.referred {
                sql.push_str(&self.but_referred(database, n, reference));
            }
            database.run(&what, &sql).await?;
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
            let gone = self.is_implied(database, sidecar, (n, table));
            let places = database.place(sidecar, "t").join(", ");
            let places = format!("SELECT {places} FROM {full} t WHERE {gone}");
            database.about_to_change(sidecar, &places).await?;
            let sql = format!("DELETE FROM {full} AS t WHERE {gone}");
            database.run("cannot delete the entries of the batch", &sql).await?;
        }
        Ok(())
    }

    /// SQL that is true of the entries `t` that go with the rows of a table.
    pub(super) fn is_implied(
        &self,
        database: &dyn UndoSql,
        sidecar: &ShapeTable,
        (n, table): (usize, &ShapeTable),
    ) -> String {
        let key: Vec<String> = table.entry_key.iter().map(|k| quoted(k)).collect();
        format!(
            "{} AND t.key NOT IN (SELECT k.key FROM (SELECT {} AS key FROM {} r WHERE NOT {}) k WHERE k.key IS NOT NULL)",
            entries_of(sidecar, table),
            database.key_text(&key, "r"),
            database.full(table.schema.as_deref(), &table.name),
            // some go only later
            self.is_deleted(database, n, "r")
        )
    }

    /// Gives the rows of a table that the batch has changed or deleted their former values.
    async fn restore(
        &self,
        database: &mut dyn UndoSql,
        n: usize,
        table: &ShapeTable,
    ) -> Result<()> {
        let what = format!("{}: cannot restore the rows of the batch", table.name);
        let values = (0..table.columns.len()).map(|n| was(database, table, n)).collect();
        let from = format!("{} AND u.after = {GONE}", restored(n));
        let insert = insert_sql(database, table, values, &from);
        match self.update_sql(database, n, table) {
            Some(update) if !database.replaces() => {
                self.update(database, n, (&what, &update, &insert)).await?;
            }
            Some(update) => {
                if !database.run_unless_refused(&what, &update).await? {
                    self.replace(database, n, table, &what).await?;
                }
                database.run(&what, &insert).await?;
            }
            None => drop(database.run(&what, &insert).await?),
        }
        let keys: Vec<String> = table.key.iter().map(|k| was(database, table, *k)).collect();
        let keys = format!("SELECT {} {from}", keys.join(", "));
        database.has_inserted(table, &keys).await
    }

    /// SQL that gives rows their former values in the columns that the batch has changed.
    fn update_sql(&self, database: &dyn UndoSql, n: usize, table: &ShapeTable) -> Option<String> {
        let changed = (table.columns.iter().enumerate()).filter(|(c, _)| self.changed[n][*c]);
        let set: Vec<String> = changed
            .map(|(c, column)| {
                format!("{} = {}", quoted(&column.name), former_value(database, table, c, "t"))
            })
            .collect();
        (!set.is_empty()).then(|| {
            format!(
                "UPDATE {} AS t SET {} {} AND {} AND f.after <> {GONE}",
                database.full(table.schema.as_deref(), &table.name),
                set.join(", "),
                restored(n),
                is_at(database, table)
            )
        })
    }

    /// Restores changed rows that are in each other's way: all are deleted before they are inserted again.
    async fn replace(
        &self,
        database: &mut dyn UndoSql,
        n: usize,
        table: &ShapeTable,
        what: &str,
    ) -> Result<()> {
        let full = database.full(table.schema.as_deref(), &table.name);
        let former: Vec<String> = (0..table.columns.len())
            .map(|c| format!("{} AS was{c}", former_value(database, table, c, "t")))
            .collect();
        let place = database.place(table, "t");
        let rows = format!("state = 'same' AND restores = 1 AND after <> {GONE}");
        let keep = format!(
            "CREATE TEMPORARY TABLE undo_former_{n} AS SELECT u.n AS n, {} \
             FROM {} u JOIN {} f ON f.n = u.n JOIN {full} t ON {} WHERE f.{rows}",
            former.join(", "),
            staged(n),
            found(n),
            is_at(database, table),
            rows = rows.replace(" AND ", " AND f."),
        );
        database.run(what, &keep).await?;
        let delete = format!(
            "DELETE FROM {full} AS t WHERE ({}) IN (SELECT {} FROM {} WHERE {rows})",
            place.join(", "),
            place_list(place.len()),
            found(n)
        );
        database.run(what, &delete).await?;
        let values = numbered("u.was", table.columns.len());
        let sql = insert_sql(database, table, values, &format!("FROM undo_former_{n} u"));
        database.run(what, &sql).await.map(|_| ())
    }

    /// Makes sure that the restored rows of a table are what they were.
    async fn prove(&self, database: &mut dyn UndoSql, n: usize, table: &ShapeTable) -> Result<()> {
        let what = format!("{}: cannot read back the restored rows", table.name);
        let full = database.full(table.schema.as_deref(), &table.name);
        if table.key.is_empty() {
            return Ok(());
        }
        let column = |n: usize| format!("t.{}", quoted(&table.columns[n].name));
        let key = |(n, k): (usize, &usize)| {
            let now = database.cast(&format!("u.key{n}"), &table.columns[*k].ty);
            format!(
                "CASE WHEN {} THEN {} ELSE {now} END",
                has_changed(*k),
                was(database, table, *k)
            )
        };
        let keys: Vec<String> = table.key.iter().enumerate().map(key).collect();
        let same: Vec<String> =
            table.key.iter().zip(&keys).map(|(k, key)| format!("{} = {key}", column(*k))).collect();
        let known: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        let now: Vec<String> =
            (0..table.columns.len()).filter(|n| !table.columns[*n].rowid).map(column).collect();
        let sql = format!(
            "SELECT count(*) FROM {} u JOIN {} f ON f.n = u.n LEFT JOIN {full} t ON {} \
             WHERE f.state = 'same' AND u.restores = 1 AND {} AND ({} IS NULL OR {} <> f.former)",
            staged(n),
            found(n),
            same.join(" AND "),
            known.join(" AND "),
            database.place(table, "t")[0],
            database.fingerprint(&now)
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

/// SQL that is true of the row `t` that was found as `f`.
fn is_at(database: &dyn UndoSql, table: &ShapeTable) -> String {
    let place = database.place(table, "t");
    let same = place.iter().enumerate().map(|(n, place)| format!("{place} = f.p{n}"));
    same.collect::<Vec<_>>().join(" AND ")
}

/// SQL that inserts rows `u`, in the order of their numbers.
fn insert_sql(
    database: &dyn UndoSql,
    table: &ShapeTable,
    mut values: Vec<String>,
    from: &str,
) -> String {
    let full = database.full(table.schema.as_deref(), &table.name);
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
        "INSERT INTO {full} ({}) {}SELECT {} {from} ORDER BY {order}",
        names.join(", "),
        database.overriding(),
        values.join(", ")
    )
}

/// What follows the columns of a query for the rows of a table that are restored.
fn restored(n: usize) -> String {
    format!(
        "FROM {} u JOIN {} f ON f.n = u.n WHERE f.state = 'same' AND u.restores = 1",
        staged(n),
        found(n)
    )
}

/// A query for the places of the rows of a table that the batch has written and that are still there: those that it has
/// inserted, or (1) those that it has changed.
fn written(database: &dyn UndoSql, n: usize, table: &ShapeTable, restores: u8) -> String {
    format!(
        "SELECT {} FROM {} WHERE state = 'same' AND after <> {GONE} AND restores = {restores}",
        place_list(database.place(table, "t").len()),
        found(n)
    )
}
