//! Reading back what was loaded, before it is committed.

use std::sync::Arc;

use super::SqliteTarget;
use super::loading::SqliteLoading;
use crate::error::{Code, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::row_sketch::{differing, not_as_loaded};
use crate::plan::TablePlan;
use crate::sqlite::{failed, from_sqlite, quoted};
use chronicle_archive::Batch;

impl SqliteTarget {
    /// Hands over the written columns of rows `t`, which are given as SQL behind FROM.
    pub(super) fn each_row(
        &self,
        stream: &TablePlan,
        rows: &str,
        mut each: impl FnMut(&Batch),
    ) -> rusqlite::Result<()> {
        let table = &self.catalog.tables[stream.table];
        let column = |target: usize| format!("t.{}", quoted(&table.columns[target].physical));
        let columns: Vec<String> = stream.columns.iter().map(|c| column(c.target)).collect();
        let sql = format!("SELECT {} FROM {rows}", columns.join(", "));
        let mut statement = self.connection.prepare(&sql)?;
        let (mut rows, mut batch) = (statement.query([])?, Batch::default());
        while let Some(row) = rows.next()? {
            batch.start(0, columns.len(), 1);
            for n in 0..columns.len() {
                batch.push(from_sqlite(row.get_ref(n)?));
            }
            each(&batch);
        }
        Ok(())
    }
}

impl SqliteLoading {
    /// Reads back what was loaded, and compares it with what the archive says.
    pub(super) fn verify_load(&self) -> Result<()> {
        if skips(Step::Readback) {
            return Ok(());
        }
        let plan = Arc::clone(&self.plan);
        let cannot = |e| failed(Code::Target, "cannot read back what was loaded", e);
        for (number, stream) in plan.tables() {
            let progress = &self.streams[number];
            let (name, keys) = (quoted(&stream.table_name), &self.db.keys[stream.table]);
            let rows = match &progress.places {
                None => format!("{name} AS t"),
                Some(loaded) => {
                    format!("{loaded} AS o CROSS JOIN {name} AS t ON {}", keys.is_at("t", "o"))
                }
            };
            let mut found = progress.sketch.another();
            self.db.each_row(stream, &rows, |batch| found.add(batch, 0)).map_err(cannot)?;
            if !found.differs(&progress.sketch) {
                continue;
            }
            let mut first = None;
            self.db
                .each_row(stream, &rows, |batch| {
                    if first.is_none() {
                        first = differing(stream, &mut found, &progress.sketch, batch, 0);
                    }
                })
                .map_err(cannot)?;
            return Err(not_as_loaded(stream, first, progress.sketch.rows(), found.rows()));
        }
        Ok(())
    }
}
