//! A Postgres database as a target: one transaction, rows by binary COPY, straight into an empty
//! table, or through a staging table where rows exist already.

mod batch;
mod columns;
mod conflict;
mod content;
mod copy;
mod disk;
mod dispute;
mod existing_keys;
mod foreign_keys;
mod indexes;
mod judge;
mod keys;
mod loading;
mod make_way;
mod merge;
mod own_rows;
mod part;
mod prepare;
mod receipts;
mod references;
mod rehearsal;
mod repoint;
mod rules;
mod sidecar;
mod spelling;
mod surroundings;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use uuid::Uuid;

use self::dispute::Disputed;
use self::loading::{Mode, PgLoading};
use self::own_rows::Outside;
pub(super) use self::prepare::MEMORY;
use self::prepare::{compress, create_tables, who_may_read};
use self::receipts::Touched;
pub use self::rehearsal::PgRehearsal;
use self::repoint::LooseRows;
use self::rules::Rule;
use super::batch::{Held, OpenBatch, Patience, Turn, read_catalog};
use super::catalog::PgCatalog;
use super::connection::{Connection, READ_COMMITTED};
use super::conninfo::ConnInfo;
use super::history::HistoryTables;
use super::own_tables::Denied;
use super::silence::{Silenced, check_at_once};
use super::source::instance;
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchRecord, TableChanges};
use crate::layout::Layout;
use crate::load::{
    CREATE_TABLES, ExistingKey, ExistingKeys, KeysOf, Loading, PartKeys, Target, TargetOptions,
};
use crate::notice::{Notice, NoticeKind};
use crate::numbers::TableNumbers;
use crate::plan::Plan;

/// A Postgres database that rows are loaded into.
pub struct PgTarget {
    connection: Connection,
    info: ConnInfo,
    found: PgCatalog,
    forced: Option<Layout>,
    catalog: Catalog,
    notices: Vec<Notice>,
    /// The triggers that do not fire.
    silenced: Silenced,
    /// What the server asks of every row.
    rules: Vec<Rule>,
    /// Whether the database's encoding lacks characters that texts may have.
    narrow_encoding: bool,
    /// The batch that the history has, if it has one.
    batch: Option<OpenBatch>,
    /// The history, if ids of batches are in the tables.
    own_batches: Option<HistoryTables>,
    /// Whether it is noted what the batch changes.
    receipts: bool,
    /// What it has changed, from its first transaction on.
    touched: Option<Touched>,
    /// Where sequences move with the commit, once that is certain.
    moves: Option<Vec<(String, i64)>>,
    /// What earlier archives of the batch have done.
    written: Vec<TableChanges>,
    /// The tables, and streams without one, whose own rows do not stay.
    cleared: BTreeSet<String>,
    /// What refers to them from tables that no archive fills.
    outside: Vec<Outside>,
    /// How many archives the batch has loaded.
    archives: usize,
    /// The oids of the tables that have rows under another key than these archives.
    known: BTreeSet<u32>,
    /// The rows that they have brought and that refer to nothing.
    loose: Vec<LooseRows>,
    /// The rows of these archives of which only a later one tells whether they are there.
    disputed: Vec<Disputed>,
    /// How long another batch is waited for.
    patience: Patience,
    /// Whether the indexes of empty tables stay where they are, so that these can be read.
    readers_go_on: bool,
    /// Whether other connections of the same import load into the same tables.
    side_by_side: bool,
    /// Whether somebody holds the target for all groups of this import.
    in_groups: bool,
    /// The rows that a restore is about, if not all, until they are noted.
    part: Mutex<Option<Box<dyn PartKeys>>>,
    /// The temporary tables with their keys, by table; none if it is about all.
    part_tables: Option<BTreeMap<usize, String>>,
}

/// What the history says of a batch that was given up without an error.
pub(super) const ABORTED: &str = "it was taken back; nothing was changed";

/// How rows are loaded, and how many the target had that went first, by stream.
type Prepared = (Mode, Vec<(usize, u64)>);

impl PgTarget {
    /// Connects and looks at the tables; creates them first, in the same transaction, if the
    /// options say so.
    ///
    /// # Errors
    /// If the server cannot be reached, or its tables are of no known layout.
    pub async fn open(
        info: &ConnInfo,
        options: &TargetOptions,
        cancel: &Cancel,
    ) -> Result<PgTarget> {
        let create = options.create.as_ref();
        let forced = create.or(options.layout.as_ref());
        let connection = Connection::open(info).await?;
        // a session that waits for the tables must see what others have written meanwhile
        connection.begin(Code::Target, "cannot start to write", READ_COMMITTED).await?;
        connection.run(Code::Target, "cannot set the memory of this load", MEMORY).await?;
        let mut notices = connection.notices();
        notices.extend(compress(&connection, options.compression).await?);
        if let Some(layout) = create {
            create_tables(&connection, info, layout).await?;
            notices.extend(who_may_read(&connection).await?);
        }
        let read = read_catalog(&connection, info, forced, options.wait);
        let found = read.await.map_err(|e| {
            if forced.is_some() || e.code() != Code::Layout {
                return e;
            }
            let known = e.next_step().unwrap_or_default().to_owned();
            e.hint(format!("{CREATE_TABLES}; {known}"))
        })?;
        let name = instance(&connection, &found.schema).await?;
        let narrow = "SELECT pg_catalog.getdatabaseencoding() NOT IN ('UTF8', 'SQL_ASCII')";
        let what = "cannot read the encoding of the database";
        let narrow = connection.read(Code::Target, what, narrow, |row| row.boolean()).await?;
        let narrow_encoding = narrow == [true];
        Ok(PgTarget {
            connection,
            info: info.clone(),
            catalog: Catalog { instance: Some(name), ..found.describe() },
            found,
            forced: forced.cloned(),
            notices,
            silenced: Silenced::default(),
            rules: Vec::new(),
            narrow_encoding,
            batch: None,
            own_batches: None,
            receipts: false,
            touched: None,
            moves: None,
            written: Vec::new(),
            cleared: BTreeSet::new(),
            outside: Vec::new(),
            archives: 0,
            known: BTreeSet::new(),
            loose: Vec::new(),
            disputed: Vec::new(),
            patience: Patience { wait: options.wait, cancel: cancel.clone() },
            readers_go_on: options.readers_go_on || options.side_by_side,
            side_by_side: options.side_by_side,
            in_groups: options.in_groups,
            part: Mutex::default(),
            part_tables: None,
        })
    }

    /// Prepares the tables for rows, and gives how many went, by stream: nobody else writes, nothing acts by itself.
    async fn prepare(&mut self, plan: &Plan) -> Result<Prepared> {
        self.lock().await?;
        self.start_receipts().await?;
        self.silence_triggers().await?;
        self.say_who_listens(plan).await?;
        check_at_once(&self.connection).await?;
        self.forget_given_numbers(plan).await?;
        self.find_own_batches(plan).await?;
        fault::point("load: before rows are cleared")?;
        self.note_part(plan).await?;
        let gone = self.prepare_own_rows(plan).await?;
        fault::point("load: after rows are cleared")?;
        self.forget_gone_rows(plan).await?;
        fault::point("load: before columns are added")?;
        self.add_columns(plan).await?;
        fault::point("load: after columns are added")?;
        self.read_rules(plan).await?;
        let sidecar = match plan.keeps_columns() {
            true => self.start_sidecar_if_allowed(plan).await?,
            false => None,
        };
        let indexes = match self.readers_go_on {
            true => Vec::new(),
            false => self.drop_indexes(plan).await?,
        };
        Ok((Mode::Load { indexes, sidecar }, gone))
    }

    /// The transaction in which rows come, if it could be prepared; else nothing of it is left.
    async fn into_loading(
        self,
        plan: Arc<Plan>,
        mode: Result<Prepared>,
        bytes: Option<u64>,
    ) -> Result<Box<dyn Loading>> {
        match mode {
            Ok((mode, gone)) => {
                let mut loading = PgLoading::new(self, plan, mode, bytes);
                gone.iter().for_each(|(n, rows)| loading.loaded[*n].deleted_rows = *rows);
                Ok(Box::new(loading))
            }
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Takes everything back because of an error, which the history gets; the error.
    pub(super) async fn give_up(&self, error: Error) -> Error {
        self.connection.roll_back().await;
        self.failed(&error.full()).await;
        error
    }

    /// Says in the history that the batch has failed, after everything was rolled back.
    pub(super) async fn failed(&self, why: &str) {
        if let Some(batch) = &self.batch {
            batch.failed(why).await;
        }
    }

    async fn open_batch_now(&mut self, record: &BatchRecord, receipts: bool) -> Result<bool> {
        let schema = &self.found.schema;
        let patience = &self.patience;
        let (main, info) = (&self.connection, &self.info);
        if self.side_by_side {
            let batch = OpenBatch::join(main, info, schema, record, patience).await?;
            (self.batch, self.receipts) = (Some(batch), receipts);
            return Ok(true);
        }
        let turn = if self.in_groups { Turn::IsHeld } else { Turn::IsTaken };
        let opened = OpenBatch::open(main, info, schema, (record, turn), patience).await;
        match opened? {
            Ok((batch, notice)) => {
                self.notices.extend(notice);
                (self.batch, self.receipts) = (Some(batch), receipts);
                Ok(true)
            }
            Err(denied) if receipts => Err(denied.error(
                "cannot record the batch in a history",
                ", or --no-undo loads the rows without a history, and they cannot be rolled back",
            )),
            Err(Denied { why, grant }) => {
                let text = format!("the history of this batch is not recorded: {why} ({grant})");
                self.notices.push(Notice::new(NoticeKind::NotRecorded, text));
                Ok(false)
            }
        }
    }

    /// Whether a table has no rows.
    pub(super) async fn is_empty(&self, table: &str) -> Result<bool> {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", self.found.full_name(table));
        let what = format!("cannot read {table}");
        let any = self.connection.read(Code::Target, &what, &any, |row| row.boolean()).await?;
        Ok(any == [false])
    }

    pub(super) async fn run(&self, what: &str, sql: &str) -> Result<()> {
        self.connection.run(Code::Target, what, sql).await
    }
}

impl ExistingKeys for PgTarget {
    fn existing_keys<'a>(
        &'a mut self,
        ids: &'a KeysOf,
        after: Option<i64>,
    ) -> BoxFuture<'a, Result<Vec<ExistingKey>>> {
        Box::pin(self.existing_keys_now(ids, after))
    }

    fn table_numbers(&mut self) -> BoxFuture<'_, Result<Vec<Option<TableNumbers>>>> {
        Box::pin(self.table_numbers_now())
    }

    fn existing_uuid_spellings<'a>(
        &'a mut self,
        table: usize,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<(String, Uuid)>>> {
        Box::pin(self.existing_uuid_spellings_now(table, origin))
    }
}

impl Target for PgTarget {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn hold(&mut self) -> BoxFuture<'_, Result<Option<Box<dyn Send + Sync>>>> {
        Box::pin(async {
            let held = Held::take(&self.info, &self.found.schema, &self.patience).await?;
            self.in_groups = true;
            Ok(Some(Box::new(held) as Box<dyn Send + Sync>))
        })
    }

    fn open_batch<'a>(
        &'a mut self,
        batch: &'a BatchRecord,
        receipts: bool,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.open_batch_now(batch, receipts))
    }

    fn restrict(&mut self, part: Box<dyn PartKeys>) {
        self.part = Mutex::new(Some(part));
    }

    fn rehearsal(self: Box<Self>) -> Box<dyn Target> {
        Box::new(PgRehearsal::new(*self))
    }

    fn begin(
        mut self: Box<Self>,
        plan: Arc<Plan>,
        cancel: Cancel,
    ) -> BoxFuture<'static, Result<Box<dyn Loading>>> {
        Box::pin(async move {
            // before indexes are dropped
            let bytes = self.table_bytes(&plan).await;
            let mode = cancel.or(self.prepare(&plan)).await;
            self.into_loading(plan, mode, bytes).await
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.connection.roll_back().await;
            self.failed(ABORTED).await;
        })
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        Box::pin(async move { self.give_up(error).await })
    }
}
