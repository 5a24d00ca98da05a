//! The CHECKs of a table that only the server can apply: rows that break them are taken out again and named.

use super::copy::{NUMBER, place_of};
use super::{PgTarget, not_begun};
use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use crate::load::{Refused, Rows};
use crate::plan::TablePlan;
use crate::postgres::catalog::Rule;
use crate::postgres::quoted;
use chronicle_archive::show_text;

impl PgTarget {
    /// Takes the rows back out of the staging table that break a rule which only the server knows.
    pub(super) async fn ask_rules(
        &mut self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        first: i64,
    ) -> Result<Vec<Refused>> {
        let mut refused: Vec<Refused> = Vec::new();
        for rule in self.unforeseen(stream) {
            let loading = self.loading.as_ref().ok_or_else(not_begun)?;
            let Some(load) = loading.current.as_ref().filter(|l| l.numbered) else { break };
            let place = load.place(&self.found, &stream.table_name);
            let broken = self.broken(stream, &rule, &place, first).await?;
            for number in broken.into_iter().flatten().flatten() {
                let number: i64 = number.parse().unwrap_or(first);
                let row = usize::try_from(number - first).unwrap_or(0);
                let told = format!(
                    "the rule {} of the target refuses it: {}",
                    show_text(&rule.name),
                    show_text(&rule.condition)
                );
                let error =
                    Error::new(Code::Value, format!("{}: {told}", place_of(stream, rows, row)));
                let hint = "--on-unrepresentable=reject leaves such rows out";
                refused.push(Refused { row, error: error.hint(hint) });
            }
        }
        if let Some(load) = self.loading.as_mut().and_then(|l| l.current.as_mut()) {
            refused.iter().for_each(|r| load.sums.take(rows.rows, r.row));
            load.rows -= refused.len() as u64;
        }
        Ok(refused)
    }

    /// Takes the rows of a place out again that break a rule, from the one numbered `first`; gives
    /// their numbers.
    pub(super) async fn broken(
        &self,
        stream: &TablePlan,
        rule: &Rule,
        place: &str,
        first: i64,
    ) -> Result<Vec<Vec<Option<String>>>> {
        let (what, condition) = ("cannot ask the rules", &rule.condition);
        let columns: Vec<(&String, Option<&str>)> =
            rule.columns.iter().map(|c| (c, self.cast_of(stream, c))).collect();
        if columns.iter().all(|(_, cast)| cast.is_none()) {
            let sql = format!(
                "DELETE FROM {place} WHERE {NUMBER} >= {first} AND NOT ({condition}) \
                 RETURNING {NUMBER}"
            );
            return self.connection.rows(Code::Target, what, &sql).await;
        }
        let columns: Vec<String> =
            columns.iter().map(|(name, cast)| as_cast("s", name, *cast)).collect();
        let sql = format!(
            "DELETE FROM {place} WHERE {NUMBER} IN (SELECT {NUMBER} FROM (SELECT {}, s.{NUMBER} \
               FROM {place} s WHERE s.{NUMBER} >= {first}) r WHERE NOT ({condition})) \
             RETURNING {NUMBER}",
            columns.join(", ")
        );
        self.run("cannot set a savepoint", "SAVEPOINT rule").await?;
        match self.connection.rows(Code::Target, what, &sql).await {
            Ok(broken) => Ok(broken),
            Err(_) => {
                // a text that cannot be cast at all is refused when the rows go into their table
                self.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT rule").await?;
                Ok(Vec::new())
            }
        }
    }

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

    /// The rules of a stream's table that only the server knows, as far as they are about columns
    /// that are written.
    pub(super) fn unforeseen(&self, stream: &TablePlan) -> Vec<Rule> {
        let table = &self.catalog.tables[stream.table];
        let written = |name: &String| {
            stream.columns.iter().any(|c| table.columns[c.target].physical == *name)
        };
        let asked = |rule: &&Rule| {
            rule.table == table.name && rule.is_unforeseen() && rule.columns.iter().all(written)
        };
        self.found.rules.iter().filter(asked).cloned().collect()
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
