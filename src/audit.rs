//! An archive against a database: whether it has every row as an import would have loaded it.
//!
//! The archive's rows go through the plan and the shaper of an import, and meet the rows of the
//! database as its tables hold them, with their sidecars. So a later change of any
//! value is found, also one that an export would hide or spell differently.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::catalog::{Catalog, CatalogTable};
use crate::diff::{Compared, Side};
use crate::error::Result;
use crate::identity::write_part;
use crate::load::{OnProblem, Target};
use crate::plan::{Plan, StreamPlan, TablePlan, plan};
use crate::policy::OnOrphans;
use crate::policy::PlanOptions;
use crate::sidecar::{SIDECAR, UNMAPPED_PREFIX, with_sidecar, without_defaults};
use crate::source::Source;
use crate::spill::Spill;
use crate::transform::{TargetRows, Transformer, load_existing_keys};
use chronicle_archive::Sealed;
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};

/// The rows of an archive as an import would load them.
pub struct AsLoaded {
    archive_input: ArchiveInput,
    plan: Arc<Plan>,
    transformer: Transformer,
    /// The streams of the plan, and behind them those of duplicates that are stored whole.
    streams: Vec<Stream>,
    /// Of every stream of the plan, the stream of its duplicates.
    duplicates: Vec<Option<usize>>,
    /// Where an import leaves out rows that refer to nothing: what they can refer to.
    parents: Option<Parents>,
    batch: Batch,
    /// The row of the batch that comes next.
    at: usize,
    rows: TargetRows,
    left_out: Vec<u64>,
    sealed: Option<Sealed>,
}

impl AsLoaded {
    /// Plans an import of an archive into a target, of which only the tables and ids are looked at.
    ///
    /// # Errors
    /// If the archive does not fit the target, or the target cannot be read.
    pub async fn new(
        mut archive_input: ArchiveInput,
        target: &mut dyn Target,
        options: PlanOptions,
        cancel: &Cancel,
    ) -> Result<AsLoaded> {
        let catalog = target.catalog();
        archive_input.amend(&options.amendments, catalog)?;
        let plan = Arc::new(plan(
            &archive_input.header.source,
            &archive_input.streams,
            catalog,
            options.clone(),
        )?);
        let parents = match options.orphans {
            Some(OnOrphans::Skip) => Some(Parents::new(catalog)?),
            _ => None,
        };
        let mut streams: Vec<Stream> =
            plan.streams.iter().map(|stream| loaded_stream(stream, catalog)).collect();
        let mut duplicates = vec![None; streams.len()];
        for (number, table) in plan.tables() {
            if let Some(unmapped) = &table.duplicates {
                duplicates[number] = Some(streams.len());
                // its name is not that of the stream which the duplicates came in
                streams.push(exactly(&unmapped.table_name, &unmapped.source));
            }
        }
        let mut transformer = Transformer::new(Arc::clone(&plan), OnProblem::Stop)?;
        cancel.or(load_existing_keys(transformer.keys(), target.keys())).await?;
        Ok(AsLoaded {
            left_out: vec![0; streams.len()],
            archive_input,
            plan,
            transformer,
            streams,
            duplicates,
            parents,
            batch: Batch::default(),
            at: 0,
            rows: TargetRows::default(),
            sealed: None,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The archive, with what is known of it once it was read to its end.
    pub fn archive(&self) -> (&ArchiveInput, Option<&Sealed>) {
        (&self.archive_input, self.sealed.as_ref())
    }

    /// How many rows of each stream an import leaves out.
    pub fn left_out(&self) -> &[u64] {
        &self.left_out
    }

    /// Whether an import leaves out rows that refer to nothing, so that it must be known what is in
    /// the database.
    pub fn needs_parents(&self) -> bool {
        self.parents.is_some()
    }

    /// Notes the keys of the database's rows that others can refer to.
    ///
    /// # Errors
    /// If the database cannot be read, or a stop.
    pub async fn read_parents(
        &mut self,
        mut source: Box<dyn Source>,
        cancel: &Cancel,
    ) -> Result<()> {
        let Some(parents) = &mut self.parents else { return Ok(()) };
        let streams = source.streams().to_vec();
        let mut batch = Batch::default();
        while cancel.or(source.next_batch(&mut batch)).await? {
            let stream = &streams[batch.stream()];
            let Some(table) = parents.table(&stream.table) else { continue };
            let column = |physical: &str| {
                stream.columns.iter().position(|c| c.physical.eq_ignore_ascii_case(physical))
            };
            let sets = parents.sets_of(table, column);
            for row in 0..batch.rows() {
                parents.add(&sets, &batch, row)?;
            }
        }
        Ok(())
    }

    async fn next(&mut self, out: &mut Batch) -> Result<bool> {
        if self.hand_over_duplicates(out) {
            return Ok(true);
        }
        if self.at >= self.batch.rows() {
            if let Some(sealed) = self.archive_input.next(&mut self.batch).await? {
                self.sealed = Some(sealed);
                return Ok(false);
            }
            self.at = 0;
        }
        let first = self.at;
        self.at = self.transformer.transform(&self.batch, first, &mut self.rows)?;
        let taken = self.at - first;
        let (plan, number) = (Arc::clone(&self.plan), self.batch.stream());
        let loaded = match &plan.streams[number] {
            StreamPlan::Table(table) => self.loaded_rows(table, out)?,
            StreamPlan::Unmapped(_) => {
                let whole = std::mem::take(&mut self.rows.whole_rows);
                self.rows_of_archive(number, whole.iter().map(|entry| entry.row), out);
                whole.len()
            }
        };
        self.left_out[number] += (taken - loaded - self.rows.whole_rows.len()) as u64;
        Ok(true)
    }

    /// Hands over rows as their table would hold them, with their sidecars; returns how many.
    fn loaded_rows(&mut self, plan: &TablePlan, out: &mut Batch) -> Result<usize> {
        let rows = &self.rows.rows;
        let mut sidecar = self.rows.sidecar.iter().peekable();
        out.start(self.batch.stream(), plan.columns.len() + 1, self.batch.first_row());
        let mut loaded = 0;
        for row in 0..rows.rows() {
            let stored = sidecar.next_if(|entry| entry.row == row);
            if let Some(parents) = &mut self.parents
                && !parents.admit(plan, rows, row)?
            {
                continue;
            }
            loaded += 1;
            (0..plan.columns.len()).for_each(|n| out.push(rows.value(row, n)));
            // a sidecar is found by the key
            let found = plan.key.iter().all(|k| rows.value(row, *k) != Value::Null);
            out.push(match stored.filter(|_| found) {
                Some(entry) => Value::Text(entry.text.as_bytes()),
                None => Value::Null,
            });
        }
        Ok(loaded)
    }

    /// Hands over the rows of the last batch that are stored whole in the place of duplicates; false
    /// if there are none.
    fn hand_over_duplicates(&mut self, out: &mut Batch) -> bool {
        let (whole, also) = (&mut self.rows.whole_rows, &mut self.rows.also_whole);
        let number = self.duplicates.get(self.batch.stream()).copied().flatten();
        let Some(number) = number.filter(|_| !(whole.is_empty() && also.is_empty())) else {
            return false;
        };
        let mut rows: Vec<usize> = whole.drain(..).map(|entry| entry.row).collect();
        rows.extend(also.drain(..).filter_map(|entry| self.rows.from.get(entry.row)));
        rows.sort_unstable();
        self.rows_of_archive(number, rows.into_iter(), out);
        true
    }

    /// Passes rows of the archive's batch on unchanged.
    fn rows_of_archive(&self, stream: usize, rows: impl Iterator<Item = usize>, out: &mut Batch) {
        let width = self.streams[stream].columns.len();
        out.start(stream, width, self.batch.first_row());
        for row in rows {
            (0..width).for_each(|n| out.push(self.batch.value(row, n)));
        }
    }
}

impl Side for AsLoaded {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn time_zone(&self) -> Option<&str> {
        None
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.next(batch))
    }
}

/// The stream of a plan, named as in the archive, with the columns of the target.
fn loaded_stream(plan: &StreamPlan, catalog: &Catalog) -> Stream {
    let StreamPlan::Table(plan) = plan else { return exactly(plan.name(), plan.source()) };
    let table = &catalog.tables[plan.table];
    let columns = plan.columns.iter().map(|column| Column {
        name: column.name.clone(),
        // a column that the target would get, too
        physical: table.columns.get(column.target).map_or(&column.name, |c| &c.physical).clone(),
        kind: Kind::Text,
        nullable: true,
        time_text: TimeText::None,
    });
    with_sidecar(Stream {
        name: plan.stream.clone(),
        table: plan.table_name.clone(),
        columns: columns.collect(),
        key: plan.key.clone(),
        order: Vec::new(),
    })
}

/// The values that rows can refer to, by the sets of columns that references use.
struct Parents {
    values: Spill,
    tables: Vec<(String, Vec<String>)>,
    /// The table and the columns of each set.
    sets: Vec<(usize, Vec<usize>)>,
    name: Vec<u8>,
}

/// A referenced set of columns, by their positions in a batch.
type Positions = Vec<(u32, Vec<usize>)>;

impl Parents {
    fn new(catalog: &Catalog) -> Result<Parents> {
        let mut sets = Vec::new();
        for reference in catalog.tables.iter().flat_map(|t| &t.references) {
            let set = (reference.table, reference.parent_columns.clone());
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        let columns = |t: &CatalogTable| t.columns.iter().map(|c| c.physical.clone()).collect();
        let tables = catalog.tables.iter().map(|t| (t.name.clone(), columns(t))).collect();
        Ok(Parents { values: Spill::new()?, tables, sets, name: Vec::new() })
    }

    fn table(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|(table, _)| table == name)
    }

    /// The sets of a table, where its columns are in a batch as `position` says of their names.
    fn sets_of(&self, table: usize, position: impl Fn(&str) -> Option<usize>) -> Positions {
        let positions = |(n, (of, columns)): (usize, &(usize, Vec<usize>))| {
            let physical = |c: &usize| position(self.tables[table].1.get(*c)?);
            let found: Option<Vec<usize>> =
                columns.iter().filter(|_| *of == table).map(physical).collect();
            Some((u32::try_from(n).ok()?, found.filter(|_| *of == table)?))
        };
        self.sets.iter().enumerate().filter_map(positions).collect()
    }

    /// Notes the values of a row that others can refer to.
    fn add(&mut self, sets: &Positions, rows: &Batch, row: usize) -> Result<()> {
        for (set, columns) in sets {
            if self.write_name(columns, rows, row) {
                self.values.put(*set, &self.name, &[])?;
            }
        }
        Ok(())
    }

    /// Whether everything that a row refers to exists; then others can refer to the row.
    fn admit(&mut self, plan: &TablePlan, rows: &Batch, row: usize) -> Result<bool> {
        for reference in &plan.references {
            let is_it = |(table, columns): &(usize, Vec<usize>)| {
                *table == reference.table && *columns == reference.parent_columns
            };
            let set = self.sets.iter().position(is_it).and_then(|n| u32::try_from(n).ok());
            let Some(set) = set else { continue };
            if self.write_name(&reference.columns, rows, row)
                && self.values.get(set, &self.name)?.is_none()
            {
                return Ok(false);
            }
        }
        let table = &self.tables[plan.table].1;
        let position = |name: &str| {
            let target = table.iter().position(|c| c == name)?;
            plan.columns.iter().position(|c| c.target == target)
        };
        let sets = self.sets_of(plan.table, position);
        self.add(&sets, rows, row)?;
        Ok(true)
    }

    /// Writes what identifies the values of some columns; false if any is NULL.
    fn write_name(&mut self, columns: &[usize], rows: &Batch, row: usize) -> bool {
        self.name.clear();
        columns.iter().all(|n| {
            let value = rows.value(row, *n);
            write_part(value, &mut self.name);
            value != Value::Null
        })
    }
}

/// The rows of a database as its tables hold them, under the names of the streams that were loaded.
/// A table that several streams go into appears once for each of them.
pub struct AsStored {
    source: Box<dyn Source>,
    streams: Vec<Stream>,
    /// The streams that each of the source's appears as.
    appears_as: Vec<Vec<usize>>,
    /// Of every stream, the columns that the archive lacks: what defaults have put there is no
    /// business of its rows.
    defaulted: Vec<Vec<String>>,
    batch: Batch,
    waiting: Vec<usize>,
}

impl AsStored {
    /// The rows of a source that does not restore originals, for a plan.
    pub fn new(source: Box<dyn Source>, plan: &Plan) -> AsStored {
        let (mut streams, mut defaulted): (Vec<Stream>, Vec<Vec<String>>) = Default::default();
        let mut appears_as = vec![Vec::new(); source.streams().len()];
        for (_, planned) in plan.tables() {
            let number = source.streams().iter().position(|s| s.table == planned.table_name);
            let Some(number) = number else { continue };
            appears_as[number].push(streams.len());
            streams.push(exactly(&planned.stream, &source.streams()[number]));
            defaulted.push(planned.defaulted.clone());
        }
        for (number, stream) in source.streams().iter().enumerate() {
            if appears_as[number].is_empty() {
                appears_as[number].push(streams.len());
                let unmapped = format!("{UNMAPPED_PREFIX}{}", stream.name);
                let duplicates = |(_, table): (usize, &TablePlan)| {
                    table.duplicates.as_ref().is_some_and(|d| d.table_name == unmapped)
                };
                let duplicates = plan.tables().any(duplicates);
                streams.push(exactly(if duplicates { &unmapped } else { &stream.name }, stream));
                defaulted.push(Vec::new());
            }
        }
        let (batch, waiting) = (Batch::default(), Vec::new());
        AsStored { source, streams, appears_as, defaulted, batch, waiting }
    }

    async fn next(&mut self, out: &mut Batch) -> Result<bool> {
        if self.waiting.is_empty() {
            if !self.source.next_batch(&mut self.batch).await? {
                return Ok(false);
            }
            self.waiting.clone_from(&self.appears_as[self.batch.stream()]);
        }
        let Some(number) = self.waiting.pop() else { return Ok(true) };
        let width = self.streams[number].columns.len();
        out.start(number, width, self.batch.first_row());
        let defaulted = &self.defaulted[number];
        let sidecar = self.streams[number].column(SIDECAR).filter(|_| !defaulted.is_empty());
        for row in 0..self.batch.rows() {
            for n in 0..width {
                match self.batch.value(row, n) {
                    Value::Text(text) if sidecar == Some(n) => {
                        let rest = without_defaults(&String::from_utf8_lossy(text), defaulted);
                        out.push(rest.as_ref().map_or(Value::Null, |t| Value::Text(t.as_bytes())));
                    }
                    value => out.push(value),
                }
            }
        }
        Ok(true)
    }
}

impl Side for AsStored {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn time_zone(&self) -> Option<&str> {
        None
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.next(batch))
    }
}

/// A stream whose values are compared exactly; only `jsonb` has no spelling of its own.
fn exactly(name: &str, stream: &Stream) -> Stream {
    let mut stream = Stream { name: name.to_owned(), order: Vec::new(), ..stream.clone() };
    for column in &mut stream.columns {
        if column.kind != Kind::Jsonb {
            column.kind = Kind::Text;
        }
        column.time_text = TimeText::None;
    }
    stream
}

/// Corrects what the database alone has: where several streams went into one table, the rows of one
/// are those of the others, too. What is left counts for the first of them.
pub fn share_tables(compared: &mut Compared, plan: &Plan) {
    for (number, planned) in plan.tables() {
        let same = plan.tables().filter(|(_, table)| table.table == planned.table);
        let same: Vec<usize> = same.map(|(n, _)| n).collect();
        if same.len() < 2 || same.first() != Some(&number) {
            continue;
        }
        let matched =
            |n: &usize| compared.streams.get(*n).map_or(0, |s| s.equal_rows + s.changed_rows);
        let of_all: u64 = same.iter().map(matched).sum();
        let rows = matched(&number) + compared.streams.get(number).map_or(0, |s| s.only_b_rows);
        for n in same {
            if let Some(stream) = compared.streams.get_mut(n) {
                stream.only_b_rows = if n == number { rows.saturating_sub(of_all) } else { 0 };
            }
        }
    }
}
