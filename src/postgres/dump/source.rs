//! A dump as a source: the rows that were read out of it, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;

use super::found::Found;
use super::restoring::recipe;
use super::row_text::RowText;
use super::stored::{StoredRow, StoredRows, StoredRowsInOrder};
use super::walk::Content;
use crate::error::Result;
use crate::identity::{key_text, show_id};
use crate::layout::LayoutStream;
use crate::notice::Notice;
use crate::postgres::catalog::{PgCatalog, may_be_ours, others};
use crate::postgres::source::{computed, describe};
use crate::sidecar::{Recipe, UNMAPPED_PREFIX, unmapped, with_sidecar};
use crate::source::{ORPHANS_NAMED, Orphans, Reading, Source, SourceOptions};
use crate::spill::Spill;
use crate::value_bytes;
use chronicle_archive::{Batch, Origin, Stream, Value};

/// A batch is handed over when it holds this many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// The rows of a dump.
pub struct DumpSource {
    found: Found,
    origin: Origin,
    notices: Vec<Notice>,
    streams: Vec<Stream>,
    /// Where the rows of each stream are.
    tables: Vec<Table>,
    running: Option<Running>,
    next: usize,
    /// What is asked for, if not everything is.
    readings: Option<Vec<Reading>>,
}

/// Where the rows of a stream are.
enum Table {
    /// Rows of a table, and whether their entries are read, too.
    Stored(StoredRows, bool),
    /// Rows without a table: their entries, in the space with this number.
    Unmapped(u32),
}

/// A stream that is being read.
struct Running {
    stream: usize,
    rows: u64,
    from: Rows,
}

enum Rows {
    Stored(StoredRowsInOrder),
    /// The key of the entry that was read last.
    Unmapped(Option<Vec<u8>>),
}

impl DumpSource {
    /// The rows of what a dump holds.
    pub(super) fn new(
        content: Content,
        options: &SourceOptions,
    ) -> Result<(DumpSource, Vec<Option<Recipe>>)> {
        let Content { schema, mut found, server, names } = content;
        let tables = schema.tables(|(schema, table)| may_be_ours(schema, table, &names));
        let tables = tables.into_iter().find(|(place, _)| *place == found.schema);
        let mut tables = tables.map(|(_, tables)| tables).unwrap_or_default();
        tables.retain(|table| !table.view);
        let (foreign_keys, checks) = (Vec::new(), Vec::new());
        let (place, layout) = (found.schema.clone(), found.layout.clone());
        let catalog = PgCatalog { schema: place, layout, tables, foreign_keys, checks };
        let mut notices = others(&catalog);
        let batches = Arc::new(std::mem::take(&mut found.own.batches));
        let (mut streams, mut stored, mut recipes) = (Vec::new(), Vec::new(), Vec::new());
        let mut loads = std::mem::take(&mut found.loads).into_iter();
        for described in &catalog.layout.streams {
            let Some(table) = catalog.table(described) else { continue };
            let Some(load) = loads.next() else { break };
            notices.extend(computed(table));
            let stream = describe(described, table, options.sorted)?;
            let batch = described.batch.as_deref().and_then(|name| stream.column(name));
            let mut rows = StoredRows::new(load.sorter.finish()?, batch, &batches);
            let recipe = match options.as_stored {
                true => None,
                false => {
                    let text = RowText::new(&schema, &load.name, table);
                    recipe(&found.own, described, table, &stream, &mut rows, text)?
                }
            };
            let has_entries = options.as_stored || recipe.is_some();
            if has_entries {
                rows.read_entries(&stream, found.own.space_of(&stream.table));
            }
            streams.push(if has_entries { with_sidecar(stream) } else { stream });
            stored.push(Table::Stored(rows, has_entries));
            recipes.push(recipe);
        }
        let of = found.own.original_columns.iter().map(|column| &column.table);
        let names: BTreeSet<&String> =
            of.filter(|name| name.starts_with(UNMAPPED_PREFIX)).collect();
        for name in names {
            let columns = found.own.original_columns_of(name);
            let Some(unmapped) = unmapped(name, &columns) else { continue };
            if !catalog.layout.streams.iter().any(|s| s.name == unmapped.stored.name) {
                streams.push(unmapped.stored);
                // without entries the number is nobody's
                stored.push(Table::Unmapped(found.own.space_of(name).unwrap_or(u32::MAX)));
                recipes.push(Some(unmapped.recipe));
            }
        }
        let origin = Origin {
            backend: catalog.layout.backend.word().into(),
            layout: Some(catalog.layout.name.clone()),
            schema: Some(catalog.schema.clone()).filter(|_| !options.reproducible),
            server: (server.filter(|_| !options.reproducible))
                .map(|version| format!("PostgreSQL {version}")),
            ..Origin::default()
        };
        let (tables, running, readings) = (stored, None, None);
        let source =
            DumpSource { found, origin, notices, streams, tables, running, next: 0, readings };
        Ok((source, recipes))
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        loop {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => match self.start_next()? {
                    Some(running) => running,
                    None => return Ok(false),
                },
            };
            let width = self.streams[running.stream].columns.len();
            batch.start(running.stream, width, running.rows + 1);
            let mut has_more = true;
            while has_more && batch.size() < BATCH_BYTES {
                has_more = self.push_next(&mut running, batch)?;
            }
            running.rows += batch.rows() as u64;
            if has_more {
                self.running = Some(running);
            }
            if batch.rows() > 0 {
                return Ok(true);
            }
        }
    }

    /// Begins the next stream that is wanted.
    fn start_next(&mut self) -> Result<Option<Running>> {
        let skips = |n: usize| {
            self.readings.as_ref().and_then(|all| all.get(n)).is_some_and(|reading| reading.skip)
        };
        while skips(self.next) {
            self.next += 1;
        }
        let Some(table) = self.tables.get(self.next) else { return Ok(None) };
        let from = match table {
            Table::Stored(rows, _) => Rows::Stored(rows.read()?),
            Table::Unmapped(_) => Rows::Unmapped(None),
        };
        let stream = self.next;
        self.next += 1;
        Ok(Some(Running { stream, rows: 0, from }))
    }

    /// Appends the next row; false if there are no more.
    fn push_next(&self, running: &mut Running, batch: &mut Batch) -> Result<bool> {
        let entries = &self.found.own.entries;
        match (&mut running.from, &self.tables[running.stream]) {
            (Rows::Stored(rows), Table::Stored(_, has_entries)) => {
                let Some(StoredRow { values, entry }) = rows.next_kept(entries)? else {
                    return Ok(false);
                };
                values.iter().for_each(|value| batch.push(*value));
                if *has_entries {
                    batch.push(entry.as_deref().map_or(Value::Null, Value::Text));
                }
                Ok(true)
            }
            (Rows::Unmapped(after), Table::Unmapped(space)) => {
                let Some((key, entry)) = entries.next(*space, after.as_deref())? else {
                    return Ok(false);
                };
                batch.push(Value::Text(&entry));
                *after = Some(key);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The rows that refer to rows which are not in the dump.
    fn orphans(&self) -> Result<Vec<Orphans>> {
        let mut all = Vec::new();
        for described in &self.found.layout.streams {
            for (column, parent) in &described.references {
                all.extend(self.orphans_of(described, column, parent)?);
            }
        }
        Ok(all)
    }

    fn orphans_of(
        &self,
        described: &LayoutStream,
        column: &str,
        parent: &str,
    ) -> Result<Option<Orphans>> {
        let place = |name: &str| self.streams.iter().position(|stream| stream.name == name);
        let (Some(child), Some(parent)) = (place(&described.name), place(parent)) else {
            return Ok(None);
        };
        let described_parent =
            self.found.layout.streams.iter().find(|s| s.name == self.streams[parent].name);
        // a reference of one column says no key of several
        let key = described_parent.and_then(|p| match &p.key[..] {
            [key] => self.streams[parent].column(key),
            _ => None,
        });
        let Some((refers, key)) = self.streams[child].column(column).zip(key) else {
            return Ok(None);
        };
        let (Table::Stored(rows, _), Table::Stored(parents, _)) =
            (&self.tables[child], &self.tables[parent])
        else {
            return Ok(None);
        };
        let (mut keys, mut name) = (Spill::new()?, Vec::new());
        let mut parents = parents.read()?;
        while let Some(row) = parents.next_kept(&self.found.own.entries)? {
            name.clear();
            value_bytes::push(&mut name, row.values[key]);
            keys.put(0, &name, &[])?;
        }
        let (mut count, mut samples) = (0, Vec::new());
        let mut rows = rows.read()?;
        while let Some(values) = rows.next_row()? {
            name.clear();
            value_bytes::push(&mut name, values[refers]);
            if values[refers] == Value::Null || keys.get(0, &name)?.is_some() {
                continue;
            }
            count += 1;
            if samples.len() < ORPHANS_NAMED {
                let own = self.streams[child].key.iter().map(|n| values[*n]);
                samples.push((key_text(own), show_id(values[refers])));
            }
        }
        let (stream, column) = (described.name.clone(), column.to_owned());
        Ok((count > 0).then_some(Orphans { stream, column, rows: count, samples }))
    }
}

impl Source for DumpSource {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    fn expected_rows(&self) -> u64 {
        let rows = self.tables.iter().map(|table| match table {
            Table::Stored(stored, _) => stored.count(),
            Table::Unmapped(_) => 0,
        });
        rows.sum()
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { self.fill(batch) })
    }

    fn filters(&self) -> Option<BTreeMap<String, String>> {
        None
    }

    fn begin(&mut self, readings: Vec<Reading>) -> BoxFuture<'_, Result<()>> {
        (self.running, self.next, self.readings) = (None, 0, Some(readings));
        Box::pin(async { Ok(()) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>> {
        Box::pin(async move {
            // of some rows whoever has selected them knows
            if self.readings.is_some() { Ok(Vec::new()) } else { self.orphans() }
        })
    }
}
