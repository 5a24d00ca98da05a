//! A Postgres database as a target: one transaction, rows by binary COPY, straight into an empty
//! table or by way of a staging table where rows are there already.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::binary::RowReader;
use super::catalog::{ForeignKey, PgCatalog, PgTable, Rule, Trigger, triggers};
use super::connection::{Connection, failed};
use super::conninfo::ConnInfo;
use super::merge::Merge;
use super::{binary, literal, quoted};
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::plan::{OnUnrepresentable, Plan, StreamPlan};
use crate::readback::{Readback, differing, not_as_loaded};
use crate::record::{Batch, Value, show_text};
use crate::residue::{COLUMNS, RESIDUE, kept_otherwise, original_id};
use crate::shape::key_of;
use crate::skip::{Step, skips};
use crate::source::{ENFORCED, ORPHANS_NAMED, Orphans};
use crate::target::{
    Catalog, KnownId, Loaded, OnOrphans, Outcome, Problems, Purpose, Reference, Refused, Rows,
    Target, TargetOptions, TargetType,
};

/// The bytes of one message of a COPY.
const MESSAGE: usize = 256 << 10;

/// A Postgres database that rows are loaded into.
pub struct PgTarget {
    pub(super) connection: Connection,
    pub(super) info: ConnInfo,
    pub(super) found: PgCatalog,
    forced: Option<Layout>,
    catalog: Catalog,
    notices: Vec<String>,
    disabled: Vec<Trigger>,
    purpose: Purpose,
    loading: Option<Loading>,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    loaded: Vec<Loaded>,
    current: Option<Load>,
    done: Vec<Load>,
    orphans: Vec<Orphans>,
    problems: Problems,
    /// The COPY of what is kept beside the rows, if anything is.
    residue: Option<Statement>,
}

/// What a role may do with a table.
struct Rights {
    insert: bool,
    /// Whether it may keep others from writing meanwhile.
    lock: bool,
    owner: bool,
    /// How many policies the table has.
    policies: u64,
}

/// The loading of one stream.
pub(super) struct Load {
    stream: usize,
    /// The staging table, or none if rows go straight into the table.
    staging: Option<String>,
    /// Whether the staging table numbers its rows, so that the server's rules can be asked.
    numbered: bool,
    copy: Statement,
    types: Vec<TargetType>,
    rows: u64,
    /// The sums of the rows that were sent and not taken back.
    sums: Readback,
}

impl Load {
    /// The table that the rows of this stream stand in.
    fn place(&self, found: &PgCatalog, table: &str) -> String {
        self.staging.clone().unwrap_or_else(|| found.full_name(table))
    }
}

/// The column of a staging table that numbers its rows.
const NUMBER: &str = "chronicle_dump_row";
/// Where what is kept beside the rows is staged.
const STAGED_RESIDUE: &str = "pg_temp.chronicle_dump_stage_residue";

impl PgTarget {
    /// Connects and looks at the tables; makes them first, in the same transaction, if the options
    /// say so.
    ///
    /// # Errors
    /// If the server cannot be reached, or its tables are of no known layout.
    pub async fn open(info: &ConnInfo, options: &TargetOptions) -> Result<PgTarget> {
        let create = options.create.as_ref();
        let forced = create.or(options.layout.as_ref());
        let connection = Connection::open(info).await?;
        // whoever waits for the tables must see what others have written meanwhile
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; {}", connection.settings());
        connection.run(Code::Target, "cannot start to write", &begin).await?;
        let mut notices = info.notices();
        if let Some(layout) = create {
            create_tables(&connection, info, layout).await?;
            notices.extend(who_may_read(&connection).await?);
        }
        let read = PgCatalog::read(&connection, info.schema.as_deref(), forced);
        let found = read.await.map_err(|e| {
            if forced.is_some() || e.code() != Code::Layout {
                return e;
            }
            let known = e.next_step().unwrap_or_default().to_owned();
            e.hint(format!("--create makes Chronicle's tables there; {known}"))
        })?;
        Ok(PgTarget {
            connection,
            info: info.clone(),
            catalog: found.describe(),
            found,
            forced: forced.cloned(),
            notices,
            disabled: Vec::new(),
            purpose: options.purpose,
            loading: None,
        })
    }

    async fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        if self.purpose == Purpose::Load {
            self.lock().await?;
            self.silence_triggers().await?;
        }
        for stream in &plan.streams {
            self.add_columns(stream).await?;
        }
        let residue = match plan.keeps_columns() {
            true if self.purpose == Purpose::Load => Some(self.remember(&plan).await?),
            _ => None,
        };
        let loaded = (plan.streams.iter())
            .map(|s| Loaded { stream: s.stream.clone(), ..Loaded::default() })
            .collect();
        self.loading = Some(Loading {
            plan,
            loaded,
            current: None,
            done: Vec::new(),
            orphans: Vec::new(),
            problems: Problems::default(),
            residue,
        });
        match self.purpose {
            Purpose::Load => Ok(()),
            Purpose::Check => self.look().await,
        }
    }

    /// Finds for a check what would keep this role from loading, and which rules are not for it.
    async fn look(&mut self) -> Result<()> {
        let plan = self.loading.as_ref().map(|l| Arc::clone(&l.plan)).ok_or_else(not_begun)?;
        let as_replica = self.try_run("SET LOCAL session_replication_role = replica").await?;
        let found = self.found.tables.iter();
        let tables: Vec<&PgTable> =
            found.filter(|t| plan.streams.iter().any(|s| s.table_name == t.name)).collect();
        let triggers = triggers(&self.connection, &tables).await?;
        let (mut problems, mut notices) = (Problems::default(), Vec::new());
        // what has no table of its own needs no rights there
        for stream in plan.streams.iter().filter(|s| s.apart.is_none()) {
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
                    problems.barrier(&stream.stream, reason, "grant it, or connect as the owner");
                }
            }
            if !own.is_empty() && !as_replica && !rights.owner {
                let reason = format!("this role cannot switch off the triggers {}", own.join(", "));
                problems.barrier(&stream.stream, reason, "connect as the owner of the table");
            } else if !own.is_empty() {
                let (table, names) = (&stream.table_name, own.join(", "));
                notices.push(format!("{table}: these triggers will not fire: {names}"));
            }
            if rights.policies > 0 {
                notices.push(format!(
                    "{}: {} row level security policies, none of which applies to this role",
                    stream.table_name, rights.policies
                ));
            }
        }
        self.notices.extend(notices);
        if let Some(loading) = &mut self.loading {
            problems.all().into_iter().for_each(|p| loading.problems.push(p));
        }
        Ok(())
    }

    /// What this role may do with a table.
    async fn rights(&self, table: &str) -> Result<Rights> {
        let full = literal(&self.found.full_name(table));
        let sql = format!(
            "SELECT has_table_privilege(c.oid, 'INSERT'), \
                    has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'), \
                    pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
                    (SELECT count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) \
               FROM pg_catalog.pg_class c WHERE c.oid = {full}::regclass"
        );
        let rows = self.connection.rows(Code::Target, "cannot read the rights", &sql).await?;
        let text = |n: usize| rows.first().and_then(|row| row.get(n).cloned().flatten());
        let yes = |n: usize| text(n).as_deref() == Some("t");
        let policies = text(3).and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok(Rights { insert: yes(0), lock: yes(1), owner: yes(2), policies })
    }

    /// Keeps everybody else from writing, and looks whether somebody has meanwhile.
    async fn lock(&self) -> Result<()> {
        let names: Vec<String> =
            self.catalog.tables.iter().map(|t| self.found.full_name(&t.name)).collect();
        // others may go on reading; who writes waits until we are done
        let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "));
        self.run("cannot lock Chronicle's tables", &lock).await?;
        let (schema, forced) = (&self.found.schema, self.forced.as_ref());
        let now = PgCatalog::read(&self.connection, Some(schema), forced).await?;
        // only of the tables that rows go into: an import before us may have made our own tables
        let shape = |catalog: &PgCatalog| -> Vec<_> {
            let loaded = |t: &&PgTable| self.catalog.tables.iter().any(|of| of.name == t.name);
            let columns = |t: &PgTable| (t.oid, t.columns.clone());
            catalog.tables.iter().filter(loaded).map(columns).collect()
        };
        if shape(&now) != shape(&self.found) {
            return Err(Error::new(Code::Target, "the tables were changed while we looked")
                .hint("nothing was changed by us; try again"));
        }
        Ok(())
    }

    /// Gives the table the columns that the plan adds; for a check they stand only in the staging
    /// table.
    async fn add_columns(&mut self, stream: &StreamPlan) -> Result<()> {
        for column in &stream.added {
            if self.purpose == Purpose::Load {
                let sql = format!(
                    "ALTER TABLE {} ADD COLUMN {} {}",
                    self.found.full_name(&stream.table_name),
                    quoted(&column.physical),
                    type_name(&column.ty)
                );
                self.run("cannot add a column", &sql).await?;
            }
            self.catalog.tables[stream.table].columns.push(column.clone());
        }
        Ok(())
    }

    /// Makes our own tables where they are missing, notes the columns that are remembered, and
    /// prepares to stage what is kept beside the rows.
    async fn remember(&self, plan: &Plan) -> Result<Statement> {
        let what = "cannot make the tables for what is kept beside the rows";
        let (residue, columns) = (self.found.full_name(RESIDUE), self.found.full_name(COLUMNS));
        let mut sql = format!(
            "CREATE TABLE IF NOT EXISTS {residue} (table_name text NOT NULL, key text NOT NULL, \
                 residue text NOT NULL, PRIMARY KEY (table_name, key)); \
             CREATE TABLE IF NOT EXISTS {columns} (table_name text NOT NULL, name text NOT NULL, \
                 place integer NOT NULL, kind text NOT NULL, instant boolean NOT NULL, \
                 utc boolean NOT NULL, PRIMARY KEY (table_name, name)); \
             CREATE TEMPORARY TABLE chronicle_dump_stage_residue (table_name text, key text, \
                 residue text) ON COMMIT DROP;"
        );
        // what is kept is as private as the rows: nobody but the owner reads it through an interface
        let roles = "SELECT quote_ident(rolname) FROM pg_catalog.pg_roles \
                      WHERE rolname IN ('anon', 'authenticated')";
        let roles = self.connection.rows(Code::Target, what, roles).await?;
        let mut others: Vec<String> = roles.into_iter().flatten().flatten().collect();
        others.push("PUBLIC".into());
        for table in [&residue, &columns] {
            sql.push_str(&format!(
                "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; REVOKE ALL ON {table} FROM {};",
                others.join(", ")
            ));
        }
        for stream in &plan.streams {
            for (place, column) in &stream.remembered {
                sql.push_str(&format!(
                    "INSERT INTO {columns} VALUES ({}, {}, {place}, '{}', {}, {}) \
                     ON CONFLICT DO NOTHING;",
                    literal(&stream.table_name),
                    literal(&column.name),
                    column.kind.word(),
                    column.instant,
                    column.utc
                ));
            }
        }
        self.run(what, &sql).await?;
        let copy = format!("COPY {STAGED_RESIDUE} FROM STDIN (FORMAT binary)");
        let prepared = self.connection.client.prepare(&copy).await;
        prepared.map_err(|e| self.connection.failed(Code::Target, what, e))
    }

    /// Keeps Chronicle's own triggers from changing what is loaded.
    async fn silence_triggers(&mut self) -> Result<()> {
        let names = self.catalog.tables.iter().map(|t| &t.name);
        let tables: Vec<&PgTable> =
            names.filter_map(|name| self.found.tables.iter().find(|t| t.name == *name)).collect();
        let found = triggers(&self.connection, &tables).await?;
        let as_replica = self.try_run("SET LOCAL session_replication_role = replica").await?;
        // a replica's session still fires those that were made for it
        let firing: Vec<Trigger> =
            found.iter().filter(|t| !as_replica || t.fires != 'O').cloned().collect();
        for trigger in &firing {
            let sql = format!(
                "ALTER TABLE {} DISABLE TRIGGER {}",
                self.found.full_name(&trigger.table),
                quoted(&trigger.name)
            );
            let what = format!(
                "the trigger {} of {} would change what is loaded and cannot be switched off",
                show_text(&trigger.name),
                trigger.table
            );
            self.run(&what, &sql).await?;
        }
        if !found.is_empty() {
            self.notices.push(format!(
                "{} triggers of the target did not fire: rows are loaded as they are in the archive",
                found.len()
            ));
        }
        self.disabled = firing;
        Ok(())
    }

    /// Gives every trigger its state back, inside the same transaction.
    async fn restore_triggers(&mut self) -> Result<()> {
        for trigger in std::mem::take(&mut self.disabled) {
            let how = match trigger.fires {
                'A' => "ENABLE ALWAYS",
                'R' => "ENABLE REPLICA",
                _ => "ENABLE",
            };
            let sql = format!(
                "ALTER TABLE {} {how} TRIGGER {}",
                self.found.full_name(&trigger.table),
                quoted(&trigger.name)
            );
            self.run("cannot switch a trigger on again", &sql).await?;
        }
        Ok(())
    }

    pub(super) async fn run(&self, what: &str, sql: &str) -> Result<()> {
        self.connection.run(Code::Target, what, sql).await
    }

    /// Runs a statement that may be refused; the transaction lives on. True if it went well.
    async fn try_run(&self, sql: &str) -> Result<bool> {
        self.run("cannot set a savepoint", "SAVEPOINT attempt").await?;
        if self.connection.client.batch_execute(sql).await.is_ok() {
            self.run("cannot release a savepoint", "RELEASE SAVEPOINT attempt").await?;
            return Ok(true);
        }
        self.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT attempt").await?;
        Ok(false)
    }

    async fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Refused>> {
        let plan = self.loading.as_ref().map(|l| Arc::clone(&l.plan)).ok_or_else(not_begun)?;
        let stream = plan.streams.get(rows.stream).ok_or_else(not_begun)?;
        if stream.apart.is_some() {
            self.finish_stream().await?;
            if let Some(loading) = &mut self.loading {
                loading.loaded[rows.stream].inserted_rows += rows.residue.len() as u64;
            }
            return self.send_residue(stream, rows, &[]).await.map(|()| Vec::new());
        }
        let current = self.loading.as_ref().and_then(|l| l.current.as_ref());
        if current.is_none_or(|load| load.stream != rows.stream) {
            self.finish_stream().await?;
            let load = self.start_stream(&plan, rows.stream, stream).await?;
            if let Some(loading) = &mut self.loading {
                loading.current = Some(load);
            }
        }
        if rows.shaped.rows() == 0 {
            return Ok(Vec::new());
        }
        let first = self.send(stream, rows).await?;
        let refused = self.ask_rules(stream, rows, first).await?;
        self.send_residue(stream, rows, &refused).await?;
        Ok(refused)
    }

    /// Sends rows by one COPY; returns the number of the first.
    async fn send(&mut self, stream: &StreamPlan, rows: &Rows<'_>) -> Result<i64> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let Some(load) = &mut loading.current else { return Err(not_begun()) };
        let refused = |e| refused(&self.info, stream, rows, &e);
        let first = i64::try_from(load.rows).unwrap_or(i64::MAX);
        let sink = self.connection.client.copy_in::<_, Bytes>(&load.copy).await.map_err(refused)?;
        pin_mut!(sink);
        let mut buffer = BytesMut::with_capacity(MESSAGE + (64 << 10));
        binary::start(&mut buffer);
        for row in 0..rows.shaped.rows() {
            let number = load.numbered.then(|| first.saturating_add(row as i64));
            binary::put_row(&mut buffer, &load.types, rows.shaped, row, number)?;
            load.sums.add(rows.shaped, row);
            if buffer.len() >= MESSAGE {
                sink.send(buffer.split().freeze()).await.map_err(refused)?;
            }
        }
        binary::end(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(refused)?;
        load.rows += sink.finish().await.map_err(refused)?;
        Ok(first)
    }

    /// Takes the rows back out of the staging table that break a rule which only the server knows.
    async fn ask_rules(
        &mut self,
        stream: &StreamPlan,
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
            refused.iter().for_each(|r| load.sums.take(rows.shaped, r.row));
            load.rows -= refused.len() as u64;
        }
        Ok(refused)
    }

    /// Takes the rows of a place out again that break a rule, from the one numbered `first`; gives
    /// their numbers.
    async fn broken(
        &self,
        stream: &StreamPlan,
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
    fn cast_of<'a>(&self, stream: &'a StreamPlan, physical: &str) -> Option<&'a str> {
        let table = &self.catalog.tables[stream.table];
        let column =
            stream.columns.iter().find(|c| table.columns[c.target].physical == physical)?;
        match &column.ty {
            TargetType::Cast(ty) => Some(ty),
            _ => None,
        }
    }

    /// The rules of a stream's table that only the server knows, as far as they are about columns
    /// that are written.
    fn unforeseen(&self, stream: &StreamPlan) -> Vec<Rule> {
        let table = &self.catalog.tables[stream.table];
        let written = |name: &String| {
            stream.columns.iter().any(|c| table.columns[c.target].physical == *name)
        };
        let asked = |rule: &&Rule| {
            rule.table == table.name && rule.is_unforeseen() && rule.columns.iter().all(written)
        };
        self.found.rules.iter().filter(asked).cloned().collect()
    }

    /// Stages what is kept beside rows.
    async fn send_residue(
        &mut self,
        stream: &StreamPlan,
        rows: &Rows<'_>,
        refused: &[Refused],
    ) -> Result<()> {
        if rows.residue.is_empty() || self.purpose == Purpose::Check {
            return Ok(());
        }
        if let Some(Loading { residue: None, plan, .. }) = &self.loading {
            // only now: who keeps nothing gets no tables of ours
            let copy = self.remember(plan).await?;
            if let Some(loading) = &mut self.loading {
                loading.residue = Some(copy);
            }
        }
        let copy = self.loading.as_ref().and_then(|l| l.residue.as_ref());
        let Some(copy) = copy else { return Ok(()) };
        let cannot = |e| self.connection.failed(Code::Target, "cannot keep the originals", e);
        let sink = self.connection.client.copy_in::<_, Bytes>(copy).await.map_err(cannot)?;
        pin_mut!(sink);
        let (types, mut row) = (vec![TargetType::Text(None); 3], Batch::default());
        let mut buffer = BytesMut::new();
        binary::start(&mut buffer);
        for kept in rows.residue.iter().filter(|k| !refused.iter().any(|r| r.row == k.row)) {
            row.start(0, 3, 1);
            for text in [&stream.table_name, &kept.key, &kept.text] {
                row.push(Value::Text(text.as_bytes()));
            }
            binary::put_row(&mut buffer, &types, &row, 0, None)?;
            if buffer.len() >= MESSAGE {
                sink.send(buffer.split().freeze()).await.map_err(cannot)?;
            }
        }
        binary::end(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(cannot)?;
        sink.finish().await.map_err(cannot)?;
        Ok(())
    }

    /// Decides how the rows of a stream go in: straight, if the table is empty and nothing has to be
    /// asked or taken back.
    async fn start_stream(&self, plan: &Plan, number: usize, stream: &StreamPlan) -> Result<Load> {
        let table = &self.catalog.tables[stream.table];
        let full = self.found.full_name(&table.name);
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let mut columns: Vec<String> = stream.columns.iter().map(|c| physical(c.target)).collect();
        let types: Vec<TargetType> = stream.columns.iter().map(|c| c.ty.clone()).collect();
        let casts = types.iter().any(|ty| matches!(ty, TargetType::Cast(_)));
        let any = format!("SELECT EXISTS (SELECT 1 FROM {full})");
        let what = format!("cannot read {}", table.name);
        let rows = self.connection.rows(Code::Target, &what, &any).await?;
        let empty = rows.first().and_then(|r| r.first()).is_some_and(|v| v.as_deref() == Some("f"));
        if empty && self.purpose == Purpose::Load {
            self.forget(&table.name).await?;
        }
        let checks = self.purpose == Purpose::Check;
        let rejects = plan.options.on_unrepresentable == OnUnrepresentable::Reject;
        let numbered = (checks || rejects) && !self.unforeseen(stream).is_empty();
        let takes_back = !table.references.is_empty()
            && matches!(plan.options.orphans, Some(OnOrphans::Skip | OnOrphans::Adopt));
        let direct = empty || skips(Step::Conflicts);
        let staging = match direct && !casts && !checks && !numbered && !takes_back {
            true => None,
            false => Some(self.stage(number, stream, numbered).await?),
        };
        if numbered {
            columns.push(NUMBER.into());
        }
        let sql = format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            staging.as_deref().unwrap_or(&full),
            columns.join(", ")
        );
        let copy = self.connection.client.prepare(&sql).await.map_err(|e| {
            self.connection.failed(Code::Target, format!("cannot write {}", table.name), e)
        })?;
        let sums = Readback::new(types.clone(), stream.key.clone());
        Ok(Load { stream: number, staging, numbered, copy, types, rows: 0, sums })
    }

    /// Removes what was kept beside rows that are no longer there.
    async fn forget(&self, table: &str) -> Result<()> {
        let residue = self.found.full_name(RESIDUE);
        let what = "cannot read what is kept beside the rows";
        let sql = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", literal(&residue));
        if self.connection.rows(Code::Target, what, &sql).await?.is_empty() {
            return Ok(());
        }
        let sql = format!("DELETE FROM {residue} WHERE table_name = {}", literal(table));
        self.run("cannot forget the originals of rows that are gone", &sql).await
    }

    /// Makes the staging table of a stream.
    async fn stage(&self, number: usize, stream: &StreamPlan, numbered: bool) -> Result<String> {
        let table = &self.catalog.tables[stream.table];
        let added = |name: &str| stream.added.iter().any(|a| a.physical == name);
        let staged: Vec<String> = (stream.columns.iter())
            .map(|c| {
                let physical = &table.columns[c.target].physical;
                let name = quoted(physical);
                match &c.ty {
                    TargetType::Cast(_) => format!("{name}::text AS {name}"),
                    ty if added(physical) => format!("NULL::{} AS {name}", type_name(ty)),
                    _ => name,
                }
            })
            .chain(numbered.then(|| format!("0::bigint AS {NUMBER}")))
            .collect();
        let sql = format!(
            "CREATE TEMPORARY TABLE chronicle_dump_stage_{number} ON COMMIT DROP AS \
             SELECT {} FROM {} WITH NO DATA",
            staged.join(", "),
            self.found.full_name(&table.name)
        );
        self.run("cannot create a staging table", &sql).await?;
        Ok(format!("pg_temp.chronicle_dump_stage_{number}"))
    }

    /// Ends the loading of a stream: what was staged goes into its table.
    async fn finish_stream(&mut self) -> Result<()> {
        let Some(loading) = &mut self.loading else { return Ok(()) };
        let Some(mut load) = loading.current.take() else { return Ok(()) };
        let plan = Arc::clone(&loading.plan);
        let stream = &plan.streams[load.stream];
        let inserted = match load.staging.clone() {
            None => load.rows,
            Some(staging) => {
                self.settle_orphans(stream, &mut load, &staging).await?;
                let table = &self.catalog.tables[stream.table];
                let merge = Merge { target: self, stream, table, staging: &staging };
                match self.purpose {
                    Purpose::Load => merge.run().await?,
                    Purpose::Check => {
                        let clean = self.loading.as_ref().is_some_and(|l| !l.problems.has(stream));
                        let problems = merge.problems(clean).await?;
                        let Some(loading) = &mut self.loading else { return Ok(()) };
                        problems.into_iter().for_each(|p| loading.problems.push(p));
                        load.rows
                    }
                }
            }
        };
        self.read_back(stream, &load).await?;
        let Some(loading) = &mut self.loading else { return Ok(()) };
        loading.loaded[load.stream].inserted_rows += inserted;
        loading.loaded[load.stream].skipped_rows += load.rows - inserted;
        loading.done.push(load);
        Ok(())
    }

    /// Decides about staged rows that refer to nothing.
    async fn settle_orphans(
        &mut self,
        stream: &StreamPlan,
        load: &mut Load,
        staging: &str,
    ) -> Result<()> {
        let wanted = self.loading.as_ref().and_then(|l| l.plan.options.orphans);
        for reference in self.catalog.tables[stream.table].references.clone() {
            let Some(left) = self.orphans_in(staging, stream, &reference).await? else { continue };
            let refused = reference.enforced || wanted == Some(OnOrphans::Fail);
            match wanted {
                Some(OnOrphans::Skip) => {
                    let rows = self.skip(stream, &reference, load, staging).await?;
                    let Some(loading) = &mut self.loading else { return Ok(()) };
                    loading.loaded[load.stream].orphans_skipped += rows;
                }
                Some(OnOrphans::Adopt) => {
                    let rows = self.adopt(stream, &reference, staging).await?;
                    let Some(loading) = &mut self.loading else { return Ok(()) };
                    loading.loaded[load.stream].adopted_rows += rows;
                }
                _ if refused && self.purpose == Purpose::Load => {
                    return Err(left.refused(reference.enforced));
                }
                _ if refused => {
                    let Some(loading) = &mut self.loading else { return Ok(()) };
                    loading.problems.orphans(&left);
                    continue;
                }
                _ => {}
            }
            let Some(loading) = &mut self.loading else { return Ok(()) };
            loading.orphans.push(left);
        }
        Ok(())
    }

    /// Takes staged rows out again that refer to nothing.
    async fn skip(
        &self,
        stream: &StreamPlan,
        reference: &Reference,
        load: &mut Load,
        staging: &str,
    ) -> Result<u64> {
        let Some((_, condition)) = self.orphan_condition(stream, reference) else { return Ok(0) };
        let sums = &mut load.sums;
        let from = format!("{staging} c WHERE {condition}");
        self.each_row(stream, &load.types, &from, |batch, row| sums.take(batch, row)).await?;
        let key = self.key_text(stream, "c");
        let mut sql = String::new();
        if self.loading.as_ref().is_some_and(|l| l.residue.is_some()) {
            sql = format!(
                "DELETE FROM {STAGED_RESIDUE} r USING {staging} c \
                  WHERE r.table_name = {} AND r.key = {key} AND {condition};",
                literal(&stream.table_name)
            );
        }
        if !sql.is_empty() {
            self.run("cannot leave out rows without a session", &sql).await?;
        }
        let sql = format!("DELETE FROM {staging} c WHERE {condition}");
        let rows = self.connection.client.execute_typed(&sql, &[]).await.map_err(|e| {
            self.connection.failed(Code::Target, "cannot leave out rows without a session", e)
        })?;
        load.rows -= rows;
        Ok(rows)
    }

    /// Makes the sessions that staged rows refer to.
    async fn adopt(
        &self,
        stream: &StreamPlan,
        reference: &Reference,
        staging: &str,
    ) -> Result<u64> {
        let Some((refers, condition)) = self.orphan_condition(stream, reference) else {
            return Ok(0);
        };
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let Some(key) = parent.key.first().map(|k| &parent.columns[*k]) else { return Ok(0) };
        let at = stream.columns.iter().find(|c| c.name == "timestamp");
        let at = at.map_or_else(
            || "NULL".into(),
            |c| format!("min(c.{})", quoted(&table.columns[c.target].physical)),
        );
        let mut columns = vec![(quoted(&key.physical), format!("c.{refers}"))];
        for column in &parent.columns {
            let value = match column.name.as_str() {
                "start_time" => at.clone(),
                _ if column.name == key.name || !column.not_null || column.has_default => continue,
                _ if column.made_from.as_deref() == Some(&key.name) => format!("c.{refers}::text"),
                _ => column.otherwise.as_deref().map_or_else(|| "''".into(), literal),
            };
            columns.push((quoted(&column.physical), value));
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {staging} c WHERE {condition} GROUP BY c.{refers}",
            self.found.full_name(&parent.name),
            names.join(", "),
            values.join(", ")
        );
        self.connection.client.execute_typed(&sql, &[]).await.map_err(|e| {
            self.connection.failed(Code::Target, "cannot make the sessions that rows refer to", e)
        })
    }

    /// The key of a row as text, as SQL.
    fn key_text(&self, stream: &StreamPlan, alias: &str) -> String {
        let table = &self.catalog.tables[stream.table];
        table.key.first().map_or_else(
            || "NULL".into(),
            |k| format!("{alias}.{}::text", quoted(&table.columns[*k].physical)),
        )
    }

    /// Hands over the written columns of rows; `from` is what follows FROM, with the rows as `c`.
    async fn each_row(
        &self,
        stream: &StreamPlan,
        types: &[TargetType],
        from: &str,
        mut each: impl FnMut(&Batch, usize),
    ) -> Result<()> {
        let table = &self.catalog.tables[stream.table];
        let columns: Vec<String> = (stream.columns.iter())
            .map(|c| {
                let name = quoted(&table.columns[c.target].physical);
                match c.ty {
                    TargetType::Cast(_) => format!("c.{name}::text"),
                    _ => format!("c.{name}"),
                }
            })
            .collect();
        let sql =
            format!("COPY (SELECT {} FROM {from}) TO STDOUT (FORMAT binary)", columns.join(", "));
        let cannot = |e| {
            let what = format!("cannot read back {}", table.name);
            self.connection.failed(Code::Target, what, e)
        };
        let sent = self.connection.client.copy_out(sql.as_str()).await.map_err(cannot)?;
        pin_mut!(sent);
        let (fields, mut reader, mut batch) =
            (binary::fields(types), RowReader::default(), Batch::default());
        while let Some(bytes) = sent.next().await {
            reader.feed(&bytes.map_err(cannot)?);
            batch.start(0, fields.len(), 1);
            reader.read(&fields, &mut batch)?;
            (0..batch.rows()).for_each(|row| each(&batch, row));
        }
        Ok(())
    }

    /// Compares what stands in the table with what was sent.
    async fn read_back(&self, stream: &StreamPlan, load: &Load) -> Result<()> {
        if skips(Step::Readback) {
            return Ok(());
        }
        let table = &self.catalog.tables[stream.table];
        let full = self.found.full_name(&table.name);
        let from = match (&load.staging, self.purpose, table.key.first()) {
            (None, ..) => format!("{full} c"),
            (Some(staging), Purpose::Check, _) => format!("{staging} c"),
            (Some(staging), _, Some(key)) => {
                let key = quoted(&table.columns[*key].physical);
                format!("{full} c JOIN {staging} s ON s.{key} = c.{key}")
            }
            (Some(_), _, None) => return Ok(()),
        };
        let mut found = load.sums.another();
        self.each_row(stream, &load.types, &from, |batch, row| found.add(batch, row)).await?;
        if !found.differs(&load.sums) {
            return Ok(());
        }
        let mut first = None;
        self.each_row(stream, &load.types, &from, |batch, row| {
            if first.is_none() {
                first = differing(stream, &mut found, &load.sums, batch, row);
            }
        })
        .await?;
        Err(not_as_loaded(stream, first, load.sums.rows(), found.rows()))
    }

    async fn settle_now(&mut self) -> Result<Outcome> {
        self.finish_stream().await?;
        self.check_foreign_keys().await?;
        if self.purpose == Purpose::Load {
            self.check_direct().await?;
            self.keep_residue().await?;
            self.restore_triggers().await?;
        }
        let loading = self.loading.as_ref().ok_or_else(not_begun)?;
        Ok(Outcome {
            loaded: loading.loaded.clone(),
            orphans: loading.orphans.clone(),
            problems: loading.problems.all(),
            notices: self.notices.clone(),
        })
    }

    /// Checks the references of rows that went straight into their tables.
    async fn check_direct(&mut self) -> Result<()> {
        let loading = self.loading.as_ref().ok_or_else(not_begun)?;
        let (plan, mut found) = (Arc::clone(&loading.plan), Vec::new());
        for load in loading.done.iter().filter(|l| l.staging.is_none()) {
            let stream = &plan.streams[load.stream];
            let table = &self.catalog.tables[stream.table];
            for reference in &table.references {
                let place = self.found.full_name(&table.name);
                let Some(left) = self.orphans_in(&place, stream, reference).await? else {
                    continue;
                };
                if reference.enforced || plan.options.orphans == Some(OnOrphans::Fail) {
                    return Err(left.refused(reference.enforced));
                }
                found.push(left);
            }
        }
        if let Some(loading) = &mut self.loading {
            loading.orphans.append(&mut found);
        }
        Ok(())
    }

    /// Brings what is kept beside the rows into its table. Rows that have no table and are there
    /// already stay as they are, as in a table.
    async fn keep_residue(&mut self) -> Result<()> {
        if self.loading.as_ref().is_none_or(|l| l.residue.is_none()) {
            return Ok(());
        }
        self.count_apart().await?;
        let residue = self.found.full_name(RESIDUE);
        let sql = format!(
            "SELECT s.table_name, s.key, n.key FROM {STAGED_RESIDUE} s \
               JOIN {residue} r ON r.table_name = s.table_name AND r.key = s.key \
              CROSS JOIN LATERAL json_each_text(s.residue::json) n \
               JOIN LATERAL json_each_text(r.residue::json) o ON o.key = n.key \
              WHERE o.value <> n.value LIMIT 1"
        );
        let other = self.connection.rows(Code::Target, "cannot keep the originals", &sql).await?;
        if let Some([Some(table), Some(key), Some(column)]) = other.first().map(|row| &row[..]) {
            return Err(kept_otherwise(table, key, column));
        }
        let sql = format!(
            "INSERT INTO {residue} AS r SELECT DISTINCT ON (table_name, key) * FROM {STAGED_RESIDUE} \
             ON CONFLICT (table_name, key) \
             DO UPDATE SET residue = (r.residue::jsonb || excluded.residue::jsonb)::text \
              WHERE NOT r.residue::jsonb @> excluded.residue::jsonb"
        );
        self.run("cannot keep the originals", &sql).await
    }

    /// Counts the rows without a table that are there already.
    async fn count_apart(&mut self) -> Result<()> {
        let residue = self.found.full_name(RESIDUE);
        let Some(loading) = &mut self.loading else { return Ok(()) };
        let streams = loading.plan.streams.iter().zip(&mut loading.loaded);
        for (stream, loaded) in streams.filter(|(stream, _)| stream.apart.is_some()) {
            let sql = format!(
                "SELECT count(DISTINCT s.key) FROM {STAGED_RESIDUE} s WHERE s.table_name = {} \
                 AND NOT EXISTS (SELECT 1 FROM {residue} r \
                                  WHERE r.table_name = s.table_name AND r.key = s.key)",
                literal(&stream.table_name)
            );
            let rows =
                self.connection.rows(Code::Target, "cannot keep the originals", &sql).await?;
            let new = rows.into_iter().flatten().flatten().next().and_then(|n| n.parse().ok());
            let all = loaded.inserted_rows;
            loaded.inserted_rows = new.unwrap_or(all);
            loaded.skipped_rows += all.saturating_sub(loaded.inserted_rows);
        }
        Ok(())
    }

    /// Checks the foreign keys that no layout knows of: while triggers are silenced the server may
    /// not check them itself.
    async fn check_foreign_keys(&mut self) -> Result<()> {
        let Some(loading) = &self.loading else { return Ok(()) };
        let mut problems = Problems::default();
        for load in &loading.done {
            let stream = &loading.plan.streams[load.stream];
            let table = &self.catalog.tables[stream.table];
            let known = |column: &str| {
                table.references.iter().any(|r| table.columns[r.column].physical == column)
            };
            let loaded = |column: &String| {
                stream.columns.iter().any(|c| table.columns[c.target].physical == *column)
            };
            for key in self.found.foreign_keys.iter().filter(|k| k.table == table.name) {
                let ours = key.columns.len() == 1 && known(&key.columns[0]);
                if ours || !key.columns.iter().all(loaded) {
                    continue;
                }
                let place = load.place(&self.found, &table.name);
                match (self.check_foreign_key(stream, key, &place).await, self.purpose) {
                    (Err(e), Purpose::Check) if e.code() == Code::Orphan => {
                        problems.refused(&stream.stream, &e);
                    }
                    (checked, _) => checked?,
                }
            }
        }
        if let Some(loading) = &mut self.loading {
            problems.all().into_iter().for_each(|p| loading.problems.push(p));
        }
        Ok(())
    }

    /// The tables that a foreign key refers to: for a check also what would go into them.
    fn parents(&self, key: &ForeignKey) -> Vec<String> {
        let mut places = vec![key.parent.clone()];
        let parent = self.found.tables.iter().find(|t| t.oid == key.parent_oid);
        let Some(loading) = self.loading.as_ref().filter(|_| self.purpose == Purpose::Check) else {
            return places;
        };
        for load in &loading.done {
            let stream = &loading.plan.streams[load.stream];
            let written = |name: &String| {
                let columns = &self.catalog.tables[stream.table].columns;
                stream.columns.iter().any(|c| columns[c.target].physical == *name)
            };
            if parent.is_some_and(|t| t.name == stream.table_name) && key.keys.iter().all(written) {
                places.extend(load.staging.clone());
            }
        }
        places
    }

    pub(super) async fn check_foreign_key(
        &self,
        stream: &StreamPlan,
        key: &ForeignKey,
        place: &str,
    ) -> Result<()> {
        let given: Vec<String> =
            key.columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect();
        // of what is staged as text both sides are compared as texts
        let same = |(own, other): (&String, &String)| match self.cast_of(stream, own) {
            Some(ty) => format!("p.{}::text = (c.{}::{ty})::text", quoted(other), quoted(own)),
            None => format!("p.{} = c.{}", quoted(other), quoted(own)),
        };
        let same: Vec<String> = key.columns.iter().zip(&key.keys).map(same).collect();
        let same = same.join(" AND ");
        let nowhere: Vec<String> = (self.parents(key).iter())
            .map(|p| format!("NOT EXISTS (SELECT 1 FROM {p} p WHERE {same})"))
            .collect();
        let sql = format!(
            "SELECT count(*) FROM {place} c WHERE {} AND {} HAVING count(*) > 0",
            given.join(" AND "),
            nowhere.join(" AND ")
        );
        let rows = self.connection.rows(Code::Target, "cannot check the references", &sql).await?;
        match rows.first().and_then(|r| r.first().cloned().flatten()) {
            None => Ok(()),
            Some(count) => Err(Error::new(
                Code::Orphan,
                format!(
                    "{}: {count} rows violate the foreign key {}: {} is not in {}",
                    key.table,
                    show_text(&key.name),
                    key.columns.join(", "),
                    key.parent
                ),
            )
            .hint("load what they refer to first, or remove them from the source")),
        }
    }

    /// The referring column, and SQL that is true for rows `c` which refer to no row: neither to one
    /// of the table, nor for a check to one that would be there.
    fn orphan_condition(
        &self,
        stream: &StreamPlan,
        reference: &Reference,
    ) -> Option<(String, String)> {
        let table = &self.catalog.tables[stream.table];
        let parent = &self.catalog.tables[reference.table];
        let key = parent.key.first().map(|k| quoted(&parent.columns[*k].physical))?;
        if !stream.columns.iter().any(|c| c.target == reference.column) {
            return None;
        }
        let refers = quoted(&table.columns[reference.column].physical);
        let mut places = vec![self.found.full_name(&parent.name)];
        let loading = self.loading.as_ref()?;
        for load in loading.done.iter().filter(|_| self.purpose == Purpose::Check) {
            let of = &loading.plan.streams[load.stream];
            places.extend(load.staging.clone().filter(|_| of.table == reference.table));
        }
        let nowhere: Vec<String> = (places.iter())
            .map(|p| format!("NOT EXISTS (SELECT 1 FROM {p} p WHERE p.{key} = c.{refers})"))
            .collect();
        let condition = format!("c.{refers} IS NOT NULL AND {}", nowhere.join(" AND "));
        Some((refers, condition))
    }

    /// The rows of a place, the table itself or a staging table, that refer to no row.
    pub(super) async fn orphans_in(
        &self,
        place: &str,
        stream: &StreamPlan,
        reference: &Reference,
    ) -> Result<Option<Orphans>> {
        let Some((refers, condition)) = self.orphan_condition(stream, reference) else {
            return Ok(None);
        };
        if skips(Step::References) {
            return Ok(None);
        }
        let table = &self.catalog.tables[stream.table];
        let sql = format!(
            "SELECT {}, c.{refers}::text, count(*) OVER () FROM {place} c WHERE {condition} \
             LIMIT {ORPHANS_NAMED}",
            self.key_text(stream, "c"),
        );
        let rows = self.connection.rows(Code::Target, "cannot check the references", &sql).await?;
        let text = |row: &[Option<String>], n: usize| row.get(n).cloned().flatten();
        let Some(count) = rows.first().and_then(|row| text(row, 2)) else { return Ok(None) };
        Ok(Some(Orphans {
            stream: stream.stream.clone(),
            column: table.columns[reference.column].name.clone(),
            rows: count.parse().unwrap_or(0),
            first: (rows.iter())
                .map(|r| (text(r, 0).unwrap_or_default(), text(r, 1).unwrap_or_default()))
                .collect(),
        }))
    }

    /// The integers that rows of a table have as ids, beside those they had before.
    async fn known_ids_now(&self, table: usize, kept_as: Option<&str>) -> Result<Vec<KnownId>> {
        let table = &self.catalog.tables[table];
        let Some(key) = table.key.first() else { return Ok(Vec::new()) };
        let key = quoted(&table.columns[*key].physical);
        let origin = table.origin.map_or_else(
            || "NULL".into(),
            |o| format!("t.{}::text", quoted(&table.columns[o].physical)),
        );
        let what = format!("cannot read {}", table.name);
        let own = self.found.full_name(RESIDUE);
        let there = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", literal(&own));
        let beside = match self.connection.rows(Code::Target, &what, &there).await?.is_empty() {
            true => "NULL".into(),
            false => format!(
                "(SELECT r.residue FROM {own} r WHERE r.table_name = {} AND r.key = t.{key}::text)",
                literal(&table.name)
            ),
        };
        let sql = format!(
            "SELECT {origin}, {beside}, t.{key}::text FROM {} t",
            self.found.full_name(&table.name)
        );
        let rows = self.connection.rows(Code::Target, &what, &sql).await?;
        let known = |row: Vec<Option<String>>| {
            let mut texts = row.into_iter();
            let (origin, beside) = (texts.next()?, texts.next()?);
            let kept = beside.zip(kept_as).and_then(|(kept, name)| original_id(&kept, name));
            Some((origin.or(kept), texts.next()??.parse().ok()?))
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// Moves the sequences of loaded columns behind the largest value, never back.
    async fn advance_sequences(&self) -> Result<()> {
        for table in &self.catalog.tables {
            let full = self.found.full_name(&table.name);
            for column in &table.columns {
                let sql = format!(
                    "SELECT pg_catalog.setval(s.seq, m.most) \
                       FROM (SELECT pg_catalog.pg_get_serial_sequence({}, {})::regclass AS seq) s, \
                            (SELECT max({}) AS most FROM {full}) m \
                      WHERE s.seq IS NOT NULL AND m.most > coalesce( \
                            pg_catalog.pg_sequence_last_value(s.seq), 0)",
                    literal(&full),
                    literal(&column.physical),
                    quoted(&column.physical),
                );
                if matches!(column.ty, TargetType::Int(_)) {
                    self.run("cannot advance a sequence", &sql).await?;
                }
            }
        }
        Ok(())
    }
}

impl Target for PgTarget {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.begin_now(plan))
    }

    fn known_ids<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<KnownId>>> {
        Box::pin(self.known_ids_now(table, origin))
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Refused>>> {
        Box::pin(self.write(rows))
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(self.settle_now())
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            // sequences do not roll back, so they move only when nothing can fail any more
            self.advance_sequences().await?;
            self.connection.client.batch_execute("COMMIT").await.map_err(|e| {
                let error = self.connection.failed(Code::Target, "the commit failed", e);
                error.hint(
                    "if the connection was lost in this moment, the rows may be there: import \
                     again, rows that are there already are skipped",
                )
            })?;
            Ok(())
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.connection.abort().await })
    }
}

async fn create_tables(connection: &Connection, info: &ConnInfo, layout: &Layout) -> Result<()> {
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

/// On Supabase, a word on who else may use the new tables.
async fn who_may_read(connection: &Connection) -> Result<Option<String>> {
    let sql = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'anon'";
    let rows = connection.rows(Code::Target, "cannot read the roles", sql).await?;
    Ok((!rows.is_empty()).then(|| {
        "the new tables are as open as Chronicle's own schema makes them: who has the project's \
         anon key can read and write them"
            .into()
    }))
}

/// A staged column with the type that it has in its table, as SQL.
fn as_cast(alias: &str, column: &str, cast: Option<&str>) -> String {
    let name = quoted(column);
    match cast {
        Some(ty) => format!("{alias}.{name}::{ty} AS {name}"),
        None => format!("{alias}.{name}"),
    }
}

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}

/// An error of a COPY, with the row that the server points at.
fn refused(
    info: &ConnInfo,
    stream: &StreamPlan,
    rows: &Rows<'_>,
    e: &tokio_postgres::Error,
) -> Error {
    let server = e.as_db_error();
    let place = match server.map(|s| s.code()) {
        // checked after the last row: the server names the value, not the line
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            server.and_then(|s| s.detail()).and_then(|d| line_with(d, stream, rows))
        }
        _ => server.and_then(|s| s.where_()).and_then(line_of),
    };
    let what = match place {
        Some((line, column)) if (1..=rows.shaped.rows()).contains(&line) => {
            let column = column.map_or_else(String::new, |c| format!(", column {c}"));
            format!("{}{column}", place_of(stream, rows, line - 1))
        }
        _ => format!("{}: cannot be written", stream.table_name),
    };
    let code = match server.map(|s| s.code()) {
        Some(&SqlState::UNIQUE_VIOLATION) => Code::Conflict,
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => Code::Orphan,
        Some(state) if is_about_a_value(state) => Code::Value,
        _ => Code::Target,
    };
    let error = failed(info, code, what, e);
    match code {
        Code::Conflict => error.hint("two rows of the archive cannot both be there"),
        _ => with_hint(code, error),
    }
}

/// Whether the server refuses a value: its form, a rule, or its size, as of an index.
pub(super) fn is_about_a_value(state: &SqlState) -> bool {
    ["22", "23", "54"].iter().any(|class| state.code().starts_with(class))
}

/// The way on from a row that the server refused.
pub(super) fn with_hint(code: Code, error: Error) -> Error {
    match code {
        Code::Value if error.next_step().is_none() => {
            error.hint("mend the value in the source and export again; nothing was changed")
        }
        Code::Orphan => error.hint(ENFORCED),
        _ => error,
    }
}

/// The line and column of the first row with the value that a detail quotes: `Key (column)=(value)
/// …`. Words are translated on some servers, the parentheses are not.
fn line_with(
    detail: &str,
    stream: &StreamPlan,
    rows: &Rows<'_>,
) -> Option<(usize, Option<String>)> {
    let (before, after) = detail.split_once(")=(")?;
    let (name, wanted) = (before.split_once('(')?.1, after.split_once(')')?.0);
    let column = stream.columns.iter().position(|c| c.name == name)?;
    let is_it = |row: &usize| crate::record::show(rows.shaped.value(*row, column)) == wanted;
    let row = (0..rows.shaped.rows()).find(is_it)?;
    Some((row + 1, Some(show_text(name))))
}

/// A row's place in the archive and its key, for messages.
fn place_of(stream: &StreamPlan, rows: &Rows<'_>, row: usize) -> String {
    let from = rows.from.get(row).copied().unwrap_or(0);
    format!(
        "{}: row {} (key {})",
        stream.table_name,
        rows.source.first_row() + from as u64,
        key_of(stream, rows.source, from)
    )
}

/// A type that we give a column, as SQL.
pub(super) fn type_name(ty: &TargetType) -> &'static str {
    match ty {
        TargetType::Int(_) => "bigint",
        TargetType::Float(_) => "double precision",
        TargetType::Bool => "boolean",
        TargetType::Timestamptz => "timestamptz",
        TargetType::Uuid => "uuid",
        TargetType::Bytea => "bytea",
        TargetType::Json => "json",
        TargetType::Jsonb => "jsonb",
        TargetType::Text(_) | TargetType::Cast(_) | TargetType::Sqlite(_) => "text",
    }
}

/// The line and column in a COPY's context: `COPY t, line 7, column c: …`. Words are translated
/// on some servers, the numbers stand in the same places.
fn line_of(context: &str) -> Option<(usize, Option<String>)> {
    let mut parts = context.split(", ").skip(1);
    let digits: String = parts.next()?.chars().filter(char::is_ascii_digit).take(12).collect();
    let column = parts.next().and_then(|p| p.split([':', ' ']).nth(1)).map(show_text);
    Some((digits.parse().ok()?, column.filter(|c| !c.is_empty())))
}
