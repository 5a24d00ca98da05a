//! The keys of a database's rows that are in a part, as its tables have them.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::load::PartKeys;
use crate::source::Source;
use crate::spill::Spill;
use crate::value_bytes::push;
use chronicle_archive::Batch;

/// The keys, by stream.
pub struct SelectedKeys {
    streams: Vec<String>,
    spill: Spill,
}

impl SelectedKeys {
    /// Reads the keys of all rows that a source has, which
    /// [gives them as stored](crate::source::SourceOptions::stored_keys).
    ///
    /// # Errors
    /// If the source cannot be read, the temporary disk is full, or a stop.
    pub async fn read(mut source: Box<dyn Source>, cancel: &Cancel) -> Result<SelectedKeys> {
        let streams: Vec<String> = source.streams().iter().map(|s| s.name.clone()).collect();
        let widths: Vec<(usize, usize)> =
            source.streams().iter().map(|s| (s.columns.len(), s.key.len())).collect();
        let mut spill = Spill::new()?;
        let (mut batch, mut key) = (Batch::default(), Vec::new());
        while cancel.or(source.next_batch(&mut batch)).await? {
            let (Ok(space), (width, stored)) =
                (u32::try_from(batch.stream()), widths[batch.stream()])
            else {
                continue;
            };
            for row in 0..batch.rows() {
                key.clear();
                (width - stored..width).for_each(|n| push(&mut key, batch.value(row, n)));
                spill.put(space, &key, &[])?;
            }
        }
        source.close().await?;
        Ok(SelectedKeys { streams, spill })
    }
}

impl PartKeys for SelectedKeys {
    fn next(&self, stream: &str, after: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let space = self.streams.iter().position(|name| name == stream);
        let Some(space) = space.and_then(|space| u32::try_from(space).ok()) else {
            return Ok(None);
        };
        Ok(self.spill.next(space, after)?.map(|(key, _)| key))
    }
}
