//! Chronicle's tables in a dump, and the rows of them and of our own tables, as they are collected.

use std::collections::{BTreeSet, HashSet};

use super::order::Order;
use super::schema::{FullName, Schema};
use super::values::{self, CopyLine, Form, form};
use super::walk::Wanted;
use crate::error::{Code, Error, Result};
use crate::layout::{Layout, LayoutStream};
use crate::postgres::catalog::{PgTable, choose, may_be_ours};
use crate::postgres::history::HISTORY_TABLES;
use crate::postgres::own_tables::{Pair, SCHEMA, SIDECAR_TABLES};
use crate::postgres::source::describe;
use crate::sidecar::{OriginalColumn, WHOLE_ROW};
use crate::sorted::Sorter;
use crate::spill::Spill;
use crate::value_bytes;
use chronicle_archive::show_text;

/// The tables of one database, and what has come of their rows.
pub(super) struct Found {
    /// The schema that they are in.
    pub(super) schema: String,
    /// Their layout.
    pub(super) layout: Layout,
    /// What is read of the tables of the layout, in the order of its streams.
    pub(super) loads: Vec<Load>,
    /// What is read of our own tables.
    pub(super) own: OwnRows,
    /// The tables whose rows have come.
    sections: BTreeSet<FullName>,
}

/// The rows of a table of the layout.
pub(super) struct Load {
    /// The table.
    pub(super) name: FullName,
    columns: Vec<String>,
    types: Vec<String>,
    forms: Vec<Form>,
    order: Vec<(usize, Order)>,
    /// The rows.
    pub(super) sorter: Sorter,
    row: Vec<u8>,
    key: Vec<u8>,
    one: Vec<u8>,
}

/// The rows of our own tables.
pub(super) struct OwnRows {
    /// The tables of entries, of original columns and of batches, if the dump has them.
    tables: [Option<FullName>; 3],
    /// The entries of each of `names` by their keys, in a space with the number of the name.
    pub(super) entries: Spill,
    /// The tables that have entries.
    pub(super) names: Vec<String>,
    /// Those of them of which rows were created as a whole.
    pub(super) whole: BTreeSet<String>,
    /// The columns that rows had where they came from.
    pub(super) original_columns: Vec<OriginalColumn>,
    /// The ids of the batches in the history.
    pub(super) batches: HashSet<Vec<u8>>,
}

/// What takes the rows of a section of COPY: the fields that it looks at, in the order in which it needs them.
pub(super) enum Taker {
    /// A table of the layout.
    Load(usize, Vec<usize>),
    /// One of our own tables.
    Own(usize, Vec<usize>),
}

/// The columns that are read of our own tables.
const OWN_COLUMNS: [&[&str]; 3] = [
    &["schema_name", "table_name", "key", "entry"],
    &["schema_name", "table_name", "name", "place", "kind", "time_text"],
    &["batch_id"],
];

/// How the schema of a dump is named.
const NAMING: &str = "name one: --dump-schema NAME";

impl Found {
    /// Looks for Chronicle's tables among those of a database.
    pub(super) fn choose(schema: &Schema, wanted: &Wanted) -> Result<Found> {
        let tables = schema.tables(|(schema, table)| may_be_ours(schema, table, &wanted.names));
        let (place, tables, layout) =
            choose(tables, wanted.schema.as_deref(), wanted.layout.as_ref(), NAMING)?;
        let mut loads = Vec::new();
        for described in &layout.streams {
            let table = tables.iter().find(|t| t.name == described.table);
            if let Some(table) = table {
                let name = (place.clone(), table.name.clone());
                loads.push(Load::new(schema, name, described, table, wanted.sorted)?);
            }
        }
        let own = OwnRows::new(schema, &place)?;
        Ok(Found { schema: place, layout, loads, own, sections: BTreeSet::new() })
    }

    /// What takes the rows of a table with these columns.
    pub(super) fn takers(
        &mut self,
        schema: &Schema,
        table: &FullName,
        columns: &[String],
    ) -> Result<Vec<Taker>> {
        let is_first = self.sections.insert(table.clone());
        let places = |wanted: &[String]| -> Result<Vec<usize>> {
            let place = |name: &String| {
                columns.iter().position(|column| column == name).ok_or_else(|| {
                    let what = format!(
                        "{}: its rows have no column {}",
                        Schema::shown(table),
                        show_text(name)
                    );
                    Error::new(Code::Source, what)
                })
            };
            wanted.iter().map(place).collect()
        };
        let mut takers = Vec::new();
        for name in schema.with_parents(table) {
            if let Some(n) = self.loads.iter().position(|load| load.name == name) {
                takers.push(Taker::Load(n, places(&self.loads[n].columns)?));
            }
        }
        if let Some(n) = self.own.tables.iter().position(|own| own.as_ref() == Some(table)) {
            let columns: Vec<String> = OWN_COLUMNS[n].iter().map(|c| (*c).to_owned()).collect();
            takers.push(Taker::Own(n, places(&columns)?));
        }
        // with --load-via-partition-root each partition brings rows of the same table
        if !is_first && !takers.is_empty() && !schema.is_partitioned(table) {
            let what = format!("the dump has the rows of {} twice", Schema::shown(table));
            return Err(Error::new(Code::Source, what).hint("give one dump of the database"));
        }
        Ok(takers)
    }

    /// Takes a row.
    pub(super) fn take(&mut self, taker: &Taker, line: &CopyLine) -> Result<()> {
        match taker {
            Taker::Load(n, places) => self.loads[*n].push(line, places),
            Taker::Own(n, places) => self.own.push(*n, line, places, &self.schema),
        }
    }

    /// Requires that the rows of every table have come.
    pub(super) fn require_rows(&self, schema: &Schema) -> Result<()> {
        let tables = self.loads.iter().map(|load| &load.name);
        for table in tables.chain(self.own.tables.iter().flatten()) {
            let has_come = |part: &FullName| {
                let of = schema.ways_in(part);
                of.iter().any(|table| self.sections.contains(table))
            };
            let missing = schema.parts(table).into_iter().find(|part| !has_come(part));
            if let Some(missing) = missing {
                let what = format!(
                    "the dump has the table {}, but not its rows, as with --schema-only and \
                     --exclude-table-data",
                    Schema::shown(&missing)
                );
                return Err(Error::new(Code::Source, what).hint(
                    "dump the database with its rows; if they are in a file of their own, read both: \
                     cat schema.sql data.sql | chronicle-dump export --from-dump -",
                ));
            }
        }
        Ok(())
    }
}

impl Load {
    fn new(
        schema: &Schema,
        name: FullName,
        described: &LayoutStream,
        table: &PgTable,
        sorted: bool,
    ) -> Result<Load> {
        let dumped = schema.table(&name).map_or(&[][..], |table| &table.columns);
        let (mut forms, mut types, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for column in &table.columns {
            let found = dumped.iter().find(|c| c.column.name == column.name);
            let Some((form, found)) = found.and_then(|c| Some((form(schema, c)?, c))) else {
                let what = format!(
                    "{}.{} is of the type {}, whose text depends on the session that wrote the dump",
                    table.name, column.name, column.declared
                );
                return Err(Error::new(Code::Source, show_text(&what)).hint(super::LIVE));
            };
            forms.push(form);
            types.push(column.declared.clone());
            all.push(found);
        }
        let mut order = Vec::new();
        for n in describe(described, table, sorted)?.order {
            let Some(by) = Order::of(schema, all[n]) else {
                let what = format!(
                    "{} is sorted by {}, of which only a server knows the order",
                    table.name, table.columns[n].name
                );
                let hint = format!(
                    "--unsorted keeps the rows in the order of the dump; or {}",
                    super::LIVE
                );
                return Err(Error::new(Code::Source, show_text(&what)).hint(hint));
            };
            order.push((n, by));
        }
        let columns = table.columns.iter().map(|c| c.name.clone()).collect();
        let (row, key, one) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Load { name, columns, types, forms, order, sorter: Sorter::default(), row, key, one })
    }

    fn push(&mut self, line: &CopyLine, places: &[usize]) -> Result<()> {
        self.row.clear();
        self.row.shrink_to(8 << 20);
        for (n, (form, place)) in self.forms.iter().zip(places).enumerate() {
            if !values::push(&mut self.row, *form, line.field(*place)) {
                return Err(self.no_value(n));
            }
        }
        self.key.clear();
        for (n, order) in &self.order {
            self.one.clear();
            values::push(&mut self.one, self.forms[*n], line.field(places[*n]));
            let value = value_bytes::read(&self.one);
            if !value.first().is_some_and(|value| order.push(&mut self.key, *value)) {
                return Err(self.no_value(*n));
            }
        }
        self.sorter.push(&self.key, &self.row)
    }

    fn no_value(&self, n: usize) -> Error {
        let what = format!("{}.{}: not a value of {}", self.name.1, self.columns[n], self.types[n]);
        Error::new(Code::Source, show_text(&what))
    }
}

impl OwnRows {
    /// Where our own tables are: both of a pair next to the data, else both in our own schema.
    fn new(schema: &Schema, place: &str) -> Result<OwnRows> {
        let place_of = |pair: &Pair| {
            let all = [(place, pair.beside_data), (SCHEMA, pair.in_schema)];
            let named = all.map(|(schema, names)| names.map(|n| (schema.to_owned(), n.to_owned())));
            named.into_iter().find(|tables| tables.iter().all(|t| schema.table(t).is_some()))
        };
        let [entries, columns] = match place_of(&SIDECAR_TABLES) {
            Some(tables) => tables.map(Some),
            None => [None, None],
        };
        let history = place_of(&HISTORY_TABLES).map(|[history, _]| history);
        Ok(OwnRows {
            tables: [entries, columns, history],
            entries: Spill::new()?,
            names: Vec::new(),
            whole: BTreeSet::new(),
            original_columns: Vec::new(),
            batches: HashSet::new(),
        })
    }

    /// Whether there are tables for what rows cannot hold.
    pub(super) fn has_sidecar(&self) -> bool {
        self.tables[0].is_some()
    }

    fn push(&mut self, n: usize, line: &CopyLine, places: &[usize], schema: &str) -> Result<()> {
        if n == 2 {
            self.batches.extend(line.field(places[0]).map(<[u8]>::to_vec));
            return Ok(());
        }
        if line.field(places[0]) != Some(schema.as_bytes()) {
            return Ok(());
        }
        let texts: Vec<Option<String>> = places.iter().map(|place| line.text(*place)).collect();
        let missing = || Error::new(Code::Source, "a row of our own tables that cannot be read");
        if n == 1 {
            let time_text = texts[5].as_deref().unwrap_or("none");
            let says = |yes: bool| Some(yes.to_string());
            let times = [says(time_text != "none"), says(time_text == "utc")];
            let row = [&texts[1..5], &times[..]].concat();
            let column = OriginalColumn::read(&row).ok_or_else(|| {
                missing().hint("a later version of this program may have written it")
            })?;
            self.original_columns.push(column);
            return Ok(());
        }
        let [_, Some(table), Some(key), Some(entry)] = &texts[..] else { return Err(missing()) };
        let space = self.space(table).unwrap_or(self.names.len());
        if space == self.names.len() {
            self.names.push(table.clone());
        }
        if entry.starts_with(&format!("{{\"{WHOLE_ROW}\"")) {
            self.whole.insert(table.clone());
        }
        let space = u32::try_from(space).map_err(|_| missing())?;
        self.entries.put(space, key.as_bytes(), entry.as_bytes()).map(drop)
    }

    fn space(&self, table: &str) -> Option<usize> {
        self.names.iter().position(|name| name == table)
    }

    /// The number of a table's entries, if it has any.
    pub(super) fn space_of(&self, table: &str) -> Option<u32> {
        self.space(table).and_then(|space| u32::try_from(space).ok())
    }

    /// The columns that the rows of a table had, in their order.
    pub(super) fn original_columns_of(&self, table: &str) -> Vec<OriginalColumn> {
        let of = self.original_columns.iter().filter(|column| column.table == table);
        let mut columns: Vec<OriginalColumn> = of.cloned().collect();
        columns.sort_by_key(|column| column.place);
        columns
    }
}
