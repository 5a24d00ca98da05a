//! An archive against a database: whether every row is there as an import would have loaded it.
//!
//! The archive's rows go through the plan and the shaper of an import, and meet the rows of the
//! database as they stand in its tables, with what is kept beside them. So a later change of any
//! value is found, also one that an export would hide or spell otherwise.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::catalog::{Catalog, Reference};
use crate::diff::{Compared, Side};
use crate::error::Result;
use crate::identity::show_id;
use crate::import::load_existing_keys;
use crate::load::{Purpose, Target};
use crate::plan::{Plan, StreamPlan, Unmapped, plan};
use crate::policy::OnOrphans;
use crate::policy::PlanOptions;
use crate::sidecar::{SIDECAR, SidecarEntry, UNMAPPED_PREFIX, with_sidecar, without_made};
use crate::source::Source;
use crate::spill::Spill;
use crate::transform::{TargetRows, Transformer};
use chronicle_archive::Sealed;
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};

/// The rows of an archive as an import would load them.
pub struct AsLoaded {
    archive_input: ArchiveInput,
    plan: Arc<Plan>,
    shaper: Transformer,
    streams: Vec<Stream>,
    /// Where an import leaves out rows that refer to nothing: what they can refer to.
    parents: Option<Parents>,
    batch: Batch,
    /// The row of the batch that comes next.
    at: usize,
    shaped: TargetRows,
    left_out: Vec<u64>,
    sealed: Option<Sealed>,
}

impl AsLoaded {
    /// Plans an import of an archive into a target, of which only the tables and ids are looked at.
    ///
    /// # Errors
    /// If the archive does not fit the target, or the target cannot be read.
    pub async fn new(
        archive_input: ArchiveInput,
        target: &mut dyn Target,
        options: PlanOptions,
        cancel: &Cancel,
    ) -> Result<AsLoaded> {
        let catalog = target.catalog();
        let plan =
            Arc::new(plan(&archive_input.header.source, &archive_input.streams, catalog, options)?);
        let parents = match options.orphans {
            Some(OnOrphans::Skip) => Some(Parents::new(catalog)?),
            _ => None,
        };
        let streams = plan.streams.iter().map(|stream| loaded_stream(stream, catalog)).collect();
        let mut shaper = Transformer::new(Arc::clone(&plan), Purpose::Load)?;
        cancel.or(load_existing_keys(&mut shaper, target)).await?;
        Ok(AsLoaded {
            left_out: vec![0; plan.streams.len()],
            archive_input,
            plan,
            shaper,
            streams,
            parents,
            batch: Batch::default(),
            at: 0,
            shaped: TargetRows::default(),
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
            let Some(key) = stream.key.first() else { continue };
            for row in 0..batch.rows() {
                parents.add(table, batch.value(row, *key))?;
            }
        }
        Ok(())
    }

    async fn next(&mut self, out: &mut Batch) -> Result<bool> {
        if !self.shaped.again.is_empty() {
            self.duplicates(out);
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
        self.at = self.shaper.shape(&self.batch, first, &mut self.shaped)?;
        let taken = self.at - first;
        let number = self.batch.stream();
        let stream = &self.plan.streams[number];
        if let Some(unmapped) = stream.unmapped {
            let kept = if unmapped == Unmapped::Sidecar { taken } else { 0 };
            out.start(number, stream.source.columns.len(), self.batch.first_row());
            for row in first..first + kept {
                let width = stream.source.columns.len();
                (0..width).for_each(|n| out.push(self.batch.value(row, n)));
            }
            self.left_out[number] += (taken - kept) as u64;
            return Ok(true);
        }
        let rows = &self.shaped.rows;
        let mut sidecar = self.shaped.sidecar.iter().peekable();
        out.start(number, stream.columns.len() + 1, self.batch.first_row());
        let mut loaded = 0;
        for row in 0..rows.rows() {
            let kept = sidecar.next_if(|kept| kept.row == row);
            if let Some(parents) = &mut self.parents
                && !parents.admit(stream, rows, row)?
            {
                continue;
            }
            loaded += 1;
            (0..stream.columns.len()).for_each(|n| out.push(rows.value(row, n)));
            // what has no key finds nothing again
            let found = stream.key.iter().all(|k| rows.value(row, *k) != Value::Null);
            out.push(match kept.filter(|_| found) {
                Some(kept) => Value::Text(kept.text.as_bytes()),
                None => Value::Null,
            });
        }
        let loaded_too = |kept: &&SidecarEntry| self.shaped.from.binary_search(&kept.row).is_ok();
        let again = self.shaped.again.iter().filter(|kept| !loaded_too(kept)).count();
        self.left_out[number] += (taken - loaded - again) as u64;
        Ok(true)
    }

    /// Hands over the rows of the last batch that are kept unmapped.
    fn duplicates(&mut self, out: &mut Batch) {
        let again = std::mem::take(&mut self.shaped.again);
        let Some(number) = self.plan.duplicates(self.batch.stream()) else { return };
        let width = self.streams[number].columns.len();
        out.start(number, width, self.batch.first_row());
        for kept in again {
            (0..width).for_each(|n| out.push(self.batch.value(kept.row, n)));
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

/// The stream that a plan makes, called as in the archive, with the columns of the target.
fn loaded_stream(plan: &StreamPlan, catalog: &Catalog) -> Stream {
    if plan.unmapped.is_some() {
        // the stream of second copies has the name of the one that they came in
        let name = plan.duplicate_of.map_or(&plan.stream, |_| &plan.table_name);
        return exactly(name, &plan.source);
    }
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

/// The keys that rows can refer to.
struct Parents {
    keys: Spill,
    tables: Vec<String>,
    references: Vec<Vec<Reference>>,
}

impl Parents {
    fn new(catalog: &Catalog) -> Result<Parents> {
        Ok(Parents {
            keys: Spill::new()?,
            tables: catalog.tables.iter().map(|t| t.name.clone()).collect(),
            references: catalog.tables.iter().map(|t| t.references.clone()).collect(),
        })
    }

    fn table(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table == name)
    }

    fn add(&mut self, table: usize, key: Value<'_>) -> Result<()> {
        self.keys.put(space(table), show_id(key).as_bytes(), &[]).map(|_| ())
    }

    /// Whether everything that a row refers to is there; then others can refer to the row.
    fn admit(&mut self, stream: &StreamPlan, rows: &Batch, row: usize) -> Result<bool> {
        for reference in &self.references[stream.table] {
            let column = stream.columns.iter().position(|c| c.target == reference.columns[0]);
            let refers = column.map_or(Value::Null, |column| rows.value(row, column));
            if refers == Value::Null {
                continue;
            }
            if self.keys.get(space(reference.table), show_id(refers).as_bytes())?.is_none() {
                return Ok(false);
            }
        }
        if let [key] = stream.key[..] {
            self.add(stream.table, rows.value(row, key))?;
        }
        Ok(true)
    }
}

fn space(table: usize) -> u32 {
    u32::try_from(table).unwrap_or(u32::MAX)
}

/// The rows of a database as they stand, under the names of the streams that were loaded. A table
/// that several streams go into stands for each of them.
pub struct AsTheyStand {
    source: Box<dyn Source>,
    streams: Vec<Stream>,
    /// The streams that each of the source's stands for.
    stands_for: Vec<Vec<usize>>,
    /// Of every stream, the columns that the archive lacks: what defaults have put there is no
    /// business of its rows.
    defaulted: Vec<Vec<String>>,
    batch: Batch,
    waiting: Vec<usize>,
}

impl AsTheyStand {
    /// The rows of a source that was opened as they stand, for a plan.
    pub fn new(source: Box<dyn Source>, plan: &Plan) -> AsTheyStand {
        let (mut streams, mut defaulted): (Vec<Stream>, Vec<Vec<String>>) = Default::default();
        let mut stands_for = vec![Vec::new(); source.streams().len()];
        for planned in &plan.streams {
            let number = source.streams().iter().position(|s| s.table == planned.table_name);
            let Some(number) = number else { continue };
            stands_for[number].push(streams.len());
            streams.push(exactly(&planned.stream, &source.streams()[number]));
            defaulted.push(planned.defaulted.clone());
        }
        for (number, stream) in source.streams().iter().enumerate() {
            if stands_for[number].is_empty() {
                stands_for[number].push(streams.len());
                let unmapped = format!("{UNMAPPED_PREFIX}{}", stream.name);
                let again = |s: &StreamPlan| s.duplicate_of.is_some() && s.table_name == unmapped;
                let again = plan.streams.iter().any(again);
                streams.push(exactly(if again { &unmapped } else { &stream.name }, stream));
                defaulted.push(Vec::new());
            }
        }
        let (batch, waiting) = (Batch::default(), Vec::new());
        AsTheyStand { source, streams, stands_for, defaulted, batch, waiting }
    }

    async fn next(&mut self, out: &mut Batch) -> Result<bool> {
        if self.waiting.is_empty() {
            if !self.source.next_batch(&mut self.batch).await? {
                return Ok(false);
            }
            self.waiting.clone_from(&self.stands_for[self.batch.stream()]);
        }
        let Some(number) = self.waiting.pop() else { return Ok(true) };
        let width = self.streams[number].columns.len();
        out.start(number, width, self.batch.first_row());
        let defaulted = &self.defaulted[number];
        let beside = self.streams[number].column(SIDECAR).filter(|_| !defaulted.is_empty());
        for row in 0..self.batch.rows() {
            for n in 0..width {
                match self.batch.value(row, n) {
                    Value::Text(text) if beside == Some(n) => {
                        let rest = without_made(&String::from_utf8_lossy(text), defaulted);
                        out.push(rest.as_ref().map_or(Value::Null, |t| Value::Text(t.as_bytes())));
                    }
                    value => out.push(value),
                }
            }
        }
        Ok(true)
    }
}

impl Side for AsTheyStand {
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

/// A stream whose values are compared as they stand; only `jsonb` has no spelling of its own.
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
    for (number, planned) in plan.streams.iter().enumerate() {
        let is_same = |s: &StreamPlan| {
            s.table == planned.table && s.unmapped.is_none() && planned.unmapped.is_none()
        };
        let same: Vec<usize> =
            (0..plan.streams.len()).filter(|n| is_same(&plan.streams[*n])).collect();
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
