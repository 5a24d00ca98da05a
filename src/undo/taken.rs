//! Rows of a batch that cannot come back: other rows have their unique values now, or what they refer to does not come back
//! itself. And the order in which rows get their former unique values from each other.

use std::collections::BTreeSet;

use super::take_back::{TakeBack, at, found, has_changed, staged, was};
use super::{GONE, ShapeReference, ShapeTable, UndoSql, quoted};
use crate::error::{Code, Error, Result};

const WHAT: &str = "cannot look for rows that are in the way of the batch's";

impl TakeBack {
    /// Gives staged rows the values of unique columns that have not changed, where others of the same key have.
    pub(super) async fn complete(&self, database: &mut dyn UndoSql) -> Result<()> {
        for (n, table) in self.shape.tables.iter().enumerate() {
            let place = |name: &str| table.columns.iter().position(|c| c.name == name);
            let key: Vec<usize> = table.key.clone();
            let unique = self.unique[n].iter();
            let unique = unique.map(|u| u.iter().filter_map(|(name, _)| place(name)).collect());
            let keys = std::iter::once(key).chain(unique);
            let partly = keys.filter(|key: &Vec<usize>| {
                key.len() > 1 && key.iter().any(|column| self.changed[n][*column])
            });
            for column in partly.flatten().collect::<BTreeSet<usize>>() {
                let value = database.text(&format!("t.{}", quoted(&table.columns[column].name)));
                let sql = format!(
                    "UPDATE {0} AS u SET was{column} = (SELECT {value} FROM {1} f JOIN {2} t ON {3} \
                     WHERE f.n = u.n) WHERE u.restores = 1 AND u.after <> {GONE} AND NOT ({4})",
                    staged(n),
                    found(n),
                    database.full(table.schema.as_deref(), &table.name),
                    at("f", database.place(table, "t")),
                    has_changed(column)
                );
                database.run(WHAT, &sql).await?;
            }
        }
        Ok(())
    }

    /// Marks rows that cannot come back; whether there were any more.
    pub(super) async fn mark_taken(&mut self, database: &mut dyn UndoSql) -> Result<bool> {
        let mut any = false;
        for n in 0..self.shape.tables.len() {
            for (columns, same) in self.unique_values(database, n) {
                let sql = self.taken_sql(database, n, &same);
                if database.run(WHAT, &sql).await? > 0 {
                    any = true;
                    self.taken[n].extend(columns);
                }
            }
        }
        for (n, table) in self.shape.tables.iter().enumerate() {
            for reference in &table.referred {
                if let Some(sql) = self.missing_sql(database, n, table, reference) {
                    any |= database.run(WHAT, &sql).await? > 0;
                }
            }
        }
        Ok(any)
    }

    /// What a table keeps unique, its key among it: the names of the columns, and SQL that is true where a row `t` has the
    /// former values of a staged row `u`, if these have changed.
    pub(super) fn unique_values(
        &self,
        database: &dyn UndoSql,
        n: usize,
    ) -> Vec<(Vec<String>, String)> {
        let table = &self.shape.tables[n];
        let place = |name: &str| table.columns.iter().position(|c| !c.rowid && c.name == name);
        let key: Vec<(String, String)> =
            table.key.iter().map(|k| (table.columns[*k].name.clone(), String::new())).collect();
        let all = std::iter::once(&key).filter(|key| !key.is_empty()).chain(&self.unique[n]);
        let values = all.filter_map(|unique| {
            let same = unique.iter().map(|(name, collation)| {
                let was = was(database, table, place(name)?);
                Some(format!("t.{} = {was}{collation}", quoted(name)))
            });
            let same: Vec<String> = same.collect::<Option<_>>()?;
            Some((unique.iter().map(|(name, _)| name.clone()).collect(), same.join(" AND ")))
        });
        values.collect()
    }

    /// SQL that marks the rows to be restored whose unique values a row has that stays as it is.
    fn taken_sql(&self, database: &dyn UndoSql, n: usize, same: &str) -> String {
        let table = &self.shape.tables[n];
        format!(
            "UPDATE {0} SET state = 'taken' WHERE state = 'same' AND restores = 1 AND n IN (\
             SELECT u.n FROM {1} u JOIN {0} f ON f.n = u.n JOIN {2} t ON {same} \
             WHERE f.state = 'same' AND f.restores = 1 AND {3})",
            found(n),
            staged(n),
            database.full(table.schema.as_deref(), &table.name),
            self.stays(database, n)
        )
    }

    /// SQL that is true of the rows `t` of a table that are not deleted or restored.
    pub(super) fn stays(&self, database: &dyn UndoSql, n: usize) -> String {
        format!(
            "NOT EXISTS (SELECT 1 FROM {} g WHERE g.state = 'same' AND g.after <> {GONE} AND {})",
            found(n),
            at("g", database.place(&self.shape.tables[n], "t"))
        )
    }

    /// SQL that marks the rows to be restored which refer to deleted rows of a table that do not come back.
    fn missing_sql(
        &self,
        database: &dyn UndoSql,
        n: usize,
        table: &ShapeTable,
        reference: &ShapeReference,
    ) -> Option<String> {
        let child = self.shape.table(reference.schema.as_deref(), &reference.table)?;
        let place = |table: &ShapeTable, name: &str| {
            table.columns.iter().position(|c| !c.rowid && c.name == name)
        };
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for (from, to) in reference.columns.iter().zip(&reference.to) {
            let (from, to) = (place(&self.shape.tables[child], from)?, place(table, to)?);
            let ty = &table.columns[to].ty;
            let refers = database.cast(&format!("u.was{from}"), ty);
            gone.push(format!("{} = {refers}", database.cast(&format!("p.was{to}"), ty)));
            there.push(format!("t.{} = {refers}", quoted(&table.columns[to].name)));
        }
        Some(format!(
            "UPDATE {0} SET state = 'taken' WHERE state = 'same' AND restores = 1 AND n IN (\
             SELECT u.n FROM {1} u JOIN {2} p ON {3} JOIN {4} d ON d.n = p.n \
             WHERE u.restores = 1 AND d.after = {GONE} AND d.state = 'taken' \
             AND NOT EXISTS (SELECT 1 FROM {5} t WHERE {6} AND {7}))",
            found(child),
            staged(child),
            staged(n),
            gone.join(" AND "),
            found(n),
            database.full(table.schema.as_deref(), &table.name),
            there.join(" AND "),
            self.stays(database, n)
        ))
    }

    /// Gives the changed rows of a table their former values, by a statement that ends in a condition on rows `f`, one
    /// after the other where a row has a unique value now that another one gets. Deleted rows are inserted together with
    /// the last ones: they may have their unique values, and each may refer to the other.
    pub(super) async fn update(
        &self,
        database: &mut dyn UndoSql,
        n: usize,
        (what, sql, insert): (&str, &str, &str),
    ) -> Result<()> {
        let table = &self.shape.tables[n];
        let full = database.full(table.schema.as_deref(), &table.name);
        let has_changed = |name: &String| {
            let place = table.columns.iter().position(|c| c.name == *name);
            place.is_some_and(|column| self.changed[n][column])
        };
        let unique = self.unique_values(database, n).into_iter();
        let unique = unique.filter(|(columns, _)| columns.iter().any(has_changed));
        let holds = unique.map(|(_, same)| {
            format!(
                "SELECT u.n FROM {} u JOIN {1} f ON f.n = u.n JOIN {full} t ON {same} \
                 JOIN {1} g ON {2} WHERE f.state = 'same' AND f.restores = 1 AND f.after <> {GONE} \
                 AND g.state = 'same' AND g.restores = 1 AND g.after <> {GONE} AND g.n <> u.n",
                staged(n),
                found(n),
                at("g", database.place(table, "t"))
            )
        });
        let waiting = holds.collect::<Vec<_>>().join(" UNION ALL ");
        let (mut round, mut gave_up, mut is_circle) = (1, false, false);
        while !waiting.is_empty() {
            if super::sql::count(database, WHAT, &format!("SELECT count(*) FROM ({waiting}) w"))
                .await?
                == 0
            {
                break;
            }
            round += 1;
            let next = format!(
                "UPDATE {} SET restores = {round} WHERE state = 'same' AND restores = 1 \
                 AND after <> {GONE} AND n NOT IN ({waiting})",
                found(n)
            );
            if database.run(WHAT, &next).await? == 0 {
                // in a circle none can be the first
                if gave_up || !self.give_up_values(database, n).await? {
                    is_circle = true;
                    break;
                }
                (round, gave_up) = (round - 1, true);
                continue;
            }
            database.run(what, &format!("{sql} AND f.restores = {round}")).await?;
        }
        // what is inserted beside an update comes behind it, and references are checked when both are done
        let both = format!("WITH put AS ({insert} RETURNING 1) {sql} AND f.restores = 1");
        if !is_circle {
            return database.run(what, &both).await.map(|_| ());
        }
        // a deferrable constraint looks only when the statement has ended
        match database.run_unless_refused(what, &both).await? {
            true => Ok(()),
            false => Err(self.circle(database, n, &waiting).await?),
        }
    }

    /// The error of rows that have each other's former unique values, and can give none of them up.
    async fn circle(&self, database: &mut dyn UndoSql, n: usize, waiting: &str) -> Result<Error> {
        let table = &self.shape.tables[n];
        let keys: Vec<String> = (0..table.key.len()).map(|n| format!("key{n}")).collect();
        let keys = if keys.is_empty() { vec!["n".to_owned()] } else { keys };
        let sql = format!(
            "SELECT DISTINCT {} FROM {} o JOIN ({waiting}) w ON w.n = o.n ORDER BY 1 LIMIT 2",
            database.key_text(&keys, "o"),
            staged(n)
        );
        let rows = database.rows(WHAT, &sql).await?.into_iter();
        let rows: Vec<String> = rows.filter_map(|row| row.into_iter().next().flatten()).collect();
        let rows = rows.join("; ");
        let what = format!(
            "{}: rows have each other's former unique values, and a rule of the table lets none of them take \
             another value for a moment: {rows}; nothing was changed",
            table.name
        );
        Ok(Error::new(Code::Conflict, what).hint(
            "give one of these rows another unique value by hand, then undo the rest with --force",
        ))
    }

    /// Has the changed rows of a table give up unique values that others get, for values that nobody has; whether any
    /// did. The places of these rows are noted anew.
    async fn give_up_values(&self, database: &mut dyn UndoSql, n: usize) -> Result<bool> {
        let table = &self.shape.tables[n];
        let full = database.full(table.schema.as_deref(), &table.name);
        let place = database.place(table, "t");
        let (mut set, mut get) = (Vec::new(), Vec::new());
        for (n, place) in place.iter().enumerate() {
            set.push(format!("p{n} = moved.p{n}"));
            get.push(format!("{place} AS p{n}"));
        }
        let mut any = false;
        for (columns, same) in self.unique_values(database, n) {
            // what refers to a value would follow
            let is_free = |c: &usize| {
                let name = &table.columns[*c].name;
                columns.contains(name)
                    && self.changed[n][*c]
                    && !table.key.contains(c)
                    && !table.referred.iter().any(|r| r.to.contains(name))
            };
            let free = |c: usize| {
                Some((c, quoted(&table.columns[c].name), database.free_value(table, c, "g.n")?))
            };
            let Some((c, name, value)) = (0..table.columns.len()).filter(is_free).find_map(free)
            else {
                continue;
            };
            let changes = |f: &str| {
                format!("{f}.state = 'same' AND {f}.restores = 1 AND {f}.after <> {GONE}")
            };
            let sql = format!(
                "WITH moved AS (UPDATE {full} AS t SET {name} = {value} \
                   FROM {found} g JOIN {staged} v ON v.n = g.n WHERE {} AND {} AND {} AND g.n IN (\
                   SELECT h.n FROM {staged} u JOIN {found} f ON f.n = u.n JOIN {full} t ON {same} \
                     JOIN {found} h ON {} WHERE {} AND {} AND h.n <> u.n) RETURNING g.n AS n, {}) \
                 UPDATE {found} AS o SET {} FROM moved WHERE o.n = moved.n",
                at("g", place.clone()),
                changes("g"),
                has_changed(c).replace("u.", "v."),
                at("h", place.clone()),
                changes("f"),
                changes("h"),
                get.join(", "),
                set.join(", "),
                found = found(n),
                staged = staged(n),
            );
            // a rule of the table may refuse such values
            any |= database.run_unless_refused(WHAT, &sql).await?;
        }
        Ok(any)
    }
}
