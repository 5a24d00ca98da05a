//! The two tables of our own: in a schema that no API serves, or next to the data where this role may not create one.

use super::connection::Connection;
use super::{literal, quoted};
use crate::error::{Code, Result};
use crate::sidecar::{COLUMNS, SIDECAR};

/// The schema of our own tables.
pub const SCHEMA: &str = "chronicle_dump";
/// The names of our own tables in it.
const IN_SCHEMA: [&str; 2] = ["sidecar", "sidecar_columns"];
/// Their names in the schema of the data.
const BESIDE_DATA: [&str; 2] = [SIDECAR, COLUMNS];

/// Where the two tables are, and which of their rows belong to one schema.
#[derive(Debug, Clone)]
pub struct OwnTables {
    /// The table of entries, as SQL writes it.
    pub sidecar: String,
    /// The table of original columns, as SQL writes it.
    pub columns: String,
    /// Whether this role may read them whole.
    pub readable: bool,
    /// Whether this role may write to them.
    writable: bool,
    /// The schema of the data, as SQL writes its name as a text.
    schema: String,
}

impl OwnTables {
    fn new(place: &str, names: [&str; 2], schema: &str) -> OwnTables {
        let full = |name: &str| format!("{}.{}", quoted(place), quoted(name));
        OwnTables {
            sidecar: full(names[0]),
            columns: full(names[1]),
            readable: true,
            writable: true,
            schema: literal(schema),
        }
    }

    /// The tables that hold what belongs to the data in a schema, if there are any.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn find(
        connection: &Connection,
        code: Code,
        schema: &str,
    ) -> Result<Option<OwnTables>> {
        // names are compared: to_regclass fails where the schema may not be used
        let list = |names: [&str; 2]| names.map(literal).join(", ");
        let may = |right: &str| format!("has_table_privilege(c.oid, '{right}')");
        let usable = "has_schema_privilege(n.oid, 'USAGE') AND NOT row_security_active(c.oid)";
        let sql = format!(
            "SELECT n.nspname, bool_and({usable} AND {}), bool_and({usable} AND {} AND {} AND {}) \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.relkind = 'r' AND (n.nspname = {own} AND c.relname IN ({}) \
                                         OR n.nspname = '{SCHEMA}' AND c.relname IN ({})) \
              GROUP BY n.nspname HAVING count(*) = 2 ORDER BY n.nspname <> {own}",
            may("SELECT"),
            may("INSERT"),
            may("UPDATE"),
            may("DELETE"),
            list(BESIDE_DATA),
            list(IN_SCHEMA),
            own = literal(schema)
        );
        let found = connection
            .read(code, "cannot look for the sidecar table", &sql, |row| {
                let place = row.text()?;
                let names = if place == SCHEMA { IN_SCHEMA } else { BESIDE_DATA };
                let tables = OwnTables::new(&place, names, schema);
                Ok(OwnTables { readable: row.boolean()?, writable: row.boolean()?, ..tables })
            })
            .await?;
        let readable = found.iter().position(|tables| tables.readable);
        Ok(found.into_iter().nth(readable.unwrap_or(0)))
    }

    /// The tables that this role may write to; they are created if there are none, and nobody else may
    /// use them.
    ///
    /// # Errors
    /// If they can be created nowhere.
    pub async fn create(connection: &Connection, schema: &str) -> Result<OwnTables> {
        const WHAT: &str = "cannot create the sidecar table";
        // two imports at the same time would both see that there is none
        let wait = format!("SELECT pg_catalog.pg_advisory_xact_lock(hashtext('{SCHEMA}'))");
        connection.run(Code::Target, WHAT, &wait).await?;
        let found = OwnTables::find(connection, Code::Target, schema).await?;
        if let Some(tables) = found.filter(|tables| tables.readable && tables.writable) {
            return Ok(tables);
        }
        let sql = format!(
            "SELECT to_json(array(SELECT quote_ident(rolname) FROM pg_catalog.pg_roles \
                      WHERE rolname IN ('anon', 'authenticated', 'service_role'))), \
                    n.oid IS NULL, coalesce(has_schema_privilege(n.oid, 'CREATE') \
                      AND has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (SELECT 1 \
                      FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid \
                       AND c.relname IN ({})), \
                      has_database_privilege(current_database(), 'CREATE')) \
               FROM (VALUES (1)) v LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = '{SCHEMA}'",
            IN_SCHEMA.map(literal).join(", ")
        );
        let rights = connection
            .read(Code::Target, WHAT, &sql, |row| {
                Ok((row.texts()?, row.boolean()?, row.boolean()?))
            })
            .await?;
        let (mut others, missing, may) = rights.into_iter().next().unwrap_or_default();
        others.push("PUBLIC".into());
        let (others, mut ddl) = (others.join(", "), String::new());
        let tables = match may {
            true => OwnTables::new(SCHEMA, IN_SCHEMA, schema),
            false => OwnTables::new(schema, BESIDE_DATA, schema),
        };
        if may && missing {
            ddl = format!("CREATE SCHEMA {SCHEMA}; REVOKE ALL ON SCHEMA {SCHEMA} FROM {others};");
        }
        let OwnTables { sidecar, columns, .. } = &tables;
        ddl.push_str(&format!(
            "CREATE TABLE {sidecar} (schema_name text NOT NULL, table_name text NOT NULL, \
                 key text NOT NULL, entry text NOT NULL, \
                 PRIMARY KEY (schema_name, table_name, key)); \
             CREATE TABLE {columns} (schema_name text NOT NULL, table_name text NOT NULL, \
                 name text NOT NULL, place integer NOT NULL, kind text NOT NULL, \
                 time_text text NOT NULL, PRIMARY KEY (schema_name, table_name, name));"
        ));
        // an entry is as private as its row: no interface serves it
        for table in [sidecar, columns] {
            ddl.push_str(&format!(
                "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; REVOKE ALL ON {table} FROM {others};"
            ));
        }
        connection.run(Code::Target, WHAT, &ddl).await?;
        Ok(tables)
    }

    /// SQL that is true for rows `alias` of either table that belong to a table of the data.
    pub fn belongs(&self, alias: &str, table: &str) -> String {
        format!("{} AND {alias}.table_name = {}", self.of_schema(alias), literal(table))
    }

    /// SQL that is true for rows `alias` of either table that belong to the schema of the data.
    pub fn of_schema(&self, alias: &str) -> String {
        format!("{alias}.schema_name = {}", self.schema)
    }

    /// The name of the schema of the data, as a text of SQL.
    pub fn schema_name(&self) -> &str {
        &self.schema
    }
}
