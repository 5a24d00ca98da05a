//! The tables of our own: in a schema that no API serves, or next to the data where this role may not create one.

use super::connection::Connection;
use super::{literal, quoted};
use crate::error::{Code, Error, Result};
use crate::sidecar::{COLUMNS, SIDECAR};

/// The schema of our own tables.
pub const SCHEMA: &str = "chronicle_dump";

/// Two tables of our own that are created together.
pub(super) struct Pair {
    /// What errors call them.
    pub(super) what: &'static str,
    /// Their names in our own schema.
    pub(super) in_schema: [&'static str; 2],
    /// Their names in the schema of the data.
    pub(super) beside_data: [&'static str; 2],
    /// SQL that creates both, given their names as SQL writes them.
    pub(super) create: fn(&[String; 2]) -> String,
}

/// Why tables of our own cannot be where this role needs them.
#[derive(Debug, Clone)]
pub(super) struct Denied {
    /// What this role may not do.
    pub(super) why: String,
    /// What to type as the owner, or what else to do.
    pub(super) grant: String,
}

impl Denied {
    /// The error of what needs the tables; `or` is what does not.
    pub(super) fn error(&self, what: &str, or: &str) -> Error {
        let hint = format!("{}{or}", self.grant);
        Error::new(Code::Target, format!("{what}: {}; nothing was changed", self.why)).hint(hint)
    }
}

/// Where two tables of our own are.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// Their schema.
    pub(super) schema: String,
    /// Their names.
    pub(super) names: [&'static str; 2],
    /// Whether this role may read them whole.
    pub(super) readable: bool,
    /// Whether this role may write to them.
    pub(super) writable: bool,
}

impl Placed {
    /// One of them as SQL writes it.
    pub(super) fn full(&self, table: usize) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(self.names[table]))
    }
}

impl Pair {
    fn at(&self, schema: &str, names: [&'static str; 2]) -> Placed {
        Placed { schema: schema.to_owned(), names, readable: true, writable: true }
    }

    /// Where they are for the data in a schema, if they are anywhere.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub(super) async fn find(
        &self,
        connection: &Connection,
        code: Code,
        schema: &str,
    ) -> Result<Option<Placed>> {
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
            list(self.beside_data),
            list(self.in_schema),
            own = literal(schema)
        );
        let what = format!("cannot look for {}", self.what);
        let found = connection
            .read(code, &what, &sql, |row| {
                let place = row.text()?;
                let names = if place == SCHEMA { self.in_schema } else { self.beside_data };
                let placed = self.at(&place, names);
                Ok(Placed { readable: row.boolean()?, writable: row.boolean()?, ..placed })
            })
            .await?;
        let readable = found.iter().position(|placed| placed.readable);
        Ok(found.into_iter().nth(readable.unwrap_or(0)))
    }

    /// The tables, if there are any that this role may read and write.
    async fn usable(&self, connection: &Connection, schema: &str) -> Result<Option<Placed>> {
        let found = self.find(connection, Code::Target, schema).await?;
        Ok(found.filter(|placed| placed.readable && placed.writable))
    }

    /// Where this role may write to them; they are created if they are nowhere, and nobody else may use them. Or why
    /// this role cannot have them.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub(super) async fn create(
        &self,
        connection: &Connection,
        schema: &str,
    ) -> Result<std::result::Result<Placed, Denied>> {
        let what = format!("cannot create {}", self.what);
        if let Some(placed) = self.usable(connection, schema).await? {
            return Ok(Ok(placed));
        }
        // two imports at the same time would both see that there is none
        let lock = literal(&format!("{SCHEMA} {}", self.in_schema[0]));
        let wait = format!("SELECT pg_catalog.pg_advisory_xact_lock(hashtext({lock}))");
        connection.run(Code::Target, &what, &wait).await?;
        if let Some(placed) = self.usable(connection, schema).await? {
            return Ok(Ok(placed));
        }
        let sql = format!(
            "SELECT to_json(array(SELECT quote_ident(rolname) FROM pg_catalog.pg_roles \
                      WHERE rolname IN ('anon', 'authenticated', 'service_role'))), \
                    n.oid IS NULL, coalesce(has_schema_privilege(n.oid, 'CREATE') \
                      AND has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (SELECT 1 \
                      FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid \
                       AND c.relname IN ({})), \
                      has_database_privilege(current_database(), 'CREATE')), \
                    coalesce((SELECT has_schema_privilege(d.oid, 'CREATE') FROM pg_catalog.pg_namespace d \
                               WHERE d.nspname = {own}), false), \
                    EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace d \
                                ON d.oid = c.relnamespace \
                             WHERE d.nspname = {own} AND c.relname IN ({})), quote_ident(current_user) \
               FROM (VALUES (1)) v LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = '{SCHEMA}'",
            self.in_schema.map(literal).join(", "),
            self.beside_data.map(literal).join(", "),
            own = literal(schema)
        );
        let rights = connection
            .read(Code::Target, &what, &sql, |row| {
                let (others, missing, may) = (row.texts()?, row.boolean()?, row.boolean()?);
                let beside =
                    Beside { may: row.boolean()?, taken: row.boolean()?, role: row.text()? };
                Ok((others, missing, may, beside))
            })
            .await?;
        let (mut others, missing, may, beside) = rights.into_iter().next().unwrap_or_default();
        if let (false, Some(denied)) = (may, beside.denied(self.what, schema)) {
            return Ok(Err(denied));
        }
        others.push("PUBLIC".into());
        let (others, mut ddl) = (others.join(", "), String::new());
        let placed = match may {
            true => self.at(SCHEMA, self.in_schema),
            false => self.at(schema, self.beside_data),
        };
        if may && missing {
            ddl = format!("CREATE SCHEMA {SCHEMA}; REVOKE ALL ON SCHEMA {SCHEMA} FROM {others};");
        }
        let tables = [placed.full(0), placed.full(1)];
        ddl.push_str(&(self.create)(&tables));
        // what is in them is as private as the rows: no interface serves it
        for table in &tables {
            ddl.push_str(&format!(
                "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; REVOKE ALL ON {table} FROM {others};"
            ));
        }
        connection.run(Code::Target, &what, &ddl).await?;
        Ok(Ok(placed))
    }
}

/// What this role may do in the schema of the data.
#[derive(Default)]
struct Beside {
    /// Whether it may create tables.
    may: bool,
    /// Whether the names of ours are taken.
    taken: bool,
    role: String,
}

impl Beside {
    fn denied(&self, what: &str, schema: &str) -> Option<Denied> {
        let schema = quoted(schema);
        let (why, grant) = match (self.taken, self.may) {
            (false, true) => return None,
            (false, false) => (
                format!("this role may not create tables in the schema {schema}"),
                format!("GRANT CREATE ON SCHEMA {schema} TO {}", self.role),
            ),
            (true, _) => (
                format!("{what} belong to another role"),
                "connect as the role that has created them".to_owned(),
            ),
        };
        Some(Denied { why, grant })
    }
}

/// The table of entries and that of original columns.
pub(super) const SIDECAR_TABLES: Pair = Pair {
    what: "the sidecar table",
    in_schema: ["sidecar", "sidecar_columns"],
    beside_data: [SIDECAR, COLUMNS],
    create: |[sidecar, columns]| {
        format!(
            "CREATE TABLE {sidecar} (schema_name text NOT NULL, table_name text NOT NULL, \
                 key text NOT NULL, entry text NOT NULL, \
                 PRIMARY KEY (schema_name, table_name, key)); \
             CREATE TABLE {columns} (schema_name text NOT NULL, table_name text NOT NULL, \
                 name text NOT NULL, place integer NOT NULL, kind text NOT NULL, \
                 time_text text NOT NULL, PRIMARY KEY (schema_name, table_name, name));"
        )
    },
};

/// Where the two tables of the sidecar are, and which of their rows belong to one schema.
#[derive(Debug, Clone)]
pub struct OwnTables {
    /// The table of entries, as SQL writes it.
    pub sidecar: String,
    /// The table of original columns, as SQL writes it.
    pub columns: String,
    /// Whether this role may read them whole.
    pub readable: bool,
    /// Where they are.
    pub(super) placed: Placed,
    /// The schema of the data, as SQL writes its name as a text.
    schema: String,
}

impl OwnTables {
    fn new(placed: Placed, schema: &str) -> OwnTables {
        OwnTables {
            sidecar: placed.full(0),
            columns: placed.full(1),
            readable: placed.readable,
            placed,
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
        let found = SIDECAR_TABLES.find(connection, code, schema).await?;
        Ok(found.map(|placed| OwnTables::new(placed, schema)))
    }

    /// The tables that this role may write to; they are created if there are none, and nobody else may
    /// use them. Or why this role cannot have them.
    pub(super) async fn create(
        connection: &Connection,
        schema: &str,
    ) -> Result<std::result::Result<OwnTables, Denied>> {
        let placed = SIDECAR_TABLES.create(connection, schema).await?;
        Ok(placed.map(|placed| OwnTables::new(placed, schema)))
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
