//! A target that collects what would stop an import, and takes everything back at the end.

use std::sync::Arc;

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{
    Cause, ExistingKey, ImportStats, KeysOf, OnProblem, Problems, Rejected, RowPlace, Rows, Target,
};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::plan::Plan;

/// A target for a check: nothing stops it, and nothing stays.
pub struct Preflight {
    target: Box<dyn Target>,
    problems: Problems,
}

impl Preflight {
    /// A target that collects what would stop an import into another one, which isolates what is
    /// written from everybody else.
    pub fn new(target: Box<dyn Target>) -> Preflight {
        Preflight { target, problems: Problems::default() }
    }
}

impl Target for Preflight {
    fn catalog(&self) -> &Catalog {
        self.target.catalog()
    }

    fn on_problem(&self) -> OnProblem {
        OnProblem::Collect
    }

    fn report(&mut self, row: &RowPlace<'_>, cause: &Cause) -> Result<()> {
        self.problems.rejected(row, cause);
        Ok(())
    }

    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>> {
        self.target.begin(plan)
    }

    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        self.target.existing_keys(ids, after)
    }

    fn existing_uuid_spellings<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        self.target.existing_uuid_spellings(table, origin)
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        self.target.write_rows(rows)
    }

    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>> {
        Box::pin(async move {
            let mut stats = self.target.finalize().await?;
            stats.problems.splice(0..0, self.problems.all());
            Ok(stats)
        })
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.target.abort().await;
            Ok(())
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.target.abort()
    }
}
