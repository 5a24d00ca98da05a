//! Taking a batch back, second part: deleting what it inserted, restoring what it changed, and proving that.

use super::sql::count;
use super::take_back::{
    TakeBack, former_value, found, has_changed, numbered, place_list, staged, was,
};
use super::{GONE, ShapeTable, UndoSql, entries_of, quoted};
use crate::error::{Code, Error, Result};
use crate::fault;

impl TakeBack {
    /// Takes back what is as the batch left it.
    ///
    /// # Errors
    /// If the database refuses a row, or does not hold afterwards what it should.
    pub async fn apply(&self, database: &mut dyn UndoSql) -> Result<()> {
        fault::point("rollback: before rows are deleted")?;
        let rows = |n: usize, table: &ShapeTable, database: &dyn UndoSql, restores: u8| {
            let places = place_list(database.place(table, "t").len());
            let these = format!("state = 'same' AND after <> {GONE} AND restores = {restores}");
            format!("SELECT {places} FROM {} WHERE {these}", found(n))
        };
        for (n, table) in self.shape.tables.iter().enumerate() {
            let (gone, changed) = (rows(n, table, database, 0), rows(n, table, database, 1));
            database.about_to_delete(table, &gone).await?;
            database.about_to_change(table, &changed).await?;
        }
        // children first, so that no reference is broken at any moment
        for (n, table) in self.shape.tables.iter().enumerate().rev() {
            let what = format!("{}: cannot delete the rows of the batch", table.name);
            let gone = rows(n, table, database, 0);
            database.delete(&what, table, &gone).await?;
        }
        self.delete_entries(database).await?;
        fault::point("rollback: after rows are deleted")?;
        for (n, table) in self.shape.tables.iter().enumerate() {
            fault::point("rollback: before a table is restored")?;
            self.restore(database, n, table).await?;
            self.prove(database, n, table).await?;
            fault::point("rollback: after a table is restored")?;
        }
        Ok(())
    }

    /// Deletes the entries that go with their rows.
    async fn delete_entries(&self, database: &mut dyn UndoSql) -> Result<()> {
        let Some(sidecar) = self.shape.sidecar() else { return Ok(()) };
        let full = database.full(sidecar.schema.as_deref(), &sidecar.name);
        for table in self.shape.tables.iter().filter(|t| !t.entry_key.is_empty()) {
            let key: Vec<String> = table.entry_key.iter().map(|k| quoted(k)).collect();
            let gone = format!(
                "{} AND t.key NOT IN (SELECT k.key FROM (SELECT {} AS key FROM {} r) k WHERE k.key IS NOT NULL)",
                entries_of(sidecar, table),
                database.key_text(&key, "r"),
                database.full(table.schema.as_deref(), &table.name)
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
        if let Some(sql) = self.update_sql(database, n, table)
            && !database.run_unless_taken(&what, &sql).await?
        {
            match database.replaces() {
                true => self.replace(database, n, table, &what).await?,
                false => self.update(database, n, (&what, &sql)).await?,
            }
        }
        let values = (0..table.columns.len()).map(|n| was(database, table, n)).collect();
        let from = format!("{} AND u.after = {GONE}", restored(n));
        let sql = insert_sql(database, table, values, &from);
        database.run(&what, &sql).await?;
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
