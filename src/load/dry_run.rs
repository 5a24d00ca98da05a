//! A target that takes everything back at the end, where another one commits.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{BatchEnd, ExistingKeys, ImportStats, Loading, Rejected, Rows, Target, Verdict};
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::progress::Progress;
use chronicle_archive::Value;

/// A target that does everything but commit.
pub struct DryRun(Box<dyn Target>);

impl DryRun {
    /// A target that never commits what another one has loaded.
    pub fn new(target: Box<dyn Target>) -> DryRun {
        DryRun(target)
    }
}

/// A transaction that is never committed.
struct Uncommitted(Box<dyn Loading>);

impl Target for DryRun {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self.0.keys()
    }

    fn catalog(&self) -> &Catalog {
        self.0.catalog()
    }

    fn rehearsal(self: Box<Self>) -> Box<dyn Target> {
        Box::new(DryRun(self.0.rehearsal()))
    }

    fn begin(
        self: Box<Self>,
        plan: Arc<Plan>,
        cancel: Cancel,
    ) -> BoxFuture<'static, Result<Box<dyn Loading>>> {
        Box::pin(async move {
            let loading = self.0.begin(plan, cancel).await?;
            Ok(Box::new(Uncommitted(loading)) as Box<dyn Loading>)
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.abort()
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        self.0.fail(error)
    }
}

impl Loading for Uncommitted {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self.0.keys()
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn judged_columns(&self, stream: usize) -> Vec<usize> {
        self.0.judged_columns(stream)
    }

    fn judge<'a>(
        &'a mut self,
        stream: usize,
        values: &'a [(usize, Value<'a>)],
    ) -> BoxFuture<'a, Result<Vec<Option<Verdict>>>> {
        self.0.judge(stream, values)
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        self.0.write_rows(rows)
    }

    fn has_other_keys<'a>(&'a mut self, tables: &'a [usize]) -> BoxFuture<'a, Result<bool>> {
        self.0.has_other_keys(tables)
    }

    fn finalize<'a>(&'a mut self, progress: &'a Progress) -> BoxFuture<'a, Result<ImportStats>> {
        self.0.finalize(progress)
    }

    fn end_batch(&mut self) -> BoxFuture<'_, Result<BatchEnd>> {
        self.0.end_batch()
    }

    fn go_on(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Target>>> {
        Box::pin(async move {
            let target = self.0.go_on().await?;
            Ok(Box::new(DryRun(target)) as Box<dyn Target>)
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.0.abort().await;
            Ok(())
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.abort()
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        self.0.fail(error)
    }
}
