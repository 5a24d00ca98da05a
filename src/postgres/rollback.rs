//! A Postgres database as `history` and `rollback` see it: its batches, and the transaction that undoes one.

use std::fs::File;
use std::time::Duration;

use futures::future::BoxFuture;
use uuid::Uuid;

use super::batch::{OpenBatch, Patience, Short, Turn, read_catalog};
use super::connection::{Connection, READ_COMMITTED};
use super::conninfo::ConnInfo;
use super::history::{HistoryTables, schemas};
use super::load::MEMORY;
use super::own_tables::Denied;
use super::receipts::write_receipts;
use super::sequences::set_back;
use super::silence::{Quiet, Silenced, check_at_once, silence};
use super::undo::PgUndo;
use super::{literal, noted, quoted};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::BatchRecord;
use crate::notice::Notice;
use crate::undo::{AddedColumn, HistoryDatabase, Sequence, Shape, ShapeTable, UndoSql, Undoing};

/// A database whose history is open.
pub struct PgHistory {
    /// In a transaction that sees at every statement what others have committed.
    connection: Connection,
    info: ConnInfo,
    schema: String,
    patience: Patience,
}

/// What helps if a database has neither a history nor tables that are known.
const WHERE: &str = "check the name of the database behind the last slash; of a schema that is not public the name is given by \
                     schema= in the connection string";

impl PgHistory {
    /// Connects and looks for the history: that of the schema which is named or has tables of a known layout, else the
    /// only one that there is. `wait` is how long a rollback waits for another batch.
    ///
    /// # Errors
    /// If the server cannot be reached, or it is not known which schema is meant.
    pub async fn open(
        info: &ConnInfo,
        wait: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<PgHistory> {
        let connection = Connection::open(info).await?;
        connection.begin(Code::Source, "cannot read the history", READ_COMMITTED).await?;
        let schema = match (&info.schema, &schemas(&connection).await?[..]) {
            (Some(named), _) => named.clone(),
            // what is looked for first, whatever else there is: nobody waits for an import that runs
            (None, [only]) if only == "public" => only.clone(),
            (None, all) => match (read_catalog(&connection, info, None, wait).await, all) {
                (Ok(found), _) => found.schema,
                (Err(_), [only]) => only.clone(),
                (Err(error), _) => return Err(error.hint(WHERE)),
            },
        };
        let patience = Patience { wait, cancel: cancel.clone() };
        Ok(PgHistory { connection, info: info.clone(), schema, patience })
    }

    async fn tables(&self) -> Result<HistoryTables> {
        let found = HistoryTables::find(&self.connection, &self.schema).await?;
        found.ok_or_else(|| Error::new(Code::NotFound, "the database has no history"))
    }

    async fn history_now(&mut self) -> Result<Vec<BatchRecord>> {
        match HistoryTables::find(&self.connection, &self.schema).await? {
            Some(tables) => tables.list(&self.connection).await,
            None => Ok(Vec::new()),
        }
    }

    async fn receipts_now(&mut self, batch: Uuid) -> Result<File> {
        self.tables().await?.load(&self.connection, batch, 0).await
    }

    async fn prune_now(&mut self, batches: &[BatchRecord]) -> Result<()> {
        let tables = self.tables().await?;
        let short = Short::begin(&self.info).await?;
        tables.prune(&short.0, batches).await?;
        short.commit().await
    }

    async fn begin_now(
        self,
        rollback: Option<&BatchRecord>,
        shape: &Shape,
    ) -> Result<Box<dyn Undoing>> {
        let PgHistory { connection, info, schema, patience } = self;
        let batch = match rollback {
            // a user's own table that refuses the batch has refused the one that is undone
            Some(record) => {
                let opened = OpenBatch::open(
                    &connection,
                    &info,
                    &schema,
                    (record, Turn::IsTaken),
                    &patience,
                )
                .await?;
                let denied = |d: Denied| d.error("cannot record the rollback in the history", "");
                Some(opened.map_err(denied)?.0)
            }
            None => None,
        };
        let mut undoing = PgUndoing {
            connection,
            noted: shape.tables.clone(),
            batch,
            silenced: Silenced::default(),
            always: Vec::new(),
            returned: Vec::new(),
            drops: Vec::new(),
            sequences: Vec::new(),
        };
        match patience.cancel.or(undoing.prepare(shape)).await {
            Ok(()) => Ok(Box::new(undoing)),
            Err(error) => {
                undoing.give_up(&error.full()).await;
                Err(error)
            }
        }
    }
}

impl HistoryDatabase for PgHistory {
    fn notices(&self) -> Vec<Notice> {
        self.connection.notices()
    }

    fn history(&mut self) -> BoxFuture<'_, Result<Vec<BatchRecord>>> {
        Box::pin(self.history_now())
    }

    fn receipts(&mut self, batch: Uuid) -> BoxFuture<'_, Result<File>> {
        Box::pin(self.receipts_now(batch))
    }

    fn prune<'a>(&'a mut self, batches: &'a [BatchRecord]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.prune_now(batches))
    }

    fn begin<'a>(
        self: Box<Self>,
        rollback: Option<&'a BatchRecord>,
        shape: &'a Shape,
    ) -> BoxFuture<'a, Result<Box<dyn Undoing>>> {
        Box::pin(self.begin_now(rollback, shape))
    }
}

/// The transaction of a rollback.
struct PgUndoing {
    connection: Connection,
    /// The tables of the batch that is undone.
    noted: Vec<ShapeTable>,
    /// The rollback in the history; none if it is a rehearsal.
    batch: Option<OpenBatch>,
    silenced: Silenced,
    /// SQL that gives columns back what an update needs them to be without.
    always: Vec<String>,
    /// The columns that came back.
    returned: Vec<AddedColumn>,
    /// The columns that go when the receipts are written.
    drops: Vec<AddedColumn>,
    /// The sequences that go back with the commit.
    sequences: Vec<Sequence>,
}

/// A foreign key that must hold when everything is undone.
struct Held {
    name: String,
    child: String,
    parent: String,
    columns: Vec<String>,
    to: Vec<String>,
}

impl PgUndoing {
    fn undo(&self) -> PgUndo<'_> {
        PgUndo::new(&self.connection, self.silenced.as_replica, &self.noted)
    }

    async fn run(&self, what: &str, sql: &str) -> Result<()> {
        self.connection.run(Code::Target, what, sql).await
    }

    /// Prepares the tables: nobody else writes, nothing acts by itself, and columns that come back are there.
    async fn prepare(&mut self, shape: &Shape) -> Result<()> {
        self.run("cannot set the memory of this rollback", MEMORY).await?;
        let tables = self.present(&shape.tables).await?;
        if self.batch.is_some() && !tables.is_empty() {
            let names: Vec<&str> = tables.iter().map(|t| t.full.as_str()).collect();
            let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "));
            self.run("cannot lock Chronicle's tables", &lock).await?;
        }
        for column in shape.added_columns.iter().filter(|c| c.dropped) {
            let schema = column.schema.as_deref().unwrap_or("public");
            let now = noted::columns(&self.connection, schema, &column.table).await?;
            if now.unwrap_or_default().iter().any(|(name, _)| *name == column.column) {
                // a later batch has added it
                continue;
            }
            self.returned.push(AddedColumn { dropped: false, ..column.clone() });
            let sql = format!(
                "ALTER TABLE {} ADD COLUMN {} {}",
                self.undo().full(column.schema.as_deref(), &column.table),
                quoted(&column.column),
                column.ty
            );
            self.run("cannot add a column again", &sql).await?;
        }
        self.silenced = silence(&self.connection, &tables).await?;
        check_at_once(&self.connection).await?;
        if !self.silenced.as_replica {
            self.allow_numbers(&tables).await?;
        }
        Ok(())
    }

    /// Those of the tables, but our own, that are still there.
    async fn present(&self, tables: &[ShapeTable]) -> Result<Vec<Quiet>> {
        let names: Vec<String> = (tables.iter().filter(|t| !t.own))
            .map(|t| format!("to_regclass({})", literal(&noted::full(t))))
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT c.oid, c.oid::regclass FROM pg_catalog.pg_class c \
              WHERE c.oid IN ({}) AND c.relkind IN ('r', 'p') ORDER BY c.oid",
            names.join(", ")
        );
        let what = "cannot look for the tables of the batch";
        let read = self.connection.read(Code::Target, what, &sql, |row| {
            Ok(Quiet { oid: row.parsed()?, full: row.text()? })
        });
        read.await
    }

    /// Lets an update write columns that the server alone numbers, until [`seal`](Undoing::seal).
    async fn allow_numbers(&mut self, tables: &[Quiet]) -> Result<()> {
        for table in tables {
            let sql = format!(
                "SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a \
                  WHERE a.attrelid = {} AND a.attidentity = 'a' AND NOT EXISTS (SELECT 1 \
                   FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary \
                    AND a.attnum = ANY (i.indkey))",
                table.oid
            );
            let what = "cannot read the columns";
            for column in self.connection.read(Code::Target, what, &sql, |row| row.text()).await? {
                let set = |how: &str| {
                    format!("ALTER TABLE {} ALTER {column} SET GENERATED {how}", table.full)
                };
                self.run("cannot write a column that is numbered", &set("BY DEFAULT")).await?;
                self.always.push(set("ALWAYS"));
            }
        }
        Ok(())
    }

    async fn undo_objects_now(&mut self, shape: &Shape) -> Result<Shape> {
        let mut done = Shape {
            tables: shape.tables.clone(),
            added_columns: Vec::new(),
            sequences: Vec::new(),
        };
        done.added_columns.clone_from(&self.returned);
        for column in shape.added_columns.iter().filter(|c| !c.dropped) {
            done.added_columns.push(AddedColumn { dropped: true, ..column.clone() });
        }
        for sequence in &shape.sequences {
            let sql = format!(
                "SELECT pg_sequence_last_value(s.oid) FROM (SELECT to_regclass({})::oid AS oid) s \
                  WHERE s.oid IS NOT NULL",
                literal(&sequence.name)
            );
            let what = "cannot look at a sequence";
            let read = self.connection.read(Code::Target, what, &sql, |row| row.optional_parsed());
            // another number was given since: it stays
            if read.await? == [sequence.after] {
                done.sequences.push(Sequence {
                    name: sequence.name.clone(),
                    before: sequence.after,
                    after: sequence.before,
                });
            }
        }
        self.drops = done.added_columns.iter().filter(|c| c.dropped).cloned().collect();
        self.sequences.clone_from(&done.sequences);
        Ok(done)
    }

    async fn seal_now(
        &mut self,
        rollback: &mut BatchRecord,
        others: &[BatchRecord],
        mut shape: Shape,
    ) -> Result<()> {
        let Some(batch) = self.batch.clone() else { return Ok(()) };
        self.check_references(&shape.tables).await?;
        let (mut tables, mut all) = (Vec::new(), Vec::new());
        for (n, table) in std::mem::take(&mut shape.tables).into_iter().enumerate() {
            let width = table.columns.len();
            let noted = noted::what_is_noted(&self.connection, n, width).await?;
            if noted::any(&noted) {
                tables.push(table);
                all.push(noted);
            }
        }
        shape.tables = tables;
        write_receipts(&mut self.undo(), &batch, rollback, &shape, &all).await?;
        self.silenced.restore(&self.connection).await?;
        for sql in std::mem::take(&mut self.always) {
            self.run("cannot give a column its numbers back", &sql).await?;
        }
        for column in &self.drops {
            let sql = format!(
                "ALTER TABLE {} DROP COLUMN {}",
                self.undo().full(column.schema.as_deref(), &column.table),
                quoted(&column.column)
            );
            self.run("cannot drop a column that the batch has added", &sql).await?;
        }
        fault::point("history: before the end")?;
        batch.update(&self.connection, rollback).await?;
        for other in others {
            batch.update(&self.connection, other).await?;
        }
        fault::point("history: after the end")
    }

    /// Makes sure that every foreign key from and to the tables holds, which the server does not check for a replica.
    async fn check_references(&self, tables: &[ShapeTable]) -> Result<()> {
        if !self.silenced.as_replica {
            return Ok(());
        }
        for key in self.foreign_keys(tables).await? {
            let given: Vec<String> =
                key.columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect();
            let same: Vec<String> = (key.columns.iter().zip(&key.to))
                .map(|(from, to)| format!("p.{} = c.{}", quoted(to), quoted(from)))
                .collect();
            let sql = format!(
                "SELECT count(*) FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {}) \
                 HAVING count(*) > 0",
                key.child,
                given.join(" AND "),
                key.parent,
                same.join(" AND ")
            );
            let what = "cannot check the references";
            let rows = self.connection.read(Code::Target, what, &sql, |row| row.text()).await?;
            let Some(rows) = rows.first() else { continue };
            return Err(Error::new(
                Code::Orphan,
                format!(
                    "{}: {rows} rows would violate the foreign key {}: {} is not in {}; nothing was \
                     changed",
                    key.child,
                    chronicle_archive::show_text(&key.name),
                    key.columns.join(", "),
                    key.parent
                ),
            )
            .hint("rows were added or deleted since the batch: delete or restore them first"));
        }
        Ok(())
    }

    /// The foreign keys from and to tables, which the server would check.
    async fn foreign_keys(&self, tables: &[ShapeTable]) -> Result<Vec<Held>> {
        let tables = self.present(tables).await?;
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let oids: Vec<String> = tables.iter().map(|t| t.oid.to_string()).collect();
        let oids = oids.join(", ");
        let names = noted::names_of_key;
        let sql = format!(
            "SELECT k.conname, k.conrelid::regclass, k.confrelid::regclass, {}, {} \
               FROM pg_catalog.pg_constraint k \
              WHERE k.contype = 'f' AND k.conparentid = 0 AND k.convalidated \
                AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' \
                AND (k.conrelid IN ({oids}) OR k.confrelid IN ({oids})) ORDER BY k.oid",
            names("conkey", "conrelid"),
            names("confkey", "confrelid")
        );
        let what = "cannot read the foreign keys";
        let read = self.connection.read(Code::Target, what, &sql, |row| {
            let (name, child, parent) = (row.text()?, row.text()?, row.text()?);
            Ok(Held { name, child, parent, columns: row.texts()?, to: row.texts()? })
        });
        read.await
    }

    /// Gives the sequences back the numbers that they gave last, if nobody has taken one since.
    async fn set_sequences(&self) -> Result<()> {
        for sequence in &self.sequences {
            set_back(&self.connection, &sequence.name, sequence.before, sequence.after).await?;
        }
        Ok(())
    }

    async fn commit_now(self) -> Result<()> {
        let Some(batch) = &self.batch else {
            self.connection.roll_back().await;
            return Ok(());
        };
        // others may wait for them until the commit, so they move last
        if let Err(error) = self.set_sequences().await {
            self.give_up(&error.full()).await;
            return Err(error);
        }
        batch.commit(&self.connection).await
    }

    /// Takes everything back, and says in the history why.
    async fn give_up(&self, why: &str) {
        self.connection.roll_back().await;
        if let Some(batch) = &self.batch {
            batch.failed(why).await;
        }
    }
}

impl Undoing for PgUndoing {
    fn history(&mut self) -> BoxFuture<'_, Result<Vec<BatchRecord>>> {
        Box::pin(async {
            match &self.batch {
                Some(batch) => batch.tables().list(&self.connection).await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn sql(&mut self) -> Box<dyn UndoSql + '_> {
        Box::new(self.undo())
    }

    fn undo_objects<'a>(&'a mut self, shape: &'a Shape) -> BoxFuture<'a, Result<Shape>> {
        Box::pin(self.undo_objects_now(shape))
    }

    fn seal<'a>(
        &'a mut self,
        rollback: &'a mut BatchRecord,
        others: &'a [BatchRecord],
        shape: Shape,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.seal_now(rollback, others, shape))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.commit_now())
    }

    fn abort(self: Box<Self>, error: Option<Error>) -> BoxFuture<'static, Option<Error>> {
        Box::pin(async move {
            let why = error.as_ref().map(Error::full);
            self.give_up(why.as_deref().unwrap_or("it was stopped; nothing was changed")).await;
            error
        })
    }
}
