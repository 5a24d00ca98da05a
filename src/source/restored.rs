//! A source whose rows are given back as they were where they came from: the originals that the sidecar stores are put
//! back into them.

use futures::future::BoxFuture;

use super::{Orphans, Reading, Source};
use crate::error::Result;
use crate::notice::Notice;
use crate::sidecar::{Recipe, SIDECAR};
use chronicle_archive::{Batch, Column, Origin, Stream};

/// A source with its originals.
pub struct Restored {
    source: Box<dyn Source>,
    recipes: Vec<Option<Recipe>>,
    streams: Vec<Stream>,
    /// How many rows of each stream were handed over.
    rows: Vec<u64>,
    stored: Batch,
    /// Where the key of a stored row is, by stream, if it is given beside the row.
    stored_keys: Option<Vec<Vec<usize>>>,
}

impl Restored {
    /// A source that restores what another one reads: for each of its streams a recipe, if anything is
    /// stored of its rows. With `keyed`, every row also has its key as it is stored, in columns behind its own.
    pub fn wrap(
        source: Box<dyn Source>,
        recipes: Vec<Option<Recipe>>,
        keyed: bool,
    ) -> Box<dyn Source> {
        if recipes.iter().all(Option::is_none) && !keyed {
            return source;
        }
        let mut streams: Vec<Stream> = (source.streams().iter().zip(&recipes))
            .map(|(stored, recipe)| recipe.as_ref().map_or(stored, |r| &r.original).clone())
            .collect();
        let stored_keys = keyed.then(|| {
            let of = source.streams().iter().zip(&mut streams);
            of.map(|(stored, stream)| {
                let columns = stored.key.iter().map(|n| &stored.columns[*n]);
                stream.columns.extend(columns.map(|column| Column {
                    name: format!("{SIDECAR}.{}", column.name),
                    ..column.clone()
                }));
                stored.key.clone()
            })
            .collect()
        });
        let (rows, stored) = (vec![0; streams.len()], Batch::default());
        Box::new(Restored { source, recipes, streams, rows, stored, stored_keys })
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        loop {
            if !self.source.next_batch(&mut self.stored).await? {
                return Ok(false);
            }
            let stream = self.stored.stream();
            let recipe = self.recipes.get_mut(stream).and_then(Option::as_mut);
            let key: &[usize] = self.stored_keys.as_ref().map_or(&[], |keys| &keys[stream]);
            let Some(recipe) = recipe else {
                std::mem::swap(batch, &mut self.stored);
                add_keys(batch, key);
                return Ok(true);
            };
            batch.start(stream, recipe.restorer.width() + key.len(), self.rows[stream] + 1);
            for row in 0..self.stored.rows() {
                let before = batch.cells();
                recipe.restorer.restore(&self.stored, row, batch);
                if batch.cells() > before {
                    key.iter().for_each(|n| batch.push(self.stored.value(row, *n)));
                }
            }
            self.rows[stream] += batch.rows() as u64;
            if batch.rows() > 0 {
                return Ok(true);
            }
        }
    }
}

/// Adds the keys of rows that are as they are stored.
fn add_keys(batch: &mut Batch, key: &[usize]) {
    if key.is_empty() {
        return;
    }
    let width = batch.cells().checked_div(batch.rows()).unwrap_or(0);
    batch.widen(key.len());
    for row in 0..batch.rows() {
        key.iter().enumerate().for_each(|(n, column)| batch.copy(row, *column, width + n));
    }
}

impl Source for Restored {
    fn origin(&self) -> &Origin {
        self.source.origin()
    }

    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn notices(&self) -> &[Notice] {
        self.source.notices()
    }

    fn expected_rows(&self) -> u64 {
        self.source.expected_rows()
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.fill(batch))
    }

    fn begin(&mut self, mut readings: Vec<Reading>) -> BoxFuture<'_, Result<()>> {
        self.rows.fill(0);
        // what a row was may be something else than what is stored of it
        for (reading, _) in readings.iter_mut().zip(&self.recipes).filter(|(_, r)| r.is_some()) {
            (reading.columns, reading.narrowing) = (None, None);
        }
        // nor may a stored row decide about those that refer to it
        let is_stored = |stream: usize| self.recipes.get(stream).is_some_and(Option::is_some);
        for reading in &mut readings {
            if let Some(narrowing) = &mut reading.narrowing {
                narrowing.parent =
                    narrowing.parent.take().filter(|(parent, ..)| !is_stored(*parent));
            }
        }
        self.source.begin(readings)
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>> {
        self.source.close()
    }
}
