//! A batch in a Postgres database from its start to its commit: the lock that it holds, its row in the history on a
//! connection of its own, and what is known of it if the answer of the commit is lost.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::catalog::PgCatalog;
use super::connection::{Connection, READ_COMMITTED};
use super::conninfo::ConnInfo;
use super::history::HistoryTables;
use super::literal;
use super::own_tables::Denied;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchRecord, BatchStatus};
use crate::layout::Layout;
use crate::notice::Notice;

/// How long a batch waits for another one, unless it is told.
const WAIT: Duration = Duration::from_secs(10);
/// How often it looks whether the other one has ended.
const STEP: Duration = Duration::from_millis(200);
/// How long the history is asked what became of a commit, and told of a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a batch waits for another one, and what ends it before.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    /// How long; as long as usual if nothing is said.
    pub(super) wait: Option<Duration>,
    /// A request to stop.
    pub(super) cancel: Cancel,
}

/// Whose turn it is to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Somebody holds the database for all groups of this import.
    IsHeld,
    /// The batch takes its turn, if no import in groups has it.
    IsTaken,
}

/// The database, held for all groups of an import: between two of them no other batch begins.
pub(super) struct Held {
    _connection: Connection,
}

impl Held {
    /// Waits until no other batch is at work, and holds the data in a schema until the value is dropped.
    pub(super) async fn take(info: &ConnInfo, schema: &str, patience: &Patience) -> Result<Held> {
        let connection = Short::begin(info).await?.0;
        let wait = patience.wait.unwrap_or(WAIT);
        patience.cancel.or(wait_for_lock(&connection, schema, wait, FOR_ALL_GROUPS)).await?;
        Ok(Held { _connection: connection })
    }
}

/// A batch that has begun.
#[derive(Debug, Clone)]
pub(super) struct OpenBatch {
    /// As it was when its transaction began.
    record: BatchRecord,
    /// As its transaction leaves it.
    sealed: Option<BatchRecord>,
    info: ConnInfo,
    tables: HistoryTables,
    schema: String,
    /// Whether other connections of the same import write it, too.
    joined: bool,
}

impl OpenBatch {
    /// Takes the lock of the data in a schema for the open transaction of `main`, and enters the batch as started; or why
    /// this role cannot have a history.
    pub(super) async fn open(
        main: &Connection,
        info: &ConnInfo,
        schema: &str,
        (record, turn): (&BatchRecord, Turn),
        patience: &Patience,
    ) -> Result<std::result::Result<(OpenBatch, Option<Notice>), Denied>> {
        // what follows is short, and not interrupted: the history would not know how the batch has ended
        let wait = patience.wait.unwrap_or(WAIT);
        if turn == Turn::IsTaken {
            patience.cancel.or(wait_for_lock(main, schema, wait, BETWEEN_GROUPS)).await?;
        }
        patience.cancel.or(wait_for_lock(main, schema, wait, ALONE)).await?;
        fault::point("history: before the start")?;
        let short = Short::begin(info).await?;
        let tables = match HistoryTables::create(&short.0, schema).await? {
            Ok(tables) => tables,
            Err(denied) => return Ok(Err(denied)),
        };
        // who runs holds the lock, which is ours now
        let started = tables.started(&short.0).await?;
        for mut dead in started.into_iter().filter(|b| b.batch_id != record.batch_id) {
            dead.end_unexpectedly();
            tables.update(&short.0, &dead).await?;
            tables.mirror(&short.0, &dead).await?;
        }
        match record.is_half() {
            true => {
                tables.require_half(&short.0, record).await?;
                tables.update(&short.0, record).await?;
            }
            false => tables.insert(&short.0, record).await?,
        }
        let notice = tables.mirror(&short.0, record).await?;
        fault::point("history: in the start")?;
        short.commit().await?;
        fault::point("history: after the start")?;
        let batch = OpenBatch {
            record: record.clone(),
            sealed: None,
            info: info.clone(),
            tables,
            schema: schema.to_owned(),
            joined: false,
        };
        Ok(Ok((batch, notice)))
    }

    /// Joins a batch that was begun and is committed in groups, side by side with other connections of the same import:
    /// they share the lock, and nobody else gets it.
    pub(super) async fn join(
        main: &Connection,
        info: &ConnInfo,
        schema: &str,
        record: &BatchRecord,
        patience: &Patience,
    ) -> Result<OpenBatch> {
        let wait = patience.wait.unwrap_or(WAIT);
        patience.cancel.or(wait_for_lock(main, schema, wait, SHARED)).await?;
        let found = HistoryTables::find(main, schema).await?;
        let tables =
            found.ok_or_else(|| Error::new(Code::Internal, "a batch without a history"))?;
        let schema = schema.to_owned();
        let (record, info) = (record.clone(), info.clone());
        Ok(OpenBatch { record, sealed: None, info, tables, schema, joined: true })
    }

    /// The batch as the history has it, which nobody else changes until the commit.
    pub(super) async fn lock(&self, main: &Connection) -> Result<BatchRecord> {
        let stored = self.tables.get_locked(main, self.record.batch_id).await?;
        let runs = |stored: &BatchRecord| stored.is_half() && stored.status == BatchStatus::Started;
        stored.filter(runs).ok_or_else(|| self.record.taken_over())
    }

    /// Its id.
    pub(super) fn id(&self) -> Uuid {
        self.record.batch_id
    }

    /// The tables of history.
    pub(super) fn tables(&self) -> &HistoryTables {
        &self.tables
    }

    /// Enters in its transaction how the batch has ended; gives why a table of the user refuses it.
    pub(super) async fn seal(
        &mut self,
        main: &Connection,
        record: &BatchRecord,
    ) -> Result<Option<Notice>> {
        if self.record.is_half() && !self.joined {
            self.tables.require_half(main, &self.record).await?;
        }
        self.sealed = Some(record.clone());
        self.update(main, record).await
    }

    /// Enters in the transaction of the batch how it, or another one, has ended; gives why a table of the user refuses it.
    pub(super) async fn update(
        &self,
        main: &Connection,
        record: &BatchRecord,
    ) -> Result<Option<Notice>> {
        self.tables.update(main, record).await?;
        self.tables.mirror(main, record).await
    }

    /// Says in the history that the batch failed, as well as that goes: the error itself matters more.
    pub(super) async fn failed(&self, why: &str) {
        // of several connections others may go on
        if self.joined {
            return;
        }
        let failed = failed(&self.record, why);
        let enter = async {
            let short = Short::begin(&self.info).await?;
            self.update(&short.0, &failed).await?;
            short.commit().await
        };
        let _ = tokio::time::timeout(PATIENCE, enter).await;
    }

    /// Commits the transaction of the batch; if the connection is lost meanwhile, the history tells what became of it.
    pub(super) async fn commit(&self, main: &Connection) -> Result<()> {
        if let Err(error) = fault::point("commit: before") {
            main.roll_back().await;
            self.failed(&error.full()).await;
            return Err(error);
        }
        let Err(e) = main.client.batch_execute("COMMIT").await else {
            return fault::point("commit: after");
        };
        let lost = e.as_db_error().is_none_or(|server| ended(server.code()));
        let error = main.failed(Code::Target, "the commit failed", e);
        if !lost {
            self.failed(&error.full()).await;
            return Err(error);
        }
        match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.failed(&error.full()).await;
                Err(error.hint("the connection to the server was lost; nothing was changed"))
            }
            Err(_) => {
                let error = Error::new(
                    Code::Target,
                    "the connection was lost during the commit, and the server cannot be asked \
                     whether it was done",
                );
                let id = self.record.batch_id;
                Err(error.hint(format!(
                    "when it can be reached again: chronicle-dump history DB {id} says whether the \
                     batch is completed"
                )))
            }
        }
    }

    /// Whether the batch was committed, asked until it is known.
    async fn ask(&self) -> bool {
        loop {
            if let Ok(Some(committed)) = self.outcome().await {
                return committed;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Whether the batch was committed; `None` while its transaction may still be at work.
    async fn outcome(&self) -> Result<Option<bool>> {
        let short = Short::begin(&self.info).await?;
        // first: a batch that commits between the two would else look as if it had not
        let ended = ALONE.try_it(&short.0, &self.schema).await?;
        let record = self.tables.get(&short.0, self.record.batch_id).await?;
        let committed = record.as_ref().is_some_and(|record| match record.status {
            BatchStatus::Completed | BatchStatus::RolledBack => true,
            // of a group the history says how far the batch has come
            BatchStatus::Started | BatchStatus::Failed => {
                self.sealed.as_ref().is_some_and(|sealed| record.has_come_as_far_as(sealed))
            }
        });
        Ok((ended || committed).then_some(committed))
    }
}

/// A batch that has changed nothing.
fn failed(record: &BatchRecord, why: &str) -> BatchRecord {
    let mut record = record.clone();
    record.fail(why);
    record
}

/// Whether a server with this error has ended the session, perhaps behind the commit.
fn ended(state: &SqlState) -> bool {
    state.code().starts_with("57P") || state.code().starts_with("08")
}

/// A short transaction on a connection of its own.
pub(super) struct Short(pub(super) Connection);

impl Short {
    /// Logs in and begins it.
    pub(super) async fn begin(info: &ConnInfo) -> Result<Short> {
        let connection = Connection::open(info).await?;
        connection.begin(Code::Target, "cannot write to the history", READ_COMMITTED).await?;
        Ok(Short(connection))
    }

    /// Commits it, and logs out.
    pub(super) async fn commit(self) -> Result<()> {
        self.0.run(Code::Target, "cannot write to the history", "COMMIT").await
    }
}

/// A lock of the data in a schema, as it is taken until the transaction ends.
#[derive(Clone, Copy)]
struct Lock {
    name: &'static str,
    take: &'static str,
}

/// Who writes a batch, or one group of it, alone.
const ALONE: Lock = Lock { name: "chronicle_dump batch", take: "pg_try_advisory_xact_lock" };
/// The connections that write groups of one import side by side.
const SHARED: Lock = Lock { take: "pg_try_advisory_xact_lock_shared", ..ALONE };
/// Who writes one group after the other.
const FOR_ALL_GROUPS: Lock = Lock { name: "chronicle_dump groups", ..ALONE };
/// Everybody else.
const BETWEEN_GROUPS: Lock = Lock { name: FOR_ALL_GROUPS.name, ..SHARED };

impl Lock {
    /// Its two numbers, as SQL.
    fn numbers(self, schema: &str) -> [String; 2] {
        [self.name, schema].map(|text| format!("hashtext({})", literal(text)))
    }

    /// Takes it; false if somebody else has it.
    async fn try_it(self, connection: &Connection, schema: &str) -> Result<bool> {
        let sql = format!("SELECT {}({})", self.take, self.numbers(schema).join(", "));
        let taken = connection.read(Code::Target, "cannot lock", &sql, |row| row.boolean()).await?;
        Ok(taken == [true])
    }
}

/// Reads the catalog. An import into empty tables keeps everybody from looking at them: it is waited for.
pub(super) async fn read_catalog(
    connection: &Connection,
    info: &ConnInfo,
    forced: Option<&Layout>,
    wait: Option<Duration>,
) -> Result<PgCatalog> {
    const WHAT: &str = "cannot look at the tables";
    let (began, wait) = (Instant::now(), wait.unwrap_or(WAIT));
    let run = |sql: &'static str| connection.run(Code::Target, WHAT, sql);
    loop {
        run("SAVEPOINT look; SET LOCAL lock_timeout = '500ms'").await?;
        let error = match PgCatalog::read(connection, info.schema.as_deref(), forced).await {
            Err(error) if error.full().contains(SqlState::LOCK_NOT_AVAILABLE.code()) => error,
            read => {
                // behind an error of the server nothing can be run any more
                let _ = run("RELEASE SAVEPOINT look; SET LOCAL lock_timeout = '10s'").await;
                return read;
            }
        };
        run("ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look").await?;
        if began.elapsed() >= wait {
            let schema = info.schema.as_deref().unwrap_or("public");
            let by_a_batch = !ALONE.try_it(connection, schema).await?;
            return Err(match by_a_batch {
                true => busy(connection, schema, wait, ALONE).await,
                false => error,
            });
        }
    }
}

/// Takes the lock, and waits for whoever holds it.
async fn wait_for_lock(
    connection: &Connection,
    schema: &str,
    wait: Duration,
    lock: Lock,
) -> Result<()> {
    let began = Instant::now();
    while !lock.try_it(connection, schema).await? {
        if began.elapsed() >= wait {
            return Err(busy(connection, schema, wait, lock).await);
        }
        tokio::time::sleep(STEP.min(wait)).await;
    }
    Ok(())
}

/// The error of a lock that another batch holds.
async fn busy(connection: &Connection, schema: &str, wait: Duration, lock: Lock) -> Error {
    let mut words = vec!["another batch writes to this database".to_owned()];
    if let Ok(Some(tables)) = HistoryTables::find(connection, schema).await
        && let Some(other) = tables.started(connection).await.ok().and_then(|mut all| all.pop())
    {
        let process = other.details.process.as_ref();
        let process =
            process.map_or_else(String::new, |p| format!(", process {}@{}", p.pid, p.host));
        words.push(format!(": {other}{process}"));
    }
    let [first, second] = lock.numbers(schema);
    let sql = format!(
        "SELECT coalesce(a.usename, ''), coalesce(a.application_name, ''), \
                coalesce(host(a.client_addr), 'local') FROM pg_catalog.pg_locks l \
           JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
          WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
            AND l.database = (SELECT oid FROM pg_catalog.pg_database \
                               WHERE datname = current_database()) \
            AND l.classid = {first}::oid AND l.objid = {second}::oid"
    );
    let read = connection.read(Code::Target, "cannot look for the lock", &sql, |row| {
        Ok((row.text()?, row.text()?, row.text()?))
    });
    if let Some((user, application, address)) = read.await.ok().and_then(|mut all| all.pop()) {
        let shown = [user, application, address].map(|text| chronicle_archive::show_text(&text));
        let [user, application, address] = shown;
        words.push(format!(", connected as {user} ({application}) from {address}"));
    }
    let seconds = wait.as_secs();
    let hint = format!("waited {seconds} s; --wait SECONDS waits longer");
    Error::new(Code::Target, words.concat()).hint(hint)
}
