//! Reading back what was loaded, before it is committed.

use futures::{StreamExt, pin_mut};

use super::PgTarget;
use super::copy::StreamLoad;
use super::keys::Alias;
use crate::catalog::ColumnType;
use crate::error::{Code, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::row_sketch::{differing, not_as_loaded};
use crate::plan::TablePlan;
use crate::postgres::copy_codec::{Field, RowReader};
use crate::postgres::{copy_codec, quoted};
use chronicle_archive::Batch;

/// Lets the server read with several processes, if it has any to spare: what costs it time is
/// fetching and spelling large values, of which its planner knows nothing.
const SIDE_BY_SIDE: &str = "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; \
                            SET LOCAL jit = off";

impl PgTarget {
    /// Hands over the written columns of rows; `from` is what follows FROM, with the rows as `c`, and `keys`
    /// is the alias of those that their keys are taken from.
    pub(super) async fn each_row(
        &self,
        stream: &TablePlan,
        types: &[ColumnType],
        from: &str,
        keys: &str,
        each: impl FnMut(&Batch, usize),
    ) -> Result<()> {
        self.each_row_with(stream, types, from, keys, None, each).await
    }

    /// The same, with other SQL for the column that holds ids of batches.
    async fn each_row_with(
        &self,
        stream: &TablePlan,
        types: &[ColumnType],
        from: &str,
        keys: &str,
        batch: Option<&str>,
        mut each: impl FnMut(&Batch, usize),
    ) -> Result<()> {
        let table = &self.catalog.tables[stream.table];
        let columns: Vec<String> = (stream.columns.iter().enumerate())
            .map(|(n, c)| {
                if let Some(batch) = batch.filter(|_| stream.batch == Some(n)) {
                    return batch.to_owned();
                }
                let name = quoted(&table.columns[c.target].physical);
                let alias = if table.key.contains(&c.target) { keys } else { "c" };
                match c.ty {
                    // so that workers of the server fetch and spell it, and not only the one that sends it
                    ColumnType::Cast(_) | ColumnType::Jsonb => format!("{alias}.{name}::text"),
                    _ => format!("{alias}.{name}"),
                }
            })
            .collect();
        let sql =
            format!("COPY (SELECT {} FROM {from}) TO STDOUT (FORMAT binary)", columns.join(", "));
        let cannot = |e| {
            let what = format!("cannot read back {}", table.name);
            self.connection.failed(Code::Target, what, e)
        };
        let sent = self.connection.client.copy_out(sql.as_str()).await.map_err(cannot)?;
        pin_mut!(sent);
        let (mut fields, mut reader, mut batch) =
            (copy_codec::fields(types), RowReader::default(), Batch::default());
        (fields.iter_mut()).filter(|f| **f == Field::Jsonb).for_each(|f| *f = Field::Text);
        while let Some(bytes) = sent.next().await {
            reader.feed(bytes.map_err(cannot)?);
            batch.start(0, fields.len(), 1);
            reader.read(&fields, &mut batch)?;
            (0..batch.rows()).for_each(|row| each(&batch, row));
        }
        Ok(())
    }

    /// Compares the rows of the table with those that were sent.
    pub(super) async fn verify_load(&self, stream: &TablePlan, load: &StreamLoad) -> Result<()> {
        if skips(Step::Readback) {
            return Ok(());
        }
        let table = &self.catalog.tables[stream.table];
        let full = self.found.full_name(&table.name);
        let (from, keys) = match (&load.staging, load.merged) {
            (None, _) => (format!("{full} c"), "c"),
            (Some(staging), false) => (format!("{staging} c{}", load.but_kept("c")), "c"),
            // a key may match a row whose key is spelled differently, but equal
            (Some(staging), true) => {
                let same = self.key(stream).same(Alias::Stored("c"), Alias::Staged("s"));
                (format!("{full} c JOIN {staging} s ON {same}{}", load.but_kept("s")), "s")
            }
        };
        self.run("cannot prepare to read back", SIDE_BY_SIDE).await?;
        let mut found = load.sums.another();
        let batch = match (stream.batch, &load.staging, load.merged) {
            (Some(column), None, _) => Some(self.read_back(stream, column, true)),
            (Some(column), Some(_), true) => Some(self.read_back(stream, column, false)),
            _ => None,
        };
        let (types, batch) = (&load.types, batch.as_deref());
        self.each_row_with(stream, types, &from, keys, batch, |rows, row| found.add(rows, row))
            .await?;
        if !found.differs(&load.sums) {
            return Ok(());
        }
        let mut first = None;
        self.each_row_with(stream, types, &from, keys, batch, |rows, row| {
            if first.is_none() {
                first = differing(stream, &mut found, &load.sums, rows, row);
            }
        })
        .await?;
        Err(not_as_loaded(stream, first, load.sums.rows(), found.rows()))
    }
}
