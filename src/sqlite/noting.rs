//! Noting what a batch changes in a file, by triggers of our own connection.
//!
//! Temporary triggers belong to the connection alone: the file does not know of them. They see every row that anything
//! here inserts, updates or deletes, whatever it is for.

use rusqlite::{Connection, OptionalExtension};

use super::catalog::{SqliteTable, kind, read_every_table};
use super::history::{put, store_receipts};
use super::undo::SqliteUndo;
use super::{failed, quoted};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchRecord, TableChanges};
use crate::notice::Notice;
use crate::sidecar::{COLUMNS, SIDECAR};
use crate::undo::{
    AddedColumn, DeletedRows, DeletedWriter, Noted, Sequence, Shape, ShapeColumn, ShapeReference,
    ShapeTable, before_name, collect, inserted_name,
};

fn cannot(e: rusqlite::Error) -> Error {
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
    /// How it was when the batch began, if it was there.
    shape: Option<ShapeTable>,
}

/// The rows that a rollback deletes: they are written before, so that no trigger has to note them one by one.
#[derive(Default)]
pub(super) enum Deleted {
    /// There are none.
    #[default]
    None,
    /// They are being written.
    Writing(Box<DeletedWriter>),
    /// They are written.
    Written(Box<DeletedRows>),
}

impl Deleted {
    /// What writes them, table by table of those that were there when the rollback began.
    pub(super) fn writer(&mut self, noting: &Noting) -> Result<&mut DeletedWriter> {
        if matches!(self, Deleted::None) {
            *self = Deleted::Writing(Box::new(DeletedWriter::create(&noting.shapes(), kind)?));
        }
        match self {
            Deleted::Writing(writer) => Ok(writer),
            _ => Err(Error::new(Code::Internal, "rows are deleted already")),
        }
    }

    /// Whether so many rows of each of these tables were written.
    pub(super) fn has(&self, rows: &[u64]) -> bool {
        match self {
            Deleted::Writing(writer) => writer.rows() == rows,
            _ => rows.iter().all(|rows| *rows == 0),
        }
    }
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
            let shape = found.map(shape_of);
            noting.tables.push(NotedTable { name: name.clone(), key: key.clone(), noted, shape });
            noting.note_sequences(connection, [name.as_str()]).map_err(cannot)?;
        }
        Ok(noting)
    }

    /// Notes the numbers that AUTOINCREMENT tables have given last.
    pub(super) fn note_sequences<'a>(
        &mut self,
        connection: &Connection,
        tables: impl IntoIterator<Item = &'a str>,
    ) -> rusqlite::Result<()> {
        for table in tables {
            if self.sequences.iter().all(|(name, _)| name != table) {
                self.sequences.push((table.to_owned(), sequence(connection, table)?));
            }
        }
        Ok(())
    }

    /// The tables that were there when the batch began.
    pub(super) fn shapes(&self) -> Vec<ShapeTable> {
        self.tables.iter().filter_map(|table| table.shape.clone()).collect()
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
        in_groups: bool,
    ) -> Result<(Shape, Vec<Noted>)> {
        let all = read_every_table(connection).map_err(cannot)?;
        let (mut shape, mut noted) = (Shape::default(), Vec::new());
        for of in &self.tables {
            let Some(table) = all.iter().find(|t| t.name == of.name) else { continue };
            let mut described = shape_of(table);
            described.own = [SIDECAR, COLUMNS].contains(&table.name.as_str());
            described.referred = referred(&all, table);
            // of several groups, one may have deleted an entry with the key of one that is new
            if of.noted.was_empty && !described.own && !in_groups {
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
        deleted: Deleted,
    ) -> Result<Option<Notice>> {
        self.stop(connection).map_err(cannot)?;
        let (mut shape, noted) = self.shape(connection, references, record.is_in_groups())?;
        if let Some(objects) = objects {
            shape.added_columns.extend(objects.added_columns);
        }
        record.note_shapes(shape.fingerprints())?;
        let mut database =
            SqliteUndo { connection: &mut *connection, deletes: None, returning: &[] };
        let (file, written, mut changes) = collect(&mut database, &shape, &noted, kind).await?;
        let deleted = match deleted {
            Deleted::Written(rows) => {
                self.count(&rows.rows, &mut changes);
                Some(*rows)
            }
            _ => None,
        };
        let receipts = store_receipts(connection, record.batch_id, (file, written), deleted)?;
        record.seal(changes, Some(receipts));
        fault::point("history: before the end")?;
        let notice = put(connection, record)?;
        fault::point("history: after the end")?;
        Ok(notice)
    }

    /// The trigger that notes which rows of a table are deleted, if there is one: its name, and the SQL that makes it.
    pub(super) fn deletes(&self, table: &str) -> Option<(String, String)> {
        let noted = self.tables.iter().find(|noted| noted.name == table)?;
        noted.noted.before?;
        let (number, shape) = (noted.noted.number, noted.shape.as_ref()?);
        Some((format!("undo_delete_{number}"), deletes_sql(number, shape)))
    }

    /// Counts deleted rows with what else was done to their tables.
    fn count(&self, rows: &[u64], changes: &mut Vec<TableChanges>) {
        for (table, rows) in self.shapes().into_iter().zip(rows).filter(|(_, rows)| **rows > 0) {
            match changes.iter_mut().find(|change| change.table == table.name) {
                Some(change) => change.deleted += rows,
                None if [SIDECAR, COLUMNS].contains(&table.name.as_str()) => {}
                None => changes.push(TableChanges {
                    table: table.name,
                    deleted: *rows,
                    ..TableChanges::default()
                }),
            }
        }
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
    let (inserted, before) = (inserted_name(n), before_name(n));
    let identity: Vec<String> = (0..place.len()).map(|n| format!("i{n}")).collect();
    let identity = identity.join(", ");
    let (identity, unique) = match table.has_rowid {
        true => ("i0 INTEGER PRIMARY KEY".to_owned(), String::new()),
        false => (identity.clone(), format!(", UNIQUE ({identity})")),
    };
    let was: Vec<String> = (0..shape.columns.len()).map(|n| format!("w{n}")).collect();
    let moved: Vec<String> =
        of("old").iter().zip(of("new")).map(|(old, new)| format!("{old} IS NOT {new}")).collect();
    let (new, keep, deletes) = (of("new").join(", "), keep_sql(n, &shape), deletes_sql(n, &shape));
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE {inserted} ({identity}{unique}); \
         CREATE TEMP TABLE {before} ({identity}, {}{unique}); \
         CREATE TEMP TRIGGER undo_insert_{n} AFTER INSERT ON main.{name} BEGIN \
             INSERT OR IGNORE INTO {inserted} VALUES ({new}); END; \
         CREATE TEMP TRIGGER undo_update_{n} AFTER UPDATE ON main.{name} BEGIN {keep} \
             INSERT OR IGNORE INTO {inserted} SELECT {new} WHERE {}; END; {deletes}",
        was.join(", "),
        moved.join(" OR ")
    ))?;
    Ok(Noted { number: n, was_empty: false, inserted: true, before: Some(shape.columns.len()) })
}

/// SQL of a trigger that notes the row as it was, at most once, unless the batch has inserted it.
fn keep_sql(n: usize, table: &ShapeTable) -> String {
    let place: Vec<String> =
        place_of(table).iter().map(|name| format!("old.{}", quoted(name))).collect();
    let columns: Vec<String> =
        table.columns.iter().map(|c| format!("old.{}", quoted(&c.name))).collect();
    let same: Vec<String> =
        place.iter().enumerate().map(|(n, place)| format!("i{n} = {place}")).collect();
    format!(
        "INSERT OR IGNORE INTO {} SELECT {}, {} WHERE NOT EXISTS \
         (SELECT 1 FROM {} WHERE {});",
        before_name(n),
        place.join(", "),
        columns.join(", "),
        inserted_name(n),
        same.join(" AND ")
    )
}

/// SQL that has rows noted which are deleted.
fn deletes_sql(n: usize, table: &ShapeTable) -> String {
    format!(
        "CREATE TEMP TRIGGER undo_delete_{n} AFTER DELETE ON main.{} BEGIN {} END;",
        quoted(&table.name),
        keep_sql(n, table)
    )
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
pub(super) fn place_of(table: &ShapeTable) -> Vec<String> {
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
