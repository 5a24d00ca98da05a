//! What a Postgres database holds: Chronicle's tables, their columns, triggers and references.

use super::connection::Connection;
use super::{literal, quoted};
use crate::catalog::Backend;
use crate::catalog::{
    Catalog, CatalogColumn, CatalogTable, CheckConstraint, ColumnType, Reference,
};
use crate::error::{Code, Error, Result};
use crate::layout::{Layout, LayoutStream, Table, all, fit};
use chronicle_archive::{Kind, show_text};

/// Schemas that belong to the server or to Supabase, never to Chronicle.
const RESERVED: &str = "'information_schema', 'auth', 'storage', 'realtime', 'vault', \
    'extensions', 'graphql', 'graphql_public', 'pgbouncer', 'net', 'cron', 'pgsodium', \
    'supabase_functions', 'supabase_migrations', '_analytics', '_realtime', '_supavisor'";

/// A column as Postgres describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgColumn {
    /// Its name.
    pub name: String,
    /// The name of its type, of a domain's base type.
    pub type_name: String,
    /// Its type as SQL writes it.
    pub full_type: String,
    /// The most characters, of a varchar.
    pub most: Option<u32>,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether it has a default or an identity.
    pub has_default: bool,
}

impl PgColumn {
    /// What it holds, as the archive names it.
    pub fn kind(&self) -> Kind {
        match self.type_name.as_str() {
            "int2" | "int4" | "int8" => Kind::Int,
            "float4" | "float8" => Kind::Real,
            "bool" => Kind::Bool,
            "numeric" => Kind::Numeric,
            // not bpchar: its blanks come and go with the form it is asked in
            "text" | "varchar" | "name" => Kind::Text,
            "timestamptz" => Kind::Time,
            "date" => Kind::Date,
            "uuid" => Kind::Uuid,
            "bytea" => Kind::Bytes,
            "json" => Kind::Json,
            "jsonb" => Kind::Jsonb,
            _ => Kind::Other,
        }
    }

    /// What it can hold.
    pub fn target_type(&self) -> ColumnType {
        match self.type_name.as_str() {
            "int2" => ColumnType::Int(2),
            "int4" => ColumnType::Int(4),
            "int8" => ColumnType::Int(8),
            "float4" => ColumnType::Float(4),
            "float8" => ColumnType::Float(8),
            "bool" => ColumnType::Bool,
            "text" | "varchar" => ColumnType::Text(self.most),
            "timestamptz" => ColumnType::Timestamptz,
            "uuid" => ColumnType::Uuid,
            "bytea" => ColumnType::Bytea,
            "json" => ColumnType::Json,
            "jsonb" => ColumnType::Jsonb,
            _ => ColumnType::Cast(self.full_type.clone()),
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgTable {
    /// Its name.
    pub name: String,
    /// Its object id.
    pub oid: u32,
    /// Its columns, without those that the server computes.
    pub columns: Vec<PgColumn>,
    /// The columns that the server computes.
    pub computed: Vec<String>,
    /// The server's guess at its rows.
    pub rows: u64,
    /// Whether it is a view; recognition needs to know of these, nobody else does.
    pub view: bool,
}

/// Chronicle's tables in one schema, and the layout they are recognised as.
#[derive(Debug, Clone)]
pub struct PgCatalog {
    /// The schema.
    pub schema: String,
    /// The layout.
    pub layout: Layout,
    /// The tables of that schema.
    pub tables: Vec<PgTable>,
    /// The foreign keys of those tables.
    pub foreign_keys: Vec<ForeignKey>,
    /// The CHECKs of those tables.
    pub rules: Vec<Rule>,
}

/// A CHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The columns that it is about.
    pub columns: Vec<String>,
    /// Its condition, as SQL.
    pub condition: String,
}

impl Rule {
    /// What it says of a column, if we can foresee what it refuses.
    fn foreseen(&self, table: &str, column: &str) -> Option<CheckConstraint> {
        let (of, check) = CheckConstraint::parse(&self.condition)?;
        (self.table == table && of == column).then_some(check)
    }

    /// Whether only the server can say what it refuses.
    pub fn is_unforeseen(&self) -> bool {
        CheckConstraint::parse(&self.condition).is_none()
    }
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The table that refers.
    pub table: String,
    /// The constraint's name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table referred to, as SQL writes it.
    pub parent: String,
    /// Its object id.
    pub parent_oid: u32,
    /// The columns referred to.
    pub keys: Vec<String>,
}

impl PgCatalog {
    /// Looks for Chronicle's tables, in `wanted` if a schema is named, else in `public`, else in
    /// the only other schema that has them. Their layout is recognised, or is `forced`.
    ///
    /// # Errors
    /// If no schema has tables of a known layout, or of the forced one, or several have and none
    /// is named.
    pub async fn read(
        connection: &Connection,
        wanted: Option<&str>,
        forced: Option<&Layout>,
    ) -> Result<PgCatalog> {
        let schemas = read_tables(connection, forced).await?;
        let named = |tables: &[PgTable]| -> Vec<Table> {
            let names = |t: &PgTable| t.columns.iter().map(|c| c.name.clone()).collect();
            (tables.iter())
                .map(|t| Table { name: t.name.clone(), columns: names(t), view: t.view })
                .collect()
        };
        let mut fitting: Vec<(String, Vec<PgTable>, Layout)> = Vec::new();
        let mut refused = None;
        for (schema, tables) in schemas {
            match fit(Backend::Postgres, &named(&tables), forced) {
                Ok(layout) => fitting.push((schema, tables, layout)),
                Err(e) if wanted.unwrap_or("public") == schema => refused = Some(e),
                Err(_) => {}
            }
        }
        let several: Vec<String> = fitting.iter().map(|(schema, ..)| schema.clone()).collect();
        let position = match wanted {
            Some(wanted) => fitting.iter().position(|(schema, ..)| schema == wanted),
            None if fitting.len() == 1 => Some(0),
            None => fitting.iter().position(|(schema, ..)| schema == "public"),
        };
        let Some(position) = position else {
            if wanted.is_none() && several.len() > 1 {
                return Err(Error::new(
                    Code::Layout,
                    format!("several schemas hold Chronicle's tables: {}", several.join(", ")),
                )
                .hint("name one at the end of the URL: ?schema=NAME"));
            }
            return Err(match refused {
                Some(refused) => refused,
                // nothing at all: let recognition say so
                None => fit(Backend::Postgres, &[], forced)
                    .err()
                    .unwrap_or_else(|| Error::new(Code::Layout, "no tables")),
            });
        };
        let (schema, mut tables, layout) = fitting.swap_remove(position);
        tables.retain(|t| !t.view);
        let foreign_keys = read_foreign_keys(connection, &schema).await?;
        let rules = read_rules(connection, &schema).await?;
        Ok(PgCatalog { schema, layout, tables, foreign_keys, rules })
    }

    /// The table of a stream of the layout.
    pub fn table(&self, stream: &LayoutStream) -> Option<&PgTable> {
        self.tables.iter().find(|t| t.name == stream.table)
    }

    /// A table's full name as SQL writes it.
    pub fn full_name(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(table))
    }

    /// What a plan needs to know.
    pub fn describe(&self) -> Catalog {
        let streams = &self.layout.streams;
        let mut tables = Vec::new();
        for stream in streams {
            let Some(table) = self.table(stream) else { continue };
            let columns: Vec<CatalogColumn> = (table.columns.iter())
                .map(|c| {
                    let ty = c.target_type();
                    let column = stream.catalog_column(&c.name, ty, c.not_null, c.has_default);
                    let foreseen = |rule: &Rule| rule.foreseen(&table.name, &c.name);
                    CatalogColumn { check: self.rules.iter().find_map(foreseen), ..column }
                })
                .collect();
            let find = |name: &String| columns.iter().position(|c| c.name == *name);
            let references = (stream.references.iter())
                .filter_map(|(name, parent)| {
                    let column = find(name)?;
                    let refers = |key: &ForeignKey| {
                        key.table == table.name && key.columns == [columns[column].physical.clone()]
                    };
                    let enforced = self.foreign_keys.iter().any(refers);
                    let parent = streams.iter().position(|s| s.name == *parent)?;
                    Some(Reference {
                        columns: vec![column],
                        table: parent,
                        parent_columns: Vec::new(),
                        enforced,
                    })
                })
                .collect();
            let key = stream.key.iter().filter_map(find).collect();
            let (origin, fold) = (&stream.origin, &stream.fold);
            tables.push(CatalogTable {
                origin: origin.as_ref().and_then(find),
                fold: fold.as_ref().and_then(find),
                name: table.name.clone(),
                stream: stream.name.clone(),
                role: stream.role.clone(),
                time: stream.time().and_then(|n| find(&n.to_owned())),
                adoptable: stream.is_adoptable(),
                columns,
                key,
                references,
            });
        }
        let layout = self.layout.title.clone();
        Catalog::new(Backend::Postgres, layout, tables)
    }
}

/// Every schema with the tables and views that some layout knows by name.
async fn read_tables(
    connection: &Connection,
    forced: Option<&Layout>,
) -> Result<Vec<(String, Vec<PgTable>)>> {
    let mut names: Vec<String> = Vec::new();
    for layout in all(Backend::Postgres)?.into_iter().chain(forced) {
        names.extend(layout.tables().into_iter().map(literal));
    }
    let sql = format!(
        "SELECT n.nspname, c.relname, c.oid, greatest(c.reltuples, 0)::int8, a.attname, \
                coalesce(b.typname, t.typname), \
                pg_catalog.format_type(coalesce(b.oid, a.atttypid), a.atttypmod), \
                CASE WHEN t.typname = 'varchar' AND a.atttypmod > 4 THEN a.atttypmod - 4 END, \
                a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '', \
                c.relkind IN ('v', 'm') \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
           JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
           LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd' \
          WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition \
            AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ({RESERVED}) \
            AND (c.relname IN ({}) OR c.relname LIKE 'chronicle%') \
            AND a.attnum > 0 AND NOT a.attisdropped \
          ORDER BY n.nspname, c.relname, a.attnum",
        names.join(", ")
    );
    let mut schemas: Vec<(String, Vec<PgTable>)> = Vec::new();
    for row in connection.rows(Code::Source, "cannot read the catalog", &sql).await? {
        let text = |n: usize| row.get(n).cloned().flatten().unwrap_or_default();
        let yes = |n: usize| text(n) == "t";
        if schemas.last().is_none_or(|(schema, _)| *schema != text(0)) {
            schemas.push((text(0), Vec::new()));
        }
        let Some((_, tables)) = schemas.last_mut() else { continue };
        if tables.last().is_none_or(|t| t.name != text(1)) {
            tables.push(PgTable {
                name: text(1),
                oid: text(2).parse().unwrap_or(0),
                columns: Vec::new(),
                computed: Vec::new(),
                rows: text(3).parse().unwrap_or(0),
                view: yes(11),
            });
        }
        let Some(table) = tables.last_mut() else { continue };
        if yes(10) {
            table.computed.push(text(4));
            continue;
        }
        table.columns.push(PgColumn {
            name: text(4),
            type_name: text(5),
            full_type: text(6),
            most: text(7).parse().ok(),
            not_null: yes(8),
            has_default: yes(9),
        });
    }
    Ok(schemas)
}

async fn read_foreign_keys(connection: &Connection, schema: &str) -> Result<Vec<ForeignKey>> {
    let sql = format!(
        "SELECT c.relname, k.conname, a.attname, k.confrelid::regclass::text, p.attname, \
                k.confrelid \
           FROM pg_catalog.pg_constraint k \
           JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(own, other, n) \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own \
           JOIN pg_catalog.pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.other \
          WHERE k.contype = 'f' AND n.nspname = {} \
          ORDER BY k.oid, u.n",
        literal(schema)
    );
    let rows = connection.rows(Code::Source, "cannot read the foreign keys", &sql).await?;
    let mut keys: Vec<ForeignKey> = Vec::new();
    for row in rows {
        let text = |n: usize| row.get(n).cloned().flatten().unwrap_or_default();
        let (table, name) = (text(0), text(1));
        if keys.last().is_none_or(|k| (&k.table, &k.name) != (&table, &name)) {
            keys.push(ForeignKey {
                table,
                name,
                columns: Vec::new(),
                parent: text(3),
                parent_oid: text(5).parse().unwrap_or(0),
                keys: Vec::new(),
            });
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push(text(2));
            key.keys.push(text(4));
        }
    }
    Ok(keys)
}

async fn read_rules(connection: &Connection, schema: &str) -> Result<Vec<Rule>> {
    let sql = format!(
        "SELECT c.relname, k.conname, pg_catalog.pg_get_expr(k.conbin, k.conrelid), \
                array_to_string(array(SELECT a.attname FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)), E'\\n') \
           FROM pg_catalog.pg_constraint k \
           JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE k.contype = 'c' AND n.nspname = {} ORDER BY c.relname, k.conname",
        literal(schema)
    );
    let rows = connection.rows(Code::Source, "cannot read the rules of the tables", &sql).await?;
    let rule = |row: Vec<Option<String>>| {
        let mut texts = row.into_iter().map(Option::unwrap_or_default);
        let (table, name, condition) = (texts.next()?, texts.next()?, texts.next()?);
        let columns = texts.next()?.split('\n').map(str::to_owned).collect();
        Some(Rule { table, name, columns, condition })
    };
    Ok(rows.into_iter().filter_map(rule).collect())
}

/// A trigger that would fire while rows are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// When it fires: `O` with local changes, `R` in a replica, `A` always.
    pub fires: char,
}

/// The triggers of some tables that fire at all, the server's own left out.
pub async fn triggers(connection: &Connection, tables: &[&PgTable]) -> Result<Vec<Trigger>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<String> = tables.iter().map(|t| t.oid.to_string()).collect();
    let sql = format!(
        "SELECT c.relname, t.tgname, t.tgenabled FROM pg_catalog.pg_trigger t \
           JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
          WHERE t.tgrelid IN ({}) AND NOT t.tgisinternal AND t.tgenabled <> 'D' \
          ORDER BY c.relname, t.tgname",
        oids.join(", ")
    );
    let rows = connection.rows(Code::Target, "cannot read the triggers", &sql).await?;
    let trigger = |row: Vec<Option<String>>| {
        let mut texts = row.into_iter().flatten();
        let (table, name) = (texts.next()?, texts.next()?);
        Some(Trigger { table, name, fires: texts.next()?.chars().next()? })
    };
    Ok(rows.into_iter().filter_map(trigger).collect())
}

/// Tables of the schema that look like Chronicle's and belong to no stream, with their rows as
/// the server guesses them.
pub fn others(catalog: &PgCatalog) -> Vec<String> {
    let known = |name: &str| catalog.layout.streams.iter().any(|s| s.table == name);
    (catalog.tables.iter())
        .filter(|t| !known(&t.name))
        .map(|t| format!("table {} is not exported", show_text(&t.name)))
        .collect()
}
