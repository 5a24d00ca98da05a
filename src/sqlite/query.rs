//! The reading of one table, in the order of its archive, batch by batch.

use std::sync::mpsc as recycle;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};
use tokio::sync::mpsc;

use super::catalog::SqliteTable;
use super::{failed, from_sqlite, quoted};
use crate::error::{Code, Result};
use crate::source::Reading;
use chronicle_archive::{Batch, Stream};

/// A batch is handed over when it holds this many bytes: few enough to stay in a processor's cache.
const BATCH_BYTES: usize = 256 << 10;

/// Where batches go, and where used ones come back.
pub(super) struct Output {
    pub(super) to_us: mpsc::Sender<Batch>,
    pub(super) used: recycle::Receiver<Batch>,
}

/// The reading of one table.
#[derive(Clone)]
pub(super) struct Query {
    pub(super) table: String,
    /// Its rows `t`, as SQL that ends in a condition.
    pub(super) rows: String,
    /// The columns that are read, as SQL.
    pub(super) columns: Vec<String>,
    /// What orders the rows, as SQL; nothing if they come in any order.
    pub(super) order: Vec<String>,
    /// Where the first of these is among the columns.
    pub(super) leader: Option<usize>,
}

impl Query {
    /// The reading of `rows`, SQL that ends in a condition; `behind` is one more column, as SQL. A column that holds
    /// ids of batches is given with SQL that is true for those of the file's own history: they are no data.
    pub(super) fn new(
        stream: &Stream,
        table: &SqliteTable,
        rows: String,
        batch: Option<&(String, String)>,
        behind: Option<&str>,
    ) -> Query {
        let mut columns: Vec<String> =
            stream.columns.iter().map(|c| format!("t.{}", quoted(&c.physical))).collect();
        // byte order, whatever collation a column declares
        let mut order: Vec<String> =
            (stream.order.iter()).map(|n| format!("{} COLLATE BINARY", columns[*n])).collect();
        // rows without a key, or with equal ones, in a stable order too
        if let (Some(rowid), false) = (table.rowid(), order.is_empty()) {
            order.push(format!("t.{}", quoted(rowid)));
        }
        let leader = stream.order.first().copied();
        for (column, stored) in columns.iter_mut().zip(&stream.columns) {
            if let Some((_, is_own)) = batch.filter(|(name, _)| *name == stored.name) {
                *column = format!("CASE WHEN {is_own} THEN NULL ELSE {column} END");
            }
        }
        columns.extend(behind.map(str::to_owned));
        Query { table: table.name.clone(), rows, columns, order, leader }
    }

    /// The reading of what is asked for alone; `condition` is SQL that is true for the rows that are wanted, behind AND.
    pub(super) fn narrowed(&self, reading: &Reading, condition: &str) -> Query {
        let mut query = self.clone();
        query.rows.push_str(condition);
        if !reading.is_ordered {
            (query.order, query.leader) = (Vec::new(), None);
        }
        let is_wanted =
            |n: usize| reading.columns.as_ref().is_none_or(|all| all.get(n) == Some(&true));
        for (n, column) in query.columns.iter_mut().enumerate().filter(|(n, _)| !is_wanted(*n)) {
            // its value is nobody's business
            *column = format!("NULL AS c{n}");
        }
        query
    }

    /// Reads the table to its end; false if nobody wants the rest.
    pub(super) fn run(
        &self,
        connection: &Connection,
        stream: usize,
        output: &Output,
    ) -> Result<bool> {
        self.read(connection, stream, output)
            .map_err(|e| failed(Code::Source, format!("cannot read {}", self.table), e))
    }

    fn read(
        &self,
        connection: &Connection,
        stream: usize,
        output: &Output,
    ) -> rusqlite::Result<bool> {
        let leader = self.leader_by_index(connection)?;
        let all = self.sql("", &self.order);
        let (first, others) = self.order.split_at(self.order.len().min(1));
        let (by_first, tied) =
            (self.sql("", first), self.sql(&format!(" AND {} = ?1", first.join("")), others));
        let mut rows = Rows::new(self.columns.len(), stream, output);
        let goes_on = match leader {
            None => rows.read(connection, &all, [])?,
            Some(leader) => rows.read_by(connection, leader, &by_first, &tied)?,
        };
        Ok(goes_on && rows.end())
    }

    fn sql(&self, condition: &str, order: &[String]) -> String {
        let by = if order.is_empty() { "" } else { " ORDER BY " };
        let columns = self.columns.join(", ");
        format!("SELECT {columns} FROM {}{condition}{by}{}", self.rows, order.join(", "))
    }

    /// The first column of the order, if an index has the rows in its order and it holds text alone,
    /// so that rows with equal values are seen by their bytes.
    fn leader_by_index(&self, connection: &Connection) -> rusqlite::Result<Option<usize>> {
        let (Some(leader), Some(first)) = (self.leader, self.order.first()) else {
            return Ok(None);
        };
        let plan = format!("EXPLAIN QUERY PLAN {}", self.sql("", std::slice::from_ref(first)));
        let mut plan = connection.prepare(&plan)?;
        let steps = plan.query_map([], |row| row.get::<_, String>("detail"))?;
        if steps.collect::<rusqlite::Result<Vec<_>>>()?.iter().any(|s| s.contains("TEMP B-TREE")) {
            return Ok(None);
        }
        let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
        let odd =
            format!("SELECT EXISTS (SELECT 1 FROM {} AND typeof({first}) <> 'text')", self.rows);
        let odd: bool = connection.query_row(&odd, [], |row| row.get(0))?;
        Ok((encoding == "UTF-8" && !odd).then_some(leader))
    }
}

/// The rows that are read, batch by batch.
struct Rows<'a> {
    width: usize,
    output: &'a Output,
    batch: Batch,
    next_row: u64,
}

impl<'a> Rows<'a> {
    fn new(width: usize, stream: usize, output: &'a Output) -> Rows<'a> {
        let mut batch = output.used.try_recv().unwrap_or_default();
        batch.start(stream, width, 1);
        Rows { width, output, batch, next_row: 1 }
    }

    /// Reads everything that a query finds; false if nobody wants the rest.
    fn read(
        &mut self,
        connection: &Connection,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut found = statement.query(values)?;
        while let Some(row) = found.next()? {
            self.push(row)?;
            if !self.hand_over() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads what a query finds in the order of its column `leader` alone, and rows that are equal in it by the query
    /// `tied`, in theirs. SQLite would put every row aside to sort them, with its payload, though hardly any two are.
    fn read_by(
        &mut self,
        connection: &Connection,
        leader: usize,
        sql: &str,
        tied: &str,
    ) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare(sql)?;
        let mut found = statement.query([])?;
        let (mut last, mut rows) = (Vec::new(), 0_u64);
        while let Some(row) = found.next()? {
            let value = row.get_ref(leader)?.as_bytes()?;
            let another = rows == 0 || last != value;
            rows = if another { 1 } else { rows + 1 };
            // only now: a row that was handed over cannot be taken back
            if another && !self.hand_over() {
                return Ok(false);
            }
            if another {
                last.clear();
                last.extend_from_slice(value);
                self.push(row)?;
            } else if rows == 2 {
                self.take_back();
                let value = ToSqlOutput::Borrowed(ValueRef::Text(value));
                if !self.read(connection, tied, [value])? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        for n in 0..self.width {
            self.batch.push(from_sqlite(row.get_ref(n)?));
        }
        self.next_row += 1;
        Ok(())
    }

    /// Takes the last row back.
    fn take_back(&mut self) {
        self.batch.truncate(self.batch.rows().saturating_sub(1));
        self.next_row -= 1;
    }

    /// Hands the batch over if it is full; false when nobody wants batches any more.
    fn hand_over(&mut self) -> bool {
        if self.batch.size() < BATCH_BYTES {
            return true;
        }
        let mut fresh = self.output.used.try_recv().unwrap_or_default();
        fresh.start(self.batch.stream(), self.width, self.next_row);
        self.output.to_us.blocking_send(std::mem::replace(&mut self.batch, fresh)).is_ok()
    }

    /// Hands the rest over.
    fn end(self) -> bool {
        self.batch.rows() == 0 || self.output.to_us.blocking_send(self.batch).is_ok()
    }
}
