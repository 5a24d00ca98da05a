//! Noting what a batch changes in a file, by triggers of our own connection, and the SQL of receipts and rollbacks.
//!
//! Temporary triggers belong to the connection alone: the file does not know of them. They see every row that anything
//! here inserts, updates or deletes, whatever it is for.

use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, ffi};

use super::catalog::{SqliteTable, UniqueKey, kind, read_every_table};
use super::history::{put, store_receipts};
use super::{
    extended_code, failed, fingerprint_of, from_sqlite, key_text, literal, quoted, to_sqlite,
};
use crate::error::{Code, Result};
use crate::fault;
use crate::history::BatchRecord;
use crate::notice::Notice;
use crate::sidecar::{COLUMNS, SIDECAR};
use crate::undo::{
    AddedColumn, EachRow, NamesAndTypes, Noted, Sequence, Shape, ShapeColumn, ShapeReference,
    ShapeTable, UndoSql, UniqueColumns, before_name, collect, in_the_way, inserted_name,
};
use chronicle_archive::{Batch, Value};

fn cannot(e: rusqlite::Error) -> crate::error::Error {
    failed(Code::Target, "cannot prepare the receipts", e)
}

/// What a batch changes, from the start of its transaction on.
#[derive(Debug, Default)]
pub(super) struct Noting {
    tables: Vec<NotedTable>,
    /// The columns that it has added or dropped.
    pub(super) added: Vec<AddedColumn>,
    /// The numbers of AUTOINCREMENT tables when it began.
    pub(super) sequences: Vec<(String, Option<i64>)>,
}

#[derive(Debug)]
struct NotedTable {
    name: String,
    /// The columns whose text names a row in the sidecar table.
    key: Vec<String>,
    noted: Noted,
}

impl Noting {
    /// Starts to note what is done to some tables, given with the keys by which entries name their rows, and to our own.
    pub(super) fn start(
        connection: &Connection,
        tables: &[(String, Vec<String>)],
    ) -> Result<Noting> {
        let all = read_every_table(connection).map_err(cannot)?;
        let mut noting = Noting::default();
        let own = [SIDECAR, COLUMNS].map(|own| (own.to_owned(), Vec::new()));
        for (name, key) in tables.iter().chain(own.iter().filter(|own| !tables.contains(own))) {
            let (number, found) = (noting.tables.len(), all.iter().find(|t| t.name == *name));
            let noted = match found {
                // what is not there yet has no rows
                None => Noted { number, was_empty: true, ..Noted::default() },
                Some(table) => note(connection, number, table).map_err(cannot)?,
            };
            noting.tables.push(NotedTable { name: name.clone(), key: key.clone(), noted });
            let number = sequence(connection, name).map_err(cannot)?;
            noting.sequences.push((name.clone(), number));
        }
        Ok(noting)
    }

    /// Stops to note: nothing is changed any more but the tables themselves.
    fn stop(&self, connection: &Connection) -> rusqlite::Result<()> {
        for n in 0..self.tables.len() {
            connection.execute_batch(&format!(
                "DROP TRIGGER IF EXISTS temp.undo_insert_{n}; DROP TRIGGER IF EXISTS temp.undo_update_{n}; \
                 DROP TRIGGER IF EXISTS temp.undo_delete_{n};"
            ))?;
        }
        Ok(())
    }

    /// What was touched, and what was noted of it.
    fn shape(
        &self,
        connection: &Connection,
        references: &[(String, ShapeReference)],
    ) -> Result<(Shape, Vec<Noted>)> {
        let all = read_every_table(connection).map_err(cannot)?;
        let (mut shape, mut noted) = (Shape::default(), Vec::new());
        for of in &self.tables {
            let Some(table) = all.iter().find(|t| t.name == of.name) else { continue };
            let mut described = shape_of(table);
            described.own = [SIDECAR, COLUMNS].contains(&table.name.as_str());
            described.referred = referred(&all, table);
            if of.noted.was_empty && !described.own {
                described.entry_key.clone_from(&of.key);
            }
            for (_, reference) in references.iter().filter(|(to, _)| *to == of.name) {
                if !described.referred.contains(reference) {
                    described.referred.push(reference.clone());
                }
            }
            shape.tables.push(described);
            noted.push(of.noted);
        }
        for (name, before) in &self.sequences {
            let after = sequence(connection, name).map_err(cannot)?;
            if after != *before {
                shape.sequences.push(Sequence { name: name.clone(), before: *before, after });
            }
        }
        shape.added_columns.clone_from(&self.added);
        Ok((shape, noted))
    }

    /// Writes the receipts of a batch and completes it in the history; gives what people should know of it. What refers to a table is given together with
    /// its name, as far as no foreign key says it.
    pub(super) async fn seal(
        &self,
        connection: &mut Connection,
        record: &mut BatchRecord,
        references: &[(String, ShapeReference)],
        objects: Option<Shape>,
    ) -> Result<Option<Notice>> {
        self.stop(connection).map_err(cannot)?;
        let (mut shape, noted) = self.shape(connection, references)?;
        if let Some(objects) = objects {
            shape.added_columns.extend(objects.added_columns);
        }
        let mut database = SqliteUndo { connection: &mut *connection };
        let (file, written, changes) = collect(&mut database, &shape, &noted, kind).await?;
        record.details.tables = changes;
        record.details.receipts =
            Some(store_receipts(connection, record.batch_id, file, &written)?);
        record.complete();
        fault::point("history: before the end")?;
        let notice = put(connection, record)?;
        fault::point("history: after the end")?;
        Ok(notice)
    }
}

/// Notes what is done to a table that is there.
fn note(connection: &Connection, n: usize, table: &SqliteTable) -> rusqlite::Result<Noted> {
    let name = quoted(&table.name);
    let any = format!("SELECT EXISTS (SELECT 1 FROM main.{name})");
    if !connection.query_row(&any, [], |row| row.get(0))? {
        return Ok(Noted { number: n, was_empty: true, ..Noted::default() });
    }
    let shape = shape_of(table);
    let place = place_of(&shape);
    let of = |row: &str| -> Vec<String> {
        place.iter().map(|name| format!("{row}.{}", quoted(name))).collect()
    };
    let columns: Vec<String> =
        shape.columns.iter().map(|c| format!("old.{}", quoted(&c.name))).collect();
    let (inserted, before) = (inserted_name(n), before_name(n));
    let identity: Vec<String> = (0..place.len()).map(|n| format!("i{n}")).collect();
    let identity = identity.join(", ");
    let (identity, unique) = match table.has_rowid {
        true => ("i0 INTEGER PRIMARY KEY".to_owned(), String::new()),
        false => (identity.clone(), format!(", UNIQUE ({identity})")),
    };
    let was: Vec<String> = (0..columns.len()).map(|n| format!("w{n}")).collect();
    let same: Vec<String> =
        (of("old").iter().enumerate()).map(|(n, place)| format!("i{n} = {place}")).collect();
    let moved: Vec<String> =
        of("old").iter().zip(of("new")).map(|(old, new)| format!("{old} IS NOT {new}")).collect();
    let keep = format!(
        "INSERT OR IGNORE INTO {before} SELECT {}, {} WHERE NOT EXISTS \
         (SELECT 1 FROM {inserted} WHERE {});",
        of("old").join(", "),
        columns.join(", "),
        same.join(" AND ")
    );
    let new = of("new").join(", ");
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE {inserted} ({identity}{unique}); \
         CREATE TEMP TABLE {before} ({identity}, {}{unique}); \
         CREATE TEMP TRIGGER undo_insert_{n} AFTER INSERT ON main.{name} BEGIN \
             INSERT OR IGNORE INTO {inserted} VALUES ({new}); END; \
         CREATE TEMP TRIGGER undo_update_{n} AFTER UPDATE ON main.{name} BEGIN {keep} \
             INSERT OR IGNORE INTO {inserted} SELECT {new} WHERE {}; END; \
         CREATE TEMP TRIGGER undo_delete_{n} AFTER DELETE ON main.{name} BEGIN {keep} END;",
        was.join(", "),
        moved.join(" OR ")
    ))?;
    Ok(Noted { number: n, was_empty: false, inserted: true, before: Some(columns.len()) })
}

/// A table as receipts describe it.
pub(super) fn shape_of(table: &SqliteTable) -> ShapeTable {
    let column =
        |name: &str, ty: &str, rowid| ShapeColumn { name: name.into(), ty: ty.into(), rowid };
    let hidden = table.rowid().filter(|_| table.rowid_alias().is_none());
    let mut columns: Vec<ShapeColumn> =
        hidden.map(|name| column(name, "", true)).into_iter().collect();
    columns.extend(table.stored().map(|c| column(&c.name, &c.declared, false)));
    let find =
        |name: &str| columns.iter().position(|c| !c.rowid && c.name.eq_ignore_ascii_case(name));
    let names = |names: Vec<&str>| names.into_iter().map(find).collect::<Option<Vec<usize>>>();
    let unique =
        table.unique.iter().map(|u| u.columns.iter().map(|(name, _)| name.as_str()).collect());
    let key =
        std::iter::once(table.primary_key()).chain(unique).find(|key: &Vec<&str>| !key.is_empty());
    let key = key.and_then(names).unwrap_or_default();
    ShapeTable {
        schema: None,
        name: table.name.clone(),
        columns,
        key,
        referred: Vec::new(),
        entry_key: Vec::new(),
        own: false,
    }
}

/// The columns that address a row: the rowid, under whatever name, else the primary key.
fn place_of(table: &ShapeTable) -> Vec<String> {
    match table.columns.iter().find(|c| c.rowid) {
        Some(rowid) => vec![rowid.name.clone()],
        None => table.key.iter().map(|k| table.columns[*k].name.clone()).collect(),
    }
}

/// The foreign keys of all tables to one.
fn referred(all: &[SqliteTable], table: &SqliteTable) -> Vec<ShapeReference> {
    let of = |child: &SqliteTable| {
        let references = child.references_to(table).into_iter();
        let reference =
            |(columns, to)| ShapeReference { schema: None, table: child.name.clone(), columns, to };
        references.map(reference).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// The number that SQLite gave last in an AUTOINCREMENT table.
pub(super) fn sequence(connection: &Connection, table: &str) -> rusqlite::Result<Option<i64>> {
    if !connection.table_exists(Some("main"), "sqlite_sequence")? {
        return Ok(None);
    }
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?";
    connection.query_row(sql, [table], |row| row.get(0)).optional().map(Option::flatten)
}

/// A connection in the transaction of a batch.
pub(super) struct SqliteUndo<'c> {
    pub(super) connection: &'c mut Connection,
}

impl SqliteUndo<'_> {
    fn run_now(&self, what: &str, sql: &str) -> Result<u64> {
        let written = self.connection.prepare(sql).and_then(|mut s| s.execute([]));
        written.map(|rows| rows as u64).map_err(|e| {
            let unique = [
                ffi::SQLITE_CONSTRAINT_UNIQUE,
                ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
                ffi::SQLITE_CONSTRAINT_ROWID,
            ];
            let taken = unique.contains(&extended_code(&e));
            let error = failed(Code::Target, what, e);
            if taken { in_the_way(Code::Conflict, error) } else { error }
        })
    }

    fn unique_now(&self, table: &ShapeTable) -> rusqlite::Result<Vec<UniqueColumns>> {
        let all = read_every_table(self.connection)?;
        let found = all.into_iter().find(|t| t.name == table.name);
        let collated = |(name, collation): (String, String)| {
            (name, format!(" COLLATE {}", quoted(&collation)))
        };
        let columns = |unique: UniqueKey| unique.columns.into_iter().map(collated).collect();
        Ok(found.map_or_else(Vec::new, |t| t.unique.into_iter().map(columns).collect()))
    }

    fn rows_now(&self, sql: &str) -> rusqlite::Result<Vec<Vec<Option<String>>>> {
        let mut statement = self.connection.prepare(sql)?;
        let width = statement.column_count();
        let text = |row: &rusqlite::Row<'_>, n: usize| {
            Ok(match from_sqlite(row.get_ref(n)?) {
                Value::Null => None,
                Value::Int(number) => Some(number.to_string()),
                Value::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                other => Some(chronicle_archive::show(other)),
            })
        };
        let rows = statement.query_map([], |row| (0..width).map(|n| text(row, n)).collect())?;
        rows.collect()
    }

    fn select_now(&self, what: &str, sql: &str, texts: usize, each: EachRow<'_>) -> Result<()> {
        let cannot = |e| failed(Code::Target, what, e);
        let mut statement = self.connection.prepare(sql).map_err(cannot)?;
        let mut rows = statement.query([]).map_err(cannot)?;
        let mut batch = Batch::default();
        while let Some(row) = rows.next().map_err(cannot)? {
            batch.start(0, texts + 1, 1);
            for n in 0..=texts {
                batch.push(from_sqlite(row.get_ref(n).map_err(cannot)?));
            }
            each(&batch, 0)?;
        }
        Ok(())
    }

    fn insert_now(&self, name: &str, rows: &Batch) -> rusqlite::Result<()> {
        let width = rows.cells() / rows.rows().max(1);
        let sql = format!("INSERT INTO temp.{name} VALUES ({})", vec!["?"; width].join(", "));
        let mut insert = self.connection.prepare_cached(&sql)?;
        for row in 0..rows.rows() {
            let values = (0..width).map(|n| to_sqlite(rows.value(row, n)));
            insert.execute(rusqlite::params_from_iter(values))?;
        }
        Ok(())
    }

    fn columns_now(&self, table: &ShapeTable) -> rusqlite::Result<NamesAndTypes> {
        let all = read_every_table(self.connection)?;
        let found = all.iter().find(|t| t.name == table.name);
        Ok(found
            .map(|table| table.stored().map(|c| (c.name.clone(), c.declared.clone())).collect()))
    }
}

impl UndoSql for SqliteUndo<'_> {
    fn full(&self, _: Option<&str>, table: &str) -> String {
        format!("main.{}", quoted(table))
    }

    fn place(&self, table: &ShapeTable, alias: &str) -> Vec<String> {
        place_of(table).iter().map(|name| format!("{alias}.{}", quoted(name))).collect()
    }

    fn identity(&self, table: &ShapeTable, alias: &str) -> Vec<String> {
        self.place(table, alias)
    }

    fn key_text(&self, columns: &[String], alias: &str) -> String {
        let columns: Vec<String> = columns.iter().map(|name| format!("{alias}.{name}")).collect();
        key_text(&columns)
    }

    fn text(&self, value: &str) -> String {
        value.to_owned()
    }

    fn null(&self, _: &str) -> String {
        "NULL".into()
    }

    fn fingerprint(&self, values: &[String]) -> String {
        fingerprint_of(values)
    }

    fn cast(&self, value: &str, _: &str) -> String {
        value.to_owned()
    }

    fn overriding(&self) -> &'static str {
        ""
    }

    fn replaces(&self) -> bool {
        true
    }

    fn columns<'a>(&'a mut self, table: &'a ShapeTable) -> BoxFuture<'a, Result<NamesAndTypes>> {
        let found = self.columns_now(table);
        let found = found.map_err(|e| failed(Code::Target, "cannot read the tables", e));
        Box::pin(async { found })
    }

    fn unique<'a>(
        &'a mut self,
        table: &'a ShapeTable,
    ) -> BoxFuture<'a, Result<Vec<UniqueColumns>>> {
        let found = self.unique_now(table);
        let found = found.map_err(|e| failed(Code::Target, "cannot read the tables", e));
        Box::pin(async { found })
    }

    fn stage<'a>(
        &'a mut self,
        name: &'a str,
        numbers: &'a [&'a str],
        values: &'a [String],
    ) -> BoxFuture<'a, Result<()>> {
        let columns = numbers.iter().copied().chain(values.iter().map(String::as_str));
        let key = |name: &str| if name == "n" { " INTEGER PRIMARY KEY" } else { "" };
        let columns: Vec<String> =
            columns.map(|name| format!("{}{}", quoted(name), key(name))).collect();
        let sql = format!("CREATE TEMP TABLE {name} ({})", columns.join(", "));
        let staged = self.run_now("cannot stage the receipts", &sql).map(|_| ());
        Box::pin(async { staged })
    }

    fn index<'a>(&'a mut self, name: &'a str, columns: &'a str) -> BoxFuture<'a, Result<()>> {
        let sql = format!("CREATE INDEX temp.{name}_index ON {name} ({columns})");
        let done = self.run_now("cannot look for the rows of the batch", &sql).map(|_| ());
        Box::pin(async { done })
    }

    fn insert<'a>(&'a mut self, name: &'a str, rows: &'a Batch) -> BoxFuture<'a, Result<()>> {
        let inserted = self.insert_now(name, rows);
        let inserted = inserted.map_err(|e| failed(Code::Target, "cannot stage the receipts", e));
        Box::pin(async { inserted })
    }

    fn select<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
        texts: usize,
        each: EachRow<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        let done = self.select_now(what, sql, texts, each);
        Box::pin(async { done })
    }

    fn run<'a>(&'a mut self, what: &'a str, sql: &'a str) -> BoxFuture<'a, Result<u64>> {
        let done = self.run_now(what, sql);
        Box::pin(async { done })
    }

    fn rows<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>>> {
        let rows = self.rows_now(sql).map_err(|e| failed(Code::Target, what, e));
        Box::pin(async { rows })
    }

    // triggers note it
    fn about_to_change<'a>(
        &'a mut self,
        _: &'a ShapeTable,
        _: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn has_inserted<'a>(&'a mut self, _: &'a ShapeTable, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// SQL that gives an AUTOINCREMENT table the number back that it gave last.
pub(super) fn set_sequence(table: &str, number: Option<i64>) -> String {
    let table = literal(table);
    match number {
        None => format!("DELETE FROM sqlite_sequence WHERE name = {table}"),
        Some(number) => format!("UPDATE sqlite_sequence SET seq = {number} WHERE name = {table}"),
    }
}
