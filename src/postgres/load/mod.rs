//! A Postgres database as a target: one transaction, rows by binary COPY, straight into an empty
//! table or by way of a staging table where rows are there already.

mod constraints;
mod copy;
mod existing_keys;
mod indexes;
mod merge;
mod prepare;
mod references;
mod sidecar;
mod verify;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio_postgres::Statement;
use uuid::Uuid;

use self::copy::Load;
use self::indexes::Index;
use self::merge::Merge;
use self::prepare::{MEMORY, compress, create_tables, who_may_read};
use super::catalog::{PgCatalog, Trigger};
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::source::instance;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::load::{
    ExistingKey, ImportStats, KeysOf, Problems, Purpose, Refused, Rows, StreamStats, Target,
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
    purpose: Purpose,
    /// Whether the indexes of empty tables stay where they are, so that these can be read.
    readers_go_on: bool,
    loading: Option<Loading>,
}

/// What is kept between batches.
struct Loading {
    plan: Arc<Plan>,
    /// What is made again behind the rows.
    indexes: Vec<Index>,
    loaded: Vec<StreamStats>,
    /// Of every stream, the rows that were stored whole and not loaded.
    whole_rows: Vec<u64>,
    current: Option<Load>,
    done: Vec<Load>,
    orphans: Vec<Orphans>,
    problems: Problems,
    /// The COPY of what is kept beside the rows, if anything is.
    sidecar: Option<Statement>,
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
            purpose: options.purpose,
            readers_go_on: options.readers_go_on,
            loading: None,
        })
    }

    async fn begin_now(&mut self, plan: Arc<Plan>) -> Result<()> {
        if self.purpose == Purpose::Load {
            self.lock().await?;
            self.silence_triggers().await?;
        }
        for (_, stream) in plan.tables() {
            self.add_columns(stream).await?;
        }
        let sidecar = match plan.keeps_columns() {
            true if self.purpose == Purpose::Load => Some(self.remember(&plan).await?),
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
        let rows =
            self.connection.rows(Code::Target, &format!("cannot read {table}"), &any).await?;
        Ok(rows.first().and_then(|r| r.first()).is_some_and(|v| v.as_deref() == Some("f")))
    }

    pub(super) async fn run(&self, what: &str, sql: &str) -> Result<()> {
        self.connection.run(Code::Target, what, sql).await
    }

    async fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Refused>> {
        let plan = self.loading.as_ref().map(|l| Arc::clone(&l.plan)).ok_or_else(not_begun)?;
        let planned = plan.streams.get(rows.stream).ok_or_else(not_begun)?;
        let refused = match planned.table() {
            Some(stream) => self.write_table(&plan, stream, rows).await?,
            None => Vec::new(),
        };
        if let (Some(_), Some(loading)) = (planned.unmapped(), &mut self.loading) {
            loading.whole_rows[rows.stream] += rows.whole_rows.len() as u64;
        }
        self.send_residue(planned, rows, &refused).await?;
        Ok(refused)
    }

    async fn write_table(
        &mut self,
        plan: &Plan,
        stream: &TablePlan,
        rows: &Rows<'_>,
    ) -> Result<Vec<Refused>> {
        let current = self.loading.as_ref().and_then(|l| l.current.as_ref());
        if current.is_none_or(|load| load.stream != rows.stream) {
            self.finish_stream().await?;
            let load = self.start_stream(plan, rows.stream, stream).await?;
            if let Some(loading) = &mut self.loading {
                loading.current = Some(load);
            }
        }
        if rows.rows.rows() == 0 {
            return Ok(Vec::new());
        }
        let first = self.send(stream, rows).await?;
        self.ask_rules(stream, rows, first).await
    }

    /// Ends the loading of a stream: what was staged goes into its table.
    async fn finish_stream(&mut self) -> Result<()> {
        let Some(loading) = &mut self.loading else { return Ok(()) };
        let Some(mut load) = loading.current.take() else { return Ok(()) };
        let plan = Arc::clone(&loading.plan);
        let stream = plan.streams[load.stream].table().ok_or_else(not_begun)?;
        let inserted = match load.staging.clone() {
            None => {
                self.note_filled(stream).await?;
                load.rows
            }
            Some(staging) => {
                self.settle_orphans(stream, &mut load, &staging).await?;
                let table = &self.catalog.tables[stream.table];
                let merge = Merge { target: self, stream, table, staging: &staging };
                match self.purpose {
                    Purpose::Load => merge.run().await?,
                    Purpose::Check => {
                        let clean =
                            self.loading.as_ref().is_some_and(|l| !l.problems.has(&stream.stream));
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

    async fn settle_now(&mut self) -> Result<ImportStats> {
        self.finish_stream().await?;
        self.check_foreign_keys().await?;
        if self.purpose == Purpose::Load {
            self.check_direct().await?;
            self.keep_residue().await?;
            self.restore_triggers().await?;
            let taken = self.loading.as_mut().map(|l| std::mem::take(&mut l.indexes));
            self.make_indexes(&taken.unwrap_or_default()).await?;
        }
        self.count_whole_rows();
        let loading = self.loading.as_ref().ok_or_else(not_begun)?;
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
        Box::pin(self.known_ids_now(ids, after))
    }

    fn existing_uuid_spellings<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        Box::pin(self.known_spellings_now(table, origin))
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Refused>>> {
        Box::pin(self.write(rows))
    }

    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>> {
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

fn not_begun() -> Error {
    Error::new(Code::Internal, "rows before the transaction has begun")
}
