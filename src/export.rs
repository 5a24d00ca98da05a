//! Export: from a source to an archive.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as recycle;

use tokio::sync::{mpsc, oneshot};

use crate::cancel::{Cancel, cancelled};
use crate::error::{Code, Error, Result};
use crate::notice::Notice;
use crate::progress::Progress;
use crate::source::{Orphans, Source};
use chronicle_archive::Batch;
use chronicle_archive::error::ErrorKind;
use chronicle_archive::{ArchiveWriter, CHUNK_TARGET, Header, WriterOptions, Written};

/// The options of an export.
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
    /// The selection that it has the rows of, if it has not all.
    pub filters: Option<BTreeMap<String, String>>,
    /// Rows whose parents are missing; they are in the archive.
    pub orphans: Vec<Orphans>,
    /// What people should know of rows that are not in it.
    pub left_out: Vec<Notice>,
}

/// The batches that wait between the source and the archive, in addition to those that wait in the
/// source.
const BATCHES_AHEAD: usize = 1;

/// What the writing thread receives.
enum WriterMsg {
    /// Write these rows.
    Rows(Batch),
    /// There are no more, and nothing went wrong: seal the archive.
    Seal,
}

/// Writes everything that `source` holds into an archive.
///
/// The archive is written by a thread of its own: whatever its output waits for, a stop is seen.
///
/// # Errors
/// Whatever keeps the source from being read or the archive from being written, or a stop.
pub async fn export<W: Write + Send + 'static>(
    source: Box<dyn Source>,
    out: W,
    options: ExportOptions,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(W, Exported)> {
    progress.expected_rows.store(source.expected_rows(), Ordering::Relaxed);
    let header = header(source.as_ref(), &options);
    let (archive_id, filters) = (header.archive_id.clone(), header.filters.clone());
    let streams = source.streams().to_vec();
    let bytes = Arc::clone(&progress.bytes);
    let (messages, to_writer) = mpsc::channel(BATCHES_AHEAD);
    let (used, from_writer) = recycle::channel();
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("archive".into())
        .spawn(move || {
            let writer =
                ArchiveWriter::create_counted(out, &header, streams, options.writer, bytes);
            // nobody waits for the end if the other side has failed first
            let _ = done.send(
                writer.map_err(Error::from).and_then(|writer| write(writer, to_writer, &used)),
            );
        })
        .map_err(|e| Error::new(Code::Internal, "cannot start a thread").because(e))?;
    let sent = send(source, &messages, from_writer, progress, cancel).await;
    drop(messages);
    let (orphans, left_out) = match sent {
        Ok(end) => end,
        // the error of a failed output is returned below
        Err(error) if error.code() == Code::Output => Default::default(),
        Err(error) => return Err(error),
    };
    let ended = cancel.or(async { Ok(ended.await) }).await?;
    let (out, written) = ended.map_err(|_| writer_gone())??;
    Ok((out, Exported { archive_id, written, filters, orphans, left_out }))
}

fn header(source: &dyn Source, options: &ExportOptions) -> Header {
    let mut origin = source.origin().clone();
    origin.label.clone_from(&options.label);
    let mut header = Header::new(origin, source.streams(), options.chunk_target);
    header.filters = source.filters();
    if !options.reproducible {
        header.archive_id = uuid::Uuid::new_v4().to_string();
        let now = chrono::Utc::now();
        header.created_at = Some(now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
    }
    header
}

/// Sends all rows to the writing thread, and `Seal` once the source agreed.
async fn send(
    mut source: Box<dyn Source>,
    messages: &mpsc::Sender<WriterMsg>,
    used: recycle::Receiver<Batch>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Vec<Orphans>, Vec<Notice>)> {
    let mut batch = Batch::default();
    while cancel.or(source.next_batch(&mut batch)).await? {
        progress.add_rows(batch.rows());
        let rows = std::mem::replace(&mut batch, used.try_recv().unwrap_or_default());
        cancel.or(send_message(messages, WriterMsg::Rows(rows))).await?;
    }
    // before the archive is sealed: whatever fails in the source must not leave a complete archive
    let left_out = source.left_out();
    let orphans = cancel.or(source.close()).await?;
    cancel.or(send_message(messages, WriterMsg::Seal)).await?;
    Ok((orphans, left_out))
}

async fn send_message(messages: &mpsc::Sender<WriterMsg>, message: WriterMsg) -> Result<()> {
    messages.send(message).await.map_err(|_| writer_gone())
}

/// A placeholder for the writing thread's own error, which has the reason.
fn writer_gone() -> Error {
    Error::new(Code::Output, "the archive cannot be written any further")
}

/// The writing thread: rows as they come, and the manifest only after `Seal`.
fn write<W: Write + Send + 'static>(
    mut writer: ArchiveWriter<W>,
    mut messages: mpsc::Receiver<WriterMsg>,
    used: &recycle::Sender<Batch>,
) -> Result<(W, Written)> {
    loop {
        match messages.blocking_recv() {
            Some(WriterMsg::Seal) => return Ok(writer.finish()?),
            Some(WriterMsg::Rows(batch)) => {
                if let Err(error) = writer.write(&batch) {
                    return Err(match error.kind() {
                        ErrorKind::Write => writer.abandon().err().unwrap_or(error),
                        _ => error,
                    }
                    .into());
                }
                let _ = used.send(batch);
            }
            // the other side failed: what was written stays without a manifest
            None => return Err(writer.abandon().err().map_or_else(cancelled, Error::from)),
        }
    }
}
