//! Postgres as the SQL of receipts and rollbacks sees it.

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::error::SqlState;

use super::connection::Connection;
use super::copy_codec::{self, Field, RowReader};
use super::free_value::{free_value, type_of};
use super::{key_text, literal, noted, quoted};
use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use crate::undo::{
    AddedColumn, EachRow, NamesAndTypes, ShapeTable, UndoSql, UniqueColumns, delete_sql, in_the_way,
};
use chronicle_archive::{Batch, Kind};

/// The bytes of one message of a COPY.
const MESSAGE: usize = 256 << 10;

/// What the server says of a unique value that another row has, of a value that a rule of the table refuses, and of a column
/// that takes values only in new rows.
const REFUSED: [SqlState; 6] = [
    SqlState::UNIQUE_VIOLATION,
    SqlState::EXCLUSION_VIOLATION,
    SqlState::CHECK_VIOLATION,
    SqlState::WITH_CHECK_OPTION_VIOLATION,
    SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
    SqlState::GENERATED_ALWAYS,
];

/// A transaction in which receipts are written or taken back.
pub(super) struct PgUndo<'c> {
    /// The connection of the transaction.
    connection: &'c Connection,
    /// Whether this session is a replica's: nothing acts by itself then, so a changed row may be deleted and inserted.
    as_replica: bool,
    /// The tables whose changes are noted, by their numbers.
    noted: &'c [ShapeTable],
    /// The temporary tables that were made, with their numbers of columns that hold whole numbers.
    staged: Vec<(String, usize)>,
}

/// What the values of a column of a type are in receipts.
pub(super) fn kind(ty: &str) -> Kind {
    match ty {
        "json" | "jsonb" => Kind::Json,
        _ => Kind::Text,
    }
}

/// SQL that is true of two values that the server does not store in the same bytes.
fn differs(now: &str, then: &str) -> String {
    format!("ROW({now})::record *<> ROW({then})::record")
}

impl<'c> PgUndo<'c> {
    /// A transaction on a connection.
    pub(super) fn new(
        connection: &'c Connection,
        as_replica: bool,
        noted: &'c [ShapeTable],
    ) -> PgUndo<'c> {
        PgUndo { connection, as_replica, noted, staged: Vec::new() }
    }

    /// Its connection.
    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// The number under which the rows of a table are noted.
    fn number(&self, table: &ShapeTable) -> Result<usize> {
        let is_it = |t: &ShapeTable| t.schema == table.schema && t.name == table.name;
        self.noted.iter().position(is_it).ok_or_else(|| {
            Error::new(Code::Internal, format!("{}: the table has no receipts", table.name))
        })
    }

    async fn select_now(
        &self,
        what: &str,
        sql: &str,
        texts: usize,
        each: EachRow<'_>,
    ) -> Result<()> {
        let cannot = |e| self.connection.failed(Code::Target, what, e);
        let copy = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
        let sent = self.connection.client.copy_out(copy.as_str()).await.map_err(cannot)?;
        pin_mut!(sent);
        let mut fields = vec![Field::Text; 1 + texts];
        fields[0] = Field::Int;
        let (mut reader, mut batch) = (RowReader::default(), Batch::default());
        while let Some(bytes) = sent.next().await {
            reader.feed(bytes.map_err(cannot)?);
            batch.start(0, fields.len(), 1);
            reader.read(&fields, &mut batch)?;
            for row in 0..batch.rows() {
                each(&batch, row)?;
            }
            batch.release_large();
        }
        Ok(())
    }

    async fn insert_now(&self, name: &str, rows: &Batch) -> Result<()> {
        let cannot = |e| self.connection.failed(Code::Target, "cannot stage the receipts", e);
        let width = if rows.rows() == 0 { 0 } else { rows.cells() / rows.rows() };
        let mut types = vec![ColumnType::Text(None); width];
        let numbers = self.staged.iter().find(|(staged, _)| staged == name).map_or(0, |(_, n)| *n);
        types.iter_mut().take(numbers).for_each(|ty| *ty = ColumnType::Int(8));
        let sql = format!("COPY pg_temp.{name} FROM STDIN (FORMAT binary)");
        let sink = self.connection.client.copy_in::<_, Bytes>(&sql).await.map_err(cannot)?;
        pin_mut!(sink);
        let mut buffer = BytesMut::new();
        copy_codec::start(&mut buffer);
        for row in 0..rows.rows() {
            copy_codec::put_row(&mut buffer, &types, rows, row)?;
            if buffer.len() >= MESSAGE {
                sink.send(buffer.split().freeze()).await.map_err(cannot)?;
            }
        }
        copy_codec::end(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(cannot)?;
        sink.finish().await.map_err(cannot)?;
        Ok(())
    }

    async fn note_changed(&self, table: &ShapeTable, places: &str) -> Result<()> {
        const WHAT: &str = "cannot note the rows that are about to change";
        let n = self.number(table)?;
        // as it was before: a column may have been added for this rollback
        let table = &self.noted[n];
        self.connection.run(Code::Target, WHAT, &noted::create_notes(n, table)).await?;
        let from = format!(
            "FROM {} t WHERE ({}) IN ({places})",
            noted::full(table),
            noted::place("t").join(", ")
        );
        self.connection.run(Code::Target, WHAT, &noted::note_before(n, table, &from)).await
    }

    async fn note_inserted(&self, table: &ShapeTable, keys: &str) -> Result<()> {
        const WHAT: &str = "cannot note the rows that were inserted";
        let n = self.number(table)?;
        let table = &self.noted[n];
        let from = match table.key.is_empty() {
            // rows without a key are those that this transaction has written
            true => format!(
                "(SELECT {} FROM {} t WHERE t.xmin = pg_current_xact_id()::xid) AS w ({})",
                noted::place("t").join(", "),
                noted::full(table),
                noted::numbered(table).join(", ")
            ),
            false => format!("({keys}) AS w ({})", noted::numbered(table).join(", ")),
        };
        let sql = noted::note_inserted(n, table, &format!("(SELECT * FROM {from})"));
        let sql = format!("{} {sql}", noted::create_notes(n, table));
        self.connection.run(Code::Target, WHAT, &sql).await
    }
}

impl UndoSql for PgUndo<'_> {
    fn full(&self, schema: Option<&str>, table: &str) -> String {
        match schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(table)),
            None => quoted(table),
        }
    }

    fn place(&self, _table: &ShapeTable, alias: &str) -> Vec<String> {
        noted::place(alias)
    }

    fn identity(&self, table: &ShapeTable, alias: &str) -> Vec<String> {
        noted::identity(table, alias)
    }

    fn key_text(&self, columns: &[String], alias: &str) -> String {
        key_text(columns, alias)
    }

    fn text(&self, value: &str) -> String {
        format!("({value})::text")
    }

    fn null(&self, ty: &str) -> String {
        format!("NULL::{ty}")
    }

    // the text of a whole row would be written letter by letter, with quotes: that takes longer than all the rest
    fn fingerprint(&self, values: &[String]) -> String {
        let hash = |(n, value)| {
            let text = self.text(value);
            format!(" # coalesce(hashtextextended({text} COLLATE \"C\", {n}), 0)")
        };
        let hashes: String = values.iter().map(String::as_str).enumerate().map(hash).collect();
        format!("((0{hashes}) & 281474976710655)")
    }

    // compared as the server stores them: types need no operator, and 1.0 is not 1.00
    fn changed(&self, now: &[String], then: &[String]) -> String {
        let of = |(now, then): (&String, &String)| {
            format!("CASE WHEN {} THEN '1' ELSE '0' END", differs(now, then))
        };
        now.iter().zip(then).map(of).collect::<Vec<_>>().join(" || ")
    }

    fn text_if_changed(&self, now: &str, then: &str) -> String {
        format!("CASE WHEN {} THEN ({then})::text END", differs(now, then))
    }

    fn cast(&self, value: &str, ty: &str) -> String {
        format!("{value}::{ty}")
    }

    fn overriding(&self) -> &'static str {
        "OVERRIDING SYSTEM VALUE "
    }

    fn replaces(&self) -> bool {
        self.as_replica
    }

    fn free_value(&self, table: &ShapeTable, column: usize, number: &str) -> Option<String> {
        let (full, column) =
            (self.full(table.schema.as_deref(), &table.name), &table.columns[column]);
        free_value(&type_of(&column.ty)?, &column.name, &[&full], number)
    }

    fn columns<'a>(&'a mut self, table: &'a ShapeTable) -> BoxFuture<'a, Result<NamesAndTypes>> {
        let schema = table.schema.as_deref().unwrap_or("public");
        Box::pin(noted::columns(self.connection, schema, &table.name))
    }

    fn uses<'a>(&'a mut self, column: &'a AddedColumn) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let full = self.full(column.schema.as_deref(), &column.table);
            let sql = uses_sql(&full, &column.column);
            let what = "cannot look for what was made on a column";
            self.connection.read(Code::Target, what, &sql, |row| row.text()).await
        })
    }

    fn unique<'a>(
        &'a mut self,
        table: &'a ShapeTable,
    ) -> BoxFuture<'a, Result<Vec<UniqueColumns>>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT to_json(array(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                         WHERE a.attrelid = i.indrelid \
                           AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))) \
                   FROM pg_catalog.pg_index i \
                  WHERE i.indrelid = to_regclass({}) AND i.indisunique AND i.indisready \
                    AND i.indpred IS NULL AND i.indexprs IS NULL",
                literal(&noted::full(table))
            );
            let what = "cannot read what a table keeps unique";
            let read = self.connection.read(Code::Target, what, &sql, |row| row.texts()).await?;
            let plain =
                |names: Vec<String>| names.into_iter().map(|n| (n, String::new())).collect();
            Ok(read.into_iter().map(plain).collect())
        })
    }

    fn stage<'a>(
        &'a mut self,
        name: &'a str,
        numbers: &'a [&'a str],
        values: &'a [String],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut columns: Vec<String> = numbers.iter().map(|n| format!("{n} bigint")).collect();
            columns.extend(values.iter().map(|name| format!("{name} text")));
            let sql =
                format!("CREATE TEMPORARY TABLE {name} ({}) ON COMMIT DROP", columns.join(", "));
            self.staged.push((name.to_owned(), numbers.len()));
            self.connection.run(Code::Target, "cannot stage the receipts", &sql).await
        })
    }

    // nobody else tells the planner about temporary tables; it joins them in sets
    fn index<'a>(&'a mut self, name: &'a str, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let sql = format!("ANALYZE pg_temp.{name}");
            let what = "cannot look for the rows of the batch";
            self.connection.run(Code::Target, what, &sql).await
        })
    }

    fn insert<'a>(&'a mut self, name: &'a str, rows: &'a Batch) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.insert_now(name, rows))
    }

    fn find<'a>(
        &'a mut self,
        what: &'a str,
        _: &'a ShapeTable,
        found: &'a str,
        (columns, from): (&'a str, &'a str),
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let sql = format!(
                "CREATE TEMPORARY TABLE {found} ON COMMIT DROP AS SELECT {columns} FROM {from}"
            );
            self.connection.run(Code::Target, what, &sql).await
        })
    }

    fn select<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
        texts: usize,
        each: EachRow<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.select_now(what, sql, texts, each))
    }

    fn run<'a>(&'a mut self, what: &'a str, sql: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let done = self.connection.client.execute_typed(sql, &[]).await;
            done.map_err(|e| {
                let state = e.as_db_error().map(|server| server.code().clone());
                let error = self.connection.failed(Code::Target, what, e);
                match state {
                    Some(SqlState::UNIQUE_VIOLATION | SqlState::EXCLUSION_VIOLATION) => {
                        in_the_way(Code::Conflict, error)
                    }
                    Some(SqlState::FOREIGN_KEY_VIOLATION | SqlState::RESTRICT_VIOLATION) => {
                        in_the_way(Code::Orphan, error)
                    }
                    _ => error,
                }
            })
        })
    }

    fn run_unless_refused<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let run = |sql| self.connection.run(Code::Target, what, sql);
            run("SAVEPOINT unless_refused").await?;
            let done = self.connection.client.execute_typed(sql, &[]).await;
            match done {
                Ok(_) => run("RELEASE SAVEPOINT unless_refused").await.map(|()| true),
                Err(e) if e.code().is_some_and(|code| REFUSED.contains(code)) => {
                    run("ROLLBACK TO SAVEPOINT unless_refused").await?;
                    run("RELEASE SAVEPOINT unless_refused").await.map(|()| false)
                }
                Err(e) => Err(self.connection.failed(Code::Target, what, e)),
            }
        })
    }

    fn rows<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>>> {
        Box::pin(async move { self.connection.rows(Code::Target, what, sql).await })
    }

    fn about_to_change<'a>(
        &'a mut self,
        table: &'a ShapeTable,
        places: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.note_changed(table, places))
    }

    fn about_to_delete<'a>(
        &'a mut self,
        rows: &'a [(&'a ShapeTable, String)],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (table, places) in rows {
                self.note_changed(table, places).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(
        &'a mut self,
        what: &'a str,
        table: &'a ShapeTable,
        places: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let sql = delete_sql(self, table, places);
            self.connection.run(Code::Target, what, &sql).await
        })
    }

    fn has_inserted<'a>(
        &'a mut self,
        table: &'a ShapeTable,
        keys: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.note_inserted(table, keys))
    }
}

/// SQL for the names of what depends on a column, whatever it is.
fn uses_sql(full: &str, column: &str) -> String {
    let describe = "pg_catalog.pg_describe_object";
    format!(
        "WITH RECURSIVE tables AS (SELECT {full}::regclass::oid AS oid \
              UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tables t ON i.inhparent = t.oid), \
              of AS (SELECT a.attrelid, a.attnum, a.attnotnull FROM pg_catalog.pg_attribute a \
              JOIN tables t ON a.attrelid = t.oid WHERE a.attname = {column} AND NOT a.attisdropped) \
         SELECT CASE \
               WHEN r.oid IS NOT NULL THEN {describe}('pg_catalog.pg_class'::regclass, r.ev_class, 0) \
               WHEN g.oid IS NOT NULL AND (g.adrelid, g.adnum) <> (of.attrelid, of.attnum) \
                   THEN {describe}('pg_catalog.pg_class'::regclass, g.adrelid, g.adnum) \
               ELSE {describe}(d.classid, d.objid, d.objsubid) END AS name \
           FROM of JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass \
                AND d.refobjid = of.attrelid AND d.refobjsubid = of.attnum \
           LEFT JOIN pg_catalog.pg_rewrite r \
                ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid \
           LEFT JOIN pg_catalog.pg_attrdef g \
                ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND g.oid = d.objid \
         UNION SELECT 'NOT NULL' FROM of WHERE of.attnotnull AND NOT EXISTS (SELECT 1 \
               FROM pg_catalog.pg_constraint k WHERE k.conrelid = of.attrelid AND of.attnum = ANY (k.conkey) \
                AND k.contype = 'n') \
         ORDER BY 1",
        full = literal(full),
        column = literal(column)
    )
}
