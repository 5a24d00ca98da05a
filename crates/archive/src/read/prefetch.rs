//! Reading ahead: one thread reads the chunks of an archive, several decompress and decode them,
//! and the reader gets them in their order.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use crate::batch::Batch;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::limits::CHUNK_TARGET;
use crate::read::chunk::{ChunkDecoder, DecodedChunk};
use crate::read::frames::{Container, Packed, Unpacker};
use crate::write::frames::spawn;

/// The next chunk is read only while those that nobody has taken yet count for fewer bytes than this for each decoder:
/// so as many chunks of the usual size are on their way, or one of any size.
const PREFETCH: usize = CHUNK_TARGET - (512 << 10);
/// What a chunk needed above this is not kept.
const KEPT: usize = 2 * CHUNK_TARGET;
/// The most decoders: each has a chunk and its decoded rows in memory.
pub(crate) const DECODERS: usize = 3;

/// What was read: a chunk, or nothing at a clean end between two chunks, or what went wrong.
type Outcome<T> = Result<Option<T>>;

/// A chunk on its way to a decoder.
struct Job {
    packed: Packed,
    batch: Batch,
    /// The bytes of the file up to its end.
    consumed: u64,
}

/// The threads that read ahead.
///
/// Chunk n goes to decoder n modulo their number and is fetched from there again: that keeps the
/// order, and the first error in the archive is the first one that is seen. What is on its way is
/// bounded by its bytes, so the channels need no bound.
pub(crate) struct Prefetch<R> {
    decoded: Vec<Receiver<Outcome<(DecodedChunk, u64)>>>,
    next: usize,
    used: Sender<Used>,
    reader: JoinHandle<Container<R>>,
    consumed: u64,
}

/// A batch that may be filled again, and the bytes of the chunk that was taken in its place.
struct Used {
    batch: Batch,
    bytes: usize,
}

impl<R: Read + Send + 'static> Prefetch<R> {
    /// Starts to read ahead, with a thread for each of the decoders.
    pub(crate) fn start(
        container: Container<R>,
        decoders: Vec<ChunkDecoder>,
    ) -> Result<Prefetch<R>> {
        let consumed = container.consumed();
        let (used, to_reader) = channel();
        let (mut jobs, mut decoded) = (Vec::new(), Vec::new());
        for decoder in decoders {
            let (to_decoder, from_reader) = channel();
            let (to_us, from_decoder) = channel();
            let unpacker = container.unpacker()?;
            spawn("decode", move || decode(decoder, unpacker, &from_reader, &to_us))?;
            jobs.push(to_decoder);
            decoded.push(from_decoder);
        }
        let reader = spawn("read", move || read(container, &jobs, &to_reader))?;
        Ok(Prefetch { decoded, next: 0, used, reader, consumed })
    }
}

impl<R> Prefetch<R> {
    /// The next chunk, or None at a clean end between two chunks; `batch` is used again.
    ///
    /// # Errors
    /// Whatever kept the chunk from being read.
    pub(crate) fn next(&mut self, batch: Batch) -> Result<Option<DecodedChunk>> {
        let decoder = &self.decoded[self.next % self.decoded.len()];
        self.next += 1;
        let Some((decoded, consumed)) = decoder.recv().map_err(|RecvError| failed())?? else {
            return Ok(None);
        };
        self.consumed = consumed;
        // the thread may have ended: it has read the last chunk
        let _ = self.used.send(Used { batch, bytes: decoded.batch.adopted().len() });
        Ok(Some(decoded))
    }

    /// The bytes of the file up to the end of the chunk that was taken last.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The container behind the last chunk, once it was taken.
    pub(crate) fn into_container(self) -> Result<Container<R>> {
        drop(self.used);
        self.reader.join().map_err(|_| failed())
    }
}

/// The reading thread: gives the container back behind the tail or the first error, or when nobody
/// wants more.
fn read<R: Read>(
    mut container: Container<R>,
    decoders: &[Sender<Outcome<Job>>],
    used: &Receiver<Used>,
) -> Container<R> {
    let enough = PREFETCH * decoders.len().max(2);
    let mut spares = Spares { prefetched: 0, enough, batches: Vec::new() };
    for decoder in decoders.iter().cycle() {
        let Some(mut batch) = spares.next(used) else { break };
        let read = container.next_chunk(batch.adopt(Vec::new()));
        // a control line without records is the manifest: what follows it is not a chunk
        let last = !matches!(&read, Ok(Some(packed)) if !packed.is_control());
        let consumed = container.consumed();
        let job = read.map(|packed| packed.map(|packed| Job { packed, batch, consumed }));
        if let Ok(Some(job)) = &job {
            spares.prefetched += charge(job.packed.size());
        }
        if decoder.send(job).is_err() || last {
            break;
        }
    }
    container
}

/// The bytes that a chunk counts for: even a small one has a batch, whose buffers are as large as the largest chunk
/// that they have held.
fn charge(bytes: usize) -> usize {
    bytes.max(PREFETCH)
}

/// The batches that wait to be filled, and how much is on its way in others.
struct Spares {
    prefetched: usize,
    /// The least of these bytes with which no chunk is read.
    enough: usize,
    // none is let go that will be needed again: what is freed here and there stays with the process
    batches: Vec<Batch>,
}

impl Spares {
    /// A batch to fill; waits while too much is prefetched. None if nobody wants more.
    fn next(&mut self, used: &Receiver<Used>) -> Option<Batch> {
        loop {
            let back = match used.try_recv() {
                Err(TryRecvError::Empty) if self.prefetched < self.enough => {
                    return Some(self.batches.pop().unwrap_or_default());
                }
                Err(TryRecvError::Empty) => used.recv().ok()?,
                other => other.ok()?,
            };
            self.prefetched -= charge(back.bytes);
            // what an unusually large chunk needed is given back
            if back.batch.adopted().len() < KEPT {
                self.batches.push(back.batch);
            }
        }
    }
}

/// A decoding thread.
fn decode(
    mut decoder: ChunkDecoder,
    mut unpacker: Unpacker,
    jobs: &Receiver<Outcome<Job>>,
    out: &Sender<Outcome<(DecodedChunk, u64)>>,
) {
    for read in jobs {
        let decoded = read.and_then(|job| {
            let Some(Job { packed, batch, consumed }) = job else { return Ok(None) };
            let lines = unpacker.unpack(packed)?;
            Ok(Some((decoder.decode(lines, batch), consumed)))
        });
        if out.send(decoded).is_err() {
            return;
        }
    }
}

fn failed() -> ArchiveError {
    ArchiveError::new(ErrorKind::Internal, "a thread that reads the archive has failed")
}
