//! The transaction in which rows come into a SQLite file: row by row, each with its references noted, until all are
//! there.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::SqliteTarget;
use super::references::ReferenceCheck;
use super::row::{IncomingRow, Inserted, insert_sql};
use super::sidecar::store;
use crate::error::{Code, Error, Result};
use crate::load::row_sketch::RowSketch;
use crate::load::{
    ExistingKey, ExistingKeys, ImportStats, KeysOf, Loading, Problems, Rejected, Rows, StreamStats,
};
use crate::plan::{Plan, TablePlan};
use crate::policy::OnUnrepresentable;
use crate::progress;
use crate::sqlite::failed;

/// A transaction that takes rows.
pub(super) struct SqliteLoading {
    pub(super) db: SqliteTarget,
    pub(super) plan: Arc<Plan>,
    pub(super) streams: Vec<Progress>,
    /// What would stop an import, of a rehearsal.
    pub(super) problems: Option<Problems>,
    /// Whether our own tables exist.
    pub(super) sidecar: bool,
}

/// What is known of one stream.
pub(super) struct Progress {
    /// The table of its rows, if they have one.
    pub(super) table: usize,
    pub(super) loaded: StreamStats,
    /// The highest rowid before this import.
    pub(super) last_rowid: Option<i64>,
    /// The sums of the rows that were inserted.
    pub(super) sketch: RowSketch,
    /// The temporary table of the places of these rows; none if the table holds no others.
    pub(super) places: Option<String>,
    /// SQL that notes a place there.
    pub(super) note_place: Option<String>,
    /// The references of its rows.
    pub(super) references: Vec<ReferenceCheck>,
}

impl Progress {
    /// The progress of a stream that has no table.
    pub(super) fn unmapped(stream: &str) -> Progress {
        Progress {
            table: 0,
            loaded: StreamStats { stream: stream.to_owned(), ..StreamStats::default() },
            last_rowid: None,
            sketch: RowSketch::new(Vec::new(), Vec::new()),
            places: None,
            note_place: None,
            references: Vec::new(),
        }
    }
}

impl SqliteLoading {
    fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
        let plan = Arc::clone(&self.plan);
        let planned = plan.streams.get(rows.stream);
        let planned = planned.ok_or_else(|| Error::new(Code::Internal, "rows of no stream"))?;
        let refused = match planned.table() {
            Some(stream) => self.write_table(stream, rows)?,
            None => Vec::new(),
        };
        if let Some(unmapped) = planned.unmapped() {
            self.write_whole(unmapped, rows, &refused)?;
        }
        Ok(refused)
    }

    fn write_table(&mut self, stream: &TablePlan, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
        let (table, keys) = (&self.db.catalog.tables[stream.table], &self.db.keys[stream.table]);
        let progress = &mut self.streams[rows.stream];
        let mut insert = (self.db.connection.prepare_cached(&insert_sql(stream, table, keys)))
            .map_err(|e| failed(Code::Target, format!("cannot write {}", table.name), e))?;
        let (mut rejected, mut present) = (Vec::new(), Vec::new());
        for row in 0..rows.rows.rows() {
            let incoming =
                IncomingRow { connection: &self.db.connection, stream, table, keys, rows, row };
            let known = incoming.key_is_null() && incoming.was_there_before(progress.last_rowid)?;
            let inserted = match known {
                true => Inserted::UniqueValueTaken,
                false => incoming.insert(&mut insert)?,
            };
            let cause = match inserted {
                Inserted::At(place) => {
                    progress.loaded.inserted_rows += 1;
                    progress.sketch.add(rows.rows, row);
                    incoming.note_loaded(progress.note_place.as_deref(), &place)?;
                    incoming.check_references(&mut progress.references, &place)?;
                    continue;
                }
                Inserted::Rejected(cause) => Some(cause),
                Inserted::UniqueValueTaken if known => None,
                Inserted::UniqueValueTaken => incoming.compare()?,
            };
            match cause {
                Some(cause) => rejected.push(Rejected { row, cause }),
                None => {
                    progress.loaded.skipped_rows += 1;
                    present.push(row);
                }
            }
        }
        drop(insert);
        self.store_sidecar(&stream.table_name, rows, &rejected, &present)?;
        Ok(rejected)
    }

    fn finalize_now(&mut self) -> Result<ImportStats> {
        let (orphans, adopting) = self.settle_references()?;
        // rows created for them were never loaded, so they come after the reading back
        self.verify_load()?;
        let plan = Arc::clone(&self.plan);
        let preserves = plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let cannot = |e| failed(Code::Target, "cannot check the references", e);
        for (stream, check) in adopting {
            let (parent, adopted) = self.adopt(stream, check)?;
            self.streams[stream].loaded.adopted_rows += adopted.len() as u64;
            if self.sidecar && preserves {
                let parent = &self.db.catalog.tables[parent].name;
                store(&self.db.connection, parent, adopted.iter()).map_err(cannot)?;
            }
        }
        let notices = match self.problems {
            Some(_) => self.db.triggers(&plan).map_err(cannot)?,
            None => Vec::new(),
        };
        Ok(ImportStats {
            streams: self.streams.iter().map(|s| s.loaded.clone()).collect(),
            orphans,
            problems: self.problems.as_ref().map_or_else(Vec::new, Problems::all),
            notices,
        })
    }

    fn commit_now(self) -> Result<()> {
        if let Err(e) = self.db.connection.execute_batch("COMMIT") {
            let what = format!("{}: cannot commit, nothing was changed", self.db.shown);
            return Err(self.db.undo(failed(Code::Target, what, e)));
        }
        match self.db.created {
            None => Ok(()),
            Some(file) => {
                self.db
                    .connection
                    .close()
                    .map_err(|(_, e)| failed(Code::Target, "cannot close the new file", e))?;
                file.publish()
            }
        }
    }
}

impl ExistingKeys for SqliteLoading {
    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        self.db.existing_keys(ids, after)
    }
}

impl Loading for SqliteLoading {
    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        Box::pin(async move { self.write(rows) })
    }

    fn finalize<'a>(&'a mut self, _: &'a progress::Progress) -> BoxFuture<'a, Result<ImportStats>> {
        Box::pin(async move { self.finalize_now() })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.commit_now() })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        // closing the connection rolls back, dropping a new file removes it
        Box::pin(async move { drop(self) })
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        Box::pin(async move { self.db.undo(error) })
    }
}
