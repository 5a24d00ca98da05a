//! A source of which only some rows are wanted.

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use super::{Need, Selector, resolve};
use crate::error::Result;
use crate::notice::Notice;
use crate::selection::Selection;
use crate::source::{Orphans, Reading, Source};
use chronicle_archive::{Batch, Origin, Stream};

/// A source with the rows of a selection.
pub struct Selected {
    source: Box<dyn Source>,
    filters: BTreeMap<String, String>,
    selector: Selector,
    notices: Vec<Notice>,
    /// Whether the selector has learnt what it has to know: the rows stay the same, however often they are read.
    is_informed: bool,
    has_begun: bool,
    /// How many rows of each stream were handed over.
    rows: Vec<u64>,
}

impl Selected {
    /// A source of the rows that a selection means.
    ///
    /// # Errors
    /// If it asks for what the source does not have.
    pub fn wrap(source: Box<dyn Source>, selection: &Selection) -> Result<Box<dyn Source>> {
        if selection.is_everything() {
            return Ok(source);
        }
        let time_zone = source.origin().time_zone.as_deref();
        let selector = resolve(selection, source.streams(), time_zone)?;
        let notices = [source.notices(), selector.notices()].concat();
        let rows = vec![0; source.streams().len()];
        let filters = selection.with_zone_of(time_zone).filters();
        let (is_informed, has_begun) = (false, false);
        Ok(Box::new(Selected { source, filters, selector, notices, is_informed, has_begun, rows }))
    }

    /// Lets the selector learn what it has to know, and begins to read what it may keep.
    async fn start(&mut self) -> Result<()> {
        let needs = self.selector.first_pass(|_| true).filter(|_| !self.is_informed);
        if let Some(needs) = needs {
            let readings = needs.into_iter().map(|need| match need {
                Need::Nothing => Reading { skip: true, ..Reading::default() },
                Need::Columns(columns) => Reading { columns: Some(columns), ..Reading::default() },
            });
            self.source.begin(readings.collect()).await?;
            let mut batch = Batch::default();
            while self.source.next_batch(&mut batch).await? {
                self.selector.learn(&batch)?;
            }
        }
        self.is_informed = true;
        let readings = (0..self.rows.len()).map(|n| Reading {
            skip: self.selector.leaves_out(n),
            columns: None,
            narrowing: self.selector.narrowing(n),
            is_ordered: true,
        });
        self.source.begin(readings.collect()).await
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        if !self.has_begun {
            self.start().await?;
            self.has_begun = true;
        }
        while self.source.next_batch(batch).await? {
            let kept = self.selector.keep(batch)?;
            batch.retain(kept);
            if batch.rows() > 0 {
                let stream = batch.stream();
                batch.number_from(self.rows[stream] + 1);
                self.rows[stream] += batch.rows() as u64;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Source for Selected {
    fn origin(&self) -> &Origin {
        self.source.origin()
    }

    fn streams(&self) -> &[Stream] {
        self.source.streams()
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Nobody knows before they were read.
    fn expected_rows(&self) -> u64 {
        0
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.fill(batch))
    }

    fn filters(&self) -> Option<BTreeMap<String, String>> {
        Some(self.filters.clone())
    }

    fn begin(&mut self, _readings: Vec<Reading>) -> BoxFuture<'_, Result<()>> {
        // what is read of it is the selection's alone
        self.has_begun = false;
        self.rows.fill(0);
        self.selector.begin_again();
        Box::pin(async { Ok(()) })
    }

    fn left_out(&self) -> Vec<Notice> {
        [self.source.left_out(), self.selector.left_out()].concat()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Orphans>>> {
        let Selected { source, selector, .. } = *self;
        Box::pin(async move { source.close().await.map(|_| selector.orphans()) })
    }
}
