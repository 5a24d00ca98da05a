//! What an import that was rolled back leaves on the server's disk: the room of rows that nobody sees.

use std::time::Duration;

use super::PgTarget;
use crate::error::{Code, Error};
use crate::plan::Plan;
use crate::postgres::literal;

/// How long a server with a full disk is asked what is left behind.
const PATIENCE: Duration = Duration::from_secs(5);

impl PgTarget {
    /// The bytes of the tables of a plan with their indexes; None if the server does not tell.
    pub(super) async fn table_bytes(&self, plan: &Plan) -> Option<u64> {
        let size = |table: &String| format!("pg_total_relation_size({})", literal(table));
        let sizes: Vec<String> = self.tables_of(plan).iter().map(size).collect();
        if sizes.is_empty() {
            return None;
        }
        let sql = format!("SELECT {}", sizes.join(" + "));
        let what = "cannot ask for the size of the tables";
        let asked = self.connection.rows(Code::Target, what, &sql);
        let rows = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        rows.first()?.first()?.as_deref()?.parse().ok()
    }

    /// The tables of a plan, as SQL names them.
    fn tables_of(&self, plan: &Plan) -> Vec<String> {
        let mut tables: Vec<usize> = plan.tables().map(|(_, table)| table.table).collect();
        tables.sort_unstable();
        tables.dedup();
        let name = |table: usize| self.found.full_name(&self.catalog.tables[table].name);
        tables.into_iter().map(name).collect()
    }

    /// The error of a full disk, after everything was rolled back: with the room that is still taken up,
    /// and how to get it back.
    pub(super) async fn full_disk(&self, error: Error, plan: &Plan, before: Option<u64>) -> Error {
        let now = self.table_bytes(plan).await;
        let (Some(before), Some(now)) = (before, now) else { return error };
        let left = now.saturating_sub(before);
        if left == 0 {
            return error;
        }
        let tables = self.tables_of(plan);
        error.hint(format!(
            "the server's disk is full; nothing was changed, but what was written before still takes up \
             about {} MiB there until VACUUM gives it back: VACUUM {}",
            left.div_ceil(1 << 20),
            tables.join(", ")
        ))
    }
}
