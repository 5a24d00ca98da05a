//! Export: from a source to an archive.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::archive::{ArchiveWriter, CHUNK_TARGET, Header, WriterOptions, Written};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::record::Batch;
use crate::source::{Orphans, Source};

/// How an archive is made.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// How it is compressed.
    pub writer: WriterOptions,
    /// The most record bytes of a chunk.
    pub chunk_target: usize,
    /// No clock and no random id: the same data give the same bytes.
    pub reproducible: bool,
    /// A name for the header.
    pub label: Option<String>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions {
            writer: WriterOptions::default(),
            chunk_target: CHUNK_TARGET,
            reproducible: false,
            label: None,
        }
    }
}

/// What was exported.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The id in the header.
    pub archive_id: String,
    /// What was written.
    pub written: Written,
    /// Rows whose parents are missing; they are in the archive.
    pub orphans: Vec<Orphans>,
}

/// Writes everything that `source` holds into an archive.
///
/// # Errors
/// Whatever keeps the source from being read or the archive from being written, or a stop.
pub async fn export<W: Write + Send + 'static>(
    mut source: Box<dyn Source>,
    out: W,
    options: ExportOptions,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(W, Exported)> {
    progress.expected_rows.store(source.expected_rows(), Ordering::Relaxed);
    let mut origin = source.origin().clone();
    origin.label = options.label;
    let mut header = Header::new(origin, source.streams(), options.chunk_target);
    if !options.reproducible {
        header.archive_id = uuid::Uuid::new_v4().to_string();
        header.created_at =
            Some(chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
    }
    let streams = source.streams().to_vec();
    let bytes = Arc::clone(&progress.bytes);
    let mut writer = ArchiveWriter::create(out, &header, streams, options.writer, bytes)?;
    let copied = copy(source.as_mut(), &mut writer, progress, cancel).await;
    if let Err(error) = copied {
        return Err(writer_error(writer, error));
    }
    // before the archive is sealed: whatever fails in the source must not leave a whole archive
    let orphans = cancel.or(source.close()).await?;
    let (out, written) = writer.finish()?;
    Ok((out, Exported { archive_id: header.archive_id, written, orphans }))
}

async fn copy<W: Write + Send + 'static>(
    source: &mut dyn Source,
    writer: &mut ArchiveWriter<W>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let mut batch = Batch::default();
    while cancel.or(source.next_batch(&mut batch)).await? {
        writer.write(&batch)?;
        progress.add_rows(batch.rows());
    }
    Ok(())
}

/// If the writing side failed, its own error says why; the archive stays without a manifest.
fn writer_error<W: Write + Send + 'static>(writer: ArchiveWriter<W>, error: Error) -> Error {
    match error.code() {
        crate::error::Code::Output => writer.abandon().err().unwrap_or(error),
        _ => error,
    }
}
