//! Sealing chunks with their checkpoints and compressing them into frames on several threads, and
//! writing the frames in order.

use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::control::Checkpoint;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::hex::sha256;
use crate::limits::{WINDOW_LOG, check_line};
use crate::seek_table;
use crate::seek_table::Entry;

/// A chunk while it is collected: its lines, and the parts of its checkpoint other than their digests.
pub struct Chunk {
    /// The lines.
    pub lines: Vec<u8>,
    /// Its number, counted from 0.
    pub number: u64,
    /// The stream; none for the head.
    pub stream: Option<String>,
    /// The record lines.
    pub rows: u64,
    /// The bookmarks, as JSON.
    pub bookmarks: String,
}

/// What chunks hand on to the next one.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// The SHA-256 of the last checkpoint line; none before the first.
    pub prev: Option<String>,
    /// The decompressed bytes so far.
    pub bytes: u64,
}

/// What a worker is asked for.
enum Job {
    /// To seal a chunk and compress it into a frame.
    Seal(Chunk),
    /// To return the link behind the last chunk.
    Link(SyncSender<Link>),
    /// To compress some bytes into a frame, unchanged.
    Compress(Vec<u8>),
}

/// The result of a job, on its way to the output: a frame, or the two of a chunk and its checkpoint.
struct Compressed {
    bytes: Vec<u8>,
    /// The seek table's entry of each frame.
    entries: Vec<Entry>,
}

/// The way of frames from one worker, and the way of their buffers back to it.
struct Lane {
    frames: Receiver<Result<Compressed>>,
    used: Sender<Vec<u8>>,
}

/// The result of all frames.
struct Ended<W> {
    out: W,
    entries: Vec<Entry>,
}

/// Workers that compress every chunk into two independent frames, one of its lines and one of its checkpoint, and a
/// thread that writes the frames in the order in which their chunks were submitted.
///
/// Chunk n goes to worker n modulo the number of workers and is fetched from there again: that
/// keeps the order without a buffer for frames that are early. Each worker hashes its chunk, waits
/// for the link of the chunk before, hands its own link on to the next worker and only then
/// compresses: so the chain of checkpoints costs no one time. There are only so many buffers, and
/// the writer waits for a free one: so memory is bounded by the number of workers.
pub struct Frames<W> {
    workers: Vec<SyncSender<Job>>,
    next: usize,
    buffers: Receiver<Vec<u8>>,
    writer: JoinHandle<Result<Ended<W>>>,
    written: Arc<AtomicU64>,
}

/// The buffers for chunks in addition to those that the workers have: the one that is being filled.
const SPARE_BUFFERS: usize = 1;
/// The zstd level when nothing else is asked for.
pub const DEFAULT_LEVEL: i32 = 3;
/// The window of that level, as its power of two: a quarter of the one that zstd would choose stays
/// in a processor's cache, which saves a seventh of the time for less than a hundredth of the size.
const DEFAULT_WINDOW_LOG: u32 = 19;

/// What an unusually large chunk needed above this is not kept.
const KEPT: usize = 16 << 20;

impl<W: Write + Send + 'static> Frames<W> {
    /// Starts `threads` workers at a compression level; `written` counts compressed bytes.
    pub fn start(out: W, level: i32, threads: usize, written: Arc<AtomicU64>) -> Result<Frames<W>> {
        let threads = threads.max(1);
        let (to_collector, buffers) = channel();
        for _ in 0..threads + SPARE_BUFFERS {
            // we own the other end: it cannot be gone
            let _ = to_collector.send(Vec::new());
        }
        let (links, mut from_before): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| sync_channel(1)).unzip();
        let _ = links[0].send(Link::default());
        let (mut workers, mut lanes) = (Vec::new(), Vec::new());
        for n in (0..threads).rev() {
            let compressor = compressor(level)?;
            let (to_worker, jobs) = sync_channel(1);
            let (to_writer, frames) = sync_channel(1);
            let (used, to_fill) = channel();
            let worker = Worker {
                compressor,
                before: from_before.remove(n),
                after: links[(n + 1) % threads].clone(),
                chunks: to_collector.clone(),
                frames: to_fill,
            };
            spawn("compress", move || worker.run(&jobs, &to_writer))?;
            workers.push(to_worker);
            lanes.push(Lane { frames, used });
        }
        workers.reverse();
        lanes.reverse();
        let count = Arc::clone(&written);
        let writer = spawn("write", move || write(out, &lanes, &count))?;
        Ok(Frames { workers, next: 0, buffers, writer, written })
    }

    /// Hands a chunk over. An error says only that the writer has stopped: [`Frames::finish`] returns the reason.
    pub fn seal(&mut self, chunk: Chunk) -> Result<()> {
        self.submit(Job::Seal(chunk))
    }

    /// The link behind everything submitted so far; no chunk can be sealed after it.
    ///
    /// # Errors
    /// As [`Frames::seal`].
    pub fn last_link(&mut self) -> Result<Link> {
        let (answer, answered) = sync_channel(1);
        self.submit(Job::Link(answer))?;
        answered.recv().map_err(|_| stopped())
    }

    /// Hands bytes over that are to be a frame, unchanged. Errors as those of [`Frames::seal`].
    pub fn compress(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.submit(Job::Compress(bytes))
    }

    fn submit(&mut self, job: Job) -> Result<()> {
        let worker = self.next % self.workers.len();
        // a question makes no frame: the turn does not change
        self.next += usize::from(!matches!(job, Job::Link(_)));
        self.workers[worker].send(job).map_err(|_| stopped())
    }

    /// An empty buffer, as soon as there is one. Errors as those of [`Frames::seal`].
    pub fn buffer(&mut self) -> Result<Vec<u8>> {
        self.buffers.recv().map_err(|_| stopped())
    }

    /// Waits until everything is written; appends a seek table if asked for.
    ///
    /// # Errors
    /// The first error of any worker or of the output.
    pub fn finish(self, seek_table: bool) -> Result<(W, u64)> {
        drop(self.workers);
        let ended = self.writer.join().map_err(|_| {
            ArchiveError::new(ErrorKind::Internal, "the writing thread has failed")
        })??;
        let mut out = ended.out;
        if seek_table {
            let table = seek_table::write(&ended.entries);
            out.write_all(&table).map_err(unwritable)?;
            self.written.fetch_add(table.len() as u64, Ordering::Relaxed);
        }
        out.flush().map_err(unwritable)?;
        Ok((out, self.written.load(Ordering::Relaxed)))
    }
}

/// The error of an output that takes no more bytes.
fn unwritable(cause: std::io::Error) -> ArchiveError {
    ArchiveError::new(ErrorKind::Write, "the archive cannot be written").because(cause)
}

fn stopped() -> ArchiveError {
    ArchiveError::new(ErrorKind::Write, "the archive cannot be written any further")
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|e| ArchiveError::new(ErrorKind::Internal, "cannot start a thread").because(e))
}

/// A compressor whose frames say their size, carry a checksum and need at most the window that
/// every reader grants.
fn compressor(level: i32) -> Result<Compressor<'static>> {
    let create = || -> std::io::Result<Compressor<'static>> {
        let mut compressor = Compressor::new(level)?;
        compressor.include_contentsize(true)?;
        compressor.include_checksum(true)?;
        compressor.include_dictid(false)?;
        // up to level 19 zstd chooses a window within the limit, above it does not
        let window = match level {
            DEFAULT_LEVEL => Some(DEFAULT_WINDOW_LOG),
            20.. => Some(WINDOW_LOG),
            _ => None,
        };
        if let Some(window) = window {
            compressor.set_parameter(CParameter::WindowLog(window))?;
        }
        Ok(compressor)
    };
    create().map_err(|e| ArchiveError::new(ErrorKind::Internal, "cannot set up zstd").because(e))
}

/// A compressing thread with its place in the ring along which links go round.
struct Worker {
    compressor: Compressor<'static>,
    before: Receiver<Link>,
    after: SyncSender<Link>,
    /// Where the buffers of chunks go back to.
    chunks: Sender<Vec<u8>>,
    /// Where the buffers of frames come back from.
    frames: Receiver<Vec<u8>>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>, out: &SyncSender<Result<Compressed>>) {
        for job in jobs {
            let done = match job {
                Job::Compress(bytes) => self.compress(bytes, &[]),
                Job::Link(answer) => {
                    let Ok(link) = self.before.recv() else { return };
                    let _ = answer.send(link);
                    continue;
                }
                Job::Seal(chunk) => match self.seal(chunk) {
                    Ok(Some((lines, checkpoint))) => self.compress(lines, &checkpoint),
                    // the worker before has failed, and has reported why
                    Ok(None) => return,
                    Err(error) => Err(error),
                },
            };
            let failed = done.is_err();
            if out.send(done).is_err() || failed {
                return;
            }
        }
    }

    /// The lines of a chunk and its checkpoint, which in the head is one of the lines; None if the chain has ended.
    fn seal(&mut self, chunk: Chunk) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Chunk { mut lines, number, stream, rows, bookmarks } = chunk;
        let is_head = stream.is_none();
        let digest = sha256(&lines);
        let Ok(Link { prev, bytes }) = self.before.recv() else { return Ok(None) };
        let checkpoint = Checkpoint::new(number, stream, rows, lines.len(), digest, prev);
        let mut checkpoint = checkpoint.to_line(&bookmarks)?.into_bytes();
        check_line(checkpoint.len(), "a checkpoint")?;
        let prev = Some(sha256(&checkpoint));
        let bytes = bytes + (lines.len() + checkpoint.len()) as u64;
        // a receiver that is gone has failed: the writer learns of it in its turn
        let _ = self.after.send(Link { prev, bytes });
        if is_head {
            lines.append(&mut checkpoint);
        }
        Ok(Some((lines, checkpoint)))
    }

    /// A frame of some lines, and one of their checkpoint if there is one.
    fn compress(&mut self, mut lines: Vec<u8>, checkpoint: &[u8]) -> Result<Compressed> {
        let mut compressed = Compressed {
            bytes: self.frames.try_recv().unwrap_or_default(),
            entries: Vec::with_capacity(2),
        };
        compressed.bytes.clear();
        let bound = zstd::zstd_safe::compress_bound;
        compressed.bytes.reserve(bound(lines.len()) + bound(checkpoint.len()));
        self.append(&lines, &mut compressed)?;
        if !checkpoint.is_empty() {
            self.append(checkpoint, &mut compressed)?;
        }
        lines.clear();
        lines.shrink_to(KEPT);
        let _ = self.chunks.send(lines);
        Ok(compressed)
    }

    /// Appends a frame of `content`; there is room for it.
    fn append(&mut self, content: &[u8], compressed: &mut Compressed) -> Result<()> {
        let start = compressed.bytes.len();
        let mut frame = Cursor::new(&mut compressed.bytes);
        frame.set_position(start as u64);
        self.compressor
            .compress_to_buffer(content, &mut frame)
            .map_err(|e| ArchiveError::new(ErrorKind::Internal, "zstd failed").because(e))?;
        compressed.entries.push(entry(&compressed.bytes[start..], content.len()));
        Ok(())
    }
}

/// The writing thread: fetches the frames in order and gives their buffers back.
fn write<W: Write>(mut out: W, lanes: &[Lane], written: &AtomicU64) -> Result<Ended<W>> {
    let mut entries = Vec::new();
    for lane in lanes.iter().cycle() {
        let Ok(frame) = lane.frames.recv() else { break };
        let Compressed { bytes, entries: new } = frame?;
        out.write_all(&bytes).map_err(unwritable)?;
        written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        entries.extend(new);
        let _ = lane.used.send(bytes);
    }
    Ok(Ended { out, entries })
}

fn entry(frame: &[u8], content: usize) -> Entry {
    Entry {
        compressed: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        decompressed: u32::try_from(content).unwrap_or(u32::MAX),
        checksum: seek_table::number(frame, frame.len().saturating_sub(4)).unwrap_or(0),
    }
}
