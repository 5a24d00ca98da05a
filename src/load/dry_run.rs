//! A target that takes everything back at the end, where another one commits.

use std::sync::Arc;

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{ExistingKey, ImportStats, KeysOf, Rejected, Rows, Target};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::plan::Plan;

/// A target that does everything but commit.
pub struct DryRun(Box<dyn Target>);

impl DryRun {
    /// A target that never commits what another one has loaded.
    pub fn new(target: Box<dyn Target>) -> DryRun {
        DryRun(target)
    }
}

impl Target for DryRun {
    fn catalog(&self) -> &Catalog {
        self.0.catalog()
    }

    fn begin(&mut self, plan: Arc<Plan>) -> BoxFuture<'_, Result<()>> {
        self.0.begin(plan)
    }

    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        self.0.existing_keys(ids, after)
    }

    fn existing_uuid_spellings<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        self.0.existing_uuid_spellings(table, origin)
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        self.0.write_rows(rows)
    }

    fn finalize(&mut self) -> BoxFuture<'_, Result<ImportStats>> {
        self.0.finalize()
    }

    fn keeps_rows(&self) -> bool {
        false
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
}
