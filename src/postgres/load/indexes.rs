//! Secondary indexes of an empty table: dropped before its rows are loaded and rebuilt afterwards, in the same
//! transaction, exactly as they were.
//!
//! A B-tree over existing rows is sorted once and filled page by page; one in place is searched for every row.
//! Those of other kinds stay, since a GIN index gains nothing by it, and so does what could not be rebuilt in every
//! detail or guards rows while they come.

use super::PgTarget;
use super::copy::{is_about_a_value, with_hint};
use super::keys::key_names;
use crate::error::{Code, Error, Result};
use crate::plan::Plan;
use crate::postgres::{key_text, literal, quoted};
use chronicle_archive::show_text;

/// An index that is to be rebuilt.
#[derive(PartialEq, Eq)]
pub(super) struct Index {
    /// The number of its table in the catalog.
    table: usize,
    name: String,
    /// SQL that creates it.
    definition: String,
    /// The length of what it holds of a row `c`, as SQL.
    length: String,
}

impl PgTarget {
    /// Drops the indexes of empty tables that are better built later; none if somebody is reading one of these tables,
    /// or if the server would not rebuild them exactly.
    pub(super) async fn drop_indexes(&self, plan: &Plan) -> Result<Vec<Index>> {
        let found = self.movable_indexes_of(plan).await?;
        if found.is_empty() {
            return Ok(found);
        }
        let schema = quoted(&self.found.schema);
        let names: Vec<String> =
            found.iter().map(|index| format!("{schema}.{}", quoted(&index.name))).collect();
        let mut tables: Vec<String> = (found.iter())
            .map(|index| self.found.full_name(&self.catalog.tables[index.table].name))
            .collect();
        tables.dedup();
        let create: Vec<&str> = found.iter().map(|index| index.definition.as_str()).collect();
        let (drop, create) = (format!("DROP INDEX {}", names.join(", ")), create.join("; "));
        // all tables at once and without waiting, or a reader of two of them and we could wait for each other; built
        // once while that costs nothing, so that what this role may not do is seen before the rows come
        let rehearsal = format!(
            "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE NOWAIT; {drop}; {PLACE}; {create}",
            tables.join(", ")
        );
        self.run("cannot set a savepoint", "SAVEPOINT with_indexes").await?;
        let done = self.connection.client.batch_execute(&rehearsal).await.is_ok();
        if !done || self.movable_indexes_of(plan).await? != found {
            self.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT with_indexes").await?;
            return Ok(Vec::new());
        }
        self.run("cannot drop the indexes", &format!("RELEASE SAVEPOINT with_indexes; {drop}"))
            .await?;
        Ok(found)
    }

    /// What can be taken away of all tables that rows go into and that are empty, table by table.
    async fn movable_indexes_of(&self, plan: &Plan) -> Result<Vec<Index>> {
        let mut found = Vec::new();
        for table in 0..self.catalog.tables.len() {
            let name = &self.catalog.tables[table].name;
            let loaded = plan.tables().any(|(_, s)| s.table == table);
            if loaded && self.is_empty(name).await? {
                found.extend(self.movable_indexes(table).await?);
            }
        }
        Ok(found)
    }

    /// The indexes of a table that can be rebuilt exactly, and are not needed during the load.
    async fn movable_indexes(&self, table: usize) -> Result<Vec<Index>> {
        let full = self.found.full_name(&self.catalog.tables[table].name);
        // what computes is left alone: a value that it cannot take is refused with its row; and with events of
        // triggers that wait for the commit no index can be built
        let sql = format!(
            "SELECT c.relname, pg_get_indexdef(c.oid), obj_description(c.oid, 'pg_class'), \
                    (SELECT string_agg(format('coalesce(octet_length(c.%I::text), 0)', a.attname), '+') \
                       FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (i.indkey)) \
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                    JOIN pg_class t ON t.oid = i.indrelid JOIN pg_am m ON m.oid = c.relam \
              WHERE t.oid = {}::regclass AND t.relkind = 'r' AND pg_has_role(t.relowner, 'USAGE') \
                AND has_schema_privilege(t.relnamespace, 'CREATE') \
                AND m.amname = 'btree' AND i.indexprs IS NULL AND i.indisvalid AND i.indisready \
                AND coalesce(pg_get_expr(i.indpred, t.oid), '(x IS NULL)') ~ {} \
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
            literal(&full),
            literal(PLAIN_CONDITION)
        );
        let schema = quoted(&self.found.schema);
        let read = self.connection.read(Code::Target, "cannot read the indexes", &sql, |row| {
            let (name, mut definition) = (row.text()?, row.text()?);
            if let Some(comment) = row.optional()? {
                let (index, comment) = (quoted(&name), literal(&comment));
                definition.push_str(&format!("; COMMENT ON INDEX {schema}.{index} IS {comment}"));
            }
            Ok(Index { table, name, definition, length: row.text()? })
        });
        read.await
    }

    /// Makes indexes again, when all that can go wrong with the rows has been looked for.
    pub(super) async fn rebuild_indexes(&self, dropped: &[Index]) -> Result<()> {
        for index in dropped {
            let mut created = self.create(index, "").await?;
            if created.as_ref().is_err_and(|e| !e.code().is_some_and(is_about_a_value)) {
                // several processes sort in files what one alone sorts in memory: there may be no room for them
                created = self.create(index, ONE_PROCESS).await?;
            }
            if let Err(e) = created {
                return Err(self.not_indexed(index, e).await);
            }
        }
        Ok(())
    }

    /// Makes an index, or leaves everything as it was; why not is in the inner result.
    async fn create(
        &self,
        index: &Index,
        settings: &str,
    ) -> Result<std::result::Result<(), tokio_postgres::Error>> {
        self.run("cannot set a savepoint", "SAVEPOINT before_index").await?;
        let sql = format!("{PLACE}; {settings}{}", index.definition);
        let created = self.connection.client.batch_execute(&sql).await;
        let end = match created {
            Ok(()) => "RELEASE SAVEPOINT before_index",
            Err(_) => "ROLLBACK TO SAVEPOINT before_index",
        };
        self.run("cannot leave a savepoint", end).await?;
        Ok(created)
    }

    /// The error of rows that an index does not take. The server seldom says which one; mostly it is too long.
    async fn not_indexed(&self, index: &Index, e: tokio_postgres::Error) -> Error {
        let table = &self.catalog.tables[index.table];
        let value = e.code().is_some_and(is_about_a_value);
        let (full, key) = (self.found.full_name(&table.name), key_text(&key_names(table), "c"));
        let sql = format!("SELECT {key} FROM {full} c ORDER BY {} DESC LIMIT 1", index.length);
        let longest = match value {
            true => {
                self.connection.read(Code::Target, "cannot read a row", &sql, |r| r.text()).await
            }
            false => Ok(Vec::new()),
        };
        let longest = longest.ok().and_then(|keys| keys.into_iter().next());
        let longest = longest.map_or_else(String::new, |key| {
            format!("; the longest row in it has key {}", show_text(&key))
        });
        let name = show_text(&index.name);
        let what = format!("{}: index {name} cannot be rebuilt{longest}", table.name);
        let code = if value { Code::Value } else { Code::Target };
        let error = with_hint(code, self.connection.failed(code, what, e));
        match error.next_step() {
            Some(_) => error,
            None => error.hint(
                "the server has to sort the rows for it: give it room for temporary files, see \
                 temp_file_limit; nothing was changed",
            ),
        }
    }
}

/// Where an index without a tablespace is stored, whatever this role's default is.
const PLACE: &str = "SET LOCAL default_tablespace = ''";
/// One process sorts by itself.
const ONE_PROCESS: &str = "SET LOCAL max_parallel_maintenance_workers = 0; ";
/// A condition that computes nothing: whether one column is NULL.
const PLAIN_CONDITION: &str = r#"^\(("([^"]|"")+"|[a-z_][a-z0-9_$]*) IS (NOT )?NULL\)$"#;
