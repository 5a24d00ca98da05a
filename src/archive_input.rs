//! An archive on its way in: read, verified and decoded by a thread of its own, ahead of its receiver.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as recycle;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::amend::Amender;
use crate::amendments::Amendments;
use crate::cancel::Cancel;
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};
use crate::part::Selector;
use crate::progress::Progress;
use crate::selection::{Selection, filters_typed};
use chronicle_archive::{ArchiveReader, Header, Limits, Sealed};
use chronicle_archive::{Batch, Stream};

/// The batches that circulate between the reading thread and the receiver, beyond those that the
/// archive prefetches: one is in use, and one may still be referred to.
const BATCHES: usize = 2;

/// An archive that is being read by a thread of its own: decompressed, verified and decoded ahead
/// of the target.
pub struct ArchiveInput {
    /// The header.
    pub header: Header,
    /// The streams.
    pub streams: Vec<Stream>,
    /// The digest of each stream's rows, if it was asked for, once there are no more rows.
    pub row_digests: Vec<(String, String)>,
    /// Which rows are wanted, if not all are.
    selector: Option<Selector>,
    /// What changes them on their way, if anything does.
    amender: Option<Amender>,
    /// The chunk of the rows that were handed over last.
    place: ChunkPlace,
    /// A chunk that the archive must have.
    required: Option<ChunkPlace>,
    chunks: mpsc::Receiver<Chunk>,
    used: recycle::Sender<Batch>,
    reader: Option<JoinHandle<Result<Option<ArchiveEnd>>>>,
}

/// Which chunk of an archive rows are of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Its number among those of which any rows are wanted, counted from 1.
    pub number: u64,
    /// The digest of its checkpoint, which stands for everything up to there: 64 hexadecimal digits.
    pub checkpoint: String,
}

/// The rows of a chunk.
struct Chunk {
    batch: Batch,
    checkpoint: String,
}

struct Head {
    header: Header,
    streams: Vec<Stream>,
}

struct ArchiveEnd {
    sealed: Sealed,
    row_digests: Vec<(String, String)>,
}

impl ArchiveInput {
    /// Starts to read an archive, called `name` in errors; returns when its head is verified.
    ///
    /// # Errors
    /// If the bytes are no archive, or one that this program cannot read.
    pub async fn open(
        name: String,
        input: Box<dyn Read + Send>,
        limits: Limits,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<ArchiveInput> {
        ArchiveInput::open_with(name, input, limits, false, progress, cancel).await
    }

    /// The same; `row_digests` also computes those and compares them with the manifest's.
    ///
    /// # Errors
    /// As [`ArchiveInput::open`].
    pub async fn open_with(
        name: String,
        input: Box<dyn Read + Send>,
        limits: Limits,
        row_digests: bool,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<ArchiveInput> {
        let (to_us, chunks) = mpsc::channel(BATCHES);
        let (used, to_reader) = recycle::channel();
        // the receiver returns one of its own for the first one
        (1..BATCHES).for_each(|_| drop(used.send(Batch::default())));
        let (head_to_us, head) = oneshot::channel();
        let bytes = Arc::clone(&progress.bytes);
        let reader = std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || {
                ArchiveReader::open(input, limits)
                    .map_err(Error::from)
                    .and_then(|mut reader| {
                        if row_digests {
                            reader.digest_rows();
                        }
                        read(reader, head_to_us, &to_us, &to_reader, &bytes)
                    })
                    .map_err(|e| e.about(name))
            })
            .map_err(|e| Error::new(Code::Internal, "cannot start a thread").because(e))?;
        let Ok(Head { header, streams }) = cancel.or(async { Ok(head.await) }).await? else {
            // the thread has ended without a head: its error says why
            return Err(join(reader)
                .err()
                .unwrap_or_else(|| Error::new(Code::Internal, "the archive's head was not read")));
        };
        Ok(ArchiveInput {
            header,
            streams,
            row_digests: Vec::new(),
            selector: None,
            amender: None,
            place: ChunkPlace::default(),
            required: None,
            chunks,
            used,
            reader: Some(reader),
        })
    }

    /// Hands over only the rows that a selector keeps. All are read and verified.
    pub fn select(&mut self, selector: Selector) {
        self.selector = Some(selector);
    }

    /// Requires that the archive has a chunk: if it has another one in its place, it is another archive.
    pub fn require(&mut self, place: ChunkPlace) {
        self.required = Some(place);
    }

    /// The chunk of the rows that were handed over last.
    pub fn place(&self) -> &ChunkPlace {
        &self.place
    }

    /// Changes the rows on their way into a target, and the streams as far as they get columns.
    ///
    /// # Errors
    /// If the amendments are not for these streams, or not for this target.
    pub fn amend(&mut self, amendments: &Amendments, catalog: &Catalog) -> Result<()> {
        self.amender = Amender::new(amendments, &self.streams, catalog)?;
        if let Some(amender) = &self.amender {
            self.streams = amender.streams();
        }
        Ok(())
    }

    /// What people should know of the part that is read, now.
    pub fn notices(&self) -> Vec<Notice> {
        let part = self.header.filters.as_ref().filter(|all| Selection::of_filters(all).is_ok());
        let part = part.map(|filters| {
            let text = format!("the archive is a part of its database: {}", filters_typed(filters));
            Notice::new(NoticeKind::PartOfDatabase, text)
        });
        let selector = self.selector.iter().flat_map(|selector| selector.notices().to_vec());
        part.into_iter().chain(selector).collect()
    }

    /// What people should know of rows that were not handed over, or were changed, once there are no more.
    pub fn left_out(&self) -> Vec<Notice> {
        let left_out = self.selector.iter().flat_map(Selector::left_out);
        left_out.chain(self.amender.iter().flat_map(Amender::notices)).collect()
    }

    /// The next rows in `batch`, or what is known of the archive when there are no more.
    ///
    /// # Errors
    /// A damaged or cut archive.
    pub async fn next(&mut self, batch: &mut Batch) -> Result<Option<Sealed>> {
        loop {
            let Some(next) = self.chunks.recv().await else { return self.end().map(Some) };
            // the thread may have ended: it needs no more
            let _ = self.used.send(std::mem::replace(batch, next.batch));
            if self.keeps_any(batch)? {
                self.hand_over(next.checkpoint)?;
                return Ok(None);
            }
        }
    }

    /// Leaves out of a batch what is not wanted; whether it has any rows.
    fn keeps_any(&mut self, batch: &mut Batch) -> Result<bool> {
        if let Some(selector) = &mut self.selector {
            batch.retain(selector.keep(batch)?);
        }
        if let Some(amender) = &mut self.amender {
            amender.amend(batch)?;
        }
        Ok(batch.rows() > 0)
    }

    /// The next rows, or what is known of the archive when there are no more; for a thread that may
    /// wait.
    ///
    /// # Errors
    /// A damaged or cut archive.
    pub fn next_blocking(&mut self) -> Result<std::result::Result<Batch, Sealed>> {
        while let Some(Chunk { batch: mut next, checkpoint }) = self.chunks.blocking_recv() {
            if self.keeps_any(&mut next)? {
                self.hand_over(checkpoint)?;
                return Ok(Ok(next));
            }
            let _ = self.used.send(next);
        }
        self.end().map(Err)
    }

    fn hand_over(&mut self, checkpoint: String) -> Result<()> {
        self.place = ChunkPlace { number: self.place.number + 1, checkpoint };
        let is_here = |required: &mut ChunkPlace| required.number == self.place.number;
        match self.required.take_if(is_here) {
            Some(required) if required != self.place => Err(other_archive()),
            _ => Ok(()),
        }
    }

    /// Where batches go back to for other rows.
    pub fn used(&self) -> recycle::Sender<Batch> {
        self.used.clone()
    }

    fn end(&mut self) -> Result<Sealed> {
        if self.required.is_some() {
            return Err(other_archive());
        }
        match self.reader.take().map(join).transpose()?.flatten() {
            Some(end) => {
                self.row_digests = end.row_digests;
                Ok(end.sealed)
            }
            None => Err(Error::new(Code::Internal, "the archive has no end")),
        }
    }
}

fn other_archive() -> Error {
    Error::new(Code::DigestMismatch, "these are not the rows that the batch began with")
        .hint("give the archive that it began with: another one has the same id")
}

fn join(reader: JoinHandle<Result<Option<ArchiveEnd>>>) -> Result<Option<ArchiveEnd>> {
    reader.join().map_err(|_| Error::new(Code::Internal, "the reading thread has failed"))?
}

/// The reading thread: sends the head, then batch after batch; what it returns is the end.
fn read(
    mut reader: ArchiveReader<Box<dyn Read + Send>>,
    head: oneshot::Sender<Head>,
    chunks: &mpsc::Sender<Chunk>,
    used: &recycle::Receiver<Batch>,
    bytes: &AtomicU64,
) -> Result<Option<ArchiveEnd>> {
    for (n, stream) in reader.streams().iter().enumerate() {
        if let Some(kind) = reader.unknown_kind(n) {
            return Err(Error::new(
                Code::ArchiveUnsupported,
                format!(
                    "stream {}: its columns are of a kind that this program does not know: {}",
                    stream.name,
                    chronicle_archive::show_text(kind)
                ),
            )
            .hint("install a newer chronicle-dump"));
        }
    }
    let sent =
        head.send(Head { header: reader.header().clone(), streams: reader.streams().to_vec() });
    if sent.is_err() {
        return Ok(None);
    }
    reader.prefetch()?;
    loop {
        // nobody listens any more: the other side has an error of its own
        let Ok(mut batch) = used.recv() else { return Ok(None) };
        if !reader.next_batch(&mut batch)? {
            break;
        }
        bytes.store(reader.consumed(), Ordering::Relaxed);
        let checkpoint = reader.checkpoint().to_owned();
        if chunks.blocking_send(Chunk { batch, checkpoint }).is_err() {
            return Ok(None);
        }
    }
    bytes.store(reader.consumed(), Ordering::Relaxed);
    let row_digests = reader.row_digests();
    Ok(reader.sealed().cloned().map(|sealed| ArchiveEnd { sealed, row_digests }))
}
