//! The transaction in which rows come into a SQLite file: row by row, each with its references noted, until all are
//! there.

use std::sync::Arc;

use futures::future::BoxFuture;
use rusqlite::CachedStatement;

use super::SqliteTarget;
use super::batch::BatchColumn;
use super::content::MetRows;
use super::dispute::Disputed;
use super::make_way::Moved;
use super::own_rows::Seen;
use super::references::ReferenceCheck;
use super::repoint::{KnownAs, renamed_references};
use super::row::{IncomingRow, Inserted, insert_sql};
use super::sidecar::store;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::BatchRecord;
use crate::load::row_sketch::RowSketch;
use crate::load::{
    BatchEnd, Cause, ConflictList, ExistingKeys, ImportStats, Loading, Problems, Rejected, Rows,
    StreamStats, Target,
};
use crate::notice::Notice;
use crate::plan::{Plan, TablePlan};
use crate::policy::OnUnrepresentable;
use crate::progress;
use crate::sqlite::{failed, quoted};

/// A transaction that takes rows.
pub(super) struct SqliteLoading {
    pub(super) db: SqliteTarget,
    pub(super) plan: Arc<Plan>,
    pub(super) streams: Vec<Progress>,
    /// What would stop an import, of a rehearsal.
    pub(super) problems: Option<Problems>,
    /// Whether our own tables exist.
    pub(super) sidecar: bool,
    /// The rows that the target has under another key than the archives of the batch so far.
    pub(super) known_as: Vec<KnownAs>,
    /// The stream whose rows come now.
    pub(super) current: Option<usize>,
}

/// What was done with a row.
#[derive(Debug)]
pub(super) enum Done {
    /// It is new.
    Inserted,
    /// It existed with the same content.
    Present,
    /// It existed with other content, which it has no more.
    Updated,
    /// It existed with other content, which it keeps.
    Kept,
    /// The database does not take it.
    Refused(Cause),
}

/// What was done with a row, and the text of the key that the target has for it, if that is another one.
pub(super) type Written = (Done, Option<String>);

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
    /// Whether this table has an index.
    pub(super) places_are_indexed: bool,
    /// The rows that the archive has, where those go that it lacks.
    pub(super) seen: Option<Seen>,
    /// The rows that are stored whole and that the archive has, likewise.
    pub(super) seen_whole: Option<Seen>,
    /// The rows that were there and that the archive has, too, where rows are also the same by their content.
    pub(super) met: Option<MetRows>,
    /// The rows that have given up unique values.
    pub(super) moved: Moved,
    /// The rows that another row is in the way of, and nothing settles it.
    pub(super) conflicts: ConflictList,
    /// The rows that another one is in the way of which may turn out to be the same.
    pub(super) disputed: Vec<Disputed>,
    /// The references of its rows.
    pub(super) references: Vec<ReferenceCheck>,
    /// The column for the id of the batch, if its table has one.
    pub(super) batch: Option<Arc<BatchColumn>>,
}

impl Progress {
    /// The progress of a stream that has no table.
    pub(super) fn unmapped(number: usize, stream: &str) -> Progress {
        Progress {
            table: 0,
            loaded: StreamStats { stream: stream.to_owned(), ..StreamStats::default() },
            last_rowid: None,
            sketch: RowSketch::new(Vec::new(), Vec::new()),
            places: None,
            note_place: None,
            places_are_indexed: false,
            seen: None,
            seen_whole: None,
            met: None,
            moved: Moved::of(number),
            conflicts: ConflictList::default(),
            disputed: Vec::new(),
            references: Vec::new(),
            batch: None,
        }
    }
}

impl Progress {
    /// Notes a row that was inserted.
    pub(super) fn has_inserted(
        &mut self,
        incoming: &IncomingRow<'_>,
        place: &[rusqlite::types::Value],
    ) -> Result<()> {
        self.loaded.inserted_rows += 1;
        match incoming.filled() {
            Some(filled) => self.sketch.add(&filled, 0),
            None => self.sketch.add(incoming.batch, incoming.at),
        }
        self.note_seen(incoming.connection, place)?;
        incoming.note_loaded(self.note_place.as_deref(), place)?;
        incoming.check_references(&mut self.references, place)
    }
}

impl SqliteLoading {
    fn write(&mut self, rows: &Rows<'_>) -> Result<Vec<Rejected>> {
        let plan = Arc::clone(&self.plan);
        let planned = plan.streams.get(rows.stream);
        let planned = planned.ok_or_else(|| Error::new(Code::Internal, "rows of no stream"))?;
        if self.current != Some(rows.stream)
            && let Some(last) = self.current.replace(rows.stream)
        {
            self.end_stream(last)?;
        }
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
        let table = &self.db.catalog.tables[stream.table];
        let insert = insert_sql(stream, table, &self.db.keys[stream.table]);
        let mut insert = (self.db.connection.prepare_cached(&insert))
            .map_err(|e| failed(Code::Target, format!("cannot write {}", table.name), e))?;
        let mut written = Vec::new();
        for row in 0..rows.rows.rows() {
            let (progress, known_as) = (&mut self.streams[rows.stream], &mut self.known_as);
            written.push(self.db.write_row(stream, rows, row, &mut insert, progress, known_as)?);
        }
        drop(insert);
        self.store_sidecar(stream, rows, &written)?;
        let refused = written.into_iter().enumerate().filter_map(|(row, (done, _))| match done {
            Done::Refused(cause) => Some(Rejected { row, cause }),
            _ => None,
        });
        Ok(refused.collect())
    }

    fn finalize_now(&mut self) -> Result<ImportStats> {
        if let Some(last) = self.current.take() {
            self.end_stream(last)?;
        }
        fault::point("load: before other rows go")?;
        self.delete_others()?;
        fault::point("load: after other rows have gone")?;
        self.settle_moved()?;
        self.repoint()
            .map_err(|e| failed(Code::Target, "cannot point rows to existing ones", e))?;
        fault::point("load: before references are settled")?;
        let (orphans, adopting) = self.settle_references()?;
        fault::point("load: after references are settled")?;
        // rows created for them were never loaded, so they come after the reading back
        fault::point("load: before rows are read back")?;
        self.verify_load()?;
        fault::point("load: after rows are read back")?;
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
            conflicts: self.streams.iter().flat_map(|s| s.conflicts.all()).collect(),
            problems: self.problems.as_ref().map_or_else(Vec::new, Problems::all),
            notices,
        })
    }

    /// The target with what was loaded, and of what was noted about it what counts for later archives, too.
    fn go_on_now(mut self) -> Result<SqliteTarget> {
        self.db.written = self.written();
        let noted = self.note_loose();
        self.db.known_as = self.known_as;
        self.db.disputed.extend(self.streams.into_iter().flat_map(|progress| progress.disputed));
        self.db.archives += 1;
        let forgotten = noted
            .and_then(|()| self.db.forget_given_numbers(&self.plan))
            .map_err(|e| failed(Code::Target, "cannot go on to the next archive", e))
            .and_then(|()| self.db.forget_streams());
        match forgotten {
            Ok(()) => Ok(self.db),
            Err(error) => Err(self.db.undo(error)),
        }
    }

    fn commit_now(self) -> Result<()> {
        if let Err(error) = fault::point("commit: before") {
            return Err(self.db.undo(error));
        }
        if let Err(e) = self.db.connection.execute_batch("COMMIT") {
            let what = format!("{}: cannot commit, nothing was changed", self.db.shown);
            return Err(self.db.undo(failed(Code::Target, what, e)));
        }
        fault::point("commit: after")?;
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

impl SqliteTarget {
    /// Forgets what was noted about the streams of an archive; what is noted of the batch stays.
    fn forget_streams(&self) -> Result<()> {
        fault::point("load: between archives")?;
        let cannot = |e| failed(Code::Target, "cannot go on to the next archive", e);
        let sql = "SELECT name FROM temp.sqlite_schema WHERE type = 'table' \
                   AND name NOT LIKE 'undo\\_%' ESCAPE '\\' AND name NOT LIKE 'outside\\_%' ESCAPE '\\' \
                   AND name NOT LIKE 'known\\_as\\_%' ESCAPE '\\' AND name NOT LIKE 'loose\\_%' ESCAPE '\\' \
                   AND name NOT LIKE 'disputed\\_%' ESCAPE '\\'";
        let names: rusqlite::Result<Vec<String>> = (self.connection.prepare(sql))
            .and_then(|mut found| found.query_map([], |row| row.get(0))?.collect());
        for name in names.map_err(cannot)? {
            let drop = format!("DROP TABLE temp.{}", quoted(&name));
            self.connection.execute_batch(&drop).map_err(cannot)?;
        }
        self.connection.flush_prepared_statement_cache();
        Ok(())
    }

    /// Writes one row into its table, unless another one is in the way and stays.
    fn write_row(
        &self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        row: usize,
        insert: &mut CachedStatement<'_>,
        progress: &mut Progress,
        known_as: &mut Vec<KnownAs>,
    ) -> Result<Written> {
        let (table, keys) = (&self.catalog.tables[stream.table], &self.keys[stream.table]);
        let connection = &self.connection;
        let key_of = |table: usize| self.catalog.tables[table].key.as_slice();
        let renamed = renamed_references(connection, stream, key_of, known_as, rows.rows, row)
            .map_err(|e| failed(Code::Target, "cannot look for the keys of existing rows", e))?;
        let (batch, at) = renamed.as_ref().map_or((rows.rows, row), |renamed| (renamed, 0));
        let column = progress.batch.clone();
        let batch_column = column.as_deref();
        let incoming =
            IncomingRow { connection, stream, table, keys, rows, row, batch, at, batch_column };
        let replaces = progress.seen.is_some();
        let is_there = || match replaces {
            true => progress.see_equal(&incoming),
            false => incoming.was_there_before(progress.last_rowid),
        };
        if incoming.key_is_null() && is_there()? {
            progress.loaded.skipped_rows += 1;
            return Ok((Done::Present, None));
        }
        match incoming.insert(insert)? {
            Inserted::At(place) => {
                progress.has_inserted(&incoming, &place)?;
                Ok((Done::Inserted, None))
            }
            Inserted::Rejected(cause) => Ok((Done::Refused(cause), None)),
            Inserted::UniqueValueTaken if replaces => progress.replace(&incoming, insert),
            Inserted::UniqueValueTaken => progress.settle(self, &incoming, known_as),
        }
    }
}

impl Loading for SqliteLoading {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        &mut self.db
    }

    fn write_rows<'a>(&'a mut self, rows: &'a Rows<'a>) -> BoxFuture<'a, Result<Vec<Rejected>>> {
        Box::pin(async move { self.write(rows) })
    }

    fn has_other_keys<'a>(&'a mut self, tables: &'a [usize]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if let Some(last) = self.current.take() {
                self.end_stream(last)?;
            }
            Ok(self.known_as.iter().any(|known| tables.contains(&known.table())))
        })
    }

    fn finalize<'a>(&'a mut self, _: &'a progress::Progress) -> BoxFuture<'a, Result<ImportStats>> {
        Box::pin(async move { self.finalize_now() })
    }

    fn end_batch(&mut self) -> BoxFuture<'_, Result<BatchEnd>> {
        let cannot = |e| failed(Code::Target, "cannot check the references", e);
        let end = self.end_now().map_err(cannot);
        Box::pin(async { end })
    }

    fn go_on(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Target>>> {
        Box::pin(async move { Ok(Box::new(self.go_on_now()?) as Box<dyn Target>) })
    }

    fn seal<'a>(&'a mut self, batch: &'a mut BatchRecord) -> BoxFuture<'a, Result<Option<Notice>>> {
        Box::pin(self.seal_now(batch))
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
