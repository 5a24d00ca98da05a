//! What is done to a target's tables before rows come and after: creating them, the rights of this role, the lock that
//! keeps other writers out, columns that are added, triggers that must not fire.

use super::PgTarget;
use super::copy::type_name;
use crate::catalog::CatalogColumn;
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::load::Problems;
use crate::notice::{Notice, NoticeKind};
use crate::plan::{Plan, TablePlan};
use crate::policy::{Compression, Policy};
use crate::postgres::catalog::{PgCatalog, PgTable, triggers};
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::silence::{Quiet, silence, try_run};
use crate::postgres::{literal, quoted};
use chronicle_archive::{show_count, show_text};

impl PgTarget {
    /// Finds for a check what would keep this role from loading, and which rules are not for it.
    pub(super) async fn look(&mut self, plan: &Plan) -> Result<Problems> {
        let as_replica =
            try_run(&self.connection, "SET LOCAL session_replication_role = replica").await?;
        let found = self.found.tables.iter();
        let tables: Vec<u32> = found
            .filter(|t| plan.streams.iter().any(|s| s.table_name() == t.name))
            .map(|t| t.oid)
            .collect();
        let triggers = triggers(&self.connection, &tables).await?;
        let (mut problems, mut notices) = (Problems::default(), Vec::new());
        // what has no table of its own needs no rights there
        for (_, stream) in plan.tables() {
            let rights = self.rights(&stream.table_name).await?;
            let own: Vec<String> = (triggers.iter().filter(|t| t.table == stream.table_name))
                .map(|t| show_text(&t.name))
                .collect();
            for (right, may) in
                [("INSERT", rights.insert), ("UPDATE, DELETE or TRUNCATE", rights.lock)]
            {
                if !may {
                    let reason =
                        format!("this role has no right to {right} in {}", stream.table_name);
                    problems.blocker(&stream.stream, reason, "grant it, or connect as the owner");
                }
            }
            if !own.is_empty() && !as_replica && !rights.owner {
                let reason = format!("this role cannot disable the triggers {}", own.join(", "));
                problems.blocker(&stream.stream, reason, "connect as the owner of the table");
            } else if !own.is_empty() {
                let (table, names) = (&stream.table_name, own.join(", "));
                let text = format!("{table}: these triggers will not fire: {names}");
                notices.push(Notice::new(NoticeKind::Triggers, text));
            }
            if rights.policies > 0 {
                let (table, policies) =
                    (&stream.table_name, show_count(rights.policies, "policies"));
                let text =
                    format!("{table}: row level security does not apply to this role ({policies})");
                notices.push(Notice::new(NoticeKind::RowSecurity, text));
            }
        }
        self.say_who_listens(plan).await?;
        notices.extend(self.room().await?);
        self.notices.extend(notices);
        Ok(problems)
    }

    /// What this role may do with a table.
    pub(super) async fn rights(&self, table: &str) -> Result<Rights> {
        let full = literal(&self.found.full_name(table));
        let sql = format!(
            "SELECT has_table_privilege(c.oid, 'INSERT'), \
                    has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'), \
                    pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
                    (SELECT count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) \
               FROM pg_catalog.pg_class c WHERE c.oid = {full}::regclass"
        );
        let rights = self.connection.read(Code::Target, "cannot read the rights", &sql, |row| {
            Ok(Rights {
                insert: row.boolean()?,
                lock: row.boolean()?,
                owner: row.boolean()?,
                policies: row.parsed()?,
            })
        });
        let gone = || Error::new(Code::Target, format!("{table}: the table is gone"));
        rights.await?.into_iter().next().ok_or_else(gone)
    }

    /// Keeps everybody else from writing, and looks whether somebody has meanwhile.
    pub(super) async fn lock(&self) -> Result<()> {
        let names: Vec<String> =
            self.catalog.tables.iter().map(|t| self.found.full_name(&t.name)).collect();
        // others can keep reading; writers wait until the commit, unless they are of the same import
        let mode = if self.side_by_side { "ROW EXCLUSIVE" } else { "SHARE ROW EXCLUSIVE" };
        let lock = format!("LOCK TABLE {} IN {mode} MODE", names.join(", "));
        self.run("cannot lock Chronicle's tables", &lock).await?;
        let (schema, forced) = (&self.found.schema, self.forced.as_ref());
        let now = PgCatalog::read(&self.connection, Some(schema), forced).await?;
        // only of the tables that rows go into: an earlier import may have created our own tables
        let shape = |catalog: &PgCatalog| -> Vec<_> {
            let loaded = |t: &&PgTable| self.catalog.tables.iter().any(|of| of.name == t.name);
            let columns = |t: &PgTable| (t.oid, t.columns.clone());
            catalog.tables.iter().filter(loaded).map(columns).collect()
        };
        if shape(&now) != shape(&self.found) {
            return Err(Error::new(Code::Target, "the tables were changed while they were read")
                .hint("nothing was changed; try again"));
        }
        Ok(())
    }

    /// Gives the tables the columns that the plan adds.
    pub(super) async fn add_columns(&mut self, plan: &Plan) -> Result<()> {
        for (_, stream) in plan.tables() {
            for column in self.expect_columns(stream) {
                let sql = format!(
                    "ALTER TABLE {} ADD COLUMN {} {}",
                    self.found.full_name(&stream.table_name),
                    quoted(&column.physical),
                    type_name(&column.ty)
                );
                self.run("cannot add a column", &sql).await?;
                self.note_column(&stream.table_name, &column, type_name(&column.ty));
            }
        }
        Ok(())
    }

    /// Enters the columns that the plan adds to a table into the catalog; returns those that it lacked.
    pub(super) fn expect_columns(&mut self, stream: &TablePlan) -> Vec<CatalogColumn> {
        let columns = &mut self.catalog.tables[stream.table].columns;
        // also a group before may have added it
        let is_there = |c: &CatalogColumn| columns.iter().any(|known| known.physical == c.physical);
        let lacking = stream.added.iter().filter(|c| !is_there(c));
        let lacking: Vec<CatalogColumn> = lacking.cloned().collect();
        columns.extend(lacking.iter().cloned());
        lacking
    }

    /// Keeps Chronicle's own triggers from changing what is loaded.
    pub(super) async fn silence_triggers(&mut self) -> Result<()> {
        let names = self.catalog.tables.iter().map(|t| &t.name);
        let tables: Vec<Quiet> = names
            .filter_map(|name| self.found.tables.iter().find(|t| t.name == *name))
            .map(|t| Quiet { oid: t.oid, full: self.found.full_name(&t.name) })
            .collect();
        self.silenced = silence(&self.connection, &tables).await?;
        if self.silenced.triggers > 0 {
            let triggers = show_count(self.silenced.triggers as u64, "triggers");
            let text = format!("{triggers} of the target did not fire; rows were loaded unchanged");
            self.notices.push(Notice::new(NoticeKind::Triggers, text));
        }
        Ok(())
    }
}

/// What a role may do with a table.
pub(super) struct Rights {
    insert: bool,
    /// Whether it may keep others from writing meanwhile.
    lock: bool,
    owner: bool,
    /// How many policies the table has.
    policies: u64,
}

/// The memory that one load may take, never less than the server allows anyway: staged rows are
/// joined in it, indexes are sorted in it, and a GIN index takes new entries in larger portions.
pub(in crate::postgres) const MEMORY: &str = "SELECT set_config(name, '64MB', true) FROM pg_catalog.pg_settings \
      WHERE name IN ('work_mem', 'maintenance_work_mem', 'gin_pending_list_limit') \
            AND setting::bigint < 65536";

/// Decides how large values are compressed, in columns that have no method of their own: with LZ4 where the
/// server has it and nothing else is asked for, which is to be said.
pub(super) async fn compress(
    connection: &Connection,
    asked: Option<Compression>,
) -> Result<Option<Notice>> {
    const SETTING: &str = "default_toast_compression";
    let what = "cannot read the settings";
    let sql = format!(
        "SELECT setting FROM pg_catalog.pg_settings WHERE name = '{SETTING}' \
         AND 'lz4' = ANY (enumvals)"
    );
    let setting = connection.read(Code::Target, what, &sql, |row| row.text()).await?;
    let (method, default) = match (asked, setting.first().map(String::as_str)) {
        (Some(Compression::Server), _) | (None, None | Some("lz4")) => return Ok(None),
        (None, Some(_)) => (Compression::Lz4, true),
        (Some(method), _) => (method, false),
    };
    let sql = format!("SET LOCAL {SETTING} = {}", method.word());
    let what = format!("the server cannot compress with {}", method.word());
    connection.run(Code::Target, &what, &sql).await.map_err(|e| {
        e.hint("leave --toast-compression out: LZ4 needs PostgreSQL 14 or later, built with it")
    })?;
    Ok(default.then(|| {
        let text = "new large values are compressed with LZ4; --toast-compression server keeps the \
                    server's setting";
        Notice::new(NoticeKind::Compression, text)
    }))
}

pub(super) async fn create_tables(
    connection: &Connection,
    info: &ConnInfo,
    layout: &Layout,
) -> Result<()> {
    let ddl = layout.required_ddl()?;
    let schema = info.schema.as_deref().unwrap_or("public");
    let exists =
        format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(schema));
    if connection.rows(Code::Target, "cannot read the schemas", &exists).await?.is_empty() {
        return Err(Error::new(
            Code::NotFound,
            format!("--create: there is no schema {}", show_text(schema)),
        )
        .hint("create it first: CREATE SCHEMA, as the owner of the database"));
    }
    let forced = PgCatalog::read(connection, Some(schema), Some(layout)).await;
    if forced.is_ok() || PgCatalog::read(connection, Some(schema), None).await.is_ok() {
        return Err(Error::new(
            Code::Usage,
            format!("--create: the schema {schema} has Chronicle's tables already"),
        )
        .hint("leave --create out to import into them"));
    }
    let sql = format!(
        "SET LOCAL search_path = {}, pg_catalog; {ddl}; SET LOCAL search_path = pg_catalog",
        quoted(schema)
    );
    connection.run(Code::Target, "cannot create Chronicle's tables", &sql).await
}

/// On Supabase, a notice about who else may use the new tables.
pub(super) async fn who_may_read(connection: &Connection) -> Result<Option<Notice>> {
    let sql = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'anon'";
    let rows = connection.rows(Code::Target, "cannot read the roles", sql).await?;
    Ok((!rows.is_empty()).then(|| {
        let text = "anyone with the project's anon key can read and write the new tables, as in \
                    Chronicle's own schema";
        Notice::new(NoticeKind::OpenTables, text)
    }))
}
