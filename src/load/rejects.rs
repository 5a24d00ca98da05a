//! The rows that an import leaves out: an archive of their own, as they were, each with the reasons.

use std::fs::File;

use serde_json::json;

use crate::error::{Code, Error, Result};
use chronicle_archive::{ArchiveWriter, Header, WriterOptions, Written};
use chronicle_archive::{Batch, Stream};

/// The filter in the header of an archive of rejected rows: the id of the archive that they come from.
pub const REJECTED_FROM: &str = "rejected_from";

/// Why a row is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectReason {
    /// Its number in the batch of the archive.
    pub row: usize,
    /// Its key.
    pub key: String,
    /// The column, if it is one.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The stream of the row that it refers to, if it is left out only because that one is.
    pub follows: Option<String>,
}

/// The archive that rejected rows go into.
pub struct Rejects {
    writer: ArchiveWriter<File>,
    rows: u64,
}

impl Rejects {
    /// Starts an archive for rows of these streams, which came in the archive of `header`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn start(file: File, header: &Header, streams: &[Stream]) -> Result<Rejects> {
        let streams: Vec<Stream> = (streams.iter())
            // the rows between them are missing
            .map(|s| Stream { order: Vec::new(), ..s.clone() })
            .collect();
        let mut own = Header::new(header.source.clone(), &streams, chronicle_archive::CHUNK_TARGET);
        own.archive_id = uuid::Uuid::new_v4().to_string();
        let now = chrono::Utc::now();
        own.created_at = Some(now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
        own.filters = Some([(REJECTED_FROM.to_owned(), header.archive_id.clone())].into());
        let options = WriterOptions { threads: 1, ..WriterOptions::default() };
        let writer = ArchiveWriter::create(file, &own, streams, options)?;
        Ok(Rejects { writer, rows: 0 })
    }

    /// Writes a row of a batch with the reasons why it was rejected.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, batch: &Batch, row: usize, why: &[&RejectReason]) -> Result<()> {
        let reasons: Vec<_> =
            (why.iter()).map(|r| json!({"column": r.column, "reason": r.reason})).collect();
        let members = format!(
            "\"rejected\":{},\"row\":{}",
            serde_json::to_string(&reasons).map_err(|e| Error::new(
                Code::Internal,
                "cannot write a reason"
            )
            .because(e))?,
            batch.first_row() + row as u64
        );
        self.rows += 1;
        Ok(self.writer.write_row(batch, row, &members)?)
    }

    /// The rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Seals the archive.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(self) -> Result<(File, Written)> {
        Ok(self.writer.finish()?)
    }
}
