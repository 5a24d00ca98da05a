//! Secondary indexes of an empty table: taken away before its rows come and made again behind them, in the same
//! transaction, exactly as they were.
//!
//! A B-tree over rows that are there is sorted once and filled page by page; one in place is searched for every row.
//! Those of other kinds stay, since a GIN index gains nothing by it, and so does what could not be made again in every
//! detail or guards rows while they come.

use super::PgTarget;
use super::copy::{is_about_a_value, with_hint};
use crate::error::{Code, Error, Result};
use crate::plan::StreamPlan;
use crate::postgres::connection::LOCK_TIMEOUT;
use crate::postgres::{literal, quoted};
use crate::record::show_text;

/// How long the readers of an empty table may keep us waiting for it, and we all who come after them.
const PATIENCE: &str = "1s";

/// An index that is to be made again.
#[derive(PartialEq, Eq)]
pub(super) struct Index {
    name: String,
    /// SQL that makes it.
    made: String,
    /// The length of what it holds of a row `c`, as SQL.
    length: String,
}

impl PgTarget {
    /// Takes away the indexes of an empty table that are better made later; none if somebody is reading it, or if the
    /// server would not make them again as they are.
    pub(super) async fn take_indexes(&self, stream: &StreamPlan) -> Result<Vec<Index>> {
        let found = self.movable_indexes(stream).await?;
        if found.is_empty() {
            return Ok(found);
        }
        let schema = quoted(&self.found.schema);
        let names: Vec<String> =
            found.iter().map(|index| format!("{schema}.{}", quoted(&index.name))).collect();
        let made: Vec<&str> = found.iter().map(|index| index.made.as_str()).collect();
        let (drop, made) = (format!("DROP INDEX {}", names.join(", ")), made.join("; "));
        // made once while that costs nothing: what this role may not do is seen before the rows come
        let rehearsal = format!(
            "SET LOCAL default_tablespace = ''; SET LOCAL lock_timeout = '{PATIENCE}'; {drop}; {made}; \
             SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
        );
        self.run("cannot set a savepoint", "SAVEPOINT with_indexes").await?;
        let done = self.connection.client.batch_execute(&rehearsal).await.is_ok();
        if !done || self.movable_indexes(stream).await? != found {
            self.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT with_indexes").await?;
            return Ok(Vec::new());
        }
        self.run("cannot take indexes away", &format!("RELEASE SAVEPOINT with_indexes; {drop}"))
            .await?;
        Ok(found)
    }

    /// The indexes that can be made again exactly as they are, and need not be there while rows come.
    async fn movable_indexes(&self, stream: &StreamPlan) -> Result<Vec<Index>> {
        let full = self.found.full_name(&stream.table_name);
        // expressions are left alone: a value that they cannot take is refused with its row; and with events of
        // triggers that wait for the commit no index can be made
        let sql = format!(
            "SELECT c.relname, pg_get_indexdef(c.oid), obj_description(c.oid, 'pg_class'), \
                    (SELECT string_agg(format('coalesce(octet_length(c.%I::text), 0)', a.attname), '+') \
                       FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (i.indkey)) \
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                    JOIN pg_class t ON t.oid = i.indrelid JOIN pg_am m ON m.oid = c.relam \
              WHERE t.oid = {}::regclass AND t.relkind = 'r' AND pg_has_role(t.relowner, 'USAGE') \
                AND has_schema_privilege(t.relnamespace, 'CREATE') \
                AND m.amname = 'btree' AND i.indexprs IS NULL AND i.indisvalid AND i.indisready \
                AND NOT (i.indisunique OR i.indisexclusion OR i.indisclustered OR i.indisreplident) \
                AND c.reltablespace = 0 AND c.relnamespace = t.relnamespace \
                AND NOT t.relispartition AND NOT EXISTS \
                    (SELECT FROM pg_inherits p WHERE p.inhparent = t.oid) \
                AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.oid AND g.tgdeferrable) \
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
                    AND d.objid = c.oid AND d.deptype <> 'a' AND d.deptype <> 'n') \
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass \
                    AND d.refobjid = c.oid) \
                AND NOT EXISTS (SELECT FROM pg_seclabel l WHERE l.objoid = c.oid) \
              ORDER BY c.relname",
            literal(&full)
        );
        let rows = self.connection.rows(Code::Target, "cannot read the indexes", &sql).await?;
        let schema = quoted(&self.found.schema);
        let made = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter();
            let (name, definition) = (row.next()??, row.next()??);
            let comment = row.next()?.map_or_else(String::new, |text| {
                format!("; COMMENT ON INDEX {schema}.{} IS {}", quoted(&name), literal(&text))
            });
            Some(Index { name, made: format!("{definition}{comment}"), length: row.next()?? })
        });
        Ok(made.collect())
    }

    /// Makes indexes again, now that the rows are there.
    pub(super) async fn make_indexes(&self, stream: &StreamPlan, taken: &[Index]) -> Result<()> {
        for index in taken {
            self.run("cannot set a savepoint", "SAVEPOINT before_index").await?;
            if let Err(e) = self.connection.client.batch_execute(&index.made).await {
                self.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT before_index")
                    .await?;
                return Err(self.not_indexed(stream, index, e).await);
            }
            self.run("cannot release a savepoint", "RELEASE SAVEPOINT before_index").await?;
        }
        Ok(())
    }

    /// The error of a row that an index does not take. The server seldom says which one it is; mostly it is too long.
    async fn not_indexed(
        &self,
        stream: &StreamPlan,
        index: &Index,
        e: tokio_postgres::Error,
    ) -> Error {
        let value = e.code().is_some_and(is_about_a_value);
        let (full, key) = (self.found.full_name(&stream.table_name), self.key_text(stream, "c"));
        let sql = format!("SELECT {key} FROM {full} c ORDER BY {} DESC LIMIT 1", index.length);
        let rows = match value {
            true => self.connection.rows(Code::Target, "cannot read a row", &sql).await,
            false => Ok(Vec::new()),
        };
        let longest = rows.ok().and_then(|rows| rows.into_iter().next()?.into_iter().next()?);
        let longest = longest.map_or_else(String::new, |key| {
            format!("; the longest row in it has key {}", show_text(&key))
        });
        let name = show_text(&index.name);
        let what = format!("{}: index {name} cannot be made{longest}", stream.table_name);
        let code = if value { Code::Value } else { Code::Target };
        with_hint(code, self.connection.failed(code, what, e))
    }
}
