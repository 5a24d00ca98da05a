//! The CHECK constraints of a table that only the server can apply: rows that break them are taken out again, with their
//! keys.

use super::PgTarget;
use super::copy::NUMBER;
use super::loading::{PgLoading, no_table};
use crate::catalog::ColumnType;
use crate::error::{Code, Result};
use crate::load::{Cause, Rejected, Rows};
use crate::plan::TablePlan;
use crate::postgres::catalog::TableCheck;
use crate::postgres::quoted;

impl PgLoading {
    /// Takes the rows back out of the staging table that break a constraint which only the server knows.
    pub(super) async fn ask_checks(
        &mut self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        first: i64,
    ) -> Result<Vec<Rejected>> {
        let mut refused: Vec<Rejected> = Vec::new();
        for check in self.db.unforeseen(stream) {
            let current = self.current.as_ref();
            let Some(load) = current.filter(|l| l.numbered) else { break };
            let place = load.place(&self.db.found, &stream.table_name);
            for number in self.broken(stream, &check, &place, first).await? {
                let row = usize::try_from(number - first).map_err(|_| no_table())?;
                let (name, condition) = (check.name.clone(), check.condition.clone());
                refused.push(Rejected { row, cause: Cause::Check { name, condition } });
            }
        }
        if let Some(load) = self.current.as_mut() {
            refused.iter().for_each(|r| load.sums.take(rows.rows, r.row));
            load.rows -= refused.len() as u64;
        }
        Ok(refused)
    }

    /// Takes the rows of a place out again that break a constraint, from the one numbered `first`; gives
    /// their numbers.
    async fn broken(
        &self,
        stream: &TablePlan,
        check: &TableCheck,
        place: &str,
        first: i64,
    ) -> Result<Vec<i64>> {
        let (what, condition) = ("cannot apply the CHECK constraints", &check.condition);
        let columns: Vec<(&String, Option<&str>)> =
            check.columns.iter().map(|c| (c, self.db.cast_of(stream, c))).collect();
        if columns.iter().all(|(_, cast)| cast.is_none()) {
            let sql = format!(
                "DELETE FROM {place} WHERE {NUMBER} >= {first} AND NOT ({condition}) \
                 RETURNING {NUMBER}"
            );
            return self.db.connection.read(Code::Target, what, &sql, |row| row.parsed()).await;
        }
        let columns: Vec<String> =
            columns.iter().map(|(name, cast)| as_cast("s", name, *cast)).collect();
        let sql = format!(
            "DELETE FROM {place} WHERE {NUMBER} IN (SELECT {NUMBER} FROM (SELECT {}, s.{NUMBER} \
               FROM {place} s WHERE s.{NUMBER} >= {first}) r WHERE NOT ({condition})) \
             RETURNING {NUMBER}",
            columns.join(", ")
        );
        self.db.run("cannot set a savepoint", "SAVEPOINT checks").await?;
        match self.db.connection.read(Code::Target, what, &sql, |row| row.parsed()).await {
            Ok(broken) => Ok(broken),
            Err(_) => {
                // a text that cannot be cast at all is refused when the rows go into their table
                self.db
                    .run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT checks")
                    .await?;
                Ok(Vec::new())
            }
        }
    }
}

impl PgTarget {
    /// The type that a column's staged texts are cast into, if they are.
    pub(super) fn cast_of<'a>(&self, stream: &'a TablePlan, physical: &str) -> Option<&'a str> {
        let table = &self.catalog.tables[stream.table];
        let column =
            stream.columns.iter().find(|c| table.columns[c.target].physical == physical)?;
        match &column.ty {
            ColumnType::Cast(ty) => Some(ty),
            _ => None,
        }
    }

    /// The CHECK constraints of a stream's table that only the server knows, as far as they are about
    /// columns that are written.
    pub(super) fn unforeseen(&self, stream: &TablePlan) -> Vec<TableCheck> {
        let table = &self.catalog.tables[stream.table];
        let is_unknown = |check: &&TableCheck| {
            let own = check.table == table.name && check.foreseen.is_none();
            own && self.writes(stream, &check.columns)
        };
        self.found.checks.iter().filter(is_unknown).cloned().collect()
    }

    /// Whether all these columns of the table are written.
    pub(super) fn writes(&self, stream: &TablePlan, columns: &[String]) -> bool {
        let table = &self.catalog.tables[stream.table];
        let is_it = |name: &String| {
            stream.columns.iter().any(|c| table.columns[c.target].physical == *name)
        };
        columns.iter().all(is_it)
    }
}

/// A staged column with the type that it has in its table, as SQL.
pub(super) fn as_cast(alias: &str, column: &str, cast: Option<&str>) -> String {
    let name = quoted(column);
    match cast {
        Some(ty) => format!("{alias}.{name}::{ty} AS {name}"),
        None => format!("{alias}.{name}"),
    }
}
