//! What a batch changes, noted while rows come, and its receipts at the end: so that it can be taken back exactly.

use super::PgTarget;
use super::loading::PgLoading;
use crate::catalog::{CatalogColumn, CatalogTable, Reference};
use crate::error::Result;
use crate::fault;
use crate::history::{BatchRecord, TableChanges};
use crate::load::add_changes;
use crate::notice::Notice;
use crate::plan::{StreamPlan, TablePlan};
use crate::postgres::own_tables::OwnTables;
use crate::postgres::receipts::write_receipts;
use crate::postgres::undo::PgUndo;
use crate::postgres::{literal, noted};
use crate::undo::{AddedColumn, Noted, Sequence, Shape, ShapeReference, ShapeTable, inserted_name};

/// The tables as they were when the batch began, and what it has done to them beside rows.
pub(super) struct Touched {
    /// The tables of the catalog, parents first, then our own if they were there.
    tables: Vec<TouchedTable>,
    sequences: Vec<Sequence>,
    added: Vec<AddedColumn>,
}

struct TouchedTable {
    shape: ShapeTable,
    /// Whether it had no rows: then all that it has at the end are new, and nothing is noted.
    was_empty: bool,
}

/// A table whose changes are noted.
pub(super) struct Note<'a> {
    n: usize,
    table: &'a ShapeTable,
}

impl Note<'_> {
    /// SQL for what tells rows apart.
    pub(super) fn ids(&self, alias: &str) -> Vec<String> {
        noted::identity(self.table, alias)
    }

    /// The names of the columns in which that is noted.
    pub(super) fn names(&self) -> Vec<String> {
        noted::numbered(self.table)
    }

    /// SQL that makes the tables of notes, if there are none.
    pub(super) fn create(&self) -> String {
        noted::create_notes(self.n, self.table)
    }

    /// SQL that notes rows `t` before they change; `from` follows the columns and ends in a condition.
    pub(super) fn before(&self, from: &str) -> String {
        noted::note_before(self.n, self.table, from)
    }

    /// SQL that notes new rows, whose identities are the columns of a query, unless they are noted.
    pub(super) fn inserted(&self, from: &str) -> String {
        noted::note_inserted(self.n, self.table, from)
    }

    /// SQL that notes rows that are certainly new.
    pub(super) fn new_rows(&self, from: &str) -> String {
        let names = self.names().join(", ");
        format!("INSERT INTO pg_temp.{} SELECT {names} FROM {from}", inserted_name(self.n))
    }

    /// Whether rows get another identity by a change of these columns.
    pub(super) fn moves(&self, columns: &[&str]) -> bool {
        let key = &self.table.key;
        key.is_empty()
            || key.iter().any(|k| columns.contains(&self.table.columns[*k].name.as_str()))
    }
}

impl PgTarget {
    /// Looks at the tables when a batch begins whose changes are noted; they are locked.
    pub(super) async fn start_receipts(&mut self) -> Result<()> {
        if self.touched.is_some() || !self.receipts {
            return Ok(());
        }
        let (schema, mut tables) = (&self.found.schema, Vec::new());
        for table in &self.catalog.tables {
            let shape = noted::shape_table(&self.connection, schema, &table.name, false).await?;
            if let Some(shape) = shape {
                // what others bring meanwhile is noted by them
                let was_empty = !self.side_by_side && self.is_empty(&table.name).await?;
                tables.push(TouchedTable { shape, was_empty });
            }
        }
        let shapes: Vec<ShapeTable> = tables.iter().map(|t| t.shape.clone()).collect();
        let sequences = noted::sequences(&self.connection, &shapes).await?;
        let own = self.own_tables().await?.map(|own| own.placed);
        for table in own.iter().flat_map(|own| own.names.map(|name| (&own.schema, name))) {
            let shape = noted::shape_table(&self.connection, table.0, table.1, true).await?;
            tables.extend(shape.map(|shape| TouchedTable { shape, was_empty: false }));
        }
        self.touched = Some(Touched { tables, sequences, added: Vec::new() });
        Ok(())
    }

    /// How changes of a table are noted, if they are.
    pub(super) fn note(&self, table: &str) -> Option<Note<'_>> {
        let tables = &self.touched.as_ref()?.tables;
        let n = tables.iter().position(|t| !t.shape.own && t.shape.name == table)?;
        (!tables[n].was_empty).then(|| Note { n, table: &tables[n].shape })
    }

    /// How changes of one of our own tables are noted, if they are: not those of a table that this batch has created.
    pub(super) fn note_own(&self, own: &OwnTables, table: usize) -> Option<Note<'_>> {
        let touched = self.touched.as_ref()?;
        let (schema, name) = (Some(&own.placed.schema), own.placed.names[table]);
        let is_it = |t: &TouchedTable| {
            t.shape.own && t.shape.schema.as_ref() == schema && t.shape.name == name
        };
        let n = touched.tables.iter().position(is_it)?;
        Some(Note { n, table: &touched.tables[n].shape })
    }

    /// Notes rows `t` of one of our own tables before they change or go.
    pub(super) async fn note_entries(
        &self,
        own: &OwnTables,
        table: usize,
        condition: &str,
    ) -> Result<()> {
        let Some(note) = self.note_own(own, table) else { return Ok(()) };
        let from = format!("FROM {} t WHERE {condition}", own.placed.full(table));
        let sql = note.create() + &note.before(&from);
        self.run("cannot note the entries that change", &sql).await
    }

    /// Notes the rows of one of our own tables that are about to be there: those that a query names by the name of their
    /// table and their key.
    pub(super) async fn note_new_entries(
        &self,
        own: &OwnTables,
        table: usize,
        keys: &str,
    ) -> Result<()> {
        let column = ["key", "name"][table];
        let condition =
            format!("{} AND (t.table_name, t.{column}) IN ({keys})", own.of_schema("t"));
        self.note_entries(own, table, &condition).await?;
        let Some(note) = self.note_own(own, table) else { return Ok(()) };
        let from = format!(
            "(SELECT DISTINCT {}::text AS i0, k.table_name AS i1, k.key AS i2 \
               FROM ({keys}) AS k (table_name, key))",
            own.schema_name()
        );
        self.run("cannot note the entries that are new", &note.inserted(&from)).await
    }

    /// Notes a column that this batch has added.
    pub(super) fn note_column(&mut self, table: &str, column: &CatalogColumn, ty: &str) {
        let schema = Some(self.found.schema.clone());
        if let Some(touched) = &mut self.touched {
            let (table, column) = (table.to_owned(), column.physical.clone());
            let ty = ty.to_owned();
            touched.added.push(AddedColumn { schema, table, column, ty, dropped: false });
        }
    }

    /// The tables that have changed, as they are now, with what was noted of each.
    async fn changed_tables(
        &self,
        touched: &Touched,
        in_groups: bool,
    ) -> Result<(Vec<ShapeTable>, Vec<Noted>)> {
        let (mut tables, mut all) = (Vec::new(), Vec::new());
        for (n, table) in touched.tables.iter().enumerate() {
            let noted = self.noted(n, table).await?;
            let now = if noted::any(&noted) { self.now(&table.shape).await? } else { None };
            if let Some(mut now) = now {
                // of several groups, one may have deleted an entry with the key of one that is new
                if noted.was_empty && !now.own && !in_groups {
                    now.entry_key = self.entry_key(&now.name);
                }
                tables.push(now);
                all.push(noted);
            }
        }
        // what was created by this batch is new as a whole
        let own = self.own_tables().await?.filter(|own| self.note_own(own, 0).is_none());
        for name in own.iter().flat_map(|own| own.placed.names) {
            let schema = own.as_ref().map_or("", |own| &own.placed.schema);
            let shape = noted::shape_table(&self.connection, schema, name, true).await?;
            if let Some(shape) = shape
                && !noted::has_none(&self.connection, &noted::full(&shape)).await?
            {
                tables.push(shape);
                all.push(Noted { was_empty: true, ..Noted::default() });
            }
        }
        Ok((tables, all))
    }

    /// The columns whose text names a row of a table in the sidecar table.
    fn entry_key(&self, table: &str) -> Vec<String> {
        let table = self.catalog.tables.iter().find(|t| t.name == table);
        let key = |t: &CatalogTable| t.key.iter().map(|k| t.columns[*k].physical.clone()).collect();
        table.map_or_else(Vec::new, key)
    }

    /// What is noted of a table; the default if it has not changed.
    async fn noted(&self, n: usize, table: &TouchedTable) -> Result<Noted> {
        if table.was_empty {
            let was_empty = !noted::has_none(&self.connection, &noted::full(&table.shape)).await?;
            return Ok(Noted { was_empty, ..Noted::default() });
        }
        noted::what_is_noted(&self.connection, n, table.shape.columns.len()).await
    }

    /// A table as it is now, with all that refers to it.
    async fn now(&self, before: &ShapeTable) -> Result<Option<ShapeTable>> {
        let schema = before.schema.as_deref().unwrap_or_default();
        let now = noted::shape_table(&self.connection, schema, &before.name, before.own).await?;
        let Some(now) = now else { return Ok(None) };
        let mut now = ShapeTable { key: before.key.clone(), ..now };
        now.referred = noted::referring(&self.connection, &noted::full(&now)).await?;
        for reference in self.layout_references(&now) {
            if !now.referred.contains(&reference) {
                now.referred.push(reference);
            }
        }
        Ok(Some(now))
    }

    /// The references to a table that the layout knows, whether or not the server does.
    fn layout_references(&self, table: &ShapeTable) -> Vec<ShapeReference> {
        let number = self.catalog.tables.iter().position(|t| t.name == table.name && !table.own);
        let Some(number) = number else { return Vec::new() };
        let names = |of: &CatalogTable, columns: &[usize]| -> Vec<String> {
            columns.iter().map(|c| of.columns[*c].physical.clone()).collect()
        };
        let of = |child: &CatalogTable, reference: &Reference| ShapeReference {
            schema: table.schema.clone(),
            table: child.name.clone(),
            columns: names(child, &reference.columns),
            to: names(&self.catalog.tables[number], &reference.parent_columns),
        };
        let all = self.catalog.tables.iter().flat_map(|child| {
            let references = child.references.iter().filter(|r| r.table == number);
            references.map(|reference| of(child, reference)).collect::<Vec<_>>()
        });
        all.filter(|reference| self.comparable(reference, table)).collect()
    }

    /// Whether the server can compare the columns of a reference, which need not have the same type.
    fn comparable(&self, reference: &ShapeReference, parent: &ShapeTable) -> bool {
        let find = |columns: &[(String, String)], name: &String| -> Option<String> {
            columns.iter().find(|(n, _)| n == name).map(|(_, ty)| family(ty).to_owned())
        };
        let child = self.found.tables.iter().find(|t| t.name == reference.table);
        let Some(child) = child else { return false };
        let own: Vec<(String, String)> =
            child.columns.iter().map(|c| (c.name.clone(), c.full_type.clone())).collect();
        let others: Vec<(String, String)> =
            parent.columns.iter().map(|c| (c.name.clone(), c.ty.clone())).collect();
        (reference.columns.iter().zip(&reference.to))
            .all(|(from, to)| find(&own, from).is_some_and(|ty| Some(ty) == find(&others, to)))
    }

    /// The sequences that have moved, or will when the batch is committed.
    async fn moved_sequences(&self, touched: &Touched) -> Result<Vec<Sequence>> {
        let shapes: Vec<ShapeTable> =
            (touched.tables.iter()).filter(|t| !t.shape.own).map(|t| t.shape.clone()).collect();
        let moves = self.moves.as_deref().unwrap_or_default();
        let mut moved = Vec::new();
        for now in noted::sequences(&self.connection, &shapes).await? {
            let Some(was) = touched.sequences.iter().find(|s| s.name == now.name) else { continue };
            let edge = moves.iter().find(|(name, _)| *name == now.name).map(|(_, edge)| *edge);
            let after = edge.or(now.after);
            if after != was.before {
                moved.push(Sequence { name: now.name, before: was.before, after });
            }
        }
        Ok(moved)
    }
}

/// The types that a type can be compared with.
fn family(ty: &str) -> &str {
    match ty.split('(').next().unwrap_or(ty) {
        "character varying" => "text",
        "smallint" | "integer" => "bigint",
        other => other,
    }
}

impl PgLoading {
    /// Notes the rows of a table that had no row when they came, but had some when the batch began.
    pub(super) async fn note_all_new(&self, stream: &TablePlan) -> Result<()> {
        let Some(note) = self.db.note(&stream.table_name) else { return Ok(()) };
        let full = self.db.found.full_name(&stream.table_name);
        let ids: Vec<String> = note
            .ids("t")
            .iter()
            .zip(note.names())
            .map(|(id, name)| format!("{id} AS {name}"))
            .collect();
        let from = format!("(SELECT {} FROM {full} t) AS n", ids.join(", "));
        self.db.run("cannot note the new rows", &(note.create() + &note.new_rows(&from))).await
    }

    /// What this archive of the batch and earlier ones have done, as far as they were counted.
    pub(super) fn written(&self) -> Vec<TableChanges> {
        let mut all = self.db.written.clone();
        let streams = self.plan.streams.iter().map(StreamPlan::table_name).zip(&self.loaded);
        add_changes(&mut all, streams);
        all
    }

    /// Writes the receipts of the batch and completes it in the history.
    pub(super) async fn seal_now(&mut self, record: &mut BatchRecord) -> Result<Option<Notice>> {
        let Some(mut batch) = self.db.batch.clone() else { return Ok(None) };
        self.db.moves = Some(match self.db.side_by_side {
            // the last transaction of the batch moves them
            true => Vec::new(),
            false => self.db.sequence_moves().await?,
        });
        match &self.db.touched {
            None => record.seal(self.written(), None),
            Some(touched) => {
                let (tables, noted) =
                    self.db.changed_tables(touched, record.is_in_groups()).await?;
                let sequences = self.db.moved_sequences(touched).await?;
                let added_columns = touched.added.clone();
                let shape = Shape { tables, added_columns, sequences };
                let as_replica = self.db.silenced.as_replica;
                let mut undo = PgUndo::new(&self.db.connection, as_replica, &[]);
                write_receipts(&mut undo, &batch, record, &shape, &noted).await?;
            }
        }
        fault::point("history: before the end")?;
        let notice = batch.seal(&self.db.connection, record).await?;
        self.db.batch = Some(batch);
        fault::point("history: after the end")?;
        Ok(notice)
    }
}

/// A query for the keys of some rows of one of our own tables, as texts of SQL.
pub(super) fn keys_of<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rows: Vec<String> =
        rows.map(|(table, key)| format!("({}, {})", literal(table), literal(key))).collect();
    format!("VALUES {}", rows.join(", "))
}
