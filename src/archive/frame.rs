//! Compressing chunks into frames on several threads and writing them in order.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::seek::Entry;
use super::{WINDOW_LOG, seek};
use crate::error::{Code, Error, Result};

/// A frame with the chunk it was made of, whose buffer goes back to the collector.
struct Frame {
    chunk: Vec<u8>,
    compressed: Vec<u8>,
}

/// What came of all frames.
struct Ended<W> {
    out: W,
    entries: Vec<Entry>,
}

/// Workers that compress whole chunks, each into one independent frame, and a thread that writes
/// the frames in the order in which their chunks were submitted.
///
/// Chunk n goes to worker n modulo the number of workers and is fetched from there again: that
/// keeps the order without a buffer for frames that are early. Every channel holds one chunk, so
/// memory is bounded by the number of workers.
pub struct Frames<W> {
    workers: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    recycled: Receiver<Vec<u8>>,
    writer: JoinHandle<Result<Ended<W>>>,
    written: Arc<AtomicU64>,
}

impl<W: Write + Send + 'static> Frames<W> {
    /// Starts `threads` workers at a compression level; `written` counts compressed bytes.
    pub fn start(out: W, level: i32, threads: usize, written: Arc<AtomicU64>) -> Result<Frames<W>> {
        let threads = threads.max(1);
        let mut workers = Vec::with_capacity(threads);
        let mut frames = Vec::with_capacity(threads);
        for _ in 0..threads {
            let compressor = compressor(level)?;
            let (to_worker, chunks) = sync_channel::<Vec<u8>>(1);
            let (to_writer, from_worker) = sync_channel::<Result<Frame>>(1);
            spawn("compress", move || compress(compressor, &chunks, &to_writer))?;
            workers.push(to_worker);
            frames.push(from_worker);
        }
        let (recycle, recycled) = sync_channel(2 * threads + 2);
        let count = Arc::clone(&written);
        let writer = spawn("write", move || write(out, &frames, &recycle, &count))?;
        Ok(Frames { workers, next: 0, recycled, writer, written })
    }

    /// Hands a chunk over. An error says only that the writer has stopped: [`Frames::finish`]
    /// tells why.
    pub fn submit(&mut self, chunk: Vec<u8>) -> Result<()> {
        let worker = self.next % self.workers.len();
        self.next += 1;
        match self.workers[worker].send(chunk) {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::new(Code::Output, "the archive cannot be written any further")),
        }
    }

    /// An empty buffer, a used one if there is one.
    pub fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.recycled.try_recv().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Waits until everything is written; appends a seek table if asked for.
    ///
    /// # Errors
    /// The first error of any worker or of the output.
    pub fn finish(self, seek_table: bool) -> Result<(W, u64)> {
        drop(self.workers);
        let ended = self
            .writer
            .join()
            .map_err(|_| Error::new(Code::Internal, "the writing thread has failed"))??;
        let mut out = ended.out;
        if seek_table {
            let table = seek::write(&ended.entries);
            out.write_all(&table).map_err(|e| Error::writing("the archive", e))?;
            self.written.fetch_add(table.len() as u64, Ordering::Relaxed);
        }
        out.flush().map_err(|e| Error::writing("the archive", e))?;
        Ok((out, self.written.load(Ordering::Relaxed)))
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|e| Error::new(Code::Internal, "cannot start a thread").because(e))
}

/// A compressor whose frames say their size, carry a checksum and need at most the window that
/// every reader grants.
fn compressor(level: i32) -> Result<Compressor<'static>> {
    let made = || -> std::io::Result<Compressor<'static>> {
        let mut compressor = Compressor::new(level)?;
        compressor.include_contentsize(true)?;
        compressor.include_checksum(true)?;
        compressor.include_dictid(false)?;
        // up to level 19 zstd chooses a window within the limit, above it does not
        if level > 19 {
            compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        }
        Ok(compressor)
    };
    made().map_err(|e| Error::new(Code::Internal, "cannot set up zstd").because(e))
}

fn compress(
    mut compressor: Compressor<'static>,
    chunks: &Receiver<Vec<u8>>,
    out: &SyncSender<Result<Frame>>,
) {
    let mut scratch = Vec::new();
    for chunk in chunks {
        scratch.clear();
        scratch.reserve(zstd::zstd_safe::compress_bound(chunk.len()));
        let frame = match compressor.compress_to_buffer(&chunk, &mut scratch) {
            // a frame of its own size, so that only one large buffer is kept per worker
            Ok(_) => Ok(Frame { chunk, compressed: scratch.clone() }),
            Err(e) => Err(Error::new(Code::Internal, "zstd failed").because(e)),
        };
        if out.send(frame).is_err() {
            return;
        }
    }
}

fn write<W: Write>(
    mut out: W,
    frames: &[Receiver<Result<Frame>>],
    recycle: &SyncSender<Vec<u8>>,
    written: &AtomicU64,
) -> Result<Ended<W>> {
    let mut entries = Vec::new();
    for worker in (0..frames.len()).cycle() {
        let Ok(frame) = frames[worker].recv() else { break };
        let Frame { chunk, compressed } = frame?;
        out.write_all(&compressed).map_err(|e| Error::writing("the archive", e))?;
        written.fetch_add(compressed.len() as u64, Ordering::Relaxed);
        entries.push(entry(&chunk, &compressed));
        let _ = recycle.try_send(chunk);
    }
    Ok(Ended { out, entries })
}

fn entry(chunk: &[u8], compressed: &[u8]) -> Entry {
    let tail = compressed.len().saturating_sub(4);
    Entry {
        compressed: u32::try_from(compressed.len()).unwrap_or(u32::MAX),
        decompressed: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
        checksum: seek::number(compressed, tail).unwrap_or(0),
    }
}
