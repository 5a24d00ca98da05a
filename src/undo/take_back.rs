//! Taking a batch back, first part: finding its rows as it left them, in sets and by the database.

use std::collections::BTreeSet;

use super::receipts::{CHANGED, no_shape};
use super::sql::count;
use super::{
    GONE, Group, Receipts, ReceiptsReader, Shape, ShapeReference, ShapeTable, Standing,
    TableStanding, Taken, UndoSql, UniqueColumns, quoted,
};
use crate::error::{Code, Error, Result};
use crate::load::SAMPLES;
use chronicle_archive::{Batch, Value};

/// Stages the receipts of a batch and finds out what can be taken back. Other batches have brought rows into the tables
/// of `described`: what is stored about their columns stays.
///
/// # Errors
/// Damaged receipts, a table that was changed since, or a query that fails.
pub async fn take_back(
    database: &mut dyn UndoSql,
    mut receipts: ReceiptsReader,
    described: &[String],
) -> Result<(TakeBack, Standing)> {
    let is_in_groups = receipts.is_in_groups();
    let mut back = TakeBack::new(receipts.shape.clone());
    back.require_shape(database).await?;
    for (n, table) in back.shape.tables.iter().enumerate() {
        let (keys, was) = (table.key.len(), table.columns.len());
        let keys = numbered("key", keys);
        let texts = [vec!["changed".to_owned()], keys.clone(), numbered("was", was)].concat();
        database.stage(&staged(n), &["n", "restores", "after"], &texts).await?;
        database.stage(&referred(n), &["rows", "reference"], &keys).await?;
    }
    back.stage(database, &mut receipts).await?;
    for (n, table) in back.shape.tables.iter().enumerate() {
        let keys = numbered("key", table.key.len());
        database.index(&staged(n), "n").await?;
        database.index(&referred(n), &[vec!["reference".into()], keys].concat().join(", ")).await?;
    }
    for n in 0..back.shape.tables.len() {
        if is_in_groups {
            back.drop_replaced(database, n).await?;
        }
        back.find(database, n).await?;
    }
    while back.mark_referred(database).await? {}
    back.free_keys(database).await?;
    for table in &back.shape.tables {
        back.unique.push(database.unique(table).await?);
    }
    back.complete(database).await?;
    // what cannot come back stays, and so does what it refers to, which may be in the way of others
    while back.mark_taken(database).await? {
        while back.mark_referred(database).await? {}
    }
    back.keep_descriptions(database, described).await?;
    let standing = back.standing(database).await?;
    Ok((back, standing))
}

/// A batch whose rows were found.
pub struct TakeBack {
    /// What it has touched.
    pub shape: Shape,
    /// Of every table, which columns the batch has changed in any row that it has not deleted.
    pub(super) changed: Vec<Vec<bool>>,
    /// What the tables keep unique, beside their keys.
    pub(super) unique: Vec<Vec<UniqueColumns>>,
    /// Of every table, the unique columns whose former values other rows have.
    pub(super) taken: Vec<BTreeSet<String>>,
}

/// The temporary table of the receipts of a table.
pub(super) fn staged(table: usize) -> String {
    format!("undo_receipts_{table}")
}

/// Stages a row behind its number: whether it is restored, its fingerprint, which of its columns have changed, its key,
/// and what it was.
fn stage_row<'a>(
    out: &mut Batch,
    kind: Receipts,
    table: &ShapeTable,
    all: &'a [u8],
    value: impl Fn(usize) -> Value<'a>,
) {
    let (keys, was) = (table.key.len(), table.columns.len());
    match kind {
        Receipts::Changed(_) => {
            out.push(Value::Int(1));
            (0..2 + keys + was).for_each(|c| out.push(value(c)));
        }
        Receipts::Deleted(_) => {
            [Value::Int(1), Value::Int(GONE), Value::Text(all)]
                .into_iter()
                .for_each(|first| out.push(first));
            table.key.iter().for_each(|k| out.push(value(*k)));
            (0..was).for_each(|c| out.push(value(c)));
        }
        Receipts::Inserted(_) | Receipts::Referred(_) => {
            [Value::Int(0), value(0), Value::Null].into_iter().for_each(|first| out.push(first));
            (1..=keys).for_each(|c| out.push(value(c)));
            (0..was).for_each(|_| out.push(Value::Null));
        }
    }
}

/// Names of columns: a prefix and a number.
pub(super) fn numbered(prefix: &str, width: usize) -> Vec<String> {
    (0..width).map(|n| format!("{prefix}{n}")).collect()
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
        let changed = shape.tables.iter().map(|table| vec![false; table.columns.len()]).collect();
        TakeBack { shape, changed, unique: Vec::new(), taken }
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

    async fn stage(
        &mut self,
        database: &mut dyn UndoSql,
        receipts: &mut ReceiptsReader,
    ) -> Result<()> {
        let (mut rows, mut out, mut number) = (Batch::default(), Batch::default(), 0);
        while let Some(kind) = receipts.next(&mut rows)? {
            let (Receipts::Inserted(n)
            | Receipts::Changed(n)
            | Receipts::Referred(n)
            | Receipts::Deleted(n)) = kind;
            let table = self.shape.tables.get(n).ok_or_else(no_shape)?;
            if matches!(kind, Receipts::Referred(_)) {
                database.insert(&referred(n), &rows).await?;
                continue;
            }
            let all = vec![CHANGED; table.columns.len()];
            out.start(0, 4 + table.key.len() + table.columns.len(), 1);
            for row in 0..rows.rows() {
                number += 1;
                out.push(Value::Int(number));
                stage_row(&mut out, kind, table, &all, |c| rows.value(row, c));
                let is_there = rows.value(row, 0) != Value::Int(GONE);
                if let (Receipts::Changed(_), true, Value::Text(changed)) =
                    (kind, is_there, rows.value(row, 1))
                {
                    let any = self.changed[n].iter_mut().zip(changed);
                    any.for_each(|(any, changed)| *any |= *changed == CHANGED);
                }
            }
            database.insert(&staged(n), &out).await?;
        }
        Ok(())
    }

    /// Drops what one group of the batch has noted about a row that a later one has inserted again: somebody had deleted
    /// it in between.
    async fn drop_replaced(&self, database: &mut dyn UndoSql, n: usize) -> Result<()> {
        let (staged, width) = (staged(n), self.shape.tables[n].key.len());
        if width == 0 {
            return Ok(());
        }
        let keys = numbered("key", width).join(", ");
        let same: Vec<String> = (0..width).map(|k| format!("u.key{k} = b.key{k}")).collect();
        let sql = format!(
            "DELETE FROM {staged} WHERE n IN (SELECT u.n FROM {staged} u JOIN \
               (SELECT {keys}, max(n) AS n FROM {staged} WHERE restores = 0 GROUP BY {keys}) b \
               ON {} WHERE u.n < b.n AND u.after <> {GONE})",
            same.join(" AND ")
        );
        database.run("cannot look for rows that were inserted again", &sql).await?;
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
        let now: Vec<String> =
            table.columns.iter().map(|c| format!("t.{}", quoted(&c.name))).collect();
        let now = database.fingerprint(&table.content(&now));
        let former = (0..table.columns.len()).filter(|n| !table.columns[*n].rowid);
        let former: Vec<String> = former.map(|n| former_value(database, table, n, "t")).collect();
        let former = database.fingerprint(&former);
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
        let columns = format!(
            "u.n AS n, u.restores AS restores, u.after AS after, {places}, CASE \
             WHEN u.after = {GONE} THEN CASE WHEN {first} IS NULL THEN 'same' ELSE 'edited' END \
             WHEN {first} IS NULL THEN 'edited' WHEN {now} = u.after THEN 'same' \
             ELSE 'edited' END AS state, CASE WHEN u.restores = 1 THEN {former} END AS former"
        );
        let from = format!("{staged} u LEFT JOIN {full} t ON {same} WHERE {known}");
        database.find(WHAT, table, &found, (&columns, &from)).await?;
        let unkeyed = format!("SELECT count(*) FROM {staged} u WHERE NOT ({known})");
        if count(database, WHAT, &unkeyed).await? > 0 {
            let numbers: Vec<String> = (0..place.len()).map(|n| format!("t.p{n}")).collect();
            let numbers = numbers.join(", ");
            let sql = format!(
                "INSERT INTO {found} SELECT u.n, u.restores, u.after, {numbers}, \
                 CASE WHEN u.after <> {GONE} AND t.p0 IS NULL THEN 'edited' ELSE 'same' END, NULL FROM \
                 (SELECT u.n, u.restores, u.after, row_number() OVER (PARTITION BY u.after ORDER BY u.n) AS r \
                    FROM {staged} u WHERE NOT ({known})) u LEFT JOIN \
                 (SELECT i.*, row_number() OVER (PARTITION BY i.now ORDER BY i.p0 DESC) AS r \
                    FROM (SELECT {places}, {now} AS now FROM {full} t) i) t \
                 ON t.now = u.after AND t.r = u.r"
            );
            database.run(WHAT, &sql).await?;
        }
        database.index(&found, &place_list(place.len())).await?;
        // each of the staged rows is among them
        let all =
            format!("SELECT (SELECT count(*) FROM {found}) - (SELECT count(*) FROM {staged})");
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
                if self.all_go(database, reference).await? {
                    continue;
                }
                let sql = self.referred_sql(database, n, table, (number, reference));
                any |=
                    database.run("cannot look for rows that refer to the batch", &sql).await? > 0;
            }
        }
        Ok(any)
    }

    /// Whether all rows of the table that refers are the batch's and as it left them: then none of them stays and refers.
    async fn all_go(&self, database: &mut dyn UndoSql, reference: &ShapeReference) -> Result<bool> {
        let schema = reference.schema.as_deref();
        let Some(child) = self.shape.table(schema, &reference.table) else { return Ok(false) };
        let sql = format!(
            "SELECT (SELECT count(*) FROM {}) - (SELECT count(*) FROM {} WHERE state = 'same' AND after <> {GONE})",
            database.full(schema, &reference.table),
            found(child)
        );
        let rows = database.rows("cannot look for rows that refer to the batch", &sql).await?;
        Ok(rows.first().and_then(|row| row[0].as_deref()) == Some("0"))
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

    pub(super) async fn standing(&self, database: &mut dyn UndoSql) -> Result<Standing> {
        const WHAT: &str = "cannot count the rows of the batch";
        let mut standing = Standing::default();
        for (n, table) in self.shape.tables.iter().enumerate() {
            let done = format!(
                "CASE WHEN restores = 0 THEN 'inserted' WHEN after = {GONE} THEN 'deleted' \
                 ELSE 'updated' END"
            );
            let sql = format!(
                "SELECT {done}, count(*) FROM {} WHERE state = 'same' GROUP BY {done}",
                found(n)
            );
            let counted = database.rows(WHAT, &sql).await?;
            let same = |done: &str| {
                let row = counted.iter().find(|row| row[0].as_deref() == Some(done));
                row.and_then(|row| row[1].as_ref()?.parse().ok()).unwrap_or(0)
            };
            standing.tables.push(TableStanding {
                table: table.name.clone(),
                own: table.own_rows(),
                inserted: same("inserted") + self.implied_entries(database, table).await?,
                updated: same("updated"),
                deleted: same("deleted"),
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

    /// The entries that go with their rows, which no receipt lists.
    async fn implied_entries(
        &self,
        database: &mut dyn UndoSql,
        sidecar: &ShapeTable,
    ) -> Result<u64> {
        let mut entries = 0;
        let of_rows = |(_, table): &(usize, &ShapeTable)| !table.entry_key.is_empty();
        let tables = self.shape.tables.iter().enumerate().filter(of_rows);
        for of in tables.filter(|_| sidecar.is_sidecar()) {
            let full = database.full(sidecar.schema.as_deref(), &sidecar.name);
            let gone = self.is_implied(database, sidecar, of);
            let sql = format!("SELECT count(*) FROM {full} t WHERE {gone}");
            entries += count(database, "cannot count the entries of the batch", &sql).await?;
        }
        Ok(entries)
    }

    async fn group(&self, database: &mut dyn UndoSql, n: usize, state: &str) -> Result<Group> {
        const WHAT: &str = "cannot list the rows of the batch";
        let (found, staged) = (found(n), staged(n));
        let rows =
            count(database, WHAT, &format!("SELECT count(*) FROM {found} WHERE state = '{state}'"))
                .await?;
        if rows == 0 {
            return Ok(Group::default());
        }
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
}

/// SQL for the former value of a column of a staged row.
pub(super) fn was(database: &dyn UndoSql, table: &ShapeTable, column: usize) -> String {
    database.cast(&format!("u.was{column}"), &table.columns[column].ty)
}

/// SQL that is true if the batch has changed a column of a staged row.
pub(super) fn has_changed(column: usize) -> String {
    format!("substr(u.changed, {}, 1) = '1'", column + 1)
}

/// SQL for what a column of a row held before the batch: the row is there, but for one that the batch has deleted.
pub(super) fn former_value(
    database: &dyn UndoSql,
    table: &ShapeTable,
    column: usize,
    row: &str,
) -> String {
    format!(
        "CASE WHEN {} THEN {} ELSE {row}.{} END",
        has_changed(column),
        was(database, table, column),
        quoted(&table.columns[column].name)
    )
}

pub(super) fn place_list(width: usize) -> String {
    (0..width).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ")
}
