//! Our own tables of history and receipts in a Postgres database, and the user's table of migrations that mirrors them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt, pin_mut};
use uuid::Uuid;

use super::connection::Connection;
use super::copy_codec::{self, Field, RowReader};
use super::fields::Fields;
use super::own_tables::{Denied, Pair, Placed};
use super::{literal, quoted};
use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use crate::history::{
    BatchKind, BatchRecord, BatchStatus, MIRROR, missing_of_mirror, not_mirrored,
};
use crate::notice::Notice;
use crate::undo::PIECE;
use chronicle_archive::{Batch, Value};

/// A moment as history has it, as SQL.
const MOMENT: &str = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;

/// The table of batches and that of their receipts.
pub(super) const HISTORY_TABLES: Pair = Pair {
    what: "the tables of history",
    in_schema: ["migration_history", "receipts"],
    beside_data: ["chronicle_dump_migration_history", "chronicle_dump_receipts"],
    create: |[history, receipts]| {
        format!(
            "CREATE TABLE {history} (schema_name text NOT NULL, id uuid PRIMARY KEY, \
                 migration_type text NOT NULL, source_backend text, target_backend text, \
                 batch_id uuid NOT NULL, records_migrated bigint, status text NOT NULL \
                 CHECK (status IN ('started', 'completed', 'failed', 'rolled_back')), \
                 error_message text, started_at timestamptz, completed_at timestamptz, \
                 details text NOT NULL); \
             CREATE TABLE {receipts} (schema_name text NOT NULL, batch_id uuid NOT NULL, \
                 number integer NOT NULL, piece bytea NOT NULL, PRIMARY KEY (batch_id, number)); \
             ALTER TABLE {receipts} ALTER piece SET STORAGE EXTERNAL;"
        )
    },
};

/// Where the history of the data in one schema is.
#[derive(Debug, Clone)]
pub(super) struct HistoryTables {
    history: String,
    receipts: String,
    /// The schema of the data.
    schema: String,
}

impl HistoryTables {
    fn new(placed: Placed, schema: &str) -> HistoryTables {
        let (history, receipts) = (placed.full(0), placed.full(1));
        HistoryTables { history, receipts, schema: schema.to_owned() }
    }

    /// The tables, if there are any; an error if this role may not read them.
    pub(super) async fn find(
        connection: &Connection,
        schema: &str,
    ) -> Result<Option<HistoryTables>> {
        let found = HISTORY_TABLES.find(connection, Code::Source, schema).await?;
        match found {
            Some(placed) if !placed.readable => {
                Err(Error::new(Code::Source, "this role may not read the tables of history")
                    .hint("connect as the role that imported, or as the owner of the tables"))
            }
            found => Ok(found.map(|placed| HistoryTables::new(placed, schema))),
        }
    }

    /// The tables, which are created if there are none; or why this role cannot have them.
    pub(super) async fn create(
        connection: &Connection,
        schema: &str,
    ) -> Result<std::result::Result<HistoryTables, Denied>> {
        let placed = HISTORY_TABLES.create(connection, schema).await?;
        Ok(placed.map(|placed| HistoryTables::new(placed, schema)))
    }

    /// SQL that is true if a value, as SQL, is the id of a batch in the history.
    pub(super) fn is_own(&self, value: &str) -> String {
        format!("{value}::text IN (SELECT h.batch_id::text FROM {} h)", self.history)
    }

    /// The tables, if there are any that this role may read.
    pub(super) async fn readable(
        connection: &Connection,
        code: Code,
        schema: &str,
    ) -> Result<Option<HistoryTables>> {
        let found = HISTORY_TABLES.find(connection, code, schema).await?;
        Ok(found.filter(|placed| placed.readable).map(|placed| HistoryTables::new(placed, schema)))
    }

    /// The batches, the oldest first.
    pub(super) async fn list(&self, connection: &Connection) -> Result<Vec<BatchRecord>> {
        self.select(connection, Code::Source, "true").await
    }

    /// One batch.
    pub(super) async fn get(
        &self,
        connection: &Connection,
        batch: Uuid,
    ) -> Result<Option<BatchRecord>> {
        let sql = format!("batch_id = '{batch}'");
        Ok(self.select(connection, Code::Target, &sql).await?.into_iter().next())
    }

    /// The same, which nobody else changes until the transaction ends.
    pub(super) async fn get_locked(
        &self,
        connection: &Connection,
        batch: Uuid,
    ) -> Result<Option<BatchRecord>> {
        // whoever has it is another connection of the same import, or will say why this one may not go on
        let lock = format!(
            "SET LOCAL lock_timeout = 0; SELECT 1 FROM {} WHERE batch_id = '{batch}' FOR UPDATE; \
             SET LOCAL lock_timeout = '10s'",
            self.history
        );
        connection.run(Code::Target, "cannot lock the batch in the history", &lock).await?;
        self.get(connection, batch).await
    }

    /// The batches that have not ended.
    pub(super) async fn started(&self, connection: &Connection) -> Result<Vec<BatchRecord>> {
        self.select(connection, Code::Target, "status = 'started'").await
    }

    async fn select(
        &self,
        connection: &Connection,
        code: Code,
        condition: &str,
    ) -> Result<Vec<BatchRecord>> {
        let moment = |column: &str| format!("to_char({column} AT TIME ZONE 'UTC', {MOMENT})");
        let sql = format!(
            "SELECT batch_id, migration_type, source_backend, coalesce(target_backend, 'postgres'), \
                    coalesce(records_migrated, 0), status, error_message, \
                    coalesce({}, ''), {}, details FROM {} \
              WHERE schema_name = {} AND ({condition}) ORDER BY batch_id",
            moment("started_at"),
            moment("completed_at"),
            self.history,
            literal(&self.schema)
        );
        connection.read(code, "cannot read the history", &sql, record).await
    }

    /// Enters a batch.
    pub(super) async fn insert(&self, connection: &Connection, record: &BatchRecord) -> Result<()> {
        let (mut names, mut values) = (vec!["schema_name"], vec![literal(&self.schema)]);
        for (name, value) in columns(record) {
            names.push(name);
            values.push(value);
        }
        names.push("details");
        values.push(details(record)?);
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.history,
            names.join(", "),
            values.join(", ")
        );
        connection.run(Code::Target, "cannot enter the batch into the history", &sql).await
    }

    /// Enters how a batch has ended.
    pub(super) async fn update(&self, connection: &Connection, record: &BatchRecord) -> Result<()> {
        let mut set: Vec<String> =
            columns(record).into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
        set.push(format!("details = {}", details(record)?));
        let sql = format!(
            "UPDATE {} SET {} WHERE batch_id = '{}'",
            self.history,
            set.join(", "),
            record.batch_id
        );
        connection
            .run(Code::Target, "cannot enter the end of the batch into the history", &sql)
            .await
    }

    /// Requires that a batch which is committed in groups is as it was left.
    pub(super) async fn require_half(
        &self,
        connection: &Connection,
        record: &BatchRecord,
    ) -> Result<()> {
        record.require_same_half(self.get(connection, record.batch_id).await?.as_ref())
    }

    /// Enters a batch into the user's own table, if there is one: whether it is refused does not matter, but is said.
    pub(super) async fn mirror(
        &self,
        connection: &Connection,
        record: &BatchRecord,
    ) -> Result<Option<Notice>> {
        const WHAT: &str = "cannot set a savepoint";
        let Some(known) = mirror_columns(connection, &self.schema).await? else { return Ok(None) };
        let missing = missing_of_mirror(|name| known.iter().any(|k| k == name));
        if !missing.is_empty() {
            let why = format!("lacks {}", missing.join(", "));
            return Ok(Some(not_mirrored(&why, &self.history.replace('"', ""))));
        }
        let values: Vec<(&str, String)> = mirrored(record)
            .into_iter()
            .filter(|(name, _)| known.iter().any(|k| k == name))
            .collect();
        let table = format!("{}.{}", quoted(&self.schema), quoted(MIRROR));
        let set: Vec<String> = (values.iter().filter(|(name, _)| *name != "id"))
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let (names, row): (Vec<&str>, Vec<String>) = values.into_iter().unzip();
        let update = format!(
            "UPDATE {table} SET {} WHERE batch_id::text = '{}'",
            set.join(", "),
            record.batch_id
        );
        let insert =
            format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), row.join(", "));
        connection.run(Code::Target, WHAT, "SAVEPOINT mirror").await?;
        let written = match connection.client.execute_typed(&update, &[]).await {
            Ok(0) => connection.client.execute_typed(&insert, &[]).await,
            done => done,
        };
        let Err(e) = written else {
            connection.run(Code::Target, WHAT, "RELEASE SAVEPOINT mirror").await?;
            return Ok(None);
        };
        let refused = connection.failed(Code::Target, "", e);
        let back = "ROLLBACK TO SAVEPOINT mirror; RELEASE SAVEPOINT mirror";
        connection.run(Code::Target, WHAT, back).await?;
        let why = refused.full();
        let why = why.lines().next().unwrap_or_default().trim_end_matches(';');
        let why = format!("refuses it: {}", why.trim_start_matches([':', ' ']));
        Ok(Some(not_mirrored(&why, &self.history.replace('"', ""))))
    }

    /// Stores receipts of a batch in pieces, behind those that it has; the number of the first piece.
    pub(super) async fn store(
        &self,
        connection: &Connection,
        batch: Uuid,
        receipts: &mut File,
    ) -> Result<i64> {
        const WHAT: &str = "cannot store the receipts";
        let cannot = |e| connection.failed(Code::Target, WHAT, e);
        let next = format!(
            "SELECT coalesce(max(number) + 1, 0) FROM {} WHERE batch_id = '{batch}'",
            self.receipts
        );
        let next = connection.read(Code::Target, WHAT, &next, |row| row.parsed::<i64>()).await?;
        let first = next.first().copied().unwrap_or(0);
        let sql = format!(
            "COPY {} (schema_name, batch_id, number, piece) FROM STDIN (FORMAT binary)",
            self.receipts
        );
        let sink = connection.client.copy_in::<_, Bytes>(&sql).await.map_err(cannot)?;
        pin_mut!(sink);
        let types =
            [ColumnType::Text(None), ColumnType::Uuid, ColumnType::Int(4), ColumnType::Bytea];
        let (mut buffer, mut piece, mut number) = (BytesMut::new(), vec![0; PIECE], first);
        copy_codec::start(&mut buffer);
        loop {
            let length = fill(receipts, &mut piece).map_err(temporary)?;
            if length == 0 {
                break;
            }
            let values = [
                Value::Text(self.schema.as_bytes()),
                Value::Uuid(*batch.as_bytes()),
                Value::Int(number),
                Value::Blob(&piece[..length]),
            ];
            copy_codec::put_values(&mut buffer, types.iter().zip(values))?;
            sink.send(buffer.split().freeze()).await.map_err(cannot)?;
            number += 1;
        }
        copy_codec::end(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(cannot)?;
        sink.finish().await.map_err(cannot)?;
        Ok(first)
    }

    /// Puts the receipts of a batch together, from a piece on, in a nameless temporary file.
    pub(super) async fn load(
        &self,
        connection: &Connection,
        batch: Uuid,
        first: i64,
    ) -> Result<File> {
        const WHAT: &str = "cannot read the receipts";
        let cannot = |e| connection.failed(Code::Source, WHAT, e);
        let mut file = tempfile::tempfile().map_err(temporary)?;
        let sql = format!(
            "COPY (SELECT piece FROM {} WHERE batch_id = '{batch}' AND number >= {first} \
             ORDER BY number) TO STDOUT (FORMAT binary)",
            self.receipts
        );
        let sent = connection.client.copy_out(sql.as_str()).await.map_err(cannot)?;
        pin_mut!(sent);
        let (mut reader, mut pieces) = (RowReader::default(), Batch::default());
        while let Some(bytes) = sent.next().await {
            reader.feed(bytes.map_err(cannot)?);
            pieces.start(0, 1, 1);
            reader.read(&[Field::Bytes], &mut pieces)?;
            for row in 0..pieces.rows() {
                if let Value::Blob(piece) = pieces.value(row, 0) {
                    file.write_all(piece).map_err(temporary)?;
                }
            }
        }
        file.seek(SeekFrom::Start(0)).map_err(temporary)?;
        Ok(file)
    }

    /// Removes the receipts of batches, whose records say so afterwards.
    pub(super) async fn prune(
        &self,
        connection: &Connection,
        batches: &[BatchRecord],
    ) -> Result<()> {
        for batch in batches {
            let sql =
                format!("DELETE FROM {} WHERE batch_id = '{}'", self.receipts, batch.batch_id);
            connection.run(Code::Target, "cannot remove the receipts", &sql).await?;
            let mut record = batch.clone();
            if let Some(receipts) = &mut record.details.receipts {
                receipts.pruned = true;
            }
            self.update(connection, &record).await?;
        }
        Ok(())
    }
}

/// The batches of the data in a schema, the oldest first; none if this role may not read them.
pub(super) async fn readable_history(
    connection: &Connection,
    schema: &str,
) -> Result<Vec<BatchRecord>> {
    match HistoryTables::readable(connection, Code::Source, schema).await? {
        Some(tables) => tables.list(connection).await,
        None => Ok(Vec::new()),
    }
}

/// The schemas of data whose history is in this database.
pub(super) async fn schemas(connection: &Connection) -> Result<Vec<String>> {
    const WHAT: &str = "cannot look for a history";
    let names = HISTORY_TABLES;
    let sql = format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE c.relkind = 'r' AND (n.nspname = '{}' AND c.relname = '{}' OR c.relname = '{}') \
            AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
            AND NOT row_security_active(c.oid)",
        super::own_tables::SCHEMA,
        names.in_schema[0],
        names.beside_data[0]
    );
    let mut found = Vec::new();
    for table in connection.read(Code::Source, WHAT, &sql, |row| row.text()).await? {
        let sql = format!("SELECT DISTINCT schema_name FROM {table} ORDER BY 1");
        found.extend(connection.read(Code::Source, WHAT, &sql, |row| row.text()).await?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The columns of the user's own table that can be written; `None` if there is no such table.
async fn mirror_columns(connection: &Connection, schema: &str) -> Result<Option<Vec<String>>> {
    let sql = format!(
        "SELECT a.attname, a.attgenerated = '' \
                AND NOT (a.attname = 'id' AND (a.atthasdef OR a.attidentity <> '')) \
           FROM pg_catalog.pg_attribute a \
           JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = {} AND c.relname = '{MIRROR}' AND c.relkind IN ('r', 'p') \
            AND a.attnum > 0 AND NOT a.attisdropped",
        literal(schema)
    );
    let what = "cannot look for migration_history";
    let read = connection.read(Code::Target, what, &sql, |row| Ok((row.text()?, row.boolean()?)));
    let found = read.await?;
    let is_there = !found.is_empty();
    let written = found.into_iter().filter(|(_, is_written)| *is_written);
    Ok(is_there.then(|| written.map(|(name, _)| name).collect()))
}

/// The columns of a row of history with their values, as SQL writes them.
fn columns(record: &BatchRecord) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "NULL".into(), literal);
    vec![
        ("id", format!("'{}'", record.batch_id)),
        ("migration_type", literal(record.kind.word())),
        ("source_backend", text(&record.source_backend)),
        ("target_backend", literal(&record.target_backend)),
        ("batch_id", format!("'{}'", record.batch_id)),
        ("records_migrated", record.records_migrated.to_string()),
        ("status", literal(record.status.word())),
        ("error_message", text(&record.error_message.as_deref().map(ascii))),
        ("started_at", literal(&record.started_at)),
        ("completed_at", text(&record.completed_at)),
    ]
}

/// The same for the user's own table, where a batch always comes from somewhere.
fn mirrored(record: &BatchRecord) -> Vec<(&'static str, String)> {
    let source = record.source_backend.as_ref().unwrap_or(&record.target_backend);
    let record = BatchRecord { source_backend: Some(source.clone()), ..record.clone() };
    columns(&record)
}

/// A text that every encoding of a database can hold.
fn ascii(text: &str) -> String {
    let each = |c: char| match c {
        '…' => "...".to_owned(),
        c if c.is_ascii() => c.to_string(),
        c => c.escape_unicode().to_string(),
    };
    text.chars().map(each).collect()
}

/// What stands in `details`, in characters that every encoding of a database can hold.
fn details(record: &BatchRecord) -> Result<String> {
    let text = serde_json::to_string(&record.details)
        .map_err(|e| Error::new(Code::Internal, "cannot describe the batch").because(e))?;
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii() {
            true => plain.push(c),
            false => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    plain.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Ok(literal(&plain))
}

fn record(row: &mut Fields) -> Result<BatchRecord> {
    let unknown = || {
        Error::new(Code::Source, "the history is of another version of this program")
            .hint("use the version that wrote it, or a later one")
    };
    Ok(BatchRecord {
        batch_id: row.parsed()?,
        kind: BatchKind::from_word(&row.text()?).ok_or_else(unknown)?,
        source_backend: row.optional()?,
        target_backend: row.text()?,
        records_migrated: row.parsed()?,
        status: BatchStatus::from_word(&row.text()?).ok_or_else(unknown)?,
        error_message: row.optional()?,
        started_at: row.text()?,
        completed_at: row.optional()?,
        details: serde_json::from_str(&row.text()?).map_err(|_| unknown())?,
    })
}

/// Reads until a piece is full or the file ends.
fn fill(file: &mut File, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < piece.len() {
        match file.read(&mut piece[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

fn temporary(e: std::io::Error) -> Error {
    match crate::error::is_full(&e) {
        true => crate::temporary::no_room(&crate::temporary::folder(), None),
        false => {
            Error::new(Code::Output, "the temporary file of receipts cannot be used").because(e)
        }
    }
}
