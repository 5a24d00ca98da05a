//! Rows that change and have unique values which other rows of the archive get: they give these up before all others
//! change, for values that nobody has.
//!
//! Where a batch leads is a legal state; the way there must not matter. What a row gives up it gets from the archive in
//! a moment, or the batch fails as a whole.

use super::conflict::{UPDATED, decisions};
use super::merge::{Merge, STAGED, STORED};
use crate::catalog::CatalogColumn;
use crate::error::Result;
use crate::postgres::free_value::free_value;
use crate::postgres::noted::referring;
use crate::postgres::quoted;

const WHAT: &str = "cannot move unique values from row to row";

impl Merge<'_> {
    /// Has rows that are in the way of others give up the values which these get.
    pub(super) async fn make_way(&self) -> Result<()> {
        if self.updates == 0 {
            return Ok(());
        }
        for unique in self.natural_keys().await? {
            let Some((column, free)) = self.free_value(&unique).await? else { continue };
            let rows = self.rows_in_the_way(&unique);
            if let Some(note) = self.db().note(&self.table.name) {
                self.prepare_notes().await?;
                self.db().run("cannot note the rows that change", &note.before(&rows)).await?;
            }
            let sql = format!(
                "UPDATE {} AS t SET {column} = {free} \
                 FROM (SELECT t.ctid AS at, t.tableoid AS part, row_number() OVER () AS n {rows}) w \
                 WHERE t.ctid = w.at AND t.tableoid = w.part",
                self.full()
            );
            self.db().run(WHAT, "SAVEPOINT make_way").await?;
            let end = match self.db().connection.client.execute_typed(&sql, &[]).await {
                Ok(_) => "RELEASE SAVEPOINT make_way",
                // a rule of the table refuses such values: the rows stay, and the error will name them
                Err(_) => "ROLLBACK TO SAVEPOINT make_way",
            };
            self.db().run(WHAT, end).await?;
        }
        Ok(())
    }

    /// What follows the columns of a query for rows `t` that change and have the unique values of a staged row with
    /// another key.
    fn rows_in_the_way(&self, unique: &[String]) -> String {
        let key: Vec<String> = self.key.names().iter().map(|name| format!("t.{name}")).collect();
        let (key, full) = (key.join(", "), self.full());
        let same_key = self.key.same(STORED, STAGED);
        format!(
            "FROM {full} t WHERE EXISTS (SELECT 1 FROM {staging} s JOIN {} d ON d.staged = s.ctid \
               WHERE d.decision = '{UPDATED}' AND {same_key}) \
             AND ({key}) IN (SELECT {key} FROM {staging} s JOIN {full} t ON {} \
               WHERE NOT coalesce({same_key}, false))",
            decisions(self.number),
            self.same_values(unique),
            staging = self.staging,
        )
    }

    /// One of some unique columns and SQL for values that no row has and gets in it, by the number `w.n` of the row; none
    /// if references or the types keep them from changing for a moment.
    async fn free_value(&self, unique: &[String]) -> Result<Option<(String, String)>> {
        let db = self.db();
        // what refers to it would follow
        let referring = match db.silenced.as_replica {
            true => Vec::new(),
            false => referring(&db.connection, &self.full()).await?,
        };
        let is_free = |column: &&CatalogColumn| {
            let key = self.table.key.iter().any(|k| self.table.columns[*k].name == column.name);
            let referred = referring.iter().any(|r| r.to.contains(&column.physical));
            unique.contains(&column.physical) && !key && !referred
        };
        let full = self.full();
        let free = |column: &CatalogColumn| {
            let (name, tables) = (&column.physical, [full.as_str(), self.staging]);
            let value = free_value(&column.ty, name, &tables, "w.n");
            let value = value.or_else(|| (!column.not_null).then(|| "NULL".to_owned()))?;
            Some((quoted(name), value))
        };
        Ok(self.table.columns.iter().filter(is_free).find_map(free))
    }
}
