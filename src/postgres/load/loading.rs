//! The transaction in which rows come into Postgres, from the first batch to the commit: every stream in its turn,
//! then whatever had to wait for all rows.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::copy::StreamLoad;
use super::indexes::Index;
use super::judge::Judgements;
use super::merge::{Merge, merge};
use super::own_rows::When;
use super::repoint::KeptOrphans;
use super::sidecar::SidecarCopy;
use super::{ABORTED, PgTarget};
use crate::catalog::{Catalog, Reference};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::BatchRecord;
use crate::load::{
    BatchEnd, ConflictList, ExistingKeys, ImportStats, Loading, Problems, Rejected, Rows,
    StreamStats, Target, Verdict, without,
};
use crate::notice::{Notice, NoticeKind};
use crate::plan::{Plan, TablePlan};
use crate::policy::OnOrphans;
use crate::postgres::catalog::PgCatalog;
use crate::postgres::own_tables::OwnTables;
use crate::progress::{Phase, Progress};
use crate::source::Orphans;
use chronicle_archive::Value;

/// A transaction that takes rows.
pub(super) struct PgLoading {
    pub(super) db: PgTarget,
    pub(super) plan: Arc<Plan>,
    pub(super) mode: Mode,
    /// What was done to every stream.
    pub(super) loaded: Vec<StreamStats>,
    /// Of every stream, the rows that were stored whole and not loaded.
    pub(super) whole_rows: Vec<u64>,
    /// The stream whose rows come now.
    pub(super) current: Option<StreamLoad>,
    /// The streams whose rows have all come.
    pub(super) done: Vec<StreamLoad>,
    pub(super) orphans: Vec<Orphans>,
    /// What the server has said of values.
    pub(super) judged: Judgements,
    /// The orphans that are about to be merged.
    pub(super) kept_orphans: Vec<KeptOrphans>,
    /// The rows that another row is in the way of, and nothing settles it: with any, nothing goes into a
    /// table any more.
    pub(super) conflicts: ConflictList,
    /// Our own tables, which tell the rows that an import has created, where the others of the target go.
    pub(super) created: Option<OwnTables>,
    /// The bytes of the tables before, if the server told.
    bytes: Option<u64>,
}

/// What happens to the rows.
pub(super) enum Mode {
    /// They go into their tables.
    Load {
        /// The indexes that are created again behind the rows.
        indexes: Vec<Index>,
        /// Where entries of the sidecar table go, if there are any.
        sidecar: Option<SidecarCopy>,
    },
    /// They stay staged, and what an import would refuse is noted.
    Rehearse(Problems),
}

impl PgLoading {
    pub(super) fn new(db: PgTarget, plan: Arc<Plan>, mode: Mode, bytes: Option<u64>) -> PgLoading {
        let stats = |stream: &str| StreamStats { stream: stream.to_owned(), ..Default::default() };
        PgLoading {
            db,
            mode,
            loaded: plan.streams.iter().map(|s| stats(s.name())).collect(),
            whole_rows: vec![0; plan.streams.len()],
            current: None,
            done: Vec::new(),
            orphans: Vec::new(),
            judged: Judgements::default(),
            kept_orphans: Vec::new(),
            conflicts: ConflictList::default(),
            created: None,
            bytes,
            plan,
        }
    }

    pub(super) fn rehearses(&self) -> bool {
        matches!(self.mode, Mode::Rehearse(_))
    }

    /// Where entries of the sidecar table go, if there were any.
    pub(super) fn sidecar(&self) -> Option<&SidecarCopy> {
        match &self.mode {
            Mode::Load { sidecar, .. } => sidecar.as_ref(),
            Mode::Rehearse(_) => None,
        }
    }

    /// Stops a load with an error, which a rehearsal notes.
    pub(super) fn refuse(&mut self, stream: &str, error: Error) -> Result<()> {
        match &mut self.mode {
            Mode::Load { .. } => Err(error),
            Mode::Rehearse(problems) => {
                problems.refused(stream, &error);
                Ok(())
            }
        }
    }

    /// Stops a load because of orphans, which a rehearsal notes.
    pub(super) fn refuse_orphans(
        &mut self,
        orphans: &Orphans,
        reference: &Reference,
    ) -> Result<()> {
        let policy = match (reference.enforced, self.adopts(reference)) {
            (false, _) => OnOrphans::Keep,
            (true, true) => OnOrphans::Adopt,
            (true, false) => OnOrphans::Skip,
        };
        match &mut self.mode {
            Mode::Load { .. } => Err(orphans.refused(reference.enforced)),
            Mode::Rehearse(problems) => {
                problems.orphans(orphans, policy);
                Ok(())
            }
        }
    }

    /// How the rows of a stream go into a table.
    pub(super) fn table_plan(plan: &Plan, stream: usize) -> Result<&TablePlan> {
        plan.streams.get(stream).and_then(|s| s.table()).ok_or_else(no_table)
    }

    async fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
        let plan = Arc::clone(&self.plan);
        let planned = plan.streams.get(rows.stream).ok_or_else(no_table)?;
        let refused = match planned.table() {
            Some(stream) => self.write_table(&plan, stream, rows).await?,
            None => Vec::new(),
        };
        if planned.unmapped().is_some() {
            self.whole_rows[rows.stream] += rows.whole_rows.len() as u64;
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
        if self.current.as_ref().is_none_or(|load| load.stream != rows.stream) {
            self.finish_stream().await?;
            self.current = Some(self.start_stream(plan, rows.stream, stream).await?);
        }
        if rows.rows.rows() == 0 {
            return Ok(Vec::new());
        }
        let refused = self.refused_rows(stream, rows).await?;
        self.send(stream, rows, &refused).await?;
        Ok(refused)
    }

    /// Ends the loading of a stream: what was staged goes into its table, unless it has to wait for rows
    /// that it may refer to.
    async fn finish_stream(&mut self) -> Result<()> {
        let Some(load) = self.current.take() else { return Ok(()) };
        let (waits, number, rows) = (load.waits, load.stream, load.rows);
        let staged = load.staging.is_some();
        self.done.push(load);
        let last = self.done.len() - 1;
        if staged && waits {
            return Ok(());
        }
        if staged {
            return self.finish_loads(&[last]).await;
        }
        let plan = Arc::clone(&self.plan);
        self.loaded[number].inserted_rows += rows;
        let stream = PgLoading::table_plan(&plan, number)?;
        self.note_all_new(stream).await?;
        self.note_defaults(stream).await?;
        self.db.verify_load(stream, &self.done[last]).await
    }

    /// Ends the loading of staged streams: decides about orphans, merges the rows into their tables, or
    /// finds for a check what would be refused, and verifies the result.
    async fn finish_loads(&mut self, loads: &[usize]) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        if !self.replaces_rows() {
            self.meet_existing(&plan, loads).await?;
        }
        fault::point("load: before references are settled")?;
        self.apply_orphan_policy(loads).await?;
        fault::point("load: after references are settled")?;
        for load in loads {
            self.decide(&plan, *load).await?;
        }
        let merges = !self.rehearses() && self.conflicts.is_empty();
        if merges {
            self.note_loose(&plan).await?;
        }
        fault::point("load: before other rows go")?;
        if merges && self.replaces_rows() {
            self.delete_others(When::BeforeRows).await?;
        }
        fault::point("load: after other rows have gone")?;
        let merged = match merges {
            true => merge(&self.merges(&plan, loads)?).await?,
            false => self.rehearse(&plan, loads).await?,
        };
        for (load, (inserted, updated)) in loads.iter().copied().zip(merged) {
            let done = &mut self.done[load];
            done.merged = merges;
            let stats = &mut self.loaded[done.stream];
            stats.inserted_rows += inserted;
            stats.updated_rows += updated;
            stats.skipped_rows += without(done.rows, inserted + updated + done.kept)?;
            let done = &self.done[load];
            fault::point("load: before rows are read back")?;
            self.db.verify_load(PgLoading::table_plan(&plan, done.stream)?, done).await?;
            fault::point("load: after rows are read back")?;
        }
        Ok(())
    }

    pub(super) fn merges<'a>(&'a self, plan: &'a Plan, loads: &[usize]) -> Result<Vec<Merge<'a>>> {
        let merge = |load: &usize| {
            let load = &self.done[*load];
            let stream = PgLoading::table_plan(plan, load.stream)?;
            let (table, key) = (&self.db.catalog.tables[stream.table], self.db.key(stream));
            let staging = load.staging.as_deref().ok_or_else(no_table)?;
            let (number, updates) = (load.stream, load.updates);
            Ok(Merge { loading: self, number, stream, table, staging, updates, key })
        };
        loads.iter().map(merge).collect()
    }

    async fn finalize_now(&mut self, progress: &Progress) -> Result<ImportStats> {
        if self.replaces_rows() {
            self.created = self.db.own_tables().await?;
        }
        self.finish_stream().await?;
        let waiting = self.done.iter().enumerate();
        let waiting: Vec<usize> =
            waiting.filter(|(_, l)| l.waits && l.staging.is_some()).map(|(n, _)| n).collect();
        if !waiting.is_empty() {
            self.finish_loads(&waiting).await?;
        }
        if self.conflicts.is_empty() {
            if self.replaces_rows() {
                self.delete_others(When::AfterRows).await?;
            }
            self.db.check_outside().await?;
            self.check_foreign_keys().await?;
        }
        if !self.rehearses() && self.conflicts.is_empty() {
            self.finish_tables(progress).await?;
        }
        self.count_whole_rows();
        let problems = match &self.mode {
            Mode::Load { .. } => Vec::new(),
            Mode::Rehearse(problems) => {
                let text = "not checked: values too long for an index of the target";
                self.db.notices.push(Notice::new(NoticeKind::NotChecked, text));
                problems.all()
            }
        };
        let (streams, orphans) = (self.loaded.clone(), self.orphans.clone());
        let (conflicts, notices) = (self.conflicts.all(), self.db.notices.clone());
        Ok(ImportStats { streams, orphans, conflicts, problems, notices })
    }

    /// Does for all tables what had to wait for their rows, and undoes what kept them from acting.
    async fn finish_tables(&mut self, progress: &Progress) -> Result<()> {
        self.check_direct().await?;
        self.store_entries().await?;
        if self.replaces_rows() {
            self.replace_entries().await?;
        }
        if !self.conflicts.is_empty() {
            return Ok(());
        }
        self.db.silenced.restore(&self.db.connection).await?;
        let indexes = match &mut self.mode {
            Mode::Load { indexes, .. } => std::mem::take(indexes),
            Mode::Rehearse(_) => Vec::new(),
        };
        if !indexes.is_empty() {
            progress.enter(Phase::Indexes);
        }
        self.db.rebuild_indexes(&indexes).await
    }

    /// The target with what was loaded, and of what was noted about it what counts for later archives, too.
    async fn go_on_now(mut self) -> Result<PgTarget> {
        self.db.written = self.written();
        let mut db = self.db;
        match db.forget_streams(&self.plan).await {
            Ok(()) => Ok(db),
            Err(error) => Err(db.give_up(error).await),
        }
    }

    async fn commit_now(self) -> Result<()> {
        // others may wait for them until the commit, so they move last
        if let Err(error) = self.db.advance_sequences().await {
            return Err(self.db.give_up(error).await);
        }
        if let Some(batch) = &self.db.batch {
            return batch.commit(&self.db.connection).await;
        }
        self.db.connection.client.batch_execute("COMMIT").await.map_err(|e| {
            let error = self.db.connection.failed(Code::Target, "the commit failed", e);
            error.hint(
                "if the connection was lost at that moment, the rows may have been committed: \
                 import again, existing rows are skipped",
            )
        })
    }
}

impl PgTarget {
    /// Forgets what was noted about the streams of an archive; what is noted of the batch stays.
    async fn forget_streams(&mut self, plan: &Plan) -> Result<()> {
        const WHAT: &str = "cannot go on to the next archive";
        fault::point("load: between archives")?;
        self.archives += 1;
        self.forget_given_numbers(plan).await?;
        self.age_other_keys().await?;
        let sql = "SELECT pg_catalog.quote_ident(relname) FROM pg_catalog.pg_class \
                    WHERE relnamespace = pg_catalog.pg_my_temp_schema() AND relkind = 'r' \
                      AND relname LIKE 'chronicle\\_dump\\_%' \
                      AND relname NOT LIKE 'chronicle\\_dump\\_known\\_as\\_%' \
                      AND relname NOT LIKE 'chronicle\\_dump\\_loose\\_%' \
                      AND relname NOT LIKE 'chronicle\\_dump\\_disputed\\_%'";
        for name in self.connection.read(Code::Target, WHAT, sql, |row| row.text()).await? {
            self.run(WHAT, &format!("DROP TABLE pg_temp.{name}")).await?;
        }
        // an archive may have added columns
        let (schema, forced) = (self.found.schema.clone(), self.forced.clone());
        self.found = PgCatalog::read(&self.connection, Some(&schema), forced.as_ref()).await?;
        self.catalog = Catalog { instance: self.catalog.instance, ..self.found.describe() };
        self.notices.clear();
        self.rules.clear();
        Ok(())
    }
}

impl Loading for PgLoading {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        &mut self.db
    }

    fn judged_columns(&self, stream: usize) -> Vec<usize> {
        let table = self.plan.streams.get(stream).and_then(|s| s.table());
        table.map_or_else(Vec::new, |table| self.columns_to_judge(table))
    }

    fn judge<'a>(
        &'a mut self,
        stream: usize,
        values: &'a [(usize, Value<'a>)],
    ) -> BoxFuture<'a, Result<Vec<Option<Verdict>>>> {
        Box::pin(self.judge_now(stream, values))
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        Box::pin(self.write(rows))
    }

    fn has_other_keys<'a>(&'a mut self, tables: &'a [usize]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.finish_stream().await?;
            Ok(tables.iter().any(|table| self.db.has_other_keys(*table)))
        })
    }

    fn shares_tables(&self) -> bool {
        // a trigger that is disabled is disabled for everybody, and keeps everybody waiting
        !self.db.silenced.any_disabled()
    }

    fn lock_batch(&mut self) -> BoxFuture<'_, Result<BatchRecord>> {
        Box::pin(async {
            let no_batch = || Error::new(Code::Internal, "a batch without a history");
            self.db.batch.as_ref().ok_or_else(no_batch)?.lock(&self.db.connection).await
        })
    }

    fn finalize<'a>(&'a mut self, progress: &'a Progress) -> BoxFuture<'a, Result<ImportStats>> {
        Box::pin(self.finalize_now(progress))
    }

    fn end_batch(&mut self) -> BoxFuture<'_, Result<BatchEnd>> {
        Box::pin(self.end_now())
    }

    fn go_on(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Target>>> {
        Box::pin(async move { Ok(Box::new(self.go_on_now().await?) as Box<dyn Target>) })
    }

    fn seal<'a>(&'a mut self, batch: &'a mut BatchRecord) -> BoxFuture<'a, Result<Option<Notice>>> {
        Box::pin(self.seal_now(batch))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.commit_now())
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.db.connection.roll_back().await;
            self.db.failed(ABORTED).await;
        })
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        Box::pin(async move {
            let full = error.is_full();
            let error = self.db.give_up(error).await;
            match full {
                true => self.db.full_disk(error, &self.plan, self.bytes).await,
                false => error,
            }
        })
    }
}

pub(super) fn no_table() -> Error {
    Error::new(Code::Internal, "rows of a stream that has no table")
}
