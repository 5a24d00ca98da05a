//! A Postgres database as a target: one transaction, rows by binary COPY, straight into an empty
//! table or by way of a staging table where rows are there already.

mod constraints;
mod copy;
mod existing_keys;
mod indexes;
mod keys;
mod merge;
mod prepare;
mod references;
mod rehearsal;
mod sidecar;
mod verify;

use std::sync::Arc;

use futures::future::BoxFuture;
use uuid::Uuid;

use self::copy::Load;
use self::indexes::Index;
use self::merge::{Merge, merge};
use self::prepare::{MEMORY, compress, create_tables, who_may_read};
use self::sidecar::SidecarCopy;
use super::catalog::{PgCatalog, Trigger};
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::source::instance;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::load::{
    ExistingKey, ImportStats, KeysOf, Problems, Purpose, Rejected, Rows, StreamStats, Target,
    TargetOptions,
};
use crate::plan::{Plan, TablePlan};
use crate::source::Orphans;

/// A Postgres database that rows are loaded into.
pub struct PgTarget {
    connection: Connection,
    info: ConnInfo,
    found: PgCatalog,
    forced: Option<Layout>,
    catalog: Catalog,
    notices: Vec<String>,
    disabled: Vec<Trigger>,
    /// Whether this session is a replica's: the server then checks no references while rows come.
    as_replica: bool,
    purpose: Purpose,
    /// Whether the indexes of empty tables stay where they are, so that these can be read.
    readers_go_on: bool,
    loading: Option<Loading>,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    /// The indexes that are created again behind the rows.
    indexes: Vec<Index>,
    loaded: Vec<StreamStats>,
    /// Of every stream, the rows that were stored whole and not loaded.
    whole_rows: Vec<u64>,
    current: Option<Load>,
    done: Vec<Load>,
    orphans: Vec<Orphans>,
    problems: Problems,
    /// Where entries of the sidecar table go, if there are any.
    sidecar: Option<SidecarCopy>,
}

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
        connection.run(Code::Target, "cannot set the memory of this load", MEMORY).await?;
        if let Some(method) = options.compression {
            compress(&connection, method).await?;
        }
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
        let name = instance(&connection, &found.schema).await?;
        Ok(PgTarget {
            connection,
            info: info.clone(),
            catalog: Catalog { instance: Some(name), ..found.describe() },
            found,
            forced: forced.cloned(),
            notices,
            disabled: Vec::new(),
            as_replica: false,
            purpose: options.purpose,
            readers_go_on: options.readers_go_on,
            loading: None,
        })
    }

    async fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        if self.purpose == Purpose::Load {
            self.lock().await?;
            self.silence_triggers().await?;
            self.check_at_once().await?;
            self.forget_gone_rows(&plan).await?;
        }
        for (_, stream) in plan.tables() {
            self.add_columns(stream).await?;
        }
        let sidecar = match plan.keeps_columns() {
            true if self.purpose == Purpose::Load => Some(self.start_sidecar(&plan).await?),
            _ => None,
        };
        let loaded = (plan.streams.iter())
            .map(|s| StreamStats { stream: s.name().to_owned(), ..StreamStats::default() })
            .collect();
        let indexes = match self.purpose {
            Purpose::Load if !self.readers_go_on => self.take_indexes(&plan).await?,
            _ => Vec::new(),
        };
        self.loading = Some(Loading {
            indexes,
            loaded,
            whole_rows: vec![0; plan.streams.len()],
            plan,
            current: None,
            done: Vec::new(),
            orphans: Vec::new(),
            problems: Problems::default(),
            sidecar,
        });
        match self.purpose {
            Purpose::Load => Ok(()),
            Purpose::Check => self.look().await,
        }
    }

    /// Whether a table has no rows.
    pub(super) async fn is_empty(&self, table: &str) -> Result<bool> {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", self.found.full_name(table));
        let what = format!("cannot read {table}");
        let any = self.connection.read(Code::Target, &what, &any, |row| row.boolean()).await?;
        Ok(any == [false])
    }

    fn loading(&self) -> Result<&Loading> {
        self.loading.as_ref().ok_or_else(not_begun)
    }

    fn loading_mut(&mut self) -> Result<&mut Loading> {
        self.loading.as_mut().ok_or_else(not_begun)
    }

    pub(super) async fn run(&self, what: &str, sql: &str) -> Result<()> {
        self.connection.run(Code::Target, what, sql).await
    }

    async fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
        let plan = Arc::clone(&self.loading()?.plan);
        let planned = plan.streams.get(rows.stream).ok_or_else(not_begun)?;
        let refused = match planned.table() {
            Some(stream) => self.write_table(&plan, stream, rows).await?,
            None => Vec::new(),
        };
        if planned.unmapped().is_some() {
            self.loading_mut()?.whole_rows[rows.stream] += rows.whole_rows.len() as u64;
        }
        self.stage_entries(planned, rows, &refused).await?;
        Ok(refused)
    }

    async fn write_table(
        &mut self,
        plan: &Plan,
        stream: &TablePlan,
        rows: &Rows<'_>,
    ) -> Result<Vec<Rejected>> {
        let current = self.loading()?.current.as_ref();
        if current.is_none_or(|load| load.stream != rows.stream) {
            self.finish_stream().await?;
            let load = self.start_stream(plan, rows.stream, stream).await?;
            self.loading_mut()?.current = Some(load);
        }
        if rows.rows.rows() == 0 {
            return Ok(Vec::new());
        }
        let first = self.send(stream, rows).await?;
        self.ask_checks(stream, rows, first).await
    }

    /// Ends the loading of a stream: what was staged goes into its table, unless it has to wait for rows
    /// that it may refer to.
    async fn finish_stream(&mut self) -> Result<()> {
        let loading = self.loading_mut()?;
        let Some(load) = loading.current.take() else { return Ok(()) };
        let (waits, number, rows) = (load.waits, load.stream, load.rows);
        let staged = load.staging.is_some();
        loading.done.push(load);
        let last = loading.done.len() - 1;
        if staged && waits {
            return Ok(());
        }
        if staged {
            return self.finish_loads(&[last]).await;
        }
        let plan = Arc::clone(&loading.plan);
        loading.loaded[number].inserted_rows += rows;
        let stream = table_plan(&plan, number)?;
        self.note_defaults(stream).await?;
        self.verify_load(stream, &self.loading()?.done[last]).await
    }

    /// Ends the loading of staged streams: decides about orphans, merges the rows into their tables, or
    /// finds for a check what would be refused, and verifies what is there then.
    async fn finish_loads(&mut self, loads: &[usize]) -> Result<()> {
        let mut loads = loads.to_vec();
        for load in loads.clone() {
            if let Some(error) = self.unreadable(load).await? {
                if self.purpose == Purpose::Load {
                    return Err(error);
                }
                let loading = self.loading_mut()?;
                loading.done[load].unreadable = true;
                let stream = &loading.plan.streams[loading.done[load].stream];
                loading.problems.refused(stream.name(), &error);
                loads.retain(|l| *l != load);
            }
        }
        self.apply_orphan_policy(&loads).await?;
        let plan = Arc::clone(&self.loading()?.plan);
        let inserted = match self.purpose {
            Purpose::Load => merge(&self.merges(&plan, &loads)?).await?,
            Purpose::Check => {
                for load in &loads {
                    self.find_problems(&plan, *load).await?;
                }
                let done = &self.loading()?.done;
                loads.iter().map(|load| done[*load].rows).collect()
            }
        };
        for (load, inserted) in loads.into_iter().zip(inserted) {
            let merged = self.purpose == Purpose::Load;
            let loading = self.loading_mut()?;
            let done = &mut loading.done[load];
            done.merged = merged;
            let stats = &mut loading.loaded[done.stream];
            stats.inserted_rows += inserted;
            stats.skipped_rows += done.rows - inserted;
            let done = &self.loading()?.done[load];
            self.verify_load(table_plan(&plan, done.stream)?, done).await?;
        }
        Ok(())
    }

    fn merges<'a>(&'a self, plan: &'a Plan, loads: &[usize]) -> Result<Vec<Merge<'a>>> {
        let loading = self.loading()?;
        let merge = |load: &usize| {
            let load = &loading.done[*load];
            let stream = table_plan(plan, load.stream)?;
            let (table, key) = (&self.catalog.tables[stream.table], self.key(stream));
            let staging = load.staging.as_deref().ok_or_else(not_begun)?;
            Ok(Merge { target: self, stream, table, staging, key })
        };
        loads.iter().map(merge).collect()
    }

    /// Notes for a check what a merge would refuse.
    async fn find_problems(&mut self, plan: &Plan, load: usize) -> Result<()> {
        let mut found = Vec::new();
        for merge in self.merges(plan, &[load])? {
            let clean = !self.loading()?.problems.has(&merge.stream.stream);
            found.extend(merge.problems(clean).await?);
        }
        let loading = self.loading_mut()?;
        found.into_iter().for_each(|problem| loading.problems.push(problem));
        Ok(())
    }

    async fn finalize_now(&mut self) -> Result<ImportStats> {
        self.finish_stream().await?;
        let waiting = self.loading()?.done.iter().enumerate();
        let waiting: Vec<usize> =
            waiting.filter(|(_, l)| l.waits && l.staging.is_some()).map(|(n, _)| n).collect();
        if !waiting.is_empty() {
            self.finish_loads(&waiting).await?;
        }
        self.check_foreign_keys().await?;
        if self.purpose == Purpose::Load {
            self.check_direct().await?;
            self.store_entries().await?;
            self.restore_triggers().await?;
            let taken = std::mem::take(&mut self.loading_mut()?.indexes);
            self.make_indexes(&taken).await?;
        }
        self.count_whole_rows();
        let loading = self.loading()?;
        Ok(ImportStats {
            loaded: loading.loaded.clone(),
            orphans: loading.orphans.clone(),
            problems: loading.problems.all(),
            notices: self.notices.clone(),
        })
    }
}

impl Target for PgTarget {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.begin_now(plan))
    }

    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        Box::pin(self.existing_keys_now(ids, after))
    }

    fn existing_uuid_spellings<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        Box::pin(self.existing_uuid_spellings_now(table, origin))
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        Box::pin(self.write(rows))
    }

    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>> {
        Box::pin(self.finalize_now())
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

/// How the rows of a stream go into a table.
fn table_plan(plan: &Plan, stream: usize) -> Result<&TablePlan> {
    plan.streams.get(stream).and_then(|s| s.table()).ok_or_else(not_begun)
}

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}
