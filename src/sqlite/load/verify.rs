//! Reading back what was loaded, before it is committed.

use std::sync::Arc;

use super::{Loading, SqliteTarget};
use crate::error::{Code, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::row_sketch::{differing, not_as_loaded};
use crate::plan::TablePlan;
use crate::sqlite::{failed, from_sqlite, quoted};
use chronicle_archive::Batch;

impl SqliteTarget {
    /// Hands over the written columns of the rows that meet a condition.
    pub(super) fn each_row(
        &self,
        stream: &TablePlan,
        condition: &str,
        mut each: impl FnMut(&Batch),
    ) -> rusqlite::Result<()> {
        let table = &self.catalog.tables[stream.table];
        let columns: Vec<String> =
            stream.columns.iter().map(|c| quoted(&table.columns[c.target].physical)).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE {condition}", columns.join(", "), quoted(&table.name));
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

    /// Compares what stands in the tables with what was loaded.
    pub(super) fn read_back(&self, loading: &mut Loading) -> Result<()> {
        if skips(Step::Readback) {
            return Ok(());
        }
        let plan = Arc::clone(&loading.plan);
        let cannot = |e| failed(Code::Target, "cannot read back what was loaded", e);
        for (number, stream) in plan.tables() {
            let progress = &mut loading.streams[number];
            let condition = match progress.alone {
                true => "true".to_owned(),
                false => format!(
                    "{} IN (SELECT place FROM temp.loaded WHERE stream = {number})",
                    self.place_column(stream)
                ),
            };
            let mut found = progress.sums.another();
            self.each_row(stream, &condition, |batch| found.add(batch, 0)).map_err(cannot)?;
            if !found.differs(&progress.sums) {
                continue;
            }
            let mut first = None;
            self.each_row(stream, &condition, |batch| {
                if first.is_none() {
                    first = differing(stream, &mut found, &progress.sums, batch, 0);
                }
            })
            .map_err(cannot)?;
            return Err(not_as_loaded(stream, first, progress.sums.rows(), found.rows()));
        }
        Ok(())
    }
}
