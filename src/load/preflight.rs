//! A target that collects what would stop an import, and takes everything back at the end.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{
    BatchEnd, Cause, DryRun, ExistingKeys, ImportStats, Loading, OnProblem, Problems, Rejected,
    RowPlace, Rows, Target, Verdict,
};
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::progress::Progress;
use chronicle_archive::Value;

/// A target for a check: nothing stops it, and nothing stays.
pub struct Preflight {
    target: Box<dyn Target>,
    /// The archives that are loaded first, as an import would load them.
    earlier: usize,
}

impl Preflight {
    /// A target that collects what would stop an import into another one, which isolates what is
    /// written from everybody else.
    pub fn new(target: Box<dyn Target>) -> Preflight {
        Preflight::after(0, target)
    }

    /// The same for an archive behind others: these are loaded, and something that stops them stops all.
    pub fn after(earlier: usize, target: Box<dyn Target>) -> Preflight {
        Preflight { target: Box::new(DryRun::new(target)), earlier }
    }
}

/// The loading of an archive before the one that is checked.
struct Earlier {
    loading: Box<dyn Loading>,
    /// The archives that come between the two.
    left: usize,
}

/// A transaction that notes what would stop an import.
struct Collecting {
    loading: Box<dyn Loading>,
    problems: Problems,
}

impl Target for Preflight {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self.target.keys()
    }

    fn catalog(&self) -> &Catalog {
        self.target.catalog()
    }

    fn on_problem(&self) -> OnProblem {
        if self.earlier > 0 { OnProblem::Stop } else { OnProblem::Collect }
    }

    fn rehearsal(self: Box<Self>) -> Box<dyn Target> {
        self
    }

    fn begin(
        self: Box<Self>,
        plan: Arc<Plan>,
        cancel: Cancel,
    ) -> BoxFuture<'static, Result<Box<dyn Loading>>> {
        Box::pin(async move {
            if let Some(left) = self.earlier.checked_sub(1) {
                let loading = self.target.begin(plan, cancel).await?;
                return Ok(Box::new(Earlier { loading, left }) as Box<dyn Loading>);
            }
            let loading = self.target.rehearsal().begin(plan, cancel).await?;
            let collecting = Collecting { loading, problems: Problems::default() };
            Ok(Box::new(collecting) as Box<dyn Loading>)
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.target.abort()
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        self.target.fail(error)
    }
}

impl Loading for Earlier {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self.loading.keys()
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn judged_columns(&self, stream: usize) -> Vec<usize> {
        self.loading.judged_columns(stream)
    }

    fn judge<'a>(
        &'a mut self,
        stream: usize,
        values: &'a [(usize, Value<'a>)],
    ) -> BoxFuture<'a, Result<Vec<Option<Verdict>>>> {
        self.loading.judge(stream, values)
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        self.loading.write_rows(rows)
    }

    fn has_other_keys<'a>(&'a mut self, tables: &'a [usize]) -> BoxFuture<'a, Result<bool>> {
        self.loading.has_other_keys(tables)
    }

    fn finalize<'a>(&'a mut self, progress: &'a Progress) -> BoxFuture<'a, Result<ImportStats>> {
        self.loading.finalize(progress)
    }

    fn end_batch(&mut self) -> BoxFuture<'_, Result<BatchEnd>> {
        self.loading.end_batch()
    }

    fn go_on(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Target>>> {
        Box::pin(async move {
            let target = self.loading.go_on().await?;
            Ok(Box::new(Preflight::after(self.left, target)) as Box<dyn Target>)
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.loading.commit()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.loading.abort()
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        self.loading.fail(error)
    }
}

impl Loading for Collecting {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self.loading.keys()
    }

    fn report(&mut self, row: &RowPlace<'_>, cause: &Cause) -> Result<()> {
        self.problems.rejected(row, cause);
        Ok(())
    }

    fn keeps_rows(&self) -> bool {
        self.loading.keeps_rows()
    }

    fn judged_columns(&self, stream: usize) -> Vec<usize> {
        self.loading.judged_columns(stream)
    }

    fn judge<'a>(
        &'a mut self,
        stream: usize,
        values: &'a [(usize, Value<'a>)],
    ) -> BoxFuture<'a, Result<Vec<Option<Verdict>>>> {
        self.loading.judge(stream, values)
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        self.loading.write_rows(rows)
    }

    fn has_other_keys<'a>(&'a mut self, tables: &'a [usize]) -> BoxFuture<'a, Result<bool>> {
        self.loading.has_other_keys(tables)
    }

    fn finalize<'a>(&'a mut self, progress: &'a Progress) -> BoxFuture<'a, Result<ImportStats>> {
        Box::pin(async move {
            let mut stats = self.loading.finalize(progress).await?;
            stats.problems.splice(0..0, self.problems.all());
            Ok(stats)
        })
    }

    fn end_batch(&mut self) -> BoxFuture<'_, Result<BatchEnd>> {
        self.loading.end_batch()
    }

    fn go_on(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Target>>> {
        Box::pin(async move {
            let target = self.loading.go_on().await?;
            Ok(Box::new(Preflight::new(target)) as Box<dyn Target>)
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.loading.commit()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.loading.abort()
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        self.loading.fail(error)
    }
}
