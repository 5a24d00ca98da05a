//! What a Postgres database holds: Chronicle's tables, their columns, triggers and references.

use super::connection::Connection;
use super::history::HISTORY_TABLES;
use super::{literal, quoted};
use crate::catalog::Backend;
use crate::catalog::{
    Catalog, CatalogColumn, CatalogTable, CheckConstraint, ColumnType, Reference,
};
use crate::error::{Code, Error, Result};
use crate::layout::{Layout, LayoutStream, Table, all, fit};
use crate::notice::{Notice, NoticeKind};
use crate::sidecar::{COLUMNS, SIDECAR};
use chronicle_archive::{Kind, show_text};

/// Schemas that belong to the server or to Supabase, never to Chronicle.
const RESERVED: [&str; 18] = [
    "information_schema",
    "auth",
    "storage",
    "realtime",
    "vault",
    "extensions",
    "graphql",
    "graphql_public",
    "pgbouncer",
    "net",
    "cron",
    "pgsodium",
    "supabase_functions",
    "supabase_migrations",
    "_analytics",
    "_realtime",
    "_supavisor",
    "chronicle_dump",
];

/// How the names of tables begin that may be Chronicle's, whatever the layout.
const PREFIX: &str = "chronicle";

/// A column as Postgres describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgColumn {
    /// Its name.
    pub name: String,
    /// The name of its type, of a domain's base type.
    pub type_name: String,
    /// Its type as SQL writes it.
    pub full_type: String,
    /// Its type as SQL writes it, of a domain the domain itself.
    pub declared: String,
    /// Its type without its limits, such as a number of digits or those of a domain, if it has any.
    pub unlimited: Option<String>,
    /// Whether it is of a domain.
    pub domain: bool,
    /// The most characters, of a varchar.
    pub most: Option<u32>,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether it has a default or an identity.
    pub has_default: bool,
    /// Its collation as SQL writes it, if it is not that of its type.
    pub collation: Option<String>,
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

    /// Whether it takes fewer values than its type in the archive's words: then only the server knows
    /// which.
    pub fn is_limited(&self) -> bool {
        self.domain || (self.type_name == "timestamptz" && self.unlimited.is_some())
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
    /// Whether it is a view, which only matters when a layout is recognised.
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
    /// The CHECK constraints of those tables.
    pub checks: Vec<TableCheck>,
}

/// A CHECK constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCheck {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The columns that it is about.
    pub columns: Vec<String>,
    /// Its condition, as SQL.
    pub condition: String,
    /// The column and what its values must be, if we can foresee what the constraint refuses.
    pub foreseen: Option<(String, CheckConstraint)>,
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
    pub parent_columns: Vec<String>,
    /// Whether NULL in some of the columns, but not in all, refers to nothing (MATCH FULL).
    pub match_full: bool,
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
        let naming = "name one at the end of the URL: ?schema=NAME";
        let (schema, mut tables, layout) = choose(schemas, wanted, forced, naming)?;
        tables.retain(|t| !t.view);
        let foreign_keys = read_foreign_keys(connection, &schema).await?;
        let mut checks = read_checks(connection, &schema).await?;
        for check in &mut checks {
            let of = tables.iter().find(|t| t.name == check.table);
            // what is staged as text is for the server to compare
            check.foreseen.take_if(|(name, _)| {
                let column = of.and_then(|t| t.columns.iter().find(|c| c.name == *name));
                column.is_none_or(|c| matches!(c.target_type(), ColumnType::Cast(_)))
            });
        }
        Ok(PgCatalog { schema, layout, tables, foreign_keys, checks })
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
        let present: Vec<(&LayoutStream, &PgTable)> =
            self.layout.streams.iter().filter_map(|s| Some((s, self.table(s)?))).collect();
        let mut tables: Vec<CatalogTable> =
            present.iter().map(|(stream, table)| self.catalog_table(stream, table)).collect();
        for (n, (stream, _)) in present.iter().enumerate() {
            tables[n].references = self.references(&tables, n, stream);
        }
        Catalog {
            layout_name: self.layout.name.clone(),
            ..Catalog::new(Backend::Postgres, self.layout.title.clone(), tables)
        }
    }

    /// A table without its references.
    fn catalog_table(&self, stream: &LayoutStream, table: &PgTable) -> CatalogTable {
        let columns: Vec<CatalogColumn> = (table.columns.iter())
            .map(|c| {
                let column =
                    stream.catalog_column(&c.name, c.target_type(), c.not_null, c.has_default);
                let of_column = |check: &TableCheck| match &check.foreseen {
                    Some((name, known)) if check.table == table.name && *name == c.name => {
                        Some(known.clone())
                    }
                    _ => None,
                };
                CatalogColumn { check: self.checks.iter().find_map(of_column), ..column }
            })
            .collect();
        let find = |name: &String| columns.iter().position(|c| c.name == *name);
        CatalogTable {
            origin: stream.origin.as_ref().and_then(find),
            batch: stream.batch.as_ref().and_then(find),
            fold: stream.fold.as_ref().and_then(find),
            computed: table.computed.clone(),
            name: table.name.clone(),
            stream: stream.name.clone(),
            role: stream.role.clone(),
            time: stream.time().and_then(|n| find(&n.to_owned())),
            changed: find(&stream.changed().to_owned()),
            stored: find(&stream.stored().to_owned()),
            numbers: None,
            adoptable: stream.is_adoptable(),
            key: stream.key.iter().filter_map(find).collect(),
            references: Vec::new(),
            columns,
        }
    }

    /// The references of a table: the foreign keys of the database, and what the layout adds to them.
    fn references(
        &self,
        tables: &[CatalogTable],
        number: usize,
        stream: &LayoutStream,
    ) -> Vec<Reference> {
        let table = &tables[number];
        let own = self.foreign_keys.iter().filter(|key| key.table == table.name);
        let mut references: Vec<Reference> = Vec::new();
        for reference in own.filter_map(|key| self.reference(tables, key)) {
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        for (name, parent) in &stream.references {
            let column = table.columns.iter().position(|c| c.name == *name);
            let parent = tables.iter().position(|t| t.stream == *parent);
            let (Some(column), Some(parent)) = (column, parent) else { continue };
            if references.iter().all(|r| r.columns != [column] || r.table != parent) {
                references.push(Reference {
                    columns: vec![column],
                    table: parent,
                    parent_columns: Vec::new(),
                    enforced: false,
                });
            }
        }
        references
    }

    /// A foreign key as a reference between these tables; `None` if it refers to another table.
    pub fn reference(&self, tables: &[CatalogTable], key: &ForeignKey) -> Option<Reference> {
        let parent_name = &self.tables.iter().find(|t| t.oid == key.parent_oid)?.name;
        let table = tables.iter().find(|t| t.name == key.table)?;
        let parent = tables.iter().position(|t| t.name == *parent_name)?;
        let find = |table: &CatalogTable, names: &[String]| -> Option<Vec<usize>> {
            let place = |name: &String| table.columns.iter().position(|c| c.physical == *name);
            names.iter().map(place).collect()
        };
        Some(Reference {
            columns: find(table, &key.columns)?,
            table: parent,
            parent_columns: find(&tables[parent], &key.parent_columns)?,
            enforced: true,
        })
    }
}

/// Of the tables and views of all schemas, Chronicle's: in the schema that is wanted, else in `public`, else in the only
/// other one that has them, with their layout, recognised or forced. `naming` says how a schema is named.
///
/// # Errors
/// If no schema has tables of a known layout, or of the forced one, or several have and none is named.
pub(super) fn choose(
    schemas: Vec<(String, Vec<PgTable>)>,
    wanted: Option<&str>,
    forced: Option<&Layout>,
    naming: &str,
) -> Result<(String, Vec<PgTable>, Layout)> {
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
            .hint(naming));
        }
        return Err(match refused {
            Some(refused) => refused,
            // nothing at all: recognition reports it
            None => fit(Backend::Postgres, &[], forced)
                .err()
                .unwrap_or_else(|| Error::new(Code::Layout, "no tables")),
        });
    };
    Ok(fitting.swap_remove(position))
}

/// The names of all tables that some layout has.
pub(super) fn layout_tables(forced: Option<&Layout>) -> Result<Vec<String>> {
    let layouts = all(Backend::Postgres)?.into_iter().chain(forced);
    Ok(layouts.flat_map(Layout::tables).map(str::to_owned).collect())
}

/// Whether a table may be Chronicle's, as the query of [`read_tables`] has it; `names` are those of the layouts.
pub(super) fn may_be_ours(schema: &str, table: &str, names: &[String]) -> bool {
    !schema.starts_with("pg_")
        && !RESERVED.contains(&schema)
        && (table.starts_with(PREFIX) || names.iter().any(|name| name == table))
}

/// Every schema with the tables and views whose names some layout has.
async fn read_tables(
    connection: &Connection,
    forced: Option<&Layout>,
) -> Result<Vec<(String, Vec<PgTable>)>> {
    let names: Vec<String> = layout_tables(forced)?.iter().map(|name| literal(name)).collect();
    let sql = format!(
        "SELECT n.nspname, c.relname, c.oid, greatest(c.reltuples, 0)::int8, \
                c.relkind IN ('v', 'm'), a.attgenerated <> '', a.attname, \
                coalesce(b.typname, t.typname), \
                pg_catalog.format_type(coalesce(b.oid, a.atttypid), a.atttypmod), \
                pg_catalog.format_type(a.atttypid, a.atttypmod), \
                CASE WHEN b.oid IS NOT NULL OR a.atttypmod >= 0 \
                     THEN pg_catalog.format_type(coalesce(b.oid, a.atttypid), -1) END, \
                b.oid IS NOT NULL, \
                CASE WHEN t.typname = 'varchar' AND a.atttypmod > 4 THEN a.atttypmod - 4 END, \
                a.attnotnull OR t.typnotnull, a.atthasdef OR a.attidentity <> '', \
                CASE WHEN a.attcollation <> t.typcollation \
                     THEN format('%I.%I', ln.nspname, l.collname) END \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
           JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
           LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd' \
           LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
           LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace \
          WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition \
            AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ({}) \
            AND (c.relname IN ({}) OR c.relname LIKE '{PREFIX}%') \
            AND a.attnum > 0 AND NOT a.attisdropped \
          ORDER BY n.nspname, c.relname, a.attnum",
        RESERVED.map(literal).join(", "),
        names.join(", ")
    );
    let columns = connection.read(Code::Source, "cannot read the catalog", &sql, |row| {
        let schema = row.text()?;
        let table = PgTable {
            name: row.text()?,
            oid: row.parsed()?,
            columns: Vec::new(),
            computed: Vec::new(),
            rows: row.parsed()?,
            view: row.boolean()?,
        };
        let computed = row.boolean()?;
        let column = PgColumn {
            name: row.text()?,
            type_name: row.text()?,
            full_type: row.text()?,
            declared: row.text()?,
            unlimited: row.optional()?,
            domain: row.boolean()?,
            most: row.optional_parsed()?,
            not_null: row.boolean()?,
            has_default: row.boolean()?,
            collation: row.optional()?,
        };
        Ok((schema, table, computed, column))
    });
    let mut schemas: Vec<(String, Vec<PgTable>)> = Vec::new();
    for (schema, table, computed, column) in columns.await? {
        if schemas.last().is_none_or(|(last, _)| *last != schema) {
            schemas.push((schema, Vec::new()));
        }
        let Some((_, tables)) = schemas.last_mut() else { continue };
        if tables.last().is_none_or(|t| t.oid != table.oid) {
            tables.push(table);
        }
        let Some(table) = tables.last_mut() else { continue };
        match computed {
            true => table.computed.push(column.name),
            false => table.columns.push(column),
        }
    }
    Ok(schemas)
}

async fn read_foreign_keys(connection: &Connection, schema: &str) -> Result<Vec<ForeignKey>> {
    let names = |columns: &str, table: &str| {
        format!(
            "to_json(array(SELECT a.attname::text FROM unnest(k.{columns}) WITH ORDINALITY AS u(n, at) \
               JOIN pg_catalog.pg_attribute a ON a.attrelid = k.{table} AND a.attnum = u.n \
              ORDER BY u.at))"
        )
    };
    // those of partitions follow from that of their table
    let sql = format!(
        "SELECT c.relname, k.conname, {}, k.confrelid::regclass, k.confrelid, {}, \
                k.confmatchtype = 'f' \
           FROM pg_catalog.pg_constraint k \
           JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE k.contype = 'f' AND n.nspname = {} AND k.conparentid = 0 \
            AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' \
          ORDER BY k.oid",
        names("conkey", "conrelid"),
        names("confkey", "confrelid"),
        literal(schema)
    );
    let read = connection.read(Code::Source, "cannot read the foreign keys", &sql, |row| {
        Ok(ForeignKey {
            table: row.text()?,
            name: row.text()?,
            columns: row.texts()?,
            parent: row.text()?,
            parent_oid: row.parsed()?,
            parent_columns: row.texts()?,
            match_full: row.boolean()?,
        })
    });
    read.await
}

async fn read_checks(connection: &Connection, schema: &str) -> Result<Vec<TableCheck>> {
    let sql = format!(
        "SELECT c.relname, k.conname, to_json(array(SELECT a.attname::text \
                  FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))), \
                pg_catalog.pg_get_expr(k.conbin, k.conrelid), EXISTS (SELECT 1 \
                  FROM pg_catalog.pg_attribute a \
                  JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
                 WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) \
                   AND NOT l.collisdeterministic) \
           FROM pg_catalog.pg_constraint k \
           JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE k.contype = 'c' AND n.nspname = {} \
            AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' \
          ORDER BY c.relname, k.conname",
        literal(schema)
    );
    let what = "cannot read the CHECK constraints";
    let read = connection.read(Code::Source, what, &sql, |row| {
        let (table, name, columns) = (row.text()?, row.text()?, row.texts()?);
        let (condition, lenient) = (row.text()?, row.boolean()?);
        let foreseen = CheckConstraint::parse(&condition).filter(|_| !lenient);
        Ok(TableCheck { table, name, columns, condition, foreseen })
    });
    read.await
}

/// A trigger that would fire while rows are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The object id of its table.
    pub oid: u32,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// When it fires: `O` with local changes, `R` in a replica, `A` always.
    pub fires: char,
}

/// The triggers of some tables that fire at all, the server's own left out.
pub async fn triggers(connection: &Connection, tables: &[u32]) -> Result<Vec<Trigger>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<String> = tables.iter().map(u32::to_string).collect();
    let sql = format!(
        "SELECT t.tgrelid, c.relname, t.tgname, t.tgenabled FROM pg_catalog.pg_trigger t \
           JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
          WHERE t.tgrelid IN ({}) AND NOT t.tgisinternal AND t.tgenabled <> 'D' \
          ORDER BY c.relname, t.tgname",
        oids.join(", ")
    );
    let read = connection.read(Code::Target, "cannot read the triggers", &sql, |row| {
        let (oid, table) = (row.parsed()?, row.text()?);
        Ok(Trigger { oid, table, name: row.text()?, fires: row.parsed()? })
    });
    read.await
}

/// Tables of the schema that look like Chronicle's and belong to no stream, in words.
pub fn others(catalog: &PgCatalog) -> Vec<Notice> {
    let known = |name: &str| {
        let ours = [SIDECAR, COLUMNS].contains(&name) || HISTORY_TABLES.beside_data.contains(&name);
        ours || catalog.layout.streams.iter().any(|s| s.table == name)
    };
    (catalog.tables.iter())
        .filter(|t| !known(&t.name))
        .map(|t| {
            let text = format!("table {} is not exported", show_text(&t.name));
            Notice::new(NoticeKind::TableNotExported, text)
        })
        .collect()
}
